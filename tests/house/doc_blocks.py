"""The fenced blocks of README.md and docs/, and what can be said about each without running it.

*Needs 8 GPUs.*                        a line that begins so, above a block: it is not run, and the reader sees why

<!-- run -->                           the block is run by the slow walk through its page, in order
<!-- file: rows.jsonl -->              the block is a file of that walk
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from conftest import REPOSITORY

from cft_trl.cli import COMMANDS
from cft_trl.commands.completion_scripts import _SETTINGS_COMMANDS, command_parser
from cft_trl.commands.settings import parse_settings

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]

_FENCE = re.compile(r"^(?P<fence>```+)(?P<language>\w*)[^\n]*\n(?P<text>.*?)^(?P=fence)$", re.DOTALL | re.MULTILINE)
_REASON = re.compile(r"^\*(?:Needs|Takes|Starts|The first line needs)\b[^*]*\*$")


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        place: "docs/cgd.md:42", the line of its fence.
        above: The last line of text above it, "" if there is none.
    """

    place: str
    language: str
    text: str
    above: str

    @property
    def reason(self) -> str:
        """Why it is not run, as the page says; "" where it can be."""
        return self.above if _REASON.match(self.above) else ""

    @property
    def runs(self) -> bool:
        return self.above == "<!-- run -->"

    @property
    def file(self) -> str:
        """The file that it is in its page's walk, or ""."""
        found = re.fullmatch(r"<!-- file: ([\w.-]+) -->", self.above)
        return found[1] if found else ""


def blocks_of(path: Path) -> Iterator[Block]:
    text = path.read_text(encoding="utf-8")
    for found in _FENCE.finditer(text):
        lines = text[: found.start()].rstrip().splitlines() or [""]
        line = text[: found.start()].count("\n") + 1
        place = f"{path.relative_to(REPOSITORY)}:{line}"
        yield Block(place, found["language"], found["text"], lines[-1])


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def commands_of(block: Block) -> list[str]:
    """The lines of a bash block that are commands, continued ones joined."""
    joined = re.sub(r"\\\n\s*", " ", block.text)
    return [line.strip() for line in joined.splitlines() if line.strip() and not line.strip().startswith("#")]


def check_command(line: str) -> None:
    """Parses a command as it would be parsed if it were typed, and looks whether the files it names exist.

    Raises:
        AssertionError, CFTError, SystemExit: It would not be understood.
    """
    words = shlex.split(line, comments=True)
    while "=" in words[0] and re.fullmatch(r"[A-Z][A-Z0-9_]*", words[0].partition("=")[0]):
        words = words[1:]  # VARIABLE=value before the command
    words = words[: next((at for at, word in enumerate(words) if word in (">", ">>", "|", "&&", ";", "<")), len(words))]
    for word in words:
        if word.startswith(("recipes/", "hub_datasets/", "cft_trl/", "benchmarks/", "notebooks/", "docs/")):
            assert (REPOSITORY / word).exists(), f"{word} does not exist"
    program, *rest = words
    if program == "make":
        assert f"\n{rest[0]}:" in (REPOSITORY / "Makefile").read_text(), f"no target {rest[0]}"
    elif program == "cft":
        _check_cft(rest)
    elif program == "accelerate":
        assert rest[0] == "launch"
        _check_training(rest[rest.index("recipes/cft.py") + 1 :])
    elif program == "trl":
        from trl.scripts.grpo import make_parser

        assert rest[0] == "grpo"
        make_parser().parse_args_and_config([*rest[1:], "--use_cpu", "true"])
    elif program == "pip":
        for extra in re.findall(r"(?:cft-trl|\.)\[([\w,-]+)\]", line):
            declared = (REPOSITORY / "pyproject.toml").read_text()
            assert all(re.search(rf"^{name} = \[", declared, re.MULTILINE) for name in extra.split(","))
    else:
        assert program in ("python", "sbatch", "trackio", "git", "cd", "export", "hf", "mkdir", "ollama", "docker"), (
            f"{program}: not known"
        )


def _check_cft(words: list[str]) -> None:
    command, *rest = words
    if command in ("--help", "--version"):
        return
    assert command in COMMANDS, f"no command {command}"
    if "--help" in rest or "--help-all" in rest:
        return
    if command in _SETTINGS_COMMANDS:
        _check_training(rest if command == "train" else command_parser(command).parse_known_args(rest)[1])
        return
    parser = command_parser(command)
    parsed = parser.parse_intermixed_args(rest)
    if command == "build" and parsed.recipe.is_file():
        from cft_trl.synthesis.recipe import read_recipe

        read_recipe(parsed.recipe, parsed.set)


def _check_training(flags: list[str]) -> None:
    output = [] if "--output_dir" in flags else ["--output_dir", "runs/x"]
    parse_settings([*flags, *output, "--use_cpu", "true", "--bf16", "false"])
