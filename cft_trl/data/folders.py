"""Folders of runs and builds: writable before the work begins, held by one process, files never half there.

runs/mine/  .lock  checkpoint-40/  settings.json  model.safetensors
"""

from __future__ import annotations

import errno
import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cft_trl.errors import CFTError


def cache_folder() -> Path:
    """Where converted models and the digests of large files are kept: `CFT_CACHE`, else beside the Hub's cache."""
    root = os.environ.get("CFT_CACHE")
    return Path(root) if root else Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser() / "cft_trl"


def check_writable(folder: Path) -> None:
    """Makes the folder and tries to write in it, before hours of training would end in an error.

    Raises:
        CFTError: it cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise CFTError(f"output folder '{folder}' is not writable ({error.strerror}); give another one") from error


@contextmanager
def locked(folder: Path, what: str, remedy: str, name: str = ".lock") -> Iterator[None]:
    """Holds a folder: "FOLDER: another WHAT is running in this folder; wait for it to end or REMEDY".

    Args:
        folder: It must be there.
        what: What runs in it ("build").
        remedy: What else could be done ("give another --output").
        name: The lock's file; several locks of a folder do not know each other.

    Raises:
        CFTError: Another process holds it.
    """
    import fcntl

    # The kernel drops the lock when the process ends, however it ends: no stale lock to remove by hand.
    with open(folder / name, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CFTError(
                f"{folder}: another {what} is running in this folder; wait for it to end or {remedy}"
            ) from None
        yield


def why_not_written(error: BaseException) -> str | None:
    """Why a file could not be written, if that is what an error is about; None for any other.

    Libraries hide it: PyTorch's archives raise a RuntimeError that does not know the reason, safetensors an error of
    its own with the system's words in it.

    Example:
        >>> why_not_written(OSError(errno.ENOSPC, "No space left on device"))
        'No space left on device'
        >>> why_not_written(ValueError("learning_rate"))
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in _FULL:
            return os.strerror(seen.errno)
        text = str(seen)
        for number in _FULL:
            if os.strerror(number) in text:
                return os.strerror(number)
        if isinstance(seen, RuntimeError) and any(words in text for words in _TORCH_WRITES):
            return "the disk takes no more"
        seen = seen.__cause__ or seen.__context__
    return None


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
_TORCH_WRITES = ("PytorchStreamWriter failed writing", "unexpected pos", "file write failed")


def write_text(path: Path, text: str) -> None:
    """Writes under a temporary name and renames, so that a reader never meets half a file."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.write_text(text + "\n", encoding="utf-8")
    os.replace(scratch, path)


def read_json(path: Path, remedy: str, default: Any = None) -> Any:
    """What a JSON file says; the default where there is none.

    Args:
        path: The file.
        remedy: What the message ends with, e.g. "remove it, or give another folder".
        default: What to return without it.

    Raises:
        CFTError: It cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return default
    except (OSError, ValueError) as error:
        raise CFTError(f"{path}: cannot be read ({error}); {remedy}") from None


# "/home/me/data/" in "/home/me/data/rows.jsonl, line 3"; neither the "/a/" of an address nor that of a fraction.
_FOLDERS = re.compile(r"(?<![\w/.~])(?:~|[A-Za-z]:)?[/\\](?:[^\s/\\'\":,;()\[\]]+[/\\])+")


def without_folders(text: str) -> str:
    """The text with absolute paths of this machine cut to their last part: what is published tells nobody's folders.

    Example:
        >>> without_folders("path: /home/me/data/rows.jsonl, vllm:/data/models/mine at http://localhost:8000/v1/x")
        'path: rows.jsonl, vllm:mine at http://localhost:8000/v1/x'
    """
    return _FOLDERS.sub("", text)
