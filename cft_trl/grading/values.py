r"""The value of a formula, exactly where it can be exact, and whether two formulas are the same number or function.

    equal(parse("2^{2005}+1"), parse("2^{2005}"))                 # False: integers and rationals of any size are exact
    equal(parse(r"\sqrt{3+2\sqrt2}"), parse(r"1+\sqrt2"))         # True: the rest by the difference
    equal(parse(r"\sqrt{x^2}"), parse("x"))                       # False: they differ at negative points

A difference that is no exact number is computed twice: once to learn how large and how small the parts of both formulas
become, and once with four times the digits that lie between them and 60 more, so that no term is lost whatever its
size. There is no absolute floor. Functions are compared at unrelated points: small and large, positive and negative,
whole and not. Odd roots of negative numbers are real, other powers principal. A "log" without base is read as ln or as
log10, the same on both sides.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from fractions import Fraction

import mpmath
from mpmath import mp

from cft_trl.grading.evaluate import Evaluation, Number, inexact
from cft_trl.grading.nodes import Node, Unreadable

_MAX_DIGITS = 20_000  # of the working precision
_SPARE = 60
_APPROACHED = 32  # digits of a limit, an integral, an infinite sum
_NEEDED = 4  # points at which two functions must have agreed


def equal(a: Node, b: Node) -> bool:
    """Whether two formulas have the same value, or are the same function of their symbols.

    `False` also when the value of either cannot be told (undefined, or too large to be written out).
    """
    if a == b:
        return _defined(a)
    if _bases(a) != _bases(b):
        return False
    nodes = [*a.walk(), *b.walk()]
    logs = ("e", "10") if any(node.value == "log?" for node in nodes) else ("e",)
    names = sorted(a.symbols() | b.symbols() | ({"i"} if _vectors(nodes) else set()))
    return any(_same_function(a, b, names, nodes, log) for log in logs)


def constant(node: Node, digits: int = 60) -> Number | None:
    """The value of a formula without symbols: a `Fraction`, or an mpf or mpc to so many digits; `None` without one."""
    try:
        with mp.workdps(digits):
            return Evaluation({}, digits).value(node)
    except (Unreadable, ArithmeticError, ValueError, TypeError, RecursionError):
        return None


def at(node: Node, point: Mapping[str, Number], digits: int = 60) -> Number | None:
    """The value at a point, as `constant`.

    Args:
        node: The formula.
        point: Its symbols' values, by name.
        digits: Of what is not exact.
    """
    try:
        with mp.workdps(digits):
            return Evaluation(point, digits).value(node)
    except (Unreadable, ArithmeticError, ValueError, TypeError, RecursionError):
        return None


def same_number(x: Number, y: Number) -> bool:
    """Whether two values from `constant` are one, to 40 digits where they are not exact."""
    if isinstance(x, Fraction) and isinstance(y, Fraction):
        return x == y
    if mpmath.isinf(inexact(x)) or mpmath.isinf(inexact(y)):
        return bool(inexact(x) == inexact(y))
    with mp.workdps(60):
        x, y = inexact(x), inexact(y)
        return bool(abs(x - y) <= mpmath.mpf(10) ** -40 * max(abs(x), abs(y)))


def _defined(node: Node) -> bool:
    """A formula is equal to itself, unless it is plainly no number: 1/0."""
    return node.symbols() != set() or constant(node, 30) is not None


def _bases(node: Node) -> set[int]:
    """A numeral in a base answers a question about that base."""
    return {child.value[1] for child in node.walk() if child.op == "based"}


def _vectors(nodes: list[Node]) -> bool:
    """Beside j or k, i is a unit vector."""
    return any(node.op == "sym" and node.value in ("j", "k", "hat j", "hat k") for node in nodes)


def _same_function(a: Node, b: Node, names: list[str], nodes: list[Node], log: str) -> bool:
    if not names:
        return _same_at(a, b, {}, log) is True
    stepwise = {"floor", "ceil", "abs", "mod", "sgn", "min", "max", "gcd", "lcm", "binom"}
    whole = any(node.op in ("sum", "prod", "fact") for node in nodes)
    steps = whole or any(node.op == "fn" and node.value in stepwise for node in nodes)
    agreed = 0
    for index in range(18 if steps else 9):
        verdict = _same_at(a, b, {name: coordinate(name, index) for name in names}, log)
        if verdict is False:
            return False
        agreed += verdict is True
    return agreed >= _NEEDED


def coordinate(name: str, index: int) -> Fraction:
    """A number for a symbol: of several sizes and signs, the first six not whole, unrelated to other symbols'."""
    seed = zlib.crc32(f"{name}/{index}".encode())
    if index < 6:
        value = Fraction(1009 + seed % 8837, 4001 if index < 4 else 401)
        return -value if (seed // 8837 + index) % 3 == 0 else value
    # Beyond the first twelve every other one is negative: |x + 50| is x + 50 for most x.
    span = (9, 40, 1500, 30, 200, 20_000, 12, 60, 700, 8, 3000, 10**7)[index - 6]
    return Fraction(2 + seed % span) * (-1 if index > 12 and index % 2 else 1)


def _same_at(a: Node, b: Node, point: dict[str, Fraction], log: str) -> bool | None:
    """Whether the values at a point are the same; `None` where one of them has none."""
    try:
        if _approached(a) or _approached(b):
            x, y, low, high = _pair(a, b, point, log, _APPROACHED)
            if low + high < 8:
                with mp.workdps(_APPROACHED):
                    return bool(abs(inexact(x) - inexact(y)) < mpmath.mpf(10) ** (8 - _APPROACHED))
        first = _pair(a, b, point, log, 50)
        x, y, low, high = first
        if isinstance(x, Fraction) and isinstance(y, Fraction):
            return x == y
        if mpmath.isinf(inexact(x)) or mpmath.isinf(inexact(y)):
            return bool(inexact(x) == inexact(y))
        # Four times, for sin x and x differ in the third power of x.
        digits = 4 * (low + high) + _SPARE
        if digits > _MAX_DIGITS:
            return None
        with mp.workdps(50):
            # A difference far above what rounding can make needs no second look.
            if high < 8 and abs(inexact(x) - inexact(y)) > mpmath.mpf(10) ** -15:
                return False
        x, y, _, _ = _pair(a, b, point, log, digits)
        with mp.workdps(digits):
            return bool(abs(inexact(x) - inexact(y)) <= mpmath.mpf(10) ** (high + _SPARE // 2 - digits))
    except (Unreadable, ArithmeticError, ValueError, TypeError, RecursionError):
        return None


def _approached(node: Node) -> bool:
    """Whether a value is the limit of others, and dear: it is computed to fewer digits where none is near another."""
    return any(
        child.op in ("int", "lim") or (child.op == "sum" and child.args[1].value == "inf") for child in node.walk()
    )


def _pair(a: Node, b: Node, point: dict[str, Fraction], log: str, digits: int) -> tuple[Number, Number, int, int]:
    with mp.workdps(digits):
        run = Evaluation(point, digits, log)
        x, y = run.value(a), run.value(b)
        run.seen(x)
        run.seen(y)
        return x, y, run.low, run.high
