"""The quickstart on several seeds, as it comes out: verdicts, solving, time; beside a reader who does not calculate.

    python benchmarks/quickstart_seeds.py                        seeds 0, 1 and 2, one after the other, in runs/seeds/
    python benchmarks/quickstart_seeds.py --seeds 3 4 --no-save

The same command again goes on where it was. "Surface" is naive Bayes over a solution's words, signs, numbers, pairs of
neighbours and its length, trained on the same rows as the model: what can be told without calculating. CPU seconds are
of this process, so they are known only of a seed that was run in one go.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import resource
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

from measure import record, table

from cft_trl.commands.quickstart_run import QuickstartSettings, run_quickstart


def words_of(row: dict) -> set[str]:
    """What a reader who does not calculate sees: words, numbers, signs, pairs of neighbours, and the lengths."""
    words = re.findall(r"\w+|[^\w\s]", f"{row['query']} ; {row['response']}".lower())
    lengths = {f"length {len(row['response'])}", f"lines {row['response'].count(chr(10))}"}
    return {*words, *map(" ".join, pairwise(words)), *lengths}


def surface_accuracy(train: list[dict], test: list[dict]) -> float:
    """Naive Bayes over `words_of`: how often it tells the verdict."""
    counts: dict[str, Counter[str]] = {verdict: Counter() for verdict in ("right", "wrong")}
    for row in train:
        counts[row["verdict"]].update(words_of(row))
    totals = Counter(row["verdict"] for row in train)

    def score(row: dict, verdict: str) -> float:
        return sum(math.log((counts[verdict][word] + 1) / (totals[verdict] + 2)) for word in words_of(row))

    return sum((score(row, "right") > score(row, "wrong")) == (row["verdict"] == "right") for row in test) / len(test)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--model", default=QuickstartSettings.model)
    parser.add_argument("--output", type=Path, default=Path("runs/seeds"))
    parser.add_argument("--rows", type=int, default=QuickstartSettings.rows)
    parser.add_argument("--solutions", type=int, default=QuickstartSettings.solutions)
    parser.add_argument("--eval-rows", type=int, default=QuickstartSettings.eval_rows)
    parser.add_argument("--no-save", action="store_true")
    options = parser.parse_args()
    lines = []
    for seed in options.seeds:
        output = options.output / f"seed-{seed}"
        settings = QuickstartSettings(
            options.model, options.rows, options.solutions, options.eval_rows, options.eval_rows, seed=seed
        )
        begun = not (output / "quickstart.json").is_file()
        usage, started = resource.getrusage(resource.RUSAGE_SELF), time.time()
        output.parent.mkdir(parents=True, exist_ok=True)
        metrics = run_quickstart(output, settings)
        now = resource.getrusage(resource.RUSAGE_SELF)
        cpu = now.ru_utime + now.ru_stime - usage.ru_utime - usage.ru_stime
        took = f"{time.time() - started:.0f} s; {cpu:.0f} CPU s" if begun else "not in one go"
        lines.append(line_of(seed, metrics, output, took))
    title = f"`make quickstart`, {len(lines)} seeds"
    record(title, f"{table(lines)}\n\nIn brackets hits/rows and the 95% Wilson interval.", save=not options.no_save)


def line_of(seed: int, metrics: dict, output: Path, took: str) -> dict[str, str]:
    """A seed's line of the table."""
    before, after = metrics["before"], metrics["after"]
    train, test = (_read(output / "data" / f"{name}.jsonl") for name in ("train", "heldout"))
    return {
        "seed": str(seed),
        "verdicts before": _share(before["generated"]),
        "verdicts after": _share(after["generated"]),
        "of right, of wrong": f"{after['generated']['accuracy_right']:.1%}, {after['generated']['accuracy_wrong']:.1%}",
        "always one verdict": f"{after['generated']['majority_rate']:.1%}",
        "surface": f"{surface_accuracy(train, test):.1%}",
        "solved before": _share(before["solved"]),
        "solved after": _share(after["solved"]),
        "training": f"{metrics['training_seconds']:.0f} s",
        "in all": took,
    }


def _share(score: dict) -> str:
    low, high = score["interval_95"]
    return f"{score['accuracy']:.1%} ({score['hits']}/{score['rows']}; {low:.0%} to {high:.0%})"


def _read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


if __name__ == "__main__":
    main()
