"""`cft build`: a dataset of critiques from a recipe."""

from __future__ import annotations

import argparse
import gc
import shlex
from pathlib import Path
from typing import Any

from cft_trl.commands.parser import CommandParser
from cft_trl.commands.settings import positive
from cft_trl.errors import CFTError

HELP = """\
Builds a dataset of critiques: questions and answers from a corpus, critiques from teachers, filters, Parquet, a card.

examples:
  cft build hub_datasets/webinstruct/recipe.yaml --limit 20 --teacher openai:gpt-4o-2024-11-20 --dry-run
  cft build hub_datasets/webinstruct/recipe.yaml --limit 20 --teacher openai:mine@http://localhost:8000/v1
  cft build hub_datasets/metamath/recipe.yaml --limit 1000 --teacher vllm:Qwen/Qwen2.5-7B-Instruct
  cft build recipe.yaml --set source.path=rows.jsonl --set critique.samples=2 --output runs/mine
  cft build recipe.yaml --push-to-hub my-name/my-critiques

The same command goes on after an interruption: no answer is asked for twice. An endpoint's key comes from the
environment variable OPENAI_API_KEY, or from the one named after '#': openai:MODEL@URL#MY_KEY. The folder then holds
the dataset (data/, README.md), recipe.yaml as it was run, failures.jsonl with every row that is not in it and why, and
journal/ with every answer.

exit codes: 0 done; 3 done, but for some rows there was no answer; 2 a mistake in the input
"""


def run(argv: list[str]) -> int:
    parser = CommandParser("cft build", HELP)
    parser.add_argument("recipe", type=Path, help="the recipe's YAML file")
    parser.add_argument("--limit", type=positive, help="rows to take from the source")
    parser.add_argument(
        "--teacher",
        action="append",
        metavar="T",
        help="who writes critiques, in place of the recipe's: reference, openai:MODEL[@URL], vllm:MODEL or "
        "transformers:MODEL; several times for several",
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="folder (default runs/datasets/NAME)")
    parser.add_argument("--push-to-hub", metavar="ORG/NAME", help="where the finished dataset goes")
    parser.add_argument("--dry-run", action="store_true", help="rows, requests, cost and three prompts; asks nothing")
    parser.add_argument(
        "--ask-again",
        action="store_true",
        help="ask the teachers for everything anew; then go on with the same command without it",
    )
    parser.add_argument(
        "--answers-of",
        metavar="URL",
        help="the address that a server was asked at before: what it answered there is used at its new one, too",
    )
    parser.add_argument("--batch", action="store_true", help="OpenAI's Batch API: half the price, within a day")
    parser.add_argument("--executor", choices=("local", "slurm", "ray"), help="spread the asking over several tasks")
    parser.add_argument("--tasks", type=positive, metavar="N", help="how many, with --executor")
    parser.add_argument("--step", metavar="STAGE", help="run this stage only, on what the one before it has left")
    parser.add_argument(
        "--max-concurrency", type=positive, metavar="N", help="requests in flight to each teacher at most"
    )
    parser.add_argument("--timeout", type=positive, metavar="SECONDS", help="for one request (default 600)")
    parser.add_argument(
        "--vllm-options", default="", metavar="TEXT", help='for vllm: teachers, e.g. "--tensor-parallel-size 4"'
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any setting of the recipe")
    options, before = parser.parse_args(argv), gc.get_threshold()
    # A build's objects live for a row and are freed without the collector. Every 700 of them it would go over what is
    # imported again and again: a twelfth of a build of 8,000 rows.
    gc.set_threshold(20_000)
    try:
        return _run(options)
    finally:
        gc.set_threshold(*before)


def _run(options: argparse.Namespace) -> int:
    import yaml

    from cft_trl.synthesis.build import Spread, build
    from cft_trl.synthesis.recipe import read_recipe
    from cft_trl.synthesis.summary import print_summary

    if bool(options.executor) != bool(options.tasks):
        raise CFTError("--executor and --tasks go together, e.g. --executor local --tasks 4")
    overrides = list(options.set)
    if options.limit:
        overrides.append(f"source.limit={options.limit}")
    if options.teacher:
        overrides.append(f"critique.teachers={yaml.safe_dump(options.teacher, default_flow_style=True, width=10**6)}")
    if options.push_to_hub:
        overrides.append(f"publish.repo={options.push_to_hub}")
    recipe = read_recipe(options.recipe, overrides)
    if options.dry_run:
        from cft_trl.synthesis.plan import estimate, tell

        tell(recipe, estimate(recipe), options.batch)
        return 0
    if options.push_to_hub:
        from cft_trl.hub.upload import check_push

        check_push(options.push_to_hub)
    folder = options.output or Path("runs/datasets") / recipe.name
    if any(folder.glob("checkpoint-*")) or (folder / "training.json").is_file():
        raise CFTError(f"{folder} holds a training run, whose card the dataset's would replace; give another --output")
    card = options.recipe.parent / "card.md"
    done = build(
        recipe,
        folder,
        batch=options.batch,
        only=options.step,
        spread=Spread(options.executor, options.tasks) if options.executor else None,
        teacher_options=_teacher_options(options),
        ask_again=options.ask_again,
        answers_of=options.answers_of,
        card=card.read_text(encoding="utf-8") if card.is_file() else None,
    )
    print_summary(done)
    if options.push_to_hub:
        from cft_trl.hub.upload import push_dataset

        settings = recipe.publish
        print(push_dataset(folder, options.push_to_hub, private=settings.private, revision=settings.revision))
    return 3 if done.lost else 0


def _teacher_options(options: argparse.Namespace) -> dict[str, Any]:
    given = {"max_concurrency": options.max_concurrency, "timeout": options.timeout}
    given["vllm_options"] = shlex.split(options.vllm_options)
    return {name: value for name, value in given.items() if value}
