"""For the tests of what an evaluation is known by: models and data on disk, both commands run on them, an endpoint.

Fixtures: `world`, a folder with models, data and what both commands made of them, and `done`, what it is a copy of.
"""

from __future__ import annotations

import json
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import make_model
from eval_runs import write_benchmarks
from hub_runs import _tokenizer as make_tokenizer
from test_eval_critic import processbench_row

from cft_trl.evaluation.backends import Backend
from cft_trl.evaluation.critic_run import CriticSettings, run_eval_critic
from cft_trl.evaluation.run import run_evaluation
from cft_trl.evaluation.settings import EvalSettings

COMMANDS = ("eval", "eval-critic")


def run(command, where, output, *, ask_again=False, **backend):
    """One of the two commands in a folder that holds `model` and `data`; returns its result."""
    name = backend.pop("name", str(where / "model"))
    with Backend(backend.pop("kind", "transformers"), name, **backend) as model:
        if command == "eval":
            settings = EvalSettings(tasks={"gsm8k": 3, "amc23": 2}, max_new_tokens=4)
            return run_evaluation(settings, model, output, ask_again=ask_again)
        settings = CriticSettings(data=str(where / "data" / "mine.json"), max_new_tokens=4)
        return run_eval_critic(settings, model, output, ask_again=ask_again)


def texts(command, output):
    """What the model wrote, in order."""
    import pyarrow.parquet as pq

    names = ("gsm8k", "amc23") if command == "eval" else ("mine",)
    return [
        text for name in names for text in pq.read_table(output / "generations" / f"{name}.parquet")["text"].to_pylist()
    ]


def save_model(folder, seed=0.0, **overrides):
    import torch

    tokenizer = make_tokenizer()
    model = make_model(tokenizer, **overrides)
    with torch.no_grad():
        model.lm_head.weight += seed * torch.arange(model.lm_head.weight.shape[0]).unsqueeze(1)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A folder with a model, an adapter on a base, data, and what both commands made of each of the two models."""
    from peft import LoraConfig, get_peft_model

    where = tmp_path_factory.mktemp("done")
    save_model(where / "model")
    save_model(where / "base")
    adapter = get_peft_model(make_model(make_tokenizer()), LoraConfig(r=2, target_modules=["q_proj"]))
    adapter.save_pretrained(where / "adapter")
    make_tokenizer().save_pretrained(where / "adapter")
    settings = where / "adapter" / "adapter_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"base_model_name_or_path": str(where / "base")}))
    with pytest.MonkeyPatch.context() as patch:
        write_benchmarks(where / "data", patch, ("gsm8k", "amc23"))
        (where / "data" / "mine.json").write_text(json.dumps([processbench_row(at, at % 2 * 2 - 1) for at in range(3)]))
        for command in COMMANDS:
            run(command, where, where / f"out-{command}")
        run("eval-critic", where, where / "out-adapter", name=str(where / "adapter"))
    return where


@pytest.fixture
def world(done, tmp_path, monkeypatch):
    """A copy of `done` that may be changed, its adapter on its own base."""
    shutil.copytree(done, tmp_path / "w", copy_function=shutil.copy2)
    settings = tmp_path / "w" / "adapter" / "adapter_config.json"
    settings.write_text(settings.read_text().replace(str(done), str(tmp_path / "w")))
    shutil.rmtree(tmp_path / "w" / "data")
    write_benchmarks(tmp_path / "w" / "data", monkeypatch, ("gsm8k", "amc23"))
    shutil.copy(done / "data" / "mine.json", tmp_path / "w" / "data")
    monkeypatch.setenv("CFT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "w"


class Served:
    """An endpoint on loopback. `says` is its entry in /v1/models (None: it has no such page), `text` every answer."""

    def __init__(self, says=None, text="It is 4. The answer is 4.", fingerprint=None):
        self.says, self.text, self.fingerprint, self.asked, self.dies_after = says, text, fingerprint, 0, None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                self._send(404 if outer.says is None else 200, {"data": [outer.says] if outer.says else []})

            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                outer.asked += 1
                if outer.dies_after is not None and outer.asked > outer.dies_after:
                    return self._send(401, {"error": {"message": "gone"}})
                choice = {"message": {"role": "assistant", "content": outer.text}, "finish_reason": "stop"}
                told = {"system_fingerprint": outer.fingerprint} if outer.fingerprint else {}
                return self._send(200, {"choices": [choice], "usage": {}, **told})

            def _send(self, status, body):
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def served(server, **more):
    return {"kind": "endpoint", "name": "m", "base_url": server.url, **more}


ROOT = {"id": "m", "root": "/models/first", "max_model_len": 2048, "created": 1, "owned_by": "vllm"}
