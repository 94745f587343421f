"""The shapes of models, as far as memory and arithmetic depend on them.

    model_shape("Qwen/Qwen2.5-7B")
    ModelShape(parameters=7_615_616_512, layers=28, hidden=3584, …, linears=(("q_proj", 3584, 3584), …))

The models of the recipes are known without a network (`PUBLISHED`); any other is read from its folder or the Hub.
Either way it is built on the meta device, where weights have shapes and no contents, and counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from cft_trl.errors import CFTError, nearest

# name -> its published config.json, the fields that shapes depend on
_QWEN_7B = {
    "model_type": "qwen2", "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
    "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064, "tie_word_embeddings": False,
}  # fmt: skip
_QWEN_1_5B = {
    "model_type": "qwen2", "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28,
    "num_attention_heads": 12, "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True,
}  # fmt: skip
_QWEN_32B = {
    "model_type": "qwen2", "hidden_size": 5120, "intermediate_size": 27648, "num_hidden_layers": 64,
    "num_attention_heads": 40, "num_key_value_heads": 8, "vocab_size": 152064, "tie_word_embeddings": False,
}  # fmt: skip
_SMOLLM2_135M = {
    "model_type": "llama", "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
    "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152, "tie_word_embeddings": True,
}  # fmt: skip
PUBLISHED: dict[str, dict[str, Any]] = {
    "Qwen/Qwen2.5-7B": _QWEN_7B,
    "Qwen/Qwen2.5-Math-7B": _QWEN_7B,
    "Qwen/Qwen2.5-1.5B": _QWEN_1_5B,
    "Qwen/Qwen2.5-Math-1.5B": _QWEN_1_5B,
    "Qwen/Qwen2.5-32B-Instruct": _QWEN_32B,
    "deepseek-ai/deepseek-math-7b-base": {
        "model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 30,
        "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 102400, "tie_word_embeddings": False,
    },
    "meta-llama/Llama-3.1-8B-Instruct": {
        "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256, "tie_word_embeddings": False,
    },
    "HuggingFaceTB/SmolLM2-135M-Instruct": _SMOLLM2_135M,
    "smollm2-135m": _SMOLLM2_135M,
}  # fmt: skip


@dataclass(frozen=True)
class ModelShape:
    """What memory and arithmetic depend on.

    Attributes:
        parameters: of the whole model; tied embeddings count once.
        layers: decoder layers.
        hidden, intermediate: widths of the residual stream and of the gated MLP.
        heads: attention heads; `query` and `key_value` are the widths of all query and all key (or value) heads.
        vocabulary: rows of the embedding.
        tied: whether the LM head is the embedding.
        linears: of one layer, (name, inputs, outputs) of each matrix.
    """

    parameters: int
    layers: int
    hidden: int
    intermediate: int
    heads: int
    query: int
    key_value: int
    vocabulary: int
    tied: bool
    linears: tuple[tuple[str, int, int], ...]

    @property
    def layer_matrices(self) -> int:
        """Parameters of all layers' matrices: every token is multiplied by each of them once."""
        return self.layers * sum(inputs * outputs for _, inputs, outputs in self.linears)

    @property
    def head(self) -> int:
        """Parameters of the LM head."""
        return self.vocabulary * self.hidden

    def adapters(self, rank: int, targets: list[str] | None) -> int:
        """Parameters of LoRA adapters of `rank` on the matrices named, default PEFT's: queries and values.

        Raises:
            CFTError: The model has no matrix of a name.
        """
        names = targets or ["q_proj", "v_proj"]
        if "all-linear" in names:
            names = [name for name, _, _ in self.linears]
        known = {name for name, _, _ in self.linears}
        for name in names:
            if name not in known:
                raise CFTError(f"lora_target_modules: no matrix {name} in this model{nearest(name, known)}")
        return self.layers * sum(rank * (i + o) for name, i, o in self.linears if name in names)


def model_shape(name: str, revision: str | None = None) -> ModelShape:
    """The shape of a model by name.

    Args:
        name: one of `PUBLISHED`, a folder, or a Hub id (its config.json alone is fetched).
        revision: commit, tag or branch on the Hub.

    Raises:
        CFTError: the model cannot be found, or is of an architecture that is not planned for.

    Example:
        >>> model_shape("smollm2-135m").parameters
        134515008
    """
    return _published_shape(name) if name in PUBLISHED else _shape(_config(name, revision), name)


@cache
def _published_shape(name: str) -> ModelShape:
    from transformers import AutoConfig

    fields = dict(PUBLISHED[name])
    return _shape(AutoConfig.for_model(fields.pop("model_type"), **fields), name)


def _config(name: str, revision: str | None) -> Any:
    from transformers import AutoConfig

    from cft_trl.models.adapters import refuse_adapter
    from cft_trl.models.names import resolve_model

    refuse_adapter(name, revision)
    try:
        return AutoConfig.from_pretrained(resolve_model(name, revision=revision), revision=revision)
    except CFTError as error:
        raise CFTError(f"{error}; known without a network: {', '.join(PUBLISHED)}{nearest(name, PUBLISHED)}") from error
    except (OSError, ValueError) as error:
        raise CFTError(f"model '{name}': its config.json cannot be read: {error}") from error


def _shape(config: Any, name: str) -> ModelShape:
    import torch
    from transformers import AutoModelForCausalLM

    config = config.get_text_config()
    experts = next((f for f in ("num_local_experts", "num_experts", "n_routed_experts") if getattr(config, f, 0)), None)
    try:
        if experts:
            raise ValueError("it has experts, not all of which see every token")
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
        layer = model.model.layers[0]
        modules = [(path.rpartition(".")[2], m) for path, m in layer.named_modules() if isinstance(m, torch.nn.Linear)]
        linears = tuple((path, m.in_features, m.out_features) for path, m in modules)
        widths = {path: outputs for path, _, outputs in linears}
        return ModelShape(
            parameters=sum(p.numel() for p in model.parameters()),
            layers=config.num_hidden_layers,
            hidden=config.hidden_size,
            intermediate=widths["gate_proj"],
            heads=config.num_attention_heads,
            query=widths["q_proj"],
            key_value=widths["k_proj"],
            vocabulary=config.vocab_size,
            tied=bool(config.tie_word_embeddings),
            linears=linears,
        )
    except (AttributeError, KeyError, ValueError) as error:
        raise CFTError(
            f"model '{name}' ({config.model_type}) cannot be planned for: {error}; layers like Llama's, Qwen2's, "
            "Qwen3's, Mistral's or Gemma's can"
        ) from error
