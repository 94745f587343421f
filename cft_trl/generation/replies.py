"""What an endpoint's reply means: an answer, a reason to try again, a reason to give a row up, or to stop the run.

    200, finish_reason "stop"          -> Generation("...", "stop", prompt_tokens=310, completion_tokens=24)
    429, 5xx, time-out, lost connection, broken JSON, empty answer  -> Trouble("retry", "429", ...)
    400 context length, content filter, refusal                     -> Trouble("final", "context length", ...)
    401, 403, 404, 402, quota used up                               -> Trouble("fatal", ...)

Three tables hold it all: `FINISH_REASONS` and `ERRORS` here, and what a request can be changed to after a refusal in
dialect.py. Sources: platform.openai.com/docs/guides/error-codes, and what DeepSeek, Mistral, OpenRouter, Gemini, Groq,
Zhipu, TGI and vLLM were seen to answer.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from time import time
from typing import Any

from cft_trl.errors import one_line
from cft_trl.generation.logprobs import read_choices
from cft_trl.generation.types import Generation

# "\ud83d" alone, as a cut-off JSON escape leaves it; it can be written in no file.
_SURROGATE = re.compile("[\ud800-\udfff]")
_MOST_TOKENS = 2**31 - 1  # a count over this is no count, and does not fit the columns that it goes into
_HEAD = 400  # characters of an error that are looked at: further on it may quote the question

# finish_reason, in lower case -> how the text ended. "stop", "length": an answer, whole or cut off. "filtered": it was
# withheld. "retry": the server broke off. Any other is an answer under its own name, counted and shown.
FINISH_REASONS = {
    **dict.fromkeys(("stop", "eos", "eos_token", "end_turn", "stop_sequence", "stop_string", "completed"), "stop"),
    **dict.fromkeys(("length", "max_tokens", "model_length", "max_output_tokens", "max_new_tokens",
                    "context_length_exceeded", "context_window_exceeded", "model_context_window_exceeded"), "length"),
    **dict.fromkeys(
        ("content_filter", "content_filtered", "sensitive", "recitation", "safety", "prohibited_content", "blocklist",
         "image_safety", "spii", "guardrail_intervened", "refusal"),
        "filtered",
    ),
    **dict.fromkeys(
        ("error", "insufficient_system_resource", "abort", "aborted", "cancelled", "canceled",
         "timeout", "network_error", "server_error", "internal_error", "model_error", "malformed_response",
         "malformed_function_call", "overloaded"),
        "retry",
    ),
}  # fmt: skip

_QUOTA_CODE = re.compile(
    r"insufficient_quota|billing_|insufficient_(?:balance|credit|fund)|arrearage|quota_exceeded|budget_exceeded|credit_limit"
    r"|\b1113\b",  # Zhipu: the account is in arrears
    re.I,
)
_QUOTA = re.compile(
    r"insufficient[ _](?:balance|quota|credit|fund)|exceeded your (?:current |monthly )?(?:quota|budget)|"
    r"billing|credit balance|out of credits|requires more credits|account (?:is )?(?:overdue|in arrears)|"
    r"spend(?:ing)? limit|payment required|credit limit|key limit exceeded|usage limits|exceeded ?budget|"
    r"budget has been exceeded|欠费|余额不足",
    re.I,
)
_CONTEXT = re.compile(
    r"context[ _](?:length|window|size)|maximum (?:context|model|sequence|input)|max_model_len|max_total_tokens|"
    r"too many (?:input |prompt )?tokens|(?:prompt|input)\b.{0,60}\btoo (?:long|large)|(?:prompt|input) is longer|"
    r"longer than the m|exceeds? (?:the )?(?:limit|max\w*) of \d+|reduce the length|input length|"
    r"max(?:_completion|_new)?_tokens\W.{0,40}(?:too large|greater than|at most|exceed|less than or equal)|"
    r"range of max_tokens|maximum allowed number of output tokens|tokens from the input|max_new_tokens\W+must be <=|"
    r"must have less than \d+ tokens|token count \(?\d+\)? exceeds|超长",
    re.I | re.S,
)
_FILTER = re.compile(
    r"content[ _]?(?:filter|policy|management|moderation|exists risk)|moderation|flagged|safety|"
    r"data_inspection|inappropriate content|sensitive (?:content|word)|usage polic|敏感内容|"
    r"(?:response|prompt|request) was filtered",
    re.I,
)


@dataclass(frozen=True, slots=True)
class Rule:
    """A line of `ERRORS`: it holds for an HTTP status (`statuses`; all where empty) whose words match.

    Attributes:
        code, words: What is looked for in the error's code and type, or in those and its message.
        then, reason: As of `Trouble`.
    """

    statuses: tuple[int, ...]
    then: str
    reason: str
    code: re.Pattern[str] | None = None
    words: re.Pattern[str] | None = None


# Said with 400 by some: no request of this key, account or place will be answered.
_NO_KEY = re.compile(r"api[ _]key (?:is )?(?:not valid|invalid|expired)|(?:invalid|incorrect|expired) api[ _]key", re.I)
_NO_ENTRY = re.compile(
    r"(?:organization|account|consumer|user|project) has been (?:restricted|suspended|disabled|deactivated)|"
    r"(?:user )?location is not supported|(?:country|region)\S* .{0,30}not supported", re.I,
)  # fmt: skip

_REFUSING = (400, 403, 412, 413, 422)

# The first line that fits says what a status other than 200 means; see `read_status` for what is left.
ERRORS = (
    Rule((402, 412), "fatal", "quota"),
    Rule((429, *_REFUSING), "fatal", "quota", code=_QUOTA_CODE),
    Rule(_REFUSING, "fatal", "quota", words=_QUOTA),
    # "You exceeded your current quota" is also what Gemini says to a minute's limit: it is stopped if it does not end.
    Rule((429,), "retry", "429 quota", words=_QUOTA),
    Rule((429,), "retry", "429"),
    Rule((403, 451), "final", "content filter", words=_FILTER),
    Rule((401, 403, 404), "fatal", ""),
    Rule((405,), "fatal", "404"),
    Rule((400,), "fatal", "401", words=_NO_KEY),
    Rule((400,), "fatal", "403", words=_NO_ENTRY),
    # 424: TGI's failed generation; 498: Groq's missing capacity.
    Rule((408, 409, 424, 425, 498), "retry", ""),
    Rule((413,), "final", "context length"),
    Rule((400, 422), "final", "context length", words=_CONTEXT),
    Rule((400, 422, 451), "final", "content filter", words=_FILTER),
)


@dataclass(frozen=True, slots=True)
class Trouble:
    """A reply that is no answer.

    Attributes:
        then: "retry", "final" (this request has failed) or "fatal" (the run cannot go on).
        reason: A few words to count by: "429", "time-out", "context length", ...
        detail: What the server said, in one line.
        wait: Seconds the server asked to wait (Retry-After), else 0.
        overload: Whether it is a sign of too many requests; `fault`, of a server in trouble.
        code: The error's own code and parameter ("unsupported_parameter max_tokens"), for dialect.py.
        status: The HTTP status where there was one other than 200.
    """

    then: str
    reason: str
    detail: str = ""
    wait: float = 0.0
    overload: bool = False
    fault: bool = False
    code: str = ""
    status: int = 0


def read_answer(body: str) -> Generation | Trouble:
    r"""Reads the body of a reply with status 200.

    Returns:
        The text, its tokens None where the server does not count them; or the trouble with it.

    Example:
        >>> made = read_answer('{"choices": [{"message": {"content": "No."}, "finish_reason": "length"}]}')
        >>> made.text, made.finish_reason, made.prompt_tokens
        ('No.', 'length', None)
        >>> read_answer('{"choices": [{"mess').reason
        'malformed JSON'
    """
    try:
        return read_completion(parse(body))
    except ValueError as error:
        if body.lstrip("\ufeff \r\n\t")[:1] == "<":
            return Trouble("retry", "web page", f"it answers with a page: {one_line(body[:120])}")
        return Trouble("retry", "malformed JSON", one_line(body[:200]) or str(error))


def parse(body: str) -> Any:
    """JSON, with or without a byte order mark.

    Raises:
        ValueError: It is none, or is nested deeper than can be read.
    """
    try:
        return json.loads(body.lstrip("\ufeff"))
    except RecursionError:
        raise ValueError("nested too deep") from None


def read_completion(reply: Any) -> Generation | Trouble:
    """`read_answer` of a body that has been parsed."""
    if isinstance(reply, dict) and reply.get("error") and not reply.get("choices"):
        return _error_in(reply["error"])
    try:
        choice = reply["choices"][0]
        message = choice["message"]
        text, refusal = text_of(message.get("content")), message.get("refusal")
        finish_reason, usage = choice.get("finish_reason"), reply.get("usage")
        failed = choice.get("error")
    except (LookupError, TypeError, AttributeError):
        return Trouble("retry", "malformed JSON", f"no answer in it: {_shown(reply)}")
    if text is None:
        return Trouble("retry", "malformed JSON", "the answer's content is not text")
    ended = how_it_ended(finish_reason)
    if ended == "retry":
        told = _message(failed) if failed else "the server broke the answer off"
        return Trouble("retry", f"finish_reason {one_line(finish_reason)[:40]}", one_line(told), fault=True)
    if ended == "filtered":
        return Trouble("final", "content filter", f"the endpoint withheld the answer ({one_line(finish_reason)[:40]})")
    if refusal:
        return Trouble("final", "refusal", one_line(refusal))
    if not text.strip():
        if ended == "length":  # a model that thinks apart from its answer and never came to it
            return Trouble("final", "no room", "max_tokens were used up before the answer began")
        return Trouble("retry", "empty answer")
    usage = usage if isinstance(usage, dict) else {}
    prompt_tokens, completion_tokens = (read_count(usage.get(name)) for name in ("prompt_tokens", "completion_tokens"))
    text = _SURROGATE.sub("\ufffd", text)
    mark, choices = _fingerprint(reply), read_choices(choice.get("logprobs"))
    return Generation(text, ended, prompt_tokens, completion_tokens, fingerprint=mark, choices=choices)


def _fingerprint(reply: Any) -> str | None:
    told = reply.get("system_fingerprint")
    return _SURROGATE.sub("\ufffd", told)[:100] if isinstance(told, str) and told else None


def how_it_ended(finish_reason: Any) -> str | None:
    """A finish_reason in our words; an unknown one as it is, None where there is none.

    Example:
        >>> how_it_ended("model_length"), how_it_ended("SAFETY"), how_it_ended("abort"), how_it_ended("ran_away")
        ('length', 'filtered', 'retry', 'ran_away')
    """
    if finish_reason is None or finish_reason == "":
        return None
    word = _SURROGATE.sub("\ufffd", one_line(finish_reason))[:40]
    return FINISH_REASONS.get(word.lower().removeprefix("finishreason."), word)


def text_of(content: Any) -> str | None:
    """The text of a message's content: itself, or its parts' without those that think; None for what is no text.

    Example:
        >>> text_of([{"type": "thinking", "thinking": []}, {"type": "text", "text": "Step 1 "}, "fails."])
        'Step 1 fails.'
    """
    if content is None or isinstance(content, str):
        return content or ""
    if isinstance(content, dict):
        content = [content]
    if not isinstance(content, list):
        return None
    texts = []
    for part in content:
        if isinstance(part, dict):
            part = part.get("text", "") if part.get("type") in (None, "text", "output_text") else ""
        if not isinstance(part, str):
            return None
        texts.append(part)
    return "".join(texts)


def completion_id(body: str) -> str | None:
    """The id that a completion says it has; None without one."""
    found = re.search(r'"id"\s*:\s*"([^"\\]{1,200})"', body[:2000])
    return found[1] if found else None


def read_error(error: BaseException) -> Trouble:
    """Reads what the `openai` library raised; an exception of no known kind is raised again.

    Raises:
        BaseException: What was given, where it is of no known kind.
    """
    import openai

    cause = type(error.__cause__).__name__  # by name: the library may change its HTTP package, it has once
    if isinstance(error.__cause__, BrokenReply):
        return Trouble("retry", error.__cause__.reason, str(error.__cause__))
    if isinstance(error, openai.APIConnectionError) and cause in ("ConnectError", "ConnectTimeout"):
        return Trouble("retry", "no connection", one_line(error.__cause__))
    if isinstance(error, (openai.APITimeoutError, TimeoutError)):
        return Trouble("retry", "time-out", fault=True)
    if isinstance(error, BrokenReply):
        return Trouble("retry", error.reason, str(error))
    # While a reply is streamed the HTTP package's own errors come through.
    if isinstance(error, openai.APIConnectionError) or type(error).__module__.startswith("httpx"):
        return Trouble("retry", "connection lost", one_line(error.__cause__ or error))
    if isinstance(error, openai.APIStatusError):
        wait = retry_after(error.response.headers)
        return read_status(error.status_code, error.body, str(error.message), wait)
    if isinstance(error, openai.APIError) and error.body is not None:  # an error among a stream's events
        return _error_in(error.body)
    raise error


class BrokenReply(Exception):
    """A reply that the connection itself does not vouch for; `reason` as of `Trouble`."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def read_status(status: int, error: Any = None, message: str = "", wait: float = 0.0) -> Trouble:
    """What an HTTP status other than 200 means.

    Args:
        status: The status.
        error: The body's "error", or the body: a dict, or a text.
        message: What is told where it has no message.
        wait: Seconds of a Retry-After.

    Example:
        >>> read_status(500).then, read_status(400, {"code": "context_length_exceeded"}).reason, read_status(401).then
        ('retry', 'context length', 'fatal')
        >>> read_status(402, {"message": "Insufficient Balance"}).reason
        'quota'
    """
    if isinstance(error, list) and error:  # Gemini's
        error = error[0]
    error = error if isinstance(error, dict) else {"message": error} if isinstance(error, str) else {}
    if isinstance(error.get("error"), dict):
        error = error["error"]
    detail = one_line(_message(error) or message)
    code = " ".join(
        str(error[name]) for name in ("code", "type", "status", "param") if isinstance(error.get(name), str)
    )
    more = _shown(error["metadata"]) if "metadata" in error else ""
    told = f"{code} {detail[:_HEAD]} {more}"
    for rule in ERRORS:
        if rule.statuses and status not in rule.statuses:
            continue
        if rule.code and not rule.code.search(code):
            continue
        if rule.words and not rule.words.search(told):
            continue
        return Trouble(rule.then, rule.reason or str(status), detail, wait, overload=status == 429,
                       fault=rule.then == "retry" and status != 429, code=code, status=status)  # fmt: skip
    if status >= 500:
        return Trouble("retry", str(status), detail, wait, fault=True, code=code, status=status)
    return Trouble("final", "bad request", f"{status}: {detail}", code=code, status=status)


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
            except (ValueError, OverflowError):
                continue
        if 0 <= seconds < float("inf"):
            return seconds
    return 0.0


def _error_in(error: Any) -> Trouble:
    """An error that came with status 200, as some gateways send it, or among a stream's events."""
    code = error.get("code") if isinstance(error, dict) else None
    status = int(str(code)) if str(code).isdecimal() and 400 <= int(str(code)[:4]) <= 599 else 500
    trouble = read_status(status, error)
    if status == 500 and (_QUOTA_CODE.search(trouble.code) or _QUOTA.search(_message(error)[:_HEAD])):
        return Trouble("fatal", "quota", trouble.detail)
    return trouble


def _message(error: Any) -> str:
    """The words of an error: most servers' `message`, FastAPI's `detail`, else a text itself."""
    if isinstance(error, dict):
        found = next((error[name] for name in ("message", "detail", "msg") if error.get(name)), "")
        return found if isinstance(found, str) else _shown(found)
    return error if isinstance(error, str) else ""


def read_count(value: Any) -> int | None:
    """A number of tokens, also where it is sent as text; None for what is none.

    Example:
        >>> read_count("300"), read_count(20.0), read_count(-1), read_count("many")
        (300, 20, None, None)
    """
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdecimal() and len(value) < 20:
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    usable = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_TOKENS
    return value if usable else None


def _shown(value: Any) -> str:
    try:
        return one_line(json.dumps(value)[:200])
    except (ValueError, TypeError, RecursionError):
        return "(cannot be shown)"
