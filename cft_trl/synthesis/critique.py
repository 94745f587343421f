"""The critique stage: m teachers write k critiques of every response.

    report = run_critique(rows, CritiqueSettings(samples=2), [Teacher("gpt-4o-2024-11-20")], "out")

A row comes in with a query and a response, and goes out once per teacher and sample:

    {"id": "5c0e.gpt-4o-2024-11-20.0", "query": "What is 6 x 7?", "response": "43", "verdict": "wrong",
     "critique": "6 x 7 is 42.\\n\\nConclusion: wrong [END]", "teacher": "gpt-4o-2024-11-20", ...,
     "meta": {"label": "wrong", "sample": 0, "finish_reason": "stop", "completion_tokens": 24}}

`verdict` is from then on the critique's own. What was known of the response before (by the corpus, or graded by the
respond stage) is kept as `meta["label"]`; a row that brings its critique keeps the label that it has. With verdict
words of one's own (`verdicts`) it stays right or wrong, and `meta["said"]` is the word: "accept", or the grade "4".
With the preset "per_step" `meta["named_step"]` is the step that the critique calls the first wrong one, from 1; null
where it names none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Any, Literal

from cft_trl.data.prompt_templates import check_template, read_template, response_steps
from cft_trl.data.settings import Count, Expected, Whole, check_settings
from cft_trl.data.stage_files import StageReport
from cft_trl.data.teacher_prompts import clean_critique, critique_messages, refused_critique
from cft_trl.data.verdict import parse_verdict
from cft_trl.data.verdict_vocabulary import FORMS, VerdictForms, Verdicts, read_verdicts
from cft_trl.errors import CFTError
from cft_trl.evaluation.first_error import first_error_step
from cft_trl.generation.dialect import check_extra
from cft_trl.generation.types import Generation, Model
from cft_trl.sources.reference import END
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

REFERENCE = "reference"  # the teacher without a model, see reference_teacher.py


@dataclass(frozen=True)
class CritiqueSettings:
    """The recipe's section `critique`. Its defaults are the published teacher call.

    Attributes:
        teachers: Who is asked ("openai:gpt-4o-2024-11-20", "reference"; see synthesis/teachers.py), each about every
            response.
        samples: Critiques per response and teacher.
        preset: The prompt: "plain", "boxed", which asks for the corrected answer in a box too, or "per_step", which
            asks for a judgement of each step.
        prompt: A prompt of your own in the preset's place: a Jinja2 template's file, beside the recipe, or its text.
        verdicts: The words that critiques conclude with: {right: accept, wrong: reject}, or grades from the worst to
            the best, {grades: [1, 2, 3, 4, 5], right_from: 4}; by default right and wrong.
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
    preset: Literal["plain", "boxed", "per_step"] = "plain"
    prompt: str | None = None
    verdicts: Annotated[Mapping[str, Any], VerdictForms(), Expected(FORMS)] = field(default_factory=dict)
    show_reference: bool = False
    temperature: Temperature = 0.3
    top_p: TopP = 0.95
    max_tokens: MaxTokens = 3200
    seed: Whole | None = None
    extra: Extra = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_settings(self, "critique")
        check_extra(self.extra, "critique.extra")
        words = self.words
        if self.prompt is not None:
            if self.preset != "plain":
                raise CFTError(f"critique.prompt stands in the place of preset={self.preset}; give one of the two")
            object.__setattr__(self, "prompt", read_template(self.prompt, "critique.prompt"))
            check_template(self.prompt, words, where="critique.prompt", also=("reference_answer",), ends=True)

    @cached_property
    def words(self) -> Verdicts | None:
        """`verdicts`, read; None for right and wrong."""
        return read_verdicts(self.verdicts, "critique.verdicts")

    def messages(self, record: Mapping[str, Any], show_reference: bool | None = None) -> list[dict[str, str]]:
        """What a teacher is asked about a record.

        Args:
            record: The row.
            show_reference: In the place of the settings' own.
        """
        shown = self.show_reference if show_reference is None else show_reference
        return critique_messages(record, self.preset, shown, template=self.prompt, verdicts=self.words)


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
        messages=settings.messages,
        unaskable=unaskable,
        read=partial(_read, settings),
    )
    return ask_rows(rows, plan, teachers, folder, shard=shard, progress=progress)


def _read(
    settings: CritiqueSettings, record: Record, model: str, sample: int, made: Generation
) -> dict[str, Any] | str:
    written, verdicts = made.text, settings.words
    if verdicts and model == REFERENCE:
        written = _in_words(written, verdicts)
    text = clean_critique(written, verdicts)
    if reason := refused_critique(text, verdicts):
        return reason
    meta = dict(record["meta"] or {})
    for name in ("sample", "finish_reason", "completion_tokens"):
        if name in meta:  # of the response that a model wrote
            meta[f"response_{name}"] = meta.pop(name)
    if record["verdict"]:
        meta["label"] = record["verdict"]
    meta |= {"sample": sample, "finish_reason": made.finish_reason}
    meta["completion_tokens"] = made.completion_tokens
    verdict = parse_verdict(text)
    if verdicts:
        meta["said"] = said = verdicts.said(text)
        verdict = verdicts.meaning(said) if said else None
    if settings.preset == "per_step":
        steps = response_steps(record["response"])
        meta["named_step"] = first_error_step(text, steps) if verdict == "wrong" else None
    return {"critique": text, "verdict": verdict, "teacher": model, "meta": meta}


def in_own_words(row: Mapping[str, Any], verdicts: Verdicts | None) -> Mapping[str, Any]:
    """A row that brings its critique, with the verdict that it states in verdict words of one's own, or with none.

    Its verdict until now may have been read from the critique in right and wrong, which these words are not. One that
    was given beside the critique, and that it does not state, is what is known of the response: it becomes
    `meta["label"]` where the row has no label yet.

    Args:
        row: The record.
        verdicts: The words; None for right and wrong, in which it has been read already.
    """
    if verdicts is None or not row["critique"]:
        return row
    said = verdicts.said(row["critique"])
    verdict = verdicts.meaning(said) if said else None
    meta = dict(row["meta"] or {})
    if row["verdict"] not in (None, verdict, parse_verdict(row["critique"])):
        meta.setdefault("label", row["verdict"])
    if said:
        meta["said"] = said
    return {**row, "verdict": verdict, "meta": meta or None}


def _in_words(text: str, verdicts: Verdicts) -> str:
    """The reference teacher's critique, which ends as published, with another pair's word; grades it gives itself."""
    for verdict, line in END.items():
        if not verdicts.graded and text.endswith(line):
            return text.removesuffix(line) + verdicts.line(verdicts.words[verdict == "right"])
    return text
