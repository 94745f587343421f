r"""Reading what has a variable of its own: sums, products, integrals with bounds, limits.

    \sum_{k=1}^{n} k^2        \sum_{n \ge 1} 2^{-n}        \int_0^1 x\,dx        \lim_{x \to 0^+} x^x

An integral without bounds is a family of functions and is not read.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any, Protocol

from cft_trl.grading.nodes import Node, Unreadable, negative, renamed

_FROM = re.compile(r"\s*([A-Za-z])\s*(=|\\ge(?![A-Za-z]))\s*(.+)")
_DIFFERENTIAL = re.compile(r"d\s*(\\(?:theta|phi)|[A-Za-z])(?![A-Za-z])")
_APPROACH = re.compile(
    r"\s*(\\?[A-Za-z]+)\s*\\(?:to|rightarrow)(?![A-Za-z])\s*(.+?)\s*(?:\^\s*(?:\{\s*([-+])\s*\}|([-+])))?\s*"
)


class Parser(Protocol):
    """What an operator needs of the parser that met it; `formulas` has the one there is."""

    text: str
    tokens: list[Any]
    at: int

    def __init__(self, text: str) -> None: ...
    def peek(self) -> str: ...
    def take(self, expected: str | None = None) -> str: ...
    def raw_argument(self) -> str: ...
    def node_argument(self) -> Node: ...
    def atom(self) -> Node: ...
    def term(self) -> Node: ...
    def whole(self) -> Node: ...


def _read(parser: Parser, text: str) -> Node:
    return type(parser)(text).whole()


def _bound(parser: Parser) -> Node:
    if parser.peek() in ("+", "-"):
        return negative(parser.atom()) if parser.take() == "-" else parser.atom()
    return parser.node_argument() if parser.peek() == "{" else parser.atom()


def series(parser: Parser, name: str) -> Node:
    """A sum or product, behind its sign.

    Raises:
        Unreadable: It is not written to its end, or has no index.
    """
    parser.take("_")
    lower = _FROM.fullmatch(parser.raw_argument())
    if lower and lower[2] != "=":
        upper = Node("const", (), "inf")
    else:
        parser.take("^")
        upper = _bound(parser)
    if not lower:
        raise Unreadable("a sum without its index")
    index, term = lower[1], parser.term()
    if index in ("i", "e"):
        term = renamed(term, index)
    return Node(name, (_read(parser, lower[3]), upper, term), index)


def integral(parser: Parser, name: str) -> Node:
    """An integral with its bounds; the integrand ends at the first "dx" that leaves a formula before it.

    Raises:
        Unreadable: It is not written to its end, or has no variable.
    """
    parser.take("_")
    low = _bound(parser)
    parser.take("^")
    high = _bound(parser)
    start = parser.tokens[parser.at].start if parser.at < len(parser.tokens) else len(parser.text)
    for match in _DIFFERENTIAL.finditer(parser.text, start):
        variable = match[1].lstrip("\\")
        with suppress(Unreadable):
            inside = _read(parser, parser.text[start : match.start()].strip() or "1")
            # A run of letters may hold both, "xdx".
            while parser.at < len(parser.tokens) and parser.tokens[parser.at].start < match.end():
                parser.at += 1
            return Node("int", (low, high, renamed(inside, variable)), variable)
    raise Unreadable("an integral without its variable")


def limit(parser: Parser, name: str) -> Node:
    """A limit with its point, and the side that it comes from.

    Raises:
        Unreadable: It is not written to its end, or has no point.
    """
    parser.take("_")
    written = _APPROACH.fullmatch(parser.raw_argument())
    if not written:
        raise Unreadable("a limit without its point")
    variable = written[1].lstrip("\\")
    side = written[3] or written[4] or ""
    return Node("lim", (_read(parser, written[2]), renamed(parser.term(), variable)), variable + side)


OPERATORS = {"sum": series, "prod": series, "int": integral, "lim": limit}
