"""The decontamination stage, against small benchmarks written here and against the real ones."""

import json

import pytest

import cft_trl.sources.decontaminate as room
from cft_trl.data.stage_files import RowFile, stage_path
from cft_trl.errors import CFTError
from cft_trl.sources.decontaminate import DecontaminateSettings, run_decontaminate

PROBLEM = (
    "A gardener plants seven rows of tulips with nineteen tulips in each row, then gives away $\\frac{1}{7}$ of them. "
    "How many tulips are left in the garden after that?"
)
PHRASE = "can be written as p over q where p and q are coprime positive whole numbers"
DRAWING = "draw((0,0)--(3,0)--(3,3)--(0,3)--(0,2)--(1,2)--(1,1)--cycle);"
BENCHMARKS = {
    "gsm8k": [
        PROBLEM,
        "What is $5 + 8$?",
        *(f"The value of x{n} squared {PHRASE}; find p + q + {n}." for n in range(6)),
    ],
    "olympiadbench": [
        "The polynomial $x^{4}+b x^{2}+c x+225$ has roots in arithmetic progression, $r_{1}<\\cdots<r_{4}$. Find $b$."
    ],
    "math": ["Find the area of a square with side $3$. [asy] " + DRAWING + " [/asy]"],
    "mmlu-pro": [
        "How many abelian groups are there of order 72?\n\nA. 4\nB. 6\n\nAnswer with the letter of the right option.",
        "Which statement is true?\n\nA. Ducks lay.\nB. No duck does.\n\nAnswer with the letter of the right option.",
    ],
}


@pytest.fixture
def benchmarks(monkeypatch):
    """`BENCHMARKS` in place of the real ones."""

    def load(name):
        return [{"id": f"{name}-{at}", "query": query} for at, query in enumerate(BENCHMARKS[name])]

    monkeypatch.setattr(room, "load_benchmark", load)


def run(folder, queries, benchmarks=tuple(BENCHMARKS), **settings):
    """What was found for each query ("" for those kept), and the report's details."""
    rows = [{"id": str(at), "query": query} for at, query in enumerate(queries)]
    report = run_decontaminate(rows, DecontaminateSettings(benchmarks, **settings), folder)
    gone = {line["id"]: line for line in RowFile(stage_path(folder, "decontaminate", kind="failures"))}
    kept = list(RowFile(stage_path(folder, "decontaminate")))
    assert kept == [row for row in rows if row["id"] not in gone]
    assert report.read == len(rows) == report.written + report.failures.total()
    return [gone[row["id"]]["detail"] if row["id"] in gone else "" for row in rows], report


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (PROBLEM, "gsm8k-0 (exact)"),
        (PROBLEM.upper().replace(" ", "\n"), "gsm8k-0 (exact)"),
        (PROBLEM.replace("\\frac", "\\dfrac").replace("the garden", "a park"), "gsm8k-0 (0.79)"),  # 15 of 19
        ("Solve this for me, please: " + PROBLEM + " Show all your steps.", "gsm8k-0 (1.00)"),
        (" ".join(PROBLEM.split()[:13]), "gsm8k-0 (1.00)"),  # one 13-gram
        (" ".join(PROBLEM.split()[:12]), ""),
        (PROBLEM.replace("seven rows", "rows").replace("gives away", "sells").replace("many", "more"), ""),
        (
            "The polynomial $x^4 + bx^2 + cx + 225$ has roots in arithmetic progression, $r_1<\\dots<r_4$. Find $b$.",
            "olympiadbench-0 (1.00)",
        ),
        ("For which $b$ are the roots of $x^4+bx^2+cx+225$ in arithmetic progression, if real?", ""),
        (" ".join(reversed(PROBLEM.split())), ""),
        (
            f"The value of x3 squared {PHRASE}; find p + q + 3. " + " ".join(PROBLEM.split()[-14:]),
            "gsm8k-5 (1.00), gsm8k-0 (0.21)",
        ),
        ("what is 5+8", "gsm8k-1 (exact)"),  # too short for 13-grams
        ("What is 5 - 8?", ""),
        ("What is 5 + 8? Explain.", ""),
        (f"The length of the diagonal {PHRASE}; find p - q.", ""),  # a phrase of six problems
        (f"The value of x3 squared {PHRASE}; find p + q + 3.", "gsm8k-5 (exact)"),
        (f"What is shown here? [asy] {DRAWING} [/asy]", ""),
        ("How many abelian groups are there of order 72?\nA: 6\nB: 12", "mmlu-pro-0 (exact)"),
        ("How many abelian groups are there of order 72?", "mmlu-pro-0 (exact)"),
        ("Which statement is true?\nA: 1 = 2\nB: 1 = 1", ""),  # no question without its options
    ],
)
def test_what_counts_as_found(tmp_path, benchmarks, query, found):
    assert run(tmp_path, [query])[0] == [found]


def test_the_report_tells_every_benchmark_apart(tmp_path, benchmarks):
    half = (
        " ".join(PROBLEM.split()[:18]) + " and nothing of what follows stands anywhere else, whatever one may look at"
    )
    near = PROBLEM.replace("the garden", "a park")
    queries = ["A fresh one?", PROBLEM, half, "What is 5 + 8?", near]
    found, report = run(tmp_path, queries)
    assert found[0] == ""
    assert report.failures == {"copy of a benchmark problem": 2, "13-gram of a benchmark problem": 2}
    assert report.details == {
        "ngram": 13,
        "share": 0.0,
        "action": "drop",
        "contaminated": 4,
        "benchmarks": {
            "gsm8k": {
                "problems": 8,
                "exact": 2,
                "n-gram": 2,
                "near copies": 3,
                "first hits": ["1: gsm8k-0 (exact)", "2: gsm8k-0 (0.42)", "3: gsm8k-1 (exact)", "4: gsm8k-0 (0.79)"],
            },
            "olympiadbench": {"problems": 1, "exact": 0, "n-gram": 0, "near copies": 0, "first hits": []},
            "math": {"problems": 1, "exact": 0, "n-gram": 0, "near copies": 0, "first hits": []},
            "mmlu-pro": {"problems": 2, "exact": 0, "n-gram": 0, "near copies": 0, "first hits": []},
        },
    }
    assert run(tmp_path, queries, share=0.5)[1].details["contaminated"] == 3
    reported = run(tmp_path, queries, action="report")[1]
    assert (reported.written, reported.details["contaminated"]) == (5, 4)
    many = run(tmp_path, [PROBLEM] * 25)[1].details["benchmarks"]["gsm8k"]
    assert (many["exact"], len(many["first hits"])) == (25, 20)
    assert run(tmp_path, queries, "none")[1].details["benchmarks"] == {}


def test_a_problem_of_phrases_alone_is_still_found(tmp_path, monkeypatch):
    queries = [f"{PHRASE} {PHRASE} {n}" for n in range(6)] + [f"{PHRASE} {PHRASE}"]
    monkeypatch.setattr(
        room, "load_benchmark", lambda name: [{"id": str(at), "query": text} for at, text in enumerate(queries)]
    )
    assert run(tmp_path, [f"It {PHRASE} {PHRASE}, does it?"], "gsm8k")[0][0].startswith("6 (1.00)")


def test_a_smaller_ngram_casts_a_wider_net(tmp_path, benchmarks):
    query = " ".join(PROBLEM.split()[:9])
    assert run(tmp_path, [query], ngram=13)[0] == [""]
    assert run(tmp_path, [query], ngram=8)[0] == ["gsm8k-0 (1.00)"]


def test_a_benchmark_that_cannot_be_had_stops_the_stage_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("CFT_BENCHMARKS_DIR", str(tmp_path))
    with pytest.raises(CFTError, match=r"benchmark gsm8k cannot be had; set CFT_BENCHMARKS_DIR .* or skip it") as error:
        run(tmp_path / "out", ["x"], "gsm8k")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"benchmarks": ("gsm8", "math")},
            r"decontaminate.benchmarks: benchmark 'gsm8' is unknown \(did you mean 'gsm8k'",
        ),
        ({"benchmarks": "sixx"}, "decontaminate.benchmarks: benchmark 'sixx' is unknown"),
        ({"ngram": 1}, "decontaminate.ngram=1"),
        ({"share": 2}, "decontaminate.share=2"),
        ({"action": "keep"}, "decontaminate.action='keep': give drop or report"),
    ],
)
def test_wrong_settings_are_told_by_their_key(fields, message):
    with pytest.raises(CFTError, match=message):
        DecontaminateSettings(**fields)


def test_names_may_be_groups_or_benchmarks():
    assert DecontaminateSettings().names() == ("math", "minerva-math", "gsm8k", "olympiadbench", "aime24", "amc23")
    assert DecontaminateSettings(("six", "math", "MATH_500")).names()[-1] == "math-500"
    assert "math-validation" not in DecontaminateSettings("all").names()
    assert len(DecontaminateSettings("all").names()) == 13


# ---- the real benchmarks ---------------------------------------------------------------------------------------------


@pytest.fixture
def real(shared_data, monkeypatch):
    monkeypatch.setenv("CFT_BENCHMARKS_DIR", str(shared_data / "benchmarks"))
    return shared_data


def read(path, column):
    from cft_trl.data.files import read_files

    return [row[column] for row, _ in read_files([str(path)])]


def test_every_problem_of_a_benchmark_is_found_in_it(tmp_path, real):
    queries = read(real / "benchmarks" / "math_500" / "test.jsonl.gz", "problem")
    found, report = run(tmp_path, queries, ("math-500", "aime24", "minerva-math"))
    assert all("(exact)" in detail for detail in found)
    assert report.details["benchmarks"]["math-500"]["exact"] == 500
    assert report.details["benchmarks"]["minerva-math"]["exact"] == 0


def test_a_problem_copied_into_other_words_is_found_and_another_is_not(tmp_path, real):
    problems = read(real / "benchmarks" / "gsm8k" / "test.jsonl.gz", "question")[:300]
    around = [f"Here is a problem from my homework. {problem} Please help!" for problem in problems]
    found, _ = run(tmp_path, around, "gsm8k")
    assert [detail.split()[0] for detail in found] == [f"gsm8k-{at}" for at in range(300)]
    fresh = read(real / "train" / "gsm8k.jsonl.gz", "question")
    found, report = run(tmp_path, fresh, "gsm8k")
    assert report.details["contaminated"] == sum(map(bool, found)) == 4
    assert report.details["benchmarks"]["gsm8k"]["near copies"] == 2


def test_labelled_overlaps_of_real_critiques_are_found(tmp_path, real):
    from cft_trl.data.files import read_files

    rows = {row["query"]: row for row, _ in read_files([str(real / "train" / "critiques_permissive.jsonl.gz")])}
    found, _ = run(tmp_path, list(rows), "mmlu-pro")
    labelled = ["mmlu_pro" in row["query_in_eval"] for row in rows.values()]
    hits = [bool(detail) for label, detail in zip(labelled, found, strict=True) if label]
    others = [bool(detail) for label, detail in zip(labelled, found, strict=True) if not label]
    # Not found are questions of fewer than eight words that come with other options.
    assert sum(hits) / len(hits) > 0.95
    assert sum(others) / len(others) < 0.02


def test_details_can_be_written_as_json(tmp_path, benchmarks):
    run(tmp_path, [PROBLEM])
    report = json.loads(stage_path(tmp_path, "decontaminate", kind="report").read_text())
    assert report["details"]["benchmarks"]["gsm8k"]["exact"] == 1
