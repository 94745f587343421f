"""pyproject.toml's ranges and the three constraints files: pins within ranges, the lowest at their lower ends."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import distributions

import pytest
from conftest import REPOSITORY
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TOOLS = {"dev", "docs"}  # what the tests run with, not what the package does
GPU = {"gpu", "vllm"}


def requirements(*left_out: str) -> list[Requirement]:
    """What the package and its extras ask for, but for some extras."""
    extras = PROJECT["optional-dependencies"]
    assert set(left_out) <= set(extras)
    lines = PROJECT["dependencies"] + [line for name in extras if name not in left_out for line in extras[name]]
    return [asked for asked in map(Requirement, lines) if asked.name != PROJECT["name"]]


def pins(name: str) -> dict[str, Version]:
    """Package -> version of a constraints file; names and versions only, so that it works with any index."""
    lines = (REPOSITORY / name).read_text(encoding="utf-8").splitlines()
    pinned = [line for line in lines if not line.startswith("#")]
    assert [line for line in pinned if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []
    found = {
        canonicalize_name(package): Version(version) for package, _, version in (p.partition("==") for p in pinned)
    }
    assert len(found) == len(pinned)
    return found


@pytest.mark.parametrize(
    ("name", "left_out"),
    [("constraints.txt", GPU), ("constraints-lowest.txt", GPU), ("constraints-gpu.txt", {*TOOLS, "ray"})],
)
def test_what_is_pinned_is_allowed(name, left_out):
    pinned = pins(name)
    asked = requirements(*left_out)
    assert [str(a) for a in asked if pinned.get(canonicalize_name(a.name)) is None] == []
    assert [str(a) for a in asked if not a.specifier.contains(pinned[canonicalize_name(a.name)])] == []


def test_the_lowest_versions_are_the_lower_ends():
    pinned = pins("constraints-lowest.txt")
    for asked in requirements(*TOOLS, *GPU):
        lowest = [Version(part.version) for part in asked.specifier if part.operator in (">=", "==")]
        named = [version for version in lowest if version == pinned[canonicalize_name(asked.name)]]
        assert named, f"{asked} is not tested at its lower end: {pinned[canonicalize_name(asked.name)]} is"


def test_what_is_pinned_and_installed_runs_on_the_lowest_python():
    """Of 3.11 too: Debian 12 has 3.11.2."""
    pinned = pins("constraints.txt")
    lowest = PROJECT["requires-python"].removeprefix(">=") + ".0"
    found = [one for one in distributions() if pinned.get(canonicalize_name(one.name)) == Version(one.version)]
    assert len(found) > 100
    needs = {f"{one.name} {one.version}": one.metadata["Requires-Python"] or "" for one in found}
    assert {name: asked for name, asked in needs.items() if not SpecifierSet(asked).contains(lowest)} == {}
