"""Verdict words and prompts of one's own in a build: rows that bring their critiques, and the published recipe."""

from __future__ import annotations

import json

import pytest

from cft_trl.data.records import make_record
from cft_trl.data.verdict_vocabulary import Verdicts
from cft_trl.synthesis.build import build
from cft_trl.synthesis.critique import in_own_words
from cft_trl.synthesis.recipe import read_recipe, to_recipe

PAIR = Verdicts(("reject", "accept"), "accept")


@pytest.mark.parametrize(
    ("critique", "given", "meta", "verdict", "label", "said"),
    [
        ("Fine.\n\nConclusion: accept [END]", None, {"label": "wrong"}, "right", "wrong", "accept"),
        ("Fine.\n\nConclusion: accept [END]", "right", {"label": "wrong"}, "right", "wrong", "accept"),
        ("Fine.\n\nConclusion: accept [END]", None, None, "right", None, "accept"),
        ("Fine.\n\nConclusion: accept [END]", "right", None, "right", None, "accept"),
        ("Fine.\n\nConclusion: accept [END]", "wrong", None, "right", "wrong", "accept"),
        ("The solution is correct.\n\nVerdict: reject", None, None, "wrong", None, "reject"),
        ("It fails.\n\nConclusion: wrong [END]", None, {"label": "right"}, None, "right", None),
        ("It fails.\n\nConclusion: wrong [END]", None, None, None, None, None),
        ("It fails.", "wrong", None, None, "wrong", None),
    ],
)
def test_rows_that_bring_critiques_in_words_of_ones_own(critique, given, meta, verdict, label, said):
    row = make_record(query="6 x 7?", response="43", critique=critique, verdict=given, meta=meta)
    found = in_own_words(row, PAIR)
    meta = found["meta"] or {}
    assert (found["verdict"], meta.get("label"), meta.get("said")) == (verdict, label, said)
    assert in_own_words(row, None) is row


def test_a_critique_in_other_words_does_not_pass_the_filter_and_a_false_one_disagrees(tmp_path):
    rows = tmp_path / "rows.jsonl"
    critiques = ["Fine.\n\nConclusion: accept [END]", "Conclusion: reject", "It fails.\n\nConclusion: wrong [END]"]
    shown = [
        {"query": f"6 x {n}?", "response": "43", "critique": critique, "meta": {"label": "wrong"}}
        for n, critique in enumerate(critiques)
    ]
    rows.write_text("".join(json.dumps(row) + "\n" for row in shown))
    recipe = to_recipe(
        {
            "name": "a",
            "source": {"corpus": "local", "path": str(rows)},
            "critique": {"verdicts": {"right": "accept", "wrong": "reject"}},
            "decontaminate": {"benchmarks": "none"},
        }
    )
    reports = build(recipe, tmp_path / "out").reports
    assert reports["publish"].written == 1
    assert sorted(reports["filter"].failures) == ["agree: calls a wrong response right", "verdict: none stated"]


@pytest.mark.parametrize(
    "template",
    [
        "<b>{{ query }}</b>\n<b>{{ response }}</b></answer>\n\n{{ ending }}",
        "{{ query }}  \n{{ response }}   \n{{ ending }}\n\n   ",
        r"\frac{a}{b} and /home/me/x {{ query }} \(a/b\){{ response }}/x/y/z {{ ending }}",
        "# {{ query }}\n//@ts-ignore\n{{ response }}\t{{ ending }}",
        "{{ query }} </think>/ {{ response }} " + "</x> " * 60 + "{{ ending }}",
    ],
)
def test_the_published_recipe_has_the_prompt_as_it_was_and_no_folder(tmp_path, template):
    rows = tmp_path / "rows.jsonl"
    row = {"query": "6 x 7?", "response": "43", "critique": "It is 42.\n\nConclusion: reject [END]"}
    rows.write_text(json.dumps(row) + "\n")
    content = {
        "name": "a",
        "source": {"corpus": "local", "path": str(rows)},
        "critique": {"prompt": template, "verdicts": {"right": "accept", "wrong": "reject"}},
        "decontaminate": {"benchmarks": "none"},
    }
    build(to_recipe(content), tmp_path / "out")
    published = (tmp_path / "out" / "recipe.yaml").read_text()
    assert read_recipe(tmp_path / "out" / "recipe.yaml").critique.prompt == template
    assert read_recipe(tmp_path / "out" / "recipe.yaml").source.path == "rows.jsonl"
    assert published.strip() in (tmp_path / "out" / "README.md").read_text()
    for name in ("README.md", "recipe.yaml", "statistics.json"):
        assert str(tmp_path) not in (tmp_path / "out" / name).read_text()
    json.loads((tmp_path / "out" / "statistics.json").read_text())
