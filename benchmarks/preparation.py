"""(1) Preparation: rows per second from text to token ids with loss masks, against TRL on the same rows.

    python benchmarks/preparation.py                            2,000 arithmetic rows
    python benchmarks/preparation.py --data rows.jsonl.gz       your own, in any layout that cft_trl reads

Both take the rows as they would come from the Hub: TRL as prompt/completion messages, CFTTrainer as critique rows. The
ids and labels that come out are compared; rows that TRL cuts or loses (its policy differs) are left out beforehand.
"""

from __future__ import annotations

import argparse
import logging
import tempfile

import datasets
from measure import alternate, ratio, record, table, tiny

from cft_trl import CFTConfig, CFTTrainer
from cft_trl.data.prompts import Prompting, to_prompt_completion


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="file, folder or Hub id (default: arithmetic rows)")
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", default="smollm2-135m", help="whose tokenizer and template")
    parser.add_argument("--no-save", action="store_true")
    options = parser.parse_args()

    from trl import SFTConfig, SFTTrainer

    from cft_trl.models.loading import load_tokenizer

    datasets.disable_caching()
    datasets.disable_progress_bars()
    logging.disable(logging.WARNING)
    tokenizer = load_tokenizer(options.model)
    rows = load(options.data, options.rows, tokenizer)
    examples = datasets.Dataset.from_list([to_prompt_completion(row, Prompting(), chat=True) for row in rows])
    with tempfile.TemporaryDirectory() as folder:
        common = {"use_cpu": True, "bf16": False, "report_to": "none", "max_length": 2048}
        peer = SFTTrainer(tiny(tokenizer), SFTConfig(folder, **common), train_dataset=examples.select(range(2)),
                          processing_class=tokenizer)  # fmt: skip
        ours = CFTTrainer(tiny(tokenizer), CFTConfig(folder, **common), train_dataset=rows.select(range(2)),
                          processing_class=tokenizer)  # fmt: skip
    results = {}

    def run(name, trainer, data):
        def prepare():
            results[name] = trainer._prepare_dataset(data, tokenizer, trainer.args, False, None, "train")

        return prepare

    seconds = alternate({"TRL": run("TRL", peer, examples), "cft-trl": run("cft-trl", ours, rows)}, options.rounds)
    same = sum(a["input_ids"] == b["input_ids"] for a, b in zip(results["TRL"], results["cft-trl"], strict=True))
    lines = [{"": name, "rows/s": " ".join(f"{len(rows) / s:,.0f}" for s in taken)} for name, taken in seconds.items()]
    body = f"{len(rows):,} rows, {same:,} with the same token ids in both; one value per round\n\n{table(lines)}\n\n"
    body += f"cft-trl is {ratio(seconds['TRL'], seconds['cft-trl'])} as fast."
    record("Preparation", body, save=not options.no_save)


def load(data: str | None, count: int, tokenizer) -> datasets.Dataset:
    from cft_trl.data.records import features
    from cft_trl.sources.arithmetic import arithmetic_records
    from cft_trl.sources.local import load_local
    from cft_trl.training.preparation import RowEncoder

    if data is None:
        return datasets.Dataset.from_list(list(arithmetic_records(count, seed=0)), features=features())
    rows = load_local(data)
    encoder = RowEncoder(tokenizer, Prompting(), None)
    whole = [i for i in range(len(rows)) if rows[i]["critique"]][: 2 * count]
    lengths = encoder([rows[i] for i in whole])["length"]
    return rows.select([i for i, length in zip(whole, lengths, strict=True) if 0 < length <= 2048][:count])


if __name__ == "__main__":
    main()
