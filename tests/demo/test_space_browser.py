"""The page in a real browser: each tab, stopping, hostile texts, the keyboard, a phone. Skipped where there is none.

`CFT_SCREENSHOTS=docs/images python -m pytest tests/demo/test_space_browser_real.py -m slow` saves what the tabs look
like.
"""

from __future__ import annotations

import re

import pytest
from space_app import Scripted, browser, example, running, settled

HOSTILE = (
    "<script>document.title = 'taken'</script><img src=http://127.0.0.1:9/a.png onerror=\"document.title='taken'\">\n"
    "[link](javascript:document.title='taken') ![image](http://127.0.0.1:9/b.png)\n"
    "$\\href{javascript:document.title='taken'}{x}$ \\includegraphics{http://127.0.0.1:9/c.png}\n"
    "```mermaid\ngraph TD; A-->B\n```\n%%%LATEX_BLOCK_0%%%\n<iframe src=http://127.0.0.1:9/d></iframe>\n"
    "$\\frac{1}{2}$ \\boxed{<b onclick=alert(1)>7</b>}"
)


@pytest.fixture(scope="module")
def chromium():
    with browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def model():
    return Scripted(pause=0.002)


@pytest.fixture(scope="module")
def app(model):
    with running(model) as served:
        yield served


@pytest.fixture
def page(chromium, app):
    """A page of 1280 × 900 pixels that knows what it has asked the network for."""
    with chromium.new_context(viewport={"width": 1280, "height": 900}) as context:
        page = context.new_page()
        page.asked, page.errors = [], []
        page.on("request", lambda request: page.asked.append(request.url))
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.goto(app.local_url)
        page.wait_for_selector("#solve-run")
        yield page
        assert not page.errors
        # Nothing is fetched from anywhere but the app.
        assert not [url for url in page.asked if not url.startswith((app.local_url, "data:", "blob:"))]


def tab(page, name):
    page.get_by_role("tab", name=name, exact=True).click()


@pytest.mark.slow
def test_solving_shows_the_answer_in_a_box(page):
    page.get_by_label("Question").first.fill("What is $6 \\times 7 - 5$?")
    page.click("#solve-run")
    assert "Final answer: 37" in settled(page, "solve")
    page.wait_for_selector("#solve-view .final-box .katex")
    assert page.locator("#solve-view").get_attribute("aria-busy") == "false"


@pytest.mark.slow
def test_an_example_is_clicked_and_solved_in_two_stages(page, model):
    example(page, "solve", "A rectangle", "9 by 5 meters")
    page.get_by_label("Two-stage").check()
    page.click("#solve-run")
    assert "after 3 rounds" in settled(page, "solve")
    assert page.locator("#solve-view .round").count() == 3
    assert page.locator("#solve-view .round .chip.wrong").count() == 3
    asked, sampling = model.asked[-2]
    assert "rectangular field of 9 by 5" in asked[-1]["content"]
    assert sampling["temperature"] == 0.6  # greedily, every round would be the first again


@pytest.mark.slow
def test_critiquing_marks_the_verdict_and_the_first_wrong_step(page):
    tab(page, "Critique")
    # What the model's text speaks of; the page's own example is any other.
    page.locator("#critique-solution textarea").fill(
        "First, 7 × 6 = 42 pencils.\nThen, 42 - 5 = 35 pencils.\nThe answer is 35."
    )
    page.click("#critique-run")
    assert "Verdict: wrong; the first wrong step is number 2" in settled(page, "critique")
    assert page.locator("#critique-view .verdict-row .chip").inner_text().split() == ["✗", "wrong"]
    [marked] = page.locator("#critique-view .step.wrong").all_inner_texts()
    assert marked.split("\n") == ["2", "first wrong step", "Then, 42 - 5 = 35 pencils."]


@pytest.mark.slow
def test_comparing_shows_both_models_on_the_same_input(page):
    tab(page, "Compare")
    page.click("#compare-run")
    assert "CFT model: Verdict: wrong" in settled(page, "compare")
    assert "looks fine" in page.locator("#compare-base").inner_text()
    assert "arithmetic error" in page.locator("#compare-cft").inner_text()
    page.reload()
    tab(page, "Compare")
    page.locator("#compare-solution textarea").fill("")
    page.click("#compare-run")
    assert "CFT model: Final answer: 37" in settled(page, "compare")


@pytest.mark.slow
def test_a_worked_example_is_tried_in_critique(page):
    tab(page, "Learn")
    assert page.locator(".cft-card").count() == 5
    assert page.locator(".picture .flow").count() == 3
    assert page.locator("a[href='https://huggingface.co/datasets/TIGER-Lab/WebInstruct-CFT']").is_visible()
    page.click("#try-4")
    page.wait_for_selector("#critique-run:visible")
    page.wait_for_function("document.querySelector('#critique-question textarea').value.includes('candies')")
    assert "36 ÷ 4 = 9" in page.locator("#critique-solution textarea").input_value()


def test_stopping_keeps_what_was_written_and_ends_the_model(page, model):
    model.endless, model.pause = True, 0.01
    model.closed.clear()
    try:
        page.click("#solve-run")
        page.wait_for_selector("#solve-view .caret")
        page.wait_for_function("document.querySelector('#solve-view').innerText.includes('pencils')")
        page.click("#solve-stop")
        page.wait_for_function("document.querySelector('#solve-status').innerText.includes('Stopped')")
        assert model.closed.wait(30)
        assert "pencils" in page.locator("#solve-view").inner_text()
    finally:
        model.endless, model.pause = False, 0.002


@pytest.mark.slow
def test_leaving_the_page_ends_the_model(chromium, app, model):
    model.endless, model.pause = True, 0.01
    model.closed.clear()
    try:
        with chromium.new_context() as context:
            left = context.new_page()
            left.goto(app.local_url)
            left.click("#solve-run")
            left.wait_for_selector("#solve-view .caret")
        assert model.closed.wait(60)
    finally:
        model.endless, model.pause = False, 0.002


def test_hostile_texts_stay_texts(page, model):
    kept = model.solution, model.critique
    model.solution = model.critique = HOSTILE
    try:
        for name, fields in (("solve", ["question"]), ("critique", ["question", "solution"])):
            tab(page, name.capitalize())
            for field in fields:
                page.locator(f"#{name}-{field} textarea").fill(HOSTILE)
            page.click(f"#{name}-run")
            assert "Done" in settled(page, name)
            view = page.locator(f"#{name}-view")
            view.locator(".katex .mfrac").first.wait_for()
            assert "<script>document.title" in view.inner_text()
            assert "![image](http://127.0.0.1:9/b.png)" in view.inner_text()
            assert view.locator("a, img, script, iframe, svg a, [onclick], [onerror], .mermaid").count() == 0
        assert page.title() == "Critique fine-tuning"
    finally:
        model.solution, model.critique = kept


@pytest.mark.slow
def test_a_megabyte_is_refused_in_a_sentence(page, model):
    before = len(model.asked)
    page.locator("#solve-question textarea").evaluate(
        "box => { box.value = 'x'.repeat(1000000); box.dispatchEvent(new Event('input', {bubbles: true})) }"
    )
    page.click("#solve-run")
    page.wait_for_selector("#solve-status .trouble")
    assert "1,000,000 characters long; this Space takes up to 4,000" in page.locator("#solve-status").inner_text()
    assert len(model.asked) == before


@pytest.mark.slow
def test_everything_has_a_name_and_the_keyboard_reaches_it(page):
    for name in ("Solve", "Critique", "Compare", "Browse"):
        tab(page, name)
        for box in page.locator("textarea:visible, input:visible, button:visible").all():
            named = "e => [...(e.labels || [])].map(l => l.innerText).join() || e.ariaLabel || e.innerText || e.title"
            assert box.evaluate(named).strip(), box.evaluate("e => e.outerHTML")[:200]
        status = page.locator(f"#{name.lower()}-status")
        assert (status.get_attribute("role"), status.get_attribute("aria-live")) == ("status", "polite")
        assert page.locator(".block.cft-out:visible").first.get_attribute("aria-live") == "polite"
    tab(page, "Solve")
    page.locator("#solve-question textarea").focus()
    order = []
    for _ in range(12):
        page.keyboard.press("Tab")
        order.append(page.evaluate("document.activeElement.id || document.activeElement.name || ''"))
    assert order.index("solve-run") < order.index("solve-stop")
    page.locator("#solve-run").focus()
    page.keyboard.press("Enter")
    assert "Final answer: 37" in settled(page, "solve")
    page.reload()
    page.locator("#solve-question textarea").focus()
    page.keyboard.press("Shift+Enter")
    assert "Final answer: 37" in settled(page, "solve")


@pytest.mark.parametrize("scheme", [pytest.param("light", marks=pytest.mark.slow), "dark"])
def test_a_phone_needs_no_scrolling_sideways_and_contrast_is_enough(chromium, app, scheme):
    with chromium.new_context(viewport={"width": 390, "height": 844}, color_scheme=scheme) as context:
        phone = context.new_page()
        phone.goto(app.local_url)
        phone.wait_for_selector("#solve-run")
        for name in ("Solve", "Critique", "Compare", "Browse", "Learn"):
            tab(phone, name)
            if name not in ("Browse", "Learn"):
                phone.click(f"#{name.lower()}-run")
                settled(phone, name.lower())
            assert phone.evaluate("document.documentElement.scrollWidth") <= 390
            for found, ratio in phone.evaluate(CONTRAST):
                assert ratio >= 4.5, f"{scheme}, {name}: {found}"


# Width of the page's column, of the header above and of what the open tab shows, in whole pixels
WIDTHS = """[...new Set(['#tabs', '.cft-header', '.tabitem:not([style*="display: none"])'].map(
    name => Math.round(document.querySelector(name).getBoundingClientRect().width)))]"""
LOOKS = [
    (1280, "dark"),
    *(pytest.param(*look, marks=pytest.mark.slow) for look in ((1280, "light"), (390, "light"), (390, "dark"))),
]


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_one_width_on_every_tab_and_while_an_answer_streams(chromium, app, width, scheme):
    with chromium.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme) as context:
        page = context.new_page()
        page.goto(app.local_url)
        page.wait_for_selector("#solve-run")
        page.evaluate(
            f"window.seen = new Set(); const see = () => {{ ({WIDTHS}).forEach(w => seen.add(w));"
            "requestAnimationFrame(see) }; see()"
        )
        for name in ("Solve", "Critique", "Compare", "Browse", "Learn"):
            tab(page, name)
            if name in ("Solve", "Critique", "Compare"):
                page.click(f"#{name.lower()}-run")
                settled(page, name.lower())
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        seen = page.evaluate("[...window.seen]")
        assert len(seen) == 1, seen
        assert seen[0] > 0.85 * min(width, 1180)
        # The footer ends in its link, not in a separator.
        assert "·" not in page.locator("footer").inner_text()


def tops(page, *ids):
    return [page.locator(f"#{name}").evaluate("e => Math.round(e.getBoundingClientRect().top)") for name in ids]


@pytest.mark.parametrize("scheme", [pytest.param("light", marks=pytest.mark.slow), "dark"])
def test_a_phone_scrolls_to_the_output_and_its_button_shows_that_it_works(chromium, app, model, scheme):
    model.endless, model.pause = True, 0.01
    try:
        for name in ("Solve", "Critique", "Compare"):
            with chromium.new_context(
                viewport={"width": 390, "height": 844},
                color_scheme=scheme,
                reduced_motion="reduce",
                has_touch=True,
                is_mobile=True,
            ) as context:
                page = context.new_page()
                page.goto(app.local_url)
                page.wait_for_selector("#solve-run")
                tab(page, name)
                low = name.lower()
                page.tap(f"#{low}-run")
                page.wait_for_selector(f"#{low}-run.working")
                page.wait_for_selector(f"#{low}-status >> text=writing")
                assert page.locator(f"#{low}-run").get_attribute("aria-busy") == "true"
                [line] = tops(page, f"{low}-status")
                assert 0 <= line < 100
                # Both buttons are on the screen, and Stop works there.
                assert all(0 < top < 844 - 30 for top in tops(page, f"{low}-run", f"{low}-stop"))
                page.tap(f"#{low}-stop")
                page.wait_for_selector(f"#{low}-status >> text=Stopped")
                page.wait_for_selector(f"#{low}-run:not(.working)")
                assert page.locator(f"#{low}-run").get_attribute("aria-busy") == "false"
                assert 0 <= tops(page, f"{low}-status")[0] < 100
    finally:
        model.endless, model.pause = False, 0.002


@pytest.mark.slow
def test_the_button_is_at_rest_after_an_answer_and_after_a_refusal(page):
    page.click("#solve-run")
    settled(page, "solve")
    page.wait_for_selector("#solve-run:not(.working)")
    page.get_by_label("Question").first.fill(" ")
    page.click("#solve-run")
    page.wait_for_selector("#solve-status .trouble")
    page.wait_for_selector("#solve-run:not(.working)")
    assert page.locator("#solve-run").evaluate("e => getComputedStyle(e).position") != "fixed"


@pytest.mark.slow
def test_an_empty_seed_is_shown_as_empty_and_a_wrong_one_is_refused(page, model):
    page.click("#solve-settings button")
    seed = page.locator("#solve-settings").get_by_label("Seed")
    assert seed.input_value() == ""
    seed.fill("twelve")
    page.click("#solve-run")
    page.wait_for_selector("#solve-status .trouble")
    assert "The seed must be a whole number" in page.locator("#solve-status").inner_text()
    seed.fill("12")
    warmth = page.locator("#solve-settings").get_by_label("Temperature").first
    warmth.fill("0.5")
    warmth.press("Tab")
    page.click("#solve-run")
    page.wait_for_selector("#solve-status >> text=Done")
    assert model.asked[-1][1]["seed"] == 12


@pytest.mark.parametrize("width", [1280, pytest.param(390, marks=pytest.mark.slow)])
def test_rows_are_browsed(chromium, app, width):
    with chromium.new_context(viewport={"width": width, "height": 844}) as context:
        page = context.new_page()
        page.goto(app.local_url)
        page.wait_for_selector("#solve-run")
        tab(page, "Browse")
        place, view = page.locator("#browse-status"), page.locator("#browse-view")
        page.wait_for_selector("#browse-status >> text=1 of 200")
        assert page.locator("#browse-back").is_disabled()
        page.click("#browse-on")
        page.wait_for_selector("#browse-status >> text=2 of 200")
        page.locator("#browse-view").click()
        page.keyboard.press("ArrowLeft")
        page.wait_for_selector("#browse-status >> text=1 of 200")
        page.locator("#browse-verdict input").click()
        page.get_by_role("option", name="wrong").click()
        page.wait_for_selector("#browse-status >> text=1 of 100")
        assert view.locator(".chip.wrong").count() == 1
        assert view.locator(".step.wrong").inner_text().startswith("called wrong")
        page.locator("#browse-least textarea, #browse-least input").fill("many")
        page.wait_for_selector("#browse-status .trouble")
        assert "'many' is not a whole number" in place.inner_text()
        page.locator("#browse-least textarea, #browse-least input").fill("100000")
        page.wait_for_selector("#browse-status >> text=No row fits.")
        assert page.locator("#browse-on").is_disabled()


# [words and class, contrast with what is behind them] of every text that is seen; WCAG's formula
CONTRAST = re.sub(
    r"\s+",
    " ",
    """() => {
    const rgb = c => (c.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
    const light = c => { const [r, g, b] = c.map(v => v / 255).map(
        v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
    const behind = e => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor);
        if (c.length < 4 || c[3] > 0.5) return c; } return [255, 255, 255]; };
    const own = '.cft-header *, .cft-about *, footer button, .cft-view *, .cft-status *, .prose-block *, '
        + '.flow *, .model-head *, [role=tab]';
    const says = e => [...e.childNodes].some(n => n.nodeType == 3 && n.data.trim());
    return [...document.querySelectorAll(own)].filter(e => e.offsetParent && !e.closest('.katex') && says(e)).map(e => {
        const a = light(rgb(getComputedStyle(e).color)), b = light(behind(e));
        return [e.className + ': ' + e.innerText.slice(0, 40), (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)]; });
}""",
)
