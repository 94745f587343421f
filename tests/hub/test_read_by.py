"""What a card says of who reads the model: what was run, by architecture, and what is wrong elsewhere."""

from __future__ import annotations

import json

import pytest

from cft_trl.hub.read_by import read_by

ROPE = {"rope_type": "default", "rope_theta": 1e6}


def told(folder, **settings):
    (folder / "config.json").write_text(json.dumps({"rope_parameters": ROPE, **settings}))
    return " ".join(read_by(folder))


@pytest.mark.parametrize(
    ("model_type", "there", "not_there"),
    [
        ("llama", "by vLLM 0.32, mlx-lm 0.32 and llama.cpp's converter too;", "Not by"),
        ("qwen2", "by mlx-lm 0.32 and llama.cpp's converter too;", "vLLM"),
        ("phi3", "by mlx-lm 0.32 too;", "vLLM"),
        ("phi3", "wants the base model's tokenizer.model", "Not by"),
        ("gpt_neox", "Not by llama.cpp", "mlx-lm"),
        ("olmo3", "Not by transformers 5.0", "vLLM"),
        ("starcoder2", "Read by transformers 4.46 to 5 as far as each knows the architecture", "too;"),
    ],
)
def test_only_what_was_run_is_named(tmp_path, model_type, there, not_there):
    text = told(tmp_path, model_type=model_type, auto_map={"AutoConfig": "not here"})
    assert there in text
    assert not_there not in text


def test_rope_that_others_have_no_name_for_is_told(tmp_path):
    text = told(tmp_path, model_type="gemma4_text", rope_parameters={"full_attention": ROPE, "sliding_attention": ROPE})
    assert text.startswith("Read by transformers 5 and what is built on it")
    assert "4.46" not in text


def test_an_adapter_names_the_oldest_peft_that_reads_it(tmp_path):
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps({"peft_type": "LORA", "r": 8}))
    assert list(read_by(tmp_path)) == ["Read by PEFT 0.13 and newer, and by what loads its adapters."]
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))  # its base's, by another tool
    assert list(read_by(tmp_path)) == ["Read by PEFT 0.13 and newer, and by what loads its adapters."]
    for name in ("model.safetensors", "adapter_model.safetensors"):
        (tmp_path / name).write_bytes(b"")
    assert list(read_by(tmp_path)) == []
    (tmp_path / "model.safetensors").unlink()
    path.write_text(json.dumps({"peft_type": "LORA", "lora_bias": True, "peft_version": "0.21.2"}))
    assert list(read_by(tmp_path)) == [
        "Read by PEFT of the version in adapter_config.json and newer, and by what loads its adapters."
    ]
