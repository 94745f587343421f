"""What the tasks of a build in several processes are told: `job.json`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cft_trl.data.digests import package_digest
from cft_trl.data.folders import write_text
from cft_trl.errors import CFTError
from cft_trl.models.identity import Identity
from cft_trl.synthesis.recipe import Recipe, plain, to_recipe
from cft_trl.synthesis.run_stage import ASKING


@dataclass(frozen=True)
class Job:
    """What the tasks do; kept as `job.json`, which is all that a task is told.

    Attributes:
        folder: The build's folder, absolute.
        stages: The asking stages to run, in order.
        teacher_options: For `open_teachers`.
        rows: A hash of the source's rows: other rows are another job.
        identities: What each teacher is, by its name in the recipe: the same in every task.
    """

    recipe: Recipe
    folder: Path
    tasks: int
    stages: tuple[str, ...]
    batch: bool = False
    teacher_options: Mapping[str, Any] = field(default_factory=dict)
    rows: str = ""
    identities: Mapping[str, Identity] = field(default_factory=dict)

    @property
    def logs(self) -> Path:
        """datatrove's folder: one for each job, so that what it remembers as done holds for this one."""
        asked = {stage: plain(getattr(self.recipe, stage)) for stage in ASKING}
        content: dict[str, Any] = {"code": package_digest(), "recipe": asked}
        content |= {"tasks": self.tasks, "stages": self.stages, "batch": self.batch, "rows": self.rows}
        content["identities"] = self.identities
        return self.folder / "tasks" / hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def path(self) -> Path:
        return self.logs / "job.json"

    def save(self) -> None:
        self.logs.mkdir(parents=True, exist_ok=True)
        content = {**vars(self), "recipe": plain(self.recipe), "folder": str(self.folder)}
        content["identities"] = dict(self.identities)
        write_text(self.path, json.dumps({**content, "teacher_options": dict(self.teacher_options)}, indent=1))

    @classmethod
    def load(cls, path: str | Path) -> Job:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        content |= {"recipe": to_recipe(content["recipe"]), "folder": Path(content["folder"])}
        return cls(**{**content, "stages": tuple(content["stages"])})

    def missing(self) -> list[int]:
        """The tasks that are not done."""
        return [rank for rank in range(self.tasks) if not (self.logs / "completions" / f"{rank:05d}").is_file()]


def shard_name(rank: int, tasks: int) -> str:
    """A task's suffix in the names of its files.

    Example:
        >>> shard_name(2, 4)
        'task-00002-of-00004'
    """
    return f"task-{rank:05d}-of-{tasks:05d}"


def check_installed(package: str) -> None:
    """Raises: CFTError: It is not."""
    from importlib.util import find_spec

    if find_spec(package) is None:
        extra = "ray" if package == "ray" else "synth"
        raise CFTError(f"--executor needs {package}, which is not installed; pip install 'cft-trl[{extra}]'")
