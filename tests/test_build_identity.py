"""A build goes on with what is the same and with nothing else: change one thing, build again, compare with a fresh one.

Each line of a table: what changes between two runs of one command. The second run leaves what the same command leaves
in a fresh folder, or is refused; where nothing changed, or what was comes back, nobody is asked.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
from datetime import date
from pathlib import Path

import pytest
import torch
from telling_server import TellingServer
from test_publish import make_rows, publish_rows

from cft_trl.cli import main
from cft_trl.data.files import expand_glob, files_of_split
from cft_trl.data.stage_files import RowFile, stage_path
from cft_trl.errors import CFTError
from cft_trl.generation import identities
from cft_trl.hub.upload import published_files
from cft_trl.sources.local import load_local
from cft_trl.synthesis import build as building
from cft_trl.synthesis import marks
from cft_trl.synthesis.build import Spread, build
from cft_trl.synthesis.recipe import read_recipe, to_recipe, with_settings

pytest.importorskip("openai")


@pytest.fixture(autouse=True)
def no_plots(monkeypatch):
    monkeypatch.setattr("cft_trl.synthesis.publish.plot_statistics", lambda *_: False)


def recipe_for(teacher: str, **sections):
    content = {
        "source": {"corpus": "arithmetic", "limit": 4, "levels": [1]},
        "filter": {"verdict": "any", "agree": "off", "truncated": "keep"},
    }
    content |= {"critique": {"teachers": [teacher], "max_tokens": 8}, "decontaminate": {"benchmarks": "none"}}
    return to_recipe({"name": "x", **content, **sections})


def critiques(folder) -> list[tuple]:
    """What is in the dataset, apart from what tells of the run."""
    rows = RowFile(stage_path(folder, "decontaminate"))
    return [(row["id"], row["query"], row["critique"], row["verdict"]) for row in rows]


def today() -> str:
    return date.today().isoformat()


def lines_of(folder, stage="critique") -> list[dict]:
    return [json.loads(line) for line in (folder / "journal" / f"{stage}.jsonl").read_text().splitlines()]


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

    monkeypatch.setattr("cft_trl.models.loading.resolve_model", lambda source, revision=None: source)
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


# ---- endpoints ----


def served(entry: dict | None, word: str):
    def change(server: TellingServer) -> None:
        server.entry, server.word = entry, word

    return change


ROOT = {"owned_by": "vllm", "root": "org/first", "max_model_len": 2048}
ENDPOINTS = {
    "another root": (ROOT, served(ROOT | {"root": "org/second"}, "second")),
    "another context": (ROOT, served(ROOT | {"max_model_len": 4096}, "second")),
    "another parent": (ROOT, served(ROOT | {"parent": "org/base"}, "second")),
    "pulled again": ({"owned_by": "library", "created": 1}, served({"owned_by": "library", "created": 2}, "second")),
    "one that does not say": (ROOT, served(None, "second")),
    "one that answers to any name": ({"id": "a.gguf"}, served({"id": "b.gguf"}, "second")),
}


@pytest.mark.parametrize("what", ENDPOINTS)
def test_another_model_behind_a_name_is_asked_anew(tmp_path, what, capsys):
    entry, change = ENDPOINTS[what]
    with TellingServer("first", entry) as server:
        recipe = recipe_for(f"openai:m@{server.url}")
        build(recipe, tmp_path / "out")
        assert build(recipe, tmp_path / "out").kept[-1] == "publish", "nothing changed"
        assert server.asked == 4
        change(server)
        build(recipe, tmp_path / "out")
        build(recipe, tmp_path / "fresh")
        assert critiques(tmp_path / "out") == critiques(tmp_path / "fresh")
        assert server.asked == 12
        assert "is another one: " in capsys.readouterr().err
        served(entry, "first")(server)
        build(recipe, tmp_path / "out")
        assert server.asked == 12, "the old one's answers are there"
        assert {text for _, _, text, _ in critiques(tmp_path / "out")} == {
            "Critique by first.\n\nConclusion: right [END]"
        }


def test_another_address_is_another_teacher_unless_told_otherwise(tmp_path, capsys):
    out = tmp_path / "out"
    with TellingServer("first") as first, TellingServer("second") as second:
        build(recipe_for(f"openai:m@{first.url}"), out)
        capsys.readouterr()
        build(recipe_for(f"openai:m@{second.url}"), out)
        assert {row[2].split(".")[0] for row in critiques(out)} == {"Critique by second"}
        told = capsys.readouterr().err
        assert f"critique: 4 answers of {today()} from m at {first.url} are not used" in told
        assert f"--answers-of {first.url} goes on with them" in told
        before = second.asked
        build(recipe_for(f"openai:m@{second.url}"), out, answers_of=first.url)
        assert second.asked == before
        assert {row[2].split(".")[0] for row in critiques(out)} == {"Critique by first"}
        # ... and so it stays, without the flag too, for rows that are still to be asked about.
        more = with_settings(recipe_for(f"openai:m@{second.url}"), "source", limit=6)
        build(more, out)
        assert second.asked == before + 2
        with pytest.raises(CFTError, match="has asked none of these models there; its answers are of "):
            build(more, out, answers_of="http://elsewhere/v1")


def test_answers_of_a_server_that_says_it_is_another_are_refused(tmp_path):
    with TellingServer("first", ROOT) as first, TellingServer("second", ROOT | {"root": "org/other"}) as second:
        build(recipe_for(f"openai:m@{first.url}"), tmp_path / "out")
        with pytest.raises(CFTError, match="is another one: another model behind the name"):
            build(recipe_for(f"openai:m@{second.url}"), tmp_path / "out", answers_of=first.url)
        assert second.asked == 0


def test_asked_again_once_and_gone_on_with(tmp_path, capsys):
    out = tmp_path / "out"
    with TellingServer("first") as server:
        recipe = recipe_for(f"openai:m@{server.url}")
        build(recipe, out)
        server.word = "second"
        more = with_settings(recipe, "source", limit=5)
        build(more, out)
        told = f"critique: 4 answers of {today()} from m at {server.url}; --ask-again asks anew"
        assert told in capsys.readouterr().err
        assert len({row[2] for row in critiques(out)}) == 2, "it cannot be told apart, and that is said"
        server.then, server.after = lambda: setattr(server, "word", "third"), server.asked + 2
        build(more, out, ask_again=True)
        assert server.asked == 10
        build(more, out)
        assert server.asked == 10, "the same command goes on with the newest"
        assert {row[2].split(".")[0] for row in critiques(out)} <= {"Critique by second", "Critique by third"}
        build(with_settings(more, "source", limit=6), out)
        assert server.asked == 11
        assert len(lines_of(out)) == 11, "what was paid for stays"


def test_a_killed_round_is_gone_on_with(tmp_path, monkeypatch):
    out = tmp_path / "out"
    with TellingServer("first") as server:
        recipe = recipe_for(f"openai:m@{server.url}")
        build(recipe, out)
        server.word = "second"
        original = building.ask_stage

        def killed(recipe, stage, *rest, **options):
            if stage == "critique":
                raise KeyboardInterrupt
            return original(recipe, stage, *rest, **options)

        monkeypatch.setattr(building, "ask_stage", killed)
        with pytest.raises(KeyboardInterrupt):
            build(recipe, out, ask_again=True)
        monkeypatch.undo()
        build(recipe, out)
        assert {row[2].split(".")[0] for row in critiques(out)} == {"Critique by second"}


def test_a_server_that_is_down_is_not_needed_for_what_it_has_answered(tmp_path):
    with TellingServer("first", ROOT) as server:
        recipe = recipe_for(f"openai:m@{server.url}")
        build(recipe, tmp_path / "out")
    assert build(recipe, tmp_path / "out").kept[-1] == "publish"
    stage_path(tmp_path / "out", "critique").unlink()
    assert "critique" not in build(recipe, tmp_path / "out").kept
    assert len(critiques(tmp_path / "out")) == 4


def test_a_server_that_becomes_another_one_while_it_is_asked_is_found_out(tmp_path):
    with TellingServer("first", ROOT) as server:
        recipe = recipe_for(f"openai:m@{server.url}")
        server.after, server.then = 2, lambda: served(ROOT | {"root": "org/second"}, "second")(server)
        with pytest.raises(CFTError, match="became another one while it was asked: another model behind the name"):
            build(recipe, tmp_path / "out")
        build(recipe, tmp_path / "out")
        assert {row[2].split(".")[0] for row in critiques(tmp_path / "out")} == {"Critique by second"}
        served(ROOT, "first")(server)  # and back again: nothing of the mixture is used
        build(recipe, tmp_path / "out")
        assert {row[2].split(".")[0] for row in critiques(tmp_path / "out")} == {"Critique by first"}


def test_card_statistics_and_recipe_say_who_answered(tmp_path, capsys):
    out = tmp_path / "out"
    with TellingServer("first", ROOT) as server:
        server.fingerprint = "fp_1"
        server.after, server.then = 3, lambda: setattr(server, "fingerprint", "fp_2")
        recipe = recipe_for(f"openai:m@{server.url}")
        build(with_settings(recipe, "source", limit=4), out, teacher_options={"max_concurrency": 1})
    key = lines_of(out)[0]["by"]
    stages = {stage["stage"]: stage["details"] for stage in json.loads((out / "statistics.json").read_text())["stages"]}
    assert stages["critique"]["identities"]["m"]["key"] == key
    assert stages["critique"]["fingerprints"] == {"m": {"fp_1": 3, "fp_2": 1}}
    assert "the answers of m have 2 system fingerprints: fp_1 3, fp_2 1" in capsys.readouterr().err
    assert f"# critique: m was key {key}, kind endpoint, address {server.url}" in (out / "recipe.yaml").read_text()
    assert read_recipe(out / "recipe.yaml") == recipe
    card = (out / "README.md").read_text()
    assert "| identities | key | kind | address | name | served | context |" in card
    assert f"| m | {key} | endpoint | {server.url} | m | org/first, None | 2048 |" in card


# ---- the reference teacher, sources, benchmarks, libraries ----


def test_the_reference_teacher_is_the_code_that_its_critiques_come_from():
    import ast

    package = Path(identities.__file__).parents[1]
    here = {package / name for name in identities._REFERENCE}
    plumbing = {package / "errors.py", package / "models/identity.py", package / "data/digests.py"}
    asking = ("client", "types", "journal", "identities")
    plumbing |= {package / "generation" / f"{name}.py" for name in asking}
    for file in here:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith("cft_trl")):
                base = file.parent if node.level else package.parent
                needed = base / Path(*(node.module or "").split("."))
                assert needed.with_suffix(".py") in here | plumbing, f"{file.name} uses {needed}"


def test_another_wording_is_written_anew(tmp_path, monkeypatch):
    recipe = recipe_for("reference")
    build(recipe, tmp_path / "out")
    before = critiques(tmp_path / "out")
    from cft_trl.sources import reference

    monkeypatch.setattr(reference, "CONFIRMED", ("It is {answer}, as found.",))
    monkeypatch.setattr(identities, "code_digest", lambda *files: "0" * 16)
    build(recipe, tmp_path / "out")
    build(recipe, tmp_path / "fresh")
    assert critiques(tmp_path / "out") == critiques(tmp_path / "fresh") != before


@pytest.fixture
def stages_run(monkeypatch):
    ran, original = [], building._run
    monkeypatch.setattr(building, "_run", lambda job, stage, *rest: ran.append(stage) or original(job, stage, *rest))
    return ran


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
    monkeypatch.setattr(marks, "_dataset_commit", lambda name, revision: now)
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


# ---- what was published before ----


def test_the_dataset_of_a_build_that_begins_anew_is_not_taken_for_the_new_one(tmp_path, monkeypatch, capsys):
    out, recipe = tmp_path / "out", recipe_for("reference")
    build(recipe, out)
    before = {name: file.read_bytes() for name, file in published_files(out).items()}

    def stopped(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(building, "run_filter", stopped)
    with pytest.raises(KeyboardInterrupt):
        build(with_settings(recipe, "filter", limit=2), out)
    assert "filter begins anew; what was published before lies in" in capsys.readouterr().err
    with pytest.raises(CFTError, match="a build that has not come to its end; the same `cft build` goes on with it"):
        load_local(out)
    with pytest.raises(CFTError, match="run the build to its end"):
        published_files(out)
    assert main(["push", str(out), "org/rows", "--dry-run"]) == 2
    assert "a build that has not come to its end" in capsys.readouterr().err
    earlier = {path.relative_to(out / ".earlier").as_posix(): path for path in (out / ".earlier").rglob("*")}
    assert all(earlier[name].read_bytes() == content for name, content in before.items() if name in earlier)
    assert "data/arithmetic__reference/train-00000-of-00001.parquet" in earlier
    monkeypatch.undo()
    assert build(with_settings(recipe, "filter", limit=2), out).reports["publish"].written == 2
    assert published_files(out)
    assert not (out / ".earlier").exists()


def test_what_is_pushed_has_the_sums_that_are_printed(tmp_path):
    publish_rows(tmp_path, make_rows(20))
    file = max(tmp_path.rglob("*.parquet"), key=lambda path: path.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)  # the size is the same
    with pytest.raises(CFTError, match="not as it was published"):
        published_files(tmp_path)


def test_the_card_of_a_folder_loads_what_is_there(tmp_path, monkeypatch):
    import re

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    from datasets import load_dataset

    for number in (20, 8):
        publish_rows(Path("out"), make_rows(number))
        calls = re.findall(r"load_dataset\((.*?)\)", (tmp_path / "out" / "README.md").read_text())
        loaded = [
            eval(f"load_dataset({call}, cache_dir={str(tmp_path / 'cache')!r})", {"load_dataset": load_dataset})
            for call in calls
        ]
        assert len(loaded[0]) == number
        assert 0 < len(loaded[1]) < number


# ---- two files for one thing ----


@pytest.mark.parametrize(
    "twins", [("train.jsonl", "train.jsonl.gz"), ("train.csv", "train.json"), ("a/x.parquet", "a/x.jsonl")]
)
def test_two_files_that_claim_to_be_the_same_are_refused(tmp_path, twins):
    for name in twins:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        with gzip.open(tmp_path / name, "w") if name.endswith(".gz") else open(tmp_path / name, "wb") as file:
            file.write(b"{}\n")
    names = [Path(name).name for name in sorted(twins)]
    for find in (lambda: files_of_split(tmp_path, "train"), lambda: expand_glob(f"{tmp_path}/**/*")):
        with pytest.raises(CFTError, match=f"{names[0]} and {names[1]} in .* both claim to be the same data"):
            find()
    (tmp_path / twins[0]).unlink()
    assert len(files_of_split(tmp_path, "train")) == 1
    shards = tmp_path / "shards"
    shards.mkdir()
    for name in ("train-00000.jsonl", "train-00001.jsonl", "test.jsonl"):
        (shards / name).write_text("{}\n")
    assert len(files_of_split(shards, "train")) == 2


def test_processbench_is_not_read_from_one_of_two_files(tmp_path):
    from cft_trl.evaluation.processbench import load_critic_rows

    for name in ("math.json", "math-old.json"):
        (tmp_path / name).write_text("[]")
    with pytest.raises(CFTError, match=r"both math-old.json and math.json would be ProcessBench's subset math"):
        load_critic_rows(str(tmp_path))


# ---- several tasks ----


@pytest.mark.slow
def test_every_task_asks_the_same_teacher_and_another_one_anew(tmp_path, capsys):
    pytest.importorskip("datatrove")
    out, here = tmp_path / "out", Spread("local", 2)
    with TellingServer("first", ROOT) as server:
        recipe = recipe_for(f"openai:m@{server.url}")
        build(recipe, out, spread=here)
        build(with_settings(recipe, "critique", temperature=0.5), out, spread=here)
        told = f"critique: 4 answers of {today()} from m at {server.url}; --ask-again asks anew"
        assert told in capsys.readouterr().err
        build(recipe, out, spread=here)
        assert server.asked == 8
        served(ROOT | {"root": "org/second"}, "second")(server)
        build(recipe, out, spread=here)
        assert {row[2].split(".")[0] for row in critiques(out)} == {"Critique by second"}
        build(recipe, out, spread=here, ask_again=True)
        assert server.asked == 16
        assert build(recipe, out, spread=here).kept[-1] == "publish"
        served(ROOT, "first")(server)
        build(recipe, out, spread=here)
        assert server.asked == 16
