"""The app's texts and checks, without a page: what is shown does no harm, says what it should, hides what it must."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cft_trl.data.verdict import parse_verdict
from cft_trl.demo.actions import status
from cft_trl.demo.asks import Ask, checked
from cft_trl.demo.examples import QUESTIONS, SOLUTIONS, WORKED
from cft_trl.demo.learn import worked_html
from cft_trl.demo.rendering import DISPLAY, INLINE, MAX_CHARS, formula, to_html
from cft_trl.demo.runtime import sentence
from cft_trl.demo.settings import DemoSettings, display_name
from cft_trl.demo.views import Transcript, split_steps
from cft_trl.errors import CFTError
from cft_trl.evaluation.first_error import first_error_step
from cft_trl.generation.modes import Event, Outcome, Round

HOSTILE = (
    "<script>alert(1)</script>",
    '<img src=x onerror="alert(1)">',
    "<svg/onload=alert(1)>",
    '"><iframe src="javascript:alert(1)"></iframe>',
    "[a](javascript:alert(1)) ![a](http://tracker.invalid/x.png) <http://tracker.invalid>",
    "[ref]\n\n[ref]: javascript:alert(1)",
    "```mermaid\ngraph TD; A-->B\n```",
    r"$\href{javascript:alert(1)}{x}$ \[\includegraphics{http://tracker.invalid/x.png}\]",
    r"$\rule{9999em}{9999em}$ \boxed{\htmlData{x=y}{z}}",
    "%%%LATEX_BLOCK_0%%% \ue000\\href{javascript:1}{x}\ue001 \ue004" + "0\ue005",
    "\u202edesrever\u2066 \x00\x1b[31m",
    "\\boxed{a\n\n![b](http://tracker.invalid/x.png)} \\boxed{a\r\r<u>}",
    "# <b>\n- <i>\n**<u>** `<s>`",
    "&lt;script&gt; &#60;script&#62;",
    "{{constructor.constructor('alert(1)')()}} ${alert(1)}",
)


class Seen(HTMLParser):
    """The tags, attributes and text of some HTML."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.text = set(), set(), ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data):
        self.text += data

    def handle_comment(self, data):
        self.tags.add("comment")


def harmless(html: str) -> None:
    seen = Seen(html)
    assert seen.tags <= {"div", "span", "strong", "code"}
    assert seen.attributes <= {"class"}
    assert len(html.splitlines()) <= 1  # a blank line would end the block of HTML, and Markdown would begin
    assert "%%%" not in html
    for left, right in (INLINE, DISPLAY):
        for part in html.split(left)[1:]:
            assert "href" not in part.partition(right)[0]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_text_is_only_text(text):
    harmless(to_html(text))
    harmless(formula(text))
    harmless(status(text))
    transcript = Transcript(Ask("critique", text, text))
    transcript.add([Event("critique", 1, text), Event("verdict", 1, "")])
    harmless(transcript.html())


@settings(deadline=None)
@given(st.text(st.sampled_from("<>&\"'`*#-[]()!$\\{}%\n\r\u2028\ue000\ue001\ue004\ue0050boxedhref")))
def test_no_text_at_all_makes_a_tag_or_a_line(text):
    harmless(to_html(text))


@settings(deadline=None)
@given(
    st.text(st.characters(exclude_categories=["Cc", "Cs", "Co", "Cf"], exclude_characters="*`#-•$\\\u2028\u2029\x85"))
)
def test_an_ordinary_text_is_shown_whole(text):
    assert "".join(Seen(to_html(text)).text.split()) == "".join(text.split())


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\u2028"])
def test_lines_stay_lines(end):
    assert to_html(f"{end}a{end}b{end}") == '<div class="ln">a</div><div class="ln">b</div>'


def test_a_megabyte_is_cut_and_says_so():
    html = to_html("<b>$x " * 200_000)
    assert len(html) < 8 * MAX_CHARS
    assert "the rest is not shown" in html


@pytest.mark.parametrize(
    ("text", "formulas"),
    [
        ("It costs $5, and $6 more: $11.", []),
        ("between $5-$7", []),
        (r"so $x^2 = 4$ and $$y$$", ["x^2 = 4", "y"]),
        (r"\(a\) then \[b\nc\]", ["a", "b c"]),
        (r"The answer is \boxed{\frac{1}{2}} meters.", [r"\boxed{\frac{1}{2}}"]),
        (r"$\boxed{17}$ and \boxed{", [r"\boxed{17}"]),
        ("$a < b$", ["a &lt; b"]),
    ],
)
def test_formulas_are_told_from_prices(text, formulas):
    html = to_html(text.replace(r"\n", "\n"))
    found = []
    for left, right in (INLINE, DISPLAY):
        found += [part.partition(right)[0] for part in html.split(left)[1:]]
    assert found == formulas


@pytest.mark.parametrize(
    ("solution", "steps"),
    [
        ("2 + 2 = 5\n5 + 1 = 6\nThe answer is 6.", ["2 + 2 = 5", "5 + 1 = 6", "The answer is 6."]),
        ("Step 1: Add.\n2 + 2 = 5\nStep 2: Stop.", ["Step 1: Add.\n2 + 2 = 5", "Step 2: Stop."]),
        ("1. Add.\n2. Stop.\nAnswer: 5", ["1. Add.", "2. Stop.", "Answer: 5"]),
        ("Let x = 2.\nThen x + 2 = 4.\n\nSo it is 4.", ["Let x = 2.\nThen x + 2 = 4.", "So it is 4."]),
        ("1.2 + 2.4 = 3.6\n24 + 12 = 36\n3.6 + 36 = 39.6", ["1.2 + 2.4 = 3.6", "24 + 12 = 36", "3.6 + 36 = 39.6"]),
        ("", []),
    ],
)
def test_a_solution_is_cut_into_steps(solution, steps):
    assert split_steps(solution) == steps


def told(critique: str, solution: str = "2 + 2 = 5\nThe answer is 5.") -> Transcript:
    transcript = Transcript(Ask("critique", "2 + 2?", solution))
    verdict = parse_verdict(critique)
    transcript.add([Event("critique", 1, critique), Event("verdict", 1, verdict or "")])
    outcome = Outcome(critique, (Round(solution, critique, verdict),), "stop", 9, 9)
    transcript.add([Event("end", 1, critique, outcome)])
    return transcript


def test_an_answer_cannot_reach_the_status_line_as_markdown():
    text = "\\boxed{1\n\n![b](http://tracker.invalid/x.png)}" + "\r\r"
    transcript = Transcript(Ask("direct", "2+2?"))
    transcript.add([Event("solution", 1, text), Event("end", 1, text, Outcome(text, (), "stop", 1, 1))])
    assert "tracker" in transcript.summary()
    harmless(status(transcript.summary()))
    harmless(transcript.html())


def test_the_first_wrong_step_is_marked_in_words():
    html = told("Step 1: 2 + 2 = 4, but the solution has 5: an arithmetic error.\nConclusion: wrong [END]").html()
    marked = html.split('<div class="step wrong">')
    assert len(marked) == 2
    assert marked[1].startswith('<span class="step-number">1</span>')
    assert "first wrong step" in marked[1]
    assert "[END]" not in html


@pytest.mark.parametrize(
    "critique",
    [
        "Step 1 is wrong?\nConclusion: right [END]",  # it concludes otherwise
        "Step 9: this is wrong.\nConclusion: wrong [END]",  # there is no ninth
        "It is wrong.\nConclusion: wrong [END]",
        "Step 1 is wrong.",  # no verdict
    ],
)
def test_no_step_is_marked_where_none_is_named(critique):
    transcript = told(critique)
    assert transcript.first_wrong_step is None
    assert "step wrong" not in transcript.html()


@pytest.mark.parametrize(
    ("verdict", "word"), [("Conclusion: right", "right"), ("Conclusion: wrong", "wrong"), ("Well.", "no verdict")]
)
def test_a_verdict_is_a_word_and_not_only_a_colour(verdict, word):
    transcript = told(verdict)
    assert f"</span>{word}</span>" in transcript.html()
    assert word.split()[-1] in transcript.summary()


def test_a_question_with_formulas_is_shown_as_it_reads():
    for query, shown in (("What is $3^2$?", True), ("What is 3 x 3, for $5?", False)):
        transcript = Transcript(Ask("direct", query))
        transcript.add([Event("solution", 1, "9")])
        assert (f"{INLINE[0]}3^2{INLINE[1]}" in transcript.html()) == shown


def test_rounds_are_shown_one_by_one():
    transcript = Transcript(Ask("two_stage", "2 + 2?"))
    for number, (answer, verdict) in enumerate([("5", "wrong"), ("4", "right")], 1):
        transcript.add([Event("solution", number, f"The answer is {answer}."), Event("critique", number, "Hm.")])
        transcript.add([Event("verdict", number, verdict)])
    assert "final-box" not in transcript.html()  # not before it is done
    transcript.add([Event("end", 2, "", Outcome("The answer is 4.", (), "stop", 1, 1))])
    html = transcript.html()
    assert html.index("Round 1") < html.index("Round 2") < html.index("final-box")
    assert html.count('class="chip wrong"') == html.count('class="chip right"') == 1
    assert transcript.summary() == "Final answer: 4, after 2 rounds"


def test_the_worked_examples_say_what_they_claim():
    for number, worked in enumerate(WORKED, 1):
        steps = split_steps(worked.solution)
        assert parse_verdict(worked.critique) == worked.verdict
        found = first_error_step(worked.critique, steps) if worked.verdict == "wrong" else None
        assert found == worked.wrong_step
        harmless(worked_html(number, worked))
    assert len(WORKED) == 5
    for text in [*QUESTIONS.values(), *(part for pair in SOLUTIONS.values() for part in pair)]:
        assert checked(Ask("direct", text), DemoSettings()).query == text


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (Ask("direct", " \n"), "There is no question yet"),
        (Ask("critique", "2+2?", ""), "There is no solution yet"),
        (Ask("direct", "x" * 1_000_000), "The question is 1,000,000 characters long; this Space takes up to 4,000."),
        (Ask("critique", "2+2?", "x" * 8_001), "The solution is 8,001 characters long"),
        (Ask("poem", "2+2?"), "The modes are"),
        (
            Ask("direct", "2+2?", max_new_tokens=10**9),
            "The longest answer must be a whole number from 1 to 512 tokens.",
        ),
        (Ask("direct", "2+2?", max_new_tokens=None), "The longest answer"),
        (Ask("direct", "2+2?", temperature=float("nan")), "The temperature"),
        (Ask("two_stage", "2+2?", max_rounds=50), "The number of rounds"),
        (Ask("direct", "2+2?", seed=-5), "The seed"),
        (Ask("direct", ["2+2?"]), "The question must be a text, not a list"),
    ],
)
def test_a_request_that_cannot_be_taken_is_told_why(ask, words):
    with pytest.raises(CFTError, match=words.replace(".", r"\.")):
        checked(ask, DemoSettings())


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("CFT_MAX_NEW_TOKENS", "many", "give a whole number from 1"),
        ("CFT_MAX_NEW_TOKENS", "0", "a whole number from 1"),
        ("CFT_ENDPOINT", "localhost:8000", "give an address"),
        ("CFT_PROMPT_PRESET", "mine", "give paper, compact, per_step or a run's folder"),
        ("CFT_MAX_ROUNDS", "9", "a whole number from 1 to 8"),
        ("CFT_PATIENCE", "-1", "seconds"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(variable, value, words):
    with pytest.raises(CFTError, match=words) as caught:
        DemoSettings.from_environment({variable: value})
    assert variable in str(caught.value)


def test_settings_come_from_the_environment():
    environ = {"CFT_MODEL": "org/mine", "CFT_BASE_MODEL": " ", "CFT_PATIENCE": "7.5", "CFT_CONCURRENCY": "3"}
    found = DemoSettings.from_environment(environ)
    assert found == DemoSettings(model="org/mine", patience=7.5, concurrency=3)
    assert (found.at_once, DemoSettings().at_once, DemoSettings(endpoint="http://x/v1").at_once) == (3, 1, 16)


def test_the_path_of_a_model_is_not_shown(tmp_path, monkeypatch):
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert {display_name(name) for name in (str(tmp_path / "runs" / "mine"), "runs/mine", "./runs/mine")} == {"mine"}


@pytest.mark.parametrize(
    "error",
    [
        CFTError("m at http://10.0.0.7:8000/v1: 401 (bad key sk-planted-key)"),
        CFTError("m at http://10.0.0.7:8000/v1: no connection (sk-planted-key)"),
        CFTError("m at http://10.0.0.7:8000/v1: bad request (context length of /srv/models/planted is 9)"),
        FileNotFoundError(2, "No such file", "/srv/models/planted"),
        TimeoutError("no text for 120 s from http://10.0.0.7"),
        RuntimeError("CUDA error at /srv/models/planted"),
    ],
)
def test_a_failure_is_a_sentence_without_keys_addresses_or_paths(error):
    said = sentence(error)
    assert said.endswith(".")
    assert not {"sk-planted-key", "10.0.0.7", "/srv", "planted"} & set(said.replace("/", " /").split())
    assert "http" not in said
