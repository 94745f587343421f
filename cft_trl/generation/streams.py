"""A streamed answer, read piece by piece, and what it means when it does not end as it should.

    pieces = stream_text(Connection(teacher), Form({"model": "m", "messages": [...], "max_tokens": 512}))
    try:
        while True: print(next(pieces), end="")
    except StopIteration as ended:
        finish_reason, prompt_tokens, completion_tokens, without = ended.value

A stream that ends without a finish_reason, or with an event that is an error or no JSON, is no answer: what came of it
until then is a part of one.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from cft_trl.errors import CFTError, one_line
from cft_trl.generation.connection import Connection
from cft_trl.generation.dialect import Form
from cft_trl.generation.endpoint_settings import true_url
from cft_trl.generation.replies import BrokenReply, Trouble, how_it_ended, read_count, read_error, text_of

Ended = tuple[str, int | None, int | None, tuple[str, ...]]


def stream_text(connection: Connection, form: Form) -> Generator[str, None, Ended]:
    """Asks for a text and yields it as it comes; the request is put as the endpoint takes it (dialect.py).

    Returns:
        How it ended ("stop", "length", or an unknown reason as it is), the tokens of prompt and answer (None where they
        are not counted), and the sampling parameters that the endpoint does not take.

    Raises:
        CFTError: The endpoint cannot be reached, refuses the request, or breaks off; `reason` as of `Trouble`.
    """
    import openai

    teacher = connection.teacher
    key, seen = connection.key, 0
    try:
        with (
            openai.OpenAI(
                api_key=key, base_url=true_url(teacher.base_url), timeout=teacher.timeout, max_retries=4
            ) as client,
            _open(client, connection, form) as chunks,
        ):
            kind = chunks.response.headers.get("content-type", "")
            if "html" in kind:
                raise BrokenReply("web page", "it answers with a page")
            reason: Any = None
            counts: tuple[int | None, int | None] = (None, None)
            for chunk in chunks:
                piece, ended, counted = _read(chunk)
                reason, counts = ended or reason, counted or counts
                if piece:
                    seen += len(piece)
                    yield piece
    except CFTError:
        raise
    except (openai.OpenAIError, BrokenReply, OSError, ValueError, RecursionError, RuntimeError) as error:
        raise _told(connection, _trouble(error), seen) from None
    except Exception as error:
        if not type(error).__module__.startswith("httpx"):  # the HTTP package's own errors come through
            raise
        raise _told(connection, _trouble(error), seen) from None
    ended = how_it_ended(reason)
    if ended is None:
        raise _told(connection, Trouble("retry", "connection lost", "it ended without a finish_reason"), seen)
    if ended in ("retry", "filtered"):
        why = "content filter" if ended == "filtered" else "broken off"
        raise _told(connection, Trouble("final", why, f"finish_reason {one_line(reason)[:40]}"), seen)
    return ended, *counts, teacher.dialect.told(form, form.sent).get("without", ())


def _open(client: Any, connection: Connection, form: Form) -> Any:
    """The stream, once the endpoint takes the request."""
    import openai

    dialect = connection.teacher.dialect
    while True:
        form.sent = dialect.body(form)
        named = {name: value for name, value in form.sent.items() if name in ("model", "messages")}
        more = {name: value for name, value in form.sent.items() if name not in named}
        try:
            return client.chat.completions.create(
                **named, extra_body=more, stream=True, stream_options={"include_usage": True}
            )
        except openai.APIStatusError as error:
            if not dialect.learn(read_error(error), form, form.sent, connection.tell, connection.served):
                raise


def _read(chunk: Any) -> tuple[str, Any, tuple[int | None, int | None] | None]:
    """(text, finish_reason, tokens) of an event; servers leave out, or send as null, whatever they like."""
    usage, choices = getattr(chunk, "usage", None), getattr(chunk, "choices", None)
    counted = None
    if usage:
        told = (getattr(usage, name, None) for name in ("prompt_tokens", "completion_tokens"))
        counted = read_count(next(told)), read_count(next(told))
    if not isinstance(choices, list) or not choices:
        return "", None, counted
    delta = getattr(choices[0], "delta", None)
    text = text_of(getattr(delta, "content", None))
    if text is None:
        raise BrokenReply("malformed JSON", "the answer's content is not text")
    return text, getattr(choices[0], "finish_reason", None), counted


def _trouble(error: BaseException) -> Trouble:
    try:
        return read_error(error)
    except BaseException as unknown:
        if unknown is not error:
            raise
        return Trouble("retry", "malformed JSON", one_line(error)[:200])


def _told(connection: Connection, trouble: Trouble, seen: int) -> CFTError:
    """The one line that a broken stream ends with."""
    if not seen:
        error = connection.stopped(trouble)
        known = trouble.reason in ("no connection", "401", "403", "404", "quota", "429 quota", "web page")
        if known:
            return error
    teacher = connection.teacher
    part = f"; the text above ({seen:,} characters) is a part of an answer" if seen else ""
    said = f" ({trouble.detail})" if trouble.detail else ""
    return CFTError(connection.redact(f"{teacher.title} at {teacher.address}: {trouble.reason}{said}{part}"),
                    reason=trouble.reason)  # fmt: skip
