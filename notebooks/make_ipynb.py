"""Writes critique_fine_tuning.ipynb, for Colab and Kaggle, from critique_fine_tuning.py, which is what is edited.

    python notebooks/make_ipynb.py      # tests/house/test_notebook.py fails where the two do not agree

A cell of the script begins with "# %%" (code) or "# %% [markdown]". The notebook has one cell more: the installation.
"""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
SCRIPT = FOLDER / "critique_fine_tuning.py"
NOTEBOOK = SCRIPT.with_suffix(".ipynb")


def notebook(script: str) -> str:
    """The notebook's text, nbformat 4.5, without outputs."""
    cells = [_cell(number, text) for number, text in enumerate(re.split(r"^# %%", script, flags=re.MULTILINE)[1:])]
    cells.insert(1, {"cell_type": "code", "id": "install"} | _code(_install()))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    about = {"kernelspec": kernel, "language_info": {"name": "python"}}
    made = {"cells": cells, "metadata": about, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


def _install() -> str:
    project = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return (
        "# On Colab and Kaggle; not needed where cft-trl is installed.\n"
        f'%pip install -q "cft-trl[quickstart] @ git+{project["urls"]["Source"]}"'
    )


def _cell(number: int, text: str) -> dict[str, Any]:
    head, _, body = text.partition("\n")
    body = body.strip("\n")
    if "[markdown]" in head:
        words = "\n".join(line.removeprefix("#").removeprefix(" ") for line in body.splitlines())
        return {"cell_type": "markdown", "id": f"cell-{number}", "metadata": {}, "source": _lines(words)}
    return {"cell_type": "code", "id": f"cell-{number}"} | _code(body)


def _code(text: str) -> dict[str, Any]:
    return {"execution_count": None, "metadata": {}, "outputs": [], "source": _lines(text)}


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


if __name__ == "__main__":
    NOTEBOOK.write_text(notebook(SCRIPT.read_text(encoding="utf-8")), encoding="utf-8")
