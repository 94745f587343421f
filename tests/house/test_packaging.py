"""What an installed package brings and asks for: recipes, links, extras, each asked for before it is too late."""

from __future__ import annotations

import importlib.util
import re
import shutil

import pytest
from conftest import REPOSITORY, make_model

from cft_trl import environment
from cft_trl.cli import main
from cft_trl.commands import recipes
from cft_trl.errors import CFTError


@pytest.fixture
def without(monkeypatch):
    """`without("peft")`: as if it were not installed."""
    found = importlib.util.find_spec

    def hide(*modules):
        monkeypatch.setattr(environment.importlib.util, "find_spec", lambda m: None if m in modules else found(m))

    return hide


def test_recipes_are_copied_and_what_is_there_is_left(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["recipes"]) == 0
    assert "space" in capsys.readouterr().out
    for path in recipes.shipped_files():
        assert (tmp_path / path).read_bytes() == (REPOSITORY / path).read_bytes()
    assert (tmp_path / "recipes" / "qwen2.5-math-7b" / "cft.yaml").is_file()
    assert main(["recipes"]) == 0  # the same again is no conflict
    mine = tmp_path / "recipes" / "smollm2-135m" / "cft.yaml"
    mine.write_text("mine: true")
    (tmp_path / "space" / "app.py").unlink()
    assert main(["recipes"]) == 2
    assert "1 files there are others than ours (recipes/smollm2-135m/cft.yaml)" in capsys.readouterr().err
    assert (mine.read_text(), (tmp_path / "space" / "app.py").exists()) == ("mine: true", False)
    assert main(["recipes", "--force"]) == 0
    assert mine.read_text() != "mine: true"
    monkeypatch.chdir(REPOSITORY)
    assert main(["recipes"]) == 0
    assert "holds them already" in capsys.readouterr().out


def test_an_installed_package_has_them_inside(tmp_path, monkeypatch):
    package = tmp_path / "site" / "cft_trl"
    for name in recipes.FOLDERS:
        shutil.copytree(REPOSITORY / name, package / "_shipped" / name)
    monkeypatch.setattr(recipes, "__file__", str(package / "commands" / "recipes.py"))
    assert recipes.shipped_folder() == package / "_shipped"
    shutil.rmtree(package / "_shipped")
    with pytest.raises(CFTError, match="came without its recipes"):
        recipes.shipped_folder()


@pytest.mark.parametrize("source", [None, "https://example.org/cft"])
def test_no_link_of_the_package_page_leads_nowhere(source, monkeypatch):
    import setuptools

    monkeypatch.setattr(setuptools, "setup", lambda **_: None)
    spec = importlib.util.spec_from_file_location("package_setup", REPOSITORY / "setup.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    page = module.package_page(readme, source)
    targets = re.findall(r"\]\(([^)\s]+)", page)
    assert [target for target in targets if not re.match(r"https?://|#", target)] == []
    relative = re.findall(r"\]\((?!https?://|#)([^)\s]+)", readme)
    assert relative
    if source:
        assert all(any(target.endswith(f"/main/{path}") for target in targets) for path in relative)
    for path in relative:  # and in a clone they lead somewhere
        assert (REPOSITORY / path.partition("#")[0]).exists()


TRAIN = "train --model_name_or_path RUN --dataset_name arithmetic --output_dir out --use_cpu true --bf16 false"


def test_the_package_says_that_it_is_typed():
    assert (REPOSITORY / "cft_trl" / "py.typed").is_file()


@pytest.mark.parametrize(
    ("module", "words", "extra"),
    [
        ("mpmath", "select RUN --benchmark problems.jsonl", "grade"),
        ("lighteval", "eval RUN --tasks gsm8k:2", "eval"),
        ("peft", "train --model_name_or_path RUN --dataset_name arithmetic --use_peft true --output_dir out", "lora"),
        ("bitsandbytes", f"{TRAIN} --load_in_4bit true --use_peft true", "gpu"),
        ("bitsandbytes", f"{TRAIN} --optim adamw_bnb_8bit", "gpu"),
        ("liger_kernel", f"{TRAIN} --use_liger_kernel true", "gpu"),
        ("kernels", f"{TRAIN} --attn_implementation kernels-community/flash-attn3", "gpu"),
        ("openai", "solve name --base-url http://127.0.0.1:9/v1 Why?", "synth"),
        ("gradio", "demo --model RUN", "space"),
    ],
)
def test_what_is_missing_is_told_before_a_model_is_loaded(
    tmp_path, tokenizer, without, monkeypatch, capsys, module, words, extra
):
    import cft_trl.models.loading
    import cft_trl.training.trainer  # what TRL finds out of its libraries while it is imported it never asks again

    run = tmp_path / "run"
    for folder in (run, run / "checkpoint-1"):
        make_model(tokenizer).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        (folder / "trainer_state.json").write_text('{"log_history": []}')
    (tmp_path / "problems.jsonl").write_text('{"query": "6 x 7?", "gold": "42"}\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cft_trl.models.loading, "load_model", lambda *_, **__: pytest.fail("a model was loaded"))
    without(module)
    assert main([str(run) if word == "RUN" else word for word in words.split()]) == 2
    [told] = [line for line in capsys.readouterr().err.splitlines() if line.startswith(("cft:", "loading"))]
    assert re.fullmatch(rf"cft: .* which is not installed; pip install 'cft-trl\[{extra}\]'", told)
    assert not (tmp_path / "out").exists()
    assert not (run / "selection.json").exists()


def test_a_teacher_at_an_endpoint_is_told_what_is_missing(tmp_path, without, capsys):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "{name: x, source: {corpus: arithmetic, limit: 2}, critique: {teachers: ['openai:m@http://127.0.0.1:9/v1']}}"
    )
    without("openai")
    assert main(["build", str(recipe), "--output", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.fullmatch(r"cft: .* needs openai, which is not installed; pip install 'cft-trl\[synth\]'", told)


def test_verdicts_need_no_grader(without):
    from cft_trl.evaluation.validation import load_validation

    without("mpmath")
    assert load_validation("arithmetic-critic", 2).kind == "verdicts"


@pytest.mark.parametrize(
    ("settings", "modules", "needs"),
    [
        ({"near_duplicates": 0.9}, ("datasketch",), "filter.near_duplicates needs datasketch"),
        ({"language": "en"}, ("py3langid",), "filter.language needs py3langid"),
        ({}, ("mpmath",), "(filter.agree, filter.boxed) needs mpmath"),
    ],
)
def test_a_build_asks_for_its_filters_before_its_teacher(tmp_path, without, monkeypatch, settings, modules, needs):
    import json

    from cft_trl.synthesis import build as module
    from cft_trl.synthesis.recipe import read_recipe

    rows = [{"query": "6 x 7?", "response": "It is 43.", "reference_answer": "42"}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    recipe = {"name": "mine", "source": {"corpus": "local", "path": str(tmp_path / "rows.jsonl")}, "filter": settings}
    recipe["critique"] = {"teachers": ["transformers:" + str(tmp_path)]}
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    without(*modules)
    monkeypatch.setattr(module, "ask_stage", lambda *_, **__: pytest.fail("a teacher was asked"))
    with pytest.raises(CFTError, match=re.escape(needs)):
        module.build(read_recipe(tmp_path / "recipe.yaml"), tmp_path / "out")


def test_a_list_of_one_module_stays_a_list():
    from trl import ModelConfig

    from cft_trl.training.script import lora_config

    for given, wanted in (
        (["q_proj"], {"q_proj"}),
        ("q_proj", {"q_proj"}),
        (["q_proj", "v_proj"], {"q_proj", "v_proj"}),
        ("all-linear", "all-linear"),
        (r".*\.(q|v)_proj", r".*\.(q|v)_proj"),
    ):
        made = lora_config(ModelConfig(use_peft=True, lora_target_modules=given))
        assert made.target_modules == wanted
    assert lora_config(ModelConfig()) is None
