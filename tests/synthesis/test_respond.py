"""The respond stage: many responses of one query, graded where there is a reference answer."""

from __future__ import annotations

import hashlib

import pytest
from faulty_server import FaultyServer

from cft_trl.data.records import COLUMNS, make_record
from cft_trl.data.stage_files import RowFile, stage_path
from cft_trl.errors import CFTError
from cft_trl.generation.client import Teacher
from cft_trl.generation.types import Generation
from cft_trl.grading import grade as grading
from cft_trl.grading.benchmarks import MATH_SYSTEM
from cft_trl.synthesis.critique import CritiqueSettings, run_critique
from cft_trl.synthesis.reference_teacher import ReferenceTeacher
from cft_trl.synthesis.respond import RespondSettings, run_respond

ROWS = [
    make_record(
        id="a",
        query="What is 6 x 7?",
        response="43",
        verdict="wrong",
        critique="No.",
        refinement="42",
        reference_answer="42",
        response_source="corpus",
        meta={"steps": None, "error_kind": "arithmetic", "first_error_step": 1, "level": 2},
    ),
    make_record(id="b", query="Name a prime.", response="9"),
]


class Solver:
    """A model that answers from a list, in turn by sample; "" is an answer that holds nothing."""

    def __init__(self, model: str, answers: list[str]) -> None:
        self.model, self.answers, self.asked = model, answers, []
        self.identity = {"kind": "a test's own", "name": model}

    async def ask(self, requests, kept, *, counts=None, in_order=False):
        for request in requests:
            if request.key not in kept:
                self.asked.append(request)
                text = self.answers[request.sample % len(self.answers)]
                kept.append(request.key, Generation(text, "length" if "cut" in text else "stop", 9, 5))
            yield request, kept.get(request.key)


def rows_of(folder, kind="rows") -> list[dict]:
    return list(RowFile(stage_path(folder, "respond", kind=kind)))


def test_the_corpus_own_responses_pass_byte_for_byte_and_empty_ones_fail(tmp_path):
    empty = {**ROWS[1], "id": "c", "response": " "}
    report = run_respond([*ROWS, empty], RespondSettings(), [], tmp_path)
    assert rows_of(tmp_path) == ROWS
    assert (report.read, report.written, report.failures) == (3, 2, {"empty response": 1})
    assert not (tmp_path / "journal").exists()


def test_each_query_carries_the_responses_of_every_model_and_sample_graded_strictly(tmp_path):
    solvers = [
        Solver("org/small", [r"So it is $\boxed{42}$.", r"<think>Hm.</think>I get $\boxed{42.04}$.", "<think>cut"]),
        Solver("big", ["It is $\\boxed{\\frac{84}{2}}$.", "", "cut in the m"]),
    ]
    settings = RespondSettings("models", samples=3, seed=7)
    report = run_respond(ROWS, settings, solvers, tmp_path)
    done, failed = rows_of(tmp_path), rows_of(tmp_path, "failures")
    assert [(row["id"], row["response"], row["verdict"]) for row in done] == [
        ("a.org/small.0", r"So it is $\boxed{42}$.", "right"),
        ("a.org/small.1", r"I get $\boxed{42.04}$.", "wrong"),  # the paper's grader takes it
        ("a.big.0", "It is $\\boxed{\\frac{84}{2}}$.", "right"),
        ("a.big.2", "cut in the m", "wrong"),
        ("b.org/small.0", r"So it is $\boxed{42}$.", None),
        ("b.org/small.1", r"I get $\boxed{42.04}$.", None),
        ("b.big.0", "It is $\\boxed{\\frac{84}{2}}$.", None),
        ("b.big.2", "cut in the m", None),
    ]
    assert [(line["id"], line["row"], line["reason"]) for line in failed] == [
        ("a.org/small.2", "a", "empty answer"),
        ("a.big.1", "a", "empty answer"),
        ("b.org/small.2", "b", "empty answer"),
        ("b.big.1", "b", "empty answer"),
    ]
    assert (report.read, report.written, report.failures) == (2, 8, {"empty answer": 4})
    row = done[3]
    assert tuple(row) == COLUMNS
    assert (row["response_source"], row["critique"], row["refinement"], row["teacher"]) == ("big", None, None, None)
    # What spoke of the replaced response is gone, what speaks of the problem is kept.
    known = {"steps": None, "level": 2}
    assert row["meta"] == {**known, "sample": 2, "finish_reason": "length", "completion_tokens": 5}
    [system, user] = solvers[0].asked[0].messages
    assert (system["content"], user["content"]) == (MATH_SYSTEM, "What is 6 x 7?")
    sampling = {"temperature": 0.6, "top_p": 0.95, "max_tokens": 2048, "seed": 7}
    assert dict(solvers[0].asked[0].sampling) == sampling
    assert [request.sample for request in solvers[0].asked] == [0, 1, 2, 0, 1, 2]


def test_no_system_turn_where_none_is_wanted_and_no_grading_without_reference_answers(tmp_path, monkeypatch):
    monkeypatch.setattr(grading, "grade_many", None)
    solver = Solver("m", ["2"])
    run_respond(ROWS[1:], RespondSettings("models", system=""), [solver], tmp_path)
    assert [turn["role"] for turn in solver.asked[0].messages] == ["user"]


def test_a_second_run_asks_nothing_and_writes_the_same(tmp_path):
    digests = set()
    for _ in range(2):
        solver = Solver("m", [r"$\boxed{42}$"])
        run_respond(ROWS, RespondSettings("models"), [solver], tmp_path)
        files = [stage_path(tmp_path, "respond", kind=kind) for kind in ("rows", "failures", "report")]
        digests.add(hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest())
    assert (len(digests), solver.asked) == (1, [])
    assert [row["id"] for row in rows_of(tmp_path)] == ["a.m.0", "b.m.0"]


def test_responses_go_on_into_the_critique_stage_with_their_label(tmp_path):
    pytest.importorskip("openai")
    run_respond(ROWS[:1], RespondSettings("models", samples=2), [Solver("m", [r"$\boxed{42}$", "43"])], tmp_path)
    with FaultyServer() as server:
        teacher = Teacher("m", server.url)
        run_critique(RowFile(stage_path(tmp_path, "respond")), CritiqueSettings(), [teacher], tmp_path)
    done = list(RowFile(stage_path(tmp_path, "critique")))
    assert [(row["id"], row["meta"]["label"]) for row in done] == [("a.m.0", "right"), ("a.m.1", "wrong")]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"answers": "model"}, "respond.answers='model': unknown .did you mean 'models'"),
        ({"answers": "models", "samples": 0}, "respond.samples=0"),
        ({"models": [1]}, "respond.models"),
    ],
)
def test_a_wrong_setting_is_told_by_its_key(fields, told):
    with pytest.raises(CFTError, match=told):
        RespondSettings(**fields)


def test_models_that_are_missing_or_write_no_answers_are_told(tmp_path):
    with pytest.raises(CFTError, match="respond: no teacher given"):
        run_respond(ROWS, RespondSettings("models"), [], tmp_path)
    with pytest.raises(CFTError, match="respond: the teacher 'reference' writes critiques only"):
        run_respond(ROWS, RespondSettings("models"), [ReferenceTeacher()], tmp_path)
    assert not (tmp_path / "stages").exists()
