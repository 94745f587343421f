r"""Rules that choose among all rows of a build: the published presets, a ratio of verdicts, a limit.

Each takes, of the rows that are left, an array per property, and gives what it removes with the reason:

    cut_longest(numpy.array([310, 95, 1204, 402]))     -> [(array([1]), "among the shortest"), ...]

Ties are broken by `order`, a hash of seed and id, so that the same rows are chosen whatever order they come in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy

    Removed = list[tuple[numpy.ndarray, str]]

RIGHT, WRONG = 1, 2  # verdicts in an array; 0 is none


@dataclass(frozen=True)
class Longest:
    """The rule by which the 50,000 rows of WebInstruct-CFT-50K were taken from 600,000, by the critique's length.

    Measured alike, as here, the second step removes what the third would; it stands for what was published.

    Attributes:
        ends: So many of the shortest are dropped, and so many of the longest.
        pool: So many of the longest of the rest are kept,
        keep: and so many of the longest of these.
    """

    ends: int = 10_000
    pool: int = 80_000
    keep: int = 50_000

    def scaled(self, rows: int) -> Longest:
        """The rule for fewer rows than its numbers need (ends + pool + ends): all of them in proportion.

        Example:
            >>> Longest().scaled(1_000), Longest().scaled(600_000) == Longest()
            (Longest(ends=100, pool=800, keep=500), True)
        """
        whole = 2 * self.ends + self.pool
        if rows >= whole:
            return self
        return Longest(*(round(number * rows / whole) for number in (self.ends, self.pool, self.keep)))


# One-shot CFT: 700 critiques of a problem are cut to 600, once the wrong ones are out.
PER_QUERY = 600


def cut_longest(lengths: numpy.ndarray, order: numpy.ndarray, rule: Longest) -> Removed:
    """The rule of `Longest`, already scaled.

    Args:
        lengths: Of the critiques, in characters; one for each row.
        order: The rows' places in a seeded order, by which one of equals is chosen.
        rule: Its numbers.
    """
    import numpy

    by_length = numpy.lexsort((order, lengths))
    middle = by_length[rule.ends : len(by_length) - rule.ends]
    pool = middle[max(0, len(middle) - rule.pool) :]
    return [
        (by_length[: rule.ends], "among the shortest"),
        (by_length[len(by_length) - rule.ends :], "among the longest"),
        (middle[: len(middle) - len(pool)], "not in the pool of the longest"),
        (pool[: max(0, len(pool) - rule.keep)], "not among the longest of the pool"),
    ]


def cut_per_query(
    lengths: numpy.ndarray, order: numpy.ndarray, queries: numpy.ndarray, keep: int = PER_QUERY
) -> Removed:
    """Of each query's rows drops the shortest and longest critiques alike until `keep` are left; of an odd number one
    more of the longest. A query with no more than `keep` loses none.

    Args:
        lengths: Of the critiques, in characters; one for each row.
        order: The rows' places in a seeded order, by which one of equals is chosen.
        queries: A number for each row, alike where the query is.
        keep: The most rows of a query.

    Example:
        >>> import numpy
        >>> found = cut_per_query(numpy.array([5, 1, 9, 7, 3]), numpy.arange(5), numpy.zeros(5), keep=2)
        >>> [(rows.tolist(), reason) for rows, reason in found]
        [([1], 'among the shortest'), ([2, 3], 'among the longest')]
    """
    import numpy

    grouped = numpy.lexsort((order, lengths, queries))
    sizes = numpy.unique(queries, return_counts=True)[1]
    shortest: list[numpy.ndarray] = [grouped[:0]]
    longest: list[numpy.ndarray] = [grouped[:0]]
    end = 0
    for size in map(int, sizes):
        start, end = end, end + size
        excess = max(0, size - keep)
        shortest.append(grouped[start : start + excess // 2])
        longest.append(grouped[end - (excess - excess // 2) : end])
    return [
        (numpy.sort(numpy.concatenate(shortest)), "among the shortest"),
        (numpy.sort(numpy.concatenate(longest)), "among the longest"),
    ]


def cut_to_ratio(verdicts: numpy.ndarray, order: numpy.ndarray, right_ratio: float) -> Removed:
    """Drops as few rows as bring the share of "right" among those with a verdict to the ratio (or just under it, where
    it does not come out even).

    Args:
        verdicts: `RIGHT`, `WRONG` or 0 for each row.
        order: The rows' places in a seeded order, by which one of equals is chosen.
        right_ratio: The share of right ones, 0 to 1.

    Example:
        >>> import numpy
        >>> cut_to_ratio(numpy.array([1, 1, 1, 2, 0]), numpy.array([4, 2, 3, 1, 0]), 0.5)
        [(array([0, 2]), 'too many right')]
    """
    right, wrong = int((verdicts == RIGHT).sum()), int((verdicts == WRONG).sum())
    if right * (1 - right_ratio) > wrong * right_ratio:
        keep = int(wrong * right_ratio / (1 - right_ratio) + 1e-9)
        return [(_last(verdicts == RIGHT, order, right - keep), "too many right")]
    keep = int(right * (1 - right_ratio) / right_ratio + 1e-9) if right_ratio else wrong
    return [(_last(verdicts == WRONG, order, wrong - keep), "too many wrong")]


def cut_to_limit(verdicts: numpy.ndarray, order: numpy.ndarray, limit: int) -> Removed:
    """A sample of `limit` rows with the same shares of verdicts, up to rounding.

    Args:
        verdicts: `RIGHT`, `WRONG` or 0 for each row.
        order: The rows' places in a seeded order, by which one of equals is chosen.
        limit: The most rows.

    Example:
        >>> import numpy
        >>> cut_to_limit(numpy.array([1, 1, 2, 2]), numpy.array([4, 3, 2, 1]), 2)
        [(array([0, 2]), 'over the limit')]
    """
    import numpy

    if len(verdicts) <= limit:
        return []
    # Spread over the verdicts by largest remainder.
    counts = numpy.bincount(verdicts, minlength=3)
    shares = counts * limit / len(verdicts)
    keep = shares.astype(int)
    for at in numpy.argsort(keep - shares, kind="stable")[: limit - keep.sum()]:
        keep[at] += 1
    out = [_last(verdicts == verdict, order, int(counts[verdict] - keep[verdict])) for verdict in range(3)]
    return [(numpy.sort(numpy.concatenate(out)), "over the limit")]


def _last(which: numpy.ndarray, order: numpy.ndarray, count: int) -> numpy.ndarray:
    """The `count` rows among `which` that come last in `order`."""
    import numpy

    rows = numpy.flatnonzero(which)
    ranked = rows[numpy.argsort(order[rows], kind="stable")]
    return numpy.sort(ranked[len(ranked) - count :])
