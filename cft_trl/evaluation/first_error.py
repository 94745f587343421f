r"""Which step does a critique call the first wrong one?

    "Step 1: 3 × 8 = 24, correct.\nStep 2: 24 - 5 = 19, but the solution has 18: an arithmetic error."   -> 2
    "The first two steps hold, but the third step divides by the wrong number."                          -> 3
    'The line "24 - 5 = 18" is wrong.'    (with the solution's steps)                                    -> 2

Steps count from 1, as the numbers in the prompt do. The rules, first that applies:

1. A sentence that says it outright ("the first error is in step 3", "first wrong step: 3", "goes wrong at step 3").
2. The first sentence, or half of one ("..., but step 3 is wrong"), that finds fault: by the step it names itself; else
   by the heading it stands under ("Step 2: ..."; "Answer:", after headings of steps, is the last step); else by words
   it quotes, if exactly one step holds them.
   A half without a step of its own speaks of the one before it ("Step 2 takes 5 from 24. This is wrong."). A step that
   is only a witness ("contradicts step 1") or only seems wrong ("looks wrong but is right") is passed over, and a
   cause goes before its effect ("step 3 is wrong because of step 2" is step 2).
3. A sentence that finds no fault ("there is no error in step 2") names none. Neither does one that finds fault with
   nothing in particular.

No step is `None`: a critique may be right about a solution and name no step.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

_FLAGS = re.IGNORECASE
_MAX_CHARS = 100_000

_ORDINALS = (
    "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh", "twelfth"
)  # fmt: skip
_CARDINALS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBERS = {word: i for words in (_ORDINALS, _CARDINALS) for i, word in enumerate(words, 1)}

# Counted from the end.
_LAST = {
    "second-to-last": 1, "second to last": 1, "next-to-last": 1, "next to last": 1, "last but one": 1,
    "penultimate": 1, "third-to-last": 2, "third to last": 2, "last but two": 2, "antepenultimate": 2,
}  # fmt: skip

# ---- what names a step -----------------------------------------------------------------------------------------------

_UNIT = r"(?:steps?|paragraphs?|lines?|equations?)"
_BAD = r"(?:wrong|incorrect|erroneous|false|flawed|invalid|faulty)"
# What stands before "+" or "= 5" is a formula's number, not a step's.
_DIGITS = r"\d{1,3}\b(?! ?[+×/=÷]| ?\* ?\d| - |\.\d)"
# "Step 3", "steps 3 and 4" (their first), "step (3)", "Step #3", "step no. 3", "**Step 3**", "step three".
_STEP_N = rf"{_UNIT}[\s*_`(\[#]{{0,6}}(?:no\.? ?|number )?(?P<n>{_DIGITS}|(?:{'|'.join(_CARDINALS)})\b)"
# "third step", "3rd step", "second calculation step", "the last step", "the second-to-last step", "the
# penultimate step"; "the first three steps" are not one.
_NTH_STEP = (
    rf"\b(?P<nth>{'|'.join(_LAST)}|{'|'.join(_ORDINALS)}|last|final|middle|\d{{1,3}}(?:st|nd|rd|th))[ -]"
    rf"(?:(?!(?:{'|'.join(_CARDINALS)}|{_BAD})\b)\w+[ -])?{_UNIT}\b"
)
# ProcessBench's own prompt tags paragraphs, from 0.
_MENTION = re.compile(rf"\bparagraph_(?P<zero>\d{{1,3}})\b|\b{_STEP_N}|{_NTH_STEP}", _FLAGS)
# "The error is not in step 1"; "as shown in step 1", "it contradicts step 1": step 1 is a witness.
_REJECTED = re.compile(
    r"(?:\bnot|n't|rather than)(?: \w+)? (?:in|at|with|on) (?:the )?$|(?:\bnot|n't|rather than|instead of) (?:the )?$"
    r"|\b(?:except(?: for)?|apart from|aside from|other than|save for) (?:the )?$"
    r"|(?:\A|[.;:,] )\s*(?:using|given|based on|relying on|building on|taking) (?:the )?$"
    r"|(?:\A|[.;] )\s*unlike (?:the )?$|\b(?:according to|despite|contradict(?:s|ing|ed)?|(?:in)?consistent with"
    r"|agrees? with|compared (?:to|with)"
    r"|contrary to|matches|as (?:\w+ )?(?:explained|shown|stated|seen|found|computed|given|derived|established"
    r"|said) (?:in|by)"
    r"|(?:already|correctly|rightly) (?:\w+ )?(?:in|by)|(?:result|value|number|answer|taken|obtained|derived"
    r"|found) (?:from|of)"
    r"|follow(?:s|ed)? from|uses|reuses) (?:the )?$",
    _FLAGS,
)
# "Everything after step 2", "from the end of step 2 on": the step that follows.
_AFTER = re.compile(
    r"\b(?:everything|all|anything|(?:the )?(?:error|mistake)s? (?:\w+ )?(?:comes?|occurs?"
    r"|is)) (?:\w+ )?(?:right )?after (?:the )?$",
    _FLAGS,
)
# "Step 3 is wrong because of step 2": the cause comes first.
_CAUSE = re.compile(
    r"\b(?:because of|due to|owing to|caused by|inherit(?:s|ed|ing)?|carr(?:y|ies|ied|ying) over|stems? from"
    r"|comes? from"
    r"|results? from|resulting from|propagat\w+ (?:\w+ )?from|as a result of|originat\w+ (?:in|from)|(?:goes"
    r"|traces?|traced) back to"
    r"|thanks to|consequence of|on account of"
    r"|(?:repeats?|corrects?|fixes|keeps|copies|undoes|perpetuates|compounds) the (?:\w+ )?(?:errors?|mistakes?|slips?"
    r"|faults?) (?:of|in|from))\b(?: \w+'?s?){0,6}? ?$",
    _FLAGS,
)
# "... but only because step 2 is": the fault is understood.
_LIKEWISE = re.compile(
    r"(?:(?:,| and| or) ?(?:steps? )?\d{1,3})* (?:is|are|was|were|does|do|did|has|have)\W*\Z", _FLAGS
)
_BECAUSE = re.compile(r"\b(?:because|since)\b", _FLAGS)
# "Step 1 is right, unlike step 2": the step that is praised is not the one at fault.
_PRAISED = re.compile(
    r"[\s*_`)\]]*(?:(?:,|and|or|&|to|through|-|–)[\s*_`]*(?:and\s+)?(?:steps?\s+)?\d{1,3}\b[\s*_`]*)*"
    r"(?:(?:is|are|was|were)(?: not|n't) (?:where|the (?:one|culprit|source|cause|problem|error|mistake))\b"
    r"|(?:is|are|was|were) (?!not\b)(?:\w+ )?(?:right|correct|fine|valid|sound|ok(?:ay)?)|holds?"
    r"|all is well)\b",
    _FLAGS,
)
_ROW = re.compile(rf"[ \t]*\|[\s*_`]*(?:{_UNIT} *)?#?(?P<row>\d{{1,3}})[\s*_`.]*\|", _FLAGS)
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
    r"|(?:can(?:not|'t| not)|could(?:n't| not)|do(?:n't| not)|did(?:n't| not)|fail(?:ed)? to|unable to)\s+(?:\w+\s+)?"
    r"(?:find|see|spot|detect|identify|locate|discover)\s+(?:\w+\s+){0,3}?(?:errors?|mistakes?|flaws?|faults?|wrong)\b"
    r"|\bavoid(?:s|ed|ing)?\s+(?:\w+\s+){0,3}?(?:errors?|mistakes?|flaws?|slips?)\b"
    # "It is wrong to think that step 2 fails", "the claim that step 2 is wrong is mistaken"
    rf"|\b{_BAD} to (?:think|say|claim|believe|suppose|call|object)\b.*|\bobjections? (?:is|are) {_BAD}\b"
    rf"|\b(?:claim|objection|idea|suspicion|view|impression|charge|criticism|belief) that [^.;]*?\b(?:{_BAD}|fails)\b"
    rf"[^.;]*? is (?:itself |also |in turn )?(?:{_BAD}|mistaken|unfounded)\b"
    r"|\berror-free\b|\berrors? (?:bound|term|margin|estimate|propagation)\b|\bmargin of error\b",
    _FLAGS,
)
_FAULT = re.compile(
    r"\b(?:errors?|mistakes?|mistaken(?:ly)?|wrong(?:ly)?|incorrect(?:ly)?|inaccurate(?:ly)?|erroneous(?:ly)?|invalid"
    r"|flaw(?:s|ed)?|faulty|false|mis(?:calculat|comput|read|interpret|appl|count|took|tak|stat|understood|us)\w*"
    r"|contradict\w*|unjustified|unsupported|overlook\w*|omit\w*|omission|neglect\w*|forg[eo]t\w*|fail(?:s|ed) to"
    r"|(?:goes?|went) (?:astray|off track)|(?:breaks?|broke) down(?= (?:at|in|here|when|because|from|with)\b|\W*\Z)"
    r"|falls? apart|slips? up|blunder\w*|botch\w*"
    r"|off by (?:one|an?|\$?\d)|not (?:ok(?:ay)?|fine|good)"
    r"|missing|left out|skip(?:s|ped)|(?:never|not) converted|without converting"
    r"|(?:should|ought to)(?: \w+)? (?:be|been|read|give|equal|follow)|is needed"
    r"|(?:(?:is|are|was|were|does|do|did|has|have)(?: \w+)? not|(?:is|are|was|were|does|do|did|has"
    r"|have)n't) (?:\w+ )?"
    r"(?:correct|right|true|valid|accurate|follow|hold|equal|justified|match|make sense)\w*|not correct"
    r"|the solution (?:\w+ )?(?:has|says|writes|stops|ends|answers)|instead of)\b"
    r"|\b(?:improper(?:ly)?|inconsisten\w*|circular|hallucinat\w*|unwarranted|untrue|fallac\w*|misle(?:d|ad)\w*"
    r"|deceptive(?:ly)?|illegitimate|unfounded|inappropriate(?:ly)?)\b"
    r"|\bnot [\"“$\\\d-]|[\u2717\u2718\u274c\u2716]",
    _FLAGS,
)
# Fault that is only seeming: "step 2 looks wrong but is right".
_SEEMING = re.compile(
    r"\b(?:looks?|looked|seems?|seemed|appears?|appeared|might|may|could|would|at first (?:sight|glance)|suspect(?:s|ed)?"
    r"|thought|object(?:s|ed)? to)\b(?: \w+){0,4}? (?:wrong|odd|incorrect"
    r"|false|mistaken|suspicious|invalid|an? (?:error|mistake))\b",
    _FLAGS,
)
_PRAISE = re.compile(
    r"\b(?:right|correct(?:ly)?|fine|ok(?:ay)?|valid|sound|holds?|true|accurate|flawless)\b|[\u2713\u2714\u2705]"
    r"|\bno (?:errors?|mistakes?)\b"
    r"|\bnot (?:wrong|incorrect)\b|\bit (?:is|does)(?: not|n't)\s*\W*\Z",
    _FLAGS,
)
# What speaks on about the step before.
_GOES_ON = re.compile(
    r"\s*(?:but|however|yet|and|so|then|here|there|in fact|actually|unfortunately|,)*\s*[,:]?\s*"
    r"(?:this|that|it|its|which|here|there|these|the (?:result|value|sum|product|difference|step|sign|calculation"
    r"|claim"
    r"|subtraction|addition|multiplication|division|equation|formula|reasoning|statement|conclusion|computation)"
    r"|\d|\$)",
    _FLAGS,
)
# "All steps are right except step 2": the fault is in what is left out.
_EXCEPTED = re.compile(
    rf"(?:\A\W*(?:apart from|aside from|except(?: for)?|other than|save for|besides|with the exception of)"
    rf"|\b(?:all|every|each|everything|the (?:rest|others?|solution|other steps))\b[^.;]*?[\s,](?:but(?: for)?|except(?:ing)?"
    rf"(?: for| in)?|save(?: for)?|apart from|aside from|other than|barring|with the exception of))"
    rf"\s+(?P<named>(?:the )?(?:{_STEP_N}|(?:{'|'.join(_ORDINALS)})\b(?! {_UNIT})|{_NTH_STEP}))",
    _FLAGS,
)
# "Step 3 isn't." after praise; "Step 2 is." after blame that was denied.
_ELLIPSIS = re.compile(
    r"[\s*_`]*(?:(?P<denied>(?:is|are|does|do|was)(?:n't| not))|(?:is|are|does|was))[\s.!*_`]*\Z", _FLAGS
)
# "The fourth applies the wrong rate", after words about steps.
_BARE_ORDINAL = re.compile(
    rf"\A(\W*(?:(?:but|however|yet|and|then)\b,? )?(?:in )?the (?:{'|'.join(_ORDINALS)}|last))(?: one)?(?=,| (?:\w+ly )?(?:is|was"
    r"|isn't|has|does|doesn't|contains?|makes?|applies|uses|divides|multiplies|adds|subtracts|takes|gives|loses|drops"
    r"|forgets|fails|errs|misses)\b)",
    _FLAGS,
)
# Which of two it is stays open.
_OPEN = re.compile(
    rf"\b(?:either|one of|whether)(?: in)? (?:the )?{_UNIT}\b"
    rf"|\b(?:errors?|mistakes?|faults?|flaws?)[^.;]{{0,40}}? between {_UNIT} \d+ and\b",
    _FLAGS,
)
_AFTERWARDS = re.compile(r"\s*(?:but |and )?(?:after (?:that|this|which)|from there|thereafter|afterwards)\b", _FLAGS)
_SINCE = re.compile(r"\b(?:since|as|because|given that|where|while) (?:the )?$", _FLAGS)
_RIGHTLY = re.compile(r"[\s*_`]*(?:\w+ )?(?:correctly|rightly|properly)\b", _FLAGS)
_UP_TO = re.compile(r"\b(?:up to(?: and including)?|through|until) (?:the )?$", _FLAGS)
_CHINESE = (
    (r"第([一二三四五六七八九十]|\d{1,3})步|步骤 ?([一二三四五六七八九十]|\d{1,3})",
     lambda m: f" step {'一二三四五六七八九十'.find(m[1] or m[2]) + 1 or (m[1] or m[2])} "),
    (r"(?:没有|无|并无|不存在)(?:任何)?(?:错误|问题)|无误|没错", "is right"),
    (r"不正确|不对|错误|有误|出错|错了|不成立", "is wrong"),
    (r"正确|成立", "is right"),
    (r"[。！]", ". "), (r"[，；]", "; "), ("：", ": "),
)  # fmt: skip
# What the reference teacher says of a right step.
_FINE = re.compile(r"\bas the solution says\b|\bwhich matches\b|\bsame result\b", _FLAGS)

# ---- how a critique is cut -------------------------------------------------------------------------------------------

_SENTENCE = re.compile(r"(?<=[.!?])(?<!\b[Nn]o\.)[\"'\u201d\u2019*_)]*\s+(?=[^a-z\s])")
# Halves of a sentence judge by themselves: "step 1 is right, but step 2 is not".
_HALVES = re.compile(
    r",?\s+\b(?:but(?! (?:one|two) step| (?:only |merely |just )?(?:because|since)\b)|however|whereas|while|although|though|yet)\b,?"
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
    before: tuple[str, int] | None = None  # the part before this one, if it mentions a step, and that step
    for k, (text, heading) in enumerate(parts):
        following = parts[k + 1][0] if k + 1 < len(parts) else ""
        if _OPEN.search(text) and _finds_fault(text):
            continue
        named = _mention(text, steps)
        if k and (number := _understood(text, parts[k - 1][0], named)):
            return number
        if _finds_fault(text) and not (_SEEMING.search(text) and _only_seems(text, following)):
            number = _cause(text, named) or named or heading
            # "Step 2 takes 5 from 24. This is wrong." and "Step 2 gives 18, but it is not right."
            if not number and before and _GOES_ON.match(text) and not _PRAISE.search(_NO_FAULT.sub(" ", before[0])):
                number = before[1]
            if not number and before and _AFTERWARDS.match(text):
                number = next(
                    (before[1] + 1 for m in _MENTION.finditer(before[0]) if _UP_TO.search(before[0][: m.start()])), None
                )
            if number := number or _quoted(text, steps):
                return number
        if named or not before or not _GOES_ON.match(text):
            before = (text, named) if named else None
    return None


def _only_seems(text: str, following: str) -> bool:
    """Whether a part that only seems to find fault is denied by itself or by the next one."""
    return any(_PRAISE.search(part) or _NO_FAULT.search(part) for part in (_SEEMING.sub(" ", text), following))


def _understood(text: str, previous: str, named: int | None) -> int | None:
    """The step of "step 3 is not", after praise, or of "step 2 is", after blame."""
    match = next(_MENTION.finditer(text), None) if named else None
    short = _ELLIPSIS.match(text, match.end()) if match and len(text[: match.start()].split()) < 3 else None
    if short is None:
        return None
    blamed = (
        bool(_FAULT.search(previous))
        or bool(_SEEMING.search(previous))
        or bool(re.search(r"\b(?:no|not)\W*\Z|n't\W*\Z", previous, _FLAGS))
    )
    praised = bool(_PRAISE.search(previous)) and not _FAULT.search(_NO_FAULT.sub(" ", previous))
    return named if (praised if short["denied"] else blamed) else None


def _cause(text: str, named: int | None) -> int | None:
    """The earlier step that a fault is traced to: "step 3 is wrong because of step 2"."""
    found = None
    for match in _MENTION.finditer(text) if named else ():
        number = _numbered(match, 0)
        before, after = text[: match.start()], text[match.end() :]
        if not number or number >= (found or named or 0) or _REJECTED.search(before):
            continue
        because = list(_BECAUSE.finditer(before))
        if _CAUSE.search(before) or (because and (_LIKEWISE.match(after) or _FAULT.search(_NO_FAULT.sub(" ", after)))):
            found = number  # and the cause's own cause
    return found


def _parts(critique: str, count: int) -> Iterator[tuple[str, int | None]]:
    """Sentences and halves of sentences, each with the number of the heading it stands under."""
    heading, stepwise, of_steps = None, False, False
    if not critique.isascii():
        for pattern, put in _CHINESE:
            critique = re.sub(pattern, put, critique)
    for line in re.sub(r"[^\S\n]+", " ", critique[:_MAX_CHARS]).split("\n"):
        if match := _ROW.match(line):
            heading, stepwise = int(match["row"]), True
            line = line[match.end() :]
        elif match := _HEADING.match(line):
            heading, stepwise = int(match["item"] or _number(match["n"])), True
            line = line[match.end() :]
        elif _ANSWER_HEADING.match(line):
            heading = (count or None) if stepwise else None
        elif _OTHER_HEADING.match(line):
            heading = None
        for sentence in _SENTENCE.split(line):
            excepted = _EXCEPTED.search(sentence)
            if excepted and _PRAISE.search(sentence) and not _finds_fault(sentence):
                named = excepted["named"]
                yield f"{named}{'' if re.search(_UNIT, named, _FLAGS) else ' step'} is wrong", heading
                continue
            if of_steps:
                sentence = _BARE_ORDINAL.sub(r"\1 step", sentence)
            of_steps = of_steps or "step" in sentence.lower()
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
        before = text[: match.start()]
        if _REJECTED.search(before) or _PRAISED.match(text, match.end()):
            continue
        if _SINCE.search(before) and _RIGHTLY.match(text, match.end()):
            continue
        if number := _numbered(match, len(steps)):
            return number + 1 if _AFTER.search(before) else number
    return None


def _numbered(match: re.Match[str], count: int) -> int | None:
    """The number of the step that a mention means; `None` for "the last one" of an unknown count."""
    if match["zero"]:
        return int(match["zero"]) + 1
    if match["n"]:
        return _number(match["n"])
    word = match["nth"].lower()
    if word in _LAST:
        return count - _LAST[word] if count > _LAST[word] else None
    if word in ("last", "final"):
        return count or None
    if word == "middle":
        return (count + 1) // 2 if count % 2 else None
    return _NUMBERS.get(word) or int(re.sub(r"\D", "", word)) or None


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
