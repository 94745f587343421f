"""What the commands share: reading numbers from flags, and the settings of a training run from flags and YAML."""

from __future__ import annotations

import argparse
from pathlib import Path

from cft_trl.errors import CFTError, nearest


def positive(text: str) -> int:
    """A flag's text as a whole number from 1.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive whole number")
    return int(text)


def whole_number(text: str) -> int:
    """A flag's text as a whole number from 0.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of 0 or more")
    return int(text)


def parse_settings(argv: list[str], defaults: dict[str, str] | None = None, own: tuple[str, ...] = ()):
    """Flags and `--config FILE` -> (CFTScriptArguments, CFTConfig, ModelConfig).

    Args:
        argv: The words of the command line.
        defaults: Values of settings that are not given.
        own: The command's other flags, which an unknown one may have been meant for.

    Raises:
        CFTError: the file is missing or no YAML mapping, a field is unknown (the nearest is named), or its value is
            of the wrong type or contradicts another.
    """
    argv = [part for word in argv for part in (word.split("=", 1) if word.startswith("--config=") else [word])]
    from trl import ModelConfig, TrlParser

    from cft_trl.training.arguments import CFTScriptArguments
    from cft_trl.training.config import CFTConfig

    parser = TrlParser((CFTScriptArguments, CFTConfig, ModelConfig), prog="cft train", allow_abbrev=False)
    parser.error = raise_parse_error
    parser.set_defaults(**(defaults or {}))
    known = [option.removeprefix("--") for action in parser._actions for option in action.option_strings]
    _check_config_file(argv, known)
    _check_flags(argv, known, own)
    try:
        return parser.parse_args_and_config(argv)
    except CFTError:
        raise
    except (ValueError, TypeError, OSError, ImportError) as error:
        raise CFTError(f"settings: {error}") from error


def raise_parse_error(message: str) -> None:
    """Tells what argparse found in one line.

    Raises:
        CFTError: Always; it takes the place of argparse's exit.
    """
    raise CFTError(f"settings: {message}; see cft train --help")


def _check_flags(argv: list[str], known: list[str], own: tuple[str, ...]) -> None:
    for word in argv:
        name = word.partition("=")[0]
        if name.startswith("--") and name[2:] not in (*known, "config"):
            raise CFTError(f"unknown setting {name}{nearest(name[2:], [*own, *known])}; see cft train --help-all")


def _check_config_file(argv: list[str], known: list[str]) -> None:
    if "--config" not in argv:
        return
    position = argv.index("--config") + 1
    if position == len(argv):
        raise CFTError("--config needs a file, e.g. --config recipes/smollm2-135m/cft.yaml")
    import yaml

    path = Path(argv[position])
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CFTError(f"config file '{path}' cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CFTError(f"config file '{path}' is not YAML: {error}") from error
    if not isinstance(settings, dict):
        raise CFTError(f"config file '{path}' holds no settings; write one `name: value` per line")
    for name in settings:
        if name not in known and name != "env":
            raise CFTError(
                f"config file '{path}': unknown setting {name}{nearest(str(name), known)}; see cft train --help-all"
            )
