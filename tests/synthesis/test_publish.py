"""The publish stage: what is written is what `load_dataset` gives back, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import re
import statistics as reference
import subprocess
import sys
from collections import Counter
from pathlib import Path

import datasets
import pytest
import yaml
from pyarrow import parquet

from cft_trl.data import records
from cft_trl.data.records import features, make_record, to_records
from cft_trl.data.stage_files import RowFile, StageReport, read_report, stage_path
from cft_trl.errors import CFTError
from cft_trl.hub.upload import published_files
from cft_trl.sources.local import load_local
from cft_trl.synthesis import publish
from cft_trl.synthesis.publish import PublishSettings, run_publish
from cft_trl.synthesis.statistics import Lengths

TEXTS = ("query", "response", "critique", "verdict")


def make_rows(count: int = 20) -> list[dict]:
    """Rows of two sources and two teachers, with ragged `meta`; every fifth no published layout can hold."""
    rows = []
    for at in range(count):
        verdict = "right" if at % 2 else "wrong"
        critique = f"Line {at}: \u2028 is no line end.\n\nConclusion: {verdict} [END]"
        if at % 5 == 0:
            critique = f"I cannot say ({at})."
        rows.append(
            make_record(
                id=f"row-{at}",
                query=f"What is {at} x 7?",
                response=f"It is {at * 7 + at % 2}.",
                critique=critique,
                verdict=verdict,
                source="numbers" if at < count * 3 // 4 else "other",
                teacher="org/teacher" if at % 2 else "reference",
                meta=None if at == 1 else {"completion_tokens": at, "list": [at, None, {"deep": "ü"}]},
            )
        )
    return rows


def publish_rows(folder, rows, reports=(), recipe=None, **settings):
    return run_publish(
        rows, PublishSettings(**settings), folder, recipe=recipe or {"source": {"corpus": "x"}}, reports=list(reports)
    )


def load(folder, config=None):
    return datasets.load_dataset(str(folder), config, split="train", cache_dir=str(Path(folder).parent / "cache"))


def contents(folder) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file() and "stages" not in path.parts
    }


def test_a_record_is_published_without_being_read_again(tmp_path, monkeypatch):
    rows = make_rows()
    monkeypatch.setattr(records, "_build", lambda *_: pytest.fail("a record was read as a row of unknown layout"))
    report = publish_rows(tmp_path / "out", rows)
    assert report.details["configs"]["webinstruct_cft"] == report.details["configs"]["messages"] == 16


def test_every_configuration_gives_its_rows_back(tmp_path):
    rows, folder = make_rows(), tmp_path / "out"
    report = publish_rows(folder, rows, rows_per_shard=4, row_group_size=3)
    expected = {
        "numbers__reference": [row for row in rows[:15] if row["teacher"] == "reference"],
        "numbers__org-teacher": [row for row in rows[:15] if row["teacher"] != "reference"],
        "other__reference": [row for row in rows[15:] if row["teacher"] == "reference"],
        "other__org-teacher": [row for row in rows[15:] if row["teacher"] != "reference"],
    }
    for config, wanted in expected.items():
        data = load(folder, config)
        assert all(feature == datasets.Value("string") for feature in data.features.values())
        assert to_records(data).to_list() == wanted
    for data in (to_records(load(folder)), load_local(folder)):
        assert sorted(data.to_list(), key=lambda row: int(row["id"][4:])) == rows
    assert load_local(folder, name="other__reference").to_list() == expected["other__reference"]
    publishable = [row for at, row in enumerate(rows) if at % 5]
    for layout, columns in (("webinstruct_cft", ["instruction", "input", "output"]), ("messages", ["messages"])):
        data = load(folder, layout)
        assert data.column_names == columns
        assert [[row[name] for name in TEXTS] for row in to_records(data)] == [
            [row[name] for name in TEXTS] for row in publishable
        ]
    assert report.details["configs"] == {
        **{config: len(wanted) for config, wanted in expected.items()},
        "webinstruct_cft": 16,
        "messages": 16,
    }


def test_rows_that_a_layout_cannot_hold_are_counted_with_the_reason(tmp_path):
    report = publish_rows(tmp_path, make_rows(10))
    wrong, right = (f"its verdict is '{name}' but its critique states None (see with_verdict_line)" for name in
                    ("wrong", "right"))  # fmt: skip
    assert report.details["left_out"] == {layout: {wrong: 1, right: 1} for layout in ("webinstruct_cft", "messages")}
    assert (report.read, report.written, report.failures) == (10, 10, Counter())
    assert wrong in (tmp_path / "README.md").read_text()
    assert vars(read_report(tmp_path, "publish")) == vars(report)


def test_shards_and_row_groups_are_of_the_size_asked_for(tmp_path):
    publish_rows(tmp_path, make_rows(23), layouts=["records"], rows_per_shard=5, row_group_size=2)
    files = sorted((tmp_path / "data" / "numbers__reference").iterdir())
    assert [path.name for path in files] == ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"]
    for path in files:
        about = parquet.read_metadata(path)
        sizes = [about.row_group(at).num_rows for at in range(about.num_row_groups)]
        assert sizes == [2] * (about.num_rows // 2) + [1] * (about.num_rows % 2)
        assert about.row_group(0).column(0).has_offset_index  # what the viewer jumps by
        assert not about.metadata  # neither of `datasets` nor of Arrow, which others would have to understand
        meta = about.schema.column(about.schema.names.index("meta"))
        assert (meta.physical_type, str(meta.logical_type)) == ("BYTE_ARRAY", "String")
    assert sum(parquet.read_metadata(path).num_rows for path in files) == 9


def test_the_same_rows_give_the_same_files(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        publish_rows(tmp_path / name / "out", make_rows())
    assert contents(tmp_path / "a" / "out") == contents(tmp_path / "b" / "out")


@pytest.mark.parametrize("meta", [datasets.Json(), {"completion_tokens": datasets.Value("int64")}])
def test_rows_published_before_meta_was_text_are_read_as_ever(tmp_path, meta):
    rows = [{**row, "meta": {"completion_tokens": at}} for at, row in enumerate(make_rows(4))]
    old = datasets.Features({**features(), "meta": meta})
    (tmp_path / "data").mkdir()
    datasets.Dataset.from_list(rows, features=old).to_parquet(tmp_path / "data" / "train-00000-of-00001.parquet")
    assert load_local(tmp_path).to_list() == rows


def test_meta_that_is_text_takes_what_a_mapping_displaces(tmp_path):
    publish_rows(tmp_path / "out", make_rows(4), layouts=["records"])
    rows = {row["id"]: row for row in load_local(tmp_path / "out", columns={"source": "teacher"}).to_list()}
    own = {"completion_tokens": 3, "list": [3, None, {"deep": "ü"}]}
    assert rows["row-3"]["meta"] == {**own, "source": "other"}
    assert rows["row-1"]["meta"] == {"source": "numbers"}


def test_an_earlier_publication_is_replaced_whole(tmp_path):
    publish_rows(tmp_path, make_rows(40), rows_per_shard=2)
    (tmp_path / "failures.jsonl").write_text("{}\n")
    before = set(contents(tmp_path))
    publish_rows(tmp_path, make_rows(8)[:3], layouts=("records",))
    after = contents(tmp_path)
    assert len(before) > 20
    assert sorted(name for name in after if name.startswith("data/")) == [
        "data/numbers__org-teacher/train-00000-of-00001.parquet",
        "data/numbers__reference/train-00000-of-00001.parquet",
    ]
    assert "failures.jsonl" in after  # the build's, not ours to delete
    assert len(load(tmp_path)) == 3


def broken_rows():
    yield from make_rows(10)
    raise RuntimeError("cut off here")


@pytest.mark.parametrize("failing", ["rows", "none", "disk"])
def test_what_was_published_stays_when_a_new_run_fails(tmp_path, monkeypatch, failing):
    publish_rows(tmp_path, make_rows(12))
    before = contents(tmp_path)
    if failing == "rows":
        with pytest.raises(RuntimeError, match="cut off here"):
            publish_rows(tmp_path, broken_rows())
    elif failing == "none":
        with pytest.raises(CFTError, match="no rows are left to publish"):
            publish_rows(tmp_path, [])
    else:

        def full(*_, **__):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(parquet.ParquetWriter, "write_table", full)
        with pytest.raises(CFTError, match=r"cannot be written \(No space left on device\); make room"):
            publish_rows(tmp_path, make_rows(3))
    assert contents(tmp_path) == before
    assert not stage_path(tmp_path, "publish", kind="report").exists()  # so the build runs the stage again


def test_a_folder_that_was_being_replaced_is_not_taken_for_whole(tmp_path, monkeypatch):
    publish_rows(tmp_path, make_rows(12))
    replace = os.replace

    def killed(source, target):
        if Path(target) == tmp_path / "recipe.yaml":
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(publish.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        publish_rows(tmp_path, make_rows(3))
    monkeypatch.undo()
    with pytest.raises(CFTError, match=r"no README.md here, so nothing whole was published"):
        published_files(tmp_path)
    publish_rows(tmp_path, make_rows(3))
    assert len(load(tmp_path)) == 3
    assert published_files(tmp_path)


def test_the_card_says_what_is_there(tmp_path, monkeypatch):
    teachers = {"org/teacher": {"answers": 9, "truncated": 1, "prompt_tokens": 812, "completion_tokens": 455}}
    teachers["org/teacher"]["cost in US dollars"] = 0.0123
    reports = [
        StageReport("critique", 12, 10, Counter({"context length": 2}), {"teachers": teachers}),
        StageReport("filter", 10, 8, Counter({"a|b <script>": 2}), {"removed": {"length": 2, "share": 0.25}}),
    ]
    recipe = {"source": {"corpus": "x"}, "note": "a fence\n```\nin here"}
    publish_rows(tmp_path, make_rows(20), reports, recipe, licence="cc-by-4.0", tags=["math"], name="My rows")
    text = (tmp_path / "README.md").read_text()
    front = yaml.safe_load(text.split("---\n")[1])
    assert (front["license"], front["pretty_name"], front["size_categories"]) == ("cc-by-4.0", "My rows", ["n<1K"])
    assert {"math", "cft-trl"} <= set(front["tags"])
    assert [config["config_name"] for config in front["configs"] if config.get("default")] == ["default"]
    for path in (tmp_path / "data").rglob("*.parquet"):
        assert hashlib.sha256(path.read_bytes()).hexdigest() in text
    assert "| teachers | answers | truncated | prompt_tokens | completion_tokens | cost in US dollars |\n" in text
    assert "| org/teacher | 9 | 1 | 812 | 455 | 0.0123 |\n" in text
    assert "| critique | 12 | 10 | context length: 2 |" in text
    assert "| filter | 10 | 8 | a\\|b &lt;script>: 2 |" in text
    assert "| removed, share | 0.25 |" in text
    assert "````yaml\nsource:\n  corpus: x\n" in text
    assert yaml.safe_load((tmp_path / "recipe.yaml").read_text()) == recipe
    assert "generated by `org/teacher` and not read by people" in text
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", text):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")
    monkeypatch.chdir(tmp_path.parent)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path.parent / "cache")
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
    scope: dict = {}
    exec(code, scope)
    assert len(scope["rows"]) == 20


def test_an_unknown_licence_is_called_unknown(tmp_path):
    publish_rows(tmp_path, make_rows(4))
    text = (tmp_path / "README.md").read_text()
    assert yaml.safe_load(text.split("---\n")[1])["license"] == "unknown"
    assert "- Licence: not stated." in text


def test_statistics_are_exact(tmp_path):
    rows = make_rows(20)
    publish_rows(tmp_path, rows)
    numbers = json.loads((tmp_path / "statistics.json").read_text())
    lengths = sorted(len(row["critique"]) for row in rows)
    found = numbers["characters"]["critique"]
    assert (found["rows"], found["min"], found["max"]) == (20, lengths[0], lengths[-1])
    assert (found["median"], found["p90"]) == (lengths[9], lengths[17])
    assert found["mean"] == round(reference.mean(lengths), 1)
    assert numbers["verdicts"] == {"right": 10, "wrong": 10, "none": 0}
    group = numbers["configs"]["numbers__reference"]
    assert group["completion_tokens"] == sum(at for at in range(0, 15, 2))
    assert "completion_tokens" not in numbers["configs"]["numbers__org-teacher"]  # row 1 has none


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99, 1.0])
def test_percentiles_are_those_of_the_sorted_list(share):
    lengths, values = Lengths(), [30, 3, 9, 1, 4, 100, 4, 5, 7, 2]
    for value in values:
        lengths.add("x" * value)
    at = -(-round(share * 1000) * len(values) // 1000) - 1
    assert lengths.percentile(share) == sorted(values)[max(at, 0)]


def test_names_that_would_fall_together_are_told_apart(tmp_path):
    rows = [make_record(query="q", response=f"r{at}", source="s", teacher=name) for at, name in enumerate(
        ["a/b", "a-b", "A-B", None, "../../x"])]  # fmt: skip
    report = publish_rows(tmp_path, rows)
    assert list(report.details["configs"]) == ["s__a-b", "s__a-b-2", "s__A-B-3", "s__no-teacher", "s__x"]
    assert load(tmp_path, "s__a-b-2")["teacher"] == ["a-b"]
    assert {path.name for path in (tmp_path / "data").iterdir()} == set(report.details["configs"])


def test_too_many_sources_are_a_mistake(tmp_path):
    rows = [make_record(query="q", response="r", source=f"s{at}") for at in range(101)]
    with pytest.raises(CFTError, match="more than 100 pairs of source and teacher"):
        publish_rows(tmp_path, rows)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"layouts": ["record"]},
            r"publish.layouts\[0\]='record': unknown \(did you mean 'records'\?\); give records, web",
        ),
        ({"layouts": ["messages"]}, "publish.layouts: 'records' is missing"),
        ({"layouts": 5}, "publish.layouts=5: give a list, each records, webinstruct_cft or messages"),
        ({"rows_per_shard": 0}, "publish.rows_per_shard=0: give a whole number"),
        ({"row_group_size": True}, "publish.row_group_size=True: give a whole number"),
        ({"licence": "Apache 2"}, "publish.licence='Apache 2': give an id of the Hub's, such as mit, apache-2.0 or"),
        ({"language": "English"}, "publish.language='English': give an id of the Hub's, such as en"),
        ({"repo": "no slash"}, "publish.repo 'no slash': give ORG/NAME"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(CFTError, match=message):
        PublishSettings(**settings)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows(tmp_path):
    code = """
import resource, sys
from cft_trl.synthesis.publish import PublishSettings, run_publish
from cft_trl.data.stage_files import RowFile
run_publish(RowFile(sys.argv[1]), PublishSettings(), sys.argv[2], recipe={}, reports=[])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""
    peaks = []
    for count in (2_000, 60_000):
        path = tmp_path / f"{count}.jsonl"
        with open(path, "w") as lines:
            for at in range(count):
                row = make_rows(2)[1] | {"id": str(at), "response": f"{at} " * 200}
                lines.write(json.dumps(row) + "\n")
        assert len(RowFile(path)) == count
        run = [sys.executable, "-c", code, str(path), str(tmp_path / f"out-{count}")]
        peaks.append(int(subprocess.run(run, check=True, capture_output=True, text=True).stdout))
    assert peaks[1] < peaks[0] + 40, peaks  # all rows of the second are 60 MB of text
