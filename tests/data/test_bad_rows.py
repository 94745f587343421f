"""Files and rows that are not what they should be: read rightly, or refused in one line that says where and what."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cft_trl.cli import main
from cft_trl.data.files import read_files
from cft_trl.data.records import to_record, to_records
from cft_trl.data.stage_files import StageReport
from cft_trl.errors import CFTError
from cft_trl.sources.corpus import SourceSettings
from cft_trl.synthesis.build import write_failures
from cft_trl.synthesis.publish import PublishSettings, run_publish
from cft_trl.synthesis.recipe import read_recipe, to_recipe

DIGITS = "1" + "0" * 5000
DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
@pytest.mark.parametrize(
    ("value", "said"), [(DIGITS, "a whole number of more than 4,300 digits"), (DEEP, "nested too deeply")]
)
def test_json_that_python_cannot_read_is_one_line(tmp_path, capsys, suffix, value, said):
    path = tmp_path / f"rows{suffix}"
    row = f'{{"query": "q", "response": "y", "year": {value}}}'
    path.write_text(row if suffix == ".jsonl" else f"[{row}]")
    with pytest.raises(CFTError, match=said) as caught:
        list(read_files([str(path)]))
    assert "\n" not in str(caught.value)
    assert main(["convert", str(path), str(tmp_path / "out.jsonl"), "--to", "records"]) == 2
    assert said in capsys.readouterr().err


def test_meta_of_a_thousand_levels_is_one_line():
    deep = inner = {}
    for _ in range(2000):
        inner["a"] = inner = {}
    with pytest.raises(CFTError, match="row 0: column 'meta' is nested too deeply"):
        to_record({"query": "q", "response": "y", "extra": deep})


@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
def test_half_a_surrogate_pair_in_a_column_s_name(tmp_path, suffix):
    path = tmp_path / f"rows{suffix}"
    row = '{"query": "q", "response": "y", "\\ud83d": 1}'
    path.write_text(row if suffix == ".jsonl" else f"[{row}]")
    with pytest.raises(CFTError, match="holds half a surrogate pair in its name"):
        list(read_files([str(path)]))
    record = to_record({"query": "q", "response": "y", "meta": {"a": {"\ud83d": 1}}})
    assert record["meta"] == {"a": {"\ufffd": 1}}


@pytest.mark.parametrize("metadata", [b"{broken", b"[]", b"\xff\xfe", b'{"info": {"features": [1]}}', b'{"info": 3}'])
def test_parquet_with_broken_metadata(tmp_path, metadata):
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"query": ["q"]}).replace_schema_metadata({b"huggingface": metadata}), path)
    with pytest.raises(CFTError, match="its 'huggingface' metadata cannot be read"):
        list(read_files([str(path)]))


def test_a_class_that_is_none(tmp_path):
    described = {"info": {"features": {"verdict": {"_type": "ClassLabel", "names": ["wrong", "right"]}}}}
    table = pa.table({"query": ["q"], "verdict": [7]})
    path = tmp_path / "rows.parquet"
    pq.write_table(table.replace_schema_metadata({b"huggingface": json.dumps(described).encode()}), path)
    with pytest.raises(CFTError, match=r"row 0: column 'verdict' holds 7, which is none of its classes"):
        list(read_files([str(path)]))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"source": {"corpus": "gsm8k", "limit": {"a": 1}}}, "source.limit: expected a whole number of rows"),
        ({"source": {"corpus": "gsm8k"}, "critique": {"max_tokens": {"a": 1}}}, "critique.max_tokens: expected"),
        ({"source": {"corpus": "gsm8k"}, "filter": {"right_ratio": {"a": 1}}}, "filter.right_ratio: expected"),
    ],
)
def test_a_mapping_where_a_number_belongs(content, said):
    with pytest.raises(CFTError, match=said):
        to_recipe({"name": "m", **content})


def test_a_recipe_that_yaml_cannot_read(tmp_path):
    path = tmp_path / "recipe.yaml"
    for value in (DIGITS, "[" * 5000):
        path.write_text(
            f"name: m\nsource: {{corpus: gsm8k, limit: {value}}}\n" if value == DIGITS else f"name: {value}"
        )
        with pytest.raises(CFTError, match="is not YAML"):
            read_recipe(path)


# ---- values of frames ------------------------------------------------------------------------------------------------


def test_nan_is_no_text(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"query": "q", "response": "y", "reference_answer": NaN}\n')
    [(row, _)] = read_files([str(path)])
    assert row["reference_answer"] is None
    rows = [{"query": "q", "response": "y", "reference_answer": gold} for gold in (float("nan"), np.nan, "14", 14)]
    assert [record["reference_answer"] for record in to_records(rows)] == [None, None, "14", "14"]
    for column in ("query", "response"):
        with pytest.raises(CFTError, match=f"row 0: column '{column}' is empty"):
            to_records([{"query": "q", "response": "y", column: float("nan")}])


def test_numpy_s_numbers_are_numbers():
    record = to_record({"id": np.int64(3), "query": "q", "response": "y", "verdict": np.int64(1), "level": np.int32(2)})
    assert (record["id"], record["verdict"], record["meta"]) == ("3", "right", {"level": 2})
    assert to_record({"query": "q", "response": "y", "reference_answer": np.float64(0.5)})["reference_answer"] == "0.5"


@pytest.mark.parametrize("style", ["torch", "numpy"])
def test_a_dataset_with_a_format_is_prepared_as_one_without(style):
    from conftest import make_tokenizer
    from datasets import Dataset

    from cft_trl.data.prompts import Prompting
    from cft_trl.training.lengths import PreparationReport
    from cft_trl.training.preparation import RowEncoder
    from cft_trl.training.prepare import prepare_dataset

    row = {"id": 7, "query": "What is 6 x 7?", "response": "43", "critique": "No, 42.\n\nConclusion: wrong [END]"}
    rows = Dataset.from_list([row, row | {"id": 8}])
    made = []
    for data in (rows, rows.with_format(style)):
        report = PreparationReport("train")
        encoder = RowEncoder(make_tokenizer("chatml"), Prompting("cft"), 2048, "drop", "train dataset")
        made.append((list(prepare_dataset(data, encoder, report)), json.dumps(vars(report), default=list)))
        assert to_records(data)[0]["id"] == "7"
    assert made[0] == made[1]


# ---- other layouts ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "query", "response"),
    [
        ({"instruction": "Add.", "input": "2 + 2", "output": "4"}, "Add.\n\n2 + 2", "4"),
        ({"instruction": "What is 2 + 2?", "input": "", "output": "4"}, "What is 2 + 2?", "4"),
        ({"instruction": "What is 2 + 2?", "output": "4"}, "What is 2 + 2?", "4"),
        ({"conversations": [{"from": "human", "value": "2 + 2?"}, {"from": "gpt", "value": "4"}]}, "2 + 2?", "4"),
    ],
)
def test_questions_with_answers_of_other_trainers_are_read(row, query, response):
    record = to_record(row)
    assert (record["query"], record["response"], record["critique"]) == (query, response, None)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        # A torn critique is none of these: it stays an error.
        ({"instruction": "Please critique", "input": "2 + 2?", "output": "Critique:\nNo."}, "no 'Solution:' line"),
        (
            {"instruction": "Judge.", "input": "2 + 2?", "output": "No.\n\nConclusion: wrong [END]"},
            "no 'Solution:' line",
        ),
        ({"messages": [{"role": "user", "content": "2?"}, {"role": "assistant", "content": "2"}]}, "columns query and"),
        (
            {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}] * 2},
            "user, assistant, user",
        ),
    ],
)
def test_what_could_be_misread_is_refused_with_what_would_be_right(row, said):
    with pytest.raises(CFTError, match=said):
        to_record(row)


def test_own_questions_need_no_response_where_models_are_asked():
    asked = {"name": "m", "source": {"path": "q.jsonl"}, "respond": {"answers": "models", "models": ["m"]}}
    assert to_recipe(asked).source.without_response == "keep"
    assert to_recipe({"name": "m", "source": {"path": "q.jsonl"}}).source.without_response == "fail"
    asked["source"]["without_response"] = "fail"
    assert to_recipe(asked).source.without_response == "fail"
    assert SourceSettings("gsm8k").without_response is None


def test_own_questions_under_another_name_are_told_how_to_name_it(tmp_path, capsys):
    (tmp_path / "q.jsonl").write_text('{"question": "What is 6 x 7?"}\n')
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        f"name: m\nsource: {{path: {tmp_path}/q.jsonl}}\nrespond: {{answers: models, models: ['openai:m']}}\n"
    )
    assert main(["build", str(recipe), "--output", str(tmp_path / "out"), "--teacher", "reference"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "line 1: no column 'query' with the question; found question; name it, as in source.columns" in said


# ---- what is published -----------------------------------------------------------------------------------------------


def test_a_published_folder_tells_no_folder_of_this_machine(tmp_path):
    rows = [to_record({"query": "q", "response": "y", "critique": "Conclusion: right [END]", "source": "s"})]
    recipe = f"name: m\nsource:\n  path: {tmp_path}/rows.jsonl\nrespond:\n  models: ['vllm:{tmp_path}/models/mine']\n"
    (tmp_path / "out" / "stages").mkdir(parents=True)
    failure = {
        "id": "a",
        "row": "a",
        "stage": "source",
        "reason": "unreadable row",
        "detail": f"{tmp_path}/r.jsonl, line 3",
    }
    (tmp_path / "out" / "stages" / "source.failures.jsonl").write_text(json.dumps(failure) + "\n")
    stage = StageReport("source", 3, 2, Counter({f"unreadable row in {tmp_path}/r.jsonl": 1}))
    stage.details = {"path": f"{tmp_path}/rows.jsonl", "of": {f"{tmp_path}/models/mine": {"from": f"{tmp_path}/a/b"}}}
    run_publish(rows, PublishSettings(), tmp_path / "out", recipe=recipe, reports=[stage])
    write_failures(tmp_path / "out")
    published = [tmp_path / "out" / name for name in ("README.md", "recipe.yaml", "statistics.json", "failures.jsonl")]
    assert not [path.name for path in published if str(tmp_path) in path.read_text()]
    assert "path: rows.jsonl" in published[1].read_text()
    assert "vllm:mine" in published[1].read_text()
    assert json.loads(published[3].read_text())["detail"] == "r.jsonl, line 3"
