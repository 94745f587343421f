r"""Verdicts in set phrases, which no grammar of "right" and "wrong" reads; and those that open a text or stand alone.

    Conclusion: No errors found.                              right
    Conclusion: everything is right except the final answer.  wrong
    Correctness: wrong                                        wrong
    Wrong.\n\nThe sum in step 2 is off.                       wrong

Each phrase has one meaning or is not here. Praise that opens a text counts only where nothing but praise follows.
"""

from __future__ import annotations

import re

from cft_trl.data.verdict_grammar import Said, Verdict, sentences, statements

_FLAGS = re.IGNORECASE | re.ASCII
_LEAD = re.compile(r"[\s*_`~\"']*(?:(?:overall|therefore|thus|so|hence|in short),?\s+)?", _FLAGS)
_WHOLE = r"(?:the|this)\s+(?:student'?s\s+|proposed\s+|given\s+)?(?:solution|answer|response|proof|argument|derivation)"
_KIND = r"(?:arithmetic|computational|calculation|algebraic|logical|sign|conceptual|serious|critical|major|fatal|clear)"
_RESULT = r"(?:the|its)\s+(?:final\s+|boxed\s+|last\s+|numerical\s+|student's\s+)?(?:answer|result)"
_PATTERNS: tuple[tuple[Verdict | None, str], ...] = (
    (
        None,
        r"(?:i(?:\s+would|'d)\s+(?:say|call\s+it|judge\s+it)|100\s*\\?%)\s+(?P<said>right|correct|wrong|incorrect)\b",
    ),
    (
        "right",
        r"(?:there\s+(?:are|were)\s+)?(?P<said>no\s+(?:errors?|mistakes?)(?:\s+(?:were|was|are|is))?\s+(?:found|detected)"
        rf"(?:\s+in\s+{_WHOLE})?)(?=[\s*_]*(?:[.!]|\Z))",
    ),
    (
        "wrong",
        rf"{_WHOLE}\s+(?:contains|has|makes|made)\s+(?P<said>(?:an?|one|two|three|several|multiple)\s+(?:{_KIND}\s+){{0,2}}"
        r"(?:errors?|mistakes?))(?:\s+(?:in|at)\s+(?:the\s+)?(?:step|line|part|sum|\w+\s+(?:step|line|part|sum))[\s\w]{0,20})?"
        r"(?=[\s*_]*(?:[.!]|\Z))",
    ),
    ("wrong", r"(?P<said>neither\s+(?:right|correct))\s+nor\s+(?!wrong|incorrect|false)\w+(?=[\s*_]*(?:[.!]|\Z))"),
    (
        "wrong",
        rf"{_RESULT}(?:,?\s+[^.;,\n]{{1,40}},?)?\s+(?P<said>(?:does\s+not|doesn't)\s+(?:match|equal|agree\s+with))"
        r"\s+the\s+(?:correct|right|expected|actual|true|reference)\s+(?:answer|result|value|solution)"
        r"(?:,?\s+(?:of\s+|which\s+is\s+)?[$\\\d][^\s,;]{0,40})?(?=[\s*_]*(?:[.!]\s|[.!]?\Z))",
    ),
    (
        "wrong",
        rf"(?:everything|all|{_WHOLE}|it)(?:\s+else)?\s+is\s+(?:right|correct),?\s+(?P<said>(?:except|apart\s+from|other\s+than)"
        rf"(?:\s+for)?\s+{_RESULT})(?=[\s*_]*(?:[.!]|\Z))",
    ),
    (
        "wrong",
        rf"(?:{_WHOLE}\s+is\s+)?(?:right|correct)\s+in\s+(?:its\s+|the\s+)?(?:method|approach|principle|spirit|idea|setup|form)"
        r",?\s+(?:but\s+|and\s+)?(?P<said>(?:wrong|incorrect)\s+in\s+(?:its\s+|the\s+)?(?:final\s+)?"
        r"(?:arithmetic|calculation|computation|execution|result|answer|value|sign)s?)(?=[\s*_]*(?:[.!]|\Z))",
    ),
)
_PHRASES = [(verdict, re.compile(pattern, _FLAGS)) for verdict, pattern in _PATTERNS]
_WORDS: dict[str, Verdict] = {"right": "right", "correct": "right", "wrong": "wrong", "incorrect": "wrong"}
_CORRECTNESS = re.compile(
    r"^[ \t#*_>-]*correctness(?:\s+of\s+the\s+(?:final\s+|student's\s+)?(?:answer|solution|response))?[*_]*\s*:"
    r"[ \t*_`\"']*(?P<said>right|correct|wrong|incorrect)[ \t*_`\"'.]*(?:\[END\])?[ \t]*$",
    _FLAGS | re.MULTILINE,
)
_FIRST = re.compile(
    r"[\s*_#`]*(?P<said>right|correct|wrong|incorrect)[*_`]*(?:[.!]|[ \t]*(?=\n))[*_`]*(?=\s|\Z)", _FLAGS
)
_ALL_HOLDS = re.compile(
    r"(?:(?:every|each|all(?:\s+of)?(?:\s+the)?)\s+(?:steps?|lines?|calculations?|computations?)\s+"
    r"(?:checks?\s+out|holds?(?:\s+up)?|(?:is|are)\s+(?:right|correct|valid|sound))[\s.!*_]*(?:\[END\]\s*)?)?",
    _FLAGS,
)
_ANOTHER_LABEL = re.compile(r":[ \t*_]*(?:right|correct)\b[ \t*_.]*$", _FLAGS | re.MULTILINE)
_FINDS_FAULT = re.compile(
    r"\A[^\n]*\b(?:off|wrong|incorrect|errors?|mistakes?|fails?|should|drops?|loses?|forgets?|misses|slips?|not|instead|mis\w+"
    r"|\w+n't)\b",
    _FLAGS,
)
_REPORTED = re.compile(r"\b(?:key|told|sa(?:ys?|id)|claims?|according|else|otherwise|kidding|joking|would)\b", _FLAGS)
_DOUBTED = re.compile(
    rf"{_REPORTED.pattern}|\b(?:fine|holds?|after\s+all|no\s+\w+\s+(?:errors?|mistakes?)|no\s+(?:errors?|mistakes?))\b",
    _FLAGS,
)
_ONE_SENTENCE = re.compile(
    rf"[\s*_]*(?:overall,?\s+|therefore,?\s+)?{_WHOLE}\s+is\s+(?:not\s+)?(?:right|correct|wrong|incorrect)\b[^.!?\n]*[.!]?[\s*_]*"
    r"(?:\[END\]\s*)?",
    _FLAGS,
)


def phrase(text: str, start: int, end: int) -> Said | None:
    """The set phrase that a conclusion's text begins with.

    Args:
        text: The critique.
        start, end: The part of it that is read, in characters.

    Example:
        >>> [phrase(text, 0, len(text)).verdict for text in ("no errors found", "neither right nor complete")]
        ['right', 'wrong']
        >>> phrase("no errors found in step 2", 0, 25) is None
        True
    """
    lead = _LEAD.match(text, start, end)
    assert lead is not None  # each of its parts may be absent, so it always matches
    at = lead.end()
    for verdict, pattern in _PHRASES:
        if match := pattern.match(text, at, end):
            meant = verdict or _WORDS[match["said"].lower()]
            said = [each for sentence in sentences(text, match.end(), end) for each in statements(sentence)]
            doubted = any(each.verdict != meant for each in said)
            return Said("whole", None if doubted else meant, *match.span("said"))
    return None


def one_sentence(text: str, start: int, end: int) -> bool:
    """Whether a text is one sentence that judges the solution: it needs no "Conclusion:".

    Args:
        text: The critique.
        start, end: The part of it that is read, in characters.
    """
    if end - start > 400 or not _ONE_SENTENCE.fullmatch(text, start, end):
        return False
    words = {
        _WORDS[word.lower()] for word in re.findall(r"\b(?:right|correct|wrong|incorrect)\b", text[start:end], _FLAGS)
    }
    return len(words) == 1 and not _REPORTED.search(text, start, end)


def labelled_or_first(text: str, start: int, end: int) -> Said | None:
    """ "Correctness: wrong" on a line of its own, or a verdict alone at the beginning that nothing after it doubts.

    Args:
        text: The critique.
        start, end: The part of it that is read, in characters.
    """
    labels = list(_CORRECTNESS.finditer(text, start, end))
    if labels:
        # Several are one for each of several things.
        verdict = _WORDS[labels[0]["said"].lower()] if len(labels) == 1 else None
        rest = text[labels[0].end() : end].strip()
        if (verdict == "right" and rest) or _ANOTHER_LABEL.search(rest):
            verdict = None  # what follows may say anything
        return Said("label", verdict, *labels[-1].span("said"))
    first = _FIRST.match(text, start, end)
    if not first:
        return None
    verdict = _WORDS[first["said"].lower()]
    rest = text[first.end() : end].strip()
    if verdict == "right" and not (rest and _ALL_HOLDS.fullmatch(rest)):
        return None
    said = [each for sentence in sentences(text, first.end(), end) for each in statements(sentence)]
    if verdict == "wrong":
        fault = _FINDS_FAULT.search(rest) and not _DOUBTED.search(rest) and "?" not in rest
        if not fault or any(each.verdict != "wrong" for each in said):
            return None
    return Said("first", verdict, *first.span("said"))
