"""Reads what the `reference` teacher says from reference_wording.yaml, whose head explains the slots.

wording()["arithmetic"][0]      "{eq}, but the solution has {got}: an arithmetic error."
"""

from functools import cache
from pathlib import Path
from string import Formatter

from cft_trl.data.tables import check_keys, is_texts, read_table
from cft_trl.errors import CFTError

FILE = Path(__file__).with_name("reference_wording.yaml")
_STEP, _LAST = "eq quote got answer", "answer got"
SLOTS = {  # what is said -> the slots that reference.py fills in it
    "right": "eq",
    "going_on": "rest",
    "confirmed": "answer",
    "corrected": "answer",
    "lucky": "answer",
    "arithmetic": "eq got",
    "operation": _STEP,
    "misread": f"{_STEP} was read",
    "missing": f"{_STEP} missed",
    "missing_last": f"{_LAST} missed",
    "conversion": f"{_STEP} missed",
    "conversion_last": f"{_LAST} missed",
    "unit": f"{_STEP} unit wrong_unit",
    "unit_last": f"{_LAST} wrong_unit",
    "method": _STEP,
    "method_last": _LAST,
    "answer_last": _LAST,
}


@cache
def wording() -> dict[str, list[str]]:
    """What is said -> several sentences for it, read when the first critique is written.

    Raises:
        CFTError: The file is broken; the message says where.
    """
    return read_wording(FILE)


def read_wording(path: Path) -> dict[str, list[str]]:
    """As `wording`, of any file.

    Raises:
        CFTError: Something has no sentences, or a sentence has a slot that nothing fills.
    """
    told = read_table(path)
    check_keys(told, dict.fromkeys(SLOTS, is_texts), str(path))
    for kind, sentences in told.items():
        for sentence in sentences:
            _check(sentence, SLOTS[kind].split(), f"{path}, {kind}")
    return told


def _check(sentence: str, slots: list[str], where: str) -> None:
    try:
        found = [(slot, bool(form or conversion)) for _, slot, form, conversion in Formatter().parse(sentence)]
    except ValueError as error:  # a brace that is not closed
        raise CFTError(f"{where}: '{sentence}' cannot be filled ({error})") from None
    for slot, formed in found:
        if slot is not None and (formed or slot not in slots):
            raise CFTError(f"{where}: '{sentence}' has a slot that is none of {{{'}, {'.join(slots)}}}")
