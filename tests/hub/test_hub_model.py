"""A run's model on its way to the Hub: what is sent, what stays at home, and what is refused."""

from __future__ import annotations

import hashlib
import json
import re
import shutil

import pytest
import yaml
from evaluation_folders import make_evaluation
from hub_runs import STAY_AT_HOME, evaluated, make_run
from hub_server import OWNER, READER, HubServer

from cft_trl.cli import main
from cft_trl.errors import CFTError
from cft_trl.hub.pull import stated_checksums
from cft_trl.hub.push_model import choose_model, prepare_push, push_model
from cft_trl.models.portable import portable_files

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of huggingface_hub's uploads


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with HubServer(tmp_path / "hub", part_size=100_000) as server:
        server.patch_client(monkeypatch, OWNER)
        yield server


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "run")


def test_a_push_sends_the_model_and_its_records_and_nothing_else(hub, run):
    url = push_model(run, "org/critic")
    files = set(hub.files("org/critic", "model")) - {".gitattributes"}
    assert files == {
        "model.safetensors", "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
        "chat_template.jinja", "README.md", "training.json", "settings.json", "preparation.json", "metrics.json",
        "training.png",
    }  # fmt: skip
    for name in STAY_AT_HOME:
        assert (run / name).is_file()
    for name in ("model.safetensors", "config.json", "training.png", "preparation.json"):
        sent, here = hub.read("org/critic", name, "model"), (run / name).read_bytes()
        if name == "config.json":
            here = portable_files(run)[0][name]
            assert b'"rope_theta"' in here
        assert sent == here or json.loads(sent) == json.loads(here)
    repo = hub.repo("model", "org/critic")
    assert url.endswith(f"/org/critic/commit/{repo['branches']['main']}")
    assert len(repo["commits"]) == 2  # the Hub's own first one, and ours
    assert any(path.endswith("/complete") for _, path, _ in hub.requests)  # the weights went in parts


def test_no_path_of_this_machine_is_sent(hub, run, tmp_path):
    make_run(run, selected=4, steps=(2, 4))
    make_evaluation(run / "eval-mine", {"gsm8k": (0.4, 30)})
    evaluated(run / "eval-mine", run / "best")
    push_model(run, "org/critic")
    for name in hub.files("org/critic", "model"):
        content = hub.read("org/critic", name, "model")
        assert str(tmp_path).encode() not in content
        assert b"/data/of/mine" not in content
    settings = json.loads(hub.read("org/critic", "settings.json", "model"))
    assert settings == {"output_dir": "run", "dataset_name": "rows.jsonl", "prompt_preset": "compact"}
    assert "Rows: rows.jsonl." in hub.read("org/critic", "README.md", "model").decode()


def test_the_best_checkpoint_is_pushed_where_one_was_chosen(hub, tmp_path):
    run = make_run(tmp_path / "run", selected=4, steps=(2, 4))
    push_model(run, "org/critic")
    weights = hub.read("org/critic", "model.safetensors", "model")
    assert weights == (run / "checkpoint-4" / "model.safetensors").read_bytes()
    card = hub.read("org/critic", "README.md", "model").decode()
    assert "These weights are those of step 4, chosen on problems.jsonl among checkpoints up to step 4." in card
    assert "| 4 | 60.0% (6/10) |" in card
    assert "best/" not in card
    assert hub.read("org/critic", "selection.png", "model").startswith(b"\x89PNG")
    for which, folder in (("last", run), ("2", run / "checkpoint-2"), ("best", run / "checkpoint-4")):
        push_model(run, "org/critic", checkpoint=which, revision=f"step-{which}")
        sent = hub.read("org/critic", "model.safetensors", "model", f"step-{which}")
        assert sent == (folder / "model.safetensors").read_bytes()
    shutil.rmtree(run / "checkpoint-4")  # gone by save_total_limit; the best is kept all the same
    assert choose_model(run, "4")[0] == run / "_selected" / "step-4"


def test_the_card_states_the_checksum_of_every_file_of_weights(hub, run):
    push_model(run, "org/critic")
    stated = stated_checksums(hub.read("org/critic", "README.md", "model").decode())
    digest = hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest()
    assert stated == {"model.safetensors": digest}


def test_a_dry_run_lists_files_and_sizes_and_asks_for_no_token(run, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    assert main(["push", str(run), "org/critic", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    size = (run / "model.safetensors").stat().st_size
    assert re.search(rf"  model\.safetensors +{size / 1000:.1f} kB\n", shown)
    assert "12 files, " in shown
    assert "nothing was sent" in shown
    assert "training_args" not in shown


def test_a_big_model_in_shards_is_cut_off_and_gone_on_with(hub, run):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(run)
    (run / "model.safetensors").unlink()
    model.save_pretrained(run, max_shard_size="60KB")
    (run / "model-00099-of-00099.safetensors").write_bytes(b"of an earlier save, in no index")
    shards = {path.name: path.read_bytes() for path in run.glob("model-*-of-*.safetensors") if "99" not in path.name}
    assert len(shards) > 2
    last = hashlib.sha256(max(shards.values(), key=len)).hexdigest()
    hub.fault(f"PUT /lfs/{last}", "cut", times=50)
    with pytest.raises(CFTError, match="the same command goes on from where it was"):
        push_model(run, "org/critic")
    assert set(hub.files("org/critic", "model")) == {".gitattributes"}  # one commit or none
    arrived = set(hub.received)
    assert arrived
    assert last not in arrived
    hub.clear_faults()
    hub.received.clear()
    push_model(run, "org/critic")
    assert not arrived & set(hub.received)
    for name, content in shards.items():
        assert hub.read("org/critic", name, "model") == content
    assert "model-00099-of-00099.safetensors" not in hub.files("org/critic", "model")
    assert set(stated_checksums(hub.read("org/critic", "README.md", "model").decode())) == set(shards)


def test_a_second_push_leaves_nothing_of_the_first_but_what_is_not_ours(hub, run):
    from huggingface_hub import HfApi

    make_evaluation(run / "eval-mine", {"gsm8k": (0.4, 30)})
    evaluated(run / "eval-mine", run)
    push_model(run, "org/critic")
    HfApi().upload_file(path_or_fileobj=b"mine", path_in_repo="LICENSE", repo_id="org/critic")
    assert "evaluations/eval-mine.json" in hub.files("org/critic", "model")
    shutil.rmtree(run / "eval-mine")
    (run / "training.png").unlink()
    push_model(run, "org/critic")
    files = hub.files("org/critic", "model")
    assert "LICENSE" in files
    assert not {"evaluations/eval-mine.json", "training.png"} & set(files)
    commits = len(hub.repo("model", "org/critic")["commits"])
    push_model(run, "org/critic")
    assert len(hub.repo("model", "org/critic")["commits"]) == commits  # nothing new, no commit


def test_an_adapter_names_its_base_on_the_hub(hub, run):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(run)
    (run / "model.safetensors").unlink()
    (run / "config.json").unlink()
    get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(run)
    push_model(run, "org/lora")
    files = hub.files("org/lora", "model")
    assert "adapter_model.safetensors" in files
    assert "config.json" not in files
    config = json.loads(hub.read("org/lora", "adapter_config.json", "model"))
    assert (config["base_model_name_or_path"], config["revision"]) == ("org/base", "c0ffee" + "0" * 34)
    assert "eva_config" in json.loads((run / "adapter_config.json").read_text())  # as PEFT wrote it before this version
    assert None not in config.values()
    assert not {"lora_bias", "peft_version"} & set(config)
    front = yaml.safe_load(hub.read("org/lora", "README.md", "model").decode().split("---")[1])
    assert (front["library_name"], front["base_model_relation"]) == ("peft", "adapter")
    make_run(run, base_model={"name": "/data/of/mine/base"})
    (run / "model.safetensors").unlink()
    with pytest.raises(CFTError, match=r"is an adapter on a local model \(base\), which nobody else has"):
        push_model(run, "org/lora")


def test_the_base_models_licence_is_suggested_as_its_card_states_it(hub, run, tmp_path):
    from huggingface_hub import HfApi

    def front(repo):
        card = hub.read(repo, "README.md", "model").decode()
        return yaml.safe_load(card.split("---")[1]), card

    push_model(run, "org/critic")  # its base model is on no Hub that answers
    told, card = front("org/critic")
    assert "license" not in told
    assert "Licence: not stated here." in card
    base = tmp_path / "base"
    base.mkdir()
    (base / "README.md").write_text("---\nlicense: other\nlicense_name: mine-1\nlicense_link: ./LICENSE\n---\n# Base\n")
    HfApi().create_repo("org/base")
    HfApi().upload_folder(folder_path=base, repo_id="org/base")
    make_run(run, base_model={"name": "org/base", "commit": None})
    push_model(run, "org/critic")
    told, card = front("org/critic")
    link = "https://huggingface.co/org/base/blob/main/LICENSE"
    assert (told["license"], told["license_name"], told["license_link"]) == ("other", "mine-1", link)
    assert f"Licence: [mine-1]({link}), suggested from the base model's card" in card
    make_run(run, base_model={"name": str(base)})
    push_model(run, "org/critic")
    told, _ = front("org/critic")
    assert (told["license"], told.get("license_link")) == ("other", None)  # nobody else has that file


def test_the_card_says_who_can_read_the_model(hub, run):
    push_model(run, "org/critic")
    assert "Read by transformers 4.46 to 5 as far" in hub.read("org/critic", "README.md", "model").decode()
    config = json.loads((run / "config.json").read_text())
    layers = {"full_attention": config["rope_parameters"], "sliding_attention": config["rope_parameters"]}
    changed = config | {"model_type": "gemma4_text", "rope_parameters": layers}
    (run / "config.json").write_text(json.dumps(changed))
    push_model(run, "org/critic")
    assert "Read by transformers 5 and what is built on it" in hub.read("org/critic", "README.md", "model").decode()


def spoil(run, what):
    if what == "weights":
        (run / "model.safetensors").unlink()
    elif what == "pickle":
        (run / "model.safetensors").rename(run / "pytorch_model.bin")
        (run / "model.safetensors.index.json").write_text('{"weight_map": {}}')
    elif what == "half":
        whole = (run / "model.safetensors").read_bytes()
        (run / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    elif what == "unfinished":
        (run / "training.json").write_text('{"sessions": []}')
        (run / "metrics.json").unlink()
    elif what == "record":
        (run / "training.json").write_text("{")
    else:
        shutil.rmtree(run)
        if what == "empty":
            run.mkdir()


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("weights", "holds no model: its training has not come to its end"),
        ("pickle", r"holds weights only as a pickle \(pytorch_model.bin\)"),
        ("half", "model.safetensors: missing or not whole"),
        ("unfinished", "holds a run that has not come to its end"),
        ("record", "training.json: cannot be read"),
        ("empty", "holds no run of `cft train`"),
        ("absent", "is no folder; give the output_dir"),
    ],
)
def test_what_is_no_finished_run_is_not_pushed(hub, run, what, message, capsys):
    spoil(run, what)
    with pytest.raises(CFTError, match=message):
        prepare_push(run, "org/critic")
    assert main(["push", str(run), "org/critic"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not list((hub.folder / "repos").rglob("*.json"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--best"], "holds no selection.json, so nothing says which is best"),
        (["--checkpoint", "3"], "holds no checkpoint 3; give best, last or a step that is there: 2"),
        (["--eval", "nowhere"], "nowhere: no such folder"),
    ],
)
def test_what_a_run_does_not_have_is_not_pushed(hub, run, words, message, capsys):
    assert main(["push", str(run), "org/critic", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_token_that_may_not_write_is_told_before_anything_is_read(hub, run, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", READER)
    monkeypatch.setattr("cft_trl.hub.push_model.prepare_push", lambda *_, **__: pytest.fail("read already"))
    assert main(["push", str(run), "org/critic"]) == 2
    assert "push to org/critic: the token may not write there (403)" in capsys.readouterr().err


def test_a_dataset_is_pushed_by_the_same_command(hub, tmp_path, capsys):
    from test_publish import make_rows, publish_rows

    publish_rows(tmp_path / "rows", make_rows(4))
    assert main(["push", str(tmp_path / "rows"), "org/rows", "--private"]) == 0
    assert "/datasets/org/rows/commit/" in capsys.readouterr().out
    assert hub.repo("dataset", "org/rows")["private"]
    assert main(["push", str(tmp_path / "rows"), "org/rows", "--best"]) == 2
    assert "belong to a model" in capsys.readouterr().err
