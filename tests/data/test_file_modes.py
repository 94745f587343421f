"""What is built, pushed, pulled and copied has the permissions that the process gives its files."""

from __future__ import annotations

import os
import stat

import pytest
from hub_server import OWNER, HubServer
from test_publish import make_rows, publish_rows

from cft_trl.cli import main
from cft_trl.hub.upload import push_dataset

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of huggingface_hub's uploads


def modes(folder):
    return {path.relative_to(folder).as_posix(): stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*")}


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o002])
def test_a_dataset_and_its_copy_may_be_read_by_whom_the_umask_lets(tmp_path, monkeypatch, umask):
    monkeypatch.chdir(tmp_path)
    before = os.umask(umask)
    try:
        publish_rows(tmp_path / "out", make_rows(20))
        with HubServer(tmp_path / "hub", part_size=8_000) as server:
            server.patch_client(monkeypatch, OWNER)
            push_dataset(tmp_path / "out", "org/rows")
            assert main(["pull", "org/rows"]) == 0
        assert main(["recipes", "there"]) == 0
    finally:
        os.umask(before)
    for name in ("out", "rows", "there"):
        found = modes(tmp_path / name)
        wanted = {path: (0o777 if (tmp_path / name / path).is_dir() else 0o666) & ~umask for path in found}
        assert len(found) > 5
        assert found == wanted
