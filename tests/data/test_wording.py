"""Verdict words of one's own and templates: what is read, what is refused, and that a row is never a template."""

from __future__ import annotations

import pytest

from cft_trl.data.layouts import cft_user_turn
from cft_trl.data.prompt_templates import check_template, read_template, render, response_steps
from cft_trl.data.prompts import Prompting, Wording, make_wording, plain_wording, read_wording, verdict_by
from cft_trl.data.read_rows import concluded
from cft_trl.data.records import make_record, unpublishable
from cft_trl.data.teacher_prompts import PRESETS, clean_critique, critique_messages, refused_critique
from cft_trl.data.verdict_vocabulary import Verdicts, flow_verdicts, read_mapping, read_verdicts
from cft_trl.errors import CFTError

PAIR = Verdicts(("reject", "accept"), "accept")
GRADES = Verdicts(("1", "2", "3", "4", "5"), "4")
ROW = {"query": "What is 6 x 7?", "response": "6 x 7 = 43"}

SAID = [
    ("Conclusion: accept [END]", "accept"),
    ("It fails.\n\n**Conclusion:** Reject.", "reject"),
    ("### Final verdict\n\naccept", "accept"),
    ("> Verdict: *reject* [END]", "reject"),
    ("Judgement: ACCEPT!", "accept"),
    ("Conclusion: accept\n\nOn reflection.\n\nConclusion: reject [END]", "reject"),
    ("<think>Conclusion: accept [END]</think>Conclusion: reject [END]", "reject"),
    ("Conclusion: accept or reject [END]", None),
    ("Conclusion: accept/reject", None),
    ("Conclusion: not accept [END]", None),
    ("Conclusion: accepted", None),
    ("Conclusion: accept, but only half of it", None),
    ("Conclusion: accept [END]\n\nWait, the empty list fails.", None),
    ("They say the conclusion: accept", None),
    ("I accept it.", None),
    ("Conclusion: right [END]", None),
    ("", None),
]


@pytest.mark.parametrize(("text", "said"), SAID)
def test_what_a_critique_says_in_words_of_ones_own(text, said):
    assert PAIR.said(text) == said
    stated = PAIR.stated(text)
    assert (stated is None) == (said is None)
    if stated:
        assert text[stated.start : stated.end].lower() == said
        assert stated.verdict == ("right" if said == "accept" else "wrong")


@pytest.mark.parametrize(
    ("text", "grade"),
    [("Grade: 4/5", "4"), ("Conclusion: 3 [END]", "3"), ("Score: 5 out of 5.", "5"), ("Conclusion: 3.5", None),
     ("Conclusion: 3 tests fail", None), ("Conclusion: 3 or 4", None), ("Rating: 4/6", None), ("Conclusion: 10", None)],
)  # fmt: skip
def test_grades(text, grade):
    assert GRADES.said(text) == grade
    assert verdict_by(text, Wording(verdicts=GRADES)) == (grade and ("right" if grade in "45" else "wrong"))


@pytest.mark.parametrize(
    ("words", "written", "said"),
    [
        (("hatal\u0131", "geçerli"), "HATALI", "hatal\u0131"),
        (("hatal\u0131", "geçerli"), "GEÇERLİ", "geçerli"),
        (("hatal\u0131", "geçerli"), "Geçerli", "geçerli"),
        (("schlecht", "groß"), "GROẞ", "groß"),
        (("schlecht", "groß"), "GROSS", None),
        (("κακός", "ορθός"), "ΟΡΘΌΣ", "ορθός"),
        (("ﬁx", "ok"), "FIX", None),
        (("bad", "ok"), "O\u212a", "ok"),  # the Kelvin sign
    ],
)
def test_no_letter_of_any_alphabet_raises(words, written, said):
    verdicts = Verdicts(words, words[1])
    text = f"Conclusion: {written} [END]"
    assert verdicts.said(text) == said
    assert verdicts.contradiction(text) is None
    assert verdicts.cut(text) == text


def test_turkish_words_in_capitals_are_read():
    verdicts = Verdicts(("hatal\u0131", "geçerli"), "geçerli")
    assert verdicts.said("Conclusion: HATALI [END]") == "hatal\u0131"
    assert verdicts.said("Conclusion: GEÇERLİ [END]") == "geçerli"
    with pytest.raises(CFTError, match="is there twice"):
        Verdicts(("hatal\u0131", "HATALI"), "HATALI")


@pytest.mark.parametrize(
    ("text", "grade", "how"),
    [
        ("Clear.\nScore: 4\nShort.\nScore: 2\n\nConclusion: 3 [END]", "3", None),
        ("Clear.\n**Score:** 4/5\n\nConclusion: 3", "3", None),
        ("Score: 4\nShort, and cut off in the mid", None, None),
        ("Score: 4\n\nScore: 2\n\nThe third wish", None, None),
        ("Overall score: 4\n\nAll but one wish is met.", "4", None),
        ("**Final grade:** 4\n\nThat is all.", "4", None),
        ("Grade: 4 [END]\nSo much.", "4", None),
        ("Score: 4\n\n**Score:** 3/5.**\n", "3", None),
        ("Conclusion: 4\n\nOverall score: 2\n", "2", "concludes 4 and 2"),
        ("Conclusion: 4\n\nHm.\n\nConclusion: 2 [END]", "2", "concludes 4 and 2"),
        ("Conclusion: 4\n\nGrade: 2", "2", "concludes 4 and 2"),
    ],
)
def test_a_score_in_a_critique_is_not_its_conclusion(text, grade, how):
    assert (GRADES.said(text), GRADES.contradiction(text)) == (grade, how)


def test_words_that_begin_like_others():
    words = Verdicts(("accept with changes", "accept"), "accept")
    assert words.said("Conclusion: accept with changes [END]") == "accept with changes"
    assert words.said("Conclusion: accept [END]") == "accept"


def test_time_is_linear_in_the_length():
    text = "Conclusion: accept or " * 20_000 + "\n" + "\n" * 50_000 + "Conclusion: reject [END]"
    assert PAIR.said(text) == "reject"
    text = "Score: 4\n" * 20_000 + "Score: 4" + "\n" * 50_000 + "So."
    assert GRADES.said(text) is None


def test_a_teachers_answer_is_cut_and_refused_in_its_words():
    assert (
        clean_critique("**Critique:**\nNo.\n\nConclusion: reject [END]\nSo much.", PAIR)
        == "No.\n\nConclusion: reject [END]"
    )
    assert refused_critique("Conclusion: accept\n\nConclusion: reject", PAIR) == (
        "contradicts itself: concludes accept and reject"
    )
    assert refused_critique("Fine.\n\nConclusion: accept [END]", PAIR) is None


@pytest.mark.parametrize("verdicts", [PAIR, GRADES])
def test_every_way_that_words_are_written_reads_back(verdicts):
    wording = make_wording("compact", None, read_mapping(flow_verdicts(verdicts), "verdicts"))
    assert wording == Wording(None, verdicts, "compact")
    assert read_wording(plain_wording(wording)) == wording


def test_a_prompt_of_cgd_shows_the_critique():
    template = "{{ query }}|{{ response }}|{{ critique }}"
    wording = make_wording("paper", template, objective="cgd")
    row = {**ROW, "critique": "It is 42.", "refinement": "42"}
    prompting = Prompting("cgd", preset=wording)
    assert prompting.user_turn(row) == "What is 6 x 7?|6 x 7 = 43|It is 42."
    assert prompting.completion(row) == "42"
    with pytest.raises(CFTError, match="leaves out the critique"):
        make_wording("paper", "{{ query }}{{ response }}", objective="cgd")
    # Such a model has learnt no prompt for critiques, so it is asked in the preset's.
    assert read_wording({"prompt_preset": "paper", "prompt": template, "objective": "cgd"}) == "paper"


def test_right_and_wrong_are_no_words_of_ones_own():
    assert read_verdicts({"right": "right", "wrong": "wrong"}) is None
    assert make_wording("paper", None, {"right": "right", "wrong": "wrong"}) == "paper"
    assert Prompting().user_turn(ROW) == cft_user_turn(**ROW)


def test_a_rows_text_is_never_a_template():
    row = {"query": "{{ 1 + 1 }} {% raw %}", "response": "{{ query }}\n<b>&</b>"}
    assert render("{{ query }}|{{ response }}", row) == "{{ 1 + 1 }} {% raw %}|{{ query }}\n<b>&</b>"


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ query }}", "leaves out the response"),
        ("{{ response }}", "leaves out the query"),
        ("{{ query | upper }}{{ response }}", "or changes it"),
        ("{{ query }}{{ response[:5] }}", "leaves out the response"),
        ("{{ query }}{{ reponse }}", "'reponse' is unknown (did you mean 'response'?)"),
        ("{{ query }}{{ response }}{{ critique }}", "'critique' is not here"),
        ("{{ query }}{{ response }}{{ query.__class__ }}", "unsafe"),
        ("{{ query }}{{ response }}{% include 'x' %}", "no loader"),
        ("{{ query }}{{ response }}{{ [1, 2] | random }}", "No filter named 'random'"),
        ("{{ query }}\n{{ response", "line 2: no Jinja2 template"),
        ("{% for x in query %}{{ response }}", "no Jinja2 template"),
        ("{{ query }}{{ response }}{{ steps[7] }}", "the template fails"),
        ("{{ query }}{{ response }}{{ steps[-1] }}", "prompt, with an empty response: the template fails"),
    ],
)
def test_templates_that_are_refused(template, said):
    with pytest.raises(CFTError) as raised:
        check_template(template, PAIR)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_template_with_the_steps_in_the_place_of_the_response():
    check_template("{{ query }}{% for step in steps %}[{{ loop.index }}] {{ step }}\n{% endfor %}")
    check_template("{{ query }}{{ response }}{% if steps %}{{ steps[-1] }}{% endif %}")
    # A teacher is asked about no empty response.
    check_template("{{ query }}{{ response }}{{ steps[-1] }}{{ ending }}", also=("reference_answer",), ends=True)
    assert response_steps("**Step 1:** a\nb\n\n### Step 2\nc") == ["**Step 1:** a\nb", "### Step 2\nc"]
    assert response_steps("One step 1 and step 2.\nNext.") == ["One step 1 and step 2.", "Next."]


def test_a_template_is_looked_for_beside_the_file_that_names_it(tmp_path, monkeypatch):
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "mine.jinja").write_text("{{ query }}")
    monkeypatch.chdir(tmp_path)
    assert read_template("mine.jinja", folder=tmp_path / "recipes") == "{{ query }}"
    assert read_template("recipes/mine.jinja") == "{{ query }}"
    with pytest.raises(CFTError, match=r"prompt=mine\.jinja: no such file; give a Jinja2"):
        read_template("mine.jinja")
    (tmp_path / "empty.jinja").write_text(" \n")
    with pytest.raises(CFTError, match="empty"):
        read_template("empty.jinja")


@pytest.mark.parametrize("preset", PRESETS)
def test_teachers_are_asked_for_the_words(preset):
    [message] = critique_messages(ROW, preset, verdicts=PAIR)
    assert '"Conclusion: accept [END]"' in message["content"]
    assert "Conclusion: right" not in message["content"]
    [graded] = critique_messages(ROW, preset, verdicts=GRADES)
    assert "from the worst to the best: 1, 2, 3, 4, 5" in graded["content"]


def test_the_reference_answer_is_a_variable_only_where_it_is_shown():
    row = {**ROW, "reference_answer": "42"}
    template = "{{ query }}{{ response }}{% if reference_answer %} Known: {{ reference_answer }}{% endif %}{{ ending }}"
    check_template(template, also=("reference_answer",), ends=True)
    assert "Known: 42" in critique_messages(row, show_reference=True, template=template)[0]["content"]
    assert "42" not in critique_messages(row, template=template)[0]["content"]


def test_rows_in_other_words_keep_their_verdict_and_stay_out_of_published_layouts():
    row = make_record(**ROW, critique="No.\n\nConclusion: reject [END]", verdict="wrong", meta={"said": "reject"})
    assert concluded(row).start == 17
    assert "concludes with 'reject'" in unpublishable(row)
