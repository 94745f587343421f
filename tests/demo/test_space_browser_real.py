"""The page in a real browser over a real model, each tab from end to end; and the screenshots of docs/images.

    CFT_SCREENSHOTS=docs/images CFT_DEMO_MODEL=runs/mine python -m pytest -m slow tests/demo/test_space_browser_real.py

Without CFT_DEMO_MODEL both models are SmolLM2-135M-Instruct, which gives verdicts only by chance.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from space_app import browser, example, settled

from cft_trl.demo import DemoSettings, serve
from cft_trl.models.names import SMALL_MODEL

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

TRAINED = os.environ.get("CFT_DEMO_MODEL")
SCREENSHOTS = os.environ.get("CFT_SCREENSHOTS")
# name -> viewport and colour scheme
LOOKS = {"": (1280, "light"), "-dark": (1280, "dark"), "-phone": (390, "light"), "-phone-dark": (390, "dark")}


@pytest.fixture(scope="module")
def app():
    served = serve(DemoSettings(model=TRAINED or SMALL_MODEL, base_model=SMALL_MODEL), host="127.0.0.1", wait=False)
    yield served
    served.close(verbose=False)


@pytest.fixture(scope="module")
def chromium():
    with browser() as opened:
        yield opened


@pytest.fixture(params=LOOKS if SCREENSHOTS else [""])
def page(request, chromium, app):
    width, scheme = LOOKS[request.param]
    size = {"width": width, "height": 800}
    with chromium.new_context(viewport=size, color_scheme=scheme, device_scale_factor=1) as context:
        page = context.new_page()
        page.look = request.param
        page.goto(app.local_url)
        page.wait_for_selector("#solve-run")
        yield page


def shot(page, tab: str) -> None:
    """Saves the page as docs/images/space-TAB-LOOK.png, in few colours and no taller than needed to see what it is:
    the files are read over the network."""
    if not SCREENSHOTS:
        return
    from PIL import Image

    path = Path(SCREENSHOTS) / f"space-{tab}{page.look}.png"
    page.mouse.move(0, 0)
    page.evaluate("document.activeElement.blur()")
    page.wait_for_timeout(400)
    page.screenshot(path=path, full_page=True)
    seen = Image.open(path).convert("RGB")
    seen.crop((0, 0, seen.width, min(seen.height, 2000))).quantize(160).save(path, optimize=True)
    assert path.stat().st_size < 150_000


def tokens(page, tab: str, most: int) -> None:
    """Sets the longest answer, through Settings as a visitor does."""
    page.click(f"#{tab}-settings button")
    box = page.locator(f"#{tab}-settings").get_by_label("Longest answer").first
    box.fill(str(most))
    box.press("Tab")
    page.click(f"#{tab}-settings button")


def test_solve(page):
    example(page, "solve", "Pencils", "4 pencils")
    page.click("#solve-run")
    said = settled(page, "solve", 300)
    assert said.startswith("Done.")
    assert " tokens in " in said
    page.wait_for_function("document.querySelector('#solve-view').innerText.length > 10")
    assert page.locator("#solve-view .final").count() == 1
    shot(page, "solve")


def test_solve_in_two_stages(page):
    if page.look:
        pytest.skip("one look is enough")
    page.get_by_label("Two-stage").check()
    tokens(page, "solve", 64)
    page.click("#solve-run")
    assert settled(page, "solve", 600).startswith("Done.")
    assert 1 <= page.locator("#solve-view .round").count() <= 3
    shot(page, "two-stage")


def test_critique(page):
    page.get_by_role("tab", name="Critique", exact=True).click()
    example(page, "critique", "The wrong operation", "4 pencils")
    page.click("#critique-run")
    assert settled(page, "critique", 300).startswith("Done.")
    words = page.locator("#critique-view .verdict-row .chip").inner_text().split()[1:]
    assert words in (["right"], ["wrong"], ["no", "verdict"])
    assert page.locator("#critique-view .step").count() == 2
    if TRAINED:
        assert words == ["wrong"]
        assert "4 × 6 = 24" in page.locator("#critique-view .step.wrong").inner_text()
    shot(page, "critique")


def test_compare(page):
    page.get_by_role("tab", name="Compare", exact=True).click()
    tokens(page, "compare", 96)
    page.click("#compare-run")
    said = settled(page, "compare", 600)
    assert "Base model:" in said
    assert "CFT model:" in said
    for side in ("base", "cft"):
        assert page.locator(f"#compare-{side} .text").inner_text().strip()
    shot(page, "compare")


def test_browse(page):
    page.get_by_role("tab", name="Browse", exact=True).click()
    page.locator("#browse-verdict input").click()
    page.get_by_role("option", name="wrong").click()
    page.wait_for_selector("#browse-view .step.wrong")
    shot(page, "browse")


def test_learn(page):
    page.get_by_role("tab", name="Learn", exact=True).click()
    page.locator(".cft-card .katex").first.wait_for()
    assert page.locator(".cft-card").count() == 5
    shot(page, "learn")


def test_stopping_a_real_model(page):
    if page.look:
        pytest.skip("one look is enough")
    tokens(page, "solve", 512)
    page.locator("#solve-question textarea").fill("Count from 1 to 1000, one number after the other.")
    page.click("#solve-run")
    page.wait_for_selector("#solve-view .caret", timeout=60_000)
    page.click("#solve-stop")
    page.wait_for_function("document.querySelector('#solve-status').innerText.includes('Stopped')", timeout=60_000)
    page.locator("#solve-question textarea").fill("What is 2 + 2?")
    tokens(page, "solve", 16)
    page.click("#solve-run")  # its place is free again
    page.wait_for_function("document.querySelector('#solve-status').innerText.includes('Done')", timeout=120_000)
