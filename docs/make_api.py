"""The text of api.md: what is meant to be imported, from the docstrings.

    "### `grade`" · its signature · what its docstring says, its Args, Returns and Raises as lists, its example

A name stands here on purpose (`NAMES`): what is not listed may change without a word in the changelog.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from typing import Any

from make_commands import escaped

# heading -> module -> names
NAMES = {
    "Training": {
        "cft_trl": ("CFTTrainer", "CFTConfig", "DatasetPart", "DataCollatorForCritique"),
        "cft_trl.rewards": ("verdict_reward", "refinement_reward", "solution_reward"),
    },
    "Rows": {
        "cft_trl": ("to_records", "to_messages", "to_webinstruct_cft"),
        "cft_trl.data.records": ("make_record", "to_record", "features"),
        "cft_trl.sources.local": ("load_local",),
        "cft_trl.sources.arithmetic": ("arithmetic_records",),
        "cft_trl.sources.trl_layouts": ("prompts_for_rl", "preferences", "feedback"),
    },
    "Verdicts and prompts": {
        "cft_trl": ("parse_verdict",),
        "cft_trl.data.verdict": ("verdict_span", "contradiction", "with_verdict_line"),
        "cft_trl.evaluation.first_error": ("first_error_step",),
        "cft_trl.data.prompts": ("Prompting",),
    },
    "Models": {
        "cft_trl.models.loading": ("load_model", "load_tokenizer"),
        "cft_trl.generation.modes": ("solve", "critique"),
        "cft_trl.models.portable": ("make_portable",),
    },
    "Datasets by a teacher": {
        "cft_trl.synthesis.recipe": ("read_recipe",),
        "cft_trl.synthesis.build": ("build",),
    },
    "Grading and evaluation": {
        "cft_trl.grading.grade": ("grade", "grade_many"),
        "cft_trl.grading.answers": ("extract_answer",),
        "cft_trl.evaluation.critic": ("generate_verdicts", "score_verdicts"),
        "cft_trl.evaluation.significance": ("mcnemar", "paired_interval", "interval", "holm"),
    },
    "The Hub and the app": {
        "cft_trl.hub.pull": ("pull",),
        "cft_trl.demo": ("serve", "DemoSettings"),
    },
    "Errors": {"cft_trl": ("CFTError",)},
}

_SECTION = re.compile(r"^(Args|Attributes|Returns|Yields|Raises|Examples?):$", re.MULTILINE)
_WIDE = 88  # characters of a signature in one line
_MANY = 25  # parameters, of what has hundreds by inheritance


def api() -> str:
    """The text of api.md."""
    parts = [
        "# Python API",
        "Written by `docs/make_reference.py` from the docstrings; the examples are run as doctests. What stands here "
        "is meant to be imported; other names may move.",
    ]
    for heading, modules in NAMES.items():
        parts.append(f"## {heading}")
        for module, names in modules.items():
            for name in names:
                parts += [f"### {name}", f"`from {module} import {name}`"]
                parts += _described(getattr(importlib.import_module(module), name))
    return "\n\n".join(parts) + "\n"


def _described(thing: Any) -> Iterator[str]:
    yield f"```text\n{signature(thing)}\n```"
    yield from docstring_parts(inspect.cleandoc(thing.__doc__ or ""))
    if not inspect.isclass(thing):
        return
    for name, method in vars(thing).items():
        told = inspect.cleandoc(getattr(method, "__doc__", None) or "")  # its own, not that of what it overrides
        if inspect.isfunction(method) and not name.startswith("_") and "Args:" in told:
            yield f"#### {thing.__name__}.{name}"
            yield f"```text\n{signature(method)}\n```"
            yield from docstring_parts(told)


def signature(thing: Any) -> str:
    """Name, parameters and return type as they are written; one to a line where a line would be too long.

    Example:
        >>> def add(first: int, *, second: int = 2) -> int: ...
        >>> signature(add)
        'add(first: int, *, second: int = 2) -> int'
    """
    told = inspect.signature(thing)
    if len(told.parameters) > _MANY:
        return f"{thing.__name__}(…)"
    line = thing.__name__ + re.sub(r"<factory>|<object object at \w+>", "…", _unquoted(str(told)))
    if len(line) <= _WIDE:
        return line
    # Positions of commas between parameters: those in no bracket of their own.
    depth, made, opened = 0, "", line.index("(")
    for at, sign in enumerate(line):
        depth += (sign in "([{") - (sign in ")]}")
        if at == opened:
            made += "(\n    "
        elif sign == "," and depth == 1:
            made += ",\n    "
        elif sign == ")" and depth == 0:
            made += "\n)"
            return made + line[at + 1 :]
        elif not (sign == " " and made.endswith("\n    ")):
            made += sign
    return made


def _unquoted(text: str) -> str:
    """Annotations that are strings, as `from __future__ import annotations` leaves them, without their quotes."""
    text = re.sub(r"(: |-> )'([^']+)'", r"\1\2", text)
    return re.sub(r"\b(?:typing|collections\.abc)\.", "", text)


def docstring_parts(text: str) -> Iterator[str]:
    """A docstring as Markdown.

    Example:
        >>> list(docstring_parts("Adds.\\n\\nArgs:\\n    a, b: Numbers,\\n        any.\\n\\nReturns:\\n    Their sum."))
        ['Adds.', '**Args**', '- `a`, `b`: Numbers, any.', '**Returns**', 'Their sum.']
    """
    pieces = _SECTION.split(text)
    yield from _paragraphs(pieces[0])
    for name, body in zip(pieces[1::2], pieces[2::2], strict=True):
        lines = body.strip("\n").splitlines()
        inside = [line for line in lines if line.startswith(" ") or not line]
        rest = "\n".join(lines[len(inside) :]) if inside == lines[: len(inside)] else ""
        block = inspect.cleandoc("\n".join(inside))
        if name.startswith("Example"):
            yield f"**{name}**"
            yield f"```text\n{block}\n```"
        elif name in ("Args", "Attributes", "Raises"):
            yield f"**{name}**"
            yield "\n".join(_entries(block))
        else:
            yield f"**{name}**"
            yield from _paragraphs(block)
        if rest.strip():
            yield from _paragraphs(rest)


def _paragraphs(text: str) -> Iterator[str]:
    for block in re.split(r"\n\s*\n", text.strip("\n")):
        if not block.strip():
            continue
        if all(line.startswith("    ") for line in block.splitlines()):
            yield f"```text\n{inspect.cleandoc(block)}\n```"
            continue
        first, _, rest = block.partition("\n")
        if rest and not first.startswith(" ") and all(line.startswith("    ") for line in rest.splitlines()):
            yield escaped(first)  # what a list below it is of
            yield "\n".join(
                f"- {escaped(' '.join(line.split()))}" for line in re.split(r"\n(?=\S)", inspect.cleandoc(rest))
            )
        elif re.search(r"^(?:- |\|)", block, re.MULTILINE):
            yield escaped(block)  # a list or a table is laid out already
        else:
            yield escaped(" ".join(block.replace("``", "`").split()))


def _entries(block: str) -> list[str]:
    """ "name (type): text" and "first, second: text", one to an item."""
    made: list[str] = []
    for entry in re.split(r"\n(?=\S)", block):
        told = " ".join(entry.replace("``", "`").split())
        found = re.match(r"([\w*, .]+?)(?: \(([^)]*)\))?: (.*)", told)
        if not found:  # the last one goes on
            made.append(f"{made.pop()} {escaped(told)}" if made else f"- {escaped(told)}")
            continue
        names = ", ".join(f"`{name.strip()}`" for name in found[1].split(","))
        kind = f" ({found[2].replace('*', '')})" if found[2] else ""
        made.append(f"- {names}{kind}: {escaped(found[3])}")
    return made
