"""The JSON schema of recipes: what editors are told is what the reader takes."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
from typing import get_type_hints

import pytest
from conftest import REPOSITORY
from doc_blocks import BLOCKS
from jsonschema import Draft7Validator

from cft_trl.commands.recipes import shipped_files
from cft_trl.errors import CFTError
from cft_trl.synthesis.recipe import STAGES, Recipe, _read_yaml, read_recipe, to_recipe, to_yaml

FILE = REPOSITORY / "hub_datasets" / "recipe.schema.json"
SCHEMA = json.loads(FILE.read_text(encoding="utf-8"))
RECIPES = sorted((REPOSITORY / "hub_datasets").glob("*/recipe.yaml"))
IN_DOCS = [block for block in BLOCKS if block.language == "yaml" and re.search("^source:", block.text, re.MULTILINE)]
FIELDS = [(stage, field.name) for stage in STAGES for field in dataclasses.fields(get_type_hints(Recipe)[stage])]
VALUES = [
    *("x", "en", "", "  ", "A b", "drop", "fail", "first", "models", "critique", "one-shot", "gsm8k"),
    *(5, -1, 0, 1, 0.5, 1.5, 10**6, True, None, {}, {"a": "b"}, {"a": 1}, [], ["a"], ["a", " "], [1], [5, 6], [[1]]),
    *([1, None], [None, None], [0, 1, 2], [-1, 2], ["records"], ["records", "x"]),
]


def told(value: object) -> list[str]:
    return [f"{'.'.join(map(str, one.path))}: {one.message}" for one in Draft7Validator(SCHEMA).iter_errors(value)]


def test_it_is_written_from_the_types_as_they_are():
    spec = importlib.util.spec_from_file_location("make_reference", REPOSITORY / "docs" / "make_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert FILE.read_text(encoding="utf-8") == module.recipe_schema(), "run: python docs/make_reference.py"


def test_it_is_a_schema_and_travels_with_the_recipes():
    Draft7Validator.check_schema(SCHEMA)
    assert "prefixItems" not in FILE.read_text(), "newer than draft 7, which would not look at it"
    assert FILE.relative_to(REPOSITORY) in shipped_files()


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.parent.name)
def test_recipes_name_it_in_their_first_line_and_follow_it(path, monkeypatch):
    text = path.read_text(encoding="utf-8")
    first, _, rest = text.partition("\n")
    found = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first)
    assert (path.parent / found[1]).resolve() == FILE
    assert told(_read_yaml(text)) == []
    assert told(_read_yaml(to_yaml(read_recipe(path)))) == [], "the recipe as run, with every value"
    monkeypatch.chdir(path.parent)  # where a prompt's file is
    assert to_recipe(_read_yaml(rest)) == read_recipe(path), "the line changes nothing of the recipe"


@pytest.mark.parametrize("block", [pytest.param(block, id=block.place) for block in IN_DOCS])
def test_recipes_of_the_pages_follow_it(block):
    assert told(_read_yaml(block.text)) == []


def test_there_are_recipes_in_the_pages():
    assert len(RECIPES) == 6
    assert IN_DOCS


def test_every_key_is_described():
    for stage in STAGES:
        assert not [name for name, key in SCHEMA["properties"][stage]["properties"].items() if not key["description"]]
    assert [(stage, name) for stage in STAGES for name in SCHEMA["properties"][stage]["properties"]] == FIELDS


@pytest.mark.parametrize(("stage", "field"), FIELDS, ids=".".join)
def test_it_takes_what_the_reader_takes(stage, field):
    for value in VALUES:
        if (stage, field) == ("publish", "repo") and value is not None:
            continue  # a name, which the Hub's own client judges
        try:
            to_recipe({"name": "a", stage: {field: value}})
        except CFTError as error:
            # "field=value: give …" and "field: expected …" are of the type; what relates fields is told otherwise.
            reads = not re.match(rf"recipe: {stage}\.{field}[\w.\[\]]*(=.*: (unknown.*)?give|: expected) ", str(error))
        else:
            reads = True
        assert (told({"name": "a", stage: {field: value}}) == []) is reads, value


@pytest.mark.parametrize(
    ("recipe", "place"),
    [
        ({"name": "a", "sorce": {}}, "'sorce' was unexpected"),
        ({"name": "a", "critique": {"temprature": 1}}, "'temprature' was unexpected"),
        ({"source": {"corpus": "gsm8k"}}, "'name' is a required property"),
        ({"name": "a", "critique": 5}, "critique: 5 is not of type 'object', 'null'"),
        ({"name": 5}, "name: 5 is not of type 'string'"),
    ],
)
def test_what_the_reader_refuses_at_once_is_marked(recipe, place):
    assert place in " ".join(told(recipe))
    with pytest.raises(CFTError):
        to_recipe(recipe)
