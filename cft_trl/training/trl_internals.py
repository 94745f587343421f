"""What this package uses of TRL 1.16 beyond its documented interface, all in one place.

A new TRL release is tried by reading this file: each name stands with the reason it is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import trl.kernels.chunked_logprob as trl_head
import trl.trainer.sft_trainer as trl_sft
import trl.trainer.utils as trl_utils
from accelerate import PartialState
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from cft_trl.models.loading import check_whole
from cft_trl.models.names import LOADING
from cft_trl.training.fsdp2 import averaged_gradients
from cft_trl.training.head_tiles import backward_tile, forward_tile

__all__ = ["CPU_TILE", "DataCollatorForLanguageModeling", "fused_head", "whole_models"]

# Tokens and words of a tile on a CPU: 4 MiB. TRL's, 4,096 x 32,768, make temporary tensors of 512 MiB, which glibc asks
# the system for and gives back each time: 7.4 s for the head of SmolLM2 on 4,300 targets where these take 4.9
# (benchmarks/RESULTS.md).
CPU_TILE = (512, 2048)


# What is set on a CPU while one of our trainers computes: (module, name in it, value).
_ON_A_CPU = (
    # TRL scores every position where it has no Triton, to keep shapes static on devices that compile for each. The
    # head asks this name; the kernels below it have one of their own, which stays.
    (trl_utils, "_use_triton", lambda device: True),
    # The sizes of a tile, and what is done with one.
    (trl_head, "TOKEN_CHUNK_SIZE", CPU_TILE[0]),
    (trl_utils, "_CHUNKED_LOGPROB_CHUNK_SIZE", CPU_TILE[1]),
    (trl_head, "_forward_tile", forward_tile(trl_head._forward_tile)),
    (trl_head, "_backward_tile", backward_tile(trl_head._backward_tile)),
)


@contextmanager
def fused_head(device: torch.device) -> Iterator[None]:
    """Sets TRL's fused LM head up, for the forward pass and the backward one.

    A head that FSDP2 has sharded gets the gradients of all processes (`fsdp2.py`). On a CPU the head scores the
    positions that have a target and no others (154 of 338 where a critique of 154 tokens follows a prompt of 184), on
    tiles of `CPU_TILE`, with our own steps within a tile. What is set is set for the whole process: one thread at a
    time.
    """
    if device.type != "cpu":
        with averaged_gradients():
            yield
        return
    before = [getattr(module, name) for module, name, _ in _ON_A_CPU]
    try:
        for module, name, value in _ON_A_CPU:
            setattr(module, name, value)
        with averaged_gradients():
            yield
    finally:
        for (module, name, _), value in zip(_ON_A_CPU, before, strict=True):
            setattr(module, name, value)


@contextmanager
def whole_models() -> Iterator[None]:
    """A trainer that is made meanwhile loads no model with weights missing, and none beside another thread's.

    Only the first process of a machine looks: under FSDP the others are given their weights by it, and miss all.

    Raises:
        CFTError: As `check_whole`.
    """

    def create_whole(model_id: str, *args: Any, **kwargs: Any) -> Any:
        model, told = create(model_id, *args, output_loading_info=True, **kwargs)
        if PartialState().is_local_main_process:
            check_whole(model_id, told["missing_keys"])
        return model

    with LOADING:  # what is set, here and by transformers, is set for the whole process
        create = trl_sft.create_model_from_path
        trl_sft.create_model_from_path = create_whole
        try:
            yield
        finally:
            trl_sft.create_model_from_path = create
