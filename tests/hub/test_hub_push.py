"""The way to the Hub and back, against the server of hub_server.py."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
from hub_server import OWNER, READER, STRANGER, HubServer
from test_publish import make_rows, publish_rows

from cft_trl.data.records import to_messages, to_webinstruct_cft
from cft_trl.errors import CFTError
from cft_trl.hub.upload import PUBLISHED, check_push, push_dataset

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of huggingface_hub's uploads

WRONG = "hf_plantedButWrong000000000000"


@pytest.fixture
def hub(tmp_path):
    with HubServer(tmp_path / "hub", part_size=8_000) as server:
        yield server


@pytest.fixture
def folder(tmp_path):
    """A build's folder: what is published, and what must stay at home."""
    out = tmp_path / "out"
    publish_rows(out, make_rows(20))
    (out / "failures.jsonl").write_text('{"id": "a", "reason": "429"}\n')
    (out / "journal").mkdir()
    (out / "journal" / "critique.jsonl").write_text("secret\n")
    (out / "data" / ".DS_Store").write_text("left by a file manager")
    return out


def client(code: str, hub: HubServer, tmp_path: Path, token: str | None = None) -> str:
    """What a process prints whose Hub is the server."""
    env = hub.environment(token, tmp_path / "home")
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_a_push_is_one_commit_of_what_is_published(hub, folder, monkeypatch):
    hub.patch_client(monkeypatch, OWNER)
    url = push_dataset(folder, "org/rows")
    files = hub.files("org/rows")
    there = {str(path.relative_to(folder)) for path in folder.rglob("[!.]*") if path.is_file()}
    assert set(files) - {".gitattributes"} == {name for name in there if name.split("/")[0] in PUBLISHED}
    assert not any(name.startswith(("journal", "stages")) for name in files)
    for name in files.keys() - {".gitattributes", "README.md"}:
        assert hub.read("org/rows", name) == (folder / name).read_bytes()
    card = hub.read("org/rows", "README.md").decode()
    assert 'load_dataset("org/rows", split="train")' in card
    assert "--dataset_name org/rows " in card
    repo = hub.repo("dataset", "org/rows")
    assert len(repo["commits"]) == 2  # the Hub's own first one, and ours
    assert url.endswith(f"/datasets/org/rows/commit/{repo['branches']['main']}")
    assert any(path.endswith("/complete") for _, path, _ in hub.requests)  # a file in parts
    assert any(method == "PUT" and path.count("/") == 2 for method, path, _ in hub.requests)  # and one in one go


def test_a_second_push_sends_what_changed_and_deletes_what_is_gone(hub, folder, monkeypatch):
    hub.patch_client(monkeypatch, OWNER)
    push_dataset(folder, "org/rows")
    sent = sum(hub.received.values())
    first = push_dataset(folder, "org/rows")
    assert sum(hub.received.values()) == sent  # nothing was sent again
    assert len(hub.repo("dataset", "org/rows")["commits"]) == 2  # and no empty commit made
    publish_rows(folder, make_rows(20)[:15], layouts=["records"])
    second = push_dataset(folder, "org/rows", message="fewer")
    assert first != second
    data = {name for name in hub.files("org/rows") if name.startswith("data/")}
    assert {name.split("/")[1] for name in data} == {"numbers__reference", "numbers__org-teacher"}
    repo = hub.repo("dataset", "org/rows")
    assert repo["commits"][repo["branches"]["main"]]["title"] == "fewer"


def test_a_push_to_a_branch_leaves_main_alone(hub, folder, monkeypatch):
    hub.patch_client(monkeypatch, OWNER)
    push_dataset(folder, "org/rows", revision="draft")
    assert set(hub.files("org/rows")) == {".gitattributes"}
    assert "README.md" in hub.files("org/rows", revision="draft")


def test_an_upload_that_was_cut_off_is_gone_on_with(hub, folder, monkeypatch):
    hub.patch_client(monkeypatch, OWNER)
    hub.fault("PUT /lfs", "cut", times=1)
    push_dataset(folder, "org/once")  # the client tries again by itself
    hub.received.clear()
    publish_rows(folder, make_rows(40))
    large = max((folder / "data").rglob("*.parquet"), key=lambda path: path.stat().st_size)
    digest = hashlib.sha256(large.read_bytes()).hexdigest()
    hub.fault(f"PUT /lfs/{digest}", "cut", times=50)
    with pytest.raises(CFTError, match=r"^push to org/rows: .*; the same command goes on from where it was$") as caught:
        push_dataset(folder, "org/rows")
    assert "\n" not in str(caught.value)
    assert "RuntimeError" not in str(caught.value)  # but what broke the upload off
    assert "README.md" not in hub.files("org/rows")
    arrived = set(hub.received)
    assert arrived
    assert digest not in arrived
    hub.clear_faults()
    hub.received.clear()
    push_dataset(folder, "org/rows")
    assert hub.read("org/rows", str(large.relative_to(folder))) == large.read_bytes()
    assert not arrived & set(hub.received)  # what had arrived was not sent again


@pytest.mark.parametrize(
    ("token", "fault", "message"),
    [
        (None, None, r"the Hub wants a token \(401\); set HF_TOKEN"),
        (WRONG, None, r"the Hub refused the token \(401\); set HF_TOKEN to a valid one"),
        (READER, None, r"the token may not write there \(403\)"),
        (STRANGER, None, r"the token may not write there \(403\)"),
        (OWNER, ("POST /api/repos/create", 500), r"the Hub answered 500 \(planted fault\); the same command goes on"),
        (OWNER, ("POST /api/datasets/org/rows/commit", 500), r"the Hub answered 500 .*; the same command goes on"),
        (OWNER, ("POST /datasets/org/rows.git", 503), r"the Hub answered 503 .*; the same command goes on"),
    ],
)
def test_a_push_that_fails_says_so_in_one_line(hub, folder, monkeypatch, capsys, token, fault, message):
    hub.patch_client(monkeypatch, token)
    if fault:
        hub.fault(*fault, times=50)
    with pytest.raises(CFTError, match=f"^push to org/rows: {message}") as caught:
        push_dataset(folder, "org/rows")
    assert "\n" not in str(caught.value)
    shown = str(caught.value) + "".join(capsys.readouterr())
    assert not token or token not in shown


@pytest.mark.parametrize(
    ("token", "message"),
    [
        (None, r"the Hub wants a token \(401\)"),
        (WRONG, r"the Hub refused the token \(401\)"),
        (READER, r"the token may not write there \(403\)"),
        (STRANGER, r"the token may not write there \(403\)"),
        (OWNER, None),
    ],
)
def test_whether_a_push_can_go_there_is_known_beforehand(hub, monkeypatch, token, message):
    hub.patch_client(monkeypatch, token)
    if message is None:
        check_push("org/rows")
    else:
        with pytest.raises(CFTError, match=f"^push to org/rows: {message}"):
            check_push("org/rows")
    assert not list((hub.folder / "repos").rglob("*.json"))


@pytest.mark.parametrize("token", [OWNER, "planted-of-another-form"])
def test_a_token_that_a_server_repeats_is_not_shown(hub, folder, monkeypatch, token):
    hub.patch_client(monkeypatch, token)
    hub.fault("POST /api/repos/create", 500, times=9)
    hub.fault_message = f"no luck with Bearer {token}"
    with pytest.raises(CFTError, match="no luck with Bearer") as caught:
        push_dataset(folder, "org/rows")
    assert token not in str(caught.value)


def test_what_should_be_private_is_not_put_where_all_can_read_it(hub, folder, monkeypatch):
    hub.patch_client(monkeypatch, OWNER)
    push_dataset(folder, "org/open")
    with pytest.raises(CFTError, match=r"^push to org/open: it is there and public; make it private first"):
        push_dataset(folder, "org/open", private=True)
    push_dataset(folder, "org/closed", private=True)
    push_dataset(folder, "org/closed", private=True, revision="again")
    assert hub.repo("dataset", "org/closed")["private"]


def test_a_card_that_the_hub_does_not_take(hub, folder, monkeypatch):
    hub.patch_client(monkeypatch, OWNER)
    card = (folder / "README.md").read_text()
    (folder / "README.md").write_text(card.replace("license: unknown", "license: My Own"))
    with pytest.raises(CFTError, match=r"the Hub did not take it \(Invalid metadata in README.md. - .license. is"):
        push_dataset(folder, "org/rows")
    assert set(hub.files("org/rows")) == {".gitattributes"}


def test_no_network_and_no_wish_for_one(folder, monkeypatch, tmp_path):
    from huggingface_hub import constants

    with HubServer(tmp_path / "gone") as gone:
        gone.patch_client(monkeypatch, OWNER)
        url = gone.url
    with pytest.raises(CFTError, match=rf"^push to org/rows: {url} cannot be reached or broke off"):
        push_dataset(folder, "org/rows")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CFTError, match=r"^push to org/rows: offline mode is on; unset HF_HUB_OFFLINE$"):
        push_dataset(folder, "org/rows")


@pytest.mark.parametrize("name", ["rows", "org/", "org/my rows", "org/a/b", "org/rows.git", "-/x", ""])
def test_names_that_no_repository_has(folder, name):
    with pytest.raises(CFTError, match=r"give ORG/NAME, of letters"):
        push_dataset(folder, name)


def test_what_is_not_a_whole_publication_is_not_pushed(folder, tmp_path):
    some = next((folder / "data" / "messages").iterdir())
    content = some.read_bytes()
    some.write_bytes(content[:-1])
    with pytest.raises(CFTError, match=rf"{some.name}: missing or not as it was published"):
        push_dataset(folder, "org/rows")
    some.write_bytes(content)
    (folder / "data" / "mine.parquet").write_bytes(b"x")
    with pytest.raises(CFTError, match=r"mine.parquet: was not published by the build"):
        push_dataset(folder, "org/rows")
    (folder / "data" / "mine.parquet").unlink()
    (folder / "statistics.json").write_text("[]")
    with pytest.raises(CFTError, match=r"statistics.json: names no files"):
        push_dataset(folder, "org/rows")
    with pytest.raises(CFTError, match=r"no README.md here, so nothing whole was published"):
        push_dataset(tmp_path, "org/rows")


PULL = """
import datasets, json, sys
from cft_trl.errors import CFTError
from cft_trl.sources.local import load_local
rows = {name: datasets.load_dataset("org/rows", name, split="train").to_list()
        for name in ("default", "numbers__reference", "webinstruct_cft")}
rows["local"] = load_local("org/rows", name="messages").to_list()
rows["stream"] = list(datasets.load_dataset("org/rows", split="train", streaming=True))
print(json.dumps(rows))
"""


def test_what_was_pushed_is_loaded_with_the_same_rows(hub, folder, tmp_path):
    pushing = f"""
from cft_trl.hub.upload import push_dataset
print(push_dataset({str(folder)!r}, "org/rows", private=True))
"""
    assert "/datasets/org/rows/commit/" in client(pushing, hub, tmp_path, OWNER)
    assert hub.repo("dataset", "org/rows")["private"]
    got = json.loads(client(PULL, hub, tmp_path, READER))

    def local(name):
        return datasets.load_dataset(str(folder), name, split="train", cache_dir=str(tmp_path / "c")).to_list()

    for name in ("default", "numbers__reference", "webinstruct_cft"):
        assert got[name] == local(name)
    assert got["stream"] == got["default"]
    assert len(got["local"]) == 16


DENIED = """
from cft_trl.errors import CFTError
from cft_trl.sources.local import load_local
try:
    load_local("org/rows")
except CFTError as error:
    print(error)
"""


@pytest.mark.slow
def test_a_private_dataset_and_its_revisions(hub, folder, tmp_path):
    push = f"""
from huggingface_hub import HfApi
from cft_trl.hub.upload import push_dataset
push_dataset({str(folder)!r}, "org/rows", private=True)
HfApi().create_tag("org/rows", tag="v1", repo_type="dataset")
"""
    client(push, hub, tmp_path, OWNER)
    first = hub.repo("dataset", "org/rows")["branches"]["main"]
    for token in (None, WRONG, STRANGER):
        said = client(DENIED, hub, tmp_path / str(token), token)
        assert said.startswith("org/rows: no such file here, and the Hub did not give it (")
        assert said.count("\n") == 1
        assert not token or token not in said
    publish_rows(folder, make_rows(8))
    client(
        f"from cft_trl.hub.upload import push_dataset; push_dataset({str(folder)!r}, 'org/rows')", hub, tmp_path, OWNER
    )
    pinned = """
from cft_trl.sources.local import load_local
print([len(load_local("org/rows", revision=revision)) for revision in ("main", "v1", %r)])
from cft_trl.cli import main
print(main(["convert", "org/rows", "back.jsonl", "--to", "records", "--name", "webinstruct_cft", "--revision", "v1"]))
"""
    code = f"import os; os.chdir({str(tmp_path)!r})\n" + pinned % first
    said = client(code, hub, tmp_path, READER)
    assert "[8, 20, 20]" in said
    assert "back.jsonl: 16 of 16 rows as records\n0\n" in said


@pytest.mark.slow
def test_a_model_goes_there_and_back(hub, tmp_path, tokenizer, tiny_model):
    model = tiny_model(tokenizer)
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    code = f"""
import torch
from huggingface_hub import HfApi
from transformers import AutoModelForCausalLM, AutoTokenizer
api = HfApi()
api.create_repo("org/tiny", private=True)
api.upload_folder(repo_id="org/tiny", folder_path={str(tmp_path / "model")!r})
model = AutoModelForCausalLM.from_pretrained("org/tiny")
tokenizer = AutoTokenizer.from_pretrained("org/tiny")
print(tokenizer.decode(tokenizer("6 x 7 = 42").input_ids))
print(sum(weight.double().sum().item() for weight in model.parameters()))
"""
    said = client(code, hub, tmp_path, OWNER).splitlines()
    assert said[0].endswith("6 x 7 = 42")
    assert float(said[1]) == sum(weight.double().sum().item() for weight in model.parameters())
    assert hub.files("org/tiny", "model")["model.safetensors"]["lfs"]


@pytest.mark.slow
def test_published_corpora_are_converted_by_their_hub_id(hub, tmp_path):
    record = make_rows(2)[1]
    row, chat = to_webinstruct_cft([record])[0], to_messages([record])[0]
    for name, rows in (("web/WebInstruct-CFT-4K/train", [row] * 4), ("web/WebInstruct-CFT-50K/train", [row] * 5)):
        (tmp_path / name).parent.mkdir(parents=True)
        datasets.Dataset.from_list(rows).to_parquet(tmp_path / f"{name}.parquet")
    (tmp_path / "web" / "README.md").write_text(
        "---\nconfigs:\n"
        "- {config_name: WebInstruct-CFT-4K, data_files: WebInstruct-CFT-4K/*}\n"
        "- {config_name: WebInstruct-CFT-50K, data_files: WebInstruct-CFT-50K/*}\n---\n"
    )
    (tmp_path / "shot" / "data").mkdir(parents=True)
    for split, rows in (("dsr_cft_p0", [chat] * 2), ("bbeh_cft_x", [chat] * 3)):
        datasets.Dataset.from_list(rows).to_parquet(tmp_path / "shot" / "data" / f"{split}-00000-of-00001.parquet")
    code = f"""
import os
os.chdir({str(tmp_path)!r})
from huggingface_hub import HfApi
from cft_trl.cli import main
for name in ("web", "shot"):
    HfApi().create_repo("org/" + name, repo_type="dataset")
    HfApi().upload_folder(repo_id="org/" + name, folder_path=name, repo_type="dataset")
main(["convert", "org/web", "a.jsonl", "--to", "records", "--name", "WebInstruct-CFT-50K"])
main(["convert", "a.jsonl", "b.jsonl", "--to", "webinstruct_cft"])
main(["convert", "org/shot", "c.jsonl", "--to", "messages", "--split", "dsr_cft_p0"])
"""
    said = client(code, hub, tmp_path, OWNER)
    assert said.count("5 of 5 rows") == 2
    for name, rows in (("b", [row] * 5), ("c", [chat] * 2)):
        lines = (tmp_path / f"{name}.jsonl").read_text().split("\n")  # the rows hold other line ends
        assert [json.loads(line) for line in lines[:-1]] == rows
