"""The models behind the app, and texts from them that can be stopped at any time.

    runtime = Runtime(DemoSettings(model="runs/mine", base_model="smollm2-135m"))
    runtime.load()
    for events in runtime.stream("cft", Ask("direct", "What is 2 + 2?")):
        ...    # [Event("solution", 1, "2 + 2"), Event("solution", 1, " = 4")], then more, the last with the outcome

A model is here (transformers, on a CPU or a GPU), on ZeroGPU, which lends its GPU for a number of seconds that must be
said beforehand, or behind an endpoint.
"""

from __future__ import annotations

import contextvars
import math
import os
import sys
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import suppress
from queue import Empty, Queue
from typing import Any

from cft_trl.data.prompts import Wording
from cft_trl.demo.asks import Ask
from cft_trl.demo.loaded import Loaded
from cft_trl.demo.settings import DemoSettings, display_name
from cft_trl.errors import CFTError, one_line
from cft_trl.generation.modes import Endpoint, Event, Generation, LocalModel, stream_mode
from cft_trl.generation.types import Pieces, Request

# Pieces that come faster than this, in seconds, are shown together: a browser need not draw forty times a second.
_TOGETHER = 0.12
_HEARTBEAT = 0.5
# Who has not come back for more after so many seconds has gone, whatever became of the request.
_ABANDONED = 20.0
# ZeroGPU: seconds for moving the model in, and tokens a second that a 7B model in bfloat16 is sure to write.
_GPU_START, _GPU_RATE = 10, 20


class Unanswered(Exception):
    """No text came, and why: a sentence for the visitor. What really happened is on standard error."""


class Runtime:
    """The models by their part: "cft" always, "base" where there is one.

    Args:
        models: Models to take instead of loading any, by part.

    Attributes:
        preset: The wording that critiques are asked in and read by.
    """

    def __init__(
        self, settings: DemoSettings, models: dict[str, LocalModel | Endpoint | ZeroGPUModel] | None = None
    ) -> None:
        self.settings = settings
        self.names = {"cft": display_name(settings.model)}
        if settings.base_model:
            self.names["base"] = display_name(settings.base_model)
        self.loaded: dict[str, Loaded] = {}
        self._models = dict(models or {})
        self.preset: str | Wording = settings.wording or "paper"
        self._running: dict[threading.Event, str] = {}  # what ends a text -> whose it is

    def load(self) -> None:
        """Loads the models. At the start and not with the first question, so that a mistake is seen by whoever starts
        the app, and because ZeroGPU wants its models before the page is up.

        Raises:
            CFTError: A model cannot be found or loaded.
        """
        from cft_trl.models.adapters import base_changed
        from cft_trl.models.names import hub_commit, resolve_model
        from cft_trl.models.trained_prompt import trained_preset

        settings = self.settings
        sources = {
            "cft": (settings.model, settings.endpoint, settings.revision),
            "base": (settings.base_model, settings.base_endpoint or settings.endpoint, settings.base_revision),
        }
        commits = {"cft": settings.revision}
        for part in self.names.keys() - self._models.keys():
            model, endpoint, revision = sources[part]
            assert model is not None  # a base model without a name has no part
            if endpoint:
                key_env, patience = settings.api_key_env, settings.patience
                self.loaded[part] = Loaded.of_endpoint(model, endpoint, key_env)
                extra = settings.extra_fields
                self._models[part] = Endpoint(model, endpoint, key_env, settings.at_once, patience, extra=extra)
                continue
            source = resolve_model(model, revision=revision)
            here, commit = os.path.isdir(source), hub_commit(source, revision)
            base = settings.adapter_base if part == "cft" else None
            self.loaded[part] = Loaded.of_folder(source, base) if here else Loaded.of_hub(source, revision, commit)
            commits[part] = commit or revision  # a branch may move while this loads
            if base_changed(source, commits[part], base):
                self.loaded[part].told += ", not on the base it was trained on"
            self._models[part] = _local(source, commits[part], base)
        # The base model is asked in the other's words: they are compared on the same input.
        self.preset = settings.wording or trained_preset(settings.model, commits["cft"], on_hub=not settings.endpoint)

    def note(self, part: str) -> str:
        """What a visitor is to know of a model that is no longer what it was loaded from; "" as long as it is."""
        loaded = self.loaded.get(part)
        return (loaded and loaded.note()) or ""

    def stop(self, visitor: str) -> None:
        """Ends the visitor's texts: those of "3f1c/solve", or all of "3f1c"."""
        for stopped, whose in list(self._running.items()):
            if whose == visitor or whose.startswith(f"{visitor}/"):
                stopped.set()

    def stream(self, part: str, ask: Ask, visitor: str = "") -> Iterator[list[Event]]:
        """Answers a request, some events at a time. The model stops at its next token when the iterator is closed, when
        `stop` names the visitor, and when nobody has asked for more in a while.

        Args:
            part: Which model: "cft" or "base".
            ask: What is asked.
            visitor: Whose request it is; "" where nobody can stop it.

        Raises:
            Unanswered: Instead of further events.
        """
        sampling: dict[str, Any] = {"max_new_tokens": ask.max_new_tokens, "temperature": ask.temperature}
        if ask.mode != "critique":
            sampling["system"] = math_system()
        events = stream_mode(
            self._models[part],
            ask.query,
            ask.mode,
            response=ask.solution if ask.mode == "critique" else None,
            prompt_preset=self.preset,
            max_rounds=ask.max_rounds,
            seed=ask.seed,
            **sampling,
        )
        stopped = threading.Event()
        self._running[stopped] = visitor
        try:
            yield from _together(events, self.settings.patience, stopped)
        except Exception as error:
            key = os.environ.get(self.settings.api_key_env, "")
            told = one_line(f"{type(error).__name__}: {error}")
            print(f"cft demo: {self.names[part]}: {told.replace(key, '***') if key else told}", file=sys.stderr)
            raise Unanswered(sentence(error)) from None
        finally:
            self._running.pop(stopped, None)


class ZeroGPUModel:
    """A model that borrows its GPU for each text, for as many seconds as its longest may take."""

    def __init__(self, model: LocalModel) -> None:
        import spaces

        def write(request: Request) -> Iterator[str | Generation]:
            # Another process yields this, from which no return value comes back: so the generation is yielded too.
            yield (yield from model.pieces(request))

        def duration(request: Request) -> int:
            return gpu_seconds(request.sampling["max_tokens"])

        self._write = spaces.GPU(duration=duration)(write)

    def pieces(self, request: Request) -> Pieces:
        """As `LocalModel.pieces`.

        Raises:
            RuntimeError: The GPU was taken back before the text had ended.
        """
        for piece in self._write(request):
            if isinstance(piece, Generation):
                return piece
            yield piece
        raise RuntimeError("the GPU was taken back before the text had ended")


def gpu_seconds(max_new_tokens: int) -> int:
    """For how long a text of so many tokens may need ZeroGPU.

    Example:
        >>> gpu_seconds(256), gpu_seconds(2048)
        (23, 113)
    """
    return _GPU_START + math.ceil(max_new_tokens / _GPU_RATE)


def on_zero_gpu() -> bool:
    """Whether this is a Space on ZeroGPU."""
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


def sentence(error: Exception) -> str:
    """What a visitor is told: never the error's own words, which may hold an address, a path or a key.

    Example:
        >>> sentence(CFTError("m at http://10.0.0.7:8000/v1: 401 (no such key: sk-secret)", reason="401"))
        'The model could not answer this time. Please try again in a minute.'
        >>> sentence(CFTError("m at http://10.0.0.7:8000/v1: 2,048 tokens at most", reason="context length"))
        'This is too long for the model to read. Please shorten it.'
    """
    reason = error.reason if isinstance(error, CFTError) else None
    if reason == "context length":
        return "This is too long for the model to read. Please shorten it."
    if isinstance(error, TimeoutError) or reason == "time-out":
        return "The model took too long to answer. Please try again in a minute, or ask for a shorter answer."
    if reason in ("no connection", "connection lost"):
        return "The model's server cannot be reached at the moment. Please try again in a minute."
    if "OutOfMemory" in type(error).__name__:
        return "The machine ran out of memory. Please try a shorter text."
    return "The model could not answer this time. Please try again in a minute."


def math_system() -> str:
    """The system turn before a question, as in the published evaluation."""
    from cft_trl.grading.benchmarks import MATH_SYSTEM

    return MATH_SYSTEM


def _local(name: str, revision: str | None, adapter_base: str | None = None) -> LocalModel | ZeroGPUModel:
    zero = on_zero_gpu()
    if zero:
        import spaces  # noqa: F401  it has to come before torch looks for a GPU

    from cft_trl.generation.open import open_local

    device = "cuda" if zero else None
    local = open_local(
        name, dtype="bfloat16" if zero else None, revision=revision, device=device, adapter_base=adapter_base
    )
    return ZeroGPUModel(local) if zero else local


def _together(events: Generator[Event, None, None], patience: float, stopped: threading.Event) -> Iterator[list[Event]]:
    """The events as they come, those of one moment together; an empty list now and then while there is none.

    A thread of its own asks for them, and this one comes back to its caller twice a second: an iterator can only be
    closed between two items, and a model may think for long before a piece, an endpoint may never answer at all.
    """
    queue: Queue[Event | BaseException | None] = Queue()
    left = math.inf  # when the caller was last given something and has not come back since

    def work() -> None:
        try:
            for event in events:
                queue.put(event)
                # A queue that drops a request need not close its iterator.
                if stopped.is_set() or time.monotonic() - left > _ABANDONED:
                    break
            queue.put(None)
        except BaseException as error:  # handed to whoever waits
            queue.put(error)
        finally:
            events.close()

    # ZeroGPU finds out through a context variable who is asking.
    threading.Thread(target=contextvars.copy_context().run, args=(work,), daemon=True).start()
    heard = time.monotonic()
    try:
        while True:
            items = []
            with suppress(Empty):
                items.append(queue.get(timeout=_HEARTBEAT))
                time.sleep(_TOGETHER)
                while True:
                    items.append(queue.get_nowait())
            last = items[-1] if items else ...
            if not items and time.monotonic() - heard > patience:
                raise TimeoutError(f"no text for {patience:g} s")
            if items:
                heard = time.monotonic()
            left = time.monotonic()
            yield [item for item in items if isinstance(item, Event)]
            left = math.inf
            if last is None or stopped.is_set():
                return
            if isinstance(last, BaseException):
                raise last
    finally:
        stopped.set()
