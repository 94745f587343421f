r"""`cft eval`: a model answers benchmarks through lighteval's pipeline; every generation is kept and graded twice.

    OUT/evaluation.json              scores under both graders, with intervals and everything that they depend on
    OUT/generations/gsm8k.parquet    one row per generation (`generations.py`)
    OUT/journal/main.jsonl           generations as they came: the same command goes on from there, also after kill -9
    OUT/run.json                     whose folder it is

Of `evaluation.json`:

    {"model": "smollm2-135m", "mode": "direct", "samples": 1, "temperature": 0.0, "limit": 100, "tasks": {"gsm8k":
     {"problems": 100, "scores": {"strict": {"score": 0.04, "hits": 4, "of": 100, "interval_95": [0.016, 0.098]},
      "paper": {…}}, "truncated": 0.11, "no_answer": 0.2, …}}, …}
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from cft_trl.errors import CFTError, nearest
from cft_trl.evaluation.backends import Backend, circumstances, out_of_memory
from cft_trl.evaluation.benchmarks import BENCHMARKS, MATH_SYSTEM, SIX, get_benchmark, load_benchmark, pinned_revision
from cft_trl.evaluation.generations import Row, extracted_answer, summarise, write_generations
from cft_trl.evaluation.grading import GRADERS
from cft_trl.evaluation.report_runs import SCHEMA
from cft_trl.folders import check_writable, write_text
from cft_trl.generators import STOP_STRINGS
from cft_trl.inference import MODES
from cft_trl.installed import require
from cft_trl.progress import progress
from cft_trl.synthesis.journal import Journal

FILE = "evaluation.json"
# All but the set for choosing checkpoints and the part of MATH that is scored with the whole.
ALL = tuple(name for name in BENCHMARKS if name not in ("math-validation", "math-500"))


@dataclass(frozen=True)
class EvalSettings:
    """What is asked and how; the model and where it runs are a `Backend`.

    Attributes:
        tasks: Benchmark -> how many of its problems, from the first on; None for all.
        graders: Of "strict" and "paper".
        samples: Generations per problem.
        temperature, top_p: 0 is greedy.
        seed: What samples are drawn from; another seed draws others.
        max_new_tokens: Limit per generation; None is the published one, 2048.
        mode: "direct", "single_pass" or "two_stage" (`inference.py`).
        prompt_preset: Wording of the critique prompt, for "two_stage".
        judge: "MODEL" or "MODEL@URL", for MT-Bench.
    """

    tasks: Mapping[str, int | None]
    graders: tuple[str, ...] = GRADERS
    samples: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    max_new_tokens: int | None = None
    mode: str = "direct"
    prompt_preset: str = "paper"
    judge: str | None = None

    def __post_init__(self) -> None:
        for grader in self.graders:
            if grader not in GRADERS:
                raise CFTError(f"grader {grader!r} is unknown{nearest(grader, GRADERS)}; give strict, paper or both")
        if self.samples > 1 and self.temperature == 0:
            raise CFTError(
                f"samples={self.samples} at temperature 0 repeats one greedy run {self.samples} times and makes its "
                "interval no narrower; give --temperature 0.6 or --samples 1"
            )
        if self.mode not in MODES or self.mode == "critique":
            known = [mode for mode in MODES if mode != "critique"]
            hint = "; a critic is measured by `cft eval-critic`" if self.mode == "critique" else ""
            raise CFTError(f"mode {self.mode!r} answers no problems{nearest(self.mode, known)}: give {known}{hint}")
        if "mt-bench" in self.tasks and not self.judge:
            raise CFTError("mt-bench needs a judge: give --judge MODEL or MODEL@URL, or leave mt-bench out")

    @property
    def limit(self) -> int | dict[str, int | None] | None:
        """The number that holds for all tasks, or one for each."""
        limits = set(self.tasks.values())
        return limits.pop() if len(limits) == 1 else dict(self.tasks)

    @property
    def prompt(self) -> dict[str, Any]:
        """What every problem is asked with; the digest changes with anything that changes a prompt."""
        parts = {"system": MATH_SYSTEM, "stop": list(STOP_STRINGS), "max_new_tokens": self.max_new_tokens or 2048}
        hashed = {**parts, "mode": self.mode, "preset": self.prompt_preset if self.mode == "two_stage" else None}
        return {**parts, "digest": hashlib.sha256(json.dumps(hashed).encode()).hexdigest()[:16]}


def parse_tasks(text: str, limit: int | None = None) -> dict[str, int | None]:
    """ "six", "all" or names, each with a limit of its own or the common one.

    Raises:
        CFTError: An unknown benchmark (the nearest is named), one given twice, or a limit that is no number.

    Example:
        >>> parse_tasks("gsm8k:100,math-500", 50)
        {'gsm8k': 100, 'math-500': 50}
    """
    tasks: dict[str, int | None] = {}
    for part in text.split(","):
        name, colon, given = part.strip().partition(":")
        if colon and not (given.isdecimal() and int(given)):
            raise CFTError(f"--tasks {part.strip()}: {given!r} is no number of problems; write gsm8k:100")
        known = {"six": SIX, "all": ALL}.get(name) or _known(name)
        for task in known:
            if task in tasks:
                raise CFTError(f"--tasks {text}: {task} is named twice")
            tasks[task] = int(given) if given else limit
    return tasks


def _known(name: str) -> tuple[str, ...]:
    try:
        return (get_benchmark(name).name,)
    except CFTError as error:
        raise CFTError(f"{error}; or six, or all") from None


def run_evaluation(settings: EvalSettings, backend: Backend, output: Path) -> dict[str, Any]:
    """Lets the model answer and grades it; what is in the folder already is not asked again.

    Args:
        settings: What is asked.
        backend: Who is asked. Its model is loaded only if an answer is missing.
        output: The folder; made if it is not there.

    Returns:
        The content of `evaluation.json`.

    Raises:
        CFTError: A benchmark, the model, the endpoint or the judge cannot be had, or the folder is of another run. What
            was generated until then is kept.
    """
    require("eval", "evaluation", "lighteval", "math_verify")  # before a problem is fetched or a model is loaded
    if "ifeval" in settings.tasks:
        from cft_trl.evaluation.ifeval import require_checkers

        require_checkers()
    rows = {name: load_benchmark(name)[:limit] for name, limit in settings.tasks.items()}
    check_writable(output)
    _claim(output, {**backend.identity(), **_asked(settings)})
    started = time.time()
    with Journal(output / "journal") as journal:
        generations, from_journal = _run_pipeline(settings, backend, rows, journal)
        if "mt-bench" in rows:
            _judge(generations["mt-bench"], settings.judge, output)
    tasks = {}
    for name, made in generations.items():
        write_generations(output / "generations" / f"{name}.parquet", made)
        tasks[name] = summarise(made, settings.graders)
    asked = asdict(settings)
    result = {
        "schema": SCHEMA,
        "model": backend.model,
        "revision": backend.commit(),
        "backend": backend.kind,
        "mode": settings.mode,
        "prompt": settings.prompt,
        "limit": settings.limit,
        **{name: asked[name] for name in ("samples", "temperature", "top_p", "seed")},
        "graders": list(settings.graders),
        **({"judge": settings.judge} if "mt-bench" in rows else {}),
        "benchmark_revisions": {name: revision for name in rows if (revision := pinned_revision(name))},
        "tasks": tasks,
        **circumstances(),
        "seconds": round(time.time() - started, 1),
        "from_journal": from_journal,
    }
    if from_journal == sum(len(made) for made in generations.values()) and (output / FILE).is_file():
        # Nothing was generated: what was measured is the run that did.
        measured = json.loads((output / FILE).read_text(encoding="utf-8"))
        result |= {name: measured[name] for name in ("machine", "date", "seconds", "from_journal")}
    write_text(output / FILE, json.dumps(result, indent=1, ensure_ascii=False))
    return result


def _asked(settings: EvalSettings) -> dict[str, Any]:
    return {**asdict(settings), "graders": list(settings.graders)}


def _claim(output: Path, mine: Mapping[str, Any]) -> None:
    """Says whose folder it is, so that two runs' generations are never counted as one's."""
    path, mine = output / "run.json", json.loads(json.dumps(mine))
    if not path.is_file():
        if any(output.iterdir()):
            raise CFTError(f"'{output}' holds files that are not of `cft eval`; give another --output")
        write_text(path, json.dumps(mine, indent=1))
        return
    try:
        theirs = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CFTError(f"{path}: cannot be read ({error}); give another --output") from None
    differing = [name for name in mine if theirs.get(name) != mine[name]]
    if differing:
        name = differing[0]
        what = "other weights under this name" if name == "weights" else f"{name} {theirs.get(name)}, not {mine[name]}"
        raise CFTError(f"'{output}' holds an evaluation with {what}; give another --output")


def _run_pipeline(
    settings: EvalSettings, backend: Backend, rows: Mapping[str, Sequence[Row]], journal: Journal
) -> tuple[dict[str, list[Row]], int]:
    """lighteval's pipeline over these problems -> (task -> its generations with their verdicts, how many were kept)."""
    with _quiet():
        from cft_trl.evaluation import lighteval_shim

        lighteval_shim.apply()
        from lighteval.logging.evaluation_tracker import EvaluationTracker
        from lighteval.pipeline import ParallelismManager, Pipeline, PipelineParameters

        from cft_trl.evaluation.lighteval_model import Asking, JournaledModel
        from cft_trl.evaluation.lighteval_tasks import task_config

    tasks = ModuleType("cft_eval_tasks")
    # MT-Bench is judged after the pipeline, both turns at once and with a journal.
    tasks.TASKS_TABLE = [
        task_config(get_benchmark(name), rows=of_task, samples=settings.samples, graders=settings.graders)
        for name, of_task in rows.items()
    ]
    asking = Asking(**{name: getattr(settings, name) for name in Asking.__dataclass_fields__})
    total = sum(len(r) * (2 if n == "mt-bench" else settings.samples) for n, r in rows.items())
    with _quiet(), tempfile.TemporaryDirectory() as scratch, progress("generations", total) as advance:
        model = JournaledModel(f"{backend.source}@{backend.revision}", asking, backend.generator, journal, advance)
        pipeline = Pipeline(
            tasks=",".join(config.name for config in tasks.TASKS_TABLE),
            pipeline_parameters=PipelineParameters(
                launcher_type=ParallelismManager.NONE, custom_tasks_directory=tasks, remove_reasoning_tags=False
            ),
            evaluation_tracker=EvaluationTracker(output_dir=scratch),
            model=model,
        )
        with out_of_memory("the model's memory is used up while it generates"), _told_what_is_kept(journal):
            pipeline.evaluate()
    made = {}
    for name, of_task in rows.items():
        task = f"cft_{name.replace('-', '_')}|0"
        metrics = {metric.metric_name: metric.sample_level_fn for metric in pipeline.tasks_dict[task].metrics}
        made[name] = [
            line
            for index, row in enumerate(of_task)
            for line in _lines(settings, name, row, model.answers[task, str(index)], metrics, str(index))
        ]
    return made, model.from_journal


def _lines(
    settings: EvalSettings, name: str, row: Row, answers: Sequence[Any], metrics: Mapping[str, Any], doc: str
) -> Iterator[Row]:
    """The rows of one problem's generations."""
    benchmark = get_benchmark(name)
    judged = benchmark.answer == "judge"
    for sample, answer in enumerate(answers):
        kept, meta, found = answer.kept, dict(row["meta"]), dict.fromkeys(GRADERS)
        for grader in GRADERS:
            if grader in metrics and not judged:
                found[grader], more = metrics[grader].found[doc][sample]
                meta |= more
        meta |= {key: kept[key] for key in ("verdicts", "failure") if key in kept}
        if judged:
            meta["turn"] = sample + 1
        yield {
            "task": name,
            "id": f"{row['id']}.{sample + 1}" if judged else row["id"],
            "sample": 0 if judged else sample,
            "query": answer.query,
            "gold": row["gold"],
            "prompt": json.dumps(answer.conversation, ensure_ascii=False),
            **{key: kept[key] for key in ("text", "finish_reason", "prompt_tokens", "completion_tokens", "rounds")},
            "extracted": extracted_answer(benchmark, kept["text"]),
            **found,
            "mode": "direct" if judged else settings.mode,
            "meta": meta,
        }


def _judge(rows: list[Row], judge: str, output: Path) -> None:
    from cft_trl.evaluation.mt_bench import judge_turns, parse_judge

    with Journal(output / "journal", "judge") as journal, progress("judgements", len(rows)) as advance:
        for row, found in zip(rows, judge_turns(rows, parse_judge(judge), journal, advance), strict=True):
            row["meta"] |= found


@contextlib.contextmanager
def _told_what_is_kept(journal: Journal) -> Iterator[None]:
    try:
        yield
    except CFTError as error:
        if "kept" in str(error):
            raise
        raise CFTError(f"{error}; {len(journal)} generations are kept, the same command goes on from there") from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """lighteval logs every step and warns of what is meant here; its errors still come through."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        # DeepSpeed, which accelerate imports, prints to standard output.
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        logging.disable(before)
