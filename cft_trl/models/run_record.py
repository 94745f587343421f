"""What a run writes down about itself, for its card and for whoever asks later: `training.json`.

    {"base_model": {"name": "Qwen/Qwen2.5-Math-7B", "commit": "b101308f…"},
     "dataset": {"name": "TIGER-Lab/WebInstruct-CFT", "config": "WebInstruct-CFT-50K", "commit": "3f1c9a27…",
                 "sources": {"webinstruct": 50000}, "teachers": {"gpt-4o-2024-11-20": 50000}},
     "settings": {"learning_rate": 5e-06, …}, "preparation": {"train": {"rows": 50000, …}}, "metrics": {…},
     "machine": {"processor": "AMD EPYC 9654", "cores": 192, "accelerators": {"NVIDIA H100 80GB HBM3": 8}, …},
     "versions": {"cft-trl": "0.1.0", "trl": "1.16.0", …},
     "sessions": [{"started": "2026-11-21T10:12:03", "steps": [0, 98], "seconds": 3412.803}]}

A session is one start of the run: one that was killed counts up to its last checkpoint. `callbacks.RecordRun` writes
them; `cft_trl.hub.run_card` adds the rest when the run has come to its end.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

from cft_trl.data.folders import read_json, write_text
from cft_trl.errors import CFTError

FILE = "training.json"
MARK = "run.json"  # in a checkpoint and in `best`: whose it is
_VERSIONS = ("cft-trl", "trl", "transformers", "torch", "datasets", "accelerate", "peft", "deepspeed")


def read_record(folder: str | Path) -> dict[str, Any]:
    """The content of `training.json`; {} where there is none.

    Raises:
        CFTError: It cannot be read.
    """
    path = Path(folder) / FILE
    record = read_json(path, "remove it, or give another folder", {})
    if not isinstance(record, dict):
        raise CFTError(f"{path}: is no record of a training run; remove it, or give another folder")
    return record


def update_record(folder: Path, **parts: Any) -> dict[str, Any]:
    """Puts parts into `training.json` in the place of those of their names; returns the whole."""
    record = {**read_record(folder), **parts}
    write_text(folder / FILE, json.dumps(record, indent=1, ensure_ascii=False, default=str))
    return record


def run_of(folder: str | Path) -> str | None:
    """The id of the run that a run's folder, one of its checkpoints or its `best` is of; None where nothing says.

    Raises:
        CFTError: The file that says it cannot be read.
    """
    mark = Path(folder) / MARK
    if not mark.is_file():
        return read_record(folder).get("run")
    found = read_json(mark, "remove that folder, or train again")
    return found.get("run") if isinstance(found, dict) else None


def check_mine(run: Path, what: str, theirs: str | None, remedy: str) -> None:
    """
    Args:
        run: The run's folder.
        what: What is looked at ("best"), for the message.
        theirs: The id that stands in it; None, of before there were any, passes.

    Raises:
        CFTError: It is another run's.
    """
    mine = read_record(run).get("run")
    if mine and theirs and mine != theirs:
        raise CFTError(f"'{run}': {what} is of another run ({theirs}, not {mine}); {remedy}")


def provenance(dataset: Any) -> dict[str, Any]:
    """Where rows come from, as far as they say it: `sources`, `teachers` (rows by each), `commit` on the Hub.

    Args:
        dataset: A `datasets.Dataset` of records; of a stream and of other columns nothing is known beforehand.

    Example:
        >>> from datasets import Dataset
        >>> provenance(Dataset.from_list([{"query": "2+2?", "teacher": "reference"}, {"query": "3?", "teacher": None}]))
        {'sources': {}, 'teachers': {'reference': 1}}
    """
    from datasets import Dataset

    if not isinstance(dataset, Dataset):
        return {}
    found: dict[str, Any] = {}
    for column, name in (("source", "sources"), ("teacher", "teachers")):
        values = dataset.select_columns([column])[column][:] if column in dataset.column_names else []
        found[name] = dict(Counter(value for value in values if value).most_common())
    # The library keeps what it read from the Hub in a folder that is named after the commit.
    folders = {Path(file["filename"]).parent.name for file in dataset.cache_files}
    if len(folders) == 1 and re.fullmatch("[0-9a-f]{40}", commit := folders.pop()):
        found["commit"] = commit
    return found


def machine(processes: int = 1) -> dict[str, Any]:
    """What a run's numbers were measured on: this machine, and how many processes there were in all."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "accelerators": dict(Counter(torch.cuda.get_device_name(index) for index in range(count))),
        "processes": processes,
    }


def versions() -> dict[str, str]:
    """Of the packages that a run depends on."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for package in _VERSIONS:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def processor() -> str:
    """The name of this machine's processor."""
    import platform

    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return named or platform.processor() or platform.machine()
