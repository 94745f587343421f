"""`cft report`: evaluations side by side, with intervals and significance, as Markdown, JSON and one page.

    report = make_report(["runs/eval-base", "runs/eval-cft"], names=["base", "CFT"])
    report["scores"]["gsm8k"]["CFT"]["strict"]       # {"score": 0.43, "hits": 567, "of": 1319, "interval_95": […]}
    report["differences"][0]                         # {"first": "base", "second": "CFT", "task": "gsm8k", "p": 0.2, …}
    write_report(report, Path("report"))             # report.md, report.json, report.html

All figures are counted from the generations. Runs that were not asked the same are refused (`report_runs.py`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

from cft_trl import __version__
from cft_trl.data.folders import check_writable, write_text
from cft_trl.errors import CFTError, nearest
from cft_trl.evaluation.published import PUBLISHED
from cft_trl.evaluation.report_figures import FILTERS, PAPER, Report, graded_tasks
from cft_trl.evaluation.report_html import to_html
from cft_trl.evaluation.report_runs import (
    EvaluatedRun,
    check_comparable,
    limit_of,
    read_run,
    read_settings,
    shared_tasks,
)
from cft_trl.evaluation.significance import average_interval, compare, compare_averages, holm
from cft_trl.grading.benchmarks import BENCHMARKS, SIX
from cft_trl.progress import progress

SCHEMA = 1  # of report.json: another number where an entry goes or means something else; a new entry leaves it

TITLES = {
    "math": "MATH", "math-500": "MATH-500", "minerva-math": "Minerva-Math", "gsm8k": "GSM8K",
    "olympiadbench": "OlympiadBench", "aime24": "AIME24", "amc23": "AMC23", "aime25": "AIME25",
    "theoremqa": "TheoremQA", "gpqa-diamond": "GPQA-diamond", "mmlu-pro": "MMLU-Pro", "ifeval": "IFEval",
    "mt-bench": "MT-Bench", "math-validation": "MATH validation",
}  # fmt: skip


def make_report(
    folders: Sequence[str | Path], names: Sequence[str] | None = None, baseline: str | None = None
) -> Report:
    """Reads evaluations and compares them.

    Args:
        folders: Of `cft eval`; at least one.
        names: What the report calls the runs; by default their folders' names.
        baseline: The run that the others are compared with first; by default the first.

    Returns:
        What `report.json` holds: `schema`, `runs`, `baseline`, `tasks`, `scores`, `average`, `differences`,
        `published`, `lengths`, `verdicts`, `notes`. Scores and differences are shares, published figures percent.

    Raises:
        CFTError: A folder is not a finished evaluation or contradicts itself, the runs were not asked the same, or
            `names` and `baseline` do not fit them.
    """
    called = _names([Path(folder) for folder in folders], names)
    baseline = baseline or called[0]
    if baseline not in called:
        raise CFTError(f"--baseline {baseline!r} is none of the runs{nearest(baseline, called)}: {', '.join(called)}")
    total = sum(len(read_settings(Path(folder))["tasks"]) for folder in folders)
    with progress("evaluations", total) as advance:
        runs = [read_run(folder, name, lambda: advance(1)) for folder, name in zip(folders, called, strict=True)]
    check_comparable(runs)
    runs.sort(key=lambda run: run.name != baseline)
    average = _averages(runs)
    tasks = [task for task in BENCHMARKS if any(task in run.tasks for run in runs)]
    return {
        "schema": SCHEMA,
        "runs": [_about(run) for run in runs],
        "baseline": baseline,
        "tasks": tasks,
        "titles": {**{task: TITLES.get(task, task) for task in tasks}, "average": _average_title(average)},
        "scores": {task: {run.name: _scores(run, task) for run in runs if task in run.tasks} for task in tasks},
        "average": average,
        "differences": _differences(runs),
        "published": _published(tasks),
        "lengths": {task: {run.name: _lengths(run, task) for run in runs if task in run.tasks} for task in tasks},
        "verdicts": _verdicts(runs, tasks),
        "notes": _notes(runs),
        "version": __version__,
        "date": time.strftime("%Y-%m-%d"),
    }


def write_report(report: Report, output: Path) -> list[Path]:
    """Writes `report.md`, `report.json` and `report.html` into a folder; returns their paths.

    Raises:
        CFTError: The folder cannot be written.
    """
    check_writable(output)
    texts = {
        "report.md": to_markdown(report),
        "report.json": json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False),
        "report.html": to_html(report),
    }
    for name, text in texts.items():
        write_text(output / name, text.rstrip("\n"))
    return [output / name for name in texts]


def to_markdown(report: Report) -> str:
    """The report as Markdown."""
    from jinja2 import Environment

    environment = Environment(trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    environment.filters.update(FILTERS, cell=_cell)
    template = resources.files("cft_trl").joinpath("templates/report.md.jinja").read_text(encoding="utf-8")
    return environment.from_string(template).render(report, PAPER=PAPER, graded=graded_tasks(report))


def _cell(text: Any) -> str:
    """Text in a Markdown table."""
    return str(text).replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


# ---- the parts -------------------------------------------------------------------------------------------------------


def _names(folders: Sequence[Path], names: Sequence[str] | None) -> list[str]:
    if not folders:
        raise CFTError("no run given; give folders of `cft eval`")
    if names is not None:
        called = [name.strip() for name in names]
        if len(called) != len(folders) or not all(called):
            raise CFTError(f"--names gives {len(called)} names for {len(folders)} runs: {', '.join(called)}")
    else:
        called = [folder.resolve().name for folder in folders]
        if len(set(called)) < len(called):
            called = ["/".join(folder.resolve().parts[-2:]) for folder in folders]
    twice = next((name for name in called if called.count(name) > 1), None)
    if twice:
        raise CFTError(f"two runs are called {twice!r}; give different ones: --names base,CFT")
    return called


def _about(run: EvaluatedRun) -> dict[str, Any]:
    told = run.settings
    keys = ("model", "revision", "identity", "run", "backend", "mode", "prompt", "limit", "sample", "samples",
            "temperature", "top_p", "seed", "graders", "grader", "judge", "problems", "machine", "versions", "date",
            "seconds")  # fmt: skip
    return {"name": run.name, "folder": str(run.folder), **{key: told[key] for key in keys if key in told}}


def _scores(run: EvaluatedRun, task: str) -> dict[str, Any]:
    summary = run.tasks[task].summary
    return {"problems": summary["problems"], "samples": summary["samples"], **summary["scores"],
            **({"pass_at_k": summary["pass_at_k"]} if "pass_at_k" in summary else {})}  # fmt: skip


def _averaged(runs: Sequence[EvaluatedRun]) -> list[str]:
    """What an average is over: the six where all runs have them, else every benchmark that all runs have."""
    shared = [task for task in shared_tasks(runs) if all("strict" in run.tasks[task].shares for run in runs)]
    return list(SIX) if set(SIX) <= set(shared) else shared


def _averages(runs: Sequence[EvaluatedRun]) -> dict[str, Any]:
    tasks = _averaged(runs)
    if len(tasks) < 2:
        return {}
    found: dict[str, Any] = {"of": tasks, "six": tasks == list(SIX), "runs": {}}
    for run in runs:
        found["runs"][run.name] = {}
        for grader in ("strict", "paper"):
            if all(grader in run.tasks[task].shares for task in tasks):
                shares = {task: run.tasks[task].shares[grader] for task in tasks}
                score = sum(sum(values) / len(values) for values in shares.values()) / len(tasks)
                found["runs"][run.name][grader] = {"score": score, "interval_95": list(average_interval(shares))}
    return found


def _average_title(average: Mapping[str, Any]) -> str:
    return "average of the six" if average.get("six") else f"average of {len(average.get('of', ()))}"


def _differences(runs: Sequence[EvaluatedRun]) -> list[dict[str, Any]]:
    """Every pair of runs, the baseline's first; strict grader."""
    pairs = [(first, second) for at, first in enumerate(runs) for second in runs[at + 1 :]]
    averaged = _averaged(runs)
    found = []
    with progress("comparisons", len(pairs)) as advance:
        for first, second in pairs:
            of_pair = []
            for task in shared_tasks([first, second]):
                a, b = first.tasks[task].shares.get("strict"), second.tasks[task].shares.get("strict")
                if a is not None and b is not None:
                    of_pair.append({"task": task, **asdict(compare(a, b))})
            for line, adjusted in zip(of_pair, holm([line["p"] for line in of_pair]), strict=True):
                line["p_holm"] = adjusted
            if len(averaged) > 1:
                shares = [{task: run.tasks[task].shares["strict"] for task in averaged} for run in (first, second)]
                difference, interval, p = compare_averages(shares[0], shares[1])
                of_pair.append({"task": "average", "difference": difference, "interval_95": interval, "p": p,
                                "test": "paired randomisation"})  # fmt: skip
            found += [{"first": first.name, "second": second.name, **line} for line in of_pair]
            advance(1)
    return found


def _published(tasks: Sequence[str]) -> list[dict[str, Any]]:
    """The published rows of models that have a benchmark in common with these runs."""
    models = {row.model for row in PUBLISHED if set(row.scores) & set(tasks)}
    return [asdict(row) for row in PUBLISHED if row.model in models]


def _lengths(run: EvaluatedRun, task: str) -> dict[str, Any]:
    import numpy as np

    of_task = run.tasks[task]
    found = {name: of_task.summary.get(name) for name in ("mean_completion_tokens", "truncated", "no_answer", "failed")}
    if of_task.lengths:
        quantiles = np.quantile(of_task.lengths, (0.05, 0.25, 0.5, 0.75, 0.95))
        found["quantiles"] = dict(zip(("5%", "25%", "50%", "75%", "95%"), map(float, quantiles), strict=True))
    return found


def _verdicts(runs: Sequence[EvaluatedRun], tasks: Sequence[str]) -> dict[str, Any]:
    found = {
        task: {run.name: run.tasks[task].verdicts for run in runs if task in run.tasks and run.tasks[task].verdicts}
        for task in tasks
    }
    return {task: of_task for task, of_task in found.items() if of_task}


def _notes(runs: Sequence[EvaluatedRun]) -> list[str]:
    """What a reader must know of these runs to read the figures rightly."""
    settings = runs[0].settings
    notes = []
    limits = {task: limit_of(settings, task) for task in runs[0].tasks}
    first = [f"{limit} of {TITLES.get(task, task)}" for task, limit in limits.items()
             if limit and limit < (BENCHMARKS[task].drawn or BENCHMARKS[task].size)]  # fmt: skip
    if first:
        notes.append(
            f"Only a sample of the problems was asked, the same for all runs: {', '.join(first)}; published rows are "
            "of whole sets."
        )
    if len({run.settings.get("mode") for run in runs}) > 1:
        notes.append("The runs differ in mode, and so in what each problem was asked with.")
    if len({run.settings.get("backend") for run in runs}) > 1:
        notes.append("The runs were made by different backends, whose greedy texts can differ in a few problems.")
    if 0 < sum("grader" in run.settings for run in runs) < len(runs):
        silent = ", ".join(run.name for run in runs if "grader" not in run.settings)
        notes.append(f"Which version of the graders these runs' verdicts are of is not noted: {silent}.")
    for run in runs:
        if len(run.settings.get("fingerprints", {})) > 1:
            notes.append(f"{run.name}: the endpoint changed what it runs meanwhile (several system fingerprints).")
    if any(set(run.tasks) != set(runs[0].tasks) for run in runs):
        notes.append("Not every run has every benchmark; averages are over those that all have.")
    if settings["samples"] > 1:
        notes.append(
            f"A score is the mean over problems of the share of right answers among {settings['samples']} samples."
        )
    return notes
