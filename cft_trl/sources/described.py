"""The files that a local dataset's card names, read as the Hub would read them.

    ---
    configs:
    - config_name: default
      default: true
      data_files:
      - {split: train, path: data/*/train-*.parquet}
    ---

`datasets.load_dataset("./rows")` keeps what it read of such a folder under the folder's *name*, and serves that again
for another folder of the name, or the same one rebuilt (datasets 5.2). So a folder here is always read by its files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from cft_trl.data.files import SUFFIXES, files_of_split
from cft_trl.errors import CFTError, nearest


def is_described(folder: Path) -> bool:
    """Whether the folder has a card whose front matter says which files make which configuration and split."""
    return bool(_front_matter(folder).get("configs"))


def described_files(folder: Path, name: str | None, split: str) -> tuple[list[str], dict[str, list[str]]]:
    """The files of one configuration and split, and the names of its class labels.

    Args:
        folder: A folder whose card `is_described`.
        name: The configuration; None for the one marked default, called "default", or the only one.
        split: The split.

    Returns:
        Paths in the order the card names them (a pattern's sorted), and column -> names of its classes, for columns
        that the card calls class labels.

    Raises:
        CFTError: No such configuration or split, files that are not there, or of a format that is not read.
    """
    head = _front_matter(folder)
    configs = {str(config.get("config_name", "default")): config for config in head["configs"]}
    chosen = _choose(configs, name, folder)
    patterns = _patterns(configs[chosen], folder)
    base = folder / str(configs[chosen].get("data_dir") or ".")
    if patterns is None:
        files = files_of_split(base, split)
    else:
        if split not in patterns:
            raise CFTError(
                f"{folder}: configuration {chosen!r} has no split {split!r}{nearest(split, patterns)}; "
                f"it has {', '.join(patterns)}"
            )
        files = [str(file) for pattern in patterns[split] for file in _matches(base, pattern)]
    unknown = [file for file in files if not file.endswith(SUFFIXES)]
    if unknown:
        raise CFTError(f"{unknown[0]}: cannot tell its format; expected a name ending in {', '.join(SUFFIXES)}")
    return list(dict.fromkeys(files)), _class_labels(head, chosen)


def _front_matter(folder: Path) -> dict[str, Any]:
    card = folder / "README.md"
    if not card.is_file():
        return {}
    found = re.match(r"---\s*\n(.*?)\n---\s*(?:\n|$)", card.read_text(encoding="utf-8", errors="replace"), re.DOTALL)
    try:
        head = yaml.safe_load(found[1]) if found else None
        if not isinstance(head, dict):
            return {}
        configs = head.get("configs") or []
        if not isinstance(configs, list) or not all(isinstance(config, Mapping) for config in configs):
            raise ValueError("configs is no list of mappings")
    except (yaml.YAMLError, ValueError) as error:
        raise CFTError(f"{card}: its front matter cannot be read ({' '.join(str(error).split())})") from None
    return head


def _choose(configs: Mapping[str, Mapping[str, Any]], name: str | None, folder: Path) -> str:
    if name is not None:
        if name not in configs:
            raise CFTError(f"{folder}: no configuration {name!r}{nearest(name, configs)}; it has {', '.join(configs)}")
        return name
    marked = [config for config, about in configs.items() if about.get("default")] or ["default"]
    if marked[0] in configs:
        return marked[0]
    if len(configs) == 1:
        return next(iter(configs))
    raise CFTError(f"{folder}: it has the configurations {', '.join(configs)}; say which (--dataset_config NAME)")


def _patterns(config: Mapping[str, Any], folder: Path) -> dict[str, list[str]] | None:
    """split -> patterns; None where the configuration leaves the files to their names."""
    given = config.get("data_files")
    if given is None:
        return None
    parts = given if isinstance(given, list) else [given]
    found: dict[str, list[str]] = {}
    for part in parts:
        split, paths = (part.get("split"), part.get("path")) if isinstance(part, Mapping) else ("train", part)
        paths = [paths] if isinstance(paths, str) else paths
        if not isinstance(split, str) or not isinstance(paths, list) or not all(isinstance(p, str) for p in paths):
            raise CFTError(
                f"{folder / 'README.md'}: data_files={given!r}: write a pattern, or a list of split and path"
            )
        found.setdefault(split, []).extend(paths)
    return found


def _matches(base: Path, pattern: str) -> list[Path]:
    """The files of a pattern, sorted; none outside the folder, hidden ones only where they are named."""
    relative = pattern.removeprefix("./")
    if Path(relative).is_absolute() or ".." in Path(relative).parts:
        raise CFTError(f"{base}: the card names {pattern!r}, which does not lie in the folder")
    wants_hidden = any(part.startswith(".") for part in Path(relative).parts)
    files = [
        file
        for file in sorted(base.glob(relative))
        if file.is_file() and (wants_hidden or not any(p.startswith(".") for p in file.relative_to(base).parts))
    ]
    if not files:
        raise CFTError(f"{base}: the card names {pattern!r}, and there is no such file")
    return files


def _class_labels(head: Mapping[str, Any], config: str) -> dict[str, list[str]]:
    """Of the front matter's `dataset_info`: a list, or one mapping where there is one configuration."""
    infos = head.get("dataset_info") or []
    infos = infos if isinstance(infos, list) else [infos]
    found: dict[str, list[str]] = {}
    for info in infos:
        if not isinstance(info, Mapping) or info.get("config_name", config) != config:
            continue
        for feature in info.get("features") or []:
            names = feature.get("dtype", {}) if isinstance(feature, Mapping) else {}
            names = names.get("class_label", {}).get("names") if isinstance(names, Mapping) else None
            if isinstance(names, Mapping):  # {"0": "wrong", "1": "right"}
                found[feature["name"]] = [str(names[key]) for key in sorted(names, key=int)]
            elif isinstance(names, list):
                found[feature["name"]] = [str(name) for name in names]
    return found
