"""`cft eval` and `cft eval-critic`, done once, one thing changed, done again: refused, or what a fresh folder gives.

Models behind an endpoint: test_eval_endpoints.py.
"""

from __future__ import annotations

import json
import os
import shutil

import pytest
from conftest import make_model
from eval_folders import COMMANDS, done, run, save_model, texts, world
from hub_runs import _tokenizer as make_tokenizer

from cft_trl.cli import main
from cft_trl.errors import CFTError
from cft_trl.evaluation import claims
from cft_trl.evaluation.backends import Backend
from cft_trl.evaluation.generations import read_generations

__all__ = ["done", "world"]  # fixtures: used by their names


def edit(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def other_weights_of_that_time(model):
    path, before = model / "model.safetensors", (model / "model.safetensors").stat()
    save_model(model, seed=1.0)
    assert path.stat().st_size == before.st_size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES = {
    "other weights, size and time kept": (other_weights_of_that_time, "other weights"),
    "chat template": (
        lambda model: (model / "chat_template.jinja").write_text("{{ messages[0]['content'] }}"),
        "another chat template",
    ),
    "config.json": (lambda model: edit(model / "config.json", rms_norm_eps=0.5), "another config.json"),
    "generation_config.json": (
        lambda model: edit(model / "generation_config.json", eos_token_id=7),
        "another generation_config.json",
    ),
    "tokenizer": (
        lambda model: (model / "tokenizer.json").write_text((model / "tokenizer.json").read_text() + " "),
        "another tokenizer",
    ),
    "code that comes with it": (lambda model: (model / "modeling.py").write_text("x = 1"), "another config.json"),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", CHANGES)
def test_a_model_that_is_another_by_now_is_refused(world, command, name):
    change, told = CHANGES[name]
    output = world / f"out-{command}"
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    change(world / "model")
    with pytest.raises(CFTError, match=f"holds answers of another model: .*{told}.*; give another --output$"):
        run(command, world, output)
    assert {path: path.read_bytes() for path in output.rglob("*") if path.is_file()} == before


def test_an_adapters_base_is_part_of_it(world):
    output = world / "out-adapter"
    adapter = str(world / "adapter")
    assert run("eval-critic", world, output, name=adapter)["from_journal"] == 3
    save_model(world / "base", seed=1.0)
    with pytest.raises(CFTError, match="another model: other weights of its base"):
        run("eval-critic", world, output, name=adapter)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_same_model_moved_and_touched_goes_on(world, command, monkeypatch):
    monkeypatch.setattr(Backend, "generator", lambda self: pytest.fail("asked again"))
    (world / "model").rename(world / "moved")
    for path in (world / "moved").iterdir():
        os.utime(path, (1, 1))
    (world / "moved" / "training_args.txt.bak").write_text("a record, and no part of the model")
    output = world / f"out-{command}"
    before = texts(command, output)
    run(command, world, output, name=str(world / "moved"))
    assert texts(command, output) == before


@pytest.mark.parametrize(
    ("change", "told"),
    [({"dtype": "bfloat16"}, r"another dtype \(float32 before, bfloat16 now\)"), ({"kind": "vllm"}, "kind of source")],
)
def test_another_way_to_run_it_is_refused(world, change, told):
    with pytest.raises(CFTError, match=told):
        run("eval-critic", world, world / "out-eval-critic", **change)


def test_options_of_vllm_that_change_texts_are_part_of_who_answered(world, monkeypatch):
    def identity(options):
        monkeypatch.setenv("CFT_VLLM_OPTIONS", options)
        return Backend("vllm", str(world / "model")).identity()

    assert identity("--tensor-parallel-size 2") == identity("--gpu-memory-utilization 0.5")
    assert identity("--quantization fp8") != identity("")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("column", ["question", "answer"])
def test_other_problems_are_refused(world, command, column):
    if command == "eval":
        path = world / "data" / "gsm8k" / "test.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        asked = read_generations(world / "out-eval" / "generations" / "gsm8k.parquet")[1]["query"]
        row = next(at for at, line in enumerate(lines) if line["question"] == asked)
        lines[row][column] = "What is 1 + 9? #### 10"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    else:
        path = world / "data" / "mine.json"
        rows = json.loads(path.read_text())
        rows[1] |= {"problem": "What else?"} if column == "question" else {"label": 0}
        path.write_text(json.dumps(rows))
    with pytest.raises(CFTError, match=r"holds answers to other problems of (gsm8k|mine): its rows are"):
        run(command, world, world / f"out-{command}")


def test_an_older_runs_best_is_not_evaluated_as_the_new_ones(world):
    shutil.copytree(world / "model", world / "run" / "best")
    (world / "run" / "best" / "run.json").write_text('{"run": "old", "step": 4}')
    (world / "run" / "training.json").write_text('{"run": "new"}')
    with pytest.raises(CFTError, match=r"best' is of another run \(old\) than .* \(new\); run `cft select"):
        Backend("transformers", str(world / "run" / "best"))
    (world / "run" / "training.json").write_text('{"run": "old"}')
    assert Backend("transformers", str(world / "run" / "best")).run_id() == "old"


def test_rows_that_are_not_asked_may_be_others(world, monkeypatch):
    monkeypatch.setattr(Backend, "generator", lambda self: pytest.fail("asked again"))
    path = world / "data" / "gsm8k" / "test.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:-1], json.dumps({"question": "Another?", "answer": "#### 1"})]) + "\n")
    run("eval", world, world / "out-eval")


@pytest.mark.parametrize("command", COMMANDS)
def test_texts_are_never_of_two_versions_of_our_code(world, command, monkeypatch):
    """What is whole may be counted again by a later version; what is not whole is not filled up by it."""
    output = world / f"out-{command}"
    monkeypatch.setattr(claims, "text_code", lambda: "another")
    before = texts(command, output)
    run(command, world, output)
    assert texts(command, output) == before
    [journal] = (output / "journal").glob("*.jsonl")
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:-1]))
    with pytest.raises(
        CFTError, match=f"holds {len(lines) - 1} answers that cft-trl .* wrote, whose code for texts is"
    ):
        run(command, world, output)
    journal.write_text("")
    assert run(command, world, output)["from_journal"] == 0
    assert json.loads((output / "run.json").read_text())["code"] == "another"


def test_verdicts_are_of_the_graders_there_are(world, monkeypatch, capsys):
    from cft_trl.evaluation import run as runner

    monkeypatch.setattr(Backend, "generator", lambda self: pytest.fail("asked again"))
    now = runner.grader_version()
    before = json.loads((world / "out-eval" / "evaluation.json").read_text())
    assert (before["grader"], before["problems"]["gsm8k"]["rows"]) == (now, 3)
    monkeypatch.setattr(runner, "grader_version", lambda: now | {"code": "later"})
    result = run("eval", world, world / "out-eval")
    assert result["grader"]["code"] == "later"
    assert "graded anew from the kept texts" in capsys.readouterr().err
    assert main(["grade", str(world / "out-eval")]) == 0
    assert "the saved verdicts are of another version of the graders: code later and" in capsys.readouterr().out


def test_a_folder_of_an_earlier_version_is_refused(world):
    path = world / "out-eval" / "run.json"
    told = json.loads(path.read_text())
    path.write_text(json.dumps({"model": "m", "weights": [["model.safetensors", 1, 2]], **told["asked"]}))
    with pytest.raises(CFTError, match="or of an earlier version of it, which did not note what its model was"):
        run("eval", world, world / "out-eval")


@pytest.mark.parametrize("place", ["training.json", "run.json"])
def test_the_runs_id_is_in_the_result(world, place):
    (world / "model" / place).write_text('{"run": "9f2c"}')
    assert run("eval-critic", world, world / "out-eval-critic")["run"] == "9f2c"


def test_answers_are_kept_under_who_gave_them_and_the_round(tmp_path):
    def key(identity, round=1):
        return claims.Claim(tmp_path, {"identity": identity, "round": round}).key

    keys = {
        key({"weights": "9f2c"}),
        key({"weights": "77d0"}),
        key({"weights": "9f2c"}, 2),
        key({"weights": "77d0"}, 2),
    }
    assert len(keys) == 4


# ---- the Hub ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_a_branch_that_moved_is_refused_and_its_old_commit_goes_on(world, command, tmp_path, monkeypatch):
    from hub_server import OWNER, HubServer
    from huggingface_hub import HfApi

    monkeypatch.setattr("cft_trl.grading.benchmarks.note_read", lambda *_: None)
    with HubServer(tmp_path / "hub") as hub:
        hub.patch_client(monkeypatch, OWNER)
        HfApi().create_repo("org/model")
        HfApi().upload_folder(repo_id="org/model", folder_path=world / "model")
        first = hub.repo("model", "org/model")["branches"]["main"]
        output = tmp_path / "out"
        made = run(command, world, output, name="org/model")
        assert (made["revision"], made["identity"]["model"]["commit"]) == (first, first)
        with Backend("transformers", "org/model") as backend:  # made before the branch moves, loaded after
            save_model(tmp_path / "second", seed=1.0)
            HfApi().upload_folder(repo_id="org/model", folder_path=tmp_path / "second")
            lm_head = backend.generator().model.lm_head.weight
        assert lm_head.equal(make_model(make_tokenizer()).lm_head.weight)
        moved = f"another commit on the Hub .*; give another --output, or --revision {first} to go on with the old one"
        with pytest.raises(CFTError, match=moved):
            run(command, world, output, name="org/model")
        again = run(command, world, output, name="org/model", revision=first)
        assert again["from_journal"] == (0 if command == "eval" else 3)  # of `eval` it is the first run's that measured
        assert again["revision"] == first
        fresh = run(command, world, tmp_path / "fresh", name="org/model")
        assert fresh["revision"] != first
