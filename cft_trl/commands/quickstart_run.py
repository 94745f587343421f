"""`make quickstart`: from nothing to a critique-tuned model, its numbers, a plot and a card.

Stages in the order they run, each leaving a file in the output folder and skipped when that file is there, so that
a run that was interrupted goes on where it was:

    data/train.jsonl, …                    critiques, solutions, held-out problems (quickstart_rows.py)
    before.json                            the model as it came, on held-out problems (quickstart_shown.py)
    checkpoint-N/                          while training
    model.safetensors, …                   the trained model
    after.json                             the trained model, on the same problems
    metrics.json, training.png, README.md  the numbers side by side, the plot, the card
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cft_trl.commands.quickstart_rows import PRESET, build_rows, mixture
from cft_trl.commands.quickstart_shown import EXAMPLE, LIMITS, evaluate, example, print_summary
from cft_trl.data.digests import package_digest
from cft_trl.data.folders import check_writable, write_text
from cft_trl.errors import CFTError
from cft_trl.models.identity import model_identity, what_changed
from cft_trl.models.names import resolve_model
from cft_trl.training.checkpoints import newest_whole

METRICS_FILE = "metrics.json"
TRAINED_STAMP = "trainer_state.json"  # written after the weights, so that half a model is never taken for one


@dataclass(frozen=True)
class QuickstartSettings:
    """What a quickstart run does; a folder belongs to one of these.

    Args:
        model: folder, Hub id or `smollm2-135m`.
        rows: critiques to train on, two of each problem: of a right solution and of a wrong one.
        solutions: right solutions of other problems, to train on beside them.
        eval_rows: held-out problems; `generated_rows` of them are also critiqued and solved freely, which takes time.
        learning_rate, pack_length: optimisation; a step is one pack of at most `pack_length` tokens.
        seed: of the problems, their order and the errors in them.
    """

    model: str = "smollm2-135m"
    rows: int = 500
    solutions: int = 500
    eval_rows: int = 120
    generated_rows: int = 120
    learning_rate: float = 5e-4
    pack_length: int = 512
    seed: int = 0


def run_quickstart(output: Path, settings: QuickstartSettings, *, force: bool = False) -> dict[str, Any]:
    """Runs the stages that are not done yet; returns the content of metrics.json.

    Args:
        output: The run's folder.
        settings: Of its rows and its model.
        force: Replaces a run with other settings.

    Raises:
        CFTError: the folder is not writable, or holds a run with other settings (and not `force`).
    """
    check_writable(output)
    resolve_model(settings.model)  # before the folder is claimed for settings that may hold a typing error
    _claim(output, settings, force)
    if (output / METRICS_FILE).is_file():
        metrics = json.loads((output / METRICS_FILE).read_text(encoding="utf-8"))
        print(f"{output} is complete; --force runs it anew", flush=True)
        print_summary(output, metrics)
        return metrics
    say = _Stages()
    say("Building a dataset of critiques and solutions (arithmetic, reference teacher)")
    rows = build_rows(
        output / "data",
        rows=settings.rows,
        solutions=settings.solutions,
        heldout=settings.eval_rows,
        seed=settings.seed,
    )
    counts = f"{len(rows['train'])} critiques and {len(rows['solve'])} solutions to train on"
    print(f"  {counts}, {len(rows['heldout'])} problems held out, e.g.\n\n{example(rows['train'][0])}\n")

    trainer, started = _trainer(output, settings, rows), time.time()
    heldout, generated = rows["heldout"], settings.generated_rows
    before = _stage(output / "before.json", lambda: evaluate(trainer, heldout, generated, say, "before training"))
    if not (output / TRAINED_STAMP).is_file():
        _train(trainer, output, say)
    else:
        trainer = _trainer(output, replace(settings, model=str(output)), rows)
    after = _stage(output / "after.json", lambda: evaluate(trainer, heldout, generated, say, "after training"))

    history = json.loads((output / TRAINED_STAMP).read_text(encoding="utf-8"))["log_history"]
    metrics = {
        "settings": asdict(settings),
        "before": before["metrics"],
        "after": after["metrics"],
        "training_rows": {name: trainer.preparation[name].to_dict() for name in trainer.preparation if name != "eval"},
        "training_seconds": next((e["train_runtime"] for e in reversed(history) if "train_runtime" in e), None),
        "machine": machine(),
        "seconds_this_session": round(time.time() - started, 1),
    }
    _finish(output, settings, trainer, metrics, history)
    write_text(output / METRICS_FILE, json.dumps(metrics, indent=2))
    for checkpoint in output.glob("checkpoint-*"):  # 1.6 GB of optimizer state that nobody needs any more
        shutil.rmtree(checkpoint)
    print_summary(output, metrics)
    return metrics


def machine() -> dict[str, Any]:
    """What the numbers were measured on: processor, cores, accelerator, versions."""
    import os
    import platform

    import torch
    import transformers
    import trl

    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "trl": trl.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }


class _Stages:
    """Numbered headlines with the time since the start."""

    def __init__(self) -> None:
        self.started, self.number = time.time(), 0

    def __call__(self, text: str) -> None:
        self.number += 1
        print(f"\n[{self.number}] {text}  ({time.time() - self.started:.0f} s)", flush=True)


def _claim(output: Path, settings: QuickstartSettings, force: bool) -> None:
    path = output / "quickstart.json"
    made_of = {"base": model_identity(settings.model), "code": package_digest()}
    mine = json.loads(json.dumps({**asdict(settings), "made_of": made_of}))
    if not path.is_file() and any(output.iterdir()):
        raise CFTError(f"'{output}' holds files that are not a quickstart's; give another --output")
    if force:
        for entry in output.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    elif path.is_file() and (theirs := json.loads(path.read_text(encoding="utf-8"))) != mine:
        other = {**theirs, "made_of": mine["made_of"]} == mine and what_changed(theirs.get("made_of", {}), made_of)
        told = f"made with {other}" if other else "with other settings"
        raise CFTError(f"'{output}' holds a quickstart {told}; give --force to replace it, or --output")
    write_text(path, json.dumps(mine, indent=2))


def _trainer(output: Path, settings: QuickstartSettings, rows: dict[str, list[dict[str, Any]]]):
    import torch
    from datasets import Dataset

    from cft_trl.data.records import features
    from cft_trl.models.adapters import refuse_adapter
    from cft_trl.models.loading import load_model
    from cft_trl.training.config import CFTConfig
    from cft_trl.training.script import show_log_lines
    from cft_trl.training.trainer import CFTTrainer

    refuse_adapter(settings.model, setting="--model")
    model, tokenizer = load_model(settings.model, dtype="float32")
    config = CFTConfig(
        str(output),
        use_cpu=not torch.cuda.is_available(),
        prompt_preset=PRESET,
        max_length=settings.pack_length,
        over_length="error",
        share_prefixes="true",  # the two solutions of a problem, and all prompts, begin alike
        per_device_train_batch_size=1,
        per_device_eval_batch_size=1,
        learning_rate=settings.learning_rate,
        warmup_steps=0.05,
        weight_decay=0.01,
        gradient_checkpointing=False,
        logging_steps=5,
        eval_strategy="no",  # before and after, with all the rest
        save_strategy="steps",
        save_steps=0.34,
        save_total_limit=1,
        seed=settings.seed,
        report_to="none",
    )
    trainer = CFTTrainer(
        model,
        config,
        train_dataset=mixture(rows),
        eval_dataset=Dataset.from_list(rows["heldout"], features=features()),
        processing_class=tokenizer,
    )
    show_log_lines(trainer)
    return trainer


def _stage(path: Path, run: Any) -> dict[str, Any]:
    if not path.is_file():
        write_text(path, json.dumps(run(), indent=1, ensure_ascii=False))
    return json.loads(path.read_text(encoding="utf-8"))


def _train(trainer: Any, output: Path, say: _Stages) -> None:
    checkpoint, damaged = newest_whole(output)
    for line in damaged:
        print(f"  {line}", flush=True)
    say("Training" + (f", going on from {checkpoint.name}" if checkpoint else ""))
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    trainer.save_model(str(output))
    trainer.state.save_to_json(str(output / TRAINED_STAMP))


def _finish(output: Path, settings: QuickstartSettings, trainer: Any, metrics: dict, history: list[dict]) -> None:
    from cft_trl.hub.run_card import write_model_card
    from cft_trl.plots import plot_training

    last = max((entry["step"] for entry in history), default=0)
    points = [{"step": 0, **_as_eval(metrics["before"])}, *history, {"step": last, **_as_eval(metrics["after"])}]
    plot_training(points, output / "training.png", majority_rate=metrics["after"]["generated"]["majority_rate"])
    write_model_card(
        output,
        base_model=settings.model,
        dataset_name="arithmetic (embedded in cft-trl, level 0)",
        config=trainer.args,
        preparation=trainer.preparation,
        metrics=metrics,
        example=EXAMPLE,
        limits=LIMITS,
    )


def _as_eval(metrics: dict[str, Any]) -> dict[str, float]:
    forced = metrics["teacher_forced"]
    names = {"accuracy": "", "accuracy_right": "_right", "accuracy_wrong": "_wrong"}
    values = {f"eval_verdict_accuracy{tail}": forced[name] for name, tail in names.items() if forced[name] is not None}
    return {"eval_critique_loss": metrics["critique_loss"], **values}
