"""Where texts come from: transformers in this process, a vLLM server of our own, or any OpenAI-compatible endpoint.

    with Backend("transformers", "runs/mine") as backend:
        backend.generator().generate([[{"role": "user", "content": "What is 2 + 2?"}]])

Nothing is loaded or started until `generator()` is called: a run whose answers are all in its journal needs no model.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from cft_trl.errors import CFTError, nearest
from cft_trl.models import resolve_model

BACKENDS = ("transformers", "vllm", "endpoint")


class Backend:
    """A model, loaded or started when it is first needed and let go at the end of the `with` block.

    Args:
        kind: "transformers", "vllm" or "endpoint".
        model: Folder, Hub id or `smollm2-135m`; for "endpoint" the model's name there.
        base_url: The endpoint's address.
        log: Where a vLLM server's output goes.
        trust_remote_code: Whether code that comes with the model is run.

    Attributes:
        source: What `from_pretrained` takes, or the model's name at the endpoint.

    Raises:
        CFTError: An unknown kind, an address where none belongs or none where one does, or there is no such model.
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
        batch_size: int = 16,
        concurrency: int = 64,
        log: Path | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        if kind not in BACKENDS:
            raise CFTError(f"backend={kind}: unknown{nearest(kind, BACKENDS)}; give one of {', '.join(BACKENDS)}")
        if (kind == "endpoint") != bool(base_url):
            raise CFTError("--backend endpoint needs --base-url (http://HOST:PORT/v1), the others take none")
        if base_url and not base_url.startswith(("http://", "https://")):
            raise CFTError(f"--base-url {base_url}: give an address such as http://localhost:8000/v1")
        self.kind, self.model, self.base_url, self.api_key_env = kind, model, base_url, api_key_env
        self.revision, self.dtype, self.batch_size, self.concurrency = revision, dtype, batch_size, concurrency
        self.log, self.trust_remote_code = log, trust_remote_code
        self.source = model if kind == "endpoint" else resolve_model(model, revision=revision)
        self._opened, self._generator = ExitStack(), None

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
        """What tells this model from another of its name; of a folder, its weights' sizes and times."""
        folder = Path(self.source)
        weights = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
        return {
            "model": self.model,
            "revision": self.revision,
            "backend": self.kind,
            "dtype": self.dtype,
            "weights": [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in weights],
        }

    def commit(self) -> str | None:
        """The commit that a Hub id stands for, once it is in the cache; else the revision asked for."""
        from huggingface_hub import try_to_load_from_cache

        if self.kind != "endpoint" and not Path(self.source).exists():
            file = try_to_load_from_cache(self.source, "config.json", revision=self.revision)
            if isinstance(file, str):
                return Path(file).parent.name
        return self.revision

    def _open(self) -> Any:
        from cft_trl.inference import Endpoint, LocalModel

        if self.kind == "endpoint":
            return Endpoint(self.model, self.base_url, self.api_key_env, self.concurrency)
        if self.kind == "vllm":
            from cft_trl.servers import vllm_server

            options = ["--dtype", self.dtype] if self.dtype else []
            options += ["--trust-remote-code"] if self.trust_remote_code else []
            server = vllm_server(self.source, revision=self.revision, options=options, log=self.log)
            url = self._opened.enter_context(server)
            return Endpoint(self.source, url, concurrency=self.concurrency)
        import torch

        from cft_trl.models import load_model

        device = "cuda" if torch.cuda.is_available() else "cpu"
        check_fits(self.source, device, self.dtype)
        with out_of_memory(f"model '{self.model}' does not fit in the memory of this {device} device"):
            model, tokenizer = load_model(
                self.model, dtype=self.dtype, revision=self.revision, trust_remote_code=self.trust_remote_code
            )
            return LocalModel(model.to(device), tokenizer, self.batch_size)


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

    from cft_trl.evaluation.grading import grader_versions

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
        "versions": versions | grader_versions(),
        "date": time.strftime("%Y-%m-%d"),
    }
