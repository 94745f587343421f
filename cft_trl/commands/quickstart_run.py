"""`make quickstart`: from nothing to a critique-tuned model, its numbers, a plot and a card.

Stages in the order they run, each leaving a file in the output folder and skipped when that file is there, so that
a run that was interrupted goes on where it was:

    data/train.jsonl, data/heldout.jsonl   rows of the embedded arithmetic source with the reference teacher
    before.json                            the model as it came, on held-out rows
    checkpoint-N/                          while training
    model.safetensors, …                   the trained model
    after.json                             the trained model, on the same rows
    metrics.json, training.png, README.md  the numbers side by side, the plot, the card
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

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
        rows: training rows of level 1.
        eval_rows: held-out rows; `generated_rows` of them are also critiqued freely, which is slow on a CPU.
        learning_rate, pack_length: optimisation; a step is one pack of `pack_length` tokens.
        seed: of the problems, their order and the noise.
    """

    model: str = "smollm2-135m"
    rows: int = 400
    eval_rows: int = 100
    generated_rows: int = 60
    learning_rate: float = 5e-4
    pack_length: int = 768
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
        _print_summary(output, metrics)
        return metrics
    say = _Stages()
    say("Building a critique dataset (arithmetic, reference teacher)")
    train_rows, heldout = _build_data(output, settings)
    print(f"  {len(train_rows)} rows to train on, {len(heldout)} held out, e.g.\n\n{_example(train_rows[0])}\n")

    trainer, started = _trainer(output, settings, train_rows, heldout), time.time()
    before = _stage(output / "before.json", lambda: _evaluate(trainer, heldout, settings, say, "before training"))
    if not (output / TRAINED_STAMP).is_file():
        _train(trainer, output, say)
    else:
        trainer = _trainer(output, replace(settings, model=str(output)), train_rows, heldout)
    after = _stage(output / "after.json", lambda: _evaluate(trainer, heldout, settings, say, "after training"))

    history = json.loads((output / TRAINED_STAMP).read_text(encoding="utf-8"))["log_history"]
    metrics = {
        "settings": asdict(settings),
        "before": before["metrics"],
        "after": after["metrics"],
        "training_rows": trainer.preparation["train"].to_dict(),
        "training_seconds": next((e["train_runtime"] for e in reversed(history) if "train_runtime" in e), None),
        "machine": machine(),
        "seconds_this_session": round(time.time() - started, 1),
    }
    _finish(output, settings, trainer, metrics, history)
    write_text(output / METRICS_FILE, json.dumps(metrics, indent=2))
    for checkpoint in output.glob("checkpoint-*"):  # 1.6 GB of optimizer state that nobody needs any more
        shutil.rmtree(checkpoint)
    _print_summary(output, metrics)
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


def _build_data(output: Path, settings: QuickstartSettings) -> tuple[list[dict], list[dict]]:
    from cft_trl.sources.arithmetic import arithmetic_records

    folder = output / "data"
    folder.mkdir(exist_ok=True)
    for name, split, count in (("train", "train", settings.rows), ("heldout", "test", settings.eval_rows)):
        path = folder / f"{name}.jsonl"
        if not path.is_file():
            rows = arithmetic_records(count, seed=settings.seed, levels=(1,), split=split)
            write_text(path, "\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    return _read(folder / "train.jsonl"), _read(folder / "heldout.jsonl")


def _read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").strip("\n").split("\n")]


def _trainer(output: Path, settings: QuickstartSettings, train_rows: list[dict], heldout: list[dict]):
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
        prompt_preset="compact",
        max_length=settings.pack_length,
        packing=True,
        per_device_train_batch_size=1,
        per_device_eval_batch_size=1,
        learning_rate=settings.learning_rate,
        warmup_steps=0.05,
        weight_decay=0.01,
        gradient_checkpointing=False,
        logging_steps=5,
        eval_strategy="steps",
        eval_steps=0.5,
        save_strategy="steps",
        save_steps=0.34,
        save_total_limit=1,
        seed=settings.seed,
        report_to="none",
    )
    trainer = CFTTrainer(
        model,
        config,
        train_dataset=Dataset.from_list(train_rows, features=features()),
        eval_dataset=Dataset.from_list(heldout, features=features()),
        processing_class=tokenizer,
    )
    show_log_lines(trainer)
    return trainer


def _stage(path: Path, run: Any) -> dict[str, Any]:
    if not path.is_file():
        write_text(path, json.dumps(run(), indent=1, ensure_ascii=False))
    return json.loads(path.read_text(encoding="utf-8"))


def _evaluate(trainer: Any, heldout: list[dict], settings: QuickstartSettings, say: _Stages, when: str) -> dict:
    from cft_trl.evaluation.critic import generate_verdicts, score_verdicts
    from cft_trl.grading.intervals import wilson_interval
    from cft_trl.progress import progress

    say(f"Evaluating {when}: loss and teacher-forced verdicts on {len(heldout)} held-out rows")
    forced = trainer.evaluate()
    chosen = heldout[: settings.generated_rows]
    say(f"Evaluating {when}: critiques written freely for {len(chosen)} held-out rows")
    with progress("critiques", len(chosen)) as advance:
        judged = generate_verdicts(
            trainer.model,
            trainer.processing_class,
            chosen,
            prompt_preset="compact",
            max_new_tokens=128,
            batch_size=20,
            on_progress=advance,
        )
    count = int(forced["eval_verdict_count"])
    hits = round(forced["eval_verdict_accuracy"] * count)
    metrics = {
        "critique_loss": forced["eval_critique_loss"],
        "teacher_forced": {
            "rows": count,
            "hits": hits,
            "accuracy": forced["eval_verdict_accuracy"],
            "interval_95": list(wilson_interval(hits, count)),
            "accuracy_right": forced.get("eval_verdict_accuracy_right"),
            "accuracy_wrong": forced.get("eval_verdict_accuracy_wrong"),
        },
        "generated": score_verdicts(judged),
    }
    return {"metrics": metrics, "generations": judged}


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

    points = [{"step": 0, **_as_eval(metrics["before"])}, *history]
    plot_training(points, output / "training.png", majority_rate=metrics["after"]["generated"]["majority_rate"])
    write_model_card(
        output,
        base_model=settings.model,
        dataset_name="arithmetic (embedded in cft-trl, level 1)",
        config=trainer.args,
        preparation=trainer.preparation,
        metrics=metrics,
    )


def _as_eval(metrics: dict[str, Any]) -> dict[str, float]:
    forced = metrics["teacher_forced"]
    names = {"accuracy": "", "accuracy_right": "_right", "accuracy_wrong": "_wrong"}
    values = {f"eval_verdict_accuracy{tail}": forced[name] for name, tail in names.items() if forced[name] is not None}
    return {"eval_critique_loss": metrics["critique_loss"], **values}


def _example(row: dict[str, Any]) -> str:
    lines = [f"Question: {row['query']}", *row["response"].splitlines(), "", *row["critique"].splitlines()]
    return "\n".join(f"      {line}" for line in lines)


def _print_summary(output: Path, metrics: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    before, after = metrics["before"], metrics["after"]
    table = Table(title="Held-out problems, before and after critique fine-tuning")
    for column in ("", "before", "after"):
        table.add_column(column, justify="left" if not column else "right")

    def accuracy(score: dict[str, Any]) -> str:
        low, high = score["interval_95"]
        return f"{score['accuracy']:.1%} ({score['hits']}/{score['rows']}; {low:.0%} to {high:.0%})"

    table.add_row("critique loss, nats/token", f"{before['critique_loss']:.3f}", f"{after['critique_loss']:.3f}")
    table.add_row("verdict, teacher-forced", accuracy(before["teacher_forced"]), accuracy(after["teacher_forced"]))
    table.add_row("verdict of free critiques", accuracy(before["generated"]), accuracy(after["generated"]))
    table.add_row("  of these without a verdict", *(str(m["generated"]["no_verdict"]) for m in (before, after)))
    table.add_row("majority rate", *(f"{m['generated']['majority_rate']:.1%}" for m in (before, after)))
    console = Console()
    console.print()
    console.print(table)
    console.print("In brackets: hits/rows and the 95% Wilson interval.", style="dim")
    console.print(
        f"""
The model is in {output} (AutoModelForCausalLM.from_pretrained loads it), its card in {output}/README.md,
the curves in {output}/training.png, every critique it wrote in {output}/after.json. Three things to try next:

  1. Train longer, until free critiques are good too:
       cft train --config recipes/smollm2-135m/cft.yaml
  2. See one of your own rows as the model would see it, loss tokens in colour:
       cft preview --dataset_name rows.jsonl --model_name_or_path {output}
  3. Train on your own critiques (JSONL with query, response, critique):
       cft train --config recipes/smollm2-135m/cft.yaml --dataset_name rows.jsonl --output_dir runs/mine
""",
        highlight=False,
        soft_wrap=True,
    )
