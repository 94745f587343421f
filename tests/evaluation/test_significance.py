"""Paired tests and intervals, against published examples and against slower ways to the same number."""

from __future__ import annotations

import itertools
from math import comb

import numpy as np
import pytest

from cft_trl.evaluation.significance import (
    average_interval,
    compare,
    compare_averages,
    holm,
    mcnemar,
    paired_interval,
    resampled_means,
)
from cft_trl.grading.intervals import harmonic_interval, harmonic_mean, wilson_interval


def test_mcnemar_against_the_binomial_sum():
    for first, second in itertools.product(range(8), range(8)):
        flips, fewer = first + second, min(first, second)
        expected = min(1.0, 2 * sum(comb(flips, k) for k in range(fewer + 1)) / 2**flips) if flips else 1.0
        assert mcnemar(first, second) == pytest.approx(expected, abs=1e-15)


def test_mcnemar_against_a_published_value():
    # Fagerland, Lydersen, Laake 2013, table 1: bronchial hyperresponsiveness before and after, 1 against 7.
    assert mcnemar(1, 7) == pytest.approx(0.0703, abs=5e-5)


def test_mcnemar_does_not_overflow():
    assert 0 < mcnemar(2400, 2600) < 0.01
    assert mcnemar(5000, 5000) == 1.0
    assert mcnemar(0, 5000) == 0.0


def test_single_samples_are_compared_by_mcnemar():
    base = [1] * 30 + [0] * 70
    better = [1] * 28 + [0] * 2 + [1] * 12 + [0] * 58
    found = compare(base, better)
    assert (found.first_only, found.second_only, found.problems, found.test) == (2, 12, 100, "McNemar")
    assert found.p == mcnemar(2, 12)
    assert found.difference == pytest.approx(0.1)
    # A paired interval: about 2 sqrt(14)/100 each way, far narrower than two unpaired ones.
    assert found.interval_95 == pytest.approx((0.03, 0.17), abs=0.015)


@pytest.mark.parametrize(("a", "b", "problems"), [(0.1, 0.2, 100), (0.0, 0.05, 40), (0.02, 0.02, 60), (0.3, 0.4, 30)])
def test_paired_intervals_cover(a, b, problems):
    """Drawn 4,000 times, about 95% of the intervals hold the true difference, also where hardly any problem differs."""
    cells = np.random.default_rng(4).multinomial(problems, [a, b, 1 - a - b], 4000)
    inside = 0
    for first, second, _ in cells:
        low, high = paired_interval(int(first), int(second), problems)
        assert low <= (second - first) / problems <= high
        inside += low <= b - a <= high
    assert 0.935 <= inside / 4000 <= 1.0


def test_runs_that_solve_the_same_problems_may_still_differ():
    assert paired_interval(0, 0, 10) == pytest.approx((-0.278, 0.278), abs=0.001)
    assert paired_interval(0, 10, 10)[1] == 1.0
    assert paired_interval(3, 7, 50) == pytest.approx([-x for x in paired_interval(7, 3, 50)[::-1]])


def test_several_samples_are_compared_by_problem():
    """Sixteen samples of ten problems are ten observations, not a hundred and sixty."""
    rng = np.random.default_rng(0)
    first = rng.binomial(16, 0.5, 10) / 16
    second = np.clip(first + rng.choice([-0.25, 0.3125], 10), 0, 1)
    found = compare(first, second)
    assert found.test == "paired bootstrap"
    assert found.p > 0.05
    low, high = found.interval_95
    assert low < found.difference < high
    spread = np.std(second - first, ddof=1) / np.sqrt(10)
    assert (high - low) == pytest.approx(3.92 * spread, rel=0.2)


def test_equal_runs_do_not_differ():
    values = [0.0, 0.25, 1.0, 0.5]
    found = compare(values, values)
    assert (found.difference, found.p) == (0.0, 1.0)
    # That four problems came out alike is no proof that the runs are.
    assert found.interval_95[0] < -0.2 < 0.2 < found.interval_95[1]
    assert compare([0, 1, 1], [0, 1, 1]).p == 1.0


def test_a_clear_difference_over_several_samples_is_found():
    assert compare([0.25] * 20, [0.75] * 20).p < 0.001
    assert compare([0.75] * 20, [0.25] * 20).difference == -0.5


def test_other_problems_are_refused():
    with pytest.raises(ValueError, match="2 and 3 problems"):
        compare([0, 1], [0, 1, 1])
    with pytest.raises(ValueError, match="at least one"):
        compare([], [])


def test_the_fast_draw_is_the_slow_draw():
    """A multinomial count of values is distributed as drawing them one by one."""
    values = np.array([0, 0, 0, 1, 1, 0.5, -1])
    fast = resampled_means(values, np.random.default_rng(1), 20_000)
    slow = np.random.default_rng(2).choice(values, (20_000, len(values))).mean(axis=1)
    for share in (0.025, 0.25, 0.5, 0.75, 0.975):
        assert np.quantile(fast, share) == pytest.approx(np.quantile(slow, share), abs=0.03)
    assert fast.std() == pytest.approx(slow.std(), rel=0.03)


def test_the_same_figures_every_time():
    assert compare([0.5, 0, 1, 0.25], [1, 0.5, 1, 0]) == compare([0.5, 0, 1, 0.25], [1, 0.5, 1, 0])


def test_averages_weigh_benchmarks_alike():
    small, large = [1.0] * 10, [0.0] * 1000
    difference, interval, p = compare_averages({"small": [0.0] * 10, "large": large}, {"small": small, "large": large})
    # Ten problems of ten are no proof of 100%: the small benchmark's interval counts in full.
    assert difference == 0.5
    assert interval == pytest.approx((0.304, 0.5), abs=0.005)
    assert p < 0.01
    low, high = average_interval({"a": [0.0, 1.0] * 50, "b": [1.0] * 1000})
    assert (low, high) == pytest.approx((0.70, 0.80), abs=0.01)


def test_averages_of_all_wrong_and_all_right_have_a_width():
    zeros, ones = [0.0] * 30, [1.0] * 30
    low, high = average_interval({"a": zeros, "b": ones, "c": zeros})
    assert 0.02 < 1 / 3 - low < 0.1
    assert 0.02 < high - 1 / 3 < 0.1
    difference, (low, high), p = compare_averages({"a": zeros, "b": ones}, {"a": zeros, "b": ones})
    assert (difference, p) == (0.0, None)
    assert low < -0.03 < 0.03 < high
    # Shares of several samples that all moved alike.
    low, high = compare([0.25] * 20, [0.25] * 20).interval_95
    assert low < 0 < high


@pytest.mark.parametrize("truth", [(0.02, 0.5, 0.97), (0.0, 1.0, 0.6), (0.3, 0.4, 0.5)])
def test_intervals_of_averages_cover(truth):
    rng = np.random.default_rng(5)
    inside = 0
    for _ in range(1000):
        scores = {str(at): rng.random(40) < share for at, share in enumerate(truth)}
        low, high = average_interval(scores)
        inside += low <= sum(truth) / 3 <= high
    assert inside >= 935


def test_the_randomisation_test_is_fair_and_sees_a_difference():
    rng = np.random.default_rng(6)
    found = []
    for _ in range(200):
        first, second = ({"a": rng.random(50) < 0.5, "b": rng.random(30) < 0.2} for _ in range(2))
        found.append(compare_averages(first, second)[2])
    assert sum(p < 0.05 for p in found) <= 20
    better = {"a": np.ones(50), "b": rng.random(30) < 0.2}
    assert compare_averages({"a": np.arange(50) % 2, "b": better["b"]}, better)[2] < 0.001


def test_holm_by_hand():
    # In order: 4 x 0.005, 3 x 0.01, 2 x 0.03, 1 x 0.04 but no less than the one before.
    assert holm([0.005, 0.03, 0.04, 0.01]) == pytest.approx([0.02, 0.06, 0.06, 0.03])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_harmonic_intervals_hold_the_mean():
    for hits, others in itertools.product((0, 1, 50, 100), repeat=2):
        low, high = harmonic_interval(wilson_interval(hits, 100), wilson_interval(others, 100))
        assert low <= harmonic_mean(hits / 100, others / 100) <= high


def test_harmonic_intervals_cover():
    """Of 400 repetitions at least 95% hold the true value; it is a wide interval, not a wrong one."""
    rng = np.random.default_rng(3)
    true = harmonic_mean(0.8, 0.3)
    inside = 0
    for right, wrong in zip(rng.binomial(200, 0.8, 400), rng.binomial(200, 0.3, 400), strict=True):
        low, high = harmonic_interval(wilson_interval(int(right), 200), wilson_interval(int(wrong), 200))
        inside += low <= true <= high
    assert inside >= 380
