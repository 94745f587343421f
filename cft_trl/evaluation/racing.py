"""Which checkpoints need not be asked further: a race over problems that are dealt to all in one order.

    25 problems each, then 37, 56, … up to all of them; after each round a checkpoint leaves that will not win any more

A checkpoint is compared with the one that leads, on the problems that both have answered. Only those that one of them
alone got right tell them apart (McNemar 1947). Were it to end level with the leader or ahead, at least half of all the
problems that tell them apart would be its own, and those seen so far are a random draw of them: it leaves where so few
of its own are so improbable. That is exact, whatever the problems' difficulty, and knows that they come to an end:
among the last ones a small lead is decisive (hypergeometric; as a sign test where the set is endless).

Racing is Maron and Moore's (1994, "Hoeffding races"), with pairs as in Birattari et al. (2002, "F-Race").

    beaten(lost=12, won=2, unseen=445)      # 0.0062...
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb
from typing import Any, Literal

ERROR = 0.125
_FIRST, _GROWTH = 25, 1.5
_REST = 1.1  # what is left is no round of its own where it is less than a tenth more


@dataclass(frozen=True)
class LeavingRule:
    """When a checkpoint leaves.

    Attributes:
        error: The level of the test, 0 to 1: how probable it may be that one leaves which would end level or ahead.
            At 0 nobody leaves.
        of: What has this error. "comparison": each comparison with a leader. "race": the race as a whole, by Bonferroni
            over the rounds and all other checkpoints: with this probability at most the one that would have most of all
            the problems right has left. That costs three to five times the tokens (benchmarks/race.py).
    """

    error: float = ERROR
    of: Literal["comparison", "race"] = "comparison"

    @property
    def told(self) -> str:
        return f"error {self.error:g} of each {self.of}" if self.of == "comparison" else f"error {self.error:g} in all"

    def rounds(self, problems: int) -> list[int]:
        """How many problems a checkpoint has answered after each round.

        Example:
            >>> LeavingRule().rounds(500), LeavingRule().rounds(30), LeavingRule(0).rounds(500)
            ([25, 37, 56, 84, 126, 189, 284, 427, 500], [25, 30], [500])
        """
        ends, end = [], float(_FIRST)
        while self.error and end * _REST <= problems:
            ends.append(int(end))
            end *= _GROWTH
        return [*ends, problems]

    def level(self, contestants: int, problems: int) -> float:
        """The level of one comparison.

        Example:
            >>> LeavingRule(0.05).level(49, 500), round(LeavingRule(0.05, "race").level(49, 500), 6)
            (0.05, 0.00013)
        """
        if self.of == "comparison":
            return self.error
        return self.error / max(1, (contestants - 1) * (len(self.rounds(problems)) - 1))


def deal(problems: int, seed: str) -> list[int]:
    """The order in which the problems of a set are asked, the same for every checkpoint and in every run.

    Args:
        problems: How many there are.
        seed: What the set is (its digest).

    Example:
        >>> sorted(deal(5, "a")), deal(5, "a") == deal(5, "a")
        ([0, 1, 2, 3, 4], True)
    """
    return random.Random(seed).sample(range(problems), problems)


def beaten(lost: int, won: int, unseen: int) -> float:
    """How probable it is that of two that end level so few of the problems seen are the second one's, at the most.

    Args:
        lost: Problems that only the leader has right.
        won: Problems that only the other one has right.
        unseen: Problems that neither has answered yet; any number of them may tell the two apart.

    Returns:
        The largest p value over all that the unseen ones can be; 0.0 where it cannot catch up.

    Example:
        >>> beaten(3, 0, unseen=0), beaten(2, 2, unseen=10) > 0.5, round(beaten(3, 0, unseen=10**6), 4)
        (0.0, True, 0.125)
    """
    seen = lost + won

    def tail(apart: int) -> float:
        """P(at most `won` of `seen` drawn from `apart` are among the half that is its own)."""
        own = (apart + 1) // 2
        rest = apart - own
        ways = sum(comb(own, k) * comb(rest, seen - k) for k in range(max(0, seen - rest), won + 1))
        return ways / comb(apart, seen)

    # The more there is to come the less is known. One more of an odd number is the second one's, so even ones decide.
    most = seen + unseen
    return max(tail(apart) for apart in (most, most - 1) if apart >= seen)


@dataclass(frozen=True)
class Standing:
    """A checkpoint in the race.

    Attributes:
        step: Its step.
        right: One character per problem of the set, in the set's order: "1" right, "0" wrong, "-" not answered.
    """

    step: int
    right: str

    @property
    def complete(self) -> bool:
        return "-" not in self.right

    def hits(self, dealt: Sequence[int]) -> int:
        return sum(self.right[at] == "1" for at in dealt)


def leader_of(standings: Sequence[Standing], dealt: Sequence[int]) -> Standing:
    """Who leads: most right of the problems dealt, and of equals the earlier step.

    One that has answered all problems (before others were saved) is judged by all of them, so that of many such it is
    the best one that leads and not the luckiest on the few that were dealt.
    """
    complete = [standing for standing in standings if standing.complete]
    running = [standing for standing in standings if not standing.complete]
    best = min(complete, key=lambda s: (-s.hits(range(len(s.right))), s.step), default=None)
    first = min(running, key=lambda s: (-s.hits(dealt), s.step), default=None)
    if best is None or (first is not None and first.hits(dealt) > best.hits(dealt)):
        assert first is not None  # there is one or the other
        return first
    return best


def leaving(
    standings: Sequence[Standing], dealt: Sequence[int], level: float, keep: int = 1
) -> dict[int, dict[str, Any]]:
    """Who leaves after a round.

    Args:
        standings: Those in the race; each has answered the problems dealt. One that has answered all stays.
        dealt: The problems of this round and those before.
        level: Of each comparison.
        keep: So many stay in any case.

    Returns:
        Step -> {"after": problems, "against": the leader's step, "lost", "won": problems that only the leader or only
        it has right, "p": as of `beaten`}.

    Example:
        >>> first, second = Standing(10, "1111-----"), Standing(20, "0000-----")
        >>> leaving([first, second], range(4), 0.2)
        {20: {'after': 4, 'against': 10, 'lost': 4, 'won': 0, 'p': 0.0143}}
    """
    if len(standings) <= keep:
        return {}
    leader = leader_of(standings, dealt)
    found: dict[int, dict[str, Any]] = {}
    running = [standing for standing in standings if not standing.complete and standing is not leader]
    unseen = len(leader.right) - len(dealt)
    for standing in sorted(running, key=lambda s: (s.hits(dealt), -s.step)):  # the worst first
        pairs = [(leader.right[at], standing.right[at]) for at in dealt]
        lost, won = pairs.count(("1", "0")), pairs.count(("0", "1"))
        p = beaten(lost, won, unseen)
        if p < level and len(standings) - len(found) > keep:
            told = {"after": len(dealt), "against": leader.step, "lost": lost, "won": won, "p": float(f"{p:.3g}")}
            found[standing.step] = told
    return found


def race_of(curve: Sequence[Mapping[str, Any]], rule: LeavingRule, problems: int, keep: int = 1) -> dict[str, Any]:
    """What a race cost and saved, from the points of its curve.

    Args:
        curve: With `of`, `tokens` and, of those that left, `left`.
        problems: Of the set.
        keep: So many stay in any case; where no more are left they answer the rest in one round.

    Returns:
        {"rule", "rounds": [{"problems", "checkpoints", "left": steps}], "answers", "answers_saved", "tokens",
        "tokens_saved"}; what was saved in tokens is estimated from what each had written until it left, None where a
        server does not count.

    Example:
        >>> left = {"after": 25, "against": 2}
        >>> points = [{"step": 1, "of": 25, "tokens": 50, "left": left}, {"step": 2, "of": 100, "tokens": 200}]
        >>> told = race_of(points, LeavingRule(), 100)
        >>> told["answers_saved"], told["tokens_saved"], told["rounds"][0]
        (75, 150, {'problems': 25, 'checkpoints': 2, 'left': [1]})
    """
    rounds = []
    for end in rule.rounds(problems):
        there = [point for point in curve if point["of"] >= end]
        gone = [point["step"] for point in there if point.get("left") and point["left"]["after"] == end]
        last = len(there) <= keep and not gone
        if there:
            rounds.append({"problems": problems if last else end, "checkpoints": len(there), "left": gone})
        if last:
            break
    counted = all(point.get("tokens") is not None for point in curve)
    saved = sum(point["tokens"] / point["of"] * (problems - point["of"]) for point in curve) if counted else None
    return {
        "rule": rule.told,
        "rounds": rounds,
        "answers": sum(point["of"] for point in curve),
        "answers_saved": sum(problems - point["of"] for point in curve),
        "tokens": sum(point["tokens"] for point in curve) if counted else None,
        "tokens_saved": None if saved is None else round(saved),
    }
