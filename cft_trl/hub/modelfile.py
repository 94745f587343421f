r'''A Modelfile for Ollama: the chat template in Go's language, and the tokens that end an answer.

    FROM ./model.gguf
    TEMPLATE """{{ range .Messages }}{{ if eq .Role "user" }}{{ "<|im_start|>user\n" }}{{ .Content }}…"""
    PARAMETER stop "<|im_end|>"

Ollama takes no Jinja. What a template writes around each turn is read off what it makes of probes, put together again,
and compared with the template on longer conversations; a template that does more than write turns is refused.
'''

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cft_trl.errors import CFTError
from cft_trl.models.chat_templates import end_ids, render_chat, template_of

# Words that no template writes by itself, without white space at an end: some templates trim.
_SYSTEM, _USER, _ANSWER, _AGAIN = "Qsystemq", "Quserq", "Qanswerq", "Qagainq"

Turns = Sequence[Mapping[str, str]]


@dataclass(frozen=True)
class Pieces:
    """What a chat template writes.

    Attributes:
        start: Before everything.
        default: The system turn's text where none is given; None for no such turn.
        system: Before and behind a system turn's text; None where it stands in the first user turn.
        joint: Between a system turn's text and that of the first user turn, where it stands there.
        user, answer: Before and behind a turn's text.
        opening: Before the answer that is asked for.
    """

    start: str
    default: str | None
    system: tuple[str, str] | None
    joint: str | None
    user: tuple[str, str]
    answer: tuple[str, str]
    opening: str

    def render(self, turns: Turns) -> str:
        """The text of a conversation, with the beginning of the next answer."""
        text, system = self.start, self.default
        if turns and turns[0]["role"] == "system":
            system, turns = turns[0]["content"], turns[1:]
        if system is not None and self.system:
            text += system.join(self.system)
        for at, turn in enumerate(turns):
            before, behind = self.user if turn["role"] == "user" else self.answer
            joined = f"{system}{self.joint}" if at == 0 and system is not None and self.joint is not None else ""
            text += f"{before}{joined}{turn['content']}{behind}"
        return text + self.opening

    def go(self) -> str:
        """The same as a template of Ollama's."""

        def said(piece: str) -> str:
            return f"{{{{ {json.dumps(piece, ensure_ascii=False)} }}}}" if piece else ""

        def turn(around: tuple[str, str], inside: str = "") -> str:
            return f"{said(around[0])}{inside}{{{{ .Content }}}}{said(around[1])}"

        joined, first = "", ""
        if self.joint is not None:
            first = "{{ $first := true }}"
            shown = f"{{{{ if $.System }}}}{{{{ $.System }}}}{said(self.joint)}{{{{ end }}}}"
            joined = f"{{{{ if $first }}}}{shown}{{{{ $first = false }}}}{{{{ end }}}}"
        system = f'{{{{ if eq .Role "system" }}}}{turn(self.system)}{{{{ end }}}}' if self.system else ""
        user = f'{{{{ if eq .Role "user" }}}}{turn(self.user, joined)}{{{{ end }}}}'
        answer = f'{{{{ if eq .Role "assistant" }}}}{turn(self.answer)}{{{{ end }}}}'
        return (
            f"{first}{said(self.start)}{{{{ range .Messages }}}}{system}{user}{answer}{{{{ end }}}}{said(self.opening)}"
        )


def read_pieces(tokenizer: Any) -> Pieces:
    """What a tokenizer's chat template writes around turns.

    Raises:
        CFTError: There is no template, or it does more than write turns.
    """
    if not template_of(tokenizer):
        raise CFTError("the tokenizer has no chat template, so there is nothing to tell Ollama of turns")
    user, again = _turn("user", _USER), _turn("user", _AGAIN)
    alone = _render(tokenizer, [user])
    both = _render(tokenizer, [user, _turn("assistant", _ANSWER), again])
    with_system = _render(tokenizer, [_turn("system", _SYSTEM), user])
    if not _in_order(alone, _USER) or not _in_order(both, _USER, _ANSWER, _AGAIN):
        raise _refusal()
    head, tail = alone.split(_USER)
    between, after = both.split(_USER)[1].split(_ANSWER)[0], both.split(_ANSWER)[1].split(_AGAIN)[0]
    for pieces in _candidates(head, tail, between, after, with_system):
        if all(pieces.render(turns) == _render(tokenizer, turns) for turns in _conversations()):
            return pieces
    raise _refusal()


def _candidates(head: str, tail: str, between: str, after: str, with_system: str) -> list[Pieces]:
    """Ways to cut what was seen: where a turn ends, and where the next begins."""
    found = []
    for end in reversed(range(len(between) + 1)):  # what closes a turn belongs to it
        behind_user, before_answer = between[:end], between[end:]
        if not tail.startswith(behind_user):
            continue
        opening = tail[end:]
        for cut in reversed(range(len(after) + 1)):
            behind_answer, before_user = after[:cut], after[cut:]
            if not head.endswith(before_user):
                continue
            start = head[: len(head) - len(before_user)]
            user, answer = (before_user, behind_user), (before_answer, behind_answer)
            found += _with_system(start, user, answer, opening, with_system)
    return found


def _with_system(start: str, user: tuple[str, str], answer: tuple[str, str], opening: str, seen: str) -> list[Pieces]:
    if not _in_order(seen, _SYSTEM, _USER) or not seen.endswith(f"{_USER}{user[1]}{opening}"):
        return [Pieces(start, None, None, None, user, answer, opening)]
    before, rest = seen.split(_SYSTEM)
    between = rest.split(_USER)[0]
    found = []
    if before == start + user[0]:
        found.append(Pieces(start, None, None, between, user, answer, opening))
    if between.endswith(user[0]):
        behind = between[: len(between) - len(user[0])]
        # A start that holds a default system turn begins and ends as the given one does.
        for size in range(len(before) + 1):
            lead, around = before[:size], before[size:]
            if start == lead:
                found.append(Pieces(start, None, (around, behind), None, user, answer, opening))
            elif start.startswith(before) and start.endswith(behind) and len(start) > len(before) + len(behind):
                default = start[len(before) : len(start) - len(behind)]
                found.append(Pieces(lead, default, (around, behind), None, user, answer, opening))
    return found


def _conversations() -> list[Turns]:
    talk = [_turn("user", "One?"), _turn("assistant", "Two."), _turn("user", "Three?\n4"), _turn("assistant", "Five"),
            _turn("user", "{x} is six")]  # fmt: skip
    return [talk[:1], talk[:3], talk, [_turn("system", "Be brief."), *talk[:1]], [_turn("system", "Be brief."), *talk]]


def modelfile(tokenizer: Any, generation_config: Any, gguf: str, adds_bos: bool, notes: Sequence[str] = ()) -> str:
    """The text of a Modelfile.

    Args:
        tokenizer: With the template that was trained.
        generation_config: The model's; its end tokens are stops.
        gguf: The model's file, beside the Modelfile.
        adds_bos: Whether whoever reads the file puts a begin-of-text token before a prompt: then the template does not.
        notes: Lines of comment.

    Raises:
        CFTError: As `read_pieces`; or a stop or template that a Modelfile cannot hold.
    """
    pieces = read_pieces(tokenizer)
    bos = tokenizer.bos_token
    start = pieces.start.removeprefix(bos) if adds_bos and bos else pieces.start
    template = replace(pieces, start=start).go()
    stops = [tokenizer.convert_ids_to_tokens(i) for i in end_ids(tokenizer, generation_config)]
    texts = [template, pieces.default or "", *stops]
    if any('"""' in text for text in texts):
        raise CFTError('the chat template or an end token holds """, which a Modelfile cannot')
    lines = [f"# {note}" for note in notes]
    lines += [f"FROM ./{gguf}", f'TEMPLATE """{template}"""']
    if pieces.default is not None:
        lines.append(f'SYSTEM """{pieces.default}"""')
    lines += [f"PARAMETER stop {json.dumps(stop, ensure_ascii=False)}" for stop in stops]
    lines.append("PARAMETER temperature 0")
    return "\n".join(lines) + "\n"


def _turn(role: str, text: str) -> dict[str, str]:
    return {"role": role, "content": text}


def _render(tokenizer: Any, turns: Turns) -> str:
    from jinja2 import TemplateError

    try:
        return render_chat(tokenizer, turns)
    except TemplateError:
        raise _refusal() from None


def _in_order(text: str, *words: str) -> bool:
    places = [text.find(word) for word in words]
    return -1 not in places and places == sorted(places) and all(text.count(word) == 1 for word in words)


def _refusal() -> CFTError:
    return CFTError(
        "the chat template does more than write turns, so there is no Modelfile that writes the same; llama.cpp itself "
        "takes the template that is in the GGUF file (--jinja)"
    )
