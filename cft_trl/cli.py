"""The command `cft`: one file per command in `cft_trl/commands/`, imported when it is asked for.

Exit codes: 0 done; 1 a defect of ours (with a traceback); 2 a mistake in the input, told in one line; 3 done, but some
rows failed and are listed; 130 stopped with Ctrl-C.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
import warnings
from collections.abc import Sequence
from typing import NoReturn

from cft_trl import __version__
from cft_trl.errors import CFTError, nearest

# command -> what it does, in the order a newcomer meets them
COMMANDS = {
    "quickstart": "a trained model in minutes, on a CPU",
    "build": "a dataset of critiques from questions and a teacher",
    "browse": "rows of critiques to look through in the browser before they are trusted",
    "train": "critique fine-tuning from a YAML file; any field can follow: --learning_rate 1e-5",
    "preview": "one row as the model sees it",
    "plan": "memory, time and energy of a run on given hardware, before it is started",
    "eval": "scores on the benchmarks, strict beside the published leniency",
    "grade": "scores counted again from saved generations, without a model",
    "solve": "a question answered by a trained model",
    "critique": "a solution critiqued, with the verdict",
    "demo": "solve, critique and compare in the browser; as a Space: --deploy ORG/NAME",
    "push": "a trained model with its card, or a built dataset, to the Hub",
    "pull": "a dataset or a model of the Hub as a folder here, checked, at a pinned commit",
    "convert": "published critique data into our row and back, and into rows for TRL's other trainers",
    "merge": "an adapter put into its base, one model that answers as the two did",
    "export": "a model as a GGUF file for llama.cpp, with a Modelfile for Ollama",
    "select": "the best of a run's checkpoints, on problems that are in no reported benchmark",
    "report": "evaluations side by side, with intervals and significance: Markdown, JSON and a page",
    "eval-critic": "does the model tell right solutions from wrong ones? ProcessBench and labelled rows",
    "experiment": "arms trained on equal budgets and compared: objectives, shares of wrong responses, noise, …",
    "recipes": "the recipes and dataset recipes that the documentation names, copied here",
    "rank": "the best of several responses, by how surely a critic finds each right; also as a server",
    "doctor": "what is installed, what works, what is missing and the command that mends it",
    "completion": "a script with which bash, zsh or fish completes all of this",
}

HELP = """\
Critique fine-tuning, from questions to a graded model.

{commands}

each explains itself: cft train --help
version: cft --version
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
        if rank := _rank():
            time.sleep(3)  # the launcher ends every process as soon as one has: let the first tell it once
        print(f"cft: {error}" + (f" (process {rank})" if rank else ""), file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader has seen enough, as in `cft preview ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python tells it again at its exit
        return 0
    except KeyboardInterrupt:
        if not _rank():  # Ctrl-C reaches every process of a launch
            print("cft: stopped; the same command goes on from where it was", file=sys.stderr)
        return 130


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


def _run(argv: list[str]) -> int:
    width = max(map(len, COMMANDS))
    listed = "\n".join(f"  cft {name:<{width}}  {what}" for name, what in COMMANDS.items())
    if not argv or argv[0] in ("-h", "--help"):
        print(HELP.format(commands=listed), end="")
        return 0
    command, *rest = argv
    if command == "--version":
        print(f"cft-trl {__version__}")
        return 0
    if command not in COMMANDS:
        raise CFTError(f"unknown command {command!r}{nearest(command, COMMANDS)}; cft --help lists them")
    module = importlib.import_module(f"cft_trl.commands.{command.replace('-', '_')}")
    return module.run(rest)


def entry(argv: Sequence[str] | None = None) -> NoReturn:
    """The process that does nothing but `main`: the command `cft`, and recipes/cft.py."""
    from cft_trl.training.launch import among_several, skip_teardown, warn_once

    if not among_several():
        sys.exit(main(argv))
    leave = skip_teardown()
    warn_once(_rank())
    code = main(argv)
    leave(code)
    sys.exit(code)


if __name__ == "__main__":
    entry()
