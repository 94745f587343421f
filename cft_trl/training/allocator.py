"""Keeps freed memory in a process that trains on a CPU, instead of giving it back to the system at every step.

The C library of Linux maps each large tensor anew and unmaps it when it is freed, so that the system clears the same
pages again and again: a third of the time of a step on a pack of 5,000 tokens (`benchmarks/RESULTS.md`).
"""

from __future__ import annotations

import ctypes
import platform

# glibc's mallopt(3). The third keeps the slivers that are cut off aligned tensors from staying apart: in the lists for
# small blocks they would not be joined to their neighbours again, and memory would grow with each step.
_MMAP_MAX, _TRIM_THRESHOLD, _LARGEST_FAST = (-4, 0), (-1, -1), (1, 0)


def keep_freed_memory() -> bool:
    """Has the process reuse what it freed; what it held at most, it holds until it ends.

    Returns:
        Whether there is such a setting here: glibc has it, other C libraries do not.
    """
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    return all([library.mallopt(*option) for option in (_MMAP_MAX, _TRIM_THRESHOLD, _LARGEST_FAST)])
