"""Files, folders and Hub ids read as records, and the one-line errors for what cannot be read."""

import gzip
import json
import os
from pathlib import Path

import datasets
import pytest

from cft_trl.data.records import COLUMNS, features, make_record, to_messages, to_records, to_webinstruct_cft
from cft_trl.errors import CFTError
from cft_trl.sources.local import load_local

ROWS = [
    {"query": "6 x 7?", "response": "43", "critique": "No, 42.", "label": "incorrect", "step": 1, "tags": {"a": 1}},
    {"query": "Größe\u2028von\r\nX?", "response": "5\n", "critique": None, "label": "correct", "step": None},
    {"query": "2 + 2?", "response": "4", "critique": "Fine.\n\nConclusion: right", "label": "correct", "step": "two"},
    {"query": "1, 2, ?", "response": '"3"', "critique": "It goes in circles.", "label": "flawed", "tags": ["b"]},
]
GOOD = '{"query": "q", "response": "r"}\n'
TEXTS = [(row["query"], row["response"]) for row in ROWS]
SHARED = Path(os.environ.get("CFT_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def write_lines(path, rows=ROWS):
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def texts(data):
    return [(row["query"], row["response"]) for row in data]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.ndjson", "a.json", "list.json", "data.json"])
def test_json_files(tmp_path, name, streaming):
    path = tmp_path / name
    if name in ("list.json", "data.json"):
        path.write_text(json.dumps(ROWS if name == "list.json" else {"version": 1, "data": ROWS}, indent=1))
    else:
        write_lines(path)
    data = load_local(path, columns={"verdict": "label"}, append_verdict=True, streaming=streaming)
    assert isinstance(data, datasets.IterableDataset if streaming else datasets.Dataset)
    assert data.features == features()
    rows = list(data)
    assert texts(rows) == TEXTS
    assert [row["verdict"] for row in rows] == ["wrong", "right", "right", None]
    assert [row["critique"] for row in rows] == [
        "No, 42.\n\nConclusion: wrong [END]",
        None,
        "Fine.\n\nConclusion: right",
        "It goes in circles.",
    ]
    assert rows[0]["meta"] == {"step": 1, "tags": {"a": 1}}
    assert rows[2]["meta"] == {"step": "two"}
    assert rows[3]["meta"] == {"tags": ["b"], "label": "flawed"}, "a label that is no verdict is not lost"


def test_a_byte_order_mark_and_a_long_field(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfquery,response\nq," + b"r" * 200_000 + b"\n")
    assert texts(load_local(tmp_path / "a.jsonl")) == [("q", "r")]
    assert texts(load_local(tmp_path / "a.csv")) == [("q", "r" * 200_000)]


def test_csv_and_parquet(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(
        'query,response,critique,label,level\r\n"1, 2, ?","3\r\n","He said ""no"".",0,5\r\n2 + 2?,4,,1,\r\n', newline=""
    )
    first, second = load_local(path, columns={"verdict": "label"})
    assert (first["query"], first["response"], first["critique"]) == ("1, 2, ?", "3\r\n", 'He said "no".')
    assert (first["verdict"], first["meta"]) == ("wrong", {"level": "5"})
    assert (second["critique"], second["verdict"], second["meta"]) == (None, "right", {"level": None})

    records = [make_record(query=q, response=r, critique="c", meta={"n": i}) for i, (q, r) in enumerate(TEXTS)]
    data = datasets.Dataset.from_list(records, features=features())
    for write, expected in [(to_records, records), (to_webinstruct_cft, None), (to_messages, None)]:
        write(data).to_parquet(tmp_path / "a.parquet")
        rows = list(load_local(tmp_path / "a.parquet"))
        assert texts(rows) == TEXTS
        assert [row["critique"] for row in rows] == ["c"] * 4
        assert rows == (expected or rows)


@pytest.mark.parametrize("streaming", [False, True])
def test_class_labels_are_read_by_name_not_by_number(tmp_path, streaming):
    label = datasets.ClassLabel(names=["correct", "incorrect"])
    columns = datasets.Features(query=datasets.Value("string"), response=datasets.Value("string"), label=label)
    rows = {"query": ["a", "b", "c"], "response": ["x", "y", "z"], "label": [0, 1, None]}
    data = datasets.Dataset.from_dict(rows, features=columns)
    data.to_parquet(tmp_path / "a.parquet")
    data.save_to_disk(tmp_path / "saved")
    for path in (tmp_path / "a.parquet", tmp_path / "saved"):
        found = load_local(path, columns={"verdict": "label"}, streaming=streaming)
        assert [row["verdict"] for row in found] == ["right", "wrong", None]
    renamed = data.rename_column("label", "verdict")
    assert to_records(renamed)["verdict"] == ["right", "wrong", None]


def test_a_build_that_was_cut_off_is_told_as_such(tmp_path):
    write_lines(tmp_path / "stages" / "critique.jsonl")
    with pytest.raises(CFTError, match="not come to its end; the same `cft build`"):
        load_local(tmp_path)
    with pytest.raises(CFTError, match="not come to its end"):
        load_local(tmp_path, name="arithmetic")


def test_globs_and_folders_read_the_split_asked_for(tmp_path):
    folder = tmp_path / "rows"
    write_lines(folder / "data" / "train-00000-of-00002.jsonl", ROWS[:1])
    write_lines(folder / "data" / "train-00001-of-00002.jsonl.gz", ROWS[1:2])
    write_lines(folder / "more.jsonl", ROWS[2:3])
    write_lines(folder / "test" / "part.jsonl", ROWS[3:])
    write_lines(folder / ".hidden" / "x.jsonl")
    (folder / "dataset_info.json").write_text("{}")
    assert texts(load_local(folder)) == TEXTS[:3]
    assert texts(load_local(folder, split="test")) == TEXTS[3:]
    assert texts(load_local(f"{folder}/data/*", split="test")) == TEXTS[:2], "a glob is read whole"
    with pytest.raises(CFTError, match=r"no files of split 'dev'; its files are of train, test$"):
        load_local(folder, split="dev")
    write_lines(tmp_path / "other" / "test_suite" / "train_a.jsonl")
    assert texts(load_local(tmp_path / "other")) == TEXTS, "the nearest name counts"
    write_lines(folder / "dsr_cft_p0-00000-of-00001.jsonl", ROWS[:1])
    assert texts(load_local(folder, split="dsr_cft_p0")) == TEXTS[:1]


@pytest.mark.parametrize("streaming", [False, True])
def test_folders_of_the_datasets_library(tmp_path, streaming):
    data = datasets.Dataset.from_list([{"x": q, "response": r, "critique": "c"} for q, r in TEXTS])
    data.save_to_disk(tmp_path / "one")
    datasets.DatasetDict(train=data, test=data.select([0])).save_to_disk(tmp_path / "two")
    options = {"columns": {"query": "x"}, "streaming": streaming}
    assert texts(load_local(tmp_path / "one", **options)) == TEXTS
    assert texts(load_local(tmp_path / "two", split="test", **options)) == TEXTS[:1]
    assert texts(load_local(tmp_path / "two", limit=2, **options)) == TEXTS[:2]
    with pytest.raises(CFTError, match=r"no split 'tset' \(did you mean 'test'\?\); it has train, test"):
        load_local(tmp_path / "two", split="tset", **options)
    datasets.Dataset.from_list([{"query": "", "response": "r"}]).save_to_disk(tmp_path / "broken")
    with pytest.raises(CFTError, match=r"broken, row 0: column 'query' is empty"):
        list(load_local(tmp_path / "broken", streaming=streaming))

    hub = tmp_path / "hub"
    write_lines(hub / "small" / "rows.jsonl", ROWS[:1])
    write_lines(hub / "large" / "rows.jsonl", [{"query": q, "response": r} for q, r in TEXTS])
    (hub / "README.md").write_text(
        "---\nconfigs:\n"
        "- config_name: small\n  data_files: [{split: train, path: small/*}]\n"
        "- config_name: large\n  data_files: [{split: train, path: large/*}]\n---\n"
    )
    assert texts(load_local(hub, name="large", streaming=streaming)) == TEXTS
    assert texts(load_local(hub, name="small", streaming=streaming)) == TEXTS[:1]
    with pytest.raises(CFTError, match="no configuration 'medium'; it has small, large"):
        load_local(hub, name="medium", streaming=streaming)


def test_limit_and_a_changed_file(tmp_path):
    path = write_lines(tmp_path / "a.jsonl")
    assert texts(load_local(path, limit=2)) == texts(load_local(path, limit=2, streaming=True)) == TEXTS[:2]
    assert len(load_local(path, limit=9)) == len(load_local(path)) == 4
    write_lines(path, [*ROWS, {"query": "new", "response": "row"}])
    assert texts(load_local(path))[-1] == ("new", "row"), "no stale cache"
    before = load_local(path, columns={"teacher": "label"})["teacher"]
    assert before == ["incorrect", "correct", "correct", "flawed", None]
    with pytest.raises(CFTError, match="limit=0"):
        load_local(path, limit=0)


def test_mapped_columns_displace_nothing_silently(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", [{"query": "old", "problem": "new", "response": "r", "meta": {"k": 1}}])
    [row] = load_local(path, columns={"query": "problem", "source": "problem"})
    assert (row["query"], row["source"]) == ("new", "new")
    assert row["meta"] == {"k": 1, "query": "old"}
    swapped = load_local(path, columns={"query": "response", "response": "query"}, streaming=True)
    assert texts(swapped) == [("r", "old")]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("name", "content", "options", "message"),
    [
        (
            "a.jsonl",
            '{"query": "q", "response": "r"}\n\n{"query": \n',
            {},
            r"a.jsonl, line 3: not JSON: Expecting value",
        ),
        (
            "a.jsonl",
            '{"query": "q", "response": "r"}\n{"query": "q"}\n',
            {},
            r"a.jsonl, line 2: columns query are of no",
        ),
        ("a.jsonl", '{"query": "q", "response": ""}\n', {}, r"a.jsonl, line 1: column 'response' is empty"),
        ("a.jsonl", "[1]\n", {}, r"a.jsonl, line 1: expected a dict of columns, got list"),
        ("a.jsonl", "\n", {}, r"a.jsonl: it holds no rows"),
        ("a.jsonl", b'{"query": "\xff"}\n', {}, r"a.jsonl, line 1: not UTF-8"),
        ("a.json", '[{"query": "q",\n "response" "r"}]', {}, r"a.json, line 2: not JSON: Expecting ':'"),
        ("a.json", "[]", {}, r"a.json: it holds no rows"),
        ("a.jsonl.gz", "not gzip", {}, r"a.jsonl.gz: cannot be read: Not a gzipped file"),
        ("a.jsonl.gz", gzip.compress(GOOD.encode(), mtime=0)[:-9], {}, r"a.jsonl.gz: cannot be read"),
        ("a.parquet", "not parquet", {}, r"a.parquet: not Parquet"),
        ("a.csv", "query,response\nq,r,s\n", {}, r"a.csv, line 2: expected 2 fields"),
        ("a.csv", "query,response\nq\n", {}, r"a.csv, line 2: expected 2 fields"),
        ("a.xlsx", "x", {}, r"a.xlsx: cannot tell its format; expected a name ending in .jsonl"),
        (
            "a.jsonl",
            '{"query": "q", "response": "r", "label": 1}\n',
            {"columns": {"verdict": "lable"}},
            r"no column 'lable' to read 'verdict' from \(did you mean 'label'\?\); found query, response, label",
        ),
        (
            "a.jsonl",
            '{"query": "q", "response": "r", "label": 7}\n',
            {"columns": {"verdict": "label"}},
            r"a.jsonl, line 1: column 'label': 7 is not a verdict",
        ),
        (
            "a.jsonl",
            '{"query": "q", "response": "r"}\n',
            {"columns": {"verdit": "label"}},
            r"a record has no column 'verdit' \(did you mean 'verdict'\?\)",
        ),
        (
            "a.jsonl",
            '{"query": "q", "response": "r", "critique": "Conclusion: right", "label": 0}\n',
            {"columns": {"verdict": "label"}, "append_verdict": True},
            r"a.jsonl, line 1: the critique concludes 'right' but the verdict given is 'wrong'",
        ),
    ],
)
def test_errors_name_the_file_and_the_line(tmp_path, name, content, options, message, streaming):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(CFTError, match=message) as caught:
        list(load_local(path, streaming=streaming, **options))
    assert "\n" not in str(caught.value)


def test_paths_that_do_not_exist(tmp_path):
    write_lines(tmp_path / "rows.jsonl")
    with pytest.raises(CFTError, match=r"rwos.jsonl: no such file or folder \(did you mean 'rows.jsonl'\?\)"):
        load_local(tmp_path / "rwos.jsonl")
    with pytest.raises(CFTError, match=r"matches no file"):
        load_local(f"{tmp_path}/*.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CFTError, match=r"no file in this folder ends in"):
        load_local(tmp_path / "empty")


def test_a_hub_id_without_the_hub(monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(CFTError, match=r"^nobody/nothing: no such file here, and the Hub did not give it \(") as caught:
        load_local("nobody/nothing")
    assert "\n" not in str(caught.value)


def test_a_hub_id_is_opened_with_its_name_split_and_revision(monkeypatch):
    asked = {}

    def load_dataset(path, name, **options):
        asked.update(options, path=path, name=name)
        rows = datasets.Dataset.from_list(
            [{"instruction": "", "input": "Question:\nq\n\nSolution:\nr\n", "output": "c"}]
        )
        return rows.to_iterable_dataset() if options["streaming"] else rows

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    for streaming in (False, True):
        data = load_local("TIGER-Lab/WebInstruct-CFT", name="4K", split="dev", revision="abc", streaming=streaming)
        assert texts(data) == [("q", "r")]
        assert tuple(next(iter(data))) == COLUMNS
        assert asked == {
            "path": "TIGER-Lab/WebInstruct-CFT",
            "name": "4K",
            "split": "dev",
            "revision": "abc",
            "streaming": streaming,
        }


def test_the_shared_critiques_keep_all_their_rows():
    path = SHARED / "train" / "critiques_permissive.jsonl.gz"
    if not path.is_file():
        pytest.skip("no shared data here")
    data = load_local(path, columns={"verdict": "label"}, append_verdict=True)
    with gzip.open(path, "rt") as lines:
        labels = [json.loads(line)["label"] for line in lines]
    assert data["verdict"] == [{"correct": "right", "incorrect": "wrong"}.get(label) for label in labels]
    assert len(data) > 10_000
    wrong = [
        critique for critique, verdict in zip(data["critique"], data["verdict"], strict=True) if verdict == "wrong"
    ]
    assert all(critique.endswith("\n\nConclusion: wrong [END]") for critique in wrong)
