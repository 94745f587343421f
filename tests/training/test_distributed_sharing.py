"""Shared prefixes in two CPU processes give the losses of one: DDP, ZeRO-3, FSDP2 (see test_distributed.py)."""

import json

import pytest
from test_distributed import (
    BACKENDS,
    GRADIENT,
    LOSS,
    ONE,
    SHARING,
    WEIGHT,
    launch,
    needs_deepspeed,
    tiny,  # noqa: F401 - a fixture
    two,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def critiques(tmp_path_factory):
    """A file with three critiques of each of 40 responses."""
    from cft_trl.sources.arithmetic import arithmetic_records

    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    openings = ("", "Let us see. ", "I checked every step. ")
    with path.open("w") as file:
        for record in arithmetic_records(40, seed=5, levels=(1,)):
            for i, text in enumerate(openings):
                row = {**record, "id": f"{record['id']}.{i}", "critique": text + record["critique"]}
                file.write(json.dumps(row) + "\n")
    return path


def share(critiques) -> dict:
    return {"dataset_name": str(critiques), "dataset_limit": None, "eval_rows": 0, "eval_strategy": "no",
            "share_prefixes": True, "max_length": 768}  # fmt: skip


@pytest.fixture(scope="module")
def alone(tmp_path_factory, tiny, critiques):  # noqa: F811
    folder = tmp_path_factory.mktemp("alone")
    run = launch(ONE, folder, tiny, per_device_train_batch_size=4, **share(critiques))
    assert " -> " in run.output
    assert run.steps.keys() == {1, 2, 3, 4}
    return run


@pytest.mark.parametrize("backend", ["ddp", "zero3", "fsdp2"])
def test_two_processes_share_like_one(backend, tiny, critiques, alone, tmp_path):  # noqa: F811
    if backend == "zero3":
        needs_deepspeed()
    name, rows, micro_batches = BACKENDS[backend]
    run = launch(
        two(name), tmp_path, tiny, per_device_train_batch_size=rows, gradient_accumulation_steps=micro_batches,
        **share(critiques),
    )  # fmt: skip
    for process in run.processes:
        assert {**process, "world": 2, **SHARING[backend]} == process
    for step, entry in alone.steps.items():
        assert run.steps[step]["critique_loss"] == pytest.approx(entry["critique_loss"], rel=LOSS), step
        assert run.steps[step]["verdict_count"] == entry["verdict_count"]
        assert run.steps[step]["grad_norm"] == pytest.approx(entry["grad_norm"], rel=GRADIENT), step
    weights = alone.weights()
    for name, weight in run.weights().items():
        assert (weight - weights[name]).abs().max() <= WEIGHT, name
