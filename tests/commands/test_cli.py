"""The command `cft`: what it does, and the one line it says when the input is wrong."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import REPOSITORY, make_model
from transformers import AutoModelForCausalLM

from cft_trl.cli import COMMANDS, main
from cft_trl.training.checkpoints import newest_whole


@pytest.fixture(scope="module")
def model_folder(tokenizers, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny-model")
    make_model(tokenizers("chatml")).save_pretrained(folder)
    tokenizers("chatml").save_pretrained(folder)
    return folder


@pytest.fixture
def base_flags(model_folder, tmp_path):
    return [
        *("--model_name_or_path", str(model_folder), "--output_dir", str(tmp_path / "run"), "--use_cpu", "true"),
        *("--report_to", "none", "--max_length", "512", "--gradient_checkpointing", "false", "--bf16", "false"),
        *("--disable_tqdm", "true", "--learning_rate", "1e-3", "--per_device_train_batch_size", "2"),
    ]


@pytest.fixture
def write_rows(tmp_path):
    def write(rows, name="rows.jsonl"):
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return str(path)

    return write


def run(capsys, *words):
    """-> (exit code, what it wrote to standard output, its lines on standard error that are not bars or warnings)."""
    capsys.readouterr()
    code = main([str(word) for word in words])
    out, err = capsys.readouterr()
    return code, out, [line for line in err.splitlines() if line.startswith("cft:")]


def test_help_teaches_by_example(capsys):
    for command in COMMANDS:
        try:
            code = main([command, "--help"])
        except SystemExit as stop:
            code = stop.code
        text = capsys.readouterr().out
        assert code == 0
        assert f"cft {command} " in text
        assert "example" in text
    assert main(["--help"]) == main([]) == 0
    assert capsys.readouterr().out.count("cft quickstart") == 2


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("build x.yaml --limt 3", "unknown argument --limt (did you mean '--limit'?); see cft build --help"),
        ("build x.yaml --limit ten", "argument --limit: ten is not a positive whole number; see cft build --help"),
        ("solve", "the following arguments are required: model; see cft solve --help"),
        ("preview --row x", "argument --row: x is not a whole number of 0 or more; see cft preview --help"),
        ("preview --rw 3", "unknown setting --rw (did you mean 'row'?); see cft train --help-all"),
        ("plan --rows y", "argument --rows: y is not a positive whole number; see cft plan --help"),
    ],
)
def test_a_wrong_argument_is_told_in_one_line(line, said, capsys):
    assert main(line.split()) == 2
    assert capsys.readouterr().err == f"cft: {said}\n"


def test_a_reader_that_has_seen_enough_is_no_error():
    script = "import sys; from cft_trl.cli import COMMANDS, main; COMMANDS['x' * 10**6] = 'y'; sys.exit(main([]))"
    command = [sys.executable, "-c", script]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.read(1)
    process.stdout.close()
    assert (process.wait(), process.stderr.read()) == (0, b"")


def test_an_unknown_command_names_the_nearest(capsys):
    assert main(["trian"]) == 2
    assert "did you mean 'train'" in capsys.readouterr().err


def test_training_leaves_a_loadable_model_and_its_account(capsys, base_flags, tmp_path):
    flags = ["--dataset_name", "arithmetic", "--dataset_limit", "30", "--eval_rows", "6", "--max_steps", "4"]
    flags += ["--generated_rows", "3", "--eval_strategy", "steps", "--eval_steps", "2"]
    code, out, errors = run(capsys, "train", *flags, *base_flags)
    assert (code, errors) == (0, [])
    assert "verdicts of free critiques: 0/3 agree" in out
    generations = [json.loads(line) for line in (tmp_path / "run" / "generations.jsonl").read_text().splitlines()]
    assert [row["verdict"] for row in generations] == [None] * 3
    assert "train: rows 30: kept 30" in out
    folder = tmp_path / "run"
    assert json.loads((folder / "metrics.json").read_text())["eval_verdict_count"] == 6
    assert json.loads((folder / "preparation.json").read_text())["train"]["kept"] == 30
    assert (folder / "training.png").read_bytes().startswith(b"\x89PNG")
    assert "verdict_accuracy" in (folder / "README.md").read_text()
    AutoModelForCausalLM.from_pretrained(folder)


def test_config_file_and_flags_that_win(capsys, base_flags, tmp_path, write_rows, rows):
    path = tmp_path / "run.yaml"
    mapped = [{"problem": r["query"], "answer": r["response"], "text": r["critique"].rpartition("\n")[0],
               "label": r["verdict"] == "right"} for r in rows]  # fmt: skip
    path.write_text(
        f"dataset_name: {write_rows(mapped)}\nmax_steps: 7\nappend_verdict: true\n"
        "dataset_columns:\n  query: problem\n  response: answer\n  critique: text\n  verdict: label\n"
    )
    code, out, errors = run(capsys, "train", "--config", path, *base_flags, "--max_steps", "1")
    assert (code, errors) == (0, [])
    assert "verdicts: right 20, wrong 20, none 0" in out
    assert json.loads((tmp_path / "run" / "trainer_state.json").read_text())["global_step"] == 1


def test_preview_shows_what_the_policy_did(capsys, model_folder, write_rows):
    row = {"query": "How many?", "response": "blah " * 300 + "THE END", "critique": "No.\nConclusion: wrong [END]"}
    flags = ["--model_name_or_path", model_folder, "--dataset_name", write_rows([row, row]), "--row", "1"]
    code, out, errors = run(capsys, "preview", *flags, "--max_length", "150")
    assert (code, errors) == (0, [])
    assert "row 1" in out
    assert re.search(r"shortened, 1(50|4\d) tokens", out)
    assert "Conclusion: wrong [END]<|im_end|>" in out
    assert "THE END" not in out
    code, out, _ = run(capsys, "preview", *flags, "--max_length", "150", "--over_length", "drop")
    assert "dropped (longer than 150 tokens)" in out


def test_preview_shows_what_sharing_would_save(capsys, model_folder, write_rows):
    rows = [{"query": "How many?", "response": "blah " * 20, "critique": f"{i}.\nConclusion: wrong [END]"}
            for i in range(5)]  # fmt: skip
    code, out, _ = run(capsys, "preview", "--model_name_or_path", model_folder, "--dataset_name", write_rows(rows))
    assert code == 0
    before, after, ratio = re.search(r"first 5 rows: tokens ([\d,]+) -> ([\d,]+), ([\d.]+)x \(off", out).groups()
    assert float(ratio) == pytest.approx(int(before.replace(",", "")) / int(after.replace(",", "")), abs=0.01)
    assert float(ratio) > 1.5


CRITIQUE = {"query": "q", "response": "r", "critique": "c\n\nConclusion: right [END]"}


@pytest.mark.parametrize(
    ("rows", "flags", "message"),
    [
        ([], [], "rows.jsonl"),
        ([{"text": "t"}], [], "columns text are of no known layout"),
        ([{**CRITIQUE, "query": None}], [], "query"),
        ([{**CRITIQUE, "response": ""}], [], "response"),
        ([{**CRITIQUE, "critique": 7}], [], "critique"),
        ([{**CRITIQUE, "critique": None}], [], "can be used for objective cft: 1 no critique"),
        ([CRITIQUE], ["--objective", "cgd"], "1 no refinement"),
        ([CRITIQUE], ["--max_length", "5"], "max_length=5 is not larger than the prompt template alone"),
        ([CRITIQUE], ["--objective", "poem"], "objective"),
        ([CRITIQUE], ["--max_length", "many"], "max_length"),
        ([CRITIQUE], ["--lerning_rate", "1"], "unknown setting --lerning_rate (did you mean 'learning_rate'?)"),
        ([CRITIQUE], ["--verdict_weight", "2", "--objective", "sft"], "only critiques"),
        ([CRITIQUE], ["--packing", "true", "--packing_strategy", "wrapped"], "cuts critiques in two"),
        ([CRITIQUE], ["--load_best_model_at_end", "true"], "settings:"),
        ([CRITIQUE], ["--eval_rows", "1"], "would hold out all of the 1 rows"),
        ([CRITIQUE], ["--generated_rows", "1"], "generated_rows=1 is more than eval_rows=0"),
        ([CRITIQUE], ["--generated_rows", "1", "--eval_rows", "1", "--objective", "sft"], "set it to 0"),
        ([CRITIQUE], ["--dataset_columns", "verdict"], "give house=data pairs"),
        ([CRITIQUE], ["--dataset_columns", "verdict=labl"], "labl"),
        ([CRITIQUE], ["--model_name_or_path", "absent/model"], "the Hub does not answer"),
        ([CRITIQUE], ["--model_name_or_path", "./absent"], "neither a folder here nor a Hub id"),
        ([CRITIQUE], ["--output_dir", "/dev/null/run"], "not writable"),
        ([CRITIQUE], ["--config", "absent.yaml"], "config file 'absent.yaml' cannot be read"),
        ([CRITIQUE], ["--resume_from_checkpoint", "absent"], "not a complete checkpoint"),
        ([CRITIQUE], ["--eval_rows", "-5"], "eval_rows=-5: give 0 or more"),
        ([CRITIQUE], ["--generated_rows", "-3"], "generated_rows=-3: give 0 or more"),
        ([CRITIQUE], ["--per_device_train_batch_size", "0"], "per_device_train_batch_size=0: give 1 or more"),
        ([CRITIQUE], ["--gradient_accumulation_steps", "0"], "gradient_accumulation_steps=0: give 1 or more"),
        ([CRITIQUE], ["--seed", "-1"], "seed=-1: give 0 or more"),
        ([CRITIQUE], ["--learning_rate", "-1"], "learning_rate=-1.0: give 0 or more"),
        ([CRITIQUE], ["--eos_token", "<nope>"], "eos_token=<nope> is not in the vocabulary"),
        ([CRITIQUE], ["--chat_template_path", "nofile.jinja"], "nofile.jinja does not exist"),
        ([CRITIQUE], ["--dataset_streaming", "true", "--max_steps", "-1"], "dataset_streaming needs max_steps"),
        ([CRITIQUE], ["--report_to", "nosuch"], "nosuch"),
        ([CRITIQUE], ["--attn_implementation", "flash_attention_2"], "settings: "),
        ([CRITIQUE], ["--use_peft", "true", "--lora_target_modules", "nosuch"], "settings: "),
        ([CRITIQUE], ["--eval_strategy", "steps", "--eval_steps", "1"], "holds no other rows than those trained on"),
        (
            [CRITIQUE, {**CRITIQUE, "critique": "hm"}, {**CRITIQUE, "critique": "so"}],
            ["--eval_rows", "2", "--generated_rows", "2"],
            "held-out rows to critique have no verdict",
        ),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(capsys, base_flags, write_rows, tmp_path, rows, flags, message):
    code, _, errors = run(capsys, "train", "--dataset_name", write_rows(rows), *base_flags, "--max_steps", "1", *flags)
    assert code == 2
    assert len(errors) == 1
    assert message in errors[0]
    assert not list((tmp_path / "run").glob("*.safetensors"))


def test_tokenizer_without_pad_or_template_trains_and_without_end_is_refused(capsys, tokenizers, tmp_path, base_flags):
    from conftest import make_tokenizer

    tokenizer = make_tokenizer("base")
    tokenizer.pad_token = None
    for name, eos in (("with-end", "</s>"), ("without-end", None)):
        tokenizer.eos_token = eos
        make_model(tokenizers("base")).save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    flags = ["--dataset_name", "arithmetic", "--dataset_limit", "4", *base_flags, "--max_steps", "1"]
    assert run(capsys, "train", *flags, "--model_name_or_path", tmp_path / "with-end")[0] == 0
    flags += ["--resume", "false"]
    code, _, errors = run(capsys, "train", *flags, "--model_name_or_path", tmp_path / "without-end")
    assert code == 2
    assert "no end token" in errors[0]


def test_yaml_mistakes(capsys, tmp_path, base_flags):
    path = tmp_path / "run.yaml"
    for text, message in (
        ("learning_rat: 1", "unknown setting learning_rat (did you mean 'learning_rate'?)"),
        ("a: [", "is not YAML"),
        ("", "holds no settings"),
    ):
        path.write_text(text)
        code, _, errors = run(capsys, "train", "--config", path, *base_flags)
        assert code == 2
        assert message in errors[0]


def test_folder_of_another_run_is_not_continued(capsys, base_flags):
    flags = ["train", "--dataset_name", "arithmetic", "--dataset_limit", "8", *base_flags, "--save_steps", "1"]
    assert run(capsys, *flags, "--max_steps", "1")[0] == 0
    code, _, errors = run(capsys, *flags, "--max_steps", "2", "--seed", "5")
    assert code == 2
    assert "holds checkpoints of another run (" in errors[0]
    assert "seed: 42 -> 5" in errors[0]
    code, _, errors = run(capsys, *flags, "--max_steps", "1", "--dataset_limit", "9")
    assert code == 2
    assert "the training rows are other ones: another number of rows (8 before, 9 now)" in errors[0]
    assert run(capsys, *flags, "--max_steps", "1")[0] == 0


def test_interrupted_stream_goes_on(capsys, base_flags, write_rows, rows, tmp_path):
    flags = ["train", "--dataset_name", write_rows(rows), "--dataset_streaming", "true", *base_flags]
    flags += ["--save_steps", "2", "--max_steps", "4"]
    assert run(capsys, *flags)[0] == 0
    (tmp_path / "run" / "model.safetensors").unlink()
    for name in ("trainer_state.json", "optimizer.pt"):
        (tmp_path / "run" / "checkpoint-4" / name).unlink()
    code, out, errors = run(capsys, *flags)
    assert (code, errors) == (0, [])
    assert "going on from" in out
    assert "checkpoint-2" in out


def test_incomplete_checkpoints_are_passed_over(tmp_path):
    for number, state in ((5, "{}"), (10, '{"half'), (15, None), (20, "{}")):
        (tmp_path / f"checkpoint-{number}").mkdir()
        if number != 20:  # weights alone
            torch.save({}, tmp_path / f"checkpoint-{number}" / "optimizer.pt")
        if state:
            (tmp_path / f"checkpoint-{number}" / "trainer_state.json").write_text(state)
    found, damaged = newest_whole(tmp_path)
    assert found.name == "checkpoint-5"
    assert damaged == [f"{tmp_path / 'checkpoint-10'} is damaged (trainer_state.json is cut short)"]


@pytest.mark.slow
def test_killed_run_started_again_ends_with_the_same_weights(base_flags, tmp_path, model_folder):
    flags = [sys.executable, str(REPOSITORY / "recipes/cft.py"), *base_flags, "--dataset_name", "arithmetic"]
    flags += ["--dataset_limit", "300", "--max_steps", "60", "--save_steps", "5", "--logging_steps", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def start(output):
        return subprocess.Popen(
            [*flags, "--output_dir", str(output)], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )

    whole = start(tmp_path / "whole")
    whole.communicate()
    assert whole.returncode == 0
    killed = start(tmp_path / "killed")
    deadline = time.monotonic() + 200
    while not (tmp_path / "killed" / "checkpoint-10" / "trainer_state.json").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "model.safetensors").exists()
    again = start(tmp_path / "killed")
    assert again.wait() == 0, again.stderr.read().decode()[-2000:]
    first, second = (AutoModelForCausalLM.from_pretrained(tmp_path / name) for name in ("whole", "killed"))
    for mine, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_real_critiques_are_all_counted(capsys, base_flags, shared_data, tmp_path):
    """The shared critiques, half of them empty: every row is kept, shortened or dropped with its reason."""
    path = shared_data / "train" / "critiques_permissive.jsonl.gz"
    flags = ["--dataset_name", path, "--dataset_columns", "verdict=label", "--append_verdict", "true"]
    code, *_ = run(capsys, "train", *flags, *base_flags, "--max_steps", "1", "--dataset_limit", "3000")
    assert code == 0
    report = json.loads((tmp_path / "run" / "preparation.json").read_text())["train"]
    assert report["rows"] == 3000 == report["kept"] + report["shortened"] + sum(report["dropped"].values())
    assert report["right"] + report["wrong"] + report["without_verdict"] == report["kept"] + report["shortened"]


def test_import_is_light():
    code = "import sys, cft_trl, cft_trl.cli; print(sorted({'torch', 'trl', 'datasets'} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path("/"), check=True)
    assert out.stdout.strip() == "[]"
