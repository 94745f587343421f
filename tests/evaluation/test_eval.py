"""`cft eval`: what is asked, kept, counted and told; interrupted, resumed, and with bad input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from conftest import make_model
from eval_runs import GSM8K, Scripted, backend, right_for_even, write_benchmarks
from faulty_server import FaultyServer

from cft_trl.cli import main
from cft_trl.data.prompts import Wording
from cft_trl.data.verdict_vocabulary import Verdicts
from cft_trl.errors import CFTError
from cft_trl.evaluation import backends
from cft_trl.evaluation.backends import Backend, check_fits, out_of_memory
from cft_trl.evaluation.generations import COLUMNS, answer_letter, read_generations
from cft_trl.evaluation.report import make_report
from cft_trl.evaluation.run import run_evaluation
from cft_trl.evaluation.sampling import draw, sample_of
from cft_trl.evaluation.settings import EvalSettings, parse_tasks
from cft_trl.generation.generate import generate
from cft_trl.grading.benchmarks import BENCHMARKS, MATH_SYSTEM, load_benchmark
from cft_trl.grading.intervals import wilson_interval


@pytest.fixture(autouse=True)
def benchmarks(tmp_path, monkeypatch):
    return write_benchmarks(tmp_path / "benchmarks", monkeypatch)


def test_every_generation_is_kept_with_both_verdicts_and_the_scores_are_theirs(tmp_path):
    model = Scripted(lambda c, s: "no idea…" if "Halve" in c[-1]["content"] else right_for_even(c))
    settings = EvalSettings(tasks={"gsm8k": 6, "math-500": None}, max_new_tokens=99)
    result = run_evaluation(settings, backend(model), tmp_path / "out")
    assert result == json.loads((tmp_path / "out" / "evaluation.json").read_text())
    strict = result["tasks"]["gsm8k"]["scores"]["strict"]
    assert strict == {"score": 0.5, "hits": 3, "of": 6, "interval_95": list(wilson_interval(3, 6))}
    math = result["tasks"]["math-500"]
    assert (math["problems"], math["scores"]["strict"]["hits"], math["truncated"], math["failed"]) == (5, 0, 1.0, 0.0)
    assert result["limit"] == {"gsm8k": 6, "math-500": None}
    assert result["prompt"]["system"] == MATH_SYSTEM
    assert result["prompt"]["max_new_tokens"] == 99
    rows = read_generations(tmp_path / "out" / "generations" / "gsm8k.parquet")
    assert list(rows[0]) == list(COLUMNS)
    # The sample of six in the published order, whatever order lighteval shuffles them into.
    sampled = [row["query"] for row in draw(load_benchmark("gsm8k"), 6)]
    assert [row["query"] for row in rows] == sampled == [q["question"] for q in GSM8K if q["question"] in sampled]
    assert result["sample"] == {"gsm8k": sample_of(draw(load_benchmark("gsm8k"), 6), 8)}
    assert [row["strict"] for row in rows] == [row["paper"] for row in rows]
    assert [row["strict"] for row in rows] == [row["extracted"] == row["gold"] for row in rows]
    assert sum(row["strict"] for row in rows) == 3
    assert json.loads(rows[0]["prompt"]) == [
        {"role": "system", "content": MATH_SYSTEM},
        {"role": "user", "content": sampled[0]},
    ]
    assert rows[0]["completion_tokens"] == len(rows[0]["text"].split())
    # Importing lighteval turns it off for the whole process; whoever evaluates may go on training.
    import torch

    assert torch.is_grad_enabled()


@pytest.mark.parametrize("dies_after", [0, 3, 7])
def test_an_interrupted_run_goes_on_from_what_it_has_and_ends_the_same(tmp_path, dies_after):
    settings = EvalSettings(tasks={"gsm8k": None}, samples=2, temperature=0.7)
    answer = lambda c, seed: right_for_even(c) + f" ({seed})"  # noqa: E731
    whole = run_evaluation(settings, backend(Scripted(answer)), tmp_path / "whole")
    broken, again = Scripted(answer, dies_after), Scripted(answer)
    with pytest.raises(OSError, match="killed"):
        run_evaluation(settings, backend(broken), tmp_path / "out")
    assert not (tmp_path / "out" / "evaluation.json").exists()
    resumed = run_evaluation(settings, backend(again), tmp_path / "out")
    assert len(broken.asked) == dies_after
    assert sorted(broken.asked + again.asked) == sorted(set(broken.asked + again.asked))
    assert resumed["from_journal"] == dies_after
    assert resumed["tasks"] == whole["tasks"]
    rows = [read_generations(tmp_path / name / "generations" / "gsm8k.parquet") for name in ("whole", "out")]
    assert rows[0] == rows[1]


def test_a_finished_run_needs_no_model_and_another_one_is_refused_its_folder(tmp_path):
    settings = EvalSettings(tasks={"gsm8k": 4})
    first = run_evaluation(settings, backend(Scripted(right_for_even)), tmp_path / "out")
    idle = backend(None)
    again = run_evaluation(settings, idle, tmp_path / "out")
    assert again == first  # with the seconds of the run that generated
    assert idle.opened == 0
    for other, told in ((replace(settings, max_new_tokens=7), "max_new_tokens None, not 7"),
                        (replace(settings, tasks={"gsm8k": 5}), "'gsm8k': 4")):  # fmt: skip
        with pytest.raises(CFTError, match=told):
            run_evaluation(other, idle, tmp_path / "out")
    with pytest.raises(CFTError, match="other weights"):
        run_evaluation(settings, backend(None, weights="77d0"), tmp_path / "out")
    (tmp_path / "out" / "run.json").unlink()
    with pytest.raises(CFTError, match="not of `cft eval`"):
        run_evaluation(settings, idle, tmp_path / "out")


def test_samples_differ_do_not_depend_on_the_limit_and_count_by_problem(tmp_path):
    # Problem n is answered rightly by n of its 4 samples: whichever four seeds these are.
    drawn: dict[str, list[int]] = {}

    def answer(conversation, seed):
        question = conversation[-1]["content"]
        n, seeds = int(question.split()[1][:-1]), drawn.setdefault(question, [])
        seeds.append(seed)
        return rf"\boxed{{{2 * n if len(seeds) <= n else 99}}}"

    settings = EvalSettings(tasks={"amc23": None}, samples=4, temperature=0.6)
    result = run_evaluation(settings, backend(Scripted(answer)), tmp_path / "all")
    summary = result["tasks"]["amc23"]
    assert (summary["problems"], summary["samples"]) == (4, 4)
    assert summary["scores"]["strict"]["score"] == (0 + 1 + 2 + 3) / 16
    assert summary["scores"]["strict"]["interval_95"] == list(wilson_interval(6 / 4, 4))
    assert summary["pass_at_k"]["strict"] == pytest.approx({"1": 6 / 16, "2": (0 + 1 / 2 + 5 / 6 + 1) / 4, "4": 3 / 4})
    assert all(len(set(seeds)) == 4 for seeds in drawn.values())
    few = Scripted(answer)
    run_evaluation(replace(settings, tasks={"amc23": 2}), backend(few), tmp_path / "few")
    questions = sorted({question for question, _ in few.asked})
    assert len(questions) == 2
    assert sorted(seed for _, seed in few.asked) == sorted(drawn[questions[0]][:4] + drawn[questions[1]][:4])
    other = Scripted(answer)
    run_evaluation(replace(settings, tasks={"amc23": 1}, seed=5), backend(other), tmp_path / "seed")
    [question] = {question for question, _ in other.asked}
    assert question in questions  # a smaller sample lies within a larger one
    assert not {seed for _, seed in other.asked} & set(drawn[question][:4])


def test_two_stages_keep_their_rounds_and_the_last_solution_counts(tmp_path):
    def answer(conversation, seed):
        text = conversation[-1]["content"]
        if "critique" in text.lower():
            return "Conclusion: " + ("right" if "box" in text and "99" not in text else "wrong") + " [END]"
        return r"\boxed{99}" if seed % 2 else right_for_even(conversation)

    settings = EvalSettings(tasks={"gsm8k": None}, mode="two_stage", temperature=0.5)
    run_evaluation(settings, backend(Scripted(answer)), tmp_path / "out")
    rows = read_generations(tmp_path / "out" / "generations" / "gsm8k.parquet")
    assert {row["mode"] for row in rows} == {"two_stage"}
    assert len({row["rounds"] for row in rows}) > 1
    for row in rows:
        assert row["meta"]["verdicts"] == ["wrong"] * (row["rounds"] - 1) + [row["meta"]["verdicts"][-1]]
        assert row["rounds"] == 8 or (row["meta"]["verdicts"][-1] == "right" and row["extracted"] != "99")


def test_letters_are_read_and_never_guessed(tmp_path):
    texts = iter([r"\boxed{A}", "The answer is (B).", "Some of them. Or A man.", r"so $\boxed{\text{A. 3}}$"])
    run_evaluation(
        EvalSettings(tasks={"mmlu-pro": None}), backend(Scripted(lambda c, s: next(texts))), tmp_path / "out"
    )
    rows = {row["text"]: row for row in read_generations(tmp_path / "out" / "generations" / "mmlu-pro.parquet")}
    assert [row["extracted"] for row in rows.values()].count(None) == 1
    assert {text: row["strict"] for text, row in rows.items()} == {
        r"\boxed{A}": True, "The answer is (B).": False, "Some of them. Or A man.": False,
        r"so $\boxed{\text{A. 3}}$": True,
    }  # fmt: skip
    assert next(iter(rows.values()))["meta"] == {"category": "easy"}
    for text in ("**Answer: (C)**", "So the correct option is C", "C", "(c) is wrong, (b) too: the answer is C."):
        assert answer_letter(text) == "C", text
    for text in ("Answer: ABC", r"\boxed{B because 3}", "I would say so", ""):
        assert answer_letter(text) is None, text


def test_mt_bench_asks_both_turns_and_the_judge_once(tmp_path, monkeypatch):
    judged = Scripted(lambda c, s: "Too short." if "Write of 1" in c[-1]["content"] else "Good.\nScore: 8")
    judged.model = "judge"
    monkeypatch.setattr("cft_trl.evaluation.mt_bench.open_judge", lambda text, extra: judged)
    model = Scripted(lambda c, s: f"Text of {len(c)} messages.")
    settings = EvalSettings(tasks={"mt-bench": None}, judge="judge")
    result = run_evaluation(settings, backend(model), tmp_path / "out")
    rows = read_generations(tmp_path / "out" / "generations" / "mt-bench.parquet")
    assert [row["id"] for row in rows] == ["mt-bench-0.1", "mt-bench-0.2", "mt-bench-1.1", "mt-bench-1.2"]
    second = json.loads(rows[1]["prompt"])
    assert [message["role"] for message in second] == ["user", "assistant", "user"]
    assert second[1]["content"] == rows[0]["text"]
    assert second[2]["content"] == "Now shorter."
    assert [row["meta"]["score"] for row in rows] == [8.0, 8.0, None, None]
    assert result["tasks"]["mt-bench"]["scores"]["judge"] == {
        "score": 8.0, "of": 1, "interval_95": [3.5, 10.0], "unreadable": 2,
    }  # fmt: skip
    asked = len(judged.asked)
    run_evaluation(settings, backend(None), tmp_path / "out")
    assert len(judged.asked) == asked == 4


def test_ifeval_is_checked_by_the_official_checkers(tmp_path, monkeypatch):
    import nltk

    # An empty table of abbreviations is a legal one.
    punkt = tmp_path / "nltk" / "tokenizers" / "punkt_tab" / "english"
    punkt.mkdir(parents=True)
    for name in ("abbrev_types.txt", "collocations.tab", "ortho_context.tab", "sent_starters.txt"):
        (punkt / name).write_text("")
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path / "nltk")])
    model = Scripted(lambda c, s: "One. Two words." if "two" in c[-1]["content"] else "Here, a comma.\nNone")
    result = run_evaluation(EvalSettings(tasks={"ifeval": None}), backend(model), tmp_path / "out")
    assert model.systems == {None}
    scores = result["tasks"]["ifeval"]["scores"]
    assert {name: score["score"] for name, score in scores.items()} == {
        "strict": 0.5, "loose": 1.0, "instruction_strict": 2 / 3, "instruction_loose": 1.0,
    }  # fmt: skip
    rows = read_generations(tmp_path / "out" / "generations" / "ifeval.parquet")
    assert [row["strict"] for row in rows] == [False, True]
    assert [row["paper"] for row in rows] == [None, None]


def test_ifeval_says_what_it_lacks_before_anything_is_asked(tmp_path, monkeypatch):
    import nltk

    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    monkeypatch.setattr(nltk, "download", lambda *a, **k: False)
    with pytest.raises(CFTError, match="punkt_tab"):
        run_evaluation(EvalSettings(tasks={"ifeval": None}), backend(None), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_endpoint_that_goes_away_ends_the_run_and_a_rerun_asks_only_the_rest(tmp_path, monkeypatch):
    settings = EvalSettings(tasks={"gsm8k": None})
    with FaultyServer(delay=0.05) as server:
        with Backend("endpoint", "m", base_url=server.url, concurrency=2) as one:
            one._generator = replace(one.generator(), max_attempts=2, backoff=0.01)
            answered = []

            def until_it_stops(model, requests, on_result):
                def keep(index, generation):
                    on_result(index, generation)
                    answered.append(index)
                    if len(answered) == 3:
                        server.stop()

                return generate(model, requests, keep)

            with monkeypatch.context() as patch:
                patch.setattr("cft_trl.generation.journaled.generate", until_it_stops)
                with pytest.raises(CFTError, match=r"generations are kept|is kept, run it again"):
                    run_evaluation(settings, one, tmp_path / "out")
        assert 3 <= len(answered) < 8
        server.start()
        with Backend("endpoint", "m", base_url=server.url) as one:
            result = run_evaluation(settings, one, tmp_path / "out")
        assert result["tasks"]["gsm8k"]["problems"] == len(server.answered) == 8
        assert result["from_journal"] == len(answered)


def test_a_model_that_does_not_fit_is_told_in_one_line(tmp_path, tokenizer, monkeypatch):
    make_model(tokenizer).save_pretrained(tmp_path)
    check_fits(str(tmp_path), "cpu")
    monkeypatch.setattr(backends, "free_memory", lambda device: 2**10)
    with pytest.raises(CFTError, match="GiB for its weights, but"):
        check_fits(str(tmp_path), "cpu")
    import torch

    for error in (MemoryError(), torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("can't allocate memory")):
        with pytest.raises(CFTError, match="batch-size"), out_of_memory("it does not fit"):
            raise error
    with pytest.raises(RuntimeError, match="shape"), out_of_memory("it does not fit"):
        raise RuntimeError("shape mismatch")


def test_a_hub_ids_revision_is_the_commit_that_was_used(tmp_path, monkeypatch):
    # The cache's own layout: refs/main names the commit whose files lie in snapshots/.
    repository = tmp_path / "hub" / "models--owner--name"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0123abcd")
    (repository / "snapshots" / "0123abcd").mkdir(parents=True)
    (repository / "snapshots" / "0123abcd" / "config.json").write_text("{}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    assert Backend("transformers", "owner/name").commit() == "0123abcd"
    assert Backend("endpoint", "owner/name", base_url="http://localhost:1/v1").commit() is None
    (tmp_path / "config.json").write_text("{}")
    assert Backend("transformers", str(tmp_path)).commit() is None


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--tasks", "gsm9k"], "did you mean 'gsm8k'"),
        (["--tasks", "gsm8k,gsm8k:3"], "named twice"),
        (["--tasks", "gsm8k:x"], "write gsm8k:100"),
        (["--tasks", "theoremqa"], "no file"),
        (["--samples", "4", "--tasks", "amc23"], "repeats one greedy run"),
        (["--grader", "strikt"], "did you mean 'strict'"),
        (["--mode", "critique"], "eval-critic"),
        (["--mode", "two_stages"], "did you mean 'two_stage'"),
        (["--tasks", "mt-bench"], "--judge"),
        (["--backend", "endpoint"], "--base-url"),
        (["--backend", "vlm"], "did you mean 'vllm'"),
        (["--backend", "endpoint", "--base-url", "localhost:8000"], "http://"),
    ],
)
def test_bad_input_is_told_in_one_line(tmp_path, capfd, arguments, told):
    model = "m" if "endpoint" in arguments else str(tmp_path / "model")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    tasks = [] if "--tasks" in arguments else ["--tasks", "gsm8k"]
    assert main(["eval", model, *tasks, *arguments, "--output", str(tmp_path / "out")]) == 2
    lines = capfd.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert told in lines[0]
    assert not (tmp_path / "out" / "generations").exists()


def test_a_benchmark_of_the_wrong_size_or_without_its_columns_is_refused(benchmarks, tmp_path):
    file = benchmarks / "gsm8k" / "test.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in GSM8K[:-1]))
    with pytest.raises(CFTError, match="7 rows, but published gsm8k has 8"):
        run_evaluation(EvalSettings(tasks={"gsm8k": 2}), backend(None), tmp_path / "out")
    file.write_text("".join(json.dumps({"question": row["question"]}) + "\n" for row in GSM8K))
    with pytest.raises(CFTError, match="needs a column answer; found question"):
        run_evaluation(EvalSettings(tasks={"gsm8k": 2}), backend(None), tmp_path / "out")


def test_six_and_all():
    assert list(parse_tasks("six", 3).items())[:2] == [("math", 3), ("minerva-math", 3)]
    assert set(BENCHMARKS) - set(parse_tasks("all")) == {"math-validation", "math-500"}


def test_the_command_runs_a_real_tiny_model_and_prints_both_graders(tmp_path, tokenizer, capsys):
    make_model(tokenizer).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    command = ["eval", str(tmp_path / "model"), "--tasks", "gsm8k:3,amc23:2", "--max-new-tokens", "5",
               "--mode", "direct,single_pass", "--output", str(tmp_path / "out")]  # fmt: skip
    assert main(command) == 0
    assert "single_pass" in capsys.readouterr().out
    made = json.loads((tmp_path / "out" / "single_pass-t0" / "evaluation.json").read_text())
    assert made["mode"] == "single_pass"
    assert made["tasks"]["gsm8k"]["mean_completion_tokens"] <= 5
    assert main([*command[:6], "--output", str(tmp_path / "one")]) == 0
    told = capsys.readouterr().out
    assert "comparison only" in told
    assert "strict" in told


def test_a_single_pass_is_read_in_the_words_that_the_model_was_trained_with(tmp_path):
    words = Wording(template="{{ query }} {{ response }}", verdicts=Verdicts(("reject", "accept"), "accept"))
    settings = EvalSettings(tasks={"gsm8k": None}, mode="single_pass", prompt_preset=words)
    says = Scripted(lambda conversation, seed: "\\boxed{99}\n\nConclusion: reject [END]")
    run_evaluation(settings, backend(says), tmp_path / "out")
    rows = read_generations(tmp_path / "out" / "generations" / "gsm8k.parquet")
    assert [row["meta"]["verdicts"] for row in rows] == [["wrong"]] * len(GSM8K)
    found = make_report([tmp_path / "out"])["verdicts"]["gsm8k"]["out"]
    assert (found["wrong"], found["none"], found["wrong_answers_called_wrong"]) == (8, 0, 8)


@pytest.mark.slow
def test_kill_9_and_the_same_command(tmp_path, tokenizer, benchmarks):
    make_model(tokenizer).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    code = (
        "import dataclasses, sys; from cft_trl.grading.benchmarks import BENCHMARKS; from cft_trl.cli import main;"
        "BENCHMARKS['gsm8k'] = dataclasses.replace(BENCHMARKS['gsm8k'], size=8); sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "eval", str(tmp_path / "model"), "--tasks", "gsm8k", "--batch-size", "1",
               "--max-new-tokens", "400", "--output", str(tmp_path / "out")]  # fmt: skip
    journal = tmp_path / "out" / "journal" / "main.jsonl"
    process = subprocess.Popen(command, env=os.environ, stdout=subprocess.DEVNULL)
    while not (journal.is_file() and journal.read_bytes().count(b"\n") >= 2):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out" / "evaluation.json").exists()
    before = journal.read_bytes()
    subprocess.run(command, env=os.environ, check=True, stdout=subprocess.DEVNULL)
    assert journal.read_bytes().startswith(before[: before.rindex(b"\n") + 1])
    made = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert made["from_journal"] == before.count(b"\n") >= 2
    assert made["tasks"]["gsm8k"]["problems"] == 8
