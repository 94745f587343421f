r"""Who a teacher is: what its answers are kept under, so that no other's are ever taken for its own.

    transformers:runs/mine         {"kind": "transformers", "model": {"kind": "folder", "weights": "9f2c…"}, "dtype": …}
    openai:m@http://host:8000/v1   {"kind": "endpoint", "address": "http://host:8000/v1", "name": "m", "served": …}
    reference                      {"kind": "reference", "code": "77d0…"}

See known_teachers.py for what a build's folder remembers of them.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cft_trl.data.digests import code_digest, content_digest, file_digest
from cft_trl.environment import require
from cft_trl.generation.endpoint_settings import OPENAI, true_url
from cft_trl.generation.names import OPENAI_KEY
from cft_trl.models.identity import Identity, endpoint_identity, model_identity

# vLLM's options that spread the work or save memory; any other may change what the model writes.
_SPREADING = re.compile(
    r"-tp|-pp|-dp|--.*parallel.*|--gpu-memory-utilization|--max-num-(?:seqs|batched-tokens)|--swap-space|--cpu-offload-gb|"
    r"--(?:no-)?enforce-eager|--block-size|--(?:no-)?enable-(?:prefix-caching|chunked-prefill|expert-parallel)|"
    r"--num-gpu-blocks-override|--(?:no-)?(?:enable|disable)-log-.*|--(?:disable-)?uvicorn-.*|--api-server-count|"
    r"--distributed-executor-backend|--download-dir|--kv-cache-memory-bytes|--max-parallel-loading-workers"
)


def key_of(identity: Mapping[str, Any]) -> str:
    """What an identity is called in the keys of the journal (16 hex digits); its first eight sign the answers."""
    return content_digest(identity)


# The reference teacher's own code and data: what finds the errors, and what words them.
_REFERENCE = (
    "synthesis/reference_teacher.py",
    "sources/reference.py",
    "sources/reference_wording.py",
    "sources/reference_wording.yaml",
    "sources/reference_equations.py",
    "sources/arithmetic/english.py",
    "sources/arithmetic/english.yaml",
    "sources/arithmetic/numbers.py",
)


def reference_identity() -> Identity:
    """What the reference teacher is: its code and its sentences."""
    package = Path(__file__).parents[1]
    return {"kind": "reference", "code": code_digest(*(str(package / name) for name in _REFERENCE))}


def transformers_identity(
    source: str, revision: str | None = None, dtype: str | None = None, adapter_base: str | None = None
) -> Identity:
    """What a model in this process is; its commit is None where the Hub does not say.

    Args:
        source: A folder or Hub id.
        revision: Commit, tag or branch of a Hub id.
        dtype: The number type as text; None is the one that `load_model` chooses.
        adapter_base: Of an adapter, another base than the one it names.

    Raises:
        CFTError: There is no such model.
    """
    from cft_trl.models.loading import torch_dtype

    model, kind = model_identity(source, revision, adapter_base), torch_dtype(dtype)
    return {"kind": "transformers", "model": model, "dtype": str(kind).removeprefix("torch.")}


def vllm_identity(
    source: str, revision: str | None = None, options: Sequence[str] = (), adapter_base: str | None = None
) -> Identity:
    """What a model on a server of ours is, with vLLM's options; its commit is None where the Hub does not say.

    Args:
        source, revision, adapter_base: As for `transformers_identity`.
        options: vLLM's own, as on its command line; those that only spread the work do not count.

    Raises:
        CFTError: There is no such model.
    """
    return {"kind": "vllm", "model": model_identity(source, revision, adapter_base), "options": _options(options)}


def served_identity(model: str, base_url: str | None = None, key_env: str = OPENAI_KEY) -> Identity | None:
    """What an endpoint's model is by its answer to `GET /v1/models`; None where it gives none.

    Asked each time: a server may be another one since.

    Args:
        model: Its name there.
        base_url: The endpoint's address; None is OpenAI's own, or what the environment says.
        key_env: The environment variable that holds the key.
    """
    url, key = true_url(base_url).rstrip("/"), os.environ.get(key_env, "")
    listed = None if url == OPENAI and not key else _listed(url, key)
    if listed is None:
        return None
    address = bare_address(url)
    served = next((entry for entry in listed if entry.get("id") == model), None)
    if served is None and listed:
        # llama.cpp's server answers to any name with the one model it has; vLLM does not.
        if len(listed) > 1 or listed[0].get("owned_by") in ("vllm", "sglang"):
            return None
        served = {"root": listed[0].get("id"), **listed[0]}
    return endpoint_identity(address, model, served)


def bare_address(url: str) -> str:
    """An address without a user name or password that it may hold.

    Example:
        >>> bare_address("http://me:secret@host:8000/v1/")
        'http://host:8000/v1'
    """
    return re.sub(r"//[^/@]*@", "//", url).rstrip("/")


def _listed(url: str, key: str) -> list[dict[str, Any]] | None:
    """The entries of `/v1/models`: none where the server has no such page, None where it does not say now."""
    require("synth", "a model at an endpoint", "openai")
    import openai

    try:
        with openai.OpenAI(api_key=key or "none", base_url=url, timeout=10.0, max_retries=0) as client:
            told = json.loads(client.get("/models", cast_to=str))
    except openai.APIStatusError as error:
        return [] if error.status_code in (404, 405, 501) else None
    except (openai.OpenAIError, ValueError, RecursionError):
        return None
    entries = told.get("data") if isinstance(told, dict) else None
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _options(given: Sequence[str]) -> dict[str, Any]:
    """vLLM's options (CFT_VLLM_OPTIONS' among them) without those that only spread the work; files by content.

    Example:
        >>> _options(["--tensor-parallel-size", "4", "--quantization=fp8", "--max_model_len", "4096"])
        {'--max-model-len': ['4096'], '--quantization': ['fp8']}
    """
    from cft_trl.generation.vllm_server import OPTIONS

    found: dict[str, list[str]] = {}
    name = ""
    for word in [*shlex.split(os.environ.get(OPTIONS, "")), *given]:
        if re.match(r"--?[A-Za-z]", word):
            name, equals, value = word.partition("=")
            name = name.replace("_", "-")
            found[name] = [value] if equals else []
        else:
            found.setdefault(name, []).append(word)
    kept = {name: values for name, values in sorted(found.items()) if not _SPREADING.fullmatch(name)}
    return {name: [_content(value) for value in values] for name, values in kept.items()}


def _content(value: str) -> str:
    path = Path(value).expanduser()
    return file_digest(path) if "/" in value and path.is_file() else value


def flat(identity: Mapping[str, Any]) -> dict[str, Any]:
    """An identity as one row of a table; what a model is stands beside what asks it.

    Example:
        >>> flat({"kind": "vllm", "model": {"kind": "hub", "name": "org/m", "commit": "b101"}, "options": {}})
        {'key': '4058afc7', 'kind': 'vllm', 'model kind': 'hub', 'model name': 'org/m', 'model commit': 'b101'}
    """

    def rows(part: Mapping[str, Any], before: str = "") -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in part.items():
            if isinstance(value, Mapping):
                found |= rows(value, f"{before}{name} ")
            elif value not in (None, ""):
                found[f"{before}{name}"] = value
        return found

    return {"key": key_of(identity)[:8], **rows(identity)}
