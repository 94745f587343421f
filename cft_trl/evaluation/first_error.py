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

from cft_trl.evaluation.step_words import (
    AFTER,
    AFTERWARDS,
    AND,
    ANSWER_HEADING,
    BARE_ORDINAL,
    BECAUSE,
    CAUSE,
    CHINESE,
    CLAIMS,
    CONCESSION,
    ELLIPSIS,
    EXCEPTED,
    FAULT,
    FINE,
    FIRST_IS,
    FLAGS,
    FROM,
    GOES_ON,
    HALVES,
    HEADING,
    IT_IS,
    LAST,
    LIKEWISE,
    MAX_CHARS,
    MENTION,
    NO_FAULT,
    NUMBERS,
    OF_ALL,
    OPEN,
    OTHER_HEADING,
    OUTRIGHT,
    PRAISE,
    PRAISED,
    QUOTE,
    REJECTED,
    RIGHTLY,
    ROW,
    SEEMING,
    SENTENCE,
    SINCE,
    THEN_THAT,
    UNIT,
    UP_TO,
)


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
        if match := FIRST_IS.search(text):
            return int(match["n"] or match["until"])
        match = OUTRIGHT.search(text)
        if match and not NO_FAULT.search(text):
            number = _mention(text[match.start() :], steps) or _mention(text, steps)
            if number:
                return number
    before: tuple[str, int] | None = None  # the part before this one, if it mentions a step, and that step
    for k, (text, heading) in enumerate(parts):
        following = parts[k + 1][0] if k + 1 < len(parts) else ""
        if OPEN.search(text) and _finds_fault(text):
            continue
        named = _mention(text, steps)
        if k and (number := _understood(text, parts[k - 1][0], named)):
            return number
        value = IT_IS.match(text) if before and not named and CLAIMS.search(before[0]) else None
        if value and before and value["value"].rstrip(".,") not in before[0]:
            return before[1]
        if _finds_fault(text) and not (SEEMING.search(text) and _only_seems(text, following)):
            number = _cause(text, named) or named or heading
            # "Step 2 takes 5 from 24. This is wrong." and "Step 2 gives 18, but it is not right."
            if not number and before and GOES_ON.match(text) and not PRAISE.search(NO_FAULT.sub(" ", before[0])):
                number = before[1]
            if not number and before and AFTERWARDS.match(text):
                number = next(
                    (before[1] + 1 for m in MENTION.finditer(before[0]) if UP_TO.search(before[0][: m.start()])), None
                )
            if number := number or _quoted(text, steps):
                return number
        if named or not before or not GOES_ON.match(text):
            before = (text, named) if named else None
    return None


def _only_seems(text: str, following: str) -> bool:
    """Whether a part that only seems to find fault is denied by itself or by the next one."""
    return any(PRAISE.search(part) or NO_FAULT.search(part) for part in (SEEMING.sub(" ", text), following))


def _understood(text: str, previous: str, named: int | None) -> int | None:
    """The step of "step 3 is not", after praise, or of "step 2 is", after blame."""
    match = next(MENTION.finditer(text), None) if named else None
    short = ELLIPSIS.match(text, match.end()) if match and len(text[: match.start()].split()) < 3 else None
    if short is None:
        return None
    blamed = (
        bool(FAULT.search(previous))
        or bool(SEEMING.search(previous))
        or bool(re.search(r"\b(?:no|not)\W*\Z|n't\W*\Z", previous, FLAGS))
    )
    praised = bool(PRAISE.search(previous)) and not FAULT.search(NO_FAULT.sub(" ", previous))
    return named if (praised if short["denied"] else blamed) else None


def _cause(text: str, named: int | None) -> int | None:
    """The earlier step that a fault is traced to: "step 3 is wrong because of step 2"."""
    found = None
    for match in MENTION.finditer(text) if named else ():
        number = _numbered(match, 0)
        before, after = text[: match.start()], text[match.end() :]
        if not number or number >= (found or named or 0) or REJECTED.search(before):
            continue
        because = list(BECAUSE.finditer(before))
        if CAUSE.search(before) or (because and (LIKEWISE.match(after) or FAULT.search(NO_FAULT.sub(" ", after)))):
            found = number  # and the cause's own cause
    return found


def _parts(critique: str, count: int) -> Iterator[tuple[str, int | None]]:
    """Sentences and halves of sentences, each with the number of the heading it stands under."""
    heading, stepwise, of_steps = None, False, False
    if not critique.isascii():
        for pattern, put in CHINESE:
            critique = re.sub(pattern, put, critique)
    for line in re.sub(r"[^\S\n]+", " ", critique[:MAX_CHARS]).split("\n"):
        if match := ROW.match(line):
            heading, stepwise = int(match["row"]), True
            line = line[match.end() :]
        elif match := HEADING.match(line):
            heading, stepwise = int(match["item"] or _number(match["n"])), True
            line = line[match.end() :]
        elif ANSWER_HEADING.match(line):
            heading = (count or None) if stepwise else None
        elif OTHER_HEADING.match(line):
            heading = None
        for sentence in SENTENCE.split(line):
            excepted = EXCEPTED.search(sentence)
            if excepted and PRAISE.search(sentence) and not _finds_fault(sentence):
                named = excepted["named"]
                yield f"{named}{'' if re.search(UNIT, named, FLAGS) else ' step'} is wrong", heading
                continue
            sentence = OF_ALL.sub(r"\1, \2 step", sentence)
            if of_steps:
                sentence = BARE_ORDINAL.sub(r"\1 step", sentence)
            of_steps = of_steps or "step" in sentence.lower()
            if match := CONCESSION.match(sentence):
                yield sentence[: match.end()], heading
                sentence = sentence[match.end() :]
            for half in HALVES.split(sentence):
                if half.strip():
                    yield half, heading


def _finds_fault(text: str) -> bool:
    if text.rstrip("\"' *_)").endswith("?"):
        return False
    return not FINE.search(text) and bool(FAULT.search(NO_FAULT.sub(" ", text)))


def _mention(text: str, steps: Sequence[str]) -> int | None:
    """The first step that the text mentions."""
    for match in MENTION.finditer(text):
        before = text[: match.start()]
        if REJECTED.search(before) or PRAISED.match(text, match.end()):
            continue
        later = MENTION.search(text, match.end())
        if RIGHTLY.match(text, match.end()) and (later or SINCE.search(before)):
            continue
        if FROM.search(before) and THEN_THAT.match(text, match.end()):
            continue
        if number := _numbered(match, len(steps)):
            if later and AND.fullmatch(text, match.end(), later.start()):
                number = min(number, _numbered(later, len(steps)) or number)  # "step 4 and step 3 are both wrong"
            return number + 1 if AFTER.search(before) else number
    return None


def _numbered(match: re.Match[str], count: int) -> int | None:
    """The number of the step that a mention means; `None` for "the last one" of an unknown count."""
    if match["zero"]:
        return int(match["zero"]) + 1
    if match["n"]:
        return _number(match["n"])
    word = match["nth"].lower()
    if word in LAST:
        return count - LAST[word] if count > LAST[word] else None
    if word in ("last", "final"):
        return count or None
    if word == "middle":
        return (count + 1) // 2 if count % 2 else None
    return NUMBERS.get(word) or int(re.sub(r"\D", "", word)) or None


def _number(word: str) -> int:
    return int(word) if word.isdigit() else NUMBERS[word.lower()]


def _quoted(text: str, steps: Sequence[str]) -> int | None:
    """The one step that holds words which the text quotes."""
    plain = [_squash(step) for step in steps]
    for match in QUOTE.finditer(text):
        quote = _squash(match[1] or match[2])
        holders = [number for number, step in enumerate(plain, 1) if quote and quote in step]
        if len(holders) == 1:
            return holders[0]
    return None


def _squash(text: str) -> str:
    r"""Letters, digits and operators only: quotes drop the LaTeX around a formula, or its spaces."""
    text = text.lower().replace(r"\times", "×").replace(r"\cdot", "×").replace(r"\div", "÷").replace("*", "×")
    return re.sub(r"[^\w=+\-×÷/^%<>.]|\.(?!\d)", "", text)
