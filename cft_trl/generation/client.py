"""Asks an endpoint for many answers, through every fault, and never for the same one twice.

    async with aclosing(Teacher("gpt-4o-2024-11-20").ask(requests)) as results:
        async for request, generation in results: ...

The requests are put as the `openai` library puts them (connection.py); what the replies mean is told by replies.py, and
how many are in flight by limiter.py.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

from cft_trl.generation.completions import Completions
from cft_trl.generation.connection import LONGEST_WAIT_S, TOLD_WAIT_S, Connection
from cft_trl.generation.dialect import Form
from cft_trl.generation.endpoint_settings import EndpointSettings
from cft_trl.generation.identities import served_identity
from cft_trl.generation.limiter import Limiter
from cft_trl.generation.replies import Trouble, completion_id, read_answer, read_error
from cft_trl.generation.types import Answers, Counts, Generation, InMemory, Kept, Request, cut_at_stop, failed, is_known
from cft_trl.models.identity import Identity, endpoint_identity

_EMPTY_TRIES = 3  # a server at temperature 0 says nothing the next time either
_REFUSED_TRIES = 4  # to an address that never answered: about two seconds, not minutes
_GIVEN_UP = 8  # so many one after the other, and no answer meanwhile: it is the server and not the rows
_BAD_REQUESTS = 8  # so many, and not one answer: it is the request's form that the server does not take


@dataclass(frozen=True)
class Teacher(EndpointSettings):
    """A model at an OpenAI-compatible endpoint that can be asked; `batch.BatchTeacher` asks at half the price."""

    @cached_property
    def identity(self) -> Identity:
        """What the model is, as the endpoint tells it now; see identities.py."""
        served = self.known or served_identity(self.model, self.base_url, self.api_key_env)
        return served or endpoint_identity(self.address, self.model)

    def ask(
        self,
        requests: Iterable[Request],
        kept: Kept | None = None,
        *,
        counts: Counts | None = None,
        in_order: bool = False,
        window: int | None = None,
    ) -> Answers:
        """As `types.Model.ask`.

        Args:
            requests: Give those with the same beginning one after the other: they are sent in this order.
            kept, counts, in_order: As there.
            window: How many requests are held in memory at once; by default twice `max_concurrency` and at least 256.

        Raises:
            CFTError: The endpoint cannot be reached or has stopped answering, the key is wrong, the model is unknown.
        """
        return _ask(self, requests, InMemory() if kept is None else kept, counts, in_order, window)


async def _ask(
    teacher: Teacher,
    requests: Iterable[Request],
    kept: Kept,
    counts: Counts | None,
    in_order: bool,
    window: int | None,
) -> Answers:
    counts = Counts() if counts is None else counts
    window = window or max(256, 2 * teacher.max_concurrency)
    source, exhausted = iter(requests), False
    finished: asyncio.Queue[asyncio.Task] = asyncio.Queue()
    running: dict[str, list[tuple[int, Request]]] = {}  # the same question again waits for the answer under way
    tasks: set[asyncio.Task] = set()
    ready: dict[int, tuple[Request, Generation]] = {}
    taken = given = 0  # requests read, results yielded
    endpoint = _AskedEndpoint(teacher, kept, counts)
    try:
        while True:
            while not exhausted and taken - given < window:
                request = next(source, None)
                if request is None:
                    exhausted = True
                    break
                key = request.key
                if key in kept:
                    counts.from_journal += 1
                    ready[taken] = request, kept.get(key) or failed("not asked")
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
                key, generation = task.result()
                for at, request in running.pop(key):
                    ready[at] = request, generation
                if finished.empty():
                    break
                task = finished.get_nowait()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await endpoint.connection.close()


class _AskedEndpoint:
    """One teacher's endpoint during one `ask`: its connection, the limiter, what the server has shown."""

    def __init__(self, teacher: Teacher, kept: Kept, counts: Counts) -> None:
        self.teacher, self.kept, self.counts = teacher, kept, counts
        self.limiter = Limiter(teacher.max_concurrency, teacher.at_first)
        self.connection = Connection(teacher)
        self._alive = False  # has said anything at all
        self._good = 0  # answers and failures of single requests: signs that it works
        self._bad_requests = self._given_up = 0
        self._completions = Completions()

    async def ask(self, key: str, request: Request) -> tuple[str, Generation]:
        """One request's result, which is kept."""
        reasons: Counter[str] = Counter()
        lately: Counter[str] = Counter()  # the same, since the endpoint last answered anything
        good_before = seen = self._good
        form = Form(request.body)
        while True:
            reply = await self._try(form, again=bool(reasons["repeated answer"] + reasons["surplus bytes"]))
            if not isinstance(reply, Trouble):
                self._good += 1
                self.kept.append(key, reply)  # before it is counted: what was paid for is kept, whatever comes
                self.counts.add(reply)
                self._tell_of(reply)
                return key, reply
            if reply.then == "fatal" and not self._is_one_rows(reply):
                raise self.connection.stopped(reply)
            if reply.then == "final" and await self._learn(reply, form):
                self.counts.retried["asked in another form"] += 1
                continue
            if reply.then == "final":
                return self._final(key, reply)
            if reply.then == "fatal":
                return self._give_up(key, reply, good_before, reply.detail)
            if self._good != seen:
                seen = self._good
                lately.clear()
            reasons[reply.reason] += 1
            lately[reply.reason] += 1
            most, later = self.teacher.max_attempts, reasons["429"] + reasons["429 quota"]
            tries = reasons.total() - later  # "later" is no fault, and is heard more often
            silent = reply.reason == "no connection" and not self._alive
            if tries >= _REFUSED_TRIES and (silent or (reply.reason == "web page" and not self._good)):
                raise self.connection.stopped(reply)
            if lately["429 quota"] >= most:
                raise self.connection.stopped(reply)
            if tries >= most or later >= 10 * most or reasons["empty answer"] >= _EMPTY_TRIES:
                told = ", ".join(f"{count} x {reason}" for reason, count in reasons.items())
                return self._give_up(key, reply, good_before, f"given up after {told}")
            self.counts.retried[reply.reason] += 1
            # Full jitter, so that requests that failed together do not come back together.
            longest = min(60.0, self.teacher.backoff * 2 ** min(reasons[reply.reason] - 1, 10))
            wait = min(reply.wait, LONGEST_WAIT_S)
            self.counts.paused_until = max(self.counts.paused_until, self.connection.tell_of_wait(reply))
            await asyncio.sleep(wait * random.uniform(1.0, 1.1) or longest * random.uniform(0.5, 1.0))

    def _is_one_rows(self, trouble: Trouble) -> bool:
        """Whether a 403 is of the row and not of the key: others were answered, now or in an earlier run."""
        return trouble.reason == "403" and bool(self._good or len(self.kept))

    def _final(self, key: str, trouble: Trouble) -> tuple[str, Generation]:
        """A request that has failed; the run ends where the first ones all do, for it is then not the rows."""
        refused = trouble.reason == "bad request" or trouble.status in (403, 451)
        if refused and not self._good:
            self._bad_requests += 1
            if self._bad_requests >= _BAD_REQUESTS:
                raise self.connection.stopped(trouble)
            return self._fail(key, trouble.reason, trouble.detail, again=True)
        self._good += 1
        return self._fail(key, trouble.reason, trouble.detail, again=trouble.reason == "bad request")

    def _give_up(self, key: str, trouble: Trouble, good_before: int, detail: str) -> tuple[str, Generation]:
        self._given_up = self._given_up + 1 if self._good == good_before else 1
        # One row that always fails must not stop a rerun in which it is the only one left.
        if self._good == good_before and (trouble.reason == "no connection" or self._given_up >= _GIVEN_UP):
            raise self.connection.stopped(trouble)
        return self._fail(key, trouble.reason, detail, again=True)

    def _fail(self, key: str, reason: str, detail: str, again: bool) -> tuple[str, Generation]:
        failure = failed(reason, self.connection.redact(detail))
        self.kept.append(key, failure, again=again)
        self.counts.add(failure)
        return key, failure

    async def _learn(self, trouble: Trouble, form: Form) -> bool:
        """Whether a refusal says how the request has to be put; in a thread, for it may ask what is served."""
        if trouble.reason not in ("bad request", "context length"):
            return False
        learn, tell = self.teacher.dialect.learn, self.connection.tell
        return await asyncio.to_thread(learn, trouble, form, form.sent, tell, self.connection.served)

    async def _try(self, form: Form, again: bool) -> Generation | Trouble:
        number = await self.limiter.acquire()
        self.counts.in_flight = self.limiter.in_flight
        reply: Generation | Trouble = Trouble("retry", "cancelled")
        try:
            self.counts.sent += 1
            form.sent = self.teacher.dialect.body(form)
            async with asyncio.timeout(self.teacher.timeout):
                body, over = await self.connection.post(form.sent, fresh=again)
            reply = self._read(body, form, again)
            if isinstance(reply, Trouble) and reply.reason == "repeated answer":
                self.connection.drop(over)
            self._alive = True
        except asyncio.CancelledError:
            raise
        except Exception as error:
            reply = read_error(error)
            self._alive |= reply.reason not in ("no connection", "connection lost", "time-out")
        finally:
            if isinstance(reply, Trouble):
                wait = min(reply.wait, LONGEST_WAIT_S)
                self.limiter.release(number, reply.then == "final", reply.overload, reply.fault, wait,
                                     probe=reply.wait >= TOLD_WAIT_S)  # fmt: skip
            else:
                self.limiter.release(number)
            self.counts.in_flight = self.limiter.in_flight
        return reply

    def _read(self, body: str, form: Form, again: bool) -> Generation | Trouble:
        """The body as an answer: that of this request and of no other, as far as its id says."""
        reply = read_answer(body)
        if isinstance(reply, Trouble):
            return reply
        asked = repr(form.body["messages"])
        if self._completions.is_repeated(completion_id(body), reply.text, asked, again):
            return Trouble("retry", "repeated answer", "it came under the id of an earlier one")
        told = self.teacher.dialect.told(form, form.sent)
        if form.stops_here:
            text = cut_at_stop(reply.text, form.stops_here)
            if len(text) < len(reply.text) or text.endswith(tuple(form.stops_here)):
                told |= {"text": text, "finish_reason": "stop"}
        if self.teacher.header or self.teacher.behind:
            told["text"] = self.teacher.said(told.get("text", reply.text))
        return replace(reply, **told) if told else reply

    def _tell_of(self, generation: Generation) -> None:
        if generation.limit_cut and self.teacher.dialect.cap is None:
            self.connection.tell(
                "a prompt and the limit on its answer are over the context; such answers get the room that is left"
            )
        if not is_known(generation.finish_reason):
            self.connection.tell(
                f"an unknown finish_reason {generation.finish_reason!r}; such answers are taken as whole"
            )
