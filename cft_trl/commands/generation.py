"""What `cft solve` and `cft critique` share: the model they ask, the texts they read, the streaming to the terminal.

cft critique runs/mine --query "What is 2 + 2?" --response @answer.txt     a text: given, @file, or - (standard input)
cft solve runs/mine --input problems.jsonl --output solved.jsonl           many rows: JSONL in, JSONL out
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cft_trl.commands.settings import (
    PRESET_OPTION,
    add_model_options,
    at_least_0,
    positive,
    preset_option,
    share,
    whole_number,
)
from cft_trl.data.layouts import conversation_text
from cft_trl.data.prompts import Wording, own_verdicts, said_by
from cft_trl.errors import CFTError
from cft_trl.generation.modes import Endpoint, Event, LocalModel
from cft_trl.models.trained_prompt import trained_preset

_COLOURS = {"right": "32", "wrong": "31", "": "33"}  # green, red, yellow


def add_generation_options(parser: argparse.ArgumentParser) -> None:
    """The model's place, sampling, and files of rows."""
    parser.add_argument("model", help="folder, Hub id or smollm2-135m; with --base-url the model's name there")
    parser.add_argument("--base-url", help="an OpenAI-compatible endpoint, e.g. http://localhost:8000/v1")
    parser.add_argument("--api-key-env", default="OPENAI_API_KEY", help="variable with the key (default %(default)s)")
    parser.add_argument("--extra", help="fields of each request, as '{reasoning_effort: low, temperature: null}'")
    add_model_options(parser)
    parser.add_argument("--max-new-tokens", type=positive, default=2048, help="limit per text (default %(default)s)")
    parser.add_argument("--temperature", type=at_least_0, default=0.0, help="0 is greedy (default)")
    parser.add_argument("--top-p", type=share, default=1.0, help="default 1, all tokens")
    parser.add_argument("--seed", type=whole_number, help="draws the same texts again")
    parser.add_argument("--batch-size", type=positive, default=64, help="rows computed together (default %(default)s)")
    parser.add_argument("--prompt-preset", type=preset_option, metavar="PRESET", help=PRESET_OPTION)
    parser.add_argument(
        "--input", metavar="FILE", help="rows: JSONL, JSON, CSV or Parquet; - is JSONL on standard input"
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="JSONL for the rows of --input (default: the screen)"
    )


def open_generator(options: argparse.Namespace) -> LocalModel | Endpoint:
    """The model that the options name.

    Raises:
        CFTError: It cannot be found or loaded. An endpoint is not asked yet.
    """
    from cft_trl.generation.open import open_endpoint, open_local

    if options.base_url:
        from cft_trl.generation.dialect import parse_extra

        _no_revision(options)
        return open_endpoint(options.model, options.base_url, options.api_key_env, extra=parse_extra(options.extra))
    if options.extra:
        raise CFTError("--extra has fields of a request to an endpoint; give it with --base-url")
    return open_local(
        options.model,
        dtype=options.dtype,
        revision=options.revision,
        batch_size=options.batch_size,
        trust_remote_code=options.trust_remote_code,
        adapter_base=options.adapter_base,
    )


def _no_revision(options: argparse.Namespace) -> None:
    """
    Raises:
        CFTError: A revision or a base of a model at an endpoint, which would be ignored.
    """
    if options.base_url and options.adapter_base:
        raise CFTError(f"--adapter-base {options.adapter_base}: an endpoint serves what it serves, leave it out")
    if options.base_url and options.revision:
        raise CFTError(
            f"--revision {options.revision} belongs to a Hub id, not to a model at an endpoint; leave it out"
        )


def sampling_of(options: argparse.Namespace) -> dict[str, Any]:
    """The keyword arguments of `run_mode` and `stream_mode` that the options give."""
    return {
        "max_new_tokens": options.max_new_tokens,
        "temperature": options.temperature,
        "top_p": options.top_p,
        "seed": options.seed,
        "prompt_preset": options.prompt_preset
        or trained_preset(options.model, options.revision, on_hub=not options.base_url),
    }


def read_text(value: str, option: str) -> str:
    """The text that an option gives: itself, `@file`, or `-` for standard input.

    Raises:
        CFTError: The file cannot be read, or the text is empty.
    """
    try:
        if value == "-":
            value = sys.stdin.read()
        elif value.startswith("@"):
            value = Path(value[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CFTError(f"{option} {value}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if not value.strip():
        raise CFTError(f"{option} is empty; give a text, @file, or - for standard input")
    return value.strip()


def read_rows(source: str, columns: Mapping[str, tuple[str, ...]]) -> list[dict[str, Any]]:
    """The rows of a file, each with the columns asked for.

    Args:
        source: A file, or "-" for JSON lines on standard input.
        columns: Column -> other names it goes by.

    Raises:
        CFTError: The file cannot be read, holds no rows, or one lacks a column or has it empty.
    """
    rows = []
    for row, where in _lines(source):
        if not isinstance(row, dict):
            raise CFTError(f"{where}: a row must be an object with columns; got {type(row).__name__}")
        for name, others in columns.items():
            found = next((column for column in (name, *others) if row.get(column) is not None), None)
            if found is None:
                wanted = " or ".join((name, *others))
                raise CFTError(f"{where}: no column {wanted}; found {', '.join(map(str, row)) or 'none'}")
            text = conversation_text(row[found], f"{where}: column '{found}'")
            if not isinstance(text, str) or not text.strip():
                raise CFTError(f"{where}: column '{found}' holds no text; give one or leave the row out")
            row = {**row, name: text}
        rows.append(row)
    if not rows:
        raise CFTError(f"--input {source}: no rows in it")
    return rows


def _lines(source: str) -> Iterator[tuple[Any, str]]:
    if source != "-":
        from cft_trl.data.files import SUFFIXES, read_files

        if not source.endswith(SUFFIXES):
            raise CFTError(f"--input {source}: give a file ending in {', '.join(SUFFIXES)}, or - for standard input")
        yield from read_files([source])
        return
    for number, line in enumerate(sys.stdin, 1):
        try:
            if line.strip():
                yield json.loads(line), f"standard input, line {number}"
        except ValueError as error:
            raise CFTError(f"standard input, line {number}: not JSON: {error}; give one object per line") from None


def write_rows(rows: Iterable[Mapping[str, Any]], output: Path | None) -> None:
    """JSON lines into a file, whole or not at all, or onto standard output."""
    from cft_trl.data.folders import write_text

    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    if output is None:
        print(text)
    else:
        write_text(output, text)


def told_verdict(critique: str | None, verdict: str | None, preset: str | Wording) -> dict[str, str | None]:
    """The columns that tell a critique's verdict: `verdict`, and `said` where the wording has words of its own.

    Args:
        critique: Its text.
        verdict: Right, wrong or None, as it was read.
        preset: The wording it was asked in.
    """
    return {"verdict": verdict} | ({"said": said_by(critique, preset)} if own_verdicts(preset) else {})


def check_output(output: Path | None) -> None:
    """Before hours of work: there is a folder that the file can be written to.

    Raises:
        CFTError: There is not.
    """
    if output is not None:
        from cft_trl.data.folders import check_writable

        if output.is_dir():
            raise CFTError(f"--output {output} is a folder; give a file name ending in .jsonl")
        check_writable(output.parent)


def show(events: Iterable[Event]) -> None:
    """Writes the pieces as they come, with a heading before each text but the first, and verdicts in colour.

    Raises:
        CFTError: There is no text, and why.
    """
    before = None
    for event in events:
        if event.outcome is not None:
            print(flush=True)
            if event.outcome.failure:
                raise CFTError(event.outcome.failure)
            if event.outcome.finish_reason == "length":
                print("cft: the text was cut at --max-new-tokens", file=sys.stderr)
        elif event.kind == "verdict":
            word = event.said or event.text or "none"
            coloured = f"\033[1;{_COLOURS[event.text]}m{word}\033[0m" if sys.stdout.isatty() else word
            print(f"\n\nverdict: {coloured}", end="")
        else:
            if before not in (None, (event.kind, event.round)):
                print(f"\n\n--- {event.kind} {event.round} ---")
            before = event.kind, event.round
            print(event.text, end="", flush=True)
