r"""The filter stage: which critiques are good enough to learn from, and why the others are not.

    run_filter(rows, FilterSettings(critique_chars=(200, None), language="en", near_duplicates=0.8), "out")

A row that is not kept leaves a line whose reason begins with the key of the filter that removed it:

    {"id": "5c0e.gpt-4o-2024-11-20.1", "row": "...", "stage": "filter", "reason": "agree: calls a right response wrong"}

The filters stand in this order, the cheap ones first; each sees only what those before it left:

    truncated         the critique, the refinement or the response ended at its token limit
    verdict           the critique states none
    query_chars, response_chars, critique_chars      too short or too long
    language          the critique or the query is in another language (filter_texts.py)
    agree             the verdict contradicts the truth: the corpus' own label of the response (`meta["label"]`), else
                      the strict grader's, where the row has a reference answer; a row with neither is kept
    boxed             the critique's own boxed answer is not the reference answer
    near_duplicates   most of its five-word sequences stand in an earlier row's text
    preset            a published rule, see `FilterSettings`
    right_ratio       a seeded sample of the verdict there is too much of
    limit             a seeded sample of what is left, verdict by verdict

It goes through the rows twice and holds about 30 bytes of each.
"""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Interval

from cft_trl.data.fingerprints import fingerprint, normalised
from cft_trl.data.settings import ROWS, Count, Expected, FromText, Listed, Share, Whole, check_settings
from cft_trl.data.stage_files import RowFile, StageReport, StageWriter
from cft_trl.errors import CFTError
from cft_trl.synthesis.filter_rules import (
    PER_QUERY,
    RIGHT,
    WRONG,
    Longest,
    cut_longest,
    cut_per_query,
    cut_to_limit,
    cut_to_ratio,
)
from cft_trl.synthesis.filter_texts import NearDuplicates, check_language, foreign
from cft_trl.synthesis.filter_truth import box_agrees, verdict_agrees

if TYPE_CHECKING:
    import numpy

_BOUNDS = "[least, most] characters, null for no bound"
Bounds = Annotated[tuple[Whole | None, Whole | None], Listed(alone=False), Expected(_BOUNDS)]
Progress = Callable[[StageReport], None]

ORDER = (
    "truncated", "verdict", "query_chars", "response_chars", "critique_chars", "language", "agree", "boxed",
    "near_duplicates", "preset", "right_ratio", "limit",
)  # fmt: skip

_CHUNK = 512  # rows graded together
_CODES = {None: 0, "right": RIGHT, "wrong": WRONG}


@dataclass(frozen=True)
class FilterSettings:
    """The section `filter` of a recipe.

    Attributes:
        preset: "longest-50k": of 600,000 rows without the 10,000 shortest and the 10,000 longest critiques the 80,000
            with the longest critiques, of these the 50,000 longest; below 100,000 rows, where these numbers do not fit,
            they are scaled to the rows there are (1,000 rows: 100, 800, 500). "one-shot": of each query's critiques,
            without the wrong ones, the shortest and longest are dropped until 600 are left. `None`: neither.
        verdict: "required", or "any" to keep critiques without one.
        agree: What becomes of a critique whose verdict contradicts the truth: "drop", "report" (only counted), "off".
            Of metamath and numinamath the reference is the response's own answer: "drop" would leave none that is
            called wrong.
        boxed: The same for a critique whose own boxed answer is not the reference answer (the "boxed" prompt's rows).
        truncated: "drop" or "keep" rows with a text that ended at its token limit.
        query_chars, response_chars, critique_chars: [least, most] characters; null on a side without a bound.
        near_duplicates: Jaccard similarity, above 0 and below 1, from which a row is too much like an earlier one
            (0.8 is usual); `None` for no such filter.
        near_duplicates_of: The text compared: "critique", or "response" for query and response together. The first
            also takes out a short critique that says of another response what an earlier one said; the second leaves
            one critique of each response.
        language: ISO 639-1 code ("en") that critique and query must be in; `None` for any.
        right_ratio: Share of "right" among the verdicts, 0 to 1; `None` as it comes.
        limit: At most this many rows.
        seed: Of the two samples.

    Raises:
        CFTError: A value that is out of range.

    Example:
        >>> FilterSettings(verdict="requird")
        Traceback (most recent call last):
        cft_trl.errors.CFTError: filter.verdict='requird': unknown (did you mean 'required'?); give required or any
    """

    preset: Literal["longest-50k", "one-shot"] | None = None
    verdict: Literal["required", "any"] = "required"
    agree: Literal["drop", "report", "off"] = "drop"
    boxed: Literal["drop", "report", "off"] = "off"
    truncated: Literal["drop", "keep"] = "drop"
    query_chars: Bounds = (None, None)
    response_chars: Bounds = (None, None)
    critique_chars: Bounds = (None, None)
    near_duplicates: Annotated[float, Interval(gt=0, lt=1), FromText()] | None = None
    near_duplicates_of: Literal["critique", "response"] = "critique"
    language: str | None = None
    right_ratio: Share | None = None
    limit: Annotated[Count | None, Expected(ROWS)] = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_settings(self, "filter")
        for key in ("query_chars", "response_chars", "critique_chars"):
            least, most = getattr(self, key)
            if least is not None and most is not None and least > most:
                raise CFTError(f"filter.{key}={(least, most)}: give {_BOUNDS}")
        if self.preset == "one-shot" and self.agree != "drop":
            raise CFTError(
                f"filter.agree={self.agree}: preset one-shot is about what is left without wrong critiques; drop"
            )


def run_filter(
    rows: Iterable[Mapping[str, Any]],
    settings: FilterSettings,
    folder: str | Path,
    *,
    progress: Progress | None = None,
) -> StageReport:
    """Keeps the rows that pass every filter.

    Args:
        rows: Records, re-iterable; their ids tell them apart.
        settings: The recipe's section.
        folder: The build's folder; see `cft_trl.data.stage_files`.
        progress: Called with the report so far: rows are `read` in the first pass, `written` in the second.

    Returns:
        The report. Its details hold "removed" (rows by filter, in the order they stand, 0 where it removed none),
        "agreement" and "boxed answers" (what the checks found, also where they only report), "preset" (its numbers as
        applied) and "share right" (before and after).

    Raises:
        CFTError: A library that a filter needs is not installed, or the disk is full.

    Example:
        >>> import tempfile
        >>> from cft_trl.sources.arithmetic import arithmetic_records
        >>> rows, settings = list(arithmetic_records(20)), FilterSettings(agree="off", right_ratio=0.2)
        >>> report = run_filter(rows, settings, tempfile.mkdtemp())
        >>> report.written, report.details["removed"]["right_ratio"], report.details["share right"]
        (12, 8, {'before': 0.5, 'after': 0.1667})
    """
    with StageWriter(folder, "filter") as out:
        state = _State(settings)
        if settings.language:
            check_language(settings.language)
        near = NearDuplicates(settings.near_duplicates, Path(folder) / "stages") if settings.near_duplicates else None
        _look(rows, settings, state, near, out.report, progress)
        like = _remove_near_duplicates(state, near) if near else {}
        applied = _choose(settings, state)
        # A row that is kept is handed on as it stands; the others are read again for their ids.
        stands: Iterable[Mapping[str, Any] | str] = rows.lines() if isinstance(rows, RowFile) else rows
        for at, line in enumerate(stands):
            reason = state.reason(at)
            if reason is None:
                out.row(line)
            else:
                row = json.loads(line) if isinstance(line, str) else line
                more = {"detail": f"like row {like[at] + 1} of the stage before"} if at in like else {}
                out.failure(row["id"], reason, **more)
            if progress:
                progress(out.report)
        _report(out.report, state, applied)
    return out.report


class _State:
    """What is remembered of each row, in arrays."""

    def __init__(self, settings: FilterSettings) -> None:
        self.seed = settings.seed
        self.reasons: list[str] = [""]
        self.removed = array("H")  # which of `reasons`; 0 keeps the row
        self.verdicts = array("B")
        self.lengths = array("I")  # of the critique
        self.order = array("Q")
        self.queries = array("Q")
        self.near: array[int] = array("Q")  # the rows whose texts were compared
        self.agreement: Counter[str] = Counter()
        self.boxed: Counter[str] = Counter()

    def add(self, row: Mapping[str, Any], reason: str | None) -> None:
        self.removed.append(self.code(reason) if reason else 0)
        self.verdicts.append(_CODES[row["verdict"]])
        self.lengths.append(len(row["critique"] or ""))
        self.order.append(fingerprint(self.seed, row["id"]))
        self.queries.append(fingerprint(normalised(row["query"])))

    def code(self, reason: str) -> int:
        if reason not in self.reasons:
            self.reasons.append(reason)
        return self.reasons.index(reason)

    def reason(self, at: int) -> str | None:
        return self.reasons[self.removed[at]] or None

    def left(self) -> dict[str, numpy.ndarray]:
        """The arrays of the rows that no filter removed yet, and "at", where these rows are."""
        import numpy

        at = numpy.flatnonzero(numpy.array(self.removed) == 0)
        names = ("verdicts", "lengths", "order", "queries")
        return {"at": at, **{name: numpy.array(getattr(self, name))[at] for name in names}}

    def remove(self, rows: Iterable[int], reason: str) -> None:
        code = self.code(reason)
        for at in rows:
            self.removed[at] = code


# ---- the first pass: each row by itself ------------------------------------------------------------------------------


def _look(
    rows: Iterable[Mapping[str, Any]],
    settings: FilterSettings,
    state: _State,
    near: NearDuplicates | None,
    report: StageReport,
    progress: Progress | None,
) -> None:
    for chunk in _chunks(rows):
        reasons = [_own_reason(row, settings) for row in chunk]
        _check_truth(chunk, reasons, settings, state)
        for row, reason in zip(chunk, reasons, strict=True):
            if near and reason is None and (text := _compared(row, settings)):
                state.near.append(len(state.removed))
                near.add(text)
            state.add(row, reason)
            report.read += 1
            if progress:
                progress(report)


def _chunks(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    stream = iter(rows)
    while chunk := list(islice(stream, _CHUNK)):
        yield chunk


def _own_reason(row: Mapping[str, Any], settings: FilterSettings) -> str | None:
    """Why the row goes, as far as it can be seen in the row alone."""
    if settings.truncated == "drop" and (text := _truncated(row)):
        return f"truncated: {text}"
    if settings.verdict == "required" and not (row["critique"] and row["verdict"]):
        return "verdict: none stated" if row["critique"] else "verdict: no critique"
    for text in ("query", "response", "critique"):
        least, most = getattr(settings, f"{text}_chars")
        length = len(row[text] or "")
        if least is not None and length < least:
            return f"{text}_chars: fewer than {least}"
        if most is not None and length > most:
            return f"{text}_chars: more than {most}"
    for text in ("critique", "query") if settings.language else ():
        if other := foreign(row[text] or "", settings.language or ""):
            return f"language: {text} in {other}"
    return None


def _truncated(row: Mapping[str, Any]) -> str | None:
    meta = row["meta"] or {}
    own = "critique" if row["critique"] else "response"
    ends = [(own, ""), ("refinement", "refinement_"), ("response", "response_")]
    return next((text for text, prefix in ends if meta.get(f"{prefix}finish_reason") == "length"), None)


def _check_truth(
    chunk: Sequence[Mapping[str, Any]], reasons: list[str | None], settings: FilterSettings, state: _State
) -> None:
    """Fills in the reasons of the rows that contradict what is known of them."""
    for key, check, counts in (("agree", verdict_agrees, state.agreement), ("boxed", box_agrees, state.boxed)):
        action = getattr(settings, key)
        if action == "off":
            continue
        alive = [at for at, reason in enumerate(reasons) if reason is None]
        for at, (agrees, found) in zip(alive, check([chunk[at] for at in alive]), strict=True):
            counts[found] += 1
            if not agrees and action == "drop":
                reasons[at] = f"{key}: {found}"


def _compared(row: Mapping[str, Any], settings: FilterSettings) -> str:
    if settings.near_duplicates_of == "critique":
        return row["critique"] or ""
    return f"{row['query']} {row['response']}"


# ---- between the passes: each row among the others -------------------------------------------------------------------


def _remove_near_duplicates(state: _State, near: NearDuplicates) -> dict[int, int]:
    """Removes them; row -> the earlier row that it is like."""
    like = {state.near[at]: state.near[other] for at, other in near.duplicates().items()}
    state.remove(like, "near_duplicates: like an earlier row")
    return like


def _choose(settings: FilterSettings, state: _State) -> dict[str, Any]:
    """Applies the rules that look at all rows; what there is to tell about them."""
    applied: dict[str, Any] = {}

    def remove(key: str, choose: Callable[..., Any], /, *columns: str, **options: Any) -> None:
        left = state.left()
        for rows, reason in choose(*(left[column] for column in columns), **options):
            state.remove(left["at"][rows], f"{key}: {reason}")

    if settings.preset == "longest-50k":
        rule = Longest().scaled(len(state.left()["at"]))
        applied["preset"] = {"name": settings.preset, **vars(rule)}
        remove("preset", cut_longest, "lengths", "order", rule=rule)
    elif settings.preset == "one-shot":
        applied["preset"] = {"name": settings.preset, "per query": PER_QUERY}
        remove("preset", cut_per_query, "lengths", "order", "queries", keep=PER_QUERY)
    applied["share right"] = {"before": _share_right(state)}
    if settings.right_ratio is not None:
        remove("right_ratio", cut_to_ratio, "verdicts", "order", right_ratio=settings.right_ratio)
    if settings.limit is not None:
        remove("limit", cut_to_limit, "verdicts", "order", limit=settings.limit)
    applied["share right"]["after"] = _share_right(state)
    return applied


def _share_right(state: _State) -> float | None:
    verdicts = state.left()["verdicts"]
    right, wrong = int((verdicts == RIGHT).sum()), int((verdicts == WRONG).sum())
    return round(right / (right + wrong), 4) if right + wrong else None


def _report(report: StageReport, state: _State, applied: Mapping[str, Any]) -> None:
    removed = dict.fromkeys(ORDER, 0)
    for reason, count in report.failures.items():
        removed[reason.partition(":")[0]] += count
    report.details = {"removed": removed, **applied}
    if state.agreement:
        report.details["agreement"] = dict(sorted(state.agreement.items()))
    if state.boxed:
        report.details["boxed answers"] = dict(sorted(state.boxed.items()))
