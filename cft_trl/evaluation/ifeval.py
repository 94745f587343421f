"""IFEval's official checkers, as lighteval ships them.

    check_instructions([{"query": "… no commas …", "text": "Fine.", "meta": {"instruction_id_list":
        ["punctuation:no_comma"], "kwargs": [{}]}}])
    # [{"instructions_strict": [True], "instructions_loose": [True]}]

They need `langdetect` and NLTK's table of abbreviations, `punkt_tab`, which NLTK downloads once. "Loose" also takes an
answer without its first or last line and without asterisks, as published (arXiv 2311.07911).
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any
from unittest import mock

from cft_trl.environment import require
from cft_trl.errors import CFTError


def check_instructions(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, list[bool]]]:
    """Which of its instructions each answer follows.

    Args:
        rows: With `query`, `text` and `meta` (`instruction_id_list` and `kwargs`, as in google/IFEval).

    Returns:
        Per row one bool for each instruction, under "instructions_strict" and "instructions_loose".

    Raises:
        CFTError: langdetect or punkt_tab is missing, or an instruction that the checkers do not know.
    """
    checker = _checker()
    results = []
    for row in rows:
        meta = row["meta"]
        arguments = [dict(given or {}) for given in meta["kwargs"]]
        specific = {"instructions_id_list": list(meta["instruction_id_list"]), "kwargs": arguments}
        try:
            found = checker.compute(
                SimpleNamespace(query=row["query"], specific=specific), SimpleNamespace(final_text=[row["text"]])
            )
        except KeyError as error:
            raise CFTError(f"{row['id']}: IFEval's checkers know no instruction {error}") from None
        results.append(
            {
                "instructions_strict": [bool(flag) for flag in found["inst_level_strict_acc"]],
                "instructions_loose": [bool(flag) for flag in found["inst_level_loose_acc"]],
            }
        )
    return results


def require_checkers() -> None:
    """Says in one line what is missing, before anything is generated.

    Raises:
        CFTError: As `check_instructions`.
    """
    _checker()


def _checker() -> Any:
    require("eval", "ifeval", "langdetect", "lighteval", "nltk")
    import nltk

    try:
        nltk.data.find("tokenizers/punkt_tab/english/")
    except LookupError:
        nltk.download("punkt_tab", quiet=True, print_error_to=io.StringIO())
        try:
            nltk.data.find("tokenizers/punkt_tab/english/")
        except LookupError:
            raise CFTError(
                "ifeval needs NLTK's punkt_tab, which cannot be downloaded here; run `python -m nltk.downloader "
                "punkt_tab` where there is a network and copy nltk_data to your home folder (or set NLTK_DATA)"
            ) from None
    # The module downloads when it is imported, an older table too that nothing reads any more.
    with mock.patch.object(nltk, "download"):
        from lighteval.tasks.tasks.ifeval.main import IFEvalMetrics
    import langdetect

    langdetect.DetectorFactory.seed = 0  # else it draws: the same answer would be right now and wrong then
    return IFEvalMetrics()
