"""What a CPU does with one tile of logits in TRL's fused LM head, in a third of the passes over memory.

TRL folds a tile (tokens x words) with Triton on a GPU; elsewhere it writes every step down as a tensor of its own, a
dozen of them, which takes a CPU half as long as the head's matrix products (benchmarks/RESULTS.md). These two compute
the same numbers where the tile lies: forward the softmax's statistics, backward the gradient of the logits. What CFT
does not ask for (a temperature, soft-capped logits, a gradient of the entropy) is left to TRL's.

The arguments are those of `_forward_tile` and `_backward_tile` in trl/kernels/chunked_logprob.py, TRL 1.16. The
statistics are float32 and updated in place; what was in a float32 tile is lost.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch


def forward_tile(original: Callable[..., None]) -> Callable[..., None]:
    """-> a function that folds a tile into the running statistics of its tokens' softmax; `original` is TRL's."""

    def fold(
        tile: torch.Tensor, stride: int, targets: torch.Tensor, running_max: torch.Tensor, sum_exp: torch.Tensor,
        x_sum_exp: torch.Tensor, sq_sum_exp: torch.Tensor, z_sum: torch.Tensor, max_before_target: torch.Tensor,
        target_logit: torch.Tensor, start: int, words: int, **settings,
    ) -> None:  # fmt: skip
        if _transformed(settings) or settings["HAS_LOG_SUM_SQ_PROBS"] or settings["HAS_MEAN_LOGITS"]:
            original(tile, stride, targets, running_max, sum_exp, x_sum_exp, sq_sum_exp, z_sum, max_before_target,
                target_logit, start, words, **settings)  # fmt: skip
            return
        logits, (tokens, at) = tile.float(), _targets_here(targets, start, words)
        highest = logits.amax(-1)
        own = logits[tokens]
        target_logit[tokens] = own.gather(-1, at.unsqueeze(-1)).squeeze(-1)
        if settings["HAS_IS_TOP1"]:
            # The highest logit of a word before the target: of the whole tile, of nothing, or of a part.
            before = highest.masked_fill(targets < start, -math.inf)
            before[tokens] = own.masked_fill_(torch.arange(words) >= at.unsqueeze(-1), -math.inf).amax(-1)
            torch.maximum(max_before_target, before, out=max_before_target)
        new_max = torch.maximum(running_max, highest)
        rescale = torch.exp(running_max - new_max)
        exponentials = logits.sub_(new_max.unsqueeze(-1)).exp()
        sums = exponentials.sum(-1)
        sum_exp.mul_(rescale).add_(sums)
        if settings["HAS_ENTROPY"]:
            x_sum_exp.mul_(rescale).add_(exponentials.mul_(logits).sum(-1)).addcmul_(sums, new_max)
        running_max.copy_(new_max)

    return fold


def backward_tile(original: Callable[..., None]) -> Callable[..., None]:
    """-> a function that replaces a tile's logits by the gradient of the loss with respect to them."""

    def differentiate(
        tile: torch.Tensor, stride: int, targets: torch.Tensor, log_z: torch.Tensor, entropy: torch.Tensor,
        grad_logprobs: torch.Tensor, grad_entropy: torch.Tensor, start: int, words: int, **settings,
    ) -> None:  # fmt: skip
        if _transformed(settings) or settings["HAS_ENTROPY_GRAD"] or not settings["HAS_LOGPROB_GRAD"]:
            original(tile, stride, targets, log_z, entropy, grad_logprobs, grad_entropy, start, words, **settings)
            return
        logits, (tokens, at) = tile.float(), _targets_here(targets, start, words)
        # d(log p of the target) / d(logit j) = 1[j is the target] - p_j
        gradient = logits.sub_(log_z.unsqueeze(-1)).exp_().mul_(-grad_logprobs.unsqueeze(-1))
        gradient[tokens, at] += grad_logprobs[tokens]
        if gradient is not tile:  # another type than float32
            tile.copy_(gradient)

    return differentiate


def _transformed(settings: dict) -> bool:
    return settings["HAS_SOFTCAP"] or settings["logit_scale"] != 1 or settings["inv_t"] != 1


def _targets_here(targets: torch.Tensor, start: int, words: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Which tokens have their target among the tile's words, and where in the tile it stands."""
    at = targets - start
    tokens = ((at >= 0) & (at < words)).nonzero().squeeze(-1)
    return tokens, at[tokens]
