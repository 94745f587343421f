r"""The one table of benchmarks: where each is, how large, how its gold is read, and how it is asked.

    {"id": "gsm8k-0", "query": "Janet's ducks lay 16 eggs per day. ...", "gold": "18", "meta": {}}

is what `load_benchmark("gsm8k")` makes of the row {"question": "Janet's ducks ...", "answer": "... #### 18"}. The rows
come from the Hub, or from a folder with one folder per benchmark, `<folder>/gsm8k/test.jsonl.gz`; a set whose size is
not the published one is refused, for its score could not be compared with anything. CFT_BENCHMARKS_REVISIONS pins what
is taken from the Hub: "gsm8k=3f1c9a2,math=main". A branch is resolved first, and its commit read and recorded.
"""

from __future__ import annotations

import hashlib
import os
import re
import string
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cft_trl.data.files import SUFFIXES, read_files, refuse_twins
from cft_trl.errors import CFTError, nearest
from cft_trl.generation.types import STOP_STRINGS
from cft_trl.grading.answers import extract_answer
from cft_trl.grading.revisions import dataset_commit, note_read

# The published evaluation of arXiv 2501.17703: this system turn, greedy, at most 2048 tokens, STOP_STRINGS.
MATH_SYSTEM = r"Please reason step by step, and put your final answer within \boxed{}."
FOLDER_VARIABLE = "CFT_BENCHMARKS_DIR"
REVISIONS_VARIABLE = "CFT_BENCHMARKS_REVISIONS"

Row = dict[str, Any]


# ---- reading a gold --------------------------------------------------------------------------------------------------


def gold_from_solution(solution: str) -> str:
    r"""The last box of a worked solution; as published, also where a solution has two boxes.

    Example:
        >>> gold_from_solution(r"so $x = \boxed{-2}$ or $x = \boxed{\frac{1}{2}}$.")
        '\\frac{1}{2}'
    """
    last = max(solution.rfind(r"\boxed"), solution.rfind(r"\fbox"))
    if last < 0:
        return ""
    if bare := re.match(r"\\(?:boxed|fbox)\s*([^\s{$][^\s$]*)", solution[last:]):
        return bare[1].rstrip(".")
    return extract_answer(solution[last:]) or ""


def gold_after_hashes(answer: str) -> str:
    """What follows "####" (GSM8K).

    Example:
        >>> gold_after_hashes("She makes 9 * 2 = <<9*2=18>>18 dollars. #### 1,800")
        '1,800'
    """
    return answer.rpartition("####")[2].strip() if "####" in answer else ""


def gold_as_written(answer: object) -> str:
    """A bare answer: a text, a number (27.0 is 27), or a list of texts (OlympiadBench).

    Example:
        >>> gold_as_written(27.0), gold_as_written(["$69$,$84$"])
        ('27', '69,84')
    """
    if isinstance(answer, list | tuple):
        answer = ", ".join(str(part) for part in answer)
    if isinstance(answer, float) and answer.is_integer():
        answer = int(answer)
    return re.sub(r"(?<!\\)\$", "", str(answer)).strip()


def _short_answer(read: Callable[[Any], str]) -> Callable[[Mapping[str, Any]], tuple[str, str]]:
    return lambda row: (row["query"], read(row["gold"]))


_as_written = _short_answer(gold_as_written)


def _minerva(row: Mapping[str, Any]) -> tuple[str, str]:
    text = row["gold"]
    return row["query"], gold_from_solution(text) if r"\boxed" in text else gold_as_written(text)


def _lettered(question: str, options: Iterable[str]) -> str:
    lines = [f"{letter}. {option}" for letter, option in zip(string.ascii_uppercase, options, strict=False)]
    return question + "\n\n" + "\n".join(lines) + "\n\nAnswer with the letter of the right option."


def _mmlu_pro(row: Mapping[str, Any]) -> tuple[str, str]:
    return _lettered(row["query"], row["options"]), str(row["gold"])


def _gpqa(row: Mapping[str, Any]) -> tuple[str, str]:
    """The four answers in an order drawn from the question, so that it is the same in every run and place."""
    options = [row["gold"].strip(), *(row[f"wrong {i}"].strip() for i in (1, 2, 3))]
    order = sorted(range(4), key=lambda i: hashlib.sha256(f"{i}|{row['query']}".encode()).digest())
    return _lettered(row["query"], [options[i] for i in order]), "ABCD"[order.index(0)]


def _mt_bench(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["query"][0], ""


# ---- the table -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Benchmark:
    """One benchmark.

    Attributes:
        name: The name on the command line; its folder has "_" for "-".
        hub, config, split: Where it is on the Hub.
        size: The published number of problems.
        columns: For each role ("query", "gold", ...) the column names it goes by, in order of preference.
        read: From the values by role to (query, gold); the gold is "" where no answer is compared.
        answer: "math" and "letter" are graded by `grade.py`, "instructions" by IFEval's checkers, "judge" by a model.
        licence: As its publisher states it.
        meta: Columns that are kept in the row's `meta` where they exist.
        system: The system turn, or `None`.
        stop, max_new_tokens: As published.
        drawn: How many rows are drawn from a split of `size` rows, or `None` for all of them.
    """

    name: str
    hub: str
    size: int
    licence: str
    columns: Mapping[str, tuple[str, ...]] = field(
        default_factory=lambda: {"query": ("problem", "question"), "gold": ("answer",)}
    )
    read: Callable[[Mapping[str, Any]], tuple[str, str]] = _as_written
    config: str | None = None
    split: str = "test"
    answer: str = "math"
    meta: tuple[str, ...] = ("level", "type", "subject")
    system: str | None = MATH_SYSTEM
    stop: tuple[str, ...] = STOP_STRINGS
    max_new_tokens: int = 2048
    drawn: int | None = None


_SOLVED = {"query": ("problem",), "gold": ("solution",)}
_MAA = "none stated; the problems are the MAA's"

BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark(
            "math", "DigitalLearningGmbH/MATH-lighteval", 5000, "MIT", _SOLVED, _short_answer(gold_from_solution)
        ),
        Benchmark("math-500", "HuggingFaceH4/MATH-500", 500, "MIT (MATH)", meta=("level", "subject", "unique_id")),
        Benchmark(
            "minerva-math",
            "math-ai/minervamath",
            272,
            "CC BY-NC-SA 4.0 (MIT OpenCourseWare)",
            {"query": ("problem", "question"), "gold": ("solution", "answer")},
            _minerva,
        ),
        Benchmark(
            "gsm8k", "openai/gsm8k", 1319, "MIT", {"query": ("question",), "gold": ("answer",)},
            _short_answer(gold_after_hashes), config="main",
        ),
        Benchmark(
            "olympiadbench",
            "math-ai/olympiadbench",
            675,
            "Apache-2.0",
            {"query": ("question",), "gold": ("final_answer", "answer")},
            meta=("subfield", "answer_type", "unit", "is_multiple_answer"),
        ),
        Benchmark("aime24", "HuggingFaceH4/aime_2024", 30, _MAA, split="train", meta=("url",)),
        Benchmark("amc23", "math-ai/amc23", 40, _MAA, meta=("url",)),
        Benchmark("aime25", "math-ai/aime25", 30, _MAA),
        Benchmark(
            "theoremqa", "TIGER-Lab/TheoremQA", 800, "MIT",
            {"query": ("problem", "Question"), "gold": ("answer", "Answer")}, meta=("Answer_type",),
        ),
        Benchmark(
            "gpqa-diamond",
            "Idavidrein/gpqa",
            198,
            "CC BY 4.0",
            {
                "query": ("Question",),
                "gold": ("Correct Answer",),
                **{f"wrong {i}": (f"Incorrect Answer {i}",) for i in (1, 2, 3)},
            },
            _gpqa,
            config="gpqa_diamond",
            split="train",
            answer="letter",
            meta=("High-level domain", "Subdomain"),
        ),
        Benchmark(
            "mmlu-pro",
            "TIGER-Lab/MMLU-Pro",
            12032,
            "MIT",
            {"query": ("question",), "options": ("options",), "gold": ("answer",)},
            _mmlu_pro,
            answer="letter",
            meta=("category", "src", "question_id"),
        ),
        Benchmark(
            "ifeval",
            "google/IFEval",
            541,
            "Apache-2.0",
            {"query": ("prompt",), "instructions": ("instruction_id_list",), "arguments": ("kwargs",)},
            lambda row: (row["query"], ""),
            split="train",
            answer="instructions",
            meta=("key", "instruction_id_list", "kwargs"),
            system=None,
        ),
        Benchmark(
            "mt-bench",
            "HuggingFaceH4/mt_bench_prompts",
            80,
            "Apache-2.0",
            {"query": ("turns", "prompt"), "category": ("category",)},
            _mt_bench,
            split="train",
            answer="judge",
            meta=("category", "turns", "prompt", "reference"),
            system=None,
        ),
        # For choosing checkpoints. It is drawn from MATH *train*: the published choices were made on problems of MATH
        # test, which was then reported.
        Benchmark(
            "math-validation", "DigitalLearningGmbH/MATH-lighteval", 7500, "MIT", _SOLVED,
            _short_answer(gold_from_solution), split="train", drawn=500,
        ),
    )
}  # fmt: skip

SIX = ("math", "minerva-math", "gsm8k", "olympiadbench", "aime24", "amc23")


def get_benchmark(name: str) -> Benchmark:
    """The benchmark of this name ("MATH_500" is "math-500").

    Raises:
        CFTError: There is none; the nearest name is named.

    Example:
        >>> get_benchmark("Minerva_Math").size
        272
    """
    known = str(name).strip().lower().replace("_", "-")
    if known not in BENCHMARKS:
        raise CFTError(f"benchmark {name!r} is unknown{nearest(known, BENCHMARKS)}; known: {', '.join(BENCHMARKS)}")
    return BENCHMARKS[known]


def load_benchmark(name: str, folder: str | Path | None = None) -> list[Row]:
    """Reads a benchmark, from a folder when one is given and else from the Hub.

    Args:
        name: A name of `BENCHMARKS`.
        folder: Holds `<name>/test.jsonl.gz` (any format that `data/files.py` reads); by default the environment
            variable CFT_BENCHMARKS_DIR. The rows of "math-validation" are drawn from `math/train.jsonl.gz` in it, or
            from `train/math.jsonl.gz` beside it.

    Returns:
        One dict per problem, in the published order: `id`, `query` (the user turn), `gold` (bare; "" where none is
        compared) and `meta`.

    Raises:
        CFTError: Unknown name, no such folder or file, columns missing, a row without query or gold, another size than
            the published one, or the Hub does not answer.
    """
    benchmark = get_benchmark(name)
    folder = folder or os.environ.get(FOLDER_VARIABLE)
    note_read(benchmark.name, None)
    source, found = _from_folder(benchmark, Path(folder)) if folder else _from_hub(benchmark)
    raw = list(found)
    if len(raw) != benchmark.size:
        published = (
            f"the split that {benchmark.name} is drawn from" if benchmark.drawn else f"published {benchmark.name}"
        )
        raise CFTError(f"{source}: {len(raw)} rows, but {published} has {benchmark.size}; scores could not be compared")
    rows = [to_row(benchmark, index, row, where) for index, (row, where) in enumerate(raw)]
    return _draw(benchmark, rows) if benchmark.drawn else rows


# Three problems of MATH train stand in MATH test too, but for spaces and punctuation: hashes of their texts.
_ALSO_IN_TEST = {"f76d1c37f491836f", "ce4480c332bf9dd2", "98fc77ec11ec6bfc"}


def _draw(benchmark: Benchmark, rows: list[Row]) -> list[Row]:
    """Rows in the order of a hash of their problem, so that the draw does not depend on where the rows came from."""
    # One solution of MATH train ends in an empty box; it has nothing to be graded against.
    distinct = {" ".join(row["query"].split()): row for row in reversed(rows) if row["gold"]}
    distinct = {query: row for query, row in distinct.items() if _digest(query)[:16] not in _ALSO_IN_TEST}
    order = sorted(distinct, key=lambda query: _digest(f"{benchmark.name}|{query}"))
    drawn = [distinct[query] for query in order[: benchmark.drawn]]
    return [{**row, "id": f"{benchmark.name}-{index}"} for index, row in enumerate(drawn)]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def benchmark_file(benchmark: Benchmark, folder: Path) -> Path:
    """The file of a benchmark in a folder of benchmarks.

    Raises:
        CFTError: No such folder or file, or two that would both be it.
    """
    if not folder.is_dir():
        raise CFTError(f"{folder}: no such folder of benchmarks (from the argument or {FOLDER_VARIABLE})")
    name = benchmark.name.replace("-", "_")
    stems = (
        [folder / "math" / "train", folder.parent / "train" / "math"] if benchmark.drawn else [folder / name / "test"]
    )
    for stem in stems:
        files = [file for suffix in SUFFIXES if (file := stem.with_name(stem.name + suffix)).is_file()]
        refuse_twins(files, benchmark.name)
        if files:
            return files[0]
    looked = " or ".join(f"{stem}.jsonl.gz" for stem in stems)
    raise CFTError(f"{benchmark.name}: no file {looked}; put it there, or unset the folder to read {benchmark.hub}")


def _from_folder(benchmark: Benchmark, folder: Path) -> tuple[str, Iterable[tuple[Any, str]]]:
    file = str(benchmark_file(benchmark, folder))
    return file, read_files([file])


def pinned_revision(name: str) -> str | None:
    """The revision on the Hub that CFT_BENCHMARKS_REVISIONS gives a benchmark, or ProcessBench; None where none is.

    Raises:
        CFTError: It holds something else than "name=revision" pairs, or a name that is unknown.

    Example:
        >>> os.environ[REVISIONS_VARIABLE] = "gsm8k=3f1c9a2,processbench=v1"
        >>> pinned_revision("gsm8k"), pinned_revision("math")
        ('3f1c9a2', None)
        >>> del os.environ[REVISIONS_VARIABLE]
    """
    pinned = {}
    for pair in filter(None, os.environ.get(REVISIONS_VARIABLE, "").split(",")):
        known, _, revision = (part.strip() for part in pair.partition("="))
        if known not in (*BENCHMARKS, "processbench") or not revision:
            raise CFTError(f"{REVISIONS_VARIABLE}: {pair!r}{nearest(known, BENCHMARKS)}; write gsm8k=3f1c9a2,math=main")
        pinned[known] = revision
    return pinned.get(name)


def _from_hub(benchmark: Benchmark) -> tuple[str, Iterable[tuple[Any, str]]]:
    from datasets import load_dataset

    revision = dataset_commit(benchmark.hub, pinned_revision(benchmark.name))
    at = {"revision": revision} if revision else {}
    source = f"{benchmark.hub}, split {benchmark.split}{f', revision {revision}' if revision else ''}"
    try:
        dataset = load_dataset(benchmark.hub, benchmark.config, split=benchmark.split, **at)
    except Exception as error:
        # The Hub's clients raise a dozen unrelated types; for the user each means the same.
        raise CFTError(
            f"{benchmark.name}: {source} cannot be read from the Hub ({type(error).__name__}: {error}); "
            f"give a folder or set {FOLDER_VARIABLE}"
        ) from None
    note_read(benchmark.name, revision)
    return source, ((row, f"{source}, row {index}") for index, row in enumerate(dataset))


def to_row(benchmark: Benchmark, index: int, row: Any, where: str) -> Row:
    """A source's row as ours. Args: `where` begins its errors. Raises CFTError for what it lacks or cannot hold."""
    if not isinstance(row, Mapping):
        raise CFTError(f"{where}: a row must be an object with columns; got {type(row).__name__}")
    values = {}
    for role, names in benchmark.columns.items():
        column = next((name for name in names if row.get(name) is not None), None)
        if column is None:
            raise CFTError(
                f"{where}: {benchmark.name} needs a column {' or '.join(names)}; found {', '.join(map(str, row))}"
            )
        values[role] = row[column]
    try:
        query, gold = benchmark.read(values)
    except (TypeError, AttributeError, KeyError, IndexError) as error:
        raise CFTError(f"{where}: {benchmark.name} cannot read this row's columns ({error})") from None
    if not isinstance(query, str) or not query.strip():
        raise CFTError(f"{where}: {benchmark.name} has an empty question")
    if benchmark.answer in ("math", "letter") and not gold and not benchmark.drawn:
        named = " or ".join(benchmark.columns["gold"])
        raise CFTError(f"{where}: {benchmark.name} finds no answer in column {named}; a solution ends in \\boxed{{}}")
    kept = {name: row[name] for name in benchmark.meta if row.get(name) is not None}
    return {"id": f"{benchmark.name}-{index}", "query": query, "gold": gold, "meta": kept}
