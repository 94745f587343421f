r"""What takes praise back: is "right" limited, doubted or contradicted by the words around it?

    right up to step 3, where it goes wrong              only a part is right
    correct; however, the boxed answer is not            a fault follows
    right in method, wrong in arithmetic                 only one respect is right
    wrong. Wait, 3 x 4 is 12 after all.                  taken back

Praise with a reservation is no verdict. What may follow "right" without one is listed, not what may not: a word that
nobody thought of costs a verdict then, and does not turn it round.
"""

from __future__ import annotations

import re

_FLAGS = re.IGNORECASE | re.ASCII

# What may stand directly after "right" in its clause.
_PLAIN_NEXT = re.compile(
    r"""[\s*_`~"'\u201c\u201d\u2018\u2019)\]}\u2705\u2713\u2714$\\]*
    (?: \Z | </?(?:\w|\Z) | [.!\n|,:;(\u2014\u2013\u3002\uff01\uff0c/-] | \[
      | (?:and|so|because|since|therefore|thus|hence|overall|too|also|indeed|throughout|again|thanks)\b
      | as\s+(?:it|the|each|all|every|shown|verified|is|stated|given|expected|well|required
          |claimed|written|found|can|they)\b
      | in\s+(?:all|every|each|both|full|its\s+entirety|this\s+case)\b
      | with\s+(?:no|all|every|each|clear|correct|valid|sound)\b
      | after\s+all\b | at\s+(?:all|each|every)\b | on\s+(?:all|each|every|both)\b | from\s+(?:start|beginning|first)\b
      | for\s+(?:this|the)\s+(?:given\s+|stated\s+)?(?:problem|question|task)\b
      | or\s+(?:at\s+least|so)\b
    )""",
    _FLAGS | re.VERBOSE,
)
# After the clause: what limits it, and what contradicts it. "as it stands" and the like limit nothing.
_CONTRAST = r"but|however|except(?:ing|ed)?|although|though|albeit|yet|unfortunately|nonetheless|nevertheless"
_LIMIT = re.compile(
    rf"""\b(?: (?:{_CONTRAST}|whereas|while|despite|unless|until|till|barring|bar|apart|aside|excepting|excluding|minus
      |only|partly|partially|mostly|largely|nearly|almost|modulo|provided|assuming|if|save|besides
      |pending|once|contingent|conditional|presuming|supposing|granted|granting|ignoring|disregarding|overlooking)
      | (?:i|we)\s+(?:was|were|am|are)\s+told | or\s+so\s+(?:the|they|he|she|it|i)\b
      | were\s+it(?:\s+not)? | subject\s+to | (?:setting|leaving|putting)\s+aside | allowing\s+for
      | after\s+(?:\w+\s+)?(?:fix\w*|correct(?:ing|ions?)|repair\w*|mend\w*|chang\w+|replac\w+)
      | up\s+to | other\s+than | with\s+(?:the|one|an|a|some|minor|small)\s+(?:\w+\s+)?
          (?:exception|error|mistake|slip)\w*
      | at\s+(?:least|first) | for\s+(?:the\s+)?(?:most\s+part|steps?|now) | to\s+(?:a|some)\s+(?:point|degree|extent)
      | as\s+(?:far|long)\s+as | so\s+far | in\s+(?:part|principle|spirit|theory|essence|form|magnitude|method|general)
      | according\s+to
      | (?:said|says|claims|thinks|believes)\s+(?:the|this|its)\s+(?:student|author|solver|solution|model)
      | that\s+said | having\s+said | even\s+so | on\s+the\s+other\s+hand | not\s+(?:complete|rigorous|quite|fully)
      )\b""",
    _FLAGS | re.VERBOSE,
)
_STRONG = re.compile(rf"\b(?:{_CONTRAST}|unless)\b", _FLAGS)
_REASON = re.compile(r"\b(?:because|since|due\s+to)\b", _FLAGS)
_FAULT = re.compile(
    r"""\b(?: errors? | mistakes? | mistaken(?:ly)? | flaws? | flawed | slips? | gaps? | typos? | incorrectly | wrongly
      | mis(?:calculat|comput|read|interpret|appl|count|took|tak|stat|us)\w* | incomplete | unjustified | missing
      | (?:should|ought\s+to|needs?\s+to|must)\s+(?:have\s+)?(?:be|been|read|equal|say|give|come)
      | omit\w* | forg[eo]t\w* | fail(?:s|ed)?\s+to | fails | lacks? | goes\s+wrong | went\s+wrong
      | overlook\w* | neglect\w*
      )\b | \b(?:is|are|was|were|does|do|did)(?:n't|\s+not)(?:\s+\w+)?
      (?:\s+(?:correct|right|valid|true|hold|follow|equal|match|accurate|complete|justified|simplified|reduced)|\s*\Z)""",
    _FLAGS | re.VERBOSE,
)
_FAULTLESS = re.compile(
    r"\b(?:no|any|without(?:\s+an?y?)?|free\s+(?:of|from)|not\s+an?|zero|never|avoids?(?:\s+\w+)?"
    r"|despite)\s+(?:\w+\s+){0,3}?"
    r"(?:errors?|mistakes?|flaws?|gaps?|slips?|typos?)\b|\berror-free\b|\bnothing\s+is\s+missing\b"
    r"|\b(?:errors?|mistakes?|flaws?|gaps?)(?:\s+\w+)?\s+(?:were|was|are|is)\s+(?:not\s+)?(?:found|corrected|fixed)\b",
    _FLAGS,
)
# A remark on style is no reservation.
_STYLE = re.compile(
    r"\b(?:clear(?:er|ly)?|concise(?:ly)?|elegant(?:ly)?|short(?:er|ened)?|verbose|wordy|lengthy|long(?:er"
    r"|-winded)?|brief"
    r"|simpl(?:er|y|if\w+)|detail(?:s|ed)?|explain(?:ed|s)?|explanations?|present(?:ed|ation)|format\w*"
    r"|style|neat(?:er|ly)?"
    r"|redundant|faster|quicker|efficient|tidier|unusual|informal)\b",
    _FLAGS,
)
_JUDGED = re.compile(r"\b(?:wrong|incorrect|inaccurate|invalid|erroneous|false|not)\b|n't\b", _FLAGS)
_TAKEN_BACK = re.compile(
    r"""(?:\A|[.!?;:\n\])])[\s*_]*(?:
      (?:but\s+|oh,?\s+|no,\s+|hmm+[,.]*\s+)?wait\b | on\s+(?:reflection|second\s+thoughts?|closer\s+inspection)\b
      | actually,? | hold\s+on\b | scratch\s+that\b | correction\s*: | hm+\b
      | let\s+me\s+(?:re-?check|reconsider|double)
      | (?:but|however),?\s+on\s+reflection\b | upon\s+(?:reflection|re-?checking)\b
      | i\s+(?:was|made)\s+(?:wrong|a\s+mistake)\b
      | (?:edit|update|erratum|errata|revision|revised|addendum|p\.?s\.?)\s*:
      | i\s+(?:take\s+(?:that|it|this)\s+back|misread|misjudged|stand\s+corrected|retract)\b | sorry\b | apologies\b
      | no,\s | strike\s+that\b | in\s+fact,?\s+(?:no|it)\b
      )""",
    _FLAGS | re.VERBOSE,
)
_MENDED = re.compile(
    r"\b(?:but|however|although|though|yet|then|and)\b[^.!?\n]{0,80}?\b(?:corrects|corrected|fix(?:es|ed)|recovers?"
    r"|recovered|repairs?|repaired|mends?|mended|catches|caught|notices?|noticed|self-corrects?|undoes|undone)\b"
    r"|\A\W*(?:at\s+first|initially|in\s+(?:an|the)\s+(?:earlier|first)\s+(?:draft|attempt|version))\b"
    r"|\A\W*(?:if|unless|only\s+if|when|assuming|provided)\b",
    _FLAGS,
)
# "All right, let me sum up": nothing is praised.
_ASIDE = re.compile(
    r"[\s,.!:;-]*(?:(?:so|now|then|ok(?:ay)?|well)\b[\s,]*)?(?:let(?:'s|\s+me|\s+us)|i'll|i\s+will)\b", _FLAGS
)
# "correct (wrong unit)", "it is right, which is false": fault found in the same breath.
_BLAMED = re.compile(
    r"\b(?:wrong|incorrect|inaccurate|erroneous)\b|,\s*(?:which|that|this|and\s+that)\s+(?:is\s+|was\s+)?"
    r"(?:false|untrue|not\b|isn't\b|i\s+(?:doubt|deny|reject|dispute))",
    _FLAGS,
)
_NOT_BLAMED = re.compile(
    r"\b(?:not|no|nothing|never|none|neither|nor|without|rather\s+than|instead\s+of|than)\b[^,;()]{0,40}?"
    r"\b(?:wrong|incorrect|inaccurate|erroneous)\b",
    _FLAGS,
)
# "right, not!", "correct: no", "right!?"
_DENIED = re.compile(
    r"[\s,.:;!=|*_\u2026-]*(?:(?:not|no|nope|none|false|0|[\u2717\u2718\u274c\u2716])[\s.!*_]*\Z|\?)", _FLAGS
)
_SAID_BY = re.compile(r"\W*(?:said|says|claims?|claimed|thinks?|according\s+to|or\s+so)\b", _FLAGS)
_PLAIN_SIGNS = str.maketrans("\u2018\u2019\u2014\u2013", "''--")
_SENTENCE = re.compile(r"[.!?;\n]+\s*")


def praise_is_limited(after: str, later: str = "") -> bool:
    """Whether the text after "right" takes it back, in whole or in part.

    Args:
        after: The rest of the conclusion, from the verdict word's end.
        later: What follows the conclusion, as far as it still belongs to it (the next paragraphs).

    Example:
        >>> [praise_is_limited(text) for text in (" up to step 3.", ", but it should be 12", " because 3 x 4 = 12.")]
        [True, True, False]
        >>> praise_is_limited(", but it could be shorter.")
        False
    """
    after = after.translate(_PLAIN_SIGNS)
    if not _PLAIN_NEXT.match(after) or _ASIDE.match(after) or _DENIED.match(after):
        return True
    breath = _REASON.split(_SENTENCE.split(after.lstrip(" ;"))[0])[0]
    if _BLAMED.search(_NOT_BLAMED.sub(" ", breath)):
        return True
    for number, sentence in enumerate(_SENTENCE.split(after)):
        # A reason has its own ifs and onlys: "right because the sign matters only for x < 0".
        limit = _LIMIT.search(_REASON.split(sentence)[0]) or _STRONG.search(sentence)
        # Later sentences are prose of their own: there only a contrast at the beginning speaks of the verdict.
        if number and limit and sentence[: limit.start()].strip(" *_"):
            limit = None
        if limit and not _is_style(sentence[limit.start() :]):
            return True
        if _FAULT.search(_FAULTLESS.sub(" ", sentence)):
            return True
    first = later.translate(_PLAIN_SIGNS).lstrip(" \t\r\n*_#>-")[:400]
    return bool(re.match(rf"(?:{_CONTRAST}|that said)\b", first, _FLAGS)) and not _is_style(first.split("\n\n")[0])


def blame_is_limited(after: str) -> bool:
    """Whether the text after "wrong" says that it was mended, or only supposes it.

    Example:
        >>> blame_is_limited(" at first, but the student fixes it"), blame_is_limited(": 3 x 4 is 12.")
        (True, False)
    """
    after = after.translate(_PLAIN_SIGNS)
    return bool(_MENDED.search(after) or _DENIED.match(after) or _SAID_BY.match(after))


def taken_back(later: str) -> bool:
    """Whether what follows a conclusion begins to think again ("Wait, ...").

    Example:
        >>> taken_back("\\n\\nWait, 3 x 4 is 12."), taken_back(" The waiting time is 12.")
        (True, False)
    """
    return bool(_TAKEN_BACK.search(later))


def _is_style(text: str) -> bool:
    text = _FAULTLESS.sub(" ", text)
    return bool(_STYLE.search(text)) and not _JUDGED.search(text) and not _FAULT.search(re.sub("should be", "", text))
