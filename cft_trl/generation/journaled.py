r"""A model through a journal: what it has answered comes from there, and what it answers is there before anything else.

with Journal("out/journal", "critique") as journal:
    async for request, generation in Journaled(model, journal).ask(requests): ...

Generation("6 x 7 is 42.", "stop", 310, 24)
{"key": "0f5a…", "text": "6 x 7 is 42.", "finish_reason": "stop", "prompt_tokens": 310, "completion_tokens": 24,
 "by": "9f2c41aa", "on": "2026-11-28"}

failed("context length", "This model's maximum …")
{"key": "77c1…", "failure": "context length", "detail": "This model's maximum …"}
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any

from cft_trl.generation.journal import Journal, signed
from cft_trl.generation.types import Counts, Generation, Model, Request, failed


class Journaled:
    """A model and the journal of its answers; as a `Model` and, to the model itself, as what is `Kept`.

    Args:
        asked: The model.
        journal: Others may fill it at the same time.
        who: The key of the model's identity, which signs its answers; without it they are not signed.
    """

    def __init__(self, asked: Model, journal: Journal, who: str | None = None) -> None:
        self.asked, self.journal, self.who = asked, journal, who

    @property
    def model(self) -> str:
        return self.asked.model

    @property
    def identity(self) -> Mapping[str, Any]:
        return self.asked.identity

    def ask(
        self, requests: Iterable[Request], *, counts: Counts | None = None, in_order: bool = False
    ) -> AsyncIterator[tuple[Request, Generation]]:
        """As `types.Model.ask`. The model keeps each result the moment it has it: it may be paid for, and answers that
        wait for their turn would be lost with the process."""
        return self.asked.ask(requests, self, counts=counts, in_order=in_order)

    # ---- what is kept ----

    @property
    def path(self) -> Path:
        return self.journal.path

    def __contains__(self, key: str) -> bool:
        return key in self.journal

    def __len__(self) -> int:
        return len(self.journal)

    def get(self, key: str) -> Generation | None:
        entry = self.journal.get(key)
        return None if entry is None else generation_of(entry)

    def append(self, key: str, generation: Generation, again: bool = False) -> None:
        """Keeps a result: it is in the file when this returns.

        Args:
            again: Whether a later run is to ask again (a request given up after many tries). This run does not.

        Raises:
            CFTError: The disk is full or gone; the journal is left as it was before.
        """
        entry = entry_of(generation)
        if self.who and generation.failure is None:
            entry = signed(entry, self.who)
        self.journal.append(key, entry, again=again)


def entry_of(generation: Generation) -> dict[str, Any]:
    """A generation as the journal has it, without what need not be said.

    Example:
        >>> entry_of(Generation("Sound.", "stop", 9, 2, without=("seed",)))["without"], entry_of(failed("time-out"))
        (['seed'], {'failure': 'time-out', 'detail': ''})
    """
    if generation.failure is not None:
        return {"failure": generation.reason, "detail": generation.failure}
    entry: dict[str, Any] = {
        "text": generation.text,
        "finish_reason": generation.finish_reason,
        "prompt_tokens": generation.prompt_tokens,
        "completion_tokens": generation.completion_tokens,
    }
    if generation.fingerprint:
        entry["fingerprint"] = generation.fingerprint
    if generation.without:
        entry["without"] = list(generation.without)
    if generation.limit_cut:
        entry["limit_cut"] = True
    return entry


def generation_of(entry: Mapping[str, Any]) -> Generation:
    """An entry of the journal, read.

    Example:
        >>> made = Generation("Sound.", "stop", 9, 2, without=("seed",), fingerprint="fp_1", limit_cut=True)
        >>> generation_of(entry_of(made)) == made
        True
        >>> generation_of({"failure": "500", "detail": "oops"}) == failed("500", "oops")
        True
    """
    get = entry.get
    if "text" not in entry:
        return failed(get("failure") or "not asked", get("detail") or "")
    return Generation(
        entry["text"],
        get("finish_reason"),
        get("prompt_tokens"),
        get("completion_tokens"),
        get("failure"),
        without=tuple(get("without", ())),
        fingerprint=get("fingerprint"),
        limit_cut=bool(get("limit_cut")),
    )
