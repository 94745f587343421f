"""The dry run: what a recipe would ask and what it would cost, before anything is asked or written.

    stage     teacher                   requests   tokens in         out      at most     cost    at most
    critique  openai:gpt-4o-2024-11-20    50,000  19,500,000  25,000,000  160,000,000  $298.75  $1,648.75

    and three prompts as they would be sent.

Rows come from the real source, into a folder that is thrown away; where it is large, from its first few thousand.
Tokens in are counted with the model's tokenizer where it is at hand, else as a quarter of the characters. Tokens out
cannot be known: they are set to `EXPECTED`, and the most that the recipe allows is told beside it.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from cft_trl.data.stage_files import RowFile, stage_path
from cft_trl.data.teacher_prompts import answer_messages, refine_messages
from cft_trl.generation.names import parse_model_name
from cft_trl.grading.benchmarks import MATH_SYSTEM
from cft_trl.sources.corpus import run_source
from cft_trl.synthesis.prices import Prices, dollars, read_prices, total
from cft_trl.synthesis.recipe import Recipe
from cft_trl.synthesis.run_stage import ASKING, teachers_of

EXPECTED = {"respond": 500, "critique": 500, "refine": 500}  # tokens of an answer, by stage: assumed, not measured
_CHARS_PER_TOKEN = 4
_READ = 2000  # rows that are read where the source is larger
_PROMPTS = 3

Messages = list[dict[str, str]]


@dataclass(frozen=True)
class Asked:
    """What one teacher would be asked in one stage; `most_out` is what the recipe's max_tokens allow, None
    where it is null."""

    stage: str
    teacher: str
    requests: int
    tokens_in: int
    tokens_out: int
    most_out: int | None
    counted_with: str


@dataclass(frozen=True)
class Estimate:
    """A dry run's result.

    Attributes:
        rows: Rows of the source; `exact` says whether all were read.
        left_out: What the source left out of the rows that were read, by reason.
        prompts: The first requests' conversations.
    """

    rows: int
    exact: bool
    left_out: dict[str, int]
    asked: list[Asked]
    prompts: list[Messages]


def estimate(recipe: Recipe) -> Estimate:
    """Reads some rows of the source and reckons with them.

    Raises:
        CFTError: The source cannot be read, or a teacher's name.
    """
    for stage in ASKING:
        for teacher in teachers_of(recipe, stage):
            parse_model_name(teacher)
    settings, exact = recipe.source, True
    if settings.limit is not None and settings.limit > _READ:
        settings, exact = replace(settings, limit=_READ, sample="first"), False
    with tempfile.TemporaryDirectory(prefix="cft-plan-") as folder:
        report = run_source(settings, folder)
        rows = RowFile(stage_path(folder, "source"))
        count = report.written if exact else (recipe.source.limit or 0)
        asked = list(_asked(recipe, rows, count, report.written))
        prompts = list(islice(_prompts(recipe, rows), _PROMPTS))
    return Estimate(count, exact, dict(report.failures), asked, prompts)


def tell(recipe: Recipe, found: Estimate, batch: bool = False, prices: Prices | None = None) -> None:
    """Prints an estimate.

    Args:
        recipe: What would be done.
        found: The estimate.
        batch: Whether through the Batch API, at half the price.
        prices: Default: the table that comes with the package.
    """
    from rich.console import Console
    from rich.table import Table

    # In a pipe rich would fold everything into 80 columns.
    console, prices = Console(width=None if sys.stdout.isatty() else 120), prices or read_prices()
    about = "" if found.exact else f" at most; estimated from the first {_READ:,}"
    left_out = ", ".join(f"{reason} {number:,}" for reason, number in found.left_out.items())
    _print(f"{recipe.name}: {found.rows:,} rows{about}" + (f" (left out: {left_out})" if left_out else ""))
    if not found.asked:
        _print("no teacher is asked")
        return
    table = Table(box=None, pad_edge=False)
    for name in ("stage", "teacher", "requests", "tokens in", "out", "at most", "cost", "at most"):
        table.add_column(name, justify="left" if name in ("stage", "teacher") else "right", overflow="fold")
    expected, most = [], []
    for one in found.asked:
        expected.append(prices.cost(one.teacher, one.tokens_in, one.tokens_out, batch))
        most.append(None if one.most_out is None else prices.cost(one.teacher, one.tokens_in, one.most_out, batch))
        numbers = (one.requests, one.tokens_in, one.tokens_out)
        costs = (dollars(expected[-1]), dollars(most[-1])) if expected[-1] != 0 else ("none", "none")
        limit = "no limit" if one.most_out is None else f"{one.most_out:,}"
        table.add_row(one.stage, one.teacher, *(f"{number:,}" for number in numbers), limit, *costs)
    if len(found.asked) > 1:
        table.add_row("", "together", "", "", "", "", dollars(total(expected)), dollars(total(most)))
    console.print(table)
    ways = ", ".join(dict.fromkeys(f"{one.teacher}: {one.counted_with}" for one in found.asked))
    _print(f"tokens in counted by {ways}; tokens out assumed: {_assumed(found)} an answer")
    half = f", times {prices.batch:g} for the Batch API" if batch else ""
    date = prices.date_of(one.teacher for one in found.asked)
    _print(f"prices of {date}{half}; edit cft_trl/synthesis/prices.yaml or name your own table in CFT_PRICES")
    for number, messages in enumerate(found.prompts, 1):
        _print(f"\n--- prompt {number} of {found.asked[0].requests:,} ---")
        for message in messages:
            _print(f"[{message['role']}]\n{message['content']}")
    _print("\nnothing was asked and nothing written")


def _asked(recipe: Recipe, rows: RowFile, count: int, read: int) -> Iterator[Asked]:
    """Every teacher of every stage that asks; a stage's rows are multiplied by the answers of the one before it."""
    times = 1
    for stage in ASKING:
        teachers = teachers_of(recipe, stage)
        if not teachers:
            continue
        settings = getattr(recipe, stage)
        samples = getattr(settings, "samples", 1)
        for teacher in teachers:
            counted_with, tokens = _tokenizer(teacher)
            here = sum(tokens(text) for row in rows for text in _texts(_messages(recipe, stage, row)))
            here += read * _unwritten(recipe, stage)
            requests = count * times * samples
            tokens_in = round(here / read * requests) if read else 0
            limit = settings.max_tokens
            out, most = requests * EXPECTED[stage], None if limit is None else requests * limit
            if teacher == "reference":
                tokens_in, out, most = 0, 0, 0
            yield Asked(stage, teacher, requests, tokens_in, out, most, counted_with)
        times *= samples * len(teachers)


def _unwritten(recipe: Recipe, stage: str) -> int:
    """Tokens of a prompt that an earlier stage has still to write."""
    new_response = EXPECTED["respond"] if teachers_of(recipe, "respond") else 0
    if stage == "respond":
        return 0
    if stage == "critique":
        return new_response
    if recipe.refine.answers != "critique":
        return 0
    return new_response + (EXPECTED["critique"] if teachers_of(recipe, "critique") else 0)


def _messages(recipe: Recipe, stage: str, row: dict[str, Any]) -> Messages:
    """What a stage would send about a row of the source; what is still to be written stands as empty text."""
    row = {**row, "critique": row["critique"] or ""}
    if teachers_of(recipe, "respond"):
        row["response"] = ""
    if stage == "respond":
        return answer_messages(row["query"], recipe.respond.system)
    if stage == "critique":
        shown = recipe.critique.show_reference and bool((row["reference_answer"] or "").strip())
        return recipe.critique.messages(row, shown)
    return refine_messages(row) if recipe.refine.answers == "critique" else answer_messages(row["query"], MATH_SYSTEM)


def _prompts(recipe: Recipe, rows: RowFile) -> Iterator[Messages]:
    for stage in ASKING:
        if teachers_of(recipe, stage):
            for row in rows:
                yield _messages(recipe, stage, row)
            return


def _texts(messages: Messages) -> Iterator[str]:
    return (message["content"] for message in messages)


def _tokenizer(teacher: str) -> tuple[str, Callable[[str], int]]:
    """How a teacher's tokens are counted: by its tokenizer if it lies on this machine."""
    kind, _, model = teacher.partition(":")
    folder = Path(model).expanduser()
    if kind in ("vllm", "transformers") and (folder.is_dir() or model == "smollm2-135m"):
        try:
            from cft_trl.models.loading import load_tokenizer

            tokenizer = load_tokenizer(model)
            return "its tokenizer", lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"])
        except Exception:
            pass  # an estimate is not worth an error
    if kind == "reference":
        return "nothing (no model)", lambda text: 0
    return f"characters / {_CHARS_PER_TOKEN}", lambda text: len(text) // _CHARS_PER_TOKEN


def _assumed(found: Estimate) -> str:
    stages = dict.fromkeys(one.stage for one in found.asked)
    return ", ".join(f"{stage} {EXPECTED[stage]}" for stage in stages)


def _print(text: str) -> None:
    print(text)
