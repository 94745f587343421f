r"""How sure a critic is: the probability of "right" where its own critique comes to the verdict.

    critique  "3 x 4 is 12, as the solution says.\n\nConclusion: right [END]"
    tokens    … "Conclusion", ":", " right"         there " right" has probability 0.62 and " wrong" 0.31
    Odds("right", p_right=0.667, low=0.667, high=0.667)

Only the two words are weighed against each other: P(right) = p(" right") / (p(" right") + p(" wrong")). The other word
is the one that stands in the same place, written likewise: "Wrong" for "Right", "incorrect" for "correct", "correct"
for "not correct". Read is the first token in which the two differ; of the tokens that could begin the other word there
it is the longest one. The rule needs no tokenizer: a model has the same figure here and behind an endpoint.

With grades P(right) is the share of the grades that count as right, among all of them in that place.

A critique without a verdict, or with one that no second word answers, has no figure; `Odds.missing` says why. Among the
20 likeliest tokens that an endpoint tells, the other word may be missing: it is then at most as likely as the last of
them, and `p_right` is the bound that lies nearer to one half.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cft_trl.data.prompts import Wording, stated_by
from cft_trl.generation.types import Choice, Generation, Message

TOP_LOGPROBS = 20  # the most that OpenAI's protocol and vLLM's default allow
# Fewer letters may begin another word as well ("in" for "incorrect"); whole vocabularies are not searched for them.
_LETTERS = 3
_CONTEXT = 24

NO_VERDICT, NO_OTHER_WORD, NOT_FOUND = "no verdict", "a verdict without a second word", "verdict not among the tokens"
NOT_WRITTEN = "not written"  # there is no critique: its generation failed

_OTHERS = {
    "right": "wrong", "correct": "incorrect", "accurate": "inaccurate", "valid": "invalid", "true": "false",
}  # fmt: skip
_OTHERS |= {wrong: right for right, wrong in _OTHERS.items()}
_OTHERS |= dict.fromkeys(("flawed", "erroneous", "mistaken"), "correct")


@dataclass(frozen=True, slots=True)
class Odds:
    """What one critique says, and how surely.

    Attributes:
        verdict: "right", "wrong" or None.
        p_right: From 0 to 1; None where it cannot be read.
        low, high: What it lies between; both `p_right` where it was read exactly.
        missing: Why there is no `p_right`: one of the four constants above; None where there is one.
    """

    verdict: str | None
    p_right: float | None = None
    low: float | None = None
    high: float | None = None
    missing: str | None = None

    @property
    def bounded(self) -> bool:
        """Whether only bounds are known; those closer than 0.0001 are as good as the figure."""
        return self.low is not None and self.high is not None and self.high - self.low > 1e-4


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the words part: `at` in the text; `written` and `others` are what is left of each from there on, the others
    with whether they say right."""

    verdict: str
    at: int
    written: str
    others: tuple[tuple[str, bool], ...]


def other_word(word: str) -> str | None:
    """The word that would say the opposite in the same place, in the same case; None where there is none.

    Example:
        >>> other_word("Wrong"), other_word("INCORRECT"), other_word("not correct"), other_word("isn't right")
        ('Right', 'CORRECT', 'correct', None)
    """
    if (denied := re.fullmatch(r"not\s+(\w+)", word, re.IGNORECASE)) and denied[1].lower() in _OTHERS:
        return denied[1].capitalize() if word[0].isupper() and denied[1].islower() else denied[1]
    other = _OTHERS.get(word.lower())
    if other is None:
        return None
    return _cased(other, word)


def _cased(word: str, like: str) -> str:
    """A word in the case of another."""
    return word.upper() if like.isupper() else word.capitalize() if like[0].isupper() else word


def read_told(text: str, choices: Sequence[Choice], preset: str | Wording = "paper") -> Odds:
    """The odds of a critique from an endpoint.

    Args:
        text: The critique.
        choices: The tokens that were written, each with the likeliest in its place.
        preset: The wording that it was asked in, whose verdict words it uses.

    Example:
        >>> right = Choice(" right", math.log(0.6), ((" right", math.log(0.6)), (" wrong", math.log(0.2))))
        >>> odds = read_told("Conclusion: right", [Choice("Conclusion", 0.0), Choice(":", 0.0), right])
        >>> odds.verdict, round(odds.p_right, 6), odds.bounded
        ('right', 0.75, False)
    """
    place = _place(text, preset)
    if isinstance(place, Odds):
        return place
    told = _told_at(text, place, choices)
    if told is None:
        return Odds(place.verdict, missing=NOT_FOUND)
    choice, head = told
    if not choice.others:
        return Odds(place.verdict, missing=NOT_FOUND)
    tokens = [_told_token(choice, head, other) for other, _ in place.others]
    found = [token for token in (choice.text, *tokens) if token is not None]
    if len(set(found)) < len(found):
        return Odds(place.verdict, missing=NOT_FOUND)  # a word that begins like another cannot be told from it
    others = [
        (says_right, *_told_of(choice, head, other, token))
        for token, (other, says_right) in zip(tokens, place.others, strict=True)
    ]
    return _odds(place.verdict, math.exp(choice.logprob), others)


def _told_token(choice: Choice, head: str, other: str) -> str | None:
    """The longest token told in a place that another word can begin with there; None where none of them is it."""
    least = min(_LETTERS, len(choice.text) - len(head), len(other))
    told = {choice.text, *(text for text, _ in choice.others)}
    return next((head + other[:size] for size in range(len(other), least - 1, -1) if head + other[:size] in told), None)


def _told_of(choice: Choice, head: str, other: str, token: str | None) -> tuple[float, float]:
    """What the probability of another word lies between, whose first token is told or not."""
    if token is not None:
        # SentencePiece's "▁wrong" and "wrong" are both shown as "wrong": one of them it is.
        found = [math.exp(logprob) for text, logprob in choice.others if text == token]
        return min(found), max(found)
    beginnings = {head + other[:size] for size in range(1, len(other) + 1)}
    probabilities = [math.exp(logprob) for _, logprob in choice.others]
    rest = max(0.0, 1.0 - sum(probabilities))
    # What begins it, too short to be sure of, may be its first token or another word's.
    shorter = [math.exp(logprob) for text, logprob in choice.others if text in beginnings]
    return 0.0, max(min(*probabilities, rest), *shorter, 0.0)


def read_here(model: Any, conversation: Sequence[Message], made: Generation, preset: str | Wording = "paper") -> Odds:
    """The odds of a critique that was written in this process: one more forward pass, over what stands before the verdict.

    Args:
        model: The `LocalModel` that wrote it.
        conversation: What it was asked.
        made: What it wrote, with its `ids`.
        preset: The wording that it was asked in, whose verdict words it uses.
    """  # noqa: E501
    place = _place(made.text, preset)
    if isinstance(place, Odds):
        return place
    tokenizer, said = model.tokenizer, model.said(list(made.ids))
    header = len(made.ids) - len(said)
    count = _tokens_until(model.decode, said, place.at)
    upto = model.decode(said[:count])
    written = upto[place.at :]
    raw = tokenizer.convert_ids_to_tokens(said[count - 1]) if count else ""
    if upto[: place.at + 1] != made.text[: place.at + 1] or not written or not raw.endswith(written):
        return Odds(place.verdict, missing=NOT_FOUND)
    vocabulary, head = model.vocabulary, raw[: len(raw) - len(written)]
    tokens = [_first_token(vocabulary, head, other) for other, _ in place.others]
    if None in tokens or len({*tokens, said[count - 1]}) <= len(tokens):
        return Odds(place.verdict, missing=NOT_FOUND)  # a word that begins like another cannot be told from it
    logprobs = model.next_token_logprobs(conversation, list(made.ids)[: header + count - 1])
    written_p, *others_p = (math.exp(float(logprobs[token])) for token in (said[count - 1], *tokens))
    others = [(says_right, p, p) for p, (_, says_right) in zip(others_p, place.others, strict=True)]
    return _odds(place.verdict, written_p, others)


def _first_token(vocabulary: Mapping[str, int], head: str, word: str) -> int | None:
    """The longest token that a word, behind a token's beginning, can begin with."""
    sizes = range(len(word), 0, -1)
    return next((vocabulary[part] for size in sizes if (part := head + word[:size]) in vocabulary), None)


def _place(text: str, preset: str | Wording) -> _Place | Odds:
    found = stated_by(text, preset)
    if found is None:
        return Odds(None, missing=NO_VERDICT)
    verdict, written = found.verdict, text[found.start : found.end]
    others = _others(written, verdict, preset)
    if not others or not written.isascii():
        return Odds(verdict, missing=NO_OTHER_WORD)
    shared = min(_parting(written, other) for other, _ in others)
    left, *rest = (word[shared:].split(" ")[0] for word in (written, *(other for other, _ in others)))
    if not left or not all(rest) or len({left, *rest}) <= len(rest):
        return Odds(verdict, missing=NO_OTHER_WORD)
    parts = tuple((part, says_right) for part, (_, says_right) in zip(rest, others, strict=True))
    return _Place(verdict, found.start + shared, left, parts)


def _others(written: str, verdict: str, preset: str | Wording) -> list[tuple[str, bool]]:
    """The words that could have stood in the place of the one that was written, and whether they say right."""
    verdicts = preset.verdicts if isinstance(preset, Wording) else None
    if verdicts is None:
        other = other_word(written)
        return [] if other is None else [(other, verdict == "wrong")]
    as_given = written in verdicts.words
    return [
        (word if as_given else _cased(word, written), verdicts.meaning(word) == "right")
        for word in verdicts.words
        if word != verdicts.word_for(written)
    ]


def _parting(one: str, other: str) -> int:
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), 0)


def _odds(verdict: str, written: float, others: Sequence[tuple[bool, float, float]]) -> Odds:
    """The odds from the probability of the word that was written, and of each other what it lies between."""
    if written <= 0.0:
        return Odds(verdict, missing=NOT_FOUND)
    said_right, said_wrong = (written, 0.0) if verdict == "right" else (0.0, written)
    right, wrong = (
        [own + sum(other[end] for other in others if other[0] is says_right) for end in (1, 2)]
        for own, says_right in ((said_right, True), (said_wrong, False))
    )
    ends = [right[0] / (right[0] + wrong[1]), right[1] / (right[1] + wrong[0])]
    return Odds(verdict, min(ends, key=lambda share: abs(share - 0.5)), min(ends), max(ends))


def _told_at(text: str, place: _Place, choices: Sequence[Choice]) -> tuple[Choice, str] | None:
    """The token that holds the place, and its own text up to there.

    Servers show a token of half a character as they like, and SentencePiece's without its space. So the place is found
    by the plain letters before it, without spaces, counted from the end.
    """
    before = re.search(r"[\x21-\x7e\s]*\Z", text[: place.at])
    assert before is not None  # it may be empty
    window = _squeezed(before[0])[-_CONTEXT:] + place.written
    behind = _squeezed(text[place.at + len(place.written) :])
    seen = _squeezed(text[: place.at]) + place.written
    number = (seen + behind).count(window) - seen.count(window)  # how often it comes again behind
    joined, owners = [], []
    for index, choice in enumerate(choices):
        for at, character in enumerate(choice.text):
            if not character.isspace():
                joined.append(character)
                owners.append((index, at))
    told, end = "".join(joined), len(joined)
    for _ in range(number + 1):
        start = told.rfind(window, 0, end)
        if start < 0:
            return None
        end = start + len(window) - 1
    index, at = owners[start + len(window) - len(place.written)]
    # Shown without its space a token may be another one, which tells where a word stands without one: "right".
    spaced = any(choice.text[:1].isspace() and choice.text.strip() for choice in choices)
    if not spaced and " " in text and not text[: place.at - at][-1:].isspace():
        return None
    return choices[index], choices[index].text[:at]


def _squeezed(text: str) -> str:
    return "".join(text.split())


def _tokens_until(decode: Any, ids: Sequence[int], character: int) -> int:
    """How many tokens it takes until the text holds the character at an index."""
    low, high = 0, len(ids)
    while low < high:
        middle = (low + high) // 2
        if len(decode(ids[:middle])) > character:
            high = middle
        else:
            low = middle + 1
    return low
