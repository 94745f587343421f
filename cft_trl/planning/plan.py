"""What a run will need and take, before it is started: memory on each GPU, steps, arithmetic, time, energy.

    cft plan --config recipes/qwen2.5-math-7b/cft.yaml --hardware 8xH100

    settings + launcher + hardware -> Work (rows, packs, steps) -> Memory (`memory.py`) and Time -> Plan

Memory is derived from the model's shape and from what the libraries do; on a CPU it is checked against measurements
(`benchmarks/plan_check.py`). Time is arithmetic over what the hardware is taken to reach (`hardware.yaml`), or the
bytes that GPUs exchange over their links where those take longer; start-up, evaluation and saving are not in it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from cft_trl.errors import CFTError
from cft_trl.planning.hardware import Hardware
from cft_trl.planning.memory import GIB, STRATEGIES, Memory, MicroBatch, plan_memory
from cft_trl.planning.model_shape import ModelShape

# Rows of the published sets, which need no download to be known, and the share that right_only keeps (paper: 56%).
PUBLISHED_ROWS = {
    ("TIGER-Lab/WebInstruct-CFT", "WebInstruct-CFT-4K"): 4_000,
    ("TIGER-Lab/WebInstruct-CFT", "WebInstruct-CFT-50K"): 50_000,
    ("TIGER-Lab/WebInstruct-CFT", "WebInstruct-CFT-600K"): 600_000,
    ("TIGER-Lab/One-Shot-CFT-Data", None): 600,
}
RIGHT_SHARE = 0.56

# On a GPU: the driver's context and the kernels; the buffers of NCCL; what the allocator cannot reuse. All assumed.
_CONTEXT, _NCCL, _FRAGMENTS = 0.6 * GIB, 0.8 * GIB, 0.05
# On a CPU: a process with torch, transformers, TRL and a tokenizer, as measured by benchmarks/plan_check.py.
PROCESS = round(0.53 * GIB)


@dataclass(frozen=True)
class Work:
    """What a run goes through. `at_most`: the rows' lengths are unknown, each is taken to be as long as allowed."""

    rows: int
    batch: int
    unit: str
    steps: int
    tokens_per_step: int
    tokens: int
    at_most: bool


@dataclass(frozen=True)
class Time:
    """Of the training itself. `limit`: what takes the time, `arithmetic` or `communication`."""

    model_flops: float
    hardware_flops: float
    seconds: float
    tokens_per_second: float
    model_utilisation: float
    limit: str
    kilowatt_hours: float


@dataclass(frozen=True)
class Plan:
    """A run as it is planned; `alternatives` says what would fit where it does not."""

    model: str
    shape: ModelShape
    hardware: Hardware
    step: MicroBatch
    work: Work
    memory: Memory
    time: Time
    alternatives: tuple[str, ...]

    @property
    def fits(self) -> bool:
        return self.memory.peak <= self.hardware.memory_gib * GIB

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON: bytes, seconds, FLOPs."""
        plan = asdict(self)
        plan["memory"] |= {"peak": self.memory.peak}
        return {"planned": True, "fits": self.fits, **plan}


@dataclass(frozen=True)
class PlannedRun:
    """The settings of a run that a plan depends on; names as in the training settings.

    Attributes:
        rows: training rows. row_tokens: their mean length with padding, None if unknown.
        targets: share of the tokens that have loss. sharing: tokens saved by share_prefixes, as a ratio.
        masked: whether attention reads masks. varlen: whether a CPU computes packs row by row (`varlen_attention`).
        bf16: whether matrix products are computed in it. weights: `fp32` or `bf16`, the setting `dtype`.
        strategy: one of `plan_memory.STRATEGIES`, None for zero3 on several GPUs.
    """

    model: str
    rows: int
    max_length: int
    micro_batch: int = 8
    accumulation: int = 1
    epochs: float = 1.0
    max_steps: int = -1
    packing: bool = False
    pack_length: int | None = None
    row_tokens: int | None = None
    targets: float = 0.5
    sharing: float = 1.0
    checkpointing: bool = True
    bf16: bool = True
    weights: str = "fp32"
    masked: bool = True
    varlen: bool = True
    lora_rank: int | None = None
    lora_targets: tuple[str, ...] = ()
    strategy: str | None = None
    offload_optimizer: bool = False
    offload_weights: bool = False


def make_plan(run: PlannedRun, shape: ModelShape, hardware: Hardware) -> Plan:
    """Plans a run.

    Args:
        run: What is trained, on how many rows of which lengths.
        shape: The model's.
        hardware: Its devices.

    Raises:
        CFTError: a strategy that the hardware has too few devices for.

    Example:
        >>> from cft_trl.planning.hardware import read_hardware
        >>> from cft_trl.planning.model_shape import model_shape
        >>> run = PlannedRun("Qwen/Qwen2.5-7B", rows=50_000, max_length=2048, accumulation=8)
        >>> plan = make_plan(run, model_shape(run.model), read_hardware("8xH100"))
        >>> plan.work.steps, plan.work.tokens_per_step, plan.fits
        (98, 1048576, True)
    """
    step = _step(run, shape, hardware)
    work = _work(run, hardware)
    memory = _memory(shape, step, hardware)
    time = _time(run, shape, hardware, step, work)
    plan = Plan(run.model, shape, hardware, step, work, memory, time, ())
    return plan if plan.fits else replace(plan, alternatives=tuple(_alternatives(run, shape, hardware)))


def _step(run: PlannedRun, shape: ModelShape, hardware: Hardware) -> MicroBatch:
    strategy = run.strategy or ("zero3" if hardware.count > 1 else "single")
    if strategy not in STRATEGIES:
        raise CFTError(f"strategy {strategy}: unknown; give one of {', '.join(STRATEGIES)}")
    packed = run.packing or run.sharing > 1
    by_rows = run.sharing > 1 or (run.varlen and packed and hardware.on_cpu)
    return MicroBatch(
        rows=run.micro_batch,
        length=(run.pack_length or run.max_length) if packed else run.max_length,
        targets=run.targets,
        masked=run.masked and (packed or run.micro_batch > 1) and not by_rows,
        shared=run.sharing,
        accumulated=run.accumulation > 1,
        checkpointing=run.checkpointing,
        weights=run.weights,
        arithmetic="bf16" if run.bf16 else run.weights,
        strategy="ddp" if strategy == "single" and hardware.count > 1 else strategy,
        devices=hardware.count,
        on_cpu=hardware.on_cpu,
        offload_optimizer=run.offload_optimizer,
        offload_weights=run.offload_weights,
        trained=shape.adapters(run.lora_rank, list(run.lora_targets)) if run.lora_rank else None,
    )


def _work(run: PlannedRun, hardware: Hardware) -> Work:
    packed = run.packing or run.sharing > 1
    row_tokens = run.row_tokens or run.max_length
    length = (run.pack_length or run.max_length) if packed else row_tokens
    units = math.ceil(run.rows * row_tokens / run.sharing / length) if packed else run.rows
    batch = run.micro_batch * run.accumulation * hardware.count
    per_epoch = math.ceil(math.ceil(units / (run.micro_batch * hardware.count)) / run.accumulation)
    steps = run.max_steps if run.max_steps > 0 else math.ceil(per_epoch * run.epochs)
    tokens = min(steps * batch, math.ceil(units * run.epochs) if run.max_steps < 1 else steps * batch) * length
    return Work(
        run.rows, batch, "packs" if packed else "rows", steps, min(batch, units) * length, tokens, not run.row_tokens
    )


def _memory(shape: ModelShape, step: MicroBatch, hardware: Hardware) -> Memory:
    if hardware.on_cpu:
        return plan_memory(shape, step, PROCESS)
    memory = plan_memory(shape, step)
    return replace(memory, runtime=round(_CONTEXT + (_NCCL if step.devices > 1 else 0) + _FRAGMENTS * memory.peak))


def _time(run: PlannedRun, shape: ModelShape, hardware: Hardware, step: MicroBatch, work: Work) -> Time:
    row_tokens = min(run.row_tokens or run.max_length, step.length)
    scored = work.tokens * step.targets * step.shared
    model, done = training_flops(shape, work.tokens, row_tokens, scored, step.checkpointing, step.trained is not None)
    peak = hardware.peak(step.arithmetic)
    arithmetic = done / (peak * hardware.utilisation)
    exchanged = work.steps * (run.accumulation * _exchanged(shape, step) + _exchanged_per_step(shape, step))
    communication = exchanged / hardware.slowest_link if hardware.count > 1 else 0.0
    seconds = max(arithmetic, communication)  # the two overlap
    return Time(
        model_flops=model,
        hardware_flops=done,
        seconds=seconds,
        tokens_per_second=work.tokens / seconds,
        model_utilisation=model / seconds / peak,
        limit="communication" if communication > arithmetic else "arithmetic",
        kilowatt_hours=hardware.count * hardware.watts * seconds / 3.6e6,
    )


def training_flops(
    shape: ModelShape, tokens: float, row_tokens: float, scored: float, checkpointing: bool, adapters: bool = False
) -> tuple[float, float]:
    """FLOPs of forward and backward -> (without recomputation, with it).

    Args:
        tokens: that go through the layers.
        row_tokens: length of a row, which is what a token's attention reaches over (half of it on average).
        scored: tokens that reach the LM head, whose logits the fused head computes twice.
        checkpointing: whether the layers are computed twice.
        adapters: whether the weights are frozen, so that they need no gradient.

    Example:
        >>> from cft_trl.planning.model_shape import model_shape
        >>> shape = model_shape("smollm2-135m")
        >>> training_flops(shape, 1, 0, 1, False)[0] == 6 * (shape.layer_matrices + shape.head)
        True
    """
    factor = 4 if adapters else 6  # 2 for the forward pass, 2 each for the gradients of the input and of the weights
    layers = tokens * (shape.layer_matrices + shape.layers * shape.query * row_tokens)
    head = scored * shape.head
    return factor * (layers + head), (factor + 2 * checkpointing) * layers + (factor + 2) * head


def _exchanged(shape: ModelShape, step: MicroBatch) -> int:
    """Bytes that each GPU sends (and receives) for a micro-batch: sharded weights, twice, and gradients."""
    width = 2 if step.arithmetic == "bf16" else 4
    trained = shape.parameters if step.trained is None else step.trained
    if step.strategy in ("zero3", "fsdp2"):
        return width * (2 * shape.parameters + trained)
    return width * trained if step.strategy == "zero2" else 0


def _exchanged_per_step(shape: ModelShape, step: MicroBatch) -> int:
    width = 2 if step.casts_weights else 4
    trained = shape.parameters if step.trained is None else step.trained
    return {"ddp": 2 * 4, "zero1": 3 * width, "zero2": width}.get(step.strategy, 0) * trained


def _alternatives(run: PlannedRun, shape: ModelShape, hardware: Hardware) -> Iterator[str]:
    """What would fit: settings, the smallest change first; the fewest devices; adapters."""
    smaller = replace(run, micro_batch=1, accumulation=run.accumulation * run.micro_batch)
    candidates = [
        [
            ("gradient_checkpointing: true", replace(run, checkpointing=True), hardware.count),
            (
                f"per_device_train_batch_size: 1 with gradient_accumulation_steps: {smaller.accumulation}",
                smaller,
                hardware.count,
            ),
            ("both of these", replace(smaller, checkpointing=True), hardware.count),
        ]
    ]
    if hardware.count > 1:
        sharded = replace(run, strategy="zero3", checkpointing=True)
        candidates[0] += [
            ("ZeRO-3 (recipes/accelerate/zero3.yaml) with checkpointing", sharded, hardware.count),
            ("that with batches of 1", replace(sharded, micro_batch=1), hardware.count),
        ]
    more = [count for count in (2, 4, 8, 16, 32, 64) if count > hardware.count and not hardware.on_cpu]
    spread = replace(run, checkpointing=True, strategy="zero3")
    candidates.append([(f"{count} x {hardware.kind}, ZeRO-3 and checkpointing", spread, count) for count in more])
    adapters = replace(run, lora_rank=16, weights="bf16", checkpointing=True)
    candidates.append([("LoRA: use_peft: true, lora_r: 16, dtype: bfloat16", adapters, hardware.count)])
    for kind in candidates:
        for text, candidate, count in kind:
            there = replace(hardware, count=count)
            peak = _memory(shape, _step(candidate, shape, there), there).peak
            if peak <= hardware.memory_gib * GIB:
                yield f"{text}: {peak / GIB:.1f} GiB"
                break
