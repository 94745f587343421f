"""Builds whose asking is done elsewhere: in several tasks (`--executor local --tasks N`), or through the Batch API."""

from __future__ import annotations

import pytest
from batch_server import BatchServer
from build_runs import with_settings
from faulty_server import KEY, FaultyServer

from cft_trl.cli import main
from cft_trl.data.stage_files import stage_path
from cft_trl.errors import CFTError
from cft_trl.synthesis.build import Spread, build, with_cost
from cft_trl.synthesis.recipe import STAGES, to_recipe

RECIPE = to_recipe(
    {
        "name": "tasks",
        "source": {"corpus": "arithmetic", "limit": 30},
        "critique": {"teachers": "reference"},
        "decontaminate": {"benchmarks": "none"},
    }
)
HERE = Spread("local", 2)


def rows(folder) -> list[bytes]:
    return [stage_path(folder, stage).read_bytes() for stage in STAGES]


@pytest.mark.slow
def test_two_tasks_leave_what_one_process_leaves(tmp_path):
    build(RECIPE, tmp_path / "one")
    job = build(RECIPE, tmp_path / "two", spread=HERE)
    assert rows(tmp_path / "one") == rows(tmp_path / "two")
    assert job.reports["critique"].details["teachers"]["reference"]["answers"] == 30
    assert build(RECIPE, tmp_path / "two", spread=HERE).kept == list(STAGES)


@pytest.mark.slow
def test_settings_that_go_and_come_back_do_not_mix(tmp_path):
    """What tasks left for one recipe is not taken for another's."""
    other = with_settings(RECIPE, "critique", samples=2)
    for recipe in (RECIPE, other, RECIPE, other):
        job = build(recipe, tmp_path / "out", spread=HERE)
        assert job.reports["critique"].written == 30 * recipe.critique.samples
    build(other, tmp_path / "one")
    assert rows(tmp_path / "one") == rows(tmp_path / "out")


def test_a_build_goes_on_as_it_began(tmp_path):
    build(RECIPE, tmp_path / "out")
    changed = with_settings(RECIPE, "critique", samples=2)
    with pytest.raises(CFTError, match="was begun without --executor"):
        build(changed, tmp_path / "out", spread=HERE)
    # Where nothing is asked for, it does not matter.
    assert build(with_settings(RECIPE, "filter", right_ratio=0.2), tmp_path / "out", spread=HERE).kept[-1] == "refine"


def test_an_executor_needs_a_number_of_tasks(tmp_path, capsys):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("name: a\nsource: {corpus: arithmetic, limit: 5}\n")
    for flags in (["--tasks", "2"], ["--executor", "local"]):
        assert main(["build", str(recipe), *flags]) == 2
        assert "--executor and --tasks go together" in capsys.readouterr().err


def test_the_batch_api_costs_half_and_makes_the_same_rows(tmp_path, monkeypatch):
    prices = tmp_path / "prices.yaml"
    prices.write_text("date: 2026-01-01\nmodels: {m: {in: 0, out: 100}}\n")
    monkeypatch.setenv("CFT_PRICES", str(prices))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    cost, written = {}, {}
    for batch, serve in ((False, FaultyServer), (True, BatchServer)):
        with serve() as server:
            recipe = with_settings(RECIPE, "critique", teachers=(f"openai:m@{server.url}",))
            job = build(with_settings(recipe, "filter", agree="off"), tmp_path / str(batch) / "out", batch=batch)
        cost[batch] = with_cost(job.reports["critique"], job).details["teachers"]["m"]["cost in US dollars"]
        written[batch] = stage_path(job.folder, "critique").read_bytes()
    assert written[True] == written[False]
    assert cost[True] == cost[False] / 2 > 0
