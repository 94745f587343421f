"""Teachers by name (see `cft_trl.generation.names`), opened for a stage.

teachers = open_teachers(["vllm:Qwen/Qwen2.5-72B-Instruct", "openai:qwen@http://10.0.0.7:8000/v1", "reference"])
run_critique(rows, settings, teachers, "out")
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from cft_trl.errors import CFTError
from cft_trl.generation.names import ModelName, parse_model_name
from cft_trl.generation.types import Model
from cft_trl.models.identity import Identity, model_identity, what_changed

# Requests in flight that each kind can use: vLLM computes up to 256 at once by default.
_IN_FLIGHT = {"openai": 128, "vllm": 256}


def open_teachers(
    specs: Sequence[str | ModelName],
    *,
    batch: bool = False,
    vllm_options: Sequence[str] = (),
    max_concurrency: int | None = None,
    timeout: float = 600.0,
    identities: Mapping[str, Identity] | None = None,
) -> list[Model]:
    """Teachers by name. A model is loaded, or its server started, when it is asked; servers of ours take turns.

    Args:
        specs: Whom to open, by name or read.
        batch: Whether `openai` teachers are asked through the Batch API.
        vllm_options: vLLM's own options, for each server.
        max_concurrency: At most so many requests in flight to each; by default 128, or 256 to a vLLM server.
        timeout: Seconds for one request.
        identities: What each of them is, by name as in `specs`, where that is known (see identities.py): models of the
            Hub are loaded at that commit. Without it each says itself what it is now.

    Returns:
        The teachers, in the order of `specs`.

    Raises:
        CFTError: A name that cannot be read, a model that is not there, or a folder that holds another one by now.
    """
    from cft_trl.generation.batch import BatchTeacher
    from cft_trl.generation.client import Teacher
    from cft_trl.generation.transformers_teacher import TransformersTeacher
    from cft_trl.generation.vllm_teacher import VllmTeacher
    from cft_trl.synthesis.reference_teacher import ReferenceTeacher

    turn = asyncio.Lock()
    teachers: list[Model] = []
    for name in specs:
        spec = parse_model_name(name) if isinstance(name, str) else name
        known = (identities or {}).get(name) if isinstance(name, str) else None
        revision = _known_revision(spec, known)
        most = max_concurrency or _IN_FLIGHT.get(spec.kind, 1)
        if spec.kind == "openai":
            kind = BatchTeacher if batch else Teacher
            teachers.append(kind(spec.model, spec.base_url, spec.key_env, most, timeout, known=known))
        elif spec.kind == "vllm":
            given = tuple(vllm_options)
            teachers.append(VllmTeacher(spec.source, turn, spec.model, given, most, timeout, revision, known))
        elif spec.kind == "transformers":
            teachers.append(TransformersTeacher(spec.source, name=spec.model, revision=revision, identity=known))
        else:
            teachers.append(ReferenceTeacher())
    return teachers


def _known_revision(spec: ModelName, identity: Identity | None) -> str | None:
    """The revision to load: the identity's commit. A folder is looked at again: a task may run on another machine."""
    model = (identity or {}).get("model")
    if not model:
        return spec.revision
    if model["kind"] == "hub":
        return model["commit"] or spec.revision
    if told := what_changed(model, model_identity(spec.source, spec.revision)):
        raise CFTError(
            f"teacher {spec.kind}:{spec.model}: the model that is there now is not the one that this build began with: "
            f"{told}; the same command begins anew with it"
        )
    return spec.revision
