"""An experiment of toy size: a base of one layer, a few steps per arm."""

from __future__ import annotations

from pathlib import Path

import yaml

from cft_trl.experiments.settings import Experiment, read_experiment

TOY = {
    "name": "toy",
    "question": "Does the harness hold?",
    "baseline": "base",
    "choose_by": "both",
    "learning_rates": [1e-3, 3e-3, 1e-2],
    "world": {"levels": [1], "more_steps": [2], "unseen": ["bus_stop"]},
    "arms": {
        "base": {"train": "nothing"},
        "cft": {"train": "cft"},
        "mixed": {"train": "cft+sft", "target": "verified"},
    },
    "cpu": {
        "layers": 1, "width": 32, "vocabulary": 400, "base_rows": 32, "target_tokens": 500, "rows": 6, "questions": 24,
        "base_batch": 4, "batch": 4, "validation": 2, "tests": 2, "max_new_tokens": 4, "save_steps": 0.5,
    },
}  # fmt: skip


# What is trained for real: two objectives in one arm.
SMALL = {"arms": {name: TOY["arms"][name] for name in ("base", "mixed")}}


def toy(path: Path, **changes) -> Experiment:
    path.mkdir(parents=True, exist_ok=True)
    (path / "toy.yaml").write_text(yaml.safe_dump({**TOY, **changes}))
    return read_experiment(path / "toy.yaml")
