r"""A critic as a server that scores: what `cft rank` reads, over HTTP.

    POST /v1/score   {"query": "What is 6 x 7?", "responses": ["42", "43"]}
    {"object": "list", "model": "runs/mine", "data": [{"object": "score", "index": 0, "score": 0.93, "low": 0.93, …}]}

    POST /v1/rerank  {"query": "What is 6 x 7?", "documents": ["42", "43"], "top_n": 1}
    {"model": "runs/mine", "results": [{"index": 0, "relevance_score": 0.93, "document": {"text": "42"}}], …}

    GET /v1/models, GET /health

`score` is null where no critique could be read (see `generation/odds.py`); a reranked document without one comes last.
Errors are OpenAI's: {"error": {"message", "type", "code"}}. One request is computed at a time; its responses together.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cft_trl.errors import CFTError, one_line
from cft_trl.evaluation.rank import score_of
from cft_trl.evaluation.rank_run import RankSettings, ask_for_odds, critique_requests, told_critique
from cft_trl.generation.odds import Odds
from cft_trl.generation.types import Generation

MOST_BYTES = 8 * 2**20
MOST_RESPONSES = 256


class BadRequest(Exception):
    """What a client asked in a way that cannot be answered."""


class Scorer:
    """Answers the routes, apart from HTTP.

    Args:
        model: A `LocalModel` or an `Endpoint`.
        name: What the server calls it.
        settings: How critiques are asked for; a request may ask for its own number of them.
    """

    def __init__(self, model: Any, name: str, settings: RankSettings) -> None:
        self.model, self.name, self.settings = model, name, settings
        self._busy = threading.Lock()

    def score(self, body: Any) -> dict[str, Any]:
        """`/v1/score`.

        Raises:
            BadRequest: The body does not follow the protocol; the message says where.
            CFTError: The model cannot answer.
        """
        query, responses, settings = self._asked(body, "responses", "response")
        found, usage = self._critiques(query, responses, settings)
        data = [
            {
                "object": "score",
                "index": index,
                "score": scored.pop("p_right"),
                **scored,
                "critiques": [
                    told_critique(made.text, made.finish_reason, odds, made.failure, settings.prompt_preset)
                    for made, odds in critiques
                ],
            }
            for index, critiques in enumerate(found)
            if (scored := score_of([odds for _, odds in critiques]))
        ]
        return {"object": "list", "model": self.name, "data": data, "usage": usage}

    def rerank(self, body: Any) -> dict[str, Any]:
        """`/v1/rerank`.

        Raises:
            BadRequest: As for `score`, or top_n is no whole number from 1.
        """
        query, documents, settings = self._asked(body, "documents", None)
        top = body.get("top_n")
        if top is not None and (not isinstance(top, int) or isinstance(top, bool) or top < 1):
            raise BadRequest("top_n must be a whole number from 1")
        found, usage = self._critiques(query, documents, settings)
        scores = [score_of([odds for _, odds in critiques])["p_right"] for critiques in found]
        order = sorted(range(len(scores)), key=lambda at: (scores[at] is None, -(scores[at] or 0.0), at))
        results = [
            {"index": at, "relevance_score": scores[at], "document": {"text": documents[at]}} for at in order[:top]
        ]
        return {"model": self.name, "results": results, "usage": usage}

    def models(self) -> dict[str, Any]:
        """`/v1/models`."""
        return {"object": "list", "data": [{"id": self.name, "object": "model", "owned_by": "cft-trl"}]}

    def _asked(self, body: Any, many: str, one: str | None) -> tuple[str, list[str], RankSettings]:
        if not isinstance(body, Mapping):
            raise BadRequest("the body must be a JSON object")
        if body.get("model") not in (None, self.name):
            raise BadRequest(f"model {one_line(str(body['model']))[:80]!r} is not served here; it is {self.name!r}")
        query = body.get("query")
        texts = body.get(many, [body[one]] if one and one in body else None)
        if not isinstance(query, str) or not query.strip():
            raise BadRequest("query must be a text")
        if (
            not isinstance(texts, list)
            or not texts
            or not all(isinstance(text, str) and text.strip() for text in texts)
        ):
            raise BadRequest(f"{many} must be a list of texts, at least one" + (f"; or {one} a text" if one else ""))
        if len(texts) > MOST_RESPONSES:
            raise BadRequest(f"{many}: {len(texts)} texts; at most {MOST_RESPONSES} in a request")
        count = body.get("critiques", self.settings.critiques)
        if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= 64:
            raise BadRequest("critiques must be a whole number from 1 to 64")
        try:
            return query, texts, replace(self.settings, critiques=count)
        except CFTError:
            raise BadRequest(
                f"critiques: {count} of them need a temperature above 0, and this server was started with 0"
            ) from None

    def _critiques(
        self, query: str, texts: Sequence[str], settings: RankSettings
    ) -> tuple[list[list[tuple[Generation, Odds]]], dict[str, int]]:
        requests = [one for text in texts for one in critique_requests(self.model, query, text, settings)]
        with self._busy:
            made = ask_for_odds(self.model, requests, preset=self.settings.prompt_preset)
        refused = next((generation for generation, _ in made if generation.refused), None)
        if refused:
            raise CFTError(refused.failure or "the endpoint refused the request")
        count = settings.critiques
        prompt = sum(generation.prompt_tokens or 0 for generation, _ in made)
        completion = sum(generation.completion_tokens or 0 for generation, _ in made)
        usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
        return [made[at : at + count] for at in range(0, len(made), count)], usage


def _failure(status: int, message: str, kind: str) -> tuple[int, dict[str, Any]]:
    return status, {"error": {"message": message, "type": kind, "code": status}}


def make_server(scorer: Scorer, host: str, port: int, key: str | None = None) -> ThreadingHTTPServer:
    """A server that is bound and not yet running; its port is `server_address[1]`.

    Args:
        scorer: What answers.
        host, port: Where it listens; port 0 takes a free one.
        key: Where given, requests must carry it as `Authorization: Bearer KEY`.

    Raises:
        CFTError: The address cannot be had.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 600  # of a client that sends nothing

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except ConnectionError as error:
                self.close_connection = True
                self.log_error("the client has gone: %s", type(error).__name__)

        def do_GET(self) -> None:
            if self.path == "/health":
                return self._send(200, {"status": "ok"})
            if not self._may():
                return None
            return self._send(200, scorer.models()) if self.path == "/v1/models" else self._unknown()

        def do_POST(self) -> None:
            if not self._may():
                return None
            answer = {"/v1/score": scorer.score, "/v1/rerank": scorer.rerank}.get(self.path)
            if answer is None:
                return self._unknown()
            # Sent outside: where the client has hung up, no second answer is tried.
            try:
                status, told = 200, answer(self._body())
            except BadRequest as error:
                status, told = _failure(400, str(error), "invalid_request_error")
            except CFTError as error:
                status, told = _failure(502, str(error), "model_error")
            except Exception as error:  # the server stays; the request is answered, and the log has the rest
                self.log_error("%s: %s", type(error).__name__, error)
                told_of = f"{type(error).__name__}: {one_line(str(error))[:200]}"
                status, told = _failure(500, told_of, "server_error")
            return self._send(status, told)

        def _body(self) -> Any:
            length = self.headers.get("Content-Length") or ""
            if not length.isdecimal() or int(length) > MOST_BYTES:
                self.close_connection = True
                raise BadRequest(f"give a Content-Length of at most {MOST_BYTES} bytes")
            try:
                return json.loads(self.rfile.read(int(length)))
            except OSError as error:
                self.close_connection = True
                raise BadRequest(f"the body did not come ({type(error).__name__})") from None
            except (ValueError, RecursionError):
                raise BadRequest("the body is not JSON") from None

        def _may(self) -> bool:
            if key is None or self.headers.get("Authorization") == f"Bearer {key}":
                return True
            self.close_connection = True  # its body is not read
            self._fail(401, "the key is not accepted", "authentication_error")
            return False

        def _unknown(self) -> None:
            self.close_connection = True
            self._fail(
                404, f"no route {one_line(self.path)[:80]}; there are /v1/score, /v1/rerank, /v1/models", "not_found"
            )

        def _fail(self, status: int, message: str, kind: str) -> None:
            self._send(*_failure(status, message, kind))

        def _send(self, status: int, body: Mapping[str, Any]) -> None:
            data = json.dumps(body, ensure_ascii=False).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    try:
        server = ThreadingHTTPServer((host, port), Handler)
    except (OSError, OverflowError) as error:
        raise CFTError(f"{host}:{port} cannot be listened on ({error}); give another --host or --port") from None
    server.daemon_threads = True
    return server
