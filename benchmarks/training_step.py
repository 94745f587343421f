"""(2, 3, 4) A training step, forward and backward: TRL against CFTTrainer, unshared and with shared prefixes.

    python benchmarks/training_step.py                          SmolLM2-135M: 1, 2, 4, 7 critiques per response
    python benchmarks/training_step.py --critiques 7 --rounds 9
    python benchmarks/training_step.py --one-shot               the shape of one-shot CFT
    python benchmarks/training_step.py --bf16 --prompt 60 --critique 45 --responses 4 --critiques 2
                                                                bf16 autocast, rows as short as the quickstart's
    python benchmarks/training_step.py --memory                 peak memory, each contestant in a process of its own
    python benchmarks/training_step.py --one-shot --model Qwen/Qwen2.5-7B --slice 14 --responses 1
                                                                a fourteenth of a 7B model, random weights

Random tokens, the same rows for all: a prompt of P tokens (a query, then a response) and critiques of C on average.
Every contestant computes the loss of all rows, in as many micro-batches as suit it; the losses must agree. Beside each
shared figure stands the ideal: the tokens of the rows over those of the tree, k(P + C) / (P + k(C + 1)). It counts a
token as a token; beside it stands what the arithmetic is, rows over tree: sharing spares nothing of the LM head, which
scores targets alone, and less of the attention, since a critique attends to its prompt as before.

"Targets only" is TRL's step with one change: its LM head scores what has a target, as it does on a GPU. What sharing
alone brings stands in "over our best unshared".
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import resource
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from random import Random
from unittest.mock import patch

import datasets
import torch
from measure import alternate, ratio, record, table

from cft_trl import CFTConfig, CFTTrainer
from cft_trl.planning.model_shape import PUBLISHED
from cft_trl.training.heap import freed_memory_kept

# name -> (trainer, settings); "padded" batches the critiques of one response. "head": TRL, its head on targets only.
# "whole": ours as it was under bf16, the gradients of short stretches in bf16 too; only --bf16 tells them apart.
CONTESTANTS = {
    "TRL padded": ("trl", {}),
    "TRL packing=bfd": ("trl", {"packing": True}),
    "TRL padded, targets only": ("head", {}),
    "TRL packing=bfd, targets only": ("head", {"packing": True}),
    "cft-trl padded": ("cft", {}),
    "cft-trl packing=bfd": ("cft", {"packing": True}),
    "cft-trl packing=bfd, masked": ("cft", {"packing": True, "varlen_attention": False}),
    "cft-trl share_prefixes": ("cft", {"share_prefixes": True}),
    "cft-trl share_prefixes, gradients in bf16": ("whole", {"share_prefixes": True}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--critiques", type=int, nargs="+", default=[1, 2, 4, 7], help="per response")
    parser.add_argument("--one-shot", action="store_true", help="prompt 736, critique 614 tokens, 7 critiques")
    parser.add_argument("--prompt", type=int, default=184, help="tokens of query and response")
    parser.add_argument("--critique", type=int, default=154, help="tokens of a critique, on average")
    parser.add_argument("--responses", type=int, default=2)
    parser.add_argument("--micro-batch", type=int, help="rows of a padded batch (default: a response's critiques)")
    parser.add_argument("--pack-length", type=int, help="tokens of a shared pack (default: 2,048, or the longest row)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument(
        "--slice", type=int, metavar="N",
        help="random weights in the model's shape with 1/N of its layers and vocabulary: for what is too large for "
        "a machine, head and attention in proportion",
    )  # fmt: skip
    parser.add_argument("--bf16", action="store_true", help="bf16 autocast on a CPU too")
    parser.add_argument("--only", choices=list(CONTESTANTS), nargs="+", help="these contestants")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--no-save", action="store_true")
    options = parser.parse_args()
    if options.one_shot:
        options.prompt, options.critique, options.critiques = 736, 614, [7]
        # Seven such rows as one padded batch take more than 24 GiB; alone, none is padded.
        options.micro_batch, options.pack_length = options.micro_batch or 1, options.pack_length or 8192
    if options.slice and options.model not in PUBLISHED:
        parser.error(f"--slice knows the shapes of {', '.join(PUBLISHED)}, not of {options.model}")
    datasets.disable_progress_bars()
    logging.disable(logging.WARNING)
    options.label = options.model
    with tempfile.TemporaryDirectory() as folder:
        if options.slice:
            options.label = f"{options.model}'s shape, random weights, 1/{options.slice} of its layers and vocabulary"
            save_slice(options.model, options.slice, folder)
            options.model = folder
        # As `CFTTrainer.train` has it; steps of TRL's gain by it here too.
        with freed_memory_kept("cuda" if torch.cuda.is_available() else "cpu"):
            (memory if options.memory else speed)(options)


def save_slice(name: str, parts: int, folder: str) -> None:
    """Saves 1/`parts` of a model's shape with random weights."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from cft_trl.models.loading import load_tokenizer

    fields = dict(PUBLISHED[name])
    for field in ("num_hidden_layers", "vocab_size"):
        fields[field] = max(1, round(fields[field] / parts))
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(AutoConfig.for_model(fields.pop("model_type"), **fields)).save_pretrained(folder)
    load_tokenizer("smollm2-135m").save_pretrained(folder)  # nothing is tokenised: it only names special tokens


def rows_of(options: argparse.Namespace, critiques: int) -> datasets.Dataset:
    from transformers import AutoConfig

    from cft_trl.models.names import resolve_model

    vocabulary = min(40_000, AutoConfig.from_pretrained(resolve_model(options.model)).vocab_size)
    return make_rows(options.prompt, options.critique, critiques, options.responses, vocabulary)


def make_rows(prompt: int, critique: int, critiques: int, responses: int, vocabulary: int) -> datasets.Dataset:
    """`responses` responses to one query, which takes half of the prompt, with `critiques` critiques each."""
    draw = Random(0)

    def some(count: int) -> list[int]:
        return [draw.randrange(100, vocabulary) for _ in range(count)]

    query, rows = some(prompt // 2), []
    for _ in range(responses):
        start = query + some(prompt - len(query))
        for _ in range(critiques):
            target = some(round(critique * draw.uniform(0.7, 1.3)))
            rows.append({"input_ids": start + target, "labels": [-100] * prompt + target})
    return datasets.Dataset.from_list(rows)


def make_trainer(name: str, options: argparse.Namespace, rows: datasets.Dataset, critiques: int, folder: str):
    from trl import SFTConfig, SFTTrainer

    from cft_trl.models.loading import load_tokenizer
    from cft_trl.models.names import resolve_model

    model, (kind, fields) = options.model, CONTESTANTS[name]
    packed = bool(fields)
    if "share_prefixes" in fields and options.pack_length:
        fields = {**fields, "pack_length": options.pack_length}
    longest = max(len(ids) for ids in rows["input_ids"])
    on_gpu = torch.cuda.is_available()
    settings = {
        "output_dir": folder, "use_cpu": not on_gpu, "bf16": options.bf16 or on_gpu,
        "report_to": "none", "max_length": max(2048, longest), "gradient_checkpointing": False,
        "per_device_train_batch_size": 1 if packed else options.micro_batch or critiques, "shuffle_dataset": False,
        **fields,
    }  # fmt: skip
    if kind in ("cft", "whole"):
        model = CFTTrainer(model, CFTConfig(**settings), train_dataset=rows, processing_class=load_tokenizer(model))
    else:
        tokenizer = load_tokenizer(model)
        model = SFTTrainer(resolve_model(model), SFTConfig(**settings), train_dataset=rows, processing_class=tokenizer)
    model.model.float()
    return model


class Step:
    """All micro-batches of a contestant's step; calling it computes loss and gradients."""

    def __init__(self, trainer, kind: str) -> None:
        self.trainer, self.loss, self.kind = trainer, 0.0, kind
        # Not the trainer's own loader, which shuffles: padded batches hold the critiques of one response.
        size = trainer.args.per_device_train_batch_size
        data = trainer._remove_unused_columns(trainer.train_dataset)
        self.batches = [
            trainer._prepare_inputs(trainer.data_collator([data[i] for i in range(at, min(at + size, len(data)))]))
            for at in range(0, len(data), size)
        ]
        self.targets = sum(int((batch["labels"][:, 1:] != -100).sum()) for batch in self.batches)

    def __call__(self) -> None:
        model = self.trainer.model
        model.train()
        model.zero_grad()
        self.loss = 0.0
        changes = {
            "head": patch("trl.trainer.utils._use_triton", lambda _: True),
            "whole": patch("cft_trl.training.prefix_sharing.cascade._FEW_PAIRS", 0),
        }
        # `train` would have the model's forward wrapped in it.
        with changes.get(self.kind, nullcontext()), self.trainer.accelerator.autocast():
            for batch in self.batches:
                self.loss += float(self.trainer.training_step(model, dict(batch), num_items_in_batch=self.targets))
        model.zero_grad()  # the others' models wait in the same memory
        if torch.cuda.is_available():
            torch.cuda.synchronize()


def make_step(name: str, *args) -> Step:
    return Step(make_trainer(name, *args), CONTESTANTS[name][0])


def contestants(options: argparse.Namespace) -> list[str]:
    return options.only or [name for name, (kind, _) in CONTESTANTS.items() if options.bf16 or kind != "whole"]


def speed(options: argparse.Namespace) -> None:
    names = contestants(options)
    lines = []
    for critiques in options.critiques:
        rows = rows_of(options, critiques)
        with tempfile.TemporaryDirectory() as folder:
            steps = {name: make_step(name, options, rows, critiques, folder) for name in names}
            seconds = alternate(steps, options.rounds)
        losses = {name: round(step.loss, 4) for name, step in steps.items()}
        assert max(losses.values()) - min(losses.values()) < (0.02 if options.bf16 else 1e-3), losses
        lines += [line(name, critiques, rows, seconds, steps) for name in names]
        print(table(lines[-len(names) :]), file=sys.stderr, flush=True)
        del steps
        gc.collect()
    precision = "bf16 autocast" if options.bf16 else "fp32 on a CPU, bf16 autocast on a GPU"
    title = "Training step" + (", one-shot shape" if options.one_shot else "")
    body = (
        f"{options.label}, {precision}; one query, {options.responses} response(s), prompt "
        f"{options.prompt}, critique {options.critique} tokens on average; seconds per step, median of "
        f"{options.rounds} alternating rounds\n\n{table(lines)}"
    )
    record(title, body, save=not options.no_save)


def line(name: str, critiques: int, rows, seconds: dict[str, list[float]], steps: dict[str, Step]) -> dict:
    def best(kind: str) -> str | None:
        unshared = (n for n in seconds if CONTESTANTS[n][0] == kind and "share_prefixes" not in CONTESTANTS[n][1])
        return min(unshared, key=lambda n: sum(seconds[n]), default=None)

    best_peer, best_head, best_own = best("trl"), best("head"), best("cft")
    before = next((seconds[n] for n in seconds if CONTESTANTS[n][0] == "whole" and n != name), None)
    shared = steps[name].trainer.sharing["train"] if "share" in name else None
    padded = seconds.get("cft-trl padded") if name.startswith("cft-trl packing") else None
    return {
        "critiques": critiques,
        "contestant": name,
        "s/step": f"{sorted(seconds[name])[len(seconds[name]) // 2]:.2f}",
        "over TRL's best": ratio(seconds[best_peer], seconds[name]) if best_peer and name != best_peer else "",
        "over TRL, targets only": ratio(seconds[best_head], seconds[name]) if best_head and "cft" in name else "",
        "over our padded": ratio(padded, seconds[name]) if padded else "",
        "over our best unshared": ratio(seconds[best_own], seconds[name]) if shared and best_own else "",
        "over gradients in bf16": ratio(before, seconds[name]) if shared and before else "",
        "ideal": f"{shared.ratio:.2f}x" if shared else "",
        "arithmetic": f"{spared(steps[name].trainer, rows):.2f}x" if shared else "",
        "rows": len(rows),
    }


def spared(trainer, rows: datasets.Dataset) -> float:
    """Floating-point operations of the rows one by one over those of the packs, forward and backward."""
    config, model = trainer.model.config, trainer.model
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    head = config.hidden_size * config.vocab_size
    body = sum(p.numel() for p in model.parameters()) - head * (1 if config.tie_word_embeddings else 2)
    pair = 14 * size * config.num_attention_heads * config.num_hidden_layers  # 2 products forward, 5 backward

    def operations(tokens: int, pairs: int) -> int:
        targets = sum(label != -100 for labels in rows["labels"] for label in labels)
        return 6 * body * tokens + pair * pairs + 8 * head * targets  # the head's products are computed twice

    lengths, layouts = [len(ids) for ids in rows["input_ids"]], trainer.train_dataset["seen_until"]
    alone = operations(sum(lengths), sum(n * (n + 1) // 2 for n in lengths))
    seen = sum(until - at for layout in layouts for at, until in enumerate(layout))
    return alone / operations(sum(map(len, layouts)), seen)


def memory(options: argparse.Namespace) -> None:
    if options.only and len(options.only) == 1:
        critiques = options.critiques[0]
        rows = rows_of(options, critiques)
        with tempfile.TemporaryDirectory() as folder:
            step = make_step(options.only[0], options, rows, critiques, folder)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            step()
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(json.dumps({"before": before / 2**20, "after": after / 2**20}))
        return
    lines = []
    for name in contestants(options):
        command = [sys.executable, __file__, "--memory", "--only", name, "--model", options.model]
        command += ["--bf16"] if options.bf16 else []
        for field in ("prompt", "critique", "responses", "micro_batch", "pack_length"):
            if getattr(options, field) is not None:
                command += [f"--{field.replace('_', '-')}", str(getattr(options, field))]
        done = subprocess.run(
            [*command, "--critiques", str(options.critiques[-1])], stdout=subprocess.PIPE, check=True, text=True
        )
        found = json.loads(done.stdout.splitlines()[-1])
        lines.append({"contestant": name, "before the step, GiB": f"{found['before']:.2f}",
                      "peak, GiB": f"{found['after']:.2f}"})  # fmt: skip
    body = (
        f"{options.label}, {options.responses} responses with {options.critiques[-1]} critiques each, prompt "
        f"{options.prompt}, critique {options.critique} tokens; largest resident memory of a process that computes one "
        f"step\n\n{table(lines)}"
    )
    record("Peak memory of a step", body, save=not options.no_save)


if __name__ == "__main__":
    main()
