"""Settings against their types: choices that are tables elsewhere, numbers that are none, when pydantic is loaded."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args, get_type_hints

import pytest
from annotated_types import Gt, Interval

from cft_trl.data import prompts, teacher_prompts
from cft_trl.data.records import layout_features, make_record, published_row
from cft_trl.data.settings import Count, Expected, FromText, Listed, Pattern, Texts, check_settings, read_settings
from cft_trl.demo.settings import DemoSettings
from cft_trl.errors import CFTError
from cft_trl.evaluation.settings import EvalSettings
from cft_trl.generation.modes import MAX_ROUNDS, MODES
from cft_trl.grading.grade import GRADERS
from cft_trl.sources import corpus
from cft_trl.synthesis import publish
from cft_trl.synthesis.critique import CritiqueSettings


@dataclasses.dataclass(frozen=True)
class Settings:
    word: Literal["drop", "keep"] | None = None
    number: Annotated[float, Interval(gt=0, le=1), FromText()] = 0.5
    free: Annotated[float, FromText()] = 0.0
    count: Count | None = None
    whole: Annotated[int, FromText()] = 3
    flag: bool = False
    names: Texts = ()
    pair: Annotated[tuple[int, int], Listed(alone=False), Expected("[least, most]")] = (1, 2)
    ident: Annotated[str, Pattern("[a-z]+")] = "a"
    fields: Mapping[str, int | None] = dataclasses.field(default_factory=dict)
    anything: Any = None

    def __post_init__(self) -> None:
        check_settings(self, "s")


@pytest.mark.parametrize(
    ("given", "becomes"),
    [
        ({"number": "1e-3"}, 0.001),
        ({"number": 1}, 1.0),
        ({"whole": "12"}, 12),
        ({"names": "a"}, ("a",)),
        ({"names": ["a", "b"]}, ("a", "b")),
        ({"pair": [3, 4]}, (3, 4)),
        ({"fields": {"a": None, "b": 1}}, {"a": None, "b": 1}),
        ({"count": None}, None),
        ({"anything": {"a": [1]}}, {"a": [1]}),
    ],
)
def test_values_become_those_of_their_types(given, becomes):
    [(name, _)] = given.items()
    for made in (Settings(**given), read_settings(Settings, given, "r.yaml", "s")):
        found = getattr(made, name)
        assert (found, type(found)) == (becomes, type(becomes))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"word": "dorp"}, "s.word='dorp': unknown (did you mean 'drop'?); give drop or keep, or null"),
        ({"word": ["drop"]}, "s.word: expected drop or keep, or null, got ['drop']"),
        ({"number": 0}, "s.number=0: give a number above 0 and up to 1"),
        ({"number": float("nan")}, "s.number=nan: give a number above 0 and up to 1"),
        ({"number": "nan"}, "s.number='nan': give a number above 0 and up to 1"),
        ({"number": True}, "s.number=True: give a number above 0 and up to 1"),
        ({"number": None}, "s.number: expected a number above 0 and up to 1, got nothing"),
        ({"free": "inf"}, "s.free='inf': give a number"),
        ({"free": float("nan")}, "s.free=nan: give a number"),
        ({"count": 2.0}, "s.count=2.0: give a whole number from 1, or null"),
        ({"count": "2"}, "s.count='2': give a whole number from 1, or null"),
        ({"count": True}, "s.count=True: give a whole number from 1, or null"),
        ({"whole": "1.5"}, "s.whole='1.5': give a whole number"),
        ({"flag": 1}, "s.flag=1: give true or false"),
        ({"names": [["a"]]}, "s.names[0]: expected text, got ['a']"),
        ({"names": {"a": 1}}, "s.names: expected a list, each text, got keys and values"),
        ({"pair": [1, 2, 3]}, "s.pair=[1, 2, 3]: give [least, most]"),
        ({"pair": 1}, "s.pair=1: give [least, most]"),
        ({"ident": "a\n"}, "s.ident='a\\n': give text"),
        ({"fields": {"a": "x"}}, "s.fields.a='x': give a whole number, or null"),
        ({"fields": {1: 1}}, "s.fields: expected texts as keys, got 1"),
        ({"word": "x" * 5000}, f"s.word='{'x' * 199}…: give drop or keep, or null"),
    ],
)
def test_a_wrong_value_is_told_with_what_would_be_right(given, told):
    with pytest.raises(CFTError) as made:
        Settings(**given)
    assert str(made.value) == told
    with pytest.raises(CFTError) as read:
        read_settings(Settings, given, "r.yaml", "s")
    assert str(read.value) == f"r.yaml: {told}"


def test_a_flag_or_variable_cannot_be_null():
    @dataclasses.dataclass
    class Flags:
        count: Annotated[int, Gt(1)] | None = None

        def __post_init__(self):
            check_settings(self, "--{}".format)

    with pytest.raises(CFTError, match=r"^--count=1: give a whole number above 1$"):
        Flags(1)


def test_choices_are_the_tables_that_they_choose_from():
    def choices(kind: type, field: str) -> tuple[str, ...]:
        return get_args(get_type_hints(kind)[field])

    assert get_args(corpus.Corpus) == ("local", *corpus.CORPORA, *corpus._MADE)
    row = make_record(query="1 + 1", response="3", critique="No. Conclusion: wrong")
    published = [layout for layout in get_args(publish.Layout) if layout != "records"]
    assert [published_row(row, layout).keys() == layout_features(layout).keys() for layout in published] == [True] * 2
    assert choices(CritiqueSettings, "preset") == tuple(teacher_prompts.PRESETS)
    assert get_args(prompts.PresetName) == tuple(prompts.PRESETS)
    assert choices(EvalSettings, "mode") == tuple(mode for mode in MODES if mode != "critique")
    assert get_args(choices(EvalSettings, "graders")[0]) == GRADERS
    assert EvalSettings({}).graders == GRADERS
    assert DemoSettings(max_rounds=MAX_ROUNDS).max_rounds == MAX_ROUNDS
    with pytest.raises(CFTError, match="CFT_MAX_ROUNDS"):
        DemoSettings(max_rounds=MAX_ROUNDS + 1)


def test_pydantic_is_loaded_with_the_first_settings_that_are_checked():
    script = """
import sys, cft_trl, cft_trl.cli
import cft_trl.synthesis.recipe, cft_trl.evaluation.settings
from cft_trl.demo.settings import DemoSettings
assert "pydantic" not in sys.modules
DemoSettings()
assert "pydantic" in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)
