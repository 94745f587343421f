"""The critique stage: m teachers write k critiques of every response.

    report = run_critique(rows, CritiqueSettings(samples=2), [Teacher("gpt-4o-2024-11-20")], "out")

A row comes in with a query and a response, and goes out once per teacher and sample:

    {"id": "5c0e.gpt-4o-2024-11-20.0", "query": "What is 6 x 7?", "response": "43", "verdict": "wrong",
     "critique": "6 x 7 is 42.\\n\\nConclusion: wrong [END]", "teacher": "gpt-4o-2024-11-20", ...,
     "meta": {"label": "wrong", "sample": 0, "finish_reason": "stop", "completion_tokens": 24}}

`verdict` is from then on the critique's own. What was known of the response before (by the corpus, or graded by the
respond stage) is kept as `meta["label"]`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cft_trl.data.settings import Count, Whole, check_settings
from cft_trl.data.stage_files import StageReport
from cft_trl.data.teacher_prompts import clean_critique, critique_messages, refused_critique
from cft_trl.data.verdict import parse_verdict
from cft_trl.generation.dialect import check_extra
from cft_trl.generation.types import Generation, Model
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
    sampling_of,
)


@dataclass(frozen=True)
class CritiqueSettings:
    """The recipe's section `critique`. Its defaults are the published teacher call.

    Attributes:
        teachers: Who is asked ("openai:gpt-4o-2024-11-20", "reference"; see synthesis/teachers.py), each about every
            response.
        samples: Critiques per response and teacher.
        preset: The prompt: "plain", or "boxed", which asks for the corrected answer in a box too.
        show_reference: Whether teachers see the reference answer. Hidden is what was published.
        temperature, top_p: Sampling; null leaves a parameter out of the requests, as `max_tokens: null` does.
        max_tokens: The longest critique, in the teacher's tokens.
        seed: For endpoints that take one; the k-th sample is asked with seed + k.
        extra: Further fields of each request's body, as `{reasoning_effort: low}` or `{chat_template_kwargs: {...}}`.

    Raises:
        CFTError: A value that cannot be.

    Example:
        >>> CritiqueSettings(samples=0)
        Traceback (most recent call last):
        cft_trl.errors.CFTError: critique.samples=0: give a whole number from 1
    """

    teachers: Teachers = ()
    samples: Count = 1
    preset: Literal["plain", "boxed"] = "plain"
    show_reference: bool = False
    temperature: Temperature = 0.3
    top_p: TopP = 0.95
    max_tokens: MaxTokens = 3200
    seed: Whole | None = None
    extra: Extra = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_settings(self, "critique")
        check_extra(self.extra, "critique.extra")


def run_critique(
    rows: Iterable[Mapping[str, Any]],
    settings: CritiqueSettings,
    teachers: Sequence[Model],
    folder: str | Path,
    *,
    shard: str | None = None,
    progress: Progress | None = None,
) -> StageReport:
    """Criticises every row's response; writes the stage `critique`.

    Args:
        rows: Records, re-iterable.
        settings: What is asked.
        teachers: The opened teachers, one for each that `settings` names.
        folder, shard, progress: As for `cft_trl.synthesis.asking.ask_rows`.

    Returns:
        The stage's report.

    Raises:
        CFTError: As for `ask_rows`.
    """

    def unaskable(record: Record) -> str | None:
        if not (record["response"] or "").strip():
            return "empty response"
        if settings.show_reference and not (record["reference_answer"] or "").strip():
            return "no reference answer"
        return None

    plan = StagePlan(
        stage="critique",
        samples=settings.samples,
        sampling=sampling_of(settings),
        messages=lambda record: critique_messages(record, settings.preset, settings.show_reference),
        unaskable=unaskable,
        read=_read,
    )
    return ask_rows(rows, plan, teachers, folder, shard=shard, progress=progress)


def _read(record: Record, model: str, sample: int, made: Generation) -> dict[str, Any] | str:
    text = clean_critique(made.text)
    if reason := refused_critique(text):
        return reason
    meta = dict(record["meta"] or {})
    for name in ("sample", "finish_reason", "completion_tokens"):
        if name in meta:  # of the response that a model wrote
            meta[f"response_{name}"] = meta.pop(name)
    if record["verdict"]:
        meta["label"] = record["verdict"]
    meta |= {"sample": sample, "finish_reason": made.finish_reason}
    meta["completion_tokens"] = made.completion_tokens
    return {"critique": text, "verdict": parse_verdict(text), "teacher": model, "meta": meta}
