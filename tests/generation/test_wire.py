"""Requests over aiohttp against those that the `openai` library makes: same bytes, same replies."""

from __future__ import annotations

import asyncio
import gzip
import shutil
import ssl
import subprocess

import pytest
from faulty_server import FAULTS, FORMS, FaultyServer, _completion, _json, _raw

from cft_trl.errors import CFTError
from cft_trl.generation.client import Teacher
from cft_trl.generation.connection import PLAIN, Connection
from cft_trl.generation.replies import Trouble, read_answer, read_error

pytest.importorskip("openai")

BODY = {"model": "m", "messages": [{"role": "user", "content": "Is 6 × 7 = 42?"}], "temperature": 1.0, "seed": None}


def both(monkeypatch, do):
    """What `do` gives over aiohttp, and by the library."""
    found = []
    for plain in ("", "1"):
        monkeypatch.setenv(PLAIN, plain)
        found.append(do())
    return found


def post(url, body=BODY, times=1, fresh=False, timeout=5.0):
    """The texts of some requests one after the other, or what they raise, as it is read."""

    async def ask():
        connection, said = Connection(Teacher("m", url, timeout=timeout)), []
        for _ in range(times):
            try:
                async with asyncio.timeout(timeout):
                    said.append((await connection.post(body, fresh))[0])
            except Exception as error:
                said.append(read_error(error))
        await connection.close()
        return said

    return asyncio.run(ask())


class Recording(FaultyServer):
    """Keeps every byte of the requests, and gives one reply to all of them."""

    def __init__(self, *replies: bytes, ends: bool = False) -> None:
        super().__init__()
        self.replies, self.requests, self.ends = replies, [], ends

    async def _connection(self, reader, writer):
        self._connections.add(task := asyncio.current_task())
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
                self.requests.append(head + await reader.readexactly(length))
                writer.write(self.replies[min(len(self.requests), len(self.replies)) - 1])
                await writer.drain()
                if self.ends:
                    break
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._connections.discard(task)
            writer.close()


def test_what_is_sent_is_what_the_library_sends(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "planted-key-7f3a")
    monkeypatch.setenv("OPENAI_ORG_ID", "an-organisation")
    with Recording(_json(200, _completion("Sound.", "stop", 3))) as server:
        both(monkeypatch, lambda: post(server.url, times=2))
    first, second, third, fourth = ({*request.split(b"\r\n")} for request in server.requests)
    assert first == second == third == fourth
    assert {b"Authorization: Bearer planted-key-7f3a", b"authorization: Bearer planted-key-7f3a"} & first
    assert server.requests[0].startswith(b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:")


@pytest.mark.parametrize("kind", [*FAULTS, *FORMS, "context", "filter", "length", "echo", None])
def test_every_reply_means_what_it_means_to_the_library(monkeypatch, kind):
    """Each of the server's faults, three times over."""
    monkeypatch.setattr(FaultyServer, "_draw", lambda self, digest: kind)
    monkeypatch.setattr("faulty_server._completion", lambda *given: _completion(*given) | {"id": "chatcmpl-1"})

    def run():
        with FaultyServer() as server:
            said = post(server.url, times=3, timeout=0.5 if kind == "silence" else 5.0)
        return [one if isinstance(one, Trouble) else read_answer(one) for one in said]

    ours, theirs = both(monkeypatch, run)
    if kind in ("reset", "double"):  # whose words differ
        ours, theirs = ([(one.then, one.reason, one.fault) for one in said] for said in (ours, theirs))
    assert ours == theirs


REPLIES = {
    "gzip": _raw(200, gzip.compress(b'{"choices": []}'), "Content-Encoding: gzip\r\n"),
    "latin": b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=latin-1\r\nContent-Length: 4\r\n\r\nM\xfcll",
    "not utf-8": b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nM\xfcll",
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n3;x=1\r\n   \r\n0\r\nA: b\r\n\r\n",
    "to the end": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{}",
    "early hints": b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "http/1.0": b"HTTP/1.0 200 OK\r\n\r\n{}",
    "bad gateway": _raw(502, b"<html>Bad gateway</html>"),
    "wait": _json(429, {"error": {"message": "slow down", "code": "rate_limit"}}, "Retry-After: 7\r\n"),
    "wait in ms": _json(503, {"detail": "busy"}, "retry-after-ms: 70\r\n"),
    "list": _json(400, [{"error": {"message": "API key not valid", "status": "INVALID_ARGUMENT"}}]),
    "nothing": b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("name", REPLIES)
def test_replies_of_other_forms_are_read_as_the_library_reads_them(monkeypatch, name):
    with Recording(REPLIES[name], ends=name in ("to the end", "http/1.0")) as server:
        ours, theirs = both(monkeypatch, lambda: post(server.url, times=2))
    assert ours == theirs


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
        b"HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA header\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"",
    ],
)
def test_a_reply_that_is_none_is_a_lost_connection(monkeypatch, reply):
    with Recording(reply, ends=True) as server:
        ours, theirs = both(monkeypatch, lambda: [(one.then, one.reason) for one in post(server.url)])
    assert ours == theirs == [("retry", "connection lost")]


def test_a_redirect_is_followed_by_the_library(monkeypatch):
    with Recording(_json(200, _completion("Sound.", "stop", 3))) as there:
        away = f"HTTP/1.1 307 X\r\nLocation: {there.url}/chat/completions\r\nContent-Length: 0\r\n\r\n"
        with Recording(away.encode()) as server:
            ours, theirs = both(monkeypatch, lambda: [read_answer(text) for text in post(server.url, times=2)])
    assert ours == theirs
    assert ours[0].text == "Sound."
    assert len(there.requests) == 4


def test_certificates_are_those_that_the_library_trusts(monkeypatch, tmp_path):
    if not shutil.which("openssl"):
        pytest.skip("no openssl to make a certificate with")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate]
    subprocess.run([*made, "-days", "2", "-subj", "/CN=localhost", "-addext", names], check=True, capture_output=True)
    context, start = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), asyncio.start_server
    context.load_cert_chain(certificate, key)
    monkeypatch.setattr(asyncio, "start_server", lambda *given, **more: start(*given, ssl=context, **more))
    with Recording(_json(200, _completion("Sound.", "stop", 3))) as server:
        address = server.url.replace("http://", "https://")
        [ours], [theirs] = both(monkeypatch, lambda: post(address))
        assert (ours.reason, theirs.reason) == ("no connection", "no connection")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        ours, theirs = both(monkeypatch, lambda: post(address, times=2))
    assert ours == theirs
    assert read_answer(ours[1]).text == "Sound."


def test_a_proxy_and_the_switch_leave_every_request_to_the_library(monkeypatch):
    assert not Connection(Teacher("m", "http://127.0.0.1:1/v1"))._by_library
    monkeypatch.setenv(PLAIN, "1")
    assert Connection(Teacher("m", "http://127.0.0.1:1/v1"))._by_library
    monkeypatch.setenv(PLAIN, "0")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.invalid:3128")
    assert Connection(Teacher("m", "http://127.0.0.1:1/v1"))._by_library


def test_a_connection_is_used_again_unless_a_fresh_one_is_asked_for_or_the_server_ends_it(monkeypatch):
    monkeypatch.setenv(PLAIN, "")
    reply = _json(200, _completion("Sound.", "stop", 3))
    for ends, fresh, opened in ((False, False, 1), (False, True, 4), (True, False, 4)):
        with Recording(
            reply.replace(b"Content-Type", b"Connection: close\r\nContent-Type") if ends else reply
        ) as server:
            assert not any(isinstance(one, Trouble) for one in post(server.url, times=4, fresh=fresh))
        assert server.connections == opened


# ---- bytes that belong to no request, or to another one --------------------------------------------------------------

OURS, OTHERS = (_json(200, _completion(text, "stop", 3)) for text in ("Sound.", "This is another's."))


class Telling(Recording):
    """Sends its reply in parts, with a moment between them."""

    def __init__(self, *parts: bytes) -> None:
        super().__init__(OURS)
        self.parts = parts

    async def _connection(self, reader, writer):
        self._connections.add(task := asyncio.current_task())
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]))
                for part in self.parts if self.connections == 1 else (OURS,):
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(0.05)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._connections.discard(task)
            writer.close()


def asked_with_pauses(url, times, drops=False):
    """The texts of requests with a moment between them, or the reason why there is none."""

    async def ask():
        connection, said = Connection(Teacher("m", url, timeout=5.0)), []
        for _ in range(times):
            try:
                async with asyncio.timeout(3.0):
                    text, over = await connection.post(BODY)
                said.append(read_answer(text).text)
                if drops:
                    connection.drop(over)
            except Exception as error:
                said.append(read_error(error).reason)
            await asyncio.sleep(0.2)
        await connection.close()
        return said

    return asyncio.run(ask())


@pytest.mark.parametrize(
    "parts",
    [
        (OURS, OTHERS),  # while the connection is idle
        (OURS, OTHERS[:-9]),
        (OURS[:-9], OURS[-9:] + OTHERS),  # with the reply's end
        (OURS[:-9], OURS[-9:] + OTHERS[:-9]),
        (OURS + OTHERS,),
        (OURS + OTHERS[:-9],),
        (OURS, b"no reply at all"),
        (OURS, b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"),
    ],
)
def test_no_request_is_given_what_came_before_it(monkeypatch, parts):
    monkeypatch.setenv(PLAIN, "")
    with Telling(*parts) as server:
        first, second, third = asked_with_pauses(server.url, 3)
    assert {first, second} <= {"Sound.", "surplus bytes"}
    assert third == "Sound."
    assert server.connections == 2


def test_a_dropped_connection_is_not_used_again(monkeypatch):
    monkeypatch.setenv(PLAIN, "")
    with Recording(OURS) as server:
        assert asked_with_pauses(server.url, 3, drops=True) == ["Sound."] * 3
        assert server.connections == 3
        assert asked_with_pauses(server.url, 3) == ["Sound."] * 3
        assert server.connections == 4


def test_cookies_are_not_sent_back(monkeypatch):
    monkeypatch.setenv(PLAIN, "")
    with Recording(OURS.replace(b"Content-Type", b"Set-Cookie: a=b\r\nContent-Type")) as server:
        post(server.url, times=2)
    assert len(server.requests) == 2
    assert not any(b"cookie" in request.lower() for request in server.requests)


def test_without_aiohttp_it_is_said_what_is_missing(monkeypatch):
    monkeypatch.setenv(PLAIN, "")
    monkeypatch.setattr("cft_trl.environment.is_installed", lambda module: module != "aiohttp")
    with pytest.raises(CFTError, match="asking an endpoint needs aiohttp, which is not installed; pip install"):
        post("http://127.0.0.1:9/v1")
    monkeypatch.setenv(PLAIN, "1")
    assert post("http://127.0.0.1:9/v1")[0].reason == "no connection"
