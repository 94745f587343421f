"""`cft experiment`: from a YAML file to tables, arm by arm, going on where it was.

    OUT/experiment.json            what it is: settings, size, bases, code, versions; another one is refused
    OUT/data/                      pools, validation and test problems, made once
    OUT/arms/ARM/seed-N/           result.json; while it runs, models and train.log
    OUT/results.parquet, …         once all arms are there (`cft_trl.experiments.results`)

Several processes may share a folder, each with its own seeds: `--seed 0` beside `--seed 1` uses two cores.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from typing import Any

from cft_trl.data.digests import package_digest
from cft_trl.data.folders import check_writable, locked, read_json, write_text
from cft_trl.errors import CFTError, nearest
from cft_trl.experiments import world
from cft_trl.experiments.arms import Workspace, result_path, run_arm
from cft_trl.experiments.base import base_identities, base_model, hold
from cft_trl.experiments.files import file_rows, why_absent
from cft_trl.experiments.mixtures import Row
from cft_trl.experiments.report import write_report
from cft_trl.experiments.results import collect, tell_scores
from cft_trl.experiments.settings import Experiment, Size, as_plain
from cft_trl.models.identity import Identity, what_changed

CLAIM = "experiment.json"
_GIVE = "give another --out"


def run_experiment(
    experiment: Experiment,
    preset: str,
    output: Path,
    arms: Sequence[str] = (),
    seeds: Sequence[int] = (),
    say: Callable[[str], None] | None = None,
) -> dict[str, Any] | None:
    """Runs what is not done yet of an experiment; returns its tables, or None where some of it is still to be done.

    Args:
        experiment: The settings.
        preset: "cpu" or "gpu".
        output: Its folder.
        arms, seeds: Only these; by default all.
        say: Is told what is done, line by line.

    Raises:
        CFTError: No such arm, seed or base; the folder is another experiment's, or in use; a test problem would be
            trained on; a seed would be used twice.
    """
    size: Size = getattr(experiment, preset)
    say = say or _Told()
    chosen = _chosen("arm", arms, list(experiment.arms)), _chosen("seed", seeds, list(experiment.seeds))
    if why := why_absent(experiment.world):
        say(f"{experiment.name} is skipped: {why}")
        return None
    bases = base_identities(experiment, size)
    check_writable(output)
    with ExitStack() as held:
        hold(held, output, "experiment", ".lock-data")
        _claim(output, experiment, preset, size, bases)
        _make_data(output, experiment, size)
    _settle(size)
    place = _place(output, experiment, size, say)
    for seed in chosen[1]:
        with locked(output, "experiment", f"{_GIVE}, or other seeds with --seed", f".lock-seed-{seed}"):
            for arm in chosen[0]:
                done = result_path(output, arm, seed).is_file()
                result = run_arm(place, arm, seed)
                took = f"{'done before' if done else 'done'} ({result['seconds']:.0f} s)"
                say(f"{arm}, seed {seed}: {took}; {tell_scores(result)}")
    missing = [(arm, seed) for seed in experiment.seeds for arm in experiment.arms
               if not result_path(output, arm, seed).is_file()]  # fmt: skip
    if missing:
        arm, seed = missing[0]
        say(f"{len(missing)} of {len(experiment.arms) * len(experiment.seeds)} are still to be done, the next is {arm} "
            f"at seed {seed}; tables are written when all are")  # fmt: skip
        return None
    with ExitStack() as held:
        hold(held, output, "experiment", ".lock-data")
        tables = collect(experiment, preset, output)
        write_report(tables, output)
    return tables


class _Told:
    """Prints lines with the time since the start."""

    def __init__(self) -> None:
        self.started = time.time()

    def __call__(self, line: str) -> None:
        print(f"[{time.time() - self.started:6.0f} s] {line}", flush=True)


def _chosen(what: str, asked: Sequence[Any], known: list[Any]) -> list[Any]:
    for one in asked:
        if one not in known:
            near = nearest(str(one), [str(name) for name in known])
            raise CFTError(f"--{what} {one}: the experiment has none{near}; it has {', '.join(map(str, known))}")
    return [one for one in known if one in asked or not asked]


def _claim(output: Path, experiment: Experiment, preset: str, size: Size, bases: dict[str, Identity]) -> None:
    import datasets
    import torch
    import transformers
    import trl

    mine = {
        "experiment": {**as_plain(experiment), "cpu": None, "gpu": None},
        "preset": preset,
        "size": as_plain(size),
        "code": package_digest(),
        "versions": {one.__name__: one.__version__ for one in (torch, transformers, trl, datasets)},
        "bases": bases,
    }
    theirs = read_json(output / CLAIM, _GIVE)
    if theirs is None:
        if any(path for path in output.iterdir() if not path.name.startswith(".")):
            raise CFTError(f"'{output}' holds files that are not an experiment's; {_GIVE}")
        write_text(output / CLAIM, json.dumps(mine, indent=1))
        return
    other = [name for name, value in json.loads(json.dumps(mine)).items() if theirs.get(name) != value]
    if other:
        words = {"code": "another version of our own code", "versions": "other versions of the libraries"}
        what = words.get(other[0], f"another {other[0]}")
        if other[0] == "bases":
            name = next(name for name in bases if (theirs.get("bases") or {}).get(name) != bases[name])
            changed = what_changed((theirs.get("bases") or {}).get(name) or {}, bases[name])
            what = f"the base '{name}' as it was before: {changed}"
        raise CFTError(f"'{output}' holds an experiment with {what}; {_GIVE}")


def _make_data(output: Path, experiment: Experiment, size: Size) -> None:
    place, folder = experiment.world, output / "data"
    folder.mkdir(exist_ok=True)
    made: dict[str, Callable[[], Iterable[Row]]]
    if place.source == "files":
        made = file_rows(place, size, experiment.seeds)
    else:
        made = {
            "validation": lambda: world.trial_rows(place, "validation", size.validation),
            "test": lambda: world.trial_rows(place, "test", size.tests),
            **{
                f"pool-{seed}": lambda seed=seed: world.pool(place, seed, size.questions)  # type: ignore[misc]
                for seed in experiment.seeds
            },
        }
    for name, rows in made.items():
        if not (folder / f"{name}.jsonl").is_file():
            lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows())
            write_text(folder / f"{name}.jsonl", lines)


def _settle(size: Size) -> None:
    import torch

    if size.device == "gpu" and not torch.cuda.is_available():
        raise CFTError("--preset gpu: there is no GPU here that torch can use; give --preset cpu")
    if size.device == "cpu":
        torch.set_num_threads(size.threads)


def _place(output: Path, experiment: Experiment, size: Size, say: Callable[[str], None]) -> Workspace:
    def read(name: str) -> list[Row]:
        text = (output / "data" / f"{name}.jsonl").read_text("utf-8")
        # `splitlines` would also cut at U+2028 and its like, which JSON lets stand within a text.
        return [json.loads(line) for line in text.split("\n") if line]

    @lru_cache(maxsize=1)
    def pools(seed: int) -> list[Row]:
        return read(f"pool-{seed}")

    @lru_cache
    def base(name: str) -> str:
        return base_model(name, experiment.world, size)

    return Workspace(experiment, size, output, pools, read("test"), read("validation"), base, say)
