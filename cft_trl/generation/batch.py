r"""Half the price, an answer within a day: requests through an endpoint's Batch API, which outlive the run that asked.

    Journaled(BatchTeacher("gpt-4o-2024-11-20"), journal).ask(requests)

A batch is a file of requests, handed in, and one or two files of results, fetched when it has ended:

    {"custom_id": "0f5a...", "method": "POST", "url": "/v1/chat/completions", "body": {"model": ..., "messages": ...}}
    {"custom_id": "0f5a...", "response": {"status_code": 200, "body": {"choices": [...], ...}}, "error": null}
    {"custom_id": "77c1...", "response": null, "error": {"code": "batch_expired", "message": "..."}}

`custom_id` is the journal's key, so that results need nothing but the journal. What was handed in is kept beside it
(batch_files.py). A run that finds a batch that has not ended waits for it, and does not ask again for what is in it;
where only the file's upload is known, it first looks whether the endpoint has a batch of that file. So no request is
paid for twice, wherever a run was killed. What failed and may be tried again is in the next round of batches.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from cft_trl.errors import CFTError, one_line
from cft_trl.generation.batch_files import Batch, Ledger, read_results
from cft_trl.generation.client import Teacher
from cft_trl.generation.connection import LONGEST_WAIT_S, Connection
from cft_trl.generation.dialect import MOST_STOPS, Form
from cft_trl.generation.identities import key_of
from cft_trl.generation.journal import Places, short_key
from cft_trl.generation.replies import Trouble, read_error
from cft_trl.generation.types import Answers, Counts, Kept, Request, failed

# The API's limits on one file (platform.openai.com/docs/guides/batch).
MOST_REQUESTS = 50_000
MOST_BYTES = 200_000_000

_TRIES = 3  # batches that a request may fail in; each may take a day
_LONGEST_WAIT_S = 60.0
_BAD_REQUESTS = 8  # so many in one batch, and not one answer: it is the requests' form
_ENDED = ("completed", "failed", "expired", "cancelled")
_REFUSALS = {"model_not_found": "404", "insufficient_quota": "quota", "billing_hard_limit_reached": "quota"}


@dataclass(frozen=True)
class BatchTeacher(Teacher):
    """A teacher at an endpoint with a Batch API."""

    async def ask(
        self,
        requests: Iterable[Request],
        kept: Kept | None = None,
        *,
        counts: Counts | None = None,
        in_order: bool = True,
        window: int | None = None,
    ) -> Answers:
        """As `types.Model.ask`; nothing is yielded before every batch has ended, then all in the requests' order.

        The requests are gone through several times. An iterator is made a list; give something that can be iterated
        anew where there are more of them than memory holds.

        Args:
            requests: As there, but gone through several times.
            kept: A journal on disk.
            counts: As there.
            in_order, window: Without effect: results are always in order, and all at once.

        Raises:
            CFTError: Batches outlive the run that asked, so `kept` has to be a journal on disk; as there otherwise.
        """
        if kept is None or kept.path is None:
            raise CFTError(f"{self.title}: a batch outlives the run that hands it in; ask it through a journal")
        if iter(requests) is requests:
            requests = list(requests)
        counts = Counts() if counts is None else counts
        counts.from_journal += sum(request.key in kept for request in requests)
        batches = _Batches(self, kept, kept.path, counts)
        try:
            await batches.run(requests)
        finally:
            await batches.connection.close()
        for request in requests:
            yield request, kept.get(request.key) or failed("not asked")


class _Batches:
    """The batches of one teacher and journal."""

    def __init__(self, teacher: Teacher, kept: Kept, path: Path, counts: Counts) -> None:
        self.teacher, self.kept, self.counts = teacher, kept, counts
        self.connection = Connection(teacher)
        self.ledger = Ledger(path.with_suffix(".batches.jsonl"), teacher.model, key_of(teacher.identity))
        self.open = self.ledger.open_batches()
        self._most_requests = MOST_REQUESTS
        self._tries: Counter[str] = Counter()  # of the requests that failed, by key
        self._limits: dict[str, int | None] = {}  # of those that are asked again with another, by key

    async def run(self, requests: Iterable[Request]) -> None:
        """Until every request has its result in the journal."""
        while True:
            waiting = Places()  # what the open batches hold
            for batch in self.open:
                for key in batch.keys():  # noqa: SIM118 (no dict)
                    waiting.put(short_key(key), 0)
            async for batch in self._write(requests, waiting):
                self.open.append(batch)
                self._show()
                await self._hand_in(batch)
            if not self.open:
                return
            before = len(self.kept), self._tries.total(), self._most_requests
            await self._wait()
            if before == (len(self.kept), self._tries.total(), self._most_requests):
                raise self.connection.stopped(Trouble("fatal", "batch", "it expired without a single answer"))

    async def _write(self, requests: Iterable[Request], waiting: Places) -> AsyncIterator[Batch]:
        """Files of requests that are neither in the journal nor in a batch, as large as the API takes them."""
        lines = self._lines(requests, waiting)
        line = next(lines, None)
        while line:
            batch, count, size = self.ledger.new(f"cft-{os.urandom(6).hex()}"), 0, 0
            batch.without = tuple(sorted(self.teacher.dialect.without))
            try:
                with open(batch.path, "wb") as file:
                    while line and count < self._most_requests and (not count or size + len(line) <= MOST_BYTES):
                        file.write(line)
                        count, size = count + 1, size + len(line)
                        line = next(lines, None)
                        if count % 1000 == 0:
                            await asyncio.sleep(0)  # other teachers wait for their servers
            except OSError as error:
                batch.path.unlink(missing_ok=True)
                raise CFTError(f"{batch.path.parent}: cannot be written ({error.strerror}); make room") from None
            self.ledger.add(batch, requests=count, **({"without": batch.without} if batch.without else {}))
            self.counts.sent += count
            batch.in_flight = count
            yield batch

    def _lines(self, requests: Iterable[Request], waiting: Places) -> Iterator[bytes]:
        for request in requests:
            key = request.key
            if key not in self.kept and waiting.get(short_key(key)) is None:
                waiting.put(short_key(key), 0)
                form = Form(request.body, self._limits.get(key))
                if len(form.stops) > MOST_STOPS:
                    raise CFTError(f"the Batch API takes {MOST_STOPS} stop strings, not {len(form.stops)}; ask without")
                body = self.teacher.dialect.body(form)
                line = {"custom_id": key, "method": "POST", "url": "/v1/chat/completions", "body": body}
                yield json.dumps(line, ensure_ascii=False).encode() + b"\n"

    def _show(self) -> None:
        self.counts.in_flight = sum(batch.in_flight for batch in self.open)

    async def _hand_in(self, batch: Batch) -> None:
        """Uploads the requests and creates the batch of them, unless an earlier run has."""

        async def find(client: Any) -> Any:
            async for found in client.batches.list(limit=100):
                if found.input_file_id == batch.file and found.status != "failed":
                    return found
            return None

        async def upload(client: Any) -> Any:
            with open(batch.path, "rb") as requests:
                return await client.files.create(file=(f"{batch.name}.jsonl", requests), purpose="batch")

        async def create(client: Any) -> Any:
            return await client.batches.create(
                input_file_id=batch.file,
                endpoint="/v1/chat/completions",
                completion_window="24h",
                metadata={"cft": batch.name},
            )

        # An earlier run that uploaded the file may have been killed after it had created the batch, too.
        found = await self._call(find, "no batches") if batch.file and not batch.fresh else None
        if found is None:
            if not batch.path.exists():
                self._close(batch, "lost")  # somebody removed the requests: they are asked anew
                return
            if not batch.fresh:
                batch.file, batch.fresh = (await self._call(upload, "no batches")).id, True
                self.ledger.add(batch, file=batch.file)
            # A lost reply may be that of a batch that now exists.
            found = await self._call(create, "no batches", instead=find)
        batch.batch = found.id
        self.ledger.add(batch, batch=batch.batch)

    async def _wait(self) -> None:
        """Until the open batches have ended; their results are in the journal then."""
        wait = self.teacher.backoff
        while self.open:
            ended = False
            for batch in [batch for batch in self.open if not batch.held]:
                if not batch.batch:
                    await self._hand_in(batch)
                    continue
                state = await self._call(partial(_state, name=batch.batch), "lost batch")
                counts = state.request_counts
                if counts and counts.total:
                    batch.in_flight = counts.total - counts.completed - counts.failed
                self._show()
                if state.status in _ENDED:
                    ended |= await self._end(batch, state)
            if ended:
                for batch in self.open:  # there is room again
                    batch.held = False
                wait = self.teacher.backoff
            elif self.open and all(batch.held for batch in self.open):
                self._make_smaller()
            if self.open or not ended:
                await asyncio.sleep(wait * random.uniform(0.9, 1.1))
                wait = min(_LONGEST_WAIT_S, 1.5 * wait)

    def _make_smaller(self) -> None:
        """No batch is running, and the endpoint has no room for one of this size: the next ones have half of it."""
        largest = max(sum(1 for _ in batch.keys()) for batch in self.open)  # noqa: SIM118
        if largest <= 1:
            raise self.connection.stopped(Trouble("fatal", "batch", "it has no room for one of a single request"))
        self._most_requests = largest // 2
        for batch in list(self.open):
            self._close(batch, "too large")

    async def _end(self, batch: Batch, state: Any) -> bool:
        """Takes the results of a batch that has ended; False where it has to be handed in again."""
        if state.status == "failed":
            first = next(iter((state.errors and state.errors.data) or ()), None)
            code, message = (first.code or "", first.message or "") if first else ("", "it failed without a reason")
            if code == "token_limit_exceeded":
                batch.batch, batch.held = None, True
                return False
            self._close(batch, state.status)
            raise self.connection.stopped(Trouble("fatal", _REFUSALS.get(code, "batch"), one_line(message)))
        troubles: dict[str, Trouble] = {}
        good = bad = 0
        for file in filter(None, (state.output_file_id, state.error_file_id)):
            path = batch.path.with_name(f".{batch.name}.results")
            try:
                await self._call(partial(_download, file=file, path=path))
                for key, result in read_results(path):
                    if isinstance(result, Trouble):
                        troubles[key] = result
                    elif key not in self.kept:
                        if batch.without or key in self._limits:
                            result = replace(result, without=batch.without, limit_cut=key in self._limits)
                        self.kept.append(key, result)
                        self.counts.add(result)
                        good += 1
                        if good % 1000 == 0:
                            await asyncio.sleep(0)
            finally:
                path.unlink(missing_ok=True)
        if fatal := next((trouble for trouble in troubles.values() if trouble.then == "fatal"), None):
            self._close(batch, "refused")
            raise self.connection.stopped(fatal)
        without = Trouble("retry", "no result" if state.status == "completed" else "expired")
        for key, body in batch.bodies():
            if key not in self.kept:
                bad += self._failed(key, troubles.get(key, without), body)
        self._close(batch, state.status)
        if state.status == "cancelled":
            raise self.connection.stopped(Trouble("fatal", "batch", f"{state.id} was cancelled"))
        if bad >= _BAD_REQUESTS and not good:
            refused = next(trouble for trouble in troubles.values() if trouble.reason == "bad request")
            raise self.connection.stopped(refused)
        return True

    def _close(self, batch: Batch, how: str) -> None:
        self.ledger.end(batch, how)
        self.open.remove(batch)
        self._show()

    def _failed(self, key: str, trouble: Trouble, body: dict[str, Any]) -> bool:
        """Keeps a failure, unless the request is to be in the next batch; says whether it was a bad request."""
        form, connection = Form(body), self.connection
        if self.teacher.dialect.learn(trouble, form, body, connection.tell, connection.served):
            self._limits |= {} if form.limit is None else {key: form.limit}
            trouble = Trouble("retry", "asked in another form", trouble.detail)
        again, detail = trouble.reason == "bad request", trouble.detail
        if trouble.then == "retry":
            if trouble.reason != "expired":  # where the endpoint did not come to it, the request is not at fault
                self._tries[key] += 1
            if self._tries[key] < _TRIES:
                self.counts.retried[trouble.reason] += 1
                return False
            again, detail = True, f"given up after {_TRIES} batches; {trouble.detail}"
        failure = failed(trouble.reason, self.connection.redact(detail))
        self.kept.append(key, failure, again=again)
        self.counts.add(failure)
        return trouble.reason == "bad request"

    async def _call(
        self,
        make: Callable[[Any], Awaitable[Any]],
        not_found: str = "404",
        instead: Callable[[Any], Awaitable[Any]] | None = None,
    ) -> Any:
        """A call to the endpoint, made again through its faults.

        Args:
            make: client -> the reply.
            not_found: What a 404 says here, as a reason that `Connection.stopped` knows.
            instead: Asked before a repetition whether the call has been carried out after all.
        """
        tries = 0
        while True:
            try:
                with self.connection.client() as client:
                    return await make(client)
            except CFTError:
                raise
            except OSError as error:  # of a file of ours; the network's come as the library's own
                raise CFTError(f"{self.ledger.path.parent}: {error.strerror or error}; make room there") from None
            except Exception as error:
                trouble = read_error(error)
            if trouble.reason == "404":
                raise self.connection.stopped(Trouble("fatal", not_found, trouble.detail))
            tries += trouble.reason != "429"  # a quota that is used up is not waited for without end
            if trouble.then != "retry" or tries >= self.teacher.max_attempts:
                raise self.connection.stopped(trouble)
            longest = min(_LONGEST_WAIT_S, self.teacher.backoff * 2 ** min(tries, 10))
            await asyncio.sleep(min(trouble.wait, LONGEST_WAIT_S) or longest * random.uniform(0.5, 1.0))
            if instead and (done := await self._call(instead, not_found)):
                return done


async def _state(client: Any, name: str) -> Any:
    return await client.batches.retrieve(name)


async def _download(client: Any, file: str, path: Path) -> None:
    async with client.files.with_streaming_response.content(file) as reply:
        await reply.stream_to_file(path)
