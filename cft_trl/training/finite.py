"""Ends a run at the step where its numbers stop being numbers.

transformers leaves a loss that is not finite out of the mean it logs and goes on; the weights are NaN from then on and
the log looks sound.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from cft_trl.errors import CFTError
from cft_trl.training.checkpoints import damage, numbered_checkpoints

# Steps in a row that a gradient scaler may skip: it begins at 2^16 and halves, so that 40 leave no scale at all.
SKIPPED_STEPS = 40


class FiniteWatch:
    """Watches the losses of a step's micro-batches, its gradient norm and, where they are saved, the weights.

    Every process sees what any of them has seen, so that all end alike. That costs the transfer of two numbers a step.
    """

    def __init__(self) -> None:
        self._losses: torch.Tensor | None = None
        self._skipped = 0

    def add(self, loss: torch.Tensor) -> None:
        """Takes in the loss of a micro-batch, a scalar; what is not finite stays so in the sum."""
        loss = loss.detach().float()
        self._losses = loss if self._losses is None else self._losses + loss

    def check_step(self, trainer: Any, grad_norm: Any) -> None:
        """Looks at a step before the optimizer takes it (DeepSpeed has taken it by then).

        A gradient scaler (fp16) finds its scale by skipping steps whose gradients overflow: these are let pass, up to
        `SKIPPED_STEPS` in a row. A loss that is not finite is no matter of the scale.

        Args:
            trainer: the `Trainer`.
            grad_norm: of the whole model: a float, a tensor or DTensor of one element, or None where it is not known.

        Raises:
            CFTError: the loss or the norm is NaN or infinite in one of the processes.
        """
        loss = 0.0 if self._losses is None else self._losses.item()
        self._losses = None
        norm = _number(grad_norm)
        bad_loss, bad_norm = _in_any_process(trainer, not _finite(loss), not _finite(norm))
        if bad_loss:
            raise CFTError(_told(trainer, "the loss", loss, weights_suspect=True))
        if not bad_norm:
            self._skipped = 0
            return
        if not trainer.args.fp16:
            raise CFTError(_told(trainer, "the gradient norm", norm))
        self._skipped += 1
        if self._skipped >= SKIPPED_STEPS:
            raise CFTError(_told(trainer, f"for {SKIPPED_STEPS} steps in a row the gradient norm", norm))

    def check_weights(self, trainer: Any, model: torch.nn.Module) -> None:
        """Looks at the weights that are trained, before they are saved.

        Raises:
            CFTError: one of them is not finite: the last step has made it so.
        """
        largest = 0.0
        for parameter in model.parameters():
            own = getattr(parameter, "ds_tensor", parameter)  # under ZeRO-3 and FSDP2 this process's part
            own = own.to_local() if hasattr(own, "to_local") else own
            if parameter.requires_grad and own.numel():
                norm = torch.linalg.vector_norm(own.detach(), float("inf")).item()
                largest = norm if not _finite(norm) else largest
        if _in_any_process(trainer, not _finite(largest))[0]:
            raise CFTError(_told(trainer, "a weight", largest, done=True))


def _number(value: Any) -> float:
    if value is None:
        return 0.0
    if hasattr(value, "full_tensor"):
        value = value.full_tensor()
    return float(value)


def _finite(value: float) -> bool:
    return value - value == 0


def _in_any_process(trainer: Any, *flags: bool) -> list[bool]:
    if trainer.accelerator.num_processes == 1:
        return list(flags)
    told = torch.tensor([float(flag) for flag in flags], device=trainer.accelerator.device)
    return [count > 0 for count in trainer.accelerator.reduce(told, "sum").tolist()]


def _told(trainer: Any, what: str, value: float, done: bool = False, weights_suspect: bool = False) -> str:
    step = trainer.state.global_step + (not done)
    value_told = f"{value}" if not _finite(value) else "not finite in another process"
    last = trainer.state.global_step - weights_suspect
    good = _last_good(trainer, last) if trainer.accelerator.is_main_process else None
    kept = f"the last good checkpoint is {good}" if good else "there is no good checkpoint"
    return (
        f"step {step}: {what} is {value_told}; training ended there and no model was written; {kept}. Give a lower "
        f"learning_rate (it is {trainer.args.learning_rate:g}), a longer warm-up or another precision, and another "
        "output_dir"
    )


def _last_good(trainer: Any, last: int) -> Path | None:
    """The newest whole checkpoint up to step `last`; its weights were looked at when they were saved.

    One whose weights gave the loss that is no number is not called good, though they are finite.
    """
    for path in numbered_checkpoints(Path(trainer.args.output_dir)):
        if int(path.name[11:]) <= last and damage(path) in (None, "holds weights only"):
            return path
    return None
