"""Rows on their way into a training run: each is read once, and its verdict parsed once, whoever asks for it later.

    {"id": "5c0e0d1c5e9f3b1a", "query": …, "critique": "6 x 7 is 42, not 43.\\n\\nConclusion: wrong [END]", …,
     "_stated": {"verdict": "wrong", "start": 34, "end": 39, "crc": 73802545}}

is a record with one column more, which says what its critique concludes and where: `critique[34:39]` is "wrong". The
verdict and its place are null where a critique states nothing, the column where there is no critique. `crc` is the
CRC-32 of the critique's text: where a user's `map` has written another one, it is read and parsed anew. Other rows that
have the column are not read again; it is never published.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from cft_trl.data.records import COLUMNS, Record, features, to_record
from cft_trl.data.verdict import stated_verdict
from cft_trl.data.verdict_grammar import StatedVerdict

if TYPE_CHECKING:
    import datasets

STATED = "_stated"
_READ = {*COLUMNS, STATED}


def read_features() -> datasets.Features:
    """The `datasets.Features` of such rows: those of records, and the column more."""
    from datasets import Features, Value

    place = {"verdict": Value("string"), "start": Value("int32"), "end": Value("int32"), "crc": Value("int64")}
    return Features({**features(), STATED: place})


def is_read(columns: Iterable[str]) -> bool:
    """Whether rows with these columns have been read already."""
    return set(columns) == _READ


def mark_read(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record as a row that needs no second reading.

    Example:
        >>> from cft_trl.data.records import make_record
        >>> mark_read(make_record(query="6 x 7?", response="43", critique="No, 42.\\n\\nConclusion: wrong"))["_stated"]
        {'verdict': 'wrong', 'start': 21, 'end': 26, 'crc': 2934161160}
    """
    critique = record["critique"]
    if critique is None:
        return {**record, STATED: None}
    stated = stated_verdict(critique)
    place = stated._asdict() if stated else dict.fromkeys(StatedVerdict._fields)
    return {**record, STATED: {**place, "crc": _crc(critique)}}


def read_row(row: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """A row of any known layout, or one that has been read, as a row that has been read.

    One that was read and then given another critique, or an empty query or response, is read anew.

    Args:
        row: The row's columns.
        where: How errors name the row.

    Raises:
        CFTError: As `cft_trl.data.records.to_record`.
    """
    if not isinstance(row, Mapping) or not is_read(row):
        return mark_read(to_record(row, where))
    if _fits(row) and all(isinstance(row[name], str) and row[name].strip() for name in ("query", "response")):
        return row
    return mark_read(to_record({name: row[name] for name in COLUMNS}, where))


def record_of(row: Mapping[str, Any]) -> Record:
    """The record in a row that has been read."""
    return Record(**{column: row[column] for column in COLUMNS})  # type: ignore[typeddict-item]  # all of them


def stated_in(row: Mapping[str, Any]) -> StatedVerdict | None:
    """What a row's critique states: as it was read, or parsed now where the row, or its critique, was made since."""
    if STATED not in row or not _fits(row):
        return stated_verdict(row.get("critique"))
    stated = row[STATED]
    return StatedVerdict(*(stated[name] for name in StatedVerdict._fields)) if stated and stated["verdict"] else None


def concluded(record: Mapping[str, Any]) -> StatedVerdict | None:
    r"""What a record's critique concludes and where, in the words that it was built with (`meta["said"]`), if any.

    Example:
        >>> concluded({"critique": "Fine.\n\nConclusion: accept [END]", "verdict": "right", "meta": {"said": "accept"}})
        StatedVerdict(verdict='right', start=19, end=25)
    """
    critique, said = record.get("critique") or "", (record.get("meta") or {}).get("said")
    if not isinstance(said, str) or record.get("verdict") is None:
        return stated_verdict(critique)
    found = list(re.finditer(rf"(?<!\w){re.escape(said)}(?!\w)", critique, re.IGNORECASE))
    return StatedVerdict(record["verdict"], *found[-1].span()) if found else None


def _fits(row: Mapping[str, Any]) -> bool:
    """Whether a row's mark is of the critique that it has now."""
    critique = row.get("critique") or ""
    return isinstance(critique, str) and ((row[STATED] or {}).get("crc") or 0) == _crc(critique)


def _crc(text: str) -> int:
    return zlib.crc32(text.encode("utf-8", "surrogatepass"))
