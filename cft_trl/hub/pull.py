"""A dataset or a model of the Hub as a folder here: whole, checked, and saying which commit it is.

    pull("my-org/my-critiques", revision="v1")
    # my-critiques/data/…, README.md, statistics.json, …
    # my-critiques/.pulled.json
    # {"repo_id": "my-org/my-critiques", "repo_type": "dataset", "revision": "v1", "commit": "3f1c9a27…",
    #  "files": {"data/default/train-00000-of-00001.parquet": {"bytes": 81234, "sha256": "9b74…"}, …}}

    cft train --dataset_name my-critiques …       # needs no network any more

Every file is compared with the checksum that the Hub has of it, and with the one that the card states, as the cards
that `cft build` and `cft push` write do for data and weights. Pickles are never fetched. A download that was cut off
goes on where it was; until all is there and right, the folder does not exist. A copy that was not changed gives way to
another commit as a whole, so that no older shard or template is left to be read; files of somebody else are refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cft_trl.data.folders import check_writable, write_text
from cft_trl.errors import CFTError
from cft_trl.hub.upload import check_repo_id, hub_trouble, telling_trouble
from cft_trl.models.names import PICKLES
from cft_trl.models.pulled import PULLED_FILE, read_pulled

TYPES = ("dataset", "model")
_STATED = re.compile(r"^\| `([^`|]+)` \|.*\| `([0-9a-f]{64})` \|$", re.MULTILINE)
_BLOCK = 2**20
_DATA = (".parquet", ".arrow", ".json", ".jsonl", ".csv", ".gz", ".zst", ".md", ".yaml", ".py")


@dataclass(frozen=True)
class Pulled:
    """What was pulled.

    Attributes:
        folder: Where it lies.
        repo_id, repo_type: What it is.
        commit: Of the Hub, 40 hex digits.
        files: Bytes and SHA-256 by path.
        left_out: Pickles that the repository has and that were not fetched.
        fetched: Whether it was fetched now; False for a copy that was there and is whole.
        replaced: The commit of an older copy in whose place it was put; None where there was none.
        changes: What of that copy is another now: "changed", "new" or "gone" -> the files' paths.
    """

    folder: Path
    repo_id: str
    repo_type: str
    commit: str
    files: Mapping[str, Mapping[str, Any]]
    left_out: tuple[str, ...] = ()
    fetched: bool = True
    replaced: str | None = None
    changes: Mapping[str, list[str]] = field(default_factory=dict)


def pull(
    repo_id: str,
    *,
    repo_type: str | None = None,
    revision: str | None = None,
    output: str | Path | None = None,
) -> Pulled:
    """Fetches a repository of the Hub into a folder.

    Args:
        repo_id: "org/name".
        repo_type: "dataset" or "model"; None for whichever there is.
        revision: Commit, tag or branch; None is main.
        output: The folder; default the repository's name, here.

    Returns:
        What is there now. A copy of the same commit that is whole is not fetched again; where the Hub cannot be
        reached, a whole copy is taken as it is.

    Raises:
        CFTError: No such repository or revision, a file that is not what it should be, a folder with something else in
            it (also beside an earlier copy), or the Hub cannot be reached.
    """
    check_repo_id(repo_id)
    if repo_type not in (None, *TYPES):
        raise CFTError(f"repo_type={repo_type}: give dataset or model")
    folder = Path(output) if output else Path(repo_id.split("/")[1])
    there = _copy_at(folder, repo_id)
    try:
        info, repo_type = _ask(repo_id, repo_type, revision)
    except _Unreachable as error:
        if there and revision in (None, there.commit, read_pulled(folder)["revision"]):
            return there
        raise CFTError(str(error)) from None
    if there and (there.commit, there.repo_type) == (info.sha, repo_type):
        return there
    if there and (foreign := _foreign(folder, there.files)):
        raise CFTError(
            f"'{folder}' holds {foreign[0]} beside its copy of {repo_id}, and would be replaced as a whole; move that "
            "file away, or give another --output"
        )
    siblings = {file.rfilename: file for file in info.siblings if file.rfilename != ".gitattributes"}
    left_out = tuple(name for name in siblings if name.endswith(PICKLES))
    wanted = {name: file for name, file in siblings.items() if name not in left_out}
    weights = [name for name in left_out if "model" in name]
    if repo_type == "model" and weights and not any(name.endswith(".safetensors") for name in wanted):
        raise CFTError(f"{repo_id}: has its weights only as a pickle ({weights[0]}), which is never fetched or loaded")
    check_writable(folder.parent)
    partial = folder.with_name(f".{folder.name}.{info.sha[:12]}.partial")
    _fetch(repo_id, repo_type, info.sha, partial, left_out)
    files = _verified(partial, wanted, repo_id)
    record = {"repo_id": repo_id, "repo_type": repo_type, "revision": revision, "commit": info.sha}
    record |= {"date": time.strftime("%Y-%m-%d"), "files": files}
    write_text(partial / PULLED_FILE, json.dumps(record, indent=1))
    _put(partial, folder)
    changes = _changes(there.files, files) if there else {}
    return Pulled(folder, repo_id, repo_type, info.sha, files, left_out, True, there.commit if there else None, changes)


def stated_checksums(card: str) -> dict[str, str]:
    """SHA-256 by path, as a card's section "Files" states them.

    Example:
        >>> stated_checksums("| file | bytes | SHA-256 |\\n|---|---|---|\\n| `a.parquet` | 9 | `" + "0f" * 32 + "` |")
        {'a.parquet': '0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f'}
    """
    return dict(_STATED.findall(card.partition("\n## Files\n")[2] or card))


class _Unreachable(Exception):
    """The Hub does not answer, or may not be asked."""


def _ask(repo_id: str, repo_type: str | None, revision: str | None) -> tuple[Any, str]:
    """The repository's description at a revision, with every file's checksum, and which type it is."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HTTPError,
        LocalTokenNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    found = {}
    for kind in (repo_type,) if repo_type else TYPES:
        try:
            found[kind] = HfApi().repo_info(repo_id, repo_type=kind, revision=revision, files_metadata=True)
        except RepositoryNotFoundError:
            continue
        except RevisionNotFoundError:
            raise CFTError(f"{repo_id}: has no revision '{revision}'; give a commit, tag or branch") from None
        except (HfHubHTTPError, LocalTokenNotFoundError) as error:
            raise CFTError(f"pull of {repo_id}: {hub_trouble(error)}") from None
        except (HTTPError, OSError, RuntimeError, ValueError) as error:
            raise _Unreachable(f"pull of {repo_id}: {hub_trouble(error)}") from None
    if not found:
        what = repo_type or "dataset or model"
        raise CFTError(
            f"{repo_id}: no {what} of this name on the Hub, or a private one; then set HF_TOKEN to one that may read it"
        )
    if len(found) > 1:
        raise CFTError(f"{repo_id}: there are a dataset and a model of this name; give --repo-type")
    kind, info = found.popitem()
    return info, kind


def _fetch(repo_id: str, repo_type: str, commit: str, partial: Path, left_out: tuple[str, ...]) -> None:
    from huggingface_hub import snapshot_download

    with telling_trouble(f"pull of {repo_id}"):
        snapshot_download(
            repo_id,
            repo_type=repo_type,
            revision=commit,
            local_dir=partial,
            ignore_patterns=[".gitattributes", *left_out],
        )


def _verified(partial: Path, wanted: Mapping[str, Any], repo_id: str) -> dict[str, dict[str, Any]]:
    """Bytes and SHA-256 of every file, each compared with the Hub's checksum and the card's."""
    from cft_trl.progress import progress

    card = partial / "README.md"
    stated = stated_checksums(card.read_text(encoding="utf-8", errors="replace")) if card.is_file() else {}
    found = {}
    with progress("checking", sum(file.size or 0 for file in wanted.values())) as advance:
        for name, file in sorted(wanted.items()):
            path = partial / name
            size, sha256, blob = _digests(path, advance)
            told = file.lfs.sha256 if file.lfs else file.blob_id
            if told not in (None, sha256 if file.lfs else blob):
                _forget(partial, name)
                raise CFTError(
                    f"{repo_id}: {name} did not arrive as the Hub has it (its checksum is {told[:12]}…, not "
                    f"{(sha256 if file.lfs else blob)[:12]}…); it was removed, the same command fetches it again"
                )
            if stated.get(name, sha256) != sha256:
                _forget(partial, name)
                raise CFTError(
                    f"{repo_id}: {name} is not the file that the card states (SHA-256 {stated[name][:12]}…, not "
                    f"{sha256[:12]}…); it was damaged or replaced: do not use it, and give another --revision"
                )
            found[name] = {"bytes": size, "sha256": sha256}
    if missing := sorted(stated.keys() - found.keys()):
        raise CFTError(f"{repo_id}: {missing[0]} is gone, which the card states; give another --revision")
    return found


def _digests(path: Path, advance: Any) -> tuple[int, str, str]:
    """Size, SHA-256 and git's name of a file."""
    size = path.stat().st_size
    sha256, blob = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size)
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            sha256.update(block)
            blob.update(block)
            advance(len(block))
    return size, sha256.hexdigest(), blob.hexdigest()


def _forget(partial: Path, name: str) -> None:
    """Removes a file and what the client noted of it, so that it is fetched anew."""
    (partial / name).unlink()
    (partial / ".cache" / "huggingface" / "download" / f"{name}.metadata").unlink(missing_ok=True)


def _put(partial: Path, folder: Path) -> None:
    """Puts the whole folder in the place of an older copy; other commits' halves are not needed any more."""
    shutil.rmtree(partial / ".cache", ignore_errors=True)
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(partial, folder)
    shutil.rmtree(old, ignore_errors=True)
    for left in folder.parent.glob(f".{folder.name}.*.partial"):
        shutil.rmtree(left, ignore_errors=True)


def _copy_at(folder: Path, repo_id: str) -> Pulled | None:
    """The copy that a folder holds; None where there is nothing.

    Raises:
        CFTError: It holds something else, or a copy that was changed.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    record = read_pulled(folder)
    if not record:
        raise CFTError(f"'{folder}' holds files that are not of `cft pull`; give another --output")
    if record["repo_id"] != repo_id:
        raise CFTError(f"'{folder}' holds {record['repo_id']}; give another --output")
    changed = next(_changed(folder, record["files"]), None)
    if changed:
        raise CFTError(f"{folder / changed}: was changed or removed since it was pulled; give another --output")
    read = [name for name in _foreign(folder, record["files"]) if _is_read(name, record["repo_type"])]
    if read:
        raise CFTError(
            f"'{folder}' holds {read[0]}, which is not of {repo_id} at {record['commit'][:12]} and would be read with "
            "it; remove it, or give another --output"
        )
    return Pulled(folder, repo_id, record["repo_type"], record["commit"], record["files"], fetched=False)


def _foreign(folder: Path, files: Mapping[str, Any]) -> list[str]:
    """What lies in a copy's folder and is not of it; hidden files, which systems and caches leave, aside."""
    found = (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file())
    shown = (path for path in found if not any(part.startswith((".", "__pycache__")) for part in path.parts))
    return [path.as_posix() for path in shown if path.as_posix() not in files]


def _is_read(name: str, repo_type: str) -> bool:
    """Whether a file is among what loading a folder reads: of a model its first level and its templates, or data."""
    if repo_type == "model":
        return "/" not in name or name.startswith("additional_chat_templates/")
    return name.endswith(_DATA)


def _changes(before: Mapping[str, Mapping[str, Any]], now: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """Which files of two copies differ, by their sums."""
    both = before.keys() & now.keys()
    found = {
        "changed": sorted(name for name in both if before[name]["sha256"] != now[name]["sha256"]),
        "new": sorted(now.keys() - before.keys()),
        "gone": sorted(before.keys() - now.keys()),
    }
    return {kind: names for kind, names in found.items() if names}


def _changed(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for name, file in files.items():
        path = folder / name
        same = path.is_file() and path.stat().st_size == file["bytes"]
        if not same or _digests(path, lambda _: None)[1] != file["sha256"]:
            yield name
