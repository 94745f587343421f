"""Exact numbers and their plain spelling: what `24`, `2.5` and `3 × 8 = 24` mean.

A number is an `int` when it is whole and a `fractions.Fraction` otherwise, so no value is ever rounded:

    >>> compute(5, "÷", 2)
    Fraction(5, 2)
    >>> plain(compute(5, "÷", 2))
    '2.5'
"""

from fractions import Fraction
from functools import lru_cache

Number = int | Fraction
OPERATIONS = ("+", "-", "×", "÷")
COMMUTATIVE = ("+", "×")


def exact(value: Number | str) -> Number:
    """An `int` where the value is whole, else a `Fraction`. Reads plain decimals such as `"2.5"` too."""
    if isinstance(value, int):
        return value
    if isinstance(value, str):
        return _read(value)
    return value.numerator if value.denominator == 1 else value


@lru_cache(maxsize=65536)
def _read(text: str) -> Number:
    """Reads `24` or `2.5`, by hand: Fraction's own parser takes ten times as long."""
    whole, _, part = text.partition(".")
    return exact(Fraction(int(whole + part), 10 ** len(part)))


def compute(left: Number, op: str, right: Number) -> Number | None:
    """The exact result of one operation, or None for a division by zero.

    Args:
        left, right: The operands.
        op: One of `OPERATIONS`.

    Raises:
        ValueError: Another operation.
    """
    if op == "+":
        return exact(left + right)
    if op == "-":
        return exact(left - right)
    if op == "×":
        return exact(left * right)
    if op == "÷":
        if not right:
            return None
        if isinstance(left, int) and isinstance(right, int):
            return left // right if left % right == 0 else Fraction(left, right)
        return exact(Fraction(left) / right)
    raise ValueError(f"operation {op!r} is none of {' '.join(OPERATIONS)}")


def decimals(value: Number) -> int | None:
    """How many decimals the value needs; None where no finite number of them is exact."""
    if isinstance(value, int):
        return 0
    rest, counts = value.denominator, [0, 0]
    for place, prime in enumerate((2, 5)):
        while rest % prime == 0:
            rest //= prime
            counts[place] += 1
    return max(counts) if rest == 1 else None


@lru_cache(maxsize=65536)
def plain(value: Number) -> str:
    """The value as people type it: `24`, `2.5`, `-3`. Only values with a finite decimal form have one.

    Raises:
        ValueError: It has none.
    """
    if isinstance(value, int):
        return str(value)
    places = decimals(value)
    if places is None:
        raise ValueError(f"{value} has no exact decimal form")
    digits = str(abs(value.numerator) * 10**places // value.denominator).rjust(places + 1, "0")
    return f"{'-' if value < 0 else ''}{digits[:-places]}.{digits[-places:]}"
