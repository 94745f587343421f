r"""The strict comparison: do two answers say the same thing mathematically?

    (r"\frac{1}{2}", "0.5")          yes        ("3.14", r"\pi")        no: a rounded number is another number
    ("x = 3", "3")                   yes        ("(2, 3)", "[2, 3]")    no: other brackets, another interval
    (r"25\%", "25"), ("25 cm", "25") yes        ("25 cm", "25 m")       no: both name a unit, and not the same one

Structure first, by rules that are decided here and in the modules beside this one: words (`texts.py`), equations
(`equations.py`), sets of real numbers (`sets.py`), matrices (`matrices.py`), lists and tuples (here), units
(`units.py`). What is left is a number or a formula, which `formulas.py` reads and `values.py` compares by value.

Call this inside a worker of `grade.py` only: it is bounded, but only a process can be ended.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from itertools import product

from cft_trl.grading import equations, texts
from cft_trl.grading.dates import same_date
from cft_trl.grading.formulas import try_parse
from cft_trl.grading.matrices import same_matrix
from cft_trl.grading.notation import clean
from cft_trl.grading.numerals import without_thousands
from cft_trl.grading.parameters import as_parameters
from cft_trl.grading.quantities import same_quantity
from cft_trl.grading.sets import same_set
from cft_trl.grading.structure import bracketed, closes_at_end, key, split_marked, split_top, squash

# An answer longer than this equals the gold only as text; the longest gold of the benchmarks has 223 characters.
_MAX_LENGTH = 1500
_MAX_NESTING = 40
_MAX_ITEMS = 60

_BASE = re.compile(r"(-?)\(?(?:\\text\{)?([0-9A-Za-z.]+)\}?\)?_\{?(?:\\text\{)?([0-9]+|[a-z]+)\}?\}?")
_RATIO = re.compile(
    r"([^:]+?)\s*(?::|\\colon|(?<=\d)\s+to\s+(?=\d)|\\text\{\s*to\s*\})\s*([^:]+?)(?:\s*(?::|\\colon)\s*([^:]+?))?"
)
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
    p, g = clean(prediction), clean(gold)
    if not p or not g:
        return False
    if _decimal_comma(p, g):
        return True
    # "1,234" may be a number or two answers; it is right if one reading of each side makes them equal.
    return any(_equal(one, other) for one, other in product(_readings(p), _readings(g)))


def _readings(answer: str) -> list[str]:
    return list(dict.fromkeys((without_thousands(answer), answer)))


def _decimal_comma(p: str, g: str) -> bool:
    """3,14 beside the gold 3.14: the same digits; three digits after a comma are thousands."""
    return bool(re.fullmatch(r"-?\d+,\d+", p) and not re.search(r",\d{3}$", p) and p.replace(",", ".") == g)


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
    if depth > 6:
        return False
    p, g = strip_group(equations.without_remarks(p)), strip_group(equations.without_remarks(g))
    if not p or not g:
        return False
    if key(p) == key(g):
        return True
    further = partial(_equal, depth=depth + 1)
    for decide in _DECISIONS:
        verdict = decide(p, g, further)
        if verdict is not None:
            return verdict
    return same_quantity(p, g)


def strip_group(answer: str) -> str:
    """Without the brackets and braces that only hold one thing together: "(3)", "{3}", "\\text{13}"."""
    answer = answer.strip()
    while True:
        inner = None
        if match := re.fullmatch(
            r"\\text\{\s*((?:[-+\d.,/: $%^()]|\\[$%])*\d(?:[-+\d.,/: $%^()]|\\[$%])*|[^{}\\]{1,40}=[^{}\\]{1,40}"
            r"|[^{}]{1,30}=[^{}]*\\lor[^{}]*)\s*\}",
            answer,
        ):
            inner = match[1]
        elif answer.startswith("{") and closes_at_end(answer):
            inner = answer[1:-1]
        elif answer.startswith("(") and closes_at_end(answer) and len(split_top(answer[1:-1])) == 1:
            inner = answer[1:-1] if not re.fullmatch(r"[A-Za-z]", answer[1:-1].strip()) else None
        if inner is None or not inner.strip():
            return answer
        answer = inner.strip()


# ---- lists, tuples, ratios -------------------------------------------------------------------------------------------


def _as_words(p: str, g: str, equal: texts.Equal) -> bool | None:
    for same in (texts.same_meaning, texts.same_time, same_date):
        verdict = same(p, g)
        if verdict is not None:
            return verdict
    return None


def _as_base(p: str, g: str, equal: texts.Equal) -> bool | None:
    """Numbers in a base, "1200_7": the same digits in the same base, for the base is part of what was asked."""
    one, other = _BASE.fullmatch(squash(p)), _BASE.fullmatch(squash(g))
    if not one or not other or not (re.search(r"\d", one[2]) or re.fullmatch("1[1-6]", one[3])):
        return None
    bases = [_BASE_NAMES.index(m[3]) if m[3] in _BASE_NAMES else m[3] for m in (one, other)]
    digits = [m[1] + m[2].lstrip("0").casefold() for m in (one, other)]
    return digits[0] == digits[1] and str(bases[0]) == str(bases[1])


_CUPS = re.compile(r"(?:\\\{)+")
_CAPITALS = re.compile(r"(?<![A-Za-z\\])([A-Z](?:_\w)?)\s*\\times\s*(?=([A-Z](?:_\w)?)(?![A-Za-z]))")
_MATRICES = re.compile(r"(?:[A-SU-Z](?:\^(?:-1|T|\d|\\top))?){2,}")
_OPERATOR = re.compile(
    r"\\nabla(?:\s*(?:\\cdot|\\times)(?![A-Za-z]))?|(?<=[A-Za-z}])\s*\\(?:cdot|times)(?=\s*\\(?:vec|overrightarrow)\b)"
)


def _as_vectors(p: str, g: str, equal: texts.Equal) -> bool | None:
    r"""Products of vectors, sets and matrices, derivatives by \nabla: the sign is no mere multiplication."""
    crossed = [_CAPITALS.findall(answer) for answer in (p, g)]
    if all(crossed) and crossed[0] != crossed[1]:
        return False
    words = [squash(answer).replace("{", "").replace("}", "") for answer in (p, g)]
    if words[0] != words[1] and all(
        _MATRICES.fullmatch(word) and re.search(r"\^(?:-1|T|\\top)", word) for word in words
    ):
        # A^{-1}B is not BA^{-1}.
        letters = [re.findall("[A-Z](?:\\^(?:-1|T|\\d|\\\\top))?", word) for word in words]
        if letters[0] != letters[1]:
            return False
    if not re.search(r"\\(?:nabla|vec|overrightarrow)(?![A-Za-z])", p + g):
        return None
    signs = [sorted(squash(found) for found in _OPERATOR.findall(answer)) for answer in (p, g)]
    return None if signs[0] == signs[1] else False


def _as_set(p: str, g: str, equal: texts.Equal) -> bool | None:
    return same_set(p, g)


def _as_lists(p: str, g: str, equal: texts.Equal) -> bool | None:
    """Unions, lists and sets in any order; tuples and intervals in theirs, with the same brackets."""
    for sign in (r"\cup", r"\cap"):
        parts = [split_top(answer, frozenset({sign})) for answer in (p, g)]
        if max(map(len, parts)) > 1:
            return min(map(len, parts)) > 1 and _match_items(parts[0], parts[1], equal)
    marked = [split_marked(answer) for answer in (p, g)]
    items = [[item for item, _ in side] for side in marked]
    if max(map(len, items)) > _MAX_ITEMS:
        return False
    one, other = bracketed(p), bracketed(g)
    if max(map(len, items)) == 1 and not one and not other:
        return None
    named = _named_beside_tuple(items, (one, other), equal)
    if named is not None:
        return named
    if (one and one[0] in "([]") or (other and other[0] in "([]"):
        return _tuples(items, one, other, equal)
    if _and_beside_or(marked):
        return False
    a, b = (split_top(found[1]) if found else its for found, its in ((one, items[0]), (other, items[1])))
    if not one and not other and min(len(a), len(b)) == 1:
        # "2 - b or -b + 2" is one answer in two spellings.
        many, marks = (a, marked[0]) if len(a) > 1 else (b, marked[1])
        if {mark for _, mark in marks[1:]} == {r"\lor"} and all(equal(many[0], item) for item in many[1:]):
            return equal(a[0], b[0])
        return False
    if one and other and one[0] == other[0] == r"\{" and max(map(len, items)) < 2:
        # A set that holds a set.
        depths = [len(_CUPS.findall(squash(answer))[0]) for answer in (p, g)]
        if depths[0] != depths[1]:
            return False
    if (one is None) != (other is None) and max(len(a), len(b)) == 1:
        # The set of one solution is that solution; {x} is the set of x, or its fractional part.
        inner = try_parse((a if one else b)[0])
        if inner is not None and inner.op == "sym":
            return False
    if one or other:
        a, b = _distinct(a, equal), _distinct(b, equal)
    return _match_items(_with_shared_words(a), _with_shared_words(b), equal)


def _tuples(
    items: Sequence[list[str]], one: tuple[str, str, str] | None, other: tuple[str, str, str] | None, equal: texts.Equal
) -> bool:
    if not one or not other:
        # Three or more in parentheses beside a bare list: the same, in this order. Two may be a point or an interval.
        inside, bare = (split_top(one[1]), items[1]) if one else (split_top((other or "")[1]), items[0])
        brackets = one or other or ("", "", "")
        plain = len(bare) == len(inside) > 2 and (brackets[0], brackets[2]) in (("(", ")"), ("[", "]"))
        return plain and all(equal(x, y) for x, y in zip(inside, bare, strict=True))
    a, b = split_top(one[1]), split_top(other[1])
    # Two entries may be an interval, where the brackets matter; three or more are always a tuple.
    if len(a) != len(b) or (len(a) < 3 and (one[0], one[2]) != (other[0], other[2])):
        return False
    if r"\{" in (one[0], other[0]) and one[0] != other[0]:
        return False
    return all(equal(x, y) for x, y in zip(a, b, strict=True))


def _and_beside_or(marked: Sequence[list[tuple[str, str]]]) -> bool:
    """ "x or y" beside "x and y"; the solutions "x = 1 or x = 2" are the numbers 1 and 2."""
    one, other = ({mark for _, mark in side} for side in marked)
    opposed = (r"\land" in one and r"\lor" in other) or (r"\lor" in one and r"\land" in other)
    solved = all("=" in item for side in marked if r"\lor" in {mark for _, mark in side} for item, _ in side)
    return opposed and not solved


def _named_beside_tuple(
    items: Sequence[list[str]], brackets: Sequence[tuple[str, str, str] | None], equal: texts.Equal
) -> bool | None:
    """ "x = 1, y = 2" beside (1, 2): in the order of the names."""
    for at in (0, 1):
        named, tupled = equations.named_values(items[at]), brackets[1 - at]
        if named and tupled and tupled[0] == "(" and tupled[2] == ")":
            entries = split_top(tupled[1])
            ordered = [value for _, value in sorted(named.items())]
            pairs = list(zip(ordered, entries, strict=False))
            right = [equal(x, y) if at == 0 else equal(y, x) for x, y in pairs]
            return len(entries) == len(ordered) and all(right)
    return None


def _with_shared_words(items: Sequence[str]) -> list[str]:
    """ "3 and 5 cm": the unit of the last is that of all."""
    match = re.fullmatch(r"(.*[\d}])\s*(\\text\{\s*[^{}]+\}|\^\\circ)", items[-1], re.DOTALL) if items else None
    if not match or len(items) < 2 or any(re.search(r"\\text|\\circ|[A-Za-z]{2}", item) for item in items[:-1]):
        return list(items)
    return [*(f"{item} {match[2]}" for item in items[:-1]), items[-1]]


def _as_ratio(p: str, g: str, equal: texts.Equal) -> bool | None:
    """3:1 is 6:2; where a fraction was asked for, 2:3 is two thirds."""
    one, other = _RATIO.fullmatch(p.strip()), _RATIO.fullmatch(g.strip())
    if not one and not other:
        return None
    if not one or not other:
        # Asked for a fraction, 2:3 is one; asked for a ratio, a number is none.
        if not one or one[3] or not re.search(r"\\frac|/", g) or re.search(r"[=<>]", g):
            return False
        return equal(f"\\frac{{{one[1]}}}{{{one[2]}}}", g)
    parts = [[part for part in match.groups() if part] for match in (one, other)]
    if len(parts[0]) != len(parts[1]):
        return False
    if all(re.fullmatch(r"0?\d", side[0]) and re.fullmatch(r"\d\d", side[1]) for side in parts):
        return key(p) == key(g)  # 4:30 is a time
    if all(equal(x, y) for x, y in zip(*parts, strict=True)):
        return True
    (a, *rest), (b, *others) = parts
    return all(equal(f"({a}) \\cdot ({y})", f"({b}) \\cdot ({x})") for x, y in zip(rest, others, strict=True))


def _distinct(items: Sequence[str], equal: texts.Equal) -> list[str]:
    kept: list[str] = []
    for item in items:
        if not any(equal(item, other) for other in kept):
            kept.append(item)
    return kept


def _match_items(p_items: Sequence[str], g_items: Sequence[str], equal: texts.Equal) -> bool:
    """Whether each item of one side equals its own item of the other, in any order."""
    if len(p_items) != len(g_items) or len(p_items) > _MAX_ITEMS:
        return False
    left = list(g_items)
    for item in p_items:
        match = next((at for at, other in enumerate(left) if equal(item, other)), None)
        if match is None:
            return False
        left.pop(match)
    return True


def _as_one_text(p: str, g: str, equal: texts.Equal) -> bool | None:
    """ "6m" beside "6\\text{ m}": the same letters."""
    if not re.match(r"-?[\d.]", p) or not re.match(r"-?[\d.]", g) or "\\text" not in p + g:
        return None
    one, other = (re.sub(r"\\text\{([^{}]*)\}", r"\1", answer) for answer in (p, g))
    return True if re.sub(r"(?<!\d)\s+|\s+(?!\d)", "", one) == re.sub(r"(?<!\d)\s+|\s+(?!\d)", "", other) else None


_DECISIONS = (
    texts.same_option,
    _as_vectors,
    _as_words,
    equations.as_approximate,
    _as_set,
    texts.same_text,
    _as_base,
    equations.as_congruence,
    as_parameters,
    equations.as_equations,
    equations.as_plus_minus,
    same_matrix,
    _as_lists,
    _as_ratio,
    _as_one_text,
)
