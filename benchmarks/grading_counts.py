"""(8) The strict grader's mistakes: how many pairs this checkout and another one judge wrongly.

    git worktree add ../before 0fd08ab
    python benchmarks/grading_counts.py --against ../before
    python benchmarks/grading_counts.py --against ../before --cases grading.jsonl     and cases of your own

The pairs are those of tests/grading/grading_*.py: written by hand, most of them at known weak
spots, so the shares say nothing of ordinary answers. Cases are JSON lines with `text`, `gold` and `right`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from measure import record, table

HERE = Path(__file__).resolve().parents[1]
_CHILD = """
import json, sys
from cft_trl.grading.grade import grade_many
print(json.dumps(grade_many([tuple(pair) for pair in json.load(sys.stdin)])))
"""


def pairs_by_kind(cases: list[Path]) -> dict[str, list[tuple[str, str, bool]]]:
    """The title of each set -> its (text, gold, right)."""
    sys.path.insert(0, str(HERE / "tests" / "grading"))
    from grading_kinds import ANNOUNCED, EQUAL_KINDS
    from grading_kinds_unequal import UNEQUAL_KINDS
    from grading_operators import EQUAL_OPERATORS, UNEQUAL_OPERATORS
    from grading_pairs import EQUAL, UNEQUAL, pairs_of
    from grading_variations import EQUAL_VARIATIONS
    from grading_variations_unequal import UNEQUAL_VARIATIONS

    found = {"pairs": [(p, g, right) for text, right in ((EQUAL, True), (UNEQUAL, False)) for p, g in pairs_of(text)]}
    found["kinds"] = [
        (p, g, right)
        for kinds, right in ((EQUAL_KINDS, True), (UNEQUAL_KINDS, False))
        for text in kinds.values()
        for p, g in pairs_of(text)
    ]
    for title, equal, unequal in (
        ("variations", EQUAL_VARIATIONS, UNEQUAL_VARIATIONS),
        ("operators", EQUAL_OPERATORS, UNEQUAL_OPERATORS),
    ):
        sides = ((equal, True), (unequal, False))
        found[title] = [(p, g, right) for text, right in sides for p, g in pairs_of(text)]
    found["announcements"] = list(ANNOUNCED)
    for path in cases:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        rows = [row for row in rows if isinstance(row["gold"], str) and isinstance(row["right"], bool)]
        found[path.name] = [(row["text"], row["gold"], row["right"]) for row in rows]
    return found


def verdicts(checkout: Path, pairs: list[tuple[str, str, bool]]) -> list[bool]:
    environment = {**os.environ, "PYTHONPATH": str(checkout.resolve())}
    given = json.dumps([pair[:2] for pair in pairs])
    done = subprocess.run([sys.executable, "-c", _CHILD], input=given, env=environment, cwd=checkout, check=True,
                          capture_output=True, text=True)  # fmt: skip
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, required=True, help="folder of the other checkout")
    parser.add_argument("--cases", type=Path, nargs="*", default=[])
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    lines = []
    for title, pairs in pairs_by_kind(options.cases).items():
        line: dict[str, object] = {"": title, "right pairs": sum(right for *_, right in pairs)}
        line["wrong pairs"] = len(pairs) - int(str(line["right pairs"]))
        for name, checkout in (("before", options.against), ("now", HERE)):
            hits = verdicts(checkout, pairs)
            judged = [(hit, right) for hit, (*_, right) in zip(hits, pairs, strict=True)]
            line[f"{name}: right refused"] = sum(right and not hit for hit, right in judged)
            line[f"{name}: wrong accepted"] = sum(hit and not right for hit, right in judged)
        lines.append(line)
    record("Mistakes of the strict grader", table(lines), save=options.save)


if __name__ == "__main__":
    main()
