"""The model card and the record it is written from: a real short training, and runs of other shapes."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml
from hub_runs import REPORT, SETTINGS, make_run

from cft_trl.cli import main
from cft_trl.hub.model_card import render_model_card
from cft_trl.hub.run_card import read_run
from cft_trl.models.run_record import read_record


@pytest.fixture
def trained(tokenizer, tiny_model, rows, make_config):
    """Trains for some steps and returns the run's folder, with its card."""

    def train(**fields) -> Path:
        from datasets import Dataset

        from cft_trl import CFTTrainer

        fields = {"max_steps": 2, "prompt_preset": "compact", **fields}
        resume = fields.pop("resume", None)
        config = make_config(**fields)
        trainer = CFTTrainer(
            tiny_model(tokenizer), config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer
        )
        trainer.train(resume_from_checkpoint=resume)
        trainer.save_model()
        trainer.create_model_card(dataset_name="owner/critiques")
        return Path(config.output_dir)

    return train


def test_a_run_writes_down_what_its_card_needs(trained):
    folder = trained()
    record = read_record(folder)
    assert record["dataset"] == {
        "sources": {"arithmetic": 40},
        "teachers": {"reference": 40},
        "name": "owner/critiques",
    }
    assert record["settings"]["learning_rate"] == 1e-3
    assert record["machine"]["cores"] >= 1
    [session] = record["sessions"]
    assert session["steps"] == [0, 2]
    assert session["seconds"] > 0
    assert record["versions"]["trl"].startswith("1.")
    card = (folder / "README.md").read_text()
    assert "Critiques by: reference (40)." in card
    assert "50.0% of the critiques say right, 50.0% wrong" in card
    assert "| global batch, rows | 4 |" in card
    assert "Shared prefixes: not used." in card
    assert re.search(r"- Time: \d+ s of training", card)
    front = yaml.safe_load(card.split("---")[1])
    assert front["datasets"] == ["owner/critiques"]
    assert front["pipeline_tag"] == "text-generation"


def test_time_adds_up_over_the_sessions_of_a_run(trained):
    folder = trained(save_strategy="steps", save_steps=2)
    assert read_record(folder)["model_name"] is None  # TRL's own call at a checkpoint named it after the folder
    trained(max_steps=4, resume=str(folder / "checkpoint-2"), save_strategy="steps", save_steps=2)
    sessions = read_record(folder)["sessions"]
    assert [session["steps"] for session in sessions] == [[0, 2], [2, 4]]
    assert "in 2 sessions" in (folder / "README.md").read_text()
    trained(save_strategy="no")  # a run that begins anew
    assert [session["steps"] for session in read_record(folder)["sessions"]] == [[0, 2]]


def test_shared_prefixes_are_told_with_what_they_saved(trained, rows):
    rows[:] = [{**row, "query": rows[0]["query"], "response": rows[0]["response"]} for row in rows]
    folder = trained(share_prefixes=True)
    shared = read_record(folder)["sharing"]["train"]
    assert shared["shared_tokens"] < shared["tokens"]
    assert (
        f"- Shared prefixes: used; {shared['tokens']:,} tokens became {shared['shared_tokens']:,}"
        in (folder / "README.md").read_text()
    )


def test_the_code_of_a_card_runs_as_it_stands(trained, capsys, monkeypatch):
    folder = trained()
    card = (folder / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block.replace("max_new_tokens=256", "max_new_tokens=4"), "card", "exec"), {})
    assert "verdict: None" in capsys.readouterr().out
    [commands] = re.findall(r"```bash\n(.*?)```", card, re.DOTALL)
    asked = [shlex.split(line) for line in commands.splitlines()]
    assert [words[:3] for words in asked] == [["cft", "solve", str(folder)], ["cft", "critique", str(folder)]]
    for words in asked:
        assert main([*words[1:], "--max-new-tokens", "4"]) == 0
    assert "verdict: none" in capsys.readouterr().out


def test_only_a_critic_is_shown_as_one(tmp_path):
    run = make_run(tmp_path, settings=SETTINGS | {"objective": "cgd"})
    card = render_model_card(read_run(run), run)
    assert "cft critique" not in card
    assert len(re.findall("```python", card)) == 1
    assert "2505.11628" in card
    assert "2501.17703" in render_model_card(read_run(make_run(tmp_path)), tmp_path)


@pytest.mark.parametrize("objective", ["cft", "cgd"])
def test_a_template_of_its_own_is_shown_where_the_table_says(tmp_path, objective):
    template = "Mend it. {{ query }}\n```\n{{ response }}\n```" + "{{ critique }}" * (objective == "cgd")
    run = make_run(tmp_path, settings=SETTINGS | {"objective": objective, "prompt": template, "prompt_preset": "paper"})
    before, row, after = render_model_card(read_run(run), run).partition("| prompt | a template of its own, shown ")
    assert row
    if objective == "cft":
        assert after.startswith("above |")
        assert "````text\nMend it. {question}\n```\n{solution}\n```\n````" in before
    else:
        assert after.startswith("below |")
        assert f"````jinja\n{template}\n````" in after
    assert after.count("Mend it.") == (objective == "cgd")


def test_a_one_sided_set_of_critiques_is_among_the_limits(tmp_path):
    run = make_run(tmp_path, preparation={"train": REPORT | {"wrong": 0}})
    assert "No critique it was trained on says wrong" in render_model_card(read_run(run), run)


def test_a_run_of_before_there_was_a_record_has_a_card_too(tmp_path):
    run = make_run(tmp_path)
    (run / "training.json").unlink()
    told = {
        "model_name_or_path": "smollm2-135m",
        "dataset_name": "arithmetic",
        "objective": "cft",
        "learning_rate": 0.01,
    }
    (run / "settings.json").write_text(json.dumps(told))
    card = render_model_card(read_run(run), run)
    assert "base_model: HuggingFaceTB/SmolLM2-135M-Instruct" in card
    assert "| learning_rate | 0.01 |" in card
    assert "Hardware" not in card
    assert "teacher" not in card


def test_a_session_that_found_nothing_to_do_is_none(tmp_path):
    from types import SimpleNamespace

    from cft_trl.training.callbacks import RecordRun

    make_run(tmp_path)
    before = read_record(tmp_path)["sessions"]
    args = SimpleNamespace(output_dir=str(tmp_path), world_size=1, use_cpu=True, n_gpu=0)
    state = SimpleNamespace(is_world_process_zero=True, global_step=4)
    callback = RecordRun({"dataset": {}})
    callback.on_train_begin(args, state, None)
    callback.on_train_end(args, state, None)
    assert read_record(tmp_path)["sessions"] == before
    assert read_record(tmp_path)["dataset"] == {}
