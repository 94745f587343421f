"""What we save, as others read it: the same model under older names. `benchmarks/readers.py` asks the others."""

from __future__ import annotations

import json
import os
import random
import stat

import pytest
from conftest import make_model

from cft_trl.models.portable import make_portable, portable_config, portable_files

CONFIG, TOKENIZER, ADAPTER = "config.json", "tokenizer_config.json", "adapter_config.json"
SLIDING = {"rope_type": "default", "rope_theta": 10_000.0}
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 500_000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 256,
}  # fmt: skip
LLAMA3_SCALING = {key: value for key, value in LLAMA3.items() if key != "rope_theta"}
# family, what it is made with -> what older readers look for
ROPES = [
    ("llama", {"rope_parameters": LLAMA3}, {"rope_theta": 500_000.0, "rope_scaling": LLAMA3_SCALING}),
    ("qwen2", {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}, {"rope_theta": 1e6}),
    (
        "gemma3_text",
        {
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
                "sliding_attention": SLIDING,
            },
            "layer_types": ["sliding_attention", "full_attention"],
        },
        {"rope_theta": 1e6, "rope_local_base_freq": 1e4, "rope_scaling": {"rope_type": "linear", "factor": 8.0}},
    ),
    (
        "phi3",
        {
            "rope_parameters": {
                "rope_type": "longrope", "rope_theta": 2e4, "short_factor": [1.0] * 4, "long_factor": [2.0] * 4,
                "original_max_position_embeddings": 512,
            },
            "original_max_position_embeddings": 512,
        },
        {
            "rope_theta": 2e4, "original_max_position_embeddings": 512,
            "rope_scaling": {"type": "longrope", "short_factor": [1.0] * 4, "long_factor": [2.0] * 4},
        },
    ),
    (
        "gpt_neox",
        {"rope_parameters": {"rope_type": "default", "rope_theta": 2e4, "partial_rotary_factor": 0.5}},
        {"rotary_emb_base": 2e4, "rotary_pct": 0.5},
    ),
    (
        "qwen3_moe",
        {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}, "num_experts": 4, "num_experts_per_tok": 2,
         "moe_intermediate_size": 16},
        {"rope_theta": 1e6, "num_experts": 4},
    ),
]  # fmt: skip


def settings(folder, name=CONFIG):
    return json.loads((folder / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize(("family", "made_with", "wanted"), ROPES, ids=[row[0] for row in ROPES])
def test_older_names_beside_the_new_ones_and_the_same_model_here(tmp_path, tokenizer, family, made_with, wanted):
    import torch
    from transformers import AutoModelForCausalLM

    model = make_model(tokenizer, family, **made_with).eval()
    model.save_pretrained(tmp_path)
    before = settings(tmp_path)
    assert make_portable(tmp_path) == []
    after = settings(tmp_path)
    assert {key: after[key] for key in wanted} == wanted
    assert {key: after[key] for key in before} == before
    assert after["torch_dtype"] == "float32"
    ids = torch.tensor([[random.Random(0).randrange(3, 900) for _ in range(300)]])
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        assert torch.equal(loaded(ids).logits, model(ids).logits)
    assert loaded.config.rope_parameters | model.config.rope_parameters == loaded.config.rope_parameters


def test_done_again_it_changes_nothing_and_what_is_loaded_and_saved_is_the_same_files(tmp_path, tokenizer):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    make_model(tokenizer, rope_parameters=LLAMA3).save_pretrained(tmp_path / "a")
    tokenizer.save_pretrained(tmp_path / "a")
    make_portable(tmp_path / "a")
    contents = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    assert portable_files(tmp_path / "a") == ({}, [])
    make_portable(tmp_path / "a")
    assert {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()} == contents
    AutoModelForCausalLM.from_pretrained(tmp_path / "a").save_pretrained(tmp_path / "b")
    AutoTokenizer.from_pretrained(tmp_path / "a").save_pretrained(tmp_path / "b")
    make_portable(tmp_path / "b")
    assert {path.name: path.read_bytes() for path in (tmp_path / "b").iterdir()} == contents


def test_a_rope_that_no_older_name_can_hold_is_told_and_left(tmp_path):
    layers = {"full_attention": {"rope_type": "default", "rope_theta": 1e6}, "sliding_attention": SLIDING}
    config = {"model_type": "gemma4_text", "rope_parameters": layers, "dtype": "bfloat16"}
    made, [note] = portable_config(config)
    assert "rope differs by layer type (full_attention, sliding_attention)" in note
    assert made == {**config, "torch_dtype": "bfloat16"}


@pytest.mark.parametrize(
    ("model_type", "rope"),
    [
        ("gemma3_text", {"full_attention": {"rope_type": "default"}, "sliding_attention": SLIDING}),  # whose base?
        ("gemma3_text", {"full_attention": None, "sliding_attention": SLIDING}),
        ("gemma3_text", {"full_attention": LLAMA3, "sliding_attention": LLAMA3}),  # scaled in both
        ("olmo3", {"full_attention": {"rope_type": "default", "rope_theta": 5e5}, "sliding_attention": SLIDING}),
        ("step3p5", {"full_attention": SLIDING}),
    ],
)
def test_layers_that_the_older_names_cannot_tell_apart_are_told_and_left(model_type, rope):
    made, notes = portable_config({"model_type": model_type, "rope_parameters": rope, "auto_map": {"AutoConfig": "x"}})
    assert "rope_theta" not in made
    assert "rope_scaling" not in made
    assert "rope differs by layer type" in notes[0]


def test_rope_of_modernbert_by_its_own_names():
    full = {"rope_type": "default", "rope_theta": 160_000.0}
    rope = {"full_attention": full, "sliding_attention": SLIDING}
    made, notes = portable_config({"model_type": "modernbert", "rope_parameters": rope})
    assert (made["global_rope_theta"], made["local_rope_theta"], notes) == (160_000.0, 10_000.0, [])


@pytest.mark.parametrize(
    "rope",
    [
        {"factor": 2.0, "rope_theta": 1e4},
        {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4},
        {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 48, "long_factor": [2.0] * 48},
    ],
)
def test_no_rope_of_a_phi_ends_its_save(rope):
    made, notes = portable_config({"model_type": "phi3", "rope_parameters": rope})
    assert made.get("rope_theta") == 1e4 or "left as transformers wrote it" in notes[0]


def test_numbers_that_json_has_none_of_are_read_as_transformers_reads_them(tmp_path):
    from transformers import BambaConfig

    BambaConfig().save_pretrained(tmp_path)  # whose time steps go to infinity
    assert "__float__" in (tmp_path / CONFIG).read_text()
    assert make_portable(tmp_path) == []
    assert settings(tmp_path)["rope_theta"] == settings(tmp_path)["rope_parameters"]["rope_theta"]
    assert BambaConfig.from_pretrained(tmp_path).time_step_limit == BambaConfig().time_step_limit


def test_a_configuration_that_cannot_be_read_here_is_left(tmp_path):
    config = {
        "model_type": "llama",
        "vocab_size": "many",
        "rope_parameters": {"rope_type": "default", "rope_theta": 5e5},
    }
    made, [note] = portable_config(config)
    assert made == config
    assert "left as transformers wrote it" in note


@pytest.mark.slow  # hundreds of configurations are imported
def test_every_configuration_of_transformers_is_written_and_read_the_same():
    from transformers import CONFIG_MAPPING

    seen, left = 0, []
    for name in sorted(CONFIG_MAPPING):
        try:
            config = json.loads(CONFIG_MAPPING[name]().to_json_string(use_diff=False))
        except Exception:  # one that cannot be made without arguments, or written
            continue
        made, notes = portable_config(config)
        seen += 1
        left += [name for note in notes if "left as transformers wrote it" in note]
        plain = [key for key, value in config.items() if not isinstance(value, dict)]
        assert {key: made[key] for key in plain} == {key: config[key] for key in plain}
    assert seen > 400
    assert left == []


def test_a_change_that_would_be_read_differently_here_is_not_made(monkeypatch):
    from cft_trl.models import portable

    config = {"model_type": "llama", "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}
    monkeypatch.setattr(portable, "_rope", lambda *_: {"rope_scaling": {"rope_type": "linear", "factor": 2.0}})
    made, [note] = portable_config(config)
    assert made == config
    assert "left as transformers wrote it" in note


def test_a_model_inside_a_model_is_read_too():
    inner = {"model_type": "qwen2", "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}
    made, _ = portable_config({"model_type": "of-somebody", "auto_map": {}, "text_config": inner})
    assert made["text_config"]["rope_theta"] == 1e6


@pytest.mark.parametrize("style", ["chatml", "llama3", "qwen3", "gemma", "base"])
def test_the_tokenizer_has_a_class_and_a_template_that_others_know(tmp_path, tokenizers, style):
    from transformers import AutoTokenizer

    tokenizer = tokenizers(style)
    tokenizer.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tmp_path).save_pretrained(tmp_path)  # what is_local leaks in by
    assert settings(tmp_path, TOKENIZER)["is_local"] is True
    make_portable(tmp_path)
    told = settings(tmp_path, TOKENIZER)
    assert told["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert told["additional_special_tokens"] == tokenizer.extra_special_tokens
    assert told.get("chat_template") == tokenizer.chat_template
    assert not {"extra_special_tokens", "is_local", "local_files_only"} & set(told)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    text = "Question: 6 x 7?\n\n<|im_end|> [END]"
    assert loaded(text).input_ids == tokenizer(text).input_ids
    assert loaded.extra_special_tokens == tokenizer.extra_special_tokens
    assert loaded.chat_template == tokenizer.chat_template


def test_templates_by_name_are_kept(tmp_path, tokenizers):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(_saved(tokenizers("chatml"), tmp_path / "one"))
    tokenizer.chat_template = {"default": "{{ messages }}", "tool_use": "{{ tools }}"}
    tokenizer.save_pretrained(tmp_path / "two")
    make_portable(tmp_path / "two")
    told = settings(tmp_path / "two", TOKENIZER)["chat_template"]
    assert told == [{"name": name, "template": text} for name, text in tokenizer.chat_template.items()]
    assert AutoTokenizer.from_pretrained(tmp_path / "two").chat_template == tokenizer.chat_template


def _saved(tokenizer, folder):
    tokenizer.save_pretrained(folder)
    return folder


def test_an_adapter_says_what_is_set_and_no_more(tmp_path, tokenizer):
    from peft import LoraConfig, PeftConfig, get_peft_model

    def saved(name, **options):
        options = {"r": 4, "target_modules": ["v_proj", "q_proj"], "task_type": "CAUSAL_LM"} | options
        model = get_peft_model(make_model(tokenizer), LoraConfig(**options))
        model.save_pretrained(tmp_path / name)
        before = PeftConfig.from_pretrained(tmp_path / name).to_dict()
        make_portable(tmp_path / name)
        after = PeftConfig.from_pretrained(tmp_path / name).to_dict()
        before.pop("peft_version"), after.pop("peft_version")
        assert after == before
        return settings(tmp_path / name, ADAPTER)

    told = saved("plain")
    assert None not in [value for name, value in told.items() if name != "base_model_name_or_path"]
    assert not {"lora_bias", "use_qalora", "qalora_group_size", "ensure_weight_tying", "peft_version"} & set(told)
    assert told["target_modules"] == ["q_proj", "v_proj"]
    assert (told["r"], told["lora_alpha"], told["use_rslora"]) == (4, 8, False)
    newer = saved("newer", lora_bias=True, bias="none")
    assert newer["lora_bias"] is True
    assert "peft_version" in newer  # whoever cannot read it may see why


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_weights_have_the_mode_of_other_files(tmp_path, tokenizer, umask, mode):
    before = os.umask(umask)
    try:
        make_model(tokenizer).save_pretrained(tmp_path)
        (tmp_path / "model.safetensors").chmod(0o600)  # as safetensors 0.8 makes it, whatever the umask
        make_portable(tmp_path)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "model.safetensors").stat().st_mode) == mode
    assert {path.name for path in tmp_path.iterdir()} == {CONFIG, "generation_config.json", "model.safetensors"}


def test_a_folder_without_a_model_or_with_a_broken_one_is_left(tmp_path):
    assert make_portable(tmp_path) == []
    (tmp_path / CONFIG).write_text("{")
    assert make_portable(tmp_path) == []
    assert (tmp_path / CONFIG).read_text() == "{"


@pytest.mark.parametrize("lora", [False, True])
def test_every_folder_of_a_run_is_portable(tmp_path, tokenizer, lora):
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM

    from cft_trl import CFTConfig, CFTTrainer
    from cft_trl.sources.arithmetic import arithmetic_records

    make_model(tokenizer, rope_parameters=LLAMA3).save_pretrained(tmp_path / "base")
    config = CFTConfig(
        str(tmp_path / "run"), use_cpu=True, max_steps=2, save_steps=1, per_device_train_batch_size=2, report_to="none"
    )
    trainer = CFTTrainer(
        AutoModelForCausalLM.from_pretrained(tmp_path / "base"),
        config,
        train_dataset=Dataset.from_list([{**row, "meta": None} for row in arithmetic_records(4)]),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM") if lora else None,
    )
    trainer.train()
    trainer.save_model()
    for folder in (tmp_path / "run", tmp_path / "run" / "checkpoint-1", tmp_path / "run" / "checkpoint-2"):
        assert portable_files(folder) == ({}, [])
        assert settings(folder, TOKENIZER)["tokenizer_class"] == "PreTrainedTokenizerFast"
        if lora:
            assert "eva_config" not in settings(folder, ADAPTER)
        else:
            assert settings(folder)["rope_scaling"] == LLAMA3_SCALING
        [weights] = folder.glob("*.safetensors")
        assert weights.stat().st_mode == (folder / TOKENIZER).stat().st_mode
