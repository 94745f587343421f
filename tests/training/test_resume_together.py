"""Several processes go on from one checkpoint: the first one's."""

import os
import socket
import subprocess
import sys

import pytest

from cft_trl.errors import CFTError
from cft_trl.training.launch import agree_on

PROCESS = """
import os
from accelerate import PartialState
PartialState(cpu=True)
from cft_trl.errors import CFTError
from cft_trl.training.launch import agree_on
os.chdir(os.environ["NODE"])

def find():
    if os.environ["RANK"] == "0" and os.environ["FAULT"]:
        raise CFTError(os.environ["FAULT"])
    return next((name for name in sorted(os.listdir()) if name.startswith("checkpoint-")), None)

try:
    print("goes on from", agree_on(find))
except CFTError as error:
    print("refused:", error)
"""


def run_nodes(folders, fault="") -> list[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    world = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    nodes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS],
            env={**os.environ, **world, "RANK": str(i), "LOCAL_RANK": str(i), "NODE": str(folder), "FAULT": fault},
            stdout=subprocess.PIPE,
            text=True,
        )
        for i, folder in enumerate(folders)
    ]
    return [node.communicate(timeout=120)[0].strip().splitlines()[-1] for node in nodes]


@pytest.fixture
def nodes(tmp_path):
    """Two disks: the first node's holds a checkpoint."""
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
    (folders[0] / "checkpoint-40").mkdir()
    return folders


@pytest.mark.slow
def test_a_node_without_the_first_ones_checkpoint_says_so(nodes):
    first, second = run_nodes(nodes)
    assert first == "goes on from checkpoint-40"
    assert second.startswith("refused: process 1 does not see 'checkpoint-40'")


@pytest.mark.slow
def test_nodes_go_on_from_the_first_ones_checkpoint_and_share_its_refusal(nodes):
    (nodes[1] / "checkpoint-40").mkdir()
    (nodes[1] / "checkpoint-20").mkdir()  # what this node would have found by itself
    assert run_nodes(nodes) == ["goes on from checkpoint-40"] * 2
    assert run_nodes(nodes, fault="other settings") == ["refused: other settings"] * 2


def test_one_process_asks_nobody(tmp_path):
    (tmp_path / "checkpoint-2").mkdir()
    assert agree_on(lambda: None) is None
    assert agree_on(lambda: str(tmp_path / "checkpoint-2")) == str(tmp_path / "checkpoint-2")

    def refuse():
        raise CFTError("other settings")

    with pytest.raises(CFTError, match="other settings"):
        agree_on(refuse)
