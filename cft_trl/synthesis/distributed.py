"""A build beyond one process: respond, critique and refine in tasks of a datatrove pipeline, here, on Slurm or on Ray.

    run_distributed(recipe, "out", executor="local", tasks=4)

The source is read once, by us, and cut into as many blocks of neighbouring rows as there are tasks, so that rows that
share a prompt's beginning stay together. Each task takes its block through the stages, with journals and files of its
own, and what they leave, one after the other, is what one process would have left:

    out/stages/source-task-00002-of-00004.jsonl       a task's rows
    out/journal/critique-task-00002-of-00004.jsonl    what it was answered
    out/stages/critique.jsonl, .failures.jsonl, .json the merged stage
    out/tasks/3f9a41c0d2e7/                           datatrove's own: logs/, completions/, launch_script.slurm

datatrove spreads the tasks and remembers which are done; asking, keeping and resuming are the stages' own. A task that
dies, even by `kill -9`, is told of, and the same command does what is missing.

Slurm: see `cft_trl.synthesis.slurm`. Ray is the cluster at RAY_ADDRESS, or this machine. Tasks on other machines need
the folder at the same path, and their keys in their environment. Each task opens its own teachers: `vllm:` starts one
server per task, so on one machine rather serve the model once and name it as `openai:MODEL@URL`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from itertools import islice
from pathlib import Path
from typing import Any

from cft_trl.data.folders import write_text
from cft_trl.data.stage_files import RowFile, StageReport, read_report, stage_path
from cft_trl.errors import CFTError, nearest
from cft_trl.models.identity import Identity
from cft_trl.synthesis.job import Job, check_installed, shard_name
from cft_trl.synthesis.known_teachers import KnownTeachers
from cft_trl.synthesis.recipe import Recipe
from cft_trl.synthesis.run_stage import ASKING, teachers_of
from cft_trl.synthesis.slurm import run_slurm
from cft_trl.synthesis.task_progress import telling

EXECUTORS = ("local", "slurm", "ray")
_SHARD = re.compile(r"-task-\d{5}-of-(\d{5})\.jsonl$")


def run_distributed(
    recipe: Recipe,
    folder: str | Path,
    *,
    executor: str = "local",
    tasks: int,
    workers: int | None = None,
    stages: Sequence[str] = ASKING,
    batch: bool = False,
    teacher_options: Mapping[str, Any] | None = None,
    identities: Mapping[str, Identity] | None = None,
) -> bool:
    """Runs the asking stages of a build in several tasks and merges what they leave.

    Args:
        recipe: The build's recipe.
        folder: Its folder. Where the stage `source` is not done in it, it is run first.
        executor: "local" (processes on this machine), "slurm" or "ray".
        tasks: How many blocks the rows are cut into. A folder keeps its number, as the journals are by block.
        workers: How many tasks run at once; by default as many as there are CPUs ("local"), or all.
        stages: Which of respond, critique and refine; the stage before the first must be done in the same tasks.
        batch, teacher_options: For `open_teachers`.
        identities: What each teacher is, by name; found out where it is not given (see `KnownTeachers`).

    Returns:
        Whether the stages are done and merged. False where the tasks go on without us (on Slurm): a line on standard
        error tells how, and the same call later merges them.

    Raises:
        CFTError: A task did not end well (told with its reason; the same call goes on), the folder was begun with
            another number of tasks, or the executor cannot be used here.
    """
    folder = Path(folder).resolve()
    if executor not in EXECUTORS:
        raise CFTError(f"executor {executor!r}: unknown{nearest(executor, EXECUTORS)}; give {', '.join(EXECUTORS)}")
    if tasks < 1:
        raise CFTError(f"tasks={tasks}: give a whole number from 1")
    check_tasks(folder, tasks)
    if read_report(folder, "source") is None:
        from cft_trl.sources.corpus import run_source

        run_source(recipe.source, folder)
    options = dict(teacher_options or {})
    if identities is None:
        known = KnownTeachers(folder, options.get("vllm_options", ()))
        names = [name for stage in stages for name in teachers_of(recipe, stage)]
        known.save(names)
        identities = {name: known.identity(name) for name in names}
    job = Job(recipe, folder, tasks, tuple(stages), batch, options, _cut_source(folder, tasks), identities)
    job.save()
    _forget_what_is_not_there(job)
    if job.missing():
        run: Callable[[Job, int], str | None] = {"local": _run_local, "slurm": run_slurm, "ray": _run_ray}[executor]
        told = run(job, min(workers or (os.cpu_count() or 1 if executor == "local" else tasks), tasks))
        if told:
            print(f"cft: {told}", file=sys.stderr)
            return False
    if missing := job.missing():
        raise CFTError(f"{_why(job, missing)}; what was answered is kept, and the same command goes on")
    for stage in job.stages:
        merge_stage(folder, stage, tasks)
    return True


def check_tasks(folder: str | Path, tasks: int | None) -> None:
    """Sees to it that a folder goes on as it began: its journals are one per stage, or one per stage and task.

    Args:
        folder: The build's folder.
        tasks: How many tasks are to work in it; None for a build in one process.

    Raises:
        CFTError: It holds answers of another number of tasks, which would be asked for again.
    """
    for path in sorted((Path(folder) / "journal").glob("*.jsonl")):
        found = _SHARD.search(path.name)
        if not path.stat().st_size or not (found or path.stem in ASKING):
            continue
        begun = int(found[1]) if found else None
        if begun != tasks:
            was = f"with --tasks {begun}" if begun else "without --executor"
            raise CFTError(
                f"{folder}: this build was begun {was}, and its answers are kept by task; go on like that, or give "
                "another --output"
            )


def merge_stage(folder: Path, stage: str, tasks: int) -> StageReport:
    """Joins a stage's files of all tasks, in their order; returns the report of the whole.

    Args:
        folder: The build's.
        stage: The stage.
        tasks: How many parts it has.

    Raises:
        CFTError: A part is missing, or the disk is full.
    """
    shards = [shard_name(rank, tasks) for rank in range(tasks)]
    reports: list[StageReport] = []
    for shard in shards:
        if (found := read_report(folder, stage, shard)) is None:
            raise CFTError(f"{folder}: stage {stage} of {shard} is not there; run it again")
        reports.append(found)
    whole = StageReport(stage)
    stage_path(folder, stage, kind="report").unlink(missing_ok=True)
    try:
        for kind in ("rows", "failures"):
            path = stage_path(folder, stage, kind=kind)
            partial = path.with_name(f".{path.name}.partial")
            with open(partial, "wb") as out:
                for shard in shards:
                    with open(stage_path(folder, stage, shard, kind), "rb") as part:
                        shutil.copyfileobj(part, out, 1 << 20)
            os.replace(partial, path)
        for report in reports:
            whole.read += report.read
            whole.written += report.written
            whole.failures.update(report.failures)
            _add_details(whole.details, report.details)
        write_text(stage_path(folder, stage, kind="report"), json.dumps(vars(whole), indent=1, ensure_ascii=False))
    except OSError as error:
        raise CFTError(f"{folder}: cannot be written ({error.strerror}); make room and run it again") from None
    return whole


def _add_details(whole: dict[str, Any], part: Mapping[str, Any]) -> None:
    """What each teacher was asked and gave adds up; the rest is the same in all tasks."""
    for name, value in part.items():
        if name not in ("teachers", "fingerprints"):
            whole.setdefault(name, value)
            continue
        sums = whole.setdefault(name, {})
        for model, counts in value.items():
            have = sums.setdefault(model, dict.fromkeys(counts, 0))
            for key, count in counts.items():
                have[key] = have.get(key, 0) + count


def _forget_what_is_not_there(job: Job) -> None:
    """Tasks that datatrove remembers as done run again where another job has had the files since, or they are gone."""
    latest, done = job.folder / "tasks" / "latest", job.logs / "completions"
    another = not latest.is_file() or latest.read_text(encoding="utf-8").strip() != job.logs.name
    for rank in range(job.tasks):
        if another or read_report(job.folder, job.stages[-1], shard_name(rank, job.tasks)) is None:
            (done / f"{rank:05d}").unlink(missing_ok=True)
    write_text(latest, job.logs.name)


def _cut_source(folder: Path, tasks: int) -> str:
    """Writes each task's block of the source's rows; returns a hash of all rows."""
    path, digest = stage_path(folder, "source"), hashlib.sha256()
    total = len(RowFile(path))
    with open(path, "rb") as lines:
        for rank in range(tasks):
            size = total * (rank + 1) // tasks - total * rank // tasks
            part = stage_path(folder, "source", shard_name(rank, tasks))
            partial = part.with_name(f".{part.name}.partial")
            with open(partial, "wb") as out:
                for line in islice(lines, size):
                    digest.update(line)
                    out.write(line)
            os.replace(partial, part)
    return digest.hexdigest()[:16]


def _why(job: Job, missing: Sequence[int]) -> str:
    """Which tasks did not end well, and the first one's reason."""
    for rank in missing:
        with suppress(OSError):
            told = (job.logs / "errors" / f"{rank:05d}").read_text(encoding="utf-8").strip()
            return f"{len(missing)} of {job.tasks} tasks did not end well; task {rank}: {told}"
    return (
        f"{len(missing)} of {job.tasks} tasks did not end well; task {missing[0]} died without a word (killed, "
        f"or out of memory); see {job.logs}"
    )


# ---- the executors ----


def _run_local(job: Job, workers: int) -> None:
    """Each task in a process of its own, in which datatrove's executor runs that one rank.

    Its process pool would wait for ever for a task that was killed.
    """
    from cft_trl.generation.vllm_server import process_group

    check_installed("datatrove")
    waiting = deque(job.missing())
    running: dict[int, subprocess.Popen[bytes]] = {}
    (job.logs / "output").mkdir(exist_ok=True)
    with ExitStack() as opened, telling(job):
        while waiting or running:
            while waiting and len(running) < workers:
                rank = waiting.popleft()
                command = [sys.executable, "-m", "cft_trl.synthesis.shards", str(job.path), str(rank)]
                output = opened.enter_context(open(job.logs / "output" / f"{rank:05d}.txt", "wb"))
                running[rank] = opened.enter_context(process_group(command, output))
            time.sleep(0.1)
            running = {rank: process for rank, process in running.items() if process.poll() is None}


def _run_ray(job: Job, workers: int) -> None:
    check_installed("datatrove")
    check_installed("ray")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray
    from datatrove.executor.ray import RayPipelineExecutor
    from loguru import logger

    from cft_trl.synthesis.shards import ShardStep

    ours = not ray.is_initialized()
    if ours:
        here: dict[str, Any] = (
            {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": workers, "include_dashboard": False}
        )
        try:
            ray.init(log_to_driver=False, logging_level=logging.ERROR, **here)
        except Exception as error:  # of any kind: no cluster there, no memory, a start that took too long
            at = f" at RAY_ADDRESS={os.environ['RAY_ADDRESS']}" if not here else ""
            raise CFTError(f"Ray{at} cannot be used: {type(error).__name__}: {error}") from None
    logger.disable("datatrove")
    try:
        with telling(job):
            RayPipelineExecutor(
                [ShardStep(str(job.path))], job.tasks, workers, logging_dir=str(job.logs), mem_per_cpu_gb=0.5
            ).run()
    finally:
        logger.enable("datatrove")
        if ours:
            ray.shutdown()
