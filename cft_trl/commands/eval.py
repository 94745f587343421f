"""`cft eval`: a model's scores on the benchmarks, strict beside the published leniency."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from cft_trl.commands.parser import CommandParser
from cft_trl.commands.settings import (
    PRESET_OPTION,
    add_model_options,
    at_least_0,
    open_backend,
    positive,
    preset_option,
    share,
    whole_number,
)
from cft_trl.errors import CFTError
from cft_trl.evaluation.report_figures import score_cell
from cft_trl.models.trained_prompt import trained_preset

HELP = """\
Lets a model answer benchmarks and grades every answer twice: strict (mathematically equal) and paper (the published
grader, which accepts wrong numbers; for comparison with published figures only).

examples:
  cft eval runs/mine                                                 the six published sets, 7,336 problems
  cft eval smollm2-135m --tasks gsm8k:100,math-500:50 --max-new-tokens 512
  cft eval runs/mine --tasks aime24,amc23 --samples 32 --temperature 0.6    avg@32 and pass@k
  cft eval Qwen/Qwen2.5-Math-7B --backend vllm --tasks all --judge gpt-4o-2024-11-20
  cft eval my-model --backend endpoint --base-url http://localhost:8000/v1
  cft eval runs/mine --tasks math-500 --mode direct,single_pass,two_stage --temperature 0.1,0.3,0.6

tasks: six (math, minerva-math, gsm8k, olympiadbench, aime24, amc23), all, or names, each with a limit if wanted
(gsm8k:100 is the first 100); also math-500, aime25, theoremqa, gpqa-diamond, mmlu-pro, ifeval, mt-bench and
math-validation. The data come from the Hub, or from the folder that CFT_BENCHMARKS_DIR names. --revision is the
model's; CFT_BENCHMARKS_REVISIONS=gsm8k=COMMIT,math=COMMIT pins the data's.

Every generation is kept in OUTPUT/generations/, the scores in OUTPUT/evaluation.json; the same command again goes on
where an interrupted run was. `cft grade OUTPUT` counts the scores again from the generations. A model or problems that
are others by now are refused there; of an endpoint's model nobody can tell, so it is said whose answers are kept, and
--ask-again asks anew.
"""


def run(argv: list[str]) -> int:
    options = _parser().parse_args(argv)
    from cft_trl.evaluation.run import evaluate_all
    from cft_trl.evaluation.settings import EvalSettings, parse_tasks
    from cft_trl.generation.dialect import parse_extra

    modes, temperatures = _unique(options.mode, "--mode"), _unique(options.temperature, "--temperature")
    settings = EvalSettings(
        tasks=parse_tasks(options.tasks, options.limit),
        graders=tuple(_unique(options.grader.split(","), "--grader")),
        samples=options.samples,
        temperature=max(temperatures),
        top_p=options.top_p,
        seed=options.seed,
        max_new_tokens=options.max_new_tokens,
        prompt_preset=options.prompt_preset or "paper",
        judge=options.judge,
        judge_extra=parse_extra(options.judge_extra, "--judge-extra") or None,
    )
    grid = [replace(settings, mode=mode, temperature=at) for mode in modes for at in temperatures]
    output = options.output or Path("runs") / f"eval-{Path(options.model).name}"
    with open_backend(options) as backend:
        if not options.prompt_preset:
            preset = trained_preset(options.model, backend.commit(), on_hub=backend.kind != "endpoint")
            grid = [replace(one, prompt_preset=preset) for one in grid]
        folders = [output if len(grid) == 1 else output / f"{one.mode}-t{one.temperature:g}" for one in grid]
        results = evaluate_all(list(zip(grid, folders, strict=True)), backend, ask_again=options.ask_again)
    print_scores(results[0], output) if len(results) == 1 else print_grid(results, output)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser("cft eval", HELP)
    parser.add_argument("model", help="folder, Hub id or smollm2-135m; with --backend endpoint the model's name there")
    parser.add_argument("--tasks", default="six", help="see above (default %(default)s)")
    parser.add_argument(
        "--limit", type=positive, help="so many problems of each task: a seeded sample over its subjects and levels"
    )
    parser.add_argument("--backend", default="transformers", help="transformers (default), vllm or endpoint")
    parser.add_argument("--base-url", help="the endpoint's address")
    parser.add_argument("--api-key-env", default="OPENAI_API_KEY", help="variable with its key (default %(default)s)")
    parser.add_argument("--extra", help="fields of each request, as '{reasoning_effort: low, temperature: null}'")
    parser.add_argument("--grader", default="strict,paper", help="strict, paper or both (default)")
    parser.add_argument("--samples", type=positive, default=1, help="generations per problem; more need a temperature")
    parser.add_argument("--temperature", type=_numbers, default=[0.0], help="0 is greedy (default); or several: 0,0.3")
    parser.add_argument("--top-p", type=share, default=1.0, help="default 1, all tokens")
    parser.add_argument("--seed", type=whole_number, default=0, help="what samples are drawn from (default 0)")
    parser.add_argument("--max-new-tokens", type=positive, help="per generation (default 2048, as published)")
    parser.add_argument(
        "--mode", type=lambda text: text.split(","), default=["direct"], help="direct (default), single_pass, two_stage"
    )
    parser.add_argument("--prompt-preset", type=preset_option, metavar="PRESET", help=PRESET_OPTION)
    parser.add_argument("--judge", help="for mt-bench: MODEL, MODEL@URL or MODEL@URL#KEY_VARIABLE")
    parser.add_argument("--judge-extra", help="as --extra, for the judge")
    add_model_options(parser)
    parser.add_argument("--batch-size", type=positive, default=64, help="for transformers (default %(default)s)")
    parser.add_argument("--concurrency", type=positive, default=64, help="requests in flight (default %(default)s)")
    parser.add_argument("--ask-again", action="store_true", help="ask everything anew; the old answers stay, unused")
    parser.add_argument("--output", type=Path, help="folder (default runs/eval-MODEL)")
    return parser


def _numbers(text: str) -> list[float]:
    return [at_least_0(part) for part in text.split(",")]


def _unique(values: list[Any], option: str) -> list[Any]:
    if len(set(values)) < len(values):
        raise CFTError(f"{option} {','.join(map(str, values))}: one is named twice")
    return values


# ---- tables ----------------------------------------------------------------------------------------------------------


def print_scores(result: dict[str, Any], output: Path | None = None) -> None:
    """One run's scores, a line per task."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    sampled = f", {result['samples']} samples at T {result['temperature']:g}" if result["samples"] > 1 else ""
    title = f"{result['model']} ({result['backend']}, {result['mode']}{sampled})"
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("task", no_wrap=True)
    table.add_column("n", justify="right")
    if "strict" in result["graders"]:
        table.add_column("strict, %", justify="right", no_wrap=True)
    if "paper" in result["graders"]:
        table.add_column("paper*, %", justify="right", no_wrap=True, style="dim")
    for name in ("tokens", "cut off", "no answer"):
        table.add_column(name, justify="right")
    graders = [grader for grader in ("strict", "paper") if grader in result["graders"]]
    for name, task in result["tasks"].items():
        cells = [score_cell(task["scores"].get(grader)) for grader in graders]
        tokens = task["mean_completion_tokens"]
        rest = [
            "-" if tokens is None else f"{tokens:.0f}",
            share_cell(task["truncated"]),
            share_cell(task["no_answer"]),
        ]
        table.add_row(name, str(task["problems"]), *cells, *rest)
        for more in ("loose", "instruction_strict", "instruction_loose", "judge", "turn_1", "turn_2"):
            if more in task["scores"]:
                table.add_row(f"  {more.replace('_', ' ')}", "", score_cell(task["scores"][more]))
        for k, value in task.get("pass_at_k", {}).get("strict", {}).items():
            table.add_row(f"  pass@{k}", "", f"{100 * value:.1f}")
    console = Console()
    console.print(table)
    console.print("In brackets the 95% interval.", style="dim", end=" ")
    star = "* published leniency, for comparison only: it accepts wrong numbers"
    console.print(star if "paper" in graders else "", style="dim")
    for name, task in result["tasks"].items():
        if task["failed"]:
            console.print(f"{name}: {task['failed']:.1%} failed (the prompt is longer than the model's context, …)")
    if output:
        told = f"Scores: {output}/evaluation.json; every generation: {output}/generations/"
        console.print(told, highlight=False, soft_wrap=True)


def print_grid(results: list[dict[str, Any]], output: Path) -> None:
    """Strict scores of several modes and temperatures, a line per combination."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{results[0]['model']}: {results[0]['graders'][0]} scores in % by mode and temperature")
    for name in ("mode", "T", *results[0]["tasks"]):
        table.add_column(name)
    for result in results:
        cells = [score_cell(task["scores"].get(result["graders"][0])) for task in result["tasks"].values()]
        table.add_row(result["mode"], f"{result['temperature']:g}", *cells)
    console = Console()
    console.print(table)
    console.print(f"Each in its own folder under {output}/", highlight=False, soft_wrap=True)


def share_cell(value: float | None) -> str:
    """A share in per cent, or a dash where there is none."""
    return "-" if value is None else f"{value:.1%}"
