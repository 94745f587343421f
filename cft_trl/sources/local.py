r"""Rows from files, folders and Hub ids, in any layout that `cft_trl.data.records` reads.

    load_local("rows.jsonl.gz", columns={"verdict": "label"}, append_verdict=True)

reads lines such as

    {"query": "What is 6 x 7?", "response": "43", "critique": "6 x 7 is 42.", "label": "incorrect", "year": 2024}

as records such as

    {"query": "What is 6 x 7?", "response": "43", "critique": "6 x 7 is 42.\n\nConclusion: wrong [END]",
     "verdict": "wrong", "meta": {"year": 2024}, ...}
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cft_trl.data.digests import content_digest
from cft_trl.data.files import SUFFIXES, expand_glob, files_of_split, read_files
from cft_trl.data.hub_commits import commit_now
from cft_trl.data.read_rows import mark_read, read_features
from cft_trl.data.records import (
    COLUMNS,
    Record,
    class_names,
    code_digest,
    features,
    merged_meta,
    to_record,
    with_class_names,
)
from cft_trl.data.verdict import to_verdict, with_verdict_line
from cft_trl.errors import CFTError, nearest
from cft_trl.models.identity import Identity, local_files_identity
from cft_trl.sources.described import described_files, is_described

if TYPE_CHECKING:
    from datasets import Dataset, Features, IterableDataset

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+|[\w-]+")
# The first rows are asked for a mapped column; a ragged file may leave it out of some.
_PEEK = 100


def load_local(
    path_or_hub_id: str | Path,
    *,
    split: str = "train",
    name: str | None = None,
    revision: str | None = None,
    columns: Mapping[str, str] | None = None,
    append_verdict: bool = False,
    streaming: bool = False,
    limit: int | None = None,
    marked: bool = False,
) -> Dataset | IterableDataset:
    """Records from a file, a glob, a folder or a Hub id.

    Args:
        path_or_hub_id: A .jsonl, .ndjson, .json, .csv (each also .gz) or .parquet file; a glob of such; a folder of
            such, or one written by `save_to_disk`, or a copy of a Hub dataset; or a Hub id
            ("TIGER-Lab/WebInstruct-CFT").
        split: Which split of a folder or Hub dataset. In a folder of files it selects those named after it
            ("train-00000.parquet", "test/rows.jsonl"); files named after no split are all "train". A single file or
            a glob is read whole.
        name: The configuration of a Hub dataset ("WebInstruct-CFT-50K"), or of a copy of one.
        revision: Commit, tag or branch of a Hub id.
        columns: Where a record's columns are found under other names, {record's column: source's column}. A column
            mapped to "verdict" is read as a label (see `cft_trl.data.verdict.to_verdict`).
        append_verdict: Whether to end critiques that state no verdict with the row's own ("Conclusion: wrong [END]").
            A row without a critique, or without a verdict, is left as it is.
        streaming: Whether to return an `IterableDataset` that reads while it is iterated.
        limit: At most this many rows, from the beginning.
        marked: Whether with the column that spares a training run a second reading (`cft_trl.data.read_rows`).

    Returns:
        A `datasets.Dataset` (or `IterableDataset`) with the columns `cft_trl.data.records.COLUMNS`, one row each.

    Raises:
        CFTError: Nothing there, no rows, a column that is missing, or a row that cannot be read, with file and line.

    Example:
        >>> import tempfile
        >>> path = tempfile.mkdtemp() + "/rows.jsonl"
        >>> _ = open(path, "w").write('{"query": "6 x 7?", "response": "43", "critique": "No, 42.", "ok": false}')
        >>> rows = load_local(path, columns={"verdict": "ok"}, append_verdict=True, streaming=True)
        >>> next(iter(rows))["critique"]
        'No, 42.\\n\\nConclusion: wrong [END]'
    """
    columns = dict(columns or {})
    for column in columns:
        if column not in COLUMNS:
            raise CFTError(f"columns: a record has no column {column!r}{nearest(column, COLUMNS)}")
    if limit is not None and limit < 1:
        raise CFTError(f"limit={limit}: give 1 or more, or None for all rows")
    where = str(path_or_hub_id)
    options = {"columns": columns, "append_verdict": append_verdict, "marked": marked}
    found = _find_files(where, split, name, revision)
    if found is not None:
        files, options["labels"] = found
        return _from_files(files, where, options, streaming, limit)
    return _from_library(_open_with_library(where, split, name, revision, streaming), where, options, limit)


def raw_rows(
    path_or_hub_id: str | Path, *, split: str = "train", name: str | None = None, revision: str | None = None
) -> Iterator[tuple[Any, str]]:
    """Rows as the source holds them, read while they are iterated, each with the place that an error about it names.

    Args and Raises as for `load_local`; class numbers are replaced by their names.
    """
    where = str(path_or_hub_id)
    found = _find_files(where, split, name, revision)
    if found is not None:
        files, labels = found
        for row, place in read_files(files):
            yield with_class_names(row, labels) if isinstance(row, Mapping) else row, place
        return
    data = _open_with_library(where, split, name, revision, streaming=True)
    labels = class_names(data)
    try:
        for index, row in enumerate(data):
            yield with_class_names(row, labels), f"{where}, row {index}"
    except Exception as error:  # the Hub's clients raise a dozen unrelated types; for the user each means the same
        raise CFTError(f"{where}: reading it broke off ({type(error).__name__}: {error}); run it again") from None


def data_identity(
    path_or_hub_id: str | Path, *, split: str = "train", name: str | None = None, revision: str | None = None
) -> Identity:
    """What `load_local` would read: local files by their contents, a Hub dataset by the commit it stands for now.

    Args and Raises as for `load_local`.
    """
    where = str(path_or_hub_id)
    found = _find_files(where, split, name, revision)
    if found is not None:
        files, labels = found
        return local_files_identity(files) | ({"labels": content_digest(labels)} if labels else {})
    if saved := _saved_identity(where):
        return saved
    return {"kind": "hub", "name": where, "config": name, "commit": commit_now("dataset", where, revision)}


def _saved_identity(where: str) -> Identity | None:
    """What a folder of `save_to_disk` holds: its tables and the names of their classes; None of anything else."""
    path = Path(where).expanduser()
    if not path.is_dir():
        return None
    tables = sorted(file for file in path.rglob("*.arrow") if not file.name.startswith("cache-"))
    infos = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(path.rglob("dataset_info.json"))]
    return local_files_identity(tables) | {"labels": content_digest([info.get("features") for info in infos])}


def _find_files(
    where: str, split: str, name: str | None, revision: str | None
) -> tuple[list[str], dict[str, list[str]]] | None:
    """The files to read and the names of class labels, or None for what the `datasets` library is to open: folders
    that its `save_to_disk` wrote, and Hub ids."""
    path = Path(where).expanduser()
    local = path.exists() or any(sign in where for sign in "*?[")
    if local and revision is not None:
        raise CFTError(f"revision {revision!r} belongs to a Hub id, but {where} is here; leave it out")
    if path.is_file():
        if not path.name.endswith(SUFFIXES):
            raise CFTError(f"{where}: cannot tell its format; expected a name ending in {', '.join(SUFFIXES)}")
        return [str(path)], {}
    if path.is_dir():
        if (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():
            return None
        if is_described(path):
            return described_files(path, name, split)
        if (path / "stages").is_dir():
            raise CFTError(f"{where}: a build that has not come to its end; the same `cft build` goes on with it")
        if name:
            raise CFTError(f"{where}: no configuration {name!r}: there is no card (README.md) that says what it is")
        return files_of_split(path, split), {}
    if local:
        return expand_glob(str(path)), {}
    if _HUB_ID.fullmatch(where) and not where.endswith((*SUFFIXES, ".txt", ".tsv", ".gz")):
        return None
    beside = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []
    raise CFTError(f"{where}: no such file or folder{nearest(path.name, beside)}")


def _open_with_library(
    where: str, split: str, name: str | None, revision: str | None, streaming: bool
) -> Dataset | IterableDataset:
    import datasets

    path = Path(where).expanduser()
    if (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():
        data = datasets.load_from_disk(str(path))
        if isinstance(data, datasets.DatasetDict):
            if split not in data:
                raise CFTError(f"{where}: no split {split!r}{nearest(split, data)}; it has {', '.join(data)}")
            data = data[split]
        return data.to_iterable_dataset() if streaming else data
    try:
        return datasets.load_dataset(where, name, split=split, revision=revision, streaming=streaming)
    # The library and the Hub's client say "not found", "offline", "no such configuration" and "no such split" so.
    except (OSError, ValueError, RuntimeError) as error:
        told = f"no such file here, and the Hub did not give it ({type(error).__name__}: {error})"
        raise CFTError(f"{where}: {told}") from None


def _from_files(
    files: list[str], where: str, options: dict[str, Any], streaming: bool, limit: int | None
) -> Dataset | IterableDataset:
    from datasets import Dataset, IterableDataset
    from datasets.exceptions import DatasetGenerationError

    first = list(itertools.islice(read_files(files), _PEEK))
    if not first:
        raise CFTError(f"{where}: it holds no rows")
    found = dict.fromkeys(column for row, _ in first if isinstance(row, Mapping) for column in row)
    if found:
        check_mapped(options["columns"], found, where)
    if streaming:
        stream = IterableDataset.from_generator(
            _records, features=_features(options), gen_kwargs={"files": files, "options": options, "limit": None}
        )
        return stream.take(limit) if limit else stream
    # The library caches what a generator gave under this name: it must change with the files and with our reading.
    key = content_digest([files, local_files_identity(files), options, limit, code_digest(__file__)])
    try:
        return Dataset.from_generator(
            _records,
            features=_features(options),
            gen_kwargs={"files": files, "options": options, "limit": limit},
            fingerprint=key,
        )
    except DatasetGenerationError as error:
        if isinstance(error.__cause__, CFTError):
            raise error.__cause__ from None
        raise


def _features(options: Mapping[str, Any]) -> Features:
    return read_features() if options["marked"] else features()


def _records(files: list[str], options: dict[str, Any], limit: int | None) -> Iterator[Mapping[str, Any]]:
    labels, options = options["labels"], {name: value for name, value in options.items() if name != "labels"}
    for row, where in itertools.islice(read_files(files), limit):
        yield _read(with_class_names(row, labels) if isinstance(row, Mapping) else row, where, **options)


def _from_library(
    data: Dataset | IterableDataset, where: str, options: dict[str, Any], limit: int | None
) -> Dataset | IterableDataset:
    from datasets import Dataset

    found = data.column_names or list(next(iter(data), {}))
    if not found or (isinstance(data, Dataset) and len(data) == 0):
        raise CFTError(f"{where}: it holds no rows")
    check_mapped(options["columns"], found, where)
    cached = {}
    if isinstance(data, Dataset):
        data = data.select(range(min(limit or len(data), len(data))))
        if saved := _saved_identity(where):
            told = [saved, str(data.split), len(data), options, class_names(data), code_digest(__file__)]
            cached = _cached_as(content_digest(told))
    elif limit:
        data = data.take(limit)
    data = data.with_format(None).map(
        _indexed_record,
        with_indices=True,
        remove_columns=found,
        features=_features(options),
        fn_kwargs={
            "source": where,
            "options": options,
            "labels": class_names(data),
            "rules": code_digest(__file__),
        },
        **cached,
    )
    return data.select_columns(list(_features(options)))


def _cached_as(fingerprint: str) -> dict[str, str]:
    """Where `map` keeps what it makes of a saved dataset, and under what.

    By itself it would write into the dataset's folder, which may be read-only, under a fingerprint that the dataset
    states of itself: another one with that statement (the same code over other texts) would be served as the first was.
    """
    import datasets

    folder = Path(datasets.config.HF_DATASETS_CACHE) / "cft_trl"
    folder.mkdir(parents=True, exist_ok=True)
    return {"new_fingerprint": fingerprint, "cache_file_name": str(folder / f"{fingerprint}.arrow")}


def _indexed_record(
    row: Mapping[str, Any],
    index: int,
    *,
    source: str,
    options: dict[str, Any],
    labels: dict[str, list[str]],
    rules: str,
) -> Mapping[str, Any]:
    return _read(with_class_names(row, labels), f"{source}, row {index}", **options)


def _read(row: Any, where: str, *, marked: bool, **options: Any) -> Mapping[str, Any]:
    record = local_record(row, where, **options)
    return mark_read(record) if marked else record


def local_record(row: Any, where: str, *, columns: Mapping[str, str], append_verdict: bool) -> Record:
    """One source row as a record: renamed, read by its layout, its verdict appended.

    Args:
        row: As it was read.
        where: What errors begin with.
        columns, append_verdict: As for `load_local`.

    Raises:
        CFTError: It cannot be read; the message begins with `where`.
    """
    if columns and isinstance(row, Mapping):
        row = _renamed(row, columns, where)
    record = to_record(row, where)
    if append_verdict and record["critique"] and record["verdict"]:
        try:
            record["critique"] = with_verdict_line(record["critique"], record["verdict"])
        except CFTError as error:
            raise CFTError(f"{where}: {error}") from None
    return record


def _renamed(row: Mapping[str, Any], columns: Mapping[str, str], where: str) -> dict[str, Any]:
    """The row with the mapped columns under the record's names; what they displace or cannot hold goes to `meta`."""
    kept = {key: value for key, value in row.items() if key not in columns.values() and key not in columns}
    displaced = {key: row[key] for key in columns if key in row and key not in columns.values()}
    for column, source in columns.items():
        value = row.get(source)
        if column == "verdict":
            try:
                verdict = to_verdict(value)
            except CFTError as error:
                raise CFTError(f"{where}: column {source!r}: {error}") from None
            # A label that is known but neither right nor wrong ("flawed") would otherwise be lost.
            if verdict is None and isinstance(value, str) and value:
                displaced[source] = value
            value = verdict
        kept[column] = value
    if displaced:
        kept["meta"] = merged_meta(kept.get("meta"), displaced)
    return kept


def check_mapped(columns: Mapping[str, str], found: Any, where: str) -> None:
    """Refuses a mapping that names a column which is not there.

    Args:
        columns: Record's column -> source's column.
        found: The source's columns.
        where: What the error begins with.

    Raises:
        CFTError: One is not there; the nearest is named.
    """
    for column, source in columns.items():
        if source not in found:
            names = ", ".join(found)
            raise CFTError(
                f"{where}: no column {source!r} to read {column!r} from{nearest(source, found)}; found {names}"
            )
