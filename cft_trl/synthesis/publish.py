"""The publish stage: a folder that the Hub shows and `load_dataset` reads.

    out/README.md                                              the card: what it is, how it was made, in numbers
    out/data/arithmetic__reference/train-00000-of-00001.parquet   one configuration per source and teacher
    out/data/webinstruct_cft/…, out/data/messages/…            the published layouts, as configurations of their own
    out/statistics.json, out/plots/statistics.png, out/recipe.yaml

    load_dataset("parquet", data_files="out/data/*__*/train-*.parquet")             every row
    load_dataset("parquet", data_files="out/data/webinstruct_cft/train-*.parquet")  instruction, input, output
    load_dataset("org/out")                        every row, once it is on the Hub (the configuration "default")
    load_dataset("org/out", "webinstruct_cft")

A folder is not loaded by its name: see `dataset_card._how_to_load`.

The files are written under a temporary name and then put in the place of what an earlier run published; the card goes
first and comes last, so a folder that has one is whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from cft_trl.data.folders import without_folders, write_text
from cft_trl.data.parquet import ShardWriter
from cft_trl.data.records import layout_features, published_row, unpublishable
from cft_trl.data.settings import Count, Expected, Listed, Pattern, Texts, check_settings
from cft_trl.data.stage_files import StageReport, StageWriter
from cft_trl.errors import CFTError
from cft_trl.hub.upload import PUBLISHED, check_repo_id
from cft_trl.synthesis.dataset_card import verdicts_of, write_dataset_card
from cft_trl.synthesis.statistics import Statistics, plot_statistics

Layout = Literal["records", "webinstruct_cft", "messages"]
# What the Hub checks in a card, and would refuse after the upload had begun.
Licence = Annotated[str, Pattern("[a-z0-9.-]+"), Expected("an id of the Hub's, such as mit, apache-2.0 or cc-by-4.0")]
Language = Annotated[str, Pattern("[a-z]{2,3}"), Expected("an id of the Hub's, such as en, de or zh")]

_PATHS = ("path", "models", "teachers", "benchmarks")  # a recipe's keys that may name a file or a folder
_ABSOLUTE = re.compile(r"(?:~?/|[A-Za-z]:[/\\])[^\s{}<>]*")  # so may a value of `extra`
_PARTIAL = ".publish.partial"
_MOST_CONFIGS = 100  # each holds a row group in memory while it is written


@dataclass(frozen=True)
class PublishSettings:
    """The section `publish` of a recipe.

    Attributes:
        name: The dataset's title on its card; default the repository's name, or the folder's.
        licence: A Hub licence id ("mit", "cc-by-4.0"); None says on the card that it is not known.
        language: The texts' language (ISO 639-1).
        layouts: What is written: "records" always, "webinstruct_cft" and "messages" for other trainers.
        rows_per_shard: Rows of a Parquet file at most.
        row_group_size: Rows of a row group. The Hub's viewer reads whole groups; 1,000 critiques are about 4 MB.
        repo: The Hub repository to push to ("org/name"), and the name in the card's examples.
        private: Whether a repository made by the push is private.
        revision: The branch that is pushed to; None is main.
        tags: Further tags of the card.

    Raises:
        CFTError: A value that is none of its field's, or layouts without "records".
    """

    name: str | None = None
    licence: Licence | None = None
    language: Language = "en"
    layouts: Annotated[tuple[Layout, ...], Listed()] = get_args(Layout)
    rows_per_shard: Count = 100_000
    row_group_size: Count = 1_000
    repo: str | None = None
    private: bool = False
    revision: str | None = None
    tags: Texts = ()

    def __post_init__(self) -> None:
        check_settings(self, "publish")
        if "records" not in self.layouts:
            raise CFTError("publish.layouts: 'records' is missing; the others cannot hold every row")
        if self.repo is not None:
            check_repo_id(self.repo, "publish.repo")


def run_publish(
    rows: Iterable[Mapping[str, Any]],
    settings: PublishSettings,
    folder: str | Path,
    *,
    recipe: Mapping[str, Any] | str,
    reports: Sequence[StageReport],
    words: str | None = None,
    progress: Callable[[StageReport], None] | None = None,
) -> StageReport:
    """Writes a build's rows as a dataset into its folder, in the place of an earlier one.

    Args:
        rows: Records, gone through once.
        settings: See `PublishSettings`.
        folder: The build's folder.
        recipe: The recipe as run, as a mapping or as YAML.
        reports: What the stages before did, in their order; for the card.
        words: Text of your own for the card, in Markdown.
        progress: Called after each row with the report so far.

    Returns:
        The report. `details`: `configs` (rows by configuration), `left_out` (rows that a published layout cannot hold
        exactly, by layout and reason), `files` (SHA-256, bytes and rows of every Parquet file).

    Raises:
        CFTError: No rows, a disk that is full, or a folder that cannot be written. What was published before is still
            there then.
    """
    folder = Path(folder)
    partial = folder / _PARTIAL
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with StageWriter(folder, "publish") as out:
            configs = _write_data(rows, settings, partial / "data", out.report, progress)
            if not out.report.read:
                told = _why_none(reports)
                raise CFTError(f"{folder}: no rows are left to publish{told}; see {folder / 'failures.jsonl'}")
            _write_about(partial, settings, configs, out.report, recipe, reports, words)
            _replace(partial, folder)
        return out.report
    except OSError as error:
        raise CFTError(f"{folder}: cannot be written ({error.strerror or error}); make room and run it again") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _why_none(reports: Sequence[StageReport]) -> str:
    """The commonest reasons for which the stages before left rows out, most first."""
    reasons = Counter({f"{report.stage}: {why}": n for report in reports for why, n in report.failures.items()})
    return " (" + ", ".join(f"{n:,} x {why}" for why, n in reasons.most_common(3)) + ")" if reasons else ""


def _write_data(
    rows: Iterable[Mapping[str, Any]],
    settings: PublishSettings,
    folder: Path,
    report: StageReport,
    progress: Callable[[StageReport], None] | None,
) -> Configs:
    """Writes the Parquet files, and what is in them into the report."""
    configs = Configs(folder, settings)
    try:
        for row in rows:
            configs.row(row)
            report.read, report.written = report.read + 1, report.written + 1
            if progress:
                progress(report)
        files = configs.close()
    finally:
        configs.abandon()
    report.details = {
        "configs": {name: shards.rows for name, shards in configs.shards.items()},
        "left_out": {layout: dict(reasons.most_common()) for layout, reasons in configs.left_out.items()},
        "files": {path.relative_to(folder.parent).as_posix(): _described(path) for path in sorted(files)},
    }
    return configs


def _write_about(
    partial: Path,
    settings: PublishSettings,
    configs: Configs,
    report: StageReport,
    recipe: Mapping[str, Any] | str,
    reports: Sequence[StageReport],
    words: str | None,
) -> None:
    """Writes what tells about the data: statistics, plot, recipe and card."""
    numbers = {
        **configs.statistics.to_dict(),
        "left_out_of_layouts": report.details["left_out"],
        "stages": [vars(stage) for stage in reports],
        "files": report.details["files"],
    }
    plotted = plot_statistics(configs.statistics, partial / "plots" / "statistics.png")
    recipe = _published_recipe(recipe if isinstance(recipe, str) else _yaml(recipe))
    told = _cut(json.loads(json.dumps(numbers)))
    write_text(partial / "statistics.json", json.dumps(told, indent=1, ensure_ascii=False))
    write_text(partial / "recipe.yaml", recipe.rstrip("\n"))
    write_dataset_card(
        partial / "README.md",
        folder_name=partial.parent.resolve().name,
        settings=settings,
        numbers=numbers,
        configs=report.details["configs"],
        reports=reports,
        recipe=recipe,
        plot="plots/statistics.png" if plotted else None,
        words=words,
        verdicts=verdicts_of(recipe),
    )


class Configs:
    """The configurations' shards, opened as rows for them come.

    Attributes:
        shards: Configuration -> its `ShardWriter`; sources and teachers first, in the order they came.
        left_out: Layout -> reason -> rows that it cannot hold exactly.
        statistics: Of all rows.
    """

    def __init__(self, folder: Path, settings: PublishSettings) -> None:
        self.shards: dict[str, ShardWriter] = {}
        self.left_out: dict[str, Counter[str]] = {}
        self.statistics = Statistics()
        self._folder, self._settings = folder, settings
        self._names: dict[tuple[str | None, str | None], str] = {}

    def row(self, record: Mapping[str, Any]) -> None:
        """Adds a record to its configuration and to the published layouts that can hold it."""
        name = self._name(record["source"], record["teacher"])
        self._writer(name, "records").row(record)
        self.statistics.add(record, name)
        layouts = [layout for layout in self._settings.layouts if layout != "records"]
        reason = unpublishable(record) if layouts else None
        for layout in layouts:
            if reason:
                self.left_out.setdefault(layout, Counter())[reason] += 1
            else:
                self._writer(layout, layout).row(published_row(record, layout))

    def close(self) -> list[Path]:
        """Ends all files and returns them."""
        return [path for shards in self.shards.values() for path in shards.close()]

    def abandon(self) -> None:
        """Lets go of files that are still open."""
        for shards in self.shards.values():
            shards.abandon()

    def _writer(self, name: str, layout: str) -> ShardWriter:
        if name not in self.shards:
            settings = self._settings
            self.shards[name] = ShardWriter(
                self._folder / name, layout_features(layout), settings.rows_per_shard, settings.row_group_size
            )
        return self.shards[name]

    def _name(self, source: str | None, teacher: str | None) -> str:
        if (source, teacher) not in self._names:
            if len(self._names) == _MOST_CONFIGS:
                raise CFTError(
                    f"publish: more than {_MOST_CONFIGS} pairs of source and teacher (now {source!r} by {teacher!r}); "
                    "`source` names a corpus, what tells its rows apart belongs into `meta`"
                )
            wanted = name = config_name(source, teacher)
            taken, number = {known.lower() for known in self._names.values()}, 1
            while name.lower() in taken:  # "a/b" and "a-b", or names that some file systems take for one
                number += 1
                name = f"{wanted}-{number}"
            self._names[source, teacher] = name
        return self._names[source, teacher]


def config_name(source: str | None, teacher: str | None) -> str:
    """The configuration of a source's rows by a teacher.

    Example:
        >>> config_name("webinstruct", "gpt-4o-2024-11-20"), config_name("gsm8k", "Qwen/Qwen2.5-7B")
        ('webinstruct__gpt-4o-2024-11-20', 'gsm8k__Qwen-Qwen2.5-7B')
    """
    parts = (source or "no-source", teacher or "no-teacher")
    return "__".join(re.sub(r"[^A-Za-z0-9._-]+", "-", part).strip("-.") or "other" for part in parts)


def _described(path: Path) -> dict[str, Any]:
    from pyarrow import parquet

    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"sha256": digest, "bytes": path.stat().st_size, "rows": parquet.read_metadata(path).num_rows}


def _yaml(recipe: Mapping[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(json.loads(json.dumps(recipe)), sort_keys=False, allow_unicode=True, width=120)


def _published_recipe(text: str) -> str:
    """A recipe's YAML without the folders of this machine; its prompts, which may hold "</b>" or "\\n", as they are."""
    import yaml

    content = yaml.safe_load(text)
    # Comments, below the recipe, say who each teacher was.
    lines = [without_folders(line) if line.startswith("#") else line for line in text.split("\n")]
    if (cut := _cut_paths(content)) == content:
        return "\n".join(lines)
    return _yaml(cut) + "\n".join(line for line in lines if line.startswith("#"))


def _cut_paths(value: Any, key: str = "") -> Any:
    """A setting's value without folders, where it is a path or may name one."""
    if isinstance(value, Mapping):
        return {name: _cut_paths(part, str(name)) for name, part in value.items()}
    if isinstance(value, list):
        return [_cut_paths(part, key) for part in value]
    is_path = isinstance(value, str) and (key in _PATHS or _ABSOLUTE.fullmatch(value))
    return without_folders(value) if is_path else value


def _cut(value: Any) -> Any:
    """JSON whose texts are without folders; in its written form a "\\n" would be taken for one."""
    if isinstance(value, dict):
        return {without_folders(name): _cut(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_cut(part) for part in value]
    return without_folders(value) if isinstance(value, str) else value


def _replace(partial: Path, folder: Path) -> None:
    """Puts new files in the old ones' place; the card goes first and comes last."""
    (folder / "README.md").unlink(missing_ok=True)
    for name in PUBLISHED:  # the card is the last of them
        new, old = partial / name, folder / name
        if name == "failures.jsonl":
            continue  # the build's own; it belongs to what is pushed
        if old.is_dir():
            shutil.rmtree(old)
        if new.exists():
            os.replace(new, old)
