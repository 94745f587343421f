r"""Finding the final answer in a generation, and writing answers in one way before they are compared.

    "The triangle has area $\boxed{\dfrac{3}{4}\text{ cm}^2}$."

gives the answer `\dfrac{3}{4}\text{ cm}^2`; cleaned, it is `\frac{3}{4}\text{ cm}^2`; split, the core `\frac{3}{4}` and
the unit `cm2`. Nothing here decides whether two answers are equal (`comparison.py`), every pattern runs in time linear
in the text, and nothing is parsed as mathematics.
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


def extract_answer(text: str | None, *, last_number: bool = False) -> str | None:
    r"""The final answer that a generation announces.

    In this order: the last complete \boxed{} or \fbox{} (boxes joined by "and" or a comma count as one answer); the
    line after "####"; what follows the last "answer is" or "answer:"; a text that is itself no more than an answer.
    A number that merely stands somewhere in the prose is no answer: taking it would accept by accident.

    Args:
        text: A generation, or a bare answer; of any length.
        last_number: Take the last number when nothing else is found. The published grader does; `strict` does not.

    Returns:
        The answer as it is written, or `None`.

    Example:
        >>> extract_answer(r"So $x = 3$, that is $\boxed{x = 3}$.")
        'x = 3'
        >>> extract_answer("She makes 9 * 2 = 18 dollars.\n#### 18")
        '18'
        >>> extract_answer(r"The answer is $\frac{1}{2}$. I hope it is correct.")
        '\\frac{1}{2}'
        >>> extract_answer("There were 12 ducks, and later I saw 5 more of them.") is None
        True
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
    if found is None and last_number and (numbers := _NUMBER.findall(text)):
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


# ---- units -----------------------------------------------------------------------------------------------------------

_SPELLINGS = {
    "cm": "cm centimeter centimetre", "m": "m meter metre", "km": "km kilometer kilometre", "mm": "mm millimeter",
    "in": "in inch inche", "ft": "ft foot feet", "yd": "yd yard", "mi": "mi mile", "g": "g gm gram",
    "kg": "kg kilogram", "mg": "mg milligram", "lb": "lb pound", "oz": "oz ounce", "s": "s sec second",
    "min": "min minute",
    "h": "h hr hour", "day": "day", "week": "week", "month": "month", "year": "year yr", "l": "l liter litre",
    "ml": "ml milliliter", "gal": "gal gallon", "mph": "mph", "kmh": "kmh kph km/h", "deg": "deg degree",
    "rad": "rad radian", "dollar": "dollar usd buck", "cent": "cent", "euro": "euro", "am": "am a.m", "pm": "pm p.m",
    "hz": "hz hertz", "n": "newton", "j": "j joule", "kj": "kj kilojoule", "w": "watt", "kw": "kw kilowatt",
    "v": "volt",
    "pa": "pa pascal", "k": "kelvin", "mol": "mol mole", "ev": "ev", "acre": "acre", "percent": "percent pct",
    "°c": "celsius", "°f": "fahrenheit", "cm2": "sqcm", "m2": "sqm", "ft2": "sqft", "unit": "unit", "erg": "erg",
}  # fmt: skip
_UNITS = {word: unit for unit, words in _SPELLINGS.items() for word in words.split()}
_POWERS = {"square": "2", "sq": "2", "cubic": "3", "cu": "3", "squared": "2", "cubed": "3"}
# Words that stand in formulas: "2 sin x" is no number of sins.
_IN_FORMULAS = re.compile(
    r"(?:arc)?(?:sin|cos|tan|cot|sec|csc)h?|log|ln|exp|sqrt|pi|and|or|mod|gcd|lcm|max|min|infty?|frac|alpha|beta|gamma|theta"
    r"|omega|lambda|floor|ceil|abs|cup|cap|text|if|for|where|otherwise|base"
)
_FUNCTION = re.compile(r"\\(?:arc)?(?:sin|cos|tan|cot|sec|csc)")
_TEXT_AFTER = re.compile(r"^(.*\S)\s*\\text\{([^{}]*)\}\s*(?:\^\s*\{?\s*([23])\s*\}?)?$", re.DOTALL)
_WORDS_AFTER = re.compile(
    r"^(.*[\d})])(\s*)([A-Za-z°][A-Za-z./]*(?: [A-Za-z][A-Za-z./]*){0,4})(?:\s?\^\s*\{?([23])\}?)?$", re.DOTALL
)


class Measured(NamedTuple):
    """An answer without its unit, and the unit in one spelling ("cm2", "percent", a counted noun), or `None`."""

    core: str
    unit: str | None


def split_unit(answer: str) -> Measured:
    r"""Splits a cleaned answer into what it says and the unit it says it in.

    Single letters outside \text{} stay: in "6m" and "3s^2" they are variables.

    Example:
        >>> split_unit(r"864 \text{ inches}^2")
        Measured(core='864', unit='in2')
        >>> split_unit(r"25\%"), split_unit("6m")
        (Measured(core='25', unit='percent'), Measured(core='6m', unit=None))
    """
    if match := re.match(r"^(-?)\s*(?:\\\$|[€£])\s*(.+)$", answer, re.DOTALL):
        return Measured(match[1] + split_unit(match[2]).core, "dollar")
    if match := re.match(r"^(.*?)\s*(?:\\?%|(?<=[\d} ])percent)$", answer, re.DOTALL):
        return Measured(match[1].strip(), "percent")
    degrees = re.match(r"^(.*[^\s])\s*\^\\circ\s*(?:\\text\{)?\s*([CFK]?)\s*\}?$", answer, re.DOTALL)
    if (match := degrees) and not _FUNCTION.search(answer):
        return Measured(match[1].strip(), f"°{match[2].lower()}" if match[2] else "deg")
    if match := _TEXT_AFTER.match(answer):
        core, words, power = match[1], match[2], match[3] or ""
        if words.strip() and not re.search(r"[\d]", words) and not core.endswith(("_", "^", "{")):
            return Measured(core.strip(), unit_name(words, power))
    elif match := _WORDS_AFTER.match(answer):
        core, gap, words, power = match[1], match[2], match[3], match[4] or ""
        parts = re.findall(r"[a-z]+", words.lower())
        known = len(parts) == 1 and len(parts[0]) > 1 and (_singular(parts[0]) in _UNITS)
        wordy = bool(gap) and any(len(part) > 3 for part in parts) and not any(map(_IN_FORMULAS.fullmatch, parts))
        vowels = all(re.search(r"[aeiouy]", part) for part in parts if len(part) > 3)
        if (known or (wordy and vowels)) and not core.endswith("\\"):
            return Measured(core.strip(), unit_name(words, power))
    return Measured(answer, None)


def _singular(word: str) -> str:
    if word in _UNITS:
        return word
    return word[:-1] if word.endswith("s") and not word.endswith("ss") and len(word) > 2 else word


def unit_name(words: str, power: str = "") -> str:
    """One spelling for a unit: "square inches" and ("inches", "2") are "in2", "km/h" is "kmh".

    Example:
        >>> unit_name(" square inches"), unit_name("miles per hour"), unit_name("teachers")
        ('in2', 'mph', 'teacher')
    """
    folded = words.strip().lower().rstrip(".")
    joined = re.sub(r"[\s.]", "", folded)
    if joined in ("milesperhour", "mile/hour", "miles/hour", "mi/h"):
        return "mph"
    if joined in ("kilometersperhour", "km/hr", "km/h"):
        return "kmh"
    if joined in _UNITS:
        return _UNITS[joined] + power
    parts = folded.split()
    rest = [part for part in parts if part not in _POWERS]
    for part in parts:
        power = _POWERS.get(part, power)
    name = " ".join(_UNITS.get(_singular(part), _singular(part)) for part in rest)
    return name + power


def units_agree(one: str | None, other: str | None) -> bool:
    """Whether two units may stand for each other: the same, one left out, "units", or two counted nouns.

    Example:
        >>> units_agree("cm", "m"), units_agree("cm", None), units_agree("student", "people"), units_agree("m", "m2")
        (False, True, True, False)
    """
    if one is None or other is None or one == other:
        return True
    if one.rstrip("23") == "unit" or other.rstrip("23") == "unit":
        return one[-1:].isdigit() == other[-1:].isdigit() or "unit" in (one, other)
    return not (_is_physical(one) or _is_physical(other))


def _is_physical(unit: str) -> bool:
    return any(part.rstrip("23") in _SPELLINGS or part.startswith("°") for part in re.split(r"[ /]", unit))


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
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")
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


def without_thousands(answer: str) -> str:
    """The answer with "1,234,567" read as one number."""
    return _THOUSANDS.sub(lambda match: match[0].replace(",", ""), answer)
