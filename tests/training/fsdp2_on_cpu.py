"""For tests only: lets FSDP2 shard a model over CPU processes, which accelerate does over GPUs alone.

    accelerate launch --config_file recipes/accelerate/fsdp2.yaml … tests/training/test_distributed.py … (see there)

PyTorch's side of FSDP2 works with gloo; accelerate just never chooses it where the processes are of type MULTI_CPU.
"""

import os

from transformers import TrainerCallback


def install() -> None:
    """From now on a launch that asks for FSDP gets it, by calling the CPU processes GPU processes."""
    from accelerate.state import DistributedType, PartialState

    original = PartialState.__init__

    def init(self, *args, **kwargs):
        original(self, *args, **kwargs)
        if self.distributed_type == DistributedType.MULTI_CPU and os.environ.get("ACCELERATE_USE_FSDP") == "true":
            self.distributed_type = DistributedType.MULTI_GPU

    PartialState.__init__ = init


class WholeGradients(TrainerCallback):
    """The most tensors whose gradients FSDP2 kept unsharded between two micro-batches."""

    most = 0

    def on_substep_end(self, args, state, control, model=None, **kwargs):
        groups = [m._get_fsdp_state()._fsdp_param_group for m in model.modules() if hasattr(m, "_get_fsdp_state")]
        kept = [p for group in groups if group for p in group.fsdp_params if p.unsharded_accumulated_grad is not None]
        self.most = max(self.most, len(kept))
