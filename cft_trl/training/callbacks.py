"""What a run shows while it goes on, and the account it leaves of its rows."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from datasets import IterableDataset
from transformers import TrainerCallback

from cft_trl.folders import write_text
from cft_trl.training.lengths import PreparationReport


class ReportRows(TrainerCallback):
    """Leaves `preparation.json` beside the checkpoints, and tells of a stream's rows once they have gone by."""

    def __init__(self, reports: dict[str, PreparationReport]) -> None:
        self.reports = reports

    def on_train_begin(self, args, state, control, **kwargs):
        self._write(args, state)

    def on_train_end(self, args, state, control, train_dataloader=None, **kwargs):
        self._write(args, state)
        if state.is_world_process_zero and isinstance(getattr(train_dataloader, "dataset", None), IterableDataset):
            print(self.reports["train"], flush=True)

    def on_evaluate(self, args, state, control, **kwargs):
        self._write(args, state)

    def _write(self, args, state):
        if state.is_world_process_zero:
            folder = Path(args.output_dir)
            folder.mkdir(parents=True, exist_ok=True)
            counts = {name: report.to_dict() for name, report in self.reports.items()}
            write_text(folder / "preparation.json", json.dumps(counts, indent=2))


class LogLines(TrainerCallback):
    """One short line per log entry, in place of transformers' dicts, and a bar where there is a terminal.

    step 10/70   critique loss 0.612   verdict accuracy 96.3% (right 100.0%, wrong 92.9%)   2 min left
    """

    def __init__(self) -> None:
        self.bar: Any = None
        self.started = 0.0
        self.first_step = 0

    def on_train_begin(self, args, state, control, **kwargs):
        self.started, self.first_step = time.monotonic(), state.global_step
        if state.is_world_process_zero and sys.stderr.isatty():
            from tqdm.auto import tqdm

            self.bar = tqdm(total=state.max_steps, initial=state.global_step, desc="training", leave=False)

    def on_step_end(self, args, state, control, **kwargs):
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_train_end(self, args, state, control, **kwargs):
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def on_log(self, args, state, control, logs=None, **kwargs):
        if not state.is_world_process_zero or not logs or "train_runtime" in logs:
            return
        line = format_log(logs, state.global_step, state.max_steps)
        steps = state.global_step - self.first_step
        if steps and "loss" in logs:
            left = (time.monotonic() - self.started) / steps * (state.max_steps - state.global_step)
            line += f"   {left / 60:.0f} min left" if left > 90 else f"   {left:.0f} s left"
        (self.bar.write if self.bar is not None else print)(line)
        sys.stdout.flush()


def format_log(logs: dict[str, Any], step: int, steps: int) -> str:
    """A log entry as a line.

    Example:
        >>> format_log({"eval_critique_loss": 0.31, "eval_verdict_accuracy": 0.5, "eval_runtime": 3}, 5, 10)
        '  step 5/10   held out: critique loss 0.310   verdict accuracy 50.0%'
    """
    prefix = next((name.removesuffix("runtime") for name in logs if name.endswith("_runtime")), "")
    shown = {name.removeprefix(prefix): value for name, value in logs.items()}
    where = {"": "", "eval_": "held out: "}.get(prefix, f"{prefix.strip('_')}: ")
    parts = []
    for name in ("critique_loss", "target_loss"):
        if name in shown:
            parts.append(f"{where}{name.replace('_', ' ')} {shown[name]:.3f}")
    if "verdict_accuracy" in shown:
        sides = [
            f"{side} {shown[f'verdict_accuracy_{side}']:.1%}"
            for side in ("right", "wrong")
            if f"verdict_accuracy_{side}" in shown
        ]
        parts.append(f"verdict accuracy {shown['verdict_accuracy']:.1%}" + (f" ({', '.join(sides)})" if sides else ""))
    return "   ".join([f"  step {step}/{steps}", *parts])
