"""One line of `cft doctor`, and the commands that stand beside what is missing."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

DISTRIBUTION = "cft-trl"


@dataclass(frozen=True)
class Finding:
    """One line of the table.

    Attributes:
        group: "basics", "packages", "machine", "models and Hub", "extras" or "settings".
        name: What was looked at.
        state: "ok"; "note": works, but differs from what was tested or may surprise; "missing": optional and not
            there; "broken": training cannot work.
        told: What was found.
        mend: The command that mends it, or "".
    """

    group: str
    name: str
    state: str
    told: str
    mend: str = ""


def pip() -> str:
    """`python -m pip install` of this environment, as it would be typed here."""
    python = Path(sys.executable)
    with_path = python.relative_to(Path.cwd()) if python.is_relative_to(Path.cwd()) else python
    return f"{shlex.quote(str(with_path))} -m pip install"


def _source() -> str:
    """What `pip install` is given: the clone that the package is installed from, or its name."""
    try:
        origin = json.loads(metadata.distribution(DISTRIBUTION).read_text("direct_url.json") or "{}")
    except (metadata.PackageNotFoundError, ValueError):
        origin = {}
    if origin.get("dir_info", {}).get("editable"):
        folder = Path(origin["url"].removeprefix("file://"))
        return "." if folder == Path.cwd() else str(folder)
    return DISTRIBUTION


def install_extra(extra: str) -> str:
    """The command that installs what an extra needs."""
    source = _source()
    editable = "" if source == DISTRIBUTION else "-e "
    return f"{pip()} {editable}{shlex.quote(f'{source}[{extra}]')}"


def reinstall() -> str:
    """The command that installs the package anew."""
    source = _source()
    return f"{pip()} --force-reinstall {'' if source == DISTRIBUTION else '-e '}{shlex.quote(source)}"
