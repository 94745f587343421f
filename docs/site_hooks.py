"""What the site takes from pyproject.toml, so that it stands in one place: version and repository.

    {{ version }}       0.1.0
    {{ repository }}    https://github.com/ORG/cft-trl

mkdocs calls these functions (mkdocs.yml, `hooks`).
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


def facts() -> dict[str, str]:
    """Name -> what stands for it on the pages."""
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
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
    return markdown
