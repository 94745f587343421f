"""Loss and verdict accuracy from the fused LM head's per-token output, summed over batches and processes."""

from __future__ import annotations

from typing import Any

import torch

from cft_trl.training.preparation import RIGHT, WRONG


class TargetMetrics:
    """Running sums over the target tokens seen since the last `pop`.

    Sums, not means of means: a batch holds few verdicts, and the mean of their ratios would depend on the batching.
    """

    def __init__(self, objective: str) -> None:
        self.loss_name = "critique_loss" if objective == "cft" else "target_loss"
        self._sums: torch.Tensor | None = None

    @torch.no_grad()
    def add(self, outputs: Any, verdict_mask: torch.Tensor | None) -> None:
        """Adds one batch.

        Args:
            outputs: TRL's `FusedCausalLMOutput`; its fields are (batch, length - 1), zero where there is no loss.
            verdict_mask: (batch, length - 1), aligned with the fields (see `cft_trl.training.preparation`), or None.
        """
        precision = _precision(outputs.log_probs.device)
        nll, tokens = -outputs.log_probs.to(precision).sum(), outputs.label_mask.sum()
        verdicts = [torch.zeros_like(tokens)] * 4
        if verdict_mask is not None:
            verdicts = _count_verdicts(outputs.is_top1.bool(), verdict_mask)
        sums = torch.stack([value.to(precision) for value in (nll, tokens, *verdicts)])
        self._sums = sums if self._sums is None else self._sums + sums

    def pop(self, accelerator: Any) -> dict[str, float]:
        """The metrics since the last call, over all processes (each must call), and a fresh start."""
        sums, self._sums = self._sums, None
        if sums is None:
            sums = torch.zeros(6, dtype=_precision(accelerator.device), device=accelerator.device)
        nll, tokens, right_hits, rights, wrong_hits, wrongs = accelerator.reduce(sums, "sum").tolist()
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


def _count_verdicts(is_top1: torch.Tensor, mask: torch.Tensor) -> list[torch.Tensor]:
    """-> hits and total of right, hits and total of wrong. A word hits when all its tokens are top-1."""
    at = mask.flatten().nonzero().flatten()
    mask, is_top1 = mask.flatten()[at], is_top1.flatten()[at]
    starts = (mask == RIGHT) | (mask == WRONG)
    classes = mask[starts]
    misses = torch.zeros_like(classes).index_add_(0, starts.cumsum(0) - 1, (~is_top1).to(classes.dtype))
    counts = []
    for verdict in (RIGHT, WRONG):
        chosen = classes == verdict
        counts += [(chosen & (misses == 0)).sum(), chosen.sum()]
    return counts
