"""(7) Grading: seconds for MATH's 5,000 answers, this checkout against another one, strict grader.

    git worktree add ../before 0fd08ab
    python benchmarks/grading.py --against ../before             MATH's problems, from the Hub or CFT_BENCHMARKS_DIR
    python benchmarks/grading.py --against ../before --items 500

Half of the items are the golds spelled otherwise (right), half the gold of the next problem (wrong). A process of each
checkout grades all of them in turn, its workers started and warm before the clock runs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import alternate, ratio, record, table

from cft_trl.grading.benchmarks import load_benchmark
from cft_trl.grading.grade import _respelled

_CHILD = """
import json, resource, sys, time
try:
    from cft_trl.grading import grade as grading
except ImportError:  # a checkout of before the rooms
    from cft_trl.evaluation import grading
pairs = [tuple(pair) for pair in json.load(open(sys.argv[1]))]
grading.grade_many([("x+1", "1+x")] * 8, processes=2)
for line in sys.stdin:
    began = time.perf_counter()
    hits = grading.grade_many(pairs, processes=2)
    print(json.dumps([time.perf_counter() - began, sum(hits)]), flush=True)
grading._close()
print(json.dumps(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]), flush=True)
"""


class Checkout:
    """A process that grades with one checkout's code, a line in for every round."""

    def __init__(self, folder: Path, pairs: str) -> None:
        environment = {**os.environ, "PYTHONPATH": str(folder.resolve())}
        self.process = subprocess.Popen(
            [sys.executable, "-c", _CHILD, pairs],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=folder,
        )  # fmt: skip
        self.accepted = 0

    def grade(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("again\n")
        self.process.stdin.flush()
        _, self.accepted = json.loads(self.process.stdout.readline())

    def close(self) -> float:
        """Ends the process; returns the CPU seconds of its workers."""
        out, _ = self.process.communicate()
        return sum(json.loads(out.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, required=True, help="folder of the other checkout")
    parser.add_argument("--items", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-save", action="store_true")
    options = parser.parse_args()
    golds = [row["gold"] for row in load_benchmark("math")][: options.items]
    pairs = [
        (f"The answer is $\\boxed{{{_respelled(gold) if at % 2 else golds[at - 1]}}}$.", gold)
        for at, gold in enumerate(golds)
    ]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "pairs.json")
        file.write_text(json.dumps(pairs), encoding="utf-8")
        sides = {"before": Checkout(options.against, str(file)), "now": Checkout(Path(__file__).parents[1], str(file))}
        seconds = alternate({name: side.grade for name, side in sides.items()}, options.rounds)
        cpu = {name: side.close() / (options.rounds + 1) for name, side in sides.items()}
    lines = [
        {"": name, "accepted": f"{sides[name].accepted:,}", "seconds": " ".join(f"{s:.1f}" for s in taken),
         "CPU seconds a round": f"{cpu[name]:.1f}"}
        for name, taken in seconds.items()
    ]  # fmt: skip
    body = f"{len(pairs):,} items, 2 workers; one value per round\n\n{table(lines)}\n\n"
    body += f"Now {ratio(seconds['before'], seconds['now'])} as fast; by CPU time {cpu['before'] / cpu['now']:.1f}x."
    record("Grading MATH's answers", body, save=not options.no_save)


if __name__ == "__main__":
    main()
