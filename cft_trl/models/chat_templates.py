r"""What a chat template writes around an answer: one account of it for training, for inference and for what is saved.

    family        asked with (generation prompt)   before an answer, in training            behind it
    Llama 3       assistant header                 the same                                 <|eot_id|>
    Qwen3         <|im_start|>assistant⏎           … and <think>⏎⏎</think>⏎⏎                <|im_end|>⏎
    Nemotron 3    <|im_start|>assistant⏎<think>⏎   <|im_start|>assistant⏎<think></think>    <|im_end|>⏎

Where the first two columns differ, a model that is asked with the generation prompt is asked in a context that it was
not trained in. So a trained tokenizer is saved with a template that asks with the second column (`as_trained`), and
`LocalModel`, vLLM and plain transformers all find it there.
"""

from __future__ import annotations

import copy
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cft_trl.data.prompts import chat_messages
from cft_trl.errors import CFTError

_PROBE = "qzx"  # in no template
_DATE = re.compile(r"""strftime_now\(\s*(["'])([^"'\\]+)\1\s*\)""")


@dataclass(frozen=True)
class AnswerFrame:
    """What a chat template writes around an answer.

    Attributes:
        lead: All that stands between the user's turn and the answer in training.
        header: Of it, what the generation prompt lacks and inference has to send; "" where it lacks nothing.
        written: What of the lead the model learns to write itself, with loss: the header, where it goes on from the
            generation prompt token by token (Qwen3, gpt-oss), or white space (Llama 2); "" for most.
        replaces: The generation prompt is no beginning of the training text (Nemotron 3, DeepSeek-R1): the header
            stands in its place, behind the user's turn.
        closing: What follows the answer.
        known: Whether a prompt can be made that the training text begins with.
    """

    lead: str
    header: str
    written: str
    replaces: bool
    closing: str
    known: bool = True


def template_of(tokenizer: Any) -> str | None:
    """The chat template that is used where nothing else is asked for; None for a tokenizer without one."""
    template = tokenizer.chat_template
    return template.get("default") if isinstance(template, dict) else template or None


def answer_frame(tokenizer: Any) -> AnswerFrame | None:
    """Reads the frame off a probe; None without a chat template, and for one that does not write an answer's text.

    Raises:
        CFTError: The template cannot render a question and an answer that are texts.
    """
    from jinja2 import TemplateError

    if not template_of(tokenizer):
        return None
    question = chat_messages("?")
    try:
        full = _render(tokenizer, [*question, {"role": "assistant", "content": _PROBE}])
    except TemplateError as error:
        raise CFTError(f"the chat template cannot render a question and its answer ({error}); give another") from None
    start = full.rfind(_PROBE)
    if start < 0:
        return None
    asked, opened = _render(tokenizer, question), _render(tokenizer, question, add_generation_prompt=True)
    # Compared character by character, not as paths. Some templates end a conversation without an answer otherwise.
    lead = full[len(os.path.commonprefix([asked, full[:start]])) : start]  # noqa: RUF071
    closing = full[start + len(_PROBE) :]
    if full.startswith(opened, 0, start):
        header = full[len(opened) : start]
        if not header.strip():
            return AnswerFrame(lead, "", header, False, closing)
        return AnswerFrame(lead, header, header if _goes_on(tokenizer, opened, full) else "", False, closing)
    known = full.startswith(asked, 0, start)
    return AnswerFrame(lead, lead if known else "", "", True, closing, known)


def special_ids(tokenizer: Any) -> frozenset[int]:
    """Ids of all special tokens. `all_special_ids` of transformers 5 has only those with a name of their own."""
    added = (i for i, token in tokenizer.added_tokens_decoder.items() if token.special)
    return frozenset({*tokenizer.all_special_ids, *added})


def turn_end_ids(tokenizer: Any) -> list[int]:
    """The token that the chat template ends an answer with, where it is a special one: [id] or []."""
    frame = answer_frame(tokenizer)
    if frame is None:
        return []
    special = special_ids(tokenizer)
    return [i for i in _ids(tokenizer, frame.closing) if i in special][:1]


def end_ids(tokenizer: Any, generation_config: Any = None) -> list[int]:
    """Every token that ends an answer: of the generation settings, of the tokenizer, and of the chat template."""
    configured = getattr(generation_config, "eos_token_id", None)
    configured = list(configured) if isinstance(configured, list | tuple) else [configured]
    return list(
        dict.fromkeys(i for i in (*configured, tokenizer.eos_token_id, *turn_end_ids(tokenizer)) if i is not None)
    )


def header_ids(tokenizer: Any) -> list[int]:
    """The tokens that a model trained under this template writes before its answer, if it is asked without them."""
    frame = answer_frame(tokenizer)
    if frame is None or not frame.written.strip():
        return []
    opened = _render(tokenizer, chat_messages("?"), add_generation_prompt=True)
    return _ids(tokenizer, opened + frame.written)[len(_ids(tokenizer, opened)) :]


def written_before(tokenizer: Any) -> str:
    """What a server gives back before an answer: the header's text, or white space (Llama 2's space, which a tokenizer
    that decodes the answer alone leaves away)."""
    if ids := header_ids(tokenizer):
        return tokenizer.decode(ids, skip_special_tokens=True)
    frame = answer_frame(tokenizer)
    return frame.written if frame else ""


def written_behind(tokenizer: Any) -> str:
    """What the template has a model write between its answer and the end token: "" for most, a space for Llama 2."""
    frame = answer_frame(tokenizer)
    if frame is None:
        return ""
    names = (tokenizer.convert_ids_to_tokens(i) for i in turn_end_ids(tokenizer))
    return next((frame.closing.partition(name)[0] for name in names), "")


def as_trained(tokenizer: Any) -> Any:
    """The tokenizer with a chat template that asks with what training puts before an answer.

    A copy where the template changes, else the tokenizer itself. The new template is used only if it is seen to write
    what it should, for conversations with and without a system turn and of several turns.
    """
    frame = answer_frame(tokenizer)
    if frame is None or not frame.header:
        return tokenizer
    template = (template_of(tokenizer) or "").removesuffix("\n")  # as Jinja takes it
    template += "{% if " + ("cft_asks" if frame.replaces else "add_generation_prompt") + " %}"
    template += "{{ " + json.dumps(frame.header, ensure_ascii=False) + " }}{% endif %}"
    if frame.replaces:
        kept = "{% set cft_asks = add_generation_prompt | default(false) %}{% set add_generation_prompt = false %}"
        template = kept + template
    if not _asks_with(tokenizer, template, frame):
        return tokenizer
    changed = copy.copy(tokenizer)
    whole = tokenizer.chat_template
    changed.chat_template = {**whole, "default": template} if isinstance(whole, dict) else template
    return changed


def _asks_with(tokenizer: Any, template: str, frame: AnswerFrame) -> bool:
    from jinja2 import TemplateError

    system, question = [{"role": "system", "content": "Be brief."}], chat_messages("Why?")
    answer = [{"role": "assistant", "content": _PROBE}]
    for messages in (question, system + question, question + answer + question):
        try:
            before = _render(tokenizer, messages, add_generation_prompt=not frame.replaces)
            whole = _render(tokenizer, messages + answer)
        except TemplateError:  # it takes no such conversation
            continue
        after = _render(tokenizer, messages, template, add_generation_prompt=True)
        if after != before + frame.header or _render(tokenizer, messages + answer, template) != whole:
            return False
        if not whole.startswith(after):
            return False
    return True


def freeze_dates(template: str, known: Mapping[str, str] | None = None) -> tuple[str, dict[str, str]]:
    """Writes dates into a template in place of today's, so that training and inference see the same.

    Args:
        known: Format -> date, of a run that goes on.

    Returns:
        The template, and the dates it holds now by their format.

    Example:
        >>> freeze_dates('{{ strftime_now("%Y") }}', {"%Y": "2026"})
        ('{{ "2026" }}', {'%Y': '2026'})
    """
    dates: dict[str, str] = {}

    def date(call: re.Match[str]) -> str:
        dates[call[2]] = (known or {}).get(call[2]) or datetime.now().strftime(call[2])
        return json.dumps(dates[call[2]])

    return _DATE.sub(date, template), dates


def merge_system(messages: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """The system turn at the head of the first user turn, for templates that know none (Gemma 1 and 2).

    Example:
        >>> merge_system([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2+2?"}])
        [{'role': 'user', 'content': 'Be brief.\\n\\n2+2?'}]
    """
    if len(messages) < 2 or messages[0]["role"] != "system":
        return [dict(message) for message in messages]
    system, first, *rest = messages
    return [{**first, "content": f"{system['content']}\n\n{first['content']}"}, *map(dict, rest)]


def refuses_system(tokenizer: Any) -> bool:
    """Whether the chat template refuses a system turn."""
    from jinja2 import TemplateError

    if not template_of(tokenizer):
        return False
    try:
        _render(tokenizer, [{"role": "system", "content": "Be brief."}, *chat_messages("?")])
    except TemplateError:
        return True
    return False


def render_chat(tokenizer: Any, messages: Sequence[Mapping[str, str]]) -> str:
    """A conversation as the prompt of an answer, with a system turn merged where the template refuses one."""
    from jinja2 import TemplateError

    messages = [dict(message) for message in messages]
    try:
        return _render(tokenizer, messages, add_generation_prompt=True)
    except TemplateError:
        if messages[0]["role"] != "system" or len(messages) == 1:
            raise
        return _render(tokenizer, merge_system(messages), add_generation_prompt=True)


def _render(tokenizer: Any, messages: list[Any], template: str | None = None, **options: Any) -> str:
    return tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False, **options)


def _ids(tokenizer: Any, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]


def _goes_on(tokenizer: Any, beginning: str, text: str) -> bool:
    ids = _ids(tokenizer, beginning)
    return _ids(tokenizer, text)[: len(ids)] == ids
