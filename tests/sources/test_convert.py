"""Published layouts into records and back: the same bytes, or a reason."""

from __future__ import annotations

import gzip
import json
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cft_trl.cli import main
from cft_trl.data.records import CFT_INSTRUCTION, COLUMNS, make_record, to_messages, to_webinstruct_cft
from cft_trl.errors import CFTError
from cft_trl.sources.convert import convert, converted

RECORD = make_record(query="6 x 7?", response="43", critique="No, 42.\n\nConclusion: wrong [END]")
PLAIN = to_webinstruct_cft([RECORD])[0]
CHAT = to_messages([RECORD])[0]
SYSTEM = {"role": "system", "content": "Be strict."}

# Published rows typed in other ways than ours, which all say the same.
ODD = {
    "one newline before Solution": {**PLAIN, "input": "Question:\n6 x 7?\nSolution:\n43\n"},
    "no newline at the end": {**PLAIN, "input": PLAIN["input"][:-1]},
    "no Question line": {**PLAIN, "input": "6 x 7?\n\nSolution:\n43\n"},
    "CRLF": {**PLAIN, "input": PLAIN["input"].replace("\n", "\r\n")},
    "no Critique line": {**PLAIN, "output": "No, 42.\n\nConclusion: wrong [END]"},
    "another instruction": {**PLAIN, "instruction": "Is this right?\n"},
    "no instruction": {**PLAIN, "instruction": None},
    "one more column": {**PLAIN, "year": 2024},
    "no critique": {**PLAIN, "output": ""},
}
ODD_CHAT = {
    "a system turn": {"messages": [SYSTEM, *CHAT["messages"]]},
    "another instruction": {
        "messages": [{"role": "user", "content": "Judge.\n\n" + PLAIN["input"]}, CHAT["messages"][1]]
    },
}


def write(path, rows):
    opened = gzip.open if path.name.endswith(".gz") else open
    with opened(path, "wt", encoding="utf-8") as lines:
        lines.writelines(json.dumps(row) + "\n" for row in rows)
    return path


def read(path):
    if path.suffix == ".parquet":
        from pyarrow import parquet

        rows = parquet.read_table(path).to_pylist()
        return [{**row, "meta": json.loads(row["meta"])} if row.get("meta") else row for row in rows]
    opened = gzip.open if path.name.endswith(".gz") else open
    with opened(path, "rt", encoding="utf-8", newline="\n") as lines:
        return [json.loads(line) for line in lines.read().split("\n")[:-1]]


@pytest.mark.parametrize("row", [PLAIN, *ODD.values()], ids=["as ours", *ODD])
def test_published_rows_come_back_as_they_were(row):
    record = converted(row, "row 0", "records")
    assert (record["query"].strip(), record["response"].strip()) == ("6 x 7?", "43")
    assert tuple(record) == COLUMNS
    assert converted(json.loads(json.dumps(record)), "row 0", "webinstruct_cft") == row
    assert ("published" in (record["meta"] or {})) == (row != PLAIN)


@pytest.mark.parametrize("row", [CHAT, *ODD_CHAT.values()], ids=["as ours", *ODD_CHAT])
def test_published_messages_come_back_as_they_were(row):
    record = converted(row, "row 0", "records")
    assert record["critique"] == RECORD["critique"]
    assert converted(record, "row 0", "messages") == row


PIECES = st.lists(
    st.sampled_from(["a", "\n", "\r\n", " ", "Question:\n", "\n\nSolution:\n", "\nSolution:\n", "Critique:\n",
                     "Conclusion: right", "\u2028", "Question: ", "\n\nStudent's Initial Answer: "]),
    min_size=1,
    max_size=8,
).map("".join)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(PIECES, PIECES, st.sampled_from([CFT_INSTRUCTION, "", "Other.\n"]))
def test_whatever_can_be_read_comes_back(text, output, instruction):
    row = {"instruction": instruction, "input": text, "output": output}
    try:
        record = converted(row, "row 0", "records")
    except CFTError:
        return
    if record["refinement"] is None:  # a CGD row has no way back to a layout without refinements
        assert converted(record, "row 0", "webinstruct_cft") == row


@settings(max_examples=300, deadline=None)
@given(PIECES, PIECES, PIECES, st.sampled_from(["right", "wrong", None]))
def test_records_are_published_exactly_or_refused(query, response, critique, verdict):
    try:
        record = make_record(query=query, response=response, critique=critique, verdict=verdict)
    except CFTError:
        return
    for layout in ("webinstruct_cft", "messages"):
        try:
            row = converted(record, "row 0", layout)
        except CFTError:
            continue
        back = converted(row, "row 0", "records")
        for name in ("id", "query", "response", "critique", "verdict"):
            assert back[name] == record[name]


def test_an_edited_record_is_written_anew():
    record = converted(ODD["CRLF"], "row 0", "records")
    edited = {**record, "critique": "Yes.\n\nConclusion: right [END]", "verdict": "right"}
    assert converted(edited, "row 0", "webinstruct_cft")["output"] == "Critique:\nYes.\n\nConclusion: right [END]"
    assert converted(record, "row 0", "messages")["messages"][1]["content"].startswith("Critique:\n")


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".parquet"])
def test_files_of_every_format_there_and_back(tmp_path, suffix):
    rows = [PLAIN, *(row for name, row in ODD.items() if name != "one more column")] * 3
    published = write(tmp_path / "published.jsonl", rows)
    assert convert(published, tmp_path / f"records{suffix}", to="records").written == 27
    records = read(tmp_path / f"records{suffix}")
    assert [tuple(record) for record in records] == [COLUMNS] * 27
    counts = convert(tmp_path / f"records{suffix}", tmp_path / f"back{suffix}", to="webinstruct_cft")
    assert (counts.read, counts.written, counts.failures) == (27, 27, {})
    assert read(tmp_path / f"back{suffix}") == rows
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["published.jsonl", f"records{suffix}", f"back{suffix}"]
    )


def test_rows_that_cannot_be_converted_are_listed(tmp_path, capsys):
    rows = [RECORD, {**RECORD, "critique": None, "verdict": None}, {**RECORD, "query": "a\n\nSolution:\nb"}, RECORD]
    rows.insert(1, {"query": "q", "response": " "})
    source = write(tmp_path / "in.jsonl.gz", rows)
    output = tmp_path / "out.jsonl"
    assert main(["convert", str(source), str(output), "--to", "messages"]) == 3
    assert read(output) == [CHAT, CHAT]
    assert output.read_bytes().count(b"\r") == 0
    failures = read(tmp_path / "out.jsonl.failures.jsonl")
    assert [(line["row"].rpartition(", ")[2], line["reason"]) for line in failures] == [
        ("line 2", "column 'response' is empty; give its text or leave the row out"),
        ("line 3", "it has no critique"),
        ("line 4", r"its query holds the layout's separator '\n\nSolution:\n', so it would be read back cut in two"),
    ]
    said = capsys.readouterr()
    assert said.out == f"{output}: 2 of 5 rows as messages\n"
    assert "1 not converted: it has no critique" in said.err
    assert main(["convert", str(write(tmp_path / "in.jsonl", [RECORD])), str(output), "--to", "messages"]) == 0
    assert not (tmp_path / "out.jsonl.failures.jsonl").exists()  # an earlier run's list would be a lie


def test_the_layout_to_read_can_be_named(tmp_path):
    row = {**CHAT, "query": "other", "response": "texts", "id": "7"}
    assert converted(row, "row 0", "records")["query"] == "other"
    chosen = converted(row, "row 0", "records", "messages")
    assert (chosen["query"], chosen["id"]) == ("6 x 7?", "7")
    with pytest.raises(CFTError, match=r"^row 0: no column 'input', which webinstruct_cft has; found messages, query"):
        converted(row, "row 0", "records", "webinstruct_cft")


@pytest.mark.parametrize(
    ("content", "output", "options", "message"),
    [
        ('{"query": "q", "response": "r"}\n', "o.jsonl", {"to": "messages"}, r"none of its 1 rows can be converted; "),
        ('{"a": 1}\n', "o.jsonl", {"to": "records"}, r"line 1: columns a are of no known layout"),
        ("", "o.jsonl", {"to": "records"}, r"in.jsonl: it holds no rows"),
        ('{"query": "q", "response": "r"}\n{', "o.parquet", {"to": "records"}, r"in.jsonl, line 2: not JSON"),
        ("{}", "o.csv", {"to": "records"}, r"o.csv: cannot tell its format; expected a name ending in .jsonl"),
        ("{}", "in.jsonl", {"to": "records"}, r"the file to read and the one to write are the same"),
        ("{}", "o.jsonl", {"to": "record"}, r"--to 'record': unknown \(did you mean 'records'\?\)"),
        ("{}", "o.jsonl", {"to": "records", "layout": "mesages"}, r"--from 'mesages': unknown \(did you mean"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_leaves_everything_as_it_was(tmp_path, content, output, options, message):
    (tmp_path / "in.jsonl").write_text(content)
    (tmp_path / output).write_text(content if output == "in.jsonl" else "earlier")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(CFTError, match=message) as caught:
        convert(tmp_path / "in.jsonl", tmp_path / output, **options)
    assert "\n" not in str(caught.value)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_output_folder_is_made_and_one_that_cannot_be_is_told(tmp_path):
    source = write(tmp_path / "in.jsonl", [PLAIN])
    assert convert(source, tmp_path / "new" / "folder" / "out.jsonl", to="records").written == 1
    with pytest.raises(CFTError, match=r"out.jsonl: cannot be written \(File exists\)"):
        convert(source, source / "out.jsonl", to="records")


def test_the_real_critiques_there_and_back(tmp_path, shared_data):
    with gzip.open(shared_data / "train" / "critiques_permissive.jsonl.gz", "rt", encoding="utf-8") as lines:
        source = write(tmp_path / "in.jsonl", map(json.loads, islice(lines, 1_000)))
    convert(source, tmp_path / "records.jsonl", to="records")
    counts = convert(tmp_path / "records.jsonl", tmp_path / "published.parquet", to="webinstruct_cft")
    assert counts.written > 500
    assert set(counts.failures) == {"it has no critique"}
    convert(tmp_path / "published.parquet", tmp_path / "back.jsonl", to="records")
    convert(tmp_path / "back.jsonl", tmp_path / "again.parquet", to="webinstruct_cft")
    assert (tmp_path / "again.parquet").read_bytes() == (tmp_path / "published.parquet").read_bytes()
