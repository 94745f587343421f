"""What teachers cost: a small table, and "unknown" for what is not in it.

    gpt-4o-2024-11-20: {in: 2.50, out: 10.00}                US dollars per million tokens, in `prices.yaml`
    gpt-6-luna: {in: 0.10, out: 0.50, date: 2026-09-24}      ... as read on another day than the table

A model that runs on the user's own machine (vllm, transformers, reference) has no price per token. One at an endpoint
that is not in the table has the cost None, which is printed as "unknown" and never added up as 0.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from cft_trl.errors import CFTError
from cft_trl.generation.names import without_address

TABLE = "CFT_PRICES"  # the environment variable that names the user's own table


@dataclass(frozen=True)
class Prices:
    """The table.

    Attributes:
        date: When these were the prices, where `dates` says nothing else.
        models: Model -> dollars per million tokens (in, out).
        batch: What the Batch API costs of them.
        dates: Model -> when its price was read.
    """

    date: str
    models: Mapping[str, tuple[float, float]]
    batch: float = 0.5
    dates: Mapping[str, str] = field(default_factory=dict)

    def date_of(self, teachers: Iterable[str]) -> str:
        """When the prices of these teachers ("openai:gpt-4o") were read; the oldest of several dates.

        Example:
            >>> prices = Prices("2025-08-15", {"a": (1.0, 2.0), "b": (1.0, 2.0)}, dates={"a": "2026-09-24"})
            >>> prices.date_of(["openai:a", "reference"]), prices.date_of(["openai:a", "openai:b"])
            ('2026-09-24', '2025-08-15')
        """
        names = [without_address(model) for kind, _, model in (t.partition(":") for t in teachers) if kind == "openai"]
        return min((self.dates.get(name, self.date) for name in names if name in self.models), default=self.date)

    def cost(self, teacher: str, prompt_tokens: int, completion_tokens: int, batch: bool = False) -> float | None:
        """Dollars for so many tokens of a teacher ("openai:gpt-4o"); None where its price is not known.

        Args:
            teacher: As a recipe names it.
            prompt_tokens, completion_tokens: How many.
            batch: Whether through the Batch API.

        Example:
            >>> prices = Prices("2025-08-15", {"gpt-4o": (2.5, 10.0)})
            >>> prices.cost("openai:gpt-4o", 1_000_000, 100_000), prices.cost("openai:gpt-4o", 1_000_000, 0, batch=True)
            (3.5, 1.25)
            >>> prices.cost("openai:another", 5, 5), prices.cost("reference", 5, 5)
            (None, 0.0)
        """
        kind, _, model = teacher.partition(":")
        if kind != "openai":
            return 0.0
        price = self.models.get(without_address(model))
        if price is None:
            return None
        dollars = (price[0] * prompt_tokens + price[1] * completion_tokens) / 1e6
        return dollars * self.batch if batch else dollars


def read_prices() -> Prices:
    """The package's table, with the user's own over it.

    Raises:
        CFTError: The user's table cannot be read.
    """
    prices = _read(resources.files("cft_trl").joinpath("synthesis/prices.yaml").read_text(encoding="utf-8"))
    own = os.environ.get(TABLE)
    if not own:
        return prices
    try:
        mine = _read(Path(own).read_text(encoding="utf-8"))
    except OSError as error:
        raise CFTError(f"{TABLE}={own}: cannot be read ({error.strerror})") from None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise CFTError(
            f"{TABLE}={own}: expected 'date: 2025-08-15' and 'models: {{NAME: {{in: 2.5, out: 10}}}}'"
        ) from None
    dates = {name: prices.dates.get(name, prices.date) for name in prices.models}
    own_dates = {name: mine.dates.get(name, mine.date) for name in mine.models}
    return Prices(mine.date, {**prices.models, **mine.models}, mine.batch, {**dates, **own_dates})


def total(costs: Iterable[float | None]) -> float | None:
    """The sum; None where one of them is not known."""
    costs = list(costs)
    return None if None in costs else sum(cost for cost in costs if cost)


def dollars(cost: float | None) -> str:
    """For people.

    Example:
        >>> dollars(1234.5), dollars(0.0123), dollars(0), dollars(None)
        ('$1,234.50', '$0.0123', '$0', 'unknown')
    """
    if cost is None:
        return "unknown"
    return "$0" if not cost else f"${cost:,.2f}" if cost >= 1 else f"${cost:.3g}"


def _read(text: str) -> Prices:
    import yaml

    try:
        table = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None
    models = {name: (float(price["in"]), float(price["out"])) for name, price in table["models"].items()}
    dates = {name: str(price["date"]) for name, price in table["models"].items() if "date" in price}
    return Prices(str(table["date"]), models, float(table.get("batch", 0.5)), dates)
