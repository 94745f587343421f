"""What the site takes from elsewhere, so that it stands in one place. From pyproject.toml:

    {{ version }}       0.1.0
    {{ repository }}    https://github.com/ORG/cft-trl

From README.md it takes a section, in the place of a line such as

    <!-- README: Results so far -->

mkdocs calls these functions (mkdocs.yml, `hooks`).
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

HERE = Path(__file__).parents[1]


def facts() -> dict[str, str]:
    """Name -> what stands for it on the pages."""
    project = tomllib.loads((HERE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {"version": project["version"], "repository": project["urls"]["Source"]}


def on_config(config: Any) -> Any:
    """The line at the foot of every page. Not the theme's own `repo_url`: that asks the repository's server."""
    known = facts()
    config["copyright"] = f'cft-trl {known["version"]} · <a href="{known["repository"]}">repository</a> · Apache-2.0'
    return config


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page with its facts filled in."""
    for name, value in facts().items():
        markdown = markdown.replace("{{ " + name + " }}", value)
    return re.sub(r"<!-- README: (.+) -->", lambda found: readme_section(found[1]), markdown)


def readme_section(heading: str) -> str:
    """A section of README.md as a page of docs/ can hold it: links to other pages go there, the others name their file.

    Raises:
        ValueError: There is no such section.
    """
    text = (HERE / "README.md").read_text(encoding="utf-8") + "\n## "
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## )", text, re.DOTALL | re.MULTILINE)
    if not found:
        raise ValueError(f"README.md has no section {heading!r}")
    pages = re.sub(r"\]\(docs/([^)]+)\)", r"](\1)", found[1].strip())
    return re.sub(r"\[([^\]]+)\]\((?!https?://|#|[\w-]+\.md)([^)]+)\)", r"\1: `\2`", pages)
