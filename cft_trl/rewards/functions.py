r"""What a completion is worth: 1.0, 0.0, or None where the reward does not apply to its row.

    {"prompt": [...], "task": "critique", "verdict": "wrong", "reference_answer": "42"}      a row
    [{"role": "assistant", "content": "6 x 7 is 42.\n\nConclusion: wrong [END]"}]            a completion: verdict_reward 1.0

TRL leaves a None out of its row's sum, so that one list of functions does for a mixture of tasks. Nothing is given for
form: a critique that says neither right nor wrong is worth as much as a wrong one.
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cft_trl.data.markup import spoken
from cft_trl.data.verdict import parse_verdict, to_verdict
from cft_trl.errors import CFTError
from cft_trl.grading.grade import grade_many

TASKS = ("critique", "refine", "solve")

Rewards = list[float | None]


def verdict_reward(
    completions: Sequence[Any], task: Sequence[str] | None = None, verdict: Sequence[Any] | None = None, **_: Any
) -> Rewards:
    """1.0 for a critique whose verdict is the truth, else 0.0 (Critique-Coder, arXiv 2509.22824).

    Args:
        completions: Texts, or messages as TRL gives them, of which the last of the assistant counts.
        task: Each row's task; only "critique" has this reward. Without the column every row is one.
        verdict: The truth: what `to_verdict` knows.

    Raises:
        CFTError: There is no column `verdict`, a critique's row has none, or a row's task is none of `TASKS`.

    Example:
        >>> verdict_reward(["Conclusion: wrong", "Fine.", "42"], ["critique", "critique", "solve"], ["wrong"] * 3)
        [1.0, 0.0, None]
    """
    rewards: Rewards = []
    for text, of, truth in _rows("verdict_reward", completions, task, "critique", verdict, "verdict"):
        wanted = to_verdict(truth) if of else None
        if of and wanted is None:
            raise CFTError(
                "verdict_reward: a row of task critique has no verdict; give right or wrong, or leave it out"
            )
        rewards.append(float(parse_verdict(text) == wanted) if of else None)
    return rewards


def refinement_reward(
    completions: Sequence[Any],
    task: Sequence[str] | None = None,
    reference_answer: Sequence[str | None] | None = None,
    **_: Any,
) -> Rewards:
    """1.0 for a solution, written with a critique at hand or behind one, whose final answer is right; strictly graded.

    Args:
        completions: Texts, or messages as TRL gives them, of which the last of the assistant counts.
        task: Each row's task; only "refine" has this reward. Without the column every row is one.
        reference_answer: The right answers; 0 is one.

    Raises:
        CFTError: There is no column `reference_answer`, a row of the task has none, or a row's task is none of `TASKS`.

    Example:
        >>> refinement_reward(["7 x 6 is 42. The answer is 42."], reference_answer=["42"])
        [1.0]
    """
    return _graded("refinement_reward", completions, task, "refine", reference_answer)


def solution_reward(
    completions: Sequence[Any],
    task: Sequence[str] | None = None,
    reference_answer: Sequence[str | None] | None = None,
    **_: Any,
) -> Rewards:
    r"""1.0 for a solution whose final answer is right, strictly graded; of task "solve". Else as `refinement_reward`.

    Args:
        completions: Texts, or messages as TRL gives them, of which the last of the assistant counts.
        task: Each row's task; only "solve" has this reward. Without the column every row is one.
        reference_answer: The right final answers; 0 is one.

    Raises:
        CFTError: As `refinement_reward`.

    Example:
        >>> solution_reward([[{"role": "assistant", "content": r"\boxed{42}"}], "43"], None, ["42", "42"])
        [1.0, 0.0]
    """
    return _graded("solution_reward", completions, task, "solve", reference_answer)


def _graded(name: str, completions: Sequence[Any], task: Any, mine: str, references: Any) -> Rewards:
    rows = _rows(name, completions, task, mine, references, "reference_answer")
    if any(of and reference in (None, "") for _, of, reference in rows):
        raise CFTError(f"{name}: a row of task {mine} has no reference_answer; give one or leave the row out")
    hits = iter(grade_many([(text, str(reference)) for text, of, reference in rows if of]))
    return [float(next(hits)) if of else None for _, of, _ in rows]


def _rows(
    name: str, completions: Sequence[Any], task: Any, mine: str, truths: Any, column: str
) -> list[tuple[str, bool, Any]]:
    """Per row: what was said, whether the reward applies, the truth."""
    tasks = [mine] * len(completions) if task is None else list(task)
    if others := [of for of in tasks if of not in TASKS]:
        raise CFTError(f"{name}: task {others[0]!r} is unknown; give one of {', '.join(TASKS)}")
    applies = [of == mine for of in tasks]
    if truths is None:
        if any(applies):
            raise CFTError(f"{name}: the rows have no column {column!r}; cft convert --to trl-prompts writes it")
        truths = [None] * len(completions)
    return [(_said(made), of, truth) for made, of, truth in zip(completions, applies, truths, strict=True)]


def _said(completion: Any) -> str:
    """What a completion says last, without a thought before it; what tools say is not the model's."""
    text = completion
    if not isinstance(completion, str):
        said = [turn for turn in completion if turn.get("role", "assistant") == "assistant"]
        text = str(said[-1].get("content") or "") if said else ""
    start, end = spoken(text)
    return text[start:end]
