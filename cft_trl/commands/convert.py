"""`cft convert`: published critique data into our row and back."""

from __future__ import annotations

import sys
from pathlib import Path

from cft_trl.commands.parser import CommandParser

HELP = """\
Published critique data into our row and back, byte for byte. Files, folders and Hub ids are read; the output's name
(.jsonl, .jsonl.gz, .parquet) says what is written.

examples:
  cft convert TIGER-Lab/WebInstruct-CFT rows.jsonl --to records --name WebInstruct-CFT-50K
  cft convert TIGER-Lab/One-Shot-CFT-Data p0.parquet --to records --split dsr_cft_p0 --revision 3f1c9a2
  cft convert rows.jsonl webinstruct.jsonl --to webinstruct_cft          the way back: the rows as they were
  cft convert rows.jsonl chat.jsonl.gz --to messages                     for trainers that want user and assistant
  cft convert my-dataset/ all.parquet --to records --name gsm8k__gpt-4o  a folder that cft build wrote

layouts:
  records           id, query, response, critique, verdict, refinement, reference_answer, ..., meta
  webinstruct_cft   instruction, input, output      (TIGER-Lab/WebInstruct-CFT)
  messages          messages = [user, assistant]    (TIGER-Lab/One-Shot-CFT-Data)

Rows that cannot be converted are listed with their reasons in OUT.failures.jsonl; the exit code is 3 then.
"""


def run(argv: list[str]) -> int:
    parser = CommandParser("cft convert", HELP)
    layouts = ("records", "webinstruct_cft", "messages")
    parser.add_argument("source", metavar="IN", help="file, glob, folder or Hub id")
    parser.add_argument("output", metavar="OUT", type=Path, help="file to write")
    parser.add_argument("--to", required=True, choices=layouts, help="the layout to write")
    parser.add_argument("--from", dest="layout", choices=layouts, help="the layout to read (default: by the columns)")
    parser.add_argument("--name", help="configuration of a Hub dataset or a folder with a card")
    parser.add_argument("--split", default="train", help="its split (default train)")
    parser.add_argument("--revision", help="its revision on the Hub")
    options = vars(parser.parse_args(argv))
    from cft_trl.progress import progress
    from cft_trl.sources.convert import convert

    source, output = options.pop("source"), options.pop("output")
    with progress("convert", 0) as advance:
        counts = convert(source, output, progress=advance, **options)
    print(f"{output}: {counts.written} of {counts.read} rows as {options['to']}")
    for reason, count in counts.failures.most_common(5):
        print(f"  {count} not converted: {reason}", file=sys.stderr)
    if counts.failures:
        print(f"  listed in {output}.failures.jsonl", file=sys.stderr)
    return 3 if counts.failures else 0
