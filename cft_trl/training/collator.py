"""`DataCollatorForCritique`: rows, raw or tokenised, to the batch a model takes.

[{"query": "2+2?", "response": "5", "critique": "2+2 is 4.\n\nConclusion: wrong [END]"}, ...]
    -> {"input_ids": (batch, length), "attention_mask": (batch, length), "labels": (batch, length)}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from cft_trl.data.prompts import Prompting
from cft_trl.data.read_rows import read_row
from cft_trl.errors import CFTError
from cft_trl.training.encoded import NO_VERDICT
from cft_trl.training.lengths import PreparationReport
from cft_trl.training.prefix_sharing.layout import position_ids
from cft_trl.training.prefix_sharing.packs import lay_out
from cft_trl.training.preparation import FEATURE_COLUMNS, RowEncoder
from cft_trl.training.trl_internals import DataCollatorForLanguageModeling

# What TRL's collator gives the kernels of GPUs; see its docstring.
_BOUNDARIES = ("cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k", "seq_idx")


@dataclass
class DataCollatorForCritique:
    """Pads rows to a batch with loss on the target tokens only; also works with plain `transformers.Trainer`
    (with `remove_unused_columns=False`, so that the raw columns reach it).

    Args:
        tokenizer: a fast tokenizer with an end token. Without a pad token the end token pads; padding is masked.
        objective: `cft`, `cgd` or `sft` (see `cft_trl.data.prompts`).
        max_length: longest row in tokens, or None.
        over_length: `shorten_response`, `drop` or `error` for longer rows.
        share_prefixes: lays the rows of a batch out as prefix trees, so that what their prompts begin with is computed
            once; the model's attention must be able to read that (`use_shared_attention(model)`).
        pad_to_multiple_of: pads to a multiple of this many tokens.
        sft_target, prompt_preset: as in `CFTConfig`.
        padding_free: joins the rows into one sequence with restarting position ids instead of padding.
        varlen_attention: with `padding_free`, gives the rows' ends as a layout that keeps them apart without a mask;
            the model's attention must be able to read that (`use_shared_attention(model)`).
        return_verdict_mask: adds what `CFTTrainer` measures verdicts with, and a plain model's forward does not take:
            `verdict_mask` (see `cft_trl.training.preparation`) and, for joined rows, `row_lengths`.

    Returns:
        From the call, a dict of int64 tensors: `input_ids`, `labels` (-100 where there is no loss) and
        `attention_mask`, each (batch, length); with `padding_free` (1, total length) and, in place of the mask,
        `position_ids` and the sequence boundaries that attention kernels take. With `share_prefixes`, for packs of
        shared prefixes, and with `varlen_attention`, (1, total length), `position_ids`, and as `attention_mask` the
        layout of the trees, (1, 1, 1, total length) (see `cft_trl.training.prefix_sharing.attention`).

    Raises:
        CFTError: no row of the batch can be used; a row is too long under `over_length="error"`.

    Attributes:
        report: `PreparationReport` of all raw rows seen: those kept, shortened and dropped.
    """

    tokenizer: Any
    objective: str = "cft"
    max_length: int | None = 2048
    over_length: str = "shorten_response"
    share_prefixes: bool = False
    pad_to_multiple_of: int | None = None
    sft_target: str = "response"
    prompt_preset: str = "paper"
    padding_free: bool = False
    varlen_attention: bool = False
    return_verdict_mask: bool = False
    report: PreparationReport = field(default_factory=lambda: PreparationReport("batches"), init=False, repr=False)

    def __post_init__(self) -> None:
        self._pad_token_id = self.tokenizer.pad_token_id
        if self._pad_token_id is None:
            self._pad_token_id = self.tokenizer.eos_token_id
        if self._pad_token_id is None:
            raise CFTError("the tokenizer has neither a pad nor an end token; set tokenizer.eos_token")
        self._batch = DataCollatorForLanguageModeling(
            self._pad_token_id, padding_free=self.padding_free, pad_to_multiple_of=self.pad_to_multiple_of
        )

    @cached_property
    def encoder(self) -> RowEncoder:
        """The encoder for raw rows, made when the first raw row comes."""
        prompting = Prompting(self.objective, self.sft_target, self.prompt_preset)
        return RowEncoder(self.tokenizer, prompting, self.max_length, self.over_length)

    def __call__(self, features: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        if "input_ids" not in features[0]:
            features = self._encode(features)
        if self.share_prefixes and "seen_until" not in features[0]:
            features = [lay_out(features)]
        if "seen_until" in features[0]:
            return self._join_packs(features)
        batch = self._batch(features)
        if self.return_verdict_mask and "verdict_mask" in features[0]:
            batch["verdict_mask"] = self._verdict_mask(features, batch["input_ids"].shape)
        if self.return_verdict_mask and self.padding_free:
            lengths = [len(row["input_ids"]) for row in features]
            lengths[-1] += batch["input_ids"].shape[1] - sum(lengths)  # padding to a multiple counts to the last
            batch["row_lengths"] = torch.tensor(lengths)
        if self.varlen_attention and self.padding_free:
            return self._without_mask(batch, sum(len(row["input_ids"]) for row in features))
        return batch

    @staticmethod
    def _without_mask(batch: dict[str, Any], tokens: int) -> dict[str, Any]:
        """The layout of rows that share nothing, in place of the boundaries; padding counts to the last row."""
        starts = (batch["position_ids"][0, :tokens] == 0).nonzero().flatten()
        ends = torch.cat([starts[1:], torch.tensor([batch["position_ids"].shape[1]])])
        layout = torch.repeat_interleave(ends, ends - starts).to(torch.int32)
        return {name: batch[name] for name in batch if name not in _BOUNDARIES} | {
            "attention_mask": layout[None, None, None]
        }

    def _join_packs(self, packs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        sizes = [len(pack["input_ids"]) for pack in packs]
        padding = -sum(sizes) % (self.pad_to_multiple_of or 1)

        def joined(name: str, fill: int, dtype: torch.dtype = torch.int64) -> torch.Tensor:
            parts = [torch.as_tensor(pack[name], dtype=dtype) for pack in packs]
            return torch.cat([*parts, torch.full((padding,), fill, dtype=dtype)])[None]

        total = sum(sizes) + padding
        layout = joined("seen_until", total, torch.int32)
        starts = torch.tensor([0, *sizes[:-1]]).cumsum(0)
        layout[0, : sum(sizes)] += torch.repeat_interleave(starts, torch.tensor(sizes))
        batch = {
            "input_ids": joined("input_ids", self._pad_token_id),
            "labels": joined("labels", -100),
            "position_ids": torch.tensor([position_ids(layout[0].tolist())]),
            "attention_mask": layout[:, None, None],
        }
        if self.return_verdict_mask:
            batch["verdict_mask"] = joined("verdict_mask", NO_VERDICT)
            batch["row_lengths"] = torch.tensor([*sizes[:-1], sizes[-1] + padding])
        return batch

    def _encode(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        columns = self.encoder([read_row(row, f"row {index}") for index, row in enumerate(rows)])
        self.report.add_columns(columns)
        features = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        features = [{name: row[name] for name in FEATURE_COLUMNS} for row in features if row["input_ids"]]
        if not features:
            raise CFTError(f"no row of this batch can be used: {', '.join(sorted(set(columns['status'])))}")
        return features

    def _verdict_mask(self, features: Sequence[Mapping[str, Any]], shape: torch.Size) -> torch.Tensor:
        masks = [torch.as_tensor(row["verdict_mask"], dtype=torch.int64) for row in features]
        out = torch.full(shape, NO_VERDICT)
        if self.padding_free:
            masks = [torch.cat(masks)]
        for row, mask in zip(out, masks, strict=True):
            row[: len(mask)] = mask
        return out
