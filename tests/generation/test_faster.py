"""Writing faster is writing the same: batched, in laid out weights and in one piece of cache, against one by one."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest
import torch
from conftest import make_model
from torch import nn
from transformers.cache_utils import DynamicCache

from cft_trl.generation import faster
from cft_trl.generation.faster import PLAIN, lay_out, roomy_cache, rows_at_once
from cft_trl.generation.local import LocalModel


def conversations(count: int) -> list[list[dict[str, str]]]:
    rng = random.Random(0)
    words = [
        "how",
        "many",
        "apples",
        "are",
        "left",
        "in",
        "the",
        "basket",
        "of",
        "Ada",
        "if",
        "she",
        "gives",
        "seven",
        "to",
        "her",
        "brother",
    ]
    texts = [" ".join(rng.choices(words, k=rng.randint(1, 40))) for _ in range(count)]
    return [[{"role": "user", "content": text}] for text in texts]


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma3_text", "mistral"])
@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_same_texts_as_one_by_one_without_any_of_it(tokenizers, monkeypatch, family, temperature):
    """gemma3_text and mistral have windows: they keep transformers' own caches."""
    tokenizer, asked = tokenizers("chatml"), conversations(9)
    how = {"max_new_tokens": 24, "temperature": temperature, "seed": 5}
    monkeypatch.setenv(PLAIN, "1")
    plain = make_model(tokenizer, family)
    alone = [
        LocalModel(plain, tokenizer, 1).generate([one], **{**how, "seed": [5 + at]}) for at, one in enumerate(asked)
    ]
    monkeypatch.delenv(PLAIN)
    together = LocalModel(lay_out(make_model(tokenizer, family)), tokenizer).generate(asked, **how)
    assert [made for [made] in alone] == together
    assert any(made.text for made in together)
    assert (roomy_cache(plain, 50) is None) == (family in ("gemma3_text", "mistral"))


def test_layers_are_laid_out_and_say_the_same(tokenizers, monkeypatch):
    model = make_model(tokenizers("chatml"))
    monkeypatch.setenv(PLAIN, "1")
    assert all(parameter.is_contiguous() for parameter in lay_out(model).parameters())
    monkeypatch.delenv(PLAIN)
    ids = torch.arange(40).reshape(4, 10)
    before = model(ids).logits
    names = {name: module.weight.clone() for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    lay_out(model)
    assert torch.allclose(model(ids).logits, before, atol=1e-5)
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            assert torch.equal(module.weight, names[name])
            assert module.weight.is_contiguous() == (name == "lm_head")
    half = lay_out(make_model(tokenizers("chatml")).bfloat16())
    assert all(parameter.is_contiguous() for parameter in half.parameters())


@pytest.mark.parametrize("room", [1, 12, 40])
def test_a_cache_with_room_holds_what_the_growing_one_holds(tokenizers, room):
    model, rng = make_model(tokenizers("chatml")), torch.Generator().manual_seed(0)
    roomy, growing = roomy_cache(model, room), DynamicCache(config=model.config)
    kept = None
    for step, size in enumerate((7, 1, 1, 4, 1)):
        for layer in range(2):
            keys, values = (torch.rand(3, 2, size, 8, generator=rng) for _ in range(2))
            expected, got = growing.update(keys, values, layer), roomy.update(keys, values, layer)
            assert all(torch.equal(one, other) for one, other in zip(expected, got, strict=True))
        if step == 2:  # rows in another order, as beams or a smaller batch would have it
            for cache in (roomy, growing):
                cache.reorder_cache(torch.tensor([2, 0, 1]))
        assert roomy.get_seq_length() == growing.get_seq_length()
        if room == 40 and step in (0, 1):
            place = roomy.layers[0].keys.data_ptr()
            assert kept in (None, place)  # written in place: nothing was copied
            kept = place


def test_rows_at_once_are_those_that_memory_holds(tokenizers, monkeypatch):
    model = make_model(tokenizers("chatml"))
    assert rows_at_once(model, 64, 100) == 64
    counts = []
    for free in (10**9, 10**7, 10**6, 10):
        monkeypatch.setattr(faster, "_free_bytes", lambda device, free=free: free)
        counts.append(rows_at_once(model, 64, 500))
    assert counts == sorted(counts, reverse=True)
    assert (counts[0], counts[-1]) == (64, 1)
    assert rows_at_once(model, 64, 100) >= rows_at_once(model, 64, 500)
    monkeypatch.setenv(PLAIN, "1")
    assert (rows_at_once(model, 64, 100), rows_at_once(model, 3, 100)) == (16, 3)
    assert roomy_cache(model, 10) is None


def test_a_size_per_layer_is_taken_as_the_largest(monkeypatch):
    monkeypatch.setattr(faster, "_free_bytes", lambda device: 10**7)

    def rows(wide) -> int:  # Gemma 3n's is a list
        config = SimpleNamespace(hidden_size=32, num_hidden_layers=2, vocab_size=99, intermediate_size=wide)
        config.get_text_config = lambda: config
        return rows_at_once(SimpleNamespace(config=config, dtype=torch.float32, device=None), 64, 500)

    assert rows([32, 640]) == rows(640) < rows(32)


def test_a_model_that_asks_for_a_cache_of_a_kind_gets_that(tokenizers):
    tokenizer, asked = tokenizers("chatml"), conversations(2)
    local = LocalModel(make_model(tokenizer), tokenizer)
    expected = local.generate(asked, max_new_tokens=4)
    local.model.generation_config.cache_implementation = "dynamic"
    assert roomy_cache(local.model, 10) is None
    assert local.generate(asked, max_new_tokens=4) == expected


def test_free_memory_is_what_the_container_leaves_to_each_process(tmp_path, monkeypatch):
    def group(place, **files):
        (tmp_path / place).mkdir(parents=True)
        for name, text in files.items():
            (tmp_path / place / f"memory.{name}").write_text(f"{text}\n")

    assert list(faster._left_in_groups(str(tmp_path))) == []
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("5:cpu,cpuacct:/jobs/7\n4:memory:/jobs/7\n0::/jobs/7\n")
    group("sys/fs/cgroup/jobs/7", max="max", current=900, stat="anon 900\ninactive_file 0")
    group("sys/fs/cgroup/memory/jobs/7", limit_in_bytes=5000, usage_in_bytes=900, stat="total_inactive_file 0")
    for name, text in {"max": 4000, "current": 1500, "stat": "anon 1000\ninactive_file 500"}.items():
        (tmp_path / f"sys/fs/cgroup/jobs/memory.{name}").write_text(f"{text}\n")
    assert sorted(faster._left_in_groups(str(tmp_path))) == [3000, 4100]
    monkeypatch.setattr(faster, "_left_in_groups", lambda: iter([3000, 4100]))
    assert faster._free_bytes(torch.device("cpu")) == 3000
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert faster._free_bytes(torch.device("cpu")) == 750


def test_little_memory_changes_batches_and_not_texts(tokenizers, monkeypatch):
    tokenizer, asked = tokenizers("chatml"), conversations(7)
    local, seen = LocalModel(make_model(tokenizer), tokenizer), []
    expected = local.generate(asked, max_new_tokens=8)
    advance = LocalModel._advance

    def counted(self, rows, *others):
        seen.append(len(rows))
        return advance(self, rows, *others)

    monkeypatch.setattr(LocalModel, "_advance", counted)
    monkeypatch.setattr(faster, "_free_bytes", lambda device: 1_000_000)
    assert local.generate(asked, max_new_tokens=8) == expected
    assert sum(seen) == 7
    assert max(seen) < 7
