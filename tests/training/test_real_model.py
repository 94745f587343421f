"""SmolLM2-135M, a real model, on real critiques: `recipes/cft.py` as people run it."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import pytest
from conftest import REPOSITORY

pytestmark = pytest.mark.slow


def test_twenty_steps_on_the_shared_critiques(shared_data, tmp_path):
    """Every one of the 10,991 rows is kept, shortened or dropped; the loss falls."""
    pytest.importorskip("gguf")
    flags = {
        "config": REPOSITORY / "recipes/smollm2-135m/cft.yaml",
        "dataset_name": shared_data / "train" / "critiques_permissive.jsonl.gz",
        "dataset_columns": "verdict=label",
        "append_verdict": "true",
        "prompt_preset": "paper",
        "eval_strategy": "no",
        "eval_rows": 0,
        "generated_rows": 0,
        "arithmetic_levels": 1,
        "dataset_limit": 1_000_000,
        "packing": "false",
        "max_length": 384,
        "per_device_train_batch_size": 1,
        "max_steps": 20,
        "logging_steps": 1,
        "warmup_steps": 2,
        "learning_rate": 1e-4,
        "save_strategy": "no",
        "output_dir": tmp_path / "run",
    }
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, str(REPOSITORY / "recipes/cft.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads((tmp_path / "run" / "preparation.json").read_text())["train"]
    assert report["rows"] == 10_991 == report["kept"] + report["shortened"] + sum(report["dropped"].values())
    assert report["shortened"] > 0
    history = json.loads((tmp_path / "run" / "trainer_state.json").read_text())["log_history"]
    losses = [entry["critique_loss"] for entry in history if "critique_loss" in entry]
    assert len(losses) == 20
    assert all(map(math.isfinite, losses))
    assert sum(losses[-5:]) < sum(losses[:5])
