"""Texts by transformers in this process: ours now, ours without what makes it faster, `model.generate`, and vLLM.

    python benchmarks/generation.py                                  32 problems, 192 tokens, SmolLM2-135M, 5 rounds
    CFT_VLLM_PYTHON=… python benchmarks/generation.py --vllm         vLLM on this CPU beside them
    python benchmarks/generation.py --threads 1 --tokens 64 --rounds 3 --cpu-time        a machine with other work

    python benchmarks/generation.py --long 1                         one prompt of 60 problems among 31 of one

Prompts are written by the house (arithmetic, levels 1 to 3), greedy. Every round asks each way once, in turning order.
Ours in float32 must write the same texts each way (counted; rounding may turn a near tie). `--cpu-time` divides by the
CPU seconds of this process and not by the clock; vLLM, another process, is left out then.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

BATCHES = (8, 16, 32)  # of model.generate; the best counts
PROBLEMS_OF_LONG = 59  # before the one that is asked last


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--long", type=int, default=0, help="so many prompts are of 60 problems, about 2,000 tokens")
    parser.add_argument("--tokens", type=int, default=192)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--no-bf16", action="store_true")
    parser.add_argument("--vllm", action="store_true")
    options = parser.parse_args()
    import torch

    from cft_trl.generation import batch_sizes
    from cft_trl.generation.faster import PLAIN
    from cft_trl.generation.local import LocalModel
    from cft_trl.generation.open import open_local, opened
    from cft_trl.models.loading import load_model
    from cft_trl.sources.arithmetic import arithmetic_records

    if options.threads:
        torch.set_num_threads(options.threads)
    clock = time.process_time if options.cpu_time else time.perf_counter
    rows = arithmetic_records(options.prompts, levels=(1, 2, 3))
    queries = [row["query"] for row in rows]
    for at in range(options.long):
        queries[at] = "\n\n".join(queries[(at + step) % len(queries)] for step in range(PROBLEMS_OF_LONG, -1, -1))
    asked = [[{"role": "user", "content": query}] for query in queries]
    plain = LocalModel(*load_model(options.model, dtype="float32"))
    now = open_local(options.model, dtype="float32", device="cpu")

    def ours(model: LocalModel, value: str = "") -> list[str]:
        os.environ[PLAIN] = value
        made = model.generate(asked, max_new_tokens=options.tokens)
        return [f"{one.completion_tokens} {one.text}" for one in made]

    divide = batch_sizes.batch_sizes

    def together(model: LocalModel) -> list[str]:
        batch_sizes.batch_sizes = lambda _, lengths, most, __: [len(lengths)]
        try:
            return ours(model)
        finally:
            batch_sizes.batch_sizes = divide

    def static(batch: int) -> list[str]:
        return _static(plain.model, plain.tokenizer, asked, batch, options.tokens)

    ways: dict[str, Callable[[], list[str]]] = {
        "ours before (16 rows)": lambda: ours(plain, "1"),
        "ours now, float32": lambda: ours(now),
        **{f"model.generate, {batch} rows": (lambda batch=batch: static(batch)) for batch in BATCHES},
    }
    if options.long:
        ways["ours, float32, one batch"] = lambda: together(now)
    with ExitStack() as closing:
        if not options.no_bf16:
            half = open_local(options.model, dtype="bfloat16", device="cpu")
            ways["ours now, bfloat16"] = lambda: ours(half)
            if options.long:
                ways["ours, bfloat16, one batch"] = lambda: together(half)
        if options.vllm and not options.cpu_time:
            served = closing.enter_context(opened("vllm", options.model, name="m", dtype="float32"))

            def vllm() -> list[str]:
                made = served.generate(asked, max_new_tokens=options.tokens)
                return [f"{one.completion_tokens} {one.text}" for one in made]

            ways["vLLM, float32"] = vllm
        speeds: dict[str, list[float]] = {name: [] for name in ways}
        texts: dict[str, list[str]] = {}
        names = list(ways)
        for number in range(options.rounds):
            for name in names[number % len(names) :] + names[: number % len(names)]:
                began = clock()
                texts[name] = ways[name]()
                tokens = sum(int(text.split(" ", 1)[0]) for text in texts[name])
                speeds[name].append(tokens / (clock() - began))
    unit = "tokens per CPU second" if options.cpu_time else "tokens/s"
    print(f"| way | {unit}, median (lowest to highest) | times ours before | same texts as before |\n|---|---|---|---|")
    base = "ours before (16 rows)"
    for name, found in speeds.items():
        ratio = statistics.median(a / b for a, b in zip(found, speeds[base], strict=True))
        same = sum(a == b for a, b in zip(texts[name], texts[base], strict=True))
        spread = f"{statistics.median(found):.0f} ({min(found):.0f} to {max(found):.0f})"
        print(f"| {name} | {spread} | {ratio:.2f} | {same} of {len(asked)} |")


def _static(model: Any, tokenizer: Any, asked: list[Any], batch: int, tokens: int) -> list[str]:
    """What one would write oneself: prompts in order of length, padded batches, `model.generate`."""
    import torch

    from cft_trl.generation.local import render_prompt

    prompts = [render_prompt(tokenizer, conversation) for conversation in asked]
    order, found = sorted(range(len(prompts)), key=lambda at: len(prompts[at])), {}
    tokenizer.padding_side = "left"
    for begin in range(0, len(order), batch):
        places = order[begin : begin + batch]
        inputs = tokenizer([prompts[at] for at in places], return_tensors="pt", padding=True, add_special_tokens=False)
        with torch.inference_mode():
            out = model.generate(**inputs, max_new_tokens=tokens, do_sample=False)
        for at, row in zip(places, out[:, inputs["input_ids"].shape[1] :].tolist(), strict=True):
            end = row.index(tokenizer.eos_token_id) + 1 if tokenizer.eos_token_id in row else len(row)
            found[at] = f"{end} {tokenizer.decode(row[:end], skip_special_tokens=True)}"
    return [found[at] for at in range(len(asked))]


if __name__ == "__main__":
    main()
