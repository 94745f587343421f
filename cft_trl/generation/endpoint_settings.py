"""Which endpoint is asked for which model, and how.

EndpointSettings("qwen", "http://localhost:8000/v1", api_key_env="LAB_KEY", max_concurrency=64)
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field

from cft_trl.generation.dialect import Dialect
from cft_trl.generation.limiter import START
from cft_trl.models.identity import Identity

OPENAI = "https://api.openai.com/v1"


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
        header, behind: What the model's chat template has it write before and behind an answer: left out.
        dialect: What was found out about what the endpoint takes.
        at_first: So many requests are in flight at first, more as answers come. A server of ours gets all at once: what
            it cannot compute yet it queues.
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
    header: str = ""
    behind: str = ""
    dialect: Dialect = field(default_factory=Dialect, compare=False, repr=False)
    at_first: int = START

    @property
    def address(self) -> str:
        """The endpoint, for messages: where requests really go, without a user name or password in the address."""
        return re.sub(r"//[^/@]*@", "//", true_url(self.base_url))

    @property
    def where(self) -> str:
        """Model and endpoint, for messages."""
        return f"{self.title} at {self.address}"

    def said(self, text: str) -> str:
        """The text without what the template has around it, "" as long as it may still be its header."""
        return "" if self.header.startswith(text) else text.removeprefix(self.header).removesuffix(self.behind)

    @property
    def title(self) -> str:
        """The model, for messages: "teacher gpt-4o"."""
        return f"{self.role} {self.model}".strip()


def true_url(base_url: str | None = None) -> str:
    """Where requests really go: the address given, else OPENAI_BASE_URL (which the library reads too), else OpenAI."""
    return base_url or os.environ.get("OPENAI_BASE_URL", "").strip() or OPENAI
