"""An adapter's whole way, command by command: trained on a Hub id, pushed, pulled, asked, and shown in the demo."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager, suppress

import pytest
from families import FAMILIES, ROWS, base_folder
from hub_server import OWNER, HubServer

from cft_trl.data.prompts import Prompting
from cft_trl.generation.vllm_server import free_port

pytestmark = pytest.mark.slow

COMPLETIONS = [Prompting().completion(row) for row in ROWS]
SETTINGS = [
    "--use_peft", "--lora_r", "32", "--lora_alpha", "64", "--lora_target_modules", "all-linear",
    "--learning_rate", "3e-3", "--lr_scheduler_type", "constant", "--warmup_steps", "0", "--max_steps", "60",
    "--per_device_train_batch_size", "8", "--save_steps", "30", "--max_length", "512", "--use_cpu", "true",
    "--bf16", "false", "--dtype", "float32", "--report_to", "none", "--gradient_checkpointing", "false",
]  # fmt: skip


@contextmanager
def demo(words, folder, environment):
    """The app of `cft demo`, started for real -> its address."""
    port = free_port()
    with open(folder / "demo.log", "w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "cft_trl.cli", "demo", *words, "--port", str(port)],
            env=environment, stdout=log, stderr=subprocess.STDOUT, cwd=folder,
        )  # fmt: skip
        try:
            while process.poll() is None:
                with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5):
                    break
                time.sleep(0.2)
            assert process.poll() is None, (folder / "demo.log").read_text()
            yield f"http://127.0.0.1:{port}/"
        finally:
            process.terminate()
            process.wait(30)


@pytest.mark.timeout(600)
def test_from_training_to_the_demo(tmp_path):
    from gradio_client import Client

    def cft(*words):
        done = subprocess.run(
            [sys.executable, "-m", "cft_trl.cli", *map(str, words)],
            env=environment, capture_output=True, text=True, timeout=300, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    with HubServer(tmp_path / "hub") as hub:
        environment = hub.environment(OWNER, tmp_path / "home")
        base_folder(FAMILIES["qwen2.5-base"], tmp_path / "base")
        upload = "from huggingface_hub import HfApi; a = HfApi(); a.create_repo('org/base')\n"
        upload += "a.upload_folder(folder_path='base', repo_id='org/base')"
        subprocess.run([sys.executable, "-c", upload], env=environment, cwd=tmp_path, check=True, capture_output=True)
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS * 4))
        asked = [{"query": row["query"], "response": row["response"]} for row in ROWS]
        (tmp_path / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))

        cft(
            "train",
            "--model_name_or_path",
            "org/base",
            "--dataset_name",
            "rows.jsonl",
            "--output_dir",
            "run",
            *SETTINGS,
        )
        cft("push", "run", "org/adapter")
        assert "org/adapter" in cft("pull", "org/adapter", "--output", "pulled")
        settings = json.loads((tmp_path / "pulled" / "adapter_config.json").read_text())
        commit = hub.repo("model", "org/base")["branches"]["main"]
        assert (settings["base_model_name_or_path"], settings["revision"]) == ("org/base", commit)
        for source in ("run", "pulled", "org/adapter"):
            cft("critique", source, "--input", "asked.jsonl", "--output", f"{source[-6:]}.out", "--max-new-tokens", 120)
            written = [json.loads(line) for line in (tmp_path / f"{source[-6:]}.out").read_text().splitlines()]
            assert [line["critique"] for line in written] == COMPLETIONS
            assert [line["verdict"] for line in written] == ["wrong", "right"]

        with demo(
            ["--model", "pulled", "--base-model", "org/base", "--max-new-tokens", "150"], tmp_path, environment
        ) as at:
            client = Client(at, verbose=False)
            for row, completion in zip(ROWS, COMPLETIONS, strict=True):
                answer = client.predict(row["query"], row["response"], api_name="/critique")
                told = (answer["critique"], answer["verdict"], answer["finish_reason"])
                assert told == (completion, row["verdict"], "stop")
