"""One arm at one seed: its learning rate is chosen, it is trained in both views and tested.

    OUT/arms/cft/seed-0/result.json

    {"arm": "cft", "seed": 0, "validation": {"0.0003": 0.41, "0.001": 0.44, "0.003": 0.39},
     "views": {"tokens": {"learning_rate": 0.001, "rows": 401, "target_tokens": 24011, "digest": "…", "probed": […]},
               "rows": {…}}, "seconds": 312.0}

The learning rate is the best of three on validation problems in the view of equal target tokens, the smallest of those
that are level; the view of equal rows takes the same one. `result.json` is written last and by rename; whatever was
done before that (models, validations) is used again when the command is given again.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cft_trl.data.digests import content_digest
from cft_trl.data.folders import write_text
from cft_trl.errors import CFTError
from cft_trl.experiments.base import hold
from cft_trl.experiments.fit import fit
from cft_trl.experiments.mixtures import Budget, Row, Taken, arm_parts, take
from cft_trl.experiments.probe import Probed, probe, share
from cft_trl.experiments.settings import VIEWS, Arm, Experiment, Size

RESULT = "result.json"


@dataclass(frozen=True)
class Workspace:
    """What all arms share.

    Attributes:
        experiment, size, output: Its settings, one of its sizes, its folder.
        pools: seed -> the rows that are trained on.
        tests, validation: Problems.
        base: name of a base -> its folder or Hub id.
        say: Tells what is done.
    """

    experiment: Experiment
    size: Size
    output: Path
    pools: Callable[[int], list[Row]]
    tests: list[Row]
    validation: list[Row]
    base: Callable[[str], str]
    say: Callable[[str], None] = print


def result_path(output: Path, arm: str, seed: int) -> Path:
    """Where the result of an arm at a seed is, or will be.

    Args:
        output: The experiment's folder.
        arm: The arm's name.
        seed: Its seed.
    """
    return output / "arms" / arm / f"seed-{seed}" / RESULT


def run_arm(place: Workspace, name: str, seed: int) -> dict[str, Any]:
    """Does what is not done yet of one arm at one seed; returns its result.

    Args:
        place: The experiment and its folder.
        name: The arm's name.
        seed: Its seed.

    Raises:
        CFTError: The pool is too small, a test problem is in it, or as what it calls.
    """
    path = result_path(place.output, name, seed)
    if path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))
    path.parent.mkdir(parents=True, exist_ok=True)
    started = time.time()
    arm: Arm = place.experiment.arms[name]
    base = place.base(arm.model or place.size.model)
    run = _Run(place, name, arm, seed, base, path.parent)
    result = {"arm": name, "seed": seed, **run.views(), "seconds": 0.0}
    result["seconds"] = round(time.time() - started, 1)
    write_text(path, json.dumps(result, ensure_ascii=False))
    for folder in path.parent.iterdir():
        if folder.is_dir():
            shutil.rmtree(folder)
    return result


@dataclass(frozen=True)
class _Run:
    place: Workspace
    name: str
    arm: Arm
    seed: int
    base: str
    folder: Path

    def views(self) -> dict[str, Any]:
        if self.arm.train == "nothing":
            probed = self._of_base()
            told = {"learning_rate": None, "rows": 0, "target_tokens": 0, "tokens": 0, "digest": None, "loss": None}
            return {"validation": {}, "views": {view: {**told, "probed": probed} for view in VIEWS}}
        size = self.place.size
        taken = {"tokens": self._take("tokens", size.target_tokens), "rows": self._take("rows", size.rows)}
        scores = {}
        for rate in sorted(self.place.experiment.learning_rates):
            who = f"{self._who}, learning rate {rate:g}"
            scores[rate] = self._validate(self._train(taken["tokens"], "tokens", rate), who)
            self.place.say(f"{who}: {scores[rate]:.1%} on validation")
        best = max(scores, key=lambda rate: (scores[rate], -rate))
        found = {}
        for view in VIEWS:
            models = self._train(taken[view], view, best)
            found[view] = self._told(taken[view], models, best, f"{self._who}, equal {view}, test")
            probed = found[view]["probed"]
            of_kind = {kind: [one for one in probed if one["kind"] == kind] for kind in ("solving", "critic")}
            self.place.say(
                f"{self._who}, equal {view}: {found[view]['rows']:,} rows, "
                f"{found[view]['target_tokens']:,} target tokens; "
                + ", ".join(f"{kind} {share(ones):.1%}" for kind, ones in of_kind.items() if ones)
            )
        return {"validation": {f"{rate:g}": score for rate, score in scores.items()}, "views": found}

    @property
    def _who(self) -> str:
        return f"{self.name}, seed {self.seed}"

    def _of_base(self) -> list[Probed]:
        """The tests of the base: no seed changes them, so they are done once."""
        path = self.place.output / f"base-{content_digest(self.base)[:8]}.json"
        with ExitStack() as held:
            hold(held, self.place.output, "test of the base", f".{path.stem}.lock")
            if not path.is_file():
                write_text(path, json.dumps(self._test(self.base, f"{self.name}, test"), ensure_ascii=False))
        return json.loads(path.read_text(encoding="utf-8"))

    def _take(self, view: Any, amount: int) -> list[Taken]:
        from cft_trl.models.loading import load_tokenizer

        size, tokenizer = self.place.size, load_tokenizer(self.base)
        stages = arm_parts(self.arm, self.place.pools(self.seed))
        taken = []
        for at, parts in enumerate(stages):
            part = amount * (at + 1) // len(stages) - amount * at // len(stages)
            taken.append(
                take(
                    parts,
                    tokenizer,
                    Budget(view, part),
                    seed=self.seed,
                    batch=size.batch,
                    max_length=size.max_length,
                    where=f"arm {self.name}, seed {self.seed}",
                )
            )
        check_apart(f"arm {self.name}, seed {self.seed}", taken, [*self.place.tests, *self.place.validation])
        return taken

    def _train(self, stages: Sequence[Taken], view: str, rate: float) -> str:
        model = self.base
        for number, taken in enumerate(stages, 1):
            folder = self.folder / f"{view}-{rate:g}-{number}"
            objective = {"sft": "sft", "cgd": "cgd"}.get(self.arm.train, "cft")
            who = f"{self._who}, equal {view}, learning rate {rate:g}, training"
            fit(model, taken, folder, self.place.size, learning_rate=rate, seed=self.seed, objective=objective, who=who)
            model = str(folder)
        return model

    def _validate(self, model: str, who: str) -> float:
        path = Path(model) / "validation.json"
        if not path.is_file():
            by = self.place.experiment.choose_by
            kinds = ("solving", "critic") if by == "both" else (by,)
            probed = self._probe(model, self.place.validation, kinds, f"{who}, validation")
            scores = [share([one for one in probed if one["kind"] == kind]) for kind in kinds]
            write_text(path, json.dumps(sum(scores) / len(scores)))
        return json.loads(path.read_text(encoding="utf-8"))

    def _told(self, stages: Sequence[Taken], model: str, rate: float, who: str) -> dict[str, Any]:
        trained = json.loads((Path(model) / "trained.json").read_text(encoding="utf-8"))
        return {
            "learning_rate": rate,
            "rows": sum(taken.rows for taken in stages),
            "target_tokens": sum(taken.target_tokens for taken in stages),
            "tokens": sum(taken.tokens for taken in stages),
            "digest": " ".join(taken.digest for taken in stages),
            "loss": trained["loss"],
            "probed": self._test(model, who),
        }

    def _test(self, model: str, who: str) -> list[Probed]:
        return self._probe(model, self.place.tests, ("solving", "critic"), who)

    def _probe(self, model: str, rows: Sequence[Row], kinds: Sequence[str], who: str) -> list[Probed]:
        return probe(self._open(model), rows, kinds, self.place.size.max_new_tokens, who)

    def _open(self, model: str) -> Any:
        from cft_trl.generation.faster import lay_out
        from cft_trl.generation.local import LocalModel
        from cft_trl.models.loading import load_model

        dtype = self.place.size.precision if self.place.size.device == "cpu" else None
        loaded, tokenizer = load_model(model, dtype=dtype)
        if self.place.size.device == "gpu":
            loaded = loaded.to("cuda")
        return LocalModel(lay_out(loaded), tokenizer, self.place.size.generated_together)


def check_apart(who: str, taken: Sequence[Taken], held_out: Sequence[Row]) -> None:
    """Sees that no problem that is tested or validated with is trained on.

    Args:
        who: The arm and its seed, as a message names them.
        taken: What is trained on.
        held_out: The problems that may not be among it.

    Raises:
        CFTError: One is; the message names it.
    """
    trained = frozenset().union(*(stage.queries for stage in taken))
    for row in held_out:
        if row["query"] in trained:
            raise CFTError(
                f"{who}: the test problem {row['id']} is among the rows that are trained on; nothing was run"
            )
