"""Writes reference.md, commands.md, api.md and hub_datasets/recipe.schema.json from the code: they say what it does.

    python docs/make_reference.py            # tests/house/test_docs.py fails where these files are not what this writes

The settings' descriptions are the metadata of their fields; the recipe's keys are described in the docstrings of the
stages' settings, under "Attributes:".
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml
from make_api import api
from make_commands import cell, commands, table

FOLDER = Path(__file__).parent
SCHEMA = FOLDER.parent / "hub_datasets" / "recipe.schema.json"

COLUMNS = {
    "id": "16 hex digits of a hash over query, response and critique, unless the data bring their own",
    "query": "the question; always there",
    "response": "somebody's answer to it; always there",
    "critique": "what the teacher says about the answer; the target of `objective: cft`",
    "verdict": "`right`, `wrong` or null: what the critique concludes",
    "refinement": "the teacher's corrected answer; the target of `objective: cgd`",
    "reference_answer": "the final answer that is known to be right",
    "response_source": "who wrote the response",
    "teacher": "who wrote the critique",
    "source": "the corpus",
    "meta": "whatever else the data bring, as JSON; in published Parquet as its text (`json.loads`)",
}
EXIT_CODES = {
    0: "done",
    1: "a defect of ours, with a traceback; please report it",
    2: "a mistake in the input, told in one line; `cft grade`: something differs; `cft doctor`: training cannot work",
    3: "done, but some rows failed; they are listed (`failures.jsonl`)",
    130: "stopped with Ctrl-C; the same command goes on from where it was",
}


def reference() -> str:
    """The text of reference.md."""
    from trl import SFTConfig

    from cft_trl.environment import VARIABLES
    from cft_trl.experiments.settings import Arm, Experiment, Size, World
    from cft_trl.grading.benchmarks import BENCHMARKS
    from cft_trl.synthesis.recipe import STAGES, Recipe
    from cft_trl.training.arguments import CFTScriptArguments
    from cft_trl.training.config import CFTConfig
    from cft_trl.training.parts import PartSettings

    stages = {field.name: field for field in dataclasses.fields(Recipe) if field.name in STAGES}
    sections = importlib.import_module("typing").get_type_hints(Recipe)
    own = [name for name in CFTConfig.__annotations__ if name in CFTConfig.__dataclass_fields__]
    new = [name for name in own if name not in SFTConfig.__dataclass_fields__]
    parts = [
        "# Reference",
        "Written by `docs/make_reference.py` from the code; the tests compare the two.",
        "## Columns of a row",
        "Only `query` and `response` are always there. Other layouts are read by their columns: see "
        "[Your own data](your-data.md).",
        table(("column", "holds"), [(f"`{name}`", COLUMNS[name]) for name in _columns()]),
        "## Settings of a training run",
        "Each is a line of the YAML file and a flag of `cft train` (`--name value`; dashes may stand for underscores). "
        "Beside these, every field of transformers' `TrainingArguments`, TRL's `SFTConfig` and `ModelConfig` works: "
        "`cft train --help-all` lists them.",
        "### Rows, checkpoints",
        table(("setting", "default", "what it does"), _fields(CFTScriptArguments, CFTScriptArguments.__annotations__)),
        "### Entries of datasets",
        "What they mean together: [Mixtures](training.md#mixtures).",
        table(("key", "default", "what it does"), _recipe_keys(PartSettings)),
        "### The method",
        table(("setting", "default", "what it does"), _fields(CFTConfig, new)),
        "### Defaults that differ from TRL's",
        table(("setting", "default", "what it does"), _fields(CFTConfig, [name for name in own if name not in new])),
        "## Keys of a recipe",
        "The file of `cft build` has `name` and a section per stage, in the order they run; one that is not there "
        "has its defaults. `--set section.key=value` replaces any of them.",
        "Editors with a YAML language server check a recipe as it is typed, and offer its keys, where its first line "
        "is `# yaml-language-server: $schema=recipe.schema.json`, with the path from the recipe to that file. It lies "
        "in `hub_datasets/`, and `cft recipes` copies it with the rest. `cft build` checks what relates two keys, too.",
        *(
            text
            for stage in stages
            for text in (f"### {stage}", table(("key", "default", "what it does"), _recipe_keys(sections[stage])))
        ),
        "## Keys of an experiment",
        "The file of `cft experiment`: these keys, a section `world`, sections `cpu` and `gpu` of one kind, and under "
        "`arms` a section of each arm.",
        *(
            text
            for title, kind in (("the file", Experiment), ("arms.NAME", Arm), ("world", World), ("cpu, gpu", Size))
            for text in (f"### {title}", table(("key", "default", "what it does"), _recipe_keys(kind)))
        ),
        "## Benchmarks",
        "`cft eval --tasks` takes these names, `six` and `all`; a limit after a colon (`gsm8k:100`).",
        table(
            ("name", "problems", "on the Hub", "answer", "licence, as its publisher states it"),
            [
                (f"`{one.name}`", f"{one.drawn or one.size:,}", f"`{one.hub}`", one.answer, one.licence)
                for one in BENCHMARKS.values()
            ],
        ),
        "## Environment variables",
        table(("variable", "what it is for"), [(f"`{name}`", what) for name, what in VARIABLES.items()]),
        "The Hub's own work as usual: `HF_HOME`, `HF_TOKEN`, `HF_ENDPOINT`, `HF_HUB_OFFLINE`. An endpoint's key is "
        "in `OPENAI_API_KEY`, or in the variable that `--api-key-env` or the teacher's name says.",
        "## What makes it begin anew",
        "What a command did is used again as long as what it was done with is what it was: a model is its weights, "
        "configuration, tokenizer and template (on the Hub its commit), rows are their texts, an endpoint is its "
        "address, the model's name there and what `/v1/models` says of it. Names and places do not count.",
        table(
            ("command", "what has changed since", "what happens"),
            [(line["command"], cell(line["changed"]), cell(line["then"])) for line in begin_anew()],
        ),
        "## Exit codes",
        table(("code", "means"), [(str(code), what) for code, what in EXIT_CODES.items()]),
    ]
    return "\n\n".join(parts) + "\n"


def recipe_schema() -> str:
    """The text of recipe.schema.json: what editors check a recipe with."""
    from cft_trl.data.settings import json_schema
    from cft_trl.synthesis.recipe import Recipe

    about = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "A recipe of cft build",
        "$comment": "Written by docs/make_reference.py from the types of the settings.",
    }
    return json.dumps(about | json_schema(Recipe, _attributes), indent=1, ensure_ascii=False) + "\n"


def begin_anew() -> list[dict[str, str]]:
    """The lines of begin_anew.yaml."""
    return yaml.safe_load((FOLDER / "begin_anew.yaml").read_text(encoding="utf-8"))


def _columns() -> tuple[str, ...]:
    from cft_trl.data.records import COLUMNS as names

    return names


def _fields(cls: type, names: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    described = _attributes(cls)
    for name in names:
        field = cls.__dataclass_fields__[name]
        text = described.get(name) or field.metadata.get("help", "")
        yield f"`{name}`", _value(_default(field)), cell(text)


def _recipe_keys(cls: type) -> Iterator[tuple[str, str, str]]:
    described = _attributes(cls)
    for field in dataclasses.fields(cls):
        if dataclasses.is_dataclass(_default(field)):
            continue  # a section, which has a table of its own
        yield f"`{field.name}`", _value(_default(field)), cell(described.get(field.name, ""))


def _attributes(cls: type) -> dict[str, str]:
    """The entries under "Attributes:" or "Args:" of a docstring; "a, b: text" describes both."""
    found: dict[str, str] = {}
    text = inspect.cleandoc(cls.__doc__ or "")
    part = re.search(r"^(?:Attributes|Args):\n(.*?)(?=^\S|\Z)", text, re.DOTALL | re.MULTILINE)
    for entry in re.split(r"\n(?=    \S)", "\n" + part[1].rstrip() if part else ""):
        names, colon, told = entry.strip().partition(":")
        if colon:
            told = " ".join(told.replace("``", "`").split())
            found |= {name.strip(): told for name in names.split(",")}
    return found


def _default(field: dataclasses.Field) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return None if field.default is dataclasses.MISSING else field.default


def _value(value: Any) -> str:
    if value in (None, (), {}, []):
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return f"`[{', '.join('null' if one is None else str(one) for one in value)}]`"
    return f"`{value}`" if value != "" else "empty"


if __name__ == "__main__":
    (FOLDER / "reference.md").write_text(reference(), encoding="utf-8")
    (FOLDER / "commands.md").write_text(commands(), encoding="utf-8")
    (FOLDER / "api.md").write_text(api(), encoding="utf-8")
    SCHEMA.write_text(recipe_schema(), encoding="utf-8")
