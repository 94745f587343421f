r"""Sets of real numbers: intervals, unions, inequalities, \ne, \mathbb{R} and set-builders, all as one list of pieces.

    real_set(r"x < -7 \lor x \ge 3")      # (-inf, -7) and [3, inf), of "x"
    real_set("x>1, x<3")                  # (1, 3): what a comma joins holds together where it can, else either does
    real_set(r"]0,1[")                    # (0, 1)

Ends are numbers; a set whose ends hold symbols is no list of pieces and is compared part by part (`comparison.py`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import mpmath

from cft_trl.grading import values
from cft_trl.grading.formulas import try_parse
from cft_trl.grading.nodes import Node
from cft_trl.grading.structure import split_at, split_marked, split_top, squash

_INF = mpmath.inf


def _order(end: Any) -> Any:
    """What ends are ordered by: exact and inexact numbers do not compare with each other."""
    with mpmath.workdps(60):
        return +values.inexact(end)


class Piece(NamedTuple):
    """An interval of the line: its ends and whether they belong to it."""

    low: Any
    low_in: bool
    high: Any
    high_in: bool


class RealSet(NamedTuple):
    """Disjoint pieces in their order, and the name of the variable, where one is named."""

    pieces: tuple[Piece, ...]
    name: str | None = None


LINE = Piece(-_INF, False, _INF, False)
_RELATION = re.compile(r"\\(?:le|ge|ne)(?![A-Za-z])|[<>]|(?<![<>:\\=])=(?!=)")
_ALL = re.compile(
    r"\\mathbb\s*\{?\s*R\s*\}?|\\text\{\s*(?:the set of )?(?:all|any|every) real(?: numbers?| values?)?(?: of \w)?\s*\}"
    r"|(?:all|any|every) real(?: numbers?| values?)?|\\text\{\s*all reals?\s*\}|all reals?"
    r"|(?<![A-Za-z])R(?=\s*\\setminus)",
    re.IGNORECASE,
)
_EXCEPT = re.compile(
    r"(?:\\text\{\s*)?(?:all|any|every) real(?: numbers?| values?)?,?\s*(?:except(?: for)?|other than|but)\s*\}?\s*"
    r"(?:[a-z]\s*=\s*)?([^{}a-z]+)\}?",
    re.IGNORECASE,
)
_BUILDER = re.compile(
    r"\\\{\s*(?P<name>\\?[A-Za-z]\w{0,8})\s*(?:\\in\s*\\mathbb\s*\{?\s*R\s*\}?\s*)?(?:\||:"
    r"|\\colon)\s*(?P<what>.+?)\s*\\\}"
)
_IN = re.compile(r"^\s*(?P<name>\\?[A-Za-z]+(?:_\w|_\{\w+\})?)\s*\\in(?![A-Za-z])\s*")
_REAL_TOO = re.compile(r"\s*(?:,|\\land)?\s*(?:\\?[A-Za-z]\s*\\in\s*\\mathbb\s*\{?R\}?)\s*$")
_NEITHER = re.compile(r"([^,;<>=]+?)\s*\\ne(?![A-Za-z])\s*\\pm(?![A-Za-z])\s*([^,;<>=]+)")
_EVIDENCE = re.compile(
    r"\\(?:cup|cap|infty|setminus|mathbb|le|ge|ne|in)(?![A-Za-z])|[<>]|[Aa]ll real|[Aa]ny real|^\s*\]|\[\s*$"
)


def looks_like_set(answer: str) -> bool:
    """Whether an answer can be nothing but a set of real numbers; "(2, 3)" may as well be a point."""
    if _EVIDENCE.search(answer):
        return True
    pair = re.fullmatch(r"\s*([(\[]).*,.*([)\]])\s*", answer, re.DOTALL)
    return pair is not None and (pair[1] == "(") != (pair[2] == ")")


def same_set(p: str, g: str) -> bool | None:
    """Whether two answers describe one set of real numbers; `None` where either is not read as one."""
    if not looks_like_set(p) and not looks_like_set(g):
        return None
    one, other = real_set(p), real_set(g)
    if one is None or other is None:
        return None
    if one.name and other.name and squash(one.name) != squash(other.name):
        return False
    return len(one.pieces) == len(other.pieces) and all(map(_same_piece, one.pieces, other.pieces))


def _parts(answer: str, sign: str) -> list[RealSet] | None:
    """The sets that a sign joins; `None` where it joins none, or one of them is not read."""
    texts = split_top(answer, frozenset({sign}))
    found = [part for text in texts if (part := real_set(text)) is not None]
    return found if 1 < len(found) == len(texts) else None


def _same_piece(a: Piece, b: Piece) -> bool:
    ends = values.same_number(a.low, b.low) and values.same_number(a.high, b.high)
    return ends and (a.low_in, a.high_in) == (b.low_in, b.high_in)


def real_set(answer: str) -> RealSet | None:
    r"""The set that a cleaned answer describes, or `None`.

    Example:
        >>> real_set(r"x \ne 2") == real_set(r"(-\infty, 2) \cup (2, \infty)")._replace(name="x")
        True
        >>> real_set("|x| < 3").pieces == real_set("(-3, 3)").pieces, real_set("x + y < 3") is None
        (True, True)
    """
    answer = _REAL_TOO.sub("", answer.strip()) if not _IN.match(answer) else answer.strip()
    if _ALL.fullmatch(answer):
        return RealSet((LINE,))
    if match := _EXCEPT.fullmatch(answer):
        return _without(rf"\mathbb{{R}} \setminus {{{match[1].strip(' .')}}}")
    if match := _BUILDER.fullmatch(answer):
        found = real_set(match["what"])
        return found if found and found.name in (None, match["name"]) else None
    if match := _IN.match(answer):
        found = real_set(answer[match.end() :])
        return RealSet(found.pieces, match["name"]) if found and found.name is None else None
    if r"\setminus" in answer:
        return _without(answer)
    if r"\cup" in answer:
        parts = _parts(answer, r"\cup")
        return _joined(parts) if parts else None
    if r"\cap" in answer and not _RELATION.search(answer):
        parts = _parts(answer, r"\cap")
        return _shared(parts) if parts else None
    if match := _NEITHER.fullmatch(answer):
        return real_set(rf"{match[1]} \ne {match[2]} \land {match[1]} \ne -({match[2]})")
    items = split_marked(answer)
    if len(items) > 1 and _RELATION.search(answer):
        return _conditions(items)
    if _RELATION.search(answer):
        return _inequality(answer)
    return _interval(answer) or _points(answer)


def _joined(parts: Sequence[RealSet]) -> RealSet | None:
    names = {part.name for part in parts if part.name}
    if len(names) > 1:
        return None
    return RealSet(_union([piece for part in parts for piece in part.pieces]), next(iter(names), None))


def _shared(parts: Sequence[RealSet]) -> RealSet | None:
    common = list(parts[0].pieces)
    for part in parts[1:]:
        common = _common(common, part.pieces)
    return RealSet(tuple(common)) if common and not any(part.name for part in parts) else None


def _conditions(items: Sequence[tuple[str, str]]) -> RealSet | None:
    """Conditions joined by "and", "or" or a comma."""
    texts, name = [text for text, _ in items], None
    found = []
    for text in texts:
        one = real_set(text)
        if one is None or (name and one.name and squash(one.name) != squash(name)):
            return None
        name = name or one.name
        found.append(one)
    if name is None:
        return None
    words = {mark for _, mark in items if mark in (r"\land", r"\lor")}
    if len(words) > 1:
        return None
    common = list(found[0].pieces)
    for one in found[1:]:
        common = _common(common, one.pieces)
    if words == {r"\land"} or (not words and common):
        return RealSet(tuple(common), name)
    return RealSet(_union([piece for one in found for piece in one.pieces]), name)


def _without(answer: str) -> RealSet | None:
    whole, _, out = answer.partition(r"\setminus")
    one, other = real_set(whole), _points(out.strip())
    if one is None or other is None:
        return None
    pieces = list(one.pieces)
    for point in other.pieces:
        pieces = _common(pieces, (Piece(-_INF, False, point.low, False), Piece(point.low, False, _INF, False)))
    return RealSet(tuple(pieces), one.name)


# ---- pieces ----------------------------------------------------------------------------------------------------------


def _number(text: str) -> Any | None:
    node = try_parse(text)
    if node is None or node.symbols():
        return None
    value = values.constant(node)
    if value is None or (not isinstance(value, Fraction) and isinstance(value, mpmath.mpc) and value.imag != 0):
        return None
    return value.real if isinstance(value, mpmath.mpc) else value


def _interval(answer: str) -> RealSet | None:
    answer = answer.strip()
    if len(answer) < 5 or answer[0] not in "([]" or answer[-1] not in ")][":
        return None
    ends = split_top(answer[1:-1], frozenset({",", ";"}))
    if len(ends) != 2:
        return None
    low, high = _number(ends[0]), _number(ends[1])
    if low is None or high is None or not _order(low) < _order(high):
        return None
    return RealSet((Piece(low, answer[0] == "[" and low != -_INF, high, answer[-1] == "]" and high != _INF),))


def _points(answer: str) -> RealSet | None:
    if answer.startswith(r"\{") and answer.endswith(r"\}"):
        answer = answer[2:-2]
    elif answer.startswith("{") and answer.endswith("}"):
        answer = answer[1:-1]
    else:
        return None
    numbers = [_number(item) for item in split_top(answer)]
    if not numbers or any(number is None or number in (_INF, -_INF) for number in numbers):
        return None
    return RealSet(_union([Piece(number, True, number, True) for number in numbers]))


def _union(pieces: Sequence[Piece]) -> tuple[Piece, ...]:
    merged: list[Piece] = []
    for piece in sorted(pieces, key=lambda piece: (_order(piece.low), not piece.low_in)):
        last = merged[-1] if merged else None
        gap = _order(piece.low) - _order(last.high) if last and piece.low != last.high else 0
        if last and (gap < 0 or (gap == 0 and (piece.low_in or last.high_in))):
            high, high_in = max(
                (last.high, last.high_in), (piece.high, piece.high_in), key=lambda e: (_order(e[0]), e[1])
            )
            merged[-1] = Piece(last.low, last.low_in, high, high_in)
        else:
            merged.append(piece)
    return tuple(merged)


def _common(one: Sequence[Piece], other: Sequence[Piece]) -> list[Piece]:
    found = []
    for a in one:
        for b in other:
            low, low_out = max((a.low, not a.low_in), (b.low, not b.low_in), key=lambda e: (_order(e[0]), e[1]))
            high, high_in = min((a.high, a.high_in), (b.high, b.high_in), key=lambda e: (_order(e[0]), e[1]))
            if _order(low) < _order(high) or (values.same_number(low, high) and not low_out and high_in):
                found.append(Piece(low, not low_out, high, high_in))
    return found


# ---- inequalities ----------------------------------------------------------------------------------------------------


def _inequality(answer: str) -> RealSet | None:
    sides, found = split_at(answer, _RELATION)
    signs = [sign.lstrip("\\") for sign in found]
    nodes = [node for side in sides if (node := try_parse(side)) is not None]
    if len(nodes) < len(sides) or not 2 <= len(nodes) <= 3 or (len(nodes) == 3 and {"=", "ne"} & set(signs)):
        return None
    names = set().union(*(node.symbols() for node in nodes))
    if len(names) != 1:
        return None
    name = next(iter(names))
    pieces: list[Piece] = [LINE]
    for left, sign, right in zip(nodes, signs, nodes[1:], strict=False):
        solved = _solved(left, sign, right, name)
        if solved is None:
            return None
        pieces = _common(pieces, solved)
    return RealSet(tuple(pieces), name)


_MIRRORED = {"<": ">", ">": "<", "le": "ge", "ge": "le", "ne": "ne", "=": "="}


def _solved(left: Node, sign: str, right: Node, name: str) -> tuple[Piece, ...] | None:
    """left sign right, both linear in the one symbol, or the absolute value of what is linear beside a number."""
    for node, other, which in ((left, right, sign), (right, left, _MIRRORED[sign])):
        if node.op == "fn" and node.value == "abs" and not other.symbols():
            return _absolute(node.args[0], which, values.constant(other), name)
    node = Node("add", (left, Node("neg", (right,))))
    difference = _linear(node, name)
    return _quadratic(node, sign, name) if difference is None else _half(*difference, sign)


def _absolute(inner: Node, sign: str, bound: Any, name: str) -> tuple[Piece, ...] | None:
    line = _linear(inner, name)
    if line is None or bound is None or isinstance(bound, mpmath.mpc) or bound <= 0:
        return None
    slope, start = line
    if not all(isinstance(number, Fraction) for number in (slope, start, bound)):
        slope, start, bound = (_order(number) for number in (slope, start, bound))
    with mpmath.workdps(60):
        low, high = sorted([(-bound - start) / slope, (bound - start) / slope], key=_order)
    if sign in ("<", "le"):
        return (Piece(low, sign == "le", high, sign == "le"),)
    if sign in (">", "ge"):
        return Piece(-_INF, False, low, sign == "ge"), Piece(high, sign == "ge", _INF, False)
    return None


def _quadratic(node: Node, sign: str, name: str) -> tuple[Piece, ...] | None:
    """Where a quadratic with rational coefficients and two real zeros is less than 0, and so on."""
    at = [values.at(node, {name: Fraction(x)}) for x in (0, 1, -1, 2, 7, -5)]
    found = [value for value in at if isinstance(value, Fraction)]
    if len(found) < len(at):
        return None
    c, square, line = found[0], (found[1] + found[2]) / 2 - found[0], (found[1] - found[2]) / 2
    if not square or any(square * x * x + line * x + c != y for x, y in zip((2, 7, -5), found[3:], strict=True)):
        return None
    inside = line * line - 4 * square * c
    if inside <= 0 or sign in ("=", "ne"):
        return None
    root = values.constant(Node("fn", (Node("num", (), inside),), "sqrt"))
    if root is None:
        return None
    if not isinstance(root, Fraction):
        line, square = _order(line), _order(square)
    with mpmath.workdps(60):
        low, high = sorted([(-line - root) / (2 * square), (-line + root) / (2 * square)], key=_order)
    if square < 0:
        sign = _MIRRORED[sign]
    if sign in ("<", "le"):
        return (Piece(low, sign == "le", high, sign == "le"),)
    return Piece(-_INF, False, low, sign == "ge"), Piece(high, sign == "ge", _INF, False)


def _linear(node: Node, name: str) -> tuple[Any, Any] | None:
    """Slope and value at 0, or `None` where the formula is not linear."""
    at = [values.at(node, {name: Fraction(x)}) for x in (0, 1, 2, 7, -5)]
    found = [value for value in at if value is not None and not isinstance(value, mpmath.mpc)]
    if len(found) < len(at):
        return None
    if not all(isinstance(value, Fraction) for value in found):
        found = [_order(value) for value in found]
    with mpmath.workdps(60):
        slope = found[1] - found[0]
        line = [found[0] + slope * x for x in (2, 7, -5)]
    straight = all(values.same_number(x, y) for x, y in zip(line, found[2:], strict=True))
    return (slope, found[0]) if straight and slope != 0 else None


def _half(slope: Any, start: Any, sign: str) -> tuple[Piece, ...]:
    """Where slope * x + start is less than 0, and so on."""
    with mpmath.workdps(60):
        zero = -start / slope
    if slope < 0:
        sign = _MIRRORED[sign]
    if sign == "=":
        return (Piece(zero, True, zero, True),)
    below, above = Piece(-_INF, False, zero, sign == "le"), Piece(zero, sign == "ge", _INF, False)
    return {"<": (below,), "le": (below,), ">": (above,), "ge": (above,), "ne": (below, above)}[sign]
