"""`cft rank`: several responses to each question, ranked by a critic; every critique is kept.

    OUT/ranked.jsonl              one line per response, best first within its question
    OUT/rank.json                 the figures, with everything that they depend on
    OUT/journal/rank.jsonl        each critique with its odds as it came; the same command goes on from there
    OUT/run.json                  whose folder it is (`claims.py`)

{"query": "What is 6 x 7?", "response": "42", "rank": 1, "p_right": 0.93, "low": 0.93, "high": 0.93, "read": 1,
 "right": true, "chosen_by": ["best_of_n", "majority"], "critiques": [{"text": "…", "verdict": "right", "p_right": …}]}
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cft_trl.data.digests import content_digest
from cft_trl.data.folders import check_writable, write_text
from cft_trl.data.prompts import Prompting, Wording, chat_messages, own_verdicts, said_by, told_wording
from cft_trl.data.records import reading_digest
from cft_trl.errors import CFTError
from cft_trl.evaluation.backends import Backend, circumstances, not_answered, out_of_memory
from cft_trl.evaluation.candidates import Question, graded, groups
from cft_trl.evaluation.claims import say, take_folder
from cft_trl.evaluation.rank import choose, figures, score_of
from cft_trl.generation import odds as odds_code
from cft_trl.generation.generate import generate, requests_of
from cft_trl.generation.journal import Journal, request_key
from cft_trl.generation.journaled import Journaled, graded_entry
from cft_trl.generation.odds import NOT_FOUND, NOT_WRITTEN, TOP_LOGPROBS, Odds, read_here, read_told
from cft_trl.generation.types import Generation, Request
from cft_trl.progress import progress

FILE, ROWS = "rank.json", "ranked.jsonl"
_WINDOW = 256  # an endpoint's answers with twenty tokens for each of theirs: so many are in memory at once
_ODDS = ("verdict", "p_right", "low", "high", "missing")


@dataclass(frozen=True)
class RankSettings:
    """How a critic is asked; the model and where it runs are a `Backend`.

    Attributes:
        critiques: How many of each response; above 1 they are drawn at `temperature`.
        temperature, top_p, seed: Of sampling; 0 is greedy. Each critique has a seed of its own: this one, a number that
            comes from question and response, and the critique's place, added up.
        prompt_preset: Wording of the prompt, as the model was trained with.
        max_new_tokens: Limit per critique.

    Raises:
        CFTError: Several critiques at temperature 0, which would be the same one.
    """

    critiques: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    prompt_preset: str | Wording = "paper"
    max_new_tokens: int = 1024

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON holds them."""
        return {**asdict(self), "prompt_preset": told_wording(self.prompt_preset)}

    def __post_init__(self) -> None:
        if self.critiques > 1 and self.temperature == 0:
            raise CFTError(
                f"{self.critiques} critiques at temperature 0 would be one and the same; give --temperature 0.7"
            )


@dataclass(frozen=True, slots=True)
class Critiqued:
    """A critique and its odds."""

    text: str
    odds: Odds
    finish_reason: str | None = None
    failure: str | None = None


def ask_for_odds(
    model: Any,
    requests: Sequence[Request],
    on_result: Callable[[int, Generation, Odds], Any] = lambda *_: None,
    preset: str | Wording = "paper",
) -> list[tuple[Generation, Odds]]:
    """Critiques with their odds.

    Args:
        model: A `LocalModel` or an `Endpoint`.
        requests: Each asks for a critique.
        on_result: Called with (index, critique, odds) as each is done.
        preset: The wording that they are asked in.

    Raises:
        CFTError: As `generate`; or the endpoint tells no log probabilities.
    """
    here = hasattr(model, "next_token_logprobs")
    if not here:
        told = {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
        # The key stays that of the question: a reading is kept with its critique.
        requests = [replace(one, sampling={**one.sampling, **told}, kept_as=one.key) for one in requests]
    found: dict[int, tuple[Generation, Odds]] = {}
    for begin in range(0, len(requests), _WINDOW):
        window = requests[begin : begin + _WINDOW]

        def keep(at: int, made: Generation, begin: int = begin, window: Sequence[Request] = window) -> None:
            if made.failure is not None:
                odds = Odds(None, missing=NOT_WRITTEN)
            elif here:
                odds = read_here(model, window[at].messages, made, preset)
            else:
                if made.text and not made.choices:
                    raise CFTError(
                        f"{getattr(model, 'where', model.model)}: its answers come without log probabilities (asked "
                        "for: logprobs, top_logprobs), so there is nothing to rank by; use a server that tells "
                        "them (vLLM), or --backend transformers",
                        reason="no logprobs",
                    )  # fmt: skip
                odds = read_told(made.text, made.choices, preset)
            found[begin + at] = replace(made, choices=(), ids=()), odds
            on_result(begin + at, *found[begin + at])

        generate(model, window, keep)
    return [found[at] for at in range(len(requests))]


def critique_requests(
    model: Any, query: str, response: str, settings: RankSettings, keys: Sequence[str] | None = None
) -> list[Request]:
    """The requests for one response's critiques.

    Args:
        model: Who is asked.
        query: The question.
        response: The response to it.
        settings: How many critiques, and how they are sampled.
        keys: Their names in the journal, one for each critique; None without one.
    """
    messages = chat_messages(
        Prompting("cft", preset=settings.prompt_preset).user_turn({"query": query, "response": response})
    )
    sampling: dict[str, Any] = {"max_new_tokens": settings.max_new_tokens, "temperature": settings.temperature}
    if settings.temperature > 0:
        # Of its own for each response: the same noise for all would make their errors alike. Servers take 31 bits.
        own = int(content_digest([query, response])[:7], 16)
        sampling |= {"top_p": settings.top_p, "seed": settings.seed + own}
    return requests_of(model, [messages] * settings.critiques, keys=keys, **sampling)


def run_rank(
    questions: Sequence[Question],
    settings: RankSettings,
    backend: Backend,
    output: Path,
    *,
    data: str = "",
    failures: int = 0,
    ask_again: bool = False,
) -> dict[str, Any]:
    """Ranks the responses of each question; what is in the folder already is not asked again.

    Args:
        questions: As of `read_questions`.
        settings: How the critic is asked.
        backend: Who is asked. Its model is loaded only if a critique is missing.
        output: The folder; made if it is not there.
        data: Where the questions are from, for the record.
        failures: How many rows held no response.
        ask_again: Whether everything is asked anew.

    Returns:
        The content of `rank.json`.

    Raises:
        CFTError: The model or the endpoint cannot be had, some requests were refused, or the folder is another run's.
    """
    check_writable(output)
    asked = {name: value for name, value in settings.to_dict().items() if name != "critiques"}
    asked["reading"] = _reading()
    rows = [{"id": content_digest([of.query]), "query": of.query, "responses": of.responses} for of in questions]
    claim = take_folder(output, "rank", backend, asked, {"questions": (rows, None)})
    if ask_again:
        claim.begin_round()
    started = time.time()
    keys = [[_keys(of.query, text, settings, claim.key) for text in of.responses] for of in questions]
    with Journal(output / "journal", "rank") as journal:
        claim.tell_whose("rank")
        todo = [
            (of, text, number, key)
            for of, of_question in zip(questions, keys, strict=True)
            for text, of_text in zip(of.responses, of_question, strict=True)
            for number, key in enumerate(of_text)
            if key not in journal
        ]
        todo = list({key: (of, text, number, key) for of, text, number, key in todo}.values())
        kept = len({key for of in keys for text in of for key in text}) - len(todo)
        if todo:
            claim.may_ask(kept)
            _fill(todo, settings, backend, journal, claim.key)
        critiques = [[[_critiqued(journal.get(key) or {}) for key in text] for text in of] for of in keys]
    right, same = graded(questions), groups(questions)
    scores = [[score_of([one.odds for one in text]) for text in of] for of in critiques]
    chosen = [choose([score["p_right"] for score in of], group) for of, group in zip(scores, same, strict=True)]
    lines = [line for at, of in enumerate(questions) for line in _lines(of, scores[at], critiques[at], right[at],
             same[at], chosen[at], settings.prompt_preset)]  # fmt: skip
    write_text(output / ROWS, "\n".join(json.dumps(line, ensure_ascii=False) for line in lines))
    result = {
        "model": backend.model,
        "revision": backend.commit(),
        "identity": claim.identity,
        "backend": backend.kind,
        **settings.to_dict(),
        "data": data,
        "questions": len(questions),
        "responses": sum(len(of.responses) for of in questions),
        "n": [min(len(of.responses) for of in questions), max(len(of.responses) for of in questions)],
        "rows_without_response": failures,
        **_counted(scores, critiques),
        "graded": sum(of is not None for of in right),
        "figures": figures(chosen, right),
        "round": claim.round,
        **circumstances(),
        "seconds": round(time.time() - started, 1),
        "from_journal": kept,
    }
    write_text(output / FILE, json.dumps(result, indent=1, ensure_ascii=False))
    return result


def _reading() -> str:
    """A digest of the code that reads a critique's verdict and odds: what is kept of it depends on that."""
    beside = Path(odds_code.__file__).parent
    return reading_digest(*(str(beside / f"{name}.py") for name in ("odds", "logprobs")))


def _keys(query: str, text: str, settings: RankSettings, who: str) -> list[str]:
    asked = {name: value for name, value in settings.to_dict().items() if name != "critiques"}
    return [request_key(who, [{"query": query, "response": text}], asked, at) for at in range(settings.critiques)]


def _fill(
    todo: Sequence[tuple[Question, str, int, str]],
    settings: RankSettings,
    backend: Backend,
    journal: Journal,
    who: str,
) -> None:
    model = backend.generator()
    requests = []
    for of, text, number, key in todo:
        request = critique_requests(model, of.query, text, settings)[number]
        requests.append(replace(request, kept_as=key, sample=0))
    with progress("critiques", len(todo)) as advance, out_of_memory("the model's memory is used up while it generates"):
        critic = Journaled(model, journal, who)

        def keep(at: int, made: Generation, odds: Odds) -> None:
            critic.entry = lambda made: {**graded_entry(made), **{name: getattr(odds, name) for name in _ODDS}}
            if critic.keep(requests[at].key, made):
                advance(1)

        ask_for_odds(model, requests, keep, settings.prompt_preset)
    if error := not_answered("critiques", critic.refused, len(todo)):
        raise error


def _critiqued(entry: Mapping[str, Any]) -> Critiqued:
    odds = Odds(*(entry.get(name) for name in _ODDS))
    return Critiqued(entry.get("text") or "", odds, entry.get("finish_reason"), entry.get("failure"))


def _lines(
    question: Question,
    scores: Sequence[Mapping[str, Any]],
    critiques: Sequence[Sequence[Critiqued]],
    right: Sequence[bool] | None,
    same: Sequence[int | None],
    chosen: Mapping[str, int | None],
    preset: str | Wording,
) -> list[dict[str, Any]]:
    known = [at for at in range(len(scores)) if scores[at]["p_right"] is not None]
    order = sorted(known, key=lambda at: (-scores[at]["p_right"], at))
    order += [at for at in range(len(scores)) if at not in known]
    return [
        {
            "query": question.query,
            "response": question.responses[at],
            **({} if question.reference is None else {"reference_answer": question.reference}),
            "place": at,
            "rank": rank if at in known else None,
            **scores[at],
            "right": None if right is None else right[at],
            "same_answer_as": same[at],
            "chosen_by": [way for way, place in chosen.items() if place == at],
            "critiques": [
                told_critique(one.text, one.finish_reason, one.odds, one.failure, preset) for one in critiques[at]
            ],
        }
        for rank, at in enumerate(order, 1)
    ]


def told_critique(
    text: str, finish_reason: str | None, odds: Odds, failure: str | None, preset: str | Wording
) -> dict[str, Any]:
    """A critique as `ranked.jsonl` and the server tell it; `said` is the word, of a wording with words of its own.

    Args:
        text, finish_reason, failure: Of the generation.
        odds: Its verdict and P(right).
        preset: The wording that it was asked in.
    """
    return {
        "text": text,
        "finish_reason": finish_reason,
        "verdict": odds.verdict,
        **({"said": said_by(text, preset)} if own_verdicts(preset) else {}),
        "p_right": odds.p_right,
        "missing": odds.missing,
        **({"failure": failure} if failure else {}),
    }


def _counted(
    scores: Sequence[Sequence[Mapping[str, Any]]], critiques: Sequence[Sequence[Sequence[Critiqued]]]
) -> dict[str, Any]:
    every = [one for of in critiques for text in of for one in text]
    missing = Counter(one.odds.missing for one in every if one.odds.missing)
    if missing[NOT_FOUND]:
        say(f"{missing[NOT_FOUND]} verdicts could not be found among the tokens that were told; they have no figure")
    return {
        "critiques_made": len(every),
        "bounded": sum(one.odds.bounded for one in every),
        "missing": dict(missing),
        "cut_at_limit": sum(one.finish_reason == "length" for one in every),
        "unscored_responses": sum(score["p_right"] is None for of in scores for score in of),
        "unscored_questions": sum(all(score["p_right"] is None for score in of) for of in scores),
    }
