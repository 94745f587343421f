r"""GSM8K (openai/gsm8k, configuration main): 7,473 school word problems, solved by people; MIT.

    {"question": "A baker fills 4 trays with 12 rolls each and sells 30 rolls. How many rolls are left?",
     "answer": "He bakes 4*12=<<4*12=48>>48 rolls.\nSo 48-30=<<48-30=18>>18 are left.\n#### 18"}

The response is the corpus' own answer as it stands, with its <<...>> notes; the reference is what follows "####".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

HUB_ID = "openai/gsm8k"
CONFIG = "main"
COLUMNS = ("question", "answer")
TEXTS = COLUMNS  # the columns that are not repeated in `meta`


def read(row: Mapping[str, Any]) -> dict[str, Any]:
    r"""A row's fields as a record has them.

    Example:
        >>> read({"question": "6 x 7?", "answer": "6*7=<<6*7=42>>42\n#### 42"})["reference_answer"]
        '42'
    """
    question, answer = row["question"], row["answer"]
    _, marked, reference = str(answer or "").rpartition("####")
    return {"query": question, "response": answer, "reference_answer": (marked and reference.strip()) or None}
