"""What happens when a button is pressed or the API is called: check, stream, and tell every failure in a sentence.

for view, status in Actions(settings, runtime).show("cft", Ask("direct", "What is 2 + 2?")):
    ...                       # HTML so far, and what a screen reader is told

client.predict("What is 2 + 2?", api_name="/solve")      # {"answer": "2 + 2 = 4 …", "final_answer": "4", …}
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from cft_trl.demo.asks import Ask, checked
from cft_trl.demo.rendering import plain
from cft_trl.demo.runtime import Runtime, Unanswered
from cft_trl.demo.settings import DemoSettings
from cft_trl.demo.views import CARET, WAITING, Transcript, split_steps
from cft_trl.errors import CFTError

READING, WRITING, STOPPED = "The model is reading …", "The model is writing …", "Stopped. What was written is kept."
_PARTS = (("base", "Base model"), ("cft", "CFT model"))
NO_BASE = "This Space has no base model to compare with; whoever runs it can set CFT_BASE_MODEL."


class Actions:
    """The functions behind the page and the API."""

    def __init__(self, settings: DemoSettings, runtime: Runtime) -> None:
        self.settings, self.runtime = settings, runtime

    def show(self, part: str, ask: Ask, visitor: str = "") -> Iterator[tuple[str, str]]:
        """(view, status) again and again; a failure is the last status, and the view keeps what was written.

        Args:
            part: Which model: "cft" or "base".
            ask: What is asked.
            visitor: Whose request it is; "" where nobody can stop it.
        """
        view, began = "", time.monotonic()
        try:
            for transcript in self._written(part, ask, visitor):
                view = transcript.html()
                if not transcript.outcome:
                    yield view, status(WRITING if transcript.parts else READING)
        except (CFTError, Unanswered) as error:
            yield ended(view), trouble(error)
            return
        if not transcript.outcome:
            yield ended(view), status(STOPPED)
            return
        told = f"Done. {transcript.summary()}. {_pace(transcript, time.monotonic() - began)}"
        yield view, status(_joined(told, self.runtime.note(part)))

    def compare(self, ask: Ask, visitor: str = "") -> Iterator[tuple[str, str, str]]:
        """(base's view, CFT model's view, status): first the one writes, then the other, on the same input."""
        views, told = {"base": "", "cft": ""}, []
        if ask.temperature and ask.seed is None:
            ask = replace(ask, seed=int(time.time()))  # the same draws for both
        try:
            if "base" not in self.runtime.names:
                raise CFTError(NO_BASE)
            for part, name in _PARTS:
                for transcript in self._written(part, ask, visitor):
                    views[part] = transcript.html()
                    if not transcript.outcome:
                        yield views["base"], views["cft"], status(f"{name}: writing …")
                if not transcript.outcome:
                    yield ended(views["base"]), ended(views["cft"]), status(STOPPED)
                    return
                told.append(f"{name}: {transcript.summary()}.")
        except (CFTError, Unanswered) as error:
            yield ended(views["base"]), ended(views["cft"]), trouble(error)
            return
        notes = [f"{name}: {note}" for part, name in _PARTS if (note := self.runtime.note(part))]
        yield views["base"], views["cft"], status(_joined("Done.", *told, *notes))

    def _written(self, part: str, ask: Ask, visitor: str = "") -> Iterator[Transcript]:
        """The transcript as it grows; the same object each time. Without an outcome at the end it was stopped.

        Raises:
            CFTError: The request cannot be taken.
            Unanswered: The model did not answer, or not to the end.
        """
        transcript = Transcript(checked(ask, self.settings), preset=self.runtime.preset)
        yield transcript
        for events in self.runtime.stream(part, transcript.ask, visitor):
            transcript.add(events)
            if transcript.outcome and transcript.outcome.failure:
                raise Unanswered("This is too long for the model to read. Please shorten it.")
            yield transcript

    # ---- the API: the docstrings are what its page shows ------------------------------------------------------------

    # gradio reads in the annotation what one value is, though these two yield several.

    def solve(  # type: ignore[misc]
        self,
        question: str,
        mode: str = "direct",
        max_new_tokens: int = 0,
        temperature: float = 0.0,
        max_rounds: int = 3,
        seed: int = -1,
    ) -> dict[str, Any]:
        """Answers a question.

        Streams; the last value has "done": true. Keys: answer, final_answer (or null), rounds (solution, critique,
        verdict and said, as of /critique), finish_reason ("stop" or "length"), completion_tokens, done.

        Args:
            question: The question.
            mode: direct, single_pass (solution, critique and correction in one text) or two_stage (a critique in a
                fresh prompt; another solution unless it says right, which takes a temperature above 0: greedily it
                would be the same again).
            max_new_tokens: The longest text, in tokens; 0 is 256, or the most that may be asked for.
            temperature: 0 is greedy.
            max_rounds: The most rounds of two_stage.
            seed: -1 draws anew.
        """
        ask = Ask(mode, question, "", self._most(max_new_tokens), temperature, max_rounds, _seed(seed))
        for transcript in self._api(ask, ("direct", "single_pass", "two_stage")):
            rounds = [
                {
                    "solution": part.solution,
                    "critique": part.critique or None,
                    "verdict": part.verdict or None,
                    "said": part.said,
                }
                for part in transcript.parts
            ]
            answer = rounds[-1]["solution"] if rounds else ""
            yield {"answer": answer, "final_answer": transcript.final_answer, "rounds": rounds} | _ending(transcript)

    def critique(  # type: ignore[misc]
        self, question: str, solution: str, max_new_tokens: int = 0, temperature: float = 0.0, seed: int = -1
    ) -> dict[str, Any]:
        """Critiques a solution to a question.

        Streams; the last value has "done": true. Keys: critique, verdict ("right", "wrong" or null), said (the word for
        it, where the model was trained with verdict words of its own, else null),
        first_wrong_step (from 1, or null where none is named), steps (the solution as they are counted),
        finish_reason, completion_tokens, done.

        Args:
            question: The question.
            solution: The solution to it, right or wrong.
            max_new_tokens: The longest critique, in tokens.
            temperature: 0 is greedy.
            seed: -1 draws anew.
        """
        ask = Ask("critique", question, solution, self._most(max_new_tokens), temperature, 1, _seed(seed))
        for transcript in self._api(ask, ("critique",)):
            yield {
                "critique": transcript.parts[0].critique if transcript.parts else "",
                "verdict": transcript.verdict,
                "said": transcript.said,
                "first_wrong_step": transcript.first_wrong_step,
                "steps": split_steps(transcript.ask.solution),
            } | _ending(transcript)

    def _most(self, max_new_tokens: int) -> int:
        """The limit that was asked for; for none the usual one, where this app gives so many."""
        return min(Ask.max_new_tokens, self.settings.max_new_tokens) if max_new_tokens in (0, None) else max_new_tokens

    def _api(self, ask: Ask, modes: tuple[str, ...]) -> Iterator[Transcript]:
        import gradio as gr

        try:
            if not isinstance(ask.mode, str) or ask.mode not in modes:
                raise CFTError(f"There is no such mode. The modes are {', '.join(modes)}.")
            yield from self._written("cft", ask)
        except (CFTError, Unanswered) as error:
            raise gr.Error(str(error), print_exception=False) from None


def _joined(*sentences: str) -> str:
    return " ".join(filter(None, sentences))


def status(text: str) -> str:
    """A line for the status region."""
    return f'<div class="status-line">{plain(text)}</div>'


def trouble(reason: object) -> str:
    """A line for the status region that says what is wrong."""
    return f'<div class="status-line trouble">{plain(str(reason))}</div>'


def ended(view: str) -> str:
    """A view to which nothing more will come."""
    return "" if view.startswith(WAITING) else view.replace(CARET, "")


def _seed(seed: Any) -> Any:
    """None for -1; whatever else it is, `checked` looks at."""
    return None if seed == -1 and not isinstance(seed, bool) else seed


def _ending(transcript: Transcript) -> dict[str, Any]:
    outcome = transcript.outcome
    return {
        "finish_reason": outcome and outcome.finish_reason,
        "completion_tokens": outcome and outcome.completion_tokens,
        "done": outcome is not None,
    }


def _pace(transcript: Transcript, seconds: float) -> str:
    tokens = transcript.outcome.completion_tokens if transcript.outcome else None
    if not tokens:
        return f"{seconds:.1f} s"
    return f"{tokens:,} tokens in {seconds:.1f} s"
