r"""Whether a critique agrees with what is known: the truth about the response, and the reference answer.

    {"response": "6 x 7 = 43, so the answer is 43.", "reference_answer": "42", "verdict": "right", ...}

contradicts the truth: the strict grader finds 43, which is not 42. What the row's corpus or the respond stage said of
the response (`meta["label"]`) goes before the grader: a wrong solution may reach the right answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
Finding = tuple[bool, str]  # whether nothing speaks against the row, and what was found, in a few words


def verdict_agrees(rows: Sequence[Row]) -> list[Finding]:
    """Compares each row's verdict with the truth about its response.

    Args:
        rows: Records.

    Returns:
        For each row (True, "agrees"), (False, "calls a right response wrong") or the reverse; (True, "no verdict"); and
        (True, "truth unknown"): without label and reference answer, or without an answer that can be found in the
        response, which may be right all the same.

    Raises:
        CFTError: The strict grader is needed, and mpmath is not installed.

    Example:
        >>> row = {"response": "So the answer is 43.", "reference_answer": "42", "verdict": "right", "meta": None}
        >>> verdict_agrees([row, row | {"meta": {"label": "right"}}, row | {"reference_answer": None}])
        [(False, 'calls a wrong response right'), (True, 'agrees'), (True, 'truth unknown')]
    """
    truths = [_label(row) if row["verdict"] else None for row in rows]
    asked = [at for at, row in enumerate(rows) if row["verdict"] and not truths[at] and _gradable(row, "response")]
    for at, right in zip(asked, _grade([rows[at] for at in asked], "response"), strict=True):
        truths[at] = "right" if right else "wrong"
    return [_compare(row["verdict"], truth) for row, truth in zip(rows, truths, strict=True)]


def _compare(verdict: str | None, truth: str | None) -> Finding:
    if verdict is None:
        return True, "no verdict"
    if truth is None:
        return True, "truth unknown"
    return (True, "agrees") if verdict == truth else (False, f"calls a {truth} response {verdict}")


def box_agrees(rows: Sequence[Row]) -> list[Finding]:
    r"""Compares the answer that each critique boxes with the reference answer.

    Returns:
        For each row (True, "agrees"), (False, "not the reference answer") or (True, "no box or no reference answer").

    Raises:
        CFTError: As `verdict_agrees`.

    Example:
        >>> row = {"critique": r"It is \boxed{42}. Conclusion: wrong [END]", "reference_answer": "42"}
        >>> box_agrees([row, row | {"reference_answer": "43"}, row | {"critique": "No."}])
        [(True, 'agrees'), (False, 'not the reference answer'), (True, 'no box or no reference answer')]
    """
    asked = [at for at, row in enumerate(rows) if "\\boxed" in (row["critique"] or "") and _gradable(row, "critique")]
    found: list[Finding] = [(True, "no box or no reference answer")] * len(rows)
    for at, right in zip(asked, _grade([rows[at] for at in asked], "critique"), strict=True):
        found[at] = (True, "agrees") if right else (False, "not the reference answer")
    return found


def needs_grader(row: Row, agree: str, boxed: str) -> bool:
    """Whether the filter would grade something of this row, as far as one can tell before it has a critique.

    Args:
        row: A record of the source.
        agree, boxed: The filter's settings.

    Example:
        >>> needs_grader({"reference_answer": "42", "meta": {"label": "right"}}, "drop", "off")
        False
    """
    if not (row["reference_answer"] or "").strip():
        return False
    return boxed != "off" or (agree != "off" and _label(row) is None)


def _label(row: Row) -> str | None:
    label = (row["meta"] or {}).get("label")
    return label if label in ("right", "wrong") else None


def _gradable(row: Row, column: str) -> bool:
    from cft_trl.grading.answers import extract_answer

    return bool((row["reference_answer"] or "").strip()) and extract_answer(row[column]) is not None


def _grade(rows: Sequence[Row], column: str) -> list[bool]:
    from cft_trl.grading.grade import grade_many

    return grade_many((row[column], row["reference_answer"]) for row in rows) if rows else []
