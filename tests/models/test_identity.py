"""What a thing is: whatever it is called and wherever it lies, and another one as soon as anything of it is."""

from __future__ import annotations

import json
import os
import shutil
import time

import pytest
import torch
from conftest import make_model
from safetensors.torch import load_file, save_file

from cft_trl.data import digests
from cft_trl.data.digests import content_digest, file_digest, read_header, still_the_same, tensors_digest
from cft_trl.errors import CFTError
from cft_trl.models.identity import (
    endpoint_identity,
    folder_identity,
    model_identity,
    rows_identity,
    tokenizer_identity,
    what_changed,
)


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("CFT_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def folder(tmp_path, tokenizers):
    make_model(tokenizers("chatml")).save_pretrained(tmp_path / "model")
    tokenizers("chatml").save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def touch(path, **told):
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, **told}))


def one_number(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"][3] += 1e-3
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


CHANGES = {
    "other weights": one_number,
    "another config.json": lambda folder: touch(folder / "config.json", rope_theta=5.0),
    "another generation_config.json": lambda folder: touch(folder / "generation_config.json", eos_token_id=[1, 2]),
    "another tokenizer": lambda folder: touch(folder / "tokenizer_config.json", eos_token="?"),
    "another chat template": lambda folder: (folder / "chat_template.jinja").write_text("{{ messages }}"),
}


@pytest.mark.parametrize("told", CHANGES)
def test_each_part_of_a_folder_counts_and_is_named(folder, told):
    before = folder_identity(folder)
    CHANGES[told](folder)
    assert what_changed(before, folder_identity(folder)).startswith(told)


def test_code_that_comes_with_a_model_counts(folder):
    before = folder_identity(folder)
    (folder / "modeling_mine.py").write_text("x = 1")
    assert "another config.json" in what_changed(before, folder_identity(folder))


def test_what_says_nothing_of_the_model_does_not_count(folder, tmp_path):
    before = folder_identity(folder)
    for name in ("README.md", "trainer_state.json", "optimizer.pt", "run.json", "metrics.json"):
        (folder / name).write_text("{}")
    shutil.move(folder, tmp_path / "elsewhere")
    assert what_changed(before, folder_identity(tmp_path / "elsewhere")) is None


def test_the_same_tensors_in_other_files_are_the_same_weights(folder):
    from transformers import AutoModelForCausalLM

    before = folder_identity(folder)["weights"]
    AutoModelForCausalLM.from_pretrained(folder).save_pretrained(folder.parent / "shards", max_shard_size="40KB")
    assert len(list((folder.parent / "shards").glob("*.safetensors"))) > 1
    assert folder_identity(folder.parent / "shards")["weights"] == before
    tensors = load_file(folder / "model.safetensors")
    save_file(dict(reversed(tensors.items())), folder / "model.safetensors", {"format": "pt", "made": "anew"})
    assert folder_identity(folder)["weights"] == before
    names = list(tensors)
    swapped = {**tensors, names[1]: tensors[names[2]], names[2]: tensors[names[1]]}
    save_file(swapped, folder / "model.safetensors", {"format": "pt"})
    assert folder_identity(folder)["weights"] != before, "the same numbers under other names"


def test_a_shard_that_nobody_reads_does_not_count(folder):
    """`from_pretrained` reads model.safetensors and leaves what an older, larger model left beside it."""
    before = folder_identity(folder)
    shutil.copy(folder / "model.safetensors", folder / "model-00001-of-00002.safetensors")
    assert folder_identity(folder) == before


def test_a_config_beside_an_adapter_does_not_make_it_a_model(folder, tmp_path):
    """Other tools write the base's config.json there; what it answers is still what it and its base make."""
    adapter, other = tmp_path / "adapter", tmp_path / "other"
    adapter.mkdir()
    save_file({"lora": torch.ones(2)}, adapter / "adapter_model.safetensors")
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(folder), "r": 2}))
    alone = folder_identity(adapter)
    shutil.copy(folder / "config.json", adapter)
    before = folder_identity(adapter)
    assert {**before, "config": None} == {**alone, "config": None}
    save_file({"rest": torch.ones(2)}, adapter / "training_state.safetensors")
    assert folder_identity(adapter) == before
    shutil.copytree(folder, other)
    one_number(other)
    assert what_changed(before, folder_identity(adapter, str(other))).startswith("other weights of its base")


def test_an_adapter_is_its_base_too(folder, tmp_path):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(folder)
    get_peft_model(base, LoraConfig(target_modules=["q_proj"], r=2)).save_pretrained(tmp_path / "adapter")
    before = model_identity(str(tmp_path / "adapter"))
    assert set(before) >= {"weights", "adapter", "base"}
    shutil.copytree(folder, tmp_path / "moved")
    touch(tmp_path / "adapter" / "adapter_config.json", base_model_name_or_path=str(tmp_path / "moved"))
    assert model_identity(str(tmp_path / "adapter")) == before, "the same base elsewhere"
    one_number(tmp_path / "moved")
    assert what_changed(before, model_identity(str(tmp_path / "adapter"))).startswith("other weights of its base")
    touch(tmp_path / "adapter" / "adapter_config.json", lora_alpha=99)
    assert "another adapter_config.json" in what_changed(before, model_identity(str(tmp_path / "adapter")))


def test_weights_that_are_cut_short_are_one_line(folder):
    weights = (folder / "model.safetensors").read_bytes()
    for size in (4, 100, len(weights) - 1):
        (folder / "model.safetensors").write_bytes(weights[:size])
        with pytest.raises(CFTError, match=r"cannot be read \(.*; copy or save it again"):
            folder_identity(folder)


# ---- what is remembered ----


@pytest.fixture
def large(tmp_path):
    """A file that is worth remembering, and old enough."""
    path = tmp_path / "large.safetensors"
    save_file({"a": torch.zeros(1 << 19)}, path)
    return path


@pytest.fixture
def settled(monkeypatch):
    monkeypatch.setattr(digests, "_SETTLED_NS", -(10**18))


def counted(monkeypatch):
    asked = []
    real = digests._sum_of_tensors
    monkeypatch.setattr(digests, "_sum_of_tensors", lambda path: asked.append(path) or real(path))
    return asked


def test_a_large_file_is_read_once(large, settled, monkeypatch):
    asked = counted(monkeypatch)
    assert tensors_digest([large]) == tensors_digest([large])
    assert len(asked) == 1


def test_a_young_file_is_read_again(large, monkeypatch):
    """It may be written again within one tick of the file system's clock."""
    asked = counted(monkeypatch)
    assert tensors_digest([large]) == tensors_digest([large])
    assert len(asked) == 2


def test_a_change_that_keeps_size_and_time_is_seen(large, settled):
    before, stat = tensors_digest([large]), large.stat()
    time.sleep(0.05)  # the clock of the file system ticks in hundredths of a second
    with open(large, "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\1")
    os.utime(large, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert large.stat().st_mtime_ns == stat.st_mtime_ns
    assert tensors_digest([large]) != before


def test_a_hard_link_costs_no_second_reading(large, settled, monkeypatch, tmp_path):
    asked = counted(monkeypatch)
    before = tensors_digest([large])
    time.sleep(0.05)
    with still_the_same(large):
        os.link(large, tmp_path / "link")
    assert tensors_digest([large]) == before
    assert len(asked) == 1
    time.sleep(0.05)
    with still_the_same(large):
        save_file({"a": torch.ones(1 << 19)}, large)
    assert tensors_digest([large]) != before, "a file that was written over meanwhile is no longer the same"


def test_a_cache_that_cannot_be_written_costs_nothing_else(large, settled, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CFT_CACHE", str(tmp_path / "file"))
    assert tensors_digest([large]) == tensors_digest([large])


def test_notes_that_were_damaged_are_not_believed(large, settled, tmp_path):
    before = file_digest(large)
    for note in digests.cache_folder().rglob("*.json"):
        note.write_text("[")
    assert file_digest(large) == before


def test_headers(large):
    start, header = read_header(large)
    assert (header["a"]["dtype"], header["a"]["shape"]) == ("F32", [1 << 19])
    assert start + header["a"]["data_offsets"][1] == large.stat().st_size


# ---- tokenizers, rows, endpoints ----


def test_a_tokenizer_is_what_it_does_with_texts(tokenizers):
    import copy

    one = copy.deepcopy(tokenizers("chatml"))
    before = tokenizer_identity(one)
    one(["a", "b b b b"], padding=True, truncation=True, max_length=2)
    assert tokenizer_identity(one) == before, "padding and truncation are set by whoever used it last"
    for name, told in (("eos_token", "another end token"), ("chat_template", "another chat template")):
        other = copy.deepcopy(one)
        setattr(other, name, other.convert_ids_to_tokens(7) if name == "eos_token" else "{{ messages }}")
        assert told in what_changed(before, tokenizer_identity(other))
    assert "another tokenizer" in what_changed(before, tokenizer_identity(tokenizers("llama3")))


def test_rows_are_their_texts_wherever_they_are_cut():
    from datasets import Dataset, concatenate_datasets

    rows = [{"id": str(n), "query": "ab" * n, "critique": None if n % 2 else f"c{n}"} for n in range(7)]
    columns = ("query", "critique", "refinement")
    one = rows_identity(Dataset.from_list(rows), columns)
    parts = [Dataset.from_list(rows[:3], features=Dataset.from_list(rows).features), Dataset.from_list(rows[3:])]
    assert rows_identity(concatenate_datasets(parts), columns) == one
    assert rows_identity(Dataset.from_list([{**row, "id": "x"} for row in rows]), columns) == one
    assert rows_identity(Dataset.from_list(rows[::-1]), columns) != one
    moved = [dict(row) for row in rows]
    moved[1]["query"], moved[2]["query"] = "a", "b" + moved[2]["query"]
    assert rows_identity(Dataset.from_list(moved), columns) != one, "the same letters, cut otherwise"
    empty = [{**row, "critique": row["critique"] or ""} for row in rows]
    assert rows_identity(Dataset.from_list(empty), columns) != one, "an empty text is not none"


def test_an_endpoint_is_address_name_and_what_it_says_of_itself():
    url, now = "http://localhost:8000/v1", int(time.time())
    served = {"id": "m", "root": "/models/a", "created": now, "max_model_len": 2048, "owned_by": "vllm"}
    before = endpoint_identity(url, "m", served)
    assert endpoint_identity(url + "/", "m", {**served, "created": now - 3}) == before, "the time of the question"
    for told, other in {
        "another address": endpoint_identity("http://localhost:8001/v1", "m", served),
        "another name": endpoint_identity(url, "n", served),
        "another model behind the name": endpoint_identity(url, "m", {**served, "root": "/models/b"}),
        "another context length": endpoint_identity(url, "m", {**served, "max_model_len": 4096}),
    }.items():
        assert what_changed(before, other).startswith(told)
    made = {"id": "m", "created": 1_686_935_002, "owned_by": "openai"}
    assert endpoint_identity(url, "m", made)["created"] == 1_686_935_002
    assert content_digest(endpoint_identity(url, "m", None)) == content_digest(endpoint_identity(url, "m", {"id": "m"}))


def test_kinds_are_not_compared_part_by_part(folder):
    hub = {"kind": "hub", "name": "org/m", "commit": "b1"}
    assert what_changed(folder_identity(folder), hub) == "another kind of source (folder before, hub now)"
