"""Folders of runs: writable before the work begins, files that are never half there, checkpoints that are whole.

runs/mine/  checkpoint-40/{model.safetensors, optimizer.pt, …, trainer_state.json}  settings.json  model.safetensors
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from pathlib import Path

from cft_trl.errors import CFTError


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


def last_complete_checkpoint(folder: Path) -> Path | None:
    """The newest `checkpoint-N` that a run can go on from, or None: not cut short, and with optimizer state.

    The trainer's state is the last file of a checkpoint, so one that reads as JSON says the others are there.
    """
    numbered = [(int(p.name.rpartition("-")[2]), p) for p in folder.glob("checkpoint-*") if p.name[11:].isdigit()]
    for _, path in sorted(numbered, reverse=True):
        try:
            json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        # PyTorch and FSDP write optimizer*, DeepSpeed global_stepN; save_only_model writes neither.
        if any(path.glob("optimizer*")) or any(path.glob("global_step*")):
            return path
    return None


def write_text(path: Path, text: str) -> None:
    """Writes under a temporary name and renames, so that a reader never meets half a file."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.write_text(text + "\n", encoding="utf-8")
    os.replace(scratch, path)


# "/home/me/data/" in "/home/me/data/rows.jsonl, line 3"; neither the "/a/" of an address nor that of a fraction.
_FOLDERS = re.compile(r"(?<![\w/.~])(?:~|[A-Za-z]:)?[/\\](?:[^\s/\\'\":,;()\[\]]+[/\\])+")


def without_folders(text: str) -> str:
    """The text with absolute paths of this machine cut to their last part: what is published tells nobody's folders.

    Example:
        >>> without_folders("path: /home/me/data/rows.jsonl, vllm:/data/models/mine at http://localhost:8000/v1/x")
        'path: rows.jsonl, vllm:mine at http://localhost:8000/v1/x'
    """
    return _FOLDERS.sub("", text)
