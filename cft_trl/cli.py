"""The command `cft`.

    cft quickstart                                      a trained model in a quarter of an hour, on a CPU
    cft train --config recipes/smollm2-135m/cft.yaml    any field can follow: --learning_rate 1e-5
    cft preview --config …  --row 3                     one row as the model sees it

Exit codes: 0 done; 1 a defect of ours (with a traceback); 2 a mistake in the input, told in one line; 130 stopped
with Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

from cft_trl import __version__
from cft_trl.errors import CFTError

TRAIN_HELP = """\
Critique fine-tuning from a YAML file, from flags, or from both (flags win).

examples:
  cft train --config recipes/smollm2-135m/cft.yaml
  cft train --model_name_or_path smollm2-135m --dataset_name arithmetic --dataset_limit 2000 --output_dir runs/a
  cft train --config recipes/smollm2-135m/cft.yaml --dataset_name rows.jsonl --dataset_columns verdict=label
  accelerate launch --config_file recipes/accelerate/zero3.yaml recipes/cft.py --config recipes/qwen2.5-math-7b/cft.yaml

the fields people change most:
  --dataset_name          Hub id, file, folder, or arithmetic (embedded)
  --dataset_columns       house=data pairs: query=problem,verdict=label
  --append_verdict        write a row's verdict under a critique that does not state it
  --dataset_limit N       use N rows          --eval_rows N    hold N rows out
  --model_name_or_path    Hub id, folder, or smollm2-135m
  --output_dir            where everything goes; the same command goes on after an interruption
  --objective             cft (critiques), cgd (refinements), sft (answers; --sft_target response|right_only|refinement)
  --max_length N          longest row, tokens  --over_length    shorten_response | drop | error
  --packing               several rows per sequence, kept apart exactly
  --prompt_preset         paper (byte for byte) | compact
  --verdict_weight W      factor on the loss of the verdict's tokens
  --learning_rate, --num_train_epochs, --max_steps, --per_device_train_batch_size, --use_peft, --report_to, …

every field of CFTConfig, transformers' TrainingArguments and TRL's ModelConfig works: cft train --help-all
"""

PREVIEW_HELP = """\
Shows rows as the model will see them: the tokens with loss in green, the verdict in reverse, what the length policy
did. Takes the same settings as `cft train`.

examples:
  cft preview --config recipes/smollm2-135m/cft.yaml
  cft preview --config recipes/smollm2-135m/cft.yaml --row 5 --max_length 120
  cft preview --model_name_or_path smollm2-135m --dataset_name rows.jsonl --objective cgd --row 0

  --row N   the row to show (default 0)
"""

QUICKSTART_HELP = """\
Builds critiques of arithmetic solutions, trains SmolLM2-135M on them, and shows what it learnt on held-out problems.

examples:
  cft quickstart
  cft quickstart --rows 60 --eval-rows 20 --generated-rows 10 --output runs/tiny     two minutes, learns little
  cft quickstart --force                                                              anew

The same command again goes on where an interrupted run was.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")  # no bars into log files, whichever library draws them
    # TRL sets this field itself; nobody who reads the warning could act on it.
    warnings.filterwarnings("ignore", message="`gradient_checkpointing` is deprecated", category=FutureWarning)
    try:
        return _run(argv)
    except CFTError as error:
        rank = int(os.environ.get("RANK", "0"))
        if rank:
            time.sleep(3)  # the launcher ends every process as soon as one has: let the first tell it once
        print(f"cft: {error}" + (f" (process {rank})" if rank else ""), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("cft: stopped; the same command goes on from the last checkpoint, if there is one", file=sys.stderr)
        return 130


def _run(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="cft", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"cft-trl {__version__}")
    parser.add_argument("command", choices=sorted(_COMMANDS), metavar="{" + ",".join(sorted(_COMMANDS)) + "}")
    options = parser.parse_args(argv[:1])
    return _COMMANDS[options.command](argv[1:])


def _train(argv: list[str]) -> int:
    if {"-h", "--help"} & set(argv):
        print(TRAIN_HELP, end="")
        return 0
    script, config, model = parse_settings(["--help" if word == "--help-all" else word for word in argv])
    from cft_trl.training.script import run_training

    run_training(script, config, model)
    return 0


def _preview(argv: list[str]) -> int:
    if {"-h", "--help"} & set(argv):
        print(PREVIEW_HELP, end="")
        return 0
    parser = argparse.ArgumentParser(prog="cft preview", add_help=False, allow_abbrev=False)
    parser.add_argument("--row", type=_seed, default=0)
    parser.error = _raise_parse_error
    options, rest = parser.parse_known_args(argv)
    script, config, model = parse_settings(rest, defaults={"output_dir": "runs/preview"})
    from cft_trl.preview import preview

    preview(script, config, model, options.row)
    return 0


def _quickstart(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="cft quickstart", description=QUICKSTART_HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("runs/quickstart"), help="folder (default %(default)s)")
    parser.add_argument("--model", default="smollm2-135m", help="folder, Hub id or smollm2-135m")
    parser.add_argument("--rows", type=_positive, help="training rows")
    parser.add_argument("--eval-rows", type=_positive, help="held-out rows")
    parser.add_argument("--generated-rows", type=_positive, help="held-out rows critiqued freely")
    parser.add_argument("--seed", type=_seed, help="seed of the problems and of training")
    parser.add_argument("--force", action="store_true", help="replace what is in the folder")
    options = vars(parser.parse_args(argv))
    from cft_trl.quickstart import QuickstartSettings, run_quickstart

    output, force = options.pop("output"), options.pop("force")
    run_quickstart(output, QuickstartSettings(**{k: v for k, v in options.items() if v is not None}), force=force)
    return 0


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive whole number")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of 0 or more")
    return int(text)


def parse_settings(argv: list[str], defaults: dict[str, str] | None = None):
    """Flags and `--config FILE` -> (CFTScriptArguments, CFTConfig, ModelConfig).

    Raises:
        CFTError: the file is missing or no YAML mapping, a field is unknown (the nearest is named), or its value is
            of the wrong type or contradicts another.
    """
    argv = [part for word in argv for part in (word.split("=", 1) if word.startswith("--config=") else [word])]
    from trl import ModelConfig, TrlParser

    from cft_trl.training.config import CFTConfig
    from cft_trl.training.script import CFTScriptArguments

    parser = TrlParser((CFTScriptArguments, CFTConfig, ModelConfig), prog="cft train", allow_abbrev=False)
    parser.error = _raise_parse_error
    parser.set_defaults(**(defaults or {}))
    known = [option.removeprefix("--") for action in parser._actions for option in action.option_strings]
    _check_config_file(argv, known)
    _check_flags(argv, known)
    try:
        return parser.parse_args_and_config(argv)
    except CFTError:
        raise
    except (ValueError, TypeError, OSError, ImportError) as error:
        raise CFTError(f"settings: {error}") from error


def _raise_parse_error(message: str) -> None:
    raise CFTError(f"settings: {message}; see cft train --help")


def _check_flags(argv: list[str], known: list[str]) -> None:
    for word in argv:
        name = word.partition("=")[0]
        if name.startswith("--") and name[2:] not in (*known, "config"):
            raise CFTError(f"unknown setting {name}{_nearest(name[2:], known)}")


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
            raise CFTError(f"config file '{path}': unknown setting {name}{_nearest(str(name), known)}")


def _nearest(name: str, known: list[str]) -> str:
    import difflib

    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else "; see cft train --help-all"


_COMMANDS = {"train": _train, "preview": _preview, "quickstart": _quickstart}

if __name__ == "__main__":
    sys.exit(main())
