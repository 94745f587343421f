"""Which stages of a build are done: for each a hash of all that its files follow from.

    out/stages/done.json    {"source": "9f0c…", "respond": "41ab…", …, "seen": {"org/rows": "b101308f…"}}

    settings and input      of every stage, and the hash of the stage before it
    code                    of this package, whatever of it changed: what costs nothing but time is made anew
    source                  its files' contents; of a Hub id the commit, at which it is then read
    respond, critique, …    who is asked, by identity (known_teachers.py)
    respond, filter         the versions of the libraries that grade answers and tell languages
    decontaminate           the benchmarks' files, or their commits on the Hub

`seen` are the commits that the Hub last told; where it does not answer, they stand. The dataset of a build that begins
anew is no longer that build's, so it is moved to `out/.earlier/` until the new one is there.
"""

from __future__ import annotations

import glob
import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from cft_trl.data.digests import content_digest, file_digest, files_digest, package_digest
from cft_trl.data.folders import write_text
from cft_trl.data.hub_commits import commit_now
from cft_trl.errors import CFTError
from cft_trl.grading.benchmarks import BENCHMARKS, FOLDER_VARIABLE, benchmark_file, pinned_revision
from cft_trl.hub.upload import PUBLISHED
from cft_trl.sources.corpus import CORPORA, SourceSettings
from cft_trl.synthesis.recipe import Recipe, plain

EARLIER = ".earlier"
_SEEN = "seen"
_LIBRARIES = ("mpmath", "py3langid")


class Marks:
    """The marks of a build's folder.

    Attributes:
        done: Stage -> its mark; also what the tasks' files were made from, under "tasks".
        moved: Hub id -> (the commit that was seen before, the one seen now), where they differ.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "stages" / "done.json"
        self.moved: dict[str, tuple[str, str]] = {}
        self._asked: dict[str, str | None] = {}  # of the Hub, once a run
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
            self._seen = dict(found.pop(_SEEN, {}))
            self.done: dict[str, str] = dict(found)
        except (OSError, ValueError, TypeError, AttributeError):
            self.done, self._seen = {}, {}

    def write(self) -> None:
        """Keeps the marks.

        Raises:
            OSError: The disk is full.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_text(self.path, json.dumps({**self.done, _SEEN: self._seen}, indent=1))

    def keep_only(self, names: tuple[str, ...]) -> None:
        """Drops every other mark: whatever ends the next stage, those after it are not taken for done."""
        self.done = {name: mark for name, mark in self.done.items() if name in names}
        self.write()

    def of(self, recipe: Recipe, stage: str, before: str, more: Mapping[str, Any]) -> str:
        """The mark of a stage, as things are now.

        Args:
            before: The mark of the stage before.
            more: What else its files follow from.
        """
        settings = getattr(recipe, stage)
        content = {
            "code": package_digest(),
            "stage": stage,
            "settings": plain(settings),
            "before": before,
            "more": more,
        }
        if stage == "source":
            content["content"] = self.source(settings)
        if stage == "decontaminate":
            content["benchmarks"] = {name: self._benchmark(name) for name in settings.names()}
        if stage in ("respond", "filter"):
            content["libraries"] = {name: _version(name) for name in _LIBRARIES}
        return content_digest(content)

    def source(self, settings: SourceSettings) -> str | None:
        """What a source holds: a digest of its files, or a commit of the Hub; None for what is made on the spot.

        Raises:
            CFTError: A file cannot be read.
        """
        where = source_path(settings)
        if where is None:
            return None
        files, root = source_files(where)
        if files is None:
            return self.commit(where, settings.revision)
        try:
            return files_digest(files, root)
        except OSError as error:
            raise CFTError(f"{error.filename}: cannot be read ({error.strerror})") from None

    def revision(self, settings: SourceSettings) -> str | None:
        """The revision at which a source is read: of a Hub id the commit that its mark holds."""
        where = source_path(settings)
        if where is None or source_files(where)[0] is not None:
            return settings.revision
        return self.commit(where, settings.revision) or settings.revision

    def commit(self, name: str, revision: str | None) -> str | None:
        """The commit that a dataset's revision stands for on the Hub; where it does not answer, the one seen last."""
        key = f"{name}@{revision}" if revision else name
        before = self._seen.get(key)
        if key not in self._asked:
            self._asked[key] = commit_now("dataset", name, revision)
        found = self._asked[key]
        if found and before and found != before:
            self.moved[name] = (before, found)
        if found:
            self._seen[key] = found
        return found or before

    def _benchmark(self, name: str) -> str | None:
        benchmark, folder = BENCHMARKS[name], os.environ.get(FOLDER_VARIABLE)
        if not folder:
            return self.commit(benchmark.hub, pinned_revision(name))
        try:
            return file_digest(benchmark_file(benchmark, Path(folder)))
        except OSError as error:
            raise CFTError(f"{error.filename}: cannot be read ({error.strerror})") from None


def source_path(settings: SourceSettings) -> str | None:
    """The file, glob, folder or Hub id that a source reads."""
    if settings.corpus in CORPORA:
        return settings.path or CORPORA[settings.corpus].HUB_ID
    return settings.path


def source_files(where: str) -> tuple[list[Path] | None, Path | None]:
    """The files below a path, with the folder that their names count from; (None, None) for what is not here."""
    path = Path(where).expanduser()
    if path.is_file():
        return [path], None
    if path.is_dir():
        found = (file for file in sorted(path.rglob("*")) if file.is_file())
        return [file for file in found if not _hidden(file.relative_to(path))], path
    if any(sign in where for sign in "*?["):
        return [Path(file) for file in sorted(glob.glob(str(path), recursive=True)) if Path(file).is_file()], None
    return None, None


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _version(library: str) -> str | None:
    with suppress(PackageNotFoundError):
        return version(library)
    return None


# ---- what was published before ----


def set_aside(folder: Path) -> bool:
    """Moves a dataset that is no longer this build's out of the way; whether there was one.

    The card goes first: a folder without it is a build that has not come to its end, to whoever reads or pushes it.
    """
    if not (folder / "README.md").is_file():
        return False
    earlier = folder / EARLIER
    shutil.rmtree(earlier, ignore_errors=True)
    earlier.mkdir()
    for name in reversed(PUBLISHED):  # the card is the last of them
        if name != "failures.jsonl" and (folder / name).exists():  # that is the build's own
            os.replace(folder / name, earlier / name)
    return True


def forget_earlier(folder: Path) -> None:
    """Removes what was moved, once there is a new dataset."""
    shutil.rmtree(folder / EARLIER, ignore_errors=True)
