r"""Which checkpoint to keep: every saved one is scored on validation problems, the best is `best`.

    runs/mine/selection.json            the curve, the winner, and whether it is clearly the winner
    runs/mine/selection.png             the curve, drawn
    runs/mine/best                      link to the winner's model files; from_pretrained loads it
    runs/mine/_selected/step-40/        model files of the best checkpoints (hard links: no disk space of their own)
    runs/mine/_selected/math-validation-0f5a…/step-40.json, .jsonl      its score, its texts with hit or miss

    {"step": 40, "hits": 31, "of": 50, "score": 0.62, "interval_95": [0.482, 0.741], "truncated": 0.04, …}
    {"step": 10, "hits": 9, "of": 25, …, "left": {"after": 25, "against": 40, "lost": 9, "won": 1, "p": 0.0107}}

While training (select_callback.py) or afterwards (`cft select`), by a race (race.py): `of` says how many problems a
checkpoint has answered. Files in `_selected` stay when `save_total_limit` removes the checkpoint they came from.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from cft_trl.data.digests import content_digest
from cft_trl.data.folders import write_text
from cft_trl.data.prompts import Wording, told_wording
from cft_trl.data.records import reading_digest
from cft_trl.errors import CFTError
from cft_trl.evaluation.backends import not_answered
from cft_trl.evaluation.racing import LeavingRule, race_of
from cft_trl.evaluation.validation import ValidationSet, joined
from cft_trl.generation.types import Generation
from cft_trl.grading.grader_version import grader_version
from cft_trl.models.adapters import base_changed
from cft_trl.models.run_record import read_record, run_of
from cft_trl.training.choice import choose, ranked
from cft_trl.training.kept_models import fingerprint, link_model, point_best, remove

SELECTION_FILE = "selection.json"
_KEPT = "_selected"  # what begins with "_" or "checkpoint-" is not pushed to the Hub


def checkpoints_of(run: Path) -> dict[int, Path]:
    """Step -> folder with a model: a run's checkpoints, and those kept in `_selected` of checkpoints that are gone."""
    found, mine = {}, read_record(run).get("run")
    for pattern in (f"{_KEPT}/step-*", "checkpoint-*"):
        for path in run.glob(pattern):
            number = path.name.rpartition("-")[2]
            whole = number.isdigit() and (path / "trainer_state.json").is_file()
            if whole and (mine is None or run_of(path) in (None, mine)):
                found[int(number)] = path
    return dict(sorted(found.items()))


def check_checkpoints(run: Path) -> None:
    """
    Raises:
        CFTError: The run has no checkpoint to choose from.
    """
    if not checkpoints_of(run):
        raise CFTError(
            f"'{run}' holds no complete checkpoint-N folder; train with save_strategy steps, and with "
            "save_total_limit high enough to keep those to choose from"
        )


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
        rule: When a checkpoint leaves the race; scores do not depend on it.
    """

    run: Path
    validation: ValidationSet
    prompt_preset: str | Wording = "paper"
    keep: int = 1
    generator: str = "transformers"
    address: str | None = None
    adapter_base: str | None = None
    rule: LeavingRule = field(default_factory=LeavingRule)

    @property
    def settings(self) -> dict[str, Any]:
        """What a score depends on beside the checkpoint."""
        validation = self.validation
        return {
            "benchmark": validation.name,
            "kind": validation.kind,
            "rows": len(validation.rows),
            "digest": validation.digest,
            "prompt_preset": told_wording(self.prompt_preset) if validation.kind == "verdicts" else None,
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
        """As `checkpoints_of`, of this run."""
        return checkpoints_of(self.run)

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

    def settled(self) -> list[dict[str, Any]]:
        """The points that stand: of those that have answered everything, and of those that left the race; of the
        latter by another rule only where the model is gone and nothing can be asked any more."""
        there, curve = self.checkpoints(), self.curve()
        present = {point["step"] for point in curve} & there.keys()
        return [
            point
            for point in curve
            if point["of"] == len(self.validation.rows)
            or self.has_left(point, present)
            or (point.get("left") and point["step"] not in there)
        ]

    def has_left(self, point: Mapping[str, Any], present: Collection[int]) -> bool:
        """Whether a checkpoint has left the race that is run now: one whose leader is gone is back in it.

        Args:
            present: Steps that are on the curve and whose model is still there.
        """
        left = point.get("left", {})
        return left.get("rule") == self.rule.told and left["against"] in present

    def may_leave(self) -> bool:
        """Whether more are in the race than stay in any case."""
        points, there = {point["step"]: point for point in self.curve()}, self.checkpoints()
        present = points.keys() & there.keys()
        return sum(not self.has_left(points.get(step, {}), present) for step in there) > self.keep

    def grade_anew(self) -> None:
        """Grades the texts that are kept again where graders have changed since; who leaves is then judged anew."""
        there = self.checkpoints()
        for point in self.curve():
            if point["grader"] != grader_digest() and (path := there.get(point["step"])):
                kept = self._texts(point["step"])
                texts = {
                    at: Generation(line["text"], line["finish_reason"], None, line.get("tokens")) for at, line in kept
                }
                self.record(point["step"], path, texts, {})

    def lacking(self, dealt: Sequence[int]) -> dict[int, tuple[Path, list[int]]]:
        """Step -> the checkpoint, and which of these problems it has still to answer, of those in the race."""
        points, there, found = {point["step"]: point for point in self.curve()}, self.checkpoints(), {}
        present = points.keys() & there.keys()
        for step, path in there.items():
            point = points.get(step, {})
            right = point.get("right") or "-" * len(self.validation.rows)
            if not self.has_left(point, present) and (rows := [at for at in dealt if right[at] == "-"]):
                found[step] = (path, rows)
        return found

    def _texts(self, step: int) -> list[tuple[int, dict[str, Any]]]:
        """(which problem, its line) of what a checkpoint has answered."""
        lines = (self.folder / f"step-{step}.jsonl").read_text(encoding="utf-8").strip("\n").split("\n")
        return [(line.get("row", at), line) for at, line in enumerate(map(json.loads, lines))]

    def record(
        self,
        step: int,
        checkpoint: Path,
        generations: Mapping[int, Generation],
        before: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Grades texts of a checkpoint and writes everything down; returns its point of the curve.

        Args:
            step: The step the checkpoint was saved at.
            checkpoint: Its folder.
            generations: Its texts, by the place of their problem in the set.
            before: The checkpoint's point, whose answers these are added to; by default that of the curve.

        Raises:
            CFTError: An endpoint refused to write some of them: a refusal is no text, and a score of it would stay.
        """
        refused = [made.failure for made in generations.values() if made.refused]
        if error := not_answered(f"problems for step {step}", refused, len(generations)):
            raise error
        if before is None:
            before = next((point for point in self.curve() if point["step"] == step), {})
        places = sorted(generations)
        summary, hits = self.validation.score([generations[at] for at in places], places, self.prompt_preset)
        rows = self.validation.rows
        # A run that was killed may have left texts that no point knows of.
        kept = self._texts(step) if before else []
        lines = {at: line for at, line in kept if before["right"][at] != "-"}
        for at, hit in zip(places, hits, strict=True):
            made = generations[at]
            told = {"text": made.text, "finish_reason": made.finish_reason, "tokens": made.completion_tokens}
            lines[at] = {"row": at, "id": rows[at].get("id"), "hit": hit, **told}
        right = ["-"] * len(rows)
        for at, line in lines.items():
            right[at] = "1" if line["hit"] else "0"
        tokens: list[Any] = [line.get("tokens") for line in lines.values()]
        point = {
            "step": step,
            **(joined(before, summary) if before else summary),
            "tokens": None if None in tokens else sum(tokens),
            "run": self.run_id,
            "fingerprint": fingerprint(checkpoint, self.adapter_base),
            "grader": grader_digest(),
            "right": "".join(right),
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        texts = "\n".join(json.dumps(lines[at], ensure_ascii=False) for at in sorted(lines))
        # The point last: it says how much of the texts counts. Texts that it does not know of are asked for again.
        write_text(self.folder / f"step-{step}.jsonl", texts)
        self.write(point)
        return point

    def write(self, point: Mapping[str, Any]) -> None:
        """Writes down a point of the curve."""
        write_text(self.folder / f"step-{point['step']}.json", json.dumps(point))

    def finish(self) -> dict[str, Any]:
        """Writes selection.json, the plot and `best` from the points there are; removes what is not among the best.

        A model that has not come to the end of the race stays: what is kept of it may be all there is.

        Returns:
            What is in selection.json; {} where no checkpoint has answered all problems yet.
        """
        from cft_trl.hub.run_card import write_selection_section
        from cft_trl.plots import plot_selection

        checkpoints, points = self.checkpoints(), self.settled()
        validation, chosen = self.validation, choose(points, set(checkpoints))
        if chosen is None:
            return {}
        told: dict[str, Any] = {"notes": list(validation.notes), "majority_rate": validation.majority_rate}
        if any(point.get("left") for point in points):
            told["race"] = race_of(points, self.rule, len(validation.rows), self.keep)
        # Of all checkpoints the base is the same.
        first = next(iter(checkpoints.values()))
        if (first / "adapter_config.json").is_file() and (changed := base_changed(str(first), base=self.adapter_base)):
            told["base_changed"] = changed
        result = {"run": self.run_id, **self.settings, **told, **chosen}
        kept = [point["step"] for point in ranked(result["curve"]) if point["step"] in checkpoints][: self.keep]
        for step in kept:
            link_model(checkpoints[step], self.run / _KEPT / f"step-{step}")
        point_best(self.run, Path(_KEPT) / f"step-{result['winner']['step']}")
        running = checkpoints.keys() - {point["step"] for point in points}
        for path in (self.run / _KEPT).glob("step-*"):
            if int(path.name.rpartition("-")[2]) not in {*kept, *running}:
                shutil.rmtree(path)
        result["kept"] = [f"{_KEPT}/step-{step}" for step in kept]
        write_text(self.run / SELECTION_FILE, json.dumps(result, indent=2))
        plot_selection(result, self.run / "selection.png")
        write_selection_section(self.run)
        return result


@cache
def grader_digest() -> str:
    """A digest of what makes hits of texts: our code, and the libraries that it reads with."""
    return content_digest([grader_version(), reading_digest()])
