"""The columns of docs/models.md on models: what shares prefixes computes the same, and what vLLM serves gives back."""

from __future__ import annotations

import os

import pytest
from families import FAMILIES, overfit
from families_seen import seen
from family_models import MODEL_TYPES, SERVED, reason, shares, tiny
from test_sharing import VOCABULARY, check_equal, make_rows

from cft_trl.training.prefix_sharing.attention import why_not_shared

TYPES = sorted({model_type for types in MODEL_TYPES.values() for model_type in types})
# Before 5.21 transformers said nothing of Gemma 2's capped logits: there it shares on a GPU, and is refused on a CPU.
SAYS_IT_CAPS = reason("gemma2", 1) is not None


def test_every_family_has_its_models():
    assert list(MODEL_TYPES) == list(FAMILIES)
    assert set(SERVED) <= set(FAMILIES)


@pytest.mark.parametrize("model_type", [name for name in TYPES if reason(name, 1) is None and name != "gemma2"])
def test_a_type_that_shares_computes_what_the_rows_alone_do(model_type):
    model = tiny(model_type, VOCABULARY)
    assert why_not_shared(model.config, model, 64) is None
    check_equal(model, make_rows(), 1e-5)


def test_the_types_that_cannot_share_are_known():
    own = ["gpt_oss", "nemotron_h", "qwen3_5_text"]
    assert [name for name in TYPES if reason(name, 1)] == (["gemma2"] if SAYS_IT_CAPS else []) + own
    told = "no: an attention of their own" if SAYS_IT_CAPS else "rows up to its window"
    assert shares("gemma") == f"Gemma yes; Gemma2 {told}"
    assert shares("cohere2") == shares("gemma3") == "rows up to its window"
    assert reason("gemma3_text", 10**5).startswith("the model's sliding window of 4,096 tokens is shorter than rows of")


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif("CFT_VLLM_PYTHON" not in os.environ, reason="no vLLM here (set CFT_VLLM_PYTHON)")
@pytest.mark.parametrize(("name", "mode"), [(name, mode) for name, modes in SERVED.items() for mode in modes])
def test_vllm_gives_critiques_back_and_ends(name, mode, tmp_path):
    overfit(FAMILIES[name], mode, tmp_path)
    assert seen("vllm", tmp_path / mode)
