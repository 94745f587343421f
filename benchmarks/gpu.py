"""Training on one GPU: tokens per second, MFU against the measured matmul peak, peak memory; TRL and CFTTrainer.

    python benchmarks/gpu.py                             Qwen2.5-1.5B's shape, random weights; 8 minutes at most
    python benchmarks/gpu.py --model Qwen/Qwen2.5-7B     bf16 weights and optimizer, packs of 4,096 and 8,192
    python benchmarks/gpu.py --smollm2                   and a real training of SmolLM2-135M, a hundred steps
    python benchmarks/gpu.py --smoke --no-save           a tiny model on a CPU: does the script run?

A step is forward, backward and AdamW over the same rows for all: one query, responses with seven critiques each, prompt
736 and critique 614 tokens on average (the one-shot shape). TRL's best setting is packing=bfd, padding-free, with each
attention that is installed. MFU counts 6 FLOPs per parameter and token, attention within rows, the LM head where there
is loss, nothing computed twice; for shared prefixes it counts the tokens computed, `row tokens/s` those of the rows.
Then one step's loss and gradients are compared: shared and unshared in bf16, each against fp32.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import logging
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import datasets
import torch
from measure import record, table
from training_step import Step, make_rows

SMOKE = {
    "model_type": "qwen2", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 2048, "tie_word_embeddings": True,
}  # fmt: skip
CRITIQUES = 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="Qwen/Qwen2.5-1.5B", help="a shape of plan_models.PUBLISHED")
    parser.add_argument("--packs", type=int, nargs="+", help="tokens of a pack (default 4096 8192 16384)")
    parser.add_argument("--repeats", type=int, default=5, help="steps that count, after two that do not")
    parser.add_argument("--minutes", type=float, default=7.0, help="nothing new is begun after so long")
    parser.add_argument("--smollm2", action="store_true", help="also train SmolLM2-135M for a hundred steps")
    parser.add_argument("--smoke", action="store_true", help="a tiny model, on a CPU too")
    parser.add_argument("--no-save", action="store_true")
    options = parser.parse_args()
    if not (torch.cuda.is_available() or options.smoke):
        raise SystemExit("no GPU here; --smoke runs the script with a tiny model on a CPU")
    datasets.disable_progress_bars()
    logging.disable(logging.WARNING)
    deadline = time.monotonic() + 60 * options.minutes
    options.repeats = 1 if options.smoke else options.repeats
    peak = matmul_peak(256 if options.smoke else 8192)
    usual = [512] if options.smoke else [4096, 8192] if "7B" in options.model else [4096, 8192, 16384]
    packs = options.packs or usual
    lines, left_out = [], []
    for pack in packs:
        for name, attention, fields in contestants():
            if time.monotonic() > deadline:
                left_out.append(f"{name} at {pack:,}")
                continue
            lines.append(measure(options, name, attention, fields, pack, peak))
            print(lines[-1], file=sys.stderr, flush=True)
    body = (
        f"{options.model if not options.smoke else 'a tiny model'}, random weights, bf16; measured matmul peak "
        f"{peak / 1e12:.1f} TFLOP/s ({'8,192' if not options.smoke else '256'} cubed, bf16)\n\n{table(lines)}\n"
    )
    if left_out:
        body += f"\nNot measured, time was up: {', '.join(left_out)}.\n"
    else:
        body += f"\n{exactness(options, packs[0])}\n"
    if options.smollm2:
        body += f"\n{train_smollm2()}\n"
    if torch.cuda.is_available():
        body += (
            f"\nFor `cft_trl/planning/hardware.yaml`: utilisation of the data sheet's peak is MFU x "
            f"{peak / 1e12:.0f} / that peak; status: measured.\n"
        )
    record("Training on a GPU" if torch.cuda.is_available() else "Smoke run", body, save=not options.no_save)


def contestants() -> list[tuple[str, str, dict[str, Any]]]:
    """(name, attention, settings) of all that are measured here."""
    attentions = ["sdpa"]
    if torch.cuda.is_available():
        attentions.append("flex_attention")
        if importlib.util.find_spec("flash_attn"):
            attentions.append("flash_attention_2")
    packed = {"packing": True}
    plain = [(f"{who} packing=bfd, {kind}", kind, packed) for kind in attentions for who in ("TRL", "cft-trl")]
    return [*plain, ("cft-trl share_prefixes", "sdpa", {"share_prefixes": "true"})]


def matmul_peak(size: int) -> float:
    """FLOP/s of bf16 matrix products, the best of several."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    a, b = (torch.randn(size, size, dtype=torch.bfloat16, device=device) for _ in range(2))
    best = 0.0
    for _ in range(8):
        began = time.perf_counter()
        for _ in range(10):
            torch.mm(a, b)
        synchronize()
        best = max(best, 10 * 2 * size**3 / (time.perf_counter() - began))
    return best


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def measure(
    options: argparse.Namespace, name: str, attention: str, fields: dict[str, Any], pack: int, peak: float
) -> dict[str, object]:
    """Time and memory of a contestant's step."""
    from cft_trl.planning.model_shape import _shape
    from cft_trl.planning.plan import training_flops

    rows = rows_of(options, pack)
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(options, name.split()[0], attention, fields, rows, pack, folder)
        step = WholeStep(trainer)
        optimizer = trainer.create_optimizer()
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        seconds = []
        for number in range(options.repeats + 2):
            synchronize()
            began = time.perf_counter()
            step()
            optimizer.step()
            synchronize()
            if number > 1:
                seconds.append(time.perf_counter() - began)
    computed = sum(batch["input_ids"].numel() for batch in step.batches)
    whole = sum(len(ids) for ids in rows["input_ids"])
    shape = _shape(trainer.model.config, options.model)
    flops, _ = training_flops(shape, computed, whole / len(rows), step.targets, checkpointing=False)
    seconds.sort()
    median = seconds[len(seconds) // 2]
    memory = torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else float("nan")
    del trainer, step, optimizer
    release()
    return {
        "contestant": name,
        "pack": f"{pack:,}",
        "tokens computed": f"{computed:,}",
        "ms/step": f"{1e3 * median:.0f} ({1e3 * seconds[0]:.0f} to {1e3 * seconds[-1]:.0f})",
        "tokens/s": f"{computed / median:,.0f}",
        "row tokens/s": f"{whole / median:,.0f}",
        "MFU": f"{flops / median / peak:.1%}",
        "peak GiB": f"{memory:.1f}",
    }


def rows_of(options: argparse.Namespace, pack: int) -> datasets.Dataset:
    """Rows of some 32,768 tokens, at least of two packs, of the one-shot shape."""
    prompt, critique = (60, 40) if options.smoke else (736, 614)
    each = CRITIQUES * (prompt + critique)
    responses = max(2, round(max(2 * pack, 1024 if options.smoke else 32_768) / each))
    return make_rows(prompt, critique, CRITIQUES, responses, SMOKE["vocab_size"] if options.smoke else 40_000)


def make_trainer(
    options: argparse.Namespace, who: str, attention: str, fields: dict, rows, pack: int, folder: str
) -> Any:
    from trl import SFTConfig, SFTTrainer

    from cft_trl import CFTConfig, CFTTrainer
    from cft_trl.models.loading import load_tokenizer

    config_class, trainer_class = (SFTConfig, SFTTrainer) if who == "TRL" else (CFTConfig, CFTTrainer)
    settings = {
        "use_cpu": not torch.cuda.is_available(), "bf16": torch.cuda.is_available(), "report_to": "none",
        "max_length": pack, "gradient_checkpointing": False, "per_device_train_batch_size": 1, "shuffle_dataset": False,
        "save_strategy": "no", **fields,
    }  # fmt: skip
    return trainer_class(
        random_model(options, attention), config_class(folder, **settings), train_dataset=rows,
        processing_class=load_tokenizer("smollm2-135m"),  # nothing is tokenised: it only names special tokens
    )  # fmt: skip


def random_model(options: argparse.Namespace, attention: str) -> Any:
    """The model's shape with random weights, the same every time; 7B in bf16, so that its optimizer fits."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from cft_trl.planning.model_shape import PUBLISHED

    fields = dict(SMOKE if options.smoke else PUBLISHED[options.model])
    config = AutoConfig.for_model(fields.pop("model_type"), max_position_embeddings=32_768, **fields)
    dtype = torch.bfloat16 if config.hidden_size > 3000 else torch.float32
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        return AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=attention)


def release() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def exactness(options: argparse.Namespace, pack: int) -> str:
    """Loss and gradients of one step: bf16 shared and unshared, each against fp32 unshared."""
    rows = rows_of(options, pack)
    found = {}
    for name, fields, bf16 in (
        ("fp32, unshared", {"packing": True}, False),
        ("bf16, unshared", {"packing": True}, True),
        ("bf16, shared", {"share_prefixes": "true"}, True),
    ):
        with tempfile.TemporaryDirectory() as folder:
            trainer = make_trainer(options, "cft-trl", "sdpa", fields, rows, pack, folder)
            step = WholeStep(trainer, bf16)
            step()
        gradients = [parameter.grad.float().cpu() for parameter in trainer.model.parameters()]
        found[name] = step.loss, gradients
        del trainer, step
        release()
    loss, reference = found["fp32, unshared"]
    norm = sum(float(g.pow(2).sum()) for g in reference) ** 0.5
    lines = []
    for name, (other, gradients) in found.items():
        away = sum(float((g - r).pow(2).sum()) for g, r in zip(gradients, reference, strict=True)) ** 0.5
        lines.append({"step": name, "loss": f"{other:.6f}", "loss, relative": f"{abs(other - loss) / loss:.1e}",
                      "gradients, relative": f"{away / norm:.1e}"})  # fmt: skip
    return f"Against the unshared step in fp32:\n\n{table(lines)}"


class WholeStep(Step):
    """The step of training_step.py under bf16 autocast, as `trainer.train()` computes it; leaves its gradients."""

    def __init__(self, trainer: Any, bf16: bool = True) -> None:
        super().__init__(trainer, kind="")
        self.bf16, self.device = bf16, "cuda" if torch.cuda.is_available() else "cpu"

    def __call__(self) -> None:
        model = self.trainer.model.train()
        model.zero_grad()
        self.loss = 0.0
        for batch in self.batches:
            with torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.bf16):
                loss = self.trainer.compute_loss(model, dict(batch), num_items_in_batch=self.targets)
            loss.backward()
            self.loss += float(loss.detach())


def train_smollm2() -> str:
    root = Path(__file__).parent.parent
    command = [sys.executable, "recipes/cft.py", "--config", "recipes/smollm2-135m/cft.yaml", "--use_cpu", "false"]
    command += ["--max_steps", "100", "--generated_rows", "0", "--per_device_train_batch_size", "8"]
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        done = subprocess.run([*command, "--output_dir", folder], capture_output=True, text=True, cwd=root)
        took = time.perf_counter() - began
    last = done.stdout.strip().splitlines()[-1:] if done.returncode == 0 else done.stderr.strip().splitlines()[-1:]
    return f"SmolLM2-135M, 100 steps of recipes/smollm2-135m/cft.yaml: {took:.0f} s with start-up; {''.join(last)}"


if __name__ == "__main__":
    main()
