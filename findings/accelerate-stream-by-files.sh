#!/usr/bin/env bash
# accelerate deals a streamed dataset out by its files, so that processes get as many rows as their files happen to hold.
# Date: 2026-11-29
# Seen: accelerate 1.15.0 with datasets 5.2.0: of a stream of three files with 19, 3 and 7 rows, prepared for two processes
#       that read their own batches (dispatch_batches=False, as TRL 1.16 sets it for streams), process 0 gets 22 rows
#       and process 1 gets 7, without a word. Of one file with the same 29 rows both get 16, the last of them repeated.
#       So how a dataset is cut into files decides what each process trains, and for how long.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0 accelerate==1.15.0 datasets==5.2.0 2>/dev/null
"$work/venv/bin/python" - <<'PY'
import sys

from accelerate import PartialState
from accelerate.data_loader import prepare_data_loader
from datasets import IterableDataset
from torch.utils.data import DataLoader

PartialState(cpu=True)


def rows(parts):
    for part in parts:
        yield from ({"n": n} for n in part)


def dealt(*files):
    starts = [sum(files[:i]) for i in range(len(files))]
    parts = [list(range(a, a + count)) for a, count in zip(starts, files)]
    counts = []
    for index in range(2):
        stream = IterableDataset.from_generator(rows, gen_kwargs={"parts": parts})
        loader = prepare_data_loader(
            DataLoader(stream, batch_size=2), num_processes=2, process_index=index, dispatch_batches=False,
            put_on_device=False,
        )
        counts.append(sum(len(batch["n"]) for batch in loader))
    print(f"files of {files} rows -> {counts[0]} and {counts[1]} rows")
    return counts


sys.exit((dealt(19, 3, 7), dealt(29)) != ([22, 7], [16, 16]))
PY
