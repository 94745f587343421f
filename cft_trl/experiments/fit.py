"""One training of an experiment: a base, token rows, a learning rate -> a model's folder.

    OUT/arms/cft/seed-0/tokens-0.001/   model.safetensors, tokenizer, config, train.log
                                        trained.json: {"rows": 401, "target_tokens": 24011, "loss": 0.41, …}

`trained.json` is written last. A training that was killed before that goes on from its newest whole checkpoint, where
it saves some, and begins anew where it does not: the same weights, bit for bit, on the same machine with the same
number of threads.
"""

from __future__ import annotations

import contextlib
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cft_trl.data.folders import check_writable, write_text
from cft_trl.experiments.mixtures import PRESET, Taken
from cft_trl.experiments.settings import Size
from cft_trl.progress import progress

DONE = "trained.json"


def fit(
    base: str,
    taken: Taken,
    output: Path,
    size: Size,
    *,
    learning_rate: float,
    seed: int,
    objective: str,
    who: str,
) -> dict[str, Any]:
    """Trains one epoch over rows, in their order; returns what `trained.json` says.

    Args:
        base: Folder or Hub id.
        taken: The rows.
        output: The model's folder.
        size: Batch, micro-batch, device, threads.
        learning_rate: The peak; cosine after a warm-up of a twentieth.
        seed: Of the trainer.
        objective: What the metrics in its log are called by.
        who: What its progress, which counts steps, is called.

    Raises:
        CFTError: The folder cannot be written, the base not be loaded, or its numbers stop being numbers.
    """
    if (output / DONE).is_file():
        return json.loads((output / DONE).read_text(encoding="utf-8"))
    check_writable(output)
    steps = math.ceil(taken.rows / size.batch)
    with (
        progress(f"{who}, steps", steps) as advance,
        (output / "train.log").open("a", encoding="utf-8") as log,
        contextlib.redirect_stdout(log),
    ):
        settings = {"learning_rate": learning_rate, "seed": seed, "objective": objective}
        trained = _fit(base, taken, output, size, settings, advance)
    for checkpoint in output.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)
    write_text(output / DONE, json.dumps(trained, indent=1))
    return trained


def _fit(
    base: str, taken: Taken, output: Path, size: Size, settings: dict[str, Any], advance: Callable[[int], None]
) -> dict[str, Any]:
    import torch
    from datasets import Dataset

    from cft_trl.models.loading import load_model
    from cft_trl.training.callbacks import StepCount
    from cft_trl.training.checkpoints import newest_whole
    from cft_trl.training.config import CFTConfig
    from cft_trl.training.script import show_log_lines
    from cft_trl.training.trainer import CFTTrainer

    on_cpu = size.device == "cpu"
    if on_cpu:
        torch.set_num_threads(size.threads)
    model, tokenizer = load_model(base, dtype="float32")
    micro_batch = size.micro_batch or size.batch
    steps: dict[str, Any] = {"save_strategy": "no"}
    if size.save_steps:
        steps = {"save_strategy": "steps", "save_steps": size.save_steps, "save_total_limit": 1}
    config = CFTConfig(
        str(output),
        **settings,
        prompt_preset=PRESET,
        use_cpu=on_cpu,
        bf16=size.precision == "bfloat16" if on_cpu else None,
        max_length=size.max_length,
        train_sampling_strategy="sequential",  # the rows come in the order of training
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=size.batch // micro_batch,
        warmup_steps=0.05,
        weight_decay=0.01,
        gradient_checkpointing=False,
        dataloader_num_workers=0,
        logging_steps=10,
        eval_strategy="no",
        report_to="none",
        **steps,
    )
    trainer = CFTTrainer(model, config, train_dataset=Dataset.from_dict(taken.columns), processing_class=tokenizer)
    show_log_lines(trainer, bar=False)
    trainer.add_callback(StepCount(advance))
    checkpoint, damaged = newest_whole(output)
    print(*damaged, sep="\n")
    result = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    trainer.save_model(str(output))
    losses = [entry[name] for entry in trainer.state.log_history for name in entry if name.endswith("target_loss")
              or name == "critique_loss"]  # fmt: skip
    return {
        "rows": taken.rows,
        "tokens": taken.tokens,
        "target_tokens": taken.target_tokens,
        "digest": taken.digest,
        "learning_rate": settings["learning_rate"],
        "loss": losses[-1] if losses else None,
        "steps": result.global_step,
    }
