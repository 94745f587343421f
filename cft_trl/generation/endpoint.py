r"""Texts from a model behind an OpenAI-compatible endpoint (vLLM, OpenAI, ...), as `generators.LocalModel` gives them.

model = Endpoint("m", "http://localhost:8000/v1")
model.generate([[{"role": "user", "content": "What is 2 + 2?"}]], max_new_tokens=32)
# [Generation(text="2 + 2 = 4.", finish_reason="stop", prompt_tokens=37, completion_tokens=9)]
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from cft_trl.environment import require
from cft_trl.errors import CFTError
from cft_trl.generation.generate import run_async
from cft_trl.generation.local import seeds_of
from cft_trl.generation.types import STOP_STRINGS, Generation, Message, OnResult, cut_at_stop
from cft_trl.models.chat_templates import merge_system


class Endpoint:
    """A model behind an OpenAI-compatible endpoint (vLLM, OpenAI, ...).

    Requests meet 429, 5xx, time-outs and restarts as `synthesis.client` does: they are tried again.
    A vLLM server adds the sampling settings of the model's generation_config.json (Qwen: repetition_penalty) unless it
    is started with `--generation-config vllm`; start it so for scores that compare with `LocalModel`.

    Args:
        model: Its name there.
        base_url: "http://localhost:8000/v1"; None for OPENAI_BASE_URL, or OpenAI's own.
        api_key_env: The environment variable that holds the key.
        concurrency: At most so many requests in flight.
        timeout: Seconds for one request.
        stop_token_ids: Tokens that end a text, for vLLM servers; others refuse the parameter.
        header, behind: What the model's chat template has it write before and behind an answer: left out.
        merge_system: A system turn goes to the head of the first user turn. So it does once an endpoint refuses one.
        extra: Further fields of each request's body (`reasoning_effort`, `chat_template_kwargs`); None leaves a field
            out that would be there, as in `{"temperature": None}`.
        whole_context: Whether the server has all of the model's context: a prompt that is too long for it is then the
            model's own limit, as for `LocalModel`, and no refusal of the server's.
    """

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        api_key_env: str = "OPENAI_API_KEY",
        concurrency: int = 64,
        timeout: float = 600.0,
        extra: Mapping[str, Any] | None = None,
        whole_context: bool = False,
        stop_token_ids: Sequence[int] = (),
        header: str = "",
        behind: str = "",
        merge_system: bool = False,
    ) -> None:
        from cft_trl.generation.client import Teacher

        require("synth", "asking an endpoint", "openai")
        self.model, self.whole_context, self.merge_system = model, whole_context, merge_system
        self.extra = ({"stop_token_ids": list(stop_token_ids)} if stop_token_ids else {}) | dict(extra or {})
        self._around = header, behind
        self._spoke = False
        self._teacher = Teacher(model, base_url, api_key_env, concurrency, timeout, role="", kept="")

    def generate(
        self,
        conversations: Sequence[Sequence[Message]],
        *,
        max_new_tokens: int = 2048,
        temperature: float = 0.0,
        top_p: float = 1.0,
        stop: Sequence[str] = STOP_STRINGS,
        seed: int | Sequence[int] | None = None,
        on_result: OnResult | None = None,
    ) -> list[Generation]:
        """As `LocalModel.generate`. A conversation that leaves less room than `max_new_tokens` gets what room there is.

        Raises:
            CFTError: The endpoint cannot be reached, has stopped answering, or refuses key or model; or some requests
                got no answer after many tries. `on_result` has been called for everything that was answered, and for
                what was refused (`Generation.refused`).
        """
        from cft_trl.generation.types import Request

        seeds = seeds_of(seed, len(conversations)) if temperature > 0 else None
        requests = []
        for i, conversation in enumerate(conversations):
            sampling = self._sampling(max_new_tokens, temperature, top_p, stop, seeds[i] if seeds else None)
            # At temperature 0 the same question has the same answer and is sent once; above, each is asked for itself.
            sample = i if temperature > 0 and not seeds else 0
            requests.append(Request(self.model, self._messages(conversation), sampling, sample, tag=i))
        results: dict[int, Generation] = {}
        again: list[Request] = []
        lost: Counter[str] = Counter()
        reasons: list[str] = []
        # A model may have nothing to say to one question; a server that says nothing to any has not answered.
        silent: list[tuple[int, Generation]] = []

        def keep(tag: int, generation: Generation) -> None:
            results[tag] = generation
            if on_result:
                on_result(tag, generation)

        def receive(request: Request, answer: Generation) -> None:
            if _refuses_system(answer.reason, answer.failure, request.messages):
                self.merge_system = True
                messages = self._messages(request.messages)
                again.append(Request(self.model, messages, request.sampling, request.sample, request.tag))
                return
            generation = _read(answer, self._said, self.whole_context)
            if generation is None:
                lost[f"{answer.reason}, {answer.failure}"] += 1
                reasons.append(str(answer.reason))
                return
            self._spoke |= bool(generation.text)
            silent.append((request.tag, generation))
            if self._spoke or answer.reason != "empty answer":
                keep(*silent.pop())
            while self._spoke and silent:
                keep(*silent.pop())

        run_async(self._ask(requests, receive))
        if again:  # without a system turn of their own
            requests, again = again, []
            run_async(self._ask(requests, receive))
        if len(silent) > 1:
            lost["empty answer, it said nothing to any of them"] = len(silent)
            reasons.append("empty answer")
        elif silent:
            keep(*silent.pop())
        if lost:
            told = "; ".join(f"{count} x {reason}" for reason, count in lost.most_common(3))
            message = f"{self._where}: {lost.total()} of {len(requests)} requests got no answer ({told})"
            raise CFTError(message, reason=reasons[0])
        return [results[i] for i in range(len(requests))]

    def stream(
        self,
        conversation: Sequence[Message],
        *,
        max_new_tokens: int = 2048,
        temperature: float = 0.0,
        top_p: float = 1.0,
        stop: Sequence[str] = STOP_STRINGS,
        seed: int | None = None,
    ) -> Iterator[str]:
        """As `LocalModel.stream`.

        Raises:
            CFTError: The endpoint cannot be reached, refuses the request, or breaks off; what was yielded until then is
                a part of a text.
        """
        from cft_trl.generation.connection import Connection
        from cft_trl.generation.dialect import Form
        from cft_trl.generation.streams import stream_text

        sampling = self._sampling(max_new_tokens, temperature, top_p, stop, seed if temperature > 0 else None)
        form = Form({"model": self.model, "messages": self._messages(conversation), **sampling})
        pieces, shown = stream_text(Connection(self._teacher), form), ""
        try:
            text = ""
            while True:
                text += next(pieces)
                cut = cut_at_stop(self._said(text), stop)
                if len(cut) > len(shown):
                    yield cut[len(shown) :]
                    shown = cut
                if any(mark in cut for mark in form.stops_here):
                    return Generation(shown, "stop", None, None)  # the server does not know of this one
        except CFTError as error:
            if shown or not _refuses_system(error.reason, str(error), self._messages(conversation)):
                raise
            self.merge_system = True
            again = {"max_new_tokens": max_new_tokens, "temperature": temperature, "top_p": top_p, "stop": stop}
            return (yield from self.stream(conversation, seed=seed, **again))
        except StopIteration as ended:
            reason, prompt_tokens, completion_tokens, without = ended.value
        finally:
            pieces.close()
        whole = reason != "length" or any(mark in text for mark in stop)
        reason = "stop" if whole else "length"
        return Generation(shown, reason, prompt_tokens, completion_tokens, without=without)

    def _messages(self, conversation: Sequence[Message]) -> list[dict[str, str]]:
        return merge_system(conversation) if self.merge_system else [dict(message) for message in conversation]

    def _said(self, text: str) -> str:
        """The text without what the template has around it, "" as long as it may still be its header."""
        header, behind = self._around
        return "" if header.startswith(text) else text.removeprefix(header).removesuffix(behind)

    @property
    def _where(self) -> str:
        return f"{self.model} at {self._teacher.address}"

    async def _ask(self, requests: list[Any], receive: Callable[[Any, Generation], None]) -> None:
        async with aclosing(self._teacher.ask(requests)) as answers:
            async for request, answer in answers:
                receive(request, answer)

    def _sampling(
        self, max_new_tokens: int, temperature: float, top_p: float, stop: Sequence[str], seed: int | None
    ) -> dict[str, Any]:
        optional = {"top_p": top_p if top_p < 1 else None, "stop": list(stop) or None, "seed": seed}
        asked = {"max_tokens": max_new_tokens, "temperature": temperature, **optional, **self.extra}
        return {name: value for name, value in asked.items() if value is not None}


def _refuses_system(reason: str | None, told: str | None, messages: Sequence[Message]) -> bool:
    """Whether an endpoint's model knows no system turn, and the conversation has one."""
    refused = reason == "bad request" and "system" in str(told).lower()
    return refused and len(messages) > 1 and messages[0]["role"] == "system"


def _read(made: Generation, said: Callable[[str], str], whole_context: bool = False) -> Generation | None:
    """What an evaluation makes of it; None for a failure that another run may not meet."""
    if made.failure is None:
        reason = "length" if made.finish_reason == "length" else "stop"
        return replace(made, text=said(made.text), finish_reason=reason, limit_cut=False)
    # The client takes nothing for a fault; a model that is evaluated may have nothing to say.
    if made.reason in ("empty answer", "no room"):
        return Generation("", "stop" if made.reason == "empty answer" else "length", None, None)
    if made.reason in ("context length", "content filter", "refusal", "bad request", "403"):
        refused = not (whole_context and made.reason == "context length")
        return replace(made, failure=f"{made.reason}: {made.failure}", refused=refused)
    return None
