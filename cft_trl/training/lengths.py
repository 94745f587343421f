"""What happens to rows longer than `max_length`, and the account of what happened to every row.

    rows 3,230: kept 3,102, shortened 120, dropped 8 (8 longer than 2,048 tokens without any response)

Nothing that a row was dropped for goes uncounted: `rows == kept + shortened + dropped`, always.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

OVER_LENGTH = ("shorten_response", "drop", "error")

KEPT, SHORTENED = "kept", "shortened"
REWRITTEN = "the chat template rewrites its target"
_NAMED = 10  # rows that are named, of those whose target the chat template changes


@dataclass
class PreparationReport:
    """What became of each row of a dataset on its way to token ids.

    Attributes:
        name: the dataset's name (`train`, `eval`, ...).
        kept: rows used as they are.
        shortened: rows used with a response that lost its tail; their critiques are whole.
        dropped: reason -> number of rows not used.
        without_verdict: used rows whose critique states no verdict (objective `cft`).
        right, wrong: used rows by the verdict their critique states.
        disagree: used rows whose label (column `verdict`) is not what their critique states.
        trimmed: used rows whose target lost white space at its ends to the chat template.
        altered: "trimmed" and "rewritten" -> ids of the first rows whose target the chat template changes so.
        ends: id of the token that ends an answer, with loss -> number of used rows.
        tokens: tokens of all used rows; target_tokens: those with loss.
        repeats: how many more rows an epoch has, which are used rows once more (mixtures that repeat their smaller
            parts); their tokens are counted, everything else is of rows as they are in the data.
    """

    name: str = "train"
    kept: int = 0
    shortened: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    without_verdict: int = 0
    right: int = 0
    wrong: int = 0
    disagree: int = 0
    trimmed: int = 0
    altered: dict[str, list[str]] = field(default_factory=dict)
    ends: Counter[int] = field(default_factory=Counter)
    tokens: int = 0
    target_tokens: int = 0
    repeats: int = 0

    @property
    def rows(self) -> int:
        return self.used + self.dropped.total()

    @property
    def used(self) -> int:
        return self.kept + self.shortened

    def clear(self) -> None:
        """Forgets all counts, in place."""
        vars(self).update(vars(type(self)(self.name)))

    def add_columns(self, columns: Mapping[str, Sequence[Any]]) -> None:
        """Counts the rows of `RowEncoder`'s output by its columns (those without token ids)."""
        names = ("status", "verdict", "length", "target_tokens", "disagrees", "end", "altered")
        for status, verdict, length, targets, disagrees, end, altered in zip(
            *(columns[name] for name in names), strict=True
        ):
            if altered:
                named = self.altered.setdefault("rewritten" if status == REWRITTEN else "trimmed", [])
                named += [altered] if len(named) < _NAMED else []
            if status == KEPT:
                self.kept += 1
            elif status == SHORTENED:
                self.shortened += 1
            else:
                self.dropped[status] += 1
                continue
            self.right += verdict == "right"
            self.wrong += verdict == "wrong"
            self.without_verdict += verdict == "none"
            self.tokens += length
            self.target_tokens += targets
            self.disagree += disagrees
            self.trimmed += bool(altered)
            self.ends[end] += 1

    def add_repeats(self, columns: Mapping[str, Sequence[Any]]) -> None:
        """Counts used rows that an epoch has once more, by the columns that `add_columns` takes."""
        self.repeats += len(columns["length"])
        self.tokens += sum(columns["length"])
        self.target_tokens += sum(columns["target_tokens"])

    def add_report(self, other: PreparationReport) -> None:
        """Adds the counts of other rows."""
        for one in fields(self):
            mine, theirs = getattr(self, one.name), getattr(other, one.name)
            if isinstance(mine, Counter | int):
                setattr(self, one.name, mine + theirs)
        for how, names in other.altered.items():
            self.altered[how] = [*self.altered.get(how, []), *names][:_NAMED]

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, as JSON has them."""
        ends = {str(end): count for end, count in self.ends.items()}
        return {"rows": self.rows, **asdict(self), "dropped": dict(self.dropped), "ends": ends}

    def take_over(self, told: Mapping[str, Any]) -> None:
        """Takes the numbers that `to_dict` gave, as JSON has them."""
        for one in fields(self):
            if one.name in told:
                value, mine = told[one.name], getattr(self, one.name)
                setattr(self, one.name, type(mine)(value) if isinstance(mine, dict) else value)
        self.ends = Counter({int(end): count for end, count in self.ends.items()})

    def __str__(self) -> str:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.dropped.most_common())
        text = f"{self.name}: rows {self.rows:,}: kept {self.kept:,}, shortened {self.shortened:,}, "
        text += f"dropped {self.dropped.total():,}" + (f" ({reasons})" if reasons else "")
        if self.right or self.wrong or self.without_verdict:
            text += f"; verdicts: right {self.right:,}, wrong {self.wrong:,}, none {self.without_verdict:,}"
        if self.disagree:
            text += f"; label and critique disagree in {self.disagree:,}"
        if self.trimmed:
            text += f"; the chat template trims {self.trimmed:,} targets ({self._named('trimmed', self.trimmed)})"
        if "rewritten" in self.altered:
            text += f"; rewritten by it: {self._named('rewritten', self.dropped[REWRITTEN])}"
        if self.repeats:
            text += f"; repeated to {self.used + self.repeats:,}"
        return text + f"; tokens {self.tokens:,}, with loss {self.target_tokens:,}"

    def _named(self, how: str, count: int) -> str:
        names = self.altered[how]
        return ", ".join(names) + (", ..." if count > len(names) else "")
