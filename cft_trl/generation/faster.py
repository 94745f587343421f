"""What makes a transformers model write faster in this process, with the texts that it writes anyway.

    lay_out(model)                    weights of float32 layers on a CPU the way the products of few rows read them best
    cache = roomy_cache(model, 300)   keys and values in one piece of memory that has room for 300 tokens
    rows_at_once(model, 64, 900)      as many rows as fit in memory, 64 at most

Seen with SmolLM2-135M in float32, one thread of a Xeon with AVX-512 (2026-11-29): of a step of 16 rows 61% are matrix
products, at half the speed of those of 64 rows, and 8% copying the cache to make it one token longer.
`CFT_PLAIN_GENERATION=1` turns all of this off (and rows are then 16 at most).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.cache_utils import DynamicCache, DynamicLayer

PLAIN = "CFT_PLAIN_GENERATION"
_PLAIN_AT_ONCE = 16
_SHARE = 0.5  # of the memory that is free


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


def rows_at_once(model: Any, most: int, length: int) -> int:
    """How many rows are computed together: `most`, or what half of the free memory holds of them.

    Args:
        most: The number asked for.
        length: Tokens of the longest row, prompt and answer.
    """
    if is_plain():
        return min(most, _PLAIN_AT_ONCE)
    config = model.config.get_text_config()

    def size_of(name: str, default: int = 0) -> int:
        found = getattr(config, name, None) or default
        return max(found) if isinstance(found, list | tuple) else found  # some models have a size per layer

    hidden, heads = size_of("hidden_size"), size_of("num_attention_heads", 1)
    width = size_of("head_dim", hidden // heads)
    kept = 2 * size_of("num_hidden_layers") * size_of("num_key_value_heads", heads) * width  # per token, all layers
    inside = 4 * hidden + 3 * size_of("intermediate_size", 4 * hidden)  # per token, one layer at a time
    size = 4 if model.dtype == torch.float32 else 2
    row = (kept + inside) * size * length + 12 * size_of("vocab_size")  # scores of one place, and copies of them
    return max(1, min(most, int(_SHARE * _free_bytes(model.device) / row)))


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        # What torch has reserved and does not use is free to it too.
        reserved = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + reserved
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            told = dict(line.split(":", 1) for line in lines)
        free = 1024 * int(told["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):  # no Linux
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    processes = os.environ.get("LOCAL_WORLD_SIZE", "")  # those of this machine, which write at the same time
    return min([free, *_left_in_groups()]) // max(1, int(processes) if processes.isdigit() else 1)


def _left_in_groups(root: str = "") -> Iterator[int]:
    """What each limit on the memory of this process's control groups leaves: a container's, or a batch system's.

    Args:
        root: Where /proc and /sys lie.
    """
    try:
        lines = Path(f"{root}/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:  # "0::/jobs/7" in version 2, "4:memory:/jobs/7" in version 1
        _, controllers, own = line.split(":", 2)
        first = controllers == "memory"
        if not first and controllers:
            continue
        names = ("limit_in_bytes", "usage_in_bytes", "total_inactive_file")
        names = names if first else ("max", "current", "inactive_file")
        top = Path(f"{root}/sys/fs/cgroup/{controllers}")
        place = top / own.strip("/")
        for folder in (place, *place.parents):  # inside a container its own group may be the topmost one seen
            if folder.is_relative_to(top):
                yield from _left(folder, *names)


def _left(group: Path, limit: str, usage: str, files: str) -> Iterator[int]:
    try:
        most, used = ((group / f"memory.{name}").read_text(encoding="ascii").strip() for name in (limit, usage))
        stat = dict(line.split() for line in (group / "memory.stat").read_text(encoding="ascii").splitlines())
        if most != "max":  # files that were read are in what is used, and make room when it is wanted
            yield max(0, int(most) - max(0, int(used) - int(stat.get(files, 0))))
    except (OSError, ValueError):
        return
