"""A run that ends when it no longer gets better: `early_stopping_patience`.

    early_stopping_patience: 3
    early_stopping_on: verdict_accuracy      or loss, or selection (the score of `select_benchmark`)

    step 120: verdict accuracy has not risen for 3 evaluations (best 0.91 at step 60); training stops

What was measured before is read from the run's own history, so that a run that was killed and goes on counts on.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from cft_trl.errors import CFTError, nearest
from cft_trl.training.selection import SELECTION_FILE

# name -> (metrics of an evaluation, the first that is there; whether more is better; in words). Of a mixture the target
# loss is over all its parts, which is what is trained.
METRICS = {
    "loss": (("eval_target_loss", "eval_critique_loss", "eval_loss"), False, "the loss has not fallen"),
    "verdict_accuracy": (("eval_verdict_accuracy",), True, "verdict accuracy has not risen"),
    "selection": ((), True, "the selection score has not risen"),
}


class StopEarly(TrainerCallback):
    """Stops training after `patience` measurements in a row that were not better than the best before them.

    Args:
        on: One of `METRICS`. "selection" reads `selection.json`, so it comes behind `SelectBestCheckpoint`.
        patience: So many.
        threshold: By so much a measurement has to be better than the best to count.

    Raises:
        CFTError: A value that is none of these; while training, that an evaluation does not tell the metric.
    """

    def __init__(self, on: str = "loss", patience: int = 3, threshold: float = 0.0) -> None:
        if on not in METRICS:
            raise CFTError(f"early_stopping_on={on}: unknown{nearest(on, METRICS)}; give one of {', '.join(METRICS)}")
        if patience < 1 or threshold < 0:
            raise CFTError(
                f"early_stopping_patience={patience}, early_stopping_threshold={threshold}: give 1 or more, and 0 or "
                "more"
            )
        self.on, self.patience, self.threshold = on, patience, threshold
        self._told = False

    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        if self.on == "selection":
            return
        names, _, _ = METRICS[self.on]
        name = next((name for name in names if name in (metrics or {})), None)
        if name is None:
            raise CFTError(
                f"early_stopping_on={self.on}: the evaluation tells no {names[0]}; hold out rows that have it, or give "
                "another metric"
            )
        # A final evaluation of a step that was evaluated already is no further measurement.
        points = {entry["step"]: entry[name] for entry in state.log_history if name in entry}
        self._decide(sorted(points.items()), state, control)

    def on_save(self, args, state, control, **kwargs):
        if self.on != "selection":
            return
        from accelerate import PartialState
        from accelerate.utils import broadcast_object_list

        found: list[Any] = [[]]
        if state.is_world_process_zero:
            found[0] = _selected(Path(args.output_dir), state.global_step)
        if PartialState().num_processes > 1:  # the file is the first process's
            broadcast_object_list(found)
        self._decide(found[0], state, control)

    def _decide(self, points: Sequence[tuple[int, float]], state: Any, control: Any) -> None:
        best = stale_since(points, METRICS[self.on][1], self.patience, self.threshold)
        if best is None or control.should_training_stop:
            return
        control.should_training_stop = True
        if state.is_world_process_zero and not self._told:
            self._told = True
            times = "checkpoints" if self.on == "selection" else "evaluations"
            print(
                f"step {state.global_step}: {METRICS[self.on][2]} for {self.patience} {times} (best {best[1]:.4g} at "
                f"step {best[0]}); training stops",
                flush=True,
            )


def stale_since(
    points: Sequence[tuple[int, float]], more_is_better: bool, patience: int, threshold: float = 0.0
) -> tuple[int, float] | None:
    """The best point, where it is `patience` or more points ago; None where training is still getting better.

    Args:
        points: (step, value), in order.
        more_is_better: Whether a higher value is better.
        patience, threshold: As of `StopEarly`.

    Example:
        >>> stale_since([(10, 0.9), (20, 0.7), (30, 0.8), (40, 0.75)], False, 2)
        (20, 0.7)
        >>> stale_since([(10, 0.9), (20, 0.7), (30, 0.8)], False, 2) is None
        True
    """
    best_at = 0
    for at, (_, value) in enumerate(points):
        gain = value - points[best_at][1] if more_is_better else points[best_at][1] - value
        if gain > threshold:
            best_at = at
    return points[best_at] if points and len(points) - 1 - best_at >= patience else None


def _selected(run: Path, upto: int) -> list[tuple[int, float]]:
    """The scores of the checkpoints up to a step; one that left the race was beaten, whatever its few problems say."""
    try:
        told: Mapping[str, Any] = json.loads((run / SELECTION_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    points = [point for point in told["curve"] if point["step"] <= upto]
    return sorted((point["step"], -math.inf if point.get("left") else point["score"]) for point in points)


def early_stopping(script: Any, config: Any) -> list[StopEarly]:
    """The callback that a run's settings ask for, or none.

    Raises:
        CFTError: They contradict the others.
    """
    if script.early_stopping_patience is None:
        return []
    callback = StopEarly(script.early_stopping_on, script.early_stopping_patience, script.early_stopping_threshold)
    if callback.on == "selection":
        if not script.select_benchmark:
            raise CFTError("early_stopping_on=selection needs select_benchmark, which scores the checkpoints")
    elif config.eval_strategy == "no":
        raise CFTError(
            f"early_stopping_on={callback.on} needs evaluations; set eval_strategy: steps and hold out rows (eval_rows)"
        )
    return [callback]
