"""For the tests of builds: a small recipe, where its build is written, and which of its stages really ran."""

from __future__ import annotations

import pytest

from cft_trl.synthesis import build as building
from cft_trl.synthesis.recipe import read_recipe

RECIPE = """\
name: small
source: {corpus: arithmetic, limit: 40}
critique: {teachers: reference}
decontaminate: {benchmarks: none}
"""


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
