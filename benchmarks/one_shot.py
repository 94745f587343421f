"""One-shot CFT with shared prefixes on and off: the same ten steps, their losses and times.

    python benchmarks/one_shot.py                               SmolLM2-135M, fp32, 10 steps each, one after the other
    python benchmarks/one_shot.py --critiques 4 --steps 4

The shape of arXiv 2506.03295: one query, many responses, several critiques of each; prompt 736 and critique 614 tokens
on average. The rows are our own: a query of several arithmetic problems, responses with mistakes in some of its parts,
and critiques that take the parts in turn. Settings are those of recipes/qwen2.5-math-7b/one-shot.yaml; model, batch and
number of steps are not.

What is compared. A step's loss depends on the rows in it, and a batch counts rows without sharing and packs with it.
So both runs read the rows in order (`train_sampling_strategy: sequential`) and take one response with all its critiques
per step: one by one, accumulating gradients (a padded batch of seven such rows takes much memory and computes its
padding too), or as the one pack that holds their tree. Loss is the mean over the step's target tokens in both. From the
second step on, equal losses also say that the updates before were the same.
"""

from __future__ import annotations

import argparse
import logging
import random
import tempfile
import time

import datasets
from measure import record, table

PROMPT, CRITIQUE = 736, 614


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10, help="optimizer steps, a response each")
    parser.add_argument("--critiques", type=int, default=7, help="per response")
    parser.add_argument("--prompt", type=int, default=PROMPT, help="tokens of query and response, about")
    parser.add_argument("--critique", type=int, default=CRITIQUE, help="tokens of a critique, about")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--bf16", action="store_true", help="bf16 autocast; losses then agree to fewer digits")
    parser.add_argument("--no-save", action="store_true")
    options = parser.parse_args()
    datasets.disable_progress_bars()
    logging.disable(logging.WARNING)
    from cft_trl.models.loading import load_tokenizer

    tokenizer = load_tokenizer(options.model)
    rows = make_rows(options.steps, options.critiques, options.prompt, options.critique, tokenizer)
    encoded = encode(rows, tokenizer)
    packs = [share(encoded.select(range(i, i + options.critiques))) for i in range(0, len(rows), options.critiques)]
    reports = [report for _, report in packs]
    assert all(len(pack) == 1 for pack, _ in packs), "a step's rows must be one pack"
    tree = datasets.concatenate_datasets([pack for pack, _ in packs])
    runs = {"off": train(encoded, options, tokenizer, False), "on": train(tree, options, tokenizer, True)}
    off, on = (runs[name]["losses"] for name in ("off", "on"))
    worst = max(abs(a - b) / abs(a) for a, b in zip(off, on, strict=True))
    lines = [{"step": i + 1, "off": f"{a:.6f}", "on": f"{b:.6f}"} for i, (a, b) in enumerate(zip(off, on, strict=True))]
    tokens, shared = sum(r.tokens for r in reports), sum(r.shared_tokens for r in reports)
    seconds = {name: sum(run["seconds"]) for name, run in runs.items()}
    lengths = encoded["labels"]
    targets = sum(label != -100 for labels in lengths for label in labels)
    summary = [
        {
            "sharing": name,
            "tokens": f"{ {'off': tokens, 'on': shared}[name]:,}",
            f"seconds of {options.steps} steps": f"{seconds[name]:.1f}",
            "per step": " ".join(f"{s:.1f}" for s in runs[name]["seconds"]),
        }
        for name in runs
    ]
    body = (
        f"{options.model}, {'bf16 autocast' if options.bf16 else 'fp32'}, CPU; one query, {options.steps} responses, "
        f"{options.critiques} critiques each; prompt {(tokens - targets) / len(rows):.0f} and critique "
        f"{targets / len(rows):.0f} tokens on average.\n\n{table(summary)}\n\n"
        f"{seconds['off'] / seconds['on']:.2f}x as fast with sharing (the tokens: {tokens / shared:.2f}x). Losses "
        f"agree to {worst:.1e} (relative, worst step):\n\n{table(lines)}"
    )
    record("One-shot CFT, prefixes shared and not", body, save=not options.no_save)


def make_rows(responses: int, critiques: int, prompt: int, critique: int, tokenizer) -> datasets.Dataset:
    """One query of as many parts as bring prompt and critique near the lengths asked for."""
    from cft_trl.data.records import features
    from cft_trl.sources.arithmetic import STYLES, corrupt, problems, right_solution, write
    from cft_trl.sources.reference import critique_from_reference

    draw, styles = random.Random(0), list(STYLES)
    stream = problems(seed=5, levels=(3,))
    parts = [next(stream)]

    def count(text: str) -> int:
        return len(tokenizer(text)["input_ids"])

    def lettered(texts: list[str]) -> str:
        return "\n\n".join(f"({chr(97 + i)}) {text}" for i, text in enumerate(texts))

    def sized() -> int:
        return count(lettered([p.query for p in parts])) + count(lettered([write(right_solution(p), "numbered")
                                                                          for p in parts]))  # fmt: skip

    while sized() < prompt - 40 and len(parts) < 20:  # the prompt's wording has some 40 tokens
        parts.append(next(stream))
    query, rows = lettered([part.query for part in parts]), []
    for number in range(responses):
        flawed = [number % 2 and draw.random() < 0.6 for _ in parts]
        solutions = [(bad and corrupt(p, draw)) or right_solution(p) for p, bad in zip(parts, flawed, strict=True)]
        style = draw.choice(styles)
        texts = [write(solution, style) for solution in solutions]
        wrong = any(solution.error_kind for solution in solutions)
        reviews = []
        for part, text, solution in zip(parts, texts, solutions, strict=True):
            answer = write(right_solution(part), style).rpartition("\n")[2]
            review = critique_from_reference(_row(part, text, solution))
            reviews.append(f"{review.rpartition(chr(10))[0].strip()}\nThe reference says: {answer}")
        for teacher in range(critiques):
            order = [(teacher + i) % len(parts) for i in range(len(parts))]
            review = f"Review {teacher + 1}, from part ({chr(97 + order[0])}) on.\n\n"
            review += "\n\n".join(f"Part ({chr(97 + i)}): {reviews[i]}" for i in order)
            while count(review) > critique and "\n" in review:
                review = review.rpartition("\n")[0]
            rows.append(
                {
                    "id": f"one-shot-{number}-{teacher}", "query": query, "response": lettered(texts),
                    "critique": f"{review}\n\nConclusion: {'wrong' if wrong else 'right'} [END]",
                    "verdict": "wrong" if wrong else "right", "teacher": f"reference-{teacher}",
                }
            )  # fmt: skip
    columns = features()
    return datasets.Dataset.from_list([{name: row.get(name) for name in columns} for row in rows], features=columns)


def _row(problem, response: str, solution) -> dict:
    from cft_trl.sources.arithmetic.numbers import plain
    from cft_trl.sources.arithmetic.records import _as_json

    return {
        "query": problem.query, "response": response, "reference_answer": plain(problem.answer),
        "verdict": "wrong" if solution.error_kind else "right", "refinement": None,
        "meta": {"steps": [_as_json(step) for step in problem.steps], "error_kind": solution.error_kind,
                 "first_error_step": solution.first_error},
    }  # fmt: skip


def encode(rows: datasets.Dataset, tokenizer) -> datasets.Dataset:
    from cft_trl.data.prompts import Prompting
    from cft_trl.training.lengths import PreparationReport
    from cft_trl.training.preparation import RowEncoder
    from cft_trl.training.prepare import prepare_dataset

    report = PreparationReport("one-shot")
    prepared = prepare_dataset(rows, RowEncoder(tokenizer, Prompting(), 4096, "error"), report)
    assert report.kept == len(rows)
    return prepared


def share(rows: datasets.Dataset):
    from cft_trl.training.prefix_sharing.packs import share_dataset

    return share_dataset(rows, sum(len(ids) for ids in rows["input_ids"]), "step")


def train(rows: datasets.Dataset, options: argparse.Namespace, tokenizer, shared: bool) -> dict[str, list[float]]:
    """Trains on prepared rows or packs -> the loss and the seconds of each step."""
    from transformers import TrainerCallback

    from cft_trl import CFTConfig, CFTTrainer

    losses, seconds = [], []

    class Watch(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            self.began = time.perf_counter()

        def on_step_end(self, args, state, control, **kwargs):
            seconds.append(time.perf_counter() - self.began)

        def on_log(self, args, state, control, logs=None, **kwargs):
            if "critique_loss" in (logs or {}):
                losses.append(logs["critique_loss"])

    with tempfile.TemporaryDirectory() as folder:
        config = CFTConfig(
            folder, use_cpu=True, bf16=options.bf16, report_to="none", disable_tqdm=True, save_strategy="no",
            max_steps=options.steps, logging_steps=1, max_length=4_096, gradient_checkpointing=False,
            train_sampling_strategy="sequential", shuffle_dataset=False,
            per_device_train_batch_size=1, gradient_accumulation_steps=1 if shared else options.critiques,
            share_prefixes=str(shared).lower(), pack_length=32_768 if shared else None,
            learning_rate=5e-6, lr_scheduler_type="cosine", warmup_steps=0.1, weight_decay=0.0, max_grad_norm=1.0,
        )  # fmt: skip
        trainer = CFTTrainer(options.model, config, train_dataset=rows, processing_class=tokenizer, callbacks=[Watch()])
        trainer.train()
    return {"losses": losses, "seconds": seconds}


if __name__ == "__main__":
    main()
