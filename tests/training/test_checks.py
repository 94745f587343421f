"""Settings that a library would ignore, misread or crash on are one line before anything is prepared."""

from __future__ import annotations

import pytest
from conftest import make_model
from datasets import Dataset
from transformers import AutoConfig, GPT2Config, LlamaConfig

from cft_trl import CFTError, CFTTrainer
from cft_trl.training.checks import positions_of, settle_sharing


@pytest.fixture
def refused(tokenizer, make_config, rows, capsys):
    """`refused(**settings)` -> the one line; nothing was prepared."""

    def build(model=None, peft_config=None, **settings):
        config = make_config(max_steps=1, **settings)
        with pytest.raises(CFTError) as told:
            CFTTrainer(
                model or make_model(tokenizer),
                config,
                train_dataset=Dataset.from_list(rows),
                processing_class=tokenizer,
                peft_config=peft_config,
            )
        return str(told.value)

    return build


@pytest.mark.parametrize(("settings", "said"), [
    ({"fp16": True}, "fp16=true does nothing on a CPU"),
    ({"eval_packing": True}, "eval_packing=true without packing"),
    ({"use_liger_kernel": True}, "needs liger-kernel, which is not installed"),
    ({"max_length": 4097}, "max_length=4097 is more than the model's 4096 positions"),
])  # fmt: skip
def test_before_rows_are_prepared(refused, settings, said, capsys):
    assert said in refused(**settings)
    assert "kept" not in capsys.readouterr().out


@pytest.mark.parametrize(("settings", "said"), [
    ({"optim": "adamw_8bit"}, "optim=adamw_8bit needs bitsandbytes, which is not installed"),
    ({"optim": "galore_adamw", "optim_target_modules": ["mlp"]}, "optim=galore_adamw: "),
    ({"lr_scheduler_type": "cosine_with_min_lr"}, "lr_scheduler_type=cosine_with_min_lr with lr_scheduler_kwargs="),
    ({"dataloader_drop_last": True, "per_device_train_batch_size": 41}, "drops all 40 rows: a batch has 41"),
])  # fmt: skip
def test_before_the_first_step(refused, settings, said):
    assert said in refused(**settings)


def test_a_batch_that_is_just_full_is_none_of_it(tokenizer, make_config, rows):
    config = make_config(max_steps=1, dataloader_drop_last=True, per_device_train_batch_size=40)
    CFTTrainer(make_model(tokenizer), config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)


def prompt_learning(kind):
    from peft import PrefixTuningConfig, PromptEncoderConfig, PromptTuningConfig

    made = {"prompt": PromptTuningConfig, "prefix": PrefixTuningConfig, "p-tuning": PromptEncoderConfig}[kind]
    return made(num_virtual_tokens=4, task_type="CAUSAL_LM")


@pytest.mark.parametrize("kind", ["prompt", "prefix", "p-tuning"])
@pytest.mark.parametrize(("setting", "value"), [
    ("packing", True), ("padding_free", True), ("share_prefixes", True), ("label_smoothing_factor", 0.1),
])  # fmt: skip
def test_virtual_tokens_have_no_packs(refused, kind, setting, value):
    assert f"{setting} with an adapter of virtual tokens" in refused(
        peft_config=prompt_learning(kind), **{setting: value}
    )


def test_a_row_longer_than_the_models_positions_without_a_limit(refused, tokenizer):
    small = make_model(tokenizer)
    small.config.max_position_embeddings = 64
    assert "more than the model's 64 positions; set max_length=64" in refused(small, max_length=None)


def test_positions():
    assert positions_of(GPT2Config(n_positions=77)) == 77
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768, "rope_theta": 1e6}
    assert positions_of(LlamaConfig(max_position_embeddings=32768, rope_parameters=yarn)) == 131072
    assert positions_of(AutoConfig.for_model("mamba")) is None
    assert positions_of(None) is None


# ---- sharing where the model can, packing where it cannot ----

FAMILIES = {
    "gpt_oss": ({"num_local_experts": 2, "num_experts_per_tok": 1}, "models of type gpt_oss have an attention of"),
    "gemma3_text": ({"sliding_window": 64}, "sliding window of 64 tokens is shorter than rows of up to 512"),
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("by_name", [False, True])
def test_auto_is_packing_where_the_model_cannot_share(family, by_name, tokenizer, make_config, rows, tmp_path, capsys):
    overrides, why = FAMILIES[family]
    model = make_model(tokenizer, family, **overrides)
    if by_name:
        model.save_pretrained(tmp_path / "model")
        model = str(tmp_path / "model")
    config = make_config(max_steps=1, share_prefixes="auto", per_device_train_batch_size=1)
    trainer = CFTTrainer(model, config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("share_prefixes: auto is plain packing here: ")
    assert why in first
    assert "seq_lengths" in trainer.train_dataset.column_names
    assert trainer.sharing == {}
    if not by_name:
        assert trainer.train().training_loss > 0


def test_what_was_asked_for_outright_is_refused(refused, tokenizer):
    model = make_model(tokenizer, "gemma3_text", sliding_window=64)
    assert "share_prefixes: the model's sliding window of 64" in refused(model, share_prefixes=True)


def test_auto_stays_where_the_model_can(tokenizer, make_config):
    args, model = make_config(share_prefixes="auto"), make_model(tokenizer)
    assert settle_sharing(args, model, model.config, None) is None
    assert args.share_prefixes == "auto"


def test_auto_with_virtual_tokens_is_padding(tokenizer, make_config):
    args, model = make_config(share_prefixes="auto"), make_model(tokenizer)
    told = settle_sharing(args, model, model.config, prompt_learning("prompt"))
    assert told == "share_prefixes: auto is padding here: adapters of virtual tokens cannot"
    assert (args.share_prefixes, args.packing) == (False, False)
