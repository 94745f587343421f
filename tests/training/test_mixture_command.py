"""`cft train`, `cft preview` and `cft plan` with `datasets`: in a file, as flags, and what is wrong in one line."""

from __future__ import annotations

import json
import shutil

import pytest
import yaml
from conftest import make_model

from cft_trl.cli import main
from cft_trl.commands.settings import parse_settings
from cft_trl.errors import CFTError
from cft_trl.sources.arithmetic import arithmetic_records
from cft_trl.training.mixture import NOT_DRAWN, is_mixture
from cft_trl.training.rows import load_rows
from cft_trl.training.runs import check_goes_on


@pytest.fixture(scope="module")
def model_folder(tokenizers, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny-model")
    make_model(tokenizers("chatml")).save_pretrained(folder)
    tokenizers("chatml").save_pretrained(folder)
    return folder


@pytest.fixture
def settings(model_folder, tmp_path, monkeypatch):
    """A run's settings, of files in the folder that the command is given in."""
    monkeypatch.chdir(tmp_path)
    for name, seed, count in (("critiques", 1, 20), ("solutions", 2, 12)):
        lines = [json.dumps(row) for row in arithmetic_records(count, seed=seed, levels=(1,))]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    return {
        "model_name_or_path": str(model_folder), "dtype": "float32", "use_cpu": True, "bf16": False,
        "report_to": "none", "max_length": 512, "gradient_checkpointing": False, "learning_rate": 1e-3,
        "per_device_train_batch_size": 4,
        "max_steps": 2, "save_steps": 2, "logging_steps": 1, "output_dir": "run", "prompt_preset": "compact",
        "datasets": [
            {"path": "critiques.jsonl", "objective": "cft", "weight": 0.8},
            {"path": "solutions.jsonl", "objective": "sft", "sft_target": "refinement", "weight": 0.2},
        ],
    }  # fmt: skip


@pytest.fixture
def run(capsys, tmp_path):
    """`run(command, settings, *flags)` -> (exit code, standard output, our lines on standard error)."""

    def give(command, settings, *flags):
        path = tmp_path / "run.yaml"
        path.write_text(yaml.safe_dump(settings))
        capsys.readouterr()
        code = main([command, "--config", str(path), *map(str, flags)])
        out, err = capsys.readouterr()
        return code, out, [line for line in err.splitlines() if line.startswith("cft:")]

    return give


def part(settings, number, **change):
    parts = [{**one, **(change if at == number else {})} for at, one in enumerate(settings["datasets"])]
    return {**settings, "datasets": [{k: v for k, v in one.items() if v != "unset"} for one in parts]}


# ---- a run -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_counts_its_parts_and_goes_on_as_itself_only(run, settings, tmp_path):
    settings |= {"eval_rows": 4, "eval_strategy": "steps", "eval_steps": 1, "generated_rows": 2}
    code, out, errors = run("train", settings)
    assert (code, errors) == (0, [])
    assert "train/critiques: rows 16: kept 16, " in out
    assert f"train/solutions: rows 8: kept 4, shortened 0, dropped 4 (4 {NOT_DRAWN})" in out
    assert "held out: critique loss " in out
    assert "verdicts of free critiques: 0/2 agree" in out
    counts = json.loads((tmp_path / "run" / "preparation.json").read_text())
    assert {name: one["kept"] for name, one in counts.items()} == {
        "train": 20, "train/critiques": 16, "train/solutions": 4,
        "eval": 8, "eval/critiques": 4, "eval/solutions": 4,
    }  # fmt: skip
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["eval_verdict_count"] == 4
    assert {"eval_loss_critiques", "eval_loss_solutions", "eval_target_loss"} <= set(metrics)
    told = json.loads((tmp_path / "run" / "training.json").read_text())
    assert [one["path"] for one in told["dataset"]["parts"]] == [
        str(tmp_path / f"{name}.jsonl") for name in ("critiques", "solutions")
    ]
    assert (
        "- `solutions` (sft, refinement, prompt compact, weight 0.2): 4 rows of solutions.jsonl"
        in (tmp_path / "run" / "README.md").read_text()
    )

    # Typed again nothing is left, in a run of before there was the setting too; files may have other names; all else
    # is another run.
    assert "nothing is left to train" in run("train", settings)[1]
    written = json.loads((tmp_path / "run" / "settings.json").read_text())
    del written["mixture_strategy"]
    (tmp_path / "run" / "settings.json").write_text(json.dumps(written))
    (tmp_path / "moved").mkdir()
    (tmp_path / "critiques.jsonl").rename(tmp_path / "moved" / "solutions.jsonl")
    settings = part(settings, 0, path="moved/solutions.jsonl")
    assert "nothing is left to train" in run("train", settings)[1], "a name that another part had"
    (tmp_path / "solutions.jsonl").rename(tmp_path / "moved" / "answers.jsonl")
    settings = part(settings, 1, path="moved/answers.jsonl")
    assert "nothing is left to train" in run("train", settings)[1]
    for change, what in (
        ({"weight": 0.1}, "another weight of part answers (0.2 before, 0.1 now)"),
        ({"sft_target": "response"}, "another sft target of part answers (refinement before, response now)"),
        ({"prompt_preset": "paper"}, "another prompt preset of part answers (compact before, paper now)"),
        ({"limit": 9}, "another number of rows of part answers (8 before, 5 now)"),
    ):
        code, _, errors = run("train", part(settings, 1, **change))
        assert code == 2
        assert len(errors) == 1
        assert what in errors[0]
    one = {**settings, "datasets": settings["datasets"][:1]}
    assert "number of rows of part answers (8 before, none now)" in run("train", one)[2][0]
    lines = (tmp_path / "moved" / "answers.jsonl").read_text().replace("The answer is", "So it is")
    (tmp_path / "moved" / "answers.jsonl").write_text(lines)
    assert "another text in part answers" in run("train", settings)[2][0]


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [("ab", "ba", None), ("ab", "bc", None), ("ab", "b", "part b-2 (2 before, none now)"),
     ("b", "ab", "part b (none before, 2 now)")],
)  # fmt: skip
def test_parts_are_compared_by_their_place(before, now, told, tmp_path):
    def identity(names):
        return {"train_rows": {f"number of rows of part {name}": at for at, name in enumerate(names, 1)}}

    (tmp_path / "training.json").write_text(json.dumps({"run": "0" * 12, "identity": identity(before)}))
    if told is None:
        return check_goes_on(tmp_path, tmp_path / "checkpoint-1", {}, identity(now))
    with pytest.raises(CFTError) as caught:
        check_goes_on(tmp_path, tmp_path / "checkpoint-1", {}, identity(now))
    assert f"(the training rows are other ones: another number of rows of {told})" in str(caught.value)


WORDS = {"right": "accept", "wrong": "reject"}


def in_words(path, words=WORDS):
    """The critiques of a file conclude with other words."""
    text = path.read_text()
    for word, own in words.items():
        text = text.replace(f"Conclusion: {word}", f"Conclusion: {own}")
    path.write_text(text)


@pytest.mark.parametrize(
    ("own", "told"),
    [({"verdicts": WORDS}, "compact"), ({"prompt": "Review.\n{{ query }}\n{{ response }}"}, "paper")],
)
def test_a_mixture_with_a_wording_of_its_own_goes_on(own, told, run, settings, tmp_path):
    if "verdicts" in own:
        in_words(tmp_path / "critiques.jsonl")
    settings |= {**own, "prompt_preset": told, "save_steps": 1}
    assert run("train", settings)[::2] == (0, [])
    assert f"`solutions` (sft, refinement, prompt {told}, " in (tmp_path / "run" / "README.md").read_text()
    whole = json.loads((tmp_path / "run" / "trainer_state.json").read_text())["log_history"]
    for left in ("checkpoint-2", "trainer_state.json", "model.safetensors"):
        left = tmp_path / "run" / left
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    code, out, errors = run("train", settings)
    assert (code, errors) == (0, [])
    assert "checkpoint-1" in out, "it goes on, and does not begin anew"
    again = json.loads((tmp_path / "run" / "trainer_state.json").read_text())["log_history"]
    assert [one["loss"] for one in again if "loss" in one] == [one["loss"] for one in whole if "loss" in one]


def test_all_exhausted_with_rows_held_out(run, settings):
    """Weights are of what is trained: what is held out is evaluated whole."""
    settings |= {"mixture_strategy": "all_exhausted", "eval_rows": 2, "eval_strategy": "steps", "eval_steps": 2}
    code, out, errors = run("train", part(settings, 1, weight=0.8))
    assert (code, errors) == (0, [])
    assert "repeated to 18" in out
    assert "eval/solutions: rows 2: kept 2, " in out


def test_flags_say_what_a_file_says(settings, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(settings))
    from_file = parse_settings(["--config", str(path)])[0]
    path.write_text(yaml.safe_dump({name: value for name, value in settings.items() if name != "datasets"}))
    flags = ["critiques.jsonl", "{path: solutions.jsonl, objective: sft, sft_target: refinement, weight: 0.25}"]
    script = parse_settings(["--config", str(path), "--datasets", *flags])[0]
    assert script.datasets[0] == {"path": "critiques.jsonl"}
    assert script.datasets[1] == {**from_file.datasets[1], "weight": 0.25}
    rows, held_out = load_rows(script, evaluate=False)
    assert held_out is None
    assert is_mixture(rows)
    assert [(one.name, len(one.rows), one.weight) for one in rows] == [("critiques", 20, None), ("solutions", 12, 0.25)]


def test_what_a_part_does_not_say_is_the_runs(settings):
    path_only = [{"path": "critiques.jsonl"}, {"path": "arithmetic", "limit": 7, "eval_rows": 0, "levels": [0]}]
    script = parse_settings(
        ["--output_dir", "x", "--eval_rows", "5", "--datasets", *map(json.dumps, path_only), "--use_cpu", "true"]
    )[0]
    rows, held_out = load_rows(script, evaluate=True)
    assert [(one.name, len(one.rows)) for one in rows] == [("critiques", 15), ("arithmetic", 7)]
    assert [(one.name, len(one.rows)) for one in held_out] == [("critiques", 5)]
    assert {row["meta"]["level"] for row in rows[1].rows} == {0}


def test_a_split_to_evaluate_on(settings, tmp_path):
    for split in ("train", "test"):
        (tmp_path / "data" / split).mkdir(parents=True)
        (tmp_path / "critiques.jsonl").rename(tmp_path / "data" / split / "rows.jsonl")
        (tmp_path / "solutions.jsonl").rename(tmp_path / "critiques.jsonl") if split == "train" else None
    script = parse_settings(["--output_dir", "x", "--use_cpu", "true", "--datasets", "{path: data, eval_split: test}"])[
        0
    ]
    rows, held_out = load_rows(script, evaluate=True)
    assert (len(rows[0].rows), len(held_out[0].rows)) == (20, 12)


# ---- beside training -------------------------------------------------------------------------------------------------


def test_preview_shows_a_row_of_a_part(run, settings):
    _, out, _ = run("preview", settings, "--row", 2)
    assert "row 2 (arithmetic-train-s1-000002)" in out
    assert "Critique this solution." in out
    _, out, _ = run("preview", part(settings, 1, eval_rows=3), "--row", 2, "--part", "solutions")
    assert "row 2 (arithmetic-train-s2-000002)" in out, "numbered as in the data, nothing held out"
    assert "Critique this solution." not in out
    for flags, told in ((["--part", "solution"], "did you mean 'solutions'"), (["--row", "20"], "no such row")):
        code, _, errors = run("preview", settings, *flags)
        assert code == 2
        assert told in errors[0]


def test_plan_counts_what_is_drawn(run, settings):
    settings |= {"model_name_or_path": "smollm2-135m", "max_steps": -1}
    _, out, _ = run("plan", settings, "--hardware", "cpu")
    assert "for 25 rows" in out
    _, out, _ = run("plan", part(settings, 1, eval_rows=9), "--hardware", "cpu")
    assert "for 15 rows" in out


# ---- what is wrong, in one line --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "told"),
    [({"weigth": 1}, "datasets, part 2 (solutions.jsonl): unknown key 'weigth' (did you mean 'weight'?); known: path,"),
     ({"name": "main"}, "part 2 (solutions.jsonl): unknown key 'name'; its config is called config"),
     ({"fraction": 0.2}, "unknown key 'fraction'; its weight is called weight"),
     ({"weight": 0}, "part 2 (solutions.jsonl): weight=0: give a number above 0"),
     ({"weight": -1.5}, "weight=-1.5: give a number above 0"),
     ({"weight": "much"}, "weight='much': give a number above 0"),
     ({"weight": "unset"}, "part solutions: it has no weight, others have"),
     ({"objective": "dpo"}, "part 2 (solutions.jsonl): objective='dpo': give cft, cgd or sft"),
     ({"sft_target": "right"}, "sft_target='right': unknown (did you mean 'right_only'?); give response, "),
     ({"objective": "cft"}, "part solutions: sft_target=refinement with objective=cft"),
     ({"prompt_preset": "short"}, "prompt_preset='short'"),
     ({"limit": 0}, "limit=0: give a whole number from 1"),
     ({"eval_rows": 12}, "part 2 (solutions.jsonl): eval_rows=12 would hold out all of the 12 rows"),
     ({"columns": "verdict"}, "part 2 (solutions.jsonl): columns=verdict: give house=data pairs"),
     ({"columns": {"verdict": "lable"}}, "no column 'lable'"),
     ({"levels": [1]}, "part 2 (solutions.jsonl): levels is of arithmetic only"),
     ({"path": "solution.jsonl"}, "part 2 (solution.jsonl): solution.jsonl: no such file or folder (did you mean "),
     ({"path": "unset"}, "datasets, part 2: path is missing"),
     ({"path": "critiques.jsonl", "eval_rows": 3}, "parts 1 and 2 read the same rows (critiques.jsonl) with"),
     ({"eval_split": "test", "eval_rows": 3}, "eval_split with eval_rows")],
)  # fmt: skip
def test_a_part_that_is_wrong_is_named(change, told, run, settings, tmp_path):
    code, _, errors = run("train", part(settings, 1, **change))
    assert (code, len(errors)) == (2, 1)
    assert told in errors[0]
    assert not list((tmp_path / "run").glob("*.json")) if (tmp_path / "run").exists() else True


@pytest.mark.parametrize(
    ("change", "told"),
    [({"datasets": []}, "datasets: give a list"), ({"datasets": {"path": "critiques.jsonl"}}, "datasets: give a list"),
     ({"datasets": ["{path: a.jsonl"]}, "is not YAML"), ({"datasets": [3]}, "part 1: path is missing"),
     ({"dataset_name": "critiques.jsonl"}, "dataset_name with datasets"),
     ({"dataset_limit": 5}, "dataset_limit with datasets: it is of a single dataset; leave it out, or give limit in a"),
     ({"dataset_streaming": True}, "dataset_streaming with datasets"),
     ({"eval_strategy": "steps", "eval_steps": 1}, "no part holds out rows"),
     ({"generated_rows": 3}, "the parts with objective cft and the run's prompt hold out 0 rows"),
     ({"objective": "cgd"}, "objective=cgd, by which the run is called and evaluated, is none of its parts'"),
     ({"prompt_preset": "long"}, "prompt_preset=long"),
     ({"mixture_strategy": "all"}, "mixture_strategy=all: unknown"),
     ({"output_dir": "."}, "is the folder of 'critiques.jsonl'")],
)  # fmt: skip
def test_settings_that_are_wrong(change, told, run, settings):
    code, _, errors = run("train", {**settings, **change})
    assert (code, len(errors)) == (2, 1)
    assert told in errors[0]


def test_append_verdict_in_a_part_beside_verdict_words(run, settings):
    code, _, errors = run("train", part(settings, 0, append_verdict=True) | {"verdicts": WORDS})
    assert (code, len(errors)) == (2, 1)
    assert "datasets, part 1 (critiques.jsonl): append_verdict writes right or wrong, verdicts has other" in errors[0]


def test_rows_that_cannot_serve_the_objective(run, settings, tmp_path):
    lines = [json.loads(line) for line in (tmp_path / "solutions.jsonl").read_text().splitlines()]
    (tmp_path / "solutions.jsonl").write_text("\n".join(json.dumps({**row, "refinement": None}) for row in lines))
    code, _, errors = run("train", settings)
    assert (code, len(errors)) == (2, 1)
    assert "no row of the train/solutions dataset can be used for objective sft: 12 no refinement" in errors[0]
    assert not list((tmp_path / "run").glob("*.json"))


# ---- early stopping --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("on", ["loss", "verdict_accuracy", "selection"])
def test_early_stopping_on_a_mixture(on, run, settings, tmp_path):
    """A model that learns nothing, so that the second measurement is the last: of all parts, or of the critiques."""
    settings |= {"learning_rate": 0.0, "max_steps": 6, "eval_rows": 4, "save_steps": 1,
                 "early_stopping_patience": 1, "early_stopping_on": on}  # fmt: skip
    if on == "selection":
        settings |= {"select_benchmark": "arithmetic-critic", "select_limit": 2}
    else:
        settings |= {"eval_strategy": "steps", "eval_steps": 1}
    code, out, errors = run("train", settings)
    assert (code, errors) == (0, [])
    history = json.loads((tmp_path / "run" / "trainer_state.json").read_text())["log_history"]
    assert max(entry["step"] for entry in history) == 2
    line = next(line for line in out.splitlines() if line.endswith("training stops"))
    if on == "loss":
        whole = next(entry for entry in history if "eval_target_loss" in entry)
        assert whole["eval_target_loss"] != pytest.approx(whole["eval_critique_loss"], rel=1e-5)
        assert f"(best {whole['eval_target_loss']:.4g} at step 1)" in line


def test_verdict_accuracy_without_held_out_critiques_is_a_line(run, settings):
    settings = part(settings, 1, eval_rows=4) | {
        "eval_strategy": "steps", "eval_steps": 1, "early_stopping_patience": 1,
        "early_stopping_on": "verdict_accuracy",
    }  # fmt: skip
    code, _, errors = run("train", settings)
    assert (code, len(errors)) == (2, 1)
    assert "the evaluation tells no eval_verdict_accuracy" in errors[0]
