"""`cft train --report_to trackio`: the run's metrics are in trackio's store on this machine, without a network."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from conftest import REPOSITORY, make_model

from cft_trl.cli import main
from cft_trl.commands.settings import parse_settings


@pytest.fixture
def flags(tokenizers, tmp_path):
    make_model(tokenizers("chatml")).save_pretrained(tmp_path / "model")
    tokenizers("chatml").save_pretrained(tmp_path / "model")
    return [
        *("--model_name_or_path", str(tmp_path / "model"), "--dataset_name", "arithmetic", "--dataset_limit", "16"),
        *(
            "--eval_rows",
            "4",
            "--eval_strategy",
            "steps",
            "--eval_steps",
            "2",
            "--max_steps",
            "4",
            "--logging_steps",
            "1",
        ),
        *("--output_dir", str(tmp_path / "run"), "--use_cpu", "true", "--bf16", "false", "--save_strategy", "no"),
        *("--max_length", "512", "--gradient_checkpointing", "false", "--per_device_train_batch_size", "2"),
    ]


@pytest.mark.slow  # the same inside this process: test_trainer.py
def test_metrics_are_in_the_local_store(flags, tmp_path):
    pytest.importorskip("trackio")
    store = tmp_path / "store"
    environment = {**os.environ, "TRACKIO_DIR": str(store), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(REPOSITORY)}
    more = ["--report-to", "trackio", "--project", "first", "--run_name", "one"]
    command = [sys.executable, "-m", "cft_trl.cli", "train", *flags, *more]
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-3000:]
    listing = [sys.executable, "-m", "trackio.cli", "list", "metrics", "--project", "first", "--run", "one", "--json"]
    asked = subprocess.run(listing, env=environment, capture_output=True, text=True)
    assert asked.returncode == 0, asked.stderr[-2000:]
    for metric in ("train/critique_loss", "train/verdict_accuracy", "eval/verdict_accuracy"):
        assert metric in asked.stdout


@pytest.mark.parametrize("spelling", ["--report_to", "--report-to"])
def test_both_spellings_of_the_flag(flags, spelling):
    _, config, _ = parse_settings([*flags, spelling, "trackio", "--project", "first"])
    assert (config.report_to, config.project) == (["trackio"], "first")


def test_without_trackio_one_line_says_what_to_install(flags, capsys, monkeypatch):
    monkeypatch.setattr("transformers.integrations.integration_utils.is_trackio_available", lambda: False)
    assert main(["train", *flags, "--report_to", "trackio"]) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("cft:")]
    assert len(error) == 1
    assert "pip install trackio" in error[0]
