"""What a thing is, as opposed to what it is called: models, endpoints, tokenizers, rows.

    model_identity("runs/mine")     {"kind": "folder", "weights": "9f2c…", "config": "41aa…", "generation": "0b7e…",
                                     "tokenizer": "77d0…", "template": "c0de…"}
    model_identity("org/model")     {"kind": "hub", "name": "org/model", "commit": "b101308f…"}
    what_changed(before, now)       "other weights, another chat template"; None where nothing did

A name stays while what it names changes: a folder is trained in again, a branch of the Hub moves, a port gets another
server, rows are rebuilt under their old ids. So whatever is kept for later (a journal, a stage's mark, a run's record,
scores, a selection) is kept under identities, and whatever goes on from it compares them first. Where a folder lies is
no part of what it is: a run that was moved is the same run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cft_trl.data.digests import content_digest, file_digest, files_digest, tensors_digest
from cft_trl.errors import CFTError
from cft_trl.models.names import adapter_config, hub_commit, named_base, resolve_model

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

Identity = dict[str, Any]

# The files of a model's folder by what they decide; a pattern that matches nothing is left out. What else lies there
# (records, metrics, optimizer states, a card) says nothing about what the model writes.
_PARTS = {
    "config": ("config.json", "*.py"),
    "generation": ("generation_config.json",),
    "tokenizer": (
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.json",
        "vocab.txt",
        "merges.txt",
        "*.model",
    ),
    "template": ("chat_template.jinja", "chat_template.json", "additional_chat_templates/*.jinja"),
}
_ADAPTER = "adapter_config.json"
# All of these, as patterns; code that comes with a model is not among them.
MODEL_FILES = (
    "*.safetensors",
    "*.safetensors.index.json",
    _ADAPTER,
    *(pattern.partition("/")[0] for patterns in _PARTS.values() for pattern in patterns if pattern != "*.py"),
)

# How a part is called when it is another one.
_WORDS = {
    "kind": "another kind of source",
    "name": "another name",
    "weights": "other weights",
    "config": "another config.json",
    "generation": "another generation_config.json",
    "tokenizer": "another tokenizer",
    "template": "another chat template",
    "adapter": "another adapter_config.json",
    "commit": "another commit on the Hub",
    "dtype": "another dtype",
    "eos": "another end token",
    "address": "another address",
    "served": "another model behind the name",
    "context": "another context length",
    "created": "a model made at another time",
    "code": "another version of our own code that writes the texts",
    "rows": "another number of rows",
    "texts": "other texts",
    "files": "other files",
    "labels": "other names of classes",
    "round": "answers asked for anew",
}


# ---- models ----


def model_identity(name: str, revision: str | None = None, adapter_base: str | None = None) -> Identity:
    """What a model is: a folder by its content, a Hub id by the commit it stands for now.

    Args:
        name: Folder, Hub id or `smollm2-135m`.
        revision: Commit, tag or branch of a Hub id.
        adapter_base: What an adapter is put on in place of the base it names.

    Returns:
        For a folder, digests of its weights' tensors, config (and code), generation config, tokenizer and chat
        template, each only if it is there; for an adapter also of its settings, and under "base" the same of the model
        it is on. For a Hub id its commit; an adapter there has a "base" too, whose branch may
        move by itself.

    Raises:
        CFTError: No such model, a revision of something that has none, weights that are cut short.
    """
    source = resolve_model(name, revision=revision)
    if Path(source).is_dir():
        return folder_identity(source, adapter_base)
    commit = hub_commit(source, revision)
    found: Identity = {"kind": "hub", "name": source, "commit": commit}
    if adapter := adapter_config(source, commit or revision):
        found["base"] = _base_identity(source, adapter, adapter_base)
    return found


def folder_identity(folder: str | Path, adapter_base: str | None = None) -> Identity:
    """What a folder written by `save_pretrained` is; see `model_identity`.

    A 7B folder is read once (some ten seconds); afterwards its files' digests are remembered (`digests.py`).

    Raises:
        CFTError: Weights that cannot be read; or an adapter's base that is not there.
    """
    found = own_identity(folder)
    if "adapter" in found:
        settings = json.loads((Path(folder) / _ADAPTER).read_text(encoding="utf-8"))
        found["base"] = _base_identity(str(folder), settings, adapter_base)
    return found


def own_identity(folder: str | Path) -> Identity:
    """What a folder holds itself: of an adapter all but its base.

    Raises:
        CFTError: Weights that cannot be read.
    """
    folder = Path(folder)
    found: Identity = {"kind": "folder"}
    try:
        if weights := weight_files(folder):
            found["weights"] = tensors_digest(weights)
        for part, patterns in _PARTS.items():
            files = sorted({file for pattern in patterns for file in folder.glob(pattern) if file.is_file()})
            if files:
                found[part] = files_digest(files, folder)
        settings = adapter_config(str(folder), None)
    except (OSError, ValueError) as error:
        if isinstance(error, CFTError):
            raise
        raise CFTError(f"model folder '{folder}' cannot be read ({error}); copy or save it again") from None
    if settings is None:
        return found
    own = {name: value for name, value in settings.items() if name not in ("base_model_name_or_path", "revision")}
    return found | {"adapter": content_digest(own)}


def _base_identity(source: str, settings: Mapping[str, Any], other: str | None) -> Identity:
    """What the model is that an adapter is put on."""
    return model_identity(*named_base(source, settings, other))


def weight_files(folder: str | Path) -> list[Path]:
    """The safetensors files of a folder that `from_pretrained` reads: an adapter's, one file, or those of an index."""
    folder = Path(folder)
    if adapter_config(str(folder), None) is not None:
        return [path] if (path := folder / "adapter_model.safetensors").is_file() else []
    if (path := folder / "model.safetensors").is_file():
        return [path]
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        names = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        return [folder / name for name in sorted(set(names))]
    return sorted(folder.glob("*.safetensors"))


def model_files(folder: str | Path, adapter_base: str | None = None) -> list[Path]:
    """The files that `folder_identity` looks at, those of an adapter's local base among them."""
    folder = Path(folder)
    patterns = [_ADAPTER, "*.safetensors.index.json", *(one for part in _PARTS.values() for one in part)]
    found = {*weight_files(folder), *(file for pattern in patterns for file in folder.glob(pattern))}
    adapter = adapter_config(str(folder), None)
    base = folder
    if adapter:
        with suppress(CFTError):
            base = Path(named_base(str(folder), adapter, adapter_base)[0])
    return sorted(found) if base == folder or not base.is_dir() else [*sorted(found), *model_files(base)]


def tokenizer_identity(tokenizer: PreTrainedTokenizerBase) -> Identity:
    """What a loaded tokenizer is, with the end token and the chat template that settings may have given it."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:  # a tokenizer in Python: its vocabulary is what there is to see
        content = content_digest(sorted(tokenizer.get_vocab().items()))
    else:
        # Padding and truncation are set by whoever used it last.
        parts = {
            key: value for key, value in json.loads(backend.to_str()).items() if key not in ("padding", "truncation")
        }
        content = content_digest(parts)
    template = tokenizer.chat_template
    return {"tokenizer": content, "template": content_digest(template or ""), "eos": tokenizer.eos_token}


# ---- endpoints ----


def endpoint_identity(address: str, model: str, served: Mapping[str, Any] | None = None) -> Identity:
    """What an endpoint's model is, as far as it can be told from outside.

    Args:
        address: Where it is asked ("http://localhost:8000/v1").
        model: The model's name there.
        served: The model's entry in the answer to `GET /v1/models`; None where there was none.

    Returns:
        Address, name, and of the entry what is served under the name (vLLM's `root`, and `parent` of an adapter), its
        context length and when it was made. A server that gives the time of the question as `created` (vLLM,
        llama.cpp) says nothing with it, so it is left out.

    Example:
        >>> endpoint_identity("http://localhost:8000/v1/", "m", {"max_model_len": 2048})
        {'kind': 'endpoint', 'address': 'http://localhost:8000/v1', 'name': 'm', 'context': 2048}
    """
    found: Identity = {"kind": "endpoint", "address": address.rstrip("/"), "name": model}
    if served:
        told = [served.get("root"), served.get("parent")]
        found |= {"served": told} if any(told) else {}
        found |= {"context": served["max_model_len"]} if served.get("max_model_len") else {}
        found |= {"created": created} if (created := _created(served)) else {}
    return found


def _created(served: Mapping[str, Any]) -> int | None:
    """When a model was made, unless the server gives the time of the question, as vLLM and llama.cpp do."""
    import time

    created = served.get("created")
    if not isinstance(created, int) or isinstance(created, bool) or abs(time.time() - created) < 10:
        return None
    return None if served.get("owned_by") in ("vllm", "llamacpp", "sglang") else created


# ---- rows ----


def rows_identity(dataset: Dataset, columns: Sequence[str]) -> Identity:
    """What rows are: how many, and a digest of the columns that are read from them.

    Args:
        dataset: A `datasets.Dataset`; columns that it lacks are passed over.
        columns: Their names, of texts.

    Example:
        >>> from datasets import Dataset
        >>> rows = [{"id": "a", "query": "2 + 2?", "critique": "Sound."}]
        >>> rebuilt = [{"id": "a", "query": "2 + 2?", "critique": "It is 4."}]
        >>> one, other = (rows_identity(Dataset.from_list(r), ["query", "critique"]) for r in (rows, rebuilt))
        >>> one["rows"], one == other
        (1, False)
    """
    import pyarrow as pa

    names = [name for name in columns if name in dataset.column_names]
    sums = {name: hashlib.sha256() for name in names}
    if names and len(dataset):
        for batch in dataset.select_columns(names).with_format("arrow").iter(batch_size=5_000):
            for name in names:
                column = batch.column(name)
                if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
                    column = pa.chunked_array([pa.array(map(repr, column.to_pylist()), pa.string())])
                for chunk in column.chunks:
                    _add_texts(sums[name], chunk)
    return {"rows": len(dataset), "texts": content_digest({name: told.hexdigest() for name, told in sums.items()})}


def _add_texts(told: Any, texts: Any) -> None:
    """Adds an Arrow array of strings, each with its length before it, so that it does not matter where it is cut."""
    parts = (None if text is None else text.encode("utf-8", "surrogatepass") for text in texts.to_pylist())
    told.update(b"".join(b"-:" if part is None else b"%d:%b" % (len(part), part) for part in parts))


def local_files_identity(files: Iterable[str | Path]) -> Identity:
    """What local data files are: their number, and a digest of their contents in their order.

    Raises:
        CFTError: One of them cannot be read.
    """
    paths = [Path(file) for file in files]
    try:
        return {"kind": "files", "files": len(paths), "texts": content_digest([file_digest(path) for path in paths])}
    except OSError as error:
        raise CFTError(f"{error.filename}: cannot be read ({error.strerror})") from None


# ---- comparing ----


def what_changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """What of a thing is another than it was, in words; None where nothing is.

    Example:
        >>> what_changed({"weights": "9f", "base": {"commit": "b1"}}, {"weights": "9f", "base": {"commit": "c4"}})
        'another commit on the Hub of its base (b1 before, c4 now)'
        >>> what_changed({"weights": "9f"}, {"weights": "9f"})
    """
    changed = list(_changes(before, now))
    if any(name == "kind" for name, *_ in changed):
        changed = [change for change in changed if change[0] == "kind"]
    return ", ".join(_told(*change) for change in changed) or None


def _changes(before: Mapping[str, Any], now: Mapping[str, Any], owner: str = "") -> Iterable[tuple[str, str, Any, Any]]:
    for name in dict.fromkeys([*before, *now]):
        old, new = before.get(name), now.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from _changes(old, new, f" of its {name.replace('_', ' ')}" if name == "base" else owner)
        elif old != new:
            yield name, owner, old, new


def _told(name: str, owner: str, old: Any, new: Any) -> str:
    words = _WORDS.get(name, f"another {name.replace('_', ' ')}") + owner
    values = [value for value in (old, new) if value is not None]
    if any(isinstance(value, Mapping | list) for value in values) or not values:
        return words
    return f"{words} ({'none' if old is None else _short(old)} before, {'none' if new is None else _short(new)} now)"


def _short(value: Any) -> str:
    text = str(value)
    return text[:12] if len(text) >= 16 and all(sign in "0123456789abcdef" for sign in text) else text
