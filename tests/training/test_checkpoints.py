"""A run goes on from the newest checkpoint whose bytes are those that were written, and says which it passed over."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from datasets import Dataset
from safetensors.torch import save_file

from cft_trl import CFTTrainer
from cft_trl.training import checkpoints
from cft_trl.training.checkpoints import SUMS_FILE, damage, newest_whole, numbered_checkpoints, seal

FILES = ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth")


@pytest.fixture
def run(tmp_path):
    """A folder with the sealed checkpoints 2 and 4."""
    for step in (2, 4):
        folder = tmp_path / f"checkpoint-{step}"
        (folder / "global_step4").mkdir(parents=True)
        save_file({"w": torch.arange(1000.0)}, folder / "model.safetensors")
        for name in (*FILES[1:], "global_step4/mp_rank_00_model_states.pt"):
            torch.save({"step": torch.arange(500.0) + step}, folder / name)
        (folder / "config.json").write_text("{}")
        (folder / "trainer_state.json").write_text("{}")
        seal(folder)
    return tmp_path


def cut(path):
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size - 7)


def turn_a_byte(path):
    with open(path, "r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 1]))


@pytest.mark.parametrize("name", [*FILES, "trainer_state.json", "global_step4/mp_rank_00_model_states.pt"])
@pytest.mark.parametrize("harm", [cut, turn_a_byte, Path.unlink])
def test_what_is_damaged_is_found(run, name, harm):
    path = run / "checkpoint-4" / name
    path.write_text('{"log_history": []}') if name == "trainer_state.json" else None
    seal(run / "checkpoint-4")
    harm(path)
    found, told = newest_whole(run)
    assert found.name == "checkpoint-2"
    if harm is Path.unlink and name == "trainer_state.json":
        assert told == []  # a checkpoint that was never finished
        return
    [line] = told
    said = {cut: f"{name} has ", turn_a_byte: f"bytes of {name} have changed", Path.unlink: f"{name} is missing"}
    assert f"{run / 'checkpoint-4'} is damaged ({said[harm]}" in line


def test_whole_ones_are_whole_and_what_is_not_gone_on_from_may_change(run):
    (run / "checkpoint-4" / "config.json").write_text('{"changed": 1}')
    (run / "checkpoint-4" / "README.md").write_text("later")
    assert newest_whole(run) == (run / "checkpoint-4", [])
    whole = [path.name for path in numbered_checkpoints(run) if damage(path) is None]
    assert whole == ["checkpoint-4", "checkpoint-2"]


def test_sums_that_are_no_sums(run):
    for text in ("[]", "{", '{"files": 3}'):
        (run / "checkpoint-4" / SUMS_FILE).write_text(text)
        assert "cannot be read" in damage(run / "checkpoint-4")


@pytest.mark.parametrize("name", FILES)
def test_without_sums_the_files_lengths_tell(run, name):
    """Of an earlier version, or killed before they were written."""
    (run / "checkpoint-4" / SUMS_FILE).unlink()
    assert damage(run / "checkpoint-4") is None
    cut(run / "checkpoint-4" / name)
    assert damage(run / "checkpoint-4") == f"{name} is cut short"


def test_none_is_whole(run):
    for step in (2, 4):
        cut(run / f"checkpoint-{step}" / "optimizer.pt")
    found, told = newest_whole(run)
    assert found is None
    assert len(told) == 2
    assert newest_whole(run / "absent") == (None, [])


def test_the_trainer_seals_before_older_ones_go(tiny_model, tokenizer, make_config, rows, monkeypatch):
    there = []
    kept = checkpoints.seal

    def spy(folder):
        there.append(sorted(path.name for path in folder.parent.glob("checkpoint-*")))
        kept(folder)

    monkeypatch.setattr("cft_trl.training.trainer.seal", spy)
    config = make_config(max_steps=3, save_strategy="steps", save_steps=1, save_total_limit=1)
    trainer = CFTTrainer(
        tiny_model(tokenizer), config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer
    )
    trainer.train()
    assert there == [["checkpoint-1"], ["checkpoint-1", "checkpoint-2"], ["checkpoint-2", "checkpoint-3"]]
    [last] = checkpoints.numbered_checkpoints(Path(trainer.args.output_dir))
    assert (last.name, damage(last), trainer.args.save_total_limit) == ("checkpoint-3", None, 1)
    assert (last / SUMS_FILE).is_file()
