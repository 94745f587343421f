"""Evaluations on the card and in the Hub's own formats: whose they are, and which of their scores count."""

from __future__ import annotations

import datetime
import json

import pytest
import yaml
from evaluation_folders import make_evaluation
from hub_runs import evaluated, make_run
from hub_server import OWNER, HubServer

from cft_trl.errors import CFTError
from cft_trl.grading.benchmarks import BENCHMARKS
from cft_trl.hub.push_model import prepare_push, push_model
from cft_trl.hub.results import registered_task

SCORES = {"aime24": (0.4, 30), "amc23": (0.6, 40), "gsm8k": (0.5, 100)}


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "run")


@pytest.fixture
def mine(run, tmp_path):
    """An evaluation of the run's model: two whole benchmarks, and the first hundred problems of a third."""
    folder = make_evaluation(tmp_path / "eval-mine", SCORES, limit={"aime24": None, "amc23": None, "gsm8k": 100})
    return evaluated(folder, run)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub that has AIME 2024 registered as a benchmark, and AMC 2023 not."""
    with HubServer(tmp_path / "hub") as server:
        server.patch_client(monkeypatch, OWNER)
        register(server, "HuggingFaceH4/aime_2024", "name: AIME 2024\ntasks:\n- {id: aime_24, split: train}\n")
        yield server


def register(hub: HubServer, name: str, text: str) -> None:
    content = text.encode()
    file = {"sha256": hub.keep(content), "size": len(content), "blob": "0" * 40, "lfs": False}
    repo = {"id": name, "type": "dataset", "private": False, "branches": {}, "tags": {}, "commits": {}}
    hub.commit(repo, "main", "benchmark", {"eval.yaml": file})


def published(run, *evaluations) -> tuple[str, dict, dict[str, bytes]]:
    """-> the card, its metadata, and the other files."""
    files = prepare_push(run, "org/critic", evaluations=evaluations).files
    card = files["README.md"].decode()
    return card, yaml.safe_load(card.split("---")[1]), files


def test_both_graders_are_on_the_card_with_their_intervals(hub, run, mine):
    card, _, files = published(run, mine)
    told = json.loads((mine / "evaluation.json").read_text())["tasks"]
    for name, (_, problems) in SCORES.items():
        cells = [f"{name} ", f" {problems}{' (the first)' if name == 'gsm8k' else ''} "]
        for grader in ("strict", "paper"):
            score = told[name]["scores"][grader]
            low, high = score["interval_95"]
            cells.append(f" {100 * score['score']:.1f} ({100 * low:.1f} to {100 * high:.1f}) ")
        assert f"| {'|'.join(cells)}|" in card
    assert "it accepts wrong numbers" in card
    assert (
        "Zero-shot, direct, greedy, one sample, at most 512 tokens, system turn “Think, then box the answer.”" in card
    )
    kept = json.loads(files["evaluations/eval-mine.json"])
    assert (kept["model"], kept["tasks"]) == ("org/critic", told)
    assert not [name for name in files if name.endswith(".parquet")]  # what the model wrote stays at home


def test_strict_scores_of_whole_benchmarks_become_metadata(hub, run, mine):
    _, front, files = published(run, mine)
    told = json.loads((mine / "evaluation.json").read_text())["tasks"]
    [entry] = yaml.safe_load(files[".eval_results/aime24.yaml"])
    assert entry["dataset"] == {"id": "HuggingFaceH4/aime_2024", "task_id": "aime_24"}
    assert entry["value"] == round(100 * told["aime24"]["scores"]["strict"]["score"], 2)
    assert entry["date"] == "2026-11-21"
    assert entry["source"]["url"].endswith("/org/critic/tree/main/evaluations")
    assert [name for name in files if name.startswith(".eval_results")] == [".eval_results/aime24.yaml"]
    [index] = front["model-index"]
    [result] = index["results"]  # not AIME, which has an entry of its own, and not a part of GSM8K
    assert result["dataset"] == {"name": "amc23", "type": "math-ai/amc23", "split": "test"}
    assert result["metrics"][0]["value"] == round(100 * told["amc23"]["scores"]["strict"]["score"], 2)
    assert "strict grader" in result["metrics"][0]["name"]


@pytest.mark.parametrize(
    ("text", "task"),
    [
        ("tasks: [{id: only, split: train}]", "only"),
        ("tasks: [{id: a, config: other}, {id: b, config: gpqa_diamond}]", "b"),
        ("tasks: [{id: a, config: other}, {id: b, config: another}]", None),
        ("tasks: []", None),
        ("- not what it should be", None),
        ("{", None),
    ],
)
def test_a_registered_benchmark_is_found_by_its_configuration(tmp_path, monkeypatch, text, task):
    with HubServer(tmp_path / "hub") as hub:
        hub.patch_client(monkeypatch)
        register(hub, "Idavidrein/gpqa", text)
        assert registered_task(BENCHMARKS["gpqa-diamond"]) == task
        assert registered_task(BENCHMARKS["gsm8k"]) is None


def test_the_base_model_stands_beside_it_and_is_nobodys_score(hub, run, mine, tmp_path):
    limit = {"aime24": None, "amc23": None, "gsm8k": 100}
    base = make_evaluation(tmp_path / "eval-base", {name: (0.1, n) for name, (_, n) in SCORES.items()}, limit=limit)
    told = json.loads((base / "evaluation.json").read_text()) | {"model": "org/base"}
    (base / "evaluation.json").write_text(json.dumps(told))
    card, front, files = published(run, mine, base)
    alone, front_alone, files_alone = published(run, mine)
    assert "base model, strict, %" in card
    assert "base model, strict, %" not in alone
    score = told["tasks"]["amc23"]["scores"]["strict"]
    assert f"| {100 * score['score']:.1f} (" in card
    assert front["model-index"] == front_alone["model-index"]
    assert files[".eval_results/aime24.yaml"] == files_alone[".eval_results/aime24.yaml"]
    assert json.loads(files["evaluations/eval-base.json"])["model"] == "org/base"
    with pytest.raises(CFTError, match="eval-base: is of the base model only"):
        published(run, base)


def test_an_evaluation_of_another_model_is_refused(hub, run, mine, tmp_path):
    template = (run / "chat_template.jinja").read_text()
    (run / "chat_template.jinja").write_text(template + " ")
    with pytest.raises(CFTError, match=r"eval-mine: an evaluation of '.*', which is not .*: another chat template"):
        published(run, mine)
    (run / "chat_template.jinja").write_text(template)
    published(run, mine)
    make_run(run, seed=0.5)  # trained anew since
    with pytest.raises(CFTError, match=r"eval-mine: an evaluation of '.*', which is not the model in .*other weights"):
        published(run, mine)
    other = make_evaluation(tmp_path / "eval-other", {"aime24": (0.4, 30)})
    with pytest.raises(CFTError, match="says 'owner/model' but not what that was"):
        published(run, other)
    identity = {"kind": "transformers", "model": {"kind": "hub", "name": "owner/model", "commit": "c0ffee"}}
    make_evaluation(tmp_path / "eval-other", {"aime24": (0.4, 30)}, identity=identity)
    with pytest.raises(CFTError, match="an evaluation of 'owner/model', which is neither org/critic nor its base"):
        published(run, other)
    at = {"kind": "endpoint", "address": "http://10.0.0.7:8000/v1", "name": "mine-v2", "served": ["/models/mine", None]}
    served = make_evaluation(tmp_path / "eval-served", {"aime24": (0.4, 30)}, backend="endpoint", model="mine-v2",
                             identity=at)  # fmt: skip
    card, _, files = published(run, served)
    assert "at an endpoint, as `mine-v2`" in card
    assert json.loads(files["evaluations/eval-served.json"])["identity"] == {"kind": "endpoint", "name": "mine-v2"}


def test_an_evaluation_of_the_pushed_model_itself_is_of_these_weights(hub, run, tmp_path):
    push_model(run, "org/critic")
    commit = hub.repo("model", "org/critic")["branches"]["main"]
    identity = {"kind": "transformers", "model": {"kind": "hub", "name": "org/critic", "commit": commit}}
    told = {"model": "org/critic", "identity": identity}
    mine = make_evaluation(tmp_path / "eval-pushed", {"amc23": (0.6, 40)}, **told)
    assert "| amc23 | 40 |" in published(run, mine)[0]
    make_run(run, seed=0.5)
    with pytest.raises(CFTError, match=f"an evaluation of org/critic at {commit}, whose weights are not those in"):
        published(run, mine)


def test_an_evaluation_of_another_run_or_another_base_is_refused(hub, run, mine, tmp_path):
    record = json.loads((run / "training.json").read_text())
    (run / "training.json").write_text(json.dumps(record | {"run": "77d0"}))
    told = json.loads((mine / "evaluation.json").read_text())
    (mine / "evaluation.json").write_text(json.dumps(told | {"run": "9f2c"}))
    with pytest.raises(CFTError, match="of run 9f2c, but the model that is pushed is of run 77d0"):
        published(run, mine)
    (mine / "evaluation.json").write_text(json.dumps(told | {"run": "77d0"}))
    identity = {"kind": "transformers", "model": {"kind": "hub", "name": "org/base", "commit": "ba5e" * 10}}
    base = make_evaluation(tmp_path / "eval-base", {"amc23": (0.6, 40)}, model="org/base", identity=identity)
    with pytest.raises(CFTError, match=r"'org/base' at ba5eba5e\w*, but this run began with c0ffee0"):
        published(run, mine, base)


def test_evaluations_in_the_run_are_found_and_must_add_up(hub, run, capsys):
    folder = evaluated(make_evaluation(run / "eval-inside", {"amc23": (0.6, 40)}), run)
    assert "| amc23 | 40 |" in published(run)[0]
    assert "| amc23 | 40 |" in published(run, folder)[0]  # named and found is one
    told = json.loads((folder / "evaluation.json").read_text())
    told["tasks"]["amc23"]["scores"]["strict"]["score"] = 1.0
    (folder / "evaluation.json").write_text(json.dumps(told))
    with pytest.raises(CFTError, match=r"evaluation.json gives amc23 1 .* but its generations give"):
        published(run)


def test_a_critics_figures_are_on_the_card(hub, run):
    folder = run / "critic"
    folder.mkdir()
    score = {
        "rows": 400, "hits": 207, "accuracy": 0.52, "interval_95": [0.47, 0.57], "majority_rate": 0.52, "f1": 0.1,
        "f1_interval_95": [0.05, 0.15], "no_verdict": 8,
    }  # fmt: skip
    told = {
        "model": str(run),
        "backend": "transformers",
        "data": "processbench",
        "limit": None,
        "subsets": {"gsm8k": score},
    }
    (folder / "critic.json").write_text(json.dumps(told))
    (folder / "evaluation.json").write_text(json.dumps(told))
    evaluated(folder, run)
    (folder / "evaluation.json").unlink()
    card = published(run)[0]
    assert "| gsm8k | 400 | 52.0 (47.0 to 57.0) | 52.0 | 10.0 (5.0 to 15.0) | 2.0% |" in card
    (folder / "critic.json").write_text("{}")
    with pytest.raises(CFTError, match=r"critic.json: cannot be read"):
        published(run)


def test_a_file_of_results_has_the_documented_form(hub, run, tmp_path):
    """The form of hub-docs' page on evaluation results, held against a run of the whole of GSM8K."""
    register(hub, "openai/gsm8k", "name: GSM8K\ntasks:\n- {id: gsm8k, config: main, split: test}\n")
    commit = "e53f048856ff4f594e959d75785d2c2d37b678ee"
    scores = {"gsm8k": (0.5, BENCHMARKS["gsm8k"].size)}
    folder = make_evaluation(tmp_path / "eval-all", scores, benchmark_revisions={"gsm8k": commit})
    _, _, files = published(run, evaluated(folder, run))
    [name] = [name for name in files if name.startswith(".eval_results/")]
    assert name == ".eval_results/gsm8k.yaml"
    text = files[name].decode()
    [entry] = yaml.safe_load(text)
    known = {"dataset", "value", "verifyToken", "date", "source", "evaluation_framework", "notes"}
    assert {"dataset", "value"} <= set(entry) <= known
    assert entry["dataset"] == {"id": "openai/gsm8k", "task_id": "gsm8k", "revision": commit}
    assert isinstance(entry["value"], float)
    assert 0 < entry["value"] < 100
    assert isinstance(entry["date"], str)  # quoted: YAML would make a date of it
    assert datetime.date.fromisoformat(entry["date"])
    assert set(entry["source"]) <= {"url", "name", "user", "org"}
    assert entry["source"]["url"].startswith("https://huggingface.co/org/critic/")
    assert isinstance(entry["notes"], str)
    from huggingface_hub import parse_eval_result_entries

    [read] = parse_eval_result_entries(yaml.safe_load(text))
    assert (read.dataset_id, read.task_id, read.value) == ("openai/gsm8k", "gsm8k", entry["value"])
