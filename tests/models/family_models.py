"""The models behind the families of families.py: which of them share prefixes, and which were asked behind vLLM.

shares("qwen3.5-think")   # "no: layers of type linear_attention"
shares("gemma3")          # "rows up to its window"
"""

from __future__ import annotations

from typing import Any

# Family -> transformers' types of its models, at the settings that transformers itself gives them.
MODEL_TYPES = {
    "qwen2.5": ("qwen2",),
    "qwen2.5-base": ("qwen2",),
    "qwen3": ("qwen3",),
    "qwen3-base": ("qwen3",),
    "qwen3.5-think": ("qwen3_5_text",),
    "llama2": ("llama",),
    "llama3": ("llama",),
    "llama3.1": ("llama",),
    "llama3.2": ("llama",),
    "gemma": ("gemma", "gemma2"),
    "gemma3": ("gemma3_text",),
    "deepseek-v3": ("deepseek_v3",),
    "deepseek-r1": ("deepseek_v3",),
    "gpt-oss": ("gpt_oss",),
    "nemotron3": ("nemotron_h",),
    "glm4": ("glm4_moe",),
    "phi3": ("phi3",),
    "cohere2": ("cohere2",),
}

# Family -> how the models were trained that vLLM gave the critiques back from; test_family_models.py asks again.
SERVED: dict[str, tuple[str, ...]] = {
    "qwen2.5-base": ("padded",),
    "qwen3": ("padded", "lora"),
    "llama2": ("padded",),
    "llama3": ("padded",),
    "llama3.1": ("padded",),
    "gemma3": ("padded",),
    "deepseek-v3": ("padded",),
    "gpt-oss": ("padded", "lora"),
}

_SMALL = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0,
}  # fmt: skip
_EXPERTS = {
    "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1, "moe_intermediate_size": 16,
    "first_k_dense_replace": 1,
}  # fmt: skip
_OWN = {
    "deepseek_v3": {
        **_EXPERTS, "num_key_value_heads": 4, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 8, "v_head_dim": 8,
    },
    "glm4_moe": _EXPERTS,
    "gemma3_text": {"sliding_window": 64},
    "cohere2": {"sliding_window": 64},
}  # fmt: skip


def tiny(model_type: str, vocabulary: int) -> Any:
    """A random model of two layers of a type that can share, float32, the same every time."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    settings = {**_SMALL, **_OWN.get(model_type, {}), "vocab_size": vocabulary}
    if model_type in ("deepseek_v3", "phi3"):  # which work it out
        settings.pop("head_dim")
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **settings), dtype=torch.float32).eval()


def reason(model_type: str, longest_row: int) -> str | None:
    """Why models of a type, at transformers' own settings, cannot share rows of so many tokens; None if they can."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig

    from cft_trl.training.prefix_sharing.attention import why_not_shared

    config = AutoConfig.for_model(model_type)
    return why_not_shared(config, MODEL_FOR_CAUSAL_LM_MAPPING[type(config)], longest_row)


def shares(family: str) -> str:
    """The column on sharing of docs/models.md."""

    def told(model_type: str) -> str:
        if why := reason(model_type, 1):
            return f"no: {why.partition(' have ')[2].replace('_', ' ')}"
        return "rows up to its window" if reason(model_type, 10**9) else "yes"

    said = {model_type: told(model_type) for model_type in MODEL_TYPES[family]}
    if len(set(said.values())) == 1:
        return next(iter(said.values()))
    return "; ".join(f"{model_type.title()} {what}" for model_type, what in said.items())


def served(family: str) -> str:
    """The column on vLLM."""
    names = {"padded": "whole", "lora": "LoRA"}
    return ", ".join(names[mode] for mode in SERVED.get(family, ())) or "not run"
