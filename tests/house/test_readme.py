"""README.md as a whole; its blocks are tested with those of docs/ in test_docs.py."""

from __future__ import annotations

import re

import pytest
from conftest import REPOSITORY, make_model
from doc_blocks import blocks_of

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def test_the_python_example_trains(tokenizers, tmp_path):
    [block] = [block for block in blocks_of(REPOSITORY / "README.md") if block.language == "python"]
    make_model(tokenizers("chatml")).save_pretrained(tmp_path / "model")
    tokenizers("chatml").save_pretrained(tmp_path / "model")
    code = block.text
    for old, new in (("smollm2-135m", str(tmp_path / "model")), ("runs/mine", str(tmp_path / "out")), ("150", "12")):
        assert old in code
        code = code.replace(old, new)
    exec(compile(code, "README.md", "exec"), {})
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_rooms_of_the_house_exist():
    """The map is in CONTRIBUTING.md, with a line per room, in the order in which a room may use those before it."""
    assert "a map of the code: [CONTRIBUTING.md](CONTRIBUTING.md)" in README
    contributing = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    tree = contributing.partition("## Where things live")[2].partition("```\n")[2].partition("```")[0]
    assert tree.startswith("cft_trl/\n")
    rooms = re.findall(r"^(?:  )?(\w+/)", tree, re.MULTILINE)
    assert len(rooms) > 15
    files = re.findall(r"\w+\.(?:py|md)", tree)
    packages = {path.parent.name for path in (REPOSITORY / "cft_trl").glob("*/__init__.py")}
    assert packages - {"templates"} <= {room.strip("/") for room in rooms}
    for name in rooms + files:
        assert list(REPOSITORY.glob(name)) or list(REPOSITORY.glob(f"*/{name}")), name


def test_it_is_short():
    """What it is, two commands, ten lines, results, links: the rest is on the pages."""
    assert len(README.splitlines()) < 130
    assert README.count("![") == 1
    pages = {path.name for path in (REPOSITORY / "docs").glob("*.md")} - {"index.md"}
    assert not [page for page in sorted(pages) if f"(docs/{page})" not in README]


def test_links_and_pictures_exist():
    links = re.findall(r"\]\((?!https?://)([^)#]+)[^)]*\)", README)
    assert len(links) > 15
    assert not [link for link in links if not (REPOSITORY / link).exists()]


@pytest.mark.parametrize("column", range(1, 5))
def test_the_table_of_features_has_no_empty_cell(column):
    page = (REPOSITORY / "docs" / "comparison.md").read_text(encoding="utf-8")
    table = page.partition("## Beside other tools")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("| ")]
    assert len(rows) > 10
    assert all(len(row) == 5 and row[column].strip() for row in rows)
