"""Seven checkpoints of SmolLM2-135M through vLLM on this machine: a race on one server, against the way of before.

    CFT_VLLM_PYTHON=… python benchmarks/selection_wall.py              2 rounds, some 30 minutes on two idle cores
    CFT_VLLM_PYTHON=… python benchmarks/selection_wall.py --problems 60 --rounds 1 --ways before race

The checkpoints are the model with more or less noise in its weights, so that their accuracies differ; the problems ask
for one of two numbers that they state. Ways, in turning order: `--exhaustive --server-per-checkpoint` (as it was until
2026-11), `--exhaustive` (one server), and the race. Told are seconds, tokens written, and the step that was chosen.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WAYS = {
    "before": ("a server each, everything", ["--exhaustive", "--server-per-checkpoint"]),
    "server": ("one server, everything", ["--exhaustive"]),
    "race": ("one server, race", []),
}
NOISE = (0.08, 0.05, 0.02, 0.005, 0.01, 0.03, 0.06)  # of a weight matrix's own spread


def make_run(folder: Path) -> None:
    """Seven checkpoints under `folder`."""
    import torch

    from cft_trl.models.loading import load_model

    model, tokenizer = load_model("smollm2-135m", dtype="float32")
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    rng = torch.Generator().manual_seed(0)
    for number, noise in enumerate(NOISE, 1):
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                drawn = torch.randn(parameter.shape, generator=rng)
                parameter.copy_(before[name] + noise * before[name].std() * drawn)
        checkpoint = folder / f"checkpoint-{10 * number}"
        model.save_pretrained(checkpoint)
        tokenizer.save_pretrained(checkpoint)
        (checkpoint / "trainer_state.json").write_text(json.dumps({"global_step": 10 * number}))
    (folder / "training.json").write_text(json.dumps({"turns": {"dtype": "float32"}}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument(
        "--ways", nargs="+", choices=WAYS, default=list(WAYS), help="the first is what is compared with"
    )
    options = parser.parse_args()
    os.environ.setdefault("CFT_VLLM_OPTIONS", "--enforce-eager --max-model-len 1024 --gpu-memory-utilization 0.5")
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
    # What is timed asks the Hub nothing; without a network it would try again for minutes.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    seconds: dict[str, list[float]] = {way: [] for way in options.ways}
    told: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="cft-selection-") as scratch:
        run, problems = Path(scratch) / "run", Path(scratch) / "problems.jsonl"
        run.mkdir()
        make_run(run)
        pairs = [(7 * at % 53 + 3, 11 * at % 47 + 60) for at in range(options.problems)]
        told_and_asked = "Ada has {} apples and Ben has {}. How many apples has Ben? Answer with the number."
        lines = [{"query": told_and_asked.format(*pair), "gold": str(pair[1])} for pair in pairs]
        problems.write_text("\n".join(map(json.dumps, lines)) + "\n")
        names = options.ways
        for number in range(options.rounds):
            for way in names[number % len(names) :] + names[: number % len(names)]:
                shutil.rmtree(run / "_selected", ignore_errors=True)
                command = [sys.executable, "-m", "cft_trl.cli", "select", str(run), "--backend", "vllm"]
                command += ["--benchmark", str(problems), "--max-new-tokens", str(options.tokens), *WAYS[way][1]]
                began = time.monotonic()
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
                seconds[way].append(time.monotonic() - began)
                result = json.loads((run / "selection.json").read_text())
                tokens, answers = (sum(point[name] for point in result["curve"]) for name in ("tokens", "of"))
                told[way] = (
                    f"{answers:,} | {tokens:,} | step {result['winner']['step']}, {result['winner']['score']:.1%}"
                )
                print(f"{way}: {seconds[way][-1]:.0f} s | {told[way]}", file=sys.stderr, flush=True)
    print(f"| way | seconds, median (all) | of {WAYS[names[0]][0]} | answers | tokens | chosen |")
    print("|---|---|---|---|---|---|")
    base = statistics.median(seconds[names[0]])
    for way, found in seconds.items():
        median, each = statistics.median(found), ", ".join(f"{one:.0f}" for one in found)
        print(f"| {WAYS[way][0]} | {median:.0f} ({each}) | {median / base:.2f} | {told[way]} |")


if __name__ == "__main__":
    main()
