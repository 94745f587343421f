"""The rows of an experiment in the embedded world: pools to train on, problems to validate and to test with.

    OUT/data/pool-0.jsonl         of seed 0: each question with two right and two wrong responses, one row each
    OUT/data/validation.jsonl     choose the learning rate
    OUT/data/test.jsonl           one row of it:

    {"id": "in-000003", "query": "Nora has 3 boxes …", "response": "3 × 8 = 25 …", "verdict": "wrong",
     "reference_answer": "19", "meta": {"set": "in", "template": "pencil_boxes", …}, …}

Three test sets: `in` is like the rows that are trained on, `unseen` has templates that no arm is trained on, `steps`
has problems of more steps. The base was made with the world's templates, unseen ones too, of other problems: what is
new there is new to the arms, as a base model has seen much that it is not fine-tuned on. Whether it has seen the
levels of `steps` is up to `base_levels`. Which split a problem belongs to is decided by its text
(`cft_trl.sources.arithmetic`), so that no test problem can be in a pool.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

from cft_trl.experiments.settings import VARIANTS, Size, World
from cft_trl.sources.arithmetic import STYLES, as_record, corrupt_as, problems, right_solution, write
from cft_trl.sources.arithmetic.template import Problem
from cft_trl.sources.reference import critique_from_reference
from cft_trl.sources.reference_brief import brief_or_full

Row = dict[str, Any]

SETS = ("in", "unseen", "steps")
REFERENCE_STYLE = "numbered"  # of the reference solutions, whatever the response's own
_TEST_SEED, _BASE_SEED, _DRILL_SEED = 1_000_003, 1_000_033, 1_000_037  # no seed of an experiment
_DRILLED = 2000  # problems whose sums are drilled


def pool(world: World, seed: int, questions: int) -> Iterator[Row]:
    """The rows that one seed's arms are trained on: `VARIANTS` right and as many wrong ones of each question.

    Each has its critique by the reference teacher, and in `meta` the `question` (a number), the `variant`, the
    `reference` solution, what an `invented` error and a `missed` one would be told as, and the critique's id.

    Args:
        world: Levels and templates.
        seed: Another one has other questions.
        questions: How many.
    """
    rng, kinds = random.Random(f"experiment/pool/{seed}"), world.kinds or None
    for number, problem in enumerate(_problems(world.levels, seed, "train", questions, world, seen=True)):
        styles = rng.sample(list(STYLES), len(STYLES))
        wrong = [solution for _ in range(VARIANTS) if (solution := corrupt_as(problem, rng, kinds)) is not None]
        if len(wrong) < VARIANTS:
            continue
        for variant, solution in enumerate([right_solution(problem)] * VARIANTS + wrong):
            row = as_record(problem, solution, styles[variant], f"s{seed}-{number:06d}-{variant}")
            row["meta"] |= {"brief": world.brief}
            row["critique"], row["teacher"] = critique_of(row), "reference"
            other = {**row, "response": write(wrong[variant % VARIANTS], styles[variant])}
            row["meta"] |= {
                "question": number,
                "variant": variant,
                "reference": write(right_solution(problem), REFERENCE_STYLE),
                "invented": critique_of(other),
                "missed": critique_of({**row, "response": row["refinement"]}),
            }
            yield row


def critique_of(row: Row, wording: int = 0) -> str | None:
    """The reference teacher's critique of a pool's row, brief where `meta` says so.

    Args:
        row: With `meta` as `pool` makes it.
        wording: Another one says the same in other words.
    """
    if row["meta"]["brief"]:
        return brief_or_full(row, wording)
    return critique_from_reference(row, f"{row['id']}.{wording}" if wording else None)


def trial_rows(world: World, split: str, count: int) -> Iterator[Row]:
    """Problems with a response each, half of the responses wrong; `split` is "test" (all sets) or "validation".

    Args:
        world: Levels and templates.
        split: Of the problems.
        count: Rows of each set.
    """
    wanted: dict[str, Iterator[Problem]] = {"in": _problems(world.levels, _TEST_SEED, split, count, world, seen=True)}
    if split == "test":
        if world.unseen:
            wanted["unseen"] = _problems(world.levels, _TEST_SEED, split, count, world, seen=False)
        wanted["steps"] = _problems(world.more_steps, _TEST_SEED, split, count)
    for name, found in wanted.items():
        rng = random.Random(f"experiment/{split}/{name}")
        for number, problem in enumerate(found):
            solution = right_solution(problem) if number % 2 else corrupt_as(problem, rng, world.kinds or None)
            row = as_record(
                problem, solution or right_solution(problem), rng.choice(list(STYLES)), f"{name}-{number:06d}"
            )
            row["meta"]["set"] = name
            yield row


def base_rows(world: World, size: Size) -> list[Row]:
    """What the base is made with: bare sums, comparisons, and questions with right solutions, as many of each level.

    Args:
        world: Of its own levels only its templates are taken, unseen ones too; of others all.
        size: How many rows, of which levels, and the shares of sums and comparisons.
    """
    rng, levels = random.Random("experiment/base"), sorted(set(size.base_levels))
    sums, compared = round(size.base_rows * size.drill), round(size.base_rows * size.compare)
    count = size.base_rows - sums - compared
    known = [step.equation for problem in _problems(levels, _DRILL_SEED, "train", _DRILLED) for step in problem.steps]
    rows = [_drill(rng, number, known) for number in range(sums)]
    rows += [_comparison(rng, number, known) for number in range(compared)]
    for at, level in enumerate(levels):
        share = count * (at + 1) // len(levels) - count * at // len(levels)
        own = world if level in world.levels else None
        for number, problem in enumerate(_problems((level,), _BASE_SEED, "train", share, own)):
            style = rng.choice(list(STYLES))
            rows.append(as_record(problem, right_solution(problem), style, f"base-{level}-{number:06d}"))
    rng.shuffle(rows)
    return rows


def _drill(rng: random.Random, number: int, known: Sequence[str]) -> Row:
    """`Compute 3 × 8, 24 - 5, …` with an equation per line, of those that the base's problems need."""
    lines = rng.choices(known, k=6)
    asked = ", ".join(line.partition(" = ")[0] for line in lines)
    return {"id": f"drill-{number:06d}", "query": f"Compute {asked}.", "response": "\n".join(lines)}


def _comparison(rng: random.Random, number: int, known: Sequence[str]) -> Row:
    """`Compare 24 with 24, 19 with 24, …` with a line for each, of the drilled sums' results; half are the same."""
    results = [equation.rpartition(" = ")[2] for equation in known]
    pairs = []
    for one in rng.choices(results, k=6):
        pairs.append((one, one if rng.random() < 0.5 else rng.choice(results)))
    asked = ", ".join(f"{one} with {other}" for one, other in pairs)
    said = [f"{one} and {other} are {'the same' if one == other else 'not the same'}" for one, other in pairs]
    return {"id": f"compare-{number:06d}", "query": f"Compare {asked}.", "response": "\n".join(said)}


def _problems(
    levels: Sequence[int], seed: int, split: str, count: int, world: World | None = None, seen: bool | None = None
) -> Iterator[Problem]:
    """So many problems: of a world its templates, those that arms are trained on (`seen`) or the others."""
    found = 0
    for problem in problems(seed, levels, split):
        if found == count:
            return
        if world and world.templates and problem.template not in world.templates:
            continue
        if world and seen is not None and (problem.template in world.unseen) == seen:
            continue
        found += 1
        yield problem
