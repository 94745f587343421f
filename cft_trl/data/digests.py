"""Digests of what is in files, folders and rows; of large files each is made once and remembered.

    content_digest({"b": 1, "a": 2})        "d3626ac30a87e6f7", the same in every run and on every machine
    file_digest("model.safetensors")        over all bytes
    tensors_digest(["model.safetensors"])   over names, types, shapes and numbers: however they are cut into files

What was remembered of a file counts as long as its size, its times and its inode are the same. The time of the last
change of the inode (ctime) is among them: a file that was written over and given its old time back is read again.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from cft_trl.data.folders import cache_folder, write_text

_LENGTH = 16  # hex digits of what is shown and compared
_REMEMBER_FROM = 1 << 20  # bytes; a smaller file is read as fast as what was remembered of it
_SETTLED_NS = 2_000_000_000  # a file younger than this may change again within one tick of the clock
_CHUNK = 1 << 23
_TENSORS = 1 << 256


def content_digest(content: Any) -> str:
    """16 hex digits of a SHA-256 over JSON; the order of keys does not matter, what JSON has not goes in as text.

    Example:
        >>> content_digest({"a": 1, "b": Path("x")}) == content_digest({"b": "x", "a": 1})
        True
    """
    text = json.dumps(content, sort_keys=True, default=str, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_LENGTH]


def file_digest(path: str | Path) -> str:
    """16 hex digits of the SHA-256 of a file's bytes.

    Raises:
        OSError: It cannot be read.
    """
    return _remembered(Path(path), "bytes", sha256_of)[:_LENGTH]


def files_digest(files: Iterable[str | Path], root: str | Path | None = None) -> str:
    """A digest of several files' names (relative to `root`; else their last parts) and bytes, in their order.

    Raises:
        OSError: One of them cannot be read.
    """
    paths = [Path(file) for file in files]
    names = [path.relative_to(root).as_posix() if root else path.name for path in paths]
    return content_digest(list(zip(names, map(file_digest, paths), strict=True)))


def tensors_digest(files: Sequence[str | Path]) -> str:
    """A digest of the tensors in safetensors files: names, types, shapes and numbers.

    Tensors dealt out otherwise to files, or written in another order or with other metadata, have the same digest.

    Raises:
        OSError: A file cannot be read.
        ValueError: A file is no safetensors file, or cut short.
    """
    total = sum(int(_remembered(Path(file), "tensors", _sum_of_tensors), 16) for file in files) % _TENSORS
    return content_digest(f"{total:x}")


@cache
def code_digest(*files: str) -> str:
    """A digest of files of our own code: the key of what that code made.

    Args:
        *files: Paths of modules (`__file__`).
    """
    return hashlib.sha256(b"".join(Path(file).read_bytes() for file in files)).hexdigest()[:_LENGTH]


@cache
def package_digest() -> str:
    """A digest of all of this package's code and data: for what is cheap to make anew after any change of it."""
    here = Path(__file__).parents[1]
    files = sorted(path for path in here.rglob("*") if path.suffix in (".py", ".yaml", ".jinja") and path.is_file())
    return files_digest(files, here)


# ---- what is in a file ----


def sha256_of(path: Path) -> str:
    """All 64 hex digits of a file's SHA-256, as the Hub states them."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sum_of_tensors(path: Path) -> str:
    """The sum of one hash per tensor: it does not depend on their order, and sums of files add up."""
    start, header = read_header(path)
    tensors = [(name, about) for name, about in header.items() if name != "__metadata__"]
    with open(path, "rb") as file, ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:

        def hashed(tensor: tuple[str, dict[str, Any]]) -> int:
            name, about = tensor
            at, end = (start + offset for offset in about["data_offsets"])
            told = hashlib.sha256(json.dumps([name, about["dtype"], about["shape"]]).encode())
            while at < end:
                part = os.pread(file.fileno(), min(_CHUNK, end - at), at)
                if not part:
                    raise ValueError(f"{path}: cut short in tensor '{name}'")
                told.update(part)
                at += len(part)
            return int.from_bytes(told.digest(), "big")

        return f"{sum(pool.map(hashed, tensors)) % _TENSORS:x}"


def read_header(path: str | Path) -> tuple[int, dict[str, Any]]:
    """Where the numbers of a safetensors file begin, and its header: name -> {"dtype", "shape", "data_offsets"}.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no safetensors file, or cut short.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= size - 8:
            raise ValueError(f"{path}: no safetensors file, or cut short")
        header = json.loads(file.read(length))
    if not isinstance(header, dict):
        raise ValueError(f"{path}: no safetensors file")
    ends = [about["data_offsets"][1] for name, about in header.items() if name != "__metadata__"]
    if 8 + length + max(ends, default=0) > size:
        raise ValueError(f"{path}: cut short")
    return 8 + length, header


# ---- what is remembered ----


def _stamp(path: Path) -> list[int]:
    found = path.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev]


def _remembered(path: Path, kind: str, make: Callable[[Path], str]) -> str:
    before = _stamp(path)
    if before[0] < _REMEMBER_FROM:
        return make(path)
    note = _note(path, kind)
    with suppress(OSError, ValueError, TypeError, KeyError):
        found = json.loads(note.read_text(encoding="utf-8"))
        if found["stamp"] == before:
            return str(found["digest"])
    digest = make(path)
    if _stamp(path) == before and time.time_ns() - max(before[1:3]) > _SETTLED_NS:
        with suppress(OSError):  # a cache that cannot be written costs time only
            _write_note(note, path, digest)
    return digest


@contextmanager
def still_the_same(path: Path) -> Iterator[None]:
    """Keeps what is remembered of a file through a change of its inode alone (a hard link made or removed)."""
    before = _stamp(path)
    yield
    for kind in ("bytes", "tensors"):
        note = _note(path, kind)
        with suppress(OSError, ValueError, TypeError, KeyError):
            found = json.loads(note.read_text(encoding="utf-8"))
            if found["stamp"] == before and _stamp(path)[:2] == before[:2]:
                _write_note(note, path, found["digest"])


def _write_note(note: Path, path: Path, digest: str) -> None:
    note.parent.mkdir(parents=True, exist_ok=True)
    write_text(note, json.dumps({"file": str(path), "stamp": _stamp(path), "digest": digest}))


def _note(path: Path, kind: str) -> Path:
    name = hashlib.sha256(f"{kind}:{path.resolve()}".encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return cache_folder() / "digests" / f"{name}.json"
