"""What makes a transformers model write faster in this process, with the texts that it writes anyway.

    lay_out(model)                    weights of float32 layers on a CPU the way the products of few rows read them best
    cache = roomy_cache(model, 300)   keys and values in one piece of memory that has room for 300 tokens

Seen with SmolLM2-135M in float32, one thread of a Xeon with AVX-512 (2026-11-29): of a step of 16 rows 61% are matrix
products, at half the speed of those of 64 rows, and 8% copying the cache to make it one token longer.
`CFT_PLAIN_GENERATION=1` turns all of this off, and how rows are put into batches (`batch_sizes.py`).
"""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import nn
from transformers.cache_utils import DynamicCache, DynamicLayer

PLAIN = "CFT_PLAIN_GENERATION"


def is_plain() -> bool:
    """Whether the user wants none of this."""
    return os.environ.get(PLAIN, "") not in ("", "0")


def lay_out(model: Any) -> Any:
    """Lays the weights of linear layers out by columns, (in, out) in memory, their shape as it was; returns the model.

    A product of few rows by a float32 weight is then 1.2 to 1.5 times as fast on a CPU. Nothing is done on a GPU, to
    other number types, or to a head. For models that are only asked: safetensors do not save such weights.
    """
    if is_plain():
        return model
    head = getattr(model, "get_output_embeddings", lambda: None)()
    for module in model.modules():
        if type(module) is not nn.Linear or module is head:  # a subclass may read its weight in a way of its own
            continue
        weight = module.weight
        if weight.dtype == torch.float32 and weight.device.type == "cpu":
            weight.data = weight.data.t().contiguous().t()
    return model


class _RoomyLayer(DynamicLayer):
    """A cache of one layer that is written into memory it already has; transformers' own copies all of it each time."""

    keys: Any
    values: Any

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self._kept: list[torch.Tensor] = []  # keys and values, with room behind them

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._kept = []
        begin = self.get_seq_length()
        end = begin + key_states.shape[-2]
        if not self._kept or not self._is_mine() or end > self._kept[0].shape[-2]:
            room = max(end, self.room)
            made = [new.new_empty((*new.shape[:-2], room, new.shape[-1])) for new in (key_states, value_states)]
            if begin:
                made[0][..., :begin, :], made[1][..., :begin, :] = self.keys, self.values
            self._kept = made
        for kept, new in zip(self._kept, (key_states, value_states), strict=True):
            kept[..., begin:end, :] = new
        self.keys, self.values = self._kept[0][..., :end, :], self._kept[1][..., :end, :]
        return self.keys, self.values

    def _is_mine(self) -> bool:
        """Whether the keys are still what was written here: others may have put rows in another order."""
        return self.keys.data_ptr() == self._kept[0].data_ptr() and self.keys.shape[0] == self._kept[0].shape[0]


def roomy_cache(model: Any, room: int) -> DynamicCache | None:
    """A cache for `generate` with room for so many tokens; None where the model's layers have caches of other kinds.

    Args:
        model: Who will write.
        room: Tokens of the longest row, prompt and answer.
    """
    if is_plain() or not getattr(model, "_supports_default_dynamic_cache", lambda: False)():
        return None
    if getattr(getattr(model, "generation_config", None), "cache_implementation", None):  # it asks for one of its own
        return None
    cache = DynamicCache(config=model.config)
    if not cache.layers or any(type(layer) is not DynamicLayer for layer in cache.layers):
        return None
    cache.layers = [_RoomyLayer(room) for _ in cache.layers]
    return cache
