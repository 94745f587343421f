"""The app's model: which it is stands on the page, and a visitor hears of it when it is that no longer."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace

import pytest
from eval_folders import ROOT, Served, save_model
from space_app import Scripted, settings

from cft_trl.demo import DemoSettings, loaded
from cft_trl.demo import runtime as runtimes
from cft_trl.demo.actions import Actions
from cft_trl.demo.app import _header
from cft_trl.demo.asks import Ask
from cft_trl.demo.loaded import Loaded
from cft_trl.demo.runtime import Runtime
from cft_trl.models.identity import folder_identity


@pytest.fixture
def model(tmp_path):
    save_model(tmp_path / "model")
    return tmp_path / "model"


def ask(runtime, chosen, part="cft"):
    """The status line at the end of an answer."""
    return list(Actions(chosen, runtime).show(part, Ask("direct", "2 + 2?", max_new_tokens=4)))[-1][1]


def test_a_folder_that_was_trained_in_is_told_with_the_next_answer(model):
    chosen = settings(model=str(model), base_model=None)
    runtime = Runtime(chosen)
    runtime.load()
    weights = folder_identity(model)["weights"][:12]
    assert f"<small>weights {weights}</small>" in _header(chosen, runtime)
    assert "written to" not in ask(runtime, chosen)
    save_model(model, seed=1.0)
    told = ask(runtime, chosen)
    assert f"written to since the app loaded it; this is still the model of weights {weights}" in told
    assert str(model) not in told
    # Whoever starts it again has the new one.
    again = Runtime(chosen)
    again.load()
    assert folder_identity(model)["weights"][:12] != weights
    assert f"weights {folder_identity(model)['weights'][:12]}" in _header(chosen, again)
    assert "written to" not in ask(again, chosen)


@pytest.mark.parametrize("file", ["chat_template.jinja", "config.json", "tokenizer.json"])
def test_each_file_of_a_model_counts_and_no_other(model, tmp_path, file):
    watched = Loaded.of_folder(str(model))
    (model / "metrics.json").write_text("{}")
    os.link(model / "model.safetensors", tmp_path / "linked.safetensors")  # as `cft select` does
    assert watched.note() is None
    (model / file).write_text("another")
    assert "written to" in watched.note()


def test_an_adapters_base_counts_too(model, tmp_path):
    import json

    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(model)}))
    watched = Loaded.of_folder(str(tmp_path / "adapter"))
    assert watched.note() is None
    save_model(model, seed=1.0)
    assert "written to" in watched.note()


def noticed(watched):
    """The note, for which the network is asked beside the request."""
    watched.note()
    for _ in range(200):
        if told := watched.note():
            return told
        time.sleep(0.02)
    return None


def test_an_endpoint_that_serves_another_model(monkeypatch):
    monkeypatch.setitem(loaded._EVERY, "endpoint", -1.0)
    with Served(ROOT) as server:
        chosen = replace(settings(base_model=None), model="m", endpoint=server.url)
        runtime = Runtime(chosen, {"cft": Scripted("The answer is 4.")})
        runtime.loaded["cft"] = Loaded.of_endpoint("m", server.url, "OPENAI_API_KEY")
        assert server.url not in _header(chosen, runtime)
        runtime.note("cft")
        server.says = ROOT | {"root": "/models/second"}
        assert "serves another model under this name" in noticed(runtime.loaded["cft"])
        assert "serves another model under this name" in ask(runtime, chosen)
        assert "models/second" not in ask(runtime, chosen)


def test_a_branch_that_moved(monkeypatch):
    commits = ["b101308f" * 5]
    monkeypatch.setitem(loaded._EVERY, "hub", -1.0)
    monkeypatch.setattr(loaded, "hub_commit", lambda name, revision: commits[-1])
    watched = Loaded.of_hub("org/model", "main", commits[0])
    assert watched.told == "commit b101308fb101"
    assert watched.note() is None
    commits.append(None)  # the Hub does not answer
    watched._look()
    assert watched.note() is None
    commits.append("c4" * 20)
    assert "A newer version of this model is on the Hub; this is still commit b101308fb101" in noticed(watched)


def test_a_model_at_an_endpoint_is_asked_in_the_words_of_the_run_that_is_named(tmp_path, monkeypatch):
    (tmp_path / "settings.json").write_text(
        json.dumps(
            {
                "prompt_preset": "paper",
                "prompt": "Accept or reject. {{ query }} Solution: {{ response }}",
                "verdicts": {"right": "accept", "wrong": "reject"},
            }
        )
    )
    given = {"model": "m", "base_model": None, "endpoint": "http://localhost:9/v1", "prompt_preset": str(tmp_path)}
    chosen = settings(**given)
    assert DemoSettings.from_environment({"CFT_PROMPT_PRESET": str(tmp_path)}).wording == chosen.wording
    model = Scripted(critique="No.\n\nConclusion: reject [END]")
    monkeypatch.setattr(runtimes, "Endpoint", lambda *_, **__: model)
    runtime = Runtime(chosen)
    runtime.load()
    last = list(Actions(chosen, runtime).critique("2 + 2?", "5"))[-1]
    assert model.asked[0][0][-1]["content"] == "Accept or reject. 2 + 2? Solution: 5"
    assert last["verdict"] == "wrong"
    assert last["done"]
