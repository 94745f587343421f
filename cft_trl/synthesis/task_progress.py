"""What the lead of a distributed build shows: a bar on a terminal, a line every half minute elsewhere.

cft: 3 of 8 tasks done, 12,310 answers
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from cft_trl.progress import progress

if TYPE_CHECKING:
    from pathlib import Path

    from cft_trl.synthesis.job import Job

_LOOK_EVERY_S = 1.0
_LINE_EVERY_S = 30.0


@contextmanager
def telling(job: Job) -> Iterator[None]:
    """Shows how far the tasks are while the `with` block runs."""
    ended = threading.Event()
    thread = threading.Thread(target=_tell, args=(job, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _tell(job: Job, ended: threading.Event) -> None:
    seen: dict[Path, tuple[int, int]] = {}
    shown, told = 0, time.monotonic()
    with progress(f"{job.tasks} tasks", job.tasks) as advance:
        while not ended.wait(_LOOK_EVERY_S):
            done = job.tasks - len(job.missing())
            advance(done - shown)
            shown = done
            if not sys.stderr.isatty() and time.monotonic() - told >= _LINE_EVERY_S:
                told = time.monotonic()
                line = f"cft: {done} of {job.tasks} tasks done, {_answers(job, seen):,} answers"
                print(line, file=sys.stderr, flush=True)


def _answers(job: Job, seen: dict[Path, tuple[int, int]]) -> int:
    """Lines in the tasks' journals; only what is new is read."""
    for path in (job.folder / "journal").glob(f"*-of-{job.tasks:05d}.jsonl"):
        at, lines = seen.get(path, (0, 0))
        with suppress(OSError), open(path, "rb") as file:
            file.seek(at)
            while chunk := file.read(1 << 20):
                at, lines = at + len(chunk), lines + chunk.count(b"\n")
        seen[path] = at, lines
    return sum(lines for _, lines in seen.values())
