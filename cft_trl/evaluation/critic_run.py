"""`cft eval-critic`: a model critiques labelled solutions; every generation is kept and every figure counted from them.

    OUT/critic.json                     the figures, by subset, with everything that they depend on
    OUT/generations/gsm8k.parquet       id, query, response, truth, first_error, text, verdict, named_step, …
    OUT/journal/critic.jsonl            each critique as it came; the same command goes on from there after kill -9
    OUT/run.json                        whose folder it is (`claims.py`)

Critiques are asked for as in training: one user turn, no system turn, greedily.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cft_trl.data.digests import content_digest
from cft_trl.data.folders import check_writable, write_text
from cft_trl.data.prompts import Prompting, Wording, chat_messages, told_wording
from cft_trl.errors import CFTError
from cft_trl.evaluation.backends import Backend, circumstances, not_answered, out_of_memory
from cft_trl.evaluation.claims import take_folder, tell_fingerprints
from cft_trl.evaluation.critic import judge, score_verdicts
from cft_trl.evaluation.processbench import CriticRow, sampled_critic_rows, whole_critic_rows
from cft_trl.evaluation.sampling import verdict as by_verdict
from cft_trl.generation.generate import requests_of
from cft_trl.generation.journal import Journal, request_key
from cft_trl.generation.journaled import Journaled, graded_entry
from cft_trl.grading.revisions import read_at
from cft_trl.progress import progress

FILE = "critic.json"
COLUMNS = {
    "id": "string", "subset": "string", "query": "string", "response": "string", "truth": "string",
    "first_error": "int32", "steps": "int32", "prompt": "string", "text": "string", "finish_reason": "string",
    "prompt_tokens": "int32", "completion_tokens": "int32", "verdict": "string", "named_step": "int32",
    "fingerprint": "string",
}  # fmt: skip
OWN_COLUMNS = {"grade": "string", "said": "string", "off": "int32"}  # in verdict words of one's own; of a pair said

Messages = list[dict[str, str]]


@dataclass(frozen=True)
class CriticSettings:
    """What a critic is asked; the model and where it runs are a `Backend`.

    Attributes:
        data, subsets, limit: As for `load_critic_rows`.
        prompt_preset: Wording of the prompt, as the model was trained with.
        max_new_tokens: Limit per critique.
    """

    data: str = "processbench"
    subsets: tuple[str, ...] = ()
    limit: int | None = None
    prompt_preset: str | Wording = "paper"
    max_new_tokens: int = 512

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON holds them."""
        return {**asdict(self), "prompt_preset": told_wording(self.prompt_preset)}


def run_eval_critic(
    settings: CriticSettings, backend: Backend, output: Path, *, ask_again: bool = False
) -> dict[str, Any]:
    """Lets the model critique the rows and counts; what is in the folder already is not asked again.

    Args:
        settings: What is asked.
        backend: Who is asked. Its model is loaded only if a critique is missing.
        output: The folder; made if it is not there.
        ask_again: Whether everything is asked anew; the same call without it goes on with that.

    Returns:
        The content of `critic.json`.

    Raises:
        CFTError: The rows, the model or the endpoint cannot be had, some requests were not answered but refused, or the
            folder is of another run, of a model that is another by now, or of other rows. What was generated until then
            is kept; no figure is written.
    """
    whole = whole_critic_rows(settings.data, settings.subsets or None, settings.limit)
    rows, samples = sampled_critic_rows(whole, settings.limit)
    check_writable(output)
    # Limit and subsets may change from one call to the next: what is there is used again.
    fixed = {name: value for name, value in settings.to_dict().items() if name not in ("subsets", "limit")}
    fixed["data"] = Path(settings.data).name  # where a file lies is no part of what it is; its rows are compared
    asked_of = {name: (of_subset, settings.limit) for name, of_subset in whole.items()}
    claim = take_folder(output, "eval-critic", backend, fixed, asked_of, stratum=by_verdict)
    if ask_again:
        claim.begin_round()
    started = time.time()
    asked = [(row, *_request(row, settings, claim.key)) for of_subset in rows.values() for row in of_subset]
    with Journal(output / "journal", "critic") as journal:
        claim.tell_whose("critic")
        todo = {key: messages for _, messages, key in asked if key not in journal}
        kept = sum(key not in todo for _, _, key in asked)
        if todo:
            claim.may_ask(kept)
            _generate(todo, settings, Journaled(backend.generator(), journal, claim.key, graded_entry))
        lines = [_line(row, messages, journal.get(key) or {}, settings) for row, messages, key in asked]
        without = {name for _, _, key in asked for name in (journal.get(key) or {}).get("without", ())}
    figures = {}
    for subset in rows:
        of_subset = [line for line in lines if line["subset"] == subset]
        _write(output / "generations" / f"{subset}.parquet", of_subset)
        figures[subset] = score_lines(of_subset)
    result = {
        "model": backend.model,
        "revision": backend.commit(),
        "identity": claim.identity,
        **({"run": run_id} if (run_id := backend.run_id()) else {}),
        **({"base_changed": changed} if (changed := backend.base_changed()) else {}),
        "backend": backend.kind,
        **settings.to_dict(),
        **({"data_revision": commit} if (commit := read_at("processbench")) else {}),
        "problems": {name: {"rows": len(of), "texts": content_digest(list(of))} for name, of in rows.items()},
        **({"fingerprints": dict(told)} if (told := _fingerprints(lines)) else {}),
        **({"sample": samples} if samples else {}),
        "temperature": 0.0,
        **({"extra": extra} if (extra := getattr(backend, "extra", None)) else {}),
        **({"asked_without": sorted(without)} if without else {}),
        "round": claim.round,
        "subsets": figures,
        **({"average": _average(figures)} if len(figures) > 1 else {}),
        **circumstances(),
        "seconds": round(time.time() - started, 1),
        "from_journal": kept,
    }
    tell_fingerprints(told)
    write_text(output / FILE, json.dumps(result, indent=1, ensure_ascii=False))
    return result


def score_lines(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A subset's figures from its rows in `generations/<subset>.parquet`; nothing else is needed for them."""
    counted = [line["completion_tokens"] for line in lines if line["completion_tokens"] is not None]
    return {
        **score_verdicts(lines),
        "mean_completion_tokens": sum(counted) / len(counted) if counted else None,
        "truncated": sum(line["finish_reason"] == "length" for line in lines) / len(lines),
        "failed": sum(line["finish_reason"] == "failed" for line in lines),
    }


def _fingerprints(lines: Sequence[Mapping[str, Any]]) -> Counter[str]:
    return Counter(told for line in lines if (told := line["fingerprint"]))


def _request(row: CriticRow, settings: CriticSettings, who: str) -> tuple[Messages, str]:
    messages = chat_messages(Prompting("cft", preset=settings.prompt_preset).user_turn(row))
    return messages, request_key(who, messages, {"temperature": 0.0, "max_tokens": settings.max_new_tokens})


def _generate(todo: Mapping[str, Messages], settings: CriticSettings, critic: Journaled) -> None:
    """Fills the journal with what is missing."""
    sampling: dict[str, Any] = {"max_new_tokens": settings.max_new_tokens, "temperature": 0.0}
    requests = requests_of(critic.asked, list(todo.values()), keys=list(todo), **sampling)
    with progress("critiques", len(todo)) as advance, out_of_memory("the model's memory is used up while it generates"):
        critic.fill(requests, advance)
    if error := not_answered("solutions", critic.refused, len(todo)):
        raise error


def _line(row: CriticRow, messages: Messages, answer: Mapping[str, Any], settings: CriticSettings) -> dict[str, Any]:
    text = answer.get("text") or ""
    found = judge(row, text, settings.prompt_preset)
    return {
        **{name: row[name] for name in ("id", "subset", "query", "response")},
        **{name: found[name] for name in ("truth", "first_error", "steps", "verdict", "named_step")},
        **{name: found[name] for name in OWN_COLUMNS if name in found},
        "prompt": json.dumps(messages, ensure_ascii=False),
        "text": text,
        "finish_reason": answer.get("finish_reason", "failed"),
        **{name: answer.get(name) for name in ("prompt_tokens", "completion_tokens", "fingerprint")},
    }


def _write(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    partial = path.with_name(f".{path.name}.partial")
    columns = [*COLUMNS.items(), *((name, kind) for name, kind in OWN_COLUMNS.items() if lines and name in lines[0])]
    try:
        path.parent.mkdir(exist_ok=True)
        pq.write_table(pa.Table.from_pylist(list(lines), pa.schema(columns)), partial, compression="zstd")
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise CFTError(f"{path}: cannot be written ({error.strerror or error}); make room and run it again") from None


def _average(figures: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """ProcessBench's last column: means over the subsets, each with the same weight."""
    flat = [
        {**score, **{f"first_error_{name}": value for name, value in score.get("first_error", {}).items()}}
        for score in figures.values()
    ]
    names = ("accuracy", "accuracy_right", "accuracy_wrong", "f1", "first_error_accuracy", "first_error_f1")
    return {name: sum(s[name] for s in flat) / len(flat) for name in names if all(name in score for score in flat)}
