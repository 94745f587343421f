"""What is trained is what is asked, for each family of models; docs/models.md says so and is made from the same."""

from __future__ import annotations

import json
import re
from datetime import datetime
from importlib import resources
from types import SimpleNamespace

import pytest
from conftest import REPOSITORY, STYLES
from families import FAMILIES, ROWS, line, tokenizer_of
from family_models import reason

from cft_trl.data.prompts import Prompting
from cft_trl.errors import CFTError
from cft_trl.generation.local import render_prompt
from cft_trl.models import chat_templates
from cft_trl.models.chat_templates import (
    answer_frame,
    as_trained,
    end_ids,
    freeze_dates,
    header_ids,
    merge_system,
    refuses_system,
    turn_end_ids,
    written_behind,
)
from cft_trl.training.lengths import REWRITTEN, PreparationReport
from cft_trl.training.preparation import RowEncoder

TRL_TEMPLATES = sorted(
    path.name
    for path in resources.files("trl").joinpath("chat_templates").iterdir()
    if path.name.endswith(".jinja") and "_training" not in path.name
)
# They write texts only as parts of a list, as processors give them; one refuses what is none.
OF_PROCESSORS = {"idefics3.jinja", "smolvlm.jinja", "llava_next.jinja"}
SHORT = ["a", "4", "final", "assistant", "message", "e", "x = 2", "\\boxed{4}", "channel", "think", "user", "s", "1"]


@pytest.fixture(scope="module")
def made():
    """Family name -> its tokenizer, made once."""
    tokenizers = {}

    def get(name: str):
        if name not in tokenizers:
            tokenizers[name] = tokenizer_of(name)
        return tokenizers[name]

    return get


def with_loss(columns, i):
    return [t for t, label in zip(columns["input_ids"][i], columns["labels"][i], strict=True) if label != -100]


@pytest.mark.parametrize("name", FAMILIES)
def test_the_saved_tokenizer_asks_with_what_was_trained(made, name):
    tokenizer = made(name)
    saved, frame = as_trained(tokenizer), answer_frame(tokenizer)
    columns = RowEncoder(tokenizer, Prompting(), None)(ROWS)
    for i, row in enumerate(ROWS):
        ids = columns["input_ids"][i]
        prompt = render_prompt(saved, Prompting().user_turn(row))
        asked = saved(prompt, add_special_tokens=False)["input_ids"]
        assert ids[: len(asked)] == asked
        assert columns["labels"][i][: len(asked)][-1] == (ids[len(asked) - 1] if frame.written.strip() else -100)
        rest = ids[len(asked) : max(k for k, label in enumerate(columns["labels"][i]) if label != -100)]
        assert tokenizer.decode(rest).removesuffix(written_behind(tokenizer)).lstrip() == Prompting().completion(row)
        assert ids[len(asked) + len(rest)] in end_ids(tokenizer)
    # As saved, nothing more is to be put right.
    assert as_trained(saved) is saved
    assert not answer_frame(saved).header


@pytest.mark.parametrize("template", TRL_TEMPLATES)
def test_every_template_of_trl_asks_with_a_beginning_of_what_it_trains(tokenizers, template, monkeypatch):
    tokenizer = tokenizers("gemma")
    monkeypatch.setattr(
        tokenizer, "chat_template", resources.files("trl").joinpath("chat_templates", template).read_text()
    )
    if template in OF_PROCESSORS:
        if template == "llava_next.jinja":
            with pytest.raises(CFTError, match="cannot render a question and its answer"):
                answer_frame(tokenizer)
        else:
            assert answer_frame(tokenizer) is None
        return
    question, answer = [{"role": "user", "content": "Why?"}], [{"role": "assistant", "content": "So."}]
    whole = tokenizer.apply_chat_template(question + answer, tokenize=False)
    assert whole.startswith(render_prompt(as_trained(tokenizer), question))
    frame = answer_frame(tokenizer)
    assert whole.endswith(f"{frame.lead}So.{frame.closing}")


@pytest.mark.parametrize("name", ["gpt-oss", "nemotron3", "gemma", "llama2", "qwen3"])
@pytest.mark.parametrize("answer", SHORT)
def test_a_short_answer_has_its_loss_on_itself_not_on_the_header(made, name, answer):
    tokenizer = made(name)
    row = {"query": f"{answer}? final: {answer}", "response": answer, "critique": None, "verdict": None}
    columns = RowEncoder(tokenizer, Prompting("sft"))([row])
    frame = answer_frame(tokenizer)
    scored = tokenizer.decode(with_loss(columns, 0)[:-1])
    assert scored.removesuffix(written_behind(tokenizer)).lstrip(" ") == frame.written.lstrip(" ") + answer


def test_rows_that_a_template_trims_or_tears_are_counted_and_named(made):
    rows = [{"id": "whole", "query": "q", "response": "r", "critique": "c\n\nConclusion: right [END]"}]
    rows.append({**rows[0], "id": "blanks", "critique": " c\n\nConclusion: right [END]\n\n"})
    rows.append({**rows[0], "id": "torn", "critique": "It ends its </think> late.\n\nConclusion: wrong [END]"})
    prompting = Prompting(preset="compact")
    found = {}
    for name in ("qwen2.5", "gemma", "nemotron3"):
        report = PreparationReport()
        report.add_columns(RowEncoder(made(name), prompting)(rows))
        found[name] = (report.kept, report.trimmed, dict(report.altered), report.dropped[REWRITTEN])
        if name == "nemotron3":
            assert "the chat template trims 1 targets (blanks); rewritten by it: torn" in str(report)
            assert json.loads(json.dumps(report.to_dict()))["altered"] == {"trimmed": ["blanks"], "rewritten": ["torn"]}
    assert found["qwen2.5"] == (3, 0, {}, 0)
    assert found["gemma"] == (3, 1, {"trimmed": ["blanks"]}, 0)
    assert found["nemotron3"] == (2, 1, {"trimmed": ["blanks"], "rewritten": ["torn"]}, 1)


def test_many_altered_rows_are_named_in_part(made):
    row = {"query": "q", "response": "r", "critique": "c "}
    report = PreparationReport()
    report.add_columns(
        RowEncoder(made("gemma"), Prompting(preset="compact"))([{**row, "id": f"r{i}"} for i in range(30)])
    )
    assert (report.trimmed, report.altered["trimmed"]) == (30, [f"r{i}" for i in range(10)])
    assert "(r0, r1, r2, r3, r4, r5, r6, r7, r8, r9, ...)" in str(report)


def test_the_tokens_that_end_an_answer_come_from_the_template_and_no_list(made):
    token = {name: made(name).convert_tokens_to_ids for name in ("qwen2.5-base", "phi3", "cohere2", "glm4", "gemma")}
    assert turn_end_ids(made("qwen2.5-base")) == [token["qwen2.5-base"]("<|im_end|>")]
    assert end_ids(made("phi3")) == [token["phi3"](name) for name in ("<|endoftext|>", "<|end|>")]
    assert turn_end_ids(made("cohere2")) == [token["cohere2"]("<|END_RESPONSE|>")]
    assert (turn_end_ids(made("glm4")), end_ids(made("glm4"))) == ([], [made("glm4").eos_token_id])
    config = SimpleNamespace(eos_token_id=[7, 5])
    assert end_ids(made("gemma"), config) == [7, 5, *(token["gemma"](name) for name in ("<eos>", "<end_of_turn>"))]


@pytest.mark.parametrize("style", STYLES)
def test_a_plain_template_is_left_as_it_is(tokenizers, style):
    tokenizer = tokenizers(style)
    assert (as_trained(tokenizer) is tokenizer) == (style != "qwen3")
    assert bool(header_ids(tokenizer)) == (style == "qwen3")


def test_a_template_that_cannot_be_changed_is_told(tokenizers, monkeypatch):
    from cft_trl.training.turns import tell_turns

    tokenizer = tokenizers("chatml")
    # It writes other words before an answer than it asks with, also once it does not ask.
    template = (
        "{% for m in messages %}[{{ m.role }}{% if loop.last and m.role == 'user' %}, last{% endif %}]{{ m.content }}"
    )
    monkeypatch.setattr(
        tokenizer, "chat_template", template + "{% endfor %}{% if add_generation_prompt %}[say]{% endif %}"
    )
    assert not answer_frame(tokenizer).known
    assert as_trained(tokenizer) is tokenizer
    [told] = tell_turns(tokenizer, [tokenizer.eos_token_id], as_trained(tokenizer))
    assert told.startswith("warning: the chat template trains answers in another context")


def test_dates_stay_those_of_the_run(made, monkeypatch):
    class Later(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime(2031, 5, 4, tzinfo=tz)

    for name, form in (("llama3.2", "%d %b %Y"), ("gpt-oss", "%Y-%m-%d")):
        tokenizer = made(name)
        before = render_prompt(tokenizer, "Why?")
        frozen, dates = freeze_dates(tokenizer.chat_template)
        assert dates == {form: datetime.now().strftime(form)}
        assert dates[form] in before
        monkeypatch.setattr(tokenizer, "chat_template", frozen)
        assert render_prompt(tokenizer, "Why?") == before
        assert "strftime_now(" not in frozen
        assert freeze_dates(frozen) == (frozen, {})
        with monkeypatch.context() as patch:
            patch.setattr(chat_templates, "datetime", Later)
            assert freeze_dates('{{ strftime_now("%Y") }}{{ strftime_now("%d") }}', {"%d": "28"}) == (
                '{{ "2031" }}{{ "28" }}', {"%Y": "2031", "%d": "28"}
            )  # fmt: skip


def test_a_system_turn_is_joined_to_the_question_where_it_is_refused(made):
    conversation = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2+2?"}]
    assert [name for name in FAMILIES if FAMILIES[name].npm is None and refuses_system(made(name))] == ["gemma"]
    assert merge_system(conversation) == [{"role": "user", "content": "Be brief.\n\n2+2?"}]
    assert merge_system(conversation[1:]) == conversation[1:]
    assert "Be brief.\n\n2+2?" in render_prompt(made("gemma"), conversation)


# ---- docs/models.md --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_the_pages_line_of_a_family_is_what_its_tokenizer_says(name):
    page = (REPOSITORY / "docs" / "models.md").read_text(encoding="utf-8")
    if name == "gemma" and reason("gemma2", 1) is None:
        pytest.skip("this transformers says nothing of Gemma 2's capped logits; the page is of one that does")
    assert line(FAMILIES[name]) in page.splitlines()


def test_the_page_names_no_family_that_is_not_tried():
    page = (REPOSITORY / "docs" / "models.md").read_text(encoding="utf-8")
    table = page[page.index("<!-- families -->") : page.index("<!-- /families -->")]
    titles = re.findall(r"^\| ([^|]+?) \|", table, re.MULTILINE)[1:]
    assert titles == [family.title for family in FAMILIES.values()]
