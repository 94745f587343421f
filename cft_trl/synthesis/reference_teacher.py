"""The teacher without a model: it reads the row itself and answers from its reference steps or reference answer.

    teacher = ReferenceTeacher()
    run_critique(rows, CritiqueSettings(teachers=("reference",)), [teacher], "out")

    Generation("Step 1: 3 × 8 = 24, correct. ... Conclusion: wrong [END]", "stop", 0, 0)
    failed("nothing to check", "neither reference steps nor a numeric reference answer to compare with")

See `cft_trl.sources.reference` for how it judges.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from cft_trl.generation.identities import reference_identity
from cft_trl.generation.types import Answers, Counts, Generation, InMemory, Kept, Request, failed
from cft_trl.models.identity import Identity
from cft_trl.sources.reference import critique_from_reference

_SLICE_S = 0.01  # after so long the other teachers, who wait for their servers, have their turn


@dataclass(frozen=True)
class ReferenceTeacher:
    """Writes critiques from what a row knows of its problem; about 10,000 a second.

    It answers from `Request.tag`, the record. It writes no answers of its own, so it is of use to the critique stage
    only.
    """

    model: str = "reference"

    @property
    def identity(self) -> Identity:
        """Its code: with another wording, or another way to judge, it is another teacher."""
        return reference_identity()

    def question(self, record: Mapping[str, Any]) -> list[dict[str, str]]:
        """What identifies its answer: all it reads of a row, where other teachers have their prompt."""
        known = [record["id"], record["query"], record["response"], record["reference_answer"]]
        meta = record["meta"] or {}
        known += [
            meta.get("steps"),
            *([meta["checks"], meta.get("fault"), meta.get("grade")] if "checks" in meta else ()),
        ]
        return [{"role": "user", "content": json.dumps(known, ensure_ascii=False)}]

    async def ask(
        self,
        requests: Iterable[Request],
        kept: Kept | None = None,
        *,
        counts: Counts | None = None,
        in_order: bool = False,
    ) -> Answers:
        """As `types.Model.ask`; results always come in the requests' order.

        Args:
            requests: With the row in `tag`.
            kept: What was answered before, and takes what is new.
            counts: Is kept up to date while it runs.
            in_order: They always do.
        """
        counts, kept = Counts() if counts is None else counts, InMemory() if kept is None else kept
        turn_ends = time.monotonic() + _SLICE_S
        for request in requests:
            key = request.key
            generation = kept.get(key)
            if generation is None:
                generation = _answer(request)
                kept.append(key, generation)
                counts.sent += 1
                counts.add(generation)
            else:
                counts.from_journal += 1
            yield request, generation
            if time.monotonic() > turn_ends:
                await asyncio.sleep(0)
                turn_ends = time.monotonic() + _SLICE_S


def _answer(request: Request) -> Generation:
    record = request.tag
    # The k-th critique of a response differs in its wording; the first is the one that the source itself gives.
    wording = f"{record['id']}.{request.sample}" if request.sample else None
    for known in (record, {**record, "meta": None}):
        # A corpus may have `steps` of its own kind, or numbers that cannot be written exactly: then the reference
        # answer alone is compared, or nothing is.
        with suppress(LookupError, TypeError, ValueError, AttributeError, ArithmeticError):
            if text := critique_from_reference(known, wording):
                return Generation(text, "stop", 0, 0)
    return failed("nothing to check", "neither reference steps nor a numeric reference answer to compare with")
