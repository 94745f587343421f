"""The corpora of other domains: functions run with limits, mutants that a test tells apart, notes with wishes."""

from __future__ import annotations

import ast
import json
import os
import time
from collections import Counter
from pathlib import Path

import pytest

from cft_trl.cli import main
from cft_trl.errors import CFTError
from cft_trl.evaluation.critic import judge
from cft_trl.sources.domains.code_review import code_review_records
from cft_trl.sources.domains.mutants import mutants, normal_form, renamed
from cft_trl.sources.domains.rubric import GRADES, rubric_records
from cft_trl.sources.domains.sandbox import CaseResult, run_cases
from cft_trl.sources.reference import critique_from_reference


@pytest.mark.parametrize(
    ("body", "kind", "text"),
    [
        ("return x + 1", "returned", "2"),
        ("return 1 / 0", "raised", "ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)", "raised", "SystemExit: 3"),
        ("return 'a' * 10**6", "returned", "'" + "a" * 199 + "..."),
        ("return bytearray(10**12)", "raised", "MemoryError"),
        ("while True: x += 1", "stopped", "no result within 1 s of CPU time"),
        ("import os; os._exit(0)", "stopped", "no result, for it ends the process"),
        ("print('noise'); return x", "returned", "1"),
        ("open('big', 'w').write('a' * 2**21); return x", "raised", "OSError: [Errno 27] File too large"),
        ("import os; return sorted(os.environ) + os.listdir()", "returned", "['LC_CTYPE', 'results']"),
    ],
)
def test_what_becomes_of_a_call(body, kind, text):
    assert run_cases(f"def f(x):\n    {body}", "f", [[1]]) == [CaseResult(kind, text)]


def test_a_case_that_hangs_takes_those_after_it_along():
    code = "def f(x):\n    while x: pass\n    return x"
    found = run_cases(code, "f", [[0], [1], [0]])
    assert [result.kind for result in found] == ["returned", "stopped", "stopped"]


def test_a_call_that_ends_the_process_with_status_1_has_not_failed_to_load():
    code = "import os\ndef f(x):\n    if x == 2: os._exit(1)\n    return x"
    stopped = CaseResult("stopped", "no result, for it ends the process")
    assert run_cases(code, "f", [[1], [2], [3]]) == [CaseResult("returned", "1"), stopped, stopped]
    assert run_cases(code, "f", [[2], [1]]) == [stopped, stopped]


@pytest.mark.parametrize("ends", ["return child.pid", "os._exit(0)", "while True: pass"])
def test_what_a_call_has_started_ends_with_it(tmp_path, ends):
    pid = tmp_path / "pid"
    code = f"""import os, subprocess, sys
def f(x):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    open({str(pid)!r}, "w").write(str(child.pid))
    {ends}"""
    run_cases(code, "f", [[1]])
    child = int(pid.read_text())
    for _ in range(100):  # until whoever inherits it has taken note
        try:
            state = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return
        if state == "Z":
            return
        time.sleep(0.05)
    os.kill(child, 9)
    pytest.fail("it goes on")


def test_code_that_cannot_be_loaded():
    assert run_cases("def f(:", "f", [[1], [2]])[1].text.startswith("SyntaxError")
    assert run_cases("x = 1", "f", [[1]])[0].kind == "raised"


def test_a_mutant_differs_in_one_line():
    code = normal_form("def f(a, b):\n    if a < b and not a == 1:\n        a += 2\n    return a * b")
    made = mutants(code)
    assert len({mutant.code for mutant in made}) == len(made) > 8
    for mutant in made:
        ast.parse(mutant.code)
        pairs = zip(code.split("\n"), mutant.code.split("\n"), strict=True)
        assert [at for at, (one, other) in enumerate(pairs, 1) if one != other] == [mutant.line]
    assert "    if a < b or not a == 1:" in {mutant.now for mutant in made}
    assert "    if a < b and a == 1:" in {mutant.now for mutant in made}


def test_renamed_functions_do_the_same():
    code = "def f(x):\n    total = x + 1\n    return [total for x in range(total)]"
    other = renamed(code, {"f": "g", "x": "given", "total": "acc"})
    assert "total" not in other
    assert run_cases(code, "f", [[2]]) == run_cases(other, "g", [[2]])


@pytest.fixture(scope="module")
def reviews():
    return list(code_review_records(40, seed=3))


def test_what_is_wrong_fails_a_test_and_the_critique_says_where(reviews):
    assert Counter(row["verdict"] for row in reviews).keys() == {"right", "wrong"}
    for row in reviews:
        checks, critique = row["meta"]["checks"], critique_from_reference(row)
        assert all(check["holds"] for check in checks) == (row["verdict"] == "right")
        found = judge(row, critique)
        assert found["verdict"] == row["verdict"]
        assert found["named_step"] == row["meta"]["first_error_step"]
        if row["verdict"] == "wrong":
            fault = row["meta"]["fault"]
            assert row["response"].split("\n")[fault["line"] - 1].strip() == fault["now"]
            failed = next(check for check in checks if not check["holds"])
            assert failed["of"] in critique
            assert failed["found"] in critique
            # What the critique would put there passes.
            lines = row["response"].split("\n")
            indent = len(lines[fault["line"] - 1]) - len(lines[fault["line"] - 1].lstrip())
            lines[fault["line"] - 1] = " " * indent + fault["was"]
            name = failed["of"].partition("(")[0]
            arguments = ast.parse(failed["of"], mode="eval").body.args
            case = [ast.literal_eval(argument) for argument in arguments]
            assert run_cases("\n".join(lines), name, [case])[0].text == failed["wanted"]


def test_splits_have_no_question_in_common():
    for records in (code_review_records, rubric_records):
        train, test = ({row["query"] for row in records(12, split=split)} for split in ("train", "test"))
        assert train and test and not train & test  # noqa: PT018


def test_the_same_seed_makes_the_same_rows(reviews):
    assert list(code_review_records(10, seed=3)) == reviews[:10]
    assert list(rubric_records(10, seed=1)) != list(rubric_records(10, seed=2))


def test_more_rows_than_there_are():
    with pytest.raises(CFTError, match=r"has hardly more than .* give a smaller limit"):
        list(code_review_records(10**6, split="validation", right_ratio=1.0))


def test_a_note_has_the_grade_that_its_wishes_make():
    rows = list(rubric_records(60))
    assert {row["meta"]["grade"] for row in rows} == set(GRADES)
    for row in rows:
        met = sum(check["holds"] for check in row["meta"]["checks"])
        assert GRADES[met] == row["meta"]["grade"]
        critique = critique_from_reference(row)
        assert critique.endswith(f"{met} of 4 wishes are met.\nConclusion: {row['meta']['grade']} [END]")
        for check in row["meta"]["checks"]:
            said = check["of"]
            if said.startswith("exactly"):
                counted = sum(row["response"].count(mark) for mark in ".?!")
                assert (counted == int(said.split()[1])) == check["holds"]
            if said.startswith("at most"):
                assert (len(row["response"].split()) <= int(said.split()[2])) == check["holds"]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("corpus: code_review", "source.limit: corpus code_review has no end"),
        ("corpus: rubric, limit: 5, right_ratio: 0.5", "source.right_ratio: only corpora arithmetic and code_review"),
        ("corpus: rubric, limit: 5, path: x.jsonl", "source.path: corpus rubric is made on the spot"),
        ("corpus: code_review, limit: 5, split: dev", "source.split=dev: corpus code_review has train"),
        ("corpus: code-review, limit: 5", "did you mean 'code_review'?"),
    ],
)
def test_mistakes_in_one_line(tmp_path, capsys, source, said):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"name: a\nsource: {{{source}}}\ncritique: {{teachers: [reference]}}\n")
    assert main(["build", str(recipe), "--output", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err


def test_other_words_are_read_from_the_same_answers(tmp_path):
    """The reference teacher is not asked again for a row when the verdict words change."""
    recipe = tmp_path / "recipe.yaml"
    words = "verdicts: {right: yes, wrong: no}"
    for critique, ending in (("", "Conclusion: wrong [END]"), (f", {words}", "Conclusion: no [END]")):
        recipe.write_text(
            "name: a\nsource: {corpus: code_review, limit: 6, right_ratio: 0.0}\n"
            f"critique: {{teachers: [reference]{critique}}}\ndecontaminate: {{benchmarks: none}}\n"
        )
        assert main(["build", str(recipe), "--output", str(tmp_path / "out")]) == 0
        lines = (tmp_path / "out" / "stages" / "critique.jsonl").read_text().splitlines()
        assert len(lines) == 6
        assert all(json.loads(line)["critique"].endswith(ending) for line in lines)
    assert len((tmp_path / "out" / "journal" / "critique.jsonl").read_text().splitlines()) == 6
    card = (tmp_path / "out" / "README.md").read_text()
    assert "--verdicts '{right: yes, wrong: no}'" in card
    assert "ends in one of\nno, yes" in card
