r"""What a teacher is asked, and how its answer becomes a critique.

The published contract (arXiv 2501.17703; method.md): judge the solution, name its first error, give the correction,
and end with one line, which is all that a parser needs:

    Conclusion: right [END]          or          Conclusion: wrong [END]

The words are ours. One user turn, without a system turn, in the order instruction, question, reference answer (only if
it is to be shown), solution: what many requests share comes first, so that a server's prefix cache can keep it.

    ...⏎⏎Question:⏎What is 6 x 7?⏎⏎Solution:⏎6 x 7 = 43⏎

A domain of one's own brings a template in their place, other verdict words, or both (docs/domains.md).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from cft_trl.data.markup import control_token, plain_answer
from cft_trl.data.prompt_templates import RIGHT_WRONG, numbered, render, response_steps
from cft_trl.data.reservations import taken_back
from cft_trl.data.verdict import contradiction
from cft_trl.data.verdict_vocabulary import Verdicts
from cft_trl.errors import CFTError

_JUDGE = (
    "Below are a question and a solution that someone proposed. Judge whether the solution is right.\n\n"
    "Go through it step by step and check each step by working it out yourself. If a step fails, quote the first one "
    "that does, say what is wrong with it, and give the correct step and how the solution should go on from there. "
    "A solution whose final answer is wrong is wrong. Do not soften your judgement and do not repeat the solution."
)
_BOXED = (
    "\n\nWhen you have judged the solution, state the correct final answer to the question, your own where the "
    "solution's is wrong, as \\boxed{...}."
)
_PER_STEP = (
    "Below are a question and a solution that someone proposed, with its steps numbered. Judge whether the solution is "
    "right.\n\n"
    'Write about every step, in order, under a heading of its own: "Step 1:", "Step 2:" and so on. Under each heading '
    "first say what the step does. Then check it, by working it out yourself or from another side; then look at your "
    "own check again, and say what it may have missed. End what you write about a step by saying that it is right or "
    "that it is wrong. Stop after the first step that is wrong: say what the mistake is, and give the right step. "
    "Steps after it need no judgement. A solution with a wrong step is wrong, and so is one with a wrong final answer."
)

# name -> instruction. `boxed` is the one-shot style: the critique also holds a corrected, boxed answer. `per_step`
# judges every step, and its own judgements (DeepCritic, arXiv 2505.00662); the words are ours.
PRESETS = {"plain": _JUDGE, "boxed": _JUDGE + _BOXED, "per_step": _PER_STEP}

_REFINE = (
    "Below are a question, a student's answer to it, and a critique of that answer. Write the answer that the student "
    "should have given: a complete solution to the question, step by step, that keeps what is sound in the student's "
    "answer and puts right what the critique shows to be wrong. Where the critique itself is mistaken, follow the "
    "mathematics. Mention neither the student nor the critique, and put the final answer in \\boxed{}."
)

_HEADING = re.compile(r"\A[#*_ \t]*Critique:?[*_]*:?[*_ \t]*\r?\n")
_NUMBERED = ("per_step",)
# Its first letter stands before the line's beginning, because `re` runs through a text for a letter quickly.
_VERDICT_LINE = re.compile(r"C(?<=^C)onclusion: (?:right|wrong) \[END\]", re.MULTILINE)


def critique_messages(
    record: Mapping[str, Any],
    preset: str = "plain",
    show_reference: bool = False,
    *,
    template: str | None = None,
    verdicts: Verdicts | None = None,
) -> list[dict[str, str]]:
    r"""The conversation that asks for a critique of a record's response.

    Args:
        record: A row with `query` and `response`, and `reference_answer` where that is to be shown.
        preset: "plain", "boxed" for a critique that also gives the corrected answer in a box, or "per_step" for one
            that judges each step.
        show_reference: Whether the teacher sees the reference answer. Hidden is what was published.
        template: A prompt of one's own in the preset's place, as `check_template` takes it.
        verdicts: The words that a critique concludes with; None for right and wrong.

    Returns:
        One message, `[{"role": "user", "content": ...}]`.

    Raises:
        CFTError: An unknown preset, or a reference answer is to be shown and the row has none.

    Example:
        >>> row = {"id": "a1", "query": "What is 6 x 7?", "response": "43", "reference_answer": "42"}
        >>> text = critique_messages(row)[0]["content"]
        >>> text[-41:]
        '\n\nQuestion:\nWhat is 6 x 7?\n\nSolution:\n43\n'
        >>> "42" in text, "Reference answer:\n42" in critique_messages(row, show_reference=True)[0]["content"]
        (False, True)
    """
    if preset not in PRESETS:
        raise CFTError(f"preset={preset}: unknown; give one of {', '.join(PRESETS)}")
    reference = answer = ""
    if show_reference:
        answer = (record.get("reference_answer") or "").strip()
        if not answer:
            raise CFTError(f"row {record.get('id')}: no reference answer to show; give it or hide the reference")
        reference = f"\n\nReference answer:\n{answer}"
    if template is not None:
        text = render(template, record, verdicts, where="critique.prompt", reference_answer=answer)
        return [{"role": "user", "content": text}]
    asked = f"{PRESETS[preset]}\n\n{(verdicts or RIGHT_WRONG).ending}"
    solution = numbered(response_steps(record["response"])) if preset in _NUMBERED else record["response"]
    text = f"{asked}\n\nQuestion:\n{record['query']}{reference}\n\nSolution:\n{solution}\n"
    return [{"role": "user", "content": text}]


def clean_critique(answer: str, verdicts: Verdicts | None = None) -> str:
    r"""A teacher's answer as a critique: without its thinking, without a heading, ending where it concludes.

    Args:
        answer: The answer's text, as the endpoint gave it.
        verdicts: The words that it concludes with; None for right and wrong.

    Returns:
        The critique; "" where the answer holds nothing but thinking.

    Example:
        >>> clean_critique("<think>Hm.</think>\n\n**Critique:**\nNo, 42.\n\nConclusion: wrong [END]\nSo:")
        'No, 42.\n\nConclusion: wrong [END]'
    """
    text = _HEADING.sub("", plain_answer(answer)).strip()
    if verdicts is not None:
        return verdicts.cut(text)
    *_, last = (None, *_VERDICT_LINE.finditer(text))
    # What goes on to take the conclusion back is kept: such a critique contradicts itself, and is refused for it.
    return text[: last.end()] if last and not taken_back(text[last.end() :]) else text


def refused_critique(text: str, verdicts: Verdicts | None = None) -> str | None:
    r"""Why a cleaned critique is no row's text; `None` where it is one.

    Example:
        >>> refused_critique("Fine.\n\nConclusion: right [END]\n\nWait, it is 12.\n\nConclusion: wrong [END]")
        'contradicts itself: concludes right and wrong'
    """
    if reason := refused_text(text, "critique"):
        return reason
    how = verdicts.contradiction(text) if verdicts else contradiction(text)
    return f"contradicts itself: {how}" if how else None


def refine_messages(record: Mapping[str, Any]) -> list[dict[str, str]]:
    r"""The conversation that asks for the answer refined by the critique (CGD); the reference answer is not shown.

    Args:
        record: A row with `query`, `response` and `critique`.

    Returns:
        One message, `[{"role": "user", "content": ...}]`.

    Example:
        >>> row = {"query": "What is 6 x 7?", "response": "43", "critique": "6 x 7 is 42."}
        >>> refine_messages(row)[0]["content"][-71:]
        "Question:\nWhat is 6 x 7?\n\nStudent's answer:\n43\n\nCritique:\n6 x 7 is 42.\n"
    """
    asked = f"Question:\n{record['query']}\n\nStudent's answer:\n{record['response']}"
    return [{"role": "user", "content": f"{_REFINE}\n\n{asked}\n\nCritique:\n{record['critique']}\n"}]


def answer_messages(query: str, system: str = "") -> list[dict[str, str]]:
    """The conversation that asks for an answer to a query, under a system turn if there is one.

    Example:
        >>> answer_messages("What is 6 x 7?", "Reason step by step.")
        [{'role': 'system', 'content': 'Reason step by step.'}, {'role': 'user', 'content': 'What is 6 x 7?'}]
    """
    turns = [{"role": "system", "content": system}] if system else []
    return [*turns, {"role": "user", "content": query}]


def refused_text(text: str, name: str) -> str | None:
    """Why a model's text, freed of its markup, is no row's text; `None` where it is one.

    Args:
        text: What `plain_answer` or `clean_critique` left.
        name: What it is to be ("critique", "answer").

    Example:
        >>> refused_text("", "critique"), refused_text("So<|im_start|>user", "answer"), refused_text("So.", "answer")
        ('empty critique', 'markup left in the answer: <|im_start|>', None)
    """
    if not text:
        return f"empty {name}"
    token = control_token(text)
    return f"markup left in the {name}: {token}" if token else None
