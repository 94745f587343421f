"""`cft experiment`: arms trained on equal budgets and compared, from a YAML file."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from cft_trl.commands.parser import CommandParser
from cft_trl.commands.settings import whole_number

HELP = """\
Runs an experiment: makes its data and its base once, trains each arm at each seed on equal target tokens and on equal
rows with the best of three learning rates, tests it strictly, and compares the arms in pairs. Writes results.parquet (a
row per arm, seed and view), problems.parquet (a row per test problem), report.md, report.html, report.json, report.png.

examples:
  cft experiment recipes/experiments/world.yaml
  cft experiment recipes/experiments/world.yaml --seed 0            one seed; others may run beside it
  cft experiment recipes/experiments/world.yaml --arm base --arm cft
  cft experiment recipes/experiments/ratio.yaml --preset gpu --out runs/ratio

The same command again goes on where an interrupted one was, also after kill -9. What an arm has right is told when it
is done; tables are written once every arm is done at every seed. On one machine a repetition gives the same Parquet
files, byte for byte.
"""


def run(argv: list[str]) -> int:
    """Runs the command; returns its exit code.

    Raises:
        CFTError: A mistake in the file or the flags; else as `run_experiment`.
    """
    parser = CommandParser("cft experiment", HELP, usage="cft experiment FILE [options]")
    parser.add_argument("file", type=Path, metavar="FILE", help="the experiment, e.g. recipes/experiments/world.yaml")
    parser.add_argument("--preset", choices=("cpu", "gpu"), default="cpu", help="its size (default %(default)s)")
    parser.add_argument("--out", type=Path, help="folder (default runs/experiments/NAME-PRESET)")
    parser.add_argument("--arm", action="append", default=[], metavar="NAME", help="only this arm; may be repeated")
    parser.add_argument("--seed", action="append", default=[], type=whole_number, help="only this seed; likewise")
    parser.add_argument("--critiques", metavar="FILE", help="rows with critiques, of an experiment on files")
    parser.add_argument("--critic-tests", metavar="DIR", help="folder with ProcessBench's files, likewise")
    given = parser.parse_args(argv)
    from cft_trl.experiments.settings import read_experiment

    experiment = read_experiment(given.file)
    places = {name: getattr(given, name) for name in ("critiques", "critic_tests") if getattr(given, name)}
    if places:
        if experiment.world.source != "files":
            parser.error(
                f"--{next(iter(places)).replace('_', '-')}: {experiment.name} makes its own rows; leave it out"
            )
        experiment = dataclasses.replace(experiment, world=dataclasses.replace(experiment.world, **places))
    from cft_trl.experiments.harness import run_experiment

    output = given.out or Path("runs/experiments") / f"{experiment.name}-{given.preset}"
    tables = run_experiment(experiment, given.preset, output, given.arm, given.seed)
    if tables:
        _print(tables, output)
    return 0


def _print(tables: dict[str, Any], output: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    from cft_trl.evaluation.report_figures import percent

    console = Console()
    for view in ("tokens", "rows"):
        lines = [line for line in tables["summary"] if line["view"] == view]
        measures = [name for name in lines[0]["measures"] if name.startswith(("solving", "critic"))]
        named = {"tokens": "equal target tokens", "rows": "equal rows"}[view]
        table = Table(title=f"Percent right, mean over {lines[0]['seeds']} seeds ± deviation, {named}")
        for column in ("arm", *(name.replace("_", ", ") for name in measures)):
            table.add_column(column, justify="left" if column == "arm" else "right")
        for line in lines:
            values = [line["measures"][name] for name in measures]
            table.add_row(line["arm"], *(f"{percent(one['mean'])} ± {percent(one['deviation'])}" for one in values))
        console.print(table)
    console.print(f"Paired tests, curves and settings: {output}/report.html", highlight=False, soft_wrap=True)
