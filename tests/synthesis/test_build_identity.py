"""A build goes on with what is the same and with nothing else: change one thing, build again, compare with a fresh one.

Each line of a table: what changes between two runs of one command. The second run leaves what the same command leaves
in a fresh folder, or is refused; where nothing changed, or what was comes back, nobody is asked. Models behind an
endpoint: test_build_endpoints.py.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from build_runs import critiques, lines_of, no_plots, recipe_for, stages_run
from telling_server import TellingServer

from cft_trl.errors import CFTError
from cft_trl.generation import identities
from cft_trl.synthesis import marks
from cft_trl.synthesis.build import build
from cft_trl.synthesis.recipe import to_recipe

__all__ = ["no_plots", "stages_run"]  # fixtures: used by their names

pytest.importorskip("openai")
pytestmark = pytest.mark.usefixtures("no_plots")


# ---- models in this process ----


def retrained(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    times = file.stat()
    weights = {name: tensor + 0.3 * torch.randn_like(tensor) for name, tensor in load_file(file).items()}
    save_file(weights, file, {"format": "pt"})
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def another_template(folder: Path) -> None:
    file = folder / "chat_template.jinja"
    file.write_text(file.read_text().replace("<|im_start|>assistant", "<|im_start|>assistant\nSo"))


def another_context(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "rope_theta": 77.0, "rope_parameters": None}))


MODELS = {"weights": retrained, "chat template": another_template, "config": another_context}


@pytest.fixture
def model(tmp_path, tokenizer, tiny_model):
    torch.manual_seed(0)
    folder = tmp_path / "mine"
    tiny_model(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("what", MODELS)
def test_a_model_that_is_another_by_now_is_asked_anew(tmp_path, model, what, capsys):
    recipe, out = recipe_for(f"transformers:{model}"), tmp_path / "out"
    build(recipe, out)
    first, kept = critiques(out), tmp_path / "kept"
    shutil.copytree(model, kept)
    MODELS[what](model)
    build(recipe, out)
    build(recipe, tmp_path / "fresh")
    assert critiques(out) == critiques(tmp_path / "fresh")
    assert len(lines_of(out)) == 8
    assert "is another one: " in capsys.readouterr().err
    # What was comes back, under another path too: nothing is computed.
    shutil.rmtree(model)
    shutil.copytree(kept, model)
    build(recipe, out)
    assert critiques(out) == first
    assert re.search(r"; its 4 answers of \S+ are used again", capsys.readouterr().err)
    (tmp_path / "elsewhere").mkdir()
    kept.rename(tmp_path / "elsewhere" / "mine")
    build(recipe_for(f"transformers:{tmp_path / 'elsewhere' / 'mine'}"), out)
    assert critiques(out) == first
    assert len(lines_of(out)) == 8


def test_a_task_that_finds_another_model_stops(tmp_path, model):
    from cft_trl.synthesis.known_teachers import KnownTeachers
    from cft_trl.synthesis.teachers import open_teachers

    name = f"transformers:{model}"
    known = KnownTeachers(tmp_path / "out")
    identity = known.identity(name)
    assert open_teachers([name], identities={name: identity})[0].identity == identity
    retrained(model)
    with pytest.raises(CFTError, match="not the one that this build began with: other weights"):
        open_teachers([name], identities={name: identity})


def test_a_model_of_the_hub_is_loaded_at_the_commit_of_its_identity(monkeypatch):
    from cft_trl.synthesis.teachers import open_teachers

    monkeypatch.setattr("cft_trl.models.names.resolve_model", lambda source, revision=None: source)
    names = ["vllm:org/m", "transformers:org/m@main"]
    hub = {"kind": "hub", "name": "org/m", "commit": "a" * 40}
    opened = open_teachers(names, identities={name: {"kind": "x", "model": hub} for name in names})
    assert [getattr(teacher, "revision", None) or teacher._revision for teacher in opened] == ["a" * 40] * 2


@pytest.mark.parametrize(
    ("options", "same"),
    [
        (["--tensor-parallel-size", "4", "--gpu-memory-utilization=0.9"], True),
        (["-tp", "2", "--max_num_seqs", "8", "--enforce-eager"], True),
        (["--quantization", "fp8"], False),
        (["--dtype=float32"], False),
        (["--chat-template", "TEMPLATE"], False),
        (["--an-option-of-tomorrow"], False),
    ],
)
def test_vllm_options_that_change_texts_make_another_teacher(model, tmp_path, options, same):
    template = tmp_path / "a.jinja"
    template.write_text("{{ messages }}")
    given = [str(template) if word == "TEMPLATE" else word for word in options]
    plain, with_options = (identities.vllm_identity(str(model), None, some) for some in ((), given))
    assert (plain == with_options) == same
    if "TEMPLATE" in options:
        template.write_text("{{ messages[0] }}")
        assert identities.vllm_identity(str(model), None, given) != with_options


# ---- the reference teacher, sources, benchmarks, libraries ----


def test_the_reference_teacher_is_the_code_and_data_that_its_critiques_come_from():
    import ast

    package = Path(identities.__file__).parents[1]
    here = {package / name for name in identities._REFERENCE}
    plumbing = {package / "errors.py", package / "models/identity.py", package / "data/digests.py"}
    plumbing |= {package / "data/tables.py"}
    asking = ("client", "types", "journal", "identities")
    plumbing |= {package / "generation" / f"{name}.py" for name in asking}
    tables = set()
    for file in (file for file in here if file.suffix == ".py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith("cft_trl")):
                base = file.parent if node.level else package.parent
                needed = base / Path(*(node.module or "").split("."))
                assert needed.with_suffix(".py") in here | plumbing, f"{file.name} uses {needed}"
            if isinstance(node, ast.Constant) and re.fullmatch(r"\w+\.yaml", str(node.value)):
                tables.add(file.with_name(node.value))
    assert {file for file in here if file.suffix == ".yaml"} == tables != set()


def test_another_wording_is_written_anew(tmp_path, monkeypatch):
    recipe = recipe_for("reference")
    build(recipe, tmp_path / "out")
    before = critiques(tmp_path / "out")
    from cft_trl.sources import reference

    told = {**reference.wording(), "confirmed": ["It is {answer}, as found."]}
    monkeypatch.setattr(reference, "wording", lambda: told)
    monkeypatch.setattr(identities, "code_digest", lambda *files: "0" * 16)
    build(recipe, tmp_path / "out")
    build(recipe, tmp_path / "fresh")
    assert critiques(tmp_path / "out") == critiques(tmp_path / "fresh") != before


ROWS = [
    {"query": f"What is {n} + {n}?", "response": f"{2 * n}", "critique": "Yes.\n\nConclusion: right"} for n in range(3)
]


def write_rows(path: Path, word: str) -> None:
    """Rows of one size and time, whatever the word of three letters is."""
    path.write_text("".join(json.dumps({**row, "query": f"{word} {row['query']}"}) + "\n" for row in ROWS))
    os.utime(path, ns=(1, 1))


@pytest.mark.parametrize("where", ["rows.jsonl", "*.jsonl", "."])
def test_a_source_is_known_by_its_content(tmp_path, where, stages_run):
    (tmp_path / "in").mkdir()
    file = tmp_path / "in" / "rows.jsonl"
    write_rows(file, "One")
    source = {"corpus": "local", "path": str(tmp_path / "in" / where)}
    recipe = to_recipe({"name": "x", "source": source, "decontaminate": {"benchmarks": "none"}})
    build(recipe, tmp_path / "out")
    stages_run.clear()
    os.utime(file)
    assert build(recipe, tmp_path / "out").kept[-1] == "publish", "the time says nothing"
    write_rows(file, "Two")
    os.utime(file, ns=(1, 1))
    build(recipe, tmp_path / "out")
    assert stages_run[0] == "source"
    assert [row[1][:3] for row in critiques(tmp_path / "out")] == ["Two"] * 3


def test_a_source_on_the_hub_is_read_at_its_commit_and_anew_at_another(tmp_path, monkeypatch, stages_run, capsys):
    read, now = [], "a" * 40

    def raw_rows(path, *, split, name, revision):
        read.append(revision)
        return iter([(row, "here") for row in ROWS])

    monkeypatch.setattr("cft_trl.sources.corpus.raw_rows", raw_rows)
    monkeypatch.setattr(marks, "commit_now", lambda kind, name, revision: now)
    recipe = to_recipe(
        {"name": "x", "source": {"corpus": "local", "path": "org/rows"}, "decontaminate": {"benchmarks": "none"}}
    )
    build(recipe, tmp_path / "out")
    assert f"| revision | {now} |" in (tmp_path / "out" / "README.md").read_text()
    now = None
    assert build(recipe, tmp_path / "out").kept[-1] == "publish", "a Hub that does not answer changes nothing"
    now = "b" * 40
    build(recipe, tmp_path / "out")
    assert read == ["a" * 40, "b" * 40]
    assert "org/rows is at another commit on the Hub (aaaaaaaaaaaa before, bbbbbbbbbbbb now)" in capsys.readouterr().err
    assert build(recipe, tmp_path / "out").kept[-1] == "publish"


def test_a_benchmark_whose_file_changed_is_looked_for_again(tmp_path, monkeypatch, stages_run):
    folder = tmp_path / "benchmarks" / "aime24"
    folder.mkdir(parents=True)
    problems = [{"problem": f"Problem {n} asks for n.", "answer": str(n)} for n in range(30)]

    def write() -> None:
        (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in problems))

    write()
    monkeypatch.setenv("CFT_BENCHMARKS_DIR", str(tmp_path / "benchmarks"))
    rows = tmp_path / "rows.jsonl"
    write_rows(rows, "One")
    source = {"corpus": "local", "path": str(rows)}
    recipe = to_recipe({"name": "x", "source": source, "decontaminate": {"benchmarks": ["aime24"]}})
    assert build(recipe, tmp_path / "out").reports["decontaminate"].written == 3
    problems[7]["problem"] = f"One {ROWS[1]['query']}"
    write()
    stages_run.clear()
    assert build(recipe, tmp_path / "out").reports["decontaminate"].written == 2
    assert stages_run == ["decontaminate", "publish"]
    shutil.copy(folder / "test.jsonl", folder / "test.json")
    with pytest.raises(CFTError, match=r"test.jsonl and test.json in .* both claim to be the same data"):
        build(recipe, tmp_path / "out")


def test_another_grader_filters_again(tmp_path, monkeypatch, stages_run):
    build(recipe_for("reference"), tmp_path / "out")
    stages_run.clear()
    monkeypatch.setattr(marks, "_version", lambda name: "99")
    build(recipe_for("reference"), tmp_path / "out")
    assert "filter" in stages_run


def test_another_version_of_our_code_makes_everything_anew_and_asks_nobody(tmp_path, monkeypatch, stages_run):
    with TellingServer("first") as server:
        recipe = recipe_for(f"openai:m@{server.url}")
        build(recipe, tmp_path / "out")
        stages_run.clear()
        monkeypatch.setattr(marks, "package_digest", lambda: "0" * 16)
        build(recipe, tmp_path / "out")
        assert len(stages_run) == 7
        assert server.asked == 4
