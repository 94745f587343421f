"""The evaluations that a report compares: read, counted again, and held to have been asked the same.

OUT/evaluation.json              what was asked, and the scores it claims
OUT/generations/gsm8k.parquet    what the model wrote, with both graders' verdicts: the scores are counted from these
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cft_trl.data.digests import content_digest
from cft_trl.data.verdict import parse_verdict
from cft_trl.errors import CFTError
from cft_trl.evaluation.generations import Row, problem_digest, read_generations, summarise
from cft_trl.grading.benchmarks import get_benchmark
from cft_trl.grading.grader_version import grader_changed

# A folder of something else, told by what lies in it.
_OTHER_KINDS = {
    "critic.json": "a critic's run, from `cft eval-critic`",
    "selection.json": "a selection of checkpoints, from `cft select`",
    "stages": "a dataset's build, from `cft build`",
    "trainer_state.json": "a training run; `cft eval` evaluates it",
    "config.json": "a model; `cft eval` evaluates it",
}
SCHEMA = 1  # of evaluation.json: another number where an entry goes or means something else; a new entry leaves it
_NEEDED = ("model", "prompt", "limit", "samples", "temperature", "graders", "tasks")


@dataclass
class TaskRun:
    """One run on one benchmark.

    Attributes:
        problems: What the problems are (`problem_digest`), sorted; one that is there twice has a number after it. Two
            runs are compared by these, whatever their problems' ids and order.
        ids: Their ids, in that order.
        prompts: A digest of what each was asked with, in that order; empty where that is part of what the run found.
        shares: Per grader and problem the share of samples that were right, in that order.
        summary: As in `evaluation.json`, counted anew.
        lengths: Tokens of each generation, where the backend counts them.
        verdicts: What critiques concluded, where they are part of the run; else empty.
    """

    problems: list[str]
    ids: list[str]
    prompts: list[str]
    shares: dict[str, list[float]]
    summary: dict[str, Any]
    lengths: list[int]
    verdicts: dict[str, Any] = field(default_factory=dict)


@dataclass
class EvaluatedRun:
    """An evaluation: its name in the report, its folder, `evaluation.json` and its tasks."""

    name: str
    folder: Path
    settings: dict[str, Any]
    tasks: dict[str, TaskRun]


def read_run(folder: str | Path, name: str, on_task: Callable[[], object] = lambda: None) -> EvaluatedRun:
    """Reads an evaluation and counts its scores again.

    Args:
        folder: As `cft eval` wrote it.
        name: What the report calls it.
        on_task: Called after each task.

    Raises:
        CFTError: No such folder, a folder of something else or of an evaluation that has not finished, generations
            missing or damaged, or scores in `evaluation.json` that the generations do not give.
    """
    folder = Path(folder)
    settings = read_settings(folder)
    tasks = {}
    for task, stated in settings["tasks"].items():
        path = folder / "generations" / f"{task}.parquet"
        rows = read_generations(path)
        _check_samples(rows, path)
        tasks[task] = _task_run(rows, settings["graders"])
        try:
            _check_scores(stated, tasks[task].summary, folder, task)
        except (AttributeError, KeyError, TypeError):
            raise CFTError(
                f"{folder}: evaluation.json has no readable scores of {task}; run `cft eval` again"
            ) from None
        on_task()
    return EvaluatedRun(name, folder, settings, tasks)


def read_settings(folder: Path) -> dict[str, Any]:
    """The content of `evaluation.json`.

    Raises:
        CFTError: As `read_run`.
    """
    path = folder / "evaluation.json"
    if not folder.is_dir():
        raise CFTError(f"{folder}: no such folder; give the --output of a `cft eval`")
    if not path.is_file():
        if (folder / "generations").is_dir() or (folder / "journal").is_dir():
            for file in ("critic.json", "run.json"):
                if (folder / file).is_file() and "eval-critic" in (folder / file).read_text(encoding="utf-8"):
                    raise CFTError(f"{folder}: {_OTHER_KINDS['critic.json']}; a report compares folders of `cft eval`")
            raise CFTError(
                f"{folder}: an evaluation that has not finished; the same `cft eval` command goes on with it"
            )
        kind = next(
            (what for file, what in _OTHER_KINDS.items() if (folder / file).exists()), "no evaluation.json here"
        )
        raise CFTError(f"{folder}: {kind}; a report compares folders of `cft eval`")
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CFTError(f"{path}: cannot be read as JSON ({error}); run `cft eval` again") from None
    if isinstance(settings, dict) and settings.get("schema", SCHEMA) != SCHEMA:  # files of before it have none
        found = settings["schema"]
        raise CFTError(f"{path}: schema {found}, this version reads {SCHEMA}; update cft-trl, or run `cft eval` again")
    missing = [key for key in _NEEDED if not isinstance(settings, dict) or key not in settings]
    if missing:
        raise CFTError(f"{path}: no entry {missing[0]!r}; it is not of this version's `cft eval`: run it again")
    if not settings["tasks"]:
        raise CFTError(f"{path}: no tasks in it")
    return settings


def check_comparable(runs: Sequence[EvaluatedRun]) -> None:
    """Refuses runs that were not asked the same; the mode may differ, for what it gives is a question of its own.

    Raises:
        CFTError: Two runs differ in prompt, limit, samples, temperature, graders or their version, judge, or problems;
            says which and in what.
    """
    first = runs[0]
    for other in runs[1:]:
        if changed := grader_changed(first.settings.get("grader"), other.settings.get("grader")):
            raise CFTError(
                f"{first.name} ({first.folder}) and {other.name} ({other.folder}) were graded by different versions of "
                f"the graders ({changed}); the same `cft eval` command as before grades a run's kept texts anew"
            )
        for name, mine, theirs in _asked(first, other):
            if mine != theirs:
                raise CFTError(
                    f"{first.name} ({first.folder}) and {other.name} ({other.folder}) differ in {name}: {_brief(mine)} "
                    f"and {_brief(theirs)}; evaluate one of them as the other was"
                )
        for task in shared_tasks(runs):
            _check_problems(first, other, task)


def shared_tasks(runs: Sequence[EvaluatedRun]) -> list[str]:
    """Benchmarks that all runs have, in the first run's order."""
    return [task for task in runs[0].tasks if all(task in run.tasks for run in runs)]


def _asked(first: EvaluatedRun, other: EvaluatedRun) -> list[tuple[str, Any, Any]]:
    a, b = first.settings, other.settings
    prompts = [key for key in dict.fromkeys([*a["prompt"], *b["prompt"]]) if key != "digest"]
    # The digest says that the prompts differ, not where; and another mode has another digest.
    prompts += ["digest"] if a.get("mode") == b.get("mode") else []
    asked = [(f"prompt ({key})", a["prompt"].get(key), b["prompt"].get(key)) for key in prompts]
    for key in ("samples", "temperature", "top_p", "judge"):
        asked.append((key, a.get(key), b.get(key)))
    asked.append(("graders", sorted(a["graders"]), sorted(b["graders"])))
    for grader in ("math-verify", "latex2sympy2_extended"):
        asked.append((f"grader ({grader})", a.get("versions", {}).get(grader), b.get("versions", {}).get(grader)))
    asked.append(("judge's model", a.get("judge_identity"), b.get("judge_identity")))
    for task in shared_tasks([first, other]):
        asked.append((f"limit ({task})", limit_of(a, task), limit_of(b, task)))
        digests = [settings.get("sample", {}).get(task, {}).get("digest") for settings in (a, b)]
        asked.append((f"sample ({task})", *digests))
    return asked


def limit_of(settings: Mapping[str, Any], task: str) -> int | None:
    """How many of a benchmark's problems were asked; None for all."""
    limit = settings["limit"]
    return limit.get(task) if isinstance(limit, dict) else limit


def _check_problems(first: EvaluatedRun, other: EvaluatedRun, task: str) -> None:
    mine, theirs = first.tasks[task], other.tasks[task]
    pair = f"{first.name} ({first.folder}) and {other.name} ({other.folder}) differ in"
    if mine.problems != theirs.problems:
        shared = len(set(mine.problems) & set(theirs.problems))
        of_one = dict(zip(mine.problems, mine.ids, strict=True)) | dict(zip(theirs.problems, theirs.ids, strict=True))
        odd = sorted(of_one[problem] for problem in set(mine.problems) ^ set(theirs.problems))
        raise CFTError(
            f"{pair} the problems of {task}: of {len(mine.problems)} and {len(theirs.problems)}, {shared} have the "
            f"same text and gold in both ({odd[0]!r} has not); evaluate both on the same data"
        )
    if first.settings.get("mode") == other.settings.get("mode") and mine.prompts and theirs.prompts:
        asked = zip(mine.ids, mine.prompts, theirs.prompts, strict=True)
        if odd := [name for name, a, b in asked if a != b]:
            raise CFTError(f"{pair} what {task} was asked with: {len(odd)} prompts are others (first: {odd[0]!r})")


def _brief(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:59] + "…"


def _check_samples(rows: Sequence[Row], path: Path) -> None:
    (name, sample), count = Counter((row["id"], row["sample"]) for row in rows).most_common(1)[0]
    if count > 1:
        raise CFTError(f"{path}: problem {name!r}, sample {sample} is there {count} times; run `cft eval` again")
    samples = Counter(Counter(row["id"] for row in rows).values())
    if len(samples) > 1:
        raise CFTError(f"{path}: problems with {min(samples)} and with {max(samples)} samples; run `cft eval` again")


def _check_scores(stated: Mapping[str, Any], counted: Mapping[str, Any], folder: Path, task: str) -> None:
    told, found = stated.get("scores", {}), counted["scores"]
    for grader in dict.fromkeys([*told, *found]):
        a, b = told.get(grader), found.get(grader)
        if a is None or b is None or not math.isclose(a["score"], b["score"], abs_tol=1e-9) or a["of"] != b["of"]:
            raise CFTError(
                f"{folder}: evaluation.json gives {task} {_score(a)} under {grader}, but its generations give "
                f"{_score(b)}; one of the two was changed: run `cft eval` again"
            )
    if stated.get("problems") != counted["problems"]:
        raise CFTError(
            f"{folder}: evaluation.json has {stated.get('problems')} problems of {task}, its generations "
            f"{counted['problems']}; run `cft eval` again"
        )


def _score(score: Mapping[str, Any] | None) -> str:
    return "no score" if score is None else f"{score['score']:.4g} (of {score['of']})"


def _task_run(rows: Sequence[Row], graders: Sequence[str]) -> TaskRun:
    by_id: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_id[row["id"]].append(row)
    seen: Counter[str] = Counter()
    named: dict[str, str] = {}
    for name in sorted(by_id):
        digest = problem_digest(by_id[name][0])
        seen[digest] += 1
        named[digest if seen[digest] == 1 else f"{digest} {seen[digest]}"] = name
    problems = sorted(named)
    ids = [named[problem] for problem in problems]
    shares = {
        grader: [sum(bool(row[grader]) for row in by_id[name]) / len(by_id[name]) for name in ids]
        for grader in graders
        if any(row[grader] is not None for row in rows)
    }
    lengths = [row["completion_tokens"] for row in rows if row["completion_tokens"] is not None]
    judged = get_benchmark(rows[0]["task"]).answer == "judge"  # the second turn's prompt holds the first turn's answer
    prompts = [] if judged else [content_digest(by_id[name][0]["prompt"]) for name in ids]
    return TaskRun(problems, ids, prompts, shares, summarise(rows, graders), lengths, _verdicts(rows))


def _verdicts(rows: Sequence[Row]) -> dict[str, Any]:
    """What the last critique of each generation concluded, against the strict grader; {} without critiques."""
    if rows[0]["mode"] not in ("two_stage", "single_pass"):
        return {}
    last = [_last_verdict(row) for row in rows]
    of_right = [verdict for verdict, row in zip(last, rows, strict=True) if row["strict"]]
    of_wrong = [verdict for verdict, row in zip(last, rows, strict=True) if row["strict"] is False]
    found = {str(verdict).lower(): last.count(verdict) for verdict in ("right", "wrong", None)}
    return {
        "mode": rows[0]["mode"],
        "of": len(rows),
        **found,
        "right_answers": len(of_right),
        "right_answers_called_right": of_right.count("right"),
        "wrong_answers": len(of_wrong),
        "wrong_answers_called_wrong": of_wrong.count("wrong"),
        "mean_rounds": sum(row["rounds"] or 1 for row in rows) / len(rows),
    }


def _last_verdict(row: Row) -> str | None:
    if row["mode"] == "single_pass" and "verdicts" not in row["meta"]:  # of an evaluation from before 2026-11-30
        return parse_verdict(row["text"])
    return (row["meta"].get("verdicts") or [None])[-1]
