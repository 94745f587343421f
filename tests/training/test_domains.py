"""A domain of one's own, all the way: recipe and training config with a prompt and verdict words, and who reads them.

recipe (teacher.jinja, accept/reject) -> build -> train (student.jinja) -> critique, eval-critic, select, rank, card
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from conftest import REPOSITORY, make_model

from cft_trl.cli import main
from cft_trl.commands.settings import parse_settings
from cft_trl.data.prompts import Prompting, Wording
from cft_trl.data.stage_files import RowFile, stage_path
from cft_trl.data.verdict_vocabulary import Verdicts
from cft_trl.errors import CFTError
from cft_trl.models.loading import load_model
from cft_trl.models.trained_prompt import trained_preset
from cft_trl.training.encoded import RIGHT, WRONG
from cft_trl.training.preparation import RowEncoder
from cft_trl.training.script import load_rows, run_training

PAIR = Verdicts(("reject", "accept"), "accept")
GRADES = Verdicts(("1", "2", "3", "4", "5"), "4")
GRADED = "{grades: [1, 2, 3], right_from: 2}"
TEMPLATE = "Review.\nTask: {{ query }}\n{{ response }}\nEnd with {{ words | join(' or ') }}.\n"


def build(name: str, folder: Path, *more: str) -> list[dict]:
    recipe = REPOSITORY / "hub_datasets" / name / "recipe.yaml"
    assert main(["build", str(recipe), "--output", str(folder), *more]) == 0
    return list(RowFile(stage_path(folder, "decontaminate")))


def settings_of(root: Path, tiny: Path, *more: str) -> tuple:
    """The worked training config, small enough for a random model."""
    words = [
        "--config", str(REPOSITORY / "recipes" / "smollm2-135m" / "code-review.yaml"),
        "--model_name_or_path", str(tiny), "--dataset_name", str(root / "rows"), "--output_dir", str(root / "run"),
        "--max_steps", "120", "--learning_rate", "1e-2", "--eval_rows", "4", "--generated_rows", "2",
        "--packing", "false", "--eval_steps", "120", "--save_steps", "60", "--save_total_limit", "2",
        "--logging_steps", "60", "--bf16", "false", "--per_device_train_batch_size", "4", "--max_length", "1024", *more,
    ]  # fmt: skip
    return parse_settings(words)


@pytest.fixture(scope="module")
def tiny(tokenizers, tmp_path_factory):
    """A folder with a random model and its tokenizer."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tokenizer = tokenizers("chatml")
    make_model(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory):
    """(rows, the run's folder) of the worked recipe for code review, on a random model."""
    root = tmp_path_factory.mktemp("domain")
    rows = build("code-review", root / "rows", "--limit", "12")
    run_training(*settings_of(root, tiny))
    return rows, root / "run"


def test_a_dry_run_shows_the_teachers_prompt(capsys):
    recipe = str(REPOSITORY / "hub_datasets" / "code-review" / "recipe.yaml")
    more = ["--limit", "3", "--teacher", "openai:m@http://127.0.0.1:9/v1", "--dry-run"]
    assert main(["build", recipe, *more]) == 0
    out = capsys.readouterr().out
    assert out.count("You review small Python functions.") == 3
    assert 'exactly "Conclusion: accept [END]" if the solution is right' in out
    assert "{{" not in out


def test_another_teachers_template_is_asked_anew(tmp_path):
    """The requests of another template are others; those of the same one come from the journal."""
    from faulty_server import FaultyServer

    recipe, template = tmp_path / "recipe.yaml", tmp_path / "teacher.jinja"
    recipe.write_text(
        "name: a\nsource: {corpus: code_review, limit: 4}\n"
        "critique: {prompt: teacher.jinja, verdicts: {right: ok, wrong: bad}}\n"
        "decontaminate: {benchmarks: none}\n"
    )
    with FaultyServer(models="m") as server:
        for text, arrived in (("One.", 4), ("One.", 4), ("Two.", 8)):
            template.write_text(text + "{{ query }} {{ response }} {{ ending }}")
            main(["build", str(recipe), "--output", str(tmp_path / "out"), "--teacher", f"openai:m@{server.url}"])
            assert server.arrived.total() == arrived


def test_the_rows_of_code_review(trained):
    rows, _ = trained
    assert len(rows) == 12
    for row in rows:
        word = {"right": "accept", "wrong": "reject"}[row["verdict"]]
        assert row["meta"]["said"] == word
        assert row["critique"].endswith(f"\nConclusion: {word} [END]")
        assert row["meta"]["label"] == row["verdict"]
        assert all(check["holds"] for check in row["meta"]["checks"]) == (row["verdict"] == "right")
    assert {row["verdict"] for row in rows} == {"right", "wrong"}


def test_the_run_has_metrics_of_these_words(trained, tiny):
    _, run = trained
    metrics = json.loads((run / "metrics.json").read_text())
    assert {"eval_verdict_accuracy", "eval_critique_loss"} <= set(metrics)
    history = json.loads((run / "trainer_state.json").read_text())["log_history"]
    losses = [entry["loss"] for entry in history if "loss" in entry]
    assert losses[-1] < 0.5, "a random model of 1,000 tokens begins at 6.9"
    model, tokenizer = load_model(str(run))
    _, held_out = load_rows(settings_of(run.parent, tiny)[0], True)
    made = RowEncoder(tokenizer, Prompting(preset=trained_preset(str(run))), 1024)(list(held_out))
    hits = {RIGHT: [], WRONG: []}
    for ids, mask in zip(made["input_ids"], made["verdict_mask"], strict=True):
        with torch.no_grad():
            top = model(torch.tensor([ids])).logits[0].argmax(-1).tolist()
        places = [at for at, mark in enumerate(mask) if mark]
        hits[mask[places[0]]].append(all(top[at - 1] == ids[at] for at in places))
    every = [*hits[RIGHT], *hits[WRONG]]
    assert metrics["eval_verdict_accuracy"] == pytest.approx(sum(every) / len(every))
    for verdict, of_it in (("right", hits[RIGHT]), ("wrong", hits[WRONG])):
        if of_it:
            assert metrics[f"eval_verdict_accuracy_{verdict}"] == pytest.approx(sum(of_it) / len(of_it))


def test_the_wording_is_found_where_the_model_is(trained):
    _, run = trained
    text = (REPOSITORY / "recipes" / "smollm2-135m" / "code-review.jinja").read_text()
    wanted = Wording(text, PAIR)
    for place in (run, run / "checkpoint-120"):
        assert trained_preset(str(place)) == wanted
    card = (run / "README.md").read_text()
    assert 'End with "Conclusion: accept [END]" or "Conclusion: reject [END]".' in card
    assert "verdict_by(text, preset)" in card
    assert "reject, accept from the worst to the best" in card


def test_who_asks_the_model_asks_in_its_words(trained, tmp_path, capsys, monkeypatch):
    rows, run = trained
    data = tmp_path / "rows.jsonl"
    data.write_text(
        "\n".join(json.dumps({k: row[k] for k in ("id", "query", "response", "verdict")}) for row in rows[:4])
    )
    out = tmp_path / "critic"
    command = ["eval-critic", str(run), "--data", str(data), "--max-new-tokens", "200", "--output", str(out)]
    assert main(command) == 0
    import pyarrow.parquet as pq

    [path] = (out / "generations").glob("*.parquet")
    lines = pq.read_table(path).to_pylist()
    for line in lines:
        [message] = json.loads(line["prompt"])
        assert message["content"].startswith("Review this function: does it do what the task asks for?\n\nTask: Write")
        assert (
            line["verdict"] == PAIR.stated(line["text"]).verdict
            if PAIR.stated(line["text"])
            else line["verdict"] is None
        )
    assert any(line["verdict"] for line in lines), "an overfitted model concludes"
    told = json.loads((out / "critic.json").read_text())["prompt_preset"]
    assert told["verdicts"] == {"right": "accept", "wrong": "reject"}
    assert main(command) == 0, "the same command goes on"
    assert json.loads((out / "critic.json").read_text())["from_journal"] == 4

    answers = tmp_path / "answers.jsonl"
    query = rows[0]["query"]
    answers.write_text("\n".join(json.dumps({"query": query, "response": row["response"]}) for row in rows[:3]))
    assert main(["rank", str(run), str(answers), "--output", str(tmp_path / "rank"), "--max-new-tokens", "200"]) in (
        0,
        3,
    )
    ranked = [json.loads(line) for line in (tmp_path / "rank" / "ranked.jsonl").read_text().splitlines()]
    for line in ranked:
        for one in line["critiques"]:
            assert (one["p_right"] is not None) == (one["verdict"] is not None)

    assert main(["select", str(run), "--benchmark", str(data), "--max-new-tokens", "200"]) == 0
    selection = json.loads((run / "selection.json").read_text())
    assert selection["prompt_preset"]["prompt"].startswith("Review this function")

    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    capsys.readouterr()
    code = main(["critique", str(run), "--query", query, "--response", rows[0]["response"], "--max-new-tokens", "200"])
    assert code == 0
    assert "verdict:" in capsys.readouterr().out


def test_the_space_asks_in_its_words(trained):
    from cft_trl.demo.asks import Ask
    from cft_trl.demo.runtime import Runtime
    from cft_trl.demo.settings import DemoSettings

    rows, run = trained
    runtime = Runtime(DemoSettings(model=str(run)))
    runtime.load()
    ask = Ask("critique", rows[0]["query"], rows[0]["response"], max_new_tokens=200)
    events = [event for some in runtime.stream("cft", ask) for event in some]
    text = "".join(event.text for event in events if event.kind == "critique")
    stated = PAIR.stated(text)
    assert stated is not None, "an overfitted model concludes"
    assert [event.text for event in events if event.kind == "verdict"] == [stated.verdict]


def test_what_was_pushed_has_the_wording_too(trained, tmp_path):
    _, run = trained
    (tmp_path / "training.json").write_text((run / "training.json").read_text())
    assert trained_preset(str(tmp_path)) == trained_preset(str(run))


def test_another_template_is_another_run(trained, tiny, tmp_path):
    _, run = trained
    other = tmp_path / "other.jinja"
    other.write_text(TEMPLATE * 9)
    with pytest.raises(CFTError) as raised:
        run_training(*settings_of(run.parent, tiny, "--prompt", str(other)))
    said = str(raised.value)
    assert "holds checkpoints of another run (prompt: Review this function" in said
    assert "\n" not in said
    assert len(said) < 500


def test_graded_rows_and_their_tokens(tokenizers, tmp_path):
    rows = build("rubric", tmp_path / "rows", "--limit", "20")
    assert {row["meta"]["said"] for row in rows} >= {"1", "5"}
    for row in rows:
        assert row["meta"]["said"] == row["meta"]["grade"] == GRADES.said(row["critique"])
        assert row["verdict"] == ("right" if row["meta"]["grade"] in "45" else "wrong")
    recipe = yaml.safe_load((REPOSITORY / "recipes" / "smollm2-135m" / "rubric.yaml").read_text())
    template = (REPOSITORY / "recipes" / "smollm2-135m" / recipe["prompt"]).read_text()
    tokenizer = tokenizers("llama3")
    made = RowEncoder(tokenizer, Prompting(preset=Wording(template, GRADES)))(rows)
    for at, row in enumerate(rows):
        marked = [token for token, mark in zip(made["input_ids"][at], made["verdict_mask"][at], strict=True) if mark]
        assert tokenizer.decode(marked).strip() == row["meta"]["grade"]
        assert made["verdict"][at] == row["verdict"]
        assert not made["disagrees"][at]
