"""`cft build`: the command, what it estimates beforehand, and what it tells while it runs."""

from __future__ import annotations

import io
import os
from unittest import mock

import pytest
from build_runs import folder, recipe, recipe_file, with_settings
from faulty_server import FaultyServer

from cft_trl.cli import main
from cft_trl.data.stage_files import StageReport
from cft_trl.errors import CFTError
from cft_trl.generation.types import Counts
from cft_trl.synthesis.live import Live
from cft_trl.synthesis.plan import estimate, tell
from cft_trl.synthesis.prices import Prices, read_prices
from cft_trl.synthesis.recipe import read_recipe

__all__ = ["folder", "recipe", "recipe_file"]  # fixtures: used by their names


# ---- the command ----


def test_the_command_builds_and_says_what_is_next(recipe_file, folder, capsys):
    arguments = ["build", str(recipe_file), "--limit", "12", "--output", str(folder)]
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert "12" in out
    assert "verdicts: right" in out
    assert f"--dataset_name {folder} --output_dir runs/small" in out
    assert [line for line in err.splitlines() if line.startswith("cft: critique")]
    assert main(arguments) == 0
    assert "done before" in capsys.readouterr().out


def test_the_next_step_never_trains_into_the_dataset(recipe_file, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("runs/small", "runs"):
        assert main(["build", str(recipe_file), "--limit", "4", "--output", name]) == 0
        assert f"--dataset_name {name} --output_dir {name}-cft\n" in capsys.readouterr().out


def test_a_training_run_is_not_built_over(recipe_file, folder, capsys):
    (folder / "checkpoint-2").mkdir(parents=True)
    assert main(["build", str(recipe_file), "--limit", "4", "--output", str(folder)]) == 2
    assert "holds a training run, whose card the dataset's would replace" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["checkpoint-2"]


def test_the_exit_code_says_that_rows_were_lost(recipe_file, folder, tmp_path, capsys):
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        '{"query": "6 x 7?", "response": "42", "reference_answer": "42"}\n{"query": "Why?", "response": "So."}'
    )
    options = ["--set", "source.corpus=local", "--set", f"source.path={rows}", "--output", str(folder)]
    assert main(["build", str(recipe_file), *options]) == 3
    assert "1 of them without an answer" in capsys.readouterr().out


def test_the_teacher_flag_takes_the_recipes_place(recipe_file, folder):
    with FaultyServer() as server:
        teachers = ["--teacher", "reference", "--teacher", f"openai:m@{server.url}"]
        assert main(["build", str(recipe_file), "--output", str(folder), *teachers]) == 0
    run = read_recipe(folder / "recipe.yaml")
    assert run.critique.teachers == ("reference", f"openai:m@{server.url}")


def test_a_dry_run_asks_and_writes_nothing(recipe_file, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    before = sorted(os.listdir(tmp_path))
    with FaultyServer() as server:
        teachers = ["--teacher", f"openai:m@{server.url}", "--teacher", "openai:gpt-4o-2024-11-20"]
        arguments = ["build", str(recipe_file), "--output", str(folder), "--dry-run", *teachers]
        assert main(arguments) == 0
        assert not server.arrived
    assert sorted(os.listdir(tmp_path)) == before
    out = capsys.readouterr().out
    assert out.count("--- prompt ") == 3
    assert out.count("Question:\n") == 3
    assert "unknown" in out
    assert "$" in out
    assert read_prices().date in out


def test_the_card_beside_the_recipe_gets_into_the_datasets(recipe_file, folder):
    (recipe_file.parent / "card.md").write_text("A corpus of my own.\n")
    assert main(["build", str(recipe_file), "--output", str(folder)]) == 0
    assert "\nA corpus of my own.\n" in (folder / "README.md").read_text()


def test_the_finished_dataset_is_pushed(recipe_file, folder, monkeypatch, capsys):
    pushed = []
    monkeypatch.setattr("cft_trl.hub.upload.push_dataset", lambda *args, **more: pushed.append((args, more)) or "URL")
    monkeypatch.setattr("huggingface_hub.HfApi.whoami", mock.Mock(side_effect=RuntimeError("no network")))
    command = ["build", str(recipe_file), "--output", str(folder), "--push-to-hub", "org/mine"]
    assert main(command) == 2
    assert "push to org/mine: " in capsys.readouterr().err
    assert not folder.exists(), "told before anything is done"
    monkeypatch.setattr("huggingface_hub.HfApi.whoami", lambda self: {"name": "somebody"})
    assert main([*command, "--set", "publish.private=true"]) == 0
    assert pushed == [((folder, "org/mine"), {"private": True, "revision": None})]
    assert capsys.readouterr().out.endswith("URL\n")
    assert "# mine" in (folder / "README.md").read_text()


@pytest.mark.parametrize("flags", [["--tasks", "2"], ["--executor", "cloud"], ["--limit", "0"], ["--step", "critic"]])
def test_wrong_flags_are_refused(recipe_file, folder, flags, capsys):
    assert main(["build", str(recipe_file), "--output", str(folder), *flags]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("cft: ")


# ---- what it tells ----


def test_the_estimate_counts_requests_tokens_and_cost(recipe):
    recipe = with_settings(recipe, "critique", teachers=("openai:gpt-4o", "openai:another"), samples=3)
    recipe = with_settings(recipe, "refine", answers="critique", teachers=("openai:gpt-4o",))
    found = estimate(recipe)
    assert (found.rows, found.exact) == (40, True)
    assert [(one.stage, one.teacher, one.requests) for one in found.asked] == [
        ("critique", "openai:gpt-4o", 120),
        ("critique", "openai:another", 120),
        ("refine", "openai:gpt-4o", 240),
    ]
    first = found.asked[0]
    prompts = [message["content"] for messages in found.prompts for message in messages]
    assert len(prompts) == 3
    assert first.tokens_in / 120 == pytest.approx(sum(map(len, prompts)) / 3 / 4, rel=0.2)
    assert first.most_out == 120 * 3200
    prices = Prices("2026-01-01", {"gpt-4o": (2.5, 10.0)})
    tell(recipe, found, prices=prices)


def test_a_large_source_is_estimated_from_its_beginning(recipe):
    found = estimate(with_settings(recipe, "source", limit=100_000))
    assert (found.rows, found.exact) == (100_000, False)
    assert found.asked[0].requests == 100_000


def test_an_unknown_price_is_never_nothing(recipe, capsys):
    found = estimate(with_settings(recipe, "critique", teachers=("openai:gpt-4o", "openai:another")))
    tell(recipe, found, prices=Prices("2026-01-01", {"gpt-4o": (2.5, 10.0)}))
    together = next(line for line in capsys.readouterr().out.splitlines() if "together" in line)
    assert together.split()[-2:] == ["unknown", "unknown"]


def test_a_broken_price_table_is_told(tmp_path, monkeypatch):
    for text in ("models: 5", "[", "date: x\nmodels: {m: {in: 1}}"):
        path = tmp_path / "prices.yaml"
        path.write_text(text)
        monkeypatch.setenv("CFT_PRICES", str(path))
        with pytest.raises(CFTError, match="CFT_PRICES"):
            read_prices()


def test_lines_come_every_ten_seconds_where_there_is_no_terminal(monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr("cft_trl.synthesis.live.time.monotonic", lambda: clock[0])
    told = io.StringIO()
    counts = Counts(total=100)
    with Live(Prices("2026-01-01", {"m": (0.0, 100.0)}), {"m": "openai:m"}, stream=told) as live:
        live.begin("critique", 100)
        for _ in range(50):
            clock[0] += 0.5
            counts.answered, counts.completion_tokens = counts.answered + 1, counts.completion_tokens + 1000
            counts.in_flight = 7
            live.update({"m": counts})
        live.end(StageReport("critique", read=100, written=100))
    lines = told.getvalue().splitlines()
    assert len(lines) == 3, "after ten and twenty seconds, and at the end"
    assert lines[1] == "cft: critique: 40 of 100 done, 0 failed, 7 in flight, 2,000 tokens/s, $4.00, 0:00:30 left"


def test_the_table_is_drawn_on_a_terminal():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    told = Terminal()
    with Live(Prices("2026-01-01", {}), stream=told) as live:
        live.begin("critique", 10)
        live.update({"m": Counts(total=10, answered=4, in_flight=3)})
        live.end(StageReport("critique", read=10, written=10))
    assert "10 / 10" in told.getvalue()
    assert "in flight" in told.getvalue()
