"""What an endpoint's reply means: an answer, a reason to try again, a reason to give a row up, or to stop the run.

    200, finish_reason "stop"          -> {"text": "...", "finish_reason": "stop", "prompt_tokens": 310, ...}
    429, 5xx, time-out, lost connection, broken JSON, empty answer  -> Trouble("retry", "429 too many requests", ...)
    400 context length, content filter, refusal                     -> Trouble("final", "context length", ...)
    401, 403, 404, quota used up                                    -> Trouble("fatal", ...)

Status codes and error codes: platform.openai.com/docs/guides/error-codes; vLLM and other servers use the same.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from time import time
from typing import Any

from cft_trl.errors import one_line

# "\ud83d" alone, as a cut-off JSON escape leaves it; it can be written in no file.
_SURROGATE = re.compile("[\ud800-\udfff]")
_CONTEXT = re.compile(r"context[ _]length|maximum context|too many tokens|prompt is too long|longer than the m", re.I)
_FILTER = re.compile(r"content[ _](?:filter|policy|management)|safety", re.I)


@dataclass(frozen=True, slots=True)
class Trouble:
    """A reply that is no answer.

    Attributes:
        then: "retry", "final" (this request has failed) or "fatal" (the run cannot go on).
        reason: A few words to count by: "429", "time-out", "context length", ...
        detail: What the server said, in one line.
        wait: Seconds the server asked to wait (Retry-After), else 0.
        overload: Whether it is a sign of too many requests; `fault`, of a server in trouble.
    """

    then: str
    reason: str
    detail: str = ""
    wait: float = 0.0
    overload: bool = False
    fault: bool = False


def read_answer(body: str) -> dict[str, Any] | Trouble:
    r"""Reads the body of a reply with status 200.

    Returns:
        `{"text", "finish_reason", "prompt_tokens", "completion_tokens"}`, tokens None where the server does not count
        them, and "fingerprint" where it gives one (`system_fingerprint`); or the trouble with it.

    Example:
        >>> read_answer('{"choices": [{"message": {"content": "No."}, "finish_reason": "length"}]}')
        {'text': 'No.', 'finish_reason': 'length', 'prompt_tokens': None, 'completion_tokens': None}
        >>> read_answer('{"choices": [{"mess').reason
        'malformed JSON'
    """
    try:
        return read_completion(json.loads(body))
    except ValueError:
        return Trouble("retry", "malformed JSON", one_line(body[:200]))


def read_completion(reply: Any) -> dict[str, Any] | Trouble:
    """`read_answer` of a body that has been parsed."""
    try:
        choice = reply["choices"][0]
        message = choice["message"]
        text, finish_reason = message.get("content"), choice.get("finish_reason")
        usage = reply.get("usage") or {}
        tokens = {name: usage.get(name) for name in ("prompt_tokens", "completion_tokens")}
    except (LookupError, TypeError, AttributeError):
        return Trouble("retry", "malformed JSON", one_line(json.dumps(reply)[:200]))
    if text is not None and not isinstance(text, str):
        return Trouble("retry", "malformed JSON", "the answer's content is not text")
    if finish_reason == "content_filter":
        return Trouble("final", "content filter", "the endpoint withheld the answer")
    if message.get("refusal"):
        return Trouble("final", "refusal", one_line(message["refusal"]))
    if not (text or "").strip():
        if finish_reason == "length":  # a model that thinks apart from its answer and never came to it
            return Trouble("final", "no room", "max_tokens were used up before the answer began")
        return Trouble("retry", "empty answer")
    return {"text": _SURROGATE.sub("\ufffd", text), "finish_reason": finish_reason, **tokens, **_fingerprint(reply)}


def _fingerprint(reply: Any) -> dict[str, str]:
    told = reply.get("system_fingerprint")
    return {"fingerprint": _SURROGATE.sub("\ufffd", told)[:100]} if isinstance(told, str) and told else {}


def read_error(error: Exception) -> Trouble:
    """Reads what the `openai` library raised; an exception of no known kind is raised again."""
    import openai

    cause = type(error.__cause__).__name__  # by name: the library may change its HTTP package, it has once
    if isinstance(error, openai.APIConnectionError) and cause in ("ConnectError", "ConnectTimeout"):
        return Trouble("retry", "no connection", one_line(error.__cause__))
    if isinstance(error, openai.APITimeoutError):
        return Trouble("retry", "time-out", fault=True)
    # While a reply is streamed the HTTP package's own errors come through.
    if isinstance(error, openai.APIConnectionError) or type(error).__module__.startswith("httpx"):
        return Trouble("retry", "connection lost", one_line(error.__cause__ or error))
    if not isinstance(error, openai.APIStatusError):
        raise error
    wait = retry_after(error.response.headers)
    return read_status(error.status_code, str(error.code or ""), one_line(_message(error)), wait)


def read_status(status: int, code: str = "", detail: str = "", wait: float = 0.0) -> Trouble:
    """What an HTTP status other than 200 means, with the error's code and message and the seconds of a Retry-After.

    Example:
        >>> read_status(500).then, read_status(400, "context_length_exceeded").reason, read_status(401).then
        ('retry', 'context length', 'fatal')
    """
    if status == 429:
        if code == "insufficient_quota":
            return Trouble("fatal", "quota", detail)
        return Trouble("retry", "429", detail, wait=wait, overload=True)
    if status in (401, 403, 404):
        return Trouble("fatal", str(status), detail)
    if status >= 500 or status in (408, 409, 425):
        return Trouble("retry", str(status), detail, wait=wait, fault=True)
    told = f"{code} {detail}"
    if _CONTEXT.search(told):
        return Trouble("final", "context length", detail)
    if _FILTER.search(told):
        return Trouble("final", "content filter", detail)
    return Trouble("final", "bad request", f"{status}: {detail}")


def retry_after(headers: Any) -> float:
    """Seconds from a reply's `retry-after-ms` or `Retry-After` header (seconds or a date); 0 without one.

    Example:
        >>> retry_after({"retry-after": "2"}), retry_after({"retry-after-ms": "50"}), retry_after({})
        (2.0, 0.05, 0.0)
    """
    for name, scale in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        value = headers.get(name)
        if not value:
            continue
        try:
            seconds = float(value) / scale
        except ValueError:
            try:
                seconds = parsedate_to_datetime(value).timestamp() - time()
            except ValueError:
                continue
        if 0 <= seconds < float("inf"):
            return seconds
    return 0.0


def _message(error: Any) -> str:
    body = error.body
    return str(body.get("message") or error.message) if isinstance(body, dict) else str(error.message)
