"""Every recipe parses, gives the settings it says, and trains: a tiny random model in place of the big one."""

from __future__ import annotations

import pytest
from conftest import REPOSITORY, make_model
from datasets import Dataset

from cft_trl.commands.settings import parse_settings
from cft_trl.training import script as training_script

RECIPES = sorted((REPOSITORY / "recipes").glob("*/*.yaml"))
RECIPES = [path for path in RECIPES if path.parent.name not in ("accelerate", "experiments", "trl")]
NAMES = {
    "qwen2.5-math-7b/cft", "qwen2.5-math-7b/cgd", "qwen2.5-math-7b/sft", "qwen2.5-math-7b/sft-verified",
    "qwen2.5-math-7b/one-shot", "qwen2.5-7b/cft", "deepseek-math-7b/cft", "qwen2.5-32b-instruct/cft-4k",
    "smollm2-135m/cft", "smollm2-135m/cgd", "smollm2-135m/sft", "smollm2-135m/mixture",
    "smollm2-135m/code-review", "smollm2-135m/rubric",
}  # fmt: skip


def name_of(path):
    return f"{path.parent.name}/{path.stem}"


def test_the_recipes_are_all_there():
    assert {name_of(path) for path in RECIPES} == NAMES


@pytest.mark.parametrize("path", RECIPES, ids=name_of)
def test_recipe_trains(path, tokenizers, tmp_path, rows, monkeypatch):
    import yaml

    tokenizer = tokenizers("qwen2_5")
    make_model(tokenizer).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    flags = ["--config", path, "--model_name_or_path", tmp_path / "model", "--output_dir", tmp_path / "run",
             "--use_cpu", "true", "--bf16", "false", "--attn_implementation", "sdpa", "--dtype", "float32",
             "--max_steps", "2", "--per_device_train_batch_size", "2", "--gradient_accumulation_steps", "1",
             "--logging_steps", "1", "--report_to", "none", "--disable_tqdm", "true"]  # fmt: skip
    script, config, model = parse_settings([str(flag) for flag in flags])
    given = yaml.safe_load(path.read_text())
    assert given["objective"] == config.objective
    assert given["learning_rate"] == config.learning_rate
    assert given["max_length"] == config.max_length
    assert given.get("over_length", "shorten_response") == config.over_length

    def small_rows(script, evaluate):
        return Dataset.from_list(rows), Dataset.from_list(rows[:4]) if evaluate else None

    monkeypatch.setattr(training_script, "load_rows", small_rows)
    trainer = training_script.run_training(script, config, model)
    assert trainer.state.global_step == 2
    assert trainer.preparation["train"].used >= 20
    assert list((tmp_path / "run").glob("*.safetensors"))


def test_qlora_settings_reach_the_model(tokenizers, tmp_path, rows, monkeypatch):
    """4-bit loading needs a GPU; what it is asked for with is checked here, the adapter trains for real."""
    import trl.trainer.sft_trainer as sft

    tokenizer, seen = tokenizers("chatml"), {}
    make_model(tokenizer).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")

    def load(path, **kwargs):
        seen.update(kwargs)
        return make_model(tokenizer), {"missing_keys": set()}

    monkeypatch.setattr(sft, "create_model_from_path", load)
    monkeypatch.setattr(training_script, "load_rows", lambda *_: (Dataset.from_list(rows), None))
    monkeypatch.setattr(training_script, "require", lambda *_: None)  # bitsandbytes is not here
    monkeypatch.setattr(training_script, "get_quantization_config", lambda model: {"4bit": model.load_in_4bit})
    flags = ["--model_name_or_path", tmp_path / "model", "--output_dir", tmp_path / "run", "--use_cpu", "true",
             "--dataset_name", "arithmetic", "--bf16", "false", "--max_steps", "1", "--report_to", "none",
             "--load_in_4bit", "true", "--use_peft", "true", "--lora_r", "4",
             "--lora_target_modules", "all-linear"]  # fmt: skip
    training_script.run_training(*parse_settings([str(flag) for flag in flags]))
    assert seen["quantization_config"] == {"4bit": True}
    assert (tmp_path / "run" / "adapter_model.safetensors").is_file()
