"""One task of a distributed build, as a step of a datatrove pipeline; see `cft_trl.synthesis.distributed`.

    LocalPipelineExecutor([ShardStep("out/tasks/3f9a41c0d2e7/job.json")], tasks=4, ...).run()
    python -m cft_trl.synthesis.shards out/tasks/3f9a41c0d2e7/job.json 2      task 2 of it, in this process

It takes no documents and gives none: rows come from the task's block of the source and go to the task's stage files.
datatrove's InferenceRunner is not used: a single 429 or 500 from the endpoint aborts its whole task.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from datatrove.pipeline.base import PipelineStep

from cft_trl.synthesis.job import Job, shard_name
from cft_trl.synthesis.run_stage import ask_stage


class ShardStep(PipelineStep):
    """Runs a job's stages on one task's block.

    Args:
        job: The path of its `job.json`. No more than that is pickled and logged: a recipe's texts stay where they are.
    """

    name = "critiques"
    type = "cft"

    def __init__(self, job: str) -> None:
        super().__init__()
        self.job = job

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Any:
        """Leaves the stages' files of task `rank` of `world_size`.

        Args:
            data: Is passed on.
            rank: Which task this is.
            world_size: How many there are.

        Raises:
            CFTError: As a stage does; its message is kept for the lead in `errors/`.
        """
        job = Job.load(self.job)
        with _told(job.logs / "errors" / f"{rank:05d}"), _not_without_us():
            for stage in job.stages:
                report = ask_stage(
                    job.recipe,
                    stage,
                    job.folder,
                    shard=shard_name(rank, world_size),
                    batch=job.batch,
                    teacher_options=job.teacher_options,
                    identities=job.identities,
                )
                self.stat_update(f"{stage} rows", value=report.written)
                self.stat_update(f"{stage} failures", value=report.failures.total())
        return data


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Keeps an error's message for the lead, who sees of a task only whether it is done."""
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    try:
        yield
    except Exception as error:
        path.write_text(str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}", "utf-8")
        raise


@contextmanager
def _not_without_us() -> Iterator[None]:
    """On Ray a task runs in a process that its actor forked, and the actor would wait for ever for one that was killed.

    So it is not to outlive the task: Ray notices an actor's death, and runs the task again. The other way round Ray
    itself ends what a dead actor has left.
    """
    if os.environ.get("DATATROVE_EXECUTOR") != "RAY":
        yield
        return
    watch = ["sh", "-c", f"read -r done || kill -KILL {os.getppid()}"]
    with subprocess.Popen(watch, stdin=subprocess.PIPE, start_new_session=True) as guard:
        assert guard.stdin is not None  # a pipe
        try:
            yield
        finally:
            with suppress(OSError):
                guard.stdin.write(b"done\n")


def main() -> None:
    """One task, as datatrove's local executor runs it."""
    from datatrove.executor.local import LocalPipelineExecutor

    job, rank = Job.load(sys.argv[1]), int(sys.argv[2])
    step = ShardStep(sys.argv[1])
    LocalPipelineExecutor(
        [step], job.tasks, workers=1, logging_dir=str(job.logs), local_tasks=1, local_rank_offset=rank
    ).run()


if __name__ == "__main__":
    main()
