"""A distributed build on Slurm: the script, its check and its submission, through datatrove's executor.

    CFT_SLURM="partition=gpu time=24:00:00 gpus_per_task=1 account=lab" cft build ... --executor slurm --tasks 16

A word of CFT_SLURM is a field of datatrove's `SlurmPipelineExecutor` (partition, time, cpus_per_task, mem_per_cpu_gb,
gpus_per_task, ...), and else an option of sbatch. One job array does all tasks. The first call submits it, the same
call again says how far it is, and when it is done merges what it left.
"""

from __future__ import annotations

import inspect
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from cft_trl.data.folders import write_text
from cft_trl.errors import CFTError
from cft_trl.synthesis.job import Job, check_installed

SLURM = "CFT_SLURM"

_EXAMPLE = f"{SLURM}='partition=gpu time=24:00:00 gpus_per_task=1'"
_MOST_ARRAY = 1001  # Slurm's usual limit on the tasks of one array


def run_slurm(job: Job, workers: int) -> str:
    """Writes the script and, where there is sbatch, submits it; returns what is left to do.

    Raises:
        CFTError: datatrove is not installed, a word of CFT_SLURM is none or no partition is among them, the script that
            they give is no shell script, it cannot name the folder, or sbatch refuses it.
    """
    check_installed("datatrove")
    from datatrove.executor.slurm import SlurmPipelineExecutor
    from loguru import logger

    from cft_trl.synthesis.shards import ShardStep

    if queued := _queued(job):
        done = job.tasks - len(job.missing())
        return f"Slurm job {queued} is under way ({done} of {job.tasks} tasks done); the same command later merges it"
    if re.search(r"[\s\"'$`\\]", str(job.logs)):
        raise CFTError(f"{job.folder}: Slurm's script cannot name this folder; give one without spaces and quotes")
    executor = SlurmPipelineExecutor(
        [ShardStep(str(job.path))],
        tasks=job.tasks,
        workers=workers if workers < job.tasks else -1,
        logging_dir=str(job.logs),
        tasks_per_job=-(-job.tasks // _MOST_ARRAY),
        **_slurm_settings(job.recipe.name),
    )
    script = job.logs / "launch_script.slurm"
    _check_script(executor)
    logger.disable("datatrove")
    try:
        executor.run()
    except FileNotFoundError as error:
        if error.filename != "sbatch":
            raise
        command = f"sbatch --export=ALL,RUN_OFFSET=0 {shlex.quote(str(script))}"
        return (
            f"there is no sbatch here; where there is, run `{command}`, and when the job is done the same command again"
        )
    except subprocess.CalledProcessError as error:
        raise CFTError(f"sbatch did not take {script} (exit code {error.returncode}); see {SLURM}") from None
    finally:
        logger.enable("datatrove")
    write_text(job.logs / "slurm_job", str(executor.job_id))
    return f"submitted as Slurm job {executor.job_id} ({script}); when it is done, the same command merges what it left"


def _slurm_settings(name: str) -> dict[str, Any]:
    from datatrove.executor.slurm import SlurmPipelineExecutor

    known = inspect.signature(SlurmPipelineExecutor.__init__).parameters
    ours = {"pipeline": "the build", "tasks": "--tasks", "workers": "--workers", "logging_dir": "--output"}
    ours |= dict.fromkeys(("tasks_per_job", "sbatch_args", "self"), "the build")
    settings: dict[str, Any] = {"time": "24:00:00", "job_name": f"cft-{name}", "qos": "", "sbatch_args": {}}
    activate = Path(sys.prefix) / "bin" / "activate"
    settings["env_command"] = (
        f"source {shlex.quote(str(activate))}"
        if activate.is_file()
        else f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH"
    )
    for word in shlex.split(os.environ.get(SLURM, "")):
        key, equals, value = word.lstrip("-").partition("=")
        if not equals or not re.fullmatch(r"[\w-]+", key):
            raise CFTError(
                f"{SLURM}: {word!r}: write key=value, e.g. {SLURM}='partition=gpu time=24:00:00 account=lab'"
            )
        if key.replace("-", "_") in ours:
            raise CFTError(f"{SLURM}: {key}: {ours[key.replace('-', '_')]} says it; leave it out")
        if key.replace("-", "_") in known:
            kind = known[key.replace("-", "_")].annotation
            if kind == "int" and not value.lstrip("-").isdecimal():
                raise CFTError(f"{SLURM}: {key}={value}: give a whole number")
            settings[key.replace("-", "_")] = int(value) if kind == "int" else value
        else:
            settings["sbatch_args"][key] = value
    if "partition" not in settings:
        raise CFTError(f"{SLURM}: no partition; set e.g. {_EXAMPLE}")
    return settings


def _check_script(executor: Any) -> None:
    """An option with a stray quote in it is found here and not in the queue."""
    text = executor.get_launch_file_contents(executor.get_sbatch_args(1), "true")
    checked = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True)
    if checked.returncode:
        raise CFTError(f"{SLURM}: the script that it gives is no shell script ({checked.stderr})")


def _queued(job: Job) -> str | None:
    """The job that was submitted, if it is still in the queue."""
    try:
        number = (job.logs / "slurm_job").read_text(encoding="utf-8").strip()
        asked = subprocess.run(["squeue", "-h", "-j", number], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return number if asked.returncode == 0 and asked.stdout.strip() else None
