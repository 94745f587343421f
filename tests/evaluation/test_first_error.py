"""Which step a critique names: a table of forms, the reference teacher's own wording, and hostile input."""

from __future__ import annotations

import gzip
import json

import pytest
from first_error_forms import MISSED, MORE, STEPS

from cft_trl.evaluation.first_error import first_error_step

FORMS = [
    # by number
    ("Step 2 is wrong.", 2),
    ("step 2 is incorrect: 24 - 5 = 19", 2),
    ("In step 2, the subtraction is incorrect: 24 - 5 = 19.", 2),
    ("**Step 2**: This is incorrect. 24 - 5 = 19.", 2),
    ("Step (2) miscalculates the difference.", 2),
    ("Step #2 has an error.", 2),
    ("Step no. 2 has an error.", 2),
    ("Step 2) Wrong subtraction.", 2),
    ("Step 2 — incorrect.", 2),
    ("[Step 2] is wrong", 2),
    ("Step 2's subtraction is incorrect.", 2),
    ("Error in Step 2: 24 - 5 is 19.", 2),
    ("Upon checking Step 2, 24 - 5 equals 19, not 18.", 2),
    ("In step two the solution forgets to borrow.", 2),
    ("Line 2 is wrong: 24 - 5 = 19.", 2),
    ("Equation 2 is invalid.", 2),
    ("Steps 2 and 3 are both wrong.", 2),
    ("Steps 2-4 are wrong.", 2),
    ("Step 12 is wrong", 12),
    # by its place
    ("There is a mistake in the second step.", 2),
    ("The third step contains an error.", 3),
    ("The 2nd step is not correct.", 2),
    ("The second calculation step is wrong.", 2),
    ("The last step is wrong.", 4),
    ("The final step does not follow.", 4),
    ("In the third step, the student writes $18 \\times 2 = 36$ instead of $38$.", 3),
    # said outright
    ("The first error is in step 2.", 2),
    ("The first error occurs at Step 3, where the sign is lost.", 3),
    ("First wrong step: 2", 2),
    ("The first incorrect step is step 3.", 3),
    ("First error: Step 2", 2),
    ("The earliest mistake is in paragraph 3.", 3),
    ("The solution goes wrong at the second step.", 2),
    ("It first goes wrong in step 2.", 2),
    ("Step 3 is wrong. The first error, though, is in step 2.", 2),
    # ProcessBench's own tags, from 0
    ("The error is in paragraph_1.", 2),
    ("<paragraph_2> contains the first mistake.", 3),
    # in the order of the solution
    ("Step 1 is correct. Step 2 is correct. Step 3 is incorrect.", 3),
    ("Step 2 contains an arithmetic error, so step 3 is wrong as well.", 2),
    ("### Step 1\nCorrect.\n### Step 2\nThe subtraction is wrong.", 2),
    ("1. This step is correct.\n2. This step is incorrect, since 24 - 5 = 19.\n3. It uses the wrong number.", 2),
    ("- Step 1: ok\n- Step 2: wrong", 2),
    ("Step 1: 3 × 8 = 24, correct.\nStep 2: 24 - 5 = 19, but the solution has 18: an arithmetic error.", 2),
    ("Step 2: 24 - 5 = 19. Right.\nStep 3: 19 × 2 = 38 should follow, but a step is missing.", 3),
    ("Step 1: 3 × 8 = 24, correct.\nAnswer: 24 pens, but the solution says dollars: wrong unit.", 4),
    # both halves of a sentence
    ("Steps 1 and 2 are correct, but step 3 is wrong.", 3),
    ("The first two steps are right, but the third step is wrong.", 3),
    ("While step 1 is fine, step 2 overlooks the borrow.", 2),
    ("The reasoning in steps 1 through 3 is sound and free of errors; the mistake is in step 4.", 4),
    ("The approach is right. However, step 2 is where it goes wrong.", 2),
    # denied
    ("The error is not in step 1 but in step 2.", 2),
    ("There is no error in step 1. Step 2 should be 24 - 5 = 19.", 2),
    ("I would not say step 1 is wrong. The error lies in step 3.", 3),
    ("Step 1 is without any mistake. Step 4 is mistaken.", 4),
    # by words of the solution
    ('The solution says "24 - 5 = 18", which is false.', 2),
    ("The line `24 - 5 = 18` is an arithmetic mistake.", 2),
    ('"18 × 2 = 36 dollars" is incorrect.', 3),
    ("The claim “24-5=18” is wrong.", 2),
    # a heading comes before words: a critique may quote them wrongly
    ('Step 1: 8 × 2 = 16 is needed, not "24 - 5 = 18": a wrong operation.', 1),
    # no step
    ("The final answer is wrong.", None),
    ("The solution is wrong. The answer should be 38.", None),
    ("The student made a mistake in calculating the remainder. 24 - 5 should be 19.", None),
    ("The first step is correct. The second step is also correct. The answer is wrong.", None),
    ("Step 1 is right. Step 2 is right.", None),
    ('"pen" is wrong.', None),  # in two steps
    ("Conclusion: wrong [END]", None),
    ("", None),
    (None, None),
]


@pytest.mark.parametrize("at", range(len(FORMS + MORE)))
def test_forms(at):
    text, step = (FORMS + MORE)[at]
    assert first_error_step(text, STEPS) == step, text


@pytest.mark.parametrize("text", MISSED)
def test_what_is_not_understood_is_not_guessed(text):
    assert first_error_step(text, STEPS) is None


def test_on_critiques_that_people_and_models_wrote(shared_data):
    """Counted in docs/evaluation.md; a change that finds fewer, or names more wrong ones, has to say why."""
    with gzip.open(shared_data / "train" / "critiques_permissive.jsonl.gz", "rt") as lines:
        rows = [json.loads(line) for line in lines]
    found = {"found": 0, "none": 0, "wrong": 0}
    for row in rows:
        if row["critique_kind"] == "natural" and isinstance(row["first_error_step"], int):
            named = first_error_step(row["critique"], [line for line in row["response"].split("\n") if line.strip()])
            found["none" if named is None else "found" if named == row["first_error_step"] else "wrong"] += 1
    assert sum(found.values()) == 5518
    assert found["found"] >= 2250
    assert found["wrong"] <= 165


def test_the_reference_teacher_is_understood():
    """On its own critiques the parser finds the label that the corruption left, and no error in right solutions."""
    from cft_trl.sources.arithmetic import arithmetic_records

    found = {"right": 0, "wrong": 0}
    for row in arithmetic_records(1500, seed=5):
        lines = [line for line in row["response"].split("\n") if line.strip()]
        named = first_error_step(row["critique"], lines)
        assert named == (row["meta"].get("first_error_step") if row["verdict"] == "wrong" else None), row["critique"]
        found[row["verdict"]] += 1
    assert min(found.values()) > 500


def test_hostile_text_takes_no_time():
    """Each was quadratic, or might be: a table of them would take minutes and not a second."""
    for piece in ("Step 1 is wrong ", " ", "(", "* ", '"', "not a ", "while a", "first error step ", "is not ", "no ",
                  "`a", "\n", "a, ", "# ", "should x", "step step ", "\u3000", "a;", "but "):  # fmt: skip
        first_error_step(piece * (100_000 // len(piece)), STEPS)
