r"""HTTP/1.1 as far as one question after another to one address needs it, without an HTTP package between.

    wire = Wire(Head("http", "127.0.0.1", 8000, b"POST /v1/chat/completions HTTP/1.1\r\nHost: ..."))
    reply, line = await wire.post(b'{"model": "m", "messages": [...]}', most_bytes=1 << 24)
    reply.status, reply.header(b"content-type"), reply.content        # 200, b'application/json', b'{"choices": ...'

What is sent is what the `openai` library sends (connection.py): the head is written by it once, and only the body and
its length are new. A reply that is no plain one is handed back to the library to be read. benchmarks/asking.py measures
what this saves: most of what a request costs this side of the server.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from dataclasses import dataclass
from typing import Any, cast

from cft_trl.errors import one_line
from cft_trl.generation.replies import BrokenReply

_KEPT_S = 5.0  # an idle connection is used again within this time, as by the HTTP package
_MOST_HEAD = 100 * 1024  # bytes of a reply's head, as there
_STATUS = re.compile(rb"HTTP/(\d\.\d) ([1-9]\d\d)(?: [^\r\n]*)?")
_NAME = re.compile(rb"[-!#$%&'*+.^_`|~0-9a-zA-Z]+")
_CHUNK = re.compile(rb"([0-9a-fA-F]{1,16})[ \t]*(?:;[^\r\n]*)?")
_LENGTH = re.compile(rb"\d{1,20}")
_BLANK_LINE = re.compile(rb"\r?\n\r?\n")


@dataclass(frozen=True)
class Head:
    """Where requests go and what they begin with.

    Attributes:
        scheme, host, port: The address; "http" or "https".
        lines: The request's first line and headers, each with its line's end, without Content-Length.
        tls: For "https".
        connect_s: Seconds that a connection may take to open.
    """

    scheme: str
    host: str
    port: int
    lines: bytes
    tls: ssl.SSLContext | None = None
    connect_s: float = 10.0


@dataclass(slots=True)
class Reply:
    """A whole reply: its status, its headers as they came, and its body as it came (or as its chunks hold it)."""

    status: int
    headers: list[tuple[bytes, bytes]]
    content: bytes

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
    """The connections to one address; as many as there are requests in flight."""

    def __init__(self, head: Head) -> None:
        self.head = head
        self._idle: list[Line] = []
        self._lines: set[Line] = set()

    async def post(self, body: bytes, most_bytes: int, fresh: bool = False) -> tuple[Reply, Line]:
        """Sends a body and waits for the reply.

        Args:
            body: As JSON.
            most_bytes: Of a reply's body; more is a broken reply.
            fresh: Whether it goes over a connection that nobody has used.

        Returns:
            The reply, and the connection it came over: `close` it where it may be of another request.

        Raises:
            BrokenReply: "no connection", "connection lost", "too large", "surplus bytes".
        """
        line = (None if fresh else self._warm()) or await self._open()
        try:
            reply = await line.ask(b"%bContent-Length: %d\r\n\r\n%b" % (self.head.lines, len(body), body), most_bytes)
        except BaseException:
            line.close()
            raise
        if not line.closed:
            self._idle.append(line)  # the last given back is the next: it is still warm
        return reply, line

    def close(self) -> None:
        """Closes all of them."""
        for line in list(self._lines):
            line.close()
        self._idle.clear()

    def _warm(self) -> Line | None:
        now = asyncio.get_running_loop().time()
        while self._idle:
            line = self._idle.pop()
            if not line.closed and now - line.used < _KEPT_S:
                return line
            line.close()
        return None

    async def _open(self) -> Line:
        head, loop = self.head, asyncio.get_running_loop()
        # An address that does not answer is not waited for where another does; only asyncio's own loop knows of it.
        more: dict[str, Any] = {"happy_eyeballs_delay": 0.25} if isinstance(loop, asyncio.BaseEventLoop) else {}
        try:
            async with asyncio.timeout(head.connect_s):
                _, line = await loop.create_connection(Line, head.host, head.port, ssl=head.tls, **more)
        except TimeoutError:
            raise BrokenReply("no connection", f"it did not open within {head.connect_s:g} s") from None
        except OSError as error:
            raise BrokenReply("no connection", one_line(error)) from None
        self._lines.add(line)
        line.on_closed = self._lines.discard
        return line


class Line(asyncio.Protocol):
    """One connection: a request, its reply, the next request.

    Attributes:
        used: When it was used last, by the loop's clock.
        closed: Whether it can be used no more.
    """

    def __init__(self) -> None:
        self.closed, self.used = False, 0.0
        self.on_closed: Any = None
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[Reply] | None = None
        self._most = 0

    async def ask(self, request: bytes, most_bytes: int) -> Reply:
        loop = asyncio.get_running_loop()
        self._reading, self._most, self._data = _Reading(), most_bytes, bytearray()
        self._waiting = waiting = loop.create_future()
        if self._transport is None or self.closed:
            raise BrokenReply("connection lost", "the server closed the connection")
        self._transport.write(request)
        try:
            return await waiting
        finally:
            self._waiting, self.used = None, loop.time()

    def close(self) -> None:
        self.closed = True
        if self._transport is not None:
            self._transport.abort()

    # ---- what the loop calls ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        waiting = self._waiting
        if waiting is None or waiting.done():
            self.close()  # nobody asked for it: what comes next would not be read as its own either
            return
        self._data += data
        try:
            reply = self._reading.of(self._data, self._most)
        except BrokenReply as broken:
            self.closed = True
            waiting.set_exception(broken)
            return
        if reply is not None:
            self._end(waiting, reply)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        if self.on_closed:
            self.on_closed(self)
        if (waiting := self._waiting) is None or waiting.done():
            return
        reply = None if error else self._reading.at_end(self._data)
        if reply is not None:
            waiting.set_result(reply)
        else:
            told = one_line(error) if error else self._reading.what_is_missing(self._data)
            waiting.set_exception(BrokenReply("connection lost", told))

    def _end(self, waiting: asyncio.Future[Reply], reply: Reply) -> None:
        if self._data:
            self.closed = True
            waiting.set_exception(BrokenReply("surplus bytes", f"{len(self._data)} bytes after the reply's end"))
            return
        if not self._reading.keeps:
            self.close()
        waiting.set_result(reply)


class _Reading:
    """A reply, while it comes; takes what it has read from the beginning of the data.

    Example:
        >>> data = bytearray(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\n{}HTTP/1.1")
        >>> _Reading().of(data, 100).content, data
        (b'{}', bytearray(b'HTTP/1.1'))
    """

    def __init__(self) -> None:
        self.keeps = True  # whether the connection can be used again
        self._status = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._length: int | None = None  # of the body; None in chunks, or up to the connection's end
        self._chunked = False
        self._parts: list[bytes] = []  # of a body in chunks
        self._size = 0  # of the parts
        self._left = 0  # of the chunk that is being read, with its line's end
        self._trailer = False

    def of(self, data: bytearray, most: int) -> Reply | None:
        """The reply, once it is whole.

        Raises:
            BrokenReply: It is none, or its body is longer than `most`.
        """
        while not self._status:
            if not (blank := _BLANK_LINE.search(data)):
                if len(data) > _MOST_HEAD:
                    raise BrokenReply("connection lost", "the reply's head does not end")
                return None
            begin, end = blank.span()
            del blank  # it holds the data, which could not be cut
            self._read_head(bytes(data[:begin]))
            del data[:end]
        if self._chunked:
            return self._read_chunks(data, most)
        if len(data) > most and (self._length is None or self._length > most):
            raise BrokenReply("too large", f"a reply of more than {most >> 20} MiB")
        if self._length is None or len(data) < self._length:
            return None
        content = bytes(data[: self._length])
        del data[: self._length]
        return Reply(self._status, self._headers, content)

    def at_end(self, data: bytearray) -> Reply | None:
        """The reply, where it is whole now that the connection has ended in order."""
        if not self._status or self._chunked or self._length is not None:
            return None
        return Reply(self._status, self._headers, bytes(data))

    def what_is_missing(self, data: bytearray) -> str:
        if not self._status:
            return "the server closed the connection without a reply"
        expected = "" if self._length is None else f" of {self._length}"
        return f"the server closed the connection after {len(data) + self._size}{expected} bytes of a reply"

    def _read_head(self, head: bytes) -> None:
        first, *lines = re.split(rb"\r?\n", head)
        if not (status := _STATUS.fullmatch(first)):
            raise BrokenReply("connection lost", f"no reply of HTTP/1.1: {one_line(first[:60].decode('latin-1'))}")
        headers: list[tuple[bytes, bytes]] = []
        for line in lines:
            if headers and line[:1] in (b" ", b"\t"):  # a value in several lines, as it was done once
                name, value = headers.pop()
                line = name + b":" + value + b" " + line.strip(b" \t")
            name, colon, value = line.partition(b":")
            if not colon or not _NAME.fullmatch(name) or b"\r" in value or b"\0" in value:
                raise BrokenReply("connection lost", "a header of the reply cannot be read")
            headers.append((name, value.strip(b" \t")))
        code = int(status[2])
        if code < 200:  # "100 Continue", "103 Early Hints": the reply is still to come
            if code == 101:
                raise BrokenReply("connection lost", "the server changes the protocol")
            return
        self._status, self._headers = code, headers
        self._read_length(status[1] < b"1.1")

    def _read_length(self, old: bool) -> None:
        """How the body ends, and whether the connection goes on."""
        lengths, options, codings = set(), set(), []
        for name, value in self._headers:
            match name.lower():
                case b"content-length":
                    lengths |= {part.strip() for part in value.split(b",")}
                case b"connection":
                    options |= {part.strip().lower() for part in value.split(b",")}
                case b"transfer-encoding":
                    codings.append(value.lower())
        self.keeps = not old and b"close" not in options
        if codings and codings != [b"chunked"]:
            raise BrokenReply("connection lost", "a transfer encoding that was not asked for")
        if len(lengths) > 1 or not all(_LENGTH.fullmatch(length) for length in lengths):
            raise BrokenReply("connection lost", "the reply's length cannot be read")
        if self._status in (204, 304):
            self._length = 0
        elif codings:
            self._chunked = True
        elif lengths:
            self._length = int(lengths.pop())
        else:
            self.keeps = False

    def _read_chunks(self, data: bytearray, most: int) -> Reply | None:
        while True:
            if self._left:
                part = bytes(data[: self._left])
                del data[: len(part)]
                self._left -= len(part)
                self._take(part, self._left)
                if self._size > most:
                    raise BrokenReply("too large", f"a reply of more than {most >> 20} MiB")
                if self._left:
                    return None
            end = data.find(b"\r\n")
            if end < 0:
                if len(data) > _MOST_HEAD:
                    raise BrokenReply("connection lost", "a chunk's length does not end")
                return None
            line = bytes(data[:end])
            del data[: end + 2]
            if self._trailer:
                if not line:
                    return Reply(self._status, self._headers, b"".join(self._parts))
                if not _NAME.fullmatch(line.partition(b":")[0]) or b"\n" in line or b"\r" in line:
                    raise BrokenReply("connection lost", "what follows the reply's chunks cannot be read")
            elif not (size := _CHUNK.fullmatch(line)):
                raise BrokenReply("connection lost", "a chunk's length cannot be read")
            elif length := int(size[1], 16):
                self._left = length + 2
            else:
                self._trailer = True

    def _take(self, part: bytes, left: int) -> None:
        """Adds to the body; a chunk's last two bytes are its line's end."""
        ends = part[max(0, len(part) + left - 2) :] if left < 2 else b""
        if ends != b"\r\n"[2 - len(ends) - left : 2 - left]:
            raise BrokenReply("connection lost", "a chunk is longer than it says")
        body = part[: len(part) - len(ends)]
        self._parts.append(body)
        self._size += len(body)
