r"""Answers as quantities: a number or formula, the unit it is in, and the words beside it.

    quantity(r"20\%\text{ increase}")          # core 20, unit percent, words {"increase"}
    quantity(r"3\text{ million}")              # core (3)*1000000

Two answers whose words differ ("profit", "loss"; "boys", "girls") differ, and words that change what is said
("or more", "if n is even") may not be left out.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from cft_trl.grading.numerals import MAGNITUDES, number_words, to_number
from cft_trl.grading.structure import argument, words
from cft_trl.grading.units import Unit, read_unit


class Quantity(NamedTuple):
    """An answer without its unit and words; `unit` is `None` where none is named."""

    core: str
    unit: Unit | None = None
    words: frozenset[str] = frozenset()


_CURRENCY = re.compile(r"^(-?)\s*(?:(\\\$|[€£¥₹])|(?:USD|US\s*\\?\$|Rs\.?|INR|EUR|GBP)(?=\s*\d))\s*(-?.+)$", re.DOTALL)
_CODES = {"U": "$", "R": "₹", "I": "₹", "E": "€", "G": "£"}
_SMALL_WORDS = frozenset(words("a an the of in is are his her their its there for to on at"))
_IS_THE_LEAST = re.compile(r"\(\s*(?:the\s+)?(?:minimum|maximum)(?:\s+value)?\s*\)", re.IGNORECASE)
_ALTERING = frozenset(words("minimum maximum double triple twice"))
_ABOUT = frozenset(words("approximately about roughly around approx"))
_DIRECTIONS = frozenset(words("north south east west left right up down"))
# Words that change what a number says: they may not be left out.
_CHANGES = re.compile(
    r"(?<![a-z])(?:or|not|n't|least|most|than|less|over|under|except|if|unless|when|mod|modulo|between|below|above|up"
    r"|exceed\w*|either|neither|nor|without|minus|negative|squared?|cubed?|even|odd|times"
    r"|plus|out|multiplied|divided|power|choose|half|quarter|point|upwards?|onwards?|sqrt|root of|sin|cos|tan|log|ln"
    r"|where|with|base|remainder|factorial|infinit\w+|but|only if|provided|impossible|false|none|no|nothing)(?![a-z])"
)
_LABELS = re.compile(
    r"jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?|room|chapter|day|year|page|figure|number|problem|step|player|team|box|option|choice|on|in"
)
_GENERIC = frozenset(words("unit item object thing people person way piece total time number answer student value one"))
_FORMULA_WORDS = re.compile(
    r"(?:arc)?(?:sin|cos|tan|cot|sec|csc)h?|log|ln|exp|sqrt|pi|mod|gcd|lcm|max|min|infty?|frac|alpha|beta|gamma|theta"
    r"|omega|lambda|floor|ceil|abs|cup|cap|text|land|lor|choose|e|i"
)
_PARTS = re.compile(
    r"\s*(-?\d+(?:\.\d+)?|\\frac\{\d+\}\{\d+\})\s*([A-Za-z]+|\^\s*\\circ|''?)\s*,?(?:\s*(?:\\land|and)\s*)?"
)


@lru_cache(maxsize=4096)
def quantity(answer: str) -> Quantity:
    r"""Splits a cleaned answer into what it says, the unit it says it in, and the words beside it.

    Single letters outside \text{} stay: in "6m" and "3s^2" they are variables.

    Example:
        >>> quantity("6m").unit is None, quantity(r"25\%").core, quantity(r"5\text{ boys}").words
        (True, '25', frozenset({'boy'}))
    """
    if match := _CURRENCY.match(answer):
        sign = (match[2] or _CODES[answer.lstrip("- ")[0]]).lstrip("\\")
        inner = quantity(match[3])
        unit = Unit(((sign, 1),), Fraction(1))
        return Quantity(_signed(match[1], inner.core), unit, inner.words)
    summed = _compound(_untexted(answer)) if re.match(r"\d", answer) else None
    if summed is not None:
        return summed
    core, tail = _split(answer)
    if tail is None:
        return Quantity(answer)
    return _with_tail(core, tail)


def _signed(sign: str, core: str) -> str:
    return f"-({core})" if sign and not to_number(core) else sign + core


def _split(answer: str) -> tuple[str, str | None]:
    """The mathematics and the text behind it; `None` where there is none."""
    if match := re.match(
        r"^(.*?[\d})a-zA-Z])\s*((?:\\?%|\^\s*\\circ)\s*(?:\\text\{[^{}]*\}|[A-Z])?\s*)$", answer, re.DOTALL
    ):
        angle = re.search(r"\\(?:arc)?(?:sin|cos|tan|cot|sec|csc)", match[1])
        if "%" in match[2] or not angle:
            return match[1].strip(), _untexted(match[2])
    if match := re.match(r"^(.*[\d)}])\s*(\\\$|[€£¥₹])$", answer, re.DOTALL):
        return match[1], match[2]
    if match := re.match(r"^(.*[\d)}])\s*(?:(\\text\{\s*[kMGmμ]\s*\}|\\mu)?\s*(\\Omega))$", answer, re.DOTALL):
        return match[1], re.sub(r"\\mu", "μ", _untexted(match[2] or "").strip()) + "Ω"
    place = _top_level_text(answer)
    if place is not None and re.search(r"[\d)}]\s*\\mu\s*$", answer[:place]):
        place = answer.rindex(r"\mu", 0, place)
    if place is not None and place > 0 and not re.search(r"[_^{(\[,]\s*$", answer[:place]):
        core = answer[:place].strip()
        percent = re.search(r"\s*(?:\\?%|\^\s*\\circ)$", core)
        tail = answer[place:]
        if core.endswith("/"):
            core, tail = core[:-1].strip(), "/" + tail
        if percent:
            core, tail = core[: percent.start()], percent[0] + " " + tail
        return core, _untexted(tail)
    if "\\text" not in answer:
        return _bare_words(answer)
    return answer, None


def _untexted(tail: str) -> str:
    parts, at = [], 0
    while (place := tail.find("\\text{", at)) >= 0:
        inner, end = argument(tail, place + 5)
        if inner is None:
            break
        parts += [tail[at:place], " " if tail[at:place].strip()[-1:] not in ("^", "") else "", inner]
        at = end
    return re.sub(r"[{}](?![-\d])(?<!\d\})", " ", "".join([*parts, tail[at:]])).strip()


def _top_level_text(answer: str) -> int | None:
    depth = 0
    for match in re.finditer(r"\\text\{|\\.|[{}]", answer, re.DOTALL):
        if match[0] == r"\text{":
            if depth == 0:
                return match.start()
            depth += 1
        else:
            depth += (match[0] == "{") - (match[0] == "}")
    return None


# Of two letters outside \\text{} only these are units; "2 ab" is a product.
_SHORT = frozenset(
    words("cm mm km nm μm kg mg gm μg lb oz ft yd mi in hr ml mL dL kJ MJ kW MW kV mV mA kN Hz eV Pa ms μs GB MB KB kB")
)


def _bare_words(answer: str) -> tuple[str, str | None]:
    """Words behind a number that is not in \\text{}: known units of two letters or more, or plain words."""
    match = re.match(
        r"^(?P<core>.*?[\d})!])(?P<gap>\s*)(?P<words>(?:[A-Za-zμΩ]{2,}|/\s*[A-Za-z]+|[€£¢]|\$)[A-Za-z0-9μΩ\s./^{}%'()-]*)$",
        answer, re.DOTALL,
    )  # fmt: skip
    if (
        not match
        or re.search(r"\d\s*[a-z]?\s*\^|[=+*]", match["words"].replace("^2", "").replace("^3", ""))
        or "\\" in match["words"]
    ):
        return answer, None
    words = match["words"]
    names = re.findall(r"[A-Za-zμΩ]+", words)
    if not names or any(_FORMULA_WORDS.fullmatch(name) for name in names):
        return answer, None
    unit, rest = read_unit(words)
    known = len(names[0]) > 2 or names[0] in _SHORT or words.startswith("/")
    if unit is not None and known and (not rest or match["gap"]):
        return match["core"].strip(), words
    wordy = match["gap"] and any(len(name) > 3 for name in names)
    spoken = all(re.search(r"[aeiouy]", name.lower()) for name in names if len(name) > 3)
    return (match["core"].strip(), words) if wordy and spoken else (answer, None)


def _with_tail(core: str, tail: str) -> Quantity:
    if tail.strip() == "k":
        core, tail = f"({core}) \\cdot 1000", ""
    tail = re.sub(
        r"degrees?\s+(?:([CFK])(?![A-Za-z])|(?=celsius|fahrenheit))",
        lambda m: f"°{m[1]}" if m[1] else "",
        tail,
        flags=re.I,
    )
    tail = re.sub(r"percentage points?", "percentage-point", tail)
    for _ in range(3):
        word = re.match(r"([a-z]+)(?![\w-])", tail, re.IGNORECASE)
        if word is None:
            break
        name = word[1].lower()
        size = MAGNITUDES.get(name) or (MAGNITUDES.get(name[:-1]) if name.endswith("s") else None)
        if size is None or name in ("second", "seconds", "quarters", "quarter"):
            break
        if name == "score" and tail[word.end() :].strip():
            break
        core, tail = f"({core}) \\cdot {_written(size)}", tail[word.end() :].strip()
    unit, rest = read_unit(tail)
    if unit is not None and len(unit.dimension) == 1 and unit.dimension[0][0] == "person":
        unit, rest = None, tail
    return Quantity(core.strip(), unit, words_of(_IS_THE_LEAST.sub(" ", rest)))


def _written(size: Fraction) -> str:
    return str(size.numerator) if size.denominator == 1 else f"\\frac{{{size.numerator}}}{{{size.denominator}}}"


def words_of(text: str) -> frozenset[str]:
    """The words of a text in the singular, without articles."""
    folded = re.findall(r"[a-zà-ÿ]+|\d+|[<>=≤≥]", text.lower().replace(r"\land", "and").replace(r"\lor", "or"))
    words = [_singular(word) for word in folded if word not in _SMALL_WORDS and word not in _ABOUT]
    # North of east is not east of north.
    directions = [word for word in words if word in _DIRECTIONS]
    return frozenset([*words, *([" ".join(directions)] if len(directions) > 1 else [])])


def _singular(word: str) -> str:
    if word in ("minus", "plus"):
        return word
    if word in ("people", "persons"):
        return "people"
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if re.search(r"(?:ch|sh|x|ss)es$", word):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") and len(word) > 3 else word


def _compound(text: str) -> Quantity | None:
    """ "9 hours 30 minutes", "5 feet 6 inches", 12 degrees 30': a sum in the first unit."""
    parts, at = [], 0
    while (match := _PARTS.match(text, at)) and match.end() > at:
        parts.append((match[1], match[2]))
        at = match.end()
    if len(parts) < 2 or text[at:].strip():
        return None
    found: list[tuple[Fraction, Unit]] = []
    for number, name in parts:
        angular = bool(found) and found[0][1].dimension == (("deg", 1),)
        name = {"'": "arcmin" if angular else "ft", "''": "arcsec" if angular else "in"}.get(name, name)
        unit, rest = read_unit(name)
        value = to_number(number)
        if unit is None or rest or value is None:
            return None
        found.append((value.value, unit))
    first = found[0][1]
    if any(unit.dimension != first.dimension for _, unit in found) or any(
        later.factor >= earlier.factor for (_, earlier), (_, later) in pairwise(found)
    ):
        return None
    total = sum((value * unit.factor for value, unit in found), Fraction(0)) / first.factor
    return Quantity(_written(total), first)


def words_agree(one: frozenset[str], other: frozenset[str]) -> bool:
    """Whether the words beside two numbers may stand for each other.

    Example:
        >>> words_agree(frozenset({"boy"}), frozenset({"girl"})), words_agree(frozenset({"boy"}), frozenset())
        (False, True)
        >>> words_agree(frozenset({"or", "more"}), frozenset())
        False
    """
    if one == other:
        return True
    # A further number is part of what is said: "3 out of 4", "4 and 5".
    # "19 points" are 19; in "3 point five" the word goes on with the number.
    if one ^ other == {"point"} and not any(word.isdigit() or number_words(word) is not None for word in one & other):
        return True
    if changes(one ^ other) or any(word.isdigit() for word in one ^ other):
        return False
    # "4 minimum" is 4 or more, "4 sixes" are 24; "24 zeros" and "4 ones" are a number of them.
    beside = one ^ other
    # Before a noun they are adjectives: "4 double rooms", "10 two-digit numbers".
    if all(word in _ALTERING or number_words(word) not in (None, 0, 1) for word in beside):
        return False
    if "each" in beside and (one | other) & {"total", "altogether", "all", "together"}:
        return False
    if one and other and not (one <= other or other <= one):
        return bool(one <= _GENERIC or other <= _GENERIC) and not one & {"more", "fewer"}
    return True


def changes(words: frozenset[str]) -> bool:
    """Whether one of the words changes what a number says."""
    return any(_CHANGES.fullmatch(word) or word in "<>=≤≥" for word in words)


def text_number(text: str) -> str | None:
    r"""From the one number in a sentence to its end: "Sally has 9 books." gives "9 books"; words say numbers too.

    Example:
        >>> text_number("Sally has 9 books"), text_number("not 5"), text_number("3 of 4"), text_number("twelve")
        ('9 books', None, None, '12')
    """
    value = number_words(text)
    if value is not None:
        return _written(value) if value >= 0 else "-" + _written(-value)
    if counted := _counted(text.strip().rstrip(".!")):
        return counted
    numbers = list(re.finditer(r"(?<![\w.])-?(?:\$\s*)?\d[\d,]*(?:\.\d+)?(?:/\d+)?", text))
    if len(numbers) != 1 or _CHANGES.search(text.lower()) or re.search(r"\b(?:no|and|more|fewer)\b", text.lower()):
        return None
    before = re.findall(r"[A-Za-z]+", text[: numbers[0].start()])
    # "June 20" and "Room 12" are names; "Sally has 9 books" says a number.
    if before and (len(before) == 1 or _LABELS.fullmatch(before[-1].lower())):
        return None
    return text[numbers[0].start() :].strip().rstrip(".!").replace("$", r"\$").replace(",", "")


_MORE_THAN_NAMES = frozenset(words("and more fewer th hundred thousand million billion dozen"))


def _counted(text: str) -> str | None:
    """ "Three apples" as "3 apples"; `None` where the words after the number say more than what is counted."""
    first, _, rest = text.partition(" ")
    number = number_words(first) if re.fullmatch(r"[A-Za-z][a-z-]+", first) else None
    named = re.findall(r"[a-z]+", rest.lower())
    if number is None or not 0 < len(named) < 4 or re.search(r"[^A-Za-z\s-]", rest) or _CHANGES.search(rest.lower()):
        return None
    sizes = any(number_words(word) is not None or MAGNITUDES.get(word.rstrip("s")) for word in named)
    return None if sizes or _MORE_THAN_NAMES & set(named) else f"{_written(number)} {rest}"
