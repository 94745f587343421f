"""Folders with a card are read by the files that it names, and as the `datasets` library reads them."""

from __future__ import annotations

import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cft_trl.errors import CFTError
from cft_trl.sources.described import described_files
from cft_trl.sources.local import data_identity, load_local, raw_rows


def rows(first: int, count: int) -> list[dict]:
    return [{"query": f"What is {n} + 1?", "response": str(n + 1)} for n in range(first, first + count)]


def write_parquet(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(content), path)


def write_dataset(folder, content, head="configs:\n- {config_name: default, data_files: data/*.parquet}"):
    write_parquet(folder / "data" / "train-0.parquet", content)
    (folder / "README.md").write_text(f"---\n{head}\n---\n# Rows\n")
    return folder


def queries(path, **options):
    return [row["query"] for row in load_local(path, **options)]


@pytest.mark.parametrize("streaming", [False, True])
def test_another_folder_of_the_name_and_a_rebuilt_one_are_read_as_they_are(tmp_path, streaming):
    one, other = (
        write_dataset(tmp_path / "a" / "rows", rows(0, 12)),
        write_dataset(tmp_path / "b" / "rows", rows(50, 20)),
    )
    assert queries(one, streaming=streaming) == [row["query"] for row in rows(0, 12)]
    assert queries(other, streaming=streaming) == [row["query"] for row in rows(50, 20)]
    before = data_identity(other)
    write_dataset(other, rows(7, 8))
    assert queries(other, streaming=streaming) == [row["query"] for row in rows(7, 8)]
    assert data_identity(other) != before
    assert [row["query"] for row, _ in raw_rows(other)] == queries(other)


def test_a_file_of_the_same_size_and_time_is_read_anew(tmp_path):
    path = tmp_path / "rows.jsonl"
    for digit in "12":
        path.write_text(json.dumps({"query": f"What is {digit}?", "response": "r"}))
        os.utime(path, (1_700_000_000, 1_700_000_000))
        assert queries(path) == [f"What is {digit}?"]


CARDS = {
    "a pattern": "configs:\n- {config_name: default, data_files: data/*.parquet}",
    "a list": "configs:\n- config_name: default\n  data_files: [data/train-0.parquet, data/test-0.parquet]",
    "splits": "configs:\n- config_name: default\n  data_files:\n"
    "  - {split: train, path: data/train-*}\n  - {split: test, path: [data/test-0.parquet]}",
    "the one marked default": "configs:\n- {config_name: a, data_files: data/test-0.parquet}\n"
    "- {config_name: b, data_files: data/train-0.parquet, default: true}",
    "the only one": "configs:\n- {config_name: a, data_files: '**/test-0.parquet'}",
    "no files": "configs:\n- {config_name: default}",
    "a folder": "configs:\n- {config_name: default, data_dir: data}",
}


@pytest.mark.parametrize("head", CARDS.values(), ids=CARDS)
@pytest.mark.parametrize("split", ["train", "test"])
def test_a_card_means_what_it_means_to_the_library(tmp_path, monkeypatch, head, split):
    from datasets import load_dataset

    folder = write_dataset(tmp_path / "rows", rows(0, 3), head)
    write_parquet(folder / "data" / "test-0.parquet", rows(9, 2))
    monkeypatch.chdir(tmp_path)
    try:
        theirs = load_dataset(str(folder), split=split, cache_dir=str(tmp_path / "cache"))["query"][:]
    except ValueError:
        with pytest.raises(CFTError, match=f"no (split|files of split) '{split}'"):
            load_local(folder, split=split)
    else:
        assert queries(folder, split=split) == theirs


def test_class_numbers_are_named_by_the_card(tmp_path):
    head = (
        "configs:\n- {config_name: default, data_files: data/*.parquet}\n"
        "dataset_info:\n  features:\n"
        "  - {name: ok, dtype: {class_label: {names: {'0': wrong, '1': right}}}}"
    )
    content = [{**row, "critique": "So.", "ok": at % 2} for at, row in enumerate(rows(0, 2))]
    folder = write_dataset(tmp_path / "rows", content, head)
    assert load_local(folder, columns={"verdict": "ok"})["verdict"][:] == ["wrong", "right"]
    assert [row["ok"] for row, _ in raw_rows(folder)] == ["wrong", "right"]


@pytest.mark.parametrize(
    ("head", "told"),
    [
        ("configs:\n- {config_name: a, data_files: x.parquet}", "names 'x.parquet', and there is no such file"),
        ("configs:\n- {config_name: a, data_files: ../x.parquet}", "does not lie in the folder"),
        ("configs:\n- {config_name: a}\n- {config_name: b}", "it has the configurations a, b; say which"),
        ("configs:\n- {config_name: a, data_files: [{path: 3}]}", "write a pattern, or a list of split and path"),
        ("configs: 3", "configs is no list of mappings"),
        ("configs: [", "front matter cannot be read"),
    ],
)
def test_cards_that_cannot_be_followed(tmp_path, head, told):
    with pytest.raises(CFTError, match=told) as raised:
        load_local(write_dataset(tmp_path / "rows", rows(0, 1), head))
    assert "\n" not in str(raised.value)


def test_names_and_revisions_where_none_belong(tmp_path):
    folder = write_dataset(tmp_path / "rows", rows(0, 1))
    with pytest.raises(CFTError, match="no configuration 'b'; it has default"):
        described_files(folder, "b", "train")
    with pytest.raises(CFTError, match="revision 'main' belongs to a Hub id"):
        load_local(folder, revision="main")
    (folder / "README.md").unlink()
    with pytest.raises(CFTError, match="no configuration 'b': there is no card"):
        load_local(folder, name="b")


@pytest.mark.parametrize("streaming", [False, True])
def test_a_saved_dataset_is_read_as_it_is_and_nothing_is_written_into_it(tmp_path, streaming):
    """Its own fingerprint says by what code it was made, not of what: the same code over other texts has it too."""
    import datasets

    saved = tmp_path / "saved"

    def save(first, names):
        data = datasets.Dataset.from_list([row | {"verdict": 0} for row in rows(first, 5)])
        data = data.cast_column("verdict", datasets.ClassLabel(names=names))
        data._fingerprint = "made by the same code"
        data.save_to_disk(tmp_path / "scratch")
        saved.mkdir(exist_ok=True)
        for path in (tmp_path / "scratch").iterdir():  # written over, file by file
            os.replace(path, saved / path.name)

    save(0, ["wrong", "right"])
    before, files = data_identity(saved), sorted(os.listdir(saved))
    assert queries(saved, streaming=streaming) == [row["query"] for row in rows(0, 5)]
    assert sorted(os.listdir(saved)) == files
    save(50, ["wrong", "right"])
    assert queries(saved, streaming=streaming) == [row["query"] for row in rows(50, 5)]
    second = data_identity(saved)
    assert second != before
    save(50, ["right", "wrong"])
    assert [row["verdict"] for row in load_local(saved, streaming=streaming)] == ["right"] * 5
    assert data_identity(saved) != second


def test_other_names_of_classes_make_other_rows(tmp_path):
    head = (
        "configs:\n- {config_name: default, data_files: data/*.parquet}\n"
        "dataset_info:\n  features:\n  - name: verdict\n    dtype: {class_label: {names: {'0': %s, '1': %s}}}"
    )
    content = [row | {"verdict": 1} for row in rows(0, 3)]
    before = data_identity(write_dataset(tmp_path / "rows", content, head % ("wrong", "right")))
    assert data_identity(write_dataset(tmp_path / "rows", content, head % ("right", "wrong"))) != before
