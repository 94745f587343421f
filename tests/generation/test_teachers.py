"""Teachers by name, opened, and the one that computes in this process."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing, contextmanager, nullcontext

import pytest
from conftest import make_model, make_tokenizer
from faulty_server import KEY, FaultyServer, answer_to

from cft_trl.data.records import to_record
from cft_trl.errors import CFTError
from cft_trl.evaluation.mt_bench import open_judge
from cft_trl.generation.batch import BatchTeacher
from cft_trl.generation.journal import Journal
from cft_trl.generation.journaled import Journaled
from cft_trl.generation.names import ModelName, parse_endpoint_name, parse_model_name
from cft_trl.generation.transformers_teacher import TransformersTeacher
from cft_trl.generation.types import Counts, Request
from cft_trl.synthesis.critique import CritiqueSettings, run_critique
from cft_trl.synthesis.teachers import open_teachers

pytest.importorskip("openai")


# ---- names ----


@pytest.mark.parametrize(
    ("text", "kind", "model", "url", "env"),
    [
        ("openai:gpt-4o-2024-11-20", "openai", "gpt-4o-2024-11-20", None, "OPENAI_API_KEY"),
        ("openai:m@http://127.0.0.1:8000/v1", "openai", "m", "http://127.0.0.1:8000/v1", "OPENAI_API_KEY"),
        (
            "openai:org/m:free@https://h.org:1/a/b/v1/",
            "openai",
            "org/m:free",
            "https://h.org:1/a/b/v1",
            "OPENAI_API_KEY",
        ),
        ("openai:m@2024@http://h/v1#LAB_KEY", "openai", "m@2024", "http://h/v1", "LAB_KEY"),
        (" openai:m ", "openai", "m", None, "OPENAI_API_KEY"),
        ("vllm:Qwen/Qwen2.5-7B-Instruct", "vllm", "Qwen/Qwen2.5-7B-Instruct", None, "OPENAI_API_KEY"),
        ("transformers:smollm2-135m", "transformers", "smollm2-135m", None, "OPENAI_API_KEY"),
        ("reference", "reference", "reference", None, "OPENAI_API_KEY"),
    ],
)
def test_a_name_is_read(text, kind, model, url, env):
    assert parse_model_name(text) == ModelName(kind, model, model, url, env)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("opnai:gpt-4o", "did you mean 'openai'"),
        ("refrence", "did you mean 'reference'"),
        ("gpt-4o", "no kind before the model's name"),
        ("Qwen/Qwen2.5-7B", "no kind before the model's name"),
        ("http://127.0.0.1:8000/v1", "unknown kind 'http'"),
        ("openai:", "no model after the colon"),
        ("vllm: ", "no model after the colon"),
        ("openai:@http://h/v1", "no model before the '@'"),
        ("openai:m@127.0.0.1:8000/v1", "begins with http:// or https://"),
        ("openai:m@localhost", "begins with http:// or https://"),
        ("vllm:m@http://127.0.0.1:8000/v1", "use openai:"),
        ("reference:strict", "write it alone"),
        ("openai:m@http://h/v1#my key", "the NAME of the environment variable"),
        ("", "no kind"),
    ],
)
def test_a_name_that_says_nothing_known_is_refused_in_one_line(text, told):
    with pytest.raises(CFTError, match=told) as refused:
        parse_model_name(text)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        "openai:m@http://h/v1#sk-planted0123456789abcdef",
        "openai:m@http://h/v1#sk_planted0123456789abcdef",
        "openai:m@http://me:planted@h/v1",
        "opnai:m@http://me:planted@h/v1#planted",
    ],
)
def test_a_key_in_a_name_is_refused_and_not_repeated(text):
    with pytest.raises(CFTError) as refused:
        parse_model_name(text)
    assert "planted" not in str(refused.value)


@pytest.mark.parametrize("before", ["", "openai:"])
@pytest.mark.parametrize(
    ("text", "model", "url", "env"),
    [
        ("gpt-4o-2024-11-20", "gpt-4o-2024-11-20", None, "OPENAI_API_KEY"),
        ("org/m:free@http://h:1/v1/", "org/m:free", "http://h:1/v1", "OPENAI_API_KEY"),
        ("m@2024@https://h/v1#LAB_KEY", "m@2024", "https://h/v1", "LAB_KEY"),
    ],
)
def test_who_is_always_at_an_endpoint_is_named_as_a_teacher_is(before, text, model, url, env):
    assert parse_endpoint_name(before + text, "--judge") == ModelName("openai", model, model, url, env)
    assert parse_endpoint_name(text, "--judge") == parse_model_name(f"openai:{text}")
    judge = open_judge(before + text)
    assert (judge.model, judge.base_url, judge.api_key_env) == (model, url, env)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no model"),
        ("openai:", "no model"),
        ("@http://h/v1", "no model before the '@'"),
        ("m@localhost:8000/v1", "begins with http:// or https://"),
        ("vllm:org/m", "asked at an endpoint"),
        ("m@http://me:planted@h/v1", "user name or password"),
        ("m@http://h/v1#sk-planted0123456789abcdef", "the NAME of the environment variable"),
    ],
)
def test_a_judge_that_is_at_no_endpoint_is_refused_in_one_line(text, told):
    with pytest.raises(CFTError, match=told) as refused:
        open_judge(text)
    assert str(refused.value).startswith("--judge ")
    assert "\n" not in str(refused.value)
    assert "planted" not in str(refused.value)


def test_a_folder_is_named_by_its_own_name_and_not_by_its_path(tmp_path):
    run = tmp_path / "my-run" / "checkpoint-40"
    run.mkdir(parents=True)
    assert parse_model_name(f"vllm:{run}") == ModelName("vllm", "my-run/checkpoint-40", str(run))
    assert parse_model_name(f"transformers:{run.parent}/").model == "my-run"


# ---- opened ----


def ask(text: str, model: str = "m", sample: int = 0, **sampling) -> Request:
    return Request(model, [{"role": "user", "content": text}], sampling, sample)


def ask_all(teacher, requests, folder, counts=None):
    async def collect():
        with Journal(folder) as journal:
            async with aclosing(Journaled(teacher, journal).ask(requests, counts=counts)) as results:
                return [result async for result in results]

    return asyncio.run(collect())


def test_teachers_open_in_order_each_with_its_own_key_and_a_server_of_ours_with_none(tmp_path, monkeypatch):
    log = []
    with FaultyServer() as server:  # refuses each key that begins with "planted" but KEY

        @contextmanager
        def stand_in(source, *, served_name, revision, options):
            log.append((source, served_name, list(options)))
            yield server.url
            log.append("stopped")

        monkeypatch.setattr("cft_trl.generation.vllm_server.vllm_server", stand_in)
        monkeypatch.setenv("OPENAI_API_KEY", "planted-and-not-for-others")
        monkeypatch.setenv("LAB_KEY", KEY)
        monkeypatch.chdir(tmp_path)
        (tmp_path / "m").mkdir()
        specs = [f"openai:m@{server.url}#LAB_KEY", "vllm:./m", "reference", parse_model_name(f"openai:m@{server.url}")]
        teachers = open_teachers(specs, vllm_options=["--dtype", "float32"], max_concurrency=7, timeout=5.0)
        kinds = [type(teacher).__name__ for teacher in teachers]
        assert kinds == ["Teacher", "VllmTeacher", "ReferenceTeacher", "Teacher"]
        assert [teachers[at].max_concurrency for at in (0, 1, 3)] == [7, 7, 7]
        assert log == []
        for at in (0, 1):
            [(_, answer)] = ask_all(teachers[at], [ask(f"q{at}")], tmp_path / str(at))
            assert answer.text == answer_to(f"q{at}", None)
        assert log == [("./m", "m", ["--dtype", "float32"]), "stopped"]
        ask_all(teachers[1], [ask("q1")], tmp_path / "1")  # from the journal
        assert len(log) == 2
        with pytest.raises(CFTError, match="set OPENAI_API_KEY"):
            ask_all(teachers[3], [ask("q3")], tmp_path / "3")


def test_servers_of_ours_take_turns(tmp_path, monkeypatch):
    running, most = [], []
    with FaultyServer(delay=0.05, models="a,b,c") as server:

        @contextmanager
        def stand_in(source, **options):
            running.append(source)
            most.append(len(running))
            yield server.url
            running.remove(source)

        monkeypatch.setattr("cft_trl.generation.vllm_server.vllm_server", stand_in)
        rows = [{"id": "1", "query": "2+2?", "response": "5"}, {"id": "2", "query": "2+3?", "response": "5"}]
        names = ["vllm:a", "vllm:b", "vllm:c"]
        hub = {"kind": "hub", "commit": "0" * 40}
        teachers = open_teachers(
            names, identities={name: {"kind": "vllm", "model": hub | {"name": name}} for name in names}
        )
        report = run_critique([to_record(row) for row in rows], CritiqueSettings(), teachers, tmp_path)
    assert (report.written, most, running) == (6, [1, 1, 1], [])


def test_a_vllm_teacher_gets_all_requests_at_once(tmp_path, monkeypatch):
    with FaultyServer(delay=1.0) as server:
        monkeypatch.setattr("cft_trl.generation.vllm_server.vllm_server", lambda *_, **__: nullcontext(server.url))
        [teacher] = open_teachers(["vllm:m"], max_concurrency=24)
        made = ask_all(teacher, [ask(f"q{at}") for at in range(24)], tmp_path)
        assert len(made) == 24
        assert server.most_in_flight > 16  # what others get at first


def test_a_wrong_name_opens_nothing(monkeypatch):
    monkeypatch.setattr(
        "cft_trl.generation.vllm_server.vllm_server", lambda *args, **kwargs: pytest.fail("a server was started")
    )
    with pytest.raises(CFTError, match="did you mean 'openai'"):
        open_teachers(["vllm:m", "opnai:m"])


def test_only_openai_teachers_go_through_the_batch_api():
    teachers = open_teachers(["openai:m", "openai:n@http://h/v1", "reference"], batch=True)
    assert [isinstance(teacher, BatchTeacher) for teacher in teachers] == [True, True, False]


# ---- in this process ----


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher")
    import torch

    tokenizer = make_tokenizer("chatml")
    model = make_model(tokenizer)
    with torch.no_grad():
        model.lm_head.weight.mul_(40)  # a random model is nearly indifferent, and rounding would decide
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def teacher(model_folder):
    return TransformersTeacher(model_folder, name="m", batch_size=4)


TEXTS = [f"What is {n} x {n + 1}?" + " Think." * (n % 5) for n in range(10)]


def texts(results):
    return [answer.text for _, answer in results]


def test_answers_do_not_depend_on_what_is_asked_beside_them(teacher, tmp_path):
    requests = [ask(text, temperature=0, max_tokens=6) for text in TEXTS]
    together = ask_all(teacher, requests, tmp_path / "together")
    assert [request for request, _ in together] == requests
    alone = [ask_all(teacher, [request], tmp_path / str(n))[0] for n, request in enumerate(requests[:4])]
    assert texts(together)[:4] == texts(alone)
    assert len(set(texts(together))) > 5


def test_a_seed_says_what_is_drawn_and_without_one_the_request_does(teacher, tmp_path):
    def drawn(folder, **sampling):
        options = {"temperature": 1.0, "max_tokens": 6, **sampling}
        return texts(ask_all(teacher, [ask(TEXTS[0], sample=k, **options) for k in range(3)], tmp_path / folder))

    assert drawn("a") == drawn("b")
    assert len(set(drawn("c", temperature=5.0))) == 3  # each sample its own
    assert drawn("d", seed=4) == drawn("e", seed=4)
    assert drawn("f", seed=5, temperature=5.0)[:2] == drawn("g", seed=4, temperature=5.0)[1:]


def test_only_what_is_not_in_the_journal_is_computed_and_equal_requests_once(teacher, tmp_path):
    first, second = Counts(), Counts()
    requests = [ask(text, temperature=0, max_tokens=4) for text in TEXTS]
    some = ask_all(teacher, [*requests[:3], requests[0]], tmp_path, first)
    assert (first.sent, first.answered, first.in_flight) == (3, 3, 0)
    assert texts(some)[0] == texts(some)[3]
    rest = ask_all(teacher, requests, tmp_path, second)
    assert (second.sent, second.from_journal, len(rest)) == (7, 3, 10)
    assert first.completion_tokens == sum(answer.completion_tokens for _, answer in some[:3])
    teacher._loaded = None
    teacher._source = "gone"  # what is in the journal needs no model
    assert ask_all(teacher, requests, tmp_path) == rest


def test_limits_stop_strings_and_prompts_that_are_too_long(teacher, tmp_path):
    long = ask("word " * 6000, temperature=0, max_tokens=4)
    whole = ask(TEXTS[1], temperature=0, max_tokens=16)
    counts = Counts()
    [(_, failure), (_, answer)] = ask_all(teacher, [long, whole], tmp_path, counts)
    assert failure.reason == "context length"
    assert counts.failed == {"context length": 1}
    assert (answer.finish_reason, answer.completion_tokens) == ("length", 16)
    assert counts.truncated == 1
    mark = answer.text.strip()[4:7]
    [(_, stopped)] = ask_all(teacher, [ask(TEXTS[1], temperature=0, max_tokens=16, stop=[mark])], tmp_path)
    assert stopped.finish_reason == "stop"
    assert stopped.text == answer.text.split(mark)[0]


def test_a_parameter_that_is_not_known_is_named(teacher, tmp_path):
    with pytest.raises(CFTError, match=r"'topp'.*did you mean 'top_p'"):
        ask_all(teacher, [ask("q", topp=0.5)], tmp_path)
    with pytest.raises(CFTError, match="neither a folder"):
        TransformersTeacher("./no-such-folder")


def test_a_journal_that_cannot_be_written_ends_the_run(teacher, tmp_path, monkeypatch):
    kept = []

    def full(self, key, result, again=False):
        kept.append(key)
        raise CFTError("no space left")

    monkeypatch.setattr(Journal, "append", full)
    counts = Counts()
    with pytest.raises(CFTError, match="no space left"):
        ask_all(teacher, [ask(text, temperature=0, max_tokens=4) for text in TEXTS], tmp_path, counts)
    assert (len(kept), counts.in_flight) == (1, 0)


def test_what_a_batch_gave_is_kept_when_the_run_is_cancelled_in_the_next(teacher, tmp_path, monkeypatch):
    from cft_trl.generation.local import LocalModel

    batches = []
    compute = LocalModel._advance

    def counted(self, rows, *rest):
        batches.append(len(rows))
        return compute(self, rows, *rest)

    monkeypatch.setattr(LocalModel, "_advance", counted)
    requests = [ask(text, temperature=0, max_tokens=4) for text in TEXTS]

    async def cancelled():
        with Journal(tmp_path) as journal:
            running = asyncio.ensure_future(anext(aiter(Journaled(teacher, journal).ask(requests))))
            while not len(journal):
                await asyncio.sleep(0)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            return len(journal)

    kept = asyncio.run(cancelled())
    assert batches in ([4], [4, 4])  # the one under way ends, no further one begins
    assert kept == sum(batches)
    counts = Counts()
    ask_all(teacher, requests, tmp_path, counts)
    assert (counts.from_journal, counts.sent) == (kept, 10 - kept)


def test_it_writes_the_critique_stage(teacher, tmp_path, rows):
    from cft_trl.data.stage_files import RowFile, stage_path
    from cft_trl.synthesis.critique import CritiqueSettings, run_critique

    settings = CritiqueSettings(("transformers:m",), samples=2, max_tokens=8, seed=1)
    report = run_critique(rows[:6], settings, [teacher], tmp_path)
    assert (report.read, report.written + report.failures.total()) == (6, 12)
    written = list(RowFile(stage_path(tmp_path, "critique")))
    assert {row["teacher"] for row in written} == {"m"}
    assert json.loads(json.dumps(written[0]))["id"] == f"{rows[0]['id']}.m.0"
