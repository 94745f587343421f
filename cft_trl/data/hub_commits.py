"""At which commit something on the Hub stands, and reading from the cache alone where the Hub does not answer.

commit_now("dataset", "openai/gsm8k", "main")      # "e53f048856ff4f594e959d75785d2c2d37b678ee"

with cache_alone_if_unreachable():
    ...                                            # a name that is not in the cache fails at once
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

_COMMIT = re.compile("[0-9a-f]{40}")
_LIMIT_S = 10.0


def commit_now(kind: Literal["dataset", "model"], name: str, revision: str | None = None) -> str | None:
    """The commit that a revision stands for now; None where the Hub does not answer, or has no such thing.

    Args:
        kind: What the name names.
        name: Hub id.
        revision: Commit, tag or branch; None is the default branch. A whole commit is returned without asking.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HFValidationError, HTTPError

    if revision and _COMMIT.fullmatch(revision):
        return revision
    if not constants.HF_HUB_OFFLINE:
        ask = HfApi().dataset_info if kind == "dataset" else HfApi().model_info
        with suppress(HTTPError, OSError, RuntimeError, HFValidationError):
            return ask(name, revision=revision, timeout=_LIMIT_S).sha
    return None


@contextmanager
def cache_alone_if_unreachable() -> Iterator[bool]:
    """While it lasts, the Hub is not asked if it does not answer at its beginning.

    For many names at once: `datasets` tries for 24 seconds to reach the Hub, for each anew.

    Yields:
        Whether the Hub answers.
    """
    import datasets
    from huggingface_hub import constants

    answers = not constants.HF_HUB_OFFLINE and _answers(constants.ENDPOINT)
    before = constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    if not answers:
        constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try:
        yield answers
    finally:
        constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = before


def _answers(url: str) -> bool:
    """Whether there is anyone at an address, whatever is said."""
    from huggingface_hub import get_session
    from huggingface_hub.errors import HTTPError

    try:
        get_session().head(url, timeout=_LIMIT_S)
    except (HTTPError, OSError, RuntimeError):
        return False
    return True
