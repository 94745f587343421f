"""Runs a small Python function on test cases, in a process of its own with limits.

    run_cases("def f(x):\\n    return x + 1", "f", [[1], ["a"]])
    # [CaseResult("returned", "2"), CaseResult("raised", "TypeError: can only concatenate str (not \"int\") to str")]

The process has an empty folder and no environment, and limits on CPU seconds, memory, the size and number of its files,
and time by the clock; the arithmetic of a bug cannot fill a disk or hang a build. They are limits, not walls: the
code runs as the user who builds, may read what that user may read and may use the network. It is made for code that is
wrong by accident, such as the mutants that this package makes; what strangers wrote belongs into a container.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

CPU_SECONDS = 1
MEMORY = 512 * 2**20
_FILE_BYTES = 2**20
_FILES = 32
_WALL_SECONDS = 10.0
_MOST_TEXT = 200  # characters of a value that are told
_NOT_LOADED = "not loaded"  # what the runner calls code that fails before any call

_RUNNER = r"""
import json, sys
import resource
for name, value in (("CPU", {cpu}), ("AS", {memory}), ("FSIZE", {file}), ("NOFILE", {files}), ("CORE", 0)):
    kind = getattr(resource, "RLIMIT_" + name)
    hard = resource.getrlimit(kind)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    try:
        resource.setrlimit(kind, (value, value))
    except ValueError:
        if name != "AS":  # macOS has no such limit
            raise
job = json.load(sys.stdin)
out = open("results", "w", buffering=1)
space = {{"__name__": "reviewed"}}
def told(value):
    text = repr(value)
    return text if len(text) <= {most} else text[:{most}] + "..."
def call(function, arguments):
    try:
        return "returned", told(function(*arguments))
    except MemoryError:
        return "raised", "MemoryError"
    except BaseException as error:
        return "raised", told(type(error).__name__ + ": " + str(error))[1:-1]
try:
    exec(compile(job["code"], "<reviewed>", "exec"), space)
    function = space[job["name"]]
except BaseException as error:
    out.write(json.dumps(["not loaded", type(error).__name__ + ": " + str(error)[:{most}]]) + "\n")
    sys.exit(1)
for case in job["cases"]:
    out.write(json.dumps(call(function, case)) + "\n")
"""


class CaseResult(NamedTuple):
    """What became of one call: `kind` is "returned" (`text` is the value's repr), "raised" or "stopped"."""

    kind: str
    text: str


def run_cases(
    code: str, name: str, cases: Sequence[Sequence[Any]], *, cpu_seconds: int = CPU_SECONDS, memory: int = MEMORY
) -> list[CaseResult]:
    """Calls a function once per case.

    Args:
        code: Its source, with whatever it needs.
        name: The function's name in it.
        cases: The arguments of each call, as JSON can hold them.
        cpu_seconds: CPU time of all calls together; the one that uses it up, and those after it, are "stopped".
        memory: Bytes of address space.

    Returns:
        One result per case, in their order. Where the code cannot be loaded, every one of them says so.

    Example:
        >>> run_cases("def half(n):\\n    return n / 2", "half", [[6]])
        [CaseResult(kind='returned', text='3.0')]
        >>> run_cases("def half(n):\\n    return m / 2", "half", [[6]])
        [CaseResult(kind='raised', text="NameError: name 'm' is not defined")]
    """
    runner = _RUNNER.format(cpu=cpu_seconds, memory=memory, file=_FILE_BYTES, files=_FILES, most=_MOST_TEXT)
    with tempfile.TemporaryDirectory(prefix="cft-tests-") as folder:
        # A session of its own, so that what it may have started ends with it.
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", runner],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env={},
            start_new_session=True,
        )
        how = "no result, for it ends the process"
        try:
            job = json.dumps({"code": code, "name": name, "cases": [list(case) for case in cases]})
            process.communicate(job.encode(), timeout=_WALL_SECONDS)
            if process.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
                how = f"no result within {cpu_seconds} s of CPU time"
        except subprocess.TimeoutExpired:
            how = f"no result within {_WALL_SECONDS:g} s"
        finally:
            with suppress(ProcessLookupError, PermissionError):  # nothing is left of it
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        found = _read(Path(folder) / "results")
    if found and found[0].kind == _NOT_LOADED:
        return [CaseResult("raised", found[0].text)] * len(cases)
    stopped = CaseResult("stopped", how)
    return [*found, *[stopped] * (len(cases) - len(found))][: len(cases)]


def _read(path: Path) -> list[CaseResult]:
    """The lines that are whole; of one that was cut off nothing counts."""
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else ():
        try:
            kind, text = json.loads(line)
        except ValueError:
            break
        found.append(CaseResult(str(kind), str(text)))
    return found
