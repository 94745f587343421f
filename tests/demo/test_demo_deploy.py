"""The Space's files, and `cft demo --deploy` against a Hub of our own: what goes there runs as it is."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import REPOSITORY
from hub_server import OWNER, READER, HubServer

from cft_trl.cli import main
from cft_trl.demo.deploy import REQUIRED, space_files, templates


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with HubServer(tmp_path / "hub") as server:
        server.patch_client(monkeypatch, OWNER)
        yield server


def test_the_folder_space_is_what_is_deployed():
    for name, text in templates().items():
        assert (REPOSITORY / "space" / name).read_text(encoding="utf-8") == text, "python -m cft_trl.demo.deploy space"


def test_the_front_matter_is_what_a_space_needs():
    front = yaml.safe_load(templates()["README.md"].split("---")[1])
    assert (front["sdk"], front["app_file"]) == ("gradio", "app.py")
    assert re.fullmatch(r"6\.\d+\.\d+", front["sdk_version"])
    assert len(front["short_description"]) <= 60


def test_the_package_travels_whole():
    files = space_files()
    there = {
        path.relative_to(REPOSITORY).as_posix()
        for suffix in ("py", "yaml")
        for path in (REPOSITORY / "cft_trl").rglob(f"*.{suffix}")
        if "_shipped" not in path.parts
    }
    assert "cft_trl/sources/arithmetic/level1.yaml" in there
    assert there <= set(files)
    assert {"cft_trl/demo/style.css", "cft_trl/demo/page.js", "app.py", "README.md", "requirements.txt"} <= set(files)
    assert not [name for name in files if "__pycache__" in name]


@pytest.mark.slow
def test_the_app_answers_with_what_the_space_requires_and_nothing_else(tmp_path, tokenizers, tiny_model):
    """In a folder of its own, with every other dependency of ours out of reach."""
    tiny_model(tokenizers("chatml")).save_pretrained(tmp_path / "model")
    tokenizers("chatml").save_pretrained(tmp_path / "model")
    for name, content in space_files().items():
        path = tmp_path / "space" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    code = """
import sys
for name in ("trl", "peft", "lighteval", "math_verify", "datatrove", "datasketch", "matplotlib"):
    sys.modules[name] = None  # importing it fails
import cft_trl
assert cft_trl.__file__.startswith(sys.argv[1]), cft_trl.__file__
from cft_trl.demo import serve, DemoSettings
from gradio_client import Client
app = serve(DemoSettings.from_environment(), host="127.0.0.1", wait=False)
answer = Client(app.local_url, verbose=False).predict("2+2?", max_new_tokens=4, api_name="/solve")
assert answer["done"] and answer["completion_tokens"] > 0, answer
Client(app.local_url, verbose=False).predict("2+2?", "2+2 = 5", max_new_tokens=4, api_name="/critique")
app.close(verbose=False)
print("answered")
"""
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "space")],
        cwd=tmp_path / "space",
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(tmp_path),
            "CFT_MODEL": str(tmp_path / "model"),
            "HF_HUB_OFFLINE": "1",
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "answered" in run.stdout, run.stderr[-2000:]
    assert set(REQUIRED) >= {"torch", "transformers", "openai"}


def test_a_space_is_made_with_its_variables(hub, capsys):
    words = [
        "demo",
        "--model",
        "org/model",
        "--base-model",
        "org/base",
        "--max-new-tokens",
        "99",
        "--deploy",
        "org/space",
    ]
    assert main(words) == 0
    assert capsys.readouterr().out.strip() == f"{hub.url}/spaces/org/space"
    repo = hub.repo("space", "org/space")
    assert repo["sdk"] == "gradio"
    assert {name: held["value"] for name, held in repo["variables"].items()} == {
        "CFT_MODEL": "org/model",
        "CFT_BASE_MODEL": "org/base",
        "CFT_MAX_NEW_TOKENS": "99",
    }
    files = space_files()
    assert set(hub.files("org/space", "space")) == {*files, ".gitattributes"}
    assert hub.read("org/space", "cft_trl/demo/app.py", "space") == files["cft_trl/demo/app.py"]


def test_a_second_deploy_replaces_the_first_and_leaves_other_files_alone(hub, monkeypatch):
    from huggingface_hub import HfApi

    assert main(["demo", "--model", "org/old", "--deploy", "org/space"]) == 0
    for name in ("cft_trl/gone.py", "notes.md"):
        HfApi().upload_file(path_or_fileobj=b"x", path_in_repo=name, repo_id="org/space", repo_type="space")
    assert main(["demo", "--model", "org/new", "--deploy", "org/space"]) == 0
    assert hub.repo("space", "org/space")["variables"]["CFT_MODEL"]["value"] == "org/new"
    left = set(hub.files("org/space", "space"))
    assert "cft_trl/gone.py" not in left
    assert "notes.md" in left


def test_a_dry_run_lists_the_files_and_sends_nothing(hub, capsys):
    assert main(["demo", "--model", "org/model", "--deploy", "org/space", "--dry-run"]) == 0
    listed = capsys.readouterr().out
    assert "cft_trl/demo/style.css" in listed
    assert "CFT_MODEL=org/model" in listed
    assert not hub.requests


def test_a_token_that_may_not_write_is_told_in_one_line(hub, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", READER)
    assert main(["demo", "--deploy", "org/space"]) == 2
    told = capsys.readouterr().err
    assert "deploy to org/space: the token may not write there (403)" in told
    assert READER not in told
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--deploy", "space"], "--deploy 'space': give ORG/NAME"),
        (["--deploy", "org/space", "--model", "FOLDER"], "a Space cannot read this folder"),
        (["--deploy", "org/space", "--rows", "FOLDER"], "a Space cannot read this; push it"),
        (["--deploy", "org/space", "--hardware", "zero"], "did you mean 'zero-a10g'?"),
        (["--deploy", "org/space", "--endpoint", "https://me:word@host/v1"], "variables are public"),
        (["--private"], "--private belongs to --deploy"),
        (["--dry-run"], "--dry-run belongs to --deploy"),
        (["--endpoint", "host:8000"], "give an address"),
        (["--model", "./no/such/folder"], "neither a folder here nor a Hub id"),
        (["--prompt-preset", "mine"], "give paper, compact, per_step or a run's folder"),
        (["--deploy", "org/space", "--prompt-preset", "RUN"], "a Space cannot read this folder; give a preset's name"),
    ],
)
def test_a_mistake_is_told_in_one_line(hub, tmp_path, capsys, words, told):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "settings.json").write_text('{"prompt_preset": "compact"}')
    paths = {"FOLDER": str(tmp_path), "RUN": str(tmp_path / "run")}
    assert main(["demo", *(paths.get(word, word) for word in words)]) == 2
    shown = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("loading")]
    assert len(shown) == 1
    assert told in shown[0]
    assert "me:word" not in shown[0]
    assert not [request for request in hub.requests if request[0] != "GET"]


def test_a_port_that_is_taken_is_told_in_one_line(capsys, monkeypatch):
    import socket

    from space_app import Scripted, settings

    from cft_trl.demo.runtime import Runtime

    monkeypatch.setattr(Runtime, "load", lambda self: self._models.update(cft=Scripted()))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert settings().model == "org/tuned"
        assert main(["demo", "--host", "127.0.0.1", "--port", str(taken.getsockname()[1])]) == 2
    assert "the app cannot be served" in capsys.readouterr().err


def test_the_package_without_gradio_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["demo"]) == 2
    assert "pip install 'cft-trl[space]'" in capsys.readouterr().err


def test_what_is_not_python_is_declared_as_package_data():
    """Else an installed package would serve a page without its style."""
    import tomllib

    patterns = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"][
        "cft_trl"
    ]
    suffixes = {Path(pattern).suffix for pattern in patterns}
    assert {path.suffix for path in (REPOSITORY / "cft_trl" / "demo").iterdir() if path.is_file()} - {".py"} <= suffixes
