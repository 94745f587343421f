"""The card of a published dataset: written from the build's own reports, with nothing filled in by hand.

---
pretty_name: my-critiques
license: unknown
configs:
- config_name: default
  data_files: [{split: train, path: [data/arithmetic__reference/train-*.parquet]}]
  default: true
- config_name: arithmetic__reference
  ...
---
# my-critiques
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from cft_trl import __version__
from cft_trl.data.folders import without_folders
from cft_trl.data.stage_files import StageReport
from cft_trl.data.verdict_vocabulary import Verdicts, flow_verdicts, read_verdicts
from cft_trl.synthesis.statistics import size_category

_TAGS = ("cft-trl", "critique-fine-tuning", "critique", "synthetic")
_EVERY_ROW = "*__*"  # the folders of sources and teachers, and not those of the published layouts
_MOST_DETAILS = 60  # lines of a stage's details; statistics.json holds all of them
_WHAT = {
    "webinstruct_cft": "columns instruction, input, output, as TIGER-Lab/WebInstruct-CFT has them",
    "messages": "column messages (user, assistant), as TIGER-Lab/One-Shot-CFT-Data has it",
}


def write_dataset_card(
    path: Path,
    *,
    folder_name: str,
    settings: Any,
    numbers: Mapping[str, Any],
    configs: Mapping[str, int],
    reports: Sequence[StageReport],
    recipe: str,
    plot: str | None = None,
    words: str | None = None,
    verdicts: Verdicts | None = None,
) -> None:
    """Writes the card.

    Args:
        path: Of the README.md.
        folder_name: Of the folder that the dataset lies in; the title where the settings give none.
        settings: The `PublishSettings`: name, licence, language, tags and repository.
        numbers: What `statistics.json` holds.
        configs: Rows by configuration, the published layouts among them.
        reports: What the stages did, in order.
        recipe: The recipe's YAML.
        plot: The picture's path from the card, if there is one.
        words: The corpus' own text (Markdown), below the title.
        verdicts: The words that critiques conclude with; None for right and wrong.
    """
    from jinja2 import Environment

    groups = numbers["configs"]
    title = settings.name or (settings.repo or folder_name).rpartition("/")[2]
    template = resources.files("cft_trl").joinpath("templates/dataset_card.md.jinja").read_text(encoding="utf-8")
    environment = Environment(keep_trailing_newline=True)
    environment.globals.update(share=_share, cell=_cell)
    load_all, load_one = _how_to_load(settings.repo, folder_name, _in_order(configs, groups)[0][0])
    text = environment.from_string(template).render(
        front_matter=_front_matter(title, settings, numbers, configs),
        title=title,
        rows=numbers["rows"],
        version=__version__,
        about=list(_about(settings, groups)),
        load_name=settings.repo or _local_name(folder_name),
        load_all=load_all,
        load_one=load_one,
        configs=[(name, count, _what(name, groups)) for name, count in _in_order(configs, groups)],
        groups=groups,
        characters=numbers["characters"],
        left_out=numbers["left_out_of_layouts"],
        plot=plot,
        stages=[_stage(report) for report in reports],
        recipe=recipe.rstrip("\n"),
        fence="`" * max(3, 1 + max(map(len, re.findall("`+", recipe)), default=0)),
        words=(words or "").strip(),
        verdicts=verdicts,
        flag=shlex.quote(flow_verdicts(verdicts)) if verdicts else None,
        files=numbers["files"],
    )
    path.write_text(text.rstrip("\n") + "\n", encoding="utf-8")


def verdicts_of(recipe: str) -> Verdicts | None:
    """The verdict words that a recipe's critiques conclude with; None for right and wrong.

    Args:
        recipe: Its YAML, as it was run.
    """
    import yaml

    content = yaml.safe_load(recipe)
    section = content.get("critique") if isinstance(content, dict) else None
    return read_verdicts(section.get("verdicts")) if isinstance(section, dict) else None


def _front_matter(title: str, settings: Any, numbers: Mapping[str, Any], configs: Mapping[str, int]) -> str:
    import yaml

    groups = numbers["configs"]
    every_row = [f"data/{name}/train-*.parquet" for name in groups]
    listed = [{"config_name": "default", "data_files": [{"split": "train", "path": every_row}], "default": True}]
    for name, _ in _in_order(configs, groups):
        files = [{"split": "train", "path": f"data/{name}/train-*.parquet"}]
        listed.append({"config_name": name, "data_files": files})
    fields = {
        "pretty_name": title,
        "license": settings.licence or "unknown",
        "language": [settings.language],
        "task_categories": ["text-generation"],
        "size_categories": [size_category(numbers["rows"])],
        "tags": list(dict.fromkeys([*_TAGS, *settings.tags])),
        "configs": listed,
    }
    return yaml.safe_dump(fields, sort_keys=False, allow_unicode=True).rstrip("\n")


def _about(settings: Any, groups: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """What a reader must know before using the data."""
    teachers = sorted({group["teacher"] for group in groups.values() if group["teacher"]})
    sources = sorted({group["source"] for group in groups.values() if group["source"]})
    if sources:
        yield f"Questions come from: {', '.join(f'`{name}`' for name in sources)}."
    models = [name for name in teachers if name != "reference"]
    if models:
        names = ", ".join(f"`{name}`" for name in models)
        yield (
            f"Critiques were generated by {names} and not read by people. A verdict is the teacher's opinion: "
            "a part of the critiques will be mistaken."
        )
    if "reference" in teachers:
        yield "Critiques by `reference` were written by a program from known solutions; no model took part."
    if not teachers:
        yield "The rows name no teacher."
    if settings.licence:
        yield f"Licence: `{settings.licence}`, as the publisher stated it."
    else:
        yield "Licence: not stated."
    yield "The terms of the questions' corpus and of the teachers' providers hold as well; check them before use."


def _local_name(folder: str) -> str:
    """How a card names its dataset before it has a name on the Hub: a path from the folder that it lies in."""
    return f"./{folder}" if re.fullmatch(r"[\w.-]+", folder) else "./path-to-this-folder"


def _how_to_load(repo: str | None, folder: str, config: str) -> tuple[str, str]:
    """The arguments of `load_dataset` for every row, and for one configuration.

    A folder is loaded by its files: `load_dataset("./out")` gives what it has in its cache for a folder of this name,
    which may be another one's, or this one's as it was (findings/local-folders-by-name.sh).

    Example:
        >>> _how_to_load(None, "out", "gsm8k__m")[1]
        '"parquet", data_files="./out/data/gsm8k__m/train-*.parquet"'
    """
    if repo:
        return f'"{repo}"', f'"{repo}", "{config}"'
    files = f'"parquet", data_files="{_local_name(folder)}/data'
    return f'{files}/{_EVERY_ROW}/train-*.parquet"', f'{files}/{config}/train-*.parquet"'


def _in_order(configs: Mapping[str, int], groups: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Sources and teachers by name, then the published layouts."""
    return sorted(configs.items(), key=lambda item: (item[0] not in groups, item[0] not in _WHAT, item[0]))


def _what(name: str, groups: Mapping[str, Mapping[str, Any]]) -> str:
    if name in groups:
        group = groups[name]
        return _cell(f"source {group['source'] or 'not named'}, teacher {group['teacher'] or 'none'}")
    return _WHAT[name]


def _stage(report: StageReport) -> dict[str, Any]:
    """A stage's line of the table, and its details: tables for what is told of each teacher or benchmark, and lines."""
    reasons = "; ".join(f"{_cell(reason)}: {count}" for reason, count in report.failures.most_common())
    tables = {name: value for name, value in report.details.items() if _is_table(value)}
    lines = list(_flat({name: value for name, value in report.details.items() if name not in tables}))
    more = len(lines) - _MOST_DETAILS
    return {
        "stage": report.stage,
        "read": report.read,
        "written": report.written,
        "reasons": reasons or "none",
        "lines": lines[:_MOST_DETAILS] + ([("…", f"{more} more in statistics.json")] if more > 0 else []),
        "tables": [_table(name, value) for name, value in tables.items()],
    }


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value) and all(isinstance(row, Mapping) for row in value.values())


def _table(name: str, rows: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """{"gsm8k": {"exact": 2}, …} as a header and a row for each; "" where one has no such value."""
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    body = [[_cell(key), *(_cell(_text(row.get(column, ""))) for column in columns)] for key, row in rows.items()]
    return [[_cell(name), *map(_cell, columns)], *body]


def _flat(details: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Nested details as lines: {"removed": {"length": 3}} -> ("removed, length", "3")."""
    if isinstance(details, Mapping):
        for key, value in details.items():
            yield from _flat(value, f"{name}, {key}" if name else str(key))
    elif details is not None:
        yield name, _text(details)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _share(count: int, rows: int) -> str:
    return f"{count} ({count / rows:.1%})"


def _cell(value: Any, most: int = 300) -> str:
    """A value inside a Markdown table: one line, no column of its own, no HTML, no folder of this machine."""
    text = without_folders(" ".join(str(value).split()))
    text = text if len(text) <= most else text[: most - 1] + "…"
    return text.replace("|", "\\|").replace("<", "&lt;")
