"""A report as one HTML page: no script, no font and no picture from elsewhere, readable on a phone and in the dark.

Charts are rows of small SVG pictures whose places are percentages, so that they take any width and their text none:

    <svg class="track"><line class="interval" x1="40.6%" x2="45.9%" …/><circle class="strict" cx="43.2%" …/></svg>
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from typing import Any

from cft_trl.evaluation.report_figures import FILTERS, PAPER, Report, graded_tasks

COLOURS = 6  # as many as the template's style has


def to_html(report: Report) -> str:
    """The report as a page."""
    from jinja2 import Environment

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    environment.filters.update(FILTERS)
    template = resources.files("cft_trl").joinpath("templates/report.html.jinja").read_text(encoding="utf-8")
    names = [run["name"] for run in report["runs"]]
    return environment.from_string(template).render(
        report,
        PAPER=PAPER,
        names=names,
        colour={name: at % COLOURS for at, name in enumerate(names)},
        graded=graded_tasks(report),
        pairs=_pairs(report),
        score_chart=_score_chart(report, names),
        difference_chart=_difference_chart(report),
        length_chart=_length_chart(report),
    )


def axis_ticks(low: float, high: float, steps: int = 5) -> list[float]:
    """Round numbers from at most `low` to at least `high`.

    Args:
        low, high: What the axis has to hold.
        steps: At most so many spaces between two of them, but for the rounding at both ends.

    Example:
        >>> axis_ticks(0, 0.43)
        [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
        >>> axis_ticks(-0.07, 0.12)
        [-0.1, -0.05, 0.0, 0.05, 0.1, 0.15]
    """
    span = max(high - low, 1e-6)
    size = 10.0 ** math.floor(math.log10(span / steps))
    step = next(size * factor for factor in (1, 2, 5, 10) if span / (size * factor) <= steps)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(at * step, 10) for at in range(first, last + 1)]


def _pairs(report: Report) -> list[dict[str, Any]]:
    """The differences by pair of runs."""
    keys = list(dict.fromkeys((line["first"], line["second"]) for line in report["differences"]))
    return [
        {
            "first": first,
            "second": second,
            "lines": [line for line in report["differences"] if (line["first"], line["second"]) == (first, second)],
        }
        for first, second in keys
    ]


def _axis(low: float, high: float, label: Callable[[float], str]) -> dict[str, Any]:
    """An axis: `at(value)` gives the place in percent; `ticks` are places with labels."""
    ticks = axis_ticks(low, high)
    # A little room at both ends, for the marks that sit on them.
    span = ticks[-1] - ticks[0]

    def at(value: float) -> float:
        return round(2 + 96 * (min(max(value, ticks[0]), ticks[-1]) - ticks[0]) / span, 2)

    return {"at": at, "ticks": [{"x": at(tick), "label": label(tick)} for tick in ticks]}


def _percent_label(share: float) -> str:
    return f"{100 * share:g}".replace("-", "−")


def _score_chart(report: Report, names: Sequence[str]) -> dict[str, Any] | None:
    rows = {task: report["scores"][task] for task in graded_tasks(report, ("strict",))}
    if not rows:
        return None
    average = report["average"]
    if average:
        rows["average"] = average["runs"]
    found = [score for of_task in rows.values() for of_run in of_task.values() for score in _grades(of_run)]
    high = max(max(score["score"], score["interval_95"][1]) for score in found)
    axis = _axis(0.0, max(high, 0.01), _percent_label)
    groups = []
    for task, of_task in rows.items():
        lines = []
        for name in names:
            strict, paper = (of_task.get(name, {}).get(grader) for grader in ("strict", "paper"))
            if strict:
                low, top = map(axis["at"], strict["interval_95"])
                lines.append({"name": name, "low": low, "high": top, "x": axis["at"](strict["score"]),
                              "paper": axis["at"](paper["score"]) if paper else None,
                              "score": strict["score"]})  # fmt: skip
        problems = next(iter(of_task.values())).get("problems")
        groups.append({"title": report["titles"][task], "problems": problems, "lines": lines})
    return {"ticks": axis["ticks"], "groups": groups}


def _grades(of_run: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [of_run[grader] for grader in ("strict", "paper") if grader in of_run]


def _difference_chart(report: Report) -> dict[str, Any] | None:
    """The others against the baseline, by benchmark."""
    lines = [line for line in report["differences"] if line["first"] == report["baseline"]]
    if not lines:
        return None
    ends = [bound for line in lines for bound in line["interval_95"]]
    axis = _axis(min(-0.01, *ends), max(0.01, *ends), _percent_label)
    groups = []
    for task in dict.fromkeys(line["task"] for line in lines):
        of_task = []
        for line in (line for line in lines if line["task"] == task):
            low, high = map(axis["at"], line["interval_95"])
            of_task.append({"name": line["second"], "low": low, "high": high, "x": axis["at"](line["difference"]),
                            "difference": line["difference"]})  # fmt: skip
        groups.append({"title": report["titles"][task], "lines": of_task})
    return {"ticks": axis["ticks"], "zero": axis["at"](0.0), "groups": groups}


def _length_chart(report: Report) -> dict[str, Any] | None:
    found = [
        q for of_task in report["lengths"].values() for of_run in of_task.values() if (q := of_run.get("quantiles"))
    ]
    if not found:
        return None
    axis = _axis(0.0, max(1.0, *(quantiles["95%"] for quantiles in found)), lambda tokens: f"{tokens:g}")
    groups = []
    for task, of_task in report["lengths"].items():
        lines = [
            {"name": name, "truncated": of_run["truncated"], "places": {q: axis["at"](v) for q, v in quantiles.items()}}
            for name, of_run in of_task.items()
            if (quantiles := of_run.get("quantiles"))
        ]
        groups.append({"title": report["titles"][task], "lines": lines})
    return {"ticks": axis["ticks"], "groups": groups}
