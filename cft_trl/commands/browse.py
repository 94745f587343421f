"""`cft browse`: rows of critiques to look through in the browser."""

from __future__ import annotations

from cft_trl.commands.parser import CommandParser
from cft_trl.commands.settings import positive, whole_number

HELP = """\
Opens rows of critiques as a page on this machine: filtered by verdict, teacher, length, words, and by whether the
verdict is the truth; the line that a critique calls wrong is marked. What a person does before trusting 50,000 rows.

examples:
  cft browse runs/rows                                        what cft build wrote
  cft browse rows.jsonl --port 7900
  cft browse TIGER-Lab/WebInstruct-CFT --name WebInstruct-CFT-4K --limit 500

Keys: left and right, r for a random row. The truth is the strict grade of the response where reference_answer is there,
else a label (label, correct, is_correct); without either it is unknown. Ctrl-C ends it.
"""


def run(argv: list[str]) -> int:
    """Runs the command; returns its exit code.

    Raises:
        CFTError: The rows cannot be read, or the port is taken.
    """
    parser = CommandParser("cft browse", HELP, usage="cft browse ROWS [options]")
    parser.add_argument("rows", metavar="ROWS", help="file, glob, folder or Hub id")
    parser.add_argument("--name", help="configuration of a Hub dataset or a folder with a card")
    parser.add_argument("--split", default="train", help="its split (default train)")
    parser.add_argument("--revision", help="its revision on the Hub")
    parser.add_argument("--limit", type=positive, help="the first so many rows (default: all)")
    parser.add_argument("--host", default="127.0.0.1", help="where it listens (default %(default)s)")
    parser.add_argument("--port", type=whole_number, default=7870, help="default %(default)s; 0: any that is free")
    given = parser.parse_args(argv)
    from cft_trl.demo.browse import Rows, first_rows, make_server
    from cft_trl.progress import progress

    records, more = first_rows(given.rows, given.limit, split=given.split, name=given.name, revision=given.revision)
    with progress("rows read", len(records)) as advance:
        rows = Rows(records, advance, more)
    told = f"the first {len(records):,} rows (--limit)" if more else f"{len(records):,} rows"
    with make_server(rows, given.host, given.port) as server:
        print(f"{told} at http://{given.host}:{server.server_address[1]}/; Ctrl-C ends it", flush=True)
        server.serve_forever()
    return 0
