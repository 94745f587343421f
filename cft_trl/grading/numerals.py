r"""Numbers that are written out: digits, fractions, mixed and repeating numbers, powers of ten, and number words.

to_number(r"1\frac{4}{5}").value           # Fraction(9, 5)
to_number(r"0.\overline{3}").value         # Fraction(1, 3)
number_words("twenty-five")                # 25
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

from cft_trl.grading.structure import words

_SIGN = r"(?P<sign>[-+]?)\s*"
_DECIMAL = r"(?:\d+\.?\d*|\.\d+)"
_PLAIN = re.compile(
    rf"{_SIGN}(?P<mantissa>{_DECIMAL})(?:[eE](?P<e>[-+]?\d{{1,5}}))?"
    r"(?:\s*(?:\\times|\\cdot|\*)\s*10\s*\^\s*(?:\{\s*(?P<ten>[-+]?\s*\d{1,5})\s*\}|(?P<digit>-?\d{1,4})))?"
)
_POWER_OF_TEN = re.compile(rf"{_SIGN}10\s*\^\s*(?:\{{\s*(?P<ten>[-+]?\s*\d{{1,5}})\s*\}}|(?P<digit>-?\d{{1,4}}))")
_FRACTION = re.compile(
    rf"{_SIGN}(?P<whole>\d{{1,30}}(?=\s*\\frac|\s+\d+\s*/))?\s*(?:\\frac\s*\{{\s*(?P<minus>-?)\s*(?P<n>{_DECIMAL})\s*\}}"
    rf"\s*\{{\s*(?P<d>{_DECIMAL})\s*\}}|(?P<n2>{_DECIMAL})\s*/\s*(?P<d2>{_DECIMAL}))"
)
_REPEATING = re.compile(
    rf"{_SIGN}(?P<whole>\d{{0,30}})\.(?P<once>\d{{0,30}}?)\s*(?:\\(?:overline|bar|dot)\s*\{{?\s*(?P<again>\d{{1,30}})\s*\}}?"
    r"|\(\s*(?P<round>\d{1,30})\s*\)|(?P<block>\d{1,15}?)(?P=block)+\s*\\dots)"
)
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")
_SPACED = re.compile(r"(?<![\d.,] )(?<![\d.,])\d{1,3}(?: \d{3})+(?!\d| \d|,\d| ?/)")
_POINTED = re.compile(r"[-+]?\d{1,3}(?:\.\d{3}){2,}")
_MAX_DIGITS = 4000


class Number(NamedTuple):
    """An exact value and, for a decimal, the exponent of its last digit and how many significant digits it has."""

    value: Fraction
    last_digit: int | None = None
    digits: int = 0


def to_number(text: str) -> Number | None:
    r"""The number that a cleaned answer writes out, or `None` when it is anything else.

    Integers, decimals, repeating decimals, powers of ten, fractions and mixed numbers; a comma is never read here.

    Example:
        >>> to_number(r"1\frac{4}{5}").value, to_number("4.5e3").value, to_number(r"0.333\dots").value
        (Fraction(9, 5), Fraction(4500, 1), Fraction(1, 3))
        >>> to_number("0.250")
        Number(value=Fraction(1, 4), last_digit=-3, digits=3)
    """
    text = text.strip()
    if len(text) > _MAX_DIGITS or not re.search(r"\d", text):
        return None
    if match := _FRACTION.fullmatch(text):
        return _fraction(match)
    if match := _REPEATING.fullmatch(text):
        return _repeating(match)
    if _POINTED.fullmatch(text):
        return Number(Fraction(text.replace(".", "")))
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


def _fraction(match: re.Match[str]) -> Number | None:
    below = Fraction(match["d"] or match["d2"])
    if below == 0 or (match["whole"] and match["minus"]):
        return None
    value = Fraction(match["n"] or match["n2"]) / below + int(match["whole"] or 0)
    return Number(-value if (match["sign"] == "-") != (match["minus"] == "-") else value)


def _repeating(match: re.Match[str]) -> Number | None:
    whole, once = match["whole"], match["once"]
    again = match["again"] or match["round"] or match["block"]
    if match["block"]:
        # 0.333... and 0.1212... repeat; 0.33... and 0.11235... are cut off, and who knows where they go.
        repeated = match[0].rstrip("dots\\ ").partition(".")[2][len(once) :]
        if len(repeated) < 3 or (len(once) > 3 and len(again) == 1 and len(repeated) < 4):
            return None
    value = int((whole + once) or "0") + Fraction(int(again), 10 ** len(again) - 1)
    return Number((-1 if match["sign"] == "-" else 1) * value / 10 ** len(once))


def without_thousands(answer: str) -> str:
    """The answer with "1,234,567" and "10 000" read as one number."""
    answer = _THOUSANDS.sub(lambda match: match[0].replace(",", ""), answer)
    return _SPACED.sub(lambda match: match[0].replace(" ", ""), answer)


# ---- words -----------------------------------------------------------------------------------------------------------

_SMALL = {
    word: value
    for value, word in enumerate(
        words(
            "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
            "sixteen seventeen eighteen nineteen"
        )
    )
}
_TENS = {word: 10 * (at + 2) for at, word in enumerate(words("twenty thirty forty fifty sixty seventy eighty ninety"))}
_LARGE = {
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
    "quadrillion": 10**15,
    "quintillion": 10**18,
}
_PARTS = {
    "half": 2, "halve": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8,
    "ninth": 9, "tenth": 10, "eleventh": 11, "twelfth": 12, "sixteenth": 16, "twentieth": 20, "hundredth": 100,
    "thousandth": 1000, "millionth": 10**6,
}  # fmt: skip
# What a word after a number makes of it: 3 million, 9 tenths, 3 dozen.
MAGNITUDES: dict[str, Fraction] = {
    **{
        word: Fraction(value)
        for word, value in {"ten": 10, "hundred": 100, **_LARGE, "dozen": 12, "score": 20, "gross": 144}.items()
    },
    **{word: Fraction(1, value) for word, value in _PARTS.items()},
    **{"halves": Fraction(1, 2)},
}


def number_words(text: str) -> Fraction | None:
    """The number that words say, or `None` where a word is none of them.

    Example:
        >>> number_words("Twenty-five"), number_words("two hundred and six"), number_words("one half")
        (Fraction(25, 1), Fraction(206, 1), Fraction(1, 2))
        >>> number_words("third") is None, number_words("one two") is None
        (True, True)
    """
    words = re.findall(r"[a-z]+", text.lower())
    if not 0 < len(words) <= 12 or re.search(r"[^A-Za-z\s,-]", text):
        return None
    if words in (["half"], ["a", "half"], ["one", "half"]):
        return Fraction(1, 2)
    sign = 1
    if words[0] in ("negative", "minus"):
        sign, words = -1, words[1:]
    if len(words) > 1 and (part := _PARTS.get(words[-1].removesuffix("s"), 2 if words[-1] == "halves" else None)):
        top = Fraction(1) if words[:-1] in (["a"], ["an"]) else number_words(" ".join(words[:-1]))
        return None if top is None else sign * top / part
    value = _cardinal(words)
    return None if value is None else Fraction(sign * value)


def _cardinal(words: list[str]) -> int | None:
    total, group, room = 0, 0, 10**21
    unit_room = 100  # what a further small number must stay under
    for place, word in enumerate(words):
        if word == "and" and 0 < place < len(words) - 1:
            continue
        if word in ("a", "an") and place == 0 and len(words) > 1:
            group, unit_room = 1, 0
        elif word in _TENS and unit_room >= 100:
            group, unit_room = group + _TENS[word], 10
        elif word in _SMALL and _SMALL[word] < unit_room and (_SMALL[word] or len(words) == 1):
            group, unit_room = group + _SMALL[word], 0
        elif word == "hundred" and 0 < group < 100 and unit_room != 100:
            group, unit_room = 100 * group, 100
        elif word in _LARGE and group > 0 and _LARGE[word] < room:
            total, room, group, unit_room = total + group * _LARGE[word], _LARGE[word], 0, 100
        else:
            return None
    return total + group if words else None
