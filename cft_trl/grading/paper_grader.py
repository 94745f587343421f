r"""The published grader's leniency, for comparison with the published figures ONLY; it accepts wrong answers.

    ("0", "0.006")          accepted: both are 0.0 after rounding to one decimal
    ("1.68", "1.6")         refused:  1.7 and 1.6
    ("0.25", "25")          accepted: a hundredth and a hundredfold of the gold count, as percentages

Written from the published behaviour (the evaluation of arXiv 2501.17703 is Qwen2.5-Math's plus one rule), not copied:
units, degree, percent and currency signs fall away; texts are compared in lower case; numbers are equal within 1e-4
relative, or (the added rule) when they agree after rounding to one decimal; brackets of either kind count alike, lists
entry by entry in order; equations by the difference of their sides, up to sign; the rest by sympy.
"""

from __future__ import annotations

import math
import re
from typing import Any

from cft_trl.grading.paper_expressions import expression_value, parse_expression, same_value
from cft_trl.grading.paper_notation import clean, split_top, squash, text_key, to_number

_DROPPED = re.compile(r"\\text\{[^{}]*\}(?:\^\{?\d\}?)?|\^\\circ|\\?%|\\\$|(?<=\d)\s+(?:[a-z]{2,}[ .]*)+$")
_ASSIGNED = re.compile(r"^\s*\\?[A-Za-z]\w{0,2}\s*(?:\([a-z]\)\s*)?=(?!=)")
_RELATIVE = 1e-4


def paper_equal(prediction: str, gold: str) -> bool:
    """Whether the published grader would call two bare answers equal; for comparison only.

    Args:
        prediction: What `published_answer` returned.
        gold: The benchmark's answer, bare.

    Example:
        >>> paper_equal("0", "0.006"), paper_equal("1.68", "1.6"), paper_equal("0.25", "25")
        (True, False, True)
    """
    if max(len(prediction), len(gold)) > 1500:
        return squash(prediction) == squash(gold) != ""
    return _equal(clean(prediction), clean(gold))


def _equal(prediction: str, gold: str, depth: int = 0) -> bool:
    if text_key(prediction) == text_key(gold) != "":
        return True
    p, g = (_ASSIGNED.sub("", _stripped(answer)) for answer in (prediction, gold))
    if not p or not g or depth > 4:
        return False
    if squash(p).lower() == squash(g).lower():
        return True
    one, other = _float(p), _float(g)
    if one is not None and other is not None:
        return any(_near(one, value) for value in (other / 100, other, other * 100))
    if re.fullmatch(r"[A-Za-z]", g):
        return p.strip("().: ") == g
    p_items, g_items = split_top(_unbracketed(p)), split_top(_unbracketed(g))
    if len(g_items) > 1 or len(p_items) > 1:
        pairs = zip(p_items, g_items, strict=False)
        return len(p_items) == len(g_items) and all(_equal(a, b, depth + 1) for a, b in pairs)
    if p.count("=") == g.count("=") == 1:
        a, b = ("({}) - ({})".format(*side.split("=")) for side in (p, g))
        return same_value(a, b) or same_value(f"-({a})", b)
    return "=" not in p + g and _symbolic(p, g)


def _stripped(answer: str) -> str:
    return _DROPPED.sub("", answer).strip() or text_key(answer)


def _unbracketed(answer: str) -> str:
    return re.sub(r"^(?:\\\{|[\[(])|(?:\\\}|[\])])$", "", answer.strip())


def _float(answer: str) -> float | None:
    """What Python's `float` would read (fractions in LaTeX are no numbers to the published grader)."""
    answer = answer.replace(",", "").replace(" ", "")
    number = to_number(answer) if "/" not in answer and "frac" not in answer else None
    try:
        return float(number.value) if number else None
    except OverflowError:
        return None


def _near(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=_RELATIVE) or round(one, 1) == round(other, 1)


def _symbolic(p: str, g: str) -> bool:
    if same_value(p, g):
        return True
    values: list[Any] = [
        expression_value(parsed) if (parsed := parse_expression(x)) is not None else None for x in (p, g)
    ]
    if values[0] is None or values[1] is None or values[0].imag or values[1].imag:
        return False
    return _near(float(values[0].real), float(values[1].real))
