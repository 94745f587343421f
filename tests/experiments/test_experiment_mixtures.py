"""What the arms of an experiment are trained on: targets, shares, noise, budgets, the order."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from cft_trl.data.prompts import Prompting
from cft_trl.data.verdict import parse_verdict
from cft_trl.errors import CFTError
from cft_trl.experiments.mixtures import Budget, arm_parts, take
from cft_trl.experiments.settings import Arm, Experiment, Size, World
from cft_trl.experiments.world import base_rows, pool, trial_rows
from cft_trl.sources.arithmetic import split_of
from cft_trl.sources.reference_brief import WORDINGS

WORLD = World(levels=(1,), more_steps=(2,), unseen=("bus_stop", "reading_days"))


@pytest.fixture(scope="module")
def rows():
    return list(pool(WORLD, 0, 80))


def of(arm: Arm, rows: list[dict]) -> list[dict]:
    [[part]] = arm_parts(arm, rows)
    return list(part.rows)


# ---- the world -------------------------------------------------------------------------------------------------------


def test_a_question_has_two_right_and_two_wrong_responses_and_another_seed_has_other_questions(rows):
    of_question = Counter((row["meta"]["question"], row["verdict"]) for row in rows)
    assert set(of_question.values()) == {2}
    assert len({row["response"] for row in rows if row["meta"]["question"] == 3}) == 4
    other = {row["query"] for row in pool(WORLD, 1, 80)}
    assert len(other & {row["query"] for row in rows}) < 8
    assert rows == list(pool(WORLD, 0, 80))


def test_the_sets_are_apart_and_what_they_are_called(rows):
    test, validation = list(trial_rows(WORLD, "test", 40)), list(trial_rows(WORLD, "validation", 40))
    trained = {row["query"] for row in [*rows, *base_rows(WORLD, Size(base_rows=200, base_levels=(1, 2)))]}
    assert not trained & {row["query"] for row in [*test, *validation]}
    assert {split_of(row["query"]) for row in test} == {"test"}
    assert Counter(row["meta"]["set"] for row in test) == {"in": 40, "unseen": 40, "steps": 40}
    assert {row["meta"]["set"] for row in validation} == {"in"}
    templates = {
        name: {row["meta"]["template"] for row in test if row["meta"]["set"] == name} for name in ("in", "unseen")
    }
    assert templates["unseen"] == set(WORLD.unseen)
    assert not templates["in"] & set(WORLD.unseen)
    assert not {row["meta"]["template"] for row in rows} & set(WORLD.unseen)
    assert {row["meta"]["level"] for row in test if row["meta"]["set"] == "steps"} == {2}
    assert 0.4 < sum(row["verdict"] == "wrong" for row in test) / len(test) <= 0.5


def test_the_base_drills_the_sums_of_its_own_problems():
    made = base_rows(World(), Size(base_rows=200, drill=0.5))
    drilled = [row for row in made if row["query"].startswith("Compute ")]
    assert len(drilled) == 100
    lines = {line for row in drilled for line in row["response"].split("\n")}
    assert len(lines) > 40
    for line in lines:
        left, op, right, _, value = line.split(" ")
        sums = {"+": int(left) + int(right), "-": int(left) - int(right), "×": int(left) * int(right)}
        assert int(value) <= 25
        assert int(value) * int(right) == int(left) if op == "÷" else int(value) == sums[op]


def test_the_base_compares_numbers_half_of_which_are_the_same():
    made = base_rows(World(), Size(base_rows=200, drill=0.0, compare=0.2))
    lines = [line for row in made if row["query"].startswith("Compare ") for line in row["response"].split("\n")]
    assert len(lines) == 6 * 40
    said = Counter()
    for line in lines:
        one, other, end = re.fullmatch(r"(\d+) and (\d+) are (the same|not the same)", line).groups()
        assert (one == other) == (end == "the same")
        said[end] += 1
    assert 0.4 < said["the same"] / len(lines) < 0.65
    assert sum("Compute" in row["query"] for row in made) == 0


def test_a_brief_world_has_only_errors_that_calculations_show_and_brief_critiques_throughout():
    brief = World(kinds=("slip", "operation", "misread"), brief=True)
    made = list(pool(brief, 0, 60))
    assert len(made) == 240
    for row in made:
        for text in (row["critique"], row["meta"]["invented"], row["meta"]["missed"]):
            assert re.match(r"Step 1: \d+ and \d+ (agree|differ)", text)
        assert parse_verdict(row["critique"]) == row["verdict"]
        assert parse_verdict(row["meta"]["invented"]) == "wrong"
        assert parse_verdict(row["meta"]["missed"]) == "right"
    of_tests = [*trial_rows(brief, "test", 40), *trial_rows(brief, "validation", 40)]
    kinds = Counter(row["meta"]["error_kind"] for row in of_tests)
    assert set(kinds) == {None, *brief.kinds}


def test_brief_critiques_of_one_response_say_the_same_in_other_words():
    [[part]] = arm_parts(Arm(critiques=WORDINGS), list(pool(World(kinds=("slip",), brief=True), 0, 4)))
    of_response = {}
    for row in part.rows:
        of_response.setdefault((row["response"], row["verdict"]), []).append(row["critique"])
    for (_, verdict), texts in of_response.items():
        assert len(texts) == WORDINGS
        assert len(set(texts)) == (WORDINGS if verdict == "wrong" else WORDINGS // 2)
        assert {parse_verdict(text) for text in texts} == {verdict}
        assert len({tuple(re.findall(r"\d+", text)) for text in texts}) == 1  # the same numbers, in the same order


def test_more_brief_critiques_than_there_are_wordings_and_unknown_kinds_are_refused():
    arms = {"base": Arm(train="nothing"), "many": Arm(critiques=WORDINGS + 1)}
    with pytest.raises(CFTError, match=rf"arms.many.critiques={WORDINGS + 1}: brief ones have {WORDINGS} wordings"):
        Experiment("x", "?", "base", arms, world=World(brief=True))
    with pytest.raises(CFTError, match=r"size\.drill=0\.95 and size\.compare=0\.1: shares .* at most 1"):
        Size(drill=0.95)
    with pytest.raises(
        CFTError, match=r"world\.kinds='slips': no such error \(did you mean 'slip'\?\); known: slip, op"
    ):
        World(kinds=("slips",))


# ---- which rows ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_the_share_of_wrong_responses_is_exact(rows, wrong):
    found = of(Arm(wrong=wrong), rows)
    assert len(found) == 80
    assert sum(row["verdict"] == "wrong" for row in found) == 80 * wrong


def test_what_sft_imitates(rows):
    noisy, verified = of(Arm(train="sft"), rows), of(Arm(train="sft", target="verified"), rows)
    assert Counter(row["verdict"] for row in noisy) == {"right": 40, "wrong": 40}
    assert verified == [row for row in noisy if row["verdict"] == "right"]
    for row in of(Arm(train="sft", target="reference"), rows):
        assert row["response"].startswith("Step 1: ")
    [[part]] = arm_parts(Arm(train="sft", target="distilled"), rows)
    assert (part.objective, part.target) == ("sft", "refinement")


def test_mixed_objectives_have_no_question_in_common(rows):
    [[critiques, answers]] = arm_parts(Arm(train="cft+sft"), rows)
    assert not {row["query"] for row in critiques.rows} & {row["query"] for row in answers.rows}
    [first], [second] = arm_parts(Arm(train="cft then sft"), rows)
    assert (first.objective, second.objective) == ("cft", "sft")
    assert arm_parts(Arm(train="nothing"), rows) == []


@pytest.mark.parametrize("kind", ["verdict", "missed error", "invented error"])
def test_the_share_of_critiques_that_are_wrong_is_exact_and_of_its_kind(rows, kind):
    clean, noisy = of(Arm(), rows), of(Arm(noise=0.4, noise_kind=kind), rows)
    changed = [(a, b) for a, b in zip(clean, noisy, strict=True) if a["critique"] != b["critique"]]
    assert len(changed) == 0.4 * 80
    for before, after in changed:
        assert parse_verdict(after["critique"]) != before["verdict"]
    if kind != "verdict":
        assert {a["verdict"] for a, _ in changed} == {"wrong" if kind.startswith("missed") else "right"}
    else:
        assert all(a["critique"].splitlines()[:-1] == b["critique"].splitlines()[:-1] for a, b in changed)


@pytest.mark.parametrize("noise", [0.1, 0.25, 0.5])
def test_noise_befalls_right_and_wrong_responses_alike(rows, noise):
    pairs = list(zip(of(Arm(), rows), of(Arm(noise=noise), rows), strict=True))
    spoilt = Counter(a["verdict"] for a, b in pairs if a["critique"] != b["critique"])
    assert spoilt == {"right": 40 * noise, "wrong": 40 * noise}


def test_generic_critiques_and_those_of_another_question_keep_the_verdict(rows):
    for kind in ("generic", "of another question"):
        found = of(Arm(critique=kind), rows)
        assert all(parse_verdict(row["critique"]) == row["verdict"] for row in found)
    for responses in (1, 4):
        own = {row["critique"]: row["query"] for row in of(Arm(responses=responses), rows)}
        strangers = of(Arm(critique="of another question", responses=responses), rows)
        assert all(own[row["critique"]] != row["query"] for row in strangers)
    assert {row["critique"] for row in of(Arm(critique="generic"), rows)} == {
        "The solution is correct.\nConclusion: right [END]",
        "The solution has a mistake.\nConclusion: wrong [END]",
    }


def test_several_responses_or_critiques_of_a_question(rows):
    four = of(Arm(responses=4), rows)
    assert set(Counter(row["query"] for row in four).values()) == {4}
    many = of(Arm(critiques=3), rows)
    assert set(Counter(row["response"] for row in many).values()) == {3}
    assert len({row["critique"] for row in many[:3]}) > 1
    with pytest.raises(CFTError, match="the pool has 2 wrong responses of a question"):
        of(Arm(responses=4, wrong=0.75), rows)


# ---- how many --------------------------------------------------------------------------------------------------------


def taken(arm, rows, tokenizer, view, amount, seed=0):
    [parts] = arm_parts(arm, rows)
    return take(parts, tokenizer, Budget(view, amount), seed=seed, batch=4, max_length=512, where="arm x")


def test_budgets_are_kept_and_mixtures_share_them(rows, tokenizer):
    for arm in (Arm(), Arm(train="sft"), Arm(train="cgd"), Arm(train="cft+sft")):
        found = taken(arm, rows, tokenizer, "tokens", 1500)
        labels = sum(label != -100 for row in found.columns["labels"] for label in row)
        assert labels == found.target_tokens
        assert abs(found.target_tokens - 1500) < 100
        assert taken(arm, rows, tokenizer, "rows", 21).rows == 21
    with pytest.raises(CFTError, match=r"arm x: the pool has 80 rows for cft, the budget is 81; raise questions"):
        taken(Arm(), rows, tokenizer, "rows", 81)


def test_rows_of_one_objective_become_the_tokens_that_the_trainer_makes(rows, tokenizer):
    from cft_trl.training.preparation import RowEncoder

    found = taken(Arm(), rows, tokenizer, "rows", 12)
    encoder = RowEncoder(tokenizer, Prompting("cft", preset="compact"), 512)
    plain = encoder(of(Arm(), rows)[:12])
    assert sorted(found.columns["input_ids"]) == sorted(plain["input_ids"])
    assert sorted(found.columns["labels"]) == sorted(plain["labels"])


def test_the_order_is_the_seeds_and_batches_are_of_one_length(rows, tokenizer):
    first, again = (taken(Arm(), rows, tokenizer, "rows", 34) for _ in range(2))
    other = taken(Arm(), rows, tokenizer, "rows", 34, seed=1)
    assert first.digest == again.digest != other.digest
    assert sorted(first.columns["input_ids"]) == sorted(other.columns["input_ids"])
    lengths = [len(ids) for ids in first.columns["input_ids"]]
    spread = [max(lengths[at : at + 4]) - min(lengths[at : at + 4]) for at in range(0, 32, 4)]
    assert sum(spread) / len(spread) < 0.4 * (max(lengths) - min(lengths))
