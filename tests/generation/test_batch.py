"""The Batch API: what goes in comes out, whatever becomes of the batches, and nothing is paid for twice."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
import time
import traceback
from contextlib import aclosing

import pytest
from batch_server import BatchServer
from conftest import TEST_FOLDERS
from faulty_server import FaultyServer, answer_to

from cft_trl.data.stage_files import RowFile, stage_path
from cft_trl.errors import CFTError
from cft_trl.generation import batch
from cft_trl.generation.batch import BatchTeacher
from cft_trl.generation.client import Teacher
from cft_trl.generation.identities import key_of
from cft_trl.generation.journal import Journal
from cft_trl.generation.journaled import Journaled
from cft_trl.generation.types import Counts, Request
from cft_trl.synthesis.critique import CritiqueSettings, run_critique

pytest.importorskip("openai")


def teacher_at(server, **fields) -> BatchTeacher:
    return BatchTeacher("m", server.url, **{"backoff": 0.01, "timeout": 10.0, **fields})


def questions(number: int) -> list[Request]:
    return [Request("m", [{"role": "user", "content": f"question {at}"}], {"temperature": 0.3}) for at in range(number)]


def ask(text: str) -> Request:
    return Request("m", [{"role": "user", "content": text}])


def run(server, requests, folder, counts=None, **fields):
    async def collect():
        with Journal(folder) as journal:
            teacher = Journaled(teacher_at(server, **fields), journal)
            async with aclosing(teacher.ask(requests, counts=counts)) as results:
                return [result async for result in results]

    return asyncio.run(collect())


@pytest.fixture
def server():
    with BatchServer() as server:
        yield server


def left(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(("most", "size", "files"), [(8, 10**6, [8, 8, 4]), (8, 900, [4] * 5)])
def test_requests_go_out_in_files_within_the_limits_and_answers_come_in_order(
    server, tmp_path, monkeypatch, most, size, files
):
    monkeypatch.setattr(batch, "MOST_REQUESTS", most)
    monkeypatch.setattr(batch, "MOST_BYTES", size)
    requests, counts = [*questions(20), *questions(3)], Counts()
    results = run(server, requests, tmp_path, counts)
    assert [request for request, _ in results] == requests
    assert [answer.text.rstrip() for _, answer in results[:20]] == [answer_to(f"question {n}", None) for n in range(20)]
    assert results[20:] == results[:3]
    uploads = [server.files[found["input_file_id"]] for found in server.batches.values()]
    assert [upload.count(b"\n") for upload in uploads] == files
    assert max(map(len, uploads)) <= size
    assert (counts.sent, counts.answered, counts.prompt_tokens, counts.in_flight) == (20, 20, 2000, 0)
    again = Counts()
    assert run(server, requests, tmp_path, again) == results
    assert (again.sent, again.from_journal, len(server.batches)) == (0, 23, len(files))
    assert left(tmp_path) == ["main.batches.jsonl", "main.jsonl"]


def test_a_stage_ends_as_it_does_without_batches(server, tmp_path):
    special = {3: "TOO-LONG", 5: "FORBIDDEN", 7: "ALWAYS-EMPTY", 9: "ALWAYS-500", 11: "LENGTHY", 12: "ONCE-500"}
    rows = [{"id": f"r{at}", "query": f"{at} x 7?", "response": f"{special.get(at, '')} {at}."} for at in range(30)]
    report = run_critique(rows, CritiqueSettings(seed=4), [teacher_at(server)], tmp_path / "batch")
    with FaultyServer() as online:
        teacher = Teacher("m", online.url, backoff=0.01)
        run_critique(rows, CritiqueSettings(seed=4), [teacher], tmp_path / "online")
    got, expected = (list(RowFile(stage_path(tmp_path / name, "critique"))) for name in ("batch", "online"))
    assert got == expected
    assert report.failures == {"context length": 1, "content filter": 1, "empty answer": 1, "500": 1}
    assert report.written == 26
    # What is too long is asked once more, without a limit of ours: the room that is left may do.
    twice = ("ONCE", "TOO-LONG")
    assert server.seen == {
        text: 3 if "ALWAYS" in text else 2 if any(word in text for word in twice) else 1 for text in server.seen
    }
    # What was only given up is asked again by the next run, what the endpoint has decided is not.
    run_critique(rows, CritiqueSettings(seed=4), [teacher_at(server)], tmp_path / "batch")
    assert {text for text, count in server.seen.items() if count == 6} == {t for t in server.seen if "ALWAYS" in t}


@pytest.mark.parametrize("fates", [["partial"], ["expired", "partial"], ["expired", "expired", "expired"]])
def test_requests_without_a_result_are_in_the_next_batch(server, tmp_path, fates):
    server.fates, counts = list(fates), Counts()
    results = run(server, questions(40), tmp_path, counts)
    assert not any(answer.reason for _, answer in results)
    assert set(server.paid.values()) == {1}
    assert (len(server.paid), counts.answered, len(server.batches)) == (40, 40, len(fates) + 1)


@pytest.mark.parametrize(
    ("fate", "told"),
    [
        ("cancelled", "batch_1 was cancelled"),
        ("failed insufficient_quota", "quota is used up"),
        ("failed model_not_found", "no such model"),
        ("failed invalid_json_line", "did not carry the batch out .it failed: invalid_json_line"),
    ],
)
def test_a_batch_that_is_not_carried_out_stops_the_run_in_one_line_and_the_next_run_goes_on(
    server, tmp_path, fate, told
):
    server.fates = [fate]
    with pytest.raises(CFTError, match=told) as stopped:
        run(server, questions(10), tmp_path)
    assert "\n" not in str(stopped.value)
    assert len(run(server, questions(10), tmp_path)) == 10
    assert set(server.paid.values()) == {1}
    assert left(tmp_path) == ["main.batches.jsonl", "main.jsonl"]


def test_an_endpoint_that_never_comes_to_the_requests_stops_the_run(server, tmp_path, monkeypatch):
    monkeypatch.setattr(server, "_answer", lambda request: None)
    server.fates = ["expired"] * 99
    with pytest.raises(CFTError, match="expired without a single answer"):
        run(server, questions(5), tmp_path)
    assert len(server.batches) == 1


@pytest.mark.parametrize(("text", "told"), [("ODD-FORM", "does not accept these requests"), ("NO-KEY", "not accepted")])
def test_requests_that_are_all_refused_stop_the_run_once_only(server, tmp_path, text, told):
    with pytest.raises(CFTError, match=told):
        run(server, [ask(f"{text} {n}") for n in range(9)], tmp_path)
    assert len(run(server, questions(2), tmp_path)) == 2


def test_the_endpoints_room_is_waited_for_and_files_become_as_small_as_it_wants(server, tmp_path, monkeypatch):
    monkeypatch.setattr(batch, "MOST_REQUESTS", 10)
    server.room = 10  # one at a time
    assert len(run(server, questions(40), tmp_path / "one")) == 40
    assert [found["request_counts"]["total"] for found in server.batches.values()].count(10) >= 4
    assert len([call for call in server.calls if call == "POST /v1/files"]) == 4
    server.room = 3  # none of this size
    assert len(run(server, [ask(f"other {n}") for n in range(9)], tmp_path / "small")) == 9
    assert set(server.paid.values()) == {1}
    server.room = -1
    with pytest.raises(CFTError, match="no room"):
        run(server, [ask("last")], tmp_path / "none")


def test_faults_of_every_call_are_tried_again_and_a_lost_reply_creates_no_second_batch(server, tmp_path):
    server.faults = {
        "POST /v1/files": [500, 429, "lost"],
        "POST /v1/batches": [429, 503, "lost"],
        "GET /v1/batches/": [429, 429, 500, "lost", "torn"],
        "GET /v1/files/": ["torn", 500, "lost"],
    }
    assert len(run(server, questions(20), tmp_path)) == 20
    assert not any(server.faults.values())
    assert (len(server.batches), set(server.paid.values())) == (1, {1})


def test_an_endpoint_without_batches_and_a_lost_batch_are_told_in_one_line(server, tmp_path):
    with FaultyServer() as chat, pytest.raises(CFTError, match="no Batch API"):
        run(chat, questions(2), tmp_path / "chat")
    who = key_of(teacher_at(server).identity)
    step = {"name": "cft-0", "model": "m", "who": who, "requests": 1, "file": "file-9", "batch": "batch_9"}
    (tmp_path / "main.batches.jsonl").write_text(json.dumps(step) + "\n")
    with pytest.raises(CFTError, match="handed in earlier is not known there"):
        run(server, questions(2), tmp_path)


# The process that hands in, to be killed: it asks the server at argv[1] and keeps its journal in argv[2].
ASKER = """
import os, sys
sys.path[:0] = sys.argv[3].split(os.pathsep)
import test_batch
class Server: url = sys.argv[1]
test_batch.run(Server, test_batch.questions(30), sys.argv[2])
"""


def killed_when(server, folder, condition) -> None:
    process = subprocess.Popen([sys.executable, "-c", ASKER, server.url, str(folder), TEST_FOLDERS])
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, "it was done before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.kill()
    process.wait()


@pytest.mark.parametrize("moment", ["uploaded", "created", "running"])
def test_a_killed_run_goes_on_with_its_batch(server, tmp_path, moment):
    server.polls = 10**9
    if moment == "uploaded":
        server.faults["POST /v1/batches"] = [503] * 10**4
        killed_when(server, tmp_path, lambda: "POST /v1/batches" in "".join(server.calls) or server.files)
        server.faults.clear()
    elif moment == "created":
        # Created, but the reply and every question about it afterwards are lost: the ledger knows of the file only.
        server.faults = {"POST /v1/batches": ["lost"], "GET /v1/batches": [503] * 10**4}
        killed_when(server, tmp_path, lambda: server.batches)
        server.faults.clear()
    else:
        killed_when(server, tmp_path, lambda: [call for call in server.calls if "GET /v1/batches/" in call])
    with (tmp_path / "main.batches.jsonl").open("a") as ledger:
        ledger.write('{"name": "cft-torn", "mod')
    server.polls = 1
    server._left = dict.fromkeys(server._left, 1)
    results = run(server, questions(35), tmp_path)  # five more than before
    assert [answer.text.rstrip() for _, answer in results] == [answer_to(f"question {n}", None) for n in range(35)]
    assert set(server.paid.values()) == {1}
    ran = [found["request_counts"]["total"] for found in server.batches.values()]
    assert sorted(ran) == [5, 30]
    steps = (tmp_path / "main.batches.jsonl").read_text().splitlines()
    assert [line for line in steps if not line.endswith("}")] == ['{"name": "cft-torn", "mod']
    assert left(tmp_path) == ["main.batches.jsonl", "main.jsonl"]


def test_the_key_is_in_no_file_log_or_traceback(server, tmp_path, monkeypatch, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("MY_KEY", "planted-wrong-key")
    with pytest.raises(CFTError, match="key is not accepted; set MY_KEY") as stopped:
        run(server, questions(3), tmp_path / "wrong", api_key_env="MY_KEY")
    told = "".join(traceback.format_exception(stopped.value))
    monkeypatch.setenv("MY_KEY", "planted-key-7f3a")
    server.faults["GET /v1/batches/"] = [500]
    run(server, [*questions(3), ask("TOO-LONG")], tmp_path / "right", api_key_env="MY_KEY")
    assert server.keys == {"planted-wrong-key", "planted-key-7f3a"}
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    printed = "".join(capfd.readouterr())
    assert "planted" not in told + caplog.text + printed + written.decode()


def test_what_a_batch_was_refused_for_is_learnt_for_the_next(server, tmp_path, capsys):
    sampling = {"max_tokens": 99, "temperature": 0.3}
    requests = [Request("m", [{"role": "user", "content": f"MODERN {n}"}], sampling) for n in range(20)]
    results = run(server, requests, tmp_path)
    assert not any(answer.reason for _, answer in results)
    assert all(answer.without == ("temperature",) for _, answer in results)
    assert (len(server.batches), set(server.paid.values())) == (3, {1})
    assert len(capsys.readouterr().err.splitlines()) == 2
