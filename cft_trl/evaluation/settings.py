"""What `cft eval` asks: benchmarks with their limits, samples, modes, graders.

EvalSettings(parse_tasks("gsm8k:100,math-500"), samples=8, temperature=0.6)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge, Interval

from cft_trl.data.prompts import PresetName, Wording, told_wording
from cft_trl.data.settings import Count, Listed, check_settings
from cft_trl.errors import CFTError
from cft_trl.generation.modes import mode_conversation
from cft_trl.generation.types import STOP_STRINGS
from cft_trl.grading.benchmarks import BENCHMARKS, MATH_SYSTEM, SIX, get_benchmark

# All but the set for choosing checkpoints and the part of MATH that is scored with the whole.
ALL = tuple(name for name in BENCHMARKS if name not in ("math-validation", "math-500"))


@dataclass(frozen=True)
class EvalSettings:
    """What is asked and how; the model and where it runs are a `Backend`.

    Attributes:
        tasks: Benchmark -> how many of its problems, from the first on; None for all.
        graders: Of "strict" and "paper".
        samples: Generations per problem.
        temperature, top_p: 0 is greedy.
        seed: What samples are drawn from; another seed draws others.
        max_new_tokens: Limit per generation; None is the published one, 2048.
        mode: "direct", "single_pass" or "two_stage" (`generation/modes.py`).
        prompt_preset: Wording of the critique prompt, for "two_stage".
        judge: "MODEL" or "MODEL@URL", for MT-Bench.
        judge_extra: Further fields of each request to the judge (see `Endpoint`).

    Raises:
        CFTError: A value that is none of its field's; several samples at temperature 0; MT-Bench without a judge.
    """

    tasks: Mapping[str, Count | None]
    graders: Annotated[tuple[Literal["strict", "paper"], ...], Listed()] = ("strict", "paper")
    samples: Count = 1
    temperature: Annotated[float, Ge(0)] = 0.0
    top_p: Annotated[float, Interval(ge=0, le=1)] = 1.0
    seed: int = 0
    max_new_tokens: Count | None = None
    mode: Literal["direct", "single_pass", "two_stage"] = "direct"
    prompt_preset: PresetName | Wording = "paper"
    judge: str | None = None
    judge_extra: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.mode == "critique":
            raise CFTError("mode 'critique' answers no problems; a critic is measured by `cft eval-critic`")
        check_settings(self, lambda field: "grader" if field == "graders" else field)
        if self.samples > 1 and self.temperature == 0:
            raise CFTError(
                f"samples={self.samples} at temperature 0 repeats one greedy run {self.samples} times and makes its "
                "interval no narrower; give --temperature 0.6 or --samples 1"
            )
        if "mt-bench" in self.tasks and not self.judge:
            raise CFTError("mt-bench needs a judge: give --judge MODEL or MODEL@URL, or leave mt-bench out")

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON holds them."""
        return {**asdict(self), "prompt_preset": told_wording(self.prompt_preset)}

    @property
    def limit(self) -> int | dict[str, int | None] | None:
        """The number that holds for all tasks, or one for each."""
        limits = set(self.tasks.values())
        return limits.pop() if len(limits) == 1 else dict(self.tasks)

    @property
    def prompt(self) -> dict[str, Any]:
        """What every problem is asked with; the digest changes with anything that changes a prompt."""
        parts = {"system": MATH_SYSTEM, "stop": list(STOP_STRINGS), "max_new_tokens": self.max_new_tokens or 2048}
        hashed = {
            **parts,
            "mode": self.mode,
            "preset": told_wording(self.prompt_preset) if self.mode == "two_stage" else None,
        }
        if self.mode == "two_stage":  # the words themselves, which a preset's name stands for
            hashed["words"] = mode_conversation("critique", "{query}", "{response}", prompt_preset=self.prompt_preset)
        elif self.mode == "single_pass":
            hashed["words"] = mode_conversation("single_pass", "{query}")
        return {**parts, "digest": hashlib.sha256(json.dumps(hashed).encode()).hexdigest()[:16]}


def parse_tasks(text: str, limit: int | None = None) -> dict[str, int | None]:
    """ "six", "all" or names, each with a limit of its own or the common one.

    Raises:
        CFTError: An unknown benchmark (the nearest is named), one given twice, or a limit that is no number.

    Example:
        >>> parse_tasks("gsm8k:100,math-500", 50)
        {'gsm8k': 100, 'math-500': 50}
    """
    tasks: dict[str, int | None] = {}
    for part in text.split(","):
        name, colon, given = part.strip().partition(":")
        if colon and not (given.isdecimal() and int(given)):
            raise CFTError(f"--tasks {part.strip()}: {given!r} is no number of problems; write gsm8k:100")
        known = {"six": SIX, "all": ALL}.get(name) or _known(name)
        for task in known:
            if task in tasks:
                raise CFTError(f"--tasks {text}: {task} is named twice")
            tasks[task] = int(given) if given else limit
    return tasks


def _known(name: str) -> tuple[str, ...]:
    try:
        return (get_benchmark(name).name,)
    except CFTError as error:
        raise CFTError(f"{error}; or six, or all") from None
