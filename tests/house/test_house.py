"""The house: which room may use which. Every import counts, lazy ones and those for types alone too."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
# From the ground up. A room uses only rooms before it; the loose modules are under all of them.
FLOORS = [
    "data", "models", "generation", "grading", "sources", "planning", "evaluation", "hub", "training", "rewards",
    "synthesis", "experiments", "demo", "commands",
]  # fmt: skip
LOOSE = ["cft_trl.cli", "cft_trl.environment", "cft_trl.errors", "cft_trl.plots", "cft_trl.progress"]
ENTRY = ("cft_trl", "cft_trl.cli")  # they know every room by its name, to open it when it is asked for


def modules() -> dict[str, Path]:
    """Module -> file, of the package as it lies here."""
    found = {}
    for path in (REPOSITORY / "cft_trl").rglob("*.py"):
        name = ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = path
    return found


def imports(source: str, known: set[str]) -> set[str]:
    """The modules of ours that a source imports, wherever in it.

    Example:
        >>> sorted(imports("def f():\\n    from cft_trl.data import verdict", {"cft_trl.data", "cft_trl.data.verdict"}))
        ['cft_trl.data.verdict']
    """
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            below = {alias: f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in known else node.module for name in below.values()}
    return found & known


@pytest.fixture(scope="module")
def house() -> dict[str, set[str]]:
    files = modules()
    return {name: imports(path.read_text(encoding="utf-8"), set(files)) - {name} for name, path in files.items()}


def room(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in FLOORS else None


def test_no_import_goes_in_a_circle(house):
    # A package's own __init__ is loaded before anything in it, and imports nothing here.
    try:
        TopologicalSorter(house).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_no_room_uses_one_above_it(house):
    backwards = [
        f"{module} -> {used}"
        for module, uses in house.items()
        for used in uses
        if (one := room(module)) and (other := room(used)) and FLOORS.index(other) > FLOORS.index(one)
    ]
    assert backwards == []


def test_what_is_loose_is_little_and_uses_no_room(house):
    assert sorted(m for m in house if m.count(".") == 1 and modules()[m].name != "__init__.py") == LOOSE
    assert [m for m in LOOSE if m not in ENTRY and any(map(room, house[m]))] == []


def test_every_room_is_on_a_floor_and_on_the_map():
    folders = {path.name for path in (REPOSITORY / "cft_trl").iterdir() if list(path.glob("*.py"))}
    assert folders == set(FLOORS)
    contributing = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    tree = contributing.partition("```\ncft_trl/\n")[2].partition("```")[0]
    places = [tree.find(f"\n  {name}/ ") for name in FLOORS]
    assert min(places) >= 0
    assert places == sorted(places), "the map's order is that in which a room may use another"


def test_tests_lie_in_the_folders_of_their_rooms():
    files = [path for path in (REPOSITORY / "tests").rglob("*.py") if path.name != "conftest.py"]
    assert {path.parent.relative_to(REPOSITORY / "tests").as_posix() for path in files} == {*FLOORS, "house"}
    assert len({path.name for path in files}) == len(files), "they are imported by their bare names"


def test_no_file_outgrows_a_reader():
    long = {
        str(path.relative_to(REPOSITORY)): lines
        for folder in ("cft_trl", "tests", "benchmarks", "docs", "recipes", "space")
        for path in (REPOSITORY / folder).rglob("*.py")
        if (lines := path.read_text(encoding="utf-8").count("\n")) > 400
    }
    assert long == {}


# Two classes of one name, and why.
DEFINED_TWICE = {
    "Number": "the paper grader follows no change of the strict one, so it has its own reading of numbers",
}


def test_a_class_name_is_one_thing():
    found: dict[str, list[str]] = {}
    for module, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name.lstrip("_"), []).append(module)
    assert {name: where for name, where in found.items() if len(where) > 1}.keys() == DEFINED_TWICE.keys()
