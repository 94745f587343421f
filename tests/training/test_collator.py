"""The collator by itself: raw rows, tokenised rows, plain `transformers.Trainer`."""

from __future__ import annotations

import pytest
import torch
from datasets import Dataset

from cft_trl import CFTError, DataCollatorForCritique, to_webinstruct_cft
from cft_trl.data.prompts import Prompting
from cft_trl.training.preparation import RowEncoder


def test_pads_raw_rows_like_their_encoding(tokenizer, rows):
    batch = DataCollatorForCritique(tokenizer, pad_to_multiple_of=16)(rows[:5])
    columns = RowEncoder(tokenizer, Prompting())(rows[:5])
    assert batch["input_ids"].shape[1] % 16 == 0
    for i, length in enumerate(columns["length"]):
        assert batch["input_ids"][i, :length].tolist() == columns["input_ids"][i]
        assert batch["labels"][i, :length].tolist() == columns["labels"][i]
        assert (batch["labels"][i, length:] == -100).all()
        assert batch["attention_mask"][i].sum() == length
    assert set(batch) == {"input_ids", "labels", "attention_mask"}


def test_any_layout_and_verdict_mask(tokenizer, rows):
    collator = DataCollatorForCritique(tokenizer, return_verdict_mask=True)
    plain, published = collator(rows[:4]), collator(to_webinstruct_cft(rows[:4]))
    for name in plain:
        assert torch.equal(plain[name], published[name])
    assert (plain["verdict_mask"] > 0).sum() == 4


def test_rows_that_cannot_be_used_are_counted(tokenizer, rows):
    collator = DataCollatorForCritique(tokenizer)
    batch = collator([rows[0], {**rows[1], "critique": None}])
    assert len(batch["input_ids"]) == 1
    assert (collator.report.kept, collator.report.dropped) == (1, {"no critique": 1})
    with pytest.raises(CFTError, match="no row of this batch can be used: no critique"):
        collator([{**rows[1], "critique": None}])


def test_padding_free_joins_rows(tokenizer, rows):
    collator = DataCollatorForCritique(tokenizer, padding_free=True, return_verdict_mask=True)
    batch = collator(rows[:3])
    assert batch["input_ids"].shape == batch["verdict_mask"].shape == batch["position_ids"].shape
    assert (batch["position_ids"] == 0).sum() == 3
    assert (batch["verdict_mask"] > 0).sum() == 3


def test_plain_transformers_trainer(tokenizer, tiny_model, rows, tmp_path):
    from transformers import Trainer, TrainingArguments

    arguments = TrainingArguments(str(tmp_path), remove_unused_columns=False, max_steps=12, learning_rate=1e-2,
                                  use_cpu=True, report_to="none", logging_steps=1, save_strategy="no")  # fmt: skip
    model = tiny_model(tokenizer)
    before = [p.clone() for p in model.parameters()]
    dataset = Dataset.from_list([{k: row[k] for k in ("query", "response", "critique")} for row in rows])
    trainer = Trainer(model, arguments, train_dataset=dataset, data_collator=DataCollatorForCritique(tokenizer))
    trainer.train()
    found = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert found[-1] < 0.9 * found[0]
    assert all(not torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))


def test_collator_passed_to_the_trainer(tokenizer, tiny_model, rows, make_config):
    from cft_trl import CFTTrainer

    collator = DataCollatorForCritique(tokenizer, max_length=512, pad_to_multiple_of=64)
    trainer = CFTTrainer(
        tiny_model(tokenizer), make_config(max_steps=1), collator, Dataset.from_list(rows), processing_class=tokenizer
    )
    assert trainer.data_collator is collator
    trainer.train()
    assert trainer.state.log_history[0]["verdict_count"] == 4


def test_tokenizer_without_pad_or_end_token(rows):
    from conftest import make_tokenizer

    tokenizer = make_tokenizer("chatml")
    tokenizer.pad_token = None
    batch = DataCollatorForCritique(tokenizer)(rows[:3])
    assert (batch["input_ids"][batch["attention_mask"] == 0] == tokenizer.eos_token_id).all()
    tokenizer.eos_token = None
    with pytest.raises(CFTError, match="neither a pad nor an end token"):
        DataCollatorForCritique(tokenizer)
