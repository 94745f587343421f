"""The templates of the levels: level0.yaml to level3.yaml, each read and checked when the first problem of it is drawn.

    TEMPLATES[1][0].name      "pencil_boxes"

template.py tells the notation. A broken template is told in one line, with its file and name.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from cft_trl.data.tables import check_keys, is_text, is_texts, read_table
from cft_trl.errors import CFTError

from .template import SLOT, Template

FILES = {level: Path(__file__).with_name(f"level{level}.yaml") for level in (0, 1, 2, 3)}
_FORMS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("name", "topic", "numbers"), is_text),
    "words": lambda words: isinstance(words, dict) and all(map(is_text, [*words, *words.values()])),
    **dict.fromkeys(("texts", "steps"), is_texts),
}
_PEOPLE = ("name", "he", "his", "him", "name2")


class _Templates(Mapping[int, tuple[Template, ...]]):
    """Level -> its templates; which levels there are is known without reading them."""

    def __getitem__(self, level: int) -> tuple[Template, ...]:
        return _templates(FILES[level], int(level))

    def __contains__(self, level: object) -> bool:
        return level in FILES

    def __iter__(self) -> Iterator[int]:
        return iter(FILES)

    def __len__(self) -> int:
        return len(FILES)


TEMPLATES: Mapping[int, tuple[Template, ...]] = _Templates()


@cache
def _templates(path: Path, level: int) -> tuple[Template, ...]:
    return read_templates(path, level)


def read_templates(path: Path, level: int) -> tuple[Template, ...]:
    """The templates of a file, in its order.

    Raises:
        CFTError: The file or one of them is broken, or two have one name.
    """
    entries = read_table(path)
    if not isinstance(entries, list) or not entries:
        raise CFTError(f"{path}: is no list of templates")
    found: dict[str, Template] = {}
    for number, entry in enumerate(entries, 1):
        name = str(entry.get("name") or number) if isinstance(entry, dict) else str(number)
        where = f"{path}, template {name}"
        check_keys(entry, _FORMS, where, optional="words")
        if name in found:
            raise CFTError(f"{where}: there is another of this name")
        found[name] = Template(level, **{**entry, "texts": tuple(entry["texts"]), "steps": tuple(entry["steps"])})
        try:
            _check(found[name])
        except ValueError as error:
            raise CFTError(f"{where}: {error}") from None
    return tuple(found.values())


def _check(template: Template) -> None:
    """Whether everything that a template names is there.

    Raises:
        ValueError: Something is not, or is written in no notation of ours.
    """
    numbers: set[str] = set()
    for name, choices, computed in template.draws:
        if choices is None and not (computed[0] in numbers and (computed[2] in numbers or computed[2].isdigit())):
            raise ValueError(f"number '{name}' is computed from one that does not stand before it")
        if name in numbers or choices == []:
            raise ValueError(f"number '{name}' {'stands there twice' if name in numbers else 'has no value'}")
        numbers.add(name)
    if empty := [key for key, choices in template.choices.items() if "" in choices]:
        raise ValueError(f"word '{empty[0]}' has an empty alternative")
    results: set[str] = set()
    for name, left, _, right, _, label in template.plan:
        for token in (left, right):
            known = token in results or token.removesuffix("%") in numbers
            if not known and not token.replace(".", "", 1).isdigit():
                raise ValueError(f"step '{name}' uses '{token}', which is no number, earlier result or constant")
        if name in results:
            raise ValueError(f"step '{name}' has the name of another")
        results.add(name)
        _check_slots(label, numbers, template.words)
    for text in template.texts:
        _check_slots(text, numbers, [*template.words, *_PEOPLE])


def _check_slots(text: str, numbers: set[str], words: Mapping[str, str] | list[str]) -> None:
    for match in SLOT.finditer(text):
        key, form = match.groups()
        lower = key[0].lower() + key[1:]
        if key not in numbers and (form or (lower not in words and lower[:-1] not in words)):
            raise ValueError(f"nothing fills {match[0]} in '{text}'")
    if set(SLOT.sub("", text)) & set("{}"):
        raise ValueError(f"a brace of '{text}' is open or of no slot")
