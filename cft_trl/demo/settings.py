"""What the app is started with: which models, where they run, and how much a visitor may ask for.

    CFT_MODEL=my-org/my-cft-model CFT_BASE_MODEL=Qwen/Qwen2.5-Math-7B python space/app.py

A Space has no command line, so everything can be set by an environment variable; `cft demo` sets the same fields.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from cft_trl.data.prompts import PRESETS
from cft_trl.errors import CFTError
from cft_trl.models.loading import SMALL_MODEL


@dataclass(frozen=True)
class DemoSettings:
    """Settings of the app; the variable of `max_new_tokens` is CFT_MAX_NEW_TOKENS, and so on.

    Attributes:
        model: The critique-tuned model: Hub id, folder, or its name at the endpoint.
        base_model: What it was trained from, for the tab Compare; None leaves that tab without one.
        revision, base_revision: Commit, tag or branch of the two on the Hub.
        endpoint: An OpenAI-compatible address that serves `model` (and `base_model`, unless `base_endpoint` does).
        api_key_env: The variable that holds the endpoint's key.
        extra: Further fields of each request to an endpoint, "{reasoning_effort: low}" (see `endpoint.Endpoint`).
        prompt_preset: Wording of the critique prompt; None for the one that the model's folder says, else "paper".
        max_new_tokens: The most that one text may have, in tokens.
        max_rounds: The most rounds of two-stage.
        max_question, max_solution: The longest inputs, in characters.
        concurrency: Texts written at the same time; 0 is one for a model in this process, 16 for an endpoint.
        queue_size: Requests that may wait; one more is told that the queue is full.
        patience: Seconds without a piece of text, after which a request is given up.

    Raises:
        CFTError: A number that is none or out of range, an address that is none, a revision of a model at an endpoint,
            an unknown preset.
    """

    model: str = SMALL_MODEL
    base_model: str | None = None
    revision: str | None = None
    base_revision: str | None = None
    endpoint: str | None = None
    base_endpoint: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    extra: str | None = None
    prompt_preset: str | None = None
    max_new_tokens: int = 512
    max_rounds: int = 4
    max_question: int = 4_000
    max_solution: int = 8_000
    concurrency: int = 0
    queue_size: int = 64
    patience: float = 120.0

    def __post_init__(self) -> None:
        for name in ("max_new_tokens", "max_rounds", "max_question", "max_solution", "queue_size"):
            if getattr(self, name) < 1:
                raise CFTError(f"{variable(name)}={getattr(self, name)}: give a whole number of 1 or more")
        if not 1 <= self.max_rounds <= 8:
            raise CFTError(f"{variable('max_rounds')}={self.max_rounds}: give 1 to 8")
        if self.patience <= 0:
            raise CFTError(f"{variable('patience')}={self.patience:g}: give seconds, above 0")
        for name in ("endpoint", "base_endpoint"):
            address = getattr(self, name)
            if address and not address.startswith(("http://", "https://")):
                raise CFTError(f"{variable(name)}={address}: give an address such as http://localhost:8000/v1")
        if self.extra_fields and not (self.endpoint or self.base_endpoint):
            raise CFTError(
                f"{variable('extra')} has fields of a request to an endpoint; give {variable('endpoint')} too"
            )
        served = {"revision": self.endpoint, "base_revision": self.base_endpoint or self.endpoint}
        for name, address in served.items():
            if address and getattr(self, name):
                told = f"{variable(name)}={getattr(self, name)}"
                raise CFTError(f"{told}: a revision belongs to a Hub id, not to a model at an endpoint; leave it out")
        if self.prompt_preset and self.prompt_preset not in PRESETS:
            raise CFTError(f"{variable('prompt_preset')}={self.prompt_preset}: give one of {', '.join(PRESETS)}")

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> DemoSettings:
        """Settings of the variables that are set and not empty.

        Example:
            >>> DemoSettings.from_environment({"CFT_MODEL": "org/mine", "CFT_MAX_NEW_TOKENS": "256"}).max_new_tokens
            256
        """
        environ = os.environ if environ is None else environ
        given: dict[str, Any] = {}
        for field in fields(cls):
            if text := environ.get(variable(field.name), "").strip():
                kind = type(field.default)
                try:
                    given[field.name] = kind(text) if kind in (int, float) else text
                except ValueError:
                    raise CFTError(f"{variable(field.name)}={text}: give a number, e.g. {field.default}") from None
        return cls(**given)

    @property
    def extra_fields(self) -> dict[str, Any]:
        """`extra`, read."""
        from cft_trl.generation.dialect import parse_extra

        return parse_extra(self.extra, variable("extra"))

    @property
    def at_once(self) -> int:
        """How many texts are written at the same time."""
        return self.concurrency or (16 if self.endpoint else 1)


def variable(field: str) -> str:
    """The environment variable of a field: `max_new_tokens` -> `CFT_MAX_NEW_TOKENS`."""
    return f"CFT_{field.upper()}"


def display_name(model: str) -> str:
    """How a model is called in the app: a Hub id as it is; of a folder the last part, its path is nobody's business.

    Example:
        >>> display_name("Qwen/Qwen2.5-Math-7B"), display_name("/home/me/runs/mine"), display_name("smollm2-135m")
        ('Qwen/Qwen2.5-Math-7B', 'mine', 'SmolLM2-135M-Instruct')
    """
    if model == SMALL_MODEL:
        return "SmolLM2-135M-Instruct"
    is_path = model.startswith(("/", ".", "~")) or model.count("/") > 1 or Path(model).is_dir()
    return os.path.basename(os.path.abspath(os.path.expanduser(model))) if is_path else model
