"""The notebook is a script: it is well formed, and the slow test runs it whole, on fewer rows."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import make_ipynb
import pytest
from conftest import REPOSITORY

NOTEBOOK = REPOSITORY / "notebooks" / "critique_fine_tuning.py"
CELLS = re.split(r"^# %%", NOTEBOOK.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]  # before it: ruff's line


def test_cells_are_code_or_text():
    assert len(CELLS) > 15
    for number, cell in enumerate(CELLS):
        head, _, body = cell.partition("\n")
        assert head in ("", " [markdown]"), f"cell {number}: {head}"
        if head:
            assert all(line.startswith("#") for line in body.strip().splitlines()), f"cell {number}"
        else:
            compile(body, f"cell {number}", "exec")


def test_the_notebook_for_colab_agrees_with_the_script():
    written = make_ipynb.NOTEBOOK.read_text(encoding="utf-8")
    assert written == make_ipynb.notebook(NOTEBOOK.read_text(encoding="utf-8")), "run: python notebooks/make_ipynb.py"
    cells = json.loads(written)["cells"]
    assert len({cell["id"] for cell in cells}) == len(cells) == len(CELLS) + 1
    assert "%pip install" in "".join(cells[1]["source"])
    for cell, part in zip(cells[:1] + cells[2:], CELLS, strict=True):
        head, _, body = part.partition("\n")
        assert cell["cell_type"] == ("markdown" if head else "code")
        words = re.sub(r"^# ?", "", body, flags=re.MULTILINE) if head else body
        assert "".join(cell["source"]) == words.strip("\n")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_notebook_runs(tmp_path):
    environment = {**os.environ, "NOTEBOOK_ROWS": "24", "PYTHONPATH": str(REPOSITORY), "HF_HUB_OFFLINE": "1"}
    ran = subprocess.run([sys.executable, NOTEBOOK], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-3000:]
    before, after = re.search(r"critique loss ([\d.]+) -> ([\d.]+)", ran.stdout).groups()
    assert float(after) < 0.7 * float(before)
    assert "train: rows 24: kept 24" in ran.stdout
    assert re.search(r"verdicts of free critiques: \d+/4 -> \d+/4 \(95%", ran.stdout)
    assert ran.stdout.count("--- ") == 4 + 3
    assert (tmp_path / "runs/notebook/training.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "runs/notebook/model.safetensors").is_file()
