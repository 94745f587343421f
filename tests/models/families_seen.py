"""What trained models give back, family by family; what vLLM gave back is the last column of docs/models.md.

    python tests/models/families_seen.py OUT qwen3 gpt-oss --modes padded lora --ask generate critique vllm
    python tests/models/families_seen.py OUT --table                      # of all that OUT/seen.jsonl holds

A model of two layers learns two critiques by heart (`families.overfit`), is saved, and asked from its folder by
transformers' plain `generate`, by the command `cft critique`, and behind vLLM. What comes back is the critique to the
character, and ends where it ends, or it is not. vLLM wants `CFT_VLLM_PYTHON`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from families import FAMILIES, MODES, ROWS, overfit, plain_texts

ASKED = ("generate", "critique", "vllm")
NEW_TOKENS = 120  # more than a critique has


def expected() -> list[str]:
    from cft_trl.data.prompts import Prompting

    return [Prompting().completion(row) for row in ROWS]


def seen(asked: str, folder: Path, behind: str = "") -> bool:
    """Whether a trained folder's model gives its two critiques back, and ends.

    Args:
        asked: One of `ASKED`.
        behind: What the family writes before its end token, which plain `generate` gives back (Llama 2's space).
    """
    if asked == "generate":
        made = plain_texts(folder, ROWS)
        return [text for text, _ in made] == [text + behind for text in expected()] and all(
            count < NEW_TOKENS for _, count in made
        )
    return (_commanded(folder) if asked == "critique" else _served(folder)) == expected()


def _commanded(folder: Path) -> list[str]:
    from cft_trl.cli import main

    with tempfile.TemporaryDirectory() as scratch:
        rows, written = Path(scratch) / "rows.jsonl", Path(scratch) / "critiques.jsonl"
        asked = [{"query": row["query"], "response": row["response"]} for row in ROWS]
        rows.write_text("\n".join(map(json.dumps, asked)))
        options = ["--input", str(rows), "--output", str(written), "--max-new-tokens", str(NEW_TOKENS)]
        if code := main(["critique", str(folder), *options]):
            return [f"exit code {code}"]
        return [json.loads(line)["critique"] for line in written.read_text().splitlines()]


def _served(folder: Path) -> list[str]:
    from cft_trl.generation.modes import run_mode
    from cft_trl.generation.serving import serve

    os.environ.setdefault("CFT_VLLM_OPTIONS", "--enforce-eager --max-model-len 512")
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    with serve({"model": str(folder)}) as models:
        outcomes = run_mode(
            models["model"],
            [row["query"] for row in ROWS],
            "critique",
            responses=[row["response"] for row in ROWS],
            max_new_tokens=NEW_TOKENS,
        )
    return [outcome.text if outcome.finish_reason == "stop" else outcome.finish_reason for outcome in outcomes]


def table(found: dict[tuple[str, str, str], bool]) -> str:
    """The table, from (family, mode, asked) -> what was seen.

    Example:
        >>> print(table({("phi3", "padded", "generate"): True, ("phi3", "lora", "critique"): False}))
        | family | padded | packed | shared | LoRA |
        |---|---|---|---|---|
        | Phi-3 | generate ✓ | not run | not run | critique ✗ |
    """
    names = {"generate": "generate", "critique": "critique", "vllm": "vLLM"}
    lines = ["| family | padded | packed | shared | LoRA |", "|---|---|---|---|---|"]
    for name, family in FAMILIES.items():
        if not any(key[0] == name for key in found):
            continue
        cells = []
        for mode in MODES:
            run = [(names[ask], found[name, mode, ask]) for ask in ASKED if (name, mode, ask) in found]
            cells.append(" ".join(f"{label} {'✓' if right else '✗'}" for label, right in run) or "not run")
        lines.append(f"| {family.title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def read(out: Path) -> dict[tuple[str, str, str], bool]:
    """What was seen before; the last of several runs counts."""
    lines = (out / "seen.jsonl").read_text().splitlines() if (out / "seen.jsonl").is_file() else []
    rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
    return {(row["family"], row["mode"], row["asked"]): row["right"] for row in rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("families", nargs="*")
    parser.add_argument("--modes", nargs="*", default=MODES)
    parser.add_argument("--ask", nargs="*", default=ASKED[:2])
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.families:
        for mode in options.modes:
            folder = options.out / name / mode
            if not folder.is_dir():
                overfit(FAMILIES[name], mode, options.out / name)
            for asked in options.ask:
                right = seen(asked, folder, " " if name == "llama2" else "")
                line = {"family": name, "mode": mode, "asked": asked, "right": right}
                print(line, flush=True)
                with (options.out / "seen.jsonl").open("a") as file:
                    file.write(json.dumps(line) + "\n")
    if options.table:
        print(table(read(options.out)))


if __name__ == "__main__":
    main()
