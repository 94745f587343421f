"""Memory that a step frees is there for the next one: what glibc's malloc is told while a CPU trains.

A step asks for the same blocks as the one before. By itself malloc gives large ones back to the system when they are
freed, and gets each anew page by page, cleared: 1.45 million page faults in eight steps of SmolLM2-135M on 256 tokens
and 23.1 CPU seconds; kept, 7,000 and 19.2, with the same peak (benchmarks/RESULTS.md).
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager

# mallopt's parameters (malloc.h).
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -2, -3, -4
_LARGEST = 2**31 - 1
# After training: what malloc comes to by itself in a process with large blocks.
_AFTERWARDS = (
    (_MMAP_MAX, 65536),
    (_MMAP_THRESHOLD, 32 * 2**20),
    (_TRIM_THRESHOLD, 64 * 2**20),
    (_TOP_PAD, 128 * 2**10),
)

VARIABLE = "CFT_PLAIN_MALLOC"


@contextmanager
def freed_memory_kept(device: str) -> Iterator[bool]:
    """While it lasts, freed memory stays with the process; what is free at the end goes back to the system.

    For the whole process. Only on a CPU, under glibc, and unless `CFT_PLAIN_MALLOC` is 1.

    Args:
        device: What is computed on: "cpu", "cuda", …

    Yields:
        Whether it does anything.
    """
    if device != "cpu" or os.environ.get(VARIABLE) == "1" or platform.libc_ver()[0] != "glibc":
        yield False
        return
    malloc = ctypes.CDLL(None)
    for parameter, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _LARGEST), (_TOP_PAD, 64 * 2**20)):
        malloc.mallopt(parameter, value)
    try:
        yield True
    finally:
        for parameter, value in _AFTERWARDS:
            malloc.mallopt(parameter, value)
        malloc.malloc_trim(0)
