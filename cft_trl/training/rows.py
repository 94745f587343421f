"""The rows of a run as its settings name them: one dataset (`dataset_name`), or several (`datasets`).

load_rows(script, evaluate=True)     # (Dataset, Dataset), or ([DatasetPart, …], [DatasetPart, …])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cft_trl.data.read_rows import mark_read, read_features, read_row, record_of
from cft_trl.data.records import Record
from cft_trl.errors import CFTError
from cft_trl.training.arguments import CFTScriptArguments
from cft_trl.training.mixture import DatasetPart, is_mixture, settled_parts
from cft_trl.training.parts import ARITHMETIC, OF_ONE, PartSettings, parse_columns, part_names, read_parts

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

    from cft_trl.training.config import CFTConfig

_HELD_OUT = "validation"  # the split of arithmetic that eval_rows are of
_GENERATED = 10_000  # rows of arithmetic, where nothing says how many


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
        about: dict[str, Any] = {
            "objective": part.objective,
            "sft_target": part.sft_target,
            "prompt_preset": part.prompt_preset,
        }
        try:
            rows, evaluated = load_rows(alone, evaluate and bool(alone.eval_rows or part.eval_split))
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
    """Each part, and the settings of a run that has it as its single dataset, with what it leaves to this run's.

    Args:
        script: The run's.

    Raises:
        CFTError: As `read_parts`; or a part would train on what another holds out.
    """
    parts = [(part, _alone(part, script)) for part in read_parts(script.datasets)]
    _check_held_out(parts)
    return parts


def _alone(part: PartSettings, script: CFTScriptArguments) -> CFTScriptArguments:
    held_out = 0 if part.eval_split else script.eval_rows
    own: dict[str, Any] = {
        "datasets": None,
        **{name: getattr(part, key) for name, key in OF_ONE.items()},
        "dataset_train_split": part.split or script.dataset_train_split,
        "dataset_test_split": part.eval_split or script.dataset_test_split,
        "dataset_seed": script.dataset_seed if part.seed is None else part.seed,
        "arithmetic_levels": list(part.levels or script.arithmetic_levels),
        "eval_rows": held_out if part.eval_rows is None else part.eval_rows,
    }
    return replace(script, **own)


def _check_held_out(parts: Sequence[tuple[PartSettings, CFTScriptArguments]]) -> None:
    """Rows that one part is evaluated on, no part must train on."""
    for number, (part, alone) in enumerate(parts, 1):
        where = f"datasets, part {number} ({part.path})"
        if part.eval_split and (alone.eval_rows or part.path == ARITHMETIC):
            remedy = "eval_rows; give one of them" if alone.eval_rows else "arithmetic; give eval_rows"
            raise CFTError(f"{where}: eval_split with {remedy}")
        evaluated = _evaluated(part, alone)
        for other, (_, trained) in enumerate(parts, 1):
            if evaluated is not None and evaluated == _rows_named(trained, trained.dataset_train_split):
                who = "it" if number == other else f"part {other}"
                told, remedy = f"eval_split={part.eval_split} is", "give another split, or eval_rows"
                if not part.eval_split:
                    told, remedy = f"eval_rows are of split {_HELD_OUT}, which is", "train on split train or test"
                raise CFTError(f"{where}: {told} what {who} trains on; {remedy}")
        for other, (_, before) in enumerate(parts[: number - 1], 1):
            same = _rows_named(alone, alone.dataset_train_split) == _rows_named(before, before.dataset_train_split)
            differ = [name for name in ("eval_rows", "dataset_limit") if getattr(alone, name) != getattr(before, name)]
            if same and differ and part.path != ARITHMETIC and (alone.eval_rows or before.eval_rows):
                values = " and ".join(str(getattr(one, differ[0])) for one in (before, alone))
                name = differ[0].removeprefix("dataset_")
                raise CFTError(
                    f"datasets, parts {other} and {number} read the same rows ({part.path}) with {name} {values}, so "
                    "that what one holds out the other would train on; give both the same"
                )


def _evaluated(part: PartSettings, alone: CFTScriptArguments) -> tuple[str | None, ...] | None:
    """The rows, by name, that a part is evaluated on and that are none of its training split."""
    if part.eval_split:
        return _rows_named(alone, part.eval_split)
    return _rows_named(alone, _HELD_OUT) if part.path == ARITHMETIC and alone.eval_rows else None


def _rows_named(script: CFTScriptArguments, split: str) -> tuple[str | None, ...]:
    """What is the same where the same rows are read, however their path is written."""
    name = script.dataset_name or ""
    if name == ARITHMETIC:  # of whatever seed: a problem belongs to one split
        return name, split
    path = Path(name).expanduser()
    here = path.exists() or _is_read_whole(name)
    place = str(path.resolve()) if here else name
    return place, script.dataset_config, script.dataset_revision, None if _is_read_whole(name) else split


def _is_read_whole(name: str) -> bool:
    """Whether a path is of a file or a glob, which have no splits."""
    path = Path(name).expanduser()
    return path.is_file() or (not path.exists() and any(sign in name for sign in "*?["))


def _is_one_split(script: CFTScriptArguments) -> bool:
    return script.dataset_test_split == script.dataset_train_split or _is_read_whole(script.dataset_name or "")


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

    if script.eval_rows and script.dataset_train_split == _HELD_OUT:
        raise CFTError(f"eval_rows of arithmetic are of split {_HELD_OUT}, which is trained on; train on split train "
                       "or test")  # fmt: skip
    train = rows(script.dataset_train_split, script.dataset_limit or _GENERATED)
    return train, rows(_HELD_OUT, script.eval_rows) if script.eval_rows else None


def rows_to_critique(eval_rows: Any, count: int, config: CFTConfig) -> list[Record]:
    """The first held-out rows, for free critiques; of a mixture those of its parts with the run's objective and prompt.

    Args:
        eval_rows: Of `load_rows`.
        count: How many; 0 for none.
        config: The run's.

    Raises:
        CFTError: There are fewer, or some without a verdict; or as `settled_parts`.
    """
    if not count:
        return []
    if eval_rows is None or is_mixture(eval_rows):
        own = [part for part in (settled_parts(eval_rows, config, "eval") if eval_rows else ())
               if part.objective == config.objective and part.prompt_preset == config.wording]  # fmt: skip
        found = [row for part in own for row in islice(part.rows, count)][:count]
        if len(found) < count:
            raise CFTError(
                f"generated_rows={count}, but the parts with objective {config.objective} and the run's prompt hold "
                f"out {len(found)} rows; set eval_rows in one of them, or give fewer"
            )
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
