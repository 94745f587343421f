"""What our client makes of a real vLLM server: a critique run, its speed against the server's best, the order's gain.

    CFT_VLLM_PYTHON=~/vllm/bin/python CFT_VLLM_OPTIONS="--dtype float32 --enforce-eager --max-model-len 2048" \\
        python benchmarks/synthesis_client.py --data gsm8k.jsonl.gz

It starts the server and, in this order,

1. lets the model answer GSM8K-train questions at temperature 0.8, several times each, and criticise its own answers:
   the stages `source`, `respond` and `critique` as `cft build` runs them;
2. asks for the same critiques through our client and through a bare asyncio loop in turns, at the same concurrency,
   with lengths fixed and no prompt seen before, so that the server's work is equal;
3. asks for them on a server whose cache is smaller than the run, with prompts that begin alike as neighbours (as our
   client orders them) and shuffled, one critique of each response and four, and reads the share of prompt tokens that
   the server found in its cache.

`--parts` chooses among `run`, `client` and `order`; the last two need the run's files in `--folder`.

The bare loop writes HTTP into open sockets: no retries, no journal, no checks.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

from measure import alternate, ratio, record, table

from cft_trl.data.stage_files import RowFile, StageReport, stage_path
from cft_trl.data.teacher_prompts import critique_messages
from cft_trl.generation.client import Teacher
from cft_trl.generation.journal import Journal
from cft_trl.generation.journaled import Journaled
from cft_trl.generation.types import Counts, Request
from cft_trl.generation.vllm_server import vllm_server
from cft_trl.sources.corpus import SourceSettings, run_source
from cft_trl.synthesis.critique import CritiqueSettings, run_critique
from cft_trl.synthesis.respond import RespondSettings, run_respond

MODEL = "smollm2-135m"
NO_KEY = ""
TITLES = {
    "run": "The run",
    "client": "Our client against a bare loop",
    "order": "Neighbours in the prefix cache",
}
Messages = list[dict[str, str]]


def build(url: str, folder: Path, data: str, questions: int, samples: int, options: argparse.Namespace) -> str:
    """The real run; leaves its stages in the folder and returns their table."""
    teacher = Teacher(MODEL, url, NO_KEY, options.concurrency)
    rows = []

    def timed(stage: str, run: Callable[[], StageReport]) -> None:
        began = time.perf_counter()
        report = run()
        seconds = time.perf_counter() - began
        told = report.details.get("teachers", {}).get(MODEL, {})
        out = told.get("completion_tokens", 0)
        rows.append(
            {
                "stage": stage,
                "rows in": report.read,
                "rows out": report.written,
                "failures": dict(report.failures) or 0,
                "cut off": told.get("truncated", 0),
                "tokens in": f"{told.get('prompt_tokens', 0):,}",
                "tokens out": f"{out:,}",
                "seconds": f"{seconds:.0f}",
                "tokens out/s": f"{out / seconds:.0f}",
            }
        )
        print(rows[-1], file=sys.stderr, flush=True)

    source = SourceSettings("gsm8k", path=data, limit=questions, sample="random")
    run_source(source, folder)
    respond = RespondSettings("models", (f"vllm:{MODEL}",), samples, temperature=0.8, max_tokens=192)
    timed("respond", lambda: run_respond(RowFile(stage_path(folder, "source")), respond, [teacher], folder))
    critique = CritiqueSettings((f"vllm:{MODEL}",), max_tokens=256)
    timed("critique", lambda: run_critique(RowFile(stage_path(folder, "respond")), critique, [teacher], folder))
    verdicts = Counter(str(row["verdict"] or "none") for row in RowFile(stage_path(folder, "critique")))
    told = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.most_common())
    return f"{table(rows)}\n\nVerdicts of the critiques: {told}."


# ---- our client and the bare loop ----


async def ours(url: str, requests: Sequence[Request], concurrency: int) -> Counts:
    counts = Counts()
    with tempfile.TemporaryDirectory() as folder, Journal(folder) as journal:
        teacher = Teacher(MODEL, url, NO_KEY, concurrency)
        async with aclosing(Journaled(teacher, journal).ask(requests, counts=counts)) as results:
            async for _, answer in results:
                assert answer.failure is None, answer
    return counts


async def bare(url: str, requests: Sequence[Request], concurrency: int) -> Counts:
    """As many sockets as requests in flight, each with the next request as soon as its reply is there."""
    counts, waiting, address = Counts(), list(reversed(requests)), urlsplit(url)

    async def work() -> None:
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        while waiting:
            body = json.dumps(waiting.pop().body).encode()
            head = f"POST {address.path}/chat/completions HTTP/1.1\r\nHost: {address.netloc}\r\n"
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            reply = await reader.readuntil(b"\r\n\r\n")
            assert b" 200 " in reply.split(b"\r\n", 1)[0], reply
            length = int(re.search(rb"content-length: (\d+)", reply, re.I)[1])
            answer = json.loads(await reader.readexactly(length))
            counts.completion_tokens += answer["usage"]["completion_tokens"]
            counts.answered += 1
        writer.close()

    await asyncio.gather(*(work() for _ in range(concurrency)))
    return counts


def new_requests(conversations: Sequence[Messages], tokens: int) -> list[Request]:
    """Requests for exactly so many tokens, whose beginning no request had before: nothing comes from the cache."""
    sampling = {"temperature": 0.3, "max_tokens": tokens, "ignore_eos": True}
    requests = []
    for messages in conversations:
        text = f"[{random.getrandbits(64):016x}] {messages[0]['content']}"
        requests.append(Request(MODEL, [{"role": "user", "content": text}], sampling))
    return requests


def compare(url: str, conversations: Sequence[Messages], options: argparse.Namespace) -> str:
    done: list[Counts] = []

    def run(loop: Callable) -> Callable[[], None]:
        def once() -> None:
            requests = new_requests(conversations, options.tokens)
            done.append(asyncio.run(loop(url, requests, options.concurrency)))
            assert done[-1].completion_tokens == len(conversations) * options.tokens, done[-1]

        return once

    seconds = alternate({"bare asyncio loop": run(bare), "our client": run(ours)}, options.rounds)
    tokens = len(conversations) * options.tokens
    rows = []
    for name, took in seconds.items():
        speeds = [tokens / each for each in took]
        told = ", ".join(f"{speed:.1f}" for speed in speeds)
        rows.append({"client": name, "tokens/s by round": told, "median": f"{median(speeds):.1f}"})
    share = ratio(seconds["bare asyncio loop"], seconds["our client"])
    return (
        f"{len(conversations)} critiques of {options.tokens} tokens each, {options.concurrency} in flight, "
        f"{options.rounds} rounds in turns after one that does not count.\n\n{table(rows)}\n\n"
        f"Our client's tokens/s over the bare loop's: {share}."
    )


# ---- the order ----


def cache_counts(url: str) -> tuple[float, float]:
    """Prompt tokens that the server looked for in its prefix cache, and found there."""
    text = urllib.request.urlopen(url.removesuffix("/v1") + "/metrics").read().decode()

    def value(name: str) -> float:
        return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(f"vllm:{name}_total"))

    return value("prefix_cache_queries"), value("prefix_cache_hits")


def compare_orders(url: str, conversations: Sequence[Messages], options: argparse.Namespace) -> str:
    """Eight tokens each, so that it is the prompts that take the time."""
    rows = []
    for critiques in (1, 4):
        asked = [messages for messages in conversations[: options.compared // critiques] for _ in range(critiques)]
        shares: dict[str, list[float]] = {"shuffled": [], "neighbours": []}
        seconds = alternate({order: one_order(url, asked, order, shares[order]) for order in shares}, options.rounds)
        gain = ratio(seconds["shuffled"], seconds["neighbours"])
        for order, took in seconds.items():
            rows.append(
                {
                    "critiques of a response": critiques,
                    "order": order,
                    "prompt tokens from the cache": f"{median(shares[order]):.1%}",
                    "seconds": f"{median(took):.1f}",
                    "as fast": gain if order == "neighbours" else "",
                }
            )
    blocks = f"{options.compared} requests; a cache of {options.blocks} blocks of {options.block_size} tokens"
    return f"{blocks}.\n\n{table(rows)}"


def one_order(url: str, conversations: Sequence[Messages], order: str, shares: list[float]) -> Callable[[], None]:
    def once() -> None:
        nonce, given = f"[{random.getrandbits(64):016x}] ", list(conversations)
        if order == "shuffled":
            random.Random(len(shares)).shuffle(given)
        turns = [[{"role": "user", "content": nonce + messages[0]["content"]}] for messages in given]
        sampling = {"temperature": 0.0, "max_tokens": 8, "ignore_eos": True}
        before = cache_counts(url)
        # A sample's number of its own for each, since our client asks for nothing twice.
        requests = [Request(MODEL, turn, sampling, number) for number, turn in enumerate(turns)]
        asyncio.run(ours(url, requests, 8))
        queries, hits = (after - then for after, then in zip(cache_counts(url), before, strict=True))
        shares.append(hits / queries)

    return once


@contextmanager
def server(*more: str) -> Iterator[str]:
    began = time.perf_counter()
    with vllm_server(MODEL, options=more) as url:
        version = json.load(urllib.request.urlopen(url.removesuffix("/v1") + "/version"))["version"]
        print(f"vLLM {version} ready after {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
        yield url


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="GSM8K's train split: JSON lines with question and answer")
    parser.add_argument("--questions", type=int, default=50)
    parser.add_argument("--samples", type=int, default=4, help="responses to each question")
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--compared", type=int, default=96, help="critiques of parts 2 and 3")
    parser.add_argument("--tokens", type=int, default=64, help="tokens of each in part 2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--blocks", type=int, default=384, help="cache blocks of the server of part 3")
    parser.add_argument("--block-size", type=int, default=32, help="tokens of such a block")
    parser.add_argument("--parts", nargs="+", choices=list(TITLES), default=list(TITLES))
    parser.add_argument("--folder", type=Path, help="keeps the run's files here")
    parser.add_argument("--no-save", action="store_true", help="print only")
    options = parser.parse_args()
    told: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        if {"run", "client"} & set(options.parts):
            with server() as url:
                if "run" in options.parts:
                    told["run"] = build(url, folder, options.data, options.questions, options.samples, options)
                if "client" in options.parts:
                    told["client"] = compare(url, criticised(folder)[: options.compared], options)
        if "order" in options.parts:
            small = ("--block-size", str(options.block_size), "--num-gpu-blocks-override", str(options.blocks))
            with server(*small) as url:
                told["order"] = compare_orders(url, criticised(folder), options)
    body = f"vLLM on this machine's CPU, {os.environ.get('CFT_VLLM_OPTIONS', '')}; model {MODEL}.\n"
    body += "".join(f"\n### {TITLES[part]}\n\n{text}\n" for part, text in told.items())
    record("The synthesis client on a real server", body.rstrip(), save=not options.no_save)


def criticised(folder: Path) -> list[Messages]:
    """The requests of the run's critiques, responses to one question as neighbours."""
    return [critique_messages(row) for row in RowFile(stage_path(folder, "respond"))]


if __name__ == "__main__":
    main()
