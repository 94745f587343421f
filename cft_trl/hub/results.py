"""A model's evaluations on its card and on the Hub: the table with both graders, and the scores as metadata.

    results = read_results(["runs/eval-cft", "runs/eval-base"], run, model_folder, "my-org/my-critic")
    benchmark_section(results)      # Markdown: strict and paper with 95% intervals, the base model beside it
    hub_entries(results, ...)       # .eval_results/gsm8k.yaml where the benchmark is registered, else model-index

Only strict scores of whole benchmarks become metadata: the paper grader accepts wrong numbers, and a score on the first
hundred problems is not the benchmark's. A benchmark is registered where its dataset on the Hub holds an `eval.yaml`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cft_trl.data.digests import file_digest
from cft_trl.errors import CFTError
from cft_trl.evaluation.report_figures import bounds, percent, score_cell
from cft_trl.generation.names import without_address
from cft_trl.grading.benchmarks import BENCHMARKS
from cft_trl.hub.model_card import base_model_name, public_name
from cft_trl.models.identity import folder_identity, weight_files, what_changed
from cft_trl.models.names import SMALL_MODEL, SMALL_MODEL_HUB_ID


@dataclass(frozen=True)
class Result:
    """One evaluation.

    Attributes:
        folder: Where it lies.
        kind: "benchmarks" (`cft eval`) or "critic" (`cft eval-critic`).
        whose: "model", or "base" for what it was trained from.
        told: The content of `evaluation.json` or `critic.json`.
    """

    folder: Path
    kind: str
    whose: str
    told: Mapping[str, Any]


def find_results(run: Path) -> list[Path]:
    """Evaluations that lie in a run's folder."""
    found = {path.parent for name in ("evaluation.json", "critic.json") for path in run.glob(f"*/{name}")}
    return sorted(found)


def read_results(
    folders: Sequence[str | Path], record: Mapping[str, Any], model_folder: Path, repo_id: str
) -> list[Result]:
    """Reads evaluations and holds each to be of this model, or of the one it was trained from.

    Args:
        folders: As `cft eval` and `cft eval-critic` wrote them. Benchmark scores are counted again from the
            generations.
        record: The run's (`cft_trl.hub.run_card.read_run`).
        model_folder: The weights that are pushed.
        repo_id: Where they are pushed to; an evaluation may name them so.

    Raises:
        CFTError: No evaluation, one that does not add up, or one of another model: of other weights or another chat
            template, whatever its folder is called.
    """
    results = []
    for folder in map(Path, folders):
        if (folder / "critic.json").is_file():
            told, kind = _read_critic(folder), "critic"
        else:
            from cft_trl.evaluation.report_runs import read_run

            told, kind = read_run(folder, folder.name).settings, "benchmarks"
        results.append(Result(folder, kind, _whose(folder, told, record, model_folder, repo_id), told))
    if results and all(result.whose == "base" for result in results):
        raise CFTError(
            f"{results[0].folder}: is of the base model only; give an evaluation of the model that is pushed"
        )
    return results


def _read_critic(folder: Path) -> dict[str, Any]:
    path = folder / "critic.json"
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return {"model": told["model"], "subsets": dict(told["subsets"]), **told}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CFTError(f"{path}: cannot be read ({error}); run `cft eval-critic` again") from None


def _whose(folder: Path, told: Mapping[str, Any], record: Mapping[str, Any], model_folder: Path, repo_id: str) -> str:
    name, identity = told["model"], _identity_of(folder, told)
    if _is_base(folder, told, identity, record):
        return "base"
    run = record.get("run")
    if told.get("run") and run and told["run"] != run:
        raise CFTError(
            f"{folder}: an evaluation of '{name}' of run {told['run']}, but the model that is pushed is of run {run}; "
            "evaluate that one"
        )
    kind = identity.get("kind")
    if kind == "folder":
        if changed := what_changed(identity, folder_identity(model_folder)):
            raise CFTError(
                f"{folder}: an evaluation of '{name}', which is not the model in '{model_folder}': {changed}; evaluate "
                "that folder, or push the checkpoint that was evaluated"
            )
        return "model"
    if kind == "hub" and name == repo_id and _hub_weights(name, identity.get("commit")) == _sums(model_folder):
        return "model"
    if kind == "hub" and name == repo_id:
        raise CFTError(
            f"{folder}: an evaluation of {name} at {identity.get('commit')}, whose weights are not those in "
            f"'{model_folder}' (or the Hub does not say); evaluate that folder"
        )
    if kind is None and told.get("backend") != "endpoint":
        raise CFTError(f"{folder}: says '{name}' but not what that was: it is of an earlier version; evaluate it again")
    if kind != "endpoint" and told.get("backend") != "endpoint":
        base = record.get("base_model", {}).get("name")
        raise CFTError(f"{folder}: an evaluation of '{name}', which is neither {repo_id} nor its base model '{base}'")
    return "model"  # at an endpoint a model has whatever name it was given there; the card says so


def _is_base(folder: Path, told: Mapping[str, Any], identity: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
    """
    Raises:
        CFTError: It has the base model's name, but is of another commit, or of what another content lay there.
    """
    name, base = told["model"], record.get("base_model", {})
    named = base.get("name") in (name, str(Path(name).resolve())) or (
        {name, base.get("name")} <= {SMALL_MODEL, SMALL_MODEL_HUB_ID}
    )
    if not named:
        return False
    was, commit = base.get("commit"), identity.get("commit") or told.get("revision")
    if was and commit and was != commit:
        raise CFTError(
            f"{folder}: an evaluation of '{name}' at {commit}, but this run began with {was}; evaluate that: "
            f"--revision {was}"
        )
    began = base.get("identity")
    if began and identity.get("kind") == began.get("kind") == "folder" and (changed := what_changed(began, identity)):
        raise CFTError(f"{folder}: an evaluation of '{name}', which is not what this run began with: {changed}")
    return True


def _identity_of(folder: Path, told: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the evaluated model was: of `evaluation.json` or `run.json`; {} where neither says."""
    identity = told.get("identity")
    if not identity:
        try:
            identity = json.loads((folder / "run.json").read_text(encoding="utf-8")).get("identity")
        except (OSError, ValueError, AttributeError):
            identity = None
    return (identity or {}).get("model", identity) or {}


def _sums(model_folder: Path) -> dict[str, str]:
    """SHA-256 of the files of weights, as far as a file's digest goes (16 digits), by name."""
    return {path.name: file_digest(path) for path in weight_files(model_folder)}


def _hub_weights(repo_id: str, commit: str | None) -> dict[str, str] | None:
    """The same of a repository at a commit, by the Hub's own checksums; None where it does not say."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError

    try:
        listed = HfApi().model_info(repo_id, revision=commit, files_metadata=True, timeout=10).siblings or ()
    except (HTTPError, OSError, RuntimeError):
        return None
    weights = [file for file in listed if file.rfilename.endswith(".safetensors") and file.lfs]
    return {file.rfilename: file.lfs.sha256[:16] for file in weights}


# ---- on the card -----------------------------------------------------------------------------------------------------


def benchmark_section(results: Sequence[Result]) -> str:
    """The card's section on evaluations; "" without any."""
    lines: list[str] = []
    mine = [result for result in results if result.whose == "model"]
    for result in mine:
        base = _base_of(result, results)
        lines += ["", *(_scores(result, base) if result.kind == "benchmarks" else _critic(result, base))]
    return "\n".join(["## Evaluation", *lines]) if lines else ""


def _base_of(result: Result, results: Sequence[Result]) -> Result | None:
    """The base model's evaluation that was asked the same, if there is one."""
    for other in results:
        same = ("mode", "limit", "samples", "temperature") if result.kind == "benchmarks" else ("data", "limit")
        alike = all(other.told.get(key) == result.told.get(key) for key in same)
        if other.whose == "base" and other.kind == result.kind and alike:
            return other
    return None


def _scores(result: Result, base: Result | None):
    told = result.told
    graders = [grader for grader in ("strict", "paper") if grader in told["graders"]]
    names = {"strict": "strict, %", "paper": "paper*, %"}
    columns = ["benchmark", "problems", *(names[grader] for grader in graders)]
    columns += [f"base model, {names['strict']}"] if base and "strict" in graders else []
    columns += ["no answer", "cut at the limit"]
    yield f"| {' | '.join(columns)} |"
    yield "|---" * len(columns) + "|"
    for name, task in told["tasks"].items():
        limited = _limit(told, name)
        cells = [name, f"{task['problems']} (the first)" if limited else str(task["problems"])]
        cells += [score_cell(task["scores"].get(grader)) for grader in graders]
        if base and "strict" in graders:
            cells.append(score_cell(base.told["tasks"].get(name, {}).get("scores", {}).get("strict")))
        cells += ["-" if task[key] is None else f"{task[key]:.1%}" for key in ("no_answer", "truncated")]
        yield f"| {' | '.join(cells)} |"
    yield ""
    yield "In brackets the 95% interval." + (
        " * The published grader, for comparison with published figures only: it accepts wrong numbers (two count as "
        "equal if they agree after rounding to one decimal)."
        if "paper" in graders
        else ""
    )
    yield ""
    yield _conditions(result)


def _limit(told: Mapping[str, Any], task: str) -> int | None:
    limit = told["limit"]
    return limit.get(task) if isinstance(limit, dict) else limit


def _conditions(result: Result) -> str:
    told, prompt = result.told, result.told["prompt"]
    sampled = f"T {told['temperature']:g}, {told['samples']} samples" if told["temperature"] else "greedy, one sample"
    where = f"at an endpoint, as `{told['model']}`" if told["backend"] == "endpoint" else f"with {told['backend']}"
    system = f"system turn “{prompt['system']}”" if prompt.get("system") else "no system turn"
    text = f"Zero-shot, {told['mode']}, {sampled}, at most {prompt['max_new_tokens']} tokens, {system}, {where}"
    versions = ", ".join(f"{name} {number}" for name, number in told.get("versions", {}).items())
    return f"{text}; {told.get('machine', 'machine not noted')}; {told.get('date', 'no date')}; {versions}."


def _critic(result: Result, base: Result | None):
    yield f"As a critic ({public_name(result.told.get('data', ''))}): does it tell right solutions from wrong ones?"
    yield ""
    columns = ["solutions", "rows", "verdict right, %", "always the commoner verdict, %", "F1, %", "no verdict"]
    columns += ["base model, verdict right, %"] if base else []
    yield f"| {' | '.join(columns)} |"
    yield "|---" * len(columns) + "|"
    for name, score in result.told["subsets"].items():
        cells = [
            name,
            str(score["rows"]),
            _share(score, "accuracy", "interval_95"),
            f"{100 * score['majority_rate']:.1f}",
        ]
        cells += [_share(score, "f1", "f1_interval_95"), f"{score['no_verdict'] / score['rows']:.1%}"]
        if base:
            cells.append(_share(base.told["subsets"].get(name, {}), "accuracy", "interval_95"))
        yield f"| {' | '.join(cells)} |"
    yield ""
    yield "In brackets the 95% interval; a critique without a verdict counts as a miss."


def _share(score: Mapping[str, Any], name: str, interval: str) -> str:
    if name not in score:
        return "-"
    return f"{percent(score[name])} ({bounds(score[interval])})"


# ---- as metadata -----------------------------------------------------------------------------------------------------


def hub_entries(
    results: Sequence[Result], record: Mapping[str, Any], repo_id: str, source_url: str
) -> tuple[dict[str, bytes], list[Any]]:
    """The strict scores of whole benchmarks -> (`.eval_results/…` files by path, `EvalResult`s for the card).

    Args:
        source_url: Where the evaluations' own files are.
    """
    import yaml
    from huggingface_hub import EvalResult, EvalResultEntry, eval_result_entries_to_yaml

    files, index = {}, []
    for name, (result, task) in _whole(results).items():
        benchmark, score, told = BENCHMARKS[name], task["scores"]["strict"], result.told
        low, high = score["interval_95"]
        value = round(100 * score["score"], 2)
        sampled = f"mean of {told['samples']} samples at T {told['temperature']:g}" if told["samples"] > 1 else "greedy"
        notes = f"0-shot, {told['mode']}, {sampled}, strict grader of cft-trl, 95% interval {100 * low:.1f} to "
        notes += f"{100 * high:.1f}"
        at = {"source_name": "cft eval", "source_url": source_url}
        at["dataset_revision"] = told.get("benchmark_revisions", {}).get(name)
        if task_id := registered_task(benchmark):
            entry = EvalResultEntry(benchmark.hub, task_id, value, date=told.get("date"), notes=notes, **at)
            text = yaml.safe_dump(eval_result_entries_to_yaml([entry]), sort_keys=False, allow_unicode=True)
            files[f".eval_results/{name}.yaml"] = text.encode()
            continue
        metric = "prompt-level accuracy" if benchmark.answer == "instructions" else "accuracy"
        index.append(
            EvalResult(
                task_type="text-generation",
                dataset_type=benchmark.hub,
                dataset_name=name,
                dataset_config=benchmark.config,
                dataset_split=benchmark.split,
                metric_type="accuracy",
                metric_value=value,
                metric_name=f"{metric}, % ({notes})",
                **at,
            )
        )
    return files, index


def _whole(results: Sequence[Result]) -> dict[str, tuple[Result, Mapping[str, Any]]]:
    """Benchmark -> the model's evaluation on all of it; of several the direct one, for that is how others are asked."""
    found: dict[str, tuple[Result, Mapping[str, Any]]] = {}
    mine = [result for result in results if result.whose == "model" and result.kind == "benchmarks"]
    for result in sorted(mine, key=lambda result: result.told["mode"] != "direct"):
        for name, task in result.told["tasks"].items():
            known = name in BENCHMARKS and not BENCHMARKS[name].drawn and BENCHMARKS[name].answer != "judge"
            if known and "strict" in task["scores"] and task["problems"] == BENCHMARKS[name].size:
                found.setdefault(name, (result, task))
    return found


def registered_task(benchmark: Any) -> str | None:
    """The id of a benchmark's task in the `eval.yaml` of its dataset; None where it has none, or cannot be asked."""
    import yaml
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import HTTPError

    try:
        # Asked first: without a network a download is tried for half a minute.
        files = HfApi().dataset_info(benchmark.hub, timeout=10).siblings or ()
        if not any(file.rfilename == "eval.yaml" for file in files):
            return None
        path = hf_hub_download(benchmark.hub, "eval.yaml", repo_type="dataset")
        tasks = yaml.safe_load(Path(path).read_text(encoding="utf-8"))["tasks"]
        named = [task for task in tasks if benchmark.config in (task.get("config"), task.get("subset"))]
        [task] = named if len(tasks) > 1 else tasks
        return str(task["id"])
    except (HTTPError, OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError):
        return None


def _without_addresses(told: Mapping[str, Any]) -> dict[str, Any]:
    """An evaluation without where endpoints are, and without what they and servers of our own say of paths."""
    private = ("address", "served", "options")
    found = dict(told)
    for name in {"identity", "judge_identity"} & found.keys():
        found[name] = {key: value for key, value in found[name].items() if key not in private}
    if isinstance(found.get("judge"), str):
        found["judge"] = without_address(found["judge"])
    return found


def evaluation_files(results: Sequence[Result], record: Mapping[str, Any], repo_id: str) -> dict[str, bytes]:
    """The model's evaluations as files of the repository: what was asked and every score, without the generations.

    Args:
        results: As `read_results` finds them.
        record: The run's.
        repo_id: The repository, which is the model's name there.
    """
    found: dict[str, bytes] = {}
    for result in results:
        name, number = public_name(str(result.folder.resolve())), 1
        while (path := f"evaluations/{name}{'' if number == 1 else f'-{number}'}.json") in found:
            number += 1
        model = repo_id if result.whose == "model" else base_model_name(record)
        told = {**_without_addresses(result.told), "model": model}
        found[path] = (json.dumps(told, indent=1, ensure_ascii=False) + "\n").encode()
    return found
