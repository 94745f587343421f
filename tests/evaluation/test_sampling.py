"""What a limit takes: a seeded sample in proportion, nested, and named in the result."""

from __future__ import annotations

from collections import Counter

import pytest

from cft_trl.evaluation.processbench import SUBSETS, load_critic_rows, sampled_critic_rows, whole_critic_rows
from cft_trl.evaluation.sampling import draw, ids_digest, sample_of, subject
from cft_trl.grading.benchmarks import load_benchmark

ROWS = [
    {"id": f"r{at}", "meta": {"type": "Algebra" if at < 60 else "Geometry" if at < 90 else "Logic", "level": at % 2}}
    for at in range(100)
]


@pytest.mark.parametrize("limit", [1, 2, 7, 10, 33, 99])
def test_every_stratum_has_its_share_to_within_one_row(limit):
    whole, drawn = Counter(map(subject, ROWS)), Counter(map(subject, draw(ROWS, limit)))
    assert sum(drawn.values()) == limit
    assert all(abs(drawn[name] - count * limit / 100) <= 1 for name, count in whole.items())


def test_samples_are_nested_and_do_not_depend_on_the_order_of_the_rows():
    small, large = ({row["id"] for row in draw(ROWS, limit)} for limit in (10, 40))
    assert small < large
    assert {row["id"] for row in draw(ROWS[::-1], 10)} == small
    assert {row["id"] for row in draw(ROWS, 10, seed=1)} != small
    assert draw(ROWS, None) == draw(ROWS, 100) == draw(ROWS, 1000) == ROWS


def test_a_sample_has_an_identity_and_the_whole_has_none():
    drawn = draw(ROWS, 10)
    told = sample_of(drawn, 100)
    assert (told["seed"], told["rows"], told["of"]) == (0, 10, 100)
    assert told["digest"] == ids_digest(row["id"] for row in drawn) != ids_digest(row["id"] for row in ROWS[:10])
    assert sum(told["strata"].values()) == 10
    assert sample_of(ROWS, 100) is None


def test_a_first_look_at_processbench_holds_right_solutions(shared_data):
    rows, samples = sampled_critic_rows(whole_critic_rows(str(shared_data / "critic")), 50)
    whole = load_critic_rows(str(shared_data / "critic"))
    for subset, size in SUBSETS.items():
        share = sum(row["verdict"] == "right" for row in whole[subset]) / size
        assert abs(sum(row["verdict"] == "right" for row in rows[subset]) - 50 * share) <= 1
        assert 0.2 < share < 0.6
        assert samples[subset]["digest"] == ids_digest(row["id"] for row in rows[subset])


@pytest.mark.parametrize(("task", "column", "kinds"), [("math", "type", 7), ("mmlu-pro", "category", 14)])
def test_a_hundred_problems_are_of_every_subject(shared_data, task, column, kinds):
    rows = load_benchmark(task, shared_data / "benchmarks")
    assert len({row["meta"][column] for row in rows[:100]}) == 1  # as they are published
    assert len({row["meta"][column] for row in draw(rows, 100)}) == kinds
