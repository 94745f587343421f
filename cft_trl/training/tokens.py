"""Texts as token ids, with the way from a character to its token.

    [row] = tokenize(tokenizer, ["<|im_start|>user\\n6 x 7?<|im_end|>"], add_special_tokens=False)
    row.ids, row.token_at(17)          # (array('i', [1, 4093, 198, 38, 1792, ...]), 3)

A tokenizer that keeps offsets takes a sixth longer than one that only counts. Where it is a byte-level one (Llama 3,
Qwen, SmolLM, DeepSeek and others) the offsets follow from the tokens: each stands for as many bytes as its name
has characters, and together they must be as long as the text. Where that does not hold, for a whole tokenizer or one
text (a template's stripped spaces, added start tokens, text that a normaliser changes), offsets are asked for.
"""

from __future__ import annotations

import unicodedata
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from cft_trl.errors import CFTError
from cft_trl.training.pieces import PieceEncoder

if TYPE_CHECKING:
    import numpy as np

# Holds what byte-level tokenizers disagree on elsewhere: a space, line feeds, digits, bytes of one character in two.
_PROBE = "Step 12:  x = 3.5\n\n\té😀 (wrong) [END]\n"


@dataclass
class TokenizedByOffsets:
    """A text's `ids` and the tokenizer's own `Encoding`, which has the offsets."""

    ids: array[int]
    encoding: Any

    def token_at(self, character: int) -> int | None:
        """The first token that holds the character; None for whitespace that belongs to none."""
        return self.encoding.char_to_token(character)

    def begins_before(self, token: int, character: int) -> bool:
        return self.encoding.token_to_chars(token)[0] < character


@dataclass
class TokenizedByBytes:
    """A text's `ids` and the byte of its UTF-8 form that each begins with."""

    ids: array[int]
    text: str
    starts: np.ndarray

    def token_at(self, character: int) -> int | None:
        """The first token that holds the character."""
        return int(self.starts.searchsorted(self._byte(character), side="right")) - 1

    def begins_before(self, token: int, character: int) -> bool:
        return bool(self.starts[token] < self._byte(character))

    def _byte(self, character: int) -> int:
        return character if self.text.isascii() else len(self.text[:character].encode())


Tokenized = TokenizedByOffsets | TokenizedByBytes


class TextTokenizer:
    """`tokenizer(texts)`: a `Tokenized` for each text.

    Args:
        tokenizer: a fast tokenizer of transformers.
        add_special_tokens: whether it adds its start and end tokens.
    """

    def __init__(self, tokenizer: Any, add_special_tokens: bool) -> None:
        self.tokenizer, self.add_special_tokens = tokenizer, add_special_tokens

    def __call__(self, texts: Sequence[str]) -> list[Tokenized]:
        lengths = self._byte_lengths
        if lengths is None:
            return self._by_offsets(texts)
        rows = self._by_bytes(texts, lengths)
        others = iter(self._by_offsets([text for text, row in zip(texts, rows, strict=True) if row is None]))
        return [next(others) if row is None else row for row in rows]

    def _by_offsets(self, texts: Sequence[str]) -> list[Tokenized]:
        if not texts:
            return []
        made = self.tokenizer(
            list(texts),
            add_special_tokens=self.add_special_tokens,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )
        rows = zip(made["input_ids"], made.encodings, strict=True)
        return [TokenizedByOffsets(array("i", ids), encoding) for ids, encoding in rows]

    def _by_bytes(self, texts: Sequence[str], lengths: np.ndarray) -> list[TokenizedByBytes | None]:
        import numpy as np

        backend = self.tokenizer.backend_tokenizer
        rows: list[TokenizedByBytes | None] = []
        for text, ids in zip(texts, self._ids(texts), strict=True):
            sizes = lengths[np.frombuffer(ids, np.int32)]
            ends = sizes.cumsum()
            # Composed by a normaliser, a text may be another one of the same length.
            same = text.isascii() or backend.normalizer is None or unicodedata.is_normalized("NFC", text)
            whole = same and bool(ids) and ends[-1] == len(text.encode())
            rows.append(TokenizedByBytes(ids, text, ends - sizes) if whole else None)
        return rows

    def _ids(self, texts: Sequence[str]) -> list[array[int]]:
        """The ids of each text: by its pieces where they are known, else from the tokenizer itself."""
        found = self._pieces.encode(texts) if self._pieces else [None] * len(texts)
        others = [text for text, ids in zip(texts, found, strict=True) if ids is None]
        backend = self.tokenizer.backend_tokenizer
        made = iter(backend.encode_batch_fast(others, add_special_tokens=self.add_special_tokens) if others else ())
        return [array("i", next(made).ids) if ids is None else ids for ids in found]

    @cached_property
    def _pieces(self) -> PieceEncoder | None:
        return None if self.add_special_tokens else PieceEncoder.of(self.tokenizer)

    @cached_property
    def _byte_lengths(self) -> np.ndarray | None:
        """How many bytes each token stands for, by id; None where they cannot be known."""
        import numpy as np
        from tokenizers import decoders, normalizers

        backend = self.tokenizer.backend_tokenizer
        [probe] = self._by_offsets([_PROBE])  # also clears the truncation and padding that a file may hold
        simple = (
            isinstance(backend.decoder, decoders.ByteLevel)
            and isinstance(backend.normalizer, normalizers.NFC | None)
            and not backend.encode_special_tokens
        )
        if not simple:
            return None
        added = {i: len(token.content.encode()) for i, token in self.tokenizer.added_tokens_decoder.items()}
        vocabulary = backend.get_vocab(with_added_tokens=False)
        ids = np.fromiter(vocabulary.values(), np.int64, len(vocabulary))
        lengths = np.zeros(max(ids.max(initial=0), *added, 0) + 1, np.int64)
        lengths[ids] = np.fromiter(map(len, vocabulary), np.int64, len(vocabulary))
        lengths[list(added)] = list(added.values())
        [found] = self._by_bytes([_PROBE], lengths)
        return lengths if found and found.ids == probe.ids else None


def check_tokenizer(tokenizer: Any) -> None:
    """Raises `CFTError` for a tokenizer that rows cannot be prepared with: no end token, or no character offsets."""
    if tokenizer.eos_token_id is None:
        raise CFTError(
            "the tokenizer has no end token, so the student would never learn to stop; "
            "set tokenizer.eos_token (or eos_token in the config)"
        )
    if not getattr(tokenizer, "is_fast", False):
        raise CFTError("the tokenizer is a slow one, without character offsets; load its fast class with AutoTokenizer")


def common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """Number of leading ids the two have in common."""
    if second[: len(first)] == first:
        return len(first)
    return next(i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b)
