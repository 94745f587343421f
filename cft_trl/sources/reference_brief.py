"""Brief critiques: work the step out, put its result beside the solution's, conclude.

    14 + 9 = 23. 23 and 25 are different.
    Conclusion: wrong [END]

They are half as long as those of `reference.py`, and the verdict follows from two numbers that stand side by side in
the critique itself: a small model that trains for minutes can judge what it has just written. A step a line, up to the
first that differs. Where results alone do not decide (a wrong unit, a missing step, a right answer by luck) there is no
brief critique.
"""

from cft_trl.sources.arithmetic.numbers import plain
from cft_trl.sources.reference import END, diagnose, read_steps
from cft_trl.sources.reference_equations import final_answer, read_equations


def brief_critique(record: dict) -> str | None:
    """A brief critique of the row's response; None where its results do not tell whether it is right.

    Args:
        record: A row with `query`, `response` and `meta["steps"]`, as `arithmetic_records` makes them.

    Example:
        >>> step = {"label": "in all", "left": "14", "left_from": "problem", "op": "+", "right": "9",
        ...         "right_from": "problem", "value": "23", "unit": "pencil"}
        >>> row = {"query": "14 and 9 more?", "response": "14 + 9 = 25\\nThe answer is 25.", "meta": {"steps": [step]}}
        >>> print(brief_critique(row))
        14 + 9 = 23. 23 and 25 are different.
        Conclusion: wrong [END]
    """
    steps = read_steps((record.get("meta") or {}).get("steps"))
    equations, final = read_equations(record["response"]), final_answer(record["response"])
    if not steps or final is None or len(equations) != len(steps):
        return None
    lines, verdict = [], "right"
    for step, equation in zip(steps, equations, strict=True):
        same = equation.shown == step.value
        both = f"{plain(step.value)} and {plain(equation.shown)}"
        lines.append(f"{step.text}. {both} are {'equal' if same else 'different'}.")
        if not same:
            verdict = "wrong"
            break
    if (diagnose(equations, final, steps, record["query"]).kind is None) != (verdict == "right"):
        return None
    return "\n".join([*lines, END[verdict]])
