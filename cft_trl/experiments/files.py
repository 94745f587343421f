"""An experiment on rows from files: critiques that people and models wrote, and published benchmarks.

    world: {source: files, critiques: ../shared/data/train/critiques_permissive.jsonl.gz,
            critic_tests: ../shared/data/critic, subsets: [gsm8k, math], solving_tests: [gsm8k]}

A pool row is a record of the file. Its `meta["question"]` numbers pairs of a right and a wrong response, which are of
two questions here, so that an arm's share of wrong ones can be kept; rows that are known to be in or near a benchmark
are left out. A right response that nobody wrote a critique of (nearly all of them) gets the verdict alone.
Validation is on held-out rows of the file (verdicts) and on MATH's training problems (solving).
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from cft_trl.errors import CFTError
from cft_trl.experiments.mixtures import GENERIC, Row
from cft_trl.experiments.settings import Size, World
from cft_trl.grading.benchmarks import FOLDER_VARIABLE, load_benchmark
from cft_trl.sources.reference import END

VALIDATION = "math-validation"


def why_absent(place: World) -> str | None:
    """What an experiment on files needs and this machine has not, in one line."""
    if place.source != "files":
        return None
    for name, path in (("critiques", place.critiques), ("critic_tests", place.critic_tests)):
        if path and not Path(path).exists():
            return f"{name} '{path}' is not here; give --critiques and --critic-tests, or run where they are"
    if not os.environ.get(FOLDER_VARIABLE):
        return f"{FOLDER_VARIABLE} does not say where the benchmarks are"
    return None


def file_rows(place: World, size: Size, seeds: Sequence[int]) -> dict[str, Callable[[], Iterable[Row]]]:
    """Names of data files -> what makes their rows: "validation", "test", and "pool-N" of each seed.

    Args:
        place: The files.
        size: Numbers of problems.
        seeds: Of the pools.

    Raises:
        CFTError: The files cannot be read, or hold too few rows.
    """
    rows = _critiqued(str(place.critiques))
    held_out = _drawn(rows, "validation", size.validation)
    apart = {row["query"] for row in held_out}
    left = [row for row in rows if row["query"] not in apart]
    return {
        "validation": lambda: [*_as_tests(held_out, "in"), *_problems(VALIDATION, size.validation)],
        "test": lambda: _tests(place, size),
        **{f"pool-{seed}": lambda seed=seed: _pool(left, seed) for seed in seeds},  # type: ignore[misc]
    }


def _critiqued(path: str) -> list[Row]:
    from cft_trl.sources.local import load_local

    found = load_local(path, columns={"verdict": "label"}, append_verdict=True)
    rows: list[Row] = []
    for row in found:
        known = row["meta"] or {}
        if not row["verdict"] or known.get("query_in_eval") or known.get("query_near_eval"):
            continue
        if not row["critique"] and row["verdict"] == "right":
            row["critique"] = f"{GENERIC['right']}\n\n{END['right']}"
        if row["critique"]:
            rows.append(row)
    return rows


def _drawn(rows: Sequence[Row], what: str, count: int) -> list[Row]:
    """So many rows, half of them right."""
    rng = random.Random(f"experiment/files/{what}")
    found: list[Row] = []
    for verdict, size in (("right", count // 2), ("wrong", count - count // 2)):
        of_verdict = [row for row in rows if row["verdict"] == verdict]
        if len(of_verdict) < 2 * size:
            raise CFTError(f"the critiques have {len(of_verdict)} {verdict} responses, too few to hold {size} out")
        found += rng.sample(of_verdict, size)
    return found


def _pool(rows: Sequence[Row], seed: int) -> Iterator[Row]:
    rng = random.Random(f"experiment/files/pool/{seed}")
    by_verdict = [[row for row in rows if row["verdict"] == verdict] for verdict in ("right", "wrong")]
    for number, pair in enumerate(zip(*(rng.sample(one, len(one)) for one in by_verdict), strict=False)):
        for variant, row in enumerate(pair):
            yield {**row, "id": f"s{seed}-{number:06d}-{variant}", "meta": {"question": number, "variant": variant}}


def _as_tests(rows: Iterable[Row], of_set: str) -> list[Row]:
    names = ("id", "query", "response", "verdict")
    return [{name: row[name] for name in names} | {"reference_answer": None, "meta": {"set": of_set}} for row in rows]


def _problems(benchmark: str, count: int) -> list[Row]:
    problems = load_benchmark(benchmark)
    chosen = random.Random(f"experiment/files/{benchmark}").sample(problems, min(count, len(problems)))
    return [
        {"id": row["id"], "query": row["query"], "response": None, "verdict": None, "reference_answer": row["gold"],
         "meta": {"set": benchmark.replace("-", "")}}
        for row in chosen
    ]  # fmt: skip


def _tests(place: World, size: Size) -> list[Row]:
    from cft_trl.evaluation.processbench import load_critic_rows

    found = [row for name in place.solving_tests for row in _problems(name, size.tests)]
    for subset, rows in load_critic_rows(place.critic_tests, place.subsets or None, size.tests).items():
        found += _as_tests(rows, subset)
    return found
