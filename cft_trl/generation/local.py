r"""Texts from a transformers model in this process; `endpoint.py` has the same two methods over a network.

    model = LocalModel(*load_model("smollm2-135m"))
    model.generate([[{"role": "user", "content": "What is 2 + 2?"}]], max_new_tokens=32)
    # [Generation(text="2 + 2 = 4.", finish_reason="stop", prompt_tokens=37, completion_tokens=9)]

`generate` takes many conversations, `stream` one, piece by piece; `write` and `pieces` are the same with requests.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from inspect import signature
from queue import Queue
from typing import Any

from cft_trl.data.prompts import base_prompt, chat_messages
from cft_trl.errors import CFTError
from cft_trl.generation.generate import Conversations
from cft_trl.generation.types import Generation, Message, OnResult, Pieces, Request, cut_at_stop
from cft_trl.models.chat_templates import end_ids, header_ids, render_chat, written_behind

SAMPLING = ("temperature", "top_p", "max_tokens", "seed", "stop")
MAX_TOKENS = 2048  # where a request does not say
AT_ONCE = 64  # rows computed together: on a CPU more are not faster

# New tokens after which the rows that go on are put into batches anew; doubled each time.
_FIRST_STEPS = 256


@dataclass(slots=True)
class _Row:
    """A text under way: `tokens` of it are there, at most `limit` will be; `reason` says that and why it has ended."""

    prompt: list[int]
    limit: int
    tokens: list[int] = field(default_factory=list)
    stream: Any = None  # of random numbers
    reason: str | None = None

    @property
    def length(self) -> int:
        return len(self.prompt) + len(self.tokens)


@dataclass(frozen=True, slots=True)
class _SamplingValues:
    """How a request is sampled; temperature and top_p default as the protocol says."""

    limit: int
    temperature: float
    top_p: float
    stop: tuple[str, ...]

    @classmethod
    def of(cls, request: Request) -> _SamplingValues:
        get = request.sampling.get
        temperature, top_p = get("temperature", 1.0), get("top_p", 1.0)
        return cls(get("max_tokens") or MAX_TOKENS, temperature, top_p, stops_of(request.sampling))


class LocalModel(Conversations):
    """A transformers model in this process.

    Args:
        model: A causal language model; it is in evaluation mode while it generates.
        tokenizer: Its tokenizer. Without a chat template it gets the prompt of `prompts.base_prompt`.
        batch_size: Conversations computed together at most, fewer where memory does not hold them or, on a CPU, where
            their lengths are far apart; they are sorted by length first.
    """

    def __init__(self, model: Any, tokenizer: Any, batch_size: int = AT_ONCE) -> None:
        self.model, self.tokenizer, self.batch_size = model, tokenizer, batch_size

    @cached_property
    def _header_ids(self) -> list[int]:
        return header_ids(self.tokenizer)

    @cached_property
    def _behind(self) -> str:
        return written_behind(self.tokenizer)

    def write(
        self,
        requests: Sequence[Request],
        on_result: OnResult | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> list[Generation]:
        """Writes an answer to each request, in the calling thread; those sampled alike are computed together.

        Args:
            requests: Their sampling may have `SAMPLING`; without a seed each draws anew.
            on_result: Called with (index, generation) as each is done.
            cancelled: Asked before each batch; once it says True no further one is computed.

        Returns:
            One generation per request, in their order; of a cancelled call only those that are done.
        """
        alike: dict[str, list[int]] = {}
        for at, request in enumerate(requests):
            shared = {name: value for name, value in request.sampling.items() if name != "seed"}
            alike.setdefault(json.dumps(shared, sort_keys=True), []).append(at)
        results: dict[int, Generation] = {}
        for places in alike.values():
            self._write(requests, places, results, on_result, cancelled)
        return [results[at] for at in sorted(results)]

    def _write(
        self,
        requests: Sequence[Request],
        places: Sequence[int],
        results: dict[int, Generation],
        on_result: OnResult | None,
        cancelled: Callable[[], bool],
    ) -> None:
        """Fills in the results of the requests at some places, which are sampled alike."""
        from cft_trl.generation.batch_sizes import batch_sizes

        sampled = _SamplingValues.of(requests[places[0]])
        rows = {at: self._row(requests[at].messages, sampled.limit) for at in places}
        if sampled.temperature > 0:
            self._seed(list(rows.values()), [_seed(requests[at]) for at in places])

        def keep(at: int) -> None:
            results[at] = self._generation(rows[at], sampled.stop)
            if on_result:
                on_result(at, results[at])

        for at, row in rows.items():
            if row.reason:
                keep(at)
        # The rows that a batch leaves unfinished share the next ones, so that a single long text does not keep a batch
        # of finished ones waiting. Their beginnings are read again, which is cheap beside writing.
        most = _FIRST_STEPS
        while pending := [at for at in places if at not in results]:
            pending.sort(key=lambda at: rows[at].length)
            lengths = [rows[at].length for at in pending]
            steps = min(most, max(rows[at].limit - len(rows[at].tokens) for at in pending))
            begin = 0
            for size in batch_sizes(self.model, lengths, self.batch_size, steps):
                if cancelled():
                    return
                chosen = pending[begin : begin + size]
                begin += size
                self._advance([rows[at] for at in chosen], most, sampled)
                for at in chosen:
                    if rows[at].reason:
                        keep(at)
            most *= 2

    def pieces(self, request: Request) -> Pieces:
        """As `stream`.

        Raises:
            CFTError: The conversation is longer than the model's context.
        """
        sampled = _SamplingValues.of(request)
        row, cancelled = self._row(request.messages, sampled.limit), threading.Event()
        queue: Queue[list[int] | Generation | BaseException] = Queue()
        if row.reason == "failed":
            raise CFTError(f"{self._too_long}; shorten it", reason="context length")
        if sampled.temperature > 0:
            self._seed([row], [_seed(request)])

        def step(tokens: Any) -> bool:
            queue.put(tokens[0].tolist())
            return cancelled.is_set()

        def work() -> None:
            try:
                self._advance([row], sampled.limit, sampled, step)
                queue.put(self._generation(row, sampled.stop))
            except BaseException as error:  # handed to the thread that waits for the text
                queue.put(error)

        thread, shown = threading.Thread(target=work, daemon=True), ""
        thread.start()
        try:
            while isinstance(item := queue.get(), list):
                text = cut_at_stop(self.decode(self.said(item)), sampled.stop).removesuffix(self._behind)
                # Half a character decodes to U+FFFD; the next token may complete it.
                if text.startswith(shown) and not text.endswith("\ufffd") and len(text) > len(shown):
                    yield text[len(shown) :]
                    shown = text
        finally:
            cancelled.set()
            thread.join()
        if isinstance(item, BaseException):
            raise item
        if item.text.startswith(shown) and item.text != shown:
            yield item.text[len(shown) :]
        return item

    @property
    def _context(self) -> int:
        return getattr(self.model.config.get_text_config(), "max_position_embeddings", None) or 2**31

    @property
    def _too_long(self) -> str:
        return f"prompt longer than the context of {self._context} tokens"

    def _row(self, conversation: Sequence[Message], max_new_tokens: int) -> _Row:
        text = render_prompt(self.tokenizer, conversation)
        prompt = self.tokenizer(text, add_special_tokens=not self.tokenizer.chat_template)["input_ids"]
        limit = min(max_new_tokens, self._context - len(prompt))
        return _Row(prompt, limit, reason="failed" if limit < 1 else None)

    def _seed(self, rows: Sequence[_Row], seeds: Sequence[int | None]) -> None:
        import torch

        drawn = torch.randint(2**62, (len(rows),)).tolist() if None in seeds else seeds
        for row, seed, other in zip(rows, seeds, drawn, strict=True):
            row.stream = torch.Generator(self.model.device).manual_seed(other if seed is None else seed)

    def _generation(self, row: _Row, stop: Sequence[str]) -> Generation:
        if row.reason == "failed":
            return Generation("", "failed", len(row.prompt), 0, self._too_long, reason="context length")
        text = cut_at_stop(self.decode(self.said(row.tokens)), stop)
        if row.reason == "stop" and self._behind:
            text = text.removesuffix(self._behind)
        return Generation(text, row.reason or "stop", len(row.prompt), len(row.tokens), ids=tuple(row.tokens))

    @cached_property
    def vocabulary(self) -> dict[str, int]:
        """Every token as the tokenizer writes it -> its id."""
        return self.tokenizer.get_vocab()

    @cached_property
    def _last_only(self) -> dict[str, int]:
        """Asks for the last place's logits only, of a model that can: all of a long text take gigabytes."""
        model = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model  # PEFT hands it on
        return {"logits_to_keep": 1} if "logits_to_keep" in signature(model.forward).parameters else {}

    def next_token_logprobs(self, conversation: Sequence[Message], tokens: Sequence[int]) -> Any:
        """The log probability of each token of the vocabulary as the next one, a float32 tensor.

        Args:
            conversation: What the model was asked.
            tokens: What it has written of its answer, in ids.
        """
        import torch

        ids = torch.tensor([[*self._row(conversation, 1).prompt, *tokens]], device=self.model.device)
        was_training = self.model.training
        self.model.eval()
        try:
            with torch.inference_mode():
                out = self.model(input_ids=ids, use_cache=False, **self._last_only)
                return out.logits[0, -1].float().log_softmax(-1)
        finally:
            self.model.train(was_training)

    def said(self, tokens: list[int]) -> list[int]:
        """The tokens without the header that a template writes before an answer (Qwen3's empty thought)."""
        size = len(self._header_ids)
        return tokens[size:] if tokens[:size] == self._header_ids[: len(tokens)] else tokens

    def decode(self, tokens: Any) -> str:
        return self.tokenizer.decode(tokens, skip_special_tokens=True)

    def _advance(
        self,
        rows: Sequence[_Row],
        most: int,
        sampled: _SamplingValues,
        on_step: Callable[[Any], bool] | None = None,
    ) -> None:
        """Writes up to `most` tokens more of each row; `on_step` sees them, [rows, steps], and may end it."""
        import torch
        from transformers import LogitsProcessorList, StoppingCriteriaList

        from cft_trl.generation.decoding import RowEnds, SeededSampling
        from cft_trl.generation.faster import roomy_cache

        model, device = self.model, self.model.device
        ends_at = end_ids(self.tokenizer, model.generation_config)
        pad = ends_at[0] if self.tokenizer.pad_token_id is None else self.tokenizer.pad_token_id
        width = max(row.length for row in rows)
        ids = [[pad] * (width - row.length) + row.prompt + row.tokens for row in rows]
        mask = [[0] * (width - row.length) + [1] * row.length for row in rows]
        limits = [min(most, row.limit - len(row.tokens)) for row in rows]
        ends = RowEnds(self.decode, sampled.stop, width, [len(row.tokens) for row in rows], limits, on_step)
        sampling = []
        if sampled.temperature > 0:
            sampling.append(SeededSampling([row.stream for row in rows], sampled.temperature, sampled.top_p))
        was_training = model.training
        model.eval()
        try:
            with torch.inference_mode():
                out = model.generate(
                    input_ids=torch.tensor(ids, device=device),
                    attention_mask=torch.tensor(mask, device=device),
                    max_new_tokens=max(limits),
                    stopping_criteria=StoppingCriteriaList([ends]),
                    logits_processor=LogitsProcessorList(sampling),
                    eos_token_id=ends_at,
                    pad_token_id=pad,
                    use_cache=True,
                    past_key_values=roomy_cache(model, width + max(limits)),
                    # Neutral values for what a model's generation_config.json might ask for: scores are of the model.
                    do_sample=False,
                    temperature=1.0,
                    top_p=1.0,
                    top_k=50,
                    repetition_penalty=1.0,
                    no_repeat_ngram_size=0,
                    num_beams=1,
                )
        finally:
            model.train(was_training)
        for row, new, length, stopped in zip(rows, out[:, width:].tolist(), ends.lengths, ends.stopped, strict=True):
            new = new[: length or None]
            end = next((i for i, token in enumerate(new) if token in ends_at), None)
            row.tokens += new if end is None else new[: end + 1]
            if stopped or end is not None:
                row.reason = "stop"
            elif len(row.tokens) >= row.limit:
                row.reason = "length"


def stops_of(sampling: Mapping[str, Any]) -> tuple[str, ...]:
    """The stop strings of a request: one, several or none."""
    stop = sampling.get("stop") or ()
    return (stop,) if isinstance(stop, str) else tuple(stop)


def _seed(request: Request) -> int | None:
    seed = request.sampling.get("seed")
    return None if seed is None else seed + request.sample


def render_prompt(tokenizer: Any, conversation: Sequence[Message] | str) -> str:
    """The text the model continues: through the chat template, or plain for a base model without one.

    Args:
        conversation: Messages; a text is one user turn. A template that knows no system turn (Gemma) gets it at the
            head of the first user turn.
    """
    messages = chat_messages(conversation) if isinstance(conversation, str) else [dict(m) for m in conversation]
    if not tokenizer.chat_template:
        return base_prompt("\n\n".join(message["content"] for message in messages))
    return render_chat(tokenizer, messages)
