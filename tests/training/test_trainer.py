"""CFTTrainer trains: parameters move, losses fall, metrics equal a computation by hand, TRL's options keep working."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest
import torch
from conftest import make_model
from datasets import Dataset, IterableDataset
from transformers import AutoModelForCausalLM

from cft_trl import CFTError, CFTTrainer, DataCollatorForCritique
from cft_trl.training.encoded import RIGHT, WRONG


@pytest.fixture
def trained(tokenizer, tiny_model, rows, make_config):
    """`trained(config fields, **trainer arguments)` -> the trainer after training on 40 rows."""

    def train(model=None, dataset=None, resume=None, **fields):
        arguments = {name: fields.pop(name) for name in ("eval_dataset", "peft_config", "callbacks") if name in fields}
        trainer = CFTTrainer(
            model or tiny_model(tokenizer),
            make_config(**fields),
            train_dataset=Dataset.from_list(rows) if dataset is None else dataset,
            processing_class=tokenizer,
            **arguments,
        )
        trainer.train(resume_from_checkpoint=resume)
        return trainer

    return train


def losses(trainer):
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize("objective", ["cft", "cgd", "sft"])
@pytest.mark.parametrize("packing", [False, True])
def test_loss_falls_and_every_parameter_moves(trained, tiny_model, tokenizer, objective, packing):
    before = {name: p.clone() for name, p in tiny_model(tokenizer).named_parameters()}
    trainer = trained(objective=objective, packing=packing, max_steps=14, learning_rate=1e-2)
    found = losses(trainer)
    assert sum(found[-2:]) / 2 < 0.8 * found[0]
    for name, parameter in trainer.model.named_parameters():
        assert not torch.equal(parameter, before[name]), f"{name} did not move"
    assert trainer.preparation["train"].rows == 40


def by_hand(model, batch):
    """Loss and verdict hits from full logits, without TRL's fused head."""
    with torch.no_grad():
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1]
    labels, mask = batch["labels"][:, 1:], batch["verdict_mask"][:, 1:]
    nll = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none", ignore_index=-100)
    top = logits.argmax(-1) == labels
    hits = {}
    for name, value in (("right", RIGHT), ("wrong", WRONG)):
        words = [top[i][mask[i] > 0].all().item() for i in range(len(mask)) if (mask[i] == value).any()]
        hits[name] = (sum(words), len(words))
    return nll, labels != -100, mask, hits


@pytest.fixture(scope="module")
def half_trained(tokenizers, tmp_path_factory):
    """A folder with a tiny model that gets some verdicts right and some wrong, and rows it was trained on."""
    from cft_trl import CFTConfig
    from cft_trl.sources.arithmetic import arithmetic_records

    folder = tmp_path_factory.mktemp("half-trained")
    rows = list(arithmetic_records(12, seed=3, levels=(1,)))
    rows[11] = {**rows[11], "critique": "So:\nConclusion: the solution is incorrect", "verdict": "wrong"}
    config = CFTConfig(str(folder), use_cpu=True, report_to="none", learning_rate=1e-2, max_steps=50,
                       gradient_checkpointing=False, save_strategy="no", disable_tqdm=True)  # fmt: skip
    trainer = CFTTrainer(make_model(tokenizers("chatml")), config, train_dataset=Dataset.from_list(rows),
                         processing_class=tokenizers("chatml"))  # fmt: skip
    trainer.train()
    trainer.save_model()
    return folder, rows


LAYOUTS = [{}, {"packing": True}, {"padding_free": True}, {"packing": True, "max_length": 300}]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("weight", [1.0, 3.0])
def test_evaluation_equals_a_computation_by_hand(half_trained, make_config, tokenizer, layout, weight):
    folder, rows = half_trained
    config = make_config(per_device_eval_batch_size=3, verdict_weight=weight, **layout)
    dataset = Dataset.from_list(rows)
    trainer = CFTTrainer(str(folder), config, train_dataset=dataset, processing_class=tokenizer)
    metrics = trainer.evaluate(dataset)
    batch = DataCollatorForCritique(tokenizer, max_length=512, return_verdict_mask=True)(rows)
    nll, target, mask, hits = by_hand(trainer.model.eval(), batch)
    weights = torch.where(mask > 0, weight, 1.0)
    # Trainer averages eval_loss over batches of equal size; over all tokens only critique_loss does.
    assert math.isclose(metrics["eval_critique_loss"], (nll.sum() / target.sum()).item(), rel_tol=1e-5)
    if not layout:
        means = [((nll * weights)[i : i + 3].sum() / target[i : i + 3].sum()).item() for i in range(0, 12, 3)]
        assert math.isclose(metrics["eval_loss"], sum(means) / 4, rel_tol=1e-5)
    for name, (right, total) in hits.items():
        assert total > 2
        assert metrics[f"eval_verdict_accuracy_{name}"] == right / total
    assert metrics["eval_verdict_count"] == 12
    assert 0 < metrics["eval_verdict_accuracy"] < 1


def test_step_equals_trls_own(trained, tiny_model, tokenizer, rows, tmp_path):
    """Same rows, same targets: loss and weights after three steps are those of SFTTrainer."""
    from trl import SFTConfig, SFTTrainer

    ours = trained(max_steps=3, packing=True)
    prepared = Dataset.from_dict({c: ours.train_dataset[c][:] for c in ("input_ids", "labels", "seq_lengths")})
    args = ours.args.to_dict()
    shared = {name: args[name] for name in ("learning_rate", "max_steps", "warmup_steps", "logging_steps", "use_cpu",
              "report_to", "save_strategy", "max_length", "lr_scheduler_type", "gradient_checkpointing", "bf16",
              "per_device_train_batch_size", "disable_tqdm")}  # fmt: skip
    config = SFTConfig(str(tmp_path / "trl"), padding_free=True, dataset_kwargs={"skip_prepare_dataset": True},
                       **{**shared, "max_length": None})  # fmt: skip
    theirs = SFTTrainer(tiny_model(tokenizer), config, train_dataset=prepared, processing_class=tokenizer)
    theirs.train()
    assert losses(ours) == pytest.approx(losses(theirs), rel=1e-6)
    for mine, other in zip(ours.model.parameters(), theirs.model.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-6)


def test_cpu_scores_target_positions_only(trained, monkeypatch):
    import trl.trainer.utils as trl_utils

    scored, original = [], trl_utils._ChunkedLogProbFunction.apply
    spy = lambda hidden, *rest: scored.append(len(hidden)) or original(hidden, *rest)  # noqa: E731
    monkeypatch.setattr(trl_utils._ChunkedLogProbFunction, "apply", spy)
    trainer = trained(num_train_epochs=1)
    assert sum(scored) == trainer.preparation["train"].target_tokens


@pytest.mark.parametrize("tile", ["_forward_tile", "_backward_tile"])
def test_on_a_cpu_the_head_works_on_small_tiles(trained, monkeypatch, tile):
    """Both ways, and only while one of our trainers computes: TRL's own trainers keep theirs."""
    from cft_trl.training import trl_internals

    seen = []

    def spy(fold):
        def spied(part, *rest, **more):
            seen.append(part.shape)
            return fold(part, *rest, **more)

        return spied

    sizes = {"TOKEN_CHUNK_SIZE": 7, "_CHUNKED_LOGPROB_CHUNK_SIZE": 11}
    set_up = [
        (module, name, spy(value) if name == tile else sizes.get(name, value))
        for module, name, value in trl_internals._ON_A_CPU
    ]
    monkeypatch.setattr(trl_internals, "_ON_A_CPU", set_up)
    before = [getattr(module, name) for module, name, _ in set_up]
    trained(max_steps=1)
    assert max(seen) == (7, 11)
    assert before == [getattr(module, name) for module, name, _ in set_up]


def test_packed_documents_do_not_see_each_other(tiny_model, tokenizer, rows):
    collator = DataCollatorForCritique(tokenizer, padding_free=True)
    model = tiny_model(tokenizer).eval()

    def run(batch):  # as in training, without a cache
        return model(input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False).logits[0]

    packed = collator(rows[:3])
    starts = [*(packed["position_ids"][0] == 0).nonzero().flatten().tolist(), packed["input_ids"].shape[1]]
    perturbed = {**packed, "input_ids": packed["input_ids"].clone()}
    perturbed["input_ids"][0, starts[0] + 5 : starts[1]] = 7
    perturbed["input_ids"][0, starts[2] + 5 :] = 9
    before, after = run(packed), run(perturbed)
    torch.testing.assert_close(after[starts[1] : starts[2]], before[starts[1] : starts[2]], rtol=0, atol=1e-6)
    assert not torch.allclose(after[starts[0] + 5 : starts[1]], before[starts[0] + 5 : starts[1]])
    alone = model(input_ids=packed["input_ids"][:, starts[1] : starts[2]]).logits[0]
    torch.testing.assert_close(before[starts[1] : starts[2]], alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("packing", [False, True])
def test_resumed_run_equals_the_uninterrupted_one(trained, tmp_path, packing):
    fields = {"max_steps": 6, "save_strategy": "steps", "save_steps": 3, "packing": packing, "max_length": 600}
    whole = trained(**fields)
    resumed = trained(resume=str(tmp_path / "out" / "checkpoint-3"), **fields)
    assert losses(resumed)[3:] == losses(whole)[3:]
    for mine, other in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_streaming_counts_rows_as_they_go_by(trained, rows, tmp_path, capsys):
    stream = IterableDataset.from_generator(lambda: iter([*rows, {**rows[0], "critique": None}]))
    trainer = trained(dataset=stream, max_steps=11, learning_rate=5e-3)
    assert losses(trainer)[-1] < losses(trainer)[0]
    report = json.loads((tmp_path / "out" / "preparation.json").read_text())["train"]
    assert report["dropped"] == {"no critique": 1}
    assert report["kept"] == 40
    assert "dropped 1 (1 no critique)" in capsys.readouterr().out


def test_report_is_printed_and_saved(trained, rows, tmp_path, capsys):
    trained(dataset=Dataset.from_list([*rows, {**rows[0], "critique": None}]), max_steps=1)
    assert "train: rows 41: kept 40, shortened 0, dropped 1 (1 no critique)" in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "preparation.json").read_text())["train"]["rows"] == 41


def test_evaluation_sets_as_a_dict(trained, rows):
    sets = {"easy": Dataset.from_list(rows[:8]), "other": Dataset.from_list(rows[8:20])}
    trainer = trained(eval_dataset=sets, eval_strategy="steps", eval_steps=5, max_steps=5)
    logged = {name for entry in trainer.state.log_history for name in entry}
    assert {"eval_easy_loss", "eval_other_loss", "eval_easy_verdict_accuracy", "eval_other_verdict_accuracy"} <= logged
    assert set(trainer.preparation) == {"train", "easy", "other"}


def test_lora_with_gradient_checkpointing(trained, tmp_path, tiny_model, tokenizer):
    from peft import LoraConfig, PeftModel

    trainer = trained(
        peft_config=LoraConfig(r=4, task_type="CAUSAL_LM", target_modules="all-linear"),
        gradient_checkpointing=True,
        num_train_epochs=4,
        learning_rate=2e-2,
    )
    assert losses(trainer)[-1] < losses(trainer)[0]
    trainer.save_model(str(tmp_path / "adapter"))
    loaded = PeftModel.from_pretrained(tiny_model(tokenizer), tmp_path / "adapter")
    moved = [name for name, p in loaded.named_parameters() if "lora_B" in name and p.abs().sum() > 0]
    assert len(moved) == 14


def test_best_checkpoint_by_verdict_accuracy(trained, rows):
    trainer = trained(
        eval_dataset=Dataset.from_list(rows[:8]), eval_strategy="steps", eval_steps=2, save_strategy="steps",
        save_steps=2, max_steps=4, load_best_model_at_end=True, metric_for_best_model="eval_verdict_accuracy",
    )  # fmt: skip
    assert trainer.state.best_model_checkpoint


@pytest.mark.parametrize("tracker", ["tensorboard", "trackio"])
def test_trackers_get_the_verdict_metrics(trained, tmp_path, monkeypatch, tracker):
    pytest.importorskip(tracker)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "tensorboard"))
    trained(report_to=tracker, max_steps=2)
    folder = tmp_path / "tensorboard" if tracker == "tensorboard" else Path(os.environ["TRACKIO_DIR"])
    files = [p for p in folder.rglob("*") if p.is_file()]
    assert any(b"verdict_accuracy" in p.read_bytes() for p in files)


def test_saved_model_loads_and_has_a_card(trained, tokenizer, tmp_path):
    trainer = trained(max_steps=2, save_strategy="steps", save_steps=2)
    trainer.save_model()
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    for mine, other in zip(loaded.parameters(), trainer.model.parameters(), strict=True):
        assert torch.equal(mine, other)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "critique fine-tuning" in card
    assert "| learning_rate | 0.001 |" in card
    assert "| train | 40 | 40 | 0 | 0 | 20 / 20 / 0 |" in card


def test_prepared_rows_are_used_as_they_are(trained, make_config, tokenizer, tiny_model):
    first = trained(max_steps=2)
    again = trained(max_steps=2, dataset=first.train_dataset)
    assert losses(again) == losses(first)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_dataset": None}, "train_dataset is missing"),
        ({"train_dataset": []}, "train dataset is empty"),
        ({"model": "no/such/model"}, "neither a folder here nor a Hub id"),
        ({"model": "owner/absent"}, "the Hub does not answer"),
        ({"formatting_func": str}, "formatting_func contradicts"),
        ({"args": "training"}, "args is a str"),
    ],
)
def test_bad_arguments(tiny_model, tokenizer, rows, make_config, change, message):
    arguments = {"model": tiny_model(tokenizer), "args": make_config(), "train_dataset": Dataset.from_list(rows)}
    if change.get("train_dataset") == []:
        change = {"train_dataset": Dataset.from_list(rows).select([])}
    with pytest.raises(CFTError, match=message):
        CFTTrainer(**{**arguments, "processing_class": tokenizer, **change})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"objective": "dpo"}, "objective=dpo: unknown; give one of cft, cgd, sft"),
        ({"over_length": "cut"}, "over_length=cut: unknown"),
        ({"prompt_preset": "poem"}, "prompt_preset=poem: unknown"),
        ({"sft_target": "refinement"}, "sft_target belongs to objective=sft"),
        ({"verdict_weight": -1.0}, "0 or more"),
        ({"verdict_weight": 2.0, "objective": "sft"}, "only critiques"),
        ({"verdict_weight": 2.0, "loss_type": "dft"}, "needs loss_type=nll"),
        ({"packing": True, "packing_strategy": "wrapped"}, "cuts critiques in two"),
        ({"packing": True, "max_length": None}, "needs max_length"),
        ({"assistant_only_loss": True}, "contradict critique training"),
        ({"max_length": 0}, "positive number"),
    ],
)
def test_contradictory_settings(make_config, fields, message):
    with pytest.raises(CFTError, match=message):
        make_config(**fields)


def test_published_defaults(tmp_path):
    from cft_trl import CFTConfig

    config = CFTConfig(str(tmp_path), use_cpu=True)
    assert (config.learning_rate, config.lr_scheduler_type, config.warmup_steps) == (5e-6, "cosine", 0.1)
    assert (config.max_length, config.num_train_epochs) == (2048, 1)


def test_push_to_hub_sends_model_and_card(trained, tmp_path, monkeypatch):
    """The upload itself is huggingface_hub's; what it would send is looked at here."""
    from huggingface_hub import HfApi, RepoUrl

    sent = {}

    def upload(self, repo_id, folder_path, **kwargs):
        sent.update(repo=repo_id, files={p.name for p in Path(folder_path).iterdir()})

    monkeypatch.setattr(HfApi, "create_repo", lambda *_, **__: RepoUrl("https://huggingface.co/owner/critic"))
    monkeypatch.setattr(HfApi, "upload_folder", upload)
    trainer = trained(max_steps=1, hub_model_id="owner/critic")
    trainer.push_to_hub(dataset_name="owner/critiques")
    assert sent["repo"] == "owner/critic"
    assert {"model.safetensors", "README.md", "tokenizer.json"} <= sent["files"]
    assert "Rows: owner/critiques." in (tmp_path / "out" / "README.md").read_text()
    assert 'load_model("owner/critic")' in (tmp_path / "out" / "README.md").read_text()


def test_prepared_sets_are_evaluated_as_they_are(trained, rows):
    trainer = trained(max_steps=2, packing=True, eval_dataset=Dataset.from_list(rows[:9]))
    first = trainer.evaluate()
    again = trainer.evaluate(trainer.eval_dataset)
    for name in ("eval_critique_loss", "eval_verdict_count", "eval_verdict_accuracy"):
        assert again[name] == first[name]
    with pytest.raises(CFTError, match=r"holds a row of .* tokens, more than max_length=100"):
        trained(dataset=Dataset.from_dict({"input_ids": [[1] * 101], "labels": [[1] * 101]}), max_length=100)
    with pytest.raises(CFTError, match="input_ids but no labels"):
        trained(dataset=Dataset.from_dict({"input_ids": [[1]]}))


def test_predict_leaves_nothing_for_the_next_evaluation(trained, rows):
    trainer = trained(max_steps=1, eval_dataset=Dataset.from_list(rows[:8]))
    first = trainer.evaluate()
    trainer.predict(trainer.train_dataset)
    assert trainer.evaluate()["eval_verdict_count"] == first["eval_verdict_count"] == 8


def test_gradient_accumulation_changes_nothing(trained):
    fields = {"max_steps": 3, "verdict_weight": 3.0}
    whole = trained(per_device_train_batch_size=8, **fields)
    parts = trained(per_device_train_batch_size=2, gradient_accumulation_steps=4, **fields)
    assert losses(parts) == pytest.approx(losses(whole), rel=1e-5)
    for mine, other in zip(parts.model.parameters(), whole.model.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-5)


def test_stream_without_a_usable_row_is_an_error(trained, rows):
    stream = IterableDataset.from_generator(lambda: iter([{**row, "critique": None} for row in rows[:5]]))
    with pytest.raises(CFTError, match="nothing was trained"):
        trained(dataset=stream, max_steps=2)
    with pytest.raises(CFTError, match="dataloader_num_workers=1 with a streaming dataset"):
        trained(dataset=stream, max_steps=2, dataloader_num_workers=1)


def test_prompt_tuning_keeps_verdicts_aligned(trained):
    from peft import PromptTuningConfig

    adapter = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5)
    trainer = trained(peft_config=adapter, max_steps=2, verdict_weight=2.0, packing=False)
    assert trainer.state.log_history[0]["verdict_count"] == 4


def test_collator_and_config_must_agree(trained, tokenizer, tiny_model, make_config, rows):
    collator = DataCollatorForCritique(tokenizer, objective="sft", max_length=512)
    with pytest.raises(CFTError, match="the collator has objective=sft but the config objective=cft"):
        CFTTrainer(tiny_model(tokenizer), make_config(), collator, Dataset.from_list(rows), processing_class=tokenizer)
