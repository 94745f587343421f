"""A run goes on only as what it was begun as; begun anew in a used folder it finds nothing of the old one there."""

from __future__ import annotations

import json
import os
import shutil

import pytest
from conftest import make_model

from cft_trl.cli import main
from cft_trl.errors import CFTError
from cft_trl.models.identity import folder_identity, what_changed
from cft_trl.models.run_record import check_mine, run_of
from cft_trl.training import runs
from cft_trl.training.runs import begin_anew, prepared_identity

ROW = {
    "query": "What is 3 x {n}?",
    "response": "3 x {n} = 7.",
    "critique": "It is {n} times 3.\n\nConclusion: wrong [END]",
}


def write_rows(path, critique="", count=4, first=0):
    """Rows whose ids stay, whatever becomes of their texts."""
    rows = [{key: text.replace("{n}", str(n)) for key, text in ROW.items()} for n in range(first, first + count)]
    path.write_text(
        "\n".join(
            json.dumps({"id": str(n), **row, "critique": critique + row["critique"]}) for n, row in enumerate(rows)
        )
    )
    return path


def write_model(folder, tokenizer, change=0.0):
    import torch

    model = make_model(tokenizer)
    with torch.no_grad():
        model.model.norm.weight += change
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.fixture(scope="module")
def begun(tmp_path_factory, tokenizers):
    """A run of two steps with a checkpoint after each, and what it was begun with, to be copied."""
    home = tmp_path_factory.mktemp("begun")
    write_model(home / "model", tokenizers("chatml"))
    write_rows(home / "rows.jsonl")
    write_rows(home / "eval.jsonl", first=50)
    where = os.getcwd()
    os.chdir(home)
    try:
        assert main(train_words()) == 0
    finally:
        os.chdir(where)
    return home


def train_words(*more):
    return [
        "train", "--model_name_or_path", "model", "--dataset_name", "rows.jsonl", "--eval_rows", "1",
        "--output_dir", "run", "--use_cpu", "true", "--report_to", "none", "--max_length", "256", "--max_steps", "2",
        "--per_device_train_batch_size", "1", "--save_strategy", "steps", "--save_steps", "1", *more,
    ]  # fmt: skip


@pytest.fixture
def home(begun, tmp_path, monkeypatch):
    shutil.copytree(begun, tmp_path / "home")
    monkeypatch.chdir(tmp_path / "home")
    return tmp_path / "home"


def edit(path, change):
    told = json.loads(path.read_text())
    change(told)
    path.write_text(json.dumps(told))


def rewrite_weights(home, tokenizers):
    """Other weights, and the file's size and times are what they were."""
    path = home / "model" / "model.safetensors"
    before = path.stat()
    write_model(home / "model", tokenizers("chatml"), change=0.25)
    assert path.stat().st_size == before.st_size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES = {
    "critiques": (
        lambda home, _: write_rows(home / "rows.jsonl", "So: "),
        "the training rows are other ones: other texts",
    ),
    "number": (lambda home, _: write_rows(home / "rows.jsonl", count=5), "another number of rows (3 before, 4 now)"),
    "weights": (rewrite_weights, "the model to train is another one: other weights"),
    "config": (
        lambda home, _: edit(home / "model" / "config.json", lambda told: told.update(rms_norm_eps=0.5)),
        "the model to train is another one: another config.json",
    ),
    "template": (
        lambda home, _: (home / "model" / "chat_template.jinja").write_text(
            "{% for m in messages %}<|im_start|>{{ m.role }}: {{ m.content }}<|im_end|>\n{% endfor %}"
            "{% if add_generation_prompt %}<|im_start|>assistant: {% endif %}"
        ),
        "another chat template",
    ),
    "tokenizer": (
        lambda home, _: edit(
            home / "model" / "tokenizer.json", lambda told: told["model"]["merges"].pop() and told["model"]["merges"]
        ),
        "another tokenizer",
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_changed_since_a_run_began_is_refused(home, capsys, tokenizers, what):
    change, told = CHANGES[what]
    before = folder_identity("run")
    change(home, tokenizers)
    assert main(train_words()) == 2
    [line] = [line for line in capsys.readouterr().err.splitlines() if "cft: error" in line or "another run" in line]
    assert "holds checkpoints of another run (" in line
    assert told in line
    assert "--resume false to begin anew here" in line
    assert what_changed(before, folder_identity("run")) is None, "nothing was lost"


def test_the_same_rows_under_another_name_go_on(home, capsys):
    """A folder that was moved is what it was; so is a run whose folder was moved with it."""
    for old, new in (("rows.jsonl", "other.jsonl"), ("model", "base"), ("run", "moved")):
        os.rename(old, new)
    shutil.rmtree("moved/checkpoint-2")
    words = train_words("--dataset_name", "other.jsonl", "--model_name_or_path", "base", "--output_dir", "moved")
    before = run_of("moved")
    assert main(words) == 0
    assert "going on from moved/checkpoint-1" in capsys.readouterr().out
    assert run_of("moved") == run_of("moved/checkpoint-2") == before


def test_rows_that_become_other_tokens_are_refused(home, capsys, monkeypatch):
    """What no text shows: our own code, or a library, makes other tokens of them than when the run began."""
    monkeypatch.setattr(runs, "prepared_identity", lambda dataset: {"rows": 3, "numbers": "other"})
    assert main(train_words()) == 2
    assert "a run that read its rows otherwise (the training rows become other tokens" in capsys.readouterr().err


def test_begun_anew_in_a_used_folder_it_equals_a_run_in_a_fresh_one(home, capsys):
    assert main(["select", "run", "--benchmark", "arithmetic-critic", "--limit", "2", "--max-new-tokens", "4"]) == 0
    old, scored = run_of("run"), json.loads((home / "run" / "selection.json").read_text())
    assert scored["run"] == old == run_of("run/best")
    write_rows(home / "rows.jsonl", "So: ")
    assert main(train_words("--resume", "false")) == 0
    assert f"what another run left in run is in run/_old/{old}" in capsys.readouterr().out
    assert main(train_words("--output_dir", "fresh")) == 0
    assert what_changed(folder_identity("fresh"), folder_identity("run")) is None
    assert {path.name for path in (home / "run").iterdir()} == {*os.listdir("fresh"), "_old"}
    assert run_of("run") != old
    assert run_of("run") == run_of("run/checkpoint-2") == json.loads((home / "run" / "metrics.json").read_text())["run"]
    assert run_of(f"run/_old/{old}/best") == old, "the old run's choice stays a run's choice, where it lies now"


def test_records_of_a_run_that_saved_nothing_are_not_kept(tmp_path):
    (tmp_path / "training.json").write_text('{"run": "8d02"}')
    (tmp_path / "notes.txt").write_text("mine")
    assert begin_anew(tmp_path) is None
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    (tmp_path / "README.md").write_text("of a folder that no run was in")
    assert begin_anew(tmp_path) is None
    assert (tmp_path / "README.md").is_file()


@pytest.mark.parametrize("base", ["run", "run/checkpoint-1", "run/best", "./run/../run/checkpoint-1"])
def test_a_run_does_not_begin_with_what_lies_in_its_own_folder(home, base, capsys):
    """Its id, its checkpoints and its `best` would be two runs' at once."""
    (home / "run" / "best").symlink_to("checkpoint-1")
    assert main(train_words("--model_name_or_path", base, "--resume", "false")) == 2
    assert "the model that the run begins with, which it would overwrite; give another" in capsys.readouterr().err
    with pytest.raises(CFTError, match="is what another run left in"):  # a trainer of one's own
        begin_anew(home / "run", base=base)
    assert (home / "run" / "checkpoint-1" / "model.safetensors").is_file()
    assert not (home / "run" / "_old").exists()


def test_a_base_model_beside_what_a_run_left_stays_where_it_is(home):
    os.rename("model", "run/base")
    assert begin_anew(home / "run", base="run/base") == home / "run" / "_old" / os.listdir(home / "run" / "_old")[0]
    assert sorted(os.listdir(home / "run")) == ["_lock", "_old", "base"]


def test_the_model_whose_template_is_taken_is_part_of_a_run_whose_rows_are_not_at_hand(home, capsys):
    """Of a stream nothing is prepared beforehand, so that other tokens would not be seen."""
    shutil.copytree("model", "chat")
    words = train_words("--eval_rows", "0", "--dataset_streaming", "true", "--chat_template_path", "chat")
    words[words.index("run")] = "streamed"
    assert main(words) == 0
    template = home / "chat" / "chat_template.jinja"
    template.write_text(template.read_text().replace("message['role']", "message['role'] + ':'") + " ")
    assert main(words) == 2
    assert "the model whose chat template it takes is another one: another chat template" in capsys.readouterr().err


def test_a_finished_stream_that_is_given_again_keeps_its_counts(home):
    """It reads no row, and must not say that it was trained on none."""
    words = train_words("--eval_rows", "0", "--dataset_streaming", "true", "--output_dir", "streamed")
    assert main(words) == 0
    generation = (home / "streamed" / "generation_config.json").read_text()
    before, card = ((home / "streamed" / name).read_text() for name in ("preparation.json", "README.md"))
    assert json.loads(before)["train"]["rows"] > 0
    assert main(words) == 0
    assert (home / "streamed" / "preparation.json").read_text() == before
    assert (home / "streamed" / "generation_config.json").read_text() == generation
    [line] = [line for line in card.splitlines() if line.startswith("| train |")]
    assert line in (home / "streamed" / "README.md").read_text()


def test_another_runs_checkpoint_is_not_gone_on_from(home, capsys):
    shutil.copytree("run/checkpoint-2", "run/checkpoint-3")
    (home / "run" / "checkpoint-3" / "run.json").write_text('{"run": "8d02", "step": 3}')
    assert main(train_words()) == 2
    assert "checkpoint-3 is of another run (8d02, not " in capsys.readouterr().err


def test_of_another_run(tmp_path):
    (tmp_path / "training.json").write_text('{"run": "8d02"}')
    check_mine(tmp_path, "best", None, "select again")
    check_mine(tmp_path, "best", "8d02", "select again")
    with pytest.raises(CFTError, match=r"best is of another run \(3f9c, not 8d02\); select again"):
        check_mine(tmp_path, "best", "3f9c", "select again")


def test_prepared_rows_are_told_apart_by_any_number_and_any_cut(tmp_path):
    from datasets import Dataset, concatenate_datasets

    rows = [{"input_ids": [1, 2, 3], "labels": [-100, 2, 3]}, {"input_ids": [4], "labels": [4]}]
    one = prepared_identity(Dataset.from_list(rows))
    assert one["rows"] == 2
    assert prepared_identity(concatenate_datasets([Dataset.from_list(rows[:1]), Dataset.from_list(rows[1:])])) == one
    moved = [{"input_ids": [1, 2], "labels": [-100, 2]}, {"input_ids": [3, 4], "labels": [3, 4]}]
    masked = [{**rows[0], "labels": [-100, -100, 3]}, rows[1]]
    assert prepared_identity(Dataset.from_list(moved)) != one
    assert prepared_identity(Dataset.from_list(masked)) != one
    assert prepared_identity(Dataset.from_list(rows[::-1])) != one
