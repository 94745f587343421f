"""The critique stage: what goes in and out, and that a killed run ends like one that was left alone."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from faulty_server import FaultyServer

from cft_trl.errors import CFTError
from cft_trl.records import COLUMNS, to_records
from cft_trl.synthesis.client import Teacher
from cft_trl.synthesis.critique import _Ask, _in_prefix_order, critique
from cft_trl.synthesis.journal import Journal
from cft_trl.synthesis.teacher_prompts import SAMPLING

pytest.importorskip("openai")

TESTS = str(Path(__file__).parent)
# Rows that fail every time, and early, so that answers to others surround them; and one whose answer is cut short.
SPECIAL = {3: "TOO-LONG", 5: "FORBIDDEN", 7: "ALWAYS-EMPTY", 9: "ALWAYS-500", 11: "LENGTHY"}
REASONS = {"context length": 1, "content filter": 1, "empty answer": 1, "500": 1, "empty response": 1}

# The writing process, to be killed: it makes the same rows as the test and criticises them.
WRITER = """
import sys
sys.path.insert(0, sys.argv[4])
from test_critique_stage import make_rows, teacher_at
from cft_trl.synthesis.critique import critique
critique(make_rows(int(sys.argv[3])), [teacher_at(sys.argv[1])], sys.argv[2])
"""


def make_rows(number: int) -> list[dict]:
    rows = []
    for at in range(number):
        response = "  " if at == 13 else f"{SPECIAL.get(at, 'The answer is')} {at * 7}."
        rows.append({"id": f"r{at}", "query": f"What is {at % 50} x 7?", "response": response, "meta": {"n": at}})
    return rows


def teacher_at(url: str, **fields) -> Teacher:
    return Teacher("m", url, **{"timeout": 1.0, "backoff": 0.02, "max_concurrency": 32, **fields})


def lines(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def check_killed_run(tmp_path, number: int, kills: list[int]) -> dict:
    """Kills the writer when so many answers are out, restarts the server once, and compares with a quiet run."""
    with FaultyServer() as quiet:
        critique(make_rows(number), [teacher_at(quiet.url)], tmp_path / "quiet")
    folder, answered_before = tmp_path / "killed", {}
    numbers = {"kills": 0, "answers lost": 0}
    with FaultyServer(faults=0.2) as server:
        command = [sys.executable, "-c", WRITER, server.url, str(folder), str(number), TESTS]
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
                assert not (folder / "critiques.jsonl").exists()
            else:
                time.sleep(1.5)
                server.stop()
                time.sleep(0.3)
                server.start()
                _, errors = writer.communicate(timeout=500)
                assert writer.returncode == 0, errors
            # No request whose answer was in the journal may have come to the server since.
            assert {key: server.arrived[key] for key in answered_before} == answered_before
            with Journal(folder / "journal") as journal:
                asked = _in_prefix_order(make_rows(number), teacher_at(server.url), ask())
                answered_before = {key: server.arrived[key] for key in {r.key for r in asked} if key in journal}
            assert answered_before
            assert all(answered_before.values())
            numbers["kills"] += bool(kill_at)
            numbers["answers lost"] = server.answered.total() - sum(key in answered_before for key in server.answered)
    numbers |= {"requests": server.arrived.total(), "by kind": dict(server.status)}
    assert (folder / "critiques.jsonl").read_bytes() == (tmp_path / "quiet" / "critiques.jsonl").read_bytes()
    done, failed = lines(folder / "critiques.jsonl"), lines(folder / "failures.jsonl")
    assert sorted(row["id"] for row in done + failed) == sorted(f"r{at}" for at in range(number))
    # The row that always gets a 500 may spend its last try while the server restarts.
    reasons = {line["reason"].replace("no connection", "500"): 1 for line in failed}
    assert (reasons, len(failed)) == (REASONS, 5)
    return numbers


def ask() -> _Ask:
    return _Ask(1, "plain", False, SAMPLING, False)


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
        teachers = [teacher_at(server.url), Teacher("n", server.url, backoff=0.02)]
        result = critique(rows, teachers, tmp_path, samples=2, sampling={"seed": 1})
    done, failed = lines(tmp_path / "critiques.jsonl"), lines(tmp_path / "failures.jsonl")
    expected = [f"{row['id']}.{teacher}.{sample}" for row in rows for teacher in "mn" for sample in (0, 1)]
    kept = {row["id"] for row in done}
    assert [row["id"] for row in done] == [name for name in expected if name in kept]
    assert sorted(kept | {line["id"] for line in failed}) == sorted(expected)
    assert (len(done), len(failed)) == (result.done, sum(result.failures.values())) == (31 * 4 - 20, 20)
    assert result.failures == dict.fromkeys(REASONS, 4)
    row = done[0]
    assert tuple(row) == COLUMNS
    assert to_records(done) == done
    assert row["critique"].startswith("The check number is ")
    assert row["critique"].endswith(f"Conclusion: {row['verdict']} [END]")
    assert (row["teacher"], row["meta"]["n"], row["meta"]["sample"], row["meta"]["finish_reason"]) == (
        "m",
        0,
        0,
        "stop",
    )
    assert {row["meta"]["finish_reason"] for row in done if row["meta"].get("n") == 11} == {"length"}
    assert (
        len({row["critique"] for row in done if row["meta"].get("n") == 0}) == 2
    )  # by seed; the server knows no model
    assert {row["meta"]["label"] for row in done if row["id"].startswith("labelled")} == {"right"}


def test_requests_about_one_query_are_neighbours(tmp_path):
    rows = make_rows(200)  # each query comes back every 50 rows
    with FaultyServer() as server:
        critique(rows, [teacher_at(server.url, max_concurrency=1)], tmp_path)
        queries = [text.split("Question:\n")[1].split("\n")[0] for text in dict.fromkeys(server.order)]
    changes = sum(a != b for a, b in itertools.pairwise(queries))
    assert changes <= 55  # retries of the few that fail come later


def test_shards_have_files_of_their_own_and_a_run_in_a_used_folder_is_refused(tmp_path):
    rows = [row for row in make_rows(40) if row["id"] not in ("r7", "r9")]
    with FaultyServer() as server:
        for shard, part in (("0", rows[::2]), ("1", rows[1::2])):
            critique(part, [teacher_at(server.url)], tmp_path, shard=shard)
        ids = {row["id"] for shard in "01" for row in lines(tmp_path / f"critiques-{shard}.jsonl")}
        ids |= {row["id"] for shard in "01" for row in lines(tmp_path / f"failures-{shard}.jsonl")}
        assert ids == {row["id"] for row in rows}
        with Journal(tmp_path / "journal"), pytest.raises(CFTError, match="another run is writing here"):
            critique(rows, [teacher_at(server.url)], tmp_path)
    assert sorted(path.name for path in tmp_path.glob(".*")) == []


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"records": iter([])}, "generator"),
        ({"records": [{"id": "a", "query": "q", "response": "y"}] * 2}, "row 1: id 'a' is an earlier row's too"),
        ({"records": [{"query": "", "response": "y"}]}, "row 0: column 'query' is empty"),
        ({"samples": 0}, "at least one"),
        ({"teachers": []}, "at least one"),
        ({"preset": "brief"}, "plain, boxed"),
        ({"teachers": [Teacher("m"), Teacher("m")]}, "same model name"),
        ({"teachers": [Teacher("m", api_key_env="NO_SUCH_KEY")]}, "set the environment variable NO_SUCH_KEY"),
    ],
)
def test_bad_input_is_told_in_one_line(tmp_path, fields, told):
    options = {"records": make_rows(2), "teachers": [Teacher("m", "http://127.0.0.1:9/v1")], **fields}
    with pytest.raises(CFTError, match=told) as error:
        critique(options.pop("records"), options.pop("teachers"), tmp_path, **options)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "critiques.jsonl").exists()


def test_the_reference_is_shown_only_where_asked_and_a_row_without_one_fails(tmp_path):
    rows = [
        {"id": "a", "query": "6 x 7?", "response": "43", "reference_answer": "forty-two"},
        {"id": "b", "query": "6 x 8?", "response": "43"},
    ]
    with FaultyServer() as server:
        critique(rows, [teacher_at(server.url)], tmp_path / "hidden")
        assert not any("forty-two" in text for text in server.order)
        result = critique(rows, [teacher_at(server.url)], tmp_path / "shown", show_reference=True, preset="boxed")
    assert ("forty-two" in server.order[-1], "boxed" in server.order[-1]) == (True, True)
    assert (result.done, result.failures) == (1, {"no reference answer": 1})
