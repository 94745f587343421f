r"""What a build's folder remembers of the teachers that it has asked; see identities.py for what each of them is.

    out/journal/teachers.json      {"41aa…": {"teacher": "openai:m@…", "identity": {…}, "round": 0, "at": []}, …}

`round` counts how often its answers were asked for anew; `at` are other addresses that the same server was found under.
What does not answer now (a server that is down, the Hub, a folder that is gone) is taken for what it was last: then
only the journal can give answers, and those are its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cft_trl.data.folders import write_text
from cft_trl.errors import CFTError
from cft_trl.generation.endpoint_settings import true_url
from cft_trl.generation.identities import (
    bare_address,
    key_of,
    reference_identity,
    served_identity,
    transformers_identity,
    vllm_identity,
)
from cft_trl.generation.names import ModelName, parse_model_name
from cft_trl.models.identity import Identity, endpoint_identity, model_identity, what_changed


def identity_now(spec: ModelName, vllm_options: Sequence[str] = ()) -> Identity | None:
    """What a teacher is at this moment; None for an endpoint or the Hub where it does not answer.

    Raises:
        CFTError: There is no such model.
    """
    if spec.kind == "reference":
        return reference_identity()
    if spec.kind == "openai":
        return served_identity(spec.model, spec.base_url, spec.key_env)
    if spec.kind == "vllm":
        found = vllm_identity(spec.source, spec.revision, vllm_options)
    else:
        found = transformers_identity(spec.source, spec.revision)
    unknown = found["model"]["kind"] == "hub" and found["model"]["commit"] is None
    return None if unknown else found


def name_of(spec: ModelName) -> str:
    """A teacher as `teachers.json` knows it again: as a recipe writes it, without the variable of its key."""
    if spec.kind == "reference":
        return spec.kind
    if spec.kind == "openai":
        return f"openai:{spec.model}@{bare_address(true_url(spec.base_url))}"
    return f"{spec.kind}:{spec.source}" + (f"@{spec.revision}" if spec.revision else "")


class KnownTeachers:
    """The teachers of a build: what each one is, and what `journal/teachers.json` remembers of it.

    Args:
        folder: The build's folder.
        vllm_options: As for `open_teachers`.

    Attributes:
        changed: Name of a teacher -> what of it is another than it was when this folder last asked it.

    Raises:
        CFTError: `journal/teachers.json` cannot be read.
    """

    def __init__(self, folder: str | Path, vllm_options: Sequence[str] = ()) -> None:
        self.path = Path(folder) / "journal" / "teachers.json"
        self.changed: dict[str, str] = {}
        self._options = tuple(vllm_options)
        self._found: dict[str, Identity] = {}  # by name, without the round
        self._entries: dict[str, dict[str, Any]] = {}
        try:
            entries = json.loads(self.path.read_text(encoding="utf-8"))
            self._entries = {
                key: {**entry, "round": entry.get("round", 0), "at": entry.get("at", [])}
                for key, entry in entries.items()
            }
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError, AttributeError):
            raise CFTError(
                f"{self.path}: cannot be read; it says whose answers the journal holds, so put it back (or remove it: "
                "endpoints that moved or were asked anew are then asked once more)"
            ) from None

    def identity(self, teacher: str) -> Identity:
        """What a teacher is, with the newest round of its answers.

        Raises:
            CFTError: There is no such model, and this folder has never asked it.
        """
        spec = parse_model_name(teacher)
        name = name_of(spec)
        if name not in self._found:
            self._found[name] = self._find(spec, name)
        identity = self._found[name]
        entry = self._entries.get(key_of(identity))
        return identity | ({"round": entry["round"]} if entry and entry["round"] else {})

    def _find(self, spec: ModelName, name: str) -> Identity:
        last = self._last(name)
        try:
            now = identity_now(spec, self._options)
        except CFTError:
            if last is None:
                raise
            now = None
        if now is None:
            return last or _unseen(spec)
        if last is None:
            return now
        if _moved(now, last) == last:
            return last
        if told := what_changed(last, now):
            self.changed[name] = told
        return now

    def _last(self, name: str) -> Identity | None:
        """What a teacher was when it was last asked."""
        found = [entry for entry in self._entries.values() if name == entry["teacher"] or name in entry["at"]]
        return found[-1]["identity"] if found else None

    def save(self, teachers: Sequence[str]) -> None:
        """Remembers teachers that are about to be asked; the last asked stand last.

        Raises:
            CFTError: The disk is full.
        """
        for teacher in teachers:
            name = name_of(parse_model_name(teacher))
            identity = {part: value for part, value in self.identity(teacher).items() if part != "round"}
            entry = self._entries.pop(key_of(identity), {"teacher": name, "identity": identity, "round": 0, "at": []})
            if name != entry["teacher"] and name not in entry["at"]:
                entry["at"].append(name)
            for other in self._entries.values():  # an address is that of one server at a time
                other["at"] = [at for at in other["at"] if at != name]
            self._entries[key_of(identity)] = entry
        self._write()

    def _write(self) -> None:
        text = json.dumps(self._entries, indent=1, ensure_ascii=False)
        try:
            if self.path.is_file() and self.path.read_text(encoding="utf-8").strip() == text:
                return
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_text(self.path, text)
        except OSError as error:
            raise CFTError(f"{self.path}: cannot be written ({error.strerror}); make room and run it again") from None

    # ---- on purpose ----

    def ask_again(self, teachers: Sequence[str]) -> None:
        """Begins a new round of a teacher's answers; the reference teacher would write the same.

        Raises:
            CFTError: No other teacher is asked.
        """
        again = list(dict.fromkeys(teacher for teacher in teachers if teacher != "reference"))
        if not again:
            raise CFTError("--ask-again: this recipe asks nobody whose answers could be others; leave it out")
        self.save(again)
        for key in {key_of(self._found[name_of(parse_model_name(teacher))]) for teacher in again}:
            self._entries[key]["round"] += 1
        self._write()

    def answers_of(self, address: str, teachers: Sequence[str]) -> None:
        """Takes the endpoint of each teacher for the one that this folder asked at another address.

        Raises:
            CFTError: It never asked any of these models there; or the server says that it serves something else.
        """
        address, taken = bare_address(address), False
        for teacher in dict.fromkeys(teachers):
            spec = parse_model_name(teacher)
            there = [entry for entry in self._endpoints(spec.model) if entry["identity"]["address"] == address]
            if spec.kind != "openai" or not there:
                continue
            taken, then, name = True, there[-1]["identity"], name_of(spec)
            now = identity_now(spec)
            if now is not None and (told := what_changed(then, _moved(now, then))):
                raise CFTError(f"--answers-of {address}: the server of {name} is another one: {told}")
            self._found[name] = then
            self.changed.pop(name, None)
            self.save([teacher])
        if not taken:
            known = dict.fromkeys(entry["identity"]["address"] for entry in self._endpoints())
            told = f"its answers are of {', '.join(known)}" if known else "it has asked no endpoint"
            raise CFTError(f"--answers-of {address}: this folder has asked none of these models there; {told}")

    def _endpoints(self, model: str | None = None) -> list[dict[str, Any]]:
        found = [entry for entry in self._entries.values() if entry["identity"].get("kind") == "endpoint"]
        return [entry for entry in found if model in (None, entry["identity"]["name"])]

    # ---- what is told ----

    def lines(self, stage: str, teachers: Sequence[str], kept: Mapping[str, Any]) -> list[str]:
        """Whose answers a stage goes on with, and whose it does not use; one line each.

        Args:
            stage: Its name.
            teachers: Whom it asks.
            kept: What the stage's journal holds, by the signature of its answers (`journal.kept_answers`).
        """
        lines = []
        for teacher in dict.fromkeys(teachers):
            spec, identity = parse_model_name(teacher), self.identity(teacher)
            name, answers = name_of(spec), kept.get(key_of(identity)[:8])
            if told := self.changed.get(name):
                then = f"its {answers} are used again, the rest is" if answers else "it is"
                lines.append(f"{stage}: {name} is another one: {told}; {then} asked anew, the old answers stay")
            if spec.kind != "openai":
                continue
            if answers:
                lines.append(f"{stage}: {answers} from {spec.model} at {identity['address']}; --ask-again asks anew")
            for entry in self._endpoints(spec.model):
                elsewhere, there = kept.get(_signature(entry)), entry["identity"]["address"]
                if elsewhere and there != identity["address"] and entry["teacher"] != name:
                    lines.append(
                        f"{stage}: {elsewhere} from {spec.model} at {there} are not used, as this is another address; "
                        f"if it is the same server, --answers-of {there} goes on with them"
                    )
        return lines

    def check_same(self, teachers: Sequence[str]) -> None:
        """Sees after a stage whether its endpoints are still what they were before it.

        Raises:
            CFTError: One is another by now, so that nobody knows which of the two gave an answer. All of its answers of
                this round are left where they are and not used again.
        """
        for teacher in dict.fromkeys(teachers):
            spec = parse_model_name(teacher)
            then = self._found[name_of(spec)]
            now = identity_now(spec) if spec.kind == "openai" else None
            if now is not None and (told := what_changed(then, _moved(now, then))):
                if told_nothing(then):
                    continue  # it did not answer before: the next run knows it by what it says
                self._entries[key_of(then)]["round"] += 1
                self._write()
                raise CFTError(
                    f"{name_of(spec)} became another one while it was asked: {told}; its answers cannot be told apart, "
                    "so none of them is used; the same command asks anew"
                )


def told_nothing(identity: Mapping[str, Any]) -> bool:
    """Whether an endpoint is known by its address and name only."""
    return set(identity) <= {"kind", "address", "name", "round"}


def _unseen(spec: ModelName) -> Identity:
    """A teacher that does not answer and has never been asked: an endpoint is its address, a Hub id its name."""
    if spec.kind == "openai":
        return endpoint_identity(bare_address(true_url(spec.base_url)), spec.model)
    return {"kind": spec.kind, "model": model_identity(spec.source, spec.revision)}


def _moved(now: Identity, then: Identity) -> Identity:
    """An endpoint as it would be at the address that it had."""
    return now | {"address": then["address"]} if now["kind"] == then.get("kind") == "endpoint" else now


def _signature(entry: Mapping[str, Any]) -> str:
    return key_of(entry["identity"] | ({"round": entry["round"]} if entry["round"] else {}))[:8]
