"""One training of an experiment: what a step computes at a time changes memory and not what is learnt."""

from __future__ import annotations

import json

import pytest
import torch
from conftest import make_model
from safetensors.torch import load_file

from cft_trl.experiments.fit import fit
from cft_trl.experiments.mixtures import Budget, arm_parts, take
from cft_trl.experiments.settings import Arm, Size, World
from cft_trl.experiments.world import pool
from cft_trl.training.trainer import CFTTrainer


@pytest.mark.parametrize("rows", [8, 11])  # the last step has 3 rows: a micro-batch and a half
def test_micro_batches_are_small_and_teach_the_same(tokenizers, tmp_path, monkeypatch, rows):
    tokenizer, base = tokenizers("chatml"), tmp_path / "base"
    make_model(tokenizer).save_pretrained(base)
    tokenizer.save_pretrained(base)
    [parts] = arm_parts(Arm(train="cft+sft", target="verified"), list(pool(World(levels=(1,)), 0, 40)))
    taken = take(parts, tokenizer, Budget("rows", rows), seed=0, batch=4, max_length=512, where="here")
    seen: dict[str, set[int]] = {}
    step = CFTTrainer.training_step
    made = {}
    for name, micro in (("whole", None), ("micro", 2)):

        def counted(self, model, inputs, *others, name=name):
            seen.setdefault(name, set()).add(len(inputs["input_ids"]))
            return step(self, model, inputs, *others)

        monkeypatch.setattr(CFTTrainer, "training_step", counted)
        size = Size(batch=4, micro_batch=micro)
        folder = tmp_path / name
        told = fit(str(base), taken, folder, size, learning_rate=1e-2, seed=0, objective="cft", who=name)
        assert told == json.loads((folder / "trained.json").read_text())
        made[name] = told, load_file(folder / "model.safetensors")
    assert (max(seen["whole"]), max(seen["micro"])) == (4, 2)
    (whole, weights), (micro, others) = made["whole"], made["micro"]
    assert whole["steps"] == micro["steps"] == -(-rows // 4)
    assert whole["loss"] == pytest.approx(micro["loss"], abs=1e-5)
    before = load_file(base / "model.safetensors")
    for name, weight in weights.items():
        assert torch.allclose(weight, others[name], atol=2e-4), name
    assert any(not torch.allclose(weight, before[name], atol=2e-3) for name, weight in weights.items())
