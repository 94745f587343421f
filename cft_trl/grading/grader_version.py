"""Which version of the graders a verdict is of: a digest of their code, and the versions of what reads mathematics.

    grader_version()     # {"code": "9f2c81aa03b7e5d1", "math-verify": "0.9.0", "latex2sympy2_extended": "1.11.0", …}

Verdicts are made anew from the kept texts by each `cft eval`, so those of one `evaluation.json` are always of one
version; runs graded by different ones are not compared.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from cft_trl.data.digests import code_digest

# The modules that a verdict is made by, and what these import of the two rooms; a benchmark's golds and the intervals
# are no part of a verdict.
_ROOTS = ("grading.grade", "evaluation.generations", "evaluation.ifeval")
_NOT = ("grading.benchmarks", "grading.intervals", "grading.revisions", "grading.grader_version")
_IMPORTED = re.compile(r"cft_trl\.((?:grading|evaluation)\.\w+)|from cft_trl\.(grading|evaluation) import ([\w, ]+)")
_READERS = ("mpmath", "math-verify", "latex2sympy2_extended", "sympy", "antlr4-python3-runtime")


@cache
def grader_version() -> dict[str, str]:
    """The version of the graders that are installed."""
    found = {"code": code_digest(*map(str, grader_files()))}
    for package in _READERS:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def grader_files() -> list[Path]:
    """The modules that decide a verdict."""
    package, todo, found = Path(__file__).parents[1], list(_ROOTS), {}
    while todo:
        name = todo.pop()
        path = package.joinpath(*name.split(".")).with_suffix(".py")
        if name in found or name in _NOT or not path.is_file():
            continue
        found[name] = path
        for module, room, names in _IMPORTED.findall(path.read_text(encoding="utf-8")):
            todo += [module] if module else [f"{room}.{one}" for one in names.replace(",", " ").split()]
    return [found[name] for name in sorted(found)]


def grader_changed(before: Mapping[str, Any] | None, now: Mapping[str, Any] | None) -> str | None:
    """In what two versions of the graders differ, in words; None where in nothing, or one of the two is not known.

    Example:
        >>> grader_changed({"code": "9f", "math-verify": "0.8.0"}, {"code": "9f", "math-verify": "0.9.0"})
        'math-verify 0.8.0 and 0.9.0'
        >>> grader_changed({"code": "9f"}, None)
    """
    if not before or not now:
        return None
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return ", ".join(f"{name} {before.get(name)} and {now.get(name)}" for name in names) or None
