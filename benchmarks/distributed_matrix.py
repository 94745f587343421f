"""Two CPU processes against one: launcher x method x head x rows, what they train, save and go on with.

    python benchmarks/distributed_matrix.py --work ~/matrix                  # goes on where it was; Ctrl-C at any time
    python benchmarks/distributed_matrix.py --work ~/matrix --only 'ddp/full/*/padded'
    python benchmarks/distributed_matrix.py --work ~/matrix --table          # what has been measured so far

A cell is five launches of four steps (`recipes/cft.py` under `accelerate launch`, a tiny model, fp32, no dropout):

    trained     losses, gradient norms, verdicts against one process with the same rows a step
    saved       the trainer's eval loss, computed anew from what it saved, loaded by `load_model` and without cft_trl
    again       cut back to the checkpoint of step 2 and typed again: every logged number and weight, bit by bit
    to one      that checkpoint in one process alone: exact, or one line that refuses
    from one    the checkpoint of one process under this launcher: the same

Each cell is a line of WORK/cells.jsonl as soon as it has been measured. About a minute and a half on two idle cores.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import measure

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
sys.path.insert(0, sys.path[0] + "/training")
import test_distributed as launches  # how the tests launch, and the witness of what the processes were part of

LORA = {"use_peft": True, "lora_r": 8, "lora_dropout": 0.0, "lora_target_modules": ["q_proj", "v_proj", "down_proj"]}
METHODS = {
    "full": {},
    "lora": LORA,
    "dora": {**LORA, "use_dora": True},
    "lora+modules": LORA,  # and `lora_modules_to_save`, by the head
}
HEADS = {"untied": ["lm_head"], "tied": ["embed_tokens"]}  # what is trained whole beside the adapter
ROWS = {
    "padded": {},
    "packed": {"packing": True, "max_length": 700},
    "shared": {"share_prefixes": True, "max_length": 768},
    "streaming": {"dataset_streaming": True},
}
# Measured first, because most runs are one of these.
FIRST = [(b, m, "untied", r) for r in ("padded", "shared") for b in ("ddp", "zero3", "fsdp2") for m in ("full", "lora")]
CELLS = ["/".join(cell) for cell in FIRST] + [
    "/".join(cell) for cell in itertools.product(launches.BACKENDS, METHODS, HEADS, ROWS) if cell not in FIRST
]
LOSS, GRADIENT, SAVED = launches.LOSS, launches.GRADIENT, 1e-5
COLUMNS = ("trained", "saved", "again", "to one", "from one")


# ---- a cell ----------------------------------------------------------------------------------------------------------


class Cell:
    """One line of the matrix, in folders of its own below `work`.

    Args:
        name: "ddp/full/untied/padded".
        work: Where runs and models lie; the runs of one process and the models are made once.
    """

    def __init__(self, name: str, work: Path) -> None:
        self.name, self.work = name, work
        self.backend, self.method, self.head, self.rows = name.split("/")
        self.folder = work / name.replace("/", "-")
        launcher, rows, micro_batches = launches.BACKENDS[self.backend]
        self.launcher = launches.two(launcher)
        self.batch = {"per_device_train_batch_size": rows, "gradient_accumulation_steps": micro_batches}

    def measure(self) -> dict[str, Any]:
        """What came out, by column; a column is its verdict in a few words, and "numbers" has the digits."""
        shutil.rmtree(self.folder, ignore_errors=True)
        began = time.monotonic()
        told: dict[str, Any] = {"cell": self.name, "numbers": {}}
        one = self._alone()
        try:
            run = self._launch("run", self.launcher, self.batch)
        except AssertionError as error:
            told["trained"] = line_of(error)
        else:
            told["processes"] = run.processes
            told["trained"] = self._compare(run, one, told["numbers"])
            told["saved"] = self._judge(run, told["numbers"])
            told["again"] = self._go_on("again", run, self.launcher, self.batch, run, 0.0)
            told["to one"] = self._go_on("to-one", run, launches.ONE, self._batch_of_one, run, LOSS)
            told["from one"] = self._go_on("from-one", one, self.launcher, self.batch, one, LOSS)
        return {**told, "seconds": round(time.monotonic() - began, 1)}

    _batch_of_one: Mapping[str, int] = {"per_device_train_batch_size": 4}

    def _alone(self) -> launches.Run:
        folder = self.work / "-".join(("one", self.method, self.head, self.rows))
        if not (folder / "run" / "metrics.json").is_file():
            shutil.rmtree(folder, ignore_errors=True)
            self._launch(folder.name, launches.ONE, self._batch_of_one, self.work)
        return launches.Run(folder / "run", folder / "evidence", launches.output_of(folder))

    def _launch(self, name: str, launcher: list, batch: Mapping, below: Path | None = None) -> launches.Run:
        settings = {
            **METHODS[self.method], **ROWS[self.rows], **batch, "dataset_name": str(rows_in(self.work)),
            "dataset_limit": None, "eval_rows": 0, "eval_strategy": "steps", "eval_steps": 2,
        }  # fmt: skip
        if self.method == "lora+modules":
            settings["lora_modules_to_save"] = HEADS[self.head]
        return launches.launch(launcher, (below or self.folder) / name, model_in(self.work, self.head), **settings)

    def _compare(self, run: launches.Run, one: launches.Run, numbers: dict[str, Any]) -> str:
        numbers["trained"] = off = apart(run, one)
        if len(run.processes) != 2 or any(process["world"] != 2 for process in run.processes):
            return f"not two processes: {run.processes}"
        if off["counts"]:
            return f"other counts: {off['counts'][0]}"
        exact = off["loss"] < LOSS and off["grad_norm"] < GRADIENT
        return "exact" if exact else f"loss {off['loss']:.0e}, gradient {off['grad_norm']:.0e} off"

    def _judge(self, run: launches.Run, numbers: dict[str, Any]) -> str:
        """The eval loss of what was saved, loaded in two ways, against the trainer's."""
        trained = json.loads((run.folder / "metrics.json").read_text())["eval_critique_loss"]
        base = model_in(self.work, self.head) if self.method != "full" else None
        rows, found = rows_in(self.work) / "test.jsonl", {}
        for name, load in (("load_model", with_cft_trl), ("alone", without_cft_trl)):
            try:
                found[name] = abs(eval_loss(load(run.folder, base), run.folder, rows) / trained - 1)
            except Exception as error:  # whatever keeps a reader from reading it is this cell's result
                found[name] = None
                numbers[f"saved, {name}"] = line_of(error)
        numbers["saved"] = found
        wrong = [
            name if off is None else f"{name} {off:.0e} off"
            for name, off in found.items()
            if off is None or off > SAVED
        ]
        return "exact" if not wrong else ", ".join(wrong)

    def _go_on(
        self, name: str, whole: launches.Run, launcher: list, batch: Mapping, expected: launches.Run, limit: float
    ) -> str:
        """Goes on from step 2 of a copy; `limit` is how far off a loss may be, relative, 0.0 asks for every bit."""
        copy = self.folder / name / "run"
        launches.cut_to(whole.folder, copy, 2)
        try:
            run = self._launch(name, launcher, batch)
        except AssertionError as error:
            return line_of(error)
        if run.steps.keys() != expected.steps.keys():
            return f"steps {sorted(run.steps)}"
        if limit:
            off = apart(run, expected)
            within = off["loss"] < limit and off["grad_norm"] < GRADIENT and not off["counts"]
            return "exact" if within else f"loss {off['loss']:.0e}, gradient {off['grad_norm']:.0e} off"
        theirs = {step: strip(entry) for step, entry in expected.steps.items()}
        same = {step: strip(entry) for step, entry in run.steps.items()} == theirs
        weights, before = weights_of(run.folder), weights_of(expected.folder)
        same = same and weights.keys() == before.keys() and all((weights[k] == before[k]).all() for k in weights)
        return "bit-equal" if same else "other numbers"


def strip(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A log entry without what a session counts anew."""
    return {name: value for name, value in entry.items() if name != "num_tokens"}


def apart(run: launches.Run, one: launches.Run) -> dict[str, Any]:
    """The largest relative differences of two runs' logged numbers, and the counts that differ."""
    off: dict[str, Any] = {"loss": 0.0, "grad_norm": 0.0, "counts": []}
    evaluated = [{e["step"]: e for e in r.history if "eval_critique_loss" in e} for r in (run, one)]
    pairs = [(step, run.steps.get(step, {}), one.steps[step]) for step in one.steps]
    pairs += [(step, evaluated[0].get(step, {}), entry) for step, entry in evaluated[1].items()]
    for step, mine, theirs in pairs:
        for name, value in theirs.items():
            plain = name.removeprefix("eval_")
            got = mine.get(name, float("nan"))
            if plain in ("critique_loss", "grad_norm") or name == "loss":
                kind = "grad_norm" if plain == "grad_norm" else "loss"
                difference = abs(got / value - 1)
                off[kind] = max(off[kind], difference if difference == difference else float("inf"))
            elif plain.startswith("verdict_") and got != value:
                off["counts"].append(f"step {step}, {name} {got} for {value}")
    return off


def line_of(error: BaseException) -> str:
    """What a launch said for its end: "refused: …" in our own line, else "ended with …", an error's last line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    ours = [line for line in lines if line.startswith("cft:")]
    if len(ours) == 1:
        return f"refused: {ours[0].removeprefix('cft: ')}"
    failed = [line for line in lines if "Error" in line and "ChildFailedError" not in line]
    return f"ended with {(failed or lines or [type(error).__name__])[-1][:200]}"


# ---- what is trained, and what was saved -----------------------------------------------------------------------------


def rows_in(work: Path) -> Path:
    """train.jsonl, three critiques of each of 5 responses (which no batch of 4 divides), and test.jsonl, 7 rows."""
    from cft_trl.sources.arithmetic import arithmetic_records

    folder = work / "rows"
    if not (folder / "train.jsonl").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        records = list(arithmetic_records(12, seed=3, levels=(1,)))
        openings = ("", "Let us see. ", "I checked every step. ")
        train = [{**record, "id": f"{record['id']}.{i}", "critique": text + record["critique"]}
                 for record in records[:5] for i, text in enumerate(openings)]  # fmt: skip
        for name, rows in (("test", records[5:]), ("train", train)):
            (folder / f"{name}.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return folder


def model_in(work: Path, head: str) -> Path:
    folder = work / f"tiny-{head}"
    if not (folder / "model" / "tokenizer_config.json").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        launches.make_tiny(folder, tie_word_embeddings=head == "tied")
    return folder / "model"


def with_cft_trl(folder: Path, base: Path | None) -> Any:
    from cft_trl.models.loading import load_model

    return load_model(str(folder), dtype="float32")[0]


def without_cft_trl(folder: Path, base: Path | None) -> Any:
    """By transformers, and where there is an adapter by peft on the base it was trained from."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base or folder, dtype="float32")
    if base is None:
        return model
    from peft import PeftModel

    return PeftModel.from_pretrained(model, folder)


def eval_loss(model: Any, folder: Path, rows: Path) -> float:
    """Mean negative log-likelihood of a target token, nats, row by row with plain logits."""
    import torch

    from cft_trl.data.prompts import Prompting
    from cft_trl.data.records import to_records
    from cft_trl.models.loading import load_tokenizer
    from cft_trl.training.preparation import RowEncoder

    records = to_records([json.loads(line) for line in rows.read_text().splitlines()])
    encoded = RowEncoder(load_tokenizer(str(folder)), Prompting())(records)
    total, tokens = 0.0, 0
    model.eval()
    for ids, labels in zip(encoded["input_ids"], encoded["labels"], strict=True):
        with torch.no_grad():
            scores = model(input_ids=torch.tensor([ids])).logits[0, :-1].double().log_softmax(-1)
        targets = torch.tensor(labels[1:])
        kept = targets != -100
        total -= scores[kept, targets[kept]].sum().item()
        tokens += int(kept.sum())
    return total / tokens


def weights_of(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return {name: tensor for path in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(path).items()}


# ---- the matrix ------------------------------------------------------------------------------------------------------


def chosen(only: Sequence[str]) -> list[str]:
    """The cells that match one of the patterns, all without any; refuses a pattern that none matches."""
    for pattern in only:
        if not any(fnmatch(cell, pattern) for cell in CELLS):
            raise SystemExit(f"--only {pattern}: no such cell; they are named like {CELLS[0]}")
    return [cell for cell in CELLS if not only or any(fnmatch(cell, pattern) for pattern in only)]


def read_cells(work: Path) -> dict[str, dict[str, Any]]:
    """Cell -> its newest line; a line that was cut short is measured again."""
    found = {}
    path = work / "cells.jsonl"
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            told = json.loads(line)
        except ValueError:
            continue
        found[told["cell"]] = told
    return found


def table(cells: Iterable[str], measured: Mapping[str, Mapping[str, Any]]) -> str:
    """The matrix in Markdown; what was not measured says so."""
    lines = []
    for cell in cells:
        told = measured.get(cell, {})
        words = {column: str(told.get(column, "-" if told else "not run")) for column in COLUMNS}
        words = {column: "refused" if word.startswith("refused") else word for column, word in words.items()}
        lines.append({"cell": cell, **words})
    return measure.table(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for runs, models and cells.jsonl")
    parser.add_argument("--only", action="append", default=[], help="cells that match, e.g. 'zero3/*/*/shared'")
    parser.add_argument("--again", action="store_true", help="measure cells anew that have been measured")
    parser.add_argument("--table", action="store_true", help="print what has been measured, and measure nothing")
    options = parser.parse_args()
    cells, measured = chosen(options.only), read_cells(options.work)
    if not options.table:
        options.work.mkdir(parents=True, exist_ok=True)
        os.environ.setdefault("TORCH_EXTENSIONS_DIR", str(options.work / "torch_extensions"))  # compiled once
        todo = [cell for cell in cells if options.again or cell not in measured]
        began = time.monotonic()
        for number, name in enumerate(todo, 1):
            told = Cell(name, options.work).measure()
            with (options.work / "cells.jsonl").open("a") as file:
                file.write(json.dumps(told) + "\n")
            measured[name] = told
            left = (time.monotonic() - began) / number * (len(todo) - number) / 60
            words = ", ".join(f"{column}: {told[column]}" for column in COLUMNS if column in told)
            print(f"[{number}/{len(todo)}] {name}: {words} ({told['seconds']:.0f} s; {left:.0f} min left)", flush=True)
    print(table(cells, measured))
    print(measure.machine())


if __name__ == "__main__":
    main()
