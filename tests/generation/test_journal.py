"""The journal under torn writes, damage, a second writer and a full disk."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from cft_trl.errors import CFTError
from cft_trl.generation.journal import Journal, Places, request_key

KEYS = [request_key("m", [{"role": "user", "content": str(number)}], {}) for number in range(5)]


def fill(folder, keys=KEYS):
    with Journal(folder) as journal:
        for number, key in enumerate(keys):
            journal.append(key, {"text": f"Ünï {number}"})
    return journal.path


def test_results_are_found_again_in_another_process(tmp_path):
    fill(tmp_path)
    with Journal(tmp_path) as journal:
        assert len(journal) == 5
        assert [journal.get(key) for key in KEYS] == [{"text": f"Ünï {number}"} for number in range(5)]
        assert journal.get("0" * 32) is None


@pytest.mark.parametrize("torn", [1, 10, -1])
def test_a_torn_last_line_is_cut_off_and_the_next_one_is_whole(tmp_path, torn):
    path = fill(tmp_path)
    whole = path.read_bytes()
    last = whole.splitlines(keepends=True)[-1]
    path.write_bytes(whole[: -len(last)] + last[:torn])
    with Journal(tmp_path) as journal:
        assert (len(journal), journal.repaired, KEYS[4] in journal) == (4, 1, False)
        journal.append(KEYS[4], {"text": "Ünï 4"})
        assert journal.get(KEYS[4]) == {"text": "Ünï 4"}
    assert path.read_bytes() == whole


def test_a_damaged_line_costs_only_itself(tmp_path):
    path = fill(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], b"\x00\x00garbage\n", b"[1]\n", *lines[1:]]))
    with Journal(tmp_path) as journal:
        assert (len(journal), journal.repaired) == (5, 2)
        assert journal.get(KEYS[1]) == {"text": "Ünï 1"}


def test_what_was_given_up_is_known_in_this_run_and_asked_again_in_the_next(tmp_path):
    with Journal(tmp_path) as journal:
        journal.append(KEYS[0], {"failure": "500"}, again=True)
        assert journal.get(KEYS[0]) == {"failure": "500"}
    with Journal(tmp_path) as journal:
        assert KEYS[0] not in journal
        journal.append(KEYS[0], {"text": "at last"})
    with Journal(tmp_path) as journal:
        assert journal.get(KEYS[0]) == {"text": "at last"}


@pytest.mark.slow
def test_many_keys_are_found_each_and_take_little_memory(tmp_path):
    places = Places()
    for number in range(5000):
        places.put(number << 40, number)
        places.put(number << 40, number + 1)
    assert [places.get(number << 40) for number in range(5000)] == list(range(1, 5001))
    assert (len(places), places.get(1)) == (5000, None)
    assert sys.getsizeof(places._slots) < 60 * len(places)


def test_long_lines_and_keys_of_one_half_are_told_apart(tmp_path):
    key, other = "a" * 32, "b" * 16 + "a" * 16
    with Journal(tmp_path) as journal:
        journal.append(key, {"text": "x" * 600_000})
        journal.append(KEYS[0], {"text": "short"})
        assert (len(journal.get(key)["text"]), journal.get(KEYS[0])) == (600_000, {"text": "short"})
        assert journal.get(other) is None


def test_a_second_writer_is_refused_in_one_line_and_other_shards_are_not(tmp_path):
    code = f"from cft_trl.generation.journal import Journal; Journal({str(tmp_path)!r})"
    with Journal(tmp_path):
        with pytest.raises(CFTError, match="another run is writing here") as refused:
            Journal(tmp_path)
        assert "\n" not in str(refused.value)
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert "another run is writing here" in other.stderr
        with Journal(tmp_path, "00001") as shard:
            shard.append(KEYS[0], {"text": "the shard's"})
    with Journal(tmp_path) as journal:
        assert len(journal) == 0
    with pytest.raises(CFTError, match="names a file"):
        Journal(tmp_path, "../other")


def test_a_full_disk_ends_in_one_line_and_leaves_whole_lines(tmp_path):
    # A limit on the file's size stands in for the full disk: the kernel cuts the write short in the same way.
    code = textwrap.dedent(
        f"""
        import resource, signal
        from cft_trl.errors import CFTError
        from cft_trl.generation.journal import Journal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        journal = Journal({str(tmp_path)!r})
        try:
            for number in range(99):
                journal.append(f"{{number:032x}}", {{"text": "x" * 50}})
        except CFTError as error:
            print(number, error)
        """
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "cannot be written" in done.stdout
    with Journal(tmp_path) as journal:
        assert (len(journal), journal.repaired) == (int(done.stdout.split()[0]), 0)
        assert len(journal) > 3


def test_a_key_is_of_what_is_asked():
    ask = [{"role": "user", "content": "6 x 7?"}]
    keys = {
        request_key("m", ask, {"temperature": 0.3}),
        request_key("n", ask, {"temperature": 0.3}),
        request_key("m", ask, {"temperature": 0.4}),
        request_key("m", [{"role": "system", "content": "6 x 7?"}], {"temperature": 0.3}),
        request_key("m", ask, {"temperature": 0.3}, 1),
    }
    assert len(keys) == 5
