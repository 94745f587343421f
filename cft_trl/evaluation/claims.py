"""Whose folder an evaluation's output is: what was asked, of which model, on which problems; compared before asking.

    OUT/run.json
    {"command": "eval", "model": "runs/mine", "identity": {"kind": "transformers", "model": {"kind": "folder",
     "weights": "9f2c…", "template": "c0de…", …}, "dtype": "float32"}, "asked": {"mode": "direct", …}, "data": {"gsm8k":
     {"100 of 1319": "77d0…"}}, "code": "0b7e…", "version": "0.1.0", "round": 1}

What is kept of an answer is kept under `Claim.key`: the identity and the round. Something else than before is refused
in one line, so that no score is ever of two models. What cannot be told apart is an endpoint that says nothing of its
model: there the run goes on and says whose answers it keeps; `--ask-again` begins another round and asks anew.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cft_trl import __version__
from cft_trl.data.digests import code_digest, content_digest
from cft_trl.data.folders import write_text
from cft_trl.errors import CFTError, in_line
from cft_trl.evaluation.backends import Backend
from cft_trl.evaluation.sampling import Stratum, draw, subject
from cft_trl.generation.journal import kept_answers
from cft_trl.models.identity import what_changed

FILE = "run.json"
# Of an endpoint these are told by the server, which may say nothing now and then.
_TOLD_BY_SERVER = ("served", "context", "created")


@dataclass
class Claim:
    """A folder that is ours.

    Attributes:
        folder: The output.
        told: The content of `run.json`.
    """

    folder: Path
    told: dict[str, Any]

    @property
    def identity(self) -> dict[str, Any]:
        return self.told["identity"]

    @property
    def round(self) -> int:
        """1, and one more for each `--ask-again`."""
        return self.told["round"]

    @property
    def key(self) -> str:
        """What answers are kept under: 16 hex digits."""
        return self.key_of(self.identity)

    def key_of(self, identity: Mapping[str, Any]) -> str:
        """The same for another who is asked in this run: a judge."""
        return content_digest([identity, self.round])

    def begin_round(self) -> None:
        """From now on everything is asked anew; the answers of earlier rounds stay in the journal."""
        self.told["round"] += 1
        self._write()

    def may_ask(self, kept: int) -> None:
        """Called before the first question of a run of which `kept` answers are there.

        Raises:
            CFTError: These are of another version of our own code, and the run's texts would be of both.
        """
        code = text_code()
        if self.told["code"] != code:
            if kept:
                raise CFTError(
                    f"'{self.folder}' holds {kept} answers that cft-trl {self.told['version']} wrote, whose code for "
                    f"texts is another than this one's ({__version__}); finish it with that version, give --ask-again, "
                    "or another --output"
                )
            self.told |= {"code": code, "version": __version__}
            self._write()

    def tell_whose(self, shard: str, identity: Mapping[str, Any] | None = None) -> None:
        """Says on standard error whose answers a run with an endpoint goes on with, and from when they are.

        Args:
            shard: The journal's.
            identity: Who was asked; None is the model.
        """
        identity = identity or self.identity
        if identity["kind"] == "endpoint":
            kept = kept_answers(self.folder / "journal", shard).get(self.key_of(identity)[:8])
            if kept:
                say(f"{kept} from {identity['address']}; --ask-again asks anew")

    def _write(self) -> None:
        write_text(self.folder / FILE, json.dumps(self.told, indent=1))


def take_folder(
    folder: Path,
    command: str,
    backend: Backend,
    asked: Mapping[str, Any],
    data: Mapping[str, tuple[Sequence[Mapping[str, Any]], int | None]],
    judge: Mapping[str, Any] | None = None,
    stratum: Stratum = subject,
) -> Claim:
    """Takes a folder, or finds that it is this run's already.

    Args:
        folder: The output; it is there.
        command: "eval" or "eval-critic".
        backend: Who is asked.
        asked: Settings that answers depend on; none may change.
        data: The problems by set, whole, and how many are asked: more or fewer may be the next time, not others.
        judge: The identity of who judges, where somebody does.
        stratum: What a set's samples are divided by (`sampling.draw`).

    Raises:
        CFTError: It is another run's; the message says what is another, and what to do.
    """
    mine = {
        "command": command,
        "model": backend.model,
        "identity": backend.identity(),
        **({"judge": dict(judge)} if judge else {}),
        "asked": dict(asked),
        "data": {name: _sample(rows, limit, stratum) for name, (rows, limit) in data.items()},
        "code": text_code(),
        "version": __version__,
        "round": 1,
    }
    mine = json.loads(json.dumps(mine, default=str))
    path = folder / FILE
    if not path.is_file():
        if any(folder.iterdir()):
            raise CFTError(f"'{folder}' holds files that are not of `cft {command}`; give another --output")
        found = Claim(folder, mine)
        found._write()
        return found
    theirs = _read(path, command)
    if changed := _asked_otherwise(theirs["asked"], mine["asked"]):
        raise CFTError(f"'{folder}' holds a run with {changed}; give another --output")
    _check_same(folder, "model", theirs["identity"], mine["identity"])
    if judge:
        _check_same(folder, "judge", theirs.get("judge", {}), mine["judge"])
    _check_data(folder, theirs["data"], {name: rows for name, (rows, _) in data.items()}, stratum)
    lengths = {name: {**theirs["data"].get(name, {}), **told} for name, told in mine["data"].items()}
    found = Claim(folder, {**theirs, "data": {**theirs["data"], **lengths}})
    if found.told != theirs:
        found._write()
    return found


def tell_fingerprints(found: Mapping[str, int]) -> None:
    """Says so where an endpoint's answers are of several systems."""
    if len(found) > 1:
        told = ", ".join(f"{name} {count}" for name, count in sorted(found.items()))
        say(f"the endpoint changed what it runs meanwhile: answers by its system_fingerprint: {told}")


def say(text: str) -> None:
    """A line on standard error."""
    print(f"cft: {text}", file=sys.stderr, flush=True)


def text_code() -> str:
    """A digest of our own code that answers depend on beside what they are asked: what writes, stops and cuts them."""
    package = Path(__file__).parents[1]
    names = ("generation/local", "generation/decoding", "generation/modes", "generation/endpoint", "data/prompts",
             "data/prompt_templates")  # fmt: skip
    return code_digest(*(str(package / f"{name}.py") for name in names))


def _read(path: Path, command: str) -> dict[str, Any]:
    try:
        theirs = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CFTError(f"{path}: cannot be read ({error}); give another --output") from None
    if not isinstance(theirs, dict) or theirs.get("command", command) != command:
        raise CFTError(f"'{path.parent}' holds a run of another kind, not of `cft {command}`; give another --output")
    needed = ("identity", "asked", "data", "code", "version", "round")
    if any(name not in theirs for name in needed):
        raise CFTError(
            f"'{path.parent}' holds a run that is not of `cft {command}`, or of an earlier version of it, which did "
            "not note what its model was; give another --output"
        )
    return theirs


def _asked_otherwise(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    name = next((name for name in {**now, **before} if before.get(name) != now.get(name)), None)
    return name and f"{name} {in_line(before.get(name))}, not {in_line(now.get(name))}"


def _check_same(folder: Path, who: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """
    Raises:
        CFTError: Who was asked is not who would be asked.
    """
    if before.get("kind") == now.get("kind") == "endpoint":
        silent = [name for name in _TOLD_BY_SERVER if name not in before or name not in now]
        before, now = ({k: v for k, v in told.items() if k not in silent} for told in (before, now))
    changed = what_changed(before, now)
    if not changed:
        return
    old, new = before.get("model", before), now.get("model", now)
    moved = old.get("kind") == new.get("kind") == "hub" and old.get("name") == new.get("name") and old.get("commit")
    instead = f", or --revision {old['commit']} to go on with the old one" if moved else ""
    raise CFTError(f"'{folder}' holds answers of another {who}: {changed}; give another --output{instead}")


def _sample(rows: Sequence[Mapping[str, Any]], limit: int | None, stratum: Stratum) -> dict[str, str]:
    """{"50 of 400": digest of these 50 rows}."""
    drawn = draw(rows, limit, stratum)
    return {f"{len(drawn)} of {len(rows)}": content_digest(drawn)}


def _check_data(
    folder: Path,
    before: Mapping[str, Mapping[str, str]],
    now: Mapping[str, Sequence[Mapping[str, Any]]],
    stratum: Stratum,
) -> None:
    """
    Raises:
        CFTError: Problems that were asked are others than they were.
    """
    for name, rows in now.items():
        for told, digest in before.get(name, {}).items():
            count, of = map(int, told.split(" of "))
            # Of a set of another size the sample is another one; what is kept of it is kept under its texts.
            if of == len(rows) and _sample(rows, count, stratum)[told] != digest:
                raise CFTError(
                    f"'{folder}' holds answers to other problems of {name}: its rows are not what they were; put the "
                    "old ones back, or give another --output"
                )
