"""Which model the app loaded, and whether the folder, the branch or the endpoint it came from is still that.

    loaded = Loaded.of_folder("runs/mine")
    loaded.told          # "weights 9f2c81aa03b7"
    loaded.note()        # None, or "The folder of this model was written to since the app loaded it …"

The app goes on with what it loaded: a folder that is trained in is half-written at times, and ZeroGPU takes no model
after its start. A visitor is told, so that nobody takes the answers for the new model's. A look at a folder is a `stat`
of its files; a branch and an endpoint are asked now and then, beside the request and never before it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cft_trl.errors import CFTError
from cft_trl.models.identity import endpoint_identity, model_files, own_identity
from cft_trl.models.names import hub_commit

_EVERY = {"hub": 600.0, "endpoint": 60.0}  # seconds between two looks over the network
_NOTES = {
    "folder": "The folder of this model was written to since the app loaded it; this is still the model of {told}. "
    "Whoever runs the app can start it again to load the new one.",
    "hub": "A newer version of this model is on the Hub; this is still {told}. "
    "Whoever runs the app can start it again to load the new one.",
    "endpoint": "The endpoint serves another model under this name than when the app started.",
}


@dataclass
class Loaded:
    """A model as it was when it was loaded.

    Attributes:
        kind: "folder", "hub" or "endpoint".
        told: What the page says of it; of an endpoint nothing, for where it is and what it says is nobody's business.
        look: What is compared: how it is now. None says nothing.
        before: How it was.
    """

    kind: str
    told: str
    look: Callable[[], Any]
    before: Any
    _changed: bool = False
    _looked: float = field(default_factory=time.monotonic)
    _lock: Any = field(default_factory=threading.Lock, repr=False)

    @classmethod
    def of_folder(cls, folder: str, adapter_base: str | None = None) -> Loaded:
        """Call it before the folder is read, so that no change is missed.

        Args:
            adapter_base: What an adapter is put on in place of the base it names.

        Raises:
            CFTError: Weights that cannot be read.
        """
        stamps = _stamps(folder, adapter_base)
        weights = own_identity(folder).get("weights", "")
        told = f"weights {weights[:12]}" if weights else ""
        return cls("folder", told, lambda: _stamps(folder, adapter_base), stamps)

    @classmethod
    def of_hub(cls, name: str, revision: str | None, commit: str | None) -> Loaded:
        """Of a Hub id that was loaded at a commit.

        Args:
            name: The Hub id.
            revision: What was asked for: a branch, a tag, a commit or None.
            commit: The commit that it stood for; None where that is not known.
        """
        return cls("hub", f"commit {commit[:12]}" if commit else "", lambda: hub_commit(name, revision), commit)

    @classmethod
    def of_endpoint(cls, model: str, address: str, key_env: str) -> Loaded:
        """Of a model behind an endpoint, by what `/v1/models` says of it.

        Args:
            model: Its name there.
            address: The endpoint's.
            key_env: The variable that holds its key.
        """
        from cft_trl.generation.identities import served_identity

        def look() -> Any:
            return served_identity(model, address, key_env) or None

        return cls("endpoint", "", look, look() or endpoint_identity(address, model))

    def note(self) -> str | None:
        """What a visitor is to know, or None while it is what was loaded."""
        if self.kind == "folder":
            self._look()
        elif not self._changed and time.monotonic() - self._looked > _EVERY[self.kind]:
            with self._lock:
                self._looked = time.monotonic()
                threading.Thread(target=self._look, daemon=True).start()
        return _NOTES[self.kind].format(told=self.told or "the one of then") if self._changed else None

    def _look(self) -> None:
        with suppress(CFTError, OSError):
            now = self.look()
            self._changed = now is not None and self.before is not None and now != self.before


def _stamps(folder: str, adapter_base: str | None = None) -> dict[str, tuple[int, int, int]]:
    """Of the files that a model is, sizes, times and inodes; not the inode's time, which a new hard link changes."""
    found = {}
    for path in model_files(Path(folder), adapter_base):
        with suppress(OSError):
            told = path.stat()
            found[str(path)] = told.st_size, told.st_mtime_ns, told.st_ino
    return found
