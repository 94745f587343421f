r"""WebInstructSub (TIGER-Lab/WebInstructSub): 2.3 million questions and answers found on the web; Apache-2.0.

    {"orig_question": "Why is the sum of two odd numbers even?", "source": "mathstackexchange", "index": 71025,
     "orig_answer": "Write them as $2a+1$ and $2b+1$; the sum is $2(a+b+1)$."}

What WebInstruct-CFT was made of. It has no reference answers; where a copy brings a column `reference_answer`, that
is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

HUB_ID = "TIGER-Lab/WebInstructSub"
CONFIG = None
COLUMNS = ("orig_question", "orig_answer")
TEXTS = (*COLUMNS, "reference_answer")


def read(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row's fields as a record has them.

    Example:
        >>> read({"orig_question": "6 x 7?", "orig_answer": "43"})
        {'query': '6 x 7?', 'response': '43', 'reference_answer': None}
    """
    reference = row.get("reference_answer") or None
    return {"query": row["orig_question"], "response": row["orig_answer"], "reference_answer": reference}
