"""Reads the arithmetic out of a solution's text: its equations, in order, and its final answer.

    >>> [equation.text for equation in read_equations("Step 1: 3 × 8 = 24 pencils.\\nThen 24 - 5 = 18 left.")]
    ['3 × 8 = 24', '24 - 5 = 18']
    >>> final_answer("... so the answer is \\\\boxed{18} pencils.").value
    18

An equation is an arithmetic expression of plain numbers, `=` (or `≈`) and a number; `$`, thousands commas and the usual
spellings of × and ÷ are understood. Anything else (letters, powers, words between the numbers) is no equation here.
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, lru_cache

from cft_trl.sources.arithmetic.english import plural, vocabulary
from cft_trl.sources.arithmetic.numbers import Number, compute, decimals, exact, plain

_NUMBER = r"\d+(?:,\d{3})*(?:\.\d+)?"
PLAIN_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_SPELLINGS = (
    (re.compile(r"\\times|\\cdot|[*·∙✕]|(?<=[\d)]) ?[xX] ?(?=[\d($])"), " × "),
    (re.compile(r"\\div|(?<=[\d)]) ?/ ?(?=[\d($])"), " ÷ "),
    (re.compile(r"[−–]"), "-"),
    (re.compile(r"\\?\$|\\[()\[\],]|(?<=\d),(?=\d{3}(?!\d))"), ""),
)
_ODD = re.compile(r"[\\*·∙✕xX/−–$,]")
# The result is only looked at, not consumed, so that "3 × 8 = 24 - 5 = 19" gives both equations. No percentages.
_EQUATION = re.compile(
    rf"(?<![\d.\w])(\(*-?{_NUMBER}[)\s]*(?:[-+×÷]\s*\(*\s*{_NUMBER}[)\s]*)+)[=≈]\s*(?=(-?{_NUMBER})(?![\d%]|\s%|\.\d))"
)
_GOES_ON = re.compile(r"\s*[-+×÷]\s*\(*\d")
_OPERATORS = ("+", "-", "×", "÷", "^", "%")
_BULLETS = ("-", "×", "+")  # a line's "*" has become × by then
_TOKEN = re.compile(rf"{_NUMBER}|[-+×÷()]")
_BOXED = re.compile(r"\\boxed\{\s*(?:\\text\{)?\s*\\?\$?\s*(-?[\d,]+(?:\.\d+)?(?:/\d+)?)")
_ANSWER = re.compile(r"(?:answer(?: is)?:?|####)\s*\**\s*\\?\$?(-?\d[\d,]*(?:\.\d+)?(?:/\d+)?)", re.IGNORECASE)
_ANY_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:/\d+)?")


@dataclass(frozen=True, slots=True)
class Equation:
    """`left op right = shown` as a solution has it, with its true value.

    `op` is None for an expression of more than one operation. `unit` is the unit of measure that the text gives the
    result, as it stands there, or "" where it gives none that we know. `line` is the whole line in lower case.
    """

    expression: str
    operands: tuple[Number, ...]
    op: str | None
    value: Number
    shown: Number
    unit: str
    line: str

    @property
    def shown_text(self) -> str:
        return plain(self.shown)

    @property
    def text(self) -> str:
        return f"{self.expression} = {plain(self.shown)}"

    @property
    def true_text(self) -> str:
        if decimals(self.value) is None:
            return f"{self.expression} = {self.value.numerator}/{self.value.denominator}"
        return f"{self.expression} = {plain(self.value)}"

    @property
    def holds(self) -> bool:
        """Whether the equation is true, a long decimal being allowed to be rounded or cut to two places or more."""
        if self.shown == self.value:
            return True
        places, needed = decimals(self.shown), decimals(self.value)
        if places is None or places < 2:
            return False
        return (needed is None or needed > places) and abs(Fraction(self.shown) - self.value) < Fraction(1, 10**places)


@dataclass(frozen=True, slots=True)
class FinalAnswer:
    """The number that a solution gives as its answer, and the known unit of measure after it ("" where none)."""

    value: Number
    unit: str = ""

    @staticmethod
    def of(text: object) -> "FinalAnswer | None":
        """Reads an answer such as `19`, `$1,250.50` or `3/4`; None where it is no plain number."""
        digits = str(text).strip().lstrip("$").replace(",", "")
        if not re.fullmatch(r"-?\d+(\.\d+)?(/[1-9]\d*)?", digits):
            return None
        numerator, _, denominator = digits.partition("/")
        return FinalAnswer(exact(Fraction(numerator) / int(denominator or 1)))


@cache
def _unit_words() -> tuple[dict[str, str], re.Pattern, re.Pattern]:
    """Each form of a known unit -> the unit; what finds one after a number, and before a line's colon."""
    units = {form: unit for unit in vocabulary().confused_units for form in (unit, plural(unit))}
    unit = "|".join(sorted(units, key=len, reverse=True))
    after = re.compile(rf"[}}\s]*({unit})\b", re.IGNORECASE)
    return units, after, re.compile(rf"(?:\W*(?:step )?\d*\W*)({unit})\b[^:=]*:", re.IGNORECASE)


def read_equations(text: str) -> list[Equation]:
    """Every equation of the text, in order; a division by zero or a part of a longer expression is none."""
    found = []
    for line in text.splitlines():
        if "=" not in line and "≈" not in line:
            continue
        if _ODD.search(line):
            for pattern, spelling in _SPELLINGS:
                line = pattern.sub(spelling, line)
        for match in _EQUATION.finditer(line):
            equation = _read_equation(match, line)
            if equation is not None:
                found.append(equation)
    return found


def _read_equation(match: re.Match, line: str) -> Equation | None:
    before = line[: match.start()].strip()
    if before[-1:] in _OPERATORS and before not in _BULLETS:  # "x + 3 × 8 = 24" says nothing about 3 × 8
        return None
    tokens: list[str] = _TOKEN.findall(match.group(1))
    operands: tuple[Number, ...]
    op: str | None
    if len(tokens) == 3:
        operands, op = (exact(tokens[0]), exact(tokens[2])), tokens[1]
        value = compute(operands[0], op, operands[1])
    else:
        operands, op = tuple(exact(token) for token in tokens if token[0].isdigit()), None
        value = _evaluate(tokens)
    shown = exact(match.group(2))
    if value is None or (
        shown != value and _GOES_ON.match(line, match.end(2))
    ):  # "6 + 6 = 3 × 4" does not say 6 + 6 = 3
        return None
    _, after, ahead = _unit_words()
    unit = after.match(line, match.end(2)) or ahead.match(line)
    return Equation(
        expression=" ".join(tokens).replace("( ", "(").replace(" )", ")"),
        operands=operands,
        op=op,
        value=value,
        shown=shown,
        unit=unit.group(1).lower() if unit else "",
        line=line.lower(),
    )


def final_answer(text: str) -> FinalAnswer | None:
    """The answer a solution ends with: the last boxed one, else the last "answer is" one, else the last number."""
    for pattern in (_BOXED, _ANSWER, _ANY_NUMBER):
        matches = list(pattern.finditer(text))
        answer = FinalAnswer.of(matches[-1].group(matches[-1].lastindex or 0).rstrip(",")) if matches else None
        if answer is not None:
            unit = _unit_words()[1].match(text, matches[-1].end())
            return FinalAnswer(answer.value, unit.group(1).lower() if unit else "")
    return None


@lru_cache(maxsize=1024)
def units_clash(written: str, meant: str) -> bool:
    """Whether a solution's unit is another one than the reference's; a unit that either lacks does not clash."""
    return bool(written) and meant in vocabulary().confused_units and _unit_words()[0][written] != meant


def _evaluate(tokens: list[str]) -> Number | None:
    """The exact value of an expression, × and ÷ before + and -; None where it is malformed or divides by zero."""
    rest = list(tokens)

    def factor() -> Number:
        token = rest.pop(0)
        if token == "-":
            return -factor()
        if token == "(":
            value = total()
            if rest.pop(0) != ")":
                raise ValueError("unbalanced")
            return value
        return exact(token)

    def product() -> Number:
        value = factor()
        while rest and rest[0] in "×÷":
            value = _known(compute(value, rest.pop(0), factor()))
        return value

    def total() -> Number:
        value = product()
        while rest and rest[0] in "+-":
            value = _known(compute(value, rest.pop(0), product()))
        return value

    try:
        value = total()
    except (ValueError, IndexError):
        return None
    return None if rest else value


def _known(value: Number | None) -> Number:
    if value is None:
        raise ValueError("division by zero")
    return value
