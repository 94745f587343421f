"""Brief critiques: number by number, what a step needs beside what the solution has, and a conclusion.

    Step 1: 14 and 14 agree, + and + agree, 9 and 9 agree. 14 + 9 = 23, 23 and 25 differ. Step 1 is wrong.
    Conclusion: wrong [END]

Each judgement follows from two things that stand side by side in the critique itself, and both are there before it is
made: a small model that trains for minutes can judge what it has just written. A line per step, up to the first wrong
one, which ends where it goes wrong. Where calculations and results alone do not decide (a wrong unit, a missing step, a
right answer by luck) there is no brief critique.
"""

from itertools import product

from cft_trl.sources.arithmetic.numbers import COMMUTATIVE, plain
from cft_trl.sources.reference import END, Reference, critique_from_reference, diagnose, read_steps
from cft_trl.sources.reference_equations import Equation, final_answer, read_equations

# Ways to say the same: of two numbers, of a step's beginning, of its end. The first is the one that is used by default.
_PAIRS = (("agree", "differ"), ("match", "do not match"), ("are equal", "are not equal"), ("are alike", "are unlike"))
_BEGINNINGS = ("Step {}: ", "In step {}: ")
_ENDS = (" Step {} is wrong.", " Step {} has an error.")
_WORDINGS = tuple(product(_ENDS, _BEGINNINGS, _PAIRS))
WORDINGS = len(_WORDINGS)


def brief_critique(record: dict, wording: int = 0) -> str | None:
    """A brief critique of the row's response; None where its calculations do not tell whether it is right.

    Args:
        record: A row with `query`, `response` and `meta["steps"]`, as `arithmetic_records` makes them.
        wording: Another one says the same in other words; below `WORDINGS`, of which critiques of right responses, with
            no error to name, have half.

    Example:
        >>> step = {"label": "in all", "left": "14", "left_from": "problem", "op": "+", "right": "9",
        ...         "right_from": "problem", "value": "23", "unit": "pencil"}
        >>> row = {"query": "14 and 9 more?", "response": "14 + 9 = 25\\nThe answer is 25.", "meta": {"steps": [step]}}
        >>> print(brief_critique(row))
        Step 1: 14 and 14 agree, + and + agree, 9 and 9 agree. 14 + 9 = 23, 23 and 25 differ. Step 1 is wrong.
        Conclusion: wrong [END]
    """
    steps = read_steps((record.get("meta") or {}).get("steps"))
    equations, final = read_equations(record["response"]), final_answer(record["response"])
    if not steps or final is None or len(equations) != len(steps) or any(one.op is None for one in equations):
        return None
    lines, verdict = [], "right"
    end, beginning, words = _WORDINGS[wording]
    for number, (step, equation) in enumerate(zip(steps, equations, strict=True), 1):
        said, right = _compare(_calculations(step, equation), words)
        if right:
            result, right = _compare([(plain(step.value), plain(equation.shown))], words)
            said += f". {step.text}, {result}"
        verdict = "right" if right else "wrong"
        lines.append(beginning.format(number) + f"{said}." + ("" if right else end.format(number)))
        if not right:
            break
    if (diagnose(equations, final, steps, record["query"]).kind is None) != (verdict == "right"):
        return None
    return "\n".join([*lines, END[verdict]])


def brief_or_full(record: dict, wording: int = 0) -> str | None:
    """A brief critique where there is one, else the reference teacher's usual one.

    Args:
        record: As for `brief_critique`.
        wording: Of both kinds; 0 is the default one.
    """
    name = f"{record['id']}.{wording}" if wording else None
    return brief_critique(record, wording) or critique_from_reference(record, name)


def _calculations(step: Reference, equation: Equation) -> list[tuple[str, str]]:
    """Left, sign and right, each as needed and as it is there; in the solution's order where the sign allows both."""
    needed = [plain(step.left), step.op, plain(step.right)]
    left, right = map(plain, equation.operands)
    had = [left, equation.op or "", right]
    orders = [needed, needed[::-1]] if step.op in COMMUTATIVE else [needed]
    best = max(orders, key=lambda order: sum(a == b for a, b in zip(order, had, strict=True)))
    return list(zip(best, had, strict=True))


def _compare(pairs: list[tuple[str, str]], words: tuple[str, str]) -> tuple[str, bool]:
    """The pairs in words, up to the first that differs, and whether all agree."""
    said = []
    for needed, had in pairs:
        said.append(f"{needed} and {had} {words[needed != had]}")
        if needed != had:
            return ", ".join(said), False
    return ", ".join(said), True
