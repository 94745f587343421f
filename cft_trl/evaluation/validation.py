r"""Problems to choose a checkpoint on, which must be in no benchmark that is reported.

    {"id": "math-validation-0", "query": "Find the remainder when ...", "gold": "4"}                 kind "answers"
    {"id": "arithmetic-validation-s0-000003", "query": "...", "response": "...", "verdict": "wrong"} kind "verdicts"

The first are solved and graded strictly; the second are critiqued freely, and the critique's verdict is compared with
the row's own. The published checkpoints were chosen on MATH-500, a part of the MATH test set that was then reported;
this file refuses such a set.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cft_trl.data.hub_commits import cache_alone_if_unreachable
from cft_trl.data.prompts import Wording, verdict_by
from cft_trl.environment import require
from cft_trl.errors import CFTError, nearest
from cft_trl.evaluation.sampling import draw, sample_of
from cft_trl.generation.modes import Generation, mode_conversation
from cft_trl.grading.benchmarks import (
    BENCHMARKS,
    MATH_SYSTEM,
    gold_after_hashes,
    gold_as_written,
    gold_from_solution,
    load_benchmark,
)
from cft_trl.grading.intervals import wilson_interval

ARITHMETIC_CRITIC = "arithmetic-critic"
_CRITIC_ROWS = 300
_GOLDS = ("gold", "answer", "solution")
_QUERIES = ("query", "problem", "question")


@dataclass(frozen=True)
class ValidationSet:
    """Rows that every checkpoint is scored on.

    Attributes:
        name: A benchmark's name, "arithmetic-critic", or a file.
        kind: "answers" (rows with `query`, `gold`) or "verdicts" (with `query`, `response`, `verdict`).
        rows: At least one.
        max_new_tokens: Limit per text.
        system: System turn before a question; critiques are asked for without one.
        notes: What was left out and what could not be checked, for people to read.
    """

    name: str
    kind: str
    rows: tuple[Mapping[str, Any], ...]
    max_new_tokens: int
    system: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Tells this set from any other: 12 hex digits of a hash of all that is asked and compared."""
        asked = [self.kind, self.system, [[row.get(name) for name in _ASKED] for row in self.rows]]
        return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:12]

    @property
    def majority_rate(self) -> float | None:
        """What always giving the more frequent verdict would score; None for answers."""
        truths = Counter(row["verdict"] for row in self.rows) if self.kind == "verdicts" else None
        return max(truths.values()) / len(self.rows) if truths else None

    def conversations(self, prompt_preset: str | Wording) -> list[list[dict[str, str]]]:
        """What a model is asked, one conversation per row."""
        mode = "direct" if self.kind == "answers" else "critique"
        return [
            mode_conversation(mode, row["query"], row.get("response"), system=self.system, prompt_preset=prompt_preset)
            for row in self.rows
        ]

    def score(
        self,
        generations: Sequence[Generation],
        places: Sequence[int] | None = None,
        prompt_preset: str | Wording = "paper",
    ) -> tuple[dict[str, Any], list[bool]]:
        """-> (hits, of, score, interval_95, shares of truncated texts and of texts that say nothing; hit per text).

        Args:
            generations: One per row, or one per place.
            places: Of the rows that these are about, if not all.
            prompt_preset: The wording of the critiques.
        """
        from cft_trl.grading.grade import extract_answer, grade_many

        rows = self.rows if places is None else [self.rows[at] for at in places]
        texts = [generation.text for generation in generations]
        if self.kind == "answers":
            hits = grade_many([(text, row["gold"]) for text, row in zip(texts, rows, strict=True)])
            silent = sum(extract_answer(text) is None for text in texts)
        else:
            verdicts = [verdict_by(text, prompt_preset) for text in texts]
            hits = [verdict == row["verdict"] for verdict, row in zip(verdicts, rows, strict=True)]
            silent = verdicts.count(None)
        count, of = sum(hits), len(hits)
        summary = {
            "hits": count,
            "of": of,
            "score": count / of,
            "interval_95": list(wilson_interval(count, of)),
            "truncated": sum(generation.finish_reason == "length" for generation in generations) / of,
            "no_answer" if self.kind == "answers" else "no_verdict": silent / of,
        }
        return summary, hits


_ASKED = ("query", "response", "gold", "verdict")
_SHARES = ("truncated", "no_answer", "no_verdict")


def joined(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """The summary of two parts of a set, from theirs (see `ValidationSet.score`).

    Example:
        >>> half = {"hits": 1, "of": 2, "truncated": 0.5, "no_answer": 0.0}
        >>> told = joined(half, {"hits": 2, "of": 2, "truncated": 0.0, "no_answer": 0.5})
        >>> told["hits"], told["score"], told["truncated"], told["no_answer"]
        (3, 0.75, 0.25, 0.25)
    """
    hits, of = one["hits"] + other["hits"], one["of"] + other["of"]
    shares = {
        # Counts are whole numbers: the share of a joined set is that of one that was scored at once.
        name: (round(one[name] * one["of"]) + round(other[name] * other["of"])) / of
        for name in _SHARES
        if name in other
    }
    return {"hits": hits, "of": of, "score": hits / of, "interval_95": list(wilson_interval(hits, of)), **shares}


def load_validation(
    name: str = "math-validation", limit: int | None = None, *, max_new_tokens: int | None = None, force: bool = False
) -> ValidationSet:
    """Loads a validation set and makes sure that it is in no reported benchmark.

    Args:
        name: "math-validation" (500 problems of MATH train), another benchmark's name (refused unless `force`),
            "arithmetic-critic" (300 held-out arithmetic rows of level 1 with known verdicts), or a file with columns
            `query`, `gold` or `query`, `response`, `verdict`.
        limit: Uses so many rows: a seeded sample, in proportion over verdicts, subjects and levels.
        max_new_tokens: Limit per text; by default 2048 for answers and 512 for critiques.
        force: Takes the set in spite of an overlap.

    Raises:
        CFTError: Unknown name; a file without these columns; a problem that a reported benchmark holds too.
    """
    if limit is not None and limit < 1:
        raise CFTError(f"limit={limit}: give 1 or more")
    notes: list[str] = []
    if name == ARITHMETIC_CRITIC:
        from cft_trl.sources.arithmetic import arithmetic_records

        # Problems of another split than those trained on and those reported, by construction.
        rows = list(arithmetic_records(max(limit or 0, _CRITIC_ROWS), levels=(1,), split="validation"))
        return ValidationSet(name, "verdicts", tuple(draw(rows, limit)), max_new_tokens or 512)
    known = name.strip().lower().replace("_", "-")
    if known in BENCHMARKS:
        benchmark = BENCHMARKS[known]
        if benchmark.answer not in ("math", "letter"):
            raise CFTError(f"benchmark {known} has no answers to grade; choose on math-validation")
        require("grade", f"choosing on {known}", "mpmath")  # before a model answers anything
        kind, rows = "answers", load_benchmark(known)
        system, tokens, drawn = benchmark.system, benchmark.max_new_tokens, benchmark.drawn is not None
    elif Path(name).is_file():
        kind, rows = _read_file(name)
        if kind == "answers":
            require("grade", f"choosing on {name}", "mpmath")
        system, tokens, drawn = (MATH_SYSTEM, 2048, False) if kind == "answers" else (None, 512, False)
    else:
        hint = nearest(name, [*BENCHMARKS, ARITHMETIC_CRITIC])
        raise CFTError(f"benchmark {name!r} is neither known{hint} nor a file; give math-validation, or a file of rows")
    # A sister problem of MATH train is no copy; of a set that somebody made, a near copy is.
    overlap, unchecked = find_overlap(rows, near=not drawn)
    if unchecked:
        notes.append(f"not compared with {', '.join(unchecked)}, which could not be read")
    if overlap and drawn:
        # MATH train and MATH test have problems in common, word for word.
        shared = {at for found in overlap.values() for at in found}
        rows = [row for at, row in enumerate(rows) if at not in shared]
        notes.append(f"left out: {_told(overlap)}")
    elif overlap and not force:
        raise CFTError(
            f"'{name}' overlaps what is reported: {_told(overlap)}; a checkpoint chosen on it would be chosen on the "
            "test set. Choose on math-validation, or force it and do not report these"
        )
    elif overlap:
        notes.append(f"overlaps what is reported, forced: {_told(overlap)}")
    asked = draw(rows, limit)
    if sample := sample_of(asked, len(rows)):
        notes.append(
            f"a sample of {sample['rows']} of {sample['of']} rows, seed {sample['seed']}, ids {sample['digest']}"
        )
    return ValidationSet(known if known in BENCHMARKS else name, kind, tuple(asked), max_new_tokens or tokens,
                         system, tuple(notes))  # fmt: skip


def find_overlap(rows: Sequence[Mapping[str, Any]], *, near: bool = True) -> tuple[dict[str, list[int]], list[str]]:
    """Which reported benchmarks hold some of these rows' questions, by the decontamination stage's own tests.

    Args:
        rows: With `query`.
        near: Whether a near copy counts too.

    Returns:
        {benchmark: indices of rows}, and the benchmarks that could not be read.
    """
    from cft_trl.sources.decontaminate import copies, problem_texts

    texts, unchecked = {}, []
    with cache_alone_if_unreachable():
        for benchmark in BENCHMARKS.values():
            if benchmark.drawn:
                continue
            try:
                texts[benchmark.name] = problem_texts(benchmark.name, load_benchmark(benchmark.name))
            except CFTError:  # no such file, or no Hub here
                unchecked.append(benchmark.name)
    return copies([row["query"] for row in rows], texts, near=near), unchecked


def _told(overlap: Mapping[str, Sequence[int]]) -> str:
    return ", ".join(f"{len(found)} of its problems in {name}" for name, found in overlap.items())


def _read_file(name: str) -> tuple[str, list[dict[str, Any]]]:
    from cft_trl.data.files import SUFFIXES, read_files
    from cft_trl.data.records import to_record

    if not name.endswith(SUFFIXES):
        raise CFTError(f"{name}: give a file ending in {', '.join(SUFFIXES)}")
    rows: list[dict[str, Any]] = []
    kinds: set[str] = set()
    for index, (row, where) in enumerate(read_files([name])):
        if not isinstance(row, dict):
            raise CFTError(f"{where}: a row must be an object with columns; got {type(row).__name__}")
        query = next((row[column] for column in _QUERIES if row.get(column)), None)
        gold = next((row[column] for column in _GOLDS if row.get(column) is not None), None)
        if isinstance(query, str) and gold is not None and not row.get("response"):
            rows.append({"id": str(row.get("id", index)), "query": query, "gold": _gold(gold)})
            kinds.add("answers")
            if not rows[-1]["gold"]:
                raise CFTError(f"{where}: no answer found in it; give the bare answer in column gold")
            continue
        record = to_record(row, where)
        if record["verdict"] is None:
            raise CFTError(
                f"{where}: no verdict to compare with; give columns query and gold, or query, response, verdict"
            )
        rows.append({**record})
        kinds.add("verdicts")
    if len(kinds) != 1:
        raise CFTError(f"{name}: {'holds both questions with answers and labelled solutions' if kinds else 'no rows'}")
    return kinds.pop(), rows


def _gold(value: Any) -> str:
    if isinstance(value, str) and "\\boxed" in value:
        return gold_from_solution(value)
    if isinstance(value, str) and "####" in value:
        return gold_after_hashes(value)
    return gold_as_written(value)
