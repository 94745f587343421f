"""Packs of prefix trees: rows that begin alike share their beginning.

Seven critiques of one response, P prompt tokens and C critique tokens each, are 7(P + C) tokens as rows and
P + 7(C + 1) as a tree, since each branch repeats the prompt's last token, whose prediction is the branch's own:

    {"input_ids": [q, q, r, r, r, c, c, r, c, c, c], "labels": [., ., ., ., ., c, c, ., c, c, c],
     "seen_until": [11, 11, 11, 11, 7, 7, 7, 11, ...]}                     (see `attention.py`)

Only prompts are shared. Critiques that begin alike stay apart, because a shared token has one loss and they have two.

The rows are sorted so that those that begin alike are neighbours, the tree over them is read off the neighbours' common
prefixes, and packs are filled from its leaves upward: what hangs on one node stays together as far as it fits. Tokens
and hashes stay on disk; what is held of a row is some tens of bytes (`benchmarks/large_dataset.py`).
"""

from __future__ import annotations

import tempfile
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow.compute as pc
from datasets import Dataset, Features, List, Value

from cft_trl.data.records import reading_digest

# Rows are compared by hashes of so many first tokens. Beginnings that differ between two depths are told apart at the
# next one only, so that up to the difference may be shared less than could be.
_DEPTHS = (*range(16, 128, 16), *range(128, 512, 64), *range(512, 2048, 256), 2048, 4096, 8192, 16384)
_BATCH = 1000
_PACKS = 100  # written at a time: a thousand, as `datasets` does, are 250 MB of packs of 2,048 tokens
_WINDOW = 100_000  # rows after which packs are closed: bounds memory, and costs a pack or two
_PACK_FEATURES = Features(
    {
        "input_ids": List(Value("int32")),
        "labels": List(Value("int32")),
        "verdict_mask": List(Value("int8")),
        "seen_until": List(Value("int32")),
    }
)
_FROM = 1.05  # tokens saved, as a ratio, from which sharing is worth saying


@dataclass
class SharingReport:
    """What sharing saved: `tokens` of the rows one by one, `shared_tokens` of the packs."""

    name: str
    rows: int
    packs: int
    tokens: int
    shared_tokens: int

    @property
    def ratio(self) -> float:
        return self.tokens / self.shared_tokens

    @property
    def pays(self) -> bool:
        return self.ratio >= _FROM

    def __str__(self) -> str:
        text = f"{self.name}: tokens {self.tokens:,} -> {self.shared_tokens:,}, {self.ratio:.2f}x"
        return text if self.pays else f"{text}; the rows begin too differently to share anything"


def share_dataset(
    dataset: Dataset, pack_length: int, name: str = "train", num_proc: int | None = None
) -> tuple[Dataset, SharingReport]:
    """Packs prepared rows as prefix trees.

    Args:
        dataset: rows with `input_ids`, `labels` and, if there is one, `verdict_mask`.
        pack_length: most tokens of a pack. A row that is longer has a pack of its own.
        name: what the report calls the rows.
        num_proc: processes that write the packs.

    Returns:
        The packs, with the columns `input_ids`, `labels`, `verdict_mask` and `seen_until`, and the report.
    """
    columns = [column for column in ("input_ids", "labels", "verdict_mask") if column in dataset.column_names]
    rows = dataset.select_columns(columns)
    lengths, shareable, order = _sort(rows)
    common = _common_prefixes(rows, order, shareable)
    packs = pack_tree(lengths[order], common, pack_length)
    # A pack's number is all that the function is given, but `map` writes to disk only what comes from there.
    shared = rows.select(range(len(packs))).map(
        _Layout(rows, order, packs),
        with_indices=True,
        input_columns=[],
        batched=True,
        batch_size=_PACKS,
        writer_batch_size=_PACKS,
        num_proc=num_proc,
        remove_columns=columns,
        features=_PACK_FEATURES,
        desc=f"Sharing prefixes of {name} dataset",
    )
    arrow = shared.select_columns("input_ids").with_format("arrow")
    size = sum(pc.sum(pc.list_value_length(batch["input_ids"])).as_py() for batch in arrow.iter(_BATCH))
    return shared, SharingReport(name, len(rows), len(packs), int(lengths.sum()), size)


def shareable_tokens(labels: Sequence[int]) -> int:
    """How many of a row's first tokens may be shared: those before the prompt's last.

    Example:
        >>> shareable_tokens([-100, -100, -100, 7, 8]), shareable_tokens([7, 8])
        (2, 0)
    """
    first = next((i for i, label in enumerate(labels) if label != -100), len(labels))
    return max(first - 1, 0)


def _sort(rows: Dataset) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lengths, shareable lengths, and an order in which rows that begin alike are neighbours."""
    weights = np.random.default_rng(0).integers(1, 2**63, size=max(_DEPTHS), dtype=np.uint64) * np.uint64(2)
    weights += np.uint64(1)
    lengths, shareable = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64)
    with tempfile.TemporaryFile() as file:  # mapped, because it is more than all the rest together
        hashes = np.memmap(file, np.uint64, "w+", shape=(len(_DEPTHS) + 1, len(rows)))
    block = np.zeros((_BATCH, len(_DEPTHS) + 1), np.uint64)
    for i, (ids, labels) in enumerate(_arrays(rows, ("input_ids", "labels"))):
        lengths[i] = len(ids)
        targets = labels != -100
        first = int(targets.argmax()) if targets.any() else len(labels)
        shareable[i] = n = max(first - 1, 0)
        part = ids[: min(n, max(_DEPTHS))].astype(np.uint64) + np.uint64(1)
        sums = np.concatenate([np.zeros(1, np.uint64), (part * weights[: len(part)]).cumsum(dtype=np.uint64)])
        block[i % _BATCH] = [*(sums[min(depth, len(part))] for depth in _DEPTHS), n]
        if (i + 1) % _BATCH == 0 or i + 1 == len(rows):
            begin = i - i % _BATCH
            hashes[:, begin : i + 1] = block[: i + 1 - begin].T
    return lengths, shareable, np.lexsort(hashes[::-1])


def _arrays(rows: Dataset, columns: Sequence[str], order: np.ndarray | None = None) -> Iterator[tuple[np.ndarray, ...]]:
    """Rows as integer arrays, read some at a time."""
    table = rows.select_columns(list(columns)).with_format("arrow")
    for begin in range(0, len(rows), _BATCH):
        end = min(begin + _BATCH, len(rows))
        batch = table[begin:end] if order is None else table[order[begin:end].tolist()]
        flat = []
        for name in columns:
            column = batch[name].combine_chunks()
            offsets = column.offsets.to_numpy()
            flat.append(np.split(column.values.to_numpy()[: offsets[-1]], offsets[1:-1]))
        yield from zip(*flat, strict=True)


def _common_prefixes(rows: Dataset, order: np.ndarray, shareable: np.ndarray) -> np.ndarray:
    """For each row in `order`, how many shareable tokens it has in common with the one before (0 for the first)."""
    common, before = np.zeros(len(order), np.int64), np.zeros(0, np.int32)
    for at, (i, (ids,)) in enumerate(zip(order, _arrays(rows, ("input_ids",), order), strict=True)):
        ids = ids[: shareable[i]]
        common[at] = common_prefix(before, ids)
        before = ids
    return common


def common_prefix(first: np.ndarray, second: np.ndarray) -> int:
    """Number of leading tokens the two have in common."""
    shorter = min(len(first), len(second))
    differ = first[:shorter] != second[:shorter]
    return int(differ.argmax()) if differ.any() else shorter


# ---- which rows go into which pack -----------------------------------------------------------------------------------


def pack_tree(
    lengths: Sequence[int] | np.ndarray, common: Sequence[int] | np.ndarray, capacity: int
) -> list[list[int]]:
    """Divides rows into packs of at most `capacity` tokens, each shared token counted once a pack.

    Args:
        lengths: tokens of each row.
        common: tokens each row shares with the one before it.
        capacity: tokens of a pack; a longer row has one of its own.

    Returns:
        For each pack the indices of its rows.

    Example:
        >>> pack_tree([10, 10, 10, 4], [0, 8, 8, 0], 16)
        [[0, 1, 2], [3]]
    """
    # A node is (depth in tokens, items); an item is (tokens below the node's depth, rows).
    nodes: list[tuple[int, list]] = [(0, [])]
    packs: list[list[int]] = []

    def close(node: tuple[int, list], parent_depth: int) -> list:
        depth, items = node
        return [(size + depth - parent_depth, rows) for size, rows in best_fit(items, capacity - depth)]

    def empty() -> None:
        for parent, node in reversed(list(pairwise(nodes))):
            parent[1].extend(close(node, parent[0]))
            node[1].clear()
        packs.extend(rows for _, rows in best_fit(nodes[0][1], capacity))
        nodes[0][1].clear()

    for i in range(len(lengths)):
        length, shared = int(lengths[i]), int(common[i])
        while nodes[-1][0] > shared:
            node = nodes.pop()
            if nodes[-1][0] < shared:
                nodes.append((shared, []))
            nodes[-1][1].extend(close(node, nodes[-1][0]))
        if i % _WINDOW == _WINDOW - 1:
            empty()
        depth = max(shared, int(common[i + 1]) if i + 1 < len(common) else 0)
        if nodes[-1][0] < depth:
            nodes.append((depth, []))
        nodes[-1][1].append((length - depth, [i]))
    empty()
    return packs


def best_fit(items: Iterable[tuple[int, list[int]]], capacity: int) -> list[tuple[int, list[int]]]:
    """Best-fit decreasing: each item goes where it leaves the least room; one larger than `capacity` stays alone.

    Example:
        >>> best_fit([(3, [0]), (6, [1]), (4, [2])], 10)
        [(10, [1, 2]), (3, [0])]
    """
    bins: list[tuple[int, list[int]]] = []
    by_room: dict[int, list[int]] = {}
    rooms: list[int] = []  # the keys of `by_room`, ascending
    for size, rows in sorted(items, key=lambda item: -item[0]):
        at = bisect_left(rooms, size)
        if at < len(rooms):
            room = rooms[at]
            number = by_room[room].pop()
            if not by_room[room]:
                del by_room[room], rooms[at]
            bins[number] = bins[number][0] + size, bins[number][1] + rows
            left = room - size
        else:
            bins.append((size, rows))
            number, left = len(bins) - 1, capacity - size
        if left > 0:
            if left not in by_room:
                insort(rooms, left)
            by_room.setdefault(left, []).append(number)
    return bins


# ---- writing packs ---------------------------------------------------------------------------------------------------


def lay_out(rows: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """One pack: the rows' exact prefix tree, depth first.

    Args:
        rows: `input_ids`, `labels` and optionally `verdict_mask`, integer sequences of one length each.

    Returns:
        `input_ids`, `labels`, `verdict_mask`, `seen_until`: integer arrays of the pack's length.

    Example:
        >>> rows = [{"input_ids": [1, 2, 3, 9], "labels": [-100, -100, -100, 9]},
        ...         {"input_ids": [1, 2, 3, 7, 8], "labels": [-100, -100, -100, 7, 8]}]
        >>> pack = lay_out(rows)
        >>> pack["input_ids"].tolist(), pack["seen_until"].tolist()
        ([1, 2, 3, 9, 3, 7, 8], [7, 7, 4, 4, 7, 7, 7])
    """
    whole = [{name: np.asarray(values) for name, values in row.items()} for row in rows]
    cuts = [shareable_tokens(row["labels"]) for row in rows]
    order = sorted(range(len(rows)), key=lambda i: tuple(rows[i]["input_ids"][: cuts[i]]))
    ids: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    verdicts: list[np.ndarray] = []
    until = np.zeros(sum(len(row["input_ids"]) for row in whole), np.int64)
    path: list[int] = []  # where in the pack the tokens of the open prefix are
    before = np.zeros(0, np.int64)
    size = 0
    for i in order:
        row, cut = whole[i], cuts[i]
        prefix = row["input_ids"][:cut]
        shared = common_prefix(before, prefix)
        until[path[shared:]] = size
        path[shared:] = range(size, size + cut - shared)
        new = slice(shared, None)
        leaf = row["labels"][new].copy()
        leaf[: cut - shared + 1] = -100  # the first token of a branch is the prompt's
        ids.append(row["input_ids"][new])
        labels.append(leaf)
        verdicts.append(row.get("verdict_mask", np.zeros(len(row["labels"]), np.int8))[new])
        begin, size = size + cut - shared, size + len(leaf)
        until[begin:size] = size
        before = prefix
    until[path] = size
    return {
        "input_ids": np.concatenate(ids),
        "labels": np.concatenate(labels),
        "verdict_mask": np.concatenate(verdicts),
        "seen_until": until[:size],
    }


class _Layout:
    """Writes packs by their numbers, for `Dataset.map`."""

    def __init__(self, rows: Dataset, order: np.ndarray, packs: list[list[int]]) -> None:
        self.rows = rows
        self.numbers = order[np.concatenate([np.asarray(pack) for pack in packs])]  # of the rows, pack after pack
        self.ends = np.cumsum([len(pack) for pack in packs])
        self.code = reading_digest(__file__)  # `datasets` caches by the pickled function, which holds no code of ours

    def __call__(self, indices: list[int]) -> dict[str, list[np.ndarray]]:
        parts = [slice(self.ends[i - 1] if i else 0, self.ends[i]) for i in indices]
        packs = [lay_out(_rows(self.rows[self.numbers[part].tolist()])) for part in parts]
        return {name: [pack[name] for pack in packs] for name in _PACK_FEATURES}


def _rows(columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
