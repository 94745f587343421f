"""Two CPU processes train what one trains: `accelerate launch … recipes/cft.py`, for real.

As a script, this file is the recipe with a witness. Every process leaves what it was part of in FOLDER/rank0.json, …:

    accelerate launch … tests/training/test_distributed.py FOLDER [--fsdp2-on-cpu] recipes/cft.py --config run.yaml
    {"world": 2, "kind": "DEEPSPEED", "model": "DeepSpeedEngine", "zero_stage": 3, "dtensors": 0, …}

Measured after 4 steps of AdamW at 1e-3 in fp32, two processes against one: losses within 2e-7 and gradient norms
within 2e-5 (4e-5 at random weights), relative; weights within 1e-5, absolute; verdict counts equal; a resumed run
bit-identical. `eval_loss` is not compared: transformers averages it over batches, and the last of them depends on the
number of processes.
"""

from __future__ import annotations

import atexit
import functools
import importlib.util
import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import fsdp2_on_cpu
import pytest
import warm_python
from datasets import Dataset

REPOSITORY = Path(__file__).resolve().parents[2]
LAUNCHERS = REPOSITORY / "recipes" / "accelerate"

LOSS, GRADIENT, WEIGHT = 1e-6, 1e-4, 3e-5

SETTINGS = {
    "dtype": "float32", "bf16": False, "use_cpu": True, "dataset_name": "arithmetic", "dataset_limit": 24,
    "eval_rows": 13, "max_steps": 4, "learning_rate": 1e-3, "lr_scheduler_type": "cosine", "warmup_steps": 0,
    "gradient_checkpointing": False, "logging_steps": 1, "save_strategy": "steps", "save_steps": 2,
    "per_device_eval_batch_size": 3, "report_to": "none",
}  # fmt: skip


# --- the witness -----------------------------------------------------------------------------------------------------


class EndsTheProcess:
    """Does when Python is torn down, or what it hangs on is freed, what a thread of gloo does by chance: all fails."""

    def __del__(self, leave=os._exit) -> None:  # by then the module `os` is gone
        leave(70)


def witness(folder: str, *command: str) -> None:
    """Runs the script at the head of `command` and writes down what each `CFTTrainer.train` in it was part of."""
    from cft_trl.training.trainer import CFTTrainer

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        sys.kept_to_the_end = EndsTheProcess()

    if command[0] == "--fsdp2-on-cpu":
        fsdp2_on_cpu.install()
        command = command[1:]
    original = CFTTrainer.train

    def train(self, *args, **kwargs):
        self.add_callback(whole := fsdp2_on_cpu.WholeGradients())
        if self.accelerator.num_processes > 1:
            self.ends_with_it = EndsTheProcess()
        result = original(self, *args, **kwargs)
        path = Path(folder) / f"rank{self.args.process_index}.json"
        path.write_text(json.dumps({**_evidence(self), "whole_gradients": whole.most}))
        return result

    CFTTrainer.train = train
    sys.argv = list(command)
    runpy.run_path(command[0], run_name="__main__")


def _evidence(trainer) -> dict:
    from torch.distributed.tensor import DTensor

    model = trainer.model_wrapped
    parameters = list(model.parameters())
    # FSDP2 and ZeRO-3 know which part of a tensor is this process's own.
    own = [p.to_local() if isinstance(p, DTensor) else getattr(p, "ds_tensor", p) for p in parameters]
    return {
        "world": trainer.accelerator.num_processes,
        "kind": trainer.accelerator.distributed_type.value,
        "model": type(model).__name__,
        "zero_stage": model.zero_optimization_stage() if hasattr(model, "zero_optimization_stage") else None,
        "tensors": len(parameters),
        "dtensors": sum(isinstance(p, DTensor) for p in parameters),
        "away": sum(p.numel() == 0 for p in parameters),
        "numbers_owned": sum(p.numel() for p in own),
        "processes_on_node": int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
        "steps": trainer.state.global_step,
    }


# --- launching -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_tiny(tmp_path_factory.mktemp("tiny"))


def make_tiny(folder: Path, **config) -> Path:
    """A folder with a tiny model and its tokenizer, trained until it gets some verdicts right and others wrong."""
    from conftest import make_model, make_tokenizer

    from cft_trl import CFTConfig, CFTTrainer
    from cft_trl.sources.arithmetic import arithmetic_records

    tokenizer = make_tokenizer("chatml")
    model = make_model(tokenizer, **config)
    # Embeddings and head of over 100,000 numbers each: ZeRO-3 keeps smaller tensors whole on every process.
    model.resize_token_embeddings(4096, mean_resizing=False)
    args = CFTConfig(
        str(folder / "run"), use_cpu=True, bf16=False, report_to="none", disable_tqdm=True,
        max_steps=60, per_device_train_batch_size=8, learning_rate=1e-2, save_strategy="no", logging_steps=20,
        gradient_checkpointing=False,
    )  # fmt: skip
    rows = Dataset.from_list(list(arithmetic_records(200, seed=9, levels=(1,))))
    CFTTrainer(model, args, train_dataset=rows, processing_class=tokenizer).train()
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    return folder / "model"


class Run:
    """A finished run: its folder, what it logged, its weights and what its processes were part of."""

    def __init__(self, folder: Path, evidence: Path, output: str) -> None:
        self.folder, self.output = folder, output
        self.history = json.loads((folder / "trainer_state.json").read_text())["log_history"]
        self.processes = [json.loads(p.read_text()) for p in sorted(evidence.glob("rank*.json"))]

    @property
    def steps(self) -> dict[int, dict]:
        return {entry["step"]: entry for entry in self.history if "loss" in entry}

    def weights(self) -> dict:
        from safetensors.torch import load_file

        return load_file(self.folder / "model.safetensors")


def environment_of(folder: Path) -> dict[str, str]:
    """The variables of a launch whose files are in `folder`."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ACCELERATE_", "MASTER_", "FSDP_"))}
    return {
        **kept, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": "",
        "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1",
        # DeepSpeed compiles here: in the user's cache it would wait forever for the lock of a run that was killed.
        "TORCH_EXTENSIONS_DIR": os.environ.get("TORCH_EXTENSIONS_DIR", str(folder.parent / "torch_extensions")),
    }  # fmt: skip


def start(words: list[str], folder: Path, python: Sequence[str] = (sys.executable,)) -> subprocess.Popen:
    """Starts `accelerate launch WORDS` in a process group of its own; stdout and stderr go to FOLDER/output*.txt."""
    folder.mkdir(parents=True, exist_ok=True)
    number = len(list(folder.glob("output*.txt")))
    with (folder / f"output{number}.txt").open("w") as output:
        return subprocess.Popen(
            [*python, "-m", "accelerate.commands.launch", *map(str, words)],
            cwd=REPOSITORY, env=environment_of(folder), stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip


def finish(launch: subprocess.Popen, timeout: float = 600) -> int:
    try:
        return launch.wait(timeout)
    finally:
        if launch.poll() is None:
            os.killpg(launch.pid, signal.SIGKILL)
            launch.wait()


def output_of(folder: Path) -> str:
    return "\n".join(path.read_text() for path in sorted(folder.glob("output*.txt")))


def launch_words(launcher: list, folder: Path, tiny: Path, settings: dict, witnessed: bool = True) -> list[str]:
    import yaml

    given = {**SETTINGS, "model_name_or_path": str(tiny), "output_dir": str(folder / "run"), **settings}
    (folder / "evidence").mkdir(parents=True, exist_ok=True)
    (folder / "run.yaml").write_text(yaml.safe_dump(given))
    script = ["recipes/cft.py", "--config", folder / "run.yaml"]
    if not witnessed:
        return [*launcher, *script]
    patch = ["--fsdp2-on-cpu"] if any("fsdp" in str(word) for word in launcher) else []
    return [*launcher, "tests/training/test_distributed.py", folder / "evidence", *patch, *script]


@functools.cache
def warm() -> list[str]:
    """The words that start a Python which has imported already; its server lives as long as this process."""
    held = ExitStack()
    atexit.register(held.close)
    folder = Path(held.enter_context(tempfile.TemporaryDirectory()))
    return held.enter_context(warm_python.Server(folder, environment_of(folder))).python


def launch(launcher: list, folder: Path, tiny: Path, **settings) -> Run:
    """The run of a launch that has to end well; AssertionError with the end of its output where it does not."""
    words = launch_words([*launcher, "--no_python", *warm()], folder, tiny, settings)
    code = finish(start(words, folder, warm()))
    assert code == 0, output_of(folder)[-5000:]
    return Run(folder / "run", folder / "evidence", output_of(folder))


def cut_to(whole: Path, copy: Path, step: int) -> None:
    """A copy of a finished run as one that was killed after the checkpoint of a step left it."""
    shutil.copytree(whole, copy)
    for path in copy.glob("checkpoint-*"):
        if int(path.name.partition("-")[2]) > step:
            shutil.rmtree(path)
    for path in [*copy.glob("*.safetensors"), copy / "trainer_state.json", copy / "metrics.json"]:
        path.unlink()


def needs_deepspeed() -> None:
    if importlib.util.find_spec("deepspeed") is None:
        pytest.skip("needs DeepSpeed (make test-slow installs it)")


def two(name: str, *words: str) -> list:
    """The launcher of recipes/accelerate/NAME.yaml for two CPU processes in fp32, at a free port."""
    return ["--config_file", LAUNCHERS / f"{name}.yaml", "--num_processes", "2", "--mixed_precision", "no",
            *(words or ("--main_process_port", "0"))]  # fmt: skip


ONE = ["--num_processes", "1", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
# (launcher, rows per process and micro-batch, micro-batches): four rows a step in every case. The samplers deal the
# batches out in turn, so that a step has the same four rows as in one process.
BACKENDS = {
    "ddp": ("cpu_ddp", 1, 2),
    "zero2": ("cpu_zero2", 2, 1),
    "zero3": ("cpu_zero3", 1, 2),
    "fsdp2": ("fsdp2", 1, 2),
}
SHARING = {  # what each process must have been part of
    "ddp": {"kind": "MULTI_CPU", "model": "DistributedDataParallel", "zero_stage": None, "dtensors": 0},
    "zero2": {"kind": "DEEPSPEED", "model": "DeepSpeedEngine", "zero_stage": 2, "dtensors": 0},
    "zero3": {"kind": "DEEPSPEED", "model": "DeepSpeedEngine", "zero_stage": 3, "dtensors": 0},
    "fsdp2": {"kind": "FSDP", "model": "FSDPLlamaForCausalLM", "zero_stage": None},
}


@pytest.fixture(scope="module")
def single(tiny, tmp_path_factory):
    """The run of one process."""
    return launch(ONE, tmp_path_factory.mktemp("single"), tiny, per_device_train_batch_size=4)


@pytest.fixture(scope="module")
def double(tiny, tmp_path_factory):
    """`double(backend)` -> the run of two processes, made once."""
    made = {}

    def get(backend: str) -> Run:
        if backend not in made:
            launcher, rows, micro_batches = BACKENDS[backend]
            if backend.startswith("zero"):
                needs_deepspeed()
            made[backend] = launch(
                two(launcher),
                tmp_path_factory.mktemp(backend),
                tiny,
                per_device_train_batch_size=rows,
                gradient_accumulation_steps=micro_batches,
            )
        return made[backend]

    return get


def compare(run: Run, reference: Run) -> dict[str, float]:
    """The largest differences of losses, gradient norms (relative) and weights (absolute), of the logged steps too."""
    assert run.steps.keys() <= reference.steps.keys()
    largest = dict.fromkeys(("loss", "critique_loss", "grad_norm", "eval_critique_loss", "weights"), 0.0)
    pairs = [(run.steps[step], reference.steps[step]) for step in run.steps]
    pairs += [([e for e in r.history if "eval_loss" in e][-1] for r in (run, reference))]
    for ours, theirs in map(tuple, pairs):
        for name in ("verdict_accuracy", "verdict_accuracy_right", "verdict_accuracy_wrong", "verdict_count"):
            for key in (name, f"eval_{name}"):
                assert ours.get(key) == theirs.get(key), (key, ours, theirs)
        for name in ("loss", "critique_loss", "grad_norm", "eval_critique_loss"):
            if name in theirs:
                largest[name] = max(largest[name], abs(ours[name] / theirs[name] - 1))
    weights, expected = run.weights(), reference.weights()
    assert weights.keys() == expected.keys()
    for name, weight in weights.items():
        largest["weights"] = max(largest["weights"], (weight - expected[name]).abs().max().item())
    print("largest differences:", {name: f"{value:.1e}" for name, value in largest.items()})
    return largest


def assert_same(run: Run, reference: Run) -> None:
    largest = compare(run, reference)
    assert largest["loss"] < LOSS
    assert largest["critique_loss"] < LOSS
    assert largest["eval_critique_loss"] < LOSS
    assert largest["grad_norm"] < GRADIENT
    assert largest["weights"] < WEIGHT


# --- tests -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_one_process(single):
    assert [process["world"] for process in single.processes] == [1]
    assert single.processes[0]["kind"] == "NO"
    assert list(single.steps) == [1, 2, 3, 4]
    held_out = [entry for entry in single.history if "eval_loss" in entry][-1]
    assert held_out["eval_verdict_count"] == SETTINGS["eval_rows"]
    assert 0 < held_out["eval_verdict_accuracy"] < 1  # else comparing it would say little


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("backend", BACKENDS)
class TestTwoProcesses:
    def test_share_one_model(self, double, single, backend):
        run = double(backend)
        assert [process["world"] for process in run.processes] == [2, 2]
        assert [process["steps"] for process in run.processes] == [4, 4]
        whole = single.processes[0]["numbers_owned"]
        for process in run.processes:
            assert {name: process[name] for name in SHARING[backend]} == SHARING[backend]
            if backend == "fsdp2":
                assert process["dtensors"] == process["tensors"]
            if backend in ("fsdp2", "zero3"):
                assert process["numbers_owned"] < 0.6 * whole
            assert process["whole_gradients"] == 0
            assert process["away"] == (2 if backend == "zero3" else 0)

    def test_train_what_one_trains(self, double, single, backend):
        assert double(backend).steps.keys() == single.steps.keys()
        assert_same(double(backend), single)

    def test_leave_a_model_that_loads(self, double, single, backend):
        import torch
        from transformers import AutoModelForCausalLM

        run = double(backend)
        model, told = AutoModelForCausalLM.from_pretrained(run.folder, output_loading_info=True)
        assert not told["missing_keys"]
        assert not told["unexpected_keys"]
        reference = AutoModelForCausalLM.from_pretrained(single.folder)
        tokens = torch.arange(60).reshape(2, 30)
        torch.testing.assert_close(model(tokens).logits, reference(tokens).logits, atol=1e-3, rtol=0)
        assert json.loads((run.folder / "metrics.json").read_text())["eval_verdict_count"] == SETTINGS["eval_rows"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_packs_are_shared_out_too(tiny, tmp_path):
    """An odd number of packs to evaluate on, with different numbers of rows in them."""
    settings = {"packing": True, "max_length": 700, "save_strategy": "no"}
    one = launch(ONE, tmp_path / "one", tiny, **settings, per_device_train_batch_size=2)
    both = launch(two("cpu_ddp"), tmp_path / "two", tiny, **settings, per_device_train_batch_size=1)
    assert [process["world"] for process in both.processes] == [2, 2]
    assert_same(both, one)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("backend", ["ddp", "zero2"])
def test_a_killed_run_goes_on(double, tiny, tmp_path, backend):
    whole = double(backend)
    launcher, rows, micro_batches = BACKENDS[backend]
    cut_to(whole.folder, tmp_path / "run", 2)
    resumed = launch(
        two(launcher),
        tmp_path,
        tiny,
        per_device_train_batch_size=rows,
        gradient_accumulation_steps=micro_batches,
    )
    assert "checkpoint-2" in resumed.output
    assert [process["world"] for process in resumed.processes] == [2, 2]
    for step in (3, 4):
        for name in ("loss", "grad_norm", "critique_loss", "learning_rate"):
            assert resumed.steps[step][name] == whole.steps[step][name], (step, name)
    assert all((weight == whole.weights()[name]).all() for name, weight in resumed.weights().items())


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    witness(*sys.argv[1:])
