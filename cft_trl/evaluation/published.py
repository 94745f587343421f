"""The published scores that a report shows beside its own, as the papers print them.

    PublishedRow("Qwen2.5-Math-7B", "CFT", "arXiv 2501.17703 v4", {"math": 80.2, "minerva-math": 42.3, ...}, 57.1)

They come from the published grader, which accepts wrong numbers (it is our `paper` grader), one greedy run, and a
checkpoint chosen on problems that are among those reported. So they stand beside our `paper` scores only.
"""

from __future__ import annotations

from dataclasses import dataclass

from cft_trl.grading.benchmarks import SIX

_V1, _V4 = "arXiv 2501.17703 v1", "arXiv 2501.17703 v4"
_CGD = "arXiv 2505.11628"


@dataclass(frozen=True)
class PublishedRow:
    """One line of a published table.

    Attributes:
        model, method: The base model and what was done to it.
        source: The paper.
        scores: Benchmark -> percent.
        average: As printed, of all six or of what `average_of` says; None where none is printed.
        average_of: The benchmarks averaged, in words.
    """

    model: str
    method: str
    source: str
    scores: dict[str, float]
    average: float | None
    average_of: str = "the six"


def _six(model: str, method: str, source: str, *figures: float) -> PublishedRow:
    *scores, average = figures
    return PublishedRow(model, method, source, dict(zip(SIX, scores, strict=True)), average)


PUBLISHED = (
    _six("Qwen2.5-Math-7B", "base", _V4, 55.4, 13.6, 91.6, 16.1, 10.0, 40.0, 37.8),
    _six("Qwen2.5-Math-7B", "SFT", _V4, 59.0, 13.2, 77.4, 19.9, 3.3, 37.5, 35.1),
    _six("Qwen2.5-Math-7B", "verified SFT", _V4, 62.0, 12.5, 78.8, 22.1, 16.7, 50.0, 40.4),
    _six("Qwen2.5-Math-7B", "SFT on GPT-4o's answers", _V4, 73.2, 25.7, 90.0, 37.6, 13.3, 62.5, 50.4),
    _six("Qwen2.5-Math-7B", "CFT", _V1, 79.4, 36.8, 90.9, 41.6, 20.0, 67.5, 56.0),
    _six("Qwen2.5-Math-7B", "CFT", _V4, 80.2, 42.3, 90.9, 41.6, 20.0, 67.5, 57.1),
    _six("DeepSeek-Math-7B", "CFT", _V4, 42.2, 12.5, 74.5, 12.4, 3.3, 20.0, 27.5),
    _six("Qwen2.5-7B", "CFT", _V4, 71.1, 27.9, 88.8, 35.7, 13.3, 55.0, 48.6),
    PublishedRow("LLaMA3.1-8B-Instruct", "base", _CGD, {"ifeval": 76.9}, None),
    PublishedRow("LLaMA3.1-8B-Instruct", "distilled SFT", _CGD, {}, 43.7, "five math tasks"),
    PublishedRow("LLaMA3.1-8B-Instruct", "CFT", _CGD, {"ifeval": 55.6}, 41.5, "five math tasks"),
    PublishedRow("LLaMA3.1-8B-Instruct", "CGD", _CGD, {"ifeval": 76.1}, 46.9, "five math tasks"),
)
