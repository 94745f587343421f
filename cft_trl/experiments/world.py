"""The rows of an experiment in the embedded world: pools to train on, problems to validate and to test with.

    OUT/data/pool-0.jsonl         of seed 0: each question with two right and two wrong responses, one row each
    OUT/data/validation.jsonl     choose the learning rate
    OUT/data/test.jsonl           one row of it:

    {"id": "in-000003", "query": "Nora has 3 boxes …", "response": "3 × 8 = 25 …", "verdict": "wrong",
     "reference_answer": "19", "meta": {"set": "in", "template": "pencil_boxes", …}, …}

Three test sets: `in` is like the rows that are trained on, `unseen` has templates that no arm is trained on, `steps`
has problems of more steps. The base was made with all templates and levels, of other problems: what is new in the
last two sets is new to the arms, as a base model has seen much that it is not fine-tuned on. Which split a problem
belongs to is decided by its text (`cft_trl.sources.arithmetic`), so that no test problem can be in a pool.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

from cft_trl.experiments.settings import VARIANTS, World
from cft_trl.sources.arithmetic import STYLES, as_record, corrupt, problems, right_solution, write
from cft_trl.sources.arithmetic.template import Problem
from cft_trl.sources.reference import critique_from_reference

Row = dict[str, Any]

SETS = ("in", "unseen", "steps")
REFERENCE_STYLE = "numbered"  # of the reference solutions, whatever the response's own
_TEST_SEED, _BASE_SEED = 1_000_003, 1_000_033  # no seed of an experiment


def pool(world: World, seed: int, questions: int) -> Iterator[Row]:
    """The rows that one seed's arms are trained on: `VARIANTS` right and as many wrong ones of each question.

    Each has its critique by the reference teacher, and in `meta` the `question` (a number), the `variant`, the
    `reference` solution, what an `invented` error and a `missed` one would be told as, and the critique's id.

    Args:
        world: Levels and templates.
        seed: Another one has other questions.
        questions: How many.
    """
    rng = random.Random(f"experiment/pool/{seed}")
    for number, problem in enumerate(_problems(world.levels, seed, "train", questions, without=world.unseen)):
        styles = rng.sample(list(STYLES), len(STYLES))
        wrong = [solution for _ in range(VARIANTS) if (solution := corrupt(problem, rng)) is not None]
        if len(wrong) < VARIANTS:
            continue
        for variant, solution in enumerate([right_solution(problem)] * VARIANTS + wrong):
            row = as_record(problem, solution, styles[variant], f"s{seed}-{number:06d}-{variant}")
            row["critique"], row["teacher"] = critique_from_reference(row), "reference"
            other = {**row, "response": write(wrong[variant % VARIANTS], styles[variant])}
            row["meta"] |= {
                "question": number,
                "variant": variant,
                "reference": write(right_solution(problem), REFERENCE_STYLE),
                "invented": critique_from_reference(other),
                "missed": critique_from_reference({**row, "response": row["refinement"]}),
            }
            yield row


def trial_rows(world: World, split: str, count: int) -> Iterator[Row]:
    """Problems with a response each, half of the responses wrong; `split` is "test" (all sets) or "validation".

    Args:
        world: Levels and templates.
        split: Of the problems.
        count: Rows of each set.
    """
    wanted: dict[str, Iterator[Problem]] = {
        "in": _problems(world.levels, _TEST_SEED, split, count, without=world.unseen)
    }
    if split == "test":
        if world.unseen:
            wanted["unseen"] = _problems(world.levels, _TEST_SEED, split, count, only=world.unseen)
        wanted["steps"] = _problems(world.more_steps, _TEST_SEED, split, count)
    for name, found in wanted.items():
        rng = random.Random(f"experiment/{split}/{name}")
        for number, problem in enumerate(found):
            solution = right_solution(problem) if number % 2 else corrupt(problem, rng)
            row = as_record(
                problem, solution or right_solution(problem), rng.choice(list(STYLES)), f"{name}-{number:06d}"
            )
            row["meta"]["set"] = name
            yield row


def base_rows(world: World, count: int) -> list[Row]:
    """Questions with right solutions, of all templates of the base's levels, as many of each level as of the next."""
    levels = sorted(set(world.base_levels))
    rng, rows = random.Random("experiment/base"), []
    for at, level in enumerate(levels):
        share = count * (at + 1) // len(levels) - count * at // len(levels)
        for number, problem in enumerate(_problems((level,), _BASE_SEED, "train", share)):
            style = rng.choice(list(STYLES))
            rows.append(as_record(problem, right_solution(problem), style, f"base-{level}-{number:06d}"))
    rng.shuffle(rows)
    return rows


def _problems(
    levels: Sequence[int], seed: int, split: str, count: int, without: Sequence[str] = (), only: Sequence[str] = ()
) -> Iterator[Problem]:
    found = 0
    for problem in problems(seed, levels, split):
        if found == count:
            return
        if problem.template in without or (only and problem.template not in only):
            continue
        found += 1
        yield problem
