"""What the commands share: numbers and models from flags, and the settings of a training run from flags and YAML."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cft_trl.errors import CFTError, nearest

if TYPE_CHECKING:
    from cft_trl.data.prompts import PresetName, Wording
    from cft_trl.evaluation.backends import Backend
    from cft_trl.training.arguments import CFTScriptArguments


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


def at_least_0(text: str) -> float:
    """A number of 0 or more.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    return _number(text, 0.0, float("inf"), "a number of 0 or more")


def share(text: str) -> float:
    """A number above 0, at most 1.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    value = _number(text, 0.0, 1.0, "a number above 0, at most 1")
    if value == 0:
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0, at most 1")
    return value


def _number(text: str, least: float, most: float, wanted: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not least <= value <= most or value == float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not {wanted}")
    return value


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Which model of a name it is, and how it is loaded."""
    from cft_trl.models.adapters import OPTION_HELP

    parser.add_argument("--revision", help="commit, tag or branch on the Hub")
    parser.add_argument("--adapter-base", metavar="MODEL", help=OPTION_HELP)
    parser.add_argument("--trust-remote-code", action="store_true", help="run code that comes with the model")
    parser.add_argument("--dtype", help="float32, bfloat16 or float16 (default: what the machine is fast in)")


PRESET_OPTION = "critique prompt: paper, compact, per_step, or the folder of the run that has it (default: the model's)"


def preset_option(text: str) -> PresetName | Wording:
    """A flag's text as a wording: a preset's name, or the folder of a run that was trained with it.

    Raises:
        argparse.ArgumentTypeError: It is neither.
    """
    from cft_trl.models.trained_prompt import named_preset, no_preset

    found = named_preset(text)
    if found is None:
        raise argparse.ArgumentTypeError(no_preset(text))
    return found


def open_backend(options: argparse.Namespace) -> Backend:
    """The model that an evaluation asks, from `--backend` and its options; some commands have not all of them."""
    from cft_trl.evaluation.backends import Backend
    from cft_trl.generation.dialect import parse_extra

    names = ("base_url", "api_key_env", "revision", "adapter_base", "dtype", "batch_size", "concurrency",
             "trust_remote_code")  # fmt: skip
    given = {name: getattr(options, name) for name in names if name in options}
    return Backend(options.backend, options.model, extra=parse_extra(options.extra), **given)


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
    argv += _prompt_beside(argv, _check_config_file(argv, known))
    _check_flags(argv, known, own)
    try:
        script, config, model = parser.parse_args_and_config(argv)
    except CFTError:
        raise
    except (ValueError, TypeError, OSError, ImportError) as error:
        raise CFTError(f"settings: {error}") from error
    if script.datasets is not None:
        from cft_trl.training.parts import settle_datasets

        settle_datasets(script)
    if config.verdicts:
        _check_appended(script)
    return script, config, model


def _check_appended(script: CFTScriptArguments) -> None:
    """A critique with two conclusions, one of them in words that nobody reads, is nothing to learn from."""
    from cft_trl.training.parts import read_parts

    parts = read_parts(script.datasets) if script.datasets else []
    given = {f"datasets, part {number} ({part.path}): ": part.append_verdict for number, part in enumerate(parts, 1)}
    for where, appended in {"": script.append_verdict, **given}.items():
        if appended:
            raise CFTError(f"{where}append_verdict writes right or wrong, verdicts has other words; end the critiques "
                           "in those")  # fmt: skip


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


def _prompt_beside(argv: list[str], settings: dict[str, Any]) -> list[str]:
    """Flags for a prompt's file that a config file names: it is looked for beside that file first."""
    prompt = settings.get("prompt")
    if not isinstance(prompt, str) or any(word.partition("=")[0] == "--prompt" for word in argv):
        return []
    from cft_trl.data.prompt_templates import template_beside

    found = template_beside(prompt, Path(argv[argv.index("--config") + 1]).parent)
    return ["--prompt", str(found)] if found else []


def _check_config_file(argv: list[str], known: list[str]) -> dict[str, Any]:
    if "--config" not in argv:
        return {}
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
    return settings
