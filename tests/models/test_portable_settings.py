"""What is written of a saved model's settings, key by key, without a model; folders of one are in test_portable.py."""

from __future__ import annotations

import json
import os
import stat

import pytest

from cft_trl.models import portable
from cft_trl.models.portable import make_portable, portable_adapter, portable_config, portable_files, portable_tokenizer

ROPE = {"rope_type": "default", "rope_theta": 5e5}
LINEAR = {"rope_type": "linear", "factor": 2.0}


def test_scaling_is_all_but_the_base_and_the_rotated_share():
    rope = {**LINEAR, "rope_theta": 5e5, "partial_rotary_factor": 0.5}
    made, notes = portable_config({"model_type": "llama", "rope_parameters": rope})
    assert (made["rope_theta"], made["partial_rotary_factor"], made["rope_scaling"]) == (5e5, 0.5, LINEAR)
    assert notes == []
    plain, _ = portable_config({"model_type": "llama", "rope_parameters": {"type": "default", **ROPE}})
    assert "rope_scaling" not in plain  # nothing is scaled
    old, _ = portable_config(
        {"model_type": "llama", "rope_parameters": {"type": "linear", **LINEAR, "rope_theta": 1e4}}
    )
    assert old["rope_scaling"] == {"type": "linear", **LINEAR}  # an older key beside the new one is no other model


def test_no_base_is_made_up():
    made, _ = portable_config({"model_type": "llama", "rope_parameters": LINEAR, "auto_map": {"AutoConfig": "x"}})
    assert "rope_theta" not in made
    assert made["rope_scaling"] == LINEAR
    assert portable_config({"model_type": "gpt2"}) == ({"model_type": "gpt2"}, [])


def test_a_tokenizer_that_is_not_all_in_tokenizer_json_keeps_its_class():
    for name in ("LlamaTokenizer", "CodeLlamaTokenizer", "GemmaTokenizer", "CohereTokenizer", "TokenizersBackend"):
        assert portable_tokenizer({"tokenizer_class": name}, {}, True) == {"tokenizer_class": "PreTrainedTokenizerFast"}
        assert portable_tokenizer({"tokenizer_class": name}, {}, False) == {"tokenizer_class": name}
        code = {"tokenizer_class": name, "auto_map": {"AutoTokenizer": ["x.Y", None]}}  # its own code knows better
        assert portable_tokenizer(code, {}, True)["tokenizer_class"] == name
    assert portable_tokenizer({"tokenizer_class": "BertTokenizer"}, {}, True) == {"tokenizer_class": "BertTokenizer"}


def test_nothing_of_this_machine_and_no_empty_list_is_in_a_tokenizers_settings():
    told = {
        "extra_special_tokens": [],
        "is_local": True,
        "local_files_only": True,
        "name_or_path": "/home/me/x",
        "b": 1,
    }
    assert portable_tokenizer(told, {}, True) == {"b": 1}
    named = {"extra_special_tokens": {"image_token": "<image>"}}  # a mapping is what older readers expect there
    assert portable_tokenizer(named, {}, True) == named
    one = portable_tokenizer({"chat_template": "old"}, {"default": "new"}, True)
    assert one == {"chat_template": "new"}
    assert portable_tokenizer({"chat_template": "kept"}, {}, True) == {"chat_template": "kept"}


def test_an_adapter_without_a_base_says_so_and_other_kinds_are_left():
    made = portable_adapter({"peft_type": "LORA", "base_model_name_or_path": None, "eva_config": None})
    assert made == {"peft_type": "LORA", "base_model_name_or_path": None}
    other = {"peft_type": "PREFIX_TUNING", "lora_bias": False, "peft_version": "0.21.2", "use_dora": False}
    assert portable_adapter(other) == other
    newer = {"peft_type": "LORA", "lora_bias": True, "peft_version": "0.21.2"}
    assert portable_adapter(newer) == newer
    assert portable_adapter({**newer, "lora_bias": False}) == {"peft_type": "LORA"}


def test_without_peft_nothing_is_known_to_be_unused(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "peft", None)
    told = {"peft_type": "LORA", "lora_bias": False, "peft_version": "0.21.2"}
    assert portable_adapter(told) == told


def test_only_what_safetensors_made_private_is_opened(tmp_path):
    before = os.umask(0o022)
    try:
        for name, mode in (("model-00001-of-00002", 0o600), ("adapter_model", 0o600), ("other", 0o640)):
            (tmp_path / f"{name}.safetensors").write_bytes(b"")
            (tmp_path / f"{name}.safetensors").chmod(mode)
        (tmp_path / "optimizer.pt").write_bytes(b"")
        (tmp_path / "optimizer.pt").chmod(0o600)  # somebody meant it
        make_portable(tmp_path)
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {
        "model-00001-of-00002.safetensors": 0o644, "adapter_model.safetensors": 0o644, "other.safetensors": 0o640,
        "optimizer.pt": 0o600,
    }  # fmt: skip


def test_a_settings_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": "llama", "rope_parameters": ROPE}))
    before = path.read_text()
    monkeypatch.setattr(portable.os, "replace", lambda *_: (_ for _ in ()).throw(OSError("no space")))
    with pytest.raises(OSError, match="no space"):
        make_portable(tmp_path)
    assert path.read_text() == before
    monkeypatch.undo()
    assert make_portable(tmp_path) == []
    assert json.loads(path.read_text())["rope_theta"] == 5e5
    assert portable_files(tmp_path) == ({}, [])
