"""A row on its way into the loss is read once, and its verdict parsed once; what is prepared of it stays the same."""

from __future__ import annotations

import json
from collections import Counter
from functools import lru_cache

import pytest
from conftest import make_model
from datasets import Dataset, IterableDataset

from cft_trl import CFTTrainer
from cft_trl.commands.settings import parse_settings
from cft_trl.data import records, verdict
from cft_trl.data.prompts import Prompting
from cft_trl.data.read_rows import STATED, is_read, mark_read, read_features, read_row, record_of
from cft_trl.data.records import to_records, to_webinstruct_cft
from cft_trl.errors import CFTError
from cft_trl.training import script as training_script
from cft_trl.training.collator import DataCollatorForCritique
from cft_trl.training.encoded import WRONG
from cft_trl.training.preparation import RowEncoder


@pytest.fixture
def counted(monkeypatch):
    """How often a row is read and a critique parsed; a parse is not kept longer than until the next one."""
    counts: Counter[str] = Counter()
    build, last = records._build, verdict._last.__wrapped__

    def reading(fields, where):
        counts[f"read {fields['query']}"] += 1
        return build(fields, where)

    @lru_cache(maxsize=1)
    def parsing(text):
        counts[f"parsed {text}"] += bool(text)
        return last(text)

    monkeypatch.setattr(records, "_build", reading)
    monkeypatch.setattr(verdict, "_last", parsing)
    return counts


def once(counts, rows, read=1):
    expected = Counter({f"parsed {row['critique']}": 1 for row in rows})
    expected.update({f"read {row['query']}": read for row in rows if read})
    return {name: count for name, count in counts.items() if count and count != expected[name]} == {} and all(
        counts[name] for name in expected
    )


def as_published(rows):
    return [{k: v for k, v in row.items() if k in ("query", "response", "critique")} for row in rows]


@pytest.mark.parametrize(
    ("layout", "streaming"), [("records", False), ("no label", False), ("webinstruct", False), ("no label", True)]
)
def test_cft_train_reads_and_parses_each_row_once(counted, tokenizers, tmp_path, rows, layout, streaming):
    tokenizer = tokenizers("qwen2_5")
    make_model(tokenizer).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    data = {"records": rows, "no label": as_published(rows), "webinstruct": to_webinstruct_cft(rows)}[layout]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in data))
    flags = ["--model_name_or_path", tmp_path / "model", "--output_dir", tmp_path / "run", "--use_cpu", "true",
             "--bf16", "false", "--dtype", "float32", "--max_steps", "1", "--report_to", "none",
             "--dataset_name", tmp_path / "rows.jsonl", "--dataset_streaming", str(streaming).lower(),
             "--per_device_train_batch_size", "40", "--gradient_accumulation_steps", "1"]  # fmt: skip
    counted.clear()
    trainer = training_script.run_training(*parse_settings([str(flag) for flag in flags]))
    assert trainer.preparation["train"].used == 40
    if streaming:  # it is passed through again and again; its first row also for its columns
        for row in rows:
            assert 0 < counted[f"parsed {row['critique']}"] <= counted[f"read {row['query']}"]
    else:
        assert once(counted, rows)


@pytest.mark.parametrize("labelled", [True, False])
def test_a_trainer_reads_and_parses_each_row_once(counted, tokenizer, tiny_model, make_config, rows, labelled):
    data = Dataset.from_list(rows if labelled else as_published(rows))
    counted.clear()
    trainer = CFTTrainer(tiny_model(tokenizer), make_config(), train_dataset=data, processing_class=tokenizer)
    assert trainer.preparation["train"].used == 40
    assert once(counted, rows)


def test_arithmetic_rows_are_made_and_never_read(counted, tokenizer, tiny_model, make_config, tmp_path):
    flags = [
        "--dataset_name",
        "arithmetic",
        "--dataset_limit",
        "40",
        "--output_dir",
        str(tmp_path),
        "--use_cpu",
        "true",
    ]
    script, _, _ = parse_settings(flags)
    data, _ = training_script.load_rows(script, evaluate=False)
    assert is_read(data.column_names)
    CFTTrainer(tiny_model(tokenizer), make_config(), train_dataset=data, processing_class=tokenizer)
    assert once(counted, list(data), read=0)


def test_a_batch_of_raw_rows_is_read_and_parsed_once(counted, tokenizer, rows):
    DataCollatorForCritique(tokenizer)(as_published(rows))
    assert once(counted, rows)


@pytest.mark.parametrize("style", ["chatml", "llama3", "base"])
@pytest.mark.parametrize("objective", ["cft", "cgd", "sft"])
def test_rows_that_were_read_become_the_same_tokens(tokenizers, rows, style, objective):
    rows = [*rows, {**rows[0], "critique": "Fine.", "verdict": None}, {**rows[1], "critique": None, "verdict": "wrong"}]
    rows += [{**rows[2], "verdict": "right" if rows[2]["verdict"] == "wrong" else "wrong"}]
    encoder = RowEncoder(tokenizers(style), Prompting(objective), 200)
    marked = [read_row(row, "row") for row in rows]
    assert encoder(marked) == encoder(rows)
    batch = {name: [row[name] for row in marked] for name in marked[0]}
    table = encoder.map_batch(batch, range(len(rows)), {})
    assert table.to_pydict() == encoder.map_batch(dict(Dataset.from_list(rows)[:]), range(len(rows)), {}).to_pydict()


def test_a_row_keeps_what_it_was_and_is_told_by_its_columns(rows):
    [record] = to_records(rows[:1])
    marked = mark_read(record)
    assert read_row(marked, "row") is marked
    assert record_of(marked) == record
    assert not is_read(record)
    assert not is_read({**marked, "further": 1})
    start, end = marked[STATED]["start"], marked[STATED]["end"]
    assert record["critique"][start:end] == marked[STATED]["verdict"] == record["verdict"]
    assert mark_read({**record, "critique": None})[STATED] is None


def test_a_critique_that_is_a_verdict_alone_is_marked_as_it_is_counted(tokenizer, rows):
    """Behind the prompt's heading "Critique:" the sentence is none at the beginning of its text any more."""
    row = {**rows[0], "critique": "The answer is wrong.", "verdict": "wrong"}
    for preset in ("paper", "compact"):
        columns = RowEncoder(tokenizer, Prompting(preset=preset))([row])
        assert columns["verdict"] == ["wrong"]
        assert WRONG in columns["verdict_mask"][0]


@pytest.mark.parametrize("critique", ["The sum is 4.\n\nConclusion: {other} [END]", "Ok.", "Conclusion: {other}", None])
def test_a_critique_that_a_map_has_changed_is_read_anew(tokenizer, rows, critique):
    """Its verdict, and where it stands, are of the new text: in batches, in the collator's rows, in rows by hand."""

    def change(row):
        other = {"right": "wrong", "wrong": "right"}[row["verdict"]]
        return {"critique": critique and critique.format(other=other)}

    changed = Dataset.from_list([mark_read(row) for row in rows[:8]], features=read_features()).map(change)
    plain = Dataset.from_list(to_records(rows[:8])).map(change)
    encoder = RowEncoder(tokenizer, Prompting("cft"))
    expected = encoder(list(plain))
    assert encoder(list(changed)) == expected
    assert encoder([read_row(row, "row") for row in changed]) == expected
    batches = [encoder.map_batch(data[:], range(8), {}).to_pydict() for data in (changed, plain)]
    assert batches[0] == batches[1]
    if critique and "{other}" in critique:
        assert expected["verdict"] == ["wrong" if row["verdict"] == "right" else "right" for row in rows[:8]]


def test_a_critique_that_a_map_has_added_is_read(tokenizer, rows):
    without = [mark_read({**row, "critique": None}) for row in to_records(rows[:2])]
    added = Dataset.from_list(without, features=read_features()).map(lambda row: {"critique": "Conclusion: right"})
    assert RowEncoder(tokenizer, Prompting("cft"))(list(added))["verdict"] == ["right", "right"]
    assert read_row(added[0], "row")[STATED]["verdict"] == "right"


@pytest.mark.parametrize("column", ["query", "response"])
def test_a_text_that_a_map_has_emptied_is_refused_as_in_a_row_that_was_not_read(tokenizer, rows, column):
    data = Dataset.from_list([mark_read(row) for row in rows[:2]], features=read_features()).map(
        lambda row: {column: " "}
    )
    with pytest.raises(CFTError, match=f"row 1: column '{column}' is empty"):
        read_row(data[1], "row 1")
    with pytest.raises(CFTError, match=f"train dataset, row 0: column '{column}' is empty"):
        RowEncoder(tokenizer, Prompting("cft"), name="train dataset").map_batch(data[:], range(2), {})


def test_a_stream_of_read_rows_stays_one(tokenizer, rows):
    stream = IterableDataset.from_generator(lambda: iter(map(mark_read, rows)))
    assert is_read(next(iter(stream)))
