"""`cft report`: counted from the generations, refused where runs cannot be compared, readable in three forms."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest
from evaluation_folders import PROMPT, make_evaluation, make_rows

from cft_trl.cli import main
from cft_trl.errors import CFTError
from cft_trl.evaluation.published import PUBLISHED
from cft_trl.evaluation.report import make_report, to_markdown, write_report
from cft_trl.evaluation.report_figures import points
from cft_trl.evaluation.report_html import axis_ticks, to_html
from cft_trl.evaluation.significance import mcnemar
from cft_trl.grading.benchmarks import SIX
from cft_trl.grading.intervals import wilson_interval

TWO = {"gsm8k": (0.5, 60), "aime24": (0.2, 30)}


@pytest.fixture
def pair(tmp_path):
    """Two runs on the same two benchmarks, the second better."""
    better = {task: (skill + 0.3, problems) for task, (skill, problems) in TWO.items()}
    return [make_evaluation(tmp_path / "base", TWO), make_evaluation(tmp_path / "CFT", better, seed=1)]


def test_scores_are_those_of_the_generations(pair):
    report = make_report(pair)
    for folder, (task, (skill, problems)) in zip([pair[0]] * 2, TWO.items(), strict=True):
        hits = sum(row["strict"] for row in make_rows(task, skill, problems))
        found = report["scores"][task][folder.name]
        assert (found["strict"]["hits"], found["problems"]) == (hits, problems)
        assert found["strict"]["interval_95"] == pytest.approx(wilson_interval(hits, problems))
        assert found["paper"]["score"] >= found["strict"]["score"]


def test_differences_are_of_the_same_problems(tmp_path):
    rows = make_rows("gsm8k", 0.5, 60)
    other = [{**row, "strict": row["strict"] ^ (at % 7 == 0)} for at, row in enumerate(rows)]
    lost = sum(row["strict"] and not changed["strict"] for row, changed in zip(rows, other, strict=True))
    won = sum(changed["strict"] and not row["strict"] for row, changed in zip(rows, other, strict=True))
    assert lost
    assert won
    # The second file is in another order; what pairs two rows is their problem.
    one = make_evaluation(tmp_path / "one", {"gsm8k": (0.5, 60)}, rows={"gsm8k": rows})
    two = make_evaluation(tmp_path / "two", {"gsm8k": (0.5, 60)}, rows={"gsm8k": other[::-1]})
    [line] = make_report([one, two])["differences"]
    assert (line["first_only"], line["second_only"], line["p"]) == (lost, won, mcnemar(lost, won))
    assert line["difference"] == pytest.approx((won - lost) / 60)


def test_the_baseline_is_first_and_every_pair_is_there(tmp_path):
    folders = [make_evaluation(tmp_path / name, TWO, seed=at) for at, name in enumerate(("a", "b", "c"))]
    report = make_report(folders, names=["SFT", "base", "CFT"], baseline="base")
    assert [run["name"] for run in report["runs"]] == ["base", "SFT", "CFT"]
    pairs = {(line["first"], line["second"]) for line in report["differences"]}
    assert pairs == {("base", "SFT"), ("base", "CFT"), ("SFT", "CFT")}
    for line in report["differences"]:
        assert line["task"] == "average" or line["p"] <= line["p_holm"] <= 1


def test_the_average_of_the_six_stands_beside_the_published_ones(tmp_path):
    tasks = dict.fromkeys(SIX, (0.5, 20))
    report = make_report([make_evaluation(tmp_path / "a", tasks), make_evaluation(tmp_path / "b", tasks, seed=1)])
    assert report["average"]["six"]
    mean = sum(report["scores"][task]["a"]["strict"]["score"] for task in SIX) / 6
    assert report["average"]["runs"]["a"]["strict"]["score"] == pytest.approx(mean)
    low, high = report["average"]["runs"]["a"]["strict"]["interval_95"]
    assert low < mean < high
    text = to_markdown(report)
    assert "average of the six" in text
    # method.md's rows, digit for digit.
    for figures in (
        "55.4 | 13.6 | 91.6 | 16.1 | 10.0 | 40.0 | 37.8",
        "80.2 | 42.3 | 90.9 | 41.6 | 20.0 | 67.5 | 57.1",
        "42.2 | 12.5 | 74.5 | 12.4 | 3.3 | 20.0 | 27.5",
        "71.1 | 27.9 | 88.8 | 35.7 | 13.3 | 55.0 | 48.6",
    ):
        assert f"published, paper grader | {figures}" in text


def test_published_averages_are_the_means_of_their_rows():
    for row in PUBLISHED:
        if len(row.scores) == 6 and row.average:
            assert sum(row.scores.values()) / 6 == pytest.approx(row.average, abs=0.12), row


def test_every_table_with_the_lenient_grader_says_so(pair):
    report = make_report(pair)
    for block in re.split(r"\n\n", to_markdown(report)):
        if block.startswith("|") and re.search(r"\bpaper\b", block):
            assert "published leniency, for comparison only" in block
    page = to_html(report)
    assert "paper (published leniency, for comparison only)" in page
    for table in re.findall(r"<table>.*?</table>", page, re.DOTALL):
        if re.search(r"\bpaper\b", table):
            assert "published leniency, for comparison only" in table


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"temperature": 0.6}, "temperature: 0.0 and 0.6"),
        ({"top_p": 0.9}, "top_p: 1.0 and 0.9"),
        ({"samples": 2}, "samples: 1 and 2"),
        ({"graders": ["strict"]}, 'graders: ["paper", "strict"] and ["strict"]'),
        ({"limit": 60}, "limit (gsm8k): null and 60"),
        ({"limit": {"gsm8k": 60, "aime24": None}}, "limit (gsm8k): null and 60"),
        ({"prompt": {**PROMPT, "system": None}}, 'prompt (system): "Think, then box the answer." and null'),
        ({"prompt": {**PROMPT, "max_new_tokens": 2048}}, "prompt (max_new_tokens): 512 and 2048"),
        ({"prompt": {**PROMPT, "digest": "d2"}}, 'prompt (digest): "d1" and "d2"'),
        ({"versions": {"math-verify": "0.6.0"}}, 'grader (math-verify): "0.5.2" and "0.6.0"'),
    ],
)
def test_runs_that_were_asked_otherwise_are_refused(tmp_path, capsys, change, said):
    make_evaluation(tmp_path / "base", TWO)
    make_evaluation(tmp_path / "other", TWO, **change)
    out = tmp_path / "report"
    assert main(["report", str(tmp_path / "base"), str(tmp_path / "other"), "--output", str(out)]) == 2
    told = capsys.readouterr().err
    assert f"differ in {said}" in told
    assert told.count("\n") == 1
    assert not out.exists()


def test_other_problems_are_refused(tmp_path):
    base = make_evaluation(tmp_path / "base", {"gsm8k": (0.5, 60)})
    shorter = make_evaluation(tmp_path / "shorter", {"gsm8k": (0.5, 58)})
    with pytest.raises(CFTError, match=r"problems of gsm8k: of 60 and 58, 58 have the same text and gold in both"):
        make_report([base, shorter])
    for change in ({"gold": "7"}, {"query": "What else?"}):
        rows = [{**row, **change} if row["id"] == "gsm8k-3" else row for row in make_rows("gsm8k", 0.5, 60)]
        changed = make_evaluation(tmp_path / "changed", {"gsm8k": (0.5, 60)}, rows={"gsm8k": rows})
        with pytest.raises(
            CFTError, match=r"of 60 and 60, 59 have the same text and gold in both \('gsm8k-3' has not\)"
        ):
            make_report([base, changed])


def test_the_same_problems_under_other_ids_and_in_another_order_are_compared(tmp_path):
    rows = make_rows("gsm8k", 0.5, 60)
    other = [{**row, "id": f"x-{at}", "strict": not row["strict"]} for at, row in enumerate(rows[::-1])]
    one = make_evaluation(tmp_path / "one", {"gsm8k": (0.5, 60)}, rows={"gsm8k": rows})
    two = make_evaluation(tmp_path / "two", {"gsm8k": (0.5, 60)}, rows={"gsm8k": other})
    [line] = make_report([one, two])["differences"]
    right = sum(row["strict"] for row in rows)
    assert (line["first_only"], line["second_only"]) == (right, 60 - right)


def test_the_same_problem_twice_is_two_problems(tmp_path):
    rows = [{**row, "query": "What is 2 + 2?", "gold": "4"} for row in make_rows("gsm8k", 0.5, 3)]
    folders = [make_evaluation(tmp_path / name, {"gsm8k": (0.5, 3)}, rows={"gsm8k": rows}) for name in "ab"]
    assert make_report(folders)["differences"][0]["difference"] == 0
    fewer = make_evaluation(tmp_path / "c", {"gsm8k": (0.5, 2)}, rows={"gsm8k": rows[:2]})
    with pytest.raises(CFTError, match="of 3 and 2, 2 have the same text"):
        make_report([folders[0], fewer])


def test_prompts_that_differ_are_refused_whatever_the_settings_say(tmp_path):
    rows = make_rows("gsm8k", 0.5, 60)
    one = make_evaluation(tmp_path / "one", {"gsm8k": (0.5, 60)}, rows={"gsm8k": rows})
    other = [{**row, "prompt": '[{"role": "user"}]'} for row in rows]
    two = make_evaluation(tmp_path / "two", {"gsm8k": (0.5, 60)}, rows={"gsm8k": other})
    with pytest.raises(CFTError, match="what gsm8k was asked with: 60 prompts are others"):
        make_report([one, two])


def test_runs_graded_by_different_versions_of_the_graders(tmp_path):
    told = {"code": "9f2c", "math-verify": "0.9.0"}
    one = make_evaluation(tmp_path / "one", TWO, grader=told)
    two = make_evaluation(tmp_path / "two", TWO, grader=told | {"code": "77d0"})
    with pytest.raises(CFTError, match=r"graded by different versions of the graders \(code 9f2c and 77d0\)"):
        make_report([one, two])
    silent = make_evaluation(tmp_path / "silent", TWO)
    assert any("not noted: silent" in note for note in make_report([one, silent])["notes"])


def test_modes_may_differ_and_the_verdicts_are_counted(tmp_path):
    direct = make_evaluation(tmp_path / "direct", TWO, temperature=0.3)
    staged = make_evaluation(tmp_path / "staged", TWO, temperature=0.3, mode="two_stage",
                             prompt={**PROMPT, "digest": "another"})  # fmt: skip
    report = make_report([direct, staged])
    found = report["verdicts"]["gsm8k"]["staged"]
    rows = make_rows("gsm8k", *TWO["gsm8k"], mode="two_stage")
    assert found["right"] == sum(row["meta"]["verdicts"][-1] == "right" for row in rows)
    assert found["right"] + found["wrong"] + found["none"] == 60
    assert found["right_answers"] == sum(row["strict"] for row in rows)
    assert found["mean_rounds"] == 2
    assert list(report["verdicts"]["gsm8k"]) == ["staged"]
    assert any("differ in mode" in note for note in report["notes"])
    assert "## Verdicts" in to_markdown(report)
    assert "## Verdicts" not in to_markdown(make_report([direct]))


def test_several_samples(tmp_path):
    folders = [
        make_evaluation(tmp_path / name, TWO, samples=4, temperature=0.6, seed=at) for at, name in enumerate("ab")
    ]
    report = make_report(folders)
    assert report["differences"][0]["test"] == "paired bootstrap"
    assert report["scores"]["gsm8k"]["a"]["strict"]["of"] == 240
    assert "pass@4" in to_markdown(report)
    assert "pass@4" in to_html(report)


def test_scores_that_the_generations_do_not_give_are_refused(pair):
    path = pair[1] / "evaluation.json"
    told = json.loads(before := path.read_text())
    told["tasks"]["gsm8k"]["scores"]["strict"]["score"] = 0.9
    path.write_text(json.dumps(told))
    with pytest.raises(
        CFTError, match=r"CFT: evaluation.json gives gsm8k 0.9 \(of 60\) under strict, but its generations"
    ):
        make_report(pair)
    told["tasks"]["gsm8k"] = {**json.loads(before)["tasks"]["gsm8k"], "problems": 1319}
    path.write_text(json.dumps(told))
    with pytest.raises(CFTError, match="has 1319 problems of gsm8k, its generations 60"):
        make_report(pair)
    told["tasks"]["gsm8k"]["scores"]["strict"] = "good"
    path.write_text(json.dumps(told))
    with pytest.raises(CFTError, match="no readable scores of gsm8k"):
        make_report(pair)


def test_a_problem_that_is_there_twice_is_refused(tmp_path):
    rows = make_rows("gsm8k", 0.5, 10)
    folder = make_evaluation(tmp_path / "a", {"gsm8k": (0.5, 10)}, rows={"gsm8k": [*rows, rows[4]]})
    with pytest.raises(CFTError, match="'gsm8k-4', sample 0 is there 2 times"):
        make_report([folder])


def test_folders_of_something_else(tmp_path, pair):
    cases = {"critic.json": "eval-critic", "trainer_state.json": "training run", "config.json": "a model",
             "selection.json": "selection", "notes.txt": "no evaluation.json"}  # fmt: skip
    for at, (file, said) in enumerate(cases.items()):
        folder = tmp_path / f"other-{at}"
        folder.mkdir()
        (folder / file).write_text("{}")
        with pytest.raises(CFTError, match=said):
            make_report([folder])
    with pytest.raises(CFTError, match="no such folder"):
        make_report([tmp_path / "nowhere"])
    (pair[0] / "evaluation.json").unlink()
    with pytest.raises(CFTError, match="has not finished"):
        make_report(pair)
    (pair[1] / "generations" / "aime24.parquet").rename(pair[1] / "generations" / "gsm8k.parquet")
    with pytest.raises(CFTError, match="holds generations of aime24"):
        make_report([pair[1]])
    (pair[1] / "evaluation.json").write_text("{")
    with pytest.raises(CFTError, match="cannot be read as JSON"):
        make_report([pair[1]])
    (pair[1] / "evaluation.json").write_text("[]")
    with pytest.raises(CFTError, match="no entry 'model'"):
        make_report([pair[1]])


def test_names(pair):
    with pytest.raises(CFTError, match="1 names for 2 runs"):
        make_report(pair, names=["a"])
    with pytest.raises(CFTError, match="two runs are called 'a'"):
        make_report(pair, names=["a", "a"])
    with pytest.raises(CFTError, match=r"'bsae' is none of the runs \(did you mean 'base'\?\)"):
        make_report(pair, baseline="bsae")
    with pytest.raises(CFTError, match="two runs are called"):
        make_report([pair[0], pair[0]])


class _Page(HTMLParser):
    """Text, and whatever a page would fetch; complains of tags that do not match."""

    VOID = ("meta", "line", "circle", "br", "hr", "img", "link", "input")

    def __init__(self, page):
        super().__init__()
        self.open, self.fetched, self.words = [], [], []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.fetched += [value for name, value in attributes if name in ("src", "href", "srcset", "action")]
        assert tag not in ("script", "link", "img", "iframe")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_the_page_stands_alone(pair):
    report = make_report(pair, names=["base", "<b>CFT</b> & co"])
    page = to_html(report)
    read = _Page(page)
    assert not read.fetched
    assert not re.search(r"https?://|url\(|@import", page)
    assert "<b>CFT" not in page
    assert "<b>CFT</b> & co" in "".join(read.words)
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page
    assert not re.search(r"\bnan\b|None|Undefined", page)
    for place in re.findall(r'(?:x1|x2|cx)="(-?[\d.]+)%"', page):
        assert 0 <= float(place) <= 100


def test_marks_stand_where_their_figures_are(pair):
    report = make_report(pair)
    page = to_html(report)
    ticks = dict(
        reversed(t) for t in re.findall(r'<text x="([\d.]+)%" y="12">([\d.]+)</text>', page.split("<h2>Diff")[0])
    )
    zero, hundred = float(ticks["0"]), max(float(x) for x in ticks.values())
    top = max(float(label) for label in ticks)
    score = report["scores"]["gsm8k"]["base"]["strict"]["score"]
    expected = zero + (hundred - zero) * 100 * score / top
    marks = [float(x) for x in re.findall(r'class="dot" cx="([\d.]+)%"', page)]
    assert any(mark == pytest.approx(expected, abs=0.02) for mark in marks)


def test_the_command_writes_three_files(pair, tmp_path, capsys):
    out = tmp_path / "report"
    arguments = ["report", *map(str, pair), "--names", "base,CFT", "--output", str(out)]
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert "CFT against base" in shown
    assert sorted(path.name for path in out.iterdir()) == ["report.html", "report.json", "report.md"]
    kept = json.loads((out / "report.json").read_text())
    assert kept["baseline"] == "base"
    assert main(arguments) == 0
    assert json.loads((out / "report.json").read_text()) == kept


def test_a_name_with_a_bar_keeps_the_table_whole(pair):
    text = to_markdown(make_report(pair, names=["a|b", "c"]))
    for block in text.split("\n\n"):
        lines = [line for line in block.splitlines() if line.startswith("|")]
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) <= 1, block


def test_other_kinds_of_score_are_shown(tmp_path):
    rows = make_rows("ifeval", 0.5, 8)
    for row in rows:
        row["meta"] = {"instructions_strict": [row["strict"], True], "instructions_loose": [True, True]}
        row["paper"] = None
    folder = make_evaluation(tmp_path / "a", {"ifeval": (0.5, 8)}, rows={"ifeval": rows})
    text = to_markdown(make_report([folder]))
    assert "IFEval, a, loose: 100.0" in text
    assert "published, paper grader | 76.1" in text  # CGD's


def test_points_and_ticks():
    assert [points(x) for x in (0.042, -0.01, 0.0004, -0.0004)] == ["+4.2", "−1.0", "0.0", "0.0"]
    for low, high in ((0, 0.03), (0, 1), (-0.4, 0.01), (0, 513), (-0.01, 0.01), (0, 1e-9)):
        ticks = axis_ticks(low, high)
        assert ticks[0] <= low
        assert ticks[-1] >= high - 1e-9
        assert 2 <= len(ticks) <= 8


def test_a_report_that_cannot_be_written(pair, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CFTError, match="not writable"):
        write_report(make_report(pair), tmp_path / "file")
