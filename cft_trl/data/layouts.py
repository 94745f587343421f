r"""The published layouts of critique data: their texts, and how a row of each is taken apart.

One row of TIGER-Lab/WebInstruct-CFT, which is the layout that the others vary:

    instruction  "Please critique whether the following solution to the question is correct.\n\n"
    input        "Question:\nWhat is 6 x 7?\n\nSolution:\n6 x 7 = 43\n"
    output       "Critique:\n6 x 7 is 42, not 43.\n\nConclusion: wrong [END]"

Source of the layouts: TIGER-AI-Lab/CritiqueFineTuning, TIGER-AI-Lab/One-Shot-CFT and
CapitalOne-Research/Critique-Guided-Distillation. `records.py` builds records from what is found here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypedDict

from cft_trl.data.verdict import parse_verdict
from cft_trl.errors import CFTError

Row = dict[str, Any]  # of any layout, as a file has it, or on its way through a build


class Fields(TypedDict, total=False):
    """What a layout says of a row; `extra` goes into the record's `meta`."""

    query: Any
    response: Any
    critique: str | None
    refinement: str | None
    extra: dict[str, Any]


CFT_INSTRUCTION = "Please critique whether the following solution to the question is correct.\n\n"

# The columns that make a layout, in the order they are looked for.
LAYOUTS = {
    "plain": ("query", "response"),
    "WebInstruct-CFT or CGD": ("input", "output"),
    "prompt/completion": ("prompt", "completion"),
    "messages": ("messages",),
    "ShareGPT": ("conversations",),
    "Alpaca": ("instruction", "output"),
}

_CGD_HEAD = "Question: "
_CGD_ANSWER = "\n\nStudent's Initial Answer: "
_CGD_CRITIQUE = "\n\nCritique: "
_QUESTION_LINE = re.compile(r"^Question:[ \r\n]", re.MULTILINE)
_EXPECTED = r"'Question:\n{question}\n\nSolution:\n{solution}\n'"


def cft_input(query: str, response: str) -> str:
    r"""The published `input` column.

    Example:
        >>> cft_input("What is 6 x 7?", "43")
        'Question:\nWhat is 6 x 7?\n\nSolution:\n43\n'
    """
    return f"Question:\n{query}\n\nSolution:\n{response}\n"


def cft_user_turn(query: str, response: str) -> str:
    """The published user turn: instruction, newline, input, as the published trainer joins them."""
    return f"{CFT_INSTRUCTION}\n{cft_input(query, response)}"


def cft_completion(critique: str) -> str:
    r"""The published `output` column and assistant turn.

    Example:
        >>> cft_completion("Sound.\n\nConclusion: right [END]")
        'Critique:\nSound.\n\nConclusion: right [END]'
    """
    return f"Critique:\n{critique}"


def find_layout(columns: Iterable[str], where: str = "the data") -> str:
    """The key of `LAYOUTS` that the columns belong to.

    Raises:
        CFTError: They are of none; the columns found and the layouts known are named.
    """
    found = list(columns)
    for layout, needed in LAYOUTS.items():
        if all(name in found for name in needed):
            return layout
    known = "; ".join(f"{layout}: {', '.join(needed)}" for layout, needed in LAYOUTS.items())
    raise CFTError(
        f"{where}: columns {', '.join(map(str, found)) or '(none)'} are of no known layout; known are {known} "
        "(other names are told by dataset_columns: query=problem, in a build by source.columns, in Python by "
        "load_local(..., columns={'query': 'problem'}))"
    )


def _plain(row: Mapping[str, Any], where: str) -> Fields:
    return {name: conversation_text(row[name], f"{where}: column {name!r}") for name in ("query", "response")}  # type: ignore[return-value]


_SPEAKERS = {"system": "System", "user": "User", "assistant": "Assistant", "tool": "Tool", "developer": "System"}


def conversation_text(value: Any, where: str) -> Any:
    r"""A query or response that is a conversation, as the text that prompts show; anything else as it is.

    Args:
        value: Messages, `[{"role": "user", "content": "..."}, ...]`, with texts or lists of text parts.
        where: What errors begin with.

    Raises:
        CFTError: A message without role or text.

    Example:
        >>> turns = [("user", "Hi."), ("assistant", "Hello."), ("user", "6 x 7?")]
        >>> conversation_text([{"role": role, "content": text} for role, text in turns], "row 0")
        'User: Hi.\n\nAssistant: Hello.\n\nUser: 6 x 7?'
        >>> conversation_text([{"role": "user", "content": "6 x 7?"}], "row 0")
        '6 x 7?'
    """
    if not isinstance(value, list | tuple):
        return value
    told = []
    for at, turn in enumerate(value):
        content = turn.get("content") if isinstance(turn, Mapping) else None
        if isinstance(content, list | tuple):
            parts = [part.get("text") if isinstance(part, Mapping) else None for part in content]
            content = "".join(parts) if all(isinstance(part, str) for part in parts) else None  # type: ignore[arg-type]
        if not isinstance(content, str) or _role(turn) not in _SPEAKERS:
            known = ", ".join(_SPEAKERS)
            raise CFTError(f"{where}: message {at} is none of text with a role ({known}); give role and content")
        told.append((_SPEAKERS[_role(turn)], content))
    if len(told) == 1:
        return told[0][1]
    return "\n\n".join(f"{speaker}: {content}" for speaker, content in told)


def _input_output(row: Mapping[str, Any], where: str) -> Fields:
    instruction = row.get("instruction")
    question = "\n\n".join(part for part in (instruction, row["input"]) if isinstance(part, str) and part)
    if isinstance(instruction, str) and instruction.strip() and _is_answered(question, row["output"]):
        return _alpaca(row, where)
    fields = _published(row["input"], row["output"], where, "input", "output")
    return _with_instruction(fields, row.get("instruction"))


def _prompt_completion(row: Mapping[str, Any], where: str) -> Fields:
    prompt, completion = row["prompt"], row["completion"]
    if isinstance(prompt, list) and isinstance(completion, list):
        return _conversation([*prompt, *completion], where, "prompt")
    instruction, text = _cut_instruction(prompt)
    return _with_instruction(_published(text, completion, where, "prompt", "completion"), instruction)


def _messages(row: Mapping[str, Any], where: str) -> Fields:
    return _conversation(row["messages"], where, "messages")


def _conversation(messages: Any, where: str, column: str) -> Fields:
    turns = list(messages) if isinstance(messages, list | tuple) else []
    system = turns.pop(0).get("content") if turns and _role(turns[0]) == "system" else None
    if [_role(turn) for turn in turns] != ["user", "assistant"]:
        roles = ", ".join(str(_role(turn)) for turn in turns) or type(messages).__name__
        raise CFTError(f"{where}: column {column!r} holds {roles}; expected one user and one assistant turn")
    instruction, text = _cut_instruction(turns[0].get("content"))
    fields = _with_instruction(_published(text, turns[1].get("content"), where, column, column), instruction)
    if system:
        fields["extra"] = {**fields.get("extra", {}), "system": system}
    return fields


def _role(turn: Any) -> Any:
    return turn.get("role") if isinstance(turn, Mapping) else type(turn).__name__


_SHAREGPT_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "model": "assistant",
                   "chatgpt": "assistant", "bing": "assistant", "system": "system"}  # fmt: skip


def _sharegpt(row: Mapping[str, Any], where: str) -> Fields:
    """`conversations` = [{"from": "human", "value": question}, {"from": "gpt", "value": answer or critique}]."""
    turns = row["conversations"] if isinstance(row["conversations"], list | tuple) else []
    messages = [
        {"role": _SHAREGPT_ROLES.get(str(turn["from"]).lower(), turn["from"]), "content": turn.get("value")}
        if isinstance(turn, Mapping) and "from" in turn
        else turn
        for turn in turns
    ]
    turns = [turn for turn in messages if _role(turn) != "system"]
    if [_role(turn) for turn in turns] == ["user", "assistant"]:
        question, answer = (turn.get("content") for turn in turns)
        if _is_answered(question, answer):
            system = next((turn.get("content") for turn in messages if _role(turn) == "system"), None)
            fields: Fields = {"query": question, "response": answer}
            return {**fields, "extra": {"system": system}} if system else fields
    return _conversation(messages or row["conversations"], where, "conversations")


def _alpaca(row: Mapping[str, Any], where: str) -> Fields:
    """`instruction`, `input` (more of the question, mostly empty), `output` = the answer."""
    instruction, text, answer = (row.get(name) for name in ("instruction", "input", "output"))
    return {"query": "\n\n".join(part for part in (instruction, text) if part), "response": answer}


def _is_answered(question: Any, answer: Any) -> bool:
    """Whether two texts are a question and its answer, and no published critique, whole or torn."""
    if not (isinstance(question, str) and isinstance(answer, str)) or not question.strip():
        return False
    critique = answer.lstrip().startswith("Critique:") or parse_verdict(answer) is not None
    return not critique and "critique" not in question[:200].lower() and "Solution:" not in question


READERS: dict[str, Callable[[Mapping[str, Any], str], Fields]] = dict(
    zip(LAYOUTS, (_plain, _input_output, _prompt_completion, _messages, _sharegpt, _alpaca), strict=True)
)


def _published(text: Any, target: Any, where: str, column: str, target_column: str) -> Fields:
    """Splits a published input and output into query, response, critique and, for CGD, refinement."""
    if not isinstance(text, str):
        raise CFTError(f"{where}: column {column!r} is {type(text).__name__}, not text; expected {_EXPECTED}")
    if target is not None and not isinstance(target, str):
        raise CFTError(f"{where}: column {target_column!r} is {type(target).__name__}, not text; expected a critique")
    if text.startswith(_CGD_HEAD) and (answer := _partition(text, _CGD_ANSWER)):
        query, rest = answer
        if not (parts := _partition(rest, _CGD_CRITIQUE)):
            raise CFTError(f"{where}: column {column!r} has a student's answer but no 'Critique: ' paragraph after it")
        fields: Fields = {
            "query": query.removeprefix(_CGD_HEAD),
            "response": parts[0],
            "critique": parts[1],
            "refinement": target,
        }
    else:
        if not (split := split_input(text)):
            raise CFTError(
                f"{where}: column {column!r} has no 'Solution:' line, so it is not critique data; expected "
                f"{_EXPECTED}; questions with answers of their own go into columns query and response"
            )
        critique = target and re.sub(r"\ACritique:\r?\n", "", target)
        fields = {"query": split[0], "response": split[1], "critique": critique}
    for said, label in ((fields["query"], "question"), (fields["response"], "solution")):
        if not said.strip():
            raise CFTError(f"{where}: column {column!r} has an empty {label}; expected {_EXPECTED}")
    return fields


def split_input(text: str) -> tuple[str, str] | None:
    """The query and response of a published input; None without a separator."""
    own, other = ("\r\n", "\n") if text.startswith("Question:\r\n") else ("\n", "\r\n")
    text = text.removeprefix(f"Question:{own}")
    # Some published rows have one newline before "Solution:"; only a row without the usual two is read so.
    for newline, blank in ((own, own), (other, other), (own, ""), (other, "")):
        query, separator, response = text.partition(f"{newline}{blank}Solution:{newline}")
        if separator:
            return query, response.removesuffix(newline)
    return None


def _partition(text: str, mark: str) -> tuple[str, str] | None:
    for candidate in (mark, mark.replace("\n", "\r\n")):
        if candidate in text:
            before, _, after = text.partition(candidate)
            return before, after
    return None


def _cut_instruction(text: Any) -> tuple[str, Any]:
    """A user turn as (instruction, published input)."""
    if not isinstance(text, str):
        return "", text
    if text.startswith(CFT_INSTRUCTION + "\n"):
        return CFT_INSTRUCTION, text[len(CFT_INSTRUCTION) + 1 :]
    match = _QUESTION_LINE.search(text)
    if match and "\nSolution:" not in text[: match.start()]:
        return text[: match.start()], text[match.start() :]
    return "", text


def _with_instruction(fields: Fields, instruction: Any) -> Fields:
    """Keeps an instruction other than the published one in `meta`."""
    if instruction and str(instruction).strip() != CFT_INSTRUCTION.strip():
        fields["extra"] = {"instruction": instruction}
    return fields
