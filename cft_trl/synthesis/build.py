"""A build: a recipe's stages one after the other, in a folder, each done once.

    out/data/…, README.md, recipe.yaml, statistics.json    the dataset (see publish.py)
    out/failures.jsonl     every row that is not in it: {"id": "5c0e", "stage": "critique", "reason": "429", ...}
    out/journal/           every answer that was paid for
    out/stages/            what each stage wrote, and done.json: {"source": "9f0c…", "respond": "41ab…", ...}

The same command on the same folder goes on: a stage that is done is not run again as long as its settings and its input
are the same. `done.json` says so by one hash per stage, over the stage's settings, its input and the hash before it, so
that a changed setting runs its stage and all later ones anew; what was answered comes from the journals then.

Two kinds of rows go missing on the way. What a source, a filter or the decontamination leaves out is the recipe's will.
What respond, critique and refine could not get an answer for is *lost*. Both are in failures.jsonl, with their stage
and reason; only lost rows make `cft build` end with exit code 3.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cft_trl import __version__
from cft_trl.errors import CFTError, nearest
from cft_trl.evaluation.benchmarks import load_benchmark
from cft_trl.folders import check_writable, write_text
from cft_trl.installed import is_installed, require
from cft_trl.sources.corpus import run_source
from cft_trl.synthesis.decontaminate import run_decontaminate
from cft_trl.synthesis.distributed import ask_stage, check_tasks, run_distributed
from cft_trl.synthesis.filter_truth import needs_grader
from cft_trl.synthesis.filters import run_filter
from cft_trl.synthesis.live import Live
from cft_trl.synthesis.prices import Prices, read_prices
from cft_trl.synthesis.publish import run_publish
from cft_trl.synthesis.recipe import STAGES, Recipe, plain, to_yaml
from cft_trl.synthesis.stages import RowFile, StageReport, read_report, stage_path
from cft_trl.synthesis.teachers import parse_teacher

ASKING = ("respond", "critique", "refine")
_TASKS = "tasks"  # in done.json: what the tasks' files in the folder are made from


@dataclass
class Build:
    """A build, while it runs and when it is done.

    Attributes:
        card: Text for the dataset's card, below its title.
        reports: Of the stages that are done, in order.
        kept: Stages that had been done before.
    """

    folder: Path
    recipe: Recipe
    prices: Prices
    batch: bool = False
    card: str | None = None
    spread: Spread | None = None
    teacher_options: Mapping[str, Any] = field(default_factory=dict)
    only: str | None = None
    asked: bool = False  # whether the tasks of `spread` are done
    reports: dict[str, StageReport] = field(default_factory=dict)
    kept: list[str] = field(default_factory=list)

    @property
    def lost(self) -> int:
        """Rows for which there was no answer; see the top of this file."""
        return sum(self.reports[stage].failures.total() for stage in ASKING if stage in self.reports)


@dataclass(frozen=True)
class Spread:
    """Where respond, critique and refine run: in so many tasks of an executor ("local", "slurm" or "ray")."""

    executor: str
    tasks: int


def build(
    recipe: Recipe,
    folder: str | Path,
    *,
    batch: bool = False,
    only: str | None = None,
    card: str | None = None,
    spread: Spread | None = None,
    teacher_options: Mapping[str, Any] | None = None,
) -> Build:
    """Runs a recipe's stages in a folder, those that are not done yet.

    Args:
        recipe: What to do.
        folder: Where. The same folder again goes on from where it was.
        batch: Whether OpenAI's endpoint is asked through its Batch API, at half the price.
        only: Run this stage only, from what the stage before has left.
        card: Text for the dataset's card, below its title.
        spread: Runs the stages that ask in several tasks; in this process where there is none.
        teacher_options: Further arguments of `open_teachers`: what this machine can do, not what the dataset is.

    Returns:
        The build: its reports say what became of every row. On Slurm it may end before the tasks do: its reports then
        end with the stage `source`, and the same call later goes on.

    Raises:
        CFTError: A teacher that cannot be asked, data that cannot be read, another build in this folder, a full disk.
            What was done before is kept.
    """
    folder = Path(folder)
    if only is not None and only not in STAGES:
        raise CFTError(f"step {only!r}: unknown{nearest(only, STAGES)}; known: {', '.join(STAGES)}")
    teachers = {parse_teacher(text).model: text for stage in ASKING for text in teachers_of(recipe, stage)}
    job = Build(folder, recipe, read_prices(), batch, card, spread, teacher_options or {}, only)
    check_writable(folder)
    with locked(folder), Live(job.prices, teachers, batch, plain=bool(spread)) as live:
        marks, before = _read_marks(folder), ""
        for stage in STAGES[: STAGES.index(only) + 1] if only else STAGES:
            mark = _mark(job, stage, before)
            if stage == only or (only is None and not _is_done(folder, stage, marks.get(stage) == mark)):
                if stage in ASKING:
                    _check_installed(job, stage)
                    marks = _before_asking(job, stage, marks)
                # Later stages' marks go first: whatever ends this one, they are not taken for done.
                marks = {name: marks[name] for name in (*STAGES[: STAGES.index(stage)], _TASKS) if name in marks}
                _write_marks(folder, marks)
                live.begin(stage, list(job.reports.values())[-1].written if job.reports else recipe.source.limit)
                report = _run(job, stage, live.update)
                if report is None:
                    break
                live.end(report)
                _write_marks(folder, marks := {**marks, stage: mark})
            else:
                report = read_report(folder, stage)
                if report is None:
                    raise CFTError(f"step {only}: {folder} has no stage {stage} yet; run that first, or all of them")
                job.kept.append(stage)
                live.kept(stage, report)
            job.reports[stage], before = report, mark
        write_failures(folder)
    return job


def _check_installed(job: Build, stage: str) -> None:
    """What this stage and the filter after it need, asked before a teacher writes anything.

    Raises:
        CFTError: It is not installed.
    """
    if any(text.partition(":")[0] in ("openai", "vllm") for text in teachers_of(job.recipe, stage)):
        require("synth", "a teacher at an endpoint", "openai")
    settings = job.recipe.filter
    if job.only is not None:
        return
    if settings.near_duplicates:
        require("synth", "filter.near_duplicates", "datasketch")
    if settings.language:
        require("synth", "filter.language", "py3langid")
    if not is_installed("math_verify"):
        rows = RowFile(stage_path(job.folder, "source"))
        if any(needs_grader(row, settings.agree, settings.boxed) for row in rows):
            require("synth", "comparing verdicts with reference answers (filter.agree, filter.boxed)", "math_verify")


def teachers_of(recipe: Recipe, stage: str) -> tuple[str, ...]:
    """Whom an asking stage of a recipe asks; nobody where it passes its rows on."""
    settings = getattr(recipe, stage)
    if stage == "respond":
        return settings.models if settings.answers == "models" else ()
    if stage == "refine":
        return settings.teachers if settings.answers != "none" else ()
    return settings.teachers


def _run(job: Build, stage: str, progress: Callable[[Any], None]) -> StageReport | None:
    """Runs one stage on what the one before it left; None where it goes on without us."""
    recipe, folder = job.recipe, job.folder
    settings = getattr(recipe, stage)
    if stage == "source":
        return run_source(settings, folder, progress=progress)
    if stage in ASKING:
        options = {"batch": job.batch, "teacher_options": job.teacher_options}
        if not job.spread:
            return ask_stage(recipe, stage, folder, progress=progress, **options)
        if not job.asked:
            stages = (stage,) if job.only else ASKING[ASKING.index(stage) :]
            job.asked = run_distributed(recipe, folder, **vars(job.spread), stages=stages, **options)
        return read_report(folder, stage) if job.asked else None
    rows = RowFile(stage_path(folder, STAGES[STAGES.index(stage) - 1]))
    if stage == "filter":
        return run_filter(rows, settings, folder, progress=progress)
    if stage == "decontaminate":
        return run_decontaminate(rows, settings, folder, progress=progress)
    write_failures(folder)
    if not settings.name and not settings.repo:
        settings = replace(settings, name=recipe.name)
    reports = [with_cost(report, job) for report in job.reports.values()]
    return run_publish(
        rows, settings, folder, recipe=to_yaml(recipe), reports=reports, words=job.card, progress=progress
    )


def with_cost(report: StageReport, job: Build) -> StageReport:
    """The report, with what the tokens of its teachers cost."""
    if not report.details.get("teachers"):
        return report
    names = {parse_teacher(text).model: text for text in teachers_of(job.recipe, report.stage)}
    report = copy.deepcopy(report)
    for model, sums in report.details["teachers"].items():
        tokens = sums.get("prompt_tokens") or 0, sums.get("completion_tokens") or 0
        cost = job.prices.cost(names.get(model, "openai:" + model), *tokens, job.batch)
        sums["cost in US dollars"] = "unknown" if cost is None else round(cost, 4)
    if any(name.startswith("openai:") for name in names.values()):
        report.details["prices of"] = job.prices.date
    return report


def _before_asking(job: Build, stage: str, marks: dict[str, str]) -> dict[str, str]:
    """Sees that nothing is paid for in vain or twice, and that no task takes another recipe's files for its own."""
    check_tasks(job.folder, job.spread.tasks if job.spread else None)
    for name in job.recipe.decontaminate.names() if teachers_of(job.recipe, stage) else ():
        try:
            load_benchmark(name)
        except CFTError as error:
            raise CFTError(f"decontaminate: {error}; 'decontaminate.benchmarks=none' leaves it out") from None
    if not job.spread:
        return marks
    mark = _hash([plain(getattr(job.recipe, stage)) for stage in ASKING] + [marks.get("source")])
    if marks.get(_TASKS) != mark:
        for stage in ASKING:
            for report in (job.folder / "stages").glob(f"{stage}-task-*.json"):
                report.unlink()
        _write_marks(job.folder, marks := {**marks, _TASKS: mark})
    return marks


# ---- which stages are done ----


def _mark(job: Build, stage: str, before: str) -> str:
    """What a stage's files follow from: its settings, its input, and all that came before."""
    content: dict[str, Any] = {"version": __version__, "stage": stage, "settings": plain(getattr(job.recipe, stage))}
    content |= {"before": before, "input": [vars(report) for report in job.reports.values()][-1:]}
    if stage == "source" and job.recipe.source.path:
        content["files"] = _stamps(job.recipe.source.path)
    if stage == "publish":
        content |= {"recipe": to_yaml(job.recipe), "card": job.card, "prices": str(job.prices), "batch": job.batch}
    return _hash(content)


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _stamps(where: str) -> list[Any]:
    """Size and time of a source's local files; nothing for a Hub id."""
    path = Path(where).expanduser()
    if any(sign in where for sign in "*?["):
        files = sorted(Path(path.anchor or ".").glob(str(path.relative_to(path.anchor) if path.anchor else path)))
    else:
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return [(str(file), (stat := file.stat()).st_size, stat.st_mtime_ns) for file in files if file.is_file()]


def _is_done(folder: Path, stage: str, same: bool) -> bool:
    left = [stage_path(folder, stage, kind=kind) for kind in ("report", "rows", "failures")]
    return same and all(path.is_file() for path in [*left, *([folder / "README.md"] if stage == "publish" else [])])


def _marks_path(folder: Path) -> Path:
    return folder / "stages" / "done.json"


def _read_marks(folder: Path) -> dict[str, str]:
    try:
        marks = json.loads(_marks_path(folder).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return marks if isinstance(marks, dict) else {}


def _write_marks(folder: Path, marks: dict[str, str]) -> None:
    with told_if_full(folder):
        _marks_path(folder).parent.mkdir(parents=True, exist_ok=True)
        write_text(_marks_path(folder), json.dumps(marks, indent=1))


# ---- the folder ----


def write_failures(folder: Path) -> None:
    """Writes failures.jsonl: every stage's failures, in the stages' order."""
    partial = folder / ".failures.jsonl.partial"
    with told_if_full(folder):
        try:
            with open(partial, "wb") as out:
                for stage in STAGES:
                    path = stage_path(folder, stage, kind="failures")
                    if path.is_file():
                        with open(path, "rb") as lines:
                            shutil.copyfileobj(lines, out)
            os.replace(partial, folder / "failures.jsonl")
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds a build's folder.

    Raises:
        CFTError: Another process holds it.
    """
    import fcntl

    # The kernel drops the lock when the process ends, however it ends: no stale lock to remove by hand.
    with open(folder / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CFTError(
                f"{folder}: another build is running in this folder; wait for it to end or give another --output"
            ) from None
        yield


@contextmanager
def told_if_full(folder: Path) -> Iterator[None]:
    """A full disk in one line."""
    try:
        yield
    except OSError as error:
        raise CFTError(f"{folder}: cannot be written ({error.strerror or error}); make room and run it again") from None
