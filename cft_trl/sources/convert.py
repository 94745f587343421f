r"""Published critique data into our row and back, byte for byte.

    convert("TIGER-Lab/WebInstruct-CFT", "rows.jsonl", to="records", name="WebInstruct-CFT-4K")
    convert("rows.jsonl", "back.jsonl", to="webinstruct_cft")

A row of the first file and what becomes of it:

    {"instruction": "Please ...", "input": "Question:\n6 x 7?\n\nSolution:\n43\n", "output": "Critique:\nNo ..."}
    {"id": "9a8569417d7e9bc4", "query": "6 x 7?", "response": "43", "critique": "No ...", "verdict": "wrong", ...}

Some published rows are typed a little differently (one newline before "Solution:", CRLF, no "Critique:" line). Our row
holds their texts, and under `meta["published"]` the row as it was, so that the way back gives it and not a tidied one;
unless the record was edited in between: then it is written anew.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TextIO

from cft_trl.data.layouts import LAYOUTS
from cft_trl.data.parquet import ShardWriter
from cft_trl.data.records import (
    Record,
    layout_features,
    make_record,
    published_row,
    to_record,
    unpublishable,
)
from cft_trl.errors import CFTError, nearest
from cft_trl.sources.local import raw_rows

# A layout's name here -> the columns that make it, among others that a row may have.
COLUMNS_OF = {
    "records": LAYOUTS["plain"],
    "webinstruct_cft": LAYOUTS["WebInstruct-CFT or CGD"],
    "messages": LAYOUTS["messages"],
}
SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")

_TEXTS: tuple[Literal["query", "response", "critique", "refinement", "verdict"], ...]
_TEXTS = ("query", "response", "critique", "refinement", "verdict")


@dataclass
class Conversion:
    """What became of the rows: `read`, `written`, and `failures` by reason; for trainers (`convert_for_trl`) also what
    was `left_out` on purpose, and `counts` by task."""

    read: int = 0
    written: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)


def convert(
    source: str | Path,
    output: str | Path,
    *,
    to: str,
    layout: str | None = None,
    name: str | None = None,
    split: str = "train",
    revision: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> Conversion:
    """Reads critique data of any known layout and writes it in another, row by row.

    Args:
        source: A file, glob, folder or Hub id, as `load_local` takes it.
        output: A .jsonl, .jsonl.gz or .parquet file. It appears when it is whole. Rows that cannot be converted are
            listed in `<output>.failures.jsonl`, which is not there when there are none. Parquet holds the layout's own
            columns; further ones that a published row had come back in the other formats only.
        to: "records", "webinstruct_cft" or "messages".
        layout: Which of these to read where a row has the columns of several; by default the first of them, as listed.
        name: The configuration of a Hub dataset.
        split: Its split.
        revision: Its revision.
        progress: Called with 1 after each row.

    Returns:
        The counts; `written + failures.total()` is `read`.

    Raises:
        CFTError: An unknown layout or suffix, a source that cannot be read, or one of which no row can be converted.
            Nothing is written then.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "a.jsonl").write_text('{"query": "6 x 7?", "response": "43", "critique": "No, 42."}')
        >>> convert(folder / "a.jsonl", folder / "b.jsonl", to="messages").written
        1
        >>> convert(folder / "b.jsonl", folder / "c.jsonl", to="records").written
        1
        >>> json.loads((folder / "c.jsonl").read_text())["critique"]
        'No, 42.'
    """
    for given, what in ((to, "to"), (layout or to, "from")):
        if given not in COLUMNS_OF:
            raise CFTError(
                f"--{what} {given!r}: unknown{nearest(given, COLUMNS_OF)}; give one of {', '.join(COLUMNS_OF)}"
            )
    output = _checked_output(source, output)
    counts = Conversion()
    failures = output.with_name(f"{output.name}.failures.jsonl")
    with (
        _whole_files(output, failures) as (row_file, failure_file),
        open(failure_file, "w", encoding="utf-8") as listed,
        _writer(row_file, output.name, to) as write,
    ):
        first = None
        for row, where in raw_rows(source, split=split, name=name, revision=revision):
            counts.read += 1
            try:
                write(converted(row, where, to, layout))
                counts.written += 1
            except CFTError as error:
                first = first or error
                reason = str(error).removeprefix(f"{where}: ")
                counts.failures[reason] += 1
                print(json.dumps({"row": where, "reason": reason}, ensure_ascii=False), file=listed)
            if progress:
                progress(1)
        if not counts.read:
            raise CFTError(f"{source}: it holds no rows")
        if not counts.written:
            raise CFTError(f"{source}: none of its {counts.read} rows can be converted; {first}")
    if not counts.failures:
        failures.unlink()
    return counts


def _checked_output(source: str | Path, output: str | Path) -> Path:
    output = Path(output)
    if not output.name.endswith(SUFFIXES):
        raise CFTError(f"{output}: cannot tell its format; expected a name ending in {', '.join(SUFFIXES)}")
    if output.exists() and Path(source).expanduser().exists() and os.path.samefile(Path(source).expanduser(), output):
        raise CFTError(f"{output}: the file to read and the one to write are the same; give another name")
    return output


def convert_for_trl(
    source: str | Path,
    output: str | Path,
    *,
    to: str,
    name: str | None = None,
    split: str = "train",
    revision: str | None = None,
    progress: Callable[[int], None] | None = None,
    **options: Any,
) -> Conversion:
    """Reads critique data of any known layout and writes rows for another trainer of TRL's; see `trl_layouts`.

    Args:
        to: One of `trl_layouts.LAYOUTS`.
        options: As the layout's function there takes them; None is its default.

    Raises:
        CFTError: As `convert`; and options that do not fit the layout.

    Other arguments and the return value are those of `convert`; all rows are in memory at once, for their answers
    are graded and several make one.
    """
    from cft_trl.sources.trl_layouts import converter

    function, output = converter(to, options), _checked_output(source, output)
    counts, first = Conversion(), None
    failures = output.with_name(f"{output.name}.failures.jsonl")
    records: list[Record] = []
    places: list[str] = []
    listed: list[dict[str, str]] = []
    for row, where in raw_rows(source, split=split, name=name, revision=revision):
        counts.read += 1
        try:
            records.append(to_record(row, where))
            places.append(where)
        except CFTError as error:
            first = first or error
            listed.append({"row": where, "reason": str(error).removeprefix(f"{where}: ")})
        if progress:
            progress(1)
    if not counts.read:
        raise CFTError(f"{source}: it holds no rows")
    made = function(records)
    listed += [{"row": places[at], "reason": reason} for at, reason in made.failures]
    counts.failures.update(line["reason"] for line in listed)
    counts.written, counts.left_out, counts.counts = len(made.rows), made.left_out, made.counts
    if not made.rows:
        told = first or f"{listed[0]['row']}: {listed[0]['reason']}"
        raise CFTError(f"{source}: none of its {counts.read} rows can be converted; {told}")
    with _whole_files(output, failures) as (row_file, failure_file):
        with open(failure_file, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in listed)
        if output.name.endswith(".parquet"):
            from datasets import Dataset

            Dataset.from_list(made.rows).to_parquet(row_file)
        else:
            with _open_text(row_file, output.name.endswith(".gz")) as file:
                file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in made.rows)
    if not listed:
        failures.unlink()
    return counts


def converted(row: Any, where: str, to: str, layout: str | None = None) -> Mapping[str, Any]:
    r"""One row in another layout; see `convert`.

    Args:
        row: As it was read.
        where: What errors begin with.
        to: The layout that is wanted.
        layout: The one it has; None to tell it by its columns.

    Raises:
        CFTError: It cannot be read, or the layout cannot hold it exactly; the message begins with `where`.

    Example:
        >>> odd = {"instruction": "", "input": "Question:\n6 x 7?\nSolution:\n43", "output": "No."}
        >>> record = converted(odd, "row 0", "records")
        >>> record["query"], record["response"], record["critique"]
        ('6 x 7?', '43', 'No.')
        >>> converted(record, "row 0", "webinstruct_cft") == odd
        True
    """
    if layout and isinstance(row, Mapping):
        if missing := [column for column in COLUMNS_OF[layout] if column not in row]:
            raise CFTError(f"{where}: no column {missing[0]!r}, which {layout} has; found {', '.join(map(str, row))}")
        others = {name for columns in COLUMNS_OF.values() for name in columns} - set(COLUMNS_OF[layout])
        row = {name: value for name, value in row.items() if name not in others}
    record = to_record(row, where)
    if to == "records":
        return _with_original(record, row)
    if original := _original(record, to):
        return original
    if reason := unpublishable(record):
        raise CFTError(f"{where}: {reason}")
    return published_row(record, to)


def _with_original(record: Record, row: Mapping[str, Any]) -> Record:
    """The record, with a published row that would be written back differently kept in `meta`."""
    layout = next((name for name in COLUMNS_OF if all(column in row for column in COLUMNS_OF[name])), "records")
    if layout == "records" or record["refinement"]:  # no published row of critiques: plain, or CGD's
        return record
    if not unpublishable(record) and published_row(record, layout) == row:
        return record
    original = json.loads(json.dumps(dict(row), default=str))
    return make_record(**{**record, "meta": {**(record["meta"] or {}), "published": original}})


def _original(record: Record, to: str) -> Mapping[str, Any] | None:
    """The published row that a record was read from, if it still says what the record says."""
    row = (record["meta"] or {}).get("published")
    if not isinstance(row, Mapping) or not all(column in row for column in COLUMNS_OF[to]):
        return None
    try:
        read = to_record(row)
    except CFTError:
        return None
    return dict(row) if all(read[name] == record[name] for name in _TEXTS) else None


@contextmanager
def _whole_files(*paths: Path) -> Iterator[list[Path]]:
    """Temporary names for files of one folder, which get their own when the block ends without an error."""
    partial = [path.with_name(f".{path.name}.{os.getpid()}") for path in paths]
    try:
        paths[0].parent.mkdir(parents=True, exist_ok=True)
        yield partial
        for temporary, path in zip(partial, paths, strict=True):
            os.replace(temporary, path)
    except OSError as error:
        raise CFTError(f"{paths[0]}: cannot be written ({error.strerror or error})") from None
    finally:
        for temporary in partial:
            with suppress(OSError):
                temporary.unlink()


@contextmanager
def _writer(path: Path, name: str, layout: str) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Gives a function that writes a row, in the format that the output's name says."""
    if name.endswith(".parquet"):
        folder = path.with_name(f"{path.name}.shards")
        shards = ShardWriter(folder, layout_features(layout), rows_per_shard=sys.maxsize)
        try:
            yield shards.row
            for shard in shards.close():  # one, or none where no row was written
                os.replace(shard, path)
        finally:
            shards.abandon()
            shutil.rmtree(folder, ignore_errors=True)
        return
    with _open_text(path, name.endswith(".gz")) as file:
        yield lambda row: print(json.dumps(row, ensure_ascii=False), file=file)


@contextmanager
def _open_text(path: Path, zipped: bool) -> Iterator[TextIO]:
    with (
        open(path, "wb") as raw,
        gzip.GzipFile("", "wb", fileobj=raw, mtime=0) if zipped else raw as binary,
        io.TextIOWrapper(binary, encoding="utf-8", newline="\n") as text,
    ):
        yield text
