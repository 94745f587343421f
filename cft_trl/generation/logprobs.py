"""The log probabilities of a reply, as OpenAI's protocol has them and most servers send them.

{"content": [{"token": " right", "bytes": [32, 114, …], "logprob": -0.4, "top_logprobs": [{"token": " wrong", …}, …]}]}
(Choice(" right", -0.4, ((" right", -0.4), (" wrong", -1.2))),)
"""

from __future__ import annotations

import math
from typing import Any

from cft_trl.generation.types import Choice


def read_choices(told: Any) -> tuple[Choice, ...]:
    """The tokens of a choice's `logprobs`; () where there are none, or they are not what the protocol says.

    Example:
        >>> told = {"token": "a", "logprob": -0.5, "top_logprobs": [{"token": "b", "logprob": -2}]}
        >>> read_choices({"content": [told]})
        (Choice(text='a', logprob=-0.5, others=(('b', -2.0),)),)
        >>> read_choices(None), read_choices({"content": [{"token": "a"}]})
        ((), ())
    """
    if not isinstance(told, dict) or not isinstance(told.get("content"), list):
        return ()
    try:
        return tuple(
            Choice(*_token(token), tuple(_token(other) for other in token.get("top_logprobs") or ()))
            for token in told["content"]
        )
    except (LookupError, TypeError, ValueError, AttributeError):
        return ()


def _token(told: Any) -> tuple[str, float]:
    # Half a character is shown in several ways; its bytes are the same everywhere.
    spelled = told.get("bytes")
    text = bytes(spelled).decode("utf-8", "replace") if isinstance(spelled, list) else told["token"]
    logprob = float(told["logprob"])
    if not isinstance(text, str) or math.isnan(logprob):
        raise ValueError("no token")
    return text, min(logprob, 0.0)
