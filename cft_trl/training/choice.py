"""Which of the scored checkpoints is chosen, and what may be said of the others.

    {"step": 40, "hits": 31, "of": 50, "score": 0.62, "interval_95": [0.482, 0.741], …}                  a point
    {…, "of": 25, "left": {"after": 25, "against": 40, "lost": 9, "won": 1, "p": 0.0107}}      of one that left the race

One that left has answered fewer problems and cannot win. That it is worse is not said, only that it would hardly have
won.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

_UNSHOWN = ("run", "fingerprint", "grader", "right")


def ranked(curve: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Best first; of equals the earlier step, which cost less. Those that left a race come last, by when they did.

    Example:
        >>> [p["step"] for p in ranked([{"step": 4, "hits": 7}, {"step": 2, "hits": 7}, {"step": 6, "hits": 9}])]
        [6, 2, 4]
        >>> [p["step"] for p in ranked([{"step": 4, "hits": 7, "left": {"after": 8}}, {"step": 2, "hits": 5}])]
        [2, 4]
    """

    def place(point: Mapping[str, Any]) -> tuple[int, float, int]:
        left = point.get("left")
        return -left["after"] if left else -(2**31), -point["hits"], point["step"]

    return sorted(curve, key=place)


def choose(curve: Sequence[Mapping[str, Any]], available: Collection[int]) -> dict[str, Any] | None:
    """-> the curve, the winner, the steps whose 95% intervals overlap the winner's, and a sentence that says so.

    Args:
        curve: Points of those that have answered all problems, and of those that left.
        available: Steps whose model is still there; only these can win, and of them those that did not leave.

    Returns:
        None where there is no winner yet.
    """
    whole = [point for point in ranked(curve) if not point.get("left")]
    winner = next((point for point in whole if point["step"] in available), None)
    if winner is None:
        return None
    best, low = whole[0], winner["interval_95"][0]
    overlap = [point for point in curve if point is not winner and point["interval_95"][1] >= low]
    rivals = [point["step"] for point in overlap if not point.get("left")]
    told = f"step {winner['step']}: {winner['hits']} of {winner['of']}"
    if rivals:
        steps = ", ".join(map(str, rivals))
        told += f"; not clearly better than step{'s' * (len(rivals) > 1)} {steps}, whose 95% intervals overlap its own"
    elif len(whole) > 1:
        told += (
            f"; no other checkpoint's 95% interval{' of as many problems' * (len(whole) < len(curve))} overlaps its own"
        )
    if gone := len(curve) - len(whole):
        unclear = len(overlap) - len(rivals)
        told += f"; {gone} other{'s' * (gone > 1)} left the race as unlikely to win"
        told += f", not shown to be worse: the intervals of {unclear} overlap its own" if unclear else ""
    if best is not winner:
        told += f" (step {best['step']} had {best['hits']}, but its model is gone)"
    shown = [{name: value for name, value in point.items() if name not in _UNSHOWN} for point in curve]
    return {
        "curve": shown,
        "winner": {"step": winner["step"], "score": winner["score"], "interval_95": winner["interval_95"]},
        "overlapping": [point["step"] for point in overlap],
        "verdict": told,
    }


def tell(point: Mapping[str, Any]) -> str:
    """A point of the curve as a line.

    Example:
        >>> tell({"step": 40, "hits": 31, "of": 50, "score": 0.62, "interval_95": [0.482, 0.741]})
        '  step 40   validation 31/50, 62.0% (95% 48.2% to 74.1%)'
        >>> tell({"step": 8, "hits": 9, "of": 25, "score": 0.36, "interval_95": [0.202, 0.555],
        ...       "left": {"after": 25, "against": 40, "lost": 9, "won": 1, "p": 0.0107}})
        '  step 8   left after 25 problems, 9 right; step 40 alone had 9 of them right, step 8 alone 1 (p 0.011)'
    """
    step, left = point["step"], point.get("left")
    if left:
        told = f"  step {step}   left after {left['after']} problems, {point['hits']} right; "
        told += f"step {left['against']} alone had {left['lost']} of them right, step {step} alone {left['won']}"
        return f"{told} (p {left['p']:.2g})"
    low, high = point["interval_95"]
    share = f"{point['score']:.1%} (95% {low:.1%} to {high:.1%})"
    return f"  step {step}   validation {point['hits']}/{point['of']}, {share}"
