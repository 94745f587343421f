"""Two CPU processes train each row once, of unequal files too, and count each once (see test_distributed.py)."""

from __future__ import annotations

import importlib
import json

import pytest
from conftest import REPOSITORY
from test_distributed import (
    ONE,
    Run,
    assert_same,
    cut_to,
    finish,
    launch,
    launch_words,
    needs_deepspeed,
    output_of,
    start,
    tiny,  # noqa: F401 - a fixture
    two,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def unequal(tmp_path_factory):
    """29 rows in files of 19, 3 and 7: of two processes that took whole files one would have 22."""
    from cft_trl.sources.arithmetic import arithmetic_records

    folder = tmp_path_factory.mktemp("unequal")
    rows = list(arithmetic_records(29, seed=5, levels=(1,)))
    for name, part in (("a", rows[:19]), ("b", rows[19:22]), ("c", rows[22:])):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, part)))
    return {"dataset_name": str(folder / "*.jsonl"), "dataset_limit": None, "eval_rows": 7, "eval_strategy": "no"}


def counted(run: Run) -> tuple[int, int, int]:
    """Rows prepared for training and evaluation, and verdicts evaluated."""
    told = json.loads((run.folder / "preparation.json").read_text())
    evaluated = json.loads((run.folder / "metrics.json").read_text())
    return told["train"]["rows"], told["eval"]["rows"], int(evaluated["eval_verdict_count"])


def test_a_stream_of_unequal_files_and_a_checkpoint_in_its_second_pass(tiny, unequal, tmp_path):  # noqa: F811
    settings = {**unequal, "dataset_streaming": True, "max_steps": 8, "save_steps": 6}
    one = launch(ONE, tmp_path / "one", tiny, **settings, per_device_train_batch_size=4)
    batch = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 2}
    both = launch(two("cpu_ddp"), tmp_path / "two", tiny, **settings, **batch)
    assert_same(both, one)
    assert counted(both) == counted(one) == (22, 7, 7)
    assert sum(entry["verdict_count"] for entry in both.steps.values()) == 8 * 4
    cut_to(both.folder, tmp_path / "again" / "run", 6)
    again = launch(two("cpu_ddp"), tmp_path / "again", tiny, **settings, **batch)
    assert all((weight == both.weights()[name]).all() for name, weight in again.weights().items())
    assert again.steps[8]["loss"] == both.steps[8]["loss"]
    assert counted(again) == counted(both)


def test_the_rows_that_fill_the_last_batch_are_not_trained(tiny, unequal, tmp_path):  # noqa: F811
    """22 rows, 8 a step, two epochs: the last step of each has 6, of which the second process has 2, then none."""
    settings = {**unequal, "max_steps": -1, "num_train_epochs": 2, "save_strategy": "no"}
    one = launch(ONE, tmp_path / "one", tiny, **settings, per_device_train_batch_size=8)
    batch = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
    both = launch(two("cpu_ddp"), tmp_path / "two", tiny, **settings, **batch)
    assert [entry["verdict_count"] for entry in both.steps.values()] == [8, 8, 6, 8, 8, 6]
    assert_same(both, one)


def test_a_checkpoint_of_zero_alone_is_one_line(tiny, tmp_path):  # noqa: F811
    needs_deepspeed()
    settings = {"per_device_train_batch_size": 2, "eval_rows": 0, "max_steps": 2}
    launch(two("cpu_zero2"), tmp_path, tiny, **settings)
    again = launch_words(ONE, tmp_path, tiny, {**settings, "per_device_train_batch_size": 4, "max_steps": 4})
    assert finish(start(again, tmp_path)) != 0
    [line] = [line for line in output_of(tmp_path).splitlines() if line.startswith("cft:")]
    assert "checkpoint-2' was written by ZeRO-2 in 2 processes, here is one process alone; launch it as it was" in line


@pytest.mark.parametrize("cell", ["ddp/lora/untied/packed", "zero3/full/untied/streaming"])
def test_a_part_of_the_matrix(cell, tmp_path, monkeypatch):
    if cell.startswith("zero"):
        needs_deepspeed()
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    matrix = importlib.import_module("distributed_matrix")
    told = matrix.Cell(cell, tmp_path).measure()
    assert (told["trained"], told["saved"], told["again"]) == ("exact", "exact", "bit-equal"), told
    assert [told[way].partition(":")[0] for way in ("to one", "from one")] == (
        ["exact", "exact"] if cell.startswith("ddp") else ["refused", "refused"]
    )


def test_a_mixture_of_two_processes_is_that_of_one(tiny, tmp_path):  # noqa: F811
    """28 rows, 8 a step, the last step of the epoch with 4: each part's loss is summed over both processes."""
    parts = [
        {"path": "arithmetic", "limit": 21, "eval_rows": 7, "weight": 0.75},
        {"path": "arithmetic", "limit": 20, "seed": 1, "eval_rows": 3, "weight": 0.25, "objective": "sft",
         "sft_target": "refinement"},
    ]  # fmt: skip
    settings = {"dataset_name": None, "dataset_limit": None, "eval_rows": 0, "datasets": parts, "max_steps": 6,
                "save_steps": 2}  # fmt: skip
    one = launch(ONE, tmp_path / "one", tiny, **settings, per_device_train_batch_size=8)
    batch = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
    both = launch(two("cpu_ddp"), tmp_path / "two", tiny, **settings, **batch)
    assert_same(both, one)
    names = ("loss_arithmetic", "loss_arithmetic-sft", "target_loss")
    for step in one.steps:
        for name in names:
            assert both.steps[step].get(name) == pytest.approx(one.steps[step].get(name), rel=1e-6)
    assert sum("loss_arithmetic-sft" in entry for entry in one.steps.values()) > 3
    told = [json.loads((run.folder / "metrics.json").read_text()) for run in (one, both)]
    for name in (f"eval_{name}" for name in names):
        assert told[0][name] == pytest.approx(told[1][name], rel=1e-6)
    assert [one["eval_verdict_count"] for one in told] == [7, 7]
    assert (one.folder / "preparation.json").read_text() == (both.folder / "preparation.json").read_text()
    cut_to(both.folder, tmp_path / "again" / "run", 2)
    again = launch(two("cpu_ddp"), tmp_path / "again", tiny, **settings, **batch)
    assert all((weight == both.weights()[name]).all() for name, weight in again.weights().items())
    assert again.steps[6]["loss"] == both.steps[6]["loss"]
