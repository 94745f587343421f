r"""What a trained model is asked to do: solve a question, or critique a solution; alone or one after the other.

    critique(model, tokenizer, [{"query": "2+2?", "response": "2+2 = 5. The answer is 5."}])
    # ["2+2 = 4, but the solution has 5.\nThe correct answer is 4.\nConclusion: wrong [END]"]

    run_mode(LocalModel(model, tokenizer), ["2+2?"], "two_stage", temperature=0.6)
    # [Outcome(text="2+2 = 4 …", rounds=(Round("2+2 = 5 …", "… Conclusion: wrong [END]", "wrong"),
    #                                    Round("2+2 = 4 …", "… Conclusion: right [END]", "right")), …)]

The four modes are those of arXiv 2501.17703, whose appendix finds `direct` the best of them. One implementation for the
command line, the evaluation and the demo, over a `LocalModel` or an `Endpoint`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cft_trl.data.markup import spoken
from cft_trl.data.prompts import Prompting, Wording, chat_messages, said_by, verdict_by
from cft_trl.errors import CFTError, nearest
from cft_trl.generation.endpoint import Endpoint
from cft_trl.generation.generate import generate as generate_all
from cft_trl.generation.generate import requests_of, seeds_of
from cft_trl.generation.local import AT_ONCE, LocalModel, render_prompt
from cft_trl.generation.types import STOP_STRINGS, Generation, Message, Pieces, Request, cut_at_stop

__all__ = [
    "MODES",
    "STOP_STRINGS",
    "Endpoint",
    "Event",
    "Generation",
    "LocalModel",
    "Outcome",
    "Round",
    "critique",
    "cut_at_stop",
    "generate",
    "mode_conversation",
    "render_prompt",
    "run_mode",
    "solve",
    "stream_mode",
]

MODES = ("direct", "critique", "single_pass", "two_stage")
MAX_ROUNDS = 8  # as published

SINGLE_PASS = (
    "\n\nWhen you have solved it, critique your own solution step by step. If the critique finds a mistake, write a "
    "corrected solution after it. Put the final answer at the very end."
)
# Between the seeds of one problem's generations, so that those of neighbouring problems never meet.
_SEED_STEP = 1_000_003


# ---- texts -----------------------------------------------------------------------------------------------------------


def critique(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Mapping[str, Any]],
    *,
    prompt_preset: str | Wording = "paper",
    **kwargs: Any,
) -> list[str]:
    """Writes one critique per row (`query`, `response`), in the prompt the model was trained with.

    Args:
        kwargs: see `generate`.
    """
    prompting = Prompting("cft", preset=prompt_preset)
    return generate(model, tokenizer, [prompting.user_turn(row) for row in rows], **kwargs)


def solve(model: Any, tokenizer: Any, queries: Sequence[str], **kwargs: Any) -> list[str]:
    """Answers each question directly: the inference mode `direct`, where no critique is asked for.

    Args:
        model, tokenizer: As for `generate`.
        queries: The questions.
        kwargs: Further arguments of `generate`.
    """
    return generate(model, tokenizer, list(queries), **kwargs)


def generate(
    model: Any,
    tokenizer: Any,
    user_turns: Sequence[str],
    *,
    batch_size: int = AT_ONCE,
    on_progress: Callable[[int], None] | None = None,
    **kwargs: Any,
) -> list[str]:
    """Texts in the order of `user_turns`.

    Args:
        on_progress: called with the number of texts just finished.
        kwargs: `max_new_tokens`, `temperature`, `top_p`, `stop`, `seed` of `LocalModel.generate`.
    """
    advance = (lambda *_: on_progress(1)) if on_progress else None
    conversations = [chat_messages(turn) for turn in user_turns]
    made = LocalModel(model, tokenizer, batch_size).generate(conversations, on_result=advance, **kwargs)
    return [generation.text for generation in made]


class Streaming(Protocol):
    """Whatever writes one text piece by piece: a `LocalModel`, an `Endpoint`, a model that borrows its GPU."""

    def pieces(self, request: Request, /) -> Pieces: ...


# ---- modes -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Round:
    """One solution, the critique of it where there is one, and that critique's verdict ("right", "wrong" or None)."""

    solution: str
    critique: str | None = None
    verdict: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a mode made of one question.

    Attributes:
        text: The last solution; in mode `critique` the critique.
        rounds: At least one.
        finish_reason: Of the generation that `text` is: "stop", "length", "failed" (`failure` says why), a server's own
            word, or None where it gives none.
        prompt_tokens, completion_tokens: Of all rounds together; None where the endpoint does not count.
        failure: Why there is no text, or no critique of it.
        refused, without: As of `Generation`, of any of the texts.
        fingerprint: As of `Generation`; those of several rounds are joined.
    """

    text: str
    rounds: tuple[Round, ...]
    finish_reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    failure: str | None = None
    refused: bool = False
    without: tuple[str, ...] = ()
    fingerprint: str | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """A piece of a mode at work.

    Attributes:
        kind: "solution" or "critique" (the next piece of that text), "verdict" (`text` is right, wrong or "" for none),
            "end" (once, with the outcome).
        round: From 1.
        said: Of a verdict in words of the model's own, the word.
    """

    kind: str
    round: int
    text: str
    outcome: Outcome | None = None
    said: str | None = None


def run_mode(
    generator: LocalModel | Endpoint,
    queries: Sequence[str],
    mode: str = "direct",
    *,
    responses: Sequence[str] | None = None,
    system: str | None = None,
    prompt_preset: str | Wording = "paper",
    max_rounds: int = MAX_ROUNDS,
    max_new_tokens: int = 2048,
    temperature: float = 0.0,
    top_p: float = 1.0,
    stop: Sequence[str] = STOP_STRINGS,
    seed: int | Sequence[int] | None = None,
    on_result: Callable[[int, Outcome], None] | None = None,
) -> list[Outcome]:
    """Answers questions in one of the modes; a round is computed for all questions that are still open together.

    Args:
        generator: A model here or behind an endpoint.
        queries: The questions.
        mode: `direct`: the answer. `critique`: a critique of the given response. `single_pass`: solution, critique and
            correction in one text. `two_stage`: a solution, and in a fresh prompt a critique of it; unless that says
            right, another solution from scratch, at most `max_rounds` times; the last one counts. At temperature 0 a
            solution from scratch is the same again, so there the first round is the only one and the text is what
            `max_rounds` would have ended with; the published comparison uses 0.1 and above.
        responses: The solutions to critique, for mode `critique`.
        system: System turn before a question. Critiques are asked for without one, as they are trained.
        prompt_preset: Wording of the critique prompt the model was trained with.
        max_new_tokens, temperature, top_p, stop: As for `LocalModel.generate`; they hold for each text.
        seed: As for `LocalModel.generate`; later rounds draw anew.
        on_result: Called with (index, outcome) as each question is done.

    Returns:
        One outcome per question, in their order.

    Raises:
        CFTError: Unknown mode, or responses that do not fit it; what the generator raises.
    """
    _check_mode(mode, queries, responses)
    seeds = seeds_of(seed, len(queries))
    rounds = max_rounds if temperature > 0 else 1
    given: Sequence[str | None] = responses or [None] * len(queries)
    works = [
        _work(mode, query, response, system, prompt_preset, rounds)
        for query, response in zip(queries, given, strict=True)
    ]
    asked = {index: next(work) for index, work in enumerate(works)}
    outcomes: dict[int, Outcome] = {}
    indices: list[int] = []

    def receive(position: int, generation: Generation) -> None:
        index = indices[position]
        try:
            asked[index] = works[index].send(generation)
        except StopIteration as finished:
            outcomes[index] = finished.value
            if on_result:
                on_result(index, finished.value)

    number = 0
    while asked:
        indices = sorted(asked)
        conversations = [asked.pop(index).conversation for index in indices]
        requests = requests_of(
            generator,
            conversations,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_p=top_p,
            stop=stop,
            seed=[seeds[index] + number * _SEED_STEP for index in indices] if seeds else None,
        )
        generate_all(generator, requests, receive)
        number += 1
    return [outcomes[index] for index in range(len(queries))]


def stream_mode(
    generator: Streaming,
    query: str,
    mode: str = "direct",
    *,
    response: str | None = None,
    system: str | None = None,
    prompt_preset: str | Wording = "paper",
    max_rounds: int = MAX_ROUNDS,
    temperature: float = 0.0,
    seed: int | None = None,
    **sampling: Any,
) -> Generator[Event, None, None]:
    """Answers one question in one of the modes, piece by piece; arguments as for `run_mode`.

    Args:
        generator: A model that writes piece by piece, here or behind an endpoint.
        query: The question.
        mode, system, prompt_preset, max_rounds, temperature: As for `run_mode`.
        response: The solution to critique, for mode `critique`.
        seed: A number; later rounds draw anew.
        sampling: `max_new_tokens`, `top_p` and `stop` of `run_mode`.

    Yields:
        Events; the last is "end" and holds the outcome.

    Raises:
        CFTError: As `run_mode`.
    """
    _check_mode(mode, [query], None if response is None else [response])
    work = _work(mode, query, response, system, prompt_preset, max_rounds if temperature > 0 else 1)
    ask, number = next(work), 0
    while True:
        drawn = None if seed is None else [seed + number * _SEED_STEP]
        [request] = requests_of(generator, [ask.conversation], temperature=temperature, seed=drawn, **sampling)
        generation = yield from _events(ask, generator.pieces(request))
        if ask.kind == "critique":
            said = said_by(generation.text, prompt_preset)
            yield Event("verdict", ask.round, verdict_by(generation.text, prompt_preset) or "", said=said)
        number += 1
        try:
            ask = work.send(generation)
        except StopIteration as finished:
            yield Event("end", ask.round, finished.value.text, finished.value)
            return


def mode_conversation(
    mode: str,
    query: str,
    response: str | None = None,
    *,
    system: str | None = None,
    prompt_preset: str | Wording = "paper",
) -> list[dict[str, str]]:
    """What a mode asks first.

    Args:
        mode: One of `MODES`.
        query: The question.
        response: The solution to critique, for mode `critique`.
        system: System turn before a question.
        prompt_preset: Wording of the critique prompt.

    Example:
        >>> mode_conversation("direct", "2+2?", system="Be brief.")
        [{'role': 'system', 'content': 'Be brief.'}, {'role': 'user', 'content': '2+2?'}]
    """
    if mode == "critique":
        return chat_messages(Prompting("cft", preset=prompt_preset).user_turn({"query": query, "response": response}))
    head = [{"role": "system", "content": system}] if system else []
    return head + chat_messages(query + SINGLE_PASS if mode == "single_pass" else query)


@dataclass(frozen=True, slots=True)
class _NextText:
    """The next text that a mode needs: a "solution" or a "critique"."""

    kind: str
    round: int
    conversation: Sequence[Message]


def _work(
    mode: str, query: str, response: str | None, system: str | None, preset: str | Wording, max_rounds: int
) -> Generator[_NextText, Generation, Outcome]:
    """One question's way through a mode: yields what it asks for, is sent what was written, returns the outcome."""
    if mode == "critique":
        made = yield _NextText("critique", 1, mode_conversation(mode, query, response, prompt_preset=preset))
        return _outcome(made, [Round(response or "", made.text, verdict_by(made.text, preset))], [made])
    first = mode_conversation(mode, query, system=system)
    if mode != "two_stage":
        made = yield _NextText("solution", 1, first)
        return _outcome(made, [Round(made.text)], [made])
    rounds: list[Round] = []
    spent: list[Generation] = []
    while True:
        solution = yield _NextText("solution", len(rounds) + 1, first)
        if solution.refused:
            return _outcome(solution, [*rounds, Round(solution.text)], [*spent, solution])
        start, end = spoken(solution.text)
        shown = solution.text[start:end].strip() or solution.text  # what a reader would get, without the thinking
        asked = mode_conversation("critique", query, shown, prompt_preset=preset)
        critiqued = yield _NextText("critique", len(rounds) + 1, asked)
        rounds.append(Round(solution.text, critiqued.text, verdict_by(critiqued.text, preset)))
        spent += [solution, critiqued]
        if critiqued.refused or rounds[-1].verdict == "right" or len(rounds) >= max_rounds:
            return _outcome(solution, rounds, spent)


def _outcome(final: Generation, rounds: list[Round], spent: list[Generation]) -> Outcome:
    def total(counts: list[int | None]) -> int | None:
        known = [count for count in counts if count is not None]
        return sum(known) if len(known) == len(counts) else None

    refused = next((generation for generation in spent if generation.refused), None)
    return Outcome(
        final.text,
        tuple(rounds),
        final.finish_reason,
        total([generation.prompt_tokens for generation in spent]),
        total([generation.completion_tokens for generation in spent]),
        refused.failure if refused else final.failure,
        refused is not None,
        tuple(sorted({name for generation in spent for name in generation.without})),
        ", ".join(sorted({made.fingerprint for made in spent if made.fingerprint})) or None,
    )


def _events(ask: _NextText, pieces: Iterator[str]) -> Generator[Event, None, Generation]:
    while True:
        try:
            yield Event(ask.kind, ask.round, next(pieces))
        except StopIteration as finished:
            return finished.value


def _check_mode(mode: str, queries: Sequence[str], responses: Sequence[str] | None) -> None:
    if mode not in MODES:
        raise CFTError(f"mode {mode!r} is unknown{nearest(str(mode), MODES)}; give one of {', '.join(MODES)}")
    if (mode == "critique") != (responses is not None):
        raise CFTError("mode critique needs the response to critique, and the other modes take none")
    if responses is not None and len(responses) != len(queries):
        raise CFTError(f"{len(queries)} queries and {len(responses)} responses; give one response per query")
