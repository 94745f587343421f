"""`cft completion`: what the script completes in a real bash, and that it is what the commands parse."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from cft_trl.cli import COMMANDS, main
from cft_trl.commands.completion_scripts import _SETTINGS_COMMANDS, SHELLS, command_parser, completion_script
from cft_trl.errors import CFTError


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("completion") / "cft.bash"
    path.write_text(completion_script("bash", COMMANDS))
    return path


@pytest.fixture
def complete(script, tmp_path):
    """`complete("cft tr")` -> what bash would offer for the last word, with files a.yaml and runs/ in the folder."""
    (tmp_path / "a.yaml").touch()
    (tmp_path / "runs").mkdir()

    def offered(line: str) -> set[str]:
        words = line.split(" ")
        code = (
            f". {script}; COMP_WORDS=({' '.join(repr(word) for word in words)}); COMP_CWORD={len(words) - 1}; "
            f"COMP_LINE={line!r}; COMP_POINT={len(line)}; $(complete -p cft | sed 's/.*-F \\([^ ]*\\).*/\\1/'); "
            'printf "%s\\n" "${COMPREPLY[@]}"'
        )
        ran = subprocess.run(["bash", "-c", code], capture_output=True, text=True, cwd=tmp_path)
        assert ran.returncode == 0, ran.stderr
        return {word.strip() for word in ran.stdout.splitlines() if word.strip()}

    return offered


def test_commands(complete):
    assert complete("cft ev") == {"eval", "eval-critic"}
    assert set(COMMANDS) <= complete("cft ")
    assert complete("cft nothing") == set()


def test_flags_are_those_of_the_command(complete):
    assert complete("cft build x --max-c") == {"--max-concurrency"}
    assert "--names" in complete("cft report --")
    assert "--teacher" not in complete("cft report --")
    assert "--max_length" in complete("cft train --max_")
    assert "--config" in complete("cft preview --")
    assert "--row" in complete("cft preview --ro")


def test_values(complete):
    assert complete("cft convert a b --to we") == {"webinstruct_cft"}
    assert complete("cft solve m q --mode t") == {"two_stage"}
    assert complete("cft completion z") == {"zsh"}


def test_files(complete):
    assert complete("cft train --config a") == {"a.yaml"}
    assert complete("cft build a") == {"a.yaml"}
    assert any(word.startswith("runs") for word in complete("cft eval r"))


def test_every_command_is_asked_for_its_own_parser():
    for name in COMMANDS:
        parser = command_parser(name)
        assert parser.prog == f"cft {name}"
        flags = {option for action in parser._actions for option in action.option_strings}
        # These show their own help; whatever they do not know themselves is a field of the training settings.
        assert name in _SETTINGS_COMMANDS or "--help" in flags


def test_no_flag_is_offered_twice(script):
    flags = re.search(r"^_shtab_cft_train_option_strings=\((.*)\)$", script.read_text(), re.MULTILINE)[1].split()
    assert {"--learning_rate", "--objective", "--share_prefixes", "--use_peft", "--dataset_name"} <= set(flags)
    spelled = [flag.replace("_", "-") for flag in flags]
    assert len(spelled) == len(set(spelled))


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_gets_a_script_that_it_can_read(shell, capsys, tmp_path):
    assert main(["completion", shell]) == 0
    text = capsys.readouterr().out
    assert "eval-critic" in text
    if shutil.which(shell):
        (tmp_path / "script").write_text(text)
        subprocess.run([shell, "-n", tmp_path / "script"], check=True)


def test_mistakes(capsys, monkeypatch):
    with pytest.raises(CFTError, match="bash, zsh, fish"):
        completion_script("nu", COMMANDS)
    monkeypatch.setitem(__import__("sys").modules, "shtab", None)
    assert main(["completion", "bash"]) == 2
    assert "pip install shtab" in capsys.readouterr().err


def test_parsing_works_again_after_a_parser_was_taken():
    command_parser("convert")
    parsed = command_parser("completion").parse_args(["fish"])
    assert parsed.shell == "fish"
