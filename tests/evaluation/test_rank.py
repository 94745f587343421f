"""`cft rank`: responses ranked by a critic behind an endpoint; the figures, the journal, the server, the command."""

from __future__ import annotations

import json
import math
import threading
import urllib.error
import urllib.request

import pytest
from faulty_server import FaultyServer, _completion

from cft_trl.cli import main
from cft_trl.data import records
from cft_trl.errors import CFTError
from cft_trl.evaluation import rank_run
from cft_trl.evaluation.candidates import Question, groups, read_questions
from cft_trl.evaluation.rank import choose, figures, score_of
from cft_trl.evaluation.rank_run import RankSettings
from cft_trl.evaluation.rank_server import Scorer, make_server
from cft_trl.generation.endpoint import Endpoint
from cft_trl.generation.odds import Odds
from cft_trl.generation.types import Generation

# response -> P(right), as the server below tells it; what is not here gets a critique without a verdict
SURE = {"The answer is 4.": 0.8, "The answer is 5.": 0.3, "It is 5. The answer is 5.": 0.3, "The answer is 6.": 0.9}
ROWS = [
    {"query": "What is 2 + 2?", "responses": [*list(SURE)[:3], "The answer is 7."], "reference_answer": "4"},
    {"query": "What is 3 + 2?", "responses": ["The answer is 5.", "The answer is 6."], "reference_answer": "5"},
]


def critic(text: str, times: int, logprobs: bool = True):
    """Answers as a server that tells log probabilities."""
    response = text.split("Solution:\n")[1].strip()
    sure = SURE.get(response)
    word = "right" if (sure or 0) > 0.5 else "wrong"
    content = "I cannot tell." if sure is None else f"Critique:\nLet me see.\n\nConclusion: {word}"
    body = _completion(content, "stop", 7)
    if logprobs:
        tokens = ["Critique:\nLet me see.\n\nConclusion", ":", f" {word}"] if sure is not None else ["I cannot tell."]
        shares = {" right": sure or 0.5, " wrong": 1 - (sure or 0.5)}
        content = [{"token": token, "logprob": math.log(shares.get(token, 1.0))} for token in tokens]
        content[-1]["top_logprobs"] = [{"token": t, "logprob": math.log(p)} for t, p in shares.items()]
        body["choices"][0]["logprobs"] = {"content": content}
    return 200, body, ""


@pytest.fixture
def server():
    with FaultyServer(script=critic) as made:
        yield made


@pytest.fixture
def data(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, ROWS)))
    return file


def rank(server, data, out, *words):
    return main(
        ["rank", "m", str(data), "--backend", "endpoint", "--base-url", server.url, "--output", str(out), *words]
    )


def test_rows_are_ranked_and_the_ways_stand_side_by_side(server, data, tmp_path, capsys):
    assert rank(server, data, tmp_path / "out") == 0
    lines = [json.loads(line) for line in (tmp_path / "out" / "ranked.jsonl").read_text().splitlines()]
    first, second = ([line for line in lines if line["query"] == row["query"]] for row in ROWS)
    assert [line["rank"] for line in first] == [1, 2, 3, None]
    assert [line["p_right"] for line in first] == [pytest.approx(0.8), pytest.approx(0.3), pytest.approx(0.3), None]
    assert [line["right"] for line in first] == [True, False, False, False]
    assert first[0]["chosen_by"] == ["best_of_n", "weighted_majority"]
    assert first[1]["chosen_by"] == ["majority"]
    assert first[3]["missing"] == {"no verdict": 1}
    assert [line["response"] for line in second] == ["The answer is 6.", "The answer is 5."]
    result = json.loads((tmp_path / "out" / "rank.json").read_text())
    told = {name: result["figures"][name]["score"] for name in ("best_of_n", "majority", "weighted_majority")}
    assert told == {"best_of_n": 0.5, "majority": 0.5, "weighted_majority": 0.5}
    assert result["figures"]["pass_at_n"]["score"] == 1.0
    assert result["figures"]["mean"]["score"] == pytest.approx((1 / 4 + 1 / 2) / 2)
    assert (result["unscored_responses"], result["unscored_questions"], result["missing"]) == (1, 0, {"no verdict": 1})
    shown = capsys.readouterr().out
    assert "pass@N" in shown
    assert "1 x no verdict" in shown
    assert {"logprobs": True, "top_logprobs": 20}.items() <= server.bodies[0].items()


def test_nothing_is_asked_twice_and_more_critiques_add_to_those_that_are_there(server, data, tmp_path):
    sampled = ("--temperature", "0.7")
    rank(server, data, tmp_path / "out", *sampled)
    before = (tmp_path / "out" / "ranked.jsonl").read_text()
    assert len(server.bodies) == 6
    rank(server, data, tmp_path / "out", *sampled)
    assert len(server.bodies) == 6
    assert (tmp_path / "out" / "ranked.jsonl").read_text() == before
    rank(server, data, tmp_path / "out", *sampled, "--critiques", "3")
    assert len(server.bodies) == 18
    seeds = sorted({body["seed"] for body in server.bodies})
    assert len(seeds) == 18, "critiques of several responses were drawn with the same noise"
    assert all(first + 1 in seeds or first - 1 in seeds for first in seeds)
    assert seeds[-1] < 2**31
    last = json.loads((tmp_path / "out" / "ranked.jsonl").read_text().splitlines()[0])
    assert (last["read"], len(last["critiques"])) == (3, 3)
    rank(server, data, tmp_path / "out", *sampled, "--ask-again")
    assert len(server.bodies) == 24


def test_an_endpoint_without_log_probabilities_is_told_at_once(data, tmp_path, capsys):
    with FaultyServer(script=lambda text, times: critic(text, times, logprobs=False)) as server:
        assert rank(server, data, tmp_path / "out") == 2
        assert len(server.bodies) <= 6
    assert "come without log probabilities" in capsys.readouterr().err
    assert not (tmp_path / "out" / "rank.json").exists()


def test_a_critique_that_was_not_written_is_no_critique_without_a_verdict(server, data, tmp_path, capsys, monkeypatch):
    written = rank_run.generate

    def too_long(model, requests, keep):
        failed = Generation("", "failed", 9, 0, "prompt too long", reason="context length")
        longer = ["The answer is 6." in str(one.messages) for one in requests]
        written(model, requests, lambda at, made: keep(at, failed if longer[at] else made))

    monkeypatch.setattr(rank_run, "generate", too_long)
    assert rank(server, data, tmp_path / "out") == 0
    asked = {"query": "What is 3 + 2?", "responses": ["The answer is 6."]}
    told = Scorer(Endpoint("m", server.url), "critic", RankSettings()).score(asked)
    assert told["data"][0]["missing"] == {"not written": 1}
    assert told["data"][0]["critiques"][0]["failure"]
    result = json.loads((tmp_path / "out" / "rank.json").read_text())
    assert result["missing"] == {"no verdict": 1, "not written": 1}
    assert "1 x not written" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("name", ["data/verdict_words", "data/markup", "data/reservations", "generation/odds"])
def test_readings_depend_on_all_that_reads_them(name, monkeypatch):
    read = []
    monkeypatch.setattr(records, "code_digest", lambda *files: read.extend(files) or "d")
    monkeypatch.setattr(rank_run, "reading_digest", records.reading_digest.__wrapped__)  # not what is cached
    rank_run._reading()
    assert any(file.endswith(f"{name}.py") for file in read)


def test_another_model_or_other_rows_are_refused(server, data, tmp_path, capsys):
    rank(server, data, tmp_path / "out")
    assert rank(server, data, tmp_path / "out", "--max-new-tokens", "9") == 2
    assert "max_new_tokens 1024, not 9" in capsys.readouterr().err


def test_where_nothing_is_known_nothing_is_graded_and_where_nothing_is_read_it_is_said(server, tmp_path, capsys):
    file = tmp_path / "flat.jsonl"
    rows = [{"problem": "What is 2 + 2?", "solution": text} for text in list(SURE)[:2]]
    file.write_text("\n".join(map(json.dumps, [*rows, {"problem": "What is 2 + 2?", "failure": "refused"}])))
    assert rank(server, file, tmp_path / "out") == 0
    result = json.loads((tmp_path / "out" / "rank.json").read_text())
    assert (result["figures"], result["n"], result["rows_without_response"]) == (None, [2, 2], 1)
    file.write_text(json.dumps({"query": "What is 2 + 2?", "responses": ["no idea"], "gold": 4}))
    assert rank(server, file, tmp_path / "other") == 3
    assert json.loads((tmp_path / "other" / "rank.json").read_text())["figures"]["best_of_n"]["score"] == 0.0


def test_ties_and_responses_without_a_score():
    assert choose([0.5, 0.5, None], [0, 1, 1]) == {"best_of_n": 0, "majority": 1, "weighted_majority": 0}
    assert choose([None, None], [None, None]) == dict.fromkeys(("best_of_n", "majority", "weighted_majority"))
    assert choose([0.4, 0.3, 0.3], [0, 1, 1])["weighted_majority"] == 1
    assert figures([{"best_of_n": None, "majority": 0, "weighted_majority": 0}], [[True]])["best_of_n"]["score"] == 0.0
    assert figures([{"best_of_n": 0, "majority": 0, "weighted_majority": 0}], [None]) is None


def test_a_score_is_the_mean_of_what_could_be_read():
    score = score_of([Odds("right", 0.9, 0.9, 1.0), Odds("wrong", 0.2, 0.2, 0.2), Odds(None, missing="no verdict")])
    assert (score["p_right"], score["high"], score["read"], score["bounded"]) == (pytest.approx(0.55), 0.6, 2, 1)
    assert score_of([Odds(None, missing="no verdict")])["p_right"] is None


def test_equal_answers_are_one_group():
    texts = (r"\boxed{\frac12}", "The answer is 0.5.", "The answer is 2.", "The answer is 1/2.")
    assert groups([Question("Half?", texts)]) == [[0, 0, 2, 0]]


@pytest.mark.parametrize(
    ("row", "told"),
    [({"query": "q"}, "no column response"), ({"responses": ["a"]}, "no column query"),
     ({"query": "q", "responses": []}, "at least one"), ({"query": "q", "responses": ["a", " "]}, "none of them empty"),
     ({"query": "q", "responses": "a"}, "must be a list"), ([1], "must be an object")],
)  # fmt: skip
def test_rows_that_cannot_be_read_are_told(row, told, tmp_path):
    (tmp_path / "bad.jsonl").write_text(json.dumps(row))
    with pytest.raises(CFTError, match=told):
        read_questions(str(tmp_path / "bad.jsonl"))


def test_two_references_of_one_question_are_told(tmp_path):
    rows = [{"query": "q", "response": "a", "answer": value} for value in ("1", "2")]
    (tmp_path / "bad.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(CFTError, match="two reference answers"):
        read_questions(str(tmp_path / "bad.jsonl"))


@pytest.mark.parametrize(
    ("words", "told"),
    [(["m"], "give either DATA"), (["m", "x.jsonl", "--serve"], "give either DATA"),
     (["m", "--serve", "--limit", "2"], "keeps nothing"), (["m", "x.jsonl", "--critiques", "2"], "--temperature 0.7"),
     (["m", "--serve", "--key-env", "NO_SUCH_KEY"], "is not set"), (["m", "none.jsonl"], "none.jsonl")],
)  # fmt: skip
def test_flags_that_do_not_go_together(words, told, capsys):
    assert main(["rank", *words]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


# ---- the server ----


@pytest.fixture
def scoring(server):
    scorer = Scorer(Endpoint("m", server.url), "critic", RankSettings())
    served = make_server(scorer, "127.0.0.1", 0, "secret")
    threading.Thread(target=served.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{served.server_address[1]}"
    served.shutdown()
    served.server_close()


def ask(url: str, body: object = None, key: str = "secret"):
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Authorization": f"Bearer {key}"})
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_the_server_scores_and_reranks(scoring):
    texts = ["The answer is 5.", "The answer is 4.", "no idea"]
    status, told = ask(f"{scoring}/v1/score", {"query": "What is 2 + 2?", "responses": texts, "model": "critic"})
    assert status == 200
    assert [one["score"] for one in told["data"]] == [pytest.approx(0.3), pytest.approx(0.8), None]
    assert [one["index"] for one in told["data"]] == [0, 1, 2]
    assert told["data"][2]["missing"] == {"no verdict": 1}
    assert told["data"][1]["critiques"][0]["verdict"] == "right"
    assert told["usage"]["completion_tokens"] == 21
    assert ask(f"{scoring}/v1/score", {"query": "q", "response": texts[1]})[1]["data"][0]["score"] == pytest.approx(0.8)
    status, told = ask(f"{scoring}/v1/rerank", {"query": "q", "documents": texts, "top_n": 2})
    assert [one["index"] for one in told["results"]] == [1, 0]
    assert ask(f"{scoring}/v1/models")[1]["data"][0]["id"] == "critic"
    assert ask(f"{scoring}/health", key="")[0] == 200


@pytest.mark.parametrize(
    ("body", "told"),
    [(b"{", "not JSON"), ([], "JSON object"), ({"query": "q"}, "list of texts"), ({"responses": ["a"]}, "query"),
     ({"query": "q", "responses": ["a"], "model": "other"}, "not served"),
     ({"query": "q", "responses": ["a"], "critiques": 3}, "temperature above 0"),
     ({"query": "q", "responses": ["a"], "critiques": True}, "whole number"),
     ({"query": "q", "responses": ["a"] * 257}, "at most 256")],
)  # fmt: skip
def test_what_the_server_cannot_answer_it_says(scoring, body, told):
    status, error = ask(f"{scoring}/v1/score", body)
    assert status == 400
    assert told in error["error"]["message"]


def test_the_server_wants_its_key_and_knows_its_routes(scoring):
    assert ask(f"{scoring}/v1/score", {}, key="other")[0] == 401
    assert ask(f"{scoring}/v1/other", {})[0] == 404


def test_a_client_that_hangs_up_is_not_answered_twice(scoring, monkeypatch, capfd):
    import socket
    import time

    held = threading.Event()
    monkeypatch.setattr(Scorer, "score", lambda self, body: held.wait(10) and {"data": ["x" * 2**22]})
    address = scoring.removeprefix("http://").split(":")
    with socket.create_connection((address[0], int(address[1]))) as client:
        head = "POST /v1/score HTTP/1.1\r\nAuthorization: Bearer secret\r\nContent-Length: 2\r\n\r\n{}"
        client.sendall(head.encode())
    held.set()
    told = ""
    for _ in range(100):
        told += capfd.readouterr().err
        if "has gone" in told:
            break
        time.sleep(0.05)
    assert "the client has gone" in told, told
    assert "Traceback" not in told
    assert " 500 " not in told
    assert ask(f"{scoring}/health", key="")[0] == 200


def test_a_port_that_is_taken_is_told_in_one_line(scoring):
    with pytest.raises(CFTError, match="cannot be listened on"):
        make_server(Scorer(None, "m", RankSettings()), "127.0.0.1", int(scoring.rpartition(":")[2]))


def test_solve_writes_several_rows_of_a_question(tmp_path, capsys):
    (tmp_path / "in.jsonl").write_text(json.dumps({"problem": "What is 2 + 2?", "answer": "4"}))
    words = ["solve", "m", "--input", str(tmp_path / "in.jsonl"), "--output", str(tmp_path / "out.jsonl")]
    with FaultyServer() as server:
        words += ["--base-url", server.url, "--samples", "3"]
        assert main(words) == 2
        assert "--temperature" in capsys.readouterr().err
        assert main([*words, "--temperature", "0.7", "--seed", "1"]) == 0
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["sample"] for row in rows] == [0, 1, 2]
    assert len({row["response"] for row in rows}) == 3
    [question], failures = read_questions(str(tmp_path / "out.jsonl"))
    assert (len(question.responses), question.reference, failures) == (3, "4", 0)
