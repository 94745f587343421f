"""`cft completion`: what the shell completes after `cft`."""

from __future__ import annotations

import sys

from cft_trl.commands.parser import CommandParser

HELP = """\
Prints a script with which the shell completes commands, flags and files. It is made from the commands' own parsers,
which takes some seconds; so write it to a file once, and again after an update.

examples:
  cft completion bash > ~/.local/share/bash-completion/completions/cft     with the package bash-completion
  cft completion bash > ~/.cft-completion && echo '. ~/.cft-completion' >> ~/.bashrc
  cft completion zsh > ~/.zfunc/_cft                                       with ~/.zfunc in fpath before compinit
  cft completion fish > ~/.config/fish/completions/cft.fish
"""


def run(argv: list[str]) -> int:
    parser = CommandParser("cft completion", HELP)
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="whose script")
    options = parser.parse_args(argv)
    from cft_trl.cli import COMMANDS
    from cft_trl.commands.completion_scripts import completion_script

    if sys.stderr.isatty():
        print("reading every command's flags (some seconds) ...", file=sys.stderr)
    print(completion_script(options.shell, COMMANDS))
    return 0
