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


def test_the_truth_is_the_grade_then_a_label_then_a_verdict_that_is_not_the_critiques():
    rows = [
        record(reference_answer="43"),  # its critique is wrong about it
        record(meta={"label": "correct"}),
        record(meta={"label": "algebra"}),
        record(),
        record(critique="Hm."),
        record(critique=None, verdict="right"),
        record(critique="Conclusion: wrong", verdict="right"),
    ]
    assert truths(rows) == ["right", "right", None, None, None, "right", "right"]


def test_a_right_answer_does_not_hide_a_known_error():
    lucky = {"reference_answer": "43", "critique": None}
    rows = [
        record(**lucky, meta={"error_kind": "lucky"}),
        record(**lucky, meta={"first_error_step": 2}),
        record(**lucky, source="arithmetic", response_source="arithmetic:lucky", verdict="wrong"),
        record(**lucky, source="arithmetic", verdict="wrong"),
        record(**lucky, source="arithmetic", response_source="a-model"),
        record(**lucky, meta={"label": "wrong"}),
        record(**lucky, meta={"error_kind": None, "first_error_step": None}),
    ]
    assert truths(rows) == ["wrong", "wrong", "wrong", "wrong", "right", None, "right"]
    asked = {"query": "What is 6 x 7?", "response": "The answer is 42.", "reference_answer": "42"}
    said = ("Conclusion: right", "Conclusion: wrong")
    [pair] = preferences([make_record(**asked, critique=text, meta={"error_kind": "lucky"}) for text in said]).rows
    assert pair["chosen"][0]["content"].endswith("wrong")
    made = preferences([make_record(**asked, critique=text, meta={"label": "wrong"}) for text in said])
    assert (made.rows, made.failures, list(made.left_out.values())) == ([], [], [2])
    made = prompts_for_rl([*(make_record(**asked, meta={"label": "wrong"}) for _ in said), record(**lucky)])
    assert [count for reason, count in made.left_out.items() if "label says" in reason] == [2]


def test_a_response_is_shown_once_and_a_disagreement_is_none():
    right, wrong = "Conclusion: right", "Conclusion: wrong"
    known = [record("b?", reference_answer="42", critique=text) for text in (right, wrong, wrong)]
    made = prompts_for_rl([*(record(critique=text) for text in (right, wrong)), *known], critique_share=1)
    assert [row["verdict"] for row in made.rows] == ["wrong"]
    assert made.left_out == {"critique: the same prompt again": 2}
    assert [at for at, _ in made.failures] == [0, 1]
    assert "do not agree" in made.failures[0][1]
    made = prompts_for_rl(known, critique_share=0)
    assert (len(made.rows), made.left_out) == (1, {"solve: the same prompt again": 2})


def test_a_fifth_are_critiques_and_no_question_is_solved_twice():
    rows = [record(f"{n} x 7?", str(n), reference_answer=str(7 * n)) for n in range(40)] * 2
    made = prompts_for_rl(rows)
    assert made.counts == {"critique": 10, "solve": 40}
    assert made.left_out == {
        "critique: the same prompt again": 40, "solve: the same prompt again": 40,
        "critique: to keep its share of 0.2": 30,
    }  # fmt: skip
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
        prompts_for_rl([record(meta={"label": "wrong"})])
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
    assert (row["task"], row["reference_answer"]) == ("solve", "42")


def test_feedback_is_true_and_has_a_task_only_where_it_can_be_paid_for():
    rows = [record(critique=text, reference_answer="42") for text in ("Conclusion: right", "Hm.")] + [record()]
    made = feedback(rows)
    assert [row["privileged_context"].endswith("Hm.") for row in made.rows] == [True]
    assert made.left_out == {"its critique errs: the response is wrong": 1}
    assert made.failures == [(2, "no reference_answer, which other rows have")]
    assert set(feedback([record(), record("b?")]).rows[0]) == {"prompt", "privileged_context"}


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


def test_only_what_the_model_says_last_is_paid_for_and_zero_is_an_answer():
    def turns(*said):
        return [{"role": role, "content": text} for role, text in said]

    called = turns(("assistant", "Conclusion: right"), ("tool", "42"), ("assistant", "Conclusion: wrong"))
    echoed = turns(("assistant", "Let me see."), ("tool", "Conclusion: wrong"))
    assert verdict_reward([called, echoed, turns(("tool", "Conclusion: wrong"))], verdict=["wrong"] * 3) == [1, 0, 0]
    assert solution_reward(["The answer is 0.", "The answer is 1."], reference_answer=[0, 0]) == [1.0, 0.0]


@pytest.mark.parametrize(
    ("reward", "columns", "told"),
    [(verdict_reward, {}, "no column 'verdict'"), (verdict_reward, {"verdict": [None]}, "has no verdict"),
     (solution_reward, {"reference_answer": [None]}, "no reference_answer"),
     (solution_reward, {"reference_answer": [""]}, "no reference_answer"),
     (solution_reward, {"task": ["judge"], "reference_answer": ["1"]}, "task 'judge' is unknown"),
     (solution_reward, {"task": [None], "reference_answer": ["1"]}, "task None is unknown"),
     (verdict_reward, {"task": [""], "verdict": ["wrong"]}, "task '' is unknown")],
)  # fmt: skip
def test_rows_that_cannot_be_paid_for_end_in_a_line(reward, columns, told):
    with pytest.raises(CFTError, match=told):
        reward(["x"], **columns)
