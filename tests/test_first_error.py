"""Which step a critique names: a table of forms, the reference teacher's own wording, and hostile input."""

from __future__ import annotations

import pytest

from cft_trl.evaluation.first_error import first_error_step

STEPS = [
    "There are 3 boxes of 8 pens, so 3 × 8 = 24 pens.",
    "Tom gives away 5, so 24 - 5 = 18 are left.",
    "Each pen costs $2, thus \\(18 \\times 2 = 36\\) dollars.",
    "The answer is \\boxed{36}.",
]
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


@pytest.mark.parametrize("at", range(len(FORMS)))
def test_forms(at):
    text, step = FORMS[at]
    assert first_error_step(text, STEPS) == step


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
