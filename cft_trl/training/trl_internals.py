"""What this package uses of TRL 1.16 beyond its documented interface, all in one place.

A new TRL release is tried by reading this file: three names, each with the reason it is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trl.trainer.utils as trl_utils
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

__all__ = ["DataCollatorForLanguageModeling", "score_targets_only"]


@contextmanager
def score_targets_only() -> Iterator[None]:
    """Makes TRL's fused LM head skip positions without loss on every device.

    TRL does so on CUDA and XPU and scores every position elsewhere, to keep shapes static on devices that compile
    for each. On a CPU that is most of the head's work thrown away: a prompt of 184 tokens before a critique of 154
    makes it 2.2 times as much. The head decides through the module's `_use_triton`, read at each call; the kernels
    below it have their own, which stays.
    """
    original = trl_utils._use_triton
    trl_utils._use_triton = lambda device: device.type == "cpu" or original(device)
    try:
        yield
    finally:
        trl_utils._use_triton = original
