"""`cft train` says nothing false: numbers that are none, damage, a full disk, a held folder are told in one line."""

from __future__ import annotations

import hashlib
import json
import resource
from contextlib import nullcontext

import pytest
import torch
from conftest import make_model
from safetensors.torch import load_file

from cft_trl import CFTError
from cft_trl.cli import main
from cft_trl.data.folders import locked, why_not_written
from cft_trl.training import finite
from cft_trl.training.finite import FiniteWatch
from cft_trl.training.places import check_output, suggested


@pytest.fixture(scope="module")
def model_folder(tokenizers, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny-model")
    make_model(tokenizers("chatml")).save_pretrained(folder)
    tokenizers("chatml").save_pretrained(folder)
    return folder


@pytest.fixture
def flags(model_folder, tmp_path):
    return [
        "train", "--dataset_name", "arithmetic", "--dataset_limit", "24", "--model_name_or_path", str(model_folder),
        "--output_dir", str(tmp_path / "run"), "--use_cpu", "true", "--bf16", "false", "--report_to", "none",
        "--max_length", "512", "--gradient_checkpointing", "false", "--learning_rate", "1e-3", "--warmup_steps", "0",
        "--per_device_train_batch_size", "2", "--save_steps", "2", "--max_steps", "4", "--logging_steps", "1",
    ]  # fmt: skip


def run(capsys, *words):
    """-> (exit code, standard output, the lines on standard error that are ours)."""
    capsys.readouterr()
    code = main([str(word) for word in words])
    out, err = capsys.readouterr()
    return code, out, [line for line in err.splitlines() if line.startswith("cft:")]


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.safetensors")}


# ---- numbers that are none ----


@pytest.fixture
def spoil(monkeypatch):
    """`spoil(step)` makes a weight NaN before the given step is computed."""

    def give(step, value=float("nan")):
        from cft_trl.training.trainer import CFTTrainer

        original = CFTTrainer.training_step

        def training_step(self, model, *args, **kwargs):
            if self.state.global_step == step - 1:
                next(p for p in model.parameters() if p.ndim > 1).data.fill_(value)
            return original(self, model, *args, **kwargs)

        monkeypatch.setattr(CFTTrainer, "training_step", training_step)

    return give


@pytest.mark.parametrize("more", [
    [],
    ["--gradient_accumulation_steps", "3", "--per_device_train_batch_size", "1"],
    ["--packing", "true"],
    ["--share_prefixes", "true"],
    ["--max_grad_norm", "0"],
], ids=["padded", "accumulated", "packed", "shared", "no clipping"])  # fmt: skip
def test_a_loss_that_is_nan_ends_the_run_at_its_step(capsys, flags, tmp_path, spoil, more):
    spoil(4)
    code, out, [line] = run(capsys, *flags, *more, "--max_steps", "6")
    assert code == 2
    assert "step 4: the loss is nan; training ended there and no model was written" in line
    assert f"the last good checkpoint is {tmp_path / 'run' / 'checkpoint-2'}." in line
    assert "mean loss" not in out
    assert "step 4/" not in out
    folder = tmp_path / "run"
    assert not list(folder.glob("*.safetensors"))
    assert not (folder / "checkpoint-4").exists()


def test_a_learning_rate_that_is_far_too_high(capsys, flags, tmp_path):
    """Nothing is injected: weights of 1e30 after the first step, whose products are no numbers."""
    code, _, [line] = run(capsys, *flags, "--learning_rate", "1e30", "--save_steps", "1")
    assert code == 2
    assert "learning_rate (it is 1e+30)" in line
    assert (tmp_path / "run" / "checkpoint-1").is_dir()
    assert "step 2: the loss is nan" in line
    assert "there is no good checkpoint." in line  # its weights are finite and gave this loss
    assert not (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.parametrize("more", [["--max_steps", "1", "--save_strategy", "no"], ["--save_steps", "1"]])
def test_a_weight_that_a_step_spoils_is_not_saved(capsys, flags, tmp_path, monkeypatch, more):
    """Neither as the final model nor as a checkpoint, though no loss has shown it yet."""
    original = torch.optim.AdamW.step

    def step(self, *args, **kwargs):
        result = original(self, *args, **kwargs)
        self.param_groups[0]["params"][0].data.fill_(float("inf"))
        return result

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    code, _, [line] = run(capsys, *flags, *more)
    assert (code, "step 1: a weight is inf" in line, "there is no good checkpoint" in line) == (2, True, True)
    assert not list((tmp_path / "run").rglob("*.safetensors"))


class Stub:
    """A trainer as far as `FiniteWatch` looks at one."""

    def __init__(self, folder, fp16=False):
        class Accelerator:
            num_processes, is_main_process = 1, True

        class Args:
            output_dir, learning_rate = str(folder), 1e-3

        class State:
            global_step = 6

        Args.fp16 = fp16
        self.accelerator, self.args, self.state = Accelerator, Args, State


def test_a_gradient_norm_that_is_infinite_ends_the_run(tmp_path):
    watch = FiniteWatch()
    watch.add(torch.tensor(1.0))
    with pytest.raises(CFTError, match="step 7: the gradient norm is inf"):
        watch.check_step(Stub(tmp_path), torch.tensor(float("inf")))


def test_one_micro_batch_among_many(tmp_path):
    watch = FiniteWatch()
    for loss in (1.0, float("-inf"), 2.0):
        watch.add(torch.tensor(loss))
    with pytest.raises(CFTError, match="step 7: the loss is -inf"):
        watch.check_step(Stub(tmp_path), 1.0)
    watch.add(torch.tensor(1.0))
    watch.check_step(Stub(tmp_path), None)


def test_a_gradient_scaler_may_skip_steps_but_not_all(tmp_path):
    watch, trainer = FiniteWatch(), Stub(tmp_path, fp16=True)
    for _ in range(finite.SKIPPED_STEPS - 1):
        watch.check_step(trainer, float("inf"))
    watch.check_step(trainer, 1.0)
    for _ in range(finite.SKIPPED_STEPS - 1):
        watch.check_step(trainer, float("nan"))
    with pytest.raises(CFTError, match="for 40 steps in a row the gradient norm is nan"):
        watch.check_step(trainer, float("nan"))
    watch.add(torch.tensor(float("nan")))
    with pytest.raises(CFTError, match="the loss is nan"):  # no scale mends that
        watch.check_step(trainer, float("nan"))


# ---- checkpoints ----


def test_a_damaged_newest_checkpoint_is_passed_over(capsys, flags, tmp_path):
    folder = tmp_path / "run"
    assert run(capsys, *flags)[0] == 0
    whole = digests(folder)
    with open(folder / "checkpoint-4" / "optimizer.pt", "r+b") as file:
        file.seek(5000)
        file.write(b"????????")
    code, out, errors = run(capsys, *flags)
    assert (code, errors) == (0, [])
    assert f"{folder / 'checkpoint-4'} is damaged (bytes of optimizer.pt have changed); it is passed over" in out
    assert f"going on from {folder / 'checkpoint-2'}" in out
    assert digests(folder) == whole


def test_a_checkpoint_that_is_named_must_be_whole(capsys, flags, tmp_path):
    assert run(capsys, *flags)[0] == 0
    (tmp_path / "run" / "checkpoint-4" / "scheduler.pt").write_bytes(b"")
    code, _, [line] = run(capsys, *flags, "--resume_from_checkpoint", tmp_path / "run" / "checkpoint-4")
    assert code == 2
    assert "is not a complete checkpoint (scheduler.pt has 0 bytes of " in line


@pytest.mark.parametrize("steps", [
    ["--max_steps", "3"], ["--max_steps", "14"], ["--max_steps", "-1", "--num_train_epochs", "0.25"],
], ids=["mid-epoch", "second epoch", "part of an epoch"])  # fmt: skip
def test_a_finished_run_typed_again_trains_nothing(capsys, flags, tmp_path, steps):
    assert run(capsys, *flags, *steps, "--save_steps", "1")[0] == 0
    folder = tmp_path / "run"
    state, whole = json.loads((folder / "trainer_state.json").read_text()), digests(folder)
    for _ in range(2):
        code, out, errors = run(capsys, *flags, *steps, "--save_steps", "1")
        assert (code, errors) == (0, [])
        assert "nothing is left to train" in out
        assert "mean loss" not in out
        again = json.loads((folder / "trainer_state.json").read_text())
        assert again["global_step"] == state["global_step"] == state["max_steps"]
        assert digests(folder) == whole
    assert not [e for e in again["log_history"][len(state["log_history"]) - 1 :] if e.get("train_loss") == 0]


# ---- the folder ----


def test_a_folder_that_another_run_holds_is_left_alone(capsys, flags, tmp_path):
    (tmp_path / "run").mkdir()
    with locked(tmp_path / "run", "run", "go", "_lock"):
        code, _, [line] = run(capsys, *flags)
    assert code == 2
    assert "another run is running in this folder; wait for it to end or give another --output_dir" in line
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["_lock"]
    assert run(capsys, *flags)[0] == 0


@pytest.mark.parametrize("there", [True, False])
def test_a_refused_run_leaves_no_folder_that_was_not_there(there, capsys, flags, tmp_path):
    if there:
        (tmp_path / "run").mkdir()
    code, _, told = run(capsys, *flags, "--dataset_name", tmp_path / "missing.jsonl")
    assert (code, len(told)) == (2, 1)
    assert (tmp_path / "run").exists() == there


@pytest.fixture
def small_disk(monkeypatch):
    """A limit on the size of files stands for the disk: what is saved after the first checkpoint does not fit."""
    from cft_trl.training import trainer

    before, original = resource.getrlimit(resource.RLIMIT_FSIZE), trainer.seal

    def seal(folder):
        original(folder)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))

    monkeypatch.setattr(trainer, "seal", seal)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("more", [[], ["--save_total_limit", "1"]])
def test_a_full_disk_while_saving_is_one_line_and_the_earlier_checkpoint_stays(
    capsys, flags, tmp_path, small_disk, more
):
    code, _, [line] = run(capsys, *flags, *more)
    assert code == 2
    assert f"{tmp_path / 'run' / 'checkpoint-4'}: cannot be written (" in line
    assert [path.name for path in (tmp_path / "run").glob("checkpoint-*")] == ["checkpoint-2"]
    assert load_file(tmp_path / "run" / "checkpoint-2" / "model.safetensors")


def test_a_full_disk_at_the_end_is_one_line(capsys, flags, tmp_path, small_disk):
    code, _, [line] = run(capsys, *flags, "--max_steps", "2")
    assert code == 2
    assert f"{tmp_path / 'run'}: cannot be written (" in line
    assert not list((tmp_path / "run").glob("*.safetensors"))  # not half of one either
    assert [path.name for path in (tmp_path / "run").glob("checkpoint-*")] == ["checkpoint-2"]


@pytest.mark.parametrize("words", [
    "PytorchStreamWriter failed writing file data/3: file write failed",
    "[enforce fail at inline_container.cc:664] . unexpected pos 128 vs 22",
])  # fmt: skip
def test_pytorchs_words_for_a_full_disk(words):
    """Its archives do not know the reason."""
    assert why_not_written(RuntimeError(words)) == "the disk takes no more"
    assert why_not_written(RuntimeError("size mismatch")) is None


def test_a_dataset_or_the_base_model_is_never_written_over(capsys, flags, tmp_path, rows):
    from datasets import Dataset

    built = tmp_path / "built"
    (built / "data").mkdir(parents=True)
    Dataset.from_list(rows).to_parquet(built / "data" / "train-00000-of-00001.parquet")
    (built / "README.md").write_text("the dataset's card")
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "rows.jsonl").write_text(json.dumps(rows[0]) + "\n")
    for more, said in (
        (["--dataset_name", built, "--output_dir", built], f"e.g. {suggested(built)}"),
        (["--dataset_name", built, "--output_dir", built / "run"], "lies in the dataset's folder"),
        (["--output_dir", built], "holds a dataset, whose card"),
        (["--dataset_name", tmp_path / "own" / "rows.jsonl", "--output_dir", tmp_path / "own"], "a folder of its own"),
        (["--output_dir", flags[flags.index("--model_name_or_path") + 1]], "the model that the run begins with"),
    ):
        code, _, [line] = run(capsys, *flags, *more)
        assert (code, said in line) == (2, True), line
    assert (built / "README.md").read_text() == "the dataset's card"
    assert sorted(path.name for path in built.iterdir()) == ["README.md", "data"]
    assert run(capsys, *flags, "--dataset_name", built, "--output_dir", tmp_path / "run")[0] == 0


@pytest.mark.parametrize(("pattern", "output", "refused"), [
    ("own/*.jsonl", "own", True),
    ("own/*/rows.jsonl", "own/a", True),
    ("own/**/*.jsonl", "own", True),
    ("own/**/*.jsonl", "own/run", True),  # its files would be read with the rows the next time
    ("own/*.jsonl", "own/run", False),
    ("own/**/*.jsonl", "run", False),
])  # fmt: skip
def test_a_run_does_not_write_among_the_files_of_a_glob(tmp_path, pattern, output, refused):
    (tmp_path / "own" / "a").mkdir(parents=True)
    for place in ("own", "own/a"):
        (tmp_path / place / "rows.jsonl").write_text("{}")
    with pytest.raises(CFTError, match="reads from; give the run a folder of its own") if refused else nullcontext():
        check_output(tmp_path / output, str(tmp_path / pattern), None)


def test_the_card_and_the_tables_of_other_datasets_are_not_written_over(tmp_path):
    for name, told in (("README.md", "---\nconfigs:\n- data_files: rows.jsonl\n---\n"), ("state.json", "{}")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_text(told)
        with pytest.raises(CFTError, match="holds a dataset, whose card"):
            check_output(folder, "arithmetic", None)


def test_hub_names_and_new_folders_are_nobodys(tmp_path):
    check_output(tmp_path / "run", "TIGER-Lab/WebInstruct-CFT", "Qwen/Qwen2.5-Math-7B")
    check_output(tmp_path / "run", None, None)
