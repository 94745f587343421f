"""Datasets to token ids: every row encoded (`preparation.py`), those in use kept, all of them counted.

prepare_dataset(rows, RowEncoder(tokenizer, Prompting()), report)
# Dataset with input_ids, labels, verdict_mask; report: rows 3,230: kept 3,102, shortened 120, dropped 8 (…)
"""

from __future__ import annotations

from datasets import Dataset, IterableDataset

from cft_trl.data.records import class_names
from cft_trl.errors import CFTError
from cft_trl.training.encoded import ACCOUNT_FEATURES, FEATURES, TOKEN_FEATURES
from cft_trl.training.lengths import PreparationReport
from cft_trl.training.preparation import FEATURE_COLUMNS, RowEncoder


def prepare_dataset(
    dataset: Dataset | IterableDataset, encoder: RowEncoder, report: PreparationReport, num_proc: int | None = None
) -> Dataset | IterableDataset:
    """Tokenises a dataset of any published layout in one pass; what became of each row is added to `report`.

    A `Dataset` is counted now. An `IterableDataset` is counted as its rows go by, in every process that reads them; the
    counts are those of its longest pass.

    Args:
        dataset: Rows.
        encoder: Makes tokens of them.
        report: Filled with what became of them.
        num_proc: Processes that share the work; None is this one.

    Returns:
        The rows in use, with the columns `input_ids`, `labels` and `verdict_mask`.

    Raises:
        CFTError: the dataset is empty, of an unknown layout, or none of its rows can be used.
    """
    if isinstance(dataset, IterableDataset):
        return _prepare_stream(dataset.with_format(None), encoder, report)
    prepared = encode_dataset(dataset, encoder, report, num_proc)
    if report.dropped:
        prepared = prepared.filter(_has_tokens, input_columns="length", num_proc=num_proc, desc="Leaving out rows")
    return prepared.select_columns(list(FEATURE_COLUMNS))


def encode_dataset(
    dataset: Dataset, encoder: RowEncoder, report: PreparationReport, num_proc: int | None = None
) -> Dataset:
    """As `prepare_dataset`, with all rows, those that are not used as well, and with the columns they are counted by.

    Args:
        dataset, encoder, report, num_proc: As for `prepare_dataset`.

    Returns:
        One row for each, with the columns in `cft_trl.training.encoded.FEATURES`; `length` is 0 of those not used.

    Raises:
        CFTError: As `prepare_dataset`.
    """
    dataset = dataset.with_format(None)  # as tensors, ids and labels could not be written into the report
    if len(dataset) == 0:
        raise CFTError(f"the {report.name} dataset is empty; give at least one row")
    encoded = dataset.map(
        encoder.map_batch,
        batched=True,
        with_indices=True,
        fn_kwargs={"labels": class_names(dataset)},
        num_proc=num_proc,
        remove_columns=dataset.column_names,
        features=FEATURES,
        desc=f"Tokenizing {report.name} dataset",
    )
    for counts in encoded.select_columns(list(ACCOUNT_FEATURES)).iter(batch_size=10_000):
        report.add_columns(counts)
    if not report.used:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in report.dropped.most_common())
        raise CFTError(
            f"no row of the {report.name} dataset can be used for objective {encoder.prompting.objective}: {reasons}"
        )
    return encoded


def _prepare_stream(dataset: IterableDataset, encoder: RowEncoder, report: PreparationReport) -> IterableDataset:
    columns, labels = dataset.column_names, class_names(dataset)
    if columns is None:
        columns = list(next(iter(dataset), {}))

    this_pass = PreparationReport(report.name)

    def encode_and_count(batch, indices):
        made = encoder(encoder.read_batch(batch, indices, labels), indices)
        if indices[0] == 0:  # a new pass, or a look at the first row: the same rows are not counted twice
            this_pass.clear()
        this_pass.add_columns(made)
        if this_pass.rows >= report.rows:
            report.take_over(this_pass.to_dict())
        used = [i for i, length in enumerate(made["length"]) if length]
        return {name: [made[name][i] for i in used] for name in FEATURE_COLUMNS}

    return dataset.map(
        encode_and_count,
        batched=True,
        batch_size=100,
        with_indices=True,
        remove_columns=columns,
        features=TOKEN_FEATURES,
    )


def _has_tokens(length: int) -> bool:
    return length > 0
