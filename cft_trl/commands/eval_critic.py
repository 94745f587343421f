"""`cft eval-critic`: does the model tell right solutions from wrong ones, and where they go wrong?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cft_trl.commands.parser import CommandParser
from cft_trl.commands.settings import PRESET_OPTION, add_model_options, open_backend, positive, preset_option
from cft_trl.generation.names import BACKENDS

HELP = """\
Lets a model critique labelled solutions: does it tell the right ones from the wrong, and name the first wrong step?

examples:
  cft eval-critic runs/mine                                       ProcessBench from the Hub, 3,400 solutions
  cft eval-critic runs/mine --subsets gsm8k --limit 50            a first look
  cft eval-critic smollm2-135m --data arithmetic                  the embedded test problems
  cft eval-critic runs/mine --data rows.jsonl --output runs/mine/critic
  cft eval-critic Qwen/Qwen2.5-Math-7B --backend vllm             starts a vLLM server
  cft eval-critic my-model --backend endpoint --base-url http://localhost:8000/v1

--data takes processbench, arithmetic, a folder with ProcessBench's files, or any file, folder or Hub id of rows with
query, response and verdict. Every critique is kept in OUTPUT/generations/, the figures in OUTPUT/critic.json; the same
command again goes on where an interrupted run was. A model or rows that are others by now are refused there; of an
endpoint's model nobody can tell, so it is said whose answers are kept, and --ask-again asks anew.
"""


def run(argv: list[str]) -> int:
    parser = CommandParser("cft eval-critic", HELP)
    parser.add_argument("model", help="folder, Hub id or smollm2-135m; with --backend endpoint the model's name there")
    parser.add_argument("--data", default="processbench", help="see above (default %(default)s)")
    parser.add_argument("--subsets", help="of ProcessBench: gsm8k,math,olympiadbench,omnimath (default: all)")
    parser.add_argument(
        "--limit",
        type=positive,
        help="rows of each subset: a seeded sample, right and wrong in the subset's proportion",
    )
    parser.add_argument("--backend", choices=BACKENDS, default="transformers")
    parser.add_argument("--base-url", help="the endpoint's address")
    parser.add_argument("--api-key-env", default="OPENAI_API_KEY", help="variable with its key (default %(default)s)")
    parser.add_argument("--extra", help="fields of each request, as '{reasoning_effort: low, temperature: null}'")
    add_model_options(parser)
    parser.add_argument("--prompt-preset", type=preset_option, metavar="PRESET", help=PRESET_OPTION)
    parser.add_argument("--max-new-tokens", type=positive, default=512, help="per critique (default %(default)s)")
    parser.add_argument("--batch-size", type=positive, default=64, help="for transformers (default %(default)s)")
    parser.add_argument("--ask-again", action="store_true", help="ask everything anew; the old answers stay, unused")
    parser.add_argument("--output", type=Path, help="folder (default runs/critic-MODEL)")
    given = parser.parse_args(argv)
    from cft_trl.evaluation.critic_run import CriticSettings, run_eval_critic
    from cft_trl.models.trained_prompt import trained_preset

    output = given.output or Path("runs") / f"critic-{Path(given.model).name}"
    with open_backend(given) as backend:
        settings = CriticSettings(
            data=given.data,
            subsets=tuple(name.strip() for name in (given.subsets or "").split(",") if name.strip()),
            limit=given.limit,
            prompt_preset=given.prompt_preset
            or trained_preset(given.model, backend.commit(), on_hub=given.backend != "endpoint"),
            max_new_tokens=given.max_new_tokens,
        )
        result = run_eval_critic(settings, backend, output, ask_again=given.ask_again)
        _print(result, output, settings.prompt_preset)
    return 0


def _print(result: dict[str, Any], output: Path, preset: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    from cft_trl.data.prompts import own_verdicts

    table = Table(title=f"{result['model']} as a critic")
    for column in ("", *result["subsets"]):
        table.add_column(column, justify="left" if not column else "right")
    scores = list(result["subsets"].values())
    steps = [score.get("first_error", {}) for score in scores]

    def row(name: str, values: list[str]) -> None:
        if any(value != "-" for value in values):
            table.add_row(name, *values)

    row("solutions", [str(score["rows"]) for score in scores])
    row("verdict right", [_figure(score, "accuracy", "interval_95") for score in scores])
    row("  always the commoner verdict", [f"{score['majority_rate']:.1%}" for score in scores])
    row("  of right solutions", [_figure(score, "accuracy_right", "interval_95_right") for score in scores])
    row("  of wrong solutions", [_figure(score, "accuracy_wrong", "interval_95_wrong") for score in scores])
    row("F1 of the two", [_figure(score, "f1", "f1_interval_95") for score in scores])
    grades = [score.get("grades", {}) for score in scores]
    row("grade right", [_figure(grade, "accuracy", "interval_95") for grade in grades])
    row("  at most one off", [f"{grade['within_one']:.1%}" if grade else "-" for grade in grades])
    row("  always the commonest grade", [f"{grade['majority_rate']:.1%}" if grade else "-" for grade in grades])
    row("first wrong step named", [_figure(step, "accuracy", "interval_95") for step in steps])
    row("  a step at random", [f"{step['chance']:.1%}" if step else "-" for step in steps])
    row("  always the commonest step", [f"{step['majority_rate']:.1%}" if step else "-" for step in steps])
    row("F1 with the step (ProcessBench)", [_figure(step, "f1", "f1_interval_95") for step in steps])
    row("no verdict", [f"{score['no_verdict'] / score['rows']:.1%}" for score in scores])
    row("cut at the limit", [f"{score['truncated']:.1%}" for score in scores])
    row("failed", [str(score["failed"]) if score["failed"] else "-" for score in scores])
    console = Console()
    console.print(table)
    console.print("In brackets the 95% interval. A critique without a verdict counts as a miss.", style="dim")
    if words := own_verdicts(preset):
        console.print(f"The critiques conclude with {words.told}.", highlight=False)
    if "f1" in result.get("average", {}):
        step = result["average"].get("first_error_f1")
        with_step = f", with the step {step:.1%}" if step is not None else ""
        console.print(f"Average F1 over the subsets: {result['average']['f1']:.1%}{with_step}", highlight=False)
    console.print(
        f"Figures: {output}/critic.json; every critique: {output}/generations/", highlight=False, soft_wrap=True
    )


def _figure(score: dict[str, Any], name: str, interval: str) -> str:
    if name not in score:
        return "-"
    low, high = score[interval]
    return f"{score[name]:.1%} ({low:.0%} to {high:.0%})"
