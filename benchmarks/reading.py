"""How verdicts and first wrong steps are read: on the tests' own phrasings, and on real critiques.

    python benchmarks/reading.py [critiques.jsonl[.gz]]

Rows need `critique`, `response`, `label` and `first_error_step`. To count another version of the package, put it on
PYTHONPATH before this folder's.
"""

from __future__ import annotations

import gzip
import json
import sys
from collections import Counter
from pathlib import Path

sys.path.extend(str(Path(__file__).parents[1] / "tests" / room) for room in ("data", "evaluation"))

from first_error_forms import MISSED, MORE, STEPS
from test_first_error import FORMS
from verdict_phrasings import NEITHER, RIGHT, WRONG
from verdict_phrasings_limited import LIMITED
from verdict_texts import TEXTS

from cft_trl.data.verdict import parse_verdict
from cft_trl.evaluation.first_error import first_error_step


def main() -> None:
    """Prints the counts."""
    meant = [(LIMITED, ("wrong", None)), (WRONG, ("wrong",)), (RIGHT, ("right",)), (NEITHER, ("right", None))]
    pairs = [(f"Conclusion: {text}", allowed) for group, allowed in meant for text in group]
    pairs += [(text, (verdict,)) for text, verdict in TEXTS]
    read = Counter(_reading(parse_verdict(text), allowed) for text, allowed in pairs)
    print(f"verdicts, {len(pairs)} phrasings: {dict(read)}")
    forms = [*FORMS, *MORE]
    steps = Counter(_step(first_error_step(text, STEPS), step) for text, step in forms)
    steps["none"] += len(MISSED)
    print(f"first wrong step, {len(forms) + len(MISSED)} texts: {dict(steps)}")
    if len(sys.argv) > 1:
        _real(sys.argv[1])


def _real(path: str) -> None:
    data = Path(path).read_bytes()
    rows = [json.loads(line) for line in (gzip.decompress(data) if path.endswith(".gz") else data).splitlines()]
    rows = [row for row in rows if row["critique"]]
    print(f"verdicts, {len(rows)} real critiques: {dict(Counter(str(parse_verdict(r['critique'])) for r in rows))}")
    rows = [row for row in rows if row["critique_kind"] == "natural" and isinstance(row["first_error_step"], int)]
    steps: Counter[str] = Counter()
    for row in rows:
        lines = [line for line in row["response"].split("\n") if line.strip()]
        steps[_step(first_error_step(row["critique"], lines), row["first_error_step"])] += 1
    print(f"first wrong step, {len(rows)} real critiques: {dict(steps)}")


def _reading(verdict: str | None, allowed: tuple[str | None, ...]) -> str:
    return "read" if verdict in allowed else "opposite" if verdict else "lost"


def _step(named: int | None, step: int | None) -> str:
    return "found" if named == step else "none" if named is None else "wrong"


if __name__ == "__main__":
    main()
