"""The verdict grammar, on conclusions as teachers write them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cft_trl.data.verdict import parse_verdict, to_verdict, verdict_span, with_verdict_line
from cft_trl.errors import CFTError

RIGHT = [
    "Every step checks out.\n\nConclusion: right [END]",
    "Conclusion: Right.",
    "conclusion: right",
    "CONCLUSION: RIGHT [END]",
    "Critique Conclusion: Correct",
    "Conclusion: **right** [END]",
    "**Conclusion: right**",
    "**Conclusion:** Correct!",
    "Conclusion: \\boxed{right}",
    "Conclusion: $\\boxed{\\text{correct}}$",
    "Conclusion\uff1aright",
    "Conclusion: ✅ Correct",
    "Conclusion: The solution is correct.",
    "Conclusion: The student's final answer is right, and each step follows.",
    "Conclusion: It arrives at the correct answer.",
    "Conclusion: The solution is not wrong.",
    "Conclusion: right, not wrong",
    "Conclusion: All steps are correct.",
    "Conclusion: The answer $x=4$ is correct because the discriminant is wrong only in sign for x < 0.",
    "Conclusion:\r\n\r\nright\r\n[END]\r\n",
    "### Conclusion\n\nThe student factors the quadratic and tests both roots.\n\nTherefore, the solution is correct.",
    "Conclusion: wrong\n\nWait, 3 x 4 is 12 after all.\n\nConclusion: right [END]",
    "Conclusion: right\n\nThe key formula is a wrong turn that many students take, but not this one.",
    "Conclusion: correct [END]\n\nConclusion: 42",
    "Conclusion: The solution is right since the answer 7 in the key is wrong.",
    "Conclusion: right [END] (Another reading: the solution is wrong.)",
    "Conclusion: The solution is right. [END] The final answer is wrong.",
    "Verdict: right",
    "Final verdict: the answer is accurate and the solution is valid.",
    "Judgement: correct",
    '{"critique": "fine", "verdict": "right"}',
    "<verdict>right</verdict>",
    "The verdict is: right",
    "Conclusion - right",
    "In conclusion, the solution is correct.",
]

WRONG = [
    "The sum is 12, not 13.\n\nConclusion: wrong [END]",
    "**Conclusion:** Wrong.",
    "Conclusion: The solution is incorrect",
    "### Conclusion\nwrong",
    "## 3. Final Conclusion\r\n\r\n**Wrong**\r\n",
    "Conclusion: \\boxed{wrong}",
    "Conclusion: *incorrect* [END]",
    "Conclusion: 'wrong'",
    "Conclusion: wrong!",
    "Conclusion: not correct",
    "Conclusion: The solution is not correct.",
    "Conclusion: The solution isn't right.",
    "Conclusion: The solution isn\u2019t right.",
    "Conclusion: The answer cannot be right.",
    "Conclusion: The solution is not entirely correct.",
    "Conclusion: The reasoning is far from correct.",
    "Conclusion: mostly wrong",
    "Conclusion: wrong. The right answer is 5.",
    "Conclusion: wrong, the correct answer is 5",
    "Conclusion: wrong (not right)",
    "Conclusion: wrong (the correct answer is 7) [END]",
    "Conclusion: (wrong)",
    "Conclusion: The final answer, 42, is incorrect.",
    "Conclusion: The given solution, which uses induction, is wrong.",
    "Conclusion: The solution (a guess) is wrong.",
    "Conclusion: The solution is not only wrong but confusing.",
    "Conclusion: wrong\nThe right answer is 42.",
    "Conclusion: Wrong answer",
    "Conclusion: The answer (B) is incorrect; the correct answer is (C).",
    "Conclusion: The approach is correct, but the final answer is wrong.",
    "Conclusion: the right approach leads to a wrong answer",
    "Conclusion: The reasoning is correct. However, the final answer is wrong.",
    "Conclusion: The student did not reach the correct answer.",
    "Conclusion: The student fails to get the right answer.",
    "Conclusion: The solution concludes 42, which is incorrect.",
    "Conclusion: The solution contains an error in step 3 and is therefore incorrect.",
    "Conclusion: The right answer is 5, so the solution is wrong.",
    "Conclusion: I find the solution to be incorrect.",
    "Conclusion: The student's answer doesn't look right.",
    "Conclusion: right [END]\nOn reflection:\nConclusion: wrong [END]",
    "Conclusion: right\r\n\r\nConclusion: wrong\r\n",
    "In conclusion, the student's answer is not right.",
    "Final verdict: incorrect",
    "FINAL VERDICT: WRONG",
    "Judgment: wrong",
    "My verdict is that the solution is wrong.",
    "| Conclusion | wrong |",
    "Conclusion (final): wrong",
    "Conclusion\n----------\nwrong",
]

NONE = [
    None,
    "",
    "The sum is 12, not 13.",
    "Conclusion:",
    "Conclusion: 42",
    "Conclusion: 42, which is incorrect.",
    "Conclusion: unclear [END]",
    "Conclusion: right or wrong",
    "Conclusion: right/wrong [END]",
    "Conclusion: [right/wrong]",
    "Conclusion: <right or wrong>",
    "Conclusion: the solution is right or wrong [END]",
    'End your critique with "Conclusion: right" or "Conclusion: wrong".',
    "Conclusion: neither right nor wrong",
    "Conclusion: partially correct",
    "Conclusion: The answer is correct but the reasoning is wrong.",
    "Conclusion: right answer, wrong reasoning",
    "Conclusion: the answer is right for the wrong reasons",
    "Conclusion: a wrong approach leads to the right answer",
    "Conclusion: The method used in the solution is correct.",
    "Conclusion: The solution would be correct if the sign were flipped.",
    "Conclusion: Is the solution right?",
    "Conclusion: The correct answer is 5.",
    "Conclusion: right angle",
    "Conclusion: right-angled",
    "Conclusion: The right triangle has area 5.",
    "Conclusion: The statement is correct.",
    "in conclusion, the answer is right triangle",
    "In conclusion, right after step 2, the sign is lost.",
    "Conclusion: I cannot say whether the answer is right.",
    "This conclusion is incorrect and cannot be used to continue the calculation.",
    "The student jumps to the wrong conclusion here.",
    "Conclusion: rightly so",
    "Inconclusion: right",
]


@pytest.mark.parametrize(
    ("text", "verdict"),
    [(t, "right") for t in RIGHT] + [(t, "wrong") for t in WRONG] + [(t, None) for t in NONE],
)
def test_forms_that_teachers_write(text, verdict):
    assert parse_verdict(text) == verdict
    span = verdict_span(text)
    assert (span is None) == (verdict is None)
    if span:
        first, *rest = text[span[0] : span[1]].lower().replace("\u2019", "'").split()
        plain = {"right": "right", "correct": "right", "accurate": "right", "wrong": "wrong", "incorrect": "wrong"}
        if rest:
            assert first in {"not", "isn't", "doesn't", "cannot", "fails", "far"}
            assert plain[rest[-1]] != verdict
        else:
            assert plain[first] == verdict


def test_the_span_is_the_last_conclusion_s_word():
    text = "A right start.\n\nConclusion: right\n\nNo, the right sign is minus.\n\nConclusion: **wrong** [END] right"
    start, end = verdict_span(text)
    assert (start, text[start:end]) == (text.rindex("wrong"), "wrong")
    text = "Conclusion: the answer is not correct."
    start, end = verdict_span(text)
    assert text[start:end] == "not correct"


PIECES = [
    "Conclusion",
    ":",
    " ",
    "\n",
    "right",
    "wrong",
    "or",
    "not",
    " the solution is ",
    "[END]",
    "verdict",
    "**",
    "x",
    "é",
]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join), st.sampled_from(["right", "wrong"]))
def test_appending_a_verdict_states_it_and_keeps_the_critique(critique, verdict):
    stated = parse_verdict(critique)
    if stated not in (None, verdict):
        with pytest.raises(CFTError, match="concludes"):
            with_verdict_line(critique, verdict)
        return
    written = with_verdict_line(critique, verdict)
    assert parse_verdict(written) == verdict
    assert written.startswith(critique)
    assert with_verdict_line(written, verdict) == written
    if stated == verdict:
        # What says it without a conclusion gets one.
        assert written in (critique, f"{critique}\n\nConclusion: {verdict} [END]")


def test_the_appended_line_is_the_published_one():
    assert with_verdict_line("No.", "wrong") == "No.\n\nConclusion: wrong [END]"
    assert with_verdict_line("", "right") == "Conclusion: right [END]"
    for nothing in (None, ""):
        with pytest.raises(CFTError, match="no verdict to append"):
            with_verdict_line("No.", nothing)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=80) | st.lists(st.sampled_from(PIECES), max_size=20).map("".join))
def test_any_text_is_parsed_and_the_span_agrees(text):
    verdict, span = parse_verdict(text), verdict_span(text)
    assert verdict in ("right", "wrong", None)
    assert (span is None) == (verdict is None)
    assert span is None or 0 <= span[0] < span[1] <= len(text)


@pytest.mark.parametrize(
    ("value", "verdict"),
    [
        *((value, "right") for value in (True, 1, 1.0, np.True_, "correct", " RIGHT ", "true", "1")),
        *((value, "wrong") for value in (False, 0, 0.0, np.int64(0), "Incorrect", "wrong", "False", "0")),
        *((value, None) for value in (None, "", float("nan"), "flawed")),
    ],
)
def test_labels_in_the_wild(value, verdict):
    assert to_verdict(value) == verdict


@pytest.mark.parametrize("value", ["maybe", "not correct", 2, -1, 0.5, [1], {"label": 1}, b"right", "none"])
def test_other_labels_are_refused(value):
    with pytest.raises(CFTError, match="is not a verdict"):
        to_verdict(value)


@pytest.mark.parametrize(
    "piece",
    [
        "Conclusion: ",
        "### conclusion\n",
        "in conclusion, ",
        "verdict is not ",
        "conclusion" + " " * 300,
        "*" * 40,
        "Conclusion: the solution is not ",
        "Conclusion: right or ",
        "conclusion of the ",
    ],
)
def test_a_megabyte_of_near_misses_ends(piece):
    """A pattern that backtracks over the whole text would run for hours here; the suite's timeout would end it."""
    text = piece * (1_000_000 // len(piece))
    parse_verdict(text)
    assert parse_verdict(text + "\n\nConclusion: wrong [END]") == "wrong"


def test_scanning_grows_no_faster_than_the_text(monkeypatch):
    """Counts the characters handed to the sentence reader: each is read once, however many conclusions there are."""
    from cft_trl.data import verdict

    read = 0
    original = verdict.sentences

    def counting(text, start, end):
        nonlocal read
        read += end - start
        return original(text, start, end)

    monkeypatch.setattr(verdict, "sentences", counting)
    text = "Conclusion: 42 and so on " * 4000
    assert parse_verdict(text) is None
    assert 0 < read <= len(text)
