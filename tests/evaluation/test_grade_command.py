"""`cft grade`: the scores come out again without a model, and whatever was changed or misplaced is told."""

from __future__ import annotations

import json
import shutil

import pyarrow.parquet as pq
import pytest
from eval_runs import Scripted, backend, right_for_even, write_benchmarks

from cft_trl.cli import main
from cft_trl.errors import CFTError
from cft_trl.evaluation.generations import pass_at_k, read_generations, summarise, write_generations
from cft_trl.evaluation.run import run_evaluation
from cft_trl.evaluation.settings import EvalSettings
from cft_trl.grading import grade as grading


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """A run's folder; the benchmarks are gone by the time it is graded."""
    with monkeypatch.context() as patch:
        write_benchmarks(tmp_path / "benchmarks", patch, ("gsm8k", "mmlu-pro"))
        model = Scripted(lambda c, s: r"\boxed{A}" if "Which" in c[-1]["content"] else right_for_even(c))
        run_evaluation(EvalSettings(tasks={"gsm8k": None, "mmlu-pro": None}), backend(model), tmp_path / "out")
    shutil.rmtree(tmp_path / "benchmarks")
    return tmp_path / "out"


def change(path, **columns):
    """Changes the first row of a file of generations."""
    rows = read_generations(path)
    rows[0] |= columns
    write_generations(path, rows)


def test_a_run_and_a_single_file_agree_with_what_was_saved(finished, capsys):
    assert main(["grade", str(finished)]) == 0
    told = capsys.readouterr().out
    assert "gsm8k" in told
    assert "50.0 (21.5 to 78.5)" in told
    assert main(["grade", str(finished / "generations" / "mmlu-pro.parquet"), "--grader", "strict"]) == 0
    assert "100.0" in capsys.readouterr().out
    (finished / "evaluation.json").unlink()
    assert main(["grade", str(finished)]) == 0
    assert "no evaluation.json" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"strict": False}, "1 of 8 strict verdicts are not what the grader says now (first: gsm8k-0)"),
        ({"paper": None}, "1 of 8 paper verdicts"),
        ({"text": "I do not know."}, "1 of 8 strict verdicts"),
        ({"gold": "4"}, "1 of 8 strict verdicts"),
    ],
)
def test_changed_generations_are_told(finished, capfd, columns, told):
    change(finished / "generations" / "gsm8k.parquet", **columns)
    assert main(["grade", str(finished)]) == 2
    assert told in capfd.readouterr().err


def test_changed_scores_are_told(finished, capfd):
    saved = json.loads((finished / "evaluation.json").read_text())
    saved["tasks"]["gsm8k"]["scores"]["paper"]["score"] = 0.75
    (finished / "evaluation.json").write_text(json.dumps(saved))
    assert main(["grade", str(finished)]) == 2
    assert "paper is 0.5000, but evaluation.json says 0.7500" in capfd.readouterr().err


def test_what_is_no_file_of_generations_is_told_in_one_line(finished, tmp_path, capfd):
    made = finished / "generations"
    table = pq.read_table(made / "gsm8k.parquet")
    pq.write_table(table.drop_columns(["gold", "text"]), tmp_path / "few.parquet")
    (tmp_path / "text.parquet").write_text("no Parquet at all")
    rows = read_generations(made / "gsm8k.parquet") + read_generations(made / "mmlu-pro.parquet")
    write_generations(tmp_path / "two.parquet", rows)
    write_generations(tmp_path / "other.parquet", [{**rows[0], "task": "gsm9k"}])
    write_generations(tmp_path / "none.parquet", [])
    (tmp_path / "empty").mkdir()
    (made / "math.parquet").write_bytes((made / "gsm8k.parquet").read_bytes())
    for name, told in (
        ("few.parquet", "no column gold, text; found task, id"),
        ("text.parquet", "is not a Parquet file"),
        ("two.parquet", "holds gsm8k, mmlu-pro; a file of generations is of one task"),
        ("other.parquet", "did you mean 'gsm8k'"),
        ("none.parquet", "holds no rows"),
        ("missing.parquet", "no such file"),
        ("empty", "no generations/*.parquet in it"),
        ("out/generations/math.parquet", "holds generations of gsm8k, not of math"),
    ):
        assert main(["grade", str(tmp_path / name)]) == 2, name
        lines = capfd.readouterr().err.strip().splitlines()
        assert len(lines) == 1
        assert told in lines[0]
    (made / "math.parquet").unlink()
    (made / "gsm8k.parquet").unlink()
    assert main(["grade", str(finished)]) == 2
    assert "evaluation.json has gsm8k, but there are no generations of it" in capfd.readouterr().err


def test_options_that_do_not_go_together(tmp_path, capfd):
    for arguments, told in (([], "--self-test"), (["--self-test", "x"], "or --self-test"),
                            (["x", "--grader", "papper"], "did you mean 'paper'")):  # fmt: skip
        assert main(["grade", *arguments]) == 2
        assert told in capfd.readouterr().err


def test_the_self_test_prints_its_table_and_fails_when_the_grader_does(monkeypatch, capfd):
    strict = {"of": 272, "own": 1.0, "respelled": 1.0, "neighbour": 1.0, "zero_for_small": [0, 27],
              "five_percent_off": [0, 187]}  # fmt: skip
    paper = {**strict, "zero_for_small": [27, 27]}
    monkeypatch.setattr(grading, "self_test", lambda names: {"minerva-math": {"strict": strict, "paper": paper}})
    assert main(["grade", "--self-test"]) == 0
    assert "27 of 27" in capfd.readouterr().out
    for broken in ({"own": 0.99}, {"neighbour": 0.9}, {"zero_for_small": [1, 27]}):
        report = {"minerva-math": {"strict": {**strict, **broken}, "paper": paper}}
        monkeypatch.setattr(grading, "self_test", lambda names, report=report: report)
        assert main(["grade", "--self-test"]) == 2
        assert f"minerva-math: {next(iter(broken))} is" in capfd.readouterr().err


def test_a_score_of_samples_is_over_problems():
    row = {"task": "amc23", "text": "", "finish_reason": "stop", "completion_tokens": None, "extracted": None,
           "paper": None, "meta": {}}  # fmt: skip
    rows = [{**row, "id": str(n), "sample": k, "strict": n == 0} for n in range(3) for k in range(4)]
    summary = summarise(rows)
    assert summary["scores"]["strict"]["hits"] == 4
    assert summary["scores"]["strict"]["score"] == pytest.approx(1 / 3)
    assert summary["pass_at_k"]["strict"] == pytest.approx({"1": 1 / 3, "2": 1 / 3, "4": 1 / 3})
    assert "paper" not in summary["scores"]
    # Twelve samples of three problems say as much as three problems, not as twelve.
    low, high = summary["scores"]["strict"]["interval_95"]
    assert high - low > 0.6
    # By counting: of the 10 pairs of 5 samples with 2 right ones, 3 hold none.
    assert pass_at_k(5, 2, 2) == 1 - 3 / 10


def test_a_full_disk_leaves_no_half_file(tmp_path, finished, monkeypatch):
    rows = read_generations(finished / "generations" / "gsm8k.parquet")

    def full(table, path, **_):
        path.write_bytes(b"PAR1 half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(CFTError, match="No space left"):
        write_generations(tmp_path / "new" / "gsm8k.parquet", rows)
    assert list((tmp_path / "new").iterdir()) == []
