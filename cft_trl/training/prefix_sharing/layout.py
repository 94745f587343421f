"""The layout of a pack of prefix trees, read off one number per token: until where it is seen.

seen_until   8 8 5 5 5 8 8 8      two tokens that all others see, then a branch of three and another one
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stretch:
    """Tokens `start:end` that follow each other, behind the stretches `prefix` (indices, outermost first).

    The tokens of `end:until` hang on them.
    """

    start: int
    end: int
    until: int
    prefix: tuple[int, ...]


def stretches(seen_until: list[int]) -> list[Stretch]:
    """Takes the layout of a pack apart.

    Example:
        >>> for stretch in stretches([8, 8, 5, 5, 5, 8, 8, 8]):
        ...     print(stretch)
        Stretch(start=0, end=2, until=8, prefix=())
        Stretch(start=2, end=5, until=5, prefix=(0,))
        Stretch(start=5, end=8, until=8, prefix=(0,))
    """
    found: list[Stretch] = []
    open_ones: list[int] = []
    start = 0
    for position in range(1, len(seen_until) + 1):
        if position < len(seen_until) and seen_until[position] == seen_until[start]:
            continue
        while open_ones and found[open_ones[-1]].until <= start:
            open_ones.pop()
        found.append(Stretch(start, position, seen_until[start], tuple(open_ones)))
        open_ones.append(len(found) - 1)
        start = position
    return found


def position_ids(seen_until: list[int]) -> list[int]:
    """Each token's position in its row.

    Example:
        >>> position_ids([8, 8, 5, 5, 5, 8, 8, 8])
        [0, 1, 2, 3, 4, 2, 3, 4]
    """
    positions: list[int] = []
    found = stretches(seen_until)
    for stretch in found:
        before = sum(found[i].end - found[i].start for i in stretch.prefix)
        positions += range(before, before + stretch.end - stretch.start)
    return positions
