"""`cft browse`: the rows that fit a filter, one row as the page shows it, and the page in a real browser."""

from __future__ import annotations

import contextlib
import json
import threading
import urllib.error
import urllib.request
from html import unescape

import pytest
from space_app import browser

from cft_trl.cli import main
from cft_trl.data.records import make_record
from cft_trl.demo.browse import Rows, make_server
from cft_trl.demo.browse_tab import BrowseTab, ShownRows, row_html
from cft_trl.demo.settings import DemoSettings
from cft_trl.errors import CFTError

HOSTILE = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"
RECORDS = [
    make_record(query="What is 6 x 7?", response="6 x 7 = 42\n\nThe answer is 42.", teacher="a", reference_answer="42",
                critique="I add six sevens, one by one.\n\nConclusion: right [END]"),
    make_record(query="What is 3 x 8 - 5?", response="3 x 8 = 24\n\n24 - 5 = 18\nThe answer is 18.", teacher="a",
                reference_answer="19", critique="😀 Step 2 is wrong: 24 - 5 = 19.\n\nConclusion: wrong [END]"),
    make_record(query="What is 1 + 1?", response="The answer is 2.", teacher="b", reference_answer="2",
                critique="Conclusion: right [END]\n\nWait.\n\nConclusion: wrong [END]"),
    make_record(query="Is it so?", response=HOSTILE + "w" * 400, critique=HOSTILE + " " + "x" * 3000),
]  # fmt: skip


@pytest.fixture(scope="module")
def rows():
    return Rows(RECORDS)


@contextlib.contextmanager
def served(rows):
    server = make_server(rows, "127.0.0.1", 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def get(url):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=30) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_a_right_number_after_a_wrong_step_is_no_right_response():
    lucky = {"query": "6 x 7?", "response": "6 x 7 = 43. The answer is 42.", "reference_answer": "42"}
    said = [make_record(**lucky, critique=f"Conclusion: {word}", meta={"error_kind": "lucky"})
            for word in ("right", "wrong")]  # fmt: skip
    assert [fact["agrees"] for fact in Rows(said).facts] == ["no", "yes"]


def test_rows_are_counted_by_what_can_be_asked_for(rows):
    told = rows.summary()
    assert told["rows"] == 4
    assert told["verdict"] == {"right": 1, "wrong": 2, "none": 1}
    assert told["teacher"] == {"a": 2, "b": 1, "not named": 1}
    assert told["agrees"] == {"yes": 2, "no": 1, "unknown": 1}
    assert told["contradicts"] == 1


@pytest.mark.parametrize(
    ("asked", "found"),
    [({}, [0, 1, 2, 3]), ({"verdict": "wrong"}, [1, 2]), ({"verdict": "none"}, [3]), ({"teacher": "a"}, [0, 1]),
     ({"agrees": "no"}, [2]), ({"contradicts": "yes"}, [2]), ({"least": "3000"}, [3]), ({"most": "60"}, [0, 1, 2]),
     ({"text": "SEVENS"}, [0]), ({"verdict": "wrong", "agrees": "yes", "teacher": ""}, [1])],
)  # fmt: skip
def test_rows_that_fit(rows, asked, found):
    assert rows.find(asked) == found


def test_a_row_has_the_line_that_is_called_wrong(rows):
    row = rows.row(1)
    assert row["response"][row["wrong_step"]] == "24 - 5 = 18"
    start, end = row["verdict_span"]
    assert row["critique"][start:end] == "wrong"
    assert (row["verdict"], row["truth"], row["agrees"]) == ("wrong", "wrong", "yes")
    assert rows.row(0)["wrong_step"] is None
    assert rows.row(2)["contradiction"] == "concludes right and wrong"


def test_the_truth_is_never_what_the_critique_says():
    [fact] = Rows([make_record(query="q", response="The answer is 1.", critique="Conclusion: right")]).facts
    assert fact["agrees"] == "unknown"
    labelled = {"query": "q", "response": "r", "critique": "Conclusion: right", "meta": {"label": False}}
    assert Rows([make_record(**labelled)]).facts[0]["agrees"] == "no"


def test_the_server_answers_and_refuses(rows):
    with served(rows) as url:
        assert get(f"{url}/api/find?verdict=wrong&text=") == (200, [1, 2])
        assert get(f"{url}/api/row/3")[1]["response"][0].startswith("<img")
        assert get(f"{url}/api/find?least=many") == (400, {"error": "least: 'many' is not a whole number"})
        for path in ("/api/row/4", "/api/row/x", "/etc/passwd", "/../setup.py"):
            assert get(url + path)[0] == 404
        with pytest.raises(CFTError, match="cannot be listened on"):
            make_server(rows, "127.0.0.1", int(url.rpartition(":")[2]))


def test_what_cannot_be_read_is_told(tmp_path, capsys):
    assert main(["browse", str(tmp_path / "none.jsonl")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page(rows, width, scheme):
    with (
        served(rows) as url,
        browser() as chromium,
        chromium.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, bypass_csp=True) as context,
    ):
        page = context.new_page()
        page.set_default_timeout(120_000)
        errors, asked = [], []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(url)
        page.wait_for_function("document.getElementById('place').textContent === '1 of 4'")
        widths = []
        for place in (2, 3, 4):
            widths.append(page.evaluate("document.querySelector('main').getBoundingClientRect().width"))
            page.keyboard.press("ArrowRight")
            page.wait_for_function(f"document.getElementById('place').textContent === '{place} of 4'")
            if place == 2:
                page.wait_for_function("document.querySelector('.step')?.innerText === '24 - 5 = 18'")
                page.wait_for_function("document.querySelector('#critique mark')?.innerText === 'wrong'")
        page.wait_for_function("document.getElementById('response').innerText.startsWith('<img src=x')")
        assert page.title() == "Critiques"
        assert len(set(widths)) == 1
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator("#on").is_disabled()
        page.locator("select[name=agrees]").select_option("no")
        page.wait_for_function("document.getElementById('place').textContent === '1 of 1'")
        told = "The critique concludes right and wrong."
        page.wait_for_function(f"document.getElementById('contradiction').innerText === '{told}'")
        page.reload()
        page.wait_for_function("document.getElementById('place').textContent === '1 of 1'")
        page.locator("input[name=least]").fill("many")
        page.wait_for_function("document.getElementById('place').textContent.includes('not a whole number')")
        assert [url for url in errors if url] == []
        assert all(one.startswith(url) for one in asked)


# ---- the same in the Space -------------------------------------------------------------------------------------------


def test_the_space_shows_rows_of_a_file_and_says_what_they_are(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in RECORDS))
    shown = ShownRows.of(DemoSettings(rows=str(path)))
    assert (len(shown.rows.facts), shown.about) == (4, "4 rows of mine.jsonl.")
    few = ShownRows.of(DemoSettings(rows=str(path), rows_limit=2))
    assert few.about == "The first 2 rows of mine.jsonl, which has more; CFT_ROWS_LIMIT sets how many are shown."
    assert "arithmetic source" in ShownRows.of(DemoSettings()).about
    with pytest.raises(CFTError, match=r"none\.jsonl"):
        ShownRows.of(DemoSettings(rows=str(tmp_path / "none.jsonl")))


def test_rows_that_cannot_be_read_are_told_before_a_model_is_loaded(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("cft_trl.demo.runtime.Runtime.load", lambda _: pytest.fail("a model was loaded"))
    assert main(["demo", "--rows", str(tmp_path / "none.jsonl")]) == 2
    assert "none.jsonl" in capsys.readouterr().err


def test_a_rows_texts_stay_texts_in_the_space(rows):
    for at in range(4):
        html = row_html(rows.row(at))
        assert "<script" not in html
        assert "<img" not in html
        assert "\n" not in html
    assert "&lt;script&gt;" in row_html(rows.row(3))


def test_the_spaces_row_marks_the_line_and_tells_the_truth(rows):
    html = row_html(rows.row(1))
    assert html.count('class="step wrong"') == 1
    assert "24 - 5 = 18" in html.partition('class="step wrong"')[2].partition("</div></div>")[0]
    assert 'class="chip wrong"' in html
    assert "truth <b>wrong</b>" in html
    assert "The critique concludes right and wrong." in row_html(rows.row(2))


def test_the_spaces_buttons_walk_through_what_was_found(rows):
    tab = BrowseTab(ShownRows(rows, "four rows"))
    found, at, line, html, back, on = tab._find("wrong", "", "", "", "", "", "")
    assert (found, at, "1 of 2" in line, "24 - 5 = 18" in html) == ([1, 2], 0, True, True)
    assert (back["interactive"], on["interactive"]) == (False, True)
    at, line, html, back, on = tab._go(1, found, at)
    assert (at, "2 of 2" in line, on["interactive"]) == (1, True, False)
    assert tab._go(1, found, at)[0] == 1
    assert tab._go(0, found, at)[0] in (0, 1)
    found, at, line, *_ = tab._find("", "", "", "", "-3", None, "")
    assert (found, at) == ([], 0)
    assert "'-3' is not a whole number" in unescape(line)
    assert tab._go(1, found, at)[0] == 0
