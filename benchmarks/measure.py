"""What the comparisons share: alternating rounds, a table, and a line that says where and when it was measured.

Contestants take turns, so that what else the machine does meets all of them; a ratio is the median of the rounds'
ratios, with the smallest and largest beside it.
"""

from __future__ import annotations

import datetime
import gc
import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).parent / "RESULTS.md"


def alternate(contestants: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Runs each contestant once a round, after one round that does not count; returns seconds by name and round."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name, run in contestants.items():
            gc.collect()
            began = time.perf_counter()
            run()
            took = time.perf_counter() - began
            if number:
                seconds[name].append(took)
            if sys.stderr.isatty():
                print(f"round {number}/{rounds} {name}: {took:.2f} s", file=sys.stderr)
    return seconds


def ratio(slower: Sequence[float], faster: Sequence[float]) -> str:
    """How many times as fast the second is, by rounds: "2.10x (2.05 to 2.31)"."""
    ratios = [a / b for a, b in zip(slower, faster, strict=True)]
    return f"{statistics.median(ratios):.2f}x ({min(ratios):.2f} to {max(ratios):.2f})"


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """A Markdown table; the first row's keys are the columns."""
    columns = list(rows[0])
    lines = [columns, ["---"] * len(columns), *([str(row[column]) for column in columns] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def machine() -> str:
    """The processor, its cores, the accelerator if there is one, and the versions that matter."""
    import torch

    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ", no GPU"
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "trl", "datasets"))
    return f"{model}, {len(os.sched_getaffinity(0))} cores{gpu}; {versions}, Python {platform.python_version()}"


def record(title: str, body: str, *, save: bool = True) -> None:
    """Prints a result; appends it to RESULTS.md with its command, machine and date."""
    command = shlex.join(["python", *(os.path.relpath(word) if Path(word).exists() else word for word in sys.argv)])
    text = f"\n## {title}\n\n`{command}`, {datetime.date.today()}, {machine()}\n\n{body}\n"
    print(text)
    if save:
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write(text)


def tiny(tokenizer):
    """A model that takes next to nothing, for what is measured around it."""
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
            num_attention_heads=2, num_key_value_heads=2,
        )
    )  # fmt: skip
