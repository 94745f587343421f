"""Models of ours behind a vLLM server, asked as they were trained: whole ones, and adapters on their base.

    with serve({"checkpoint-10": "runs/mine/checkpoint-10", "checkpoint-20": "runs/mine/checkpoint-20"}) as models:
        models["checkpoint-10"].generate([[{"role": "user", "content": "What is 2 + 2?"}]])

vLLM is told what it would otherwise guess: the number type that was trained (it takes float32 weights as bfloat16),
the tokens that end an answer, and for adapters their base and their own tokenizer.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cft_trl.errors import CFTError
from cft_trl.generation.endpoint import Endpoint
from cft_trl.generation.vllm_server import OPTIONS, vllm_server
from cft_trl.models.adapters import base_of, tell_changed
from cft_trl.models.chat_templates import end_ids, refuses_system, written_before, written_behind
from cft_trl.models.loading import load_tokenizer
from cft_trl.models.names import adapter_config, resolve_model

_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # that vLLM takes as the largest


@contextmanager
def serve(
    sources: Mapping[str, str],
    *,
    revision: str | None = None,
    dtype: str | None = None,
    trust_remote_code: bool = False,
    concurrency: int = 64,
    extra: Mapping[str, Any] | None = None,
    log: str | Path | None = None,
    adapter_base: str | None = None,
) -> Iterator[dict[str, Endpoint]]:
    """Starts one vLLM server, for one model or for several adapters of one base, and stops it in the end.

    Args:
        sources: Name -> folder or Hub id; more than one only for adapters.
        revision: Commit, tag or branch of a Hub id.
        dtype: The number type asked for; by default that of `CFT_VLLM_OPTIONS`, else the trained one.
        extra: As for `Endpoint`.
        log: As for `vllm_server`.
        adapter_base: What adapters are put on in place of the base they name.

    Yields:
        Name -> the `Endpoint` to ask.

    Raises:
        CFTError: As `vllm_server`; or vLLM cannot serve the adapters, or these are of several bases.
    """
    first = next(iter(sources.values()))
    options: list[str] = []
    tokenizer = load_tokenizer(first, revision=revision, trust_remote_code=trust_remote_code, adapter_base=adapter_base)
    adapters = {
        name: adapter_config(resolve_model(source, revision=revision), revision) for name, source in sources.items()
    }
    served, served_name, served_revision = first, next(iter(sources)), revision
    if any(adapters.values()):
        served, served_revision, options = _lora(sources, adapters, revision, adapter_base)
        served_name = "cft-base"
    elif adapter_base:
        base_of(first, revision, adapter_base)  # refuses it
    if chosen := served_dtype(first, revision, dtype):
        options += ["--dtype", chosen]
    options += ["--trust-remote-code"] if trust_remote_code else []
    flight = {"max_concurrency": concurrency, "at_first": concurrency}
    asking = asking_of(first, tokenizer, revision) | {"extra": extra} | flight
    with vllm_server(served, served_name=served_name, revision=served_revision, options=options, log=log) as url:
        yield {name: Endpoint(name, url, **asking) for name in sources}


def asking_of(source: str, tokenizer: Any, revision: str | None = None) -> dict[str, Any]:
    """How a model of ours behind a vLLM server is asked: fields of its `Endpoint`.

    Args:
        source: Its folder or Hub id.
        tokenizer: Its tokenizer, whose chat template the server uses.
        revision: Commit, tag or branch of a Hub id.
    """
    return {
        "stop_token_ids": end_ids(tokenizer, _generation_config(source, revision)),
        "header": written_before(tokenizer),
        "behind": written_behind(tokenizer),
        "merge_system": refuses_system(tokenizer),
        "whole_context": True,
    }


def _lora(
    sources: Mapping[str, str],
    adapters: Mapping[str, dict[str, Any] | None],
    revision: str | None,
    adapter_base: str | None,
) -> tuple[str, str | None, list[str]]:
    """-> the base, its revision, and vLLM's options for adapters."""
    bases, folders, rank = set(), {}, 1
    for name, source in sources.items():
        config = adapters[name]
        if config is None:
            raise CFTError(f"'{source}' is a whole model among adapters; one server has one base")
        if (kind := config.get("peft_type", "LORA")) != "LORA":
            raise CFTError(
                f"'{source}' is an adapter of type {kind}, which vLLM does not serve; use --backend transformers"
            )
        for key in ("modules_to_save", "use_dora"):
            if config.get(key):
                raise CFTError(
                    f"'{source}' is an adapter with {key}, which vLLM does not serve; use --backend transformers, or "
                    "merge it into its base"
                )
        folders[name] = _local_folder(source, revision)
        rank = max([rank, config.get("r") or 1, *(config.get("rank_pattern") or {}).values()])
        base = base_of(source, revision, adapter_base)
        assert base is not None  # an adapter has one
        tell_changed(source, base)
        bases.add((base.name, base.revision))
    if len(bases) > 1:
        raise CFTError(f"the adapters are of several base models ({', '.join(sorted(name for name, _ in bases))})")
    [(base_name, base_revision)] = bases
    most = next((size for size in _RANKS if size >= rank), None)
    if most is None:
        raise CFTError(f"an adapter has rank {rank}; vLLM serves ranks up to {_RANKS[-1]}")
    modules = [json.dumps({"name": name, "path": folder}) for name, folder in folders.items()]
    options = ["--enable-lora", "--max-lora-rank", str(most), "--max-cpu-loras", str(len(modules))]
    options += ["--lora-modules", *modules]
    folder = next(iter(folders.values()))
    if (Path(folder) / "tokenizer_config.json").is_file():  # with the template that it was trained with
        options += ["--tokenizer", folder]
    return base_name, base_revision, options


def _local_folder(source: str, revision: str | None) -> str:
    if Path(source).is_dir():
        return str(Path(source).resolve())
    from huggingface_hub import snapshot_download

    return snapshot_download(source, revision=revision)


def _generation_config(source: str, revision: str | None) -> Any:
    from transformers import GenerationConfig

    try:
        return GenerationConfig.from_pretrained(resolve_model(source, revision=revision), revision=revision)
    except OSError:
        return None


def served_dtype(source: str, revision: str | None = None, dtype: str | None = None) -> str | None:
    """The number type that `serve` gives vLLM: the one asked for, here or in `CFT_VLLM_OPTIONS`, else the trained one.

    Args:
        source: A folder or Hub id.
        revision: Commit, tag or branch of a Hub id.
        dtype: The number type that is asked for, as text.

    Example:
        >>> served_dtype("no/model", dtype="bfloat16")
        'bfloat16'
    """
    given = shlex.split(os.environ.get(OPTIONS, ""))
    for option, value in zip(given, [*given, ""][1:], strict=True):
        name, _, joined = option.partition("=")
        if name == "--dtype" and not dtype:
            return joined or value
    return dtype or trained_dtype(source, revision)


def trained_dtype(source: str, revision: str | None = None) -> str | None:
    """The number type a model was trained and saved in, None where nothing says: "float32", "bfloat16" or "float16".

    Args:
        source: Folder or Hub id. For an adapter it is that of its base, as its run wrote it down.
    """
    for folder in (Path(source), Path(source).parent):
        try:
            record = json.loads((folder / "training.json").read_text(encoding="utf-8"))
            if dtype := record.get("turns", {}).get("dtype"):
                return dtype
        except (OSError, ValueError, AttributeError):
            continue
    from transformers.utils import cached_file

    try:
        config = json.loads(Path(cached_file(source, "config.json", revision=revision)).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return None
    config = {**config, **config.get("text_config", {})}
    return config.get("dtype") or config.get("torch_dtype")


def scoring_dtype(source: str, revision: str | None = None, dtype: str | None = None) -> str | None:
    """The number type to load a model in for scores in this process: as asked for, and float32 where it was trained so.

    None leaves the rest to `load_model`: bfloat16 on a GPU, and float32 on a CPU, where it is the faster one.

    Args:
        source, revision, dtype: As for `served_dtype`.
    """
    return dtype or ("float32" if trained_dtype(source, revision) == "float32" else None)
