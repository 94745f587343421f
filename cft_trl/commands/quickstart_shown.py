"""What `cft quickstart` measures on held-out problems, and how it shows that at its end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

MAX_CRITIQUE, MAX_SOLUTION = 64, 48  # tokens; what is not finished by then counts as it stands
_BATCH = 60
# A wrong solution of a problem that is in no training set (its split is "test").
EXAMPLE = {
    "query": "Rosa has 4 pencils and finds 6 more. How many pencils does she have now?",
    "response": "4 × 6 = 24 pencils in all. The answer is 24 pencils.",
}
# What the card says beside the figures.
LIMITS = (
    "It was trained for minutes on problems of one step with numbers from 2 to 6 (products of up to 25), made from "
    "eighteen templates, and is evaluated on other problems from the same templates, whose sums are all in the "
    "training rows: it has to read and to compare, and to know its sums. Of longer problems, other wordings and larger "
    "numbers it knows nothing, and its verdicts on them mean nothing.",
    "It was trained on right solutions beside the critiques; how well it solves says nothing of critiques alone.",
)


def evaluate(trainer: Any, heldout: Sequence[dict[str, Any]], generated: int, say: Callable[[str], None], when: str):
    """Loss and verdicts with the critique given, then critiques and solutions written freely.

    Args:
        trainer: A `CFTTrainer` with the held-out rows as its evaluation dataset.
        heldout: These rows.
        generated: So many of them are critiqued and solved freely.
        say: Shows a headline.
        when: Its words for now.

    Returns:
        `metrics` and everything the model wrote: `critiques` (`evaluation.critic.judge`) and `solutions`.
    """
    from cft_trl.evaluation.critic import generate_verdicts, score_verdicts
    from cft_trl.grading.intervals import wilson_interval
    from cft_trl.progress import progress

    say(f"Evaluating {when}: loss and teacher-forced verdicts on {len(heldout)} held-out rows")
    forced = trainer.evaluate()
    chosen = list(heldout[:generated])
    say(f"Evaluating {when}: {len(chosen)} held-out problems, a critique and a solution of each, written freely")
    with progress("texts", 2 * len(chosen)) as advance:
        written: dict[str, Any] = {"batch_size": _BATCH, "on_progress": advance}
        judged = generate_verdicts(
            trainer.model,
            trainer.processing_class,
            chosen,
            prompt_preset="compact",
            max_new_tokens=MAX_CRITIQUE,
            **written,
        )
        solved = solve_strictly(trainer.model, trainer.processing_class, chosen, **written)
    count = int(forced["eval_verdict_count"])
    hits = round(forced["eval_verdict_accuracy"] * count)
    right = sum(one["right"] for one in solved)
    metrics = {
        "critique_loss": forced["eval_critique_loss"],
        "teacher_forced": {
            "rows": count,
            "hits": hits,
            "accuracy": forced["eval_verdict_accuracy"],
            "interval_95": list(wilson_interval(hits, count)),
            "accuracy_right": forced.get("eval_verdict_accuracy_right"),
            "accuracy_wrong": forced.get("eval_verdict_accuracy_wrong"),
        },
        "generated": score_verdicts(judged),
        "solved": {
            "rows": len(solved),
            "hits": right,
            "accuracy": right / len(solved),
            "interval_95": list(wilson_interval(right, len(solved))),
        },
    }
    return {"metrics": metrics, "generations": judged, "solutions": solved}


def solve_strictly(model: Any, tokenizer: Any, rows: Sequence[dict[str, Any]], **kwargs: Any) -> list[dict[str, Any]]:
    """Solves the questions greedily and grades strictly.

    Args:
        model: On its device.
        tokenizer: Its tokenizer.
        rows: Records with `id`, `query` and `reference_answer`.
        kwargs: Other arguments of `generation.modes.solve`.

    Returns:
        One for each row: `id`, `reference_answer`, `solution`, and whether it is `right`.
    """
    from cft_trl.generation.modes import solve
    from cft_trl.grading.grade import grade_many

    texts = solve(model, tokenizer, [row["query"] for row in rows], max_new_tokens=MAX_SOLUTION, **kwargs)
    right = grade_many((text, row["reference_answer"]) for text, row in zip(texts, rows, strict=True))
    return [
        {"id": row["id"], "reference_answer": row["reference_answer"], "solution": text, "right": hit}
        for row, text, hit in zip(rows, texts, right, strict=True)
    ]


def example(row: dict[str, Any], critique: str | None = None) -> str:
    """A row as it is shown: question, solution, critique."""
    written = row["critique"] if critique is None else critique
    lines = [f"Question: {row['query']}", *row["response"].splitlines(), "", *written.splitlines()]
    return "\n".join(f"      {line}" for line in lines)


def summary_rows(before: dict[str, Any], after: dict[str, Any]) -> list[tuple[str, str, str]]:
    """The table's lines: what, before, after."""
    lines: list[tuple[str, Callable[[dict[str, Any]], str]]] = [
        ("critique loss, nats/token", lambda m: f"{m['critique_loss']:.3f}"),
        ("verdict, teacher-forced", lambda m: _accuracy(m["teacher_forced"])),
        ("verdict of free critiques", lambda m: _accuracy(m["generated"])),
        ("  of right solutions", lambda m: _share(m["generated"].get("accuracy_right"))),
        ("  of wrong solutions", lambda m: _share(m["generated"].get("accuracy_wrong"))),
        ("  without a verdict", lambda m: str(m["generated"]["no_verdict"])),
        ("  majority rate", lambda m: _share(m["generated"]["majority_rate"])),
        ("solved, strictly graded", lambda m: _accuracy(m["solved"])),
    ]
    return [(name, told(before), told(after)) for name, told in lines]


def _accuracy(score: dict[str, Any]) -> str:
    low, high = score["interval_95"]
    return f"{score['accuracy']:.1%} ({score['hits']}/{score['rows']}; {low:.0%} to {high:.0%})"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def print_summary(output: Path, metrics: dict[str, Any]) -> None:
    """The table, what it means, and what to try next."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Held-out problems, before and after training")
    for column in ("", "before", "after"):
        table.add_column(column, justify="left" if not column else "right")
    for line in summary_rows(metrics["before"], metrics["after"]):
        table.add_row(*line)
    console = Console()
    console.print()
    console.print(table)
    console.print(
        "In brackets: hits/rows and the 95% Wilson interval. Majority rate: always giving the commoner verdict.",
        style="dim",
    )
    console.print(
        f"""
It was trained on critiques and solutions of problems of one step: the table says how well it does these, and of others
it knows nothing. The model is in {output} (AutoModelForCausalLM.from_pretrained loads it), its card in
{output}/README.md, the curves in {output}/training.png, all it wrote in {output}/after.json.
Three things to try next:

  1. Ask it about a problem that is in no training set:
       cft critique {output} --query "{EXAMPLE["query"]}" \\
           --response "{EXAMPLE["response"]}"
  2. Train on problems of two steps (an hour):
       cft train --config recipes/smollm2-135m/cft.yaml
  3. Train on your own critiques (JSONL with query, response, critique):
       cft train --config recipes/smollm2-135m/cft.yaml --dataset_name rows.jsonl --output_dir runs/mine
""",
        highlight=False,
        soft_wrap=True,
    )
