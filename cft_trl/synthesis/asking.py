r"""The engine that respond, critique and refine share: each row's questions to each teacher, asked once and kept.

    plan = StagePlan("critique", samples=2, sampling={"temperature": 0.3}, messages=..., unaskable=..., read=...)
    report = ask_rows(rows, plan, [Teacher("gpt-4o-2024-11-20")], "out")

A `StagePlan` says what is asked about a row and what becomes of the answer. A row goes out once per teacher and sample,
or leaves a failure under the id that it would have had:

    {"id": "5c0e.gpt-4o-2024-11-20.1", "row": "5c0e", "stage": "critique", "reason": "context length",
     "teacher": "gpt-4o-2024-11-20", "sample": 1, "detail": "This model's maximum context length is ..."}

It goes through the rows three times. First it checks them, before anything is paid for. Then it asks, in whatever order
answers come, and only fills the journal (out/journal/critique.jsonl). Last it writes the stage's files from the
journal. So the output is a function of rows and answers alone, however often the asking was killed; no answer waits in
memory for its turn, and no row is held longer than its neighbours are.
"""

from __future__ import annotations

import asyncio
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, cast

from annotated_types import Interval

from cft_trl.data.records import COLUMNS, Record, to_record
from cft_trl.data.settings import Count, Expected, FromText, Listed, Pattern
from cft_trl.data.stage_files import StageReport, StageWriter, with_lines
from cft_trl.errors import CFTError
from cft_trl.generation.generate import run_async
from cft_trl.generation.identities import flat, key_of
from cft_trl.generation.journal import Journal
from cft_trl.generation.journaled import Journaled
from cft_trl.generation.types import Counts, Generation, Model, Request, failed, is_known

Progress = Callable[[Mapping[str, Counts]], None]

# What the settings of respond, critique and refine have in common.
_LEFT_OUT = ", or null to leave it out of the requests"
Temperature = Annotated[
    Annotated[float, Interval(ge=0, le=2), FromText()] | None, Expected(f"a number from 0 to 2{_LEFT_OUT}")
]
TopP = Annotated[
    Annotated[float, Interval(gt=0, le=1), FromText()] | None, Expected(f"a number over 0 and up to 1{_LEFT_OUT}")
]
MaxTokens = Annotated[Count | None, Expected(f"a whole number from 1{_LEFT_OUT}")]
Extra = Annotated[Mapping[str, Any], Expected("fields and their values, as in {reasoning_effort: low}")]
Teachers = Annotated[
    tuple[Annotated[str, Pattern(r"[\s\S]*\S[\s\S]*")], ...],
    Listed(),
    Expected("teachers by name, as in 'openai:gpt-4o-2024-11-20'"),
]

_NEIGHBOURS = 2048  # among so many rows those with the same query are brought together
_CHUNK = 512  # rows that are finished and written together
_TELL_EVERY_S = 0.2
_MOST_FINGERPRINTS = 20  # told apart; a server may give each answer its own


@dataclass(frozen=True)
class StagePlan:
    """What a stage asks.

    Attributes:
        stage: Its name.
        samples: Answers per row and teacher.
        sampling: Sampling parameters of each request. With a `seed` the k-th sample is asked with seed + k.
        messages: record -> the conversation.
        unaskable: record -> why it cannot be asked about ("empty response"), or None.
        read: (record, teacher's model, sample, generation) -> the columns that it changes, or the reason why it is of
            no use.
        numbered: Whether new ids always name teacher and sample; else only where there are several.
        finish: Changes finished records in place, many at once (grading them).
    """

    stage: str
    samples: int
    sampling: Mapping[str, Any]
    messages: Callable[[Record], list[dict[str, str]]]
    unaskable: Callable[[Record], str | None]
    read: Callable[[Record, str, int, Generation], Mapping[str, Any] | str]
    numbered: bool = False
    finish: Callable[[list[Record]], None] = field(default=lambda records: None)


def ask_rows(
    rows: Iterable[Mapping[str, Any]],
    plan: StagePlan,
    teachers: Sequence[Model],
    folder: str | Path,
    *,
    shard: str | None = None,
    progress: Progress | None = None,
) -> StageReport:
    """Asks every teacher about every row and writes the stage's files.

    Args:
        rows: Records (or rows of any layout of `cft_trl.data.records`), gone through several times: a `RowFile`, a
            list or a dataset, no generator.
        plan: What is asked.
        teachers: Who is asked; all of them about every row, at the same time.
        folder: The build's folder. The same folder again asks only what is missing from its journal.
        shard: This part's name where several processes share the folder.
        progress: Called about five times a second while answers come in, and at the end, with the counts by teacher.

    Returns:
        The report: `written + failures.total()` is rows x teachers x samples. `details["teachers"]` holds each one's
        `answers`, `truncated`, `prompt_tokens` and `completion_tokens`, and, where there were any, how many were asked
        for "without temperature", had their "limit cut to the room left" or an unknown finish_reason.
        `details["identities"]` holds what each one is, and `details["fingerprints"]` the answers by
        `system_fingerprint`, where its server gives one.

    Raises:
        CFTError: A row that cannot be read, two rows with one id, another run in this folder, or a teacher that cannot
            go on. Nothing is written then but the journal.
    """
    _check_teachers(plan, teachers)
    with Journal(Path(folder) / "journal", f"{plan.stage}-{shard}" if shard else plan.stage) as journal:
        read = _check_rows(rows)
        counts = {teacher.model: Counts(total=read * plan.samples) for teacher in teachers}
        run_async(_ask(rows, plan, teachers, journal, counts, progress))
        with StageWriter(folder, plan.stage, shard) as out:
            out.report.read = read
            _write(rows, plan, teachers, journal, out)
    return out.report


def records_of(rows: Iterable[Mapping[str, Any]], begin: int = 0) -> Iterator[Record]:
    """The rows as records. Where the response is empty too: that is one row's failure, and not the end of the run.

    Args:
        rows: In a house layout or any other.
        begin: The first one's number, for messages.
    """
    for at, row in enumerate(rows, begin):
        if tuple(row) == COLUMNS:
            yield cast(Record, row)
        elif isinstance(row.get("response"), str) and not row["response"].strip() and row.get("id") is not None:
            yield {**to_record({**row, "response": "-"}, f"row {at}"), "response": ""}
        else:
            yield to_record(row, f"row {at}")


def records_with_lines(rows: Iterable[Mapping[str, Any]]) -> Iterator[tuple[Record, Mapping[str, Any] | str]]:
    """`records_of`, each with what is written of it where it stays as it is; see `stage_files.with_lines`."""
    for at, (row, line) in enumerate(with_lines(rows)):
        record = next(records_of([row], at))
        yield record, line if record is row else record


def _check_teachers(plan: StagePlan, teachers: Sequence[Model]) -> None:
    if not teachers:
        raise CFTError(f"{plan.stage}: no teacher given; name at least one to ask")
    if len({teacher.model for teacher in teachers}) < len(teachers):
        raise CFTError(
            f"{plan.stage}: two teachers have the same model name; the rows of one could not be told from the other's"
        )
    for teacher in teachers:
        if hasattr(teacher, "question") and plan.stage != "critique":
            raise CFTError(f"{plan.stage}: the teacher {teacher.model!r} writes critiques only; name a model")


def _check_rows(rows: Iterable[Mapping[str, Any]]) -> int:
    """Reads all rows once; returns how many there are."""
    import numpy as np

    if iter(rows) is rows:
        raise CFTError("rows: a generator can be read only once; give a list, a dataset or a RowFile")
    names = array("q", (hash(record["id"]) for record in records_of(rows)))  # eight bytes a row, not its text
    ordered = np.sort(np.frombuffer(names, dtype=np.int64)) if names else np.empty(0, np.int64)
    twice = set(ordered[1:][ordered[1:] == ordered[:-1]].tolist())
    seen: set[int] = set()
    for at, record in enumerate(records_of(rows) if twice else ()):
        if (name := hash(record["id"])) in seen:
            raise CFTError(f"row {at}: id {record['id']!r} is an earlier row's too; ids must tell the rows apart")
        seen |= twice & {name}
    return len(names)


def _requests(record: Record, plan: StagePlan, teacher: Model, who: str) -> list[Request]:
    # A teacher that reads the row itself says what of it identifies the answer; the others are shown the messages.
    messages = getattr(teacher, "question", plan.messages)(record)
    return [Request(teacher.model, messages, plan.sampling, sample, record, who) for sample in range(plan.samples)]


@dataclass(frozen=True)
class PrefixOrder:
    """All requests to one teacher, those about the same query next to each other (for a server's prefix cache).

    They are made anew each time they are gone through.
    """

    rows: Iterable[Mapping[str, Any]]
    plan: StagePlan
    teacher: Model
    who: str

    def __iter__(self) -> Iterator[Request]:
        records = records_of(self.rows)
        while some := list(islice(records, _NEIGHBOURS)):
            first: dict[str, int] = {}
            for at, record in enumerate(some):
                first.setdefault(record["query"], at)
            for record in sorted(some, key=lambda record: first[record["query"]]):
                if not self.plan.unaskable(record):
                    yield from _requests(record, self.plan, self.teacher, self.who)


async def _ask(
    rows: Iterable[Mapping[str, Any]],
    plan: StagePlan,
    teachers: Sequence[Model],
    journal: Journal,
    counts: Mapping[str, Counts],
    progress: Progress | None,
) -> None:
    async def fill(teacher: Model) -> None:
        who = key_of(teacher.identity)
        requests, model = PrefixOrder(rows, plan, teacher, who), Journaled(teacher, journal, who)
        async with aclosing(model.ask(requests, counts=counts[teacher.model])) as answers:
            async for _ in answers:
                pass

    async def tell(progress: Progress) -> None:
        while True:
            await asyncio.sleep(_TELL_EVERY_S)
            progress(counts)

    telling = asyncio.create_task(tell(progress)) if progress else None
    try:
        async with asyncio.TaskGroup() as group:
            for teacher in teachers:
                group.create_task(fill(teacher))
    except* CFTError as stopped:
        raise stopped.exceptions[0] from None
    finally:
        if telling and progress:
            telling.cancel()
            with suppress(asyncio.CancelledError):
                await telling
            progress(counts)


def _write(
    rows: Iterable[Mapping[str, Any]], plan: StagePlan, teachers: Sequence[Model], journal: Journal, out: StageWriter
) -> None:
    """The last pass: rows in their order, then teachers in theirs, then samples."""
    several = plan.numbered or len(teachers) * plan.samples > 1
    sums = {t.model: {"answers": 0, "truncated": 0, "prompt_tokens": 0, "completion_tokens": 0} for t in teachers}
    out.report.details["teachers"] = sums
    out.report.details["sampling"] = {**plan.sampling, "samples": plan.samples}
    out.report.details["identities"] = {teacher.model: flat(teacher.identity) for teacher in teachers}
    fingerprints: dict[str, Counter[str]] = {teacher.model: Counter() for teacher in teachers}
    asked = [(Journaled(teacher, journal), teacher, key_of(teacher.identity)) for teacher in teachers]
    waiting: list[Record] = []

    def flush() -> None:
        plan.finish(waiting)
        for row in waiting:
            out.row(row)
        waiting.clear()

    for record in records_of(rows):
        unaskable = plan.unaskable(record)
        for model, teacher, who in asked:
            keys = [None] * plan.samples if unaskable else [r.key for r in _requests(record, plan, teacher, who)]
            for sample, key in enumerate(keys):
                name = f"{record['id']}.{teacher.model}.{sample}" if several else record["id"]
                made = failed(unaskable or "") if key is None else model.get(key) or failed("not asked")
                _count(sums[teacher.model], made)
                if fingerprint := made.fingerprint:
                    seen = fingerprints[teacher.model]
                    known = fingerprint in seen or len(seen) < _MOST_FINGERPRINTS
                    seen[fingerprint if known else "others"] += 1
                found = made.reason or plan.read(record, teacher.model, sample, made)
                if isinstance(found, str):
                    more = {"teacher": teacher.model, "sample": sample, "detail": made.failure or ""}
                    out.failure(name, found, row=record["id"], **more)
                else:
                    waiting.append(cast(Record, {**record, "id": name, **found}))  # `found` has columns of a record
        if len(waiting) >= _CHUNK:
            flush()
    flush()
    if any(fingerprints.values()):
        out.report.details["fingerprints"] = {model: dict(seen) for model, seen in fingerprints.items() if seen}


def _count(sums: dict[str, int], made: Generation) -> None:
    if made.failure is None:
        sums["answers"] += 1
        sums["truncated"] += made.finish_reason == "length"
        sums["prompt_tokens"] += made.prompt_tokens or 0
        sums["completion_tokens"] += made.completion_tokens or 0
        # What was not asked, or not answered, as the settings say; only where there is any.
        found = [f"without {name}" for name in made.without]
        found += ["limit cut to the room left"] if made.limit_cut else []
        found += [] if is_known(made.finish_reason) else [f"finish_reason {made.finish_reason}"]
        for name in found:
            sums[name] = sums.get(name, 0) + 1


def sampling_of(settings: Any) -> dict[str, Any]:
    """The sampling parameters of a stage's settings, as the endpoint is sent them, without those that are null."""
    names = ("temperature", "top_p", "max_tokens", "seed")
    named = {name: value for name in names if (value := getattr(settings, name, None)) is not None}
    return named | {name: value for name, value in settings.extra.items() if value is not None}
