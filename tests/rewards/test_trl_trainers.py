"""The converted rows and the rewards in TRL's own trainers: three steps each, tiny models and SmolLM2, on a CPU."""

from __future__ import annotations

import math

import pytest
import torch
from conftest import make_model
from datasets import Dataset

from cft_trl.data.records import make_record
from cft_trl.rewards import refinement_reward, solution_reward, verdict_reward
from cft_trl.sources.arithmetic import arithmetic_records
from cft_trl.sources.trl_layouts import feedback, preferences, prompts_for_rl

pytestmark = pytest.mark.filterwarnings("ignore")
WORDS = ["Conclusion: right.", "Conclusion: wrong.", "The answer is 4.", "The answer is 5.", "Hm."]


def outspoken():
    """A tokenizer of seven words: what a random model says with it has a verdict or an answer now and then."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({word: at for at, word in enumerate(["<pad>", "<eos>", *WORDS])}, "<pad>"))
    backend.pre_tokenizer = pre_tokenizers.Split("|", "isolated")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="<eos>")
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}|{% endfor %}"
    return tokenizer


def rows(count: int):
    return [
        make_record(query=f"What is {n} + {4 - n}?", response="The answer is 5.", critique="Conclusion: wrong",
                    reference_answer="4")
        for n in range(count)
    ]  # fmt: skip


def settings(kind, tmp_path, **more):
    given = {"use_cpu": True, "bf16": False, "report_to": "none", "max_steps": 3, "learning_rate": 1e-2,
             "logging_steps": 1, "save_strategy": "no", "disable_tqdm": True,
             "per_device_train_batch_size": 4}  # fmt: skip
    return kind(str(tmp_path / "out"), **{**given, **more})


def saved(tokenizer, tmp_path) -> str:
    """DPO and the self-distillation trainers look a model up by its name again, so it needs a folder."""
    make_model(tokenizer).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


def moved(model, before):
    return max(float((now - old).abs().max()) for now, old in zip(model.parameters(), before, strict=True))


def copies(model):
    return [part.detach().clone() for part in model.parameters()]


@pytest.mark.slow
def test_grpo_on_the_mixture(tmp_path):
    from trl import GRPOConfig, GRPOTrainer

    tokenizer = outspoken()
    made = prompts_for_rl(rows(40), critique_share=0.3, refine_share=0.2)
    config = settings(GRPOConfig, tmp_path, max_steps=12, per_device_train_batch_size=8, num_generations=8,
                      max_completion_length=2)  # fmt: skip
    seen: dict[str, list[float]] = {}

    def noted(function):
        def reward(**columns):
            given = function(**columns)
            seen.setdefault(function.__name__, []).extend(value for value in given if value is not None)
            return given

        reward.__name__ = function.__name__
        return reward

    functions = [noted(function) for function in (verdict_reward, refinement_reward, solution_reward)]
    model = make_model(tokenizer)
    before = copies(model)
    trainer = GRPOTrainer(
        model, functions, args=config, train_dataset=Dataset.from_list(made.rows), processing_class=tokenizer
    )
    trainer.train()
    told = [entry for entry in trainer.state.log_history if "reward" in entry]
    assert len(told) == 12
    assert all(math.isfinite(entry["reward"]) for entry in told)
    assert sum(entry["reward_std"] > 0 for entry in told) > 6
    assert sorted(seen) == ["refinement_reward", "solution_reward", "verdict_reward"]
    assert all(set(values) == {0.0, 1.0} for values in seen.values())
    assert moved(trainer.model, before) > 1e-3


@pytest.mark.slow
def test_dpo_on_the_pairs(tmp_path, tokenizer):
    from trl import DPOConfig, DPOTrainer

    records = [
        make_record(query=row["query"], response=row["response"], verdict=row["verdict"],
                    meta={"label": row["verdict"]}, critique=f"I have looked at it.\n\nConclusion: {said}")
        for row in arithmetic_records(12, levels=(1,)) for said in ("right", "wrong")
    ]  # fmt: skip
    made = preferences(records, preset="compact")
    assert len(made.rows) == 12
    config = settings(DPOConfig, tmp_path, max_length=512)
    trainer = DPOTrainer(
        saved(tokenizer, tmp_path), args=config, train_dataset=Dataset.from_list(made.rows), processing_class=tokenizer
    )
    before = copies(trainer.model)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == 3
    assert all(map(math.isfinite, losses))
    assert moved(trainer.model, before) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sdpo", "sdft"])
def test_self_distillation_on_the_feedback(kind, tmp_path, tokenizer):
    made, model = feedback(rows(12)), saved(tokenizer, tmp_path)
    data = Dataset.from_list(made.rows)
    if kind == "sdpo":
        from trl.experimental.sdpo import SDPOConfig, SDPOTrainer

        config = settings(SDPOConfig, tmp_path, num_generations=4, max_completion_length=8,
                          include_environment_feedback=True)  # fmt: skip
        trainer = SDPOTrainer(
            model, reward_funcs=[solution_reward], args=config, train_dataset=data, processing_class=tokenizer
        )
    else:
        from trl.experimental.sdft import SDFTConfig, SDFTTrainer

        config = settings(SDFTConfig, tmp_path, num_generations=4, max_completion_length=8)
        trainer = SDFTTrainer(model, args=config, train_dataset=data, processing_class=tokenizer)
    before = copies(trainer.model)
    trainer.train()
    history = trainer.state.log_history
    assert sum("loss" in entry for entry in history) == 3
    if kind == "sdpo":
        assert any(
            value == 1.0 for entry in history for name, value in entry.items() if "feedback_used_fraction" in name
        )
    assert moved(trainer.model, before) > 1e-4


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_smollm2_on_the_mixture(tmp_path):
    from trl import GRPOConfig, GRPOTrainer

    from cft_trl.models.loading import load_model

    model, tokenizer = load_model("smollm2-135m", dtype="float32")
    sums = [(a, b) for a in range(1, 9) for b in range(1, 5)]  # of which it knows some, at temperature 1
    records = [
        make_record(
            query=f"What is {a} + {b}?",
            response=f"The answer is {a + b}.",
            critique="Conclusion: right",
            reference_answer=str(a + b),
        )
        for a, b in sums
    ]
    made = prompts_for_rl(records, critique_share=0.2)
    config = settings(GRPOConfig, tmp_path, max_steps=3, learning_rate=1e-5, num_generations=8,
                      max_completion_length=16, per_device_train_batch_size=8)  # fmt: skip
    before = copies(model)
    trainer = GRPOTrainer(
        model, [verdict_reward, solution_reward], args=config, train_dataset=Dataset.from_list(made.rows),
        processing_class=tokenizer,
    )  # fmt: skip
    trainer.train()
    told = [entry for entry in trainer.state.log_history if "reward" in entry]
    assert len(told) == 3
    assert all(math.isfinite(entry["reward"]) for entry in told)
    assert any(entry["reward_std"] > 0 for entry in told)
    assert moved(trainer.model, before) > 0
    assert all(torch.isfinite(part).all() for part in trainer.model.parameters())
