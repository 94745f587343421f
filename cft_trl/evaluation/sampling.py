r"""Which rows a limit takes: a seeded sample, in proportion over what divides the data.

    rows = draw(benchmark_rows, 100, subject)         {"Algebra": 24, "Precalculus": 11, ...}: as in the whole
    sample_of(rows, ...)                              {"seed": 0, "rows": 100, "of": 5000, "digest": "1f0c…", ...}

Benchmarks are in order: the first 100 of MATH are Algebra, those of MMLU-Pro business, those of ProcessBench wrong.
A sample of 50 lies whole in that of 100, so that a run can be enlarged; and it is the same wherever the rows came from.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

Row = TypeVar("Row", bound=Mapping[str, Any])
Stratum = Callable[[Any], str]

SEED = 0
# What a row's `meta` is divided by, where it holds these.
_DIVIDED_BY = (
    ("type", "subject", "category", "subfield", "High-level domain", "Answer_type"),
    ("level", "error_kind"),
)


def subject(row: Mapping[str, Any]) -> str:
    """What a problem or a labelled solution belongs to: its verdict, its subject and its level, as far as it has them.

    Example:
        >>> subject({"verdict": "wrong", "meta": {"level": 2}}), subject({"meta": {"type": "Algebra"}}), subject({})
        ('wrong, 2', 'Algebra', '')
    """
    meta = row.get("meta") or {}
    found = [row.get("verdict")]
    for names in _DIVIDED_BY:
        found.append(next((meta[name] for name in names if meta.get(name) is not None), None))
    return ", ".join(str(value) for value in found if value is not None)


def verdict(row: Mapping[str, Any]) -> str:
    """A labelled solution's verdict: what `cft eval-critic` divides by."""
    return str(row.get("verdict"))


def draw(rows: Sequence[Row], limit: int | None, stratum: Stratum = subject, seed: int = SEED) -> list[Row]:
    """A sample in which every stratum has its share, to within one row.

    Args:
        rows: With an `id` each.
        limit: How many; `None`, or as many as there are or more, takes all.
        stratum: What a row belongs to.
        seed: Another seed, another sample.

    Returns:
        The rows of the sample in the order that they came in.

    Example:
        >>> rows = [{"id": str(n), "verdict": "wrong" if n < 6 else "right"} for n in range(12)]
        >>> drawn = draw(rows, 4, verdict)
        >>> sorted(row["verdict"] for row in drawn), all(row in draw(rows, 6, verdict) for row in drawn)
        (['right', 'right', 'wrong', 'wrong'], True)
    """
    if limit is None or limit >= len(rows):
        return list(rows)
    strata: dict[str, list[int]] = defaultdict(list)
    for at, row in enumerate(rows):
        strata[stratum(row)].append(at)
    places: list[tuple[float, int]] = []
    for name, members in strata.items():
        # Systematic sampling with a random start: the k-th of n rows stands at (k + start) / n.
        start = _share(seed, "stratum", name)
        ordered = sorted(members, key=lambda at: (_share(seed, rows[at].get("id", at)), at))
        places += [((k + start) / len(members), at) for k, at in enumerate(ordered)]
    return [rows[at] for at in sorted(at for _, at in sorted(places)[:limit])]


def sample_of(
    drawn: Sequence[Mapping[str, Any]], of: int, stratum: Stratum = subject, seed: int = SEED
) -> dict[str, Any] | None:
    """What tells a sample from others, for the file of a result; `None` where it is the whole.

    Args:
        drawn: What `draw` gave.
        of: How many rows there were.
        stratum, seed: As for `draw`.

    Returns:
        `seed`, `rows`, `of`, `strata` (rows by stratum; left out where there is one) and `digest`, see `ids_digest`.
    """
    if len(drawn) == of:
        return None
    strata = dict(sorted(Counter(stratum(row) for row in drawn).items()))
    told: dict[str, Any] = {"seed": seed, "rows": len(drawn), "of": of}
    if len(strata) > 1:
        told["strata"] = strata
    return {**told, "digest": ids_digest(row["id"] for row in drawn)}


def ids_digest(ids: Iterable[str]) -> str:
    """16 hexadecimal digits that stand for a set of ids, whatever their order.

    Example:
        >>> ids_digest(["a", "b"]) == ids_digest(["b", "a", "a"]), ids_digest(["a"]) == ids_digest(["b"])
        (True, False)
    """
    return hashlib.sha256("\n".join(sorted(set(ids))).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _share(*parts: object) -> float:
    """A number from 0 to 1 out of a hash."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
