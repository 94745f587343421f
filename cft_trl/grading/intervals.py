"""Confidence intervals for scores: proportions, and the harmonic mean of two of them.

wilson_interval(80, 100)                        # (0.711, 0.867)
harmonic_interval((0.4, 0.6), (0.2, 0.5))       # (0.267, 0.545)
"""

from __future__ import annotations

import math


def wilson_interval(hits: float, total: int, z: float = 1.959964) -> tuple[float, float]:
    """The Wilson score interval of a proportion, 95% unless `z` says otherwise (Wilson, JASA 1927).

    Args:
        hits: How many succeeded; a fraction where each of `total` problems counts with the mean of its samples. The
            interval is then a little wide, never too narrow: a mean varies less than a single sample.
        total: How many there were.

    Example:
        >>> [round(bound, 3) for bound in wilson_interval(80, 100)]
        [0.711, 0.867]
    """
    if total == 0:
        return 0.0, 1.0
    share, z2 = hits / total, z * z
    centre = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = z / (1 + z2 / total) * math.sqrt(share * (1 - share) / total + z2 / (4 * total * total))
    # The bounds at 0 and at `total` hits are exactly 0 and 1; rounding must not leave 0.9999999.
    return (0.0 if hits == 0 else centre - half), (1.0 if hits == total else centre + half)


def harmonic_mean(first: float, second: float) -> float:
    """The harmonic mean of two shares: 0 when either is 0, so that "always wrong" is no way to a good F1.

    Example:
        >>> harmonic_mean(1.0, 0.0), harmonic_mean(0.5, 0.5)
        (0.0, 0.5)
    """
    return 2 * first * second / (first + second) if first + second else 0.0


def harmonic_interval(first: tuple[float, float], second: tuple[float, float]) -> tuple[float, float]:
    """An interval for the harmonic mean of two shares, from an interval of each (two different sets of rows).

    The harmonic mean grows with both, so the lower bounds give its lower bound. It is wider than it need be, and unlike
    a bootstrap it does not shrink to a point where one share is 0 or 1.

    Example:
        >>> [round(bound, 3) for bound in harmonic_interval((0.4, 0.6), (0.2, 0.5))]
        [0.267, 0.545]
    """
    return harmonic_mean(first[0], second[0]), harmonic_mean(first[1], second[1])
