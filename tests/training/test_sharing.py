"""Prefix trees: every row whole and seen by itself alone, and the numbers those of the rows one by one."""

import math
import random
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention.flex_attention import create_mask
from transformers import (
    AutoModelForCausalLM,
    GemmaConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

from cft_trl.errors import CFTError
from cft_trl.training.collator import DataCollatorForCritique
from cft_trl.training.prefix_sharing.attention import _PackLayout, shared_prefix_attention, use_shared_attention
from cft_trl.training.prefix_sharing.layout import position_ids, stretches
from cft_trl.training.prefix_sharing.packs import best_fit, lay_out, pack_tree, share_dataset, shareable_tokens

VOCABULARY = 50


def make_row(prompt: list[int], target: list[int]) -> dict[str, list[int]]:
    mask = [0] * len(prompt) + [1] + [3] * (len(target) - 1)
    return {"input_ids": prompt + target, "labels": [-100] * len(prompt) + target, "verdict_mask": mask}


# Few different tokens, so that prompts begin alike by chance: at every depth, wholly, or not at all.
tokens = st.lists(st.integers(1, 3), max_size=8)
rows_strategy = st.lists(
    st.builds(make_row, tokens, st.lists(st.integers(1, 3), min_size=1, max_size=4)), min_size=1, max_size=9
)


def visible(pack: dict) -> np.ndarray:
    """(length, length): which token sees which, by the layout."""
    until = np.asarray(pack["seen_until"])
    at = np.arange(len(until))
    return (at[None, :] <= at[:, None]) & (at[:, None] < until[None, :])


@settings(max_examples=200, deadline=None)
@given(rows_strategy)
def test_a_pack_holds_every_row_whole_and_each_sees_only_itself(rows):
    pack = lay_out(rows)
    sees, positions = visible(pack), position_ids(pack["seen_until"].tolist())
    found = []
    for last in range(len(sees)):
        path = np.flatnonzero(sees[last])
        if sees[last + 1 :, last].any():
            continue  # not the end of a row
        assert [positions[i] for i in path] == list(range(len(path)))
        found.append((pack["input_ids"][path].tolist(), pack["verdict_mask"][path].tolist()))
    assert sorted(found) == sorted((row["input_ids"], row["verdict_mask"]) for row in rows)
    # A token has loss as often as in the rows, but for first tokens, which nothing predicts.
    with_loss = sum(sum(label != -100 for label in row["labels"][1:]) for row in rows)
    assert (pack["labels"] != -100).sum() == with_loss


@settings(max_examples=200, deadline=None)
@given(rows_strategy)
def test_a_pack_computes_each_shareable_token_once(rows):
    prefixes = [tuple(row["input_ids"][: shareable_tokens(row["labels"])]) for row in rows]
    nodes = {prefix[:depth] for prefix in prefixes for depth in range(1, len(prefix) + 1)}
    branches = sum(len(row["input_ids"]) - len(prefix) for row, prefix in zip(rows, prefixes, strict=True))
    assert len(lay_out(rows)["input_ids"]) == len(nodes) + branches


@settings(max_examples=200, deadline=None)
@given(rows_strategy, st.integers(1, 40))
def test_every_row_is_in_one_pack_and_packs_hold_what_they_can(rows, capacity):
    order = sorted(range(len(rows)), key=lambda i: rows[i]["input_ids"][: shareable_tokens(rows[i]["labels"])])
    prefixes = [rows[i]["input_ids"][: shareable_tokens(rows[i]["labels"])] for i in order]
    common = [0] + [
        next((d for d, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
        for a, b in pairwise(prefixes)
    ]
    packs = pack_tree([len(rows[i]["input_ids"]) for i in order], common, capacity)
    assert sorted(i for pack in packs for i in pack) == list(range(len(rows)))
    for pack in packs:
        size = len(lay_out([rows[order[i]] for i in pack])["input_ids"])
        assert size <= capacity or len(pack) == 1


def test_best_fit_fills_the_fullest_bin_that_has_room():
    assert best_fit([(5, [0]), (4, [1]), (5, [2]), (6, [3]), (20, [4])], 10) == [(20, [4]), (10, [3, 1]), (10, [0, 2])]


def test_what_hangs_on_one_prompt_stays_together():
    prompts = [[1, 2, 3, 4, 5, 6], [1, 2, 7, 8, 9, 10]]
    rows = [make_row(prompt, [20 + i]) for i in range(3) for prompt in prompts]
    packs, report = share_dataset(Dataset.from_list(rows), 12)
    # Each prompt with its three branches is 5 + 3 x 2 tokens; both together would be two more than a pack.
    assert sorted(len(pack) for pack in packs["input_ids"]) == [11, 11]
    assert (report.tokens, report.shared_tokens) == (42, 22)
    assert str(report) == "train: tokens 42 -> 22, 1.91x"
    whole, report = share_dataset(Dataset.from_list(rows), 20)
    assert [len(pack) for pack in whole["input_ids"]] == [20]  # and the two tokens both begin with once


def test_rows_with_nothing_in_common_are_plain_packs_and_the_report_says_so():
    rows = [make_row([i, i + 1, i + 2], [i]) for i in range(1, 9)]
    packs, report = share_dataset(Dataset.from_list(rows), 8)
    assert [len(pack) for pack in packs["input_ids"]] == [8] * 4
    assert (report.ratio, report.pays) == (1.0, False)
    assert "too differently" in str(report)


def test_a_row_longer_than_a_pack_has_one_of_its_own():
    rows = [make_row([1, 2], [3]), make_row(list(range(1, 30)), [4]), make_row([1, 2], [5])]
    packs, _ = share_dataset(Dataset.from_list(rows), 8)
    assert sorted(len(pack) for pack in packs["input_ids"]) == [5, 30]


def test_order_does_not_matter_to_what_is_shared():
    prompts = [[1] * 40 + [query] * 30 + [response] * 20 for query in range(2, 6) for response in (7, 8)]
    rows = [make_row(prompt, [9] * 5) for prompt in prompts for _ in range(3)]
    sizes = set()
    for seed in range(4):
        random.Random(seed).shuffle(rows)
        sizes.add(share_dataset(Dataset.from_list(rows), 4096)[1].shared_tokens)
    assert sizes == {40 + 4 * 30 + 8 * 19 + 24 * 6}


# ---- the numbers -----------------------------------------------------------------------------------------------------

FAMILIES = {
    "llama": LlamaConfig(head_dim=8),
    "qwen2": Qwen2Config(),
    "qwen3": Qwen3Config(head_dim=8),
    "mistral": MistralConfig(sliding_window=None),
    "gemma": GemmaConfig(head_dim=8),
}


def make_family(name: str):
    torch.manual_seed(0)
    config = type(FAMILIES[name]).from_dict(
        FAMILIES[name].to_dict()
        | {"vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
        | {"num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": 0, "layer_types": None}
    )
    return AutoModelForCausalLM.from_config(config)


def make_rows(seed: int = 0) -> list[dict[str, list[int]]]:
    """Two queries, two responses each, two critiques each; a row twice; branches of one token; an empty prompt."""
    draw = random.Random(seed)

    def some(least: int, most: int) -> list[int]:
        return [draw.randrange(1, VOCABULARY) for _ in range(draw.randint(least, most))]

    rows = []
    for query in (some(5, 9), some(5, 9)):
        for response in (some(1, 6), some(1, 6)):
            rows += [make_row(query + response, some(1, 5)) for _ in range(2)]
    return [
        *rows,
        rows[0],
        make_row([7, 8, 9], [5]),
        make_row([7, 8, 9], [6]),
        make_row([4], [5, 6]),
        make_row([], [5, 6]),
    ]


def share(rows, **fields) -> dict[str, torch.Tensor]:
    """The batch that `DataCollatorForCritique` makes of tokenised rows."""
    tokenizer = SimpleNamespace(pad_token_id=0)
    return DataCollatorForCritique(tokenizer, share_prefixes=True, **fields)(rows)


def losses_and_gradients(model, batches) -> tuple[float, dict[str, torch.Tensor]]:
    """Summed negative log-likelihood of the targets, and what it does to every parameter."""
    model.zero_grad()
    total = 0.0
    for batch in batches:
        labels = batch.pop("labels")
        logits = model(**batch).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100, reduction="sum"
        )
        loss.backward()
        total += loss.item()
    return total, {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def check_equal(model, rows, tolerance: float) -> None:
    one_by_one = [{name: torch.tensor([row[name]]) for name in ("input_ids", "labels")} for row in rows]
    expected, gradients = losses_and_gradients(model, one_by_one)
    use_shared_attention(model)
    batch = share(rows, pad_to_multiple_of=16)
    assert batch["input_ids"].shape[1] < sum(len(row["input_ids"]) for row in rows)
    shared, shared_gradients = losses_and_gradients(model, [batch])
    assert shared == pytest.approx(expected, rel=tolerance)
    for name, gradient in gradients.items():
        assert (shared_gradients[name] - gradient).norm() <= tolerance * gradient.norm(), name


@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_every_gradient_are_those_of_the_rows_one_by_one(family):
    check_equal(make_family(family), make_rows(), 1e-5)


class ExactNorm(torch.nn.Module):
    """RMSNorm in the input's precision: transformers' own goes through float32 whatever the model."""

    def __init__(self, weight):
        super().__init__()
        self.weight = weight

    def forward(self, x):
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


@settings(max_examples=15, deadline=None)
@given(rows_strategy.filter(lambda rows: any(len(row["input_ids"]) > 1 for row in rows)))
def test_in_double_precision_random_trees_are_exact(rows):
    model = make_family("llama").double()
    for layer in model.model.layers:
        layer.input_layernorm = ExactNorm(layer.input_layernorm.weight)
        layer.post_attention_layernorm = ExactNorm(layer.post_attention_layernorm.weight)
    model.model.norm = ExactNorm(model.model.norm.weight)
    one_by_one = [{name: torch.tensor([row[name]]) for name in ("input_ids", "labels")} for row in rows]
    # The CPU's fused kernel keeps its normaliser in float32.
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        expected, gradients = losses_and_gradients(model, one_by_one)
        use_shared_attention(model)
        shared, shared_gradients = losses_and_gradients(model, [share(rows)])
    assert shared == pytest.approx(expected, rel=1e-12)
    for name, gradient in gradients.items():
        assert (shared_gradients[name] - gradient).norm() <= 1e-10 * gradient.norm() + 1e-14, name


def test_gradient_checkpointing_changes_nothing():
    model = make_family("llama")
    model.train()
    model.gradient_checkpointing_enable()
    check_equal(model, make_rows(), 1e-5)


def test_rows_of_one_pack_do_not_see_each_other():
    model = make_family("llama").eval()
    use_shared_attention(model)
    rows = make_rows()
    batch = share(rows)
    labels = batch.pop("labels")
    pack = lay_out(rows)
    sees = visible(pack)
    with torch.no_grad():
        before = model(**batch).logits[0]
        for at in np.flatnonzero(pack["labels"] != -100)[::3]:
            changed = batch["input_ids"].clone()
            changed[0, at] = changed[0, at] % (VOCABULARY - 1) + 1
            after = model(**{**batch, "input_ids": changed}).logits[0]
            moved = (after - before).abs().amax(-1) > 1e-6
            assert moved.tolist() == sees[:, at].tolist()
    assert labels.shape == batch["input_ids"].shape


def test_the_gpu_block_mask_is_the_layout():
    pack = lay_out(make_rows())
    until = torch.tensor(pack["seen_until"])
    plan = _PackLayout(until[None, None, None], stretches(until.tolist()))
    mask = create_mask(plan.flex().mask_mod, None, None, len(until), len(until), device="cpu")[0, 0]
    assert mask.tolist() == visible(pack).tolist()


def test_without_a_layout_the_model_answers_as_before():
    model = make_family("qwen2").eval()
    prompt = torch.tensor([[5, 6, 7, 8]])
    mask = torch.ones_like(prompt)
    before = model.generate(prompt, attention_mask=mask, max_new_tokens=5, do_sample=False)
    use_shared_attention(model)
    assert model.generate(prompt, attention_mask=mask, max_new_tokens=5, do_sample=False).tolist() == before.tolist()


def test_sliding_windows_and_other_attention_are_refused():
    config = MistralConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2, sliding_window=8,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config)
    with pytest.raises(CFTError, match="sliding window of 8 tokens is shorter than rows of up to 9"):
        use_shared_attention(model, 9)
    use_shared_attention(model, 8)
    batch = share([make_row([1] * 8, [2])])
    batch.pop("labels")
    with pytest.raises(CFTError, match="sliding window of 8 tokens is shorter than a row of 9"):
        model(**batch)
    states = torch.zeros(1, 2, 3, 4)
    with pytest.raises(CFTError, match="caps its attention logits"):
        shared_prefix_attention(model, states, states, states, torch.tensor([[[[3, 3, 3]]]]), softcap=30.0)
    other = AutoModelForCausalLM.from_config(MambaConfig(hidden_size=8, num_hidden_layers=1, vocab_size=9))
    with pytest.raises(CFTError, match="models of type mamba"):
        use_shared_attention(other)


def test_saved_tokens_are_the_published_formula():
    rows = [make_row(list(range(1, 185)), [200 + i] * 154) for i in range(7)]
    _, report = share_dataset(Dataset.from_list(rows), 4096)
    assert report.ratio == pytest.approx(7 * (184 + 154) / (183 + 7 * 155))
    assert not math.isclose(report.ratio, 1)
