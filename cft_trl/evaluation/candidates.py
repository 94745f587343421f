r"""Questions with several responses each, for a critic to rank: read, grouped, and graded where the answer is known.

{"query": "What is 6 x 7?", "responses": ["43", "42"], "reference_answer": "42"}      one question a line, or
{"query": "What is 6 x 7?", "response": "43", "reference_answer": "42", "sample": 0}  one response a line, as
                                                                                      `cft solve --samples` writes them
Question("What is 6 x 7?", ("43", "42"), "42")
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cft_trl.data.files import SUFFIXES, read_files
from cft_trl.errors import CFTError
from cft_trl.grading.answers import extract_answer
from cft_trl.grading.benchmarks import gold_after_hashes, gold_as_written, gold_from_solution
from cft_trl.grading.grade import grade_many

QUERY = ("query", "problem", "question")
RESPONSE = ("response", "solution", "text")
REFERENCE = ("reference_answer", "gold", "answer")


@dataclass(frozen=True, slots=True)
class Question:
    """A question with its candidates.

    Attributes:
        query: Its text.
        responses: In the order that they came; texts may repeat.
        reference: The right answer, bare; None where it is not known.
    """

    query: str
    responses: tuple[str, ...]
    reference: str | None = None


def read_questions(data: str, limit: int | None = None) -> tuple[list[Question], int]:
    """Questions from a file, or from any folder or Hub id of rows with query and response.

    Args:
        data: The file (JSONL, JSON, CSV, Parquet), folder or Hub id. Responses to the same question with the same
            reference are its candidates, wherever they stand.
        limit: The first so many questions.

    Returns:
        The questions, and how many rows were left out because they say that they hold no response (`failure`).

    Raises:
        CFTError: It cannot be read, a row lacks its columns, or one question has two references.
    """
    rows = _rows(data)
    found: dict[str, tuple[list[str], str | None]] = {}
    failures = 0
    for row, where in rows:
        query, responses, reference = _read(row, where)
        if responses is None:
            failures += 1
            continue
        of_query = found.setdefault(query, ([], reference))
        if of_query[1] != reference:
            raise CFTError(f"{where}: the question has two reference answers, {of_query[1]!r} and {reference!r}")
        of_query[0].extend(responses)
    if not found:
        raise CFTError(f"{data}: no responses in it")
    questions = [Question(query, tuple(texts), reference) for query, (texts, reference) in found.items()]
    return questions[:limit], failures


def _rows(data: str) -> Iterable[tuple[Mapping[str, Any], str]]:
    if data.endswith(SUFFIXES):
        return read_files([data])
    from cft_trl.sources.local import load_local

    records = load_local(data, split="train" if Path(data).expanduser().exists() else "test")
    return ((row, f"{data}, row {at}") for at, row in enumerate(records))


def _read(row: Any, where: str) -> tuple[str, list[str] | None, str | None]:
    if not isinstance(row, Mapping):
        raise CFTError(f"{where}: a row must be an object with columns; got {type(row).__name__}")
    query = _text(row, QUERY, where)
    reference = next((row[name] for name in REFERENCE if row.get(name) not in (None, "")), None)
    if row.get("responses") is None:
        if row.get("failure"):
            return query, None, None
        return query, [_text(row, RESPONSE, where)], _gold(reference)
    responses = row["responses"]
    if not isinstance(responses, list) or not responses:
        raise CFTError(f"{where}: column 'responses' must be a list of texts, at least one")
    texts = [_text(one, RESPONSE, where) if isinstance(one, Mapping) else one for one in responses]
    if not all(isinstance(text, str) and text.strip() for text in texts):
        raise CFTError(f"{where}: column 'responses' must hold texts, none of them empty")
    return query, texts, _gold(reference)


def _text(row: Mapping[str, Any], names: Sequence[str], where: str) -> str:
    name = next((name for name in names if row.get(name) is not None), None)
    if name is None:
        raise CFTError(f"{where}: no column {' or '.join(names)}; found {', '.join(map(str, row)) or 'none'}")
    if not isinstance(row[name], str) or not row[name].strip():
        raise CFTError(f"{where}: column {name!r} holds no text; give one or leave the row out")
    return row[name]


def _gold(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, str) and "\\boxed" in value:
        return gold_from_solution(value)
    return gold_after_hashes(value) if isinstance(value, str) and "####" in value else gold_as_written(value)


def graded(questions: Sequence[Question]) -> list[list[bool] | None]:
    """Whether each response is right, strictly; None for a question without a reference."""
    known = [question for question in questions if question.reference is not None]
    hits = iter(grade_many([(text, of.reference or "") for of in known for text in of.responses]))
    return [None if of.reference is None else [next(hits) for _ in of.responses] for of in questions]


def groups(questions: Sequence[Question]) -> list[list[int | None]]:
    """Which responses of a question give the same answer: the place of the first that does; None for no answer.

    Example:
        >>> groups([Question("6 x 7?", ("The answer is 42.0.", "The answer is 42.", "The answer is 43."))])
        [[0, 0, 2]]
    """
    answers = [[extract_answer(text) for text in question.responses] for question in questions]
    distinct = [list(dict.fromkeys(answer for answer in of if answer)) for of in answers]
    pairs = [[(one, other) for at, one in enumerate(of) for other in of[:at]] for of in distinct]
    equal = iter(grade_many([pair for of in pairs for pair in of]))
    return [
        _grouped(of, names, {pair: next(equal) for pair in between})
        for of, names, between in zip(answers, distinct, pairs, strict=True)
    ]


def _grouped(
    answers: Sequence[str | None], distinct: Sequence[str], equal: Mapping[tuple[str, str], bool]
) -> list[int | None]:
    leaders: dict[str, str] = {}
    for at, one in enumerate(distinct):
        leaders[one] = next((other for other in distinct[:at] if leaders[other] == other and equal[one, other]), one)
    first = {leader: next(_places(answers, leaders, leader)) for leader in set(leaders.values())}
    return [first[leaders[answer]] if answer else None for answer in answers]


def _places(answers: Sequence[str | None], leaders: Mapping[str, str], leader: str) -> Iterator[int]:
    return (at for at, answer in enumerate(answers) if answer and leaders[answer] == leader)
