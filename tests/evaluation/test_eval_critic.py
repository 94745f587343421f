"""`cft eval-critic`: ProcessBench's rows and scores, runs that go on after a kill, and what the user gets wrong."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from faulty_server import FaultyServer

from cft_trl.cli import main
from cft_trl.errors import CFTError
from cft_trl.evaluation.backends import Backend
from cft_trl.evaluation.critic import judge, score_verdicts
from cft_trl.evaluation.critic_run import CriticSettings, run_eval_critic, score_lines
from cft_trl.evaluation.processbench import SUBSETS, from_processbench, load_critic_rows
from cft_trl.grading.intervals import wilson_interval


def processbench_row(at: int, label: int = -1, **more) -> dict:
    return {"id": f"gsm8k-{at}", "generator": "none", "problem": f"What is {at} + 1 + 1?",
            "steps": [f"{at} + 1 = {at + 1}.", f"{at + 1} + 1 = {at + 2 + (label == 1)}."],
            "final_answer_correct": label == -1, "label": label, **more}  # fmt: skip


@pytest.fixture
def rows_file(tmp_path):
    """Twelve rows in ProcessBench's columns, half of them wrong in the second step."""
    path = tmp_path / "mine.json"
    path.write_text(json.dumps([processbench_row(at, 1 if at % 2 else -1) for at in range(12)]))
    return path


@pytest.fixture
def tiny(tokenizers, tiny_model, tmp_path):
    folder = tmp_path / "tiny"
    tiny_model(tokenizers("chatml")).save_pretrained(folder)
    tokenizers("chatml").save_pretrained(folder)
    return folder


# ---- rows ------------------------------------------------------------------------------------------------------------


def test_steps_are_numbered_from_one_and_once():
    steps = ["Add.", "**Step 1:** 4 + 1 = 6", "### Step 3: So **6**.", "**Step 4: End.**\nSee step 2.", "Step 9"]
    row = from_processbench(processbench_row(3, 1, steps=steps), "r", "x")
    assert row["response"].split("\n\n") == [
        "Step 1: Add.",
        "Step 2: 4 + 1 = 6",
        "Step 3: ### So **6**.",
        "Step 4: **End.**\nSee step 2.",
        "Step 5: Step 9",
    ]
    assert (row["verdict"], row["first_error"]) == ("wrong", 2)
    right = from_processbench(processbench_row(3, final_answer_correct=False), "r", "x")
    assert (right["verdict"], right["first_error"]) == ("right", None)
    # A right final answer does not make a wrong step right.
    lucky = from_processbench(processbench_row(3, 0, final_answer_correct=True), "r", "x")
    assert (lucky["verdict"], lucky["first_error"]) == ("wrong", 1)


def test_real_processbench(shared_data):
    found = load_critic_rows(str(shared_data / "critic"))
    assert {subset: len(rows) for subset, rows in found.items()} == SUBSETS
    rows = found["gsm8k"]
    assert sum(row["verdict"] == "right" for row in rows) == 193
    raw = json.loads(gzip.decompress((shared_data / "critic" / "processbench_gsm8k.json.gz").read_bytes()))
    for row, given in zip(rows, raw, strict=True):
        assert (row["first_error"] or 0) == given["label"] + 1
        assert row["verdict"] == ("right" if given["label"] == -1 else "wrong")
        for number in range(1, len(given["steps"]) + 1):
            assert f"Step {number}: " in row["response"]
    assert len(load_critic_rows(str(shared_data / "critic"), ["math"], 7)["math"]) == 7


def test_a_subset_of_another_size_is_refused(tmp_path):
    (tmp_path / "processbench_gsm8k.json").write_text(json.dumps([processbench_row(0)]))
    with pytest.raises(CFTError, match="gsm8k: 1 rows, but the published subset has 400"):
        load_critic_rows(str(tmp_path), ["gsm8k"])


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"problem": None}, "needs column problem; found id, generator, problem, steps"),
        ({"label": None}, "needs column label; found id"),
        ({"label": 2}, "'label' is 2"),
        ({"label": -2}, "'label' is -2"),
        ({"label": "1"}, "'label' is '1'"),
        ({"steps": []}, "'steps' must be a list of texts"),
        ({"steps": ["a", " "]}, "none of them empty"),
        ({"steps": "a"}, "'steps' must be"),
    ],
)
def test_rows_that_make_no_sense(tmp_path, row, said):
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([processbench_row(0), processbench_row(1, **row)]))
    with pytest.raises(CFTError, match=r"rows\.json, row 1: ") as told:
        load_critic_rows(str(path))
    assert said in str(told.value)


def test_labelled_rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    lines = [
        {"query": "2+2?", "response": "5", "correct": False},
        {"query": "2+2?", "response": "4", "verdict": "right"},
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    [rows] = load_critic_rows(str(path)).values()
    assert [row["verdict"] for row in rows] == ["wrong", "right"]
    path.write_text(json.dumps({"query": "2+2?", "response": "5"}))
    with pytest.raises(CFTError, match=r"row 0: no label; give a column verdict"):
        load_critic_rows(str(path))


# ---- scores ----------------------------------------------------------------------------------------------------------


def judged(truth, verdict, first=None, named=None):
    return {"truth": truth, "verdict": verdict, "first_error": first, "named_step": named, "steps": 4}


def test_scores_by_hand():
    """Of 4 right solutions 3 found; of 6 wrong ones 4 found, and the step of 2."""
    rows = [*[judged("right", "right")] * 3, judged("right", "wrong", None, 1),
            judged("wrong", "wrong", 2, 2), judged("wrong", "wrong", 3, 3), judged("wrong", "wrong", 3, 1),
            judged("wrong", "wrong", 3), judged("wrong", None, 2), judged("wrong", "right", 1)]  # fmt: skip
    score = score_verdicts(rows)
    assert (score["accuracy"], score["majority_rate"], score["no_verdict"]) == (0.7, 0.6, 1)
    assert (score["accuracy_right"], score["accuracy_wrong"]) == (3 / 4, 4 / 6)
    assert score["f1"] == pytest.approx(2 * 0.75 * (4 / 6) / (0.75 + 4 / 6))
    found = score["first_error"]
    assert (found["rows"], found["hits"], found["named"], found["chance"]) == (6, 2, 3, 0.25)
    assert found["majority_rate"] == 0.5  # three of six in step 3
    assert found["interval_95"] == pytest.approx(wilson_interval(2, 6))
    # ProcessBench: accuracy on wrong solutions asks for the step.
    assert found["f1"] == pytest.approx(2 * 0.75 * (2 / 6) / (0.75 + 2 / 6))
    assert score["f1_interval_95"][0] < score["f1"] < score["f1_interval_95"][1]


def test_one_verdict_for_all_is_worth_nothing():
    rows = [judged(truth, "wrong", 1, 1) for truth in ("right", "wrong")]
    score = score_verdicts(rows)
    assert (score["accuracy"], score["f1"], score["first_error"]["f1"]) == (0.5, 0.0, 0.0)


def test_only_a_critique_that_concludes_wrong_names_a_step():
    row = {"id": "a", "verdict": "wrong", "steps": ["a", "b"], "first_error": 2}
    assert judge(row, "Step 2 is wrong.\n\nConclusion: wrong [END]")["named_step"] == 2
    assert judge(row, "Step 2 is wrong.\n\nConclusion: right [END]")["named_step"] is None
    assert judge(row, "Step 2 is wrong.")["named_step"] is None


def test_labels_without_steps_have_no_step_score():
    assert "first_error" not in score_verdicts([judged("right", "right"), judged("wrong", "wrong")])
    assert "f1" not in score_verdicts([judged("right", "right")])


# ---- runs ------------------------------------------------------------------------------------------------------------


def settings(rows_file, **more):
    return CriticSettings(data=str(rows_file), **{"max_new_tokens": 16, **more})


def read(folder: Path, name: str = "mine") -> list[dict]:
    import pyarrow.parquet as pq

    return pq.read_table(folder / "generations" / f"{name}.parquet").to_pylist()


@pytest.mark.slow
def test_a_run_on_a_faulty_endpoint_is_that_on_a_sound_one(rows_file, tmp_path):
    results = {}
    for faults in (0.0, 0.4):
        with FaultyServer(faults=faults) as server:
            output = tmp_path / str(faults)
            backend = Backend("endpoint", "m", base_url=server.url)
            results[faults] = run_eval_critic(settings(rows_file), backend, output)["subsets"], read(output)
    assert results[0.0] == results[0.4]
    figures, lines = results[0.0]
    assert [line["id"] for line in lines] == [f"gsm8k-{at}" for at in range(12)]
    assert figures["mine"] == score_lines(lines)
    assert {line["verdict"] for line in lines} & {"right", "wrong"}
    assert json.loads(lines[1]["prompt"])[-1]["content"].count("Step 2: 2 + 1 = 4.") == 1


def test_what_is_there_is_not_asked_again(rows_file, tiny, tmp_path, monkeypatch):
    from cft_trl.generation.local import LocalModel

    output, real = tmp_path / "out", LocalModel.write

    def interrupted(self, requests, on_result):
        def stop_after_four(index, generation, seen=[]):  # noqa: B006 (counts the calls)
            on_result(index, generation)
            seen.append(index)
            if len(seen) == 4:
                raise KeyboardInterrupt

        return real(self, requests, stop_after_four)

    with monkeypatch.context() as patch, Backend("transformers", str(tiny)) as backend:
        patch.setattr(LocalModel, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_eval_critic(settings(rows_file), backend, output)
    assert not (output / "critic.json").exists()
    with Backend("transformers", str(tiny)) as backend:
        kept = run_eval_critic(settings(rows_file, limit=8), backend, output)["from_journal"]
        whole = run_eval_critic(settings(rows_file), backend, output)
    assert 0 < kept <= 4  # of the four that were there, those in the sample of eight
    assert (whole["from_journal"], whole["subsets"]["mine"]["rows"]) == (8 + 4 - kept, 12)
    lines = read(output)
    # Everything is there: the same command needs no model, and gives the same file.
    monkeypatch.setattr(Backend, "generator", lambda self: pytest.fail("asked again"))
    with Backend("transformers", str(tiny)) as backend:
        again = run_eval_critic(settings(rows_file), backend, output)
    assert again["subsets"] == whole["subsets"]
    assert read(output) == lines


def test_a_folder_of_another_run_is_refused(rows_file, tiny, tmp_path):
    output = tmp_path / "out"
    with Backend("transformers", str(tiny)) as backend:
        run_eval_critic(settings(rows_file, limit=2), backend, output)
        with pytest.raises(CFTError, match="a run with max_new_tokens 16, not 17"):
            run_eval_critic(settings(rows_file, max_new_tokens=17), backend, output)
        for folder, file in ((tmp_path / "e", "run.json"), (tmp_path / "f", "thesis.tex")):
            folder.mkdir()
            (folder / file).write_text('{"model": "m"}')
            with pytest.raises(CFTError, match="not of `cft eval-critic`"):
                run_eval_critic(settings(rows_file), backend, folder)


def test_the_command(rows_file, tiny, tmp_path, capsys):
    out = tmp_path / "out"
    assert (
        main(["eval-critic", str(tiny), "--data", str(rows_file), "--max-new-tokens", "8", "--output", str(out)]) == 0
    )
    shown = capsys.readouterr().out
    for part in ("F1 with the step (ProcessBench)", "always the commoner verdict", "no verdict", "critic.json"):
        assert part in shown
    kept = json.loads((out / "critic.json").read_text())
    assert (kept["max_new_tokens"], kept["prompt_preset"], kept["subsets"]["mine"]["rows"]) == (8, "paper", 12)


def test_the_prompt_is_the_one_of_the_training_run(rows_file, tiny, tmp_path):
    (tiny / "settings.json").write_text(json.dumps({"prompt_preset": "compact"}))
    out = tmp_path / "out"
    assert (
        main(["eval-critic", str(tiny), "--data", str(rows_file), "--max-new-tokens", "2", "--output", str(out)]) == 0
    )
    assert json.loads(read(out)[0]["prompt"])[0]["content"].startswith("Critique this solution.")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere/at/all"], "neither a folder here nor a Hub id"),
        (["MODEL", "--subsets", "gms8k", "--data", "processbench"], "did you mean 'gsm8k'?"),
        (["MODEL", "--data", "nowhere.jsonl"], "no such file or folder"),
        (["MODEL", "--data", "DATA", "--subsets", "gsm8k"], "only ProcessBench has them"),
        (["MODEL", "--data", "DATA", "--backend", "endpoint"], "--base-url"),
        (["MODEL", "--data", "DATA", "--output", "FILE"], "not writable"),
    ],
)
def test_mistakes_in_one_line(rows_file, tiny, tmp_path, capsys, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    names = {"MODEL": str(tiny), "DATA": str(rows_file), "FILE": str(tmp_path / "file")}
    assert main(["eval-critic", *(names.get(word, word) for word in arguments)]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_kill_minus_nine(rows_file, tiny, tmp_path):
    """Killed in the middle and run again, it leaves the file of a run that was not."""
    command = [sys.executable, "-m", "cft_trl.cli", "eval-critic", str(tiny), "--data", str(rows_file),
               "--max-new-tokens", "400", "--batch-size", "1", "--output"]  # fmt: skip
    journal = tmp_path / "killed" / "journal" / "critic.jsonl"
    process = subprocess.Popen([*command, str(tmp_path / "killed")], stdout=subprocess.DEVNULL)
    for _ in range(600):
        if journal.is_file() and journal.read_bytes().count(b"\n") >= 3:
            break
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "critic.json").exists()
    for folder in ("killed", "whole"):
        subprocess.run([*command, str(tmp_path / folder)], check=True, stdout=subprocess.DEVNULL)
    assert json.loads((tmp_path / "killed" / "critic.json").read_text())["from_journal"] >= 3
    assert read(tmp_path / "killed") == read(tmp_path / "whole")
