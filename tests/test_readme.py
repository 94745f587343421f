"""What README says can be typed is typed here; paths it names exist."""

from __future__ import annotations

import contextlib
import re
import shlex

import pytest
from conftest import REPOSITORY, make_model

from cft_trl.cli import COMMANDS as COMMANDS_OF_CFT
from cft_trl.cli import main
from cft_trl.commands.settings import parse_settings

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)


def test_the_python_example_trains(tokenizers, tmp_path):
    [code] = [text for language, text in BLOCKS if language == "python"]
    make_model(tokenizers("chatml")).save_pretrained(tmp_path / "model")
    tokenizers("chatml").save_pretrained(tmp_path / "model")
    for old, new in (("smollm2-135m", str(tmp_path / "model")), ("runs/mine", str(tmp_path / "out")), ("600", "12")):
        assert old in code
        code = code.replace(old, new)
    code = code.replace("packing=True", 'packing=True, report_to="none"')
    exec(compile(code, "README.md", "exec"), {})
    assert (tmp_path / "out" / "model.safetensors").is_file()


COMMANDS = [
    line
    for language, text in BLOCKS
    if language == "bash"
    for line in text.splitlines()
    if re.match("cft|make|acc", line)
]


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_are_understood(line, capsys):
    words = shlex.split(line, comments=True)
    if words[0] == "make":
        assert f"\n{words[1]}:" in (REPOSITORY / "Makefile").read_text()
        return
    for word in words:
        if word.startswith(("recipes/", "hub_datasets/")):
            assert (REPOSITORY / word).is_file()
    if words[0] == "cft" and words[1] not in ("train", "preview"):
        assert words[1] in COMMANDS_OF_CFT
        with contextlib.suppress(SystemExit):
            main([words[1], "--help"])
        known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
        assert {word for word in words if word.startswith("--")} <= known
        return
    flags = words[2:] if words[0] == "cft" else words[words.index("recipes/cft.py") + 1 :]
    flags = [flag for flag in flags if flag not in ("--row", "3")]
    parse_settings([*flags, "--use_cpu", "true", "--bf16", "false"])


def test_rooms_of_the_house_exist():
    for room in re.findall(r"^\| `([^`]+)`(?:, `([^`]+)`)?", README, re.MULTILINE):
        for name in filter(None, room):
            assert (REPOSITORY / name).exists() or (REPOSITORY / "cft_trl" / name).exists(), name
