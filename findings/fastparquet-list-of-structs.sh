#!/usr/bin/env bash
# fastparquet reads a list of structs (the chat layout "messages") as None in every row, without a word.
# Date: 2026-11-29
# Seen: fastparquet 2026.9.0: a column written by pyarrow as list<struct<role, content>> is there, with None in all rows;
#       pandas with pyarrow reads the same file right. Prints "fastparquet [None, None], pyarrow 2 rows of dicts".
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q fastparquet==2026.9.0 pyarrow==26.0.1 pandas==3.1.1 2>/dev/null
"$work/venv/bin/python" - "$work/rows.parquet" <<'PY'
import sys

import pyarrow
from fastparquet import ParquetFile
from pyarrow import parquet

rows = [{"messages": [{"role": "user", "content": text}]} for text in ("a", "b")]
parquet.write_table(pyarrow.Table.from_pylist(rows), sys.argv[1])
read = list(ParquetFile(sys.argv[1]).to_pandas()["messages"])
right = parquet.read_table(sys.argv[1]).to_pylist()
print(f"fastparquet {read}, pyarrow {len(right)} rows of dicts")
sys.exit(not (read == [None, None] and right == rows))
PY
