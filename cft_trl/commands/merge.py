"""`cft merge`: an adapter put into its base, for good."""

from __future__ import annotations

from pathlib import Path

from cft_trl.commands.parser import CommandParser
from cft_trl.commands.settings import add_model_options

HELP = """\
Merges a PEFT adapter (LoRA, DoRA, IA3, whole modules beside them) into its base: one model, saved with the adapter's
tokenizer, chat template, end tokens and the record of its run. Before it is written its logits are compared with the
adapter's. Adapters of virtual tokens change no weights and cannot be merged.

examples:
  cft merge runs/lora runs/merged
  cft merge runs/lora/checkpoint-40 runs/merged --dtype bfloat16
  cft merge ORG/ADAPTER merged --revision v1 --adapter-base Qwen/Qwen2.5-Math-7B@b101308f

Without --dtype it is saved in the type that it was trained in.
"""


def run(argv: list[str]) -> int:
    """Runs the command; returns its exit code.

    Raises:
        CFTError: As `cft_trl.hub.merging.merge`.
    """
    parser = CommandParser("cft merge", HELP)
    parser.add_argument("adapter", metavar="ADAPTER", help="folder or Hub id")
    parser.add_argument("output", metavar="OUT", type=Path, help="folder to write; it must be new or empty")
    add_model_options(parser)
    given = parser.parse_args(argv)
    from cft_trl.hub.merging import merge

    made = merge(
        given.adapter,
        given.output,
        dtype=given.dtype,
        revision=given.revision,
        adapter_base=given.adapter_base,
        trust_remote_code=given.trust_remote_code,
    )
    print(f"{made.folder}: merged into {made.base}, saved in {made.dtype}")
    print(f"  logits: {made.difference:.2g} from the adapter's in float32, {made.rounded:.2g} as saved")
    if made.tied == (False, True):
        print(
            "  the adapter trained head or embeddings apart: they no longer share weights (tie_word_embeddings: false)"
        )
    elif made.tied[0]:
        print("  head and embeddings share their weights, as in the base")
    for note in made.notes:
        print(f"  {note}")
    return 0
