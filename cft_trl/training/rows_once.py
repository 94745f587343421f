"""Each row once, whatever the number of processes: streams, and the last batch of an epoch.

Two processes, two rows each, five rows (accelerate deals batches out in turn and fills the last ones up from the
beginning, so that every process has as many):

    process 0   [0 1] [4 0]      without repeats   [0 1] [4 .]       "." a row without loss
    process 1   [2 3] [1 2]                        [2 3] [. .]

A row without loss counts nowhere: transformers divides a step's loss by the tokens that have one, over all processes.

Of a stream accelerate would give each process some of its files, however unequal, and say nothing of what it repeats.
Here every process reads the whole stream and keeps its own batches of it, as of a dataset. So it costs each process
the reading and the tokenising of all rows; a step has the same rows, in the same order, for any number of processes.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from datasets import Dataset, IterableDataset


class WholeStream(torch.utils.data.IterableDataset):
    """A `datasets.IterableDataset` that accelerate deals out row by row, not file by file.

    Args:
        dataset: The prepared rows.
        total: Rows of one batch over all processes.
        endless: Whether pass follows on pass without an end, as for training: a step then has all its rows wherever a
            pass ends in it, and a run that goes on finds its place in any pass. The passes are the dataset's epochs.

    Attributes:
        loader: The dataloader over it; told how many rows the last batch has, so that metrics leave out repeats.
    """

    def __init__(self, dataset: Any, total: int, endless: bool) -> None:
        self.dataset, self.total, self.endless = dataset, total, endless
        self.loader: Any = lambda: None  # a weak reference: the loader holds this dataset

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        passes = 0
        while True:
            if self.endless:
                self.dataset.set_epoch(passes)
            count = 0
            for count, row in enumerate(self.dataset, 1):  # noqa: B007 - read after the loop
                yield row
            if not self.endless or not count:
                break
            passes += 1
        if (loader := self.loader()) is not None:
            loader.remainder = count % self.total


@contextmanager
def all_rows(args: Any, but_for: bool) -> Iterator[None]:
    """Has the dataloaders that are made meanwhile keep their last batch, but for training's.

    transformers lets `dataloader_drop_last` drop rows of an evaluation too: all of them where they are no whole batch,
    so that it evaluates nothing, unsaid.
    """
    before, args.dataloader_drop_last = args.dataloader_drop_last, args.dataloader_drop_last and but_for
    try:
        yield
    finally:
        args.dataloader_drop_last = before


def whole_stream(dataset: Any, total: int, endless: bool) -> Any:
    """A stream as a `WholeStream`, another dataset as it is.

    Args:
        dataset: A prepared dataset.
        total, endless: As for `WholeStream`.
    """
    return WholeStream(dataset, total, endless) if isinstance(dataset, IterableDataset) else dataset


def deal_out(dataset: Any, loader: Any) -> Any:
    """The dataloader over a dataset, which learns from a `WholeStream` what its last batch repeats."""
    if isinstance(dataset, WholeStream):
        dataset.loader = weakref.ref(loader)
    return loader


def without_repeats(batches: Iterator[Any], dataset: Any, args: Any, gradients: Any) -> Iterator[Any]:
    """The training batches of this process; the rows that the last one repeats have no loss.

    Args:
        batches: As the dataloader gives them.
        dataset: The rows, or packs, that are trained.
        args: The `TrainingArguments`.
        gradients: accelerate's `GradientState`, which knows when a batch is the last one.
    """
    size, own = args.train_batch_size, own_rows(dataset, args)
    for batch in batches:
        if gradients.end_of_dataloader:
            if own < size:
                take_loss_off(batch, own)
            # TRL gathers one sum of each process, and accelerate would leave out those beyond the rows that remain.
            gradients.active_dataloader.remainder = 0
        yield batch


def own_rows(dataset: Any, args: Any) -> int:
    """How many rows of an epoch's last batch in this process are not repeated. All of them where nothing is: of an
    endless stream, and where the sampler deals out by itself or drops what is left over."""
    size, loading = args.train_batch_size, args.accelerator_config
    deals = args.train_sampling_strategy == "batch_rebalance" or loading.split_batches or not loading.even_batches
    if deals or args.dataloader_drop_last or not hasattr(dataset, "__len__"):
        return size
    total = size * args.world_size
    if args.world_size == 1:
        return size
    return min(max((len(dataset) % total or total) - size * args.process_index, 0), size)


def told_repeats(dataset: Any, args: Any) -> str | None:
    """A line on the rows of an epoch that are trained twice, where a sampler repeats them out of our reach; or None."""
    if args.world_size == 1 or args.dataloader_drop_last or not hasattr(dataset, "__len__"):
        return None
    size, processes, count = args.train_batch_size, args.world_size, 0
    if args.train_sampling_strategy == "batch_rebalance":
        groups = processes * args.gradient_accumulation_steps
        last = len(dataset) % (size * groups)
        count, why = (groups - last if 0 < last < groups else 0), "train_sampling_strategy=batch_rebalance"
    elif args.accelerator_config.split_batches and args.accelerator_config.even_batches:
        count, why = -len(dataset) % size, "split_batches"
    return (
        f"{count} of {len(dataset):,} rows are trained twice in each epoch, to fill its last batch ({why})"
        if count
        else None
    )


def take_loss_off(batch: Mapping[str, Any], kept: int) -> None:
    """Takes the loss off all rows of a batch but the first `kept`, in place.

    Args:
        batch: `labels`, and where there are any `shift_labels` and `verdict_mask`: (rows, length), or (1, total length)
            with `row_lengths`, (rows,).
        kept: How many of its rows keep theirs.
    """
    lengths = batch.get("row_lengths")
    at = (slice(kept, None),) if lengths is None else (slice(None), slice(int(lengths[:kept].sum()), None))
    for name, without in (("labels", -100), ("shift_labels", -100), ("verdict_mask", 0)):
        if name in batch:
            batch[name][at] = without


def map_kwargs(dataset: Dataset | IterableDataset, args: Any) -> dict[str, Any]:
    """Of a dataset's `map` while rows are packed; a stream's knows neither."""
    if isinstance(dataset, IterableDataset):
        return {}
    return {"num_proc": args.dataset_num_proc, "desc": "Packing"}
