#!/usr/bin/env bash
# accelerate's skip_first_batches leaves a dataloader that does not know its last batch's remainder, and nothing says so.
# Date: 2026-11-29
# Seen: accelerate 1.15.0: a dataloader of 15 rows, one in a batch, prepared for two processes has total_batch_size 2 and at
#       its end remainder 1, by which gather_for_metrics leaves out the row that is repeated. After
#       skip_first_batches(loader, 4), with which transformers 5.23 goes on in the middle of an epoch, asking for
#       total_batch_size is an AttributeError, which the loader swallows, and the remainder is -1: nothing is left out.
#       So a run that went on logs another `entropy` and `mean_token_accuracy` (TRL 1.16 gathers one sum of each process
#       this way) at the last step of an epoch than the run that was not broken off, from equal weights and rows.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0 accelerate==1.15.0 2>/dev/null
"$work/venv/bin/python" - <<'PY'
import sys

from accelerate import PartialState, skip_first_batches
from accelerate.data_loader import prepare_data_loader
from torch.utils.data import DataLoader

PartialState(cpu=True)
loader = prepare_data_loader(DataLoader(range(15), batch_size=1), num_processes=2, process_index=0, put_on_device=False)
seen = []
for one in (loader, skip_first_batches(loader, 4)):
    *_, _last = one
    seen.append((getattr(one, "total_batch_size", None), one.remainder))
    print(f"total_batch_size {seen[-1][0]}, remainder {seen[-1][1]}")
sys.exit(seen != [(2, 1), (None, -1)])
PY
