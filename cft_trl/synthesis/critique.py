"""The critique stage: m teachers write k critiques of every response.

    counts = critique(records, [Teacher("gpt-4o-2024-11-20")], "out", samples=2)

A row comes in with a query and a response, and goes out once per teacher and sample:

    {"id": "5c0e.gpt-4o-2024-11-20.0", "query": "What is 6 x 7?", "response": "43", "verdict": "wrong",
     "critique": "6 x 7 is 42.\\n\\nConclusion: wrong [END]", "teacher": "gpt-4o-2024-11-20", ...,
     "meta": {"sample": 0, "finish_reason": "stop", "completion_tokens": 24}}

or leaves a line in `failures.jsonl`, with the same id:

    {"id": "5c0e.gpt-4o-2024-11-20.1", "teacher": "gpt-4o-2024-11-20", "sample": 1, "reason": "context length", ...}

It runs in two passes. The first asks, in whatever order answers come, and only fills the journal; the second reads the
records again and writes the output from the journal. So the output is a function of records and answers alone, however
often the first pass was killed, and no answer waits in memory for its turn.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from cft_trl.errors import CFTError
from cft_trl.records import make_record, to_record
from cft_trl.synthesis.client import Counts, Request, Teacher, ask_all
from cft_trl.synthesis.journal import Journal
from cft_trl.synthesis.teacher_prompts import PRESETS, SAMPLING, clean_critique, critique_messages
from cft_trl.verdict import parse_verdict

Record = dict[str, Any]

_NEIGHBOURS = 2048  # among so many rows those with the same query are brought together


@dataclass
class Result(Counts):
    """`Counts`, with the rows of the output: `rows` read, `done` written, `failures` by reason (one line each)."""

    rows: int = 0
    done: int = 0
    failures: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Ask:
    """What is asked about every row."""

    samples: int
    preset: str
    show_reference: bool
    sampling: Mapping[str, Any]
    several: bool


def critique(
    records: Iterable[Mapping[str, Any]],
    teachers: Sequence[Teacher],
    folder: str | Path,
    *,
    samples: int = 1,
    preset: str = "plain",
    show_reference: bool = False,
    sampling: Mapping[str, Any] | None = None,
    shard: str | None = None,
    progress: Callable[[Result], None] | None = None,
) -> Result:
    """Criticises every record's response; writes `critiques.jsonl` and `failures.jsonl` into a folder.

    Args:
        records: Rows with `query` and `response`, in any layout of `cft_trl.records`. They are gone through several
            times: a list or a dataset, no generator.
        teachers: Who is asked; all of them about every response, at the same time.
        folder: Where the output goes, and the journal (`journal/`). The same folder again asks only what is missing.
        samples: Critiques per response and teacher.
        preset: The prompt, "plain" or "boxed".
        show_reference: Whether teachers see the reference answer.
        sampling: Parameters over the published ones (T 0.3, top_p 0.95, 3200 tokens). With a `seed` the k-th sample is
            asked with seed + k.
        shard: This part's name where several processes share a folder; it becomes part of the three files' names.
        progress: Called after each result.

    Returns:
        The counts. `done + sum(failures.values())` is rows x teachers x samples.

    Raises:
        CFTError: A row that cannot be read, two rows with one id, another run in this folder, or an endpoint that
            cannot go on. Nothing is written then but the journal.
    """
    if iter(records) is records:
        raise CFTError("records: a generator can be read only once; give a list or a dataset")
    if samples < 1 or not teachers:
        raise CFTError(f"samples={samples}, {len(teachers)} teachers: give at least one of each")
    if len({teacher.model for teacher in teachers}) < len(teachers):
        raise CFTError("teachers: two have the same model name; the rows of one could not be told from the other's")
    if preset not in PRESETS:
        raise CFTError(f"preset={preset}: unknown; give one of {', '.join(PRESETS)}")
    ask = _Ask(samples, preset, show_reference, {**SAMPLING, **(sampling or {})}, len(teachers) * samples > 1)
    folder, result = Path(folder), Result()
    with Journal(folder / "journal", shard or "main") as journal:
        _check(records, result)
        asyncio.run(_ask_teachers(records, teachers, ask, journal, result, progress))
        suffix = f"-{shard}" if shard else ""
        _write(records, teachers, ask, journal, result, folder, suffix)
    return result


def _check(records: Iterable[Mapping[str, Any]], result: Result) -> None:
    """Reads all rows once, before anything is paid for."""
    seen: set[int] = set()
    for at, record in enumerate(_rows(records)):
        name = hash(record["id"])  # an integer per row, not its text
        if name in seen:
            raise CFTError(f"row {at}: id {record['id']!r} is an earlier row's too; ids must tell the rows apart")
        seen.add(name)
        result.rows += 1


def _rows(records: Iterable[Mapping[str, Any]]) -> Iterator[Record]:
    for at, row in enumerate(records):
        if isinstance(row.get("response"), str) and not row["response"].strip() and row.get("id") is not None:
            yield dict(row)  # becomes a failure with its id; `to_record` would end the run
        else:
            yield to_record(row, f"row {at}")


def _unaskable(record: Record, ask: _Ask) -> str | None:
    if not record["response"].strip():
        return "empty response"
    if ask.show_reference and not (record.get("reference_answer") or "").strip():
        return "no reference answer"
    return None


def _requests(record: Record, teacher: Teacher, ask: _Ask) -> list[Request]:
    messages = critique_messages(record, ask.preset, ask.show_reference)
    return [Request(teacher.model, messages, ask.sampling, sample) for sample in range(ask.samples)]


def _in_prefix_order(records: Iterable[Mapping[str, Any]], teacher: Teacher, ask: _Ask) -> Iterator[Request]:
    """All requests to one teacher, those about the same query next to each other (for a server's prefix cache)."""
    rows = _rows(records)
    while some := list(islice(rows, _NEIGHBOURS)):
        first: dict[str, int] = {}
        for at, record in enumerate(some):
            first.setdefault(record["query"], at)
        for record in sorted(some, key=lambda record: first[record["query"]]):
            if not _unaskable(record, ask):
                yield from _requests(record, teacher, ask)


async def _ask_teachers(
    records: Iterable[Mapping[str, Any]],
    teachers: Sequence[Teacher],
    ask: _Ask,
    journal: Journal,
    result: Result,
    progress: Callable[[Result], None] | None,
) -> None:
    async def fill(teacher: Teacher) -> None:
        requests = _in_prefix_order(records, teacher, ask)
        async with aclosing(ask_all(teacher, requests, journal, counts=result)) as answers:
            async for _ in answers:
                if progress:
                    progress(result)

    try:
        async with asyncio.TaskGroup() as group:
            for teacher in teachers:
                group.create_task(fill(teacher))
    except* CFTError as stopped:
        raise stopped.exceptions[0] from None


def _write(
    records: Iterable[Mapping[str, Any]],
    teachers: Sequence[Teacher],
    ask: _Ask,
    journal: Journal,
    result: Result,
    folder: Path,
    suffix: str,
) -> None:
    """The second pass: rows in the records' order, then teachers', then samples'."""
    names = [folder / f"{name}{suffix}.jsonl" for name in ("critiques", "failures")]
    partial = [path.with_name(f".{path.name}.partial") for path in names]
    try:
        with open(partial[0], "w", encoding="utf-8") as rows, open(partial[1], "w", encoding="utf-8") as failures:
            for record in _rows(records):
                reason = _unaskable(record, ask)
                for teacher in teachers:
                    requests = _requests(record, teacher, ask) if reason is None else [None] * ask.samples
                    for sample, request in enumerate(requests):
                        answer = {"failure": reason} if request is None else journal.get(request.key)
                        _write_one(record, teacher, sample, answer, ask.several, result, rows, failures)
        for temporary, path in zip(partial, names, strict=True):
            os.replace(temporary, path)
    except OSError as error:
        raise CFTError(f"{folder}: cannot be written ({error.strerror}); make room and run it again") from None
    finally:
        for temporary in partial:
            temporary.unlink(missing_ok=True)


def _write_one(
    record: Record,
    teacher: Teacher,
    sample: int,
    answer: Mapping[str, Any] | None,
    several: bool,
    result: Result,
    rows: TextIO,
    failures: TextIO,
) -> None:
    answer = answer or {"failure": "not asked"}
    name = f"{record['id']}.{teacher.model}.{sample}" if several else record["id"]
    text = clean_critique(answer.get("text", ""))
    reason = answer.get("failure") or (None if text else "empty critique")
    if reason:
        result.failures[reason] = result.failures.get(reason, 0) + 1
        line = {"id": name, "row": record["id"], "teacher": teacher.model, "sample": sample, "reason": reason}
        _print(failures, line | {"detail": answer.get("detail", "")})
        return
    meta = {**(record["meta"] or {}), "sample": sample, "finish_reason": answer["finish_reason"]}
    meta["completion_tokens"] = answer.get("completion_tokens")
    if record["verdict"]:
        meta["label"] = record["verdict"]  # what the corpus says of the response; `verdict` is the critique's
    fields = {"id": name, "critique": text, "verdict": parse_verdict(text), "refinement": None}
    _print(rows, make_record(**{**record, **fields, "teacher": teacher.model, "meta": meta}))
    result.done += 1


def _print(file: TextIO, line: Mapping[str, Any]) -> None:
    file.write(json.dumps(line, ensure_ascii=False) + "\n")
