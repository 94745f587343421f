"""Loss and verdict accuracy from the fused LM head's per-token output, summed over batches and processes.

Of a mixture (`mixture.py`) each part's loss is summed apart: `critique_loss` and the verdicts are those of the parts of
objective `cft`, `loss_NAME` is a part's, and `target_loss` is over the target tokens of all parts, where not all are
critiques.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from cft_trl.training.encoded import PART, RIGHT, WRONG


class TargetMetrics:
    """Running sums over the target tokens seen since the last `pop`.

    Sums, not means of means: a batch holds few verdicts, and the mean of their ratios would depend on the batching.

    Args:
        objective: names the loss: `critique_loss` for `cft`, else `target_loss`.
        accelerator: the trainer's.
        evaluation: batches are gathered over processes as they come, without the rows that accelerate repeats to
            give every process as many; otherwise each process sums its own and `pop` adds them up.
    """

    def __init__(self, objective: str, accelerator: Any, evaluation: bool) -> None:
        self.objective = objective
        self.parts: tuple[tuple[str, str], ...] = ()
        self.accelerator = accelerator
        self.evaluation = evaluation
        self._sums: torch.Tensor | None = None

    def begin(self, parts: Sequence[tuple[str, str]] = ()) -> None:
        """Forgets all sums; from now on they are of a mixture of these parts, each its name and its objective."""
        self.parts, self._sums = tuple(parts), None

    @torch.no_grad()
    def add(
        self,
        outputs: Any,
        input_ids: torch.Tensor,
        verdict_mask: torch.Tensor | None,
        row_lengths: torch.Tensor | None,
    ) -> None:
        """Adds one batch.

        Args:
            outputs: TRL's `FusedCausalLMOutput`; its fields are (batch, length - 1), zero where there is no loss.
            input_ids: (batch, length), or (1, total length) where rows are joined.
            verdict_mask: shaped like `input_ids` (see `cft_trl.training.preparation`), or None.
            row_lengths: (rows,), the lengths of joined rows, or None.
        """
        # One column per sum, one line per row of the dataset: a repeated row can only be left out as a whole.
        # Position i of the outputs scores token i + 1; virtual tokens of an adapter come before the first.
        width = input_ids.shape[1] - 1
        log_probs, targets = outputs.log_probs[:, -width:], outputs.label_mask[:, -width:]
        if row_lengths is None:
            rows = torch.arange(len(input_ids), device=input_ids.device)[:, None].expand(-1, width)
            count = len(input_ids)
        else:
            count = len(row_lengths)
            rows = torch.repeat_interleave(torch.arange(count, device=input_ids.device), row_lengths)[None, 1:]
        parts = max(len(self.parts), 1)
        precision = _precision(input_ids.device)
        losses = torch.zeros(count * parts, 2, dtype=precision, device=input_ids.device)
        values = torch.stack([-log_probs.to(precision), targets.to(precision)], dim=-1)
        of_part = rows
        if self.parts and verdict_mask is not None:
            of_part = rows * parts + verdict_mask[:, 1:] // PART
        losses.index_add_(0, of_part.flatten(), values.flatten(0, 1))
        verdicts = torch.zeros(count, 4, dtype=precision, device=input_ids.device)
        if verdict_mask is not None:
            _add_verdicts(verdicts, outputs.is_top1[:, -width:].bool(), verdict_mask[:, 1:] % PART, rows)
        sums = torch.cat([verdicts, losses.view(count, 2 * parts)], dim=1)
        if self.evaluation:
            sums = self.accelerator.gather_for_metrics(sums)
        sums = sums.sum(0)
        self._sums = sums if self._sums is None else self._sums + sums

    def clear(self) -> None:
        """Forgets all sums."""
        self._sums = None

    def pop(self) -> dict[str, float]:
        """The metrics since the last call, over all processes (each must call), and a fresh start."""
        sums, device = self._sums, self.accelerator.device
        self.clear()
        if sums is None:
            sums = torch.zeros(4 + 2 * max(len(self.parts), 1), dtype=_precision(device), device=device)
        if not self.evaluation:
            sums = self.accelerator.reduce(sums, "sum")
        right_hits, rights, wrong_hits, wrongs, *losses = sums.tolist()
        metrics = self._losses(list(zip(losses[::2], losses[1::2], strict=True)))
        if rights + wrongs:
            metrics["verdict_accuracy"] = (right_hits + wrong_hits) / (rights + wrongs)
            metrics["verdict_count"] = rights + wrongs
        if rights:
            metrics["verdict_accuracy_right"] = right_hits / rights
        if wrongs:
            metrics["verdict_accuracy_wrong"] = wrong_hits / wrongs
        return metrics

    def _losses(self, sums: Sequence[tuple[float, float]]) -> dict[str, float]:
        """Each part's sums of nats and tokens as means, by their names."""
        objectives = [objective for _, objective in self.parts] or [self.objective]
        critiques = [sum_ for sum_, objective in zip(sums, objectives, strict=True) if objective == "cft"]
        found = {"critique_loss": critiques, "target_loss": sums if len(critiques) < len(sums) else []}
        found |= {f"loss_{name}": [sum_] for (name, _), sum_ in zip(self.parts, sums, strict=False)}
        totals = {name: tuple(map(sum, zip(*of_name, strict=True))) for name, of_name in found.items() if of_name}
        return {name: nats / tokens for name, (nats, tokens) in totals.items() if tokens}


def _precision(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64  # MPS has no float64


def _add_verdicts(sums: torch.Tensor, is_top1: torch.Tensor, mask: torch.Tensor, rows: torch.Tensor) -> None:
    """Adds hits and totals of right and of wrong to the columns. A word hits when all its tokens are top-1."""
    at = mask.flatten().nonzero().flatten()
    mask, is_top1, rows = mask.flatten()[at], is_top1.flatten()[at], rows.flatten()[at]
    starts = (mask == RIGHT) | (mask == WRONG)
    classes, rows = mask[starts], rows[starts]
    misses = torch.zeros_like(classes).index_add_(0, starts.cumsum(0) - 1, (~is_top1).to(classes.dtype))
    for column, verdict in ((0, RIGHT), (2, WRONG)):
        total = classes == verdict
        values = torch.stack([total & (misses == 0), total], dim=-1).to(sums.dtype)
        sums[:, column : column + 2].index_add_(0, rows, values)


def weigh_verdicts(log_probs: torch.Tensor, verdict_mask: torch.Tensor, weight: float) -> torch.Tensor:
    """Multiplies the log probabilities of verdict tokens by `weight`.

    Args:
        log_probs: (rows, tokens - 1, plus an adapter's virtual tokens in front), of each next token.
        verdict_mask: (rows, tokens), as `cft_trl.training.encoded` says.
    """
    # The head's outputs belong to the next token: position i scores token i + 1.
    weights = torch.where(verdict_mask[:, 1:] % PART > 0, weight, 1.0)
    # Prompt-learning adapters put virtual tokens before the row's own.
    virtual = log_probs.shape[1] - weights.shape[1]
    return log_probs * torch.nn.functional.pad(weights, (virtual, 0), value=1.0)
