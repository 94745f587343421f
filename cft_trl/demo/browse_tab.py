"""The tab Browse: rows of critiques filtered and shown one at a time, as `cft browse` shows them.

    shown = ShownRows.of(DemoSettings(rows="runs/rows"))     # Rows, and a sentence on what they are
    BrowseTab(shown).build()                                 # inside a gradio tab

Without `rows` (CFT_ROWS) it shows rows of the embedded arithmetic source, so that the tab is never empty.
Imported when the app is built, for it needs gradio from its first line.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import partial
from html import escape
from typing import Any

import gradio as gr

from cft_trl.demo.browse import Rows, first_rows
from cft_trl.demo.rendering import LATEX_DELIMITERS, plain, to_html
from cft_trl.demo.settings import DemoSettings, display_name
from cft_trl.demo.views import chip, critique_text
from cft_trl.errors import CFTError

_EMBEDDED = 200  # rows of the arithmetic source
_KNOWN = {"yes": "yes", "no": "no", "unknown": "not known"}
_FILTERS = ("verdict", "teacher", "agrees", "contradicts", "least", "most", "text")


@dataclass(frozen=True)
class ShownRows:
    """Rows and what a visitor is told of them.

    Attributes:
        about: A sentence, no HTML.
    """

    rows: Rows
    about: str

    @classmethod
    def of(cls, settings: DemoSettings) -> ShownRows:
        """The rows that the settings name, else the embedded ones.

        Raises:
            CFTError: The rows cannot be read.
        """
        if settings.rows is None:
            from cft_trl.sources.arithmetic import arithmetic_records

            records: list[Any] = list(arithmetic_records(_EMBEDDED, levels=(0, 1)))
            about = (
                f"{_EMBEDDED} rows of the arithmetic source that comes with cft-trl. A program writes their critiques, "
                "so every verdict is the truth. CFT_ROWS shows a file, a folder or a dataset of the Hub instead."
            )
            return cls(Rows(records), about)
        records, more = first_rows(
            settings.rows, settings.rows_limit, name=settings.rows_name, revision=settings.rows_revision
        )
        about = f"{len(records):,} rows of {display_name(settings.rows)}"
        about = f"The first {about}, which has more; CFT_ROWS_LIMIT sets how many are shown." if more else f"{about}."
        return cls(Rows(records, more=more), about)


class BrowseTab:
    """The tab's contents and what its buttons do."""

    def __init__(self, shown: ShownRows) -> None:
        self.rows, self.about = shown.rows, shown.about

    def build(self) -> None:
        """Lays the tab out; called inside it."""
        counts = self.rows.summary()
        gr.HTML(f"<p>{plain(self.about)}</p>", elem_classes="cft-about")
        with gr.Row(elem_classes="cft-filters"):
            filters: list[Any] = [
                _choice("Verdict", "verdict", counts["verdict"], counts["words"]),
                _choice("Teacher", "teacher", counts["teacher"], {name: name for name in counts["teacher"]}),
                _choice("Verdict is the truth", "agrees", counts["agrees"], _KNOWN),
                _choice("Contradicts itself", "contradicts", {"yes": counts["contradicts"]}, {"yes": "yes"}),
                _length("Characters, at least", "least", counts["length"][0]),
                _length("Characters, at most", "most", counts["length"][2]),
                gr.Textbox("", label="Holds the words", min_width=130, elem_id="browse-text"),
            ]
        found, at = gr.State(list(range(len(self.rows.facts)))), gr.State(0)
        place, view, can_go_back, can_go_on = self._shown(found.value, 0)
        with gr.Row(elem_classes="cft-walk"):
            back = gr.Button("← Previous", elem_id="browse-back", min_width=90, interactive=can_go_back["interactive"])
            draw = gr.Button("Random", elem_id="browse-random", min_width=90)
            on = gr.Button("Next →", elem_id="browse-on", min_width=90, interactive=can_go_on["interactive"])
        line = gr.Markdown(
            place, latex_delimiters=[], elem_id="browse-status", elem_classes=["cft-status", "cft-place"]
        )
        out = gr.Markdown(view, latex_delimiters=LATEX_DELIMITERS, elem_id="browse-view", elem_classes="cft-out")

        private: dict[str, Any] = {"queue": False, "api_visibility": "private", "show_progress": "hidden"}
        shown = [line, out, back, on]
        # The last change of a text that is being typed is what counts.
        gr.on(
            [one.change for one in filters],
            self._find,
            filters,
            [found, at, *shown],
            trigger_mode="always_last",
            **private,
        )
        for button, step in ((back, -1), (on, 1), (draw, 0)):
            button.click(partial(self._go, step), [found, at], [at, *shown], **private)

    def _find(self, *given: str | None) -> tuple[Any, ...]:
        asked = {name: value or "" for name, value in zip(_FILTERS, given, strict=True)}
        try:
            found = self.rows.find(asked)
        except CFTError as error:
            return [], 0, *self._shown([], 0, str(error))
        return found, 0, *self._shown(found, 0)

    def _go(self, step: int, found: list[int], at: int) -> tuple[Any, ...]:
        if found:
            at = min(max(at + step, 0), len(found) - 1) if step else random.randrange(len(found))
        return at, *self._shown(found, at)

    def _shown(self, found: list[int], at: int, trouble: str = "") -> tuple[str, str, Any, Any]:
        """Where one is, the row, and whether there are rows before and behind it."""
        if not found:
            told = f'<div class="status-line trouble">{plain(trouble or "No row fits.")}</div>'
            return told, '<div class="cft-view empty"></div>', _may_go(), _may_go()
        told = f'<div class="status-line">{at + 1:,} of {len(found):,}</div>'
        return told, row_html(self.rows.row(found[at])), _may_go(at > 0), _may_go(at < len(found) - 1)


def row_html(row: dict[str, Any]) -> str:
    """A row of `Rows.row`: facts, question, response with the line that the critique means, critique, refinement.

    Example:
        >>> from cft_trl.data.records import make_record
        >>> said = "Step 1: 1 + 1 = 2, not 3.\\n\\nConclusion: wrong"
        >>> rows = Rows([make_record(query="1 + 1?", response="1 + 1 = 3", critique=said)])
        >>> '<div class="step wrong">' in row_html(rows.row(0))
        True
    """
    facts = [
        ("truth", row["truth"] or "not known"),
        ("right answer", row["reference_answer"]),
        ("teacher", row["teacher"]),
        ("characters", f"{row['length']:,}"),
        ("source", row["source"]),
    ]
    told = "".join(f"<span>{name} <b>{plain(str(value))}</b></span>" for name, value in facts if value)
    verdict = chip("" if row["verdict"] == "none" else row["verdict"], row["said"])
    clash = f"The critique {escape(row['contradiction'])}." if row["contradiction"] else ""
    return (
        f'<div class="cft-view"><div class="row-facts">{verdict}{told}</div>'
        + (f'<div class="row-contradiction">{clash}</div>' if clash else "")
        + f'<div class="row-parts"><div>{_part("Question", to_html(row["query"]))}'
        + f"{_part('Response', _response(row['response'], row['wrong_step']))}</div>"
        + f"<div>{_part('Critique', to_html(critique_text(row['critique'])) or 'There is none.')}"
        + (_part("Refinement", to_html(row["refinement"])) if row["refinement"] else "")
        + "</div></div></div>"
    )


def _part(name: str, html: str) -> str:
    return f'<div class="row-part"><div class="part-name">{name}</div><div class="text">{html}</div></div>'


def _response(lines: list[str], wrong: int | None) -> str:
    """The lines, the wrong one marked; those before and behind it together, for a formula may take several."""
    if wrong is None:
        return to_html("\n".join(lines))
    mark = '<span class="step-mark">called wrong</span>'
    step = f'<div class="step wrong"><div class="step-text">{mark}{to_html(lines[wrong])}</div></div>'
    return to_html("\n".join(lines[:wrong])) + step + to_html("\n".join(lines[wrong + 1 :]))


def _choice(label: str, name: str, counts: dict[str, int], names: dict[str, str]) -> gr.Dropdown:
    choices = [("any", ""), *((f"{shown} ({counts[value]:,})", value) for value, shown in names.items())]
    return gr.Dropdown(choices, value="", label=label, filterable=False, min_width=130, elem_id=f"browse-{name}")


def _length(label: str, name: str, bound: int) -> gr.Textbox:
    # Not a number: that one shows 0 where it is empty.
    return gr.Textbox("", label=label, placeholder=f"{bound:,}", min_width=130, elem_id=f"browse-{name}")


def _may_go(on: bool = False) -> Any:
    return gr.update(interactive=on)
