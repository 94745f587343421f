"""What a model can do after an arm: solve, judge solutions, and still answer in the form that is asked for.

    {"kind": "solving", "set": "in", "id": "in-000003", "truth": "19", "text": "3 × 8 = 24 …", "said": "19 pencils",
     "hit": True, "form": True}
    {"kind": "critic", "set": "in", "id": "in-000003", "truth": "wrong", "text": "Step 1: …", "said": "wrong",
     "hit": True, "form": True}

Both greedy. A solution is graded strictly (`cft_trl.grading.grade`), a critique by its verdict; none is a miss. `form`
is the probe of format drift: a question is to be answered by a text that ends by itself, states a final answer and
passes no verdict (a model that was tuned on critiques may critique what nobody wrote); a solution that is to be
critiqued, by a text that ends by itself and passes one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from cft_trl.data.prompts import Prompting, chat_messages
from cft_trl.data.verdict import parse_verdict
from cft_trl.evaluation.critic import judge
from cft_trl.experiments.mixtures import PRESET, Row
from cft_trl.generation.local import LocalModel
from cft_trl.generation.types import Generation
from cft_trl.grading.answers import extract_answer
from cft_trl.grading.grade import grade_many
from cft_trl.progress import progress

Probed = dict[str, Any]

_NEEDED = {"solving": "reference_answer", "critic": "verdict"}
_STATED = re.compile(r"answer|\\boxed|####", re.IGNORECASE)


def probe(model: LocalModel, rows: Sequence[Row], kinds: Sequence[str], max_new_tokens: int, who: str) -> list[Probed]:
    """Asks a model about rows -> one dict per kind and row, as above, the kinds in their order.

    A row with a `reference_answer` is solved, one with a `verdict` is critiqued; all are asked together, because a CPU
    writes forty texts in little more time than twenty.

    Args:
        model: In this process.
        rows: With `id`, `query`, `response`, `reference_answer`, `verdict`, `meta["set"]`.
        kinds: Of "solving" and "critic".
        max_new_tokens: Of a text; one that is cut there has not the form.
        who: Whose texts they are, as its progress says.
    """
    prompting = Prompting("cft", preset=PRESET)
    asked = [(kind, row) for kind in kinds for row in rows if row[_NEEDED[kind]]]
    turns = [row["query"] if kind == "solving" else prompting.user_turn(row) for kind, row in asked]
    with progress(f"{who}: texts", len(turns)) as advance:
        made = model.generate(
            [chat_messages(turn) for turn in turns], max_new_tokens=max_new_tokens, on_result=lambda *_: advance(1)
        )
    solved = [(one, row) for one, (kind, row) in zip(made, asked, strict=True) if kind == "solving"]
    hits = iter(grade_many([(one.text, row["reference_answer"]) for one, row in solved]))
    found = []
    for one, (kind, row) in zip(made, asked, strict=True):
        if kind == "solving":
            said = extract_answer(one.text)
            found.append(_probed(kind, row, one, row["reference_answer"], said, next(hits), answers(one)))
        else:
            verdict = judge(row, one.text)["verdict"]
            form = verdict is not None and one.finish_reason == "stop"
            found.append(_probed(kind, row, one, row["verdict"], verdict, verdict == row["verdict"], form))
    return found


def answers(made: Generation) -> bool:
    """Whether a text has the form of an answer to a question: whole, with a final answer, no critique.

    Example:
        >>> text = "3 × 8 = 24 pencils\\nThe answer is 24 pencils."
        >>> answers(Generation(text, "stop", 0, 0)), answers(Generation(text, "length", 0, 0))
        (True, False)
        >>> answers(Generation(text + "\\nConclusion: right [END]", "stop", 0, 0))
        False
    """
    whole = made.finish_reason == "stop" and _STATED.search(made.text) is not None
    return whole and parse_verdict(made.text) is None


def share(probed: Sequence[Probed], what: str = "hit") -> float:
    """The share of them with `hit` or `form`."""
    return sum(one[what] for one in probed) / len(probed)


def _probed(kind: str, row: Row, made: Generation, truth: str, said: str | None, hit: bool, form: bool) -> Probed:
    return {
        "kind": kind,
        "set": row["meta"]["set"],
        "id": row["id"],
        "truth": truth,
        "text": made.text,
        "said": said,
        "hit": bool(hit),
        "form": bool(form),
    }
