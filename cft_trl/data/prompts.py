"""Every text a student sees: an objective turns a row into a prompt and a completion.

The three objectives, on one row (x = query, y = response, c = critique, z = refinement):

    cft   x, y     -> c         critique fine-tuning, arXiv 2501.17703
    cgd   x, y, c  -> z         critique-guided distillation, arXiv 2505.11628
    sft   x        -> y or z    the baselines of both papers

Under the `paper` preset the user turn of `cft` is, byte for byte, what the published trainer showed the student:

    Please critique whether the following solution to the question is correct.⏎⏎⏎Question:⏎{x}⏎⏎Solution:⏎{y}⏎

and the completion is `Critique:⏎{c}`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cft_trl.data.layouts import cft_completion, cft_user_turn
from cft_trl.errors import CFTError

OBJECTIVES = ("cft", "cgd", "sft")
SFT_TARGETS = ("response", "right_only", "refinement")

CGD_INSTRUCTION = "Please write a corrected solution to the question, using the critique of the student's answer.\n\n"


@dataclass(frozen=True)
class Preset:
    """One wording of the prompts: functions from texts to the user turn and to the assistant turn.

    Attributes:
        cft_user: (query, response) -> user turn.
        cft_target: critique -> assistant turn.
        cgd_user: (query, response, critique) -> user turn.
    """

    cft_user: Callable[[str, str], str]
    cft_target: Callable[[str], str]
    cgd_user: Callable[[str, str, str], str]


PresetName = Literal["paper", "compact"]
PRESETS = {
    "paper": Preset(
        cft_user=cft_user_turn,
        cft_target=cft_completion,
        cgd_user=lambda x, y, c: f"{CGD_INSTRUCTION}\nQuestion: {x}\n\nStudent's Initial Answer: {y}\n\nCritique: {c}",
    ),
    "compact": Preset(
        cft_user=lambda x, y: f"Critique this solution.\n\nQuestion: {x}\n\nSolution:\n{y}",
        cft_target=lambda c: c,
        cgd_user=lambda x, y, c: f"Correct this solution.\n\nQuestion: {x}\n\nSolution:\n{y}\n\nCritique:\n{c}",
    ),
}


@dataclass(frozen=True)
class Prompting:
    """How rows become prompts: an objective, its target and the wording.

    Raises:
        CFTError: A value that is none of its field's.

    Example:
        >>> row = {"query": "2+2?", "response": "5", "critique": "Conclusion: wrong [END]"}
        >>> Prompting().completion(row)
        'Critique:\\nConclusion: wrong [END]'
        >>> Prompting("sft", "right_only").unusable(row | {"verdict": "wrong"})
        'verdict is wrong'
    """

    objective: str = "cft"
    sft_target: str = "response"
    preset: str = "paper"

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("objective", self.objective, OBJECTIVES),
            ("sft_target", self.sft_target, SFT_TARGETS),
            ("preset", self.preset, tuple(PRESETS)),
        ):
            if value not in allowed:
                raise CFTError(f"{name}={value}: unknown; give one of {', '.join(allowed)}")

    def unusable(self, row: Mapping[str, Any]) -> str | None:
        """Why this objective cannot learn from the row (`"no critique"`, ...), or None if it can."""
        needed = {"cft": ["critique"], "cgd": ["critique", "refinement"], "sft": []}[self.objective]
        if self.objective == "sft" and self.sft_target == "refinement":
            needed = ["refinement"]
        for column in needed:
            if not (row.get(column) or "").strip():
                return f"no {column}"
        if self.objective == "sft" and self.sft_target == "right_only" and row.get("verdict") != "right":
            return f"verdict is {row.get('verdict') or 'missing'}"
        return None

    def user_turn(self, row: Mapping[str, Any], response: str | None = None) -> str:
        """The user's turn; `response` stands in for the row's own where that was shortened."""
        response = row["response"] if response is None else response
        preset = PRESETS[self.preset]
        if self.objective == "cft":
            return preset.cft_user(row["query"], response)
        if self.objective == "cgd":
            return preset.cgd_user(row["query"], response, row["critique"])
        return row["query"]

    def completion(self, row: Mapping[str, Any]) -> str:
        """The text the student learns to write, without the end token."""
        if self.objective == "cft":
            return PRESETS[self.preset].cft_target(row["critique"])
        if self.objective == "cgd" or self.sft_target == "refinement":
            return row["refinement"]
        return row["response"]

    @property
    def shortens_response(self) -> bool:
        """Whether the response is part of the prompt, so that an over-long row may lose its tail."""
        return self.objective != "sft"


def chat_messages(user_turn: str) -> list[dict[str, str]]:
    """One user turn and no system turn, as in the published rows (a template may add its own default)."""
    return [{"role": "user", "content": user_turn}]


def base_prompt(user_turn: str) -> str:
    """The prompt for a base model without a chat template: the user turn, ended by one line feed.

    One and not two: GPT-2's way of splitting makes two line feeds one token at a text's end and two tokens before
    a word, so the model would be asked in another context than it was trained in.
    """
    return user_turn.rstrip("\n") + "\n"


def to_prompt_completion(row: Mapping[str, Any], prompting: Prompting, chat: bool) -> dict[str, Any]:
    """The row as TRL's prompt/completion, conversational (`chat`) or plain text for base models.

    Plain completions do not hold the end token; TRL and this package's preparation both add it.

    Args:
        row: A record that `prompting.unusable` has nothing against.
        prompting: What is asked and what is predicted.
        chat: Whether as messages, else as text.
    """
    user_turn, completion = prompting.user_turn(row), prompting.completion(row)
    if chat:
        return {"prompt": chat_messages(user_turn), "completion": [{"role": "assistant", "content": completion}]}
    return {"prompt": base_prompt(user_turn), "completion": completion}
