"""What the base model's card says of its licence, as a suggestion for the card of what was trained from it.

    base_licence("Qwen/Qwen2.5-Math-7B")      # {"license": "apache-2.0"}
    base_licence("/data/models/mine")         # of the README.md in that folder; {} where it says nothing

Only what is stated there is passed on; nothing is guessed from a model's name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cft_trl.models.names import SMALL_MODEL, SMALL_MODEL_HUB_ID

_KEYS = ("license", "license_name", "license_link")


def base_licence(name: str | None, revision: str | None = None) -> dict[str, str]:
    """The licence entries of a model's card.

    Args:
        name: Hub id, folder or `smollm2-135m`.
        revision: Commit, tag or branch on the Hub.

    Returns:
        `license`, and where it is "other" `license_name` and `license_link`; {} where nothing is stated, or the Hub
        cannot be asked.
    """
    if not name:
        return {}
    if name in (SMALL_MODEL, SMALL_MODEL_HUB_ID):
        return {"license": "apache-2.0"}
    if Path(name).is_dir():
        return _stated(_front_matter(Path(name) / "README.md"), None)
    from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError, HTTPError

    try:
        path = try_to_load_from_cache(name, "README.md", revision=revision)
        if not isinstance(path, str):
            # Asked first: without a network a download is tried for half a minute.
            files = HfApi().model_info(name, revision=revision, timeout=10).siblings or ()
            if not any(file.rfilename == "README.md" for file in files):
                return {}
            path = hf_hub_download(name, "README.md", revision=revision)
    except (HTTPError, HFValidationError, OSError, RuntimeError, ValueError):
        return {}
    return _stated(_front_matter(Path(path)), name)


def _front_matter(path: Path) -> dict[str, Any]:
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        found = yaml.safe_load(text.split("---", 2)[1]) if text.startswith("---") else {}
    except (OSError, UnicodeDecodeError, IndexError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


def _stated(data: dict[str, Any], repo_id: str | None) -> dict[str, str]:
    found = {key: data[key] for key in _KEYS if isinstance(data.get(key), str)}
    link = found.get("license_link", "")
    if link and "://" not in link:  # a file beside the base model's card
        if repo_id:
            found["license_link"] = f"https://huggingface.co/{repo_id}/blob/main/{link.removeprefix('./')}"
        else:
            del found["license_link"]
    return found if "license" in found else {}
