r"""Rows for `cft eval-critic`: ProcessBench, or any rows with labels, as questions put to a critic.

ProcessBench (Qwen/ProcessBench, arXiv 2412.06559) has solutions in steps and the index of the first wrong one:

    {"id": "gsm8k-0", "generator": "Qwen2-7B-Instruct", "problem": "Sue lives in …", "steps": ["To find out …", …],
     "final_answer_correct": false, "label": 1}                      label: counted from 0; -1 = every step is right

`load_critic_rows` makes of it

    {"id": "gsm8k-0", "subset": "gsm8k", "query": "Sue lives in …", "response": "Step 1: To find out …\n\nStep 2: …",
     "steps": ["To find out …", …], "verdict": "wrong", "first_error": 2, "level": None}

The response numbers the steps from 1, a blank line between them, so that a critique can name one; a "Step 4:" of the
text's own is left out, for two numberings would contradict each other. A solution with a wrong step is wrong, also
where its final answer is right: the benchmark's convention, and the reference teacher's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cft_trl.data.files import SUFFIXES, read_files
from cft_trl.data.prompt_templates import response_steps
from cft_trl.data.verdict import to_verdict
from cft_trl.errors import CFTError, nearest
from cft_trl.evaluation.sampling import draw, sample_of
from cft_trl.evaluation.sampling import verdict as by_verdict

HUB_ID = "Qwen/ProcessBench"
SUBSETS = {"gsm8k": 400, "math": 1000, "olympiadbench": 1000, "omnimath": 1000}  # name -> published size
ARITHMETIC_ROWS = 300

CriticRow = dict[str, Any]

_OWN_NUMBER = re.compile(r"(?P<mark>[#*\s]*)step\s*\d{1,3}\s*[:.)\u2014](?P<bold>\*\*)?\s*(?=\S)", re.IGNORECASE)


def load_critic_rows(
    data: str = "processbench", subsets: Iterable[str] | None = None, limit: int | None = None
) -> dict[str, list[CriticRow]]:
    """Reads what a critic is to be tested on.

    Args:
        data: "processbench" (from the Hub), a folder with its files (`processbench_gsm8k.json.gz`, `gsm8k.json`, …),
            one such file, "arithmetic" (the embedded test problems), or any file, folder or Hub id of rows with
            `query`, `response` and a label: the column `verdict`, or what `to_verdict` knows under `label`, `correct`.
        subsets: Which of ProcessBench's; all by default.
        limit: At most this many rows of each subset: a seeded sample with as large a share of right solutions as the
            whole (see `cft_trl.evaluation.sampling`; ProcessBench lists the wrong ones first).

    Returns:
        Rows by subset, as shown above. `first_error` is the number of the first wrong step, or None: where nothing is
        wrong, or the data does not say.

    Raises:
        CFTError: Unknown subset or nothing there, columns missing, no label, or a size that is not the published one.

    Example:
        >>> rows = load_critic_rows("arithmetic", limit=2)["arithmetic"]
        >>> sorted(row["verdict"] for row in rows)
        ['right', 'wrong']
    """
    return sampled_critic_rows(whole_critic_rows(data, subsets, limit), limit)[0]


def sampled_critic_rows(
    whole: Mapping[str, Sequence[CriticRow]], limit: int | None
) -> tuple[dict[str, list[CriticRow]], dict[str, dict[str, Any]]]:
    """So many rows of each subset, and what tells each subset's sample from others (`sample_of`), where it is one."""
    rows = {subset: draw(found, limit, by_verdict) for subset, found in whole.items()}
    samples = {name: told for name, drawn in rows.items() if (told := sample_of(drawn, len(whole[name]), by_verdict))}
    return rows, samples


def whole_critic_rows(
    data: str = "processbench", subsets: Iterable[str] | None = None, limit: int | None = None
) -> dict[str, list[CriticRow]]:
    """As `load_critic_rows`, before a limit takes its sample; of "arithmetic" at least as many as the limit.

    Args:
        data, subsets: As for `load_critic_rows`.
        limit: How many rows of each subset will be taken later.

    Raises:
        CFTError: As `load_critic_rows`; also subsets of what has none.
    """
    from cft_trl.grading.revisions import note_read

    folder = Path(data).expanduser()
    note_read("processbench", None)
    if data in ("processbench", HUB_ID) or (folder.is_dir() and _subset_files(folder)):
        chosen = _chosen(subsets)
        read = _from_folder if folder.is_dir() else _from_hub
        found = {subset: read(folder, subset) for subset in chosen}
        for subset, rows in found.items():
            if len(rows) != SUBSETS[subset]:
                size = SUBSETS[subset]
                raise CFTError(f"{data}, {subset}: {len(rows)} rows, but the published subset has {size}")
        return found
    if subsets:
        raise CFTError(f"--subsets: only ProcessBench has them; {data} is read whole")
    if data == "arithmetic":
        from cft_trl.sources.arithmetic import arithmetic_records

        records = list(arithmetic_records(max(limit or 0, ARITHMETIC_ROWS), levels=(1,), split="test"))
        return {"arithmetic": [_from_record(row, f"arithmetic, row {at}") for at, row in enumerate(records)]}
    return _labelled(data)


def from_processbench(row: Mapping[str, Any], where: str, subset: str) -> CriticRow:
    r"""One row of ProcessBench.

    Args:
        row: With `problem`, `steps` (texts) and `label`, the first wrong step counted from 0, or -1.
        where: What errors begin with; also the id of a row without one.
        subset: Which of ProcessBench's it is of.

    Raises:
        CFTError: A column is missing or its value makes no sense.

    Example:
        >>> row = {"id": "x-0", "problem": "1 + 1 + 1?", "steps": ["1 + 1 = 2", "Step 2: 2 + 1 = 4"], "label": 1}
        >>> made = from_processbench(row, "row 0", "gsm8k")
        >>> made["response"], made["verdict"], made["first_error"]
        ('Step 1: 1 + 1 = 2\n\nStep 2: 2 + 1 = 4', 'wrong', 2)
    """
    missing = [name for name in ("problem", "steps", "label") if row.get(name) is None]
    if missing:
        raise CFTError(f"{where}: ProcessBench needs column {missing[0]}; found {', '.join(map(str, row)) or 'none'}")
    steps, label = row["steps"], row["label"]
    if not isinstance(steps, list) or not steps or not all(isinstance(step, str) and step.strip() for step in steps):
        raise CFTError(f"{where}: column 'steps' must be a list of texts, none of them empty")
    if not isinstance(label, int) or not -1 <= label < len(steps):
        raise CFTError(f"{where}: column 'label' is {label!r}; give the first wrong step from 0, or -1 for none")
    numbered = [f"Step {number}: {_without_number(step)}" for number, step in enumerate(steps, 1)]
    return {
        "id": str(row.get("id") or where),
        "subset": subset,
        "query": row["problem"],
        "response": "\n\n".join(numbered),
        "steps": steps,
        "verdict": "right" if label < 0 else "wrong",
        "first_error": None if label < 0 else label + 1,
        "level": None,
    }


def _without_number(step: str) -> str:
    """ "**Step 2:** Add." -> "Add."; "**Step 2: Add them up**" keeps its bold type."""
    if match := _OWN_NUMBER.match(step):
        mark = "" if match["bold"] else match["mark"].lstrip()
        step = mark + step[match.end() :]
    return step.strip()


def _chosen(subsets: Iterable[str] | None) -> list[str]:
    chosen = list(dict.fromkeys(subsets or SUBSETS))
    for name in chosen:
        if name not in SUBSETS:
            raise CFTError(f"subset {name!r} is unknown{nearest(name, SUBSETS)}; ProcessBench has {', '.join(SUBSETS)}")
    return chosen


def _subset_files(folder: Path) -> dict[str, Path]:
    """The files of ProcessBench in a folder, by subset: `processbench_math.json.gz`, `math.json`, `math.parquet`."""
    found: dict[str, Path] = {}
    for file in sorted(folder.rglob("*")):
        stem = re.split(r"[.-]", file.name)[0].removeprefix("processbench_")
        if stem in SUBSETS and file.name.endswith(SUFFIXES):
            if stem in found:
                twins = f"{found[stem].relative_to(folder)} and {file.relative_to(folder)}"
                raise CFTError(f"{folder}: both {twins} would be ProcessBench's subset {stem}; keep one of them there")
            found[stem] = file
    return found


def _from_folder(folder: Path, subset: str) -> list[CriticRow]:
    files = _subset_files(folder)
    if subset not in files:
        raise CFTError(
            f"{folder}: no file of subset {subset} (processbench_{subset}.json.gz); found {', '.join(files)}"
        )
    return [from_processbench(row, where, subset) for row, where in read_files([str(files[subset])])]


def _from_hub(_: Path, subset: str) -> list[CriticRow]:
    from datasets import load_dataset

    from cft_trl.grading.benchmarks import pinned_revision
    from cft_trl.grading.revisions import dataset_commit, note_read, read_at

    revision = read_at("processbench") or dataset_commit(HUB_ID, pinned_revision("processbench"))
    try:
        rows = load_dataset(HUB_ID, split=subset, **({"revision": revision} if revision else {}))
    except Exception as error:
        # The Hub's clients raise a dozen unrelated types; for the user each means the same.
        raise CFTError(
            f"{HUB_ID}, {subset}: cannot be read from the Hub ({type(error).__name__}: {error}); "
            "give a folder with its files to --data"
        ) from None
    note_read("processbench", revision)  # all subsets are of one commit
    return [from_processbench(row, f"{HUB_ID}, {subset}, row {index}", subset) for index, row in enumerate(rows)]


def _labelled(data: str) -> dict[str, list[CriticRow]]:
    """Rows of one's own: ProcessBench's columns, or records with a label."""
    file = Path(data).expanduser()
    name = file.name.split(".")[0] or "rows"
    if file.is_file() and data.endswith(SUFFIXES):
        rows = list(read_files([str(file)]))
        if rows and isinstance(rows[0][0], Mapping) and "steps" in rows[0][0]:
            subset = name.removeprefix("processbench_")
            return {subset: [from_processbench(row, where, subset) for row, where in rows]}
    from cft_trl.sources.local import load_local

    records = load_local(data, split="test" if not file.exists() else "train")
    name = re.sub(r"[^\w.-]", "-", name)
    return {name: list(_checked(records, data, name))}


def _checked(records: Iterable[Mapping[str, Any]], data: str, name: str) -> Iterator[CriticRow]:
    for at, row in enumerate(records):
        yield {**_from_record(row, f"{data}, row {at}"), "subset": name}


def _from_record(row: Mapping[str, Any], where: str) -> CriticRow:
    meta = row.get("meta") or {}
    verdict = row.get("verdict")
    for column in ("label", "correct", "is_correct"):
        if verdict is None and meta.get(column) is not None:
            try:
                verdict = to_verdict(meta[column])
            except CFTError as error:
                raise CFTError(f"{where}: column {column!r}: {error}") from None
    if verdict is None:
        raise CFTError(f"{where}: no label; give a column verdict (right or wrong) to compare the critic's with")
    first = meta.get("first_error_step")
    return {
        "id": row["id"],
        "subset": "arithmetic",
        "query": row["query"],
        "response": row["response"],
        "steps": response_steps(row["response"]),
        "verdict": verdict,
        "first_error": first if isinstance(first, int) and verdict == "wrong" else None,
        "level": meta.get("level"),
        "grade": next((str(meta[name]) for name in ("grade", "said") if meta.get(name) is not None), None),
    }
