"""Several datasets in one run, each with an objective of its own: what `datasets:` of a YAML file becomes.

    CFTTrainer(model, CFTConfig("out"), train_dataset=[
        DatasetPart(critiques, weight=0.8),                                               objective cft, as the config
        DatasetPart(solutions, objective="sft", sft_target="refinement", weight=0.2),
    ])
    # train: rows 6,000: kept 5,000, shortened 0, dropped 1,000 (1,000 not drawn, for its weight); …
    # train/cft: rows 4,000: kept 4,000, …
    # train/sft: rows 2,000: kept 1,000, shortened 0, dropped 1,000 (1,000 not drawn, for its weight); …

A weight is a part's share of the rows of an epoch, in relation to the others', as `fraction` is in TRL's
`DatasetMixtureConfig`. What is drawn is drawn by the seed from the rows that can be used, once for all epochs. Without
weights all rows are trained once an epoch. (In open-r1's mixtures a weight is a share of the dataset's own rows.)
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from datasets import Dataset, IterableDataset, concatenate_datasets

from cft_trl.data.prompts import PresetName, Prompting, Wording, make_wording, told_wording
from cft_trl.errors import CFTError, in_line
from cft_trl.models.run_record import provenance
from cft_trl.training.config import MIXTURE_STRATEGIES
from cft_trl.training.encoded import ACCOUNT_FEATURES, MOST_PARTS
from cft_trl.training.lengths import PreparationReport
from cft_trl.training.preparation import FEATURE_COLUMNS, RowEncoder
from cft_trl.training.prepare import encode_dataset, prepare_dataset

if TYPE_CHECKING:
    from cft_trl.training.config import CFTConfig

REPEATS_NOTHING = MIXTURE_STRATEGIES[0]
NOT_DRAWN = "not drawn, for its weight"


@dataclass(frozen=True)
class DatasetPart:
    """One dataset of a mixture.

    Args:
        rows: Rows of any layout that `cft_trl.to_records` reads; no stream.
        objective, prompt_preset: As in `CFTConfig`, which is asked where they are None. A preset's name is of the
            prompt alone: verdict words are the config's in all parts, its template is that of the parts with its
            objective and no preset. A `Wording` stands as it is.
        sft_target: As in `CFTConfig`, for objective `sft`.
        weight: Its share of the rows of an epoch, in relation to the other parts'; all parts have one, or none has.
        name: What the reports and its loss (`loss_NAME`) are called by; default its objective.

    Example:
        >>> from datasets import Dataset
        >>> rows = Dataset.from_list([{"query": "2+2?", "response": "4", "critique": "Conclusion: right [END]"}])
        >>> DatasetPart(rows, objective="sft", weight=0.2).objective
        'sft'
    """

    rows: Any
    objective: str | None = None
    sft_target: str | None = None
    prompt_preset: str | Wording | None = None
    weight: float | None = None
    name: str | None = None

    @property
    def prompting(self) -> Prompting:
        """How its rows become prompts, once it has been settled."""
        return Prompting(self.objective or "cft", self.sft_target or "response", self.prompt_preset or "paper")


def is_mixture(dataset: Any) -> bool:
    """Whether this is a list of parts, and not a dataset."""
    return isinstance(dataset, list | tuple)


def settled_parts(parts: Sequence[DatasetPart], args: CFTConfig, name: str = "train") -> list[DatasetPart]:
    """The parts with all that they leave to the config, checked.

    Args:
        parts: Of a mixture.
        args: The run's.
        name: What messages call the dataset.

    Raises:
        CFTError: Nothing to mix, a value that is none of its field's, or values that contradict each other; the part
            is named.
    """
    if not parts:
        raise CFTError(f"the {name} dataset has no parts; give at least one DatasetPart")
    if len(parts) > MOST_PARTS:
        raise CFTError(f"the {name} dataset has {len(parts)} parts; give at most {MOST_PARTS}")
    for number, part in enumerate(parts, 1):
        if not isinstance(part, DatasetPart):
            raise CFTError(f"the {name} dataset, part {number}: give a DatasetPart, not {type(part).__name__}")
    objectives = [part.objective or args.objective for part in parts]
    names = unique_names([part.name or objective for part, objective in zip(parts, objectives, strict=True)])
    found = [_settled(part, args, called, f"the {name} dataset, part {called}")
             for part, called in zip(parts, names, strict=True)]  # fmt: skip
    without = [part.name for part in found if part.weight is None]
    if 0 < len(without) < len(found):
        raise CFTError(f"the {name} dataset, part {without[0]}: it has no weight, others have; give all parts one, or "
                       "none")  # fmt: skip
    if args.mixture_strategy != REPEATS_NOTHING and without and name == "train":
        raise CFTError(f"mixture_strategy={args.mixture_strategy} needs weights; give each part one")
    return found


def _settled(part: DatasetPart, args: CFTConfig, name: str, where: str) -> DatasetPart:
    objective = part.objective or args.objective
    target = part.sft_target or (args.sft_target if objective == "sft" else None)
    if part.sft_target not in (None, "response") and objective != "sft":
        raise CFTError(f"{where}: sft_target={part.sft_target} with objective={objective}; it belongs to sft")
    if part.weight is not None and not (isinstance(part.weight, int | float) and 0 < part.weight < math.inf):
        raise CFTError(f"{where}: weight={part.weight}: give a number above 0, or leave the part out")
    if isinstance(part.rows, IterableDataset):
        raise CFTError(f"{where}: it is a stream, of which no share can be drawn; give a Dataset")
    if not isinstance(part.rows, Dataset):
        raise CFTError(f"{where}: rows are no Dataset but {type(part.rows).__name__}; give e.g. Dataset.from_list(…)")
    if not len(part.rows):
        raise CFTError(f"{where}: it holds no rows")
    if "input_ids" in part.rows.column_names:
        raise CFTError(f"{where}: its rows are tokens already; give them as text, so that they get its prompt")
    preset = _wording_of(part, objective, args)
    settled = replace(part, objective=objective, sft_target=target, prompt_preset=preset, name=name)
    try:
        settled.prompting  # noqa: B018 - checks the values
    except CFTError as error:
        raise CFTError(f"{where}: {error}") from None
    return settled


def _wording_of(part: DatasetPart, objective: str, args: CFTConfig) -> PresetName | Wording:
    """Verdict words are of all parts; the run's template of those with its objective that name no preset."""
    if isinstance(part.prompt_preset, Wording):
        return part.prompt_preset
    template = args.prompt if part.prompt_preset is None and objective == args.objective else None
    preset = cast("PresetName", part.prompt_preset or args.prompt_preset)
    return make_wording(preset, template, args.verdicts, objective)


def check_main_part(parts: Sequence[DatasetPart], args: CFTConfig) -> None:
    """The run's own objective and prompt, by which it is recorded, evaluated and asked later, must be those of a part.

    Args:
        parts: Of the training rows, settled.
        args: The run's.

    Raises:
        CFTError: No part has them, or a setting is of critiques and there are none.
    """
    objectives = dict.fromkeys(part.prompting.objective for part in parts)
    if args.objective not in objectives:
        raise CFTError(f"objective={args.objective}, by which the run is called and evaluated, is none of its parts' "
                       f"({', '.join(objectives)}); set objective to one of them")  # fmt: skip
    asked = [part.prompting.preset for part in parts if part.objective == args.objective]
    if args.objective != "sft" and args.wording not in asked:
        told = ", ".join(dict.fromkeys(in_line(told_wording(preset)) for preset in asked))
        raise CFTError(
            f"prompt_preset={in_line(told_wording(args.wording))}, in which the model is asked later, is that of no "
            f"part with objective {args.objective} ({told}); set it to one of them"
        )


def take_mixtures(args: CFTConfig, train: Any, evaluated: Any) -> tuple[dict[str, list[DatasetPart]], Any, Any]:
    """Of what a trainer is given as datasets those that are mixtures: "train" and "eval" -> their parts, settled.

    Args:
        args: The run's.
        train, evaluated: Datasets, or lists of parts; `evaluated` may be a mapping of datasets.

    Returns:
        The mixtures, and both datasets for TRL, which looks at a row: of a mixture the rows of its first part.

    Raises:
        CFTError: As `settled_parts` and `check_main_part`; a mixture as one of several evaluation datasets.
    """
    if isinstance(evaluated, Mapping) and any(map(is_mixture, evaluated.values())):
        raise CFTError("eval_dataset has a mixture as one of its datasets; give its parts as one list, each part has a "
                       "loss of its own")  # fmt: skip
    given = {"train": train, "eval": evaluated}
    found = {name: settled_parts(rows, args, name) for name, rows in given.items() if is_mixture(rows)}
    if "train" in found:
        check_main_part(found["train"], args)
    elif args.mixture_strategy != REPEATS_NOTHING:
        raise CFTError(f"mixture_strategy={args.mixture_strategy} belongs to a mixture; give several datasets")
    return found, *(found[name][0].rows if name in found else rows for name, rows in given.items())


def unique_names(names: Sequence[str]) -> list[str]:
    """Names as metrics may have them, none twice.

    Example:
        >>> unique_names(["cft", "sft", "my rows", "cft"])
        ['cft', 'sft', 'my_rows', 'cft-2']
    """
    found: list[str] = []
    for name in (re.sub(r"[^\w.-]+", "_", name) for name in names):
        number = 2
        unique = name
        while unique in found:
            unique, number = f"{name}-{number}", number + 1
        found.append(unique)
    return found


# ---- what is drawn ---------------------------------------------------------------------------------------------------


def rows_to_draw(sizes: Sequence[int], weights: Sequence[float | None], strategy: str = REPEATS_NOTHING) -> list[int]:
    """How many rows of each part an epoch has.

    Args:
        sizes: Rows of each part that can be used.
        weights: Of each part; None, of all, draws all rows.
        strategy: "first_exhausted": as many as there are without any row twice, so that one part is drawn whole.
            "all_exhausted": as many as it takes to draw all parts whole, the others' rows repeated. (The words are
            those of `datasets.interleave_datasets`.)

    Example:
        >>> rows_to_draw([4000, 2000], [0.8, 0.2])
        [4000, 1000]
        >>> rows_to_draw([4000, 500], [0.8, 0.2]), rows_to_draw([4000, 500], [0.8, 0.2], "all_exhausted")
        ([2000, 500], [4000, 1000])
        >>> rows_to_draw([4000, 500], [None, None])
        [4000, 500]
    """
    given = [weight for weight in weights if weight is not None]
    if len(given) < len(sizes):
        return list(sizes)
    choose = min if strategy == REPEATS_NOTHING else max
    whole = choose(size / weight for size, weight in zip(sizes, given, strict=True))
    return [round(weight * whole) for weight in given]


def prepare_rows(
    rows: Any, encoder: RowEncoder, name: str, args: CFTConfig
) -> tuple[Dataset | IterableDataset, dict[str, PreparationReport]]:
    """A dataset by `prepare_dataset`, a mixture by `prepare_mixture`; -> the rows in use, and what became of all.

    Args:
        rows: A dataset, or settled parts.
        encoder: For a dataset's rows; of a mixture its tokenizer and its lengths hold for all parts.
        name: What the reports call the whole.
        args: The run's.
    """
    if is_mixture(rows):
        return prepare_mixture(rows, encoder, name, args)
    report = PreparationReport(name)  # of a stream too each process reads, and counts, all rows
    return prepare_dataset(rows, encoder, report, args.dataset_num_proc), {name: report}


def prepare_mixture(
    parts: Sequence[DatasetPart], encoder: RowEncoder, name: str, args: CFTConfig
) -> tuple[Dataset, dict[str, PreparationReport]]:
    """Tokenises the parts, draws from them, and puts all rows into one order, by the seed.

    Args:
        parts: Settled ones.
        encoder: Whose tokenizer and lengths hold for all parts.
        name: What the reports call the whole.
        args: Whose seed draws the rows and their order; `mixture_strategy`, `dataset_num_proc`.

    Returns:
        The rows, with the columns `input_ids`, `labels` and `verdict_mask`; and `name` -> what became of all rows,
        `name/part` -> of those of a part.

    Raises:
        CFTError: Of a part no row can be used, or none is drawn; or as `prepare_dataset`.
    """
    encoded, reports = [], {}
    for number, part in enumerate(parts):
        called = f"{name}/{part.name}"
        report = reports[called] = PreparationReport(called)
        of_part = replace(encoder, prompting=part.prompting, name=f"{name} dataset, part {part.name}", part=number)
        encoded.append(encode_dataset(part.rows, of_part, report, args.dataset_num_proc))
    sizes = [report.used for report in reports.values()]
    counts = rows_to_draw(sizes, [part.weight for part in parts], args.mixture_strategy)
    drawn = []
    for number, (count, rows, report) in enumerate(zip(counts, encoded, reports.values(), strict=True)):
        if not count:
            raise CFTError(
                f"the {name} dataset, part {parts[number].name}: its weight={parts[number].weight} draws none of its "
                f"{sizes[number]:,} rows; give it more, or the others less"
            )
        drawn.append(_drawn(rows, count, report, np.random.default_rng([args.seed, number])))
    whole = PreparationReport(name)
    for report in reports.values():
        whole.add_report(report)
    return concatenate_datasets(drawn).shuffle(seed=args.seed), {name: whole, **reports}


def _drawn(encoded: Dataset, count: int, report: PreparationReport, rng: np.random.Generator) -> Dataset:
    """So many of the rows that can be used; the report is made anew where that is not each of them once."""
    lengths = encoded.with_format("numpy", columns=["length"])["length"][:]
    used = np.flatnonzero(lengths)
    columns = list(FEATURE_COLUMNS)
    if count == len(used):
        return (encoded if count == len(encoded) else encoded.select(used)).select_columns(columns)
    passes = [rng.permutation(used) for _ in range(math.ceil(count / len(used)))]
    numbers = np.concatenate(passes)[:count]
    account = encoded.select_columns(list(ACCOUNT_FEATURES))
    unused = np.flatnonzero(lengths == 0)
    report.clear()
    for counts in account.select(np.sort(np.concatenate([unused, numbers[: len(used)]]))).iter(batch_size=10_000):
        report.add_columns(counts)
    for counts in account.select(numbers[len(used) :]).iter(batch_size=10_000):
        report.add_repeats(counts)
    if left := len(used) - report.used:
        report.dropped[NOT_DRAWN] += left
    return encoded.select(numbers).select_columns(columns)


# ---- what is told ----------------------------------------------------------------------------------------------------


def evaluated_parts(mixtures: Mapping[str, list[DatasetPart]], given: Any) -> list[DatasetPart]:
    """The parts of what an evaluation is of; none of another dataset than the trainer's.

    Args:
        mixtures: Of `take_mixtures`.
        given: What `evaluate` is given; None for the trainer's own dataset.

    Raises:
        CFTError: A list of parts.
    """
    if is_mixture(given):
        raise CFTError("evaluate takes a dataset; give a mixture to CFTTrainer, as its eval_dataset")
    return mixtures.get("eval", []) if given is None else []


def named(parts: Sequence[DatasetPart] | None) -> list[tuple[str, str]]:
    """(name, objective) of each, for the metrics; [] where there is no mixture."""
    return [(part.name or "", part.objective or "") for part in parts or ()]


def parts_record(parts: Sequence[DatasetPart], reports: Mapping[str, PreparationReport], name: str) -> dict[str, Any]:
    """What a run's record says of its rows: sources and teachers of all, and of each part what it is.

    Args:
        parts: Settled ones.
        reports: Of `prepare_mixture`.
        name: What they call the whole.
    """
    told = []
    total: dict[str, dict[str, int]] = {}
    for part in parts:
        report, found = reports[f"{name}/{part.name}"], provenance(part.rows)
        about = {"name": part.name, "objective": part.objective, "sft_target": part.sft_target,
                 "prompt_preset": told_wording(part.prompt_preset or "paper"), "weight": part.weight}  # fmt: skip
        rows = {"rows": report.used + report.repeats} | ({"repeats": report.repeats} if report.repeats else {})
        told.append({key: value for key, value in about.items() if value is not None} | rows | found)
        for key in ("sources", "teachers"):
            counts = total.setdefault(key, {})
            if key == "teachers" and part.objective == "sft":
                continue  # whose critiques nobody learns from
            for who, count in found.get(key, {}).items():
                counts[who] = counts.get(who, 0) + count
    return {**total, "parts": told}
