"""With which critique prompt a model was trained, as its run's folder or what was pushed of it says."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import cast

from cft_trl.data.prompts import PRESETS, PresetName, Wording, read_wording
from cft_trl.errors import nearest


def trained_preset(model: str, revision: str | None = None, *, on_hub: bool = True) -> PresetName | Wording:
    """The critique prompt that a run's folder, or what was pushed of it, says; "paper" where nothing says.

    A prompt of one's own and verdict words of one's own come with it.

    Raises:
        CFTError: What it says cannot be used by this version.

    Args:
        on_hub: Whether a name that is no folder here is looked for on the Hub; an endpoint's own names are not there.

    Example:
        >>> trained_preset("runs/nothing/here")
        'paper'
    """
    return told_preset(model, revision, on_hub=on_hub) or "paper"


def told_preset(model: str, revision: str | None = None, *, on_hub: bool = True) -> PresetName | Wording | None:
    """As `trained_preset`, but None where nothing says.

    Args:
        model, revision, on_hub: As there.
    """
    names, here = ("quickstart.json", "settings.json", "training.json"), Path(model).expanduser()
    places = [folder / name for folder in (here, here.parent) for name in names]
    if on_hub and not here.exists() and (pushed := _record_on_hub(model, revision)):
        places = [pushed]
    for path in places:
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            settings = told if told.get("prompt_preset") else told.get("settings", {})
            preset = read_wording(settings)
        except (OSError, ValueError, AttributeError):
            continue
        if path.name == "quickstart.json":
            return "compact"
        if preset is not None:
            return preset
    return None


def named_preset(text: str) -> PresetName | Wording | None:
    """The critique prompt that a flag or a variable names: a preset, or the folder of the run that was trained with it.

    Raises:
        CFTError: As for `trained_preset`.

    Example:
        >>> named_preset("compact"), named_preset("runs/nothing/here")
        ('compact', None)
    """
    if text in PRESETS:
        return cast(PresetName, text)
    folder = os.path.expanduser(text)
    return told_preset(folder, on_hub=False) if os.path.isdir(folder) else None


def no_preset(text: str) -> str:
    """What is told of a name that is no critique prompt.

    Example:
        >>> no_preset("papr")
        "papr is no prompt (did you mean 'paper'?); give paper, compact, per_step or a run's folder"
    """
    return f"{text} is no prompt{nearest(text, PRESETS)}; give {', '.join(PRESETS)} or a run's folder"


def _record_on_hub(model: str, revision: str | None) -> Path | None:
    """The record of the run that a model on the Hub came from, as `cft push` sent it; None where there is none."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HTTPError

    if model.count("/") != 1:
        return None
    try:
        return Path(hf_hub_download(model, "training.json", revision=revision))
    except (HTTPError, OSError, RuntimeError, ValueError):  # the model itself is asked for next, and its errors told
        return None
