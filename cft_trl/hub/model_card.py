"""A model's card, rendered from what its run wrote down; nothing is filled in by hand, nothing not known is told.

render_model_card(read_run("runs/mine"), Path("runs/mine"), usage_name="my-org/my-critic")
# ---
# base_model: Qwen/Qwen2.5-Math-7B
# datasets: [TIGER-Lab/WebInstruct-CFT]
# ...
# # Qwen2.5-Math-7B-CFT
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from cft_trl import __version__
from cft_trl.data.folders import read_json
from cft_trl.data.prompts import Prompting, Wording, read_wording
from cft_trl.hub.read_by import read_by
from cft_trl.models.names import SMALL_MODEL, SMALL_MODEL_HUB_ID

_METHODS = {
    "cft": (
        "critique fine-tuning",
        "it learnt to critique noisy solutions, and can be asked for solutions or critiques without further training.",
    ),
    "cgd": (
        "critique-guided distillation",
        "it learnt to refine noisy answers with the help of critiques; no critique is needed to use it.",
    ),
    "sft": ("supervised fine-tuning", "it learnt to imitate answers; a baseline for critique fine-tuning."),
}
# What the card's examples ask where the run has no example of its own kind.
_EXAMPLE = {
    "query": "What is 12 x 4 - 6?",
    "response": "12 x 4 = 46, 46 - 6 = 40. The answer is 40.",
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
_HUB_ID = re.compile(r"\w[\w.-]*/[\w.-]+")


def render_model_card(
    record: Mapping[str, Any],
    folder: Path,
    *,
    model_folder: Path | None = None,
    usage_name: str | None = None,
    checkpoint: str | None = None,
    benchmarks: str = "",
    eval_results: Sequence[Any] = (),
    files: Mapping[str, tuple[int, str]] | None = None,
) -> str:
    """The card's text.

    Args:
        record: What `training.json` holds (`cft_trl.models.run_record`).
        folder: The run's; its selection and plots belong to the card.
        model_folder: Where the weights lie, if not in the run's folder itself.
        usage_name: What the examples load; default the folder.
        checkpoint: Which of the run's models this is ("step 40 of 98, …"); None for the one at its end.
        benchmarks: The section of its evaluations (`cft_trl.hub.results`).
        eval_results: `huggingface_hub.EvalResult`s for the card's metadata.
        files: (bytes, SHA-256) of each file of weights.
    """
    import trl
    from jinja2 import Environment

    settings = record.get("settings", {})
    objective = settings.get("objective", "cft")
    method, line = _METHODS[objective]
    parts = record.get("dataset", {}).get("parts", ())
    if others := dict.fromkeys(part["objective"] for part in parts if part["objective"] != objective):
        method += f", mixed with {' and '.join(_METHODS[other][0] for other in others)}"
    base = base_model_name(record)
    adapter = ((model_folder or folder) / "adapter_config.json").is_file()
    preset = read_wording({"prompt_preset": "paper", **settings}) or "paper"
    prompt = Prompting("cft", preset=preset).user_turn({"query": "{question}", "response": "{solution}"})
    name = record.get("model_name") or (f"{base.split('/')[-1]}-{objective.upper()}" if base else folder.name)
    template = resources.files("cft_trl").joinpath("templates/model_card.md.jinja").read_text(encoding="utf-8")
    text = Environment(keep_trailing_newline=True, trim_blocks=False).from_string(template).render(
        card_data=_card_data(record, name, base, adapter, eval_results),
        model_name=name,
        base_model=base or "a local model",
        base_model_url=f"https://huggingface.co/{base}" if is_hub_id(base) else None,
        base_commit=record.get("base_model", {}).get("commit"),
        base_weights=record.get("identity", {}).get("base", {}).get("weights"),
        run=record.get("run"),
        method=method,
        objective_line=line,
        objective=objective,
        version=record.get("versions", {}).get("cft-trl", __version__),
        trl_version=record.get("versions", {}).get("trl", trl.__version__),
        checkpoint=checkpoint,
        data_lines=list(data_lines(record)),
        preparation=[_report_row(report) for report in record.get("preparation", {}).values()],
        benchmarks=benchmarks,
        results=_results(record.get("metrics", {})),
        plot=(folder / "training.png").is_file(),
        selection=selection_section(folder, local=usage_name is None),
        usage_name=usage_name or folder,
        example=record.get("example") or _EXAMPLE,
        prompt_preset=preset,
        own_wording=isinstance(preset, Wording),
        verdict_words=preset.verdicts.words if isinstance(preset, Wording) and preset.verdicts else None,
        prompt=prompt.rstrip("\n"),
        fence=_fence(prompt),
        template=(settings.get("prompt") or "").rstrip("\n"),
        template_fence=_fence(settings.get("prompt") or ""),
        settings=list(settings_rows(settings)),
        run_lines=list(run_lines(record)),
        limits=list(_limits(record, objective, adapter)),
        licence=_licence(record),
        read_by=list(read_by(model_folder or folder)),
        citation=_CITATION.format(**(_CGD_PAPER if objective == "cgd" else _CFT_PAPER)),
        files=files or {},
    )  # fmt: skip
    return re.sub(r"\n{3,}", "\n\n", text).rstrip("\n")


def _fence(text: str) -> str:
    """What a text is put between in Markdown: longer than any of its own."""
    return "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))


def is_hub_id(name: str | None) -> bool:
    """Whether this names a repository of the Hub, as far as one can tell without asking."""
    return name is not None and bool(_HUB_ID.fullmatch(name)) and not Path(name).exists()


def base_model_name(record: Mapping[str, Any]) -> str | None:
    """What a run began with: a Hub id, or of a local folder its last part, for no path is anybody else's business."""
    name = record.get("base_model", {}).get("name")
    if not name:
        return None
    return SMALL_MODEL_HUB_ID if name == SMALL_MODEL else public_name(name)


def public_name(name: str) -> str:
    """A Hub id as it is, of a path the last part.

    Example:
        >>> public_name("owner/model"), public_name("/home/me/rows.jsonl")
        ('owner/model', 'rows.jsonl')
    """
    return name if is_hub_id(name) else name.rstrip("/").split("/")[-1]


def _card_data(
    record: Mapping[str, Any], name: str, base: str | None, adapter: bool, eval_results: Sequence[Any]
) -> str:
    from huggingface_hub import ModelCardData

    dataset = record.get("dataset", {})
    datasets = [dataset.get("name"), *(part.get("path") for part in dataset.get("parts", ()))]
    tags = {"cft-trl", "trl", "generated_from_trainer", record.get("settings", {}).get("objective", "cft")}
    return ModelCardData(
        library_name="peft" if adapter else "transformers",
        model_name=name,
        **record.get("base_model", {}).get("licence") or {},
        base_model=base if is_hub_id(base) else None,
        base_model_relation="adapter" if adapter and is_hub_id(base) else None,
        datasets=list(dict.fromkeys(name for name in datasets if is_hub_id(name))) or None,
        pipeline_tag="text-generation",
        tags=sorted(tags | set(record.get("tags", ()))),
        eval_results=list(eval_results) or None,
    ).to_yaml()


# ---- what it was trained on ------------------------------------------------------------------------------------------


def data_lines(record: Mapping[str, Any]):
    """Sentences on the rows: which, by whom, how many right and wrong."""
    dataset = record.get("dataset", {})
    name = dataset.get("name")
    if name:
        parts = [name if " " in name else public_name(name)]
        parts += [f"configuration {dataset['config']}"] if dataset.get("config") else []
        commit = dataset.get("commit") or dataset.get("revision")
        parts += [f"revision `{commit}`"] if commit else []
        yield f"Rows: {', '.join(parts)}."
    if dataset.get("parts"):
        yield "A mixture; its parts, with the rows of an epoch:\n"
        yield "\n".join(_part_line(part) for part in dataset["parts"]) + "\n"
    train = record.get("preparation", {}).get("train", {})
    if judged := train.get("right", 0) + train.get("wrong", 0):
        share = f"{train['right'] / judged:.1%} of the critiques say right, {train['wrong'] / judged:.1%} wrong"
        yield f"Of those that state a verdict, {share}."
    for key, what in (("teachers", "Critiques by"), ("sources", "Questions from")):
        if counts := dataset.get(key):
            yield f"{what}: {', '.join(f'{public_name(who)} ({count:,})' for who, count in counts.items())}."
    if dataset.get("teachers") == {} and record.get("settings", {}).get("objective") != "sft":
        yield "The rows do not name the teacher who wrote the critiques."


def _part_line(part: Mapping[str, Any]) -> str:
    preset = part["prompt_preset"]
    if not isinstance(preset, str):
        preset = "of its own" if "prompt" in preset else preset["prompt_preset"]
    asked = [part["objective"], part.get("sft_target"), f"prompt {preset}"]
    asked += [f"weight {part['weight']:g}"] if part.get("weight") else []
    source = [public_name(part["path"])] if part.get("path") else []
    source += [f"configuration {part['config']}"] if part.get("config") else []
    commit = part.get("commit") or part.get("revision")
    source += [f"revision `{commit}`"] if commit else []
    of = f" of {', '.join(source)}" if source else ""
    of += f", {part['repeats']:,} of them repeated" if part.get("repeats") else ""
    return f"- `{part['name']}` ({', '.join(filter(None, asked))}): {part['rows']:,} rows{of}"


def _report_row(report: Mapping[str, Any]) -> dict[str, Any]:
    dropped = "; ".join(f"{count} {reason}" for reason, count in report["dropped"].items())
    return {**report, "dropped_text": dropped or 0}


# ---- how it was trained ----------------------------------------------------------------------------------------------


def settings_rows(settings: Mapping[str, Any]):
    """(setting, value), with the global batch that follows from three of them."""
    if settings.get("prompt"):
        where = "above" if (settings.get("objective") or "cft") == "cft" else "below"
        settings = {**settings, "prompt": f"a template of its own, shown {where}", "prompt_preset": None}
    for name, value in settings.items():
        if value is not None and (name != "sft_target" or settings.get("objective") == "sft"):
            yield name, value
    keys = ("per_device_train_batch_size", "gradient_accumulation_steps", "world_size")
    sizes = [size for key in keys if isinstance(size := settings.get(key), int)]
    if len(sizes) == len(keys):
        each = "packs" if settings.get("packing") or settings.get("share_prefixes") else "rows"
        yield f"global batch, {each}", sizes[0] * sizes[1] * sizes[2]


def run_lines(record: Mapping[str, Any]):
    """Sentences on hardware, time, shared prefixes, the chat template and versions."""
    machine, sessions = record.get("machine", {}), record.get("sessions", [])
    if text := _machine(machine):
        yield f"Hardware: {text}."
    seconds = sum(session["seconds"] for session in sessions) or record.get("metrics", {}).get("training_seconds")
    if seconds:
        parts = f", in {len(sessions)} sessions" if len(sessions) > 1 else ""
        yield f"Time: {_duration(seconds)} of training{parts}, with what was evaluated and saved on the way."
    yield from _sharing(record)
    if turns := record.get("turns"):
        yield from _turns(turns)
    if versions := record.get("versions"):
        yield f"Versions: {', '.join(f'{name} {number}' for name, number in versions.items())}."


def _turns(turns: Mapping[str, Any]):
    ends = [f"`{token}`" for token in turns.get("ends", {})]
    if ends and list(turns["ends"]) != [turns.get("eos_token")]:
        eos = turns.get("eos_token")
        yield f"Answers end with {', '.join(ends)}; the tokenizer's end token is `{eos}`. Stop at both."
    if header := turns.get("header"):
        shown = header.replace("\n", "⏎")
        yield f"Answers were trained behind `{shown}`, which the chat template that comes with the model writes."
    if dates := turns.get("dates"):
        yield f"The chat template writes {', '.join(dates.values())} as the date, as in training, on every day."


def _machine(machine: Mapping[str, Any]) -> str:
    if "processes" not in machine:  # as the quickstart tells it
        return ", ".join(f"{name} {value}" for name, value in machine.items())
    gpus = [f"{count} x {name}" for name, count in machine["accelerators"].items()] or ["no GPU"]
    processes = machine["processes"]
    more = f", {processes} processes" if processes > 1 else ""
    return f"{', '.join(gpus)}; {machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB{more}"


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    minutes, rest = divmod(rest, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _sharing(record: Mapping[str, Any]):
    if report := (record.get("sharing") or {}).get("train"):
        saved = f"{report['tokens']:,} tokens became {report['shared_tokens']:,}, {report['ratio']:.2f} times fewer"
        yield f"Shared prefixes: used; {saved}. Loss and gradients are those of the rows one by one."
    elif "share_prefixes" in record.get("settings", {}):
        yield "Shared prefixes: not used."


# ---- how well it does ------------------------------------------------------------------------------------------------


def selection_section(folder: Path, *, local: bool = True) -> str:
    """The card's section on the choice of the checkpoint, from `selection.json`; "" where there is none.

    Args:
        local: Whether the card lies in the run's folder, with its checkpoints beside it.
    """
    selection = read_json(folder / "selection.json", f"run `cft select {folder}` again")
    if selection is None:
        return ""
    silent = "no_answer" if selection["kind"] == "answers" else "no_verdict"
    what = "problems, graded strictly" if selection["kind"] == "answers" else "solutions to critique freely"
    scored_on = f"{selection['rows']} {what} ({public_name(selection['benchmark'])})"
    place = "; the best is in `best/`" if local else ""
    lines = [
        "## Choice of the checkpoint",
        "",
        f"{_how_scored(selection)} {scored_on}{place}. Best is {selection['verdict']}.",
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


def _how_scored(selection: Mapping[str, Any]) -> str:
    if race := selection.get("race"):
        asked = race["answers"] / (race["answers"] + race["answers_saved"])
        return f"Checkpoints raced ({race['rule']}, {asked:.0%} of all answers; one that left has answered fewer) on"
    return "Every checkpoint was scored on"


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
        ("solved", "problems solved, strictly graded"),
    ):
        if key not in after:
            continue
        lines.append(f"| {label} | {_accuracy(before[key])} | {_accuracy(after[key])} |")
    rate = after["generated"]["majority_rate"]
    return "\n".join([*lines, f"| always giving the more frequent verdict | {rate:.1%} | {rate:.1%} |"])


def _accuracy(score: Mapping[str, Any]) -> str:
    low, high = score["interval_95"]
    return f"{score['accuracy']:.1%} ({score['hits']}/{score['rows']}; 95% {low:.1%} to {high:.1%})"


def _licence(record: Mapping[str, Any]) -> str:
    stated = record.get("base_model", {}).get("licence") or {}
    teacher = ", and of the teacher that wrote them," if record.get("dataset", {}).get("teachers") else ""
    terms = f"the terms of the rows{teacher} hold as well"
    if not stated:
        return f"Licence: not stated here. That of the base model holds for these weights too; {terms}."
    name = stated.get("license_name") or stated["license"]
    named = f"[{name}]({stated['license_link']})" if stated.get("license_link") else f"`{name}`"
    return f"Licence: {named}, suggested from the base model's card; {terms}."


def _limits(record: Mapping[str, Any], objective: str, adapter: bool = False):
    weights = record.get("base_model", {}).get("weights")
    if adapter and weights:
        yield (
            f"The adapter was trained on weights that were converted from a {weights} quantisation of its base; on the "
            "base as it is on the Hub it was not tried, and answers a little differently."
        )
    yield "What this model says is a guess, verdicts and corrections included; check it before you rely on it."
    yield "Figures above hold for rows and problems like those it was evaluated on, asked in the same prompt."
    yield from record.get("limits", ())
    rows = record.get("preparation", {}).get("train", {})
    if objective == "cft" and rows and not rows.get("wrong", 0):
        yield "No critique it was trained on says wrong: expect it to call solutions right."
    if objective == "cft" and rows and not rows.get("right", 0):
        yield "No critique it was trained on says right: expect it to call solutions wrong."
    teachers = [name for name in record.get("dataset", {}).get("teachers", {}) if name != "reference"]
    if teachers:
        yield "Its critiques are as good as its teachers' at best, and a part of theirs was mistaken."
