"""For tests only: lets FSDP2 shard a model over CPU processes, which accelerate does over GPUs alone.

    accelerate launch --config_file recipes/accelerate/fsdp2.yaml … tests/training/test_distributed.py … (see there)

PyTorch's side of FSDP2 works with gloo; accelerate just never chooses it where the processes are of type MULTI_CPU.
"""

import os


def install() -> None:
    """From now on a launch that asks for FSDP gets it, by calling the CPU processes GPU processes."""
    from accelerate.state import DistributedType, PartialState

    original = PartialState.__init__

    def init(self, *args, **kwargs):
        original(self, *args, **kwargs)
        if self.distributed_type == DistributedType.MULTI_CPU and os.environ.get("ACCELERATE_USE_FSDP") == "true":
            self.distributed_type = DistributedType.MULTI_GPU

    PartialState.__init__ = init
