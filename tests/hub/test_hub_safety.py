"""Nothing of the Hub runs here unasked: no pickle is loaded, and code that comes with a model or data stays text."""

from __future__ import annotations

import ast
import json
import pickle
from pathlib import Path

import pytest
import torch
from hub_runs import make_run
from hub_server import OWNER, HubServer

from cft_trl.cli import main
from cft_trl.errors import CFTError
from cft_trl.evaluation.backends import Backend
from cft_trl.hub.push_model import push_model
from cft_trl.models.adapters import Base, base_of
from cft_trl.models.loading import load_model, load_tokenizer
from cft_trl.models.names import resolve_model

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of huggingface_hub's uploads

PACKAGE = Path(__file__).parents[2] / "cft_trl"


class Bomb:
    """What a pickle can do: this one leaves a file when it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.write_text, (self.mark, "it ran")


@pytest.fixture
def mark(tmp_path):
    """A file that is there once something ran that should not have."""
    return tmp_path / "it-ran"


@pytest.fixture
def pickled(tmp_path, mark):
    """A model whose only weights are a pickle."""
    run = make_run(tmp_path / "pickled", steps=())
    (run / "model.safetensors").unlink()
    (run / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(mark)))
    return run


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with HubServer(tmp_path / "hub") as server:
        server.patch_client(monkeypatch, OWNER)
        yield server


def upload(folder: Path, repo_id: str) -> None:
    from huggingface_hub import HfApi

    HfApi().create_repo(repo_id)
    HfApi().upload_folder(repo_id=repo_id, folder_path=folder, ignore_patterns=["checkpoint-*", ".env"])


def test_a_pickle_would_run():
    """What the other tests rely on."""
    with pytest.raises(FileNotFoundError):
        pickle.loads(pickle.dumps(Bomb(Path("/no/such/folder/mark"))))


def test_a_model_of_pickles_is_refused_in_one_line(pickled, mark, rows, make_config, capsys):
    from datasets import Dataset

    from cft_trl import CFTTrainer

    message = r"has its weights only as a pickle \(pytorch_model.bin\), which is never loaded"
    for use in (
        lambda: load_model(str(pickled)),
        lambda: load_tokenizer(str(pickled)),
        lambda: Backend("transformers", str(pickled)),
        lambda: Backend("vllm", str(pickled)),
        lambda: CFTTrainer(str(pickled), make_config(), train_dataset=Dataset.from_list(rows)),
    ):
        with pytest.raises(CFTError, match=message) as caught:
            use()
        assert "\n" not in str(caught.value)
    assert main(["solve", str(pickled), "2 + 2?"]) == 2
    assert main(["critique", str(pickled), "--query", "2 + 2?", "--response", "5"]) == 2
    assert capsys.readouterr().err.count("\n") == 2
    assert not mark.exists()


def test_a_trainer_asks_for_safetensors_where_both_are_there(tmp_path, mark, rows, make_config):
    from datasets import Dataset

    from cft_trl import CFTTrainer

    run = make_run(tmp_path / "both", steps=())
    (run / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(mark)))
    config = make_config(model_init_kwargs={"use_safetensors": False, "dtype": "float32"})
    trainer = CFTTrainer(str(run), config, train_dataset=Dataset.from_list(rows))
    assert trainer.args.model_init_kwargs["use_safetensors"] is True
    assert not mark.exists()


def test_an_adapter_of_pickles_is_refused_whatever_lies_beside_it(tmp_path, mark):
    run = make_run(tmp_path / "run", steps=())
    (run / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(run), "peft_type": "LORA"}))
    (run / "adapter_model.bin").write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.raises(CFTError, match=r"has its weights only as a pickle \(adapter_model.bin\)"):
        load_model(str(run))
    assert not mark.exists()


def test_pickles_on_the_hub_are_refused_before_they_are_fetched(hub, pickled, mark):
    upload(pickled, "org/pickled")
    with pytest.raises(CFTError, match=r"model 'org/pickled' has its weights only as a pickle"):
        load_model("org/pickled")
    assert not any(path.endswith(".bin") and "/resolve/" in path for _, path, _ in hub.requests)
    assert not mark.exists()


def test_an_adapter_on_the_hub_is_loaded_on_its_base_at_their_own_revisions(hub, tmp_path):
    from peft import LoraConfig, get_peft_model

    base = make_run(tmp_path / "base", steps=(), base_model={})
    push_model(base, "org/base")
    commit = hub.repo("model", "org/base")["branches"]["main"]
    model, _ = load_model(str(base))
    run = make_run(tmp_path / "lora", steps=(), base_model={"name": "org/base", "commit": commit})
    (run / "model.safetensors").unlink()
    (run / "config.json").unlink()
    lora = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    lora.save_pretrained(run)
    push_model(run, "org/lora", revision="v1")  # main stays empty: only the revision has the adapter
    push_model(make_run(tmp_path / "newer", steps=(), seed=0.5, base_model={}), "org/base")  # the base moved on
    loaded, tokenizer = load_model("org/lora", revision="v1")
    ids = tokenizer("6 x 7 = 42", return_tensors="pt")
    with torch.no_grad():
        assert torch.equal(loaded(**ids).logits, lora.eval()(**ids).logits)
        assert not torch.equal(loaded(**ids).logits, load_model("org/base")[0](**ids).logits)
    # Of a run's folder here, whose adapter names no commit, the one that the run wrote down is meant.
    settings = json.loads((run / "adapter_config.json").read_text()) | {"base_model_name_or_path": "org/base"}
    (run / "adapter_config.json").write_text(json.dumps(settings))
    assert base_of(str(run)) == Base("org/base", commit)
    assert torch.equal(load_model(str(run))[0](**ids).logits, lora(**ids).logits)
    told = json.loads((run / "training.json").read_text())
    told["identity"] = {"base": {"kind": "hub", "name": "org/base", "commit": commit}}
    (run / "training.json").write_text(json.dumps(told))
    assert base_of(str(run)).changed is None
    assert "another commit on the Hub" in base_of(str(run), base="org/base@main").changed
    with pytest.raises(CFTError, match="model 'org/lora' has no revision 'v2'"):
        resolve_model("org/lora", revision="v2")


@pytest.fixture
def with_code(tmp_path, mark):
    """A model that brings its own code, which leaves a file when it is run."""
    run = make_run(tmp_path / "with-code", steps=())
    config = json.loads((run / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config", "AutoModelForCausalLM": "mine.Model"}}
    (run / "config.json").write_text(json.dumps(config))
    (run / "mine.py").write_text(
        f"open({str(mark)!r}, 'w').write('it ran')\n"
        "from transformers import LlamaConfig, LlamaForCausalLM\n"
        "class Config(LlamaConfig):\n    model_type = 'mine'\n"
        "class Model(LlamaForCausalLM):\n    config_class = Config\n"
    )
    return run


def test_code_of_a_model_runs_only_where_it_is_asked_for_by_name(with_code, mark, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    words = ["solve", str(with_code), "2 + 2?", "--max-new-tokens", "2"]
    assert main(words) == 2
    told = capsys.readouterr().err
    assert "it comes with code of its own, which is not run unless you ask for it with --trust-remote-code" in told
    assert told.count("\n") == 1
    assert not mark.exists()
    assert main([*words, "--trust-remote-code"]) == 0
    assert mark.exists()


def test_code_of_a_model_is_pushed_with_it_and_not_run(hub, with_code, mark):
    push_model(with_code, "org/with-code")
    assert "mine.py" in hub.files("org/with-code", "model")
    assert not mark.exists()


def test_a_dataset_script_is_not_run(tmp_path, mark):
    from cft_trl.sources.local import load_local

    folder = tmp_path / "scripted"
    folder.mkdir()
    (folder / "scripted.py").write_text(f"open({str(mark)!r}, 'w').write('it ran')\n")
    (folder / "README.md").write_text("---\nconfigs:\n- config_name: default\n  data_files: x.parquet\n---\n")
    with pytest.raises(CFTError):
        load_local(folder)
    assert not mark.exists()


LOADS = {
    "torch.load",
    "pickle.load",
    "pickle.loads",
    "dill.load",
    "joblib.load",
    "pandas.read_pickle",
    "pd.read_pickle",
}


def test_no_file_of_ours_loads_a_pickle_or_trusts_code():
    seen = 0
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            given = {word.arg: word.value for word in node.keywords}
            assert called not in LOADS, path
            if called.startswith("AutoModel") and called.endswith(".from_pretrained"):
                seen += 1
                assert "gguf_file" in given or getattr(given.get("use_safetensors"), "value", None) is True, path
            for name in ("trust_remote_code", "allow_pickle"):
                assert getattr(given.get(name), "value", False) is not True, path
    assert seen >= 2  # the rule was applied to something
