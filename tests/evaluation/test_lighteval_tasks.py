"""lighteval's side: the task table, its metrics, the prompts it sends, and the shim that lets it run here."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from types import SimpleNamespace

import pytest
from conftest import REPOSITORY, make_model
from eval_runs import write_benchmarks
from lighteval.models.model_output import ModelResponse
from lighteval.tasks.prompt_manager import PromptManager
from lighteval.tasks.registry import Registry

from cft_trl.errors import CFTError
from cft_trl.evaluation import lighteval_shim, lighteval_tasks
from cft_trl.generation.types import STOP_STRINGS
from cft_trl.grading.benchmarks import BENCHMARKS, MATH_SYSTEM

TABLE = {config.name: config for config in lighteval_tasks.TASKS_TABLE}
GSM8K_LINE = {"question": "Two and two?", "answer": "It is 4. #### 4", "__index": 3, "__few_shots": False}


@pytest.fixture(autouse=True)
def shimmed(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    lighteval_shim.apply()


def docs_of(task: str, limit: int | None = None):
    """What lighteval asks, through its own registry and loader -> (task, docs)."""
    registry = Registry(tasks=task, custom_tasks=lighteval_tasks)
    (loaded,) = registry.load_tasks().values()
    loaded.dataset = loaded.download_dataset_worker(loaded)
    return loaded, loaded.get_docs(limit)


def computed(task, docs, texts) -> dict[str, list[float]]:
    responses = [ModelResponse(text=of_one) for of_one in texts]
    return {m.metric_name: m.sample_level_fn.compute(responses=responses, docs=docs) for m in task.metrics}


def test_the_table_has_every_benchmark_with_the_published_settings():
    assert set(TABLE) == {f"cft_{name.replace('-', '_')}" for name in BENCHMARKS}
    for name in ("math", "minerva_math", "gsm8k", "olympiadbench", "aime24", "amc23", "math_500", "math_validation"):
        config = TABLE[f"cft_{name}"]
        assert (config.generation_size, config.stop_sequence) == (2048, list(STOP_STRINGS))
        assert config.prompt_function({**GSM8K_LINE, "house_row": {"id": "x", "query": "q", "gold": "1", "meta": {}}},
                                      name).instruction == MATH_SYSTEM + "\n\n"  # fmt: skip
    assert [metric.metric_name for metric in TABLE["cft_math"].metrics] == ["strict", "paper"]
    assert [metric.metric_name for metric in TABLE["cft_ifeval"].metrics] == ["strict"]
    sampled = ["strict_avg@n", "strict_pass@k", "paper_avg@n", "paper_pass@k"]
    assert [metric.metric_name for metric in TABLE["cft_aime24"].metrics] == sampled


def test_a_line_of_the_hub_gives_the_same_question_as_our_reader():
    doc = TABLE["cft_gsm8k"].prompt_function(GSM8K_LINE, "cft_gsm8k")
    assert (doc.query, doc.choices, doc.gold_index) == ("Two and two?", ["4"], 0)
    assert json.loads(doc.specific["row"]) == {"id": "gsm8k-3", "query": "Two and two?", "gold": "4", "meta": {}}
    ours = TABLE["cft_gsm8k"].prompt_function(
        {"house_row": json.loads(doc.specific["row"]), "__index": 0, "__few_shots": False}, "cft_gsm8k"
    )
    assert ours == doc
    with pytest.raises(CFTError, match="needs a column answer; found question"):
        TABLE["cft_gsm8k"].prompt_function({"question": "Two?", "__index": 0}, "cft_gsm8k")


def test_both_graders_judge_what_stands_before_the_first_stop_string(tmp_path, monkeypatch):
    write_benchmarks(tmp_path, monkeypatch, ("gsm8k",))
    task, docs = docs_of("cft_gsm8k")
    assert len(docs) == 8
    # 3.04 rounds to 3.0, which the published grader takes for 3; text after a stop string was never generated there.
    zero = next(i for i, doc in enumerate(docs) if doc.choices == ["3"])
    for text, strict, paper in ((r"\boxed{3}", 1, 1), (r"\boxed{3.04}", 0, 1), (r"\boxed{1}", 0, 0),
                                (r"\boxed{3} [END] \boxed{9}", 1, 1), ("", 0, 0)):  # fmt: skip
        task, docs = docs_of("cft_gsm8k")
        found = computed(task, docs, [[text] if i == zero else ["no"] for i in range(8)])
        assert (found["strict"][zero], found["paper"][zero]) == (strict, paper), text
        assert sum(found["strict"]) == strict


def test_samples_and_k_come_from_the_tasks_name(tmp_path, monkeypatch):
    write_benchmarks(tmp_path, monkeypatch, ("amc23",))
    task, docs = docs_of("cft_amc23@n=4@k=2")
    assert {doc.num_samples for doc in docs} == {4}
    texts = [[rf"\boxed{{{doc.choices[0]}}}"] * hits + ["none"] * (4 - hits) for hits, doc in enumerate(docs)]
    found = computed(task, docs, texts)
    assert found["strict_avg@n"] == [0, 0.25, 0.5, 0.75]
    assert found["strict_pass@k"] == pytest.approx([0, 1 / 2, 5 / 6, 1])
    assert found["paper_avg@n"] == found["strict_avg@n"]
    task, docs = docs_of("cft_amc23")
    assert {doc.num_samples for doc in docs} == {1}
    with pytest.raises(CFTError, match="n >= k; got n=2 and k=3"):
        computed(*docs_of("cft_amc23@n=2@k=3"), [["a", "b"]] * 4)


def test_the_system_turn_is_one_and_a_models_own_wins(tokenizer):
    doc = TABLE["cft_gsm8k"].prompt_function(GSM8K_LINE, "cft_gsm8k")
    doc.task_name = "cft_gsm8k|0"
    manager = PromptManager(use_chat_template=True, tokenizer=tokenizer)
    asked = f"<|im_start|>system\n{MATH_SYSTEM}<|im_end|>\n<|im_start|>user\nTwo and two?<|im_end|>\n"
    assert manager.prepare_prompt(doc) == asked + "<|im_start|>assistant\n"
    assert manager.prepare_prompt(doc) == asked + "<|im_start|>assistant\n"
    assert [message["role"] for message in manager.prepare_prompt_api(doc)] == ["system", "user"]
    own = PromptManager(use_chat_template=True, tokenizer=tokenizer, system_prompt="Be brief.")
    assert "system\nBe brief.<|im_end|>" in own.prepare_prompt(doc)
    doc.task_name = "gsm8k|0"
    assert "system" not in manager.prepare_prompt(doc)


def test_the_drawn_set_is_drawn_from_hub_lines_too(monkeypatch):
    row = {"id": "math-validation-0", "query": "Halve 6.", "gold": "3", "meta": {}}
    monkeypatch.setattr(lighteval_tasks, "load_benchmark", lambda name: [row])
    lighteval_tasks._drawn.cache_clear()
    config = TABLE["cft_math_validation"]
    lines = [{"problem": text, "solution": r"\boxed{3}", "__index": 0} for text in ("Halve 6.", "Halve 8.")]
    assert json.loads(config.prompt_function(lines[0], "").specific["row"]) == row
    assert config.prompt_function(lines[1], "") is None
    lighteval_tasks._drawn.cache_clear()


def test_mt_bench_asks_its_judge_and_says_when_there_is_none(tmp_path, monkeypatch):
    write_benchmarks(tmp_path, monkeypatch, ("mt-bench",))
    task, docs = docs_of("cft_mt_bench")
    monkeypatch.delenv("CFT_JUDGE", raising=False)
    with pytest.raises(CFTError, match="set CFT_JUDGE"):
        computed(task, docs, [["a text"]] * 2)
    monkeypatch.setenv("CFT_JUDGE", "m@ftp://localhost")
    with pytest.raises(CFTError, match="the address after '@' begins with http:// or https://"):
        computed(task, docs, [["a text"]] * 2)


def test_the_shim_knows_when_it_is_needed(monkeypatch):
    installed = {"huggingface_hub": "1.9.0", "xxhash": "3.8.2", "lighteval": "0.13.0"}
    monkeypatch.setattr(lighteval_shim, "version", installed.__getitem__)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert lighteval_shim.reasons() == []
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    installed.update(huggingface_hub="2.4.0", xxhash="4.1.0")
    assert lighteval_shim.reasons() == ["huggingface_hub >= 2", "offline", "xxhash >= 4"]
    installed["lighteval"] = "0.14.1"
    with pytest.raises(CFTError, match=r"lighteval 0\.14\.1: cft-trl was tested with 0\.13\.0"):
        lighteval_shim.apply()


def test_a_temperature_makes_transformers_sample():
    from lighteval.models.model_input import GenerationParameters

    assert GenerationParameters(temperature=0.6).to_transformers_dict()["do_sample"] is True
    assert "do_sample" not in GenerationParameters(temperature=0).to_transformers_dict()


def test_only_our_tasks_are_imported_and_their_text_can_be_hashed():
    assert set(Registry.load_all_task_configs(custom_tasks=lighteval_tasks)) == set(TABLE)
    assert set(Registry.load_all_task_configs()) == set(TABLE)
    from lighteval.logging.info_loggers import DetailsLogger

    doc = TABLE["cft_gsm8k"].prompt_function(GSM8K_LINE, "cft_gsm8k")
    logger = DetailsLogger()
    logger.log("cft_gsm8k|0", doc, ModelResponse(text=["4"]), {"strict": 1})
    assert len(logger.hashes["cft_gsm8k|0"][0].example) == 16


@pytest.mark.parametrize(
    ("task", "told"),
    [("cft_gsm9k", "there is no task cft_gsm9k (did you mean 'cft_gsm8k'?)"), ("cft_gsm8k", "no file")],
)
def test_its_command_line_tells_a_mistake_in_one_line(task, told, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("CFT_BENCHMARKS_DIR", str(tmp_path))
    # lighteval's own module sets up logging for the whole process; what fails here is its registry and our reader.
    monkeypatch.setitem(sys.modules, "lighteval.__main__", SimpleNamespace(app=lambda: docs_of(task)))
    with pytest.raises(SystemExit) as ended:
        lighteval_shim.main()
    assert ended.value.code == 2
    lines = capfd.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert told in lines[0]


def test_other_peoples_tasks_are_read_as_before():
    read = lighteval_shim._read_ours(lambda task: f"read {task.name}")
    assert read(SimpleNamespace(name="gsm8k")) == "read gsm8k"


def prepare(folder, tokenizer, **benchmarks: int) -> dict[str, str]:
    """A tiny model in the place of the quickstart's, benchmarks of so many made-up problems; the environment."""
    make_model(tokenizer).save_pretrained(folder / "runs" / "quickstart")
    tokenizer.save_pretrained(folder / "runs" / "quickstart")
    (folder / "cft_trl").symlink_to(REPOSITORY / "cft_trl")
    for name, size in benchmarks.items():
        path = folder / "benchmarks" / name / "test.jsonl"
        path.parent.mkdir(parents=True)
        rows = [{"question": f"{n}+{n}?", "problem": f"{n}+{n}?", "answer": f"#### {2 * n}"} for n in range(size)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {**os.environ, "HF_HUB_OFFLINE": "1", "CFT_BENCHMARKS_DIR": str(folder / "benchmarks"),
            "HF_HOME": str(folder / "hf"), "HOME": str(folder)}  # fmt: skip


@pytest.mark.slow
def test_the_command_line_of_the_pages(tmp_path, tokenizer):
    environment = prepare(tmp_path, tokenizer, gsm8k=1319, math_500=500)
    text = (REPOSITORY / "docs" / "pipeline.md").read_text(encoding="utf-8").replace("\\\n", " ")
    [line] = [line for line in text.splitlines() if "lighteval_shim" in line and line.startswith("python")]
    words = shlex.split(line)
    words[words.index("--max-samples") + 1] = "2"
    done = subprocess.run([sys.executable, *words[1:]], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    (result,) = (tmp_path / "results" / "results").rglob("*.json")
    results = json.loads(result.read_text())["results"]
    for task in ("cft_gsm8k|0", "cft_math_500|0"):
        assert set(results[task]) >= {"strict", "paper"}, results[task]


@pytest.mark.slow
def test_samples_under_lightevals_command_line(tmp_path, tokenizer):
    environment = prepare(tmp_path, tokenizer, aime24=30)
    command = [sys.executable, "-m", "cft_trl.evaluation.lighteval_shim", "accelerate",
               "model_name=runs/quickstart,batch_size=4,generation_parameters={temperature:0.6,top_p:0.95}",
               "cft_aime24@n=2@k=2", "--custom-tasks", "cft_trl/evaluation/lighteval_tasks.py",
               "--max-samples", "3", "--output-dir", "results", "--save-details"]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    (result,) = (tmp_path / "results" / "results").rglob("*.json")
    scores = json.loads(result.read_text())["results"]["cft_aime24|0"]
    assert set(scores) >= {"strict_avg@n", "strict_pass@k", "paper_avg@n", "paper_pass@k"}
    (details,) = (tmp_path / "results" / "details").rglob("*.parquet")
    import pyarrow.parquet as pq

    rows = pq.read_table(details).to_pylist()
    assert len(rows) == 3
    assert all(len(row["model_response"]["text"]) == 2 for row in rows)
    assert all(row["model_response"]["text"][0] != row["model_response"]["text"][1] for row in rows)
