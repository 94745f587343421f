"""`cft quickstart`: rows that are balanced and give nothing away, stages that are resumed, a table of the figures."""

from __future__ import annotations

import importlib
import json
import re
from collections import Counter

import pytest
from conftest import REPOSITORY

from cft_trl.commands import quickstart_rows
from cft_trl.commands import quickstart_run as quickstart
from cft_trl.commands import quickstart_shown as shown
from cft_trl.commands.quickstart_rows import make_rows
from cft_trl.data.verdict import parse_verdict
from cft_trl.errors import CFTError
from cft_trl.evaluation.first_error import first_error_step
from cft_trl.grading.grade import grade_many
from cft_trl.sources.arithmetic import arithmetic_records, split_of

DEFAULT = quickstart.QuickstartSettings()


@pytest.fixture(scope="module")
def rows() -> dict[str, list[dict]]:
    return make_rows(rows=DEFAULT.rows, solutions=DEFAULT.solutions, heldout=DEFAULT.eval_rows, seed=DEFAULT.seed)


@pytest.fixture
def seeds_script(monkeypatch):
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    return importlib.import_module("quickstart_seeds")


# ---- the rows --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["train", "heldout"])
def test_half_of_the_solutions_are_wrong(rows, name):
    found = Counter(row["verdict"] for row in rows[name])
    assert found["right"] == found["wrong"] == len(rows[name]) / 2
    assert all(parse_verdict(row["critique"]) == row["verdict"] for row in rows[name])
    kinds = Counter(row["meta"]["error_kind"] for row in rows[name])
    assert min(kinds[kind] for kind in ("slip", "operation", "misread")) >= len(rows[name]) / 12


def test_no_problem_is_in_two_files(rows):
    queries = {name: {row["query"] for row in found} for name, found in rows.items()}
    assert len(queries["train"]) == DEFAULT.rows / 2
    assert len(queries["solve"]) == len(rows["solve"]) == DEFAULT.solutions
    assert len(queries["heldout"]) == len(rows["heldout"]) == DEFAULT.eval_rows >= 100
    assert not queries["heldout"] & (queries["train"] | queries["solve"])
    assert not queries["train"] & queries["solve"]
    assert {split_of(query) for query in queries["heldout"]} == {"test"}
    assert split_of(shown.EXAMPLE["query"]) == "test"


def test_a_critique_puts_each_thing_beside_its_like_before_it_judges(rows):
    """Left, sign and right as needed and as there, then the result; up to the first that differs."""
    for row in rows["train"] + rows["heldout"]:
        [step], (said, conclusion) = row["meta"]["steps"], row["critique"].split("\n")
        had = re.search(r"(\d+) ([-+×÷]) (\d+) = (\d+)", row["response"]).groups()
        needed = (step["left"], step["op"], step["right"])
        if step["op"] in "+×" and sum(a == b for a, b in zip(needed, had, strict=False)) < 2 and had[0] == needed[2]:
            needed = needed[::-1]
        pairs = [*zip(needed, had, strict=False), (step["value"], had[3])]
        parts = []
        for mine, theirs in pairs:
            parts.append(f"{mine} and {theirs} {'agree' if mine == theirs else 'differ'}")
            if mine != theirs:
                break
        right = all(mine == theirs for mine, theirs in pairs)
        text = ", ".join(parts[:3])
        if len(parts) == 4:
            text += f". {step['left']} {step['op']} {step['right']} = {step['value']}, {parts[3]}"
        assert said == f"Step 1: {text}." + ("" if right else " Step 1 is wrong.")
        assert conclusion == f"Conclusion: {row['verdict']} [END]"
        assert right == (row["verdict"] == "right")
        assert first_error_step(row["critique"]) == (None if right else 1)


def test_the_solutions_to_imitate_are_right(rows):
    assert all(row["verdict"] == "right" for row in rows["solve"])
    assert all(grade_many((row["refinement"], row["reference_answer"]) for row in rows["solve"]))


def test_no_surface_tells_right_from_wrong(seeds_script):
    """On more held-out rows than the quickstart has: with 120, chance alone reaches 60% now and then."""
    made = make_rows(rows=2000, solutions=1, heldout=1000, seed=0)
    assert seeds_script.surface_accuracy(made["train"], made["heldout"]) <= 0.6
    longest = sorted(len(row["response"]) for row in made["train"])
    best = 0.0
    for limit in set(longest):
        longer = sum((len(row["response"]) > limit) == (row["verdict"] == "wrong") for row in made["heldout"])
        best = max(best, longer / 1000, 1 - longer / 1000)
    assert best <= 0.6
    # The measure itself sees a marker where there is one.
    marked = [{**row, "response": row["response"] + "!" * (row["verdict"] == "wrong")} for row in made["train"]]
    assert seeds_script.surface_accuracy(marked[:1500], marked[1500:]) > 0.75


def test_pairs_are_a_right_and_a_wrong_solution_of_one_problem():
    found = list(arithmetic_records(40, seed=3, levels=(0, 1), pairs=True))
    for first, second in zip(found[::2], found[1::2], strict=True):
        assert first["query"] == second["query"]
        assert {first["verdict"], second["verdict"]} == {"right", "wrong"}
        assert (
            first["refinement"]
            == second["refinement"]
            == next(row["response"] for row in (first, second) if row["verdict"] == "right")
        )
    assert len({row["query"] for row in found}) == 20
    assert {row["verdict"] for row in found[::2]} == {"right", "wrong"}, "the first is not always the right one"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 3, "pairs": True}, "pairs of 3 rows"),
        ({"count": 4, "pairs": True, "right_ratio": 0.25}, "right_ratio 0.25"),
        ({"count": 4, "brief": True, "with_critiques": False}, "brief is a form of critiques"),
    ],
)
def test_pairs_and_brief_critiques_that_cannot_be(arguments, message):
    with pytest.raises(CFTError, match=re.escape(message)):
        arithmetic_records(**arguments)


def test_brief_critiques_of_longer_problems_stop_at_the_first_difference():
    seen = Counter()
    for row in arithmetic_records(300, seed=1, levels=(1,), brief=True):
        lines = row["critique"].splitlines()
        assert parse_verdict(row["critique"]) == row["verdict"]
        if " agree" not in row["critique"] and " differ" not in row["critique"]:
            continue  # a longer critique, as the source writes them otherwise
        if row["meta"]["error_kind"] in ("lucky", "unit"):
            continue
        seen[row["meta"]["error_kind"]] += 1
        if row["meta"]["error_kind"] in ("slip", "operation"):
            assert len(lines) == row["meta"]["first_error_step"] + 1
        if row["verdict"] == "right":
            assert len(lines) == 3
    assert seen["slip"] > 10
    assert seen[None] > 100


# ---- the run ---------------------------------------------------------------------------------------------------------


def test_end_to_end_and_again(tokenizers, tiny_model, tmp_path, capsys, monkeypatch):
    from transformers import AutoModelForCausalLM

    tiny_model(tokenizers("chatml")).save_pretrained(tmp_path / "model")
    tokenizers("chatml").save_pretrained(tmp_path / "model")
    settings = quickstart.QuickstartSettings(
        str(tmp_path / "model"), rows=30, solutions=10, eval_rows=12, generated_rows=6
    )
    output = tmp_path / "run"

    # Interrupted after training: what is done is not done again.
    with monkeypatch.context() as patch:
        patch.setattr(quickstart, "_finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            quickstart.run_quickstart(output, settings)
    trained = (output / "model.safetensors").stat().st_mtime_ns
    metrics = quickstart.run_quickstart(output, settings)
    assert (output / "model.safetensors").stat().st_mtime_ns == trained

    AutoModelForCausalLM.from_pretrained(output)
    assert json.loads((output / "metrics.json").read_text()) == metrics
    assert metrics["before"]["teacher_forced"]["rows"] == metrics["after"]["teacher_forced"]["rows"] == 12
    assert metrics["after"]["critique_loss"] < metrics["before"]["critique_loss"]
    assert metrics["after"]["generated"]["rows"] == metrics["after"]["solved"]["rows"] == 6
    assert metrics["training_rows"]["train"]["right"] == metrics["training_rows"]["train"]["wrong"] == 15
    assert metrics["training_rows"]["train/solutions"]["rows"] == 10
    assert (output / "training.png").read_bytes().startswith(b"\x89PNG")
    assert not list(output.glob("checkpoint-*"))
    card = (output / "README.md").read_text()
    assert re.search(r"\| critique loss, nats per token \| \d\.\d+ \| \d\.\d+ \|", card)
    assert "| problems solved, strictly graded |" in card
    assert card.count(shown.EXAMPLE["query"]) == 4
    assert all(f"- {limit}" in card for limit in shown.LIMITS)
    out = capsys.readouterr().out
    assert "verdict of free critiques" in out
    assert "solved, strictly graded" in out
    assert "Three things to try next" in out

    # Finished: shown again at once; other settings are refused, not mixed.
    assert quickstart.run_quickstart(output, settings) == metrics
    with pytest.raises(CFTError, match="other settings"):
        quickstart.run_quickstart(output, quickstart.QuickstartSettings(str(tmp_path / "model"), rows=31))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quickstart, "package_digest", lambda: "another")
        with pytest.raises(CFTError, match="made with another version of our own code"):
            quickstart.run_quickstart(output, settings)
    told = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps({**told, "rms_norm_eps": 0.5}))
    with pytest.raises(CFTError, match=r"made with another config\.json of its base"):
        quickstart.run_quickstart(output, settings)


def test_separators_within_a_text_do_not_cut_its_row(tmp_path, monkeypatch):
    row = {"critique": "It is 2.\u2028Not 3.\u2029See\u0085above."}
    names = ("train", "solve", "heldout")
    monkeypatch.setattr(quickstart_rows, "make_rows", lambda **sizes: {name: [row, row] for name in names})
    for _ in range(2):  # made, and read again
        assert quickstart_rows.build_rows(tmp_path, rows=2, solutions=2, heldout=2, seed=0) == {
            name: [row, row] for name in names
        }


def test_a_folder_of_something_else_is_not_touched(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    for force in (False, True):
        with pytest.raises(CFTError, match="not a quickstart's"):
            quickstart.run_quickstart(tmp_path, quickstart.QuickstartSettings(), force=force)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_the_table_says_both_times_what_was_measured():
    def measured(loss: float, hits: int, solved: int) -> dict:
        share = {"rows": 100, "hits": hits, "accuracy": hits / 100, "interval_95": [0.25, 0.75]}
        generated = {**share, "majority_rate": 0.5, "no_verdict": 3, "accuracy_right": 0.9, "accuracy_wrong": 0.8}
        solving = {"rows": 100, "hits": solved, "accuracy": solved / 100, "interval_95": [0.1, 0.3]}
        return {"critique_loss": loss, "teacher_forced": share, "generated": generated, "solved": solving}

    table = {name.strip(): cells for name, *cells in shown.summary_rows(measured(2, 0, 11), measured(0.1, 85, 42))}
    assert table["critique loss, nats/token"] == ["2.000", "0.100"]
    assert table["verdict of free critiques"] == ["0.0% (0/100; 25% to 75%)", "85.0% (85/100; 25% to 75%)"]
    assert table["of right solutions"] == ["90.0%", "90.0%"]
    assert table["of wrong solutions"] == ["80.0%", "80.0%"]
    assert table["majority rate"] == ["50.0%", "50.0%"]
    assert table["without a verdict"] == ["3", "3"]
    assert table["solved, strictly graded"] == ["11.0% (11/100; 10% to 30%)", "42.0% (42/100; 10% to 30%)"]


def test_solving_is_graded_strictly(monkeypatch):
    from cft_trl.generation import modes

    monkeypatch.setattr(
        modes, "solve", lambda model, tokenizer, queries, **_: ["The answer is 12.", "The answer is 13."]
    )
    rows = [{"id": name, "query": "7 and 5?", "reference_answer": "12"} for name in "ab"]
    assert [one["right"] for one in shown.solve_strictly(None, None, rows)] == [True, False]


@pytest.mark.slow
def test_the_table_of_seeds_has_each_seed(seeds_script, tokenizers, tiny_model, tmp_path, capsys, monkeypatch):
    tiny_model(tokenizers("chatml")).save_pretrained(tmp_path / "model")
    tokenizers("chatml").save_pretrained(tmp_path / "model")
    words = (
        f"--seeds 4 5 --model {tmp_path / 'model'} --output {tmp_path / 'runs'} --rows 8 --solutions 2 --eval-rows 4"
    )
    monkeypatch.setattr("sys.argv", ["quickstart_seeds.py", *words.split(), "--no-save"])
    seeds_script.main()
    told = capsys.readouterr().out.partition("2 seeds")[2]
    lines = [line.split(" | ") for line in told.splitlines() if line.startswith(("| 4 |", "| 5 |"))]
    assert len(lines) == 2
    for line in lines:
        assert len(line) == 10
        assert all(re.search(r"/4; ", line[place]) for place in (1, 2, 6, 7))
