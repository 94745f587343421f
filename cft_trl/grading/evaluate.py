"""The value of a formula at a point: exact while it can be, else with mpmath to the working precision.

Rationals stay `Fraction`s through sums, products, whole powers, exact roots, factorials and binomials; everything else
is an mpf or mpc. A value that would be too large, or that is none (1/0), raises `Unreadable`.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import mpmath
from mpmath import mp

from cft_trl.grading import calculus
from cft_trl.grading.nodes import Node, Unreadable
from cft_trl.grading.structure import words

_MAX_BITS = 400_000  # of an exact number: 2^{2024}, 10^{1000} and 2004! are far below
_MAX_TERMS = 3_000
_MAX_DIGITS = 20_000  # of the working precision

Number = Any  # Fraction, mpf or mpc


def inexact(value: Number) -> Any:
    """A number as an mpf or mpc of the working precision."""
    return mpmath.mpf(value.numerator) / value.denominator if isinstance(value, Fraction) else value


class Evaluation:
    """One evaluation; `high` and `low` are the digits before and after the point that its parts reached."""

    def __init__(self, point: Mapping[str, Number], digits: int, log: str = "e") -> None:
        self.point, self.digits, self.log = point, digits, log
        self.inside = False  # whether it is of an integrand or a term, many of which make one value
        self.high = self.low = 0

    def value(self, node: Node) -> Number:
        """The value of a formula at the point.

        Raises:
            Unreadable: It has none, or one that is too large to be written out.
        """
        found = getattr(self, f"_{node.op}")(node)
        if isinstance(found, Fraction):
            if found.numerator.bit_length() + found.denominator.bit_length() > _MAX_BITS:
                raise Unreadable("a number too large to be written out")
            if found and found.numerator.bit_length() + 30 < found.denominator.bit_length():
                self.seen(found)  # e^{10^{-40}} is near 1
        elif mpmath.isnan(found):
            raise Unreadable("no number")
        else:
            self.seen(found)
        return found

    def seen(self, value: Number) -> None:
        """Takes note of a size."""
        if isinstance(value, Fraction):
            bits = abs(value.numerator).bit_length() - value.denominator.bit_length() if value else 0
        else:
            part = max(abs(mpmath.re(value)), abs(mpmath.im(value)))
            if not part or mpmath.isinf(part):
                return
            bits = mpmath.mag(part)
        decimal = int(bits * 0.30103)
        self.high, self.low = max(self.high, decimal + 1), max(self.low, 1 - decimal)
        if isinstance(value, Fraction) and value.denominator > 1:
            # 1 + 10^{-60} is near 1: its own digits are needed.
            near = abs(value - round(value))
            if near:
                small = near.numerator.bit_length() - near.denominator.bit_length()
                self.low = max(self.low, 1 - int(small * 0.30103))

    def number(self, node: Node) -> Any:
        value = self.value(node)
        self.seen(value)
        if isinstance(value, Fraction):
            return inexact(value)
        if isinstance(value, mpmath.mpc) and value.imag == 0:
            return value.real
        return value

    def whole(self, node: Node) -> int:
        """The value of a formula as a whole number.

        Raises:
            Unreadable: It is none.
        """
        value = self.value(node)
        if isinstance(value, Fraction) and value.denominator == 1:
            return int(value)
        raise Unreadable("a whole number is needed")

    # ---- leaves ----

    def _num(self, node: Node) -> Number:
        return node.value

    def _const(self, node: Node) -> Number:
        if node.value == "i":
            return self.point["i"] if "i" in self.point else mpmath.mpc(0, 1)
        if node.value == "inf":
            return mpmath.inf
        return +(mp.pi if node.value == "pi" else mp.e)

    def _sym(self, node: Node) -> Number:
        if node.value not in self.point:
            raise Unreadable(f"{node.value} has no value")
        return self.point[node.value]

    def _based(self, node: Node) -> Number:
        return Fraction(node.value[0])

    # ---- arithmetic ----

    def _add(self, node: Node) -> Number:
        total: Number = Fraction(0)
        for child in node.args:
            total = self._plus(total, self.value(child))
        return total

    def _plus(self, x: Number, y: Number) -> Number:
        if isinstance(x, Fraction) and isinstance(y, Fraction):
            return x + y
        self.seen(x)
        self.seen(y)
        return inexact(x) + inexact(y)

    def _mul(self, node: Node) -> Number:
        return self._times(self.value(node.args[0]), self.value(node.args[1]))

    def _times(self, x: Number, y: Number) -> Number:
        if isinstance(x, Fraction) and isinstance(y, Fraction):
            return x * y
        if x == 0 or y == 0:
            if mpmath.isinf(inexact(x)) or mpmath.isinf(inexact(y)):
                raise Unreadable("zero times infinity")
            return Fraction(0)
        return inexact(x) * inexact(y)

    def _div(self, node: Node) -> Number:
        above, below = self.value(node.args[0]), self.value(node.args[1])
        if below == 0:
            raise Unreadable("division by zero")
        if isinstance(above, Fraction) and isinstance(below, Fraction):
            return above / below
        if not isinstance(below, Fraction) and abs(below) < mpmath.mpf(10) ** (self.high - self.digits + 8):
            raise Unreadable("division by what may be zero")
        return inexact(above) / inexact(below)

    def _neg(self, node: Node) -> Number:
        return -self.value(node.args[0])

    def _percent(self, node: Node) -> Number:
        return self._times(self.value(node.args[0]), Fraction(1, 100))

    def _deg(self, node: Node) -> Number:
        return inexact(self.value(node.args[0])) * mp.pi / 180

    def _pow(self, node: Node) -> Number:
        return self.power(self.value(node.args[0]), self.value(node.args[1]))

    def power(self, base: Number, exponent: Number) -> Number:
        """A power of two values, exact where it can be.

        Raises:
            Unreadable: It has no value, or one that is too large.
        """
        if isinstance(exponent, Fraction) and isinstance(base, Fraction):
            if base == 0 and exponent <= 0:
                raise Unreadable("zero to the zero, or less")
            if base in (0, 1):
                return base
            if exponent.denominator == 1:
                self._bounded(base, exponent)
                return base**exponent
            root = _exact_root(base, exponent.denominator)
            if root is not None:
                self._bounded(root, exponent)
                return root**exponent.numerator
        self.seen(base)
        x, y = inexact(base), inexact(exponent)
        if abs(y) * max(1, abs(mpmath.mag(x))) > 3.4 * _MAX_DIGITS:
            if self.inside and mpmath.isfinite(y) and mpmath.re(y) < 0 and abs(x) > 2:
                return Fraction(0)  # far out, an integrand is nothing
            raise Unreadable("a power too large")
        negative = not isinstance(x, mpmath.mpc) and x < 0
        if negative and isinstance(exponent, Fraction) and 1 < exponent.denominator < 100 and exponent.denominator % 2:
            root = (-x) ** y
            return -root if exponent.numerator % 2 else root
        return x**y

    def _bounded(self, base: Fraction, exponent: Fraction) -> None:
        bits = base.numerator.bit_length() + base.denominator.bit_length()
        if bits * abs(exponent.numerator) > _MAX_BITS:
            raise Unreadable("a power too large to be written out")

    def _fact(self, node: Node) -> Number:
        value, step = self.value(node.args[0]), node.value
        if isinstance(value, Fraction) and value.denominator == 1 and 0 <= value <= 20_000:
            n = int(value)
            if step == 1:
                return Fraction(math.factorial(n))
            return Fraction(math.prod(range(n, 0, -2)))
        if step == 2 or (isinstance(value, Fraction) and value.denominator == 1) or abs(inexact(value)) > 1000:
            raise Unreadable("no factorial")
        return mpmath.gamma(inexact(value) + 1)

    def _sum(self, node: Node) -> Number:
        first = self.whole(node.args[0])
        if node.op == "sum" and node.args[1] == Node("const", (), "inf"):
            return calculus.infinite_sum(self.function(node, 2), first)
        last = self.whole(node.args[1])
        if not -1 <= last - first <= _MAX_TERMS:
            raise Unreadable("too many terms, or less than none")
        total: Number = Fraction(0 if node.op == "sum" else 1)
        outer = self.point
        for k in range(first, last + 1):
            self.point = {**outer, node.value: Fraction(k)}
            term = self.value(node.args[2])
            total = self._plus(total, term) if node.op == "sum" else self._times(total, term)
        self.point = outer
        return total

    _prod = _sum

    def _int(self, node: Node) -> Number:
        low, high = (self.number(bound) for bound in node.args[:2])
        return calculus.integral(self.function(node, 2), low, high)

    def _lim(self, node: Node) -> Number:
        point, side = self.number(node.args[0]), {"+": 1, "-": -1}.get(node.value[-1], 0)
        return calculus.limit(self.function(node, 1), point, side)

    def function(self, node: Node, place: int) -> Any:
        """The part at a place as a function of the node's own variable; its values say nothing of the whole's size."""
        name = node.value.rstrip("+-")

        def value(x: Number) -> Any:
            run = Evaluation({**self.point, name: x}, mp.dps, self.log)
            run.inside = True
            return inexact(run.value(node.args[place]))

        return value

    # ---- functions ----

    def _call(self, node: Node) -> Number:
        """An unknown function: smooth, its own for every name, the same wherever the name stands."""
        seed = zlib.crc32(str(node.value).encode())
        total = mpmath.mpf(1009 + seed % 7919) / 997
        for place, child in enumerate(node.args):
            slope = mpmath.mpf(2003 + (seed >> 7) % 5003 + 17 * place) / 4099
            total += mpmath.sin(slope * self.number(child) + place + 1) + slope * self.number(child) / 3
        return total

    def _fn(self, node: Node) -> Number:
        handler = getattr(self, f"_of_{node.value.rstrip('?')}", None)
        if handler:
            return handler(node)
        argument = self.number(node.args[0])
        if abs(argument) > 10**6 and node.value in ("exp", "sinh", "cosh"):
            raise Unreadable("too large")
        if node.value in ("tanh", "coth") and 10 < abs(argument) < 10**5:
            self.low = max(self.low, int(abs(argument)))  # what parts it from 1
        return _LIBRARY[node.value](argument)

    def _of_log(self, node: Node) -> Number:
        base = self.value(node.args[1]) if len(node.args) > 1 else None
        if base is None and node.value == "log?" and self.log == "10":
            base = Fraction(10)
        argument = self.number(node.args[0])
        if argument == 0:
            raise Unreadable("log of zero")
        logarithm = mpmath.log(argument)
        return logarithm if base is None else logarithm / mpmath.log(inexact(base))

    def _of_ln(self, node: Node) -> Number:
        return self._of_log(Node("fn", node.args[:1], "ln"))

    def _of_sqrt(self, node: Node) -> Number:
        index = self.value(node.args[1]) if len(node.args) > 1 else Fraction(2)
        if index == 0:
            raise Unreadable("no root")
        exponent = 1 / index if isinstance(index, Fraction) else 1 / inexact(index)
        return self.power(self.value(node.args[0]), exponent)

    def _of_abs(self, node: Node) -> Number:
        return abs(self.value(node.args[0]))

    def _of_floor(self, node: Node) -> Number:
        value = self.value(node.args[0])
        if isinstance(value, Fraction):
            return Fraction(math.floor(value))
        value = self.number(node.args[0])
        nearest = mpmath.nint(value)
        close = abs(value - nearest) < mpmath.mpf(10) ** (self.high - self.digits + 12)
        return Fraction(int(nearest if close else mpmath.floor(value)))

    def _of_ceil(self, node: Node) -> Number:
        return -self._of_floor(Node("fn", (Node("neg", node.args),), "floor"))

    def _of_sgn(self, node: Node) -> Number:
        value = self.number(node.args[0])
        return Fraction((value > 0) - (value < 0))

    def _of_mod(self, node: Node) -> Number:
        return Fraction(self.whole(node.args[0]) % self.whole(node.args[1]))

    def _of_gcd(self, node: Node) -> Number:
        return Fraction(math.gcd(*(self.whole(child) for child in node.args)))

    def _of_lcm(self, node: Node) -> Number:
        return Fraction(math.lcm(*(self.whole(child) for child in node.args)))

    def _of_min(self, node: Node) -> Number:
        return min((self.value(child) for child in node.args), key=inexact)

    def _of_max(self, node: Node) -> Number:
        return max((self.value(child) for child in node.args), key=inexact)

    def _of_Re(self, node: Node) -> Number:
        return mpmath.re(self.number(node.args[0]))

    def _of_Im(self, node: Node) -> Number:
        return mpmath.im(self.number(node.args[0]))

    def _of_binom(self, node: Node) -> Number:
        n, k = (self.value(child) for child in node.args)
        exact = isinstance(n, Fraction) and isinstance(k, Fraction) and n.denominator == k.denominator == 1
        if exact and 0 <= n <= 20_000:
            return Fraction(math.comb(int(n), int(k))) if k >= 0 else Fraction(0)
        if exact and n < 0:
            raise Unreadable("no binomial")
        return mpmath.binomial(inexact(n), inexact(k))


_LIBRARY = {
    name: getattr(mpmath, spelled)
    for name, spelled in (
        *((name, name) for name in words("sin cos tan cot sec csc sinh cosh tanh coth sech csch exp")),
        ("zeta", "zeta"),
        *(("arc" + name, "a" + name) for name in words("sin cos tan cot sec csc")),
        *(("ar" + name, "a" + name) for name in words("sinh cosh tanh")),
    )
}


def _exact_root(base: Fraction, index: int) -> Fraction | None:
    """The rational n-th root of a rational, or `None`; odd roots of negative numbers are real."""
    if index > 200 or (base < 0 and index % 2 == 0):
        return None
    above, below = (_whole_root(part, index) for part in (abs(base.numerator), base.denominator))
    if above is None or below is None:
        return None
    root = Fraction(above, below)
    return -root if base < 0 else root


def _whole_root(n: int, index: int) -> int | None:
    if n < 2:
        return n
    if index == 2:
        root = math.isqrt(n)
        return root if root * root == n else None
    if n.bit_length() > 3000:
        return None
    low, high = 1, 1 << (n.bit_length() // index + 1)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if middle**index <= n else (low, middle - 1)
    return low if low**index == n else None
