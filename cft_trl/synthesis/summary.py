"""What `cft build` says when it is done: what became of every row, what it cost, and what to do next.

stage     rows in  rows out  left out or failed
source     20,012    20,000  duplicate query 12
critique   20,000    19,996  context length 4
...
verdicts: right 10,900 (54.5%), wrong 9,096 (45.5%), none 0
critique by gpt-4o: 19,996 answers (31 cut off), 7.1 M tokens in, 4.9 M out, $66.75
runs/datasets/mine: the dataset; 16 rows are in failures.jsonl, 4 of them without an answer
next: cft train --model_name_or_path smollm2-135m --dataset_name runs/datasets/mine --output_dir runs/mine
"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

from cft_trl.data.verdict_vocabulary import flow_verdicts
from cft_trl.synthesis.build import Build, with_cost
from cft_trl.synthesis.prices import dollars


def print_summary(job: Build) -> None:
    """Prints it on standard output."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("stage", "rows in", "rows out", "left out or failed"):
        table.add_column(name, justify="right" if name.startswith("rows") else "left", overflow="fold")
    for stage, report in job.reports.items():
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in report.failures.most_common())
        kept = "(done before) " if stage in job.kept else ""
        table.add_row(stage, f"{report.read:,}", f"{report.written:,}", kept + reasons)
    Console(width=None if sys.stdout.isatty() else 120).print(table, markup=False)
    for line in _lines(job):
        print(line)


def _lines(job: Build) -> list[str]:
    lines = []
    if "publish" in job.reports:
        verdicts = json.loads((job.folder / "statistics.json").read_text(encoding="utf-8"))["verdicts"]
        rows = sum(verdicts.values())
        told = ", ".join(f"{verdict} {count:,} ({count / rows:.1%})" for verdict, count in verdicts.items())
        lines.append(f"verdicts: {told}")
    for report in job.reports.values():
        for model, sums in with_cost(report, job).details.get("teachers", {}).items():
            lines.append(f"{report.stage} by {model}: {_used(sums)}")
    failed = sum(report.failures.total() for report in job.reports.values())
    of_them = f", {job.lost:,} of them without an answer" if job.lost else ""
    told = f"; {failed:,} rows are in failures.jsonl{of_them}" if failed else ""
    if "publish" not in job.reports:
        return [*lines, f"{job.folder}: the stages so far{told}"]
    run = Path("runs") / job.recipe.name
    if run.resolve() == job.folder.resolve() or job.folder.resolve() in run.resolve().parents:
        run = job.folder.with_name(f"{job.folder.name}-cft")
    train = f"cft train --model_name_or_path smollm2-135m --dataset_name {shlex.quote(str(job.folder))}"
    if words := job.recipe.critique.words:
        train += f" --verdicts {shlex.quote(flow_verdicts(words))}"
    return [
        *lines,
        f"{job.folder}: the dataset (data/, README.md, recipe.yaml){told}",
        f"next: {train} --output_dir {shlex.quote(str(run))}",
    ]


def _used(sums: dict[str, Any]) -> str:
    cut = f" ({sums['truncated']:,} cut off)" if sums["truncated"] else ""
    cost = sums["cost in US dollars"]
    tokens = f"{sums['prompt_tokens']:,} tokens in, {sums['completion_tokens']:,} out"
    odd = [f"{sums[name]:,} {name}" for name in sums if name.startswith(("without ", "limit cut", "finish_reason "))]
    told = ", ".join([f"{sums['answers']:,} answers{cut}", *odd, tokens])
    return f"{told}, {dollars(None if cost == 'unknown' else cost)}"
