r"""Finding the final answer in a generation.

    "The triangle has area $\boxed{\dfrac{3}{4}\text{ cm}^2}$."

gives the answer `\dfrac{3}{4}\text{ cm}^2`. Nothing here decides whether two answers are equal (`comparison.py`), and
every pattern runs in time linear in the text.
"""

from __future__ import annotations

import json
import re
from typing import NamedTuple

from cft_trl.grading.paper_notation import published_answer

_BRACES = re.compile(r"(\\(?:boxed|fbox)\s*\{)|(\\.)|([{}])", re.DOTALL)
_UNBRACED = re.compile(
    r"\\boxed\s*(?!\s*\{)(\\[dt]?frac\s*(?:\d\s*\d|\{[^{}]{1,40}\}\s*\{[^{}]{1,40}\})|[^\s{}$\\][^\s{}$\\]{0,40})"
)
_BETWEEN_BOXES = re.compile(r"[\s$]*(?:\\text\s*\{\s*(?:and|or)\s*\}|and|or|,|,\s*and|,\s*or)[\s$]*")
_ANNOUNCED = re.compile(
    r"\banswers?\b(?:\s+(?:to|for|of)\s[^.:\n]{0,80}?)?[*_]{0,3}\s*(?:\b(?:is|are)\b|:|=)[:=\s*_]{0,8}(?=\S)",
    re.IGNORECASE,
)
_HEADED = re.compile(r"^[ \t#*_>]*(?:the\s+)?(?:final\s+)?answer[ \t*_:#]*\n\s*(?=\S)", re.IGNORECASE | re.MULTILINE)
_LINE_A = re.compile(r"^[*_]{0,2}(?:A|Ans)[*_]{0,2}[ \t]*[:.][*_]{0,2}[ \t]*(\S[^\n]*)", re.MULTILINE)
_LINE_B = re.compile(r"^[*_(]{0,2}B[*_)]{0,2}[ \t]*[:.)]", re.MULTILINE)
_JSON = re.compile(
    r'"(?:final[_ ]?)?answer"\s*:\s*("(?:[^"\\\n]|\\.){1,400}"|-?\d[\d.]{0,30}|true|false)', re.IGNORECASE
)
_TAGGED = re.compile(r"<answer>\s*(.{1,400}?)\s*</answer>", re.DOTALL | re.IGNORECASE)
_MATHS = re.compile(r"\$\$(.+?)\$\$|\$([^$]+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_BETWEEN_MATHS = re.compile(r"\s*(,\s*and|,\s*or|,|and|or)\s*(?=\$|\\\()")
_SENTENCE_END = re.compile(r"\.(?=\s|$)|[!?;](?=\s|$)")
_REASON = re.compile(r"(?<=\S)\s*[,(]?\s*\b(?:because|since)\b.*", re.DOTALL)
_HASHES = re.compile(r"^####[ \t]*(\S[^\n]*)|(?<=\s)####[ \t]*(-?\\?\$?\d[^\n]*)", re.MULTILINE)
_HEADING = re.compile(
    r"[*_\s]*(?:step|final|answer|conclusion|solution|explanation|verification|part|case|therefore|thus|summary)\b",
    re.IGNORECASE,
)
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")
_MAX_BARE = 200


class _Box(NamedTuple):
    start: int
    inner: int  # where the content starts
    end: int  # where it ends
    after: int


def extract_answer(text: str | None, *, last_number: bool = False) -> str | None:
    r"""The final answer that a generation announces.

    In this order: the last complete \boxed{} or \fbox{} (boxes joined by "and", "or" or a comma count as one answer);
    <answer> tags; the line after "####"; what follows the last "answer is", "answer:" or a heading "Final answer";
    "answer" in JSON; a line "A: 18"; a text that is itself no more than an answer.
    A number that merely stands somewhere in the prose is no answer: taking it would accept by accident.

    Args:
        text: A generation, or a bare answer; of any length.
        last_number: Extract as the published grader does, which takes the last number when nothing else is found.

    Returns:
        The answer as it is written, or `None`.

    Example:
        >>> extract_answer(r"So $x = 3$, that is $\boxed{x = 3}$.")
        'x = 3'
        >>> extract_answer("She makes 9 * 2 = 18 dollars.\n#### 18")
        '18'
        >>> extract_answer(r"The answer is $\frac{1}{2}$. I hope it is correct.")
        '\\frac{1}{2}'
        >>> extract_answer("There were 12 ducks, and later I saw 5 more of them.") is None
        True
    """
    if last_number:
        return published_answer(text)
    if not text or not text.strip():
        return None
    for find in (_boxed, _tagged, _hashed, _announced, _in_json, _labelled, _bare):
        found = find(text)
        if found is not None:
            return found.strip() or None
    return None


def _boxed(text: str) -> str | None:
    """The content of the last complete box, joined with those it is coordinated with; one pass over the text."""
    stack: list[tuple[bool, int, int]] = []
    boxes: list[_Box] = []
    unbraced = {match.start(): match for match in _UNBRACED.finditer(text)}
    for match in _BRACES.finditer(text):
        if match[1]:
            stack.append((True, match.start(), match.end()))
        elif match.start() in unbraced:
            found = unbraced[match.start()]
            boxes.append(_Box(found.start(), found.start(1), found.end(), found.end()))
        elif match[3] == "{":
            stack.append((False, match.start(), match.end()))
        elif match[3] == "}" and stack:
            is_box, start, inner = stack.pop()
            if is_box:
                # A box inside this one closed before it; the outer one is the answer.
                while boxes and boxes[-1].start > start:
                    boxes.pop()
                boxes.append(_Box(start, inner, match.start(), match.end()))
    if not boxes:
        return None
    box = boxes.pop()
    parts = [text[box.inner : box.end]]
    while boxes and box.start - boxes[-1].end < 60:
        between = _BETWEEN_BOXES.fullmatch(text, boxes[-1].after, box.start)
        if not between:
            break
        box = boxes.pop()
        parts += [r" \text{ or } " if "or" in between[0] else ", ", text[box.inner : box.end]]
    return "".join(reversed(parts))


def _tagged(text: str) -> str | None:
    found = _TAGGED.findall(text) if "<" in text else []
    return found[-1] if found else None


def _hashed(text: str) -> str | None:
    lines = [first or second for first, second in _HASHES.findall(text)] if "####" in text else []
    lines = [line for line in lines if not _HEADING.match(line)]
    return lines[-1] if lines else None


def _announced(text: str) -> str | None:
    last = None
    for pattern in (_ANNOUNCED, _HEADED):
        for match in pattern.finditer(text):
            last = match if last is None or match.end() > last.end() else last
    if last is None:
        return None
    if maths := _coordinated(text, last.end()):
        return maths
    rest = text[last.end() : last.end() + _MAX_BARE + 1].partition("\n")[0]
    if stop := _SENTENCE_END.search(rest):
        rest = rest[: stop.start()]
    rest = _REASON.sub("", _until_closed(rest)).strip().strip("*_`").strip()
    return rest if rest and len(rest) <= _MAX_BARE else None


def _until_closed(text: str) -> str:
    r"""Up to a brace that closes what was opened before: \text{The answer is 6}."""
    depth = 0
    for match in re.finditer(r"\\.|[{}]", text):
        depth += (match[0] == "{") - (match[0] == "}")
        if depth < 0:
            return text[: match.start()]
    return text


def _coordinated(text: str, at: int) -> str | None:
    """The mathematics at a place, with what "and", "or" or a comma adds to it."""
    parts: list[str] = []
    while maths := _MATHS.match(text, at):
        parts.append(next(group for group in maths.groups() if group))
        more = _BETWEEN_MATHS.match(text, maths.end())
        if not more or len(parts) > 20:
            break
        parts.append(r" \text{ or } " if more[1].endswith("or") else ", ")
        at = more.end()
    if len(parts) % 2 == 0:
        parts = parts[:-1]
    return "".join(parts) or None


def _in_json(text: str) -> str | None:
    found = _JSON.findall(text) if '"' in text else []
    if not found:
        return None
    try:
        return str(json.loads(found[-1]))
    except ValueError:
        return found[-1].strip('"')


def _labelled(text: str) -> str | None:
    """The last line "A: 18", where "A" is not one of several options."""
    found = _LINE_A.findall(text)
    if not found or _LINE_B.search(text) or len(found[-1]) > _MAX_BARE:
        return None
    line = found[-1]
    if stop := _SENTENCE_END.search(line):
        line = line[: stop.start()]
    return _REASON.sub("", line)


def _bare(text: str) -> str | None:
    bare = text.strip()
    return bare if "\n" not in bare and len(bare) <= _MAX_BARE and len(_WORD.findall(bare)) <= 4 else None
