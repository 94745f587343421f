"""The little English the templates need: plurals, counted nouns, people and units of measure.

>>> quantity(1, "loaf"), quantity(3, "loaf"), quantity(24, "mile per hour")
('1 loaf', '3 loaves', '24 miles per hour')
"""

import re
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from cft_trl.data.tables import check_keys, is_text, is_texts, read_table

from .numbers import Number, decimals, plain

FILE = Path(__file__).with_name("english.yaml")


class Vocabulary(NamedTuple):
    """The words of english.yaml, whose comments explain them."""

    people: list[tuple[str, str, str, str]]  # a name and the pronouns that go with it: Ada, she, her, her
    plurals: dict[str, str]
    confused_units: dict[str, list[str]]
    measures: list[list[str]]


@cache
def vocabulary() -> Vocabulary:
    """The words, read when the first is needed.

    Raises:
        CFTError: The file is broken; the message says where.
    """
    return read_vocabulary(FILE)


def read_vocabulary(path: Path) -> Vocabulary:
    """As `vocabulary`, of any file.

    Raises:
        CFTError: A list is missing, or something in it is no word.
    """
    told = read_table(path)
    forms = {
        "people": lambda people: isinstance(people, list),
        "plurals": lambda plurals: _is_mapping(plurals, is_text),
        "confused_units": lambda units: _is_mapping(units, is_texts),
        "measures": lambda measures: isinstance(measures, list) and all(map(is_texts, measures)),
    }
    check_keys(told, forms, str(path))
    for people in told["people"]:
        three = {"pronouns": lambda words: is_texts(words) and len(words) == 3, "names": is_texts}
        check_keys(people, three, f"{path}, people")
    told["people"] = [(name, *group["pronouns"]) for group in told["people"] for name in group["names"]]
    return Vocabulary(**told)


def _is_mapping(value: Any, will_do: Any) -> bool:
    return isinstance(value, dict) and all(is_text(key) and will_do(each) for key, each in value.items())


@lru_cache(maxsize=4096)
def converts(source: str, target: str) -> bool:
    """Whether going from one unit to the other is a conversion: `converts("minute", "hour")` is true."""
    return source != target and any(source in units and target in units for units in vocabulary().measures)


@lru_cache(maxsize=4096)
def plural(noun: str) -> str:
    """The plural of a noun phrase; in "mile per hour" and "slice of bread" the head word changes."""
    phrase = re.match(r"(.*?)( (?:per|of|for|in) .*)?$", noun)
    assert phrase is not None  # a noun is one line, and both parts may be empty
    head, tail = phrase.group(1), phrase.group(2) or ""
    *before, word = head.split(" ")
    if word in vocabulary().plurals:
        word = vocabulary().plurals[word]
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
    """Whether a value needs no more than `places` decimals, and none where the unit is counted: no 44.8 boys.

    Args:
        value: A number of the problem.
        unit: What it counts or measures.
        places: The most decimals it may have.
    """
    if isinstance(value, int):
        return True
    needed = decimals(value)
    return needed is not None and needed <= places and (unit in vocabulary().confused_units or unit == "percent")


def money(value: Number) -> str:
    """Dollars as a price tag has them: `$5`, `$2.50`."""
    return f"${value}" if isinstance(value, int) else f"${float(value):.2f}"
