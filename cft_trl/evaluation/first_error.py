r"""Which step does a critique call the first wrong one?

    "Step 1: 3 × 8 = 24, correct.\nStep 2: 24 - 5 = 19, but the solution has 18: an arithmetic error."   -> 2
    "The first two steps hold, but the third step divides by the wrong number."                          -> 3
    'The line "24 - 5 = 18" is wrong.'    (with the solution's steps)                                    -> 2

Steps count from 1, as the numbers in the prompt do. The rules, first that applies:

1. A sentence that says it outright ("the first error is in step 3", "first wrong step: 3", "goes wrong at step 3").
2. The first sentence, or half of one ("..., but step 3 is wrong"), that finds fault: by the step it names itself; else
   by the heading it stands under ("Step 2: ..."; "Answer:", after headings of steps, is the last step); else by words
   it quotes, if exactly one step holds them.
3. A sentence that finds no fault ("there is no error in step 2") names none. Neither does one that finds fault with
   nothing in particular.

No step is `None`: a critique may be right about a solution and name no step.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

_FLAGS = re.IGNORECASE
_MAX_CHARS = 100_000

_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
_CARDINALS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBERS = {word: i for words in (_ORDINALS, _CARDINALS) for i, word in enumerate(words, 1)}

# ---- what names a step -----------------------------------------------------------------------------------------------

_UNIT = r"(?:steps?|paragraphs?|lines?|equations?)"
_BAD = r"(?:wrong|incorrect|erroneous|false|flawed|invalid|faulty)"
# What stands before "+" or "= 5" is a formula's number, not a step's.
_DIGITS = r"\d{1,3}\b(?! ?[+×/=÷]| ?\* ?\d| - |\.\d)"
# "Step 3", "steps 3 and 4" (their first), "step (3)", "Step #3", "step no. 3", "**Step 3**", "step three".
_STEP_N = rf"{_UNIT}[\s*_`(\[#]{{0,6}}(?:no\.? ?|number )?(?P<n>{_DIGITS}|(?:{'|'.join(_CARDINALS)})\b)"
# "third step", "3rd step", "second calculation step", "the last step"; "the first three steps" are not one.
_NTH_STEP = (
    rf"\b(?P<nth>{'|'.join(_ORDINALS)}|last|final|\d{{1,3}}(?:st|nd|rd|th))[ -]"
    rf"(?:(?!(?:{'|'.join(_CARDINALS)}|{_BAD})\b)\w+[ -])?{_UNIT}\b"
)
# ProcessBench's own prompt tags paragraphs, from 0.
_MENTION = re.compile(rf"\bparagraph_(?P<zero>\d{{1,3}})\b|\b{_STEP_N}|{_NTH_STEP}", _FLAGS)
_REJECTED = re.compile(r"(?:\bnot|n't|rather than)(?: \w+)? (?:in|at|with|on) (?:the )?$", _FLAGS)
_HEADING = re.compile(
    rf"[\s>*#_\-]*(?:[(\[]?{_STEP_N}[)\]]?|(?P<item>\d{{1,3}}))[\s*_`]{{0,4}}(?:[:.)\u2013\u2014-](?!\d)[\s*_`]*|$)",
    _FLAGS,
)
_ANSWER_HEADING = re.compile(r"[\s>*#_\-]*(?:final )?answer\b[^:\n]{0,20}:", _FLAGS)
_OTHER_HEADING = re.compile(r"[\s>*#_\-]*(?:conclusion|verdict|summary|overall)\b[^:\n]{0,20}:", _FLAGS)
_QUOTE = re.compile(r"[\"“]([^\"“”\n]{3,300})[\"”]|`([^`\n]{3,300})`")

# ---- what finds fault ------------------------------------------------------------------------------------------------

_FIRST_IS = re.compile(
    rf"\b(?:first|earliest) (?:\w+ )?(?:{_BAD} {_UNIT}|error|mistake)(?: is\b|:|\*|\s)*(?:(?:in|at) )?(?:{_UNIT} )?"
    rf"(?P<n>{_DIGITS})",
    _FLAGS,
)
_OUTRIGHT = re.compile(
    rf"\b(?:first|earliest|initial) (?:\w+ ){{0,2}}?(?:error|mistake|flaw|problem|{_BAD})\b"
    r"|\bfirst (?:goes|went|becomes) wrong\b|\b(?:goes?|went) wrong (?:first )?(?:at|in|with|from)\b",
    _FLAGS,
)
_NO_FAULT = re.compile(
    r"\b(?:no|any|without(?: an?y?)?|free (?:of|from)|not an?|isn't an?|zero)\s+(?:\w+\s+){0,2}?"
    r"(?:errors?|mistakes?|flaws?|problems?|issues?|faults?)(?:\s+(?:or|and|nor)\s+\w+)?\b"
    r"|(?:\b(?:not|never|nothing|no longer|neither|hardly)|n't)\s+(?:(?:say|claim|think|believe)\s+(?:\w+\s+){1,4}?)?"
    rf"(?:\w+\s+){{0,2}}?{_BAD}\b"
    r"|\berror-free\b|\berrors? (?:bound|term|margin|estimate|propagation)\b|\bmargin of error\b",
    _FLAGS,
)
_FAULT = re.compile(
    r"\b(?:errors?|mistakes?|mistaken(?:ly)?|wrong(?:ly)?|incorrect(?:ly)?|inaccurate(?:ly)?|erroneous(?:ly)?|invalid"
    r"|flaw(?:s|ed)?|faulty|false|mis(?:calculat|comput|read|interpret|appl|count|took|tak|stat|understood|us)\w*"
    r"|contradict\w*|unjustified|unsupported|overlook\w*|omit\w*|omission|neglect\w*|forg[eo]t\w*|fail(?:s|ed) to"
    r"|missing|left out|skip(?:s|ped)|(?:never|not) converted|without converting"
    r"|(?:should|ought to)(?: \w+)? (?:be|been|read|give|equal|follow)|is needed"
    r"|(?:(?:is|are|was|were|does|do|did|has|have)(?: \w+)? not|(?:is|are|was|were|does|do|did|has|have)n't) (?:\w+ )?"
    r"(?:correct|right|true|valid|accurate|follow|hold|equal|justified|match|make sense)\w*|not correct"
    r"|the solution (?:\w+ )?(?:has|says|writes|stops|ends|answers)|instead of)\b"
    r"|\bnot [\"“$\\\d-]",
    _FLAGS,
)
# What the reference teacher says of a right step.
_FINE = re.compile(r"\bas the solution says\b|\bwhich matches\b|\bsame result\b", _FLAGS)

# ---- how a critique is cut -------------------------------------------------------------------------------------------

_SENTENCE = re.compile(r"(?<=[.!?])(?<!\b[Nn]o\.)[\"'\u201d\u2019*_)]*\s+(?=[^a-z\s])")
# Halves of a sentence judge by themselves: "step 1 is right, but step 2 is not".
_HALVES = re.compile(
    r",?\s+\b(?:but|however|whereas|while|although|though|yet)\b,?"
    r"(?!\s+(?:the solution|in|at|on|with|rather|is|lies|occurs)\b)\s+|;\s+",
    _FLAGS,
)
_CONCESSION = re.compile(r"\s*(?:while|although|though)\b[^,]{1,120},\s*", _FLAGS)


def first_error_step(critique: str | None, steps: Sequence[str] = ()) -> int | None:
    """The step that a critique calls the first wrong one.

    Args:
        critique: Its text, of any length.
        steps: The solution's steps, for quoted words and "the last step".

    Returns:
        The step's number from 1, or `None` where the critique names none.

    Example:
        >>> first_error_step("Steps 1 and 2 are fine. In step 3, the sign is wrong.")
        3
        >>> first_error_step('It says "2 + 2 = 5", which is false.', ["Let x = 2.", "Then 2 + 2 = 5."])
        2
        >>> first_error_step("The final answer is wrong.") is None
        True
    """
    parts = list(_parts(critique or "", len(steps)))
    for text, _ in parts:
        if match := _FIRST_IS.search(text):
            return int(match["n"])
        match = _OUTRIGHT.search(text)
        if match and not _NO_FAULT.search(text):
            number = _mention(text[match.start() :], steps) or _mention(text, steps)
            if number:
                return number
    for text, heading in parts:
        if _finds_fault(text) and (number := _mention(text, steps) or heading or _quoted(text, steps)):
            return number
    return None


def _parts(critique: str, count: int) -> Iterator[tuple[str, int | None]]:
    """Sentences and halves of sentences, each with the number of the heading it stands under."""
    heading, stepwise = None, False
    for line in re.sub(r"[^\S\n]+", " ", critique[:_MAX_CHARS]).split("\n"):
        if match := _HEADING.match(line):
            heading, stepwise = int(match["item"] or _number(match["n"])), True
            line = line[match.end() :]
        elif _ANSWER_HEADING.match(line):
            heading = (count or None) if stepwise else None
        elif _OTHER_HEADING.match(line):
            heading = None
        for sentence in _SENTENCE.split(line):
            if match := _CONCESSION.match(sentence):
                yield sentence[: match.end()], heading
                sentence = sentence[match.end() :]
            for half in _HALVES.split(sentence):
                if half.strip():
                    yield half, heading


def _finds_fault(text: str) -> bool:
    return not _FINE.search(text) and bool(_FAULT.search(_NO_FAULT.sub(" ", text)))


def _mention(text: str, steps: Sequence[str]) -> int | None:
    """The first step that the text mentions."""
    for match in _MENTION.finditer(text):
        if _REJECTED.search(text[: match.start()]):
            continue
        if match["zero"]:
            return int(match["zero"]) + 1
        if match["n"]:
            return _number(match["n"])
        word = match["nth"].lower()
        number = len(steps) if word in ("last", "final") else _NUMBERS.get(word) or int(re.sub(r"\D", "", word))
        if number:
            return number
    return None


def _number(word: str) -> int:
    return int(word) if word.isdigit() else _NUMBERS[word.lower()]


def _quoted(text: str, steps: Sequence[str]) -> int | None:
    """The one step that holds words which the text quotes."""
    plain = [_squash(step) for step in steps]
    for match in _QUOTE.finditer(text):
        quote = _squash(match[1] or match[2])
        holders = [number for number, step in enumerate(plain, 1) if quote and quote in step]
        if len(holders) == 1:
            return holders[0]
    return None


def _squash(text: str) -> str:
    r"""Letters, digits and operators only: quotes drop the LaTeX around a formula, or its spaces."""
    text = text.lower().replace(r"\times", "×").replace(r"\cdot", "×").replace(r"\div", "÷").replace("*", "×")
    return re.sub(r"[^\w=+\-×÷/^%<>.]|\.(?!\d)", "", text)
