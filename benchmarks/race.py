"""What a race of checkpoints costs and what it loses, against asking every checkpoint every problem: simulated.

    python benchmarks/race.py                        49 checkpoints, 500 problems, 1,000 draws per curve; 15 minutes
    python benchmarks/race.py --draws 100 --checkpoints 7 --problems 200

A draw: true accuracies of the checkpoints along a curve, each some more or less (normal, sd 1 point); difficulties of
the problems (normal, sd 3 on the logit scale), and what each checkpoint finds harder or easier (sd 1.5), so that
neighbours on a plateau disagree on a fifth of the problems. Which of the problems a checkpoint gets right is drawn
once; racing and exhaustive asking see the same. The rule is that of `cft_trl.evaluation.racing`, not a copy.

    rise   55% to 77%, fast at first as published for CFT       peak   the same, and down 4 points to the end
    slow   50% to 75% along a line                              flat   75% everywhere
"""

from __future__ import annotations

import argparse
import json
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import cache

import numpy as np

from cft_trl.evaluation import racing
from cft_trl.evaluation.racing import LeavingRule, Standing, leader_of, leaving

SPREAD, OWN, NOISE = 3.0, 1.5, 0.01
CURVES = ("rise", "peak", "slow", "flat")
racing.beaten = cache(racing.beaten)


def curve(kind: str, checkpoints: int) -> np.ndarray:
    """Mean accuracies along the run -> (checkpoints,)."""
    x = np.arange(1, checkpoints + 1) / checkpoints
    return {
        "rise": 0.55 + 0.22 * (1 - np.exp(-6 * x)),
        "peak": 0.55 + 0.22 * (1 - np.exp(-10 * x)) - 0.04 * x,
        "slow": 0.50 + 0.25 * x,
        "flat": 0.75 + 0 * x,
    }[kind]


@cache
def _table() -> tuple[np.ndarray, np.ndarray]:
    """Intercepts on the logit scale, and the accuracies they give."""
    drawn = np.random.default_rng(1).normal(0, np.hypot(SPREAD, OWN), 20_000)
    at = np.linspace(-12, 12, 241)
    return at, (1 / (1 + np.exp(-(at[:, None] + drawn)))).mean(1)


def draw(kind: str, checkpoints: int, problems: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """True accuracies (checkpoints,) and hits, booleans (checkpoints, problems)."""
    accuracy = curve(kind, checkpoints) + rng.normal(0, NOISE, checkpoints)
    at, gives = _table()
    difficulty, own = rng.normal(0, SPREAD, problems), rng.normal(0, OWN, (checkpoints, problems))
    logits = np.interp(accuracy, gives, at)[:, None] + difficulty + own
    return accuracy, rng.random(logits.shape) < 1 / (1 + np.exp(-logits))


def race(hits: np.ndarray, rule: LeavingRule) -> tuple[int, int]:
    """-> the checkpoint that is chosen, and how many answers were asked for."""
    checkpoints, problems = hits.shape
    texts = ["".join("01"[int(hit)] for hit in row) for row in hits]
    running, asked, before = list(range(checkpoints)), 0, 0
    for end in rule.rounds(problems):
        asked += len(running) * (end - before)
        before, dealt = end, range(end)
        standings = [Standing(step, texts[step][:end] + "-" * (problems - end)) for step in running]
        if end < problems:
            gone = leaving(standings, dealt, rule.level(checkpoints, problems))
            running = [step for step in running if step not in gone]
    return leader_of(standings, dealt).step, asked


def measure(job: tuple[str, int, int, LeavingRule, int, int]) -> list[tuple[float, float, bool, float, float]]:
    """For each draw: true accuracy lost, share of the answers, same choice, validation score lost, what exhaustive
    asking itself loses against the truly best one."""
    kind, checkpoints, problems, rule, draws, seed = job
    rng, found = np.random.default_rng(seed), []
    for _ in range(draws):
        accuracy, hits = draw(kind, checkpoints, problems, rng)
        totals = hits.sum(1)
        best = int(np.argmax(totals))
        chosen, asked = race(hits, rule)
        lost = accuracy[best] - accuracy[chosen], asked / hits.size, chosen == best
        found.append((*lost, (totals[best] - totals[chosen]) / problems, accuracy.max() - accuracy[best]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoints", type=int, default=49)
    parser.add_argument("--problems", type=int, default=500)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--curves", nargs="+", choices=CURVES, default=CURVES)
    options = parser.parse_args()
    rules = [LeavingRule(), LeavingRule(0.05), LeavingRule(0.05, "race")]
    columns = "curve", "rule", "asked", "accuracy lost, points", "same choice", "2 points of score lost", "(exhaustive)"
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    with ProcessPoolExecutor(options.workers) as pool:
        for kind in options.curves:
            for rule in rules:
                part = -(-options.draws // options.workers)
                jobs = [
                    (kind, options.checkpoints, options.problems, rule, part, seed) for seed in range(options.workers)
                ]
                found = np.array([row for rows in pool.map(measure, jobs) for row in rows], dtype=float)
                lost, asked, same, score, itself = found.T
                error = lost.std() / len(lost) ** 0.5
                print(
                    f"| {kind} | {rule.told} | {asked.mean():.1%} | {100 * lost.mean():.2f} ± {100 * 1.96 * error:.2f} "
                    f"| {same.mean():.0%} | {(score > 0.02).mean():.1%} | {100 * itself.mean():.2f} |",
                    flush=True,
                )
                told = {"curve": kind, "rule": rule.told, "asked": round(float(asked.mean()), 4)}
                told |= {"lost": round(100 * float(lost.mean()), 3), "draws": len(lost)}
                print(json.dumps(told), file=sys.stderr)


if __name__ == "__main__":
    main()
