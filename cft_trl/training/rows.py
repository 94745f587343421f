"""The rows of a run as its settings name them: one dataset (`dataset_name`), or several (`datasets`).

    datasets:
      - {path: data/critiques.jsonl, weight: 0.8}                                       objective: the run's
      - {path: data/solutions.jsonl, objective: sft, sft_target: refinement, weight: 0.2}

What a part does not say of `objective`, `sft_target`, `prompt_preset`, `split` and `eval_rows` is as in the run's
settings. How parts are mixed: `mixture.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Gt

from cft_trl.data.files import SUFFIXES
from cft_trl.data.prompts import PresetName
from cft_trl.data.read_rows import mark_read, read_features, read_row, record_of
from cft_trl.data.records import Record
from cft_trl.data.settings import Count, Expected, FromText, Whole, check_settings
from cft_trl.errors import CFTError, nearest
from cft_trl.training.arguments import CFTScriptArguments
from cft_trl.training.mixture import DatasetPart, is_mixture, unique_names

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

ARITHMETIC = "arithmetic"
_GENERATED = 10_000  # rows of arithmetic, where nothing says how many
# Settings of the one dataset, and what a part calls them.
_OF_ONE = {
    "dataset_name": "path", "dataset_config": "config", "dataset_revision": "revision", "dataset_columns": "columns",
    "append_verdict": "append_verdict", "dataset_limit": "limit",
}  # fmt: skip
# What other mixers call a part's keys.
_ELSEWHERE = {"id": "path", "name": "config", "dataset": "path", "fraction": "weight"}


@dataclass(frozen=True)
class PartSettings:
    """One entry of `datasets`.

    Args:
        path: Hub id, file, glob, folder, or `arithmetic` (the embedded source).
        config: Configuration of a Hub dataset, or of a copy of one.
        revision: Commit, tag or branch on the Hub.
        split: Which split is trained on; default `dataset_train_split`.
        columns: House column -> column of the data, as a mapping or as `verdict=label,query=problem`.
        append_verdict: Writes a row's verdict as the last line of a critique that does not state it.
        limit: Uses the first so many rows (`arithmetic`: generates so many).
        levels, seed: Of `arithmetic`; default `arithmetic_levels`, `dataset_seed`.
        objective, sft_target, prompt_preset: As the settings of these names.
        weight: The part's share of the rows of an epoch, in relation to the others'; all parts have one, or none has.
        eval_rows: So many of its rows are held out for evaluation; default the setting of this name.
        eval_split: A split that is evaluated on in place of held-out rows.

    Raises:
        CFTError: A value that its type does not allow.
    """

    path: str
    config: str | None = None
    revision: str | None = None
    split: str | None = None
    columns: Annotated[Any, Expected("a mapping of names, e.g. {verdict: label}")] = None
    append_verdict: bool = False
    limit: Count | None = None
    levels: tuple[Literal[0, 1, 2, 3], ...] | None = None
    seed: Whole | None = None
    objective: Literal["cft", "cgd", "sft"] | None = None
    sft_target: Literal["response", "right_only", "refinement"] | None = None
    prompt_preset: PresetName | None = None
    weight: Annotated[float, Gt(0), FromText()] | None = None
    eval_rows: Whole | None = None
    eval_split: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.levels, list):
            object.__setattr__(self, "levels", tuple(self.levels))
        check_settings(self, lambda name: name)


def read_parts(datasets: Any) -> list[PartSettings]:
    """The parts that `datasets` names.

    Args:
        datasets: A list of mappings, as YAML has them; of a flag texts, each a path or a mapping in YAML's words:
            `--datasets critiques.jsonl '{path: solutions.jsonl, objective: sft}'`.

    Raises:
        CFTError: No list, an unknown key, or a wrong value; the part is named.

    Example:
        >>> [part.objective for part in read_parts(["a.jsonl", "{path: b.jsonl, objective: sft}"])]
        [None, 'sft']
    """
    if not isinstance(datasets, list) or not datasets:
        raise CFTError("datasets: give a list, each entry a path or a mapping with path, objective, weight, …")
    return [_read_part(entry, number) for number, entry in enumerate(datasets, 1)]


def _read_part(entry: Any, number: int) -> PartSettings:
    import yaml

    where = f"datasets, part {number}"
    if isinstance(entry, str) and not entry.lstrip().startswith("{"):
        entry = {"path": entry}
    if isinstance(entry, str):
        try:
            entry = yaml.safe_load(entry)
        except yaml.YAMLError as error:
            raise CFTError(f"{where}: {entry!r} is not YAML ({' '.join(str(error).split())})") from None
    if not isinstance(entry, Mapping) or not isinstance(entry.get("path"), str) or not entry["path"]:
        raise CFTError(f"{where}: path is missing; give a Hub id, a file, a folder, or arithmetic")
    where += f" ({entry['path']})"
    known = [one.name for one in fields(PartSettings)]
    for key in entry:
        if key not in known:
            hint = f"; its {_ELSEWHERE[key]} is called {_ELSEWHERE[key]}" if key in _ELSEWHERE else nearest(key, known)
            raise CFTError(f"{where}: unknown key {key!r}{hint}; known: {', '.join(known)}")
    try:
        part = PartSettings(**entry)
        parse_columns(part.columns, "columns")
    except CFTError as error:
        raise CFTError(f"{where}: {error}") from None
    for name in ("levels", "seed"):
        if getattr(part, name) is not None and part.path != ARITHMETIC:
            raise CFTError(f"{where}: {name} is of arithmetic only; leave it out")
    return part


def settle_datasets(script: CFTScriptArguments) -> None:
    """Puts `datasets` into one form, whether it came from a file or from a flag.

    Args:
        script: Its `datasets` is changed: a list of mappings, of what is not a part's default.

    Raises:
        CFTError: As `read_parts`; or with settings of a single dataset beside it.
    """
    if script.datasets is None:
        return
    for name, key in _OF_ONE.items():
        if getattr(script, name):
            raise CFTError(f"{name} with datasets: it is of a single dataset; leave it out"
                           + (f", or give {key} in a part" if name != "dataset_name" else ""))  # fmt: skip
    if script.dataset_streaming:
        raise CFTError("dataset_streaming with datasets: of a stream no share can be drawn; leave one of them out")
    parts = read_parts(script.datasets)
    shown = [{one.name: getattr(part, one.name) for one in fields(part)} for part in parts]
    script.datasets = [
        {name: list(value) if isinstance(value, tuple) else value for name, value in part.items() if value not in (None, False)}
        for part in shown
    ]  # fmt: skip


def part_names(parts: Sequence[PartSettings]) -> list[str]:
    """What parts are called: by their files or folders, and where these are alike by their objectives too.

    Example:
        >>> part_names(read_parts(["data/critiques.jsonl.gz", "org/solutions"]))
        ['critiques', 'solutions']
        >>> part_names(read_parts(["arithmetic", "{path: arithmetic, objective: sft}"]))
        ['arithmetic', 'arithmetic-sft']
    """
    stems = [_stem(part.path) for part in parts]
    return unique_names([
        f"{stem}-{part.objective}" if part.objective and stems.count(stem) > 1 else stem
        for stem, part in zip(stems, parts, strict=True)
    ])  # fmt: skip


def _stem(path: str) -> str:
    name = Path(path).name
    return next((name.removesuffix(suffix) for suffix in SUFFIXES if name.endswith(suffix)), name) or path


# ---- loading ---------------------------------------------------------------------------------------------------------


def load_rows(script: CFTScriptArguments, evaluate: bool) -> tuple[Any, Any]:
    """-> (training rows, rows held out or None): `Dataset` or, with `dataset_streaming`, `IterableDataset`; of
    `datasets` lists of `DatasetPart`.

    Rows that have been read (`cft_trl.data.read_rows`): nothing that is made of them reads them again.

    Args:
        script: The settings.
        evaluate: Whether there are evaluations.

    Raises:
        CFTError: evaluation is asked for and nothing says on which rows; the data cannot be read.
    """
    if script.datasets is not None:
        return _load_parts(script, evaluate)
    if not script.dataset_name:
        raise CFTError("dataset_name is missing; give a Hub id, a file, a folder, or `arithmetic` (or datasets)")
    if evaluate and not script.eval_rows and script.dataset_name == ARITHMETIC:
        raise CFTError("eval_strategy asks for evaluation but eval_rows is 0; say how many rows to hold out")
    if script.dataset_name == ARITHMETIC:
        return _arithmetic_rows(script)

    from cft_trl.sources.local import load_local

    options = {
        "name": script.dataset_config,
        "revision": script.dataset_revision,
        "columns": parse_columns(script.dataset_columns),
        "append_verdict": script.append_verdict,
        "streaming": script.dataset_streaming,
        "marked": True,
    }
    limit = script.dataset_limit
    if evaluate and not script.eval_rows and _is_one_split(script):
        raise CFTError(
            f"eval_strategy asks for evaluation but '{script.dataset_name}' holds no other rows than those trained on; "
            "set eval_rows, or give a dataset with a test split"
        )
    rows = load_local(script.dataset_name, split=script.dataset_train_split, limit=limit, **options)
    if script.eval_rows:
        return _hold_out(rows, script)
    if evaluate:
        return rows, load_local(script.dataset_name, split=script.dataset_test_split, **options)
    return rows, None


def _load_parts(script: CFTScriptArguments, evaluate: bool) -> tuple[Any, Any]:
    parts = read_alone(script)
    names = part_names([part for part, _ in parts])
    trained, held_out = [], []
    for number, ((part, alone), name) in enumerate(zip(parts, names, strict=True), 1):
        about = {"objective": part.objective, "sft_target": part.sft_target, "prompt_preset": part.prompt_preset}
        try:
            rows, evaluated = load_rows(alone, evaluate and bool(part.eval_rows or part.eval_split))
        except CFTError as error:
            raise CFTError(f"datasets, part {number} ({part.path}): {error}") from None
        trained.append(DatasetPart(rows, weight=part.weight, name=name, **about))
        if evaluated is not None:
            held_out.append(DatasetPart(evaluated, name=name, **about))
    if evaluate and not held_out:
        raise CFTError("eval_strategy asks for evaluation but no part holds out rows; set eval_rows, for all or in a "
                       "part, or eval_split in a part")  # fmt: skip
    return trained, held_out or None


def read_alone(script: CFTScriptArguments) -> list[tuple[PartSettings, CFTScriptArguments]]:
    """Each part, with what it leaves to the run's settings, and as the single dataset of such settings.

    Args:
        script: The run's.

    Raises:
        CFTError: As `read_parts`; or a part would train on what another holds out.
    """
    parts = [_with_defaults(part, script) for part in read_parts(script.datasets)]
    _check_held_out(parts)
    return [(part, _alone(part, script)) for part in parts]


def _with_defaults(part: PartSettings, script: CFTScriptArguments) -> PartSettings:
    held_out = 0 if part.eval_split else script.eval_rows
    return replace(
        part,
        split=part.split or script.dataset_train_split,
        eval_rows=held_out if part.eval_rows is None else part.eval_rows,
        levels=part.levels or tuple(script.arithmetic_levels) if part.path == ARITHMETIC else None,
        seed=script.dataset_seed if part.seed is None else part.seed,
    )


def _check_held_out(parts: Sequence[PartSettings]) -> None:
    """Rows that one part holds out, another must not train on; problems of arithmetic are others by construction."""
    for number, part in enumerate(parts, 1):
        if part.eval_split and (part.eval_rows or part.path == ARITHMETIC):
            raise CFTError(f"datasets, part {number} ({part.path}): eval_split with "
                           + ("eval_rows; give one of them" if part.eval_rows else "arithmetic; give eval_rows"))  # fmt: skip
        for other, before in enumerate(parts[: number - 1], 1):
            same = all(getattr(part, name) == getattr(before, name) for name in ("path", "config", "revision", "split"))
            differ = [name for name in ("eval_rows", "limit") if getattr(part, name) != getattr(before, name)]
            if same and part.path != ARITHMETIC and (part.eval_rows or before.eval_rows) and differ:
                values = " and ".join(str(getattr(one, differ[0])) for one in (before, part))
                raise CFTError(f"datasets, parts {other} and {number} read the same rows ({part.path}) with {differ[0]} "
                               f"{values}, so that what one holds out the other would train on; give both the same")  # fmt: skip


def _alone(part: PartSettings, script: CFTScriptArguments) -> CFTScriptArguments:
    return replace(
        script,
        datasets=None,
        **{name: getattr(part, key) for name, key in _OF_ONE.items()},
        dataset_train_split=part.split,
        dataset_test_split=part.eval_split or script.dataset_test_split,
        dataset_seed=part.seed,
        arithmetic_levels=list(part.levels or ()),
        eval_rows=part.eval_rows,
    )


def _is_one_split(script: CFTScriptArguments) -> bool:
    return script.dataset_test_split == script.dataset_train_split or Path(script.dataset_name or "").is_file()


def _hold_out(rows: Dataset | IterableDataset, script: CFTScriptArguments) -> tuple[Any, Any]:
    from datasets import IterableDataset

    if isinstance(rows, IterableDataset):
        return rows.skip(script.eval_rows), rows.take(script.eval_rows)
    if script.eval_rows >= len(rows):
        raise CFTError(f"eval_rows={script.eval_rows} would hold out all of the {len(rows)} rows; give fewer")
    parts = rows.train_test_split(test_size=script.eval_rows, seed=script.dataset_seed)
    return parts["train"], parts["test"]


def _arithmetic_rows(script: CFTScriptArguments) -> tuple[Any, Any]:
    from datasets import Dataset

    from cft_trl.sources.arithmetic import arithmetic_records

    def rows(split: str, count: int) -> Dataset:
        records = arithmetic_records(
            count, seed=script.dataset_seed, levels=tuple(script.arithmetic_levels), split=split
        )
        return Dataset.from_list([mark_read(record) for record in records], features=read_features())

    train = rows(script.dataset_train_split, script.dataset_limit or _GENERATED)
    return train, rows("validation", script.eval_rows) if script.eval_rows else None


def parse_columns(columns: dict[str, str] | str | None, name: str = "dataset_columns") -> dict[str, str] | None:
    """`"verdict=label,query=problem"` or a mapping -> mapping of house column to the data's column.

    Args:
        columns: The setting's value.
        name: What the error calls it.

    Raises:
        CFTError: Neither pairs nor a mapping of texts.

    Example:
        >>> parse_columns("verdict=label, query=problem")
        {'verdict': 'label', 'query': 'problem'}
    """
    if not columns:
        return None
    if isinstance(columns, dict) and all(isinstance(text, str) for pair in columns.items() for text in pair):
        return columns
    if not isinstance(columns, str):
        raise CFTError(f"{name}={columns}: give a mapping of names, e.g. {{verdict: label, query: problem}}")
    pairs = [pair.split("=") for pair in columns.split(",")]
    if any(len(pair) != 2 for pair in pairs):
        raise CFTError(f"{name}={columns}: give house=data pairs, e.g. verdict=label,query=problem")
    return {house.strip(): column.strip() for house, column in pairs}


def rows_to_critique(eval_rows: Any, count: int, objective: str, preset: str) -> list[Record]:
    """The first held-out rows, for free critiques; of a mixture those of its parts with the run's objective and prompt.

    Args:
        eval_rows: Of `load_rows`.
        count: How many; 0 for none.
        objective, preset: The run's.

    Raises:
        CFTError: There are fewer, or some without a verdict.
    """
    if not count:
        return []
    if is_mixture(eval_rows):
        own = [part for part in eval_rows
               if (part.objective or objective) == objective and (part.prompt_preset or preset) == preset]  # fmt: skip
        found = [row for part in own for row in islice(part.rows, count)][:count]
        if len(found) < count:
            raise CFTError(f"generated_rows={count}, but the parts with objective {objective} hold out {len(found)} rows; "
                           "set eval_rows in one of them, or give fewer")  # fmt: skip
    else:
        found = list(islice(eval_rows, count))
    rows = [record_of(read_row(row, f"held-out row {index}")) for index, row in enumerate(found)]
    missing = sum(row["verdict"] is None for row in rows)
    if missing:
        raise CFTError(
            f"{missing} of the {count} held-out rows to critique have no verdict to compare with; "
            "give column verdict, or set generated_rows to 0"
        )
    return rows
