"""What `serve` tells the endpoints of a model: where it stops and what its template writes around an answer."""

from __future__ import annotations

import json
from contextlib import contextmanager, nullcontext

import pytest
from families import FAMILIES, base_folder
from faulty_server import FaultyServer

from cft_trl.data.prompts import chat_messages
from cft_trl.generation import serving
from cft_trl.generation.serving import serve
from cft_trl.models.chat_templates import as_trained


@pytest.fixture
def servers(monkeypatch):
    """What would have been served, in place of vLLM."""
    asked = []

    @contextmanager
    def vllm_server(model, **options):
        asked.append((model, options))
        yield "http://127.0.0.1:9/v1"

    monkeypatch.setattr(serving, "vllm_server", vllm_server)
    return asked


def endpoint_of(folder, name="m", **more):
    with serve({name: str(folder)}, **more) as models:
        assert list(models) == [name]
        return models[name]


@pytest.mark.parametrize(
    ("name", "ends", "around", "merges"),
    [
        ("qwen2.5-base", ["<|endoftext|>", "<|im_end|>"], ("", ""), False),
        ("gpt-oss", ["<|return|>"], ("final", ""), False),
        ("llama2", ["</s>"], (" ", " "), False),
        ("gemma", ["<eos>", "<end_of_turn>"], ("", ""), True),
    ],
)
def test_an_endpoint_stops_where_the_model_was_trained_to(servers, tmp_path, name, ends, around, merges):
    folder = base_folder(FAMILIES[name], tmp_path / "model")
    endpoint = endpoint_of(folder)
    ids = FAMILIES[name].tokenizer().convert_tokens_to_ids(ends)
    assert endpoint.extra["stop_token_ids"] == ids
    assert ((endpoint.header, endpoint.behind), endpoint.merge_system, endpoint.whole_context) == (around, merges, True)
    assert servers[0][0] == str(folder)


def test_a_server_of_ours_gets_all_requests_at_once(monkeypatch, tmp_path):
    """Others get 16 at first, and the other 24 of forty when those are answered."""
    folder = base_folder(FAMILIES["qwen2.5-base"], tmp_path / "model")
    with FaultyServer(delay=1.0) as server:
        monkeypatch.setattr(serving, "vllm_server", lambda *_, **__: nullcontext(server.url))
        made = endpoint_of(folder, concurrency=64).generate([chat_messages(f"q{at}") for at in range(40)])
        assert len(made) == 40
        assert server.most_in_flight > 24


def test_the_template_that_is_saved_with_a_trained_model_needs_no_header_taken_off(servers, tmp_path):
    folder = base_folder(FAMILIES["gpt-oss"], tmp_path / "model")
    as_trained(FAMILIES["gpt-oss"].tokenizer()).save_pretrained(folder)
    endpoint = endpoint_of(folder)
    assert (endpoint.header, endpoint.behind) == ("", "")


def test_an_adapters_own_ends_count_and_not_its_bases(servers, tmp_path):
    family = FAMILIES["qwen2.5-base"]
    base = base_folder(family, tmp_path / "base")
    tokenizer = family.tokenizer()
    tokenizer.save_pretrained(tmp_path / "adapter")
    settings = {"base_model_name_or_path": str(base), "r": 4, "peft_type": "LORA"}
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(settings))
    (tmp_path / "adapter" / "generation_config.json").write_text(json.dumps({"eos_token_id": [5, 6]}))
    extra = endpoint_of(tmp_path / "adapter", "step-1", extra={"top_k": 5}).extra
    ends = tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_end|>"])
    assert extra == {"stop_token_ids": [5, 6, *ends], "top_k": 5}
    assert servers[0][0] == str(base)
