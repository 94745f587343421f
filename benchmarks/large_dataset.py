"""Preparation of large datasets: rows per second and memory at 10,000, 100,000 and 600,000 rows.

    python benchmarks/large_dataset.py                          about twenty minutes; 5 GB of disk under --folder
    python benchmarks/large_dataset.py --rows 1000 10000

Arithmetic rows, three critiques to a response, are written to Parquet as they are made. Then, for each size in a
process of its own, `CFTTrainer` prepares them: tokenised and packed, and once more (tokens from the cache) with shared
prefixes. Memory is what the process holds of its own (anonymous pages, sampled); pages of the files it maps come on
top, and the system takes them back when it needs them.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from measure import record, table, tiny

CRITIQUES = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 600_000])
    parser.add_argument("--folder", type=Path, help="where the files go (default: a temporary folder)")
    parser.add_argument("--model", default="smollm2-135m", help="whose tokenizer and template")
    parser.add_argument("--prepare", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--no-save", action="store_true")
    options = parser.parse_args()
    if options.prepare:
        print(json.dumps(prepare(options.prepare, options.model)))
        return
    lines = []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for count in options.rows:
            path = Path(folder) / f"{count}.parquet"
            write(path, count)
            environment = {**os.environ, "HF_DATASETS_CACHE": str(Path(folder) / f"cache-{count}")}
            command = [sys.executable, __file__, "--prepare", str(path), "--model", options.model]
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, env=environment)
            for stage in json.loads(done.stdout.splitlines()[-1]):
                lines.append({"rows": f"{count:,}", **stage})
                print(lines[-1], file=sys.stderr)
    body = (
        f"tokenizer of {options.model}, one process; MiB of the process's own memory, beside it with the pages of "
        f"mapped files\n\n{table(lines)}"
    )
    record("Preparation of large datasets", body, save=not options.no_save)


def rows(count: int) -> Iterator[dict]:
    """`count` rows: arithmetic problems with a response each, and three critiques that differ in their first line."""
    from cft_trl.sources.arithmetic import arithmetic_records

    made = 0
    base = list(arithmetic_records(2000, seed=0, levels=(1,)))
    while made < count:
        for row in islice(base, (count - made + CRITIQUES - 1) // CRITIQUES):
            query = f"Problem {made // CRITIQUES + 1}. {row['query']}"  # another text each time round
            for teacher in range(CRITIQUES):
                critique = f"Review {teacher + 1} of {CRITIQUES}.\n{row['critique']}"
                yield {"query": query, "response": row["response"], "critique": critique, "verdict": row["verdict"]}
                made += 1


def write(path: Path, count: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    source, writer = islice(rows(count), count), None
    while batch := list(islice(source, 10_000)):
        part = pa.Table.from_pylist(batch)
        writer = writer or pq.ParquetWriter(path, part.schema)
        writer.write_table(part)
    writer.close()


def prepare(path: Path, model: str) -> list[dict[str, str]]:
    """Prepares a file's rows in this process -> a line for each way, with its rate and peak memory."""
    import datasets

    from cft_trl import CFTConfig, CFTTrainer
    from cft_trl.models.loading import load_tokenizer

    datasets.disable_progress_bars()
    logging.disable(logging.WARNING)
    tokenizer = load_tokenizer(model)
    with tempfile.TemporaryDirectory() as folder:
        common = {"use_cpu": True, "bf16": False, "report_to": "none", "max_length": 2048}
        data = datasets.load_dataset("parquet", data_files=str(path), split="train")
        trainer = CFTTrainer(
            tiny(tokenizer), CFTConfig(folder, **common), train_dataset=data.select(range(6)),
            processing_class=tokenizer,
        )  # fmt: skip
        lines = []
        for name, fields in (("tokenised, packed", {"packing": True}), ("shared prefixes", {"share_prefixes": "true"})):
            args = CFTConfig(folder, **common, **fields)
            with Watched() as watched:
                packs = trainer._prepare_dataset(data, tokenizer, args, args.packing, None, "train")
            lines.append(
                {
                    "stage": name,
                    "packs": f"{len(packs):,}",
                    "seconds": f"{watched.seconds:.1f}",
                    "rows/s": f"{len(data) / watched.seconds:,.0f}",
                    "before, MiB": f"{watched.before:,.0f}",
                    "peak, MiB": f"{watched.peak:,.0f}",
                    "with mapped files": f"{watched.resident:,.0f}",
                }
            )
    return lines


class Watched:
    """Samples a stretch of work: seconds, anonymous memory before it and at most, resident memory at most (MiB)."""

    def __enter__(self) -> Watched:
        self.before = self.peak = _status("RssAnon")
        self.resident, self.began, self.done = 0.0, time.perf_counter(), threading.Event()
        self.thread = threading.Thread(target=self._sample, daemon=True)
        self.thread.start()
        return self

    def _sample(self) -> None:
        while not self.done.wait(0.02):
            self.peak = max(self.peak, _status("RssAnon"))
            self.resident = max(self.resident, _status("VmRSS"))

    def __exit__(self, *exception: object) -> None:
        self.seconds = time.perf_counter() - self.began
        self.done.set()
        self.thread.join()


def _status(field: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise OSError(f"no {field} in /proc/self/status")


if __name__ == "__main__":
    main()
