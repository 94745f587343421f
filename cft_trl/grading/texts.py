r"""Answers in words: options, "no solution", times of day, sentences with one number, and texts."""

from __future__ import annotations

import re
from collections.abc import Callable

from cft_trl.grading.measures import text_number, words_of
from cft_trl.grading.structure import split_top, text_key

Equal = Callable[[str, str], bool]

_CHOICE = re.compile(r"(?:\\text\{\s*)?(\(\s*)?([A-Za-z])\s*(\))?\s*\}?")
# "(B) the second", "B. 12" and "Option B" name the option B; what follows the label is what it says.
_NAMED_OPTION = re.compile(r"(?:\\text\{\s*)?(?:option|choice|answer)[\s_]+\(?([A-J])\)?\s*\}?", re.IGNORECASE)
_LABELLED = re.compile(
    r"(?:\\text\{\s*)?(?:\(([A-Ja-j])\)|([A-J])[).:])\s*(?P<shut>\})?[\s:.]*(?P<content>\S.*)", re.DOTALL
)
_LETTERS = re.compile(r"[A-Za-z][A-Za-z' ,.-]*")
_TIME = re.compile(r"(\d{1,2})(?::(\d\d))?\s*([ap])\.?\s?m\.?", re.IGNORECASE)
_CLOCK = re.compile(r"(\d{1,2}):(\d\d)")

_SAME = (
    "none nosolution nosolutions norealsolution norealsolutions norealroots nointegersolution nointegersolutions "
    "emptyset theemptyset thereisnosolution therearenosolutions thereisnorealsolution therearenorealsolutions "
    "thereisnosuchnumber nosuchnumber nosuchnumberexists nosuchvalue nosolutionexists solutiondoesnotexist null",
    "dne doesnotexist doesntexist limitdoesnotexist thelimitdoesnotexist thelimitdne limitdne itdoesnotexist",
    "undefined notdefined isundefined itisundefined",
    "infinitelymany infinitelymanysolutions infinite infinitesolutions infinitenumberofsolutions",
    "yes yesitis", "no noitisnot noitsnot", "true istrue", "false isfalse",
)  # fmt: skip
_MEANING = {word: number for number, words in enumerate(_SAME) for word in words.split()}


def same_option(p: str, g: str, equal: Equal) -> bool | None:
    """Option letters and labelled options; `None` when neither answer is one.

    Args:
        p, g: The two answers, in LaTeX.
        equal: The comparison of the whole table, for their parts.
    """
    if re.fullmatch("[A-J]", g) and (named := _NAMED_OPTION.fullmatch(p)):
        return named[1].upper() == g
    one, other = _CHOICE.fullmatch(p), _CHOICE.fullmatch(g)
    if one and other:
        # "(a)" and "A" are an option, whatever the case; the variables m and M are two.
        marked = any(match[1] or match[0].startswith("\\") for match in (one, other))
        return one[2].casefold() == other[2].casefold() if marked else one[2] == other[2]
    first, second = _labelled(p), _labelled(g)
    if first and second:
        return first[0] == second[0] and equal(first[1], second[1])
    if first and other:
        return first[0] == other[2].upper()
    if second and one:
        return second[0] == one[2].upper()
    if first:
        return equal(first[1], g)
    return equal(p, second[1]) if second else None


def _labelled(answer: str) -> tuple[str, str] | None:
    match = _LABELLED.fullmatch(answer)
    if not match:
        return None
    content = match["content"].strip()
    if answer.startswith("\\text") and not match["shut"]:
        content = "\\text{" + content
        if content.count("{") != content.count("}"):
            return None
    return ((match[1] or match[2]).upper(), content)


def same_meaning(p: str, g: str) -> bool | None:
    """What has one meaning in several words: "DNE", "no solution" and the empty set."""
    meanings = [_MEANING.get(text_key(answer).rstrip(".").replace(r"\\", "")) for answer in (p, g)]
    if meanings == [None, None]:
        return None
    return meanings[0] == meanings[1] or text_key(p) == text_key(g)


def same_time(p: str, g: str) -> bool | None:
    """Times of day: "9 a.m.", "3:05 PM" and "15:05"."""
    one, other = (re.sub(r"\\text\{([^{}]*)\}", r"\1", answer).strip() for answer in (p, g))
    named = [_TIME.fullmatch(answer) for answer in (one, other)]
    if not any(named):
        return None
    found = [_minutes(answer, match) for answer, match in zip((one, other), named, strict=True)]
    if None in found:
        # 9 a.m. beside a bare 9: the half of the day is left out, as a unit may be.
        bare, match = (other, named[0]) if named[0] else (one, named[1])
        return match is not None and not match[2] and bare == match[1]
    return found[0] == found[1]


def _minutes(answer: str, match: re.Match[str] | None) -> int | None:
    if match:
        return (int(match[1]) % 12 + 12 * (match[3].lower() == "p")) * 60 + int(match[2] or 0)
    # On a 24-hour clock only what no 12-hour clock shows is sure.
    clock = _CLOCK.fullmatch(answer)
    return int(clock[1]) * 60 + int(clock[2]) if clock and (int(clock[1]) > 12 or clock[1] in ("0", "00")) else None


def same_text(p: str, g: str, equal: Equal) -> bool | None:
    """Words; `None` when neither answer is a text.

    Args:
        p, g: The two answers, in LaTeX.
        equal: The comparison of the whole table, for their parts.
    """
    texts = [is_text(answer) for answer in (p, g)]
    if not any(texts):
        return None
    if text_key(p) == text_key(g) != "":
        return True
    # A list of texts, "A, C" beside "\text{C, A}", is still to be split.
    opened = [_opened(answer) for answer in (p, g)]
    lists = [split_top(re.sub(r",?\s+and\s+", ", ", answer)) for answer in opened]
    if all(len(items) > 1 for items in lists):
        return _match_texts(lists[0], lists[1], equal)
    first, second = (text_number(answer) if text else answer for answer, text in zip(opened, texts, strict=True))
    if first is not None and second is not None and re.search(r"\d", first + second):
        return equal(first, second)
    if all(texts):
        one, other = (words_of(answer) for answer in opened)
        return bool(one) and one == other and "'" not in p + g and len(opened[0].split()) == len(opened[1].split()) == 1
    return False


def _match_texts(one: list[str], other: list[str], equal: Equal) -> bool:
    left = list(other)
    for item in one:
        match = next(
            (at for at, each in enumerate(left) if text_key(each) == text_key(item) or equal(item, each)), None
        )
        if match is None:
            return False
        left.pop(match)
    return not left


def _opened(answer: str) -> str:
    return re.sub(r"\\text\{([^{}]*)\}", r"\1", answer.replace(r"\land", "and").replace(r"\lor", "or")).strip()


def is_text(answer: str) -> bool:
    """Whether an answer is words and no formula."""
    if re.fullmatch(r"\\text\{[^{}]*[A-Za-z][^{}]*\}", answer):
        return not re.fullmatch(r"\\text\{\s*[A-Za-z]\s*\}", answer)
    opened = _opened(answer)
    words = re.findall(r"[A-Za-z]+", opened)
    # Names and arrangements ("ACB") are words too; in a product the order would not matter.
    wordy = any(len(word) > 3 or (len(word) == 3 and word.isupper()) for word in words)
    if _LETTERS.fullmatch(opened) and wordy and "\\" not in opened:
        return opened != "infty"
    # A sentence that holds a number: "Sally has 9 books".
    return bool(re.fullmatch(r"[A-Za-z][A-Za-z' ,.$\d-]*", opened)) and sum(len(word) > 2 for word in words) > 2
