"""Asks an endpoint for many answers, through every fault, and never for the same one twice.

    async with aclosing(ask_all(teacher, requests, journal)) as results:
        async for request, answer in results: ...

    Request(key="0f5a...", messages=[{"role": "user", "content": "..."}], sampling={"temperature": 0.3}, sample=0)
    {"text": "...", "finish_reason": "stop", "prompt_tokens": 310, "completion_tokens": 24}      an answer
    {"failure": "context length", "detail": "This model's maximum context length is ..."}        a failure

The `openai` library makes the requests, with its own retries turned off: it knows neither of the journal nor of the
other requests, so it can neither slow down for all of them nor tell a lost row from a lost server.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from cft_trl.errors import CFTError, one_line
from cft_trl.synthesis.journal import Journal, request_key
from cft_trl.synthesis.limiter import Limiter
from cft_trl.synthesis.replies import Trouble, read_answer, read_error

Answer = dict[str, Any]

_EMPTY_TRIES = 3  # a server at temperature 0 says nothing the next time either
_REFUSED_TRIES = 4  # to an address that never answered: about two seconds, not minutes
_GIVEN_UP = 8  # so many one after the other, and no answer meanwhile: it is the server and not the rows
_BAD_REQUESTS = 8  # so many, and not one answer: it is the request's form that the server does not take


@dataclass(frozen=True)
class Teacher:
    """A model at an OpenAI-compatible endpoint.

    Attributes:
        model: Its name there.
        base_url: The endpoint, "http://localhost:8000/v1"; None for OpenAI's own.
        api_key_env: The environment variable that holds the key. The key itself is in no object of ours.
        max_concurrency: At most so many requests in flight; how many really are adapts to the server.
        timeout: Seconds for one request.
        max_attempts: Tries for one request before it is given up; a 429 is not counted until there are ten times as
            many.
        backoff: Seconds to wait after the first failed try, doubled each time up to a minute. With nine tries a server
            may be away for a minute and a half, which is what vLLM takes to start.
    """

    model: str
    base_url: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    max_concurrency: int = 128
    timeout: float = 600.0
    max_attempts: int = 9
    backoff: float = 0.5

    @property
    def address(self) -> str:
        """The endpoint for messages: without a user name or password that the address may hold."""
        return re.sub(r"//[^/@]*@", "//", self.base_url or "https://api.openai.com/v1")


@dataclass(frozen=True, slots=True)
class Request:
    """One question to one model. `sample` tells several answers to it apart; a `seed` is counted up by it."""

    model: str
    messages: Sequence[Mapping[str, str]]
    sampling: Mapping[str, Any] = field(default_factory=dict)
    sample: int = 0
    tag: Any = None  # the caller's own, kept out of the key

    @property
    def key(self) -> str:
        return request_key(self.model, self.messages, self.sampling, self.sample)

    @property
    def body(self) -> dict[str, Any]:
        sampling = dict(self.sampling)
        if sampling.get("seed") is not None:
            sampling["seed"] += self.sample
        return {"model": self.model, "messages": list(self.messages), **sampling}


@dataclass
class Counts:
    """What a run did. `sent` counts every try; `retried` and `failed` count by reason."""

    answered: int = 0
    from_journal: int = 0
    sent: int = 0
    truncated: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    retried: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)


async def ask_all(
    teacher: Teacher,
    requests: Iterable[Request],
    journal: Journal,
    *,
    counts: Counts | None = None,
    in_order: bool = False,
    window: int | None = None,
) -> AsyncIterator[tuple[Request, Answer]]:
    """Answers to all requests; those in the journal come from there.

    Args:
        teacher: The endpoint.
        requests: Read lazily, so there may be any number. Give those with the same beginning one after the other:
            they are sent in this order.
        journal: Every result is in it before it is yielded.
        counts: Filled while it runs.
        in_order: Whether results come in the requests' order, else as they are done.
        window: How many requests are held in memory at once; by default twice `max_concurrency` and at least 256.

    Yields:
        (request, answer or failure), one per request; see the top of this file. `finish_reason` "length" marks an
        answer that was cut off.

    Raises:
        CFTError: The endpoint cannot be reached or has stopped answering, the key is wrong, the model is unknown. What
            was answered before is in the journal.
    """
    counts = Counts() if counts is None else counts
    window = window or max(256, 2 * teacher.max_concurrency)
    source, exhausted = iter(requests), False
    finished: asyncio.Queue[asyncio.Task] = asyncio.Queue()
    running: dict[str, list[tuple[int, Request]]] = {}  # the same question again waits for the answer under way
    tasks: set[asyncio.Task] = set()
    ready: dict[int, tuple[Request, Answer]] = {}
    taken = given = 0  # requests read, results yielded
    endpoint = _Endpoint(teacher, journal, counts)
    try:
        while True:
            while not exhausted and taken - given < window:
                request = next(source, None)
                if request is None:
                    exhausted = True
                    break
                key = request.key
                if key in journal:
                    counts.from_journal += 1
                    ready[taken] = request, journal.get(key) or {}
                elif key in running:
                    running[key].append((taken, request))
                else:
                    running[key] = [(taken, request)]
                    task = asyncio.create_task(endpoint.ask(key, request))
                    tasks.add(task)
                    task.add_done_callback(finished.put_nowait)
                taken += 1
            while ready and (not in_order or given in ready):
                at = given if in_order else next(iter(ready))
                given += 1
                yield ready.pop(at)
            if not tasks:
                if exhausted and given == taken:
                    return
                continue
            if taken - given < window and not exhausted:
                continue
            task = await finished.get()
            while True:
                tasks.discard(task)
                key, answer = task.result()
                for at, request in running.pop(key):
                    ready[at] = request, answer
                if finished.empty():
                    break
                task = finished.get_nowait()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await endpoint.close()


class _Endpoint:
    """One teacher's connection during one `ask_all`: the library's client, the limiter, what the server has shown."""

    def __init__(self, teacher: Teacher, journal: Journal, counts: Counts) -> None:
        self.teacher, self.journal, self.counts = teacher, journal, counts
        self.limiter = Limiter(teacher.max_concurrency)
        self._client: Any = None
        self._key = os.environ.get(teacher.api_key_env, "")
        self._alive = False  # has said anything at all
        self._good = 0  # answers and failures of single requests: signs that it works
        self._bad_requests = self._given_up = 0

    async def ask(self, key: str, request: Request) -> tuple[str, Answer]:
        """One request's result, kept in the journal."""
        reasons: Counter[str] = Counter()
        good_before = self._good
        while True:
            reply = await self._try(request)
            if not isinstance(reply, Trouble):
                self._good += 1
                self.counts.answered += 1
                self.counts.truncated += reply["finish_reason"] == "length"
                self.counts.prompt_tokens += reply["prompt_tokens"] or 0
                self.counts.completion_tokens += reply["completion_tokens"] or 0
                self.journal.append(key, reply)
                return key, reply
            if reply.then == "fatal":
                raise self._stop(reply)
            if reply.then == "final":
                if reply.reason == "bad request" and not self._good:
                    self._bad_requests += 1
                    if self._bad_requests >= _BAD_REQUESTS:
                        raise self._stop(reply)
                else:
                    self._good += 1
                return self._fail(key, reply.reason, reply.detail, again=reply.reason == "bad request")
            reasons[reply.reason] += 1
            tries = reasons.total() - reasons["429"]  # "later" is no fault, and is heard more often
            if reply.reason == "no connection" and not self._alive and tries >= _REFUSED_TRIES:
                raise self._stop(reply)
            most = self.teacher.max_attempts
            if tries >= most or reasons["429"] >= 10 * most or reasons["empty answer"] >= _EMPTY_TRIES:
                self._given_up = self._given_up + 1 if self._good == good_before else 1
                # One row that always fails must not stop a rerun in which it is the only one left.
                if self._good == good_before and (reply.reason == "no connection" or self._given_up >= _GIVEN_UP):
                    raise self._stop(reply)
                told = ", ".join(f"{count} x {reason}" for reason, count in reasons.items())
                return self._fail(key, reply.reason, f"given up after {told}", again=True)
            self.counts.retried[reply.reason] += 1
            # Full jitter, so that requests that failed together do not come back together.
            longest = min(60.0, self.teacher.backoff * 2 ** min(reasons[reply.reason] - 1, 10))
            await asyncio.sleep(reply.wait * random.uniform(1.0, 1.1) or longest * random.uniform(0.5, 1.0))

    def _fail(self, key: str, reason: str, detail: str, again: bool) -> tuple[str, Answer]:
        failure = {"failure": reason, "detail": self._redact(detail)}
        self.counts.failed[reason] += 1
        self.journal.append(key, failure, again=again)
        return key, failure

    async def _try(self, request: Request) -> Answer | Trouble:
        number = await self.limiter.acquire()
        reply: Answer | Trouble = Trouble("retry", "cancelled")
        try:
            self.counts.sent += 1
            client = self._open()
            # As text: a reply may be no JSON at all, and the library's typed objects cost as much as the request.
            body = await client.post("/chat/completions", body=request.body, cast_to=str)
            reply = read_answer(body)
            self._alive = True
        except asyncio.CancelledError:
            raise
        except Exception as error:
            reply = read_error(error)
            self._alive |= reply.reason not in ("no connection", "connection lost", "time-out")
        finally:
            if isinstance(reply, Trouble):
                self.limiter.release(number, reply.then == "final", reply.overload, reply.fault, reply.wait)
            else:
                self.limiter.release(number)
        return reply

    def _open(self) -> Any:
        if self._client is None:
            import httpx2  # what the openai library speaks through since its version 3
            import openai

            if not self._key and self.teacher.base_url is None:
                raise CFTError(f"no key for {self.teacher.address}: set the environment variable {self._env}")
            most = self.teacher.max_concurrency
            http = openai.DefaultAsyncHttpxClient(
                timeout=openai.Timeout(self.teacher.timeout, connect=min(10.0, self.teacher.timeout)),
                limits=httpx2.Limits(max_connections=most, max_keepalive_connections=most),
            )
            self._client = openai.AsyncOpenAI(
                # Local servers take any key; without one they are sent this word, never another endpoint's key.
                api_key=self._key or "none",
                base_url=self.teacher.base_url,
                max_retries=0,
                http_client=http,
            )
        return self._client

    @property
    def _env(self) -> str:
        return self.teacher.api_key_env

    async def close(self) -> None:
        if self._client is not None:
            with suppress(Exception):
                await self._client.close()

    def _redact(self, text: str) -> str:
        return one_line(text.replace(self._key, "***") if len(self._key) > 3 else text)

    def _stop(self, trouble: Trouble) -> CFTError:
        """The one line that a run ends with."""
        teacher, at = self.teacher, f"teacher {self.teacher.model} at {self.teacher.address}"
        hint = {
            "no connection": "the server cannot be reached; start it or correct the address",
            "time-out": f"no answer within {teacher.timeout:g} s, many times over; raise the time-out or look after it",
            "401": f"the key is not accepted; set {self._env}",
            "403": f"this key may not use the model; look at {self._env}",
            "404": "no such model (or no such address)",
            "quota": "the account's quota is used up",
            "bad request": "the endpoint does not accept these requests; look at the sampling parameters",
        }.get(trouble.reason, f"no answer after {teacher.max_attempts} tries each ({trouble.reason})")
        said = f" ({trouble.detail})" if trouble.detail else ""
        return CFTError(self._redact(f"{at}: {hint}{said}; what was answered is kept, run it again to go on"))
