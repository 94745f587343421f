"""The table of benchmarks: sizes, golds, the validation draw, and what bad input is told."""

from __future__ import annotations

import dataclasses
import gzip
import json

import pytest

from cft_trl.errors import CFTError
from cft_trl.generation.modes import STOP_STRINGS
from cft_trl.grading import benchmarks
from cft_trl.grading.benchmarks import BENCHMARKS, FOLDER_VARIABLE, MATH_SYSTEM, get_benchmark, load_benchmark

PUBLISHED = {
    "math": 5000, "math-500": 500, "minerva-math": 272, "gsm8k": 1319, "olympiadbench": 675, "aime24": 30, "amc23": 40,
    "aime25": 30, "theoremqa": 800, "gpqa-diamond": 198, "mmlu-pro": 12032, "ifeval": 541, "mt-bench": 80,
}  # fmt: skip
# One real gold of each set, by position.
GOLDS = {
    "math": (0, "2"), "math-500": (1, "p - q"), "minerva-math": (0, "1.6"), "gsm8k": (0, "18"),
    "olympiadbench": (13, "69,84"),
    "aime24": (0, "204"), "amc23": (0, "27"), "aime25": (0, "70"), "theoremqa": (0, "11760"), "mmlu-pro": (0, "I"),
}  # fmt: skip


def write(folder, name, rows, file="test.jsonl"):
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / file).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def small(monkeypatch, name, **changes):
    monkeypatch.setitem(BENCHMARKS, name, dataclasses.replace(BENCHMARKS[name], **changes))


def test_the_table_has_the_published_sizes_and_prompts():
    assert {name: b.size for name, b in BENCHMARKS.items() if not b.drawn} == PUBLISHED
    assert all(b.stop == STOP_STRINGS and b.max_new_tokens == 2048 for b in BENCHMARKS.values())
    without_system = {name for name, b in BENCHMARKS.items() if b.system != MATH_SYSTEM}
    assert without_system == {"ifeval", "mt-bench"}
    assert all("/" in b.hub and b.licence for b in BENCHMARKS.values())


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name != "gpqa-diamond"])
def test_the_real_sets_are_read(shared_data, name):
    rows = load_benchmark(name, shared_data / "benchmarks")
    assert len(rows) == PUBLISHED[name]
    assert len({row["id"] for row in rows}) == len(rows)
    assert all(set(row) == {"id", "query", "gold", "meta"} and isinstance(row["gold"], str) for row in rows)
    compared = get_benchmark(name).answer in ("math", "letter")
    assert all(bool(row["gold"]) == compared for row in rows)
    if name in GOLDS:
        index, gold = GOLDS[name]
        assert rows[index]["gold"] == gold
    if name == "mmlu-pro":
        assert "\nI. Unsafe practices, Distress, Fear, Serious" in rows[0]["query"]
    if name == "mt-bench":
        assert len(rows[0]["meta"]["turns"]) == 2


def test_golds_of_math_are_those_of_math_500(shared_data):
    folder = shared_data / "benchmarks"
    golds = {" ".join(row["query"].split()): row["gold"] for row in load_benchmark("math", folder)}
    for row in load_benchmark("math-500", folder):
        assert golds[" ".join(row["query"].split())].replace(" ", "") == row["gold"].replace(" ", "")


def test_validation_is_in_no_reported_set_and_always_the_same(shared_data):
    folder = shared_data / "benchmarks"
    rows = load_benchmark("math-validation", folder)
    drawn = {" ".join(row["query"].split()) for row in rows}
    assert len(drawn) == len(rows) == 500
    for name in ("math", "math-500", "minerva-math", "olympiadbench"):
        assert not drawn & {" ".join(row["query"].split()) for row in load_benchmark(name, folder)}
    with gzip.open(shared_data / "train" / "math.jsonl.gz", "rt") as lines:
        assert drawn <= {" ".join(json.loads(line)["problem"].split()) for line in lines}
    assert all(row["gold"] for row in rows)
    assert rows[0]["id"] == "math-validation-0"
    assert rows == load_benchmark("math-validation", folder)


def test_the_draw_does_not_depend_on_the_order_of_the_rows(tmp_path, monkeypatch):
    small(monkeypatch, "math-validation", size=20, drawn=5)
    rows = [{"problem": f"What is {n}?", "solution": rf"It is $\boxed{{{n}}}$."} for n in range(20)]
    first = load_benchmark("math-validation", write(tmp_path / "a", "math", rows, "train.jsonl"))
    second = load_benchmark("math-validation", write(tmp_path / "b", "math", rows[::-1], "train.jsonl"))
    assert first == second
    assert [row["query"] for row in first] != [row["problem"] for row in rows[:5]]


def test_a_solution_with_an_empty_box_is_never_drawn(tmp_path, monkeypatch):
    small(monkeypatch, "math-validation", size=3, drawn=3)
    rows = [{"problem": f"What is {n}?", "solution": r"\boxed{}" if n == 1 else r"\boxed 7"} for n in range(3)]
    drawn = load_benchmark("math-validation", write(tmp_path, "math", rows, "train.jsonl"))
    assert [row["gold"] for row in drawn] == ["7", "7"]


def test_gpqa_is_shuffled_the_same_way_each_time(tmp_path, monkeypatch):
    small(monkeypatch, "gpqa-diamond", size=40)
    rows = [
        {
            "Question": f"Question {n}?",
            "Correct Answer": "yes\n",
            **{f"Incorrect Answer {i}": f"no {i}" for i in (1, 2, 3)},
        }
        for n in range(40)
    ]
    found = load_benchmark("gpqa-diamond", write(tmp_path, "gpqa_diamond", rows))
    assert all(f"\n{row['gold']}. yes\n" in row["query"] + "\n" for row in found)
    assert {row["gold"] for row in found} == set("ABCD")
    assert found == load_benchmark("GPQA_diamond", tmp_path)


def test_the_folder_may_come_from_the_environment(tmp_path, monkeypatch):
    small(monkeypatch, "aime25", size=1)
    monkeypatch.setenv(FOLDER_VARIABLE, str(write(tmp_path, "aime25", [{"problem": "1+1?", "answer": 2}])))
    assert load_benchmark("aime25") == [{"id": "aime25-0", "query": "1+1?", "gold": "2", "meta": {}}]


def test_the_hub_is_read_through_datasets(tmp_path, monkeypatch):
    # `datasets` reads a local folder as it reads a repository of the Hub.
    folder = write(tmp_path, "hub", [{"problem": "1+1?", "answer": 2.0, "url": "u"}]) / "hub"
    small(monkeypatch, "amc23", size=1, hub=str(folder))
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    assert load_benchmark("amc23") == [{"id": "amc23-0", "query": "1+1?", "gold": "2", "meta": {"url": "u"}}]


def test_a_hub_that_does_not_answer_is_told(monkeypatch):
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(CFTError, match=rf"math-ai/aime25, split test cannot be read from the Hub .*{FOLDER_VARIABLE}"):
        load_benchmark("aime25")


def test_another_size_names_both(tmp_path):
    folder = write(tmp_path, "aime25", [{"problem": "1+1?", "answer": "2"}] * 31)
    with pytest.raises(CFTError, match=r"test\.jsonl: 31 rows, but published aime25 has 30"):
        load_benchmark("aime25", folder)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"problem": "1+1?"}], r"line 1: aime25 needs a column answer; found problem"),
        ([{"prompt": "1+1?", "answer": "2"}], r"needs a column problem or question; found prompt, answer"),
        ([{"problem": " ", "answer": "2"}], r"line 1: aime25 has an empty question"),
        ([{"problem": 3, "answer": "2"}], r"line 1: aime25 has an empty question"),
        ([{"problem": "1+1?", "answer": ""}], r"line 1: aime25 finds no answer in column answer"),
        ([["1+1?", "2"]], r"line 1: a row must be an object with columns; got list"),
    ],
)
def test_rows_that_cannot_be_read_are_named(tmp_path, monkeypatch, rows, message):
    small(monkeypatch, "aime25", size=1)
    with pytest.raises(CFTError, match=message):
        load_benchmark("aime25", write(tmp_path, "aime25", rows))


def test_a_column_of_another_type_is_told(tmp_path, monkeypatch):
    small(monkeypatch, "math", size=1)
    with pytest.raises(CFTError, match=r"line 1: math cannot read this row's columns"):
        load_benchmark("math", write(tmp_path, "math", [{"problem": "1+1?", "solution": 2}]))


def test_unknown_names_and_missing_folders_are_told(tmp_path):
    with pytest.raises(CFTError, match=r"'gsm8' is unknown \(did you mean 'gsm8k'\?\); known: math, "):
        load_benchmark("gsm8")
    with pytest.raises(CFTError, match=r"no such folder of benchmarks"):
        load_benchmark("gsm8k", tmp_path / "nowhere")
    with pytest.raises(CFTError, match=r"gsm8k: no file .*gsm8k.test\.jsonl\.gz; put it there"):
        load_benchmark("gsm8k", tmp_path)


@pytest.mark.parametrize(
    ("solution", "gold"),
    [
        (r"so $\boxed{-3}$. Note: $\boxed{3}$ too", "3"),
        (r"$\boxed{-2}$ and $\boxed{1}$", "1"),
        (r"it is $\boxed 5$.", "5"),
        (r"\fbox{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{}", ""),
        ("no box", ""),
    ],
)
def test_gold_from_solution(solution, gold):
    assert benchmarks.gold_from_solution(solution) == gold


def test_no_problem_for_selection_is_in_a_reported_set(shared_data):
    from cft_trl.data.fingerprints import normalised

    reported = {normalised(row["query"]) for row in load_benchmark("math", shared_data / "benchmarks")}
    drawn = load_benchmark("math-validation", shared_data / "benchmarks")
    assert len(drawn) == 500
    assert not [row["query"] for row in drawn if normalised(row["query"]) in reported]
