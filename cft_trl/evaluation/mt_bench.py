r"""MT-Bench: two turns per question, each judged from 1 to 10 by a model behind any OpenAI-compatible endpoint.

    judge = open_judge("gpt-4o-2024-11-20")             # or "MODEL@http://localhost:8000/v1"
    judge_turns([{"id": "mt-bench-0.1", "text": "Hawaii …", "meta": {"turns": ["Compose …", "Rewrite …"], "turn": 1}}],
                judge, journal)
    # [{"score": 7.0, "judgement": "Vivid, but …\nScore: 7"}]

The prompt is this file's own, so its scores compare with each other and not with the published ones, which come from
another judge and another prompt. A judgement without a readable score is counted as such and enters no mean.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cft_trl.evaluation.backends import not_answered
from cft_trl.generation.endpoint import Endpoint
from cft_trl.generation.generate import requests_of
from cft_trl.generation.journal import Journal, request_key
from cft_trl.generation.journaled import Journaled
from cft_trl.generation.names import parse_endpoint_name
from cft_trl.generation.types import Generation

SAMPLING: dict[str, Any] = {"temperature": 0.0, "max_new_tokens": 1024}
_INSTRUCTION = (
    "You grade answers of an assistant. Read the conversation, then grade the assistant's LAST answer only: is it "
    "correct, does it do what was asked, is it complete, clear and as long as it needs to be? Length and confident "
    "tone earn nothing. First give your reasons in a few sentences. Then end with one line of the form\nScore: N\n"
    "where N is a whole number from 1 (useless) to 10 (could not be better)."
)
_SCORE = re.compile(r"score\W{0,6}(\d{1,2}(?:\.\d+)?)\b(?!\s*%)", re.IGNORECASE)


def open_judge(text: str, extra: Mapping[str, Any] | None = None) -> Endpoint:
    """Who judges, by a name as `cft_trl.generation.names` reads it, "MODEL" or "MODEL@URL"; `extra` as of `Endpoint`.

    Raises:
        CFTError: The name says nothing that is known.

    Example:
        >>> open_judge("qwen@http://localhost:8000/v1").model
        'qwen'
    """
    name = parse_endpoint_name(text, "--judge")
    return Endpoint(name.model, name.base_url, name.key_env, extra=extra)


def judge_identity(text: str) -> dict[str, Any]:
    """What a judge by that name is, as far as its endpoint says.

    Raises:
        CFTError: The name says nothing that is known.
    """
    from cft_trl.generation.endpoint_settings import true_url
    from cft_trl.generation.identities import bare_address, served_identity
    from cft_trl.models.identity import endpoint_identity

    name = parse_endpoint_name(text, "--judge")
    told = served_identity(name.model, name.base_url, name.key_env)
    return told or endpoint_identity(bare_address(true_url(name.base_url)), name.model)


def judge_messages(row: Mapping[str, Any], answers: Sequence[str]) -> list[dict[str, str]]:
    """The conversation up to the answer that is judged, between rules, with the reference where there is one.

    Args:
        row: With `meta`: `turns` (the user's), `turn` (which answer is judged, 1 or 2), and maybe `reference`.
        answers: The model's answers up to and with that one.
    """
    meta, spoken = row["meta"], []
    for turn, answer in zip(meta["turns"], answers, strict=False):
        spoken += [f"[user]\n{turn}", f"[assistant]\n{answer or '(nothing)'}"]
    references = meta.get("reference") or []
    if len(references) >= meta["turn"] and references[meta["turn"] - 1]:
        spoken.append(f"[a correct answer, for you only]\n{references[meta['turn'] - 1]}")
    return [{"role": "system", "content": _INSTRUCTION}, {"role": "user", "content": "\n\n".join(spoken)}]


def parse_score(judgement: str) -> float | None:
    """The last score from 1 to 10 that a judgement states, or None.

    Example:
        >>> parse_score("Clear and right.\\n**Score:** 8/10"), parse_score("Score: 15"), parse_score("Good.")
        (8.0, None, None)
    """
    found = _SCORE.findall(judgement)
    score = float(found[-1]) if found else None
    return score if score is not None and 1 <= score <= 10 else None


def _entry(judgement: Generation) -> dict[str, Any]:
    return {"text": judgement.text, "finish_reason": judgement.finish_reason}


def judge_turns(
    rows: Sequence[Mapping[str, Any]],
    judge: Any,
    journal: Journal,
    on_result: Callable[[int], Any] = lambda count: None,
    who: str | None = None,
) -> list[dict[str, Any]]:
    """Lets the judge grade each row; judgements in the journal are not asked for again.

    Args:
        rows: All answers, `id` "mt-bench-0.1" for turn 1 of question 0, with `text` and `meta`.
        judge: An `Endpoint`.
        journal: Keeps each judgement as it comes.
        on_result: Called with 1 for each judgement.
        who: The key of the judge's identity, which judgements are kept under; None is its name.

    Returns:
        Per row `score` (None if unreadable) and `judgement`.

    Raises:
        CFTError: The judge cannot be reached, has stopped answering, or refused to judge some of them.
    """
    texts = {row["id"]: row["text"] for row in rows}
    asked, keys = [], []
    for row in rows:
        question, turn = row["id"].rpartition(".")[0], row["meta"]["turn"]
        messages = judge_messages(row, [texts[f"{question}.{number}"] for number in range(1, turn + 1)])
        asked.append(messages)
        keys.append(request_key(who or judge.model, messages, SAMPLING))
    missing = [at for at, key in enumerate(keys) if key not in journal]
    if missing:
        kept = Journaled(judge, journal, who, _entry)
        conversations = [asked[at] for at in missing]
        kept.fill(requests_of(judge, conversations, stop=(), keys=[keys[at] for at in missing], **SAMPLING), on_result)
        if error := not_answered("judgements", kept.refused, len(rows)):
            raise error
    judgements = [(journal.get(key) or {}).get("text", "") for key in keys]
    return [{"score": parse_score(text), "judgement": text} for text in judgements]
