r"""The model that lighteval's pipeline asks: answers from the journal first, and from a generator what is missing.

    model = JournaledModel(claim.key, Asking(samples=4, temperature=0.6), lambda kept: generator, Journal("out"))
    Pipeline(..., model=model).evaluate()
    model.answers["cft_aime24|0", "7"]    # [Answer(conversation=[…], kept={"text": "…", "finish_reason": "stop", …})]

A generation is in the journal before the next is waited for, so a run that was killed goes on from those it has. What
a sample draws depends on the run's seed, the problem and the sample's number: nothing that an interruption changes.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from lighteval.models.abstract_model import LightevalModel, ModelConfig
from lighteval.models.model_output import ModelResponse
from lighteval.tasks.requests import Doc

from cft_trl.data.prompts import Wording, told_wording
from cft_trl.evaluation.backends import not_answered
from cft_trl.generation.generate import requests_of
from cft_trl.generation.journal import Journal, request_key
from cft_trl.generation.journaled import Journaled, graded_entry
from cft_trl.generation.modes import Outcome, mode_conversation, run_mode
from cft_trl.generation.types import Generation
from cft_trl.grading.benchmarks import BENCHMARKS, Benchmark

Message = dict[str, str]


@dataclass(frozen=True)
class Asking:
    """How problems are asked: the part of a run's settings that a generation depends on, besides model and prompt."""

    mode: str = "direct"
    samples: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    max_new_tokens: int | None = None
    prompt_preset: str | Wording = "paper"


@dataclass
class Answer:
    """One generation: what was asked, its key in the journal, and what is kept there.

    `kept` holds `text`, `finish_reason`, `prompt_tokens`, `completion_tokens`, `rounds` and, where there were any,
    `verdicts` (of a two-stage run's critiques), `failure` and the endpoint's `fingerprint`.
    """

    benchmark: Benchmark
    query: str
    conversation: list[Message]
    key: str
    seed: int
    kept: dict[str, Any] = field(default_factory=dict)


class JournaledModel(LightevalModel):
    """A lighteval model over a `LocalModel` or `Endpoint`.

    Args:
        who: The key of the model's identity (`Claim.key`); part of every answer's key.
        asking: How problems are asked.
        open_generator: Gives the generator, told how many answers are kept; not called when the journal has them all.
        journal: Keeps generations.
        on_result: Called with the number of answers that are there: those of the journal first, then one by one.
        remote: Whether an endpoint answers: what it refuses is neither kept nor taken from an earlier run's journal.

    Attributes:
        answers: (task, doc id) -> its answers, by sample (MT-Bench: by turn).
        from_journal: How many were not asked for.

    Raises:
        CFTError: From `greedy_until`, that an endpoint refused some of the requests; the others' answers are kept.
    """

    def __init__(
        self,
        who: str,
        asking: Asking,
        open_generator: Callable[[int], Any],
        journal: Journal,
        on_result: Callable[[int], Any] = lambda count: None,
        remote: bool = False,
    ) -> None:
        self.config = ModelConfig(model_name=who)
        self.asking, self.open_generator, self.on_result = asking, open_generator, on_result
        self.journal = journal
        self.answers: dict[tuple[str, str], list[Answer]] = {}
        self.from_journal, self.remote = 0, remote
        # The pipeline hands its registry to the model's cache; ours is the journal.
        self._cache = SimpleNamespace(_init_registry=lambda registry: None)

    def greedy_until(self, docs: list[Doc]) -> list[ModelResponse]:
        """The texts of each doc, `asking.samples` of them; MT-Bench's are its two turns."""
        second: list[tuple[Doc, Answer]] = []
        for doc in docs:
            row = json.loads(doc.specific["row"])
            benchmark = _benchmark(doc)
            if benchmark.answer == "judge":
                first = self._answer(benchmark, row["id"], row["query"], 0)
                self.answers[doc.task_name, doc.id] = [first]
                second.append((doc, first))
            else:
                self.answers[doc.task_name, doc.id] = [
                    self._answer(benchmark, row["id"], row["query"], sample) for sample in range(self.asking.samples)
                ]
        self._complete([answer for doc in docs for answer in self.answers[doc.task_name, doc.id]])
        for doc, first in second:
            row = json.loads(doc.specific["row"])
            said = [*first.conversation, {"role": "assistant", "content": first.kept["text"]}]
            turn = row["meta"]["turns"][1]
            answer = self._answer(first.benchmark, row["id"], turn, 1, [*said, {"role": "user", "content": turn}])
            self.answers[doc.task_name, doc.id].append(answer)
        self._complete([self.answers[doc.task_name, doc.id][1] for doc, _ in second])
        return [
            ModelResponse(
                input=json.dumps(self.answers[doc.task_name, doc.id][0].conversation),
                text=[answer.kept["text"] for answer in self.answers[doc.task_name, doc.id]],
            )
            for doc in docs
        ]

    def _answer(
        self, benchmark: Benchmark, name: str, query: str, sample: int, conversation: list[Message] | None = None
    ) -> Answer:
        asking = self.asking
        mode = "direct" if benchmark.answer == "judge" else asking.mode
        conversation = conversation or mode_conversation(mode, query, system=benchmark.system)
        drawn = f"{asking.seed}|{name}|{sample}".encode()
        seed = int.from_bytes(hashlib.sha256(drawn).digest()[:4], "big") >> 1 if asking.temperature > 0 else 0
        sampling = {
            "mode": mode,
            "temperature": asking.temperature,
            "top_p": asking.top_p,
            "seed": seed,
            "max_new_tokens": asking.max_new_tokens or benchmark.max_new_tokens,
            "stop": list(benchmark.stop),
        }
        if mode != "direct":
            sampling["preset"] = told_wording(asking.prompt_preset)
        key = request_key(self.config.model_name, conversation, sampling, sample)
        return Answer(benchmark, query, conversation, key, seed)

    def _complete(self, answers: Sequence[Answer]) -> None:
        """Fills `kept`, from the journal or the generator."""
        missing: dict[str, Answer] = {answer.key: answer for answer in answers if not self._is_kept(answer.key)}
        refused: list[str | None] = []
        here = len(answers) - len(missing)
        self.from_journal += here
        self.on_result(here)
        groups: dict[tuple[str, Any], list[Answer]] = defaultdict(list)
        for answer in missing.values():
            mode = "direct" if answer.benchmark.answer == "judge" else self.asking.mode
            groups[mode, answer.benchmark.name if mode != "direct" else _sampled_alike(answer.benchmark)].append(answer)
        for (mode, _), group in groups.items():
            refused += self._generate(mode, group)
        if error := not_answered("problems", refused, len(answers)):
            raise error
        for answer in answers:
            answer.kept = self.journal.get(answer.key) or {}

    def _is_kept(self, key: str) -> bool:
        if key not in self.journal:
            return False
        # Earlier versions kept refusals, as if they were answers.
        return not (self.remote and (self.journal.get(key) or {}).get("failure"))

    def _generate(self, mode: str, answers: list[Answer]) -> list[str | None]:
        """Asks for answers that are alike; returns why requests were refused."""
        asking, benchmark = self.asking, answers[0].benchmark
        settings: dict[str, Any] = {
            "max_new_tokens": asking.max_new_tokens or benchmark.max_new_tokens,
            "temperature": asking.temperature,
            "top_p": asking.top_p,
            "stop": benchmark.stop,
            "seed": [answer.seed for answer in answers] if asking.temperature > 0 else None,
        }
        keys = [answer.key for answer in answers]
        model = Journaled(self.open_generator(self.from_journal), self.journal, self.config.model_name, _entry)
        if mode == "direct":
            conversations = [answer.conversation for answer in answers]
            model.fill(requests_of(model.asked, conversations, keys=keys, **settings), self.on_result)
            return model.refused

        def keep(at: int, outcome: Outcome) -> None:
            if model.keep(keys[at], outcome):
                self.on_result(1)

        run_mode(
            model.asked,
            [answer.query for answer in answers],
            mode,
            system=benchmark.system,
            prompt_preset=asking.prompt_preset,
            on_result=keep,
            **settings,
        )
        return model.refused

    # What lighteval asks of every model; ours generates only.

    @property
    def tokenizer(self) -> Any:
        return None

    @property
    def add_special_tokens(self) -> bool:
        return False

    @property
    def max_length(self) -> int:
        return 2**31

    def loglikelihood(self, docs: list[Doc]) -> list[ModelResponse]:
        raise NotImplementedError("our tasks are answered in words")

    def loglikelihood_rolling(self, docs: list[Doc]) -> list[ModelResponse]:
        raise NotImplementedError("our tasks are answered in words")


def _entry(made: Generation | Outcome) -> dict[str, Any]:
    """What is kept: of a mode, how many rounds it took, and the verdicts of those that were critiqued."""
    rounds = getattr(made, "rounds", ())
    verdicts = [one.verdict for one in rounds if one.critique is not None]
    return graded_entry(made) | {"rounds": len(rounds) or 1} | ({"verdicts": verdicts} if verdicts else {})


def _benchmark(doc: Doc) -> Benchmark:
    return BENCHMARKS[doc.task_name.partition("|")[0].removeprefix("cft_").replace("_", "-")]


def _sampled_alike(benchmark: Benchmark) -> tuple[Any, ...]:
    """Benchmarks with the same limits are asked together, so that an endpoint is never idle between two of them."""
    return benchmark.stop, benchmark.max_new_tokens
