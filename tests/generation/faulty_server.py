"""A server that speaks the chat-completions protocol and fails as real endpoints do; for tests, on loopback only.

    POST /v1/chat/completions {"model": "m", "messages": [{"role": "user", "content": "..."}], "seed": 0}
    -> 200 {"choices": [{"message": {"content": "..."}, "finish_reason": "stop"}], "usage": {...}}

An answer depends on the request's body alone, so every run gets the same one. With `faults=0.2` a fifth of the
requests meet a 429 with Retry-After, a 500, silence, a reset connection, broken JSON, an empty answer, an answer that
the server broke off, a web page, JSON nested without end, bytes after the reply or the reply of another request; which
one is drawn from the body and the number of times it came. As many answers come in another `FORM`. Words in the
question ask for more: see `WORDS`. `context` tokens it is as strict about as vLLM; `modern` takes neither max_tokens
nor a temperature; `script` may answer anything.
`python tests/generation/faulty_server.py --faults 0.2` prints its port and serves for at most an hour.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import random
import threading
import uuid
from collections import Counter
from collections.abc import Callable

from cft_trl.generation.journal import request_key

KEY = "planted-key-7f3a"  # what the server takes for a wrong key is any other beginning with "planted"
FAULTS = (
    "429", "500", "silence", "reset", "malformed", "odd", "empty",
    "aborted", "error in 200", "page", "deep", "double", "replay",
)  # fmt: skip
FORMS = ("parts", "mark", "counts as text")  # the same answer, written otherwise
# In a row's text -> what the server does with it, every time.
WORDS = {
    "TOO-LONG": "context",
    "FORBIDDEN": "filter",
    "ALWAYS-EMPTY": "empty",
    "ALWAYS-500": "500",
    "LENGTHY": "length",
    "ECHO-KEY": "echo",
}
MOST_TRIES = 3  # a body that came this often is answered, so that no row is lost to bad luck alone


class FaultyServer:
    """The server in a thread of its own; `start` and `stop` may be called in turns, the port stays.

    Attributes:
        answered: How often each request got a whole answer; by the journal's key, if it has one sample.
        arrived: How often each request came.
        status: What was done, by kind ("ok", "429", ...).
        most_in_flight: The most requests that were being served at once.
        connections: How many were opened. `keys`: what was sent as key. `order`: the questions as they came.
        bodies: Of the requests, as they came.
    """

    def __init__(
        self,
        faults: float = 0.0,
        delay: float = 0.0,
        retry_after: str = "0.05",
        capacity: int = 0,
        models: str = "m",
        context: int = 0,
        modern: bool = False,
        script: Callable[[str, int], tuple[int, dict, str] | None] = lambda text, times: None,
    ) -> None:
        self.faults, self.delay, self.retry_after = faults, delay, retry_after
        self.capacity, self.models = capacity, models.split(",")
        self.context, self.modern, self.script = context, modern, script
        self.bodies: list[dict] = []
        self._last: dict[asyncio.Task | None, bytes] = {}  # connection -> its last reply
        self.answered: Counter[str] = Counter()
        self.arrived: Counter[str] = Counter()
        self.status: Counter[str] = Counter()
        self.order: list[str] = []
        self.keys: set[str] = set()
        self.connections = 0
        self.in_flight = self.most_in_flight = 0
        self.port = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> FaultyServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> FaultyServer:
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self.serve(ready)), daemon=True)
        self._thread.start()
        assert ready.wait(10), "the server did not start"
        return self

    def stop(self) -> None:
        """Closes the port and every connection; answers under way are lost."""
        if self._loop and self._thread:
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(10)
            self._loop = None

    async def serve(self, ready: threading.Event | None = None, seconds: float = 3600, say: bool = False) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        self._connections: set[asyncio.Task] = set()
        server = await asyncio.start_server(self._connection, "127.0.0.1", self.port, backlog=1024)
        self.port = server.sockets[0].getsockname()[1]
        if say:
            print(self.port, flush=True)
        if ready:
            ready.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)
        server.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._connections.add(task)
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                _, given, after = head.lower().partition(b"content-length:")
                length = int(after.split(b"\r\n")[0]) if given else 0
                body = await reader.readexactly(length)
                self.in_flight += 1
                self.most_in_flight = max(self.most_in_flight, self.in_flight)
                try:
                    reply = await self._reply(head, body)
                finally:
                    self.in_flight -= 1
                if reply is None:
                    break
                writer.write(reply)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._connections.discard(task)
            self._last.pop(task, None)
            writer.transport.abort()  # a reset, not an orderly end

    async def _reply(self, head: bytes, body: bytes) -> bytes | None:
        if head.startswith(b"GET /v1/models ") and self.context:
            return _json(200, {"data": [{"id": name, "max_model_len": self.context} for name in self.models]})
        if not head.startswith(b"POST /v1/chat/completions "):
            return _json(404, {"error": {"message": "no such path"}})
        request = json.loads(body)
        asked = {name: value for name, value in request.items() if name not in ("model", "messages")}
        digest = request_key(request["model"], request["messages"], asked)
        text = request["messages"][-1]["content"]
        authorization = head.lower().split(b"authorization: bearer ")[-1].split(b"\r\n")[0].decode()
        self.keys.add(authorization)
        self.arrived[digest] += 1
        self.order.append(text)
        self.bodies.append(request)
        if authorization.startswith("planted") and authorization != KEY:
            return _json(401, {"error": {"message": f"Incorrect API key provided: {authorization}"}})
        if request["model"] not in self.models:
            return _json(404, {"error": {"message": f"The model `{request['model']}` does not exist."}})
        if scripted := self.script(text, self.arrived[digest]) or self._refusal(request):
            self.status[str(scripted[0])] += 1
            return _json(*scripted)
        kind = next((fate for word, fate in WORDS.items() if word in text), None)
        if kind in (None, "length"):
            drawn = self._draw(digest)
            kind = drawn if kind is None or drawn in FAULTS else kind
        if self.capacity and self.in_flight > self.capacity:
            kind = "429"
        self.status[kind or "ok"] += 1
        if kind == "silence":
            await asyncio.sleep(30)
            return None
        await asyncio.sleep(self.delay)
        if kind == "reset":
            return None
        if kind == "429":
            return _json(429, {"error": {"message": "slow down"}}, f"Retry-After: {self.retry_after}\r\n")
        if kind == "500":
            return _json(500, {"error": {"message": "internal error"}})
        if kind == "context":
            message = "This model's maximum context length is 2048 tokens."
            return _json(400, {"error": {"message": message, "code": "context_length_exceeded"}})
        if kind == "echo":
            return _json(400, {"error": {"message": f"your key {authorization} may not ask this"}})
        if kind == "filter":
            return _json(200, _completion("", "content_filter", 0))
        if kind == "empty":
            return _json(200, _completion("", "stop", 0))
        answer = _completion(answer_to(text, request.get("seed")), "length" if kind == "length" else "stop", 30)
        if kind == "malformed":
            return _raw(200, b'{"choices": [{"message": {"content": "half an ans')
        if kind == "odd":
            return _json(200, {"object": "no answer in here"})
        if kind == "aborted":
            return _json(200, _completion("First, 4 x", "insufficient_system_resource", 3))
        if kind == "error in 200":
            return _json(200, {"error": {"message": "the model is loading", "code": 503}})
        if kind == "page":
            return _raw(200, b"<!DOCTYPE html><title>Bad gateway</title>")
        if kind == "deep":
            return _raw(200, b"[" * 100_000)
        if kind == "replay" and (before := self._last.get(asyncio.current_task())):
            return before
        if kind == "double":  # the reply, and after it that of another request
            return _json(200, answer) + _json(
                200, _completion("This is another's.\n\nConclusion: right [END]", "stop", 9)
            )
        self.answered[digest] += 1
        self._last[asyncio.current_task()] = _json(200, answer)
        if kind == "parts":
            thought = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
            message = answer["choices"][0]["message"]
            message["content"] = [thought, {"type": "text", "text": message["content"]}]
        if kind == "counts as text":
            answer["usage"] = {name: str(count) for name, count in answer["usage"].items()}
        return _raw(200, b"\xef\xbb\xbf" * (kind == "mark") + json.dumps(answer).encode())

    def _refusal(self, request: dict) -> tuple[int, dict, str] | None:
        """What a server of this kind does not take, in the words of OpenAI and of vLLM 0.32."""
        limit = request.get("max_tokens") or request.get("max_completion_tokens") or 0
        told = None
        if self.modern and "max_tokens" in request:
            told = "Unsupported parameter: 'max_tokens' is not supported with this model. "
            told += "Use 'max_completion_tokens' instead."
        elif self.modern and request.get("temperature", 1) != 1:
            told = f"Unsupported value: 'temperature' does not support {request['temperature']} with this model. "
            told += "Only the default (1) value is supported."
        elif self.context and limit > self.context:
            told = f"max_tokens={limit} cannot be greater than max_model_len={self.context}. Request fewer tokens."
        return (400, {"error": {"message": told, "code": "unsupported_parameter"}}, "") if told else None

    def _draw(self, digest: str) -> str | None:
        tries = self.arrived[digest]
        rng = random.Random(f"{digest}{tries}")
        if tries <= MOST_TRIES and rng.random() < self.faults:
            return rng.choice(FAULTS)
        return rng.choice(FORMS) if rng.random() < self.faults else None


def answer_to(text: str, seed: int | None) -> str:
    """The critique for a prompt: drawn from the prompt and the seed, in the contract's form."""
    draw = int(hashlib.sha256(f"{text}{seed}".encode()).hexdigest()[:8], 16)
    verdict = "right" if draw % 2 else "wrong"
    return f"Critique:\nThe check number is {draw}.\n\nConclusion: {verdict} [END]"


def _completion(content: str, finish_reason: str, tokens: int) -> dict:
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish_reason}
    usage = {"prompt_tokens": 100, "completion_tokens": tokens, "total_tokens": 100 + tokens}
    name = f"chatcmpl-{uuid.uuid4().hex}"
    return {"id": name, "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage}


def _json(status: int, body: dict, headers: str = "") -> bytes:
    return _raw(status, json.dumps(body).encode(), headers)


def _raw(status: int, body: bytes, headers: str = "") -> bytes:
    head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=float, default=0.0)
    parser.add_argument("--delay", type=float, default=0.0)
    options = parser.parse_args()
    asyncio.run(FaultyServer(options.faults, options.delay).serve(say=True))
