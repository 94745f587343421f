"""What a run tells the world: its record, and the model card that is written from it.

Every figure on the card comes from the run's own records (`training.json`, `selection.json`, evaluations); nothing is
filled in by hand, and what was not measured is left out. `cft push` renders the card anew for the Hub
(`cft_trl.hub.push_model`), with the model's evaluations.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cft_trl.data.folders import read_json, write_text
from cft_trl.errors import CFTError
from cft_trl.hub.model_card import render_model_card, selection_section
from cft_trl.models.pulled import pulled_from
from cft_trl.models.run_record import read_record, update_record

_CARD_SETTINGS = (
    "objective", "sft_target", "prompt_preset", "prompt", "verdicts", "over_length", "verdict_weight", "max_length",
    "packing", "packing_strategy", "share_prefixes", "pack_length", "learning_rate", "lr_scheduler_type",
    "warmup_steps", "weight_decay", "max_grad_norm", "num_train_epochs", "max_steps", "per_device_train_batch_size",
    "gradient_accumulation_steps", "world_size", "optim", "adam_beta1", "adam_beta2", "bf16", "fp16",
    "gradient_checkpointing", "neftune_noise_alpha", "label_smoothing_factor", "seed",
)  # fmt: skip
# Of the settings of a script: what TRL keeps apart from the trainer's.
_MODEL_SETTINGS = ("dtype", "attn_implementation", "use_peft", "load_in_4bit", "load_in_8bit")
_PEFT_SETTINGS = ("peft_type", "r", "lora_alpha", "lora_dropout", "target_modules", "use_rslora", "use_dora")


def write_model_card(
    folder: Path,
    *,
    base_model: str | None,
    config: Any,
    preparation: Mapping[str, Any],
    dataset_name: str | None = None,
    metrics: Mapping[str, Any] | None = None,
    model_name: str | None = None,
    tags: list[str] | None = None,
    example: Mapping[str, str] | None = None,
    limits: Sequence[str] = (),
) -> Path:
    """Completes `folder/training.json`, writes `folder/README.md` from it and returns the card's path.

    Args:
        model_name: the title; default `<base model>-<OBJECTIVE>`.
        config: the run's `CFTConfig`.
        preparation: dataset name -> `PreparationReport`.
        metrics: `{"before": …, "after": …, "machine": …}` of the quickstart, or the flat metrics of
            `trainer.evaluate()`.
        example: `query` and `response` of the card's examples, of the kind that the model was trained on; without one
            they ask for a sum.
        limits: sentences on what it cannot do, beside those that every card has.
    """
    record, metrics = read_record(folder), dict(metrics or {})
    script = _json(folder / "settings.json")
    base = {"name": _absolute(base_model), "commit": None}
    if base_model and (pulled := pulled_from(base_model)):
        base["name"], base["commit"] = pulled
    elif record.get("base_model", {}).get("name") == base_model:
        base |= {key: value for key, value in record["base_model"].items() if key in ("commit", "weights")}
    parts = {
        "model_name": model_name,
        "tags": tags or [],
        "base_model": base,
        "dataset": {**record.get("dataset", {}), **_dataset(dataset_name, script), **_parts(record, script)},
        "settings": _settings(vars(config) | {"world_size": config.world_size}) | _of_model(folder, script),
        "preparation": {name: report.to_dict() for name, report in preparation.items()},
        "metrics": metrics,
        **({"example": dict(example)} if example else {}),
        **({"limits": list(limits)} if limits else {}),
    }
    if "machine" not in record and "machine" in metrics:
        parts["machine"] = metrics["machine"]
    record = update_record(folder, **parts)
    path = folder / "README.md"
    write_text(path, render_model_card(record, folder, usage_name=config.hub_model_id))
    return path


def read_run(run: str | Path) -> dict[str, Any]:
    """The record of a finished run; of a run of before there was one, what its other files say.

    Raises:
        CFTError: No such folder, a folder of something else, or a run that has not come to its end.
    """
    run = Path(run)
    if not run.is_dir():
        raise CFTError(f"'{run}' is no folder; give the output_dir of a training run")
    record = read_record(run)
    if "settings" in record:
        return record
    script, preparation = _json(run / "settings.json"), _json(run / "preparation.json")
    if script and preparation and (run / "metrics.json").is_file():
        base = {"name": script.get("model_name_or_path")}
        told = {"dataset": _dataset(None, script), "metrics": _json(run / "metrics.json")}
        settings = _settings(script) | _of_model(run, script)
        return {"base_model": base, "settings": settings, "preparation": preparation, **told, **record}
    if script or preparation or record:
        raise CFTError(f"'{run}' holds a run that has not come to its end; the same `cft train` goes on with it")
    raise CFTError(f"'{run}' holds no run of `cft train` (no training.json); give the output_dir of one")


def write_selection_section(folder: Path) -> None:
    """Puts the section into a card that is there already, in place of an older one or before "## Use"."""
    card = folder / "README.md"
    if not card.is_file():
        return
    text = re.sub(r"<!-- selection -->.*<!-- /selection -->\n*", "", card.read_text(encoding="utf-8"), flags=re.DOTALL)
    before, use, after = text.partition("## Use\n")
    write_text(card, f"{before.rstrip()}\n\n{selection_section(folder)}\n\n{use}{after}".rstrip("\n"))


def _absolute(name: str | None) -> str | None:
    """A folder's or file's whole path: of "runs/rows" alone nobody could tell later that it is no Hub id."""
    return str(Path(name).resolve()) if name and Path(name).exists() else name


def _json(path: Path) -> dict[str, Any]:
    found = read_json(path, "the same `cft train` command writes it again", {})
    return found if isinstance(found, dict) else {}


def _settings(values: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: values[name] for name in _CARD_SETTINGS if values.get(name) is not None}
    return {name: getattr(value, "value", value) for name, value in found.items()}


def _of_model(folder: Path, script: Mapping[str, Any]) -> dict[str, Any]:
    adapter = _json(folder / "adapter_config.json")
    found = {name: script[name] for name in _MODEL_SETTINGS if script.get(name) not in (None, False)}
    return found | {name: adapter[name] for name in _PEFT_SETTINGS if adapter.get(name) not in (None, False)}


def _parts(record: Mapping[str, Any], script: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a mixture, as the trainer recorded them, with where its settings have them from."""
    parts, given = record.get("dataset", {}).get("parts"), script.get("datasets")
    if not parts or not given or len(parts) != len(given):
        return {}
    told = []
    for part, settings in zip(parts, given, strict=True):
        source = _source(*(settings.get(name) for name in ("path", "config", "revision")))
        told.append({**part, **source, "path": source.get("name"), "name": part["name"]})
    return {"parts": told}


def _dataset(name: str | None, script: Mapping[str, Any]) -> dict[str, Any]:
    name = name or script.get("dataset_name")
    return _source(name, script.get("dataset_config"), script.get("dataset_revision"))


def _source(name: str | None, config: str | None, revision: str | None) -> dict[str, Any]:
    told = {"name": _absolute(name), "config": config, "revision": revision}
    if name and (pulled := pulled_from(name)):
        told["name"], told["commit"] = pulled
    return {key: value for key, value in told.items() if value}
