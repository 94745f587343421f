r"""What the `paper` grader reads and how it writes it: kept as it was when its figures were measured.

Nothing here follows changes of the strict grader (`answers.py`, `notation.py`, `numerals.py`): the published leniency
is a fixed thing to compare with.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

# ---- extraction ------------------------------------------------------------------------------------------------------

_BRACES = re.compile(r"(\\(?:boxed|fbox)\s*\{)|(\\.)|([{}])", re.DOTALL)
_BETWEEN_BOXES = re.compile(r"[\s$]*(?:\\text\s*\{\s*and\s*\}|and|,|,\s*and)[\s$]*")
_ANNOUNCED = re.compile(
    r"\banswers?\b(?:\s+(?:to|for|of)\s[^.:\n]{0,80}?)?[*_]{0,3}\s*(?:\b(?:is|are)\b|:|=)[:=\s*_]{0,8}(?=\S)",
    re.IGNORECASE,
)
_MATHS = re.compile(r"\$\$(.+?)\$\$|\$([^$]+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_SENTENCE_END = re.compile(r"\.(?=\s|$)|[!?;](?=\s|$)")
_HASHES = re.compile(r"^####[ \t]*(\S[^\n]*)", re.MULTILINE)
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?|-?\.\d+")
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")
_MAX_BARE = 200


def published_answer(text: str | None) -> str | None:
    r"""The final answer in a generation: the last box, "####", "answer is", a bare answer, or the last number.

    Example:
        >>> published_answer("There were 12 ducks, and later I saw 5 more of them.")
        '5'
    """
    if not text or not text.strip():
        return None
    found = _boxed(text)
    if found is None and (lines := _HASHES.findall(text)):
        found = lines[-1]
    if found is None:
        found = _announced(text)
    if found is None:
        bare = text.strip()
        if "\n" not in bare and len(bare) <= _MAX_BARE and len(_WORD.findall(bare)) <= 4:
            found = bare
    if found is None and (numbers := _NUMBER.findall(text)):
        found = numbers[-1].rstrip(",")
    return (found.strip() or None) if found is not None else None


def _boxed(text: str) -> str | None:
    """The content of the last complete box, joined with those it is coordinated with; one pass over the text."""
    stack: list[tuple[bool, int, int]] = []
    boxes: list[tuple[int, int, int]] = []  # start, where the content starts, where it ends
    for match in _BRACES.finditer(text):
        if match[1]:
            stack.append((True, match.start(), match.end()))
        elif match[3] == "{":
            stack.append((False, match.start(), match.end()))
        elif match[3] == "}" and stack:
            is_box, start, inner = stack.pop()
            if is_box:
                # A box inside this one closed before it; the outer one is the answer.
                while boxes and boxes[-1][0] > start:
                    boxes.pop()
                boxes.append((start, inner, match.start()))
    if not boxes:
        return None
    start, inner, end = boxes.pop()
    parts = [text[inner:end]]
    while boxes and start - boxes[-1][2] < 60 and _BETWEEN_BOXES.fullmatch(text, boxes[-1][2] + 1, start):
        start, inner, end = boxes.pop()
        parts.append(text[inner:end])
    return ", ".join(reversed(parts))


def _announced(text: str) -> str | None:
    announcements = list(_ANNOUNCED.finditer(text))
    if not announcements:
        return None
    last = announcements[-1]
    if maths := _MATHS.match(text, last.end()):
        return next(group for group in maths.groups() if group)
    rest = text[last.end() : last.end() + _MAX_BARE + 1].partition("\n")[0]
    if stop := _SENTENCE_END.search(rest):
        rest = rest[: stop.start()]
    rest = rest.strip().strip("*_`").strip()
    return rest if rest and len(rest) <= _MAX_BARE else None


# ---- one way of writing ----------------------------------------------------------------------------------------------

_CHARACTERS = str.maketrans(
    {
        "−": "-",
        "–": "-",
        "×": r"\times ",
        "·": r"\cdot ",
        "÷": "/",
        "π": r"\pi ",
        "°": r"^\circ",
        "∞": r"\infty ",
        "≤": r"\le ",
        "≥": r"\ge ",
        "≠": r"\ne ",
        "±": r"\pm ",
        "\u222a": r"\cup ",
        "∈": r"\in ",
        "∅": r"\emptyset ",
        "\uff0c": ",",
        "\u00a0": " ",
        "\u202f": " ",
    }
)
_REWRITES: list[tuple[re.Pattern[str], str]] = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"√\s?(\d+|\w)", r"\\sqrt{\1}"),
        (r"(?<=\d)(?:\{,\}|,\s?\\!)\s*(?=\d{3}(?!\d))", ""),  # 12{,}000 and 12,\!000: the comma is no list
        (r"\\(?:left|right|[bB]igg?[lrm]?)(?![A-Za-z])\s*\.?(?=\s*[()\[\]\\|{}.]|\s*$)", ""),
        (r"\\(?:displaystyle|textstyle|limits|mathstrut)(?![A-Za-z])", " "),
        (r"(?<!\\)\\!", ""),
        (r"(?<!\\)\\[,;: >]|~|\\q?quad(?![A-Za-z])", " "),
        (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
        (r"\\(?:mbox|hbox|textbf|textrm|textit|textnormal|mathrm|mathbf|mathit|rm)\s*(?=\{)", r"\\text"),
        (r"\\text\s+\{", r"\\text{"),
        (r"\\(?:leqslant|leq|leqq)(?![A-Za-z])", r"\\le"),
        (r"\\(?:geqslant|geq|geqq)(?![A-Za-z])", r"\\ge"),
        (r"\\neq(?![A-Za-z])", r"\\ne"),
        (r"\\(?:varnothing|empty)(?![A-Za-z])|\\\{\s*\\\}", r"\\emptyset"),
        (r"\\lbrace(?![A-Za-z])", r"\\{"),
        (r"\\rbrace(?![A-Za-z])", r"\\}"),
        (r"\\degree(?:s)?(?![A-Za-z])|\^\s*\{\s*\\circ\s*\}|\^\s*\\circ(?![A-Za-z])", r"^\\circ"),
        (r"\\text\{\s*(?:and|or)\s*\}|,?\s*\\text\{\s*,?\s*(?:and|or)\s*\}", ","),
        (r",?\s+(?:and|or)\s+(?=[-\d.(\\\[A-Za-z])", ", "),
        (r"(?<![A-Za-z\\])(?:infinity|oo)(?![A-Za-z])", r"\\infty"),
        (r"\+\s*\\infty", r"\\infty"),
        (r"(?<![A-Za-z\\])(?:np|math)\.(?=[a-z])", r"\\"),
        (r"\\frac\s*(\d)\s*(\d)(?!\d)", r"\\frac{\1}{\2}"),
        (r"\\frac\s*(\d)\s*\{", r"\\frac{\1}{"),
        (r"(\\frac\s*\{[^{}]{1,40}\})\s*(\d)", r"\1{\2}"),
        (r"\\frac\s+\{", r"\\frac{"),
        (r"\\sqrt\s*(\d)", r"\\sqrt{\1}"),
        (r"\s+", " "),
    )
]


def clean(answer: str) -> str:
    r"""The answer in one way of writing; its meaning is kept.

    Example:
        >>> clean(r"$\left( \dfrac 12,\, 12{,}000 \right]$.")
        '( \\frac{1}{2}, 12000 ]'
    """
    answer = answer.strip().rstrip(".,;:").strip("*` ")
    for opening, closing in (("\\(", "\\)"), ("\\[", "\\]")):
        if answer.startswith(opening) and answer.endswith(closing):
            answer = answer[2:-2]
    answer = re.sub(r"(?<!\\)\$", "", answer).translate(_CHARACTERS)
    for pattern, replacement in _REWRITES:
        answer = pattern.sub(replacement, answer)
    return re.sub(r"^[\s.,;:]*(?<![.])|[\s,;:]+$|(?<=[^.])\.$", "", answer.strip()).strip()


def squash(answer: str) -> str:
    """The answer without whitespace."""
    return re.sub(r"\s+", "", answer)


def text_key(answer: str) -> str:
    r"""What two spellings of a text answer share: letters folded, \text{} opened, spaces and full stops left out.

    Example:
        >>> text_key(r"4:30 \text{ p.m.}") == text_key("4:30 PM")
        True
    """
    opened = re.sub(r"\\text\{([^{}]*)\}", r"\1", answer)
    return re.sub(r"\.(?!\d)|[\s'\"!*]|\\", "", opened).casefold()


# ---- numbers ---------------------------------------------------------------------------------------------------------

_SIGN = r"(?P<sign>[-+]?)\s*"
_DECIMAL = r"(?:\d+\.?\d*|\.\d+)"
_PLAIN = re.compile(
    rf"{_SIGN}(?P<mantissa>{_DECIMAL})(?:[eE](?P<e>[-+]?\d{{1,5}}))?"
    r"(?:\s*(?:\\times|\\cdot|\*)\s*10\s*\^\s*(?:\{\s*(?P<ten>[-+]?\s*\d{1,5})\s*\}|(?P<digit>-?\d)))?"
)
_POWER_OF_TEN = re.compile(rf"{_SIGN}10\s*\^\s*(?:\{{\s*(?P<ten>[-+]?\s*\d{{1,5}})\s*\}}|(?P<digit>-?\d))")
_FRACTION = re.compile(
    rf"{_SIGN}(?P<whole>\d{{1,30}}(?=\s*\\frac|\s+\d+\s*/))?\s*(?:\\frac\s*\{{\s*(?P<minus>-?)\s*(?P<n>{_DECIMAL})\s*\}}"
    rf"\s*\{{\s*(?P<d>{_DECIMAL})\s*\}}|(?P<n2>{_DECIMAL})\s*/\s*(?P<d2>{_DECIMAL}))"
)
_REPEATING = re.compile(
    rf"{_SIGN}(?P<whole>\d{{0,30}})\.(?P<once>\d{{0,30}})\s*\\overline\s*\{{\s*(?P<again>\d{{1,30}})\s*\}}"
)
_MAX_DIGITS = 4000


class Number(NamedTuple):
    """An exact value and, for a decimal, the exponent of its last digit and how many significant digits it has."""

    value: Fraction
    last_digit: int | None = None
    digits: int = 0


def to_number(text: str) -> Number | None:
    r"""The number that a cleaned answer writes out, or `None` when it is anything else.

    Integers, decimals, powers of ten, fractions and mixed numbers; a comma is never read here.

    Example:
        >>> to_number(r"1\frac{4}{5}").value, to_number("4.5e3").value, to_number(r"-\frac{1}{2}").value
        (Fraction(9, 5), Fraction(4500, 1), Fraction(-1, 2))
        >>> to_number("0.250")
        Number(value=Fraction(1, 4), last_digit=-3, digits=3)
    """
    text = text.strip()
    if len(text) > _MAX_DIGITS:
        return None
    if match := _FRACTION.fullmatch(text):
        below = Fraction(match["d"] or match["d2"])
        if below == 0:
            return None
        value = Fraction(match["n"] or match["n2"]) / below
        if match["whole"]:
            if match["minus"]:
                return None
            value += int(match["whole"])
        return Number(-value if (match["sign"] == "-") != (match["minus"] == "-") else value)
    if match := _REPEATING.fullmatch(text):
        whole, once, again = match["whole"], match["once"], match["again"]
        value = int((whole + once) or "0") + Fraction(int(again), 10 ** len(again) - 1)
        return Number((-1 if match["sign"] == "-" else 1) * value / 10 ** len(once))
    match = _PLAIN.fullmatch(text) or _POWER_OF_TEN.fullmatch(text)
    if not match:
        return None
    groups = match.groupdict()
    mantissa = groups.get("mantissa") or "1"
    shift = int(groups.get("e") or 0) + int((groups["ten"] or groups["digit"] or "0").replace(" ", ""))
    value = Fraction(mantissa) * Fraction(10) ** shift
    value = -value if match["sign"] == "-" else value
    if "." not in mantissa and not shift:
        return Number(value)
    last = shift - len(mantissa.partition(".")[2])
    return Number(value, last, len(mantissa.replace(".", "").lstrip("0")))


_SEPARATORS = re.compile(r"\\[{}]|\\[A-Za-z]+|\\.|[()\[\]{},;]", re.DOTALL)


def split_top(text: str, separator: str = ",") -> list[str]:
    r"""Splits at separators that stand in no bracket; ";" counts as a comma.

    Example:
        >>> split_top(r"(1, 2), \frac{a, b}{c}; 3")
        ['(1, 2)', '\\frac{a, b}{c}', '3']
    """
    parts, depth, start = [], 0, 0
    for match in _SEPARATORS.finditer(text):
        mark = match[0]
        depth += mark in ("(", "[", "{", r"\{")
        depth -= mark in (")", "]", "}", r"\}")
        if depth == 0 and (mark == separator or (mark == ";" and separator == ",")):
            parts.append(text[start : match.start()].strip())
            start = match.end()
    return [*parts, text[start:].strip()]
