"""Experiments on rows from files: pairs of right and wrong responses, what is held out, what is refused."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from cft_trl.data.verdict import parse_verdict
from cft_trl.errors import CFTError
from cft_trl.experiments import harness
from cft_trl.experiments.files import file_rows, why_absent
from cft_trl.experiments.mixtures import arm_parts
from cft_trl.experiments.settings import Arm, Experiment, Size, World


@pytest.fixture
def place(tmp_path, monkeypatch):
    """40 rows, a quarter right without a critique; two known from a benchmark, one neither right nor wrong."""
    rows = [
        {
            "id": f"row-{at}",
            "query": f"What is {at} + 1?",
            "response": f"{at + 1}" if at % 4 == 0 else f"{at + 2}",
            "label": "correct" if at % 4 == 0 else "flawed" if at == 39 else "incorrect",
            "critique": None if at % 4 == 0 else f"It is {at + 1}.",
            "query_in_eval": ["gsm8k"] if at == 1 else [],
            "query_near_eval": ["gsm8k"] if at == 2 else [],
        }
        for at in range(40)
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    problems = [{"id": f"p-{at}", "query": f"{at}?", "gold": str(at)} for at in range(9)]
    monkeypatch.setattr("cft_trl.experiments.files.load_benchmark", lambda name: problems)
    return World(source="files", critiques=str(path), critic_tests=str(tmp_path))


def test_a_pool_has_a_right_and_a_wrong_response_of_each_pair_and_nothing_held_out(place):
    made = file_rows(place, Size(validation=4, tests=4), (0, 1))
    assert list(made) == ["validation", "test", "pool-0", "pool-1"]
    validation, pool = list(made["validation"]()), list(made["pool-0"]())
    assert Counter(row["verdict"] for row in validation) == {"right": 2, "wrong": 2, None: 4}
    assert Counter((row["meta"]["question"], row["verdict"]) for row in pool) == {
        (at, verdict): 1 for at in range(8) for verdict in ("right", "wrong")
    }
    queries = {row["query"] for row in pool}
    assert not queries & {row["query"] for row in validation}
    assert not queries & {"What is 1 + 1?", "What is 2 + 1?", "What is 39 + 1?"}
    assert [row["query"] for row in made["pool-1"]()] != [row["query"] for row in pool]
    [[part]] = arm_parts(Arm(wrong=0.5), pool)
    assert Counter(parse_verdict(row["critique"]) for row in part.rows) == {"right": 4, "wrong": 4}
    [[part]] = arm_parts(Arm(train="sft", target="verified"), pool)
    assert len(part.rows) == 4


def test_too_few_rows_to_hold_out_are_told(place):
    with pytest.raises(CFTError, match="the critiques have 10 right responses, too few to hold 6 out"):
        file_rows(place, Size(validation=12, tests=4), (0,))


def test_what_is_absent_is_told_in_one_line(place, monkeypatch):
    monkeypatch.delenv("CFT_BENCHMARKS_DIR", raising=False)
    assert why_absent(place) == "CFT_BENCHMARKS_DIR does not say where the benchmarks are"
    monkeypatch.setenv("CFT_BENCHMARKS_DIR", "somewhere")
    assert why_absent(place) is None
    gone = World(source="files", critiques="none.jsonl", critic_tests=place.critic_tests)
    assert "critiques 'none.jsonl' is not here; give --critiques" in str(why_absent(gone))
    assert why_absent(World()) is None


@pytest.mark.parametrize(
    ("arm", "told"),
    [
        (Arm(train="cgd"), "refinements"),
        (Arm(train="sft", target="distilled"), "refinements"),
        (Arm(responses=2), "several responses"),
        (Arm(critiques=2), "several critiques"),
        (Arm(noise=0.1, noise_kind="missed error"), "critiques with a missed error"),
    ],
)
def test_arms_that_files_cannot_feed_are_refused(place, arm, told):
    with pytest.raises(CFTError, match=f"experiment.arms.x: world.source files has no {told}"):
        Experiment("mine", "Why?", "base", {"base": Arm(train="nothing"), "x": arm}, world=place)


def test_separators_within_a_text_do_not_cut_its_row(tmp_path, monkeypatch):
    """JSON lets U+2028, U+2029 and U+0085 stand in a text as they are; `str.splitlines` cuts there."""
    text = "It is 2.\u2028Not 3.\u2029See\u0085above."
    monkeypatch.setattr(harness.world, "trial_rows", lambda *given: iter([{"critique": text}] * 2))
    monkeypatch.setattr(harness.world, "pool", lambda *given: iter([]))
    experiment = Experiment("mine", "Why?", "base", {"base": Arm(train="nothing"), "x": Arm()})
    harness._make_data(tmp_path, experiment, experiment.cpu)
    place = harness._place(tmp_path, experiment, experiment.cpu, print)
    assert place.tests == place.validation == [{"critique": text}] * 2
    assert place.pools(0) == []
