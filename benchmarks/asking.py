"""How fast an instant server is asked: our client, the loop that most people write, and Curator.

    python benchmarks/asking.py --curator ~/curator/bin/python        an environment with bespokelabs-curator

Each contestant is a process of its own that asks the same questions, up to 128 at once, and keeps each answer in a file
as it comes: our client in its journal, the loop (`openai.AsyncOpenAI`, 128 workers) and Curator as a line of JSON.
Seconds are those of the asking alone, without imports; CPU seconds are the process's in that time. The server of
build_throughput.py has a process of its own on the same machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

from build_throughput import TREE, instant_server, processor

QUESTION = "Below are a question and a solution. Judge whether the solution is right, step by step. " * 18
_OURS = """
import asyncio
from contextlib import aclosing
import openai, httpx2
from cft_trl.generation.client import Teacher
from cft_trl.generation.journal import Journal
from cft_trl.generation.journaled import Journaled
from cft_trl.generation.types import Request

async def run():
    teacher = Teacher("m", url)
    with Journal(folder) as journal:
        requests = (Request("m", [{"role": "user", "content": text}], sampling) for text in questions)
        async with aclosing(teacher.ask(requests, Journaled(teacher, journal, "0" * 32))) as answers:
            return len([request async for request, made in answers if made.failure is None])

work = lambda: asyncio.run(run())
"""
_LOOP = """
import asyncio
import openai

async def run():
    waiting, done = iter(questions), 0
    async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
        with open(folder + "/answers.jsonl", "w") as file:
            async def worker():
                nonlocal done
                for text in waiting:
                    reply = await client.chat.completions.create(
                        model="m", messages=[{"role": "user", "content": text}], **sampling)
                    file.write(json.dumps({"text": reply.choices[0].message.content}) + "\\n")
                    done += 1
            await asyncio.gather(*(worker() for _ in range(128)))
    return done

work = lambda: asyncio.run(run())
"""
# It counts tokens by tiktoken, whose table LiteLLM brings; without it tiktoken asks the network.
_CURATOR = """
import os
from importlib.util import find_spec
tables = find_spec("litellm").submodule_search_locations[0] + "/litellm_core_utils/tokenizers"
os.environ |= {"CURATOR_CACHE_DIR": folder, "TELEMETRY_ENABLED": "false", "CURATOR_DISABLE_RICH_DISPLAY": "1",
               "OPENAI_API_KEY": "none", "HF_HUB_OFFLINE": "1", "TIKTOKEN_CACHE_DIR": tables}
from bespokelabs import curator

llm = curator.LLM(model_name="m", backend="openai", generation_params=sampling, backend_params={
    "base_url": url, "api_key": "none", "max_requests_per_minute": 10**7, "max_tokens_per_minute": 10**11,
    "max_concurrent_requests": 128})

def work():
    made = llm([[{"role": "user", "content": text}] for text in questions])
    return len(getattr(made, "dataset", made))
"""
_CHILD = """
import json, sys, time
url, count, folder, question = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
questions = [f"{at}: {question}" for at in range(count)]
sampling = {"temperature": 0.3, "top_p": 0.95, "max_tokens": 3200}
%s
wall, cpu = time.perf_counter(), time.process_time()
done = work()
print("RESULT", json.dumps([time.perf_counter() - wall, time.process_time() - cpu, done]))
"""


def ask(python: str, code: str, url: str, count: int) -> tuple[float, float]:
    """Seconds and CPU seconds of one contestant."""
    with tempfile.TemporaryDirectory(prefix="cft-asking-") as folder:
        command = [python, "-c", _CHILD % code, url, str(count), folder, QUESTION]
        environment = {**os.environ, "PYTHONPATH": str(TREE) if code == _OURS else ""}
        made = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder)
    line = next((line for line in made.stdout.splitlines() if line.startswith("RESULT ")), None)
    if line is None:
        sys.exit(made.stdout[-1000:] + made.stderr[-2000:])
    wall, cpu, done = json.loads(line.removeprefix("RESULT "))
    if done != count:
        sys.exit(f"{done} of {count} were answered")
    return wall, cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--curator", help="Python of an environment with bespokelabs-curator")
    options = parser.parse_args()
    contestants = {"our client": (sys.executable, _OURS), "a loop over `openai`": (sys.executable, _LOOP)}
    if options.curator:
        contestants["Curator"] = (options.curator, _CURATOR)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    with instant_server() as url:
        for _ in range(options.rounds):
            for name, (python, code) in contestants.items():
                found[name].append(ask(python, code, url, options.requests))
                print(name, found[name][-1], file=sys.stderr)
    lines = ["| | requests/s | CPU ms a request | ours is as fast | by CPU |", "|---" * 5 + "|"]
    ours = found["our client"]
    for name, runs in found.items():
        rates = " ".join(f"{options.requests / wall:,.0f}" for wall, _ in runs)
        cpu = 1000 * statistics.median(cpu for _, cpu in runs) / options.requests
        told = []
        for which in (0, 1):
            times = [theirs[which] / mine[which] for theirs, mine in zip(runs, ours, strict=True)]
            told.append(f"{statistics.median(times):.2f}x ({min(times):.2f} to {max(times):.2f})")
        lines.append(f"| {name} | {rates} | {cpu:.2f} | {' | '.join(told)} |")
    print(f"{os.cpu_count()} cores of {processor()}, load {os.getloadavg()[0]:.1f}; {options.requests:,} requests\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
