"""Models that write texts, all asked alike: requests in, (request, generation) out, a journal around any of them."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing, contextmanager

import pytest
from conftest import make_model, make_tokenizer
from faulty_server import FaultyServer

from cft_trl.data.records import make_record
from cft_trl.errors import CFTError
from cft_trl.generation.batch import BatchTeacher
from cft_trl.generation.client import Teacher
from cft_trl.generation.endpoint import Endpoint
from cft_trl.generation.generate import generate, requests_of
from cft_trl.generation.journal import Journal
from cft_trl.generation.journaled import Journaled
from cft_trl.generation.local import LocalModel
from cft_trl.generation.open import open_endpoint, opened
from cft_trl.generation.transformers_teacher import TransformersTeacher
from cft_trl.generation.types import Counts, Generation, Request, failed
from cft_trl.synthesis.reference_teacher import ReferenceTeacher

pytest.importorskip("openai")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    tokenizer, folder = make_tokenizer("chatml"), tmp_path_factory.mktemp("model")
    make_model(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def ask(text: str, **sampling) -> Request:
    row = make_record(id=text, query="What is 6 x 7?", response="The answer is 43.", reference_answer="42")
    return Request("m", [{"role": "user", "content": text}], {"max_tokens": 4, **sampling}, tag=row)


def asked(model, requests, counts=None):
    async def collect():
        async with aclosing(model.ask(requests, counts=counts, in_order=True)) as results:
            return [result async for result in results]

    return asyncio.run(collect())


@pytest.mark.parametrize("kind", ["teacher", "endpoint", "transformers", "reference"])
def test_every_model_gives_pairs_and_its_journal_the_same_again(kind, folder, tmp_path):
    requests = [ask(f"question {n}", temperature=0) for n in (1, 2, 3, 1)]
    if kind == "reference":
        requests = [Request("m", one.messages, {}, tag=one.tag) for one in requests]
    with FaultyServer() as server:
        models = {
            "teacher": lambda: Teacher("m", server.url),
            "endpoint": lambda: Endpoint("m", server.url),
            "transformers": lambda: TransformersTeacher(folder, name="m", batch_size=2),
            "reference": ReferenceTeacher,
        }
        alone = asked(models[kind](), requests)
        assert [request for request, _ in alone] == requests
        assert all(made.text and made.failure is None for _, made in alone)
        assert alone[0][1] == alone[3][1]
        first, again = Counts(), Counts()
        with Journal(tmp_path) as journal:
            assert asked(Journaled(models[kind](), journal, "9f2c41aa"), requests, first) == alone
            assert len(journal) == 3
            assert asked(Journaled(models[kind](), journal, "9f2c41aa"), requests, again) == alone
    assert (first.sent, again.sent, again.from_journal) == (3, 0, 4)
    lines = [json.loads(line) for line in (tmp_path / "main.jsonl").read_text().splitlines()]
    assert [line["by"] for line in lines] == ["9f2c41aa"] * 3
    assert [line["text"] for line in lines if line["key"] == requests[0].key] == [alone[0][1].text]


def test_answers_and_failures_of_earlier_versions_are_read_as_they_were_written(tmp_path):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "6 x 7?"}]
    requests = [
        Request("m", messages, {"temperature": 0.3, "max_tokens": 64}, 1, who="9f2c41aa77d01e5b"),
        Request("m", messages, {"temperature": 0.3, "max_tokens": 64}),
    ]
    (tmp_path / "main.jsonl").write_text(
        '{"key":"0ff61a8ccc91738b0ca5c2ccc30c858a","text":"42.","finish_reason":"stop","prompt_tokens":9,'
        '"completion_tokens":3,"fingerprint":"fp_1","without":["seed"],"limit_cut":true,"by":"9f2c41aa","on":"2026-11-20"}\n'
        '{"key":"cf529b6d568992532003472152d88c23","failure":"context length","detail":"2,048 tokens at most"}\n'
    )
    with Journal(tmp_path) as journal:
        found = asked(Journaled(Teacher("m", "http://127.0.0.1:9/v1"), journal), requests)
    assert [made for _, made in found] == [
        Generation("42.", "stop", 9, 3, without=("seed",), fingerprint="fp_1", limit_cut=True),
        failed("context length", "2,048 tokens at most"),
    ]


def test_a_batch_without_a_journal_is_refused():
    with pytest.raises(CFTError, match="outlives the run"):
        asked(BatchTeacher("m", "http://127.0.0.1:9/v1"), [ask("q")])


def test_what_waits_for_texts_gets_the_same_from_all(folder):
    conversations = [[{"role": "user", "content": f"question {n}"}] for n in range(3)]
    with FaultyServer() as server, opened("transformers", folder, batch_size=2) as local:
        for model in (local, open_endpoint("m", server.url)):
            told = {}
            made = generate(model, requests_of(model, conversations, max_new_tokens=4), told.__setitem__)
            assert made == [told[at] for at in range(3)] == model.generate(conversations, max_new_tokens=4)
    assert isinstance(local, LocalModel)
    with pytest.raises(CFTError, match="give an address"):
        open_endpoint("m", "localhost:8000")


def test_requests_that_are_sampled_otherwise_share_a_call_and_no_batch(folder):
    with opened("transformers", folder) as model:
        asks = [ask("a", temperature=0), ask("b", temperature=1.0, seed=3), ask("c", temperature=0), ask("a", stop="e")]
        together = model.write(asks[:3])
        assert together == [model.write([one])[0] for one in asks[:3]]
        assert model.write([ask("b", temperature=1.0, seed=4)]) != together[1:2]


def test_a_server_of_ours_is_opened_under_the_name_that_is_asked(folder, monkeypatch):
    served = []

    @contextmanager
    def serve(sources, **settings):
        served.append((sources, settings["dtype"]))
        yield dict.fromkeys(sources, "the endpoint")

    monkeypatch.setattr("cft_trl.generation.serving.serve", serve)
    with opened("vllm", folder, name="checkpoint-4", dtype="bfloat16") as model:
        assert model == "the endpoint"
    assert served == [({"checkpoint-4": folder}, "bfloat16")]


def test_a_system_turn_is_joined_for_all_of_many_questions_and_only_where_that_was_asked_for(tmp_path):
    def refuse(text, times):
        return None if "Be brief" in text else (400, {"error": {"message": "System role not supported"}}, "")

    conversations = [
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": f"question {n}"}] for n in range(20)
    ]
    with FaultyServer(script=refuse) as server:
        made = Endpoint("m", server.url).generate(conversations)
        assert all(one.text for one in made)
        requests = [Request("m", conversation) for conversation in conversations]
        with Journal(tmp_path) as journal, pytest.raises(CFTError, match="System role not supported"):
            asked(Journaled(Teacher("m", server.url), journal), requests)
