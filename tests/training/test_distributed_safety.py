"""Two processes under ZeRO-3 and FSDP2: a loss that is no number, and a damaged newest checkpoint.

As a script, this file is that of test_distributed.py, with a loss spoilt in one process:

    accelerate launch … tests/training/test_distributed_safety.py RANK STEP FOLDER [--fsdp2-on-cpu] recipes/cft.py …

FOLDER/spoilt.json then holds what that process was part of when its loss became NaN.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from test_distributed import (  # fmt: skip
    BACKENDS,
    SHARING,
    Run,
    finish,
    launch,
    launch_words,
    make_tiny,
    needs_deepspeed,
    output_of,
    start,
    two,
    witness,
)

SCRIPT = "tests/training/test_distributed_safety.py"
SHARDED = ("zero3", "fsdp2")


def spoil(rank: int, step: int, folder: Path) -> None:
    """Has one process's loss of one step be NaN, in its forward pass."""
    from test_distributed import _evidence

    from cft_trl.training.trainer import CFTTrainer

    original = CFTTrainer.compute_loss

    def compute_loss(self, model, *args, **kwargs):
        loss = original(self, model, *args, **kwargs)
        here = self.args.process_index == rank and self.state.global_step == step - 1
        if not (here and self.model.training):
            return loss
        (folder / "spoilt.json").write_text(json.dumps(_evidence(self)))
        return loss * float("nan")

    CFTTrainer.compute_loss = compute_loss


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_tiny(tmp_path_factory.mktemp("tiny"))


def settings(backend: str) -> tuple[list, dict]:
    launcher, rows, micro_batches = BACKENDS[backend]
    if backend.startswith("zero"):
        needs_deepspeed()
    return two(launcher), {"per_device_train_batch_size": rows, "gradient_accumulation_steps": micro_batches}


def ended(words: list, folder: Path) -> str:
    """Runs what has to end with exit code 2 in both processes -> the one line that says why."""
    assert finish(start(words, folder), 300) != 0
    output = output_of(folder)
    assert "exitcode  : 2" in output, output[-5000:]
    assert "Traceback" not in output.partition("torch/distributed/elastic")[0]  # the launcher has one of its own
    [line] = [line for line in output.splitlines() if line.startswith("cft: ")]
    assert not list((folder / "run").glob("*.safetensors"))
    return line


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("backend", SHARDED)
def test_a_loss_that_is_nan_in_one_process_ends_all_at_its_step(tiny, tmp_path, backend, rank):
    launcher, batches = settings(backend)
    words = launch_words(launcher, tmp_path, tiny, batches)
    at = words.index("tests/training/test_distributed.py")
    words[at : at + 1] = [SCRIPT, rank, 4]
    line = ended(words, tmp_path)
    found = json.loads((tmp_path / "evidence" / "spoilt.json").read_text())
    assert {name: found[name] for name in SHARING[backend]} == SHARING[backend]
    assert (found["world"], found["steps"]) == (2, 3)
    assert (
        backend != "fsdp2" or found["dtensors"] > found["tensors"] / 2
    )  # behind the forward pass the root's are whole
    assert "step 4: the loss is n" in line  # "nan", or "not finite in another process"
    assert f"no model was written; the last good checkpoint is {tmp_path / 'run' / 'checkpoint-2'}." in line
    assert not (tmp_path / "run" / "checkpoint-4").exists()
    assert "step 4/" not in output_of(tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("backend", SHARDED)
def test_a_learning_rate_that_is_far_too_high_ends_all(tiny, tmp_path, backend):
    """Nothing is injected: the first step makes weights of 1e30, whose products are no numbers."""
    launcher, batches = settings(backend)
    line = ended(launch_words(launcher, tmp_path, tiny, {**batches, "learning_rate": 1e30, "save_steps": 1}), tmp_path)
    assert "learning_rate (it is 1e+30)" in line
    assert "step 2: the loss is nan" in line
    assert "there is no good checkpoint." in line


def harm_of(backend: str, checkpoint: Path) -> Path:
    """A file that only one kind of run has: the second process's part under ZeRO-3, all of it under FSDP2."""
    pattern = "global_step4/*rank_1_mp_rank_00_optim_states.pt" if backend == "zero3" else "optimizer.bin"
    [path] = checkpoint.glob(pattern)
    return path


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("backend", SHARDED)
def test_a_damaged_newest_checkpoint_is_passed_over_by_all(tiny, tmp_path, backend):
    launcher, batches = settings(backend)
    whole = launch(launcher, tmp_path / "whole", tiny, **batches)
    shutil.copytree(whole.folder, tmp_path / "run")
    for path in [*(tmp_path / "run").glob("*.safetensors"), tmp_path / "run" / "metrics.json"]:
        path.unlink()
    path = harm_of(backend, tmp_path / "run" / "checkpoint-4")
    with open(path, "r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 1]))
    resumed = launch(launcher, tmp_path, tiny, **batches)
    assert [process["world"] for process in resumed.processes] == [2, 2]
    assert {name: resumed.processes[1][name] for name in SHARING[backend]} == SHARING[backend]
    name = path.relative_to(tmp_path / "run" / "checkpoint-4")
    told = f"{tmp_path / 'run' / 'checkpoint-4'} is damaged (bytes of {name} have changed); it is passed over"
    assert resumed.output.count(told) == 1
    assert f"going on from {tmp_path / 'run' / 'checkpoint-2'}" in resumed.output
    assert_same_steps(resumed, whole)
    assert harm_of(backend, tmp_path / "run" / "checkpoint-4").read_bytes() != b""  # written anew, and whole
    from cft_trl.training.checkpoints import newest_whole

    assert newest_whole(tmp_path / "run") == (tmp_path / "run" / "checkpoint-4", [])


def assert_same_steps(resumed: Run, whole: Run) -> None:
    for step in (3, 4):
        for name in ("loss", "grad_norm", "critique_loss", "learning_rate"):
            assert resumed.steps[step][name] == whole.steps[step][name], (step, name)
    assert all((weight == whole.weights()[name]).all() for name, weight in resumed.weights().items())


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    rank, step, *rest = sys.argv[1:]
    spoil(int(rank), int(step), Path(rest[0]))
    witness(*rest)
