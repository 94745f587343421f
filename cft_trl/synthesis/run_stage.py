"""The stages of a build that ask somebody: what each reads, whom it asks, and how it is run.

respond     reads source      asks the recipe's models, or nobody
critique    reads respond     asks the recipe's teachers
refine      reads critique    asks the recipe's teachers, or nobody
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cft_trl.data.stage_files import RowFile, StageReport, StageWriter, stage_path, with_lines
from cft_trl.models.identity import Identity
from cft_trl.synthesis.critique import in_own_words, run_critique
from cft_trl.synthesis.recipe import Recipe
from cft_trl.synthesis.refine import run_refine
from cft_trl.synthesis.respond import run_respond

_RUN: dict[str, Callable[..., StageReport]] = {
    "respond": run_respond,
    "critique": run_critique,
    "refine": run_refine,
}
ASKING = tuple(_RUN)  # the stages that ask teachers, in the order they run

_BEFORE = {"respond": "source", "critique": "respond", "refine": "critique"}


def ask_stage(
    recipe: Recipe,
    stage: str,
    folder: Path,
    *,
    shard: str | None = None,
    batch: bool = False,
    teacher_options: Mapping[str, Any] | None = None,
    identities: Mapping[str, Identity] | None = None,
    progress: Callable[[Any], None] | None = None,
) -> StageReport:
    """Runs respond, critique or refine on what the stage before has left, and opens the teachers for it.

    Args:
        recipe: The recipe.
        stage: "respond", "critique" or "refine".
        folder: The build's.
        shard: The part's name; None for the whole.
        batch, teacher_options, identities: As for `open_teachers`, `teacher_options` its further arguments.
        progress: As for `ask_rows`.

    Raises:
        CFTError: As for `open_teachers` and the stage.
    """
    from cft_trl.synthesis.teachers import open_teachers

    rows, names = RowFile(stage_path(folder, _BEFORE[stage], shard)), teachers_of(recipe, stage)
    if stage == "critique" and not names:  # rows that bring their critiques
        with StageWriter(folder, stage, shard) as out:
            for row, line in with_lines(rows):
                out.report.read += 1
                said = in_own_words(row, recipe.critique.words)
                out.row(line if said is row else said)
        return out.report
    teachers = open_teachers(names, batch=batch, identities=identities, **(teacher_options or {}))
    return _RUN[stage](rows, getattr(recipe, stage), teachers, folder, shard=shard, progress=progress)


def teachers_of(recipe: Recipe, stage: str) -> tuple[str, ...]:
    """Whom an asking stage of a recipe asks; nobody where it passes its rows on."""
    settings = getattr(recipe, stage)
    if stage == "respond":
        return settings.models if settings.answers == "models" else ()
    if stage == "refine":
        return settings.teachers if settings.answers != "none" else ()
    return settings.teachers
