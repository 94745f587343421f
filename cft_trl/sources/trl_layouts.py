r"""Records as TRL's other trainers read them: prompts for GRPO, pairs for DPO, feedback for SDPO and SDFT.

    prompts_for_rl(records)        {"prompt": [...], "task": "critique", "verdict": "wrong", "reference_answer": "42"}
    preferences(records)           {"prompt": [...], "chosen": [...], "rejected": [...], "verdict": "wrong"}
    feedback(records)              {"prompt": [...], "privileged_context": "Solution:\n43\n\nCritique:\n…", …}

All are conversational: a prompt is one user turn, an answer one assistant turn. The truth about a response is, first
that says something: an error that the row names (`error_kind`, `first_error_step`), what the arithmetic source made it
as, the strict grade of its final answer where `reference_answer` is there, a label that the data brought (`label`,
`correct`, `is_correct`), the row's verdict. A right answer does not make a solution right that is labelled wrong: then
nothing is known. Nor is a verdict the truth that was read from the row's own critique.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cft_trl.data.prompts import Prompting, chat_messages
from cft_trl.data.read_rows import concluded
from cft_trl.data.records import Record
from cft_trl.data.verdict import Verdict, to_verdict
from cft_trl.errors import CFTError
from cft_trl.grading.grade import grade_many

LAYOUTS = ("trl-prompts", "trl-preference", "trl-feedback")
_LABELS = ("label", "correct", "is_correct")


@dataclass
class Converted:
    """Rows for a trainer.

    Attributes:
        rows: They.
        failures: (place of the record, why it gives no row).
        left_out: Records that could have given a row, by why they did not.
        counts: Rows by task.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    failures: list[tuple[int, str]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)


def truths(records: Sequence[Record]) -> list[Verdict | None]:
    """What is so of each response: "right", "wrong" or None where nothing says; see the top of this file."""
    return [truth for truth, _ in _judged(records)]


_DISPUTED = "the answer is right, and a label says that the response is wrong"
_UNKNOWN = "nothing says whether the response is right"


def _judged(records: Sequence[Record]) -> list[tuple[Verdict | None, str | None]]:
    """The truth about each response, or why there is none."""
    found: list[tuple[Verdict | None, str | None]] = []
    graded = []
    for at, row in enumerate(records):
        if made := _made_as(row):
            found.append((made, None))
            continue
        truth = _labelled(row) or _own_verdict(row)
        found.append((truth, None if truth else _UNKNOWN))
        if row["reference_answer"]:
            graded.append(at)
    hits = grade_many([(records[at]["response"], str(records[at]["reference_answer"])) for at in graded])
    for at, hit in zip(graded, hits, strict=True):
        if hit and _labelled(records[at]) == "wrong":
            found[at] = None, _DISPUTED
        else:
            found[at] = "right" if hit else "wrong", None
    return found


def _of_responses(records: Sequence[Record]) -> list[tuple[Verdict | None, str | None]]:
    """As `_judged`, with what is known of one row of a response for all of its rows."""
    judged = _judged(records)
    of_response: dict[tuple[str, str], list[int]] = {}
    for at, row in enumerate(records):
        of_response.setdefault((row["query"], row["response"]), []).append(at)
    for places in of_response.values():
        known = {truth for at in places if (truth := judged[at][0])}
        if any(judged[at][1] == _DISPUTED for at in places):
            told: tuple[Verdict | None, str | None] = (None, _DISPUTED)
        elif len(known) > 1:
            told = None, "the rows of this response do not agree on whether it is right"
        elif known:
            told = known.pop(), None
        elif len({said for at in places if (said := _said(records[at]))}) > 1:
            told = None, "the critiques of this response do not agree, and nothing else says whether it is right"
        else:
            told = None, _UNKNOWN
        for at in places:
            judged[at] = told
    return judged


def _made_as(row: Record) -> Verdict | None:
    """What the response was made as: with an error that the row names, or by the arithmetic source."""
    meta = row["meta"] or {}
    step = meta.get("first_error_step")
    if meta.get("error_kind") not in (None, "", "none") or (type(step) is int and step > 0):
        return "wrong"
    source = row["response_source"] or ""
    if source.startswith("arithmetic:"):
        return "right" if source == "arithmetic:right" else "wrong"
    return _own_verdict(row) if row["source"] == "arithmetic" and not source else None


def _own_verdict(row: Record) -> Verdict | None:
    """The row's verdict, unless it is what its critique says."""
    return None if row["verdict"] == _said(row) else row["verdict"]


def _said(row: Record) -> Verdict | None:
    """What the row's critique concludes, in the words it was built with."""
    found = concluded(row)
    return found.verdict if found else None


def _labelled(row: Record) -> Verdict | None:
    meta = row["meta"] or {}
    for name in _LABELS:
        if meta.get(name) is not None:
            try:
                return to_verdict(meta[name])
            except CFTError:
                continue  # a label of something else: "algebra"
    return None


def prompts_for_rl(
    records: Sequence[Record],
    *,
    critique_share: float = 0.2,
    refine_share: float = 0.0,
    preset: str = "paper",
    seed: int = 0,
) -> Converted:
    """Prompts for `GRPOTrainer` and `cft_trl.rewards`: a mixture of critiques, refinements and solutions.

    Each share is that of the rows that come out. Where the records do not give a task enough, the others get fewer, so
    that the shares hold; what is left out so is counted. A question is asked once for a solution, and a response is
    shown once for a critique; repetitions are counted too.

    Args:
        records: Critiques need a truth, refinements a critique and `reference_answer`, solutions `reference_answer`.
        critique_share: Of rows that ask for a critique; 0.2 is that of Critique-Coder (arXiv 2509.22824).
        refine_share: Of rows that show a critique and ask for a better solution.
        preset: Wording of these two, as the model was trained with.
        seed: Of the choice and the order.

    Returns:
        Rows with `prompt`, `task` ("critique", "refine", "solve"), `verdict` and `reference_answer`.

    Raises:
        CFTError: Shares that are none, or a task with a share of which no record gives a row.
    """
    shares = {"critique": critique_share, "refine": refine_share, "solve": round(1 - critique_share - refine_share, 9)}
    if any(not 0 <= share <= 1 for share in shares.values()):
        raise CFTError(
            f"shares of critique {critique_share:g} and refine {refine_share:g}: give shares from 0 to 1, and together "
            "at most 1"
        )
    made = Converted()
    found: dict[str, list[dict[str, Any]]] = {task: [] for task in shares}
    asked: set[tuple[str, ...]] = set()
    for at, (row, (truth, unknown)) in enumerate(zip(records, _of_responses(records), strict=True)):
        reasons = {task: _why_not(task, row, unknown) for task, share in shares.items() if share}
        if all(reasons.values()):
            made.failures.append((at, "; ".join(f"{task}: {reason}" for task, reason in reasons.items())))
            continue
        for task, reason in reasons.items():
            if reason:
                if task == "critique" and reason != _UNKNOWN:
                    made.left_out[f"critique: {reason}"] += 1
                continue
            shown = {"solve": (), "critique": (row["response"],), "refine": (row["response"], row["critique"] or "")}
            if (key := (task, row["query"], *shown[task])) in asked:
                made.left_out[f"{task}: the same prompt again"] += 1
                continue
            asked.add(key)
            found[task].append(_prompt(task, row, truth, preset))
    wanted = {task: share for task, share in shares.items() if share}
    if records and (missing := [task for task in wanted if not found[task]]):
        raise CFTError(
            f"none of {len(records)} rows can be asked for task {missing[0]}, which needs {_NEEDS[missing[0]]}; give "
            "it no share (--critique-share, --refine-share)"
        )
    total = min((len(found[task]) / share for task, share in wanted.items()), default=0.0)
    rng = random.Random(seed)
    for task, share in wanted.items():
        count = min(len(found[task]), max(1, round(total * share))) if found[task] else 0
        made.rows += rng.sample(found[task], count)
        made.counts[task] = count
        if len(found[task]) > count:
            made.left_out[f"{task}: to keep its share of {share:g}"] = len(found[task]) - count
    rng.shuffle(made.rows)
    return made


_NEEDS = {
    "critique": "a reference_answer, a label or a verdict that is not its critique's own",
    "refine": "a critique and a reference_answer",
    "solve": "a reference_answer",
}


def _why_not(task: str, row: Record, unknown: str | None) -> str | None:
    if task == "critique":
        return unknown
    if task == "refine" and not row["critique"]:
        return "no critique"
    return None if row["reference_answer"] else "no reference_answer"


def _prompt(task: str, row: Record, truth: Verdict | None, preset: str) -> dict[str, Any]:
    objective = {"critique": "cft", "refine": "cgd", "solve": "sft"}[task]
    return {
        "prompt": chat_messages(Prompting(objective, preset=preset).user_turn(row)),
        "task": task,
        "verdict": truth if task == "critique" else None,
        "reference_answer": row["reference_answer"],
    }


def preferences(records: Sequence[Record], *, preset: str = "paper") -> Converted:
    """Pairs for `DPOTrainer`: of two critiques of one response that whose verdict is the truth over one that errs.

    The k-th right critique is paired with the k-th wrong one; those of the longer list are left out, and counted.

    Args:
        records: Several critiques of a response are several records with the same query and response.
        preset: Wording of prompt and answer.
    """
    made = Converted()
    prompting = Prompting("cft", preset=preset)
    of_response: dict[tuple[str, str], list[int]] = {}
    for at, row in enumerate(records):
        of_response.setdefault((row["query"], row["response"]), []).append(at)
    known = _of_responses(records)
    for places in of_response.values():
        truth, unknown = known[places[0]]
        sides: dict[bool, list[int]] = {True: [], False: []}
        for at in places:
            said = _said(records[at])
            if unknown == _DISPUTED:
                made.left_out[_DISPUTED] += 1
            elif unknown:
                made.failures.append((at, unknown))
            elif said is None:
                made.failures.append(
                    (at, "no critique" if not records[at]["critique"] else "its critique has no verdict")
                )
            else:
                sides[said == truth].append(at)
        for good, bad in zip(*sides.values(), strict=False):
            made.rows.append(_pair(records[good], records[bad], prompting, truth))
        made.counts["pair"] = len(made.rows)
        for side, other in ((True, False), (False, True)):
            if not sides[other]:
                verdicts = "right" if side else "wrong"
                reason = f"every critique of this response has the {verdicts} verdict: there is nothing to prefer"
                made.failures += [(at, reason) for at in sides[side]]
            elif over := len(sides[side]) - len(sides[other]):
                made.left_out["more critiques on one side than on the other"] += max(0, over)
    made.failures.sort()
    made.left_out += Counter()  # without zeros
    return made


def _pair(good: Record, bad: Record, prompting: Prompting, truth: Verdict | None) -> dict[str, Any]:
    return {
        "prompt": chat_messages(prompting.user_turn(good)),
        "chosen": [{"role": "assistant", "content": prompting.completion(good)}],
        "rejected": [{"role": "assistant", "content": prompting.completion(bad)}],
        "verdict": truth,
    }


def feedback(records: Sequence[Record]) -> Converted:
    """Questions with a critique of an earlier attempt, for TRL's experimental `SDPOTrainer` and `SDFTTrainer`.

    Both show `privileged_context` to the teacher's side only; SDPO does with `include_environment_feedback=True`, and
    takes `cft_trl.rewards.solution_reward`, for which `task` and `reference_answer` are there. Where no record has an
    answer these two are left out; where some have, the others are failures, on which the reward would end a training.
    A critique whose verdict contradicts what is known of the response is left out, and counted.

    Args:
        records: With a critique each.
    """
    made = Converted()
    rewarded = any(row["reference_answer"] for row in records)
    for at, (row, (truth, _)) in enumerate(zip(records, _of_responses(records), strict=True)):
        if not row["critique"]:
            made.failures.append((at, "no critique"))
        elif rewarded and not row["reference_answer"]:
            made.failures.append((at, "no reference_answer, which other rows have"))
        elif truth and (_said(row) or truth) != truth:
            made.left_out[f"its critique errs: the response is {truth}"] += 1
        else:
            shown = f"Solution:\n{row['response']}\n\nCritique:\n{row['critique']}"
            reward = {"task": "solve", "reference_answer": row["reference_answer"]} if rewarded else {}
            made.rows.append({"prompt": chat_messages(row["query"]), "privileged_context": shown, **reward})
    made.counts["feedback"] = len(made.rows)
    return made


def converter(to: str, options: Mapping[str, Any]) -> Any:
    """The function of a layout, with what of the options it takes.

    Raises:
        CFTError: An option that the layout has none of.
    """
    takes = {
        "trl-prompts": ("critique_share", "refine_share", "preset", "seed"),
        "trl-preference": ("preset",),
        "trl-feedback": (),
    }[to]
    if other := next((name for name, value in options.items() if value is not None and name not in takes), None):
        flag = "prompt-preset" if other == "preset" else other.replace("_", "-")
        raise CFTError(f"--{flag} does not belong to --to {to}; leave it out")
    function = {"trl-prompts": prompts_for_rl, "trl-preference": preferences, "trl-feedback": feedback}[to]
    given = {name: value for name, value in options.items() if value is not None}
    return lambda records: function(records, **given)
