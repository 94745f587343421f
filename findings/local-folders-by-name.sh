#!/usr/bin/env bash
# A local folder whose README has `configs:` is served from a cache that is keyed by the folder's name.
#
# Date: 2026-11-28
# Seen: datasets 5.2.0. `load_dataset("a/rows")` (12 rows), then `load_dataset("b/rows")`, another folder of that name
#   (20 rows): the 12 rows of a. Both folders rewritten (8 rows in a): still 12. `download_mode="force_redownload"`
#   raises NonMatchingSplitsSizesError. Loaded by their files, `load_dataset("parquet", data_files="a/rows/data/*")`,
#   each gives its own rows, and new ones where a file has another time of change; a file whose time was put back is not
#   read again, even where its size is another one. `streaming=True` reads what is there.
# Exits 1 if that changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet datasets==5.2.0 pyarrow==26.0.1
cat > "$work/look.py" <<'PYTHON'
import os
import sys

work = sys.argv[1]
os.environ |= {"HF_HOME": f"{work}/home", "HF_HUB_OFFLINE": "1"}
import datasets
import pyarrow
from pyarrow import parquet

datasets.disable_progress_bars()
CARD = "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/*.parquet\n---\n"


def make(parent, word, rows):
    folder = f"{work}/{parent}/rows"
    os.makedirs(f"{folder}/data", exist_ok=True)
    with open(f"{folder}/README.md", "w") as card:
        card.write(CARD)
    file = f"{folder}/data/train.parquet"
    parquet.write_table(pyarrow.table({"word": [word] * rows}), file)
    return file


def told(rows):
    rows = list(rows)
    return f"{len(rows)} {rows[0]['word']}"


def by_folder(parent, **options):
    return told(datasets.load_dataset(f"{work}/{parent}/rows", split="train", **options))


def by_files(parent, **options):
    return told(datasets.load_dataset("parquet", data_files=f"{work}/{parent}/rows/data/*", split="train", **options))


seen = []
make("a", "a", 12)
seen.append(by_folder("a"))
make("b", "b", 20)
seen.append(by_folder("b"))
seen += [by_files("a"), by_files("b")]
file = make("a", "c", 8)
seen += [by_folder("a"), by_files("a")]
try:
    seen.append(by_folder("a", download_mode="force_redownload"))
except Exception as error:
    seen.append(type(error).__name__)
times = os.stat(file)
make("a", "d", 9)
os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
seen += [by_files("a"), by_files("a", streaming=True)]
print("\n".join(seen))
expected = ["12 a", "12 a", "12 a", "20 b", "12 a", "8 c", "NonMatchingSplitsSizesError", "8 c", "9 d"]
sys.exit(seen != expected)
PYTHON
"$work/venv/bin/python" "$work/look.py" "$work"
