"""Which tools read a model's folder, as its card says it: what `benchmarks/readers.py` found, by architecture.

    list(read_by("runs/mine"))
    # ["Read by transformers 4.46 to 5 as far as each knows the architecture, with the same logits;", …]

docs/space.md has the table. Only what was run is named; an architecture that was not among them is told as that.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cft_trl.errors import CFTError
from cft_trl.models.names import adapter_config
from cft_trl.models.portable import portable_config

# Architectures whose logits were those of transformers 5.23, to 1e-4 on 700 random tokens.
_MLX_LM = {"gemma3_text", "llama", "mistral", "olmo3", "phi3", "qwen2", "qwen3", "qwen3_moe"}
_LLAMA_CPP = {"gemma3_text", "llama", "mistral", "olmo3", "qwen2", "qwen3", "qwen3_moe"}
_VLLM = {"llama"}
# What a reader makes of an architecture without a word, or cannot read of it.
_WARNINGS = {
    "olmo3": "Not by transformers 5.0: what it makes of Olmo 3's rope is another model.",
    "gpt_neox": "Not by llama.cpp: its converter leaves the rotary base out, which is then 10000.",
    "phi3": "llama.cpp's converter wants the base model's tokenizer.model beside these files.",
}


def read_by(folder: str | Path) -> Iterator[str]:
    """What reads a model's folder, a line each; none where it has the weights of a whole model and of an adapter.

    Args:
        folder: As a run leaves it: config.json, or adapter_config.json (with its base's config.json beside it or not).
    """
    folder = Path(folder)
    try:
        adapter = adapter_config(str(folder), None)
    except CFTError:  # which of the two is meant nobody knows, and a card is no reason to end a run
        return
    except ValueError:
        adapter = {}
    if adapter is not None:
        newer = "peft_version" in adapter
        versions = "of the version in adapter_config.json and newer" if newer else "0.13 and newer"
        yield f"Read by PEFT {versions}, and by what loads its adapters."
        return
    config = _read_settings(folder / "config.json")
    _, notes = portable_config(config)
    if notes:
        yield "Read by transformers 5 and what is built on it; in older tools the positions would be wrong (rope)."
        return
    kind = config.get("model_type")
    tried = (("vLLM 0.32", _VLLM), ("mlx-lm 0.32", _MLX_LM), ("llama.cpp's converter", _LLAMA_CPP))
    others = [name for name, architectures in tried if kind in architectures]
    yield "Read by transformers 4.46 to 5 as far as each knows the architecture, with the same logits;"
    if others:
        yield f"by {' and '.join([', '.join(others[:-1]), others[-1]] if others[1:] else others)} too;"
    yield "the tokenizer and its chat template by transformers.js 4.3."
    if kind in _WARNINGS:
        yield _WARNINGS[kind]


def _read_settings(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
