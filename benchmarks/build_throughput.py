"""How fast `cft build` is when the teacher costs no time, and whether its memory grows with the rows.

    python benchmarks/build_throughput.py                                1,000 and 20,000 rows from an instant server
    python benchmarks/build_throughput.py --rows 1000 100000 --append    ... and the table goes to benchmarks/RESULTS.md
    python benchmarks/build_throughput.py --teacher reference --rows 50000
    python benchmarks/build_throughput.py --rows 20000 --against ../before --tasks 2    in turns with an older one

The rows are arithmetic word problems; they go through every stage, from source to Parquet. The server has a process of
its own on the same machine and answers each request at once with one of two critiques, so what is measured is our own
work. CPU seconds are told beside the wall's, for a machine that does other things too. Decontamination is measured
where CFT_BENCHMARKS_DIR names a folder with the benchmarks.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from importlib.metadata import version
from pathlib import Path

RESULTS, TREE = Path(__file__).with_name("RESULTS.md"), Path(__file__).resolve().parents[1]
STAGES = ("source", "respond", "critique", "refine", "filter", "decontaminate", "publish")
RECIPE = """\
name: throughput
source: {{corpus: arithmetic, limit: {rows}}}
critique: {{teachers: ["{teacher}"]}}
filter: {{agree: report}}
decontaminate: {{benchmarks: {benchmarks}}}
"""
CRITIQUE = "The first step is checked and holds. The second step is checked and holds as well. " * 6


def reply(verdict: str) -> bytes:
    """A reply with room for a number, so that no two critiques and no two ids are the same."""
    content = f"{CRITIQUE}This is check ########.\n\nConclusion: {verdict} [END]"
    body = {
        "id": "chatcmpl-########",
        "object": "chat.completion",
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 300, "completion_tokens": 120, "total_tokens": 420},
    }
    text = json.dumps(body).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text)


class Instant(asyncio.Protocol):
    """Answers every request at once."""

    replies = (reply("right"), reply("wrong"))
    count = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport, self.waiting = transport, b""

    def data_received(self, data: bytes) -> None:
        self.waiting += data
        while (end := self.waiting.find(b"\r\n\r\n")) >= 0:
            head = self.waiting[:end].lower()
            if head.startswith(b"get "):  # what it serves, which it does not say
                self.waiting = self.waiting[end + 4 :]
                self.transport.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                continue
            length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
            if len(self.waiting) < end + 4 + length:
                return
            self.waiting = self.waiting[end + 4 + length :]
            Instant.count += 1
            self.transport.write(self.replies[length % 2].replace(b"########", b"%08d" % Instant.count))


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(Instant, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.sleep(3600)


@contextmanager
def instant_server() -> Iterator[str]:
    """The server's address, while the block runs."""
    process = subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True)
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
    finally:
        process.kill()
        process.wait()


def measure(rows: int, teacher: str, tree: Path = TREE, more: tuple[str, ...] = ()) -> dict[str, float]:
    """One build by the code of a tree: seconds by stage and in all (with start-up), and its largest memory in MiB."""
    with tempfile.TemporaryDirectory(prefix="cft-throughput-") as folder:
        recipe, out = Path(folder) / "recipe.yaml", Path(folder) / "out"
        benchmarks = "six" if os.environ.get("CFT_BENCHMARKS_DIR") else "none"
        recipe.write_text(RECIPE.format(rows=rows, teacher=teacher, benchmarks=benchmarks))
        began = time.time()
        command = [sys.executable, "-m", "cft_trl.cli", "build", str(recipe), "--output", str(out), *more]
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, cwd=folder, env={**os.environ, "PYTHONPATH": str(tree)}
        )
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.time() - began
        if status:
            sys.exit(f"the build of {rows} rows ended with {os.waitstatus_to_exitcode(status)}")
        found, before = (
            {"rows": rows, "seconds": seconds, "cpu": used.ru_utime + used.ru_stime, "MiB": used.ru_maxrss / 1024},
            began,
        )
        # In a process of its own: a child's peak begins with the memory of the one that starts it.
        told = subprocess.run([sys.executable, __file__, "--digest", str(out)], capture_output=True, text=True)
        found["digest"] = told.stdout
        for stage in STAGES:  # a stage's report is the last file that it writes
            ended = (out / "stages" / f"{stage}.json").stat().st_mtime
            found[stage], before = ended - before, ended
        return found


def digest(out: Path) -> str:
    """Of the rows that were published, without what is drawn by lot (which of the answers a question got)."""
    from pyarrow import parquet

    made = hashlib.sha256()
    for path in sorted((out / "data").rglob("*.parquet")):
        for batch in parquet.ParquetFile(path).iter_batches():
            made.update(re.sub(rb"check \d{8}", b"check", json.dumps(batch.to_pylist()).encode()))
    return made.hexdigest()[:8]


def race(rows: int, rounds: int, contestants: dict[str, tuple[Path, tuple[str, ...]]], url: str) -> str:
    """Builds in alternation: this code, an older one, this one in two tasks; ratios are the median of the rounds'."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in contestants}
    for number in range(rounds):
        for name, (tree, more) in contestants.items():
            found[name].append(measure(rows, f"openai:m@{url}", tree, more))
            took = found[name][-1]
            print(f"round {number + 1} {name}: {took['seconds']:.1f} s, {took['cpu']:.1f} CPU s", file=sys.stderr)
    first, lines = next(iter(found.values())), ["| | seconds | rows/s | CPU ms a row | peak MiB | as fast | CPU |"]
    lines.append("|---" * 7 + "|")
    for name, runs in found.items():
        seconds, cpu = ([run[key] for run in runs] for key in ("seconds", "cpu"))
        ratios = [
            f"{statistics.median(times):.2f}x ({min(times):.2f} to {max(times):.2f})"
            for key in ("seconds", "cpu")
            if (times := [a[key] / b[key] for a, b in zip(first, runs, strict=True)])
        ]
        taken, most = " ".join(f"{s:.1f}" for s in seconds), max(run["MiB"] for run in runs)
        rate, each = rows / statistics.median(seconds), 1000 * statistics.median(cpu) / rows
        lines.append(f"| {name} | {taken} | {rate:,.0f} | {each:.2f} | {most:.0f} | {' | '.join(ratios)} |")
    digests = {run["digest"] for runs in found.values() for run in runs}
    told = "the same rows from all" if len(digests) == 1 else f"{len(digests)} different sets of rows"
    return "\n".join([*lines, "", f"{rows:,} rows, {rounds} alternating rounds; {told}."])


def table(results: list[dict[str, float]]) -> str:
    lines = ["| rows | seconds | rows/s | CPU s | peak MiB | " + " | ".join(STAGES) + " |", "|---" * 12 + "|"]
    for found in results:
        stages = " | ".join(f"{found[stage]:.1f}" for stage in STAGES)
        rate = found["rows"] / found["seconds"]
        all_in_all = f"{found['seconds']:.1f} | {rate:,.0f} | {found['cpu']:.1f} | {found['MiB']:.0f}"
        lines.append(f"| {found['rows']:,} | {all_in_all} | {stages} |")
    return "\n".join(lines)


def processor() -> str:
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(": ")[2] for line in cpuinfo.splitlines() if line.startswith("model name")), "unknown")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 20_000])
    parser.add_argument("--against", type=Path, help="a checkout of another commit: builds in turns with its code")
    parser.add_argument("--rounds", type=int, default=5, help="of --against")
    parser.add_argument("--tasks", type=int, help="with --against: also this code in so many processes")
    parser.add_argument("--teacher", choices=("server", "reference"), default="server")
    parser.add_argument("--append", action="store_true", help=f"add the table to {RESULTS.name}")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--digest", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.digest:
        print(digest(options.digest))
        return
    if options.serve:
        asyncio.run(serve())
        return
    os.environ.setdefault("OPENAI_API_KEY", "none")
    machine = f"{os.cpu_count()} cores of {processor()} (load before: {os.getloadavg()[0]:.1f})"
    if options.against:
        contestants = {"before": (options.against.resolve(), ()), "now": (TREE, ())}
        if options.tasks:
            contestants["now, in tasks"] = (TREE, ("--executor", "local", "--tasks", str(options.tasks)))
        with instant_server() as url:
            print(race(options.rows[0], options.rounds, contestants, url))
        return
    with instant_server() as url:
        teacher = "reference" if options.teacher == "reference" else f"openai:m@{url}"
        results = [measure(rows, teacher) for rows in options.rows]
    checked = "the six benchmarks" if os.environ.get("CFT_BENCHMARKS_DIR") else "no benchmark"
    versions = ", ".join(f"{name} {version(name)}" for name in ("cft-trl", "openai", "datasets", "pyarrow"))
    told = (
        f"## `cft build`, {'an instant local server' if options.teacher == 'server' else 'the reference teacher'}\n\n"
        f"{date.today()}, {machine}, Python {platform.python_version()}, {versions}; "
        f"decontaminated against {checked}. Seconds in all (with start-up) and by stage.\n\n{table(results)}\n"
    )
    print(told)
    if options.append:
        text = RESULTS.read_text(encoding="utf-8").rstrip("\n") + "\n\n" if RESULTS.exists() else "# Measured\n\n"
        RESULTS.write_text(text + told, encoding="utf-8")


if __name__ == "__main__":
    main()
