r"""Code to review: small Python functions, right ones and such with one bug. What is right is what passes the tests.

    query     "Write `clamp(x)`: return x, but 0 where x is below 0 and 20 where it is above 20."
    response  "def clamp(x):\n    if x <= 1:\n        return 0\n    …"
    verdict   "wrong"
    meta      {"checks": [{"of": "clamp(1)", "wanted": "1", "found": "returns 0", "holds": false}, …],
               "fault": {"line": 2, "was": "if x < 0:", "now": "if x <= 1:"}, "first_error_step": 2}

The functions are in `functions.yaml`, the bugs made by `mutants.py`, both are run by `sandbox.py`. A mutant that passes
all tests is no row: nothing here could say what is wrong with it. Splits have no question in common.
"""

from __future__ import annotations

import ast
import hashlib
import itertools
import random
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from importlib import resources
from typing import Any

from cft_trl.data.records import Record, make_record
from cft_trl.errors import CFTError
from cft_trl.sources.domains.mutants import Mutant, mutants, normal_form, renamed
from cft_trl.sources.domains.sandbox import CaseResult, run_cases

SPLITS = ("validation", "test", "train")
_SHARES = 10  # one of so many questions is for validation, one for tests
_FRUITLESS = 300  # draws without a new row, after which there are none
_NAMES = ("{}", "get_{}", "{}_of", "my_{}")
# Columns are sets of names that go together: no function has two variables that one of them makes the same.
_VARIABLES = {
    "x": ("x", "given", "v"), "count": ("count", "amount", "n"), "word": ("word", "entry", "w"),
    "words": ("words", "entries", "ws"), "total": ("total", "result", "acc"), "number": ("number", "value", "num"),
    "numbers": ("numbers", "values", "nums"), "limit": ("limit", "stop", "upper"), "cost": ("cost", "due", "c"),
    "different": ("different", "unique", "seen"), "letters": ("letters", "signs", "chars"),
    "letter": ("letter", "sign", "char"), "text": ("text", "phrase", "s"), "best": ("best", "highest", "top"),
    "bests": ("bests", "so_far", "tops"), "score": ("score", "point", "mark"), "scores": ("scores", "points", "marks"),
    "item": ("item", "candidate", "it"), "items": ("items", "candidates", "xs"), "place": ("place", "index", "i"),
    "year": ("year", "current", "y"), "days": ("days", "leaps", "d"), "kept": ("kept", "usable", "rest"),
    "merged": ("merged", "both", "out"),
}  # fmt: skip


def code_review_records(
    count: int, *, seed: int = 0, split: str = "train", right_ratio: float = 0.5
) -> Iterator[Record]:
    """Rows of code review, without critiques.

    Args:
        count: How many.
        seed: Draws others.
        split: "train", "validation" or "test".
        right_ratio: The share of functions without a bug.

    Raises:
        CFTError: An unknown split, or more rows than there are.
    """
    if split not in SPLITS:
        raise CFTError(f"source.split={split}: corpus code_review has train, validation and test")
    rng = random.Random(f"code_review|{seed}|{split}")
    seen: set[tuple[str, str]] = set()
    fruitless, wanted_right = 0, rng.random() < right_ratio
    while len(seen) < count:
        record = _row(rng, split, wanted_right)
        if record is None or (record["query"], record["response"]) in seen:
            fruitless += 1
            if fruitless > _FRUITLESS:
                raise CFTError(
                    f"source.limit={count}: corpus code_review has hardly more than {len(seen)} such rows in split "
                    f"{split}; give a smaller limit"
                )
            continue
        fruitless, wanted_right = 0, rng.random() < right_ratio
        seen.add((record["query"], record["response"]))
        yield record


def _row(rng: random.Random, split: str, wanted_right: bool) -> Record | None:
    function = rng.choice(_functions())
    values = {name: rng.choice(given) for name, given in function["values"].items()}
    name = rng.choice(_NAMES).format(function["name"])
    column = rng.randrange(3)
    query = function["asked"].format(name=name, **values)
    if _split_of(query) != split:
        return None
    names = {"NAME": name} | {variable: given[column] for variable, given in _VARIABLES.items()}
    code = renamed(normal_form(function["code"].format(**values)), names)
    cases = [[_value(text.format(**values)) for text in call] for call in function["calls"]]
    calls = [f"{name}({', '.join(map(repr, case))})" for case in cases]
    wanted = _results(code, name, repr(cases))
    if failed := next((result for result in wanted if result.kind != "returned"), None):
        raise CFTError(f"corpus code_review: a right function gives {failed.text} here; tests cannot be run so")
    if wanted_right:
        return _record(query, code, _checks(calls, wanted, wanted), None)
    made = mutants(code)
    for mutant in rng.sample(made, len(made)):
        found = _results(mutant.code, name, repr(cases))
        if found != wanted:
            return _record(query, mutant.code, _checks(calls, wanted, found), mutant)
    return None


def _record(query: str, code: str, checks: list[dict[str, Any]], bug: Mutant | None) -> Record:
    verdict = "wrong" if bug else "right"
    meta: dict[str, Any] = {"checks": checks, "first_error_step": bug.line if bug else None}
    if bug:
        meta["fault"] = {"line": bug.line, "was": bug.was.strip(), "now": bug.now.strip()}
    return make_record(
        query=query,
        response=code,
        verdict=verdict,
        response_source=f"code_review:{verdict}",
        source="code_review",
        meta=meta,
    )


def _checks(calls: list[str], wanted: tuple[CaseResult, ...], found: tuple[CaseResult, ...]) -> list[dict[str, Any]]:
    return [
        {"of": call, "wanted": right.text, "found": _told(got), "holds": right == got}
        for call, right, got in zip(calls, wanted, found, strict=True)
    ]


def _told(result: CaseResult) -> str:
    if result.kind == "returned":
        return f"returns {result.text}"
    return f"raises {result.text}" if result.kind == "raised" else f"gives {result.text}"


@lru_cache(maxsize=4096)
def _results(code: str, name: str, cases: str) -> tuple[CaseResult, ...]:
    return tuple(run_cases(code, name, ast.literal_eval(cases)))


def _split_of(query: str) -> str:
    share = int(hashlib.sha256(query.encode()).hexdigest()[:8], 16) % _SHARES
    return SPLITS[min(share, 2)]


def _value(text: str) -> Any:
    """An argument as our own file writes it: a literal, or an expression of literals."""
    return eval(text, {"__builtins__": {}})


@cache
def _functions() -> list[Mapping[str, Any]]:
    import yaml

    text = resources.files("cft_trl").joinpath("sources/domains/functions.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


def questions() -> int:
    """How many different questions there are, of all splits."""
    return sum(len(list(itertools.product(*function["values"].values()))) * len(_NAMES) for function in _functions())
