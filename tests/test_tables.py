"""The package's tables in YAML: a broken one is told in a line that says where, a changed one is another source."""

import shutil
from pathlib import Path

import pytest

from cft_trl.errors import CFTError
from cft_trl.generation import identities
from cft_trl.sources.reference_wording import FILE, read_wording

BROKEN_WORDINGS = {  # what is changed in the file, and what is said of it
    ("going_on:", "gong_on:"): "unknown key 'gong_on' (did you mean 'going_on'?)",
    ("right:", "lucky:"): "line 41: 'lucky' stands there twice",
    ('- "{eq}, correct."', '- "{eq.op}, correct."'): "right: '{eq.op}, correct.' has a slot that is none of {eq}",
    ('- "{eq}, correct."', '- "{eq!r}, correct."'): "right: '{eq!r}, correct.' has a slot that is none of {eq}",
    ('- "So {rest}."', '- "So {rest."'): "going_on: 'So {rest.' cannot be filled (expected '}' before end of string)",
    ('- "So {rest}."', "- 12"): "'going_on' is ['Then {rest}.', ",
    ('- "So {rest}."', '- "So {rest}.'): "not YAML (",
    (
        "it misread {was}",
        "it misread {missed}",
    ): "none of {eq}, {quote}, {got}, {answer}, {was}, {read}",
}


@pytest.mark.parametrize(("old", "new"), BROKEN_WORDINGS)
def test_a_broken_wording_says_where(tmp_path, old, new):
    file = tmp_path / "wording.yaml"
    assert old in FILE.read_text()
    file.write_text(FILE.read_text().replace(old, new))
    with pytest.raises(CFTError) as error:
        read_wording(file)
    assert str(error.value).startswith(str(file))
    assert BROKEN_WORDINGS[old, new] in str(error.value)
    assert "\n" not in str(error.value)


def test_no_wording_no_critique(tmp_path):
    with pytest.raises(CFTError, match="cannot be read"):
        read_wording(tmp_path / "none.yaml")


@pytest.mark.parametrize("name", [name for name in identities._REFERENCE if name.endswith(".yaml")])
def test_a_changed_table_is_another_reference_teacher(tmp_path, monkeypatch, name):
    package = Path(identities.__file__).parents[1]
    for file in identities._REFERENCE:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(package / file, tmp_path / file)
    (tmp_path / name).write_text((tmp_path / name).read_text() + "# Another comment.\n")
    before = identities.reference_identity()
    monkeypatch.setattr(identities, "__file__", str(tmp_path / "generation/identities.py"))
    assert identities.reference_identity() != before
