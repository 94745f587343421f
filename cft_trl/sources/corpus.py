r"""The source stage: a corpus becomes rows with a query and a response, each corpus by its own columns.

    run_source(SourceSettings("gsm8k", limit=1000, sample="random", seed=7), "out")

reads {"question": "A baker fills 4 trays ...", "answer": "He bakes 4*12=<<4*12=48>>48 rolls. ... #### 18"} and writes

    {"id": "0b6f7c1d9a3e5820", "query": "A baker fills 4 trays ...", "response": "He bakes ... #### 18",
     "reference_answer": "18", "source": "gsm8k", "critique": null, ..., "meta": null}

to `out/stages/source.jsonl`. It is one pass over the corpus, in its order, from the Hub (streaming) or from files with
the corpus' columns. A row is judged in this order, and what fails leaves a line with the reason:

    unreadable row     its values are no texts, or it follows no known layout (corpus: local)
    empty query, empty response
    duplicate id       an earlier row has its id: its own, or that of an equal row
    duplicate query    an earlier row has the same query, but for typing (see fingerprints.py); with `dedup` only, as is
    duplicate critique the same for rows that bring their critiques: query, response and critique are the same

What is left is sampled: the first `limit` rows, or the `limit` rows with the smallest hash of seed and id, which for
any two limits are subsets of each other. Rows not sampled are no failures; the report's details count them.

Several processes (`part`) each go through the whole corpus, decide alike, and write every world-th of the rows kept:
together they write what one would.
"""

from __future__ import annotations

import heapq
import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from hashlib import sha256
from itertools import chain, cycle, islice
from pathlib import Path
from typing import IO, Annotated, Any, Literal, NamedTuple, cast

from cft_trl.data.fingerprints import Seen, fingerprint, normalised
from cft_trl.data.layouts import LAYOUTS, Row
from cft_trl.data.records import COLUMNS, to_record
from cft_trl.data.settings import ROWS, Count, Expected, Listed, Share, Texts, check_settings
from cft_trl.data.stage_files import Progress, StageReport, StageWriter
from cft_trl.errors import CFTError, nearest
from cft_trl.sources import gsm8k, metamath, numinamath, webinstruct
from cft_trl.sources.local import check_mapped, local_record, raw_rows

# name -> the module that says where the corpus is and how its row is read
CORPORA = {"webinstruct": webinstruct, "metamath": metamath, "numinamath": numinamath, "gsm8k": gsm8k}
Corpus = Literal["local", "webinstruct", "metamath", "numinamath", "gsm8k", "arithmetic", "code_review", "rubric"]

_ONLY_LOCAL = ("columns", "append_verdict")
_ONLY_ARITHMETIC = ("levels", "kinds")
_MADE = ("arithmetic", "code_review", "rubric")  # on the spot: nothing is read, and there is no end
# So many unreadable rows at the beginning say that the file is not what the recipe takes it for.
_HOPELESS = 20
_PEEK = 100  # a column may be missing in some rows of a ragged file


@dataclass(frozen=True)
class SourceSettings:
    """The section `source` of a recipe.

    Attributes:
        corpus: "webinstruct", "metamath", "numinamath", "gsm8k", "arithmetic", "code_review", "rubric" (made on
            the spot, no download) or "local" (any layout that `cft_trl.data.records` reads).
        path: A file, glob, folder or Hub id with the corpus' columns; by default the corpus' own Hub id. "local" needs
            one.
        name: The configuration of a Hub dataset.
        revision: The Hub revision.
        split: Which split ("train", "validation" or "test" of what is made on the spot).
        columns: "local" only: {record's column: source's column}, as `load_local`.
        append_verdict: "local" only: end critiques that state no verdict with the row's own.
        without_response: A row without a response: "fail", or "keep" where the respond stage is to write one; by
            default whichever `respond.answers` makes of it.
        limit: How many rows are written at most; `None` for all. What is made on the
            spot has no end and needs one.
        sample: "first" (in the corpus' order) or "random" (seeded; one pass, memory for the ids of `limit` rows).
        seed: Of the sampling, and of what is made on the spot.
        dedup: Whether a query is kept once; rows that bring critiques count as equal with response and critique only.
        levels, kinds: "arithmetic" only, see `arithmetic_records`; by default all levels, all kinds.
        right_ratio: "arithmetic" and "code_review" only: the share of right responses; by default 0.5.

    Raises:
        CFTError: A value that is out of range, or that this corpus would ignore.

    Example:
        >>> SourceSettings("gsm9k")
        Traceback (most recent call last):
        cft_trl.errors.CFTError: source.corpus='gsm9k': unknown (did you mean 'gsm8k'?); give one of local, ...
    """

    corpus: Corpus = "local"
    path: str | None = None
    name: str | None = None
    revision: str | None = None
    split: str = "train"
    columns: Annotated[Mapping[str, str], Expected("{record's column: source's column}")] = field(default_factory=dict)
    append_verdict: bool = False
    without_response: Literal["fail", "keep"] | None = None
    limit: Annotated[Count | None, Expected(ROWS)] = None
    sample: Literal["first", "random"] = "first"
    seed: int = 0
    dedup: bool = True
    levels: Annotated[tuple[int, ...], Listed()] | None = None
    kinds: Texts | None = None
    right_ratio: Share | None = None

    def __post_init__(self) -> None:
        check_settings(self, "source")
        for column in self.columns:
            if column not in COLUMNS:
                raise CFTError(f"source.columns: a record has no column {column!r}{nearest(column, COLUMNS)}")
        self._check_meant_for_this_corpus()

    def _check_meant_for_this_corpus(self) -> None:
        for keys, owner in ((_ONLY_LOCAL, "local"), (_ONLY_ARITHMETIC, "arithmetic")):
            for key in keys:
                if getattr(self, key) and self.corpus != owner:
                    raise CFTError(f"source.{key}: only corpus {owner} has it; leave it out for {self.corpus}")
        if self.right_ratio and self.corpus not in ("arithmetic", "code_review"):
            raise CFTError(
                f"source.right_ratio: only corpora arithmetic and code_review have it; leave it out for {self.corpus}"
            )
        for key in ("path", "name", "revision"):
            if getattr(self, key) and self.corpus in _MADE:
                raise CFTError(f"source.{key}: corpus {self.corpus} is made on the spot; leave it out")


def run_source(
    settings: SourceSettings,
    folder: str | Path,
    *,
    shard: str | None = None,
    part: tuple[int, int] = (0, 1),
    progress: Progress | None = None,
) -> StageReport:
    """Reads a corpus and writes its rows.

    Args:
        settings: The recipe's section.
        folder: The build's folder; see `cft_trl.data.stage_files`.
        shard: This part's name in the files' names.
        part: (rank, world): of every world rows kept, and of every world others, this process writes the rank-th.
            Limit, sampling and duplicates are decided over the whole corpus.
        progress: Called with the report so far after every row of this part.

    Returns:
        The report; `read` is `written` plus all failures. Its details hold "rows seen" and "not sampled" (of this
        part), "with reference answer", and where the rows came from.

    Raises:
        CFTError: Nothing there, no rows, columns missing, or nothing but unreadable rows.

    Example:
        >>> import tempfile
        >>> report = run_source(SourceSettings("arithmetic", limit=3, levels=(1,)), tempfile.mkdtemp())
        >>> report.read, report.written, report.details["with reference answer"]
        (3, 3, 3)
    """
    rank, world = part
    if not 0 <= rank < world:
        raise CFTError(f"part={part}: give (rank, world) with 0 <= rank < world")
    with StageWriter(folder, "source", shard) as out:
        report = out.report
        given = {key.name: getattr(settings, key.name) for key in fields(settings)}
        report.details |= {key: value for key, value in given.items() if value not in (None, {}) and value is not False}
        report.details |= dict.fromkeys(("rows seen", "not sampled", "with reference answer"), 0)
        turns = (cycle(range(world)), cycle(range(world)))
        for row in _sampled(_judged(settings), settings, Path(folder) / "stages"):
            # Dealt out in turn, kept rows and others apart: duplicates may come in step with the processes.
            if next(turns[row.reason is None]) != rank:
                continue
            report.details["rows seen"] += 1
            if row.reason is None:
                out.row(row.record)
                report.details["with reference answer"] += bool(row.record["reference_answer"])
            elif row.reason == _NOT_SAMPLED:
                report.details["not sampled"] += 1
            else:
                out.failure(row.record["id"], row.reason, detail=row.detail)
            report.read = report.written + report.failures.total()
            if progress:
                progress(report)
    return report


class _Screened(NamedTuple):
    """A row of the corpus at position `at`; with a reason, only its record's id counts."""

    at: int
    record: Row
    reason: str | None = None
    detail: str = ""


_NOT_SAMPLED = "not sampled"


def _sampled(rows: Iterator[_Screened], settings: SourceSettings, folder: Path) -> Iterator[_Screened]:
    """The rows up to the limit; for a random sample all rows, those not sampled with that reason."""
    if settings.limit is None:
        yield from rows
    elif settings.sample == "random" and settings.corpus not in _MADE:
        # It has no name, so nothing is left of it, whatever ends the process.
        scratch = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed below, where its errors are not wanted)
        try:
            yield from _random_sample(rows, settings.limit, settings.seed, scratch)
        except OSError as error:
            raise CFTError(f"{folder}: the sampled rows cannot be kept ({error.strerror}); make room") from None
        finally:
            with suppress(OSError):  # what it still held is not wanted
                scratch.close()
    else:
        left = settings.limit
        for row in rows:
            yield row
            left -= row.reason is None
            if not left:
                return


def _random_sample(rows: Iterator[_Screened], limit: int, seed: int, scratch: IO[bytes]) -> Iterator[_Screened]:
    """Every row that is among the best so far goes to the scratch file: in the end about limit x ln(rows / limit)."""
    best: list[tuple[int, int]] = []  # (-hash, -position), the worst first
    for row in rows:
        if row.reason is not None:
            yield row
            continue
        order = (-fingerprint(seed, row.record["id"]), -row.at)
        if len(best) == limit and order <= best[0]:
            yield row._replace(reason=_NOT_SAMPLED)
            continue
        (heapq.heappush if len(best) < limit else heapq.heapreplace)(best, order)
        scratch.write(json.dumps([row.at, row.record]).encode() + b"\n")
    chosen = {-at for _, at in best}
    scratch.seek(0)
    for line in scratch:
        at, record = json.loads(line)
        yield _Screened(at, record, None if at in chosen else _NOT_SAMPLED)


def _judged(settings: SourceSettings) -> Iterator[_Screened]:
    """Every row of the corpus as a record, or with the reason why it is none."""
    if settings.corpus in _MADE:
        yield from (_Screened(at, record) for at, record in enumerate(_made(settings)))
        return
    ids, texts = Seen(), Seen()
    unreadable, kept, at = "", 0, -1
    for at, (row, where) in enumerate(_raw(settings)):
        try:
            record, reason = _read(row, where, settings)
            detail = where
        except CFTError as error:
            record, reason, detail = {}, "unreadable row", str(error)
            unreadable = unreadable or detail
            if not kept and at + 1 >= _HOPELESS:
                break
        record.setdefault("id", f"{settings.corpus}#{at}")
        if not ids.add(fingerprint(record["id"])):
            record["id"], reason = f"{record['id']}#{at}", reason or "duplicate id"
        if reason is None and settings.dedup and not texts.add(_text(record)):
            reason = "duplicate critique" if record["critique"] else "duplicate query"
        kept += reason is None
        yield _Screened(at, record, reason, detail)
    if at < 0:
        raise CFTError(f"{_path(settings)}: it holds no rows")
    if unreadable and not kept:
        raise CFTError(unreadable)


def _text(record: Row) -> int:
    """What may not come twice: a query; of a row that brings its critique, all three texts."""
    names = ("query", "response", "critique") if record["critique"] else ("query",)
    return fingerprint(*(normalised(record[name] or "") for name in names))


def _path(settings: SourceSettings) -> str:
    if settings.path is None and settings.corpus == "local":
        raise CFTError("source.path: corpus local needs one; give a file, glob, folder or Hub id")
    return settings.path or CORPORA[settings.corpus].HUB_ID


def _raw(settings: SourceSettings) -> Iterator[tuple[Any, str]]:
    path, name = _path(settings), settings.name
    if settings.corpus in CORPORA and not Path(path).expanduser().exists():
        name = name or CORPORA[settings.corpus].CONFIG
    rows = raw_rows(path, split=settings.split, name=name, revision=settings.revision)
    first = list(islice(rows, _PEEK))
    if first:
        _check_columns([row for row, _ in first], first[0][1], settings)
    return chain(first, rows)


def _check_columns(rows: list[Any], where: str, settings: SourceSettings) -> None:
    """The first rows show whether this is the corpus at all."""
    found = dict.fromkeys(column for row in rows if isinstance(row, Mapping) for column in row)
    if not found:
        raise CFTError(f"{where}: expected an object with columns, got {type(rows[0]).__name__}")
    if settings.corpus == "local":
        check_mapped(settings.columns, found, where)
        return
    for column in CORPORA[settings.corpus].COLUMNS:
        if column not in found:
            raise CFTError(
                f"{where}: corpus {settings.corpus} has a column {column!r}, this has not{nearest(column, found)}; "
                f"found {', '.join(found)}; other columns are read with corpus: local and columns"
            )


def _read(row: Any, where: str, settings: SourceSettings) -> tuple[Row, str | None]:
    """A row as a record, and why it is not used (then it may hold its id only). Its response may be None."""
    if not isinstance(row, Mapping):
        raise CFTError(f"{where}: expected an object with columns, got {type(row).__name__}")
    if settings.corpus == "local":
        names = {column: settings.columns.get(column, column) for column in ("id", "query", "response")}
        own_id = row.get(names["id"])
        if _blank(own_id):
            own_id, row = None, {**row, names["id"]: None}
    else:
        names, row = {"query": "query", "response": "response"}, _named(row, settings.corpus)
        own_id = row["id"]
    known = {} if own_id is None else {"id": str(own_id)}
    if names["query"] in row and _blank(row[names["query"]]):
        return known, "empty query"
    without = _blank(row.get(names["response"])) and (names["response"] in row or settings.without_response == "keep")
    if without and settings.without_response != "keep":
        return known, "empty response"
    if without and names["query"] not in row and not any(set(needed) <= set(row) for needed in LAYOUTS.values()):
        found = [column for column in row if column != names["id"] or own_id is not None]
        raise CFTError(
            f"{where}: no column {names['query']!r} with the question; found {', '.join(map(str, found)) or 'none'}; "
            "name it, as in source.columns: {query: question}"
        )
    if without:
        row = {**row, names["response"]: _NO_RESPONSE}
    if settings.corpus == "local":
        read = local_record(row, where, columns=settings.columns, append_verdict=settings.append_verdict)
        record = cast(Row, read)
        record["source"] = record["source"] or "local"
    else:
        record = cast(Row, to_record(row, where))
    if without and record["response"] == _NO_RESPONSE:
        record["response"] = None
    return record, None


# Stands for the missing response while a row is read: no layout can be told without one.
_NO_RESPONSE = "(no response)"


def _blank(text: Any) -> bool:
    return text is None or (isinstance(text, str) and not text.strip())


def _named(row: Mapping[str, Any], corpus: str) -> Row:
    """A row of a named corpus under a record's columns."""
    module = CORPORA[corpus]
    texts = module.read({**dict.fromkeys(module.COLUMNS), **row})
    identity = json.dumps([corpus, texts["query"], texts["response"]], default=str)
    meta = {key: value for key, value in row.items() if key not in module.TEXTS and value is not None}
    return {"id": sha256(identity.encode()).hexdigest()[:16], **texts, "source": corpus, "meta": meta or None}


def _made(settings: SourceSettings) -> Iterator[Row]:
    from cft_trl.sources.arithmetic import arithmetic_records
    from cft_trl.sources.domains.code_review import code_review_records
    from cft_trl.sources.domains.rubric import rubric_records

    if settings.limit is None:
        raise CFTError(f"source.limit: corpus {settings.corpus} has no end; give a number of rows")
    if settings.corpus != "arithmetic":
        made = rubric_records(settings.limit, seed=settings.seed, split=settings.split)
        if settings.corpus == "code_review":
            share = 0.5 if settings.right_ratio is None else settings.right_ratio
            made = code_review_records(settings.limit, seed=settings.seed, split=settings.split, right_ratio=share)
        yield from (cast(Row, record) for record in made)
        return
    given = {"levels": settings.levels, "right_ratio": settings.right_ratio, "kinds": settings.kinds}
    options: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    # Its refinement would be the answer to what the refine stage asks; its steps are the reference teacher's.
    options |= {"with_critiques": False, "with_refinements": False}
    for row in arithmetic_records(settings.limit, seed=settings.seed, split=settings.split, **options):
        yield cast(Row, row)
