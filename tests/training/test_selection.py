"""Choosing a checkpoint: which one, and what is left of the others; with one process and with two.

The distributed tests launch the recipe as `test_distributed.py` does. What they hold against a run of two processes is
its own checkpoints: every text that was scored is what the saved model writes.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from faulty_server import FaultyServer
from test_distributed import BACKENDS, launch, needs_deepspeed, tiny, two  # noqa: F401 - `tiny` is a fixture

from cft_trl.cli import main
from cft_trl.errors import CFTError
from cft_trl.evaluation import validation as validation_module
from cft_trl.evaluation.validation import load_validation
from cft_trl.generation.local import Generation, LocalModel
from cft_trl.grading.intervals import wilson_interval
from cft_trl.models.loading import load_model
from cft_trl.models.run_record import run_of
from cft_trl.training.choice import choose, ranked
from cft_trl.training.race import select
from cft_trl.training.runs import mark_checkpoint
from cft_trl.training.select_callback import SelectBestCheckpoint
from cft_trl.training.selection import Selection

# ---- which one -------------------------------------------------------------------------------------------------------


def point(step: int, hits: int, low: float, high: float) -> dict:
    return {"step": step, "hits": hits, "of": 100, "score": hits / 100, "interval_95": [low, high], "fingerprint": "f"}


def test_the_best_wins_the_earlier_of_equals_and_what_is_not_clear_is_said():
    curve = [point(2, 30, 0.2, 0.4), point(4, 70, 0.6, 0.8), point(6, 70, 0.6, 0.8), point(8, 58, 0.48, 0.67)]
    assert [p["step"] for p in ranked(curve)] == [4, 6, 8, 2]
    chosen = choose(curve, {2, 4, 6, 8})
    assert chosen["winner"]["step"] == 4
    assert chosen["overlapping"] == [6, 8]
    assert "not clearly better than steps 6, 8" in chosen["verdict"]
    assert "no other checkpoint's" in choose([point(2, 10, 0.0, 0.2), point(4, 60, 0.5, 0.7)], {2, 4})["verdict"]
    assert "fingerprint" not in chosen["curve"][0]
    left = choose(curve, {2, 8})
    assert (left["winner"]["step"], left["overlapping"]) == (8, [4, 6])
    assert "step 4 had 70, but its model is gone" in left["verdict"]


# ---- while training --------------------------------------------------------------------------------------------------


@pytest.fixture
def trained(tokenizers, tiny_model, rows, make_config):
    """`trained(callback, **settings)` -> the trainer after a short run with the callback."""
    from datasets import Dataset

    from cft_trl import CFTTrainer

    def train(callback, resume=None, **settings):
        defaults = {"max_steps": 6, "save_strategy": "steps", "save_steps": 2, "save_total_limit": 1}
        config = make_config(**{**defaults, **settings})
        tokenizer = tokenizers("chatml")
        trainer = CFTTrainer(
            tiny_model(tokenizer), config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer,
            callbacks=[callback],
        )  # fmt: skip
        trainer.train(resume_from_checkpoint=resume)
        return trainer

    return train


def arithmetic(limit: int = 4):
    return load_validation("arithmetic-critic", limit, max_new_tokens=6)


def scored_texts(run, step: int) -> list[str]:
    [path] = run.glob(f"_selected/*/step-{step}.jsonl")
    return [json.loads(line)["text"] for line in path.read_text().splitlines()]


def written_texts(folder, validation) -> list[str]:
    generator = LocalModel(*load_model(str(folder), dtype="float32"))
    made = generator.generate(validation.conversations("paper"), max_new_tokens=validation.max_new_tokens)
    return [generation.text for generation in made]


def test_every_checkpoint_is_scored_as_saved_and_the_best_stays(trained, monkeypatch, capsys):
    hits = {2: [True, False, False, False], 4: [True, True, True, False], 6: [True, True, False, True]}
    steps = iter(hits)
    score = validation_module.ValidationSet.score

    def planted(self, generations, places, preset):
        given = hits[next(steps)]
        interval = list(wilson_interval(sum(given), 4))
        return {
            **score(self, generations, places)[0],
            "hits": sum(given),
            "score": sum(given) / 4,
            "interval_95": interval,
        }, given

    monkeypatch.setattr(validation_module.ValidationSet, "score", planted)
    trainer = trained(SelectBestCheckpoint(arithmetic(), keep=2))
    run = Path(trainer.args.output_dir)
    result = json.loads((run / "selection.json").read_text())
    assert [(p["step"], p["hits"]) for p in result["curve"]] == [(2, 1), (4, 3), (6, 3)]
    assert result["winner"]["step"] == 4
    assert result["kept"] == ["_selected/step-4", "_selected/step-6"]
    assert sorted(path.name for path in run.glob("_selected/step-*")) == ["step-4", "step-6"]
    assert [path.name for path in run.glob("checkpoint-*")] == ["checkpoint-6"]  # step 4 is there all the same
    assert (run / "best").resolve() == (run / "_selected" / "step-4").resolve()
    assert not list((run / "best").glob("*.pt"))
    assert scored_texts(run, 4) == written_texts(run / "best", arithmetic())
    assert scored_texts(run, 6) == written_texts(run / "checkpoint-6", arithmetic())
    assert (run / "selection.png").read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out.count("validation ") == 3
    trainer.create_model_card()
    card = (run / "README.md").read_text()
    assert "| 4 | 75.0% (3/4) |" in card
    assert card.count("## Choice of the checkpoint") == 1
    assert card.index("![Score of each checkpoint](selection.png)") < card.index("## Use")


def test_a_resumed_run_scores_what_the_killed_one_had_not(trained):
    run = Path(trained(SelectBestCheckpoint(arithmetic()), save_total_limit=3).args.output_dir)
    before = (run / "selection.json").read_text()
    # Killed after the save of step 4 and before it was scored.
    shutil.rmtree(run / "checkpoint-6")
    for path in run.glob("_selected/*/step-4.*"):
        path.unlink()
    trained(SelectBestCheckpoint(arithmetic()), resume=str(run / "checkpoint-4"), save_total_limit=3)
    assert (run / "selection.json").read_text() == before

    # A run that begins anew takes over nothing.
    trained(SelectBestCheckpoint(arithmetic()), max_steps=2)
    assert [p["step"] for p in json.loads((run / "selection.json").read_text())["curve"]] == [2]


def test_nothing_to_choose_from(trained):
    with pytest.raises(CFTError, match="save_strategy=no"):
        trained(SelectBestCheckpoint(arithmetic()), save_strategy="no")
    with pytest.raises(CFTError, match="keep=0"):
        SelectBestCheckpoint(arithmetic(), keep=0)


# ---- afterwards ------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(tokenizers, tiny_model, tmp_path):
    """The folder of a run with three checkpoints and a card."""
    folder = tmp_path / "run"
    for step in (2, 4, 10):
        checkpoint = folder / f"checkpoint-{step}"
        tiny_model(tokenizers("chatml")).save_pretrained(checkpoint)
        tokenizers("chatml").save_pretrained(checkpoint)
        (checkpoint / "trainer_state.json").write_text(json.dumps({"global_step": step}))
        (checkpoint / "optimizer.pt").write_bytes(b"moments")
    (folder / "checkpoint-12").mkdir()  # cut short
    (folder / "README.md").write_text("# Mine\n\nText.\n\n## Use\n\nSo.\n")
    return folder


def test_cft_select_and_again(run, capsys, monkeypatch):
    words = ["select", str(run), "--benchmark", "arithmetic-critic", "--limit", "3", "--max-new-tokens", "4"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "best: step 2: 0 of 3; not clearly better than steps 4, 10" in shown
    result = json.loads((run / "selection.json").read_text())
    assert [p["step"] for p in result["curve"]] == [2, 4, 10]
    assert (result["rows"], result["kind"], result["generator"]) == (3, "verdicts", "transformers")
    assert result["majority_rate"] == pytest.approx(2 / 3)
    assert "always giving the more frequent verdict: 66.7%" in shown
    load_model(str(run / "best"))
    assert all((run / f"checkpoint-{step}" / "optimizer.pt").is_file() for step in (2, 4, 10))
    card = (run / "README.md").read_text()
    assert card.startswith("# Mine\n\nText.\n\n<!-- selection -->\n## Choice of the checkpoint")
    assert "| always the more frequent verdict | 66.7% |" in card
    assert card.endswith("<!-- /selection -->\n\n## Use\n\nSo.\n")

    asked = []
    monkeypatch.setattr("cft_trl.commands.select._ask", lambda *given: asked.append(given) or [])
    assert main([*words, "--keep", "2"]) == 0  # nothing is generated again
    assert (asked, sorted(path.name for path in run.glob("_selected/step-*"))) == ([], ["step-2", "step-4"])
    assert (run / "README.md").read_text() == card


@pytest.mark.parametrize("adapters", [False, True])
def test_vllm_scores_in_the_trained_type_and_all_adapters_on_one_server(run, monkeypatch, adapters):
    from contextlib import contextmanager

    served = []

    class Silent:
        def generate(self, conversations, **settings):
            return [Generation("Conclusion: right", "stop", 1, 1)] * len(conversations)

    @contextmanager
    def serve(sources, **settings):
        served.append((sources, settings))
        yield dict.fromkeys(sources, Silent())

    monkeypatch.setattr("cft_trl.generation.serving.serve", serve)
    monkeypatch.delenv("CFT_VLLM_OPTIONS", raising=False)
    (run / "training.json").write_text(json.dumps({"turns": {"dtype": "float32"}}))
    if adapters:
        for step in (2, 4, 10):
            (run / f"checkpoint-{step}" / "adapter_config.json").write_text("{}")
    words = ["select", str(run), "--benchmark", "arithmetic-critic", "--limit", "3", "--backend", "vllm"]
    words += [] if adapters else ["--server-per-checkpoint"]
    assert main(words) == 0
    each = [{f"checkpoint-{step}": str(run / f"checkpoint-{step}")} for step in (2, 4, 10)]
    assert [sources for sources, _ in served] == (
        [{k: v for one in each for k, v in one.items()}] if adapters else each
    )
    assert json.loads((run / "selection.json").read_text())["generator"] == "vllm, float32"
    assert main([*words, "--dtype", "bfloat16"]) == 0  # another type is another score
    given = {name: value for name, value in served[-1][1].items() if value}
    assert given == {"dtype": "bfloat16"} | ({} if adapters else {"concurrency": 64})
    assert json.loads((run / "selection.json").read_text())["generator"] == "vllm, bfloat16"


def test_an_endpoint_serves_each_checkpoint_by_its_name(run, capsys):
    words = ["select", str(run), "--benchmark", "arithmetic-critic", "--limit", "6", "--backend", "endpoint"]
    with FaultyServer(faults=0.2, models="checkpoint-2,checkpoint-4,checkpoint-10") as server:
        assert main([*words, "--base-url", server.url]) == 0
    result = json.loads((run / "selection.json").read_text())
    assert result["generator"] == "endpoint"
    assert [p["no_verdict"] for p in result["curve"]] == [0, 0, 0]
    with FaultyServer(models="checkpoint-2") as server:
        assert main([*words, "--base-url", server.url, "--max-new-tokens", "9"]) == 2
    assert "checkpoint-4 at http" in capsys.readouterr().err


def test_only_what_changed_is_scored_again(run):
    validation, asked = arithmetic(2), []

    def generate(step, checkpoint, conversations):
        asked.append(step)
        if step == 10 and asked.count(10) == 1:
            raise InterruptedError
        return [Generation("Conclusion: right [END]", "stop", 1, 1)] * len(conversations)

    selection = Selection(run, validation)
    with pytest.raises(InterruptedError):
        select(selection, generate)
    assert not (run / "selection.json").exists(), "nothing is chosen before all have run"
    assert select(selection, generate)["winner"]["step"] == 2
    (run / "checkpoint-2" / "trainer_state.json").write_text('{"global_step": 2, "log_history": []}')
    other_weights(run / "checkpoint-4" / "model.safetensors")  # the trainer's state, size and time are as they were
    select(selection, generate)
    select(Selection(run, arithmetic(1)), generate)
    assert asked == [2, 4, 10, 10, 4, 2, 4, 10]


def test_texts_are_graded_anew_by_other_graders_and_not_written_again(run, monkeypatch):
    asked = []

    def generate(step, checkpoint, conversations):
        asked.append(step)
        return [Generation("Conclusion: right [END]", "stop", 1, 1)] * len(conversations)

    selection = Selection(run, arithmetic(6))
    before = select(selection, generate)
    monkeypatch.setattr("cft_trl.training.selection.grader_digest", lambda: "another")
    monkeypatch.setattr("cft_trl.evaluation.validation.verdict_by", lambda text, preset: None)
    after = select(selection, generate)
    assert asked == [2, 4, 10]
    assert before["curve"][0]["hits"] > 0
    assert [point["hits"] for point in after["curve"]] == [0, 0, 0]


def test_what_another_run_left_does_not_compete(run):
    """Its checkpoints, its kept models and its scores all stay out, whatever their steps are."""

    def generate(step, checkpoint, conversations):
        return [Generation("Conclusion: right [END]", "stop", 1, 1)] * len(conversations)

    (run / "training.json").write_text('{"run": "old"}')
    for step in (2, 4, 10):
        mark_checkpoint(run / f"checkpoint-{step}", "old", step)
    selection = Selection(run, arithmetic(2), keep=3)
    select(selection, generate)
    (run / "training.json").write_text('{"run": "new"}')
    mark_checkpoint(run / "checkpoint-4", "new", 4)
    result = select(selection, generate)
    assert [point["step"] for point in result["curve"]] == [4]
    assert (result["run"], run_of(run / "best")) == ("new", "new")


def other_weights(path):
    """Changes one number in a file of weights, and nothing that a look at the file from outside would show."""
    before = path.stat()
    with open(path, "r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "'nowhere' is no folder"),
        (["{run}", "--benchmark", "nonsense"], "neither known"),
        (["{run}", "--backend", "endpoint"], "belong together"),
        (["{run}/checkpoint-2", "--benchmark", "arithmetic-critic"], "no complete checkpoint-N"),
        (["{run}/checkpoint-2", "--benchmark", "nowhere.jsonl"], "no complete checkpoint-N"),  # asked before problems
    ],
)
def test_a_mistake_is_one_line(run, words, said, capsys):
    assert main(["select", *(word.replace("{run}", str(run)) for word in words)]) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert shown.count("\n") == 1


def test_checkpoints_without_weights_are_told(run, capsys):
    (run / "checkpoint-4" / "model.safetensors").unlink()
    words = ["select", str(run), "--benchmark", "arithmetic-critic", "--limit", "1", "--max-new-tokens", "2"]
    assert main(words) == 2
    assert "checkpoint-4' holds no weights to score: set zero3_save_16bit_model" in capsys.readouterr().err


# ---- two processes ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("backend", ["ddp", "zero3", "fsdp2"])
def test_two_processes_choose_among_what_they_saved(tiny, tmp_path, backend):  # noqa: F811
    launcher, rows, micro_batches = BACKENDS[backend]
    if backend.startswith("zero"):
        needs_deepspeed()
    finished = launch(
        two(launcher), tmp_path, tiny, per_device_train_batch_size=rows, gradient_accumulation_steps=micro_batches,
        select_benchmark="arithmetic-critic", select_limit=5, save_only_model=backend == "ddp",
    )  # fmt: skip
    assert [process["world"] for process in finished.processes] == [2, 2]
    assert [process["steps"] for process in finished.processes] == [4, 4]  # training went on sharded after the choice
    result = json.loads((finished.folder / "selection.json").read_text())
    assert [(p["step"], p["of"]) for p in result["curve"]] == [(2, 5), (4, 5)]
    validation = load_validation("arithmetic-critic", 5)
    for step in (2, 4):
        assert scored_texts(finished.folder, step) == written_texts(finished.folder / f"checkpoint-{step}", validation)
    load_model(str(finished.folder / "best"))
    assert "## Choice of the checkpoint" in (finished.folder / "README.md").read_text()
