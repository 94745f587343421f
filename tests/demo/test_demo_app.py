"""The running app, asked as a program asks it: answers, refusals, stopping, waiting in the queue, and no secrets."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request

import pytest
from faulty_server import KEY, FaultyServer
from gradio_client import Client
from space_app import CRITIQUE, SOLUTION, Scripted, running, settings

from cft_trl.data.prompts import Prompting
from cft_trl.demo.actions import Actions
from cft_trl.demo.asks import Ask
from cft_trl.demo.runtime import Runtime, Unanswered, gpu_seconds
from cft_trl.errors import CFTError
from cft_trl.generation.modes import Endpoint, LocalModel
from cft_trl.grading.benchmarks import MATH_SYSTEM


@pytest.fixture(scope="module")
def served():
    """(client, model) of an app that answers at once."""
    model = Scripted()
    with running(model, max_new_tokens=300) as app:
        yield Client(app.local_url, verbose=False), model


def test_a_question_is_solved_and_its_answer_found(served):
    client, model = served
    answer = client.predict("How many pencils?", api_name="/solve")
    assert (answer["answer"], answer["final_answer"], answer["done"]) == (SOLUTION, "37", True)
    assert (answer["finish_reason"], answer["completion_tokens"]) == ("stop", len(SOLUTION.split(" ")))
    conversation, sampling = model.asked[-1]
    assert conversation == [
        {"role": "system", "content": MATH_SYSTEM},
        {"role": "user", "content": "How many pencils?"},
    ]
    assert (sampling["max_tokens"], sampling["temperature"], sampling.get("seed")) == (256, 0.0, None)


def test_a_solution_is_critiqued_in_the_prompt_of_the_training(served):
    client, model = served
    solution = "Step 1: 7 × 6 = 42.\nStep 2: 42 - 5 = 35.\nThe answer is 35."
    answer = client.predict("How many pencils?", solution, temperature=0.5, seed=7, api_name="/critique")
    assert (answer["critique"], answer["verdict"], answer["first_wrong_step"]) == (CRITIQUE, "wrong", 2)
    assert answer["steps"][1] == "Step 2: 42 - 5 = 35."
    conversation, sampling = model.asked[-1]
    asked = Prompting("cft").user_turn({"query": "How many pencils?", "response": solution})
    assert conversation == [{"role": "user", "content": asked}]
    assert (sampling["temperature"], sampling["seed"]) == (0.5, 7)


def test_two_stage_gives_its_rounds(served):
    client, _ = served
    job = client.submit("How many?", "two_stage", 64, 0.6, 2, 1, api_name="/solve")
    answer = job.result()
    assert [part["verdict"] for part in answer["rounds"]] == ["wrong", "wrong"]  # the last one counts
    assert answer["answer"] == SOLUTION
    assert len(job.outputs()) > 1  # it streamed


@pytest.mark.parametrize(
    ("arguments", "api_name", "words"),
    [
        (["x" * 1_000_000], "/solve", "The question is 1,000,000 characters long; this Space takes up to 4,000."),
        (["", "5"], "/critique", "There is no question yet."),
        (["2+2?", "critique"], "/solve", "The modes are direct, single_pass, two_stage."),
        (["2+2?", "direct", 301], "/solve", "The longest answer must be a whole number from 1 to 300 tokens."),
        ([5], "/solve", "The question must be a text, not a number."),
        ([["2+2?"]], "/solve", "The question must be a text, not a list."),
        (["2+2?", ["direct"]], "/solve", "The modes are direct, single_pass, two_stage."),
        (["2+2?", "direct", "many"], "/solve", "The longest answer must be a whole number from 1 to 300 tokens."),
        (["2+2?", "direct", 12.5], "/solve", "The longest answer must be a whole number from 1 to 300 tokens."),
        (["2+2?", "direct", 0, "hot"], "/solve", "The temperature must be a number from 0 to 1.5."),
        (["2+2?", "direct", 0, True], "/solve", "The temperature must be a number from 0 to 1.5."),
        (["2+2?", "direct", 0, 0, {}], "/solve", "The number of rounds must be a whole number from 1 to 4."),
        (["2+2?", "direct", 0, 0, 3, "x"], "/solve", "The seed must be a whole number from 0 to 2,147,483,647."),
        (["2+2?", {"text": "5"}], "/critique", "The solution must be a text, not an object."),
        (["2+2?", "5", None, None], "/critique", "The temperature must be a number from 0 to 1.5."),
    ],
)
def test_a_refusal_reaches_the_program_as_a_sentence(served, arguments, api_name, words):
    client, model = served
    before = len(model.asked)
    with pytest.raises(Exception, match=words.replace(".", r"\.")):
        client.predict(*arguments, api_name=api_name)
    assert len(model.asked) == before


def test_the_api_is_asked_without_its_client_as_the_spaces_page_says(served):
    client, _ = served
    address, body = f"{client.src}gradio_api/call/critique", b'{"data": ["What is 2 + 2?", "2 + 2 = 5", 0, 0, -1]}'
    asked = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(asked) as reply:
        event = json.load(reply)["event_id"]
    with urllib.request.urlopen(f"{address}/{event}") as reply:
        told = [line for line in reply.read().decode().splitlines() if line.startswith("data: [")]
    assert json.loads(told[-1].removeprefix("data: "))[0]["done"]


def test_who_names_no_limit_gets_one_that_the_app_gives():
    model = Scripted()
    with running(model, max_new_tokens=100) as app:
        client = Client(app.local_url, verbose=False)
        assert client.predict("How many pencils?", api_name="/solve")["done"]
        assert client.predict("How many?", "35.", api_name="/critique")["done"]
    assert [sampling["max_tokens"] for _, sampling in model.asked] == [100, 100]


def test_the_api_is_named_and_documented(served):
    client, _ = served
    endpoints = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert set(endpoints) == {"/solve", "/critique"}
    assert "final_answer" in endpoints["/solve"]["description"]
    assert "first_wrong_step" in endpoints["/critique"]["description"]


def test_files_of_the_machine_are_not_served(served):
    client, _ = served
    for path in ("/etc/passwd", __file__):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{client.src}gradio_api/file={path}")
        assert caught.value.code in (403, 404)


def test_nothing_large_can_be_left_on_the_server(served):
    client, _ = served
    body = b"--b\r\nContent-Disposition: form-data; name=files; filename=a\r\n\r\n" + b"x" * 100_000 + b"\r\n--b--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    upload = urllib.request.Request(f"{client.src}gradio_api/upload", body, headers)
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(upload)
    assert caught.value.code == 413


def test_stopping_ends_the_model_and_frees_its_place():
    model = Scripted(endless=True, pause=0.01)
    with running(model) as app:
        client = Client(app.local_url, verbose=False)
        job = client.submit("On and on?", api_name="/solve")
        assert model.begun.wait(30)
        job.cancel()
        assert model.closed.wait(60)
        model.endless = False
        assert client.predict("And now?", api_name="/solve")["done"]


def test_whoever_comes_later_waits_and_is_answered():
    model = Scripted(pause=0.01)
    with running(model, queue_size=20) as app:
        client = Client(app.local_url, verbose=False)
        jobs = [client.submit(f"Question {i}?", api_name="/solve") for i in range(5)]
        ranks = set()
        while not all(job.done() for job in jobs):
            ranks |= {job.status().rank for job in jobs}
            time.sleep(0.02)
        assert all(job.result()["answer"] == SOLUTION for job in jobs)
    assert max(rank for rank in ranks if rank is not None) >= 1  # they were told their place


def test_a_full_queue_is_a_sentence():
    model = Scripted(endless=True, pause=0.01)
    with running(model, queue_size=1) as app:
        # Three visitors: cancelling one's request ends all that the same session asked for.
        first, second, third = (Client(app.local_url, verbose=False) for _ in range(3))
        writing = first.submit("On and on?", api_name="/solve")
        assert model.begun.wait(30)
        waiting = second.submit("After that?", api_name="/solve")
        while waiting.status().rank is None:
            time.sleep(0.02)
        with pytest.raises(Exception, match="Queue is full"):
            third.predict("Me too?", api_name="/solve")
        waiting.cancel()
        assert not model.closed.is_set()
        writing.cancel()
        assert model.closed.wait(30)


SECRET, FOLDER = "sk-planted-0123456789", "/srv/models/planted"


def test_a_failure_shows_no_key_path_or_address(monkeypatch, capsys):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    model = Scripted(error=RuntimeError(f"{FOLDER}: {SECRET} refused by http://10.0.0.7"))
    with running(model, endpoint="http://user:pass@10.0.0.7/v1") as app:
        client = Client(app.local_url, verbose=False)
        with pytest.raises(Exception, match="could not answer") as caught:
            client.predict("2+2?", api_name="/solve")
        config = urllib.request.urlopen(f"{client.src}config").read().decode()
    for hidden in (SECRET, FOLDER, "10.0.0.7"):
        assert hidden not in str(caught.value) + config
    shown = capsys.readouterr().err
    assert FOLDER in shown  # whoever runs the app can read it
    assert SECRET not in shown


@pytest.mark.parametrize(
    ("question", "key", "words"),
    [
        ("2+2?", "planted-wrong-0123456789", "could not answer"),  # the server repeats a key it does not know
        ("ECHO-KEY", KEY, "could not answer"),
        ("ALWAYS-500", KEY, "could not answer"),
        ("TOO-LONG", KEY, "too long for the model"),
    ],
)
def test_an_endpoint_that_fails_shows_nothing_of_its_answer(monkeypatch, capsys, question, key, words):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    monkeypatch.setattr("openai._base_client.BaseClient._calculate_retry_timeout", lambda *_: 0.0)
    with FaultyServer() as server:
        chosen = settings(endpoint=server.url)
        runtime = Runtime(chosen, {"cft": Endpoint("m", server.url), "base": Scripted()})
        view, said = list(Actions(chosen, runtime).show("cft", Ask("direct", question)))[-1]
        assert key in server.keys
    assert words in said
    assert "trouble" in said
    assert not [hidden for hidden in (key, "127.0.0.1", "internal") if hidden in view + said]
    assert key not in capsys.readouterr().err


def test_an_endpoint_that_never_answers_is_given_up():
    chosen = settings(patience=0.2)
    silent = Scripted(pause=3600)
    with pytest.raises(Unanswered, match="took too long"):
        list(Runtime(chosen, {"cft": silent, "base": silent}).stream("cft", Ask("direct", "2+2?")))


def test_a_transformers_model_really_stops(tokenizers, tiny_model):
    tokenizer = tokenizers("chatml")
    model = tiny_model(tokenizer)
    model.generation_config.eos_token_id = None
    steps, forward = [], model.forward
    model.forward = lambda *args, **kwargs: steps.append(1) or forward(*args, **kwargs)
    local = LocalModel(model, tokenizer)
    runtime = Runtime(settings(max_new_tokens=3000), {"cft": local, "base": local})
    stream = runtime.stream("cft", Ask("direct", "On and on?", max_new_tokens=3000))
    while not next(stream):
        pass
    stream.close()
    deadline = time.monotonic() + 30
    while True:
        seen = len(steps)
        time.sleep(0.3)
        if len(steps) == seen or time.monotonic() > deadline:
            break
    assert 0 < seen == len(steps) < 2900


def test_a_text_that_nobody_asks_for_any_more_is_ended(monkeypatch):
    """A queue that drops a request need not close its iterator: here it is held on to."""
    monkeypatch.setattr("cft_trl.demo.runtime._ABANDONED", 0.2)
    model = Scripted(endless=True, pause=0.01)
    stream = Runtime(settings(), {"cft": model, "base": model}).stream("cft", Ask("direct", "On and on?"))
    while not next(stream):
        pass
    assert model.closed.wait(30)
    stream.close()


def test_stopping_ends_the_texts_of_one_visitor():
    models = [Scripted(endless=True, pause=0.01) for _ in range(3)]
    chosen = settings()
    runtimes = Runtime(chosen, {"cft": models[0], "base": models[1], "other": models[2]})
    streams = [
        runtimes.stream(part, Ask("direct", "On and on?"), visitor)
        for part, visitor in (("cft", "a/solve"), ("base", "a/critique"), ("other", "ab/solve"))
    ]
    for stream in streams:
        next(stream)
    runtimes.stop("a/solve")
    assert models[0].closed.wait(30)
    runtimes.stop("a")
    assert models[1].closed.wait(30)
    assert not models[2].closed.is_set()
    for stream in streams:
        stream.close()


def test_a_comparison_gives_both_models_the_same_input():
    tuned, base = Scripted(), Scripted(critique="It looks fine to me.")
    chosen = settings()
    actions = Actions(chosen, Runtime(chosen, {"cft": tuned, "base": base}))
    ask = Ask("critique", "2 + 2?", "5", temperature=0.7)
    left, right, said = list(actions.compare(ask))[-1]
    assert ("no verdict" in left, "step wrong" in right) == (True, False)  # step 2 of a solution of one line
    assert "Base model: No verdict. CFT model: Verdict: wrong." in said
    assert base.asked == tuned.asked
    assert base.asked[0][1]["seed"] is not None


def test_without_a_base_model_compare_says_so():
    chosen = settings(base_model=None)
    actions = Actions(chosen, Runtime(chosen, {"cft": Scripted()}))
    assert "no base model" in list(actions.compare(Ask("direct", "2+2?")))[-1][-1]


def test_zero_gpu_is_asked_for_as_long_as_the_longest_text_takes(tmp_path, monkeypatch, tokenizers, tiny_model):
    import sys
    from types import SimpleNamespace

    asked = []

    def gpu(duration):
        def decorate(task):
            def run(*args):
                asked.append(duration(*args))
                yield from task(*args)  # as the real one: from another process, so without a return value

            return run

        return decorate

    monkeypatch.setitem(sys.modules, "spaces", SimpleNamespace(GPU=gpu))
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    model = tiny_model(tokenizers("chatml"))
    moved = []
    monkeypatch.setattr(type(model), "to", lambda self, device: moved.append(device) or self)
    monkeypatch.setattr("cft_trl.models.loading.load_model", lambda *_, **__: (model, tokenizers("chatml")))
    model.save_pretrained(tmp_path)
    chosen = settings(model=str(tmp_path), base_model=None)
    runtime = Runtime(chosen)
    runtime.load()
    ask = Ask("two_stage", "2+2?", max_new_tokens=8, temperature=0.6, max_rounds=2)
    events = [event for batch in runtime.stream("cft", ask) for event in batch]
    assert events[-1].outcome.completion_tokens > 0
    assert moved == ["cuda"]
    assert asked == [gpu_seconds(8)] * 4  # two rounds of solution and critique


def test_a_model_that_is_not_there_is_told_at_the_start():
    with pytest.raises(CFTError, match="neither a folder here nor a Hub id"):
        Runtime(settings(model="./no/such/folder", base_model=None)).load()
