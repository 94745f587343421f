"""A row as token ids with the spans that have loss and state the verdict, and many of them as columns.

    Encoded(array('i', [1, 4093, ..., 2, 198]), start=211, end=287, verdict=range(281, 282), verdict_class=WRONG)

`arrow_columns` makes the masks from the spans at once, without a Python number per position and column; `Dataset.map`
writes them as they are. `list_columns` gives the same as Python lists, for a collator or a stream.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Features, List, Value

# Values of `verdict_mask`: the verdict word's first token by class, and the word's further tokens.
NO_VERDICT, RIGHT, WRONG, VERDICT_CONTINUES = 0, 1, 2, 3
# In a mixture (`mixture.py`) so many times the part's number is added to it wherever there is loss: packing and sharing
# carry the one column along, and each token's loss can be counted for its part.
PART = 4
MOST_PARTS = 32  # that 8 bits can tell apart

TOKEN_FEATURES = Features(
    {"input_ids": List(Value("int32")), "labels": List(Value("int32")), "verdict_mask": List(Value("int8"))}
)
# What the account of the rows is made from (`lengths.PreparationReport`).
ACCOUNT_FEATURES = Features(
    {
        "status": Value("string"),
        "verdict": Value("string"),
        "length": Value("int32"),
        "target_tokens": Value("int32"),
        "disagrees": Value("bool"),
        "end": Value("int32"),
        "altered": Value("string"),
    }
)
FEATURES = Features({**TOKEN_FEATURES, **ACCOUNT_FEATURES})


@dataclass(slots=True)
class Encoded:
    """Token ids of one row, with `start:end` the span that has loss and `verdict` the verdict word's tokens.

    `trimmed`: the chat template took white space off the target's ends.
    """

    input_ids: array[int]
    start: int
    end: int
    verdict: range
    verdict_class: int
    trimmed: bool = False


def arrow_columns(rows: Sequence[Encoded | None], part: int = 0) -> dict[str, Any]:
    """`input_ids`, `labels` and `verdict_mask`, one list per row, empty for None; of the types in `TOKEN_FEATURES`.

    `part` is the number of the mixture's part that the rows are of.
    """
    import numpy as np
    import pyarrow as pa

    offsets = np.zeros(len(rows) + 1, np.int32)
    np.cumsum([len(row.input_ids) if row else 0 for row in rows], out=offsets[1:])
    count = int(offsets[-1])
    ids = np.frombuffer(b"".join(row.input_ids for row in rows if row), np.int32)
    labels, mask = np.full(count, -100, np.int32), np.zeros(count, np.int8)
    for row, offset in zip(rows, offsets.tolist(), strict=False):
        if row is None:
            continue
        span = slice(offset + row.start, offset + row.end)
        labels[span] = ids[span]
        mask[span] = PART * part
        if row.verdict:
            first = offset + row.verdict.start
            mask[first : offset + row.verdict.stop] = PART * part + VERDICT_CONTINUES
            mask[first] = PART * part + row.verdict_class
    values = {"input_ids": ids, "labels": labels, "verdict_mask": mask}
    return {name: pa.ListArray.from_arrays(pa.array(offsets), pa.array(value)) for name, value in values.items()}


def list_columns(rows: Sequence[Encoded | None], part: int = 0) -> dict[str, list[list[int]]]:
    """What `arrow_columns` holds, as lists of integers."""
    return {name: column.to_pylist() for name, column in arrow_columns(rows, part).items()}


def arrow_table(columns: dict[str, Any]) -> Any:
    """The columns of rows as a `pyarrow.Table` of the types in `FEATURES`."""
    import pyarrow as pa

    return pa.table(columns, FEATURES.arrow_schema)
