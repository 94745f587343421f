"""For the tests of evaluation: small benchmarks on disk, and generators that answer without a model.

write_benchmark(folder, "gsm8k", [{"question": "What is 2 + 3?", "answer": "#### 5"}])
"""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

from cft_trl.generation.types import Generation
from cft_trl.grading.benchmarks import BENCHMARKS, FOLDER_VARIABLE

GSM8K = [{"question": f"What is {n} + 3?", "answer": f"It is {n + 3}. #### {n + 3}"} for n in range(8)]
MATH_500 = [{"problem": f"Halve ${n}$.", "answer": rf"\frac{{{n}}}{{2}}", "level": 1} for n in range(1, 6)]
AMC23 = [{"question": f"Double {n}.", "answer": float(2 * n)} for n in range(4)]
LETTERS = [
    {"question": f"Which is {n}?", "options": [str(n + i) for i in range(4)], "answer": "A", "category": "easy"}
    for n in range(4)
]
IFEVAL = [
    {"key": 1, "prompt": "Write without commas.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]},
    {
        "key": 2,
        "prompt": "Write two sentences or more, without commas.",
        "instruction_id_list": ["punctuation:no_comma", "length_constraints:number_sentences"],
        "kwargs": [{}, {"relation": "at least", "num_sentences": 2}],
    },
]
MT_BENCH = [{"category": "writing", "turns": [f"Write of {n}.", "Now shorter."]} for n in range(2)]
ROWS = {
    "gsm8k": GSM8K, "math-500": MATH_500, "amc23": AMC23, "mmlu-pro": LETTERS, "ifeval": IFEVAL, "mt-bench": MT_BENCH,
}  # fmt: skip


def write_benchmarks(folder, monkeypatch, names=tuple(ROWS)):
    """Writes small benchmarks, makes their sizes the published ones and the folder the one that is read."""
    for name in names:
        path = folder / name.replace("-", "_")
        path.mkdir(parents=True)
        (path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS[name]))
        monkeypatch.setitem(BENCHMARKS, name, dataclasses.replace(BENCHMARKS[name], size=len(ROWS[name])))
    monkeypatch.setenv(FOLDER_VARIABLE, str(folder))
    return folder


class Scripted:
    """A generator whose text is a function of the conversation and the seed; it can die in the middle.

    Attributes:
        asked: (last user turn, seed) of everything that was asked.
        dies_after: So many answers, then OSError; None never.
    """

    def __init__(self, answer, dies_after=None):
        self.answer, self.dies_after, self.asked, self.systems = answer, dies_after, [], set()

    def write(self, requests, on_result=None):
        made = []
        for index, request in enumerate(requests):
            conversation = request.messages
            if self.dies_after is not None and len(self.asked) >= self.dies_after:
                raise OSError("killed")
            drawn = request.sampling.get("seed")
            self.asked.append((conversation[-1]["content"], drawn))
            self.systems.add(conversation[0]["content"] if conversation[0]["role"] == "system" else None)
            text = self.answer(conversation, drawn)
            made.append(Generation(text, "length" if text.endswith("…") else "stop", 10, len(text.split())))
            if on_result:
                on_result(index, made[-1])
        return made


def backend(generator, **identity):
    """Stands in for `Backend`; `opened` counts how often the model was needed."""

    def open_generator():
        one.opened += 1
        return generator

    about = {"model": "m", "source": "m", "revision": None, "kind": "transformers", "base_changed": lambda: None}
    one = SimpleNamespace(**about, opened=0, generator=open_generator)
    one.commit = lambda: None
    one.identity = lambda: {"kind": "transformers", "model": {"kind": "folder", "weights": "9f2c", **identity}}
    one.run_id = lambda: None
    return one


def right_for_even(conversation, seed=None):
    """Answers GSM8K's problems, those with an even number rightly."""
    n = int(conversation[-1]["content"].split()[2])
    return rf"Adding gives \boxed{{{n + 3 + n % 2}}}."
