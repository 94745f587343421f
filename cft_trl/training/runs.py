"""Which run a folder is of: its id, what it is trained from, and what becomes of an older run in the same folder.

    runs/mine/training.json              {"run": "3f9c0a7e51d2", "identity": {"base": {"kind": "folder", "weights": …},
                                          "tokenizer": …, "train_rows": {"rows": 50000, "texts": "…"}, …}, …}
    runs/mine/checkpoint-40/run.json     {"run": "3f9c0a7e51d2", "step": 40}
    runs/mine/_old/8d02c1b7aa34/         what another run had left here when this one began anew

A run that goes on from a checkpoint must have the rows, the model, the tokenizer, the template and the settings that it
was begun with: else its weights would be of neither. What a run leaves behind names it by its id, so that nobody takes
an older run's choice of a checkpoint, or its scores, for this one's.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cft_trl.data.digests import content_digest
from cft_trl.data.folders import write_text
from cft_trl.data.prompts import told_wording
from cft_trl.errors import CFTError, in_line
from cft_trl.models.identity import (
    MODEL_FILES,
    Identity,
    model_identity,
    rows_identity,
    tokenizer_identity,
    what_changed,
)
from cft_trl.models.loading import load_tokenizer
from cft_trl.models.run_record import MARK, read_record
from cft_trl.sources.local import data_identity
from cft_trl.training.launched import BATCH_SETTINGS, check_launch_goes_on
from cft_trl.training.mixture import settled_parts, unique_names

if TYPE_CHECKING:
    from trl import ModelConfig

    from cft_trl.training.arguments import CFTScriptArguments
    from cft_trl.training.config import CFTConfig
    from cft_trl.training.mixture import DatasetPart

SETTINGS_FILE = "settings.json"
_OLD = "_old"  # what begins with "_" is not pushed to the Hub
# Settings that may differ between a killed run and its continuation, because the weights do not depend on them. What
# model and rows are called is among them: what they are is compared instead.
_FREE_TO_CHANGE = {
    "output_dir", "report_to", "run_name", "disable_tqdm", "log_level", "push_to_hub",
    "hub_model_id", "resume_from_checkpoint", "save_total_limit", "logging_steps", "dataset_num_proc", "local_rank",
    "select_benchmark", "select_limit", "select_keep", "select_exhaustive", "resume", "model_name_or_path",
    "model_revision", "dataset_name", "dataset_revision", "datasets", "generated_rows",
    "early_stopping_patience", "early_stopping_on", "early_stopping_threshold",
}  # fmt: skip
# What settings were before there were any of the name, for runs that were begun then.
_WAS = {"mixture_strategy": "first_exhausted", "varlen_attention": True}
# The columns of a row that can get into its prompt or its target, by objective (`cft_trl.data.prompts`).
READ_COLUMNS = {
    "cft": ("query", "response", "critique"),
    "cgd": ("query", "response", "critique", "refinement"),
    "sft": ("query", "response", "verdict", "refinement", "reference_answer"),
}
_WORDS = {
    "base": "the model to train is another one",
    "tokenizer": "the tokenizer is another one",
    "template_from": "the model whose chat template it takes is another one",
    "train_rows": "the training rows are other ones",
    "eval_rows": "the rows held out are other ones",
    "prepared_train": "the training rows become other tokens",
    "prepared_eval": "the rows held out become other tokens",
}
# By what a folder is known to be a run's, and what a run leaves in it.
_SIGNS = ("training.json", "trainer_state.json", "selection.json", "checkpoint-*/trainer_state.json")
_LEFT = (
    SETTINGS_FILE, "checkpoint-*", "_selected", "best", "selection.json", "selection.png", "generations.jsonl",
    "metrics.json", "training.png", "training.json", "trainer_state.json", "preparation.json", "training_args.bin",
    "README.md", MARK, *MODEL_FILES,
)  # fmt: skip
_WORTH_KEEPING = ("checkpoint-*", "*.safetensors", "_selected")


def mark_checkpoint(checkpoint: Path, run: str, step: int) -> None:
    """Says in a checkpoint's folder whose it is.

    Args:
        checkpoint: The folder.
        run: The run's id.
        step: The step it was saved at.
    """
    write_text(checkpoint / MARK, json.dumps({"run": run, "step": step}))


# ---- what it is made of ----


def run_identity(
    script: CFTScriptArguments, config: CFTConfig, model: ModelConfig, rows: tuple[Any, Any], tokenizer: Any
) -> dict[str, Identity | None]:
    """What a run is made of: "base", "tokenizer", "template_from" (None where no other model's is taken),
    "train_rows", "eval_rows" (None where there are none).

    Args:
        rows: Training rows and rows held out.
        tokenizer: With the end token and template that the settings give it.
    """
    return {
        "base": model_identity(model.model_name_or_path, model.model_revision),
        "tokenizer": tokenizer_identity(tokenizer),
        "template_from": _template_from(config),
        **{
            f"{name}_rows": _identity_of_rows(script, config, of_split, split, name)
            for name, of_split, split in (
                ("train", rows[0], script.dataset_train_split),
                ("eval", rows[1], script.dataset_test_split),
            )
        },
    }


def _identity_of_parts(config: CFTConfig, parts: Sequence[DatasetPart], name: str) -> Identity:
    """Of a mixture: of each part its rows, and what is asked of it, under keys that name it when they are told.

    What is compared are the parts in their order (`_parts_by_place`), whatever they are called.
    """
    found: Identity = {}
    for part in settled_parts(parts, config, name):
        rows = rows_identity(part.rows, READ_COLUMNS[part.prompting.objective])
        found |= {f"number of rows of part {part.name}": rows["rows"], f"text in part {part.name}": rows["texts"]}
        for field in ("objective", "sft_target", "prompt_preset", "weight"):
            if (value := getattr(part, field)) is not None:
                found[f"{field} of part {part.name}"] = told_wording(value) if field == "prompt_preset" else value
    return found


def _template_from(config: CFTConfig) -> Identity | None:
    """Of a model whose chat template is taken, its tokenizer: TRL takes end and added tokens with it."""
    path = config.chat_template_path
    if not path or path.endswith((".jinja", ".j2")):
        return None
    return tokenizer_identity(load_tokenizer(path, trust_remote_code=config.trust_remote_code))


def _identity_of_rows(
    script: CFTScriptArguments, config: CFTConfig, rows: Any, split: str, name: str
) -> Identity | None:
    from datasets import Dataset

    if isinstance(rows, list):
        return _identity_of_parts(config, rows, name)
    if rows is None or isinstance(rows, Dataset):
        return None if rows is None else rows_identity(rows, READ_COLUMNS[config.objective])
    split = script.dataset_train_split if script.eval_rows else split
    # A stream's rows are not at hand; its files, or its commit, are what they are.
    return data_identity(script.dataset_name, split=split, name=script.dataset_config, revision=script.dataset_revision)


# ---- going on ----


def check_goes_on(
    output: Path, checkpoint: Path, settings: Mapping[str, Any], identity: Mapping[str, Identity]
) -> None:
    """Sees that a run which is about to go on in a folder is the one that was begun there.

    Args:
        output: The run's folder.
        checkpoint: The one in it that the run goes on from.
        settings: The settings now.
        identity: What it is made of now: what `run_identity` gives.

    Raises:
        CFTError: It is another one: the first three differences, and what to do; or it was launched otherwise and
            does not go on exactly (`cft_trl.training.launched`).
    """
    check_launch_goes_on(checkpoint, _settings_before(output), settings)
    changed = _changed_settings(output, settings)
    before = read_record(output).get("identity")
    if before is None and not changed:
        print(f"{output}: begun before runs wrote down what they are trained from; that is not compared", flush=True)
    changed += _changed(before or {}, identity)
    if changed:
        raise CFTError(
            f"'{output}' holds checkpoints of another run ({'; '.join(changed[:3])}); give another output_dir, or "
            "--resume false to begin anew here"
        )


def check_prepared(output: Path, prepared: Mapping[str, Identity | None]) -> None:
    """The same for the rows as they have become tokens, which depend on our code and the libraries' too.

    Raises:
        CFTError: They are other tokens than those the run was begun with.
    """
    before = read_record(output).get("identity") or {}
    changed = _changed(before, prepared)
    if changed:
        from cft_trl import __version__

        wrote = read_record(output).get("versions", {}).get("cft-trl")
        raise CFTError(
            f"'{output}' holds checkpoints of a run that read its rows otherwise ({changed[0]}; cft-trl {wrote} then, "
            f"{__version__} now); give another output_dir, or --resume false to begin anew here"
        )


def prepared_identities(train: Any, evaluated: Any) -> dict[str, Identity | None]:
    """Of a trainer's prepared datasets: "prepared_train" and "prepared_eval", None of several evaluation datasets."""
    several = isinstance(evaluated, dict)
    return {
        "prepared_train": prepared_identity(train),
        "prepared_eval": None if several else prepared_identity(evaluated),
    }


def prepared_identity(dataset: Any) -> Identity | None:
    """Of a prepared dataset: its rows and a digest of their numbers; None of a stream."""
    from datasets import Dataset

    if not isinstance(dataset, Dataset):
        return None
    import hashlib

    import pyarrow as pa
    import pyarrow.compute as pc

    told = hashlib.sha256()
    for batch in dataset.with_format("arrow").iter(batch_size=1_000):
        for name in sorted(batch.column_names):
            column = batch.column(name)
            while pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
                told.update(pc.list_value_length(column).to_numpy().tobytes())
                column = pc.list_flatten(column)
            told.update(name.encode() + column.to_numpy().tobytes())
    return {"rows": len(dataset), "numbers": told.hexdigest()[:16]}


def _settings_before(output: Path) -> dict[str, Any] | None:
    path = output / SETTINGS_FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _changed_settings(output: Path, settings: Mapping[str, Any]) -> list[str]:
    before = _settings_before(output)
    if before is None:
        return []
    now = json.loads(json.dumps(settings, default=str))
    before = {**_WAS, **before}
    # How many rows a step has is compared with the launch, of a run that wrote it down.
    free = _FREE_TO_CHANGE | {"launch"} | ({*BATCH_SETTINGS} if "launch" in before else set())
    names = sorted({*before, *now} - free)
    changed = [name for name in names if before.get(name) != now.get(name)]
    return [f"{name}: {in_line(before.get(name))} -> {in_line(now.get(name))}" for name in changed]


def _changed(before: Mapping[str, Any], now: Mapping[str, Identity | None]) -> list[str]:
    """What both know and is not the same, in words."""
    found = []
    for name, mine in json.loads(json.dumps(now)).items():
        theirs = before.get(name)
        theirs, mine = _parts_by_place(theirs, mine)
        if theirs is not None and mine is not None and (told := what_changed(theirs, mine)):
            found.append(f"{_WORDS[name]}: {told}")
        elif name in before and (theirs is None) != (mine is None):
            found.append(f"{_WORDS[name]}: {'none before, some now' if theirs is None else 'some before, none now'}")
    return found


_OF_PART = re.compile(r"(.+ (?:of|in) part )(\S+)")  # the keys of `_identity_of_parts`


def _parts_by_place(before: Identity | None, now: Identity | None) -> tuple[Identity | None, Identity | None]:
    """Both with the names that their parts have now: a file may be called otherwise, parts are told by their place."""
    names = [list(dict.fromkeys(found[2] for key in one or () if (found := _OF_PART.fullmatch(key))))
             for one in (before, now)]  # fmt: skip
    called = unique_names([*names[1], *names[0][len(names[1]) :]])
    return _renamed(before, dict(zip(names[0], called, strict=False))), now


def _renamed(identity: Identity | None, called: Mapping[str, str]) -> Identity | None:
    if not called or identity is None:
        return identity
    found = {key: _OF_PART.fullmatch(key) for key in identity}
    return {(part[1] + called[part[2]] if (part := found[key]) else key): value for key, value in identity.items()}


# ---- beginning anew ----


def new_run() -> str:
    """An id for a run: 12 hex digits, by chance."""
    return secrets.token_hex(6)


def begin_anew(output: Path, base: str | None = None) -> Path | None:
    """Puts aside what another run left in a folder, so that nothing of it is taken for the new run's.

    Args:
        output: The folder.
        base: What is trained; it may lie in that folder, but not in what is put aside.

    Returns:
        Where the old run's things lie now, below `_old`; None where there was nothing worth keeping.

    Raises:
        CFTError: They cannot be moved, or the base is among them.
    """
    if not any(next(output.glob(sign), None) for sign in _SIGNS):
        return None
    left = sorted({path for pattern in _LEFT for path in output.glob(pattern)})
    if lies_in_run(base, output):
        raise CFTError(f"'{base}', with which the run begins, is what another run left in '{output}', where it would "
                       "be put aside; give another output_dir")  # fmt: skip
    keep = any(next(output.glob(pattern), None) for pattern in _WORTH_KEEPING)
    aside = output / _OLD / (_name_of(output) or content_digest([str(path) for path in left])[:12])
    while aside.exists():
        aside = aside.with_name(f"{aside.name}-")
    try:
        aside.mkdir(parents=True)
        for path in left:
            os.replace(path, aside / path.name)
        if not keep:  # records of a run that had saved no weights
            shutil.rmtree(aside)
            if not any(aside.parent.iterdir()):
                aside.parent.rmdir()
    except OSError as error:
        raise CFTError(
            f"'{output}': what the run before left cannot be moved to {aside} ({error.strerror}); give another "
            "output_dir"
        ) from None
    return aside if keep else None


def lies_in_run(base: str | None, output: Path) -> bool:
    """Whether a model is what a run left in a folder: its result, one of its checkpoints, its `best`."""
    if not base or not Path(base).is_dir():
        return False
    model, here = Path(base).resolve(), output.resolve()
    if model == here:
        return True
    inside = model.relative_to(here).parts[0] if here in model.parents else ""
    return any(fnmatch(inside, pattern) for pattern in _LEFT)


def _name_of(output: Path) -> str | None:
    try:
        return read_record(output).get("run")
    except CFTError:
        return None
