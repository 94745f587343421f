r"""Single expressions for the `paper` grader: read by math-verify, compared as when its figures were measured.

    r"2 \sin x \cos x" and r"\sin 2x" agree to 25 digits at six unrelated points, real and negative ones among them;
    r"\sqrt{x^2}" and "x" do not. "0.333333" stands for 1/3 and "0.333" does not (six significant digits are asked for).

math-verify's own comparison is used where there is no value to compare: relations, sets, differential equations. Its
numeric rule rounds to a number of decimals and so calls 1e-9 equal to 0; values are compared here instead.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

from cft_trl.grading.paper_notation import Number, to_number

_ENOUGH_DIGITS = 6
_DEGREES = re.compile(r"(\d+(?:\.\d+)?)\s*\^\\circ")


def same_value(p: str, g: str) -> bool:
    r"""Whether two cleaned single expressions, units taken off, are the same number or function.

    Example:
        >>> same_value(r"\frac{10}{4}", "2.5"), same_value("1000000.5", "1000000"), same_value("3.14159", "3.141592653")
        (True, False, True)
    """
    one, other = to_number(p), to_number(g)
    if one and other:
        return one.value == other.value or _agree_as_rounded(one, other.value) or _agree_as_rounded(other, one.value)
    a, b = parse_expression(p), parse_expression(g)
    if a is None or b is None:
        return False
    return _same_expression(a, b, one, other)


def _agree_as_rounded(decimal: Number, value: Fraction) -> bool:
    """A decimal of at least six significant digits stands for a value that differs by less than its last digit."""
    if decimal.last_digit is None or decimal.digits < _ENOUGH_DIGITS or decimal.value == 0:
        return False
    # An integer is exact: 1000000.5 is not 1000000, however near.
    if value.denominator == 1 and decimal.value.denominator != 1:
        return False
    return abs(decimal.value - value) < Fraction(10) ** decimal.last_digit


def parse_expression(text: str) -> Any | None:
    """A sympy object for a cleaned expression by math-verify's parser, decimals exact; `None` if it cannot be read."""
    from latex2sympy2_extended import NormalizationConfig
    from math_verify import LatexExtractionConfig, parse
    from sympy import Float, I, Rational, Symbol

    # Units are split off above; the parser's own list takes letters like m and h, which are variables here.
    rules = NormalizationConfig(basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none")
    config = LatexExtractionConfig(normalization_config=rules)
    text = _DEGREES.sub(r"(\\frac{\1 \\pi}{180})", text)
    parsed = parse(f"${text}$", extraction_config=[config], fallback_mode="no_fallback", parsing_timeout=3600)
    if not parsed:
        return None
    found = parsed[0]
    if not hasattr(found, "atoms"):
        return None
    exact: dict[Any, Any] = {value: Rational(str(value)) for value in found.atoms(Float)}
    symbols = {symbol.name: symbol for symbol in found.atoms(Symbol)}
    # The parser leaves i a symbol; beside j or k it is a unit vector, else the imaginary unit.
    if "i" in symbols and not {"j", "k"} & set(symbols):
        exact[symbols["i"]] = I
    return found.xreplace(exact) if exact else found


def _same_expression(a: Any, b: Any, one: Number | None, other: Number | None) -> bool:
    import mpmath
    from sympy import Expr

    if not (isinstance(a, Expr) and isinstance(b, Expr)):
        return _library_compare(a, b)
    names = [sorted(symbol.name for symbol in x.free_symbols) for x in (a, b)]
    if names[0] != names[1]:
        return False
    if not names[0]:
        values = [expression_value(x, {}) for x in (a, b)]
        if values[0] is None or values[1] is None:
            return _library_compare(a, b)
        if _close(values[0], values[1], 1e-35):
            return True
        for decimal, value in ((one, values[1]), (other, values[0])):
            if decimal and value.imag == 0 and _agree_as_rounded(decimal, Fraction(mpmath.nstr(value.real, 40))):
                return True
        return False
    agreed = 0
    for point in range(6):
        at = {name: _coordinate(name, point) for name in names[0]}
        values = [expression_value(x, at) for x in (a, b)]
        if values[0] is None or values[1] is None:
            continue
        if not _close(values[0], values[1], 1e-25):
            return False
        agreed += 1
    # Analytic expressions that agree to 25 digits at four unrelated points are the same expression.
    return agreed >= 4 or (agreed == 0 and _library_compare(a, b))


def _coordinate(name: str, point: int) -> Any:
    from sympy import Rational

    seed = sum(ord(letter) * 31**i for i, letter in enumerate(name)) + 7919 * point
    value = Rational(1009 + seed % 8837, 4001)
    return -value if (seed // 7 + point) % 3 == 0 else value


def expression_value(expression: Any, at: dict[str, Any] | None = None) -> Any | None:
    """The complex value to 40 digits (an `mpmath.mpc`), or `None` when there is none.

    Args:
        expression: What `parse_expression` returned.
        at: A number per free symbol's name; for an expression without symbols, nothing.
    """
    import mpmath
    from sympy import Expr

    at = at or {}
    if not isinstance(expression, Expr):
        return None
    try:
        fixed = expression.subs({symbol: at[symbol.name] for symbol in expression.free_symbols if symbol.name in at})
        number = fixed.evalf(40)
        real, imaginary = number.as_real_imag()
        if not (real.is_Float or real.is_Rational) or not (imaginary.is_Float or imaginary.is_Rational):
            return None
        with mpmath.workdps(45):
            value = mpmath.mpc(_float(real), _float(imaginary))
            return value if mpmath.isfinite(value) else None
    except (ValueError, TypeError, ArithmeticError, AttributeError, NotImplementedError):
        return None


def _float(number: Any) -> Any:
    import mpmath

    return mpmath.mpf(number.p) / number.q if number.is_Rational else mpmath.mpf(number._mpf_)


def _close(a: Any, b: Any, tolerance: float) -> bool:
    import mpmath

    with mpmath.workdps(45):
        return bool(abs(a - b) <= tolerance * max(abs(a), abs(b), mpmath.mpf(10) ** -12))


def _library_compare(prediction: Any, gold: Any) -> bool:
    """math-verify's own comparison, at 15 decimals instead of its 6."""
    from math_verify import verify

    return bool(verify(gold, prediction, precision=15, strict=True, timeout_seconds=3600))
