r"""Families of solutions: "3k+1, k \\in \\mathbb{Z}"."""

from __future__ import annotations

import re
from collections.abc import Callable

from cft_trl.grading.structure import squash

Equal = Callable[[str, str], bool]

_PARAMETER = re.compile(
    r"\s*[,;:]?\s*\(?\s*(?:\\text\{\s*,?\s*(?:for|where|with)?\s*(?:all|any|some|every|each)?\s*\}|for|where)?\s*"
    r"(?<![A-Za-z\\])(?P<name>[a-zC](?:_\w)?(?:\s*,\s*[a-z])*)\s*\\in\s*\\(?:mathbb|mathbf"
    r"|text)?\s*\{?\s*(?P<set>[ZRNQC])\s*\}?(?:\^\+|_\+)?\s*\)?$"
)
_IN_WORDS = re.compile(
    r"\s*[,;]?\s*(?:\\text\{\s*,?\s*\(?(?:for|where|with|and)\s*(?:all|any|some|every|each|an|the)?\s*"
    r"(?P<set>integers?|real numbers?|real constants?|constants?|arbitrary constants?)\s*\}?\s*"
    r"(?P<name>[a-zC](?:_\w)?)\s*\)?\}?"
    r"|\\text\{\s*,?\s*\(?(?:for|where|with)\s*\}?\s*(?P<name2>[a-zC](?:_\w)?)\s*(?:\\text\{)?\s*"
    r"is\s+(?:an?|any|some)\s+(?:arbitrary\s+)?"
    r"(?P<set2>integer|real number|constant)\s*\)?\}?\)?)$"
)


def as_parameters(p: str, g: str, equal: Equal) -> bool | None:
    r""" "3k+1, k \in \mathbb{Z}" is "3k+1": that k is any integer may go without saying, not that it is natural.

    Args:
        p, g: The two answers, in LaTeX.
        equal: The comparison of the whole table, for their parts.
    """
    one, other = _parameters(p), _parameters(g)
    if one is None and other is None:
        return None
    domains = [found[1] for found in (one, other) if found]
    if len(domains) == 2 and domains[0] != domains[1]:
        return False
    if len(domains) == 1 and domains[0] not in ("Z", "R", "C"):
        return False
    one_formula, other_formula = one[0] if one else p, other[0] if other else g
    # n and k in "n \\in Z" and "k \\in Z" are whatever whole numbers.
    if one and other and one[2] != other[2] and not re.search(_alone(other[2]), one_formula):
        one_formula = re.sub(_alone(one[2]), lambda _: f" {other[2]} ", one_formula)
    elif (one is None) != (other is None):
        # Who names no domain calls the whole number k, n or m.
        (declared, _, name), bare = one or other or ("", "", ""), other_formula if one else one_formula
        own = set(re.findall(_alone("[knm]"), bare)) - set(re.findall(_alone("[knm]"), declared))
        if len(own) == 1 and domains == ["Z"] and not re.search(_alone(name), bare):
            bare = re.sub(_alone(own.pop()), lambda _: f" {name} ", bare)
            one_formula, other_formula = (one_formula, bare) if one else (bare, other_formula)
    return equal(one_formula, other_formula)


def _alone(name: str) -> str:
    return rf"(?<![A-Za-z\\]){name}(?![A-Za-z])"


def _parameters(answer: str) -> tuple[str, str, str] | None:
    """The formula, the first letter of its parameter's domain, and the parameter's name."""
    for pattern in (_PARAMETER, _IN_WORDS):
        match = pattern.search(answer)
        if not match or not match.start():
            continue
        groups = match.groupdict()
        name = squash(groups.get("name") or groups.get("name2") or "").split(",")[0]
        formula = answer[: match.start()].strip()
        listed = groups.get("name") or ""
        if "," in listed and not re.search(r"[,;(}]$", answer[: match.start("name")].rstrip()):
            # "\\pi n, n \\in Z": the first n is the formula's.
            name = squash(listed.rpartition(",")[2])
            formula = answer[: match.start("name") + listed.rindex(",")].strip()
        domain = (groups.get("set") or groups.get("set2") or "").strip()
        domain = {"i": "Z", "r": "R", "c": "R", "a": "R"}.get(domain[0], domain[0])
        if re.search(rf"(?<![A-Za-z\\]){re.escape(name)}(?![a-z])|(?<=\d){re.escape(name)}", formula):
            return formula, domain, name
    return None
