"""Revisions pinned everywhere, and everything again without a network: whole commands in processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hub_runs import make_run
from hub_server import OWNER, READER, HubServer
from test_publish import make_rows, publish_rows

from cft_trl.errors import CFTError
from cft_trl.evaluation.backends import Backend
from cft_trl.generation.names import parse_model_name
from cft_trl.hub.push_model import push_model
from cft_trl.hub.upload import push_dataset
from cft_trl.synthesis.teachers import open_teachers

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of huggingface_hub's uploads


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub with two revisions of a private model, v1 and main; what each of them says differs."""
    from huggingface_hub import HfApi

    with HubServer(tmp_path / "hub") as server:
        server.patch_client(monkeypatch, OWNER)
        push_model(make_run(tmp_path / "first", steps=(), base_model={}), "org/critic", private=True)
        HfApi().create_tag("org/critic", tag="v1")
        second = make_run(tmp_path / "second", steps=(), seed=-2.0, base_model={})
        (second / "settings.json").write_text('{"prompt_preset": "paper"}')
        told = json.loads((second / "training.json").read_text())
        told["settings"]["prompt_preset"] = "paper"
        (second / "training.json").write_text(json.dumps(told))
        push_model(second, "org/critic", private=True)
        yield server


def weights(model) -> float:
    return model.model.norm.weight.double().sum().item()


def test_each_way_to_a_model_takes_its_revision(hub):
    from cft_trl.models.loading import load_model
    from cft_trl.models.trained_prompt import trained_preset

    old, new = (weights(load_model("org/critic", revision=revision)[0]) for revision in ("v1", "main"))
    assert old != new
    first = hub.repo("model", "org/critic")["tags"]["v1"]
    assert weights(load_model("org/critic", revision=first)[0]) == old
    with Backend("transformers", "org/critic", revision="v1") as backend:
        assert weights(backend.generator().model) == old
        assert backend.commit() == first
    [teacher] = open_teachers(["transformers:org/critic@v1"])
    assert teacher.model == "org/critic@v1"  # in the rows and in the journal's keys
    assert weights(teacher._load().model) == old
    assert trained_preset("org/critic", "v1") == "compact"
    assert trained_preset("org/critic") == "paper"
    assert trained_preset("org/critic", "v1", on_hub=False) == "paper"


def test_a_branch_that_moves_is_another_model_and_both_parts_are_of_one_commit(hub, tmp_path, monkeypatch):
    from transformers import AutoTokenizer

    from cft_trl.models.identity import model_identity, what_changed
    from cft_trl.models.loading import load_model
    from cft_trl.models.names import hub_commit

    before = model_identity("org/critic")
    assert before == {"kind": "hub", "name": "org/critic", "commit": hub_commit("org/critic")}
    old = weights(load_model("org/critic")[0])
    real = AutoTokenizer.from_pretrained

    def moved_meanwhile(*args, **kwargs):
        tokenizer = real(*args, **kwargs)
        push_model(make_run(tmp_path / "third", steps=(), seed=5.0, base_model={}), "org/critic", private=True)
        return tokenizer

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", moved_meanwhile)
    assert weights(load_model("org/critic")[0]) == old, "the weights of the commit whose tokenizer was loaded"
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", real)
    assert weights(load_model("org/critic")[0]) != old
    assert what_changed(before, model_identity("org/critic")).startswith("another commit on the Hub")
    assert model_identity("org/critic", "v1")["commit"] == hub.repo("model", "org/critic")["tags"]["v1"]


@pytest.mark.parametrize(
    ("text", "source", "revision", "model"),
    [
        ("vllm:org/model@3f1c9a2", "org/model", "3f1c9a2", "org/model@3f1c9a2"),
        ("transformers:org/model", "org/model", None, "org/model"),
        ("vllm:./here@home", "./here@home", None, "here@home"),
    ],
)
def test_a_teachers_revision_is_part_of_its_name(text, source, revision, model):
    spec = parse_model_name(text)
    assert (spec.source, spec.revision, spec.model) == (source, revision, model)
    with pytest.raises(CFTError, match="no revision after the '@'"):
        parse_model_name("vllm:org/model@")


def test_a_vllm_server_of_ours_is_started_at_the_revision(hub, monkeypatch):
    from cft_trl.generation import vllm_server as servers

    started = []

    def process_group(command, output, environment):
        started.append(command)
        raise OSError("not here")

    monkeypatch.setattr(servers, "_python", lambda: sys.executable)
    monkeypatch.setattr(servers, "process_group", process_group)
    with (
        pytest.raises(CFTError, match="cannot be started"),
        Backend("vllm", "org/critic", revision="v1", trust_remote_code=True) as backend,
    ):
        backend.generator()
    [command] = started
    assert command[command.index("--model") + 1] == "org/critic"
    assert command[command.index("--revision") + 1] == hub.repo("model", "org/critic")["tags"]["v1"]
    assert "--trust-remote-code" in command


TRAIN = """
import json, sys
from cft_trl.cli import main
common = ["train", "--model_name_or_path", "org/critic", "--model_revision", sys.argv[1], "--dataset_name", "org/rows",
          "--dataset_revision", "v1", "--max_steps", "1", "--report_to", "none", "--use_cpu", "true",
          "--save_strategy", "no", "--bf16", "false", "--output_dir", sys.argv[2]]
assert main(common) == 0
ask = ["org/critic", "--revision", sys.argv[1], "--max-new-tokens", "4"]
assert main(["solve", *ask, "2 + 2?"]) == 0
assert main(["critique", *ask, "--query", "2 + 2?", "--response", "5"]) == 0
assert main(["convert", "org/rows", sys.argv[2] + "/rows.jsonl", "--to", "records", "--revision", "v1"]) == 0
"""


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_run_from_pinned_revisions_and_the_same_without_a_network(hub, tmp_path, monkeypatch):
    from huggingface_hub import HfApi

    publish_rows(tmp_path / "out", make_rows(20))
    push_dataset(tmp_path / "out", "org/rows", private=True)
    HfApi().create_tag("org/rows", tag="v1", repo_type="dataset")
    publish_rows(tmp_path / "out", make_rows(8))
    push_dataset(tmp_path / "out", "org/rows")
    model, rows = (hub.repo(*repo)["tags"]["v1"] for repo in (("model", "org/critic"), ("dataset", "org/rows")))
    env = hub.environment(READER, tmp_path / "home")

    def train(name: str, **more: str) -> None:
        words = [sys.executable, "-c", TRAIN, "v1", str(tmp_path / name)]
        done = subprocess.run(words, env={**env, **more}, capture_output=True, text=True, timeout=580)
        assert done.returncode == 0, done.stderr[-3000:]

    train("online")
    before = len(hub.requests)
    train("offline", HF_HUB_OFFLINE="1")
    assert len(hub.requests) == before
    for name in ("online", "offline"):
        record = json.loads((tmp_path / name / "training.json").read_text())
        assert record["base_model"] == {"name": "org/critic", "commit": model}
        assert (record["dataset"]["name"], record["dataset"]["commit"]) == ("org/rows", rows)
        card = (tmp_path / name / "README.md").read_text()
        assert f"(commit `{model}`)" in card
        assert f"Rows: org/rows, revision `{rows}`." in card
        assert (tmp_path / name / "rows.jsonl").read_text().count("\n") == 20
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("online", "offline")]
    assert weights[0] == weights[1]
