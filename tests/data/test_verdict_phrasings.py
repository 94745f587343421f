"""No conclusion is read as the opposite of what it says, and plain ones are not lost."""

from itertools import product

import pytest
from verdict_phrasings import NEITHER, RIGHT, WRONG
from verdict_phrasings_limited import LIMITED
from verdict_texts import TEXTS

from cft_trl.data.teacher_prompts import clean_critique
from cft_trl.data.verdict import contradiction, parse_verdict, verdict_span, with_verdict_line
from cft_trl.errors import CFTError
from cft_trl.generation.types import Generation
from cft_trl.synthesis.critique import CritiqueSettings, _read

MEANT = [(LIMITED, {"wrong", None}), (WRONG, {"wrong"}), (RIGHT, {"right"}), (NEITHER, {"right", None})]
PHRASINGS = [(phrase, allowed) for group, allowed in MEANT for phrase in group]


@pytest.mark.parametrize("at", range(len(PHRASINGS)))
def test_a_conclusion_says_what_it_says(at):
    phrase, allowed = PHRASINGS[at]
    assert parse_verdict(f"Step 1 holds.\n\nConclusion: {phrase}") in allowed, phrase


def test_neither_the_opening_nor_the_end_turns_it_round():
    openings = ("### Conclusion\n\n", "**Conclusion:** ", "In conclusion, ", "My verdict is that ", "Final verdict: ")
    for (phrase, allowed), opening, end in product(PHRASINGS, openings, (" [END]", ".", "\n[END]")):
        assert parse_verdict(opening + phrase + end) in {*allowed, None}, opening + phrase + end


@pytest.mark.parametrize("at", range(len(TEXTS)))
def test_whole_texts(at):
    text, verdict = TEXTS[at]
    assert parse_verdict(text) == verdict
    assert (verdict_span(text) is None) == (verdict is None)


@pytest.mark.parametrize(
    "text", ["Correctness: wrong\nStep 2.", "Wrong.\n\nThe sum is off.", "The answer is wrong because 2 + 2 is 4."]
)
def test_what_says_a_verdict_and_concludes_nothing_gets_the_line(text):
    assert parse_verdict(text) == "wrong"
    assert with_verdict_line(text, "wrong") == f"{text}\n\nConclusion: wrong [END]"
    with pytest.raises(CFTError, match="concludes 'wrong' but"):
        with_verdict_line(text, "right")


def answer(text):
    return Generation(text, "stop", None, 1)


RECORD = {"meta": None, "verdict": None}
QUOTED = (
    "I have to end with one of these lines:\nConclusion: right [END]\nConclusion: wrong [END]\n\n"
    "Step 1: 3 x 7 is 21.\n\nConclusion: wrong [END]"
)


def test_a_critique_ends_with_its_last_conclusion():
    assert clean_critique(QUOTED + "\nSo:") == QUOTED
    assert _read(CritiqueSettings(), RECORD, "t", 0, answer(QUOTED))["verdict"] == "wrong"
    twice = "Fine.\n\nConclusion: right [END]\n\nAll steps hold.\n\nConclusion: right [END]"
    assert clean_critique(twice + "\n") == twice


@pytest.mark.parametrize(
    ("text", "how"),
    [
        ("Fine.\n\nConclusion: right [END]\n\nWait, it is 12.\n\nConclusion: wrong [END]", "concludes right and wrong"),
        (
            "**Verdict:** It is wrong.\n\nStep 1 holds.\n\nConclusion: right [END]",
            "concludes right and wrong",
        ),
        ("Conclusion: right [END]\nConclusion: wrong [END]", "concludes right and wrong"),
        ("Fine.\n\nConclusion: right [END]\n\nWait, step 2 fails.", "takes its conclusion back"),
        ("Fine.\n\nConclusion: wrong [END] On reflection, it holds.", "takes its conclusion back"),
    ],
)
def test_a_critique_that_contradicts_itself_is_refused_by_name(text, how):
    assert _read(CritiqueSettings(), RECORD, "t", 0, answer(text)) == f"contradicts itself: {how}"
    assert contradiction(text) == how
