"""The page's four tabs: what stands where, and which action answers which button.

    page = Page(settings, actions, queue)
    with gr.Blocks():
        with gr.Tab("Solve"):
            page.solve()

Imported when the app is built, for it needs gradio from its first line.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from html import escape
from typing import Any

import gradio as gr

from cft_trl.data.prompts import own_verdicts
from cft_trl.demo import learn
from cft_trl.demo.actions import STOPPED, Actions, status
from cft_trl.demo.asks import MAX_TEMPERATURE, Ask
from cft_trl.demo.examples import QUESTIONS, SOLUTIONS, WORKED
from cft_trl.demo.rendering import LATEX_DELIMITERS
from cft_trl.demo.settings import DemoSettings

MODES = [("Direct", "direct"), ("Single pass", "single_pass"), ("Two-stage", "two_stage")]
MODES_INFO = "Single pass: solve, critique, correct in one text. Two-stage: critiqued in a fresh prompt, until {right}."
SAMPLED = 0.6  # the temperature of two-stage where none is set: greedily, every round would be the first again


class Page:
    """The tabs' contents; each method is called inside its tab.

    Args:
        queue: The queue of what asks a model, as keyword arguments of an event.
    """

    def __init__(self, settings: DemoSettings, actions: Actions, queue: dict[str, Any]) -> None:
        self.settings, self.actions, self.queue = settings, actions, queue

    def solve(self) -> None:
        with gr.Row(equal_height=False):
            with gr.Column(scale=4, min_width=320):
                question = self._question("solve-question", next(iter(QUESTIONS.values())))
                words = own_verdicts(self.actions.runtime.preset)
                info = MODES_INFO.format(right=f"it says {' or '.join(words.of_right)}" if words else "right")
                mode = gr.Radio(MODES, value="direct", label="Mode", info=info, elem_id="solve-mode")
                run, stop = self._buttons("Solve", "solve")
                _examples({label: [text] for label, text in QUESTIONS.items()}, [question], "solve-examples")
                dials = self._dials("solve", rounds=True)
            with gr.Column(scale=5, min_width=320):
                state = _status("solve-status")
                view = _view("solve-view", "The answer appears here.")

        def act(
            text: str, way: str, tokens: int, temperature: float, seed: str, rounds: int, request: gr.Request
        ) -> Iterator[Any]:
            if way == "two_stage" and temperature == 0:
                temperature = SAMPLED
            yield from self.actions.show(
                "cft", Ask(way, text, "", tokens, temperature, rounds, _seed(seed)), _visitor(request, "solve")
            )

        self._wire("solve", run, stop, [question], act, [question, mode, *dials], [view, state])

    def critique(self) -> tuple[gr.Textbox, gr.Textbox]:
        first = next(iter(SOLUTIONS.values()))
        with gr.Row(equal_height=False):
            with gr.Column(scale=4, min_width=320):
                question = self._question("critique-question", first[0])
                solution = self._solution("critique-solution", first[1])
                run, stop = self._buttons("Critique", "critique")
                _examples({k: list(v) for k, v in SOLUTIONS.items()}, [question, solution], "critique-examples")
                dials = self._dials("critique")
            with gr.Column(scale=5, min_width=320):
                state = _status("critique-status")
                view = _view("critique-view", "The critique appears here, with its verdict and the first wrong step.")

        def act(
            text: str, answer: str, tokens: int, temperature: float, seed: str, request: gr.Request
        ) -> Iterator[Any]:
            ask = Ask("critique", text, answer, tokens, temperature, 1, _seed(seed))
            yield from self.actions.show("cft", ask, _visitor(request, "critique"))

        self._wire("critique", run, stop, [question, solution], act, [question, solution, *dials], [view, state])
        return question, solution

    def compare(self) -> None:
        names = self.actions.runtime.names
        first = next(iter(SOLUTIONS.values()))
        with gr.Row(equal_height=False):
            with gr.Column(min_width=320):
                question = self._question("compare-question", first[0])
            with gr.Column(min_width=320):
                solution = self._solution("compare-solution", first[1], "Leave it empty to have both models solve.")
        run, stop = self._buttons("Compare", "compare")
        _examples({k: list(v) for k, v in SOLUTIONS.items()}, [question, solution], "compare-examples")
        dials = self._dials("compare")
        state = _status("compare-status")
        with gr.Row(equal_height=False, elem_classes="cft-pair"):
            with gr.Column(min_width=320):
                gr.HTML(_model_head("Base model", names.get("base", "none is set")))
                base = _view("compare-base", "Writes first.")
            with gr.Column(min_width=320):
                gr.HTML(_model_head("CFT model", names["cft"]))
                tuned = _view("compare-cft", "Writes second, on the same input.")

        def act(
            text: str, answer: str, tokens: int, temperature: float, seed: str, request: gr.Request
        ) -> Iterator[Any]:
            mode = "critique" if (answer or "").strip() else "direct"
            ask = Ask(mode, text, answer, tokens, temperature, 1, _seed(seed))
            yield from self.actions.compare(ask, _visitor(request, "compare"))

        self._wire("compare", run, stop, [question, solution], act, [question, solution, *dials], [base, tuned, state])

    def learn(self, tabs: gr.Tabs, question: gr.Textbox, solution: gr.Textbox) -> None:
        """The tab that explains the method, with examples to try.

        Args:
            tabs: The page's tabs, to go to that of the critiques.
            question, solution: Its boxes, which an example fills.
        """
        gr.HTML(learn.INTRODUCTION + learn.PICTURE)
        gr.HTML('<div class="prose-block"><h2>Five worked examples</h2></div>')
        with gr.Row(equal_height=False, elem_classes="cft-worked"):
            for number, worked in enumerate(WORKED, 1):
                with gr.Column(min_width=320, elem_classes="cft-card"):
                    gr.Markdown(learn.worked_html(number, worked), latex_delimiters=LATEX_DELIMITERS)
                    button = gr.Button("Try it in Critique", size="sm", elem_id=f"try-{number}")
                    button.click(
                        partial(_try, worked.query, worked.solution),
                        None,
                        [tabs, question, solution],
                        queue=False,
                        api_visibility="private",
                    )
        gr.HTML(f'<div class="prose-pair">{learn.HONESTY}{learn.LINKS}</div>')

    def left(self, request: gr.Request) -> None:
        """Ends what a visitor who closes the page has running."""
        self.actions.runtime.stop(request.session_hash)

    # ---- pieces ------------------------------------------------------------------------------------------------------

    def _question(self, elem_id: str, value: str) -> gr.Textbox:
        info = "LaTeX between $ signs is read as mathematics."
        return gr.Textbox(value, label="Question", info=info, lines=3, max_lines=10, elem_id=elem_id)

    def _solution(self, elem_id: str, value: str, info: str = "One step per line.") -> gr.Textbox:
        return gr.Textbox(value, label="Somebody's solution", info=info, lines=4, max_lines=14, elem_id=elem_id)

    def _buttons(self, name: str, prefix: str) -> tuple[gr.Button, gr.Button]:
        with gr.Row(elem_classes="cft-buttons"):
            run = gr.Button(name, variant="primary", elem_id=f"{prefix}-run", scale=2, min_width=120)
            stop = gr.Button("Stop", variant="secondary", elem_id=f"{prefix}-stop", scale=1, min_width=80)
        return run, stop

    def _dials(self, prefix: str, rounds: bool = False) -> list[Any]:
        most = self.settings.max_new_tokens
        with gr.Accordion("Settings", open=False, elem_id=f"{prefix}-settings"):
            dials: list[Any] = [
                gr.Slider(1, most, min(256, most), step=1, label="Longest answer, in tokens"),
                gr.Slider(0, MAX_TEMPERATURE, 0, step=0.1, label="Temperature", info="0 always gives the same answer"),
                # Not a number: that one shows 0 where it is empty.
                gr.Textbox("", label="Seed", info="A whole number; empty draws anew each time", max_lines=1),
            ]
            if rounds:
                most = self.settings.max_rounds
                info = f"Of two-stage, which samples at {SAMPLED} where the temperature is 0"
                dials.append(gr.Slider(1, most, min(3, most), step=1, label="Most rounds", info=info))
        return dials

    def _wire(
        self, prefix: str, run: Any, stop: Any, texts: list[Any], act: Any, inputs: list[Any], outputs: list[Any]
    ) -> None:
        """Lets `run`, or Shift+Enter in a text, start `act`, and `stop` end it, writing or still in the queue."""
        event = gr.on(
            [run.click, *(text.submit for text in texts)],
            act,
            inputs,
            outputs,
            show_progress="minimal",
            show_progress_on=outputs[-1],
            trigger_mode="once",
            api_visibility="private",
            js=f"(...given) => {{ window.cftBegin?.('{prefix}'); return given; }}",
            **self.queue,
        )
        end = f"() => window.cftEnd?.('{prefix}')"
        event.then(None, None, None, js=end, queue=False, api_visibility="private")  # whether it failed or not

        def stopped(request: gr.Request) -> str:
            self.actions.runtime.stop(_visitor(request, prefix))
            return status(STOPPED)

        ended = stop.click(None, None, None, js=end, cancels=[event], queue=False, api_visibility="private")
        # After the cancelling, so that nothing that was still on its way takes the line's place.
        ended.then(stopped, None, outputs[-1], queue=False, api_visibility="private")


def _seed(text: str) -> Any:
    """A number, None where nothing is written; anything else as it is, for `checked` to refuse."""
    text = (text or "").strip()
    return int(text) if text.isdecimal() and text.isascii() else text or None


def _visitor(request: gr.Request, prefix: str) -> str:
    return f"{request.session_hash}/{prefix}"


def _view(elem_id: str, placeholder: str) -> gr.Markdown:
    empty = f'<div class="cft-view empty"><div class="ln">{placeholder}</div></div>'
    return gr.Markdown(empty, latex_delimiters=LATEX_DELIMITERS, elem_id=elem_id, elem_classes="cft-out")


def _status(elem_id: str) -> gr.Markdown:
    return gr.Markdown(status("Ready."), latex_delimiters=[], elem_id=elem_id, elem_classes="cft-status")


def _examples(examples: dict[str, list[str]], inputs: list[Any], elem_id: str) -> None:
    gr.Examples(
        list(examples.values()),
        inputs,
        example_labels=list(examples),
        elem_id=elem_id,
        cache_examples=False,
        preload=False,
        api_visibility="private",
    )


def _try(query: str, solution: str) -> tuple[Any, str, str]:
    return gr.Tabs(selected="critique"), query, solution


def _model_head(part: str, name: str) -> str:
    return f'<div class="model-head"><span>{part}</span><b>{escape(name)}</b></div>'
