"""`cft preview`: rows as the model will see them."""

from __future__ import annotations

from cft_trl.commands.parser import CommandParser
from cft_trl.commands.settings import parse_settings, whole_number

HELP = """\
Shows rows as the model will see them: the tokens with loss in green, the verdict in reverse, what the length policy
did. Takes the same settings as `cft train`.

examples:
  cft preview --config recipes/smollm2-135m/cft.yaml
  cft preview --config recipes/smollm2-135m/cft.yaml --row 5 --max_length 120
  cft preview --model_name_or_path smollm2-135m --dataset_name rows.jsonl --objective cgd --row 0

  --row N       the row to show (default 0)
  --part NAME   of `datasets`, the part that it is of (default the first)
"""


def run(argv: list[str]) -> int:
    if {"-h", "--help"} & set(argv):
        print(HELP, end="")
        return 0
    parser = CommandParser("cft preview", add_help=False)
    parser.add_argument("--row", type=whole_number, default=0)
    parser.add_argument("--part")
    options, rest = parser.parse_known_args(argv)
    script, config, model = parse_settings(rest, defaults={"output_dir": "runs/preview"}, own=("row", "part"))
    from cft_trl.training.preview import preview

    preview(script, config, model, options.row, options.part)
    return 0
