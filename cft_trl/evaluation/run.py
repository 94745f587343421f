r"""`cft eval`: a model answers benchmarks through lighteval's pipeline; every generation is kept and graded twice.

    OUT/evaluation.json              scores under both graders, with intervals and everything that they depend on
    OUT/generations/gsm8k.parquet    one row per generation (`generations.py`)
    OUT/journal/main.jsonl           generations as they came: the same command goes on from there, also after kill -9
    OUT/run.json                     whose folder it is (`claims.py`)

Of `evaluation.json`:

    {"model": "smollm2-135m", "mode": "direct", "samples": 1, "temperature": 0.0, "limit": 100, "tasks": {"gsm8k":
     {"problems": 100, "scores": {"strict": {"score": 0.04, "hits": 4, "of": 100, "interval_95": [0.016, 0.098]},
      "paper": {…}}, "truncated": 0.11, "no_answer": 0.2, …}}, …}
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from cft_trl.data.folders import check_writable, write_text
from cft_trl.data.prompts import verdict_by
from cft_trl.environment import require
from cft_trl.errors import CFTError
from cft_trl.evaluation.backends import Backend, circumstances, out_of_memory
from cft_trl.evaluation.claims import Claim, say, take_folder, tell_fingerprints
from cft_trl.evaluation.generations import Row, extracted_answer, rows_digest, summarise, write_generations
from cft_trl.evaluation.report_runs import SCHEMA
from cft_trl.evaluation.sampling import draw, sample_of
from cft_trl.evaluation.settings import EvalSettings
from cft_trl.generation.journal import Journal
from cft_trl.grading.benchmarks import get_benchmark, load_benchmark
from cft_trl.grading.grade import GRADERS
from cft_trl.grading.grader_version import grader_changed, grader_version
from cft_trl.grading.revisions import read_at
from cft_trl.progress import progress

FILE = "evaluation.json"


@dataclass(frozen=True)
class Prepared:
    """A run that may begin: its problems are read and its folder is found to be its own."""

    settings: EvalSettings
    backend: Backend
    rows: Mapping[str, Sequence[Row]]
    samples: Mapping[str, Mapping[str, Any]]
    revisions: Mapping[str, str]
    claim: Claim


def run_evaluation(
    settings: EvalSettings, backend: Backend, output: Path, *, ask_again: bool = False
) -> dict[str, Any]:
    """Lets the model answer and grades it; what is in the folder already is not asked again.

    Args:
        settings: What is asked.
        backend: Who is asked. Its model is loaded only if an answer is missing.
        output: The folder; made if it is not there.
        ask_again: Whether everything is asked anew; the same call without it goes on with that.

    Returns:
        The content of `evaluation.json`.

    Raises:
        CFTError: A benchmark, the model, the endpoint or the judge cannot be had, some problems were not answered but
            refused, or the folder is of another run, of a model that is another by now, or of other problems. What was
            generated until then is kept; no score is written.
    """
    return evaluate_all([(settings, output)], backend, ask_again=ask_again)[0]


def evaluate_all(
    runs: Sequence[tuple[EvalSettings, Path]], backend: Backend, *, ask_again: bool = False
) -> list[dict[str, Any]]:
    """`run_evaluation` of several settings, each in its folder; all folders are looked at before anything is asked.

    Args:
        runs: Settings and folder of each.
        backend, ask_again: As for `run_evaluation`, the same for all.
    """
    prepared = [_prepare(settings, backend, output) for settings, output in runs]
    if ask_again:  # of all at once, so that a run that is killed in one of them goes on so in the others
        for run in prepared:
            run.claim.begin_round()
    return [_evaluate(run) for run in prepared]


def _prepare(settings: EvalSettings, backend: Backend, output: Path) -> Prepared:
    require("eval", "evaluation", "lighteval", "math_verify")  # before a problem is fetched or a model is loaded
    if "ifeval" in settings.tasks:
        from cft_trl.evaluation.ifeval import require_checkers

        require_checkers()
    whole = {name: load_benchmark(name) for name in settings.tasks}
    rows = {name: draw(whole[name], limit) for name, limit in settings.tasks.items()}
    samples = {name: found for name, of_task in rows.items() if (found := sample_of(of_task, len(whole[name])))}
    revisions = {name: commit for name in rows if (commit := read_at(name))}
    check_writable(output)
    judge = None
    if "mt-bench" in rows:
        from cft_trl.evaluation.mt_bench import judge_identity

        assert settings.judge is not None  # the settings want one for mt-bench
        judge = judge_identity(settings.judge)
    asked = {name: (whole[name], limit) for name, limit in settings.tasks.items()}
    claim = take_folder(output, "eval", backend, _asked(settings), asked, judge)
    return Prepared(settings, backend, rows, samples, revisions, claim)


def _evaluate(run: Prepared) -> dict[str, Any]:
    settings, backend, rows, output = run.settings, run.backend, run.rows, run.claim.folder
    started, before = time.time(), _earlier(output)
    with Journal(output / "journal") as journal:
        run.claim.tell_whose("main")
        generations, from_journal = _run_pipeline(run, journal)
        if "mt-bench" in rows:
            _judge(generations["mt-bench"], run)
    tasks = {}
    for name, made in generations.items():
        write_generations(output / "generations" / f"{name}.parquet", made)
        tasks[name] = summarise(made, settings.graders)
    asked = settings.to_dict()
    result = {
        "schema": SCHEMA,
        "model": backend.model,
        "revision": backend.commit(),
        "identity": run.claim.identity,
        **({"run": run_id} if (run_id := backend.run_id()) else {}),
        **({"base_changed": changed} if (changed := backend.base_changed()) else {}),
        "backend": backend.kind,
        "mode": settings.mode,
        "prompt": settings.prompt,
        "limit": settings.limit,
        **({"sample": run.samples} if run.samples else {}),
        **{name: asked[name] for name in ("samples", "temperature", "top_p", "seed")},
        "round": run.claim.round,
        "graders": list(settings.graders),
        **({"extra": extra} if (extra := getattr(backend, "extra", None)) else {}),
        **({"asked_without": without} if (without := _left_out(generations)) else {}),
        "grader": grader_version(),
        **({"judge": settings.judge, "judge_identity": run.claim.told["judge"]} if "mt-bench" in rows else {}),
        **({"judge_extra": dict(settings.judge_extra)} if "mt-bench" in rows and settings.judge_extra else {}),
        "benchmark_revisions": dict(run.revisions),
        "problems": {name: rows_digest(made) for name, made in generations.items()},
        **({"fingerprints": dict(told)} if (told := fingerprints(generations.values())) else {}),
        "tasks": tasks,
        **circumstances(),
        "seconds": round(time.time() - started, 1),
        "from_journal": from_journal,
    }
    if from_journal == sum(len(made) for made in generations.values()) and before:
        # Nothing was generated: what was measured is the run that did.
        result |= {name: before[name] for name in ("machine", "date", "seconds", "from_journal") if name in before}
        wrote = {name: before["versions"][name] for name in _WRITING if name in before.get("versions", {})}
        result["versions"] = {**result["versions"], **wrote}
    if changed := grader_changed(before.get("grader"), result["grader"]):
        say(f"graded anew from the kept texts: the verdicts in {output} were of other graders ({changed})")
    tell_fingerprints(told)
    write_text(output / FILE, json.dumps(result, indent=1, ensure_ascii=False))
    return result


def _left_out(generations: Mapping[str, Sequence[Row]]) -> list[str]:
    """The sampling parameters that the endpoint does not take: what was asked for was not what was sent."""
    return sorted({name for made in generations.values() for row in made for name in row["meta"].get("without", ())})


# Packages that texts depend on; the others grade them.
_WRITING = ("cft-trl", "torch", "transformers")


def fingerprints(generations: Iterable[Iterable[Row]]) -> Counter[str]:
    """How many answers an endpoint gave under each of its `system_fingerprint`s; empty where it gives none."""
    return Counter(told for rows in generations for row in rows if (told := row["meta"].get("fingerprint")))


def _earlier(output: Path) -> dict[str, Any]:
    """The `evaluation.json` that is there, or nothing."""
    try:
        found = json.loads((output / FILE).read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else {}
    except (OSError, ValueError):
        return {}


def _asked(settings: EvalSettings) -> dict[str, Any]:
    return {**settings.to_dict(), "graders": list(settings.graders)}


def _run_pipeline(run: Prepared, journal: Journal) -> tuple[dict[str, list[Row]], int]:
    """lighteval's pipeline over these problems -> (task -> its generations with their verdicts, how many were kept)."""
    settings, rows = run.settings, run.rows
    with _quiet():
        from cft_trl.evaluation import lighteval_shim

        lighteval_shim.apply()
        from lighteval.logging.evaluation_tracker import EvaluationTracker
        from lighteval.pipeline import ParallelismManager, Pipeline, PipelineParameters

        from cft_trl.evaluation.lighteval_model import Asking, JournaledModel
        from cft_trl.evaluation.lighteval_tasks import task_config

    tasks = ModuleType("cft_eval_tasks")
    # MT-Bench is judged after the pipeline, both turns at once and with a journal.
    vars(tasks)["TASKS_TABLE"] = table = [
        task_config(get_benchmark(name), rows=of_task, samples=settings.samples, graders=settings.graders)
        for name, of_task in rows.items()
    ]
    asking = Asking(**{name: getattr(settings, name) for name in Asking.__dataclass_fields__})
    total = sum(len(r) * (2 if n == "mt-bench" else settings.samples) for n, r in rows.items())

    def open_generator(kept: int) -> Any:
        run.claim.may_ask(kept)
        return run.backend.generator()

    with _quiet(), tempfile.TemporaryDirectory() as scratch, progress("generations", total) as advance:
        remote = run.backend.kind == "endpoint"
        model = JournaledModel(run.claim.key, asking, open_generator, journal, advance, remote)
        pipeline = Pipeline(
            tasks=",".join(config.name for config in table),
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
        meta |= {key: kept[key] for key in ("verdicts", "failure", "fingerprint", "without") if key in kept}
        if judged:
            meta["turn"] = sample + 1
        elif settings.mode == "single_pass":  # what it says of its own solution, in its own words
            meta["verdicts"] = [verdict_by(kept["text"], settings.prompt_preset)]
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


def _judge(rows: list[Row], run: Prepared) -> None:
    from cft_trl.evaluation.mt_bench import judge_turns, open_judge

    assert run.settings.judge is not None  # the settings want one for mt-bench
    judge, who = open_judge(run.settings.judge, run.settings.judge_extra), run.claim.key_of(run.claim.told["judge"])
    with Journal(run.claim.folder / "journal", "judge") as journal, progress("judgements", len(rows)) as advance:
        run.claim.tell_whose("judge", run.claim.told["judge"])
        for row, found in zip(rows, judge_turns(rows, judge, journal, advance, who), strict=True):
            row["meta"] |= found


@contextlib.contextmanager
def _told_what_is_kept(journal: Journal) -> Iterator[None]:
    try:
        yield
    except CFTError as error:
        if error.reason == "not answered":
            raise
        told = f"{error}; {len(journal)} generations are kept, the same command goes on from there"
        raise CFTError(told, reason=error.reason) from None


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
