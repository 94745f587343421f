"""Rows to token ids in one batched pass: prompt, target, loss mask, verdict mask, over-length policy.

One row on its way (ChatML template, `.` marks a position without loss):

    tokens        <|im_start|> user ⏎ … <|im_start|> assistant ⏎ Crit ique : … Conclusion : ␣wrong ␣[ END ] <|im_end|> ⏎
    labels        .            .    . … .            .         . Crit ique : … Conclusion : ␣wrong ␣[ END ] <|im_end|> .
    verdict_mask  0            0    0 … 0            0         0 0    0    0 … 0          0 2      0  0   0 0          0

The ids equal those of TRL's own preparation of the same prompt/completion row. The labels end at the turn's end
token: what a template writes after it (ChatML's line feed) is never generated and has no loss.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from cft_trl.data import prompts
from cft_trl.data.layouts import find_layout
from cft_trl.data.prompts import Prompting, to_prompt_completion
from cft_trl.data.read_rows import is_read, read_row
from cft_trl.data.records import reading_digest, with_class_names
from cft_trl.data.verdict_grammar import StatedVerdict
from cft_trl.errors import CFTError
from cft_trl.models import chat_templates
from cft_trl.models.chat_templates import AnswerFrame, answer_frame, special_ids
from cft_trl.training import encoded, pieces, tokens
from cft_trl.training.encoded import (
    NO_VERDICT,
    RIGHT,
    TOKEN_FEATURES,
    WRONG,
    Encoded,
    arrow_columns,
    arrow_table,
    list_columns,
)
from cft_trl.training.lengths import KEPT, OVER_LENGTH, REWRITTEN, SHORTENED
from cft_trl.training.tokens import TextTokenizer, Tokenized, check_tokenizer, common_prefix

if TYPE_CHECKING:
    import pyarrow

FEATURE_COLUMNS = tuple(TOKEN_FEATURES)
# What templates do to the ends of a text.
_STRIPS = (lambda text: text.lstrip("\n"), lambda text: text.strip("\n"), str.lstrip, str.rstrip, str.strip)


@dataclass(frozen=True)
class _Texts:
    """A row as text: what has no loss, prompt and target, the target as rendered, and where it starts in `full`.

    `cut`: how many characters the rendered target lacks at its beginning; `verdict`: what the critique in it states.
    """

    prompt: str
    full: str
    target: str
    start: int
    trimmed: bool = False
    cut: int = 0
    verdict: StatedVerdict | None = None


@dataclass
class RowEncoder:
    """Turns rows into features: `encoder(rows)`, or `encoder.map_batch` as a batched `Dataset.map` function.

    Args:
        tokenizer: a fast tokenizer with an end token; with a chat template rows become chats, without one plain text.
        prompting: objective, target and wording.
        max_length: longest row in tokens, or None.
        over_length: `shorten_response`, `drop` or `error` (see `cft_trl.training.lengths`).
        name: what messages call the rows.
        part: their number in a mixture, which `verdict_mask` says too (see `cft_trl.training.encoded`).

    Raises:
        CFTError: the tokenizer has no end token or is not a fast one; `max_length` leaves no room after the
            template; unknown policy.
    """

    tokenizer: Any
    prompting: Prompting
    max_length: int | None = 2048
    over_length: str = "shorten_response"
    name: str = "dataset"
    part: int = 0

    def __post_init__(self) -> None:
        if self.over_length not in OVER_LENGTH:
            raise CFTError(f"over_length={self.over_length}: unknown; give one of {', '.join(OVER_LENGTH)}")
        check_tokenizer(self.tokenizer)
        if self.max_length is not None and self.max_length <= self.template_tokens:
            raise CFTError(
                f"max_length={self.max_length} is not larger than the prompt template alone "
                f"({self.template_tokens} tokens); raise max_length"
            )

    @property
    def chat(self) -> bool:
        return bool(self.tokenizer.chat_template)

    @cached_property
    def template_tokens(self) -> int:
        """Tokens of a row whose texts are all empty: what the wording and the chat template cost."""
        blank = {"query": "", "response": "", "critique": "", "refinement": ""}
        return len(self._tokenize([self._texts(blank, None).full])[0].ids)

    def map_batch(
        self, batch: Mapping[str, Sequence[Any]], indices: Sequence[int], labels: Mapping[str, list[str]]
    ) -> pyarrow.Table:
        """For `Dataset.map(batched=True, with_indices=True)`: rows of any published layout, one output row for each.

        Args:
            batch, indices, labels: as for `read_batch`.

        Returns:
            The columns of a call as an Arrow table, which `datasets` writes as it is.
        """
        return arrow_table(self._columns(self.read_batch(batch, indices, labels), indices, arrow_columns))

    def read_batch(
        self, batch: Mapping[str, Sequence[Any]], indices: Sequence[int], labels: Mapping[str, list[str]]
    ) -> list[Mapping[str, Any]]:
        """A batch of columns of any published layout as rows that have been read (`data.read_rows`), without `meta`.

        Args:
            batch: column -> its values, one per row.
            indices: the rows' numbers in their dataset, for messages.
            labels: names of the dataset's `ClassLabel` columns (`cft_trl.data.records.class_names`).
        """
        if not is_read(batch):
            find_layout(batch, self.name)
        # What a source or a teacher noted of the row is often its largest column; nothing here reads it.
        columns = {name: batch[name] if name != "meta" else [None] * len(indices) for name in batch}
        rows = (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))
        places = (f"{self.name}, row {i}" for i in indices)
        return [read_row(with_class_names(row, labels), place) for row, place in zip(rows, places, strict=True)]

    def __getstate__(self) -> dict[str, Any]:
        # `datasets` keys its cache by the pickled function: without what was computed on the way, and with the code
        # that decides on the result, so that a new release prepares anew.
        fields = ("tokenizer", "prompting", "max_length", "over_length", "name", "part")
        code = (__file__, *(module.__file__ for module in (encoded, tokens, pieces, prompts, chat_templates)))
        return {name: self.__dict__[name] for name in fields} | {"code": reading_digest(*code)}

    def __call__(self, rows: Sequence[Mapping[str, Any]], indices: Sequence[int] | None = None) -> dict[str, list[Any]]:
        """Encodes rows.

        Args:
            rows: house rows (`cft_trl.data.records`), read already (`cft_trl.data.read_rows`) or made by hand.
            indices: the rows' numbers in their dataset, for messages.

        Returns:
            Columns, one entry per row: `input_ids`, `labels`, `verdict_mask` (lists of int, empty for a dropped
            row), `status` (`kept`, `shortened`, or why the row was dropped), `verdict` (`right`, `wrong`, `none`
            as the critique states it, or empty where the target is no critique), `length` and `target_tokens` (int),
            `disagrees` (bool: the critique states the other verdict than the row's label), `end` (int: the end token's
            id, -1 for a dropped row), `altered` (the row's id where the chat template changes its target, else empty).

        Raises:
            CFTError: a row is longer than `max_length` under `over_length="error"`.
        """
        return self._columns(rows, range(len(rows)) if indices is None else indices, list_columns)

    def _columns(
        self, rows: Sequence[Mapping[str, Any]], indices: Sequence[int], token_columns: Callable[..., dict[str, Any]]
    ) -> dict[str, Any]:
        stated = list(map(self.prompting.stated_in, rows))
        statuses = [self.prompting.unusable(row) or KEPT for row in rows]
        usable = [i for i, status in enumerate(statuses) if status == KEPT]
        items: list[Encoded | None] = [None] * len(rows)
        for i, item in zip(usable, self._encode([self._texts(rows[i], stated[i]) for i in usable]), strict=True):
            items[i] = item
            if item is None:
                statuses[i] = REWRITTEN
            elif self.max_length is not None and len(item.input_ids) > self.max_length:
                items[i], statuses[i] = self._fit(rows[i], stated[i], item, indices[i])
        return {
            **token_columns(items, self.part),
            "status": statuses,
            "verdict": [
                (said.verdict if said else "none") if item and self.prompting.objective == "cft" else ""
                for said, item in zip(stated, items, strict=True)
            ],
            "length": [len(item.input_ids) if item else 0 for item in items],
            "target_tokens": [item.end - item.start if item else 0 for item in items],
            "disagrees": [
                item is not None and said is not None and row.get("verdict") not in (None, said.verdict)
                for row, said, item in zip(rows, stated, items, strict=True)
            ],
            "end": [item.input_ids[item.end - 1] if item else -1 for item in items],
            "altered": [
                str(row.get("id") or f"row {index}") if status == REWRITTEN or (item and item.trimmed) else ""
                for row, item, status, index in zip(rows, items, statuses, indices, strict=True)
            ],
        }

    def _texts(self, row: Mapping[str, Any], stated: StatedVerdict | None, response: str | None = None) -> _Texts:
        if response is not None:
            row = {**row, "response": response}
        example = to_prompt_completion(row, self.prompting, self.chat)
        if self.chat:
            target = example["completion"][0]["content"]
            full = self.tokenizer.apply_chat_template(example["prompt"] + example["completion"], tokenize=False)
            texts = self._place(full, target)
        else:
            prompt, target = example["prompt"], example["completion"]
            eos = self.tokenizer.eos_token
            rendered = target.removesuffix(eos)
            texts = _Texts(prompt, prompt + rendered + eos, rendered, len(prompt))
        if stated is None or self.prompting.objective != "cft":
            return texts
        before = len(target) - len(row["critique"]) - texts.cut  # a target ends with its critique
        return replace(texts, verdict=StatedVerdict(stated.verdict, stated.start + before, stated.end + before))

    def _place(self, full: str, target: str) -> _Texts:
        """Finds the target by what the template writes around it; `start` is -1 where it wrote something else.

        From the end, because a short target may stand in the query and in the template's own words too. Some templates
        trim it; one that rewrites it (DeepSeek's and Qwen3's cut at `</think>`) leaves nothing to put the loss on.
        """
        frame = self._frame
        if frame is not None and full.endswith(frame.closing):
            end = len(full) - len(frame.closing)
            for kept in (target, *(strip(target) for strip in _STRIPS)):
                start = end - len(kept)
                if full.endswith(kept, 0, end) and full.endswith(frame.lead, 0, start):
                    prompt = full[: start - len(frame.written)]
                    return _Texts(prompt, full, kept, start, kept != target, cut=target.find(kept))
        return _Texts("", full, target, -1)

    @cached_property
    def _frame(self) -> AnswerFrame | None:
        return answer_frame(self.tokenizer)

    @cached_property
    def _tokenize(self) -> TextTokenizer:
        # Chat templates write their own special tokens; for plain text the tokenizer adds them, as TRL does.
        return TextTokenizer(self.tokenizer, add_special_tokens=not self.chat)

    def _encode(self, texts: Sequence[_Texts]) -> list[Encoded | None]:
        return list(map(self._mark, texts, self._tokenize([text.full for text in texts])))

    def _mark(self, texts: _Texts, row: Tokenized) -> Encoded | None:
        """Finds the tokens with loss and those of the verdict.

        None where the chat template rewrote the target.
        """
        if texts.start < 0:
            return None
        ids = row.ids
        end = len(ids)
        # Loss starts where the prompt's text ends. Tokenising the prompt alone and comparing ids, as TRL does, costs
        # a second pass and gives the same except where whitespace tokenises differently at a text's end.
        start = row.token_at(len(texts.prompt))
        if start is None:  # whitespace that belongs to no token
            start = common_prefix(self._tokenize([texts.prompt])[0].ids, ids)
        elif row.begins_before(start, len(texts.prompt)):
            start += 1  # line feeds of prompt and target in one token, which no generation begins with
        # The first special token after the target ends the turn. A template that writes none gets the tokenizer's
        # end token, else the student would never learn to stop.
        text_end = texts.start + len(texts.target)
        after = row.token_at(text_end) if text_end < len(texts.full) else None
        places = range(end if after is None else after, end)
        closing = next((p for p in places if ids[p] in self._special_ids), None)
        if closing is not None:
            end = closing + 1
        elif ids[-1] != self.tokenizer.eos_token_id:
            ids = ids + array("i", [self.tokenizer.eos_token_id])
            end += 1
        verdict, verdict_class = range(0), NO_VERDICT
        if texts.verdict is not None:
            first, last = (row.token_at(texts.start + at) for at in (texts.verdict.start, texts.verdict.end - 1))
            assert first is not None  # a verdict is a word, and a word is in tokens
            assert last is not None
            verdict = range(first, last + 1)
            verdict_class = RIGHT if texts.verdict.verdict == "right" else WRONG
        return Encoded(ids, start, end, verdict, verdict_class, texts.trimmed)

    def _fit(
        self, row: Mapping[str, Any], stated: StatedVerdict | None, item: Encoded, index: int
    ) -> tuple[Encoded | None, str]:
        """Applies the over-length policy to a row of more than `max_length` tokens."""
        length, most = len(item.input_ids), self.max_length
        assert most is not None  # without a limit no row is too long
        if self.over_length == "error":
            raise CFTError(
                f"{self.name}, row {index}: {length:,} tokens, more than max_length={self.max_length:,}; "
                "raise max_length, or choose over_length=shorten_response or drop"
            )
        too_long = f"longer than {self.max_length:,} tokens"
        if self.over_length == "drop":
            return None, too_long
        if not self.prompting.shortens_response:
            return None, f"{too_long} (the response is the target, which is never cut)"
        bare = self._encode([self._texts(row, stated, "")])[0]
        if bare is None or len(bare.input_ids) >= most:
            return None, f"{too_long} even without any response"
        offsets = self.tokenizer(row["response"], add_special_tokens=False, return_offsets_mapping=True, verbose=False)[
            "offset_mapping"
        ]
        keep = len(offsets)
        share = min(1.0, 0.1 + keep / max(1, length - len(bare.input_ids)))  # a "Step 3: " goes with its line
        while length > most:
            # Tokens merge differently at the new end, so the first cut may leave a token too many.
            keep -= max(1, int((length - most) * share))
            if keep < 1:
                return None, f"{too_long} even without any response"
            cut = self._encode([self._texts(row, stated, row["response"][: offsets[keep - 1][1]])])[0]
            assert cut is not None  # the template kept this target before
            item, length = cut, len(cut.input_ids)
        return item, SHORTENED

    @cached_property
    def _special_ids(self) -> frozenset[int]:
        return special_ids(self.tokenizer)
