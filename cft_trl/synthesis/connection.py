"""The connection to one endpoint: the `openai` library's clients, the key, and the line that a run ends with.

    connection = Connection(Teacher("m", "http://localhost:8000/v1"))
    async with connection.client() as client:
        body = await client.post("/chat/completions", body=..., cast_to=str)

The library makes the requests, with its own retries turned off: it knows neither of the journal nor of the other
requests, so it can neither slow down for all of them nor tell a lost row from a lost server.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from cft_trl.errors import CFTError, one_line
from cft_trl.installed import require
from cft_trl.synthesis.replies import Trouble

if TYPE_CHECKING:
    from cft_trl.synthesis.client import Teacher

# The HTTP pool looks at each of its connections for every request: one pool of 128 costs more than the requests do.
_PER_POOL = 4


class Connection:
    """Clients for one teacher, as many as its requests in flight need; they open when the first is asked for.

    Raises:
        CFTError: OpenAI's own endpoint, and no key in the environment; or its library is not installed.
    """

    def __init__(self, teacher: Teacher) -> None:
        require("synth", "asking an endpoint", "openai")
        self.teacher = teacher
        self._key = os.environ.get(teacher.api_key_env, "")
        self._clients: list[Any] = []
        self._free: list[Any] = []  # each client as often as it has connections to spare
        self._tls: Any = None

    @contextmanager
    def client(self) -> Iterator[Any]:
        """An `openai.AsyncOpenAI` for one request."""
        if not self._free:
            self._free += [self._open()] * _PER_POOL
        client = self._free.pop()  # the last given back: its connection is still warm
        try:
            yield client
        finally:
            self._free.append(client)

    def _open(self) -> Any:
        import httpx2  # what the openai library speaks through since its version 3
        import openai

        teacher = self.teacher
        if not self._key and teacher.base_url is None:
            raise CFTError(f"no key for {teacher.address}: set the environment variable {teacher.api_key_env}")
        self._tls = self._tls or httpx2.create_ssl_context()
        http = openai.DefaultAsyncHttpxClient(
            timeout=openai.Timeout(teacher.timeout, connect=min(10.0, teacher.timeout)),
            limits=httpx2.Limits(max_connections=_PER_POOL, max_keepalive_connections=_PER_POOL),
            verify=self._tls,
        )
        client = openai.AsyncOpenAI(
            # Local servers take any key; without one they are sent this word, never another endpoint's key.
            api_key=self._key or "none",
            base_url=teacher.base_url,
            max_retries=0,
            http_client=http,
        )
        self._clients.append(client)
        return client

    async def close(self) -> None:
        for client in self._clients:
            with suppress(Exception):
                await client.close()

    def redact(self, text: str) -> str:
        """One line of the text, without the key where a server repeats it."""
        return one_line(text.replace(self._key, "***") if len(self._key) > 3 else text)

    def stopped(self, trouble: Trouble) -> CFTError:
        """The one line that a run ends with."""
        teacher, at = self.teacher, f"teacher {self.teacher.model} at {self.teacher.address}"
        hint = {
            "no connection": "the server cannot be reached; start it or correct the address",
            "time-out": f"no answer within {teacher.timeout:g} s, many times over; raise the time-out or look after it",
            "401": f"the key is not accepted; set {teacher.api_key_env}",
            "403": f"this key may not use the model; look at {teacher.api_key_env}",
            "404": "no such model (or no such address)",
            "quota": "the account's quota is used up",
            "bad request": "the endpoint does not accept these requests; look at the sampling parameters",
            "no batches": "the endpoint has no Batch API (or the address is wrong); ask it without",
            "lost batch": "a batch handed in earlier is not known there; give the key and address of that run, or "
            "remove the journal's .batches.jsonl to ask (and pay) anew",
            "batch": "the endpoint did not carry the batch out",
        }.get(trouble.reason, f"no answer after {teacher.max_attempts} tries each ({trouble.reason})")
        said = f" ({trouble.detail})" if trouble.detail else ""
        return CFTError(self.redact(f"{at}: {hint}{said}; what was answered is kept, run it again to go on"))
