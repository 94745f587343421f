r"""The verdict grammar: does a critique conclude that the solution is right, wrong, or does it not say?

A critique of the published data ends like this (the house's own line, see `with_verdict_line`):

    ... the sign is lost in the second step, so the area comes out as 14 instead of 10.

    Conclusion: wrong [END]

Teachers also write "**Conclusion:** Wrong.", "### Conclusion\nThe student's solution is incorrect.",
"Final verdict: \boxed{right}", two conclusions, or none. The rules:

1. A *conclusion* is opened by the word conclusion, verdict or judgment followed by a colon (also full-width), "=",
   a dash, a line break when it is a heading, an XML tag, "is that", "verdict is", or by "In conclusion,".
2. It counts when what follows says right/correct or wrong/incorrect *of the solution*, as a bare word ("Wrong.") or
   in a sentence ("the final answer is not correct"). "Conclusion: 42", "Conclusion: the correct answer is 42" and
   "in conclusion, ABC is a right triangle" say nothing of the solution: an earlier conclusion is looked for.
3. The LAST conclusion that counts gives the verdict.
4. When it cannot be read one way there is no verdict: "right or wrong" (an unfilled template), "partially correct",
   "the answer is right but the reasoning is wrong", "a wrong approach leads to the right answer". A wrong answer
   does decide: "the right approach leads to a wrong answer" is wrong, for a solution whose answer is wrong is wrong
   however well it began, while a right answer does not excuse a wrong approach.

No verdict is `None`, never "wrong". The time is linear in the length of the text.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache
from itertools import pairwise

from cft_trl.data.markup import spoken
from cft_trl.data.reservations import blame_is_limited, praise_is_limited, taken_back
from cft_trl.data.verdict_forms import json_verdict, other_form
from cft_trl.data.verdict_grammar import Said, StatedVerdict, Verdict, resolve, sentences, statements
from cft_trl.data.verdict_phrases import labelled_or_first, one_sentence, phrase
from cft_trl.errors import CFTError

VERDICT_LINE = "Conclusion: {verdict} [END]"

# A conclusion is read no further than this many characters; teachers conclude in a sentence or two.
_MAX_CLAUSE = 600

_FLAGS = re.IGNORECASE | re.ASCII
# First a set of letters: `re` runs through a text for that alone, and tries nothing else.
_OPENER = re.compile(r"(?ai)(?-i:[CVJcvj])(?<![a-z].)(?:(?<=c)onclusions?|(?<=v)(erdicts?)|(?<=j)udge?ments?)(?![a-z])")
_DECO = r"[ \t*_`~\"'\u201c\u201d\u2018\u2019)\]}]{0,12}"
_ABOUT = (
    r"(?:[ \t]{1,3}(?:of|on|about|for|regarding)[ \t]{1,3}(?:(?:the|this|my|given|proposed|student'?s?)[ \t]){0,3}"
    r"(?:critique|solution|answer|response|review|attempt))?"
)
# What may stand after the word. A plain "is" would turn prose about the student's own conclusion into a verdict
# ("the conclusion is wrong in step 2"), so it needs the word verdict.
_COLON = re.compile(
    rf"{_ABOUT}{_DECO}(?:\([\w ]{{1,20}}\){_DECO})?(?:is{_DECO})?"
    r"(?:[:\uff1a=>|]|(?:-{1,3}>?|[\u2013\u2014\u2192])[ \t])",
    _FLAGS,
)
_IS = re.compile(r"[ \t]{1,3}is(?=\s)", _FLAGS)
_IS_THAT = re.compile(r"[ \t]{1,3}is[ \t]{1,3}that(?=\s)", _FLAGS)
_COMMA = re.compile(r"[ \t]{0,3}[,\uff0c]")
_LINE_END = re.compile(rf"{_ABOUT}{_DECO}(?:\r?\n|\r)", _FLAGS)
_IN_BEFORE = re.compile(r"(?<![a-z])in\s{1,3}$", _FLAGS)
_HEADING_BEFORE = re.compile(
    r"(?:^|[\r\n])[ \t]*[#>*_`~\d.() \t\-]*(?:(?:my|the|final|overall|critique)[ \t_]+){0,3}$", _FLAGS
)
# 'end with "Conclusion: right" or "Conclusion: wrong"' offers an alternative; it draws no conclusion.
_OR_BEFORE = re.compile(r"(?<![a-z])or[ \t\"'`\u201c\u2018*_(\[<]*$", _FLAGS)
# "I would not write 'Conclusion: right'" quotes it; "the student's conclusion: right" is the student's.
_QUOTED_BEFORE = re.compile(
    r"(?:\bnot|n't|never|cannot|instead of|rather than|should|must|either|if|whether|unless|example|format|with|write"
    r"|say|says|wrote|line|lines)\b[^.\n\"'`\u201c\u201d]{0,40}[\"'`\u201c\u2018]+[ *_]*$",
    _FLAGS,
)
_ANOTHERS = re.compile(
    r"(?:student|solution|author|response|answer|user|model)['\u2019]s?[ \t](?:own[ \t]|final[ \t])?$", _FLAGS
)
# "The reviewer wrote: Conclusion: right"; "I have to end with Conclusion: right"; "If so, then conclusion: right".
_REPORTED = re.compile(
    r"\b(?:student|solution|author|response|user|model|reviewer|critic|grader|judge|teacher|assistant|someone|colleague"
    r"|he|she|they|it)\b[^.!?\n]{0,30}\b(?:wrote|writes?|sa(?:ys?|id)|claim(?:s|ed)?|conclude[sd]?|end(?:s"
    r"|ed)?|state[sd]?"
    r"|answer(?:s|ed)|gave|gives?|put|noted|with|reads?)[ \t:,*_]*$"
    r"|\b(?:must|should|have to|has to|need to|asked to|told to|instructed to|required to|supposed to|would|could|may"
    r"|might|can)\b[^.!?\n]{0,20}\b(?:finish|end|close|write|say|output|answer|reply|respond|print)\b[^.!?\n]{0,20}$"
    r"|(?:^|[.!?\n])[ \t]*(?:if|unless|whether|were|had|suppos\w+|assum\w+|only if|provided)\b[^.!?\n]*$",
    _FLAGS,
)
_IF_AFTER = re.compile(r"[\])*_ \t\"'`]*(?:if|unless|when|whenever|or|only if|in case|otherwise)\b", _FLAGS)
_QUOTE_BLOCK = re.compile(r"(?:^|\n)[ \t]*>[^\n]*$")
_OWN_WORDS = re.compile(r"\n[ \t]*(?!>)(?![\[(]END)[^\W\d_]", _FLAGS)
_NEGATING_SIGNS = tuple("\u00ac!\u2717\u2718\u274c\u2716")
_STEP_LABEL = re.compile(r"(?:^|[\n|])[ \t>*#_|\-]*(?:step|paragraph|line|equation|part)s?[ \t*_]*#?[(\[]?\d", _FLAGS)
# The contract's line with nothing behind it, as most critiques end: it need not be read word by word.
_PLAIN_LINE = re.compile(r": (right|wrong) \[END\]\s*\Z")
_STOP = re.compile(r"[\[(*\\]{1,3}END(?![A-Za-z])")
# "the correct final answer": what is said of it comes after the noun.
_NOUN = re.compile(
    r"\A[ \t]+(?:(?:final|numerical|overall|boxed|given|proposed|student's|end)[ \t]+){0,2}"
    r"(?:answers?|solutions?|results?|responses?|conclusion|proof|one|steps?|reasoning"
    r"|calculations?|approach|methods?|work|argument|derivation|output|logic)\b",
    _FLAGS,
)
_BLANK_LINE = re.compile(r"\n[ \t\r]*\n|\r[ \t]*\r")


def parse_verdict(text: str | None) -> Verdict | None:
    r"""The verdict that a critique states, by its last conclusion.

    Args:
        text: A critique (`str`), of any length; or `None`.

    Returns:
        "right", "wrong", or `None` when no conclusion says either or it cannot be read one way.

    Example:
        >>> parse_verdict("The sum is 12, not 13.\n\nConclusion: wrong [END]")
        'wrong'
        >>> parse_verdict("**Critique Conclusion:** The solution is not correct.")
        'wrong'
        >>> parse_verdict("Conclusion: right\n\nOn reflection step 2 fails.\n\nConclusion: wrong")
        'wrong'
        >>> parse_verdict("Conclusion: right or wrong [END]") is None
        True
    """
    found = stated_verdict(text)
    return found.verdict if found else None


def verdict_span(text: str | None) -> tuple[int, int] | None:
    r"""Where the verdict stands: character offsets of the last conclusion's verdict word.

    A negation belongs to the word, for the word alone would say the opposite ("not correct", "isn't right").

    Args:
        text: A critique (`str`), of any length; or `None`.

    Returns:
        `(start, end)` with `text[start:end]` the word(s), or `None` exactly when `parse_verdict(text)` is `None`.

    Example:
        >>> critique = "Step 2 drops a sign.\n\nConclusion: wrong [END]"
        >>> start, end = verdict_span(critique)
        >>> critique[start:end]
        'wrong'
    """
    found = stated_verdict(text)
    return (found.start, found.end) if found else None


def stated_verdict(text: str | None) -> StatedVerdict | None:
    r"""What `parse_verdict` and `verdict_span` say, from one reading; `None` where the critique states no verdict.

    Example:
        >>> stated_verdict("Step 2 drops a sign.\n\nConclusion: wrong [END]")
        StatedVerdict(verdict='wrong', start=34, end=39)
    """
    found = _last(text)
    return StatedVerdict(found.verdict, found.start, found.end) if found and found.verdict else None


def with_verdict_line(critique: str, verdict: Verdict) -> str:
    r"""The critique with the published last line, "Conclusion: right [END]" or "Conclusion: wrong [END]".

    Args:
        critique: The critique's text; may be empty.
        verdict: "right" or "wrong" (or a label that `to_verdict` knows).

    Returns:
        The critique unchanged when it concludes so already, else the critique, a blank line and the line.

    Raises:
        CFTError: The critique states the other verdict, or `verdict` is none.

    Example:
        >>> with_verdict_line("Step 2 drops a sign.", "wrong")
        'Step 2 drops a sign.\n\nConclusion: wrong [END]'
        >>> with_verdict_line("Sound.\n\nConclusion: right", "right")
        'Sound.\n\nConclusion: right'
    """
    wanted = to_verdict(verdict)
    if wanted is None:
        raise CFTError(f"no verdict to append: got {verdict!r}; give 'right' or 'wrong'")
    found = _last(critique)
    stated = found.verdict if found else None
    # "Correctness: wrong", "Wrong." at the beginning and a sentence alone say it, but are no conclusion.
    if found and stated == wanted and found.kind not in ("label", "first", "sentence"):
        return critique
    if stated not in (None, wanted):
        raise CFTError(f"the critique concludes {stated!r} but the verdict given is {wanted!r}; correct one of the two")
    line = VERDICT_LINE.format(verdict=wanted)
    return f"{critique}\n\n{line}" if critique else line


_LABELS: dict[str, Verdict | None] = {
    **dict.fromkeys(("right", "correct", "true", "1", "1.0"), "right"),
    **dict.fromkeys(("wrong", "incorrect", "false", "0", "0.0"), "wrong"),
    # "flawed" is PRMBench's third label: a redundant or circular step in a solution whose answer stands. It is
    # known and neither right nor wrong, so it is no verdict rather than an error.
    **dict.fromkeys(("", "flawed"), None),
}


def to_verdict(value: object) -> Verdict | None:
    """The verdict that a data set's own label means.

    Args:
        value: `True`/`False`, `1`/`0` (also numpy's, or as text), "right"/"wrong", "correct"/"incorrect" in any case;
            for no verdict `None`, NaN, "" or "flawed" (PRMBench's label for a redundant or circular solution).

    Returns:
        "right", "wrong" or `None`.

    Raises:
        CFTError: Any other value.

    Example:
        >>> to_verdict("Correct"), to_verdict(0), to_verdict(None)
        ('right', 'wrong', None)
        >>> to_verdict("maybe")
        Traceback (most recent call last):
        cft_trl.errors.CFTError: 'maybe' is not a verdict; give right/wrong, correct/incorrect, true/false, 1/0 or null
    """
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        value = value.item()
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    key = str(value).strip().lower() if isinstance(value, str | bool | int | float) else None
    if key not in _LABELS:
        raise CFTError(f"{value!r} is not a verdict; give right/wrong, correct/incorrect, true/false, 1/0 or null")
    return _LABELS[key]


# What a build or a publication asks of one critique, it asks several times in a row.
@lru_cache(maxsize=2048)
def _last(text: str | None) -> Said | None:
    """The last conclusion that counts (its verdict may be `None`: unclear), or `None` when there is none."""
    if not text:
        return None
    start, end = spoken(text)
    if written := json_verdict(text, start, end):
        return written if written.kind == "json" else None
    found = next(iter(_conclusions(text, start, end)), None) or _unannounced(text, start, end)
    # "Conclusion: right [END] if ...", "... [END] Correction: ...": what is said behind the end still counts.
    stop = _STOP.search(text, found.end, min(end, found.end + _MAX_CLAUSE)) if found else None
    behind = text[stop.end() : min(end, stop.end() + 80)] if stop else ""
    if found and (_IF_AFTER.match(behind) or taken_back(re.sub(r"\A[\W_]+", "", behind))):
        return found._replace(verdict=None)
    return found


def _unannounced(text: str, start: int, end: int) -> Said | None:
    """The verdict of a text without the word conclusion."""
    if one_sentence(text, start, end):
        found = _conclude(text, start, end, "colon")
        return found and found._replace(kind="sentence")
    found = other_form(text, start, end) or labelled_or_first(text, start, end)
    return _weighed(text, found, end, end) if found and found.kind in ("label", "first") else found


def contradiction(text: str) -> str | None:
    r"""How a critique contradicts itself; `None` where it does not.

    Two conclusions that say different things do, and a conclusion that is taken back afterwards. A pair of lines that
    only quotes what the critique was asked to end with is no conclusion.

    Example:
        >>> contradiction("Fine.\n\nConclusion: right [END]\n\nWait, 3 x 4 is 12.\n\nConclusion: wrong [END]")
        'concludes right and wrong'
        >>> contradiction("Conclusion: right [END]\n\nWait, step 2 fails.")
        'takes its conclusion back'
        >>> contradiction("I end with\nConclusion: right\nor\nConclusion: wrong\n\nConclusion: wrong") is None
        True
    """
    start, end = spoken(text)
    found = _conclusions(text, start, end)[::-1]
    offered: set[int] = set()
    for k, (one, other) in enumerate(pairwise(found[:-1])):
        between = _ALTERNATIVE.sub("", text[one.end : other.start])
        if one.verdict != other.verdict and not between.strip(" \t\r\n\"'`*_.,:;\u201c\u201d"):
            offered |= {k, k + 1}
    verdicts = {said.verdict for k, said in enumerate(found) if said.verdict and k not in offered}
    if len(verdicts) > 1:
        return "concludes right and wrong"
    again = re.match(r"[\W_]*(.{0,60})", text[found[-1].end :].replace("[END]", ""), re.DOTALL) if found else None
    if again and taken_back(again[1]):
        return "takes its conclusion back"
    return None


_ALTERNATIVE = re.compile(r"\bor\b|\bconclusion\b|\bverdict\b|[\[(]END[\])]", _FLAGS)


@lru_cache(maxsize=64)  # a teacher's critique is asked for contradictions and then for its verdict
def _conclusions(text: str, start: int, end: int) -> tuple[Said, ...]:
    """The conclusions that count in `text[start:end]`, from the last to the first."""
    words, counted = _OPENER.finditer(text, start, end), []
    openings = [(word.start(), *opening) for word in words if (opening := _opening(text, word))]
    openings = _without_steps(text, start, openings)
    # Each is read only up to the next, so no stretch of text is read twice.
    limit = end
    for at, begin, style in reversed(openings):
        found = _conclude(text, begin, limit, style)
        if found and _QUOTE_BLOCK.search(text[max(0, at - 80) : at]) and _OWN_WORDS.search(text, begin, end):
            continue
        if found:
            if _OR_BEFORE.search(text[max(0, at - 20) : at]):
                found = found._replace(verdict=None)
            counted.append(found)
        limit = at
    return tuple(counted)


def _without_steps(text: str, start: int, openings: list[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    """The openings without those of a list of verdicts on single steps: two or more, each after its step's label."""
    per_step: set[int] = set()
    before = start
    for at, begin, _ in openings if len(openings) > 1 else ():  # one is no list
        labelled = _STEP_LABEL.search(text, max(before, at - 4 * _MAX_CLAUSE), at)
        if labelled and not _STOP.search(text, begin, begin + 40):
            per_step.add(at)
        before = begin
    if len(per_step) < 2:
        return openings
    return [opening for opening in openings if opening[0] not in per_step]


def _opening(text: str, word: re.Match[str]) -> tuple[int, str] | None:
    """Where the conclusion's text begins and how it was opened ("colon", "heading", "prose"); None if it is not one."""
    end = word.end()
    before = text[max(0, word.start() - 60) : word.start()]
    if not before.endswith("\n\n") and _not_its_own(before):  # nothing before a blank line makes it another's
        return None
    if match := _IS_THAT.match(text, end):
        return match.end(), "prose"
    if match := _COLON.match(text, end) or (_IS.match(text, end) if word[1] else None):
        return match.end(), "colon"
    if (match := _COMMA.match(text, end)) and _IN_BEFORE.search(before):
        return match.end(), "prose"
    # A line longer than the window is no heading: its beginning would be mistaken for a line's.
    cut = word.start() > 60 and "\n" not in before and "\r" not in before
    if not cut and (match := _LINE_END.match(text, end)) and _HEADING_BEFORE.search(before):
        return match.end(), "heading"
    return None


def _not_its_own(before: str) -> bool:
    """Whether a conclusion after these words is quoted, or another's."""
    quoted = before.rstrip(" *_")[-1:] in "\"'`\u201c\u2018" and _QUOTED_BEFORE.search(before)
    return bool(quoted) or bool(_ANOTHERS.search(before)) or bool(_REPORTED.search(before))


def _conclude(text: str, start: int, limit: int, style: str) -> Said | None:
    """What the conclusion that begins at `start` says of the solution."""
    if style == "colon" and (plain := _PLAIN_LINE.match(text, start - 1, limit)):
        return Said("bare", to_verdict(plain[1]), *plain.span(1))
    end = min(limit, start + _MAX_CLAUSE)
    if stop := _STOP.search(text, start, end):
        end = stop.start()
    while start < end and text[start].isspace():
        start += 1
    # Under a heading the verdict may close a second paragraph; after "Conclusion: ..." the paragraph is all of it.
    blank = _BLANK_LINE.search(text, start, end)
    if blank and style != "heading":
        end = blank.start()
    if style != "prose" and (fixed := phrase(text, start, end)):
        return _weighed(text, fixed, end, limit)
    said: list[Said] = []
    for sentence in sentences(text, start, end):
        new = [s for s in statements(sentence) if style != "prose" or s.kind == "whole"]
        if new and new[0].kind == "bare":
            said = new
            break
        # The first sentence that judges the whole stands; later ones explain it.
        if any(s.kind == "whole" for s in said):
            new = [s for s in new if s.kind != "whole"]
        said += new
    found = resolve(said)
    return found and _weighed(text, found, end, limit)


def _weighed(text: str, found: Said, end: int, limit: int) -> Said:
    """The conclusion without its verdict where the words after it limit it or take it back."""
    after = _NOUN.sub("", text[found.end : end], count=1)
    if text[max(0, found.start - 3) : found.start].strip(' *_`"')[-1:] in _NEGATING_SIGNS:
        return found._replace(verdict=None)
    stop = _STOP.search(text, found.end, limit)
    later = text[end : min(stop.start() if stop else limit, end + _MAX_CLAUSE)]
    if found.verdict == "right" and any(
        said.kind == "whole" and said.verdict == "wrong"
        for sentence in sentences(later, 0, len(later))
        for said in statements(sentence)
    ):
        return found._replace(verdict=None)
    if found.verdict == "right" and (praise_is_limited(after, later) or taken_back(after + later)):
        return found._replace(verdict=None)
    if found.verdict == "wrong" and (blame_is_limited(after) or taken_back(after + later)):
        return found._replace(verdict=None)
    return found
