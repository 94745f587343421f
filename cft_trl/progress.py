"""One progress bar for everything that takes longer than a few seconds; silent where there is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """Shows `label`, a bar, the count and the time left on standard error; yields `advance(n)`."""
    from tqdm.auto import tqdm

    with tqdm(total=total, desc=label, disable=not sys.stderr.isatty(), leave=False) as bar:
        yield bar.update
