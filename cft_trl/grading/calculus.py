r"""Infinite sums, integrals with bounds and limits left standing: their numbers, where one can be sure of these.

    \sum_{n=1}^{\infty}\frac{1}{n^2}     1.6449...        \int_0^1 x^2\,dx     0.3333...
    \lim_{x\to0}\frac{\sin x}{x}         1                \sum_{n\ge1}\frac1n  no number

mpmath extrapolates and integrates; it gives a number for a divergent sum as well. So each is computed twice, with more
digits the second time, and counts only where both agree to nearly all digits that are asked for. What takes longer
than an answer may take ends with the worker that grades it.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Any

import mpmath
from mpmath import mp

from cft_trl.grading.nodes import Unreadable

Function = Callable[[Any], Any]

_MAX_DIGITS = 150  # more would take too long, and only an answer with numbers of many digits asks for more


def infinite_sum(term: Function, first: int) -> Any:
    """The sum of term(first), term(first + 1), … without end; `term` takes a `Fraction`.

    Raises:
        Unreadable: It has no sum, or none that can be made sure of.
    """
    far = [abs(term(Fraction(10**power))) for power in (2, 3)]
    if far[0] > 0.1 or far[1] > far[0]:
        raise Unreadable("terms that do not fall")
    return _settled(lambda: mpmath.nsum(lambda k: term(Fraction(int(k))), [first, mpmath.inf]))


def integral(inside: Function, low: Any, high: Any) -> Any:
    """The integral between two bounds, each a number or infinite.

    Args:
        inside: The integrand.
        low, high: Numbers, or mpmath's infinities.

    Raises:
        Unreadable: It has no value, or none that can be made sure of.
    """

    def computed() -> Any:
        value, error = mpmath.quad(inside, [low, high], error=True)
        if error > mpmath.mpf(10) ** (12 - mp.dps):
            raise Unreadable("an integral that does not settle")
        return value

    return _settled(computed)


def limit(of: Function, point: Any, direction: int) -> Any:
    """The limit at a point: from both sides where `direction` is 0, else from that of its sign.

    Args:
        of: The function.
        point: A number, or an infinity of mpmath's.
        direction: 0, 1 (from above) or -1.

    Raises:
        Unreadable: It has none, or two, or none that can be made sure of.
    """
    if mpmath.isinf(point):
        return _settled(lambda: mpmath.limit(of, point))
    sides = [_settled(partial(mpmath.limit, of, point, direction=side)) for side in (1, -1) if direction in (0, side)]
    if len(sides) == 2 and abs(sides[0] - sides[1]) > mpmath.mpf(10) ** (5 - mp.dps) * max(1, abs(sides[0])):
        raise Unreadable("two limits")
    return sides[0]


def _settled(compute: Callable[[], Any]) -> Any:
    digits = mp.dps
    if digits > _MAX_DIGITS:
        raise Unreadable("too many digits")
    found = []
    for more in (8, 16):
        with mp.workdps(digits + more):
            found.append(compute())
    if not mpmath.isfinite(found[1]):
        raise Unreadable("no number")
    if abs(found[0] - found[1]) > mpmath.mpf(10) ** (5 - digits) * max(1, abs(found[1])):
        raise Unreadable("a value that does not settle")
    return +found[1]
