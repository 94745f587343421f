"""Locks on which a run that compiles (DeepSpeed's operators) waits, for ever where a killed run has left one.

    ~/.cache/torch_extensions/py311_cu130/cpu_adam/lock

PyTorch keeps the file open while it compiles and removes it afterwards; others wait until it is gone, without a word.
So a lock that no process has open is one that nobody will remove.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

_TELL_AFTER_S = 5.0


@dataclass(frozen=True)
class ExtensionLock:
    """A lock that is there.

    Attributes:
        path: The file.
        age_s: Seconds since it was made.
        held: Whether a process of this machine has it open; None where that cannot be seen.
    """

    path: Path
    age_s: float
    held: bool | None

    def __str__(self) -> str:
        what = f"{self.path} ({self.path.parent.name}, {self.age_s:.0f} s old)"
        if self.held:
            return f"{what}: a process compiles there"
        return (
            f"{what}: no process of this machine has it open, so a killed run left it and others wait for it for ever"
        )


def extension_locks() -> list[ExtensionLock]:
    """The locks in PyTorch's extension folder, that of `TORCH_EXTENSIONS_DIR` or the user's cache."""
    found = []
    for path in sorted(_root().glob("**/lock")):
        try:
            age = time.time() - path.stat().st_mtime
        except FileNotFoundError:
            continue
        found.append(ExtensionLock(path, age, _is_open(path)))
    return found


_no_longer = threading.Event()


def tell_while_waiting(every_s: float = _TELL_AFTER_S) -> None:
    """Prints each lock that is still there after a while, once for each thing there is to say of it.

    It looks every so many seconds, until `waits_no_longer`: DeepSpeed compiles when its processes first meet and when
    its engine is made, and not once training has begun.
    """
    _no_longer.clear()

    def watch() -> None:
        told = set()
        while not _no_longer.wait(every_s):
            for lock in extension_locks():
                if (lock.path, lock.held) not in told:
                    told.add((lock.path, lock.held))
                    print(f"waiting for {lock}{'' if lock.held else f'; rm {lock.path}'}", flush=True)

    threading.Thread(target=watch, daemon=True).start()


def waits_no_longer() -> None:
    """Ends `tell_while_waiting`."""
    _no_longer.set()


def _root() -> Path:
    named = os.environ.get("TORCH_EXTENSIONS_DIR")
    if named:
        return Path(named)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "torch_extensions"


def _is_open(path: Path) -> bool | None:
    """Whether a process has the file open, by Linux's /proc."""
    if not Path("/proc/self/fd").is_dir():
        return None
    wanted = str(path.resolve())
    for folder in Path("/proc").glob("[0-9]*/fd"):
        try:
            if any(os.readlink(entry.path) == wanted for entry in os.scandir(folder)):
                return True
        except OSError:  # ended meanwhile, or another user's
            continue
    return False
