"""`cft grade`: scores counted again from saved generations, without a model; and the graders' own test."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cft_trl.commands.eval import share_cell
from cft_trl.commands.parser import CommandParser
from cft_trl.errors import CFTError, nearest
from cft_trl.evaluation.report_figures import score_cell

HELP = """\
Grades saved generations again, without a model, and says whether the saved verdicts and scores are what comes out.

examples:
  cft grade runs/eval-mine                               every task of a run, against its evaluation.json
  cft grade runs/eval-mine/generations/gsm8k.parquet     one file
  cft grade runs/eval-mine --grader strict
  cft grade --self-test                                  the graders on the benchmarks' own golds

--self-test: each gold must be right for itself and wrong for its neighbour in at least 99.5% of each benchmark; on
Minerva-Math "0" for a gold under 0.05 and 1.05 times the gold show what the published grader (paper) accepts.

exit code: 0 everything agrees; 2 something differs, or the self-test fails
"""


def run(argv: list[str]) -> int:
    """Runs the command; returns its exit code.

    Raises:
        CFTError: Flags that do not go together, a grader that does not exist; with --self-test, a grader that judges
            wrongly.
    """
    parser = CommandParser("cft grade", HELP)
    parser.add_argument("paths", nargs="*", type=Path, metavar="FILE|OUT", help="what `cft eval` wrote")
    parser.add_argument("--grader", default="strict,paper", help="strict, paper or both (default)")
    parser.add_argument("--self-test", action="store_true", help="test the graders on the benchmarks' golds")
    options = parser.parse_args(argv)
    from cft_trl.grading.grade import GRADERS

    graders = options.grader.split(",")
    for grader in graders:
        if grader not in GRADERS:
            raise CFTError(f"grader {grader!r} is unknown{nearest(grader, GRADERS)}; give strict, paper or both")
    if options.self_test == bool(options.paths):
        raise CFTError("give FILE|OUT, as `cft eval` wrote them, or --self-test")
    if options.self_test:
        return _self_test()
    differing = [told for path in options.paths for told in grade_again(path, graders)]
    if differing:
        raise CFTError("; ".join(differing))
    return 0


def grade_again(path: Path, graders: Sequence[str]) -> list[str]:
    """Grades a file, or all files of a run; prints the scores.

    Returns:
        What differs from the saved verdicts and from `evaluation.json`, one sentence each.

    Raises:
        CFTError: Nothing there that `cft eval` wrote.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from cft_trl.evaluation.generations import read_generations, regrade, summarise
    from cft_trl.grading.grader_version import grader_changed, grader_version

    files = sorted((path / "generations").glob("*.parquet")) if path.is_dir() else [path]
    if not files:
        raise CFTError(f"{path}: no generations/*.parquet in it; give the folder that `cft eval` wrote")
    saved = _saved(path if path.is_dir() else path.parent.parent)
    if path.is_dir() and saved and (lost := set(saved["tasks"]) - {file.stem for file in files}):
        raise CFTError(f"{path}: evaluation.json has {', '.join(sorted(lost))}, but there are no generations of it")
    table = Table(title=f"graded again: {path}, scores in %", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("task", "n", *graders, "no answer", "agrees"):
        table.add_column(name, no_wrap=name != "agrees")
    differing: list[str] = []
    version = grader_changed((saved or {}).get("grader"), grader_version())
    for file in files:
        rows = read_generations(file)
        again = regrade(rows, graders)
        told = _differences(file, rows, again, graders)
        summary = summarise(again, graders)
        entry = (saved or {}).get("tasks", {}).get(file.stem)
        if entry and not told:
            told = _sample_differences(file, (saved or {}).get("sample", {}).get(file.stem), rows)
        if entry and not told:
            told = _score_differences(file, entry, summary)
        differing += told
        cells = [score_cell(summary["scores"].get(grader)) for grader in graders]
        agrees = "no" if told else "yes"
        table.add_row(file.stem, str(len(rows)), *cells, share_cell(summary["no_answer"]), agrees)
    console = Console()
    console.print(table)
    if version:
        console.print(f"the saved verdicts are of another version of the graders: {version}", highlight=False)
    if saved is None:
        console.print("no evaluation.json beside it: compared with the saved verdicts only", style="dim")
    return [f"{told}; they are of another version of it" for told in differing] if version else differing


def _saved(folder: Path) -> dict[str, Any] | None:
    path = folder / "evaluation.json"
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise CFTError(f"{path}: cannot be read ({error})") from None
    if not isinstance(saved, dict) or not isinstance(saved.get("tasks"), dict):
        raise CFTError(f"{path}: is no evaluation, it has no 'tasks'")
    return saved


def _differences(file: Path, rows: list[Any], again: list[Any], graders: Sequence[str]) -> list[str]:
    told = []
    for grader in graders:
        changed = [row["id"] for row, new in zip(rows, again, strict=True) if row[grader] != new[grader]]
        if changed:
            told.append(
                f"{file}: {len(changed)} of {len(rows)} {grader} verdicts are not what the grader says now "
                f"(first: {changed[0]})"
            )
    return told


def _sample_differences(file: Path, sample: dict[str, Any] | None, rows: list[Any]) -> list[str]:
    """Whether the file holds another sample of the benchmark than `evaluation.json` names."""
    from cft_trl.evaluation.sampling import ids_digest

    if sample and ids_digest(row["id"] for row in rows) != sample["digest"]:
        return [f"{file}: its problems are not the sample that evaluation.json names ({sample['digest']})"]
    return []


def _score_differences(file: Path, entry: dict[str, Any], summary: dict[str, Any]) -> list[str]:
    for name, score in summary["scores"].items():
        theirs = entry["scores"].get(name)
        if theirs and abs(theirs["score"] - score["score"]) > 1e-9:
            return [f"{file}: {name} is {score['score']:.4f}, but evaluation.json says {theirs['score']:.4f}"]
    return []


def _self_test() -> int:
    from rich.console import Console
    from rich.table import Table

    from cft_trl.grading.grade import SELF_TESTED, self_test
    from cft_trl.progress import progress

    report: dict[str, Any] = {}
    with progress("self-test", len(SELF_TESTED)) as advance:
        for name in SELF_TESTED:
            report |= self_test(names=(name,))
            advance(1)
    table = Table(title="the graders on the benchmarks' own golds")
    columns = "benchmark grader golds right_for_itself otherwise_spelled neighbour_refused 0_for_<0.05 5%_off"
    for name in columns.split():
        table.add_column(name.replace("_", " "))
    failed = []
    for name, by_grader in report.items():
        for grader, found in by_grader.items():
            counts = [
                " of ".join(map(str, found[key])) if key in found else ""
                for key in ("zero_for_small", "five_percent_off")
            ]
            shares = [f"{found[key]:.2%}" for key in ("own", "respelled", "neighbour")]
            table.add_row(name, grader, str(found["of"]), *shares, *counts)
        strict = by_grader["strict"]
        wrong = [key for key in ("own", "neighbour") if strict[key] < 0.995]
        wrong += [key for key in ("zero_for_small", "five_percent_off") if strict.get(key, [0])[0]]
        failed += [f"{name}: {key} is {strict[key]}" for key in wrong]
    console = Console(width=130) if not Console().is_terminal else Console()
    console.print(table)
    console.print(
        "strict is what scores are given in; paper is the published leniency, for comparison only", style="dim"
    )
    if failed:
        raise CFTError(f"the strict grader fails its test: {'; '.join(failed)}")
    return 0
