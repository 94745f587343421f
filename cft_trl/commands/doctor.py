"""`cft doctor`: what is installed, what works, what is missing and the command that mends it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from cft_trl.commands.parser import CommandParser

if TYPE_CHECKING:
    from cft_trl.commands.doctor_findings import Finding

HELP = """\
Looks at the installation: package versions against those tested, whether the trainer loads, the device, the small
model, the Hub and its token (whether there is one, never its value), write access, extras, vLLM. Beside what is
missing stands the command that mends it. Changes nothing.

examples:
  cft doctor
  cft doctor --json > doctor.json       for a bug report

exit codes: 0 training can work; 2 it cannot
"""

_MARKS = {"ok": ("ok", "green"), "note": ("note", "yellow"), "missing": ("–", "dim"), "broken": ("BROKEN", "bold red")}


def run(argv: list[str]) -> int:
    parser = CommandParser("cft doctor", HELP)
    parser.add_argument("--json", action="store_true", help="the findings as JSON")
    options = parser.parse_args(argv)
    from cft_trl import __version__
    from cft_trl.commands.doctor_checks import examine, exit_code

    findings = examine()
    if options.json:
        print(json.dumps({"version": __version__, "findings": [asdict(one) for one in findings]}, indent=1))
    else:
        _show(findings, __version__)
    return exit_code(findings)


def _show(findings: Sequence[Finding], version: str) -> None:
    broken = [one for one in findings if one.state == "broken"]
    closing = (
        "Training cannot work here yet: " + "; ".join(f"{one.name}: {one.told}" for one in broken)
        if broken
        else "Training can work here."
    )
    try:
        _table(findings, version, closing)
    except ImportError:  # rich may be what is missing
        for one in findings:
            print(f"{_MARKS[one.state][0]:<7} {one.name}: {one.told}" + (f"   ->   {one.mend}" if one.mend else ""))
        print(closing)


def _table(findings: Sequence[Finding], version: str, closing: str) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # In a pipe rich would fold everything into 80 columns.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    table = Table(title=f"cft-trl {version}", title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("", "what", "found"):
        table.add_column(name, overflow="fold", no_wrap=name == "")
    group = None
    for one in findings:
        if one.group != group:
            group = one.group
            table.add_row("", Text(group, style="bold"), "")
        mark, style = _MARKS[one.state]
        table.add_row(Text(mark, style=style), Text(f"  {one.name}"), Text(one.told))
    console.print(table)
    to_mend = [one for one in findings if one.mend]
    if to_mend:
        console.print("\nTo change that:", style="bold")
    for one in to_mend:
        # Unwrapped: a command that is to be copied stays in one piece.
        console.print(Text(f"  {one.name}: ", style="dim") + Text(one.mend), soft_wrap=True)
    console.print()
    console.print(Text(closing, style="red" if closing.startswith("Training cannot") else "green"), soft_wrap=True)
