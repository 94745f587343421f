"""What `cft pull` notes in a folder: of which repository and commit its files are.

.pulled.json    {"repo_id": "org/rows", "repo_type": "dataset", "revision": null, "commit": "b101308f…", "files": {…}}
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cft_trl.errors import CFTError

PULLED_FILE = ".pulled.json"


def pulled_from(folder: str | Path) -> tuple[str, str] | None:
    """(repository, commit) of a folder that `pull` made; None of any other."""
    record = read_pulled(Path(folder))
    return (record["repo_id"], record["commit"]) if record else None


def read_pulled(folder: Path) -> dict[str, Any]:
    """The note; {} where there is none.

    Raises:
        CFTError: It cannot be read.
    """
    path = folder / PULLED_FILE
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return {key: record[key] for key in ("repo_id", "repo_type", "revision", "commit", "files")}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CFTError(f"{path}: cannot be read ({error}); remove '{folder}' and pull it again") from None
