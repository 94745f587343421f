"""A model by where it is: loaded here, served by a vLLM of ours, or asked at an endpoint. One way for all who need one.

    with opened("transformers", "runs/mine") as model:
        model.generate([[{"role": "user", "content": "What is 2 + 2?"}]])

    open_local("smollm2-135m", dtype="float32")                      a `LocalModel`
    open_endpoint("m", "http://localhost:8000/v1")                   an `Endpoint`
    opened("vllm", "Qwen/Qwen2.5-7B-Instruct")                       a server, an `Endpoint` while it runs

Builds name their models as "openai:m@URL", "vllm:m" or "transformers:m" (names.py); those are loaded, or
their servers started, when they are first asked for something that is in no journal.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cft_trl.generation.endpoint import Endpoint
from cft_trl.generation.local import AT_ONCE, LocalModel
from cft_trl.generation.names import OPENAI_KEY, check_address


@contextmanager
def opened(
    kind: str,
    model: str,
    *,
    name: str | None = None,
    base_url: str | None = None,
    api_key_env: str = OPENAI_KEY,
    revision: str | None = None,
    dtype: str | None = None,
    batch_size: int = AT_ONCE,
    concurrency: int = 64,
    trust_remote_code: bool = False,
    extra: Mapping[str, Any] | None = None,
    adapter_base: str | None = None,
    log: str | Path | None = None,
) -> Iterator[LocalModel | Endpoint]:
    """A model for as long as the `with` block lasts.

    Args:
        kind: One of `names.BACKENDS`.
        model: Folder, Hub id or `smollm2-135m`; for "endpoint" the model's name there.
        name: What a server of ours calls it; by default `model`.
        base_url, api_key_env: Of an endpoint.
        revision: Commit, tag or branch of a Hub id.
        dtype: The number type; by default as `scoring_dtype` or `served_dtype` say.
        batch_size: Conversations computed together, in this process.
        concurrency: Requests in flight, otherwise.
        trust_remote_code: Whether code that comes with the model is run.
        extra: Further fields of each request to an endpoint or a vLLM server (see `Endpoint`).
        adapter_base: Of an adapter, another base than the one it names.
        log: Where a vLLM server's output goes.

    Raises:
        CFTError: There is no such model, it cannot be loaded, or its server does not start.
    """
    from cft_trl.generation.serving import scoring_dtype, serve

    if kind == "endpoint":
        yield open_endpoint(model, base_url, api_key_env, concurrency=concurrency, extra=extra)
    elif kind == "vllm":
        server = serve(
            {name or model: model},
            revision=revision,
            dtype=dtype,
            trust_remote_code=trust_remote_code,
            concurrency=concurrency,
            extra=extra,
            log=log,
            adapter_base=adapter_base,
        )
        with server as models:
            yield models[name or model]
    else:
        yield open_local(
            model,
            dtype=scoring_dtype(model, revision, dtype),
            revision=revision,
            batch_size=batch_size,
            trust_remote_code=trust_remote_code,
            adapter_base=adapter_base,
        )


def open_local(
    source: str,
    *,
    dtype: str | None = None,
    revision: str | None = None,
    batch_size: int = AT_ONCE,
    trust_remote_code: bool = False,
    adapter_base: str | None = None,
    device: str | None = None,
) -> LocalModel:
    """A model in this process, on a GPU where there is one.

    Args:
        source: A Hub id, a folder or "smollm2-135m".
        dtype: The weights' type ("float32"); by default as `cft_trl.models.loading.load_model` chooses.
        revision: Commit, tag or branch of a Hub id.
        batch_size: Conversations computed together.
        trust_remote_code: Whether code that comes with the model is run.
        adapter_base: Of an adapter, another base than the one it names.
        device: Where to, by default "cuda" or "cpu".

    Raises:
        CFTError: There is no such model, or it cannot be loaded.
    """
    import torch
    from transformers.utils import logging

    from cft_trl.generation.faster import lay_out
    from cft_trl.models.loading import load_model

    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    model, tokenizer = load_model(
        source, dtype=dtype, revision=revision, trust_remote_code=trust_remote_code, adapter_base=adapter_base
    )
    model = model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return LocalModel(lay_out(model), tokenizer, batch_size)


def open_endpoint(
    model: str,
    base_url: str | None,
    api_key_env: str = OPENAI_KEY,
    *,
    concurrency: int = 64,
    timeout: float = 600.0,
    extra: Mapping[str, Any] | None = None,
) -> Endpoint:
    """A model behind an endpoint, which is not asked yet.

    Args:
        model: Its name there.
        base_url: The address; None is OpenAI's own.
        api_key_env: The environment variable that holds the key.
        concurrency: Requests in flight.
        timeout: Seconds for one request.
        extra: Further fields of each request (see `Endpoint`).

    Raises:
        CFTError: The address is none.
    """
    if base_url:
        check_address(base_url)
    return Endpoint(model, base_url, api_key_env, concurrency, timeout, extra=extra)
