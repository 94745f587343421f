"""`cft plan`: memory, time and energy of a training run on given hardware, before it is started."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from cft_trl.commands.parser import CommandParser
from cft_trl.commands.settings import parse_settings, positive
from cft_trl.errors import CFTError, nearest

HELP = """\
Says what a training run will need and take: memory on each GPU, steps, arithmetic, time, energy. Planned, not measured.
Takes the same settings as `cft train`; the weights are not read, and no GPU is needed.

examples:
  cft plan --config recipes/qwen2.5-math-7b/cft.yaml --hardware 8xH100
  cft plan --config recipes/qwen2.5-32b-instruct/cft-4k.yaml --hardware 16xA100-80GB --row-tokens 1100
  cft plan --config recipes/qwen2.5-7b/cft.yaml --hardware 1xH200 --use_peft true --dtype bfloat16
  cft plan --config recipes/qwen2.5-7b/cft.yaml --hardware 8xH100 --accelerate recipes/accelerate/fsdp2.yaml
  cft plan --config recipes/smollm2-135m/cft.yaml --hardware cpu

  --hardware NxKIND   H100, H200, B200, A100-80GB, A100-40GB, L40S, L4, RTX4090, cpu
  --accelerate FILE   how the run is spread (default: ZeRO-3 on several GPUs); the GPUs counted are --hardware's
  --rows N            training rows, where the settings do not tell
  --row-tokens N      mean length of a row, padding included (default: max_length, so that all is "at most")
  --targets SHARE     share of the tokens that have loss (default 0.5)
  --sharing RATIO     tokens that share_prefixes saves, as `cft preview` prints it (default 1.0)
  --table FILE        hardware of your own, like cft_trl/planning/hardware.yaml
  --json, --line      everything as JSON; one line for a README
"""


def run(argv: list[str]) -> int:
    """Runs the command; returns its exit code.

    Raises:
        CFTError: A flag that is missing or out of range; else as what it calls.
    """
    if {"-h", "--help"} & set(argv):
        print(HELP, end="")
        return 0
    parser = CommandParser("cft plan", add_help=False)
    parser.add_argument("--hardware")
    parser.add_argument("--accelerate", type=Path)
    parser.add_argument("--rows", type=positive)
    parser.add_argument("--row-tokens", type=positive)
    parser.add_argument("--targets", type=float, default=0.5)
    parser.add_argument("--sharing", type=float)
    parser.add_argument("--table", type=Path)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--line", action="store_true")
    options, rest = parser.parse_known_args(argv)
    if options.hardware is None:
        raise CFTError("--hardware is missing; say for example --hardware 8xH100, or cpu")
    if not 0 < options.targets <= 1:
        raise CFTError(f"--targets {options.targets:g}: give a share above 0, at most 1")
    if options.sharing is not None and options.sharing < 1:
        raise CFTError(f"--sharing {options.sharing:g}: give a ratio of 1 or more, as `cft preview` prints it")
    from cft_trl.planning.hardware import TABLE, read_hardware
    from cft_trl.planning.model_shape import model_shape
    from cft_trl.planning.plan import make_plan
    from cft_trl.planning.plan_text import describe, one_line

    hardware = read_hardware(options.hardware, options.table or TABLE)
    # Settings are checked as for training, but those of the machine planned for, which this one need not be.
    script, config, model = parse_settings(
        [*rest, "--use_cpu", "true", "--bf16", "false"], defaults={"output_dir": "runs/plan"}
    )
    settings = _run(options, script, config, model, bf16=_bf16(rest, hardware.on_cpu))
    plan = make_plan(settings, model_shape(settings.model, model.model_revision), hardware)
    if options.json:
        print(json.dumps(plan.to_dict(), indent=2))
    else:
        print(one_line(plan) if options.line else describe(plan))
    return 0


def _run(options: argparse.Namespace, script: Any, config: Any, model: Any, bf16: bool) -> Any:
    from cft_trl.planning.plan import PlannedRun

    if not model.model_name_or_path:
        raise CFTError("model_name_or_path is missing; give a Hub id, a folder or smollm2-135m")
    if model.load_in_4bit or model.load_in_8bit:
        raise CFTError("load_in_4bit and load_in_8bit are not planned for; leave them out")
    kept = (config.accelerator_config.gradient_accumulation_kwargs or {}).get("sync_each_batch", True)
    if not kept and config.gradient_accumulation_steps > 1:
        raise CFTError("sync_each_batch=false keeps whole gradients between micro-batches, which is not planned for; "
                       "leave it out")  # fmt: skip
    if config.max_length is None:
        raise CFTError("max_length is not set, so that a row may be of any length; give --max_length")
    packed = config.packing or bool(config.share_prefixes)
    return PlannedRun(
        model=model.model_name_or_path,
        rows=options.rows or _rows(script, config),
        max_length=config.max_length,
        micro_batch=config.per_device_train_batch_size,
        accumulation=config.gradient_accumulation_steps,
        epochs=config.num_train_epochs,
        max_steps=config.max_steps,
        packing=packed,
        pack_length=config.pack_length,
        row_tokens=options.row_tokens,
        targets=options.targets,
        sharing=options.sharing or 1.0,
        checkpointing=bool(config.gradient_checkpointing),
        bf16=bf16,
        weights="bf16" if model.dtype in ("auto", "bfloat16") else "fp32",
        masked="flash" not in (model.attn_implementation or ""),
        varlen=config.varlen_attention,
        lora_rank=model.lora_r if model.use_peft else None,
        lora_targets=tuple(_listed(model.lora_target_modules)),
        **(_launcher(options.accelerate) if options.accelerate else {}),
    )


def _listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value or ())


def _bf16(argv: list[str], on_cpu: bool) -> bool:
    """The setting bf16 as a flag or the file gives it; else what CFTConfig takes on such a device."""
    import yaml

    from cft_trl.training.config import _has_fast_bf16

    words = [part for word in argv for part in word.split("=", 1)]
    given = words[words.index("--bf16") + 1] if "--bf16" in words[:-1] else None
    if given is None and "--config" in words[:-1]:
        given = yaml.safe_load(Path(words[words.index("--config") + 1]).read_text(encoding="utf-8")).get("bf16")
    if given is None:
        return _has_fast_bf16(use_cpu=True) if on_cpu else True
    return str(given).lower() in ("true", "1", "yes")


def _rows(script: Any, config: Any) -> int:
    """Rows of an epoch, as far as they are known without reading their texts: none is dropped."""
    from cft_trl.training.mixture import rows_to_draw
    from cft_trl.training.rows import read_alone

    if script.datasets is None:
        return _rows_of_one(script, config.objective, config.sft_target)
    parts = read_alone(script)
    sizes = [
        _rows_of_one(alone, part.objective or config.objective, part.sft_target or config.sft_target)
        - alone.eval_rows * (part.path != "arithmetic")
        for part, alone in parts
    ]
    return sum(rows_to_draw(sizes, [part.weight for part, _ in parts], config.mixture_strategy))


def _rows_of_one(script: Any, objective: str, sft_target: str) -> int:
    from cft_trl.planning.plan import PUBLISHED_ROWS, RIGHT_SHARE

    if script.dataset_name == "arithmetic":
        return script.dataset_limit or 10_000
    rows = PUBLISHED_ROWS.get((script.dataset_name, script.dataset_config))
    if rows is None and script.dataset_name and Path(script.dataset_name).exists():
        from cft_trl.sources.local import load_local

        rows = len(load_local(script.dataset_name, split=script.dataset_train_split, name=script.dataset_config))
    if rows is None:
        raise CFTError(f"how many rows dataset '{script.dataset_name}' has is not known here; give --rows N")
    if objective == "sft" and sft_target == "right_only":
        rows = round(rows * RIGHT_SHARE)
    return min(rows, script.dataset_limit or rows)


def _launcher(path: Path) -> dict[str, Any]:
    """How an accelerate config file spreads a run."""
    import yaml

    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
        kind = str(settings.get("distributed_type", "NO")).upper()
        deepspeed, fsdp = settings.get("deepspeed_config") or {}, settings.get("fsdp_config") or {}
    except (OSError, yaml.YAMLError, AttributeError) as error:
        raise CFTError(f"--accelerate {path}: no accelerate config file ({error})") from error
    if kind == "DEEPSPEED":
        stage = int(deepspeed.get("zero_stage", 2))
        offloads = ("offload_optimizer", "offload_param")
        away = {name: str(deepspeed.get(f"{name}_device", "none")) not in ("none", "None") for name in offloads}
        return {
            "strategy": f"zero{stage}" if stage else "ddp",
            "offload_optimizer": away["offload_optimizer"],
            "offload_weights": away["offload_param"],
        }
    if kind == "FSDP":
        offloaded = bool(fsdp.get("fsdp_offload_params"))
        return {"strategy": "fsdp2", "offload_optimizer": offloaded, "offload_weights": offloaded}
    plain = {"NO": "single", "MULTI_GPU": "ddp", "MULTI_CPU": "ddp"}
    if kind not in plain:
        known = (*plain, "DEEPSPEED", "FSDP")
        raise CFTError(f"--accelerate {path}: distributed_type {kind} is not planned for{nearest(kind, known)}")
    return {"strategy": plain[kind]}
