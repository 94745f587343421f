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
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cft_trl.data.digests import content_digest, package_digest
from cft_trl.data.folders import check_writable, locked, without_folders
from cft_trl.data.stage_files import RowFile, StageReport, read_report, stage_path
from cft_trl.environment import is_installed, require
from cft_trl.errors import CFTError, nearest
from cft_trl.generation.identities import key_of
from cft_trl.generation.journal import kept_answers
from cft_trl.generation.names import parse_model_name
from cft_trl.grading.benchmarks import load_benchmark
from cft_trl.sources.corpus import run_source
from cft_trl.sources.decontaminate import run_decontaminate
from cft_trl.synthesis.distributed import check_tasks, run_distributed
from cft_trl.synthesis.filter_truth import needs_grader
from cft_trl.synthesis.filters import run_filter
from cft_trl.synthesis.known_teachers import KnownTeachers
from cft_trl.synthesis.live import Live
from cft_trl.synthesis.marks import EARLIER, Marks, forget_earlier, set_aside, source_path
from cft_trl.synthesis.prices import Prices, read_prices
from cft_trl.synthesis.publish import run_publish
from cft_trl.synthesis.recipe import STAGES, Recipe, plain, to_yaml
from cft_trl.synthesis.run_stage import ASKING, ask_stage, teachers_of

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
    known: KnownTeachers = field(init=False)
    marks: Marks = field(init=False)
    reports: dict[str, StageReport] = field(default_factory=dict)
    kept: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.known = KnownTeachers(self.folder, self.teacher_options.get("vllm_options", ()))
        self.marks = Marks(self.folder)

    def teachers(self) -> list[str]:
        """Whom this run may ask, each once."""
        stages = (self.only,) if self.only else ASKING
        return list(
            dict.fromkeys(name for stage in stages if stage in ASKING for name in teachers_of(self.recipe, stage))
        )

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
    ask_again: bool = False,
    answers_of: str | None = None,
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
        ask_again: Asks its teachers for everything anew. The answers that there are stay in the journal, unused; the
            same call without it goes on with the newest.
        answers_of: The address that a server was asked at before: its answers are used at its new one, too.

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
    teachers = {parse_model_name(text).model: text for stage in ASKING for text in teachers_of(recipe, stage)}
    check_writable(folder)
    with (
        locked(folder, "build", "give another --output"),
        Live(read_prices(), teachers, batch, plain=bool(spread)) as live,
    ):
        job, before = Build(folder, recipe, read_prices(), batch, card, spread, teacher_options or {}, only), ""
        if answers_of:
            job.known.answers_of(answers_of, job.teachers())
        if ask_again:
            job.known.ask_again(job.teachers())
        for stage in STAGES[: STAGES.index(only) + 1] if only else STAGES:
            mark = _mark(job, stage, before)
            if stage == only or (only is None and not _is_done(folder, stage, job.marks.done.get(stage) == mark)):
                if stage in ASKING:
                    _check_installed(job, stage)
                _begin(job, stage)
                live.begin(stage, list(job.reports.values())[-1].written if job.reports else recipe.source.limit)
                report = _run(job, stage, live.update)
                if report is None:
                    break
                live.end(report)
                _end(job, stage, mark)
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
        require("synth", "a teacher at an endpoint", "openai", "aiohttp")
    settings = job.recipe.filter
    if job.only is not None:
        return
    if settings.near_duplicates:
        require("synth", "filter.near_duplicates", "datasketch")
    if settings.language:
        require("synth", "filter.language", "py3langid")
    if not is_installed("mpmath"):
        rows = RowFile(stage_path(job.folder, "source"))
        if any(needs_grader(row, settings.agree, settings.boxed) for row in rows):
            require("grade", "comparing verdicts with reference answers (filter.agree, filter.boxed)", "mpmath")


def _run(job: Build, stage: str, progress: Callable[[Any], None]) -> StageReport | None:
    """Runs one stage on what the one before it left; None where it goes on without us."""
    recipe, folder = job.recipe, job.folder
    settings = getattr(recipe, stage)
    if stage == "source":
        settings = replace(settings, revision=job.marks.revision(settings))
        return run_source(settings, folder, progress=progress)
    if stage in ASKING:
        return _ask(job, stage, progress)
    rows = RowFile(stage_path(folder, STAGES[STAGES.index(stage) - 1]))
    if stage == "filter":
        return run_filter(rows, settings, folder, progress=progress)
    if stage == "decontaminate":
        return run_decontaminate(rows, settings, folder, progress=progress)
    write_failures(folder)
    if not settings.name and not settings.repo:
        settings = replace(settings, name=recipe.name)
    reports = [with_cost(report, job) for report in job.reports.values()]
    as_run = to_yaml(recipe) + _who_answered(reports)
    return run_publish(rows, settings, folder, recipe=as_run, reports=reports, words=job.card, progress=progress)


def _ask(job: Build, stage: str, progress: Callable[[Any], None]) -> StageReport | None:
    """Runs a stage that asks, here or in tasks; None where the tasks go on without us."""
    recipe, folder = job.recipe, job.folder
    options: dict[str, Any] = {"batch": job.batch, "teacher_options": job.teacher_options}
    options["identities"] = {name: job.known.identity(name) for name in job.teachers()}
    if not job.spread:
        report: StageReport | None = ask_stage(recipe, stage, folder, progress=progress, **options)
        job.known.check_same(teachers_of(recipe, stage))
    else:
        if not job.asked:
            stages = (stage,) if job.only else ASKING[ASKING.index(stage) :]
            job.asked = run_distributed(recipe, folder, **vars(job.spread), stages=stages, **options)
            if not job.asked:
                return None
            job.known.check_same([name for one in stages for name in teachers_of(recipe, one)])
        report = read_report(folder, stage)
    for model, seen in report.details.get("fingerprints", {}).items() if report else ():
        if len(seen) > 1:
            told = ", ".join(f"{name} {count:,}" for name, count in seen.items())
            say(f"{stage}: the answers of {model} have {len(seen)} system fingerprints: {told}; its server changed")
    return report


def _who_answered(reports: Iterable[StageReport]) -> str:
    """Comments for the recipe as it was run: who each teacher was."""
    lines = [
        f"# {report.stage}: {model} was {', '.join(f'{name} {value}' for name, value in who.items())}\n"
        for report in reports
        for model, who in report.details.get("identities", {}).items()
    ]
    return "".join(lines)


def with_cost(report: StageReport, job: Build) -> StageReport:
    """The report, with what the tokens of its teachers cost."""
    if not report.details.get("teachers"):
        return report
    names = {parse_model_name(text).model: text for text in teachers_of(job.recipe, report.stage)}
    report = copy.deepcopy(report)
    for model, sums in report.details["teachers"].items():
        tokens = sums.get("prompt_tokens") or 0, sums.get("completion_tokens") or 0
        cost = job.prices.cost(names.get(model, "openai:" + model), *tokens, job.batch)
        sums["cost in US dollars"] = "unknown" if cost is None else round(cost, 4)
    if any(name.startswith("openai:") for name in names.values()):
        report.details["prices of"] = job.prices.date_of(names.values())
    return report


def _before_asking(job: Build, stage: str) -> None:
    """Sees that nothing is paid for in vain or twice, and that no task takes another recipe's files for its own."""
    check_tasks(job.folder, job.spread.tasks if job.spread else None)
    teachers = teachers_of(job.recipe, stage)
    for name in job.recipe.decontaminate.names() if teachers else ():
        try:
            load_benchmark(name)
        except CFTError as error:
            raise CFTError(f"decontaminate: {error}; 'decontaminate.benchmarks=none' leaves it out") from None
    # Tasks do all the stages that are left, so what there is to say is said before the first.
    for one in () if job.asked else ASKING[ASKING.index(stage) :] if job.spread and not job.only else (stage,):
        if names := teachers_of(job.recipe, one):
            for line in job.known.lines(one, names, kept_answers(job.folder / "journal", one)):
                say(line)
            job.known.save(names)
    if job.spread and not job.asked:
        every = [key_of(job.known.identity(name)) for name in job.teachers()]
        settings = [plain(getattr(job.recipe, stage)) for stage in ASKING]
        mark = content_digest([settings, job.marks.done.get("source"), package_digest(), every])
        if job.marks.done.get(_TASKS) != mark:
            for stage in ASKING:
                for report in (job.folder / "stages").glob(f"{stage}-task-*.json"):
                    report.unlink()
            job.marks.done[_TASKS] = mark


# ---- which stages are done ----


def _mark(job: Build, stage: str, before: str) -> str:
    """What a stage's files follow from; see marks.py."""
    more: dict[str, Any] = {"input": [vars(report) for report in job.reports.values()][-1:]}
    if stage in ASKING:
        more["teachers"] = [key_of(job.known.identity(name)) for name in teachers_of(job.recipe, stage)]
    if stage == "publish":
        more |= {"recipe": to_yaml(job.recipe), "card": job.card, "prices": str(job.prices), "batch": job.batch}
    mark = job.marks.of(job.recipe, stage, before, more)
    where = source_path(job.recipe.source) if stage == "source" else None
    if where in job.marks.moved:
        before, now = job.marks.moved[where]
        say(
            f"source: {where} is at another commit on the Hub ({before[:12]} before, {now[:12]} now) and is read anew; "
            "answers about rows that are as they were are used again; 'source.revision' pins a commit"
        )
    return mark


def _is_done(folder: Path, stage: str, same: bool) -> bool:
    left = [stage_path(folder, stage, kind=kind) for kind in ("report", "rows", "failures")]
    return same and all(path.is_file() for path in [*left, *([folder / "README.md"] if stage == "publish" else [])])


def _begin(job: Build, stage: str) -> None:
    """Before a stage runs: what is no longer true is no longer said."""
    if stage in ASKING:
        _before_asking(job, stage)
    with told_if_full(job.folder):
        job.marks.keep_only((*STAGES[: STAGES.index(stage)], _TASKS))
        if stage != "publish" and set_aside(job.folder):
            say(f"{stage} begins anew; what was published before lies in {job.folder / EARLIER} until the end")


def _end(job: Build, stage: str, mark: str) -> None:
    """After a stage has run."""
    job.marks.done[stage] = mark
    with told_if_full(job.folder):
        job.marks.write()
        if stage == "publish":
            forget_earlier(job.folder)


def say(line: str) -> None:
    """A line on standard error."""
    print(f"cft: {line}", file=sys.stderr, flush=True)


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
                            out.writelines(_public(line) for line in lines)
            os.replace(partial, folder / "failures.jsonl")
        finally:
            partial.unlink(missing_ok=True)


def _public(line: bytes) -> bytes:
    """A failure's line without the folders of this machine, for failures.jsonl is pushed with the dataset."""
    if b'"detail"' not in line or b"/" not in line:
        return line
    failure = json.loads(line)
    failure["detail"] = without_folders(str(failure["detail"]))
    return json.dumps(failure, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"


@contextmanager
def told_if_full(folder: Path) -> Iterator[None]:
    """A full disk in one line.

    Raises:
        CFTError: A file could not be written.
    """
    try:
        yield
    except OSError as error:
        raise CFTError(f"{folder}: cannot be written ({error.strerror or error}); make room and run it again") from None
