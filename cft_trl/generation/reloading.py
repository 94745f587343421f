r"""One vLLM server for several models of one shape, such as a run's checkpoints: their weights are read in turn.

    with serve_in_turn({"step-10": "runs/mine/checkpoint-10", "step-20": "runs/mine/checkpoint-20"}) as model:
        model("step-10").generate(conversations)
        model("step-20").generate(conversations)        # the same server, 1 s instead of a start of a minute

vLLM reads other weights into a running engine by `reload_weights`, an engine call that its server offers on a port of
its own machine with VLLM_SERVER_DEV_MODE=1; the cache of prefixes, which is of the old weights, is emptied afterwards.

Whether all weights were read is not believed but looked at: the first model that is switched to is held against
transformers, by the log-probabilities of one text, with the difference of the first model (loaded at the start) as the
measure, and by far nearer than the two models are to each other; every later return to a model against what the server
itself said of it before. So vLLM 0.32 on a CPU was seen to keep the old head of a model whose head is its embedding.
There such a model is served as one whose head is its own, from a folder of links beside which the head lies as a file.

Where it cannot be done (no such call, another tokenizer or shape, a check that fails) each model gets a server of its
own, as with `serve`, and a line says why.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request

from cft_trl.errors import CFTError
from cft_trl.generation.endpoint import Endpoint
from cft_trl.generation.serving import asking_of, serve, served_dtype
from cft_trl.generation.vllm_server import BARE, OPTIONS, vllm_server
from cft_trl.models.identity import own_identity
from cft_trl.models.loading import load_model, load_tokenizer

_TIMEOUT_S = 1800.0  # for reading weights from a slow disk
_INDEX = "model.safetensors.index.json"
_EMBEDDING, _HEAD = "model.embed_tokens.weight", "lm_head.weight"
# Of log-probabilities, on average over a text: rounding of float32 is some 1e-6, of bfloat16 some 1e-2.
_LEAST = 1e-4
_TIMES = 3.0
_NEARER = 4.0  # so many times nearer to what it was told to read than the two models are to each other
_PROBE = (
    "Sara has 12 boxes with 8 pencils each, and gives 17 pencils away. How many are left? She had 12 x 8 = 96 pencils "
    "at first. 96 - 17 = 79, so the answer is 79. The critique: the product is right, and so is the difference, since "
    "79 + 17 = 96. Conclusion: right"
)


class _Cannot(Exception):
    """Why weights cannot be read into a running server."""


@contextmanager
def serve_in_turn(
    sources: Mapping[str, str],
    *,
    dtype: str | None = None,
    extra: Mapping[str, Any] | None = None,
    concurrency: int = 64,
    tell: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
) -> Iterator[Callable[[str], Endpoint]]:
    """Serves several whole models one after the other, by one server where that is possible.

    Args:
        sources: Name -> folder.
        dtype, extra, concurrency: As for `serving.serve`.
        tell: Takes the line that says why each model gets a server of its own.

    Yields:
        Name -> the `Endpoint` to ask; it is good until another one is asked for.

    Raises:
        CFTError: As `serve`.
    """
    with ExitStack() as opened:
        server: _Server | None = None
        own: dict[str, Endpoint] = {}

        def model(name: str) -> Endpoint:
            nonlocal server
            if server:
                try:
                    return server.switch(name)
                except _Cannot as error:
                    server = None
                    opened.close()
                    tell(f"vLLM starts anew for each checkpoint: {error}")
            if name not in own:
                own.clear()
                opened.close()
                own.update(opened.enter_context(serve({name: sources[name]}, dtype=dtype, extra=extra,
                                                      concurrency=concurrency)))  # fmt: skip
            return own[name]

        if why := _unlike(sources):
            tell(f"vLLM starts anew for each checkpoint: {why}")
        elif len(sources) > 1:
            server = _Server(sources, dtype, extra, concurrency, opened)
        yield model


class _Server:
    """A server, started when the first model is asked for, and what is loaded in it."""

    def __init__(
        self,
        sources: Mapping[str, str],
        dtype: str | None,
        extra: Mapping[str, Any] | None,
        concurrency: int,
        opened: ExitStack,
    ) -> None:
        self.sources, self.opened = sources, opened
        self.dtype = served_dtype(next(iter(sources.values())), dtype=dtype)
        self.asking: dict[str, Any] = {"extra": extra, "max_concurrency": concurrency, "at_first": concurrency}
        self.loaded: str | None = None
        self.first = ""
        self.told: dict[str, list[float]] = {}  # what the server says of the probe, by model
        self.known: dict[str, Future[list[float]]] = {}  # what transformers says of it, of the two to check with
        self.rounding: float | None = None  # between server and transformers; None until it is known

    def switch(self, name: str) -> Endpoint:
        if self.loaded is None:
            self._start(name)
        elif self.loaded != name:
            if self.rounding is None:
                self._read(self._most_unlike_first())
            self._read(name)
        return self.endpoint

    def _most_unlike_first(self) -> str:
        """The model to check with."""
        names = list(self.sources)
        return names[0] if names.index(self.first) >= len(names) / 2 else names[-1]

    def _read(self, name: str) -> None:
        if self.loaded != name:
            self.loaded = name
            with _staged(Path(self.sources[name]), self.untied) as folder:
                self._call("collective_rpc", {"method": "reload_weights", "kwargs": {"weights_path": str(folder)}})
            if not self._call("reset_prefix_cache").get("success"):
                raise _Cannot("its cache of prefixes could not be emptied")
            self._check(name)

    def _start(self, name: str) -> None:
        source, self.first = self.sources[name], name
        # The start takes a server a minute, of one core mostly; this process has things to do that long.
        beside = self.opened.enter_context(_one_by_one())
        preparing = beside.submit(load_tokenizer, source)
        for which in (name, self._most_unlike_first()):
            self.known[which] = beside.submit(self._by_transformers, which, preparing)
        self.untied = is_tied(Path(source)) and not _on_gpu()
        options = ["--dtype", self.dtype] if self.dtype else []
        folder = self.opened.enter_context(_staged(Path(source), self.untied))
        started = vllm_server(
            str(folder), served_name="checkpoint", options=options, environment={"VLLM_SERVER_DEV_MODE": "1"}
        )
        try:
            url = self.opened.enter_context(started)
        finally:
            tokenizer = preparing.result()  # what ails a folder is told better by us than by a server that ended
        self.root = url.removesuffix("/v1")
        self.probe = tokenizer(_PROBE)["input_ids"]
        self.endpoint = Endpoint("checkpoint", url, **asking_of(source, tokenizer), **self.asking)
        self.loaded = name
        self.told[name] = self._log_probs()

    def _by_transformers(self, name: str, tokenizer: Future[Any]) -> list[float]:
        return log_probs(self.sources[name], tokenizer.result()(_PROBE)["input_ids"], self.dtype)

    def _check(self, name: str) -> None:
        """
        Raises:
            _Cannot: What was read is not what is in the folder.
        """
        said = self._log_probs()
        if self.rounding is None:
            first, this = (self.known[which].result() for which in (self.first, name))
            self.rounding = _apart(self.told[self.first], first)
            most = max(_LEAST, _TIMES * self.rounding)
            alike = _Cannot("they are too alike to tell whether it reads all weights of another in its run")
            near = _apart(first, this) / _NEARER
            if near <= max(_LEAST, self.rounding):
                raise alike
            if _apart(said, this) > most:
                raise _Cannot(
                    f"the weights that it read in its run are not all those of {Path(self.sources[name]).name} "
                    f"({_apart(said, this):.2g} from transformers, {self.rounding:.2g} after its start)"
                )
            if _apart(said, this) > near:  # rounding, or weights that were read in part
                raise alike
        elif (before := self.told.get(name)) and _apart(said, before) > max(_LEAST, _TIMES * self.rounding):
            raise _Cannot("the server answered otherwise when it had read a checkpoint's weights again")
        self.told[name] = said

    def _log_probs(self) -> list[float]:
        body = {"model": "checkpoint", "prompt": self.probe, "max_tokens": 1, "temperature": 0, "prompt_logprobs": 0}
        answer = self._call("v1/completions", body)
        try:
            found = answer["choices"][0]["prompt_logprobs"][1:]
            return [place[str(token)]["logprob"] for place, token in zip(found, self.probe[1:], strict=True)]
        except (KeyError, IndexError, TypeError, ValueError):
            raise _Cannot("it gives no log-probabilities of a prompt to check what it has read") from None

    def _call(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        data, headers = json.dumps(body or {}).encode(), {"Content-Type": "application/json"}
        request = Request(f"{self.root}/{path}", data=data, headers=headers, method="POST")
        try:
            with BARE.open(request, timeout=_TIMEOUT_S) as reply:
                text = reply.read().decode()
        except (HTTPError, URLError, OSError) as error:
            raise _Cannot(f"this vLLM reads no other weights in its run ({path}: {error})") from None
        return json.loads(text) if text else {}


@contextmanager
def _one_by_one() -> Iterator[ThreadPoolExecutor]:
    """A thread beside this one; what it has not begun by the end is not done."""
    executor = ThreadPoolExecutor(1)
    try:
        yield executor
    finally:
        executor.shutdown(cancel_futures=True)


def log_probs(source: str, tokens: list[int], dtype: str | None) -> list[float]:
    """What a model gives each token but the first, by transformers on the CPU (the GPU is the server's).

    Args:
        source: The model's folder or Hub id.
        tokens: Ids, n of them.
        dtype: "float32", "bfloat16" or "float16"; anything else is taken as "float32".

    Returns:
        n - 1 natural logarithms.
    """
    import torch

    model, _ = load_model(source, dtype=dtype if dtype in ("float32", "bfloat16", "float16") else "float32")
    ids = torch.tensor([tokens])
    with torch.inference_mode():
        logits = model.eval()(ids).logits[0, :-1].float()
    return logits.log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0].tolist()


def _apart(one: list[float], other: list[float]) -> float:
    return sum(abs(a - b) for a, b in zip(one, other, strict=True)) / len(one)


def _unlike(sources: Mapping[str, str]) -> str | None:
    """Why these cannot share a server, if they cannot."""
    if "data-parallel" in os.environ.get(OPTIONS, ""):
        return f"{OPTIONS} asks for several engines (--data-parallel-size)"
    shapes = []
    for source in sources.values():
        if not Path(source).is_dir():
            return f"'{source}' is no folder"
        shapes.append({name: value for name, value in own_identity(Path(source)).items() if name != "weights"})
    different = {name for shape in shapes for name in shape if shape.get(name) != shapes[0].get(name)}
    return f"they differ in more than their weights ({', '.join(sorted(different))})" if different else None


def is_tied(folder: Path) -> bool:
    """Whether a model's head is its embedding, under the names that most models give the two."""
    from safetensors import safe_open

    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    names: set[str] = set()
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as weights:
            names.update(weights.keys())
    return _EMBEDDING in names and _HEAD not in names and bool(config.get("tie_word_embeddings"))


@contextmanager
def _staged(folder: Path, untied: bool) -> Iterator[Path]:
    """The folder to read a model from: its own, or one in which the head lies beside the rest."""
    if not untied:
        yield folder.resolve()
        return
    scratch = Path(tempfile.mkdtemp(prefix=f"cft-untied-{folder.name}-"))
    try:
        try:
            _write_untied(folder, scratch)
        except OSError as error:
            told = f"{scratch}: the model's head cannot be written there ({error.strerror or error})"
            raise CFTError(told) from None
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _write_untied(folder: Path, scratch: Path) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file

    for file in folder.iterdir():
        if file.is_file() and file.suffix != ".safetensors" and file.name not in ("config.json", _INDEX):
            (scratch / file.name).symlink_to(file.resolve())
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (scratch / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}), encoding="utf-8")
    places = {_HEAD: "part-head.safetensors"}  # by an index, since a file of the usual name would be read alone
    for file in folder.glob("*.safetensors"):
        (scratch / f"part-{file.name}").symlink_to(file.resolve())
        with safe_open(file, "pt") as weights:
            places |= dict.fromkeys(weights.keys(), f"part-{file.name}")
            if places.get(_EMBEDDING) == f"part-{file.name}":
                save_file({_HEAD: weights.get_tensor(_EMBEDDING)}, scratch / places[_HEAD], {"format": "pt"})
    (scratch / _INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}), encoding="utf-8")


def _on_gpu() -> bool:
    import torch

    return torch.cuda.is_available()
