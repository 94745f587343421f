"""The app: the page's tabs and the API in one queue, built and served.

app = build(DemoSettings(model="runs/mine"))     # a gr.Blocks, with its models loaded
serve(DemoSettings(model="runs/mine"))           # the same, on a port, until Ctrl-C
"""

from __future__ import annotations

import warnings
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from cft_trl.data.prompts import own_verdicts
from cft_trl.demo.actions import Actions
from cft_trl.demo.runtime import Runtime
from cft_trl.demo.settings import DemoSettings
from cft_trl.environment import require
from cft_trl.errors import CFTError
from cft_trl.models.names import SMALL_MODEL

if TYPE_CHECKING:
    import gradio as gr

HERE = Path(__file__).parent
_UNTRAINED = (
    "This app runs SmolLM2-135M-Instruct as it comes: it has not been critique fine-tuned and hardly gives a verdict. "
    "Set CFT_MODEL to a model that was trained with cft-trl."
)


def build(settings: DemoSettings | None = None, runtime: Runtime | None = None) -> gr.Blocks:
    """The app, ready to be launched.

    Args:
        settings: None takes those of the environment.
        runtime: One whose models are loaded; None loads them.

    Raises:
        CFTError: A model cannot be loaded, the rows of the tab Browse cannot be read, or gradio is not installed.
    """
    require("space", "the app", "gradio")
    import gradio as gr

    settings = settings or DemoSettings.from_environment()
    from cft_trl.demo.browse_tab import BrowseTab, ShownRows

    rows = ShownRows.of(settings)
    if runtime is None:
        runtime = Runtime(settings)
        runtime.load()
    from cft_trl.demo.page import Page

    actions = Actions(settings, runtime)
    # One queue for everything that asks a model; what does not (examples, tabs) never waits.
    queue = {"concurrency_id": "model", "concurrency_limit": settings.at_once}
    page = Page(settings, actions, queue)
    with gr.Blocks(title="Critique fine-tuning", analytics_enabled=False) as app:
        gr.HTML(_header(settings, runtime), elem_classes="cft-header")
        with gr.Tabs(elem_id="tabs") as tabs:
            with gr.Tab("Solve", id="solve", render_children=True):
                page.solve()
            with gr.Tab("Critique", id="critique", render_children=True):
                question, solution = page.critique()
            with gr.Tab("Compare", id="compare", render_children=True):
                page.compare()
            with gr.Tab("Browse", id="browse", render_children=True):
                BrowseTab(rows).build()
            with gr.Tab("Learn", id="learn", render_children=True):
                page.learn(tabs, question, solution)
        app.unload(page.left)
        gr.api(actions.solve, api_name="solve", **queue)
        gr.api(actions.critique, api_name="critique", **queue)
    app.queue(max_size=settings.queue_size)
    return app


def serve(
    settings: DemoSettings | None = None,
    *,
    runtime: Runtime | None = None,
    host: str | None = None,
    port: int | None = None,
    wait: bool = True,
) -> gr.Blocks:
    """Builds the app and serves it.

    Args:
        host, port: None takes what GRADIO_SERVER_NAME and GRADIO_SERVER_PORT say (a Space sets them), else 127.0.0.1
            and the first free port from 7860.
        wait: Serve until interrupted; False returns the running app, `.close()` ends it.

    Raises:
        CFTError: As `build`, or the port is taken.
    """
    # Gradio's queue still uses what pandas is about to drop; nobody who reads the warnings could act on them.
    warnings.filterwarnings("ignore", module=r"gradio\.queueing")
    app = build(settings, runtime)
    try:
        app.launch(
            server_name=host,
            server_port=port,
            prevent_thread_lock=True,
            quiet=True,
            max_file_size="1kb",  # nothing here takes files
            show_error=False,  # an error of ours is told by the app; any other stays on standard error
            footer_links=["api"],
            run_history=False,
            ssr_mode=False,
            theme=_theme(),
            css_paths=[HERE / "style.css"],
            js=(HERE / "page.js").read_text(encoding="utf-8"),
        )
    except OSError as error:
        raise CFTError(f"the app cannot be served: {error}") from None
    print(f"the app is at {app.local_url}", flush=True)
    if wait:
        app.block_thread()
    return app


def _theme() -> gr.themes.Base:
    import gradio as gr

    # Gradio's own files, so that nothing is fetched from elsewhere; its semi-bold ones lack most letters, bold has all.
    fonts = {
        name: [gr.themes.LocalFont(family, weights=(400, 700)), *rest]
        for name, family, rest in (
            ("font", "IBM Plex Sans", ["system-ui", "sans-serif"]),
            ("font_mono", "IBM Plex Mono", ["ui-monospace", "monospace"]),
        )
    }
    return gr.themes.Base(primary_hue="indigo", secondary_hue="indigo", neutral_hue="slate", **fonts).set(
        body_background_fill="*neutral_50",
        block_border_width="1px",
        block_radius="10px",
        block_background_fill_dark="#111827",
        body_background_fill_dark="#0b0f19",
        block_info_text_color="*neutral_500",
        block_info_text_color_dark="*neutral_400",
        block_label_text_weight="600",
        block_title_text_color="*neutral_800",
        block_title_text_color_dark="*neutral_100",
        block_title_text_weight="600",
        button_large_radius="8px",
        button_secondary_background_fill="white",
        button_secondary_background_fill_dark="*neutral_800",
        button_secondary_border_color="*neutral_300",
        button_secondary_border_color_dark="*neutral_600",
        button_border_width="1px",
        checkbox_label_background_fill="white",
        checkbox_label_background_fill_dark="*neutral_800",
        checkbox_label_border_width="1px",
        checkbox_label_border_color="*neutral_300",
        checkbox_label_border_color_dark="*neutral_600",
        input_background_fill="white",
        input_background_fill_dark="#0b0f19",
        input_border_color="*neutral_300",
        input_border_color_dark="*neutral_600",
        input_border_width="1px",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
        input_radius="8px",
    )


def _which(runtime: Runtime, part: str) -> str:
    """The weights or the commit that were loaded."""
    told = runtime.loaded[part].told if part in runtime.loaded else ""
    return f" <small>{escape(told)}</small>" if told else ""


def _header(settings: DemoSettings, runtime: Runtime) -> str:
    names = "".join(
        f'<span class="model-chip">{part} model: <b>{escape(runtime.names[name])}</b>{_which(runtime, name)}</span>'
        for name, part in (("cft", "CFT"), ("base", "Base"))
        if name in runtime.names
    )
    own = own_verdicts(runtime.preset)
    words = f"<p>This model's critiques conclude with {escape(own.told)}.</p>" if own else ""
    untrained = settings.model == SMALL_MODEL and not settings.endpoint
    note = f'<p class="untrained">{_UNTRAINED}</p>' if untrained else ""
    return (
        "<h1>What does a model trained to critique do?</h1>"
        "<p>Critique fine-tuning teaches a language model to say what is right and wrong with a solution. "
        f"Ask it to solve, or to critique, and compare it with the model it came from.</p>"
        f'<div class="model-chips">{names}</div>{words}{note}'
    )
