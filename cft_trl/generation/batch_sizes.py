"""Which rows a transformers model in this process writes together: what memory holds, and what is done soonest.

    batch_sizes(model, lengths=[20, 22, 31, 40, 2300], most=64, steps=192)      # [4, 1] on a CPU

Rows of a batch are as wide as its longest one. One prompt of 2,300 tokens among 23 short ones makes all of them read
2,300 places, and look at as many in every step; on a CPU that takes longer than a batch more.
`CFT_PLAIN_GENERATION=1` turns this off: 16 rows, whatever their lengths.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cft_trl.generation.faster import is_plain

_PLAIN_AT_ONCE = 16
_SHARE = 0.5  # of the memory that is free

# What a row costs, by the time of a step of one row. Seen with SmolLM2-135M, a Xeon with AMX, one and two threads,
# float32 and bfloat16 (2026-11-30): 40 to 130 tokens are read in the time of a step, and what lies in a cache is read
# at half the speed of weights.
_READ_PER_STEP = 60
_CACHE_SLOWER = 2


@dataclass(frozen=True, slots=True)
class _Sizes:
    """What is known of a model: bytes and numbers."""

    weights: int  # bytes
    parameters: int
    kept: int  # bytes of keys and values per token
    inside: int  # bytes of one layer's results per token
    scores: int  # bytes of a row's scores
    attention: int  # multiplications per token and place it looks at, all layers

    @classmethod
    def of(cls, model: Any) -> _Sizes:
        config = model.config.get_text_config()

        def size_of(name: str, default: int = 0) -> int:
            found = getattr(config, name, None) or default
            return max(found) if isinstance(found, list | tuple) else found  # some models have a size per layer

        hidden, heads, layers = size_of("hidden_size"), size_of("num_attention_heads", 1), size_of("num_hidden_layers")
        width = size_of("head_dim", hidden // heads)
        size = 4 if model.dtype == torch.float32 else 2
        parameters = list(model.parameters())
        return cls(
            weights=sum(one.nbytes for one in parameters),
            parameters=sum(one.numel() for one in parameters),
            kept=2 * layers * size_of("num_key_value_heads", heads) * width * size,
            inside=(4 * hidden + 3 * size_of("intermediate_size", 4 * hidden)) * size,
            scores=12 * size_of("vocab_size"),  # of one place, and copies of them
            attention=2 * layers * heads * width,
        )

    def held(self, free: int, length: int) -> int:
        """How many rows of a length some free memory holds, one at least."""
        return max(1, int(_SHARE * free / ((self.kept + self.inside) * length + self.scores)))

    def cost(self, rows: int, width: int, steps: int) -> float:
        """How long a batch takes on a CPU, in steps of one short row."""
        looked_at = rows * (width + steps / 2) * self.kept * _CACHE_SLOWER / self.weights
        attention = 1 + _CACHE_SLOWER * width * self.attention / self.parameters
        return steps * (1 + looked_at) + rows * width * attention / _READ_PER_STEP


def batch_sizes(model: Any, lengths: Sequence[int], most: int, steps: int) -> list[int]:
    """Divides rows into batches -> how many rows each has, in their order.

    On a CPU it is the division that takes the least time, by what steps and reading take there; on a GPU, where a step
    takes as long for many rows as for one, as many rows as memory holds.

    Args:
        model: Who will write.
        lengths: Tokens of the rows, ascending.
        most: Rows of a batch at most.
        steps: Tokens that will be written of each, at most.
    """
    if is_plain():
        return _largest(len(lengths), lambda begin, rows: min(rows, _PLAIN_AT_ONCE), most)
    sizes, free = _Sizes.of(model), _free_bytes(model.device)

    def held(begin: int, rows: int) -> int:
        while sizes.held(free, lengths[begin + rows - 1] + steps) < rows:
            rows -= 1
        return rows

    if model.device.type != "cpu":
        return _largest(len(lengths), held, most)
    # least[n] is the least time for the first n rows, last[n] the size of the last batch of that division.
    least, last = [0.0], [0]
    for end, width in enumerate(lengths, 1):
        largest = min(most, end, sizes.held(free, width + steps))
        costs = [(least[end - rows] + sizes.cost(rows, width, steps), rows) for rows in range(1, largest + 1)]
        best, rows = min(costs)
        least.append(best)
        last.append(rows)
    found, end = [], len(lengths)
    while end:
        found.append(last[end])
        end -= last[end]
    return found[::-1]


def _largest(count: int, held: Callable[[int, int], int], most: int) -> list[int]:
    found, begin = [], 0
    while begin < count:
        found.append(held(begin, min(most, count - begin)))
        begin += found[-1]
    return found


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
