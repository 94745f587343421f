"""Is one run better than another? Both answered the same problems, so the problems are compared one by one.

    compare([1, 0, 0, 1], [1, 1, 1, 1])
    # Comparison(problems=4, difference=0.5, interval_95=(-0.102, 0.850), test="McNemar", p=0.5, first_only=0,
    #            second_only=2)

With one sample per problem the test is McNemar's, exact: only problems that one run alone solved tell them apart; the
interval comes from the same counts. With several samples a problem has a share of right ones; the problems are then
drawn anew, 10,000 times, with replacement.
Samples of one problem are not independent, so it is never the samples that are drawn. No interval here shrinks to a
point: where all problems agree, that is little known, not exactly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cft_trl.grading.intervals import wilson_interval

RESAMPLES = 10_000


@dataclass(frozen=True)
class Comparison:
    """Two runs on the same problems.

    Attributes:
        problems: How many.
        difference: Mean of the second minus mean of the first, as a share.
        interval_95: Of the difference: `paired_interval`, or the paired bootstrap.
        test: "McNemar" or "paired bootstrap".
        p: Two-sided: how probable so large a difference is between runs that are equally good.
        first_only, second_only: Problems on which the first did better, and the second.
    """

    problems: int
    difference: float
    interval_95: tuple[float, float]
    test: str
    p: float
    first_only: int
    second_only: int


def compare(first: Sequence[float], second: Sequence[float], seed: int = 0) -> Comparison:
    """Compares two runs, problem by problem.

    Args:
        first, second: Per problem, in the same order, the share of right samples: 0 or 1 where there is one sample.
        seed: Of the bootstrap.

    Raises:
        ValueError: The two are not equally long, or empty.

    Example:
        >>> result = compare([0, 0, 0, 0, 0, 0, 1, 1], [1, 1, 1, 1, 1, 1, 1, 1])
        >>> result.difference, result.p, result.test
        (0.75, 0.03125, 'McNemar')
    """
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if a.shape != b.shape or not a.size:
        raise ValueError(f"{a.size} and {b.size} problems; give the same ones, at least one")
    difference = b - a
    first_only, second_only = int((difference < 0).sum()), int((difference > 0).sum())
    if np.isin(np.concatenate([a, b]), (0.0, 1.0)).all():
        test, p = "McNemar", mcnemar(first_only, second_only)
        bounds = paired_interval(first_only, second_only, len(a))
    else:
        means = resampled_means(difference, np.random.default_rng(seed))
        test, p = "paired bootstrap", _bootstrap_p(float(difference.mean()), means)
        bounds = interval(means) if np.ptp(difference) else _gap_interval(difference, np.random.default_rng(seed))
    return Comparison(len(a), float(difference.mean()), bounds, test, p, first_only, second_only)


def mcnemar(first_only: int, second_only: int) -> float:
    """The exact McNemar test: is a coin that fell so unevenly a fair one? (McNemar 1947; two-sided, binomial.)

    Args:
        first_only: Problems that only the first run solved.
        second_only: Problems that only the second run solved.

    Returns:
        The p value; 1.0 where the runs solved the same problems.

    Example:
        >>> mcnemar(1, 9), mcnemar(0, 0)
        (0.021484375, 1.0)
    """
    flips, fewer = first_only + second_only, min(first_only, second_only)
    # Whole numbers up to the one division: 2**-5000 is no float.
    term = tail = 1
    for k in range(1, fewer + 1):
        term = term * (flips - k + 1) // k
        tail += term
    return min(1.0, 2 * tail / 2**flips)


def paired_interval(first_only: float, second_only: float, problems: int) -> tuple[float, float]:
    """The 95% interval of a paired difference of proportions, (second_only - first_only) / problems.

    Joins the Wilson intervals of the two shares, which cannot both be large (the method of variance estimates recovery,
    Zou and Donner 2008). Unlike a bootstrap it keeps its width where few problems tell the runs apart, or none.

    Args:
        first_only, second_only: How many problems only the one, only the other has right (of shares, their sums).
        problems: How many there are.

    Example:
        >>> [round(bound, 3) for bound in paired_interval(2, 12, 100)], paired_interval(0, 0, 100)[1] > 0.03
        ([0.027, 0.18], True)
    """
    shares = [count / problems for count in (first_only, second_only)]
    (low_a, high_a), (low_b, high_b) = (wilson_interval(count, problems) for count in (first_only, second_only))
    a, b = shares
    correlation = math.sqrt(a * b / ((1 - a) * (1 - b))) if max(shares) < 1 else 0.0

    def joined(x: float, y: float) -> float:
        return math.sqrt(x * x + 2 * correlation * x * y + y * y)

    return max(-1.0, b - a - joined(b - low_b, high_a - a)), min(1.0, b - a + joined(high_b - b, a - low_a))


def resampled_means(
    values: Sequence[float] | np.ndarray, rng: np.random.Generator, resamples: int = RESAMPLES
) -> np.ndarray:
    """Means of `resamples` draws with replacement -> float array of that length.

    A draw of n from few different values is a multinomial count of them: the same distribution as drawing each, in a
    thousandth of the time.

    Args:
        values: (n,), one number per problem.
        rng: Where the draws come from.
        resamples: How many means.
    """
    distinct, counts = np.unique(np.asarray(values, dtype=float), return_counts=True)
    drawn = rng.multinomial(counts.sum(), counts / counts.sum(), size=resamples)
    return drawn @ distinct / counts.sum()


def interval(means: np.ndarray) -> tuple[float, float]:
    """The middle 95% of bootstrap means."""
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def compare_averages(
    first: Mapping[str, Sequence[float]], second: Mapping[str, Sequence[float]], seed: int = 0
) -> tuple[float, tuple[float, float], float | None]:
    """The difference of two runs' averages over benchmarks, each benchmark with the same weight.

    The benchmarks' own intervals are joined by recovering their variances (Zou and Donner 2008), so that the interval
    keeps its width where no problem of a benchmark tells the runs apart. The test is a paired randomisation test: of
    runs that are equally good either could have had each problem's better score (10,000 draws).

    Args:
        first, second: Per benchmark the per-problem scores, as in `compare`.

    Returns:
        The difference (second minus first), its 95% interval, and the p value: `None`, not known, where no problem
        tells the runs apart.

    Example:
        >>> zeros, ones = [0.0] * 20, [1.0] * 20
        >>> difference, (low, high), p = compare_averages({"a": zeros, "b": zeros}, {"a": ones, "b": zeros})
        >>> difference, round(low, 2), round(high, 2), p < 0.001
        (0.5, 0.36, 0.58, True)
        >>> compare_averages({"a": zeros, "b": ones}, {"a": zeros, "b": ones})[2] is None
        True
    """
    rng = np.random.default_rng(seed)
    gaps = [np.asarray(second[name], dtype=float) - np.asarray(first[name], dtype=float) for name in first]
    means = [float(gap.mean()) for gap in gaps]
    found = [_gap_interval(gap, rng) for gap in gaps]
    difference = float(np.mean(means))
    bounds = _joined(means, found)
    if not any(gap.any() for gap in gaps):
        return difference, bounds, None
    flipped = np.mean([_randomised_means(gap, rng) for gap in gaps], axis=0)
    # Means of the same values added in another order differ in the last digit.
    as_far = np.abs(flipped) >= abs(difference) - 1e-12
    return difference, bounds, (1 + int(as_far.sum())) / (1 + len(flipped))


def average_interval(scores: Mapping[str, Sequence[float]]) -> tuple[float, float]:
    """The 95% interval of an average over benchmarks: their Wilson intervals joined (Zou and Donner 2008).

    Unlike a bootstrap it keeps its width where a benchmark is all wrong or all right.

    Example:
        >>> [round(bound, 3) for bound in average_interval({"a": [0.0] * 30, "b": [1.0] * 30})]
        [0.443, 0.557]
    """
    means = [float(np.mean(values)) for values in scores.values()]
    found = [wilson_interval(float(np.sum(values)), len(values)) for values in scores.values()]
    return _joined(means, found)


def _joined(means: Sequence[float], intervals: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The interval of the mean of independent estimates, from an interval of each."""
    average = float(np.mean(means))
    below = math.sqrt(sum((mean - low) ** 2 for mean, (low, _) in zip(means, intervals, strict=True))) / len(means)
    above = math.sqrt(sum((high - mean) ** 2 for mean, (_, high) in zip(means, intervals, strict=True))) / len(means)
    return average - below, average + above


def _gap_interval(gaps: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """The 95% interval of a mean of paired differences.

    Of whole differences it is `paired_interval`. Of shares it is the bootstrap; where all differences are one number
    and a bootstrap would have no width, the gains and losses count as if they were whole: wide, never too narrow.
    """
    if np.isin(gaps, (-1.0, 0.0, 1.0)).all() or np.ptp(gaps) == 0:
        lost, won = float(-gaps[gaps < 0].sum()), float(gaps[gaps > 0].sum())
        return paired_interval(lost, won, len(gaps))
    return interval(resampled_means(gaps, rng))


def _randomised_means(gaps: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Means of the differences with signs drawn by a fair coin -> float array of `RESAMPLES`."""
    sizes, counts = np.unique(np.abs(gaps[gaps != 0]), return_counts=True)
    totals = np.zeros(RESAMPLES)
    for size, count in zip(sizes, counts, strict=True):
        totals += size * (2.0 * rng.binomial(count, 0.5, RESAMPLES) - count)
    return totals / len(gaps)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusts p values for their number (Holm 1979): six benchmarks are six chances to find a difference.

    Example:
        >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, largest = [1.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, p_values[index] * (len(p_values) - rank)))
        adjusted[index] = largest
    return adjusted


def _bootstrap_p(difference: float, means: np.ndarray) -> float:
    """How often draws from runs without a difference (the means, moved to 0) are as far from 0 as the one seen."""
    # Means of the same values added in another order differ in the last digit.
    as_far = np.abs(means - difference) >= abs(difference) - 1e-12
    p = (1 + int(as_far.sum())) / (1 + len(means))
    return 1.0 if math.isclose(difference, 0.0, abs_tol=1e-12) else p
