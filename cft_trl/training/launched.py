"""How a run was launched, and whether a checkpoint goes on under another launch.

    settings.json: {"launch": {"kind": "ZeRO-3", "processes": 8}, …}

What a checkpoint holds depends on it. DDP and one process alone write the same files, with whole weights and whole
optimizer states; they go on from each other's exactly where a step has the same rows, that is where the global batch
(rows a process x micro-batches x processes) is the same. DeepSpeed and FSDP write files of their own, cut by process.
transformers goes on from weights it finds and, where it finds no optimizer of the kind it knows, begins that anew
without a word.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cft_trl.errors import CFTError

ALONE, DDP = "one process", "DDP"
_WHOLE = (ALONE, DDP)  # kinds whose checkpoints hold whole weights and optimizer states
# Settings of a global batch; compared by what they make together where that is all that matters.
BATCH_SETTINGS = ("per_device_train_batch_size", "gradient_accumulation_steps")
_FILES = {
    DDP: "multi_gpu.yaml", "ZeRO-1": "a DeepSpeed file", "ZeRO-2": "zero2.yaml", "ZeRO-3": "zero3.yaml",
    "FSDP2": "fsdp2.yaml", "FSDP": "an FSDP file",
}  # fmt: skip


def launched_as(args: Any) -> dict[str, Any]:
    """The kind of launch and the number of processes of `args`, a `TrainingArguments`.

    Example:
        >>> from cft_trl import CFTConfig
        >>> launched_as(CFTConfig("out", use_cpu=True, report_to="none"))
        {'kind': 'one process', 'processes': 1}
    """
    plugin = args.deepspeed_plugin
    if plugin is not None:
        kind = f"ZeRO-{plugin.zero_stage}"
    elif os.environ.get("ACCELERATE_USE_FSDP", "").lower() in ("1", "true") or args.fsdp:
        kind = "FSDP2" if os.environ.get("FSDP_VERSION", "2") == "2" else "FSDP"
    else:
        kind = ALONE if args.world_size == 1 else DDP
    return {"kind": kind, "processes": args.world_size}


def launch_of(checkpoint: Path) -> dict[str, Any] | None:
    """What a checkpoint's files say about its launch; None where they say nothing (weights alone)."""
    states = len(list(checkpoint.glob("rng_state_*.pth"))) or 1
    shards = [path for path in checkpoint.glob("global_step*") if path.is_dir()]
    if shards:
        three = any(any(shard.glob("zero_pp_rank_*_model_states.pt")) for shard in shards)
        two = any(any(shard.glob("*zero_pp_rank_*_optim_states.pt")) for shard in shards)
        return {"kind": "ZeRO-3" if three else "ZeRO-2" if two else "ZeRO-1", "processes": states}
    if any(checkpoint.glob("optimizer_[0-9]*")) or any(checkpoint.glob("pytorch_model_fsdp*")) or any(
        checkpoint.glob("optimizer.bin")
    ):  # fmt: skip
        return {"kind": "FSDP2", "processes": states}
    if not (checkpoint / "optimizer.pt").is_file():
        return None
    return {"kind": ALONE if states == 1 else DDP, "processes": states}


def check_launch_goes_on(checkpoint: Path, before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> None:
    """Sees that a checkpoint goes on exactly under the launch that there is now.

    Args:
        checkpoint: Its folder.
        before: The settings that its run was begun with; None where they are not known, as of a run elsewhere.
        now: The settings now, with "launch".

    Raises:
        CFTError: It does not: what it was written by, and how to launch it.
    """
    found = (before or {}).get("launch") or launch_of(checkpoint)
    if found is None:
        return
    if why := why_not(found, now["launch"], before, now):
        raise CFTError(f"'{checkpoint}' {why}, or begin anew in another output_dir")


def why_not(
    was: Mapping[str, Any], is_now: Mapping[str, Any], before: Mapping[str, Any] | None, now: Mapping[str, Any]
) -> str | None:
    """Why a run does not go on under another launch, and how it would; None where it does, exactly.

    Args:
        was: The launch it was begun with.
        is_now: The launch now.
        before: All settings it was begun with, or None where they are not known.
        now: All settings now.

    Example:
        >>> alone, two = {"kind": "one process", "processes": 1}, {"kind": "DDP", "processes": 2}
        >>> four = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 1}
        >>> why_not(two, alone, {**four, "per_device_train_batch_size": 2}, four)
        >>> why_not(alone, two, four, four)
        'was written with 4 rows a step (4 x 1 x 1), here are 8 (4 x 1 x 2); set per_device_train_batch_size=2'
    """
    whole = was["kind"] in _WHOLE and is_now["kind"] in _WHOLE
    if not whole and dict(was) != dict(is_now):
        return f"was written by {_named(was)}, here is {_named(is_now)}; launch it as it was begun ({_words(was)})"
    if before is None or not all(name in before for name in BATCH_SETTINGS):
        return None  # by files alone nobody knows the rows of a step
    mine, theirs = [tuple(settings[name] for name in BATCH_SETTINGS) for settings in (now, before)]
    if dict(was) == dict(is_now) and mine == theirs:
        return None
    rows = [each * micro * launch["processes"] for (each, micro), launch in ((theirs, was), (mine, is_now))]
    if rows[0] != rows[1]:
        told = f"{rows[0]} rows a step ({theirs[0]} x {theirs[1]} x {was['processes']})"
        here = f"{rows[1]} ({mine[0]} x {mine[1]} x {is_now['processes']})"
        return f"was written with {told}, here are {here}; {_right_batch(rows[0], mine, is_now['processes'], was)}"
    if setting := _hangs_on_processes(now):
        return (
            f"was written by {_named(was)} ({theirs[0]} x {theirs[1]} rows each), here is {_named(is_now)} "
            f"({mine[0]} x {mine[1]}): with {setting} the rows of a step hang on that; launch it as it was begun"
        )
    if not whole:
        return (
            f"was written with {theirs[0]} x {theirs[1]} rows in each process, here are {mine[0]} x {mine[1]}; set "
            f"per_device_train_batch_size={theirs[0]} and gradient_accumulation_steps={theirs[1]}"
        )
    return None


def _right_batch(rows: int, mine: tuple[int, int], processes: int, was: Mapping[str, Any]) -> str:
    """The settings that make `rows` a step here, with as few changes as there can be."""
    each, micro = mine
    if rows % (each * processes) == 0:
        return f"set gradient_accumulation_steps={rows // (each * processes)}"
    if rows % (micro * processes) == 0:
        return f"set per_device_train_batch_size={rows // (micro * processes)}"
    if rows % processes == 0:
        return f"set per_device_train_batch_size={rows // processes} and gradient_accumulation_steps=1"
    return f"{rows} rows cannot be dealt out to {processes} processes; launch it as it was begun ({_words(was)})"


def _hangs_on_processes(now: Mapping[str, Any]) -> str | None:
    """A setting by which the rows of a step hang on how many processes there are, if there is one."""
    strategy = now.get("train_sampling_strategy", "random")
    if strategy in ("group_by_length", "batch_rebalance"):
        return f"train_sampling_strategy={strategy}"
    if now.get("dataloader_drop_last"):
        return "dataloader_drop_last=true"
    loading = now.get("accelerator_config")
    if isinstance(loading, Mapping) and loading.get("split_batches"):
        return "split_batches"
    return None


def _named(launch: Mapping[str, Any]) -> str:
    if launch["kind"] == ALONE:
        return "one process alone"
    return f"{launch['kind']} in {launch['processes']} process{'es' if launch['processes'] > 1 else ''}"


def _words(launch: Mapping[str, Any]) -> str:
    file = _FILES.get(launch["kind"])
    if file is None:
        return "without a launcher"
    file = f"recipes/accelerate/{file}" if file.endswith(".yaml") else file
    return f"accelerate launch --config_file {file} --num_processes {launch['processes']}"
