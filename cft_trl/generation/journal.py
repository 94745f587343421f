"""The journal: every answer a teacher gave, kept on disk, so that nothing answered is ever asked again.

One file of JSON lines per shard, only ever appended to. One line is the result of one request:

    {"key": "0f5a...", "text": "6 x 7 is 42.\\n\\nConclusion: wrong [END]", "finish_reason": "stop",
     "prompt_tokens": 310, "completion_tokens": 24, "by": "9f2c41aa", "on": "2026-11-28"}

`key` hashes what was asked and who (see `request_key`), so a changed prompt, model or temperature asks anew and a rerun
does not. `by` and `on` sign an answer: the beginning of its teacher's key (identities.py), and the day. A line is one
`write`, done before the answer is used: what `kill -9` can take is the one line being written.
In memory a key takes some 36 bytes (`Places`); the texts stay on disk.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import TracebackType
from typing import Any

from cft_trl.errors import CFTError

_SHARD = re.compile(r"[\w-]+")
_SIGNED = re.compile(rb'"by":"([0-9a-f]{8})","on":"([\d-]{10})"\}\n')
_LONGEST_SIGNATURE = 48  # bytes at a line's end


def request_key(who: str, messages: Sequence[Mapping[str, str]], sampling: Mapping[str, Any], sample: int = 0) -> str:
    """What identifies a request: 32 hex digits of a SHA-256, the same in every run and on every machine.

    Args:
        who: Who is asked: the key of a teacher's identity (see identities.py).
        messages: The conversation, `[{"role": ..., "content": ...}, ...]`.
        sampling: Sampling parameters by name; their order does not matter.
        sample: Which of several answers to the same question (the k-th critique of one response).

    Example:
        >>> ask = [{"role": "user", "content": "6 x 7?"}]
        >>> request_key("m", ask, {"temperature": 0.3, "top_p": 1}) == request_key(
        ...     "m", ask, {"top_p": 1, "temperature": 0.3})
        True
        >>> request_key("m", ask, {}, sample=1) == request_key("m", ask, {})
        False
    """
    asked = json.dumps([who, list(messages), dict(sampling), sample], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(asked.encode()).hexdigest()[:32]


class Places:
    """Where each key's line begins: an open-addressing table of 16 bytes a slot, at most two thirds full.

    A dict of integers takes 180 bytes a key, which is most of the memory that a large build would need.

    Example:
        >>> places = Places()
        >>> places.put(7, 0)
        >>> places.get(7), places.get(8), len(places)
        (0, None, 1)
    """

    def __init__(self) -> None:
        self._make(1 << 10)

    def __len__(self) -> int:
        return self._used

    def get(self, key: int) -> int | None:
        """The place kept under a key of 64 bits."""
        place = self._slots[self._slot(key) + 1]
        return place - 1 if place else None

    def put(self, key: int, place: int) -> None:
        if 3 * self._used >= 2 * (self._mask + 1):
            old = self._slots
            self._make(2 * (self._mask + 1))
            for at in range(0, len(old), 2):
                if old[at + 1]:
                    self.put(old[at], old[at + 1] - 1)
        slot = self._slot(key)
        self._used += not self._slots[slot + 1]
        self._slots[slot], self._slots[slot + 1] = key, place + 1  # 0 is an empty slot

    def _make(self, slots: int) -> None:
        self._slots, self._mask, self._used = array("Q", bytes(16 * slots)), slots - 1, 0

    def _slot(self, key: int) -> int:
        slots, mask = self._slots, self._mask
        at = key & mask
        while slots[2 * at + 1] and slots[2 * at] != key:
            at = (at + 1) & mask
        return 2 * at


class Journal:
    """One shard's journal, opened for reading and appending by one process at a time.

    Args:
        folder: Where the journals lie; made if it is not there.
        shard: The name of this shard; shards share a folder and never a file.

    Attributes:
        path: The file, `<folder>/<shard>.jsonl`.
        repaired: Lines that could not be read when it was opened: the torn last one (cut off) and damaged ones.

    Raises:
        CFTError: Another process has this journal open, or the folder cannot be written.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> with Journal(folder) as journal:
        ...     journal.append("00ff", {"text": "Sound."})
        >>> with Journal(folder) as journal:
        ...     "00ff" in journal, journal.get("00ff")
        (True, {'text': 'Sound.'})
    """

    def __init__(self, folder: str | Path, shard: str = "main") -> None:
        if not _SHARD.fullmatch(shard):
            raise CFTError(f"shard {shard!r}: give letters, digits, '-' and '_' only; it names a file")
        self.path = Path(folder) / f"{shard}.jsonl"
        self.repaired = 0
        self._places = Places()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Not O_APPEND: `_write` goes back over a line that a full disk cut short.
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise CFTError(f"{self.path}: the journal cannot be opened ({error.strerror})") from None
        try:
            self._lock()
            self._end = self._read_all()
        except BaseException:
            os.close(self._file)
            raise

    def __contains__(self, key: str) -> bool:
        return self._places.get(short_key(key)) is not None

    def __len__(self) -> int:
        return len(self._places)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def get(self, key: str) -> dict[str, Any] | None:
        """The result kept under a key, without the key; None if there is none."""
        start = self._places.get(short_key(key))
        if start is None:
            return None
        entry = json.loads(self._line_at(start))
        if entry.pop("key") != key:  # another key with the same half
            return None
        for name in ("again", "by", "on"):
            entry.pop(name, None)
        return entry

    def append(self, key: str, result: Mapping[str, Any], again: bool = False) -> None:
        """Keeps a result: it is in the file when this returns.

        Args:
            key: As from `request_key`.
            result: What JSON can hold.
            again: Whether a later run is to ask again (a request given up after many tries). This run does not.

        Raises:
            CFTError: The disk is full or gone; the journal is left as it was before.
        """
        entry = {"key": key, **result} | ({"again": True} if again else {})
        line = json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        self._write(line)
        self._places.put(short_key(key), self._end)
        self._end += len(line)

    def close(self) -> None:
        """Closes the file and with it gives up the lock; may be called again."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _line_at(self, start: int) -> bytes:
        size = 1 << 13
        while b"\n" not in (line := os.pread(self._file, size, start)):
            size *= 8
        return line[: line.index(b"\n")]

    def _write(self, line: bytes) -> None:
        done, trouble = 0, "no space left"
        try:
            while done < len(line):
                wrote = os.pwrite(self._file, line[done:], self._end + done)
                if not wrote:
                    break
                done += wrote
        except OSError as error:
            trouble = error.strerror or str(error)
        if done < len(line):
            os.ftruncate(self._file, self._end)
            raise CFTError(f"{self.path}: cannot be written ({trouble}); make room and run the same command again")

    def _lock(self) -> None:
        # The kernel drops this lock when the process ends, however it ends: no stale lock file to remove by hand.
        import fcntl

        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CFTError(
                f"{self.path.parent}: another run is writing here; wait for it to end or give another output folder"
            ) from None

    def _read_all(self) -> int:
        """Fills the index; cuts off a torn last line; returns the file's length."""
        end = 0
        for line in self._lines():
            if line.endswith(b"\n"):
                self._index(line, end)
                end += len(line)
            else:
                self.repaired += 1
                os.ftruncate(self._file, end)
        return end

    def _lines(self) -> Iterator[bytes]:
        with open(self.path, "rb") as file:
            yield from file

    def _index(self, line: bytes, start: int) -> None:
        try:
            entry = json.loads(line)
            key = short_key(entry["key"])
        except (ValueError, KeyError, TypeError):
            self.repaired += 1
            return
        if not entry.get("again"):
            self._places.put(key, start)


def signed(result: Mapping[str, Any], who: str) -> dict[str, Any]:
    """An answer that says by whom and on which day it was given.

    Args:
        result: As for `Journal.append`.
        who: The key of the model's identity.
    """
    return {**result, "by": who[:8], "on": date.today().isoformat()}


@dataclass
class AnswerCount:
    """How many answers of one teacher there are, and of which days; as text "312 answers of 2026-11-28"."""

    answers: int = 0
    first: str = "9"
    last: str = ""

    def add(self, day: str) -> None:
        self.answers += 1
        self.first, self.last = min(self.first, day), max(self.last, day)

    def __str__(self) -> str:
        days = self.first if self.first == self.last else f"{self.first} to {self.last}"
        return f"{self.answers:,} answer{'s' if self.answers > 1 else ''} of {days}"


def kept_answers(folder: str | Path, stage: str) -> dict[str, AnswerCount]:
    """The answers in a stage's journals, those of all its tasks together, by who signed them.

    Only the ends of the lines are looked at: half a million of them a second.

    Args:
        folder: Where the journals lie.
        stage: Its name.
    """
    found: dict[str, AnswerCount] = {}
    for path in sorted(Path(folder).glob(f"{stage}*.jsonl")):
        if not re.fullmatch(rf"{stage}(?:-task-[\d-]+of-\d+)?", path.stem):
            continue
        with open(path, "rb") as lines:
            for line in lines:
                if signed := _SIGNED.search(line, max(0, len(line) - _LONGEST_SIGNATURE)):
                    by = signed[1].decode()
                    (found.get(by) or found.setdefault(by, AnswerCount())).add(signed[2].decode())
    return found


def short_key(key: str) -> int:
    """Half of a key, as a number; a million of them are all different but for one chance in thirty million."""
    return int(key[-16:], 16)
