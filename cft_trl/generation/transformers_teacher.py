"""A teacher in this process: a transformers model, for small models and machines without a server.

    teacher = TransformersTeacher("smollm2-135m")
    run_critique(rows, CritiqueSettings(teachers=("transformers:smollm2-135m",)), [teacher], "out")

Requests are taken a few batches at a time; those sampled alike are computed together, by length. At temperature 0 an
answer follows from its request alone; above, from its request and seed: the request's own `seed` (plus `sample`), or
else its key, so that a rerun writes the same. What shares its batch matters only where rounding tips a choice.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

from cft_trl.errors import CFTError, nearest
from cft_trl.generation.identities import transformers_identity
from cft_trl.generation.local import AT_ONCE, SAMPLING, LocalModel, stops_of
from cft_trl.generation.open import open_local
from cft_trl.generation.types import Answers, Counts, Generation, InMemory, Kept, Request, failed
from cft_trl.models.identity import Identity

_BATCHES = 8  # so many are taken at once: the more, the closer in length those of one batch are


class TransformersTeacher:
    """A causal language model, asked as an endpoint is.

    Args:
        source: A Hub id, a folder or "smollm2-135m"; loaded when an answer is wanted that is not in the journal.
        name: What requests and rows call it; by default `source`.
        batch_size: Requests computed together.
        dtype: The weights' type ("float32"); by default as `cft_trl.models.loading.load_model` chooses.
        revision: Commit, tag or branch of a Hub id.
        identity: What the model is, where that is known already; see identities.py.

    Raises:
        CFTError: There is no such model.
    """

    def __init__(
        self,
        source: str,
        *,
        name: str | None = None,
        batch_size: int = AT_ONCE,
        dtype: str | None = None,
        revision: str | None = None,
        identity: Identity | None = None,
    ) -> None:
        from cft_trl.models.names import resolve_model

        self.model, self.batch_size = name or source, batch_size
        self._source, self._dtype, self._revision = resolve_model(source, revision=revision), dtype, revision
        self._loaded: LocalModel | None = None
        self.identity = identity or transformers_identity(source, revision, dtype)
        self._busy = threading.Lock()

    async def ask(
        self,
        requests: Iterable[Request],
        kept: Kept | None = None,
        *,
        counts: Counts | None = None,
        in_order: bool = False,
    ) -> Answers:
        """As `types.Model.ask`; results always come in the requests' order, a few batches at a time.

        Args:
            requests, kept, counts: As there.
            in_order: Without effect, they always are.

        Raises:
            CFTError: The model cannot be loaded or does not fit into memory, or a request has a sampling parameter
                that is not in `local.SAMPLING`.
        """
        counts, kept = Counts() if counts is None else counts, InMemory() if kept is None else kept
        source = iter(requests)
        while window := list(islice(source, self.batch_size * _BATCHES)):
            missing: dict[str, Request] = {}
            for request in window:
                if request.key in kept:
                    counts.from_journal += 1
                else:
                    missing.setdefault(request.key, request)
            if missing:
                await self._answer(missing, kept, counts)
            for request in window:
                yield request, kept.get(request.key) or failed("not asked")

    async def _answer(self, missing: Mapping[str, Request], kept: Kept, counts: Counts) -> None:
        """Computes answers in a thread; each batch is kept before the next is done."""
        loop, stop, left = asyncio.get_running_loop(), threading.Event(), len(missing)
        done: asyncio.Queue[tuple[str, Generation] | None] = asyncio.Queue()

        def tell(key: str, generation: Generation) -> None:
            loop.call_soon_threadsafe(done.put_nowait, (key, generation))

        async def keep() -> None:
            nonlocal left
            while (result := await done.get()) is not None:
                key, generation = result
                answer = _read(generation, missing[key].sampling)
                kept.append(key, answer)
                counts.add(answer)
                counts.in_flight -= 1
                left -= 1

        counts.sent += len(missing)
        counts.in_flight += len(missing)
        work = loop.run_in_executor(None, self._compute, missing, tell, stop.is_set)
        work.add_done_callback(lambda _: done.put_nowait(None))
        try:
            await keep()
            work.result()
        except asyncio.CancelledError:
            stop.set()  # the batch under way is waited for and kept, no further one begins
            await keep()
            raise
        finally:
            stop.set()
            counts.in_flight -= left
            await asyncio.wait([work])
            if not work.cancelled():
                work.exception()  # seen, also where another error ends the run

    def _compute(
        self, missing: Mapping[str, Request], tell: Callable[[str, Generation], None], cancelled: Callable[[], bool]
    ) -> None:
        import torch

        keys, requests = list(missing), [self._drawn(key, request) for key, request in missing.items()]
        with self._busy:
            try:
                self._load().write(requests, lambda at, made: tell(keys[at], made), cancelled)
            except torch.OutOfMemoryError:
                raise CFTError(
                    f"teacher {self.model}: no memory for {self.batch_size} requests at once; lower max_tokens, or "
                    "ask it as vllm:MODEL"
                ) from None

    def _load(self) -> LocalModel:
        if self._loaded is None:
            size = self.batch_size
            self._loaded = open_local(self._source, dtype=self._dtype, revision=self._revision, batch_size=size)
        return self._loaded

    def _drawn(self, key: str, request: Request) -> Request:
        """The request with the seed that it draws by."""
        for name in request.sampling:
            if name not in SAMPLING:
                raise CFTError(
                    f"teacher {self.model}: sampling parameter {name!r} is not known to transformers teachers"
                    f"{nearest(name, SAMPLING)}; known: {', '.join(SAMPLING)}"
                )
        if request.sampling.get("seed") is not None:
            return request
        return replace(request, sampling={**request.sampling, "seed": int(key[:15], 16)}, sample=0)


def _read(generation: Generation, sampling: Mapping[str, Any]) -> Generation:
    """As an endpoint would have answered: without the stop string, and a failure where there is no text."""
    if generation.failure is not None:
        return failed("context length", generation.failure)
    text = generation.text
    for mark in stops_of(sampling):
        text = text.removesuffix(mark)
    return replace(generation, text=text) if text.strip() else failed("empty answer", "the model wrote nothing")
