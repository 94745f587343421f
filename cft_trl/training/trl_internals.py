"""What this package uses of TRL 1.16 beyond its documented interface, all in one place.

A new TRL release is tried by reading this file: five names, each with the reason it is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import trl.kernels.chunked_logprob as trl_head
import trl.trainer.utils as trl_utils
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

__all__ = ["CPU_TILE", "DataCollatorForLanguageModeling", "fused_head"]

# Tokens and words of a tile on a CPU: 4 MiB. TRL's, 4,096 x 32,768, make temporary tensors of 512 MiB, which glibc asks
# the system for and gives back each time: on a pack of 5,200 tokens with 4,300 targets they cost a step of SmolLM2 a
# third of its time and 4 of its 13.5 GiB (benchmarks/RESULTS.md).
CPU_TILE = (512, 2048)


@contextmanager
def fused_head(device: torch.device) -> Iterator[None]:
    """Sets TRL's fused LM head up for a device, for the forward pass (what it scores) and the backward one (its tiles).

    TRL skips positions without loss on CUDA and XPU and scores every position elsewhere, to keep shapes static on
    devices that compile for each. On a CPU that is most of the head's work thrown away: a prompt of 184 tokens before a
    critique of 154 makes it 2.2 times as much. The head decides through the module's `_use_triton`, read at each call;
    the kernels below it have their own, which stays.
    """
    if device.type != "cpu":
        yield
        return
    before = trl_utils._use_triton, trl_head.TOKEN_CHUNK_SIZE, trl_utils._CHUNKED_LOGPROB_CHUNK_SIZE
    trl_utils._use_triton = lambda _: True
    trl_head.TOKEN_CHUNK_SIZE, trl_utils._CHUNKED_LOGPROB_CHUNK_SIZE = CPU_TILE
    try:
        yield
    finally:
        trl_utils._use_triton, trl_head.TOKEN_CHUNK_SIZE, trl_utils._CHUNKED_LOGPROB_CHUNK_SIZE = before
