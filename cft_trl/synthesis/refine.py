r"""The refine stage: the answer that a student is to learn to write instead of its own.

    report = run_refine(rows, RefineSettings("critique"), [Teacher("gpt-4o-2024-11-20")], "out")

With "critique" (CGD, arXiv 2505.11628) the teacher sees query, response and critique and writes the refined answer,
greedily, without the reference answer and without any filter of correctness:

    {"id": "5c0e", "query": "What is 6 x 7?", "response": "43", "critique": "6 x 7 is 42. ...",
     "refinement": "6 x 7 = 42, so the answer is $\\boxed{42}$.", ...,
     "meta": {"refinement_teacher": "gpt-4o-2024-11-20", "refinement_finish_reason": "stop",
              "refinement_completion_tokens": 21}}

With "teacher" it sees the query alone: the rows of distilled SFT. With "none" rows pass as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cft_trl.data.markup import plain_answer
from cft_trl.data.settings import Whole, check_settings
from cft_trl.data.stage_files import StageReport, StageWriter
from cft_trl.data.teacher_prompts import answer_messages, refine_messages, refused_text
from cft_trl.errors import CFTError
from cft_trl.generation.dialect import check_extra
from cft_trl.generation.types import Generation, Model
from cft_trl.grading.benchmarks import MATH_SYSTEM
from cft_trl.synthesis.asking import (
    Extra,
    MaxTokens,
    Progress,
    Record,
    StagePlan,
    Teachers,
    Temperature,
    TopP,
    ask_rows,
    records_with_lines,
    sampling_of,
)


@dataclass(frozen=True)
class RefineSettings:
    """The recipe's section `refine`. Its defaults are CGD's published call, once it is asked for.

    Attributes:
        answers: "none" leaves rows as they are; "critique" asks for the answer refined by the critique; "teacher" for
            the teacher's own answer to the query.
        teachers: Who is asked; one.
        temperature, top_p: Sampling; the published call is greedy. null leaves a parameter out of the requests, as
            `max_tokens: null` does.
        max_tokens: The longest refinement, in the teacher's tokens.
        seed: For endpoints that take one.
        extra: Further fields of each request's body, as `{reasoning_effort: low}` or `{chat_template_kwargs: {...}}`.

    Raises:
        CFTError: A value that cannot be.
    """

    answers: Literal["none", "critique", "teacher"] = "none"
    teachers: Teachers = ()
    temperature: Temperature = 0.0
    top_p: TopP = 1.0
    max_tokens: MaxTokens = 2048
    seed: Whole | None = None
    extra: Extra = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_settings(self, "refine")
        check_extra(self.extra, "refine.extra")
        if len(self.teachers) > 1:
            raise CFTError(f"refine.teachers={list(self.teachers)}: a row has one refinement; give one teacher")


def run_refine(
    rows: Iterable[Mapping[str, Any]],
    settings: RefineSettings,
    teachers: Sequence[Model],
    folder: str | Path,
    *,
    shard: str | None = None,
    progress: Progress | None = None,
) -> StageReport:
    """Gives every row its refinement; writes the stage `refine`.

    Args:
        rows: Records, re-iterable; with "critique" those without one become failures.
        settings: What is asked.
        teachers: The one opened teacher; none with "none".
        folder, shard, progress: As for `cft_trl.synthesis.asking.ask_rows`.

    Returns:
        The stage's report.

    Raises:
        CFTError: More than one teacher; else as for `ask_rows`.
    """
    if settings.answers == "none":
        with StageWriter(folder, "refine", shard) as out:
            for _, line in records_with_lines(rows):
                out.report.read += 1
                out.row(line)
        return out.report
    if len(teachers) > 1:
        raise CFTError(f"refine.teachers: {len(teachers)} given; a row has one refinement, so give one teacher")
    by_critique = settings.answers == "critique"

    def unaskable(record: Record) -> str | None:
        needed: tuple[Literal["query", "response", "critique"], ...]
        needed = ("query", "response", "critique") if by_critique else ("query",)
        lacking = [column for column in needed if not (record[column] or "").strip()]
        return f"no {lacking[0]}" if lacking else None

    plan = StagePlan(
        stage="refine",
        samples=1,
        sampling=sampling_of(settings),
        messages=refine_messages if by_critique else lambda record: answer_messages(record["query"], MATH_SYSTEM),
        unaskable=unaskable,
        read=_read,
    )
    return ask_rows(rows, plan, teachers, folder, shard=shard, progress=progress)


def _read(record: Record, model: str, sample: int, made: Generation) -> dict[str, Any] | str:
    text = plain_answer(made.text)
    if reason := refused_text(text, "answer"):
        return reason
    meta = {**(record["meta"] or {}), "refinement_teacher": model}
    meta["refinement_finish_reason"] = made.finish_reason
    meta["refinement_completion_tokens"] = made.completion_tokens
    return {"refinement": text, "teacher": record["teacher"] or model, "meta": meta}
