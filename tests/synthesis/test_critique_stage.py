"""The critique stage and the engine under it: what goes in and out, and that a killed run ends as one left alone."""

from __future__ import annotations

import asyncio
import itertools
import signal
import subprocess
import sys
import time

import pytest
from conftest import TEST_FOLDERS
from faulty_server import FaultyServer

from cft_trl.data.records import COLUMNS, make_record, to_records
from cft_trl.data.stage_files import RowFile, StageWriter, read_report, stage_path
from cft_trl.data.teacher_prompts import critique_messages
from cft_trl.errors import CFTError
from cft_trl.generation.client import Teacher
from cft_trl.generation.identities import key_of
from cft_trl.generation.journal import Journal, request_key
from cft_trl.generation.types import Generation
from cft_trl.synthesis.critique import CritiqueSettings, run_critique

pytest.importorskip("openai")

# Rows that fail every time, and early, so that answers to others surround them; and one whose answer is cut short.
SPECIAL = {3: "TOO-LONG", 5: "FORBIDDEN", 7: "ALWAYS-EMPTY", 9: "ALWAYS-500", 11: "LENGTHY"}
REASONS = {"context length": 1, "content filter": 1, "empty answer": 1, "500": 1, "empty response": 1}

# The writing process, to be killed: it makes the same rows as the test and criticises them.
WRITER = """
import os, sys
sys.path[:0] = sys.argv[4].split(os.pathsep)
from test_critique_stage import make_rows, teacher_at
from cft_trl.synthesis.critique import CritiqueSettings, run_critique
run_critique(make_rows(int(sys.argv[3])), CritiqueSettings(), [teacher_at(sys.argv[1])], sys.argv[2])
"""


def make_rows(number: int) -> list[dict]:
    rows = []
    for at in range(number):
        response = "  " if at == 13 else f"{SPECIAL.get(at, 'The answer is')} {at * 7}."
        rows.append({"id": f"r{at}", "query": f"What is {at % 50} x 7?", "response": response, "meta": {"n": at}})
    return rows


def teacher_at(url: str, **fields) -> Teacher:
    return Teacher("m", url, **{"timeout": 1.0, "backoff": 0.02, "max_concurrency": 32, **fields})


def lines(folder, kind="rows", shard=None) -> list[dict]:
    return list(RowFile(stage_path(folder, "critique", shard, kind)))


def keys_of(rows, url: str) -> dict[str, str]:
    """The journal's keys of the rows' critiques, with the published sampling -> the server's."""
    sampling = {"temperature": 0.3, "top_p": 0.95, "max_tokens": 3200}
    who, asked = key_of({"kind": "endpoint", "address": url, "name": "m"}), [r for r in rows if r["response"].strip()]
    return {
        request_key(who, messages, sampling): request_key("m", messages, sampling)
        for messages in map(critique_messages, asked)
    }


def kept_bytes(folder) -> int:
    return sum(file.stat().st_size for file in (folder / "journal").glob("*.jsonl"))


def check_killed_run(tmp_path, number: int, kills: list[int]) -> dict:
    """Kills the writer when so many answers are out, restarts the server once, and compares with a quiet run."""
    with FaultyServer() as quiet:
        run_critique(make_rows(number), CritiqueSettings(), [teacher_at(quiet.url)], tmp_path / "quiet")
    folder, answered_before = tmp_path / "killed", {}
    numbers = {"kills": 0, "answers lost": 0}
    noisy = FaultyServer(faults=0.2)
    noisy.port = quiet.port  # the report names the address
    with noisy as server:
        command = [sys.executable, "-c", WRITER, server.url, str(folder), str(number), TEST_FOLDERS]
        for kill_at in [*kills, None]:
            writer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
            deadline = time.monotonic() + 500
            while kill_at and server.answered.total() < kill_at and writer.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.005)
            if kill_at:
                assert writer.poll() is None, "it was done before it could be killed"
                writer.send_signal(signal.SIGKILL)
                writer.wait()
                assert not (folder / "stages").exists()
            else:
                before = kept_bytes(folder)  # a server that never answered this process would not be waited for
                while kept_bytes(folder) <= before and writer.poll() is None:
                    assert time.monotonic() < deadline
                    time.sleep(0.005)
                server.stop()
                time.sleep(0.3)
                server.start()
                _, errors = writer.communicate(timeout=500)
                assert writer.returncode == 0, errors
            # No request whose answer was in the journal may have come to the server since.
            assert {key: server.arrived[key] for key in answered_before} == answered_before
            with Journal(folder / "journal", "critique") as journal:
                kept = [there for key, there in keys_of(make_rows(number), server.url).items() if key in journal]
            answered_before = {key: server.arrived[key] for key in kept}
            assert answered_before
            assert all(answered_before.values())
            numbers["kills"] += bool(kill_at)
            numbers["answers lost"] = server.answered.total() - sum(key in answered_before for key in server.answered)
    numbers |= {"requests": server.arrived.total(), "by kind": dict(server.status)}
    for kind in ("rows", "report"):
        killed, quiet = (stage_path(tmp_path / name, "critique", kind=kind) for name in ("killed", "quiet"))
        assert killed.read_text().replace("no connection", "500") == quiet.read_text()
    done, failed = lines(folder), lines(folder, "failures")
    assert sorted(row["id"] for row in done + failed) == sorted(f"r{at}" for at in range(number))
    # The row that always gets a 500 may spend its last try while the server restarts.
    reasons = {line["reason"].replace("no connection", "500"): 1 for line in failed}
    assert (reasons, len(failed)) == (REASONS, 5)
    return numbers


def test_a_killed_run_ends_like_one_left_alone(tmp_path):
    numbers = check_killed_run(tmp_path, 150, [50])
    assert numbers["by kind"]["429"] > 0


@pytest.mark.slow
def test_three_kills_in_two_thousand_rows(tmp_path):
    began = time.monotonic()
    numbers = check_killed_run(tmp_path, 2000, [300, 900, 1500])
    print(numbers, f"{time.monotonic() - began:.0f} s")
    assert numbers["kills"] == 3


def test_rows_go_out_once_per_teacher_and_sample_in_their_order(tmp_path):
    rows = [*make_rows(30), {"id": "labelled", "query": "q", "response": "y", "verdict": "right"}]
    with FaultyServer(models="m,n") as server:
        teachers = [teacher_at(server.url, max_attempts=5), Teacher("n", server.url, backoff=0.02, max_attempts=5)]
        report = run_critique(rows, CritiqueSettings(samples=2, seed=1), teachers, tmp_path)
    done, failed = lines(tmp_path), lines(tmp_path, "failures")
    expected = [f"{row['id']}.{teacher}.{sample}" for row in rows for teacher in "mn" for sample in (0, 1)]
    kept = {row["id"] for row in done}
    assert [row["id"] for row in done] == [name for name in expected if name in kept]
    assert sorted(kept | {line["id"] for line in failed}) == sorted(expected)
    assert (len(done), len(failed)) == (report.written, report.failures.total()) == (31 * 4 - 20, 20)
    assert (report.read, report.failures, read_report(tmp_path, "critique")) == (31, dict.fromkeys(REASONS, 4), report)
    tokens = {"answers": 52, "truncated": 2, "prompt_tokens": 5200, "completion_tokens": 1560}
    assert report.details["teachers"] == {"m": tokens, "n": tokens}
    row = done[0]
    assert tuple(row) == COLUMNS
    assert to_records(done) == done
    assert row["critique"].startswith("The check number is ")
    assert row["critique"].endswith(f"Conclusion: {row['verdict']} [END]")
    assert row["teacher"] == "m"
    assert row["meta"] == {"n": 0, "sample": 0, "finish_reason": "stop", "completion_tokens": 30}
    assert {row["meta"]["finish_reason"] for row in done if row["meta"].get("n") == 11} == {"length"}
    # By seed; the server knows no model.
    assert len({row["critique"] for row in done if row["meta"].get("n") == 0}) == 2
    assert {row["meta"]["label"] for row in done if row["id"].startswith("labelled")} == {"right"}
    told = next(line for line in failed if line["id"] == "r3.n.1")
    assert told.pop("detail").startswith("This model's maximum context length")
    expected = {
        "id": "r3.n.1",
        "row": "r3",
        "stage": "critique",
        "reason": "context length",
        "teacher": "n",
        "sample": 1,
    }
    assert told == expected


def test_requests_about_one_query_are_neighbours(tmp_path):
    rows = make_rows(200)  # each query comes back every 50 rows
    with FaultyServer() as server:
        run_critique(rows, CritiqueSettings(), [teacher_at(server.url, max_concurrency=1, max_attempts=5)], tmp_path)
        queries = [text.split("Question:\n")[1].split("\n")[0] for text in dict.fromkeys(server.order)]
    changes = sum(a != b for a, b in itertools.pairwise(queries))
    assert changes <= 55  # retries of the few that fail come later


def test_shards_have_files_of_their_own_and_a_run_in_a_used_folder_is_refused(tmp_path):
    rows = [row for row in make_rows(40) if row["id"] not in ("r7", "r9")]
    with FaultyServer() as server:
        teachers = [teacher_at(server.url, max_attempts=5)]
        for shard, part in (("0", rows[::2]), ("1", rows[1::2])):
            run_critique(part, CritiqueSettings(), teachers, tmp_path, shard=shard)
        ids = [row["id"] for shard in "01" for kind in ("rows", "failures") for row in lines(tmp_path, kind, shard)]
        assert sorted(ids) == sorted(row["id"] for row in rows)
        assert {path.name for path in (tmp_path / "journal").iterdir()} == {"critique-0.jsonl", "critique-1.jsonl"}
        with Journal(tmp_path / "journal", "critique"), pytest.raises(CFTError, match="another run is writing here"):
            run_critique(rows, CritiqueSettings(), teachers, tmp_path)
    assert sorted(path.name for path in tmp_path.rglob(".*")) == []


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"rows": iter([])}, "generator"),
        ({"rows": [{"id": "a", "query": "q", "response": "y"}] * 2}, "row 1: id 'a' is an earlier row's too"),
        ({"rows": [{"query": "", "response": "y"}]}, "row 0: column 'query' is empty"),
        ({"rows": [{"id": "a", "query": "q", "answer": "y"}]}, "query, answer"),
        ({"teachers": []}, "name at least one"),
        ({"teachers": [Teacher("m"), Teacher("m")]}, "same model name"),
        ({"teachers": [Teacher("m", api_key_env="NO_SUCH_KEY")]}, "set the environment variable NO_SUCH_KEY"),
    ],
)
def test_bad_input_is_told_in_one_line(tmp_path, fields, told):
    given = {"rows": make_rows(2), "teachers": [Teacher("m", "http://127.0.0.1:9/v1")], **fields}
    with pytest.raises(CFTError, match=told) as error:
        run_critique(given["rows"], CritiqueSettings(), given["teachers"], tmp_path)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "stages").exists()


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"samples": 0}, "critique.samples=0: give a whole number from 1"),
        ({"samples": True}, "critique.samples=True"),
        ({"preset": "boxd"}, "did you mean 'boxed'"),
        ({"temperature": -1}, "critique.temperature=-1"),
        ({"top_p": 0}, "critique.top_p=0"),
        ({"max_tokens": 1.5}, "critique.max_tokens=1.5"),
        ({"seed": "x"}, "critique.seed='x'"),
        ({"teachers": [3]}, "critique.teachers"),
    ],
)
def test_a_wrong_setting_is_told_by_its_key(fields, told):
    with pytest.raises(CFTError, match=told.replace("(", r"\(")):
        CritiqueSettings(**fields)


def test_settings_take_lists_as_yaml_gives_them():
    assert CritiqueSettings(teachers=["reference", "openai:m"]).teachers == ("reference", "openai:m")
    assert CritiqueSettings(teachers="reference").teachers == ("reference",)


def test_the_reference_is_shown_only_where_asked_and_a_row_without_one_fails(tmp_path):
    rows = [
        {"id": "a", "query": "6 x 7?", "response": "43", "reference_answer": "forty-two"},
        {"id": "b", "query": "6 x 8?", "response": "43"},
    ]
    with FaultyServer() as server:
        run_critique(rows, CritiqueSettings(), [teacher_at(server.url)], tmp_path / "hidden")
        assert not any("forty-two" in text for text in server.order)
        settings = CritiqueSettings(show_reference=True, preset="boxed")
        report = run_critique(rows, settings, [teacher_at(server.url)], tmp_path / "shown")
    assert ("forty-two" in server.order[-1], "boxed" in server.order[-1]) == (True, True)
    assert (report.written, report.failures) == (1, {"no reference answer": 1})


def test_a_response_that_a_model_wrote_keeps_what_is_known_of_it(tmp_path):
    meta = {"sample": 3, "finish_reason": "length", "completion_tokens": 9}
    row = {"id": "a", "query": "q", "response": "y", "verdict": "wrong", "refinement": "z", "meta": meta}
    with FaultyServer() as server:
        run_critique([row], CritiqueSettings(), [teacher_at(server.url)], tmp_path)
    [done] = lines(tmp_path)
    response = {"response_sample": 3, "response_finish_reason": "length", "response_completion_tokens": 9}
    own = {"sample": 0, "finish_reason": "stop", "completion_tokens": 30}
    assert done["meta"] == {**response, **own, "label": "wrong"}
    assert done["refinement"] == "z"


def test_the_key_is_in_none_of_the_builds_files(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "planted-key-7f3a")
    rows = [{"id": "a", "query": "ECHO-KEY", "response": "y"}, {"id": "b", "query": "q", "response": "y"}]
    with FaultyServer() as server:
        run_critique(rows, CritiqueSettings(), [teacher_at(server.url)], tmp_path)
    assert server.keys == {"planted-key-7f3a"}
    [failure] = lines(tmp_path, "failures")
    assert failure["detail"] == "400: your key *** may not ask this"
    assert "planted" not in "".join(path.read_text() for path in tmp_path.rglob("*.json*"))


class Instant:
    """A teacher that answers at once."""

    model, identity = "instant", {"kind": "a test's own"}

    def __init__(self, text: str = "Fine.\n\nConclusion: right [END]") -> None:
        self.text = text

    async def ask(self, requests, kept, *, counts=None, in_order=False):
        for request in requests:
            if request.key not in kept:
                kept.append(request.key, Generation(self.text, "stop", 1, 1))
                counts.answered += 1
                await asyncio.sleep(0)
            yield request, kept.get(request.key)


@pytest.mark.parametrize(
    ("text", "critique", "verdict"),
    [
        ("<think>Conclusion: right [END]", None, None),
        (
            "<think>a</think>\n**Critique:**\nNo.\n\nConclusion: wrong [END] So",
            "No.\n\nConclusion: wrong [END]",
            "wrong",
        ),
        ("Je ne sais pas.", "Je ne sais pas.", None),
    ],
)
def test_an_answer_becomes_a_critique_or_a_failure(tmp_path, text, critique, verdict):
    report = run_critique(make_rows(1), CritiqueSettings(), [Instant(text)], tmp_path)
    found = [(row["critique"], row["verdict"]) for row in lines(tmp_path)]
    assert found == ([(critique, verdict)] if critique else [])
    assert report.failures == ({} if critique else {"empty critique": 1})


class Row(dict):
    """A record that says how many of its kind are in memory."""

    alive = most = 0

    def __init__(self, *args) -> None:
        super().__init__(*args)
        Row.alive += 1
        Row.most = max(Row.most, Row.alive)

    def __del__(self) -> None:
        Row.alive -= 1


class Rows:
    """Rows that are made anew each time they are gone through."""

    def __iter__(self):
        for at in range(12000):
            yield Row(make_record(id=f"r{at}", query=f"{at}?", response="y"))


def test_only_neighbouring_rows_are_in_memory(tmp_path):
    report = run_critique(Rows(), CritiqueSettings(), [Instant()], tmp_path)
    assert report.written == 12000
    assert 2048 <= Row.most < 5000


def test_it_runs_where_a_loop_is_running_already_and_tells_its_progress(tmp_path):
    seen = []

    async def in_a_notebook():
        return run_critique(make_rows(3), CritiqueSettings(), [Instant()], tmp_path, progress=seen.append)

    report = asyncio.run(in_a_notebook())
    assert report.written == 3
    assert (seen[-1]["instant"].answered, seen[-1]["instant"].total) == (3, 3)


def test_a_full_disk_leaves_no_half_stage(tmp_path, monkeypatch):
    def full(self, record):
        raise CFTError("no room")

    monkeypatch.setattr(StageWriter, "row", full)
    with pytest.raises(CFTError, match="no room"):
        run_critique(make_rows(3), CritiqueSettings(), [Instant()], tmp_path)
    assert list((tmp_path / "stages").iterdir()) == []
    monkeypatch.undo()
    assert run_critique(make_rows(3), CritiqueSettings(), [Instant()], tmp_path).written == 3
