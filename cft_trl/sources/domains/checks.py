r"""Critiques of what can be checked point by point: tests of a function, wishes of a rubric.

A row brings its checks in `meta`, as the corpora of this folder make them:

    {"checks": [{"of": "clamp(-1)", "wanted": "0", "found": "-1", "holds": false}, …], "fault": {"line": 2, …}}

    clamp(5) should return 5, and it does.
    clamp(-1) should return 0, but it returns -1.
    The first mistake is in line 2: it is `if x < -1:` where `if x < 0:` is needed.
    Conclusion: wrong [END]
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

# As cft_trl.data.verdict has it; this teacher is its own few files, which tell whether it is still the same.
_LAST_LINE = "Conclusion: {verdict} [END]"

_MOST_PASSED = 3  # tests that hold are told up to here; all of them would be the longest part of every critique
_HELD = (
    "{of} should return {wanted}, and it does.",
    "{of} gives {wanted}, as it should.",
    "{of} returns {wanted}: fine.",
)
_FAILED = ("{of} should return {wanted}, but it {found}.", "But {of} {found}, where {wanted} is asked for.")
_FAULT = (
    "The first mistake is in line {line}: it is `{now}` where `{was}` is needed.",
    "The first mistake is in line {line}, `{now}`. It has to be `{was}`.",
)
_ALL = ("All {count} cases hold.", "None of the {count} cases fails.")


def critique_of_checks(record: Mapping[str, Any], rng: random.Random) -> str | None:
    """A critique written from a row's checks; None where it has none.

    Args:
        record: A row of a corpus of this folder.
        rng: Chooses the wording.
    """
    meta = record.get("meta") or {}
    checks = meta.get("checks")
    if not checks:
        return None
    lines = _of_rubric(checks, meta["grade"]) if "grade" in meta else _of_tests(checks, meta.get("fault"), rng)
    return "\n".join(lines)


def _of_tests(checks: Sequence[Mapping[str, Any]], fault: Mapping[str, Any] | None, rng: random.Random) -> list[str]:
    passed = [check for check in checks if check["holds"]]
    failed = [check for check in checks if not check["holds"]]
    held, wrong, place = rng.choice(_HELD), rng.choice(_FAILED), rng.choice(_FAULT)
    shown = sorted(rng.sample(range(len(passed)), min(_MOST_PASSED, len(passed))))
    lines = [held.format(**passed[at]) for at in shown]
    if not failed:
        return [*lines, rng.choice(_ALL).format(count=len(checks)), _LAST_LINE.format(verdict="right")]
    lines.append(wrong.format(**failed[0]))
    if fault:
        lines.append(place.format(**fault))
    return [*lines, _LAST_LINE.format(verdict="wrong")]


def _of_rubric(checks: Sequence[Mapping[str, Any]], grade: str) -> list[str]:
    lines = [f"{check['of']}: {check['found']}, {'met' if check['holds'] else 'not met'}." for check in checks]
    met = sum(check["holds"] for check in checks)
    return [*lines, f"{met} of {len(checks)} wishes are met.", _LAST_LINE.format(verdict=grade)]
