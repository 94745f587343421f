"""A trained model on its way to the Hub: weights, tokenizer, card and results, and nothing else of the run's folder.

    push_model("runs/mine", "my-org/my-critic", evaluations=["runs/eval-cft"])
    # model.safetensors, config.json, tokenizer.json, …      of best/, where the run chose among its checkpoints
    # README.md                                              the card, with the evaluations
    # training.json, preparation.json, metrics.json, selection.json, settings.json, training.png, selection.png
    # evaluations/eval-cft.json, .eval_results/gsm8k.yaml

Never sent: optimizer states, training_args.bin and other pickles, journals, checkpoints, generations. What is sent
names no path of this machine.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cft_trl.data.digests import sha256_of
from cft_trl.data.folders import read_json
from cft_trl.errors import CFTError
from cft_trl.hub.licence import base_licence
from cft_trl.hub.model_card import base_model_name, is_hub_id, render_model_card
from cft_trl.hub.results import benchmark_section, evaluation_files, find_results, hub_entries, read_results
from cft_trl.hub.run_card import read_run
from cft_trl.hub.upload import check_repo_id, commit_files
from cft_trl.models.portable import portable_adapter, portable_files
from cft_trl.models.run_record import check_mine, run_of

# What `from_pretrained` reads beside the weights.
_MODEL = {
    "config.json", "generation_config.json", "adapter_config.json", "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "vocab.txt", "tokenizer.model",
    "spiece.model", "chat_template.jinja", "chat_template.json", "processor_config.json", "preprocessor_config.json",
}  # fmt: skip
# What a run tells about itself.
_RECORDS = ("training.json", "settings.json", "preparation.json", "metrics.json", "selection.json")
_AGAIN = "the same `cft train` writes it again"
_PLOTS = ("training.png", "selection.png")
_INDEX = "model.safetensors.index.json"
_TEMPLATES = "additional_chat_templates"
_OURS = re.compile(rf".*\.safetensors(\.index\.json)?|evaluations/.*|\.eval_results/.*|{_TEMPLATES}/.*|README\.md")
# A whole value that is a path: "/home/me/rows.jsonl", "~/x", "../x".
_PATH = re.compile(r"(?:/|~|\.{1,2}/)[^\s]*/?")


@dataclass(frozen=True)
class Publication:
    """What a push sends.

    Attributes:
        files: Path in the repository -> file, or content.
        model: Which of the run's models it is, in words.
        folder: Where the weights lie.
    """

    files: dict[str, Path | bytes]
    model: str
    folder: Path

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes by path."""
        return {
            name: len(content) if isinstance(content, bytes) else content.stat().st_size
            for name, content in self.files.items()
        }


def push_model(
    run: str | Path,
    repo_id: str,
    *,
    checkpoint: str | None = None,
    evaluations: Sequence[str | Path] = (),
    private: bool = False,
    revision: str | None = None,
    message: str | None = None,
) -> str:
    """Pushes a run's model to a model repository of the Hub, in one commit.

    Args:
        run: The run's folder.
        repo_id: "org/name"; made if it is not there.
        checkpoint: "best", "last" or a step; default the best where the run chose one, else the last.
        evaluations: Folders of `cft eval` and `cft eval-critic`, of this model and of its base model; those in the
            run's folder are found without being named.
        private: Whether the repository is private. One that is there and public is refused then, not changed.
        revision: The branch, made if it is not there; None is main.
        message: The commit's message.

    Returns:
        The commit's URL.

    Raises:
        CFTError: No finished run, weights that are not whole, an evaluation of another model; or as `push_dataset`.
    """
    publication = prepare_push(run, repo_id, checkpoint=checkpoint, evaluations=evaluations)
    return send(publication, repo_id, private=private, revision=revision, message=message)


def send(
    publication: Publication,
    repo_id: str,
    *,
    private: bool = False,
    revision: str | None = None,
    message: str | None = None,
) -> str:
    """Sends what `prepare_push` put together; see `push_model`.

    Args:
        publication: What is sent.
        repo_id, private, revision, message: As for `push_model`.
    """
    return commit_files(
        repo_id,
        "model",
        publication.files,
        lambda name: bool(_OURS.fullmatch(name)) or name in {*_MODEL, *_RECORDS, *_PLOTS},
        private=private,
        revision=revision,
        message=message or f"Publish the model: {publication.model.removeprefix('those ')}",
    )


def prepare_push(
    run: str | Path, repo_id: str, *, checkpoint: str | None = None, evaluations: Sequence[str | Path] = ()
) -> Publication:
    """What `push_model` would send. Nothing is written; the Hub is asked which benchmarks it has registered.

    Args:
        run, repo_id, checkpoint, evaluations: As for `push_model`.

    Raises:
        CFTError: As `push_model`, but for the upload.
    """
    check_repo_id(repo_id)
    run = Path(run)
    record = _with_licence(read_run(run))
    folder, model = choose_model(run, checkpoint)
    weights = check_weights(folder)
    known = {path.resolve() for path in map(Path, evaluations)}
    folders = [*evaluations, *(path for path in find_results(run) if path.resolve() not in known)]
    results = read_results(folders, record, folder, repo_id)
    files: dict[str, Path | bytes] = {path.name: path for path in sorted(folder.iterdir()) if _belongs(path, weights)}
    files |= {path.relative_to(folder).as_posix(): path for path in folder.glob(f"{_TEMPLATES}/*.jinja")}
    rewritten, _ = portable_files(folder)  # a run of before this was done as it was saved
    files |= rewritten
    if "adapter_config.json" in files:
        files["adapter_config.json"] = _adapter_config(folder, record)
    # The first by what it says and not by its file: a run of before there was one has it too then.
    told = {name: read_json(run / name, _AGAIN) for name in _RECORDS if (run / name).is_file()}
    told |= {"training.json": record}
    for name, content in told.items():
        files[name] = (json.dumps(_public(content), indent=1, ensure_ascii=False) + "\n").encode()
    files |= {name: run / name for name in _PLOTS if (run / name).is_file()}
    files |= evaluation_files(results, record, repo_id)
    source = f"https://huggingface.co/{repo_id}/tree/main/evaluations"
    entries, index = hub_entries(results, record, repo_id, source)
    files |= entries
    card = render_model_card(
        record,
        run,
        model_folder=folder,
        usage_name=repo_id,
        checkpoint=model,
        benchmarks=benchmark_section(results),
        eval_results=index,
        files={path.name: (path.stat().st_size, sha256_of(path)) for path in weights},
    )
    files["README.md"] = (card + "\n").encode()
    return Publication(dict(sorted(files.items())), model, folder)


def _with_licence(record: dict[str, Any]) -> dict[str, Any]:
    base = record.get("base_model", {})
    return {**record, "base_model": {**base, "licence": base_licence(base.get("name"), base.get("commit"))}}


def choose_model(run: Path, checkpoint: str | None) -> tuple[Path, str]:
    """-> the folder of one of a run's models, and which it is, in words.

    Raises:
        CFTError: There is no such model, or nothing was chosen where the best is asked for.
    """
    selection = read_json(run / "selection.json", f"run `cft select {run}` again")
    if checkpoint is None:
        checkpoint = "best" if selection else "last"
    if checkpoint == "best":
        if not selection:
            raise CFTError(f"'{run}' holds no selection.json, so nothing says which is best; run `cft select {run}`")
        if not (run / "best").is_dir():
            raise CFTError(f"'{run / 'best'}' is gone; run `cft select {run}` again, or give --checkpoint last")
        remedy = f"run `cft select {run}` again, or give --checkpoint last"
        check_mine(run, "selection.json", selection.get("run"), remedy)
        check_mine(run, "best", run_of(run / "best"), remedy)
        step, last = selection["winner"]["step"], max(point["step"] for point in selection["curve"])
        benchmark = selection["benchmark"].rstrip("/").split("/")[-1]
        return run / "best", f"those of step {step}, chosen on {benchmark} among checkpoints up to step {last}"
    if checkpoint == "last":
        if not (any(run.glob("*.safetensors")) or (run / _INDEX).is_file()):
            raise CFTError(f"'{run}' holds no model: its training has not come to its end; go on, or give a step")
        return run, "those at the end of training"
    for folder in (run / f"checkpoint-{checkpoint}", run / "_selected" / f"step-{checkpoint}"):
        if folder.is_dir():
            check_mine(run, folder.name, run_of(folder), "remove it, or give another step")
            return folder, f"those of step {checkpoint}"
    steps = {path.name.rpartition("-")[2] for path in [*run.glob("checkpoint-*"), *run.glob("_selected/step-*")]}
    found = ", ".join(sorted(steps, key=lambda step: (len(step), step))) or "none"
    raise CFTError(f"'{run}' holds no checkpoint {checkpoint}; give best, last or a step that is there: {found}")


def check_weights(folder: Path) -> list[Path]:
    """The files of weights, each opened to see that it is whole.

    Raises:
        CFTError: There are none, one is missing or cut short, or they are a pickle.
    """
    from safetensors import SafetensorError, safe_open

    if (folder / _INDEX).is_file():
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        paths = [folder / name for name in sorted(set(index["weight_map"].values()))]
    else:
        paths = [path for name in ("model", "adapter_model") if (path := folder / f"{name}.safetensors").is_file()]
    if not paths:
        pickles = [path.name for path in folder.glob("*.bin") if "model" in path.name]
        what = f"weights only as a pickle ({pickles[0]})" if pickles else "no weights"
        raise CFTError(f"'{folder}' holds {what}; give a run that saved them as safetensors")
    for path in paths:
        try:
            with safe_open(path, "np"):
                pass
        except (OSError, SafetensorError) as error:
            raise CFTError(f"{path}: missing or not whole ({error}); push another checkpoint, or train again") from None
    return paths


def _belongs(path: Path, weights: Sequence[Path]) -> bool:
    """Whether a file of the model's folder is part of the model."""
    if path in weights or path.name in _MODEL or path.name == _INDEX:
        return path.is_file()
    # Code that comes with a model is part of it where its configuration names it; it is not run here.
    return path.suffix == ".py" and "auto_map" in (path.parent / "config.json").read_text(encoding="utf-8")


def _adapter_config(folder: Path, record: dict[str, Any]) -> bytes:
    """An adapter's settings, with the base model's Hub id and commit in the place of where it lay here.

    Raises:
        CFTError: The base model is on no Hub, so that nobody could load the adapter.
    """
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    base = base_model_name(record) or config.get("base_model_name_or_path")
    if not is_hub_id(base):
        raise CFTError(
            f"'{folder}' is an adapter on a local model ({base}), which nobody else has; push that model first and "
            "train on its Hub id, or merge the adapter into it"
        )
    config |= {"base_model_name_or_path": base, "revision": record.get("base_model", {}).get("commit")}
    config = portable_adapter(config)
    return (json.dumps(config, indent=2) + "\n").encode()


def _public(value: Any) -> Any:
    """A record without the paths of this machine: of each the last part is left.

    Example:
        >>> _public({"dataset_name": "/home/me/rows.jsonl", "steps": [4], "system": "a / b"})
        {'dataset_name': 'rows.jsonl', 'steps': [4], 'system': 'a / b'}
    """
    if isinstance(value, dict):
        return {key: _public(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_public(part) for part in value]
    if isinstance(value, str) and _PATH.fullmatch(value):
        return value.rstrip("/").split("/")[-1]
    return value
