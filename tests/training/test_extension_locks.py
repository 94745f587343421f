"""A lock that a killed run left and one that is held: told apart, told while a run waits, named by `cft doctor`."""

from __future__ import annotations

import os
import time

import pytest

from cft_trl.commands import doctor_checks as doctor
from cft_trl.training import extension_locks as locks


@pytest.fixture
def lock(tmp_path, monkeypatch):
    """A lock as PyTorch's FileBaton makes it, which nobody holds."""
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    path = tmp_path / "py311_cpu" / "cpu_adam" / "lock"
    path.parent.mkdir(parents=True)
    path.touch()
    return path


def test_held_and_left(lock):
    from torch.utils.file_baton import FileBaton

    assert "no process of this machine has it open" in str(locks.extension_locks()[0])
    lock.unlink()
    baton = FileBaton(str(lock))
    assert baton.try_acquire()
    [found] = locks.extension_locks()
    assert (found.path, found.held, "a process compiles there" in str(found)) == (lock, True, True)
    baton.release()
    assert locks.extension_locks() == []


def test_the_users_cache_is_looked_at(lock, tmp_path, monkeypatch):
    monkeypatch.delenv("TORCH_EXTENSIONS_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert locks.extension_locks() == []
    (tmp_path / "torch_extensions").mkdir()
    (tmp_path / "py311_cpu").rename(tmp_path / "torch_extensions" / "py311_cpu")
    assert len(locks.extension_locks()) == 1


def test_the_doctor_names_it_and_what_mends_it(lock):
    [found] = doctor.check_locks()
    assert (found.state, found.mend) == ("note", f"rm {lock}")
    assert str(lock) in found.told
    held = os.open(lock, os.O_RDONLY)
    try:
        assert [one.state for one in doctor.check_locks()] == ["ok"]
    finally:
        os.close(held)
    lock.unlink()
    assert list(doctor.check_locks()) == []


def test_a_run_that_waits_says_for_what_once(lock, capsys):
    locks.tell_while_waiting(every_s=0.01)
    deadline, out = time.monotonic() + 60, ""
    while "waiting" not in out and time.monotonic() < deadline:
        time.sleep(0.02)
        out += capsys.readouterr().out
    time.sleep(0.1)
    locks.waits_no_longer()
    out += capsys.readouterr().out
    assert out.count("waiting for ") == 1
    assert out.rstrip().endswith(f"others wait for it for ever; rm {lock}")
