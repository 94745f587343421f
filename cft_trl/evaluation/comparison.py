r"""The strict comparison: do two answers say the same thing mathematically?

    (r"\frac{1}{2}", "0.5")          yes        ("3.14", r"\pi")        no: a rounded number is another number
    ("x = 3", "3")                   yes        ("(2, 3)", "[2, 3]")    no: other brackets, another interval
    (r"25\%", "25"), ("25 cm", "25") yes        ("25 cm", "25 m")       no: both name a unit, and not the same one

Structure first (units, text, equations, lists, sets, tuples, intervals, matrices), by rules that are decided here; what
is left is a single expression, which math-verify's parser (latex2sympy2_extended) reads. Its comparison is used for
relations, sets and what has no value; expressions with a value are compared by value, because its numeric rule rounds
to a number of decimals and so calls 1e-9 equal to 0.

Call this inside a worker of `grading.py` only: parsing may take forever or all the memory there is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import product

from cft_trl.evaluation.answers import (
    Measured,
    clean,
    split_unit,
    squash,
    text_key,
    units_agree,
    without_thousands,
)
from cft_trl.evaluation.expressions import library_equal, same_value

# An answer longer than this equals the gold only as text; the longest gold of the benchmarks has 223 characters.
_MAX_LENGTH = 1500
_MAX_NESTING = 40
_MAX_ITEMS = 60

_OPENERS = {"(": ")", "[": "]", r"\{": r"\}"}
_MATRIX = re.compile(r"\\begin\{(?P<kind>[pbBvV]?matrix)\}(?P<body>.*)\\end\{(?P=kind)\}", re.DOTALL)
_NAME = r"(?:\\?[A-Za-z]+(?:_(?:\w|\{[^{}]{1,20}\}))?'{0,2})"
_ARGUMENTS = rf"\(\s*{_NAME}(?:\s*,\s*{_NAME})*\s*\)"
_LEFT_SIDE = re.compile(rf"\s*(?:{_NAME}\s*(?:{_ARGUMENTS})?|{_ARGUMENTS})\s*")
_EQUALS = re.compile(r"(?<![<>!:\\=])=(?!=)")
_RELATION = re.compile(r"[<>]|\\(?:le|ge|ne|lt|gt)(?![A-Za-z])")
_LESS = r"<=?|\\l[et](?![A-Za-z])"
_INCLUSIVE = re.compile(r"=|\\le")
_MEMBER = re.compile(rf"^\s*{_NAME}\s*\\in(?![A-Za-z])\s*")
_BASE = re.compile(r"([0-9A-Za-z.]+)_\{?\s*(?:\\text\{)?\s*([0-9]+|[a-z]+)\s*\}?\}?")
_RATIO = re.compile(r"\s*([^:]+?)\s*(?::|\\colon)\s*([^:]+?)\s*")
_CHOICE = re.compile(r"(?:\\text\{\s*)?(\(\s*)?([A-Za-z])\s*(\))?\s*\}?")
# "(B) the second" and "Option B" name the option B.
_OPTION = re.compile(
    r"(?:\\text\{\s*)?(?:(?:option|choice)\s+\(?([A-Z])\)?|\(?([A-Z])[).:]\s+\w.*)\}?", re.IGNORECASE | re.DOTALL
)
_LETTERS = re.compile(r"[A-Za-z][A-Za-z' -]*")
_BASE_NAMES = [
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen"),
]


def strict_equal(prediction: str, gold: str) -> bool:
    r"""Whether two bare answers are mathematically equal.

    Args:
        prediction: What `extract_answer` returned.
        gold: The benchmark's answer, bare.

    Returns:
        `True` or `False`; `False` also when either cannot be read and their texts differ.

    Example:
        >>> strict_equal(r"1\frac{1}{2}", "3/2"), strict_equal("0", "4e-5"), strict_equal(r"\{3, 1\}", "1, 3")
        (True, False, True)
    """
    if max(len(prediction), len(gold)) > _MAX_LENGTH:
        return squash(prediction) == squash(gold) != ""
    if min(_nesting(prediction), _nesting(gold)) < 0 or max(_nesting(prediction), _nesting(gold)) > _MAX_NESTING:
        return squash(prediction) == squash(gold) != ""
    prediction, gold = clean(prediction), clean(gold)
    if not prediction or not gold:
        return False
    # "1,234" may be a number or two answers; it is right if one reading of each side makes them equal.
    return any(_equal(p, g) for p, g in product(_readings(prediction), _readings(gold)))


def _readings(answer: str) -> list[str]:
    return list(dict.fromkeys((without_thousands(answer), answer)))


def _nesting(text: str) -> int:
    """How deep the braces go; -1 when they do not match."""
    depth = deepest = 0
    for match in re.finditer(r"\\.|[{}]", text, re.DOTALL):
        depth += (match[0] == "{") - (match[0] == "}")
        deepest = max(deepest, depth)
        if depth < 0:
            return -1
    return deepest if depth == 0 else -1


def _equal(p: str, g: str, depth: int = 0) -> bool:
    p, g = _strip_group(p), _strip_group(g)
    if not p or not g or depth > 6:
        return False
    if squash(p) == squash(g):
        return True
    for decide in (_as_text, _as_base, _as_equations, _as_plus_minus, _as_matrices, _as_lists, _as_ratio):
        verdict = decide(p, g, depth)
        if verdict is not None:
            return verdict
    return _as_measured(split_unit(p), split_unit(g))


def _strip_group(answer: str) -> str:
    """Without the brackets and braces that only hold one thing together: "(3)", "{3}", "\\text{13}"."""
    answer = answer.strip()
    while True:
        inner = None
        if match := re.fullmatch(r"\\text\{\s*([-\d.,/:]+)\s*\}", answer):
            inner = match[1]
        elif answer.startswith("{") and _closes_at_end(answer, 0):
            inner = answer[1:-1]
        elif answer.startswith("(") and _closes_at_end(answer, 0) and len(split_top(answer[1:-1])) == 1:
            inner = answer[1:-1] if not re.fullmatch(r"[A-Za-z]", answer[1:-1].strip()) else None
        if inner is None or not inner.strip():
            return answer
        answer = inner.strip()


# ---- what the answers are --------------------------------------------------------------------------------------------


def _as_text(p: str, g: str, depth: int) -> bool | None:
    """Words and option letters; `None` when neither answer is a text."""
    if re.fullmatch("[A-J]", g) and (option := _OPTION.fullmatch(p)):
        return (option[1] or option[2]).upper() == g
    one, other = _CHOICE.fullmatch(p), _CHOICE.fullmatch(g)
    if one and other:
        # "(a)" and "A" are an option, whatever the case; the variables m and M are two.
        marked = any(match[1] or match[0].startswith("\\") for match in (one, other))
        return one[2].casefold() == other[2].casefold() if marked else one[2] == other[2]
    texts = [_is_text(answer) for answer in (p, g)]
    if not any(texts):
        return None
    if text_key(p) == text_key(g) != "":
        return True
    # A list of texts, "A, C" beside "\text{C, A}", is still to be split; a text and a formula differ.
    lists = [split_top(re.sub(r"\\text\{([^{}]*)\}", r"\1", answer)) for answer in (p, g)]
    if all(len(items) > 1 for items in lists) and depth < 3:
        return _match_items(*lists, depth)
    return False


def _is_text(answer: str) -> bool:
    if re.fullmatch(r"\\text\{[^{}]*[A-Za-z][^{}]*\}", answer):
        return True
    if re.search(r"(?<![\w.])\d{1,2}:\d\d", answer) and re.search(r"[ap]\.?\s?m", answer, re.IGNORECASE):
        return True
    words = re.findall(r"[A-Za-z]+", answer)
    # Names and arrangements ("ACB") are words too; in a product the order would not matter.
    wordy = any(len(word) > 3 or (len(word) == 3 and word.isupper()) for word in words)
    return bool(_LETTERS.fullmatch(answer)) and wordy and answer != "infty"


def _as_base(p: str, g: str, depth: int) -> bool | None:
    """Numbers in a base, "1200_7": the same digits in the same base, for the base is part of what was asked."""
    one, other = _BASE.fullmatch(squash(p)), _BASE.fullmatch(squash(g))
    if not (one and one[1][0].isdigit()) and not (other and other[1][0].isdigit()):
        return None
    if not one or not other:
        return False
    bases = [_BASE_NAMES.index(m[2]) if m[2] in _BASE_NAMES else m[2] for m in (one, other)]
    return one[1].lstrip("0").casefold() == other[1].lstrip("0").casefold() and str(bases[0]) == str(bases[1])


def _as_equations(p: str, g: str, depth: int) -> bool | None:
    """ "x = 3" beside "3"; two equations; inequalities beside intervals."""
    p_in, g_in = _MEMBER.match(p), _MEMBER.match(g)
    if p_in or g_in:
        if p_in and g_in and squash(p_in[0]) != squash(g_in[0]):
            return False
        return _equal(p[p_in.end() :] if p_in else p, g[g_in.end() :] if g_in else g, depth + 1)
    if len(split_top(p)) > 1 or len(split_top(g)) > 1:
        return None
    p_sides, g_sides = _EQUALS.split(p), _EQUALS.split(g)
    if len(p_sides) == 1 and len(g_sides) == 1:
        if not _RELATION.search(p) and not _RELATION.search(g):
            return None
        return _as_intervals(p, g, depth)
    if len(p_sides) > 1 and len(g_sides) > 1:
        if squash(p_sides[0]) == squash(g_sides[0]) and _LEFT_SIDE.fullmatch(g_sides[0]):
            return _equal(p_sides[-1], g_sides[-1], depth + 1)
        return library_equal(p, g)
    sides, bare = (p_sides, g) if len(p_sides) > 1 else (g_sides, p)
    # Only "x = 3" and "2 + 1 = 3" state the value 3; "x^2 = 3" does not.
    if _LEFT_SIDE.fullmatch(sides[0]) or not re.search(r"[A-Za-z]", re.sub(r"\\[A-Za-z]+", "", sides[0])):
        return _equal(sides[-1], bare, depth + 1)
    return False


def _as_plus_minus(p: str, g: str, depth: int) -> bool | None:
    r"""3 \pm 2 stands for 5, 1."""
    if r"\pm" not in p + g and r"\mp" not in p + g:
        return None
    p_items, g_items = ([x for item in split_top(answer) for x in _both_signs(item)] for answer in (p, g))
    return None if r"\mp" in p + g or r"\pm" in "".join(p_items + g_items) else _match_items(p_items, g_items, depth)


def _both_signs(item: str) -> list[str]:
    if item.count(r"\pm") != 1:
        return [item]
    name, equals, value = item.rpartition("=") if "=" in item else ("", "", item)
    return [name + equals + value.replace(r"\pm", sign).strip().removeprefix("+") for sign in "+-"]


def _as_matrices(p: str, g: str, depth: int) -> bool | None:
    one, other = _MATRIX.fullmatch(p), _MATRIX.fullmatch(g)
    if not one and not other:
        return None
    if not one or not other or (one["kind"][0] in "vV") != (other["kind"][0] in "vV"):
        return False
    rows = [[row.split("&") for row in m["body"].strip().removesuffix("\\\\").split("\\\\")] for m in (one, other)]
    if [len(row) for row in rows[0]] != [len(row) for row in rows[1]]:
        return False
    return all(_equal(a, b, depth + 1) for x, y in zip(*rows, strict=True) for a, b in zip(x, y, strict=True))


def _as_lists(p: str, g: str, depth: int) -> bool | None:
    """Unions, lists and sets in any order; tuples and intervals in theirs, with the same brackets."""
    for sign in (r"\cup", r"\cap"):
        parts = [split_top(answer, sign) for answer in (p, g)]
        if max(map(len, parts)) > 1:
            return _match_items(*parts, depth) if min(map(len, parts)) > 1 else _as_intervals(p, g, depth)
    items = [split_top(answer) for answer in (p, g)]
    if max(map(len, items)) > _MAX_ITEMS:
        return False
    one, other = _bracketed(p), _bracketed(g)
    if max(map(len, items)) == 1 and not one and not other:
        return None
    if (one and one[0] in "([") or (other and other[0] in "(["):
        if not one or not other:
            return _as_intervals(p, g, depth)
        a, b = split_top(one[1]), split_top(other[1])
        # Two entries may be an interval, where the brackets matter; three or more are always a tuple.
        if len(a) != len(b) or (len(a) < 3 and (one[0], one[2]) != (other[0], other[2])):
            return False
        return all(_equal(x, y, depth + 1) for x, y in zip(a, b, strict=True))
    a, b = (split_top(found[1]) if found else its for found, its in ((one, items[0]), (other, items[1])))
    if one or other:
        a, b = _distinct(a, depth), _distinct(b, depth)
    return _match_items(a, b, depth)


def _as_intervals(p: str, g: str, depth: int) -> bool:
    """Inequalities beside inequalities, or beside the interval they describe."""
    if not _RELATION.search(p) and not _RELATION.search(g):
        return False
    (p_name, p_set), (g_name, g_set) = _solution_set(p), _solution_set(g)
    if p_set and g_set:
        same_variable = p_name is None or g_name is None or squash(p_name) == squash(g_name)
        return same_variable and _equal(p_set, g_set, depth + 1)
    return len(split_top(p)) == len(split_top(g)) == 1 and library_equal(p, g)


_CHAIN = re.compile(
    rf"(?:(?P<low>[^<>]+?)(?P<left>{_LESS}))?\s*(?P<name>{_NAME})\s*(?:(?P<right>{_LESS})(?P<high>[^<>]+))?"
)
_DOWN = re.compile(rf"(?P<name>{_NAME})\s*(?P<sign>>=?|\\g[et](?![A-Za-z]))(?P<low>[^<>]+)")


def _solution_set(answer: str) -> tuple[str | None, str | None]:
    r"""The variable and the interval or union that inequalities describe; an answer without one is its own set.

    Example:
        >>> _solution_set(r"x < -7, x \ge 3")
        ('x', '(-\\infty, -7) \\cup [ 3, \\infty)')
    """
    if not _RELATION.search(answer):
        return None, answer
    names, intervals = set(), []
    for part in split_top(answer):
        if match := _DOWN.fullmatch(part):
            intervals.append(f"{'(' if match['sign'] in ('>', chr(92) + 'gt') else '['}{match['low']}, \\infty)")
        elif (match := _CHAIN.fullmatch(part)) and (match["left"] or match["right"]):
            left = "[" if match["left"] and _INCLUSIVE.search(match["left"]) else "("
            right = "]" if match["right"] and _INCLUSIVE.search(match["right"]) else ")"
            low, high = match["low"] or "-\\infty", match["high"] or "\\infty"
            intervals.append(f"{left}{low.strip()}, {high.strip()}{right}")
        else:
            return None, None
        names.add(squash(match["name"]))
    return (names.pop(), " \\cup ".join(intervals)) if len(names) == 1 else (None, None)


def _as_ratio(p: str, g: str, depth: int) -> bool | None:
    one, other = _RATIO.fullmatch(p), _RATIO.fullmatch(g)
    if not one and not other:
        return None
    return bool(one and other and all(_equal(one[i], other[i], depth + 1) for i in (1, 2)))


def _distinct(items: Sequence[str], depth: int) -> list[str]:
    kept: list[str] = []
    for item in items:
        if not any(_equal(item, other, depth + 1) for other in kept):
            kept.append(item)
    return kept


def _match_items(p_items: Sequence[str], g_items: Sequence[str], depth: int) -> bool:
    """Whether each item of one side equals its own item of the other, in any order."""
    if len(p_items) != len(g_items) or len(p_items) > _MAX_ITEMS:
        return False
    left = list(g_items)
    for item in p_items:
        match = next((i for i, other in enumerate(left) if _equal(item, other, depth + 1)), None)
        if match is None:
            return False
        left.pop(match)
    return True


def _bracketed(answer: str) -> tuple[str, str, str] | None:
    r"""Opening bracket, content and closing bracket when one pair holds the whole answer; \{ \} counts as a set."""
    answer = answer.strip()
    opener = next((o for o in _OPENERS if answer.startswith(o)), None)
    if opener is None or not _closes_at_end(answer, 0):
        return None
    closer = r"\}" if answer.endswith(r"\}") else answer[-1]
    if opener == "(" and closer == ")" and len(split_top(answer[1:-1])) == 1:
        return None
    return opener, answer[len(opener) : -len(closer)], closer


_BRACKETS = re.compile(r"\\[{}]|\\[A-Za-z]+|\\.|[()\[\]{}]", re.DOTALL)


def _closes_at_end(text: str, start: int) -> bool:
    depth = 0
    for match in _BRACKETS.finditer(text, start):
        mark = match[0]
        depth += mark in ("(", "[", "{", r"\{")
        depth -= mark in (")", "]", "}", r"\}")
        if depth == 0 and mark in (")", "]", "}", r"\}"):
            return match.end() == len(text)
    return False


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


# ---- single expressions ----------------------------------------------------------------------------------------------


def _as_measured(p: Measured, g: Measured) -> bool:
    """Two single answers with their units taken off."""
    if not units_agree(p.unit, g.unit):
        return False
    p_core, g_core = _strip_group(p.core), _strip_group(g.core)
    if squash(p_core) == squash(g_core) != "":
        return True
    same = same_value(p_core, g_core)
    if same or p.unit == g.unit:
        return same
    # A percentage is its number in the unit "percent", or the hundredth; 180 degrees are pi.
    for unit, factor in (("percent", r"\frac{1}{100}"), ("deg", r"\frac{\pi}{180}")):
        if p.unit == unit and g.unit is None:
            return same_value(f"({p_core}) \\cdot {factor}", g_core)
        if g.unit == unit and p.unit is None:
            return same_value(p_core, f"({g_core}) \\cdot {factor}")
    return False
