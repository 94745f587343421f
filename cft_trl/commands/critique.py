"""`cft critique`: a solution critiqued by a model, with its verdict."""

from __future__ import annotations

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
from cft_trl.errors import CFTError

HELP = """\
Critiques a solution, or every solution of a file, in the prompt that critique fine-tuning trains; tells the verdict.

examples:
  cft critique runs/quickstart --query "Rosa has 4 pencils and finds 6 more. How many pencils does she have now?" \\
      --response "4 × 6 = 24 pencils in all. The answer is 24 pencils."
  cft critique runs/quickstart --query @question.txt --response - < solution.txt
  cft critique my-model --query "2+2?" --response "5" --base-url http://localhost:8000/v1
  cft critique runs/quickstart --input solutions.jsonl --output critiques.jsonl     rows with columns query and response

Written rows have the columns critique and verdict (right, wrong or null) beside those they came with; of a model with
verdict words of its own also said, the word (accept, reject, a grade).
"""


def run(argv: list[str]) -> int:
    """Runs the command; returns its exit code.

    Raises:
        CFTError: Flags that do not go together; else as what it calls.
    """
    parser = CommandParser("cft critique", HELP, usage="cft critique MODEL [options]")
    add_generation_options(parser)
    parser.add_argument("--query", help="the question; @file reads it, - takes standard input")
    parser.add_argument("--response", help="the solution to critique, likewise")
    options = parser.parse_args(argv)
    pair = (options.query, options.response)
    if options.input is None and None in pair:
        raise CFTError("give --query and --response, or --input FILE with rows that have both")
    if options.input is not None and pair != (None, None):
        raise CFTError("give either --query and --response or --input FILE, not both")
    if pair == ("-", "-"):
        raise CFTError("--query and --response cannot both be standard input; give one of them as @file")
    if options.output and not options.input:
        raise CFTError("--output belongs to --input; for one critique redirect the output with >")
    from cft_trl.generation.modes import run_mode, stream_mode

    sampling = sampling_of(options)
    if options.input is None:
        query, response = read_text(options.query, "--query"), read_text(options.response, "--response")
        show(stream_mode(open_generator(options), query, "critique", response=response, **sampling))
        return 0
    from cft_trl.progress import progress

    rows = read_rows(options.input, {"query": ("problem", "question"), "response": ("solution",)})
    check_output(options.output)
    generator = open_generator(options)
    queries, responses = ([row[name] for row in rows] for name in ("query", "response"))
    with progress("critiques", len(rows)) as advance:
        outcomes = run_mode(
            generator, queries, "critique", responses=responses, on_result=lambda *_: advance(1), **sampling
        )
    made = (
        {
            **row,
            "critique": outcome.text,
            **told_verdict(outcome.text, outcome.rounds[0].verdict, sampling["prompt_preset"]),
            "failure": outcome.failure,
        }
        for row, outcome in zip(rows, outcomes, strict=True)
    )
    write_rows(made, options.output)
    return 3 if any(outcome.failure for outcome in outcomes) else 0
