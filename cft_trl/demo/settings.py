"""What the app is started with: which models, where they run, and how much a visitor may ask for.

    CFT_MODEL=my-org/my-cft-model CFT_BASE_MODEL=Qwen/Qwen2.5-Math-7B python space/app.py

A Space has no command line, so everything can be set by an environment variable; `cft demo` sets the same fields.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Gt, Interval

from cft_trl.data.prompts import PresetName, Wording
from cft_trl.data.settings import Count, Expected, FromText, Pattern, Whole, check_settings
from cft_trl.errors import CFTError
from cft_trl.models.names import SMALL_MODEL
from cft_trl.models.trained_prompt import named_preset, no_preset

Address = Annotated[str, Pattern("https?://.*"), Expected("an address such as http://localhost:8000/v1")]


@dataclass(frozen=True)
class DemoSettings:
    """Settings of the app; the variable of `max_new_tokens` is CFT_MAX_NEW_TOKENS, and so on.

    Attributes:
        model: The critique-tuned model: Hub id, folder, or its name at the endpoint.
        base_model: What it was trained from, for the tab Compare; None leaves that tab without one.
        revision, base_revision: Commit, tag or branch of the two on the Hub.
        adapter_base: What an adapter is put on in place of the base it names, "NAME" or "NAME@REVISION".
        endpoint: An OpenAI-compatible address that serves `model` (and `base_model`, unless `base_endpoint` does).
        api_key_env: The variable that holds the endpoint's key.
        extra: Further fields of each request to an endpoint, "{reasoning_effort: low}" (see `endpoint.Endpoint`).
        prompt_preset: Wording of the critique prompt, or the folder of the run that was trained with it, for a model at
            an endpoint; None for the one that the model's folder says, else "paper".
        rows: Rows of critiques for the tab Browse: file, folder or Hub id; None for those of the arithmetic source.
        rows_name, rows_revision: Configuration and revision of a dataset on the Hub.
        rows_limit: The first so many of them.
        max_new_tokens: The most that one text may have, in tokens.
        max_rounds: The most rounds of two-stage.
        max_question, max_solution: The longest inputs, in characters.
        concurrency: Texts written at the same time; 0 is one for a model in this process, 16 for an endpoint.
        queue_size: Requests that may wait; one more is told that the queue is full.
        patience: Seconds without a piece of text, after which a request is given up.

    Raises:
        CFTError: A number that is none or out of range, an address that is none, a revision of a model at an endpoint,
            a preset that is neither known nor a run's folder.
    """

    model: str = SMALL_MODEL
    base_model: str | None = None
    revision: str | None = None
    base_revision: str | None = None
    adapter_base: str | None = None
    endpoint: Address | None = None
    base_endpoint: Address | None = None
    api_key_env: str = "OPENAI_API_KEY"
    extra: str | None = None
    prompt_preset: str | None = None
    rows: str | None = None
    rows_name: str | None = None
    rows_revision: str | None = None
    rows_limit: Annotated[Count, FromText()] = 1_000
    max_new_tokens: Annotated[Count, FromText()] = 512
    max_rounds: Annotated[int, Interval(ge=1, le=8), FromText()] = 4
    max_question: Annotated[Count, FromText()] = 4_000
    max_solution: Annotated[Count, FromText()] = 8_000
    concurrency: Annotated[Whole, FromText()] = 0
    queue_size: Annotated[Count, FromText()] = 64
    patience: Annotated[float, Gt(0), FromText(), Expected("seconds, above 0")] = 120.0

    def __post_init__(self) -> None:
        check_settings(self, variable)
        if self.prompt_preset is not None and self.wording is None:
            raise CFTError(f"{variable('prompt_preset')}: {no_preset(self.prompt_preset)}")
        if self.extra_fields and not (self.endpoint or self.base_endpoint):
            raise CFTError(
                f"{variable('extra')} has fields of a request to an endpoint; give {variable('endpoint')} too"
            )
        if self.endpoint and self.adapter_base:
            raise CFTError(f"{variable('adapter_base')}={self.adapter_base}: an endpoint serves what it serves")
        served = {"revision": self.endpoint, "base_revision": self.base_endpoint or self.endpoint}
        for name, address in served.items():
            if address and getattr(self, name):
                told = f"{variable(name)}={getattr(self, name)}"
                raise CFTError(f"{told}: a revision belongs to a Hub id, not to a model at an endpoint; leave it out")

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> DemoSettings:
        """Settings of the variables that are set and not empty.

        Raises:
            CFTError: A value that its field does not allow.

        Example:
            >>> DemoSettings.from_environment({"CFT_MODEL": "org/mine", "CFT_MAX_NEW_TOKENS": "256"}).max_new_tokens
            256
        """
        environ = os.environ if environ is None else environ
        given: dict[str, Any] = {field.name: environ.get(variable(field.name), "").strip() for field in fields(cls)}
        return cls(**{name: text for name, text in given.items() if text})

    @property
    def extra_fields(self) -> dict[str, Any]:
        """`extra`, read."""
        from cft_trl.generation.dialect import parse_extra

        return parse_extra(self.extra, variable("extra"))

    @cached_property
    def wording(self) -> PresetName | Wording | None:
        """`prompt_preset`, read: of a run's folder with the prompt and the verdict words that it has."""
        return named_preset(self.prompt_preset) if self.prompt_preset is not None else None

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
