"""An experiment as one YAML file: a question, its arms, and how large it is on a CPU and on a GPU.

    name: ratio
    question: How many of the responses should be wrong?
    baseline: wrong_50
    choose_by: both
    arms:
      wrong_0: {train: cft, wrong: 0.0}
      wrong_50: {train: cft, wrong: 0.5}
    cpu: {target_tokens: 24000, rows: 400}

What all arms share stands once: the seeds, the three learning rates, the base, the tests. An arm says only what is
trained and on which rows (`Arm`).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Gt

from cft_trl.data.settings import Count, Expected, FromText, Listed, Share, Texts, Whole, check_settings, read_settings
from cft_trl.data.tables import read_table
from cft_trl.errors import CFTError, nearest

VIEWS = ("tokens", "rows")  # equal target tokens; equal rows
VARIANTS = 2  # right, and as many wrong, responses that the world has of a question
LEAST_SEEDS = 3

_NAME = re.compile(r"[a-z0-9][a-z0-9_]*")
_Levels = Annotated[tuple[Whole, ...], Listed()]
_Seeds = Annotated[tuple[Whole, ...], Listed(alone=False)]
_Rate = Annotated[float, Gt(0), FromText()]
_Rates = Annotated[tuple[_Rate, ...], Listed(alone=False), Expected("a list of three learning rates above 0")]


@dataclass(frozen=True)
class Arm:
    """What one arm trains the base on.

    Attributes:
        train: `nothing` (the base itself), `sft`, `cft`, `cgd`, `cft+sft` (half of the budget each, mixed) or
            `cft then sft` (half each, one after the other, with the same learning rate).
        target: what `sft` imitates: `noisy` responses as found, `verified` (the right ones of them), the `reference`
            solution in one way of writing, or `distilled` (the teacher's refinement, written as the response is).
        wrong: share of responses that are wrong.
        noise: share of critiques that are themselves wrong.
        noise_kind: how: `verdict` (the verdict line says the other one), `missed error` (of a wrong response: what the
            teacher says of a right one) or `invented error` (of a right response: what it says of a wrong one).
        critique: `specific` (of this response), `generic` (the verdict alone), or `of another question` (of another
            response with the same verdict).
        responses: responses per question, at most four.
        critiques: critiques per response, worded differently.
        model: another base than the experiment's: a folder or Hub id.

    Raises:
        CFTError: A value is out of range, or the noise, responses or target do not fit the other settings.
    """

    train: Literal["nothing", "sft", "cft", "cgd", "cft+sft", "cft then sft"] = "cft"
    target: Literal["noisy", "verified", "reference", "distilled"] = "noisy"
    wrong: Share = 0.5
    noise: Share = 0.0
    noise_kind: Literal["verdict", "missed error", "invented error"] = "verdict"
    critique: Literal["specific", "generic", "of another question"] = "specific"
    responses: Count = 1
    critiques: Count = 1
    model: str | None = None

    def __post_init__(self) -> None:
        check_settings(self, "arm")
        eligible = {"verdict": 1.0, "missed error": self.wrong, "invented error": 1 - self.wrong}[self.noise_kind]
        if self.noise > eligible:
            raise CFTError(
                f"arm.noise={self.noise}: only {eligible:g} of the responses can have critiques with noise_kind "
                f"{self.noise_kind!r}; give at most that, or another share in wrong"
            )
        if self.responses > 2 * VARIANTS:
            raise CFTError(f"arm.responses={self.responses}: a question has {2 * VARIANTS}; give at most that")
        if self.target == "verified" and self.wrong == 1:
            raise CFTError("arm.wrong=1.0: none of the responses is right, so that nothing is verified; give less")


@dataclass(frozen=True)
class World:
    """Where rows and tests come from.

    Attributes:
        source: `arithmetic` (problems made on the spot, with the reference teacher) or `files` (`critiques`).
        levels: of `arithmetic`: levels of the rows trained on.
        templates: which of their templates; none named is all.
        unseen: those of them that no arm is trained on; a test set of its own.
        more_steps: levels of the third test set, of problems with more steps.
        kinds: kinds of error in wrong responses; none named is all.
        brief: critiques that compare number by number (`sources/reference_brief.py`), where calculations alone decide:
            a base of a million parameters learns to judge by them.
        critiques: of `files`: rows with query, response, critique and a label. `--critiques` names another place.
        critic_tests: of `files`: a folder with ProcessBench's files.
        subsets: of `files`: which of them.
        solving_tests: of `files`: benchmarks whose problems are to be solved; CFT_BENCHMARKS_DIR says where they are.

    Raises:
        CFTError: A value is out of range, or levels, templates or files do not fit one another.
    """

    source: Literal["arithmetic", "files"] = "arithmetic"
    levels: _Levels = (0,)
    templates: Texts = ()
    unseen: Texts = ()
    more_steps: _Levels = (1,)
    kinds: Texts = ()
    brief: bool = False
    critiques: str | None = None
    critic_tests: str = "processbench"
    subsets: Texts = ("gsm8k", "math")
    solving_tests: Texts = ("gsm8k",)

    def __post_init__(self) -> None:
        check_settings(self, "world")
        if self.source == "files":
            if not self.critiques:
                raise CFTError("world.critiques=null: source files needs them; give a file of rows with critiques")
            return
        from cft_trl.sources.arithmetic import KINDS, TEMPLATES

        for kind in self.kinds:
            if kind not in KINDS:
                raise CFTError(f"world.kinds={kind!r}: no such error{nearest(kind, KINDS)}; known: {', '.join(KINDS)}")
        _check_levels("world", levels=self.levels, more_steps=self.more_steps)
        known = [template.name for level in self.levels for template in TEMPLATES[level]]
        _check_templates("templates", self.templates, known)
        _check_templates("unseen", self.unseen, list(self.templates) or known)
        if set(self.unseen) == set(self.templates or known):
            raise CFTError("world.unseen: names all templates, so that none is left to train on; leave some out")


def _check_levels(section: str, **given: tuple[int, ...]) -> None:
    from cft_trl.sources.arithmetic import TEMPLATES

    for name, levels in given.items():
        if unknown := [level for level in levels if level not in TEMPLATES]:
            raise CFTError(f"{section}.{name}={unknown[0]}: unknown; give some of {', '.join(map(str, TEMPLATES))}")


def _check_templates(name: str, given: tuple[str, ...], known: list[str]) -> None:
    for one in given:
        if one not in known:
            raise CFTError(f"world.{name}={one!r}: no template of these has that name{nearest(one, known)}")


@dataclass(frozen=True)
class Size:
    """How large the experiment is on one kind of machine.

    Attributes:
        model: the base: `scratch` (made for this, see `layers` to `base_learning_rate`), a folder or a Hub id.
        layers, width, vocabulary: of a base from scratch, a Llama with a byte-level BPE of the world's texts.
        base_rows, base_batch, base_learning_rate: rows that it is made with, one epoch, rows of a step, and the peak
            learning rate.
        base_levels: levels of the problems among them: of the world's own the world's templates, else all.
        drill: share of its rows that are bare sums, six to a row: arithmetic is what takes longest to learn.
        compare: share of its rows that compare two numbers, six times: what a base of some size can do.
        target_tokens: tokens with loss of each training, in the view of equal target tokens.
        rows: of each training, in the view of equal rows.
        questions: in the pool of each seed; a question has four responses.
        batch: rows of a step.
        micro_batch: rows of it that are computed at a time, where not all fit in memory; it divides `batch`.
        max_length: longest row in tokens; longer ones are left out.
        validation: problems that choose the learning rate.
        tests: problems of each test set.
        max_new_tokens: of an answer or a critique.
        generated_together: answers written at once.
        threads: of a CPU; results are the same bit for bit only where this is.
        device: `cpu` or `gpu`; in the file's section `gpu` it is `gpu` where none is given.
        precision: what a CPU computes in: `float32`, or `bfloat16` (weights are trained in float32 under autocast, and
            loaded in bfloat16 to write), faster where it has its arithmetic. A GPU takes bfloat16 if it has it.
        save_steps: a checkpoint after this share of a training, to go on from; 0 for none, where one takes seconds. A
            base from scratch saves them in any case.

    Raises:
        CFTError: A value is out of range, the vocabulary too small, the width no multiple of 32, the micro-batch no
            part of the batch, or the shares of sums and comparisons are more than all rows.
    """

    model: str = "scratch"
    layers: Count = 4
    width: Count = 128
    vocabulary: Annotated[int, Expected("a whole number from 300")] = 1024
    base_rows: Count = 10000
    base_batch: Count = 16
    base_levels: _Levels = (0,)
    drill: Share = 0.3
    compare: Share = 0.1
    base_learning_rate: _Rate = 3e-3
    target_tokens: Count = 16000
    rows: Count = 260
    questions: Count = 1200
    batch: Count = 16
    micro_batch: Count | None = None
    max_length: Count = 512
    validation: Count = 80
    tests: Count = 100
    max_new_tokens: Count = 160
    generated_together: Count = 100
    threads: Count = 1
    device: Literal["cpu", "gpu"] = "cpu"
    precision: Literal["float32", "bfloat16"] = "float32"
    save_steps: Share = 0.0

    def __post_init__(self) -> None:
        check_settings(self, "size")
        _check_levels("size", base_levels=self.base_levels)
        if self.vocabulary < 300:
            raise CFTError(f"size.vocabulary={self.vocabulary}: give a whole number from 300")
        if self.drill + self.compare > 1:
            raise CFTError(
                f"size.drill={self.drill:g} and size.compare={self.compare:g}: shares of the base's rows; "
                "together they are at most 1"
            )
        if self.micro_batch and self.batch % self.micro_batch:
            raise CFTError(f"size.micro_batch={self.micro_batch}: give a number that divides batch={self.batch}")
        if self.width % 32:
            raise CFTError(f"size.width={self.width}: give a multiple of 32, the width of a head")


@dataclass(frozen=True)
class Experiment:
    """An experiment.

    Attributes:
        name: of its folder.
        question: what it asks, in one line.
        baseline: the arm that the others are tested against.
        arms: name -> `Arm`.
        seeds: of the rows that are trained on and their order, at least three; no two arms differ in them.
        learning_rates: three, of which each arm has the best on validation, at each seed.
        choose_by: what is best: accuracy at `solving`, as a `critic`, or the mean of `both`.
        world, cpu, gpu: see `World`, `Size`.

    Raises:
        CFTError: A value is out of range, or names, seeds, learning rates, arms or baseline do not fit one another.
    """

    name: str
    question: str
    baseline: str
    arms: Mapping[str, Any]
    seeds: _Seeds = (0, 1, 2)
    learning_rates: _Rates = (3e-4, 1e-3, 3e-3)
    choose_by: Literal["solving", "critic", "both"] = "solving"
    world: World = field(default_factory=World)
    cpu: Size = field(default_factory=Size)
    gpu: Size = field(default_factory=lambda: Size(device="gpu"))

    def __post_init__(self) -> None:
        check_settings(self, "experiment")
        if not _NAME.fullmatch(self.name):
            raise CFTError(f"experiment.name={self.name!r}: give small letters, digits and '_'; it names a folder")
        if len(self.seeds) < LEAST_SEEDS or len(set(self.seeds)) < len(self.seeds):
            raise CFTError(f"experiment.seeds={list(self.seeds)}: give at least {LEAST_SEEDS}, each once")
        if len(set(self.learning_rates)) != 3:
            raise CFTError(f"experiment.learning_rates={list(self.learning_rates)}: give three different ones")
        if len(self.arms) < 2:
            raise CFTError("experiment.arms: give at least two, there is nothing to compare")
        if self.baseline not in self.arms:
            near = nearest(self.baseline, list(self.arms))
            raise CFTError(f"experiment.baseline={self.baseline!r}: no arm of that name{near}")
        if self.world.source == "files":
            _check_files(self.arms)
        if self.world.brief:
            _check_brief(self.arms)


def _check_files(arms: Mapping[str, Arm]) -> None:
    """Rows from files have one response of a question, one critique of that, and no other answer.

    Raises:
        CFTError: An arm asks for more.
    """
    for name, arm in arms.items():
        refined = arm.train == "cgd" or (
            arm.train not in ("cft", "nothing") and arm.target in ("reference", "distilled")
        )
        for what, asked in (
            ("refinements or reference solutions", refined),
            ("several responses of a question", arm.responses > 1),
            ("several critiques of a response", arm.critiques > 1),
            (f"critiques with a {arm.noise_kind}", arm.noise > 0 and arm.noise_kind != "verdict"),
        ):
            if asked:
                raise CFTError(f"experiment.arms.{name}: world.source files has no {what}; give source arithmetic")


def _check_brief(arms: Mapping[str, Arm]) -> None:
    from cft_trl.sources.reference_brief import WORDINGS

    for name, arm in arms.items():
        if arm.critiques > WORDINGS:
            raise CFTError(
                f"experiment.arms.{name}.critiques={arm.critiques}: brief ones have {WORDINGS} wordings; "
                "give at most that"
            )


def read_experiment(path: str | Path) -> Experiment:
    """Reads an experiment's file.

    Raises:
        CFTError: It cannot be read; a key is unknown (the nearest is named) or missing, a value of the wrong type, or
            the values contradict each other; in one line with the file's name.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "mine.yaml"
        >>> _ = path.write_text('''
        ... name: mine
        ... question: Does it help?
        ... baseline: base
        ... arms: {base: {train: nothing}, cft: {}}
        ... ''')
        >>> read_experiment(path).arms["cft"].train
        'cft'
    """
    where = str(path)
    content = read_table(Path(path))
    if not isinstance(content, Mapping):
        raise CFTError(f"{where}: no experiment; begin with a line like 'name: mine'")
    content = dict(content)
    if not isinstance(content.get("arms") or {}, Mapping):
        raise CFTError(f"{where}: arms: expected names of arms with what each trains, such as 'cft: {{train: cft}}'")
    for name in ("name", "question", "baseline", "arms"):
        if not content.get(name):
            raise CFTError(f"{where}: {name} is missing; see recipes/experiments/world.yaml")
    arms = {}
    for name, given in content["arms"].items():
        if not _NAME.fullmatch(str(name)):
            raise CFTError(f"{where}: arm {name!r}: give small letters, digits and '_'; it names a folder")
        try:
            arms[str(name)] = read_settings(Arm, given, where, f"arms.{name}")
        except CFTError as error:
            raise CFTError(str(error).replace(f"{where}: arm.", f"{where}: arms.{name}.")) from None
    content["arms"] = arms
    if isinstance(content.get("gpu"), Mapping | None):
        content["gpu"] = {"device": "gpu", **(content.get("gpu") or {})}
    for name, kind in (("world", World), ("cpu", Size), ("gpu", Size)):
        try:
            content[name] = read_settings(kind, content.get(name), where, name)
        except CFTError as error:
            raise CFTError(str(error).replace(f"{where}: size.", f"{where}: {name}.")) from None
    return read_settings(Experiment, content, where, "experiment")


def as_plain(settings: Any) -> Any:
    """Settings as what JSON can hold."""
    if dataclasses.is_dataclass(settings):
        return {part.name: as_plain(getattr(settings, part.name)) for part in dataclasses.fields(settings)}
    if isinstance(settings, Mapping):
        return {name: as_plain(value) for name, value in settings.items()}
    return [as_plain(value) for value in settings] if isinstance(settings, tuple | list) else settings
