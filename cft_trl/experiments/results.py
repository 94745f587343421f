"""The results of all arms as Parquet and as tables: means, deviations, and paired tests with Holm's correction.

    results.parquet     one row per arm, seed and view: learning_rate, rows, target_tokens, digest, solving_in,
                        critic_in, wrong_in and right_in (of wrong and of right solutions alone), answers_in (share of
                        answers in the asked form), … for each test set
    problems.parquet    one row per arm, seed, view and test problem: kind, set, id, truth, said, hit, form, text

Every figure of a table can be counted again from `problems.parquet`. Both files are the same, byte for byte, when an
experiment is repeated on one machine; how long things took is in `report.json`.

The tests compare an arm with the baseline, problem by problem: a problem's score is the share of seeds that got it
right (`evaluation.significance.compare`: exact McNemar for one seed, a paired bootstrap over problems for several).
They say whether other problems of this kind would show the difference, at these seeds; that other seeds would is what
the deviation and `seeds_above` are for. Holm's correction is over the arms of one test set.
"""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from cft_trl.errors import CFTError
from cft_trl.evaluation.report_figures import percent
from cft_trl.evaluation.significance import compare, holm
from cft_trl.experiments.arms import result_path
from cft_trl.experiments.settings import VIEWS, Experiment, as_plain

Line = dict[str, Any]
Tables = dict[str, Any]

# What is measured -> the kind of probe, what of it, and of which solutions alone.
MEASURES = {
    "solving": ("solving", "hit", None),
    "critic": ("critic", "hit", None),
    "wrong": ("critic", "hit", "wrong"),
    "right": ("critic", "hit", "right"),
    "answers": ("solving", "form", None),
    "verdicts": ("critic", "form", None),
}
TESTED = ("solving", "critic")  # the others are probes of form


def collect(experiment: Experiment, preset: str, output: Path) -> Tables:
    """Writes both Parquet files; returns the tables.

    Args:
        experiment: As its file says.
        preset: "cpu" or "gpu".
        output: The experiment's folder.

    Raises:
        CFTError: An arm is missing, or two seeds of an arm were trained on the same.
    """
    found = {
        (arm, seed): json.loads(result_path(output, arm, seed).read_text(encoding="utf-8"))
        for arm, seed in product(experiment.arms, experiment.seeds)
        if result_path(output, arm, seed).is_file()
    }
    check_whole(experiment, found)
    problems = [
        {"arm": arm, "seed": seed, "view": view, **one}
        for (arm, seed), result in found.items()
        for view in VIEWS
        for one in result["views"][view]["probed"]
    ]
    results = list(_results(experiment, found))
    write_parquet(results, output / "results.parquet")
    write_parquet(problems, output / "problems.parquet")
    return {
        "experiment": as_plain(experiment) | {"cpu": None, "gpu": None},
        "preset": preset,
        "size": as_plain(getattr(experiment, preset)),
        "judged": judged(problems),
        "summary": summary(results),
        "comparisons": comparisons(problems, experiment.baseline),
        "validation": {f"{arm}, seed {seed}": result["validation"] for (arm, seed), result in found.items()},
        "seconds": {f"{arm}, seed {seed}": result["seconds"] for (arm, seed), result in found.items()},
    }


def judged(problems: Sequence[Line]) -> dict[str, dict[str, int]]:
    """Test set -> how many solutions are judged there, and how many of them are wrong.

    Args:
        problems: As in `problems.parquet`; each arm has the same, at each seed.
    """
    truths = {(one["set"], one["id"]): one["truth"] for one in problems if one["kind"] == "critic"}
    found: dict[str, dict[str, int]] = {}
    for (of_set, _), truth in truths.items():
        counts = found.setdefault(of_set, {"solutions": 0, "wrong": 0})
        counts["solutions"] += 1
        counts["wrong"] += truth == "wrong"
    return found


def check_whole(experiment: Experiment, found: Mapping[tuple[str, int], Mapping[str, Any]]) -> None:
    """Sees that each arm was trained at each seed, on rows of that seed, and tested on the same problems as all others.

    Raises:
        CFTError: It was not.
    """
    asked: set[tuple[Any, ...]] | None = None
    for arm in experiment.arms:
        for view in VIEWS:
            digests: dict[str, int] = {}
            for seed in experiment.seeds:
                result = found.get((arm, seed))
                if result is None or view not in result["views"]:
                    raise CFTError(f"arm {arm}, seed {seed}, equal {view}: there is no result; nothing is compared")
                of_view = result["views"][view]
                probed = {(one["kind"], one["set"], one["id"]) for one in of_view["probed"]}
                if len(probed) != len(of_view["probed"]) or probed != (asked := asked or probed):
                    raise CFTError(f"arm {arm}, seed {seed}, equal {view}: tested on other problems than the others")
                digest = of_view["digest"]
                if digest is None:
                    continue
                if digest in digests:
                    raise CFTError(
                        f"arm {arm}: seeds {digests[digest]} and {seed} were trained on the same rows; a seed is one "
                        "observation, give each its own"
                    )
                digests[digest] = seed


def _results(experiment: Experiment, found: Mapping[tuple[str, int], Mapping[str, Any]]) -> Iterator[Line]:
    for (arm, seed), result in found.items():
        for view in VIEWS:
            told = result["views"][view]
            line = {"experiment": experiment.name, "arm": arm, "seed": seed, "view": view}
            line |= {name: value for name, value in told.items() if name != "probed"}
            line |= _measured(told["probed"])
            yield line


def _measured(probed: Sequence[Line]) -> dict[str, float]:
    """Measure and test set, "critic_in" -> the share of it, of what an arm answered at one seed in one view."""
    found = {}
    for name, (kind, what, truth) in MEASURES.items():
        asked = [one for one in probed if one["kind"] == kind and truth in (None, one["truth"])]
        for of_set in dict.fromkeys(one["set"] for one in asked):
            ones = [one[what] for one in asked if one["set"] == of_set]
            found[f"{name}_{of_set}"] = sum(ones) / len(ones)
    return found


def tell_scores(result: Mapping[str, Any]) -> str:
    """What an arm has right at one seed, in words.

    Example:
        >>> asked = {"kind": "critic", "set": "gsm8k", "truth": "wrong", "hit": True, "form": True}
        >>> tell_scores({"views": {view: {"probed": [asked, asked | {"hit": False}]} for view in VIEWS}})
        'right at equal tokens: critic (gsm8k 50.0%); at equal rows: critic (gsm8k 50.0%)'
    """
    told = []
    for view in VIEWS:
        shares = _measured(result["views"][view]["probed"])
        kinds = []
        for kind in TESTED:
            prefix = f"{kind}_"
            sets = [f"{name.removeprefix(prefix)} {percent(one)}%" for name, one in shares.items()
                    if name.startswith(prefix)]  # fmt: skip
            if sets:
                kinds.append(f"{kind} ({', '.join(sets)})")
        told.append(f"at equal {view}: {', '.join(kinds)}")
    return f"right {'; '.join(told)}"


def write_parquet(rows: Sequence[Line], path: Path) -> None:
    """Writes rows of the same keys as one Parquet file, by rename; the same rows give the same bytes."""
    import pyarrow
    from pyarrow import parquet

    columns = {name: [row[name] for row in rows] for name in rows[0]}
    for name in ("learning_rate", "loss"):  # of the base alone they would have no type
        if name in columns:
            columns[name] = pyarrow.array(columns[name], pyarrow.float64())
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    parquet.write_table(pyarrow.table(columns), scratch, compression="zstd")
    os.replace(scratch, path)


def summary(results: Sequence[Line]) -> list[Line]:
    """Per view and arm: each measure's mean over seeds and their deviation (n - 1), and the learning rates chosen.

    Args:
        results: As in `results.parquet`.
    """
    found = []
    for view, arm in product(VIEWS, dict.fromkeys(line["arm"] for line in results)):
        lines = [line for line in results if line["view"] == view and line["arm"] == arm]
        measures = [name for name in lines[0] if name.split("_", 1)[0] in MEASURES]
        found.append(
            {
                "view": view,
                "arm": arm,
                "seeds": len(lines),
                "learning_rates": [line["learning_rate"] for line in lines],
                "rows": statistics.mean(line["rows"] for line in lines),
                "target_tokens": statistics.mean(line["target_tokens"] for line in lines),
                "tokens": statistics.mean(line["tokens"] for line in lines),
                "measures": {name: _mean([line[name] for line in lines]) for name in measures},
            }
        )
    return found


def _mean(values: Sequence[float]) -> Line:
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.mean(values), "deviation": deviation, "values": list(values)}


def comparisons(problems: Sequence[Line], baseline: str) -> list[Line]:
    """Each arm against the baseline, on each test set in each view.

    Args:
        problems: As in `problems.parquet`.
        baseline: An arm.

    Returns:
        Lines with `view`, `measure`, `set`, `arm`, `difference`, `interval_95`, `p`, `p_holm` (over the arms),
        `seeds_above` (at how many seeds the arm is above the baseline) and `seeds`.
    """
    scores: dict[tuple[str, str, str, str], dict[str, dict[int, float]]] = {}
    for one in problems:
        key = (one["view"], one["kind"], one["set"], one["arm"])
        scores.setdefault(key, {}).setdefault(one["id"], {})[one["seed"]] = float(one["hit"])
    arms = [arm for arm in dict.fromkeys(one["arm"] for one in problems) if arm != baseline]
    found = []
    for view, measure in product(VIEWS, TESTED):
        for of_set in dict.fromkeys(key[2] for key in scores if key[:2] == (view, measure)):
            theirs = scores[view, measure, of_set, baseline]
            lines = [_compared(theirs, scores[view, measure, of_set, arm]) for arm in arms]
            for arm, line, p in zip(arms, lines, holm([line["p"] for line in lines]), strict=True):
                found.append({"view": view, "measure": measure, "set": of_set, "arm": arm, **line, "p_holm": p})
    return found


def _compared(first: Mapping[str, Mapping[int, float]], second: Mapping[str, Mapping[int, float]]) -> Line:
    result = compare(
        [statistics.fmean(first[name].values()) for name in first],
        [statistics.fmean(second[name].values()) for name in first],
    )
    seeds = sorted(next(iter(first.values())))

    def total(scores: Mapping[str, Mapping[int, float]], seed: int) -> float:
        return sum(of_problem[seed] for of_problem in scores.values())

    above = sum(total(second, seed) > total(first, seed) for seed in seeds)
    return {
        "difference": result.difference,
        "interval_95": list(result.interval_95),
        "p": result.p,
        "test": result.test,
        "problems": result.problems,
        "seeds_above": above,
        "seeds": len(seeds),
    }
