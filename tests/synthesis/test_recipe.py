"""Recipes: what is read, what is refused in one line, what is written back."""

from __future__ import annotations

import dataclasses
import pickle

import pytest

from cft_trl.errors import CFTError
from cft_trl.synthesis.recipe import STAGES, read_recipe, to_recipe, to_yaml

RECIPE = """\
name: mine
source: {corpus: arithmetic, limit: 20, levels: [1, 2]}
respond:
critique:
  teachers: reference
  temperature: 1e-1
filter: {agree: off, critique_chars: [10, null], right_ratio: 1}
decontaminate: {benchmarks: [gsm8k, math]}
"""


@pytest.fixture
def recipe_file(tmp_path):
    def write(text: str = RECIPE):
        path = tmp_path / "recipe.yaml"
        path.write_text(text)
        return path

    return write


def test_values_get_the_types_of_their_fields(recipe_file):
    recipe = read_recipe(recipe_file())
    assert recipe.source.levels == (1, 2)
    assert recipe.critique.teachers == ("reference",), "one teacher may be written without brackets"
    assert recipe.critique.temperature == 0.1, "1e-1, which YAML takes for text"
    assert recipe.filter.agree == "off", "the word, which YAML 1.1 takes for false"
    assert recipe.filter.critique_chars == (10, None)
    assert recipe.filter.right_ratio == 1.0
    assert isinstance(recipe.filter.right_ratio, float)
    assert recipe.decontaminate.benchmarks == ("gsm8k", "math")


def test_a_section_that_is_missing_or_empty_has_its_defaults(recipe_file):
    recipe = read_recipe(recipe_file())
    assert recipe.respond.answers == "corpus"
    assert recipe.refine.answers == "none"
    assert recipe.publish.rows_per_shard == type(recipe.publish)().rows_per_shard


def test_overrides_win_and_are_read_as_yaml(recipe_file):
    overrides = [
        "source.limit=5",
        "critique.teachers=[reference, 'openai:m@http://127.0.0.1:1/v1']",
        "respond.seed=7",
        "filter.agree=off",
        "source.levels=null",
        "name=other",
    ]
    recipe = read_recipe(recipe_file(), overrides)
    assert recipe.name == "other"
    assert recipe.source.limit == 5
    assert recipe.source.levels is None
    assert recipe.critique.teachers == ("reference", "openai:m@http://127.0.0.1:1/v1")
    assert recipe.respond.seed == 7, "a section that the file leaves empty"
    assert recipe.filter.agree == "off"


def test_overrides_reach_into_mappings(recipe_file):
    text = "name: a\nsource: {corpus: local, path: rows.jsonl, columns: {query: q}}"
    recipe = read_recipe(recipe_file(text), ["source.columns.response=r"])
    assert recipe.source.columns == {"query": "q", "response": "r"}


def test_the_recipe_as_run_reads_back_the_same_and_names_every_key(recipe_file, tmp_path):
    recipe = read_recipe(recipe_file())
    again = tmp_path / "again.yaml"
    again.write_text(to_yaml(recipe))
    assert read_recipe(again) == recipe
    assert pickle.loads(pickle.dumps(recipe)) == recipe
    for stage in STAGES:
        for field in dataclasses.fields(getattr(recipe, stage)):
            assert f"  {field.name}:" in to_yaml(recipe)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name: a\nsorce: {corpus: gsm8k}", "unknown section 'sorce' (did you mean 'source'?)"),
        (
            "name: a\nsource: {corpus: gsm8k}\ncritique: {temprature: 1}",
            "section critique: unknown key 'temprature' (did",
        ),
        ("name: a\nsource: {corpus: gsm9k}", "source.corpus='gsm9k': unknown (did you mean 'gsm8k'?)"),
        ("name: a\nsource: {corpus: gsm8k, limit: many}", "source.limit='many': give a whole number of rows from 1"),
        ("name: a\nsource: {corpus: gsm8k, limit: 2.5}", "source.limit=2.5: give a whole number of rows from 1"),
        ("name: a\nsource: {corpus: gsm8k, limit: true}", "source.limit=True: give a whole number of rows from 1"),
        ("name: a\nsource: {corpus: gsm8k, dedup: maybe}", "source.dedup='maybe': give true or false"),
        ("name: a\nsource: {corpus: gsm8k, split: [a]}", "source.split: expected text, got ['a']"),
        ("name: a\nsource: {corpus: gsm8k, columns: q}", "source.columns='q': give {record's column: source's"),
        (
            "name: a\nsource: {corpus: gsm8k}\ncritique: {top_p: high}",
            "critique.top_p='high': give a number over 0 and up to 1",
        ),
        ("name: a\nsource: {corpus: gsm8k}\ncritique: {samples: 0}", "critique.samples=0: give a whole number from 1"),
        (
            "name: a\nsource: {corpus: gsm8k}\nfilter: {query_chars: 5}",
            "filter.query_chars=5: give [least, most] characters",
        ),
        ("name: a\nsource: {corpus: gsm8k, levels: [1, x]}", "source.levels[1]='x': give a whole number"),
        (
            "name: a\nsource: {corpus: local, columns: {query: 5}}",
            "source.columns.query=5: give text",
        ),
        ("name: a\nsource: {corpus: local, columns: {5: q}}", "source.columns: expected texts as keys, got 5"),
        ("name: a\nsource: {corpus: gsm8k}\ncritique: {extra: &a {b: *a}}", "section critique: nested too deeply"),
        ("name: a\nsource: {corpus: gsm8k}\nfilter: 5", "section filter: expected keys and values, got 5"),
        ("name: a b\nsource: {corpus: gsm8k}", "name='a b': give letters, digits"),
        ("source: {corpus: gsm8k}", "no name; begin with a line like"),
        ("- a", "holds no sections"),
        ("name: [", "is not YAML"),
    ],
)
def test_a_mistake_is_told_in_one_line(recipe_file, text, told):
    with pytest.raises(CFTError) as error:
        read_recipe(recipe_file(text))
    assert told in str(error.value)
    assert "recipe.yaml" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("override", ["samples", "=3", "critique.=3", "name.x=3", ".a=1"])
def test_an_override_of_no_setting_is_refused(recipe_file, override):
    with pytest.raises(CFTError, match="--set"):
        read_recipe(recipe_file(), [override])


@pytest.mark.parametrize("override", ["critique.api_key=", "source.columns.Authorization=", "publish.token="])
def test_keys_have_no_place_in_a_recipe_and_are_not_repeated(recipe_file, override):
    text = "name: a\nsource: {corpus: local, path: rows.jsonl}"
    with pytest.raises(CFTError, match="from the environment only") as error:
        read_recipe(recipe_file(text), [override + "planted-key-1"])
    assert "planted" not in str(error.value)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(CFTError, match=r"none\.yaml' cannot be read \(No such file"):
        read_recipe(tmp_path / "none.yaml")


def test_a_mapping_can_be_a_recipe_too():
    assert to_recipe({"name": "a", "source": {"corpus": "gsm8k"}}).source.corpus == "gsm8k"
