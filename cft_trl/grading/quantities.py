r"""Two single answers: their units and words, and then their numbers or formulas.

same_quantity(r"1000\text{ m}", r"1\text{ km}")      # True: units are converted
same_quantity(r"5\text{ boys}", r"5\text{ girls}")   # False
same_value("0.333333", r"\frac{1}{3}")               # True; "0.333" is not: six significant digits are asked for
"""

from __future__ import annotations

import re
from fractions import Fraction
from itertools import permutations

import mpmath

from cft_trl.grading import values
from cft_trl.grading.formulas import try_parse
from cft_trl.grading.measures import Quantity, quantity, words_agree
from cft_trl.grading.nodes import Node
from cft_trl.grading.numerals import Number, to_number
from cft_trl.grading.structure import closes_at_end, key
from cft_trl.grading.units import Dimension, Unit

_ENOUGH_DIGITS = 6
# Temperatures, not differences of them.
_KELVINS: dict[Dimension, str] = {
    (("K", 1),): r"({0}) \cdot {1}",
    (("°C", 1),): r"{0} + \frac{{27315}}{{100}}",
    (("°F", 1),): r"({0} + \frac{{45967}}{{100}}) \cdot \frac{{5}}{{9}}",
}
_HUNDREDTH, _DEGREE = r"\frac{1}{100}", r"\frac{\pi}{180}"


def same_quantity(p: str, g: str) -> bool:
    """Whether two cleaned answers, units and words and all, say the same."""
    one, other = quantity(p), quantity(g)
    if not words_agree(one.words, other.words):
        return False
    if "matrix" in one.words and r"\times" in one.core and r"\times" in other.core:
        return key(one.core) == key(other.core)  # rows and columns are no product
    if one.unit is None and other.unit is None:
        return same_value(_bare(one), _bare(other))
    if one.unit is None or other.unit is None:
        return _beside_bare(one, other) if other.unit is None else _beside_bare(other, one, swapped=True)
    if (one.words or other.words) and one.words != other.words and _counts(one, other):
        return False
    return _with_units(one, other, one.unit, other.unit)


def _bare(one: Quantity) -> str:
    core = one.core.strip()
    while core.startswith(("(", "{")) and closes_at_end(core):
        core = core[1:-1].strip()
    return core


def _counts(one: Quantity, other: Quantity) -> bool:
    return bool(one.words) and bool(other.words)


def _with_units(one: Quantity, other: Quantity, first: Unit, second: Unit) -> bool:
    p, g = _bare(one), _bare(other)
    if first == second:
        return same_value(p, g)
    if first.dimension == second.dimension:
        # Both are brought to base units, exactly.
        ratio = first.factor / second.factor
        return same_value(f"({p}) \\cdot \\frac{{{ratio.numerator}}}{{{ratio.denominator}}}", g)
    names = [dict(unit.dimension) for unit in (first, second)]
    if all(unit.dimension in _KELVINS for unit in (first, second)):
        return same_value(*(_KELVINS[unit.dimension].format(x, unit.factor) for x, unit in ((p, first), (g, second))))
    if names[0].keys() == {"deg"} and names[1].keys() == {"rad"}:
        return same_value(f"({p}) \\cdot {_DEGREE}", g)
    if names[0].keys() == {"rad"} and names[1].keys() == {"deg"}:
        return same_value(p, f"({g}) \\cdot {_DEGREE}")
    # "square units" stand for whatever unit of area is meant.
    lengths = [name.get("unit") or name.get("m") for name in names]
    if any("unit" in name for name in names) and all(len(name) == 1 for name in names) and lengths[0] == lengths[1]:
        return same_value(p, g)
    return any(name == {"unit": 1} for name in names) and same_value(p, g)


def _beside_bare(named: Quantity, bare: Quantity, swapped: bool = False) -> bool:
    """A unit may be left out; a percentage is its number or the hundredth of it, 180 degrees are pi."""

    def same(x: str, y: str) -> bool:
        return same_value(y, x) if swapped else same_value(x, y)

    core, other = _bare(named), _bare(bare)
    if bare.words and named.words != bare.words:
        return False
    if same(core, other):
        return True
    assert named.unit is not None
    dimension = dict(named.unit.dimension)
    if dimension == {"percent": 1}:
        return same(f"({core}) \\cdot {_HUNDREDTH}", other)
    if dimension == {"deg": 1}:
        return same(f"({core}) \\cdot {_DEGREE}", other)
    # 150 cents are 1.50: money is written with two decimals.
    if named.unit.dimension == (("$", 1),) and named.unit.factor != 1 and re.fullmatch(r"\d+\.\d\d", other):
        return same(f"({core}) \\cdot {named.unit.factor.numerator}/{named.unit.factor.denominator}", other)
    return False


# ---- values ----------------------------------------------------------------------------------------------------------


def same_value(p: str, g: str) -> bool:
    r"""Whether two cleaned single expressions, units taken off, are the same number or function.

    Example:
        >>> same_value(r"\frac{10}{4}", "2.5"), same_value("1000000.5", "1000000"), same_value("3.14159", "3.141592653")
        (True, False, False)
        >>> same_value("3.14159", r"\pi"), same_value("3.14", r"\pi"), same_value("2^{2005}+1", "2^{2005}")
        (True, False, False)
    """
    if not p or not g:
        return False
    one, other = to_number(p), to_number(g)
    if one and other:
        if one.value == other.value:
            return True
        return _agree_as_rounded(one, other) or _agree_as_rounded(other, one)
    if key(p) == key(g):
        return True
    a, b = try_parse(p), try_parse(g)
    if a is None or b is None:
        return False
    if values.equal(a, b):
        return True
    for decimal, node in ((one, b), (other, a)):
        if decimal and not node.symbols() and not any(child.op == "based" for child in node.walk()):
            return _agrees_with_value(decimal, node)
    return _same_up_to_constants(a, b) or _same_up_to_constants(b, a)


def _agree_as_rounded(decimal: Number, exact: Number) -> bool:
    """A decimal of at least six significant digits stands for a number that no finite decimal is."""
    if exact.last_digit is not None or _is_finite(exact.value):
        return False
    return _rounds(decimal, exact.value)


def _is_finite(value: Fraction) -> bool:
    below = value.denominator
    for prime in (2, 5):
        while below % prime == 0:
            below //= prime
    return below == 1


def _rounds(decimal: Number, value: Fraction) -> bool:
    if decimal.last_digit is None or decimal.digits < _ENOUGH_DIGITS or decimal.value.denominator == 1:
        return False
    return abs(decimal.value - value) < Fraction(10) ** decimal.last_digit


def _agrees_with_value(decimal: Number, node: Node) -> bool:
    if decimal.last_digit is None or decimal.digits < _ENOUGH_DIGITS:
        return False
    value = values.constant(node, 60)
    if value is None:
        return False
    if isinstance(value, Fraction):
        return not _is_finite(value) and _rounds(decimal, value)
    if isinstance(value, mpmath.mpc):
        if value.imag != 0:
            return False
        value = value.real
    if not mpmath.isfinite(value) or not -200 < mpmath.mag(value) < 4000:
        return False
    with mpmath.workdps(60):
        exact = Fraction(mpmath.nstr(value, 50, min_fixed=-mpmath.inf, max_fixed=mpmath.inf))
    scientific = decimal.last_digit > 0 or decimal.value.denominator == 1
    return abs(decimal.value - exact) < Fraction(10) ** decimal.last_digit if scientific else _rounds(decimal, exact)


# ---- constants of integration ----------------------------------------------------------------------------------------

_ARBITRARY = re.compile(r"[CcKk]|[ABCDKcdk]_[0-9]")
_ALSO_ARBITRARY = re.compile(r"[ABCDKcdk](?:_[0-9])?")
_VARIABLE = re.compile(r"[xyztursvw]|\\?theta|phi")


def _same_up_to_constants(a: Node, b: Node) -> bool:
    r"""The general solution C e^x is A e^x: constants that the solver names may have other names, in any order.

    They are such only where they are added to a function (x^2 + C), or numbered, or multiply an exponential or a wave.
    """
    mine, theirs = a.symbols(), b.symbols()
    arbitrary = sorted(name for name in theirs if _ARBITRARY.fullmatch(name))
    own = sorted(name for name in mine if _ALSO_ARBITRARY.fullmatch(name))
    if arbitrary != own or len(arbitrary) < 2:
        # Names that both sides have are parameters of the question, unless the constants are numbered.
        both = set(arbitrary) & set(own)
        arbitrary = [name for name in arbitrary if name not in both]
        own = [name for name in own if name not in both]
    if not arbitrary or len(arbitrary) != len(own) or len(own) > 3:
        return False
    if not any(_VARIABLE.fullmatch(name) for name in theirs):
        return False
    if not all(_is_constant_of(b, name) for name in arbitrary) or not all(_is_constant_of(a, name) for name in own):
        return False
    return any(values.equal(_renamed(a, dict(zip(own, order, strict=True))), b) for order in permutations(arbitrary))


def _is_constant_of(node: Node, name: str) -> bool:
    """Whether a symbol is added, or multiplies what is no polynomial; anything if it has a number."""
    if "_" in name:
        return True
    terms = node.args if node.op == "add" else (node,)
    holding = [term for term in terms if name in term.symbols()]
    if len(holding) != 1:
        return False
    term = holding[0].args[0] if holding[0].op == "neg" else holding[0]
    if term.op == "sym":
        others = [other for other in terms if other is not holding[0]]
        return any(_VARIABLE.fullmatch(symbol) for other in others for symbol in other.symbols())
    waves = {"exp", "sin", "cos", "sinh", "cosh", "ln"}
    rising = any(
        (child.op == "pow" and any(_VARIABLE.fullmatch(symbol) for symbol in child.args[1].symbols()))
        or (child.op == "fn" and child.value in waves)
        for child in term.walk()
    )
    return term.op == "mul" and rising


def _renamed(node: Node, names: dict[str, str]) -> Node:
    if node.op == "sym":
        return Node("sym", (), names.get(node.value, node.value))
    return Node(node.op, tuple(_renamed(child, names) for child in node.args), node.value)
