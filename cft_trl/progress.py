"""Progress of everything that takes longer than a few seconds: a bar on a terminal, a line now and then in a log.

    critiques:  20%|██        | 60/300 [01:10<04:40, 0.86it/s, 9,120 tokens]        on a terminal
    critiques: 60/300, 9,120 tokens written, 280 s left                             in a log, every 30 s

Both go to standard error.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

LINE_EVERY_S = 30.0
_FIRST_LINE_S = 10.0  # what is done by then needs none
_LOOK_EVERY_S = 1.0


class Heartbeat:
    """Prints a line when nothing has been printed for a while; `said()` tells it that something was.

    Args:
        tell: The line, or None for none; called from a thread of its own.
        every_s: Seconds without a line after which it is due.
        first_s: Seconds until the first.
    """

    def __init__(self, tell: Callable[[], str | None], every_s: float = LINE_EVERY_S, first_s: float | None = None):
        self.tell, self.every_s = tell, every_s
        self._due = time.monotonic() + (every_s if first_s is None else first_s)
        self._ended = threading.Event()

    def said(self) -> None:
        self._due = time.monotonic() + self.every_s

    def look(self, now: float | None = None) -> str | None:
        """The line, if it is due."""
        now = time.monotonic() if now is None else now
        if now < self._due:
            return None
        self._due = now + self.every_s
        return self.tell()

    def start(self, stream: Any = None) -> Heartbeat:
        """Looks every second until `stop`; lines go to `stream`, standard error by default."""

        def watch() -> None:
            while not self._ended.wait(_LOOK_EVERY_S):
                if line := self.look():
                    print(line, file=stream or sys.stderr, flush=True)

        threading.Thread(target=watch, daemon=True).start()
        return self

    def stop(self) -> None:
        self._ended.set()


_meters: list[_Meter] = []


class _Meter:
    """Counts for a label: of `total` (0 where nobody knows) so many are done, so many tokens are written."""

    def __init__(self, label: str, total: int) -> None:
        self.label, self.total, self.done, self.tokens = label, total, 0, 0
        self.began = time.monotonic()

    def line(self) -> str:
        took = time.monotonic() - self.began
        parts = [f"{self.done:,}/{self.total:,}" if self.total else f"{self.done:,}" if self.done else f"{took:.0f} s"]
        if self.tokens:
            parts.append(f"{self.tokens:,} tokens written")
        if self.total and self.done:
            parts.append(f"{took / self.done * (self.total - self.done):,.0f} s left")
        return f"{self.label}: {', '.join(parts)}"


def wrote(tokens: int) -> None:
    """Counts tokens of texts that are not finished yet towards the progress that is being shown, if one is."""
    if _meters:
        _meters[-1].tokens += tokens


@contextmanager
def progress(label: str, total: int, begin: bool = False) -> Iterator[Callable[[int], None]]:
    """Shows `label`, the count, the tokens being written and the time left; yields `advance(n)`.

    Args:
        label: What is counted.
        total: How many there will be; 0 where nobody knows.
        begin: Says in a log at once that it begins ("vLLM loads MODEL …").
    """
    from tqdm.auto import tqdm

    meter, terminal = _Meter(label, total), sys.stderr.isatty()
    with tqdm(total=total, desc=label, disable=not terminal, leave=False) as bar:

        def advance(count: int) -> None:
            meter.done += count
            if meter.tokens and terminal:
                bar.set_postfix_str(f"{meter.tokens:,} tokens", refresh=False)
            bar.update(count)

        _meters.append(meter)
        heartbeat = None
        if not terminal:
            heartbeat = Heartbeat(meter.line, first_s=_FIRST_LINE_S).start()
            if begin:
                print(f"{label} …", file=sys.stderr, flush=True)
        try:
            yield advance
        finally:
            _meters.remove(meter)
            if heartbeat:
                heartbeat.stop()
