"""The race of checkpoints against asking each of them everything: rules alone, and with files in a run's folder."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cft_trl.cli import main
from cft_trl.evaluation import racing
from cft_trl.evaluation.racing import LeavingRule, Standing, beaten, deal, leader_of, leaving
from cft_trl.evaluation.significance import mcnemar
from cft_trl.evaluation.validation import load_validation
from cft_trl.generation.types import Generation
from cft_trl.training.choice import choose
from cft_trl.training.race import select
from cft_trl.training.selection import Selection

# ---- the rule --------------------------------------------------------------------------------------------------------


def drawn_at_random(lost: int, won: int, unseen: int, own: int, apart: int) -> float:
    """P(at most `won` of the first lost + won are its own), counted: `own` of `apart` are, in any order."""
    rng, seen, under = random.Random(0), lost + won, 0
    for _ in range(4000):
        under += sum(at < own for at in rng.sample(range(apart), seen)) <= won
    return under / 4000


@pytest.mark.parametrize(("lost", "won", "unseen"), [(5, 1, 3), (8, 2, 20), (3, 0, 4), (9, 6, 2)])
def test_no_set_of_unseen_problems_makes_leaving_more_probable_than_said(lost, won, unseen):
    p = beaten(lost, won, unseen)
    for apart in range(lost + won, lost + won + unseen + 1):
        for own in range((apart + 1) // 2, min(apart, won + unseen) + 1):
            assert drawn_at_random(lost, won, unseen, own, apart) <= p + 0.04


def test_without_an_end_it_is_the_sign_test_and_near_the_end_a_small_lead_decides():
    assert beaten(9, 1, 10**7) == pytest.approx(mcnemar(9, 1) / 2, rel=1e-3)
    assert beaten(5, 3, 10**7) > 0.3
    assert beaten(5, 3, 2) == pytest.approx(2 / 9)  # both of the two that are left
    assert beaten(5, 3, 1) == 0.0  # one problem is left and two are needed


def standings(hits: list[list[bool]], end: int) -> list[Standing]:
    return [
        Standing(at, "".join("01"[hit] for hit in row[:end]) + "-" * (len(row) - end)) for at, row in enumerate(hits)
    ]


def run(hits: list[list[bool]], rule: LeavingRule, keep: int = 1) -> tuple[int, dict[int, int]]:
    """-> the winner, and by checkpoint after how many problems it left."""
    problems, left = len(hits[0]), {}
    for end in rule.rounds(problems):
        running = [one for one in standings(hits, end) if one.step not in left]
        if end < problems:
            gone = leaving(running, range(end), rule.level(len(hits), problems), keep)
            left.update({step: told["after"] for step, told in gone.items()})
    return leader_of(running, range(problems)).step, left


TABLES = st.integers(0, 2**32).map(
    lambda seed: (lambda rng: [[rng.random() < rate for _ in range(120)] for rate in [rng.random() for _ in range(6)]])(
        random.Random(seed)
    )
)


@settings(max_examples=60, deadline=None)
@given(TABLES, st.sampled_from([0.01, 0.125, 0.6]), st.integers(1, 3))
def test_who_left_never_wins_and_the_best_of_those_that_stayed_does(hits, error, keep):
    winner, left = run(hits, LeavingRule(error), keep)
    assert winner not in left
    stayed = [at for at in range(len(hits)) if at not in left]
    assert len(stayed) >= keep
    assert winner == min(stayed, key=lambda at: (-sum(hits[at]), at))


@settings(max_examples=30, deadline=None)
@given(TABLES)
def test_at_error_0_nobody_leaves(hits):
    best = min(range(len(hits)), key=lambda at: (-sum(hits[at]), at))
    assert run(hits, LeavingRule(0)) == (best, {})
    for end in (25, 56, 119):  # and not for want of rounds
        assert leaving(standings(hits, end), range(end), 0.0) == {}


def test_the_level_of_a_race_holds_for_the_race():
    """Equal checkpoints: the one that would have most right leaves in as many races as the level says, at most."""
    rng, rule, gone = random.Random(1), LeavingRule(0.3, "race"), 0
    for _ in range(60):
        difficulty = [rng.random() for _ in range(80)]
        hits = [[rng.random() < rate for rate in difficulty] for _ in range(5)]
        best = min(range(5), key=lambda at: (-sum(hits[at]), at))
        gone += best in run(hits, rule)[1]
    assert gone / 60 <= 0.3
    each = rule.level(5, 80) * 4 * (len(rule.rounds(80)) - 1)
    assert each == pytest.approx(0.3)


def test_one_that_answered_everything_is_judged_by_everything():
    lucky, best = Standing(1, "1111" + "0" * 96), Standing(2, "0000" + "1" * 96)
    new = Standing(3, "0110" + "-" * 96)
    assert leader_of([lucky, best], range(4)) is best
    assert leader_of([lucky, best, new], range(4)) is new  # it has more of the four than the best
    assert leaving([lucky, best, new], range(4), 0.9) == {}


# ---- in a run's folder -----------------------------------------------------------------------------------------------

RATES = {2: 0.2, 4: 0.9, 6: 0.5, 8: 0.85, 10: 0.1}


@pytest.fixture
def raced(tmp_path):
    """A run with five checkpoints, a set of 90 problems, and what each checkpoint answers to them."""
    (tmp_path / "training.json").write_text('{"run": "mine"}')
    for step in RATES:
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "trainer_state.json").write_text(json.dumps({"global_step": step, "run": "mine"}))
        (folder / "run.json").write_text('{"run": "mine"}')
        (folder / "config.json").write_text(json.dumps({"step": step}))
        (folder / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    return tmp_path


class Answers:
    """Checkpoints that answer a problem in one way whenever it is asked; `asked` has (step, problem) in turn."""

    def __init__(self, validation, breaks: int | None = None) -> None:
        conversations = validation.conversations("paper")
        self.place = {json.dumps(c): at for at, c in enumerate(conversations)}
        self.rows, self.breaks, self.asked = validation.rows, breaks, []

    def right(self, step: int, at: int) -> bool:
        return random.Random(f"{step} {at}").random() < RATES[step]

    def __call__(self, step, checkpoint, conversations):
        if self.breaks is not None and len(self.asked) >= self.breaks:
            raise InterruptedError
        found = []
        for conversation in conversations:
            at = self.place[json.dumps(conversation)]
            self.asked.append((step, at))
            truth = self.rows[at]["verdict"]
            said = truth if self.right(step, at) else {"right": "wrong", "wrong": "right"}[truth]
            found.append(Generation(f"Conclusion: {said}", "stop", 5, 7 + step))
        return found


def critic_set(limit: int = 90):
    return load_validation("arithmetic-critic", limit)


def test_a_race_asks_less_and_what_stays_is_what_exhaustive_asking_finds(raced, tmp_path):
    validation = critic_set()
    everything = Answers(validation)
    whole = select(Selection(raced, validation, rule=LeavingRule(0)), everything)
    assert len(everything.asked) == 5 * 90
    assert "race" not in whole
    for path in raced.glob("_selected/*/step-*"):
        path.unlink()

    answers, rounds = Answers(validation), []
    result = select(Selection(raced, validation), answers, on_round=rounds.append)
    assert result["winner"] == whole["winner"]
    assert len(answers.asked) == len(set(answers.asked)) == result["race"]["answers"] < 0.7 * 450
    order = deal(90, validation.digest)
    for step in RATES:  # the same problems in the same order for all
        assert {at for s, at in answers.asked if s == step} == set(order[: sum(s == step for s, _ in answers.asked)])
    by_step = {point["step"]: point for point in whole["curve"]}
    for point in result["curve"]:
        if "left" not in point:
            assert point == by_step[point["step"]]
        assert point["of"] == sum(s == point["step"] for s, _ in answers.asked)
        assert point["hits"] == sum(answers.right(s, at) for s, at in answers.asked if s == point["step"])
        assert point["tokens"] == point["of"] * (7 + point["step"])
        [texts] = raced.glob(f"_selected/*/step-{point['step']}.jsonl")
        assert len(texts.read_text().splitlines()) == point["of"]
    assert {point["step"] for point in result["curve"] if "left" in point} >= {2, 10}
    assert "left the race as unlikely to win" in result["verdict"]
    assert [told["in"] for told in rounds] == sorted((told["in"] for told in rounds), reverse=True)
    assert result["race"]["answers"] + result["race"]["answers_saved"] == 450
    assert sum(len(told["left"]) for told in result["race"]["rounds"]) == sum("left" in p for p in result["curve"])

    again = Answers(validation)
    assert select(Selection(raced, validation), again) == result
    assert again.asked == []
    more = Answers(validation)  # and from the race to everything
    assert select(Selection(raced, validation, rule=LeavingRule(0)), more) == whole
    assert sorted(more.asked + answers.asked) == sorted(everything.asked)


@pytest.mark.parametrize(("keep", "stay"), [(1, [4]), (2, [2, 4])])
def test_where_no_more_are_left_than_stay_the_rest_is_one_round(raced, keep, stay):
    class OneIsRight(Answers):
        def __call__(self, step, checkpoint, conversations):
            calls.append((step, len(conversations)))
            return super().__call__(step, checkpoint, conversations)

        def right(self, step, at):
            return step == 4

    calls: list[tuple[int, int]] = []
    validation = critic_set()
    result = select(Selection(raced, validation, keep=keep), OneIsRight(validation))
    assert sorted(calls) == sorted([(step, 25) for step in RATES] + [(step, 65) for step in stay])
    first, last = result["race"]["rounds"]
    assert first == {"problems": 25, "checkpoints": 5, "left": [step for step in RATES if step not in stay]}
    assert last == {"problems": 90, "checkpoints": keep, "left": []}


@pytest.mark.parametrize("breaks", [0, 25, 120, 130, 190])
def test_a_race_that_was_killed_goes_on_where_it_was(raced, breaks):
    validation = critic_set()
    reference = Answers(validation)
    expected = select(Selection(raced, validation), reference)
    for path in raced.glob("_selected/*/step-*"):
        path.unlink()
    killed, rest = Answers(validation, breaks), Answers(validation)
    with pytest.raises(InterruptedError):
        select(Selection(raced, validation), killed)
    for path in raced.glob("_selected/*/step-4.jsonl"):  # texts were written, and then it was killed before the point
        known = json.loads(path.with_suffix(".json").read_text())["right"]
        at = known.index("-")
        path.write_text(path.read_text() + json.dumps({"row": at, "hit": True, "text": "", "finish_reason": ""}))
    assert select(Selection(raced, validation), rest) == expected
    assert sorted(killed.asked + rest.asked) == sorted(reference.asked)


def test_one_that_is_saved_later_runs_against_the_best_so_far(raced):
    validation, answers = critic_set(), Answers(critic_set())
    held = {step: raced / f"checkpoint-{step}" for step in (8, 10)}
    for folder in held.values():
        folder.rename(raced / f".{folder.name}")
    first = select(Selection(raced, validation), answers)
    assert first["winner"]["step"] == 4
    for folder in held.values():
        (raced / f".{folder.name}").rename(folder)
    later = Answers(validation)
    result = select(Selection(raced, validation), later)
    assert {step for step, _ in later.asked} == {8, 10}  # the best is asked nothing more
    assert sum(step == 10 for step, _ in later.asked) == 25
    assert {p["step"]: p["left"]["against"] for p in result["curve"] if p["step"] == 10} == {10: 4}


def test_a_model_kept_before_is_not_removed_before_its_race_is_run(raced):
    """What stays in _selected may be a checkpoint's only weights: it goes when it has been judged, not before."""
    validation = critic_set(30)
    select(Selection(raced, validation, keep=5, rule=LeavingRule(0)), Answers(validation))
    for step in RATES:
        for path in raced.glob(f"checkpoint-{step}/*"):
            path.unlink()
    other, answers = critic_set(40), Answers(critic_set(40), breaks=60)
    before = (raced / "selection.json").read_text()
    with pytest.raises(InterruptedError):
        select(Selection(raced, other, keep=1, rule=LeavingRule(0)), answers)
    assert {step for step, _ in answers.asked} == {2, 4}
    assert len(list(raced.glob("_selected/step-*"))) == 5
    assert (raced / "selection.json").read_text() == before  # nothing is chosen from half a race
    Selection(raced, other, keep=1, rule=LeavingRule(0)).finish()
    assert sorted(path.name for path in raced.glob("_selected/step-*")) == ["step-10", "step-4", "step-6", "step-8"]
    rest = Answers(other)
    assert select(Selection(raced, other, keep=1, rule=LeavingRule(0)), rest)["winner"]["step"] == 4
    assert [path.name for path in raced.glob("_selected/step-*")] == ["step-4"]


def test_who_left_is_back_when_its_leader_is_gone(raced):
    import shutil

    validation = critic_set()
    first = select(Selection(raced, validation), Answers(validation))
    against = {p["step"]: p["left"]["against"] for p in first["curve"] if "left" in p}
    assert against[10] == against[2] == 4
    for step in set(RATES) - {2, 10}:
        shutil.rmtree(raced / f"checkpoint-{step}")
        shutil.rmtree(raced / f"_selected/step-{step}", ignore_errors=True)
    later = Answers(validation)
    result = select(Selection(raced, validation), later)
    assert result["winner"]["step"] in (2, 10)
    assert "but its model is gone" in result["verdict"]
    assert select(Selection(raced, validation), Answers(validation)) == result


def test_other_graders_judge_anew_who_leaves(raced, monkeypatch):
    validation = critic_set()
    select(Selection(raced, validation), Answers(validation))
    monkeypatch.setattr("cft_trl.training.selection.grader_digest", lambda: "another")
    monkeypatch.setattr("cft_trl.evaluation.validation.verdict_by", lambda text, preset: None)
    result = select(Selection(raced, validation), Answers(validation))
    assert [(p["hits"], p["of"]) for p in result["curve"]] == [(0, 90)] * 5  # equal ones all stay


def test_a_verdict_says_who_left_and_that_it_is_not_shown_to_be_worse():
    point = {"step": 2, "hits": 80, "of": 100, "score": 0.8, "interval_95": [0.71, 0.87]}
    left = {"step": 4, "hits": 15, "of": 25, "score": 0.6, "interval_95": [0.41, 0.77], "left": {"after": 25}}
    low = {"step": 6, "hits": 5, "of": 25, "score": 0.2, "interval_95": [0.09, 0.39], "left": {"after": 25}}
    told = choose([point, left, low], {2, 4, 6})
    assert told["verdict"] == (
        "step 2: 80 of 100; 2 others left the race as unlikely to win, not shown to be worse: the intervals of 1 "
        "overlap its own"
    )
    assert told["overlapping"] == [4]
    assert choose([left], {4}) is None  # one that left does not win, even alone


def test_the_command_tells_rounds_and_what_was_spared(raced, monkeypatch, capsys):
    answers = Answers(critic_set())
    monkeypatch.setattr("cft_trl.commands.select._ask", lambda model, limit, asked, label: model(asked))
    from contextlib import contextmanager

    @contextmanager
    def models(options, selection):
        yield lambda step, checkpoint: lambda asked: answers(step, checkpoint, asked)

    monkeypatch.setattr("cft_trl.commands.select._models", models)
    words = ["select", str(raced), "--benchmark", "arithmetic-critic", "--limit", "90"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "after 25 of 90 problems: step 4 leads with" in shown
    assert "step 10   left after 25 problems, " in shown
    assert "left after 25" in shown.split("Checkpoints on")[1]
    assert " tokens written, some " in shown
    assert main([*words, "--exhaustive"]) == 0
    assert "race:" not in capsys.readouterr().out
    assert len(answers.asked) == 450
    monkeypatch.setattr("cft_trl.training.race.select", lambda *given, **named: {})
    assert main(words) == 2
    assert "no checkpoint has answered all problems" in capsys.readouterr().err
    assert main([*words, "--error", "2"]) == 2
    assert main([*words, "--server-per-checkpoint"]) == 2
    assert "--backend vllm" in capsys.readouterr().err


def test_the_benchmark_runs_the_rule_itself(capsys, monkeypatch):
    import sys
    from pathlib import Path

    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    monkeypatch.setattr(racing, "beaten", racing.beaten)
    import race as benchmark

    hits = benchmark.draw("slow", 8, 100, __import__("numpy").random.default_rng(0))[1]
    chosen, asked = benchmark.race(hits, LeavingRule())
    winner, left = run(hits.tolist(), LeavingRule())
    assert (chosen, asked) == (winner, sum(left.get(at, 100) for at in range(8)))
    sys.modules.pop("race")
