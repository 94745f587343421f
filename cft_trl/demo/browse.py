"""Rows of critiques to look through before they are trusted: a page on this machine, filtered, one row at a time.

    rows = Rows(records)                      reads verdicts, lengths, wrong steps once
    serve(rows, "127.0.0.1", 7870)

    GET /                        the page (templates/browse.html); it asks for nothing from elsewhere
    GET /api/summary             how many rows, by verdict, teacher, agreement
    GET /api/find?verdict=wrong&teacher=m&agrees=no&least=200&most=4000&text=sign    [0, 7, 12, …] places of rows
    GET /api/row/7               {"query": …, "response": ["3 x 8 = 24", …], "wrong_step": 2, "critique": …, …}

Texts go to the page as JSON and are put there as text: what a teacher wrote is never read as HTML.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cft_trl.data.read_rows import concluded
from cft_trl.data.records import Record
from cft_trl.data.verdict import contradiction
from cft_trl.data.verdict_grammar import StatedVerdict
from cft_trl.data.verdict_vocabulary import Verdicts
from cft_trl.errors import CFTError
from cft_trl.evaluation.first_error import first_error_step
from cft_trl.sources.trl_layouts import truths

VERDICTS, AGREEMENTS = ("right", "wrong", "none"), ("yes", "no", "unknown")
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"
_BATCH = 500  # rows graded before progress is told


class Rows:
    """Records, with what they are filtered by.

    Args:
        records: In the order that they are shown in.
        advance: Called with how many rows have been read.
        more: Whether these are the first ones, and there are more of them.

    Attributes:
        facts: Per row its verdict, the word for it where critiques conclude in words of their own, teacher, whether its
            verdict is the truth ("yes", "no", "unknown"), and length.
        words: These words, as far as the rows say them; None where they do not.
    """

    def __init__(
        self, records: Sequence[Record], advance: Callable[[int], Any] = lambda count: None, more: bool = False
    ) -> None:
        self.records, self.more = records, more
        self.words = _own_words(records)
        self.facts: list[dict[str, Any]] = []
        for begin in range(0, len(records), _BATCH):
            batch = records[begin : begin + _BATCH]
            known = truths(batch)
            self.facts += [_facts(row, truth, self.words) for row, truth in zip(batch, known, strict=True)]
            advance(len(batch))

    def summary(self) -> dict[str, Any]:
        """Counts by everything that can be asked for."""
        lengths = sorted(fact["length"] for fact in self.facts)
        return {
            "rows": len(self.facts),
            "more": self.more,
            "verdict": {name: Counter(fact["verdict"] for fact in self.facts)[name] for name in VERDICTS},
            "words": {name: self._shown(name) for name in VERDICTS},
            "teacher": dict(Counter(fact["teacher"] for fact in self.facts).most_common()),
            "agrees": {name: Counter(fact["agrees"] for fact in self.facts)[name] for name in AGREEMENTS},
            "contradicts": sum(fact["contradicts"] for fact in self.facts),
            "length": [lengths[0], lengths[len(lengths) // 2], lengths[-1]] if lengths else [0, 0, 0],
        }

    def _shown(self, verdict: str) -> str:
        """A verdict in the words that the rows have for it: "reject", "1, 2, 3"."""
        found = {fact["said"] or verdict for fact in self.facts if fact["verdict"] == verdict} or {verdict}
        return ", ".join(sorted(found, key=_in_order))

    def find(self, asked: Mapping[str, str]) -> list[int]:
        """The places of the rows that fit.

        Args:
            asked: `verdict`, `teacher`, `agrees`, `contradicts` ("yes"), `least` and `most` (the critique's length in
                characters), `text` (in question, response or critique, whatever its case); what is "" or not there
                does not matter.

        Raises:
            CFTError: A length that is no whole number.

        Example:
            >>> from cft_trl.data.records import make_record
            >>> rows = Rows([make_record(query="6 x 7?", response=r, critique="Conclusion: wrong",
            ...                          reference_answer="42") for r in ("The answer is 42.", "The answer is 43.")])
            >>> rows.find({"agrees": "no"}), rows.find({"verdict": "wrong", "least": ""}), rows.find({"text": "43"})
            ([0], [0, 1], [1])
        """
        least, most = (_length(asked, name) for name in ("least", "most"))
        text = asked.get("text", "").lower()
        exact = {name: asked[name] for name in ("verdict", "teacher", "agrees") if asked.get(name)}
        texts: Sequence[Mapping[str, Any]] = self.records
        return [
            at
            for at, fact in enumerate(self.facts)
            if all(fact[name] == value for name, value in exact.items())
            and (asked.get("contradicts") != "yes" or fact["contradicts"])
            and (least is None or fact["length"] >= least)
            and (most is None or fact["length"] <= most)
            and (not text or any(text in (texts[at][name] or "").lower() for name in _SEARCHED))
        ]

    def row(self, at: int) -> dict[str, Any]:
        """One row for the page; `response` by line, `wrong_step` the place of the line that the critique means."""
        record, fact = self.records[at], self.facts[at]
        lines = record["response"].split("\n")
        filled = [place for place, line in enumerate(lines) if line.strip()]
        critique = record["critique"] or ""
        step = first_error_step(critique, [lines[place] for place in filled]) if fact["verdict"] == "wrong" else None
        found = _concluded(record, self.words)
        names = ("id", "query", "refinement", "reference_answer", "response_source", "source")
        return {
            **{name: record[name] for name in names},  # type: ignore[literal-required] # names of columns
            **fact,
            "at": at,
            "response": lines,
            "wrong_step": filled[step - 1] if step and step <= len(filled) else None,
            "critique": critique,
            "verdict_span": [found.start, found.end] if found else None,
            "contradiction": _contradiction(record, self.words),
            "meta": record["meta"],
        }


_SEARCHED = ("query", "response", "critique")


def first_rows(source: str, limit: int | None = None, **where: Any) -> tuple[list[Record], bool]:
    """Rows from the beginning, and whether there are more of them.

    Args:
        source: File, glob, folder or Hub id.
        limit: How many; None for all.
        where: `name`, `split` and `revision` of `load_local`.

    Raises:
        CFTError: They cannot be read.
    """
    from cft_trl.sources.local import load_local

    if limit is None:
        return list(load_local(source, **where)), False
    try:
        found = list(load_local(source, limit=limit + 1, **where))
    except CFTError:  # it may be the row behind the last one that cannot be read
        return list(load_local(source, limit=limit, **where)), True
    return found[:limit], len(found) > limit


def _own_words(records: Sequence[Record]) -> Verdicts | None:
    """The verdict words that rows were built with (`meta["said"]`); None where they have none, or all say one thing."""
    meant: dict[str, str] = {}
    for row in records:
        said = (row["meta"] or {}).get("said")
        if isinstance(said, str) and row["verdict"] and meant.setdefault(said, row["verdict"]) != row["verdict"]:
            return None
    wrong, right = (
        sorted((word for word, verdict in meant.items() if verdict == wanted), key=_in_order)
        for wanted in ("wrong", "right")
    )
    try:
        return Verdicts((*wrong, *right), right[0]) if wrong and right else None
    except CFTError:  # a column "said" of something else
        return None


def _in_order(word: str) -> tuple[int, str]:
    return len(word), word  # 9 before 10


def _concluded(row: Record, words: Verdicts | None) -> StatedVerdict | None:
    """What a row's critique concludes; nothing where it was built with words of its own and says none of them."""
    meta = row["meta"] or {}
    return None if words and "said" in meta and meta["said"] is None else concluded(row)


def _contradiction(row: Record, words: Verdicts | None) -> str | None:
    critique, meta = row["critique"] or "", row["meta"] or {}
    if not critique or "said" not in meta:
        return contradiction(critique) if critique else None
    return words.contradiction(critique) if words else None


def _facts(row: Record, truth: str | None, words: Verdicts | None) -> dict[str, Any]:
    critique = row["critique"] or ""
    found, said = _concluded(row, words), (row["meta"] or {}).get("said")
    verdict = found.verdict if found else None
    return {
        "verdict": verdict or "none",
        "said": said if verdict and isinstance(said, str) else None,
        "teacher": row["teacher"] or "not named",
        "truth": truth,
        "agrees": "unknown" if truth is None or verdict is None else "yes" if verdict == truth else "no",
        "contradicts": _contradiction(row, words) is not None,
        "length": len(critique),
    }


def _length(asked: Mapping[str, str], name: str) -> int | None:
    value = asked.get(name, "").strip()
    if value and not value.isdecimal():
        raise CFTError(f"{name}: {value!r} is not a whole number")
    return int(value) if value else None


def make_server(rows: Rows, host: str, port: int) -> ThreadingHTTPServer:
    """A server that is bound and not yet running; its port is `server_address[1]`.

    Args:
        rows: What it shows.
        host: Address to listen on.
        port: 0 for any that is free.

    Raises:
        CFTError: The address cannot be had.
    """
    page = resources.files("cft_trl").joinpath("templates/browse.html").read_bytes()

    class PageHandler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked = urlsplit(self.path)
            if asked.path == "/":
                return self._send(200, page, "text/html; charset=utf-8")
            try:
                found = self._answer(asked.path, {name: values[-1] for name, values in parse_qs(asked.query).items()})
            except CFTError as error:
                return self._send(400, _json({"error": str(error)}))
            return self._send(404, _json({"error": "no such page"})) if found is None else self._send(200, _json(found))

        def _answer(self, path: str, asked: Mapping[str, str]) -> Any:
            if path == "/api/summary":
                return rows.summary()
            if path == "/api/find":
                return rows.find(asked)
            name, _, at = path.rpartition("/")
            if name == "/api/row" and at.isdecimal() and int(at) < len(rows.records):
                return rows.row(int(at))
            return None

        def _send(self, status: int, data: bytes, kind: str = "application/json") -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Content-Security-Policy", _POLICY)
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            """Says nothing: a line for each row that is looked at helps nobody."""

    try:
        server = ThreadingHTTPServer((host, port), PageHandler)
    except (OSError, OverflowError) as error:
        raise CFTError(f"{host}:{port} cannot be listened on ({error}); give another --host or --port") from None
    server.daemon_threads = True
    return server


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, default=str).encode("utf-8", "replace")
