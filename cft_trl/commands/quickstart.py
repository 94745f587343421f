"""`cft quickstart`: a trained model in minutes, on a CPU."""

from __future__ import annotations

from pathlib import Path

from cft_trl.commands.parser import CommandParser
from cft_trl.commands.settings import positive, whole_number

HELP = """\
Builds critiques of arithmetic solutions, trains SmolLM2-135M on them and on solutions of other problems, and shows how
often it judges and solves held-out problems rightly, before and after.

examples:
  cft quickstart
  cft quickstart --rows 60 --solutions 30 --eval-rows 20 --output runs/tiny     a minute or two, learns little
  cft quickstart --force                                                        anew

The same command again goes on where an interrupted run was.
"""


def run(argv: list[str]) -> int:
    parser = CommandParser("cft quickstart", HELP)
    parser.add_argument("--output", type=Path, default=Path("runs/quickstart"), help="folder (default %(default)s)")
    parser.add_argument("--model", default="smollm2-135m", help="folder, Hub id or smollm2-135m")
    parser.add_argument("--rows", type=positive, help="critiques to train on, two of each problem")
    parser.add_argument("--solutions", type=positive, help="solutions of other problems to train on")
    parser.add_argument("--eval-rows", type=positive, help="held-out problems")
    parser.add_argument("--generated-rows", type=positive, help="held-out problems critiqued and solved freely")
    parser.add_argument("--seed", type=whole_number, help="seed of the problems and of training")
    parser.add_argument("--force", action="store_true", help="replace what is in the folder")
    options = vars(parser.parse_args(argv))
    from cft_trl.commands.quickstart_run import QuickstartSettings, run_quickstart

    output, force = options.pop("output"), options.pop("force")
    run_quickstart(output, QuickstartSettings(**{k: v for k, v in options.items() if v is not None}), force=force)
    return 0
