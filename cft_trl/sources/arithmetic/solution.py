"""A worked solution, right or wrong, and the ways to write it down.

The same right solution in two of the styles:

    Step 1: 3 × 8 = 24 pencils in the boxes.        Pencils in the boxes: 3 × 8 = 24
    Step 2: 24 - 5 = 19 pencils left.               Pencils left: 24 - 5 = 19
    The answer is 19 pencils.                       The answer is \\boxed{19} pencils.

Every style writes one equation per line and the answer on the last line, so that a style says nothing about whether the
solution is right.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from .english import counted, plural, quantity
from .numbers import Number, plain
from .template import Problem, Step


@dataclass(frozen=True, slots=True)
class Solution:
    """Worked lines and a final answer.

    `error_kind` is None for a right solution; `first_error` is then None too, else the number (from 1) of the first
    wrong line, the answer's line counting as the one after the last step.
    """

    lines: tuple[Step, ...]
    answer: Number
    unit: str
    error_kind: str | None = None
    first_error: int | None = None


def right_solution(problem: Problem) -> Solution:
    """The problem's own steps and answer."""
    return Solution(problem.steps, problem.answer, problem.unit)


def _result(line: Step) -> str:
    """`3 × 8 = 24 pencils in the boxes`"""
    return f"{line.equation} {counted(line.value, line.unit)} {line.label}"


def _numbered(lines: Sequence[Step]) -> list[str]:
    return [f"Step {number}: {_result(line)}." for number, line in enumerate(lines, 1)]


def _bare(lines: Sequence[Step]) -> list[str]:
    return [_result(line) for line in lines]


def _labelled(lines: Sequence[Step]) -> list[str]:
    """`Pencils in the boxes: 3 × 8 = 24`"""
    names = [f"{plural(line.unit)} {line.label}" for line in lines]
    return [f"{name[0].upper()}{name[1:]}: {line.equation}" for name, line in zip(names, lines, strict=True)]


def _narrated(lines: Sequence[Step]) -> list[str]:
    middle = [("Then", "Next", "After that")[place % 3] for place in range(len(lines) - 2)]
    openings = ["First", *middle, "Finally" if middle else "Then"]
    return [f"{opening}, {_result(line)}." for opening, line in zip(openings, lines, strict=False)]


def _bulleted(lines: Sequence[Step]) -> list[str]:
    return [f"- {_result(line)}" for line in lines]


def _said(solution: Solution) -> str:
    return f"The answer is {quantity(solution.answer, solution.unit)}."


def _stated(solution: Solution) -> str:
    return f"Answer: {quantity(solution.answer, solution.unit)}"


def _boxed(solution: Solution) -> str:
    return f"The answer is \\boxed{{{plain(solution.answer)}}} {counted(solution.answer, solution.unit)}."


STYLES = {
    "numbered": (_numbered, _said),
    "bare": (_bare, _stated),
    "labelled": (_labelled, _said),
    "boxed": (_labelled, _boxed),
    "narrated": (_narrated, _said),
    "bulleted": (_bulleted, _boxed),
}


def write(solution: Solution, style: str) -> str:
    """The solution as text in one of STYLES."""
    write_lines, write_answer = STYLES[style]
    return "\n".join([*write_lines(solution.lines), write_answer(solution)])
