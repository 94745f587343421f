"""What goes wrong where weights are sharded, by FSDP2 above all, and is put right here before it does.

    FSDP2, lora_modules_to_save [lm_head]      TRL's head takes `weight.full_tensor()`, whose gradient is taken to be
                                               equal on all processes: each kept a part of its own
    FSDP2, lora_modules_to_save, tied head     accelerate ties the head to the copy that is trained, which one process
                                               does not, and PEFT saves as if it had not
    FSDP2, several micro-batches               each process keeps all gradients whole between them: a 7B model's
                                               are 14 GiB on every GPU
    FSDP2, bf16                                outputs are rounded to bf16: losses lose digits (off by 2e-3)
    FSDP2 and ZeRO-2, tied head                saved twice, once as the embeddings and once as the head

Seen with torch 2.13, accelerate 1.15, peft 0.21 and TRL 1.16; `tests/training/test_fsdp2.py` has two processes do each.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def averaged_gradients() -> Iterator[None]:
    """Has the gradient of a tensor that is gathered whole (`DTensor.full_tensor`) averaged over the processes.

    As FSDP does with those of the weights it gathers itself. What is set is set for the whole process.
    """
    from torch.distributed.tensor import DTensor, Partial

    gather = DTensor.full_tensor

    def full_tensor(self: Any, *, grad_placements: Any = None) -> torch.Tensor:
        if grad_placements is None and self.requires_grad and torch.is_grad_enabled():
            grad_placements = [Partial("avg")] * self.device_mesh.ndim
        return gather(self, grad_placements=grad_placements)

    DTensor.full_tensor = full_tensor
    try:
        yield
    finally:
        DTensor.full_tensor = gather


def settle_fsdp2(accelerator: Any, model: Any, accumulation: Mapping[str, Any] | None = None) -> None:
    """Called once the trainer stands, before the model is sharded.

    Args:
        accelerator: The trainer's; does nothing where it shards otherwise.
        model: The model, whole, or as much of it as this process has.
        accumulation: The user's `accelerator_config.gradient_accumulation_kwargs`; a `sync_each_batch` in it stays.
    """
    if not getattr(accelerator, "is_fsdp2", False):
        return
    # Gradients are reduced, and sharded, after each micro-batch, as `cft plan` counts them and ZeRO does.
    accelerator.gradient_state.plugin_kwargs.setdefault(
        "sync_each_batch", (accumulation or {}).get("sync_each_batch", True)
    )
    plugin = accelerator.state.fsdp_plugin
    policy = plugin.mixed_precision_policy
    if getattr(policy, "output_dtype", None) in (torch.bfloat16, torch.float16):
        # None: as they come out. Between layers that is the compute type; losses and entropy are float32.
        plugin.mixed_precision_policy = dataclasses.replace(policy, output_dtype=None)
    untie_trained_copies(model)


def untie_trained_copies(model: Any) -> bool:
    """Parts head and embeddings of a tied base where PEFT trains a copy of one of them (`modules_to_save`).

    The copy is on its own then, as in one process: the other goes on with the frozen weights. It costs the head's
    memory once more, sharded. -> whether there was anything to part.
    """
    if not hasattr(model, "peft_config"):
        return False
    base = model.get_base_model()
    config = base.config.get_text_config()
    parts = [base.get_input_embeddings(), base.get_output_embeddings()]
    if not config.tie_word_embeddings or not any(hasattr(part, "modules_to_save") for part in parts):
        return False
    head = getattr(parts[1], "original_module", parts[1])
    head.weight = torch.nn.Parameter(head.weight.detach().clone(), requires_grad=False)
    # Of this model in memory alone, for accelerate ties again by it. An adapter is saved without it.
    config.tie_word_embeddings = base.config.tie_word_embeddings = False
    return True


def without_tied_copies(model: Any, weights: dict[str, torch.Tensor] | None) -> dict[str, torch.Tensor] | None:
    """What is to be saved, without tensors that loading ties to another one of the same content.

    transformers knows copies by their memory, and what was gathered from several processes has memory of its own.

    Args:
        model: The model, not wrapped.
        weights: What was gathered, by name; None where transformers takes the model's own.
    """
    if not weights or hasattr(model, "peft_config"):
        return weights
    tied = getattr(model, "all_tied_weights_keys", None) or {}
    copies = {
        name
        for name, source in tied.items()
        if name in weights and source in weights and torch.equal(weights[name], weights[source])
    }
    return {name: tensor for name, tensor in weights.items() if name not in copies}
