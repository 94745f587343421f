"""The client against a server that fails in every way that an endpoint can."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import traceback
from contextlib import aclosing

import faulty_server
import pytest
from faulty_server import FaultyServer, answer_to

from cft_trl.errors import CFTError
from cft_trl.generation.client import Teacher
from cft_trl.generation.journal import Journal
from cft_trl.generation.journaled import Journaled
from cft_trl.generation.types import Counts, Request

pytest.importorskip("openai")


def ask(text: str, model: str = "m", sample: int = 0, **sampling) -> Request:
    return Request(model, [{"role": "user", "content": text}], sampling, sample)


def run(server, requests, folder, counts=None, in_order=False, window=None, **fields):
    """All results of one run, as `ask` yields them."""

    async def collect():
        teacher = Teacher("m", server.url, **{"backoff": 0.02, "timeout": 20.0, **fields})
        with Journal(folder) as journal:
            options = {"counts": counts, "in_order": in_order, "window": window}
            async with aclosing(teacher.ask(requests, Journaled(teacher, journal), **options)) as results:
                return [result async for result in results]

    return asyncio.run(collect())


@pytest.fixture
def server():
    with FaultyServer() as server:
        yield server


def test_answers_are_the_servers_and_are_asked_for_once(server, tmp_path):
    requests, counts = [ask(f"question {number}") for number in range(20)], Counts()
    results = run(server, requests, tmp_path, counts, in_order=True)
    assert [request for request, _ in results] == requests
    assert [answer.text for _, answer in results] == [answer_to(f"question {n}", None) for n in range(20)]
    assert (counts.sent, counts.answered, counts.prompt_tokens, counts.completion_tokens) == (20, 20, 2000, 600)
    again = Counts()
    assert run(server, requests, tmp_path, again, in_order=True) == results
    assert (again.sent, again.from_journal, server.arrived.total()) == (0, 20, 20)
    assert counts.in_flight == 0


def test_the_same_question_twice_is_sent_once_and_samples_are_sent_each(server, tmp_path):
    same = [ask("same", seed=5), ask("same", seed=5), ask("same", sample=1, seed=5)]
    results = run(server, same, tmp_path, in_order=True)
    texts = [answer.text for _, answer in results]
    assert texts == [answer_to("same", 5), answer_to("same", 5), answer_to("same", 6)]
    assert server.arrived.total() == 2


def test_requests_are_read_only_as_far_as_the_window_and_sent_in_their_order(server, tmp_path):
    server.delay, read = 0.02, []

    def requests():
        for number in range(60):
            read.append(number)
            yield ask(f"q{number}")

    async def watch():
        teacher, most, got = Teacher("m", server.url, max_concurrency=1), 0, 0
        with Journal(tmp_path) as journal:
            async with aclosing(teacher.ask(requests(), Journaled(teacher, journal), window=10)) as results:
                async for _ in results:
                    got += 1
                    most = max(most, len(read) - got)
        return most

    assert asyncio.run(watch()) <= 10
    assert server.order == [f"q{number}" for number in range(60)]
    assert server.most_in_flight == 1


def test_every_fault_is_retried_and_every_row_answered(tmp_path):
    with FaultyServer(faults=0.35) as server:
        counts = Counts()
        results = run(server, [ask(f"q{n}") for n in range(100)], tmp_path, counts, timeout=1.0)
        assert len(results) == 100
        assert not any(answer.reason for _, answer in results)
        assert {"429", "500", "connection lost", "malformed JSON", "empty answer", "time-out"} <= set(counts.retried)
        assert counts.sent == 100 + counts.retried.total()


@pytest.mark.parametrize(
    ("text", "reason", "again"),
    [
        ("TOO-LONG", "context length", 0),
        ("FORBIDDEN", "content filter", 0),
        ("ALWAYS-EMPTY", "empty answer", 3),
        ("ALWAYS-500", "500", 4),
    ],
)
def test_a_row_that_cannot_be_answered_fails_with_its_reason(server, tmp_path, text, reason, again):
    first, second = Counts(), Counts()
    requests = [ask(text), ask("fine")]
    [(_, failure), (_, answer)] = run(server, requests, tmp_path, first, max_attempts=4, in_order=True)
    assert (failure.reason, answer.finish_reason) == (reason, "stop")
    assert first.failed == {reason: 1}
    # What the endpoint has decided stays decided; what was only given up is tried again by the next run.
    run(server, requests, tmp_path, second, max_attempts=4)
    assert second.sent == again


def test_a_truncated_answer_is_kept_and_flagged(server, tmp_path):
    counts = Counts()
    [(_, answer)] = run(server, [ask("LENGTHY")], tmp_path, counts)
    assert answer.finish_reason == "length"
    assert counts.truncated == 1


@pytest.mark.parametrize(
    ("model", "key", "told"),
    [("m", "planted-wrong-key", "key is not accepted; set MY_KEY"), ("other", "", "no such model")],
)
def test_a_wrong_key_or_model_stops_the_run_in_one_line_without_the_key(
    server, tmp_path, monkeypatch, model, key, told
):
    monkeypatch.setenv("MY_KEY", key)
    requests = [ask(f"q{n}", model) for n in range(200)]
    with pytest.raises(CFTError, match=told) as stopped:
        run(server, requests, tmp_path, api_key_env="MY_KEY")
    assert "\n" not in str(stopped.value)
    assert not key or key not in str(stopped.value) + (tmp_path / "main.jsonl").read_text()
    assert server.arrived.total() < 40


def test_an_address_where_nothing_listens_stops_the_run_soon(tmp_path):
    with FaultyServer() as server:
        pass
    counts = Counts()
    with pytest.raises(CFTError, match="cannot be reached"):
        run(server, [ask(f"q{n}") for n in range(50)], tmp_path, counts)
    assert counts.sent <= 50 * 4  # of nine tries each


def test_requests_that_the_server_does_not_take_stop_the_run(server, tmp_path, monkeypatch):
    async def refuse(head, body):
        from faulty_server import _json

        server.arrived["any"] += 1
        return _json(400, {"error": {"message": "Unsupported parameter: max_tokens"}})

    monkeypatch.setattr(server, "_reply", refuse)
    with pytest.raises(CFTError, match=r"does not accept these requests.*max_tokens"):
        run(server, [ask(f"q{n}") for n in range(500)], tmp_path)
    assert server.arrived.total() < 60


def test_a_server_that_restarts_is_waited_for(server, tmp_path):
    server.delay = 0.05

    async def restart():
        teacher, got = Teacher("m", server.url, backoff=0.1, max_concurrency=8), 0
        with Journal(tmp_path) as journal:
            requests = [ask(f"q{n}") for n in range(60)]
            async with aclosing(Journaled(teacher, journal).ask(requests)) as results:
                async for _, answer in results:
                    assert answer.failure is None
                    got += 1
                    if got == 20:
                        await asyncio.to_thread(server.stop)
                        asyncio.get_running_loop().call_later(0.5, server.start)
        return got

    assert asyncio.run(restart()) == 60


def test_retry_after_holds_everything_back(server, tmp_path, monkeypatch):
    times, reply = [], server._reply

    async def once(head, body):
        times.append(time.monotonic())
        if len(times) == 1:
            from faulty_server import _json

            return _json(429, {"error": {"message": "later"}}, "Retry-After: 1\r\n")
        return await reply(head, body)

    monkeypatch.setattr(server, "_reply", once)
    run(server, [ask(f"q{n}") for n in range(5)], tmp_path, max_concurrency=1)
    assert len(times) == 6
    assert times[1] - times[0] >= 1.0


def test_concurrency_grows_while_answers_come_and_falls_on_429(tmp_path):
    with FaultyServer(delay=0.3) as free:
        run(free, [ask(f"q{n}") for n in range(200)], tmp_path / "free", max_concurrency=64)
    assert 32 < free.most_in_flight <= 64
    with FaultyServer(delay=0.05, capacity=4, retry_after="0.01") as tight:
        counts = Counts()
        results = run(tight, [ask(f"q{n}") for n in range(150)], tmp_path / "tight", counts, max_concurrency=64)
    assert len(results) == 150
    assert not any(answer.reason for _, answer in results)
    assert tight.status["429"] < 100  # a client that does not slow down gets thousands


def test_the_key_is_sent_to_the_server_and_is_in_no_file_log_or_traceback(server, tmp_path, monkeypatch, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("MY_KEY", "planted-wrong-key")
    with pytest.raises(CFTError) as stopped:
        run(server, [ask("fine")], tmp_path / "wrong", api_key_env="MY_KEY")
    told = "".join(traceback.format_exception(stopped.value))
    monkeypatch.setenv("OPENAI_API_KEY", "planted-key-7f3a")
    run(server, [ask("TOO-LONG"), ask("ECHO-KEY"), ask("ALWAYS-500"), ask("fine")], tmp_path / "right", max_attempts=2)
    assert server.keys == {"planted-wrong-key", "planted-key-7f3a"}
    text = "".join(path.read_text() for path in tmp_path.rglob("*.jsonl"))
    assert len([json.loads(line) for line in text.splitlines()]) == 4
    assert '"detail":"400: your key *** may not ask this"' in text
    assert "planted" not in text + told + caplog.text + "".join(capfd.readouterr())


def test_many_requests_in_flight_share_out_the_connections(tmp_path):
    with FaultyServer(delay=0.2) as server:
        results = run(server, [ask(f"q{n}") for n in range(120)], tmp_path, max_concurrency=40)
    assert len(results) == 120
    assert server.connections <= 40


# ---- replies that are another's, limits, and waits -------------------------------------------------------------------


def test_a_reply_with_another_behind_it_and_a_repeated_one_are_asked_again_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr("faulty_server.FAULTS", ("double", "replay"))
    with FaultyServer(faults=0.4) as server:
        counts = Counts()
        results = run(server, [ask(f"q{n}") for n in range(60)], tmp_path, counts, max_concurrency=4)
    assert {answer.text for _, answer in results} == {answer_to(f"q{n}", None) for n in range(60)}
    assert all(answer.text == answer_to(request.messages[-1]["content"], None) for request, answer in results)
    assert {"surplus bytes", "repeated answer"} <= set(counts.retried)
    assert set(server.answered.values()) == {1}


@pytest.mark.parametrize("name", ["always-this", ""])
def test_a_server_whose_ids_mean_nothing_is_not_asked_without_end(tmp_path, monkeypatch, name):
    completion = faulty_server._completion
    monkeypatch.setattr(faulty_server, "_completion", lambda *given: completion(*given) | {"id": name})
    with FaultyServer() as server:
        results = run(server, [ask(f"q{n}") for n in range(40)], tmp_path, max_concurrency=4)
        assert not any(answer.reason for _, answer in results)
        assert server.arrived.total() <= 40 + 3


def test_an_answer_without_end_is_cut_short(tmp_path, monkeypatch, server):
    monkeypatch.setattr("cft_trl.generation.connection.MOST_BYTES", 2000)

    async def long(head, body):
        from faulty_server import _json

        return _json(200, {"choices": [], "padding": "x" * 5000})

    reply = server._reply
    monkeypatch.setattr(server, "_reply", lambda head, body: (long if b"LONG" in body else reply)(head, body))
    [(_, failure), (_, answer)] = run(server, [ask("LONG"), ask("q")], tmp_path, in_order=True, max_attempts=2)
    assert (failure.reason, answer.finish_reason) == ("too large", "stop")


def test_an_answer_that_trickles_is_given_up_in_time(tmp_path, monkeypatch, server):
    async def trickle(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 X\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n")
        for _ in range(200):
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.05)

    monkeypatch.setattr(server, "_connection", trickle)
    server.stop()
    server.start()
    [(_, failure)] = run(server, [ask("q")], tmp_path, timeout=0.4, max_attempts=2)
    assert failure.reason == "time-out"


def test_a_row_that_moderation_refuses_fails_alone_and_for_good(tmp_path):
    refusal = {"error": {"code": 403, "message": "input was flagged by moderation", "metadata": {"reasons": ["x"]}}}
    with FaultyServer(script=lambda text, _: (403, refusal, "") if text == "q7" else None) as server:
        requests = [ask(f"q{n}") for n in range(12)]
        failed = [answer for _, answer in run(server, requests, tmp_path, max_concurrency=2) if answer.reason]
        assert [answer.reason for answer in failed] == ["content filter"]
        again = Counts()
        run(server, requests, tmp_path, again)
        assert again.sent == 0


def test_a_403_without_a_reason_is_one_rows_until_it_is_all(tmp_path):
    forbidden = {"error": {"message": "forbidden"}}
    with FaultyServer(script=lambda text, _: (403, forbidden, "") if text == "q7" else None) as server:
        requests = [ask(f"q{n}") for n in range(12)]
        for _ in range(2):  # the next run asks for it again, and does not stop there either
            results = run(server, requests, tmp_path / "one", max_concurrency=1)
            assert [answer.reason for _, answer in results if answer.reason] == ["403"]
        server.script = lambda text, _: (403, forbidden, "")
        with pytest.raises(CFTError, match="this key may not use the model") as stopped:
            run(server, requests, tmp_path / "all")
        assert stopped.value.reason == "403"


def test_a_quota_that_stays_used_up_is_told_and_ends_the_run(tmp_path, capsys):
    used_up = {"error": {"message": "You exceeded your current quota, please check your plan and billing details"}}
    with FaultyServer(script=lambda text, _: (429, used_up, "")) as server:
        with pytest.raises(CFTError, match="quota is used up") as stopped:
            run(server, [ask(f"q{n}") for n in range(20)], tmp_path, max_attempts=3)
        assert stopped.value.reason == "quota"
        assert server.arrived.total() < 20 * 3
    assert "it says that the quota is used up" in capsys.readouterr().err


def test_a_long_wait_is_told_capped_and_then_one_request_tries(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("cft_trl.generation.client.LONGEST_WAIT_S", 0.3)
    limit = {"error": {"message": "Rate limit reached on tokens per day. Please try again in 9h53m12s."}}
    held = []

    def script(text, times):
        if len(held) < 6:
            held.append(text)
            return 429, limit, "Retry-After: 35592\r\n"
        return None

    with FaultyServer(script=script) as server:
        results = run(server, [ask(f"q{n}") for n in range(8)], tmp_path, max_concurrency=4)
        assert not any(answer.reason for _, answer in results)
        assert len(held) == 6
    told = capsys.readouterr().err
    assert "the server asks to wait until" in told
    assert "tokens per day" in told


def test_no_money_ends_the_run_and_what_was_answered_is_kept(tmp_path):
    broke = {"error": {"message": "Insufficient Balance", "code": "invalid_request_error"}}
    with FaultyServer() as server:
        server.script = lambda text, _: (402, broke, "") if len(server.answered) >= 10 else None
        with pytest.raises(CFTError, match=r"quota is used up \(Insufficient Balance\); what was answered is kept"):
            run(server, [ask(f"q{n}") for n in range(40)], tmp_path, max_concurrency=2)
        kept = [json.loads(line) for line in (tmp_path / "main.jsonl").read_text().splitlines()]
        assert len(kept) >= 10
        assert not any("failure" in entry for entry in kept)


def test_an_unknown_ending_is_an_answer_that_is_counted_and_told(tmp_path, capsys):
    body = {"choices": [{"message": {"content": "Sound."}, "finish_reason": "ran_away"}]}
    with FaultyServer(script=lambda text, _: (200, body, "")) as server:
        counts = Counts()
        run(server, [ask("a"), ask("b")], tmp_path, counts)
    assert counts.odd_endings == {"ran_away": 2}
    assert capsys.readouterr().err.count("unknown finish_reason 'ran_away'") == 1
