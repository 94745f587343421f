r"""Best of N by a critic: the figures, from each response's P(right).

    choose([0.2, 0.9, 0.4], [0, 1, 0])      # {"best_of_n": 1, "majority": 0, "weighted_majority": 1}

A response's score is the mean P(right) of its critiques (`generation/odds.py`). Best of N takes the highest; majority
the commonest answer (self-consistency, arXiv 2203.11171); weighted majority the answer with the largest sum of scores.
Ties go to the response that came first. A response whose critiques could not be read has no score: it is never chosen
by one, weighs nothing, and is counted.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from cft_trl.evaluation.significance import compare
from cft_trl.generation.odds import Odds
from cft_trl.grading.intervals import wilson_interval

WAYS = ("best_of_n", "weighted_majority", "majority")


def score_of(odds: Sequence[Odds]) -> dict[str, Any]:
    """A response's score from its critiques.

    Returns:
        `p_right`, the mean over the critiques that could be read, None where none could; `low` and `high`, what it lies
        between; `read`, of how many; `bounded`, of these only bounds are known; `missing`, the reasons, counted.

    Example:
        >>> score = score_of([Odds("right", 0.75, 0.75, 0.75), Odds(None, missing="no verdict")])
        >>> score["p_right"], score["read"], score["missing"]
        (0.75, 1, {'no verdict': 1})
    """
    read = [(one.p_right, one.low, one.high) for one in odds if one.p_right is not None]
    means = [fmean(values) for values in zip(*read, strict=True)] if read else [None, None, None]
    return {
        **dict(zip(("p_right", "low", "high"), means, strict=True)),
        "read": len(read),
        "bounded": sum(one.bounded for one in odds),
        "missing": dict(Counter(one.missing for one in odds if one.missing)),
    }


def choose(scores: Sequence[float | None], groups: Sequence[int | None]) -> dict[str, int | None]:
    """Which response each way takes; None where it can take none.

    Args:
        scores: P(right) per response.
        groups: Per response the first that gives the same answer; None where it gives none.
    """
    known = [at for at, score in enumerate(scores) if score is not None]
    weights: dict[int, float] = {}
    counts: Counter[int] = Counter()
    for score, group in zip(scores, groups, strict=True):
        if group is not None:
            counts[group] += 1
            weights[group] = math.fsum((weights.get(group, 0.0), score or 0.0))
    return {
        "best_of_n": max(known, key=lambda at: (scores[at], -at), default=None),
        "majority": max(counts, key=lambda at: (counts[at], -at), default=None),
        "weighted_majority": max(weights, key=lambda at: (weights[at], -at), default=None) if known else None,
    }


def figures(
    chosen: Sequence[Mapping[str, int | None]], right: Sequence[Sequence[bool] | None]
) -> dict[str, Any] | None:
    """How often each way is right, over the questions whose answer is known; None where none is.

    Args:
        chosen: `choose` of each question.
        right: Whether each response is right, by question; None where that is not known.

    Returns:
        For each of `WAYS`, `pass_at_n` (one of them is right) and `mean` (of a question's responses): `score`, `of` and
        `interval_95` (Wilson's, over questions). `over_majority`: best of N less majority, with its interval and p.

    Example:
        >>> found = figures([{"best_of_n": 1, "majority": 0, "weighted_majority": None}], [[False, True]])
        >>> [found[name]["score"] for name in ("best_of_n", "majority", "weighted_majority", "pass_at_n", "mean")]
        [1.0, 0.0, 0.0, 1.0, 0.5]
    """
    known = [(of, hits) for of, hits in zip(chosen, right, strict=True) if hits is not None]
    if not known:
        return None
    hit = {way: [float(of[way] is not None and hits[of[way] or 0]) for of, hits in known] for way in WAYS}
    found = {way: _share(hit[way]) for way in WAYS}
    found["pass_at_n"] = _share([float(any(hits)) for _, hits in known])
    found["mean"] = _share([fmean(map(float, hits)) for _, hits in known])
    compared = compare(hit["majority"], hit["best_of_n"])
    found["over_majority"] = {
        "difference": compared.difference, "interval_95": list(compared.interval_95), "p": compared.p,
    }  # fmt: skip
    return found


def _share(values: Sequence[float]) -> dict[str, Any]:
    return {"score": fmean(values), "of": len(values), "interval_95": list(wilson_interval(sum(values), len(values)))}
