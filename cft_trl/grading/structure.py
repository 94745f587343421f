r"""The structure of a cleaned answer: brackets, lists, and what two spellings share.

split_top(r"(1, 2), \frac{a, b}{c}")      # ["(1, 2)", r"\frac{a, b}{c}"]
key("1 1/2") == key("11/2")               # False: spaces between digits mean something
"""

from __future__ import annotations

import re


def words(text: str) -> list[str]:
    """A table of words, written as one text."""
    return text.split()


def argument(text: str, at: int) -> tuple[str | None, int]:
    """The argument that begins at a place, without its braces, and where it ends; `None` where its brace stays open."""
    if at >= len(text) or text[at] != "{":
        match = re.compile(r"\\[A-Za-z]+|\\.|.", re.DOTALL).match(text, at)
        return (match[0], match.end()) if match else (None, at)
    depth = 0
    for match in _BRACES.finditer(text, at):
        depth += (match[0] == "{") - (match[0] == "}")
        if depth == 0:
            return text[at + 1 : match.start()], match.end()
    return None, at


_BRACES = re.compile(r"\\.|[{}]", re.DOTALL)


def squash(answer: str) -> str:
    """The answer without whitespace."""
    return re.sub(r"\s+", "", answer)


def key(answer: str) -> str:
    """The answer without the spaces that mean nothing; "1 1/2" stays apart from "11/2".

    Example:
        >>> key("x + 1") == key("x+1"), key("1 1/2") == key("11/2"), key("E_{1}") == key("E_1")
        (True, False, True)
    """
    answer = re.sub(
        r"(?<![\w.)}])\s+|\s+(?![\w.({\\])|(?<=[A-Za-z)}])\s+(?=[\d.({])|(?<=\d)\s+(?=[A-Za-z(\\])", "", answer
    )
    answer = re.sub(r"([_^])\{(\w)\}", r"\1\2", answer)
    return re.sub(r"\s+", " ", answer).strip()


def text_key(answer: str) -> str:
    r"""What two spellings of a text answer share: letters folded, \text{} opened, spaces and full stops left out.

    Example:
        >>> text_key(r"4:30 \text{ p.m.}") == text_key("4:30 PM"), text_key(r"\text{an ellipse}") == text_key("ellipse")
        (True, True)
    """
    opened = re.sub(r"\\text\{([^{}]*)\}", r"\1", answer.replace(r"\land", "and").replace(r"\lor", "or"))
    opened = re.sub(r"^\s*(?:an?|the)\s+(?=\w{2})", "", opened, flags=re.IGNORECASE)
    return re.sub(r"\.(?!\d)|'(?=[a-z])|[\s\"!*~-]|\\", "", opened).casefold()


_MARKS = re.compile(
    r"\\[{}]|\\(?:[lr]angle|land|lor|cup|cap|[lr]floor|[lr]ceil)(?![A-Za-z])|\\[A-Za-z]+|\\.|[()\[\]{},;|]", re.DOTALL
)
_OPEN = {"(": 1, "[": 1, "{": 1, r"\{": 1, r"\langle": 1, r"\lfloor": 1, r"\lceil": 1}
_CLOSE = {")": 1, "]": 1, "}": 1, r"\}": 1, r"\rangle": 1, r"\rfloor": 1, r"\rceil": 1}
COMMAS = frozenset({",", ";", r"\land", r"\lor"})


def split_top(text: str, separators: frozenset[str] = COMMAS) -> list[str]:
    r"""Splits at separators that stand in no bracket: commas, semicolons, \land and \lor unless others are given.

    Example:
        >>> split_top(r"(1, 2), \frac{a, b}{c}; 3 \lor 4")
        ['(1, 2)', '\\frac{a, b}{c}', '3', '4']
    """
    return [item for item, _ in split_marked(text, separators)]


def split_marked(text: str, separators: frozenset[str] = COMMAS) -> list[tuple[str, str]]:
    """As `split_top`, each item with the separator before it (the first with "")."""
    parts, depth, start, before = [], 0, 0, ""
    for match in _MARKS.finditer(text):
        mark = match[0]
        depth += _OPEN.get(mark, 0) - _CLOSE.get(mark, 0)
        if depth == 0 and mark in separators:
            parts.append((text[start : match.start()].strip(), before))
            start, before = match.end(), mark
    parts.append((text[start:].strip(), before))
    # ", \land" is one separator.
    return [part for part in parts if part[0]] if len(parts) > 1 else parts


def split_at(text: str, pattern: re.Pattern[str]) -> tuple[list[str], list[str]]:
    """Splits where a pattern matches outside of brackets -> (the parts, what stood between them).

    Example:
        >>> split_at("P(X=3) = 2", re.compile("="))
        (['P(X=3)', '2'], ['='])
    """
    depths, depth = [], 0
    for match in _MARKS.finditer(text):
        depth += _OPEN.get(match[0], 0) - _CLOSE.get(match[0], 0)
        depths.append((match.end(), depth))
    parts, between, start, at, depth = [], [], 0, 0, 0
    for match in pattern.finditer(text):
        while at < len(depths) and depths[at][0] <= match.start():
            depth = depths[at][1]
            at += 1
        if depth == 0:
            parts.append(text[start : match.start()].strip())
            between.append(match[0])
            start = match.end()
    return [*parts, text[start:].strip()], between


def closes_at_end(text: str) -> bool:
    """Whether the bracket that opens a text is closed by its last one."""
    depth = 0
    for match in _MARKS.finditer(text):
        depth += _OPEN.get(match[0], 0) - _CLOSE.get(match[0], 0)
        if depth == 0 and match[0] in _CLOSE:
            return match.end() == len(text)
    return False


def bracketed(answer: str) -> tuple[str, str, str] | None:
    r"""Opening bracket, content and closing bracket when one pair holds the whole answer; \{ \} counts as a set."""
    answer = answer.strip()
    opener = next((o for o in ("(", "[", r"\{", r"\langle") if answer.startswith(o)), None)
    if opener is None or not closes_at_end(answer):
        return None
    closer = next((c for c in (r"\}", r"\rangle") if answer.endswith(c)), answer[-1])
    inner = answer[len(opener) : -len(closer)]
    if opener == "(" and closer == ")" and len(split_top(inner)) == 1:
        return None
    return opener, inner.strip(), closer
