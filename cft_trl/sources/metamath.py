r"""MetaMathQA (meta-math/MetaMathQA): 395,000 rewritten GSM8K and MATH *train* problems with GPT-3.5 answers; MIT.

    {"type": "GSM_Rephrased", "original_question": "A baker fills 4 trays with 12 rolls each ...",
     "query": "If a baker has 4 trays of 12 rolls and sells 30 of them, how many rolls remain?",
     "response": "There are 4 * 12 = 48 rolls.\nThe baker is left with 48 - 30 = 18 rolls.\nThe answer is: 18"}

The reference is what the response itself says after "The answer is:". The authors kept only responses whose answer
matched the original's, so it is the problem's answer too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

HUB_ID = "meta-math/MetaMathQA"
CONFIG = None
COLUMNS = ("query", "response", "original_question", "type")
TEXTS = ("query", "response")


def read(row: Mapping[str, Any]) -> dict[str, Any]:
    r"""A row's fields as a record has them.

    Example:
        >>> row = {"query": "6 x 7?", "response": "6 x 7 = 42.\nThe answer is: 42"}
        >>> read(row)["reference_answer"]
        '42'
    """
    _, marked, reference = str(row["response"] or "").rpartition("The answer is:")
    return {
        "query": row["query"],
        "response": row["response"],
        "reference_answer": (marked and reference.strip()) or None,
    }
