r"""A recipe: what `cft build` does, as one YAML file with a section per stage.

    name: webinstruct
    source: {corpus: webinstruct, limit: 600000}
    critique: {teachers: ["openai:gpt-4o-2024-11-20"], samples: 1}
    filter: {verdict: required, right_ratio: 0.5}

A section's keys are the fields of that stage's settings (`CritiqueSettings`, ...), where they are described. A section
that is not there has its defaults, and a stage whose defaults ask for nothing passes its rows on. `to_yaml` writes
every value that a build ran with, so that its file alone makes the dataset again.
"""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cft_trl.data.prompt_templates import read_template
from cft_trl.data.settings import check_settings, read_settings
from cft_trl.errors import CFTError, nearest
from cft_trl.generation.dialect import SECRET
from cft_trl.sources.corpus import SourceSettings
from cft_trl.sources.decontaminate import DecontaminateSettings
from cft_trl.synthesis.critique import CritiqueSettings
from cft_trl.synthesis.filters import FilterSettings
from cft_trl.synthesis.publish import PublishSettings
from cft_trl.synthesis.refine import RefineSettings
from cft_trl.synthesis.respond import RespondSettings

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
_USER = re.compile(r"(?<=:)//[^/@\s]*@")  # "https://name:password@host": the part that no file may hold


@dataclass(frozen=True)
class Recipe:
    """The settings of every stage, in the order they run.

    Attributes:
        name: Of the dataset and, by default, of the folder it is built in.

    Raises:
        CFTError: A name that cannot be a folder's.
    """

    name: str
    source: SourceSettings
    respond: RespondSettings = field(default_factory=RespondSettings)
    critique: CritiqueSettings = field(default_factory=CritiqueSettings)
    refine: RefineSettings = field(default_factory=RefineSettings)
    filter: FilterSettings = field(default_factory=FilterSettings)
    decontaminate: DecontaminateSettings = field(default_factory=DecontaminateSettings)
    publish: PublishSettings = field(default_factory=PublishSettings)

    def __post_init__(self) -> None:
        check_settings(self, str)
        if not _NAME.fullmatch(self.name):
            raise CFTError(f"name={self.name!r}: give letters, digits, '-', '_' and '.'; it names a folder")
        if self.source.append_verdict and self.critique.words:
            raise CFTError(
                "source.append_verdict writes right or wrong, critique.verdicts has others; end the critiques in those"
            )
        if self.source.without_response is None:
            # Own questions need no response where models are asked for one.
            kept: Literal["keep", "fail"] = "keep" if self.respond.answers == "models" else "fail"
            object.__setattr__(self, "source", dataclasses.replace(self.source, without_response=kept))


STAGES = tuple(part.name for part in dataclasses.fields(Recipe) if part.name != "name")


def read_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Reads a recipe's file.

    Args:
        path: The YAML file.
        overrides: Values over the file's, "critique.samples=2"; the value is read as YAML. Parts of a mapping can be
            named too: "critique.temperature=0".

    Returns:
        The recipe.

    Raises:
        CFTError: The file cannot be read or is no YAML mapping; a key is unknown (the nearest is named); a value is of
            the wrong type or refused by its stage.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "recipe.yaml"
        >>> _ = path.write_text("name: mine\\nsource: {corpus: arithmetic, limit: 20}")
        >>> recipe = read_recipe(path, ["source.limit=5"])
        >>> recipe.name, recipe.source.corpus, recipe.source.limit
        ('mine', 'arithmetic', 5)
    """
    content = _load(Path(path))
    for override in overrides:
        _override(content, override)
    _read_prompt(content, Path(path))
    return to_recipe(content, str(path))


def to_recipe(content: Mapping[str, Any], where: str = "recipe") -> Recipe:
    """A recipe from the content of its file; errors begin with `where`. Raises as `read_recipe`."""
    hints = typing.get_type_hints(Recipe)
    for name in content:
        if name not in hints:
            raise CFTError(f"{where}: unknown section {name!r}{nearest(str(name), hints)}; known: {', '.join(hints)}")
    if "name" not in content:
        raise CFTError(f"{where}: no name; begin with a line like 'name: webinstruct'")
    sections = {}
    for stage in STAGES:
        try:
            _refuse_secrets(content.get(stage), f"{where}, section {stage}")
            sections[stage] = read_settings(hints[stage], content.get(stage), where, stage)
        except RecursionError:
            raise CFTError(f"{where}, section {stage}: nested too deeply, or it holds itself by a YAML alias") from None
    try:
        return Recipe(content["name"], **sections)
    except CFTError as error:
        raise CFTError(f"{where}: {error}") from None


def to_yaml(recipe: Recipe) -> str:
    r"""The recipe with every value, in a form that `read_recipe` reads back; passwords in addresses are left out.

    Example:
        >>> to_yaml(Recipe("mine", SourceSettings("gsm8k"))).splitlines()[:3]
        ['name: mine', 'source:', '  corpus: gsm8k']
    """
    import yaml

    text = yaml.safe_dump(plain(recipe), sort_keys=False, allow_unicode=True, width=120)
    return _USER.sub("//", text)


def _load(path: Path) -> dict[str, Any]:
    import yaml

    try:
        content = _read_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CFTError(f"recipe '{path}' cannot be read ({error.strerror})") from None
    except RecursionError:
        raise CFTError(f"recipe '{path}' is not YAML that can be read: it is nested too deeply") from None
    except (yaml.YAMLError, ValueError) as error:  # also a number of 5,000 digits, and what is not UTF-8
        raise CFTError(f"recipe '{path}' is not YAML: {error}") from None
    if not isinstance(content, dict):
        raise CFTError(f"recipe '{path}' holds no sections; begin with a line like 'name: webinstruct'")
    return content


def _read_yaml(text: str) -> Any:
    """YAML where only true and false are truth values: `agree: off` is the word."""
    import yaml

    class TrueAndFalse(yaml.SafeLoader):
        pass

    TrueAndFalse.yaml_implicit_resolvers = {
        first: [pair for pair in pairs if first in "tTfF" or pair[0] != "tag:yaml.org,2002:bool"]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    return yaml.load(text, TrueAndFalse)


def _read_prompt(content: dict[str, Any], path: Path) -> None:
    """A prompt's file beside the recipe becomes its text, so that the recipe of a build needs no other file."""
    section = content.get("critique")
    if isinstance(section, dict) and isinstance(section.get("prompt"), str):
        section["prompt"] = read_template(section["prompt"], f"{path}: critique.prompt", path.parent)


def _override(content: dict[str, Any], text: str) -> None:
    import yaml

    keys, equals, value = text.partition("=")
    *path, last = keys.strip().split(".")
    if not equals or not last or not all(path):
        raise CFTError(f"--set {text!r}: write section.key=value, e.g. --set critique.samples=2")
    place = content
    for at, key in enumerate(path):
        if place.get(key) is None:
            place[key] = {}
        place = place[key]
        if not isinstance(place, dict):
            raise CFTError(f"--set {text!r}: {'.'.join(path[: at + 1])} is no section")
    try:
        place[last] = _read_yaml(value)
    except (yaml.YAMLError, ValueError, RecursionError):
        place[last] = value


def _refuse_secrets(content: Any, where: str) -> None:
    """Keys come from the environment; a recipe is published with its dataset."""
    if isinstance(content, Mapping):
        for key, value in content.items():
            if isinstance(key, str) and SECRET.fullmatch(key):
                raise CFTError(f"{where}: {key!r} does not belong into a recipe; keys come from the environment only")
            _refuse_secrets(value, where)


def plain(value: Any) -> Any:
    """Settings as what YAML and JSON can hold."""
    if dataclasses.is_dataclass(value):
        return {part.name: plain(getattr(value, part.name)) for part in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(one) for one in value]
    return str(value) if isinstance(value, Path) else value
