"""`share_prefixes` in the trainer: the same training as row by row, and said when it saves nothing."""

import pytest
import torch
from datasets import Dataset

from cft_trl import CFTConfig, CFTError, CFTTrainer

METRICS = ("critique_loss", "verdict_accuracy", "verdict_accuracy_right", "verdict_accuracy_wrong", "verdict_count")


@pytest.fixture
def critiques(rows):
    """Eight responses with three critiques each."""
    openings = ("", "Let us see. ", "I checked every step. ")
    return Dataset.from_list(
        [{**row, "id": f"{row['id']}.{i}", "critique": text + row["critique"]}
         for row in rows[:8] for i, text in enumerate(openings)]
    )  # fmt: skip


def train(tokenizer, model, config, rows, **kwargs):
    trainer = CFTTrainer(model, config, train_dataset=rows, processing_class=tokenizer, **kwargs)
    trainer.train()
    return trainer


def steps_of(trainer) -> list[dict]:
    return [entry for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize(("pack_length", "verdict_weight"), [(512, 1.0), (1024, 3.0), (4096, 1.0)])
def test_a_step_over_all_rows_is_the_same_whatever_the_packing(
    tokenizer, tiny_model, make_config, critiques, pack_length, verdict_weight
):
    """One optimizer step over every row: losses, metrics, gradient norm and the step itself."""
    config = make_config(max_steps=1, per_device_train_batch_size=24, verdict_weight=verdict_weight)
    plain = train(tokenizer, tiny_model(tokenizer), config, critiques)
    packs = {512: 8, 1024: 4, 4096: 1}[pack_length]
    config = make_config(
        max_steps=1, share_prefixes=True, pack_length=pack_length, per_device_train_batch_size=1,
        gradient_accumulation_steps=50, verdict_weight=verdict_weight,
    )  # fmt: skip
    shared = train(tokenizer, tiny_model(tokenizer), config, critiques, eval_dataset=critiques)
    assert len(shared.train_dataset) <= packs
    assert shared.sharing["train"].ratio > 1.5
    [expected], [found] = steps_of(plain), steps_of(shared)
    for name in ("loss", "grad_norm", *METRICS):
        assert found[name] == pytest.approx(expected[name], rel=1e-5), name
    for (name, ours), theirs in zip(shared.model.named_parameters(), plain.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-5, msg=name)
    # Evaluation shares too, and counts every row once.
    evaluated, expected = shared.evaluate(), plain.evaluate(critiques)
    for name in METRICS:
        assert evaluated[f"eval_{name}"] == pytest.approx(expected[f"eval_{name}"], rel=1e-3), name
    assert evaluated["eval_verdict_count"] == 24


def test_verdict_weight_bf16_checkpointing_and_lora_work_with_sharing(tokenizer, tiny_model, make_config, critiques):
    from peft import LoraConfig

    losses = {}
    for bf16 in (False, True):
        config = make_config(
            max_steps=3, per_device_train_batch_size=2, verdict_weight=2.0, gradient_checkpointing=True, bf16=bf16,
            share_prefixes=True, warmup_steps=0,
        )  # fmt: skip
        lora = LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"])
        trainer = train(tokenizer, tiny_model(tokenizer), config, critiques, peft_config=lora)
        losses[bf16] = [entry["loss"] for entry in steps_of(trainer)]
        assert all(p.abs().sum() > 0 for name, p in trainer.model.named_parameters() if "lora_B" in name)
    assert losses[True] == pytest.approx(losses[False], rel=2e-2)


def test_sharing_learns(tokenizer, tiny_model, make_config, critiques):
    config = make_config(num_train_epochs=15, share_prefixes="auto", per_device_train_batch_size=1, learning_rate=1e-2)
    trainer = train(tokenizer, tiny_model(tokenizer), config, critiques)
    losses = [entry["loss"] for entry in steps_of(trainer)]
    assert losses[-1] < 0.6 * losses[0]


def test_it_says_what_it_saves(tokenizer, tiny_model, make_config, critiques, rows, capsys):
    CFTTrainer(tiny_model(tokenizer), make_config(share_prefixes="auto"), train_dataset=critiques,
               processing_class=tokenizer)  # fmt: skip
    assert "x" in next(line for line in capsys.readouterr().out.splitlines() if " -> " in line).split(", ")[-1]
    alone = Dataset.from_list([{**rows[0], "query": rows[0]["query"] * 3}])
    CFTTrainer(tiny_model(tokenizer), make_config(share_prefixes="auto", max_length=1024), train_dataset=alone,
               processing_class=tokenizer)  # fmt: skip
    assert "1.00x; the rows begin too differently" in capsys.readouterr().out


def test_a_saved_model_loads_as_an_ordinary_one(tokenizer, tiny_model, make_config, critiques, tmp_path):
    from transformers import AutoModelForCausalLM

    trainer = train(tokenizer, tiny_model(tokenizer), make_config(max_steps=1, share_prefixes=True), critiques)
    trainer.save_model(tmp_path / "saved")
    assert "shared_prefix" not in (tmp_path / "saved" / "config.json").read_text()
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "saved").config._attn_implementation == "sdpa"


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"share_prefixes": "sometimes"}, "share_prefixes=sometimes: unknown; give true, false or auto"),
        ({"share_prefixes": True, "max_length": None}, "needs max_length or pack_length"),
        ({"share_prefixes": True, "max_length": 512, "pack_length": 256}, "pack_length=256 is smaller"),
        ({"pack_length": 4096}, "pack_length=4096 belongs to share_prefixes"),
    ],
)
def test_contradictions_are_told(tmp_path, fields, told):
    with pytest.raises(CFTError, match=told):
        CFTConfig(str(tmp_path), use_cpu=True, report_to="none", **fields)


def test_a_stream_cannot_share(tokenizer, tiny_model, make_config, critiques):
    with pytest.raises(CFTError, match="a stream has not"):
        CFTTrainer(tiny_model(tokenizer), make_config(share_prefixes=True, max_steps=1),
                   train_dataset=critiques.to_iterable_dataset(), processing_class=tokenizer)  # fmt: skip
