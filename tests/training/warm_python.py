#!/usr/bin/env -S python3 -S
"""Python processes that begin with torch, TRL, DeepSpeed and cft_trl imported: forks of one process that did so once.

A launch of two processes spends its time on imports, three times 7 s. Here a server imports, and this file, as the
program that a launcher starts, hands its words, environment and streams to the server and stays in its place:

    with warm_python.Server(folder, environment) as server:
        subprocess.run([*server.python, "-m", "accelerate.commands.launch", …, "--no_python", *server.python, "run.py"])

What a fork sets in its own memory no other process sees. What a library reads from the environment *while it is
imported* is the server's: give it the environment that the processes are to have.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys

ADDRESS = "CFT_WARM_PYTHON"  # names the server's socket
_MODULES = (
    "torch",
    "accelerate",
    "peft",
    "deepspeed",
    "datasets",
    "cft_trl.training.trainer",
    "cft_trl.training.script",
)


# ---- the program that a launcher starts ------------------------------------------------------------------------------


def stand_in(words: list[str]) -> int:
    """Has the server run `words` as Python would, passes signals on, and ends as it ended."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(os.environ[ADDRESS])
    request = json.dumps({"words": words, "environment": dict(os.environ), "folder": os.getcwd()}).encode()
    socket.send_fds(connection, [len(request).to_bytes(8, "big")], [0, 1, 2])
    connection.sendall(request)
    replies = connection.makefile()
    pid = int(replies.readline())
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _: os.kill(pid, number))
    status = int(replies.readline() or -signal.SIGKILL)  # no line: the server is gone
    if status < 0:
        signal.signal(-status, signal.SIG_DFL) if -status != signal.SIGKILL else None
        os.kill(os.getpid(), -status)
    return status


# ---- the server ------------------------------------------------------------------------------------------------------


class Server:
    """The server as a process of its own, for the time of a `with`.

    Args:
        folder: Where its socket lies; a short path, as sockets want.
        environment: Its variables.

    Attributes:
        python: The words that stand for `python` in a command line.
    """

    def __init__(self, folder, environment) -> None:
        self._address = os.path.join(folder, "warm.socket")
        self._environment = {**environment, ADDRESS: self._address}
        self.python = ["/usr/bin/env", f"{ADDRESS}={self._address}", os.path.abspath(__file__)]

    def __enter__(self) -> Server:
        import subprocess

        self._process = subprocess.Popen(
            [sys.executable, os.path.abspath(__file__), "--serve"], env=self._environment, stdout=subprocess.PIPE
        )
        if not self._process.stdout.readline():
            raise RuntimeError("the server of forks did not start")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.unlink(self._address)


def serve() -> None:
    """Imports, listens, forks. Returns in a fork only, to run what `begin` has put into `sys.argv`."""
    import gc
    import importlib
    import selectors

    for name in _MODULES:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # else every fork goes through, and so copies, what all have in common
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(os.environ[ADDRESS])
    listening.listen()
    print("ready", flush=True)
    # One thread and no more: a fork has the thread that forked, and the locks of all.
    waiting = selectors.DefaultSelector()
    waiting.register(listening, selectors.EVENT_READ)
    asked: dict[int, socket.socket] = {}  # process -> who waits for it
    while True:
        for key, _ in waiting.select(timeout=0.05):
            if key.fileobj is not listening:  # nobody writes here: the stand-in was killed, so is its fork
                pid = next(pid for pid, connection in asked.items() if connection is key.fileobj)
                waiting.unregister(key.fileobj)
                os.kill(pid, signal.SIGKILL)
                continue
            connection = listening.accept()[0]
            size, streams, *_ = socket.recv_fds(connection, 8, 3)
            request = json.loads(connection.makefile("rb").read(int.from_bytes(size, "big")))
            pid = os.fork()
            if pid == 0:
                for other in (listening, connection, *asked.values()):
                    other.close()
                waiting.close()
                return begin(request, streams)
            for stream in streams:
                os.close(stream)
            connection.sendall(f"{pid}\n".encode())
            asked[pid] = connection
            waiting.register(connection, selectors.EVENT_READ)
        while asked:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            connection = asked.pop(pid)
            if connection in {key.fileobj for key in waiting.get_map().values()}:
                waiting.unregister(connection)
                connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
            connection.close()


def begin(request: dict, streams: list[int]) -> None:
    """Makes a fork the process that was asked for: streams, folder, environment, words."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = request["words"]


def run(words: list[str]) -> None:
    """`python WORDS`: a module after -m, or a script."""
    import runpy

    if words[0] == "-m":
        sys.argv = words[1:]
        sys.path[0] = os.getcwd()
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = os.path.dirname(os.path.abspath(words[0]))
        runpy.run_path(words[0], run_name="__main__")


if __name__ == "__main__":
    if sys.argv[1:] == ["--serve"]:
        serve()
        run(sys.argv)
    else:
        sys.exit(stand_in(sys.argv[1:]))
