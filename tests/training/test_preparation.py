"""Token ids, loss masks and verdict masks are proved: decoded, they are exactly the target and its end token."""

from __future__ import annotations

import pickle

import pytest
from conftest import STYLES
from datasets import Dataset, IterableDataset

from cft_trl.data.prompts import Prompting, to_prompt_completion
from cft_trl.errors import CFTError
from cft_trl.training.encoded import RIGHT, VERDICT_CONTINUES, WRONG
from cft_trl.training.lengths import PreparationReport
from cft_trl.training.preparation import RowEncoder, prepare_dataset

SFT_TARGETS = ("response", "right_only", "refinement")
OBJECTIVES = [("cft", "response"), ("cgd", "response"), *(("sft", target) for target in SFT_TARGETS)]


def with_loss(columns, i):
    return [t for t, label in zip(columns["input_ids"][i], columns["labels"][i], strict=True) if label != -100]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("preset", ["paper", "compact"])
@pytest.mark.parametrize(("objective", "target"), OBJECTIVES)
@pytest.mark.parametrize("limited", [False, True])
def test_loss_is_on_the_target_and_its_end_token_only(tokenizers, rows, style, preset, objective, target, limited):
    tokenizer, prompting = tokenizers(style), Prompting(objective, target, preset)
    columns = RowEncoder(tokenizer, prompting, None)(rows)
    if limited:
        longest = sorted(columns["length"])[len(rows) * 3 // 4]
        columns = RowEncoder(tokenizer, prompting, longest)(rows)
        assert max(columns["length"]) <= longest
    used = 0
    for i, row in enumerate(rows):
        if not columns["input_ids"][i]:
            assert prompting.unusable(row) or limited
            continue
        used += 1
        ids, labels = columns["input_ids"][i], columns["labels"][i]
        assert all(label in (-100, token) for token, label in zip(ids, labels, strict=True))
        scored = with_loss(columns, i)
        assert scored[-1] in {tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<end_of_turn>")}
        text = tokenizer.decode(scored[:-1])
        if style == "qwen3":  # its template opens every answer with an empty thought
            text = text.removeprefix("<think>\n\n</think>\n\n")
        assert text == prompting.completion(row)
    assert used >= len(rows) // 4


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(("objective", "target"), OBJECTIVES)
def test_ids_equal_trls_own_preparation(tokenizers, tiny_model, tmp_path, rows, style, objective, target):
    from trl import SFTConfig, SFTTrainer

    tokenizer, prompting = tokenizers(style), Prompting(objective, target)
    rows = [row for row in rows if not prompting.unusable(row)]
    examples = [to_prompt_completion(row, prompting, chat=bool(tokenizer.chat_template)) for row in rows]
    trainer = SFTTrainer(
        tiny_model(tokenizer),
        SFTConfig(str(tmp_path), use_cpu=True, bf16=False, report_to="none", max_length=None),
        train_dataset=Dataset.from_list(examples),
        processing_class=tokenizer,
    )
    ours = RowEncoder(tokenizer, prompting, None)(rows)
    assert ours["input_ids"] == trainer.train_dataset["input_ids"][:]
    for mine, theirs in zip(ours["labels"], trainer.train_dataset["labels"][:], strict=True):
        # TRL also scores what the template writes after the end token, which no generation reaches.
        end = max(i for i, label in enumerate(mine) if label != -100) + 1
        assert mine[:end] == theirs[:end]
        assert len(theirs) - end <= 1


@pytest.mark.parametrize("style", STYLES)
def test_verdict_mask_is_the_verdict_word(tokenizers, rows, style):
    tokenizer = tokenizers(style)
    tail = [
        {"query": "1+1?", "response": "3", "critique": "**Conclusion:** the solution is incorrect.  \n"},
        {"query": "1+1?", "response": "2", "critique": "Conclusion: wrong\nno: Conclusion: right [END] ✓"},
        {"query": "1+1?", "response": "2 Conclusion: wrong", "critique": "It adds well."},
    ]
    rows = [*rows, *tail]
    columns = RowEncoder(tokenizer, Prompting())(rows)
    words = []
    for i in range(len(rows)):
        pairs = list(zip(columns["input_ids"][i], columns["verdict_mask"][i], strict=True))
        words.append(tokenizer.decode([token for token, mask in pairs if mask]).strip())
        firsts = [mask for _, mask in pairs if mask and mask != VERDICT_CONTINUES]
        assert firsts == {"right": [RIGHT], "wrong": [WRONG], "none": []}[columns["verdict"][i]]
    assert words[: len(rows) - 3] == [row["verdict"] for row in rows[:-3]]
    assert words[-3:] == ["incorrect", "right", ""] or words[-3:] == ["incorrect.", "right", ""]


def long_row(**changes):
    row = {"id": "long", "query": "How many?", "response": "blah " * 400 + "THE END", "refinement": "z" * 5}
    return {**row, "critique": "It rambles. 😀\n\nConclusion: wrong [END]", "verdict": "wrong", **changes}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("objective", ["cft", "cgd"])
def test_shortened_response_loses_its_tail_and_nothing_else(tokenizers, style, objective):
    tokenizer, prompting, row = tokenizers(style), Prompting(objective), long_row()
    columns = RowEncoder(tokenizer, prompting, 200)([row])
    assert columns["status"] == ["shortened"]
    assert 198 <= columns["length"][0] <= 200
    text = tokenizer.decode(columns["input_ids"][0])
    before, after = prompting.user_turn(row).split(row["response"])
    assert before.strip() in text
    assert after.strip() in text
    assert "THE END" not in text
    assert text.count("blah") > 10
    assert tokenizer.decode(with_loss(columns, 0)[:-1]).endswith(prompting.completion(row))


def test_a_cut_never_splits_a_character(tokenizer):
    for limit in range(60, 90):
        columns = RowEncoder(tokenizer, Prompting(preset="compact"), limit)([long_row(response="😀é中" * 200)])
        assert "�" not in tokenizer.decode(columns["input_ids"][0])


def test_policies(tokenizer):
    rows = [long_row(), long_row(response="short")]
    encode = lambda **kw: RowEncoder(tokenizer, Prompting(), **kw)(rows)  # noqa: E731
    assert encode(max_length=None)["status"] == ["kept", "kept"]
    assert encode(max_length=200, over_length="drop")["status"] == ["longer than 200 tokens", "kept"]
    with pytest.raises(CFTError, match=r"row 0: \S+ tokens, more than max_length=200"):
        encode(max_length=200, over_length="error")
    # A critique that cannot fit is dropped with its reason, never cut.
    huge = RowEncoder(tokenizer, Prompting(), 100)([long_row(critique="c " * 300)])
    assert huge["status"] == ["longer than 100 tokens even without any response"]
    assert huge["input_ids"] == [[]]
    # For sft the response is the target, which is never cut.
    sft = RowEncoder(tokenizer, Prompting("sft"), 100)([long_row()])
    assert sft["input_ids"] == [[]]


def test_100_000_token_response(tokenizer):
    columns = RowEncoder(tokenizer, Prompting(), 256)([long_row(response="word 12 " * 40_000)])
    assert columns["status"] == ["shortened"]
    assert columns["length"][0] <= 256


def test_template_without_end_token_gets_one(tokenizers, rows):
    from conftest import make_tokenizer

    tokenizer = make_tokenizer("chatml")
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    columns = RowEncoder(tokenizer, Prompting())(rows)
    assert all(ids[-1] == tokenizer.eos_token_id == labels[-1]
               for ids, labels in zip(columns["input_ids"], columns["labels"], strict=True))  # fmt: skip


def test_unusable_tokenizers_and_lengths(rows):
    from conftest import make_tokenizer

    tokenizer = make_tokenizer("chatml")
    with pytest.raises(CFTError, match="not larger than the prompt template alone"):
        RowEncoder(tokenizer, Prompting(), 8)
    tokenizer.eos_token = None
    with pytest.raises(CFTError, match="no end token"):
        RowEncoder(tokenizer, Prompting())


def prepare(dataset, tokenizer, objective="cft", **kwargs):
    report = PreparationReport()
    prepared = prepare_dataset(dataset, RowEncoder(tokenizer, Prompting(objective)), report, **kwargs)
    return prepared, report


def test_every_row_is_counted(tokenizer, rows):
    rows = [{k: row[k] for k in ("query", "response", "critique")} for row in rows]
    rows += [{"query": "q", "response": "r", "critique": None}] * 3 + [
        {"query": "q", "response": "r", "critique": "no verdict here"}
    ]
    prepared, report = prepare(Dataset.from_list(rows), tokenizer)
    assert (report.rows, report.kept, report.dropped) == (44, 41, {"no critique": 3})
    assert (report.right, report.wrong, report.without_verdict) == (20, 20, 1)
    assert report.tokens == sum(map(len, prepared["input_ids"]))
    assert report.target_tokens == sum(label != -100 for labels in prepared["labels"] for label in labels)
    assert "dropped 3 (3 no critique)" in str(report)
    stream, streamed = prepare(IterableDataset.from_generator(lambda: iter(rows)), tokenizer)
    assert [row["input_ids"] for row in stream] == prepared["input_ids"][:]
    assert streamed == report


def test_layouts_give_the_same_tokens(tokenizer, rows):
    from cft_trl import to_messages, to_webinstruct_cft

    plain = prepare(Dataset.from_list(rows), tokenizer)[0]["input_ids"][:]
    for write in (to_webinstruct_cft, to_messages):
        assert prepare(Dataset.from_list(write(rows)), tokenizer)[0]["input_ids"][:] == plain


def test_several_processes_and_the_cache(tokenizer, rows, tmp_path, monkeypatch):
    Dataset.from_list(rows * 10).to_parquet(tmp_path / "rows.parquet")
    load = lambda: Dataset.from_parquet(str(tmp_path / "rows.parquet"), cache_dir=str(tmp_path / "cache"))  # noqa: E731
    alone, report = prepare(load(), tokenizer)
    together, report2 = prepare(load(), tokenizer, num_proc=2)
    assert alone["input_ids"][:] == together["input_ids"][:]
    assert report == report2
    # A third preparation reads the cache: the encoder is not called again.
    monkeypatch.setattr(RowEncoder, "__call__", lambda *_: pytest.fail("prepared anew instead of read from the cache"))
    cached, report3 = prepare(load(), pickle.loads(pickle.dumps(tokenizer)))
    assert cached["input_ids"][:] == alone["input_ids"][:]
    assert report3 == report


@pytest.mark.parametrize(
    ("rows", "objective", "message"),
    [
        ([], "cft", "the train dataset is empty"),
        ([{"query": "q", "response": "r", "critique": None}], "cft", "can be used for objective cft: 1 no critique"),
        ([{"query": "q", "response": "r", "critique": "c"}], "cgd", "1 no refinement"),
        ([{"query": "", "response": "r", "critique": "c"}], "cft", "row 0.*query"),
        ([{"query": "q", "response": None, "critique": "c"}], "cft", "row 0.*response"),
        ([{"query": "q", "response": "r", "critique": 3}], "cft", "row 0.*critique"),
        ([{"text": "t"}], "cft", "columns text are of no known layout"),
    ],
)
def test_bad_rows_are_told_in_one_line(tokenizer, rows, objective, message):
    with pytest.raises(CFTError, match=message) as caught:
        prepare(Dataset.from_list(rows), tokenizer, objective)
    assert "\n" not in str(caught.value)


def test_target_that_the_template_rewrites_is_dropped_and_counted(tokenizers):
    thought = {"query": "1+1?", "response": "3", "critique": "<think>hm</think>\n\nIt is 2.\n\nConclusion: wrong [END]"}
    columns = RowEncoder(tokenizers("qwen3"), Prompting())([thought])
    assert columns["status"] == ["the chat template rewrites its target"]
    assert columns["target_tokens"] == [0]
    assert RowEncoder(tokenizers("chatml"), Prompting())([thought])["status"] == ["kept"]


@pytest.mark.parametrize("style", STYLES)
def test_target_that_also_stands_in_the_query(tokenizers, style):
    tokenizer = tokenizers(style)
    row = {"query": "What is 5 + 0?", "response": "5 ", "critique": "", "verdict": None}
    columns = RowEncoder(tokenizer, Prompting("sft"))([row])
    assert tokenizer.decode(with_loss(columns, 0)[:-1]).strip().endswith("5")
    assert 2 <= columns["target_tokens"][0] <= 20


@pytest.mark.parametrize("style", STYLES)
def test_target_that_begins_with_line_feeds_keeps_the_prompt_without_loss(tokenizers, style):
    tokenizer, prompting = tokenizers(style), Prompting(preset="compact")
    row = {"query": "1+1?", "response": "3", "critique": "\n\nIt is 2."}
    columns = RowEncoder(tokenizer, prompting)([row])
    assert tokenizer.decode(with_loss(columns, 0)[:-1]).lstrip("\n").endswith("It is 2.")
    assert not tokenizer.decode(with_loss(columns, 0)).startswith("\n\n\n")


def test_class_labels_are_read_by_name(tokenizer):
    from datasets import ClassLabel, Features, Value

    text = Value("string")
    features = Features({"query": text, "response": text, "verdict": ClassLabel(names=["right", "wrong"])})
    data = {"query": ["a?", "b?"], "response": ["yes", "no"], "verdict": [0, 1]}
    report = PreparationReport()
    encoder = RowEncoder(tokenizer, Prompting("sft", "right_only"))
    prepared = prepare_dataset(Dataset.from_dict(data, features=features), encoder, report)
    assert report.dropped == {"verdict is wrong": 1}
    assert "yes" in tokenizer.decode(prepared[0]["input_ids"])


def test_label_and_critique_that_disagree_are_counted(tokenizer):
    row = {"query": "q", "response": "r", "critique": "Conclusion: right [END]", "verdict": "wrong"}
    report = prepare(Dataset.from_list([row]), tokenizer)[1]
    assert (report.right, report.disagree) == (1, 1)
    assert "label and critique disagree in 1" in str(report)


def test_cache_key_follows_the_code(tokenizer, monkeypatch):
    import cft_trl.training.preparation as preparation

    encoder = RowEncoder(tokenizer, Prompting())
    before = pickle.dumps(encoder.__getstate__()["code"])
    monkeypatch.setattr(preparation, "reading_digest", lambda *files: str(len(files)))
    assert pickle.dumps(encoder.__getstate__()["code"]) != before


@pytest.mark.parametrize("style", ["chatml", "qwen3", "gemma"])
@pytest.mark.parametrize("count", [2, 128, 129, 300])
def test_rows_taken_in_chunks_by_two_threads_are_each_as_alone(tokenizers, style, count):
    from cft_trl.sources.arithmetic import arithmetic_records

    rows = list(arithmetic_records(count, seed=1, levels=(1,)))
    rows[count // 2] |= {"critique": None, "verdict": None}  # cannot be used
    lengths = RowEncoder(tokenizers(style), Prompting(), None)(rows)["length"]
    encoder = RowEncoder(tokenizers(style), Prompting(), max(lengths) - 2)
    together = encoder(rows)
    alone = [encoder([row]) for row in rows]
    assert {name: [one[name][0] for one in alone] for name in together} == together
    assert count < 128 or set(together["status"]) == {"kept", "shortened", "no critique"}
    # And the same rows read from a batch of columns, as `Dataset.map` gives them.
    batch = {name: [row[name] for row in rows] for name in rows[0]}
    table = encoder.map_batch(batch, range(count), {})
    assert table.to_pydict() == together
    assert [str(field.type) for field in table.schema][:3] == [
        "list<item: int32>",
        "list<item: int32>",
        "list<item: int8>",
    ]
