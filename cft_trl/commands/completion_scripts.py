"""Shell completion: a static script, made from the parsers that the commands themselves use.

    cft completion bash > ~/.local/share/bash-completion/completions/cft

`shtab` writes the script; what it needs is one parser with every command's parser in it. Commands build theirs inside
`run`, so that `cft --help` imports nothing. Here each is run with no arguments and stopped where it would parse them:
what is completed is what is parsed, and no second list of flags can fall behind.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cft_trl.errors import CFTError

SHELLS = ("bash", "zsh", "fish")

# Commands whose flags are the fields of the training settings (commands/settings.py).
_SETTINGS_COMMANDS = ("train", "preview", "plan")
# Values that are files or folders though their type does not say so.
_PATHS = {
    "model", "source", "output", "run", "runs", "input", "data", "config", "dataset_name", "datasets",
    "model_name_or_path", "output_dir", "chat_template_path", "resume_from_checkpoint", "select_benchmark", "benchmark",
}  # fmt: skip


class _Parsing(BaseException):
    """Carries a parser out of the command that was about to use it; no `except Exception` may stop it."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser


def command_parser(name: str) -> argparse.ArgumentParser:
    """The parser of a command, as the command itself builds it.

    Raises:
        CFTError: The command ended without parsing anything.

    Example:
        >>> parser = command_parser("convert")
        >>> parser.prog, "--to" in parser.format_help()
        ('cft convert', True)
    """
    module = importlib.import_module(f"cft_trl.commands.{name.replace('-', '_')}")
    with _stopped_at_parsing():
        try:
            module.run([])
        except _Parsing as found:
            return found.parser
    raise CFTError(f"cft {name} parses no arguments, so there is nothing to complete")


def completion_script(shell: str, commands: dict[str, str]) -> str:
    """The script for a shell.

    Args:
        shell: One of `SHELLS`.
        commands: Command -> what it does.

    Raises:
        CFTError: An unknown shell, or shtab is not installed.
    """
    if shell not in SHELLS:
        raise CFTError(f"shell {shell!r} is unknown; give one of {', '.join(SHELLS)}")
    try:
        import shtab
    except ImportError:
        raise CFTError("cft completion needs shtab, which is not installed; pip install shtab") from None
    root = argparse.ArgumentParser("cft", allow_abbrev=False)
    root.add_argument("--version", action="store_true", help="the version")
    listed = root.add_subparsers(dest="command")
    for name, what in commands.items():
        parents = [command_parser(name)]
        if name in _SETTINGS_COMMANDS:
            parents = _with_settings(name, parents[0])
        for parent in parents:
            _prepare(parent._actions, shtab)
        listed.add_parser(name, parents=parents, add_help=False, conflict_handler="resolve", help=what)
    return shtab.complete(root, shell)


def _with_settings(name: str, own: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """A settings command's own flags, those of the training settings, and `--config`, which TRL reads before them."""
    config = argparse.ArgumentParser(add_help=False)
    config.add_argument("--config", type=Path, metavar="FILE", help="YAML file with any of these settings")
    return [config, own] if name == "train" else [config, own, command_parser("train")]


def _prepare(actions: Sequence[argparse.Action], shtab) -> None:
    for action in actions:
        # transformers offers every flag twice, --max_length and --max-length: one of them is enough to look at.
        with_underscores = [option for option in action.option_strings if "_" in option]
        if with_underscores:
            others = {option.replace("_", "-") for option in with_underscores}
            action.option_strings = [option for option in action.option_strings if option not in others]
        if action.nargs != 0 and not action.choices and (action.type is Path or action.dest in _PATHS):
            action.complete = shtab.FILE  # type: ignore[attr-defined]  # shtab's own: argparse knows nothing of it


@contextmanager
def _stopped_at_parsing() -> Iterator[None]:
    def stop(parser, *args, **kwargs):
        raise _Parsing(parser)

    entrances = ("parse_known_args", "parse_known_intermixed_args")
    kept = {name: getattr(argparse.ArgumentParser, name) for name in entrances}
    try:
        for name in entrances:
            setattr(argparse.ArgumentParser, name, stop)
        yield
    finally:
        for name, method in kept.items():
            setattr(argparse.ArgumentParser, name, method)
