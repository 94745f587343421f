"""The race of a run's checkpoints: rounds of problems for those that may still win, and who leaves after each.

    selection = Selection(Path("runs/mine"), load_validation("math-validation"))
    select(selection, generate, on_round=lambda told: print(tell_round(told)))

    {"problems": 37, "of": 500, "answered": 31, "in": 31, "leader": 50, "hits": 29, "left": [{"step": 10, …}, …]}

What a checkpoint has answered is written down after each round, so a race that was killed goes on there; who is best is
written down at the end alone. One that was
saved after others had come to the end (while training) runs against the best of them, which is asked nothing more.
`LeavingRule(0)` is no race: all checkpoints answer everything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cft_trl.evaluation.racing import Standing, deal, leader_of, leaving
from cft_trl.generation.types import Generation
from cft_trl.training.kept_models import check_weights
from cft_trl.training.selection import Selection, check_checkpoints


def select(
    selection: Selection,
    generate: Callable[[int, Path, list[Any]], list[Generation]],
    *,
    on_point: Callable[[Mapping[str, Any]], None] | None = None,
    on_round: Callable[[Mapping[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Runs the race and chooses. With several processes each calls it, and each does its part.

    Args:
        generate: (step, checkpoint, conversations) -> their generations, for this process's conversations. Called once
            per checkpoint and round; the last checkpoint of a round is the first of the next.
        on_point: Called by the first process with each new point of a checkpoint that has come to the end or left.
        on_round: Called by the first process after each round in which something was asked.

    Returns:
        The content of selection.json; an empty dict on the other processes.

    Raises:
        CFTError: There is no checkpoint, or one without weights.
    """
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list, gather_object

    process = PartialState()
    process.wait_for_everyone()  # the first process may still be writing the checkpoint
    check_checkpoints(selection.run)
    if process.is_main_process:
        selection.grade_anew()
    problems = len(selection.validation.rows)
    conversations = selection.validation.conversations(selection.prompt_preset)
    order = deal(problems, selection.validation.digest)
    for number, end in enumerate(selection.rule.rounds(problems)):
        if process.is_main_process and not selection.may_leave():
            end = problems  # no comparison is left to make: one large round is faster than several small ones
        [(end, todo)] = broadcast_object_list(
            [(end, selection.lacking(order[:end])) if process.is_main_process else None]
        )
        for step, (checkpoint, rows) in sorted(todo.items(), reverse=bool(number % 2)):
            check_weights(checkpoint)
            mine = rows[process.process_index :: process.num_processes]
            made = generate(step, checkpoint, [conversations[at] for at in mine])
            parts = gather_object(list(zip(mine, made, strict=True)))
            if process.is_main_process:
                point = selection.record(step, checkpoint, dict(parts))
                if on_point and point["of"] == problems:
                    on_point(point)
        if process.is_main_process and todo and end < problems:
            told = _leave(selection, order[:end], len(todo))
            for point in told["left"]:
                if on_point:
                    on_point(point)
            if on_round:
                on_round(told)
    return selection.finish() if process.is_main_process else {}


def _leave(selection: Selection, dealt: Sequence[int], answered: int) -> dict[str, Any]:
    """Lets those leave that will not win any more; says how the round went."""
    points = {point["step"]: point for point in selection.curve()}
    there = selection.checkpoints()
    present = points.keys() & there.keys()
    runs = [
        Standing(step, point["right"])
        for step, point in points.items()
        if step in there and not selection.has_left(point, present) and all(point["right"][at] != "-" for at in dealt)
    ]
    level = selection.rule.level(len(points), len(selection.validation.rows))
    gone = leaving(runs, dealt, level, selection.keep)
    left = [{**points[step], "left": {**told, "rule": selection.rule.told}} for step, told in sorted(gone.items())]
    for point in left:
        selection.write(point)
    leader = leader_of(runs, dealt)
    return {
        "problems": len(dealt),
        "of": len(leader.right),
        "answered": answered,
        "in": len(runs) - len(left),
        "leader": leader.step,
        "hits": leader.hits(dealt),
        "left": left,
    }


def tell_round(told: Mapping[str, Any]) -> str:
    """A round as a line.

    Example:
        >>> tell_round({"problems": 37, "of": 500, "answered": 31, "in": 9, "leader": 50, "hits": 29, "left": [{}, {}]})
        'after 37 of 500 problems: step 50 leads with 29; 2 left, 9 go on'
    """
    stay = f"{len(told['left'])} left, {told['in']} go on"
    return f"after {told['problems']} of {told['of']} problems: step {told['leader']} leads with {told['hits']}; {stay}"
