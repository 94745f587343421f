"""`cft preview`: one row as the model sees it.

row 0 (arithmetic-train-s0-000000): kept, 160 tokens, 58 with loss, verdict right
<|im_start|>user⏎Critique this solution.… [green: Step 1: 5 × 5 = 25, correct.⏎…Conclusion: right [END]<|im_end|>]
"""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import Any

from cft_trl.data.prompts import Prompting
from cft_trl.data.read_rows import read_row
from cft_trl.errors import CFTError, nearest
from cft_trl.models.chat_templates import as_trained, turn_end_ids
from cft_trl.training.encoded import RIGHT
from cft_trl.training.lengths import KEPT, SHORTENED
from cft_trl.training.mixture import is_mixture, settled_parts
from cft_trl.training.preparation import RowEncoder
from cft_trl.training.rows import load_rows
from cft_trl.training.script import tokenizer_of
from cft_trl.training.turns import tell_turns

_SHARING_ROWS = 1000


def preview(script: Any, config: Any, model: Any, number: int, part: str | None = None) -> None:
    """Prints row `number` of the training rows: tokens with loss in green, the verdict in reverse.

    Args:
        script, config, model: The settings of a run, as `run_training` takes them.
        number: Which row, counted from 0.
        part: Of a mixture the part that it is of, by its name; default the first.

    Raises:
        CFTError: there is no such row or part, or anything that training would raise.
    """
    from rich.console import Console
    from rich.text import Text

    if not model.model_name_or_path:
        raise CFTError("model_name_or_path is missing; the model's tokenizer decides what it sees")
    # Numbered as in the data, nothing held out.
    rows, prompting, name = _rows_of(_nothing_held_out(script), config, part)
    row = next(islice(rows, number, number + 1), None) if number >= 0 else None
    if row is None:
        raise CFTError(f"--row {number}: there is no such row; rows are counted from 0")
    tokenizer = tokenizer_of(config, model)
    encoder = RowEncoder(tokenizer, prompting, config.max_length, config.over_length, name)
    record = read_row(row, f"{name}, row {number}")
    columns = {name: values[0] for name, values in encoder([record], [number]).items()}

    console = Console(highlight=False)
    status = columns["status"]
    outcome = status if status in (KEPT, SHORTENED) else f"dropped ({status})"
    verdict = f", verdict {columns['verdict']}" if columns["verdict"] else ""
    console.print(
        f"row {number} ({record['id']}): {outcome}, {columns['length']:,} tokens, "
        f"{columns['target_tokens']:,} with loss{verdict}",
        style="bold",
        soft_wrap=True,
    )
    if status == SHORTENED:
        whole = replace(encoder, max_length=None)([record])["length"][0]
        console.print(f"whole it has {whole:,} tokens; its response lost the tail", style="yellow")
    text = Text()
    for style, ids in _runs(columns):
        text.append(tokenizer.decode(ids), style=style)
    console.print(text, soft_wrap=True)
    for line in tell_turns(tokenizer, turn_end_ids(tokenizer), as_trained(tokenizer)):
        console.print(line, style="yellow", soft_wrap=True, markup=False)
    console.print("plain: the prompt, no loss   green: has loss   reverse: the verdict", style="dim")
    _show_sharing(console, rows, encoder, config)


def _nothing_held_out(script: Any) -> Any:
    parts = script.datasets and [
        {key: value for key, value in part.items() if key not in ("eval_rows", "eval_split")}
        for part in script.datasets
    ]
    return replace(script, eval_rows=0, datasets=parts)


def _rows_of(script: Any, config: Any, part: str | None) -> tuple[Any, Prompting, str]:
    """The rows, how they become prompts, and what messages call them."""
    rows, _ = load_rows(script, evaluate=False)
    if not is_mixture(rows):
        if part is not None:
            raise CFTError(f"--part {part}: there is one dataset, without parts; leave it out")
        return rows, Prompting(config.objective, config.sft_target, config.wording), "train dataset"
    parts = {one.name or "": one for one in settled_parts(rows, config)}
    if part is not None and part not in parts:
        raise CFTError(f"--part {part}: there is no such part{nearest(part, parts)}; give one of {', '.join(parts)}")
    one = parts[part] if part is not None else next(iter(parts.values()))
    return one.rows, one.prompting, f"train dataset, part {one.name}"


def _show_sharing(console: Any, rows: Any, encoder: RowEncoder, config: Any) -> None:
    """What `share_prefixes` would save, read off the first rows."""
    from datasets import Dataset

    from cft_trl.training.prefix_sharing.packs import share_dataset

    first = [read_row(row, "train dataset") for row in islice(rows, _SHARING_ROWS)]
    features = encoder(first)
    used = [i for i, length in enumerate(features["length"]) if length]
    length = config.pack_length or config.max_length
    if not used or length is None:
        return
    columns = {name: [features[name][i] for i in used] for name in ("input_ids", "labels", "verdict_mask")}
    _, report = share_dataset(Dataset.from_dict(columns), length, f"share_prefixes, first {len(used):,} rows")
    state = "on" if config.share_prefixes else "off"
    console.print(f"{report} ({state} in these settings)", style="dim", soft_wrap=True)


def _runs(columns: dict[str, Any]) -> list[tuple[str, list[int]]]:
    """Consecutive tokens of one style, decoded together, since a character may span several tokens."""
    runs: list[tuple[str, list[int]]] = []
    for token, label, mask in zip(columns["input_ids"], columns["labels"], columns["verdict_mask"], strict=True):
        style = "reverse green" if mask >= RIGHT else "green" if label != -100 else ""
        if not runs or runs[-1][0] != style:
            runs.append((style, []))
        runs[-1][1].append(token)
    return runs
