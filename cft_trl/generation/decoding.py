"""What `model.generate` is told at each step: when a row has ended, and which token a seed draws.

A batch of two rows, stop string "[END]", after four steps:

    RowEnds.stopped  [True, False]      row 0 holds "… [END]"
    RowEnds.lengths  [4, 0]             and took four tokens; row 1 goes on
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import LogitsProcessor, StoppingCriteria, TopPLogitsWarper

from cft_trl.progress import wrote


class RowEnds(StoppingCriteria):
    """Ends a row at its own limit or with the first stop string, and remembers when.

    Args:
        decode: Tokens -> text.
        stop: Stop strings.
        width: Length of the (padded) rows before the first step, in tokens.
        written: How many of them, at the end of each row, are of its text and not of the prompt.
        limits: The most new tokens, per row.
        on_step: Sees the new tokens, [rows, steps]; returns whether all rows are to end.

    Attributes:
        lengths: New tokens of each row when it ended, 0 for one that has not.
        stopped: Whether a stop string ended it.
    """

    def __init__(
        self,
        decode: Callable[[Any], str],
        stop: Sequence[str],
        width: int,
        written: Sequence[int],
        limits: Sequence[int],
        on_step: Callable[[torch.Tensor], bool] | None = None,
    ) -> None:
        self.decode, self.stop, self.width, self.on_step = decode, tuple(stop), width, on_step
        self.written, self.limits = written, limits
        self.lengths, self.stopped = [0] * len(limits), [False] * len(limits)
        # A token is at least one byte: a stop string that the newest token completes lies within so many.
        self._tail = max((len(mark.encode()) for mark in stop), default=0)

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        steps = input_ids.shape[1] - self.width
        tails = input_ids[:, -self._tail :].tolist() if self._tail else [[]] * len(self.limits)
        for row, tail in enumerate(tails):
            if not self.lengths[row]:
                tail = tail[-(steps + self.written[row]) :]
                self.stopped[row] = bool(tail) and any(mark in self.decode(tail) for mark in self.stop)
                if self.stopped[row] or steps >= self.limits[row]:
                    self.lengths[row] = steps
        ended = [bool(length) for length in self.lengths]
        wrote(len(ended) - sum(ended))
        if self.on_step and self.on_step(input_ids[:, self.width :]):
            ended = [True] * len(ended)
        return torch.tensor(ended, device=input_ids.device)


class SeededSampling(LogitsProcessor):
    """Turns greedy search into sampling with one random stream per row.

    `argmax(log p - log e)` with e drawn from an exponential distribution is a sample of p. Each row has its own stream,
    so what it draws does not depend on its neighbours, and a run that goes on after a crash draws the same again.

    Args:
        streams: One `torch.Generator` per row, on the scores' device; it goes with the row into its next batch.
        temperature: Above 0.
        top_p: Samples among the likeliest tokens that have this much probability together.

    Example:
        >>> scores = torch.log(torch.tensor([[0.7, 0.2, 0.1]])).repeat(2000, 1)
        >>> streams = [torch.Generator().manual_seed(seed) for seed in range(2000)]
        >>> drawn = SeededSampling(streams, temperature=1.0, top_p=1.0)(None, scores).argmax(-1)
        >>> [round((drawn == token).float().mean().item(), 1) for token in range(3)]
        [0.7, 0.2, 0.1]
    """

    def __init__(self, streams: Sequence[torch.Generator], temperature: float, top_p: float) -> None:
        self.streams, self.temperature = streams, temperature
        self.top_p = TopPLogitsWarper(top_p) if top_p < 1 else None

    def __call__(self, input_ids: Any, scores: torch.Tensor) -> torch.Tensor:
        scores = scores.float() / self.temperature
        if self.top_p:
            scores = self.top_p(input_ids, scores)
        noise = torch.empty_like(scores)
        for row, stream in zip(noise, self.streams, strict=True):
            row.exponential_(generator=stream)
        return scores - noise.log()
