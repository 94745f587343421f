"""Folders of finished runs without a training: what `cft train` and `cft select` would leave, with a tiny model.

make_run(tmp_path / "run")                             # a model at its root, and everything that must stay at home
make_run(tmp_path / "run", selected=4, steps=(2, 4))   # the checkpoints too, and best -> _selected/step-4
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from conftest import make_model, make_tokenizer

STAY_AT_HOME = (
    "training_args.bin", "trainer_state.json", "generations.jsonl", "checkpoint-2/optimizer.pt",
    "checkpoint-2/rng_state.pth", "journal/critique.jsonl", "eval-mine/journal/main.jsonl", "notes.txt", ".env",
)  # fmt: skip
REPORT = {
    "name": "train", "rows": 50, "kept": 46, "shortened": 3, "dropped": {"too long": 1}, "right": 20, "wrong": 28,
    "without_verdict": 1, "disagree": 0, "tokens": 9000, "target_tokens": 3000,
}  # fmt: skip
SETTINGS = {
    "objective": "cft", "sft_target": "response", "prompt_preset": "compact", "share_prefixes": False, "packing": True,
    "learning_rate": 5e-06, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 4, "world_size": 2,
}  # fmt: skip


def make_run(
    folder: Path, *, selected: int | None = None, steps: tuple[int, ...] = (2,), seed: float = 0.0, **record: Any
) -> Path:
    """Writes a run's folder; `record` replaces parts of `training.json`, `seed` changes the weights."""
    import torch

    tokenizer = _tokenizer()
    model = make_model(tokenizer)
    for path in (folder, *(folder / f"checkpoint-{step}" for step in steps)):
        with torch.no_grad():
            model.model.norm.weight += 0.01 + seed  # each of them is another model
        model.save_pretrained(path)
        tokenizer.save_pretrained(path)
    for name in STAY_AT_HOME:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("stays at home")
    for step in steps:
        (folder / f"checkpoint-{step}" / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    told = {
        "base_model": {"name": "org/base", "commit": "c0ffee" + "0" * 34},
        "dataset": {"name": "/data/of/mine/rows.jsonl", "sources": {"gsm8k": 50}, "teachers": {"org/teacher": 50}},
        "settings": SETTINGS,
        "preparation": {"train": REPORT},
        "metrics": {"eval_critique_loss": 0.25, "eval_verdict_accuracy": 0.9},
        "machine": {"processor": "Xeon", "cores": 8, "memory_gib": 64.0, "accelerators": {"H100": 2}, "processes": 2},
        "versions": {"cft-trl": "0.1.0", "trl": "1.16.0"},
        "sessions": [{"started": "2026-11-21T10:00:00", "steps": [0, 4], "seconds": 3725.0}],
        **record,
    }
    (folder / "training.json").write_text(json.dumps(told))
    (folder / "settings.json").write_text(
        json.dumps({"output_dir": str(folder), "dataset_name": "/data/of/mine/rows.jsonl", "prompt_preset": "compact"})
    )
    (folder / "preparation.json").write_text(json.dumps({"train": REPORT}))
    (folder / "metrics.json").write_text(json.dumps(told["metrics"]))
    (folder / "training.png").write_bytes(b"\x89PNG of the loss")
    if selected:
        _select(folder, selected, steps)
    return folder


@cache
def _tokenizer() -> Any:
    return make_tokenizer("chatml")


def _select(folder: Path, winner: int, steps: tuple[int, ...]) -> None:
    from cft_trl.training.kept_models import link_model, point_best

    link_model(folder / f"checkpoint-{winner}", folder / "_selected" / f"step-{winner}")
    point_best(folder, Path("_selected") / f"step-{winner}")
    curve = [
        {"step": step, "hits": 5 + (step == winner), "of": 10, "score": 0.5 + 0.1 * (step == winner),
         "interval_95": [0.25, 0.8], "truncated": 0.0, "no_answer": 0.1}
        for step in steps
    ]  # fmt: skip
    told = {
        "benchmark": "/data/of/mine/problems.jsonl", "kind": "answers", "rows": 10, "notes": [], "majority_rate": None,
        "curve": curve, "winner": {"step": winner, "score": 0.6, "interval_95": [0.25, 0.8]}, "overlapping": [],
        "verdict": f"step {winner}: 6 of 10", "kept": [f"_selected/step-{winner}"],
    }  # fmt: skip
    (folder / "selection.json").write_text(json.dumps(told))
    (folder / "selection.png").write_bytes(b"\x89PNG of the curve")


def evaluated(folder: Path, model: Path) -> Path:
    """Notes in an evaluation that it is of what lies in this folder now, as `cft eval` does."""
    from cft_trl.models.identity import model_identity

    identity = {"kind": "transformers", "model": model_identity(str(model)), "dtype": "float32"}
    told = json.loads((folder / "evaluation.json").read_text())
    (folder / "evaluation.json").write_text(json.dumps(told | {"model": str(model), "identity": identity}))
    (folder / "run.json").write_text(json.dumps({"identity": identity}))
    return folder
