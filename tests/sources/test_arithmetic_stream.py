"""The embedded arithmetic source as a stream: splits, seeds, ratio, levels, bad arguments; its English, its numbers."""

import hashlib
import json
import os
import random
import re
import subprocess
import sys
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from cft_trl.errors import CFTError
from cft_trl.sources.arithmetic import (
    TEMPLATES,
    arithmetic_records,
    problems,
    split_of,
)
from cft_trl.sources.arithmetic.english import plural, quantity
from cft_trl.sources.arithmetic.numbers import compute, exact, plain


def test_splits_are_disjoint_whatever_the_seeds():
    queries = {}
    for split in ("train", "validation", "test"):
        queries[split] = {p.query for seed in (0, 1) for p in islice(problems(seed, (1,), split), 700)}
        assert {split_of(query) for query in queries[split]} == {split}
    assert not queries["train"] & queries["validation"]
    assert not queries["train"] & queries["test"]
    assert not queries["validation"] & queries["test"]


def test_splits_are_80_10_10_and_blind_to_spaces_and_case():
    rng = random.Random(0)
    drawn = [rng.choice(TEMPLATES[1]).draw(rng).query for _ in range(3000)]
    shares = Counter(map(split_of, drawn))
    assert 0.77 < shares["train"] / 3000 < 0.83
    assert 0.08 < shares["test"] / 3000 < 0.12
    assert all(split_of(f"  {query.upper()} ".replace(" ", "  ")) == split_of(query) for query in drawn[:50])


def test_level_1_has_over_20000_queries_and_no_query_twice():
    normal = {" ".join(p.query.lower().split()) for p in islice(problems(seed=0, levels=(1,)), 20_500)}
    assert len(normal) == 20_500


def test_a_stream_that_runs_dry_says_so(monkeypatch):
    from cft_trl.sources.arithmetic import records

    class OneProblem:
        def draw(self, rng):
            return problem

    problem = next(problems())
    monkeypatch.setattr(records, "TEMPLATES", {1: (OneProblem(),)})
    monkeypatch.setattr(records, "MAX_MISSES", 100)
    stream = problems(levels=(1,), split="train")
    assert next(stream) is problem
    with pytest.raises(CFTError, match="no new problem left"):
        next(stream)


def test_the_same_arguments_give_the_same_bytes_in_another_process():
    """Python's own hashes differ between processes, so a set's order or hash() would show here."""
    code = (
        "import json; from cft_trl.sources.arithmetic import arithmetic_records;"
        "print('\\n'.join(json.dumps(row) for row in arithmetic_records(200, seed=5)))"
    )
    root = str(Path(__file__).resolve().parents[2])
    outputs = []
    for hash_seed in ("1", "2"):
        env = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": root}
        run = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True)
        outputs.append(hashlib.sha256(run.stdout).hexdigest())
    here = "\n".join(json.dumps(row) for row in arithmetic_records(200, seed=5)) + "\n"
    assert outputs == [hashlib.sha256(here.encode()).hexdigest()] * 2


def test_seeds_differ_and_levels_have_no_order():
    first = [row["query"] for row in arithmetic_records(20, seed=0)]
    assert first != [row["query"] for row in arithmetic_records(20, seed=1)]
    assert first == [row["query"] for row in arithmetic_records(20, seed=0, levels=(3, 1, 2, 1))]


@pytest.mark.parametrize(
    ("count", "ratio", "right"), [(0, 0.5, 0), (9, 0, 0), (9, 1, 9), (101, 0.3, 30), (60, 0.5, 30)]
)
def test_the_ratio_is_exact(count, ratio, right):
    found = list(arithmetic_records(count, right_ratio=ratio, levels=(1,)))
    assert len(found) == count
    assert sum(row["verdict"] == "right" for row in found) == right


def test_critiques_can_be_left_to_another_teacher():
    with_them, without = (list(arithmetic_records(30, with_critiques=flag)) for flag in (True, False))
    assert all(row["critique"] is row["teacher"] is None for row in without)
    assert [{**row, "critique": None, "teacher": None} for row in with_them] == without


def test_refinements_can_be_left_out():
    with_them, without = (list(arithmetic_records(30, with_refinements=flag)) for flag in (True, False))
    assert all(row["refinement"] for row in with_them)
    assert [{**row, "refinement": None} for row in with_them] == without


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": -1}, "count is -1"),
        ({"count": 2.5}, "count is 2.5"),
        ({"count": 1, "levels": (4,)}, "levels is (4,)"),
        ({"count": 1, "levels": ()}, "levels is ()"),
        ({"count": 1, "split": "dev"}, "unknown split 'dev'; known are train, validation, test"),
        ({"count": 1, "kinds": ("typo",)}, "unknown kind 'typo'"),
        ({"count": 1, "kinds": ()}, "kinds is empty"),
        ({"count": 1, "right_ratio": 1.5}, "right_ratio is 1.5"),
        ({"count": 1, "right_ratio": "half"}, "right_ratio is 'half'"),
    ],
)
def test_bad_arguments_are_one_clear_line(arguments, message):
    with pytest.raises(CFTError, match=re.escape(message)) as error:
        arithmetic_records(**arguments)  # at the call, not at the first row
    assert "\n" not in str(error.value)


def test_articles_fit_every_word_that_may_follow():
    for template in (template for level in TEMPLATES.values() for template in level):
        for article, key in re.findall(r"\b([Aa]n?) \{(\w+)\}", " ".join(template.texts)):
            for word in template.words[key].split("|"):
                assert (word[0] in "aeiou") == (len(article) == 2), f"{template.name}: {article} {word}"


def test_pronouns_fit_the_person():
    she, he = {"she", "her"}, {"he", "his", "him"}
    from cft_trl.sources.arithmetic.english import vocabulary

    gender = {name: pronoun for name, pronoun, *_ in vocabulary().people}
    for problem in islice(problems(seed=2), 2000):
        words = set(re.findall(r"[a-z]+", problem.query.lower()))
        people = [gender[name] for name in re.findall(r"[A-Z][a-z]+", problem.query) if name in gender]
        if words & she and people:
            assert "she" in people
        if words & he and people:
            assert "he" in people
        assert not (words & she and words & he)


@pytest.mark.parametrize(
    ("noun", "many"),
    [("apple", "apples"), ("box", "boxes"), ("cherry", "cherries"), ("toy", "toys"), ("loaf", "loaves"),
     ("person", "people"), ("foot", "feet"), ("square foot", "square feet"), ("mile per hour", "miles per hour"),
     ("potato", "potatoes"), ("bench", "benches"), ("class", "classes"),
     ("percent", "percent"), ("toy car", "toy cars")],
)  # fmt: skip
def test_plurals(noun, many):
    assert plural(noun) == many
    assert quantity(1, noun) == f"1 {noun}"
    assert quantity(exact("2.5"), noun) == f"2.5 {many}"


def test_numbers_are_exact_and_plain():
    assert plain(compute(1, "÷", 8)) == "0.125"
    assert plain(compute(exact("0.1"), "+", exact("0.2"))) == "0.3"
    assert plain(exact("2.50")) == "2.5"
    assert plain(exact("-0.05")) == "-0.05"
    assert compute(3, "÷", 0) is None
    with pytest.raises(ValueError, match="no exact decimal"):
        plain(compute(1, "÷", 3))
