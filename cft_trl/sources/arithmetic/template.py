"""A word problem as data: what numbers to draw, how to tell the story, and the steps that solve it.

A template reads like the problem it makes. In level1.yaml:

    - name: pencil_boxes
      topic: school
      numbers: boxes=2..9 each=3..9 given=2..9
      words: {item: pencil|marker}
      texts:
      - "{name} has {boxes:box} of {items} with {each:item} in each box. {He} gives away {given:item}. How many {items}
        are left?"
      steps:
      - total = boxes * each | item | in the boxes
      - left = total - given | item | left

and one draw from it has the query "Nora has 3 boxes of pencils with 8 pencils in each box. She gives away 5 pencils.
How many pencils are left?", the steps 3 × 8 = 24 and 24 - 5 = 19, and the answer 19 (pencils).

numbers   `n=2..9` a whole number, `n=0.5..4/0.5` in steps of 0.5, `n=10|20|50` one of these, `n=a*b` computed (+ - *)
words     one of the alternatives between bars
texts     `{n}` the number, `{n:box}` counted ("3 boxes"), `{n:$}` money, `{n:%}` percent, `{item}`, `{items}` its
          plural, `{name}` a person with `{he} {his} {him}`, `{name2}` another person; a capital key capitalises
steps     `result = left op right | unit | label`, an operand being a number, `rate%` (its hundredth part), a constant
          such as 60, or the result of an earlier step; the last step's result answers the question
"""

import random
import re
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import NamedTuple

from .english import is_clean, money, plural, quantity, vocabulary
from .numbers import Number, compute, exact, plain

GIVEN, CONSTANT = 0, -1  # an operand's origin: the problem's text, general knowledge, or else a step's number from 1


class Operand(NamedTuple):
    """One side of an operation: its value, where it comes from (GIVEN, CONSTANT or a step's number), its name."""

    value: Number
    origin: int
    name: str


class Step(NamedTuple):
    """One operation, `left op right = value`, whose result counts `unit`s (singular) described by `label`."""

    label: str
    left: Operand
    op: str
    right: Operand
    value: Number
    unit: str

    @property
    def equation(self) -> str:
        return f"{plain(self.left.value)} {self.op} {plain(self.right.value)} = {plain(self.value)}"

    def same_as(self, other: "Step") -> bool:
        """Whether both compute the same thing from the same numbers, in either order for + and ×."""
        if self.op != other.op or self.value != other.value:
            return False
        mine, theirs = (self.left.value, self.right.value), (other.left.value, other.right.value)
        return mine == theirs or (self.op in "+×" and mine == theirs[::-1])


@dataclass(frozen=True, slots=True)
class Problem:
    """A drawn word problem: its text, the steps that solve it in order, and the answer with its unit (singular)."""

    template: str
    topic: str
    level: int
    query: str
    steps: tuple[Step, ...]
    unit: str
    answer: Number


@dataclass(frozen=True)
class Bounds:
    """What keeps a level's arithmetic clean: the largest result and the most decimals a result may need."""

    largest: int
    decimals: int


BOUNDS = {0: Bounds(25, 0), 1: Bounds(100, 0), 2: Bounds(5_000, 0), 3: Bounds(50_000, 2)}
MAX_DRAWS = 100
SLOT = re.compile(r"\{(\w+)(?::([^{}]+))?\}")
_PLAIN = r"\d+(?:\.\d+)?"
_STEP = re.compile(r"(\w+) = ([\w.%]+) ([-+*/]) ([\w.%]+) \| ([^|]+) \| ([^|]+)")
_SIGNS = {"+": "+", "-": "-", "*": "×", "/": "÷"}


@dataclass(frozen=True)
class Template:
    """See the module's docstring for the notation; `draw` makes problems of it."""

    level: int
    name: str
    topic: str
    numbers: str
    texts: tuple[str, ...]
    steps: tuple[str, ...]
    words: dict[str, str] = field(default_factory=dict)

    def draw(self, rng: random.Random) -> Problem | None:
        """One problem with fresh numbers, names and phrasing; None where no draw of numbers is clean."""
        words = {key: rng.choice(choices) for key, choices in self.choices.items()}
        for _ in range(MAX_DRAWS):  # a template that seldom draws clean numbers is still used as often as the others
            numbers = self._draw_numbers(rng)
            steps = self._solve(numbers, words)
            if steps is not None:
                break
        else:
            return None
        text = rng.choice(self.texts)
        query = fill(text, numbers, {**words, **_people(rng)})
        return Problem(self.name, self.topic, self.level, query, steps, steps[-1].unit, steps[-1].value)

    @cached_property
    def choices(self) -> dict[str, list[str]]:
        return {key: choices.split("|") for key, choices in self.words.items()}

    @cached_property
    def draws(self) -> list[tuple]:
        return [_parse_number(entry) for entry in self.numbers.split()]

    @cached_property
    def plan(self) -> list[tuple[str, ...]]:
        return [_parse_step(text) for text in self.steps]

    def _draw_numbers(self, rng: random.Random) -> dict[str, Number]:
        numbers: dict[str, Number] = {}
        for name, choices, expression in self.draws:
            if choices is not None:
                numbers[name] = rng.choice(choices)
            else:
                left, op, right = expression
                value = compute(numbers[left], op, int(right) if right.isdigit() else numbers[right])
                assert value is not None  # the notation of numbers has no division
                numbers[name] = value
        return numbers

    def _solve(self, numbers: dict[str, Number], words: dict[str, str]) -> tuple[Step, ...] | None:
        bounds = BOUNDS[self.level]
        solved: list[Step] = []
        found: dict[str, Operand] = {}
        if any(value > bounds.largest or (value <= 1 and isinstance(value, int)) for value in numbers.values()):
            return None
        for number, (name, left, op, right, unit, label) in enumerate(self.plan, 1):
            operands = [_operand(token, numbers, found) for token in (left, right)]
            value = compute(operands[0].value, op, operands[1].value)
            unit = words.get(unit, unit)
            if value is None or value <= 0 or value == 1 or value > bounds.largest:
                return None
            if not (isinstance(value, int) or is_clean(value, unit, bounds.decimals)):
                return None
            found[name] = Operand(value, number, name)
            step = Step(label, operands[0], op, operands[1], value, unit)
            if any(step.same_as(earlier) for earlier in solved):
                return None  # two equal lines would make "the first wrong step" ambiguous
            solved.append(step)
        return tuple(step._replace(label=fill(step.label, numbers, words)) for step in solved)


def fill(text: str, numbers: dict[str, Number], words: dict[str, str]) -> str:
    """Fills the slots of a text; the notation is in the module's docstring.

    Args:
        text: The text with its slots.
        numbers: Their values, by name.
        words: What they count, by name.

    >>> fill("{Items}: {n:item} at {price:$}", {"n": 3, "price": Fraction(5, 2)}, {"item": "box"})
    'Boxes: 3 boxes at $2.50'
    """

    def slot(match: re.Match) -> str:
        key, form = match.groups()
        if form == "$":
            return money(numbers[key])
        if form == "%":
            return f"{plain(numbers[key])}%"
        if form:
            return quantity(numbers[key], words.get(form, form))
        if key in numbers:
            return plain(numbers[key])
        lower = key[0].lower() + key[1:]
        word = words[lower] if lower in words else plural(words[lower[:-1]])
        return word if lower == key else word[0].upper() + word[1:]

    return SLOT.sub(slot, text)


def _people(rng: random.Random) -> dict[str, str]:
    people = vocabulary().people
    name, he, his, him = rng.choice(people)
    other = rng.choice(people)[0]
    while other == name:
        other = rng.choice(people)[0]
    return {"name": name, "he": he, "his": his, "him": him, "name2": other}


def _parse_number(entry: str) -> tuple:
    """`n=2..9` -> (name, the values to choose from, None), `n=a*b` -> (name, None, (left, op, right))."""
    name, _, spec = entry.partition("=")
    if computed := re.fullmatch(r"(\w+)([-+*])(\w+)", spec):
        left, op, right = computed.groups()
        return name, None, (left, _SIGNS[op], right)
    if re.fullmatch(rf"{_PLAIN}(\|{_PLAIN})+", spec):
        return name, [exact(value) for value in spec.split("|")], None
    spread = re.fullmatch(rf"({_PLAIN})\.\.({_PLAIN})(?:/(?=.*[1-9])({_PLAIN}))?", spec)
    if not spread or not name:
        raise ValueError(f"number '{entry}' is not like n=2..9, n=0.5..4/0.5, n=10|20 or n=a*b")
    low, high, step = (Fraction(value or 1) for value in spread.groups())
    return name, [exact(low + step * place) for place in range(int((high - low) / step) + 1)], None


def _parse_step(text: str) -> tuple[str, ...]:
    parts = _STEP.fullmatch(text)
    if not parts:
        raise ValueError(f"step '{text}' is not like 'total = boxes * each | item | in the boxes'")
    name, left, op, right, unit, label = parts.groups()
    return name, left, _SIGNS[op], right, unit, label


def _operand(token: str, numbers: dict[str, Number], found: dict[str, Operand]) -> Operand:
    if token in found:
        return found[token]
    if token in numbers:
        return Operand(numbers[token], GIVEN, token)
    if token.endswith("%"):
        return Operand(exact(Fraction(numbers[token[:-1]], 100)), GIVEN, token)
    return Operand(exact(token), CONSTANT, token)
