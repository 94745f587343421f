"""What an endpoint takes of a request: found out from its refusals, once, said once, and kept for the next requests.

    Unsupported parameter: 'max_tokens' ... Use 'max_completion_tokens' instead.    -> sent under the other name
    'temperature' does not support 0.3 with this model.                             -> left out, from then on
    max_tokens=3200 cannot be greater than max_model_len=2048                       -> cut to what the server allows
    maximum context length is 2048 tokens ... 1900 in the messages                  -> this one is cut to the 148 left
    System role not supported                                                       -> joined to the first user turn

Of stop strings at most four reach a server (OpenAI's limit); the text is cut at the others when it comes. The key of a
request in the journal is that of what was asked, whatever was sent for it.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cft_trl.errors import CFTError
from cft_trl.generation.replies import Trouble
from cft_trl.models.chat_templates import merge_system

MOST_STOPS = 4
LIMITS = ("max_tokens", "max_completion_tokens")
# What a server may refuse and an answer can be had without. What a user wrote under `extra` is never left out.
OPTIONAL = ("temperature", "top_p", "seed", "stop")
# Fields that are set by other settings, or would make of the reply what is not read here.
RESERVED = {
    **dict.fromkeys(("model", "messages"), "the teacher and the prompt say it"),
    **dict.fromkeys(("stream", "stream_options", "n"), "one whole answer is read per request"),
    **dict.fromkeys(("temperature", "top_p", "max_tokens", "seed"), "it is a setting of its own"),
}

# Names that no file of ours may hold a value of.
SECRET = re.compile(r"(?i)(api[_-]?key|authorization|headers|extra_headers|hf_token|token|password|secret)")

_RENAME = re.compile(r"max_completion_tokens\W{0,3}\s+instead|max_tokens\W.{0,40}(?:not supported|unsupported)", re.I)
_UNSUPPORTED = re.compile(
    r"unsupported|not support|unrecogni[sz]ed|unknown (?:parameter|field|argument|name)|cannot find field"
    r"|unexpected|not permitted|"
    r"not allowed|only \S+ is allowed|extra inputs|only the default|cannot both|deprecated|not available|not accept",
    re.I,
)
# The most tokens that an answer may have there, whatever the prompt.
_CAP = re.compile(
    r"max_model_len\S*?=(\d+)|supports at most (\d+)|\[1, ?(\d+)\]|> (\d+),? which is the maximum|"
    r"less than or equal to \W?(\d+)(?![\d.])"
)
_CONTEXT = re.compile(
    r"(?:context|model) (?:length|window|size)\W+(?:is|of)?\s*(\d+)|must be <= (\d+)|limit: \d+ \+ \d+ > (\d+)", re.I
)
_PROMPT = re.compile(
    r"(\d+) (?:in the messages|input tokens|prompt tokens|tokens (?:in|from) the (?:messages|prompt|input)|`inputs`)|"
    r"messages resulted in (\d+)|prompt contains (\d+)|Input prompt \((\d+)|limit: (\d+) \+ \d+ >",
    re.I,
)


@dataclass
class Form:
    """How one request is put.

    Attributes:
        body: As it is asked: `model`, `messages` and the sampling.
        limit: The limit that is sent in place of its own; 0 for none, which gives it the rest of the context.
        sent: The body that was sent last.
        changes: How often a refusal changed it.
    """

    body: Mapping[str, Any]
    limit: int | None = None
    sent: Mapping[str, Any] = field(default_factory=dict)
    changes: int = 0

    @property
    def asked_limit(self) -> int | None:
        return next((self.body[name] for name in LIMITS if isinstance(self.body.get(name), int)), None)

    @property
    def stops(self) -> list[str]:
        """The stop strings asked for."""
        stop = self.body.get("stop") or []
        return [stop] if isinstance(stop, str) else list(stop)

    @property
    def stops_here(self) -> list[str]:
        """Those that were not sent."""
        given = self.sent.get("stop") or []
        return [mark for mark in self.stops if mark not in given]


@dataclass
class Dialect:
    """What was found out about one endpoint; shared by the requests to it, and by the threads that make them.

    Attributes:
        renamed: It wants `max_completion_tokens`.
        without: Of `OPTIONAL`, what it does not take.
        system: Where a system turn goes: "kept" as it is; "merged" into the first user turn; "until refused" is kept
            until the endpoint refuses one.
        spoke: Whether it ever answered with a text.
        cap: The highest limit that it takes; `open_from`: from this limit on it takes none at all.
    """

    renamed: bool = False
    without: set[str] = field(default_factory=set)
    system: str = "kept"
    spoke: bool = False
    cap: int | None = None
    open_from: int | None = None
    _looked: bool = False
    _lock: Any = field(default_factory=threading.Lock, repr=False)

    def body(self, form: Form) -> dict[str, Any]:
        """What is sent."""
        sent = {name: value for name, value in form.body.items() if name not in self.without}
        if self.system == "merged":
            sent["messages"] = merge_system(sent["messages"])
        name = next((name for name in LIMITS if name in sent), None)
        if name and isinstance(sent[name], int):
            asked = sent.pop(name)
            limit = self._limit(asked) if form.limit is None else form.limit
            if limit:
                sent["max_completion_tokens" if self.renamed else name] = limit
        if len(form.stops) > MOST_STOPS and "stop" in sent:
            sent["stop"] = form.stops[:MOST_STOPS]
        return sent

    def told(self, form: Form, sent: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of a `Generation` that say how a request was sent otherwise than as it was asked."""
        without = sorted(name for name in self.without if name in form.body and name not in sent and name != "stop")
        limit = next((sent[name] for name in LIMITS if name in sent), 0)
        cut = form.asked_limit is not None and limit != form.asked_limit
        return ({"without": tuple(without)} if without else {}) | ({"limit_cut": True} if cut else {})

    def learn(
        self,
        trouble: Trouble,
        form: Form,
        sent: Mapping[str, Any],
        tell: Callable[[str], None],
        served: Callable[[], Sequence[Mapping[str, Any]]],
    ) -> bool:
        """Reads a refusal; whether the request is to be sent again, in another form.

        Args:
            trouble: The refusal.
            form: The request; its `limit` may be changed.
            sent: The body that was refused.
            tell: Says a line to the user.
            served: Gives `connection.served_models`.
        """
        if trouble.then != "final" or trouble.reason not in ("bad request", "context length") or form.changes > 8:
            return False
        with self._lock:
            learnt = self._learn(trouble, form, sent, tell, served)
        form.changes += learnt
        return learnt

    def _learn(self, trouble: Trouble, form: Form, sent: Mapping[str, Any], tell: Any, served: Any) -> bool:
        detail = trouble.detail
        if "max_tokens" in sent and trouble.reason == "bad request" and _RENAME.search(detail):
            if not self.renamed:
                tell(f"it takes max_completion_tokens in place of max_tokens ({detail}); it is sent that")
            self.renamed = True
            return "max_tokens" in form.body
        if trouble.reason == "bad request" and (named := self._refused(trouble, sent)):
            for name in named:
                if name not in self.without:
                    tell(f"it does not take {name}={sent[name]!r} ({detail}); it is asked without")
                self.without.add(name)
            return True
        if self._refuses_system(trouble, sent):
            if self.system == "until refused":
                tell(f"it takes no system turn ({detail}); what it says goes to the head of the first user turn")
            self.system = "merged"
            return True
        limit = next((sent[name] for name in LIMITS if name in sent), None)
        if limit is None:
            return False
        return self._shorten(trouble, form, limit, tell, served)

    def _shorten(self, trouble: Trouble, form: Form, limit: int, tell: Any, served: Any) -> bool:
        """Cuts the limit: to what the server says it takes, to the room it says is left, or to the rest, unnamed."""
        if (
            trouble.reason == "bad request"
            and "token" not in trouble.detail.lower()
            and "max_model_len" not in trouble.detail
        ):
            return False  # "temperature should be less than or equal to 1" is no limit of tokens
        cap, context, prompt = (_number(pattern, trouble.detail) for pattern in (_CAP, _CONTEXT, _PROMPT))
        if cap is None and not self._looked:
            self._looked = True
            cap = next((n for m in served() if m.get("id") == form.body.get("model")
                        if isinstance(n := m.get("max_model_len"), int) and n > 0), None)  # fmt: skip
        if cap is None or cap >= limit:
            cap = self.cap
        if cap is not None and cap < limit:
            if self.cap != cap:
                tell(f"a limit of {limit:,} tokens is over the {cap:,} that it takes; answers get the room there is")
            self.cap = cap
            return True
        if trouble.reason != "context length" or "without any output tokens" in trouble.detail:  # vLLM's words
            return False
        # vLLM stops counting where it is too long, and says "at least".
        if context and prompt and "at least" not in trouble.detail and 0 < context - prompt < limit:
            form.limit = context - prompt
        else:
            if limit == self.cap:
                self.open_from = limit
            form.limit = 0
        return True

    def _refuses_system(self, trouble: Trouble, sent: Mapping[str, Any]) -> bool:
        """Whether the endpoint's model knows no system turn, and this request was sent with one."""
        messages = sent.get("messages") or []
        has_one = len(messages) > 1 and messages[0]["role"] == "system"
        told = trouble.reason == "bad request" and "system" in trouble.detail.lower()
        return has_one and told and self.system != "kept"

    def _limit(self, asked: int) -> int:
        limit = min(asked, self.cap or asked)
        return 0 if self.open_from and limit >= self.open_from else limit

    def _refused(self, trouble: Trouble, sent: Mapping[str, Any]) -> list[str]:
        told = f"{trouble.code} {trouble.detail}"
        if not _UNSUPPORTED.search(told):
            return []
        named = [name for name in OPTIONAL if name in sent and re.search(rf"\b{name}\b", told)]
        return named[-1:] if "both" in told else named


def check_extra(extra: Any, where: str, settings: bool = True) -> dict[str, Any]:
    """Further fields of a request's body, as a user gives them.

    Args:
        extra: A mapping from name to value; None leaves a field out.
        where: What errors begin with.
        settings: Whether temperature and its like are settings of their own; else they may be left out here.

    Raises:
        CFTError: It is no mapping, or names a field that is set otherwise or that may hold a key.

    Example:
        >>> check_extra({"stream": True}, "critique.extra")
        Traceback (most recent call last):
        cft_trl.errors.CFTError: critique.extra: 'stream' cannot be set here; one whole answer is read per request
    """
    if not isinstance(extra, Mapping) or not all(isinstance(name, str) and name for name in extra):
        raise CFTError(f"{where}: give fields and their values, as in {{reasoning_effort: low}}")
    for name, value in extra.items():
        if why := RESERVED.get(name):
            own = name in (*OPTIONAL, *LIMITS)
            if settings or not own or value is not None:
                hint = "" if settings or not own else f"; {name}: null leaves it out"
                raise CFTError(f"{where}: {name!r} cannot be set here; {why}{hint}")
        for inner in _names(name, value):
            if SECRET.fullmatch(inner):
                raise CFTError(f"{where}: {inner!r} does not belong here; keys come from the environment only")
    return dict(extra)


def parse_extra(text: str | None, where: str = "--extra") -> dict[str, Any]:
    """`check_extra` of a YAML or JSON mapping, as an option or an environment variable gives it; {} of nothing.

    Example:
        >>> parse_extra("{reasoning_effort: low, temperature: null}")
        {'reasoning_effort': 'low', 'temperature': None}
    """
    import yaml

    if not text or not text.strip():
        return {}
    try:
        extra = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        extra = None
    return check_extra(extra, where, settings=False)


def _names(name: str, value: Any) -> list[str]:
    """A field's name and all names inside its value."""
    inner = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list | tuple) else ()
    return [name, *(found for key, one in inner for found in _names(key if isinstance(key, str) else "", one))]


def _number(pattern: re.Pattern[str], text: str) -> int | None:
    found = pattern.search(text.replace(",", "") if "[1," not in text else text)
    return int(next(group for group in found.groups() if group)) if found else None
