"""The rows of the quickstart: critiques and solutions to train on, and held-out problems to evaluate on.

One-step problems of the embedded arithmetic source (level 0), all from templates:

    data/train.jsonl      critiques of a right and a wrong solution of each problem      loss on the critique
    data/solve.jsonl      other problems with their right solutions                      loss on the solution
    data/heldout.jsonl    problems that neither file has, one solution each, half of them wrong

A wrong solution miscalculates, takes the wrong operation, or misreads a number, and is written in the style of a right
one: its length and its words tell little (`tests/commands/test_quickstart.py` measures how little). The problems are
held out, their sums are not: numbers from 2 to 6 make some 80 of these.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cft_trl.data.folders import write_text

if TYPE_CHECKING:
    from cft_trl.training.mixture import DatasetPart

LEVELS = (0,)
KINDS = ("slip", "operation", "misread")
PRESET = "compact"


def build_rows(folder: Path, *, rows: int, solutions: int, heldout: int, seed: int) -> dict[str, list[dict[str, Any]]]:
    """Builds the files that are not there yet.

    Args:
        folder: Where they go.
        rows: Critiques to train on, two for each problem.
        solutions: Right solutions to train on, of problems that have no critique here.
        heldout: Held-out problems.
        seed: Of the problems and of the errors in them.

    Returns:
        "train", "solve" and "heldout" -> records.
    """
    folder.mkdir(exist_ok=True)
    paths = {name: folder / f"{name}.jsonl" for name in ("train", "solve", "heldout")}
    if not all(path.is_file() for path in paths.values()):
        for name, found in make_rows(rows=rows, solutions=solutions, heldout=heldout, seed=seed).items():
            write_text(paths[name], "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found))
    return {name: _read(path) for name, path in paths.items()}


def make_rows(*, rows: int, solutions: int, heldout: int, seed: int) -> dict[str, list[dict[str, Any]]]:
    """As `build_rows`, in memory.

    Args:
        rows: Critiques to train on, two for each problem.
        solutions: Right solutions to train on.
        heldout: Held-out problems.
        seed: Of the problems and of the errors in them.

    Example:
        >>> made = make_rows(rows=2, solutions=1, heldout=1, seed=0)
        >>> [row["verdict"] for row in made["solve"]], sorted(row["verdict"] for row in made["train"])
        (['right'], ['right', 'wrong'])
    """
    from cft_trl.sources.arithmetic import arithmetic_records

    common: dict[str, Any] = {"seed": seed, "levels": LEVELS, "kinds": KINDS, "brief": True}
    rows += rows % 2
    # One stream of problems for both, so that none is in both: two rows of each, of which solving takes the right one.
    trained = list(arithmetic_records(rows + 2 * solutions, split="train", pairs=True, **common))
    solved = [row for row in trained[rows:] if row["verdict"] == "right"]
    tested = list(arithmetic_records(heldout, split="test", **common))
    return {"train": trained[:rows], "solve": solved, "heldout": tested}


def _read(path: Path) -> list[dict[str, Any]]:
    # `splitlines` would also cut at U+2028 and its like, which JSON lets stand within a text.
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def mixture(rows: Mapping[str, list[dict[str, Any]]]) -> list[DatasetPart]:
    """The training rows as parts: critiques in the prompt of a critic, right solutions in that of a solver.

    Args:
        rows: Of `build_rows`; "solve" may be empty.
    """
    from datasets import Dataset

    from cft_trl.data.records import features
    from cft_trl.training.mixture import DatasetPart

    parts = {"critiques": ("train", "cft", None), "solutions": ("solve", "sft", "refinement")}
    return [
        DatasetPart(Dataset.from_list(rows[file], features=features()), objective, target, name=name)
        for name, (file, objective, target) in parts.items()
        if rows[file]
    ]
