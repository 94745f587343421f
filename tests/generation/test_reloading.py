"""One server that reads the weights of several checkpoints in turn: with a stand-in for vLLM, and with the real one."""

from __future__ import annotations

import json
import os
import threading
from concurrent.futures import Future
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from conftest import make_model
from transformers import AutoModelForCausalLM

from cft_trl.errors import CFTError
from cft_trl.generation import reloading
from cft_trl.generation.local import LocalModel
from cft_trl.generation.reloading import _staged, is_tied, log_probs, serve_in_turn
from cft_trl.models.loading import load_model


@pytest.fixture
def checkpoints(tokenizers, tmp_path):
    """`checkpoints(tied)` -> name -> folder of three models of one shape."""

    def make(tied: bool = False) -> dict[str, str]:
        config = make_model(tokenizers("chatml"), tie_word_embeddings=tied).config
        # vLLM knows no smaller head on some CPUs; large weights, or a tied model repeats the last token.
        config.head_dim, config.initializer_range = 32, 0.3
        for number in range(3):
            torch.manual_seed(number)
            model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
            model.save_pretrained(tmp_path / f"checkpoint-{number}")
            tokenizers("chatml").save_pretrained(tmp_path / f"checkpoint-{number}")
        return {f"step-{number}": str(tmp_path / f"checkpoint-{number}") for number in range(3)}

    return make


class StandIn:
    """What of vLLM is asked here. `reads`: "all" weights that it is told to, "none" though it says so, or "not"."""

    def __init__(self, monkeypatch, reads: str = "all", resets: bool = True) -> None:
        self.loaded, self.started, self.calls = "", [], []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.calls.append(self.path)
                answer = {}
                if self.path == "/collective_rpc":
                    if reads == "not":
                        return self.send_error(404)
                    assert body["method"] == "reload_weights"
                    outer.loaded = body["kwargs"]["weights_path"] if reads == "all" else outer.loaded
                    outer.read()
                elif self.path == "/reset_prefix_cache":
                    answer = {"success": resets}
                else:
                    told = log_probs(outer.loaded, body["prompt"], "float32") if outer.known is None else outer.known
                    places = [{str(t): {"logprob": p}} for t, p in zip(body["prompt"][1:], told, strict=True)]
                    answer = {"choices": [{"prompt_logprobs": [None, *places]}]}
                self.send_response(200)
                self.end_headers()
                self.wfile.write(json.dumps(answer).encode())

            def log_message(self, *parts):
                pass

        @contextmanager
        def vllm_server(model, *, environment, **others):
            assert environment == {"VLLM_SERVER_DEV_MODE": "1"}
            outer.loaded = model
            outer.read()
            server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
            threading.Thread(target=server.serve_forever, daemon=True).start()
            outer.started.append(Path(model).name)
            yield f"http://127.0.0.1:{server.server_port}/v1"
            server.shutdown()
            server.server_close()

        @contextmanager
        def serve(sources, **others):
            outer.started.append(f"own {next(iter(sources))}")
            yield {name: name for name in sources}

        monkeypatch.setattr(reloading, "vllm_server", vllm_server)
        monkeypatch.setattr(reloading, "serve", serve)

    def read(self) -> None:
        """A folder of links is gone when the call has been answered, so its model is looked at here."""
        _, tokenizer = load_model(self.loaded)
        self.known = log_probs(self.loaded, tokenizer(reloading._PROBE)["input_ids"], "float32")


@pytest.mark.parametrize("tied", [False, True])
def test_one_server_reads_the_weights_of_each_in_turn(checkpoints, monkeypatch, tied):
    sources, server, said = checkpoints(tied), StandIn(monkeypatch), []
    with serve_in_turn(sources, dtype="float32", tell=said.append) as model:
        for name in ("step-0", "step-1", "step-2", "step-2", "step-0"):
            endpoint = model(name)
            assert endpoint.base_url.startswith("http://127.0.0.1:")
            assert endpoint.at_first == endpoint.max_concurrency == 64
            ids = load_model(sources[name])[1](reloading._PROBE)["input_ids"]
            assert server.known == pytest.approx(log_probs(sources[name], ids, "float32"), abs=1e-5)
    assert len(server.started) == 1
    # The last one first, for the check; a step that is loaded is not read again.
    assert server.calls.count("/collective_rpc") == server.calls.count("/reset_prefix_cache") == 4
    assert said == []


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"reads": "none"}, "not all those of checkpoint-2"),
        ({"reads": "not"}, "reads no other weights in its run"),
        ({"resets": False}, "cache of prefixes"),
    ],
)
def test_where_it_cannot_each_gets_a_server_and_one_line_says_why(checkpoints, monkeypatch, how, told):
    server, said = StandIn(monkeypatch, **how), []
    with serve_in_turn(checkpoints(), dtype="float32", tell=said.append) as model:
        assert model("step-0").model == "checkpoint"
        assert [model(name) for name in ("step-1", "step-1", "step-2", "step-0")] == [
            "step-1",
            "step-1",
            "step-2",
            "step-0",
        ]
    assert server.started == ["checkpoint-0", "own step-1", "own step-2", "own step-0"]
    assert len(said) == 1
    assert told in said[0]


def test_models_that_differ_in_more_than_weights_share_no_server(checkpoints, monkeypatch):
    sources, server, said = checkpoints(), StandIn(monkeypatch), []
    path = Path(sources["step-1"]) / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"padding_side": "left"}))
    with serve_in_turn(sources, tell=said.append) as model:
        assert model("step-0") == "step-0"
    assert server.started == ["own step-0"]
    assert "differ in more than their weights (tokenizer)" in said[0]


def test_models_too_alike_to_tell_are_not_trusted_to_one_server(checkpoints, monkeypatch):
    sources = checkpoints()
    sources = {"a": sources["step-0"], "b": sources["step-0"]}
    server, said = StandIn(monkeypatch), []
    with serve_in_turn(sources, dtype="float32", tell=said.append) as model:
        model("a")
        assert model("b") == "b"
    assert server.started[1:] == ["own b"]
    assert "too alike" in said[0]


@pytest.mark.parametrize(
    ("between", "off", "told"),
    [
        (0.5, 0.012, None),
        (0.5, 0.2, "not all those of second"),
        (0.05, 0.012, None),
        (0.05, 0.02, "too alike to tell"),  # within three times the rounding, and yet it may be half of the weights
        (0.035, 0.0, "too alike to tell"),
    ],
)
def test_what_was_read_is_far_nearer_than_the_models_are_to_each_other(between, off, told):
    rounding = 0.01
    server = object.__new__(reloading._Server)
    server.sources, server.first, server.rounding = {"a": "runs/first", "b": "runs/second"}, "a", None
    server.told, server.known = {"a": [rounding, -rounding]}, {"a": Future(), "b": Future()}
    server.known["a"].set_result([0.0, 0.0])
    server.known["b"].set_result([-between, between])
    server._log_probs = lambda: [off - between, between - off]
    if told is None:
        server._check("b")
        assert server.rounding == pytest.approx(rounding)
    else:
        with pytest.raises(reloading._Cannot, match=told):
            server._check("b")


def test_a_folder_without_a_tokenizer_is_told_as_such_when_the_server_ends(checkpoints, monkeypatch):
    sources = checkpoints()
    for folder in sources.values():
        for file in Path(folder).glob("tokenizer*"):
            file.unlink()

    @contextmanager
    def vllm_server(model, **options):
        raise CFTError("vLLM ended at its start: a traceback's last line")
        yield

    monkeypatch.setattr(reloading, "vllm_server", vllm_server)
    with pytest.raises(CFTError, match=r"checkpoint-0.*tokenizer"), serve_in_turn(sources, dtype="float32") as model:
        model("step-0")


def test_a_tied_model_is_served_with_a_head_of_its_own(checkpoints):
    folder = Path(checkpoints(tied=True)["step-1"])
    assert is_tied(folder)
    assert not is_tied(Path(checkpoints(tied=False)["step-1"]))
    folder = Path(checkpoints(tied=True)["step-1"])
    tokens = list(range(5, 40))
    with _staged(folder, True) as staged:
        assert json.loads((staged / "config.json").read_text())["tie_word_embeddings"] is False
        assert not is_tied(staged)
        assert log_probs(str(staged), tokens, "float32") == pytest.approx(log_probs(str(folder), tokens, "float32"))
    assert not staged.exists()
    with _staged(folder, False) as same:
        assert same == folder.resolve()


def test_only_the_writing_of_a_head_is_told_as_that(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(BrokenPipeError), _staged(tmp_path, True):  # as of `cft select | head`
        raise BrokenPipeError

    def full(*given):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "symlink_to", full)
    (tmp_path / "vocab.json").write_text("{}")
    with pytest.raises(CFTError, match="head cannot be written there"), _staged(tmp_path, True):
        pass


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif("CFT_VLLM_PYTHON" not in os.environ, reason="no vLLM here (set CFT_VLLM_PYTHON)")
@pytest.mark.parametrize("tied", [False, True])
def test_vllm_writes_the_texts_of_the_checkpoint_that_it_has_read(checkpoints, monkeypatch, tied):
    monkeypatch.setenv("CFT_VLLM_OPTIONS", "--enforce-eager --max-model-len 512")
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    sources, said = checkpoints(tied), []
    # Long and alike at the beginning, so that the cache of prefixes holds it; asked twice for the same reason.
    asked = [[{"role": "user", "content": "How many apples are left in the basket? " * 12 + end}] for end in "abc"]
    expected = {}
    for name, source in sources.items():
        made = LocalModel(*load_model(source, dtype="float32")).generate(asked, max_new_tokens=12)
        expected[name] = [one.text.rstrip("\ufffd") for one in made]  # half a character: vLLM leaves it out
    assert len({tuple(texts) for texts in expected.values()}) == 3
    with serve_in_turn(sources, dtype="float32", tell=said.append) as model:
        for name in ("step-0", "step-1", "step-2", "step-0"):
            for _ in range(2):
                texts = [made.text for made in model(name).generate(asked, max_new_tokens=12)]
                assert [text.rstrip("\ufffd") for text in texts] == expected[name]
    assert said == []
