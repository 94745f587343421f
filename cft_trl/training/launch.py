"""Refuses launches that exit 0 and train something else than was asked for.

Seen with accelerate 1.15: `accelerate launch --num_processes 2 --cpu` runs ONE process; a launch that sets
`ACCELERATE_USE_CPU` but no `use_cpu` in the config runs two independent copies, each with its own gradients.
"""

from __future__ import annotations

import os
from typing import Any

from cft_trl.errors import CFTError

REMEDY = "launch with `accelerate launch --config_file recipes/accelerate/…` and, on a CPU, set use_cpu=true"


def check_launch(args: Any) -> None:
    """Compares what the launcher announced in the environment with what `args` (a `TrainingArguments`) set up.

    Raises:
        CFTError: the launcher meant several processes and one would train alone, or several would train
            independent copies; or the launcher's DeepSpeed or FSDP settings are not in force.
    """
    from accelerate.utils import DistributedType

    wanted = int(os.environ.get("WORLD_SIZE", "1"))
    state = args.distributed_state
    actual = state.num_processes if state is not None else args.world_size
    if actual != wanted:
        raise CFTError(f"the launcher started {wanted} processes but this one would train alone; {REMEDY}")
    kind = state.distributed_type if state is not None else DistributedType.NO
    if wanted > 1 and kind == DistributedType.NO:
        raise CFTError(f"{wanted} processes were started but nothing connects their gradients; {REMEDY}")
    for variable, name in (("ACCELERATE_USE_DEEPSPEED", "DeepSpeed"), ("ACCELERATE_USE_FSDP", "FSDP")):
        if os.environ.get(variable, "false").lower() not in ("1", "true"):
            continue
        if name == "DeepSpeed" and args.deepspeed_plugin is None:
            raise CFTError(f"the launcher asked for DeepSpeed but it is not in force; {REMEDY}")
        if name == "FSDP" and kind not in (DistributedType.FSDP, DistributedType.DEEPSPEED):
            raise CFTError(f"the launcher asked for FSDP but training would run as {kind.value}; FSDP needs GPUs")
