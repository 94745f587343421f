"""Launches of two processes: on two nodes, and those that would train something else (see test_distributed.py)."""

from __future__ import annotations

import socket

import pytest
from test_distributed import (
    Run,
    assert_same,
    finish,
    launch_words,
    needs_deepspeed,
    output_of,
    single,
    start,
    tiny,
    two,
)

__all__ = ["single", "tiny"]  # fixtures: used by their names

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_two_nodes(single, tiny, tmp_path):
    """The stock file for several nodes, on the loopback device: one process on each of two nodes."""
    needs_deepspeed()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    nodes = [
        two("zero3_multinode", "--machine_rank", rank, "--main_process_ip", "127.0.0.1", "--main_process_port", port)
        for rank in "01"
    ]
    settings = {"per_device_train_batch_size": 2}
    launches = [start(launch_words(node, tmp_path, tiny, settings), tmp_path) for node in nodes]
    codes = [finish(launch) for launch in launches]
    assert codes == [0, 0], output_of(tmp_path)[-5000:]
    run = Run(tmp_path / "run", tmp_path / "evidence", "")
    assert [(p["world"], p["zero_stage"], p["processes_on_node"]) for p in run.processes] == [(2, 3, 1)] * 2
    assert_same(run, single)


@pytest.mark.parametrize(
    ("launcher", "settings", "message"),
    [
        (["--num_processes", "2", "--cpu"], {}, "asked for several processes and started one"),
        (two("cpu_ddp"), {"use_cpu": False}, "each would train its own copy"),
        (two("cpu_zero2"), {"use_cpu": False}, "each would train its own copy"),
        (two("fsdp2"), {}, "FSDP was asked for but training would run as MULTI_CPU"),
    ],
    ids=["cpu flag", "no use_cpu", "ZeRO and no use_cpu", "fsdp without the patch"],
)
def test_a_launch_that_would_train_something_else_ends_in_one_line(tiny, tmp_path, launcher, settings, message):
    if "cpu_zero2.yaml" in str(launcher):
        needs_deepspeed()
    assert finish(start(launch_words(launcher, tmp_path, tiny, settings, witnessed=False), tmp_path)) != 0
    lines = [line for line in output_of(tmp_path).splitlines() if line.startswith("cft: ")]
    assert len(lines) == 1, output_of(tmp_path)[-5000:]
    assert message in lines[0]
    assert not list(tmp_path.glob("run/*"))
