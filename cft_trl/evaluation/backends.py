"""Where texts come from: transformers in this process, a vLLM server of our own, or any OpenAI-compatible endpoint.

    with Backend("transformers", "runs/mine") as backend:
        backend.generator().generate([[{"role": "user", "content": "What is 2 + 2?"}]])

Nothing is loaded or started until `generator()` is called: a run whose answers are all in its journal needs no model.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from cft_trl.errors import CFTError, nearest
from cft_trl.generation.local import AT_ONCE
from cft_trl.generation.names import BACKENDS, check_address
from cft_trl.generation.open import opened
from cft_trl.models.identity import endpoint_identity
from cft_trl.models.names import hub_commit, resolve_model


class Backend:
    """A model, loaded or started when it is first needed and let go at the end of the `with` block.

    Args:
        kind: "transformers", "vllm" or "endpoint".
        model: Folder, Hub id or `smollm2-135m`; for "endpoint" the model's name there.
        base_url: The endpoint's address.
        log: Where a vLLM server's output goes.
        trust_remote_code: Whether code that comes with the model is run.
        extra: Further fields of each request to an endpoint or a vLLM server (see `Endpoint`).
        adapter_base: What an adapter is put on in place of the base it names.

    Attributes:
        source: What `from_pretrained` takes, or the model's name at the endpoint.

    Raises:
        CFTError: An unknown kind, an address where none belongs or none where one does, a revision of what has none,
            or there is no such model.
    """

    def __init__(
        self,
        kind: str,
        model: str,
        *,
        base_url: str | None = None,
        api_key_env: str = "OPENAI_API_KEY",
        revision: str | None = None,
        dtype: str | None = None,
        batch_size: int = AT_ONCE,
        concurrency: int = 64,
        log: Path | None = None,
        trust_remote_code: bool = False,
        extra: Mapping[str, Any] | None = None,
        adapter_base: str | None = None,
    ) -> None:
        if kind not in BACKENDS:
            raise CFTError(f"backend={kind}: unknown{nearest(kind, BACKENDS)}; give one of {', '.join(BACKENDS)}")
        if (kind == "endpoint") != bool(base_url):
            raise CFTError("--backend endpoint needs --base-url (http://HOST:PORT/v1), the others take none")
        if base_url:
            check_address(base_url)
        if extra and kind == "transformers":
            raise CFTError("--extra has fields of a request; give it with --backend endpoint or vllm")
        self.extra = dict(extra or {})
        if kind == "endpoint" and adapter_base:
            raise CFTError(f"--adapter-base {adapter_base}: an endpoint serves what it serves, leave it out")
        if kind == "endpoint" and revision:
            raise CFTError(
                f"--revision {revision} belongs to a Hub id; an endpoint serves what it serves, leave it out"
            )
        self.kind, self.model, self.base_url, self.api_key_env = kind, model, base_url, api_key_env
        self.revision, self.dtype, self.batch_size, self.concurrency = revision, dtype, batch_size, concurrency
        self.log, self.trust_remote_code, self.adapter_base = log, trust_remote_code, adapter_base
        self.source = model if kind == "endpoint" else resolve_model(model, revision=revision)
        # A branch may move while this runs: what is loaded, described and recorded is this one commit.
        self._commit = None if kind == "endpoint" else hub_commit(self.source, revision)
        if kind != "endpoint":
            check_of_its_run(self.source)
        self._opened, self._generator = ExitStack(), None
        self._identity: dict[str, Any] | None = None

    def __enter__(self) -> Backend:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._generator = None
        self._opened.close()

    def generator(self) -> Any:
        """A `LocalModel` or `Endpoint`, the same one each time.

        Raises:
            CFTError: The model cannot be loaded, does not fit in memory, or its server does not start.
        """
        if self._generator is None:
            self._generator = self._open()
        return self._generator

    def identity(self) -> dict[str, Any]:
        """What the model is, and what it is run with as far as texts depend on it; see `cft_trl.models.identity`.

        A 7B folder is read once for it; of an endpoint it is what the server says of itself.

        Raises:
            CFTError: The model's files cannot be read.
        """
        if self._identity is None:
            self._identity = self._identify()
        return self._identity

    def _dtype(self) -> str | None:
        from cft_trl.generation.serving import scoring_dtype, served_dtype

        if self.kind == "endpoint":
            return self.dtype
        return (served_dtype if self.kind == "vllm" else scoring_dtype)(self.source, self.revision, self.dtype)

    def commit(self) -> str | None:
        """The commit that a Hub id stood for when this was made, and that is loaded; None for a folder, an endpoint."""
        return self._commit

    def base_changed(self) -> str | None:
        """How the base of an adapter differs from the one it was trained on, in words; None where nothing says so.

        Raises:
            CFTError: The base is not there, or one is given for a whole model.
        """
        from cft_trl.models.adapters import base_changed

        revision = self._commit or self.revision
        return None if self.kind == "endpoint" else base_changed(self.source, revision, self.adapter_base)

    def run_id(self) -> str | None:
        """Of a model that `cft train` made, the id of its run; None where nothing says."""
        return None if self.kind == "endpoint" else run_id_of(self.source)

    def _identify(self) -> dict[str, Any]:
        from cft_trl.generation import identities

        revision, extra = self._commit or self.revision, {"extra": self.extra} if self.extra else {}
        if self.kind == "vllm":
            return identities.vllm_identity(self.source, revision, self._options, self.adapter_base) | extra
        if self.kind == "transformers":
            return identities.transformers_identity(self.source, revision, self._dtype(), self.adapter_base)
        assert self.base_url is not None  # an endpoint has an address
        told = identities.served_identity(self.model, self.base_url, self.api_key_env)
        return (told or endpoint_identity(identities.bare_address(self.base_url), self.model)) | extra

    @property
    def _options(self) -> list[str]:
        """Of a vLLM server of our own."""
        return [
            *(["--dtype", dtype] if (dtype := self._dtype()) else []),
            *(["--trust-remote-code"] if self.trust_remote_code else []),
        ]

    def _open(self) -> Any:
        model = opened(
            self.kind,
            self.source,
            base_url=self.base_url,
            api_key_env=self.api_key_env,
            revision=self._commit or self.revision,
            dtype=self.dtype,
            batch_size=self.batch_size,
            concurrency=self.concurrency,
            trust_remote_code=self.trust_remote_code,
            extra=self.extra,
            adapter_base=self.adapter_base,
            log=self.log,
        )
        if self.kind != "transformers":
            return self._opened.enter_context(model)
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
        check_fits(self.source, device, self._dtype())
        with out_of_memory(f"model '{self.model}' does not fit in the memory of this {device} device"):
            return self._opened.enter_context(model)


def not_answered(what: str, refused: Iterable[str | None], of: int) -> CFTError | None:
    """The line that a run ends with where an endpoint refused some of its requests; None where it refused none.

    A refusal is not an answer: nothing of it is kept or graded, and the same command asks again.

    Args:
        what: What was asked, "problems".
        refused: The refusals, in the server's own words.
        of: How many were asked.

    Example:
        >>> str(not_answered("problems", ["bad request, 400: no chat template"] * 2, 8))[:70]
        '2 of 8 problems were not answered (2 x bad request, 400: no chat templ'
    """
    reasons = Counter(reason or "no reason given" for reason in refused)
    if not reasons:
        return None
    told = "; ".join(f"{count:,} x {reason[:200]}" for reason, count in reasons.most_common(2))
    asked = f"{reasons.total():,} of {of:,} {what} were not answered"
    return CFTError(f"{asked} ({told}); no score is written, what was answered is kept, the same command asks the rest",
                    reason="not answered")  # fmt: skip


def check_of_its_run(folder: str | Path) -> None:
    """
    Raises:
        CFTError: The folder lies in a run's folder (RUN/best, RUN/checkpoint-40) and is another run's.
    """
    run = Path(folder).parent
    mine, theirs = run_id_of(run), run_id_of(folder)
    if mine and theirs and mine != theirs:
        raise CFTError(
            f"'{folder}' is of another run ({theirs}) than '{run}' ({mine}); run `cft select {run}` again, or give the "
            "folder of the run that is meant"
        )


def run_id_of(folder: str | Path) -> str | None:
    """The id of the run that a model's folder belongs to: of RUN/training.json, or of the run.json in RUN/best."""
    for name in ("run.json", "training.json"):
        with suppress(OSError, ValueError, AttributeError):
            told = json.loads((Path(folder) / name).read_text(encoding="utf-8")).get("run")
            if isinstance(told, str):
                return told
    return None


@contextmanager
def out_of_memory(what: str):
    """Turns a full GPU's or a refused allocation's error into one line.

    Raises:
        CFTError: Memory ran out inside the block.
    """
    import torch

    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise CFTError(
            f"{what} ({error}); give a smaller --batch-size, --dtype bfloat16, or --backend vllm with a server that "
            "has room"
        ) from None
    except RuntimeError as error:
        if "can't allocate memory" not in str(error) and "out of memory" not in str(error):
            raise
        raise CFTError(f"{what} ({error}); give a smaller --batch-size or --dtype bfloat16") from None


def check_fits(source: str, device: str, dtype: str | None = None) -> None:
    """Compares the weights' size with the free memory: on a CPU a model too large ends in a kill without a word.

    Args:
        source: A folder; a Hub id passes, for its size is not known here.
        device: "cpu" or "cuda".
        dtype: The precision it will be loaded in; None is bfloat16 on a GPU and float32 on a CPU.

    Raises:
        CFTError: The weights alone are larger than what is free.
    """
    files = sorted(Path(source).glob("*.safetensors")) if Path(source).is_dir() else []
    if not files:
        return
    from safetensors import safe_open

    numbers = 0
    for file in files:
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (no mapping)
                size = 1
                for length in tensors.get_slice(name).get_shape():
                    size *= length
                numbers += size
    each = 2 if dtype in ("bfloat16", "float16") or (dtype is None and device == "cuda") else 4
    needed, free = numbers * each, free_memory(device)
    if free is not None and needed > free:
        raise CFTError(
            f"model '{source}' needs {needed / 2**30:.1f} GiB for its weights, but {free / 2**30:.1f} GiB are free on "
            f"this {device} device; give --dtype bfloat16, a smaller model, or --backend endpoint"
        )


def free_memory(device: str) -> int | None:
    """Bytes that can be had, or None where nothing says."""
    if device == "cuda":
        import torch

        return torch.cuda.mem_get_info()[0]
    try:
        fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None


def circumstances() -> dict[str, Any]:
    """What numbers were measured on and with: `machine`, `versions`, `date`."""
    import platform
    import time
    from importlib.metadata import PackageNotFoundError, version

    import torch

    from cft_trl.grading.grader_version import grader_version

    versions = {}
    for package in ("cft-trl", "torch", "transformers", "lighteval"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    accelerator = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    processor = platform.processor() or platform.machine()
    return {
        "machine": f"{processor}, {os.cpu_count()} cores, {accelerator}",
        "versions": versions | {name: told for name, told in grader_version().items() if name != "code"},
        "date": time.strftime("%Y-%m-%d"),
    }
