"""A model that was trained with verdict words of its own: whoever shows a verdict of it reads and shows its words."""

from __future__ import annotations

import json
import re

import gradio as gr
import pytest
from eval_folders import save_model
from faulty_server import FaultyServer, _completion
from hub_runs import SETTINGS, make_run
from hub_server import OWNER, HubServer
from space_app import Scripted, browser, settings
from test_browse import served

from cft_trl.cli import main
from cft_trl.data.prompts import Wording
from cft_trl.data.records import make_record
from cft_trl.data.verdict_vocabulary import Verdicts
from cft_trl.demo.actions import Actions
from cft_trl.demo.app import _header
from cft_trl.demo.asks import Ask
from cft_trl.demo.browse import Rows, first_rows
from cft_trl.demo.browse_tab import BrowseTab, ShownRows, row_html
from cft_trl.demo.runtime import Runtime
from cft_trl.demo.settings import DemoSettings
from cft_trl.hub.push_model import push_model

PAIR = {"right": "accept", "wrong": "reject"}
GRADES = {"grades": [1, 2, 3, 4, 5], "right_from": 4}
TEMPLATE = "Accept or reject.\n{{ query }}\nSolution:\n{{ response }}"
REJECTED = "Step 1: 2 + 2 = 4, but the solution has 5: an arithmetic error.\n\nConclusion: reject [END]"


def settings_json(verdicts=PAIR):
    return {"prompt_preset": "paper", "prompt": TEMPLATE, "verdicts": verdicts}


@pytest.fixture
def folder(tmp_path):
    save_model(tmp_path / "model")
    (tmp_path / "model" / "settings.json").write_text(json.dumps(settings_json()))
    return tmp_path / "model"


def loaded(model, says, **fields):
    """An app whose model was loaded from where it lies, and writes what it is told to."""
    chosen = settings(model=str(model), base_model=None, **fields)
    runtime = Runtime(chosen)
    runtime.load()
    runtime._models["cft"] = says
    return chosen, runtime, Actions(chosen, runtime)


def check_words(model):
    says = Scripted(critique=REJECTED)
    chosen, runtime, actions = loaded(model, says)
    view, told = list(actions.show("cft", Ask("critique", "2 + 2?", "2 + 2 = 5")))[-1]
    assert says.asked[0][0][-1]["content"] == "Accept or reject.\n2 + 2?\nSolution:\n2 + 2 = 5"
    assert 'class="chip wrong"><span class="sign">✗</span>reject</span>' in view
    assert "Verdict: reject; the first wrong step is number 1" in told
    assert not re.search(r">(right|wrong)<", view)
    last = list(actions.critique("2 + 2?", "2 + 2 = 5"))[-1]
    assert (last["verdict"], last["said"], last["first_wrong_step"]) == ("wrong", "reject", 1)
    assert "conclude with accept (right) or reject (wrong)" in _header(chosen, runtime)


def test_the_space_shows_a_folders_words(folder):
    check_words(folder)


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of huggingface_hub's uploads
def test_the_space_shows_the_words_of_a_model_of_the_hub(tmp_path, monkeypatch):
    run = make_run(tmp_path / "run", steps=(), base_model={}, settings={**SETTINGS, **settings_json()})
    (run / "settings.json").write_text(json.dumps(settings_json()))
    with HubServer(tmp_path / "hub") as server:
        server.patch_client(monkeypatch, OWNER)
        push_model(run, "org/acceptor", private=True)
        check_words("org/acceptor")


def test_a_folder_is_known_by_its_home_too(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert loaded("~/model", Scripted())[1].preset.verdicts.words == ("reject", "accept")


def test_both_models_of_a_comparison_are_read_in_these_words(folder):
    _, runtime, actions = loaded(folder, Scripted(critique=REJECTED))
    runtime.names["base"], runtime._models["base"] = "base", Scripted(critique="Fine.\n\nConclusion: right [END]")
    left, right, told = list(actions.compare(Ask("critique", "2 + 2?", "5")))[-1]
    assert "no verdict" in left, "right is none of the words that were asked for"
    assert ">reject<" in right
    assert "Base model: No verdict. CFT model: Verdict: reject" in told


def test_rounds_and_a_single_pass_show_the_words(folder):
    says = Scripted(solution="It is 5.\n\nVerdict: accept", critique=REJECTED)
    _, _, actions = loaded(folder, says)
    last = list(actions.solve("2 + 2?", "two_stage", 64, 0.6, 2, 1))[-1]
    assert [(part["verdict"], part["said"]) for part in last["rounds"]] == [("wrong", "reject")] * 2
    view, _ = list(actions.show("cft", Ask("two_stage", "2 + 2?", temperature=0.6, max_rounds=1)))[-1]
    assert ">reject<" in view
    view, _ = list(actions.show("cft", Ask("single_pass", "2 + 2?")))[-1]
    assert '<span class="chip right"><span class="sign">✓</span>accept</span>' in view


def test_a_grade_is_shown_as_what_it_is(folder):
    (folder / "settings.json").write_text(json.dumps(settings_json(GRADES)))
    chosen, runtime, actions = loaded(folder, Scripted(critique="Two wishes are met.\n\nConclusion: 3 [END]"))
    view, told = list(actions.show("cft", Ask("critique", "Write.", "Written.")))[-1]
    assert 'class="chip wrong"><span class="sign">✗</span>3</span>' in view
    assert "Verdict: 3" in told
    assert "conclude with 1, 2, 3, 4 or 5 (from 4 on: right)" in _header(chosen, runtime)


# ---- rows ------------------------------------------------------------------------------------------------------------


def row(end, verdict, said, **more):
    texts = {"query": "2 + 2?", "response": "2 + 2 = 5", "critique": f"Step 1: 2 + 2 = 4, not 5.\n\n{end}"}
    return make_record(**texts, verdict=verdict, meta={"said": said}, **more)


ROWS = [
    row("Conclusion: reject [END]", "wrong", "reject"),
    row("Conclusion: accept [END]", "right", "accept"),
    row("Conclusion: accept [END]\n\nNo.\n\nConclusion: reject [END]", "wrong", "reject"),
    row("The conclusion is right, and the answer is wrong.", None, None),
]


def test_rows_are_shown_in_the_words_that_they_were_built_with():
    rows = Rows(ROWS)
    assert rows.words == Verdicts(("reject", "accept"), "accept")
    told = rows.summary()
    assert told["words"] == {"right": "accept", "wrong": "reject", "none": "none"}
    assert told["verdict"] == {"right": 1, "wrong": 2, "none": 1}
    assert (told["contradicts"], rows.find({"contradicts": "yes"})) == (1, [2])
    assert rows.row(2)["contradiction"] == "concludes accept and reject"
    assert [rows.row(at)["said"] for at in range(4)] == ["reject", "accept", "reject", None]
    assert ">reject</span>" in row_html(rows.row(0))
    with gr.Blocks() as app:
        BrowseTab(ShownRows(rows, "")).build()
    [choice] = [block for block in app.blocks.values() if getattr(block, "elem_id", "") == "browse-verdict"]
    assert [label for label, _ in choice.choices] == ["any", "accept (1)", "reject (2)", "none (1)"]


def test_grades_are_told_in_their_order_and_rows_in_english_stay_as_they_are():
    graded = [
        row(f"Conclusion: {grade} [END]", "right" if grade > 8 else "wrong", str(grade)) for grade in (10, 7, 9, 8)
    ]
    assert Rows(graded).summary()["words"] == {"right": "9, 10", "wrong": "7, 8", "none": "none"}
    plain = make_record(query="q", response="r", critique="Conclusion: right\n\nConclusion: wrong")
    rows = Rows([*ROWS, plain])
    assert rows.summary()["words"]["wrong"] == "wrong, reject"
    assert (rows.facts[4]["said"], rows.row(4)["contradiction"]) == (None, "concludes right and wrong")


def test_a_column_of_the_same_name_that_holds_something_else():
    other = [make_record(query="q", response="r", critique="Conclusion: wrong", meta={"said": said})
             for said in ("19 pencils", None)]  # fmt: skip
    assert Rows(other).words is None
    assert Rows(other).facts[1]["verdict"] == "wrong"


def test_whoever_sees_only_the_first_rows_is_told(tmp_path, capsys, monkeypatch):
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    assert [(len(found), more) for found, more in (first_rows(str(path), n) for n in (None, 3, 4, 9))] == [
        (4, False), (3, True), (4, False), (4, False)]  # fmt: skip
    shown = ShownRows.of(DemoSettings(rows=str(path), rows_limit=3))
    assert shown.about == "The first 3 rows of mine.jsonl, which has more; CFT_ROWS_LIMIT sets how many are shown."
    assert ShownRows.of(DemoSettings(rows=str(path), rows_limit=4)).about == "4 rows of mine.jsonl."
    monkeypatch.setattr("http.server.ThreadingHTTPServer.serve_forever", lambda _: None)
    for limit, told in ((["--limit", "3"], "the first 3 rows (--limit) at "), ([], "4 rows at ")):
        assert main(["browse", str(path), "--port", "0", *limit]) == 0
        assert capsys.readouterr().out.startswith(told)
    with path.open("a") as file:
        file.write('{"query": "", "response": "5"}\n')
    assert first_rows(str(path), 4)[1], "a row behind the last one is not read for what it says"


@pytest.mark.slow
def test_the_page_of_cft_browse_has_the_words():
    with served(Rows(ROWS, more=True)) as url, browser() as chromium:
        page = chromium.new_context(bypass_csp=True).new_page()
        page.set_default_timeout(120_000)
        page.goto(url)
        page.wait_for_function("document.getElementById('place').textContent === '1 of 4'")
        assert page.locator("select[name=verdict] option").all_inner_texts() == [
            "any", "accept (1)", "reject (2)", "none (1)"]  # fmt: skip
        assert page.locator("#count").inner_text() == "(the first 4 rows)"
        assert page.locator("#facts .wrong").first.inner_text() == "reject"
        page.locator("select[name=verdict]").select_option("right")
        page.wait_for_function("document.getElementById('place').textContent === '1 of 1'")
        assert page.locator("#facts .right").first.inner_text() == "accept"


# ---- commands --------------------------------------------------------------------------------------------------------


@pytest.fixture
def server(monkeypatch):
    def critic(text, times, logprobs=True):
        word = "accept" if "2 + 2 = 4" in text else "reject"
        body = _completion(f"So.\n\nConclusion: {word} [END]", "stop", 7)
        told = [{"token": "So.\n\nConclusion:", "logprob": 0.0}, {"token": f" {word}", "logprob": -0.1}]
        told[-1]["top_logprobs"] = [{"token": " accept", "logprob": -0.1}, {"token": " reject", "logprob": -2.4}]
        body["choices"][0]["logprobs"] = {"content": told}
        return 200, body, ""

    monkeypatch.setenv("OPENAI_API_KEY", "")
    with FaultyServer(script=critic) as made:
        yield made


@pytest.fixture
def words(folder, tmp_path, server):
    """What names the words of a model at an endpoint, and rows of it."""
    responses = ("2 + 2 = 4", "2 + 2 = 5")
    rows = [{"query": "2 + 2?", "response": said, "verdict": PAIR_OF[at]} for at, said in enumerate(responses)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return str(tmp_path / "rows.jsonl"), ["--base-url", server.url, "--prompt-preset", str(folder)]


PAIR_OF = ("right", "wrong")


def test_cft_critique_tells_the_words(words, tmp_path, monkeypatch, capsys):
    rows, where = words
    out = tmp_path / "out.jsonl"
    assert main(["critique", "m", *where, "--input", rows, "--output", str(out)]) == 0
    made = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(row["verdict"], row["said"]) for row in made] == [("right", "accept"), ("wrong", "reject")]
    assert Rows(first_rows(str(out))[0]).summary()["words"]["wrong"] == "reject"
    from test_solve_command import pieces_of_generate

    monkeypatch.setattr("cft_trl.generation.modes.Endpoint.pieces", pieces_of_generate)
    capsys.readouterr()
    assert main(["critique", "m", *where, "--query", "2 + 2?", "--response", "5"]) == 0
    assert capsys.readouterr().out.endswith("verdict: reject\n")


def test_cft_eval_critic_keeps_and_tells_the_words(words, tmp_path, capsys):
    import pyarrow.parquet as pq

    rows, where = words
    out = tmp_path / "critic"
    assert main(["eval-critic", "m", "--backend", "endpoint", *where, "--data", rows, "--output", str(out)]) == 0
    [file] = (out / "generations").glob("*.parquet")
    assert {row["verdict"]: row["said"] for row in pq.read_table(file).to_pylist()} == {
        "right": "accept", "wrong": "reject"}  # fmt: skip
    assert "The critiques conclude with accept (right) or reject (wrong)." in capsys.readouterr().out


def test_cft_rank_keeps_and_tells_the_words(words, tmp_path, capsys):
    rows, where = words
    out = tmp_path / "rank"
    assert main(["rank", "m", rows, "--backend", "endpoint", *where, "--output", str(out)]) == 0
    ranked = [json.loads(line) for line in (out / "ranked.jsonl").read_text().splitlines()]
    assert {row["response"]: row["critiques"][0]["said"] for row in ranked} == {
        "2 + 2 = 4": "accept", "2 + 2 = 5": "reject"}  # fmt: skip
    assert "P(right) is that of accept." in capsys.readouterr().out


def test_a_model_without_words_of_its_own_has_no_such_column():
    from cft_trl.commands.generation import told_verdict

    assert told_verdict("Conclusion: right", "right", "paper") == {"verdict": "right"}
    own = Wording(verdicts=Verdicts(("reject", "accept"), "accept"))
    assert told_verdict("So so.", None, own) == {"verdict": None, "said": None}
