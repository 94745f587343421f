"""Loss and verdict accuracy from the fused LM head's per-token output, summed over batches and processes."""

from __future__ import annotations

from typing import Any

import torch

from cft_trl.training.preparation import RIGHT, WRONG

# Sums kept per logging window.
_NLL, _TOKENS, _RIGHT_HITS, _RIGHTS, _WRONG_HITS, _WRONGS = range(6)


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
        sums = torch.zeros(6, dtype=torch.float64)
        sums[_NLL] = -outputs.log_probs.double().sum()
        sums[_TOKENS] = outputs.label_mask.sum()
        if verdict_mask is not None:
            sums[_RIGHT_HITS:] = _count_verdicts(outputs.is_top1.bool(), verdict_mask)
        self._sums = sums if self._sums is None else self._sums + sums

    def pop(self, accelerator: Any) -> dict[str, float]:
        """The metrics since the last call, over all processes (each must call), and a fresh start."""
        sums, self._sums = self._sums, None
        sums = torch.zeros(6, dtype=torch.float64) if sums is None else sums
        # float64 does not exist on every device; the sums of one logging window fit float32's range, and
        # splitting the loss's mantissa over two float32 keeps its digits.
        high = sums.float()
        low = (sums - high.double()).float()
        both = accelerator.reduce(torch.stack([high, low]).to(accelerator.device), "sum").double().cpu()
        nll, tokens, right_hits, rights, wrong_hits, wrongs = both.sum(0).tolist()
        metrics = {self.loss_name: nll / tokens} if tokens else {}
        if rights + wrongs:
            metrics["verdict_accuracy"] = (right_hits + wrong_hits) / (rights + wrongs)
            metrics["verdict_count"] = rights + wrongs
        if rights:
            metrics["verdict_accuracy_right"] = right_hits / rights
        if wrongs:
            metrics["verdict_accuracy_wrong"] = wrong_hits / wrongs
        return metrics


def _count_verdicts(is_top1: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """-> (4,): hits and totals of right, hits and totals of wrong. A word hits when all its tokens are top-1."""
    mask, is_top1 = mask.flatten(), is_top1.flatten()
    at = mask.nonzero().flatten()
    mask, is_top1 = mask[at], is_top1[at]
    starts = (mask == RIGHT) | (mask == WRONG)
    word = starts.cumsum(0) - 1
    classes = mask[starts]
    misses = torch.zeros(len(classes), dtype=torch.int64, device=mask.device)
    misses.index_add_(0, word, (~is_top1).long())
    counts = []
    for verdict in (RIGHT, WRONG):
        chosen = classes == verdict
        counts += [(chosen & (misses == 0)).sum(), chosen.sum()]
    return torch.stack(counts).double().cpu()
