"""Attention over a pack in parts: the same numbers as one softmax over what each token sees."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cft_trl.training.prefix_sharing.attention import _by_stretches, _PackLayout
from cft_trl.training.prefix_sharing.cascade import can_cascade, cascade_attention
from cft_trl.training.prefix_sharing.layout import stretches
from cft_trl.training.prefix_sharing.packs import lay_out

HEADS, GROUPS, SIZE = 6, 3, 8


def pack(rows: list[tuple[list[int], int]]) -> list[int]:
    """`seen_until` of rows given as (prompt, number of target tokens)."""
    built = [{"input_ids": [*prompt, *[9] * n], "labels": [-100] * len(prompt) + [9] * n} for prompt, n in rows]
    return lay_out(built)["seen_until"].tolist()


def states(length: int, dtype: torch.dtype) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(length)

    def some(heads: int) -> torch.Tensor:
        values = torch.randn(1, length, heads, SIZE, generator=draw, dtype=torch.float64)
        return values.to(dtype).transpose(1, 2).requires_grad_()

    return [some(HEADS), some(HEADS // GROUPS), some(HEADS // GROUPS)]


def by_definition(seen_until: list[int], query, key, value, scaling: float) -> torch.Tensor:
    until, at = torch.tensor(seen_until), torch.arange(len(seen_until))
    sees = (at[None, :] <= at[:, None]) & (at[:, None] < until[None, :])
    key, value = (tensor.repeat_interleave(GROUPS, dim=1) for tensor in (key, value))
    logits = (query @ key.transpose(2, 3) * scaling).masked_fill(~sees, float("-inf"))
    return (logits.softmax(-1) @ value).transpose(1, 2)


def difference(seen_until: list[int], dtype: torch.dtype, attend, scaling: float = 0.3) -> float:
    """Largest relative difference, over the output and the three gradients, from the definition in fp64."""
    given_states = states(len(seen_until), dtype)
    exact_states = [state.detach().double().requires_grad_() for state in given_states]
    weights = torch.randn(len(seen_until), HEADS, SIZE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = attend(seen_until, *given_states, scaling)
    exact = by_definition(seen_until, *exact_states, scaling)
    assert (found.shape, found.dtype) == (exact.shape, dtype)
    assert found.is_contiguous()
    (found.double() * weights).sum().backward()
    (exact * weights).sum().backward()
    pairs = [(found, exact), *((a.grad, b.grad) for a, b in zip(given_states, exact_states, strict=True))]
    assert all(a.shape == b.shape for a, b in pairs)
    return max(((a.double() - b).norm() / b.norm().clamp(min=1e-2)).item() for a, b in pairs)


def cascade(seen_until, query, key, value, scaling):
    return cascade_attention(query, key, value, stretches(seen_until), scaling)


def one_by_one(seen_until, query, key, value, scaling):
    plan = _PackLayout(torch.tensor(seen_until)[None, None, None], stretches(seen_until))
    return _by_stretches(plan, query, key, value, 0.0, scaling)


trees = st.lists(st.tuples(st.lists(st.integers(1, 3), max_size=8), st.integers(1, 4)), min_size=1, max_size=9)


@pytest.mark.parametrize("attend", [cascade, one_by_one])
@settings(max_examples=60, deadline=None)
@given(rows=trees)
def test_random_trees_are_attended_to_as_defined(attend, rows):
    assert difference(pack(rows), torch.float64, attend) < 1e-12


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 2e-2)])
def test_stretches_longer_than_the_kernels_blocks(dtype, tolerance):
    query, response = [1] * 300, [2] * 500
    rows = [([*query, *response], 700), ([*query, *response], 40), ([*query, 3], 600), ([4] * 20, 3)]
    assert difference(pack(rows), dtype, cascade) < tolerance


def test_few_pairs_of_tokens_in_bf16_are_differentiated_in_fp32(monkeypatch):
    seen_until = pack([([1, 2, 3], 40), ([1, 2, 3], 30), ([4] * 50, 20)])
    in_fp32 = difference(seen_until, torch.bfloat16, cascade)
    monkeypatch.setattr("cft_trl.training.prefix_sharing.cascade._FEW_PAIRS", 0)
    in_bf16 = difference(seen_until, torch.bfloat16, cascade)
    assert in_fp32 < in_bf16 < 2e-2


def test_the_default_scaling_is_that_of_attention():
    seen_until = pack([([1, 2, 3], 2), ([1, 2, 3], 3)])
    query, key, value = states(len(seen_until), torch.float64)
    found = cascade_attention(query, key, value, stretches(seen_until))
    torch.testing.assert_close(found, by_definition(seen_until, query, key, value, SIZE**-0.5))


def test_under_autocast_it_computes_in_the_smaller_type_whatever_it_is_given():
    seen_until = pack([([1, 2, 3], 2), ([1, 2, 3], 3)])
    query, key, value = states(len(seen_until), torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):  # as norms on queries and keys leave them larger than the values
        found = cascade_attention(query, key, value.bfloat16(), stretches(seen_until))
    assert found.dtype == torch.bfloat16
    found.float().sum().backward()
    assert query.grad.dtype == key.grad.dtype == torch.float32


def test_dropout_other_devices_and_values_of_another_size_are_left_to_the_other_way():
    query = torch.zeros(1, 2, 3, 4)
    assert can_cascade(query, query, 0.0)
    assert not can_cascade(query, query, 0.1)
    assert not can_cascade(query, torch.zeros(1, 2, 3, 8), 0.0)
    assert not can_cascade(query.to("meta"), query.to("meta"), 0.0)
