r"""Texts to grade by a rubric: short notes, each with four wishes that a program can check. The grade counts them.

    query     "Write a short note about a rainy market. It has to meet four wishes: exactly 3 sentences; …"
    response  "The market opens at eight. Rain falls on the stalls. …"
    verdict   "wrong"
    meta      {"grade": "3", "checks": [{"of": "exactly 3 sentences", "found": "it has 4", "holds": false}, …]}

Grades go from 1 (no wish is met) to 5 (all are), and from 4 on a note counts as right: a recipe's
`verdicts: {grades: [1, 2, 3, 4, 5], right_from: 4}` means the same. Splits have no question in common.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from cft_trl.data.records import Record, make_record
from cft_trl.errors import CFTError

SPLITS = ("validation", "test", "train")
GRADES = ("1", "2", "3", "4", "5")
RIGHT_FROM = "4"
_SHARES = 10
_WISHES = 4
_TRIES = 200

# topic -> what may be said of it, and words that may be asked for
_TOPICS = {
    "a rainy market": (
        ["The market opens at eight", "Rain falls on the stalls", "A baker sells warm bread",
         "People share an umbrella", "Two children jump in puddles", "The fish seller laughs loudly",
         "By noon the square is empty"],
        ["umbrella", "bread", "square"],
    ),
    "a lost key": (
        ["The key was gone again", "She searched every pocket", "Her neighbour offered tea", "A dog slept on the mat",
         "The lock is old and stiff", "Under the mat something shone", "At last the door opened"],
        ["tea", "mat", "pocket"],
    ),
    "a night train": (
        ["The train leaves at midnight", "A guard checks the tickets", "Snow lies along the tracks",
         "Someone reads by a small lamp", "The windows turn blue at dawn", "Coffee costs two coins",
         "The last station is by the sea"],
        ["lamp", "snow", "coffee"],
    ),
    "a school garden": (
        ["The class plants beans", "Bees visit the yellow flowers", "A fence keeps the goats out",
         "Water comes from a green barrel", "The teacher counts the rows", "Carrots grow slowly",
         "In June they will eat the first peas"],
        ["bees", "barrel", "carrots"],
    ),
}  # fmt: skip
_QUESTIONS = ("Would you stay", "Who would not smile at that", "What happens next")
_OPENINGS = ("Today", "Once", "Outside")


class _Wish(NamedTuple):
    """Something asked of a note: how it is said, and (whether it is met, what is found) of a text."""

    said: str
    check: Callable[[str], tuple[bool, str]]


def rubric_records(count: int, *, seed: int = 0, split: str = "train") -> Iterator[Record]:
    """Rows to grade, without critiques; every grade is drawn as often as the others.

    Args:
        count: How many.
        seed: Draws others.
        split: "train", "validation" or "test".

    Raises:
        CFTError: An unknown split.
    """
    if split not in SPLITS:
        raise CFTError(f"source.split={split}: corpus rubric has train, validation and test")
    rng = random.Random(f"rubric|{seed}|{split}")
    seen: set[tuple[str, str]] = set()
    grade = rng.choice(GRADES)
    while len(seen) < count:
        record = _row(rng, split, grade)
        if record is not None and (record["query"], record["response"]) not in seen:
            seen.add((record["query"], record["response"]))
            grade = rng.choice(GRADES)
            yield record


def _row(rng: random.Random, split: str, grade: str) -> Record | None:
    topic = rng.choice(list(_TOPICS))
    sentences, words = _TOPICS[topic]
    wishes = _wishes(rng, words)
    query = f"Write a short note about {topic}. It has to meet four wishes: {'; '.join(wish.said for wish in wishes)}."
    share = int(hashlib.sha256(query.encode()).hexdigest()[:8], 16) % _SHARES
    if SPLITS[min(share, 2)] != split:
        return None
    for _ in range(_TRIES):
        note = _note(rng, sentences)
        checks = [
            {"of": wish.said, "found": found, "holds": holds} for wish in wishes for holds, found in [wish.check(note)]
        ]
        if GRADES[sum(bool(check["holds"]) for check in checks)] == grade:
            return _record(query, note, checks, grade)
    return None


def _record(query: str, note: str, checks: list[dict[str, Any]], grade: str) -> Record:
    return make_record(
        query=query,
        response=note,
        verdict="right" if GRADES.index(grade) >= GRADES.index(RIGHT_FROM) else "wrong",
        response_source=f"rubric:{grade}",
        source="rubric",
        meta={"grade": grade, "checks": checks},
    )


def _note(rng: random.Random, sentences: list[str]) -> str:
    chosen = rng.sample(sentences, rng.randint(2, 5))
    if rng.random() < 0.4:
        chosen[0] = f"{rng.choice(_OPENINGS)} {chosen[0][0].lower()}{chosen[0][1:]}"
    if rng.random() < 0.4:
        at = rng.randrange(len(chosen))
        chosen[at] = f"{chosen[at]}, and it is quiet"
    if rng.random() < 0.3:
        chosen[-1] = f"{chosen[-1]} {rng.randint(2, 40)} times"
    text = ". ".join(chosen) + "."
    return f"{text} {rng.choice(_QUESTIONS)}?" if rng.random() < 0.4 else text


def _wishes(rng: random.Random, words: list[str]) -> list[_Wish]:
    number, most, word, opening = rng.randint(2, 4), rng.choice((16, 20, 24)), rng.choice(words), rng.choice(_OPENINGS)
    forbidden = rng.choice([other for other in words if other != word])
    made = [
        _Wish(f"exactly {number} sentences", lambda text: _counted(len(re.findall(r"[.?!]", text)), number)),
        _Wish(f"at most {most} words", lambda text: _at_most(len(text.split()), most)),
        _Wish(f'with the word "{word}"', lambda text: _said(word in _words(text), word, True)),
        _Wish(f'without the word "{forbidden}"', lambda text: _said(forbidden in _words(text), forbidden, False)),
        _Wish("without a comma", lambda text: ("," not in text, "it has one" if "," in text else "it has none")),
        _Wish("ending in a question", lambda text: (text.endswith("?"), f'it ends in "{text[-1]}"')),
        _Wish(f'beginning with "{opening}"', lambda text: _begins(text.split()[0], opening)),
        _Wish("with a number in digits", lambda text: _digits(re.findall(r"\d+", text))),
    ]
    return rng.sample(made, _WISHES)


def _words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", text.lower()))


def _counted(found: int, wanted: int) -> tuple[bool, str]:
    return found == wanted, f"it has {found}"


def _at_most(found: int, most: int) -> tuple[bool, str]:
    return found <= most, f"it has {found}"


def _said(there: bool, word: str, wanted: bool) -> tuple[bool, str]:
    return there == wanted, f'"{word}" is {"there" if there else "not there"}'


def _begins(found: str, wanted: str) -> tuple[bool, str]:
    return found == wanted, f'it begins with "{found}"'


def _digits(found: list[str]) -> tuple[bool, str]:
    return bool(found), f"it has {found[0]}" if found else "it has none"
