"""`datasets` as its settings: the parts of a mixture, one by one, checked and named.

    datasets:
      - {path: data/critiques.jsonl, weight: 0.8}                                       objective: the run's
      - {path: data/solutions.jsonl, objective: sft, sft_target: refinement, weight: 0.2}

What a part does not say of `objective`, `sft_target`, `prompt_preset`, `split` and `eval_rows` is as in the run's
settings. How parts are mixed: `mixture.py`; how they are loaded: `rows.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Gt

from cft_trl.data.files import SUFFIXES
from cft_trl.data.prompts import PresetName
from cft_trl.data.settings import Count, Expected, FromText, Whole, check_settings
from cft_trl.errors import CFTError, nearest
from cft_trl.training.arguments import CFTScriptArguments
from cft_trl.training.mixture import unique_names

ARITHMETIC = "arithmetic"
# Settings of the one dataset, and what a part calls them.
OF_ONE = {
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
        levels: Levels of difficulty of `arithmetic`; default `arithmetic_levels`.
        seed: Draws the problems of `arithmetic`; default `dataset_seed`.
        objective: What is predicted from its rows; default the setting of this name.
        sft_target: Which answer objective `sft` learns; default the setting of this name.
        prompt_preset: Wording of its prompts; default the setting of this name.
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
    for name, key in OF_ONE.items():
        if getattr(script, name):
            raise CFTError(f"{name} with datasets: it is of a single dataset; leave it out"
                           + (f", or give {key} in a part" if name != "dataset_name" else ""))  # fmt: skip
    if script.dataset_streaming:
        raise CFTError("dataset_streaming with datasets: of a stream no share can be drawn; leave one of them out")
    parts = read_parts(script.datasets)
    script.datasets = [_shown(part) for part in parts]


def _shown(part: PartSettings) -> Any:
    """What a part says, as YAML has it."""
    values = {one.name: getattr(part, one.name) for one in fields(part)}
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in values.items()
        if value is not None and value is not False
    }


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
