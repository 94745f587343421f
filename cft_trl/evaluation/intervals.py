"""Confidence intervals for proportions."""

from __future__ import annotations

import math


def wilson_interval(hits: int, total: int, z: float = 1.959964) -> tuple[float, float]:
    """The Wilson score interval of a proportion, 95% unless `z` says otherwise (Wilson, JASA 1927).

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
