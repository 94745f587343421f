"""Rows and rewards for TRL's other trainers: what is converted, what is left out and told, what is paid for."""

from __future__ import annotations

import json

import pytest

from cft_trl.cli import main
from cft_trl.data.prompts import Prompting
from cft_trl.data.records import make_record
from cft_trl.errors import CFTError
from cft_trl.rewards import refinement_reward, solution_reward, verdict_reward
from cft_trl.sources.trl_layouts import feedback, preferences, prompts_for_rl, truths


def record(query="6 x 7?", answer="43", critique="No. Conclusion: wrong", **more):
    return make_record(query=query, response=f"The answer is {answer}.", critique=critique, **more)


def test_the_truth_is_the_grade_then_a_label_then_the_verdict():
    rows = [
        record(reference_answer="43"),  # its critique is wrong about it
        record(meta={"label": "correct"}),
        record(meta={"label": "algebra"}),
        record(),
        record(critique="Hm."),
    ]
    assert truths(rows) == ["right", "right", "wrong", "wrong", None]


def test_a_fifth_are_critiques_and_no_question_is_solved_twice():
    rows = [record(f"{n} x 7?", str(n), reference_answer=str(7 * n)) for n in range(40)] * 2
    made = prompts_for_rl(rows)
    assert made.counts == {"critique": 10, "solve": 40}
    assert made.left_out == {"critique: to keep its share of 0.2": 70}
    solved = [row["prompt"][0]["content"] for row in made.rows if row["task"] == "solve"]
    assert len(set(solved)) == 40
    critiques = [row for row in made.rows if row["task"] == "critique"]
    assert {row["verdict"] for row in critiques} <= {"right", "wrong"}
    asked = {Prompting("cft").user_turn(row) for row in rows}
    assert all(row["prompt"][0]["content"] in asked for row in critiques)
    assert prompts_for_rl(rows).rows == made.rows
    assert prompts_for_rl(rows, seed=1).rows != made.rows


def test_shares_hold_where_a_task_has_few_rows_and_refinements_show_the_critique():
    rows = [record(f"{n}?", str(n), reference_answer="1") for n in range(20)]
    rows += [record("a?", critique=None)]
    made = prompts_for_rl(rows, critique_share=0.25, refine_share=0.25)
    assert made.counts == {"critique": 10, "refine": 10, "solve": 20}
    refined = next(row for row in made.rows if row["task"] == "refine")
    assert "Conclusion: wrong" in refined["prompt"][0]["content"]
    assert refined["verdict"] is None
    assert [at for at, _ in made.failures] == [20]
    assert "nothing says whether" in made.failures[0][1]
    with pytest.raises(CFTError, match="task solve"):
        prompts_for_rl([record()])
    with pytest.raises(CFTError, match="from 0 to 1"):
        prompts_for_rl(rows, critique_share=0.8, refine_share=0.4)


def test_pairs_prefer_the_true_verdict_whatever_the_row_says():
    right, wrong, none = ("Fine. Conclusion: right", "No. Conclusion: wrong", "Hm.")
    rows = [record(critique=text, reference_answer="42") for text in (right, wrong, wrong, none)]
    rows += [record("b?", critique=wrong, verdict="wrong")]
    made = preferences(rows)
    [pair] = made.rows
    assert pair["chosen"][0]["content"].endswith(wrong)
    assert pair["rejected"][0]["content"].endswith(right)
    assert pair["prompt"] == [{"role": "user", "content": Prompting("cft").user_turn(rows[0])}]
    assert made.left_out == {"more critiques on one side than on the other": 1}
    assert [at for at, _ in made.failures] == [3, 4]
    disagreeing = [record(critique=text) for text in (right, wrong)]
    assert "do not agree" in preferences(disagreeing).failures[0][1]


def test_feedback_is_the_attempt_and_its_critique():
    made = feedback([record(reference_answer="42"), record(critique=None)])
    [row] = made.rows
    assert row["prompt"] == [{"role": "user", "content": "6 x 7?"}]
    assert "The answer is 43." in row["privileged_context"]
    assert "Conclusion: wrong" in row["privileged_context"]
    assert made.failures == [(1, "no critique")]


def test_the_command_writes_what_trainers_read_and_lists_the_rest(tmp_path, capsys):
    rows = [dict(record(f"{n}?", str(n), reference_answer="1")) for n in range(8)] + [{"query": "no response"}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    out = tmp_path / "rl" / "train.jsonl"
    assert main(["convert", str(tmp_path / "rows.jsonl"), str(out), "--to", "trl-prompts"]) == 3
    told = capsys.readouterr()
    assert "10 rows (2 critique, 8 solve) of 9 as trl-prompts" in told.out
    assert "1 not converted" in told.err
    assert "left out: critique" in told.err
    assert len(out.read_text().splitlines()) == 10
    assert len((tmp_path / "rl" / "train.jsonl.failures.jsonl").read_text().splitlines()) == 1
    parquet = tmp_path / "rl" / "feedback.parquet"
    assert main(["convert", str(tmp_path / "rows.jsonl"), str(parquet), "--to", "trl-feedback"]) == 3
    from datasets import Dataset

    assert Dataset.from_parquet(str(parquet)).column_names == [
        "prompt",
        "privileged_context",
        "task",
        "reference_answer",
    ]
    for words, line in (
        (["--to", "trl-feedback", "--seed", "1"], "--seed does not belong to --to trl-feedback"),
        (["--to", "records", "--critique-share", "0.5"], "--critique-share belongs to"),
        (["--to", "trl-preference"], "none of its 9 rows"),
        (["--to", "trl-prompts", "--from", "records"], "--from records"),
    ):
        assert main(["convert", str(tmp_path / "rows.jsonl"), str(tmp_path / "x.jsonl"), *words]) == 2
        assert line in capsys.readouterr().err
    assert not (tmp_path / "x.jsonl").exists()


def test_rewards_are_for_their_task_and_read_messages_and_texts():
    said = [
        [{"role": "assistant", "content": text}] for text in ("Conclusion: wrong", "Conclusion: right", r"\boxed{42}")
    ]
    tasks, truth, reference = ["critique", "critique", "solve"], ["wrong", "wrong", None], [None, None, "42"]
    assert verdict_reward(said, tasks, truth, prompts=[], trainer_state=None) == [1.0, 0.0, None]
    assert solution_reward(said, tasks, reference) == [None, None, 1.0]
    assert refinement_reward(said, ["refine"] * 3, ["42", "43", "42"]) == [0.0, 0.0, 1.0]
    assert verdict_reward(["<think>Conclusion: right</think>\nConclusion: wrong"], verdict=["wrong"]) == [1.0]


@pytest.mark.parametrize(
    ("reward", "columns", "told"),
    [(verdict_reward, {}, "no column 'verdict'"), (verdict_reward, {"verdict": [None]}, "has no verdict"),
     (solution_reward, {"reference_answer": [None]}, "no reference_answer"),
     (solution_reward, {"task": ["judge"], "reference_answer": ["1"]}, "task 'judge' is unknown")],
)  # fmt: skip
def test_rows_that_cannot_be_paid_for_end_in_a_line(reward, columns, told):
    with pytest.raises(CFTError, match=told):
        reward(["x"], **columns)
