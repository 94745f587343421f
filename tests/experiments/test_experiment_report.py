"""What an experiment's report says of its rows, sets and bases: what was run, and not another experiment."""

from __future__ import annotations

import dataclasses
import json

from cft_trl.experiments.arms import result_path
from cft_trl.experiments.report import notes, write_report
from cft_trl.experiments.results import collect, judged
from cft_trl.experiments.settings import Arm, Experiment, Size, World, as_plain

ARMS = {"base": Arm(train="nothing"), "cft": Arm()}


def told(size: Size | None = None, arms: dict | None = None, **world) -> str:
    experiment = Experiment("mine", "Why?", "cft", arms or ARMS, world=World(**world))
    problems = [
        {"kind": kind, "set": "gsm8k", "id": f"p-{at}", "truth": "wrong" if at < 3 else "right", "arm": arm}
        for arm in experiment.arms
        for kind in ("critic", "solving")
        for at in range(4)
    ]
    return "\n".join(
        notes({"experiment": as_plain(experiment), "size": as_plain(size or Size()), "judged": judged(problems)})
    )


def test_the_share_of_wrong_solutions_is_counted():
    text = told()
    assert "3 of 4 of `gsm8k` (75.0%)" in text
    assert "half of" not in text


def test_the_sets_are_those_of_the_source():
    assert "`unseen`" in told(unseen=("two_prices",))
    assert "`unseen`" not in told()
    assert "`steps`" in told()
    text = told(Size(model="smollm2-135m"), source="files", critiques="rows.jsonl")
    assert "ProcessBench" in text
    assert "`in`" not in text
    assert "`steps`" not in text


def test_a_base_from_scratch_is_told_of_only_where_there_is_one():
    assert "from scratch" in told()
    assert "from scratch" not in told(Size(model="smollm2-135m"))
    named = {name: dataclasses.replace(arm, model="org/model") for name, arm in ARMS.items()}
    assert "from scratch" not in told(arms=named)
    assert "from scratch" in told(arms={**named, "cft": ARMS["cft"]})
    assert "ProcessBench" not in told()


def test_what_is_not_trained_is_named():
    assert "Not trained, and the same at each seed: base." in told()
    assert "Not trained" not in told(arms={"cft": Arm(), "sft": Arm(train="sft")})


def test_the_files_say_it(tmp_path):
    experiment = Experiment("mine", "Why?", "base", ARMS)
    probed = [
        {"kind": kind, "set": "in", "id": f"in-{at}", "truth": "wrong" if at else "right", "text": "", "said": "wrong",
         "hit": bool(at), "form": True}
        for kind in ("solving", "critic")
        for at in range(5)
    ]  # fmt: skip
    for arm in experiment.arms:
        for seed in experiment.seeds:
            view = {"learning_rate": 1e-3, "rows": 1, "target_tokens": 1, "tokens": 1, "loss": 0.1, "probed": probed}
            views = {name: {**view, "digest": f"{arm}-{seed}-{name}"} for name in ("tokens", "rows")}
            path = result_path(tmp_path, arm, seed)
            path.parent.mkdir(parents=True)
            path.write_text(json.dumps({"arm": arm, "seed": seed, "views": views, "validation": {}, "seconds": 1.0}))
    write_report(collect(experiment, "cpu", tmp_path), tmp_path)
    for name in ("report.md", "report.html"):
        assert "4 of 5 of `in` (80.0%)" in (tmp_path / name).read_text()
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["judged"] == {"in": {"solutions": 5, "wrong": 4}}
    found = report["summary"][0]["measures"]
    assert [found[f"{name}_in"]["mean"] for name in ("critic", "wrong", "right")] == [0.8, 1.0, 0.0]
    assert "| wrong ones judged wrong: in | right ones judged right: in |" in (tmp_path / "report.md").read_text()
