"""Loss and verdict accuracy from the fused LM head's per-token output, summed over batches and processes."""

from __future__ import annotations

from typing import Any

import torch

from cft_trl.training.encoded import RIGHT, WRONG


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
        self.loss_name = "critique_loss" if objective == "cft" else "target_loss"
        self.accelerator = accelerator
        self.evaluation = evaluation
        self._sums: torch.Tensor | None = None

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
        sums = torch.zeros(count, 6, dtype=_precision(input_ids.device), device=input_ids.device)
        values = torch.stack([-log_probs.to(sums.dtype), targets.to(sums.dtype)], dim=-1)
        sums[:, :2].index_add_(0, rows.flatten(), values.flatten(0, 1))
        if verdict_mask is not None:
            _add_verdicts(sums, outputs.is_top1[:, -width:].bool(), verdict_mask[:, 1:], rows)
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
            sums = torch.zeros(6, dtype=_precision(device), device=device)
        if not self.evaluation:
            sums = self.accelerator.reduce(sums, "sum")
        nll, tokens, right_hits, rights, wrong_hits, wrongs = sums.tolist()
        metrics = {self.loss_name: nll / tokens} if tokens else {}
        if rights + wrongs:
            metrics["verdict_accuracy"] = (right_hits + wrong_hits) / (rights + wrongs)
            metrics["verdict_count"] = rights + wrongs
        if rights:
            metrics["verdict_accuracy_right"] = right_hits / rights
        if wrongs:
            metrics["verdict_accuracy_wrong"] = wrong_hits / wrongs
        return metrics


def _precision(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64  # MPS has no float64


def _add_verdicts(sums: torch.Tensor, is_top1: torch.Tensor, mask: torch.Tensor, rows: torch.Tensor) -> None:
    """Adds hits and totals of right and wrong to columns 2 to 5. A word hits when all its tokens are top-1."""
    at = mask.flatten().nonzero().flatten()
    mask, is_top1, rows = mask.flatten()[at], is_top1.flatten()[at], rows.flatten()[at]
    starts = (mask == RIGHT) | (mask == WRONG)
    classes, rows = mask[starts], rows[starts]
    misses = torch.zeros_like(classes).index_add_(0, starts.cumsum(0) - 1, (~is_top1).to(classes.dtype))
    for column, verdict in ((2, RIGHT), (4, WRONG)):
        total = classes == verdict
        values = torch.stack([total & (misses == 0), total], dim=-1).to(sums.dtype)
        sums[:, column : column + 2].index_add_(0, rows, values)


def weigh_verdicts(log_probs: torch.Tensor, verdict_mask: torch.Tensor, weight: float) -> torch.Tensor:
    """Multiplies the log probabilities of verdict tokens by `weight`.

    Args:
        log_probs: (rows, tokens - 1, plus an adapter's virtual tokens in front), of each next token.
        verdict_mask: (rows, tokens), over 0 where a token is a verdict's.
    """
    # The head's outputs belong to the next token: position i scores token i + 1.
    weights = torch.where(verdict_mask[:, 1:] > 0, weight, 1.0)
    # Prompt-learning adapters put virtual tokens before the row's own.
    virtual = log_probs.shape[1] - weights.shape[1]
    return log_probs * torch.nn.functional.pad(weights, (virtual, 0), value=1.0)
