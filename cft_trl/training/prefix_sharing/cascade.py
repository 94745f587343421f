"""Attention over a pack on a CPU, without masks: every stretch attends to itself, and what hangs on it attends to it.

One prefix with two critiques is four calls of PyTorch's kernel, none of which sees a token it may not see:

    tokens           prefix  |  first critique  |  second critique
    by itself        causal  |  causal          |  causal
    to the prefix            |  both critiques together, unmasked

A token's share of each call is known from the logarithm of its softmax's lse, which the kernel returns beside
the output; the shares make the one softmax over all that the token sees. Backwards the kernel needs nothing but the
whole output and the whole lse to give a part's exact gradient. So a prefix is read once for all its branches,
half of a branch's square is never computed, and keys and values are stored once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from cft_trl.training.prefix_sharing.layout import Stretch

_KERNEL = "_scaled_dot_product_flash_attention_for_cpu"
# So many pairs of tokens, and fewer, are differentiated in fp32: PyTorch 2.13 takes up to six times as long in bf16.
_FEW_PAIRS = 300 * 300


def can_cascade(query: torch.Tensor, value: torch.Tensor, dropout: float) -> bool:
    """Whether the kernel takes these: it is a CPU's, without dropout, for heads of one size.

    Args:
        query, value: (batch, heads, length, size).
        dropout: Of the attention's weights.
    """
    return (
        query.device.type == "cpu"
        and dropout == 0
        and query.shape[-1] == value.shape[-1]
        and hasattr(torch.ops.aten, f"{_KERNEL}_backward")
    )


def cascade_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, parts: list[Stretch], scaling: float | None = None
) -> torch.Tensor:
    """Attention of a pack's tokens.

    Args:
        query: (1, heads, length, head dim); key and value: (1, key/value heads, length, head dim).
        parts: the pack's stretches, in order.
        scaling: of the logits; one over the root of the head dim if none is given.

    Returns:
        (1, length, heads, head dim), contiguous, of the queries' type, or of autocast's where that is on.
    """
    if torch.is_autocast_enabled("cpu"):  # which casts what PyTorch's own attention is given
        query, key, value = (tensor.to(torch.get_autocast_dtype("cpu")) for tensor in (query, key, value))
    return _Cascade.apply(query, key, value, parts, scaling)


class _Cascade(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, parts: list[Stretch],
                scaling: float | None) -> torch.Tensor:  # fmt: skip
        attend = getattr(torch.ops.aten, _KERNEL)
        _, heads, length, size = query.shape
        keys, values = _repeat(key, heads), _repeat(value, heads)
        precise = torch.promote_types(query.dtype, torch.float32)
        output = query.new_empty((1, length, heads, size), dtype=precise)
        lse = query.new_empty((1, heads, length), dtype=precise)
        for tokens, seen, is_causal in _calls(parts):
            out, log = attend(query[:, :, tokens], keys[:, :, seen], values[:, :, seen], 0.0, is_causal, scale=scaling)
            whole, before = output[:, tokens].transpose(1, 2), lse[:, :, tokens]
            if is_causal:
                whole.copy_(out)
                before.copy_(log)
            else:
                whole.lerp_(out.to(precise), torch.sigmoid(log - before).unsqueeze(-1))
                before.copy_(torch.logaddexp(before, log))
        output = output.to(query.dtype)
        ctx.save_for_backward(query, key, value, output, lse)
        ctx.parts, ctx.scaling = parts, scaling
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        differentiate = getattr(torch.ops.aten, f"{_KERNEL}_backward")
        query, key, value, output, lse = ctx.saved_tensors
        heads, precise = query.shape[1], lse.dtype
        given = [
            gradient.transpose(1, 2), query, _repeat(key, heads), _repeat(value, heads), output.transpose(1, 2)
        ]  # fmt: skip
        exact = [tensor.to(precise) for tensor in given]
        groups = heads // key.shape[1]
        found = tuple(torch.empty_like(tensor, dtype=precise) for tensor in (query, key, value))
        for tokens, seen, is_causal in _calls(ctx.parts):
            few = (tokens.stop - tokens.start) * (seen.stop - seen.start) <= _FEW_PAIRS
            where = (tokens, tokens, seen, seen, tokens)
            read = [tensor[:, :, at] for tensor, at in zip(exact if few else given, where, strict=True)]
            of_query, *of_others = differentiate(*read, lse[:, :, tokens], 0.0, is_causal, scale=ctx.scaling)
            of_others = [part.unflatten(1, (-1, groups)).sum(2) for part in of_others]
            for whole, part, at in zip(found, (of_query, *of_others), (tokens, seen, seen), strict=True):
                if is_causal:
                    whole[:, :, at] = part
                else:
                    whole[:, :, at] += part
        return *(whole.to(query.dtype) for whole in found), None, None


def _calls(parts: list[Stretch]) -> Iterator[tuple[slice, slice, bool]]:
    """Queries, keys, is_causal. The causal ones come first: they give each output and log-sum-exp its first value."""
    for part in parts:
        yield slice(part.start, part.end), slice(part.start, part.end), True
    for part in parts:
        if part.end < part.until:
            yield slice(part.end, part.until), slice(part.start, part.end), False


def _repeat(tensor: torch.Tensor, heads: int) -> torch.Tensor:
    """A head for each of the queries'; the kernel takes fewer, but then shares its work among as few threads."""
    return tensor.repeat_interleave(heads // tensor.shape[1], dim=1)
