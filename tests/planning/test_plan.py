"""`cft plan`: counts against published ones, bytes against what autograd saves, and what the command says."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import subprocess
import sys

import pytest
import torch
import yaml
from conftest import REPOSITORY

from cft_trl.cli import main
from cft_trl.commands import plan as plan_command
from cft_trl.planning.hardware import TABLE, read_hardware
from cft_trl.planning.memory import GIB, MicroBatch, layer_bytes, plan_memory
from cft_trl.planning.model_shape import PUBLISHED, _shape, model_shape
from cft_trl.planning.plan import PlannedRun, make_plan
from cft_trl.training.prefix_sharing.packs import lay_out


def test_the_help_names_all_hardware():
    [line] = [line for line in plan_command.HELP.splitlines() if "--hardware NxKIND" in line]
    assert line.split("NxKIND")[1].strip().split(", ") == list(yaml.safe_load(TABLE.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("Qwen/Qwen2.5-7B", 7_615_616_512),
        ("Qwen/Qwen2.5-1.5B", 1_543_714_304),
        ("Qwen/Qwen2.5-32B-Instruct", 32_763_876_352),
        ("deepseek-ai/deepseek-math-7b-base", 6_910_365_696),
        ("meta-llama/Llama-3.1-8B-Instruct", 8_030_261_248),
        ("smollm2-135m", 134_515_008),
    ],
)
def test_parameters_are_the_published_counts(name, parameters):
    assert model_shape(name).parameters == parameters


def test_a_folder_is_read(tiny_model, tokenizer, tmp_path):
    model = tiny_model(tokenizer, "qwen2")
    model.save_pretrained(tmp_path)
    shape = model_shape(str(tmp_path))
    assert shape.parameters == sum(p.numel() for p in model.parameters())
    assert (shape.layers, shape.query, shape.key_value) == (2, 32, 16)


# --- activations: the formula against the tensors that autograd keeps ---


def saved_per_layer(make, weights: torch.dtype, autocast: bool, **inputs) -> float:
    """Bytes that one more layer makes the backbone save, parameters not counted."""
    totals = []
    for layers in (1, 2):
        model = make(layers, weights)
        own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
        kept, held = {}, []

        def keep(tensor, own=own, kept=kept, held=held):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                kept[storage.data_ptr()] = storage.nbytes()
                held.append(tensor)  # else a later tensor could get the same address
            return tensor

        hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
        with hooks, torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            output = model.model(use_cache=False, **inputs)
        totals.append(sum(kept.values()))
        del output
    return totals[1] - totals[0]


@pytest.fixture
def make_layers(tiny_model, tokenizer):
    def make(layers: int, dtype: torch.dtype, family: str = "llama"):
        model = tiny_model(tokenizer, family, attn_implementation="sdpa")
        model.model.layers = model.model.layers[:1] if layers == 1 else model.model.layers
        return model.to(dtype).train()

    return make


@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("weights", "arithmetic"), [("fp32", "fp32"), ("fp32", "bf16"), ("bf16", "bf16")])
def test_layers_keep_what_is_planned(make_layers, family, packed, weights, arithmetic):
    length = 96
    positions = torch.arange(length)[None] % (40 if packed else length)
    dtype, autocast = (torch.float32 if weights == "fp32" else torch.bfloat16), weights != arithmetic
    inputs = {"input_ids": torch.arange(length)[None], "position_ids": positions}
    measured = saved_per_layer(lambda n, d: make_layers(n, d, family), dtype, autocast, **inputs)
    shape = _shape(make_layers(2, dtype, family).config, family)
    step = MicroBatch(1, length, masked=packed, weights=weights, arithmetic=arithmetic)
    planned = layer_bytes(shape, step) * length
    if step.autocast:
        planned += 2 * shape.layer_matrices // shape.layers  # the copies, which `plan_memory` counts apart
    assert measured == pytest.approx(planned, rel=0.03)


def test_shared_layers_keep_what_is_planned(make_layers):
    from cft_trl.training.collator import DataCollatorForCritique
    from cft_trl.training.prefix_sharing.attention import use_shared_attention

    prompt = list(range(1, 41))
    rows = [{"input_ids": [*prompt, *range(50 + i, 80 + i)], "labels": [-100] * 40 + [7] * 30} for i in range(4)]
    pack = lay_out(rows)
    tokens = len(pack["input_ids"])

    def make(layers, dtype):
        model = make_layers(layers, dtype)
        use_shared_attention(model)
        return model

    tokenizer = type("Tokenizer", (), {"pad_token_id": 0, "eos_token_id": 0})()
    batch = DataCollatorForCritique(tokenizer, share_prefixes=True)([pack])
    del batch["labels"]
    measured = saved_per_layer(make, torch.float32, False, **batch)
    shape = _shape(make_layers(2, torch.float32).config, "llama")
    step = MicroBatch(1, tokens, shared=280 / tokens, masked=False, arithmetic="fp32", on_cpu=True)
    assert measured == pytest.approx(layer_bytes(shape, step) * tokens, rel=0.05)


def test_the_heads_tiles_are_those_that_are_used():
    import trl.kernels.chunked_logprob as trl_head
    import trl.trainer.utils as trl_utils

    from cft_trl.planning import memory as plan_memory
    from cft_trl.training.trl_internals import fused_head

    def used() -> tuple[int, int]:
        return trl_head.TOKEN_CHUNK_SIZE, trl_utils._CHUNKED_LOGPROB_CHUNK_SIZE

    assert used() == plan_memory._TILE
    with fused_head(torch.device("cpu")):
        assert used() == plan_memory._CPU_TILE


# --- sharding and what follows from it ---

SEVEN = "Qwen/Qwen2.5-7B"


def memory(**fields):
    return plan_memory(model_shape(SEVEN), MicroBatch(rows=8, length=2048, **fields))


def test_zero3_divides_sixteen_bytes_a_parameter():
    parameters = model_shape(SEVEN).parameters
    for strategy in ("zero3", "fsdp2"):
        at_peak = memory(strategy=strategy, devices=8, accumulated=True)
        states = at_peak.weights + at_peak.gradients + at_peak.optimizer
        assert states == pytest.approx(16 * parameters / 8, rel=0.01)
    whole = memory(strategy="zero2", devices=8, accumulated=True)
    assert whole.weights == 2 * parameters


def test_each_measure_lowers_the_peak():
    plain = memory(checkpointing=False)
    assert memory(checkpointing=True).peak < plain.peak
    shape = model_shape(SEVEN)
    assert memory(checkpointing=False, trained=shape.adapters(16, None), weights="bf16").peak < 0.6 * plain.peak
    peaks = [memory(strategy=strategy, devices=8).peak for strategy in ("ddp", "zero1", "zero2", "zero3")]
    assert peaks == sorted(peaks, reverse=True)
    offloaded = memory(strategy="zero3", devices=8, offload_optimizer=True)
    assert offloaded.host == pytest.approx(12 * shape.parameters, rel=0.01)
    assert offloaded.optimizer == 0


def test_steps_and_tokens_are_the_published_ones():
    hardware, shape = read_hardware("8xH100"), model_shape(SEVEN)
    run = PlannedRun(SEVEN, rows=50_000, max_length=2048, micro_batch=8, accumulation=8)
    work = make_plan(run, shape, hardware).work
    assert (work.steps, work.batch, work.tokens) == (98, 512, 50_000 * 2048)
    one_shot = PlannedRun(SEVEN, rows=600, max_length=4096, micro_batch=8, accumulation=8, epochs=50)
    assert make_plan(one_shot, shape, hardware).work.steps == 100
    packed = PlannedRun(
        SEVEN, rows=50_000, max_length=2048, micro_batch=8, accumulation=8, packing=True, row_tokens=1024
    )
    assert make_plan(packed, shape, hardware).work.steps == 49
    shared = make_plan(PlannedRun(**{**packed.__dict__, "sharing": 2.0}), shape, hardware)
    assert shared.work.steps == 25


def test_arithmetic_is_six_flops_a_parameter_and_token():
    shape = model_shape(SEVEN)
    run = PlannedRun(SEVEN, rows=1000, max_length=16, micro_batch=1, targets=1.0, checkpointing=False)
    time = make_plan(run, shape, read_hardware("H100")).time
    matrices = shape.layer_matrices + shape.head
    assert time.model_flops == pytest.approx(6 * matrices * 16_000, rel=0.001)
    assert time.seconds == pytest.approx(time.hardware_flops / (989e12 * 0.45))


def test_slow_networks_limit_sharded_training():
    shape = model_shape("Qwen/Qwen2.5-32B-Instruct")
    run = PlannedRun("32B", rows=64_000, max_length=2048, micro_batch=1)
    assert make_plan(run, shape, read_hardware("8xH100")).time.limit == "arithmetic"
    assert make_plan(run, shape, read_hardware("64xH100")).time.limit == "communication"


# --- the command ---

FLAGS = "--model_name_or_path smollm2-135m --max_length 512 --dataset_name arithmetic"


def cft(capsys, *words):
    code = main(["plan", *[part for word in words for part in shlex.split(word)]])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_text_says_planned_and_the_json_adds_up(capsys):
    code, out, _ = cft(capsys, FLAGS, "--hardware 4xA100-80GB")
    assert code == 0
    assert out.startswith("PLANNED, NOT MEASURED: smollm2-135m on 4 x A100-80GB, ZeRO-3")
    plan = json.loads(cft(capsys, FLAGS, "--hardware 4xA100-80GB --json")[1])
    parts = {k: v for k, v in plan["memory"].items() if k not in ("peak", "host", "moment")}
    assert plan["planned"] is True
    assert sum(parts.values()) == plan["memory"]["peak"]
    assert f"{plan['memory']['peak'] / GIB:.2f}" in out


def test_what_does_not_fit_says_what_would(capsys):
    code, out, _ = cft(
        capsys, "--config recipes/qwen2.5-7b/cft.yaml --hardware 1xH100".replace("recipes", str(REPOSITORY / "recipes"))
    )
    assert code == 0
    assert "DOES NOT FIT" in out
    assert re.search(r"4 x H100, ZeRO-3 and checkpointing: [\d.]+ GiB|2 x H100, ZeRO-3", out)
    assert "LoRA" in out


def test_launchers_are_read(capsys):
    folder = REPOSITORY / "recipes" / "accelerate"
    for name, word in (("zero2", "ZeRO-2"), ("fsdp2", "FSDP2"), ("multi_gpu", "DDP"), ("zero3_multinode", "ZeRO-3")):
        assert word in cft(capsys, FLAGS, f"--hardware 8xH100 --accelerate {folder / name}.yaml")[1].splitlines()[0]


def test_bf16_is_the_recipes_not_this_machines(capsys, tmp_path):
    path = tmp_path / "run.yaml"
    for given, said in (("true", "bf16 arithmetic, fp32 master"), ("false", "one process, fp32")):
        path.write_text(f"model_name_or_path: smollm2-135m\ndataset_name: arithmetic\nbf16: {given}\n")
        assert said in cft(capsys, f"--config {path} --hardware H200")[1]
    assert "bf16 arithmetic, fp32 master" in cft(capsys, f"--config {path} --hardware H200 --bf16 true")[1]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (FLAGS, "--hardware is missing"),
        (f"{FLAGS} --hardware 8xH10", "did you mean 'H100'?"),
        (f"{FLAGS} --hardware 0xH100", "give a count"),
        (f"{FLAGS} --hardware cpu --rows none", "none is not a positive whole number"),
        (f"{FLAGS} --hardware cpu --targets 2", "--targets 2"),
        (f"{FLAGS} --hardware cpu --sharing 0.5", "--sharing 0.5"),
        (f"{FLAGS} --hardware cpu --accelerate absent.yaml", "absent.yaml"),
        (f"{FLAGS} --hardware cpu --table absent.yaml", "absent.yaml"),
        (f"{FLAGS} --hardware cpu --lerning_rate 1", "did you mean 'learning_rate'?"),
        (f"{FLAGS} --hardware cpu --use_peft true --lora_target_modules q_pro", "did you mean 'q_proj'?"),
        (f"{FLAGS} --hardware cpu --load_in_4bit true", "not planned for"),
        ("--model_name_or_path Qwen/Qwen2.5-9B --dataset_name arithmetic --hardware cpu", "Qwen/Qwen2.5-7B"),
        ("--model_name_or_path smollm2-135m --dataset_name no/where --hardware cpu", "give --rows N"),
    ],
)
def test_mistakes_are_told_in_one_line(capsys, flags, message):
    code, _, err = cft(capsys, flags)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1


# --- the recipes' READMEs ---

LINES = [
    (path, command, line)
    for path in sorted((REPOSITORY / "recipes").rglob("README.md"))
    for command, line in re.findall(r"^(cft plan .*--line)\n(planned, .*)$", path.read_text(), re.MULTILINE)
]


@pytest.mark.parametrize(("command", "line"), [entry[1:] for entry in LINES], ids=range(len(LINES)))
def test_readmes_say_what_the_command_says(capsys, monkeypatch, command, line):
    monkeypatch.chdir(REPOSITORY)
    assert cft(capsys, command.removeprefix("cft plan "))[1].rstrip("\n") == line


def test_every_large_recipe_is_planned():
    planned = {re.search(r"recipes/(\S+)\.yaml", command)[1] for _, command, _ in LINES}
    large = {
        f"{path.parent.name}/{path.stem}"
        for path in (REPOSITORY / "recipes").glob("*/*.yaml")
        if path.parent.name not in ("accelerate", "smollm2-135m", "slurm", "experiments", "trl")
    }
    assert large <= planned
    assert {name.split("/")[0] for name in planned} & {"qwen2.5-math-7b"}
    assert set(PUBLISHED) >= {"Qwen/Qwen2.5-7B"}


@pytest.mark.slow
def test_a_gpus_memory_is_what_fake_tensors_take(monkeypatch):
    """`benchmarks/plan_fake.py`, one of its settings: the plan within 10% of PyTorch's own tracker."""
    name = "7b-fsdp2-one"
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    script = importlib.import_module("plan_fake")
    counted = subprocess.run([sys.executable, script.__file__, "--count", name], capture_output=True, text=True)
    line = script.line_of(name, json.loads(counted.stdout.splitlines()[-1]))
    assert abs(float(line["off"].rstrip("%"))) <= 10, line
