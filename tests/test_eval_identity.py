"""`cft eval` and `cft eval-critic`, done once, one thing changed, done again: refused, or what a fresh folder gives."""

from __future__ import annotations

import json
import os
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import make_model
from eval_runs import write_benchmarks
from hub_runs import _tokenizer as make_tokenizer
from test_eval_critic import processbench_row

from cft_trl.cli import main
from cft_trl.errors import CFTError
from cft_trl.evaluation import claims
from cft_trl.evaluation.backends import Backend
from cft_trl.evaluation.critic_run import CriticSettings, run_eval_critic
from cft_trl.evaluation.generations import read_generations
from cft_trl.evaluation.run import evaluate_all, run_evaluation
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


def edit(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def other_weights_of_that_time(model):
    path, before = model / "model.safetensors", (model / "model.safetensors").stat()
    save_model(model, seed=1.0)
    assert path.stat().st_size == before.st_size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES = {
    "other weights, size and time kept": (other_weights_of_that_time, "other weights"),
    "chat template": (
        lambda model: (model / "chat_template.jinja").write_text("{{ messages[0]['content'] }}"),
        "another chat template",
    ),
    "config.json": (lambda model: edit(model / "config.json", rms_norm_eps=0.5), "another config.json"),
    "generation_config.json": (
        lambda model: edit(model / "generation_config.json", eos_token_id=7),
        "another generation_config.json",
    ),
    "tokenizer": (
        lambda model: (model / "tokenizer.json").write_text((model / "tokenizer.json").read_text() + " "),
        "another tokenizer",
    ),
    "code that comes with it": (lambda model: (model / "modeling.py").write_text("x = 1"), "another config.json"),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", CHANGES)
def test_a_model_that_is_another_by_now_is_refused(world, command, name):
    change, told = CHANGES[name]
    output = world / f"out-{command}"
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    change(world / "model")
    with pytest.raises(CFTError, match=f"holds answers of another model: .*{told}.*; give another --output$"):
        run(command, world, output)
    assert {path: path.read_bytes() for path in output.rglob("*") if path.is_file()} == before


def test_an_adapters_base_is_part_of_it(world):
    output = world / "out-adapter"
    adapter = str(world / "adapter")
    assert run("eval-critic", world, output, name=adapter)["from_journal"] == 3
    save_model(world / "base", seed=1.0)
    with pytest.raises(CFTError, match="another model: other weights of its base"):
        run("eval-critic", world, output, name=adapter)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_same_model_moved_and_touched_goes_on(world, command, monkeypatch):
    monkeypatch.setattr(Backend, "generator", lambda self: pytest.fail("asked again"))
    (world / "model").rename(world / "moved")
    for path in (world / "moved").iterdir():
        os.utime(path, (1, 1))
    (world / "moved" / "training_args.txt.bak").write_text("a record, and no part of the model")
    output = world / f"out-{command}"
    before = texts(command, output)
    run(command, world, output, name=str(world / "moved"))
    assert texts(command, output) == before


@pytest.mark.parametrize(
    ("change", "told"),
    [({"dtype": "bfloat16"}, r"another dtype \(float32 before, bfloat16 now\)"), ({"kind": "vllm"}, "kind of source")],
)
def test_another_way_to_run_it_is_refused(world, change, told):
    with pytest.raises(CFTError, match=told):
        run("eval-critic", world, world / "out-eval-critic", **change)


def test_options_of_vllm_that_change_texts_are_part_of_who_answered(world, monkeypatch):
    def identity(options):
        monkeypatch.setenv("CFT_VLLM_OPTIONS", options)
        return Backend("vllm", str(world / "model")).identity()

    assert identity("--tensor-parallel-size 2") == identity("--gpu-memory-utilization 0.5")
    assert identity("--quantization fp8") != identity("")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("column", ["question", "answer"])
def test_other_problems_are_refused(world, command, column):
    if command == "eval":
        path = world / "data" / "gsm8k" / "test.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        asked = read_generations(world / "out-eval" / "generations" / "gsm8k.parquet")[1]["query"]
        row = next(at for at, line in enumerate(lines) if line["question"] == asked)
        lines[row][column] = "What is 1 + 9? #### 10"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    else:
        path = world / "data" / "mine.json"
        rows = json.loads(path.read_text())
        rows[1] |= {"problem": "What else?"} if column == "question" else {"label": 0}
        path.write_text(json.dumps(rows))
    with pytest.raises(CFTError, match=r"holds answers to other problems of (gsm8k|mine): its rows are"):
        run(command, world, world / f"out-{command}")


def test_an_older_runs_best_is_not_evaluated_as_the_new_ones(world):
    shutil.copytree(world / "model", world / "run" / "best")
    (world / "run" / "best" / "run.json").write_text('{"run": "old", "step": 4}')
    (world / "run" / "training.json").write_text('{"run": "new"}')
    with pytest.raises(CFTError, match=r"best' is of another run \(old\) than .* \(new\); run `cft select"):
        Backend("transformers", str(world / "run" / "best"))
    (world / "run" / "training.json").write_text('{"run": "old"}')
    assert Backend("transformers", str(world / "run" / "best")).run_id() == "old"


def test_rows_that_are_not_asked_may_be_others(world, monkeypatch):
    monkeypatch.setattr(Backend, "generator", lambda self: pytest.fail("asked again"))
    path = world / "data" / "gsm8k" / "test.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:-1], json.dumps({"question": "Another?", "answer": "#### 1"})]) + "\n")
    run("eval", world, world / "out-eval")


@pytest.mark.parametrize("command", COMMANDS)
def test_texts_are_never_of_two_versions_of_our_code(world, command, monkeypatch):
    """What is whole may be counted again by a later version; what is not whole is not filled up by it."""
    output = world / f"out-{command}"
    monkeypatch.setattr(claims, "text_code", lambda: "another")
    before = texts(command, output)
    run(command, world, output)
    assert texts(command, output) == before
    [journal] = (output / "journal").glob("*.jsonl")
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:-1]))
    with pytest.raises(
        CFTError, match=f"holds {len(lines) - 1} answers that cft-trl .* wrote, whose code for texts is"
    ):
        run(command, world, output)
    journal.write_text("")
    assert run(command, world, output)["from_journal"] == 0
    assert json.loads((output / "run.json").read_text())["code"] == "another"


def test_verdicts_are_of_the_graders_there_are(world, monkeypatch, capsys):
    from cft_trl.evaluation import run as runner

    monkeypatch.setattr(Backend, "generator", lambda self: pytest.fail("asked again"))
    now = runner.grader_version()
    before = json.loads((world / "out-eval" / "evaluation.json").read_text())
    assert (before["grader"], before["problems"]["gsm8k"]["rows"]) == (now, 3)
    monkeypatch.setattr(runner, "grader_version", lambda: now | {"code": "later"})
    result = run("eval", world, world / "out-eval")
    assert result["grader"]["code"] == "later"
    assert "graded anew from the kept texts" in capsys.readouterr().err
    assert main(["grade", str(world / "out-eval")]) == 0
    assert "the saved verdicts are of another version of the graders: code later and" in capsys.readouterr().out


def test_a_folder_of_an_earlier_version_is_refused(world):
    path = world / "out-eval" / "run.json"
    told = json.loads(path.read_text())
    path.write_text(json.dumps({"model": "m", "weights": [["model.safetensors", 1, 2]], **told["asked"]}))
    with pytest.raises(CFTError, match="or of an earlier version of it, which did not note what its model was"):
        run("eval", world, world / "out-eval")


@pytest.mark.parametrize("place", ["training.json", "run.json"])
def test_the_runs_id_is_in_the_result(world, place):
    (world / "model" / place).write_text('{"run": "9f2c"}')
    assert run("eval-critic", world, world / "out-eval-critic")["run"] == "9f2c"


def test_answers_are_kept_under_who_gave_them_and_the_round(tmp_path):
    def key(identity, round=1):
        return claims.Claim(tmp_path, {"identity": identity, "round": round}).key

    keys = {
        key({"weights": "9f2c"}),
        key({"weights": "77d0"}),
        key({"weights": "9f2c"}, 2),
        key({"weights": "77d0"}, 2),
    }
    assert len(keys) == 4


# ---- the Hub ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_a_branch_that_moved_is_refused_and_its_old_commit_goes_on(world, command, tmp_path, monkeypatch):
    from hub_server import OWNER, HubServer
    from huggingface_hub import HfApi

    monkeypatch.setattr("cft_trl.grading.benchmarks.note_read", lambda *_: None)
    with HubServer(tmp_path / "hub") as hub:
        hub.patch_client(monkeypatch, OWNER)
        HfApi().create_repo("org/model")
        HfApi().upload_folder(repo_id="org/model", folder_path=world / "model")
        first = hub.repo("model", "org/model")["branches"]["main"]
        output = tmp_path / "out"
        made = run(command, world, output, name="org/model")
        assert (made["revision"], made["identity"]["model"]["commit"]) == (first, first)
        with Backend("transformers", "org/model") as backend:  # made before the branch moves, loaded after
            save_model(tmp_path / "second", seed=1.0)
            HfApi().upload_folder(repo_id="org/model", folder_path=tmp_path / "second")
            lm_head = backend.generator().model.lm_head.weight
        assert lm_head.equal(make_model(make_tokenizer()).lm_head.weight)
        moved = f"another commit on the Hub .*; give another --output, or --revision {first} to go on with the old one"
        with pytest.raises(CFTError, match=moved):
            run(command, world, output, name="org/model")
        again = run(command, world, output, name="org/model", revision=first)
        assert again["from_journal"] == (0 if command == "eval" else 3)  # of `eval` it is the first run's that measured
        assert again["revision"] == first
        fresh = run(command, world, tmp_path / "fresh", name="org/model")
        assert fresh["revision"] != first


# ---- endpoints -------------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("command", COMMANDS)
def test_an_endpoint_that_says_what_it_serves(world, command, tmp_path):
    with Served(ROOT) as server, Served(ROOT) as other:
        run(command, world, tmp_path / "out", **served(server))
        server.says = ROOT | {"created": 99}  # vLLM gives the time of the question
        run(command, world, tmp_path / "out", **served(server))
        with pytest.raises(CFTError, match="another model: another address"):
            run(command, world, tmp_path / "out", **served(other))
        server.says = ROOT | {"root": "/models/second"}
        with pytest.raises(CFTError, match="another model: another model behind the name; give another --output"):
            run(command, world, tmp_path / "out", **served(server))
        server.says = ROOT | {"max_model_len": 4096}
        with pytest.raises(CFTError, match=r"another context length \(2048 before, 4096 now\)"):
            run(command, world, tmp_path / "out", **served(server))
        assert other.asked == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_an_endpoint_that_cannot_be_told_apart(world, command, tmp_path, capsys):
    output, total = tmp_path / "out", 5 if command == "eval" else 3
    with Served() as server:
        run(command, world, output, **served(server))
        capsys.readouterr()
        server.text = "It is 5. The answer is 5."
        run(command, world, output, **served(server))
        told = capsys.readouterr().err
        assert f"cft: {total} answers of 20" in told
        assert f"from {server.url}; --ask-again asks anew" in told
        assert set(texts(command, output)) == {"It is 4. The answer is 4."}
        asked = server.asked
        # Asked anew, stopped after two, gone on with: of the newest round only.
        server.dies_after = asked + 2
        with pytest.raises(CFTError):
            run(command, world, output, ask_again=True, **served(server, concurrency=1))
        server.dies_after = None
        made = run(command, world, output, **served(server))
        assert set(texts(command, output)) == {"It is 5. The answer is 5."}
        assert (server.asked, made["round"], made["from_journal"]) == (asked + total + 1, 2, 2)
        [journal] = (output / "journal").glob("*.jsonl")
        assert journal.read_text().count("The answer is 4.") == total  # the old answers stay
    run(command, world, output, **served(server))  # nothing is missing, so the server need not be there


def test_a_killed_grid_goes_on_with_the_newest_round_everywhere(world, tmp_path):
    settings = EvalSettings(tasks={"gsm8k": 3}, max_new_tokens=4)
    runs = [(settings, tmp_path / "a"), (EvalSettings(tasks={"gsm8k": 3}, max_new_tokens=5), tmp_path / "b")]
    with Served() as server:
        evaluate_all(runs, Backend(**{"kind": "endpoint", "model": "m", "base_url": server.url}))
        server.text, server.dies_after = "It is 5. The answer is 5.", server.asked
        with pytest.raises(CFTError):
            evaluate_all(runs, Backend(**{"kind": "endpoint", "model": "m", "base_url": server.url}), ask_again=True)
        server.dies_after = None
        evaluate_all(runs, Backend(**{"kind": "endpoint", "model": "m", "base_url": server.url}))
    for name in "ab":
        rows = read_generations(tmp_path / name / "generations" / "gsm8k.parquet")
        assert {row["extracted"] for row in rows} == {"5"}, name


@pytest.mark.parametrize("command", COMMANDS)
def test_several_systems_behind_one_endpoint_are_told(world, command, tmp_path, capsys):
    output = tmp_path / "out"
    with Served(fingerprint="fp_a") as server:
        server.dies_after = 2
        with pytest.raises(CFTError):
            run(command, world, output, **served(server, concurrency=1))
        server.dies_after, server.fingerprint = None, "fp_b"
        result = run(command, world, output, **served(server))
    total = 5 if command == "eval" else 3
    assert result["fingerprints"] == {"fp_a": 2, "fp_b": total - 2}
    assert "answers by its system_fingerprint: fp_a 2, fp_b" in capsys.readouterr().err
    if command == "eval":
        rows = read_generations(output / "generations" / "gsm8k.parquet")
        assert {row["meta"]["fingerprint"] for row in rows} <= {"fp_a", "fp_b"}


def test_a_judge_that_is_another_by_now_is_refused(world, tmp_path, monkeypatch):
    write_benchmarks(tmp_path / "more", monkeypatch, ("mt-bench",))
    with Served(text="An answer.") as model, Served(ROOT, text="Good. Score: 8") as judge:
        settings = EvalSettings(tasks={"mt-bench": None}, judge=f"m@{judge.url}")
        backend = Backend("endpoint", "m", base_url=model.url)
        run_evaluation(settings, backend, tmp_path / "out")
        assert judge.asked == 4
        judge.says = ROOT | {"root": "/models/second"}
        with pytest.raises(CFTError, match="holds answers of another judge: another model behind the name"):
            run_evaluation(settings, backend, tmp_path / "out")
        judge.says = ROOT
        run_evaluation(settings, backend, tmp_path / "out")
        assert judge.asked == 4
        result = run_evaluation(settings, backend, tmp_path / "out", ask_again=True)
        assert judge.asked == 8
    assert result["judge_identity"]["served"] == ["/models/first", None]


@pytest.mark.parametrize(
    "arguments",
    [
        ["eval", "MODEL", "--tasks", "gsm8k"],
        ["eval-critic", "MODEL", "--data", "arithmetic"],
        ["solve", "MODEL", "2 + 2?"],
        ["critique", "MODEL", "--query", "2 + 2?", "--response", "4"],
        ["demo", "--model", "MODEL"],
    ],
)
@pytest.mark.parametrize("at_endpoint", [False, True])
def test_a_revision_of_what_has_none_is_refused(world, tmp_path, monkeypatch, capsys, arguments, at_endpoint):
    monkeypatch.chdir(tmp_path)
    command, *rest = [str(world / "model") if word == "MODEL" else word for word in arguments]
    url = ["--endpoint" if command == "demo" else "--base-url", "http://127.0.0.1:9/v1"] if at_endpoint else []
    kind = ["--backend", "endpoint"] if at_endpoint and command.startswith("eval") else []
    assert main([command, *rest, "--revision", "v1", *url, *kind]) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert "belongs to a Hub id" in told[-1]
    assert not (tmp_path / "runs").exists()
