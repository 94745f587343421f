"""What we do with a tile of logits on a CPU, against TRL's own and against the whole softmax."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
import trl.kernels.chunked_logprob as trl_head
from hypothesis import given, settings
from hypothesis import strategies as st
from trl.kernels import ChunkedLogProbFunction

from cft_trl.training.head_tiles import backward_tile, forward_tile
from cft_trl.training.trl_internals import fused_head

CPU = torch.device("cpu")
OUTPUTS = ("entropy", "is_top1")


def head(hidden, weight, targets, gradient, words, outputs=OUTPUTS, temperature=1.0, softcap=None, scale=1.0):
    """-> (log-probabilities, entropy, log sum of squares, mean logit, is top 1, gradients of hidden and weight)"""
    hidden, weight = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
    found = ChunkedLogProbFunction.apply(hidden, weight, None, targets, temperature, words, softcap, scale, outputs)
    found[0].backward(gradient)
    return *(None if x is None else x.detach() for x in found), hidden.grad, weight.grad


def both(*inputs, **options):
    with fused_head(CPU):
        assert {trl_head._forward_tile.__module__, trl_head._backward_tile.__module__} == {forward_tile.__module__}
        ours = head(*inputs, **options)
    return ours, head(*inputs, **options)


def inputs(tokens: int, vocabulary: int, seed: int = 0, dtype=torch.float32, size: int = 8):
    torch.manual_seed(seed)
    hidden, weight = torch.randn(tokens, size, dtype=dtype) * 3, torch.randn(vocabulary, size, dtype=dtype)
    return hidden, weight, torch.randint(0, vocabulary, (tokens,)), torch.randn(tokens)


@settings(max_examples=60, deadline=None)
@given(tokens=st.integers(1, 9), vocabulary=st.integers(1, 40), words=st.integers(1, 45), seed=st.integers(0, 99))
def test_numbers_and_gradients_are_those_of_the_whole_softmax(tokens, vocabulary, words, seed):
    hidden, weight, targets, gradient = inputs(tokens, vocabulary, seed)
    with fused_head(CPU):
        log_probs, entropy, _, _, top, of_hidden, of_weight = head(hidden, weight, targets, gradient, words)
    hidden, weight = hidden.double().requires_grad_(), weight.double().requires_grad_()
    whole = (hidden @ weight.T).log_softmax(-1)
    expected = whole.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    expected.backward(gradient.double())
    near = {"rtol": 1e-4, "atol": 1e-5, "check_dtype": False}
    torch.testing.assert_close(log_probs, expected.detach(), **near)
    torch.testing.assert_close(entropy, -(whole.exp() * whole).sum(-1).detach(), **near)
    torch.testing.assert_close(of_hidden, hidden.grad, **near)
    torch.testing.assert_close(of_weight, weight.grad, **near)
    assert torch.equal(top, whole.argmax(-1) == targets)


@pytest.mark.parametrize("words", [5, 64])
def test_of_equal_logits_the_first_is_the_top_one(words):
    hidden = torch.ones(4, 1)
    weight = torch.tensor([0.0, 0, 2, 0, 0, 0, 0, 2, 1, 2]).unsqueeze(-1)  # 2 and 9: in other tiles of five words
    (*_, ours, _, _), (*_, theirs, _, _) = both(hidden, weight, torch.tensor([2, 7, 9, 8]), torch.ones(4), words)
    assert ours.tolist() == theirs.tolist() == [True, False, False, False]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"outputs": ()},
        {"outputs": ("is_top1",)},
        {"outputs": trl_head.OPTIONAL_OUTPUTS},
        {"outputs": ("log_sum_sq_probs",)},
        {"outputs": ("mean_logits",)},
        {"temperature": 0.7},
        {"softcap": 3.0},
        {"scale": 0.5},
    ],
    ids=str,
)
def test_whatever_is_asked_for_is_what_trl_gives(dtype, options):
    ours, theirs = both(*inputs(50, 300, dtype=dtype), 64, **options)
    for mine, other in zip(ours, theirs, strict=True):
        if other is None or other.dtype == torch.bool:
            assert mine is other is None or torch.equal(mine, other)
        else:
            torch.testing.assert_close(mine, other, rtol=2e-2 if dtype == torch.bfloat16 else 1e-4, atol=1e-5)


def test_a_gradient_of_the_entropy_is_trls():
    hidden, weight, targets, _ = inputs(6, 30)
    found = []
    for set_up in (fused_head(CPU), nullcontext()):
        wanted = hidden.clone().requires_grad_()
        with set_up:
            log_probs, entropy, *_ = ChunkedLogProbFunction.apply(
                wanted, weight, None, targets, 1.0, 7, None, 1.0, OUTPUTS
            )
            (log_probs.sum() + entropy.square().sum()).backward()
        found.append(wanted.grad)
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("name", ["_forward_tile", "_backward_tile"])
def test_what_cft_asks_for_is_not_left_to_trl(monkeypatch, name):
    given = (*inputs(6, 30), 7)
    expected = head(*given)
    made = {"_forward_tile": forward_tile, "_backward_tile": backward_tile}[name]
    monkeypatch.setattr(trl_head, name, made(lambda *_, **__: pytest.fail("TRL's was called")))
    for mine, other in zip(head(*given), expected, strict=True):
        torch.testing.assert_close(mine, other)
