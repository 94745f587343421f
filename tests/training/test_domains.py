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
from families import FAMILIES

from cft_trl.cli import main
from cft_trl.commands.settings import parse_settings
from cft_trl.data.prompts import PRESETS, Prompting, Wording, verdict_by
from cft_trl.data.records import to_record
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


@pytest.mark.parametrize("name", FAMILIES)
def test_in_every_family_the_words_are_marked_and_the_prompt_has_no_loss(name):
    tokenizer = FAMILIES[name].tokenizer()
    encoder = RowEncoder(tokenizer, Prompting(preset=Wording(TEMPLATE, PAIR)))
    rows = [
        {
            "query": "Write f.",
            "response": "def f():\n    return 1",
            "critique": f"f is fine.\n\nConclusion: {word} [END]",
        }
        for word in ("accept", "reject", "ACCEPT")
    ]
    made = encoder(rows)
    for at, (word, verdict) in enumerate((("accept", RIGHT), ("reject", WRONG), ("ACCEPT", RIGHT))):
        ids, mask, labels = (made[column][at] for column in ("input_ids", "verdict_mask", "labels"))
        marked = [token for token, mark in zip(ids, mask, strict=True) if mark]
        assert word in tokenizer.decode(marked)
        assert len(tokenizer.decode(marked).strip()) <= len(word) + 1
        assert next(mark for mark in mask if mark) == verdict, "further tokens of the word are marked as such"
        learnt = tokenizer.decode([label for label in labels if label != -100])
        assert f"Conclusion: {word} [END]" in learnt
        assert "Review." not in learnt
        assert labels[-1] == made["end"][at] or -100 in labels[-3:], "the end token is learnt"


CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is 6 x 7?"},
    {"role": "assistant", "content": "42"},
    {"role": "user", "content": [{"type": "text", "text": "And 6 x 8?"}]},
]


@pytest.mark.parametrize("name", ["qwen3", "llama3", "gemma3", "deepseek-v3", "qwen2.5"])
def test_a_conversation_is_part_of_the_question(name):
    """Its turns are text within the one user turn: no template sees them as turns, and none of them has loss."""
    tokenizer = FAMILIES[name].tokenizer()
    record = to_record({"query": CHAT, "response": "46", "critique": "6 x 8 is 48.\n\nConclusion: wrong [END]"})
    assert record["query"] == "System: Be brief.\n\nUser: What is 6 x 7?\n\nAssistant: 42\n\nUser: And 6 x 8?"
    for preset in ("paper", "compact", Wording(TEMPLATE)):
        made = RowEncoder(tokenizer, Prompting(preset=preset))([record])
        ids, labels = made["input_ids"][0], made["labels"][0]
        assert record["query"] in tokenizer.decode(ids)
        learnt = tokenizer.decode([label for label in labels if label != -100])
        assert "6 x 8 is 48." in learnt
        assert "Assistant: 42" not in learnt
        one = tokenizer.apply_chat_template(
            [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}], tokenize=True, return_dict=False
        )
        special = set(tokenizer.all_special_ids)
        assert sum(token in special for token in ids) <= sum(token in special for token in one) + 1


@pytest.mark.parametrize(
    "query",
    [[{"role": "user"}], [{"role": "critic", "content": "x"}], ["text"], [{"role": "user", "content": [{"image": 1}]}]],
)
def test_conversations_that_are_none(query):
    with pytest.raises(CFTError, match=r"rows\.jsonl, line 1: column 'query': message 0 is none of text with a role"):
        to_record({"query": query, "response": "46"}, "rows.jsonl, line 1")


def test_rows_that_bring_their_critiques_are_read_in_the_recipes_words(tmp_path):
    rows = tmp_path / "rows.jsonl"
    texts = [("Conclusion: accept [END]", "right"), ("Conclusion: reject [END]", "right"), ("Fine.", None)]
    rows.write_text(
        "\n".join(
            json.dumps({"query": f"q{at}?", "response": "r", "critique": text, "verdict": label})
            for at, (text, label) in enumerate(texts)
        )
    )
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"name: a\nsource: {{path: {rows}}}\ncritique: {{verdicts: {{right: accept, wrong: reject}}}}\n"
        "filter: {agree: report}\ndecontaminate: {benchmarks: none}\n"
    )
    assert main(["build", str(recipe), "--output", str(tmp_path / "out")]) == 0
    made = list(RowFile(stage_path(tmp_path / "out", "critique")))
    assert [row["verdict"] for row in made] == ["right", "wrong", None]
    assert [(row["meta"] or {}).get("label") for row in made] == ["right", "right", None]


def test_appended_verdicts_are_right_and_wrong_only(tmp_path, capsys):
    words = ["--append_verdict", "--verdicts", "{right: accept, wrong: reject}"]
    assert main(["train", "--model_name_or_path", "m", "--dataset_name", "rows.jsonl", *words]) == 2
    assert "append_verdict writes right or wrong" in capsys.readouterr().err
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "name: a\nsource: {path: rows.jsonl, append_verdict: true}\n"
        "critique: {verdicts: {right: accept, wrong: reject}}\n"
    )
    assert main(["build", str(recipe)]) == 2
    assert "append_verdict writes right or wrong" in capsys.readouterr().err


def test_per_step_rows_say_which_step_their_critique_names(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "name: a\nsource: {corpus: arithmetic, limit: 40, levels: [1]}\n"
        "critique: {teachers: [reference], preset: per_step}\ndecontaminate: {benchmarks: none}\n"
    )
    assert main(["build", str(recipe), "--output", str(tmp_path / "out")]) == 0
    rows = list(RowFile(stage_path(tmp_path / "out", "critique")))
    wrong = [row["meta"] for row in rows if row["verdict"] == "wrong"]
    assert len(wrong) > 10
    assert all(meta["named_step"] == meta["first_error_step"] for meta in wrong)
    assert {row["meta"]["named_step"] for row in rows if row["verdict"] == "right"} == {None}


def test_per_step_numbers_the_steps_and_shortens_the_response(tokenizer):
    row = {"query": "2 + 2 + 1?", "response": "2 + 2 = 4\n4 + 1 = 6", "critique": "Step 2 is wrong.\nConclusion: wrong"}
    turn = Prompting(preset="per_step").user_turn(row)
    assert turn.endswith("Solution:\nStep 1: 2 + 2 = 4\nStep 2: 4 + 1 = 6")
    long = {**row, "response": "\n".join(f"{n} + 1 = {n + 1}" for n in range(400))}
    encoder = RowEncoder(tokenizer, Prompting(preset="per_step"), max_length=900)
    made = encoder([long])
    assert made["status"] == ["shortened"]
    text = tokenizer.decode(made["input_ids"][0])
    assert "Step 2 is wrong." in text
    assert "Step 3:" in text
    assert "Step 399:" not in text


@pytest.mark.parametrize("preset", [*PRESETS, Wording(TEMPLATE, PAIR), Wording(TEMPLATE, GRADES)])
def test_every_wording_makes_a_prompt(preset):
    row = {"query": "Why?", "response": "So."}
    turn = Prompting(preset=preset).user_turn(row)
    assert "Why?" in turn
    assert "So." in turn
    assert verdict_by("Fine.\n\nConclusion: nothing", preset) is None


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--prompt", "gone.jinja"], "prompt=gone.jinja: no such file"),
        (["--prompt", "{{ query }} {{ respons }}"], "did you mean 'response'?"),
        (["--prompt", "{{ query }}"], "leaves out the response"),
        (["--prompt", "{{ query }} {{ response }}", "--prompt_preset", "compact"], "give one of the two"),
        (["--prompt", "{{ query }} {{ response }}", "--objective", "sft"], "the student sees the query alone"),
        (["--verdicts", "{right: accept}"], "give {right: accept, wrong: reject}"),
        (["--verdicts", "{right: accept, wrong: Accept}"], "is there twice"),
        (["--verdicts", "accept"], "give {right: accept, wrong: reject}"),
        (["--prompt", "{{ query }}{{ response }}{{ right }}", "--verdicts", GRADED], "'right' is not here"),
    ],
)  # fmt: skip
def test_mistakes_of_a_config_in_one_line(tmp_path, capsys, more, said):
    out = tmp_path / "run"
    words = ["train", "--model_name_or_path", "m", "--dataset_name", "arithmetic", "--output_dir", str(out), *more]
    assert main(words) == 2
    told = capsys.readouterr().err
    assert said in told
    assert "\n" not in told.strip()
    assert not out.exists()


@pytest.mark.parametrize(
    ("critique", "said"),
    [
        ("prompt: gone.jinja", "gone.jinja: no such file (looked in"),
        ("prompt: '{{ query }} {{ response }}'", "does not ask for a last line 'Conclusion: right [END]'"),
        ("prompt: '{{ query }} {{ response }} {{ endng }}'", "did you mean 'ending'?"),
        ("prompt: '{{ query }} {{ response }} {{ ending }}', preset: boxed", "stands in the place of preset=boxed"),
        ("verdicts: {right: accept, wrong: re|ject}", "could not be read back"),
        ("verdicts: {grades: [1, 2], right_from: 1}", "at least one below it"),
        ("verdicts: {yes: accept}", "give {right: accept, wrong: reject}"),
    ],
)
def test_mistakes_of_a_recipe_in_one_line(tmp_path, capsys, critique, said):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"name: a\nsource: {{corpus: arithmetic, limit: 2}}\ncritique: {{teachers: [reference], {critique}}}\n"
    )
    assert main(["build", str(recipe), "--output", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert "\n" not in told.strip()
    assert not (tmp_path / "out").exists()
