"""What pyproject.toml cannot say: recipes and the Space travel in the wheel, and the package page has no dead links."""

from __future__ import annotations

import re
import shutil
import tomllib
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent
SHIPPED = ("recipes", "hub_datasets", "space")  # what `cft recipes` copies (cft_trl/commands/recipes.py)


class BuildWithFolders(build_py):
    """Puts the folders that the README's commands name into the package; a clone has them beside it."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        for name in SHIPPED:
            target = Path(self.build_lib) / "cft_trl" / "_shipped" / name
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(HERE / name, target, ignore=shutil.ignore_patterns("__pycache__", ".*"))


def package_page(readme: str, source: str | None) -> str:
    """The README for a package index, which shows it beside none of the files it links to.

    Args:
        source: Address of the repository (`[project.urls] Source`). Without one a link is its text, and a picture its
            description.
    """

    def image(match: re.Match[str]) -> str:
        return f"![{match[1]}]({source}/raw/main/{match[2]})" if source else f"*{match[1]}*"

    def link(match: re.Match[str]) -> str:
        return f"[{match[1]}]({source}/blob/main/{match[2]})" if source else match[1]

    elsewhere = r"(?!https?://|#|mailto:)"
    readme = re.sub(rf"!\[([^\]]*)\]\({elsewhere}([^)]+)\)", image, readme)
    return re.sub(rf"(?<!!)\[([^\]]+)\]\({elsewhere}([^)]+)\)", link, readme)


settings = tomllib.loads((HERE / "pyproject.toml").read_text(encoding="utf-8"))
source = settings["project"].get("urls", {}).get("Source", "/ORG/")
setup(
    cmdclass={"build_py": BuildWithFolders},
    long_description=package_page(
        (HERE / "README.md").read_text(encoding="utf-8"),
        None if "/ORG/" in source else source,  # not published yet: a link would lead nowhere
    ),
    long_description_content_type="text/markdown",
)
