"""What a build shows while it runs: a table on a terminal, a line every ten seconds elsewhere.

     stage     done            left out  in flight  tokens/s  cost    left
     source    20,000 / 20,000       12
     critique   4,310 / 20,000        3        128     9,412  $18.20  0:12:40

    cft: critique: 4,310 of 20,000 done, 3 failed, 128 in flight, 9,412 tokens/s, $18.20, 0:12:40 left

A stage is told of by what it passes to its `progress`: the counts by teacher while it asks, else its report so far.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, TextIO

from cft_trl.data.stage_files import StageReport
from cft_trl.generation.types import Counts
from cft_trl.synthesis.prices import Prices, dollars, total

_LINE_EVERY_S = 10.0
_WINDOW_S = 30.0  # rates are those of the last half minute


@dataclass
class StageProgress:
    """How far one stage is.

    Attributes:
        done: Rows, or requests, that are through, the failed ones among them.
        work: Of those, what was done now and not found in a journal; the time left is reckoned with it.
    """

    stage: str
    total: int | None = None
    done: int = 0
    failed: int = 0
    work: int = 0
    tokens: int = 0
    in_flight: int | None = None
    cost: float | None = 0.0
    note: str = ""
    began: float = field(default_factory=time.monotonic)
    _history: deque[tuple[float, int, int]] = field(default_factory=deque)

    def update(self, now: float) -> None:
        """Keeps this moment, for the rates."""
        if not self._history or now - self._history[-1][0] >= 1.0:
            self._history.append((now, self.work, self.tokens))
        while len(self._history) > 2 and now - self._history[0][0] > _WINDOW_S:
            self._history.popleft()

    def rates(self, now: float) -> tuple[float, float]:
        """Rows and tokens a second, lately."""
        if not self._history or now - self._history[0][0] < 1.0:
            return 0.0, 0.0
        then, work, tokens = self._history[0]
        return (self.work - work) / (now - then), (self.tokens - tokens) / (now - then)

    def left(self, now: float) -> float | None:
        """Seconds to the end, or None where that cannot be said."""
        rate, _ = self.rates(now)
        return None if self.total is None or not rate else max(0, self.total - self.done) / rate


class Live:
    """Shows the stages of a build on a stream while the `with` block runs.

    Args:
        prices: For the cost.
        teachers: Model, as the counts name it -> teacher, as the recipe does ("openai:gpt-4o").
        batch: Whether the Batch API's prices hold.
        stream: Where to; standard error by default.
        plain: Lines also on a terminal, for stages that draw their own bar.

    Example:
        >>> import io
        >>> told = io.StringIO()
        >>> with Live(Prices("2025-08-15", {}), stream=told) as live:
        ...     live.begin("filter", 3)
        ...     live.end(StageReport("filter", read=3, written=2))
        >>> told.getvalue()
        'cft: filter: 3 rows in, 2 out (0:00:00)\\n'
    """

    def __init__(
        self,
        prices: Prices,
        teachers: Mapping[str, str] | None = None,
        batch: bool = False,
        stream: TextIO | None = None,
        plain: bool = False,
    ) -> None:
        self._prices, self._teachers, self._batch = prices, teachers or {}, batch
        self._stream = sys.stderr if stream is None else stream
        self._plain = plain or not self._stream.isatty()
        self._stages: list[StageProgress] = []
        self._table: Any = None
        self._told = 0.0

    def __enter__(self) -> Live:
        if not self._plain:
            from rich.console import Console
            from rich.live import Live as Table

            console = Console(file=self._stream)
            self._table = Table(get_renderable=self._render, console=console, refresh_per_second=2)
            self._table.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._table is not None:
            self._table.stop()

    def begin(self, stage: str, total: int | None) -> None:
        """A stage begins, on so many rows (None where nobody knows)."""
        self._stages.append(StageProgress(stage, total))
        self._told = time.monotonic()

    def update(self, state: Mapping[str, Counts] | StageReport) -> None:
        """How far it is; given to the stage as its `progress`."""
        now = time.monotonic()
        stage = self._stages[-1]
        if isinstance(state, StageReport):
            stage.done = stage.work = state.read
            if now - self._told < _LINE_EVERY_S and now - stage.began < _LINE_EVERY_S:
                return  # called for every row: the sum below is for what is shown
            stage.failed = state.failures.total()
        else:
            self._count(stage, state)
        stage.update(now)
        if self._table is None and now - self._told >= _LINE_EVERY_S:
            self._told = now
            self._print(_line(stage, now))

    def end(self, report: StageReport) -> None:
        """A stage is done."""
        stage = self._stages[-1]
        stage.done, stage.failed, stage.in_flight = report.read, report.failures.total(), None
        stage.total, stage.note = report.read, f"{report.written:,} out"
        if self._table is None:
            took = _clock(time.monotonic() - stage.began)
            failed = f", {stage.failed:,} left out or failed" if stage.failed else ""
            self._print(f"{stage.stage}: {report.read:,} rows in, {report.written:,} out{failed} ({took})")

    def kept(self, stage: str, report: StageReport) -> None:
        """A stage was done before, with the same settings and the same rows."""
        self._stages.append(StageProgress(stage, report.read, report.read, report.failures.total(), note="kept"))
        if self._table is None:
            self._print(f"{stage}: done before, {report.written:,} rows kept")

    def _count(self, stage: StageProgress, counts: Mapping[str, Counts]) -> None:
        every = counts.values()
        new = sum(count.answered + count.failed.total() for count in every)
        stage.failed = sum(count.failed.total() for count in every)
        stage.work, stage.done = new, new + sum(count.from_journal for count in every)
        stage.total = sum(count.total for count in every) or None
        stage.tokens = sum(count.completion_tokens for count in every)
        stage.in_flight = sum(count.in_flight for count in every)
        until = max((count.paused_until for count in every), default=0.0)
        waits = until > time.time()
        stage.note = time.strftime("waits until %H:%M", time.localtime(until)) if waits else ""
        stage.cost = total(
            self._prices.cost(
                self._teachers.get(model, "openai:" + model), count.prompt_tokens, count.completion_tokens, self._batch
            )
            for model, count in counts.items()
        )

    def _print(self, line: str) -> None:
        print(f"cft: {line}", file=self._stream, flush=True)

    def _render(self) -> Any:
        """The table, as the terminal is to show it now; called twice a second from rich's own thread."""
        from rich.table import Table

        table = Table(box=None, pad_edge=False)
        for name in ("stage", "done", "left out", "in flight", "tokens/s", "cost", "left"):
            table.add_column(name, justify="left" if name == "stage" else "right")
        now = time.monotonic()
        for stage in list(self._stages):
            of = f" / {stage.total:,}" if stage.total is not None else ""
            asks = stage.in_flight is not None
            left = stage.left(now)
            table.add_row(
                stage.stage,
                f"{stage.done:,}{of}",
                f"{stage.failed:,}",
                f"{stage.in_flight:,}" if asks else "",
                f"{stage.rates(now)[1]:,.0f}" if asks else "",
                dollars(stage.cost) if asks or stage.tokens else "",
                stage.note or (_clock(left) if left is not None else ""),
            )
        return table


def _line(stage: StageProgress, now: float) -> str:
    of = f" of {stage.total:,}" if stage.total is not None else ""
    parts = [f"{stage.stage}: {stage.done:,}{of} done", f"{stage.failed:,} failed"]
    if stage.in_flight is not None:
        parts += [f"{stage.in_flight:,} in flight", f"{stage.rates(now)[1]:,.0f} tokens/s", dollars(stage.cost)]
    if (left := stage.left(now)) is not None:
        parts.append(f"{_clock(left)} left")
    if stage.note:
        parts.append(stage.note)
    return ", ".join(parts)


def _clock(seconds: float) -> str:
    """Hours, minutes, seconds.

    Example:
        >>> _clock(3725.4)
        '1:02:05'
    """
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
