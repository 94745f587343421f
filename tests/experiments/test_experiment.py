"""The experiments as a whole, at toy size: a base of one layer, a few steps per arm.

What is looked at is the harness, not what the models learn: every arm at every seed, on rows of its own, apart from the
tests; and the same Parquet, byte for byte, after a kill as without one.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from toy_experiment import SMALL, TOY, toy

from cft_trl.errors import CFTError
from cft_trl.experiments.arms import result_path
from cft_trl.experiments.base import _digest, base_identities
from cft_trl.experiments.harness import _claim, run_experiment
from cft_trl.experiments.report import machine
from cft_trl.experiments.results import check_whole, collect, comparisons
from cft_trl.experiments.settings import Experiment


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CFT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory, cache):
    """An experiment that nothing interrupted -> (settings, folder, tables)."""
    folder = tmp_path_factory.mktemp("whole")
    experiment = toy(folder, **SMALL)
    return experiment, folder / "out", run_experiment(experiment, "cpu", folder / "out", say=lambda line: None)


# ---- the whole -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_arm_is_trained_at_every_seed_in_both_views_and_tested_alike(whole):
    import pyarrow.parquet as parquet

    experiment, output, tables = whole
    rows = parquet.read_table(output / "results.parquet").to_pylist()
    assert [(row["arm"], row["seed"], row["view"]) for row in rows] == [
        (arm, seed, view) for arm in ("base", "mixed") for seed in (0, 1, 2) for view in ("tokens", "rows")
    ]
    for row in rows:
        if row["arm"] != "base":
            budget = {"tokens": ("target_tokens", 500, 100), "rows": ("rows", 6, 0)}[row["view"]]
            assert abs(row[budget[0]] - budget[1]) <= budget[2], row
            assert row["learning_rate"] in experiment.learning_rates
    problems = parquet.read_table(output / "problems.parquet").to_pylist()
    assert len(problems) == 12 * 3 * 2 * 2  # arm, seed and view; set; kind; problem
    for row in rows:  # each score counted again from the problems
        of_run = [one for one in problems if all(one[name] == row[name] for name in ("arm", "seed", "view"))]
        for of_set in ("in", "unseen", "steps"):
            hits = [one["hit"] for one in of_run if one["kind"] == "critic" and one["set"] == of_set]
            assert row[f"critic_{of_set}"] == sum(hits) / 2
    assert {line["arm"] for line in tables["comparisons"]} == {"mixed"}
    page = (output / "report.html").read_text()
    assert "data:image/png;base64," in page
    assert "Does the harness hold?" in page
    assert 'src="http' not in page
    assert "| mixed |" in (output / "report.md").read_text()


def fabricated(experiment: Experiment) -> dict:
    """Results as the arms leave them: two problems each, rows of its own for each seed."""
    probed = [
        {"kind": kind, "set": "in", "id": f"in-{at}", "truth": "1", "text": "", "said": "1", "hit": True, "form": True}
        for kind in ("solving", "critic")
        for at in range(2)
    ]
    return {
        (arm, seed): {
            "arm": arm,
            "seed": seed,
            "views": {
                view: {"digest": None if arm == "base" else f"{arm}-{seed}-{view}", "probed": list(probed)}
                for view in ("tokens", "rows")
            },
        }
        for arm in experiment.arms
        for seed in experiment.seeds
    }


def test_an_arm_that_is_skipped_is_found(tmp_path):
    experiment = toy(tmp_path)
    check_whole(experiment, fabricated(experiment))
    found = fabricated(experiment)
    del found["mixed", 1]
    with pytest.raises(CFTError, match="arm mixed, seed 1, equal tokens: there is no result"):
        check_whole(experiment, found)
    found = fabricated(experiment)
    del found["cft", 2]["views"]["rows"]
    with pytest.raises(CFTError, match="arm cft, seed 2, equal rows: there is no result"):
        check_whole(experiment, found)


@pytest.mark.parametrize("change", ["fewer", "others", "twice"])
def test_an_arm_that_is_tested_on_other_problems_is_found(tmp_path, change):
    experiment = toy(tmp_path)
    found = fabricated(experiment)
    probed = found["cft", 2]["views"]["rows"]["probed"]
    last = probed.pop()
    probed += {"fewer": [], "others": [{**last, "id": "in-7"}], "twice": [last, last]}[change]
    with pytest.raises(CFTError, match="arm cft, seed 2, equal rows: tested on other problems"):
        check_whole(experiment, found)


def test_a_seed_that_is_used_twice_is_found(tmp_path):
    experiment = toy(tmp_path)
    found = fabricated(experiment)
    found["cft", 1] = {**found["cft", 0], "seed": 1}
    with pytest.raises(CFTError, match="arm cft: seeds 0 and 1 were trained on the same rows"):
        check_whole(experiment, found)


@pytest.mark.slow
def test_a_test_problem_that_would_be_trained_on_is_found(cache, tmp_path):
    experiment, output = toy(tmp_path, **SMALL), tmp_path / "out"
    run_experiment(experiment, "cpu", output, arms=["base"], seeds=[0], say=lambda line: None)
    planted = json.loads((output / "data" / "test.jsonl").read_text().splitlines()[0])["query"]
    pool = output / "data" / "pool-0.jsonl"
    rows = [json.loads(line) for line in pool.read_text().splitlines()]
    for row in rows[:4]:
        row["query"] = planted
    pool.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(CFTError, match="arm mixed, seed 0: the test problem in-000000 is among the rows"):
        run_experiment(experiment, "cpu", output, seeds=[0], say=lambda line: None)
    assert not result_path(output, "mixed", 0).exists()


@pytest.mark.slow
def test_a_log_is_told_what_goes_on(cache, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("cft_trl.progress._FIRST_LINE_S", 0.0)
    monkeypatch.setattr("cft_trl.progress._LOOK_EVERY_S", 0.01)
    run_experiment(toy(tmp_path, **SMALL), "cpu", tmp_path / "out", seeds=[0], say=lambda line: None)
    told = capsys.readouterr().err
    assert "mixed, seed 0, equal tokens, learning rate 0.001, training, steps: " in told
    assert "mixed, seed 0, learning rate 0.001, validation: texts: " in told
    for who in ("base", "mixed, seed 0, equal rows"):
        assert f"{who}, test: texts: " in told


@pytest.mark.slow
def test_two_processes_test_the_base_once(cache, tmp_path, monkeypatch, capsys):
    """The second waits for the first, which holds the lock for as long as it is at it."""
    from cft_trl.data.folders import locked, write_text
    from cft_trl.experiments import arms

    experiment, output = toy(tmp_path, **SMALL), tmp_path / "out"
    run_experiment(experiment, "cpu", output, arms=["base"], seeds=[0], say=lambda line: None)
    [path] = output.glob("base-*.json")
    tested = path.read_text()
    path.unlink()
    monkeypatch.setattr(arms._Run, "_test", lambda *_: pytest.fail("tested again"))
    with ThreadPoolExecutor() as pool:
        with locked(output, "test of the base", "", f".{path.stem}.lock"):
            second = pool.submit(run_experiment, experiment, "cpu", output, ["base"], [1], lambda line: None)
            while "waiting: another process is at it" not in capsys.readouterr().out:
                time.sleep(0.05)
                assert not second.done()
            write_text(path, tested)
        second.result()
    assert json.loads(result_path(output, "base", 1).read_text())["views"]["rows"]["probed"] == json.loads(tested)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_training_and_writing_compute_in_the_precision_that_is_asked_for(cache, tmp_path, monkeypatch, precision):
    import torch

    computed, forward = set(), torch.nn.Linear.forward

    def noted(module, given):
        made = forward(module, given)
        computed.add((module.training, str(made.dtype)))
        return made

    monkeypatch.setattr(torch.nn.Linear, "forward", noted)
    experiment = toy(tmp_path, cpu={**TOY["cpu"], "precision": precision})
    run_experiment(experiment, "cpu", tmp_path / "out", arms=["cft"], seeds=[0], say=lambda line: None)
    assert computed == {(True, f"torch.{precision}"), (False, f"torch.{precision}")}


# ---- going on --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_after_kill_9_the_same_command_ends_with_the_same_parquet(whole, tmp_path):
    """Killed in the first training, which has saved a checkpoint, and again between two seeds."""
    _, before, _ = whole
    toy(tmp_path, **SMALL)
    output = tmp_path / "out"
    command = [sys.executable, "-m", "cft_trl.cli", "experiment", str(tmp_path / "toy.yaml"), "--out", str(output)]
    killed_at(command, output, "arms/mixed/seed-0/*/checkpoint-*")
    assert not list(output.glob("arms/mixed/seed-0/*/trained.json"))
    killed_at(command, output, "arms/mixed/seed-0/result.json")
    assert not (output / "results.parquet").exists()
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    [line] = [line for line in again.stdout.splitlines() if "mixed, seed 0: done before" in line]
    assert "right at equal tokens: solving (in " in line
    for name in ("results.parquet", "problems.parquet"):
        assert (output / name).read_bytes() == (before / name).read_bytes(), name


def killed_at(command: list[str], output: Path, sign: str) -> None:
    """Starts a command and kills it as soon as there is a file of that name."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    ends = time.monotonic() + 600
    while not next(output.glob(sign), None):
        assert process.poll() is None
        assert time.monotonic() < ends
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"question": "Another?"}, "an experiment with another experiment"),
        ({"cpu": {**TOY["cpu"], "rows": 8}}, "an experiment with another size"),
    ],
)
def test_a_folder_of_another_experiment_is_refused(tmp_path, changes, told):
    output = tmp_path / "out"
    output.mkdir()
    _claim(output, (mine := toy(tmp_path)), "cpu", mine.cpu, {})
    _claim(output, mine, "cpu", mine.cpu, {})
    with pytest.raises(CFTError, match=f"holds {told}; give another --out"):
        run_experiment(toy(tmp_path, **changes), "cpu", output, say=lambda line: None)


def test_other_code_or_libraries_do_not_go_on(tmp_path, monkeypatch):
    experiment = toy(tmp_path)
    (tmp_path / "toy.yaml").unlink()
    _claim(tmp_path, experiment, "cpu", experiment.cpu, {})
    monkeypatch.setattr("transformers.__version__", "0")
    with pytest.raises(CFTError, match="with other versions of the libraries"):
        _claim(tmp_path, experiment, "cpu", experiment.cpu, {})
    monkeypatch.setattr("cft_trl.experiments.harness.package_digest", lambda: "0")
    with pytest.raises(CFTError, match="with another version of our own code"):
        _claim(tmp_path, experiment, "cpu", experiment.cpu, {})


@pytest.mark.parametrize("named", ["size", "arm"])
def test_a_named_base_that_was_trained_in_again_does_not_go_on(tmp_path, named):
    model, output = tmp_path / "model", tmp_path / "out"
    model.mkdir()
    (model / "config.json").write_text('{"hidden_size": 8}')
    arms = {**TOY["arms"], "cft": {"train": "cft", "model": str(model)}} if named == "arm" else TOY["arms"]
    size = {**TOY["cpu"], "model": str(model)} if named == "size" else TOY["cpu"]
    experiment = toy(tmp_path / "file", arms=arms, cpu=size)
    output.mkdir()
    bases = base_identities(experiment, experiment.cpu)
    assert list(bases) == [str(model)]
    _claim(output, experiment, "cpu", experiment.cpu, bases)
    _claim(output, experiment, "cpu", experiment.cpu, base_identities(experiment, experiment.cpu))
    (model / "config.json").write_text('{"hidden_size": 16}')
    with pytest.raises(CFTError, match=r"the base '.*model' as it was before: another config\.json .*; give"):
        run_experiment(experiment, "cpu", output, say=lambda line: None)


def test_a_base_that_is_not_there_is_told_before_anything_is_written(tmp_path):
    experiment = toy(tmp_path, cpu={**TOY["cpu"], "model": str(tmp_path / "none")})
    with pytest.raises(CFTError, match="none"):
        run_experiment(experiment, "cpu", tmp_path / "out", say=lambda line: None)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("what", ["cft_trl.experiments.base.package_digest", "transformers.__version__"])
def test_other_code_or_libraries_make_another_base(tmp_path, monkeypatch, what):
    experiment = toy(tmp_path)
    before = _digest(experiment.world, experiment.cpu)
    assert _digest(experiment.world, experiment.cpu) == before
    monkeypatch.setattr(what, (lambda: "0") if what.endswith("digest") else "0")
    assert _digest(experiment.world, experiment.cpu) != before


def test_an_arm_or_seed_that_is_not_there_is_told(tmp_path):
    with pytest.raises(CFTError, match=r"--arm cfd: the experiment has none \(did you mean 'cft'\?\); it has base"):
        run_experiment(toy(tmp_path), "cpu", tmp_path / "out", arms=["cfd"])
    with pytest.raises(CFTError, match=r"--seed 7: the experiment has none; it has 0, 1, 2"):
        run_experiment(toy(tmp_path), "cpu", tmp_path / "out", seeds=[7])
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "thesis.txt").touch()
    with pytest.raises(CFTError, match="holds files that are not an experiment's; give another --out"):
        run_experiment(toy(tmp_path), "cpu", tmp_path / "used")


def test_an_experiment_on_files_that_are_not_here_says_so_and_does_nothing(tmp_path):
    place = {"source": "files", "critiques": str(tmp_path / "none.jsonl")}
    told: list[str] = []
    assert run_experiment(toy(tmp_path, world=place), "cpu", tmp_path / "out", say=told.append) is None
    assert len(told) == 1
    assert told[0].startswith("toy is skipped: critiques '")
    assert not (tmp_path / "out").exists()


def test_a_gpu_that_was_not_used_is_not_named(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "a GPU")
    assert machine("cpu")["accelerator"] == "none"
    assert machine("gpu")["accelerator"] == "a GPU"


def test_collect_wants_every_result(tmp_path):
    with pytest.raises(CFTError, match="arm base, seed 0, equal tokens: there is no result"):
        collect(toy(tmp_path), "cpu", tmp_path)


# ---- the statistics --------------------------------------------------------------------------------------------------


def _problems(arm: str, hits: str, seed: int = 0) -> list[dict]:
    about = {"arm": arm, "seed": seed, "view": "tokens", "kind": "solving", "set": "in"}
    return [{**about, "id": f"in-{at}", "hit": hit == "1"} for at, hit in enumerate(hits)]


def test_paired_tests_and_holm_are_those_worked_out_by_hand():
    # McNemar, exact: 8 problems that only `a` solved: 2 × 0.5^8. 1 lost and 5 won: 2 × (1 + 6) × 0.5^6. None: 1.
    problems = _problems("base", "1000000000") + _problems("a", "1111111110")
    problems += _problems("b", "0111110000") + _problems("c", "1000000000")
    found = {line["arm"]: line for line in comparisons(problems, "base")}
    assert [found[arm]["p"] for arm in "abc"] == pytest.approx([2 / 256, 14 / 64, 1.0])
    # Holm: times 3, 2, 1 in their order.
    assert [found[arm]["p_holm"] for arm in "abc"] == pytest.approx([6 / 256, 28 / 64, 1.0])
    assert [found[arm]["difference"] for arm in "abc"] == pytest.approx([0.8, 0.4, 0.0])
    assert [found[arm]["seeds_above"] for arm in "abc"] == [1, 1, 0]


def test_seeds_are_averaged_per_problem_before_they_are_compared():
    problems = [line for seed, hits in enumerate(("1100", "1000")) for line in _problems("base", hits, seed)]
    problems += [line for seed, hits in enumerate(("1110", "1111")) for line in _problems("a", hits, seed)]
    [line] = comparisons(problems, "base")
    assert (line["difference"], line["problems"], line["seeds_above"], line["seeds"]) == (0.5, 4, 2, 2)
    assert line["test"] == "paired bootstrap"
