r"""Records: every published layout read, the two that we publish written, and nothing lost on the way.

The row that most tests use holds what breaks careless code: LaTeX, accents, Windows newlines, spaces at the ends.
"""

import subprocess
import sys

import datasets
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cft_trl.data.records import (
    CFT_INSTRUCTION,
    COLUMNS,
    features,
    make_record,
    to_messages,
    to_record,
    to_records,
    to_webinstruct_cft,
    unpublishable,
)
from cft_trl.errors import CFTError

X = " Löse $\\frac{x}{2} = 3$ für $x$.\r\nZeile 2: 数学 "
Y = "Step 1: $x = 3 \\cdot 2$\n\n\tso \\boxed{5}\r\n  "
C = "  $3 \\cdot 2 = 6$, nicht 5.\r\n\n\nConclusion: wrong [END]"
Z = "$x = \\boxed{6}$ "

INPUT = f"Question:\n{X}\n\nSolution:\n{Y}\n"
OUTPUT = f"Critique:\n{C}"
CGD_INPUT = f"Question: {X}\n\nStudent's Initial Answer: {Y}\n\nCritique: {C}"


def turns(user, assistant):
    return [{"role": "user", "content": user}], [{"role": "assistant", "content": assistant}]


def conversation(user, assistant):
    return [message for turn in turns(user, assistant) for message in turn]


USER = CFT_INSTRUCTION + "\n" + INPUT
LAYOUT_ROWS = {
    "webinstruct": {"instruction": CFT_INSTRUCTION, "input": INPUT, "output": OUTPUT},
    "webinstruct without instruction": {"input": INPUT, "output": OUTPUT},
    "messages": {"messages": conversation(USER, OUTPUT)},
    "prompt/completion": {"prompt": USER, "completion": OUTPUT},
    "prompt/completion without instruction": {"prompt": INPUT, "completion": OUTPUT},
    "conversational": dict(zip(("prompt", "completion"), turns(USER, OUTPUT), strict=True)),
    "cgd": {"instruction": "Refine.", "input": CGD_INPUT, "output": Z},
    "plain": {"query": X, "response": Y, "critique": C},
}


def as_list(rows):
    return to_records(rows)


def as_dataset(rows):
    return list(to_records(datasets.Dataset.from_list(rows)))


def as_stream(rows):
    return list(to_records(datasets.Dataset.from_list(rows).to_iterable_dataset()))


def as_stream_of_unknown_columns(rows):
    def give():
        yield from rows

    return list(to_records(datasets.IterableDataset.from_generator(give)))


@pytest.mark.parametrize("read", [as_list, as_dataset, as_stream, as_stream_of_unknown_columns])
@pytest.mark.parametrize("layout", LAYOUT_ROWS)
def test_every_layout_gives_the_same_texts(layout, read):
    [record] = read([LAYOUT_ROWS[layout]])
    assert tuple(record) == COLUMNS
    assert (record["query"], record["response"], record["critique"]) == (X, Y, C)
    assert record["verdict"] == "wrong"
    assert record["refinement"] == (Z if layout == "cgd" else None)
    assert record["meta"] == ({"instruction": "Refine."} if layout == "cgd" else None)
    assert record["id"] == make_record(query=X, response=Y, critique=C)["id"]


def test_the_published_texts_byte_for_byte():
    row = {"query": "6 x 7?", "response": "43", "critique": "No.\n\nConclusion: wrong [END]"}
    question = "Question:\n6 x 7?\n\nSolution:\n43\n"
    critique = "Critique:\nNo.\n\nConclusion: wrong [END]"
    instruction = "Please critique whether the following solution to the question is correct.\n\n"
    assert to_webinstruct_cft([row]) == [{"instruction": instruction, "input": question, "output": critique}]
    user = f"Please critique whether the following solution to the question is correct.\n\n\n{question}"
    assert to_messages([row]) == [{"messages": conversation(user, critique)}]


def test_one_newline_before_solution_and_windows_newlines():
    one = to_record({"input": "Question:\na\nb\nSolution:\nc\nSolution:\nd\n", "output": OUTPUT})
    assert (one["query"], one["response"]) == ("a\nb", "c\nSolution:\nd")
    two = to_record({"input": "Question:\na\nSolution:\nb\n\nSolution:\nc\n", "output": OUTPUT})
    assert (two["query"], two["response"]) == ("a\nSolution:\nb", "c"), "the usual separator comes first"
    crlf = to_record({"input": "Question:\r\na\r\n\r\nSolution:\r\nb\r\n\r\n", "output": "Critique:\r\nc"})
    assert (crlf["query"], crlf["response"], crlf["critique"]) == ("a", "b\r\n", "c")


def test_headers_are_taken_off_only_where_they_stand():
    row = to_record({"prompt": "a\n\nSolution:\nb\nQuestion:\nc\n", "completion": "d"})
    assert (row["query"], row["response"], row["critique"]) == ("a", "b\nQuestion:\nc", "d")
    row = to_record({"input": "\nQuestion:\na\n\nSolution:\nb\n\n", "output": "\nCritique:\nd"})
    assert (row["query"], row["response"], row["critique"]) == ("\nQuestion:\na", "b\n", "\nCritique:\nd")


def test_a_foreign_instruction_and_a_system_turn_are_kept():
    user, assistant = turns(f"Judge this.\n{INPUT}", OUTPUT)
    row = {"messages": [{"role": "system", "content": "Be strict."}, *user, *assistant], "level": 3}
    record = to_record(row)
    assert (record["query"], record["response"]) == (X, Y)
    assert record["meta"] == {"instruction": "Judge this.\n", "system": "Be strict.", "level": 3}


def test_plain_rows_keep_what_they_know_and_put_the_rest_into_meta():
    row = {"id": 7, "query": "q", "response": "r", "critique": "", "verdict": "Correct", "reference_answer": 42}
    record = to_record({**row, "teacher": "gpt-4o", "level": [1, {"a": None}], "meta": {"k": 1.5}})
    assert (record["id"], record["reference_answer"], record["verdict"]) == ("7", "42", "right")
    assert record["critique"] is None
    assert record["teacher"] == "gpt-4o"
    assert record["meta"] == {"k": 1.5, "level": [1, {"a": None}]}
    assert to_record(record) == record
    assert to_record({"query": "q", "response": "r", "meta": '{"a": 1}', "b": 2})["meta"] == {"a": 1, "b": 2}
    assert to_record({"query": "q", "response": "r", "meta": {"b": 1}, "b": 2})["meta"] == {"meta": {"b": 1}, "b": 2}


def test_a_verdict_column_comes_before_the_critique_s_own_words():
    row = {"query": "q", "response": "r", "critique": "Conclusion: wrong"}
    assert to_record({**row, "verdict": True})["verdict"] == "right"
    assert to_record({**row, "verdict": None})["verdict"] == "wrong"
    assert to_record({"input": INPUT, "output": "Critique:\nHm.", "verdict": 0})["verdict"] == "wrong"


def test_ids_are_stable_and_differ():
    ids = [make_record(query="q", response="r", critique=c)["id"] for c in (None, "", "c", "d")]
    ids.append(make_record(query="qr", response="r")["id"])
    assert ids == ["f069e89cd3e31a48", *ids[1:]], "an id is part of published data: it never changes"
    assert ids[0] == ids[1]
    assert len(set(ids)) == 4
    assert make_record(id="mine", query="q", response="r")["id"] == "mine"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"question": "q", "answer": "a"}], r"columns question, answer are of no known layout; .*input, output"),
        ([{"query": "q", "response": "r"}, {"query": "q", "response": ""}], r"row 1: column 'response' is empty"),
        ([{"query": None, "response": "r"}], r"row 0: column 'query' is empty"),
        ([{"query": 5, "response": "r"}], r"row 0: column 'query' is int, not text"),
        ([{"query": "q", "response": "r", "critique": 5}], r"column 'critique' is int, not text"),
        ([{"query": "q", "response": "r"}, {"query": "q"}], r"row 1: columns query are of no known layout"),
        ([{"query": "q", "response": "r", "verdict": "maybe"}], r"row 0: column 'verdict': 'maybe' is not a verdict"),
        ([{"query": "q\ud83d", "response": "r"}], r"'query' holds half a surrogate pair"),
        ([{"input": "Give three tips.", "output": "x", "instruction": ""}], r"'input' has no 'Solution:' line"),
        ([{"input": None, "output": "x"}], r"'input' is NoneType, not text"),
        ([{"input": "Question:\n\n\nSolution:\ny\n", "output": "x"}], r"'input' has an empty question"),
        ([{"input": "Question:\nx\n\nSolution:\n", "output": "x"}], r"'input' has an empty solution"),
        ([{"input": "Question: x\n\nStudent's Initial Answer: y", "output": "z"}], r"no 'Critique: ' paragraph"),
        (
            [{"prompt": "What is 6 x 7?", "completion": "42"}],
            r"'prompt' has no 'Solution:' line, so it is not critique",
        ),
        ([{"prompt": INPUT, "completion": ["x"]}], r"'completion' is list, not text"),
        ([{"prompt": [{"role": "user", "content": "Hi"}], "completion": turns("", "x")[1]}], r"no 'Solution:' line"),
        ([{"messages": turns(USER, OUTPUT)[0]}], r"'messages' holds user; expected one user and one assistant turn"),
        ([{"messages": "hello"}], r"'messages' holds str"),
        (["text"], r"row 0: expected a dict of columns, got str"),
        ("rows.jsonl", r"got str; for files use load_local"),
        ({"query": ["q"]}, r"got dict"),
    ],
)
def test_errors_name_the_row_the_column_and_what_would_be_right(rows, message):
    with pytest.raises(CFTError, match=message) as caught:
        to_records(rows)
    assert "\n" not in str(caught.value)


def test_errors_are_the_same_for_datasets():
    with pytest.raises(CFTError, match="row 1: column 'prompt' has no 'Solution:' line"):
        to_records(
            datasets.Dataset.from_list([{"prompt": INPUT, "completion": "c"}, {"prompt": "x", "completion": "c"}])
        )
    with pytest.raises(CFTError, match="of no known layout"):
        to_records(datasets.Dataset.from_list([{"a": "x"}]))
    stream = to_records(
        datasets.Dataset.from_list([{"query": "q", "response": "r"}] * 2 + [{"query": "q"}]).to_iterable_dataset()
    )
    with pytest.raises(CFTError, match="row 2: column 'response' is empty"):
        list(stream)
    with pytest.raises(CFTError, match="no column 'qeury'"):
        make_record(qeury="q", response="r")


def test_kinds_are_kept():
    rows = [LAYOUT_ROWS["webinstruct"]] * 3
    data = datasets.Dataset.from_list(rows)
    for convert in (to_records, to_webinstruct_cft, to_messages):
        assert isinstance(convert(iter(rows)), list)
        assert isinstance(convert(data), datasets.Dataset)
        assert isinstance(convert(data.to_iterable_dataset()), datasets.IterableDataset)
        split = convert(datasets.DatasetDict(train=data, test=data.select([0])))
        assert isinstance(split, datasets.DatasetDict)
        assert {name: len(part) for name, part in split.items()} == {"train": 3, "test": 1}
        stream = convert(datasets.IterableDatasetDict(train=data.to_iterable_dataset()))
        assert isinstance(stream, datasets.IterableDatasetDict)
        assert list(stream["train"]) == list(convert(data))
    assert to_records(data).features == features()
    assert to_records(data.select([])).features == features()
    assert to_records([]) == []


def test_a_stream_whose_later_rows_bring_columns_keeps_them_in_meta():
    rows = [{"query": "q", "response": "r"}, {"query": "q", "response": "r", "level": 3}]
    first, second = as_stream_of_unknown_columns(rows)
    assert tuple(second) == COLUMNS
    assert (first["meta"], second["meta"]) == (None, {"level": 3})


def test_records_survive_parquet_with_ragged_meta(tmp_path):
    metas = [None, {}, {"a": 1}, {"a": "text", "b": [1, {"c": None}], "d": "1"}, {"é": {"n": 1.5}}]
    records = [make_record(query=X, response=Y, critique=C, meta=meta) for meta in metas]
    data = datasets.Dataset.from_list(records, features=features())
    assert list(data) == records
    data.to_parquet(tmp_path / "rows.parquet")
    again = datasets.Dataset.from_parquet(str(tmp_path / "rows.parquet"), cache_dir=str(tmp_path))
    assert again.features == features()
    assert list(again) == records
    stream = datasets.load_dataset("parquet", data_files=str(tmp_path / "rows.parquet"), split="train", streaming=True)
    assert list(stream) == records
    assert list(to_records(stream)) == records
    assert (
        list(datasets.Dataset.from_generator(records.__iter__, features=features(), cache_dir=str(tmp_path))) == records
    )


def test_meta_that_json_cannot_hold_becomes_text_or_null():
    record = to_record({"query": "q", "response": "r", "at": {1: float("nan"), "when": (2, {3}), "cut": "\ud83d"}})
    assert record["meta"] == {"at": {"1": None, "when": [2, [3]], "cut": "\ufffd"}}
    assert list(datasets.Dataset.from_list([record], features=features())) == [record]


MARKERS = [
    "\n\nSolution:\n",
    "\nSolution:\n",
    "Question:\n",
    "Question: ",
    "Critique:\n",
    "Critique:\r\n",
    "\n",
    "\r\n",
]
MARKERS += [
    "\r\n\r\nSolution:\r\n",
    "\n\nStudent's Initial Answer: ",
    "\n\nCritique: ",
    "Conclusion: right [END]",
    " ",
    "x",
]
MARKERS += ["Conclusion: wrong", CFT_INSTRUCTION, "Solution:", "\r", "é$\\frac{1}{2}$", "\u2028"]
TEXT = st.lists(st.sampled_from(MARKERS) | st.text(max_size=3), min_size=1, max_size=6).map("".join)


@settings(max_examples=400, deadline=None)
@given(TEXT, TEXT, TEXT, st.sampled_from([None, "right", "wrong"]))
@example("a\n\nSolution:\nb", "c", "d", None)
@example("a\n\nSolution:", "\nb", "d", None)
@example("a\r\n\r\nSolution:\r\nb", "c\n", "Critique:\nd", None)
@example("Question:\na\n", "\n\nSolution:\nb\n\n", "Conclusion: right", None)
@example("a\nSolution:\nb", "Solution:\nc\r", "Critique:\r\nd", None)
@example("\r\na", "b", "\n", None)
def test_what_is_written_is_read_back_exactly_or_refused(query, response, critique, verdict):
    try:
        record = make_record(query=query, response=response, critique=critique, verdict=verdict)
    except CFTError:
        assert (
            not query.strip()
            or not response.strip()
            or any("\ud800" <= c <= "\udfff" for c in query + response + critique)
        )
        return
    for write in (to_webinstruct_cft, to_messages):
        if unpublishable(record):
            with pytest.raises(CFTError, match=r"^row 0 \(id \w+\) cannot be published: it"):
                write([record])
            continue
        rows = write([record])
        assert to_records(rows) == [record]
        if write is to_messages:
            prompt, completion = rows[0]["messages"]
            assert to_records([{"prompt": prompt["content"], "completion": completion["content"]}]) == [record]
    assert unpublishable(record) is None or "separator" not in unpublishable(record) or "Solution:" in query


def test_only_rows_that_would_be_misread_are_refused():
    good = {"query": "a\nSolution:\nb", "response": "c\n\nSolution:\nd\n\n", "critique": "Critique:\nConclusion: right"}
    assert unpublishable(to_record(good)) is None
    for field, value, reason in [
        ("query", "a\n\nSolution:\nb", "its query holds the layout's separator"),
        ("query", "a\n\nSolution:\n\n\nSolution:\n", "its query holds the layout's separator"),
        ("critique", None, "it has no critique"),
        ("critique", " \n", "it has no critique"),
        ("verdict", "wrong", "its verdict is 'wrong' but its critique states 'right'"),
    ]:
        row = {"query": "q", "response": "r", "critique": "c"}
        with pytest.raises(CFTError, match=f"^row 1 .* cannot be published: {reason}"):
            to_messages([row, {**good, field: value}])


def test_data_sets_round_trip_in_the_published_layouts(tmp_path):
    records = [make_record(query=X + str(i), response=Y, critique=C) for i in range(3)]
    data = datasets.Dataset.from_list(records, features=features())
    for write in (to_webinstruct_cft, to_messages):
        published = write(data)
        published.to_parquet(tmp_path / "rows.parquet")
        again = datasets.Dataset.from_parquet(str(tmp_path / "rows.parquet"), cache_dir=str(tmp_path))
        assert list(again) == list(published) == write(records) == list(write(data.to_iterable_dataset()))
        assert list(to_records(again)) == records
    assert to_webinstruct_cft(data).column_names == ["instruction", "input", "output"]
    assert to_messages(data).column_names == ["messages"]


def test_records_of_lists_need_no_heavy_import():
    code = (
        "import sys; from cft_trl.data.records import to_records; import cft_trl.sources.local;"
        "to_records([{'query': 'q', 'response': 'r'}]);"
        "print([m for m in ('torch', 'datasets', 'transformers', 'pyarrow') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
