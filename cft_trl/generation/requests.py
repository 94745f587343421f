"""What is asked of an endpoint, what comes back, and what a run of many requests counts.

Request(model="m", messages=[{"role": "user", "content": "..."}], sampling={"temperature": 0.3}, sample=0)
{"text": "...", "finish_reason": "stop", "prompt_tokens": 310, "completion_tokens": 24}      an answer
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cft_trl.generation.dialect import Dialect
from cft_trl.generation.journal import request_key
from cft_trl.generation.replies import is_known
from cft_trl.models.identity import Identity

OPENAI = "https://api.openai.com/v1"

Answer = dict[str, Any]


@dataclass(frozen=True)
class EndpointSettings:
    """A model at an OpenAI-compatible endpoint, and how it is asked.

    Attributes:
        model: Its name there.
        base_url: The endpoint, "http://localhost:8000/v1"; None for OpenAI's own.
        api_key_env: The environment variable that holds the key. The key itself is in no object of ours.
        max_concurrency: At most so many requests in flight; how many really are adapts to the server.
        timeout: Seconds for one request.
        max_attempts: Tries for one request before it is given up; a 429 is not counted until there are ten times as
            many.
        backoff: Seconds to wait after the first failed try, doubled each time up to a minute. With nine tries a server
            may be away for a minute and a half, which is what vLLM takes to start.
        known: What the endpoint's model is, where that is known already; see `Teacher.identity`.
        role: What messages call it.
        kept: What messages of a run that ended say of its answers.
        dialect: What was found out about what the endpoint takes.
    """

    model: str
    base_url: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    max_concurrency: int = 128
    timeout: float = 600.0
    max_attempts: int = 9
    backoff: float = 0.5
    known: Identity | None = field(default=None, compare=False, repr=False)
    role: str = "teacher"
    kept: str = "; what was answered is kept, run it again to go on"
    dialect: Dialect = field(default_factory=Dialect, compare=False, repr=False)

    @property
    def address(self) -> str:
        """The endpoint, for messages: where requests really go, without a user name or password in the address."""
        return re.sub(r"//[^/@]*@", "//", true_url(self.base_url))

    @property
    def title(self) -> str:
        """The model, for messages: "teacher gpt-4o"."""
        return f"{self.role} {self.model}".strip()


@dataclass(frozen=True, slots=True)
class Request:
    """One question to one model. `sample` tells several answers to it apart; a `seed` is counted up by it.

    `who` is the key of the teacher's identity, under which the answer is kept; without one it is the model's name.
    """

    model: str
    messages: Sequence[Mapping[str, str]]
    sampling: Mapping[str, Any] = field(default_factory=dict)
    sample: int = 0
    tag: Any = None  # the caller's own, kept out of the key
    who: str = ""

    @property
    def key(self) -> str:
        return request_key(self.who or self.model, self.messages, self.sampling, self.sample)

    @property
    def body(self) -> dict[str, Any]:
        sampling = dict(self.sampling)
        if sampling.get("seed") is not None:
            sampling["seed"] += self.sample
        return {"model": self.model, "messages": list(self.messages), **sampling}


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

    def add(self, answer: Answer) -> None:
        """Counts a new answer."""
        self.answered += 1
        self.limit_cut += bool(answer.get("limit_cut"))
        if not is_known(answer["finish_reason"]):
            self.odd_endings[answer["finish_reason"]] += 1
        self.truncated += answer["finish_reason"] == "length"
        self.prompt_tokens += answer["prompt_tokens"] or 0
        self.completion_tokens += answer["completion_tokens"] or 0


def true_url(base_url: str | None = None) -> str:
    """Where requests really go: the address given, else OPENAI_BASE_URL (which the library reads too), else OpenAI."""
    return base_url or os.environ.get("OPENAI_BASE_URL", "").strip() or OPENAI
