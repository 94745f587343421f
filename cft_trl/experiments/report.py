"""An experiment's tables as Markdown, as JSON and as one page of HTML that needs nothing else.

OUT/report.md    OUT/report.json    OUT/report.html    OUT/report.png
"""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from cft_trl.data.folders import write_text
from cft_trl.evaluation.report_figures import bounds, p_value, percent, points
from cft_trl.experiments.base import SCRATCH
from cft_trl.experiments.results import TESTED, Tables
from cft_trl.experiments.settings import VIEWS
from cft_trl.models.run_record import processor
from cft_trl.plots import plot_arms

TITLES = {"tokens": "Equal target tokens", "rows": "Equal rows"}
NAMES = {
    "solving": "solving", "critic": "verdict", "wrong": "wrong ones judged wrong", "right": "right ones judged right",
    "answers": "answers in form", "verdicts": "verdicts in form",
}  # fmt: skip


def machine(device: str) -> dict[str, Any]:
    """What it ran on.

    Args:
        device: "cpu" or "gpu", as the experiment's size says; a GPU that was not used is not named.
    """
    import torch

    on_gpu = device == "gpu" and torch.cuda.is_available()
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "accelerator": torch.cuda.get_device_name() if on_gpu else "none",
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }


def write_report(tables: Tables, output: Path) -> list[Path]:
    """Writes report.json, .md, .html and, where matplotlib is installed, .png; returns the paths of all there is."""
    tables = {**tables, "machine": machine(tables["size"]["device"])}
    write_text(output / "report.json", json.dumps(tables, indent=1, ensure_ascii=False))
    write_text(output / "report.md", to_markdown(tables))
    panels = {name: called for name, called in NAMES.items() if name != "verdicts"}
    drawn = plot_arms(tables["summary"], output / "report.png", tables["experiment"]["question"], panels)
    write_text(output / "report.html", _to_html(tables, output / "report.png" if drawn else None))
    names = ("report.md", "report.html", "report.json", *(("report.png",) if drawn else ()))
    return [output / name for name in (*names, "results.parquet", "problems.parquet")]


def to_markdown(tables: Tables) -> str:
    """The report as Markdown."""
    about, ran = tables["experiment"], tables["machine"]
    text = [
        f"# {about['question']}",
        f"Experiment `{about['name']}`, preset `{tables['preset']}`, {len(about['seeds'])} seeds; {ran['date']}, "
        f"{ran['processor']}, {ran['cores']} cores, accelerator {ran['accelerator']}.",
    ]
    for view in _views(tables):
        text.append(f"## {view['title']}")
        for table in view["tables"]:
            text += [f"{table['title']}", _pipes(table["head"], table["rows"])]
    return "\n\n".join([*text, "## What the figures are", *notes(tables)])


def notes(tables: Tables) -> list[str]:
    """What the figures are, in paragraphs: of these rows, sets and bases."""
    about = tables["experiment"]
    arms, on_files = about["arms"], about["world"]["source"] == "files"
    told = [
        "Percent, the mean over seeds ± their standard deviation (n - 1). `solving`: greedy answers, graded strictly. "
        "`verdict`: critiques whose verdict is the right one; none is a miss. `wrong ones judged wrong`, `right ones "
        "judged right`: the same of these solutions alone. `answers in form`: answers to questions that end by "
        "themselves, state a final answer and pass no verdict. `verdicts in form`: critiques that end by themselves "
        "and pass one.",
        "Of the solutions to be judged, these are wrong: "
        + ", ".join(
            f"{one['wrong']:,} of {one['solutions']:,} of `{name}` ({percent(one['wrong'] / one['solutions'])}%)"
            for name, one in tables["judged"].items()
        )
        + ".",
    ]
    if on_files:
        told.append(
            "Rows to train on are of the file that world.critiques names. The test sets are the subsets of "
            "ProcessBench (verdicts) and the benchmarks (solving) that the settings name."
        )
    else:
        told.append(
            "`in`: problems like those trained on. "
            + ("`unseen`: of templates that no arm was trained on. " if about["world"]["unseen"] else "")
            + "`steps`: of more steps."
        )
    if SCRATCH in {arm["model"] or tables["size"]["model"] for arm in arms.values()}:
        told.append(
            "A base from scratch was made with arithmetic problems alone, of the levels that base_levels names."
            if on_files
            else "A base from scratch has seen other problems of the levels that base_levels names, the unseen "
            "templates among them; the levels of `steps` only where it names them."
        )
    told += [
        "Learning rates are the best of three on validation problems, chosen at each seed at equal target tokens.",
        "A difference is an arm's mean minus the baseline's, with its 95% interval over problems; p is of a paired "
        "test over problems at these seeds, corrected after Holm over the arms of a test set. Few seeds say little "
        "about others: see at how many the arm is above.",
    ]
    if idle := [name for name, arm in arms.items() if arm["train"] == "nothing"]:
        told.append(f"Not trained, and the same at each seed: {', '.join(idle)}.")
    return told


def _pipes(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _views(tables: Tables) -> list[dict[str, Any]]:
    found = []
    for view in VIEWS:
        lines = [line for line in tables["summary"] if line["view"] == view]
        scores = [name for name in lines[0]["measures"] if name.partition("_")[0] in TESTED]
        rows = [
            [line["arm"], f"{line['rows']:,.0f}", f"{line['target_tokens']:,.0f}",
             ", ".join("–" if rate is None else f"{rate:g}" for rate in line["learning_rates"]),
             *(_figure(line["measures"][name]) for name in scores)]
            for line in lines
        ]  # fmt: skip
        head = ["arm", "rows", "target tokens", "learning rates", *map(_called, scores)]
        others = [name for name in lines[0]["measures"] if name not in scores]
        made = [
            {"title": "Means over seeds", "head": head, "rows": rows},
            {
                "title": "Means over seeds: which verdicts are right, and what has the form asked for",
                "head": ["arm", *map(_called, others)],
                "rows": [[line["arm"], *(_figure(line["measures"][name]) for name in others)] for line in lines],
            },
        ]
        compared = [line for line in tables["comparisons"] if line["view"] == view]
        for measure in dict.fromkeys(line["measure"] for line in compared):
            made.append(
                {
                    "title": f"{NAMES[measure]}, against {tables['experiment']['baseline']}",
                    "head": ["arm", "test set", "points", "95%", "p", "p (Holm)", "seeds above"],
                    "rows": [
                        [line["arm"], line["set"], points(line["difference"]), bounds(line["interval_95"], signed=True),
                         p_value(line["p"]), p_value(line["p_holm"]), f"{line['seeds_above']} of {line['seeds']}"]
                        for line in compared
                        if line["measure"] == measure
                    ],
                }
            )  # fmt: skip
        found.append({"title": TITLES[view], "tables": made})
    return found


def _called(measure: str) -> str:
    name, _, of_set = measure.partition("_")
    return f"{NAMES[name]}: {of_set}"


def _figure(value: dict[str, Any]) -> str:
    deviation = value["deviation"]
    return percent(value["mean"]) + ("" if deviation is None else f" ± {percent(deviation)}")


def _to_html(tables: Tables, plot: Path | None) -> str:
    from jinja2 import Environment

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = resources.files("cft_trl").joinpath("templates/experiment.html.jinja").read_text(encoding="utf-8")
    return environment.from_string(template).render(
        tables,
        views=_views(tables),
        notes=notes(tables),
        plot=base64.b64encode(plot.read_bytes()).decode() if plot else None,
        settings=json.dumps({name: tables[name] for name in ("experiment", "size", "machine")}, indent=1),
    )
