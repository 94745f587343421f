"""What happens to rows longer than `max_length`, and the account of what happened to every row.

    rows 3,230: kept 3,102, shortened 120, dropped 8 (8 longer than 2,048 tokens without any response)

Nothing that a row was dropped for goes uncounted: `rows == kept + shortened + dropped`, always.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

OVER_LENGTH = ("shorten_response", "drop", "error")

KEPT, SHORTENED = "kept", "shortened"


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
        tokens: tokens of all used rows; target_tokens: those with loss.
    """

    name: str = "train"
    kept: int = 0
    shortened: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    without_verdict: int = 0
    right: int = 0
    wrong: int = 0
    disagree: int = 0
    tokens: int = 0
    target_tokens: int = 0

    @property
    def rows(self) -> int:
        return self.used + self.dropped.total()

    @property
    def used(self) -> int:
        return self.kept + self.shortened

    def clear(self) -> None:
        """Forgets all counts, in place."""
        self.__init__(self.name)

    def add_columns(self, columns: Mapping[str, Sequence[Any]]) -> None:
        """Counts the rows of `RowEncoder`'s output by its columns (those without token ids)."""
        names = ("status", "verdict", "length", "target_tokens", "disagrees")
        for status, verdict, length, targets, disagrees in zip(*(columns[name] for name in names), strict=True):
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

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        return {"rows": self.rows, **asdict(self), "dropped": dict(self.dropped)}

    def __str__(self) -> str:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.dropped.most_common())
        text = f"{self.name}: rows {self.rows:,}: kept {self.kept:,}, shortened {self.shortened:,}, "
        text += f"dropped {self.dropped.total():,}" + (f" ({reasons})" if reasons else "")
        if self.right or self.wrong or self.without_verdict:
            text += f"; verdicts: right {self.right:,}, wrong {self.wrong:,}, none {self.without_verdict:,}"
        if self.disagree:
            text += f"; label and critique disagree in {self.disagree:,}"
        return text + f"; tokens {self.tokens:,}, with loss {self.target_tokens:,}"
