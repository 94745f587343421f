"""`cft plan`'s memory of GPUs against an independent count, without a GPU: PyTorch's own tracker over fake tensors.

    python benchmarks/plan_fake.py                      all settings, a minute each
    python benchmarks/plan_fake.py --only 7b-fsdp2      one of them

A fake tensor has a shape and no contents, and a fake process group has as many ranks as one likes: the model in its
whole size is sharded by PyTorch's `fully_shard` the way accelerate does it, and does two optimizer steps, while
`FSDPMemTracker` counts every storage. The LM head is TRL's, whose Triton kernels write into the tile that they read, so
that leaving them out changes no storage. Nothing of `cft_trl.planning` is used in the count. Under ZeRO-3 activations
and head are the tracker's (the model unsharded, its weights not counted), the states are DeepSpeed's own estimate
(`estimate_zero3_model_states_mem_needs`). Both sides leave out the driver's context, NCCL and fragmentation.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import time
import types
from typing import Any

import torch
from measure import record, table

from cft_trl.planning.hardware import read_hardware
from cft_trl.planning.memory import GIB
from cft_trl.planning.model_shape import PUBLISHED, model_shape
from cft_trl.planning.plan import PlannedRun, make_plan

QWEN_7B, QWEN_32B = "Qwen/Qwen2.5-7B", "Qwen/Qwen2.5-32B-Instruct"
# name -> model, devices, strategy, rows, length, layout, share of the tokens with loss, micro-batches
SETTINGS: dict[str, tuple[str, int, str, int, int, str, float, int]] = {
    "7b-fsdp2": (QWEN_7B, 8, "fsdp2", 8, 2048, "padded", 0.5, 2),
    "7b-fsdp2-one": (QWEN_7B, 8, "fsdp2", 1, 2048, "padded", 0.5, 1),
    "7b-fsdp2-packed": (QWEN_7B, 8, "fsdp2", 2, 4096, "packed", 0.5, 2),
    "7b-fsdp2-shared": (QWEN_7B, 8, "fsdp2", 1, 8192, "shared", 0.8, 2),
    "32b-fsdp2": (QWEN_32B, 8, "fsdp2", 2, 2048, "padded", 0.5, 2),
    "32b-fsdp2-shared": (QWEN_32B, 8, "fsdp2", 1, 4096, "shared", 0.8, 2),
    "7b-zero3": (QWEN_7B, 8, "zero3", 8, 2048, "padded", 0.5, 2),
    "7b-zero3-shared": (QWEN_7B, 8, "zero3", 1, 8192, "shared", 0.8, 2),
    "32b-zero3": (QWEN_32B, 8, "zero3", 2, 2048, "padded", 0.5, 2),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=SETTINGS, nargs="+", default=list(SETTINGS))
    parser.add_argument("--count", choices=SETTINGS, help=argparse.SUPPRESS)
    parser.add_argument("--no-save", action="store_true")
    options = parser.parse_args()
    if options.count:
        print(json.dumps(count(options.count)))
        return
    lines = []
    for name in options.only:  # in a process each: a process group is for life
        words = [sys.executable, __file__, "--count", name]
        told = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()[-1]
        lines.append(line_of(name, json.loads(told)))
        print(table(lines[-1:]), file=sys.stderr, flush=True)
    worst = max(lines, key=lambda line: abs(float(line["off"].rstrip("%"))))
    body = (
        "GiB per GPU at the peak, bf16 arithmetic over fp32 weights, checkpointing; the count: what is sharded "
        f"(weights, gradients, optimizer) and all else at its peak. Largest difference: {worst['off']} "
        f"({worst['setting']}).\n\n{table(lines)}"
    )
    record("cft plan against fake tensors", body, save=not options.no_save)


def line_of(name: str, found: dict[str, float]) -> dict[str, str]:
    """A setting's line: the plan's peak without what both leave out, beside the count."""
    model, devices, strategy, rows, length, layout, targets, micro_batches = SETTINGS[name]
    run = PlannedRun(
        model, rows=1000, max_length=length, micro_batch=rows, accumulation=micro_batches, targets=targets,
        packing=layout == "packed", sharing=1.000001 if layout == "shared" else 1.0, strategy=strategy,
    )  # fmt: skip
    memory = make_plan(run, model_shape(model), read_hardware(f"{devices}xH100")).memory
    planned, counted = (memory.peak - memory.runtime) / GIB, found["peak"] / GIB
    states = (memory.weights + memory.gradients + memory.optimizer) / GIB
    return {
        "setting": name, "model": model, "spread": f"{strategy} over {devices}", "micro-batch": f"{rows} x {length:,}",
        "rows": layout, "planned": f"{planned:.2f}", "counted": f"{counted:.2f}",
        "off": f"{100 * (planned / counted - 1):+.1f}%", "planned at": memory.moment,
        "states, planned and counted": f"{states:.2f}, {found['states'] / GIB:.2f}",
        "seconds": f"{found['seconds']:.0f}",
    }  # fmt: skip


def count(name: str) -> dict[str, float]:
    """Bytes on one device: `peak`, and `states`, which are weights, gradients and optimizer as they lie at the peak."""
    logging.disable(logging.WARNING)
    began = time.time()
    model_name, devices, strategy, rows, length, layout, targets, micro_batches = SETTINGS[name]
    counted = tracked(PUBLISHED[model_name], devices, strategy, rows, length, layout == "packed" or rows > 1, targets,
                      micro_batches)  # fmt: skip
    if strategy == "zero3":
        states = deepspeed_states(PUBLISHED[model_name], devices)
        counted = {"peak": counted["peak"] - counted["states"] + states, "states": states}
    return {**counted, "seconds": time.time() - began}


def tracked(
    config: dict[str, Any], devices: int, strategy: str, rows: int, length: int, masked: bool, targets: float,
    micro_batches: int,
) -> dict[str, float]:  # fmt: skip
    """Two optimizer steps under the tracker; the second one's peak."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.distributed import init_process_group
    from torch.distributed._tools.fsdp2_mem_tracker import FSDPMemTracker
    from torch.distributed._tools.mem_tracker import MemTracker
    from torch.distributed.device_mesh import init_device_mesh
    from torch.testing._internal.distributed.fake_pg import FakeStore
    from transformers import AutoConfig, AutoModelForCausalLM
    from trl.kernels import chunked_logprob

    for kernel in ("_forward_tile", "_backward_tile", "_addmm_fp32"):  # in Triton and in place
        setattr(chunked_logprob, kernel, lambda *args, **kwargs: None)
    init_process_group("fake", store=FakeStore(), rank=0, world_size=devices)
    mesh = init_device_mesh("cpu", (devices,))
    shape = AutoConfig.for_model(**config)
    shape._attn_implementation = "sdpa"
    with FakeTensorMode(allow_non_fake_inputs=True):
        # ZeRO-3 computes on bf16 weights; here they are whole, and what they take is taken off again.
        model = AutoModelForCausalLM.from_config(shape, dtype=torch.bfloat16 if strategy == "zero3" else torch.float32)
        model.train()
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.forward = types.MethodType(lambda self, **batch: loss_of(self, targets, **batch), model)
        if strategy == "fsdp2":
            shard(model, mesh)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
        batch: dict[str, Any] = {"input_ids": torch.zeros(rows, length, dtype=torch.long)}
        if masked:
            batch["attention_mask"] = torch.ones(rows, 1, length, length, dtype=torch.bool)
        if strategy == "fsdp2":
            tracker: Any = FSDPMemTracker(model, optimizer)
            tracker.track_inputs(tuple(batch.values()))
        else:  # the other one wants a sharded model
            tracker = MemTracker()
            tracker.track_external(model, optimizer, *batch.values())
        with tracker:
            for number in range(2):
                for _ in range(micro_batches):
                    tracker.reset_mod_stats()
                    model(**batch).backward()
                if number == 1:
                    break
                optimizer.step()
                optimizer.zero_grad()
                tracker._peak_mem, tracker._peak_mem_snap = {}, {}  # the optimizer's states are there from now on
        [snapshot] = [found for device, found in tracker.get_tracker_snapshot("peak").items() if device.type == "cpu"]
    sizes = {str(kind).rsplit(".", 1)[-1].lower(): size for kind, size in snapshot.items()}
    lasting = ("sharded_param", "sharded_grad", "opt") if strategy == "fsdp2" else ("param", "grad", "opt")
    states = sum(size for kind, size in sizes.items() if kind in lasting or (strategy == "zero3" and "param" in kind))
    return {"peak": sizes["total"], "states": states, **{f"of {kind}": size for kind, size in sizes.items()}}


def shard(model: Any, mesh: Any) -> None:
    """As accelerate 1.15 does by recipes/accelerate/fsdp2.yaml: a group for each layer, the rest in the root's."""
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    policy = MixedPrecisionPolicy(torch.bfloat16, torch.bfloat16, None)  # outputs as we leave them (training/fsdp2.py)
    for module in (*model.model.layers, model):
        fully_shard(module, mesh=mesh, mp_policy=policy, reshard_after_forward=True)


def loss_of(model: Any, targets: float, **batch: Any) -> torch.Tensor:
    """TRL's fused forward, for so many tokens with loss as the setting says: which ones needs contents to know."""
    from torch.distributed.tensor import DTensor
    from trl.kernels.chunked_logprob import ChunkedLogProbFunction
    from trl.trainer.utils import _CHUNKED_LOGPROB_CHUNK_SIZE

    hidden = model.model(**batch, use_cache=False).last_hidden_state[:, :-1]
    weight = model.get_output_embeddings().weight
    if isinstance(weight, DTensor):
        weight = weight.full_tensor()
    scored = hidden.reshape(-1, hidden.shape[-1])[: round(targets * hidden.shape[0] * hidden.shape[1])].clone()
    words = torch.zeros(len(scored), dtype=torch.long)
    found = ChunkedLogProbFunction.apply(
        scored, weight, None, words, 1.0, _CHUNKED_LOGPROB_CHUNK_SIZE, None, 1.0, ("entropy", "is_top1")
    )
    return -found[0].sum()


def deepspeed_states(config: dict[str, Any], devices: int) -> float:
    """DeepSpeed's estimate of a device's weights, gradients, optimizer states and gathered weights, without offload."""
    from deepspeed.runtime.zero.stage3 import estimate_zero3_model_states_mem_needs
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))
    largest = max(sum(p.numel() for p in module.parameters(recurse=False)) for module in model.modules())
    total = sum(p.numel() for p in model.parameters())
    _, of_device, _ = estimate_zero3_model_states_mem_needs(
        total, largest, num_gpus_per_node=devices, cpu_offload=False, cpu_offload_params=False, zero_init=True
    )
    return of_device


if __name__ == "__main__":
    main()
