r"""Token ids of texts by the pieces that a byte-level tokenizer cuts them into, each piece encoded once.

    "So x = 12." -> "So", " x", " =", " ", "1", "2", "."        cut by the tokenizer's own rule
    pieces = PieceEncoder.of(tokenizer)
    pieces.encode(["So x = 12."])                       # [array('i', [2931, 1792, 446, 216, 33, 34, 30])]

Such a tokenizer looks for its added tokens, cuts what lies between by a regular expression, and merges bytes within
each piece alone; so a piece's ids are the same wherever it stands. Mathematics repeats its pieces. The rules known here
(`_RULES`) are those of GPT-2, Llama 3, Qwen and SmolLM, written for ASCII. Any other character is put down as a letter,
a number, a space or none of these, and that is tried on the tokenizer itself. What is not known (another rule, an added
token that takes white space with it, a character that is cut otherwise, a text that a normaliser would change) is the
tokenizer's to encode; so is everything under `CFT_PLAIN_PREPARATION=1`.
"""

from __future__ import annotations

import json
import os
import re
import unicodedata
from array import array
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

PLAIN = "CFT_PLAIN_PREPARATION"
_MOST = 1 << 18  # pieces that are kept, at some 200 bytes each

_CONTRACTIONS = "'s|'t|'re|'ve|'m|'ll|'d"
_GPT2 = rf"{_CONTRACTIONS}| ?\p{{L}}+| ?\p{{N}}+| ?[^\s\p{{L}}\p{{N}}]+|\s+(?!\S)|\s+"
_GPT4 = (
    rf"(?i:{_CONTRACTIONS})|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|%s| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# As tokenizer files have it -> the same for ASCII texts. SmolLM's cuts out each digit before anything else: white space
# before one ends as it does before the text's end.
_RULES = {
    rule: re.compile(
        rule.replace(r"\p{L}\p{N}", "A-Za-z0-9").replace(r"\p{L}", "[A-Za-z]").replace(r"\p{N}", "[0-9]"), re.ASCII
    )
    for rule in (_GPT2, _GPT4 % r"\p{N}{1,3}", _GPT4 % r"\p{N}")
}
_SINGLE_DIGITS = re.compile(
    rf"{_CONTRACTIONS}| ?[A-Za-z]+|[0-9]| ?[^\sA-Za-z0-9]+|\s+(?![^\s0-9])|\s+", re.ASCII
)  # fmt: skip


# A character's class -> an ASCII character that the rules treat as all of it: neither a contraction's letter nor an
# apostrophe, neither the space that begins a word nor a line feed.
_LIKE = {"L": "q", "N": "0", "Z": "\v"}
_OTHER = "#"
_PROBES = ("q{0}q", "#{0}#", "0{0}0", " {0}q", "q {0}#", "{0}{0} {0}0", "\n{0}\n {0}", "'{0}'s", "  {0}  ", "{0}\r\n\n")
_NO_ONES = "\u017f\u212a"  # an s and a k, where case is not looked at
# Bytes as the vocabulary writes them: those that are no sign of their own are counted on from 256.
_SIGNS = [byte for byte in range(256) if chr(byte).isprintable() and byte not in (0x20, 0xA0, 0xAD)]
_AS_WRITTEN = {byte: byte for byte in _SIGNS} | {
    byte: 256 + at for at, byte in enumerate(byte for byte in range(256) if byte not in _SIGNS)
}


class _Known(dict[str, bytes]):
    """The ids of pieces as an array's bytes, which join fastest; of a new one they are asked for."""

    def __init__(self, model: Any, given: dict[str, bytes]) -> None:
        super().__init__(given)
        self._model = model

    def __missing__(self, piece: str) -> bytes:
        written = piece.encode().decode("latin-1").translate(_AS_WRITTEN)
        self[piece] = ids = array("i", [token.id for token in self._model.tokenize(written)]).tobytes()
        return ids


def _overlap(added: Sequence[Any]) -> bool:
    """Whether a text may hold two added tokens at one place of which the tokenizer does not take the longer one.

    It looks for those that are not normalized first. None is empty, which would be found everywhere.
    """
    first = [token.content for token in added if not token.normalized]
    later = [token.content for token in added if token.normalized]
    return "" in first + later or any(a in b or b in a or _joins(a, b) for a in first for b in later)


def _joins(one: str, other: str) -> bool:
    """Whether one of the texts ends as the other begins."""
    return any(
        a[-size:] == b[:size] for a, b in ((one, other), (other, one)) for size in range(1, min(len(one), len(other)))
    )


class PieceEncoder:
    """Encodes texts as `backend.encode(text, add_special_tokens=False)` does.

    Args:
        backend: The `tokenizers.Tokenizer`.
        rule: Cuts what lies between added tokens into pieces.
        added: Added tokens and their ids.
    """

    def __init__(self, backend: Any, rule: re.Pattern[str], added: dict[str, int]) -> None:
        self._backend, self._rule = backend, rule
        longest_first = sorted(added, key=len, reverse=True)
        self._added = re.compile(f"({'|'.join(map(re.escape, longest_first))})") if added else None
        self._added_ids = {token: array("i", [number]).tobytes() for token, number in added.items()}
        self._ids = _Known(backend.model, self._added_ids)
        self._like: dict[str, str | None] = dict.fromkeys(_NO_ONES)

    @classmethod
    def of(cls, tokenizer: Any) -> PieceEncoder | None:
        """For a fast tokenizer of transformers; None where its rule is not known, or the user wants none of this."""
        if os.environ.get(PLAIN, "") not in ("", "0"):
            return None
        backend = tokenizer.backend_tokenizer
        rule = _rule_of(backend)
        added = list(tokenizer.added_tokens_decoder.items())
        if rule is None or any(token.lstrip or token.rstrip or token.single_word for _, token in added):
            return None
        if _overlap([token for _, token in added]):
            return None
        return cls(backend, rule, {token.content: number for number, token in added})

    def encode(self, texts: Sequence[str]) -> list[array[int] | None]:
        """The ids of each text; None for one that is the tokenizer's to encode."""
        if len(self._ids) > _MOST:
            self._ids = _Known(self._backend.model, self._added_ids)
        ids, cut = self._ids.__getitem__, map(self._cut, texts)
        return [None if pieces is None else array("i", b"".join(map(ids, pieces))) for pieces in cut]

    def _cut(self, text: str) -> list[str] | None:
        """A text's pieces and added tokens; None where they cannot be known."""
        if text.isascii():
            return self._cut_plain(text, text)
        if not unicodedata.is_normalized("NFC", text):
            return None
        like = text
        for character in sorted(set(text)):
            if not character.isascii():
                if character not in self._like:
                    self._like[character] = self._class_of(character)
                if (other := self._like[character]) is None:
                    return None
                like = like.replace(character, other)
        return self._cut_plain(text, like)

    def _cut_plain(self, text: str, like: str) -> list[str]:
        """Cuts a text where the ASCII text that is like it is cut; added tokens are those of the text itself."""
        pieces: list[str] = []
        at = 0
        for number, part in enumerate(self._added.split(text) if self._added else [text]):
            end = at + len(part)
            if number % 2:
                pieces.append(part)
            elif part.isascii():
                pieces += self._rule.findall(part)
            else:
                ends = accumulate(map(len, self._rule.findall(like, at, end)), initial=0)
                pieces += [part[begin:stop] for begin, stop in pairwise(ends)]
            at = end
        return pieces

    def _class_of(self, character: str) -> str | None:
        """An ASCII character that stands for it; None where the tokenizer cuts otherwise than that says."""
        like = _LIKE.get(unicodedata.category(character)[0], _OTHER)
        for probe in _PROBES:
            text = probe.format(character)
            cut = [span for _, span in self._backend.pre_tokenizer.pre_tokenize_str(text)]
            if cut != [found.span() for found in self._rule.finditer(text.replace(character, like))]:
                return None
        return like


def _rule_of(backend: Any) -> re.Pattern[str] | None:
    """The rule by which a `tokenizers.Tokenizer` cuts a text, for ASCII texts; None for one that is not known.

    Example:
        >>> from tokenizers import Tokenizer, models, pre_tokenizers
        >>> backend = Tokenizer(models.BPE())
        >>> backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        >>> _rule_of(backend).findall("It's 12.")
        ['It', "'s", ' 12', '.']
    """
    from tokenizers import models, normalizers

    if not isinstance(backend.model, models.BPE) or backend.model.dropout or backend.pre_tokenizer is None:
        return None
    if not isinstance(backend.normalizer, normalizers.NFC | None):
        return None
    cutter = json.loads(backend.pre_tokenizer.__getstate__())  # as it is in a tokenizer's file
    steps = cutter["pretokenizers"] if cutter["type"] == "Sequence" else [cutter]
    last = steps[-1]
    if len(steps) > 2 or last["type"] != "ByteLevel" or last["add_prefix_space"]:
        return None
    if len(steps) == 1:
        return _RULES[_GPT2] if last["use_regex"] else None
    first = steps[0]
    if first["type"] == "Digits":
        return _SINGLE_DIGITS if first["individual_digits"] and last["use_regex"] else None
    if first["type"] != "Split" or last["use_regex"] or first["behavior"] != "Isolated" or first["invert"]:
        return None
    return _RULES.get(first["pattern"].get("Regex", ""))
