"""Bugs in small functions: each mutant differs from the function in one place, and that place is known.

    "if x < 0:"   ->   Mutant(code="…if x <= 0:…", line=2, was="if x < 0:", now="if x <= 0:")

The places are those where people slip: comparisons, operators, constants off by one, `and` for `or`, a lost `not`.
Whether a mutant is wrong is not decided here but by tests, for some of them come to the same.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass

_COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.Gt), ast.LtE: (ast.Lt, ast.GtE), ast.Gt: (ast.GtE, ast.Lt), ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,),
}  # fmt: skip
_OPERATORS: dict[type[ast.operator], tuple[type[ast.operator], ...]] = {
    ast.Add: (ast.Sub,), ast.Sub: (ast.Add,), ast.Mult: (ast.Add,), ast.Div: (ast.FloorDiv,),
    ast.FloorDiv: (ast.Mod,), ast.Mod: (ast.FloorDiv,),
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """A function with a bug. `line` counts its lines from 1; `was` and `now` are that line before and after."""

    code: str
    line: int
    was: str
    now: str


def normal_form(code: str) -> str:
    """The code as Python writes it, so that a mutant differs in its bug alone."""
    return ast.unparse(ast.parse(code))


def mutants(code: str) -> list[Mutant]:
    """All mutants of a function, in the order of their places.

    Args:
        code: In the form of `normal_form`.

    Example:
        >>> [mutant.now.strip() for mutant in mutants("def f(x):\\n    return x > 1")]
        ['return x >= 1', 'return x < 1', 'return x > 2', 'return x > 0']
    """
    tree = ast.parse(code)
    lines = code.split("\n")
    found = []
    for at, node in enumerate(ast.walk(tree)):
        for changed in _changed(node):
            other = copy.deepcopy(tree)
            place = list(ast.walk(other))[at]
            _replace(other, place, changed)
            now = ast.unparse(ast.fix_missing_locations(other)).split("\n")
            places = [line for line in range(min(len(lines), len(now))) if lines[line] != now[line]]
            if len(now) == len(lines) and len(places) == 1:
                [line] = places
                found.append(Mutant("\n".join(now), line + 1, lines[line], now[line]))
    return sorted({mutant.code: mutant for mutant in found}.values(), key=lambda mutant: mutant.line)


def renamed(code: str, names: dict[str, str]) -> str:
    """The code with other names for its variables and itself.

    Example:
        >>> renamed("def f(x):\\n    return x + 1", {"f": "next_one", "x": "number"})
        'def next_one(number):\\n    return number + 1'
    """
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            node.id = names.get(node.id, node.id)
        elif isinstance(node, ast.arg):
            node.arg = names.get(node.arg, node.arg)
        elif isinstance(node, ast.FunctionDef):
            node.name = names.get(node.name, node.name)
    return ast.unparse(tree)


def _changed(node: ast.AST) -> Iterator[ast.AST]:
    """What one node may become."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        for operator in _COMPARISONS.get(type(node.ops[0]), ()):
            yield ast.Compare(node.left, [operator()], node.comparators)
    elif isinstance(node, ast.BinOp):
        for other in _OPERATORS.get(type(node.op), ()):
            yield ast.BinOp(node.left, other(), node.right)
    elif isinstance(node, ast.AugAssign):
        for other in _OPERATORS.get(type(node.op), ()):
            yield ast.AugAssign(node.target, other(), node.value)
    elif isinstance(node, ast.BoolOp):
        yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield node.operand
    elif isinstance(node, ast.Constant) and type(node.value) is int:
        yield ast.Constant(node.value + 1)
        if node.value > 0:
            yield ast.Constant(node.value - 1)


def _replace(tree: ast.AST, old: ast.AST, new: ast.AST) -> None:
    for parent in ast.walk(tree):
        for name, value in ast.iter_fields(parent):
            if value is old:
                setattr(parent, name, copy.deepcopy(new))
                return
            if isinstance(value, list) and any(item is old for item in value):
                setattr(parent, name, [copy.deepcopy(new) if item is old else item for item in value])
                return
