"""What a visitor asks for, checked before any model is troubled.

Ask("critique", "What is 2 + 2?", "It is 5.", max_new_tokens=256)
checked(ask, settings)     # the ask, trimmed; or a CFTError that the visitor can act on:
# The question is 1,000,000 characters long; this Space takes up to 4,000. Please shorten it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from cft_trl.demo.settings import DemoSettings
from cft_trl.errors import CFTError
from cft_trl.generation.modes import MODES

# Above this a sampled text is noise.
MAX_TEMPERATURE = 1.5
MAX_SEED = 2**31 - 1


@dataclass(frozen=True)
class Ask:
    """One request.

    Attributes:
        mode: One of `inference.MODES`.
        solution: What mode `critique` is about.
        temperature: 0 is greedy.
        max_rounds: Of mode `two_stage`.
        seed: None draws anew each time.
    """

    mode: str
    query: str
    solution: str = ""
    max_new_tokens: int = 256
    temperature: float = 0.0
    max_rounds: int = 3
    seed: int | None = None


def checked(ask: Ask, settings: DemoSettings) -> Ask:
    """The request with trimmed texts and whole numbers.

    Raises:
        CFTError: Something is missing, too long or out of range; the message is a sentence for the visitor.

    Example:
        >>> checked(Ask("direct", "  "), DemoSettings())
        Traceback (most recent call last):
        cft_trl.errors.CFTError: There is no question yet. Write one, or pick an example.
    """
    if not isinstance(ask.mode, str) or ask.mode not in MODES:
        raise CFTError(f"There is no such mode. The modes are {', '.join(MODES)}.")
    query = _text(ask.query, "question", settings.max_question)
    solution = _text(ask.solution, "solution", settings.max_solution) if ask.mode == "critique" else ""
    return replace(
        ask,
        query=query,
        solution=solution,
        max_new_tokens=_whole(ask.max_new_tokens, "The longest answer", 1, settings.max_new_tokens, " tokens"),
        temperature=_number(ask.temperature, "The temperature", 0, MAX_TEMPERATURE),
        max_rounds=_whole(ask.max_rounds, "The number of rounds", 1, settings.max_rounds),
        seed=None if ask.seed is None else _whole(ask.seed, "The seed", 0, MAX_SEED),
    )


def _text(value: object, name: str, most: int) -> str:
    if value is not None and not isinstance(value, str):
        raise CFTError(f"The {name} must be a text, not {_kind(value)}.")
    if value is None or not value.strip():
        raise CFTError(f"There is no {name} yet. Write one, or pick an example.")
    # Length first: nothing else is done with a megabyte.
    if len(value) > most:
        raise CFTError(
            f"The {name} is {len(value):,} characters long; this Space takes up to {most:,}. Please shorten it."
        )
    return value.strip()


def _number(value: object, name: str, least: float, most: float, unit: str = "", kind: str = "number") -> float:
    number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if not least <= number <= most or (kind != "number" and number != int(number)):
        raise CFTError(f"{name} must be a {kind} from {least:,} to {most:,}{unit}.")
    return number


def _whole(value: object, name: str, least: int, most: int, unit: str = "") -> int:
    return int(_number(value, name, least, most, unit, "whole number"))


def _kind(value: object) -> str:
    """What JSON calls it: whoever sent it sent JSON."""
    kinds = {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return kinds.get(type(value), "this")
