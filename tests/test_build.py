"""Builds: the whole chain in a folder, done once, gone on with, and told of."""

from __future__ import annotations

import io
import json
import os
from unittest import mock

import pytest
from faulty_server import FaultyServer

from cft_trl.cli import main
from cft_trl.data.stage_files import RowFile, StageReport, stage_path
from cft_trl.errors import CFTError
from cft_trl.generation.types import Counts
from cft_trl.synthesis import build as building
from cft_trl.synthesis.build import build
from cft_trl.synthesis.live import Live
from cft_trl.synthesis.plan import estimate, tell
from cft_trl.synthesis.prices import Prices, read_prices
from cft_trl.synthesis.recipe import STAGES, read_recipe, to_recipe, with_settings

RECIPE = """\
name: small
source: {corpus: arithmetic, limit: 40}
critique: {teachers: reference}
decontaminate: {benchmarks: none}
"""


@pytest.fixture
def recipe_file(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def recipe(recipe_file):
    return read_recipe(recipe_file)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def stages_run(monkeypatch):
    """The names of the stages that really ran, in order."""
    ran = []
    original = building._run

    def counted(job, stage, *rest):
        ran.append(stage)
        return original(job, stage, *rest)

    monkeypatch.setattr(building, "_run", counted)
    return ran


def test_the_whole_chain_leaves_a_dataset(recipe, folder):
    job = build(recipe, folder)
    assert list(job.reports) == list(STAGES)
    assert job.lost == 0
    for name in ("README.md", "recipe.yaml", "failures.jsonl", "statistics.json", "journal", "data"):
        assert (folder / name).exists(), name
    assert read_recipe(folder / "recipe.yaml") == recipe
    before = 40
    for stage, report in job.reports.items():
        assert report.read == before, stage
        assert report.written + report.failures.total() == report.read, stage
        before = report.written
    assert not list(folder.glob(".*partial*"))


def test_datasets_reads_it_and_the_trainer_trains_from_it(recipe, folder, tokenizer, tiny_model, make_config):
    from datasets import load_dataset

    from cft_trl import CFTTrainer

    build(recipe, folder)
    rows = load_dataset(str(folder), "arithmetic__reference", split="train")
    assert len(rows) == 40
    assert set(rows["verdict"]) == {"right", "wrong"}
    assert len(load_dataset(str(folder), split="train")) == 40
    assert load_dataset(str(folder), "webinstruct_cft", split="train").column_names == [
        "instruction",
        "input",
        "output",
    ]
    model = tiny_model(tokenizer)
    trainer = CFTTrainer(model, args=make_config(max_steps=8), train_dataset=rows, processing_class=tokenizer)
    start = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < losses[0]
    assert any(not weight.equal(start[name]) for name, weight in model.named_parameters())


def test_what_is_done_is_not_done_again(recipe, folder, stages_run):
    build(recipe, folder)
    assert stages_run == list(STAGES)
    stages_run.clear()
    job = build(recipe, folder)
    assert stages_run == []
    assert job.kept == list(STAGES)


def test_changed_settings_run_their_stage_and_the_later_ones(recipe, folder, stages_run):
    build(recipe, folder)
    stages_run.clear()
    journal = (folder / "journal" / "critique.jsonl").read_bytes()
    job = build(with_settings(recipe, "filter", right_ratio=0.25), folder)
    assert stages_run == ["filter", "decontaminate", "publish"]
    assert job.reports["publish"].written < 40
    build(recipe, folder)
    assert stages_run[3:] == ["filter", "decontaminate", "publish"], "and back again"
    stages_run.clear()
    build(with_settings(recipe, "source", limit=50), folder)
    assert stages_run == list(STAGES)
    assert (folder / "journal" / "critique.jsonl").read_bytes().startswith(journal), "paid answers stay"


def test_a_changed_source_file_is_read_again(folder, tmp_path, stages_run):
    rows = tmp_path / "rows.jsonl"
    row = {"query": "6 x 7?", "response": "42", "critique": "Yes.\n\nConclusion: right [END]"}
    rows.write_text(json.dumps(row) + "\n")
    content = {"name": "a", "source": {"corpus": "local", "path": str(rows)}, "decontaminate": {"benchmarks": "none"}}
    recipe = to_recipe(content)
    assert build(recipe, folder).reports["publish"].written == 1, "rows that bring critiques need no teacher"
    rows.write_text(json.dumps(row) + "\n" + json.dumps({**row, "query": "7 x 7?"}) + "\n")
    stages_run.clear()
    assert build(recipe, folder).reports["publish"].written == 2
    assert stages_run[0] == "source"


def test_a_lost_file_is_made_again(recipe, folder, stages_run):
    build(recipe, folder)
    stage_path(folder, "refine").unlink()
    stages_run.clear()
    build(recipe, folder)
    assert stages_run == list(STAGES[STAGES.index("refine") :])


def test_an_interrupted_stage_is_not_taken_for_done(recipe, folder, stages_run, monkeypatch):
    build(recipe, folder)

    def interrupted(*args, **options):
        raise KeyboardInterrupt

    changed = with_settings(recipe, "filter", right_ratio=0.25)
    with monkeypatch.context() as patch:
        patch.setattr(building, "run_decontaminate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            build(changed, folder)
    stages_run.clear()
    job = build(changed, folder)
    assert stages_run == ["decontaminate", "publish"]
    assert job.reports["publish"].written == job.reports["filter"].written < 40


def test_one_step_alone_works_on_what_is_there(recipe, folder, stages_run):
    with pytest.raises(CFTError, match="no stage source yet"):
        build(recipe, folder, only="critique")
    for stage in STAGES:
        build(recipe, folder, only=stage)
    assert stages_run == list(STAGES)
    assert (folder / "README.md").is_file()
    stages_run.clear()
    build(recipe, folder)
    assert stages_run == [], "steps one by one are a build"
    build(with_settings(recipe, "filter", right_ratio=0.25), folder, only="filter")
    build(with_settings(recipe, "filter", right_ratio=0.25), folder)
    assert stages_run == ["filter", "decontaminate", "publish"]


def test_an_unknown_step_is_refused(recipe, folder):
    with pytest.raises(CFTError, match="did you mean 'critique'"):
        build(recipe, folder, only="critic")


def test_a_missing_benchmark_is_told_before_anyone_is_asked(recipe, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("CFT_BENCHMARKS_DIR", str(tmp_path))
    with FaultyServer() as server:
        recipe = with_settings(recipe, "critique", teachers=(f"openai:m@{server.url}",))
        with pytest.raises(CFTError, match=r"decontaminate: .*gsm8k"):
            build(with_settings(recipe, "decontaminate", benchmarks=("gsm8k",)), folder)
        assert not server.arrived


def test_a_second_build_in_the_folder_is_refused(recipe, folder):
    folder.mkdir()
    with (
        building.locked(folder, "build", "go"),
        pytest.raises(CFTError, match="another build is running in this folder"),
    ):
        build(recipe, folder)
    build(recipe, folder)


def test_failures_lists_every_row_that_is_not_there(folder, tmp_path):
    rows = [
        {"id": "good", "query": "6 x 7?", "response": "6 × 7 = 42", "reference_answer": "42"},
        {"id": "same", "query": "6 x 7 ?", "response": "42", "reference_answer": "42"},
        {"id": "empty", "query": "8 x 7?", "response": " ", "reference_answer": "56"},
        {"id": "blind", "query": "Why?", "response": "Because."},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    content = {"name": "a", "source": {"corpus": "local", "path": str(path)}, "critique": {"teachers": "reference"}}
    job = build(to_recipe({**content, "decontaminate": {"benchmarks": "none"}}), folder)
    failures = {line["id"]: (line["stage"], line["reason"]) for line in RowFile(folder / "failures.jsonl")}
    assert failures == {
        "same": ("source", "duplicate query"),
        "empty": ("source", "empty response"),
        "blind": ("critique", "nothing to check"),
    }
    assert [row["id"] for row in RowFile(stage_path(folder, "decontaminate"))] == ["good"]
    assert job.lost == 1, "only the row for which there was no answer"


def test_two_teachers_make_two_configurations_and_are_paid_apart(recipe, folder, monkeypatch, tmp_path):
    prices = tmp_path / "prices.yaml"
    prices.write_text("date: 2026-01-01\nmodels: {m: {in: 1, out: 10}}\n")
    monkeypatch.setenv("CFT_PRICES", str(prices))
    with FaultyServer() as server:
        recipe = with_settings(recipe, "critique", teachers=("reference", f"openai:m@{server.url}"))
        recipe = with_settings(recipe, "filter", agree="off")
        job = build(recipe, folder)
    assert job.reports["critique"].written == 80
    published = job.reports["publish"].details["configs"]
    assert published["arithmetic__reference"] == published["arithmetic__m"] == 40
    teachers = building.with_cost(job.reports["critique"], job).details["teachers"]
    assert teachers["m"]["cost in US dollars"] == pytest.approx(40 * (100 * 1 + 30 * 10) / 1e6)
    assert teachers["reference"]["cost in US dollars"] == 0


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
    for folder in ("runs/small", "runs"):
        assert main(["build", str(recipe_file), "--limit", "4", "--output", folder]) == 0
        assert f"--dataset_name {folder} --output_dir {folder}-cft\n" in capsys.readouterr().out


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
