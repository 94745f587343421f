r"""Equations, congruences, and what stands beside an answer: approximations, parameters, remarks.

"x = 3" and "m + n = 17" state the values 3 and 17, "x^2 = 3" and "x + 1 = 3" do not state 3
"x + y = 3" is "2x + 2y = 6"; "f(t) = t^2" is "f(x) = x^2"; "3 + 4 = 8" is nothing
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any

from cft_trl.grading import values
from cft_trl.grading.formulas import try_parse
from cft_trl.grading.nodes import Node
from cft_trl.grading.structure import key, split_at, split_top, squash

Equal = Callable[[str, str], bool]

_NAME = r"(?:\\?[A-Za-z]+(?:_(?:\w|\{[^{}]{1,20}\}))?'{0,2})"
_ARGUMENTS = rf"\(\s*{_NAME}(?:\s*,\s*{_NAME})*\s*\)"
_LEFT_SIDE = re.compile(rf"\s*(?:{_NAME}\s*(?:{_ARGUMENTS})?|{_ARGUMENTS})\s*")
_EQUALS = re.compile(r"(?<![<>:\\=])=(?!=)")
_RELATION = re.compile(r"[<>]|\\(?:le|ge|ne)(?![A-Za-z])")
_MEMBER = re.compile(rf"^\s*({_NAME}|{_ARGUMENTS})\s*\\in(?![A-Za-z])\s*")
_DEFINITION = re.compile(r"\s*([A-Za-z])\s*\(\s*(\\?[a-zA-Z]+)\s*\)\s*")

# ---- remarks ---------------------------------------------------------------------------------------------------------

_BECAUSE = (
    r"since|because|as (?=[a-z]+ )|reject\w*|discard\w*|ignor\w*|exclud\w*|note|extraneous|by |from |using|after|not "
    r"|where (?:we|the)|so "
)
_REMARKS = [
    re.compile(rf"\s*\\text\s*\{{\s*[,;]?\s*\(\s*(?:{_BECAUSE}).*$", re.DOTALL | re.IGNORECASE),
    re.compile(
        rf"(?<=[\d}})a-zA-Z])\s*\(\s*(?:\\text\s*\{{\s*)?(?:{_BECAUSE})[^()]*(?:\([^()]*\)[^()]*)*\)?\s*$", re.DOTALL
    ),
    re.compile(r"\s*\\text\s*\{\s*,?\s*(?:since|because)\b.*$", re.DOTALL | re.IGNORECASE),
]
_LEADING = re.compile(
    r"^\s*(?:\\(?:approx|sim|Rightarrow|therefore|implies|to)(?![A-Za-z])|=(?!=)"
    r"|\\text\{\s*(?:approximately|about|roughly|around|approx\.?)\s*(?:\}|(?=\d[^{}]*\}$))"
    r"|(?:approximately|about|roughly)\s+(?=[\d\\]))\s*"
)


def without_remarks(answer: str) -> str:
    r"""Without what only explains: "2 \text{ (rejecting } -3)", "\approx 3.14", "= 5".

    Example:
        >>> without_remarks(r"2\text{ (rejecting }-3)"), without_remarks(r"\approx 3.14")
        ('2', '3.14')
    """
    for pattern in _REMARKS:
        shorter = pattern.sub("", answer)
        if shorter.strip():
            answer = shorter
    shorter = _LEADING.sub("", answer).strip()
    return shorter.removesuffix("}") if shorter.count("}") == shorter.count("{") + 1 else shorter


def as_approximate(p: str, g: str, equal: Equal) -> bool | None:
    r""" "2\pi \approx 6.28" says both, if they are near.

    Args:
        p, g: The two answers, in LaTeX.
        equal: The comparison of the whole table, for their parts.
    """
    members = [_approximate_parts(answer) if r"\approx" in answer else [answer] for answer in (p, g)]
    if max(map(len, members)) == 1:
        return None
    if not all(_near(side) for side in members):
        return False
    return any(equal(x, y) for x in members[0] for y in members[1])


def _approximate_parts(answer: str) -> list[str]:
    return [part.strip() for part in re.split(r"\\approx(?![A-Za-z])", answer) if part.strip()]


def _near(parts: Sequence[str]) -> bool:
    """Whether what is called about equal is: within 2%, where both are numbers."""
    found = []
    for part in parts:
        node = try_parse(split_at(part, _EQUALS)[0][-1])
        value = values.constant(node) if node is not None and not node.symbols() else None
        if value is not None:
            found.append(values.inexact(value))
    return all(abs(x - y) <= 0.02 * max(abs(x), abs(y)) for x, y in pairwise(found))


# ---- congruences, parameters -----------------------------------------------------------------------------------------

_CONGRUENCE = re.compile(
    r"(?:(?P<left>.+?)\s*\\equiv\s*)?(?P<residue>[^=]+?)\s*\(?\s*(?:\\(?:pmod|bmod|mod|pod)"
    r"|\(?\\text\{\s*\(?mod\s*\}|\(?mod)"
    r"\s*\{?\s*(?P<modulus>\d+)\s*\}?\s*\)?"
)


def as_congruence(p: str, g: str, equal: Equal) -> bool | None:
    r""" "x \equiv 2 \pmod 5" is "x \equiv 7 \pmod 5".

    Args:
        p, g: The two answers, in LaTeX.
        equal: The comparison of the whole table, for their parts.
    """
    one, other = (_CONGRUENCE.fullmatch(answer) if "mod" in answer else None for answer in (p, g))
    if not one and not other:
        return None
    if not one or not other:
        # The residue alone may have been asked for, as it is written.
        match, bare = (one, g) if one else (other, p)
        return match is not None and "=" not in bare and equal(_residue(match), bare)
    if one["modulus"] != other["modulus"] or (one["left"] and other["left"] and key(one["left"]) != key(other["left"])):
        return False
    residues = [sorted(found) if (found := _residues(match)) is not None else None for match in (one, other)]
    return None not in residues and residues[0] == residues[1]


def _residue(match: re.Match[str]) -> str:
    r"""The number that a congruence says: 17 \bmod 5 is 2, 17 \equiv 2 \pmod 5 states 2; x \equiv 2 states none."""
    left = try_parse(match["left"]) if match["left"] else None
    if match["left"] and (left is None or left.symbols()):
        return ""
    if not match["left"] and re.search(r"(?<![( ])\s*\\b?mod(?![A-Za-z])", match[0]) and (found := _residues(match)):
        return str(found[0])
    return match["residue"]


def _residues(match: re.Match[str]) -> list[int] | None:
    modulus = int(match["modulus"])
    found = []
    for item in split_top(match["residue"]):
        for part in (item.replace(r"\pm", ""), item.replace(r"\pm", "-")) if r"\pm" in item else (item,):
            node = try_parse(part.strip())
            value = values.constant(node) if node is not None and not node.symbols() else None
            if not isinstance(value, Fraction) or value.denominator != 1 or modulus == 0:
                return None
            found.append(int(value) % modulus)
    return found


# ---- equations -------------------------------------------------------------------------------------------------------


def as_equations(p: str, g: str, equal: Equal) -> bool | None:
    """ "x = 3" beside "3"; two equations; two inequalities.

    Args:
        p, g: The two answers, in LaTeX.
        equal: The comparison of the whole table, for their parts.
    """
    p_in, g_in = _MEMBER.match(p), _MEMBER.match(g)
    if p_in or g_in:
        if p_in and g_in and squash(p_in[1]) != squash(g_in[1]):
            return False
        return equal(p[p_in.end() :] if p_in else p, g[g_in.end() :] if g_in else g)
    for at, (one, other) in enumerate(((p, g), (g, p))):
        verdict = _named_tuple_beside(one, other, equal if at == 0 else lambda x, y: equal(y, x))
        if verdict is not None:
            return verdict
    if len(split_top(p)) > 1 or len(split_top(g)) > 1:
        return None
    p_sides, g_sides = (split_at(answer, _EQUALS)[0] for answer in (p, g))
    if len(p_sides) == 1 and len(g_sides) == 1:
        if not split_at(p, _RELATION)[1] and not split_at(g, _RELATION)[1]:
            return None
        return _same_relation(p, g, equal)
    if "" in p_sides + g_sides or not _consistent(p_sides) or not _consistent(g_sides):
        return False
    if len(p_sides) > 1 and len(g_sides) > 1:
        return _both_equations(p_sides, g_sides, equal)
    if len(p_sides) > 1:
        return any(equal(value, g) for value in _stated(p_sides))
    return any(equal(p, value) for value in _stated(g_sides))


def _consistent(sides: Sequence[str]) -> bool:
    """Whether the sides that are numbers are one number: "3 + 4 = 8" states nothing."""
    found = []
    for side in sides:
        node = try_parse(side)
        if node is not None and not node.symbols() and not any(child.op == "call" for child in node.walk()):
            value = values.constant(node)
            if value is None:
                return False
            found.append(value)
    return all(values.same_number(x, y) for x, y in pairwise(found))


def _stated(sides: Sequence[str]) -> list[str]:
    """The value that a chain of equations states of what was asked for; empty where it states none."""
    first, last = try_parse(sides[0]), try_parse(sides[-1])
    if last is not None and last.op == "sym" and first is not None and not first.symbols():
        return [sides[0]]
    return [sides[-1]] if _asks(sides[0], sides[-1]) else []


_GEOMETRY = re.compile(
    r"(?:m\s*)?\\(?:angle|triangle|overline|measuredangle|arc|overarc|widehat)\s*\{?\s*[A-Z]{1,4}\s*\}?|\|\s*\\?[A-Za-z]{1,9}(?:_\w)?\s*\||"
    r"(?:m\s*)?\\angle\s*[A-Z\d]+|\[\s*[A-Z]{3,8}\s*\]|[A-Z]{2,4}(?:\^2)?"
    r"|\\text\{[^{}]*\}(?:_\{?\w+\}?)?(?:\s*\\?\w+)?|(?:Area|area|Perimeter|Volume)\w*"
    r"|\|\s*\\overline\{[A-Z]{2}\}\s*\||\\(?:vec|overrightarrow|hat|bar|tilde)\s*\{?\s*\w{1,3}\s*\}?"
)
_APPLIED = re.compile(
    r"(?:\\(?:lim|int|sum|prod|max|min|gcd|det|sup|inf|iint|oint)(?![A-Za-z]).*"
    r"|\\?(?:max|min|gcd|lcm|det|Pr?|E|mathbb\s*\{?\s*[EP]\s*\}?|Var|area|dim|rank|deg|arg|Re|Im)\s*[({\[].*"
    r"|\\text\{[a-zA-Z]+\}\s*\(.*\)|[A-Za-z](?:_\w|_\{\w+\}|')?\s*(?:\^\s*\{?\s*(?:-\s*1"
    r"|\(\w+\))\s*\}?)?\s*\(.{1,30}\)|\(\s*[a-z]\s*\\circ\s*[a-z]\s*\)\s*\(.{1,20}\)"
    r"|\\(?:sin|cos|tan|cot|sec|csc)(?:\^2)?\s*(?:\(\s*)?(?:[A-Z]{1,3}|\\angle\s*[A-Z]{1,3}|\\(?:theta"
    r"|alpha|beta|gamma|phi))(?:\s*\))?)",
    re.DOTALL,
)


_UNKNOWNS = re.compile(rf"\\begin\{{([pb]matrix)\}}\s*{_NAME}(?:\s*(?:\\\\|&)\s*{_NAME})*\s*(?:\\\\)?\s*\\end\{{\1\}}")


def _asks(left: str, right: str = "") -> bool:
    """Whether a left side names what was asked for: a name, a function's value, a combination of names, numbers."""
    left = re.sub(r"\s*\(\s*in [a-z]+\s*\)$", "", left.strip())
    if any(form.fullmatch(left) for form in (_LEFT_SIDE, _GEOMETRY, _APPLIED, _UNKNOWNS)):
        return True
    node = try_parse(left)
    if node is None:
        return False
    if node.op == "sym" and node.value.startswith("d") and "/d " in node.value:
        return True
    return not node.symbols() or (len(node.symbols()) >= 2 and _is_combination(node, left, right))


def _is_combination(node: Node, left: str, right: str) -> bool:
    """ "m + n", "100a + b", "x/y": a quantity made of others, and no equation of a line or a circle."""
    value = try_parse(right)
    if value is None or value.symbols() or re.fullmatch(r"\s*0\s*", right):
        return re.fullmatch(r"[A-Za-z]\s*[-+]\s*[A-Za-z]", left) is not None
    terms = [term.args[0] if term.op == "neg" else term for term in (node.args if node.op == "add" else (node,))]
    if any(not term.symbols() for term in terms):
        return False
    plotted = bool(node.symbols() & {"x", "y", "z"}) and node.op == "add"
    return not plotted or all(term.op == "sym" for term in terms)


def _both_equations(p_sides: Sequence[str], g_sides: Sequence[str], equal: Equal) -> bool:
    if _DERIVATIVE.search(p_sides[0] + g_sides[0]):
        # x(t) is x where the equation says of what it is a function.
        p_sides, g_sides = (
            [re.sub(r"(?<=[a-z])\((?:t|x)\)", "", side) for side in sides] for sides in (p_sides, g_sides)
        )
    p_left, g_left = p_sides[0], g_sides[0]
    one, other = _DEFINITION.fullmatch(p_left), _DEFINITION.fullmatch(g_left)
    if one and other and one[1] == other[1]:
        return equal(_substituted(p_sides[-1], one[2], other[2]), g_sides[-1])
    if _is_function(p_left, other) or _is_function(g_left, one):
        # y = x^2 is the function f(x) = x^2.
        return equal(p_sides[-1], g_sides[-1])
    if key(p_left) == key(g_left) and _asks(g_left, g_sides[-1]):
        return equal(p_sides[-1], g_sides[-1])
    if key(p_sides[-1]) == key(g_sides[-1]) and len(p_sides) == len(g_sides) == 2 and equal(p_left, g_left):
        return True
    return _proportional(_difference(p_sides), _difference(g_sides))


def _is_function(left: str, definition: re.Match[str] | None) -> bool:
    return left.strip() == "y" and definition is not None and definition[1] == "f" and definition[2] == "x"


_DERIVATIVE = re.compile(r"\\frac\s*\{\s*(?:d|\\partial)|d[a-z]\s*/\s*d[a-z]|'|\\dot")


def _substituted(text: str, name: str, by: str) -> str:
    pattern = (
        re.escape(name) + r"(?![A-Za-z])"
        if name.startswith("\\")
        else rf"(?<![A-Za-z\\]){re.escape(name)}(?![A-Za-z])|(?<=\d){re.escape(name)}(?![A-Za-z])"
    )
    return re.sub(pattern, lambda _: by, text)


def _difference(sides: Sequence[str]) -> Node | None:
    left, right = try_parse(sides[0]), try_parse(sides[-1])
    return Node("add", (left, Node("neg", (right,)))) if left is not None and right is not None else None


def _proportional(a: Node | None, b: Node | None, positive: bool = False) -> bool:
    """Whether one difference is a rational multiple of the other; of the same sign, if asked for."""
    if a is None or b is None or not a.symbols() or a.symbols() != b.symbols():
        return False
    for index in range(4):
        point = {name: values.coordinate(name, index) for name in a.symbols()}
        x, y = values.at(a, point), values.at(b, point)
        if x is None or y is None or not x or not y:
            continue
        with_limit = x / y if isinstance(x, Fraction) and isinstance(y, Fraction) else _simple(x / y)
        if with_limit is None or (positive and with_limit < 0):
            return False
        return values.equal(a, Node("mul", (Node("num", (), with_limit), b)))
    return False


def _simple(ratio: Any) -> Fraction | None:
    """A quotient of mpmath's as a fraction; `None` where it is complex or no number."""
    try:
        return Fraction(float(ratio)).limit_denominator(1000)
    except (TypeError, ValueError, OverflowError):
        return None


def _same_relation(p: str, g: str, equal: Equal) -> bool:
    """Two inequalities that are no sets of numbers: side by side, or one a multiple of the other."""
    sides, signs = zip(*(_relation_parts(answer) for answer in (p, g)), strict=True)
    if len(sides[0]) != len(sides[1]) or len(sides[0]) < 2:
        return False
    for turned in (False, True):
        mine = [_TURNED[sign] for sign in reversed(signs[0])] if turned else signs[0]
        parts = list(reversed(sides[0])) if turned else sides[0]
        if mine == signs[1]:
            if all(equal(x, y) for x, y in zip(parts, sides[1], strict=True)):
                return True
            if len(parts) == 2 and _proportional(_difference(parts), _difference(sides[1]), positive=mine[0] != "ne"):
                return True
    return False


_TURNED = {"<": ">", ">": "<", "le": "ge", "ge": "le", "ne": "ne"}


def _relation_parts(answer: str) -> tuple[list[str], list[str]]:
    parts, signs = split_at(answer, _RELATION)
    return parts, [sign.lstrip("\\") for sign in signs]


def as_plus_minus(p: str, g: str, equal: Equal) -> bool | None:
    r"""3 \pm 2 stands for 5, 1.

    Args:
        p, g: The two answers, in LaTeX.
        equal: The comparison of the whole table, for their parts.
    """
    if r"\pm" not in p + g and r"\mp" not in p + g:
        return None
    p, g = (answer[2:-2] if re.fullmatch(r"\\\{[^{}]*\\\}", answer) else answer for answer in (p, g))
    p_items, g_items = ([x for item in split_top(answer) for x in _both_signs(item)] for answer in (p, g))
    if r"\pm" in "".join(p_items + g_items) or r"\mp" in "".join(p_items + g_items):
        return key(p.replace(r"\mp", r"\pm")) == key(g.replace(r"\mp", r"\pm")) and p.count(r"\mp") == g.count(r"\mp")
    if len(p_items) != len(g_items):
        return False
    left = list(g_items)
    for item in p_items:
        match = next((at for at, other in enumerate(left) if equal(item, other)), None)
        if match is None:
            return False
        left.pop(match)
    return True


def _both_signs(item: str) -> list[str]:
    marks = re.findall(r"\\pm(?![A-Za-z])|\\mp(?![A-Za-z])", item)
    if len(marks) != 1:
        return [item]
    name, equals, value = item.rpartition("=") if "=" in item else ("", "", item)
    return [name + equals + value.replace(marks[0], sign).strip().removeprefix("+") for sign in "+-"]


def named_values(items: Sequence[str]) -> dict[str, str] | None:
    """ "x = 1", "y = 2" -> their values by name; `None` where an item is nothing of the kind or a name comes twice."""
    found: dict[str, str] = {}
    for item in items:
        sides, _ = split_at(item, _EQUALS)
        if len(sides) != 2 or not re.fullmatch(rf"\s*{_NAME}\s*", sides[0]):
            return None
        name = squash(sides[0])
        if name in found:
            return None
        found[name] = sides[1].strip()
    return found if len(found) > 1 else None


def _named_tuple_beside(answer: str, other: str, equal: Equal) -> bool | None:
    """ "(a, b) = (1, 3)" beside "1, 3", in this order, and beside "a = 1, b = 3"."""
    sides, _ = split_at(answer, _EQUALS)
    if len(sides) != 2 or not re.fullmatch(_ARGUMENTS, sides[0].strip()):
        return None
    names, entries = (split_top(side.strip()[1:-1]) for side in sides)
    others = split_top(other)
    if len(names) != len(entries) or len(others) != len(names):
        return None
    named = named_values(others)
    if named is not None:
        keys = [squash(name) for name in names]
        return sorted(keys) == sorted(named) and all(
            equal(x, named[name]) for name, x in zip(keys, entries, strict=True)
        )
    return None if "=" in other else all(equal(x, y) for x, y in zip(entries, others, strict=True))
