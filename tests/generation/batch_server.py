"""A server that speaks the Batch API (files, batches, contents of files) and fails as it can fail; on loopback only.

    POST /v1/files    multipart: purpose=batch, file        -> {"id": "file-1", ...}
    POST /v1/batches  {"input_file_id": "file-1", ...}      -> {"id": "batch_1", "status": "validating", ...}
    GET  /v1/batches/batch_1                                -> ... "status": "completed", "output_file_id": "file-2"
    GET  /v1/files/file-2/content                           -> {"custom_id": ..., "response": {...}, "error": null} ...

Answers are those of faulty_server.py, and so are the words in a question that make it fail; `ONCE-500` fails the first
time only. `python tests/generation/batch_server.py` prints its port and serves for at most an hour.
"""

from __future__ import annotations

import json
import re
import socket
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from faulty_server import KEY, answer_to


class BatchServer:
    """The server in threads of its own.

    Attributes:
        polls: How often a batch is asked for before it has ended.
        fates: What becomes of the batches created from now on, first to first: "expired", "cancelled", "partial" (two
            thirds of the results are there), "failed CODE"; "completed" when the list is empty.
        faults: The next replies' faults by "METHOD /path" prefix: a status, or "lost" (carried out, no reply).
        room: The most requests that may be in running batches, if not 0.
        files: Contents by id. `batches`: the batches by id. `paid`: how often each custom_id was answered.
    """

    def __init__(self, polls: int = 2, room: int = 0) -> None:
        self.polls, self.room = polls, room
        self.fates: list[str] = []
        self.faults: dict[str, list] = {}
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict] = {}
        self.paid: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()
        self.calls: list[str] = []
        self.keys: set[str] = set()
        self._left: dict[str, int] = {}
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"owner": self}))
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> BatchServer:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def reply(self, method: str, path: str, headers, body: bytes) -> tuple[int, object]:
        with self._lock:
            self.calls.append(f"{method} {path}")
            key = headers["authorization"].removeprefix("Bearer ")
            self.keys.add(key)
            if key.startswith("planted") and key != KEY:
                return 401, {"error": {"message": f"Incorrect API key provided: {key}"}}
            if method == "POST" and path == "/v1/files":
                return 200, self._upload(headers, body)
            if method == "POST" and path == "/v1/batches":
                return 200, self._create(json.loads(body))
            if path.startswith("/v1/batches?") or path == "/v1/batches":
                return 200, {"object": "list", "data": list(self.batches.values())[::-1], "has_more": False}
            name = path.rsplit("/", 1)[0] if path.count("/") < 3 else path.split("/")[3]
            if path.startswith("/v1/batches/") and name in self.batches:
                return 200, self._step(self.batches[name])
            if path.endswith("/content") and name in self.files:
                return 200, self.files[name]
            return 404, {"error": {"message": f"No such thing: {path}"}}

    def fault(self, method: str, path: str) -> object:
        with self._lock:
            for prefix, faults in self.faults.items():
                if faults and f"{method} {path}".startswith(prefix):
                    return faults.pop(0)
        return None

    def _keep(self, content: bytes) -> str:
        name = f"file-{len(self.files) + 1}"
        self.files[name] = content
        return name

    def _upload(self, headers, body: bytes) -> dict:
        boundary = re.search(r"boundary=\"?([^\";]+)", headers["content-type"])[1].encode()
        fields = {}
        for part in body.split(b"--" + boundary)[1:-1]:
            head, _, content = part.partition(b"\r\n\r\n")
            fields[re.search(rb'name="([^"]+)"', head)[1].decode()] = content[:-2]
        assert fields["purpose"] == b"batch", fields["purpose"]
        size = len(fields["file"])
        found = {
            "id": self._keep(fields["file"]),
            "object": "file",
            "bytes": size,
            "created_at": 0,
            "status": "processed",
        }
        return found | {"filename": "x.jsonl", "purpose": "batch"}

    def _create(self, asked: dict) -> dict:
        assert (asked["endpoint"], asked["completion_window"]) == ("/v1/chat/completions", "24h")
        total = self.files[asked["input_file_id"]].count(b"\n")
        name = f"batch_{len(self.batches) + 1}"
        counts = {"total": total, "completed": 0, "failed": 0}
        batch = {"id": name, "object": "batch", "created_at": 0, "status": "validating", "request_counts": counts}
        self.batches[name] = batch | asked
        running = sum(b["request_counts"]["total"] for b in self.batches.values() if b["status"] in _RUNNING)
        fate = self.fates.pop(0) if self.fates else "completed"
        if self.room and running > self.room:
            fate = "failed token_limit_exceeded"
        self.batches[name]["fate"], self._left[name] = fate, self.polls
        return self.batches[name]

    def _step(self, batch: dict) -> dict:
        if batch["status"] not in _RUNNING:
            return batch
        self._left[batch["id"]] -= 1
        batch["status"] = "in_progress"
        if self._left[batch["id"]] <= 0:
            self._end(batch)
        return batch

    def _end(self, batch: dict) -> None:
        fate, _, code = batch["fate"].partition(" ")
        batch["status"] = "completed" if fate == "partial" else fate
        if fate == "failed":
            told = {"code": code, "message": f"it failed: {code}", "line": None, "param": None}
            batch["errors"] = {"object": "list", "data": [told]}
            return
        output, errors = [], []
        for at, line in enumerate(self.files[batch["input_file_id"]].splitlines()):
            request = json.loads(line)
            assert (request["method"], request["url"]) == ("POST", "/v1/chat/completions")
            if fate == "partial" and at % 3 == 2:
                continue
            reply = self._answer(request) if fate != "expired" or at % 2 == 0 else None
            if reply is None:
                error = {"code": "batch_expired", "message": "This request could not be executed in time."}
                errors.append({"id": "r", "custom_id": request["custom_id"], "response": None, "error": error})
                continue
            result = {"id": "r", "custom_id": request["custom_id"], "response": reply, "error": None}
            (output if reply["status_code"] == 200 else errors).append(result)
        counts = batch["request_counts"]
        counts["completed"], counts["failed"] = len(output), len(errors)
        # Neither in the requests' order nor, as the real one, without line separators inside the strings.
        for name, lines in (("output_file_id", output[::-1]), ("error_file_id", errors)):
            if lines:
                content = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
                batch[name] = self._keep(content.encode())

    def _answer(self, request: dict) -> dict:
        body = request["body"]
        text = body["messages"][-1]["content"]
        self.seen[text] += 1
        if "TOO-LONG" in text:
            error = {
                "message": "This model's maximum context length is 2048 tokens.",
                "code": "context_length_exceeded",
            }
            return {"status_code": 400, "body": {"error": error}}
        if "ODD-FORM" in text:
            return {"status_code": 400, "body": {"error": {"message": "Unsupported parameter", "code": None}}}
        if "MODERN" in text and (named := next((n for n in ("max_tokens", "temperature") if n in body), None)):
            told = f"Unsupported parameter: '{named}' is not supported with this model. "
            told += "Use 'max_completion_tokens' instead." if named == "max_tokens" else ""
            return {"status_code": 400, "body": {"error": {"message": told, "code": "unsupported_parameter"}}}
        if "NO-KEY" in text:
            return {"status_code": 401, "body": {"error": {"message": "Incorrect API key"}}}
        if "ALWAYS-500" in text or ("ONCE-500" in text and self.seen[text] == 1):
            return {"status_code": 500, "body": {"error": {"message": "internal error", "code": None}}}
        self.paid[request["custom_id"]] += 1
        content = "" if "ALWAYS-EMPTY" in text or "FORBIDDEN" in text else answer_to(text, body.get("seed")) + "\u2028"
        finish = "content_filter" if "FORBIDDEN" in text else "length" if "LENGTHY" in text else "stop"
        choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish}
        usage = {"prompt_tokens": 100, "completion_tokens": 30, "total_tokens": 130}
        return {"status_code": 200, "request_id": "q", "body": {"choices": [choice], "usage": usage}}


_RUNNING = ("validating", "in_progress", "finalizing")


class _Handler(BaseHTTPRequestHandler):
    owner: BatchServer
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet a reply

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        fault = self.owner.fault(self.command, self.path)
        if isinstance(fault, int):
            status, reply = fault, {"error": {"message": "not now"}}
        else:
            status, reply = self.owner.reply(self.command, self.path, self.headers, body)
        if fault == "lost":
            self._hang_up()
            return
        data = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if status == 429:
            self.send_header("Retry-After", "0.01")
        self.end_headers()
        self.wfile.write(data if fault != "torn" else data[: len(data) // 2])
        if fault == "torn":
            self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)

    do_GET = do_POST = _serve

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    with BatchServer(polls=int(sys.argv[1]) if len(sys.argv) > 1 else 2) as server:
        print(server.url, flush=True)
        time.sleep(3600)
