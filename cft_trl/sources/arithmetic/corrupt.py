"""Realistic wrong solutions: a right one with a known error put in and carried forward through the later steps.

For 3 × 8 = 24, 24 - 5 = 19 (pencils):

    slip           3 × 8 = 25, 25 - 5 = 20        one result miscalculated
    operation      3 + 8 = 11, 11 - 5 = 6         the wrong operation
    dropped_step   8 - 5 = 3                      a step left out
    misread        3 × 6 = 18, 18 - 5 = 13        a quantity of the problem copied wrongly
    lucky          3 × 8 = 25, 25 - 5 = 19        wrong work, right answer
    unit           24 - 5 = 19 hours              a wrong unit, or a conversion left out

Not every kind fits every problem: a function here returns None where it does not, or where its draw led to numbers that
would give the error away (negative, with more decimals than the problem has, or at level 0 larger than right ones are).
"""

import random
from collections.abc import Callable, Collection, Mapping
from fractions import Fraction

from .english import converts, is_clean, vocabulary
from .numbers import COMMUTATIVE, Number, compute, decimals, exact, plain
from .solution import Solution
from .template import BOUNDS, CONSTANT, GIVEN, Operand, Problem, Step

# How often a kind is tried first; the likelier mistakes of small models weigh more.
WEIGHTS = {"slip": 4, "operation": 3, "dropped_step": 3, "misread": 3, "lucky": 2, "unit": 2}
KINDS = tuple(WEIGHTS)
ATTEMPTS = 8
# At level 0 in pairs, so that every sign is about as frequent in wrong solutions as in right ones.
CONFUSED_PAIRS = {"+": "×", "×": "+", "-": "÷", "÷": "-"}
CONFUSED_OPERATIONS = {"+": "-×", "-": "+÷", "×": "+÷", "÷": "×-"}


def corrupt(problem: Problem, rng: random.Random, kind: str | None = None) -> Solution | None:
    """A wrong solution of the problem, of the kind asked for or of any that fits; None where nothing fits.

    The result is never accidentally right: its first wrong line computes none of the reference steps, and its final
    answer differs from the reference, except for `lucky` and for a `unit` error that only names a wrong unit.

    Args:
        problem: The problem with its right solution.
        rng: Where chance comes from.
        kind: One of `KINDS`; None for any.
    """
    for tried in [kind] if kind else _shuffled(rng):
        for _ in range(ATTEMPTS):
            wrong = _MAKERS[tried](problem, rng)
            if wrong is not None and _is_wrong(wrong, problem):
                return wrong
    return None


def corrupt_as(problem: Problem, rng: random.Random, kinds: Collection[str] | None) -> Solution | None:
    """A wrong solution of one of the kinds, tried in random order; as `corrupt` where `kinds` is None.

    Args:
        problem: The problem with its right solution.
        rng: Where chance comes from.
        kinds: Some of `KINDS`.
    """
    if kinds is None:
        return corrupt(problem, rng)
    for kind in sorted(kinds, key=lambda _: rng.random()):
        solution = corrupt(problem, rng, kind)
        if solution is not None:
            return solution
    return None


def _shuffled(rng: random.Random) -> list[str]:
    """All kinds, the heavier ones more likely to come early."""
    return sorted(KINDS, key=lambda kind: -(rng.random() ** (1 / WEIGHTS[kind])))


def _is_wrong(wrong: Solution, problem: Problem) -> bool:
    """Whether the error shows at `first_error` and nowhere before, and the final answer is as its kind requires."""
    place = wrong.first_error
    assert place is not None  # every maker says where its error is
    for line in wrong.lines[: place - 1]:
        if not any(line.same_as(step) for step in problem.steps):
            return False
    same_answer = wrong.answer == problem.answer
    if problem.level == 0 and not 1 < wrong.answer <= BOUNDS[0].largest:
        return False  # no right answer of this level is so small or so large: it would give the error away
    if wrong.error_kind == "unit" and len(wrong.lines) == len(problem.steps):
        return same_answer  # only a unit's name is wrong
    if place <= len(wrong.lines):
        line = wrong.lines[place - 1]
        if any(line.same_as(step) for step in problem.steps):
            return False
        # Two quantities of one step under another operation would be read as that mistake, whatever was done to them.
        if wrong.error_kind in ("dropped_step", "misread", "unit") and any(
            line.op != step.op and {line.left.value, line.right.value} == {step.left.value, step.right.value}
            for step in problem.steps
        ):
            return False
    return same_answer == (wrong.error_kind == "lucky")


def _slip(problem: Problem, rng: random.Random) -> Solution | None:
    place = rng.randrange(len(problem.steps)) + 1
    value = _slipped(problem.steps[place - 1], rng, near=problem.level == 0)
    return _finish(problem, _solve_again(problem, values={place: value}), "slip", place) if value else None


def _operation(problem: Problem, rng: random.Random) -> Solution | None:
    place = rng.randrange(len(problem.steps)) + 1
    confused = CONFUSED_OPERATIONS if problem.level else CONFUSED_PAIRS
    op = rng.choice(confused[problem.steps[place - 1].op])
    return _finish(problem, _solve_again(problem, operations={place: op}), "operation", place)


def _dropped_step(problem: Problem, rng: random.Random) -> Solution | None:
    places = [place for place, step in enumerate(problem.steps, 1) if not _conversion(problem, step)]
    return _drop(problem, rng, rng.choice(places), "dropped_step") if places else None


def _misread(problem: Problem, rng: random.Random) -> Solution | None:
    givens = _givens(problem)
    name = rng.choice(list(givens))
    value = _other_quantity(name, givens, rng, near=problem.level == 0)
    lines = _solve_again(problem, givens={name: value}) if value else None
    place = next(place for place, step in enumerate(problem.steps, 1) if name in (step.left.name, step.right.name))
    return _finish(problem, lines, "misread", place)


def _unit(problem: Problem, rng: random.Random) -> Solution | None:
    """A conversion left out where there is one, or a unit's name confused in one line or in the answer."""
    conversions = [place for place, step in enumerate(problem.steps, 1) if _conversion(problem, step)]
    if conversions and rng.random() < 0.6:
        return _drop(problem, rng, rng.choice(conversions), "unit")
    confused = vocabulary().confused_units
    places = [place for place, step in enumerate(problem.steps, 1) if step.unit in confused]
    if not places:
        return None
    place = rng.choice(places)
    unit = rng.choice(confused[problem.steps[place - 1].unit])
    last = place == len(problem.steps)
    if last and rng.random() < 0.5:  # only the answer's line is wrong
        return Solution(problem.steps, problem.answer, unit, "unit", place + 1)
    lines = tuple(step._replace(unit=unit) if at == place else step for at, step in enumerate(problem.steps, 1))
    return Solution(lines, problem.answer, unit if last else problem.unit, "unit", place)


def _lucky(problem: Problem, rng: random.Random) -> Solution | None:
    """Wrong work that arrives: one line whose misread quantities cancel, or an error that the last line undoes."""
    last = len(problem.steps)
    if rng.random() < 0.3 or last == 1:  # a single line has no later one to undo its error
        place = rng.randrange(last) + 1
        lines = _cancelling_quantities(problem, place, rng)
        return _finish(problem, lines, "lucky", place)
    place = rng.randrange(last - 1) + 1
    values: dict[int, Number] = {last: problem.answer}
    operations: dict[int, str] = {}
    if rng.random() < 0.5:
        values[place] = _slipped(problem.steps[place - 1], rng, near=problem.level == 0) or 0
    else:
        operations[place] = rng.choice(CONFUSED_OPERATIONS[problem.steps[place - 1].op])
    lines = _solve_again(problem, values=values, operations=operations)
    if not lines or compute(lines[-1].left.value, lines[-1].op, lines[-1].right.value) == problem.answer:
        return None  # nothing to undo: the changed line was another right way
    return _finish(problem, lines, "lucky", place)


_MAKERS: dict[str, Callable[[Problem, random.Random], Solution | None]] = {
    "slip": _slip,
    "operation": _operation,
    "dropped_step": _dropped_step,
    "misread": _misread,
    "lucky": _lucky,
    "unit": _unit,
}


def _finish(problem: Problem, lines: list[Step] | None, kind: str, place: int) -> Solution | None:
    return Solution(tuple(lines), lines[-1].value, problem.unit, kind, place) if lines else None


def _drop(problem: Problem, rng: random.Random, place: int, kind: str) -> Solution | None:
    """Leaves out one step; the steps that needed its result use one of its operands in its place."""
    step = problem.steps[place - 1]
    operands = [operand for operand in (step.left, step.right) if operand.origin != CONSTANT]
    if place == len(problem.steps):  # nothing needs its result, so the answer is the result that it started from
        operands = [operand for operand in operands if operand.origin > GIVEN]
    if not operands:
        return None
    stand_in = rng.choice(operands)
    lines = _solve_again(problem, dropped={place: stand_in})
    if not lines:
        return None
    if place == len(problem.steps):
        return Solution(tuple(lines), stand_in.value, problem.unit, kind, place)
    user = next(at for at, later in enumerate(problem.steps, 1) if place in (later.left.origin, later.right.origin))
    return _finish(problem, lines, kind, user - 1)


def _solve_again(
    problem: Problem,
    *,
    values: Mapping[int, Number] = {},
    operations: Mapping[int, str] = {},
    givens: Mapping[str, Number] = {},
    dropped: Mapping[int, Operand] = {},
) -> list[Step] | None:
    """The steps with some results, operations or given quantities changed, or a step dropped; later steps follow suit.

    All maps but `givens` (by the quantity's name) are keyed by the step's number. None where a number is not clean.
    """
    places = _places(*(value for step in problem.steps for value in (step.left.value, step.value)))
    results: dict[int, Operand] = {}

    def resolve(operand: Operand) -> Operand:
        if operand.origin > GIVEN:
            return results[operand.origin]
        return operand._replace(value=givens[operand.name]) if operand.name in givens else operand

    lines = []
    for number, step in enumerate(problem.steps, 1):
        if number in dropped:
            results[number] = resolve(dropped[number])
            continue
        left, right, op = resolve(step.left), resolve(step.right), operations.get(number, step.op)
        value = values[number] if number in values else compute(left.value, op, right.value)
        if value is None or value <= 0 or not is_clean(value, step.unit, places):
            return None
        results[number] = Operand(value, number, step.right.name)
        lines.append(Step(step.label, left, op, right, value, step.unit))
    return lines


def _slipped(step: Step, rng: random.Random, near: bool) -> Number | None:
    """A miscalculated result: off by one or ten, two digits swapped, or one times too many or too few.

    Args:
        step: The step as it should be.
        rng: Where chance comes from.
        near: Off by one or two only, where a result that is far off would be larger than right ones are.
    """
    value = step.value
    if near:
        options = [value + 1, value - 1, value + 2, value - 2]
    else:
        places = _places(value)
        unit = exact(f"0.{'0' * (places - 1)}1") if places else 1
        options = [value + unit, value - unit, value + 10 * unit, value - 10 * unit]
        if step.op == "×":
            options += [value + step.left.value, value - step.left.value, value + step.right.value]
        swapped = _swap_digits(value, rng)
        if swapped is not None:
            options += [swapped, swapped]
    slip = exact(rng.choice(options))
    return slip if slip > 0 and slip != value else None


def _other_quantity(name: str, givens: Mapping[str, Number], rng: random.Random, near: bool) -> Number | None:
    """What a quantity may be misread as: its digits swapped, a neighbor, or another quantity of the problem.

    Args:
        name: The quantity.
        givens: All of the problem's.
        rng: Where chance comes from.
        near: A neighbor or another quantity only.
    """
    percent = name.endswith("%")
    value = exact(givens[name] * 100) if percent else givens[name]
    options = [value + 1, value - 1, value + 2, value - 2 if near else value + 10]
    swapped = None if near else _swap_digits(value, rng)
    if swapped is not None:
        options += [swapped, swapped]
    if not percent:
        options += [other for other_name, other in givens.items() if not other_name.endswith("%")]
    read = exact(rng.choice(options))
    if read <= 1 or read == value:
        return None
    return exact(Fraction(read, 100)) if percent else read


def _cancelling_quantities(problem: Problem, place: int, rng: random.Random) -> list[Step] | None:
    """One line rewritten with two wrong quantities and the same result, such as 4 × 6 = 24 for 3 × 8 = 24.

    One of the two must be found nowhere in the problem, lest the line be another right way.
    """
    step = problem.steps[place - 1]
    left, right = step.left.value, step.right.value
    shift = rng.choice((1, 2, 3, 5, 10))
    pairs: list[tuple[Number, Number]] = {
        "+": [(left + shift, right - shift), (left - shift, right + shift)],
        "-": [(left + shift, right + shift), (left - shift, right - shift)],
        "×": [(left * 2, Fraction(right) / 2), (Fraction(left) / 2, right * 2)],
        "÷": [(left * 2, right * 2)],
    }[step.op]
    new_left, new_right = (exact(value) for value in rng.choice(pairs))
    known = {operand.value for other in problem.steps for operand in (other.left, other.right)}
    known |= {other.value for other in problem.steps}
    if new_left in known and new_right in known:
        return None
    if min(new_left, new_right) <= 1 or _places(new_left, new_right) > _places(left, right):
        return None
    if step.op in COMMUTATIVE and {new_left, new_right} == {left, right}:
        return None
    lines = list(problem.steps)
    operands = step.left._replace(value=new_left), step.right._replace(value=new_right)
    lines[place - 1] = step._replace(left=operands[0], right=operands[1])
    return lines


def _places(*values: Number) -> int:
    """The most decimals that one of a problem's numbers needs; all of them end somewhere."""
    return max(decimals(value) or 0 for value in values)


def _swap_digits(value: Number, rng: random.Random) -> Number | None:
    """Two neighboring digits swapped, 24 -> 42; None where that changes nothing or starts with a zero."""
    digits = plain(value)
    places = [at for at in range(len(digits) - 1) if digits[at : at + 2].isdigit() and digits[at] != digits[at + 1]]
    if not places:
        return None
    at = rng.choice(places)
    swapped = digits[:at] + digits[at + 1] + digits[at] + digits[at + 2 :]
    return None if swapped.startswith("0") else exact(swapped)


def _givens(problem: Problem) -> dict[str, Number]:
    """The quantities that the problem's text gives, by name, in the order in which the steps use them."""
    operands = (operand for step in problem.steps for operand in (step.left, step.right))
    return {operand.name: operand.value for operand in operands if operand.origin == GIVEN}


def _conversion(problem: Problem, step: Step) -> bool:
    """Whether a step only changes the unit: minutes ÷ 60 = hours."""
    sources = [operand for operand in (step.left, step.right) if operand.origin != CONSTANT]
    if len(sources) != 1 or sources[0].origin == GIVEN:
        return False
    return converts(problem.steps[sources[0].origin - 1].unit, step.unit)
