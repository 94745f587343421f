"""The scans that pass quickly over most of a text find what the plain patterns find."""

import random
import re

import pytest

from cft_trl.data import markup, teacher_prompts, verdict

PIECES = (
    "Conclusion: right [END]", "Conclusion: wrong [END] ", "\n\n", "\n", " ", "conclusions", "CONCLUSION",
    "xconclusion", "_Verdict ", "éverdict", "\u017fverdict", "verdictsx", "judgement", "judgment: ", "judgments", "C",
    "cj", "v", "<think>", "<think [THINK]>", "</think>", "<thought x=1>", "<seed:think>", "[THINK]", "[/THINK]",
    "◁think▷", "◁/think▷", "<|think|>", "<|END_THINKING|>", "<|channel>thought", "<channel|>",
    "Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]", '<details type="reasoning">a</details>',
    "Here is my thought process: x\nHere is my response: y", "<|im_end|>", "<|endoftext|>", "[|endofturn|]", "[e~[",
    "<turn|>", "</s>", "<s>", "<eos>", "<SPECIAL_12>", "<\uff5cend▁of▁sentence\uff5c>", "[INST]", "[/INST]",
    "<reasoning>", "</reasoning>", "<start_of_turn>", "<|tool>", "<seed:bos>", "<", "[", "H", "If so, then ",
    "If the sum holds", "he wrote: ", "she says", "student's ", "I must write ", "or say 'that",
)  # fmt: skip


def texts(count: int) -> list[str]:
    rng = random.Random(0)
    return ["".join(rng.choices(PIECES, k=rng.randrange(1, 9))) for _ in range(count)]


@pytest.mark.parametrize("name", ["_TAG", "_END", "_CONTROL"])
def test_tags_ends_and_tokens(name):
    pattern, found = getattr(markup, name), 0
    for text in texts(5000):
        plain = [one.span() for one in pattern.finditer(text)]
        assert [one.span() for one in markup._found(pattern, text)] == plain
        found += len(plain)
    assert found > 1000


def test_words_that_open_a_conclusion():
    plain = re.compile(r"(?<![a-z])(?:conclusions?|(verdicts?)|judge?ments?)(?![a-z])", re.IGNORECASE | re.ASCII)
    for text in texts(5000):
        for begin, end in ((0, len(text)), (len(text) // 3, len(text) - 1)):
            said = [(one.span(), bool(one[1])) for one in verdict._OPENER.finditer(text, begin, end)]
            assert said == [(one.span(), bool(one[1])) for one in plain.finditer(text, begin, end)]


def test_lines_that_conclude():
    plain = re.compile(r"^Conclusion: (?:right|wrong) \[END\]", re.MULTILINE)
    for text in texts(5000):
        said = [one.span() for one in teacher_prompts._VERDICT_LINE.finditer(text)]
        assert said == [one.span() for one in plain.finditer(text)]


def test_nobody_else_concludes_after_a_blank_line():
    for text in texts(5000):
        before = f"{text}\n\n"[-60:]
        assert not verdict._not_its_own(before)
