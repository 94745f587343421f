r"""The respond stage: the corpus' own responses, or new ones by models, several of a query where that is wanted.

    report = run_respond(rows, RespondSettings("models", samples=4), [Teacher("Qwen/Qwen2.5-7B")], "out")

With "models" a row goes out once per model and sample, with the response in place of its own. Where the row has a
reference answer, the response is graded (strictly, see grading/grade.py):

    {"id": "5c0e.Qwen/Qwen2.5-7B.3", "query": "What is 6 x 7?", "response": "It is $\\boxed{43}$.", "verdict": "wrong",
     "reference_answer": "42", "response_source": "Qwen/Qwen2.5-7B", ...,
     "meta": {"sample": 3, "finish_reason": "stop", "completion_tokens": 12}}

With "corpus" rows pass as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cft_trl.data.markup import plain_answer
from cft_trl.data.settings import Count, Whole, check_settings
from cft_trl.data.stage_files import StageReport, StageWriter
from cft_trl.data.teacher_prompts import answer_messages, refused_text
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

# What a row says of the response that is replaced.
_OF_THE_RESPONSE = ("label", "error_kind", "first_error_step")


@dataclass(frozen=True)
class RespondSettings:
    """The recipe's section `respond`. The sampling is one-shot CFT's published one.

    Attributes:
        answers: "corpus" keeps each row's own response; "models" asks for new ones.
        models: Who is asked ("vllm:Qwen/Qwen2.5-7B"; see synthesis/teachers.py), each about every query.
        samples: Responses per query and model.
        temperature, top_p: Sampling; null leaves a parameter out of the requests, as `max_tokens: null` does.
        max_tokens: The longest response, in the model's tokens.
        seed: For endpoints that take one; the k-th sample is asked with seed + k.
        extra: Further fields of each request's body, as `{reasoning_effort: low}` or `{chat_template_kwargs: {...}}`.
        system: The system turn; "" for none.

    Raises:
        CFTError: A value that cannot be.
    """

    answers: Literal["corpus", "models"] = "corpus"
    models: Teachers = ()
    samples: Count = 1
    temperature: Temperature = 0.6
    top_p: TopP = 0.95
    max_tokens: MaxTokens = 2048
    seed: Whole | None = None
    extra: Extra = field(default_factory=dict)
    system: str = MATH_SYSTEM

    def __post_init__(self) -> None:
        check_settings(self, "respond")
        check_extra(self.extra, "respond.extra")


def run_respond(
    rows: Iterable[Mapping[str, Any]],
    settings: RespondSettings,
    teachers: Sequence[Model],
    folder: str | Path,
    *,
    shard: str | None = None,
    progress: Progress | None = None,
) -> StageReport:
    """Gives every row its response or responses; writes the stage `respond`.

    Args:
        rows: Records, re-iterable. With "models" their own response is not looked at.
        settings: Whose responses.
        teachers: The opened models, one for each that `settings` names; none with "corpus".
        folder, shard, progress: As for `cft_trl.synthesis.asking.ask_rows`.

    Returns:
        The stage's report.

    Raises:
        CFTError: As for `ask_rows`; or rows have reference answers and there is no mpmath to grade with.
    """
    if settings.answers == "corpus":
        with StageWriter(folder, "respond", shard) as out:
            for record, line in records_with_lines(rows):
                out.report.read += 1
                if (record["response"] or "").strip():
                    out.row(line)
                else:
                    out.failure(record["id"], "empty response")
        return out.report

    def read(record: Record, model: str, sample: int, made: Generation) -> dict[str, Any] | str:
        text = plain_answer(made.text)
        if reason := refused_text(text, "answer"):
            return reason
        meta = {name: value for name, value in (record["meta"] or {}).items() if name not in _OF_THE_RESPONSE}
        meta |= {"sample": sample, "finish_reason": made.finish_reason}
        meta["completion_tokens"] = made.completion_tokens
        fields = {"response": text, "response_source": model, "meta": meta}
        return fields | dict.fromkeys(("critique", "verdict", "refinement", "teacher"))

    plan = StagePlan(
        stage="respond",
        samples=settings.samples,
        sampling=sampling_of(settings),
        messages=lambda record: answer_messages(record["query"], settings.system),
        unaskable=lambda record: None if (record["query"] or "").strip() else "empty query",
        read=read,
        numbered=True,
        finish=_grade,
    )
    return ask_rows(rows, plan, teachers, folder, shard=shard, progress=progress)


def _grade(records: list[Record]) -> None:
    """Sets the verdict of each record that has a reference answer."""
    from cft_trl.grading.grade import grade_many

    known = [(record, gold) for record in records if (gold := record["reference_answer"] or "").strip()]
    if known:
        hits = grade_many((record["response"], gold) for record, gold in known)
        for (record, _), hit in zip(known, hits, strict=True):
            record["verdict"] = "right" if hit else "wrong"
