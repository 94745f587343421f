"""Refuses launches that exit 0 and train something else than was asked for; lets those that trained end with 0.

What accelerate 1.15 does, seen in real launches:

    accelerate launch --num_processes 2 --cpu …                        ONE process; the other is never started
    … with distributed_type MULTI_CPU or NO, or without --multi_gpu    the same
    … DDP, ZeRO or FSDP on a CPU without use_cpu in the settings       independent copies, unconnected gradients
    … the same with ddp_backend=gloo                                   connected processes, unconnected gradients
    ACCELERATE_USE_CPU=true … ZeRO                                     plain DDP
    … FSDP on a CPU                                                    plain DDP

A process knows of others only what its launcher put into the environment. Several launches that were each asked for
one process (on two nodes, say, without --num_machines) look like so many proper ones and are not refused.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cft_trl.errors import CFTError

REMEDY = "launch with `accelerate launch --config_file recipes/accelerate/…` and, on a CPU, set use_cpu=true"
# How many processes there are, under the names that accelerate reads: torchrun's, then those of MPI launchers.
_PROCESS_COUNTS = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")

# What makes the libraries of a process that is not the first keep to errors.
_QUIET = {"TORCH_CPP_LOG_LEVEL": "ERROR", "TRANSFORMERS_VERBOSITY": "error", "DATASETS_VERBOSITY": "error"}


def check_launch(args: Any) -> None:
    """Compares what the launcher announced in the environment with what `args` (a `TrainingArguments`) set up.

    Raises:
        CFTError: several processes were meant and one would train alone, or several would train independent copies;
            or DeepSpeed or FSDP was asked for and would not be in force.
    """
    from accelerate.utils import DistributedType

    state = args.distributed_state
    if state is None:  # SageMaker's model parallelism keeps its own account
        return
    kind, actual = state.distributed_type, state.num_processes
    counts = [int(os.environ[name]) for name in _PROCESS_COUNTS if name in os.environ]
    wanted = counts[0] if counts else 1
    if not counts and actual == 1 and _started_alone():
        raise CFTError(
            "accelerate was asked for several processes and started one (as it does with --cpu, with distributed_type "
            f"MULTI_CPU or NO, and without --multi_gpu); {REMEDY}. If one is right, unset MASTER_PORT"
        )
    if actual < wanted:
        raise CFTError(f"the launcher started {wanted} processes but each would train its own copy; {REMEDY}")
    if actual > 1 and kind == DistributedType.NO:
        raise CFTError(f"{actual} processes were started but nothing connects their gradients; {REMEDY}")
    if (_is_on("ACCELERATE_USE_DEEPSPEED") or args.deepspeed_plugin is not None) and _is_on("ACCELERATE_USE_CPU"):
        raise CFTError(
            "DeepSpeed was asked for but ACCELERATE_USE_CPU in the environment turns it off; unset that and set "
            "use_cpu=true in the training settings"
        )
    if (_is_on("ACCELERATE_USE_FSDP") or args.fsdp) and kind in (DistributedType.NO, DistributedType.MULTI_CPU):
        raise CFTError(
            f"FSDP was asked for but training would run as {kind.value}: accelerate shards on GPUs only, from a "
            "launcher; on a CPU use recipes/accelerate/cpu_zero3.yaml"
        )


def agree_on(find: Callable[[], str | None]) -> str | None:
    """What the first process finds (a folder or None), for all: nodes without a shared disk would each find another.

    Raises:
        CFTError: what `find` raised, in every process; or this process cannot see that checkpoint.
    """
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    state = PartialState()
    found: list[Any] = [None, None]
    if state.is_main_process:
        try:
            found[0] = find()
        except CFTError as error:
            found[1] = str(error)
    if state.num_processes > 1:
        broadcast_object_list(found)
    checkpoint, trouble = found
    if trouble:
        raise CFTError(trouble)
    if checkpoint and not Path(checkpoint).is_dir():
        raise CFTError(
            f"process {state.process_index} does not see '{checkpoint}', which the first one goes on from; put "
            "output_dir on a disk that all nodes share, or set resume to false and give a new one"
        )
    return checkpoint


def among_several() -> bool:
    """Whether a launcher says that this process is one of several."""
    return any(os.environ.get(name, "1") not in ("", "0", "1") for name in _PROCESS_COUNTS)


def warn_once(rank: int) -> None:
    """Lets each warning be told once: by the first process of a launch, and there once.

    Call it before libraries are imported; what the user has set stays. Errors are told as ever.
    """
    told: set[tuple[str, int] | tuple[type, str]] = set()

    def first(record: logging.LogRecord) -> bool:
        place = record.pathname, record.lineno
        if record.levelno >= logging.ERROR:
            return True
        if rank or place in told:
            return False
        told.add(place)
        return True

    show = warnings.showwarning

    def show_first(message: Any, category: type, *where: Any, **more: Any) -> None:
        if (category, str(message)) not in told:  # Python forgets what it has shown whenever a filter changes
            told.add((category, str(message)))
            show(message, category, *where, **more)

    logging.getLogger("DeepSpeed").addFilter(first)
    warnings.showwarning = show_first
    if rank:
        warnings.simplefilter("ignore")
        for name, level in _QUIET.items():
            os.environ.setdefault(name, level)


def uses_deepspeed(argv: Sequence[str] = ()) -> bool:
    """Whether the launcher or the command line asks for DeepSpeed."""
    return _is_on("ACCELERATE_USE_DEEPSPEED") or any(word.split("=")[0] == "--deepspeed" for word in argv)


def end_with_launcher(every_s: float = 1.0) -> None:
    """Ends this process when the launcher that started it has gone, as after `kill -9` of `accelerate launch`.

    Else the workers would train on, unseen, and write into a folder that the next run is given. A process that a shell
    started is left alone: it may be meant to outlive that shell.
    """
    parent = os.getppid()
    elastic = "TORCHELASTIC_RUN_ID" in os.environ
    if not elastic and not _is_launcher(parent):
        return
    # One killed while this process was starting has been followed by a process of the system, which is no Python.
    gone = elastic and not _is_python(parent)

    def watch() -> None:
        while os.getppid() == parent and not gone:
            time.sleep(every_s)
        if os.environ.get("RANK", "0") == "0":
            print("cft: the launcher is gone; its processes end", file=sys.stderr, flush=True)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _is_python(process: int) -> bool:
    words = _words_of(process)
    return not words or any(name in Path(word).name for word in words[:2] for name in ("python", "torchrun"))


def _is_launcher(process: int) -> bool:
    """Whether a process is `accelerate launch`, which says nothing to a single process it starts."""
    words = _words_of(process)
    return any(
        Path(word).name in ("accelerate", "accelerate-launch") or word.startswith("accelerate.") for word in words
    )


def _words_of(process: int) -> list[str]:
    """The command line of a process; empty where it cannot be had."""
    import psutil  # accelerate needs it too

    try:
        return psutil.Process(process).cmdline()
    except psutil.Error:
        return []


def skip_teardown() -> Callable[[int], None]:
    """-> a function to call with the exit code, last of all: the process then ends without Python's teardown.

    A thread of gloo that still holds the tensors of the last collective while Python tears itself down aborts the
    process ("terminate called without an active exception", PyTorch issue 190489), and `accelerate launch` calls the
    finished run a failure. `destroy_process_group` waits for these threads only if nothing else holds the group; DDP
    and DeepSpeed do.

    Nor may the model be freed before: the thread that frees it holds Python's lock and waits for that of gloo, which
    may wait for the same lock to let go of a tensor, and the run hangs for ever (torch 2.13, seen on a busy machine
    after the model was saved). Hence `keep_to_the_end`.

    Call it before libraries are imported: what they registered with `atexit` (a tracker's last upload, say) has run by
    then, because Python calls these functions in reverse order. What C libraries hold in buffers of their own is lost.
    """
    codes: list[int] = []

    def leave() -> None:
        if codes:
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(codes[0])

    atexit.register(leave)
    return codes.append


_kept: list[object] = []


def keep_to_the_end(trainer: object) -> None:
    """Keeps a trainer of several processes from being freed before the process ends, see `skip_teardown`."""
    if among_several():
        _kept.append(trainer)


def _started_alone() -> bool:
    """Whether `accelerate launch` was asked for several processes and started one.

    Its launcher for a single process is the one that says whether to use the CPU, and names a port for the processes
    to meet at if it was asked for several.
    """
    return {"ACCELERATE_USE_CPU", "ACCELERATE_MIXED_PRECISION", "MASTER_PORT"} <= os.environ.keys()


def _is_on(name: str) -> bool:
    return os.environ.get(name, "").lower() in ("1", "true", "yes", "y", "on", "t")
