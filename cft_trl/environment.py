"""What surrounds a run: every environment variable of ours, and what of the extras is installed.

CFT_BENCHMARKS_DIR=~/benchmarks cft eval runs/mine
require("grade", "grading", "mpmath")   # cft: grading needs mpmath, which is not installed; pip install …

`cft doctor` reads the table and docs/reference.md shows it. What is installed is asked before anything is loaded or
generated that would be lost without it.
"""

from __future__ import annotations

import importlib.util

from cft_trl.errors import CFTError

# name -> what it is for
VARIABLES = {
    "CFT_CACHE": "where converted models are kept (default: `cft_trl` beside the Hugging Face cache)",
    "CFT_BENCHMARKS_DIR": "folder with the benchmarks' files, one folder each, in place of the Hub",
    "CFT_BENCHMARKS_REVISIONS": "commits of the benchmarks on the Hub, `gsm8k=COMMIT,math=COMMIT`",
    "CFT_JUDGE": "who judges MT-Bench under lighteval's own command line: `MODEL`, `MODEL@URL`, `MODEL@URL#VARIABLE`",
    "CFT_PRICES": "YAML table of teachers' prices, in place of the package's own",
    "CFT_SLURM": "fields of datatrove's Slurm executor and options of sbatch, for `cft build --executor slurm`",
    "CFT_PLAIN_GENERATION": "1: transformers models write 16 rows at a time, by nothing of ours (generation/faster.py)",
    "CFT_PLAIN_MALLOC": "1: a CPU's training leaves malloc as it is (training/heap.py)",
    "CFT_PLAIN_PREPARATION": "1: every text is encoded whole by the tokenizer itself (training/pieces.py)",
    "CFT_PLAIN_REQUESTS": "1: every request to an endpoint is made by the `openai` library (generation/connection.py)",
    "CFT_GGUF_PYTHON": "Python of the environment that has llama.cpp's converter, for `cft export`",
    "CFT_VLLM_PYTHON": "Python of the environment that has vLLM, where that is not this one",
    "CFT_VLLM_OPTIONS": "options for every vLLM server that is started, as on a command line",
    "CFT_VLLM_START_SECONDS": "how long a vLLM server that is started may load until it answers (default: 600)",
    # the Space's, which has no command line (cft_trl/demo/settings.py)
    "CFT_MODEL": "Space: the critique-tuned model, a Hub id, a folder, or its name at the endpoint",
    "CFT_BASE_MODEL": "Space: what it was trained from, for the tab Compare",
    "CFT_REVISION": "Space: commit, tag or branch of the model on the Hub",
    "CFT_BASE_REVISION": "Space: the same of the base model",
    "CFT_ADAPTER_BASE": "Space: for an adapter, its base model, where it is not the one it names",
    "CFT_ENDPOINT": "Space: an OpenAI-compatible address that serves the model",
    "CFT_BASE_ENDPOINT": "Space: the same for the base model, where it is another",
    "CFT_EXTRA": "Space: further fields of each request to the endpoint, `{reasoning_effort: low, temperature: null}`",
    "CFT_API_KEY_ENV": "Space: the name of the variable that holds the endpoint's key",
    "CFT_PROMPT_PRESET": "Space: wording of the critique prompt, `paper`, `compact`, `per_step` or a run's folder",
    "CFT_ROWS": "Space: rows of critiques for the tab Browse, a file, a folder or a Hub id",
    "CFT_ROWS_NAME": "Space: their configuration, of a dataset on the Hub",
    "CFT_ROWS_REVISION": "Space: their commit, tag or branch on the Hub",
    "CFT_ROWS_LIMIT": "Space: how many of the first rows (default: 1000)",
    "CFT_MAX_NEW_TOKENS": "Space: the most tokens of one text",
    "CFT_MAX_ROUNDS": "Space: the most rounds of two-stage",
    "CFT_MAX_QUESTION": "Space: the longest question, in characters",
    "CFT_MAX_SOLUTION": "Space: the longest solution, in characters",
    "CFT_CONCURRENCY": "Space: texts written at the same time",
    "CFT_QUEUE_SIZE": "Space: requests that may wait",
    "CFT_PATIENCE": "Space: seconds without a piece of text, after which a request is given up",
}

# Distributions whose name is not their module's.
_DISTRIBUTIONS = {
    "liger_kernel": "liger-kernel",
    "math_verify": "math-verify",
    "latex2sympy2_extended": "latex2sympy2_extended",
}


def is_installed(module: str) -> bool:
    """Whether a module can be found; it is not imported.

    Example:
        >>> is_installed("json"), is_installed("no_such_module")
        (True, False)
    """
    return importlib.util.find_spec(module) is not None


def require(extra: str, what: str, *modules: str) -> None:
    """Refuses to begin without a library.

    Args:
        extra: The extra of cft-trl that brings it.
        what: What needs it, as the message's first words.
        modules: Names to import.

    Raises:
        CFTError: One is not installed; the message names the extra.

    Example:
        >>> require("eval", "grading", "no_such_module")
        Traceback (most recent call last):
        cft_trl.errors.CFTError: grading needs no_such_module, which is not installed; pip install 'cft-trl[eval]'
    """
    for module in modules:
        if not is_installed(module):
            name = _DISTRIBUTIONS.get(module, module)
            raise CFTError(f"{what} needs {name}, which is not installed; pip install 'cft-trl[{extra}]'")
