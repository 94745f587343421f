"""The teacher without a model: quick, the same every time, and in nobody's way."""

from __future__ import annotations

import asyncio

import pytest

from cft_trl.data.records import make_record
from cft_trl.data.stage_files import RowFile, stage_path
from cft_trl.generation.journal import Journal
from cft_trl.generation.journaled import Journaled
from cft_trl.generation.types import Counts, Request
from cft_trl.sources.arithmetic import arithmetic_records
from cft_trl.synthesis.critique import CritiqueSettings, run_critique
from cft_trl.synthesis.reference_teacher import ReferenceTeacher


def critiques(rows, folder, **fields) -> list[dict]:
    run_critique(rows, CritiqueSettings(**fields), [ReferenceTeacher()], folder)
    return list(RowFile(stage_path(folder, "critique")))


def test_it_writes_the_sources_own_critiques_and_other_wordings_for_further_samples(tmp_path):
    rows = list(arithmetic_records(60, seed=5))
    done = critiques(rows, tmp_path, samples=2)
    assert [row["critique"] for row in done[::2]] == [row["critique"] for row in rows]
    assert (
        sum(first["critique"] != second["critique"] for first, second in zip(done[::2], done[1::2], strict=True)) > 30
    )
    assert all(a["verdict"] == b["verdict"] == a["meta"]["label"] for a, b in zip(done[::2], done[1::2], strict=True))
    assert {row["teacher"] for row in done} == {"reference"}


def test_rows_that_differ_in_their_reference_only_have_critiques_of_their_own(tmp_path):
    given = {"query": "What is 6 x 7?", "response": "6 x 7 = 42. The answer is 42."}
    rows = [make_record(id=name, **given, reference_answer=answer) for name, answer in (("a", "42"), ("b", "41"))]
    assert [row["verdict"] for row in critiques(rows, tmp_path)] == ["right", "wrong"]
    # The same folder with another reference: what the journal holds is not taken for it.
    changed = [{**row, "reference_answer": "41"} for row in rows]
    assert [row["verdict"] for row in critiques(changed, tmp_path)] == ["wrong", "wrong"]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"reference_answer": "a set"},
        {"reference_answer": "42", "response": "I do not know."},
        {"meta": {"steps": ["First, multiply."]}},
        {"meta": {"steps": 3}},
    ],
)
def test_a_row_that_cannot_be_checked_is_a_failure_with_its_reason(tmp_path, fields):
    row = make_record(**{"id": "a", "query": "What is 6 x 7?", "response": "It is 6 x 7 = 42.", **fields})
    report = run_critique([row], CritiqueSettings(), [ReferenceTeacher()], tmp_path)
    assert report.failures == {"nothing to check": 1}


def test_steps_of_another_kind_do_not_hide_the_reference_answer(tmp_path):
    given = {"query": "What is 6 x 7?", "response": "The answer is 43.", "reference_answer": "42"}
    [row] = critiques([make_record(id="a", **given, meta={"steps": ["First, multiply."]})], tmp_path)
    assert row["verdict"] == "wrong"


def test_others_have_their_turn_while_it_works(tmp_path):
    rows = list(arithmetic_records(800, seed=1))
    turns = 0

    async def other():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def work():
        task, counts = asyncio.create_task(other()), Counts()
        with Journal(tmp_path) as journal:
            requests = (Request("reference", [{"role": "user", "content": row["id"]}], tag=row) for row in rows)
            async for _ in Journaled(ReferenceTeacher(), journal).ask(requests, counts=counts):
                pass
        task.cancel()
        return counts

    assert asyncio.run(work()).answered == 800
    assert turns >= 2


def test_real_solutions_never_stop_it(tmp_path, shared_data):
    import gzip
    import json

    with gzip.open(shared_data / "train" / "gsm8k.jsonl.gz", "rt") as lines:
        raw = [json.loads(line) for _, line in zip(range(400), lines, strict=False)]
    rows = [
        make_record(
            id=str(at), query=row["question"], response=row["answer"], reference_answer=row["answer"].split("####")[1]
        )
        for at, row in enumerate(raw)
    ]
    report = run_critique(rows, CritiqueSettings(), [ReferenceTeacher()], tmp_path)
    verdicts = [row["verdict"] for row in RowFile(stage_path(tmp_path, "critique"))]
    assert report.written + report.failures.total() == 400
    assert verdicts.count("right") > 0.9 * len(verdicts) > 300
