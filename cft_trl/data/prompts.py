"""Every text a student sees: an objective turns a row into a prompt and a completion.

The three objectives, on one row (x = query, y = response, c = critique, z = refinement):

    cft   x, y     -> c         critique fine-tuning, arXiv 2501.17703
    cgd   x, y, c  -> z         critique-guided distillation, arXiv 2505.11628
    sft   x        -> y or z    the baselines of both papers

Under the `paper` preset the user turn of `cft` is, byte for byte, what the published trainer showed the student:

    Please critique whether the following solution to the question is correct.⏎⏎⏎Question:⏎{x}⏎⏎Solution:⏎{y}⏎

and the completion is `Critique:⏎{c}`.

Beside the presets there is a `Wording` of one's own: a template, verdict words, or both (docs/domains.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cft_trl.data.layouts import cft_completion, cft_user_turn
from cft_trl.data.prompt_templates import check_template, numbered, render, response_steps
from cft_trl.data.read_rows import stated_in
from cft_trl.data.verdict import stated_verdict
from cft_trl.data.verdict_grammar import StatedVerdict, Verdict
from cft_trl.data.verdict_vocabulary import Verdicts, plain_verdicts, read_verdicts
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


PER_STEP_INSTRUCTION = (
    "Judge every step of this solution: restate what it does, check it in another way, and say whether it is right. "
    "Stop after the first wrong step, and say how it should go on from there."
)


PresetName = Literal["paper", "compact", "per_step"]
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
    "per_step": Preset(
        cft_user=lambda x, y: f"{PER_STEP_INSTRUCTION}\n\nQuestion: {x}\n\nSolution:\n{numbered(response_steps(y))}",
        cft_target=lambda c: c,
        cgd_user=lambda x, y, c: f"Correct this solution.\n\nQuestion: {x}\n\nSolution:\n{y}\n\nCritique:\n{c}",
    ),
}


@dataclass(frozen=True)
class Wording:
    r"""A prompt of one's own, verdict words of one's own, or both. Two that are equal ask and read alike.

    Attributes:
        template: The student's prompt as Jinja2 (`cft_trl.data.prompt_templates`); None for the preset's.
        verdicts: The words that a critique concludes with; None for right and wrong.
        preset: The wording where there is no template.

    Example:
        >>> Prompting(preset=Wording("Review.\n{{ query }}\n{{ response }}")).user_turn({"query": "f", "response": "g"})
        'Review.\nf\ng'
    """

    template: str | None = None
    verdicts: Verdicts | None = None
    preset: PresetName = "paper"


def make_wording(
    preset: PresetName, template: str | None = None, verdicts: Any = None, objective: str = "cft"
) -> PresetName | Wording:
    """The wording that settings ask for, checked: a preset's name, or a `Wording` where they have more.

    Args:
        preset: The preset's name.
        template: A template's text.
        verdicts: As for `read_verdicts`.
        objective: Whose prompt it is; only that of cgd shows a critique.

    Raises:
        CFTError: A template or words that cannot be used; see `check_template` and `Verdicts`.

    Example:
        >>> make_wording("compact"), make_wording("compact", None, {"right": "accept", "wrong": "reject"}).preset
        ('compact', 'compact')
    """
    words = read_verdicts(verdicts)
    if template is None and words is None:
        return preset
    if template is not None:
        check_template(template, words, also=("critique",) if objective == "cgd" else ())
    return Wording(template, words, preset)


def plain_wording(preset: str | Wording) -> dict[str, Any]:
    """A wording as settings hold it: `prompt_preset`, `prompt` and `verdicts`; `read_wording` reads it back."""
    if not isinstance(preset, Wording):
        return {"prompt_preset": preset}
    told = {"prompt": preset.template, "verdicts": plain_verdicts(preset.verdicts)}
    return {"prompt_preset": preset.preset} | {name: value for name, value in told.items() if value is not None}


def told_wording(preset: str | Wording) -> str | dict[str, Any]:
    """A wording as a record of a run holds it: a preset's name, or what `plain_wording` makes of it."""
    return plain_wording(preset) if isinstance(preset, Wording) else preset


def read_wording(settings: Mapping[str, Any]) -> PresetName | Wording | None:
    """The wording that a run's settings tell; None where they tell none.

    Raises:
        CFTError: They tell one that this version cannot use.

    Example:
        >>> read_wording({"prompt_preset": "compact", "seed": 0}), read_wording({}) is None
        ('compact', True)
    """
    preset, template, verdicts = (settings.get(name) for name in ("prompt_preset", "prompt", "verdicts"))
    if preset not in PRESETS:
        return None
    # Only a model that learnt to write critiques has a prompt of its own for them.
    template = template if (settings.get("objective") or "cft") == "cft" else None
    return make_wording(preset, template, verdicts)


def stated_by(text: str | None, preset: str | Wording) -> StatedVerdict | None:
    r"""The verdict that a critique states in a wording's words, and where; None where it states none.

    Example:
        >>> words = Wording(verdicts=Verdicts(("reject", "accept"), "accept"))
        >>> stated_by("Conclusion: accept [END]", words).verdict, stated_by("Conclusion: accept [END]", "paper") is None
        ('right', True)
    """
    words = own_verdicts(preset)
    return words.stated(text) if words else stated_verdict(text)


def verdict_by(text: str | None, preset: str | Wording) -> Verdict | None:
    """The verdict that a critique states in a wording's words: right, wrong or None."""
    found = stated_by(text, preset)
    return found.verdict if found else None


def own_verdicts(preset: str | Wording) -> Verdicts | None:
    """The verdict words of a wording's own; None for right and wrong."""
    return preset.verdicts if isinstance(preset, Wording) else None


def said_by(text: str | None, preset: str | Wording) -> str | None:
    """The word of a wording's own that a critique concludes with; None where it has none of its own, or says none.

    Example:
        >>> words = Wording(verdicts=Verdicts(("1", "2", "3"), "2"))
        >>> said_by("Conclusion: 3 [END]", words), said_by("Conclusion: right [END]", "paper")
        ('3', None)
    """
    words = own_verdicts(preset)
    return words.said(text) if words else None


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
    preset: str | Wording = "paper"

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("objective", self.objective, OBJECTIVES),
            ("sft_target", self.sft_target, SFT_TARGETS),
            ("preset", self._name, tuple(PRESETS)),
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
        if self.objective == "sft":
            return row["query"]
        own, preset = self._own, PRESETS[self._name]
        if own is not None and own.template is not None:
            more = {"critique": row["critique"]} if self.objective == "cgd" else {}
            shown = {"id": row.get("id"), "query": row["query"], "response": response}
            return render(own.template, shown, own.verdicts, **more)
        if self.objective == "cft":
            return preset.cft_user(row["query"], response)
        return preset.cgd_user(row["query"], response, row["critique"])

    def completion(self, row: Mapping[str, Any]) -> str:
        """The text the student learns to write, without the end token."""
        if self.objective == "cft":
            if self._own is not None and self._own.template is not None:
                return row["critique"]
            return PRESETS[self._name].cft_target(row["critique"])
        if self.objective == "cgd" or self.sft_target == "refinement":
            return row["refinement"]
        return row["response"]

    def stated_in(self, row: Mapping[str, Any]) -> StatedVerdict | None:
        """The verdict that a row's critique states in this wording's words, and where."""
        # How rows are read knows right and wrong only.
        own = self._own is not None and self._own.verdicts is not None
        return stated_by(row.get("critique"), self.preset) if own else stated_in(row)

    @property
    def _own(self) -> Wording | None:
        return self.preset if isinstance(self.preset, Wording) else None

    @property
    def _name(self) -> str:
        return self.preset.preset if isinstance(self.preset, Wording) else self.preset

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
