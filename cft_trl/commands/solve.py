"""`cft solve`: a question answered by a model, alone or with the model as its own critic."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from cft_trl.commands.generation import (
    add_generation_options,
    check_output,
    open_generator,
    read_rows,
    read_text,
    sampling_of,
    show,
    told_verdict,
    write_rows,
)
from cft_trl.commands.parser import CommandParser
from cft_trl.commands.settings import positive
from cft_trl.errors import CFTError

HELP = """\
Answers a question, or every question of a file. A critique-tuned model is asked as any other is: mode direct.

examples:
  cft solve runs/quickstart "Rosa has 4 pencils and finds 6 more. How many pencils does she have now?"
  cft solve runs/mine "What is 12 x 4 - 6?" --mode two_stage --temperature 0.6 --seed 1
  cft solve Qwen/Qwen2.5-Math-7B - < question.txt
  cft solve my-model "What is 2 + 2?" --base-url http://localhost:8000/v1
  cft solve runs/quickstart --input problems.jsonl --output solved.jsonl     rows with a column query
  cft solve runs/quickstart --input problems.jsonl --output solved.jsonl --samples 8 --temperature 0.7
                                                                             eight rows of each, for `cft rank`

modes:
  direct        the answer
  single_pass   solution, critique of it and correction, in one text
  two_stage     a solution, then in a fresh prompt a critique of it; unless that says right, another solution from
                scratch, at most 8 times (above temperature 0: greedily it would be the same solution again)
"""


def run(argv: list[str]) -> int:
    """Runs the command; returns its exit code.

    Raises:
        CFTError: Flags that do not go together; else as what it calls.
    """
    from cft_trl.grading.benchmarks import MATH_SYSTEM

    parser = CommandParser("cft solve", HELP, usage="cft solve MODEL [QUESTION] [options]")
    add_generation_options(parser)
    parser.add_argument("question", nargs="?", help="the question; @file reads it, - takes standard input")
    parser.add_argument("--query", dest="named", metavar="QUESTION", help="the same, as `cft critique` spells it")
    parser.add_argument("--mode", choices=("direct", "single_pass", "two_stage"), default="direct")
    parser.add_argument("--max-rounds", type=int, choices=range(1, 9), default=8, help="of two_stage (default 8)")
    parser.add_argument("--system", default=MATH_SYSTEM, help="system turn; '' for none (default: %(default)s)")
    parser.add_argument(
        "--samples", type=positive, default=1, help="answers to each question of --input, one row each (default 1)"
    )
    options = parser.parse_intermixed_args(argv)
    if options.question is not None and options.named is not None:
        raise CFTError("the question is there twice; give it once, alone or with --query")
    options.question = options.named if options.question is None else options.question
    if (options.question is None) == (options.input is None):
        raise CFTError('give either a question or --input FILE, e.g. cft solve MODEL "What is 2 + 2?"')
    if options.output and not options.input:
        raise CFTError("--output belongs to --input; for one question redirect the output with >")
    if options.samples > 1 and not options.input:
        raise CFTError("--samples belongs to --input: each answer is a row of --output")
    if options.samples > 1 and options.temperature == 0:
        raise CFTError(
            f"--samples {options.samples} at temperature 0 would be one and the same; give --temperature 0.7"
        )
    from cft_trl.generation.modes import run_mode, stream_mode

    asked = {"mode": options.mode, "system": options.system or None, "max_rounds": options.max_rounds}
    asked |= sampling_of(options)
    if options.question is not None:
        question = read_text(options.question, "the question")
        show(stream_mode(open_generator(options), question, **asked))
        return 0
    from cft_trl.progress import progress

    rows = read_rows(options.input, {"query": ("problem", "question")})
    if options.samples > 1:
        rows = [{**row, "sample": sample} for row in rows for sample in range(options.samples)]
    check_output(options.output)
    two_stage = options.mode == "two_stage"
    generator = open_generator(options)
    with progress("solutions", len(rows)) as advance:
        outcomes = run_mode(generator, [row["query"] for row in rows], on_result=lambda *_: advance(1), **asked)
    made = (
        {**row, "response": outcome.text, "finish_reason": outcome.finish_reason, "failure": outcome.failure}
        | ({"rounds": [_round(part, asked["prompt_preset"]) for part in outcome.rounds]} if two_stage else {})
        for row, outcome in zip(rows, outcomes, strict=True)
    )
    write_rows(made, options.output)
    return 3 if any(outcome.failure for outcome in outcomes) else 0


def _round(part: Any, preset: Any) -> dict[str, Any]:
    return asdict(part) | told_verdict(part.critique, part.verdict, preset)
