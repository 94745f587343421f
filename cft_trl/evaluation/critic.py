"""How good a critic is the model? It writes critiques of labelled rows; their verdicts are compared with the labels.

    {"id": "arithmetic-test-s0-000003", "truth": "wrong", "verdict": "wrong", "critique": "Step 1: …", "level": 1}

Every generation is kept, so that each figure can be counted again by hand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cft_trl.errors import CFTError
from cft_trl.evaluation.intervals import wilson_interval
from cft_trl.inference import critique
from cft_trl.verdict import parse_verdict


def generate_verdicts(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Mapping[str, Any]],
    *,
    prompt_preset: str = "paper",
    max_new_tokens: int = 512,
    batch_size: int = 16,
    on_progress: Callable[[int], None] | None = None,
) -> list[dict[str, Any]]:
    """Lets the model critique each row, greedily -> one dict per row: id, truth, verdict, critique, level.

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
    return [
        {
            "id": row.get("id"),
            "truth": row["verdict"],
            "verdict": parse_verdict(text),
            "critique": text,
            "level": (row.get("meta") or {}).get("level"),
        }
        for row, text in zip(rows, texts, strict=True)
    ]


def score_verdicts(judged: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Verdict accuracy with its 95% Wilson interval, beside the majority rate. A missing verdict counts as a miss.

    Args:
        judged: dicts with `truth` and `verdict`, as `generate_verdicts` returns them.

    Example:
        >>> score = score_verdicts([{"truth": "wrong", "verdict": "wrong"}, {"truth": "right", "verdict": None}])
        >>> score["accuracy"], score["no_verdict"], score["majority_rate"]
        (0.5, 1, 0.5)
    """
    total = len(judged)
    hits = sum(row["verdict"] == row["truth"] for row in judged)
    truths = Counter(row["truth"] for row in judged)
    low, high = wilson_interval(hits, total)
    by_truth = {
        f"accuracy_{truth}": sum(r["verdict"] == truth for r in judged if r["truth"] == truth) / count
        for truth, count in sorted(truths.items())
    }
    return {
        "rows": total,
        "hits": hits,
        "accuracy": hits / total if total else 0.0,
        "interval_95": [low, high],
        "majority_rate": max(truths.values()) / total if total else 0.0,
        "no_verdict": sum(row["verdict"] is None for row in judged),
        **by_truth,
    }
