"""What a run shows while it goes on, and the account it leaves of its rows."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch.utils.data import IterableDataset
from transformers import TrainerCallback

from cft_trl.data.folders import write_text
from cft_trl.models.run_record import machine, read_record, update_record, versions
from cft_trl.progress import Heartbeat
from cft_trl.training.extension_locks import waits_no_longer
from cft_trl.training.lengths import PreparationReport
from cft_trl.training.runs import SETTINGS_FILE, begin_anew, mark_checkpoint, new_run


class ReportRows(TrainerCallback):
    """Leaves `preparation.json` beside the checkpoints, and tells of a stream's rows once they have gone by."""

    def __init__(self, reports: dict[str, PreparationReport]) -> None:
        self.reports = reports

    def on_train_begin(self, args, state, control, **kwargs):
        self._write(args, state)

    def on_train_end(self, args, state, control, train_dataloader=None, **kwargs):
        path = Path(args.output_dir) / "preparation.json"
        if self._nothing_read(state) and path.is_file():  # what the session before counted stands
            self.reports["train"].take_over(json.loads(path.read_text(encoding="utf-8")).get("train", {}))
        self._write(args, state)
        if state.is_world_process_zero and isinstance(getattr(train_dataloader, "dataset", None), IterableDataset):
            print(self.reports["train"], flush=True)

    def on_evaluate(self, args, state, control, **kwargs):
        self._write(args, state)

    def _nothing_read(self, state) -> bool:
        """Of a stream that is gone on with, before its first row, or where no step is left."""
        return state.global_step > 0 and "train" in self.reports and not self.reports["train"].rows

    def _write(self, args, state):
        if state.is_world_process_zero and not self._nothing_read(state):
            folder = Path(args.output_dir)
            folder.mkdir(parents=True, exist_ok=True)
            counts = {name: report.to_dict() for name, report in self.reports.items()}
            write_text(folder / "preparation.json", json.dumps(counts, indent=2))


class RecordRun(TrainerCallback):
    """Writes `training.json` while a run goes on: what it is of, its machine, and what each session took.

    Args:
        about: Parts that are known when training begins ("base_model", "dataset", …).
        base: What is trained, as it was named.

    Attributes:
        settings: What goes into `settings.json`, of a run that has some.
    """

    def __init__(self, about: Mapping[str, Any], base: str | None = None) -> None:
        self.about, self.base = dict(about), base
        self.settings: Mapping[str, Any] | None = None
        self.going = False

    def on_train_begin(self, args, state, control, **kwargs):
        if not state.is_world_process_zero:
            return
        folder = Path(args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        self.first_step, self.began = state.global_step, time.monotonic()
        self.started = time.strftime("%Y-%m-%dT%H:%M:%S")
        # A run that begins anew in an old one's folder takes nothing over.
        if state.global_step == 0 and (aside := begin_anew(folder, self.base)):
            print(f"what another run left in {folder} is in {aside}; remove it when nobody needs it", flush=True)
        earlier = read_record(folder)
        self.run, self.earlier = earlier.get("run") or new_run(), earlier.get("sessions", [])
        about = {"run": self.run, **self.about, "machine": machine(args.world_size)}
        # Of the versions those that it was begun with stay: the first session's rows were read by them.
        update_record(folder, **about, versions=earlier.get("versions") or versions(), sessions=self.earlier)
        if self.settings is not None:
            write_text(folder / SETTINGS_FILE, json.dumps(self.settings, indent=2, default=str))
        self.going = True

    def on_save(self, args, state, control, **kwargs):
        if self.going:
            self._write(args, state)
            checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            if checkpoint.is_dir():
                mark_checkpoint(checkpoint, self.run, state.global_step)

    def on_train_end(self, args, state, control, **kwargs):
        if self.going:
            self._write(args, state)
            self.going = False

    def _write(self, args: Any, state: Any) -> None:
        if state.global_step == self.first_step:
            return
        session = {
            "started": self.started,
            "steps": [self.first_step, state.global_step],
            "seconds": round(time.monotonic() - self.began, 3),
        }
        update_record(Path(args.output_dir), sessions=[*self.earlier, session])


class LogLines(TrainerCallback):
    """One short line per log entry, in place of transformers' dicts, and a bar where there is a terminal.

    step 10/70   critique loss 0.612   verdict accuracy 96.3% (right 100.0%, wrong 92.9%)   1,020 tokens/s   2 min left
    training:  14%|███▍      | 10/70 [00:38<03:51, 3.86s/it, loss 0.612, verdicts 96.3%, 1,020 tokens/s]

    Where there is none, there is a line at the first step and after 30 s without one, whatever `logging_steps` says:

    step 1/70   3.9 s a step   5 min left

    Tokens per second are those of training: the time of evaluations, selections and checkpoints is left out.

    Args:
        bar: Whether a terminal is shown one; for a training that is a part of something with a bar of its own.
    """

    def __init__(self, bar: bool = True) -> None:
        self.has_bar = bar
        self.bar: Any = None
        self.heartbeat: Heartbeat | None = None
        self.started = 0.0
        self.first_step = 0
        self.tokens_at = (0.0, 0.0)  # the time of the last log entry, and the tokens seen by then
        self.step_ended = 0.0
        self.paused = 0.0  # seconds since the last log entry in which nothing was trained

    def on_train_begin(self, args, state, control, **kwargs):
        self.started, self.first_step = time.monotonic(), state.global_step
        self.tokens_at, self.step_ended, self.paused = (self.started, 0.0), self.started, 0.0
        waits_no_longer()
        if not state.is_world_process_zero:
            return
        if self.has_bar and sys.stderr.isatty():
            from tqdm.auto import tqdm

            self.bar = tqdm(total=state.max_steps, initial=state.global_step, desc="training", leave=False)
        else:
            self.heartbeat = Heartbeat(lambda: self.pace(state)).start(sys.stdout)

    def on_step_end(self, args, state, control, **kwargs):
        self.step_ended = time.monotonic()
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)
        elif self.heartbeat is not None and state.global_step == self.first_step + 1 and not control.should_log:
            self._print(self.pace(state))

    def on_evaluate(self, args, state, control, **kwargs):
        self._pause_ends()

    def on_save(self, args, state, control, **kwargs):
        self._pause_ends()

    def on_train_end(self, args, state, control, **kwargs):
        self.broken_off()

    def broken_off(self) -> None:
        """Ends what goes on beside training."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None
        if self.heartbeat is not None:
            self.heartbeat.stop()
            self.heartbeat = None

    def on_log(self, args, state, control, logs=None, **kwargs):
        if not state.is_world_process_zero or not logs:
            return
        if "train_runtime" in logs:  # the last entry; a run shorter than logging_steps has no other
            self._print(self._closing(logs, state))
            return
        line = format_log(logs, state.global_step, state.max_steps)
        if state.global_step > self.first_step and "loss" in logs:
            speed = self._tokens_per_second(logs)
            if self.bar is not None:
                self.bar.set_postfix_str(format_bar(logs, speed))
            line += f"   {speed:,.0f} tokens/s" if speed else ""
            line += f"   {self._left(state)}"
        self._print(line)

    def pace(self, state: Any) -> str:
        """Where training is, between two log entries."""
        steps, took = state.global_step - self.first_step, time.monotonic() - self.started
        if not steps:
            return f"  step {state.global_step + 1}/{state.max_steps}   under way for {took:.0f} s"
        return f"  step {state.global_step}/{state.max_steps}   {took / steps:.1f} s a step   {self._left(state)}"

    def _print(self, line: str) -> None:
        (self.bar.write if self.bar is not None else print)(line)
        sys.stdout.flush()
        if self.heartbeat is not None:
            self.heartbeat.said()

    def _left(self, state: Any) -> str:
        steps = state.global_step - self.first_step
        left = (time.monotonic() - self.started) / steps * (state.max_steps - state.global_step)
        return f"{left / 60:.0f} min left" if left > 90 else f"{left:.0f} s left"

    def _closing(self, logs: dict[str, Any], state: Any) -> str:
        steps = state.global_step - self.first_step
        if not steps or "train_loss" not in logs:
            return f"  nothing is left to train: the checkpoint is of step {state.global_step}/{state.max_steps}"
        return f"  {steps} steps in {logs['train_runtime']:.0f} s, mean loss {logs['train_loss']:.3f}"

    def _pause_ends(self) -> None:
        now = time.monotonic()
        self.paused, self.step_ended = self.paused + now - self.step_ended, now

    def _tokens_per_second(self, logs):
        """Tokens trained on since the log entry before, prompts among them; None where TRL does not count them."""
        if "num_tokens" not in logs:
            return None
        (then, before), now, paused = self.tokens_at, time.monotonic(), self.paused
        self.tokens_at, self.paused = (now, logs["num_tokens"]), 0.0
        trained = now - then - paused
        return (logs["num_tokens"] - before) / trained if trained > 0 else None


class StepCount(TrainerCallback):
    """Tells a `progress` the steps that are done, those before the checkpoint it goes on from among them."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        self.advance = advance

    def on_train_begin(self, args, state, control, **kwargs):
        self.advance(state.global_step)

    def on_step_end(self, args, state, control, **kwargs):
        self.advance(1)


def format_bar(logs: dict[str, Any], tokens_per_second: float | None = None) -> str:
    """What stands behind the bar: the newest training loss, verdict accuracy and speed.

    Example:
        >>> format_bar({"critique_loss": 0.6123, "verdict_accuracy": 0.963, "loss": 0.61}, 1019.6)
        'loss 0.612, verdicts 96.3%, 1,020 tokens/s'
    """
    loss = next((logs[name] for name in ("critique_loss", "target_loss", "loss") if name in logs), None)
    parts = [] if loss is None else [f"loss {loss:.3f}"]
    if "verdict_accuracy" in logs:
        parts.append(f"verdicts {logs['verdict_accuracy']:.1%}")
    if tokens_per_second:
        parts.append(f"{tokens_per_second:,.0f} tokens/s")
    return ", ".join(parts)


def format_log(logs: dict[str, Any], step: int, steps: int) -> str:
    """A log entry as a line.

    Args:
        logs: What the trainer logs; the names of an evaluation's values share a prefix.
        step, steps: The step it is logged at, of how many; 0 where there is no training.

    Example:
        >>> format_log({"eval_critique_loss": 0.31, "eval_verdict_accuracy": 0.5, "eval_runtime": 3}, 5, 10)
        '  step 5/10   held out: critique loss 0.310   verdict accuracy 50.0%'
        >>> format_log({"critique_loss": 0.31, "target_loss": 0.4, "loss_mine": 0.31, "loss_more": 0.6}, 5, 10)
        '  step 5/10   critique loss 0.310   target loss 0.400 (mine 0.310, more 0.600)'
    """
    prefix = next((name.removesuffix("runtime") for name in logs if name.endswith("_runtime")), "")
    shown = {name.removeprefix(prefix): value for name, value in logs.items()}
    where = {"": "", "eval_": "held out: "}.get(prefix, f"{prefix.strip('_')}: ")
    losses = [
        f"{name.replace('_', ' ')} {shown[name]:.3f}" for name in ("critique_loss", "target_loss") if name in shown
    ]
    if of_parts := [f"{name.removeprefix('loss_')} {shown[name]:.3f}" for name in shown if name.startswith("loss_")]:
        losses[-1:] = [f"{losses[-1]} ({', '.join(of_parts)})"] if losses else of_parts
    parts = [f"{where}{losses[0]}", *losses[1:]] if losses else []
    if "verdict_accuracy" in shown:
        sides = [
            f"{side} {shown[f'verdict_accuracy_{side}']:.1%}"
            for side in ("right", "wrong")
            if f"verdict_accuracy_{side}" in shown
        ]
        parts.append(f"verdict accuracy {shown['verdict_accuracy']:.1%}" + (f" ({', '.join(sides)})" if sides else ""))
    # An evaluation without a training around it has no step.
    return "  " + "   ".join([f"step {step}/{steps}", *parts] if steps else parts)
