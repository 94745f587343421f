"""Attention over prefix trees: what several rows begin with is computed once, and every row sees only itself.

A pack lays out trees depth first: a prefix, then each branch with all that hangs on it. Two critiques of one response:

    tokens       Q Q R R | r c c | r c c c      query and response once, then two branches
    positions    0 1 2 3   4 5 6   4 5 6 7      as in the whole rows; the loss of a branch's first token is in it too,
    seen until   11 ...11  7 7 7   11 ... 11    because each begins with the prompt's last token (r)

One number per token says it all: a token is seen by those that come after it and before `seen_until`. It travels in
place of the attention mask, as integers of shape (1, 1, 1, length), which transformers hands to each layer untouched.
On a GPU it becomes a FlexAttention block mask; on a CPU a prefix is read once for all its branches (see
`cascade.py`); elsewhere each stretch of tokens attends to [its prefix, itself] in a call of its own, so that
nowhere a length x length mask exists.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any
from weakref import ref

import torch

from cft_trl.errors import CFTError
from cft_trl.training.prefix_sharing.cascade import can_cascade, cascade_attention
from cft_trl.training.prefix_sharing.layout import Stretch, position_ids, stretches

NAME = "shared_prefix"


def is_layout(attention_mask: torch.Tensor | None) -> bool:
    """Whether an attention mask is a layout: masks of transformers are of booleans or floats once they have 4 axes."""
    if attention_mask is None or attention_mask.ndim != 4:
        return False
    return not attention_mask.is_floating_point() and attention_mask.dtype != torch.bool


@dataclass
class _PackLayout:
    """A pack's layout, with the masks that all layers use: read off the tensor once, not once per layer."""

    seen_until: torch.Tensor
    parts: list[Stretch]
    masks: dict[tuple[int, torch.dtype], torch.Tensor] = field(default_factory=dict)
    block_mask: Any = None

    @property
    def longest_row(self) -> int:
        return 1 + max(position_ids(self.seen_until.flatten().tolist()))

    def mask(self, part: Stretch, dtype: torch.dtype) -> torch.Tensor:
        """Additive, (tokens, prefix + tokens): all of the prefix, and causal behind it."""
        tokens = part.end - part.start
        before = sum(self.parts[i].end - self.parts[i].start for i in part.prefix)
        if (part.start, dtype) not in self.masks:
            mask = torch.zeros(tokens, before + tokens, dtype=dtype, device=self.seen_until.device)
            ones = torch.ones(tokens, tokens, dtype=torch.bool, device=mask.device).triu(1)
            mask[:, before:].masked_fill_(ones, float("-inf"))
            self.masks[part.start, dtype] = mask
        return self.masks[part.start, dtype]

    def flex(self) -> Any:
        """The layout as a FlexAttention block mask."""
        if self.block_mask is None:
            from torch.nn.attention.flex_attention import create_block_mask

            until = self.seen_until.flatten()
            length = len(until)
            self.block_mask = create_block_mask(
                lambda b, h, q, k: (k <= q) & (q < until[k]), None, None, length, length, device=until.device
            )
        return self.block_mask


_last: tuple[Any, _PackLayout] | None = None


def _plan(seen_until: torch.Tensor) -> _PackLayout:
    # Every layer is given the same tensor, and gradient checkpointing gives it again in the backward pass.
    global _last
    if _last is None or _last[0]() is not seen_until:
        _last = ref(seen_until), _PackLayout(seen_until, stretches(seen_until.flatten().tolist()))
    return _last[1]


def shared_prefix_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """An attention function for `transformers.AttentionInterface`; without a layout it is transformers' `sdpa`.

    Args:
        query: (1, heads, length, head dim); key and value: (1, key/value heads, length, head dim).
        attention_mask: integers of shape (1, 1, 1, length) are a layout (see the top of this file).

    Returns:
        (1, length, heads, head dim), and None in place of attention weights.

    Raises:
        CFTError: the layer's sliding window is shorter than a row of the pack, or it caps its logits.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if not is_layout(attention_mask):
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **kwargs)
    plan = _plan(attention_mask)
    window = kwargs.get("sliding_window")
    if window is not None and plan.longest_row > window:
        raise CFTError(
            f"packs: this model's sliding window of {window:,} tokens is shorter than a row of {plan.longest_row:,}; "
            f"set max_length={window}, or leave share_prefixes and varlen_attention off"
        )
    if query.device.type == "cuda":
        from transformers.integrations.flex_attention import flex_attention_forward

        output, _ = flex_attention_forward(module, query, key, value, plan.flex(), scaling=scaling, **kwargs)
        return output, None
    if kwargs.get("softcap") is not None:
        raise CFTError("share_prefixes: this model caps its attention logits, which needs a GPU; leave it off here")
    if can_cascade(query, value, dropout):
        return cascade_attention(query, key, value, plan.parts, scaling), None
    return _by_stretches(plan, query, key, value, dropout, scaling), None


def _by_stretches(
    plan: _PackLayout,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    dropout: float,
    scaling: float | None,
) -> torch.Tensor:
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    lengths = [part.end - part.start for part in plan.parts]
    # `split`, because its backward joins the parts' gradients once; a slice's makes a whole zero tensor each.
    queries, keys, values = (tensor.split(lengths, dim=2) for tensor in (query, key, value))
    outputs = []
    for i, part in enumerate(plan.parts):
        k, v = keys[i], values[i]
        if part.prefix:
            k = torch.cat([*(keys[j] for j in part.prefix), k], dim=2)
            v = torch.cat([*(values[j] for j in part.prefix), v], dim=2)
        outputs.append(
            torch.nn.functional.scaled_dot_product_attention(
                queries[i],
                k,
                v,
                attn_mask=plan.mask(part, query.dtype) if part.prefix else None,
                dropout_p=dropout,
                is_causal=not part.prefix,
                scale=scaling,
            )
        )
    return torch.cat(outputs, dim=2).transpose(1, 2).contiguous()


def use_shared_attention(model: Any, longest_row: int | None = None) -> None:
    """Makes a model's attention read layouts; batches without one are computed by `sdpa` as before.

    Args:
        model: a transformers model, PEFT-wrapped or not.
        longest_row: the longest row, tokens, to compare with the model's sliding windows.

    Raises:
        CFTError: the model's attention cannot be replaced, it has layers that are no attention, or a sliding window is
            shorter than a row.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    if why := why_not_shared(model.config, model, longest_row):
        raise CFTError(f"share_prefixes: {why}; leave share_prefixes off")
    AttentionInterface.register(NAME, shared_prefix_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)


def use_varlen_attention(model: Any, longest_row: int | None, device: str) -> bool:
    """Has a model compute packs of rows that share nothing row by row, without a mask; -> whether it does.

    Only on a CPU, where transformers masks length x length; GPUs have kernels for it. An attention other than `sdpa`
    was chosen by the user, and stays.

    Args:
        model: A transformers model, PEFT-wrapped or not.
        longest_row: The longest row, tokens, to compare with the model's sliding windows.
        device: What it is computed on: "cpu", "cuda", …
    """
    if device != "cpu" or model.config._attn_implementation != "sdpa":
        return False
    if why_not_shared(model.config, model, longest_row if longest_row is not None else sys.maxsize, device):
        return False  # without a limit a row may be longer than a sliding window
    use_shared_attention(model, longest_row)
    return True


def why_not_shared(config: Any, model: Any, longest_row: int | None = None, device: str | None = None) -> str | None:
    """Why a model cannot share prefixes, in a few words; None if it can.

    Args:
        config: the model's configuration.
        model: the model or its class; None where the class is not known, and then nothing is said of its attention.
        longest_row: the longest row, tokens, to compare with the model's sliding windows.
        device: "cpu", "cuda", …; None where that does not matter yet.
    """
    config = config.get_text_config()
    others = set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    if others:
        return f"models of type {config.model_type} have layers of type {', '.join(sorted(others))}"
    if model is not None and not (model._can_set_attn_implementation() and getattr(model, "_supports_sdpa", False)):
        return f"models of type {config.model_type} have an attention of their own"
    window = getattr(config, "sliding_window", None)
    slides = getattr(config, "use_sliding_window", True) and "sliding_attention" in (
        getattr(config, "layer_types", None) or ["sliding_attention"]
    )
    if window and slides and longest_row is not None and longest_row > window:
        return (
            f"the model's sliding window of {window:,} tokens is shorter than rows of up to {longest_row:,} "
            f"(max_length={window} would fit)"
        )
    if device == "cpu" and getattr(config, "attn_logit_softcapping", None):
        return "this model caps its attention logits, which needs a GPU"
    return None
