"""`cft eval` and `cft eval-critic` of a model behind an endpoint: another one is refused, a new round is told of."""

from __future__ import annotations

import pytest
from eval_folders import COMMANDS, ROOT, Served, done, run, served, texts, world
from eval_runs import write_benchmarks

from cft_trl.cli import main
from cft_trl.errors import CFTError
from cft_trl.evaluation.backends import Backend
from cft_trl.evaluation.generations import read_generations
from cft_trl.evaluation.run import evaluate_all, run_evaluation
from cft_trl.evaluation.settings import EvalSettings

__all__ = ["done", "world"]  # fixtures: used by their names


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
