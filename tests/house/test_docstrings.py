"""What public functions say of themselves: three arguments or more are described, and what they raise is said."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
BUILDS = ("__init__", "__post_init__")  # what they do is said by their class

Function = ast.FunctionDef | ast.AsyncFunctionDef


def lacking(source: str) -> list[str]:
    """The public functions of a source whose docstrings lack `Args` or `Raises`, with what they lack.

    Example:
        >>> lacking("def f(a, b, c):\\n    raise ValueError(a)")
        ['f: Args', 'f: Raises']
    """
    return [
        f"{name}: {part}"
        for name, function, text in public(ast.parse(source))
        for part, needed in (("Args", len(arguments(function)) >= 3), ("Raises", raises(function)))
        if needed and part not in text and not (part == "Args" and function.name in BUILDS)
    ]


def public(module: ast.Module) -> Iterator[tuple[str, Function, str]]:
    """Name, node and docstring of each public function and method; of what builds an object, its class' docstring.

    A method without one, in a class with a base, has its base's, as `inspect.getdoc` says.
    """
    for node in module.body:
        if isinstance(node, Function) and not node.name.startswith("_"):
            yield node.name, node, ast.get_docstring(node) or ""
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            inherits = any(getattr(base, "id", "") != "Protocol" for base in node.bases)
            for method in node.body:
                if isinstance(method, Function) and (method.name in BUILDS or not method.name.startswith("_")):
                    said = ast.get_docstring(node if method.name in BUILDS else method)
                    if said is not None or not inherits:
                        yield f"{node.name}.{method.name}", method, said or ""


def arguments(function: Function) -> list[str]:
    every = function.args
    named = [*every.posonlyargs, *every.args, *every.kwonlyargs, *filter(None, (every.vararg, every.kwarg))]
    return [argument.arg for argument in named if argument.arg not in ("self", "cls")]


def raises(function: Function) -> bool:
    """Whether it raises an exception itself, and does not catch it; functions inside it do not count."""
    inside: list[tuple[ast.AST, str]] = [(node, "") for node in function.body]
    while inside:
        node, caught = inside.pop()
        if isinstance(node, ast.Raise) and node.exc is not None:
            call = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            if ast.unparse(call) not in caught:
                return True
        if isinstance(node, ast.Try):
            names = "".join(ast.unparse(handler.type) for handler in node.handlers if handler.type)
            inside.extend((part, caught + names) for part in node.body)
            inside.extend((part, caught) for part in [*node.handlers, *node.orelse, *node.finalbody])
        elif not isinstance(node, Function | ast.Lambda | ast.ClassDef):
            inside.extend((part, caught) for part in ast.iter_child_nodes(node))
    return False


PACKAGE = REPOSITORY / "cft_trl"
FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_public_functions_say_what_they_take_and_raise(path):
    assert lacking(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('def f(a, b): "x"', []),
        ('def f(a, *b, c): "x"', ["f: Args"]),
        ('def f(a, b, c): """x\n\n    Args:\n        a, b, c: x\n    """', []),
        ("def _f(a, b, c): pass", []),
        ("class A:\n    def f(self, a, b): pass\n    def g(self, a, b, **c): pass", ["A.g: Args"]),
        ("class A:\n    def __init__(self, a, b, c):\n        raise ValueError", ["A.__init__: Raises"]),
        ('class A:\n    "Raises: ValueError."\n    def __init__(self, a, b, c):\n        raise ValueError', []),
        ("class _A:\n    def f(self, a, b, c): pass", []),
        ("def f():\n    try:\n        g()\n    except ValueError:\n        raise", []),
        ("def f():\n    try:\n        raise A('x')\n    except (A, B):\n        pass", []),
        ("def f():\n    try:\n        raise A('x')\n    except B:\n        raise A", ["f: Raises"]),
        ("class A(B):\n    def f(self, a, b, c): pass", []),
        ("class A(Protocol):\n    def f(self, a, b, c): pass", ["A.f: Args"]),
        ("def f():\n    if g():\n        raise ValueError", ["f: Raises"]),
        ("def f():\n    def g():\n        raise ValueError\n    return g", []),
    ],
)
def test_the_test_finds_what_is_missing(source, found):
    assert lacking(source) == found
