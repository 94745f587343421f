"""What a sentence says of a solution: the reading of English behind `cft_trl.data.verdict`.

    "The approach is correct, but the final answer is wrong."  ->  the part is right, the whole is wrong
    "The right triangle has area 6."                           ->  nothing: "right" describes the triangle

A verdict word counts as the beginning of a sentence ("Wrong."), after a verb whose subject is known ("the student's
answer is not correct"), or before such a noun ("reaches the correct answer"). Everything else is an adjective of the
mathematics. Sentences come as the few hundred characters after "Conclusion:", so every scan here is short.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

Verdict = Literal["right", "wrong"]

_FLAGS = re.IGNORECASE | re.ASCII
# Typographic signs are read as the plain ones: curly apostrophe, full-width stops, dashes.
_PLAIN_SIGNS = str.maketrans("\u2019\u3002\uff01\uff1f\uff1b\uff1a\uff0c\u2014\u2013", "'.!?;:,||")
_TOKEN = re.compile(r"\\?[a-z]+(?:[-'\u2019][a-z]+)*|\d+(?:[.,]\d+)*|\r?\n|\r|[^\s]", _FLAGS)
_MACRO = re.compile(r"\\(?:boxed|fbox|text\w*|math\w*|emph|underline|quad|bf|rm|it)$", _FLAGS)
_FULL_STOPS = {".", "!", "?", ";"}
_BREAKS = {",", ":", "\n", "/", "|", "("}


def _words(text: str) -> set[str]:
    return set(text.split())


_RIGHT = _words("right correct valid accurate")
_WRONG = _words("wrong incorrect invalid inaccurate flawed erroneous mistaken")
# Only these may stand alone: "Conclusion: valid" may be the answer of a question about an argument.
_BARE = _words("right wrong correct incorrect")
_COPULAS = _words(
    "is are was were isn't isnt aren't arent wasn't wasnt weren't seem seems appear appears look looks remains be"
)
_PRONOUN_COPULAS = _words("it's that's he's she's")
_NEGATIONS = _words("not never cannot can't isnt arent wasnt fails failed")
_NEGATIVE_PHRASES = {
    ("far", "from"),
    ("anything", "but"),
    ("nowhere", "near"),
    ("no", "longer"),
    ("no", "means"),
}
_HEDGES = _words(
    "partial almost half somewhat close neither either possibly probably likely perhaps maybe only quasi semi"
)
# Adverbs that leave "right" as it is; any other ("superficially", "conditionally") limits it.
_SURE = _words(
    "entirely completely fully absolutely perfectly totally wholly exactly certainly definitely clearly truly actually "
    "really surely obviously finally ultimately undoubtedly precisely accordingly consequently thoroughly strictly "
    "simply plainly evidently demonstrably unquestionably mathematically"
)
# Adverbs that leave open which of the two is meant.
_UNSURE = _words(
    "hardly scarcely barely possibly probably likely perhaps maybe seemingly supposedly allegedly arguably"
)
# What turns round or withdraws all that its clause says, however far from the verb it stands.
_DOUBTS = _words(
    "no none nothing nobody neither nor doubt doubts doubtful unlikely deny denies dispute disputes reject rejects "
    "refuse false untrue unclear unsure uncertain impossible hard difficult premature tempting disagree disagrees if "
    "whether unless suppose supposing assume assuming who instead without avoids avoid"
)
# "The student claims that the answer is right" is the student's word; "I conclude that ..." is the critic's.
_REPORTS = _words(
    "claim claims claimed claiming think thinks thought believe believes believed believing say says said assert "
    "asserts asserted assume assumes assumed insist insists insisted state states stated argue argues argued pretend "
    "pretends hope hopes suggest suggests suggested wrote writes feel feels felt convinced pretending saying implying "
    "implies imply expects expect told heard"
)
_CRITICS = _words("i we critique critic review reviewer judge teacher must can safely therefore thus hence")
_CLAUSE_STARTS = _words("and but so because since therefore thus hence however although though while whereas") | _BREAKS
_ALL = _words("all everything anything nothing none every step steps")
_JUDGING = _words("find found consider judge judged deem mark marked call rate rated declare rule grade believe")
_FILLERS = _words(
    "in fact indeed therefore thus hence also still just quite very so all both to as considered judged deemed found "
    "determined marked only even by"
)
_ARTICLES = _words("a an the")
_QUALIFIERS = _words("final numerical overall boxed given proposed student's end")
_MODALS = _words("would could should may might must will if unless whether wouldn't shouldn't")
_REASONS = _words("because since as due if unless except")
_CONJUNCTIONS = _words("but and however although though while whereas so because since that yet therefore thus hence")
# A subject begins after these.
_SUBJECT_STARTS = _CONJUNCTIONS | _BREAKS
# A subject's head stands before these: "the method used in the solution" is about the method.
_SUBJECT_ENDS = _words("of in for to from with used using by at on which who where after")
# A verdict word before these is no adjective, as it is in "right triangle" and "correct value".
_FOLLOWERS = _words("or not with for in overall given than when at on by up from here too also after under end")
_FOLLOWERS |= _words(
    "until till apart aside only barring minus besides provided assuming despite throughout before through"
)
_FOLLOWERS |= _REASONS | _CONJUNCTIONS
_REACHING = re.compile(
    r"(?:reach|get|giv|obtain|arriv|lead|produc|find|yield|provid|deriv|com|conclud|end|result|choos|select|pick|stat|"
    r"report|box|submit|writ|present|offer|propos|calculat|comput|deduc|infer)(?:e|s|es|ed|ing)?|"
    r"(?:led|gave|got|goes|found|came|wrote|chose|has|had|have|is|was|contains?|makes?)"
)
_SUBJECTS = {
    "whole": "solution solutions answer answers response responses result results student attempt output work proof "
    "argument explanation submission derivation conclusion",
    "steps": "reasoning step steps reason reasons",
    "part": "approach method methods idea setup set-up formula strategy start beginning process analysis "
    "interpretation part logic calculation calculations computation computations arithmetic algebra working",
    "pronoun": "it this that everything he she they which one",
}
# "Most steps", "the first answer", "steps 1 and 2", "only the answer": a part, whatever the noun.
_PARTIAL = _words(
    "most some first last other remaining half part many few several only just merely earlier previous initial early "
    "second third fourth two three four five majority rest"
)
# "The answer key", "the other solution", "the reference answer": not the solution that is judged.
_ANOTHER = _words(
    "key alternative alternate other others reference textbook question problem statement option choice premise "
    "official expected opposite competing second"
)
_KINDS = {word: kind for kind, words in _SUBJECTS.items() for word in words.split()}


class _Token(NamedTuple):
    word: str
    start: int
    end: int


class Said(NamedTuple):
    """One thing said: of what ("bare", "whole", "steps", "part"), the verdict (None = unclear), and where."""

    kind: str
    verdict: Verdict | None
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


def sentences(text: str, start: int, end: int) -> list[list[_Token]]:
    """The sentences between two offsets, as tokens without decoration; questions are left out.

    Args:
        text: The critique.
        start, end: The part of it that is read, in characters.
    """
    found: list[list[_Token]] = [[]]
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
        if word in _BREAKS or (word[-1].isalnum() and word[-1].isascii() and not _MACRO.match(word)):
            begin = match.start() + word.startswith("\\")
            found[-1].append(_Token(word.lstrip("\\"), begin, match.end()))
    return [sentence for sentence in found if sentence]


def statements(tokens: list[_Token]) -> list[Said]:
    """Everything a sentence says of the solution or of a part of it."""
    said: list[Said] = []
    for i, token in enumerate(tokens):
        if token.word in _RIGHT or token.word in _WRONG:
            statement = _statement(tokens, i)
            if statement:
                said.append(statement)
        elif token.word in _REASONS and said:
            break
    return said


def _statement(tokens: list[_Token], i: int) -> Said | None:
    """What the verdict word `tokens[i]` says, and of what; None where it is an adjective of something else."""
    words = [token.word for token in tokens]
    noun = _described(words, i)
    if noun == "":
        return None
    j, negation, hedge = _before(words, i)
    kind = None
    if all(word in _BREAKS for word in words[: j + 1]):
        if words[i] in _BARE or noun:
            kind = _KINDS[noun] if noun else "bare"
    elif noun and _KINDS[noun] != "whole":
        kind = _KINDS[noun]
    elif noun:
        kind, denied = _reached(words, i, j, negation)
        negation = denied if denied is not None else negation
    elif words[j] in _PRONOUN_COPULAS:
        kind = "whole"
    elif words[j] in _COPULAS or words[j] == ":":
        kind = _subject(words, j)
        denials = [k for k in range(max(0, j - 2), j + 1) if _denies(words[k])]
        negation = denials[-1] if denials else negation
    elif _KINDS.get(words[j]) == "whole" and j > 1 and _judges(words[:j]):
        kind = "whole"  # "I find the solution incorrect"
    if kind is None:
        return None
    verdict: Verdict | None = "right" if (words[i] in _RIGHT) == (negation is None) else "wrong"
    # "only partly right" is not right, "hardly wrong" and "not entirely wrong" are neither.
    unclear = hedge == "unsure" or (hedge is not None and verdict == "right")
    unclear |= (
        words[i] in _WRONG and negation is not None and any(w in _SURE or w == "quite" for w in words[negation:i])
    )
    unclear |= _withdrawn(words, j, negation) or (not noun and _opposite_next(words, i, verdict))
    begin = tokens[i if negation is None else negation].start
    return Said(kind, None if unclear else verdict, begin, tokens[i].end)


def _reached(words: list[str], i: int, j: int, negation: int | None) -> tuple[str | None, int | None]:
    """The kind of "... reaches the correct answer", governed by `words[j]`, and where its verb is denied."""
    verb = j - 1 if words[j] in {"to", "at", "with", "in"} else j
    near = words[max(0, verb - 3) : verb]
    if words[verb] in {"is", "are", "was", "were"}:
        # "42 is the correct answer" gives the answer; "this is the correct answer" judges it.
        return _subject(words, verb), None
    if not (words[j] in _BREAKS or _REACHING.fullmatch(words[verb])):
        return None, None
    intended = words[verb - 1] == "to" if verb else False
    denials = [k for k in range(max(0, verb - 3), verb) if _denies(words[k])]
    hedged = any(word in _MODALS or word in _HEDGES or word in _UNSURE for word in near)
    if hedged or (intended and not denials) or (words[verb].endswith("ing") and verb):
        return None, None
    return "whole", denials[-1] if denials else None


def _judges(before: list[str]) -> bool:
    """Whether these words make what follows the writer's own judgement: "I find", "we must consider"."""
    if any(_denies(word) or word in _MODALS - {"must"} or word in _DOUBTS or word == "to" for word in before):
        return False
    return any(word in _JUDGING for word in before) and any(word in {"i", "we"} for word in before)


def _withdrawn(words: list[str], j: int, negation: int | None) -> bool:
    """Whether the clause before the governing word `words[j]` denies, doubts or only reports what it says."""
    start = j
    while start > 0 and words[start - 1] not in _CLAUSE_STARTS:
        start -= 1
    clause = words[start : max(j, 0)]
    # A denial next to the verb ("does not look right") has turned the verdict round already.
    near = j - 2 if j >= 0 and words[j] in _COPULAS else j
    denied = any(_denies(word) for k, word in enumerate(clause, start) if k < near and k != negation)
    for k, word in enumerate(clause):
        if word == "doubt" and k and clause[k - 1] in {"no", "without"}:
            return False
    # "all but the last step", "at first sight"
    pairs = set(zip(words[start : max(j, 0)], words[start + 1 : max(j, 0)], strict=False))
    left_out = [k for k in range(1, max(j, 0)) if words[k] in {"but", "except"} and words[k - 1] in _ALL]
    if left_out or ("at", "first") in pairs:
        return True
    doubted = any(word in _DOUBTS for word in [*clause, words[j]] if j >= 0)
    reported = any(
        word in _REPORTS and not any(critic in _CRITICS for critic in clause[:k]) for k, word in enumerate(clause)
    )
    return denied or doubted or reported


def _described(words: list[str], i: int) -> str | None:
    """The noun that `words[i]` is an adjective of: None when of none, "" when of one that is not the solution's."""
    k = i + 1
    if k == len(words) or words[k] in _BREAKS or words[k] in _FOLLOWERS:
        return None
    while k < len(words) and words[k] in _QUALIFIERS:
        k += 1
    if k == len(words) or (_KINDS.get(words[k], "pronoun") == "pronoun" and words[k] != "one"):
        return ""
    noun = "answer" if words[k] == "one" else words[k]
    follows = words[k + 1] if k + 1 < len(words) else "\n"
    # "the correct answer is 42", "wrong answer: 42" and "the right solution x = 2" name it, they do not judge.
    named = follows == ":" or follows in _COPULAS or follows[0].isdigit() or (len(follows) == 1 and follows.isalpha())
    # "correct answer (B)", "right answer $\\frac12$": nothing that judges follows.
    named |= words[i] in _RIGHT and follows not in _FOLLOWERS | {",", "\n", "|"} and not follows.endswith("ly")
    return "" if named and _KINDS[noun] == "whole" else noun


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
        elif pair in _NEGATIVE_PHRASES:
            negation, j = j - 1, j - 1
        elif _denies(words[j]) and words[j] not in _COPULAS:
            negation = j
        elif words[j] in _UNSURE:
            hedge = "unsure"
        elif words[j] in _HEDGES or (words[j].endswith("ly") and words[j] not in _SURE):
            hedge = hedge or "partly"
        elif pair in {("to", "be"), ("at", "all")}:
            j -= 1  # "is judged to be wrong", "I find the solution to be wrong": what stands before governs
        elif not (words[j] in _FILLERS or words[j] in _ARTICLES or words[j] in _SURE):
            break
        j -= 1
    return j, negation, hedge


def _denies(word: str) -> bool:
    return word in _NEGATIONS or word.endswith("n't") or word in {"isnt", "arent", "wasnt", "fails", "failed"}


def _opposite_next(words: list[str], i: int, verdict: Verdict | None) -> bool:
    """Whether the opposite word follows with only signs or "or" between: an unfilled template."""
    k, negated = i + 1, False
    while k < len(words) and k < i + 6 and (words[k] in _BREAKS or words[k] in {"or", "and", "vs", "versus", "not"}):
        negated |= words[k] == "not"
        k += 1
    if k == len(words) or k == i + 1 or words[k] not in _BARE or _described(words, k) is not None or "\n" in words[i:k]:
        return False
    return ("right" if (words[k] in _RIGHT) != negated else "wrong") != verdict


def _partial(subject: list[str]) -> bool:
    """Whether a subject's words limit it: "steps 1 and 2", "the calculation in step 2", "the answer to part b"."""
    for k, word in enumerate(subject):
        follows = subject[k + 1] if k + 1 < len(subject) else ""
        if word in _PARTIAL or (word in {"step", "steps", "part", "parts"} and follows[:1].isdigit()):
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
        while begin > 0 and (words[begin - 1] == "(" or words[begin - 1] not in _SUBJECT_STARTS):
            begin -= 1
        part = [
            word
            for word in words[begin:end]
            if not (word == "(" or word in _FILLERS or _denies(word) or word.endswith("ly"))
        ]
        if any(word in _MODALS for word in part):
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
                (k for k, word in enumerate(part) if word in _SUBJECT_ENDS and k),
                len(part),
            )
        ]
        known = [word for word in head if _KINDS.get(word, "pronoun") != "pronoun"]
        if known and _KINDS[known[-1]] == "whole" and any(word in _ANOTHER for word in head):
            return None
        if known:
            return "part" if _partial(words[begin:end]) else _KINDS[known[-1]]
        return "whole" if _KINDS.get(head[-1]) == "pronoun" else None
    return None
