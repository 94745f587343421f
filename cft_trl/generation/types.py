"""What every model that writes texts is asked, what it gives back, and what such a model is.

    Request("m", [{"role": "user", "content": "What is 2 + 2?"}], {"temperature": 0.3, "max_tokens": 32}, sample=0)
    Generation("2 + 2 = 4.", "stop", prompt_tokens=37, completion_tokens=9)
    Generation("", "failed", None, None, failure="This model's maximum context …", reason="context length")

    async for request, generation in model.ask(requests): ...

Models: an endpoint (client.py), its Batch API (batch.py), a vLLM server of ours (vllm_teacher.py), a transformers model
in this process (local.py); each may be asked through a journal (journaled.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from cft_trl.generation.journal import request_key

Message = Mapping[str, str]

# The published evaluation ends a generation at the first of these (method of arXiv 2501.17703).
STOP_STRINGS = ("[END]", "(END)", "**END**", r"\[END\]")


@dataclass(frozen=True, slots=True)
class Request:
    """One question to one model.

    Attributes:
        model: Its name, as an endpoint knows it.
        messages: The conversation, `{"role", "content"}` each; the first may be a system turn.
        sampling: As the protocol calls it: `max_tokens`, `temperature`, `top_p`, `stop`, `seed`, further fields.
        sample: Tells several answers to one question apart; a `seed` is counted up by it.
        tag: The caller's own, kept out of the key.
        who: The key of the model's identity, under which the answer is kept; without one it is the model's name.
        kept_as: The key, where it is not made of the above.
    """

    model: str
    messages: Sequence[Message]
    sampling: Mapping[str, Any] = field(default_factory=dict)
    sample: int = 0
    tag: Any = None
    who: str = ""
    kept_as: str = ""

    @property
    def key(self) -> str:
        return self.kept_as or request_key(self.who or self.model, self.messages, self.sampling, self.sample)

    @property
    def body(self) -> dict[str, Any]:
        """What an endpoint is sent."""
        sampling = dict(self.sampling)
        if sampling.get("seed") is not None:
            sampling["seed"] += self.sample
        return {"model": self.model, "messages": list(self.messages), **sampling}


@dataclass(frozen=True, slots=True)
class Choice:
    """A token that an endpoint wrote, as it shows it, and the likeliest in its place with their log probabilities."""

    text: str
    logprob: float
    others: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Generation:
    """What a model wrote.

    Attributes:
        text: Up to and with the first stop string (endpoints leave the stop string itself away).
        finish_reason: "stop" (an end token or a stop string), "length" (the limit came first), "failed", or what a
            server says that is none of these.
        prompt_tokens, completion_tokens: As counted by the tokenizer or the endpoint; None where it does not count.
        failure: Why there is no text, in a line; None where there is one.
        refused: Whether it was an endpoint that refused: nothing was answered, so there is nothing to grade or to keep.
        without: Sampling parameters that were asked for and that the endpoint does not take.
        fingerprint: What an endpoint says of the system that wrote the text (`system_fingerprint`), where it does.
        reason: The failure in a few words to count by: "context length", "time-out", …
        limit_cut: Whether it got less room than was asked for.
        choices: An endpoint's tokens, where `logprobs` were asked for. In no journal.
        ids: The tokens of a model in this process. In no journal.
    """

    text: str
    finish_reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    failure: str | None = None
    refused: bool = False
    without: tuple[str, ...] = ()
    fingerprint: str | None = None
    reason: str | None = None
    limit_cut: bool = False
    choices: tuple[Choice, ...] = field(default=(), repr=False, compare=False)
    ids: tuple[int, ...] = field(default=(), repr=False, compare=False)


# What a model gives: (request, generation), one per request; closed early, it asks no further.
Answers = AsyncGenerator[tuple[Request, Generation], None]
# What a stream gives: pieces of the text, and in the end the generation.
Pieces = Generator[str, None, Generation]
# Called with (index of the request, generation) as each is done.
OnResult = Callable[[int, Generation], None]


def failed(reason: str, failure: str = "") -> Generation:
    """No text: why, in a few words to count by, and in a line."""
    return Generation("", "failed", None, None, failure, reason=reason)


def cut_at_stop(text: str, stop: Sequence[str]) -> str:
    """Cuts after the first stop string: tokens hold more than it now and then.

    Example:
        >>> cut_at_stop("Conclusion: right [END] and so on", STOP_STRINGS)
        'Conclusion: right [END]'
    """
    ends = [text.find(mark) + len(mark) for mark in stop if mark in text]
    return text[: min(ends)] if ends else text


def is_known(finish_reason: str | None) -> bool:
    """Whether a text's `finish_reason` is one of ours; others are counted and shown."""
    return finish_reason in (None, "stop", "length")


@dataclass
class Counts:
    """What a run did, and is doing: of `total` requests (0: not known) so many `answered`, now, or `from_journal`.

    `sent` counts every try; `retried` and `failed` count by reason; `limit_cut` counts answers that got less room than
    was asked for, and `odd_endings` those with a finish_reason that nobody knows. `paused_until` is the time (as of
    `time.time`) that the server asked to wait until. All but the first two and the last only grow.
    """

    total: int = 0
    in_flight: int = 0
    answered: int = 0
    from_journal: int = 0
    sent: int = 0
    truncated: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    retried: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    limit_cut: int = 0
    odd_endings: Counter[str] = field(default_factory=Counter)
    paused_until: float = 0.0

    def add(self, generation: Generation) -> None:
        """Counts a new answer, or a failure."""
        if generation.failure is not None:
            self.failed[generation.reason or "failed"] += 1
            return
        self.answered += 1
        self.limit_cut += generation.limit_cut
        if not is_known(generation.finish_reason):
            self.odd_endings[str(generation.finish_reason)] += 1
        self.truncated += generation.finish_reason == "length"
        self.prompt_tokens += generation.prompt_tokens or 0
        self.completion_tokens += generation.completion_tokens or 0


class Kept(Protocol):
    """Generations by the key of their request; see `journaled.Journaled`, and `InMemory`."""

    @property
    def path(self) -> Path | None: ...

    def __contains__(self, key: str) -> bool: ...

    def __len__(self) -> int: ...

    def get(self, key: str) -> Generation | None: ...

    def append(self, key: str, generation: Generation, again: bool = False) -> None:
        """Keeps a generation.

        Args:
            key: Its request's.
            generation: It.
            again: Whether a later run is to ask again; this one does not.
        """
        ...


class InMemory(dict[str, Generation]):
    """What is kept where no journal is: one call's own generations, so that the same question is asked once."""

    path = None

    def append(self, key: str, generation: Generation, again: bool = False) -> None:
        self[key] = generation


class Model(Protocol):
    """A model that writes texts: `model` is its name in rows and requests, `identity` what it is (identities.py)."""

    @property
    def model(self) -> str: ...

    @property
    def identity(self) -> Mapping[str, Any]: ...

    def ask(
        self,
        requests: Iterable[Request],
        kept: Kept | None = None,
        *,
        counts: Counts | None = None,
        in_order: bool = False,
    ) -> Answers:
        """Asks what is not kept already.

        Args:
            requests: Read lazily, so there may be any number.
            kept: What was answered before. Every result is in it before it is counted or yielded; by default it is
                forgotten when the call ends.
            counts: Filled while it runs.
            in_order: Whether results come in the requests' order, else as they are done.

        Yields:
            (request, generation), one per request.

        Raises:
            CFTError: The model cannot go on. What was answered before is kept.
        """
        ...
