r"""The strict grader on the arithmetic source's own answers, which are sentences with what is counted: "19 points."."""

from __future__ import annotations

from cft_trl.grading.answers import extract_answer
from cft_trl.grading.comparison import strict_equal
from cft_trl.grading.grade import grade_many
from cft_trl.sources.arithmetic import arithmetic_records


def test_points_are_counted_and_no_decimal_point():
    right = [("The answer is 19 points.", "19"), (r"\boxed{19\text{ points}}", "19"), ("19", "19 points")]
    wrong = [
        ("The answer is 3 point five.", "3"),
        (r"\boxed{3\text{ points }5}", "3"),
        (r"\boxed{3\text{ point five}}", "3"),
        (r"\boxed{3\text{ point five}}", r"3\text{ five}"),
        (r"\boxed{5\text{ points}}", r"5\text{ goals}"),
    ]
    assert [strict_equal(extract_answer(text), gold) for text, gold in right] == [True] * len(right)
    assert [strict_equal(extract_answer(text), gold) for text, gold in wrong] == [False] * len(wrong)


def test_every_right_solution_of_the_arithmetic_source_is_right():
    rows = list(arithmetic_records(200, seed=3, levels=(0, 1, 2, 3), right_ratio=1.0, with_critiques=False))
    assert len(rows) == 200
    assert any(row["response"].rstrip().endswith("points.") for row in rows)
    hits = grade_many([(row["response"], row["reference_answer"]) for row in rows], limit_s=20)
    assert [row["response"] for row, hit in zip(rows, hits, strict=True) if not hit] == []
