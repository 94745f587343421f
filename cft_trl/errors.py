"""The one exception a user is meant to read.

Anything the user can put right (a missing column, a wrong folder, options that contradict each other) is
raised as `CFTError` with a message of one line: what was wrong, where, and what would be right. The command
line prints that line and exits with code 2; every other exception is a defect of ours and keeps its traceback.

Example:
    cft: data/rows.jsonl, row 3: column 'critique' is empty; give the critique's text or leave the row out
"""

import re
from collections.abc import Iterable
from difflib import get_close_matches

MAX_CHARS = 600
_ALIKE, _PART = 0.65, 4  # less alike a name is a wrong guess, which misleads more than none


def one_line(text: object) -> str:
    """Joins a message's lines, so that another library's many-line error stays one line of ours."""
    joined = re.sub(r"\s*\n\s*", " ", str(text).strip())
    return joined if len(joined) <= MAX_CHARS else joined[: MAX_CHARS - 1] + "…"


def in_line(value: object, most: int = 120) -> str:
    """A value for the middle of a line: of a long one, as of a prompt, its beginning.

    Args:
        value: Anything.
        most: Characters.

    Example:
        >>> in_line(5), in_line("Review\\n  this.", 9)
        ('5', 'Review th…')
    """
    text = " ".join(str(value).split())
    return text if len(text) <= most else f"{text[:most]}…"


def nearest(word: str, known: Iterable[object]) -> str:
    """A hint for an error message: " (did you mean 'label'?)", or "" when nothing is near.

    Example:
        >>> nearest("lable", ["label", "query"])
        " (did you mean 'label'?)"
        >>> nearest("epochs", ["num_train_epochs", "save_steps"]), nearest("early_stop_patience", ["learning_rate"])
        (" (did you mean 'num_train_epochs'?)", '')
    """
    names = [str(name) for name in known]
    match = get_close_matches(word, names, n=1, cutoff=_ALIKE)
    # A part that was meant for the whole: "epochs", "batch_size".
    part = word.lstrip("-")
    parts = [name for name in names if len(part) >= _PART and (name.startswith(part) or name.endswith(f"_{part}"))]
    found = match or parts[:1]
    return f" (did you mean {found[0]!r}?)" if found else ""


class CFTError(ValueError):
    """A mistake in the user's input, told in one line.

    A subclass of `ValueError`, so code that already guards a trainer's constructor keeps working.

    Example:
        >>> raise CFTError("rows.jsonl, row 3: column 'critique' is empty")
        Traceback (most recent call last):
        cft_trl.errors.CFTError: rows.jsonl, row 3: column 'critique' is empty

    Attributes:
        reason: What kind it is, for code that acts on it ("no connection", "context length", "quota", ...; see
            `cft_trl.generation.replies`); None where nothing does. The message is for people and is never parsed.
    """

    def __init__(self, message: object, reason: str | None = None) -> None:
        super().__init__(one_line(message))
        self.reason = reason
