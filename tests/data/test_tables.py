"""The package's tables in YAML: a broken one is told in a line that says where, a changed one is another source."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cft_trl.data import digests
from cft_trl.data.tables import read_table
from cft_trl.errors import CFTError
from cft_trl.generation import identities
from cft_trl.sources import reference_wording
from cft_trl.sources.arithmetic import TEMPLATES, bank, english

WORDING, ENGLISH, LEVEL_1 = reference_wording.FILE, english.FILE, bank.FILES[1]
READERS = {
    WORDING: reference_wording.read_wording,
    ENGLISH: english.read_vocabulary,
    LEVEL_1: lambda path: bank.read_templates(path, 1),
}
PENCILS = "numbers: boxes=2..9 each=3..9 given=2..9"
BROKEN = [  # the file, what is changed in it, and what is said of it
    (WORDING, "going_on:", "gong_on:", "unknown key 'gong_on' (did you mean 'going_on'?)"),
    (WORDING, "right:", "lucky:", "line 41: 'lucky' stands there twice"),
    (WORDING, '- "{eq}, correct."', '- "{eq.op}, correct."', "right: '{eq.op}, correct.' has a slot that is none of"),
    (WORDING, '- "{eq}, correct."', '- "{eq!r}, correct."', "right: '{eq!r}, correct.' has a slot that is none of"),
    (WORDING, '- "So {rest}."', '- "So {rest."', "going_on: 'So {rest.' cannot be filled (expected '}' before end"),
    (WORDING, '- "So {rest}."', "- 12", "'going_on' is ['Then {rest}.', "),
    (WORDING, '- "So {rest}."', '- "So {rest}.', "not YAML ("),
    (WORDING, "it misread {was}", "it misread {missed}", "none of {eq}, {quote}, {got}, {answer}, {was}, {read}"),
    (ENGLISH, "measures:", "measure:", "unknown key 'measure' (did you mean 'measures'?)"),
    (ENGLISH, "pronouns: [he, his, him]", "pronouns: [he, his]", "people: 'pronouns' is ['he', 'his'], which is not"),
    (ENGLISH, "foot: feet", "foot: no", "'plurals' is {"),
    (LEVEL_1, "  topic: school\n", "", "template pencil_boxes: 'topic' is missing"),
    (LEVEL_1, "- name: saving_up\n", "", "'topic' stands there twice"),
    (LEVEL_1, "- name: saving_up", "- name: wages", "template wages: there is another of this name"),
    (LEVEL_1, PENCILS, "numbers: boxes=2..9 each=3..9", "template pencil_boxes: step 'left' uses 'given'"),
    (LEVEL_1, PENCILS, f"{PENCILS} boxes=2..3", "template pencil_boxes: number 'boxes' stands there twice"),
    (LEVEL_1, PENCILS, f"{PENCILS} more=9..2", "template pencil_boxes: number 'more' has no value"),
    (LEVEL_1, PENCILS, f"{PENCILS} more=2..9/0", "template pencil_boxes: number 'more=2..9/0' is not like n=2..9"),
    (LEVEL_1, PENCILS, f"{PENCILS} more", "template pencil_boxes: number 'more' is not like n=2..9"),
    (LEVEL_1, PENCILS, f"{PENCILS} more=few*each", "number 'more' is computed from one that does not stand before"),
    (LEVEL_1, "pencil|marker", "pencil||marker", "template pencil_boxes: word 'item' has an empty alternative"),
    (
        LEVEL_1,
        "total = boxes * each |",
        "total = boxes ** each |",
        "pencil_boxes: step 'total = boxes ** each",
    ),
    (LEVEL_1, "left = total -", "total = total -", "template pencil_boxes: step 'total' has the name of another"),
    (LEVEL_1, "{name} has {boxes:box}", "{name} has {box:box}", "pencil_boxes: nothing fills {box:box} in '{name}"),
    (LEVEL_1, "{name} has {boxes:box}", "{nam} has {boxes:box}", "pencil_boxes: nothing fills {nam} in '{nam} has"),
    (LEVEL_1, "{name} has {boxes:box}", "{name has {boxes:box}", "pencil_boxes: a brace of '{name has"),
    (LEVEL_1, "item | left\n", "item | {name} has left\n", "pencil_boxes: nothing fills {name} in '{name} has left'"),
]


@pytest.mark.parametrize(("table", "old", "new", "told"), BROKEN, ids=[told[:40] for *_, told in BROKEN])
def test_a_broken_table_says_where(tmp_path, table, old, new, told):
    file = tmp_path / table.name
    text = table.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(CFTError) as error:
        READERS[table](file)
    assert str(error.value).startswith(str(file))
    assert told in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "12", "[]", "- 12", "? [a]\n: b", "a: b\xff", "&a [*a]"])
@pytest.mark.parametrize("table", READERS, ids=lambda table: table.name)
def test_what_is_no_table_is_refused(tmp_path, table, text):
    file = tmp_path / table.name
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(CFTError, match=f"^{file}"):
        READERS[table](file)


def test_a_table_that_is_not_there_says_so(tmp_path):
    with pytest.raises(CFTError, match=r"none\.yaml: cannot be read"):
        read_table(tmp_path / "none.yaml")


def test_no_table_is_read_before_a_problem_is_drawn(tmp_path):
    """In a process of its own: a broken table harms nothing until it is needed, and one level needs no other."""
    shutil.copytree(Path(bank.__file__).parents[2], tmp_path / "cft_trl", ignore=shutil.ignore_patterns("__pycache__"))
    for file in (tmp_path / "cft_trl/sources").rglob("*.yaml"):
        file.write_text("][")
    copied = [tmp_path / "cft_trl/sources/arithmetic" / table.name for table in (ENGLISH, LEVEL_1)]
    for table, copy in zip((ENGLISH, LEVEL_1), copied, strict=True):
        shutil.copy(table, copy)
    code = (
        "import sys; from cft_trl.sources import reference, arithmetic; assert 'yaml' not in sys.modules\n"
        "rows = arithmetic.arithmetic_records(3, levels=(1, 2), with_critiques=False)\n"
        "print(next(arithmetic.problems(levels=(1,))).query)\n"
        "try: next(rows)\nexcept ValueError as error: print(error)"
    )
    told = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    query, error = told.stdout.splitlines()
    assert query.endswith("?")
    assert error.startswith(f"{copied[1].with_name('level2.yaml')}, line 1: not YAML (")


def test_the_levels_are_known_without_reading_them(monkeypatch):
    monkeypatch.setattr(bank, "read_table", lambda path: pytest.fail(f"{path} is read"))
    bank._templates.cache_clear()
    assert list(TEMPLATES) == [0, 1, 2, 3]
    assert 3 in TEMPLATES
    assert 4 not in TEMPLATES


@pytest.mark.parametrize("name", [name for name in identities._REFERENCE if name.endswith(".yaml")])
def test_a_changed_table_is_another_reference_teacher(tmp_path, monkeypatch, name):
    package = Path(identities.__file__).parents[1]
    for file in identities._REFERENCE:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(package / file, tmp_path / file)
    monkeypatch.setattr(identities, "__file__", str(tmp_path / "generation/identities.py"))
    before = identities.reference_identity()
    shutil.copytree(tmp_path, tmp_path / "other")
    (tmp_path / "other" / name).write_text((tmp_path / name).read_text() + "# Another comment.\n")
    monkeypatch.setattr(identities, "__file__", str(tmp_path / "other/generation/identities.py"))
    assert identities.reference_identity() != before


@pytest.mark.parametrize("table", [*bank.FILES.values(), ENGLISH, WORDING], ids=lambda table: table.name)
def test_a_changed_table_is_another_source(tmp_path, monkeypatch, table):
    """Builds, and the rows of the quickstart, are made anew where the package's digest is another."""
    package = Path(digests.__file__).parents[1]
    before = digests.package_digest.__wrapped__()
    copy = tmp_path / "cft_trl"
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(digests, "__file__", str(copy / "data/digests.py"))
    assert digests.package_digest.__wrapped__() == before
    file = copy / table.relative_to(package)
    file.write_text(file.read_text() + "# Another comment.\n")
    assert digests.package_digest.__wrapped__() != before
