r"""Lets lighteval 0.13 run where it does not: for huggingface_hub >= 2, for xxhash >= 4, and without a network.

    python -m cft_trl.evaluation.lighteval_shim accelerate "model_name=runs/quickstart" cft_gsm8k \
        --custom-tasks cft_trl/evaluation/lighteval_tasks.py

is lighteval's own command line, after `apply()`. What is wrong with lighteval 0.13.0, and what is done about it:

    its registry imports every built-in task: one of them calls the Hub in a way that huggingface_hub 2 refuses, another
        downloads a pickle                                        -> only the custom tasks are loaded
    it hashes strings with xxhash, which takes bytes only since 4  -> they are encoded
    a task's data come from the Hub, whatever their number         -> ours come through `benchmarks.load_benchmark`
    a task has no system turn, only words before the question      -> ours have one
    with transformers a temperature alone does not make it sample  -> it does
    importing it turns automatic differentiation off               -> on again: who evaluates may go on training

The first two are left alone where nothing is wrong (`reasons`); another release of lighteval is refused, for these
are its insides.
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cft_trl.errors import CFTError, nearest

RELEASE = "0.13."
TASKS_FILE = Path(__file__).with_name("lighteval_tasks.py")
PREFIX = "cft_"


def reasons() -> list[str]:
    """Why lighteval's own registry or hashing would fail here; empty where it would not."""
    found = []
    if int(version("huggingface_hub").partition(".")[0]) >= 2:
        found.append("huggingface_hub >= 2")
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        found.append("offline")
    if int(version("xxhash").partition(".")[0]) >= 4:
        found.append("xxhash >= 4")
    return found


def apply() -> None:
    """Changes lighteval in this process; may be called again.

    Raises:
        CFTError: lighteval is not installed, or of another release than this file was written for.
    """
    try:
        found = version("lighteval")
    except PackageNotFoundError:
        raise CFTError("evaluation needs lighteval, which is not installed; pip install 'cft-trl[eval]'") from None
    if not found.startswith(RELEASE):
        raise CFTError(f"lighteval {found}: cft-trl was tested with {RELEASE}0; pip install 'lighteval=={RELEASE}0'")
    import torch

    differentiates = torch.is_grad_enabled()
    import lighteval.pipeline  # noqa: F401 (and with it all modules that do so)

    torch.set_grad_enabled(differentiates)
    from lighteval.models.model_input import GenerationParameters
    from lighteval.tasks.lighteval_task import LightevalTask
    from lighteval.tasks.prompt_manager import PromptManager
    from lighteval.tasks.registry import Registry

    if getattr(Registry, "_cft_trl", False):
        return
    Registry._cft_trl = True
    why = reasons()
    if "offline" in why or "huggingface_hub >= 2" in why:
        Registry.load_all_task_configs = staticmethod(_only_custom_tasks)
    if "xxhash >= 4" in why:
        import xxhash
        from lighteval.logging import info_loggers

        info_loggers.xxhash = SimpleNamespace(xxh64=lambda text: xxhash.xxh64(text.encode()))
    LightevalTask.download_dataset_worker = staticmethod(_read_ours(LightevalTask.download_dataset_worker))
    GenerationParameters.to_transformers_dict = _sampling(GenerationParameters.to_transformers_dict)
    PromptManager.prepare_prompt = _with_system_turn(PromptManager.prepare_prompt)
    PromptManager.prepare_prompt_api = _with_system_turn(PromptManager.prepare_prompt_api)


def _only_custom_tasks(custom_tasks: Any = None, load_multilingual: bool = False) -> dict[str, Any]:
    from lighteval.tasks.registry import Registry

    return Registry._extract_configs(Registry.create_custom_tasks_module(custom_tasks or TASKS_FILE))


def _read_ours(original: Any) -> Any:
    def read(task: Any) -> Any:
        if not task.name.startswith(PREFIX):
            return original(task)
        from cft_trl.grading.benchmarks import load_benchmark

        rows = task.config.prompt_function.rows or load_benchmark(task.name.removeprefix(PREFIX))
        return {task.config.evaluation_splits[0]: [{"house_row": row} for row in rows]}

    return read


def _sampling(original: Any) -> Any:
    def parameters(self: Any) -> dict[str, Any]:
        return {**original(self), **({"do_sample": True} if self.temperature > 0 else {})}

    return parameters


def _with_system_turn(original: Any) -> Any:
    def prepare(self: Any, doc: Any) -> Any:
        if not doc.task_name.startswith(PREFIX) or not doc.instruction or self.system_prompt is not None:
            return original(self, doc)
        instruction = doc.instruction
        self.system_prompt, doc.instruction = instruction.strip(), None
        try:
            return original(self, doc)
        finally:
            self.system_prompt, doc.instruction = None, instruction

    return prepare


def main() -> None:
    """lighteval's command line; what is wrong with the input is told in one line, as `cft` does."""
    try:
        apply()
        import torch
        from lighteval.__main__ import app

        with torch.no_grad():
            app()
    except CFTError as error:
        _end(error)
    except ValueError as error:
        if "Cannot find task" not in str(error):
            raise
        from cft_trl.grading.benchmarks import BENCHMARKS

        name = str(error).split()[3]
        known = [PREFIX + benchmark.replace("-", "_") for benchmark in BENCHMARKS]
        _end(f"there is no task {name}{nearest(name, known)}; ours: {', '.join(known)}")


def _end(message: object) -> None:
    print(f"lighteval_shim: {message}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
