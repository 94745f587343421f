"""How a report's figures are written, in Markdown and on the page alike: 43.2, +4.2, "40.6 to 45.9", p <0.0001."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Report = dict[str, Any]  # what `report.json` holds; see `report.make_report`

PAPER = "paper (published leniency, for comparison only)"


def graded_tasks(report: Report, graders: Sequence[str] = ("strict", "paper")) -> list[str]:
    """The benchmarks with a score under one of these graders."""
    return [
        task
        for task, of_task in report["scores"].items()
        if any(grader in found for found in of_task.values() for grader in graders)
    ]


def percent(share: float | None) -> str:
    """0.4321 -> "43.2"; nothing is "–"."""
    return "–" if share is None else f"{100 * share:.1f}"


def points(share: float) -> str:
    """A difference in percentage points: "+4.2", "−1.0", "0.0"."""
    text = f"{100 * share:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")


def bounds(interval: Sequence[float] | None, signed: bool = False) -> str:
    """An interval of shares: "40.6 to 45.9"."""
    write = points if signed else percent
    return "" if not interval else f"{write(interval[0])} to {write(interval[1])}"


def score_cell(score: Mapping[str, Any] | None) -> str:
    """A score with its interval, "43.2 (40.6 to 45.9)", or "-"; a judge's is from 1 to 10."""
    if score is None:
        return "-"
    if "hits" not in score:
        low, high = score["interval_95"]
        return f"{score['score']:.2f} ({low:.1f} to {high:.1f})"
    return f"{percent(score['score'])} ({bounds(score['interval_95'])})"


def p_value(p: float | None) -> str:
    """0.00002 -> "<0.0001", 0.0312 -> "0.031"; without one "not known"."""
    if p is None:
        return "not known"
    return "<0.0001" if p < 0.0001 else f"{p:.4f}" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


FILTERS = {"percent": percent, "points": points, "bounds": bounds, "p_value": p_value}
