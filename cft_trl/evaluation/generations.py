r"""What a model wrote for a benchmark, and what is made of it: one Parquet file per task, scores from it alone.

    {"task": "gsm8k", "id": "gsm8k-0", "sample": 0, "query": "Janet's ducks lay 16 eggs …", "gold": "18",
     "prompt": "[{\"role\": \"system\", …}]", "text": "She sells 9 eggs, so $\\boxed{18}$.", "finish_reason": "stop",
     "prompt_tokens": 112, "completion_tokens": 87, "extracted": "18", "strict": True, "paper": True,
     "mode": "direct", "rounds": 1, "meta": "{}"}

`strict` and `paper` are the verdicts of the two graders of `grading/`; for IFEval `strict` says whether every
instruction was followed, by its official checkers, and for MT-Bench both are null and `meta` holds the judge's score.
"""

from __future__ import annotations

import json
import math
import os
import re
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cft_trl.data.digests import content_digest
from cft_trl.errors import CFTError
from cft_trl.grading.benchmarks import Benchmark, get_benchmark
from cft_trl.grading.grade import GRADERS, extract_answer, grade_many
from cft_trl.grading.intervals import wilson_interval
from cft_trl.progress import progress

Row = dict[str, Any]

COLUMNS = {
    "task": "string", "id": "string", "sample": "int32", "query": "string", "gold": "string", "prompt": "string",
    "text": "string", "finish_reason": "string", "prompt_tokens": "int32", "completion_tokens": "int32",
    "extracted": "string", "strict": "bool", "paper": "bool", "mode": "string", "rounds": "int32", "meta": "string",
}  # fmt: skip
_AT_ONCE = 256  # gradings between two steps of the progress bar
_WRAPPED = re.compile(r"\\(?:text|textbf|mathrm|mathbf)\s*\{([^{}]*)\}|[*_$\s]+")
_LETTER = re.compile(r"(?:option|choice)?[(\[]?([A-P])(?:[)\].:,].*)?", re.DOTALL)
_CHOSEN = re.compile(r"\b(?:option|choice|letter)\s*(?:is|:)\s*:?[\s*(\[$]*([A-P])(?![A-Za-z])")


# ---- verdicts --------------------------------------------------------------------------------------------------------


def answer_letter(text: str) -> str | None:
    r"""The option that a generation chooses, or None: never a guess.

    Example:
        >>> answer_letter(r"so $\boxed{\text{(B)}}$"), answer_letter("**Answer:** C. The mean"), answer_letter("42")
        ('B', 'C', None)
        >>> answer_letter("The right option is **D**."), answer_letter("A man of 40")
        ('D', None)
    """
    answer = extract_answer(text)
    bare = re.sub(r"\s+", "", _WRAPPED.sub(lambda match: match[1] or "", answer)) if answer else ""
    # "A man" is no choice of A: a letter is followed by nothing, or by what sets a label off from its option.
    if bare and (match := _LETTER.fullmatch(bare)):
        return match[1]
    chosen = _CHOSEN.findall(text)
    return chosen[-1] if chosen else None


def extracted_answer(benchmark: Benchmark, text: str) -> str | None:
    """What is compared with the gold; None where nothing is compared or nothing was found."""
    if benchmark.answer == "letter":
        return answer_letter(text)
    return extract_answer(text) if benchmark.answer == "math" else None


def verdicts(benchmark: Benchmark, rows: Sequence[Mapping[str, Any]], grader: str) -> list[tuple[bool | None, Row]]:
    """Judges generations of one benchmark by one grader.

    Args:
        benchmark: Says how answers are compared.
        rows: With `query`, `gold`, `text` and `meta` (a dict).
        grader: "strict" or "paper".

    Returns:
        For each row its verdict (None where this grader has none to give) and what is to be kept in `meta`.

    Raises:
        CFTError: What the benchmark's checkers need is not installed.
    """
    if benchmark.answer == "math":
        return [(hit, {}) for hit in _grade(rows, grader)]
    if benchmark.answer == "letter":
        hits = [answer_letter(row["text"]) == row["gold"] for row in rows]
        if grader == "paper":
            hits = _grade(rows, grader)
        return [(hit, {}) for hit in hits]
    if benchmark.answer == "instructions" and grader == "strict":
        from cft_trl.evaluation.ifeval import check_instructions

        checked = check_instructions(rows)
        return [(all(found["instructions_strict"]), found) for found in checked]
    return [(None, {}) for _ in rows]


def _grade(rows: Sequence[Mapping[str, Any]], grader: str) -> list[bool]:
    hits: list[bool] = []
    with progress(f"grading ({grader})", len(rows)) as advance:
        for begin in range(0, len(rows), _AT_ONCE):
            pairs = [(row["text"], row["gold"]) for row in rows[begin : begin + _AT_ONCE]]
            hits += grade_many(pairs, grader, os.cpu_count() or 2)
            advance(len(pairs))
    return hits


def regrade(rows: Sequence[Row], graders: Sequence[str] = GRADERS) -> list[Row]:
    """The rows of one task with `extracted` and the verdicts found anew; nothing else is changed."""
    benchmark = get_benchmark(rows[0]["task"])
    again = [{**row, "extracted": extracted_answer(benchmark, row["text"]), "meta": dict(row["meta"])} for row in rows]
    for grader in graders:
        for row, (verdict, found) in zip(again, verdicts(benchmark, rows, grader), strict=True):
            row[grader] = verdict
            row["meta"] |= found
    return again


# ---- which problems they are of --------------------------------------------------------------------------------------


def problem_digest(row: Mapping[str, Any]) -> str:
    """What problem a row is of: its text, its gold, and what its checkers or judge are given. Not its id or place.

    Args:
        row: A generation, or a row of `load_benchmark` with its `task`.
    """
    benchmark, meta = get_benchmark(row["task"]), row["meta"]
    given = benchmark.meta if benchmark.answer in ("instructions", "judge") else ()
    return content_digest([row["query"], row["gold"], {name: meta[name] for name in given if name in meta}])


def rows_digest(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """How many problems generations are of, and a digest of what these are, in whatever order."""
    digests = {row["id"]: problem_digest(row) for row in rows}
    return {"rows": len(digests), "texts": content_digest(sorted(digests.values()))}


# ---- files -----------------------------------------------------------------------------------------------------------


def write_generations(path: Path, rows: Sequence[Row]) -> None:
    """Writes rows (`meta` a dict) under a temporary name, then renames.

    Raises:
        CFTError: The file cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(list(COLUMNS.items()))
    texts = [{**row, "meta": json.dumps(row["meta"], ensure_ascii=False)} for row in rows]
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(texts, schema), partial, compression="zstd")
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise CFTError(f"{path}: cannot be written ({error.strerror or error})") from None


def read_generations(path: str | Path) -> list[Row]:
    """Reads a task's generations; `meta` becomes a dict again.

    Raises:
        CFTError: No such file, not Parquet, columns missing, no rows, several tasks in one file, or another task's
            file under this name.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(path)
    if not path.is_file():
        raise CFTError(f"{path}: no such file; give OUT/generations/<task>.parquet or OUT, as `cft eval` wrote them")
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise CFTError(f"{path}: is not a Parquet file of generations ({error})") from None
    missing = [name for name in COLUMNS if name not in table.column_names]
    if missing:
        raise CFTError(f"{path}: no column {', '.join(missing)}; found {', '.join(table.column_names)}")
    rows = table.select(list(COLUMNS)).to_pylist()
    tasks = sorted({str(row["task"]) for row in rows})
    if len(tasks) != 1:
        raise CFTError(f"{path}: holds {', '.join(tasks) or 'no rows'}; a file of generations is of one task")
    benchmark = get_benchmark(tasks[0])
    if path.parent.name == "generations" and path.stem != benchmark.name:
        raise CFTError(f"{path}: holds generations of {tasks[0]}, not of {path.stem}; it was renamed or put elsewhere")
    try:
        return [{**row, "meta": json.loads(row["meta"] or "{}")} for row in rows]
    except ValueError as error:
        raise CFTError(f"{path}: column meta holds no JSON ({error})") from None


# ---- scores ----------------------------------------------------------------------------------------------------------


def pass_at_k(n: int, right: int, k: int) -> float:
    """The chance that k of n samples, `right` of them right, hold a right one (unbiased; arXiv 2107.03374).

    Args:
        n: How many samples a problem has.
        right: How many of them are right, 0 to n.
        k: How many are drawn of them, 1 to n.

    Example:
        >>> pass_at_k(4, 1, 1), pass_at_k(4, 1, 2), pass_at_k(4, 3, 2)
        (0.25, 0.5, 1.0)
    """
    return 1.0 - math.comb(n - right, k) / math.comb(n, k)


def summarise(rows: Sequence[Mapping[str, Any]], graders: Sequence[str] = GRADERS) -> dict[str, Any]:
    """One task's scores, as they stand in `evaluation.json`.

    Args:
        rows: All of the task's generations, as many of each problem.
        graders: Which of "strict" and "paper".

    Returns:
        `problems`, `samples`, `scores` (per grader `score`, `hits`, `of` and `interval_95`), `mean_completion_tokens`,
        the shares `truncated`, `no_answer` and `failed`, and, with several samples, `pass_at_k` per grader. A score of
        several samples is the mean over problems of the share that was right; its interval is over problems, for
        samples of one problem are no independent problems.
    """
    benchmark = get_benchmark(rows[0]["task"])
    problems: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        problems[row["id"]].append(row)
    samples = 1 if benchmark.answer == "judge" else max(len(of_one) for of_one in problems.values())
    summary: dict[str, Any] = {"problems": len(problems), "samples": samples, "scores": {}}
    for grader in graders:
        if all(row[grader] is None for row in rows):
            continue
        right = [sum(bool(row[grader]) for row in of_one) for of_one in problems.values()]
        summary["scores"][grader] = _score(sum(right), len(problems), samples)
        if samples > 1:
            ks = sorted({1, samples} | {2**i for i in range(1, samples.bit_length()) if 2**i <= samples})
            shares = {str(k): [pass_at_k(samples, hits, k) for hits in right] for k in ks}
            summary.setdefault("pass_at_k", {})[grader] = {k: sum(v) / len(v) for k, v in shares.items()}
    if benchmark.answer == "instructions":
        summary["scores"].update(_instruction_scores(rows))
    if benchmark.answer == "judge":
        summary["scores"].update(_judge_scores(rows))
    counted = [row["completion_tokens"] for row in rows if row["completion_tokens"] is not None]
    summary["mean_completion_tokens"] = sum(counted) / len(counted) if counted else None
    for name, reason in (("truncated", "length"), ("failed", "failed")):
        summary[name] = sum(row["finish_reason"] == reason for row in rows) / len(rows)
    compared = benchmark.answer in ("math", "letter")
    summary["no_answer"] = sum(row["extracted"] is None for row in rows) / len(rows) if compared else None
    return summary


def _score(hits: int, problems: int, samples: int) -> dict[str, Any]:
    # The mean of a problem's samples varies less than one sample, so this interval is never too narrow; unlike a
    # bootstrap it does not shrink to a point where no problem is solved.
    interval = wilson_interval(hits / samples, problems)
    return {
        "score": hits / (problems * samples),
        "hits": hits,
        "of": problems * samples,
        "interval_95": list(interval),
    }


def _instruction_scores(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """IFEval's other three figures: by prompt, loosely; by instruction, strictly and loosely."""
    strict = [flag for row in rows for flag in row["meta"].get("instructions_strict", [])]
    loose = [flag for row in rows for flag in row["meta"].get("instructions_loose", [])]
    by_prompt = [all(row["meta"].get("instructions_loose", [False])) for row in rows]
    named = {"loose": by_prompt, "instruction_strict": strict, "instruction_loose": loose}
    return {name: _score(sum(flags), len(flags), 1) for name, flags in named.items() if flags}


def _judge_scores(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """MT-Bench's mean score, 1 to 10, over both turns and by turn; unreadable judgements are counted, not guessed."""
    found = {}
    for name, turns in (("judge", (1, 2)), ("turn_1", (1,)), ("turn_2", (2,))):
        chosen = [row for row in rows if row["meta"].get("turn") in turns]
        by_problem: dict[str, list[float]] = defaultdict(list)
        for row in chosen:
            if row["meta"].get("score") is not None:
                by_problem[row["id"].partition(".")[0]].append(row["meta"]["score"])
        means = [statistics.fmean(scores) for scores in by_problem.values()]
        if means:
            half = 1.959964 * statistics.stdev(means) / math.sqrt(len(means)) if len(means) > 1 else 4.5
            score = statistics.fmean(means)
            found[name] = {
                "score": score,
                "of": len(means),
                "interval_95": [max(1.0, score - half), min(10.0, score + half)],
                "unreadable": sum(row["meta"].get("score") is None for row in chosen),
            }
    return found
