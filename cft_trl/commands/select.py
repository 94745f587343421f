"""`cft select`: the best of a run's checkpoints, on problems that are in no reported benchmark."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from cft_trl.commands.parser import CommandParser
from cft_trl.commands.settings import PRESET_OPTION, positive, preset_option, share
from cft_trl.errors import CFTError
from cft_trl.evaluation.racing import ERROR, LeavingRule
from cft_trl.generation.names import BACKENDS
from cft_trl.models.adapters import OPTION_HELP

HELP = """\
Races the checkpoints of a run on validation problems and keeps the best: RUN/selection.json holds the curve, RUN/best
is a model folder. All are asked the same problems in the same order, in rounds (25, 37, 56, … up to all); after each
round those leave that will hardly win any more, by an exact test on the problems that only they or only the leader got
right, and tokens go to the others. On 49 checkpoints and 500 problems that is a fifth of what --exhaustive asks, and
the checkpoint chosen is as good to a third of a point (benchmarks/race.py). What was asked is not asked again.

examples:
  cft select runs/mine                                       500 problems of MATH train
  cft select runs/mine --limit 100 --keep 3
  cft select runs/mine --benchmark arithmetic-critic         verdicts of held-out arithmetic critiques
  cft select runs/mine --benchmark problems.jsonl            columns query, gold; or query, response, verdict
  cft select runs/mine --exhaustive                          every checkpoint answers every problem
  cft select runs/mine --error 0.05 --error-of race          the one with most right leaves in 5% of all races at most
  cft select runs/mine --backend vllm                        one server, which reads their weights (CFT_VLLM_PYTHON)
  cft select runs/mine --backend endpoint --base-url http://localhost:8000/v1
                                                             it serves the models checkpoint-N

While training: select_benchmark: math-validation in the run's YAML file scores each checkpoint as it is saved.
A validation set with problems of a reported benchmark is refused, and the benchmark named, unless --force is given.
"""


def run(argv: list[str]) -> int:
    """Runs the command; returns its exit code.

    Raises:
        CFTError: No such folder, or flags that do not go together; else as what it calls.
    """
    parser = CommandParser("cft select", HELP, usage="cft select RUN [options]")
    parser.add_argument("run", type=Path, help="folder of a training run, with checkpoint-N")
    parser.add_argument("--benchmark", default="math-validation", help="default %(default)s; arithmetic-critic; a file")
    parser.add_argument("--limit", type=positive, help="use a seeded sample of so many problems")
    parser.add_argument("--keep", type=positive, default=1, help="keep so many of the best (default %(default)s)")
    parser.add_argument("--exhaustive", action="store_true", help="no race: every checkpoint answers every problem")
    parser.add_argument(
        "--error",
        type=share,
        default=ERROR,
        help="level of the test: how probable it may be that one leaves which would end level or ahead (default "
        "%(default)s)",
    )
    parser.add_argument(
        "--error-of",
        choices=("comparison", "race"),
        default="comparison",
        help="of each comparison with the leader, or of all rounds and checkpoints together (default %(default)s; race "
        "costs three to five times the tokens)",
    )
    parser.add_argument("--backend", choices=BACKENDS, default="transformers")
    parser.add_argument("--base-url", help="of --backend endpoint; it serves each checkpoint by its folder's name")
    parser.add_argument("--api-key-env", default="OPENAI_API_KEY", help="variable with the key (default %(default)s)")
    parser.add_argument("--extra", help="fields of each request, as '{reasoning_effort: low, temperature: null}'")
    parser.add_argument("--max-new-tokens", type=positive, help="limit per text (default 2048; critiques 512)")
    parser.add_argument("--batch-size", type=positive, default=64, help="problems computed together (transformers)")
    parser.add_argument("--dtype", help="float32, bfloat16 or float16 (default: float32 where the run trained so)")
    parser.add_argument(
        "--server-per-checkpoint", action="store_true", help="vllm: start a server for each, read no weights into one"
    )
    parser.add_argument("--adapter-base", metavar="MODEL", help=OPTION_HELP)
    parser.add_argument("--prompt-preset", type=preset_option, metavar="PRESET", help=PRESET_OPTION)
    parser.add_argument("--force", action="store_true", help="take problems that a reported benchmark holds too")
    options = parser.parse_args(argv)
    if not options.run.is_dir():
        raise CFTError(f"'{options.run}' is no folder; give the output_dir of a training run")
    if (options.backend == "endpoint") != (options.base_url is not None):
        raise CFTError("--backend endpoint and --base-url belong together; give both or neither")
    if options.base_url and options.adapter_base:
        raise CFTError(f"--adapter-base {options.adapter_base}: an endpoint serves what it serves, leave it out")
    if options.extra and options.backend == "transformers":
        raise CFTError("--extra has fields of a request; give it with --backend endpoint or vllm")
    if options.server_per_checkpoint and options.backend != "vllm":
        raise CFTError("--server-per-checkpoint is about vLLM's; give it with --backend vllm")
    from cft_trl.data.folders import check_writable
    from cft_trl.evaluation.validation import load_validation
    from cft_trl.models.trained_prompt import trained_preset
    from cft_trl.training.choice import tell
    from cft_trl.training.race import select, tell_round
    from cft_trl.training.selection import SELECTION_FILE, Selection, check_checkpoints

    check_checkpoints(options.run)  # before the problems: they may have to come from the Hub
    check_writable(options.run)
    validation = load_validation(
        options.benchmark, options.limit, max_new_tokens=options.max_new_tokens, force=options.force
    )
    preset = options.prompt_preset or trained_preset(str(options.run))
    how = _generator(options), _address(options), options.adapter_base
    rule = LeavingRule(0.0) if options.exhaustive else LeavingRule(options.error, options.error_of)
    selection = Selection(options.run, validation, preset, options.keep, *how, rule=rule)
    for note in validation.notes:
        print(f"note: {note}")

    with _models(options, selection) as model:

        def generate(step: int, checkpoint: Path, conversations: list[Any]) -> list[Any]:
            return _ask(model(step, checkpoint), validation.max_new_tokens, conversations, f"step {step}")

        result = select(
            selection,
            generate,
            on_point=lambda point: print(tell(point), flush=True),
            on_round=lambda told: print(tell_round(told), flush=True),
        )
    if not result:
        raise CFTError(f"'{options.run}': no checkpoint has answered all problems, so none can be chosen; run it again")
    _show(result)
    print(f"\nbest: {result['verdict']}\n{options.run / 'best'} is the model, {options.run / SELECTION_FILE} the curve")
    return 0


def _address(options: argparse.Namespace) -> str | None:
    """Where the checkpoints are served, and with which fields they are asked: another server may serve others."""
    return " ".join(filter(None, (options.base_url, options.extra))) or None


def _generator(options: argparse.Namespace) -> str:
    """How texts are made, with the number type where it is not the usual one: scores of two ways are not mixed.

    A server's type is always told: what vLLM takes of itself is not what was trained.
    """
    from cft_trl.generation.serving import served_dtype

    if options.backend == "vllm":
        dtype = served_dtype(str(options.run), dtype=options.dtype) or "auto"
    else:
        dtype = options.dtype
    return f"{options.backend}, {dtype}" if dtype else options.backend


@contextmanager
def _models(options: argparse.Namespace, selection: Any) -> Iterator[Callable[[int, Path], Any]]:
    """(step, checkpoint) -> what writes its texts, good until the next one is asked for; the last one stays open."""
    from cft_trl.generation.dialect import parse_extra
    from cft_trl.generation.open import opened
    from cft_trl.generation.reloading import serve_in_turn
    from cft_trl.generation.serving import serve

    extra, served = parse_extra(options.extra), {}
    with ExitStack() as closing:
        last: dict[Path, Any] = {}

        def start(checkpoint: Path) -> None:
            folders = {path.name: str(path) for path in selection.checkpoints().values()}
            if (checkpoint / "adapter_config.json").is_file():  # all adapters at once
                how = {"dtype": options.dtype, "extra": extra, "adapter_base": options.adapter_base}
                served["model"] = closing.enter_context(serve(folders, **how)).__getitem__
            elif not options.server_per_checkpoint and not options.adapter_base:
                in_turn = serve_in_turn(folders, dtype=options.dtype, extra=extra)
                served["model"] = closing.enter_context(in_turn)

        def model(step: int, checkpoint: Path) -> Any:
            if options.backend == "vllm" and not served and not last:
                start(checkpoint)
            if served:
                return served["model"](checkpoint.name)
            if checkpoint not in last:
                last.clear()
                closing.close()
                last[checkpoint] = closing.enter_context(
                    opened(
                        options.backend,
                        checkpoint.name if options.backend == "endpoint" else str(checkpoint),
                        name=checkpoint.name,
                        base_url=options.base_url,
                        api_key_env=options.api_key_env,
                        dtype=options.dtype,
                        batch_size=options.batch_size,
                        extra=extra,
                        adapter_base=options.adapter_base,
                    )
                )
            return last[checkpoint]

        yield model


def _ask(generator: Any, max_new_tokens: int, conversations: list[Any], label: str) -> list[Any]:
    from cft_trl.progress import progress

    with progress(label, len(conversations)) as advance:
        return generator.generate(conversations, max_new_tokens=max_new_tokens, on_result=lambda *_: advance(1))


def _show(result: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"Checkpoints on {result['benchmark']}, {result['rows']} rows")
    for column in ("step", "right", "95% interval", ""):
        table.add_column(column, justify="left" if not column else "right")
    for point in result["curve"]:
        low, high = point["interval_95"]
        mark = "best" if point["step"] == result["winner"]["step"] else ""
        if point["step"] in result["overlapping"]:
            mark = "overlaps the best"
        if left := point.get("left"):
            mark = f"left after {left['after']}" + (f", {mark}" if mark else "")
        share = f"{point['score']:.1%} ({point['hits']}/{point['of']})"
        table.add_row(str(point["step"]), share, f"{low:.1%} to {high:.1%}", mark)
    if result["majority_rate"] is not None:
        table.caption = f"always giving the more frequent verdict: {result['majority_rate']:.1%}"
    console = Console()
    console.print()
    console.print(table)
    if race := result.get("race"):
        print(tell_race(race))


def tell_race(race: Mapping[str, Any]) -> str:
    """What a race asked and spared, as a line.

    Example:
        >>> tell_race({"answers": 30, "answers_saved": 70, "tokens": 900, "tokens_saved": 2100, "rule": "error 0.1"})
        'race: 30 of 100 answers and 900 tokens written, some 2,100 tokens (70%) spared (error 0.1)'
    """
    told = f"race: {race['answers']:,} of {race['answers'] + race['answers_saved']:,} answers"
    if race["tokens"] is None:
        return f"{told} written ({race['rule']})"
    share = race["tokens_saved"] / max(1, race["tokens"] + race["tokens_saved"])
    told += f" and {race['tokens']:,} tokens written, some {race['tokens_saved']:,} tokens ({share:.0%}) spared"
    return f"{told} ({race['rule']})"
