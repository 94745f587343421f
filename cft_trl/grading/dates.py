"""Dates: "March 5", "5 March" and "Saturday, March 5th" are one day; "3/5" may be two."""

from __future__ import annotations

import re
from typing import NamedTuple

_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_MONTH = (
    r"(?P<month>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?"
    r"|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.?"
)
_DAY = r"(?P<day>[12]\d|3[01]|0?[1-9])(?:st|nd|rd|th)?"
_YEAR = r"(?:\s*,?\s+(?P<year>\d{4}))?"
_WEEKDAY = r"(?:(?P<weekday>mon|tues?|wed(?:nes)?|thu(?:rs)?|fri|sat(?:ur)?|sun)(?:day)?\.?,?\s+)?"
_FORMS = [
    re.compile(rf"{_WEEKDAY}{_MONTH}\s*(?:the\s+)?{_DAY}{_YEAR}", re.IGNORECASE),
    re.compile(rf"{_WEEKDAY}(?:the\s+)?{_DAY}\s+(?:of\s+)?{_MONTH}{_YEAR}", re.IGNORECASE),
]
_ISO = re.compile(r"(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)")


class Date(NamedTuple):
    """Month and day, and the year and day of the week where they are named."""

    month: int
    day: int
    year: int | None
    weekday: str | None


def same_date(p: str, g: str) -> bool | None:
    """Whether two answers name one day; `None` where one of them is no date.

    What the reference says has to be there; the answer may say more.

    Example:
        >>> same_date("5 March 2020", "March 5"), same_date("March 5", "March 5, 2020"), same_date("March 5", "5")
        (True, False, None)
    """
    one, other = _date(p), _date(g)
    if one is None or other is None:
        return None
    missing = (other.year and one.year is None) or (other.weekday and one.weekday is None)
    years = one.year is None or other.year is None or one.year == other.year
    days = one.weekday is None or other.weekday is None or one.weekday == other.weekday
    return (one.month, one.day) == (other.month, other.day) and not missing and years and days


def _date(answer: str) -> Date | None:
    text = re.sub(r"\\text\{([^{}]*)\}", r"\1", answer).strip()
    text = re.sub(r"\s+", " ", re.sub(r"\^\s*\{?\s*(st|nd|rd|th)\s*\}?", r"\1", text)).rstrip(".")
    match = next((found for form in _FORMS if (found := form.fullmatch(text))), None)
    if match is None:
        iso = _ISO.fullmatch(text)
        if iso and int(iso["month"]) in range(1, 13) and int(iso["day"]) in range(1, 32):
            return Date(int(iso["month"]), int(iso["day"]), int(iso["year"]), None)
        return None
    month = _MONTHS.index(match["month"][:3].lower()) + 1
    year, weekday = match["year"], match["weekday"]
    return Date(month, int(match["day"]), int(year) if year else None, weekday[:3].lower() if weekday else None)
