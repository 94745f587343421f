"""`cft report`: evaluations side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cft_trl.commands.parser import CommandParser

HELP = """\
Puts evaluations side by side: scores under both graders with 95% intervals, paired significance, lengths, and the
published rows. Writes report.md, report.json and report.html, one page that needs nothing else.

examples:
  cft report runs/eval-mine
  cft report runs/eval-base runs/eval-sft runs/eval-cft --names base,SFT,CFT
  cft report runs/eval-base runs/eval-cft --baseline eval-base --output reports/first

A RUN is the folder that `cft eval` wrote. Scores are counted again from its generations. Runs that differ in prompt,
limit, samples, temperature, graders' version or problems (their texts and golds, whatever their ids) are not compared;
the message says in what.
"""


def run(argv: list[str]) -> int:
    parser = CommandParser("cft report", HELP)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder of a `cft eval`")
    parser.add_argument("--names", metavar="A,B", help="what to call the runs (default: their folders' names)")
    parser.add_argument("--baseline", metavar="NAME", help="the run that others are compared with (default: the first)")
    parser.add_argument("--output", type=Path, default=Path("report"), help="folder (default %(default)s)")
    given = parser.parse_args(argv)
    from cft_trl.evaluation.report import make_report, write_report

    report = make_report(given.runs, given.names.split(",") if given.names else None, given.baseline)
    paths = write_report(report, given.output)
    _print(report)
    print("\n".join(map(str, paths)))
    return 0


def _print(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from cft_trl.evaluation.report_figures import bounds, p_value, percent, points

    table = Table(title="Scores in percent, strict grader (95% interval)")
    names = [run["name"] for run in report["runs"]]
    for column in ("", *names):
        table.add_column(column, justify="left" if not column else "right")
    averages = {"average": report["average"]["runs"]} if report["average"] else {}
    for task, of_task in {**report["scores"], **averages}.items():
        found = [of_task.get(name, {}).get("strict") for name in names]
        shown = [f"{percent(score['score'])} ({bounds(score['interval_95'])})" if score else "–" for score in found]
        table.add_row(report["titles"][task], *shown)
    console = Console()
    console.print(table)
    for line in report["differences"]:
        if line["task"] == "average" or not averages:
            console.print(
                f"{line['second']} against {line['first']}, {report['titles'][line['task']]}: "
                f"{points(line['difference'])} points ({bounds(line['interval_95'], signed=True)}), "
                f"p {p_value(line['p'])}",
                highlight=False,
                soft_wrap=True,
            )
