"""Requests to one address over aiohttp: what the library wrote once, with another body each time.

    wire = Wire("http://127.0.0.1:8000/v1/chat/completions", [("Host", "127.0.0.1:8000"), ...], None, connect_s=10.0)
    reply = await wire.post(b'{"model": "m", "messages": [...]}', most_bytes=1 << 24)
    reply.status, reply.content        # 200, b'{"choices": ...'

What is sent is what the `openai` library sends, and it reads the replies that are no plain ones (connection.py); but
aiohttp takes less of a core for a request (benchmarks/asking.py).

No row may get another one's answer, and aiohttp leaves that partly to its users: bytes that come on an idle connection
are kept there as the reply to the next request (its issue 13656). It is relied on that `len(protocol)` counts such
replies and that they make `protocol.should_close` true. Both are asked: the one when a reply has been read, the other
before a connection is used. What comes after a request has been sent looks like its reply; there the completions' ids
help (completions.py).
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection as Pooled
from yarl import URL

from cft_trl.errors import one_line
from cft_trl.generation.replies import BrokenReply

_KEPT_S = 5.0  # an idle connection is used again within this time, as by the library
_MOST_LINE = 100 * 1024  # bytes of a line of a reply's head, about what the library takes in all of it


@dataclass(slots=True)
class Reply:
    """A whole reply: its headers as they came, and the connection that it came over, for `over.close()`."""

    status: int
    headers: Iterable[tuple[bytes, bytes]]
    content: bytes
    over: ResponseHandler

    def header(self, name: bytes) -> bytes:
        """A header's value by its name in lower case; b"" without one."""
        return next((value for known, value in self.headers if known.lower() == name), b"")

    @property
    def is_plain(self) -> bool:
        """Whether it is a 200 whose body is its text in UTF-8."""
        if self.status != 200 or self.header(b"content-encoding").lower() not in (b"", b"identity"):
            return False
        kind = self.header(b"content-type").lower()
        return b"charset" not in kind or b"charset=utf-8" in kind.replace(b'"', b"").replace(b" ", b"")


class Wire:
    """The connections to one address; as many as there are requests in flight. Made while a loop runs.

    Args:
        url: Where requests go, as it stands in them.
        headers: Of every request, without Content-Length.
        tls: For "https".
        connect_s: Seconds that a connection may take to open. How long a reply may take is the caller's.
    """

    def __init__(self, url: str, headers: list[tuple[str, str]], tls: ssl.SSLContext | None, connect_s: float) -> None:
        self._url, self._connect_s = URL(url, encoded=True), connect_s
        # Without a cache of its own a host is looked up for each connection, by the system, as by the library.
        more: dict[str, Any] = {"limit": 0, "resolver": aiohttp.ThreadedResolver(), "use_dns_cache": False}
        more["ssl"] = tls or True
        self._kept, self._fresh = (
            aiohttp.ClientSession(
                connector=connector,
                headers=headers,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, connect=connect_s),
                auto_decompress=False,
                max_line_size=_MOST_LINE,
                max_field_size=_MOST_LINE,
                response_class=_Response,
            )
            for connector in (_Connector(keepalive_timeout=_KEPT_S, **more), _Connector(force_close=True, **more))
        )

    async def post(self, body: bytes, most_bytes: int, fresh: bool = False) -> Reply:
        """Sends a body (JSON) and waits for the reply.

        Args:
            body, most_bytes: What is sent, and how long a reply's body may be.
            fresh: Whether it goes over a connection that nobody has used.

        Raises:
            BrokenReply: "no connection", "connection lost", "too large", "surplus bytes".
        """
        session, parts, size = self._fresh if fresh else self._kept, [], 0
        try:
            # A reply that is not read to its end takes its connection with it.
            async with session.post(self._url, data=body, allow_redirects=False) as response:
                assert isinstance(response, _Response)
                if response.status < 200:
                    raise BrokenReply("connection lost", "the server changes the protocol")
                async for part in response.content.iter_any():
                    size += len(part)
                    if size > most_bytes:
                        raise BrokenReply("too large", f"a reply of more than {most_bytes >> 20} MiB")
                    parts.append(part)
                if len(response.over):
                    raise BrokenReply("surplus bytes", "another reply came after the reply's end")
                return Reply(response.status, response.raw_headers, b"".join(parts), response.over)
        except aiohttp.ConnectionTimeoutError:
            raise BrokenReply("no connection", f"it did not open within {self._connect_s:g} s") from None
        except (aiohttp.ClientConnectorError, aiohttp.InvalidURL) as error:
            raise BrokenReply("no connection", one_line(error.__cause__ or error)) from None
        except aiohttp.ClientError as error:
            raise BrokenReply("connection lost", one_line(error)) from None

    async def close(self) -> None:
        """Closes all of them."""
        await self._kept.close()
        await self._fresh.close()


class _Connector(aiohttp.TCPConnector):
    """A pool that gives out no connection on which something has come that nobody asked for."""

    async def connect(self, req: Any, traces: Any, timeout: Any) -> Pooled:
        connection = await super().connect(req, traces, timeout)
        if connection.protocol is None or connection.protocol.should_close:
            connection.close()
            raise BrokenReply("surplus bytes", "bytes came before anything was asked")
        return connection


class _Response(aiohttp.ClientResponse):
    """Remembers its connection, which aiohttp gives back to the pool as soon as the body has come."""

    over: ResponseHandler

    async def start(self, connection: Pooled) -> aiohttp.ClientResponse:
        assert connection.protocol is not None
        self.over = connection.protocol
        return await super().start(connection)
