"""What a request's events look like: the answer with its final box, rounds, the critique with its verdict.

    transcript = Transcript(Ask("critique", "2 + 2?", "2 + 2 = 5\\nThe answer is 5."))
    transcript.add([Event("critique", 1, "Step 1: 2 + 2 = 4, but the solution has 5: an arithmetic error.\\n…")])
    transcript.html()      # a verdict chip, the critique, and the solution with its first step marked

All of it is HTML on one line, made of `rendering.to_html` and the tags written here; see style.css for the classes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from cft_trl.data.prompts import Wording, said_by, verdict_by
from cft_trl.demo.asks import Ask
from cft_trl.demo.rendering import DISPLAY, INLINE, MAX_CHARS, formula, plain, to_html
from cft_trl.evaluation.first_error import first_error_step
from cft_trl.generation.modes import STOP_STRINGS, Event, Outcome
from cft_trl.grading.answers import extract_answer

CARET = '<span class="caret"></span>'
WAITING = '<div class="cft-view waiting">'
# verdict -> class, sign, words; the sign and the words say what the colour says.
_CHIPS = {
    "right": ("right", "✓", "right"),
    "wrong": ("wrong", "✗", "wrong"),
    "": ("none", "–", "no verdict"),
    None: ("open", "…", "not yet"),
}
_MAX_ANSWER = 200  # of an answer in the status line
_HEADED = re.compile(r"[\s>*#_]*(?:step\s*#?\d+|\d{1,2}[.)](?!\d))", re.IGNORECASE)
_ANSWER = re.compile(
    r"[\s>*#_]*(?:(?:so|thus|therefore|hence|finally)\b[,\s]*)?(?:the\s+)?(?:final\s+)?answer\b|####", re.I
)


@dataclass
class _Part:
    solution: str = ""
    critique: str = ""
    verdict: str | None = None  # "" for none; None while the critique is not done
    said: str | None = None


@dataclass
class Transcript:
    """One request's texts as far as they have come.

    Attributes:
        parts: One per round; a mode without rounds has one.
        outcome: When the model is done.
        preset: The wording that critiques are asked in, whose verdict words they conclude with.
    """

    ask: Ask
    parts: list[_Part] = field(default_factory=list)
    outcome: Outcome | None = None
    preset: str | Wording = "paper"

    def add(self, events: Iterable[Event]) -> None:
        for event in events:
            while len(self.parts) < event.round:
                self.parts.append(_Part())
            part = self.parts[event.round - 1]
            if event.kind == "end":
                self.outcome = event.outcome
            elif event.kind == "verdict":
                part.verdict, part.said = event.text, event.said
            elif len(part.solution if event.kind == "solution" else part.critique) <= MAX_CHARS:
                setattr(part, event.kind, getattr(part, event.kind) + event.text)

    @property
    def final_answer(self) -> str | None:
        """The answer that the last solution announces."""
        return extract_answer(self.parts[-1].solution) if self.parts else None

    @property
    def verdict(self) -> str | None:
        """Of the (last) critique: "right", "wrong" or None."""
        return (self.parts[-1].verdict or None) if self.parts else None

    @property
    def said(self) -> str | None:
        """The word of the model's own that the (last) critique concludes with; None where it has none of its own."""
        return self.parts[-1].said if self.parts else None

    @property
    def first_wrong_step(self) -> int | None:
        """The step of the given solution that the critique calls the first wrong one, from 1."""
        if self.verdict != "wrong":
            return None
        steps = split_steps(self.ask.solution)
        number = first_error_step(self.parts[-1].critique, steps)
        return number if number and number <= len(steps) else None

    def html(self) -> str:
        """Everything so far."""
        if not self.parts:
            return f'{WAITING}<div class="ln">The model is reading …</div></div>'
        inside = {"critique": self._critique, "two_stage": self._rounds}.get(self.ask.mode, self._answer)()
        return f'<div class="cft-view">{self._asked()}{inside}{self._note()}</div>'

    def summary(self) -> str:
        """One sentence on how it ended, for the status line."""
        if self.ask.mode == "critique":
            step = f"; the first wrong step is number {self.first_wrong_step}" if self.first_wrong_step else ""
            return (f"Verdict: {self.said or self.verdict}" if self.verdict else "No verdict") + step
        answer = (self.final_answer or "")[:_MAX_ANSWER]
        told = f"Final answer: {answer}" if answer else "No final answer found"
        if self.ask.mode == "two_stage":
            told += f", after {len(self.parts)} round{'s' if len(self.parts) > 1 else ''}"
        return told

    def _asked(self) -> str:
        """The question as it reads, where it holds formulas."""
        html = to_html(self.ask.query)
        if INLINE[0] not in html and DISPLAY[0] not in html:
            return ""
        return f'<div class="asked"><div class="part-name">Question</div><div class="text">{html}</div></div>'

    def _answer(self) -> str:
        text = self.parts[0].solution
        verdict = verdict_by(text, self.preset) if self.ask.mode == "single_pass" and self.outcome else None
        shown = chip(verdict, said_by(text, self.preset))
        told = f'<div class="row">What it says of its own solution: {shown}</div>' if verdict else ""
        return _text(text, not self.outcome) + told + self._final()

    def _rounds(self) -> str:
        made = []
        for number, part in enumerate(self.parts, 1):
            last = number == len(self.parts) and not self.outcome
            critique = ""
            if part.critique:
                head = f'<div class="row"><span class="part-name">Critique</span>{chip(part.verdict, part.said)}</div>'
                critique = head + _text(critique_text(part.critique), last)
            made.append(
                f'<div class="round"><div class="round-name">Round {number}</div>'
                f'<div class="row"><span class="part-name">Solution</span></div>'
                f"{_text(part.solution, last and not part.critique)}{critique}</div>"
            )
        return "".join(made) + self._final()

    def _critique(self) -> str:
        part = self.parts[0]
        shown = chip(part.verdict, part.said)
        head = f'<div class="row verdict-row"><span class="part-name">Verdict</span>{shown}</div>'
        text = _text(critique_text(part.critique), not self.outcome)
        return head + text + solution_html(self.ask.solution, self.first_wrong_step)

    def _final(self) -> str:
        if not self.outcome:
            return ""
        if self.final_answer is None:
            return '<div class="final none">No final answer was found in the text.</div>'
        label = '<span class="final-label">Final answer</span>'
        return f'<div class="final">{label}<span class="final-box">{formula(self.final_answer)}</span></div>'

    def _note(self) -> str:
        if self.outcome and self.outcome.finish_reason == "length":
            most = self.ask.max_new_tokens
            note = f"Cut at {most} tokens, so it may be unfinished. The limit is under Settings."
            return f'<div class="ln note">{note}</div>'
        return ""


def chip(verdict: str | None, said: str | None = None) -> str:
    """A verdict as a word with a sign and a colour.

    Args:
        verdict: "right", "wrong", "" (none), or None (not there yet).
        said: The word for it, where that is another.
    """
    name, sign, words = _CHIPS[verdict]
    words = plain(said) if said else words
    return f'<span class="chip {name}"><span class="sign">{sign}</span>{words}</span>'


def solution_html(solution: str, wrong: int | None = None) -> str:
    """A solution, step by step, with the first wrong one marked."""
    rows, steps = [], split_steps(solution)
    # Steps that say their own numbers need no second ones.
    numbered = not any(_HEADED.match(step) for step in steps)
    for number, step in enumerate(steps, 1):
        mark = '<span class="step-mark">first wrong step</span>' if number == wrong else ""
        name = "step wrong" if number == wrong else "step"
        shown = f'<span class="step-number">{number}</span>' if numbered else ""
        rows.append(f'<div class="{name}">{shown}<div class="step-text">{mark}{to_html(step)}</div></div>')
    return f'<div class="solution"><div class="part-name">The solution, step by step</div>{"".join(rows)}</div>'


def split_steps(solution: str) -> list[str]:
    r"""The steps of a solution, numbered as a critique numbers them.

    Where lines begin with "Step 2:" or "2.", a step goes on to the next such line; else paragraphs are steps, or lines
    where there is one paragraph only. The line that gives the answer is a step of its own.

    Example:
        >>> split_steps("Step 1: Add.\n2 + 2 = 5\nStep 2: Done.\nThe answer is 5.")
        ['Step 1: Add.\n2 + 2 = 5', 'Step 2: Done.', 'The answer is 5.']
        >>> split_steps("2 + 2 = 5\n5 + 1 = 6")
        ['2 + 2 = 5', '5 + 1 = 6']
    """
    lines = [line.rstrip() for line in solution.strip().splitlines()]
    headed = sum(bool(_HEADED.match(line)) for line in lines) > 1
    paragraphs = not headed and "" in lines
    steps: list[list[str]] = []
    fresh = True
    for line in lines:
        if not line:
            fresh = fresh or paragraphs
            continue
        starts = bool(_HEADED.match(line)) if headed else fresh or not paragraphs
        if starts or not steps or _ANSWER.match(line):
            steps.append([])
        steps[-1].append(line)
        fresh = False
    return ["\n".join(step) for step in steps]


def critique_text(text: str) -> str:
    """A critique without the words that are there for programs: "Critique:" at its head and "[END]" at its end."""
    text = text.removeprefix("Critique:").lstrip("\n")
    for mark in STOP_STRINGS:
        text = text.removesuffix(mark).rstrip()
    return text


def _text(text: str, writing: bool) -> str:
    for mark in STOP_STRINGS:
        text = text.removesuffix(mark)
    html = to_html(text.rstrip()) if text.strip() else ""
    if writing:  # behind the last word, inside its line
        html = html.removesuffix("</div>") + CARET + "</div>" * bool(html)
    return f'<div class="text">{html}</div>'
