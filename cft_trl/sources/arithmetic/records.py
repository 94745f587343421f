"""The embedded data source: arithmetic word problems as rows of critique data, made on the spot.

One row of `arithmetic_records` (level 1, a wrong response), shortened:

    id                 arithmetic-train-s0-000012
    query              Nora has 3 boxes of pencils with 8 pencils in each box. She gives away 5 pencils. How many ...
    response           Step 1: 3 × 8 = 25 pencils in the boxes. Step 2: 25 - 5 = 20 pencils left. The answer is ...
    critique           Step 1: 3 × 8 = 24, but the solution has 25: an arithmetic error. ... Conclusion: wrong [END]
    verdict            wrong
    refinement         Step 1: 3 × 8 = 24 pencils in the boxes. ... The answer is 19 pencils.
    reference_answer   19
    response_source    arithmetic:slip
    teacher            reference
    source             arithmetic
    meta               {"level": 1, "template": "pencil_boxes", "error_kind": "slip", "first_error_step": 1, ...}

Which split a problem belongs to is decided by a hash of its text, so the splits of any two seeds never share a query.
"""

import random
from collections.abc import Collection, Iterator
from hashlib import sha256

from cft_trl.errors import CFTError

from .bank import TEMPLATES
from .corrupt import KINDS, corrupt_as
from .numbers import plain
from .solution import STYLES, Solution, right_solution, write
from .template import CONSTANT, GIVEN, Operand, Problem, Step

SPLITS = {"train": range(0, 8), "validation": range(8, 9), "test": range(9, 10)}  # tenths of all queries
MAX_MISSES = 100_000  # draws without a new query before we say that there are none left


def split_of(query: str) -> str:
    """The split that owns a query: "train" (80%), "validation" (10%) or "test" (10%), whatever the seed."""
    tenth = int(_digest(query)[:8], 16) % 10
    return next(split for split, tenths in SPLITS.items() if tenth in tenths)


def problems(seed: int = 0, levels: Collection[int] = (1, 2, 3), split: str = "train") -> Iterator[Problem]:
    """An unlimited stream of problems of the levels and split asked for, no query twice.

    Args:
        seed: Another seed draws others.
        levels: Of 0, 1, 2, 3.
        split: "train", "validation" or "test"; no query is in two.

    Raises:
        CFTError: A level or split that does not exist.
    """
    return _problems(seed, _check_levels(levels), _check("split", split, SPLITS))


def _problems(seed: int, levels: list[int], split: str) -> Iterator[Problem]:
    rng = random.Random(f"arithmetic/{split}/{seed}")
    templates = [template for level in levels for template in TEMPLATES[level]]
    tenths = SPLITS[split]
    seen: set[str] = set()
    misses = 0
    while misses < MAX_MISSES:
        problem = rng.choice(templates).draw(rng)
        misses += 1
        if problem is None:
            continue
        digest = _digest(problem.query)
        if int(digest[:8], 16) % 10 in tenths and digest not in seen:
            seen.add(digest)
            misses = 0
            yield problem
    raise CFTError(
        f"arithmetic: no new problem left at levels {levels}, split {split}, after {len(seen)}; ask for fewer"
    )


def arithmetic_records(
    count: int,
    seed: int = 0,
    levels: Collection[int] = (1, 2, 3),
    split: str = "train",
    right_ratio: float = 0.5,
    kinds: Collection[str] | None = None,
    with_critiques: bool = True,
    pairs: bool = False,
    brief: bool = False,
    with_refinements: bool = True,
) -> Iterator[dict]:
    """Rows of critique data with a known truth; the same arguments give the same rows on every machine.

    Args:
        count: how many rows.
        seed: another seed gives other problems of the same split.
        levels: of 0 (one small step), 1 (two small steps), 2 (3-4 steps, larger numbers), 3 (4-6 steps, percentages,
            decimals, units).
        split: "train", "validation" or "test"; no query is in two of them.
        right_ratio: the share of rows with a right response, 0 to 1, kept exactly up to rounding.
        kinds: the kinds of error in the wrong responses (default: all, see corrupt.py). A problem that none of them
            fits is passed over.
        with_critiques: False leaves `critique` and `teacher` None, for another teacher to write.
        pairs: two rows of each problem, a right and a wrong response in the same style, one after the other in either
            order; `share_prefixes` computes what the two begin with once. Needs an even `count`; the ratio is a half.
        brief: critiques in the form of `reference_brief`, short enough to learn in minutes, where results alone decide;
            the others (a wrong unit, a missing step, an answer right by luck) as without it.
        with_refinements: False leaves `refinement` None.

    Yields:
        Rows with the house's columns; `verdict` is "right" or "wrong", and "wrong" for every response with a wrong step
        even where its answer is right (`lucky`). `meta["steps"]` holds the reference steps.

    Raises:
        CFTError: an argument is out of range.
    """
    if not isinstance(count, int) or count < 0:
        raise CFTError(f"arithmetic: count is {count!r}; give a whole number of rows, 0 or more")
    if not isinstance(right_ratio, int | float) or not 0 <= right_ratio <= 1:
        raise CFTError(f"arithmetic: right_ratio is {right_ratio!r}; give a share between 0 and 1")
    if isinstance(kinds, str):
        kinds = [kinds]
    if kinds is not None and not kinds:
        raise CFTError(f"arithmetic: kinds is empty; name some of {', '.join(KINDS)}, or leave it out for all")
    kinds = None if kinds is None else [kind for kind in KINDS if kind in [_check("kind", k, KINDS) for k in kinds]]
    if pairs and (count % 2 or right_ratio != 0.5):
        raise CFTError(f"arithmetic: pairs of {count} rows, right_ratio {right_ratio}; give an even count and 0.5")
    if brief and not with_critiques:
        raise CFTError("arithmetic: brief is a form of critiques; leave it out with with_critiques=False")
    stream = problems(seed, levels, split)
    prefix = f"arithmetic-{split}-s{seed}"
    rng = random.Random(f"{prefix}/responses")
    made = _paired(stream, count, rng, kinds) if pairs else _mixed(stream, count, rng, right_ratio, kinds)
    return _records(made, prefix, with_critiques, brief, with_refinements)


_Made = tuple[Problem, Solution, str]  # a problem, a solution of it, and the style to write it in


def _mixed(
    stream: Iterator[Problem], count: int, rng: random.Random, right_ratio: float, kinds: list[str] | None
) -> Iterator[_Made]:
    """One solution of each problem."""
    styles = list(STYLES)
    right_so_far, number = 0, 0
    while number < count:
        problem = next(stream)
        # Drawn without replacement, so that the ratio is exact over the whole and the order cannot be guessed.
        right = rng.random() * (count - number) < round(count * right_ratio) - right_so_far
        solution = right_solution(problem) if right else corrupt_as(problem, rng, kinds)
        if solution is None:
            continue
        yield problem, solution, rng.choice(styles)
        right_so_far += right
        number += 1


def _paired(stream: Iterator[Problem], count: int, rng: random.Random, kinds: list[str] | None) -> Iterator[_Made]:
    """A right and a wrong solution of each problem, in one style, in either order."""
    styles = list(STYLES)
    number = 0
    while number < count:
        problem = next(stream)
        wrong = corrupt_as(problem, rng, kinds)
        if wrong is None:
            continue
        style = rng.choice(styles)
        both = [right_solution(problem), wrong]
        rng.shuffle(both)
        yield from ((problem, solution, style) for solution in both)
        number += 2


def _records(made: Iterator[_Made], prefix: str, critiques: bool, brief: bool, refined: bool) -> Iterator[dict]:
    # a later room: imported only to finish the rows
    from cft_trl.sources.reference import critique_from_reference
    from cft_trl.sources.reference_brief import brief_or_full

    for number, (problem, solution, style) in enumerate(made):
        row = as_record(problem, solution, style, f"{prefix}-{number:06d}", refined)
        if critiques:
            row["critique"] = brief_or_full(row) if brief else critique_from_reference(row)
            row["teacher"] = "reference"
        yield row


def as_record(problem: Problem, solution: Solution, style: str, name: str, refined: bool = True) -> dict:
    """A solution of a problem as a row without a critique.

    Args:
        problem: With the right steps.
        solution: Right, or of one of the kinds of error.
        style: One of `STYLES`, of the response and its refinement.
        name: The row's `id`.
        refined: Whether it has a `refinement`.
    """
    return {
        "id": name,
        "query": problem.query,
        "response": write(solution, style),
        "critique": None,
        "verdict": "wrong" if solution.error_kind else "right",
        "refinement": write(right_solution(problem), style) if refined else None,
        "reference_answer": plain(problem.answer),
        "response_source": f"arithmetic:{solution.error_kind or 'right'}",
        "teacher": None,
        "source": "arithmetic",
        "meta": {
            "level": problem.level,
            "template": problem.template,
            "topic": problem.topic,
            "error_kind": solution.error_kind,
            "first_error_step": solution.first_error,
            "steps": [_as_json(step) for step in problem.steps],
        },
    }


def _as_json(step: Step) -> dict:
    """A step with its numbers as text; `left_from` is "problem", "constant" or the step it comes from, "step 2"."""
    return {
        "label": step.label,
        "left": plain(step.left.value),
        "left_from": _origin(step.left),
        "op": step.op,
        "right": plain(step.right.value),
        "right_from": _origin(step.right),
        "value": plain(step.value),
        "unit": step.unit,
    }


def _origin(operand: Operand) -> str:
    return {GIVEN: "problem", CONSTANT: "constant"}.get(operand.origin) or f"step {operand.origin}"


def _digest(query: str) -> str:
    return sha256(" ".join(query.lower().split()).encode()).hexdigest()


def _check(what: str, value: str, known: Collection[str]) -> str:
    if value not in known:
        raise CFTError(f"arithmetic: unknown {what} {value!r}; known are {', '.join(known)}")
    return value


def _check_levels(levels: Collection[int]) -> list[int]:
    chosen = [levels] if isinstance(levels, int) else list(levels)
    if not chosen or any(level not in TEMPLATES for level in chosen):
        raise CFTError(f"arithmetic: levels is {levels!r}; give some of {', '.join(map(str, TEMPLATES))}")
    return sorted(set(chosen))
