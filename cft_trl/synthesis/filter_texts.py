r"""What the filter stage reads in texts: their language, and which of them are nearly the same.

    foreign("La solution est correcte, car chaque étape a été vérifiée par le calcul ...", "en")     -> "fr"
    foreign(r"$\frac{1}{2} + \frac{1}{3} = \frac{5}{6}$, so it is right.", "en")                     -> None

A mathematical text is mostly signs, and a detector takes signs for whatever language it met them in. So the language
is told from the words alone, and only where there are enough of them and the detector is sure.
"""

from __future__ import annotations

import re
import tempfile
import unicodedata
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cft_trl.errors import CFTError, nearest

if TYPE_CHECKING:
    import numpy

# ---- language --------------------------------------------------------------------------------------------------------

# What is no prose in any language: mathematics, drawings, code, addresses, and the verdict line, which is English
# whatever the critique is written in.
_NO_PROSE = re.compile(
    r"\[asy\].*?\[/asy\]|```.*?```|\$\$.*?\$\$|\$[^$]*\$|\\\(.*?\\\)|\\\[.*?\\\]|\\begin\{(\w+)\*?\}.*?\\end\{\1\*?\}"
    r"|https?://\S+|\\[A-Za-z]+|^[^\n]*\bConclusion:\s*(?:(?:right|wrong)\b[^\n]*|[^\n]*\[END\])$",
    re.DOTALL | re.MULTILINE,
)
_WORD = re.compile(r"[^\W\d_]{2,}(?:['\u2019][^\W\d_]+)*")
# Of 58,000 English texts with 30 letters or more (GSM8K, MATH, human critiques) the detector gave English at least
# 0.019, of 26 sentences and half-sentences in 13 other languages at most 0.0001.
_ENOUGH_LETTERS = 40
_SURE = 0.001
_READ = 20_000  # characters; what comes after them is in the same language


def prose(text: str) -> str:
    r"""The words of a text, without its mathematics, drawings, code and addresses.

    Example:
        >>> prose(r"So $x = 3$, hence \frac{1}{2} of it is 1.5 apples.")
        'So hence of it is apples'
    """
    return " ".join(_WORD.findall(_NO_PROSE.sub(" ", text)))


def foreign(text: str, language: str) -> str | None:
    """The language of a text that is surely not in the one wanted; `None` where it is, or where nobody can tell.

    Args:
        text: Any text; its mathematics is not looked at.
        language: The ISO 639-1 code wanted ("en").

    Raises:
        CFTError: The detector does not know the language, or is not installed.

    Example:
        >>> foreign("Der erste Schritt stimmt, aber im zweiten wurde falsch gerechnet.", "en")
        'de'
        >>> foreign("x + 2 = 4, ok", "en"), foreign("The first step is right, but the second one is not.", "en")
        (None, None)
    """
    identifier = _identifier()
    check_language(language)
    words = prose(text[:_READ])
    # A character of a script without capitals (Chinese, Arabic, Hindi) tells as much as three letters do.
    letters = sum(1 if char.islower() or char.isupper() else 3 for char in words if char.isalpha())
    if letters < _ENOUGH_LETTERS:
        return None
    chances = dict(identifier.rank(words))
    likeliest = max(chances, key=chances.__getitem__)
    return likeliest if likeliest != language and chances[language] < _SURE else None


def check_language(language: str) -> None:
    """Refuses a language that the detector does not know.

    Raises:
        CFTError: It is unknown (the nearest is named), or py3langid is not installed.
    """
    known = _identifier().labels
    if language not in known:
        raise CFTError(f"language={language!r}: unknown{nearest(language, known)}; known: {', '.join(known)}")


@cache
def _identifier() -> Any:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        raise CFTError("languages need py3langid, which is not installed; pip install 'cft-trl[synth]'") from None
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


# ---- near-duplicates -------------------------------------------------------------------------------------------------

_SHINGLE = 5  # words; a text of fewer is one shingle
_HASHES = 128
_BLOCK = 1 << 14  # signatures compared at once


class NearDuplicates:
    """Finds texts that share most of their five-word sequences with an earlier one (MinHash and banding).

    Signatures (512 bytes a text) lie in a scratch file without a name; in memory is one band at a time, 8 bytes a text.

    Args:
        threshold: The Jaccard similarity of their sets of five-word sequences from which two texts are near-duplicates,
            between 0 and 1. It is estimated from 128 hashes, with a standard error of at most 0.045.
        folder: Where the scratch file goes.

    Raises:
        CFTError: datasketch is not installed, or the disk is full.

    Example:
        >>> found = NearDuplicates(0.6)
        >>> for text in ("one two three four five six seven", "ONE two three four five six, seven!", "another one"):
        ...     found.add(text)
        >>> found.duplicates()
        {1: 0}
    """

    def __init__(self, threshold: float, folder: str | Path | None = None) -> None:
        try:
            from datasketch import MinHash, MinHashLSH
        except ImportError:
            raise CFTError(
                "near-duplicates need datasketch, which is not installed; pip install 'cft-trl[synth]'"
            ) from None
        index = MinHashLSH(threshold, _HASHES)  # chooses the bands; it would hold every text's in memory
        self._threshold, self._bands, self._rows = threshold, index.b, index.r
        self._empty = MinHash(_HASHES, seed=1)
        self._length = 0
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115

    def add(self, text: str) -> None:
        """Adds a text; the first has the number 0."""
        words = _WORDS.findall(unicodedata.normalize("NFKC", text).casefold())
        shingles = {" ".join(words[at : at + _SHINGLE]) for at in range(max(1, len(words) - _SHINGLE + 1))}
        signature = self._empty.copy()
        signature.update_batch([shingle.encode("utf-8", "surrogatepass") for shingle in shingles])
        _written(self._file.write, signature.hashvalues.astype("<u4").tobytes())
        self._length += 1

    def duplicates(self) -> dict[int, int]:
        """The number of each near-duplicate, and of the earlier text that it is like (which may be one itself)."""
        import numpy

        like: dict[int, int] = {}
        with self._file:
            _written(self._file.flush)
            if not self._length:
                return like
            signatures = numpy.memmap(self._file, "<u4", "r", shape=(self._length, _HASHES))
        for band in range(self._bands):
            keys = _mixed(signatures[:, band * self._rows : (band + 1) * self._rows])
            order = keys.argsort(kind="stable")
            starts = numpy.flatnonzero(numpy.diff(keys[order], prepend=~keys[order[:1]]))
            sizes = numpy.diff(starts, append=len(order))
            for start, size in zip(starts[sizes > 1], sizes[sizes > 1], strict=True):
                self._compare(signatures, order[start : start + size], like)
        return dict(sorted(like.items()))

    def _compare(self, signatures: numpy.ndarray, same: numpy.ndarray, like: dict[int, int]) -> None:
        """Compares the texts of one bucket, in their order, with its first."""
        first = int(same[0])
        for start in range(1, len(same), _BLOCK):
            some = same[start : start + _BLOCK]
            near = (signatures[some] == signatures[first]).mean(axis=1) >= self._threshold
            for at in map(int, some[near]):
                like[at] = min(like.get(at, first), first)


_WORDS = re.compile(r"\w+")


def _written(do: Callable[..., Any], *content: bytes) -> None:
    try:
        do(*content)
    except OSError as error:
        raise CFTError(f"near-duplicates: the scratch file cannot be written ({error.strerror}); make room") from None


def _mixed(columns: numpy.ndarray) -> numpy.ndarray:
    """64 bits of a hash of each row."""
    import numpy

    keys = numpy.full(len(columns), 0xCBF29CE484222325, numpy.uint64)
    for column in columns.T:
        keys = (keys ^ column.astype(numpy.uint64)) * numpy.uint64(0x100000001B3)
        keys ^= keys >> numpy.uint64(29)
    return keys
