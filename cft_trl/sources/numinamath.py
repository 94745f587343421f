r"""NuminaMath-CoT (AI-MO/NuminaMath-CoT): 859,000 competition and school problems with worked solutions; Apache-2.0.

    {"source": "cn_k12", "problem": "A triangle has sides $3$, $4$ and $5$. What is its area?",
     "solution": "It has a right angle, so the area is $\\frac{3 \\cdot 4}{2} = \\boxed{6}$.",
     "messages": [{"role": "user", "content": "A triangle ..."}, {"role": "assistant", "content": "It has ..."}]}

The reference is the solution's last box; a proof has none. `messages` repeats the two texts and is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cft_trl.grading.benchmarks import gold_from_solution

HUB_ID = "AI-MO/NuminaMath-CoT"
CONFIG = None
COLUMNS = ("problem", "solution", "source")
TEXTS = ("problem", "solution", "messages")


def read(row: Mapping[str, Any]) -> dict[str, Any]:
    r"""A row's fields as a record has them.

    Example:
        >>> read({"problem": "6 x 7?", "solution": r"It is $\boxed{42}$.", "source": "cn_k12"})["reference_answer"]
        '42'
    """
    reference = gold_from_solution(str(row["solution"] or "")) or None
    return {"query": row["problem"], "response": row["solution"], "reference_answer": reference}
