"""The parser of every command: what is wrong with an argument is told in one line, with the nearest right name.

cft: argument --limit: ten is not a positive whole number; see cft build --help
"""

import argparse
from typing import Any, NoReturn

from cft_trl.errors import CFTError, nearest


class CommandParser(argparse.ArgumentParser):
    """As `argparse.ArgumentParser`, but an error is a `CFTError`, without the usage before it.

    Args:
        prog: the command, "cft build".
        description: its help's text, printed as it is.
    """

    def __init__(self, prog: str, description: str | None = None, **options: Any) -> None:
        options = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False, **options}
        super().__init__(prog, description=description, **options)

    def error(self, message: str) -> NoReturn:
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown != message:
            word = unknown.split()[0]
            flags = [option for action in self._actions for option in action.option_strings]
            message = f"unknown argument {word}{nearest(word.partition('=')[0], flags)}"
        raise CFTError(f"{message}; see {self.prog} --help")
