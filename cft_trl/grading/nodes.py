"""Formulas as trees, and the tokens that they are read from."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, NamedTuple

from cft_trl.grading.structure import argument, words

BINDING = frozenset(("sum", "prod", "int", "lim"))  # these have a variable of their own


class Unreadable(ValueError):
    """A text is no formula, or its value cannot be told within bounds."""


class Node(NamedTuple):
    """A formula: `op` says what `args` are to each other; `value` is a number, a name, or a function's name.

    op is one of num, const (pi, e, i, inf), sym, based (digits in a base), add, mul, div, neg, pow, fact (value 1 or
    2), percent, deg, fn (a known function), call (an unknown one), sum and prod (index, from, to, term), int (variable,
    from, to, integrand), lim (variable with "+" or "-" for one side, point, term).
    """

    op: str
    args: tuple[Node, ...] = ()
    value: Any = None

    def walk(self) -> Iterator[Node]:
        yield self
        for child in self.args:
            yield from child.walk()

    def symbols(self) -> set[str]:
        """Names of the free symbols."""
        if self.op == "sym":
            return {self.value}
        found = set().union(*(child.symbols() for child in self.args)) if self.args else set()
        return found - {self.value.rstrip("+-")} if self.op in BINDING else found


# ---- names ----

FUNCTIONS = frozenset(
    words(
        "sin cos tan cot sec csc sinh cosh tanh coth sech csch arcsin arccos arctan arccot arcsec arccsc "
        "arsinh arcosh artanh ln log lg exp sqrt abs floor ceil gcd lcm min max sgn Re Im"
    )
)
ALSO_CALLED = {"asin": "arcsin", "acos": "arccos", "atan": "arctan", "ceiling": "ceil", "sign": "sgn"}
INVERSES = {"sin": "arcsin", "cos": "arccos", "tan": "arctan", "sinh": "arsinh", "cosh": "arcosh", "tanh": "artanh"}
GREEK = frozenset(
    words(
        "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau upsilon phi "
        "chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega hbar partial nabla"
    )
)
MARKED = frozenset(
    words("bar overline hat widehat tilde widetilde dot ddot vec overrightarrow overleftrightarrow overarc wideparen")
)


# ---- tokens ----

_TOKEN = re.compile(
    r"(?P<mixed>\d+\s*\\frac\s*\{\s*\d+\s*\}\s*\{\s*\d+\s*\}|\d+\s+\d+\s*/\s*\d+(?![\d.]))"
    r"|(?P<number>(?:\d+(?:\.(?!\.)\d*)?|\.\d+)(?:[eE][-+]?\d+(?![\d.]))?)"
    r"|(?P<command>\\[A-Za-z]+|\\.)|(?P<word>[A-Za-z]+)|(?P<space>\s+)|(?P<other>.)",
    re.DOTALL,
)


class Token(NamedTuple):
    kind: str
    text: str
    start: int
    end: int


class Tokens:
    """A text's tokens, taken one after the other."""

    def __init__(self, text: str) -> None:
        self.text = text = _PLAIN_DERIVATIVE.sub(r"\\frac{d\1}{d\2}", text)
        self.tokens = [
            Token(match.lastgroup or "other", match[0], match.start(), match.end())
            for match in _TOKEN.finditer(text)
            if match.lastgroup != "space"
        ]
        self.at = 0

    def peek(self) -> str:
        return self.tokens[self.at].text if self.at < len(self.tokens) else ""

    def kind(self) -> str:
        return self.tokens[self.at].kind if self.at < len(self.tokens) else ""

    def take(self, expected: str | None = None) -> str:
        """Takes the next token and returns its text.

        Raises:
            Unreadable: It is not the one that is expected, or there is none.
        """
        if self.at >= len(self.tokens) or (expected is not None and self.peek() != expected):
            raise Unreadable(f"{expected or 'more'} expected")
        self.at += 1
        return self.tokens[self.at - 1].text

    def take_letters(self, length: int) -> None:
        """Takes so many letters of a run."""
        token = self.tokens[self.at]
        if len(token.text) > length:
            rest = Token("word", token.text[length:], token.start + length, token.end)
            self.tokens[self.at : self.at + 1] = [Token("word", token.text[:length], token.start, rest.start), rest]
        self.at += 1

    def group_text(self) -> str:
        return argument(self.text, self.tokens[self.at].start)[0] or ""

    def raw_argument(self) -> str:
        """The next token or group as text.

        Raises:
            Unreadable: There is none, or a brace is not closed.
        """
        if self.at >= len(self.tokens):
            raise Unreadable("argument expected")
        if self.peek() != "{":
            # Of a run of letters or digits a command takes the first.
            token = self.tokens[self.at]
            if token.kind in ("word", "number") and len(token.text) > 1:
                self.tokens[self.at] = Token(token.kind, token.text[1:], token.start + 1, token.end)
                return token.text[0]
            return self.take()
        inner, end = argument(self.text, self.tokens[self.at].start)
        if inner is None:
            raise Unreadable("open brace")
        while self.at < len(self.tokens) and self.tokens[self.at].start < end:
            self.at += 1
        return inner


# ---- parts of formulas ----


def negative(node: Node) -> Node:
    return Node("neg", (node,))


def inside(text: str, at: int) -> str | None:
    """What stands in the parentheses that open at a place."""
    depth = 0
    for place in range(at, len(text)):
        depth += (text[place] == "(") - (text[place] == ")")
        if depth == 0:
            return text[at + 1 : place]
    return None


def renamed(node: Node, index: str) -> Node:
    """The index of a sum is no constant, though it be called i."""
    if node.op == "const" and node.value == index:
        return Node("sym", (), index)
    return Node(node.op, tuple(renamed(child, index) for child in node.args), node.value)


def mixed(text: str) -> Node:
    r"""A mixed number, "1\frac{2}{3}", by its three whole numbers.

    Raises:
        Unreadable: Its denominator is zero.
    """
    whole, above, below = re.findall(r"\d+", text)
    if int(below) == 0:
        raise Unreadable("a zero below")
    return Node("num", (), int(whole) + Fraction(int(above), int(below)))


_BASE_NAMES = words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
)


def based_value(digits: str, base: str) -> tuple[int, int]:
    """A numeral in a base, "1200" and "7" or "seven" -> (its value, the base).

    Raises:
        Unreadable: No base, or digits that it does not have.
    """
    number = _BASE_NAMES.index(base) if base in _BASE_NAMES else int(base) if re.fullmatch(r"\d{1,2}", base) else 0
    if not 2 <= number <= 36 or not re.fullmatch("[0-9A-Za-z]{1,400}", digits):
        raise Unreadable("no numeral in a base")
    try:
        return int(digits, number), number
    except ValueError as error:
        raise Unreadable(str(error)) from None


_NAME_AFTER_D = r"(?:\\partial|d)\s*(?:\^\s*(?:\{(\d)\}|(\d)))?\s*(\\?[A-Za-z]+?(?:_(?:\w|\{\w+\}))?)\s*(?:\([a-z]\))?"
_DERIVATIVE = (
    re.compile(_NAME_AFTER_D),
    re.compile(r"(?:\\partial|d)\s*(\\[A-Za-z]+|[A-Za-z])\s*(?:\^\s*(?:\{(\d)\}|(\d)))?"),
)
_PLAIN_DERIVATIVE = re.compile(r"(?<![A-Za-z\\])d([a-z])/d([a-z])(?![A-Za-z])")


def derivative(above: str, below: str) -> str | None:
    """The name of dx/dt, or of a higher derivative; `None` for any other fraction."""
    top, bottom = _DERIVATIVE[0].fullmatch(above.strip()), _DERIVATIVE[1].fullmatch(below.strip())
    if not top or not bottom or (top[1] or top[2]) != (bottom[2] or bottom[3]):
        return None
    return f"d{top[1] or top[2] or ''} {top[3]}/d {bottom[1]}"


def application(name: str, inverse: str, inner: str) -> str | None:
    """What a name before parentheses is: "call", "binom" for C(10, 3), or `None` for a factor.

    Args:
        name: The name, with its index and primes.
        inverse: Its exponent where that is -1, else "".
        inner: What stands in the parentheses.
    """
    plain = name.rstrip("'").partition("_")[0]
    pair = re.fullmatch(r"\s*(\d+|[nmk])\s*,\s*(\d+|[nmkr])\s*", inner)
    if plain == "C" and not inverse and "'" not in name and pair:
        return "binom"
    if plain == "f" or inverse or "'" in name:
        return "call"
    simple = re.fullmatch(r"\s*(?:[a-zA-Z]|\\?[a-z]+|[fgh]\s*\(.*\))\s*", inner)
    if plain in ("g", "h", "F", "G", "H") and (simple or pair):
        return "call"
    # Nobody writes a product of a name and a number so: I(0) is a value of I.
    return "call" if re.fullmatch(r"\s*-?\d+(?:\.\d+)?(?:\s*,\s*-?\d+)*\s*", inner) else None


def typed_function(run: str) -> str | None:
    """The function that a run of plain letters names: "sqrt", "atan"."""
    if run in FUNCTIONS and run not in ("Re", "Im", "sgn"):
        return run
    return ALSO_CALLED.get(run)
