"""What is read at once where a text is plain, against what is read word by word: the same for every text."""

from __future__ import annotations

import random
import re

import pytest

from cft_trl.data import fingerprints, markup, verdict
from cft_trl.data.verdict import contradiction, parse_verdict

# Pieces that critiques are made of, and what makes them hard.
PIECES = (
    "Step 2 fails.", "3 x 4 is 12", "\n", "\n\n", " ", "Conclusion:", "Conclusion: right [END]", "> ", "Step 1: ", "or",
    "Conclusion: wrong [END]", "conclusion: right", "**Conclusion:** wrong [END]", "Verdict: right [END]", "Wait, no.",
    "not ", "\u2717", "the student's ", '"', "I end with", " right [END]", ": wrong [END]", "<think>", "</think>",
    "[THINK]", "3 < 4 > 2", "Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]", "\u25c1think\u25b7", "x<y",
    "<|channel>thought", "<THINKING a=1>",
)  # fmt: skip


def texts(count: int):
    rng = random.Random(5)
    for _ in range(count):
        yield "".join(rng.choice(PIECES) for _ in range(rng.randrange(1, 9)))


def test_the_contracts_line_is_read_as_word_by_word(monkeypatch):
    drawn = list(texts(6000))

    def read():
        verdict._last.cache_clear()
        verdict._conclusions.cache_clear()
        return [(parse_verdict(text), contradiction(text), verdict._last(text)) for text in drawn]

    at_once, plain = read(), sum(bool(re.search(r": (?:right|wrong) \[END\]\s*\Z", text)) for text in drawn)
    monkeypatch.setattr(verdict, "_PLAIN_LINE", re.compile(r"(?!)"))
    assert read() == at_once
    assert plain > 500
    verdict._last.cache_clear()
    verdict._conclusions.cache_clear()


def test_tags_are_found_as_without_the_look_at_their_first_letters():
    whole = re.compile(
        "|".join(f"(?P<{name}>{begin})|(?P<{name}_end>{end})" for name, (begin, end) in markup._THINKING.items())
    )
    for text in texts(3000):
        found = [(tag.span(), tag.lastgroup) for tag in markup._TAG.finditer(text)]
        assert found == [(tag.span(), tag.lastgroup) for tag in whole.finditer(text)]


@pytest.mark.parametrize(
    ("new", "old"),
    [
        ("_PROSE_MARKS", r"(?<!\d)[.,:;?\"]|[.,:;?\"](?!\d)"),
        ("_LOOSE_SPACE", r"(?<!\w) | (?!\w)"),
    ],
)
def test_marks_and_spaces_are_those_of_the_longer_rule(new, old):
    rng = random.Random(6)
    for _ in range(20_000):
        text = "".join(rng.choice('a1 .,:;?"\u00e9 \n\u0663') for _ in range(rng.randrange(12)))
        assert getattr(fingerprints, new).sub("#", text) == re.sub(old, "#", text), text
