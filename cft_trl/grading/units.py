r"""Units of measure: their dimensions and exact factors.

    read_unit("square inches")      # dimension m^2, factor 0.0254^2
    read_unit("m s^{-1} north")     # dimension m s^-1, and the rest: "north"

Units are symbols with their prefixes (mA is no A) or words; a unit has a dimension and an exact factor, so that 1000 m
are 1 km.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from string import ascii_letters
from typing import NamedTuple

Dimension = tuple[tuple[str, int], ...]


class Unit(NamedTuple):
    """Dimension (base unit and power, sorted) and the factor to base units."""

    dimension: Dimension
    factor: Fraction


# ---- the table -------------------------------------------------------------------------------------------------------

# base dimension: symbols and words with their factor. "~" before a factor: takes SI prefixes.
_TABLE = """
m: m ~1; meter metre ~1; in inch inche 0.0254; ft foot feet 0.3048; yd yard 0.9144; mi mile 1609.344; micron 1e-6
m: angstrom Å 1e-10; AU au 149597870700; ly lightyear light-year 9460730472580800; pc parsec ~30856775814913673
m: furlong 201.168; fathom 1.8288
g: g gm gram gramme ~1; t ton tonne 1000000; lb lbs pound 453.59237; oz ounce 28.349523125; stone 6350.29318
g: amu u dalton 1.66053906660e-24
s: s sec second ~1; min minute 60; h hr hour 3600; d day 86400; week wk 604800; fortnight 1209600
month: month mo 1; yr year 12; decade 120; century centurie 1200
A: A amp ampere ~1
K: K kelvin ~1
°C: °C celsius centigrade 1
°F: °F fahrenheit 1
mol: mol mole ~1
cd: cd candela 1
deg: deg degree ° 1; arcmin arcminute 1/60; arcsec arcsecond 1/3600
rad: rad radian ~1
sr: sr steradian 1
$: $ dollar usd buck USD 1; cent ¢ penny pennie 1/100; nickel 1/20; dime 1/10; quarter 1/4
€: € euro EUR eur 1
£: £ GBP gbp quid 1; pence 1/100
¥: ¥ yen JPY yuan RMB 1
₹: ₹ rupee Rs INR 1
percent: % percent pct percentage 1
point: percentage-point pp 1
unit: unit 1
bit: bit ~1; B byte ~8
rev: revolution rev 1; turn 1
person: person people 1
"""
_DERIVED = """
N newton ~1000 m1 g1 s-2; J joule ~1000 m2 g1 s-2; W watt ~1000 m2 g1 s-3; Pa pascal ~1000 m-1 g1 s-2; Hz hertz ~1 s-1
C coulomb ~1 A1 s1; V volt ~1000 m2 g1 s-3 A-1; Ω ohm ~1000 m2 g1 s-3 A-2; F farad ~1/1000 m-2 g-1 s4 A2
T tesla ~1000 g1 s-2 A-1; Wb weber ~1000 m2 g1 s-2 A-1; H henry ~1000 m2 g1 s-2 A-2; S siemens ~1/1000 m-2 g-1 s3 A2
L l liter litre ~1/1000 m3; gal gallon 0.003785411784 m3; qt quart 0.000946352946 m3; pt pint 0.000473176473 m3
cup 0.0002365882365 m3; tbsp tablespoon 0.00001478676478125 m3; tsp teaspoon 0.00000492892159375 m3; cc 1e-6 m3
floz 0.0000295735295625 m3
eV electronvolt ~1.602176634e-16 m2 g1 s-2; cal calorie ~4184 m2 g1 s-2; Cal 4184000 m2 g1 s-2
BTU btu 1055055.85262 m2 g1 s-2
erg 1/10000 m2 g1 s-2; dyn dyne 1/100 m1 g1 s-2; hp horsepower 745699.87158227 m2 g1 s-3; Wh ~3600000 m2 g1 s-2
atm atmosphere 101325000 m-1 g1 s-2; bar ~100000000 m-1 g1 s-2; mmHg torr 133322.387415 m-1 g1 s-2
psi 6894757.293168 m-1 g1 s-2
mph 0.44704 m1 s-1; kmh kph 5/18 m1 s-1; knot 463/900 m1 s-1; fps 0.3048 m1 s-1
acre 4046.8564224 m2; ha hectare 10000 m2; sqft 0.09290304 m2; sqm 1 m2; sqcm 0.0001 m2; M molar ~1000 mol1 m-3
Bq becquerel ~1 s-1; Gy gray ~1 m2 s-2; rpm 1/60 rev1 s-1; P poise ~100 m-1 g1 s-1; G gauss 1/10 g1 s-2 A-1
"""
_PREFIXES = {
    "Y": 24, "Z": 21, "E": 18, "P": 15, "T": 12, "G": 9, "M": 6, "k": 3, "h": 2, "da": 1, "d": -1, "c": -2, "m": -3,
    "μ": -6, "u": -6, "n": -9, "p": -12, "f": -15, "a": -18,
}  # fmt: skip
_PREFIX_WORDS = {
    "tera": 12, "giga": 9, "mega": 6, "kilo": 3, "hecto": 2, "deci": -1, "centi": -2, "milli": -3, "micro": -6,
    "nano": -9, "pico": -12, "femto": -15,
}  # fmt: skip


def _read_tables() -> dict[str, tuple[Fraction, bool, dict[str, int]]]:
    table: dict[str, tuple[Fraction, bool, dict[str, int]]] = {}
    for line in _TABLE.strip().splitlines():
        base, _, groups = line.partition(": ")
        for group in groups.split(";"):
            *names, factor = group.split()
            for name in names:
                table[name] = (Fraction(factor.lstrip("~")), factor.startswith("~"), {base: 1})
    for group in _DERIVED.replace("\n", ";").split(";"):
        words = group.split()
        place = next((at for at, word in enumerate(words) if re.fullmatch(r"~?[\d./e-]+", word)), None)
        if place is None:
            continue
        size = Fraction(words[place].lstrip("~"))
        dimension = {word.rstrip("-0123456789"): int(word.lstrip(ascii_letters)) for word in words[place + 1 :]}
        for name in words[:place]:
            table[name] = (size, words[place].startswith("~"), dict(dimension))
    return table


_UNITS = _read_tables()


@lru_cache(maxsize=2048)
def _named(word: str) -> tuple[Fraction, dict[str, int]] | None:
    """A unit's factor and dimension by symbol (case matters) or word (it does not)."""
    if word in _UNITS:
        factor, _, base = _UNITS[word]
        return factor, base
    for length in (1, 2):
        prefix, rest = word[:length], word[length:]
        if prefix in _PREFIXES and rest in _UNITS and _UNITS[rest][1] and len(rest) <= 3:
            return _UNITS[rest][0] * Fraction(10) ** _PREFIXES[prefix], _UNITS[rest][2]
    if len(word) < 3:
        # "CM" and "Kg" are meant; "M" is no m.
        folded = word.lower()
        return (_UNITS[folded][0], _UNITS[folded][2]) if len(word) == 2 and folded in _UNITS else _kilo(folded)
    folded = word.lower().rstrip(".")
    for name in (folded, folded.removesuffix("s"), folded.removesuffix("es"), folded.removesuffix("s") + "e"):
        if len(name) > 1 and name in _UNITS and (len(name) > 2 or name != folded):
            return _UNITS[name][0], _UNITS[name][2]
        for prefix, power in _PREFIX_WORDS.items():
            rest = name.removeprefix(prefix)
            if rest != name and rest in _UNITS and _UNITS[rest][1] and len(rest) > 2:
                return _UNITS[rest][0] * Fraction(10) ** power, _UNITS[rest][2]
    return None


def _kilo(folded: str) -> tuple[Fraction, dict[str, int]] | None:
    known = {"kg": "g", "km": "m", "cm": "m", "mm": "m"}.get(folded)
    return (Fraction(10) ** _PREFIXES[folded[0]], _UNITS[known][2]) if known else None


# ---- reading a unit --------------------------------------------------------------------------------------------------

_PIECE = re.compile(
    r"\\cdot|\\times|[*·/]|\\frac\s*\{([^{}]+)\}\s*\{([^{}]+)\}|\^\s*\\circ\s*(?:[CFK](?![A-Za-z]))?|°\s*[CF]?|\\?%|\\?\$|[€£¥₹¢]"
    r"|\^\s*(?:\{\s*(-?\d)\s*\}|(-?\d))|\^\s*\\circ|\\(?:Omega|mu|circ|AA|deg)(?![A-Za-z])|[A-Za-zμΩÅ]+(?:-[a-z]+)?\.?|\S"
)
_POWER_BEFORE = {"square": 2, "sq": 2, "sq.": 2, "cubic": 3, "cu": 3, "cu.": 3}
_POWER_AFTER = {"squared": 2, "cubed": 3}
_SYMBOLS = {r"\Omega": "Ω", r"\AA": "Å", r"\deg": "deg", r"\%": "%", r"\$": "$"}


def read_unit(text: str) -> tuple[Unit | None, str]:
    """The longest unit that a text begins with, and the rest of it.

    Example:
        >>> read_unit("square inches")[0] == read_unit("in^2")[0], read_unit("m s^{-1} north")[1]
        (True, 'north')
        >>> read_unit("mA")[0].factor, read_unit("apples")
        (Fraction(1, 1000), (None, 'apples'))
    """
    dimension: dict[str, int] = {}
    factor, sign, power, read, last = Fraction(1), 1, 1, 0, None
    for match in _PIECE.finditer(text.replace(r"\mu ", "μ").replace(r"\mu", "μ")):
        piece = match[0].strip()
        raised = match[3] or match[4]
        if raised:
            if last is None:
                break
            last_factor, last_base, last_sign = last
            times = int(raised) - 1
            factor *= last_factor ** (last_sign * times)
            for base, p in last_base.items():
                dimension[base] = dimension.get(base, 0) + last_sign * times * p
            read, last = match.end(), None
            continue
        if piece.lower() in ("/", "per"):
            sign = -1
            continue
        if piece in (r"\cdot", "*", "·", r"\times", "-", "(", ")"):
            continue
        if piece.lower() in _POWER_BEFORE:
            power = _POWER_BEFORE[piece.lower()]
            continue
        if piece.lower() in _POWER_AFTER and last is not None:
            for base, p in last[1].items():
                dimension[base] = dimension.get(base, 0) + last[2] * (_POWER_AFTER[piece.lower()] - 1) * p
            factor *= last[0] ** (last[2] * (_POWER_AFTER[piece.lower()] - 1))
            read, last = match.end(), None
            continue
        found = _unit_piece(match, piece, first=read == 0)
        if found is None:
            break
        own, powers = found
        factor *= own ** (sign * power)
        for name, p in powers.items():
            dimension[name] = dimension.get(name, 0) + sign * power * p
        last, read = (own, powers, sign), match.end()
        # After "/" all that follows stands below: J/mol K.
        power = 1
    if not read:
        return None, text.strip()
    unit = Unit(tuple(sorted((name, p) for name, p in dimension.items() if p)), factor)
    return unit, text.replace(r"\mu ", "μ").replace(r"\mu", "μ")[read:].strip()


def _unit_piece(match: re.Match[str], piece: str, first: bool) -> tuple[Fraction, dict[str, int]] | None:
    if match[1]:
        above, below = read_unit(match[1]), read_unit(match[2])
        if above[0] is None or below[0] is None or above[1] or below[1]:
            return None
        powers = dict(above[0].dimension)
        for name, p in below[0].dimension:
            powers[name] = powers.get(name, 0) - p
        return above[0].factor / below[0].factor, powers
    if piece.startswith("^") or piece.startswith("°") or piece == r"\circ":
        letter = piece[-1] if piece[-1] in "CFK" else ""
        return _named({"C": "°C", "F": "°F", "K": "K"}.get(letter, "deg"))
    name = _SYMBOLS.get(piece, piece)
    if len(name) == 1 and name in "ad" and not first:
        return None
    return _named(name.rstrip(".")) if name.isalpha() or name in "%$€£¥₹¢ΩÅ" or "-" in name else None
