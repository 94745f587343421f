"""The recipes of hub_datasets/: they hold what was published, and run on rows with the real corpora's columns."""

from __future__ import annotations

import itertools
import json
from collections import Counter

import pytest
from conftest import REPOSITORY
from faulty_server import FaultyServer

from cft_trl.cli import main
from cft_trl.data.stage_files import RowFile, stage_path
from cft_trl.synthesis.recipe import read_recipe, to_yaml

FOLDER = REPOSITORY / "hub_datasets"
NAMES = sorted(path.parent.name for path in FOLDER.glob("*/recipe.yaml"))

# One row of each corpus as it is on the Hub, but for its texts; {n} tells the rows apart.
WEBINSTRUCT = {
    "orig_question": "What is the sum of the first {n} odd numbers?",
    "orig_answer": "It is {n} times {n}, because each odd number is the next square's border.",
    "source": "mathstackexchange",
    "index": 71025,
}
METAMATH = {
    "type": "GSM_Rephrased",
    "query": "If a baker fills {n} trays with 12 rolls each, how many rolls are there?",
    "original_question": "A baker fills {n} trays with 12 rolls. How many rolls?",
    "response": "There are {n} * 12 rolls, which is 12 * {n}.\nThe answer is: {n}",
}
NUMINAMATH = {
    "source": "cn_k12",
    "problem": "A rectangle has sides ${n}$ and $2$. What is half its area?",
    "solution": "Its area is ${n} \\cdot 2$, and half of that is $\\boxed{{{n}}}$.",
    "messages": [{"role": "user", "content": "A rectangle"}, {"role": "assistant", "content": "Its area"}],
}
ROWS = {"webinstruct": WEBINSTRUCT, "metamath": METAMATH, "numinamath": NUMINAMATH}


@pytest.fixture
def corpus_file(tmp_path):
    """A Parquet file of 30 rows with a corpus' columns."""

    def write(name: str):
        import pyarrow
        from pyarrow import parquet

        rows = []
        for number in range(30):
            row = {key: value.format(n=number) if "{n" in str(value) else value for key, value in ROWS[name].items()}
            rows.append(row)
        path = tmp_path / f"{name}.parquet"
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        return path

    return write


def run(name: str, folder, *more: str) -> int:
    recipe = str(FOLDER / name / "recipe.yaml")
    return main(["build", recipe, "--output", str(folder), "--set", "decontaminate.benchmarks=none", *more])


def test_every_folder_has_its_recipe_and_card():
    assert NAMES == ["code-review", "metamath", "numinamath", "one-shot", "rubric", "webinstruct"]
    table = (FOLDER / "README.md").read_text()
    for name in NAMES:
        assert len((FOLDER / name / "card.md").read_text()) > 500
        assert f"({name}/recipe.yaml)" in table


@pytest.mark.parametrize("name", NAMES)
def test_recipes_read_back_as_they_were_run(name, tmp_path):
    recipe = read_recipe(FOLDER / name / "recipe.yaml")
    again = tmp_path / "recipe.yaml"
    again.write_text(to_yaml(recipe))
    assert read_recipe(again) == recipe


@pytest.mark.parametrize("name", ["webinstruct", "metamath", "numinamath"])
def test_the_published_teacher_call(name):
    critique = read_recipe(FOLDER / name / "recipe.yaml").critique
    assert critique.teachers == ("openai:gpt-4o-2024-11-20",)
    assert (critique.temperature, critique.top_p, critique.max_tokens) == (0.3, 0.95, 3200)
    assert not critique.show_reference


def test_the_three_sizes_of_webinstruct_cft():
    path = FOLDER / "webinstruct" / "recipe.yaml"
    large, middle, small = (
        read_recipe(path, more) for more in ([], ["filter.preset=longest-50k"], ["source.limit=4000"])
    )
    assert (large.source.limit, middle.source.limit, small.source.limit) == (600_000, 600_000, 4_000)
    assert (large.filter.preset, middle.filter.preset, small.filter.preset) == (None, "longest-50k", None)
    comments = path.read_text()
    assert "--set filter.preset=longest-50k" in comments
    assert "--limit 4000" in comments


def test_the_published_one_shot_numbers():
    recipe = read_recipe(FOLDER / "one-shot" / "recipe.yaml")
    assert (recipe.source.limit, len(recipe.respond.models), recipe.respond.samples) == (1, 10, 10)
    assert (recipe.respond.temperature, recipe.respond.top_p) == (0.6, 0.95)
    assert (len(recipe.critique.teachers), recipe.critique.samples, recipe.critique.preset) == (7, 1, "boxed")
    assert recipe.filter.preset == "one-shot"


@pytest.mark.parametrize("name", ["webinstruct", "metamath", "numinamath"])
def test_the_whole_chain_on_the_corpus_columns(name, corpus_file, tmp_path):
    folder = tmp_path / "out"
    with FaultyServer(models="m") as server:
        teacher = ["--limit", "20", "--teacher", f"openai:m@{server.url}"]
        assert run(name, folder, *teacher, "--set", f"source.path={corpus_file(name)}") == 0
        assert server.arrived.total() == 20
    rows = list(RowFile(stage_path(folder, "decontaminate")))
    assert len(rows) == 20
    assert {row["source"] for row in rows} == {name}
    assert {row["verdict"] for row in rows} == {"right", "wrong"}, "verdicts against the response's own answer are kept"
    card = (folder / "README.md").read_text()
    assert (FOLDER / name / "card.md").read_text().strip() in card
    from datasets import load_dataset

    assert len(load_dataset(str(folder), f"{name}__m", split="train")) == 20


def test_a_dry_run_of_the_published_size(corpus_file, capsys):
    recipe, path = str(FOLDER / "webinstruct" / "recipe.yaml"), corpus_file("webinstruct")
    assert main(["build", recipe, "--dry-run", "--batch", "--set", f"source.path={path}"]) == 0
    out = capsys.readouterr().out
    assert "600,000" in out
    assert "openai:gpt-4o-2024-11-20" in out
    assert out.count("--- prompt ") == 3


def test_real_gsm8k_rows_checked_against_the_real_benchmarks(shared_data, tmp_path, monkeypatch):
    monkeypatch.setenv("CFT_BENCHMARKS_DIR", str(shared_data / "benchmarks"))
    recipe, folder = tmp_path / "recipe.yaml", tmp_path / "out"
    path = shared_data / "train" / "gsm8k.jsonl.gz"
    recipe.write_text(
        f"name: a\nsource: {{corpus: gsm8k, path: {path}, limit: 100}}\ncritique: {{teachers: reference}}"
    )
    assert main(["build", str(recipe), "--output", str(folder)]) == 0
    rows = list(RowFile(stage_path(folder, "decontaminate")))
    failures = [line["stage"] for line in RowFile(folder / "failures.jsonl")]
    assert len(rows) + len(failures) == 100
    assert len(rows) > 90, "train questions are no copies of the benchmarks'"
    assert {row["verdict"] for row in rows} == {"right"}, "the corpus' own solutions"
    assert "| gsm8k | 1319 |" in (folder / "README.md").read_text()


def test_one_problem_becomes_many_critiques(tmp_path, monkeypatch):
    """2 solvers x 10 samples, half of them right, x 3 teachers, who are mistaken about attempt 4 and box 31 for 5."""
    attempts = itertools.count()

    def answer(text: str, seed: int | None) -> str:
        if "Judge whether" not in text:
            attempt = next(attempts)
            return f"This is attempt {attempt}: the amount is $\\boxed{{{30 + attempt % 2}}}$."
        right = ("boxed{30}" in text) != ("attempt 4:" in text)
        box = 31 if "attempt 5:" in text else 30
        return f"The amount is $\\boxed{{{box}}}$.\n\nConclusion: {'right' if right else 'wrong'} [END]"

    monkeypatch.setattr("faulty_server.answer_to", answer)
    folder = tmp_path / "out"
    problem = tmp_path / "problem.jsonl"
    problem.write_text((FOLDER / "one-shot" / "problem.jsonl").read_text())
    with FaultyServer(models="a,b,c,d,e") as server:
        solvers = json.dumps([f"openai:{name}@{server.url}" for name in "ab"])
        teachers = [word for name in "cde" for word in ("--teacher", f"openai:{name}@{server.url}")]
        more = ["--set", f"source.path={problem}", "--set", f"respond.models={solvers}"]
        assert run("one-shot", folder, *teachers, *more) == 0
        assert server.arrived.total() == 20 + 60
    assert len(RowFile(stage_path(folder, "respond"))) == 20
    rows = list(RowFile(stage_path(folder, "critique")))
    assert len(rows) == len({row["id"] for row in rows}) == 60
    assert {row["teacher"] for row in rows} == set("cde")
    assert {row["response_source"] for row in rows} == set("ab")
    reasons = Counter(line["reason"].partition(":")[0] for line in RowFile(folder / "failures.jsonl"))
    assert reasons == {"agree": 3, "boxed": 3}
    assert len(RowFile(stage_path(folder, "decontaminate"))) == 54, "fewer than 600: all that are not wrong"
