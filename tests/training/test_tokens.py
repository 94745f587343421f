"""From a character to its token: computed from byte lengths, it is what the tokenizer's own offsets say."""

from __future__ import annotations

import copy

import pytest
from conftest import STYLES, make_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from cft_trl.training.tokens import TextTokenizer, TokenizedByBytes, TokenizedByOffsets

TEXTS = [
    "",
    " ",
    "x",
    "Step 1: 3 + 4 = 7.\n\n\nStep 2:  done",
    "é😀中 \u00a0e\u0301<|im_end|>\n",
    "1234567  \t 89",
    "[END]\r\n",
]


@pytest.fixture(scope="module")
def composing():
    """A tokenizer that composes characters first, as Qwen's does."""
    from tokenizers import normalizers

    tokenizer = make_tokenizer("qwen2_5")
    tokenizer.backend_tokenizer.normalizer = normalizers.NFC()
    return tokenizer


@pytest.fixture(scope="module")
def both(composing):
    """Style -> the tokenizer used both ways, with and without byte lengths."""
    made = {}

    def get(style: str):
        if style not in made:
            tokenizer = composing if style == "composing" else make_tokenizer(style)
            by_offsets = TextTokenizer(tokenizer, add_special_tokens=False)
            by_offsets.__dict__["_byte_lengths"] = None
            made[style] = TextTokenizer(tokenizer, add_special_tokens=False), by_offsets
        return made[style]

    return get


def assert_equal(ours, offsets, text):
    assert ours.ids == offsets.ids
    for character in range(len(text)):
        token = offsets.token_at(character)
        assert ours.token_at(character) == token
        for edge in range(character + 1) if token is not None else ():  # composed, a character is of none
            assert ours.begins_before(token, edge) == offsets.begins_before(token, edge)


@pytest.mark.parametrize("style", [*STYLES, "composing"])
def test_tokens_of_characters_are_those_of_the_offsets(both, style):
    by_bytes, by_offsets = both(style)
    assert by_bytes._byte_lengths is not None
    for text, ours, theirs in zip(TEXTS, by_bytes(TEXTS), by_offsets(TEXTS), strict=True):
        assert isinstance(theirs, TokenizedByOffsets)
        assert_equal(ours, theirs, text)
    assert sum(isinstance(row, TokenizedByBytes) for row in by_bytes(TEXTS)) >= 5


@settings(max_examples=150, deadline=None)
@given(
    text=st.text(
        st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from(" \n\t0123aé😀e\u0301[]")), max_size=24
    )
)
def test_any_text_is_read_the_same_both_ways(both, text):
    for style in ("chatml", "llama3", "composing"):
        by_bytes, by_offsets = both(style)
        assert_equal(by_bytes([text])[0], by_offsets([text])[0], text)


def test_what_a_normaliser_changes_is_read_by_offsets(both):
    texts = ["caf\u00e9", "cafe\u0301", "q\u0307\u0323", "cafe"]  # the third is only put into another order
    by_bytes, by_offsets = both("composing")
    kinds = [type(row) for row in by_bytes(texts)]
    assert kinds == [TokenizedByBytes, TokenizedByOffsets, TokenizedByOffsets, TokenizedByBytes]
    for text, ours, theirs in zip(texts, by_bytes(texts), by_offsets(texts), strict=True):
        assert_equal(ours, theirs, text)


def test_a_start_token_that_the_tokenizer_adds_is_counted(both):
    tokenizer = both("base")[0].tokenizer
    [row] = TextTokenizer(tokenizer, add_special_tokens=True)(["6 x 7"])
    assert row.ids[0] == tokenizer.bos_token_id
    assert row.token_at(0) == 1


def test_tokenizers_that_are_not_byte_level_keep_their_offsets(both):
    from tokenizers import decoders, normalizers

    for change in (
        {"decoder": decoders.Metaspace()},
        {"normalizer": normalizers.Lowercase()},
        {"encode_special_tokens": True},
    ):
        tokenizer = copy.deepcopy(both("chatml")[0].tokenizer)
        for name, value in change.items():
            setattr(tokenizer.backend_tokenizer, name, value)
        assert TextTokenizer(tokenizer, add_special_tokens=False)(["Step 1"])[0].token_at(0) == 0
        if "encode_special_tokens" not in change:  # transformers sets it anew at each call
            assert TextTokenizer(tokenizer, add_special_tokens=False)._byte_lengths is None


def test_a_cut_length_that_a_file_holds_cuts_nothing(both):
    tokenizer = copy.deepcopy(both("chatml")[0].tokenizer)
    tokenizer.backend_tokenizer.enable_truncation(3)
    tokenizer.backend_tokenizer.enable_padding(length=500)
    [row] = TextTokenizer(tokenizer, add_special_tokens=False)(["Step 1: 3 + 4 = 7."])
    assert 3 < len(row.ids) < 100
    assert type(row) is TokenizedByBytes


def test_special_tokens_that_take_the_spaces_around_them(both):
    from tokenizers import AddedToken

    tokenizer = copy.deepcopy(both("chatml")[0].tokenizer)
    tokenizer.add_tokens([AddedToken("<sep>", lstrip=True, rstrip=True, special=True)])
    by_bytes = TextTokenizer(tokenizer, add_special_tokens=False)
    text = "a  <sep>  b"
    [row] = by_bytes([text])
    assert list(row.ids) == tokenizer(text, add_special_tokens=False)["input_ids"]
    assert row.ids[row.token_at(text.index("b"))] == row.ids[-1]
    assert type(by_bytes(["a<sep>b"])[0]) is TokenizedByBytes
