"""Texts from a model, for code that waits for them.

    generate(model, requests_of(model, [[{"role": "user", "content": "2+2?"}]], max_new_tokens=32))
    model.generate([[{"role": "user", "content": "2+2?"}]], max_new_tokens=32)               the same
    # [Generation(text="2 + 2 = 4.", finish_reason="stop", prompt_tokens=37, completion_tokens=9)]

What is asked for here is graded or shown, where a build keeps what it gets: so a request that got no answer ends the
call, and one that the endpoint refused is told apart from one that the model failed.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from cft_trl.errors import CFTError
from cft_trl.generation.dialect import Dialect
from cft_trl.generation.types import STOP_STRINGS, Generation, Message, OnResult, Pieces, Request

# What an endpoint refuses of one request; it would do so again.
_REFUSALS = ("context length", "content filter", "refusal", "bad request", "403")


def generate(model: Any, requests: Sequence[Request], on_result: OnResult | None = None) -> list[Generation]:
    """The texts of all requests, in their order.

    Args:
        model: A `types.Model`; or one in this process, which writes in the calling thread (`local.LocalModel.write`).
        requests: What is asked.
        on_result: Called with (index, generation) as each is done.

    Raises:
        CFTError: The model cannot be reached, has stopped answering, or refuses key or name; or some requests got no
            answer after many tries. `on_result` has been called for everything that was answered, and for what was
            refused (`Generation.refused`).
    """
    if hasattr(model, "write"):
        return model.write(requests, on_result)
    asked = _Call(model, len(requests), on_result)
    run_async(asked.run([replace(request, tag=at) for at, request in enumerate(requests)]))
    return asked.finish()


class _Call:
    """One call's requests to a model that answers as it can."""

    def __init__(self, model: Any, count: int, on_result: OnResult | None) -> None:
        self.model, self.count, self.on_result = model, count, on_result
        self.results: dict[int, Generation] = {}
        self.lost: Counter[tuple[str, str]] = Counter()
        # A model may have nothing to say to one question; a server that says nothing to any has not answered.
        self.silent: list[tuple[int, Generation]] = []
        self.dialect = getattr(model, "dialect", None) or Dialect()

    async def run(self, requests: Sequence[Request]) -> None:
        async with aclosing(self.model.ask(requests)) as answers:
            async for request, made in answers:
                self.receive(request.tag, made)

    def receive(self, at: int, made: Generation) -> None:
        generation = self.read(made)
        if generation is None:
            self.lost[made.reason or "", made.failure or ""] += 1
            return
        self.dialect.spoke |= bool(generation.text)
        self.silent.append((at, generation))
        if self.dialect.spoke or made.reason != "empty answer":
            self.keep(*self.silent.pop())
        while self.dialect.spoke and self.silent:
            self.keep(*self.silent.pop())

    def read(self, made: Generation) -> Generation | None:
        """What the caller makes of it; None for a failure that another run may not meet."""
        if made.failure is None:
            return made if made.finish_reason == "length" else replace(made, finish_reason="stop")
        # The client takes nothing for a fault; a model that is evaluated may have nothing to say.
        if made.reason in ("empty answer", "no room"):
            return Generation("", "stop" if made.reason == "empty answer" else "length", None, None)
        if made.reason in _REFUSALS:
            own_limit = made.reason == "context length" and getattr(self.model, "whole_context", False)
            return replace(made, failure=f"{made.reason}: {made.failure}", refused=not own_limit)
        return None

    def keep(self, at: int, generation: Generation) -> None:
        self.results[at] = generation
        if self.on_result:
            self.on_result(at, generation)

    def finish(self) -> list[Generation]:
        if len(self.silent) > 1:
            self.lost["empty answer", "it said nothing to any of them"] = len(self.silent)
        elif self.silent:
            self.keep(*self.silent.pop())
        if self.lost:
            told = "; ".join(f"{count} x {reason}, {failure}" for (reason, failure), count in self.lost.most_common(3))
            where, [first, *_] = getattr(self.model, "where", self.model.model), self.lost
            message = f"{where}: {self.lost.total()} of {self.count} requests got no answer ({told})"
            raise CFTError(message, reason=first[0])
        return [self.results[at] for at in range(self.count)]


def requests_of(
    model: Any,
    conversations: Sequence[Sequence[Message]],
    *,
    max_new_tokens: int = 2048,
    temperature: float = 0.0,
    top_p: float = 1.0,
    stop: Sequence[str] = STOP_STRINGS,
    seed: int | Sequence[int] | None = None,
    keys: Sequence[str] | None = None,
) -> list[Request]:
    """Requests for the next turn of each conversation.

    Args:
        model: Who will be asked. Fields of requests that it has as `extra` are added, and left out where None.
        conversations: Messages `{"role", "content"}`; the first may be a system turn.
        max_new_tokens: Limit per text, in tokens.
        temperature: 0 is greedy.
        top_p: Samples among the likeliest tokens that have this much probability together.
        stop: A text ends with the first of these strings.
        seed: One per conversation, or a number that conversation i adds i to.
        keys: What each is kept under in a journal.
    """
    seeds = seeds_of(seed, len(conversations)) if temperature > 0 else None
    requests = []
    for at, conversation in enumerate(conversations):
        asked = {
            "max_tokens": max_new_tokens,
            "temperature": temperature,
            "top_p": top_p if top_p < 1 else None,
            "stop": list(stop) or None,
            "seed": seeds[at] if seeds else None,
            **getattr(model, "extra", {}),
        }
        sampling = {name: value for name, value in asked.items() if value is not None}
        # At temperature 0 the same question has the same answer and is asked once; above, each is asked for itself.
        sample = at if temperature > 0 and not seeds else 0
        kept_as = keys[at] if keys else ""
        requests.append(Request(getattr(model, "name", ""), list(conversation), sampling, sample, kept_as=kept_as))
    return requests


def seeds_of(seed: int | Sequence[int] | None, count: int) -> list[int] | None:
    """One seed per conversation, from `seed` as `requests_of` takes it."""
    if seed is None or not isinstance(seed, int):
        return None if seed is None else list(seed)
    return [seed + at for at in range(count)]


class Conversations:
    """`generate` and `stream` of conversations with sampling by name, for a model that has `ask` or `write`, and
    `pieces`."""

    def generate(
        self, conversations: Sequence[Sequence[Message]], *, on_result: OnResult | None = None, **sampling: Any
    ) -> list[Generation]:
        """Writes the next turn of each conversation.

        Args:
            conversations: As for `requests_of`.
            on_result: As for `generate`.
            sampling: `max_new_tokens`, `temperature`, `top_p`, `stop` and `seed` of `requests_of`.

        Returns:
            One generation per conversation, in their order. With a seed a text depends on its conversation and seed
            and, in this process, not on what shares its batch (but for rounding).
        """
        return generate(self, requests_of(self, conversations, **sampling), on_result)

    def stream(self, conversation: Sequence[Message], *, seed: int | None = None, **sampling: Any) -> Pieces:
        """Yields the text piece by piece; its pieces joined are the text. Arguments as for `generate`.

        Args:
            conversation: Messages `{"role", "content"}`.
            seed: A number; None draws anew each time.
            sampling: Of `requests_of`: `max_new_tokens`, `temperature`, `top_p` and `stop`.

        Returns:
            The `Generation`, as the generator's return value (`generation = yield from model.stream(...)`).
        """
        [request] = requests_of(self, [conversation], seed=None if seed is None else [seed], **sampling)
        return self.pieces(request)

    def pieces(self, request: Request) -> Pieces:
        """As `stream`.

        Raises:
            NotImplementedError: The model has no way to write piece by piece.
        """
        raise NotImplementedError


def run_async(work: Coroutine[Any, Any, Any]) -> Any:
    """Runs a coroutine to its end, also where a loop is running already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()
