"""What a build has published, when it begins anew or the folder is not as it was; two files that are one thing."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest
from build_runs import no_plots, recipe_for, with_settings
from test_publish import make_rows, publish_rows

from cft_trl.cli import main
from cft_trl.data.files import expand_glob, files_of_split
from cft_trl.errors import CFTError
from cft_trl.hub.upload import published_files
from cft_trl.sources.local import load_local
from cft_trl.synthesis import build as building
from cft_trl.synthesis.build import build

__all__ = ["no_plots"]  # a fixture: used by its name

pytest.importorskip("openai")
pytestmark = pytest.mark.usefixtures("no_plots")


# ---- what was published before ----


def test_the_dataset_of_a_build_that_begins_anew_is_not_taken_for_the_new_one(tmp_path, monkeypatch, capsys):
    out, recipe = tmp_path / "out", recipe_for("reference")
    build(recipe, out)
    before = {name: file.read_bytes() for name, file in published_files(out).items()}

    def stopped(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(building, "run_filter", stopped)
    with pytest.raises(KeyboardInterrupt):
        build(with_settings(recipe, "filter", limit=2), out)
    assert "filter begins anew; what was published before lies in" in capsys.readouterr().err
    with pytest.raises(CFTError, match="a build that has not come to its end; the same `cft build` goes on with it"):
        load_local(out)
    with pytest.raises(CFTError, match="run the build to its end"):
        published_files(out)
    assert main(["push", str(out), "org/rows", "--dry-run"]) == 2
    assert "a build that has not come to its end" in capsys.readouterr().err
    earlier = {path.relative_to(out / ".earlier").as_posix(): path for path in (out / ".earlier").rglob("*")}
    assert all(earlier[name].read_bytes() == content for name, content in before.items() if name in earlier)
    assert "data/arithmetic__reference/train-00000-of-00001.parquet" in earlier
    monkeypatch.undo()
    assert build(with_settings(recipe, "filter", limit=2), out).reports["publish"].written == 2
    assert published_files(out)
    assert not (out / ".earlier").exists()


def test_what_is_pushed_has_the_sums_that_are_printed(tmp_path):
    publish_rows(tmp_path, make_rows(20))
    file = max(tmp_path.rglob("*.parquet"), key=lambda path: path.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)  # the size is the same
    with pytest.raises(CFTError, match="not as it was published"):
        published_files(tmp_path)


def test_the_card_of_a_folder_loads_what_is_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    from datasets import load_dataset

    for number in (20, 8):
        publish_rows(Path("out"), make_rows(number))
        calls = re.findall(r"load_dataset\((.*?)\)", (tmp_path / "out" / "README.md").read_text())
        loaded = [
            eval(f"load_dataset({call}, cache_dir={str(tmp_path / 'cache')!r})", {"load_dataset": load_dataset})
            for call in calls
        ]
        assert len(loaded[0]) == number
        assert 0 < len(loaded[1]) < number


# ---- two files for one thing ----


@pytest.mark.parametrize(
    "twins", [("train.jsonl", "train.jsonl.gz"), ("train.csv", "train.json"), ("a/x.parquet", "a/x.jsonl")]
)
def test_two_files_that_claim_to_be_the_same_are_refused(tmp_path, twins):
    for name in twins:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        with gzip.open(tmp_path / name, "w") if name.endswith(".gz") else open(tmp_path / name, "wb") as file:
            file.write(b"{}\n")
    names = [Path(name).name for name in sorted(twins)]
    for find in (lambda: files_of_split(tmp_path, "train"), lambda: expand_glob(f"{tmp_path}/**/*")):
        with pytest.raises(CFTError, match=f"{names[0]} and {names[1]} in .* both claim to be the same data"):
            find()
    (tmp_path / twins[0]).unlink()
    assert len(files_of_split(tmp_path, "train")) == 1
    shards = tmp_path / "shards"
    shards.mkdir()
    for name in ("train-00000.jsonl", "train-00001.jsonl", "test.jsonl"):
        (shards / name).write_text("{}\n")
    assert len(files_of_split(shards, "train")) == 2


def test_processbench_is_not_read_from_one_of_two_files(tmp_path):
    from cft_trl.evaluation.processbench import load_critic_rows

    for name in ("math.json", "math-old.json"):
        (tmp_path / name).write_text("[]")
    with pytest.raises(CFTError, match=r"both math-old.json and math.json would be ProcessBench's subset math"):
        load_critic_rows(str(tmp_path))
