"""A build that asks models behind endpoints: another one by now is asked anew, the same one is gone on with.

Beside test_build_identity.py; the server says what it serves, and counts what it is asked.
"""

from __future__ import annotations

import json

import pytest
from build_runs import ROOT, critiques, lines_of, no_plots, recipe_for, served, today, with_settings
from telling_server import TellingServer

from cft_trl.data.stage_files import stage_path
from cft_trl.errors import CFTError
from cft_trl.synthesis import build as building
from cft_trl.synthesis.build import Spread, build
from cft_trl.synthesis.recipe import read_recipe

__all__ = ["no_plots"]  # a fixture: used by its name

pytest.importorskip("openai")
pytestmark = pytest.mark.usefixtures("no_plots")

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
