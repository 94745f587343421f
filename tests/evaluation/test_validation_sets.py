"""What a checkpoint is chosen on: sets that share no problem with what is reported, files of both kinds."""

from __future__ import annotations

import json

import pytest

from cft_trl.data.fingerprints import normalised
from cft_trl.errors import CFTError
from cft_trl.evaluation import validation as validation_module
from cft_trl.evaluation.validation import load_validation
from cft_trl.generation.local import Generation

REPORTED = {
    "math": [{"query": "What is $2 + 2$?", "gold": "4"}, {"query": "How many primes are below 10?", "gold": "4"}],
    "gsm8k": [{"query": "Ann has 3 eggs and eats 1. How many are left?", "gold": "2"}],
}


@pytest.fixture
def reported(monkeypatch):
    """The benchmarks of this test: two that can be read, and a validation set that shares a problem with one."""

    def load(name, folder=None):
        if name == "math-validation":
            return [{"id": f"v{i}", "query": f"{i} + 1?", "gold": str(i + 1)} for i in range(3)] + REPORTED["math"][:1]
        if name not in REPORTED:
            raise CFTError(f"{name}: no such file")
        return REPORTED[name]

    monkeypatch.setattr(validation_module, "load_benchmark", load)


def write_rows(path, *rows) -> str:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return str(path)


def test_the_drawn_set_loses_what_is_reported_too_and_says_so(reported):
    found = load_validation(limit=10)
    assert [row["id"] for row in found.rows] == ["v0", "v1", "v2"]
    assert (found.kind, found.max_new_tokens) == ("answers", 2048)
    unchecked, left_out = found.notes
    assert "gpqa-diamond" in unchecked
    assert "gsm8k" not in unchecked
    assert left_out == "left out: 1 of its problems in math"
    [system, user] = found.conversations("paper")[0]
    assert (system["role"], user["content"]) == ("system", "0 + 1?")


@pytest.mark.parametrize("query", ["what is 2+2?", "How many\nprimes are below $10$?"])
def test_a_set_that_overlaps_what_is_reported_is_refused(reported, tmp_path, query):
    path = write_rows(tmp_path / "mine.jsonl", {"query": "1 + 1?", "gold": "2"}, {"query": query, "answer": 4})
    with pytest.raises(CFTError, match="overlaps what is reported: 1 of its problems in math;"):
        load_validation(path)
    forced = load_validation(path, force=True)
    assert len(forced.rows) == 2
    assert "forced: 1 of its problems in math" in forced.notes[-1]
    with pytest.raises(CFTError, match="1 of its problems in gsm8k"):
        load_validation("gsm8k")


def test_a_copy_in_other_typing_is_found(shared_data, monkeypatch, tmp_path):
    """Curly apostrophes, no final question mark: the decontamination stage knows such copies, and so does this."""
    questions = [row["query"] for row in validation_module.load_benchmark("gsm8k", shared_data / "benchmarks")]
    typed = [q.replace("'", "\u2019").rstrip("? ") for q in questions if "'" in q or "\u2019" in q][:8]
    path = write_rows(tmp_path / "mine.jsonl", *({"query": query, "gold": "1"} for query in typed))
    only = {"gsm8k": [{"id": str(at), "query": query} for at, query in enumerate(questions)]}

    def load(name, folder=None):
        if name not in only:
            raise CFTError(f"{name}: not here")
        return only[name]

    monkeypatch.setattr(validation_module, "load_benchmark", load)
    with pytest.raises(CFTError, match="8 of its problems in gsm8k"):
        load_validation(path)


def test_real_validation_problems_are_in_nothing_that_is_reported(shared_data, monkeypatch):
    monkeypatch.setenv("CFT_BENCHMARKS_DIR", str(shared_data / "benchmarks"))
    found = load_validation()
    test = {normalised(row["query"]) for row in validation_module.load_benchmark("math")}
    assert not test & {normalised(row["query"]) for row in found.rows}
    assert 490 <= len(found.rows) <= 500
    with pytest.raises(CFTError, match="500 of its problems in math, 500 of its problems in math-500"):
        load_validation("MATH_500")


def test_files_of_both_kinds(reported, tmp_path):
    answers = write_rows(
        tmp_path / "a.jsonl",
        {"problem": "1 + 1?", "solution": r"It is $\boxed{2}$."},
        {"question": "3 + 4?", "answer": "3 + 4 = 7 #### 7"},
        {"query": "1 / 2?", "gold": 0.5},
    )
    found = load_validation(answers, max_new_tokens=30)
    assert [row["gold"] for row in found.rows] == ["2", "7", "0.5"]
    texts = [r"so \boxed{2}", "I add them up.\nI am not sure what comes out of it.", r"\boxed{\frac{1}{2}}"]
    summary, hits = found.score([Generation(text, "length" if i else "stop", 1, 1) for i, text in enumerate(texts)])
    assert hits == [True, False, True]
    assert found.majority_rate is None
    assert (summary["hits"], summary["of"], summary["truncated"], summary["no_answer"]) == (2, 3, 2 / 3, 1 / 3)

    labelled = write_rows(tmp_path / "v.jsonl", {"query": "1?", "response": "1", "verdict": "right"},
                          {"query": "2?", "response": "3", "verdict": False})  # fmt: skip
    found = load_validation(labelled)
    assert (found.kind, found.max_new_tokens, found.rows[1]["verdict"]) == ("verdicts", 512, "wrong")
    texts = ["Conclusion: wrong [END]", "Conclusion: wrong [END]"]
    summary, hits = found.score([Generation(text, "stop", 1, 1) for text in texts])
    assert (hits, summary["no_verdict"]) == ([False, True], 0.0)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"query": "1?", "response": "1"}], "line 1: no verdict to compare with"),
        ([{"query": "1?", "gold": "1"}, {"query": "1?", "response": "1", "verdict": "right"}], "holds both"),
        ([{"query": "1?", "gold": ""}], "no answer found"),
        ([], "no rows"),
    ],
)
def test_files_that_nothing_can_be_chosen_on(reported, tmp_path, rows, said):
    with pytest.raises(CFTError, match=said):
        load_validation(write_rows(tmp_path / "x.jsonl", *rows))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("math-validaton",), "did you mean 'math-validation'"), (("mt-bench",), "no answers to grade"),
     (("gsm8k", 0), "limit=0: give 1 or more")],
)  # fmt: skip
def test_names_that_nothing_can_be_chosen_on(reported, arguments, said):
    with pytest.raises(CFTError, match=said):
        load_validation(*arguments)
