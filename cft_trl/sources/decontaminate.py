r"""The decontamination stage: rows whose query stands in a benchmark are found, counted and taken out.

    run_decontaminate(rows, DecontaminateSettings(benchmarks="six"), "out")

A row that goes leaves a line that names what it was found in, nearest first, with the share of 13-grams they have in
common:

    {"id": "5c0e", "row": "5c0e", "stage": "decontaminate", "reason": "13-gram of a benchmark problem",
     "detail": "math-841 (0.93), math-38 (0.73)"}

Two tests, of queries only:

    exact     the same text but for typing (`fingerprints.normalised`), with or without its options (A, B, ...)
    13-gram   13 words in a row that stand in a benchmark problem too. Words are runs of letters and digits, in formulas
              single letters, so punctuation and operators play no part; drawings ([asy] ... [/asy]) are left out, and
              so are the options of multiple-choice problems. An n-gram that five or more different problems of the
              benchmarks have is a phrase ("where m and n are relatively prime positive integers. Find m + n.") and
              counts for nothing.

A query or problem of fewer than 13 words is compared exactly only.

One shared 13-gram is a wide net: it also catches the sister problem with other numbers, which is no copy. So the
report counts "near copies", with half of the 13-grams in common, apart; `share` sets where the line is drawn.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from annotated_types import Ge

from cft_trl.data.fingerprints import fingerprint, normalised
from cft_trl.data.settings import Expected, Listed, Share, check_settings
from cft_trl.data.stage_files import Progress, StageReport, StageWriter, with_lines
from cft_trl.errors import CFTError
from cft_trl.grading.benchmarks import BENCHMARKS, FOLDER_VARIABLE, SIX, get_benchmark, load_benchmark

if TYPE_CHECKING:
    import numpy

# "math-validation" is drawn from MATH train, which many corpora hold on purpose; name it to keep it apart.
ALL = tuple(name for name, benchmark in BENCHMARKS.items() if not benchmark.drawn)

_NAMES = "six, all, none, or names of benchmarks"
_PHRASE = 5  # so many different problems with one n-gram make it a phrase
_NEAR_COPY = 0.5
_TOLD = 20  # hits told per benchmark


@dataclass(frozen=True)
class DecontaminateSettings:
    """The section `decontaminate` of a recipe.

    Attributes:
        benchmarks: "six" (the published table's), "all" (every one but math-validation), "none", or names of
            `cft_trl.grading.benchmarks.BENCHMARKS`.
        ngram: The words of an n-gram.
        share: From which share of n-grams in common a row counts as contaminated: of those of the query or of the
            problem, whichever has fewer. 0: one n-gram is enough.
        action: "drop", or "report" to count and keep.

    Raises:
        CFTError: An unknown benchmark, or a value out of range.

    Example:
        >>> DecontaminateSettings(("gsm8k", "amc"))
        Traceback (most recent call last):
        cft_trl.errors.CFTError: decontaminate.benchmarks: benchmark 'amc' is unknown (did you mean 'amc23'?); ...
    """

    benchmarks: Annotated[str | Annotated[tuple[str, ...], Listed(alone=False)], Expected(_NAMES)] = "six"
    ngram: Annotated[int, Ge(2), Expected("2 or more words; 13 is usual")] = 13
    share: Share = 0.0
    action: Literal["drop", "report"] = "drop"

    def __post_init__(self) -> None:
        check_settings(self, "decontaminate")
        try:
            self.names()
        except CFTError as error:
            raise CFTError(f"decontaminate.benchmarks: {error}; or give six, all or none") from None

    def names(self) -> tuple[str, ...]:
        """The benchmarks' own names, each once."""
        groups = {"six": SIX, "all": ALL, "none": ()}
        given = (self.benchmarks,) if isinstance(self.benchmarks, str) else self.benchmarks
        names = [name for one in given for name in groups.get(one, (one,))]
        return tuple(dict.fromkeys(get_benchmark(name).name for name in names))


def run_decontaminate(
    rows: Iterable[Mapping[str, Any]],
    settings: DecontaminateSettings,
    folder: str | Path,
    *,
    progress: Progress | None = None,
) -> StageReport:
    """Finds the rows whose query stands in a benchmark.

    Args:
        rows: Records.
        settings: The recipe's section. The benchmarks are read as by `load_benchmark`: from the folder that the
            variable CFT_BENCHMARKS_DIR names, else from the Hub.
        folder: The build's folder; see `cft_trl.data.stage_files`.
        progress: Called with the report so far after every row.

    Returns:
        The report. Its details hold "contaminated" (rows) and, for each benchmark, its "problems", the rows with an
        "exact" hit, with "n-gram" hits only, the "near copies" among all hits, and the first 20 of them
        ("row id: problem id (share)").

    Raises:
        CFTError: A benchmark cannot be read, or the disk is full.

    Example:
        >>> import tempfile
        >>> rows = [{"id": "a", "query": "What is 6 x 7?"}]
        >>> run_decontaminate(rows, DecontaminateSettings("none"), tempfile.mkdtemp()).written
        1
    """
    index = _Index({name: _queries(name) for name in settings.names()}, settings.ngram)
    with StageWriter(folder, "decontaminate") as out:
        tally = {name: Counter(dict.fromkeys(("exact", "n-gram", "near copies"), 0)) for name in index.sizes}
        told: dict[str, list[str]] = {name: [] for name in index.sizes}
        contaminated = 0
        query, hits = None, []
        for row, line in with_lines(rows):
            out.report.read += 1
            if row["query"] != query:  # rows of one query stand together
                query = row["query"]
                hits = [hit for hit in index.find(query) if hit.exact or hit.share >= settings.share]
            contaminated += bool(hits)
            for name in dict.fromkeys(hit.benchmark for hit in hits):
                best = next(hit for hit in hits if hit.benchmark == name)
                tally[name]["exact" if best.exact else "n-gram"] += 1
                tally[name]["near copies"] += best.exact or best.share >= _NEAR_COPY
                if len(told[name]) < _TOLD:
                    told[name].append(f"{row['id']}: {best}")
            if hits and settings.action == "drop":
                kind = "copy" if hits[0].exact else f"{settings.ngram}-gram"
                out.failure(row["id"], f"{kind} of a benchmark problem", detail=", ".join(map(str, hits[:5])))
            else:
                out.row(line)
            if progress:
                progress(out.report)
        out.report.details = {
            "ngram": settings.ngram,
            "share": settings.share,
            "action": settings.action,
            "contaminated": contaminated,
            "benchmarks": {
                name: {"problems": size, **tally[name], "first hits": told[name]} for name, size in index.sizes.items()
            },
        }
    return out.report


def _queries(name: str) -> dict[str, str]:
    """A benchmark's problems by id, without what our own prompt adds to them."""
    try:
        rows = load_benchmark(name)
    except CFTError as error:
        raise CFTError(
            f"decontaminate: benchmark {name} cannot be had; set {FOLDER_VARIABLE} to a folder with it, or skip "
            f"it: decontaminate.benchmarks takes a list of names, or none ({error})"
        ) from None
    return problem_texts(name, rows)


def problem_texts(name: str, rows: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The texts of a benchmark's rows by id, without the options that our own prompt adds."""
    options = "\n\nA. " if BENCHMARKS[name].answer == "letter" else "\0"
    return {row.get("id", str(at)): row["query"].partition(options)[0] for at, row in enumerate(rows)}


def copies(queries: Sequence[str], benchmarks: Mapping[str, Mapping[str, str]], *, near: bool) -> dict[str, list[int]]:
    """Which queries stand in which benchmark, by the tests of this stage.

    Args:
        queries: Questions.
        benchmarks: Name -> `problem_texts`.
        near: Whether a near copy (half of the 13-grams in common) counts too.

    Returns:
        Name -> indices of queries, for the benchmarks that hold any.

    Example:
        >>> copies(["Tom\u2019s age is 7", "1 + 1?"], {"gsm8k": {"a": "Tom's age is 7?"}}, near=True)
        {'gsm8k': [0]}
    """
    index = _Index(benchmarks, DecontaminateSettings.ngram)
    found: dict[str, list[int]] = {}
    for at, query in enumerate(queries):
        hits = [hit for hit in index.find(query) if hit.exact or (near and hit.share >= _NEAR_COPY)]
        for name in dict.fromkeys(hit.benchmark for hit in hits):
            found.setdefault(name, []).append(at)
    return {name: found[name] for name in benchmarks if name in found}


class Hit(NamedTuple):
    """A benchmark problem that a query was found in; as text "math-841 (0.93)"."""

    benchmark: str
    problem: str
    exact: bool
    share: float

    def __str__(self) -> str:
        return f"{self.problem} ({'exact' if self.exact else f'{self.share:.2f}'})"


class _Index:
    """The problems of all benchmarks: their texts' fingerprints, and their n-grams in sorted arrays (16 bytes each)."""

    def __init__(self, benchmarks: Mapping[str, Mapping[str, str]], ngram: int) -> None:
        import numpy

        self.sizes = {name: len(problems) for name, problems in benchmarks.items()}
        self._ngram = ngram
        self._problems = [(name, problem) for name, problems in benchmarks.items() for problem in problems]
        self._exact: dict[int, list[int]] = {}
        grams: list[numpy.ndarray] = [numpy.empty(0, numpy.uint64)]
        owners: list[numpy.ndarray] = [numpy.empty(0, numpy.int64)]
        texts: list[numpy.ndarray] = [numpy.empty(0, numpy.uint64)]
        queries = [query for problems in benchmarks.values() for query in problems.values()]
        for at, query in enumerate(queries):
            self._exact.setdefault(fingerprint(normalised(query)), []).append(at)
            words = _words(query)
            found = numpy.unique(_ngrams(words, ngram))
            grams.append(found)
            owners.append(numpy.full(len(found), at))
            # The same problem in two benchmarks (MATH-500 lies within MATH) is one text.
            texts.append(numpy.full(len(found), fingerprint(*words), numpy.uint64))
        self._build(*(numpy.concatenate(parts) for parts in (grams, owners, texts)))

    def _build(self, grams: numpy.ndarray, owners: numpy.ndarray, texts: numpy.ndarray) -> None:
        import numpy

        order = numpy.lexsort((texts, grams))
        new = numpy.diff(grams[order], prepend=0).astype(bool) | numpy.diff(texts[order], prepend=0).astype(bool)
        distinct, counts = numpy.unique(grams[order][new], return_counts=True)
        kept = ~numpy.isin(grams, distinct[counts >= _PHRASE])
        kept |= ~numpy.isin(owners, owners[kept])  # a problem made of phrases alone keeps them
        order = numpy.argsort(grams[kept], kind="stable")
        self._grams, self._owners = grams[kept][order], owners[kept][order]
        self._lengths = numpy.bincount(owners[kept], minlength=len(self._problems))

    def find(self, query: str) -> Sequence[Hit]:
        """The problems that a query has an n-gram or all of its text in common with, nearest first."""
        import numpy

        if not self._problems:
            return ()
        exact = {at for text in {query, _stem(query)} for at in self._exact.get(fingerprint(normalised(text)), ())}
        grams = numpy.unique(_ngrams(_words(query), self._ngram))
        starts = self._grams.searchsorted(grams, "left")
        ends = self._grams.searchsorted(grams, "right")
        found = numpy.flatnonzero(ends > starts)  # most questions have nothing in common with any
        shared = Counter(int(owner) for at in found for owner in self._owners[starts[at] : ends[at]])
        hits = []
        for at in {*exact, *shared}:
            share = shared[at] / max(1, min(len(grams), int(self._lengths[at])))
            hits.append(Hit(*self._problems[at], at in exact, share))
        return sorted(hits, key=lambda hit: (not hit.exact, -hit.share, hit.problem))


_OPTIONS = re.compile(r"\n[ \t]*\(?A[.:)]\s|\$?\\text(?:bf)?\{\s*\(A\)")
_QUESTION = 8  # words; "Which of the following is true?" asks nothing without its options


def _stem(query: str) -> str:
    r"""A multiple-choice question without its options, where enough is left.

    Example:
        >>> _stem("How many groups of order 72 are there, abelian ones?\nA: 4\nB: 6")
        'How many groups of order 72 are there, abelian ones?'
        >>> _stem("Which is prime?\nA: 4\nB: 5")
        'Which is prime?\nA: 4\nB: 5'
    """
    options = _OPTIONS.search(query)
    if not options:
        return query
    stem = query[: options.start()]
    return stem if len(_words(stem)) >= _QUESTION else query


_DRAWING = re.compile(r"\[asy\].*?(?:\[/asy\]|$)", re.DOTALL)
# One formula has many spellings.
_SPELLING = re.compile(
    r"\\(?:left|right|displaystyle|limits|!|,|;|:|quad|qquad)(?![A-Za-z])|\\[dt](?=frac\b|binom\b)|\\[cl](?=dots\b)"
)
_DIALECT = ("\\d", "\\t", "\\c", "\\l")  # \dfrac, \tbinom, \cdots, \ldots: only this letter goes
_FORMULA = re.compile(r"\$\$?[^$]+\$\$?|\\\(.+?\\\)|\\\[.+?\\\]", re.DOTALL)
_PROSE = re.compile(r"(?<![A-Za-z\\])[A-Za-z]{3}")
_SYMBOL = re.compile(r"\\[A-Za-z]+|[A-Za-z]|\d+")
_WORD = re.compile(r"[^\W_]+")


def _words(query: str) -> list[str]:
    r"""The words of a query, for n-grams; in a formula each letter is one, for "jx^2" is also written "j x^{2}".

    Example:
        >>> _words(r"Find $\dfrac{1}{2} + \left( x_1 \right)$. [asy] draw((0,0)--(1,0)); [/asy]")
        ['find', 'frac', '1', '2', 'x', '1']
        >>> _words("Is $jx^2 = 4ab$?") == _words("Is $j x^{2}=4 a b$?"), _words("He has $5 and she has $6.")[:4]
        (True, ['he', 'has', '5', 'and'])
    """
    text = _SPELLING.sub(lambda match: "\\" if match[0] in _DIALECT else " ", _DRAWING.sub(" ", query))
    text = _FORMULA.sub(lambda match: _symbols(match[0]), text)
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def _symbols(formula: str) -> str:
    """A formula's symbols with spaces between them; what lies between two sums of dollars is no formula."""
    return formula if _PROSE.search(formula) else " ".join(_SYMBOL.findall(formula))


def _ngrams(words: list[str], size: int) -> numpy.ndarray:
    """64 bits of a hash of each n-gram: the words' hashes weighed by powers of an odd number."""
    import numpy

    hashes = numpy.fromiter(map(_word_hash, words), numpy.uint64, len(words))
    count = max(0, len(words) - size + 1)
    sums = numpy.zeros(count, numpy.uint64)
    for at in range(size if count else 0):
        sums = sums * numpy.uint64(0x9E3779B97F4A7C15) + hashes[at : at + count]
    return sums


@lru_cache(maxsize=1 << 16)
def _word_hash(word: str) -> int:
    return fingerprint(word)
