"""How the app does when many ask at once: what visitors who arrive together wait, and whether anybody gets an error.

    python benchmarks/space_load.py --model runs/mine --users 20        # starts `cft demo`, asks, appends to RESULTS.md

Half of the users solve and half critique, each another problem, through gradio_client as a program would. A user's wait
is counted from the request to the first piece of text, and to the last.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from measure import record, table

from cft_trl.sources.arithmetic import arithmetic_records


@dataclass
class User:
    """One visitor and what became of the request; times in seconds."""

    api_name: str
    arguments: list[str]
    first: float | None = None
    whole: float | None = None
    ranks: list[int] = field(default_factory=list)
    tokens: int = 0
    error: str | None = None

    def ask(self, address: str, ready: threading.Barrier, most: int) -> None:
        from gradio_client import Client
        from gradio_client.utils import Status

        client = Client(address, verbose=False)
        ready.wait()
        began = time.perf_counter()
        try:
            job = client.submit(*self.arguments, max_new_tokens=most, api_name=self.api_name)
            while not job.done():
                status = job.status()
                if status.code == Status.IN_QUEUE and status.rank is not None:
                    self.ranks.append(status.rank)
                if self.first is None and any(_text(value) for value in job.outputs()):
                    self.first = time.perf_counter() - began
                time.sleep(0.05)
            answer = job.result()
            self.whole = time.perf_counter() - began
            self.first = self.first or self.whole
            self.tokens = answer["completion_tokens"] or 0
            if not answer["done"]:
                self.error = "not done"
        except Exception as error:
            self.error = f"{type(error).__name__}: {error}"


def _text(answer: dict[str, Any]) -> str:
    return answer.get("answer") or answer.get("critique") or ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--endpoint", help="of the model, instead of one in the app")
    parser.add_argument("--users", type=int, default=20)
    parser.add_argument("--max-new-tokens", type=int, default=128)
    parser.add_argument("--concurrency", type=int, default=0, help="texts written at once (default: the app's)")
    parser.add_argument("--port", type=int, default=7899)
    parser.add_argument("--no-save", action="store_true")
    options = parser.parse_args()
    command = [sys.executable, "-m", "cft_trl.cli", "demo", "--model", options.model, "--port", str(options.port)]
    command += ["--host", "127.0.0.1"]
    command += ["--endpoint", options.endpoint] if options.endpoint else []
    command += ["--concurrency", str(options.concurrency)] if options.concurrency else []
    address = f"http://127.0.0.1:{options.port}/"
    rows = list(arithmetic_records(options.users, seed=4, levels=(1,)))
    users = [
        User("/critique", [row["query"], row["response"]]) if i % 2 else User("/solve", [row["query"]])
        for i, row in enumerate(rows)
    ]
    app = subprocess.Popen(command, env=os.environ | {"HF_HUB_OFFLINE": "1"}, stdout=subprocess.DEVNULL)
    try:
        _wait_for(address, app)
        ready = threading.Barrier(len(users) + 1)
        threads = [threading.Thread(target=u.ask, args=(address, ready, options.max_new_tokens)) for u in users]
        for thread in threads:
            thread.start()
        ready.wait()
        began = time.perf_counter()
        for thread in threads:
            thread.join()
        took = time.perf_counter() - began
    finally:
        app.terminate()
        app.wait()
    record(_title(options), _result(users, took), save=not options.no_save)
    sys.exit(any(user.error for user in users))


def _wait_for(address: str, app: subprocess.Popen, seconds: float = 180.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and app.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError:
            time.sleep(0.5)
    sys.exit("the app did not start")


def _title(options: argparse.Namespace) -> str:
    where = "behind an endpoint" if options.endpoint else "in the app, CPU"
    return f"The Space: {options.users} users at once, {os.path.basename(options.model)} {where}"


def _result(users: list[User], took: float) -> str:
    done = [user for user in users if user.error is None]
    first, whole = [user.first for user in done], [user.whole for user in done]
    tokens = sum(user.tokens for user in users)
    row = {
        "users": len(users),
        "answered": len(done),
        "waited in the queue": sum(bool(user.ranks) for user in users),
        "errors": len(users) - len(done),
        "first word, median / worst (s)": f"{statistics.median(first):.1f} / {max(first):.1f}" if done else "",
        "whole answer, median / worst (s)": f"{statistics.median(whole):.1f} / {max(whole):.1f}" if done else "",
        "tokens": f"{tokens:,}",
        "tokens/s, all users": f"{tokens / took:.1f}",
    }
    errors = Counter(user.error for user in users if user.error)
    told = "".join(f"\n\n{count} x {error}" for error, count in errors.items())
    return table([row]) + told


if __name__ == "__main__":
    main()
