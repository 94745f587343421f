"""Rows that a stage hands on as they stand: the same files as from rows that are read and written anew."""

from __future__ import annotations

import json

import pytest

from cft_trl.data.records import make_record
from cft_trl.data.stage_files import RowFile, StageWriter, stage_path
from cft_trl.sources.arithmetic import arithmetic_records
from cft_trl.sources.decontaminate import DecontaminateSettings, run_decontaminate
from cft_trl.synthesis.filters import FilterSettings, run_filter
from cft_trl.synthesis.refine import RefineSettings, run_refine
from cft_trl.synthesis.respond import RespondSettings, run_respond

STAGES = {
    "respond": lambda rows, folder: run_respond(rows, RespondSettings(), [], folder),
    "refine": lambda rows, folder: run_refine(rows, RefineSettings(), [], folder),
    "filter": lambda rows, folder: run_filter(rows, FilterSettings(right_ratio=0.3, seed=2), folder),
    "decontaminate": lambda rows, folder: run_decontaminate(rows, DecontaminateSettings("none"), folder),
}


@pytest.fixture
def rows(tmp_path):
    """Rows in a stage's file, with what JSON can hold and an empty response."""
    odd = {"note": "caf\u00e9 \u2028 \U0001f600 \x7f", "big": 10**30, "small": 1e-300, "deep": [None, {"a": True}]}
    made = [{**row, "meta": {**row["meta"], **odd}} for row in arithmetic_records(60)]
    with StageWriter(tmp_path / "before", "source") as out:
        for row in made:
            out.row(row)
    return RowFile(stage_path(tmp_path / "before", "source"))


@pytest.mark.parametrize("stage", STAGES)
def test_the_files_are_those_of_rows_that_are_read_and_written(tmp_path, rows, stage):
    folders = [tmp_path / name for name in ("lines", "rows")]
    for folder, given in zip(folders, (rows, list(rows)), strict=True):
        STAGES[stage](given, folder)
    for kind in ("rows", "failures", "report"):
        first, second = (stage_path(folder, stage, kind=kind).read_bytes() for folder in folders)
        assert first == second
    assert sum(1 for _ in RowFile(stage_path(folders[0], stage))) > 10


def test_rows_of_another_layout_are_written_as_records(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"query": "6 x 7?", "response": "43"}), encoding="utf-8")  # and no line's end
    run_respond(RowFile(path), RespondSettings(), [], tmp_path)
    [row] = RowFile(stage_path(tmp_path, "respond"))
    assert row == make_record(query="6 x 7?", response="43")
