"""A model by name: one way to write down who is asked, for recipes, `--teacher`, `--judge` and addresses everywhere.

    openai:gpt-4o-2024-11-20                        OpenAI's own endpoint; key in OPENAI_API_KEY
    openai:qwen@http://10.0.0.7:8000/v1             any compatible endpoint
    openai:qwen@https://llm.lab/v1#LAB_KEY          ... whose key is in the environment variable LAB_KEY
    vllm:Qwen/Qwen2.5-72B-Instruct                  a server of ours, for as long as it is asked (see vllm_teacher.py)
    transformers:smollm2-135m                       a model in this process
    vllm:org/model@3f1c9a2                          ... at a commit, tag or branch of the Hub; so for transformers:
    reference                                       no model: checks against the row's own reference

Who is always at an endpoint, as a judge is, may be named without the kind: `qwen@http://10.0.0.7:8000/v1`. A key is
only ever read from the environment, when a request is made; none can be written here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from cft_trl.errors import CFTError, nearest

KINDS = ("openai", "vllm", "transformers", "reference")
FORMS = "openai:MODEL, openai:MODEL@URL, vllm:MODEL, transformers:MODEL or reference"
BACKENDS = ("transformers", "vllm", "endpoint")  # where an evaluated model is
AT_ENDPOINT = "MODEL, MODEL@URL or MODEL@URL#KEY_VARIABLE"

OPENAI_KEY = "OPENAI_API_KEY"

_URL = re.compile(r"@(?=https?://)", re.I)
_SCHEMELESS = re.compile(r"@(?:localhost\b|[\w.-]+:\d+|[\w.-]+/v\d|[a-z]+://)")
_HUB_ID = re.compile(r"\w[\w.-]*/[\w.-]+")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_SECRET = re.compile(r"(?:sk|hf|pk|gsk|key)[-_][A-Za-z0-9_-]{16,}")


@dataclass(frozen=True)
class ModelName:
    """A model's name, read.

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
    key_env: str = OPENAI_KEY
    revision: str | None = None


def parse_model_name(text: str, role: str = "teacher") -> ModelName:
    """Reads a model's name; see the top of this file.

    Args:
        text: "kind:MODEL", "openai:MODEL@URL" or "reference". A model's name may hold slashes, colons and "@".
        role: What errors call it.

    Returns:
        What it says.

    Raises:
        CFTError: It says nothing that is known; what is near is named.

    Example:
        >>> name = parse_model_name("openai:org/model:free@http://127.0.0.1:8000/v1#LAB_KEY")
        >>> name.model, name.base_url, name.key_env
        ('org/model:free', 'http://127.0.0.1:8000/v1', 'LAB_KEY')
        >>> parse_model_name("transformers:org/model@v2").revision
        'v2'
        >>> parse_model_name("opnai:gpt-4o")
        Traceback (most recent call last):
        cft_trl.errors.CFTError: teacher 'opnai:gpt-4o': unknown kind 'opnai' (did you mean 'openai'?); write ...
    """
    told = f"{role} {_without_secrets(text)!r}"
    kind, colon, rest = text.strip().partition(":")
    if kind not in KINDS:
        if colon and "/" not in kind:
            raise CFTError(f"{told}: unknown kind {kind!r}{nearest(kind, KINDS)}; write {FORMS}")
        raise CFTError(f"{told}: no kind before the model's name{nearest(kind, KINDS)}; write {FORMS}")
    if kind == "reference":
        if rest:
            raise CFTError(f"{told}: 'reference' has no model; write it alone")
        return ModelName(kind, kind, kind)
    if not rest.strip():
        raise CFTError(f"{told}: no model after the colon; write {FORMS}")
    if kind == "openai":
        return _at_endpoint(rest, told, FORMS, f"{role} openai:")
    if _URL.search(rest):
        raise CFTError(f"{told}: only openai: takes an address; for a server that runs, use openai:")
    source, revision = _revision(rest, role)
    return ModelName(kind, _name(rest), source, revision=revision)


def parse_endpoint_name(text: str, role: str) -> ModelName:
    """The same for who is always asked at an endpoint: "openai:" may be left out, the other kinds are none.

    Args:
        text: "MODEL", "MODEL@URL" or "MODEL@URL#KEY_VARIABLE".
        role: What errors call it, `--judge`.

    Raises:
        CFTError: No model, an address that is none or holds a password, or a model that is at no endpoint.

    Example:
        >>> parse_endpoint_name("org/judge:free@http://localhost:8000/v1", "--judge").base_url
        'http://localhost:8000/v1'
    """
    told = f"{role} {_without_secrets(text)!r}"
    name = text.strip().removeprefix("openai:")
    if name.partition(":")[0] in KINDS:
        raise CFTError(f"{told}: it is asked at an endpoint; start a server and give {AT_ENDPOINT}")
    if not name:
        raise CFTError(f"{told}: no model; give {AT_ENDPOINT}")
    return _at_endpoint(name, told, AT_ENDPOINT, f"{role} ")


def without_address(text: str) -> str:
    """A name without where the model is, for pages that others read, and for tables by model.

    Example:
        >>> without_address("qwen@2024@http://10.0.0.7:8000/v1"), without_address("gpt-4o")
        ('qwen@2024', 'gpt-4o')
    """
    return _URL.split(text, maxsplit=1)[0]


def check_address(base_url: str, flag: str = "--base-url") -> None:
    """
    Raises:
        CFTError: It is no address.
    """
    if not re.match("https?://", base_url, re.I):
        raise CFTError(f"{flag} {base_url}: give an address such as http://localhost:8000/v1")


def _at_endpoint(text: str, told: str, forms: str, before: str) -> ModelName:
    """ "MODEL", "MODEL@URL" or "MODEL@URL#VARIABLE". `told` begins errors, `before` those that must not repeat it."""
    model, *address = _URL.split(text, maxsplit=1)
    if not model:
        raise CFTError(f"{told}: no model before the '@'; write {forms}")
    if not address:
        if _SCHEMELESS.search(text):
            raise CFTError(f"{told}: the address after '@' begins with http:// or https://")
        return ModelName("openai", model, model)
    url, hash_sign, variable = address[0].partition("#")
    if "@" in url.split("//", 1)[1].split("/", 1)[0]:
        raise CFTError(
            f"{told}: a user name or password in an address would get into what is written of it; put the key into an "
            "environment variable and write its name after '#'"
        )
    if hash_sign and (not _VARIABLE.fullmatch(variable) or _SECRET.fullmatch(variable)):
        # Not repeated: it may be the key itself.
        raise CFTError(f"{before}{model}: after '#' goes the NAME of the environment variable with the key")
    return ModelName("openai", model, model, url.rstrip("/"), variable or OPENAI_KEY)


def _revision(source: str, role: str) -> tuple[str, str | None]:
    """A Hub id with its revision, apart; a folder's name may hold an "@" of its own."""
    name, at, revision = source.partition("@")
    if not at or not _HUB_ID.fullmatch(name) or Path(source).expanduser().is_dir():
        return source, None
    if not revision:
        raise CFTError(f"{role} {source!r}: no revision after the '@'; give a commit, tag or branch")
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
