"""Which checkpoints are whole: sizes and digests are written with them and compared before a run goes on from one.

    runs/mine/checkpoint-40/{model.safetensors, optimizer.pt, …, trainer_state.json, sums.json}

    sums.json: {"digest": "xxh3_128", "files": {"model.safetensors": [538090408, "5b0f…"], "optimizer.pt": […], …}}

Every byte of what training goes on from is in a sum: XXH3, 128 bits, is not cryptographic, but finds a changed byte as
surely and reads faster than disks do. Configurations, tokenizer and cards beside it may change afterwards. A checkpoint
without sums (the run was killed before they were written, or is of an earlier version) is checked by the lengths that
its files themselves state.
"""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from cft_trl.data.folders import why_not_written, write_text
from cft_trl.errors import CFTError

SUMS_FILE = "sums.json"
_DIGEST = "xxh3_128"
_STATE = "trainer_state.json"
_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth")
_NAMES = (_STATE, "latest", "model.safetensors.index.json", "adapter_config.json")
_BLOCK = 1 << 22
_THREADS = 4


def seal(checkpoint: Path) -> None:
    """Writes down sizes and digests of a checkpoint whose files are all there.

    Raises:
        OSError: a file cannot be read, or the sums cannot be written.
    """
    files = list(_files(checkpoint))
    with ThreadPoolExecutor(_THREADS) as pool:
        sums = dict(zip(files, pool.map(_sum, [checkpoint / name for name in files]), strict=True))
    write_text(checkpoint / SUMS_FILE, json.dumps({"digest": _DIGEST, "files": sums}, indent=1))


@contextmanager
def whole_or_gone(checkpoint: Path) -> Iterator[None]:
    """Removes a checkpoint that a full disk leaves half-written inside the block.

    Raises:
        CFTError: The disk is full.
    """
    try:
        yield
    except Exception as error:
        reason = why_not_written(error)
        if reason is None:
            raise
        shutil.rmtree(checkpoint, ignore_errors=True)
        raise CFTError(
            f"{checkpoint}: cannot be written ({reason}); make room and give the same command again"
        ) from error


def damage(checkpoint: Path) -> str | None:
    """What keeps a run from going on from a checkpoint, in a few words; None where it is whole.

    Example:
        >>> damage(Path("runs/none/checkpoint-40"))
        'has no trainer_state.json'
    """
    if not (checkpoint / _STATE).is_file():
        return f"has no {_STATE}"
    if not _has_optimizer(checkpoint):
        return "holds weights only"
    try:
        sums = json.loads((checkpoint / SUMS_FILE).read_text(encoding="utf-8"))
        return _compare(checkpoint, sums["files"])
    except FileNotFoundError:
        return _torn(checkpoint)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{SUMS_FILE} cannot be read ({type(error).__name__})"


def numbered_checkpoints(output_dir: Path) -> list[Path]:
    """Every `checkpoint-N`, whole or not, the newest first."""
    numbered = [(int(p.name[11:]), p) for p in output_dir.glob("checkpoint-*") if p.name[11:].isdigit()]
    return [path for _, path in sorted(numbered, reverse=True)]


def newest_whole(output_dir: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint that a run can go on from, or None, and a line on each newer one that is damaged.

    One that is simply of another kind (weights alone) or was cut short while it was written (no trainer's state, which
    is a checkpoint's last file) is passed over without a line.
    """
    told: list[str] = []
    for path in numbered_checkpoints(output_dir):
        found = damage(path)
        if found is None:
            return path, told
        if (path / _STATE).is_file() and _has_optimizer(path):
            told.append(f"{path} is damaged ({found})")
    return None, told


def _has_optimizer(checkpoint: Path) -> bool:
    """PyTorch and FSDP write optimizer*, DeepSpeed global_stepN; save_only_model writes neither."""
    return any(checkpoint.glob("optimizer*")) or any(checkpoint.glob("global_step*"))


def _files(checkpoint: Path) -> Iterator[str]:
    """The files that training goes on from; folders below a checkpoint (DeepSpeed's, FSDP's) hold nothing else."""
    for path in sorted(checkpoint.rglob("*")):
        inner = path.parent != checkpoint
        if path.is_file() and (inner or path.suffix in _SUFFIXES or path.name in _NAMES):
            yield path.relative_to(checkpoint).as_posix()


def _sum(path: Path) -> list[int | str]:
    import xxhash

    digest, block = xxhash.xxh3_128(), bytearray(_BLOCK)
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(block):
            digest.update(memoryview(block)[:count])
        size = file.tell()
    return [size, digest.hexdigest()]


def _compare(checkpoint: Path, sums: dict[str, list[int | str]]) -> str | None:
    for name, (size, _) in sums.items():  # first what costs nothing
        try:
            found = (checkpoint / name).stat().st_size
        except FileNotFoundError:
            return f"{name} is missing"
        if found != size:
            return f"{name} has {found:,} bytes of {size:,}"
    with ThreadPoolExecutor(_THREADS) as pool:
        now = pool.map(_sum, [checkpoint / name for name in sums])
        changed = [name for (name, wrote), is_now in zip(sums.items(), now, strict=True) if list(wrote) != is_now]
    return f"bytes of {changed[0]} have changed" if changed else None


def _torn(checkpoint: Path) -> str | None:
    """What the files' own statements of their length say."""
    for name in _files(checkpoint):
        path = checkpoint / name
        if path.name.endswith(".json") and not _is_json(path):
            return f"{name} is cut short"
        if path.suffix == ".safetensors" and not _is_safetensors(path):
            return f"{name} is cut short"
        # torch.save writes zip archives, whose directory stands at their end.
        if path.suffix in (".pt", ".pth", ".bin") and not zipfile.is_zipfile(path):
            return f"{name} is cut short"
    return None


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return True


def _is_safetensors(path: Path) -> bool:
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        try:
            header = json.loads(file.read(length)) if 0 < length <= os.fstat(file.fileno()).st_size else {}
        except ValueError:
            return False
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    return bool(ends) and path.stat().st_size == 8 + length + max(ends)
