r"""Verdict words of one's own: a pair in place of right and wrong, or grades, with where they stand in a critique.

    {right: accept, wrong: reject}                "The empty list is not handled.\n\nConclusion: reject [END]"
    {grades: [1, 2, 3, 4, 5], right_from: 4}      "Two of three wishes are met.\n\nConclusion: 3 [END]"

A row's `verdict` stays right or wrong whatever the words are: a critique that says the word for right, or a grade from
`right_from` up, says that the response is right. The grammar of `verdict.py` knows what English says of a solution, and
none of that is known of other words. So here only what was asked for counts: a line that begins with "Conclusion:" (or
verdict, judgment; with Markdown or not), and then one of the words, and nothing else in its clause. The last such line
counts. One that offers two words ("accept or reject") or is taken back says nothing. A line that begins with grade,
rating or score counts where nothing follows it, where [END] does, or as the final or overall one: elsewhere it may be
that of one wish among several, as in a critique that was cut off before its conclusion.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from cft_trl.data.markup import control_token, spoken
from cft_trl.data.reservations import taken_back
from cft_trl.data.verdict import VERDICT_LINE
from cft_trl.data.verdict_grammar import StatedVerdict, Verdict
from cft_trl.errors import CFTError

FORMS = "{right: accept, wrong: reject} or {grades: [1, 2, 3, 4, 5], right_from: 4}"

_FLAGS = re.IGNORECASE
_WORD = re.compile(r"\w(?:[\w .+/-]{0,38}[\w+])?")
_DECO = r"[ \t*_`\"'\u201c\u201d]*"
_OPENER = (
    r"^[ \t>#*_`~\-]*(?:(?:my|the|final|overall)[ \t]+){0,3}"
    r"(?:conclusion|verdict|judge?ment|(?P<part>grade|rating|score))"
    rf"{_DECO}(?:(?:[:\uff1a=]|is\b){_DECO})?(?:(?:\r?\n){{1,2}}[ \t*_`]*)?"
)
_ANOTHER = re.compile(rf"{_DECO}(?:or\b|/|\|)", _FLAGS)
_WHOLE = re.compile(r"\b(?:final|overall)\b", _FLAGS)
_NOTHING = re.compile(r"[\s*_`\"'.\u201c\u201d!]*\Z")
_END = re.compile(r"[\s*_`\"'.]*(?:[\[(]END[\])])?")


class VerdictForms:
    """Says of a setting which mappings `read_verdicts` takes, for the schema that editors check a recipe with."""

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        word = {"type": ["string", "integer"]}
        pair = {"right": word, "wrong": word}
        grades = {"grades": {"type": "array", "items": word, "minItems": 2}, "right_from": word}
        return {
            "anyOf": [
                {"type": "object", "maxProperties": 0},
                *(
                    {"type": "object", "properties": form, "required": list(form), "additionalProperties": False}
                    for form in (pair, grades)
                ),
            ]
        }


@dataclass(frozen=True)
class Verdicts:
    """What a critique may conclude with.

    Attributes:
        words: From the worst to the best, as they are written after "Conclusion: ".
        right_from: The first of them with which a response counts as right.

    Raises:
        CFTError: A word that could not be read back from a critique, two alike, or none on one of the two sides.

    Example:
        >>> verdicts = Verdicts(("reject", "accept"), "accept")
        >>> verdicts.stated("Fine.\\n\\nConclusion: accept [END]")
        StatedVerdict(verdict='right', start=19, end=25)
        >>> Verdicts(("1", "2", "3", "4", "5"), "4").said("**Grade:** 3/5")
        '3'
    """

    words: tuple[str, ...]
    right_from: str

    def __post_init__(self) -> None:
        for word in self.words:
            if not _WORD.fullmatch(word) or control_token(word):
                raise CFTError(
                    f"verdicts: {word!r} could not be read back from a critique; give words of letters, digits, "
                    "spaces and .+/- , at most 40 characters"
                )
            if sum(_alike(word, other) or _alike(other, word) for other in self.words) > 1:
                raise CFTError(f"verdicts: {word!r} is there twice; each word says one thing")
        if self.right_from not in self.words[1:]:
            raise CFTError(
                f"verdicts: right_from={self.right_from!r} is none of {', '.join(self.words[1:]) or 'no words'}; "
                "give the first grade with which a response counts as right, and at least one below it"
            )
        for word in self.words:
            if self.said(self.line(word)) != word:
                raise CFTError(f"verdicts: {self.line(word)!r} would be read as {self.said(self.line(word))!r}")

    @property
    def graded(self) -> bool:
        """Whether they are grades: more than a word for right and one for wrong."""
        return len(self.words) > 2

    @property
    def of_right(self) -> tuple[str, ...]:
        """The words of which a response counts as right."""
        return self.words[self.words.index(self.right_from) :]

    @property
    def told(self) -> str:
        """What the words mean, as the end of a sentence about critiques.

        Example:
            >>> Verdicts(("reject", "accept"), "accept").told
            'accept (right) or reject (wrong)'
            >>> Verdicts(("1", "2", "3", "4", "5"), "4").told
            '1, 2, 3, 4 or 5 (from 4 on: right)'
        """
        if not self.graded:
            wrong, right = self.words
            return f"{right} (right) or {wrong} (wrong)"
        *others, best = self.words
        return f"{', '.join(others)} or {best} (from {self.right_from} on: right)"

    def meaning(self, word: str) -> Verdict:
        """What one of the words makes of a response."""
        return "right" if word in self.of_right else "wrong"

    def line(self, word: str) -> str:
        """The last line of a critique that concludes with the word."""
        return VERDICT_LINE.format(verdict=word)

    @property
    def ending(self) -> str:
        """What a prompt says of how a critique has to end."""
        if not self.graded:
            wrong, right = self.words
            return (
                f'Finish with a line that is exactly "{self.line(right)}" if the solution is right, or exactly '
                f'"{self.line(wrong)}" if it is not. Write nothing after that line.'
            )
        return (
            f'Finish with a line that is exactly "{self.line("GRADE")}", where GRADE is one of these, from the worst '
            f"to the best: {', '.join(self.words)}. Write nothing after that line."
        )

    def said(self, text: str | None) -> str | None:
        """The word that a critique concludes with, as it is in `words`; None where it concludes with none."""
        found = self._last(text or "")
        return found and found[0]

    def stated(self, text: str | None) -> StatedVerdict | None:
        """The verdict of a critique and where its word stands; as `cft_trl.data.verdict.stated_verdict`."""
        found = self._last(text or "")
        return StatedVerdict(self.meaning(found[0]), *found[1:]) if found else None

    def contradiction(self, text: str) -> str | None:
        """How a critique contradicts itself; as `cft_trl.data.verdict.contradiction`.

        Example:
            >>> Verdicts(("reject", "accept"), "accept").contradiction("Conclusion: accept\\n\\nConclusion: reject")
            'concludes accept and reject'
            >>> Verdicts(("1", "2", "3", "4"), "3").contradiction("Score: 4\\n\\nScore: 2\\n\\nConclusion: 3") is None
            True
        """
        said = list(self._said(text))
        words = list(dict.fromkeys(word for word, _, _ in said if word))
        if len(words) > 1:
            return f"concludes {words[0]} and {words[1]}"
        if said and self._is_taken_back(text, said[-1][2]):
            return "takes its conclusion back"
        return None

    def cut(self, text: str) -> str:
        """A text up to the end of its last conclusion; whole where it has none, or one that is taken back."""
        found = self._last(text)
        if found is None:
            return text
        end = _END.match(text, found[2])
        line_end = text.find("\n", found[2])
        assert end is not None  # each of its parts may be absent, so it always matches
        stop = max(end.end(), found[2]) if "END" in end[0] else line_end if line_end >= 0 else len(text)
        return text[:stop].rstrip()

    def word_for(self, written: str) -> str | None:
        """The one of the words that a text is, in whatever case; None where it is none of them.

        Example:
            >>> Verdicts(("reject", "accept"), "accept").word_for("ACCEPT")
            'accept'
        """
        return next((word for word in self.words if _alike(word, written)), None)

    def _last(self, text: str) -> tuple[str, int, int] | None:
        *_, last = (None, *self._said(text))
        if last is None or last[0] is None or self._is_taken_back(text, last[2]):
            return None
        return last[0], last[1], last[2]

    def _is_taken_back(self, text: str, end: int) -> bool:
        after = _END.match(text, end)
        assert after is not None
        return taken_back(text[after.end() : after.end() + 80])

    @staticmethod
    def _concludes(told: str, match: re.Match[str]) -> bool:
        """Whether a grade, rating or score is that of the response, and not of one wish among several."""
        end = _END.match(told, match.end("of") if match["of"] else match.end("word"))
        assert end is not None
        if "END" in end[0] or _WHOLE.search(match[0][: match.start("part") - match.start()]):
            return True
        return bool(_NOTHING.match(told, end.end()))

    def _said(self, text: str) -> Iterator[tuple[str | None, int, int]]:
        """The words concluded with, in their order, and where they stand; None where two are offered."""
        start, end = spoken(text)
        told = text[start:end]  # a line begins where the thinking ends
        for match in _pattern(self.words).finditer(told):
            if not re.search(r"[:\uff1a=\n]|\bis\b", told[match.start() : match.start("word")], _FLAGS):
                continue
            if match["part"] and not self._concludes(told, match):
                continue
            offered = _ANOTHER.match(told, match.end("word")) and not match["of"]
            word = None if offered else self.word_for(match["word"])
            yield word, start + match.start("word"), start + match.end("word")


def _alike(word: str, written: str) -> bool:
    """Whether a text is the word in another case, as the pattern below finds it; `casefold` knows other pairs."""
    return bool(re.fullmatch(re.escape(word), written, _FLAGS)) or word.casefold() == written.casefold()


@lru_cache(maxsize=64)
def _pattern(words: tuple[str, ...]) -> re.Pattern[str]:
    said = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    # "3/5" and "3 out of 5" are the grade 3; "3.5" is none, and "3 tests fail" is no conclusion.
    best = re.escape(words[-1])
    after = (
        rf"(?P<of>[ \t]*(?:/|out[ \t]+of)[ \t]*{best}(?!\w))?(?={_DECO}(?:[.!]?{_DECO}(?:[\[(\\]|[\r\n]|\Z|or\b|/|\|)))"
    )
    return re.compile(rf"{_OPENER}(?<!\w)(?P<word>{said})(?![\w]|[.,]\d){after}", _FLAGS | re.MULTILINE)


def read_verdicts(content: Any, where: str = "verdicts") -> Verdicts | None:
    """Verdict words from what a settings file says; None where they are the package's own, right and wrong.

    Args:
        content: `{right: accept, wrong: reject}`, or `{grades: [1, 2, 3, 4, 5], right_from: 4}`, worst grade first;
            None or nothing for right and wrong.
        where: What errors begin with.

    Raises:
        CFTError: Another form, or words that `Verdicts` refuses.

    Example:
        >>> read_verdicts({"right": "accept", "wrong": "reject"})
        Verdicts(words=('reject', 'accept'), right_from='accept')
        >>> read_verdicts({"right": "right", "wrong": "wrong"}) is None
        True
    """
    if not content:
        return None
    if not isinstance(content, Mapping):
        raise CFTError(f"{where}={content!r}: give {FORMS}")
    keys, pair = set(content), {"right", "wrong"}
    values = list(content.values())
    if keys == pair and all(isinstance(value, str | int) and not isinstance(value, bool) for value in values):
        words = (str(content["wrong"]).strip(), str(content["right"]).strip())
        return None if words == ("wrong", "right") else Verdicts(words, words[1])
    grades = content.get("grades")
    if keys == {"grades", "right_from"} and isinstance(grades, list | tuple) and len(grades) > 1:
        return Verdicts(tuple(str(grade).strip() for grade in grades), str(content["right_from"]).strip())
    raise CFTError(f"{where}={dict(content)}: give {FORMS}")


def read_mapping(text: str, where: str, forms: str = FORMS) -> dict[str, Any]:
    """A flag's text as the mapping it is, in YAML or JSON; right and wrong stay texts, whatever they are.

    Args:
        text: As it was given.
        where: What errors begin with.
        forms: What would be right.

    Raises:
        CFTError: It is no mapping.

    Example:
        >>> read_mapping("{right: yes, wrong: no}", "verdicts")
        {'right': 'yes', 'wrong': 'no'}
    """
    import yaml

    try:
        found = yaml.load(text, yaml.BaseLoader)
    except yaml.YAMLError:
        found = None
    if not isinstance(found, dict):
        raise CFTError(f"{where}={text!r}: give {forms}")
    return found


def plain_verdicts(verdicts: Verdicts | None) -> dict[str, Any] | None:
    """Verdict words as `read_verdicts` reads them back.

    Example:
        >>> plain_verdicts(Verdicts(("1", "2", "3"), "2"))
        {'grades': ['1', '2', '3'], 'right_from': '2'}
    """
    if verdicts is None:
        return None
    if not verdicts.graded:
        return {"right": verdicts.words[1], "wrong": verdicts.words[0]}
    return {"grades": list(verdicts.words), "right_from": verdicts.right_from}


def flow_verdicts(verdicts: Verdicts) -> str:
    """Verdict words as a flag has them, `--verdicts '{right: accept, wrong: reject}'`; `read_mapping` reads it back.

    Example:
        >>> flow_verdicts(Verdicts(("1", "2", "3"), "2"))
        '{grades: [1, 2, 3], right_from: 2}'
    """
    plain = plain_verdicts(verdicts) or {}
    parts = [f"{name}: [{', '.join(value)}]" if isinstance(value, list) else f"{name}: {value}"
             for name, value in plain.items()]  # fmt: skip
    return f"{{{', '.join(parts)}}}"
