"""Builds: the whole chain in a folder, done once and gone on with."""

from __future__ import annotations

import json

import pytest
from build_runs import folder, recipe, recipe_file, stages_run, with_settings
from faulty_server import FaultyServer

from cft_trl.data.stage_files import RowFile, stage_path
from cft_trl.errors import CFTError
from cft_trl.synthesis import build as building
from cft_trl.synthesis.build import build
from cft_trl.synthesis.recipe import STAGES, read_recipe, to_recipe

__all__ = ["folder", "recipe", "recipe_file", "stages_run"]  # fixtures: used by their names


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
