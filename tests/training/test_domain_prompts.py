"""Prompts and verdict words of one's own as they are read: by real tokenizers, in conversations, and with mistakes."""

from __future__ import annotations

import json

import pytest
from families import FAMILIES, tokenizer_of

from cft_trl.cli import main
from cft_trl.commands.settings import parse_settings
from cft_trl.data.prompts import PRESETS, Prompting, Wording, read_wording, verdict_by
from cft_trl.data.records import to_record
from cft_trl.data.stage_files import RowFile, stage_path
from cft_trl.data.verdict_vocabulary import Verdicts
from cft_trl.errors import CFTError
from cft_trl.evaluation.critic import judge, score_verdicts
from cft_trl.evaluation.validation import ValidationSet
from cft_trl.training.config import CFTConfig
from cft_trl.training.encoded import RIGHT, WRONG
from cft_trl.training.preparation import RowEncoder
from cft_trl.training.select_callback import SelectBestCheckpoint

PAIR = Verdicts(("reject", "accept"), "accept")
GRADES = Verdicts(("1", "2", "3", "4", "5"), "4")
WORDS = {"right": "accept", "wrong": "reject"}
GRADED = "{grades: [1, 2, 3], right_from: 2}"
TEMPLATE = "Review.\nTask: {{ query }}\n{{ response }}\nEnd with {{ words | join(' or ') }}.\n"


@pytest.mark.parametrize("name", FAMILIES)
def test_in_every_family_the_words_are_marked_and_the_prompt_has_no_loss(name):
    tokenizer = tokenizer_of(name)
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


def test_grades_are_scored_by_hand():
    wording = Wording(TEMPLATE, GRADES)
    rows = [
        {"id": str(at), "query": "q", "response": "r", "verdict": "right" if grade in "45" else "wrong", "meta": meta}
        for at, (grade, meta) in enumerate((g, {"grade": g}) for g in "54321")
    ]
    texts = ["Conclusion: 5 [END]", "Conclusion: 3 [END]", "Conclusion: 1 [END]", "Nothing.", "Conclusion: 2 [END]"]
    judged = [judge(row, text, wording) for row, text in zip(rows, texts, strict=True)]
    assert [row["off"] for row in judged] == [0, 1, 2, None, 1]
    score = score_verdicts(judged)
    assert score["grades"] == {"rows": 5, "hits": 1, "accuracy": 0.2, "interval_95": score["grades"]["interval_95"],
                               "within_one": 0.6, "majority_rate": 0.2}  # fmt: skip
    assert score["hits"] == 3, "5 is right as it should be, 1 for 3 and 2 for 1 are wrong as they should be"
    assert "grades" not in score_verdicts([judge(row, text) for row, text in zip(rows, texts, strict=True)])


CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is 6 x 7?"},
    {"role": "assistant", "content": "42"},
    {"role": "user", "content": [{"type": "text", "text": "And 6 x 8?"}]},
]


@pytest.mark.parametrize("name", ["qwen3", "llama3", "gemma3", "deepseek-v3", "qwen2.5"])
def test_a_conversation_is_part_of_the_question(name):
    """Its turns are text within the one user turn: no template sees them as turns, and none of them has loss."""
    tokenizer = tokenizer_of(name)
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
    # A verdict that the critique states itself may be nothing else than that.
    assert [(row["meta"] or {}).get("label") for row in made] == [None, "right", None]


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


def test_a_long_template_of_one_line_in_a_config_is_no_file(tmp_path, capsys):
    config, out = tmp_path / "train.yaml", tmp_path / "run"
    long = "Look at every step. " * 40
    given = {"model_name_or_path": "m", "dataset_name": "arithmetic", "output_dir": str(out)}
    config.write_text(json.dumps({**given, "prompt": f"{long}{{{{ query }}}} {{{{ response }}}}"}))
    _, settings, _ = parse_settings(["--config", str(config)])
    assert settings.prompt == f"{long}{{{{ query }}}} {{{{ response }}}}"
    for text, said in (
        (long, "no such file; give a Jinja2 template's path, or its text"),
        ("~nobody-of-this-name/x.jinja", "no such file"),
        (f"{long} {{{{ query }}}}", "leaves out the response"),
    ):
        config.write_text(json.dumps({**given, "prompt": text}))
        assert main(["train", "--config", str(config)]) == 2
        told = capsys.readouterr().err
        assert said in told
        assert "\n" not in told.strip()
    assert not out.exists()


def test_a_model_of_cgd_is_asked_for_critiques_without_the_template_that_shows_one(tmp_path):
    template = "{{ query }}|{{ response }}|{{ critique }}"
    settings = {"objective": "cgd", "prompt": template, "prompt_preset": "paper", "verdicts": WORDS}
    config = CFTConfig(str(tmp_path), **settings, use_cpu=True)
    row = {"query": "2 + 2?", "response": "5", "verdict": "wrong"}
    callback = SelectBestCheckpoint(ValidationSet("mine", "verdicts", (row,), 16))
    preset = callback._selection(config).prompt_preset
    [[asked]] = callback.validation.conversations(preset)
    assert asked["content"] == Prompting().user_turn(row)
    assert preset == read_wording(settings), "as `cft select` asks it afterwards"
    own = CFTConfig(str(tmp_path), prompt=TEMPLATE, verdicts=WORDS, use_cpu=True)
    assert callback._selection(own).prompt_preset == own.wording
