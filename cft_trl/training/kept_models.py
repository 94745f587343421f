"""The models of checkpoints that a selection keeps: hard links to their files, and the link `best` to one of them.

runs/mine/_selected/step-40/{model.safetensors, config.json, run.json, …}
runs/mine/best -> _selected/step-40
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from cft_trl.data.digests import content_digest, still_the_same
from cft_trl.errors import CFTError
from cft_trl.models.identity import folder_identity, own_identity
from cft_trl.models.run_record import run_of

_MODEL_FILES = (".json", ".safetensors", ".jinja", ".model", ".txt", ".py")


def fingerprint(checkpoint: Path, adapter_base: str | None = None) -> str:
    """What a checkpoint's model is: its weights, tokenizer, template and configurations, not what it is called.

    Args:
        adapter_base: What an adapter is put on in place of the base it names.
    """
    return content_digest(folder_identity(checkpoint, adapter_base))


def _same(one: Path, other: Path) -> bool:
    return run_of(one) == run_of(other) and own_identity(one) == own_identity(other)


def link_model(checkpoint: Path, target: Path) -> None:
    """The model files of a checkpoint under another name, without optimizer state and, where links work, for free."""
    if checkpoint.resolve() == target.resolve() or (target.is_dir() and _same(target, checkpoint)):
        return
    scratch = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    for file in checkpoint.iterdir():
        if file.suffix in _MODEL_FILES and file.is_file():
            try:
                with still_the_same(file):
                    os.link(file, scratch / file.name)
            except OSError:  # a file system without hard links
                shutil.copy2(file, scratch / file.name)
    shutil.rmtree(target, ignore_errors=True)
    os.replace(scratch, target)


def point_best(run: Path, target: Path) -> None:
    """Makes RUN/best a link to `target` (relative to RUN), or a copy where links are not allowed."""
    best, scratch = run / "best", run / f".best.{os.getpid()}"
    if not best.is_symlink():
        remove(best)
    try:
        os.symlink(target, scratch, target_is_directory=True)
    except OSError:
        shutil.copytree(run / target, scratch)
    os.replace(scratch, best)


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def check_weights(checkpoint: Path) -> None:
    """
    Raises:
        CFTError: The checkpoint holds no weights that from_pretrained loads.
    """
    if not any(checkpoint.glob("*.safetensors")):
        raise CFTError(
            f"'{checkpoint}' holds no weights to score: set zero3_save_16bit_model (ZeRO-3) or fsdp_state_dict_type "
            "FULL_STATE_DICT in the accelerate config, or train without selection"
        )
