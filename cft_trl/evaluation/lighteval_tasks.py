r"""Our benchmarks as lighteval tasks: the file for `--custom-tasks`.

    Doc(task_name="cft_gsm8k|0", query="Janet's ducks lay 16 eggs per day. …", choices=["18"], gold_index=0,
        instruction="Please reason step by step, and put your final answer within \boxed{}.\n\n",
        specific={"row": "{\"id\": \"gsm8k-0\", …}"})

`TASKS_TABLE` holds `cft_<name>` for each benchmark of `benchmarks.py` ("math-500" is cft_math_500). Each is graded by
both graders. Where n samples are asked for (`cft_aime24@n=32@k=8`, with a temperature), "avg@n" is the mean share of
right samples and "pass@k" the chance that one of k is right; elsewhere n is 1. lighteval's own models are given the
system turn only through `lighteval_shim.py`; without it these words stand before the question.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from lighteval.metrics.metrics_sample import SampleLevelComputation, SamplingMetric
from lighteval.metrics.utils.metric_utils import SampleLevelMetric
from lighteval.models.model_output import ModelResponse
from lighteval.tasks.lighteval_task import LightevalTaskConfig
from lighteval.tasks.requests import Doc, SamplingMethod

from cft_trl.errors import CFTError
from cft_trl.evaluation.generations import pass_at_k, verdicts
from cft_trl.generation.types import cut_at_stop
from cft_trl.grading.benchmarks import BENCHMARKS, FOLDER_VARIABLE, Benchmark, load_benchmark, to_row
from cft_trl.grading.grade import GRADERS

JUDGE_VARIABLE = "CFT_JUDGE"
SAMPLED = ("aime24", "amc23", "aime25")  # so few problems that one sample of each says little

Row = dict[str, Any]


class Graded(SampleLevelComputation):
    """The verdicts of one grader, kept for whoever wants to see them one by one.

    Args:
        benchmark: Says how answers are compared.
        grader: "strict" or "paper".

    Attributes:
        found: Doc id -> for each of its texts (verdict, what belongs in its row's meta).
    """

    def __init__(self, benchmark: Benchmark, grader: str) -> None:
        self.benchmark, self.grader = benchmark, grader
        self.found: dict[str, list[tuple[bool | None, Row]]] = {}

    def compute(self, responses: Sequence[ModelResponse], docs: Sequence[Doc], **_: Any) -> list[float]:
        """The share of right texts, per doc.

        Args:
            responses: What the model wrote, one per doc; each holds all samples of it.
            docs: lighteval's problems.
            _: What else lighteval hands over; not looked at.
        """
        self.judge(responses, docs)
        return [float(np.mean([bool(hit) for hit, _ in self.found[doc.id]])) for doc in docs]

    def judge(self, responses: Sequence[ModelResponse], docs: Sequence[Doc]) -> None:
        """Fills `found`, all docs at once, so that the pool of graders is busy."""
        new = [pair for pair in zip(docs, responses, strict=True) if pair[0].id not in self.found]
        # lighteval gives a chat model no stop strings; as published, a text ends with the first of them.
        rows = [
            {**json.loads(doc.specific["row"]), "text": cut_at_stop(text, self.benchmark.stop)}
            for doc, response in new
            for text in response.final_text
        ]
        results = iter(verdicts(self.benchmark, rows, self.grader))
        for doc, response in new:
            self.found[doc.id] = [next(results) for _ in response.final_text]


class _SampleScore(SamplingMetric, SampleLevelComputation):
    """avg@n, or pass@k, of the verdicts of a `Graded`; `n` and `k` are set by lighteval from the task's name."""

    def __init__(self, graded: Graded, passing: bool) -> None:
        super().__init__()
        self.graded, self.passing, self.n, self.k = graded, passing, 1, 1

    def num_samples(self) -> int:
        return self.n

    def compute(self, responses: Sequence[ModelResponse], docs: Sequence[Doc], **_: Any) -> list[float]:
        if self.k > self.n:
            raise CFTError(f"pass@k needs n >= k; got n={self.n} and k={self.k}")
        self.graded.judge(responses, docs)
        right = [sum(bool(hit) for hit, _ in self.graded.found[doc.id][: self.n]) for doc in docs]
        return [pass_at_k(self.n, hits, self.k) if self.passing else hits / self.n for hits in right]


class _JudgeScore(SampleLevelComputation):
    """MT-Bench's score of the first turn; lighteval's models have no second one (`cft eval` asks both)."""

    def compute(self, responses: Sequence[ModelResponse], docs: Sequence[Doc], **_: Any) -> list[float]:
        import tempfile

        from cft_trl.evaluation.mt_bench import judge_turns, open_judge
        from cft_trl.generation.journal import Journal

        judge = os.environ.get(JUDGE_VARIABLE)
        if not judge:
            raise CFTError(f"cft_mt_bench needs a judge: set {JUDGE_VARIABLE} to MODEL or MODEL@URL")
        rows = []
        for doc, response in zip(docs, responses, strict=True):
            row = json.loads(doc.specific["row"])
            rows.append({"id": f"{row['id']}.1", "text": response.final_text[0], "meta": {**row["meta"], "turn": 1}})
        with tempfile.TemporaryDirectory() as folder, Journal(folder) as journal:
            scores = [judged["score"] for judged in judge_turns(rows, open_judge(judge), journal)]
        return [float("nan") if score is None else score for score in scores]


def task_config(
    benchmark: Benchmark, *, rows: Sequence[Row] | None = None, samples: int | None = None, graders: Any = GRADERS
) -> LightevalTaskConfig:
    """One benchmark as lighteval's task.

    Args:
        benchmark: A line of the table.
        rows: The problems, where they are known; else they are read when the task is run.
        samples: How many of each problem; None leaves it to "@n=" in the task's name.
        graders: Which of "strict" and "paper".
    """
    folder = os.environ.get(FOLDER_VARIABLE)
    name = benchmark.name.replace("-", "_")
    here = Path(folder) / name if folder else None
    local = here is not None and here.is_dir()
    return LightevalTaskConfig(
        name=f"cft_{name}",
        prompt_function=_prompts(benchmark, rows),
        hf_repo=str(here) if local else benchmark.hub,
        hf_subset="default" if local else benchmark.config or "default",
        metrics=_metrics(benchmark, samples, graders),
        hf_avail_splits=["test" if local else benchmark.split],
        evaluation_splits=["test" if local else benchmark.split],
        generation_size=benchmark.max_new_tokens,
        stop_sequence=list(benchmark.stop),
        version=1,
    )


def _metrics(benchmark: Benchmark, samples: int | None, graders: Sequence[str]) -> list[SampleLevelMetric]:
    def metric(name: str, computed_by: Any) -> SampleLevelMetric:
        return SampleLevelMetric(
            metric_name=name,
            higher_is_better=True,
            category=SamplingMethod.GENERATIVE,
            sample_level_fn=computed_by,
            corpus_level_fn=np.nanmean if isinstance(computed_by, _JudgeScore) else np.mean,
            batched_compute=True,
        )

    if benchmark.answer == "judge" and samples is None:
        return [metric("judge_turn_1", _JudgeScore())]
    if benchmark.answer not in ("math", "letter"):
        graders = ("strict",)
    graded = {grader: Graded(benchmark, grader) for grader in graders}
    if samples is not None or benchmark.name not in SAMPLED:
        return [metric(grader, computed_by) for grader, computed_by in graded.items()]
    # lighteval sets n and k on the metrics that have an "@" in their name.
    return [
        metric(f"{grader}_{kind}", _SampleScore(computed_by, kind == "pass@k"))
        for grader, computed_by in graded.items()
        for kind in ("avg@n", "pass@k")
    ]


def _prompts(benchmark: Benchmark, rows: Sequence[Row] | None) -> Callable[[dict, str], Doc | None]:
    instruction = f"{benchmark.system}\n\n" if benchmark.system else None

    def prompt(line: dict[str, Any], task_name: str = "") -> Doc | None:
        row = _row(benchmark, line)
        if row is None:
            return None
        return Doc(
            task_name=task_name,
            query=row["query"],
            choices=[row["gold"]],
            gold_index=0,
            instruction=instruction,
            specific={"row": json.dumps(row, ensure_ascii=False)},  # Parquet holds no empty struct
        )

    prompt.rows = rows  # type: ignore[attr-defined]  # the shim reads it; this function is all that lighteval hands it
    return prompt


def _row(benchmark: Benchmark, line: Mapping[str, Any]) -> Row | None:
    """Our row for what lighteval read: ours already (through the shim), or a line of the Hub's dataset."""
    if "house_row" in line:
        return line["house_row"]
    if benchmark.drawn:
        query = benchmark.read({role: line[names[0]] for role, names in benchmark.columns.items()})[0]
        return _drawn(benchmark.name).get(query)
    raw = {name: value for name, value in line.items() if not name.startswith("__")}
    return to_row(benchmark, line["__index"], raw, f"{benchmark.hub}, row {line['__index']}")


@lru_cache
def _drawn(name: str) -> dict[str, Row]:
    return {row["query"]: row for row in load_benchmark(name)}


TASKS_TABLE = [task_config(benchmark) for benchmark in BENCHMARKS.values()]
