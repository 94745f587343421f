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

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cft_trl.generation.generate import generate
from cft_trl.generation.journal import Journal, signed
from cft_trl.generation.types import Answers, Counts, Generation, Request, failed


class Journaled:
    """A model and the journal of its answers; as a `Model` and, to the model itself, as what is `Kept`.

    Args:
        asked: The model.
        journal: Others may fill it at the same time.
        who: The key of the model's identity, which signs its answers; without it they are not signed.
        entry: What the journal has of a generation.

    Attributes:
        refused: Why an endpoint refused, for each request that `fill` asked or `keep` was given in vain.
    """

    def __init__(
        self,
        asked: Any,
        journal: Journal,
        who: str | None = None,
        entry: Callable[[Any], dict[str, Any]] | None = None,
    ) -> None:
        self.asked, self.journal, self.who, self.entry = asked, journal, who, entry or entry_of
        self.refused: list[str | None] = []

    @property
    def model(self) -> str:
        return self.asked.model

    @property
    def identity(self) -> Mapping[str, Any]:
        return self.asked.identity

    def ask(self, requests: Iterable[Request], *, counts: Counts | None = None, in_order: bool = False) -> Answers:
        """As `types.Model.ask`. The model keeps each result the moment it has it: it may be paid for, and answers that
        wait for their turn would be lost with the process.

        Args:
            requests, counts, in_order: As there.
        """
        return self.asked.ask(requests, self, counts=counts, in_order=in_order)

    def fill(self, requests: Sequence[Request], on_kept: Callable[[int], Any] = lambda count: None) -> None:
        """Asks by `generate.generate`: for code that grades or shows.

        Args:
            requests: What is asked; the caller leaves out what is kept already.
            on_kept: Called with 1 for each answer.

        Raises:
            CFTError: As there; the journal is full.
        """

        def keep(at: int, generation: Generation) -> None:
            if self.keep(requests[at].key, generation):
                on_kept(1)

        generate(self.asked, requests, keep)

    def keep(self, key: str, made: Any) -> bool:
        """Keeps a generation (or a mode's outcome), unless it is a refusal: nothing was answered, and the same request
        may be answered another time."""
        if made.refused:
            self.refused.append(made.failure)
        else:
            self._append(key, made)
        return not made.refused

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
        self._append(key, generation, again)

    def _append(self, key: str, made: Any, again: bool = False) -> None:
        entry = self.entry(made)
        if self.who and made.failure is None:
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


def graded_entry(made: Any) -> dict[str, Any]:
    """A generation (or a mode's outcome) as the journal of an evaluation has it: a failure of the model is graded too.

    Example:
        >>> list(graded_entry(Generation("", "failed", 9, 0, "prompt too long", reason="context length")).items())[3:]
        [('completion_tokens', 0), ('failure', 'prompt too long')]
    """
    told = {"failure": made.failure, "fingerprint": made.fingerprint, "without": list(made.without)}
    return {
        "text": made.text,
        "finish_reason": made.finish_reason,
        "prompt_tokens": made.prompt_tokens,
        "completion_tokens": made.completion_tokens,
        **{name: value for name, value in told.items() if value},
    }


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
