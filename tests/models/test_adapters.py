"""Adapters of every kind on their base: what was trained is what is loaded; a base that is another is told."""

from __future__ import annotations

import copy
import json
import shutil

import pytest
import torch
from conftest import make_model, make_tokenizer
from datasets import Dataset
from peft import (
    IA3Config,
    LoraConfig,
    PeftModel,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
    get_peft_model,
)
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from cft_trl import CFTTrainer
from cft_trl.cli import main
from cft_trl.data.prompts import Prompting
from cft_trl.data.records import to_records
from cft_trl.errors import CFTError
from cft_trl.generation.local import LocalModel
from cft_trl.models.adapters import base_changed, base_of, refuse_adapter
from cft_trl.models.identity import model_identity, what_changed
from cft_trl.models.loading import load_model, load_tokenizer
from cft_trl.training.preparation import RowEncoder

LORA = {"r": 4, "target_modules": ["q_proj", "v_proj", "down_proj"], "task_type": "CAUSAL_LM"}
KINDS = {
    "lora": LoraConfig(**LORA),
    "dora": LoraConfig(**LORA, use_dora=True),
    "lora and head": LoraConfig(**LORA, modules_to_save=["lm_head"]),
    "lora and embeddings": LoraConfig(**LORA, modules_to_save=["embed_tokens"]),
    "dora and both": LoraConfig(**LORA, use_dora=True, modules_to_save=["embed_tokens", "lm_head"]),
    "ia3": IA3Config(task_type="CAUSAL_LM", target_modules=["v_proj", "down_proj"], feedforward_modules=["down_proj"]),
    "prompt": PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5),
    "p-tuning": PromptEncoderConfig(task_type="CAUSAL_LM", num_virtual_tokens=5, encoder_hidden_size=16),
    "prefix": PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5),
}


def base_folder(folder, **overrides):
    """A base whose embeddings are its head where `tie_word_embeddings` says so."""
    tokenizer = make_tokenizer("chatml")
    make_model(tokenizer, **overrides).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def eval_loss(model, tokenizer, rows):
    """Mean negative log-likelihood of a target token, row by row with plain logits, without virtual tokens'."""
    encoded = RowEncoder(tokenizer, Prompting())(to_records(rows))
    total, tokens = 0.0, 0
    for ids, labels in zip(encoded["input_ids"], encoded["labels"], strict=True):
        with torch.no_grad():
            scores = model(input_ids=torch.tensor([ids])).logits[0, -len(ids) : -1].double().log_softmax(-1)
        targets = torch.tensor(labels[1:])
        kept = targets != -100
        total -= scores[kept, targets[kept]].sum().item()
        tokens += int(kept.sum())
    return total / tokens


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_loaded_has_the_loss_of_what_was_trained(tmp_path, make_config, rows, kind, tied):
    base = base_folder(tmp_path / "base", tie_word_embeddings=tied)
    config = make_config(max_steps=3, learning_rate=0.3, per_device_eval_batch_size=3, packing=False)
    given = {"train_dataset": Dataset.from_list(rows[:12]), "eval_dataset": Dataset.from_list(rows[12:19])}
    trainer = CFTTrainer(str(base), config, peft_config=copy.deepcopy(KINDS[kind]), **given)
    before = trainer.evaluate()["eval_critique_loss"]
    trainer.train()
    trained = trainer.evaluate()["eval_critique_loss"]
    trainer.save_model(str(tmp_path / "adapter"))
    tokenizer = load_tokenizer(str(tmp_path / "adapter"))
    loaded, _ = load_model(str(tmp_path / "adapter"), dtype="float32")
    alone = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "adapter").eval()
    assert abs(trained / before - 1) > 1e-4, "training changed nothing that could be lost"
    assert eval_loss(loaded, tokenizer, rows[12:19]) == pytest.approx(trained, rel=1e-5)
    assert eval_loss(alone, tokenizer, rows[12:19]) == pytest.approx(trained, rel=1e-5)
    # A text is greedy token by token; with virtual tokens it is written behind them, also in a batch.
    texts = LocalModel(loaded, tokenizer).generate([[{"role": "user", "content": q}] for q in ("2+2?", "3?")],
                                                   max_new_tokens=4)  # fmt: skip
    assert [made.text for made in texts] == [greedy(alone, tokenizer, q, 4) for q in ("2+2?", "3?")]


def greedy(model, tokenizer, question, count):
    from cft_trl.generation.local import render_prompt

    ids = tokenizer(render_prompt(tokenizer, question))["input_ids"]
    start = len(ids)
    for _ in range(count):
        with torch.no_grad():
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] == tokenizer.eos_token_id:
            break
    return tokenizer.decode(ids[start:], skip_special_tokens=True)


# ---- no tokenizer of its own ----


def bare_adapter(folder, base):
    """An adapter as `save_pretrained` of PEFT alone leaves it."""
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(**LORA)).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("beside", [(), ("config.json",)], ids=["alone", "beside its base's config.json"])
def test_an_adapter_without_a_tokenizer_has_that_of_its_base(tmp_path, capsys, beside):
    base = base_folder(tmp_path / "base")
    folder = bare_adapter(tmp_path / "adapter", base)
    for name in beside:  # as other tools leave it
        shutil.copy(base / name, folder / name)
    assert not [path.name for path in folder.iterdir() if "token" in path.name or "vocab" in path.name]
    wanted = load_tokenizer(str(base))
    _, found = load_model(str(folder), dtype="float32")
    assert found.get_vocab() == wanted.get_vocab()
    assert found.chat_template == load_tokenizer(str(folder)).chat_template == wanted.chat_template
    asked = ["--query", "2 + 2?", "--response", "5", "--max-new-tokens", "2"]
    assert main(["critique", str(folder), *asked]) == 0
    assert main(["merge", str(folder), str(tmp_path / "merged")]) == 0
    assert load_tokenizer(str(tmp_path / "merged")).chat_template == wanted.chat_template
    other = load_tokenizer(str(base))
    other.chat_template = "{{ messages[0].content }}"
    shutil.copytree(base, tmp_path / "other")
    other.save_pretrained(tmp_path / "other")
    assert load_tokenizer(str(folder), adapter_base=str(tmp_path / "other")).chat_template == other.chat_template


def test_an_adapter_without_a_tokenizer_whose_base_has_none_is_told_in_a_line(tmp_path):
    base = base_folder(tmp_path / "base")
    folder = bare_adapter(tmp_path / "adapter", base)
    for path in base.glob("*token*"):
        path.unlink()
    with pytest.raises(CFTError, match=rf"^no tokenizer could be loaded from '{base}', the base of '{folder}': "):
        load_tokenizer(str(folder))
    shutil.rmtree(base)
    with pytest.raises(CFTError, match=r"is an adapter on .*; --adapter-base names another place"):
        load_tokenizer(str(folder))


# ---- the base ----


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run's folder with a LoRA adapter and a checkpoint, beside its base."""
    import yaml

    folder = tmp_path_factory.mktemp("adapters")
    base = base_folder(folder / "base")
    settings = {
        "model_name_or_path": str(base), "output_dir": str(folder / "run"), "dataset_name": "arithmetic",
        "dataset_limit": 12, "eval_rows": 0, "max_steps": 2, "save_steps": 1, "use_cpu": True, "bf16": False,
        "use_peft": True, "lora_r": 4, "lora_target_modules": ["q_proj"], "report_to": "none", "learning_rate": 0.1,
        "gradient_checkpointing": False, "per_device_train_batch_size": 4, "dtype": "float32", "max_length": 512,
    }  # fmt: skip
    (folder / "run.yaml").write_text(yaml.safe_dump(settings))
    assert main(["train", "--config", str(folder / "run.yaml")]) == 0
    return folder


@pytest.fixture
def world(run, tmp_path):
    """A copy of `run` that may be changed, its adapter on its own base."""
    shutil.copytree(run, tmp_path / "w")
    for path in (tmp_path / "w").glob("run/**/adapter_config.json"):
        told = json.loads(path.read_text())
        path.write_text(json.dumps(told | {"base_model_name_or_path": str(tmp_path / "w" / "base")}))
    return tmp_path / "w"


def retrain(base):
    """Other weights in the same place."""
    model = AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad():
        model.lm_head.weight.add_(0.01)
    model.save_pretrained(base)


def test_a_base_that_moved_is_told_and_recorded(world, run, capsys):
    for folder in (world / "run", world / "run" / "checkpoint-1"):
        assert base_of(str(folder)) == base_of(str(folder), base=str(world / "base"))
        assert base_of(str(folder)).changed is None
    load_model(str(world / "run"))
    assert "base of the adapter" not in capsys.readouterr().err
    words = ["eval-critic", str(world / "run"), "--data", "arithmetic", "--limit", "2", "--max-new-tokens", "2"]
    assert main([*words, "--output", str(world / "before")]) == 0
    assert "base_changed" not in json.loads((world / "before" / "critic.json").read_text())
    retrain(world / "base")
    assert base_changed(str(world / "run" / "checkpoint-1")).startswith("other weights (")
    capsys.readouterr()
    assert main([*words, "--output", str(world / "after")]) == 0
    [line] = [line for line in capsys.readouterr().err.splitlines() if "base of the adapter" in line]
    assert line.startswith(f"cft: the base of the adapter '{world / 'run'}', {world / 'base'}, is not what it was")
    result = json.loads((world / "after" / "critic.json").read_text())
    assert result["base_changed"] == base_changed(str(world / "run"))
    # Its own base, elsewhere, is named by the option, and scores as before.
    copy = shutil.copytree(run / "base", world / "elsewhere")
    assert main([*words, "--adapter-base", str(copy), "--output", str(world / "again")]) == 0
    again, before = (json.loads((world / name / "critic.json").read_text()) for name in ("again", "before"))
    assert "base_changed" not in again
    assert again["identity"] == before["identity"] != result["identity"]


def test_an_adapter_whose_base_is_gone_says_so_and_how_to_name_it(world, capsys):
    shutil.move(world / "base", world / "moved")
    with pytest.raises(CFTError, match=r"is an adapter on '.*base': .*; --adapter-base names another place"):
        load_model(str(world / "run"))
    capsys.readouterr()
    words = ["critique", str(world / "run"), "--query", "2+2?", "--response", "4", "--max-new-tokens", "2"]
    assert main(words) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main([*words, "--adapter-base", str(world / "moved")]) == 0
    assert main([*words, "--adapter-base", str(world / "nowhere")]) == 2
    assert f"--adapter-base {world / 'nowhere'}: model" in capsys.readouterr().err


def test_an_adapter_without_a_tokenizer_is_not_blamed_for_its_base(tmp_path, capsys):
    settings = {"peft_type": "LORA", "base_model_name_or_path": str(tmp_path / "gone")}
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    assert main(["solve", str(tmp_path), "2 + 2?"]) == 2
    assert f"is an adapter on '{tmp_path / 'gone'}'" in capsys.readouterr().err


def test_selection_scores_on_the_base_that_is_named(world, capsys):
    words = ["select", str(world / "run"), "--benchmark", "arithmetic-critic", "--limit", "2", "--max-new-tokens", "2"]
    shutil.move(world / "base", world / "moved")
    assert main(words) == 2
    assert main([*words, "--adapter-base", str(world / "moved")]) == 0
    told = json.loads((world / "run" / "selection.json").read_text())
    assert len(told["curve"]) == 2
    assert "base_changed" not in told
    points = {path: path.stat().st_mtime_ns for path in world.glob("run/_selected/*/step-*.json")}
    retrain(world / "moved")
    assert main([*words, "--adapter-base", str(world / "moved")]) == 0  # scored anew: it is another model
    told = json.loads((world / "run" / "selection.json").read_text())
    assert told["base_changed"].startswith("other weights (")
    assert all(path.stat().st_mtime_ns != before for path, before in points.items())


def test_an_adapter_as_the_model_to_train_is_refused_and_its_base_named(world, make_config, rows, capsys):
    message = rf"model_name_or_path=.*run is an adapter on '{world / 'base'}', and training begins with a whole model"
    with pytest.raises(CFTError, match=message):
        refuse_adapter(str(world / "run"))
    capsys.readouterr()
    assert main(["train", "--config", str(world / "run.yaml"), "--model_name_or_path", str(world / "run"),
                 "--output_dir", str(world / "second")]) == 2  # fmt: skip
    assert f"give model_name_or_path={world / 'base'}" in capsys.readouterr().err
    assert not (world / "second").exists()
    with pytest.raises(CFTError, match="is an adapter on"):
        CFTTrainer(str(world / "run"), make_config(), train_dataset=Dataset.from_list(rows))


def test_a_base_for_a_whole_model_is_refused(world, capsys):
    with pytest.raises(CFTError, match=f"--adapter-base x: '{world / 'base'}' is a whole model and no adapter"):
        load_model(str(world / "base"), adapter_base="x")
    words = ["eval-critic", "m", "--backend", "endpoint", "--base-url", "http://localhost:1/v1"]
    assert main([*words, "--adapter-base", "x"]) == 2
    assert "--adapter-base x: an endpoint serves what it serves" in capsys.readouterr().err


def test_an_adapter_that_does_not_fit_its_base_is_one_line(world):
    wide = LlamaConfig(vocab_size=1000, hidden_size=64, num_hidden_layers=2, num_attention_heads=4)
    LlamaForCausalLM(wide).save_pretrained(world / "wide")
    with pytest.raises(CFTError, match=r"adapter '.*run' does not fit its base '.*wide': "):
        load_model(str(world / "run"), adapter_base=str(world / "wide"))
    short = AutoModelForCausalLM.from_pretrained(world / "base", num_hidden_layers=1)
    short.save_pretrained(world / "short")  # PEFT would leave the second layer's part out, unsaid
    with pytest.raises(CFTError, match="it has 4 low-rank tensors, and 2 have a place there"):
        load_model(str(world / "run"), adapter_base=str(world / "short"))


def test_identity_is_of_the_base_that_is_named(world):
    before = model_identity(str(world / "run"))
    assert model_identity(str(world / "run"), adapter_base=str(world / "base")) == before
    other = base_folder(world / "other", attention_bias=True)
    told = what_changed(before, model_identity(str(world / "run"), adapter_base=str(other)))
    assert "other weights of its base" in told


@pytest.mark.parametrize("more", [8, -16])
def test_tokens_that_training_added_are_there_when_it_is_loaded(tmp_path, more):
    """TRL adds them for a chat template that needs them, or cuts a padded base, and PEFT saves the other head whole."""
    tokenizer = make_tokenizer("chatml")
    base = base_folder(tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(base)
    rows = model.get_input_embeddings().weight.shape[0] + more
    model.resize_token_embeddings(rows, mean_resizing=False)
    added = {"embed_tokens": [rows - 2]}
    adapted = get_peft_model(model, LoraConfig(**LORA, modules_to_save=["lm_head"], trainable_token_indices=added))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name))))
    adapted.eval().save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    tokenizer.save_pretrained(tmp_path / "adapter")
    loaded, _ = load_model(str(tmp_path / "adapter"), dtype="float32")
    ids = torch.tensor([[5, 6, rows - 2, 7]])
    torch.testing.assert_close(loaded(ids).logits, adapted(ids).logits)


def test_a_config_beside_an_adapter_makes_it_no_whole_model(world, tmp_path):
    """Other trainers leave their base's config.json there."""
    folder = shutil.copytree(world / "run", tmp_path / "run")
    shutil.copy(world / "base" / "config.json", folder)
    ids = torch.tensor([[5, 6, 7]])
    expected, _ = load_model(str(world / "run"), dtype="float32")
    loaded, _ = load_model(str(folder), dtype="float32")
    torch.testing.assert_close(loaded(ids).logits, expected(ids).logits, rtol=0, atol=0)
    shutil.copy(world / "base" / "model.safetensors", folder)
    with pytest.raises(CFTError, match=r"holds a whole model \(model.safetensors\) and an adapter .*; keep one"):
        load_model(str(folder))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("backend", ["ddp", "zero3", "fsdp2"])
def test_selection_while_training_writes_what_the_saved_adapter_writes(tmp_path, backend, capsys):
    """A DoRA adapter: where weights are sharded each process loads the checkpoint, whole, in the middle of training."""
    import test_distributed as launches

    if backend.startswith("zero"):
        launches.needs_deepspeed()
    launcher, rows, micro_batches = launches.BACKENDS[backend]
    run = launches.launch(
        launches.two(launcher), tmp_path, launches.make_tiny(tmp_path / "tiny"), use_peft=True, use_dora=True, lora_r=8,
        lora_target_modules=["q_proj", "v_proj", "down_proj"], learning_rate=0.05, eval_rows=0, eval_strategy="no",
        select_benchmark="arithmetic-critic", select_limit=6, per_device_train_batch_size=rows,
        gradient_accumulation_steps=micro_batches, dataset_limit=16,
    )  # fmt: skip

    def texts():
        # Their beginnings: a model that repeats itself comes to near ties (4e-5 seen), which rounding decides.
        return {
            path.name: [json.loads(line)["text"][:200] for line in path.read_text("utf-8").strip("\n").split("\n")]
            for path in run.folder.glob("_selected/*/step-*.jsonl")
        }

    written = texts()
    assert sorted(written) == ["step-2.jsonl", "step-4.jsonl"]
    assert written["step-2.jsonl"] != written["step-4.jsonl"], "the models say the same, comparing would say little"
    shutil.rmtree(run.folder / "_selected")
    assert main(["select", str(run.folder), "--benchmark", "arithmetic-critic", "--limit", "6"]) == 0
    assert texts() == written
