"""The shared small inputs that once were read wrongly, each with its right value; pairs for the grader are in
test_grading.py, servers' replies in test_replies.py."""

from __future__ import annotations

import json

import pytest

from cft_trl.cli import main
from cft_trl.data.teacher_prompts import clean_critique, refused_critique
from cft_trl.data.verdict import parse_verdict
from cft_trl.evaluation.first_error import first_error_step

# A bare "True" may be the answer of the question; and a text that says right and then wrong says neither.
STATED_AS_NONE = 3


@pytest.fixture
def cases(shared_data):
    def read(name: str) -> list[dict]:
        path = shared_data.parent / "cases" / name
        if not path.is_file():
            pytest.skip("no shared cases here")
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    return read


def test_verdicts_are_right_or_none(cases):
    rows = [row for row in cases("grading.jsonl") if row["kind"].startswith("verdict/")]
    found = [parse_verdict(row["text"]) for row in rows]
    assert [row for row, verdict in zip(rows, found, strict=True) if verdict not in (row["right"], None)] == []
    none = [row["text"] for row, verdict in zip(rows, found, strict=True) if verdict is None != row["right"]]
    assert len(none) <= STATED_AS_NONE, none


def test_qualified_verdicts(cases):
    assert [row for row in cases("verdict-limits.jsonl") if parse_verdict(row["critique"]) not in row["expected"]] == []


def test_first_wrong_steps(cases):
    rows = [row for row in cases("grading.jsonl") if row["kind"].startswith("first_error/")]
    found = [first_error_step(row["text"], row["gold"]) for row in rows]
    assert [row["text"] for row, step in zip(rows, found, strict=True) if step != row["right"]] == []


def test_a_critique_that_concludes_twice(cases):
    for row in cases("critique-concludes-twice.jsonl"):
        text = clean_critique(row["answer"])
        assert refused_critique(text) or (text == row["answer"] and parse_verdict(text) == row["expected_verdict"])


def test_teachers_markup_is_taken_off(cases):
    for row in cases("teacher-markup-left-in.jsonl"):
        assert clean_critique(row["answer"]) == row["expected"], row["teacher"]


def test_a_reference_that_is_no_number_is_none(cases, tmp_path, capsys):
    rows = cases("nan-reference.jsonl")
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"name: nan\nsource: {{path: {tmp_path}/rows.jsonl}}\nfilter: {{agree: off}}\n"
        "decontaminate: {benchmarks: none}\n"
    )
    assert main(["build", str(recipe), "--output", str(tmp_path / "out"), "--teacher", "reference"]) == 3
    lines = (tmp_path / "out" / "failures.jsonl").read_text().splitlines()
    refused = {row["id"]: row["reason"] for row in map(json.loads, lines)}
    assert refused == dict.fromkeys((row["id"] for row in rows if row["reference_answer"] != "14"), "nothing to check")
