r"""Grading: extraction, the hard pairs, the limits of the pool, and the two graders on the benchmarks' own golds."""

from __future__ import annotations

import json
import re
import threading
import time
from pathlib import Path

import pytest
from grading_kinds import ANNOUNCED, EQUAL_KINDS
from grading_kinds_unequal import UNEQUAL_KINDS
from grading_operators import EQUAL_OPERATORS, UNEQUAL_OPERATORS
from grading_pairs import EQUAL, UNEQUAL, pairs_of
from grading_variations import EQUAL_VARIATIONS
from grading_variations_unequal import UNEQUAL_VARIATIONS

from cft_trl.errors import CFTError
from cft_trl.grading import calculus, values
from cft_trl.grading import grade as grading
from cft_trl.grading.answers import extract_answer
from cft_trl.grading.benchmarks import load_benchmark
from cft_trl.grading.comparison import strict_equal
from cft_trl.grading.formulas import parse
from cft_trl.grading.grade import grade, grade_many, self_test
from cft_trl.grading.grader_version import grader_files, grader_version
from cft_trl.grading.measures import quantity
from cft_trl.grading.notation import clean
from cft_trl.grading.numerals import to_number

pytest.importorskip("math_verify")


# ---- strict ----------------------------------------------------------------------------------------------------------


def test_the_hard_pairs_have_no_error():
    equal, unequal = pairs_of(EQUAL), pairs_of(UNEQUAL)
    assert len(equal) > 140
    assert len(unequal) > 140
    found = grade_many([*equal, *unequal], limit_s=20)
    assert [pair for pair, hit in zip(equal, found, strict=False) if not hit] == []
    assert [pair for pair, hit in zip(unequal, found[len(equal) :], strict=True) if hit] == []


def test_the_order_of_the_sides_does_not_matter_for_equal_pairs():
    # Left out: an option with its text, and a prediction in a box, mean something only as predictions.
    one_way = ("(B) the", "Option", r"\text{D. n", "1:3", "6,3")
    swapped = [(gold, prediction) for prediction, gold in pairs_of(EQUAL) if not prediction.startswith(one_way)]
    found = grade_many(swapped, limit_s=20)
    assert [pair for pair, hit in zip(swapped, found, strict=True) if not hit] == []


@pytest.mark.parametrize("kind", EQUAL_KINDS)
def test_what_is_equal_by_kind(kind):
    pairs = pairs_of(EQUAL_KINDS[kind])
    assert [pair for pair, hit in zip(pairs, grade_many(pairs), strict=True) if not hit] == []


@pytest.mark.parametrize("kind", UNEQUAL_KINDS)
def test_what_only_looks_equal_by_kind(kind):
    pairs = pairs_of(UNEQUAL_KINDS[kind])
    assert [pair for pair, hit in zip(pairs, grade_many(pairs), strict=True) if hit] == []
    # A difference is one from either side.
    turned = [(gold, prediction) for prediction, gold in pairs if (prediction, gold) != (r"\frac12", "1:2")]
    assert [pair for pair, hit in zip(turned, grade_many(turned), strict=True) if hit] == []


def test_variations_of_every_kind():
    equal, unequal = pairs_of(EQUAL_VARIATIONS), pairs_of(UNEQUAL_VARIATIONS)
    assert (len(equal) > 250, len(unequal) > 250) == (True, True)
    assert [pair for pair, hit in zip(equal, grade_many(equal), strict=True) if not hit] == []
    for pairs in (unequal, [(gold, prediction) for prediction, gold in unequal]):
        assert [pair for pair, hit in zip(pairs, grade_many(pairs), strict=True) if hit] == []


def test_values_left_standing_and_words_that_change_them():
    equal, unequal = pairs_of(EQUAL_OPERATORS), pairs_of(UNEQUAL_OPERATORS)
    assert [pair for pair, hit in zip(equal, grade_many(equal, limit_s=20), strict=True) if not hit] == []
    turned = [(gold, prediction) for prediction, gold in unequal if "2021" not in gold]
    for pairs in (unequal, turned):
        assert [pair for pair, hit in zip(pairs, grade_many(pairs), strict=True) if hit] == []


def test_what_has_no_value_gives_none(monkeypatch):
    # A library that extrapolates has a number for a sum without one too.
    monkeypatch.setattr(calculus.mpmath, "nsum", lambda *_: calculus.mpmath.rand())
    monkeypatch.setattr(calculus.mpmath, "quad", lambda *_, **__: (calculus.mpmath.mpf(1), calculus.mpmath.mpf(1)))
    for text in (r"\sum_{n=1}^{\infty}\frac1{n^2}", r"\int_0^1 x dx"):
        assert values.constant(parse(text)) is None
        assert not strict_equal(text, "1")


def test_the_conventions_are_as_the_page_says():
    page = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(.+?)` \| `(.+?)` \| (yes|no) \|", page, re.MULTILINE)
    assert len(rows) > 15
    pairs = [(answer, gold, right == "yes") for answer, golds, right in rows for gold in golds.split("`, `")]
    found = grade_many([pair[:2] for pair in pairs])
    assert [pair for pair, hit in zip(pairs, found, strict=True) if hit != pair[2]] == []


def test_there_are_many_pairs_of_every_kind():
    equal, unequal = (sum(len(pairs_of(t)) for t in tables.values()) for tables in (EQUAL_KINDS, UNEQUAL_KINDS))
    assert (equal >= 180, unequal >= 130) == (True, True)


@pytest.mark.parametrize(("text", "gold", "right"), ANNOUNCED)
def test_announced_answers(text, gold, right):
    assert grade(text, gold) is right


def shared_cases(shared_data, name: str) -> list[dict]:
    path = shared_data.parent / "cases" / name
    if not path.is_file():
        pytest.skip("no shared cases here")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_shared_cases(shared_data):
    cases = [case for case in shared_cases(shared_data, "grading.jsonl") if case["kind"].startswith("false_")]
    found = grade_many([(case["text"], case["gold"]) for case in cases])
    wrong = [(case["text"], case["gold"]) for case, hit in zip(cases, found, strict=True) if hit != case["right"]]
    assert wrong == []


@pytest.mark.parametrize("name", ["large-and-small-numbers", "roman-letters-boxes-equations"])
def test_the_shared_cases_of_exactness_and_letters(shared_data, name):
    cases = shared_cases(shared_data, f"grader-{name}.jsonl")
    found = grade_many([(case["prediction"], case["gold"]) for case in cases])
    assert [case for case, hit in zip(cases, found, strict=True) if hit != case["expected"]] == []


@pytest.mark.parametrize(
    ("prediction", "gold"),
    [("", "1"), ("1", ""), (None, "1"), ("I do not know.", "1"), (r"\boxed{}", "0"), (r"\boxed{1", "1"), ("$$", "1")],
)
def test_no_answer_is_wrong(prediction, gold):
    for grader in ("strict", "paper"):
        if (prediction, grader) != (r"\boxed{1", "paper"):
            assert grade_many([(prediction, gold)], grader) == [False]


def test_a_gold_that_is_boxed_is_opened():
    assert grade("4", r"\boxed{4}")
    assert not grade("5", r"\boxed{4}")


# ---- extraction ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"first \boxed{1}, then $\boxed{\frac{1}{2}}$.", r"\frac{1}{2}"),
        (r"$\boxed{2}$ and $\boxed{3}$", "2, 3"),
        (r"\boxed{2}, \boxed{3}, and \boxed{4}", "2, 3, 4"),
        (r"\boxed{2} is not it; it is \boxed{3}", "3"),
        (r"\boxed{x = \boxed{3}}", r"x = \boxed{3}"),
        (r"\boxed{\left\{1, 2\right.}", r"\left\{1, 2\right."),
        (r"\boxed{5} and then it breaks off \boxed{6", "5"),
        (r"\fbox{7}", "7"),
        ("9 * 2 = 18\n#### 18\n", "18"),
        ("The answer is 3. The answer is 4.", "4"),
        ("**Final Answer:** $x+1$", "x+1"),
        (r"The correct answer to this question is: \(2\pi\).", r"2\pi"),
        ("The answer is 1.5 hours.", "1.5 hours"),
        ("Answer: (B)", "(B)"),
        ("42", "42"),
        ("so she has 12 left, which I could not verify in any way", None),
        ("two lines\nof prose", None),
        ("", None),
        ("   ", None),
        (None, None),
    ],
)
def test_extract_answer(text, answer):
    assert extract_answer(text) == answer


def test_the_last_number_counts_only_when_asked_for():
    text = "There were 12 ducks at first, so in the end she makes 1,018 dollars every day."
    assert extract_answer(text) is None
    assert extract_answer(text, last_number=True) == "1,018"
    assert not grade(text, "1018")
    assert grade(text, "1018", "paper")


@pytest.mark.timeout(120)
def test_extraction_takes_linear_time():
    # Quadratic time would be many minutes here.
    for text in (
        r"\boxed{" * 50_000,
        "answer " * 50_000,
        "answer is " * 50_000,
        "{" * 300_000,
        r"\boxed{1} and " * 20_000,
    ):
        extract_answer(text, last_number=True)


def test_numbers_are_exact():
    assert to_number("0.1").value * 3 == to_number("0.3").value
    assert to_number("9" * 5000) is None
    assert to_number("1/0") is None
    assert to_number("1,5") is None


def test_units_are_split_from_numbers_and_not_from_formulas():
    for text in ("6m", "2 xyz", "3s^2", r"2 \sin x", "x + y", "5!", "2 ab", r"\cos 58^\circ"):
        assert quantity(clean(text)) == (clean(text), None, frozenset())
    assert quantity(clean("45 miles per hour")).unit == quantity(clean("45 mph")).unit
    assert quantity(clean(r"8\sqrt{3} \text { square inches}")).core == r"8\sqrt{3}"
    assert quantity(clean(r"3\text{ mA}")).unit.factor * 1000 == quantity(clean(r"3\text{ A}")).unit.factor


# ---- paper -----------------------------------------------------------------------------------------------------------


def test_the_published_leniency():
    lenient = [
        ("0", "0.006"),
        ("0.25", "25"),
        ("1.64", "1.6"),
        ("3.14", r"\pi"),
        ("(2,3)", "[2,3]"),
        ("12 cm", "12 km"),
    ]
    assert grade_many(lenient, "paper") == [True] * len(lenient)
    assert grade_many(lenient, "strict") == [False] * len(lenient)
    refused = [("1.68", "1.6"), ("x+1", "x-1"), ("2", "3"), ("A", "B"), ("1,2", "1,3"), ("y=2x", "y=3x")]
    assert grade_many(refused, "paper") == [False] * len(refused)


def test_minerva_counts_are_those_of_the_published_set_up(shared_data):
    golds = [row["gold"] for row in load_benchmark("minerva-math", shared_data / "benchmarks")]
    values = [(gold, grading._plain_float(gold)) for gold in golds]
    small = [("0", gold) for gold, value in values if value and abs(value) < 0.05]
    off = [(repr(value * 1.05), gold) for gold, value in values if value]
    assert (len(small), len(off)) == (27, 187)
    assert sum(grade_many(small, "paper")) == 27
    assert sum(grade_many(off, "paper")) == 47
    assert sum(grade_many(small + off, "strict")) == 0


# ---- the pool --------------------------------------------------------------------------------------------------------

HOSTILE = [
    (r"\boxed{" + "{" * 10_000 + "1" + "}" * 10_000 + "}", "1"),
    (r"\boxed{" * 10_000 + "1" + "}" * 10_000, "1"),
    (r"\boxed{" + "9" * 1_000_000 + "}", "9"),
    ("9" * 1_000_000, "9" * 999_999),
    (r"\boxed{\begin{pmatrix} 1 & \\ \end{array}}", "1"),
    ("\x00\ud800\u202e", "1"),
    ("\n\n\\", "1"),
]


def test_hostile_input_is_wrong_and_the_pool_survives():
    found = grade_many([*HOSTILE, ("3", "3"), ("x+1", "1+x")], limit_s=1)
    assert found == [False] * len(HOSTILE) + [True, True]
    assert grade_many([("x+1", "1+x"), ("4", "5")]) == [True, False]


@pytest.fixture
def stand_in(monkeypatch):
    """Workers whose comparison does to "spin", "fill", "sleep" and "die" what strange text does to real libraries."""
    program = (
        "import os, time; from cft_trl.grading import comparison, grade as grading; real = comparison.strict_equal; "
        "deeds = dict(spin=lambda: sum(range(10**14)), fill=lambda: bytes(2**40), sleep=lambda: time.sleep(60), "
        "die=lambda: os._exit(1)); "
        "comparison.strict_equal = lambda p, g: bool(deeds[p]()) if p in deeds else real(p, g); "
        "grading._serve({grader!r})"
    )
    grading._close()
    monkeypatch.setattr(grading._Worker, "program", program)
    yield
    grading._close()


def test_a_worker_in_c_code_is_killed_and_replaced(stand_in):
    grade("1", "1")
    before = {worker.process.pid for worker in grading._WORKERS}
    # `sum` of a range runs in C and sees no Python signal.
    assert grade_many([("spin", "5")] * 2, processes=len(before), limit_s=0.5) == [False, False]
    assert not before & {worker.process.pid for worker in grading._WORKERS if worker.process.poll() is None}
    assert grade("1", "1")


def test_memory_sleep_and_death_cost_one_item(stand_in):
    pairs = [("fill", "fill"), ("2", "2"), ("die", "1"), ("3", "3"), ("sleep", "1"), ("4", "4"), ("4", "5")]
    assert grade_many(pairs, limit_s=0.5) == [False, True, False, True, False, True, False]


def test_verdicts_name_what_they_depend_on():
    found = grader_version()
    assert {"code", "mpmath", "math-verify", "latex2sympy2_extended"} <= set(found)
    decided_by = {path.stem for path in grader_files()}
    assert {"grade", "comparison", "calculus", "dates", "matrices", "paper_grader", "answers"} <= decided_by


def test_wall_time_ends_a_worker_that_uses_no_cpu(monkeypatch):
    import os
    import signal

    grade("1", "1")
    for worker in grading._WORKERS:
        os.kill(worker.process.pid, signal.SIGSTOP)  # hangs without using CPU time
    start = time.monotonic()
    assert grade_many([("1", "1")], processes=1, limit_s=0.5) == [False]
    assert time.monotonic() - start >= 2.0
    assert grade_many([("1", "1"), ("2", "3")], processes=2) == [True, False]


def test_a_worker_that_died_between_calls_is_replaced():
    grade("1", "1")
    for worker in grading._WORKERS:
        worker.process.kill()
        worker.process.wait()
    assert grade_many([("x+1", "1+x"), ("1", "1")]) == [True, True]


def test_grading_works_from_threads_and_keeps_the_order():
    pairs = [(str(n), str(n if n % 3 else n + 1)) for n in range(60)]
    found: list[list[bool]] = []
    threads = [threading.Thread(target=lambda: found.append(grade_many(pairs))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[n % 3 != 0 for n in range(60)]] * 3


def test_no_pairs_is_no_work():
    assert grade_many([]) == []


def test_mistakes_are_told_in_one_line(monkeypatch):
    with pytest.raises(CFTError, match=r"'stric' is unknown \(did you mean 'strict'\?\)"):
        grade("1", "1", "stric")
    with pytest.raises(CFTError, match="processes >= 1"):
        grade_many([("1", "1")], processes=0)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(CFTError, match=r"pip install 'cft-trl\[grade\]'"):
        grade("1", "1", "paper")
    # The strict grader needs no parser of others.
    assert grade(r"\frac12", "0.5")


# ---- the self-test ---------------------------------------------------------------------------------------------------


def assert_sound(report: dict) -> None:
    for name, graders in report.items():
        strict = graders["strict"]
        assert strict["own"] >= 0.995, (name, strict)
        assert strict["respelled"] >= 0.97, (name, strict)
        assert strict["neighbour"] >= 0.995, (name, strict)


def test_self_test_of_small_sets(shared_data):
    report = self_test(shared_data / "benchmarks", ("aime24", "amc23"))
    assert_sound(report)
    assert report["aime24"]["strict"]["of"] == 30
    assert report["amc23"]["strict"]["neighbours_of"] == 37  # some neighbours have the same answer


def test_self_test_sees_a_grader_that_accepts_everything(shared_data, monkeypatch):
    monkeypatch.setattr(grading, "grade_many", lambda pairs, *rest: [True] * len(list(pairs)))
    report = self_test(shared_data / "benchmarks", ("aime24",))["aime24"]["strict"]
    assert (report["own"], report["neighbour"], len(report["accepted_neighbours"])) == (1.0, 0.0, 10)


@pytest.mark.slow
def test_self_test_of_all_sets(shared_data):
    report = self_test(shared_data / "benchmarks")
    assert_sound(report)
    minerva = report["minerva-math"]
    assert (minerva["strict"]["zero_for_small"], minerva["strict"]["five_percent_off"]) == ([0, 27], [0, 187])
    assert (minerva["paper"]["zero_for_small"], minerva["paper"]["five_percent_off"]) == ([27, 27], [47, 187])
