"""What an endpoint refuses is no answer: it is not graded, not kept, and nothing is chosen by it."""

from __future__ import annotations

import json

import pytest
import torch
from eval_runs import write_benchmarks
from faulty_server import FaultyServer, _completion
from safetensors.torch import save_file

from cft_trl.cli import main
from cft_trl.errors import CFTError
from cft_trl.evaluation.mt_bench import judge_turns, open_judge
from cft_trl.generation.journal import Journal

pytest.importorskip("openai")

NO_TEMPLATE = {"error": {"message": "no chat template is defined for this model"}}
NO_MONEY = {"error": {"message": "Insufficient Balance", "code": "invalid_request_error"}}


@pytest.fixture(autouse=True)
def benchmarks(tmp_path, monkeypatch):
    return write_benchmarks(tmp_path / "benchmarks", monkeypatch)


def refusing(status: int, body: dict, after: int = 0, word: str = "") -> FaultyServer:
    """A server that answers so many requests, and then refuses those with this word."""

    def script(text, times):
        if word in text and server.arrived.total() > after:
            return status, body, ""
        return None

    server = FaultyServer(script=script)
    return server


def evaluate(server, output, *more) -> int:
    argv = ["eval", "m", "--tasks", "gsm8k", "--backend", "endpoint", "--base-url", server.url, "--output", str(output)]
    return main([*argv, "--concurrency", "1", *more])


@pytest.mark.parametrize(
    ("status", "body", "after", "word", "told"),
    [
        (402, NO_MONEY, 5, "", "quota is used up (Insufficient Balance)"),
        (400, NO_MONEY, 5, "", "quota is used up (Insufficient Balance)"),
        (400, NO_TEMPLATE, 0, "", "no chat template is defined"),
        (400, NO_TEMPLATE, 3, "", "5 of 8 problems were not answered (5 x bad request: 400: no chat template"),
        (400, NO_TEMPLATE, 0, "What is 7", "1 of 8 problems were not answered"),
        (403, {"error": {"message": "input was flagged by moderation"}}, 2, "What is 7", "1 of 8 problems"),
        (400, {"error": {"message": "maximum context length is 9 tokens"}}, 2, "What is 7", "maximum context length"),
    ],
)
def test_an_evaluation_has_no_score_of_refusals_and_asks_again(tmp_path, capsys, status, body, after, word, told):
    out = tmp_path / "out"
    with refusing(status, body, after, word) as server:
        assert evaluate(server, out) == 2
        said = capsys.readouterr().err.splitlines()[-1]
        assert told in said
        assert not (out / "evaluation.json").exists()
        assert "failure" not in (out / "journal" / "main.jsonl").read_text()
        kept = len(server.answered)
        server.script = lambda text, times: None  # it is mended
        assert evaluate(server, out) == 0
        result = json.loads((out / "evaluation.json").read_text())
        assert (result["from_journal"], result["tasks"]["gsm8k"]["failed"]) == (kept, 0)
        assert set(server.answered.values()) == {1}


def test_what_an_earlier_version_kept_of_refusals_is_asked_again(tmp_path):
    out = tmp_path / "out"
    with FaultyServer() as server:
        assert evaluate(server, out) == 0
        journal = out / "journal" / "main.jsonl"
        lines = [json.loads(line) for line in journal.read_text().splitlines()]
        lines[2] |= {"text": "", "finish_reason": "failed", "failure": "bad request: 400"}
        journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
        assert evaluate(server, out) == 0
        assert json.loads((out / "evaluation.json").read_text())["tasks"]["gsm8k"]["failed"] == 0
        assert server.status["ok"] == 9


def test_a_refused_critique_leaves_a_two_stage_answer_without_a_score(tmp_path, capsys):
    with refusing(400, NO_TEMPLATE) as server:
        refuse = server.script
        server.script = lambda text, times: (
            refuse(text, times) if "What is 7" in text and "critique whether" in text else None
        )
        assert evaluate(server, tmp_path / "out", "--mode", "two_stage") == 2
    assert "1 of 8 problems were not answered" in capsys.readouterr().err


def test_a_parameter_that_was_not_sent_is_in_the_result(tmp_path):
    with FaultyServer(modern=True) as server:
        assert evaluate(server, tmp_path / "out", "--temperature", "0.6", "--extra", "{reasoning_effort: low}") == 0
        assert server.bodies[-1]["reasoning_effort"] == "low"
    result = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert (result["asked_without"], result["extra"]) == (["temperature"], {"reasoning_effort": "low"})


def test_a_field_left_out_by_null_is_not_sent_and_its_run_is_another(tmp_path, capsys):
    with FaultyServer() as server:
        assert evaluate(server, tmp_path / "out", "--extra", "{temperature: null, max_tokens: null}") == 0
        assert not {"temperature", "max_tokens"} & set(server.bodies[-1])
        assert evaluate(server, tmp_path / "out") == 2
        assert "holds answers of another model: another extra" in capsys.readouterr().err
    assert main(["eval", "smollm2-135m", "--tasks", "gsm8k", "--extra", "{a: 1}"]) == 2


def test_a_critic_has_no_figures_of_refusals_and_is_asked_again(tmp_path, capsys):
    out = tmp_path / "out"
    argv = ["eval-critic", "m", "--data", "arithmetic", "--limit", "6", "--backend", "endpoint", "--output", str(out)]
    with refusing(400, NO_TEMPLATE, after=4) as server:
        argv += ["--base-url", server.url]
        assert main(argv) == 2
        assert "no chat template is defined" in capsys.readouterr().err
        assert not (out / "critic.json").exists()
        server.script = lambda text, times: None
        assert main(argv) == 0
        assert set(server.answered.values()) == {1}
    figures = json.loads((out / "critic.json").read_text())["subsets"]
    assert all(score["failed"] == 0 for score in figures.values())


def test_no_checkpoint_is_chosen_by_refusals(tmp_path, capsys):
    for step in (2, 4):
        folder = tmp_path / "run" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}))
        save_file({"weight": torch.zeros(step)}, folder / "model.safetensors")
    argv = [
        "select",
        str(tmp_path / "run"),
        "--benchmark",
        "arithmetic-critic",
        "--limit",
        "2",
        "--backend",
        "endpoint",
    ]
    with FaultyServer(models="checkpoint-2,checkpoint-4", script=lambda *_: (400, NO_TEMPLATE, "")) as server:
        argv += ["--base-url", server.url]
        assert main(argv) == 2
        said = capsys.readouterr().err
        assert "2 of 2 problems for step 2 were not answered" in said
        assert "no chat template" in said
        assert not list((tmp_path / "run").glob("**/selection.json"))
        assert not list((tmp_path / "run").glob("**/step-*.json"))
        server.script = lambda text, times: None
        assert main(argv) == 0
    assert (tmp_path / "run" / "selection.json").exists()


def test_a_judge_that_refuses_gives_no_score(tmp_path):
    rows = [
        {"id": f"mt-bench-{n}.1", "text": f"text {n}", "meta": {"turns": [f"ask {n}"], "turn": 1}} for n in range(4)
    ]
    with refusing(400, NO_TEMPLATE, word="ask 3") as server, Journal(tmp_path) as journal:
        judge = open_judge(f"m@{server.url}")
        with pytest.raises(CFTError, match="1 of 4 judgements were not answered"):
            judge_turns(rows, judge, journal)
        assert len(journal) == 3
        server.script = lambda text, times: None
        assert len(judge_turns(rows, judge, journal)) == 4
        assert server.status["ok"] == 4


@pytest.mark.parametrize("limit", [None, 4])
def test_a_server_that_says_nothing_to_any_question_has_not_answered(tmp_path, capsys, limit):
    more = ["--limit", str(limit)] if limit else []
    with FaultyServer(script=lambda *_: (200, _completion("", "stop", 0), "")) as server:
        assert evaluate(server, tmp_path / "out", *more) == 2
        assert "empty answer" in capsys.readouterr().err
        server.script = lambda text, times: (200, _completion("", "stop", 0), "") if "What is 7" in text else None
        assert evaluate(server, tmp_path / "out", *more) == 0
    result = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert result["from_journal"] == 0
