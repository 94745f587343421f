"""The refine stage: CGD's refined answer, the teacher's own, or the rows as they are."""

from __future__ import annotations

import pytest
from faulty_server import FaultyServer, answer_to

from cft_trl.data.prompts import Prompting
from cft_trl.data.records import COLUMNS, make_record
from cft_trl.data.stage_files import RowFile, stage_path
from cft_trl.data.teacher_prompts import refine_messages
from cft_trl.errors import CFTError
from cft_trl.generation.client import Teacher
from cft_trl.grading.benchmarks import MATH_SYSTEM
from cft_trl.synthesis.refine import RefineSettings, run_refine

pytest.importorskip("openai")


def make_rows() -> list[dict]:
    given = {"query": "What is 6 x 7?", "response": "43", "reference_answer": "forty-two"}
    return [
        make_record(id="a", **given, critique="It is 42.\n\nConclusion: wrong [END]", teacher="critic", meta={"n": 1}),
        make_record(id="b", **given),
        make_record(id="c", **given, critique="LENGTHY.\n\nConclusion: wrong [END]"),
        make_record(id="d", **given, critique="FORBIDDEN.\n\nConclusion: wrong [END]"),
    ]


def rows_of(folder, kind="rows") -> list[dict]:
    return list(RowFile(stage_path(folder, "refine", kind=kind)))


def test_without_a_wish_rows_pass_as_they_are(tmp_path):
    report = run_refine(make_rows(), RefineSettings(), [], tmp_path)
    assert rows_of(tmp_path) == make_rows()
    assert (report.read, report.written, report.failures.total()) == (4, 4, 0)
    assert not (tmp_path / "journal").exists()


def test_the_refined_answer_comes_from_query_response_and_critique_alone(tmp_path):
    rows = make_rows()
    with FaultyServer() as server:
        report = run_refine(rows, RefineSettings("critique", ("openai:m",)), [Teacher("m", server.url)], tmp_path)
    asked = dict(zip(("a", "c", "d"), [refine_messages(rows[at])[0]["content"] for at in (0, 2, 3)], strict=True))
    assert sorted(server.order) == sorted(asked.values())
    assert not any("forty-two" in text for text in server.order)
    done, failed = rows_of(tmp_path), rows_of(tmp_path, "failures")
    assert [(row["id"], row["refinement"], row["teacher"]) for row in done] == [
        ("a", answer_to(asked["a"], None), "critic"),
        ("c", answer_to(asked["c"], None), "m"),
    ]
    assert [(line["id"], line["reason"]) for line in failed] == [("b", "no critique"), ("d", "content filter")]
    assert (report.read, report.written, report.failures.total()) == (4, 2, 2)
    assert tuple(done[0]) == COLUMNS
    told = {"refinement_teacher": "m", "refinement_finish_reason": "stop", "refinement_completion_tokens": 30}
    assert done[0]["meta"] == {"n": 1, **told}
    assert done[1]["meta"]["refinement_finish_reason"] == "length"
    assert done[0]["critique"] == rows[0]["critique"]
    assert Prompting("cgd").unusable(done[0]) is None


@pytest.mark.parametrize(("answers", "query"), [("critique", "Critique:\nIt is 42."), ("teacher", "What is 6 x 7?")])
def test_it_is_greedy_and_asked_for_as_published(tmp_path, monkeypatch, answers, query):
    import json

    bodies = []
    with FaultyServer() as server:
        reply = server._reply

        async def watched(head, body):
            bodies.append(json.loads(body))
            return await reply(head, body)

        monkeypatch.setattr(server, "_reply", watched)
        run_refine(make_rows()[:1], RefineSettings(answers), [Teacher("m", server.url)], tmp_path)
    [body] = bodies
    assert (body["temperature"], body["top_p"], body["max_tokens"], "seed" in body) == (0, 1, 2048, False)
    assert query in body["messages"][-1]["content"]
    assert [turn["content"] for turn in body["messages"][:-1]] == ([MATH_SYSTEM] if answers == "teacher" else [])


def test_the_teachers_own_answer_needs_no_critique(tmp_path):
    with FaultyServer() as server:
        report = run_refine(make_rows()[1:2], RefineSettings("teacher"), [Teacher("m", server.url)], tmp_path)
    [row] = rows_of(tmp_path)
    assert (report.written, row["refinement"], row["teacher"]) == (1, answer_to("What is 6 x 7?", None), "m")
    assert Prompting("sft", "refinement").unusable(row) is None


def test_one_teacher_only(tmp_path):
    with pytest.raises(CFTError, match=r"refine.teachers=\['a', 'b'\]"):
        RefineSettings("critique", ("a", "b"))
    with pytest.raises(CFTError, match="give one teacher"):
        run_refine(make_rows(), RefineSettings("critique"), [Teacher("a"), Teacher("b")], tmp_path)
    with pytest.raises(CFTError, match="did you mean 'critique'"):
        RefineSettings("critic")
