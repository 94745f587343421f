"""Packs on a CPU: rows are computed by themselves, and it is the same training as under a mask, or with padding."""

from __future__ import annotations

import pytest
import torch
from datasets import Dataset

from cft_trl import CFTTrainer
from cft_trl.training.prefix_sharing import attention


@pytest.fixture
def masks(monkeypatch):
    """The shapes of the masks that PyTorch's attention is given while a model is trained."""
    seen = []
    of_torch = torch.nn.functional.scaled_dot_product_attention

    def watched(*args, attn_mask=None, **kwargs):
        seen.append(None if attn_mask is None else tuple(attn_mask.shape))
        return of_torch(*args, attn_mask=attn_mask, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watched)
    return seen


def train(tokenizer, model, config, rows):
    trainer = CFTTrainer(model, config, train_dataset=rows, eval_dataset=rows, processing_class=tokenizer)
    trainer.train()
    trainer.evaluate()
    return trainer


def figures(trainer) -> dict[str, float]:
    names = (
        "loss",
        "grad_norm",
        "critique_loss",
        "verdict_accuracy",
        "verdict_count",
        "eval_loss",
        "eval_verdict_count",
    )
    return {name: entry[name] for entry in trainer.state.log_history for name in names if name in entry}


@pytest.mark.parametrize("settings", [{"packing": True}, {"padding_free": True, "pad_to_multiple_of": 64}])
def test_a_pack_is_computed_without_a_mask_and_equals_one_with_it(
    tokenizer, tiny_model, make_config, rows, masks, settings
):
    """One optimizer step over all rows, gradients clipped or not: losses, metrics, gradient norm, the step itself."""
    data = Dataset.from_list(rows[:16])
    common = {"max_steps": 1, "warmup_steps": 0, "gradient_accumulation_steps": 50, "max_length": 512}
    packed = {**common, **settings, "per_device_train_batch_size": 1 if "packing" in settings else 4}
    ours = train(tokenizer, tiny_model(tokenizer), make_config(**packed), data)
    assert not any(masks)  # rows by themselves need none
    assert ours.data_collator.varlen_attention
    masked = train(tokenizer, tiny_model(tokenizer), make_config(**packed, varlen_attention=False), data)
    assert any(masks)
    assert masked.model.config._attn_implementation == "sdpa"
    padded = train(tokenizer, tiny_model(tokenizer), make_config(**common, per_device_train_batch_size=16), data)
    for other in (masked, padded):
        expected, found = figures(other), figures(ours)
        assert set(expected) == set(found)
        for name, value in expected.items():
            if name != "eval_loss" or other is masked:  # the mean over batches, which are others with padding
                assert found[name] == pytest.approx(value, rel=1e-5), name
        for (name, mine), theirs in zip(ours.model.named_parameters(), other.model.parameters(), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=2e-5, msg=name)


def test_rows_that_looked_at_each_other_would_be_seen(tokenizer, tiny_model, make_config, rows, monkeypatch):
    """The test above can fail: with a pack as one row the losses are others."""
    data = Dataset.from_list(rows[:16])
    config = make_config(max_steps=1, warmup_steps=0, gradient_accumulation_steps=50, packing=True, max_length=512)
    right = figures(train(tokenizer, tiny_model(tokenizer), config, data))
    monkeypatch.setattr(attention, "stretches", lambda until: [attention.Stretch(0, len(until), len(until), ())])
    wrong = figures(train(tokenizer, tiny_model(tokenizer), config, data))
    assert wrong["loss"] != pytest.approx(right["loss"], rel=1e-5)


def test_an_attention_that_was_asked_for_stays(tokenizer, tiny_model, make_config, rows):
    model = tiny_model(tokenizer)
    model.set_attn_implementation("eager")
    trainer = train(tokenizer, model, make_config(max_steps=1, packing=True), Dataset.from_list(rows[:4]))
    assert trainer.model.config._attn_implementation == "eager"
    assert not trainer.data_collator.varlen_attention
    assert not attention.use_varlen_attention(tiny_model(tokenizer), 512, "cuda")


def test_a_model_with_a_window_keeps_its_masks_where_rows_have_no_limit(tokenizer):
    from transformers import MistralConfig, MistralForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    model = MistralForCausalLM(MistralConfig(vocab_size=64, num_key_value_heads=2, sliding_window=8, **sizes))
    assert not attention.use_varlen_attention(model, None, "cpu")
    assert not attention.use_varlen_attention(model, 9, "cpu")
    assert attention.use_varlen_attention(model, 8, "cpu")


def test_tokens_are_counted_as_without_a_layout(tokenizer, tiny_model, make_config, rows):
    """transformers sums the attention mask, which holds places in a pack."""
    seen = {}
    for varlen in (True, False):
        config = make_config(
            max_steps=2, packing=True, max_length=512, include_num_input_tokens_seen="non_padding",
            varlen_attention=varlen,
        )  # fmt: skip
        trainer = train(tokenizer, tiny_model(tokenizer), config, Dataset.from_list(rows[:16]))
        seen[varlen] = trainer.state.num_input_tokens_seen
    assert seen[True] == seen[False] > 0
