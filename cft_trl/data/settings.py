"""Settings that say their types: dataclasses whose values are checked against their fields, by one reader for all.

    @dataclass(frozen=True)
    class FilterSettings:
        agree: Literal["drop", "report", "off"] = "drop"
        limit: Count | None = None

        def __post_init__(self) -> None:
            check_settings(self, "filter")

Made in Python, read from a recipe's `filter: {agree: dorp}`, or given as a flag, a wrong value ends in the same line:

    filter.agree='dorp': unknown (did you mean 'drop'?); give drop, report or off

The same types make the JSON schema that editors check a recipe with. What relates two fields stays in the class.
pydantic does the work, loaded with the first settings that are checked: it takes longer than all of `cft --help`.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar

from annotated_types import Ge, Interval

from cft_trl.errors import CFTError, nearest

T = TypeVar("T")

_KINDS: dict[Any, str] = {str: "text", int: "a whole number", float: "a number", bool: "true or false", Any: "a value"}


# ---- what an annotation may say beside the type ----------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Expected:
    """What a value has to be, in the words of the error, where those made from the type do not say enough."""

    words: str


@dataclasses.dataclass(frozen=True)
class Pattern:
    """A text that matches from its first character to its last."""

    regex: str

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        return {"type": "str", "pattern": f"^(?:{self.regex})$", "strict": True}


@dataclasses.dataclass(frozen=True)
class FromText:
    """A number may be given as its text: of an environment variable, or 1e-3, which YAML reads as text."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        schema = handler(source)
        number = int if schema["type"] == "int" else float
        return core_schema.no_info_before_validator_function(lambda value: _from_text(value, number), schema)


@dataclasses.dataclass(frozen=True)
class Listed:
    """A tuple may be given as a list, as YAML has it, and as its one item without brackets."""

    alone: bool = True

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_before_validator_function(
            lambda value: _listed(value) if self.alone or not _is_scalar(value) else value, handler(source)
        )

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        found = handler(schema)
        if parts := found.pop("prefixItems", None):  # newer than what editors know; ours are alike
            found["items"] = parts[0]
        return {"anyOf": [found["items"], found]} if self.alone else found


Count = Annotated[int, Ge(1)]
Whole = Annotated[int, Ge(0)]
Share = Annotated[float, Interval(ge=0, le=1), FromText()]
Texts = Annotated[tuple[str, ...], Listed()]
ROWS = "a whole number of rows from 1, or null for all"


def _from_text(value: Any, number: Callable[[str], Any]) -> Any:
    try:
        return number(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _is_scalar(value: Any) -> bool:
    return isinstance(value, (str, int, float))


def _listed(value: Any) -> Any:
    return (value,) if _is_scalar(value) else tuple(value) if isinstance(value, list) else value


# ---- checking and reading --------------------------------------------------------------------------------------------


def check_settings(settings: Any, section: str | Callable[[str], str]) -> None:
    """Checks a settings object against its annotations; to be called from its `__post_init__`.

    Args:
        settings: A dataclass, frozen or not. Its values become those of the types: lists are tuples then, and the whole
            numbers of a `float` floats. A field that holds settings has been checked by their own class.
        section: What a field's name in an error begins with ("critique" for "critique.samples"), or how the whole name
            is made from the field's, where null cannot be written (flags, variables).

    Raises:
        CFTError: The first value, in the order of the fields, that its type does not allow.

    Example:
        >>> @dataclasses.dataclass
        ... class Settings:
        ...     names: Texts = ()
        ...     samples: Count = 1
        ...     def __post_init__(self):
        ...         check_settings(self, "critique")
        >>> Settings("gpt-4o").names
        ('gpt-4o',)
        >>> Settings(samples=0)
        Traceback (most recent call last):
        cft_trl.errors.CFTError: critique.samples=0: give a whole number from 1
    """
    from pydantic import ValidationError

    kind: Any = type(settings)
    hints = _checked_hints(kind)
    given = {name: getattr(settings, name) for name in hints}
    try:
        found = _model(kind).__pydantic_validator__.validate_python(given)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_context=False)[0]["loc"]
        field = str(wrong[0])
        name, hint = f"{section}.{field}", hints[field]
        if callable(section):
            name, hint = section(field), _without_null(hint)
        raise CFTError(_told(name, hint, given[field], wrong[1:])) from None
    for name in hints:
        object.__setattr__(settings, name, getattr(found, name))


def read_settings(kind: type[T], content: Any, where: str, section: str) -> T:
    """Settings from what a file's section holds.

    Args:
        kind: A dataclass that checks itself, see `check_settings`.
        content: A mapping of its fields to their values; None for the defaults.
        where: What errors begin with, as the file's name.
        section: The section's name.

    Returns:
        The settings.

    Raises:
        CFTError: It is no mapping, has an unknown key (the nearest is named), or a value that the class refuses.
    """
    if not isinstance(content, Mapping | None):
        raise CFTError(f"{where}, section {section}: expected keys and values, got {_got(content)}")
    known = [part.name for part in dataclasses.fields(typing.cast(Any, kind))]
    for key in content or {}:
        if key not in known:
            hint = f"{nearest(str(key), known)}; known: {', '.join(known)}"
            raise CFTError(f"{where}, section {section}: unknown key {key!r}{hint}")
    try:
        return kind(**(content or {}))
    except CFTError as error:
        raise CFTError(f"{where}: {error}") from None


def json_schema(kind: type, describe: Callable[[type], Mapping[str, str]] = lambda kind: {}) -> dict[str, Any]:
    """The JSON schema (draft 7, which editors know) of a file that holds settings.

    Args:
        kind: A settings dataclass; its fields may hold others, which become sections that may be empty.
        describe: Says of a dataclass what its fields are for, by field.

    Returns:
        The schema, as what JSON can hold. A field without a default is required, sections never are.

    Example:
        >>> @dataclasses.dataclass
        ... class Settings:
        ...     samples: Count = 1
        >>> json_schema(Settings)["properties"]
        {'samples': {'default': 1, 'minimum': 1, 'type': 'integer'}}
    """
    from pydantic.json_schema import GenerateJsonSchema

    class Untitled(GenerateJsonSchema):
        def field_title_should_be_set(self, schema: Any) -> bool:
            return False

    found = _model(kind).model_json_schema(schema_generator=Untitled)
    texts, properties = describe(kind), {}
    hints = typing.get_type_hints(kind, include_extras=True)
    for part in dataclasses.fields(typing.cast(Any, kind)):
        hint, name = hints[part.name], part.name
        if dataclasses.is_dataclass(hint):
            section = json_schema(typing.cast(type, hint), describe)
            properties[name] = section | {"type": ["object", "null"]}
        else:
            properties[name] = found["properties"][name]
        if name in texts:
            properties[name] = {"description": texts[name], **properties[name]}
    required = {"required": found["required"]} if "required" in found else {}
    return {"type": "object", "properties": properties, "additionalProperties": False} | required


@cache
def _checked_hints(kind: Any) -> dict[str, Any]:
    """The annotations of the fields that hold values, in their order."""
    hints = typing.get_type_hints(kind, include_extras=True)
    names = [part.name for part in dataclasses.fields(typing.cast(Any, kind))]
    return {name: hints[name] for name in names if not dataclasses.is_dataclass(hints[name])}


@cache
def _model(kind: Any) -> Any:
    from pydantic import ConfigDict, Field, create_model

    config = ConfigDict(strict=True, allow_inf_nan=False, protected_namespaces=())
    fields = {part.name: part for part in dataclasses.fields(typing.cast(Any, kind))}
    asked: dict[str, Any] = {}
    for name, hint in _checked_hints(kind).items():
        default, factory = fields[name].default, fields[name].default_factory
        if factory is not dataclasses.MISSING:
            asked[name] = (hint, Field(default_factory=factory))
        else:
            asked[name] = (hint, ... if default is dataclasses.MISSING else default)
    return create_model(kind.__name__, __config__=config, **asked)


# ---- what is told ----------------------------------------------------------------------------------------------------


def _told(name: str, hint: Any, value: Any, place: Sequence[int | str]) -> str:
    """The line about a wrong value; `place` leads from the field to the item in it that is wrong, as far as it can."""
    for at in place:
        kind, inner, expected = _parts(hint)
        if isinstance(value, Mapping) and place[-1] == "[key]":
            return f"{name}: expected texts as keys, got {at!r}"
        if expected is not None and not isinstance(value, Mapping):
            break
        if typing.get_origin(kind) is tuple and isinstance(value, (list, tuple)):
            name, hint, value = f"{name}[{at}]", inner[0] if inner[-1] is Ellipsis else inner[int(at)], value[int(at)]
        elif isinstance(value, Mapping) and at in value:
            name, hint, value = f"{name}.{at}", inner[1], value[at]
        else:
            break
    kind, inner, expected = _parts(hint)
    flat = isinstance(value, (list, tuple)) and all(item is None or _is_scalar(item) for item in value)
    if not (_is_scalar(value) or (flat and (expected is not None or typing.get_origin(kind) is tuple))):
        return f"{name}: expected {_right(hint)}, got {_got(value)}"
    near = nearest(value, inner) if typing.get_origin(kind) is Literal and isinstance(value, str) else ""
    return f"{name}={_got(value)}: {f'unknown{near}; ' if near else ''}give {_right(hint)}"


def _got(value: Any) -> str:
    names = {dict: "keys and values", type(None): "nothing"}
    if isinstance(value, (list, tuple)) and not all(item is None or _is_scalar(item) for item in value):
        return "a list"
    text = names.get(type(value)) or repr(value)
    return text if len(text) <= 200 else f"{text[:200]}…"


def _parts(hint: Any) -> tuple[Any, tuple[Any, ...], str | None]:
    """An annotation's type without null, that type's arguments, and the words of its `Expected`."""
    while True:
        options = typing.get_args(hint)
        if typing.get_origin(hint) is Annotated:
            words = [data.words for data in options[1:] if isinstance(data, Expected)]
            if words:
                kind, inner, _ = _parts(options[0])
                return kind, inner, words[-1]
            hint = options[0]
        elif typing.get_origin(hint) in (typing.Union, UnionType) and type(None) in options and len(options) == 2:
            hint = options[options[0] is type(None)]
        else:
            return hint, options, None


def _without_null(hint: Any) -> Any:
    options = typing.get_args(hint)
    if typing.get_origin(hint) in (typing.Union, UnionType) and type(None) in options:
        return typing.Union[tuple(one for one in options if one is not type(None))]  # noqa: UP007 (made, not written)
    return hint


def _right(hint: Any) -> str:
    """What a value of this annotation has to be, in words.

    Example:
        >>> _right(Literal["drop", "keep"] | None), _right(Share), _right(tuple[Count, ...])
        ('drop or keep, or null', 'a number from 0 to 1', 'a list, each a whole number from 1')
    """
    kind, options = typing.get_origin(hint), typing.get_args(hint)
    if kind is Annotated:
        words = [data.words for data in options[1:] if isinstance(data, Expected)]
        return words[-1] if words else f"{_right(options[0])}{_bounds(options[1:])}"
    if kind in (typing.Union, UnionType):
        return ", or ".join("null" if one is type(None) else _right(one) for one in options)
    if kind is Literal:
        names = [str(option) for option in options]
        return f"one of {', '.join(names)}" if len(names) > 4 else " or ".join([", ".join(names[:-1]), names[-1]])
    if kind is tuple:
        return f"a list, each {_right(options[0])}"
    return "keys and values" if kind is Mapping else _KINDS.get(hint, str(hint))


def _bounds(data: Sequence[Any]) -> str:
    """The range that an annotation's data set, " from 0 to 1"; "" where they set none."""
    words = {"ge": "from", "gt": "above", "le": "up to", "lt": "below"}
    found = [(name, getattr(entry, name, None)) for entry in data for name in words]
    bounds = {name: bound for name, bound in found if bound is not None}
    text = " and ".join(f"{words[name]} {bound}" for name, bound in bounds.items())
    return f" {text.replace(' and up to', ' to') if 'ge' in bounds else text}" if text else ""
