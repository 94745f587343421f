"""The embedded arithmetic source: every number recomputed, every error where its row says, every split disjoint."""

import json
import random
import re
from collections import Counter
from fractions import Fraction
from itertools import islice, pairwise
from math import prod

import pytest

from cft_trl.sources.arithmetic import KINDS, TEMPLATES, arithmetic_records, corrupt, problems, right_solution, write
from cft_trl.sources.arithmetic.english import plural, quantity
from cft_trl.sources.arithmetic.numbers import exact

LEVELS = (0, 1, 2, 3)
STEPS = {0: (1, 1), 1: (2, 2), 2: (3, 4), 3: (4, 6)}
EQUATION = re.compile(r"([\d.]*\d) ([-+×÷]) ([\d.]*\d) = ([\d.]*\d)")
OPENING = re.compile(r"^(Step \d+: |- |First, |Then, |Next, |After that, |Finally, )")
TEXTS = ("query", "response", "critique", "refinement")


def worked(left: str, op: str, right: str) -> Fraction:
    """The test's own arithmetic, apart from the package's."""
    a, b = Fraction(left), Fraction(right)
    return {"+": lambda: a + b, "-": lambda: a - b, "×": lambda: a * b, "÷": lambda: a / b}[op]()


def is_true(equation: tuple[str, ...]) -> bool:
    left, op, right, shown = equation
    return worked(left, op, right) == Fraction(shown)


def lines_of(text: str) -> list[str]:
    """A solution's lines without what only numbers them."""
    return [OPENING.sub("", line) for line in text.splitlines()]


def answer_in(text: str) -> Fraction:
    return Fraction(re.findall(r"[\d.]*\d", text.splitlines()[-1])[0])


@pytest.fixture(scope="module")
def rows() -> list[dict]:
    return [row for level in LEVELS for row in arithmetic_records(800, seed=7, levels=(level,))]


@pytest.fixture(scope="module")
def wrong_rows(rows) -> list[dict]:
    return [row for row in rows if row["verdict"] == "wrong"]


def test_there_are_enough_templates_and_variants():
    for level, templates in TEMPLATES.items():
        assert len(templates) >= 15
        for template in templates:
            assert template.level == level
            assert STEPS[level][0] <= len(template.steps) <= STEPS[level][1], template.name
            assert len(template.texts) >= 2, template.name
    names = [template.name for templates in TEMPLATES.values() for template in templates]
    assert len(names) == len(set(names)) >= 45
    assert len({template.topic for templates in TEMPLATES.values() for template in templates}) >= 12


@pytest.mark.parametrize("template", [t for level in TEMPLATES.values() for t in level], ids=lambda t: t.name)
def test_every_text_of_a_template_gives_every_quantity(template):
    """Each given quantity of the steps stands in the text, as a number, a price, a percentage or a fraction."""
    rng = random.Random(template.name)
    told = set()
    for _ in range(60):
        problem = template.draw(rng)
        assert problem is not None
        in_text = {Fraction(number) for number in re.findall(r"\d+(?:\.\d+)?", problem.query)}
        for step in problem.steps:
            for operand in (step.left, step.right):
                if operand.origin == 0:
                    shown = operand.value * 100 if operand.name.endswith("%") else operand.value
                    assert shown in in_text, f"{operand.name} = {shown} is not in: {problem.query}"
                    told.add(operand.name)
    names = re.findall(r"(\w+)=", template.numbers)
    used = {name for text in template.texts for name in re.findall(r"\{(\w+)", text)} & set(names)
    assert used == {name.rstrip("%") for name in told}, "a number in the text that no step uses, or the reverse"


# What each problem asks for, worked out from its text alone and in one go: the truth that the steps must come to.
ANSWERS = {
    **dict.fromkeys(
        ("finds_more", "two_baskets", "passengers_board", "pages_read", "two_prices"), lambda **two: sum(two.values())
    ),
    **dict.fromkeys(("boxes_of", "tickets", "rows_of_seats", "practice", "teams"), lambda **two: prod(two.values())),
    **dict.fromkeys(("gives_away", "passengers_leave"), lambda start, **other: start - sum(other.values())),
    "change_due": lambda price, paid: paid - price,
    "pages_to_go": lambda read, all: all - read,
    "rope_cut": lambda cut, rope: rope - cut,
    "shared_equally": lambda friends, total: total / friends,
    "bags_filled": lambda size, all: all / size,
    "rope_pieces": lambda pieces, rope: rope / pieces,
    "pencil_boxes": lambda boxes, each, given: boxes * each - given,
    "change_from_a_bill": lambda count, price, paid: paid - count * price,
    "tickets_and_snack": lambda count, price, snack: count * price + snack,
    "shared_harvest": lambda kids, first, second: (first + second) / kids,
    "bus_stop": lambda start, off, on: start - off + on,
    "reading_days": lambda days, pages, extra: days * pages + extra,
    "perimeter": lambda long, wide: long + wide + long + wide,
    "recipe_batches": lambda batches, cups, have: batches * cups - have,
    "age_multiple": lambda age, times, later: age * times + later,
    "game_points": lambda goals, worth, bonus: goals * worth + bonus,
    "egg_cartons": lambda size, laid, kept: (laid - kept) / size,
    "practice_time": lambda days, daily, extra: days * daily + extra,
    "road_left": lambda days, daily, route: route - days * daily,
    "saving_up": lambda weeks, saved, start: start + weeks * saved,
    "cookies_shared": lambda friends, eaten, total: total / friends - eaten,
    "half_price": lambda price, post: price / 2 + post,
    "free_seats": lambda rows, seats, taken: rows * seats - taken,
    "cut_rope": lambda pieces, waste, rope: (rope - waste) / pieces,
    "wages": lambda first, second, wage: (first + second) * wage,
    "mixed_juice": lambda a, b, spill: a + b - spill,
    "bakery_day": lambda trays, each, burnt, price: (trays * each - burnt) * price,
    "class_trip": lambda classes, pupils, teachers, price: (classes * pupils + teachers) * price,
    "two_leg_drive": lambda h1, v1, h2, v2, route: route - h1 * v1 - h2 * v2,
    "fence_cost": lambda long, wide, gate, price: (2 * long + 2 * wide - gate) * price,
    "orchard_crates": lambda rows, trees, crate, **more: rows * trees * more["yield"] / crate,
    "saving_for_sets": lambda weeks, weekly, gift, price: (weeks * weekly + gift) / price,
    "working_together": lambda a, b, hours, order: order - a * hours - b * hours,
    "training_hours": lambda days, daily, extra: (days * daily + extra) / 60,
    "theater_profit": lambda rows, seats, empty, price, rent: (rows * seats - empty) * price - rent,
    "family_ages": lambda age, times, younger, years: age * times - younger + years,
    "library_boxes": lambda shelves, books, new, box: (shelves * books + new) / box,
    "animal_feed": lambda animals, daily, days, stock: animals * daily * days - stock,
    "office_order": lambda n1, p1, n2, p2, paid: paid - n1 * p1 - n2 * p2,
    "leaking_tank": lambda inflow, leak, minutes, start: start + inflow * minutes - leak * minutes,
    "floor_tiles": lambda long, wide, tiles, box: long * wide * tiles / box,
    "league_points": lambda wins, per_win, draws, per_draw, rival: wins * per_win + draws * per_draw - rival,
    "reading_weeks": lambda weeks, pages, read: weeks * 7 * pages - read,
    "discounted_order": lambda count, price, off, post: count * price * (100 - off) / 100 + post,
    "simple_interest": lambda sum, rate, years, taken: sum * (100 + rate * years) / 100 - taken,
    "shared_fuel": lambda way, per, price, toll, people: (way / per * price + toll) / people,
    "two_rides": lambda m1, m2, speed, route: route - speed * m1 / 60 - speed * m2 / 60,
    "wall_paint": lambda long, wide, high, holes, cover, price: (
        (2 * long * high + 2 * wide * high - holes) * price / cover
    ),
    "bus_riders": lambda pupils, girls, ride1, ride2: pupils * (girls * ride1 + (100 - girls) * ride2) / 10_000,
    "salt_mixture": lambda a, p, b, q: (a * p + b * q) / (a + b),
    "scaled_recipe": lambda serves, grams, guests, price: grams * guests * price / serves / 1000,
    "overtime_pay": lambda hours, wage, rate, extra, tax: (hours + rate * extra) * wage * (100 - tax) / 100,
    "field_harvest": lambda long, wide, lost, price, **more: long * wide * more["yield"] * price * (100 - lost) / 100,
    "fish_tank": lambda long, wide, high, full, rate: long * wide * high / 1000 * full / 100 / rate,
    "target_average": lambda a, b, c, target: 4 * target - a - b - c,
    "phone_bill": lambda free, used, cents, base, off: (base + (used - free) * cents / 100) * off / 100,
    "two_pumps": lambda size, full, a, b: size * (100 - full) / 100 / (a + b),
    "running_laps": lambda laps, lap, pace, pause: (laps * lap / 1000 * pace + pause) / 60,
    "market_profit": lambda count, cost, markup, stall: count * cost * markup / 100 - stall,
    "coffee_blend": lambda a, p, b, q: (a * p + b * q) / (a + b),
    "monthly_budget": lambda pay, rent, food, off: (
        pay * (1 - Fraction(1) / rent) * (1 - Fraction(1) / food) * off / 100
    ),
}


@pytest.mark.parametrize("template", [t for level in TEMPLATES.values() for t in level], ids=lambda t: t.name)
def test_the_steps_answer_the_question(template):
    rng = random.Random(template.name)
    for _ in range(20):
        problem = template.draw(rng)
        given = {}
        for operand in (operand for step in problem.steps for operand in (step.left, step.right)):
            if operand.origin == 0:
                percent = operand.name.endswith("%")
                given[operand.name.rstrip("%")] = Fraction(operand.value) * (100 if percent else 1)
        assert ANSWERS[template.name](**given) == problem.answer, problem.query


def test_reference_steps_are_exact_and_lead_to_the_answer(rows):
    for row in rows:
        steps, level = row["meta"]["steps"], row["meta"]["level"]
        assert STEPS[level][0] <= len(steps) <= STEPS[level][1]
        for number, step in enumerate(steps, 1):
            assert worked(step["left"], step["op"], step["right"]) == Fraction(step["value"])
            for side in ("left", "right"):
                if step[f"{side}_from"].startswith("step "):
                    source = int(step[f"{side}_from"].split()[1])
                    assert source < number
                    assert step[side] == steps[source - 1]["value"]
                else:
                    assert step[f"{side}_from"] in ("problem", "constant")
        assert steps[-1]["value"] == row["reference_answer"]
        used = {step[f"{side}_from"] for step in steps for side in ("left", "right")}
        assert {f"step {number}" for number in range(1, len(steps))} <= used, "a step that nothing needs"


def test_numbers_stay_within_their_level(rows):
    for row in rows:
        numbers = [step[key] for step in row["meta"]["steps"] for key in ("left", "right", "value")]
        if row["meta"]["level"] < 3:
            assert all("." not in number for number in numbers)
        if row["meta"]["level"] == 1:
            assert all(0 < int(number) <= 100 for number in numbers)
        assert all(len(number.partition(".")[2]) <= 4 for number in numbers)
        for step in row["meta"]["steps"]:
            if step["unit"] in ("pupil", "boy", "girl", "box", "crate", "point", "thing"):
                assert "." not in step["value"], "only measures come in parts"


def test_rows_have_the_houses_columns(rows):
    columns = "id query response critique verdict refinement reference_answer response_source teacher source meta"
    for row in rows:
        assert list(row) == columns.split()
        assert json.loads(json.dumps(row)) == row
        assert row["source"] == "arithmetic"
        assert row["teacher"] == "reference"
        assert row["response_source"] == f"arithmetic:{row['meta']['error_kind'] or 'right'}"
        assert set(row["meta"]) == {"level", "template", "topic", "error_kind", "first_error_step", "steps"}
    assert next(arithmetic_records(1, seed=3, split="test"))["id"] == "arithmetic-test-s3-000000"


def test_refinements_and_right_responses_are_right(rows):
    for row in rows:
        equations = EQUATION.findall(row["refinement"])
        assert equations == [(s["left"], s["op"], s["right"], s["value"]) for s in row["meta"]["steps"]]
        assert all(map(is_true, equations))
        assert answer_in(row["refinement"]) == Fraction(row["reference_answer"])
        unit = quantity(exact(row["reference_answer"]), row["meta"]["steps"][-1]["unit"]).split(" ", 1)[1]
        assert unit in row["refinement"].splitlines()[-1]
        if row["verdict"] == "right":
            assert row["response"] == row["refinement"]
            assert row["meta"]["error_kind"] is row["meta"]["first_error_step"] is None


def test_every_line_holds_one_equation(rows):
    for row in rows:
        for text in (row["response"], row["refinement"]):
            *lines, last = text.splitlines()
            assert all(len(EQUATION.findall(line)) == 1 for line in lines)
            assert "=" not in last


def test_wrong_responses_are_wrong_where_they_say(wrong_rows):
    """The first line that is none of the right solution's is the first error; the answer is as its kind has it."""
    for row in wrong_rows:
        right, response = set(lines_of(row["refinement"])), lines_of(row["response"])
        first = next(number for number, line in enumerate(response, 1) if line not in right)
        assert first == row["meta"]["first_error_step"], row
        kind = row["meta"]["error_kind"]
        same_answer = answer_in(row["response"]) == Fraction(row["reference_answer"])
        unit_name = kind == "unit" and len(response) == len(lines_of(row["refinement"]))
        assert same_answer == (kind == "lucky" or unit_name), row


def test_each_kind_is_what_it_is_called(wrong_rows):
    sorts = Counter()
    for row in wrong_rows:
        kind, place = row["meta"]["error_kind"], row["meta"]["first_error_step"]
        reference = [(s["left"], s["op"], s["right"], s["value"]) for s in row["meta"]["steps"]]
        equations = EQUATION.findall(row["response"])
        false = [number for number, equation in enumerate(equations, 1) if not is_true(equation)]
        if kind == "slip":
            assert false == [place]
            assert equations[place - 1][:3] == reference[place - 1][:3]
        elif kind == "operation":
            assert not false
            left, op, right, _ = equations[place - 1]
            assert (left, right) == (reference[place - 1][0], reference[place - 1][2])
            assert op != reference[place - 1][1]
        elif kind == "dropped_step":
            assert not false
            assert len(equations) == len(reference) - 1
            sorts["dropped, used later"] += equations[: place - 1] != reference[: place - 1]
        elif kind == "misread":
            assert not false
            assert [equation[1] for equation in equations] == [step[1] for step in reference]
            assert {equations[place - 1][0], equations[place - 1][2]} != {
                reference[place - 1][0],
                reference[place - 1][2],
            }
        elif kind == "unit" and len(equations) == len(reference):
            assert equations == reference
        elif kind == "unit":
            assert len(equations) == len(reference) - 1
        else:
            assert kind == "lucky"
            numbers = {number for step in reference for number in (step[0], step[2], step[3])}
            strange = {equations[place - 1][0], equations[place - 1][2]} - numbers
            assert false or strange, "nothing is wrong with it"
            sorts["lucky, undone" if false else "lucky, cancelling"] += 1
    assert min(sorts["dropped, used later"], sorts["lucky, undone"], sorts["lucky, cancelling"]) > 10, sorts


def test_luck_never_is_another_right_way():
    """Level 1 with many small numbers, where two wrongs make a right most easily."""
    for row in arithmetic_records(2500, seed=9, levels=(1,), kinds=("lucky",), right_ratio=0, with_critiques=False):
        equations, steps = EQUATION.findall(row["response"]), row["meta"]["steps"]
        known = {step[side] for step in steps for side in ("left", "right")} | {step["value"] for step in steps}
        strange = {number for left, _, right, _ in equations for number in (left, right)} - known
        assert strange or not all(map(is_true, equations)), row


def test_errors_come_early_and_late(wrong_rows):
    places = {kind: Counter() for kind in KINDS}
    for row in wrong_rows:
        if row["meta"]["level"] == 3:
            places[row["meta"]["error_kind"]][row["meta"]["first_error_step"]] += 1
    assert all(len(found) >= 3 and max(found.values()) < 0.8 * sum(found.values()) for found in places.values()), places


def test_errors_are_carried_forward(wrong_rows):
    """A corrupted result is what the later steps use: every number of a line is given, constant, or found before."""
    carried = 0
    for row in wrong_rows:
        if row["meta"]["error_kind"] not in ("slip", "operation"):
            continue
        steps, equations = row["meta"]["steps"], EQUATION.findall(row["response"])
        carried += row["meta"]["first_error_step"] < len(steps)
        for step, equation in zip(steps, equations, strict=True):
            for side, shown in (("left", equation[0]), ("right", equation[2])):
                origin = step[f"{side}_from"]
                expected = equations[int(origin[5:]) - 1][3] if origin.startswith("step ") else step[side]
                assert shown == expected
    assert carried > 100


def test_every_kind_occurs_at_every_level(rows):
    for level in LEVELS:
        found = Counter(row["meta"]["error_kind"] for row in rows if row["meta"]["level"] == level)
        assert found[None] == 400
        assert all(found[kind] >= 15 for kind in KINDS if level or kind != "dropped_step"), found
        assert level or not found["dropped_step"]  # nothing would be left of a single step


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_can_be_chosen(kind):
    found = list(arithmetic_records(40, right_ratio=0.25, kinds=(kind,)))
    assert Counter(row["response_source"] for row in found) == {"arithmetic:right": 10, f"arithmetic:{kind}": 30}


def test_a_kind_that_does_not_fit_gives_none():
    template = next(t for t in TEMPLATES[1] if t.name == "pencil_boxes")
    rng = random.Random(0)
    assert all(corrupt(template.draw(rng), rng, "unit") is None for _ in range(50))


def test_something_fits_every_problem():
    rng = random.Random(0)
    for problem in islice(problems(seed=1), 500):
        wrong = corrupt(problem, rng)
        assert write(wrong, "bare") != write(right_solution(problem), "bare")


def test_the_order_of_verdicts_cannot_be_guessed(rows):
    verdicts = "".join(row["verdict"][0] for row in rows[:800])
    assert max(len(run) for run in re.findall(r"r+|w+", verdicts)) < 30
    assert all(120 < sum(a + b == pair for a, b in pairwise(verdicts)) < 280
               for pair in ("rr", "rw", "wr", "ww"))  # fmt: skip


def test_style_says_nothing_about_the_verdict(rows):
    openings = {verdict: Counter() for verdict in ("right", "wrong")}
    for row in rows:
        openings[row["verdict"]][re.split(r"[ :,]", row["response"])[0].strip("0123456789")] += 1
    for opening, times in openings["right"].items():
        if times > 100:
            assert 0.6 < openings["wrong"][opening] / times < 1.6


def test_texts_are_clean_english(rows):
    for row in rows:
        for column in TEXTS:
            text = row[column].replace("\\boxed{", "").replace("}", "") if column != "query" else row[column]
            assert not re.search(r"[{}]|\bNone\b|  |\s[.,?!]|\.\.|\s$", text), text
            assert not re.search(r"\b[Aa] [aeio]", text), text
            assert not re.search(r"\b[Aa]n [^aeiouh]", text), text
        assert re.match(r"[A-Z$\d]", row["query"])
        assert row["query"].endswith("?")
        assert not re.search(r"[.?!] [a-z]", row["query"]), row["query"]


def test_one_is_singular_and_the_rest_plural(rows):
    """Every counted noun of a response, the answer included, agrees with its number."""
    ones = 0
    for row in rows:
        for unit in {step["unit"] for step in row["meta"]["steps"]} - {"percent"}:
            for text in (row["response"], row["refinement"]):
                for number in re.findall(rf"([\d.]*\d) {plural(unit)}\b", text):
                    assert number != "1", text
                for number in re.findall(rf"([\d.]*\d) {unit}\b", text):
                    assert number == "1", text
                    ones += 1
        if re.match(r"[A-Z][^=]*: [\d.]+ [-+×÷]", row["refinement"]) and not row["refinement"].startswith("Step"):
            for line, step in zip(row["refinement"].splitlines(), row["meta"]["steps"], strict=False):
                assert line.lower().startswith(f"{plural(step['unit'])} {step['label']}: ".lower()), line
    assert ones, "no row has a single one of anything, so nothing was tested"
