"""Servers of our own, with a stand-in for vLLM: one process that serves and a worker that outlives it if it can."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest

from cft_trl.errors import CFTError
from cft_trl.generation.vllm_server import free_port, last_words, start_seconds, vllm_server

# What the real server does as far as we can see it: a front end, and a worker that hears no SIGTERM.
FRONT_END = """\
import http.server, json, os, pathlib, subprocess, sys
worker = "import pathlib, os, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
worker += "pathlib.Path(sys.argv[1]).write_text(str(os.getpid())); time.sleep(600)"
folder = pathlib.Path(__file__).parent
(folder / "argv.json").write_text(json.dumps(sys.argv[1:]))
subprocess.Popen([sys.executable, "-c", worker, str(folder / "worker")])
if "--fails" in sys.argv:
    sys.exit("INFO loading\\nValueError: no room for the weights\\nRuntimeError: start failed. See root cause above.")
class Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/v1/die":
            print("RuntimeError: no such offset\\nRuntimeError: failed: see above for the root cause", flush=True)
            os._exit(1)
        self.send_response(503 if "--never-ready" in sys.argv else 200)
        self.end_headers()
        self.wfile.write(self.path.encode())
    def log_message(self, *parts):
        pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Server).serve_forever()
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """The folder of a "Python" that takes `-c` for granted and runs the stand-in for `-m vllm...`."""
    (tmp_path / "front_end.py").write_text(FRONT_END)
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\n[ "$1" = -c ] && exit 0\nshift 2\nexec {sys.executable} {tmp_path}/front_end.py "$@"\n'
    )
    python.chmod(0o755)
    monkeypatch.setenv("CFT_VLLM_PYTHON", str(python))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("cft_trl.generation.vllm_server._LEAVE_S", 2.0)
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def worker_pid(folder: Path) -> int:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        if (folder / "worker").is_file() and (text := (folder / "worker").read_text()):
            return int(text)
        time.sleep(0.05)
    raise AssertionError("the stand-in did not start")


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def gone(pid: int) -> bool:
    until = time.monotonic() + 20
    while is_alive(pid) and time.monotonic() < until:
        time.sleep(0.05)
    return not is_alive(pid)


def test_a_server_answers_in_the_block_and_nothing_of_it_is_left_after(stand_in, monkeypatch):
    monkeypatch.setenv("CFT_VLLM_OPTIONS", "--dtype float32 --max-model-len 2048")
    options = ["--max-model-len", "4096", "--data-parallel-size=2"]
    opened = len(list(Path("/proc/self/fd").glob("*")))
    with vllm_server(str(stand_in / "model"), served_name="mine", options=options) as url:
        assert urllib.request.urlopen(f"{url}/models").read() == b"/v1/models"
        worker = worker_pid(stand_in)
        assert is_alive(worker)
    assert gone(worker)
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"{url}/models")
    argv = json.loads((stand_in / "argv.json").read_text())
    assert " ".join(argv).startswith(f"--model {stand_in}/model --generation-config vllm --dtype float32 ")
    port = url.split(":")[2].removesuffix("/v1")
    assert argv[-7:] == ["--data-parallel-size=2", "--served-model-name", "mine", "--host", "127.0.0.1", "--port", port]
    assert argv.index("2048") < argv.index("4096")  # the caller's own comes last and wins
    assert len(list(Path("/proc/self/fd").glob("*"))) <= opened
    assert not list(stand_in.glob("cft-vllm-*.log"))


def test_a_generation_config_of_the_users_is_not_overruled(stand_in):
    with vllm_server(str(stand_in / "model"), options=["--generation-config=auto"]):
        pass
    assert "vllm" not in json.loads((stand_in / "argv.json").read_text())


def test_an_error_in_the_block_is_passed_on_and_the_server_ends(stand_in):
    def fail():
        with vllm_server(str(stand_in / "model")):
            raise OSError(f"mine {worker_pid(stand_in)}")

    with pytest.raises(OSError, match=r"mine \d") as told:
        fail()
    assert gone(int(str(told.value).split()[1]))


def test_a_server_that_ends_at_its_start_is_told_with_its_reason_and_its_log(stand_in):
    with (
        pytest.raises(CFTError, match="ended at its start: ValueError: no room for the weights") as told,
        vllm_server(str(stand_in / "model"), options=["--fails"]),
    ):
        pass
    [log] = stand_in.glob("cft-vllm-*.log")
    assert str(log) in str(told.value)
    assert gone(worker_pid(stand_in))


def test_a_server_that_dies_at_work_is_told_with_its_reason(stand_in):
    def ask(what):
        with vllm_server(str(stand_in / "model")) as url:
            with suppress(OSError):
                urllib.request.urlopen(f"{url}/{what}")
            raise CFTError("the server cannot be reached")

    with pytest.raises(CFTError, match="died at work: RuntimeError: no such offset"):
        ask("die")
    with pytest.raises(CFTError, match=r"^the server cannot be reached$"):
        ask("models")


def test_a_server_that_never_answers_is_given_up(stand_in):
    with (
        pytest.raises(CFTError, match="has not answered within 1 s"),
        vllm_server(str(stand_in / "model"), options=["--never-ready"], timeout_s=1, log=stand_in / "mine.log"),
    ):
        pass
    assert gone(worker_pid(stand_in))
    assert (stand_in / "mine.log").is_file()


def test_how_long_a_server_may_load_is_set_by_a_variable(stand_in, monkeypatch):
    monkeypatch.setenv("CFT_VLLM_START_SECONDS", "0.5")
    with (
        pytest.raises(CFTError, match=r"not answered within 0\.5 s \(CFT_VLLM_START_SECONDS gives it longer\)"),
        vllm_server(str(stand_in / "model"), options=["--never-ready"]),
    ):
        pass
    monkeypatch.setattr("cft_trl.generation.vllm_server.process_group", lambda *_: pytest.fail("it was started"))
    for wrong in ("ten", "0", "-5", "nan", "inf", "5 min"):
        monkeypatch.setenv("CFT_VLLM_START_SECONDS", wrong)
        with (
            pytest.raises(CFTError, match=rf"^CFT_VLLM_START_SECONDS={wrong}: give seconds, above 0, as 1800$"),
            vllm_server(str(stand_in / "model")),
        ):
            pass
    for unset in ("", " "):
        monkeypatch.setenv("CFT_VLLM_START_SECONDS", unset)
        assert start_seconds() == 600.0


def test_no_vllm_is_told_with_what_to_install(stand_in, monkeypatch):
    monkeypatch.setenv("CFT_VLLM_PYTHON", str(stand_in / "no-such-python"))
    with pytest.raises(CFTError, match="cannot be run"), vllm_server(str(stand_in / "model")):
        pass
    without = stand_in / "without"
    without.write_text("#!/bin/sh\nexit 1\n")
    without.chmod(0o755)
    monkeypatch.setenv("CFT_VLLM_PYTHON", str(without))
    with (
        pytest.raises(CFTError, match=r"not installed for .*without; .*pip install .*CFT_VLLM_PYTHON") as told,
        vllm_server(str(stand_in / "model")),
    ):
        pass
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_server_does_not_outlive_us(stand_in, number):
    script = f"""\
        import multiprocessing, sys, time
        from cft_trl.generation.vllm_server import vllm_server
        with vllm_server({str(stand_in / "model")!r}):
            # A worker of ours that outlives us must not keep the server alive.
            other = multiprocessing.get_context("fork").Process(target=time.sleep, args=(30,))
            other.start()
            print(other.pid, flush=True)
            time.sleep(600)
        """
    ours = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        other = int(ours.stdout.readline())
        worker = worker_pid(stand_in)
        assert is_alive(worker)
        os.kill(ours.pid, number)
        assert gone(worker)
        assert is_alive(other), "the server ended with the forked worker, not with us"
    finally:
        os.killpg(ours.pid, signal.SIGKILL)
        ours.wait()


@pytest.mark.parametrize(
    ("log", "told"),
    [
        ("", "it said nothing"),
        ("loading\n\n", "loading"),
        ("usage: x\napi_server.py: error: unrecognized arguments: --foo\n", "unrecognized arguments: --foo"),
        ("pydantic_core.ValidationError: 1 error\n  Value error, too long (9)\n  x\n", "Value error, too long (9)"),
        ("(Worker pid=1) ERROR 11-21 07:01:18 [a.py:1] torch.OutOfMemoryError: full\nRuntimeError: Engine core "
         "initialization failed. See root cause above.\n", "torch.OutOfMemoryError: full"),
        ("RuntimeError: Engine core initialization failed. See root cause above.\n", "Engine core"),
    ],
)  # fmt: skip
def test_the_last_words_are_those_that_say_why(tmp_path, log, told):
    (tmp_path / "log").write_text(log)
    assert told in last_words(tmp_path / "log")
    assert last_words(tmp_path / "none") == "it left no log"


def test_a_free_port_can_be_listened_on():
    import socket

    with socket.socket() as server:
        server.bind(("127.0.0.1", free_port()))


@pytest.mark.slow
def test_the_real_server_serves_and_leaves_nothing(tmp_path, monkeypatch):
    python = os.environ.get("CFT_VLLM_PYTHON")
    if not python or not shutil.which(python):
        pytest.skip("no vLLM here (set CFT_VLLM_PYTHON)")
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    monkeypatch.setenv("CFT_VLLM_OPTIONS", os.environ.get("CFT_VLLM_OPTIONS") or "--dtype float32 --enforce-eager")
    from cft_trl.generation.endpoint import Endpoint

    with vllm_server("smollm2-135m", options=["--max-model-len", "1024"]) as url:
        [answer] = Endpoint("smollm2-135m", url).generate(
            [[{"role": "user", "content": "What is 2 + 2?"}]], max_new_tokens=16
        )
        running = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True).stdout
        front = next(int(line.split()[0]) for line in running.splitlines() if url.split(":")[2][:-3] in line)
    assert answer.text.strip()
    assert gone(front)
