"""What a run tells the world: the model card, written from the run itself.

Every figure on the card comes from the trainer's own records (`preparation.json`, the log history, metrics.json);
nothing is filled in by hand, and what was not measured is left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from cft_trl import __version__
from cft_trl.folders import write_text
from cft_trl.models import SMALL_MODEL, SMALL_MODEL_HUB_ID

_METHODS = {
    "cft": (
        "critique fine-tuning",
        "it learnt to critique noisy solutions, and is asked for solutions (or critiques) as it is.",
    ),
    "cgd": (
        "critique-guided distillation",
        "it learnt to refine noisy answers with the help of critiques; no critique is needed to use it.",
    ),
    "sft": ("supervised fine-tuning", "it learnt to imitate answers; a baseline for critique fine-tuning."),
}
_CITATION = """@misc{{{key},
  title         = {{{title}}},
  eprint        = {{{eprint}}},
  archivePrefix = {{arXiv}},
  year          = {{2025}},
}}"""
_CFT_PAPER = {
    "key": "critique-fine-tuning",
    "title": "Critique Fine-Tuning: Learning to Critique is More Effective than Learning to Imitate",
    "eprint": "2501.17703",
}
_CGD_PAPER = {"key": "critique-guided-distillation", "title": "Critique-Guided Distillation", "eprint": "2505.11628"}
_CARD_SETTINGS = (
    "objective", "sft_target", "prompt_preset", "over_length", "verdict_weight", "max_length", "packing",
    "learning_rate", "lr_scheduler_type", "warmup_steps", "weight_decay", "num_train_epochs", "max_steps",
    "per_device_train_batch_size", "gradient_accumulation_steps", "world_size", "optim", "bf16", "fp16",
    "gradient_checkpointing", "seed",
)  # fmt: skip


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
) -> Path:
    """Writes `folder/README.md` and returns its path.

    Args:
        model_name: the title; default `<base model>-<OBJECTIVE>`.
        config: the run's `CFTConfig`.
        preparation: dataset name -> `PreparationReport`.
        metrics: `{"before": …, "after": …, "machine": …}` of the quickstart, or the flat metrics of
            `trainer.evaluate()`.
    """
    import trl
    from huggingface_hub import ModelCardData
    from jinja2 import Environment

    method, line = _METHODS[config.objective]
    base_model = SMALL_MODEL_HUB_ID if base_model == SMALL_MODEL else base_model
    on_hub = bool(base_model) and "/" in base_model and not Path(base_model).exists()
    if model_name is None:
        model_name = (
            f"{base_model.rstrip('/').split('/')[-1]}-{config.objective.upper()}" if base_model else folder.name
        )
    data = ModelCardData(
        library_name="transformers",
        model_name=model_name,
        base_model=base_model if on_hub else None,
        tags=sorted({"cft-trl", "trl", config.objective, "generated_from_trainer", *(tags or [])}),
    )
    template = resources.files("cft_trl").joinpath("templates/model_card.md.jinja").read_text(encoding="utf-8")
    text = Environment(keep_trailing_newline=True, trim_blocks=False).from_string(template).render(
        card_data=data.to_yaml(),
        model_name=model_name,
        base_model=base_model or "a local model",
        base_model_url=f"https://huggingface.co/{base_model}" if on_hub else None,
        method=method,
        objective_line=line,
        version=__version__,
        trl_version=trl.__version__,
        dataset_name=dataset_name,
        preparation=[_report_row(report) for report in preparation.values()],
        results=_results(metrics or {}),
        plot=(folder / "training.png").is_file(),
        selection=selection_section(folder),
        usage_name=config.hub_model_id or folder,
        prompt_preset=config.prompt_preset,
        settings=_settings(config),
        machine=_machine(metrics or {}),
        limits="The verdicts and corrections of this model are guesses; check them before you rely on them. "
        "Figures above hold for rows like those it was evaluated on.",
        citation=_CITATION.format(**(_CGD_PAPER if config.objective == "cgd" else _CFT_PAPER)),
    )  # fmt: skip
    path = folder / "README.md"
    write_text(path, text.rstrip("\n"))
    return path


def selection_section(folder: Path) -> str:
    """The card's section on the choice of the checkpoint, from `selection.json`; "" where there is none."""
    try:
        selection = json.loads((folder / "selection.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return ""
    silent = "no_answer" if selection["kind"] == "answers" else "no_verdict"
    what = "problems, graded strictly" if selection["kind"] == "answers" else "solutions to critique freely"
    scored_on = f"{selection['rows']} {what} ({selection['benchmark']})"
    lines = [
        "## Choice of the checkpoint",
        "",
        f"Every checkpoint was scored on {scored_on}; the best is in `best/`. Best is {selection['verdict']}.",
        *(f"{note[0].upper()}{note[1:]}." for note in selection["notes"]),
        "",
        f"| step | right | 95% interval | {silent.replace('_', ' ')} | cut at the limit |",
        "|---|---|---|---|---|",
    ]
    for point in selection["curve"]:
        low, high = point["interval_95"]
        share = f"{point['score']:.1%} ({point['hits']}/{point['of']})"
        lines.append(
            f"| {point['step']} | {share} | {low:.1%} to {high:.1%} | {point[silent]:.1%} | {point['truncated']:.1%} |"
        )
    if selection["majority_rate"] is not None:
        lines.append(f"| always the more frequent verdict | {selection['majority_rate']:.1%} | | | |")
    if (folder / "selection.png").is_file():
        lines += ["", "![Score of each checkpoint](selection.png)"]
    return "\n".join(["<!-- selection -->", *lines, "<!-- /selection -->"])


def write_selection_section(folder: Path) -> None:
    """Puts the section into a card that is there already, in place of an older one or before "## Use"."""
    card = folder / "README.md"
    if not card.is_file():
        return
    text = re.sub(r"<!-- selection -->.*<!-- /selection -->\n*", "", card.read_text(encoding="utf-8"), flags=re.DOTALL)
    before, use, after = text.partition("## Use\n")
    write_text(card, f"{before.rstrip()}\n\n{selection_section(folder)}\n\n{use}{after}".rstrip("\n"))


def _settings(config: Any) -> list[tuple[str, Any]]:
    values = [(name, getattr(config, name, None)) for name in _CARD_SETTINGS]
    return [(name, getattr(value, "value", value)) for name, value in values if value is not None]


def _machine(metrics: Mapping[str, Any]) -> str:
    parts = [f"{name} {value}" for name, value in metrics.get("machine", {}).items()]
    if metrics.get("training_seconds"):
        parts.append(f"training took {metrics['training_seconds']:.0f} s")
    return ", ".join(parts)


def _report_row(report: Any) -> dict[str, Any]:
    dropped = "; ".join(f"{count} {reason}" for reason, count in report.dropped.most_common())
    return {**report.to_dict(), "dropped_text": dropped or 0}


def _results(metrics: Mapping[str, Any]) -> str:
    if "after" not in metrics:
        shown = {k: v for k, v in metrics.items() if k.startswith("eval_") and ("verdict" in k or "loss" in k)}
        rows = [f"| {name.removeprefix('eval_')} | {value:.4g} |" for name, value in shown.items()]
        if "generated" in metrics:
            rows.append(f"| verdict accuracy of freely written critiques | {_accuracy(metrics['generated'])} |")
            rows.append(f"| always giving the more frequent verdict | {metrics['generated']['majority_rate']:.1%} |")
        return "\n".join(["| held-out rows | value |", "|---|---|", *rows]) if rows else ""
    lines = ["| held-out rows | before | after |", "|---|---|---|"]
    before, after = metrics["before"], metrics["after"]
    lines.append(f"| critique loss, nats per token | {before['critique_loss']:.3f} | {after['critique_loss']:.3f} |")
    for key, label in (
        ("teacher_forced", "verdict accuracy, teacher-forced"),
        ("generated", "verdict accuracy of freely written critiques"),
    ):
        lines.append(f"| {label} | {_accuracy(before[key])} | {_accuracy(after[key])} |")
    rate = after["generated"]["majority_rate"]
    return "\n".join([*lines, f"| always giving the more frequent verdict | {rate:.1%} | {rate:.1%} |"])


def _accuracy(score: Mapping[str, Any]) -> str:
    low, high = score["interval_95"]
    return f"{score['accuracy']:.1%} ({score['hits']}/{score['rows']}; 95% {low:.1%} to {high:.1%})"
