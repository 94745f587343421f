"""Generators (in process and behind an endpoint) and the inference modes on top of them."""

from __future__ import annotations

import functools
import json
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from faulty_server import FaultyServer

from cft_trl.errors import CFTError
from cft_trl.generation import local as generators
from cft_trl.generation.modes import (
    SINGLE_PASS,
    Endpoint,
    Generation,
    LocalModel,
    Outcome,
    Round,
    render_prompt,
    run_mode,
    stream_mode,
)


def turns(*texts: str) -> list[list[dict]]:
    return [[{"role": "user", "content": text}] for text in texts]


QUESTIONS = turns(
    "What is 2 + 2?", "Ann has 3 boxes of 12 eggs and breaks 5. How many are whole?", "6 x 7?", "1?", "9 - 4"
)


@pytest.fixture(scope="module")
def local(tokenizers):
    from conftest import make_model

    return LocalModel(make_model(tokenizers("chatml")), tokenizers("chatml"), batch_size=2)


def drained(stream) -> tuple[list[str], Generation]:
    pieces = []
    while True:
        try:
            pieces.append(next(stream))
        except StopIteration as end:
            return pieces, end.value


# ---- a model in this process -----------------------------------------------------------------------------------------


def test_each_conversation_gets_its_own_text_whatever_its_batch(local):
    told = []
    made = local.generate(QUESTIONS, max_new_tokens=12, on_result=lambda index, made: told.append((index, made)))
    assert [made == local.generate([q], max_new_tokens=12)[0] for made, q in zip(made, QUESTIONS, strict=True)] == [
        True
    ] * 5
    assert sorted(told, key=lambda pair: pair[0]) == list(enumerate(made))
    for generation, question in zip(made, QUESTIONS, strict=True):
        prompt = render_prompt(local.tokenizer, question)
        assert generation.prompt_tokens == len(local.tokenizer(prompt)["input_ids"])
        assert (generation.finish_reason, generation.completion_tokens) == ("length", 12)


def test_a_stop_string_ends_its_row_and_no_other(local):
    whole = [g.text for g in local.generate(QUESTIONS[:2], max_new_tokens=30, stop=())]
    mark = whole[0][7:12]
    assert mark not in whole[1]
    first, second = local.generate(QUESTIONS[:2], max_new_tokens=30, stop=["nowhere", mark])
    assert first.text == whole[0][: whole[0].index(mark) + len(mark)]
    assert first.finish_reason == "stop"
    assert first.completion_tokens < 30
    assert (second.text, second.finish_reason, second.completion_tokens) == (whole[1], "length", 30)


@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.0, "seed": 3}])
def test_rows_that_go_on_in_other_batches_are_written_alike(local, monkeypatch, sampling):
    settings = {"max_new_tokens": 40, "stop": (), **sampling}
    whole = local.generate(QUESTIONS, **settings)
    marks = [whole[0].text[7:15], whole[3].text[20:28]]
    cut = local.generate(QUESTIONS, **{**settings, "stop": marks})
    assert {generation.finish_reason for generation in cut} == {"stop", "length"}
    monkeypatch.setattr(generators, "_FIRST_STEPS", 3)
    assert local.generate(QUESTIONS, **settings) == whole
    assert local.generate(QUESTIONS, **{**settings, "stop": marks}) == cut


def test_an_end_token_ends_a_row(local, monkeypatch):
    import torch

    prompt = local.tokenizer(render_prompt(local.tokenizer, QUESTIONS[0]))["input_ids"]
    out = local.model.generate(torch.tensor([prompt]), max_new_tokens=30, do_sample=False)
    token = out[0, len(prompt) + 5].item()
    expected = out[0, len(prompt) :].tolist().index(token) + 1
    monkeypatch.setattr(local.model.generation_config, "eos_token_id", [token, 999_999])
    made = local.generate(QUESTIONS[:2], max_new_tokens=30)
    assert (made[0].finish_reason, made[0].completion_tokens) == ("stop", expected)


def test_the_models_own_sampling_settings_are_not_in_the_scores(local, monkeypatch):
    before = local.generate(QUESTIONS, max_new_tokens=12)
    for name, value in {"repetition_penalty": 50.0, "do_sample": True, "temperature": 9.0, "top_k": 3}.items():
        monkeypatch.setattr(local.model.generation_config, name, value)
    assert local.generate(QUESTIONS, max_new_tokens=12) == before


def test_a_seed_draws_the_same_text_in_any_batch(local):
    settings = {"max_new_tokens": 12, "temperature": 1.0}
    made = local.generate(QUESTIONS, seed=5, **settings)
    assert local.generate(QUESTIONS[3:], seed=[8, 9], **settings) == made[3:]
    assert local.generate(QUESTIONS, seed=6, **settings) != made
    again = local.generate(turns("1?", "1?"), seed=5, **settings)
    assert again[0].text != again[1].text
    assert local.generate(QUESTIONS, **settings) != local.generate(QUESTIONS, **settings)
    assert local.generate(QUESTIONS, seed=1, top_p=1e-6, **settings) == local.generate(QUESTIONS, max_new_tokens=12)


def test_a_prompt_longer_than_the_context_is_told_and_loses_no_other(local, monkeypatch):
    monkeypatch.setattr(local.model.config, "max_position_embeddings", 60)
    short, long = local.generate([*turns("hi"), *turns("word " * 80)], max_new_tokens=2048)
    assert (long.finish_reason, long.text) == ("failed", "")
    assert "context of 60 tokens" in long.failure
    assert (short.finish_reason, short.prompt_tokens + short.completion_tokens) == ("length", 60)
    with pytest.raises(CFTError, match="context of 60 tokens"):
        list(local.stream(turns("word " * 80)[0]))


def test_a_stream_is_the_text_in_pieces(local):
    for settings in ({}, {"temperature": 1.0, "seed": 3}):
        [whole] = local.generate(QUESTIONS[1:2], max_new_tokens=25, **settings)
        pieces, generation = drained(local.stream(QUESTIONS[1], max_new_tokens=25, **settings))
        assert "".join(pieces) == whole.text
        assert generation == whole
        assert len(pieces) > 5
    mark = whole.text[4:9]
    assert "".join(local.stream(QUESTIONS[1], max_new_tokens=25, stop=[mark], **settings)).endswith(mark)


def test_a_stream_that_nobody_reads_on_ends(local, monkeypatch):
    threads, steps, forward = threading.active_count(), [], local.model.forward

    @functools.wraps(forward)
    def counted(*args, **kwargs):
        steps.append(1)
        return forward(*args, **kwargs)

    monkeypatch.setattr(local.model, "forward", counted)
    stream = local.stream(QUESTIONS[0], max_new_tokens=1000)
    next(stream)
    stream.close()
    assert threading.active_count() == threads
    assert len(steps) < 500


def test_a_system_turn_reaches_every_kind_of_template(tokenizers):
    conversation = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2+2?"}]
    assert render_prompt(tokenizers("base"), conversation) == "Be brief.\n\n2+2?\n"
    assert "system\nBe brief.<|im_end|>" in render_prompt(tokenizers("chatml"), conversation)
    assert "Be brief.\n\n2+2?" in render_prompt(tokenizers("gemma"), conversation)


# ---- a model behind an endpoint --------------------------------------------------------------------------------------


def test_faults_lose_no_answer_and_keep_the_order():
    questions = turns(*(f"question {i}" for i in range(12)))
    with FaultyServer() as server:
        expected = Endpoint("m", server.url).generate(questions)
    told = {}
    with FaultyServer(faults=0.4) as server:
        made = Endpoint("m", server.url, timeout=1.0).generate(questions, on_result=told.__setitem__)
        assert server.status["429"] + server.status["500"] + server.status["malformed"] > 0
    assert made == expected == [told[i] for i in range(12)]
    assert len({generation.text for generation in made}) == 12


def test_requests_that_can_never_be_answered_are_told_and_lose_no_other():
    with FaultyServer() as server:
        long, filtered, empty, cut = Endpoint("m", server.url).generate(
            turns("TOO-LONG", "FORBIDDEN", "ALWAYS-EMPTY", "LENGTHY")
        )
        assert server.status["context"] == 2  # asked again without a limit
    assert (long.finish_reason, filtered.finish_reason) == ("failed", "failed")
    assert "context length" in long.failure
    assert (empty.text, empty.finish_reason) == ("", "stop")
    assert cut.finish_reason == "length"


def test_sampling_asks_every_copy_of_a_question_and_greedy_search_once():
    with FaultyServer() as server:
        endpoint = Endpoint("m", server.url)
        assert endpoint.generate(turns("a", "a", "b"))[0] == endpoint.generate(turns("a"))[0]
        assert server.status["ok"] == 3
        seeded = endpoint.generate(turns("a", "a"), temperature=0.5, seed=3)
        assert seeded[0].text != seeded[1].text
        assert endpoint.generate(turns("a"), temperature=0.5, seed=[4]) == seeded[1:]
        asked = server.status["ok"]
        endpoint.generate(turns("a", "a"), temperature=0.5)
        assert server.status["ok"] == asked + 2


def test_what_is_wrong_with_an_endpoint_is_one_line(monkeypatch):
    for ask in (lambda e: e.generate(turns("a")), lambda e: list(e.stream(turns("a")[0]))):
        with pytest.raises(CFTError, match=r"^m at http://127.0.0.1:9/v1: ") as error:
            ask(Endpoint("m", "http://127.0.0.1:9/v1"))
        assert "\n" not in str(error.value)
    with FaultyServer() as server:
        monkeypatch.setenv("OPENAI_API_KEY", "planted-wrong")
        with pytest.raises(CFTError, match="OPENAI_API_KEY") as error:
            Endpoint("m", server.url).generate(turns("a"))
        assert "planted-wrong" not in str(error.value)
        with pytest.raises(CFTError, match="no such model"):
            Endpoint("other", server.url, api_key_env="NO_SUCH").generate(turns("a"))
    monkeypatch.delenv("OPENAI_API_KEY")
    for ask in (lambda e: e.generate(turns("a")), lambda e: list(e.stream(turns("a")[0]))):
        with pytest.raises(CFTError, match="no key"):
            ask(Endpoint("gpt"))


class Streaming(BaseHTTPRequestHandler):
    """Sends "The answer is 4.[END] and more" in pieces, then the usage; breaks off after two for the model "torn"."""

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert request["stream"] is True
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        if request["model"] == "torn":
            self.send_header("Content-Length", "10000")
        self.end_headers()
        for number, piece in enumerate(["The ", "answer", " is 4.[E", "ND] and", " more", None]):
            if request["model"] == "torn" and number == 2:
                return
            choice = {"index": 0, "delta": {"content": piece}, "finish_reason": None if piece else "length"}
            self.send({"choices": [choice]})
        self.send({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 9, "total_tokens": 14}})
        self.wfile.write(b"data: [DONE]\n\n")

    def send(self, chunk):
        whole = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "m", **chunk}
        self.wfile.write(f"data: {json.dumps(whole)}\n\n".encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def streaming():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Streaming)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


def test_an_endpoints_stream_ends_at_the_stop_string(streaming):
    pieces, generation = drained(Endpoint("m", streaming).stream(turns("2+2?")[0]))
    assert pieces == ["The ", "answer", " is 4.[E", "ND]"]
    assert generation == Generation("The answer is 4.[END]", "stop", 5, 9)
    assert drained(Endpoint("m", streaming).stream(turns("2+2?")[0], stop=()))[1].finish_reason == "length"
    with pytest.raises(CFTError, match="connection lost"):
        list(Endpoint("torn", streaming).stream(turns("2+2?")[0]))


# ---- modes -----------------------------------------------------------------------------------------------------------


class Scripted:
    """Answers questions with "try N of QUESTION", and critiques with the next verdict in the question's list."""

    def __init__(self, **verdicts: list[str]) -> None:
        self.verdicts = {name: list(given) for name, given in verdicts.items()}
        self.tries = dict.fromkeys(verdicts, 0)
        self.calls: list[dict] = []

    def say(self, conversation) -> Generation:
        text = conversation[-1]["content"]
        name = next(name for name in self.verdicts if name in text)
        if "critique whether" in text:
            return Generation(f"Critique:\n{self.verdicts[name].pop(0)}", "stop", 10, 2)
        self.tries[name] += 1
        return Generation(f"try {self.tries[name]} of {name}", "length", 5, 3)

    def write(self, requests, on_result):
        seeds = [request.sampling.get("seed") for request in requests]
        self.calls.append({"conversations": [request.messages for request in requests], "seed": seeds})
        made = [self.say(request.messages) for request in requests]
        for index, generation in reversed(list(enumerate(made))):
            on_result(index, generation)
        return made

    def pieces(self, request):
        generation = self.say(request.messages)
        for word in generation.text.split(" "):
            yield word + " "
        return generation


RIGHT, WRONG = "Conclusion: right [END]", "Conclusion: wrong [END]"


def test_two_stage_goes_on_until_it_is_told_right():
    model = Scripted(ann=[RIGHT], ben=[WRONG, "no idea", RIGHT], eva=[WRONG] * 8)
    done = []
    outcomes = run_mode(model, ["ann?", "ben?", "eva?"], "two_stage", system="Think.", temperature=0.5, seed=7,
                        on_result=lambda index, outcome: done.append((index, outcome)))  # fmt: skip
    assert [outcome.text for outcome in outcomes] == ["try 1 of ann", "try 3 of ben", "try 8 of eva"]
    assert outcomes[1].rounds == (
        Round("try 1 of ben", f"Critique:\n{WRONG}", "wrong"),
        Round("try 2 of ben", "Critique:\nno idea", None),
        Round("try 3 of ben", f"Critique:\n{RIGHT}", "right"),
    )
    assert (outcomes[1].prompt_tokens, outcomes[1].completion_tokens, outcomes[1].finish_reason) == (45, 15, "length")
    assert done == [(0, outcomes[0]), (1, outcomes[1]), (2, outcomes[2])]
    # A round asks for all that are open, together; critiques in a fresh prompt, solutions from scratch.
    assert [len(call["conversations"]) for call in model.calls] == [3, 3, 2, 2, 2, 2] + [1] * 10
    question, judged, again = (model.calls[i]["conversations"][-1] for i in (0, 1, 2))
    assert question == again == [{"role": "system", "content": "Think."}, {"role": "user", "content": "eva?"}]
    assert [turn["role"] for turn in judged] == ["user"]
    assert "Solution:\ntry 1 of eva" in judged[0]["content"]
    seeds = [seed for call in model.calls for seed in call["seed"]]
    assert len(set(seeds)) == len(seeds)


def test_the_critic_sees_a_solution_without_its_thinking():
    class Thinks(Scripted):
        def say(self, conversation):
            made = super().say(conversation)
            return made if "Critique" in made.text else replace(made, text=f"<think>Is it?</think>\n\n{made.text}")

    model = Thinks(ann=[RIGHT])
    [outcome] = run_mode(model, ["ann?"], "two_stage")
    assert outcome.text == "<think>Is it?</think>\n\ntry 1 of ann", "what was written is kept whole"
    asked = model.calls[1]["conversations"][0][-1]["content"]
    assert "Solution:\ntry 1 of ann" in asked
    assert "Is it?" not in asked


def test_two_stage_at_temperature_0_has_one_round():
    model = Scripted(eva=[WRONG] * 8)
    [outcome] = run_mode(model, ["eva?"], "two_stage")
    assert (outcome.text, len(outcome.rounds), outcome.rounds[0].verdict) == ("try 1 of eva", 1, "wrong")
    [outcome] = run_mode(Scripted(eva=[WRONG] * 8), ["eva?"], "two_stage", temperature=0.1, max_rounds=3)
    assert len(outcome.rounds) == 3


def test_the_other_modes_ask_once():
    model = Scripted(ann=[WRONG])
    assert run_mode(model, ["ann?"]) == [Outcome("try 1 of ann", (Round("try 1 of ann"),), "length", 5, 3)]
    assert model.calls[0]["conversations"] == turns("ann?")
    run_mode(model, ["ann?"], "single_pass")
    assert model.calls[1]["conversations"] == turns("ann?" + SINGLE_PASS)
    [outcome] = run_mode(model, ["ann?"], "critique", responses=["5"], prompt_preset="paper")
    assert (outcome.text, outcome.rounds[0]) == (f"Critique:\n{WRONG}", Round("5", f"Critique:\n{WRONG}", "wrong"))


def test_streaming_tells_what_the_batch_does():
    verdicts = {"ben": [WRONG, RIGHT]}
    [expected] = run_mode(Scripted(**verdicts), ["ben?"], "two_stage", temperature=0.5)
    events = list(stream_mode(Scripted(**verdicts), "ben?", "two_stage", temperature=0.5))
    assert events[-1].outcome == expected
    assert [(e.kind, e.round, e.text) for e in events if e.kind == "verdict"] == [
        ("verdict", 1, "wrong"),
        ("verdict", 2, "right"),
    ]
    assert "".join(e.text for e in events if (e.kind, e.round) == ("solution", 2)).strip() == "try 2 of ben"
    assert [e.kind for e in events if e.outcome] == ["end"]


def test_a_generator_that_fails_once_fails_one_question(local, monkeypatch):
    monkeypatch.setattr(local.model.config, "max_position_embeddings", 60)
    good, bad = run_mode(local, ["hi", "word " * 80], max_new_tokens=4)
    assert (good.finish_reason, bad.finish_reason, bad.text) == ("length", "failed", "")
    assert "context" in bad.failure


@pytest.mark.parametrize(
    ("mode", "responses", "message"),
    [
        ("two-stage", None, r"did you mean 'two_stage'"),
        ("critique", None, "needs the response"),
        ("direct", ["5"], "take none"),
        ("critique", ["5", "6"], "1 queries and 2 responses"),
    ],
)
def test_modes_and_responses_that_do_not_fit(mode, responses, message):
    with pytest.raises(CFTError, match=message):
        run_mode(Scripted(a=[]), ["a"], mode, responses=responses)
