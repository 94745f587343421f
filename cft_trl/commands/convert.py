"""`cft convert`: published critique data into our row and back."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

from cft_trl.commands.parser import CommandParser
from cft_trl.commands.settings import whole_number
from cft_trl.errors import CFTError

HELP = """\
Published critique data into our row and back, byte for byte. Files, folders and Hub ids are read; the output's name
(.jsonl, .jsonl.gz, .parquet) says what is written.

examples:
  cft convert TIGER-Lab/WebInstruct-CFT rows.jsonl --to records --name WebInstruct-CFT-50K
  cft convert TIGER-Lab/One-Shot-CFT-Data p0.parquet --to records --split dsr_cft_p0 --revision 3f1c9a2
  cft convert rows.jsonl webinstruct.jsonl --to webinstruct_cft          the way back: the rows as they were
  cft convert rows.jsonl chat.jsonl.gz --to messages                     for trainers that want user and assistant
  cft convert my-dataset/ all.parquet --to records --name gsm8k__gpt-4o  a folder that cft build wrote

for TRL's other trainers:
  cft convert rows.jsonl rl/train.jsonl --to trl-prompts                 GRPO with cft_trl.rewards, a fifth critiques
  cft convert rows.jsonl rl/train.jsonl --to trl-prompts --critique-share 1
  cft convert rows.jsonl dpo/train.jsonl --to trl-preference             critiques of one response: true verdict first
  cft convert rows.jsonl sdpo/train.jsonl --to trl-feedback              SDPO, SDFT: the critique as privileged_context

layouts:
  records           id, query, response, critique, verdict, refinement, reference_answer, ..., meta
  webinstruct_cft   instruction, input, output      (TIGER-Lab/WebInstruct-CFT)
  messages          messages = [user, assistant]    (TIGER-Lab/One-Shot-CFT-Data)
  trl-prompts       prompt, task, verdict, reference_answer
  trl-preference    prompt, chosen, rejected, verdict
  trl-feedback      prompt, privileged_context, task, reference_answer

Rows that cannot be converted are listed with their reasons in OUT.failures.jsonl; the exit code is 3 then.
"""


def run(argv: list[str]) -> int:
    """Runs the command; returns its exit code.

    Raises:
        CFTError: Options that do not go together; else as `convert` and `convert_for_trl`.
    """
    parser = CommandParser("cft convert", HELP)
    layouts = ("records", "webinstruct_cft", "messages")
    for_trl = ("trl-prompts", "trl-preference", "trl-feedback")
    parser.add_argument("source", metavar="IN", help="file, glob, folder or Hub id")
    parser.add_argument("output", metavar="OUT", type=Path, help="file to write")
    parser.add_argument("--to", required=True, choices=(*layouts, *for_trl), help="the layout to write")
    parser.add_argument("--from", dest="layout", choices=layouts, help="the layout to read (default: by the columns)")
    parser.add_argument("--name", help="configuration of a Hub dataset or a folder with a card")
    parser.add_argument("--split", default="train", help="its split (default train)")
    parser.add_argument("--revision", help="its revision on the Hub")
    parser.add_argument(
        "--critique-share", type=float, help="of trl-prompts: rows that ask for a critique (default 0.2)"
    )
    parser.add_argument(
        "--refine-share", type=float, help="of trl-prompts: rows that show a critique and ask for a better solution"
    )
    parser.add_argument("--seed", type=whole_number, help="of trl-prompts: which rows, in which order (default 0)")
    parser.add_argument(
        "--prompt-preset",
        dest="preset",
        choices=("paper", "compact", "per_step"),
        help="wording, as trained (default paper)",
    )
    options = vars(parser.parse_args(argv))
    from cft_trl.progress import progress
    from cft_trl.sources.convert import convert, convert_for_trl

    source, output, layout = (options.pop(name) for name in ("source", "output", "layout"))
    shaping = {name: options.pop(name) for name in ("critique_share", "refine_share", "seed", "preset")}
    if options["to"] in for_trl:
        if layout:
            raise CFTError(
                f"--from {layout}: with --to {options['to']} the layout is told by the columns; leave it out"
            )
        function: Any = partial(convert_for_trl, **shaping)
    else:
        if given := next((name for name, value in shaping.items() if value is not None), None):
            flag = "prompt-preset" if given == "preset" else given.replace("_", "-")
            raise CFTError(f"--{flag} belongs to --to {', '.join(for_trl)}; leave it out")
        function = partial(convert, layout=layout)
    with progress("convert", 0) as advance:
        counts = function(source, output, progress=advance, **options)
    tasks = ", ".join(f"{count} {name}" for name, count in counts.counts.items())
    made = f"{counts.written} rows ({tasks}) of {counts.read}" if tasks else f"{counts.written} of {counts.read} rows"
    print(f"{output}: {made} as {options['to']}")
    for reason, count in counts.left_out.items():
        print(f"  {count} left out: {reason}", file=sys.stderr)
    for reason, count in counts.failures.most_common(5):
        print(f"  {count} not converted: {reason}", file=sys.stderr)
    if counts.failures:
        print(f"  listed in {output}.failures.jsonl", file=sys.stderr)
    return 3 if counts.failures else 0
