"""Benchmarks from the Hub are of one commit, which is recorded; a pinned revision says nothing of a folder's rows."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from eval_runs import write_benchmarks
from hub_server import OWNER, HubServer

from cft_trl.grading.benchmarks import BENCHMARKS, FOLDER_VARIABLE, REVISIONS_VARIABLE, load_benchmark
from cft_trl.grading.revisions import read_at


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub with two commits of a benchmark of two problems; the first has the tag v1."""
    import datasets
    from huggingface_hub import HfApi, hf_hub_download

    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)

    def load_dataset(name, config, *, split, revision=None):
        # datasets keeps its own copy of the Hub's address and would want a process of its own.
        path = hf_hub_download(name, f"{split}.jsonl", repo_type="dataset", revision=revision)
        return [json.loads(line) for line in Path(path).read_text().splitlines()]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with HubServer(tmp_path / "hub") as server:
        server.patch_client(monkeypatch, OWNER)
        benchmark = dataclasses.replace(BENCHMARKS["gsm8k"], hub="org/gsm8k", config=None, size=2)
        monkeypatch.setitem(BENCHMARKS, "gsm8k", benchmark)
        HfApi().create_repo("org/gsm8k", repo_type="dataset")
        for first in (1, 5):
            rows = [{"question": f"{n} + 1?", "answer": f"#### {n + 1}"} for n in (first, first + 1)]
            text = "".join(json.dumps(row) + "\n" for row in rows).encode()
            put = {"path_or_fileobj": text, "path_in_repo": "test.jsonl", "repo_id": "org/gsm8k"}
            HfApi().upload_file(**put, repo_type="dataset")
            if first == 1:
                HfApi().create_tag("org/gsm8k", tag="v1", repo_type="dataset")
        yield server


def test_a_branch_is_resolved_and_its_commit_is_read_and_recorded(hub, monkeypatch):
    repo = hub.repo("dataset", "org/gsm8k")
    assert [row["gold"] for row in load_benchmark("gsm8k")] == ["6", "7"]
    assert read_at("gsm8k") == repo["branches"]["main"]
    for revision in ("v1", repo["tags"]["v1"]):
        monkeypatch.setenv(REVISIONS_VARIABLE, f"gsm8k={revision}")
        assert [row["gold"] for row in load_benchmark("gsm8k")] == ["2", "3"]
        assert read_at("gsm8k") == repo["tags"]["v1"] != repo["branches"]["main"]


def test_a_revision_of_rows_from_a_folder_is_recorded_nowhere(hub, tmp_path, monkeypatch):
    load_benchmark("gsm8k")
    monkeypatch.setenv(REVISIONS_VARIABLE, "gsm8k=v1")
    write_benchmarks(tmp_path / "here", monkeypatch, ("gsm8k",))
    load_benchmark("gsm8k")
    assert read_at("gsm8k") is None
