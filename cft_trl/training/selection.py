r"""Which checkpoint to keep: every saved one is scored on validation problems, the best is `best`.

    runs/mine/selection.json            the curve, the winner, and whether it is clearly the winner
    runs/mine/selection.png             the curve, drawn
    runs/mine/best                      link to the winner's model files; from_pretrained loads it
    runs/mine/_selected/step-40/        model files of the best checkpoints (hard links: no disk space of their own)
    runs/mine/_selected/math-validation-0f5a…/step-40.json, .jsonl      its score, its texts with hit or miss

    {"step": 40, "hits": 31, "of": 50, "score": 0.62, "interval_95": [0.482, 0.741], "truncated": 0.04, …}

While training (`SelectBestCheckpoint`) or afterwards (`cft select`). A model that is whole on every process (one
process, DDP, ZeRO-1 and -2) writes its texts as it is in memory. A sharded one (FSDP, ZeRO-3) would gather its weights
anew for every token, so there each process loads the checkpoint that was just saved, a whole copy beside its shard,
and frees it afterwards. Either way the problems are dealt out to the processes and what they wrote is graded by the
first. Files in `_selected` stay when `save_total_limit` removes the checkpoint they came from.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from cft_trl.data.digests import content_digest
from cft_trl.data.folders import write_text
from cft_trl.data.records import code_digest
from cft_trl.errors import CFTError
from cft_trl.evaluation.backends import not_answered
from cft_trl.evaluation.validation import ValidationSet, load_validation
from cft_trl.generation.local import Generation, LocalModel
from cft_trl.grading.grader_version import grader_version
from cft_trl.models.adapters import base_changed
from cft_trl.models.run_record import read_record, run_of
from cft_trl.training.kept_models import check_weights, fingerprint, link_model, point_best, remove

SELECTION_FILE = "selection.json"
_KEPT = "_selected"  # what begins with "_" or "checkpoint-" is not pushed to the Hub
_UNSHOWN = ("run", "fingerprint", "grader")


@dataclass(frozen=True)
class Selection:
    """The book-keeping of one run's selection on one validation set; all of it is in files.

    Args:
        run: Folder that holds `checkpoint-N`.
        validation: What checkpoints are scored on.
        prompt_preset: Wording of the critique prompt.
        keep: How many of the best are kept in `_selected`.
        generator: How texts were made ("transformers", "vllm", ...): scores of one must not be mixed with another's.
        address: Of the server that made them, and further fields of its requests; likewise.
        adapter_base: What adapters are put on in place of the base they name.
    """

    run: Path
    validation: ValidationSet
    prompt_preset: str = "paper"
    keep: int = 1
    generator: str = "transformers"
    address: str | None = None
    adapter_base: str | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """What a score depends on beside the checkpoint."""
        validation = self.validation
        return {
            "benchmark": validation.name,
            "kind": validation.kind,
            "rows": len(validation.rows),
            "digest": validation.digest,
            "prompt_preset": self.prompt_preset if validation.kind == "verdicts" else None,
            "max_new_tokens": validation.max_new_tokens,
            "generator": self.generator,
            **({"address": self.address} if self.address else {}),
        }

    @property
    def run_id(self) -> str | None:
        """The id of the run whose checkpoints these are."""
        return read_record(self.run).get("run")

    @property
    def folder(self) -> Path:
        told = hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()[:8]
        return self.run / _KEPT / f"{Path(self.validation.name).name}-{told}"

    def checkpoints(self) -> dict[int, Path]:
        """Step -> folder with a model: this run's checkpoints, and those kept here of checkpoints that are gone."""
        found, mine = {}, self.run_id
        for pattern in (f"{_KEPT}/step-*", "checkpoint-*"):
            for path in self.run.glob(pattern):
                number = path.name.rpartition("-")[2]
                whole = number.isdigit() and (path / "trainer_state.json").is_file()
                if whole and (mine is None or run_of(path) in (None, mine)):
                    found[int(number)] = path
        return dict(sorted(found.items()))

    def curve(self) -> list[dict[str, Any]]:
        """This run's points, by step: of a checkpoint that is still there only if its model is the one scored."""
        points, there = [], self.checkpoints()
        for path in self.folder.glob("step-*.json"):
            point = json.loads(path.read_text(encoding="utf-8"))
            step = point["step"]
            if point.get("run") == self.run_id and (
                step not in there or point["fingerprint"] == fingerprint(there[step], self.adapter_base)
            ):
                points.append(point)
        return sorted(points, key=lambda point: point["step"])

    def forget_after(self, step: int) -> None:
        """Drops what is there of later steps: from a run that began anew, or goes on from an earlier checkpoint."""
        later = [
            path
            for path in (self.run / _KEPT).glob("**/step-*")
            if int(path.name.split(".")[0].rpartition("-")[2]) > step
        ]
        for path in later:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if later:  # until the next checkpoint is scored nothing is chosen
            for name in (SELECTION_FILE, "selection.png", "best"):
                remove(self.run / name)

    def unscored(self) -> dict[int, Path]:
        """Checkpoints without a score; one that was trained anew has none. Where graders have changed since, the texts
        that were kept are graded anew."""
        scored = {point["step"]: point for point in self.curve()}
        for step, point in scored.items():
            if point["grader"] != grader_digest() and (path := self.checkpoints().get(step)):
                self.record(step, path, self._texts(step))
        return {step: path for step, path in self.checkpoints().items() if step not in scored}

    def _texts(self, step: int) -> list[Generation]:
        lines = (self.folder / f"step-{step}.jsonl").read_text(encoding="utf-8").strip("\n").split("\n")
        return [Generation(line["text"], line["finish_reason"], None, None) for line in map(json.loads, lines)]

    def record(self, step: int, checkpoint: Path, generations: Sequence[Generation]) -> dict[str, Any]:
        """Grades the texts of a checkpoint and writes everything down; returns its point of the curve.

        Args:
            step: The step the checkpoint was saved at.
            checkpoint: Its folder.
            generations: Its texts, one per row of `validation`.

        Raises:
            CFTError: An endpoint refused to write some of them: a refusal is no text, and a score of it would stay.
        """
        refused = [made.failure for made in generations if made.refused]
        if error := not_answered(f"problems for step {step}", refused, len(generations)):
            raise error
        summary, hits = self.validation.score(generations)
        model = fingerprint(checkpoint, self.adapter_base)
        told = {"run": self.run_id, "fingerprint": model, "grader": grader_digest()}
        point = {"step": step, **summary, **told}
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = [
            {"id": row.get("id"), "hit": hit, "text": made.text, "finish_reason": made.finish_reason}
            for row, made, hit in zip(self.validation.rows, generations, hits, strict=True)
        ]
        texts = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
        write_text(self.folder / f"step-{step}.jsonl", texts)
        write_text(self.folder / f"step-{step}.json", json.dumps(point))
        return point

    def finish(self) -> dict[str, Any]:
        """Writes selection.json, the plot and `best` from the points there are; removes what is not among the best."""
        from cft_trl.hub.run_card import write_selection_section
        from cft_trl.plots import plot_selection

        checkpoints = self.checkpoints()
        validation, chosen = self.validation, choose(self.curve(), set(checkpoints))
        told: dict[str, Any] = {"notes": list(validation.notes), "majority_rate": validation.majority_rate}
        # Of all checkpoints the base is the same.
        first = next(iter(checkpoints.values()))
        if (first / "adapter_config.json").is_file() and (changed := base_changed(str(first), base=self.adapter_base)):
            told["base_changed"] = changed
        result = {"run": self.run_id, **self.settings, **told, **chosen}
        kept = [point["step"] for point in ranked(result["curve"]) if point["step"] in checkpoints][: self.keep]
        for step in kept:
            link_model(checkpoints[step], self.run / _KEPT / f"step-{step}")
        point_best(self.run, Path(_KEPT) / f"step-{result['winner']['step']}")
        for path in (self.run / _KEPT).glob("step-*"):
            if int(path.name.rpartition("-")[2]) not in kept:
                shutil.rmtree(path)
        result["kept"] = [f"{_KEPT}/step-{step}" for step in kept]
        write_text(self.run / SELECTION_FILE, json.dumps(result, indent=2))
        plot_selection(result, self.run / "selection.png")
        write_selection_section(self.run)
        return result


def ranked(curve: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Best first; of equals the earlier step, which cost less.

    Example:
        >>> [p["step"] for p in ranked([{"step": 4, "hits": 7}, {"step": 2, "hits": 7}, {"step": 6, "hits": 9}])]
        [6, 2, 4]
    """
    return sorted(curve, key=lambda point: (-point["hits"], point["step"]))


def choose(curve: Sequence[Mapping[str, Any]], available: Collection[int]) -> dict[str, Any]:
    """-> the curve, the winner, the steps whose 95% intervals overlap the winner's, and a sentence that says so.

    Args:
        available: Steps whose model is still there; only these can win.
    """
    best, *_ = ranked(curve)
    winner = next(point for point in ranked(curve) if point["step"] in available)
    low = winner["interval_95"][0]
    rivals = [point["step"] for point in curve if point is not winner and point["interval_95"][1] >= low]
    told = f"step {winner['step']}: {winner['hits']} of {winner['of']}"
    if rivals:
        steps = ", ".join(map(str, rivals))
        told += f"; not clearly better than step{'s' * (len(rivals) > 1)} {steps}, whose 95% intervals overlap its own"
    elif len(curve) > 1:
        told += "; no other checkpoint's 95% interval overlaps its own"
    if best is not winner:
        told += f" (step {best['step']} had {best['hits']}, but its model is gone)"
    shown = [{name: value for name, value in point.items() if name not in _UNSHOWN} for point in curve]
    return {
        "curve": shown,
        "winner": {"step": winner["step"], "score": winner["score"], "interval_95": winner["interval_95"]},
        "overlapping": rivals,
        "verdict": told,
    }


@cache
def grader_digest() -> str:
    """A digest of what makes hits of texts: our code, and the libraries that it reads with."""
    return content_digest([grader_version(), code_digest()])


def select(
    selection: Selection,
    generate: Callable[[int, Path, list[Any]], list[Generation]],
    *,
    on_point: Callable[[Mapping[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Scores what is not scored yet and chooses. With several processes each calls it, and each does its part.

    Args:
        generate: (step, checkpoint, conversations) -> their generations, for this process's conversations.
        on_point: Called by the first process with each new point.

    Returns:
        The content of selection.json; an empty dict on the other processes.

    Raises:
        CFTError: There is no checkpoint, or one without weights.
    """
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list, gather_object

    process = PartialState()
    process.wait_for_everyone()  # the first process may still be writing the checkpoint
    if not selection.checkpoints():
        raise CFTError(
            f"'{selection.run}' holds no complete checkpoint-N folder; train with save_strategy steps, and with "
            "save_total_limit high enough to keep those to choose from"
        )
    [todo] = broadcast_object_list([selection.unscored()])
    conversations = selection.validation.conversations(selection.prompt_preset)
    mine = range(process.process_index, len(conversations), process.num_processes)
    for step, checkpoint in todo.items():
        check_weights(checkpoint)
        made = generate(step, checkpoint, [conversations[i] for i in mine])
        parts = gather_object(list(zip(mine, made, strict=True)))
        if process.is_main_process:
            point = selection.record(step, checkpoint, [generation for _, generation in sorted(parts, key=_index)])
            selection.finish()
            if on_point:
                on_point(point)
    return selection.finish() if process.is_main_process else {}


def _index(part: tuple[int, Generation]) -> int:
    return part[0]


class SelectBestCheckpoint(TrainerCallback):
    """Scores every checkpoint on validation problems as it is saved, and keeps the best (see the top of this file).

    Args:
        validation: A `ValidationSet`, or a name or file that `load_validation` takes.
        limit, max_new_tokens, force: As for `load_validation`.
        keep: How many of the best are kept, beside what `save_total_limit` keeps.
        batch_size: Problems computed together.

    Raises:
        CFTError: As `load_validation`; when training begins, that nothing will be saved.

    Example:
        >>> from cft_trl import CFTTrainer
        >>> trainer = CFTTrainer(..., callbacks=[SelectBestCheckpoint("math-validation", limit=100)])  # doctest: +SKIP
    """

    def __init__(
        self,
        validation: ValidationSet | str = "math-validation",
        *,
        limit: int | None = None,
        max_new_tokens: int | None = None,
        keep: int = 1,
        batch_size: int = 16,
        force: bool = False,
    ) -> None:
        if keep < 1 or batch_size < 1:
            raise CFTError(f"keep={keep}, batch_size={batch_size}: give 1 or more")
        if isinstance(validation, str):
            validation = load_validation(validation, limit, max_new_tokens=max_new_tokens, force=force)
        self.validation, self.keep, self.batch_size = validation, keep, batch_size

    def on_train_begin(self, args, state, control, **kwargs):
        if args.save_strategy == "no":
            raise CFTError("save_strategy=no: there will be no checkpoint to choose from; set save_strategy: steps")
        if state.is_world_process_zero:
            self._selection(args).forget_after(state.global_step)

    def on_save(self, args, state, control, model=None, processing_class=None, **kwargs):
        def generate(step: int, checkpoint: Path, conversations: list[Any]) -> list[Generation]:
            limit = self.validation.max_new_tokens
            if step == state.global_step and is_whole(model):
                here = LocalModel(model, processing_class, self.batch_size)
                return here.generate(conversations, max_new_tokens=limit)
            with whole_copy(checkpoint, getattr(args, "hf_deepspeed_config", None)) as (loaded, tokenizer):
                return LocalModel(loaded, tokenizer, self.batch_size).generate(conversations, max_new_tokens=limit)

        select(self._selection(args), generate, on_point=lambda point: print(tell(point), flush=True))

    def _selection(self, args: Any) -> Selection:
        return Selection(Path(args.output_dir), self.validation, getattr(args, "prompt_preset", "paper"), self.keep)


def selection_callbacks(script: Any, config: Any) -> list[SelectBestCheckpoint]:
    """The callback that a run's settings `select_benchmark`, `select_limit`, `select_keep` ask for, or none.

    Raises:
        CFTError: They contradict the others, or the validation set is refused.
    """
    if not script.select_benchmark:
        return []
    if config.save_strategy == "no":
        raise CFTError("select_benchmark chooses among checkpoints, but save_strategy=no saves none; set it to steps")
    return [SelectBestCheckpoint(script.select_benchmark, limit=script.select_limit, keep=script.select_keep)]


def tell(point: Mapping[str, Any]) -> str:
    """A point of the curve as a line.

    Example:
        >>> tell({"step": 40, "hits": 31, "of": 50, "score": 0.62, "interval_95": [0.482, 0.741]})
        '  step 40   validation 31/50, 62.0% (95% 48.2% to 74.1%)'
    """
    low, high = point["interval_95"]
    share = f"{point['score']:.1%} (95% {low:.1%} to {high:.1%})"
    return f"  step {point['step']}   validation {point['hits']}/{point['of']}, {share}"


def is_whole(model: Any) -> bool:
    """Whether this process holds all of every parameter: neither FSDP2's DTensors nor ZeRO-3's parts."""
    from torch.distributed.tensor import DTensor

    return not any(isinstance(parameter, DTensor) or hasattr(parameter, "ds_id") for parameter in model.parameters())


@contextmanager
def whole_copy(checkpoint: Path, deepspeed_config: Any) -> Iterator[tuple[Any, Any]]:
    """The checkpoint's model and tokenizer, whole on this process, while training goes on sharded.

    transformers shards what `from_pretrained` loads, and lets `generate` wait for the other processes, as long as it
    finds the launcher's settings; they are put aside meanwhile.
    """
    from accelerate import PartialState
    from transformers.integrations import deepspeed

    from cft_trl.generation.serving import scoring_dtype
    from cft_trl.models.loading import load_model

    fsdp = os.environ.pop("ACCELERATE_USE_FSDP", None)
    deepspeed.unset_hf_deepspeed_config()
    try:
        model, tokenizer = load_model(str(checkpoint), dtype=scoring_dtype(str(checkpoint)))
        yield model.to(PartialState().device), tokenizer
    finally:
        if fsdp is not None:
            os.environ["ACCELERATE_USE_FSDP"] = fsdp
        if deepspeed_config is not None:
            deepspeed.set_hf_deepspeed_config(deepspeed_config)
