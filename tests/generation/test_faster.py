"""Writing faster is writing the same: batched, in laid out weights and in one piece of cache, against one by one."""

from __future__ import annotations

import random

import pytest
import torch
from conftest import make_model
from torch import nn
from transformers.cache_utils import DynamicCache

from cft_trl.generation.faster import PLAIN, lay_out, roomy_cache
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


def test_a_model_that_asks_for_a_cache_of_a_kind_gets_that(tokenizers):
    tokenizer, asked = tokenizers("chatml"), conversations(2)
    local = LocalModel(make_model(tokenizer), tokenizer)
    expected = local.generate(asked, max_new_tokens=4)
    local.model.generation_config.cache_implementation = "dynamic"
    assert roomy_cache(local.model, 10) is None
    assert local.generate(asked, max_new_tokens=4) == expected
