"""How good a critic is the model? It writes critiques of labelled rows; their verdicts are compared with the labels.

    {"id": "gsm8k-17", "truth": "wrong", "verdict": "wrong", "critique": "Step 1: …", "level": None, "steps": 4,
     "first_error": 2, "named_step": 3}          the verdict hits; the step named is not the first wrong one

`score_verdicts` counts such rows. ProcessBench's own F1 asks for the step: a wrong solution is a hit only when its
first wrong step is named. Both F1s are given, with and without the step; neither rewards calling everything wrong.
Every generation is kept, so that each figure can be counted again by hand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cft_trl.data.prompt_templates import response_steps
from cft_trl.data.prompts import Wording, own_verdicts, said_by, verdict_by
from cft_trl.data.verdict_vocabulary import Verdicts
from cft_trl.errors import CFTError
from cft_trl.evaluation.first_error import first_error_step
from cft_trl.generation.local import AT_ONCE
from cft_trl.generation.modes import critique
from cft_trl.grading.intervals import harmonic_interval, harmonic_mean, wilson_interval

Judged = dict[str, Any]


def generate_verdicts(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Mapping[str, Any]],
    *,
    prompt_preset: str | Wording = "paper",
    max_new_tokens: int = 512,
    batch_size: int = AT_ONCE,
    on_progress: Callable[[int], None] | None = None,
) -> list[Judged]:
    """Lets the model critique each row, greedily -> one dict per row, as `judge` makes it.

    Args:
        model: a causal language model, in evaluation mode.
        tokenizer: its tokenizer.
        rows: with `query`, `response` and a `verdict`, "right" or "wrong".
        prompt_preset: wording of the critique prompt the model was trained with.
        max_new_tokens: limit per critique, in tokens.
        batch_size: rows computed together.
        on_progress: called with the number of rows that have been done since it was called last.

    Raises:
        CFTError: a row has no verdict to compare with.
    """
    for number, row in enumerate(rows):
        if row.get("verdict") not in ("right", "wrong"):
            raise CFTError(f"row {number}: column 'verdict' is {row.get('verdict')!r}; give right or wrong")
    texts = critique(
        model,
        tokenizer,
        rows,
        prompt_preset=prompt_preset,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        on_progress=on_progress,
    )
    return [judge(row, text, prompt_preset) for row, text in zip(rows, texts, strict=True)]


def judge(row: Mapping[str, Any], text: str, preset: str | Wording = "paper") -> Judged:
    """What a critique says of a row, beside what is so.

    Args:
        row: With `id`, `verdict` (the truth) and, where known, `first_error` and `steps`, or a record's `meta` with
            `first_error_step`. A response without `steps` has those of `response_steps`.
        text: The critique.
        preset: The wording it was asked in, whose verdict words it uses.

    Returns:
        `id`, `truth`, `verdict` (or None), `critique`, `level`, `steps` (how many), `first_error` and `named_step` (both
        from 1, or None). Only a critique that concludes wrong is asked which step it means. In a wording with words of
        its own also `said`, the word; with grades `grade` (the row's, from its `meta`, or None) and `off`, how many
        grades the two lie apart.

    Example:
        >>> row = {"id": "a", "verdict": "wrong", "response": "1 + 1 = 2", "steps": ["1 + 1 = 2", "2 + 1 = 4"], "first_error": 2}
        >>> found = judge(row, "Step 2 is wrong: 2 + 1 = 3. Conclusion: wrong [END]")
        >>> found["verdict"], found["named_step"], found["first_error"]
        ('wrong', 2, 2)
    """  # noqa: E501
    meta = row.get("meta") or {}
    steps = row.get("steps") or response_steps(row.get("response") or "")
    verdict = verdict_by(text, preset)
    verdicts = own_verdicts(preset)
    return {
        **({"said": said_by(text, preset)} if verdicts else {}),
        **(_graded(row, text, verdicts) if verdicts and verdicts.graded else {}),
        "id": row.get("id"),
        "truth": row["verdict"],
        "verdict": verdict,
        "critique": text,
        "level": row.get("level", meta.get("level")),
        "steps": len(steps),
        "first_error": row.get("first_error", meta.get("first_error_step")),
        "named_step": first_error_step(text, steps) if verdict == "wrong" else None,
    }


def _graded(row: Mapping[str, Any], text: str, verdicts: Verdicts) -> Judged:
    meta = row.get("meta") or {}
    grade = next((told for told in (row.get("grade"), meta.get("grade"), meta.get("said")) if told is not None), None)
    grade, said = None if grade is None else str(grade), verdicts.said(text)
    known = grade in verdicts.words and said is not None
    off = abs(verdicts.words.index(str(grade)) - verdicts.words.index(str(said))) if known else None
    return {"grade": grade if grade in verdicts.words else None, "said": said, "off": off}


def score_verdicts(judged: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Counts verdicts and named steps. A missing verdict counts as a miss; intervals are Wilson's, 95%.

    Args:
        judged: dicts with `truth` and `verdict`, and `first_error`, `named_step` and `steps` where they are known.

    Returns:
        `rows`, `hits`, `accuracy`, `interval_95`; `majority_rate`, what always giving the more frequent verdict would
        reach; `no_verdict`; `accuracy_right` and `accuracy_wrong` (of right and of wrong solutions) with their
        `interval_95_…`; `f1` of these two, their harmonic mean, with `f1_interval_95`; and `first_error`, if wrong
        solutions have that label: of its `rows`, how many critiques concluded wrong and `named` a step, and how many
        the first wrong one (`hits`, `accuracy`, `interval_95`), beside `chance`, a step drawn at random, and
        `majority_rate`, always the commonest one; with
        ProcessBench's own `f1`, in which `accuracy` stands for `accuracy_wrong`; and `grades`, where rows have one: how
        many critiques gave that grade (`hits`, `accuracy`, `interval_95`), the share that is at most one grade off
        (`within_one`; no grade is a miss in both), and `majority_rate`, always the commonest grade.

    Example:
        >>> score = score_verdicts([{"truth": "wrong", "verdict": "wrong"}, {"truth": "right", "verdict": None}])
        >>> score["accuracy"], score["no_verdict"], score["majority_rate"], score["f1"]
        (0.5, 1, 0.5, 0.0)
    """
    total = len(judged)
    truths = Counter(row["truth"] for row in judged)
    score = {
        **_share(sum(row["verdict"] == row["truth"] for row in judged), total),
        "majority_rate": max(truths.values()) / total if total else 0.0,
        "no_verdict": sum(row["verdict"] is None for row in judged),
    }
    intervals = {}
    for truth, count in sorted(truths.items()):
        of_truth = _share(sum(row["verdict"] == truth == row["truth"] for row in judged), count)
        score[f"accuracy_{truth}"], intervals[truth] = of_truth["accuracy"], of_truth["interval_95"]
        score[f"interval_95_{truth}"] = of_truth["interval_95"]
    if len(truths) == 2:
        score["f1"] = harmonic_mean(score["accuracy_right"], score["accuracy_wrong"])
        score["f1_interval_95"] = list(harmonic_interval(intervals["right"], intervals["wrong"]))
    graded = [row for row in judged if row.get("grade") is not None]
    if graded:
        score["grades"] = {
            **_share(sum(row["off"] == 0 for row in graded), len(graded)),
            "within_one": sum(row["off"] is not None and row["off"] <= 1 for row in graded) / len(graded),
            "majority_rate": max(Counter(row["grade"] for row in graded).values()) / len(graded),
        }
    known = [row for row in judged if row["truth"] == "wrong" and row.get("first_error")]
    if known:
        found = _share(sum(row["named_step"] == row["first_error"] for row in known), len(known))
        found["named"] = sum(row["named_step"] is not None for row in known)
        found["majority_rate"] = max(Counter(row["first_error"] for row in known).values()) / len(known)
        found["chance"] = sum(1 / max(row["steps"], 1) for row in known) / len(known)
        if len(truths) == 2 and len(known) == truths["wrong"]:
            found["f1"] = harmonic_mean(score["accuracy_right"], found["accuracy"])
            found["f1_interval_95"] = list(harmonic_interval(intervals["right"], found["interval_95"]))
        score["first_error"] = found
    return score


def _share(hits: int, total: int) -> dict[str, Any]:
    interval = list(wilson_interval(hits, total))
    return {"rows": total, "hits": hits, "accuracy": hits / total if total else 0.0, "interval_95": interval}
