"""Packs of large datasets, closed from time to time so that memory stays bounded: nothing is lost or overfull."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import numpy as np
import pytest
from datasets import Dataset, load_from_disk

from cft_trl.training.prefix_sharing import packs as sharing
from cft_trl.training.prefix_sharing.packs import pack_tree, share_dataset


def random_rows(count: int, draw: Random) -> list[list[int]]:
    """Token ids, sorted, of rows that share beginnings at two levels."""
    queries = [[draw.randrange(5) for _ in range(draw.randrange(1, 6))] for _ in range(4)]
    rows = []
    for _ in range(count):
        response = [draw.randrange(2) for _ in range(draw.randrange(0, 4))]
        rows.append(draw.choice(queries) + response + [9] * draw.randrange(1, 4))
    return sorted(rows)


def common_with_previous(rows: list[list[int]]) -> list[int]:
    common = [0]
    for before, row in pairwise(rows):
        shorter = min(len(before), len(row))
        common.append(next((i for i in range(shorter) if before[i] != row[i]), shorter))
    return common


def tree_tokens(rows: list[list[int]]) -> int:
    return sum(len(row) - shared for row, shared in zip(rows, common_with_previous(rows), strict=True))


@pytest.mark.parametrize("window", [1, 3, 7, 1000])
@pytest.mark.parametrize("seed", range(5))
def test_windows_lose_no_row_and_overfill_no_pack(monkeypatch, window, seed):
    monkeypatch.setattr(sharing, "_WINDOW", window)
    rows = random_rows(40, Random(seed))
    packs = pack_tree([len(row) for row in rows], common_with_previous(rows), 20)
    assert sorted(i for pack in packs for i in pack) == list(range(len(rows)))
    assert all(tree_tokens(sorted(rows[i] for i in pack)) <= 20 for pack in packs)


def test_a_window_costs_little(monkeypatch):
    rows = random_rows(400, Random(0))
    whole = len(pack_tree([len(row) for row in rows], common_with_previous(rows), 50))
    monkeypatch.setattr(sharing, "_WINDOW", 100)
    assert len(pack_tree([len(row) for row in rows], common_with_previous(rows), 50)) <= whole + 4


def test_hashes_are_written_in_blocks_of_any_size(monkeypatch):
    draw = Random(1)
    rows = [{"input_ids": ids, "labels": [-100] * (len(ids) - 1) + [1]} for ids in random_rows(30, draw)]
    draw.shuffle(rows)
    reports = []
    for batch in (1000, 30, 7, 1):
        monkeypatch.setattr(sharing, "_BATCH", batch)
        packs, report = share_dataset(Dataset.from_list(rows), 40)
        reports.append((report.packs, report.shared_tokens))
        assert sum(np.asarray(packs["labels"][i]).size for i in range(len(packs))) == report.shared_tokens
    assert len(set(reports)) == 1


def test_packs_of_rows_on_disk_are_on_disk_and_made_once(tmp_path, monkeypatch):
    """`Dataset.map` keeps its result in memory where it does not come from a file."""
    rows = [{"input_ids": [1, 2, 3, i], "labels": [-100, -100, -100, i]} for i in range(10)]
    Dataset.from_list(rows).save_to_disk(str(tmp_path))
    first, _ = share_dataset(load_from_disk(str(tmp_path)).shuffle(seed=0), 20)
    assert first.cache_files
    monkeypatch.setattr(sharing, "lay_out", None)  # not called again: a second process finds the first one's packs
    second, _ = share_dataset(load_from_disk(str(tmp_path)).shuffle(seed=0), 20)
    assert second["input_ids"][:] == first["input_ids"][:]
