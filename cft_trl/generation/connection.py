"""The connection to one endpoint: the `openai` library's clients, the key, and the line that a run ends with.

    connection = Connection(Teacher("m", "http://localhost:8000/v1"))
    text, over = await connection.post({"model": "m", "messages": [...]})

The library says how a request is put and what a reply that is no answer means; its own retries are turned off: it knows
neither of the journal nor of the other requests, so it can neither slow down for all of them nor tell a lost row from a
lost server. To make each request anew takes it and its HTTP package more of a core than all that we do for a row. So it
writes one for each endpoint, and aiohttp sends the next ones with that one's head (wire.py). It makes each of them
itself where there is a proxy or a redirect, and under `CFT_PLAIN_REQUESTS=1`.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING, Any

from cft_trl.environment import require
from cft_trl.errors import CFTError, one_line
from cft_trl.generation.endpoint_settings import OPENAI, EndpointSettings, true_url
from cft_trl.generation.replies import BrokenReply, Trouble

if TYPE_CHECKING:
    from cft_trl.generation.wire import Reply, Wire

# The HTTP pool looks at each of its connections for every request: one pool of 128 costs more than the requests do.
_PER_POOL = 4
MOST_BYTES = 16 * 2**20  # of one reply; the longest answers have some hundred thousand
LONGEST_WAIT_S = 300.0  # of what a server asks to wait; then one request sees whether it is so
TOLD_WAIT_S = 60.0  # a wait as long as this is said
PLAIN = "CFT_PLAIN_REQUESTS"
_PATH = "/chat/completions"
_SERVED: dict[tuple[str, str], list[dict[str, Any]]] = {}  # what was said; a server that did not answer is asked again


class Connection:
    """Clients for one teacher, as many as its requests in flight need; they open when the first is asked for.

    Raises:
        CFTError: OpenAI's own endpoint, and no key in the environment; or its library is not installed.
    """

    def __init__(self, teacher: EndpointSettings) -> None:
        require("synth", "asking an endpoint", "openai")
        self.teacher = teacher
        self._key = os.environ.get(teacher.api_key_env, "")
        self._clients: list[Any] = []
        self._free: list[Any] = []  # each client as often as it has connections to spare
        self._dropped: dict[int, int] = {}  # a client that is to be closed -> how many requests still use it
        self._closing: set[asyncio.Task[Any]] = set()
        self._tls: Any = None
        self._said: set[str] = set()
        self._wire: Wire | None = None
        self._by_library = is_plain() or has_proxy()
        self._head_known = asyncio.Lock()

    async def post(self, body: Mapping[str, Any], fresh: bool = False) -> tuple[str, Any]:
        """Asks for a completion.

        Args:
            body: The request's.
            fresh: Whether it goes over a connection that nobody has used.

        Returns:
            The reply's text, and what it came over, for `drop`.

        Raises:
            Exception: What `replies.read_error` reads.
        """
        if not self._by_library and self._wire is None:
            async with self._head_known:
                self._wire = self._wire or await self._open_wire()
        if self._by_library or self._wire is None:
            return await self._post_by_library(body, fresh)
        reply = await self._wire.post(as_json(body), MOST_BYTES, fresh)
        if reply.is_plain:
            return reply.content.decode("utf-8", "replace"), reply.over
        if 300 <= reply.status < 400:
            self._by_library = True  # it follows to where the endpoint is now
            return await self._post_by_library(body, fresh)
        return await self._read_by_library(body, reply), reply.over

    async def _post_by_library(self, body: Mapping[str, Any], fresh: bool) -> tuple[str, Any]:
        with self.client(fresh) as client:
            try:
                # As text: a reply may be no JSON at all, and the library's typed objects cost as much as the request.
                return await client.post(_PATH, body=body, cast_to=str), client
            except Exception as error:
                broken = error if isinstance(error, BrokenReply) else error.__cause__
                if isinstance(broken, BrokenReply) and broken.reason == "surplus bytes":
                    self.drop(client)
                raise

    async def _read_by_library(self, body: Mapping[str, Any], reply: Reply) -> str:
        """A reply that is no plain answer, read (and raised) by the library as if it had come over its own HTTP."""
        text, _ = await self._given(body, reply.status, reply.headers, reply.content)
        return text

    async def _given(self, body: Any, status: int, headers: Any, content: bytes) -> tuple[str, Any]:
        """What the library makes of a reply, and its request."""
        given = given_transport()(status, headers, content)
        async with self._open(given) as client:
            return await client.post(_PATH, body=body, cast_to=str), given.request

    async def _open_wire(self) -> Wire | None:
        """Connections for requests like the one that the library writes; None where they cannot be so simple."""
        _, request = await self._given({}, 200, [], b"")
        url = request.url
        if url.scheme not in ("http", "https") or request.method != "POST":
            self._by_library = True
            return None
        require("synth", "asking an endpoint", "aiohttp")
        from cft_trl.generation.wire import Wire  # takes a moment, so not at the top

        if url.scheme == "https":
            import httpx2

            self._tls = self._tls or httpx2.create_ssl_context()
            self._tls.set_alpn_protocols(["http/1.1"])
        told = [(name.decode("ascii"), value.decode("ascii")) for name, value in request.headers.raw]
        headers = [header for header in told if header[0].lower() != "content-length"]
        address = f"{url.scheme}://{url.netloc.decode('ascii')}{url.raw_path.decode('ascii')}"  # without a password
        return Wire(address, headers, self._tls, min(10.0, self.teacher.timeout))

    @contextmanager
    def client(self, fresh: bool = False) -> Iterator[Any]:
        """An `openai.AsyncOpenAI` for one request; with `fresh`, over a connection that nobody has used."""
        if fresh or not self._free:
            self._free += [self._open()] * _PER_POOL
        client = self._free.pop()  # the last given back: its connection is still warm
        try:
            yield client
        finally:
            if id(client) in self._dropped:
                self._dropped[id(client)] -= 1
                self._close_unused(client)
            else:
                self._free.append(client)

    def drop(self, client: Any) -> None:
        """No further request goes over these connections: what comes back on them may be of another one.

        Args:
            client: What a reply came over, as of `post`.
        """
        import openai

        if not isinstance(client, openai.AsyncOpenAI):
            client.close()  # one of aiohttp's; a request that is on it meanwhile is asked again
        elif client in self._clients and id(client) not in self._dropped:
            kept = [free for free in self._free if free is not client]
            self._dropped[id(client)] = _PER_POOL - (len(self._free) - len(kept))
            self._free = kept
            self._close_unused(client)

    def _close_unused(self, client: Any) -> None:
        if not self._dropped[id(client)] and client in self._clients:
            self._clients.remove(client)
            del self._dropped[id(client)]
            self._closing.add(task := asyncio.ensure_future(client.close()))
            task.add_done_callback(self._closing.discard)

    def tell(self, message: str) -> None:
        """Says something about the endpoint on standard error, once."""
        if message not in self._said:
            self._said.add(message)
            at = f"{self.teacher.model} at {self.teacher.address}"
            print(f"cft: {self.redact(f'{at}: {message}')}", file=sys.stderr, flush=True)

    def tell_of_wait(self, trouble: Trouble) -> float:
        """Says that nothing happens for a while, and why; until when (as of `time.time`), 0 for a short wait."""
        if trouble.reason == "429 quota":
            self.tell(f"it says that the quota is used up ({trouble.detail}); asked again for a while")
        if trouble.wait < TOLD_WAIT_S:
            return 0.0
        until = time.time() + trouble.wait
        told = time.strftime("%H:%M" if trouble.wait < 43_200 else "%Y-%m-%d %H:%M", time.localtime(until))
        again = f"; it is asked every {LONGEST_WAIT_S / 60:g} minutes" if trouble.wait > LONGEST_WAIT_S else ""
        self.tell(f"the server asks to wait until {told} ({trouble.detail or trouble.reason}){again}")
        return until

    def served(self) -> list[dict[str, Any]]:
        """What the endpoint says that it serves."""
        return served_models(self.teacher.base_url, self._key)

    @property
    def key(self) -> str:
        """The key; a word that stands for none where none is needed.

        Raises:
            CFTError: OpenAI's own endpoint, and no key in the environment.
        """
        if not self._key and true_url(self.teacher.base_url) == OPENAI:
            at, variable = self.teacher.address, self.teacher.api_key_env
            raise CFTError(f"no key for {at}: set the environment variable {variable}", reason="401")
        return self._key or "none"

    def _open(self, given: Any = None) -> Any:
        """A client of the library; over a transport that is `given`, or over connections of its own."""
        import httpx2  # what the openai library speaks through since its version 3
        import openai

        teacher, key = self.teacher, self.key
        options: dict[str, Any] = {"transport": given}
        if not given:
            self._tls = self._tls or httpx2.create_ssl_context()
            options = {
                "limits": httpx2.Limits(max_connections=_PER_POOL, max_keepalive_connections=_PER_POOL),
                "verify": self._tls,
                "event_hooks": {"response": [_guard]},
            }
        http = openai.DefaultAsyncHttpxClient(
            timeout=openai.Timeout(teacher.timeout, connect=min(10.0, teacher.timeout)),
            headers={"Accept-Encoding": "identity"},  # so that the bytes that are counted are those of the reply
            **options,
        )
        client = openai.AsyncOpenAI(
            # Local servers take any key; without one they are sent this word, never another endpoint's key.
            api_key=key,
            base_url=true_url(teacher.base_url),
            max_retries=0,
            http_client=http,
        )
        if not given:
            self._clients.append(client)
        return client

    async def close(self) -> None:
        if self._wire:
            with suppress(Exception):
                await self._wire.close()
        await asyncio.gather(*self._closing, return_exceptions=True)
        for client in self._clients:
            with suppress(Exception):
                await client.close()

    def redact(self, text: str) -> str:
        """One line of the text, without the key where a server repeats it."""
        return one_line(text.replace(self._key, "***") if len(self._key) > 3 else text)

    def stopped(self, trouble: Trouble) -> CFTError:
        """The one line that a run ends with; its `reason` is the trouble's."""
        teacher = self.teacher
        hint = {
            "no connection": "the server cannot be reached; start it or correct the address",
            "time-out": f"no answer within {teacher.timeout:g} s, many times over; raise the time-out or look after it",
            "401": f"the key is not accepted; set {teacher.api_key_env}",
            "403": f"this key may not use the model; look at {teacher.api_key_env}",
            "404": "no such model (or no such address)",
            "quota": "the account's quota is used up",
            "429 quota": "the account's quota is used up",
            "bad request": "the endpoint does not accept these requests; look at the sampling parameters",
            "content filter": "the endpoint takes none of these requests",
            "web page": "this is no address of an API",
            "no batches": "the endpoint has no Batch API (or the address is wrong); ask it without",
            "lost batch": "a batch handed in earlier is not known there; give the key and address of that run, or "
            "remove the journal's .batches.jsonl to ask (and pay) anew",
            "batch": "the endpoint did not carry the batch out",
        }.get(trouble.reason, f"no answer after {teacher.max_attempts} tries each ({trouble.reason})")
        if trouble.reason in ("404", "web page", "malformed JSON") and not re.search(r"/v\d", teacher.address):
            hint += f"; the address has no /v1: most servers want {teacher.address.rstrip('/')}/v1"
        said = f" ({trouble.detail})" if trouble.detail else ""
        told = self.redact(f"{teacher.title} at {teacher.address}: {hint}{said}{teacher.kept}")
        return CFTError(told, reason="quota" if trouble.reason == "429 quota" else trouble.reason)


async def _guard(response: Any) -> None:
    """Puts a limit to the bytes of a reply, and looks for what comes after it on the same connection."""
    response.stream = _guarded_stream()(response.stream)


@cache
def _guarded_stream() -> Any:
    import httpx2  # takes a moment, so not at the top

    class Guarded(httpx2.AsyncByteStream):
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        @property
        def elapsed(self) -> Any:
            return self.inner.elapsed

        async def __aiter__(self) -> AsyncIterator[bytes]:
            size = 0
            async for part in self.inner:
                size += len(part)
                if size > MOST_BYTES:
                    raise BrokenReply("too large", f"a reply of more than {MOST_BYTES >> 20} MiB")
                yield part
            if surplus := _surplus(self.inner):
                raise BrokenReply("surplus bytes", f"{surplus} bytes after the reply's end")

        async def aclose(self) -> None:
            await self.inner.aclose()

    return Guarded


def _surplus(stream: Any) -> int:
    """How many bytes came after a reply's end: the next request would read them as its own reply.

    The HTTP packages do not tell, so this looks into them; 0 where they are built otherwise than expected.
    """
    for name in ("_stream", "_httpcore_stream", "_stream", "_connection", "_h11_state", "trailing_data"):
        stream = getattr(stream, name, stream)
    return len(stream[0]) if isinstance(stream, tuple) and isinstance(stream[0], bytes) else 0


def is_plain() -> bool:
    """Whether the user wants every request to be made by the library."""
    return os.environ.get(PLAIN, "") not in ("", "0")


def has_proxy() -> bool:
    """Whether requests may have to go through a proxy, as the environment says."""
    named = (f"{scheme}_proxy" for scheme in ("http", "https", "all"))
    return any(os.environ.get(name) or os.environ.get(name.upper()) for name in named)


def as_json(body: Mapping[str, Any]) -> bytes:
    """A request's body, byte for byte as the library writes it.

    Example:
        >>> as_json({"model": "m", "top_p": 1.0})
        b'{"model":"m","top_p":1.0}'
    """
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


@cache
def given_transport() -> Any:
    import httpx2  # takes a moment, so not at the top

    class Given(httpx2.AsyncBaseTransport):
        """Gives one reply to every request, and keeps the last of these."""

        def __init__(self, status: int, headers: Any, content: bytes) -> None:
            self.status, self.headers, self.content = status, headers, content
            self.request: Any = None

        async def handle_async_request(self, request: Any) -> Any:
            self.request = request
            body = httpx2.ByteStream(self.content)
            return httpx2.Response(self.status, headers=self.headers, stream=body, request=request)

    return Given


def served_models(base_url: str | None, api_key: str | None = None) -> list[dict[str, Any]]:
    """What `GET /v1/models` says: one dict per model, with vLLM's `id`, `root`, `created` and `max_model_len` among it.

    Asked once per address, key and process; an empty list where the server does not say, or cannot be reached in time.

    Args:
        base_url: The endpoint's address; None for OPENAI_BASE_URL or OpenAI's own.
        api_key: Its key.
    """
    import openai

    url, key = true_url(base_url).rstrip("/"), api_key or "none"
    if (url, key) not in _SERVED:
        with suppress(Exception), openai.OpenAI(api_key=key, base_url=url, timeout=10.0, max_retries=0) as client:
            listed = json.loads(client.get("/models", cast_to=str))["data"]
            _SERVED[url, key] = [model for model in listed if isinstance(model, dict)]
    return _SERVED.get((url, key), [])
