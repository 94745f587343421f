r"""Finding and reading data files: JSON lines, JSON, CSV (each also gzipped) and Parquet.

    for row, where in read_files(["rows.jsonl"]):
        ...

gives `({"query": "What is 6 x 7?", "response": "43"}, "rows.jsonl, line 1")`: every row with the place that an error
about it names. Files are read here rather than by `datasets.load_dataset`, whose errors name no line and which gives
up on rows whose columns differ in type ("first_error_step": 3 in one, "none" in the next).
"""

from __future__ import annotations

import csv
import glob
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from cft_trl.data.layouts import LAYOUTS
from cft_trl.data.records import with_class_names
from cft_trl.errors import CFTError, nearest

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".jsonl.gz", ".ndjson.gz", ".json.gz", ".csv.gz", ".parquet")

# Files that describe a dataset rather than hold its rows, in folders made by `datasets`, the Hub's clients and us.
_NOT_DATA = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "failures.jsonl"}
_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "eval"), "validation"),
}
_SURROGATE = re.compile("[\ud800-\udfff]")
_MAX_FIELD = 2**31 - 1

Rows = Iterator[tuple[Any, str]]


def expand_glob(pattern: str) -> list[str]:
    """The data files that a glob matches, sorted.

    Raises:
        CFTError: There is none.
    """
    files = sorted(file for file in glob.glob(pattern, recursive=True) if _is_data(Path(file)))
    if not files:
        raise CFTError(f"{pattern}: matches no file ending in {', '.join(SUFFIXES)}")
    refuse_twins(map(Path, files), pattern)
    return files


def files_of_split(folder: Path, split: str) -> list[str]:
    """The data files of a folder that belong to a split, sorted.

    Args:
        folder: The folder, searched at every depth; hidden files and a dataset's own descriptions are left out.
        split: "train", "test", "validation" or any other name. A file belongs to the split that its name or its folder
            names ("train-00000-of-00001.parquet", "test/rows.jsonl"); one that names none belongs to "train".

    Returns:
        Paths.

    Raises:
        CFTError: No data files, or none of this split (the message names the splits found); or two of it that claim to
            be the same one.
    """
    files = sorted(file for file in folder.rglob("*") if _is_data(file.relative_to(folder)) and file.is_file())
    if not files:
        raise CFTError(f"{folder}: no file in this folder ends in {', '.join(SUFFIXES)}")
    found: dict[str, list[str]] = {}
    for file in files:
        found.setdefault(_split_of(file.relative_to(folder), split), []).append(str(file))
    if split not in found:
        splits = ", ".join(found)
        raise CFTError(f"{folder}: no files of split {split!r}{nearest(split, found)}; its files are of {splits}")
    refuse_twins(map(Path, found[split]), str(folder))
    return found[split]


def refuse_twins(files: Iterable[Path], where: str) -> None:
    """Refuses two files of one name but for the format: one is a copy of the other, and nobody knows which is current.

    Raises:
        CFTError: There are such ("train.jsonl" and "train.jsonl.gz").
    """
    seen: dict[Path, Path] = {}
    for file in files:
        suffix = max((suffix for suffix in SUFFIXES if file.name.endswith(suffix)), key=len, default="")
        name = file.with_name(file.name.removesuffix(suffix) or file.name)
        if name in seen:
            raise CFTError(
                f"{where}: {seen[name].name} and {file.name} in {file.parent} both claim to be the same data; keep one "
                "of them there, or name the file"
            )
        seen[name] = file


def _is_data(path: Path) -> bool:
    hidden = any(part.startswith((".", "_")) and part not in (".", "..") for part in path.parts)
    return path.name.endswith(SUFFIXES) and path.name not in _NOT_DATA and not hidden


def _split_of(path: Path, wanted: str) -> str:
    names = [re.split(r"\.|-\d", part)[0] for part in path.parts]
    if wanted in names:
        return wanted
    words = [word for part in path.parts for word in re.split(r"[^a-z]+", part.lower())]
    return next((_SPLITS[word] for word in reversed(words) if word in _SPLITS), "train")


def read_files(files: Iterable[str]) -> Rows:
    """Reads files one after the other, row by row.

    Args:
        files: Paths that end in one of `SUFFIXES`.

    Yields:
        (row, where): the row as the file holds it (a dict in all but malformed files) and its file and line.

    Raises:
        CFTError: A file that cannot be read, with the line.
    """
    for file in files:
        name = file.removesuffix(".gz")
        reader = {".json": _json, ".csv": _csv, ".parquet": _parquet}.get(Path(name).suffix, _json_lines)
        try:
            for row, where in reader(file):
                _check_names(row, where)
                yield row, where
        except (OSError, EOFError, zlib.error) as error:
            raise CFTError(f"{file}: cannot be read: {error}") from None
        except UnicodeDecodeError as error:
            raise CFTError(f"{file}: not UTF-8 text ({error.reason} at byte {error.start}); convert it") from None


def _check_names(row: Any, where: str) -> None:
    for column in row if isinstance(row, dict) else ():
        if not column.isascii() and _SURROGATE.search(column):
            shown = _SURROGATE.sub("\ufffd", column)
            raise CFTError(f"{where}: column {shown!r} holds half a surrogate pair in its name, which UTF-8 cannot")


def _open(file: str) -> gzip.GzipFile | io.BufferedReader:
    return gzip.GzipFile(file) if file.endswith(".gz") else open(file, "rb")


def _json_lines(file: str) -> Rows:
    # Bytes are split at b"\n" only; text would also be split at U+2028 and its like, which JSON strings may hold.
    with _open(file) as lines:
        for number, line in enumerate(lines, 1):
            where = f"{file}, line {number}"
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
                if text:
                    yield _loads(text), where
            except UnicodeDecodeError as error:
                raise CFTError(f"{where}: not UTF-8 text ({error.reason} at byte {error.start}); convert it") from None
            except (ValueError, RecursionError) as error:
                raise CFTError(f"{where}: {_not_json(error)}; expected one object per line") from None


def _loads(text: str) -> Any:
    """JSON as the standard has it: NaN, which pandas writes for a missing text, is null."""
    return json.loads(text, parse_constant=lambda name: None)


def _not_json(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "not JSON that can be read: it is nested too deeply"
    if not isinstance(error, json.JSONDecodeError) and "digits" in str(error):
        return "not JSON that can be read: a whole number of more than 4,300 digits; write it as text"
    return f"not JSON: {error}"


def _json(file: str) -> Rows:
    """A list of rows, an object that holds one such list ({"data": [...]}), or JSON lines in spite of the name."""
    with _open(file) as stream:
        text = stream.read().decode("utf-8-sig")
    try:
        document = _loads(text)
    except json.JSONDecodeError as error:
        first = text.lstrip().partition("\n")[0]
        if not (first.startswith("{") and first.rstrip().endswith("}")):
            raise CFTError(f"{file}, line {error.lineno}: not JSON: {error.msg}; expected a list of objects") from None
        yield from _json_lines(file)
        return
    except (ValueError, RecursionError) as error:
        raise CFTError(f"{file}: {_not_json(error)}; expected a list of objects") from None
    if isinstance(document, dict) and not any(all(name in document for name in needed) for needed in LAYOUTS.values()):
        lists = [
            value for value in document.values() if isinstance(value, list) and value and isinstance(value[0], dict)
        ]
        document = lists[0] if len(lists) == 1 else document
    rows = document if isinstance(document, list) else [document]
    yield from ((row, f"{file}, row {index}") for index, row in enumerate(rows))


def _csv(file: str) -> Rows:
    csv.field_size_limit(max(csv.field_size_limit(), _MAX_FIELD))
    with _open(file) as stream:
        reader = csv.DictReader(io.TextIOWrapper(stream, encoding="utf-8-sig", newline=""), strict=True)
        try:
            for row in reader:
                where = f"{file}, line {reader.line_num}"
                if None in row or None in row.values():
                    columns = len(reader.fieldnames or ())
                    raise CFTError(f"{where}: expected {columns} fields, as the header has; quote fields with commas")
                # CSV has no null; an empty field is the nearest to it.
                yield {key: value or None for key, value in row.items()}, where
        except csv.Error as error:
            raise CFTError(f"{file}, line {reader.line_num}: not CSV: {error}") from None


def _parquet(file: str) -> Rows:
    import pyarrow
    from pyarrow import parquet

    try:
        index = 0
        with parquet.ParquetFile(file) as table:
            labels = _class_names(table.schema_arrow.metadata or {}, file)
            for batch in table.iter_batches(batch_size=256):
                for row in batch.to_pylist():
                    where = f"{file}, row {index}"
                    try:
                        row = with_class_names(row, labels)
                    except CFTError as error:
                        raise CFTError(f"{where}: {error}") from None
                    yield row, where
                    index += 1
    except (pyarrow.ArrowException, OverflowError) as error:
        raise CFTError(f"{file}: not Parquet: {error}") from None


def _class_names(metadata: dict[bytes, bytes], file: str) -> dict[str, list[str]]:
    """The names of the `ClassLabel` columns of a Parquet file that the `datasets` library wrote."""
    try:
        described = json.loads(metadata.get(b"huggingface", b"{}")).get("info", {}).get("features") or {}
        return {
            name: [str(label) for label in feature["names"]]
            for name, feature in described.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (ValueError, AttributeError, TypeError, KeyError, RecursionError):
        raise CFTError(
            f"{file}: its 'huggingface' metadata cannot be read, and with it what its numbers mean; write the file "
            "again with datasets, or without metadata"
        ) from None
