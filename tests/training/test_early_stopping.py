"""A run ends when it no longer gets better, and goes on counting where it was killed."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from conftest import make_model
from datasets import Dataset

from cft_trl import CFTTrainer
from cft_trl.errors import CFTError, nearest
from cft_trl.training.arguments import CFTScriptArguments
from cft_trl.training.early_stopping import StopEarly, early_stopping, stale_since


@pytest.mark.parametrize(
    ("values", "more", "patience", "threshold", "best"),
    [([1.0, 0.9, 0.8], False, 1, 0.0, None), ([1.0, 0.9, 0.9], False, 1, 0.0, 1),
     ([1.0, 1.1, 0.9], False, 2, 0.0, None), ([1.0, 1.1, 1.0], False, 2, 0.0, 0),
     ([0.1, 0.5, 0.4, 0.5], True, 2, 0.0, 1), ([1.0, 0.99, 0.98], False, 2, 0.1, 0),
     ([], True, 1, 0.0, None), ([0.3], True, 1, 0.0, None)],
)  # fmt: skip
def test_what_counts_as_better(values, more, patience, threshold, best):
    points = [(10 * at, value) for at, value in enumerate(values)]
    assert stale_since(points, more, patience, threshold) == (None if best is None else points[best])


def train(make_config, tokenizer, rows, callback, resume=None, **settings):
    config = make_config(**{"eval_strategy": "steps", "eval_steps": 1, "max_steps": 6, **settings})
    given = {"train_dataset": Dataset.from_list(rows[:16]), "eval_dataset": Dataset.from_list(rows[16:24])}
    trainer = CFTTrainer(make_model(tokenizer), config, processing_class=tokenizer, callbacks=[callback], **given)
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def test_a_run_that_gets_no_better_ends(make_config, tokenizer, rows, capsys):
    trainer = train(make_config, tokenizer, rows, StopEarly("loss", 2), learning_rate=0.0)
    assert trainer.state.global_step == 3
    told = capsys.readouterr().out
    assert "step 3: the loss has not fallen for 2 evaluations (best " in told
    assert "at step 1); training stops" in told
    trainer.evaluate()
    assert "training stops" not in capsys.readouterr().out


def test_a_run_that_gets_better_goes_on(make_config, tokenizer, rows):
    assert train(make_config, tokenizer, rows, StopEarly("loss", 1), learning_rate=1e-2).state.global_step == 6


def test_it_counts_on_where_it_was_killed(make_config, tokenizer, rows):
    settings = {"learning_rate": 0.0, "save_strategy": "steps", "save_steps": 1}
    first = train(make_config, tokenizer, rows, StopEarly("verdict_accuracy", 9), max_steps=2, **settings)
    again = train(make_config, tokenizer, rows, StopEarly("verdict_accuracy", 2),
                  resume=f"{first.args.output_dir}/checkpoint-2", **settings)  # fmt: skip
    assert again.state.global_step == 3


def test_a_metric_that_is_not_told_ends_in_a_line(make_config, tokenizer, rows):
    silent = [{**row, "critique": "Hm.", "verdict": None} for row in rows]
    with pytest.raises(CFTError, match="tells no eval_verdict_accuracy"):
        train(make_config, tokenizer, silent, StopEarly("verdict_accuracy", 1))


def test_the_selection_score_is_read_from_its_file(tmp_path):
    curve = [{"step": step, "score": score} for step, score in ((2, 0.4), (4, 0.6), (6, 0.5), (8, 0.6), (10, 0.9))]
    curve[2] |= {"score": 0.7, "left": {"after": 25, "against": 4}}  # of a few problems, of which step 4 had more
    (tmp_path / "selection.json").write_text(json.dumps({"curve": curve}))
    control = SimpleNamespace(should_training_stop=False)
    for step, stops in ((4, False), (6, False), (8, True)):
        state = SimpleNamespace(is_world_process_zero=True, global_step=step)
        StopEarly("selection", 2).on_save(SimpleNamespace(output_dir=tmp_path), state, control)
        assert control.should_training_stop == stops


@pytest.mark.parametrize(
    ("given", "told"),
    [({"early_stopping_patience": 0}, "give 1 or more"), ({"early_stopping_on": "los"}, "did you mean 'loss'"),
     ({"early_stopping_on": "selection"}, "needs select_benchmark"), ({}, "needs evaluations")],
)  # fmt: skip
def test_settings_that_contradict_each_other(given, told, make_config):
    script = CFTScriptArguments(dataset_name="arithmetic", **{"early_stopping_patience": 1, **given})
    with pytest.raises(CFTError, match=told):
        early_stopping(script, make_config())


def test_without_the_setting_there_is_none(make_config):
    assert early_stopping(CFTScriptArguments(dataset_name="arithmetic"), make_config()) == []


def test_a_wrong_guess_is_not_made():
    known = ["learning_rate", "num_train_epochs", "per_device_train_batch_size", "save_steps"]
    assert nearest("early_stop_patience", known) == nearest("warmup", known) == ""
    assert "num_train_epochs" in nearest("epochs", known)
    assert "per_device_train_batch_size" in nearest("batch_size", known)
