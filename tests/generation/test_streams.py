"""A streamed answer that does not end as it should: one line, exit code 2, and a part is said to be one."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from cft_trl.cli import main
from cft_trl.errors import CFTError
from cft_trl.generation.modes import Endpoint, Generation

pytest.importorskip("openai")
ASK = [{"role": "user", "content": "2+2?"}]


def event(content=None, finish_reason=None, **more) -> bytes:
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": finish_reason}
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": [choice], **more}
    return f"data: {json.dumps(chunk)}\n\n".encode()


USAGE = event()[:0] + b'data: {"choices": [], "usage": {"prompt_tokens": "5", "completion_tokens": 9}}\n\n'
DONE = b"data: [DONE]\n\n"
PARTS = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "It is 4."}]


class Server(ThreadingHTTPServer):
    """Answers every request with `status`, `kind` and `body`, unless `refuse` makes something of its body."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status, self.kind, self.body, self.seen = 200, "text/event-stream", b"", []
        self.refuse = lambda request: None
        self.url = f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append(request)
        told = self.server.refuse(request)
        status, kind, body = self.server.status, self.server.kind, self.server.body
        if told:
            status, kind, body = 400, "application/json", json.dumps({"error": {"message": told}}).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    server = Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def drained(pieces) -> tuple[list[str], Generation]:
    got = []
    while True:
        try:
            got.append(next(pieces))
        except StopIteration as ended:
            return got, ended.value


@pytest.mark.parametrize(
    ("body", "told", "reason"),
    [
        (event("It is") + b'data: {"error": {"message": "the engine died", "code": 500}}\n\n' + DONE,
         "500 (the engine died); the text above (5 characters) is a part of an answer", "500"),
        (b'data: {"error": {"message": "Insufficient Balance", "code": 402}}\n\n', "quota is used up", "quota"),
        (event("It is") + b'data: {"choices": [{"delta": {"con\n\n', "malformed JSON", "malformed JSON"),
        (event("It is") + b"data: " + b"[" * 100_000 + b"\n\n", "malformed JSON", "malformed JSON"),
        (event("It is 4."), "it ended without a finish_reason); the text above (8 char", "connection lost"),
        (event("It is 4.") + DONE, "it ended without a finish_reason", "connection lost"),
        (b"", "it ended without a finish_reason", "connection lost"),
        (b'data: {"choices": null}\n\ndata: 7\n\n', "finish_reason", "connection lost"),
        (event("It is") + event(None, "error"), "broken off (finish_reason error); the text above", "broken off"),
        (event("It is") + event(None, "content_filter"), "content filter", "content filter"),
        (event({"no": 1} | {"type": "text", "text": 7}), "content is not text", "malformed JSON"),
    ],
)  # fmt: skip
def test_a_stream_that_breaks_off_is_one_line(server, capsys, body, told, reason):
    server.body = body
    assert main(["solve", "m", "2+2?", "--base-url", server.url]) == 2
    shown = capsys.readouterr()
    assert told in shown.err
    assert shown.err.count("\n") == 1
    assert server.url in shown.err
    with pytest.raises(CFTError) as stopped:
        list(Endpoint("m", server.url).stream(ASK))
    assert stopped.value.reason == reason


@pytest.mark.parametrize("status", [200, 404, 405])
def test_a_page_and_an_address_without_v1_are_told(server, capsys, status):
    server.status, server.kind, server.body = status, "text/html", b"<html><body>Welcome</body></html>"
    bare = server.url.removesuffix("/v1")
    for command in (["solve", "m", "2+2?"], ["critique", "m", "--query", "2+2?", "--response", "5"]):
        assert main([*command, "--base-url", bare]) == 2
        told = capsys.readouterr().err
        assert f"the address has no /v1: most servers want {bare}/v1" in told
    assert main(["solve", "m", "2+2?", "--base-url", server.url]) == 2
    assert "no /v1" not in capsys.readouterr().err


def test_what_a_server_writes_otherwise_is_read(server):
    server.body = event(PARTS) + event(None, "eos") + USAGE + DONE
    assert drained(Endpoint("m", server.url).stream(ASK)) == (["It is 4."], Generation("It is 4.", "stop", 5, 9))
    server.body = event("It is") + event(None, "MAX_TOKENS") + DONE
    assert drained(Endpoint("m", server.url).stream(ASK))[1] == Generation("It is", "length", None, None)


def test_a_stream_is_asked_as_the_server_takes_it(server, capsys):
    def refuse(request):
        if "max_tokens" in request:
            return "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
        return "'temperature' is not supported" if "temperature" in request else None

    server.refuse, server.body = refuse, event("4") + event(None, "stop") + DONE
    endpoint = Endpoint("m", server.url, extra={"reasoning_effort": "low", "top_p": None})
    for _ in range(2):
        generation = drained(endpoint.stream(ASK, max_new_tokens=77, temperature=0.5, top_p=0.5))[1]
        assert generation == Generation("4", "stop", None, None, without=("temperature",))
    assert len(server.seen) == 4
    assert (server.seen[-1]["max_completion_tokens"], server.seen[-1]["reasoning_effort"]) == (77, "low")
    assert "top_p" not in server.seen[-1]
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_a_fifth_stop_string_ends_a_stream_here(server):
    server.body = event("one two ") + event("three four") + event(None, "stop")
    pieces, generation = drained(Endpoint("m", server.url).stream(ASK, stop=("a1", "b1", "c1", "d1", "three")))
    assert ("".join(pieces), generation.finish_reason) == ("one two three", "stop")
    assert server.seen[0]["stop"] == ["a1", "b1", "c1", "d1"]


def test_the_true_address_is_in_every_message(server, monkeypatch, capsys):
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    server.status, server.kind, server.body = 401, "application/json", b'{"error": {"message": "no"}}'
    for ask in (lambda e: e.generate([ASK]), lambda e: list(e.stream(ASK))):
        with pytest.raises(CFTError, match=f"m at {server.url}: the key is not accepted"):
            ask(Endpoint("m"))
