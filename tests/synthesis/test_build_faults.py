"""Builds that are killed, cut off and fed wrong things: the real command in processes of its own."""

from __future__ import annotations

import itertools
import json
import re
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from faulty_server import KEY, FaultyServer

from cft_trl.cli import main
from cft_trl.data.stage_files import RowFile, stage_path
from cft_trl.synthesis.recipe import STAGES

RECIPE = (
    "name: faults\nsource: {corpus: arithmetic, limit: 40}\nfilter: {agree: off}\ndecontaminate: {benchmarks: none}\n"
)
CFT = [sys.executable, "-m", "cft_trl.cli", "build"]
KILLS = 3


def run(arguments: list[str], **options) -> subprocess.CompletedProcess:
    return subprocess.run([*CFT, *arguments], capture_output=True, text=True, timeout=240, **options)


@pytest.fixture
def call(capsys):
    """The command in this process, where nothing is killed: `call(arguments)` as `run`."""

    def call(arguments: list[str]) -> subprocess.CompletedProcess:
        capsys.readouterr()
        code = main(["build", *arguments])
        return subprocess.CompletedProcess(arguments, code, *capsys.readouterr())

    return call


@pytest.fixture
def recipe_file(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return path


def arguments(recipe_file: Path, folder: Path, url: str, *more: str) -> list[str]:
    return [str(recipe_file), "--output", str(folder), "--teacher", f"openai:m@{url}", "--timeout", "1", *more]


def files(folder: Path) -> dict[str, bytes]:
    """All that a build leaves but its journal, whose lines stand in the order of the answers."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.parent.name != "journal"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def killed_builds(server: FaultyServer, command: list[str], journal: Path, rows: int) -> None:
    """Starts the command and kills it when so much of the journal is there; restarts the server in between."""
    for number in range(1, KILLS + 1):
        process = subprocess.Popen([*CFT, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120 + rows / 5
        while lines(journal) < rows * number // (KILLS + 1):
            assert process.poll() is None, "it ended before it was to be killed"
            assert time.monotonic() < deadline, "it hardly goes on"
            time.sleep(0.01)
        if number == 2:  # the server goes away under a running build, and comes back
            server.stop()
            time.sleep(0.3)
            server.start()
            there = lines(journal)
            while lines(journal) <= there:
                assert process.poll() is None, "it did not outlive the server's restart"
                time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL


def run_through_faults(tmp_path: Path, recipe_file: Path, rows: int) -> None:
    at_once = rows // 12
    limits = ("--limit", str(rows), "--max-concurrency", str(at_once), "--timeout", "3")
    began = time.monotonic()
    with FaultyServer(faults=0.2) as server:
        command = arguments(recipe_file, tmp_path / "killed" / "out", server.url, *limits)
        journal = tmp_path / "killed" / "out" / "journal" / "critique.jsonl"
        killed_builds(server, command, journal, rows)
        last = run(command)
        assert last.returncode == 0, last.stderr
        took = time.monotonic() - began
        port, answered, arrived = server.port, server.answered, server.arrived.total()
    folder = tmp_path / "killed" / "out"
    assert len(answered) == rows
    again = {key: count for key, count in answered.items() if count > 1}
    # What was in flight at a kill, or under the server's restart, was answered and never read.
    assert sum(again.values()) - len(again) <= (KILLS + 1) * at_once
    ids = [row["id"] for row in RowFile(stage_path(folder, "decontaminate"))]
    ids += [line["row"] for line in RowFile(folder / "failures.jsonl")]
    assert sorted(ids) == sorted(row["id"] for row in RowFile(stage_path(folder, "source")))
    assert len(ids) == len(set(ids)) == rows

    with FaultyServer() as smooth:
        smooth.stop()
        smooth.port = port  # the recipe as run names the address
        smooth.start()
        whole = run([*command[:2], str(tmp_path / "whole" / "out"), *command[3:]])
    assert whole.returncode == 0, whole.stderr
    assert files(tmp_path / "whole" / "out") == files(folder)
    told = f"{arrived} requests, {arrived - rows} more than rows, {len(again)} of them answered before"
    print(f"\n{rows} rows, {KILLS} kills: {took:.0f} s, {told}")


@pytest.mark.slow
def test_a_build_that_was_killed_three_times_is_the_same(tmp_path, recipe_file):
    run_through_faults(tmp_path, recipe_file, 200)


@pytest.mark.slow
def test_a_build_of_2000_rows_that_was_killed_three_times_is_the_same(tmp_path, recipe_file):
    run_through_faults(tmp_path, recipe_file, 2000)


@pytest.mark.parametrize("stage", [pytest.param("filter", marks=pytest.mark.slow), "publish"])
def test_a_kill_between_asking_and_publishing_leaves_nothing_half(tmp_path, recipe_file, stage):
    """Killed in the middle of a stage's writing: the next run makes the same files."""
    kill = (
        "import os, sys, cft_trl.data.stage_files as stages, cft_trl.synthesis.build as building\n"
        f"run, name = building.run_{stage}, {stage!r}\n"
        "def killed(rows, settings, folder, *rest, **options):\n"
        "    def some():\n"
        "        for number, row in enumerate(rows):\n"
        "            if number == 7: os.kill(os.getpid(), 9)\n"
        "            yield row\n"
        "    class Rows:\n"
        "        __iter__ = lambda self: some()\n"
        "    return run(Rows(), settings, folder, *rest, **options)\n"
        f"building.run_{stage} = killed\n"
        "from cft_trl.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    command = [str(recipe_file), "--teacher", "reference", "--output"]
    folder = tmp_path / "killed" / "out"
    process = subprocess.run(
        [sys.executable, "-c", kill, "build", *command, str(folder)], capture_output=True, timeout=120
    )
    assert process.returncode == -signal.SIGKILL
    assert not stage_path(folder, stage).exists()
    assert not (folder / "README.md").exists()
    assert run([*command, str(folder)]).returncode == 0
    assert run([*command, str(tmp_path / "whole" / "out")]).returncode == 0
    assert files(folder) == files(tmp_path / "whole" / "out")


def test_ctrl_c_is_one_line_and_the_same_command_goes_on(tmp_path, recipe_file):
    with FaultyServer(delay=0.1) as server:
        command = arguments(recipe_file, tmp_path / "out", server.url, "--max-concurrency", "4", "--limit", "24")
        process = subprocess.Popen([*CFT, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while lines(tmp_path / "out" / "journal" / "critique.jsonl") < 8:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 130
        assert err.splitlines()[-1] == "cft: stopped; the same command goes on from where it was"
        assert "Traceback" not in err
        assert run(command).returncode == 0
        assert server.arrived.total() <= 24 + 4, "only what was in flight was asked for again"


# ---- wrong things ----


def refused(process: subprocess.CompletedProcess) -> str:
    """The one line that a run ended with."""
    assert process.returncode == 2, process.stderr
    assert "Traceback" not in process.stderr
    told = [line for line in process.stderr.splitlines() if not re.search(r"\(0:\d\d:\d\d\)$", line)]
    assert len(told) == 1, process.stderr
    return told[0]


def test_a_server_that_is_not_there(tmp_path, recipe_file, call):
    told = refused(call(arguments(recipe_file, tmp_path / "out", "http://127.0.0.1:9/v1")))
    assert "the server cannot be reached" in told
    assert "127.0.0.1:9" in told


def test_a_wrong_key_is_told_and_stands_nowhere(tmp_path, recipe_file, call, monkeypatch):
    wrong = "planted-wrong-5d1c"
    monkeypatch.setenv("OPENAI_API_KEY", wrong)
    with FaultyServer() as server:
        process = call(arguments(recipe_file, tmp_path / "out", server.url))
    assert "the key is not accepted; set OPENAI_API_KEY" in refused(process)
    stands_nowhere(wrong, tmp_path, process)


def test_the_right_key_stands_nowhere_either(tmp_path, recipe_file, call):
    with FaultyServer(faults=0.2) as server:
        process = call(arguments(recipe_file, tmp_path / "out", server.url))
    assert process.returncode == 0, process.stderr
    stands_nowhere(KEY, tmp_path, process)


def stands_nowhere(key: str, folder: Path, process: subprocess.CompletedProcess) -> None:
    assert key not in process.stdout + process.stderr
    found = [path for path in folder.rglob("*") if path.is_file() and key.encode() in path.read_bytes()]
    assert not found


def test_an_unknown_model(tmp_path, recipe_file, call):
    with FaultyServer(models="another") as server:
        told = refused(call(arguments(recipe_file, tmp_path / "out", server.url)))
    assert "no such model" in told
    assert "teacher m at" in told


def test_a_teacher_of_an_unknown_kind_is_refused_before_anything_is_read(tmp_path, recipe_file, call):
    told = refused(call([str(recipe_file), "--output", str(tmp_path / "out"), "--teacher", "opnai:gpt-4o"]))
    assert "did you mean 'openai'?" in told
    assert not (tmp_path / "out").exists()


def test_rows_that_cannot_be_asked_about_or_answered_are_failures_with_reasons(tmp_path, recipe_file, call):
    texts = {"fine": "42", "long": "TOO-LONG", "filtered": "FORBIDDEN", "mute": "ALWAYS-EMPTY", "blank": "  "}
    rows = [{"id": name, "query": f"6 x 7, {name}?", "response": text} for name, text in texts.items()]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with FaultyServer() as server:
        local = ["--set", "source.corpus=local", "--set", f"source.path={path}", "--set", "source.limit=null"]
        process = call(arguments(recipe_file, tmp_path / "out", server.url, *local))
    assert process.returncode == 3, process.stderr
    assert "3 of them without an answer" in process.stdout
    found = {line["row"]: line["reason"] for line in RowFile(tmp_path / "out" / "failures.jsonl")}
    assert found == {
        "blank": "empty response",
        "long": "context length",
        "filtered": "content filter",
        "mute": "empty answer",
    }
    assert [row["id"] for row in RowFile(stage_path(tmp_path / "out", "decontaminate"))] == ["fine"]


def test_a_teacher_that_refuses_or_writes_another_language_fills_no_dataset(tmp_path, recipe_file, monkeypatch, call):
    refusal = "I'm sorry, but I can't help with judging this."
    spanish = (
        "La solución no es correcta, porque el segundo paso suma dos números que había que multiplicar, y por eso el "
        "resultado final de la tarea es otro.\n\nConclusion: wrong [END]"
    )
    english = (
        "The solution is not right, because its second step adds two numbers that had to be multiplied, and so the "
        "final answer is another one.\n\nConclusion: wrong [END]"
    )
    answers = itertools.cycle([refusal, spanish, english, english])
    monkeypatch.setattr("faulty_server.answer_to", lambda text, seed: next(answers))
    with FaultyServer() as server:
        process = call(arguments(recipe_file, tmp_path / "out", server.url, "--set", "filter.language=en"))
    assert process.returncode == 0, process.stderr
    reasons = Counter(line["reason"] for line in RowFile(tmp_path / "out" / "failures.jsonl"))
    assert reasons == {"verdict: none stated": 10, "language: critique in es": 10}
    assert len(RowFile(stage_path(tmp_path / "out", "decontaminate"))) == 20


def test_a_misspelt_key_names_the_nearest(tmp_path, recipe_file, call):
    told = refused(call([str(recipe_file), "--output", str(tmp_path / "out"), "--set", "critique.teacher=reference"]))
    assert "unknown key 'teacher' (did you mean 'teachers'?)" in told


@pytest.mark.slow  # tests/synthesis/test_build.py does it in one process
def test_two_builds_in_one_folder_at_once(tmp_path, recipe_file):
    with FaultyServer(delay=0.2) as server:
        command = arguments(recipe_file, tmp_path / "out", server.url, "--max-concurrency", "4")
        first = subprocess.Popen([*CFT, *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        while lines(tmp_path / "out" / "journal" / "critique.jsonl") < 4:
            time.sleep(0.01)
        assert "another build is running in this folder" in refused(run(command))
        _, err = first.communicate(timeout=120)
        assert first.returncode == 0, err


@pytest.mark.parametrize("kilobytes", [8, *(pytest.param(more, marks=pytest.mark.slow) for more in (24, 80))])
def test_a_full_disk_is_one_line_and_nothing_half(tmp_path, recipe_file, kilobytes):
    """No file may grow over so many kilobytes, which fails a write as a full disk does."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * 1024,) * 2)

    command = [str(recipe_file), "--teacher", "reference", "--output", str(tmp_path / "out")]
    told = refused(run([*command, "--limit", "100"], preexec_fn=limit))
    assert "make room" in told
    assert not [path for path in (tmp_path / "out").rglob("*") if "partial" in path.name]
    assert run([*command, "--limit", "100"]).returncode == 0, "with room it goes on"
    assert all(stage_path(tmp_path / "out", stage).exists() for stage in STAGES)


def test_a_folder_that_cannot_be_written(tmp_path, recipe_file, call):
    blocked = tmp_path / "file"
    blocked.write_text("")
    told = refused(call([str(recipe_file), "--teacher", "reference", "--output", str(blocked / "out")]))
    assert "is not writable" in told
