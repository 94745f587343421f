"""Which rows are evaluated: none that a part trains on; and whose critiques a run writes."""

from __future__ import annotations

import json
import shutil

import pytest
from datasets import Dataset

from cft_trl.commands.settings import parse_settings
from cft_trl.errors import CFTError
from cft_trl.sources.arithmetic import arithmetic_records
from cft_trl.training.mixture import DatasetPart
from cft_trl.training.rows import load_rows, rows_to_critique


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder that the command is given in, with two files."""
    monkeypatch.chdir(tmp_path)
    for name, seed, count in (("critiques", 1, 20), ("solutions", 2, 12)):
        lines = [json.dumps(row) for row in arithmetic_records(count, seed=seed, levels=(1,))]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    return tmp_path


@pytest.fixture
def splits(folder):
    """A folder `data` with the files of two splits, and what reads its rows with one part each of some settings."""
    for split, name in (("train", "critiques"), ("test", "solutions")):
        (folder / "data" / split).mkdir(parents=True)
        shutil.copy(folder / f"{name}.jsonl", folder / "data" / split / "rows.jsonl")

    def load(*parts):
        flags = ["--output_dir", "x", "--eval_strategy", "epoch", "--use_cpu", "true"]
        return load_rows(parse_settings([*flags, "--datasets", *map(json.dumps, parts)])[0], evaluate=True)

    return load


@pytest.mark.parametrize(
    ("parts", "told"),
    [([{"path": "data", "eval_split": "test"}, {"path": "./data", "split": "test"}],
      "part 1 (data): eval_split=test is what part 2 trains on"),
     ([{"path": "data", "split": "test"}, {"path": "data", "eval_split": "test"}],
      "part 2 (data): eval_split=test is what part 1 trains on"),
     ([{"path": "data", "split": "test", "eval_split": "test"}], "part 1 (data): eval_split=test is what it trains on"),
     ([{"path": "critiques.jsonl", "eval_split": "test"}], "eval_split=test is what it trains on"),
     ([{"path": "*.jsonl", "eval_split": "test"}], "eval_split=test is what it trains on"),
     ([{"path": "critiques.jsonl", "eval_rows": 3}, {"path": "./data/../critiques.jsonl", "eval_rows": 4}],
      "parts 1 and 2 read the same rows (./data/../critiques.jsonl) with eval_rows 3 and 4"),
     ([{"path": "critiques.jsonl", "eval_rows": 3}, {"path": "critiques.jsonl", "split": "test"}],
      "parts 1 and 2 read the same rows"),
     ([{"path": "arithmetic", "split": "validation", "eval_rows": 3}], "of split validation, which is what it trains"),
     ([{"path": "arithmetic", "split": "validation", "seed": 5}, {"path": "arithmetic", "eval_rows": 3, "limit": 9}],
      "part 2 (arithmetic): eval_rows are of split validation, which is what part 1 trains on")],
)  # fmt: skip
def test_no_part_trains_on_what_is_evaluated(parts, told, splits):
    with pytest.raises(CFTError) as caught:
        splits(*parts)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "parts",
    [[{"path": "data", "eval_split": "test"}, {"path": "data"}],
     [{"path": "critiques.jsonl", "eval_rows": 3}, {"path": "./critiques.jsonl", "eval_rows": 3}],
     [{"path": "data", "eval_rows": 3}, {"path": "data", "split": "test", "eval_rows": 2}],
     [{"path": "arithmetic", "eval_rows": 3, "limit": 9}, {"path": "arithmetic", "split": "test", "limit": 9}]],
)  # fmt: skip
def test_parts_that_share_a_source_and_no_evaluated_row(parts, splits):
    trained, evaluated = splits(*parts)
    used = {row["id"] for one in trained for row in one.rows}
    assert used
    assert not used & {row["id"] for one in evaluated for row in one.rows}


@pytest.mark.parametrize(
    ("name", "flags", "told"),
    [("*.jsonl", [], "holds no other rows than those trained on"),
     ("arithmetic", ["--dataset_train_split", "validation", "--eval_rows", "3"], "of split validation, which")],
)  # fmt: skip
def test_a_single_dataset_is_not_evaluated_on_what_it_trains_on(name, flags, told, folder):
    flags = ["--output_dir", "x", "--use_cpu", "true", "--dataset_name", name, *flags]
    with pytest.raises(CFTError, match=told):
        load_rows(parse_settings(flags)[0], evaluate=True)


# ---- free critiques --------------------------------------------------------------------------------------------------

WORDS = {"right": "accept", "wrong": "reject"}
TEMPLATE = "Review.\n{{ query }}\n{{ response }}"


@pytest.mark.parametrize(
    ("parts", "run", "critiqued"),
    [([{"prompt_preset": "paper"}, {}], {"prompt": TEMPLATE}, [1]),
     ([{}, {"prompt_preset": "compact"}], {"prompt": TEMPLATE, "verdicts": WORDS}, [0]),
     ([{"prompt_preset": "compact"}, {"prompt_preset": "paper"}], {"verdicts": WORDS}, [1]),
     ([{"objective": "sft"}, {"prompt_preset": "paper"}], {}, [1]),
     ([{}, {"prompt_preset": "paper"}], {}, [0, 1])],
)  # fmt: skip
def test_free_critiques_are_of_the_parts_with_the_runs_own_wording(parts, run, critiqued, make_config):
    rows = [Dataset.from_list(list(arithmetic_records(4, seed=seed, levels=(1,)))) for seed in (1, 2)]
    held_out = [DatasetPart(of_part, **part) for of_part, part in zip(rows, parts, strict=True)]
    own = [row["query"] for number in critiqued for row in rows[number]]
    assert [row["query"] for row in rows_to_critique(held_out, len(own), make_config(**run))] == own
    with pytest.raises(CFTError, match=f"objective cft and the run's prompt hold out {len(own)} rows"):
        rows_to_critique(held_out, len(own) + 1, make_config(**run))
