"""What an arm is trained on: its rows out of a pool, as tokens, up to a budget.

    stages = arm_parts(Arm(train="cft+sft"), pool)         # [[Ingredient("cft", rows), Ingredient("sft", rows)]]
    taken = take(stages[0], tokenizer, Budget("tokens", 24000), ...)
    taken.columns["input_ids"], taken.target_tokens        # 412 rows, 24,004 tokens with loss

The arms of one seed draw from the same questions in the same order. Equal target tokens and equal rows are two views of
the same mixture: the first so many rows of it. Token columns go to `CFTTrainer` as they are, so that one stage may mix
objectives. (The parts of a training run, `training/mixture.py`, are weighed by rows; here a budget of target tokens
decides what is taken, and the order is part of what is compared.)
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from cft_trl.data.digests import content_digest
from cft_trl.data.prompts import Prompting
from cft_trl.errors import CFTError
from cft_trl.experiments.settings import Arm
from cft_trl.experiments.world import critique_of
from cft_trl.sources.reference import END

Row = dict[str, Any]

PRESET = "compact"
COLUMNS = ("input_ids", "labels", "verdict_mask")
GENERIC = {"right": "The solution is correct.", "wrong": "The solution has a mistake."}
_CHUNK = 64
_OTHER = {"right": "wrong", "wrong": "right"}


@dataclass(frozen=True)
class Ingredient:
    """Rows of one objective; `target` is an `sft_target` of `cft_trl.data.prompts`."""

    objective: str
    target: str
    rows: Sequence[Row]


@dataclass(frozen=True)
class Budget:
    """How much a training may be: so many target tokens, or so many rows."""

    view: Literal["tokens", "rows"]
    amount: int


@dataclass(frozen=True)
class Taken:
    """What a stage trains on.

    Attributes:
        columns: `COLUMNS`, a list per row, in the order of training.
        queries: of the rows.
        target_tokens, tokens: with loss, and all.
        digest: of the token ids, in their order.
    """

    columns: dict[str, list[list[int]]]
    queries: frozenset[str]
    target_tokens: int
    tokens: int
    digest: str

    @property
    def rows(self) -> int:
        return len(self.columns["input_ids"])


# ---- which rows ------------------------------------------------------------------------------------------------------


def arm_parts(arm: Arm, pool: Sequence[Row]) -> list[list[Ingredient]]:
    """The stages of an arm, each the parts it mixes; parts of one arm have no question in common.

    Raises:
        CFTError: The pool cannot give what the arm asks for.
    """
    if arm.train == "nothing":
        return []
    if arm.train in ("sft", "cft", "cgd"):
        return [[_part(arm, arm.train, pool)]]
    halves = [[row for row in pool if row["meta"]["question"] % 2 == half] for half in (0, 1)]
    critiques, answers = _part(arm, "cft", halves[0]), _part(arm, "sft", halves[1])
    return [[critiques, answers]] if arm.train == "cft+sft" else [[critiques], [answers]]


def _part(arm: Arm, objective: str, pool: Sequence[Row]) -> Ingredient:
    rows = list(_responses(arm, pool))
    if objective != "sft":
        return Ingredient(objective, "response", list(_critiques(arm, rows)))
    if arm.target == "verified":
        rows = [row for row in rows if row["verdict"] == "right"]
    elif arm.target == "reference":
        rows = [{**row, "response": row["meta"]["reference"]} for row in rows]
    return Ingredient("sft", "refinement" if arm.target == "distilled" else "response", rows)


def _responses(arm: Arm, pool: Sequence[Row]) -> Iterator[Row]:
    """`arm.responses` of each question, the share `arm.wrong` of all of them wrong."""
    by_question: dict[int, dict[str, list[Row]]] = {}
    for row in pool:
        by_question.setdefault(row["meta"]["question"], {"right": [], "wrong": []})[row["verdict"]].append(row)
    drawn = _Share(arm.wrong)
    for of_question in by_question.values():
        used = {"right": 0, "wrong": 0}
        for _ in range(arm.responses):
            verdict = "wrong" if drawn.hit() else "right"
            found = of_question[verdict]
            if used[verdict] == len(found):
                raise CFTError(
                    f"arm.responses={arm.responses} with wrong={arm.wrong:g}: the pool has {len(found)} {verdict} "
                    f"responses of a question; give fewer, or a share nearer to 0.5"
                )
            yield found[used[verdict]]
            used[verdict] += 1


class _Share:
    """Hits that share of its calls, spread evenly: exact for any number of them up to rounding."""

    def __init__(self, share: float) -> None:
        self.share, self.calls = share, 0

    def hit(self) -> bool:
        self.calls += 1
        return int(self.calls * self.share + 1e-9) > int((self.calls - 1) * self.share + 1e-9)


def _critiques(arm: Arm, rows: Sequence[Row]) -> Iterator[Row]:
    """The rows with the critiques that the arm asks for, `arm.critiques` of each."""
    eligible = {"verdict": _OTHER, "missed error": {"wrong"}, "invented error": {"right"}}[arm.noise_kind]
    share = {"verdict": 1.0, "missed error": arm.wrong, "invented error": 1 - arm.wrong}[arm.noise_kind]
    # Counted for each verdict: right and wrong rows alternate, and one count for both would step from one to the other.
    spoilt = {verdict: _Share(min(1.0, arm.noise / share) if arm.noise else 0.0) for verdict in eligible}
    strangers = _strangers(rows) if arm.critique == "of another question" else {}
    for row in rows:
        for number in range(arm.critiques):
            text = row["critique"] if not number else critique_of(row, number)
            verdict = row["verdict"]
            if arm.critique == "generic":
                text = f"{GENERIC[verdict]}\n{END[verdict]}"
            elif arm.critique == "of another question":
                text = strangers[row["id"]]
            if verdict in eligible and spoilt[verdict].hit():
                text = _spoilt(arm.noise_kind, row, text)
            yield {**row, "critique": text}


def _strangers(rows: Sequence[Row]) -> dict[str, str]:
    """Row's id -> the critique of another question's row with the same verdict, the next one before it."""
    found: dict[str, str] = {}
    for verdict in _OTHER:
        alike = [row for row in rows if row["verdict"] == verdict]
        if len({row["query"] for row in alike}) == 1:
            raise CFTError("critique 'of another question' needs rows of at least two questions")
        for at, row in enumerate(alike):
            # An index below 0 counts from the end, so that the first rows go round to the last.
            others = (alike[at - back] for back in range(1, len(alike)))
            found[row["id"]] = next(other["critique"] for other in others if other["query"] != row["query"])
    return found


def _spoilt(kind: str, row: Row, text: str | None) -> str:
    if kind == "verdict":
        assert text is not None  # the teacher has something to say of every response of the world
        return text.replace(END[row["verdict"]], END[_OTHER[row["verdict"]]])
    return row["meta"]["missed" if kind == "missed error" else "invented"]


# ---- how many of them ------------------------------------------------------------------------------------------------


def take(
    parts: Sequence[Ingredient], tokenizer: Any, budget: Budget, *, seed: int, batch: int, max_length: int, where: str
) -> Taken:
    """Encodes the first rows of each part up to its share of the budget, and puts them into the order of training.

    Args:
        parts: Of a stage; the budget is shared equally.
        tokenizer: Of the base.
        budget: Of the stage.
        seed: Of the order.
        batch: Rows of a step: those of one are about equally long, so that little is padded.
        max_length: Longer rows are passed over.
        where: What errors begin with.

    Raises:
        CFTError: The pool is too small for the budget.
    """
    encoded: list[dict[str, Any]] = []
    for at, part in enumerate(parts):
        amount = budget.amount * (at + 1) // len(parts) - budget.amount * at // len(parts)
        encoded += _taken(part, tokenizer, Budget(budget.view, amount), max_length, where)
    ordered = _ordered(encoded, seed, batch)
    return Taken(
        {name: [row[name] for row in ordered] for name in COLUMNS},
        frozenset(row["query"] for row in ordered),
        sum(row["target_tokens"] for row in ordered),
        sum(len(row["input_ids"]) for row in ordered),
        content_digest([row["input_ids"] for row in ordered]),
    )


def _taken(part: Ingredient, tokenizer: Any, budget: Budget, max_length: int, where: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    tokens = 0
    for row in _encoded(part, tokenizer, max_length):
        size = row["target_tokens"]
        if budget.view == "rows":
            if len(found) == budget.amount:
                return found
        elif tokens + size > budget.amount:
            # The row that would cross the line is taken where that is nearer to it.
            return [*found, row] if tokens + size - budget.amount < budget.amount - tokens else found
        found.append(row)
        tokens += size
    if budget.view == "rows" and len(found) == budget.amount:
        return found
    has = f"{tokens:,} target tokens" if budget.view == "tokens" else f"{len(found):,} rows"
    raise CFTError(
        f"{where}: the pool has {has} for {part.objective}, the budget is {budget.amount:,}; raise questions"
    )


def _encoded(part: Ingredient, tokenizer: Any, max_length: int) -> Iterator[dict[str, Any]]:
    from cft_trl.training.preparation import RowEncoder

    encoder = RowEncoder(tokenizer, Prompting(part.objective, part.target, PRESET), max_length, "drop")
    rows: Iterable[Row] = iter(part.rows)
    while chunk := list(islice(rows, _CHUNK)):
        columns = encoder(chunk)
        for at, row in enumerate(chunk):
            if columns["status"][at] == "kept":
                yield {name: columns[name][at] for name in (*COLUMNS, "target_tokens")} | {"query": row["query"]}


def _ordered(rows: Sequence[dict[str, Any]], seed: int, batch: int) -> list[dict[str, Any]]:
    """Shuffled, then sorted by length within stretches of some batches, then the batches shuffled."""
    rng = random.Random(f"experiment/order/{seed}")
    shuffled = rng.sample(list(rows), len(rows))
    stretch, batches = 8 * batch, []
    for begin in range(0, len(shuffled), stretch):
        alike = sorted(shuffled[begin : begin + stretch], key=lambda row: len(row["input_ids"]))
        batches += [alike[at : at + batch] for at in range(0, len(alike), batch)]
    # A batch that is not full stays last: it must not come to stand across two steps.
    last = [one for one in batches if len(one) < batch]
    full = [one for one in batches if len(one) == batch]
    rng.shuffle(full)
    return [row for one in [*full, *last] for row in one]
