"""Files on their way to the Hub: one commit of what is published, and nothing else.

    url = push_dataset("out", "my-org/my-critiques", private=True)   # the token: HF_TOKEN, or `hf auth login`

Of a dataset README.md, data/, plots/, recipe.yaml, statistics.json and failures.jsonl are sent; never the journal, the
stages or whatever else lies in the folder. The commit also deletes what an earlier push left there (the shards of a
larger dataset). An upload that was cut off is gone on with by the same call: what the Hub has already is not sent
again. Models are in `hub/push_model.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cft_trl.data.digests import file_digest
from cft_trl.errors import CFTError

# What of a build's folder is published, files and folders; the journal and the stages stay at home.
PUBLISHED = ("data", "plots", "statistics.json", "recipe.yaml", "failures.jsonl", "README.md")

_NO_TOKEN = "wants a token (401); set HF_TOKEN"
_MAY_NOT = "the token may not write there (403); give one with write access to this namespace"
_TOKEN = re.compile(r"\bhf_\w{6,}")
# How a card reads its files while it lies on a disk (`synthesis.dataset_card`).
_LOCAL_FILES = re.compile(r'"parquet", data_files="\./[\w.-]+/data/([^/"]+)/train-\*\.parquet"')


def push_dataset(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool = False,
    revision: str | None = None,
    message: str | None = None,
) -> str:
    """Pushes a published folder to a dataset repository of the Hub, in one commit.

    Args:
        folder: Where `run_publish` wrote.
        repo_id: "org/name"; made if it is not there.
        private: Whether the repository is private. One that is there and public is refused then, not changed.
        revision: The branch, made if it is not there; None is main.
        message: The commit's message.

    Returns:
        The commit's URL.

    Raises:
        CFTError: The folder holds no whole publication, the name is none, the token is missing or may not write, the
            repository is public and should not be, or the Hub cannot be reached. No message holds the token.
    """
    folder = Path(folder)
    check_repo_id(repo_id)
    files = published_files(folder)
    card = files["README.md"].read_text(encoding="utf-8")
    return commit_files(
        repo_id,
        "dataset",
        {**files, "README.md": _for_hub(card, repo_id).encode()},
        lambda name: name.split("/")[0] in PUBLISHED,
        private=private,
        revision=revision,
        message=message or "Publish the dataset",
    )


def commit_files(
    repo_id: str,
    repo_type: str,
    files: Mapping[str, Path | bytes],
    ours: Callable[[str], bool],
    *,
    private: bool = False,
    revision: str | None = None,
    message: str,
) -> str:
    """Sends files to a repository in one commit, which is made if it is not there; see `push_dataset`.

    Args:
        repo_type: "dataset" or "model".
        files: Path in the repository -> file, or content.
        ours: Which paths of the repository belong to such a push: those that are not among `files` are deleted.

    Returns:
        The commit's URL.

    Raises:
        CFTError: A public repository where a private one is wanted, or the upload does not succeed.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api = HfApi()
    at: dict[str, Any] = {"repo_id": repo_id, "repo_type": repo_type}
    with telling_trouble(f"push to {repo_id}"):
        api.create_repo(**at, private=private, exist_ok=True)
        if private and not api.repo_info(**at).private:
            raise CFTError(f"push to {repo_id}: it is there and public; make it private first, or push without private")
        if revision is not None:
            api.create_branch(**at, branch=revision, exist_ok=True)
        there = api.list_repo_files(**at, revision=revision)
        stale = [name for name in there if ours(name) and name not in files]
        commit = api.create_commit(
            **at,
            operations=[
                *(CommitOperationDelete(name) for name in stale),
                *(
                    CommitOperationAdd(name, content if isinstance(content, bytes) else str(content))
                    for name, content in files.items()
                ),
            ],
            commit_message=message,
            revision=revision,
        )
    return commit.commit_url


def check_push(repo_id: str) -> None:
    """Asks the Hub whether a push could go there, before hours of work are spent on what it would send.

    Raises:
        CFTError: As `push_dataset`, for what can be known beforehand. Nothing is made on the Hub.
    """
    check_repo_id(repo_id)
    from huggingface_hub import HfApi

    with telling_trouble(f"push to {repo_id}"):
        user = HfApi().whoami()
    namespaces = [user.get("name"), *(org.get("name") for org in user.get("orgs", []))]
    role = user.get("auth", {}).get("accessToken", {}).get("role")
    # A fine-grained token's rights are too many to judge here; only the push itself can tell.
    if role == "read" or (role == "write" and repo_id.split("/")[0] not in namespaces):
        raise CFTError(f"push to {repo_id}: {_MAY_NOT}")


def published_files(folder: Path) -> dict[str, Path]:
    """What a push sends, by its path in the repository.

    Raises:
        CFTError: There is no card, or the Parquet files are not those that `statistics.json` names.
    """
    for name in ("README.md", "statistics.json"):
        if not (folder / name).is_file():
            raise CFTError(f"{folder}: no {name} here, so nothing whole was published; run the build to its end")
    try:
        described = json.loads((folder / "statistics.json").read_text(encoding="utf-8"))["files"]
        sums = {name: file["sha256"] for name, file in described.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CFTError(f"{folder / 'statistics.json'}: names no files; run the build's publish stage again") from None
    files = dict(sorted(_walk(folder)))
    for name, told in sums.items():
        if name not in files or not told.startswith(file_digest(files[name])):
            raise CFTError(f"{folder / name}: missing or not as it was published; run the build's publish stage again")
    if extra := [name for name in files if name.startswith("data/") and name not in sums]:
        raise CFTError(f"{folder / extra[0]}: was not published by the build; move it out of data/")
    return files


def _walk(folder: Path) -> Iterator[tuple[str, Path]]:
    for name in PUBLISHED:
        found = folder / name
        for path in found.rglob("*") if found.is_dir() else [found]:
            if path.is_file() and not path.name.startswith("."):
                yield path.relative_to(folder).as_posix(), path


def check_repo_id(repo_id: str, where: str = "repository") -> None:
    """Refuses what cannot be a repository's name on the Hub.

    Raises:
        CFTError: It is not of the form "org/name".

    Example:
        >>> check_repo_id("my-org/my-critiques")
        >>> check_repo_id("my critiques")
        Traceback (most recent call last):
        cft_trl.errors.CFTError: repository 'my critiques': give ORG/NAME, of letters, digits, '-', '_' and '.'
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo_id)
        whole = "/" in repo_id
    except HFValidationError:
        whole = False
    if not whole:
        raise CFTError(f"{where} {repo_id!r}: give ORG/NAME, of letters, digits, '-', '_' and '.'")


@contextmanager
def telling_trouble(what: str) -> Iterator[None]:
    """Turns the Hub's errors into one of ours: "push to org/name: the Hub answered 503 (...)".

    Raises:
        CFTError: The Hub did not do it, or cannot be reached.
    """
    from huggingface_hub.errors import HTTPError

    try:
        yield
    except CFTError:
        raise
    except (HTTPError, OSError, RuntimeError, ValueError) as error:
        raise CFTError(f"{what}: {hub_trouble(error)}") from None


def hub_trouble(error: BaseException) -> str:
    """What went wrong between us and the Hub, as one sentence that says what to do and holds no token."""
    from huggingface_hub import constants, get_token
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

    while isinstance(error, RuntimeError) and error.__cause__ is not None:
        error = error.__cause__  # "Error while uploading data/x.parquet" says less than its cause
    if isinstance(error, OfflineModeIsEnabled):
        return "offline mode is on; unset HF_HUB_OFFLINE"
    if isinstance(error, LocalTokenNotFoundError):
        return f"the Hub {_NO_TOKEN}, or log in with hf auth login"
    token = get_token()
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    if status == 401:
        refused = "refused the token (401); set HF_TOKEN to a valid one"
        return f"the Hub {refused if token else _NO_TOKEN}, or log in with hf auth login"
    if status == 403:
        return _MAY_NOT
    if status is not None:
        said = getattr(error, "server_message", None) or str(error).strip().partition("\n")[0]
        text = f"the Hub answered {status} ({said})"
    elif isinstance(error, ValueError):
        text = f"the Hub did not take it ({str(error).strip()})"  # a card whose front matter is not valid
    else:
        text = f"{constants.ENDPOINT} cannot be reached or broke off ({type(error).__name__}: {error})"
    text = _TOKEN.sub("***", text.replace(token, "***") if token else text)  # some servers repeat what they were sent
    return f"{text}; the same command goes on from where it was"


def _for_hub(text: str, repo_id: str) -> str:
    """The card's text with the repository's name in the place of the local one.

    Example:
        >>> _for_hub('load_dataset("parquet", data_files="./out/data/*__*/train-*.parquet", split="train")', "org/rows")
        'load_dataset("org/rows", split="train")'
        >>> _for_hub('load_dataset("parquet", data_files="./out/data/gsm8k__m/train-*.parquet")', "org/rows")
        'load_dataset("org/rows", "gsm8k__m")'
    """

    def loaded(match: re.Match[str]) -> str:
        return f'"{repo_id}"' + ("" if match[1] == "*__*" else f', "{match[1]}"')

    text = _LOCAL_FILES.sub(loaded, text)
    # Cards of earlier versions name the folder.
    return re.sub(r"(?<=load_dataset\(\")\./[\w.-]+|(?<=--dataset_name )\./[\w.-]+", repo_id, text)
