"""Memory that was freed stays in the process, and is used again rather than added to."""

import platform
import subprocess
import sys

import pytest

from cft_trl.training.allocator import keep_freed_memory

MEASURE = """
import sys, torch
from cft_trl.training.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def held():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 // 2**20
before = held()
small = []
for step in range(12):
    # As in training: large tensors of several sizes, freed in reverse, with small ones that live on in between.
    tensors = []
    for i in range(12):
        tensors.append(torch.zeros(10_000_000 + 500_000 * ((3 * i + step) % 5)))
        small.append([torch.zeros(i + 1) for _ in range(10)])
    small = small[-30:]
    while tensors:
        tensors.pop()
    print(held() - before)
"""

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")


def grown(how: str) -> list[int]:
    """MiB that the process holds beyond what it began with, with all tensors freed, step by step."""
    command = [sys.executable, "-c", MEASURE, how]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [int(line) for line in done.stdout.split()]


def test_what_is_freed_is_kept_and_does_not_add_up():
    kept, given_back = grown("keep"), grown("default")
    used = 12 * 4 * 11_000_000 / 2**20  # of a step, about
    assert min(kept) > used / 2 > max(given_back)
    assert kept[-1] < 1.1 * kept[5]  # the first steps find out what fits where


def test_without_such_a_setting_nothing_is_done(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert keep_freed_memory() is False
