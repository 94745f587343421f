"""What a run shows while it goes on: a bar with the figures behind it on a terminal, plain lines elsewhere."""

from __future__ import annotations

import io
import re
import sys
from types import SimpleNamespace

import pytest

from cft_trl.progress import _meters, progress, wrote
from cft_trl.training.callbacks import LogLines, StepCount


class Screen(io.StringIO):
    """A standard error that says it is a terminal."""

    def isatty(self):
        return True


def go(callback, tokens=(1000, 3000)):
    """Two steps of four, logged at each."""
    state = SimpleNamespace(global_step=0, max_steps=4, is_world_process_zero=True)
    logs_each = SimpleNamespace(should_log=True)
    callback.on_train_begin(None, state, None)
    for step, seen in enumerate(tokens, 1):
        state.global_step = step
        callback.started -= 10.0  # as if a step took ten seconds
        callback.tokens_at = (callback.tokens_at[0] - 10.0, callback.tokens_at[1])
        callback.on_step_end(None, state, logs_each)
        logs = {"loss": 0.7, "critique_loss": 0.612, "verdict_accuracy": 0.963, "num_tokens": seen}
        callback.on_log(None, state, None, logs=logs)
    callback.on_train_end(None, state, None)


def test_lines_where_there_is_no_terminal(capsys):
    go(LogLines())
    out, err = capsys.readouterr()
    first, second = out.splitlines()
    assert re.fullmatch(r"  step 1/4   critique loss 0.612   verdict accuracy 96.3%   100 tokens/s   30 s left", first)
    assert "step 2/4" in second
    assert "200 tokens/s   20 s left" in second  # the tokens since the line before
    assert err == ""


def test_a_bar_with_the_newest_figures_on_a_terminal(monkeypatch, capsys):
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    go(LogLines())
    shown = screen.getvalue()
    assert "loss 0.612, verdicts 96.3%, 200 tokens/s" in shown
    assert "2/4" in shown
    assert "step 1/4   critique loss 0.612" in capsys.readouterr().out + shown


def test_no_bar_in_one_that_something_else_shows(monkeypatch, capsys):
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    go(LogLines(bar=False))
    assert screen.getvalue() == ""
    assert "step 2/4   critique loss 0.612" in capsys.readouterr().out


def test_steps_are_counted_from_those_before_the_checkpoint():
    counted: list[int] = []
    callback, state = StepCount(counted.append), SimpleNamespace(global_step=3)
    callback.on_train_begin(None, state, None)
    for state.global_step in (4, 5):
        callback.on_step_end(None, state, None)
    assert sum(counted) == 5


def test_a_run_shorter_than_its_logging_steps_still_ends_with_a_line(capsys):
    state = SimpleNamespace(global_step=2, max_steps=2, is_world_process_zero=True)
    LogLines().on_log(None, state, None, logs={"train_runtime": 38.2, "train_loss": 1.2341})
    assert capsys.readouterr().out == "  2 steps in 38 s, mean loss 1.234\n"


@pytest.mark.parametrize("logs", [{}, None])
def test_what_is_no_step_is_not_shown(capsys, logs):
    state = SimpleNamespace(global_step=1, max_steps=4, is_world_process_zero=True)
    LogLines().on_log(None, state, None, logs=logs)
    assert capsys.readouterr().out == ""


def test_other_processes_are_silent(capsys):
    state = SimpleNamespace(global_step=1, max_steps=4, is_world_process_zero=False)
    LogLines().on_log(None, state, None, logs={"loss": 1.0})
    assert capsys.readouterr().out == ""


def begun(global_step=0, max_steps=98):
    callback = LogLines()
    state = SimpleNamespace(global_step=global_step, max_steps=max_steps, is_world_process_zero=True)
    callback.on_train_begin(None, state, None)
    callback.heartbeat.stop()  # the test looks itself
    return callback, state


def test_a_line_at_the_first_step_whatever_logging_steps_says(capsys):
    callback, state = begun(global_step=40)
    quiet = SimpleNamespace(should_log=False)
    for state.global_step in (41, 42):
        callback.started -= 8.0
        callback.on_step_end(None, state, quiet)
    [line] = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"  step 41/98   8.0 s a step   8 min left", line)


def test_a_line_every_half_minute_without_one(capsys):
    callback, state = begun()
    now = callback.started
    assert callback.heartbeat.look(now + 29) is None
    callback.started -= 31
    assert callback.heartbeat.look(now + 31) == "  step 1/98   under way for 31 s"
    assert callback.heartbeat.look(now + 32) is None  # that was a line
    state.global_step = 3
    callback.started -= 30
    assert re.match(r"  step 3/98   20.\d s a step   ", callback.heartbeat.look(now + 62))
    callback.on_log(None, state, None, logs={"loss": 1.0})
    assert callback.heartbeat.look(now + 29) is None
    capsys.readouterr()


def test_the_heartbeat_ends_with_the_run():
    callback = LogLines()
    state = SimpleNamespace(global_step=0, max_steps=4, is_world_process_zero=True)
    callback.on_train_begin(None, state, None)
    heartbeat = callback.heartbeat
    callback.broken_off()
    assert heartbeat._ended.is_set()
    assert callback.heartbeat is None


def test_tokens_per_second_leave_evaluation_and_saving_out(capsys):
    callback, state = begun()
    quiet = SimpleNamespace(should_log=True)
    state.global_step = 1
    callback.on_step_end(None, state, quiet)
    callback.step_ended -= 30.0  # half a minute of evaluation, then another of saving
    callback.on_evaluate(None, state, None)
    callback.step_ended -= 30.0
    callback.on_save(None, state, None)
    callback.tokens_at = (callback.tokens_at[0] - 70.0, 0.0)  # of seventy seconds
    callback.on_log(None, state, None, logs={"loss": 0.7, "critique_loss": 0.6, "num_tokens": 1000})
    assert "   100 tokens/s" in capsys.readouterr().out


def test_nothing_trained_is_no_loss_of_nought(capsys):
    callback, state = begun(global_step=98)
    callback.on_log(None, state, None, logs={"train_runtime": 0.1})
    assert capsys.readouterr().out == "  nothing is left to train: the checkpoint is of step 98/98\n"


# ---- progress of everything else ----


def test_progress_in_a_log_counts_what_is_being_written(capsys):
    with progress("critiques", 300) as advance:
        advance(60)
        wrote(9_000)
        wrote(120)
        meter = _meters[-1]
        meter.began -= 70
        assert meter.line() == "critiques: 60/300, 9,120 tokens written, 280 s left"
    wrote(5)  # nobody asks
    assert _meters == []
    assert capsys.readouterr().err == ""


def test_what_begins_and_is_not_counted(capsys):
    with progress("vLLM loads tiny", 0, begin=True):
        _meters[-1].began -= 61
        assert _meters[-1].line() == "vLLM loads tiny: 61 s"
    assert capsys.readouterr().err == "vLLM loads tiny …\n"


def test_a_model_that_writes_is_counted_token_by_token(tiny_model, tokenizer):
    from cft_trl.data.prompts import chat_messages
    from cft_trl.generation.local import LocalModel

    with progress("texts", 2):
        made = LocalModel(tiny_model(tokenizer), tokenizer).generate([chat_messages("2+2?")] * 2, max_new_tokens=5)
        # A row's last token ends it.
        assert _meters[-1].tokens == sum(generation.completion_tokens - 1 for generation in made) > 0
