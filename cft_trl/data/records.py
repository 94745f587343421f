r"""The row that flows through every room of the house, and the published layouts it is read from and written to.

A row (a *record*) has eleven columns; only `query` and `response` always hold text:

    {"id": "5c0e0d1c5e9f3b1a", "query": "What is 6 x 7?", "response": "6 x 7 = 43",
     "critique": "6 x 7 is 42, not 43.\n\nConclusion: wrong [END]", "verdict": "wrong", "refinement": None,
     "reference_answer": "42", "response_source": None, "teacher": "gpt-4o", "source": None, "meta": {"level": 1}}

`to_records` reads it from any of these layouts, told apart by their columns:

    WebInstruct-CFT    instruction, input = "Question:\n{x}\n\nSolution:\n{y}\n", output = "Critique:\n{c}"
    CGD                the same columns, "Question: {x}\n\nStudent's Initial Answer: {y}\n\nCritique: {c}" and "{z}"
    prompt/completion  the same texts, as strings or as message lists (TRL)
    messages           the same texts, as [user, assistant] (One-Shot-CFT-Data)
    ShareGPT           conversations = [human, gpt]: a question with its answer, or the same texts as messages
    Alpaca             instruction, input, output: a question with its answer (no "Solution:" line, no critique)
    plain              query, response and any of the other columns; columns of no known name are kept in `meta`

`to_webinstruct_cft` and `to_messages` write the first and the fourth. A record whose published form would be read
back differently (a query that itself holds "\n\nSolution:\n") is refused, never published wrong: every reader of the
published layout splits at the first such line, so no extra column of ours could save the others from misreading it.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, cast

from cft_trl.data.digests import code_digest
from cft_trl.data.layouts import (
    CFT_INSTRUCTION,
    LAYOUTS,
    READERS,
    cft_completion,
    cft_input,
    cft_user_turn,
    find_layout,
    split_input,
)
from cft_trl.data.verdict import Verdict, parse_verdict, to_verdict
from cft_trl.errors import CFTError

if TYPE_CHECKING:
    import datasets


class Record(TypedDict):
    """One row; every column is there, those that hold nothing with `None`."""

    id: str
    query: str
    response: str
    critique: str | None
    verdict: Verdict | None
    refinement: str | None
    reference_answer: str | None
    response_source: str | None
    teacher: str | None
    source: str | None
    meta: dict[str, Any] | None


COLUMNS = tuple(Record.__annotations__)

# "\ud83d" alone, as a cut-off JSON escape leaves it.
_SURROGATE = re.compile("[\ud800-\udfff]")


def features() -> datasets.Features:
    """The records' `datasets.Features`: strings, and `meta` as `datasets.Json`, which keeps ragged dicts and nulls."""
    from datasets import Features, Json, Value

    return Features({column: Json() if column == "meta" else Value("string") for column in COLUMNS})


def layout_features(layout: str) -> datasets.Features:
    """The columns of "records" or of a published layout: "webinstruct_cft", "messages"."""
    from datasets import Features, List, Value

    if layout == "records":
        return features()
    if layout == "messages":
        return Features({"messages": List({"role": Value("string"), "content": Value("string")})})
    return Features({name: Value("string") for name in ("instruction", "input", "output")})


def make_record(**fields: Any) -> Record:
    """One record; columns not given are `None`.

    Args:
        **fields: Values by column. `query` and `response` must hold text. `verdict` may be any label that `to_verdict`
            knows; without one it is what the critique concludes. `id` defaults to 16 hex digits of a SHA-256 over
            query, response and critique, so that the same row has the same id in every run.

    Returns:
        A dict with exactly `COLUMNS`, in their order.

    Raises:
        CFTError: An unknown column, an empty query or response, or a value of the wrong type.

    Example:
        >>> record = make_record(query="6 x 7?", response="43", critique="No, 42.", verdict=False)
        >>> record["id"], record["verdict"], record["teacher"]
        ('9a8569417d7e9bc4', 'wrong', None)
    """
    return _build(fields, "record")


def to_records(data: Any) -> Any:
    r"""Reads a dataset of any known layout (see the top of this file) as records.

    Args:
        data: A `datasets.Dataset`, `IterableDataset`, `DatasetDict` or `IterableDatasetDict`, or an iterable of dicts.

    Returns:
        The same kind with the columns `COLUMNS`; a list for any other iterable. Texts are kept byte for byte; an empty
        critique or refinement becomes `None`. Streaming data stays lazy.

    Raises:
        CFTError: Columns of no known layout, or a row that does not follow its layout, with its index and column.

    Example:
        >>> row = {"instruction": "", "input": "Question:\n6 x 7?\n\nSolution:\n43\n", "output": "Critique:\nNo."}
        >>> [(r["query"], r["response"], r["critique"]) for r in to_records([row])]
        [('6 x 7?', '43', 'No.')]
    """
    return _convert(data, to_record, "records")


def to_webinstruct_cft(records: Any) -> Any:
    r"""Writes records in the layout of TIGER-Lab/WebInstruct-CFT: columns instruction, input, output.

    Args:
        records: Records, as any of the kinds that `to_records` takes.

    Returns:
        The same kind; `to_records` reads back the same query, response, critique and verdict, exactly.

    Raises:
        CFTError: A row that cannot be written so: no critique, a critique that does not state the row's verdict, or
            a query that holds the layout's own separator. `unpublishable` tells such rows apart beforehand.

    Example:
        >>> [row] = to_webinstruct_cft([{"query": "6 x 7?", "response": "43", "critique": "No."}])
        >>> row["input"], row["output"]
        ('Question:\n6 x 7?\n\nSolution:\n43\n', 'Critique:\nNo.')
    """
    return _convert(records, partial(_published, layout="webinstruct_cft"), "webinstruct_cft")


def to_messages(records: Any) -> Any:
    """Writes records in the layout of TIGER-Lab/One-Shot-CFT-Data: `messages` = [user, assistant], no system turn.

    Arguments, return value and errors are those of `to_webinstruct_cft`.

    Example:
        >>> [row] = to_messages([{"query": "6 x 7?", "response": "43", "critique": "No."}])
        >>> [message["role"] for message in row["messages"]]
        ['user', 'assistant']
    """
    return _convert(records, partial(_published, layout="messages"), "messages")


def unpublishable(record: Mapping[str, Any]) -> str | None:
    r"""Why a record cannot be written in the published layouts, or `None` when it can.

    Example:
        >>> unpublishable(make_record(query="6 x 7?", response="43"))
        'it has no critique'
        >>> unpublishable(make_record(query="6 x 7?", response="43", critique="No, 42.")) is None
        True
    """
    query, response = record["query"], record["response"]
    critique, verdict = record.get("critique"), record.get("verdict")
    if not critique:
        return "it has no critique"
    if verdict != (stated := parse_verdict(critique)):
        return f"its verdict is {verdict!r} but its critique states {stated!r} (see with_verdict_line)"
    if split_input(cft_input(query, response)) != (query, response):
        return r"its query holds the layout's separator '\n\nSolution:\n', so it would be read back cut in two"
    return None


def to_record(row: Mapping[str, Any], where: str = "row 0") -> Record:
    """Reads one row of any known layout.

    Args:
        row: The row's columns.
        where: How errors name the row ("rows.jsonl, line 3").

    Returns:
        The record.

    Raises:
        CFTError: As `to_records`.
    """
    if not isinstance(row, Mapping):
        raise CFTError(f"{where}: expected a dict of columns, got {type(row).__name__}")
    layout = find_layout(row, where)
    fields: dict[str, Any] = {**READERS[layout](row, where)}
    extra = dict(fields.pop("extra", {}))
    read = {*LAYOUTS[layout], "meta"} | ({"instruction"} if "input" in LAYOUTS[layout] else set())
    read |= {"input"} if layout == "Alpaca" else set()
    for column, value in row.items():
        if column in read:
            continue
        (fields if column in COLUMNS and column not in fields else extra)[column] = value
    fields["meta"] = merged_meta(row.get("meta"), extra)
    return _build(fields, where)


def merged_meta(meta: Any, extra: Mapping[str, Any]) -> dict[str, Any] | None:
    """A row's `meta` with further values: a dict, or its JSON text as published data hold it.

    Example:
        >>> merged_meta('{"level": 1}', {"year": 2024}), merged_meta(None, {})
        ({'level': 1, 'year': 2024}, None)
    """
    if isinstance(meta, str):
        try:
            decoded = json.loads(meta)
        except ValueError:
            decoded = None
        meta = decoded if isinstance(decoded, dict) else meta or None
    if meta is None:
        return dict(extra) or None
    if not isinstance(meta, Mapping) or set(meta) & set(extra):
        return {"meta": meta, **extra}
    return {**meta, **extra}


def _json_value(value: Any) -> Any:
    """A value as JSON can hold it: mappings and sequences stay, NaN is null, anything else becomes its text."""
    if isinstance(value, Mapping):
        return {_SURROGATE.sub("\ufffd", str(key)): _json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_json_value(item) for item in value]
    if hasattr(value, "tolist"):
        return _json_value(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    return value if value is None or isinstance(value, int | float) else str(value)


def _plain_value(value: Any) -> Any:
    """A value out of numpy, torch or pandas as Python's own; NaN and its like, a frame's missing text, is `None`."""
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        value = value.item()
    if isinstance(value, float) and math.isnan(value):
        return None
    return None if type(value).__name__ in ("NAType", "NaTType") else value


def _build(fields: Mapping[str, Any], where: str) -> Record:
    """Checks and completes a record's values."""
    unknown = [name for name in fields if name not in COLUMNS]
    if unknown:
        raise CFTError(f"{where}: no column {unknown[0]!r}; a record has {', '.join(COLUMNS)}")
    record: dict[str, Any] = {column: fields.get(column) for column in COLUMNS}
    for column in COLUMNS[:-1]:
        value = record[column] = _plain_value(record[column])
        if column in ("id", "reference_answer") and isinstance(value, int | float):
            record[column] = str(value)
        elif column != "verdict" and not (value is None or isinstance(value, str)):
            raise CFTError(f"{where}: column {column!r} is {type(value).__name__}, not text")
        elif isinstance(value, str) and _SURROGATE.search(value):
            raise CFTError(f"{where}: column {column!r} holds half a surrogate pair, which UTF-8 cannot; mend the text")
    for column in ("query", "response"):
        if not (record[column] or "").strip():
            raise CFTError(f"{where}: column {column!r} is empty; give its text or leave the row out")
    for column in ("critique", "refinement"):
        if not (record[column] or "").strip():
            record[column] = None
    try:
        record["verdict"] = to_verdict(record["verdict"]) or parse_verdict(record["critique"])
    except CFTError as error:
        raise CFTError(f"{where}: column 'verdict': {error}") from None
    if record["meta"] is not None:
        try:
            record["meta"] = _json_value(merged_meta(record["meta"], {}))
        except RecursionError:
            raise CFTError(f"{where}: column 'meta' is nested too deeply to be kept; leave it out") from None
    if record["id"] is None:
        texts = [record[name] for name in ("query", "response", "critique") if record[name] is not None]
        record["id"] = hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16]
    return cast(Record, record)  # each column has been looked at


def published_row(record: Mapping[str, Any], layout: str) -> dict[str, Any]:
    """A record as a row of "webinstruct_cft" or "messages".

    Args:
        record: One that `unpublishable` has nothing against.
        layout: Which of the two.
    """
    query, response, target = record["query"], record["response"], cft_completion(record["critique"])
    if layout == "webinstruct_cft":
        return {"instruction": CFT_INSTRUCTION, "input": cft_input(query, response), "output": target}
    user = {"role": "user", "content": cft_user_turn(query, response)}
    return {"messages": [user, {"role": "assistant", "content": target}]}


def _published(row: Mapping[str, Any], where: str, layout: str) -> dict[str, Any]:
    record = to_record(row, where)
    if reason := unpublishable(record):
        raise CFTError(f"{where} (id {record['id']}) cannot be published: {reason}; mend the row or leave it out")
    return published_row(record, layout)


def _convert(data: Any, function: Callable[[Any, str], Mapping[str, Any]], layout: str) -> Any:
    """Applies a function of (row, where) to any of the kinds of data, keeping the kind; `layout` is what it gives."""
    # Without the library loaded nobody can hold its datasets; so a list needs no import of several seconds.
    library = sys.modules.get("datasets")
    if library and isinstance(data, library.DatasetDict | library.IterableDatasetDict):
        return type(data)({name: _convert(split, function, layout) for name, split in data.items()})
    if library and isinstance(data, library.Dataset | library.IterableDataset):
        data = data.with_format(None)  # a torch or numpy format would give tensors for numbers
        names = data.column_names or list(next(iter(data), {}))
        find_layout(names)
        new = layout_features(layout)
        if isinstance(data, library.Dataset) and len(data) == 0:
            return library.Dataset.from_dict({name: [] for name in new}, features=new)
        options: dict[str, Any] = {"with_indices": True, "remove_columns": names, "features": new}
        # `map` caches by the function's name: without its rules in the key, an old cache would outlive a change.
        options["fn_kwargs"] = {"function": function, "labels": class_names(data), "rules": reading_digest()}
        mapped = data.map(_indexed, **options)
        # A stream without known columns may bring a new one in a later row; `map` would let it through.
        return mapped if isinstance(data, library.Dataset) else mapped.select_columns(list(new))
    if isinstance(data, str | bytes | Mapping) or not isinstance(data, Iterable):
        raise CFTError(f"expected a dataset or a list of dicts, got {type(data).__name__}; for files use load_local")
    return [function(row, f"row {index}") for index, row in enumerate(data)]


def _indexed(
    row: Mapping[str, Any],
    index: int,
    *,
    function: Callable[[Any, str], Mapping[str, Any]],
    labels: dict[str, list[str]],
    rules: str,
) -> Mapping[str, Any]:
    return function(with_class_names(row, labels), f"row {index}")


def class_names(data: Any) -> dict[str, list[str]]:
    """The names of a dataset's `ClassLabel` columns, whose rows hold only numbers: 0 may well be named "correct"."""
    return {name: feature.names for name, feature in (data.features or {}).items() if hasattr(feature, "int2str")}


def with_class_names(row: Mapping[str, Any], labels: Mapping[str, list[str]]) -> Mapping[str, Any]:
    """The row with its class numbers replaced by their names; -1 and null are no class.

    Raises:
        CFTError: A number that is none of its column's classes.
    """
    if not labels:
        return row
    numbers = {name: row.get(name) for name in labels}
    try:
        return {**row, **{name: None if n is None or n < 0 else labels[name][n] for name, n in numbers.items()}}
    except (IndexError, TypeError):
        bad = next(name for name, n in numbers.items() if not (isinstance(n, int) and n < len(labels[name])))
        raise CFTError(f"column {bad!r} holds {numbers[bad]!r}, which is none of its classes {labels[bad]}") from None


@cache
def reading_digest(*files: str) -> str:
    """A digest of the code that reads records and verdicts, and of other files of code: the key of cached results.

    Args:
        *files: Paths of further modules that the cached result depends on.
    """
    here = Path(__file__).parent
    own = [here / f"{name}.py" for name in ("records", "read_rows", "layouts", "reservations", "markup")]
    return code_digest(*map(str, [*own, *sorted(here.glob("verdict*.py"))]), *files)
