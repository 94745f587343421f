"""From the Hub into a folder: whole and checked or not at all, at one commit, and of use without a network."""

from __future__ import annotations

import json
import pickle

import pytest
from hub_runs import make_run
from hub_server import OWNER, READER, STRANGER, HubServer
from test_publish import make_rows, publish_rows

from cft_trl.cli import main
from cft_trl.errors import CFTError
from cft_trl.hub.pull import pull
from cft_trl.hub.push_model import push_model
from cft_trl.hub.upload import push_dataset
from cft_trl.models.pulled import PULLED_FILE as FILE
from cft_trl.models.pulled import pulled_from

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of huggingface_hub's uploads


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with HubServer(tmp_path / "hub", part_size=8_000) as server:
        server.patch_client(monkeypatch, OWNER)
        yield server


@pytest.fixture
def rows(hub, tmp_path):
    """The folder of a dataset that is on the Hub as org/rows."""
    publish_rows(tmp_path / "out", make_rows(20))
    push_dataset(tmp_path / "out", "org/rows")
    return tmp_path / "out"


def without_network(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def downloads(hub: HubServer) -> int:
    """Files that the Hub gave out, large ones from its other host."""
    given = ("/resolve/", "/cdn/")
    return sum(method == "GET" and any(part in path for part in given) for method, path, _ in hub.requests)


def test_a_dataset_comes_with_the_same_bytes_and_says_which_commit(hub, rows, tmp_path, capsys):
    assert main(["pull", "org/rows"]) == 0
    commit = hub.repo("dataset", "org/rows")["branches"]["main"]
    assert f"dataset org/rows at commit {commit}" in capsys.readouterr().out
    files = {name for name in hub.files("org/rows") if name != ".gitattributes"}
    there = {str(path.relative_to(tmp_path / "rows")) for path in (tmp_path / "rows").rglob("*") if path.is_file()}
    assert there == files | {FILE}
    for name in files:
        assert (tmp_path / "rows" / name).read_bytes() == hub.read("org/rows", name)
    assert pulled_from("rows") == ("org/rows", commit)
    assert pulled_from(rows) is None


def test_what_was_pulled_is_trained_on_without_a_network(hub, rows, tmp_path, monkeypatch):
    import datasets

    from cft_trl.sources.local import load_local

    pull("org/rows", output=tmp_path / "copy")
    without_network(monkeypatch)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    for name in (None, "messages", "numbers__reference"):
        mine, theirs = load_local(tmp_path / "copy", name=name), load_local(rows, name=name)
        assert mine.to_list() == theirs.to_list()


def test_older_revisions_give_older_rows(hub, rows, tmp_path):
    from huggingface_hub import HfApi

    HfApi().create_tag("org/rows", tag="v1", repo_type="dataset")
    first = hub.repo("dataset", "org/rows")["branches"]["main"]
    publish_rows(rows, make_rows(8))
    push_dataset(rows, "org/rows")
    for revision in ("v1", first, first[:10]):
        pulled = pull("org/rows", revision=revision, output=tmp_path / "copy")
        assert (pulled.commit, pulled.fetched) == (first, revision == "v1")
        assert json.loads((tmp_path / "copy" / "statistics.json").read_text())["rows"] == 20
    now = pull("org/rows", output=tmp_path / "copy")  # a copy that was not changed gives way to a newer one
    assert (now.commit != first, now.fetched) == (True, True)
    assert json.loads((tmp_path / "copy" / "statistics.json").read_text())["rows"] == 8
    with pytest.raises(CFTError, match="org/rows: has no revision 'v9'; give a commit, tag or branch"):
        pull("org/rows", revision="v9", output=tmp_path / "other")


def spoil(hub: HubServer, name: str) -> bytes:
    """The Hub's copy of a file is damaged: as long as before, with one byte changed."""
    digest = hub.files("org/rows")[name]["sha256"]
    path = hub.folder / "objects" / digest
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    return whole


@pytest.mark.parametrize("kind", ["data/", "recipe.yaml"])
def test_a_file_that_arrives_damaged_is_refused_and_fetched_again(hub, rows, tmp_path, kind, capsys):
    name = next(name for name in sorted(hub.files("org/rows")) if name.startswith(kind))
    whole = spoil(hub, name)
    assert main(["pull", "org/rows"]) == 2
    told = capsys.readouterr().err.partition("cft: ")[2]
    assert told.startswith(f"org/rows: {name} did not arrive as the Hub has it")
    assert told.count("\n") == 1
    assert not (tmp_path / "rows").exists()
    (hub.folder / "objects" / hub.files("org/rows")[name]["sha256"]).write_bytes(whole)
    before = downloads(hub)
    pull("org/rows")
    assert downloads(hub) == before + 1  # what had arrived well was kept
    assert (tmp_path / "rows" / name).read_bytes() == whole


def test_a_file_that_is_not_what_the_card_states_is_refused(hub, rows, tmp_path):
    from huggingface_hub import HfApi

    name = next(name for name in sorted(hub.files("org/rows")) if name.startswith("data/"))
    put = {"repo_id": "org/rows", "repo_type": "dataset"}
    HfApi().upload_file(path_or_fileobj=b"PAR1 of somebody else", path_in_repo=name, **put)
    with pytest.raises(CFTError, match=rf"org/rows: {name} is not the file that the card states \(SHA-256 "):
        pull("org/rows")
    HfApi().delete_file(name, **put)
    with pytest.raises(CFTError, match=rf"org/rows: {name} is gone, which the card states"):
        pull("org/rows")
    assert not (tmp_path / "rows").exists()


def test_a_download_that_was_cut_off_goes_on_where_it_was(hub, rows, tmp_path, monkeypatch):
    name = max(hub.files("org/rows"), key=lambda name: hub.files("org/rows")[name]["size"])
    digest = hub.files("org/rows")[name]["sha256"]
    hub.fault(f"GET /cdn/{digest}", "cut", times=50)
    with pytest.raises(CFTError, match=r"^pull of org/rows: .*; the same command goes on from where it was$"):
        pull("org/rows")
    assert not (tmp_path / "rows").exists()
    hub.clear_faults()
    before = downloads(hub)
    pull("org/rows")
    assert 0 < downloads(hub) - before < len(hub.files("org/rows")) - 1  # only what was missing
    assert (tmp_path / "rows" / name).read_bytes() == hub.read("org/rows", name)
    assert not [path.name for path in tmp_path.iterdir() if "partial" in path.name]


def test_a_whole_copy_is_not_fetched_again_and_needs_no_network(hub, rows, tmp_path, monkeypatch, capsys):
    first = pull("org/rows")
    before = downloads(hub)
    assert main(["pull", "org/rows"]) == 0
    assert "there already and whole" in capsys.readouterr().out
    assert downloads(hub) == before
    without_network(monkeypatch)
    assert pull("org/rows").commit == first.commit
    assert pull("org/rows", revision=first.commit).commit == first.commit
    with pytest.raises(CFTError, match="pull of org/rows: offline mode is on; unset HF_HUB_OFFLINE"):
        pull("org/rows", revision="v2")
    with pytest.raises(CFTError, match="pull of org/other: offline mode is on"):
        pull("org/other")


def test_a_folder_of_something_else_or_a_changed_copy_is_left_alone(hub, rows, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "main.tex").write_text("years of work")
    with pytest.raises(CFTError, match="holds files that are not of `cft pull`"):
        pull("org/rows", output=tmp_path / "thesis")
    push_dataset(rows, "org/others")
    pull("org/rows", output=tmp_path / "copy")
    with pytest.raises(CFTError, match="holds org/rows; give another --output"):
        pull("org/others", output=tmp_path / "copy")
    (tmp_path / "copy" / "recipe.yaml").write_text("mine")
    with pytest.raises(CFTError, match=r"copy/recipe.yaml: was changed or removed since it was pulled"):
        pull("org/rows", output=tmp_path / "copy")
    assert (tmp_path / "copy" / "recipe.yaml").read_text() == "mine"


@pytest.mark.parametrize(
    ("token", "message"),
    [
        (READER, None),
        (None, "no dataset or model of this name on the Hub, or a private one; then set HF_TOKEN"),
        (STRANGER, "no dataset or model of this name on the Hub, or a private one; then set HF_TOKEN"),
        ("hf_plantedButWrong000000000000", r"the Hub refused the token \(401\); set HF_TOKEN to a valid one"),
    ],
)
def test_a_private_repository_wants_a_token_that_may_read_it(hub, tmp_path, monkeypatch, token, message):
    publish_rows(tmp_path / "out", make_rows(4))
    push_dataset(tmp_path / "out", "org/secret", private=True)
    hub.patch_client(monkeypatch, token)
    if message is None:
        assert pull("org/secret").repo_type == "dataset"
        return
    with pytest.raises(CFTError, match=message) as caught:
        pull("org/secret")
    assert not token or token not in str(caught.value)


def test_a_model_comes_without_pickles(hub, tmp_path, capsys):
    from huggingface_hub import HfApi

    run = make_run(tmp_path / "run")
    push_model(run, "org/critic")
    HfApi().upload_file(path_or_fileobj=pickle.dumps("x"), path_in_repo="pytorch_model.bin", repo_id="org/critic")
    assert main(["pull", "org/critic", "--output", "copy"]) == 0
    assert "left out, for they are pickles: pytorch_model.bin" in capsys.readouterr().out
    assert not list((tmp_path / "copy").glob("*.bin"))
    assert (tmp_path / "copy" / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()
    assert main(["solve", "copy", "2 + 2?", "--max-new-tokens", "4"]) == 0
    HfApi().delete_file("model.safetensors", "org/critic")
    with pytest.raises(CFTError, match=r"has its weights only as a pickle \(pytorch_model.bin\), which is never"):
        pull("org/critic", output="other")


def test_a_dataset_and_a_model_of_one_name(hub, rows, tmp_path):
    push_model(make_run(tmp_path / "run"), "org/rows")
    with pytest.raises(CFTError, match="there are a dataset and a model of this name; give --repo-type"):
        pull("org/rows")
    assert (pull("org/rows", repo_type="model", output="m").repo_type) == "model"
    assert (pull("org/rows", repo_type="dataset", output="d").repo_type) == "dataset"


def test_another_commit_leaves_no_older_file_and_says_what_it_replaced(hub, tmp_path, capsys):
    """Shards of the older commit, its chat template: what is read afterwards is what a fresh folder would hold."""
    from huggingface_hub import HfApi

    from cft_trl.models.identity import folder_identity

    run = make_run(tmp_path / "run", steps=())
    push_model(run, "org/critic")
    first = pull("org/critic", output="copy").commit
    HfApi().delete_file("chat_template.jinja", "org/critic")
    config = json.loads((run / "config.json").read_text())
    text = json.dumps(config | {"rms_norm_eps": 0.5}).encode()
    HfApi().upload_file(path_or_fileobj=text, path_in_repo="config.json", repo_id="org/critic")
    capsys.readouterr()
    assert main(["pull", "org/critic", "--output", "copy"]) == 0
    told = capsys.readouterr().out
    assert f"in place of commit {first}: 1 changed (config.json); 1 gone (chat_template.jinja)" in told
    pull("org/critic", output="fresh")
    assert folder_identity(tmp_path / "copy") == folder_identity(tmp_path / "fresh")
    assert not (tmp_path / "copy" / "chat_template.jinja").exists()


@pytest.mark.parametrize("name", ["model-00002-of-00002.safetensors", "chat_template.jinja", "generation_config.json"])
def test_a_file_that_would_be_read_with_a_copy_is_refused(hub, tmp_path, name):
    run = make_run(tmp_path / "run", steps=())
    (run / name).unlink(missing_ok=True)
    push_model(run, "org/critic")
    pull("org/critic", output="copy")
    (tmp_path / "copy" / "eval").mkdir()
    (tmp_path / "copy" / "eval" / "evaluation.json").write_text("{}")  # is read with no model
    assert not pull("org/critic", output="copy").fetched
    (tmp_path / "copy" / name).write_text("of another model")
    with pytest.raises(CFTError, match=f"'copy' holds {name}, which is not of org/critic at .* and would be read with"):
        pull("org/critic", output="copy")


def test_what_is_somebodys_is_not_lost_to_another_commit(hub, rows, tmp_path):
    pull("org/rows", output="copy")
    (tmp_path / "copy" / "notes.txt").write_text("mine")
    assert not pull("org/rows", output="copy").fetched
    publish_rows(rows, make_rows(8))
    push_dataset(rows, "org/rows")
    with pytest.raises(CFTError, match=r"'copy' holds notes.txt beside its copy of org/rows"):
        pull("org/rows", output="copy")
    assert (tmp_path / "copy" / "notes.txt").read_text() == "mine"
    assert json.loads((tmp_path / "copy" / "statistics.json").read_text())["rows"] == 20
    (tmp_path / "copy" / "data" / "more.parquet").write_text("rows of somebody else")
    (tmp_path / "copy" / "notes.txt").unlink()
    commit = json.loads((tmp_path / "copy" / FILE).read_text())["commit"]
    with pytest.raises(CFTError, match=r"holds data/more.parquet, which is not of org/rows"):
        pull("org/rows", revision=commit, output="copy")
