"""A build in several tasks leaves what one process leaves, whoever runs the tasks and whatever kills them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest
from faulty_server import FaultyServer

from cft_trl.data.stage_files import RowFile, read_report, stage_path
from cft_trl.errors import CFTError
from cft_trl.sources.corpus import run_source
from cft_trl.synthesis.distributed import check_tasks, merge_stage, run_distributed
from cft_trl.synthesis.job import Job, shard_name
from cft_trl.synthesis.recipe import Recipe, plain, to_recipe
from cft_trl.synthesis.run_stage import ASKING, ask_stage

pytest.importorskip("datatrove")
pytest.importorskip("openai")


def recipe(teacher: str = "reference", limit: int = 30, **sections) -> Recipe:
    source = {"corpus": "arithmetic", "limit": limit, "levels": [1]}
    return to_recipe(
        {"name": "x", "source": source, "critique": {"teachers": [teacher], "samples": 2, "seed": 1}, **sections}
    )


def in_one_process(recipe: Recipe, folder: Path) -> dict[str, bytes]:
    run_source(recipe.source, folder)
    for stage in ASKING:
        ask_stage(recipe, stage, folder)
    return what_is_left(folder)


def what_is_left(folder: Path) -> dict[str, bytes]:
    """The content of the four stages' files."""
    kinds = ("rows", "failures", "report")
    paths = [stage_path(folder, stage, kind=kind) for stage in ("source", *ASKING) for kind in kinds]
    return {path.name: path.read_bytes() for path in paths}


def to_server(server: FaultyServer) -> str:
    return f"openai:m@{server.url}"


# ---- rows, cut and merged ----


def test_what_several_tasks_leave_is_what_one_process_leaves(tmp_path):
    mixed = tmp_path / "rows.jsonl"  # every third row is one that the reference teacher cannot judge
    lines = [{"id": f"r{n}", "query": f"What is {n} + {n}?", "response": f"{2 * n}"} for n in range(20)]
    for n, line in enumerate(lines):
        line |= {} if n % 3 == 0 else {"reference_answer": str(2 * n + n % 2)}
    mixed.write_text("".join(json.dumps(line) + "\n" for line in lines))
    ours = recipe(source={"corpus": "local", "path": str(mixed)})
    expected = in_one_process(ours, tmp_path / "one")
    assert run_distributed(ours, tmp_path / "three", tasks=3, workers=2)
    assert what_is_left(tmp_path / "three") == expected
    report = read_report(tmp_path / "three", "critique")
    assert (report.read, report.written, dict(report.failures)) == (20, 26, {"nothing to check": 14})
    # Done is done: the call again runs no task.
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "three" / "journal").iterdir()}
    assert len(stamps) == 4  # one for each task, and whom they ask
    assert run_distributed(ours, tmp_path / "three", tasks=3)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "three" / "journal").iterdir()} == stamps
    stage_path(tmp_path / "three", "refine", shard_name(1, 3), "report").unlink()  # remembered as done, and is not
    assert run_distributed(ours, tmp_path / "three", tasks=3)
    assert what_is_left(tmp_path / "three") == expected


@pytest.mark.slow
def test_an_endpoint_that_fails_in_every_way_makes_no_difference(tmp_path):
    with FaultyServer(faults=0.2, retry_after="0.01") as server:
        ours = recipe(to_server(server), refine={"answers": "teacher", "teachers": [to_server(server)]})
        options = {"timeout": 2.0}
        run_source(ours.source, tmp_path / "one")
        for stage in ASKING:
            ask_stage(ours, stage, tmp_path / "one", teacher_options=options)
        assert run_distributed(ours, tmp_path / "two", tasks=2, teacher_options=options)
    assert what_is_left(tmp_path / "two") == what_is_left(tmp_path / "one")
    assert read_report(tmp_path / "two", "refine").written == 60


def test_more_tasks_than_rows_and_a_stage_alone(tmp_path):
    ours = recipe(limit=2)
    expected = in_one_process(ours, tmp_path / "one")
    assert run_distributed(ours, tmp_path / "many", tasks=3, stages=("respond", "critique"))
    assert [len(RowFile(stage_path(tmp_path / "many", "source", shard_name(n, 3)))) for n in range(3)] == [0, 1, 1]
    assert read_report(tmp_path / "many", "refine") is None
    assert run_distributed(ours, tmp_path / "many", tasks=3, stages=("refine",))
    assert what_is_left(tmp_path / "many") == expected


def test_recipes_that_take_turns_in_a_folder_do_not_mix(tmp_path):
    for samples in (1, 2, 1):
        ours = recipe(limit=4, critique={"teachers": ["reference"], "samples": samples})
        assert run_distributed(ours, tmp_path, tasks=1)
        assert read_report(tmp_path, "refine").written == 4 * samples


def test_a_task_that_is_missing_is_not_merged_over(tmp_path):
    run_source(recipe().source, tmp_path, shard=shard_name(0, 2))
    with pytest.raises(CFTError, match="source of task-00001-of-00002 is not there"):
        merge_stage(tmp_path, "source", 2)
    assert not stage_path(tmp_path, "source").exists()


def test_a_folder_goes_on_with_as_many_tasks_as_it_began(tmp_path):
    ours = recipe(limit=4)
    assert run_distributed(ours, tmp_path / "two", tasks=2)
    with pytest.raises(CFTError, match="begun with --tasks 2, "):
        run_distributed(ours, tmp_path / "two", tasks=4)
    with pytest.raises(CFTError, match="begun with --tasks 2, "):
        check_tasks(tmp_path / "two", None)
    in_one_process(ours, tmp_path / "one")
    check_tasks(tmp_path / "one", None)
    with pytest.raises(CFTError, match="begun without --executor"):
        run_distributed(ours, tmp_path / "one", tasks=2)
    check_tasks(tmp_path / "new", 7)


def test_a_job_is_read_as_it_was_written_and_another_recipe_is_another_job(tmp_path):
    job = Job(recipe(), tmp_path, 3, ("critique",), True, {"max_concurrency": 4}, "0f")
    job.save()
    assert Job.load(job.path) == job
    others = [Job(recipe(limit=9), tmp_path, 3, ("critique",), True, {}, "0f")]
    assert others[0].logs == job.logs  # the rows say what the source was
    changed = recipe(critique={"teachers": ["reference"], "samples": 3})
    assert Job(changed, tmp_path, 3, ("critique",), True, {}, "0f").logs != job.logs
    assert Job(recipe(), tmp_path, 3, ("critique",), True, {}, "10").logs != job.logs


# ---- faults ----


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"executor": "loca", "tasks": 2}, "did you mean 'local'"),
        ({"executor": "local", "tasks": 0}, "tasks=0"),
        ({"executor": "slurm", "tasks": 2}, "no partition"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, monkeypatch, options, told):
    monkeypatch.delenv("CFT_SLURM", raising=False)
    with pytest.raises(CFTError, match=told):
        run_distributed(recipe(limit=2), tmp_path, **options)


def test_a_tasks_error_is_told_in_one_line(tmp_path, monkeypatch):
    with FaultyServer() as server:
        monkeypatch.setenv("OPENAI_API_KEY", "planted-wrong-key")
        with pytest.raises(CFTError, match=r"2 of 2 tasks did not end well; task 0: .*set OPENAI_API_KEY") as told:
            run_distributed(recipe(to_server(server)), tmp_path, tasks=2)
        assert "planted-wrong" not in str(told.value)
        monkeypatch.delenv("OPENAI_API_KEY")
        assert run_distributed(recipe(to_server(server)), tmp_path, tasks=2)
    everything = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"planted-wrong" not in everything


def lead(ours: Recipe, folder: Path, executor: str = "local") -> subprocess.Popen[str]:
    """A process that leads a build in two tasks, and ends as `cft` does."""
    script = f"""\
        import json, sys
        from cft_trl.errors import CFTError
        from cft_trl.synthesis.distributed import run_distributed
        from cft_trl.synthesis.recipe import to_recipe
        recipe, slowly = to_recipe(json.loads({json.dumps(plain(ours))!r})), dict(max_concurrency=4)
        try:
            run_distributed(recipe, {str(folder)!r}, executor={executor!r}, tasks=2, teacher_options=slowly)
        except CFTError as error:
            print(error, file=sys.stderr)
            sys.exit(2)
        """
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stderr=subprocess.PIPE, text=True)


def wait_for(found, what: str, seconds: float = 240.0):
    until = time.monotonic() + seconds
    while not (result := found()):
        assert time.monotonic() < until, f"{what}: not within {seconds} s"
        time.sleep(0.05)
    return result


def asking_tasks(process: subprocess.Popen, folder: Path) -> list[psutil.Process]:
    """The processes that hold a task's critique journal open, once some answers are in each."""
    journals = sorted((folder / "journal").glob("critique-task-*.jsonl"))
    if len(journals) < 2 or any(len(path.read_bytes().splitlines()) < 5 for path in journals):
        return []
    tasks = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if any(file.path == str(journals[0]) for file in child.open_files()):
                tasks.append(child)
        except psutil.Error:
            pass
    return tasks


def kill_and_go_on(tmp_path: Path, executor: str, whom: str) -> None:
    with FaultyServer(delay=0.3) as server:
        ours = recipe(to_server(server), limit=120)
        process = lead(ours, tmp_path / "out", executor)
        try:
            [task] = wait_for(lambda: asking_tasks(process, tmp_path / "out"), "a task that asks")
            if whom == "lead":
                process.kill()
                _, gone_or_alive = psutil.wait_procs([task], timeout=20)
                assert not gone_or_alive, "a task outlives its lead"
            else:
                task.send_signal(signal.SIGKILL)
                assert "died without a word" in process.communicate(timeout=120)[1]
                assert process.returncode == 2
        finally:
            process.kill()
            process.communicate()
        journals = (tmp_path / "out" / "journal").glob("*.jsonl")
        kept = sum(len(path.read_bytes().splitlines()) for path in journals)
        asked = server.arrived.total()
        assert 10 <= kept < 240
        server.delay = 0
        assert run_distributed(ours, tmp_path / "out", executor=executor, tasks=2)
        assert server.arrived.total() - asked == 240 - kept  # nothing that was answered and kept is asked again
        assert what_is_left(tmp_path / "out") == in_one_process(ours, tmp_path / "one")


@pytest.mark.slow
@pytest.mark.parametrize("whom", ["task", "lead"])
def test_what_is_killed_goes_on_and_asks_nothing_again(tmp_path, whom):
    kill_and_go_on(tmp_path, "local", whom)


# ---- Slurm and Ray ----

SLURM = {
    # Runs each task of the array at once, and answers with the job's number.
    "sbatch": """\
        echo "$@" >> {log}; export SLURM_NODELIST=here SLURM_JOB_ID=77
        script=$(eval echo \\${{$#}})
        case "$(grep -o 'launch_pickled_pipeline' $script)" in
            launch*) for n in 0 1 2; do SLURM_ARRAY_TASK_ID=$n bash $script >> {log}.out 2>&1; done ;;
        esac
        echo Submitted batch job 77""",
    "srun": 'while [ "${{1#-}}" != "$1" ]; do [ "$1" = -n ] && shift; shift; done; exec "$@"',
    "scontrol": "echo here",
    "squeue": "cat {log}.queue 2>/dev/null",
}


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Stands in for Slurm's commands; the file `log` holds what sbatch was given."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    for name, script in SLURM.items():
        (folder / name).write_text("#!/bin/bash\n" + textwrap.dedent(script).format(log=folder / "log") + "\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("CFT_SLURM", "partition=short time=1:00:00 mem-per-cpu-gb=3 account=lab")
    return folder


def test_slurm_runs_the_script_and_the_same_call_merges(tmp_path, slurm, capsys):
    ours = recipe(limit=7)
    assert not run_distributed(ours, tmp_path / "out", executor="slurm", tasks=3)
    assert "submitted as Slurm job 77" in capsys.readouterr().err
    [script] = (tmp_path / "out" / "tasks").glob("*/launch_script.slurm")
    text = script.read_text()
    assert subprocess.run(["bash", "-n", str(script)]).returncode == 0
    assert len(list(script.parent.glob("completions/*"))) == 3, (slurm / "log.out").read_text()
    for line in ("partition=short", "time=1:00:00", "mem-per-cpu=3G", "account=lab", "array=0-2", "job-name=cft-x"):
        assert f"#SBATCH --{line}\n" in text
    assert "qos" not in text
    (slurm / "log.queue").write_text("77 short cft-x\n")
    (script.parent / "completions" / "00001").unlink()
    assert not run_distributed(ours, tmp_path / "out", executor="slurm", tasks=3)
    assert "job 77 is under way (2 of 3 tasks done)" in capsys.readouterr().err
    (script.parent / "completions" / "00001").touch()
    assert run_distributed(ours, tmp_path / "out", executor="slurm", tasks=3)
    assert what_is_left(tmp_path / "out") == in_one_process(ours, tmp_path / "one")


def test_without_sbatch_the_script_is_left_and_told_of(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CFT_SLURM", "partition=short")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert not run_distributed(recipe(limit=3), tmp_path, executor="slurm", tasks=3)
    [line] = capsys.readouterr().err.splitlines()
    [script] = tmp_path.glob("tasks/*/launch_script.slurm")
    assert f"run `sbatch --export=ALL,RUN_OFFSET=0 {script}`" in line
    assert subprocess.run(["bash", "-n", str(script)]).returncode == 0


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("partition", "write key=value"),
        ("partition=short gpus_per_task=one", "give a whole number"),
        ("partition=short workers=4", "workers: --workers says it; leave it out"),
        ("partition=short sbatch_args=x", "sbatch_args: the build says it"),
        ("partition=short job_name='\"'", "is no shell script"),
    ],
)
def test_wrong_options_for_slurm_are_told(tmp_path, monkeypatch, options, told):
    monkeypatch.setenv("CFT_SLURM", options)
    with pytest.raises(CFTError, match=told):
        run_distributed(recipe(limit=3), tmp_path, executor="slurm", tasks=3)


@pytest.mark.slow
def test_ray_leaves_what_one_process_leaves(tmp_path):
    pytest.importorskip("ray")
    ours = recipe(limit=20)
    assert run_distributed(ours, tmp_path / "ray", executor="ray", tasks=3, workers=2)
    assert what_is_left(tmp_path / "ray") == in_one_process(ours, tmp_path / "one")


@pytest.mark.slow
def test_a_lead_that_is_killed_on_ray_goes_on(tmp_path):
    pytest.importorskip("ray")
    kill_and_go_on(tmp_path, "ray", "lead")


@pytest.mark.slow
@pytest.mark.parametrize("whom", ["task", "actor"])
def test_a_task_that_is_killed_on_ray_is_run_again_by_itself(tmp_path, whom):
    pytest.importorskip("ray")
    with FaultyServer(delay=0.3) as server:
        ours = recipe(to_server(server), limit=120)
        process = lead(ours, tmp_path / "ray", "ray")
        try:
            [task] = wait_for(lambda: asking_tasks(process, tmp_path / "ray"), "a task that asks")
            (task if whom == "task" else task.parent()).send_signal(signal.SIGKILL)
            told = process.communicate(timeout=120)[1]  # datatrove's executor alone would wait for ever
            assert process.returncode == 0, told
        finally:
            process.kill()
            process.communicate()
        assert server.arrived.total() - 240 <= 4  # again asked is only what was under way
        assert what_is_left(tmp_path / "ray") == in_one_process(ours, tmp_path / "one")
