"""The filter stage: each filter alone, their order, the published rules, and texts in other languages."""

import json
from collections import Counter

import numpy
import pytest

from cft_trl.data.records import make_record
from cft_trl.data.stage_files import RowFile, stage_path
from cft_trl.errors import CFTError
from cft_trl.synthesis.filter_rules import Longest, cut_longest
from cft_trl.synthesis.filter_texts import NearDuplicates, foreign
from cft_trl.synthesis.filters import ORDER, FilterSettings, run_filter


def row(name="a", critique="The sum is wrong.", verdict="wrong", **fields):
    critique = critique and f"{critique}\n\nConclusion: {verdict} [END]"
    fields = {"query": f"What is {name}?", "response": "The answer is 43.", **fields}
    return make_record(id=name, critique=critique, **fields)


def run(folder, rows, **settings):
    """The ids kept, and the reason of each that was not."""
    report = run_filter(rows, FilterSettings(**settings), folder)
    kept = [line["id"] for line in RowFile(stage_path(folder, "filter"))]
    gone = {line["id"]: line["reason"] for line in RowFile(stage_path(folder, "filter", kind="failures"))}
    assert report.read == len(rows) == len(kept) + len(gone)
    assert sum(report.details["removed"].values()) == len(gone)
    return kept, gone, report.details


BOX = r"It should be \boxed{{{}}}."


def test_rows_pass_unchanged_and_in_order(tmp_path):
    rows = [row(str(n), meta={"n": [n, None]}, reference_answer="43" if n else None) for n in range(3)]
    kept, gone, details = run(tmp_path, rows, agree="report")
    assert list(RowFile(stage_path(tmp_path, "filter"))) == rows
    assert (kept, gone) == (["0", "1", "2"], {})
    assert details["removed"] == dict.fromkeys(ORDER, 0)
    assert details["agreement"] == {"calls a right response wrong": 2, "truth unknown": 1}


@pytest.mark.parametrize(
    ("fields", "settings", "reason"),
    [
        ({"meta": {"finish_reason": "length"}}, {}, "truncated: critique"),
        ({"meta": {"refinement_finish_reason": "length"}}, {}, "truncated: refinement"),
        ({"meta": {"response_finish_reason": "length"}}, {}, "truncated: response"),
        ({"meta": {"finish_reason": "length"}, "critique": None}, {}, "truncated: response"),
        ({"meta": {"finish_reason": "length"}}, {"truncated": "keep"}, None),
        ({"critique": None}, {}, "verdict: no critique"),
        ({"verdict": "right or wrong"}, {}, "verdict: none stated"),
        ({"verdict": "right or wrong"}, {"verdict": "any"}, None),
        ({"query": "1+1?"}, {"query_chars": (5, None)}, "query_chars: fewer than 5"),
        ({"query": "1+1=?"}, {"query_chars": (5, 5)}, None),
        ({"response": "x" * 11}, {"response_chars": (None, 10)}, "response_chars: more than 10"),
        ({}, {"critique_chars": [2, 9]}, "critique_chars: more than 9"),
        ({"meta": {"label": "right"}}, {}, "agree: calls a right response wrong"),
        ({"meta": {"label": "right"}}, {"agree": "off"}, None),
        ({"meta": {"label": "right"}}, {"agree": "report"}, None),
        ({"meta": {"label": "wrong"}, "reference_answer": "43"}, {}, None),  # the label goes before the grader
        ({"meta": {"label": "flawed"}}, {}, None),
        ({"reference_answer": "43.0"}, {}, "agree: calls a right response wrong"),
        ({"reference_answer": "42"}, {}, None),
        ({"reference_answer": "42", "verdict": "right"}, {}, "agree: calls a wrong response right"),
        ({"reference_answer": "43", "response": "Many ducks, as I said before.", "verdict": "right"}, {}, None),
        ({"reference_answer": "42", "critique": BOX.format(43)}, {"boxed": "drop"}, "boxed: not the reference answer"),
        ({"reference_answer": "42", "critique": BOX.format(43)}, {"boxed": "report"}, None),
        ({"reference_answer": "42", "critique": BOX.format(42)}, {"boxed": "drop"}, None),
        ({"critique": BOX.format(43)}, {"boxed": "drop"}, None),
    ],
)  # fmt: skip
def test_each_filter_alone(tmp_path, fields, settings, reason):
    _, gone, details = run(tmp_path, [row(**fields)], **settings)
    assert gone.get("a") == reason
    if reason:
        assert {key for key, count in details["removed"].items() if count} == {reason.partition(":")[0]}


def test_a_row_goes_by_the_first_filter_in_the_order(tmp_path):
    bad = {"meta": {"finish_reason": "length", "label": "right"}, "query": "?"}
    settings = {"query_chars": (2, None), "limit": 1}
    fields = [bad, bad | {"meta": {"label": "right"}}, {"meta": {"label": "right"}}, {}, {}]
    _, gone, _ = run(tmp_path, [row(str(n), **some) for n, some in enumerate(fields)], **settings)
    found = [reason.partition(":")[0] for reason in gone.values()]
    assert found == ["truncated", "query_chars", "agree", "limit"]
    assert found == sorted(found, key=ORDER.index)


# ---- among others ----------------------------------------------------------------------------------------------------


def test_longest_50k_is_the_published_rule_in_proportion(tmp_path):
    assert Longest().scaled(600_000) == Longest(10_000, 80_000, 50_000)
    removed = cut_longest(numpy.array([50, 10, 90, 30, 70, 20, 80, 40, 60, 0]), numpy.arange(10), Longest(1, 6, 4))
    assert [rows.tolist() for rows, _ in removed] == [[9], [2], [1, 5], [3, 7]]  # 0; 90; 10, 20; 30, 40
    rows = [row(f"{n:04}", critique="x" * (1 + n * 7919 % 1000)) for n in range(1000)]
    lengths = sorted(len(one["critique"]) for one in rows)
    kept, gone, details = run(tmp_path, rows, preset="longest-50k")
    assert details["preset"] == {"name": "longest-50k", "ends": 100, "pool": 800, "keep": 500}
    assert sorted(len(one["critique"]) for one in rows if one["id"] in set(kept)) == lengths[400:900]
    assert Counter(gone.values()) == {
        "preset: among the shortest": 100,
        "preset: among the longest": 100,
        "preset: not among the longest of the pool": 300,
    }


def test_one_shot_keeps_600_of_each_query_without_the_wrong_ones(tmp_path):
    rows = [row(f"q{n}", query="One?", critique="x" * (n + 1)) for n in range(700)]
    rows += [row(f"w{n}", query="One?", critique="x" * 350, meta={"label": "right"}) for n in range(50)]
    rows += [row(f"o{n}", query="Two?") for n in range(5)]
    kept, gone, _ = run(tmp_path, rows, preset="one-shot")
    assert kept == [f"q{n}" for n in range(50, 650)] + [f"o{n}" for n in range(5)]
    assert Counter(gone.values())["agree: calls a right response wrong"] == 50


@pytest.mark.parametrize(("ratio", "right", "wrong"), [(0.5, 30, 30), (0.2, 17, 70), (1.0, 30, 0), (0.0, 0, 70)])
def test_right_ratio_drops_the_least_and_is_seeded(tmp_path, ratio, right, wrong):
    rows = [row(f"{n}", verdict="right" if n % 10 < 3 else "wrong") for n in range(100)]
    rows.append(row("none", verdict="right or wrong"))
    kept, _, details = run(tmp_path, rows, verdict="any", right_ratio=ratio)
    verdicts = Counter(one["verdict"] for one in rows if one["id"] in set(kept))
    assert (verdicts["right"], verdicts["wrong"], verdicts[None]) == (right, wrong, 1)
    assert details["share right"] == {"before": 0.3, "after": round(right / (right + wrong), 4)}
    again = run(tmp_path, rows[::-1], verdict="any", right_ratio=ratio)[0]
    assert again == kept[::-1]
    if ratio == 0.5:
        assert set(run(tmp_path, rows, verdict="any", right_ratio=ratio, seed=1)[0]) != set(kept)


def test_limit_keeps_the_shares(tmp_path):
    rows = [row(f"{n}", verdict="right" if n % 10 < 3 else "wrong") for n in range(100)]
    kept, gone, _ = run(tmp_path, rows, limit=21)
    verdicts = Counter(one["verdict"] for one in rows if one["id"] in set(kept))
    assert (verdicts["right"], verdicts["wrong"]) == (6, 15)
    assert set(gone.values()) == {"limit: over the limit"}


# ---- texts -----------------------------------------------------------------------------------------------------------

LONG = (
    "First we add the two prices, which gives the cost of one set, and then we multiply this cost by the number of sets"
)


def test_near_duplicates_name_the_row_they_are_like(tmp_path):
    texts = [LONG, "Something else altogether, about the angles of a triangle.", LONG.upper() + "!", LONG + " we need"]
    rows = [row(str(n), critique=text) for n, text in enumerate(texts)]
    rows.insert(1, row("gone", critique=None))  # not compared, but counted in the row numbers
    kept, gone, _ = run(tmp_path, rows, near_duplicates=0.5)
    assert kept == ["0", "1"]
    assert gone["2"] == gone["3"] == "near_duplicates: like an earlier row"
    details = [line.get("detail") for line in RowFile(stage_path(tmp_path, "filter", kind="failures"))]
    assert details == [None, "like row 1 of the stage before", "like row 1 of the stage before"]
    empty = [row(name, critique=None) for name in "ab"]
    assert run(tmp_path, empty, near_duplicates=0.5, verdict="any")[0] == ["a", "b"]
    assert run(tmp_path, rows, near_duplicates=0.5, near_duplicates_of="response")[0] == ["0", "1", "2", "3"]


def test_near_duplicates_are_those_of_a_comparison_of_all_pairs():
    import random

    rng = random.Random(0)
    vocabulary = [f"w{n}" for n in range(500)]
    pairs = 300
    texts = [rng.choices(vocabulary, k=60) for _ in range(pairs)]
    for n in range(pairs):  # copies with one to eight words replaced: similarities from 0.9 down to 0.2
        copy = list(texts[n])
        for at in rng.sample(range(60), 1 + n % 8):
            copy[at] = "new"
        texts.append(copy)
    shingles = [{tuple(text[at : at + 5]) for at in range(56)} for text in texts]
    both = [(shingles[n], shingles[n + pairs]) for n in range(pairs)]
    truth = {n + pairs: len(one & other) / len(one | other) for n, (one, other) in enumerate(both)}
    found = NearDuplicates(0.6)
    for text in texts:
        found.add(" ".join(text))
    like = found.duplicates()
    assert all(other == n - pairs for n, other in like.items())
    assert {n for n, share in truth.items() if share > 0.75} <= set(like)
    # Buckets also hold pairs that are less alike; they are compared before they count.
    assert sum(share < 0.45 for share in truth.values()) > 80
    assert not {n for n, share in truth.items() if share < 0.45} & set(like)


FOREIGN = {
    "fr": "La solution commence bien, mais à l'étape 2 le calcul $3 \\times 8 = 25$ est faux : le produit vaut 24.",
    "de": "Der erste Schritt stimmt, aber im zweiten Schritt wurde falsch gerechnet.",
    "zh": "第一步是正确的,但第二步计算有误:三乘以八等于二十四,而不是二十五。",
    "ru": "Первый шаг верен, но во втором допущена ошибка: произведение равно 24.",
    "vi": "Bước đầu tiên đúng, nhưng bước thứ hai tính sai: tích là 24 chứ không phải 25.",
}


@pytest.mark.parametrize("language", FOREIGN)
def test_a_critique_in_another_language_goes_in_spite_of_its_english_verdict(tmp_path, language):
    _, gone, _ = run(tmp_path, [row(critique=FOREIGN[language])], language="en")
    assert gone == {"a": f"language: critique in {language}"}
    query = {"query": FOREIGN[language]}
    assert run(tmp_path, [row(**query)], language="en")[1] == {"a": f"language: query in {language}"}
    assert run(tmp_path, [row(critique=FOREIGN[language], **query)], language=language)[1] == {}


@pytest.mark.parametrize(
    ("critique", "language"),
    [("Le produit vaut 24, donc la conclusion est incorrecte.", "fr"), ("第二步计算有误,正确答案是十九。", "zh")],
)
def test_few_words_of_another_language_are_enough(tmp_path, critique, language):
    assert run(tmp_path, [row(critique=critique)], language="en")[1] == {"a": f"language: critique in {language}"}


@pytest.mark.parametrize(
    "text",
    [
        r"$\frac{1}{2} + \frac{1}{3} = \frac{5}{6}$, so $x = \frac{5}{6}$.",
        "3 x 8 = 24. 24 - 5 = 19. OK.",
        r"\begin{align*} 2a + 3b &= 7 \\ a - b &= 1 \end{align*} Thus a = 2, b = 1.",
        "Oranges: 12 kilos. Bananas: 9 kilos. Melons: 3 kilos. Total: 24 kilos",
        "Der zweite Schritt ist falsch, 24 statt 25.",
        "Correct.",
        "",
    ],
)
def test_signs_and_short_texts_are_in_no_language(text):
    assert foreign(text, "en") is None


def test_no_english_text_of_the_real_corpora_is_taken_for_another(shared_data):
    from cft_trl.data.files import read_files

    columns = {"gsm8k": ("question", "answer"), "math": ("problem", "solution")}
    for name, (query, response) in columns.items():
        rows = [one for one, _ in read_files([str(shared_data / "train" / f"{name}.jsonl.gz")])][::5]
        assert len(rows) > 1000
        assert not [one for one in rows if foreign(one[query], "en") or foreign(one[response], "en")]


# ---- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"preset": "longest-5k"}, r"filter.preset='longest-5k': unknown \(did you mean 'longest-50k'\?\)"),
        ({"agree": "keep"}, "filter.agree='keep'.*give drop, report or off"),
        ({"query_chars": (5, 4)}, r"filter.query_chars=\(5, 4\): give \[least, most\]"),
        ({"critique_chars": 200}, "filter.critique_chars=200"),
        ({"near_duplicates": 80}, "filter.near_duplicates=80"),
        ({"right_ratio": 1.5}, "filter.right_ratio=1.5"),
        ({"limit": 0}, "filter.limit=0"),
        ({"preset": "one-shot", "agree": "report"}, "filter.agree=report"),
    ],
)
def test_wrong_settings_are_told_by_their_key(fields, message):
    with pytest.raises(CFTError, match=message):
        FilterSettings(**fields)


def test_an_unknown_language_stops_the_run_and_leaves_nothing(tmp_path):
    with pytest.raises(CFTError, match="language='english': unknown"):
        run_filter([row()], FilterSettings(language="english"), tmp_path)
    assert not list((tmp_path / "stages").glob("*"))


def test_the_files_are_the_same_in_every_run(tmp_path):
    rows = [row(str(n), critique=LONG + f" {n % 7}", reference_answer=str(42 + n % 2)) for n in range(50)]
    settings = {"near_duplicates": 0.9, "right_ratio": 0.4, "limit": 10, "language": "en"}
    run(tmp_path / "1", rows, **settings)
    run(tmp_path / "2", json.loads(json.dumps(rows)), **settings)
    for kind in ("rows", "failures", "report"):
        one, two = (stage_path(tmp_path / n, "filter", kind=kind).read_bytes() for n in "12")
        assert one == two
