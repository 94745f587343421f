"""Asking the Hub for commits, and not asking one that does not answer."""

import os
import socket
import subprocess
import sys
import threading

import pytest

from cft_trl.data.hub_commits import cache_alone_if_unreachable, commit_now


@pytest.fixture
def nobody() -> str:
    """An address where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


def online(monkeypatch, endpoint):
    import datasets.config
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    return lambda: (constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE)


def test_a_hub_that_does_not_answer_is_not_asked_while_it_lasts(monkeypatch, nobody):
    offline = online(monkeypatch, nobody)
    with cache_alone_if_unreachable() as answers:
        assert not answers
        assert offline() == (True, True)
    assert offline() == (False, False)


def test_a_hub_that_answers_anything_is_asked(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        offline = online(monkeypatch, f"http://127.0.0.1:{server.getsockname()[1]}")
        with cache_alone_if_unreachable() as answers:
            assert answers
            assert offline() == (False, False)
        thread.join()


def test_a_whole_commit_is_asked_of_nobody(monkeypatch, nobody):
    online(monkeypatch, nobody)
    assert commit_now("dataset", "org/rows", "a" * 40) == "a" * 40
    assert commit_now("dataset", "org/rows", "main") is None


def test_a_dozen_benchmarks_are_not_each_waited_for(tmp_path, nobody):
    code = """
from cft_trl.evaluation.validation import find_overlap
overlap, unchecked = find_overlap([{"query": "1 + 1?"}])
print(overlap, len(unchecked))
"""
    left_out = ("HF_HUB_OFFLINE", "CFT_BENCHMARKS_DIR")
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    environment |= {"HF_ENDPOINT": nobody, "HF_HOME": str(tmp_path), "NO_PROXY": "127.0.0.1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=100)
    assert done.stdout == "{} 13\n", done.stderr
    assert "Retrying" not in done.stderr
