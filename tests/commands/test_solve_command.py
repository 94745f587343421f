"""`cft solve` and `cft critique`: one question to the terminal, rows to a file, and mistakes in one line."""

from __future__ import annotations

import io
import json

import pytest
from faulty_server import FaultyServer

from cft_trl.cli import main
from cft_trl.data.prompts import Prompting, chat_messages
from cft_trl.generation.generate import generate
from cft_trl.generation.modes import LocalModel, critique, solve
from cft_trl.models.loading import load_model
from cft_trl.models.trained_prompt import trained_preset


@pytest.fixture(scope="module")
def folder(tokenizers, tmp_path_factory):
    """A tiny model that `cft train` is said to have trained with the compact prompt."""
    from conftest import make_model

    folder = tmp_path_factory.mktemp("model")
    make_model(tokenizers("chatml")).save_pretrained(folder)
    tokenizers("chatml").save_pretrained(folder)
    (folder / "settings.json").write_text('{"prompt_preset": "compact"}')
    return folder


def test_a_question_is_answered_as_the_library_does(folder, capsys, monkeypatch, tmp_path):
    expected = solve(*load_model(str(folder)), ["What is 2 + 2?"], max_new_tokens=8)[0]
    (tmp_path / "question.txt").write_text("What is 2 + 2?\n")
    monkeypatch.setattr("sys.stdin", io.StringIO("What is 2 + 2?\n"))
    for question in (["What is 2 + 2?"], [f"@{tmp_path / 'question.txt'}"], ["-"], ["--query", "What is 2 + 2?"]):
        assert main(["solve", str(folder), "--max-new-tokens", "8", "--system", "", *question]) == 0
        shown = capsys.readouterr()
        assert shown.out == expected + "\n"
        assert "cut at --max-new-tokens" in shown.err


def test_a_critique_is_asked_for_in_the_prompt_of_the_run(folder, capsys, monkeypatch):
    row = {"query": "What is 2 + 2?", "response": "It is 5."}
    expected = critique(*load_model(str(folder)), [row], max_new_tokens=8, prompt_preset="compact")[0]
    words = ["critique", str(folder), "--query", row["query"], "--response", row["response"], "--max-new-tokens", "8"]
    asked, pieces = [], LocalModel.pieces
    monkeypatch.setattr(LocalModel, "pieces", lambda self, ask: asked.append(ask.messages) or pieces(self, ask))
    assert main(words) == main([*words, "--prompt-preset", "paper"]) == 0
    assert capsys.readouterr().out.startswith(f"{expected}\n\nverdict: none\n")
    assert asked == [chat_messages(Prompting("cft", preset=preset).user_turn(row)) for preset in ("compact", "paper")]


def test_the_prompt_of_a_run_is_found_from_its_checkpoints_too(folder, tmp_path):
    (folder / "checkpoint-4").mkdir()
    assert trained_preset(str(folder / "checkpoint-4")) == "compact"
    (tmp_path / "quickstart.json").write_text("{}")
    assert trained_preset(str(tmp_path)) == "compact"
    (tmp_path / "quickstart.json").unlink()
    (tmp_path / "settings.json").write_text("[")
    assert trained_preset(str(tmp_path)) == "paper"


def test_rounds_and_verdicts_are_shown(capsys, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "")
    with FaultyServer() as server:
        monkeypatch.setattr("cft_trl.generation.modes.Endpoint.pieces", pieces_of_generate)
        words = ["solve", "m", "2+2?", "--base-url", server.url, "--mode", "two_stage", "--temperature", "1"]
        assert main([*words, "--max-rounds", "2", "--seed", "2"]) == 0
        plain = capsys.readouterr().out
        monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
        assert main([*words, "--max-rounds", "1", "--seed", "2"]) == 0
        coloured = capsys.readouterr().out
    assert plain.startswith("Critique:\nThe check number is ")  # the first text needs no heading
    headings = [line for line in plain.splitlines() if line.startswith("--- ")]
    verdicts = [line.removeprefix("verdict: ") for line in plain.splitlines() if line.startswith("verdict: ")]
    assert headings[0] == "--- critique 1 ---"
    assert set(verdicts) <= {"right", "wrong"}
    assert len(headings) == 2 * len(verdicts) - 1
    assert "\033[1;3" in coloured


def pieces_of_generate(self, request):
    """The faulty server streams nothing; its whole answer comes as one piece."""
    [made] = generate(self, [request])
    yield made.text
    return made


def test_rows_in_rows_out(tmp_path, capsys, monkeypatch):
    rows = [{"problem": f"{i} + 1?", "level": i} for i in range(4)]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, rows)))
    out = tmp_path / "new" / "out.jsonl"
    with FaultyServer(faults=0.2) as server:
        where = ["m", "--base-url", server.url, "--input"]
        assert main(["solve", *where, str(tmp_path / "in.jsonl"), "--output", str(out)]) == 0
        solved = [json.loads(line) for line in out.read_text().splitlines()]
        assert [(row["problem"], row["level"]) for row in solved] == [(row["problem"], row["level"]) for row in rows]
        assert all(row["response"].startswith("Critique:") and "rounds" not in row for row in solved)
        assert len({row["response"] for row in solved}) == 4

        monkeypatch.setattr("sys.stdin", io.StringIO(out.read_text()))
        capsys.readouterr()
        assert main(["critique", *where, "-"]) == 0
        judged = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [row["response"] for row in judged] == [row["response"] for row in solved]
        assert all(f"Conclusion: {row['verdict']}" in row["critique"] for row in judged)

        (tmp_path / "in.jsonl").write_text('{"query": "TOO-LONG"}\n{"query": "1?"}')
        argv = ["solve", *where, str(tmp_path / "in.jsonl"), "--mode", "two_stage", "--temperature", "0.5"]
        assert main(argv) == 3
    failed, good = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert "context length" in failed["failure"]
    assert good["rounds"][-1]["solution"] == good["response"]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["solve", "nowhere"], "give either a question or --input FILE"),
        (["solve", "nowhere", "q", "--input", "x.jsonl"], "give either a question or --input FILE"),
        (["solve", "nowhere", "q", "--output", "x.jsonl"], "--output belongs to --input"),
        (["solve", "nowhere", ""], "the question is empty"),
        (["solve", "nowhere", "@/nowhere"], "cannot be read (No such file or directory)"),
        (["solve", "./nowhere", "q"], "neither a folder here nor a Hub id"),
        (["solve", "m", "q", "--base-url", "localhost:8000"], "give an address such as http://localhost:8000/v1"),
        (
            ["solve", "m", "q", "--base-url", "http://127.0.0.1:9/v1"],
            "m at http://127.0.0.1:9/v1: the server cannot be",
        ),
        (["solve", "m", "--input", "x.txt"], "give a file ending in .jsonl"),
        (["solve", "m", "--input", "nowhere.jsonl"], "nowhere.jsonl: cannot be read"),
        (["critique", "m", "--query", "q"], "give --query and --response, or --input FILE"),
        (["critique", "m", "--query", "-", "--response", "-"], "cannot both be standard input"),
        (["critique", "m", "--query", "q", "--input", "x.jsonl"], "not both"),
    ],
)
def test_a_mistake_is_one_line(argv, said, capsys):
    assert main(argv) == 2
    shown = capsys.readouterr()
    assert said in shown.err
    assert (shown.err.count("\n"), shown.out) == (1, "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"query": "1?"}', "line 1: no column response or solution; found query"),
        ('{"query": "1?", "response": " "}', "column 'response' holds no text"),
        ('{"query": 1, "response": "2"}', "column 'query' holds no text"),
        ("[1]", "a row must be an object"),
        ("{", "not JSON"),
        ("", "no rows"),
    ],
)
def test_a_bad_row_is_named_before_a_model_is_loaded(text, said, tmp_path, capsys, monkeypatch):
    (tmp_path / "rows.jsonl").write_text(text)
    for source in (str(tmp_path / "rows.jsonl"), "-"):
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        assert main(["critique", "./nowhere", "--input", source]) == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--temperature=-1", "--temperature=inf", "--top-p=0", "--top-p=1.5", "--top-p=x"])
def test_sampling_out_of_range(flag, capsys):
    assert main(["solve", "m", "q", flag]) == 2
    assert "is not a number" in capsys.readouterr().err
