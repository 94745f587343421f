"""The scripts under benchmarks/: what they compare is what they say, and they run."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys

import pytest
from conftest import REPOSITORY, make_model

FOLDER = REPOSITORY / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    """`script("one_shot")` -> the module."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


@pytest.fixture
def model_folder(tokenizers, tmp_path):
    make_model(tokenizers("chatml")).save_pretrained(tmp_path / "model")
    tokenizers("chatml").save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_the_readme_names_every_script_with_its_command():
    text = (FOLDER / "README.md").read_text()
    scripts = {path.name for path in FOLDER.glob("*.py")} - {"measure.py"}
    assert set(re.findall(r"^## `(\w+\.py)`", text, re.MULTILINE)) == scripts
    assert scripts <= set(re.findall(r"python benchmarks/(\w+\.py)", text))


def test_one_shot_rows_have_one_query_and_critiques_of_one_response(script, tokenizer):
    rows = script("one_shot").make_rows(3, 4, 300, 120, tokenizer)
    assert len(rows) == 12
    assert len(set(rows["query"])) == 1
    for group in range(3):
        of_one = rows.select(range(4 * group, 4 * group + 4))
        assert len(set(of_one["response"])) == 1
        assert len(set(of_one["critique"])) == 4
    assert len(set(rows["response"])) > 1
    assert set(rows["verdict"]) <= {"right", "wrong"}


def test_one_shot_losses_are_the_same_with_sharing(script, model_folder, monkeypatch, capsys):
    words = f"one_shot.py --model {model_folder} --steps 3 --critiques 3 --prompt 200 --critique 80 --no-save"
    monkeypatch.setattr(sys, "argv", words.split())
    script("one_shot").main()
    out = capsys.readouterr().out
    assert float(re.search(r"Losses agree to ([\d.e+-]+)", out)[1]) < 1e-5
    off, on = (int(n.replace(",", "")) for n in re.findall(r"^\| (?:off|on) \| ([\d,]+) ", out, re.MULTILINE))
    assert off > 1.3 * on
    assert len(re.findall(r"^\| [123] \| [\d.]+ \| [\d.]+ \|$", out, re.MULTILINE)) == 3


def test_large_datasets_are_prepared_in_both_ways(script, model_folder, tmp_path):
    large = script("large_dataset")
    large.write(tmp_path / "rows.parquet", 60)
    texts = list(large.rows(9000))
    assert len({row["query"] for row in texts}) == 3000
    packed, shared = large.prepare(tmp_path / "rows.parquet", str(model_folder))
    assert packed["stage"] == "tokenised, packed"
    assert shared["stage"] == "shared prefixes"
    assert 0 < int(shared["packs"]) < int(packed["packs"])
    assert float(packed["peak, MiB"].replace(",", "")) > 0


def test_the_peer_is_given_the_rows_and_a_peer_that_fails_is_told_of(script, tmp_path, tokenizer):
    peer = script("llama_factory")
    rows = [{"query": "2+2?", "response": "5", "critique": "No.\n\nConclusion: wrong [END]"}]
    options = type("Options", (), {"pack": 512, "batch": 7, "python": sys.executable})()
    task = peer.write_task(options, rows, "model", tmp_path, "packed")
    settings = json.loads(task.read_text())
    assert settings["neat_packing"] is True
    [row] = json.loads((tmp_path / "rows.json").read_text())
    assert [turn["role"] for turn in row["messages"]] == ["user", "assistant"]
    failed = peer.Peer(options, rows, "model", tmp_path / "run", "padded")  # this environment has no llamafactory
    assert not failed.ready
    assert "llamafactory" in failed.trouble
    failed.stop()


@pytest.mark.slow
def test_gpu_script_runs_its_whole_path():
    done = subprocess.run(
        [sys.executable, FOLDER / "gpu.py", "--smoke", "--no-save"], capture_output=True, text=True, cwd=REPOSITORY
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for who in ("TRL packing=bfd, sdpa", "cft-trl packing=bfd, sdpa", "cft-trl share_prefixes"):
        assert re.search(rf"^\| {re.escape(who)} \| 512 ", done.stdout, re.MULTILINE)
    away = re.search(r"bf16, shared \| [\d.]+ \| ([\d.e-]+) \| ([\d.e-]+)", done.stdout)
    assert float(away[1]) < 1e-3
    assert float(away[2]) < 0.05


@pytest.mark.slow
def test_planned_memory_is_within_fifteen_percent_of_the_measured():
    pytest.importorskip("gguf")
    command = [sys.executable, FOLDER / "plan_check.py", "--only", "1024-plain", "--no-save"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr[-2000:]
    assert float(re.search(r"Largest difference of memory ([\d.]+)%", done.stdout)[1]) < 15


@pytest.mark.slow
def test_readers_compares_with_what_was_saved(script, tmp_path, monkeypatch):
    readers = script("readers")
    monkeypatch.setattr(readers, "FAMILIES", {"llama": readers.FAMILIES["llama"]})
    monkeypatch.setattr(readers, "SMALL", "./none")
    readers.make_artifacts(tmp_path / "made")
    reader = next(one for one in readers.READERS if one.name == "transformers 5.23")
    result = readers.read(reader, tmp_path / "made", tmp_path, tmp_path / "out", None)
    assert readers.summary(tmp_path / "made", result) == {"same": "llama", "not": "-"}
    config = json.loads((tmp_path / "made/models/llama/config.json").read_text())
    for name in ("rope_parameters", "rope_scaling"):
        config[name]["rope_theta"] = 1e4  # what an older reader takes where it finds none
    (tmp_path / "made/models/llama/config.json").write_text(json.dumps(config))
    result = readers.read(reader, tmp_path / "made", tmp_path, tmp_path / "out", None)
    assert readers.summary(tmp_path / "made", result)["not"].startswith("llama: other logits by ")
    rows = json.loads((tmp_path / "made/expected/default.json").read_text())["rows"]
    assert readers.verdict(tmp_path / "made", "default", {"rows": rows}) == ""
    assert readers.verdict(tmp_path / "made", "default", {"rows": rows[1:]}) == "other rows"
