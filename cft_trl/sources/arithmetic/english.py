"""The little English the templates need: plurals, counted nouns, people and units of measure.

>>> quantity(1, "loaf"), quantity(3, "loaf"), quantity(24, "mile per hour")
('1 loaf', '3 loaves', '24 miles per hour')
"""

import re
from functools import lru_cache

from .numbers import Number, decimals, plain

IRREGULAR = {
    "child": "children", "foot": "feet", "half": "halves", "knife": "knives", "leaf": "leaves", "loaf": "loaves",
    "man": "men", "percent": "percent", "person": "people", "sheep": "sheep", "shelf": "shelves", "woman": "women",
}  # fmt: skip

# A name and the pronouns that go with it. No name ends in "s", so that "{name}'s" is always right.
PEOPLE = tuple(
    [(name, "she", "her", "her") for name in (
        "Ada", "Amara", "Bea", "Carmen", "Dina", "Elena", "Farah", "Grace", "Hana", "Ingrid", "Jade", "Kira", "Lena",
        "Mei", "Nora", "Olga", "Priya", "Rosa", "Sofia", "Tara", "Uma", "Vera", "Wendy", "Yuki", "Zoe",
    )]
    + [(name, "he", "his", "him") for name in (
        "Adam", "Ben", "Carlo", "David", "Emil", "Felix", "George", "Hugo", "Ivan", "Jonah", "Kofi", "Leo", "Marco",
        "Nate", "Omar", "Peter", "Quentin", "Ravi", "Sam", "Tom", "Umar", "Victor", "Walter", "Yusuf", "Zane",
    )]
)  # fmt: skip

# What a careless solver writes in place of a unit. A unit is "known" to the checker when it appears here at all.
CONFUSED_UNITS = {
    "second": ("minute",), "minute": ("hour", "second"), "hour": ("minute", "day"), "day": ("week", "hour"),
    "week": ("day", "month"), "month": ("year", "week"), "year": ("month",),
    "millimeter": ("centimeter",), "centimeter": ("meter", "millimeter"), "meter": ("centimeter", "kilometer"),
    "kilometer": ("meter", "mile"), "inch": ("foot",), "foot": ("inch", "yard"), "yard": ("foot",),
    "mile": ("kilometer",), "gram": ("kilogram",), "kilogram": ("gram", "pound"), "ounce": ("pound",),
    "pound": ("ounce", "kilogram"), "milliliter": ("liter",), "liter": ("milliliter",), "cent": ("dollar",),
    "dollar": ("cent",), "square meter": ("meter",), "square foot": ("foot",), "square centimeter": ("centimeter",),
    "cubic centimeter": ("square centimeter",), "cubic meter": ("square meter",),
    "kilometer per hour": ("kilometer",), "mile per hour": ("mile",), "dollar per hour": ("dollar",),
}  # fmt: skip

# Units of one row measure the same thing, so a step from one to another is a conversion.
FAMILIES = (
    ("second", "minute", "hour", "day", "week", "month", "year"),
    ("millimeter", "centimeter", "meter", "kilometer", "inch", "foot", "yard", "mile"),
    ("gram", "kilogram", "ounce", "pound"),
    ("milliliter", "liter", "cubic centimeter"),
    ("cent", "dollar"),
)
_FAMILY = {unit: number for number, family in enumerate(FAMILIES) for unit in family}


def converts(source: str, target: str) -> bool:
    """Whether going from one unit to the other is a conversion: `converts("minute", "hour")` is true."""
    return source != target and source in _FAMILY and _FAMILY.get(target) == _FAMILY[source]


@lru_cache(maxsize=4096)
def plural(noun: str) -> str:
    """The plural of a noun phrase; in "mile per hour" and "slice of bread" the head word changes."""
    phrase = re.match(r"(.*?)( (?:per|of|for|in) .*)?$", noun)
    assert phrase is not None  # a noun is one line, and both parts may be empty
    head, tail = phrase.group(1), phrase.group(2) or ""
    *before, word = head.split(" ")
    if word in IRREGULAR:
        word = IRREGULAR[word]
    elif re.search(r"(s|x|z|ch|sh|tomato|potato|hero)$", word):
        word += "es"
    elif re.search(r"[^aeiou]y$", word):
        word = word[:-1] + "ies"
    else:
        word += "s"
    return " ".join([*before, word]) + tail


def counted(value: Number, noun: str) -> str:
    """The noun in the form that fits the number: singular for exactly one, else plural."""
    return noun if value == 1 else plural(noun)


def quantity(value: Number, noun: str) -> str:
    """A number with its noun, `3 loaves`; a bare number where there is no noun."""
    return f"{plain(value)} {counted(value, noun)}" if noun else plain(value)


def is_clean(value: Number, unit: str, places: int) -> bool:
    """Whether a value needs no more than `places` decimals, and none where the unit is counted: no 44.8 boys."""
    if isinstance(value, int):
        return True
    needed = decimals(value)
    return needed is not None and needed <= places and (unit in CONFUSED_UNITS or unit == "percent")


def money(value: Number) -> str:
    """Dollars as a price tag has them: `$5`, `$2.50`."""
    return f"${value}" if isinstance(value, int) else f"${float(value):.2f}"
