"""A saved model that others read as what it is: older transformers, MLX, transformers.js, PEFT, another user here.

    make_portable("runs/mine")      # [] or what could not be told to others, in words

What transformers 5 and PEFT write by themselves is read wrongly elsewhere, mostly without a word: the base of the
rotary embedding stands where only transformers 5 looks, so that others take 10,000; the tokenizer's class is one that
others do not have; its chat template is in a file of its own; PEFT's settings name options that older releases refuse;
safetensors makes files that no other user may read. So each is written a second time, or under its older name:

    config.json             rope_theta and rope_scaling beside rope_parameters, torch_dtype beside dtype
    tokenizer_config.json   tokenizer_class PreTrainedTokenizerFast, additional_special_tokens, chat_template
    adapter_config.json     without what is null, and without newer options that are off
    *.safetensors           the mode that the process gives its other files

The same folder comes out whenever it is done, and done again it changes nothing. What transformers 5 loads stays the
same: a configuration that would not is left as it was, and told. `benchmarks/readers.py` reads the result elsewhere.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Settings = dict[str, Any]

CONFIG, TOKENIZER, ADAPTER = "config.json", "tokenizer_config.json", "adapter_config.json"

# Where the rotary base and the rotated share stood before transformers 5, for architectures with names of their own.
_ROPE_NAMES = {
    "gpt_neox": ("rotary_emb_base", "rotary_pct"),
    "gpt_neox_japanese": ("rotary_emb_base", "rotary_pct"),
}
# Architectures whose layers have two rotary bases: their older names for that of full and of sliding attention.
_LAYERED_ROPE = {
    "gemma3_text": ("rope_theta", "rope_local_base_freq"),
    "gemma3n_text": ("rope_theta", "rope_local_base_freq"),
    "modernbert": ("global_rope_theta", "local_rope_theta"),
    "modernbert-decoder": ("global_rope_theta", "local_rope_theta"),
    "olmo3": ("rope_theta", "rope_theta"),  # one base, scaled in the layers of full attention only
}
# What else the newest transformers writes under another name than the releases before it read.
_RENAMED = {"qwen3_moe": {"num_local_experts": "num_experts"}}
# Phi-3 before transformers 5 takes these keys of its scaling and refuses any other.
_LONGROPE_KEYS = ("type", "short_factor", "long_factor")
# What a folder written before transformers 5 calls a tokenizer that is all in tokenizer.json. Llama's, Gemma's and
# Cohere's own classes there put a begin-of-text token before every text, whatever that file says.
_PLAIN_TOKENIZER = "PreTrainedTokenizerFast"
_TOKENIZERS_TO_RENAME = {
    "TokenizersBackend", "LlamaTokenizer", "CodeLlamaTokenizer", "GemmaTokenizer", "CohereTokenizer",
}  # fmt: skip
_SAFETENSORS_MODE = 0o600  # of what safetensors 0.8 writes, whatever the umask
_THIS_MACHINE = ("is_local", "local_files_only", "name_or_path")
# The settings of a LoRA that PEFT 0.13 knows; it refuses an adapter with any other.
_LORA_SINCE_0_13 = {
    "alpha_pattern", "auto_mapping", "base_model_name_or_path", "bias", "fan_in_fan_out", "inference_mode",
    "init_lora_weights", "layer_replication", "layers_pattern", "layers_to_transform", "loftq_config", "lora_alpha",
    "lora_dropout", "megatron_config", "megatron_core", "modules_to_save", "peft_type", "r", "rank_pattern",
    "revision", "target_modules", "task_type", "use_dora", "use_rslora",
}  # fmt: skip


def make_portable(folder: str | Path) -> list[str]:
    """Rewrites a saved model's settings so that others read them right, and lets others read its files.

    Args:
        folder: As `save_pretrained` left it: a whole model, an adapter, a tokenizer, or any of them together. Files
            that are not there are not made; weights and tokenizer.json are not changed.

    Returns:
        What cannot be told to other readers, a sentence each; empty for nearly every model.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> rope = {"rope_theta": 500000.0, "rope_type": "default"}
        >>> _ = (folder / "config.json").write_text(json.dumps({"model_type": "llama", "rope_parameters": rope}))
        >>> make_portable(folder), json.loads((folder / "config.json").read_text())["rope_theta"]
        ([], 500000.0)
    """
    folder = Path(folder)
    files, notes = portable_files(folder)
    for name, content in files.items():
        _replace(folder / name, content)
    private = [path for path in folder.glob("*.safetensors") if path.stat().st_mode & 0o777 == _SAFETENSORS_MODE]
    if private:
        mode = new_file_mode(folder)
        for path in private:
            path.chmod(mode)
    return notes


def portable_files(folder: Path) -> tuple[dict[str, bytes], list[str]]:
    """The files of a model's folder that others would read wrongly, as they should be -> (content by name, notes).

    Nothing is written, and what is right already is not named.
    """
    files: dict[str, bytes] = {}
    notes: list[str] = []
    for name in (CONFIG, TOKENIZER, ADAPTER):
        old = _read(folder / name)
        if old is None:
            continue
        if name == CONFIG:
            new, notes = portable_config(old)
        elif name == TOKENIZER:
            new = portable_tokenizer(old, _templates(folder), (folder / "tokenizer.json").is_file())
        else:
            new = portable_adapter(old)
        if new != old or list(new) != list(old):
            files[name] = (json.dumps(new, indent=2, ensure_ascii=False) + "\n").encode()
    return files, notes


def new_file_mode(folder: Path) -> int:
    """The permissions that a file made in this folder gets: the process's umask, or the folder's own default."""
    # Asked of a file, since the umask can only be read by setting it, for every thread at once.
    path = Path(tempfile.mkdtemp(dir=folder, prefix=".mode-"))
    probe = path / "file"
    try:
        os.close(os.open(probe, os.O_CREAT | os.O_WRONLY, 0o666))
        return probe.stat().st_mode & 0o777
    finally:
        probe.unlink(missing_ok=True)
        path.rmdir()


# ---- config.json -----------------------------------------------------------------------------------------------------


def portable_config(config: Mapping[str, Any]) -> tuple[Settings, list[str]]:
    """A model's configuration with its rotary settings, dtype and the like under their older names too -> (it, notes).

    Example:
        >>> rope = {"rope_theta": 1e6, "rope_type": "linear", "factor": 2.0}
        >>> made, notes = portable_config({"model_type": "llama", "rope_parameters": rope})
        >>> made["rope_theta"], made["rope_scaling"], notes
        (1000000.0, {'rope_type': 'linear', 'factor': 2.0}, [])
    """
    made: Settings = {}
    notes: list[str] = []
    for key, value in config.items():
        if isinstance(value, Mapping) and "model_type" in value:  # text_config of a model that sees, too
            made[key], more = portable_config(value)
            notes += more
        else:
            made[key] = value
    model_type, rope = config.get("model_type"), config.get("rope_parameters")
    if isinstance(config.get("dtype"), str):
        made["torch_dtype"] = config["dtype"]
    for name, older_name in _RENAMED.get(model_type or "", {}).items():
        if name in config:
            made[older_name] = config[name]
    if isinstance(rope, Mapping) and rope:
        older = _layered_rope(model_type, rope) if _is_layered(rope) else _rope(model_type, rope)
        if older is None:
            notes.append(
                f"config.json: rope differs by layer type ({', '.join(rope)}), for which {model_type} has no names "
                "before transformers 5; nothing older can read this model"
            )
        else:
            made |= older
    made = dict(sorted(made.items()))  # as transformers orders it
    if made != config and not _loads_alike(config, made):
        return dict(config), [*notes, "config.json: left as transformers wrote it, since it would be read differently"]
    return made, notes


def _is_layered(rope: Mapping[str, Any]) -> bool:
    return "rope_type" not in rope and any(isinstance(value, Mapping) for value in rope.values())


def _rope(model_type: str | None, rope: Mapping[str, Any]) -> Settings:
    theta, share = _ROPE_NAMES.get(model_type or "", ("rope_theta", "partial_rotary_factor"))
    older = {theta: rope["rope_theta"]} if rope.get("rope_theta") is not None else {}
    if rope.get("partial_rotary_factor") is not None:
        older[share] = rope["partial_rotary_factor"]
    scaling = _scaling(rope)
    if scaling and model_type == "phi3" and rope.get("rope_type") == "longrope":
        scaling = {key: rope.get(key, rope["rope_type"]) for key in _LONGROPE_KEYS}
        if "original_max_position_embeddings" in rope:
            older["original_max_position_embeddings"] = rope["original_max_position_embeddings"]
    return older | ({"rope_scaling": scaling} if scaling else {})


def _layered_rope(model_type: str | None, rope: Mapping[str, Any]) -> Settings | None:
    """None where the architecture had no names for it."""
    full, sliding = rope.get("full_attention"), rope.get("sliding_attention")
    if model_type not in _LAYERED_ROPE or not full or not sliding or len(rope) != 2 or _scaling(sliding):
        return None
    of_full, of_sliding = _LAYERED_ROPE[model_type]
    if "rope_theta" not in full or "rope_theta" not in sliding:
        return None
    if of_full == of_sliding and full["rope_theta"] != sliding["rope_theta"]:
        return None
    scaling = _scaling(full)
    older = {of_full: full["rope_theta"], of_sliding: sliding["rope_theta"]}
    return older | ({"rope_scaling": scaling} if scaling else {})


def _scaling(rope: Mapping[str, Any]) -> Settings | None:
    """What older readers call `rope_scaling`: all but the base, where there is more than the base."""
    rest = {key: value for key, value in rope.items() if key not in ("rope_theta", "partial_rotary_factor")}
    return rest if rest.get("rope_type", "default") != "default" or set(rest) - {"rope_type", "type"} else None


def _loads_alike(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether the installed transformers makes the same configuration of both; True for one whose code it lacks."""
    from transformers import CONFIG_MAPPING

    if old.get("auto_map") or old.get("model_type") not in CONFIG_MAPPING:
        return True
    kind = CONFIG_MAPPING[old["model_type"]]
    try:
        first, second = (kind.from_dict(_decoded(config)).to_dict() for config in (old, new))
    except Exception:  # whatever a configuration's own checks raise: a save must not end over an older name
        return False
    return _essential(first) == _essential(second)


def _decoded(value: Any) -> Any:
    """A copy of what config.json holds, with the floats that JSON has none of as numbers again.

    Example:
        >>> _decoded({"time_step_limit": [0.0, {"__float__": "Infinity"}]})
        {'time_step_limit': [0.0, inf]}
    """
    if isinstance(value, Mapping):
        if set(value) == {"__float__"}:
            return float(value["__float__"])
        return {key: _decoded(part) for key, part in value.items()}
    return [_decoded(part) for part in value] if isinstance(value, list) else value


def _essential(config: Settings) -> Settings:
    """Without what only repeats `rope_parameters`: beside it, or as the older name of `rope_type`."""
    rope = config.get("rope_parameters")
    if not isinstance(rope, Mapping):
        return config
    beside = ("partial_rotary_factor", "original_max_position_embeddings")
    kept = {key: value for key, value in config.items() if key not in beside or value != rope.get(key)}
    rope = {key: value for key, value in rope.items() if key != "type" or value != rope.get("rope_type")}
    return {**kept, "rope_parameters": rope}


# ---- tokenizer_config.json -------------------------------------------------------------------------------------------


def portable_tokenizer(config: Mapping[str, Any], templates: Mapping[str, str], has_json: bool) -> Settings:
    """A tokenizer's settings as every reader of tokenizer.json understands them.

    Args:
        config: What tokenizer_config.json holds.
        templates: Chat templates in files of their own, by name; "default" is chat_template.jinja.
        has_json: Whether there is a tokenizer.json, which holds the tokenizer whole.

    Example:
        >>> old = {"tokenizer_class": "TokenizersBackend", "extra_special_tokens": ["<think>"], "is_local": True}
        >>> portable_tokenizer(old, {"default": "{{ messages }}"}, True)
        {'additional_special_tokens': ['<think>'], 'chat_template': '{{ messages }}', 'tokenizer_class': \
'PreTrainedTokenizerFast'}
    """
    made = {key: value for key, value in config.items() if key not in _THIS_MACHINE}
    extra = made.get("extra_special_tokens")
    if isinstance(extra, list):  # older readers take a mapping under this name, the list under the other
        del made["extra_special_tokens"]
        if extra:
            made["additional_special_tokens"] = extra
    if has_json and made.get("tokenizer_class") in _TOKENIZERS_TO_RENAME and not made.get("auto_map"):
        made["tokenizer_class"] = _PLAIN_TOKENIZER
    if set(templates) == {"default"}:
        made["chat_template"] = templates["default"]
    elif templates:
        made["chat_template"] = [{"name": name, "template": text} for name, text in sorted(templates.items())]
    return dict(sorted(made.items()))


def _templates(folder: Path) -> dict[str, str]:
    found = {path.stem: path.read_text(encoding="utf-8") for path in folder.glob("additional_chat_templates/*.jinja")}
    path = folder / "chat_template.jinja"
    return found | ({"default": path.read_text(encoding="utf-8")} if path.is_file() else {})


# ---- adapter_config.json ---------------------------------------------------------------------------------------------


def portable_adapter(config: Mapping[str, Any]) -> Settings:
    """An adapter's settings without those that say nothing: null, or newer than PEFT 0.13 and at their default.

    Example:
        >>> portable_adapter({"peft_type": "LORA", "r": 8, "eva_config": None, "target_modules": ["v_proj", "q_proj"]})
        {'peft_type': 'LORA', 'r': 8, 'target_modules': ['q_proj', 'v_proj']}
    """
    made = {key: value for key, value in config.items() if value is not None or key == "base_model_name_or_path"}
    if isinstance(made.get("target_modules"), list):  # a set, written in another order each time
        made["target_modules"] = sorted(made["target_modules"])
    if made.get("peft_type") != "LORA":
        return made
    defaults = _lora_defaults()
    newer = [key for key in made if key not in _LORA_SINCE_0_13 and key != "peft_version"]
    unused = [key for key in newer if key in defaults and made[key] == defaults[key]]
    if len(unused) == len(newer):  # else no reader older than the options can load it, and the version may tell why
        unused.append("peft_version")
    return {key: value for key, value in made.items() if key not in unused}


def _lora_defaults() -> Settings:
    try:
        from peft import LoraConfig
    except ImportError:  # pushed from where it is not installed: nothing is known to be unused
        return {}
    return LoraConfig().to_dict()


# ---- files -----------------------------------------------------------------------------------------------------------


def _read(path: Path) -> Settings | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # a file that is broken is for who loads it to tell
        return None
    return found if isinstance(found, dict) else None


def _replace(path: Path, content: bytes) -> None:
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.write_bytes(content)
    os.replace(scratch, path)


if __name__ == "__main__":
    import sys

    for _folder in sys.argv[1:]:
        for _note in make_portable(_folder):
            print(f"{_folder}: {_note}")
