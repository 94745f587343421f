"""What a run shows while it goes on: a bar with the figures behind it on a terminal, plain lines elsewhere."""

from __future__ import annotations

import io
import re
import sys
from types import SimpleNamespace

import pytest

from cft_trl.training.callbacks import LogLines


class Screen(io.StringIO):
    """A standard error that says it is a terminal."""

    def isatty(self):
        return True


def go(callback, tokens=(1000, 3000)):
    """Two steps of four, logged at each."""
    state = SimpleNamespace(global_step=0, max_steps=4, is_world_process_zero=True)
    callback.on_train_begin(None, state, None)
    for step, seen in enumerate(tokens, 1):
        state.global_step = step
        callback.started -= 10.0  # as if a step took ten seconds
        callback.tokens_at = (callback.tokens_at[0] - 10.0, callback.tokens_at[1])
        callback.on_step_end(None, state, None)
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
