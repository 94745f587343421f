"""What a sentence says of a solution: the reading of English behind `cft_trl.data.verdict`.

    "The approach is correct, but the final answer is wrong."  ->  the part is right, the whole is wrong
    "The right triangle has area 6."                           ->  nothing: "right" describes the triangle

A verdict word counts as the beginning of a sentence ("Wrong."), after a verb whose subject is known ("the student's
answer is not correct"), or before such a noun ("reaches the correct answer"). Everything else is an adjective of the
mathematics. Sentences come as the few hundred characters after "Conclusion:", so every scan here is short.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal, NamedTuple

from cft_trl.data.verdict_words import (
    ALL,
    ANOTHER,
    ARTICLES,
    BARE,
    BREAKS,
    CLAUSE_STARTS,
    COPULAS,
    CRITICS,
    DOUBTS,
    FILLERS,
    FOLLOWERS,
    HEDGES,
    JUDGING,
    KINDS,
    MODALS,
    NEGATIONS,
    NEGATIVE_PHRASES,
    PARTIAL,
    PRONOUN_COPULAS,
    QUALIFIERS,
    REACHING,
    REASONS,
    REPORTS,
    RIGHT,
    SUBJECT_ENDS,
    SUBJECT_STARTS,
    SURE,
    UNSURE,
    WRONG,
)

Verdict = Literal["right", "wrong"]

_FLAGS = re.IGNORECASE | re.ASCII
# Typographic signs are read as the plain ones: curly apostrophe, full-width stops, dashes.
_PLAIN_SIGNS = str.maketrans("\u2019\u3002\uff01\uff1f\uff1b\uff1a\uff0c\u2014\u2013", "'.!?;:,||")
_TOKEN = re.compile(r"\\?[a-z]+(?:[-'\u2019][a-z]+)*|\d+(?:[.,]\d+)*|\r?\n|\r|[^\s]", _FLAGS)
_MACRO = re.compile(r"\\(?:boxed|fbox|text\w*|math\w*|emph|underline|quad|bf|rm|it)$", _FLAGS)
_FULL_STOPS = {".", "!", "?", ";"}


class _Spelled(NamedTuple):
    word: str
    start: int
    end: int


class Said(NamedTuple):
    """One thing said: of what ("bare", "whole", "steps", "part"), the verdict (None = unclear), and where."""

    kind: str
    verdict: Verdict | None
    start: int
    end: int


class StatedVerdict(NamedTuple):
    """The verdict that a critique states, and the character offsets of the word or words that state it."""

    verdict: Verdict
    start: int
    end: int


def resolve(said: list[Said]) -> Said | None:
    """One verdict from all that was said; rule 4 of the module's docstring."""
    whole = [s for s in said if s.kind in ("bare", "whole")]
    rest = [s for s in said if s.kind in ("steps", "part")]
    for group in (whole, rest):
        if any(s.verdict is None for s in group):
            return group[0]._replace(verdict=None)
    if whole:
        mixed = {s.verdict for s in whole} == {"right", "wrong"}
        excused = whole[0].verdict == "right" and any(s.verdict == "wrong" for s in rest)
        return whole[0]._replace(verdict=None) if mixed or excused else whole[0]
    # Praise of a part says nothing of the whole, but one wrong part makes the whole wrong.
    wrong = [s for s in rest if s.verdict == "wrong"]
    right = [s for s in rest if s.kind == "steps"]
    return wrong[0] if wrong else right[0] if right else None


def sentences(text: str, start: int, end: int) -> list[list[_Spelled]]:
    """The sentences between two offsets, as tokens without decoration; questions are left out.

    Args:
        text: The critique.
        start, end: The part of it that is read, in characters.
    """
    found: list[list[_Spelled]] = [[]]
    for match in _TOKEN.finditer(text, start, end):
        word = match[0].lower().translate(_PLAIN_SIGNS)
        if word in _FULL_STOPS:
            if word == "?":
                found[-1] = []
            found.append([])
            continue
        word = "\n" if word in ("\r", "\r\n") else word
        if word == "-" and text[max(0, match.start() - 1) : match.end() + 1] == " - ":
            word = "|"
        if word in BREAKS or (word[-1].isalnum() and word[-1].isascii() and not _MACRO.match(word)):
            begin = match.start() + word.startswith("\\")
            found[-1].append(_Spelled(word.lstrip("\\"), begin, match.end()))
    return [sentence for sentence in found if sentence]


def statements(tokens: list[_Spelled]) -> list[Said]:
    """Everything a sentence says of the solution or of a part of it."""
    said: list[Said] = []
    for i, token in enumerate(tokens):
        if token.word in RIGHT or token.word in WRONG:
            statement = _statement(tokens, i)
            if statement:
                said.append(statement)
        elif token.word in REASONS and said:
            break
    return said


class _Word(NamedTuple):
    """A verdict word where it stands: `words[at]`, an adjective of `noun` or of none, governed by `words[governor]`.

    The governor is -1 at a sentence's beginning. `negation` is the index of what turns the word round; `hedge` says how
    it is limited, "partly" or "unsure".
    """

    words: list[str]
    at: int
    noun: str | None
    governor: int
    negation: int | None
    hedge: str | None

    @property
    def described(self) -> str | None:
        """The kind of the noun that it is an adjective of."""
        return KINDS[self.noun] if self.noun else None

    @property
    def right(self) -> bool:
        return self.words[self.at] in RIGHT

    @property
    def by(self) -> str:
        return self.words[self.governor] if self.governor >= 0 else "\n"


Governed = tuple[str | None, int | None]  # of what something is said (None: of nothing of ours), and where it is denied


class _WordRule(NamedTuple):
    """One way to stand in a sentence. The first rule of `GOVERNED` that applies reads the word."""

    name: str
    applies: Callable[[_Word], bool]
    read: Callable[[_Word], Governed]


def _opening(word: _Word) -> Governed:
    bare = "bare" if word.words[word.at] in BARE else None
    return word.described or bare, word.negation


def _predicate(word: _Word) -> Governed:
    j = word.governor
    denials = [k for k in range(max(0, j - 2), j + 1) if _denies(word.words[k])]
    return _subject(word.words, j), denials[-1] if denials else word.negation


def _attribute(word: _Word) -> Governed:
    kind, denied = _reached(word.words, word.governor)
    return kind, word.negation if denied is None else denied


# In order; each has its sentences in tests/data/verdict_rules.yaml.
GOVERNED = (
    _WordRule("opens", lambda word: all(w in BREAKS for w in word.words[: word.governor + 1]), _opening),
    _WordRule(
        "part", lambda w: bool(w.noun) and KINDS[w.noun or ""] != "whole", lambda w: (KINDS[w.noun or ""], w.negation)
    ),
    _WordRule("reached", lambda word: bool(word.noun), _attribute),
    _WordRule("pronoun", lambda word: word.by in PRONOUN_COPULAS, lambda word: ("whole", word.negation)),
    _WordRule("predicate", lambda word: word.by in COPULAS or word.by == ":", _predicate),
    _WordRule(
        "judged",  # "I find the solution incorrect"
        lambda word: KINDS.get(word.by) == "whole" and word.governor > 1 and _judges(word.words[: word.governor]),
        lambda word: ("whole", word.negation),
    ),
)

# What leaves a statement without a verdict, by the word, where it is denied, and what it would say; with sentences too.
UNCLEAR: tuple[tuple[str, Callable[[_Word, int | None, Verdict], bool]], ...] = (
    ("unsure", lambda word, negation, verdict: word.hedge == "unsure"),
    ("partly right", lambda word, negation, verdict: word.hedge is not None and verdict == "right"),
    (
        "not entirely wrong",
        lambda word, negation, verdict: (
            not word.right
            and negation is not None
            and any(w in SURE or w == "quite" for w in word.words[negation : word.at])
        ),
    ),
    ("withdrawn", lambda word, negation, verdict: _withdrawn(word.words, word.governor, negation)),
    ("right or wrong", lambda word, negation, verdict: not word.noun and _opposite_next(word.words, word.at, verdict)),
)


def _statement(tokens: list[_Spelled], i: int) -> Said | None:
    """What the verdict word `tokens[i]` says, and of what; None where it is an adjective of something else."""
    words = [token.word for token in tokens]
    noun = _described(words, i)
    if noun == "":
        return None
    word = _Word(words, i, noun, *_before(words, i))
    rule = next((rule for rule in GOVERNED if rule.applies(word)), None)
    kind, negation = rule.read(word) if rule else (None, None)
    if kind is None:
        return None
    verdict: Verdict = "right" if word.right == (negation is None) else "wrong"
    unclear = any(leaves(word, negation, verdict) for _, leaves in UNCLEAR)
    begin = tokens[i if negation is None else negation].start
    return Said(kind, None if unclear else verdict, begin, tokens[i].end)


def _reached(words: list[str], j: int) -> Governed:
    """The kind of "... reaches the correct answer", governed by `words[j]`, and where its verb is denied."""
    verb = j - 1 if words[j] in {"to", "at", "with", "in"} else j
    near = words[max(0, verb - 3) : verb]
    if words[verb] in {"is", "are", "was", "were"}:
        # "42 is the correct answer" gives the answer; "this is the correct answer" judges it.
        return _subject(words, verb), None
    if not (words[j] in BREAKS or REACHING.fullmatch(words[verb])):
        return None, None
    intended = words[verb - 1] == "to" if verb else False
    denials = [k for k in range(max(0, verb - 3), verb) if _denies(words[k])]
    hedged = any(word in MODALS or word in HEDGES or word in UNSURE for word in near)
    if hedged or (intended and not denials) or (words[verb].endswith("ing") and verb):
        return None, None
    return "whole", denials[-1] if denials else None


def _judges(before: list[str]) -> bool:
    """Whether these words make what follows the writer's own judgement: "I find", "we must consider"."""
    if any(_denies(word) or word in MODALS - {"must"} or word in DOUBTS or word == "to" for word in before):
        return False
    return any(word in JUDGING for word in before) and any(word in {"i", "we"} for word in before)


def _withdrawn(words: list[str], j: int, negation: int | None) -> bool:
    """Whether the clause before the governing word `words[j]` denies, doubts or only reports what it says."""
    start = j
    while start > 0 and words[start - 1] not in CLAUSE_STARTS:
        start -= 1
    clause = words[start : max(j, 0)]
    # A denial next to the verb ("does not look right") has turned the verdict round already.
    near = j - 2 if j >= 0 and words[j] in COPULAS else j
    denied = any(_denies(word) for k, word in enumerate(clause, start) if k < near and k != negation)
    for k, word in enumerate(clause):
        if word == "doubt" and k and clause[k - 1] in {"no", "without"}:
            return False
    # "all but the last step", "at first sight"
    pairs = set(zip(words[start : max(j, 0)], words[start + 1 : max(j, 0)], strict=False))
    left_out = [k for k in range(1, max(j, 0)) if words[k] in {"but", "except"} and words[k - 1] in ALL]
    if left_out or ("at", "first") in pairs:
        return True
    doubted = any(word in DOUBTS for word in [*clause, words[j]] if j >= 0)
    reported = any(
        word in REPORTS and not any(critic in CRITICS for critic in clause[:k]) for k, word in enumerate(clause)
    )
    return denied or doubted or reported


def _described(words: list[str], i: int) -> str | None:
    """The noun that `words[i]` is an adjective of: None when of none, "" when of one that is not the solution's."""
    k = i + 1
    if k == len(words) or words[k] in BREAKS or words[k] in FOLLOWERS:
        return None
    while k < len(words) and words[k] in QUALIFIERS:
        k += 1
    if k == len(words) or (KINDS.get(words[k], "pronoun") == "pronoun" and words[k] != "one"):
        return ""
    noun = "answer" if words[k] == "one" else words[k]
    follows = words[k + 1] if k + 1 < len(words) else "\n"
    # "the correct answer is 42", "wrong answer: 42" and "the right solution x = 2" name it, they do not judge.
    named = follows == ":" or follows in COPULAS or follows[0].isdigit() or (len(follows) == 1 and follows.isalpha())
    # "correct answer (B)", "right answer $\\frac12$": nothing that judges follows.
    named |= words[i] in RIGHT and follows not in FOLLOWERS | {",", "\n", "|"} and not follows.endswith("ly")
    return "" if named and KINDS[noun] == "whole" else noun


def _before(words: list[str], i: int) -> tuple[int, int | None, str | None]:
    """Steps back from a verdict word over adverbs, articles and negations.

    Returns:
        The index of the word that governs it (-1 at the beginning), the first negation's index, and how it is hedged:
        "partly", "unsure" or not at all.
    """
    j, negation, hedge = i - 1, None, None
    while j >= 0:
        pair = (words[j - 1], words[j]) if j else ("", "")
        if pair[0] == "not" and pair[1] in {"only", "just", "merely", "simply"}:
            j -= 1  # "not only wrong but confusing" denies nothing
        elif pair in NEGATIVE_PHRASES:
            negation, j = j - 1, j - 1
        elif _denies(words[j]) and words[j] not in COPULAS:
            negation = j
        elif words[j] in UNSURE:
            hedge = "unsure"
        elif words[j] in HEDGES or (words[j].endswith("ly") and words[j] not in SURE):
            hedge = hedge or "partly"
        elif pair in {("to", "be"), ("at", "all")}:
            j -= 1  # "is judged to be wrong", "I find the solution to be wrong": what stands before governs
        elif not (words[j] in FILLERS or words[j] in ARTICLES or words[j] in SURE):
            break
        j -= 1
    return j, negation, hedge


def _denies(word: str) -> bool:
    return word in NEGATIONS or word.endswith("n't") or word in {"isnt", "arent", "wasnt", "fails", "failed"}


def _opposite_next(words: list[str], i: int, verdict: Verdict | None) -> bool:
    """Whether the opposite word follows with only signs or "or" between: an unfilled template."""
    k, negated = i + 1, False
    while k < len(words) and k < i + 6 and (words[k] in BREAKS or words[k] in {"or", "and", "vs", "versus", "not"}):
        negated |= words[k] == "not"
        k += 1
    if k == len(words) or k == i + 1 or words[k] not in BARE or _described(words, k) is not None or "\n" in words[i:k]:
        return False
    return ("right" if (words[k] in RIGHT) != negated else "wrong") != verdict


def _partial(subject: list[str]) -> bool:
    """Whether a subject's words limit it: "steps 1 and 2", "the calculation in step 2", "the answer to part b"."""
    for k, word in enumerate(subject):
        follows = subject[k + 1] if k + 1 < len(subject) else ""
        if word in PARTIAL or (word in {"step", "steps", "part", "parts"} and follows[:1].isdigit()):
            return True
        if k and word in {"in", "to", "of"} and any(w in {"step", "part", "question"} for w in subject[k + 1 : k + 4]):
            return True
    return False


def _subject(words: list[str], j: int) -> str | None:
    """The kind of the subject of the verb `words[j]`: "whole", "steps", "part"; None when unknown or only supposed."""
    if words[j] == "be" and not any(_denies(word) for word in words[max(0, j - 2) : j]):
        return None  # "would be correct if"
    end = j
    while end > 0:
        begin = end
        while begin > 0 and (words[begin - 1] == "(" or words[begin - 1] not in SUBJECT_STARTS):
            begin -= 1
        part = [
            word
            for word in words[begin:end]
            if not (word == "(" or word in FILLERS or _denies(word) or word.endswith("ly"))
        ]
        if any(word in MODALS for word in part):
            return None
        # "the answer, 42, is wrong", "the solution, which guesses, is wrong", "... and is wrong": it stands before.
        if not any(len(word) > 1 and word.isalpha() for word in part) or part[0] in {"which", "who"}:
            end = begin - 1
            continue
        if words[begin] in {"not", "unlike"} and begin:
            end = begin - 1  # "the key, not the solution, is wrong"
            continue
        head = part[
            : next(
                (k for k, word in enumerate(part) if word in SUBJECT_ENDS and k),
                len(part),
            )
        ]
        known = [word for word in head if KINDS.get(word, "pronoun") != "pronoun"]
        if known and KINDS[known[-1]] == "whole" and any(word in ANOTHER for word in head):
            return None
        if known:
            return "part" if _partial(words[begin:end]) else KINDS[known[-1]]
        return "whole" if KINDS.get(head[-1]) == "pronoun" else None
    return None
