"""For the tests of builds: small recipes, where a build is written, which stages really ran, and what is in it.

Fixtures: `recipe_file`, `recipe`, `folder`, `stages_run`, `no_plots`.
"""

from __future__ import annotations

import dataclasses
import json
from datetime import date
from typing import Any

import pytest
from telling_server import TellingServer

from cft_trl.data.stage_files import RowFile, stage_path
from cft_trl.synthesis import build as building
from cft_trl.synthesis.recipe import Recipe, read_recipe, to_recipe

RECIPE = """\
name: small
source: {corpus: arithmetic, limit: 40}
critique: {teachers: reference}
decontaminate: {benchmarks: none}
"""


def with_settings(recipe: Recipe, stage: str, **values: Any) -> Recipe:
    """A copy of a recipe with some of a stage's settings replaced."""
    return dataclasses.replace(recipe, **{stage: dataclasses.replace(getattr(recipe, stage), **values)})


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


@pytest.fixture
def no_plots(monkeypatch):
    monkeypatch.setattr("cft_trl.synthesis.publish.plot_statistics", lambda *_: False)


def recipe_for(teacher: str, **sections):
    content = {
        "source": {"corpus": "arithmetic", "limit": 4, "levels": [1]},
        "filter": {"verdict": "any", "agree": "off", "truncated": "keep"},
    }
    content |= {"critique": {"teachers": [teacher], "max_tokens": 8}, "decontaminate": {"benchmarks": "none"}}
    return to_recipe({"name": "x", **content, **sections})


def critiques(folder) -> list[tuple]:
    """What is in the dataset, apart from what tells of the run."""
    rows = RowFile(stage_path(folder, "decontaminate"))
    return [(row["id"], row["query"], row["critique"], row["verdict"]) for row in rows]


def today() -> str:
    return date.today().isoformat()


def lines_of(folder, stage="critique") -> list[dict]:
    return [json.loads(line) for line in (folder / "journal" / f"{stage}.jsonl").read_text().splitlines()]


# ---- a server that says what it serves ----

ROOT = {"owned_by": "vllm", "root": "org/first", "max_model_len": 2048}


def served(entry: dict | None, word: str):
    def change(server: TellingServer) -> None:
        server.entry, server.word = entry, word

    return change
