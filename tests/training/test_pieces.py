"""Ids by pieces against those that the tokenizer gives of the whole text."""

from __future__ import annotations

import random

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from cft_trl.data.prompts import Prompting
from cft_trl.sources.arithmetic import arithmetic_records
from cft_trl.training import pieces
from cft_trl.training.pieces import PLAIN, PieceEncoder
from cft_trl.training.preparation import RowEncoder

# Of each of the classes that rules tell apart, and what their contractions, digits and line ends make of them.
SIGNS = (
    *"aqsStTvVeE'\"  \t\n\r09#.,:$\\{}()[]|<>-_*=+^/", "\n\n", "  ", "\r\n", " '", "'s", "'LL", "é", "ß", "Ω", "字",
    "た", "\u2019", "\u00d7", "\u2212", "√", "≤", "²", "½", "\u2163", "\u0663", "\u00a0", "\u2009", "\u2028",
    "\x1c", "\x85", "\x0b", "\x00", "\u200b", "\ufeff", "\u0301", "e\u0301", "😀", "👩\u200d👦", "\u017f",
    "\u212a", "\U0001d465", "<|im_start|>", "<|im_end|>", "<|im_", "<added>",
)  # fmt: skip
WORDS = (
    "So x = 12.",
    "don't",
    " the",
    "The area is 3.5 cm",
    "\\frac{1}{2}",
    "Conclusion: right [END]",
    "____",
    "123456",
)


def texts(count: int, seed: int = 3):
    rng = random.Random(seed)
    for _ in range(count):
        yield "".join(rng.choice(SIGNS if rng.random() < 0.7 else WORDS) for _ in range(rng.randrange(14)))


CUTTERS = {
    "GPT-2": pre_tokenizers.ByteLevel(add_prefix_space=False),
    "SmolLM": pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    ),
    **{
        name: pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(pieces._GPT4 % numbers), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        for name, numbers in (("Llama 3", r"\p{N}{1,3}"), ("Qwen", r"\p{N}"))
    },
}


def trained(cutter, normalizer=None, **added):
    """A tokenizer with 600 tokens, some of them of several words' pieces."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer, backend.decoder = cutter, decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    learnt = [row["query"] + row["critique"] for row in arithmetic_records(60)] + list(texts(400, 4))
    backend.train_from_iterator(
        learnt, trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False)
    )
    backend.normalizer = normalizer
    backend.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    backend.add_tokens([AddedToken("<added>", normalized=False, **added)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>")


@pytest.mark.parametrize("normalizer", [None, normalizers.NFC()])
@pytest.mark.parametrize("name", CUTTERS)
def test_ids_are_those_of_the_whole_text(name, normalizer):
    tokenizer = trained(CUTTERS[name], normalizer)
    drawn, backend = list(texts(5000)), tokenizer.backend_tokenizer
    made = PieceEncoder.of(tokenizer).encode(drawn)
    whole = [encoding.ids for encoding in backend.encode_batch_fast(drawn, add_special_tokens=False)]
    for text, ids, expected in zip(drawn, made, whole, strict=True):
        assert ids is None or ids.tolist() == expected, text
    assert sum(ids is not None for ids in made) > 2500


@pytest.mark.parametrize(
    "tokenizer",
    [
        lambda: trained(CUTTERS["GPT-2"], lstrip=True),
        lambda: trained(CUTTERS["GPT-2"], single_word=True),
        lambda: trained(CUTTERS["GPT-2"], normalizers.NFKC()),
        lambda: trained(pre_tokenizers.ByteLevel(add_prefix_space=True)),
        lambda: trained(pre_tokenizers.Whitespace()),
        lambda: trained(pre_tokenizers.Sequence([pre_tokenizers.Punctuation(), CUTTERS["GPT-2"]])),
        lambda: trained(pre_tokenizers.Sequence([pre_tokenizers.Digits(), CUTTERS["GPT-2"]])),
    ],
)
def test_a_tokenizer_of_another_kind_encodes_its_texts_itself(tokenizer):
    assert PieceEncoder.of(tokenizer()) is None


@pytest.mark.parametrize("content", ["<|im_end|>x", "|im_", "x<|im_end", "|>y"])
def test_added_tokens_that_overlap_are_the_tokenizers_to_find(content):
    """Those that are not normalized are found first, and not the longest at a place."""
    tokenizer = trained(CUTTERS["SmolLM"])
    assert PieceEncoder.of(tokenizer)
    tokenizer.add_tokens([AddedToken(content, normalized=True)])
    assert PieceEncoder.of(tokenizer) is None


def test_pieces_are_forgotten_when_there_are_too_many(monkeypatch):
    monkeypatch.setattr(pieces, "_MOST", 50)
    tokenizer = trained(CUTTERS["SmolLM"])
    by_pieces = PieceEncoder.of(tokenizer)
    for text in texts(300, 8):
        [ids] = by_pieces.encode([text])
        assert ids is None or ids.tolist() == tokenizer(text, add_special_tokens=False)["input_ids"]
        assert len(by_pieces._ids) < 100


def test_rows_are_prepared_alike_with_and_without(monkeypatch):
    """The switch, and every column."""
    tokenizer = trained(CUTTERS["SmolLM"])
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    drawn = zip(arithmetic_records(80), texts(80), strict=True)
    rows = [{**row, "query": f"{row['query']} {text}"} for row, text in drawn]
    most = sorted(RowEncoder(tokenizer, Prompting(), None)(rows)["length"])[40]
    made = []
    for plain in ("", "1"):
        monkeypatch.setenv(PLAIN, plain)
        encoder = RowEncoder(tokenizer, Prompting(), most)
        made.append(encoder(rows))
        assert (encoder._tokenize._pieces is None) == bool(plain)
    assert made[0] == made[1]
    assert {"kept", "shortened"} <= set(made[0]["status"])
