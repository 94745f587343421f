"""The `reference` teacher: critiques written from a known solution, without any model.

It reads a row's response as text, works through its equations in order against the reference steps in
`row["meta"]["steps"]`, and writes the recomputation first and the judgement after it, up to the first wrong step:

    Step 1: 3 × 8 = 24, correct.
    Step 2: 24 - 5 = 19, but the solution has 18: an arithmetic error.
    The correct answer is 19 pencils.
    Conclusion: wrong [END]

Two conventions. A response with a wrong step is wrong even where its final answer is right (ProcessBench does the
same); the critique then says that the answer is right by luck. And every equation the teacher states is true: what it
repeats from the solution stands in double quotes, `"3 + 8 = 11"`.

A row without reference steps but with a `reference_answer` gets a critique of what can be checked: each equation by
itself, and the final answer. `diagnose` finds what is wrong; `_tell` words it.
"""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cft_trl.sources.arithmetic.english import converts, quantity
from cft_trl.sources.arithmetic.numbers import COMMUTATIVE, Number, exact, plain
from cft_trl.sources.domains.checks import critique_of_checks
from cft_trl.sources.reference_equations import (
    PLAIN_NUMBER,
    Equation,
    FinalAnswer,
    final_answer,
    read_equations,
    units_clash,
)
from cft_trl.sources.reference_wording import wording

END = {"right": "Conclusion: right [END]", "wrong": "Conclusion: wrong [END]"}


@dataclass(frozen=True, slots=True)
class Reference:
    """One reference step. `sources` holds, for left and right, the number (from 1) of the step it comes from, or 0."""

    label: str
    left: Number
    op: str
    right: Number
    value: Number
    unit: str
    sources: tuple[int, int]
    constants: tuple[bool, bool]

    @property
    def text(self) -> str:
        return f"{plain(self.left)} {self.op} {plain(self.right)} = {plain(self.value)}"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What is wrong with a response, and what was right before it.

    `kind` is None where nothing is wrong, else one of "arithmetic", "operation", "misread", "missing", "unit",
    "conversion", "method" (a step that the problem has no use for) and "answer" (right steps, other answer).
    `place` is the number (from 1) of the first wrong equation; one more than the equations where only the answer is
    wrong. `step` is the reference step that should stand there, `missing` one that was left out before it, and
    `rest` the reference steps that were still to do.
    """

    kind: str | None
    place: int
    right: tuple[Equation, ...]
    wrong: Equation | None = None
    step: Reference | None = None
    missing: Reference | None = None
    rest: tuple[Reference, ...] = ()


def critique_from_reference(record: dict, rng: random.Random | int | str | None = None) -> str | None:
    """A critique of the row's response, ending in its verdict line; None where there is nothing to check.

    Args:
        record: a row with `query`, `response` and either `meta["steps"]` or `reference_answer`. What the row says about
            its own error (`error_kind`, `first_error_step`, `verdict`) is not looked at. A row that brings
            `meta["checks"]` gets a critique of those (`cft_trl.sources.domains.checks`).
        rng: chooses the wording. A seed will do; by default the row's id, so that a row always gets the same critique.
    """
    if not isinstance(rng, random.Random):
        rng = random.Random(str(rng if rng is not None else record.get("id") or record["query"] + record["response"]))
    if told := critique_of_checks(record, rng):
        return told
    equations, final = read_equations(record["response"]), final_answer(record["response"])
    steps = read_steps((record.get("meta") or {}).get("steps"))
    if steps:
        if final is None and not equations:
            return None
        return _tell(diagnose(equations, final, steps, record["query"]), steps, final, rng)
    return _tell_without_steps(equations, final, record.get("reference_answer"), rng)


def diagnose(
    equations: Sequence[Equation], final: FinalAnswer | None, steps: Sequence[Reference], query: str = ""
) -> Diagnosis:
    """Compares a response's equations and final answer with the reference steps, up to the first error.

    Args:
        equations, final: As read from the response.
        steps: The reference's, in order.
        query: The question, for the numbers that it gives.
    """
    answer = steps[-1].value
    claimed = final.value if final else equations[-1].shown
    another_way = claimed == answer and _holds_together(equations, steps, query)
    done: set[int] = set()
    unplaced = False
    for place, equation in enumerate(equations, 1):
        before = tuple(equations[: place - 1])
        at = _same_computation(equation, steps, done)
        if at is not None:
            step = steps[at]
            kind = None
            if equation.shown != step.value:
                kind = "arithmetic"
            elif units_clash(equation.unit, step.unit):
                kind = "unit"
            if kind:
                return Diagnosis(kind, place, before, equation, step, rest=_rest(steps, done | {at}))
            done.add(at)
            continue
        if another_way:
            continue
        if equation.op is None:  # several operations in one: true or false by itself, and worth the steps it covers
            done |= _covered(equation, steps)
            if equation.shown != equation.value:
                return Diagnosis("arithmetic", place, before, equation, rest=_rest(steps, done))
            unplaced = True
            continue
        at = _meant(equation, steps, done)
        if at is None and equation.shown != equation.value:
            return Diagnosis("arithmetic", place, before, equation, rest=_rest(steps, done))
        if at is None:
            unplaced = True
            continue
        kind, missing = _mistake(equation, steps, at, done)
        told = at if missing is None else missing  # the step that the critique works out in this line's place
        left_out = None if missing is None else steps[missing]
        return Diagnosis(kind, place, before, equation, steps[at], left_out, _rest(steps, done | {told}))
    return _check_answer(equations, final, steps, done, claimed, unplaced)


def _check_answer(
    equations: Sequence[Equation],
    final: FinalAnswer | None,
    steps: Sequence[Reference],
    done: set[int],
    claimed: Number,
    unplaced: bool,
) -> Diagnosis:
    """What is wrong after the last equation: a unit, a missing end, another answer, or nothing."""
    place, before = len(equations) + 1, tuple(equations)
    rest = _rest(steps, done)
    if claimed == steps[-1].value:
        clash = final is not None and units_clash(final.unit, steps[-1].unit)
        return Diagnosis("unit" if clash else None, place, before, rest=() if equations else rest)
    if not rest or unplaced or not equations:
        return Diagnosis("answer" if not rest or not equations else "method", place, before, rest=rest)
    kind = "conversion" if _is_conversion(steps, steps.index(rest[0])) else "missing"
    return Diagnosis(kind, place, before, missing=rest[0], rest=rest[1:])


def _rest(steps: Sequence[Reference], done: set[int]) -> tuple[Reference, ...]:
    return tuple(step for at, step in enumerate(steps) if at not in done)


def _holds_together(equations: Sequence[Equation], steps: Sequence[Reference], query: str) -> bool:
    """Whether every equation is true and uses only numbers that the problem gives or an earlier equation found."""
    known = {number for step in steps for number, source in zip((step.left, step.right), step.sources, strict=True)
             if not source}  # fmt: skip
    known |= {exact(number) for number in PLAIN_NUMBER.findall(query)}
    for equation in equations:
        if equation.shown != equation.value or not known.issuperset(equation.operands):
            return False
        known.add(equation.value)
    return True


def _covered(equation: Equation, steps: Sequence[Reference]) -> set[int]:
    """The reference steps that an equation of several operations stands for: the one it equals and what that needs."""
    at = next((at for at, step in enumerate(steps) if step.value == equation.value), None)
    waiting = [] if at is None else [at]
    covered: set[int] = set()
    while waiting:
        at = waiting.pop()
        covered.add(at)
        waiting += [source - 1 for source in steps[at].sources if source]
    return covered


def _same_computation(equation: Equation, steps: Sequence[Reference], done: set[int]) -> int | None:
    """Which reference step has these operands and this operation; one that is not done yet, where there is a choice."""
    found = None
    for at, step in enumerate(steps):
        if equation.op == step.op and _same_operands(equation, step, either_order=step.op in COMMUTATIVE):
            if at not in done:
                return at
            found = at
    return found


def _same_operands(equation: Equation, step: Reference, either_order: bool) -> bool:
    mine, theirs = equation.operands, (step.left, step.right)
    return mine == theirs or (either_order and mine == theirs[::-1])


def _meant(equation: Equation, steps: Sequence[Reference], done: set[int]) -> int | None:
    """Which reference step a line stands for that computes none of them: by its words, operands and operation."""
    best, best_score = None, 0
    for at, step in enumerate(steps):
        if at in done:
            continue
        same = _same_operands(equation, step, either_order=True)
        shared = len(set(equation.operands) & {step.left, step.right})
        named = step.label.lower() in equation.line
        alike = equation.op == step.op and (shared or equation.shown == step.value)
        if not (same or named or alike):
            continue
        score = 1 + 4 * named + 3 * same + shared + (equation.op == step.op)
        if score > best_score:
            best, best_score = at, score
    return best


def _mistake(equation: Equation, steps: Sequence[Reference], at: int, done: set[int]) -> tuple[str, int | None]:
    """The kind of mistake in a line that stands for step `at`, and the step it left out, if that is the mistake."""
    step = steps[at]
    lacking = Counter((step.left, step.right)) - Counter(equation.operands)
    for expected, source in zip((step.left, step.right), step.sources, strict=True):
        if source and source - 1 not in done and expected in lacking:
            return ("conversion" if _is_conversion(steps, source - 1) else "missing"), source - 1
    if equation.op != step.op:
        return ("operation" if _same_operands(equation, step, either_order=True) else "method"), None
    constants = [value for value, constant in zip((step.left, step.right), step.constants, strict=True) if constant]
    copied = all(constant in equation.operands for constant in constants)
    return ("misread" if copied and set(equation.operands) != {step.left, step.right} else "method"), None


def _is_conversion(steps: Sequence[Reference], at: int) -> bool:
    """Whether a step turns an earlier result into another unit, by a number that is no quantity of the problem."""
    step = steps[at]
    sources = [source for source, constant in zip(step.sources, step.constants, strict=True) if not constant]
    return len(sources) == 1 and sources[0] > 0 and converts(steps[sources[0] - 1].unit, step.unit)


def read_steps(steps: Sequence[dict] | None) -> tuple[Reference, ...]:
    return tuple(
        Reference(
            step["label"],
            exact(step["left"]),
            step["op"],
            exact(step["right"]),
            exact(step["value"]),
            step["unit"],
            (_source(step["left_from"]), _source(step["right_from"])),
            (step["left_from"] == "constant", step["right_from"] == "constant"),
        )
        for step in steps or ()
    )


def _source(origin: str) -> int:
    return int(origin.removeprefix("step ")) if origin.startswith("step ") else 0


def _tell(found: Diagnosis, steps: Sequence[Reference], final: FinalAnswer | None, rng: random.Random) -> str:
    """Words a diagnosis: a line per step up to the first wrong one, the rest of the way, the answer, the verdict."""
    answer = quantity(steps[-1].value, steps[-1].unit)
    lines = [f"Step {number}: {_say('right', rng, eq=line.text)}" for number, line in enumerate(found.right, 1)]
    if not found.right and found.wrong is None and not found.missing and found.rest:  # an answer without any work
        lines.append(f"{', '.join(step.text for step in found.rest)}.")
        found = replace(found, rest=())
    if found.kind is None:
        return "\n".join([*lines, _say("confirmed", rng, answer=answer), END["right"]])
    lines.append(_first_error(found, final, answer, rng))
    if found.rest:
        lines.append(_say("going_on", rng, rest=", ".join(step.text for step in found.rest)))
    claimed = final.value if final else found.right[-1].shown if found.right else None
    unit_only = found.kind == "unit"
    closing = "lucky" if claimed == steps[-1].value and not unit_only else "corrected"
    return "\n".join([*lines, _say(closing, rng, answer=answer), END["wrong"]])


def _say(kind: str, rng: random.Random, **slots: str) -> str:
    return rng.choice(wording()[kind]).format(**slots)


def _first_error(found: Diagnosis, final: FinalAnswer | None, answer: str, rng: random.Random) -> str:
    wrong, step, kind = found.wrong, found.step, found.kind or ""
    said = {"answer": answer, "missed": found.missing.text if found.missing else ""}
    if wrong is None:
        shown = plain(final.value) if final else found.right[-1].shown_text
        said |= {"got": shown, "wrong_unit": final.unit if final else ""}
        heading = f"Step {found.place}" if found.missing else "Answer"
        return f"{heading}: {_say(f'{kind}_last', rng, **said)}"
    said |= {"eq": step.text if step else wrong.true_text, "quote": f'"{wrong.text}"', "got": wrong.shown_text}
    if kind == "arithmetic":
        said["eq"] = wrong.true_text
    if kind == "unit" and step:
        said |= {"unit": quantity(step.value, step.unit).split(" ", 1)[1], "wrong_unit": wrong.unit}
    if kind == "misread" and step:
        said["was"], said["read"] = _misread(wrong, step)
    return f"Step {found.place}: {_say(kind, rng, **said)}"


def _misread(wrong: Equation, step: Reference) -> tuple[str, str]:
    """What the operands should be and what they are, `("3", "4")`, or `("3 and 8", "4 and 6")` where both differ."""
    expected, got = [step.left, step.right], list(wrong.operands)
    pairs = [(a, b) for a, b in zip(expected, got, strict=True) if a != b]
    if len(pairs) == 2 and step.op in COMMUTATIVE:
        crossed = [(a, b) for a, b in zip(expected, got[::-1], strict=True) if a != b]
        pairs = min(pairs, crossed, key=len)
    return " and ".join(plain(a) for a, _ in pairs), " and ".join(plain(b) for _, b in pairs)


def _tell_without_steps(
    equations: Sequence[Equation], final: FinalAnswer | None, reference: str | None, rng: random.Random
) -> str | None:
    """A critique from the final answer alone: each equation is checked by itself, and nothing else is claimed."""
    if not reference or final is None:
        return None
    expected = FinalAnswer.of(reference)
    if expected is None:  # an answer that is no plain number cannot be compared here
        return None
    lines: list[str] = []
    answer = str(reference).strip()
    for number, equation in enumerate(equations, 1):
        if not equation.holds:
            error = _say("arithmetic", rng, eq=equation.true_text, got=equation.shown_text)
            closing = "lucky" if final.value == expected.value else "corrected"
            return "\n".join([*lines, f"Step {number}: {error}", _say(closing, rng, answer=answer), END["wrong"]])
        lines.append(f"Step {number}: {_say('right', rng, eq=equation.text)}")
    if final.value == expected.value:
        return "\n".join([*lines, _say("confirmed", rng, answer=answer), END["right"]])
    got = _say("answer_last", rng, answer=answer, got=plain(final.value))
    hint = ["The arithmetic holds, so a step itself must be wrong."] if equations else []
    return "\n".join([*lines, f"Answer: {got}", *hint, _say("corrected", rng, answer=answer), END["wrong"]])
