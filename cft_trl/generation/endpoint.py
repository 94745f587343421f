r"""Texts from a model behind an OpenAI-compatible endpoint (vLLM, OpenAI, ...), as `local.LocalModel` gives them.

model = Endpoint("m", "http://localhost:8000/v1")
model.generate([[{"role": "user", "content": "What is 2 + 2?"}]], max_new_tokens=32)
# [Generation(text="2 + 2 = 4.", finish_reason="stop", prompt_tokens=37, completion_tokens=9)]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cft_trl.environment import require
from cft_trl.generation.client import Teacher
from cft_trl.generation.generate import Conversations
from cft_trl.generation.types import Generation, Pieces, Request, cut_at_stop


@dataclass(frozen=True)
class Endpoint(Conversations, Teacher):
    """A model behind an OpenAI-compatible endpoint (vLLM, OpenAI, ...).

    Requests meet 429, 5xx, time-outs and restarts as those to a teacher do: they are tried again.
    A vLLM server adds the sampling settings of the model's generation_config.json (Qwen: repetition_penalty) unless it
    is started with `--generation-config vllm`; start it so for scores that compare with `LocalModel`.

    Attributes:
        model, base_url, api_key_env, timeout, header, behind, at_first: As of `EndpointSettings`.
        max_concurrency: At most so many requests in flight.
        extra: Further fields of each request's body (`reasoning_effort`, `chat_template_kwargs`); None leaves a field
            out that would be there, as in `{"temperature": None}`.
        stop_token_ids: Tokens that end a text, for vLLM servers; others refuse the parameter.
        merge_system: A system turn goes to the head of the first user turn. So it does once an endpoint refuses one.
        whole_context: Whether the server has all of the model's context: a prompt that is too long for it is then the
            model's own limit, as for `LocalModel`, and no refusal of the server's.
    """

    max_concurrency: int = 64
    role: str = ""
    kept: str = ""
    extra: Mapping[str, Any] | None = field(default_factory=dict)
    stop_token_ids: Sequence[int] = ()
    merge_system: bool = False
    whole_context: bool = False

    def __post_init__(self) -> None:
        require("synth", "asking an endpoint", "openai")
        more = {"stop_token_ids": list(self.stop_token_ids)} if self.stop_token_ids else {}
        object.__setattr__(self, "extra", more | dict(self.extra or {}))
        if self.dialect.system == "kept":
            self.dialect.system = "merged" if self.merge_system else "until refused"

    @property
    def name(self) -> str:
        return self.model

    def pieces(self, request: Request) -> Pieces:
        """As `stream`.

        Raises:
            CFTError: The endpoint cannot be reached, refuses the request, or breaks off; what was yielded until then is
                a part of a text.
        """
        from cft_trl.generation.connection import Connection
        from cft_trl.generation.dialect import Form
        from cft_trl.generation.streams import stream_text

        form, text, shown = Form(request.body), "", ""
        pieces = stream_text(Connection(self), form)
        try:
            while True:
                text += next(pieces)
                cut = cut_at_stop(self.said(text), form.stops)
                if len(cut) > len(shown):
                    yield cut[len(shown) :]
                    shown = cut
                if any(mark in cut for mark in form.stops_here):
                    return Generation(shown, "stop", None, None)  # the server does not know of this one
        except StopIteration as ended:
            reason, prompt_tokens, completion_tokens, without = ended.value
        finally:
            pieces.close()
        whole = reason != "length" or any(mark in text for mark in form.stops)
        return Generation(shown, "stop" if whole else "length", prompt_tokens, completion_tokens, without=without)
