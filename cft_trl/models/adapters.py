"""Adapters (PEFT: LoRA, DoRA, IA3, virtual tokens, whole modules beside them) on the model they were trained on.

    base_of("runs/lora")                  Base(name="Qwen/Qwen2.5-Math-7B", revision="b101308f…", changed=None)
    base_of("runs/lora", base="./mine")   Base(name="mine", revision=None, changed="other weights (9f2c… before, …)")

    runs/lora/adapter_config.json         {"peft_type": "LORA", "base_model_name_or_path": "Qwen/Qwen2.5-Math-7B", …}
    runs/lora/training.json               {"identity": {"base": {"kind": "hub", "commit": "b101308f…"}}, …}

`PeftModel.from_pretrained` puts them there: transformers' own `load_adapter` leaves DoRA's magnitudes out, and refuses
adapters of virtual tokens. An adapter means something on its own base only. So the base's commit is the one that the
adapter or its run names; and where the base is another by now, that is said in a line and goes into results.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cft_trl.environment import require
from cft_trl.errors import CFTError
from cft_trl.models.identity import model_identity, what_changed
from cft_trl.models.names import ADAPTER_BASE, adapter_config, hub_commit, named_base, record_of, resolve_model
from cft_trl.models.pulled import pulled_from

OPTION_HELP = "for an adapter: its base model, folder or Hub id (NAME@REVISION), where it is not the one it names"
# What of a base an adapter depends on; it has a tokenizer, a template and generation settings of its own.
_DECIDES = ("kind", "name", "commit", "weights", "config", "base")
_FILES = ("adapter_*", "*.json")  # of an adapter on the Hub; weights of other models may lie beside it


@dataclass(frozen=True)
class Base:
    """The model that an adapter is put on.

    Attributes:
        name: What `from_pretrained` takes: folder or Hub id.
        revision: Its commit, tag or branch on the Hub; None for a folder, and where nothing says.
        changed: How it differs from the base that the adapter's run wrote down, in words; None where it does not, or
            where no run wrote anything down.
    """

    name: str
    revision: str | None
    changed: str | None = None


def base_of(source: str, revision: str | None = None, base: str | None = None) -> Base | None:
    """The base of an adapter, compared with what its run wrote down of it; None for a whole model.

    Args:
        source: Folder or Hub id (see `cft_trl.models.names.resolve_model`).
        revision: Commit, tag or branch of a Hub id.
        base: Another base, "NAME" or "NAME@REVISION".

    Raises:
        CFTError: The base is not there, or one is given for a whole model.
    """
    source = resolve_model(source, revision=revision)
    settings = adapter_config(source, revision)
    if settings is None:
        if base:
            raise CFTError(f"{ADAPTER_BASE} {base}: '{source}' is a whole model and no adapter; leave it out")
        return None
    record = record_of(source)
    name, at = named_base(source, settings, base)
    return Base(name, at, _changed(record.get("identity", {}).get("base"), name, at))


def base_changed(source: str, revision: str | None = None, base: str | None = None) -> str | None:
    """How the base of an adapter differs from the one it was trained on, in words; None where nothing says so.

    Args:
        source: Folder or Hub id of the adapter; a whole model has no base.
        revision: Commit, tag or branch of a Hub id.
        base: Another base, as for `base_of`.
    """
    found = base_of(source, revision, base)
    return found.changed if found else None


def tell_changed(source: str, base: Base | None) -> None:
    """Says on standard error, once for each adapter and by one process, that it is on another base."""
    if base and base.changed and (source, base) not in _told and os.environ.get("RANK", "0") == "0":
        _told.add((source, base))
        line = f"cft: the base of the adapter '{source}', {base.name}, is not what it was trained on: {base.changed}"
        print(line, file=sys.stderr, flush=True)


_told: set[tuple[str, Base]] = set()


def put_on(model: Any, source: str, revision: str | None = None) -> Any:
    """The adapter `source` on the model, a `PeftModel` in evaluation mode, with the adapter's generation settings.

    Args:
        model: The base, loaded.
        source: Folder or Hub id of the adapter.
        revision: Its commit.

    Raises:
        CFTError: It does not fit the model, or PEFT is not there.
        OSError, ValueError: Its files cannot be read.
    """
    require("lora", "a PEFT adapter", "peft")
    from peft import PeftModel

    folder = _local(source, revision)
    _make_room(model, folder)
    try:
        # On the model's own device: left alone, PEFT reads the weights onto the first GPU.
        adapted = PeftModel.from_pretrained(model, folder, torch_device=str(model.device))
    except (RuntimeError, KeyError, TypeError) as error:
        if "memory" in str(error):  # is told by whoever knows what else is loaded
            raise
        told = " ".join(str(error).split())
        raise CFTError(f"the adapter '{source}' does not fit its base '{model.name_or_path}': {told[:300]}") from error
    here, there = _low_rank(adapted.state_dict()), _low_rank(_names(folder))
    if here != there:  # PEFT passes over what has no place
        told = f"it has {there} low-rank tensors, and {here} have a place there"
        raise CFTError(f"the adapter '{source}' does not fit its base '{model.name_or_path}': {told}")
    _take_generation_config(model, folder)
    return adapted.eval()


def refuse_adapter(name: str, revision: str | None = None, setting: str = "model_name_or_path") -> None:
    """Training begins with whole models.

    Args:
        name: Folder, Hub id or `smollm2-135m`; what is not there is told by whoever loads it.
        setting: What named it.

    Raises:
        CFTError: It is an adapter; its base is named.
    """
    try:
        source = resolve_model(name, revision=revision)
        settings = adapter_config(source, hub_commit(source, revision))
    except CFTError:
        return
    if settings:
        base = settings.get("base_model_name_or_path")
        raise CFTError(
            f"{setting}={name} is an adapter on '{base}', and training begins with a whole model; give "
            f"{setting}={base}, or a folder with the two merged (peft's merge_and_unload)"
        )


def _changed(before: Mapping[str, Any] | None, name: str, revision: str | None) -> str | None:
    if not before:
        return None
    now = model_identity(name, revision)
    if before.get("kind") == "hub" and now["kind"] == "folder" and (pulled := pulled_from(name)):
        now = {"kind": "hub", "name": pulled[0], "commit": pulled[1]}
    before, now = ({part: value for part, value in one.items() if part in _DECIDES} for one in (before, now))
    if before.get("kind") == now.get("kind") == "hub" and None in (before.get("commit"), now.get("commit")):
        before, now = ({**one, "commit": None} for one in (before, now))  # the Hub did not say, then or now
    return what_changed(before, now)


def _local(source: str, revision: str | None) -> str:
    """The adapter's folder; of a Hub id what was downloaded, or is in the cache."""
    if Path(source).is_dir():
        return source
    from huggingface_hub import snapshot_download

    return snapshot_download(source, revision=revision, allow_patterns=list(_FILES))


def _low_rank(names: Iterable[str]) -> int:
    return sum(".lora_A." in name or ".lora_B." in name for name in names)


def _names(folder: str) -> list[str]:
    from safetensors import safe_open

    with safe_open(Path(folder) / "adapter_model.safetensors", "pt") as tensors:
        return list(tensors.keys())


def _make_room(model: Any, folder: str) -> None:
    """As many rows for tokens as the adapter's run had: a chat template may have brought tokens of its own.

    PEFT saves the head or the embeddings whole then, and refuses to load them into another number of rows. It may be a
    smaller one: where the base has more rows than its tokenizer has tokens, TRL 1.16 cuts them when it takes a chat
    template from another model (`clone_chat_template`).
    """
    from safetensors import safe_open

    path = Path(folder) / "adapter_model.safetensors"
    if not path.is_file():
        return
    whole = (".lm_head.weight", ".embed_tokens.weight", ".wte.weight")
    with safe_open(path, "pt") as tensors:
        rows = {tensors.get_slice(name).get_shape()[0] for name in tensors.keys() if name.endswith(whole)}  # noqa: SIM118
    if rows and max(rows) != model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(max(rows), mean_resizing=False)


def _take_generation_config(model: Any, folder: str) -> None:
    """The adapter's own generation settings in place of its base's: they name the end tokens it was trained with."""
    from transformers import GenerationConfig

    with suppress(OSError):  # adapters of other tools have none
        model.generation_config = GenerationConfig.from_pretrained(folder)
