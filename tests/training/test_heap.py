"""malloc while a CPU trains: a freed block is had again without page faults, and in the end it is given back."""

from __future__ import annotations

import platform
import resource

import pytest
import torch

from cft_trl.training import trainer
from cft_trl.training.heap import freed_memory_kept

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="not glibc")
PAGES = 64 * 2**20 // 4096  # of the block below


def faults_of_a_block() -> list[int]:
    """Page faults of a block of 64 MiB that is asked for, filled and freed, several times.

    The first ones may each get other addresses, until there is a gap of the right size; a process that has such a gap
    without us has its block without faults from the second time on.
    """
    found = []
    for _ in range(12):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(16 * 2**20)
        found.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    return found


def test_a_freed_block_is_had_again_without_faults_while_it_lasts(monkeypatch):
    monkeypatch.delenv("CFT_PLAIN_MALLOC", raising=False)
    with freed_memory_kept("cpu") as kept:
        assert kept
        assert min(faults_of_a_block()) < PAGES / 10
    assert max(faults_of_a_block()) > PAGES / 600  # huge pages have 512 times fewer


def test_it_is_left_alone_elsewhere_and_where_one_says_so(monkeypatch):
    with freed_memory_kept("cuda") as kept:
        assert not kept
    monkeypatch.setenv("CFT_PLAIN_MALLOC", "1")
    with freed_memory_kept("cpu") as kept:
        assert not kept


def test_training_keeps_and_gives_back(monkeypatch, tokenizer, tiny_model, make_config, rows):
    from datasets import Dataset

    seen = []

    class Watched(trainer.CFTTrainer):
        def training_step(self, *args, **kwargs):
            seen.append(min(faults_of_a_block()))
            return super().training_step(*args, **kwargs)

    data = Dataset.from_list(rows[:8])
    monkeypatch.delenv("CFT_PLAIN_MALLOC", raising=False)
    for plain in (False, True):
        if plain:
            monkeypatch.setenv("CFT_PLAIN_MALLOC", "1")
            monkeypatch.delattr("cft_trl.training.heap.ctypes.CDLL")  # malloc is told nothing
        run = Watched(tiny_model(tokenizer), make_config(max_steps=2), train_dataset=data, processing_class=tokenizer)
        run.train()
        if not plain:
            assert max(faults_of_a_block()) > PAGES / 600
    assert len(seen) == 4
    assert max(seen[:2]) < PAGES / 10
