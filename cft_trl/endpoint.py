r"""Texts from a model behind an OpenAI-compatible endpoint (vLLM, OpenAI, ...), as `generators.LocalModel` gives them.

model = Endpoint("m", "http://localhost:8000/v1")
model.generate([[{"role": "user", "content": "What is 2 + 2?"}]], max_new_tokens=32)
# [Generation(text="2 + 2 = 4.", finish_reason="stop", prompt_tokens=37, completion_tokens=9)]
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import Any

from cft_trl.errors import CFTError
from cft_trl.generators import STOP_STRINGS, Generation, Message, OnResult, cut_at_stop, seeds_of
from cft_trl.installed import require


class Endpoint:
    """A model behind an OpenAI-compatible endpoint (vLLM, OpenAI, ...).

    Requests meet 429, 5xx, time-outs and restarts as `synthesis.client` does: they are tried again.
    A vLLM server adds the sampling settings of the model's generation_config.json (Qwen: repetition_penalty) unless it
    is started with `--generation-config vllm`; start it so for scores that compare with `LocalModel`.

    Args:
        model: Its name there.
        base_url: "http://localhost:8000/v1"; None for OpenAI's own.
        api_key_env: The environment variable that holds the key.
        concurrency: At most so many requests in flight.
        timeout: Seconds for one request.
    """

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        api_key_env: str = "OPENAI_API_KEY",
        concurrency: int = 64,
        timeout: float = 600.0,
    ) -> None:
        from cft_trl.synthesis.client import Teacher

        require("synth", "asking an endpoint", "openai")
        self.model = model
        self._teacher = Teacher(model, base_url, api_key_env, concurrency, timeout)

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
                got no answer after many tries. `on_result` has been called for everything that was answered.
        """
        from cft_trl.synthesis.client import Request

        seeds = seeds_of(seed, len(conversations)) if temperature > 0 else None
        requests = []
        for i, conversation in enumerate(conversations):
            sampling = self._sampling(max_new_tokens, temperature, top_p, stop, seeds[i] if seeds else None)
            # At temperature 0 the same question has the same answer and is sent once; above, each is asked for itself.
            sample = i if temperature > 0 and not seeds else 0
            requests.append(Request(self.model, list(conversation), sampling, sample, tag=i))
        results: dict[int, Generation] = {}
        crowded: list[Request] = []
        lost: Counter[str] = Counter()

        def receive(request: Request, answer: Mapping[str, Any]) -> None:
            if answer.get("failure") == "context length" and "max_tokens" in request.sampling:
                # Without a limit of ours the server's own holds, which is the rest of its context.
                sampling = {name: value for name, value in request.sampling.items() if name != "max_tokens"}
                crowded.append(Request(self.model, request.messages, sampling, request.sample, request.tag))
                return
            generation = _read(answer)
            if generation is None:
                lost[f"{answer['failure']}, {answer['detail']}"] += 1
                return
            results[request.tag] = generation
            if on_result:
                on_result(request.tag, generation)

        _run(self._ask(requests, receive))
        if crowded:
            _run(self._ask(crowded, receive))
        if lost:
            told = "; ".join(f"{count} x {reason}" for reason, count in lost.most_common(3))
            raise CFTError(f"{self._where}: {lost.total()} of {len(requests)} requests got no answer ({told})")
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
            CFTError: The endpoint cannot be reached, refuses the request, or breaks off.
        """
        import openai

        from cft_trl.synthesis.replies import read_error

        teacher, usage, reason, text, shown = self._teacher, None, None, "", ""
        key = os.environ.get(teacher.api_key_env) or ("none" if teacher.base_url else None)
        if key is None:
            raise CFTError(f"no key for {teacher.address}: set the environment variable {teacher.api_key_env}")
        sampling = self._sampling(max_new_tokens, temperature, top_p, stop, seed if temperature > 0 else None)
        try:
            with openai.OpenAI(
                api_key=key, base_url=teacher.base_url, timeout=teacher.timeout, max_retries=4
            ) as client:
                chunks = client.chat.completions.create(
                    model=self.model,
                    messages=list(conversation),
                    stream=True,
                    stream_options={"include_usage": True},
                    **sampling,
                )
                for chunk in chunks:
                    usage = chunk.usage or usage
                    for choice in chunk.choices[:1]:
                        text += choice.delta.content or ""
                        reason = choice.finish_reason or reason
                    cut = cut_at_stop(text, stop)
                    if len(cut) > len(shown):
                        yield cut[len(shown) :]
                        shown = cut
        except openai.OpenAIError as error:
            trouble = read_error(error)
            raise CFTError(f"{self._where}: {trouble.reason} ({trouble.detail})") from None
        counts = (usage.prompt_tokens, usage.completion_tokens) if usage else (None, None)
        ended = reason != "length" or any(mark in text for mark in stop)
        return Generation(shown, "stop" if ended else "length", *counts)

    @property
    def _where(self) -> str:
        return f"{self.model} at {self._teacher.address}"

    async def _ask(self, requests: list[Any], receive: Callable[[Any, Mapping[str, Any]], None]) -> None:
        try:
            async with aclosing(self._teacher.ask_all(requests, _Answers())) as answers:
                async for request, answer in answers:
                    receive(request, answer)
        except CFTError as error:  # the client speaks of teachers and of their journal
            raise CFTError(str(error).removeprefix("teacher ").partition("; what was answered")[0]) from None

    @staticmethod
    def _sampling(
        max_new_tokens: int, temperature: float, top_p: float, stop: Sequence[str], seed: int | None
    ) -> dict[str, Any]:
        optional = {"top_p": top_p if top_p < 1 else None, "stop": list(stop) or None, "seed": seed}
        given = {name: value for name, value in optional.items() if value is not None}
        return {"max_tokens": max_new_tokens, "temperature": temperature, **given}


class _Answers(dict):
    """Stands in for the client's journal: whoever generates keeps what it needs, through `on_result`."""

    def append(self, key: str, result: Mapping[str, Any], again: bool = False) -> None:
        self[key] = result


def _read(answer: Mapping[str, Any]) -> Generation | None:
    """A generation of the client's answer; None for a failure that another run may not meet."""
    failure = answer.get("failure")
    if failure is None:
        reason = "length" if answer["finish_reason"] == "length" else "stop"
        return Generation(answer["text"], reason, answer["prompt_tokens"], answer["completion_tokens"])
    # The client takes nothing for a fault; a model that is evaluated may have nothing to say.
    if failure in ("empty answer", "no room"):
        return Generation("", "stop" if failure == "empty answer" else "length", None, None)
    if failure in ("context length", "content filter", "refusal", "bad request"):
        return Generation("", "failed", None, None, f"{failure}: {answer['detail']}")
    return None


def _run(coroutine: Coroutine[Any, Any, None]) -> None:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        loop = None
    if loop is None:
        return asyncio.run(coroutine)
    with ThreadPoolExecutor(1) as pool:  # in a notebook this thread has a loop that runs already
        return pool.submit(asyncio.run, coroutine).result()
