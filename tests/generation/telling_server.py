"""An endpoint that says what it serves and who answers, and counts what it is asked; for tests, on loopback only.

with TellingServer("first") as server:      # GET /v1/models -> {"data": [{"id": "m", **server.entry}]}
    ...                                     # each answer names it: "Critique by first. ..."
    server.word = "second"                  # another model behind the same name
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class TellingServer:
    """The server in a thread of its own.

    Attributes:
        word: Who answers.
        entry: What `/v1/models` says of the model "m" beside its id; None for a server without such a page.
        fingerprint: The answers' `system_fingerprint`; None for none.
        asked: How many answers it gave. With the answer number `after`, counted from the start, `then` is called:
            every later answer is by what `then` left behind, however many requests come at once.
    """

    def __init__(self, word: str, entry: dict | None = None) -> None:
        self.word, self.entry, self.fingerprint = word, entry, None
        self.asked, self.after, self.then = 0, 0, lambda: None
        self.port = 0
        self._one_at_a_time = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> TellingServer:
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                found = owner.entry is not None and self.path == "/v1/models"
                self.send(200 if found else 404, {"data": [{"id": "m", **(owner.entry or {})}]} if found else {})

            def do_POST(self) -> None:
                json.loads(self.rfile.read(int(self.headers["content-length"])))
                with owner._one_at_a_time:
                    owner.asked += 1
                    message = {"content": f"Critique by {owner.word}.\n\nConclusion: right [END]"}
                    told = {"system_fingerprint": owner.fingerprint} if owner.fingerprint else {}
                    if owner.after and owner.asked == owner.after:
                        owner.then()
                self.send(200, {"choices": [{"message": message, "finish_reason": "stop"}], **told})

            def send(self, status: int, body: dict) -> None:
                text = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
