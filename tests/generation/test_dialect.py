"""Requests as a server takes them: learnt from its refusals, once, and said."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
from faulty_server import FaultyServer

from cft_trl.errors import CFTError
from cft_trl.generation.client import Teacher
from cft_trl.generation.connection import served_models
from cft_trl.generation.dialect import Dialect, Form, check_extra, parse_extra
from cft_trl.generation.journal import Journal
from cft_trl.generation.journaled import Journaled
from cft_trl.generation.replies import read_status
from cft_trl.generation.types import Counts, Request

pytest.importorskip("openai")


def ask(server, folder, count=20, counts=None, **sampling):
    async def collect():
        teacher = Teacher("m", server.url, backoff=0.01, max_concurrency=4)
        requests = [Request("m", [{"role": "user", "content": f"q{n}"}], sampling) for n in range(count)]
        with Journal(folder) as journal:
            async with aclosing(Journaled(teacher, journal).ask(requests, counts=counts, in_order=True)) as answers:
                return [answer async for _, answer in answers]

    return asyncio.run(collect())


def test_a_model_of_today_is_asked_as_it_wants_and_that_is_said_once(tmp_path, capsys):
    with FaultyServer(modern=True) as server:
        counts = Counts()
        answers = ask(server, tmp_path, counts=counts, max_tokens=3200, temperature=0.3)
        assert not any(answer.reason for answer in answers)
        assert all(answer.without == ("temperature",) for answer in answers)
        assert server.status["400"] < 20, "those in flight were refused, each at most twice, and no later one"
        assert server.bodies[-1]["max_completion_tokens"] == 3200
        assert not {"max_tokens", "temperature"} & set(server.bodies[-1])
        said = capsys.readouterr().err.splitlines()
        assert len(said) == 2
        assert "max_completion_tokens in place of max_tokens" in said[0]
        assert "does not take temperature=0.3" in said[1]
        assert server.url in said[0]
        # The same question has the same key, however it was sent.
        again = Counts()
        assert ask(server, tmp_path, counts=again, max_tokens=3200, temperature=0.3) == answers
        assert (again.sent, again.from_journal) == (0, 20)


def test_a_limit_over_the_context_is_cut_to_the_room_and_counted(tmp_path, capsys):
    with FaultyServer(context=2048) as server:
        counts = Counts()
        answers = ask(server, tmp_path, counts=counts, max_tokens=3200)
        assert all(answer.limit_cut for answer in answers)
        assert counts.limit_cut == 20
        assert server.bodies[-1]["max_tokens"] == 2048
        assert server.status["400"] <= 10  # those that are in flight before the first refusal is understood
        assert "a limit of 3,200 tokens is over the 2,048" in capsys.readouterr().err
        assert served_models(server.url)[0]["max_model_len"] == 2048


def test_a_refusal_in_unknown_words_is_understood_from_what_the_server_serves(tmp_path):
    def refuse(text, times):
        limit = server.bodies[-1].get("max_tokens", 0)
        return (400, {"error": {"message": "Zu viele Token"}}, "") if limit > 512 else None

    with FaultyServer(context=512, script=refuse) as server:
        assert not any(answer.reason for answer in ask(server, tmp_path, max_tokens=600))


@pytest.mark.parametrize(
    ("message", "sent"),
    [
        # As OpenAI, vLLM 0.8 to 0.32, TGI, SGLang, Groq and DeepSeek say it.
        ("max_tokens=3200 cannot be greater than max_model_len=max_total_tokens=2048.", 2048),
        ("This model's maximum context length is 4096 tokens. However, you requested 5200 tokens (2000 in the "
         "messages, 3200 in the completion).", 2096),
        ("'max_tokens' or 'max_completion_tokens' is too large: 3200. This model's maximum context length is 4096 "
         "tokens and your request has 1000 input tokens (3200 > 4096 - 1000).", 3096),
        ("This model's maximum context length is 4096 tokens. However, you requested 3200 output tokens and your "
         "prompt contains at least 897 input tokens, for a total of at least 4097 tokens.", None),
        ("This model's maximum context length is 3 tokens. However, your request has 8 input tokens.", None),
        ("`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 3000 `inputs` tokens and 3200 "
         "`max_new_tokens`", 1096),
        ("Requested token count exceeds the model's maximum context length of 4096 tokens. You requested a total of "
         "6200 tokens: 3000 tokens from the input messages and 3200 tokens for the completion.", 1096),
        ("max_tokens is too large: 3200. This model supports at most 1024 completion tokens.", 1024),
        ("`max_tokens` must be less than or equal to `1024`", 1024),
        ("Invalid max_tokens value, the valid range of max_tokens is [1, 1024]", 1024),
    ],
)  # fmt: skip
def test_the_room_that_a_refusal_leaves(message, sent):
    dialect, form = Dialect(), Form({"model": "m", "messages": [], "max_tokens": 3200})
    body = dialect.body(form)
    assert dialect.learn(read_status(400, {"message": message}), form, body, print, list)
    assert dialect.body(form).get("max_tokens") == sent


def test_a_prompt_that_is_too_long_alone_is_that_rows_failure():
    dialect, form = Dialect(), Form({"model": "m", "messages": [], "max_tokens": 2048})
    refusal = read_status(400, {"message": "This model's maximum context length is 2048 tokens."})
    assert [dialect.learn(refusal, form, dialect.body(form), print, list) for _ in range(3)] == [True, False, False]
    sure = "your prompt contains at least 257 input tokens, which exceeds this limit even without any output tokens."
    sure = read_status(400, {"message": f"This model's maximum context length is 256 tokens. However, {sure}"})
    form = Form(form.body)
    assert not dialect.learn(sure, form, dialect.body(form), print, list)


def test_a_wrong_value_is_not_left_out():
    dialect, form = Dialect(), Form({"model": "m", "messages": [], "temperature": 7.0, "reasoning_effort": "loud"})
    for message in ("temperature must be at most 2", "Unsupported value: 'reasoning_effort' does not support 'loud'"):
        assert not dialect.learn(read_status(400, {"message": message}), form, dialect.body(form), print, list)


def test_four_stop_strings_reach_a_server_and_the_fifth_is_handled_here(tmp_path):
    stop = ["<a>", "<b>", "<c>", "<d>", "check number"]
    with FaultyServer() as server:
        [answer] = ask(server, tmp_path, count=1, stop=stop)
        assert server.bodies[0]["stop"] == stop[:4]
    assert (answer.text, answer.finish_reason) == ("Critique:\nThe check number", "stop")


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        ({"stream": True}, "'stream' cannot be set here"),
        ({"model": "other"}, "'model' cannot be set here"),
        ({"temperature": 1}, "it is a setting of its own"),
        ({"headers": {}}, "keys come from the environment only"),
        ({"deep": {"api_key": "x"}}, "keys come from the environment only"),
        ({1: 2}, "give fields and their values"),
        ("reasoning_effort", "give fields and their values"),
    ],
)
def test_what_is_no_extra_field(extra, told):
    with pytest.raises(CFTError, match=told):
        check_extra(extra, "critique.extra")


def test_extra_as_an_option():
    assert parse_extra('{"chat_template_kwargs": {"enable_thinking": false}, "top_p": null}') == {
        "chat_template_kwargs": {"enable_thinking": False},
        "top_p": None,
    }
    for text in ("{", "low", "[1]", "{temperature: 1}", "{stream: null}"):
        with pytest.raises(CFTError, match="--extra"):
            parse_extra(text)


ASKED = {"temperature": 0.3, "max_tokens": 3200, "top_p": 0.9, "seed": 1}


@pytest.mark.parametrize(
    ("error", "then"),
    [
        ("max_tokens: 3200 > 2048, which is the maximum allowed number of output tokens", {"max_tokens": 2048}),
        ("input length and `max_tokens` exceed context limit: 2000 + 3200 > 4096, decrease one", {"max_tokens": 2096}),
        ('Invalid JSON payload received. Unknown name "seed": Cannot find field.', {"seed": None}),
        ("invalid temperature: only 1 is allowed for this model", {"temperature": None}),
    ],
)
def test_what_a_refusal_teaches(error, then):
    dialect, form = Dialect(), Form({"model": "m", "messages": [], **ASKED})
    trouble = read_status(400, {"message": error})
    assert dialect.learn(trouble, form, dialect.body(form), lambda line: None, lambda: [])
    wanted = {name: value for name, value in {**ASKED, **then}.items() if value is not None}
    assert {name: value for name, value in dialect.body(form).items() if name in ASKED} == wanted


def test_a_bound_of_something_else_is_no_limit_of_tokens():
    dialect, form = Dialect(), Form({"model": "m", "messages": [], **ASKED})
    trouble = read_status(
        422, {"detail": [{"loc": ["body", "temperature"], "msg": "should be less than or equal to 0.2"}]}
    )
    assert not dialect.learn(trouble, form, dialect.body(form), lambda line: None, lambda: [])
    assert dialect.cap is None
