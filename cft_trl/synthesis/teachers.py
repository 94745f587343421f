"""Teachers by name, as recipes and `--teacher` write them, and opened for a stage.

    openai:gpt-4o-2024-11-20                        OpenAI's own endpoint; key in OPENAI_API_KEY
    openai:qwen@http://10.0.0.7:8000/v1             any compatible endpoint
    openai:qwen@https://llm.lab/v1#LAB_KEY          ... whose key is in the environment variable LAB_KEY
    vllm:Qwen/Qwen2.5-72B-Instruct                  a server of ours, for as long as it is asked (see vllm_teacher.py)
    transformers:smollm2-135m                       a model in this process
    vllm:org/model@3f1c9a2                          ... at a commit, tag or branch of the Hub; so for transformers:
    reference                                       no model: checks against the row's own reference

    teachers = open_teachers(["vllm:Qwen/Qwen2.5-72B-Instruct", "reference"])
    run_critique(rows, settings, teachers, "out")

A key is only ever read from the environment, when a request is made; none can be written here.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cft_trl.errors import CFTError, nearest
from cft_trl.generation.types import Model
from cft_trl.models.identity import Identity, model_identity, what_changed

KINDS = ("openai", "vllm", "transformers", "reference")
FORMS = "openai:MODEL, openai:MODEL@URL, vllm:MODEL, transformers:MODEL or reference"

_OPENAI_KEY = "OPENAI_API_KEY"
# Requests in flight that each kind can use: vLLM computes up to 256 at once by default.
_IN_FLIGHT = {"openai": 128, "vllm": 256}

_URL = re.compile(r"@(?=https?://)", re.I)
_SCHEMELESS = re.compile(r"@(?:localhost\b|[\w.-]+:\d+|[\w.-]+/v\d)")
_HUB_ID = re.compile(r"\w[\w.-]*/[\w.-]+")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_SECRET = re.compile(r"(?:sk|hf|pk|gsk|key)[-_][A-Za-z0-9_-]{16,}")


@dataclass(frozen=True)
class TeacherSpec:
    """A teacher's name, read.

    Attributes:
        kind: One of `KINDS`.
        model: The name in its requests, in the rows' ids and in their column `teacher`; for a local folder the
            folder's own name, so that no path of one machine gets into a dataset.
        source: What is loaded: a Hub id or a folder ("vllm" and "transformers"), else as `model`.
        base_url: The endpoint; None for OpenAI's own.
        key_env: The environment variable that holds its key.
        revision: Of a Hub id; part of `model` too, for another revision gives other answers.
    """

    kind: str
    model: str
    source: str
    base_url: str | None = None
    key_env: str = _OPENAI_KEY
    revision: str | None = None


def parse_teacher(text: str) -> TeacherSpec:
    """Reads a teacher's name; see the top of this file.

    Args:
        text: "kind:MODEL", "openai:MODEL@URL" or "reference". A model's name may hold slashes, colons and "@".

    Returns:
        What it says.

    Raises:
        CFTError: It says nothing that is known; what is near is named.

    Example:
        >>> spec = parse_teacher("openai:org/model:free@http://127.0.0.1:8000/v1#LAB_KEY")
        >>> spec.model, spec.base_url, spec.key_env
        ('org/model:free', 'http://127.0.0.1:8000/v1', 'LAB_KEY')
        >>> parse_teacher("transformers:org/model@v2").revision
        'v2'
        >>> parse_teacher("opnai:gpt-4o")
        Traceback (most recent call last):
        cft_trl.errors.CFTError: teacher 'opnai:gpt-4o': unknown kind 'opnai' (did you mean 'openai'?); write ...
    """
    shown = _without_secrets(text)
    kind, colon, rest = text.strip().partition(":")
    if kind not in KINDS:
        if colon and "/" not in kind:
            raise CFTError(f"teacher {shown!r}: unknown kind {kind!r}{nearest(kind, KINDS)}; write {FORMS}")
        raise CFTError(f"teacher {shown!r}: no kind before the model's name{nearest(kind, KINDS)}; write {FORMS}")
    if kind == "reference":
        if rest:
            raise CFTError(f"teacher {shown!r}: 'reference' has no model; write it alone")
        return TeacherSpec(kind, kind, kind)
    if not rest.strip():
        raise CFTError(f"teacher {shown!r}: no model after the colon; write {FORMS}")
    if kind != "openai":
        if _URL.search(rest):
            raise CFTError(f"teacher {shown!r}: only openai: takes an address; for a server that runs, use openai:")
        source, revision = _revision(rest)
        return TeacherSpec(kind, _name(rest), source, revision=revision)
    model, *address = _URL.split(rest, maxsplit=1)
    if not address:
        if _SCHEMELESS.search(rest):
            raise CFTError(f"teacher {shown!r}: the address after '@' begins with http:// or https://")
        return TeacherSpec(kind, model, model)
    if not model:
        raise CFTError(f"teacher {shown!r}: no model before the '@'; write {FORMS}")
    url, hash_sign, variable = address[0].partition("#")
    if "@" in url.split("//", 1)[1].split("/", 1)[0]:
        raise CFTError(
            f"teacher {shown!r}: a user name or password in an address would get into the recipe; put the key into an "
            "environment variable and write its name after '#'"
        )
    if hash_sign and (not _VARIABLE.fullmatch(variable) or _SECRET.fullmatch(variable)):
        # Not repeated: it may be the key itself.
        raise CFTError(f"teacher openai:{model}: after '#' goes the NAME of the environment variable with the key")
    return TeacherSpec(kind, model, model, url.rstrip("/"), variable or _OPENAI_KEY)


def open_teachers(
    specs: Sequence[str | TeacherSpec],
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
        spec = parse_teacher(name) if isinstance(name, str) else name
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


def _known_revision(spec: TeacherSpec, identity: Identity | None) -> str | None:
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


def _revision(source: str) -> tuple[str, str | None]:
    """A Hub id with its revision, apart; a folder's name may hold an "@" of its own."""
    name, at, revision = source.partition("@")
    if not at or not _HUB_ID.fullmatch(name) or Path(source).expanduser().is_dir():
        return source, None
    if not revision:
        raise CFTError(f"teacher {source!r}: no revision after the '@'; give a commit, tag or branch")
    return name, revision


def _name(source: str) -> str:
    """A model's name for rows: a Hub id as it is, of a folder its last part (and a checkpoint's run)."""
    path = Path(source).expanduser()
    if not (path.is_dir() or source.startswith(("/", "./", "../", "~"))):
        return source
    path = path.resolve()
    return f"{path.parent.name}/{path.name}" if re.fullmatch(r"checkpoint-\d+", path.name) else path.name


def _without_secrets(text: str) -> str:
    """The text for a message: no user part of an address, nothing that may be a key."""
    return re.sub(r"(?<=//)[^/@\s]*@|(?<=#).*", "...", text)
