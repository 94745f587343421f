"""A training step of LLaMA-Factory 0.9.5 beside TRL's and ours: the same rows, weights and machine, in turns.

    python benchmarks/llama_factory.py --make-environment ~/llamafactory    once: its own environment, with CPU torch
    python benchmarks/llama_factory.py --python ~/llamafactory/bin/python   SmolLM2-135M, 14 rows, 5 rounds

LLaMA-Factory (what the papers used) needs older libraries, hence another process: it is driven through its own workflow
(`run_exp`: its template, its preprocessing, its collator, its trainer) up to `trainer.train()`, which is replaced by a
loop that computes a step when it is told to. A step is forward and backward over all rows in fp32: as padded batches,
and packed. The token ids of its rows are compared with ours; losses are beside the times.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

REQUIREMENTS = ["llamafactory==0.9.5"]
# Its template's system turn has a full stop at the end that the model's own template has not.
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
METRICS = ["nltk", "jieba", "rouge-chinese"]  # imported at its start, but not listed
# What 0.9.5 lists and training on text never calls: web page, images, and sound, whose packages bring CUDA libraries.
LEFT_OUT = ("gradio", "torchvision", "torchaudio", "av", "librosa", "modelscope", "hf-transfer")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", type=Path, help="of the environment with llamafactory 0.9.5")
    parser.add_argument("--make-environment", type=Path, metavar="FOLDER", help="makes it, and ends")
    parser.add_argument("--rows", type=int, default=14)
    parser.add_argument("--level", type=int, default=3, choices=(1, 2, 3), help="of the arithmetic rows: their length")
    parser.add_argument("--batch", type=int, default=7, help="rows of a padded batch")
    parser.add_argument("--pack", type=int, default=2048, help="tokens of a pack")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--no-save", action="store_true")
    options = parser.parse_args()
    if options.worker:
        work(json.loads(options.worker.read_text()))
    elif options.make_environment:
        make_environment(options.make_environment)
    elif options.python:
        compare(options)
    else:
        raise SystemExit("give --python of its environment; --make-environment FOLDER makes one")


def make_environment(folder: Path) -> None:
    """A virtual environment with LLaMA-Factory, the CPU build of torch that this one has, and no CUDA."""
    import importlib.metadata as metadata
    import re

    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip = [folder / "bin/python", "-m", "pip", "install", "-q"]
    subprocess.run([*pip, f"torch=={metadata.version('torch')}"], check=True)
    subprocess.run([*pip, "--no-deps", *REQUIREMENTS], check=True)
    listed = subprocess.run(
        [folder / "bin/python", "-c", "import importlib.metadata as m; print('\\n'.join(m.requires('llamafactory')))"],
        check=True, capture_output=True, text=True,
    ).stdout.splitlines()  # fmt: skip
    needed = [line for line in listed if "extra ==" not in line and re.split(r"[^\w-]", line)[0] not in LEFT_OUT]
    subprocess.run([*pip, *METRICS, *(line for line in needed if not re.match(r"torch\W", line))], check=True)
    shown = subprocess.run([folder / "bin/python", "-m", "pip", "freeze"], check=True, capture_output=True, text=True)
    wanted = ("llamafactory", "torch=", "transformers", "trl", "datasets", "accelerate", "peft")
    print("\n".join(line for line in shown.stdout.splitlines() if line.startswith(wanted)))


# --- this side ---


def compare(options: argparse.Namespace) -> None:
    import datasets
    from measure import alternate, ratio, record, table

    datasets.disable_progress_bars()
    logging.disable(logging.WARNING)
    from training_step import Step

    from cft_trl.models.loading import load_tokenizer
    from cft_trl.models.names import resolve_model
    from cft_trl.sources.arithmetic import arithmetic_records

    tokenizer, model = load_tokenizer(options.model), resolve_model(options.model)
    rows = list(arithmetic_records(options.rows, seed=0, levels=(options.level,)))
    with tempfile.TemporaryDirectory() as folder:
        peers = {kind: Peer(options, rows, model, Path(folder) / kind, kind) for kind in ("padded", "packed")}
        own = {
            (who, kind): Step(make_trainer(who, kind, options, rows, tokenizer, f"{folder}/{who}-{kind}"), kind="")
            for who in ("TRL", "cft-trl")
            for kind in ("padded", "packed")
        }
        names = {f"{who}, {kind}": step for (who, kind), step in own.items()}
        names |= {f"LLaMA-Factory, {kind}": peer.step for kind, peer in peers.items() if peer.ready}
        seconds = alternate(names, options.rounds)
        ours = {tuple(ids) for ids in own["cft-trl", "padded"].trainer.train_dataset["input_ids"]}
        losses = {name: getattr(step, "loss", None) for name, step in names.items()}
        losses |= {f"LLaMA-Factory, {kind}": peer.loss for kind, peer in peers.items()}
        same = sum(tuple(ids) in ours for ids in peers["padded"].rows)
        for peer in peers.values():
            peer.stop()
    best = min((n for n in seconds if n.startswith("LLaMA")), key=lambda n: sum(seconds[n]), default=None)
    lines = [
        {
            "": name,
            "s/step": f"{sorted(taken)[len(taken) // 2]:.2f}",
            "over LLaMA-Factory's best": ratio(seconds[best], taken) if best and name != best else "",
            "loss": f"{losses[name]:.4f}",
        }
        for name, taken in seconds.items()
    ]
    told = [f"{kind}: {peer.trouble}" for kind, peer in peers.items() if not peer.ready]
    body = (
        f"{options.model}, fp32 on a CPU, {options.rows} rows; padded batches of {options.batch}, packs of "
        f"{options.pack:,}; forward and backward, median of {options.rounds} alternating rounds. Its rows with our "
        f"token ids: {same} of {options.rows}. "
        f"Its environment: {next(iter(peers.values())).versions}.\n\n{table(lines)}\n"
    )
    body += "".join(f"\nLLaMA-Factory did not run {text}\n" for text in told)
    record("Training step beside LLaMA-Factory", body, save=not options.no_save)


def make_trainer(who: str, kind: str, options: argparse.Namespace, rows: list[dict], tokenizer, folder: str):
    import datasets
    from trl import SFTConfig, SFTTrainer

    from cft_trl import CFTConfig, CFTTrainer
    from cft_trl.data.prompts import Prompting, to_prompt_completion
    from cft_trl.models.names import resolve_model

    settings = {
        "output_dir": folder, "use_cpu": True, "bf16": False, "report_to": "none", "max_length": options.pack,
        "gradient_checkpointing": False, "packing": kind == "packed", "shuffle_dataset": False,
        "per_device_train_batch_size": 1 if kind == "packed" else options.batch,
    }  # fmt: skip
    if who == "cft-trl":
        data = datasets.Dataset.from_list(rows)
        trainer = CFTTrainer(options.model, CFTConfig(**settings), train_dataset=data, processing_class=tokenizer)
    else:
        data = datasets.Dataset.from_list([to_prompt_completion(row, Prompting(), chat=True) for row in rows])
        trainer = SFTTrainer(
            resolve_model(options.model), SFTConfig(**settings), train_dataset=data, processing_class=tokenizer
        )
    trainer.model.float()
    return trainer


class Peer:
    """LLaMA-Factory in its process; `step` computes one there."""

    def __init__(self, options: argparse.Namespace, rows: list[dict], model: str, folder: Path, kind: str) -> None:
        folder.mkdir(parents=True)
        task = write_task(options, rows, model, folder, kind)
        log = (folder / "log").open("w")
        self.process = subprocess.Popen(
            [options.python, __file__, "--worker", task], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
            text=True, env={**os.environ, "DISABLE_VERSION_CHECK": "1"},
        )  # fmt: skip
        self.loss, self.rows, self.versions, self.trouble = float("nan"), [], "", ""
        hello = self._read()
        self.ready = hello is not None
        if self.ready:
            self.rows, self.versions = hello["rows"], hello["versions"]
        else:
            self.trouble = ((folder / "log").read_text().strip().splitlines() or ["no message"])[-1][:300]

    def _read(self) -> dict[str, Any] | None:
        for line in self.process.stdout:
            if line.startswith("##"):
                return json.loads(line[2:])
        return None

    def step(self) -> None:
        self.process.stdin.write("step\n")
        self.process.stdin.flush()
        self.loss = self._read()["loss"]

    def stop(self) -> None:
        self.process.stdin.close()
        self.process.wait(60)


def write_task(options: argparse.Namespace, rows: list[dict], model: str, folder: Path, kind: str) -> Path:
    """Rows in its ShareGPT layout, and the settings of a full fine-tuning."""
    from cft_trl.data.prompts import Prompting, to_prompt_completion

    examples = [to_prompt_completion(row, Prompting(), chat=True) for row in rows]
    messages = [{"messages": example["prompt"] + example["completion"]} for example in examples]
    (folder / "rows.json").write_text(json.dumps(messages))
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
    layout = {"file_name": "rows.json", "formatting": "sharegpt", "columns": {"messages": "messages"}, "tags": tags}
    (folder / "dataset_info.json").write_text(json.dumps({"rows": layout}))
    packed = {"packing": True, "neat_packing": True} if kind == "packed" else {"packing": False}
    settings = {
        "stage": "sft", "do_train": True, "finetuning_type": "full", "model_name_or_path": model, "dataset": "rows",
        "dataset_dir": str(folder), "cutoff_len": options.pack, "output_dir": str(folder / "out"),
        "template": "smollm2", "default_system": SYSTEM,
        "per_device_train_batch_size": 1 if kind == "packed" else options.batch, "gradient_accumulation_steps": 1,
        "use_cpu": True, "bf16": False, "fp16": False, "report_to": "none", "flash_attn": "sdpa",
        "disable_gradient_checkpointing": True, "overwrite_cache": True, "num_train_epochs": 1, **packed,
    }  # fmt: skip
    (folder / "task.json").write_text(json.dumps(settings))
    return folder / "task.json"


# --- its side: runs in the other environment, without cft_trl ---


def work(settings: dict[str, Any]) -> None:
    import types
    from importlib.machinery import ModuleSpec
    from importlib.metadata import version

    # Imported at its start and used for sound alone; the package does not load beside a CPU build of torch.
    torchaudio = types.ModuleType("torchaudio")
    torchaudio.__spec__ = ModuleSpec("torchaudio", None)
    sys.modules["torchaudio"] = torchaudio

    import torch
    from llamafactory.train.sft import workflow
    from llamafactory.train.tuner import run_exp

    def serve(trainer, *args, **kwargs):
        trainer.model.float().train()
        data = trainer.train_dataset
        size = trainer.args.per_device_train_batch_size
        known = ("input_ids", "attention_mask", "labels", "position_ids")
        data = data.select_columns([column for column in known if column in data.column_names])
        batches = [
            trainer._prepare_inputs(trainer.data_collator([data[i] for i in range(at, min(at + size, len(data)))]))
            for at in range(0, len(data), size)
        ]
        targets = sum(int((batch["labels"][:, 1:] != -100).sum()) for batch in batches)
        names = ("llamafactory", "torch", "transformers", "trl")
        versions = ", ".join(f"{name} {version(name)}" for name in names)
        say({"rows": [list(ids) for ids in data["input_ids"]], "versions": versions})
        for _ in sys.stdin:
            trainer.model.zero_grad()
            total = 0.0
            for batch in batches:
                loss = trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=torch.tensor(targets))
                loss.backward()
                total += float(loss.detach())
            say({"loss": total})
        sys.exit(0)

    workflow.CustomSeq2SeqTrainer.train = serve
    run_exp(settings)


def say(message: dict[str, Any]) -> None:
    print("##" + json.dumps(message), flush=True)


if __name__ == "__main__":
    main()
