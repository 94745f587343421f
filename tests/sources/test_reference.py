"""The reference teacher: true statements only, the true verdict, the first wrong step by its number and kind."""

import random
import re
from collections import Counter, defaultdict
from fractions import Fraction

import pytest

from cft_trl.data.verdict import parse_verdict
from cft_trl.sources.arithmetic import arithmetic_records
from cft_trl.sources.reference import critique_from_reference
from cft_trl.sources.reference_equations import final_answer, read_equations
from cft_trl.sources.reference_wording import wording

LEVELS = (0, 1, 2, 3)
EQUATION = re.compile(r"([\d.]*\d) ([-+×÷]) ([\d.]*\d) = ([\d.]*\d)")
QUOTED = re.compile(r'"[^"]*"')
WORDS = {  # a word that names the kind of mistake, whatever the phrasing
    "slip": r"arithmetic",
    "operation": r"operation",
    "dropped_step": r"missing step|step is missing",
    "misread": r"misread",
    "lucky": r"by luck",
    "unit": r"unit",
}


def true_equation(left: str, op: str, right: str, shown: str) -> bool:
    a, b = Fraction(left), Fraction(right)
    return {"+": lambda: a + b, "-": lambda: a - b, "×": lambda: a * b, "÷": lambda: a / b}[op]() == Fraction(shown)


def blinded(row: dict) -> dict:
    """The row without anything that tells whether and where its response is wrong."""
    return {
        "id": row["id"],
        "query": row["query"],
        "response": row["response"],
        "meta": {"steps": row["meta"]["steps"]},
    }


def verdict_of(critique: str) -> str:
    return re.fullmatch(r"Conclusion: (right|wrong) \[END\]", critique.splitlines()[-1]).group(1)


@pytest.fixture(scope="module")
def rows() -> list[dict]:
    return [row for level in LEVELS for row in arithmetic_records(900, seed=11, levels=(level,), right_ratio=0.3)]


@pytest.fixture
def pencils() -> dict:
    """3 × 8 = 24 pencils, 24 - 5 = 19 pencils left."""
    steps = [
        {"label": "in the boxes", "left": "3", "left_from": "problem", "op": "×", "right": "8",
         "right_from": "problem", "value": "24", "unit": "pencil"},
        {"label": "left", "left": "24", "left_from": "step 1", "op": "-", "right": "5", "right_from": "problem",
         "value": "19", "unit": "pencil"},
    ]  # fmt: skip
    query = "Nora has 3 boxes of pencils with 8 pencils in each box. She gives away 5 pencils. How many are left?"
    return {"id": "x", "query": query, "reference_answer": "19", "meta": {"steps": steps}}


def critique(row: dict, response: str, seed: object = None) -> str | None:
    return critique_from_reference({**row, "response": response}, seed)


def test_the_verdict_is_the_truth_and_is_found_from_the_text_alone(rows):
    for row in rows:
        assert verdict_of(row["critique"]) == row["verdict"], row
        assert critique_from_reference(blinded(row)) == row["critique"]


def test_a_response_gets_the_verdict_of_its_text_not_of_its_row(rows):
    for row in rows[::10]:
        assert verdict_of(critique_from_reference({**row, "response": row["refinement"]})) == "right"


def test_every_equation_the_teacher_states_is_true(rows):
    stated = 0
    for row in rows:
        for equation in EQUATION.findall(QUOTED.sub("", row["critique"])):
            assert true_equation(*equation), row["critique"]
            stated += 1
    assert stated > 4_000


def test_what_the_teacher_quotes_is_in_the_solution(rows):
    quotes = [(row, quote.strip('"')) for row in rows for quote in QUOTED.findall(row["critique"])]
    assert len(quotes) > 500
    for row, quote in quotes:
        assert quote in row["response"], row["critique"]


def test_the_first_wrong_step_is_named_and_nothing_after_it(rows):
    """The headings count 1, 2, 3 up to the first wrong step; "Answer" stands for the line after the last step."""
    for row in rows:
        headings = re.findall(r"^(?:Step (\d+)|Answer): ", row["critique"], re.MULTILINE)
        lines = len(row["response"].splitlines())
        if row["verdict"] == "right":
            headings = [number for number in headings if number]
            assert headings == [str(number) for number in range(1, lines)]
        else:
            named = [int(number or lines) for number in headings]
            assert named == list(range(1, row["meta"]["first_error_step"] + 1)), row


def test_steps_before_the_error_are_called_right_and_the_error_is_not(rows):
    for row in rows:
        steps = [line for line in row["critique"].splitlines() if line.startswith("Step ")]
        wrong_at = row["meta"]["first_error_step"]
        for number, line in enumerate(steps, 1):
            fine = re.search(r"(correct|as the solution says|which matches|Right|same result)\.$", line)
            assert bool(fine) == (number != wrong_at), row["critique"]


def test_the_recomputation_comes_before_the_judgement(rows):
    for row in rows:
        for line in row["critique"].splitlines():
            if line.startswith("Step "):
                assert re.match(r"Step \d+: [\d.]*\d [-+×÷] [\d.]*\d = [\d.]*\d", line), line


def test_the_kind_of_mistake_is_named(rows):
    for row in rows:
        kind = row["meta"]["error_kind"]
        if kind:
            assert re.search(WORDS[kind], row["critique"]), row["critique"]
        if kind not in (None, "lucky"):
            others = {name: words for name, words in WORDS.items() if name not in (kind, "unit")}
            assert not [name for name, words in others.items() if re.search(words, row["critique"])], row["critique"]


def test_the_correct_answer_and_the_way_to_it_are_given(rows):
    for row in rows:
        told = QUOTED.sub("", row["critique"])
        equations = {"{} {} {} = {}".format(*found) for found in EQUATION.findall(told)}
        for step in row["meta"]["steps"]:
            assert f"{step['left']} {step['op']} {step['right']} = {step['value']}" in equations, row["critique"]
        assert re.search(rf"\b{re.escape(row['reference_answer'])} [a-z]", told.splitlines()[-2]), row["critique"]


def test_critiques_are_compact():
    found = list(arithmetic_records(600, levels=(1,)))
    for verdict, most in (("right", 150), ("wrong", 185)):  # characters; about 52 and 65 tokens of SmolLM2
        lengths = [len(row["critique"]) for row in found if row["verdict"] == verdict]
        assert sum(lengths) / len(lengths) < most
    assert max(len(row["critique"]) for row in found) < 300


def test_the_wording_varies_and_is_fixed_by_the_id(rows):
    phrasings = defaultdict(Counter)
    for row in rows:
        first = row["meta"]["first_error_step"]
        if first and row["meta"]["error_kind"] != "lucky":
            line = row["critique"].splitlines()[first - 1]
            phrasings[row["meta"]["error_kind"]][re.sub(r"[\d.]+|[-+×÷=]", "", QUOTED.sub("", line))] += 1
    assert all(len(found) >= 4 for found in phrasings.values())
    assert all(len(phrases) >= 4 and len(set(phrases)) == len(phrases) for phrases in wording().values())
    row = rows[5]
    assert len({critique_from_reference({**row, "id": f"other-{number}"}) for number in range(20)}) > 5
    assert critique_from_reference(row, 1) == critique_from_reference(row, "1")
    assert critique_from_reference(row, random.Random(4)) == critique_from_reference(row, random.Random(4))
    assert critique_from_reference({**row, "id": None}) == critique_from_reference({**row, "id": None})


RIGHT_WAYS = {
    "plain": "3 × 8 = 24\n24 - 5 = 19\nThe answer is 19.",
    "factors turned round": "8 × 3 = 24\n24 - 5 = 19\nAnswer: 19 pencils",
    "ascii": "3*8=24, and then 24-5=19. So it is 19 pencils.",
    "letter x": "3 x 8 = 24 and 24 - 5 = 19. #### 19",
    "latex": "We have $3 \\times 8 = 24$ and \\(24 - 5 = 19\\), so \\boxed{19}.",
    "one line": "3 × 8 - 5 = 19, so the answer is 19.",
    "chained": "3 × 8 = 24 - 5 = 19. The answer is 19.",
    "a step checked twice": "3 × 8 = 24\n24 - 5 = 19\n19 + 5 = 24\nThe answer is 19.",
    "parentheses": "(3 × 8) - 5 = 19\n\\boxed{19}",
    "only the answer": "The answer is 19 pencils.",
    "bold": "**Final answer is 19**",
    "bullets": "* 3 × 8 = 24\n* 24 - 5 = 19\n\n\\boxed{19}",
    "words that name another step": "3 × 8 = 24 pencils, some left for later.\n24 - 5 = 19 in the boxes.\nAnswer: 19",
}


@pytest.mark.parametrize("response", RIGHT_WAYS.values(), ids=RIGHT_WAYS)
def test_other_ways_to_write_a_right_solution_are_right(pencils, response):
    for seed in range(5):
        assert verdict_of(critique(pencils, response, seed)) == "right"


WRONG_WAYS = {  # response: (the heading of the first error, a word of its line)
    "3 × 8 = 24\n24 - 5 = 18\nThe answer is 18.": ("Step 2: 24 - 5 = 19", "arithmetic"),
    "3 × 8 = 23\n23 - 5 = 18\nThe answer is 18.": ("Step 1: 3 × 8 = 24", "arithmetic"),
    "3 + 8 = 11\n11 - 5 = 6\nThe answer is 6.": ("Step 1: 3 × 8 = 24", "operation"),
    "4 × 8 = 32\n32 - 5 = 27\nThe answer is 27.": ("Step 1: 3 × 8 = 24", "misread"),
    "3 × 8 = 24\n24 - 6 = 18\nThe answer is 18.": ("Step 2: 24 - 5 = 19", "misread"),
    "8 - 5 = 3\nThe answer is 3.": ("Step 1: 3 × 8 = 24", "missing|first"),
    "3 × 8 = 24\nThe answer is 24.": ("Step 2: 24 - 5 = 19", "missing"),
    "3 × 8 = 24\n24 - 5 = 19\nThe answer is 91.": ("Answer: 19 pencils", "91"),
    "The answer is 24 pencils.": ("Answer: 19 pencils", "24"),
    "3 × 8 = 25\n25 - 5 = 19\nThe answer is 19.": ("Step 1: 3 × 8 = 24", "arithmetic"),
    "4 × 6 = 24\n24 - 5 = 19\nThe answer is 19.": ("Step 1: 3 × 8 = 24", "misread"),
    "3 × 8 - 5 = 21\nThe answer is 21.": ("Step 1: 3 × 8 - 5 = 19", "arithmetic"),
    "5 - 24 = 19\nThe answer is 19.": ("Step 1: ", ""),
    "7 + 7 = 14\nThe answer is 14.": ("Answer: 19 pencils", "14"),
    "8 × 3 = 24\n24 - 5 = 18\nThe answer is 18.": ("Step 2: 24 - 5 = 19", "arithmetic"),
}


@pytest.mark.parametrize("response", WRONG_WAYS)
def test_hand_written_wrong_solutions(pencils, response):
    heading, word = WRONG_WAYS[response]
    for seed in range(8):
        text = critique(pencils, response, seed)
        assert verdict_of(text) == "wrong"
        line = next(line for line in text.splitlines() if line.startswith(heading))
        assert re.search(word, line), text
        assert all(true_equation(*found) for found in EQUATION.findall(QUOTED.sub("", text)) if "3 × 8 - 5" not in text)


def a_step(left: str, op: str, right: str, value: str, left_from: str = "problem", right_from: str = "problem") -> dict:
    return {"label": "made", "left": left, "left_from": left_from, "op": op, "right": right, "right_from": right_from,
            "value": value, "unit": "toy"}  # fmt: skip


def test_another_right_way_is_right():
    steps = [a_step("2", "×", "3", "6"), a_step("6", "×", "4", "24", left_from="step 1")]
    row = {"id": "y", "query": "2 by 3 by 4", "meta": {"steps": steps}}
    assert verdict_of(critique(row, "3 × 4 = 12\n2 × 12 = 24\nThe answer is 24.")) == "right"
    assert verdict_of(critique(row, "3 × 4 = 12\n3 × 12 = 24\nThe answer is 24.")) == "wrong"
    assert verdict_of(critique(row, "2 × 4 = 8\n8 + 3 = 11\nThe answer is 11.")) == "wrong"


def test_a_missing_result_is_seen_beside_an_equal_quantity():
    """270 + 18 for 270 + 270: the second 270 was never worked out."""
    steps = [
        a_step("24", "-", "6", "18"),
        a_step("18", "×", "15", "270", left_from="step 1"),
        a_step("270", "+", "270", "540", right_from="step 2"),
    ]
    row = {"id": "z", "query": "24, 6, 15 and 270", "meta": {"steps": steps}}
    text = critique(row, "24 - 6 = 18\n270 + 18 = 288\nThe answer is 288.")
    assert re.search(r"^Step 2: 18 × 15 = 270.*(step is missing|missing step)", text, re.MULTILINE)
    assert re.search(r"270 \+ 270 = 540\.$", text, re.MULTILINE)


def test_luck_is_told(pencils):
    assert "by luck" in critique(pencils, "3 × 8 = 25\n25 - 5 = 19\nThe answer is 19.")
    assert "luck" not in critique(pencils, "3 × 8 = 25\n25 - 5 = 20\nThe answer is 20.")


def test_independent_steps_may_come_in_another_order():
    """Swapping two neighboring steps that do not need each other leaves a right solution right."""
    swapped = 0
    for row in arithmetic_records(400, seed=2, levels=(2, 3), right_ratio=1):
        steps, lines = row["meta"]["steps"], row["response"].splitlines()
        for at in range(1, len(steps)):
            if f"step {at}" not in (steps[at]["left_from"], steps[at]["right_from"]):
                turned = [*lines[: at - 1], lines[at], lines[at - 1], *lines[at + 1 :]]
                text = critique_from_reference({**row, "response": "\n".join(turned)})
                assert verdict_of(text) == "right", text
                swapped += 1
    assert swapped > 50


def test_commuted_operands_are_right():
    for row in arithmetic_records(300, seed=3, right_ratio=1):
        turned = re.sub(r"([\d.]*\d) ([+×]) ([\d.]*\d) =", r"\3 \2 \1 =", row["response"])
        assert verdict_of(critique_from_reference({**row, "response": turned})) == "right"


def test_units_are_only_wrong_when_they_clash(pencils):
    for step in pencils["meta"]["steps"]:
        step["unit"] = "minute"
    steps = "3 × 8 = 24{}\n24 - 5 = 19{}\nThe answer is 19{}."
    assert verdict_of(critique(pencils, steps.format("", "", ""))) == "right"
    assert verdict_of(critique(pencils, steps.format(" minutes", " sweets", ""))) == "right"
    text = critique(pencils, steps.format(" minutes", " hours", " hours"))
    assert verdict_of(text) == "wrong"
    assert re.search(r"^Step 2: 24 - 5 = 19.* minutes.*hours.*unit", text, re.MULTILINE)
    text = critique(pencils, steps.format(" minutes", " minutes", " seconds"))
    assert re.search(r"^Answer: 19 minutes.*seconds.*unit", text, re.MULTILINE)


def test_without_steps_only_what_can_be_checked_is_said(pencils):
    row = {key: pencils[key] for key in ("id", "query", "reference_answer")}
    right = critique(row, "3 × 8 = 24\n24 - 5 = 19\nThe answer is 19.")
    assert verdict_of(right) == "right"
    slip = critique(row, "3 × 8 = 25\n25 - 5 = 20\nThe answer is 20.")
    assert slip.startswith("Step 1: 3 × 8 = 24")
    assert verdict_of(slip) == "wrong"
    assert "24 - 5" not in slip, "the teacher cannot know the next step"
    sound = critique(row, "3 + 8 = 11\n11 - 5 = 6\nThe answer is 6.")
    assert verdict_of(sound) == "wrong"
    assert "operation" not in sound, "the teacher cannot know which step is wrong"
    assert "The arithmetic holds" in sound
    lucky = critique(row, "3 × 8 = 25\n25 - 5 = 19\nThe answer is 19.")
    assert verdict_of(lucky) == "wrong"
    assert "33.33" in critique({**row, "reference_answer": "33.33"}, "100 / 3 = 33.33, so the answer is 33.33.")
    assert verdict_of(critique({**row, "reference_answer": "33.33"}, "100 / 3 = 33.33. Answer: 33.33")) == "right"
    assert verdict_of(critique({**row, "reference_answer": "3/4"}, "The answer is 0.75.")) == "right"
    assert verdict_of(critique({**row, "reference_answer": "$1,250"}, "The answer is $1250.")) == "right"


@pytest.mark.parametrize("meta", [None, {}, {"steps": []}, {"steps": None}])
def test_missing_steps_are_no_steps(pencils, meta):
    row = {**pencils, "meta": meta}
    assert verdict_of(critique(row, "3 × 8 = 24\n24 - 5 = 19\nThe answer is 19.")) == "right"


def test_long_decimals_are_rounded_results_and_no_errors():
    response = "4 ÷ 7 = 0.57142857. 0.57142857 × 7 = 3.99999999. The answer is 4."
    told = critique_from_reference({"query": "?", "response": response, "reference_answer": "4"})
    assert "0.57142857" in told
    assert parse_verdict(told) == "right"
    wrong = critique_from_reference({"query": "?", "response": "4 ÷ 7 = 0.57142957", "reference_answer": "4"})
    assert parse_verdict(wrong) == "wrong"


def test_nothing_to_check_gives_none(pencils):
    assert critique(pencils, "I do not know.") is None
    assert critique({**pencils, "meta": {}}, "I do not know.") is None
    assert critique({**pencils, "meta": {}, "reference_answer": None}, "3 × 8 = 24. The answer is 24.") is None
    assert critique({**pencils, "meta": {}, "reference_answer": "x = 3"}, "The answer is 3.") is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Step 1: 3 × 8 = 24 pencils.", ["3 × 8 = 24"]),
        ("$1,200 - $50 = $1,150", ["1200 - 50 = 1150"]),
        ("7 / 2 = 3.5.", ["7 ÷ 2 = 3.5"]),
        ("10 − 4 = 6", ["10 - 4 = 6"]),
        ("2 + 3 × 4 = 14", ["2 + 3 × 4 = 14"]),
        ("(2 + 3) × 4 = 20", ["(2 + 3) × 4 = 20"]),
        ("6 + 6 = 3 × 4 = 12", ["3 × 4 = 12"]),
        ("x + 3 × 8 = 24", []),
        ("6 ÷ 25 = 24%", []),
        ("4 ÷ 0 = 0", []),
        ("2^3 + 1 = 9", []),
        ("On 3/4 of 2024-05-01 = nothing", []),
        ("10 ÷ 4 = 5/2", []),
        ("5 - 8 = -3", ["5 - 8 = -3"]),
    ],
)
def test_equations_are_read(text, found):
    assert [equation.text for equation in read_equations(text)] == found


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("The answer is 24 pencils.\nNo: the answer is 19 pencils.", 19, ""),
        ("so \\boxed{1,250} dollars", 1250, "dollars"),
        ("Answer: $2.50", Fraction(5, 2), ""),
        ("The final answer is **7**.", 7, ""),
        ("#### 42", 42, ""),
        ("we get 12 and 13 minutes", 13, "minutes"),
        ("Answer: -3", -3, ""),
        ("\\boxed{3/4}", Fraction(3, 4), ""),
        ("The answer is 19 pencils, out of 24.", 19, ""),
        ("\\boxed{19}, from 3 boxes of 8", 19, ""),
        ("The answer is 7, that is \\boxed{7.5}. The answer is 6.", Fraction(15, 2), ""),
        ("The answer is \\boxed{19} square meters.", 19, "square meters"),
    ],
)
def test_final_answers_are_read(text, value, unit):
    found = final_answer(text)
    assert (found.value, found.unit) == (value, unit)
    assert final_answer("nothing here") is None
