"""Rows are divided so that nothing is too large for memory and, on a CPU, so that the whole is done soonest."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest
import torch
from conftest import make_model
from transformers import LlamaConfig

from cft_trl.generation import batch_sizes
from cft_trl.generation.faster import PLAIN
from cft_trl.generation.local import LocalModel

divide = batch_sizes.batch_sizes


class Sized:
    """A model of SmolLM2-135M's sizes, without weights."""

    config = LlamaConfig(
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        vocab_size=49152,
    )

    def __init__(self, device: str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        self.device, self.dtype = torch.device(device), dtype

    def parameters(self):
        return iter([torch.empty(134_515_008, dtype=self.dtype, device="meta")])


@pytest.fixture
def free(monkeypatch):
    """Sets the free memory, plenty unless told."""

    def has(size: int) -> None:
        monkeypatch.setattr(batch_sizes, "_free_bytes", lambda device: size)

    has(2**36)
    return has


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_long_prompt_does_not_make_short_ones_wait(free, dtype):
    model = Sized(dtype=dtype)
    assert divide(model, [20] * 23 + [2300], 64, 192)[-1] == 1
    assert divide(model, [40] * 16 + [60] * 16 + [80] * 16 + [110] * 16, 64, 192) == [64]
    assert len(divide(model, [100] * 130, 64, 192)) == 3
    assert sorted(divide(model, [20] * 23 + [2300], 8, 192)) == [1, 7, 8, 8]


def test_no_other_division_takes_less_time(free):
    model, rng = Sized(), random.Random(0)
    sizes = batch_sizes._Sizes.of(model)

    def time(lengths, parts, steps):
        ends = [sum(parts[: at + 1]) for at in range(len(parts))]
        return sum(sizes.cost(part, lengths[end - 1], steps) for part, end in zip(parts, ends, strict=True))

    def divisions(count):
        yield from ((part, *others) for part in range(1, count) for others in divisions(count - part))
        yield (count,)

    for _ in range(20):
        lengths = sorted(rng.choices(range(10, 3000), k=7))
        steps = rng.choice([1, 32, 256])
        best = min(time(lengths, parts, steps) for parts in divisions(7) if max(parts) <= 5)
        assert time(lengths, divide(model, lengths, 5, steps), steps) == pytest.approx(best)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("size", [2**34, 2**30, 2**27, 10])
def test_batches_fit_in_memory(free, device, size):
    free(size)
    model, lengths = Sized(device), sorted(random.Random(1).choices(range(10, 1500), k=100))
    parts, begin = divide(model, lengths, 64, 100), 0
    assert sum(parts) == 100
    for part in parts:
        begin += part
        needs = part * ((2 * 30 * 3 * 64 + 4 * 576 + 3 * 1536) * 4 * (lengths[begin - 1] + 100) + 12 * 49152)
        assert part == 1 or needs <= size / 2
    assert max(parts) <= 64
    if size == 2**34 and device == "cuda":
        assert parts == [64, 36]  # a step takes as long for many rows as for one there
    assert (len(parts) == 100) == (size == 10)


def test_nothing_of_it_where_nothing_is_wanted(monkeypatch):
    monkeypatch.setenv(PLAIN, "1")
    assert divide(Sized(), [20] * 20 + [2300], 64, 192) == [16, 5]
    assert divide(Sized(), [20, 2300], 1, 192) == [1, 1]
    assert divide(Sized(), [], 64, 192) == []


def test_a_size_per_layer_is_taken_as_the_largest():
    def inside(wide) -> int:  # Gemma 3n's is a list
        model = Sized()
        model.config = SimpleNamespace(**{**Sized.config.to_dict(), "intermediate_size": wide})
        model.config.get_text_config = lambda: model.config
        return batch_sizes._Sizes.of(model).inside

    assert inside([32, 640]) == inside(640) > inside(32)


def test_free_memory_is_what_the_container_leaves_to_each_process(tmp_path, monkeypatch):
    def group(place, **files):
        (tmp_path / place).mkdir(parents=True)
        for name, text in files.items():
            (tmp_path / place / f"memory.{name}").write_text(f"{text}\n")

    assert list(batch_sizes._left_in_groups(str(tmp_path))) == []
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("5:cpu,cpuacct:/jobs/7\n4:memory:/jobs/7\n0::/jobs/7\n")
    group("sys/fs/cgroup/jobs/7", max="max", current=900, stat="anon 900\ninactive_file 0")
    group("sys/fs/cgroup/memory/jobs/7", limit_in_bytes=5000, usage_in_bytes=900, stat="total_inactive_file 0")
    for name, text in {"max": 4000, "current": 1500, "stat": "anon 1000\ninactive_file 500"}.items():
        (tmp_path / f"sys/fs/cgroup/jobs/memory.{name}").write_text(f"{text}\n")
    assert sorted(batch_sizes._left_in_groups(str(tmp_path))) == [3000, 4100]
    monkeypatch.setattr(batch_sizes, "_left_in_groups", lambda: iter([3000, 4100]))
    assert batch_sizes._free_bytes(torch.device("cpu")) == 3000
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert batch_sizes._free_bytes(torch.device("cpu")) == 750


def test_little_memory_changes_batches_and_not_texts(tokenizers, free, monkeypatch):
    tokenizer, seen = tokenizers("chatml"), []
    asked = [[{"role": "user", "content": f"apple {digit}"}] for digit in range(1, 8)]  # as long: no other reason
    local, advance = LocalModel(make_model(tokenizer), tokenizer), LocalModel._advance

    def counted(self, rows, *others):
        seen.append(len(rows))
        return advance(self, rows, *others)

    monkeypatch.setattr(LocalModel, "_advance", counted)
    free(2**36)
    expected = local.generate(asked, max_new_tokens=8)
    assert seen == [7]
    seen.clear()
    free(100_000)
    assert local.generate(asked, max_new_tokens=8) == expected
    assert sum(seen) == 7
    assert max(seen) < 7
