"""The text of commands.md: each command's help as a page that wraps, and its flags, from its own parser.

    Builds a dataset of critiques: questions and answers from a corpus, …      a paragraph
    examples:                                                                  a block of commands
      cft build recipe.yaml --push-to-hub my-name/my-critiques
    layouts:                                                                   a table
      records           id, query, response, …

A terminal keeps columns apart with spaces; on a page they would be cut off at its edge, or wrap into each other.
"""

from __future__ import annotations

import argparse
import importlib
import re
from collections.abc import Iterator

_COMMAND = re.compile(r"(?:cft|accelerate|ollama) ")
_NAMED = ("name", "what it is")
_WIDE = 80  # characters of a command in one line; a longer one goes on before its next flag
_COLUMNS = re.compile(r"(\S.*?)(?:\s{2,}(\S.*))?$")


def commands() -> str:
    """The text of commands.md."""
    from cft_trl.cli import COMMANDS

    parts = [
        "# Commands",
        "Each command's help and its flags, as `cft COMMAND --help` has them. Written by `docs/make_reference.py` from "
        "the commands' own parsers.",
        table(("command", "does"), [(f"[`cft {name}`](#cft-{name})", cell(what)) for name, what in COMMANDS.items()]),
    ]
    for name in COMMANDS:
        module = importlib.import_module(f"cft_trl.commands.{name.replace('-', '_')}")
        parts += [f"## cft {name}", *help_parts(module.HELP), *_flags(name, module.HELP)]
    return "\n\n".join(parts) + "\n"


def help_parts(text: str) -> Iterator[str]:
    """A help text as Markdown: paragraphs, blocks of commands, tables.

    Example:
        >>> list(help_parts("Does a\\nthing.\\n\\nexamples:\\n  cft do x   the first\\n  cft do \\\\\\n    y\\n"))
        ['Does a thing.', 'Examples:', '```text\\n# the first\\ncft do x\\n\\ncft do y\\n```']
        >>> print(*help_parts("layouts:\\n  records   id, query,\\n            response"), sep="\\n")
        Layouts:
        | name | what it is |
        | --- | --- |
        | `records` | id, query, response |
    """
    for block in text.strip("\n").split("\n\n"):
        lines = block.splitlines()
        prose = [line for line in lines if not line.startswith(" ")]
        if prose and not (len(prose) == 1 and prose[0].endswith(":")):
            yield _sentence(" ".join(line.strip() for line in lines))
            continue
        if prose:
            yield _sentence(prose[0])
        indented = [line for line in lines if line.startswith(" ")]
        if any(_COMMAND.match(line.strip()) for line in indented):
            yield _commands(indented)
        else:
            listed = _two_columns(indented)
            yield table(_NAMED, [(f"`{one}`", cell(told)) for one, told in listed if told])
            yield from (f"`{one}`" for one, told in listed if not told)


def _commands(lines: list[str]) -> str:
    """Commands as a block, what each does in a line of its own above it."""
    made: list[tuple[str, str]] = []
    for line in re.sub(r" *\\\n +", " ", "\n".join(lines)).splitlines():
        if _COMMAND.match(line.strip()):
            found = _COLUMNS.match(line.strip())
            assert found  # a command is not empty
            made.append((found[1], found[2] or ""))
        else:  # what stands below a command that has no room beside it
            made[-1] = made[-1][0], f"{made[-1][1]} {line.strip()}".strip()
    text, told_before = "", False
    for command, told in made:
        gap = "\n" if text and (told or told_before) else ""
        text += gap + (f"# {told}\n" if told else "") + _wrapped(command) + "\n"
        told_before = bool(told)
    return f"```text\n{text}```"


def _wrapped(command: str) -> str:
    """A long command in several lines, as a shell takes it."""
    lines = [""]
    for part in re.split(r" (?=--\w)", command):
        if lines[-1] and len(lines[-1]) + len(part) > _WIDE:
            lines.append("    " + part)
        else:
            lines[-1] = f"{lines[-1]} {part}" if lines[-1] else part
    return " \\\n".join(lines)


def _sentence(text: str) -> str:
    """Prose, escaped; it begins with a capital unless it begins with a flag."""
    return escaped(text[0].upper() + text[1:])


def _two_columns(lines: list[str]) -> list[tuple[str, str]]:
    """A list in two columns; what goes on in the second one is joined to it."""
    margin, made = len(lines[0]) - len(lines[0].lstrip()), []
    for line in lines:
        if len(line) - len(line.lstrip()) > margin and made:
            made[-1] = made[-1][0], f"{made[-1][1]} {line.strip()}"
            continue
        # Two pairs may stand in one line: "--rows N   so many   --eval_rows N   held out".
        words = re.split(r"\s{2,}", line.strip())
        pairs = [words] if len(words) < 4 else [words[:2], words[2:]]
        made += [(pair[0], " ".join(pair[1:])) for pair in pairs]
    return made


def _flags(name: str, text: str) -> Iterator[str]:
    """What the parser knows; a flag that it has no words for is told in the help's own text."""
    from cft_trl.commands.completion_scripts import _SETTINGS_COMMANDS, command_parser

    if name == "train":
        yield (
            "Its flags are the [settings of a training run](reference.md#settings-of-a-training-run), each as "
            "`--name value`, and `--config FILE`."
        )
        return
    parser = command_parser(name)
    rows = [(_names(action), cell(_told(action, parser))) for action in parser._actions if _is_shown(action, text)]
    if rows:
        yield table(_NAMED, rows)
    if name in _SETTINGS_COMMANDS:
        yield "Besides these, `--config FILE` and the flags of [`cft train`](#cft-train)."


def _is_shown(action: argparse.Action, text: str) -> bool:
    listed = r"^ +(?:--[\w-]+, )*{}\b".format
    told_already = not action.help and any(
        re.search(listed(re.escape(option)), text, re.MULTILINE) for option in action.option_strings
    )
    return action.help != argparse.SUPPRESS and action.dest != "help" and not told_already


def _names(action: argparse.Action) -> str:
    value = action.metavar or (
        "{" + ",".join(map(str, action.choices)) + "}" if action.choices else action.dest.upper().replace("_", "-")
    )
    if isinstance(value, tuple):
        value = " ".join(value)
    value = value.replace("|", "\\|")
    if not action.option_strings:
        return f"`{value}`"
    return f"`{', '.join(action.option_strings)}{'' if action.nargs == 0 else ' ' + value}`"


def _told(action: argparse.Action, parser: argparse.ArgumentParser) -> str:
    return (action.help or "") % {**vars(action), "prog": parser.prog}


def escaped(text: str) -> str:
    """Text without HTML outside of code."""
    return re.sub(r"<(?=[^`]*(?:`[^`]*`[^`]*)*$)", "&lt;", text)


def cell(text: str) -> str:
    """Text in a cell: no column of its own, and no HTML outside of code."""
    return escaped(text.replace("|", "\\|"))


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
