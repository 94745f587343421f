"""Rows into Parquet shards, one row group in memory at a time.

    data/arithmetic__reference/train-00000-of-00002.parquet    100,000 rows in row groups of 1,000
    data/arithmetic__reference/train-00001-of-00002.parquet    the rest

The columns are plain ones, and the file says nothing that only one library understands, so that every reader of Parquet
gives the same rows: `meta` is a string of JSON, which `cft_trl.to_records` reads back as a dict. A page index lets the
Hub's viewer read a page without reading the row group.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cft_trl.data.layouts import Row

if TYPE_CHECKING:
    import datasets


class ShardWriter:
    """Writes rows to `folder/train-00000-of-0000N.parquet`; the names get their N in `close`.

    Args:
        folder: Made if it is not there.
        columns: The rows' columns. A `Json` column takes any JSON value and is written as its text.
        rows_per_shard: Rows of a file at most.
        row_group_size: Rows of a row group at most, and rows held in memory.

    Attributes:
        rows: How many were given.

    Example:
        >>> import tempfile
        >>> from cft_trl.data.records import features, make_record
        >>> shards = ShardWriter(Path(tempfile.mkdtemp()), features(), rows_per_shard=2)
        >>> for answer in ("41", "42", "43"):
        ...     shards.row(make_record(query="6 x 7?", response=answer))
        >>> [path.name for path in shards.close()]
        ['train-00000-of-00002.parquet', 'train-00001-of-00002.parquet']
    """

    def __init__(
        self, folder: Path, columns: datasets.Features, rows_per_shard: int = 100_000, row_group_size: int = 1_000
    ) -> None:
        self.rows = 0
        self._json = [name for name, feature in columns.items() if getattr(feature, "_type", "") == "Json"]
        self._folder, self._schema = folder, _plain(columns.arrow_schema, self._json)
        self._rows_per_shard, self._row_group_size = rows_per_shard, min(row_group_size, rows_per_shard)
        self._buffer: list[Row] = []
        self._shards: list[Path] = []
        self._writer: Any = None
        folder.mkdir(parents=True, exist_ok=True)

    def row(self, row: Mapping[str, Any]) -> None:
        """Adds a row."""
        values = {name: row[name] for name in self._json if row[name] is not None}
        encoded = {name: json.dumps(value, ensure_ascii=False) for name, value in values.items()}
        self._buffer.append({**row, **encoded})
        self.rows += 1
        if len(self._buffer) == self._row_group_size or self.rows % self._rows_per_shard == 0:
            self._flush()

    def close(self) -> list[Path]:
        """Writes what is left and returns the shards in order. Nothing is written for no rows."""
        self._flush()
        self._end_shard()
        named = [path.with_name(f"{path.stem}-of-{len(self._shards):05d}.parquet") for path in self._shards]
        for path, name in zip(self._shards, named, strict=True):
            path.rename(name)
        return named

    def abandon(self) -> None:
        """Closes the open file, whole or not."""
        self._buffer = []
        self._end_shard()

    def _flush(self) -> None:
        import pyarrow
        from pyarrow import parquet

        if not self._buffer:
            return
        if self._writer is None:
            path = self._folder / f"train-{len(self._shards):05d}.parquet"
            # Content-defined chunks let the Hub store only what changed between two builds of a dataset.
            self._writer = parquet.ParquetWriter(
                path, self._schema, write_page_index=True, use_content_defined_chunking=True, store_schema=False
            )
            self._shards.append(path)
        self._writer.write_table(pyarrow.Table.from_pylist(self._buffer, schema=self._schema))
        self._buffer = []
        if self.rows % self._rows_per_shard == 0:
            self._end_shard()

    def _end_shard(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _plain(schema: Any, json_columns: list[str]) -> Any:
    """The Arrow schema without the metadata of `datasets`, and with text where it has a type of its own."""
    import pyarrow

    return pyarrow.schema(
        [(field.name, pyarrow.string() if field.name in json_columns else field.type) for field in schema]
    )
