"""What a published dataset is, in numbers: counted while its rows stream by, exact, in memory that does not grow.

    {"rows": 3, "verdicts": {"right": 1, "wrong": 2, "none": 0},
     "characters": {"critique": {"rows": 3, "min": 120, "median": 340, "p90": 610, "max": 610, "mean": 356.7}, ...},
     "configs": {"gsm8k__gpt-4o": {"source": "gsm8k", "teacher": "gpt-4o", "rows": 3, "verdicts": {...},
                                   "completion_tokens": 812}}}

Lengths are kept as "how many rows have this length", so percentiles are exact and memory grows with the number of
different lengths, not of rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cft_trl.plots import BLUE, GREY, ORANGE, subplots, write_figure

TEXTS = ("query", "response", "critique", "refinement")
VERDICTS = ("right", "wrong", "none")

_MOST_BARS = 12  # a chart with more is not read


@dataclass
class Lengths:
    """The lengths of one column's texts: `counts` maps a length to the number of rows that have it.

    Example:
        >>> lengths = Lengths()
        >>> for text in ("aa", "aaaa", "aaaaaa"):
        ...     lengths.add(text)
        >>> lengths.percentile(0.5), lengths.summary()["mean"]
        (4, 4.0)
    """

    counts: Counter[int] = field(default_factory=Counter)

    def add(self, text: str) -> None:
        self.counts[len(text)] += 1

    def percentile(self, share: float) -> int:
        """The smallest length that at least this share of the texts does not exceed; there must be a text."""
        wanted, passed = share * self.counts.total(), 0
        for length in sorted(self.counts):
            passed += self.counts[length]
            if passed >= wanted:
                break
        return length

    def summary(self) -> dict[str, Any]:
        """Rows with such a text, and the shortest, percentiles, longest and mean length in characters."""
        rows = self.counts.total()
        if not rows:
            return {"rows": 0}
        return {
            "rows": rows,
            "min": min(self.counts),
            "p10": self.percentile(0.1),
            "median": self.percentile(0.5),
            "p90": self.percentile(0.9),
            "p99": self.percentile(0.99),
            "max": max(self.counts),
            "mean": round(sum(length * count for length, count in self.counts.items()) / rows, 1),
        }


@dataclass
class Group:
    """The rows of one configuration: one source, one teacher."""

    source: str | None
    teacher: str | None
    rows: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    completion_tokens: int = 0
    rows_with_tokens: int = 0

    def to_dict(self) -> dict[str, Any]:
        """As JSON; tokens only where every row's are known, for a part would pass for the whole."""
        known = self.rows and self.rows_with_tokens == self.rows
        tokens = {"completion_tokens": self.completion_tokens} if known else {}
        return {
            "source": self.source,
            "teacher": self.teacher,
            "rows": self.rows,
            "verdicts": by_verdict(self.verdicts),
            **tokens,
        }


class Statistics:
    """Counts rows.

    Example:
        >>> from cft_trl.data.records import make_record
        >>> statistics = Statistics()
        >>> row = make_record(query="6 x 7?", response="43", critique="Conclusion: wrong", teacher="t", source="s")
        >>> statistics.add(row, "s__t")
        >>> statistics.to_dict()["configs"]["s__t"]["verdicts"]
        {'right': 0, 'wrong': 1, 'none': 0}
    """

    def __init__(self) -> None:
        self.rows = 0
        self.verdicts: Counter[str] = Counter()
        self.lengths = {name: Lengths() for name in TEXTS}
        self.groups: dict[str, Group] = {}

    def add(self, record: Mapping[str, Any], config: str) -> None:
        """Counts a row of a configuration."""
        verdict = record["verdict"] or "none"
        group = self.groups.setdefault(config, Group(record["source"], record["teacher"]))
        for counts in (self.verdicts, group.verdicts):
            counts[verdict] += 1
        for name, lengths in self.lengths.items():
            if record[name]:
                lengths.add(record[name])
        tokens = (record["meta"] or {}).get("completion_tokens")
        if isinstance(tokens, int):
            group.completion_tokens += tokens
            group.rows_with_tokens += 1
        group.rows += 1
        self.rows += 1

    def to_dict(self) -> dict[str, Any]:
        """Everything counted, as JSON; columns without a text are left out."""
        return {
            "rows": self.rows,
            "verdicts": by_verdict(self.verdicts),
            "characters": {name: lengths.summary() for name, lengths in self.lengths.items() if lengths.counts},
            "configs": {name: self.groups[name].to_dict() for name in sorted(self.groups)},
        }


def by_verdict(counts: Mapping[str, int]) -> dict[str, int]:
    """Counts of right, wrong and none, all three and in this order."""
    return {verdict: counts.get(verdict, 0) for verdict in VERDICTS}


def size_category(rows: int) -> str:
    """The Hub's size category.

    Example:
        >>> [size_category(rows) for rows in (999, 1_000, 50_000, 2_000_000)]
        ['n<1K', '1K<n<10K', '10K<n<100K', '1M<n<10M']
    """
    if rows < 1_000:
        return "n<1K"
    bounds = ["1K", "10K", "100K", "1M", "10M", "100M", "1B"]
    at = min(len(str(rows)) - 4, len(bounds) - 2)
    return f"{bounds[at]}<n<{bounds[at + 1]}"


def plot_statistics(statistics: Statistics, path: Path) -> bool:
    """Draws verdicts per configuration and the lengths of solutions and critiques into a PNG.

    Returns:
        False, and nothing is drawn, where matplotlib is not installed.
    """
    if (plots := subplots(2, (11, 4))) is None:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    figure, (left, right) = plots
    _verdict_bars(left, statistics)
    lengths = statistics.lengths
    shown = [(name, colour) for name, colour in (("response", GREY), ("critique", BLUE)) if lengths[name].counts]
    # The longest percent would squeeze the rest.
    top = max((lengths[name].percentile(0.99) for name, _ in shown), default=1)
    for name, colour in shown:
        _length_histogram(right, lengths[name], top, name, colour)
    right.set(title="Lengths", xlabel="characters", ylabel="share of rows")
    right.grid(alpha=0.25)
    if right.has_data():
        right.legend(frameon=False)
    write_figure(figure, path)
    return True


def _verdict_bars(axes: Any, statistics: Statistics) -> None:
    groups = sorted(statistics.groups.items(), key=lambda item: -item[1].rows)
    shown = groups[:_MOST_BARS]
    names = [name for name, _ in shown]
    start = [0] * len(shown)
    for verdict, colour in zip(VERDICTS, (BLUE, ORANGE, GREY), strict=True):
        counts = [group.verdicts[verdict] for _, group in shown]
        if any(counts):
            axes.barh(names, counts, left=start, color=colour, label=verdict)
        start = [before + count for before, count in zip(start, counts, strict=True)]
    axes.invert_yaxis()
    rest = f" (the largest {_MOST_BARS} of {len(groups)})" if len(groups) > _MOST_BARS else ""
    axes.set(title=f"Verdicts{rest}", xlabel="rows")
    axes.legend(frameon=False, ncols=len(VERDICTS), loc="lower right", bbox_to_anchor=(1, -0.22))


def _length_histogram(axes: Any, lengths: Lengths, top: int, name: str, colour: str) -> None:
    rows = lengths.counts.total()
    shares = [count / rows for count in lengths.counts.values()]
    axes.hist(list(lengths.counts), bins=40, range=(0, top), weights=shares, histtype="step", color=colour, label=name)
