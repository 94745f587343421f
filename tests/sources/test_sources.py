"""The source stage: every corpus by its real columns, sampling, duplicates, parts, and what cannot be read."""

import gzip
import json
from collections import Counter

import pytest

from cft_trl.data.fingerprints import Seen, fingerprint, normalised
from cft_trl.data.records import COLUMNS
from cft_trl.data.stage_files import RowFile, read_report, stage_path
from cft_trl.errors import CFTError
from cft_trl.sources.corpus import SourceSettings, run_source

# One row of each corpus, with exactly the columns that the Hub's copy has.
ROWS = {
    "webinstruct": {
        "orig_question": "Why is the sum of two odd numbers even?",
        "orig_answer": "Write them as $2a+1$ and $2b+1$; the sum is $2(a+b+1)$.",
        "source": "mathstackexchange",
        "index": 7,
    },
    "metamath": {
        "type": "GSM_Rephrased",
        "query": "If 4 trays hold 12 rolls each and 30 rolls are sold, how many remain?",
        "original_question": "A baker fills 4 trays with 12 rolls each and sells 30. How many are left?",
        "response": "There are 4 * 12 = 48 rolls.\nThat leaves 48 - 30 = 18 rolls.\nThe answer is: 18",
    },
    "numinamath": {
        "source": "cn_k12",
        "problem": "A triangle has sides $3$, $4$ and $5$. What is its area?",
        "solution": "It has a right angle, so the area is $\\frac{3 \\cdot 4}{2} = \\boxed{6}$.",
        "messages": [{"role": "user", "content": "A triangle"}, {"role": "assistant", "content": "It has"}],
    },
    "gsm8k": {
        "question": "A baker fills 4 trays with 12 rolls each and sells 30 rolls. How many rolls are left?",
        "answer": "He bakes 4*12=<<4*12=48>>48 rolls.\nSo 48-30=<<48-30=18>>18 are left.\n#### 18",
    },
}
KEPT = {
    "webinstruct": (None, {"source": "mathstackexchange", "index": 7}),
    "metamath": ("18", {"type": "GSM_Rephrased", "original_question": ROWS["metamath"]["original_question"]}),
    "numinamath": ("6", {"source": "cn_k12"}),
    "gsm8k": ("18", None),
}


def jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def run(folder, settings, **options):
    report = run_source(settings, folder, **options)
    shard = options.get("shard")
    rows = list(RowFile(stage_path(folder, "source", shard)))
    failures = list(RowFile(stage_path(folder, "source", shard, "failures")))
    assert report.written == len(rows)
    assert report.failures.total() == len(failures)
    assert report.read == len(rows) + len(failures)
    return rows, failures, report


def questions(count, start=0):
    return [{"query": f"What is {n} + 1?", "response": f"It is {n + 1}."} for n in range(start, start + count)]


def write_parquet(path, row):
    from datasets import Dataset

    Dataset.from_list([row]).to_parquet(path)


def write_gz(path, row):
    path.write_bytes(gzip.compress(json.dumps(row).encode()))


def write_json(path, row):
    path.write_text(json.dumps([row]))


@pytest.mark.parametrize("corpus", ROWS)
@pytest.mark.parametrize(
    ("name", "write"), [("a.parquet", write_parquet), ("a.jsonl.gz", write_gz), ("a.json", write_json)]
)
def test_a_corpus_becomes_our_row(tmp_path, corpus, name, write):
    write(tmp_path / name, ROWS[corpus])
    [row], _, report = run(tmp_path / "out", SourceSettings(corpus, path=str(tmp_path / name)))
    texts = [value for value in ROWS[corpus].values() if value in (row["query"], row["response"])]
    reference, meta = KEPT[corpus]
    assert len(texts) == 2  # byte for byte
    assert tuple(row) == COLUMNS
    assert (row["reference_answer"], row["meta"], row["source"]) == (reference, meta, corpus)
    assert (row["critique"], row["verdict"], row["teacher"]) == (None, None, None)
    assert report.details["with reference answer"] == (reference is not None)


@pytest.mark.parametrize("corpus", ROWS)
def test_a_missing_column_is_named_with_those_found(tmp_path, corpus):
    column = next(iter(ROWS[corpus]))
    row = {key: value for key, value in ROWS[corpus].items() if key != column} | {f"my_{column}": "x"}
    with pytest.raises(CFTError, match=rf"line 1: corpus {corpus} has a column '{column}'.*did you mean.*my_{column}"):
        run_source(SourceSettings(corpus, path=jsonl(tmp_path / "a.jsonl", [row])), tmp_path)
    assert not stage_path(tmp_path, "source").exists()


def test_the_hub_id_and_configuration_are_the_corpus_own(tmp_path, monkeypatch):
    asked = {}

    def load_dataset(path, name=None, **options):
        import datasets

        asked.update(options, path=path, name=name)
        return datasets.Dataset.from_list([ROWS["gsm8k"]] * 2).to_iterable_dataset()

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    rows, failures, _ = run(tmp_path, SourceSettings("gsm8k", revision="abc"))
    assert asked == {"path": "openai/gsm8k", "name": "main", "split": "train", "revision": "abc", "streaming": True}
    assert (len(rows), failures[0]["detail"]) == (1, "openai/gsm8k, row 1")


def test_local_rows_are_read_by_layout_and_mapping(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", [{"q": "6 x 7?", "a": "43", "id": "mine", "critique": "No.", "ok": 0}])
    columns = {"query": "q", "response": "a", "verdict": "ok"}
    [row], _, _ = run(tmp_path, SourceSettings("local", path=path, columns=columns, append_verdict=True))
    assert (row["id"], row["query"], row["verdict"], row["source"]) == ("mine", "6 x 7?", "wrong", "local")
    assert row["critique"] == "No.\n\nConclusion: wrong [END]"
    with pytest.raises(CFTError, match=r"no column 'qq' to read 'query' from.*found q, a, id"):
        run_source(SourceSettings("local", path=path, columns={"query": "qq"}), tmp_path)


def test_ids_depend_on_the_row_alone(tmp_path):
    rows = [{"question": f"{n} + 1?", "answer": f"#### {n + 1}"} for n in range(20)]
    settings = SourceSettings("gsm8k", path=jsonl(tmp_path / "a.jsonl", rows))
    other = SourceSettings("gsm8k", path=jsonl(tmp_path / "b.jsonl", rows[::-1]), limit=5)
    ids = {row["query"]: row["id"] for row in run(tmp_path / "1", settings)[0]}
    assert len(set(ids.values())) == 20
    assert all(ids[row["query"]] == row["id"] for row in run(tmp_path / "2", other)[0])


def test_what_fails_says_why_and_is_counted(tmp_path):
    rows = [
        {"id": "a", "query": "What is 1 + 1?", "response": "2"},
        {"id": "b", "query": "what is  $1+1$", "response": "two"},
        {"id": "a", "query": "Another?", "response": "2"},
        {"id": "c", "query": " ", "response": "2"},
        {"id": "d", "query": "No answer?", "response": ""},
        {"id": "e", "query": "A number?", "response": 2},
        {"id": "f", "query": "What is 1 - 1?", "response": "0"},
    ]
    kept, failures, report = run(tmp_path, SourceSettings("local", path=jsonl(tmp_path / "a.jsonl", rows)))
    assert [row["id"] for row in kept] == ["a", "f"]
    assert [(line["id"], line["reason"]) for line in failures] == [
        ("b", "duplicate query"),
        ("a#2", "duplicate id"),
        ("c", "empty query"),
        ("d", "empty response"),
        ("local#5", "unreadable row"),
    ]
    assert "column 'response' is int" in failures[-1]["detail"]
    assert failures[0]["detail"].endswith("a.jsonl, line 2")
    assert read_report(tmp_path, "source") == report


def test_an_equal_row_fails_even_without_dedup(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", [*questions(2), *questions(1), {**questions(1)[0], "response": "Two."}])
    kept, failures, _ = run(tmp_path, SourceSettings("local", path=path, dedup=False))
    assert [row["response"] for row in kept] == ["It is 1.", "It is 2.", "Two."]
    assert [(line["reason"], line["id"]) for line in failures] == [("duplicate id", kept[0]["id"] + "#2")]


def test_rows_that_bring_critiques_are_equal_with_all_three_texts(tmp_path):
    rows = [{"query": "6 x 7?", "response": "43", "critique": text} for text in ("No.", "No, 42.", "no")]
    kept, failures, _ = run(tmp_path, SourceSettings("local", path=jsonl(tmp_path / "a.jsonl", rows)))
    assert [row["critique"] for row in kept] == ["No.", "No, 42."]
    assert [line["reason"] for line in failures] == ["duplicate critique"]


def test_questions_without_responses_are_kept_when_asked_for(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", [{"query": "6 x 7?"}, {"query": "6 x 8?", "response": "48"}, {"query": ""}])
    kept, failures, _ = run(tmp_path, SourceSettings("local", path=path, without_response="keep"))
    assert [(row["query"], row["response"]) for row in kept] == [("6 x 7?", None), ("6 x 8?", "48")]
    assert [line["reason"] for line in failures] == ["empty query"]


def test_first_stops_at_the_limit(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", [questions(1)[0], *questions(9)])
    kept, failures, report = run(tmp_path, SourceSettings("local", path=path, limit=3))
    assert [row["query"] for row in kept] == ["What is 0 + 1?", "What is 1 + 1?", "What is 2 + 1?"]
    assert (len(failures), report.details["rows seen"], report.details["not sampled"]) == (1, 4, 0)


def test_a_random_sample_is_seeded_nested_and_spread(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", questions(400))

    def sample(limit, seed=0):
        settings = SourceSettings("local", path=path, limit=limit, sample="random", seed=seed)
        kept, _, report = run(tmp_path / "out", settings)
        assert report.details["rows seen"] == report.read + report.details["not sampled"] == 400
        return [row["query"] for row in kept]

    some = sample(100)
    order = [row["query"] for row in questions(400)]
    assert some == sample(100) == sorted(some, key=order.index)
    assert set(sample(40)) < set(some)
    assert len(set(some) & set(sample(100, seed=1))) < 50  # 25 by chance
    # Of each quarter of the corpus about 25 rows; 5 or fewer have a chance of one in a million.
    assert min(Counter(order.index(query) // 100 for query in some).values()) > 5
    assert len(sample(1000)) == 400


@pytest.mark.parametrize("sample", ["first", "random"])
@pytest.mark.parametrize("corpus", ["local", "arithmetic"])
def test_parts_together_write_what_one_process_does(tmp_path, corpus, sample):
    rows = [row for n in range(60) for row in questions(1, n) * (1 + n % 3)] + [{"query": "", "response": "1"}] * 3
    path = jsonl(tmp_path / "a.jsonl", rows) if corpus == "local" else None
    settings = SourceSettings(corpus, path=path, limit=50, sample=sample)
    kept, failures, report = run(tmp_path / "one", settings)
    parts = [run(tmp_path / "many", settings, shard=f"task-{rank}", part=(rank, 3)) for rank in range(3)]
    assert len(kept) == 50
    assert [len(part[0]) for part in parts] == [17, 17, 16]
    for at, whole in enumerate((kept, failures)):
        together = [json.dumps(line) for part in parts for line in part[at]]
        assert Counter(together) == Counter(json.dumps(line) for line in whole)
    for key in ("rows seen", "not sampled", "with reference answer"):
        assert sum(part[2].details[key] for part in parts) == report.details[key]


def test_arithmetic_rows_hold_what_the_reference_teacher_reads(tmp_path):
    from cft_trl.sources.reference import critique_from_reference

    kept, _, report = run(tmp_path, SourceSettings("arithmetic", limit=20, levels=(1,), right_ratio=0.25, seed=5))
    assert Counter(row["verdict"] for row in kept) == {"wrong": 15, "right": 5}
    assert {row["critique"] for row in kept} == {None}
    assert all(f"Conclusion: {row['verdict']} [END]" in critique_from_reference(row) for row in kept)
    assert report.details["with reference answer"] == 20


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"corpus": "meta-math"}, r"source.corpus='meta-math': unknown \(did you mean 'metamath'\?\)"),
        ({"corpus": "gsm8k", "levels": (1,)}, "source.levels: only corpus arithmetic has it"),
        ({"corpus": "gsm8k", "columns": {"query": "q"}}, "source.columns: only corpus local has it"),
        ({"corpus": "local", "columns": {"querry": "q"}}, r"no column 'querry' \(did you mean 'query'\?\)"),
        ({"corpus": "arithmetic", "path": "x"}, "source.path: corpus arithmetic is made on the spot"),
        ({"limit": 0}, "source.limit=0: give a whole number of rows"),
        ({"sample": "last"}, "source.sample='last': give first or random"),
    ],
)
def test_wrong_settings_are_told_by_their_key(fields, message):
    with pytest.raises(CFTError, match=message):
        SourceSettings(**fields)


NUMBER = '{"query": 1, "response": "a"}\n'


@pytest.mark.parametrize(
    ("settings", "content", "message"),
    [
        (SourceSettings("arithmetic"), "", "source.limit: corpus arithmetic has no end"),
        (SourceSettings("local"), "", "source.path: corpus local needs one"),
        (SourceSettings("gsm8k", path="FILE"), "", "it holds no rows"),
        (SourceSettings("gsm8k", path="FILE"), "{", "line 1: not JSON"),
        (SourceSettings("local", path="FILE"), '{"text": "a"}\n' * 3, "line 1: .*text"),
        (SourceSettings("local", path="FILE"), NUMBER * 3, "line 1: column 'query' is int"),
        (
            SourceSettings("local", path="FILE"),
            NUMBER * 20 + '{"query": "a", "response": "a"}',
            "line 1: column 'query'",
        ),
    ],
)
def test_a_corpus_that_cannot_be_read_leaves_nothing(tmp_path, settings, content, message):
    from dataclasses import replace

    (tmp_path / "a.jsonl").write_text(content)
    if settings.path:
        settings = replace(settings, path=str(tmp_path / "a.jsonl"))
    with pytest.raises(CFTError, match=message):
        run_source(settings, tmp_path)
    assert not list((tmp_path / "stages").glob("*"))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("What is  3.5 + 2 ?", "what is 3.5+2", True),
        ("Find $x$, if $x^2 = 4$.", "Find x if x^2=4", True),
        ("\u201cWhy\u201d is Janet\u2019s sum \u22121?", "why is janet's sum -1", True),
        ("What is 3.5?", "What is 35?", False),
        ("What is 2-3?", "What is 2 3?", False),
        ("What is f(1,2)?", "What is f(1.2)?", False),
        ("What is 5!?", "What is 5?", False),
        ("Is f'(x) < 1?", "Is f(x) < 1?", False),
        ("The ratio 3:4", "The ratio 34", False),
    ],
)
def test_typing_alone_makes_no_other_query(one, other, same):
    assert (fingerprint(normalised(one)) == fingerprint(normalised(other))) is same


def test_seen_is_a_set_beyond_its_small_part():
    seen, count = Seen(), 150_000
    assert all(seen.add(fingerprint(n)) for n in range(count))
    assert not any(seen.add(fingerprint(n)) for n in range(0, count, 1000))
    assert fingerprint(count) not in seen
    assert len(seen) == count
    assert seen._sorted.nbytes == 8 * 131072  # all but the newest, eight bytes each


FROM_THE_HUB = """
import sys
from datasets import Dataset
from huggingface_hub import HfApi
from cft_trl.errors import CFTError
from cft_trl.sources.corpus import SourceSettings, run_source
folder = sys.argv[1]
rows = [{"question": f"What is {n} + 1?", "answer": f"It is {n + 1}. #### {n + 1}"} for n in range(300)]
Dataset.from_list(rows).to_parquet(folder + "/a.parquet")
card = "---\\nconfigs:\\n- config_name: main\\n  data_files:\\n  - {split: train, path: main/a.parquet}\\n---\\n"
api = HfApi()
api.create_repo("org/copy", repo_type="dataset")
for content, name in ((folder + "/a.parquet", "main/a.parquet"), (card.encode(), "README.md")):
    api.upload_file(path_or_fileobj=content, path_in_repo=name, repo_id="org/copy", repo_type="dataset")
for sample in ("first", "random"):
    report = run_source(SourceSettings("gsm8k", path="org/copy", limit=20, sample=sample), folder)
    print(report.written, report.details["rows seen"], report.details["with reference answer"])
for wrong in ({"path": "org/none"}, {"split": "tset"}):
    try:
        run_source(SourceSettings("gsm8k", **{"path": "org/copy", **wrong}), folder)
    except CFTError as error:
        print(error)
"""


@pytest.mark.slow
def test_a_corpus_is_streamed_from_the_hub(tmp_path):
    import subprocess
    import sys

    from hub_server import OWNER, HubServer

    with HubServer(tmp_path / "hub") as hub:
        done = subprocess.run(
            [sys.executable, "-c", FROM_THE_HUB, str(tmp_path)],
            env=hub.environment(token=OWNER, home=tmp_path / "home"),
            capture_output=True,
            text=True,
            check=True,
        )
    first, randomly, missing, split = done.stdout.splitlines()
    assert (first, randomly) == ("20 20 20", "20 300 20")
    assert missing.startswith("org/none: no such file here, and the Hub did not give it (DatasetNotFoundError")
    assert "Available splits: ['train']" in split
