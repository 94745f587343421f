"""Memory of a training step, on the fullest device: what lives all the time, and the moment at which most else does.

    always              weights, optimizer state, communication buffers, the runtime itself
    end of the forward  + activations + the LM head's tiles
    LM head, backward   + activations + the LM head's gradient and tiles           <- usually the peak
    layers, backward    + activations still needed + gradients so far
    optimizer           + gradients

What a layer keeps for its backward is counted tensor by tensor as transformers 5 computes Llama's layer, to which
Qwen2's, Mistral's and Qwen3's are equal but for small terms; `tests/planning/test_plan.py` compares with what
autograd saves.
"""

from __future__ import annotations

from dataclasses import dataclass

from cft_trl.planning.model_shape import ModelShape

GIB = 2**30

# TRL's fused LM head (trl/kernels/chunked_logprob.py) works on tiles of at most so many tokens x so many words; on
# a CPU we set others (`CPU_TILE` in trl_internals.py).
_TILE, _CPU_TILE = (4096, 32768), (512, 2048)
# Bytes per tile element beside the tile itself, on a CPU: its exponentials or, backwards in bf16, an fp32 copy.
_TILE_BESIDE = 4

# A CPU's memory is malloc's: blocks of at least so many bytes go back to the system when they are freed, smaller ones
# stay for other small ones. Beside them it loses what lies scattered, some layers' activations (fitted to eight
# settings of benchmarks/plan_check.py), and there is what the trainer holds around a model (measured there).
_RETURNED, _SCATTERED_LAYERS, _AROUND = 32 * 2**20, 6, round(0.076 * GIB)

# DeepSpeed's defaults, elements: what ZeRO collects before it reduces, and what ZeRO-3 keeps gathered.
_BUCKET, _LIVE, _PREFETCH, _SUB_GROUP = 500_000_000, 1_000_000_000, 50_000_000, 1_000_000_000

STRATEGIES = ("single", "ddp", "zero1", "zero2", "zero3", "fsdp2")


@dataclass(frozen=True)
class MicroBatch:
    """One micro-batch on one device, and how the run is spread.

    Attributes:
        rows, length: sequences of the micro-batch and their length in tokens, padding included.
        targets: share of the tokens that have loss; only they reach the LM head.
        masked: whether attention reads a mask (padded rows, a GPU's packs under sdpa) and not causality alone.
        shared: tokens of the rows one by one over those computed (`share_prefixes`), 1.0 without.
        accumulated: whether gradients of earlier micro-batches lie there already.
        checkpointing: whether layers are computed again in the backward pass.
        weights: `fp32`, or `bf16` for weights held in it.
        arithmetic: `fp32` or `bf16`; bf16 over fp32 weights is autocast.
        strategy: one of `STRATEGIES`.
        devices: how many share the run.
        on_cpu: without Triton and without a device to copy to.
        offload_optimizer, offload_weights: to the host's memory (ZeRO).
        trained: parameters that are trained, where that is not all (LoRA).
    """

    rows: int
    length: int
    targets: float = 0.5
    masked: bool = True
    shared: float = 1.0
    accumulated: bool = False
    checkpointing: bool = True
    weights: str = "fp32"
    arithmetic: str = "bf16"
    strategy: str = "single"
    devices: int = 1
    on_cpu: bool = False
    offload_optimizer: bool = False
    offload_weights: bool = False
    trained: int | None = None

    @property
    def tokens(self) -> int:
        return self.rows * self.length

    @property
    def autocast(self) -> bool:
        return self.arithmetic == "bf16" and self.weights == "fp32" and not self.casts_weights

    @property
    def casts_weights(self) -> bool:
        """ZeRO and FSDP2 compute on bf16 copies of the weights and keep fp32 ones sharded."""
        return self.arithmetic == "bf16" and self.strategy in ("zero1", "zero2", "zero3", "fsdp2")


@dataclass(frozen=True)
class Memory:
    """Bytes on the fullest device. `peak` is the sum of the others but `host`.

    Attributes:
        weights, gradients, optimizer: as stored there, sharded or not.
        activations: kept for the backward pass at the peak, with what is computed again or in passing.
        head: the LM head's tiles and its gradient, at the peak.
        communication: buffers for gathered weights and reduced gradients.
        runtime: libraries, the device's context, and what the allocator cannot reuse.
        host: on the machine's memory instead, all devices together (offloading).
        moment: when the peak is.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    head: int
    communication: int
    runtime: int
    host: int
    moment: str

    @property
    def peak(self) -> int:
        parts = (self.weights, self.gradients, self.optimizer, self.activations, self.head)
        return sum(parts) + self.communication + self.runtime


def layer_bytes(shape: ModelShape, step: MicroBatch) -> int:
    """Bytes per token that one layer keeps for its backward pass, its inputs among them.

    Counted in the order of Llama's layer: two norms (input, normalised, output for each), queries, keys, values and
    what attention puts out, the four tensors of the gated MLP; norms' scales and attention's sums are in fp32. Under
    autocast the residual stream stays fp32 and every matrix keeps a bf16 copy of its input of its own.
    """
    h, i, q, kv = shape.hidden, shape.intermediate, shape.query, shape.key_value
    small = 8 + 4 * shape.heads
    wide = 2 * q if step.masked else 2 * kv  # a mask makes keys be repeated for each head
    width = 4 if step.arithmetic == "fp32" else 2
    if step.arithmetic == "fp32":
        norms, mlp = 4 * 6 * h, 4 * 4 * i
    elif step.autocast:
        norms, mlp = 26 * h, 8 * i
    else:
        norms, mlp = 16 * h, 8 * i
    attention = width * (2 * q + wide)
    if step.masked:
        attention += width * step.length  # sdpa turns the mask into numbers, in each layer
    return norms + mlp + attention + small


def plan_memory(shape: ModelShape, step: MicroBatch, runtime: int = 0) -> Memory:
    """Memory of a step on the fullest device.

    Args:
        shape: the model's.
        step: the micro-batch and how the run is spread.
        runtime: bytes that are there without the model.
    """
    trained = shape.parameters if step.trained is None else step.trained
    weights, gradients, optimizer, communication, in_step = _states(shape, step, trained)
    per_layer = layer_bytes(shape, step) * step.tokens
    stream = (4 if step.autocast or step.arithmetic == "fp32" else 2) * shape.hidden * step.tokens
    kept = shape.layers * (stream if step.checkpointing else per_layer) + 2 * stream
    again = per_layer if step.checkpointing else 0
    # Autocast keeps its bf16 copies of the weights to the end of the forward pass, and autograd those it will need.
    copies = 2 * shape.layer_matrices if step.autocast else 0
    head_forward, head_backward = _head(shape, step, trained)
    before = gradients if step.accumulated else 0
    # The embedding's gradient is dense: a whole table is filled, then added.
    width = 2 if step.casts_weights or step.weights == "bf16" else 4
    embedding = width * shape.head if trained == shape.parameters else 0
    passing = 3 * stream
    # moment -> (gradients, activations, head, in the optimizer)
    moments = {
        "end of the forward pass": (before, kept + copies, head_forward, 0),
        "backward of the LM head": (before, kept + (0 if step.checkpointing else copies), head_backward, 0),
        "backward of the first layer": (gradients, again + passing, embedding, 0),
        "backward of the last layer": (before, kept + again + passing, embedding, 0),
        "optimizer": (gradients, 0, 0, in_step),
    }
    lost = dict.fromkeys(moments, 0)
    if step.on_cpu:
        small = 4 * max(inputs * outputs for _, inputs, outputs in shape.linears) < _RETURNED
        table = 4 * shape.head if trained == shape.parameters else 0  # the embedding's gradient is a large block
        heap = {name: small * max(0, at[0] - table) + at[1] for name, at in moments.items()}
        around = _AROUND + _SCATTERED_LAYERS * per_layer
        lost = {name: max(heap.values()) - held + around for name, held in heap.items()}
    moment = max(moments, key=lambda name: sum(moments[name]) + lost[name])
    at_peak = moments[moment]
    host = 0
    if step.offload_optimizer:
        host, optimizer = step.devices * optimizer, 0
    if step.offload_weights:
        host, weights = host + step.devices * weights, 0
    return Memory(
        weights=weights,
        gradients=at_peak[0],
        optimizer=optimizer + at_peak[3],
        activations=at_peak[1],
        head=at_peak[2],
        communication=communication,
        runtime=runtime + lost[moment],
        host=host,
        moment=moment,
    )


def _states(shape: ModelShape, step: MicroBatch, trained: int) -> tuple[int, int, int, int, int]:
    """-> bytes of weights, gradients, optimizer state, communication buffers, and what the optimizer's step adds."""
    n, frozen = step.devices, shape.parameters - trained
    if trained != shape.parameters:
        frozen, trained = shape.parameters, trained  # adapters come on top
    width = 4 if step.weights == "fp32" else 2
    if step.strategy == "single":
        return width * (frozen + trained), width * trained, 2 * width * trained, 0, 0
    if step.strategy == "ddp":  # the reducer's buckets are a second copy of the gradients
        return width * (frozen + trained), width * trained, 2 * width * trained, width * trained, 0
    layer = shape.layer_matrices // shape.layers
    if step.strategy == "fsdp2":
        # two layers gathered, two layers' gradients on their way, embedding and head gathered
        gathered = 2 * (2 * 2 * layer + (1 if shape.tied else 2) * shape.head)
        return width * (frozen + trained) // n, width * trained // n, 2 * width * trained // n, gathered, 0
    compute = 2 if step.arithmetic == "bf16" else 4
    master = (4 if compute == 2 else 0) + 8
    bucket = compute * min(_BUCKET, trained)
    in_step = 4 * min(trained // n, _SUB_GROUP) if compute == 2 else 0
    everything = compute * (frozen + trained)
    if step.strategy == "zero3":
        live = compute * min(frozen + trained, _LIVE + _PREFETCH)
        return everything // n, compute * trained // n, master * trained // n, live + bucket, in_step
    gradients = compute * trained // (n if step.strategy == "zero2" else 1)
    return everything, gradients, master * trained // n, 2 * bucket, in_step


def _head(shape: ModelShape, step: MicroBatch, trained: int) -> tuple[int, int]:
    """-> bytes of the LM head's tiles and gradient, in the forward and in the backward pass."""
    width = 4 if step.arithmetic == "fp32" else 2
    scored = max(1, round(step.targets * step.tokens * step.shared))
    tokens, words = _CPU_TILE if step.on_cpu else _TILE
    tile = min(scored, tokens) * min(words, shape.vocabulary)
    hidden = scored * shape.hidden
    tile *= width + (_TILE_BESIDE if step.on_cpu else 0)
    forward, backward = tile + width * hidden, tile + (width + 4) * hidden
    if trained == shape.parameters:
        gradient = 4 * shape.head + (2 * shape.head if step.casts_weights else 0)  # summed in fp32, then cast
        backward += gradient
    return forward, backward
