r"""What batches leave on disk: the requests handed in, the ledger of what was done with them, and the files of results.

    out/journal/cft-5b0c.requests.jsonl    {"custom_id": "0f5a...", "method": "POST", "url": ..., "body": {...}}
    out/journal/critique.batches.jsonl     the ledger, a line for each step of each batch:

    {"name": "cft-5b0c", "model": "gpt-4o-2024-11-20", "who": "9f2c…", "requests": 50000}     the requests are written
    {"name": "cft-5b0c", "model": "gpt-4o-2024-11-20", "who": "9f2c…", "file": "file-abc"}    ... uploaded
    {"name": "cft-5b0c", "model": "gpt-4o-2024-11-20", "who": "9f2c…", "batch": "batch_abc"}  ... handed in: it costs
    {"name": "cft-5b0c", "model": "gpt-4o-2024-11-20", "who": "9f2c…", "ended": "completed"}  its results are kept

Only the journal's holder reads and writes them, so the journal's lock is theirs too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cft_trl.errors import CFTError, one_line
from cft_trl.generation.replies import Trouble, read_completion, read_status
from cft_trl.generation.types import Generation


@dataclass
class Batch:
    """A batch that has not ended.

    Attributes:
        name: Ours.
        path: The requests.
        file, batch: The endpoint's ids of file and batch, once it has given them.
        fresh: Whether this run uploaded the file.
        held: Whether the endpoint has no room for it until another has ended.
        in_flight: Requests without a result.
        without: Parameters that its requests ask for and do not send (see dialect.py).
    """

    name: str
    path: Path
    file: str | None = None
    batch: str | None = None
    fresh: bool = False
    held: bool = False
    in_flight: int = 0
    without: tuple[str, ...] = ()

    def keys(self) -> Iterator[str]:
        """The journal's keys of its requests; none where somebody removed the file."""
        for key, _ in self.bodies():
            yield key

    def bodies(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The key and the body of each request."""
        with suppress(FileNotFoundError), open(self.path, "rb") as lines:
            for line in lines:
                request = json.loads(line)
                yield request["custom_id"], request["body"]


class Ledger:
    """One teacher's part of the ledger.

    Args:
        path: The file.
        model: The teacher's model.
        who: The key of its identity: another one's batches are no answers to what is asked now.
    """

    def __init__(self, path: Path, model: str, who: str) -> None:
        self.path, self.model, self.who = path, model, who

    def new(self, name: str) -> Batch:
        """A batch of this name, with a place for its requests."""
        return Batch(name, self.path.with_name(f"{name}.requests.jsonl"))

    def open_batches(self) -> list[Batch]:
        """The batches that earlier runs left behind and that have not ended."""
        batches: dict[str, Batch] = {}
        line = b"\n"
        with suppress(FileNotFoundError), open(self.path, "r+b") as lines:
            for line in lines:
                with suppress(ValueError, LookupError, TypeError):  # a torn line
                    step = json.loads(line)
                    if step["who"] == self.who:
                        batch = batches.setdefault(step["name"], self.new(step["name"]))
                        batch.file, batch.batch = step.get("file", batch.file), step.get("batch", batch.batch)
                        batch.in_flight = step.get("requests", batch.in_flight)
                        batch.without = tuple(step.get("without", batch.without))
                        if "ended" in step:
                            del batches[batch.name]
            if not line.endswith(b"\n"):
                lines.write(b"\n")
        return list(batches.values())

    def add(self, batch: Batch, /, **step: Any) -> None:
        """Keeps a step.

        Raises:
            CFTError: The disk is full.
        """
        line = json.dumps({"name": batch.name, "model": self.model, "who": self.who, **step}).encode() + b"\n"
        try:
            with open(self.path, "ab") as file:
                file.write(line)
        except OSError as error:
            raise CFTError(f"{self.path}: cannot be written ({error.strerror}); make room and run it again") from None

    def end(self, batch: Batch, how: str) -> None:
        """Keeps that a batch has ended; its requests are no longer needed."""
        self.add(batch, ended=how)
        batch.path.unlink(missing_ok=True)


def read_results(path: Path) -> Iterator[tuple[str, Generation | Trouble]]:
    """(key, answer or trouble) for each line of a file of results; a line that cannot be read is passed over.

    Args:
        path: An output file or an error file, as the endpoint gave it.

    Yields:
        The journal's key, and what `read_answer` or `read_status` makes of the reply. The reason is "expired" where the
        endpoint never came to the request.
    """
    with open(path, "rb") as lines:
        for line in lines:
            try:
                result = json.loads(line)
                key, error, reply = result["custom_id"], result.get("error"), result.get("response")
                int(key, 16)
                status, body = (int(reply["status_code"]), reply.get("body")) if reply else (500, None)
            except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
                continue
            if status == 200:
                yield key, read_completion(body)
                continue
            error = error or (body.get("error") if isinstance(body, dict) else None) or {}
            if isinstance(error, dict) and error.get("code") in ("batch_expired", "batch_cancelled"):
                yield key, Trouble("retry", "expired", one_line(error.get("message") or ""))
            else:
                yield key, read_status(status, error)
