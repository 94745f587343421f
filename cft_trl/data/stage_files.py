"""What every stage of a build reads and leaves: files of rows that are either whole or not there.

    out/stages/critique.jsonl            the rows, one record per line
    out/stages/critique.failures.jsonl   {"id": "5c0e", "row": "5c0e", "stage": "critique", "reason": "429", ...}
    out/stages/critique.json             {"stage": "critique", "read": 2, "written": 1, "failures": {"429": 1}, ...}

A stage reads the rows of the stage before, in their order, as often as it likes, and never holds them all in memory.
Each row it reads becomes one row or one failure (k of them, where it asks for k answers); the report counts both.
The report is written last: a stage with a report is done.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from cft_trl.data.folders import write_text
from cft_trl.data.layouts import Row
from cft_trl.errors import CFTError


class RowFile:
    """A file of JSON lines, read anew each time it is iterated; `len` counts its lines once.

    Raises:
        CFTError: There is no such file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._length: int | None = None
        if not self.path.is_file():
            raise CFTError(f"{self.path}: no such file; the stage that writes it has not run")

    def __iter__(self) -> Iterator[Row]:
        for line in self.lines():
            yield json.loads(line)

    def lines(self) -> Iterator[str]:
        """The rows as they stand in the file, each with its line's end: for a stage that hands them on unread."""
        with open(self.path, encoding="utf-8", errors="surrogatepass", newline="\n") as lines:
            for line in lines:
                yield line if line.endswith("\n") else line + "\n"

    def __len__(self) -> int:
        if self._length is None:
            with open(self.path, "rb") as lines:
                self._length = sum(1 for _ in lines)
        return self._length


def with_lines(rows: Iterable[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any] | str]]:
    """Rows, each with what `StageWriter.row` takes where it stays as it is: its line of a `RowFile`, else itself.

    Example:
        >>> list(with_lines([{"id": "a"}]))
        [({'id': 'a'}, {'id': 'a'})]
    """
    if isinstance(rows, RowFile):
        for line in rows.lines():
            yield json.loads(line), line
    else:
        for row in rows:
            yield row, row


@dataclass
class StageReport:
    """What a stage did: rows `read` and `written`, `failures` by reason, and `details` for the dataset's card."""

    stage: str
    read: int = 0
    written: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    details: dict[str, Any] = field(default_factory=dict)


Progress = Callable[[StageReport], None]


class StageWriter:
    """Writes one stage's files under temporary names; they get their own when the `with` block ends without an error.

    Args:
        folder: The build's folder; the files go to `folder/stages/`.
        stage: The stage's name.
        shard: This part's name where several processes build one dataset ("task-00003"), as a suffix of the files'.

    Attributes:
        report: Counts of what was written; `read` and `details` are the stage's to fill.

    Raises:
        CFTError: The disk is full or the folder cannot be written. Nothing half-written is left.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> with StageWriter(folder, "filter") as out:
        ...     out.row({"id": "a"})
        ...     out.failure("b", "no verdict")
        >>> list(RowFile(stage_path(folder, "filter"))), out.report.failures
        ([{'id': 'a'}], Counter({'no verdict': 1}))
    """

    def __init__(self, folder: str | Path, stage: str, shard: str | None = None) -> None:
        self.report = StageReport(stage)
        self._paths = [stage_path(folder, stage, shard, kind) for kind in ("rows", "failures")]
        self._report_path = stage_path(folder, stage, shard, "report")
        self._partial = [path.with_name(f".{path.name}.partial") for path in self._paths]
        self._files: list[TextIO] = []

    def row(self, record: Mapping[str, Any] | str) -> None:
        """Adds a row.

        Args:
            record: The row, or its line of the stage before where it stays as it is.
        """
        self._print(0, record)
        self.report.written += 1

    def failure(self, name: str, reason: str, **more: Any) -> None:
        """Adds a row's failure.

        Args:
            name: The id that the row would have had.
            reason: A few words, the same for all failures of a kind: they are counted by it.
            **more: What helps to understand this one ("detail", "teacher", "row": the id of the row it came from).
        """
        self._print(1, {"id": name, "row": name, "stage": self.report.stage, "reason": reason, **more})
        self.report.failures[reason] += 1

    def __enter__(self) -> StageWriter:
        try:
            self._paths[0].parent.mkdir(parents=True, exist_ok=True)
            self._report_path.unlink(missing_ok=True)
            for path in self._partial:
                self._files.append(open(path, "w", encoding="utf-8"))
        except OSError as error:
            self._abandon()
            raise self._trouble(error) from None
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if error is not None:
            self._abandon()
            return
        try:
            for file in self._files:
                file.close()
            for partial, path in zip(self._partial, self._paths, strict=True):
                os.replace(partial, path)
            write_text(self._report_path, json.dumps(vars(self.report), indent=1, ensure_ascii=False))
        except OSError as failed:
            self._abandon()
            raise self._trouble(failed) from None

    def _print(self, which: int, line: Mapping[str, Any] | str) -> None:
        try:
            self._files[which].write(line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) + "\n")
        except OSError as error:
            raise self._trouble(error) from None

    def _abandon(self) -> None:
        for file in self._files:
            with suppress(OSError):  # what it still held is not wanted
                file.close()
        for path in self._partial:
            path.unlink(missing_ok=True)

    def _trouble(self, error: OSError) -> CFTError:
        return CFTError(f"{self._paths[0].parent}: cannot be written ({error.strerror}); make room and run it again")


_SUFFIX = {"rows": ".jsonl", "failures": ".failures.jsonl", "report": ".json"}


def stage_path(folder: str | Path, stage: str, shard: str | None = None, kind: str = "rows") -> Path:
    """Where a stage's "rows", "failures" or "report" lie.

    Args:
        folder: The build's.
        stage: Its name.
        shard: The part's name; None for the whole.
        kind: "rows", "failures" or "report".
    """
    return Path(folder) / "stages" / f"{stage}{'-' + shard if shard else ''}{_SUFFIX[kind]}"


def read_report(folder: str | Path, stage: str, shard: str | None = None) -> StageReport | None:
    """A stage's report, or None where the stage is not done.

    Args:
        folder: The build's.
        stage: Its name.
        shard: The part's name; None for the whole.
    """
    try:
        fields = json.loads(stage_path(folder, stage, shard, "report").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return StageReport(**{**fields, "failures": Counter(fields["failures"])})
