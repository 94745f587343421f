"""`cft plan` against reality on a CPU: planned memory beside the measured peak, planned time beside the measured.

    python benchmarks/plan_check.py                       SmolLM2-135M, ten settings, about eight minutes
    python benchmarks/plan_check.py --only 1024-plain     one of them

Each setting is a few real training steps (`trainer.train()`: forward, backward, clipping, AdamW) in a process of its
own. Measured: the largest resident memory while training, less what the process held before the model was loaded.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import record, table

# name -> length of a row, critiques of one response in a pack (1: nothing to share), and settings
SETTINGS = {
    "512-plain": (512, 1, {"gradient_checkpointing": False}),
    "1024-plain": (1024, 1, {"gradient_checkpointing": False}),
    "1024-checkpointing": (1024, 1, {"gradient_checkpointing": True}),
    "1024-accumulated": (1024, 1, {"gradient_checkpointing": False, "gradient_accumulation_steps": 2}),
    "1024-fp32": (1024, 1, {"gradient_checkpointing": False, "bf16": False}),
    "1024-packed": (1024, 1, {"gradient_checkpointing": False, "packing": True}),
    "2048-checkpointing": (2048, 1, {"gradient_checkpointing": True}),
    "2048-shared": (2048, 7, {"gradient_checkpointing": False, "share_prefixes": "true"}),
    "768-shared-fp32": (768, 3, {"gradient_checkpointing": False, "share_prefixes": "true", "bf16": False}),
    "1536-checkpointing-fp32": (1536, 1, {"gradient_checkpointing": True, "bf16": False}),
}
# The plan's two constants for malloc were fitted to the settings above these.
NOT_FITTED = ("768-shared-fp32", "1536-checkpointing-fp32")
STEPS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=SETTINGS, nargs="+", default=list(SETTINGS))
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--measure", choices=SETTINGS, help=argparse.SUPPRESS)
    parser.add_argument("--no-save", action="store_true")
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options.model)))
        return
    lines = [compare(name, options.model) for name in options.only]
    worst = max(abs(line.pop("off")) for line in lines)
    body = (
        f"{options.model}, {STEPS} optimizer steps each, a row per micro-batch; GiB of resident memory above what the "
        f"process held before the model was loaded; seconds of the last optimizer step. Largest difference of memory "
        f"{worst:.1%}.\n\n{table(lines)}"
    )
    record("cft plan against measured memory", body, save=not options.no_save)


def compare(name: str, model: str) -> dict[str, object]:
    """Measures one setting in a process of its own and plans it."""
    command = [sys.executable, __file__, "--measure", name, "--model", model]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    from cft_trl.planning.plan import PROCESS

    plan = planned(name, model, found)
    above = (plan.memory.peak - PROCESS) / 2**30
    off = above / found["above"] - 1
    return {
        "setting": name + (" (not fitted to)" if name in NOT_FITTED else ""),
        "arithmetic": plan.step.arithmetic,
        "planned": f"{above:.2f}",
        "measured": f"{found['above']:.2f}",
        "difference": f"{off:+.1%}",
        "planned at": plan.memory.moment,
        "before the model": f"{found['before']:.2f}",
        "planned s": f"{plan.time.seconds / plan.work.steps:.1f}",
        "measured s": f"{found['seconds']:.1f}",
        "GFLOP/s": f"{plan.time.hardware_flops / plan.work.steps / found['seconds'] / 1e9:.0f}",
        "off": off,
    }


def planned(name: str, model: str, found: dict):
    from cft_trl.planning.hardware import read_hardware
    from cft_trl.planning.model_shape import model_shape
    from cft_trl.planning.plan import PlannedRun, make_plan

    length, _, settings = SETTINGS[name]
    run = PlannedRun(
        model,
        rows=STEPS * found["rows"],
        max_length=length,
        micro_batch=1,
        accumulation=settings.get("gradient_accumulation_steps", 1),
        packing=bool(settings.get("packing")),
        row_tokens=found["row_tokens"],
        sharing=found["ratio"],
        targets=found["targets"] / (found["row_tokens"] * found["rows"]),
        checkpointing=settings["gradient_checkpointing"],
        bf16=found["bf16"],
    )
    return make_plan(run, model_shape(model), read_hardware("cpu"))


def measure(name: str, model: str) -> dict[str, object]:
    """Trains a few steps in this process -> peak above the start, and what the rows were like."""
    import datasets
    import torch
    from transformers import TrainerCallback

    from cft_trl import CFTConfig, CFTTrainer
    from cft_trl.models.loading import load_tokenizer

    datasets.disable_progress_bars()
    logging.disable(logging.WARNING)
    length, critiques, settings = SETTINGS[name]
    rows = make_rows(length, critiques, STEPS * settings.get("gradient_accumulation_steps", 1))
    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            ends.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        config = CFTConfig(
            folder, use_cpu=True, report_to="none", max_length=length, per_device_train_batch_size=1, max_steps=STEPS,
            save_strategy="no", disable_tqdm=True, logging_steps=1000, shuffle_dataset=False, **settings,
        )  # fmt: skip
        tokenizer = load_tokenizer(model)
        before = resident("VmRSS")
        trainer = CFTTrainer(model, config, train_dataset=rows, processing_class=tokenizer, callbacks=[Clock()])
        assert next(trainer.model.parameters()).dtype == torch.float32
        Path("/proc/self/clear_refs").write_text("5")  # the peak of loading the model is not training's
        trainer.train()
    above = resident("VmHWM") - before
    sharing = trainer.sharing.get("train")
    of_step = range(len(rows) // STEPS)
    tokens = sum(len(rows[i]["input_ids"]) for i in of_step)
    return {
        "above": above / 2**30,
        "before": before / 2**30,
        "seconds": ends[-1] - ends[-2],
        "rows": len(of_step),
        "row_tokens": round(tokens / len(of_step)),
        "targets": sum(label != -100 for i in of_step for label in rows[i]["labels"]),
        "ratio": sharing.ratio if sharing else 1.0,
        "bf16": bool(config.bf16),
    }


def make_rows(length: int, critiques: int, steps: int):
    """Rows of random tokens, half of them critique; with several critiques, packs of `length` that share prompts."""
    from random import Random

    from datasets import Dataset

    draw, rows = Random(0), []

    def some(count: int) -> list[int]:
        return [draw.randrange(100, 40_000) for _ in range(count)]

    for _ in range(steps):
        prompt = length // (critiques + 1) if critiques > 1 else length // 2
        start = some(prompt)
        for _ in range(critiques):
            target = some((length - prompt) // critiques - (1 if critiques > 1 else 0))
            rows.append({"input_ids": start + target, "labels": [-100] * prompt + target})
    return Dataset.from_list(rows)


def resident(field: str) -> int:
    """Bytes, of /proc/self/status: `VmRSS` now, `VmHWM` at most."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise OSError(f"no {field} on {os.uname().sysname}")


if __name__ == "__main__":
    main()
