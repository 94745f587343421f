"""The app of the Space for tests: with a model that says what it is told to, on a port of its own.

with running(Scripted(solution="2 + 2 = 4. The answer is 4."), base=Scripted()) as app:
    Client(app.local_url).predict("What is 2 + 2?", api_name="/solve")
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from cft_trl.demo import DemoSettings, serve
from cft_trl.demo.runtime import Runtime
from cft_trl.generation.modes import Generation

SOLUTION = "First, 7 × 6 = 42 pencils.\nThen, 42 - 5 = 37 pencils.\nThe answer is \\boxed{37} pencils."
CRITIQUE = (
    "Step 1: 7 × 6 = 42, correct.\nStep 2: 42 - 5 = 37, but the solution has 35: an arithmetic error.\n"
    "The right answer is 37 pencils.\nConclusion: wrong [END]"
)


class Scripted:
    """A model with fixed texts, word by word.

    Args:
        pause: Seconds before each word.
        endless: Never ends by itself.
        error: Raised after the first word.

    Attributes:
        asked: The conversations, with their sampling.
        words: How many were written in all.
        closed: Set when a text was broken off.
    """

    def __init__(
        self,
        solution: str = SOLUTION,
        critique: str = CRITIQUE,
        *,
        pause: float = 0.0,
        endless: bool = False,
        error: Exception | None = None,
    ) -> None:
        self.solution, self.critique, self.pause, self.endless, self.error = solution, critique, pause, endless, error
        self.asked: list[tuple[list[Any], dict[str, Any]]] = []
        self.words, self.closed, self.begun = 0, threading.Event(), threading.Event()

    def pieces(self, request: Any) -> Iterator[str]:
        self.asked.append((list(request.messages), request.sampling))
        about = request.messages[-1]["content"]
        text = self.critique if "Solution:" in about else self.solution
        pieces = [word + " " for word in text.split(" ")]
        pieces[-1] = pieces[-1][:-1]
        try:
            while True:
                for piece in pieces:
                    time.sleep(self.pause)
                    self.words += 1
                    self.begun.set()
                    yield piece
                    if self.error:
                        raise self.error
                if not self.endless:
                    return Generation(text, "stop", 10, len(pieces))
        except GeneratorExit:
            self.closed.set()
            raise


def settings(**fields: Any) -> DemoSettings:
    """Settings of an app whose models are named so that no folder or repository is looked up."""
    return DemoSettings(**({"model": "org/tuned", "base_model": "org/base"} | fields))


@contextmanager
def running(model: Any, base: Any = None, **fields: Any) -> Iterator[Any]:
    """The app on a free port of this machine."""
    chosen = settings(**fields)
    runtime = Runtime(chosen, {"cft": model, "base": base or Scripted("The answer is 36.", "It looks fine to me.")})
    app = serve(chosen, runtime=runtime, host="127.0.0.1", wait=False)
    try:
        yield app
    finally:
        app.close(verbose=False)


@contextmanager
def browser() -> Iterator[Any]:
    """Debian's (or CHROMIUM's) browser, driven by playwright; the test is skipped where either is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright here")
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if not path:
        pytest.skip("no chromium here (set CHROMIUM)")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()


def settled(page: Any, tab: str, timeout: float = 60.0) -> str:
    """What a tab's status says when its request has ended."""
    page.wait_for_function(
        f"(/Done|Stopped/.test(document.querySelector('#{tab}-status').innerText)"
        f" || document.querySelector('#{tab}-status .trouble')) && !document.querySelector('.waiting, .caret')",
        timeout=timeout * 1000,
    )
    return page.locator(f"#{tab}-status").inner_text()


def example(page: Any, tab: str, label: str, words: str) -> None:
    """Clicks an example and waits until the question holds its words: they come from the server."""
    page.locator(f"#{tab}-examples").get_by_text(label).click()
    page.wait_for_function(f"document.querySelector('#{tab}-question textarea').value.includes('{words}')")
