"""The package's own tables in YAML: problem templates, word lists, sentences.

They stand beside the code that uses them, so each is read from where that code lies:

    read_table(Path(__file__).with_name("english.yaml"))["people"]

libyaml reads them where PyYAML was built with it: the 293 lines of level1.yaml in 1.3 ms of CPU instead of 15 ms.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any

from cft_trl.errors import CFTError, nearest


def read_table(path: Path) -> Any:
    """What a YAML file says.

    Raises:
        CFTError: It cannot be read, is no YAML, or has a key twice, of which plain YAML takes the last.
    """
    import yaml

    class UniqueKeys(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
            seen = set()
            for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
                if key.value in seen:
                    raise CFTError(f"{path}, line {key.start_mark.line + 1}: '{key.value}' stands there twice")
                seen.add(key.value)
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(path.read_text(encoding="utf-8"), UniqueKeys)
    except CFTError:
        raise
    except OSError as error:
        raise CFTError(f"{path}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        told = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise CFTError(f"{path}{f', line {mark.line + 1}' if mark else ''}: not YAML ({told})") from None


def check_keys(found: Any, needed: Mapping[str, Callable[[Any], bool]], where: str, optional: str = "") -> None:
    """Whether a mapping has the keys that it needs, each with a value of its form, and no others.

    Args:
        found: What the table has there.
        needed: Key -> whether a value will do.
        where: What the message begins with.
        optional: A key among them that may be left out.

    Raises:
        CFTError: It has not.
    """
    if not isinstance(found, dict):
        raise CFTError(f"{where}: {found!r} is not a mapping with {', '.join(needed)}")
    for key in found:
        if key not in needed:
            raise CFTError(f"{where}: unknown key '{key}'{nearest(str(key), needed)}")
    for key, will_do in needed.items():
        if key not in found and key != optional:
            raise CFTError(f"{where}: '{key}' is missing")
        if key in found and not will_do(found[key]):
            raise CFTError(f"{where}: '{key}' is {found[key]!r}, which is not of its form")


def is_text(value: Any) -> bool:
    """Whether it is a text with something in it."""
    return isinstance(value, str) and bool(value)


def is_texts(value: Any) -> bool:
    """Whether it is a list of such texts, at least one."""
    return isinstance(value, list) and bool(value) and all(map(is_text, value))
