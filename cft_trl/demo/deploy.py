"""The app as a Space of the Hub, self-contained: three small files and the package's own source.

    space_files()      # {"README.md": b"---\\ntitle: …", "app.py": …, "requirements.txt": …, "cft_trl/cli.py": …, …}
    deploy("my-org/my-space", {"CFT_MODEL": "my-org/my-model"})      # https://huggingface.co/spaces/my-org/my-space

The source travels along, so no package index needs to hold cft-trl. Requirements are this installation's own ranges, of
the few packages that the app needs. `python -m cft_trl.demo.deploy space` writes the three files to a folder.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cft_trl.errors import CFTError

# What of the package's dependencies a Space needs; gradio is the Space's SDK and comes with it.
REQUIRED = (
    "accelerate",
    "datasets",
    "huggingface_hub",
    "jinja2",
    "numpy",
    "openai",
    "safetensors",
    "torch",
    "transformers",
)
SOURCE_SUFFIXES = (".py", ".css", ".js", ".jinja", ".yaml")

APP = '''\
"""The Space: everything is in the package `cft_trl.demo`; CFT_MODEL and CFT_BASE_MODEL say which models it shows."""

import os

if os.environ.get("SPACES_ZERO_GPU"):
    import spaces  # noqa: F401  before anything that imports torch

from cft_trl.demo import serve

if __name__ == "__main__":
    serve()
'''

README = """\
---
title: Critique fine-tuning
emoji: 🔎
colorFrom: indigo
colorTo: gray
sdk: gradio
sdk_version: {gradio}
python_version: "3.12"
app_file: app.py
license: apache-2.0
short_description: What does a model trained to critique do?
tags:
- critique-fine-tuning
- cft-trl
---

# What does a model trained to critique do?

Critique fine-tuning ([arXiv 2501.17703](https://arxiv.org/abs/2501.17703)) trains a language model to say what is right
and wrong with a solution instead of imitating it. This app shows what comes of it:

- **Solve**: a question in, the answer streams, its final answer is marked. Directly, in a single pass with the model's
  own critique, or in two stages: a solution, a critique of it in a fresh prompt, and another solution unless that says
  right.
- **Critique**: a question and somebody's solution in; the critique streams, with its verdict and the first wrong step.
- **Compare**: the base model and the critique-tuned one on the same input.
- **Browse**: rows of critiques by verdict, teacher, length and agreement with the truth, the step that each calls wrong
  marked.
- **Learn**: the method in a picture, five worked examples, data, papers, code.

## Variables

Set them under *Settings*; the endpoint's key is a secret, the others are variables.

| variable | meaning | default |
|---|---|---|
| `CFT_MODEL` | the model: Hub id (or folder, or its name at the endpoint) | SmolLM2-135M-Instruct, not fine-tuned |
| `CFT_BASE_MODEL` | what it was trained from, for Compare | none |
| `CFT_REVISION`, `CFT_BASE_REVISION` | commit, tag or branch of the two | main |
| `CFT_ADAPTER_BASE` | for an adapter, its base model where it is not the one it names | none |
| `CFT_ENDPOINT`, `CFT_BASE_ENDPOINT` | an OpenAI-compatible address, `https://HOST/v1`, that serves the models | none |
| `OPENAI_API_KEY` (secret) | the endpoint's key; `CFT_API_KEY_ENV` names another variable | none |
| `CFT_EXTRA` | further fields of each request to it, `{{reasoning_effort: low, temperature: null}}` | none |
| `CFT_PROMPT_PRESET` | critique prompt: `paper`, `compact`, `per_step` or a run's folder | the model's, else `paper` |
| `CFT_ROWS` | rows of critiques for Browse: a dataset of the Hub, or a file or folder | the arithmetic source's |
| `CFT_ROWS_NAME`, `CFT_ROWS_REVISION` | configuration and revision of that dataset | none, main |
| `CFT_ROWS_LIMIT` | the first so many rows of it | 1000 |
| `CFT_MAX_NEW_TOKENS`, `CFT_MAX_ROUNDS` | the most a visitor can ask for | 512, 4 |
| `CFT_MAX_QUESTION`, `CFT_MAX_SOLUTION` | longest inputs, in characters | 4000, 8000 |
| `CFT_CONCURRENCY`, `CFT_QUEUE_SIZE` | texts written at once; requests that may wait | 1 (16 with an endpoint), 64 |
| `CFT_PATIENCE` | seconds without a word until a request is given up | 120 |

A model in the Space runs on its CPU or GPU. On ZeroGPU the GPU is asked for per text, for as many seconds as the
longest answer may take. **That it starts there is not confirmed**: the page of
[ZeroGPU](https://huggingface.co/docs/hub/spaces-zerogpu) names PyTorch up to 2.8.0 and Python 3.10, and this app needs
{torch} and Python 3.11. If it does not, take other hardware.

## API

Two endpoints, both streaming; the last value has `"done": true`. A request that is not taken fails with a sentence that
says why. `verdict` is right, wrong or null; `said` is the word for it, where the model was trained with verdict words
of its own (accept, reject, a grade), else null.

```python
from gradio_client import Client

client = Client("ORG/SPACE")  # or http://127.0.0.1:7860
client.predict("Rosa has 4 pencils and finds 6 more. How many pencils does she have now?", api_name="/solve")
# {{'answer': '…', 'final_answer': '10', 'rounds': […], 'finish_reason': 'stop', 'completion_tokens': 31, 'done': True}}
client.predict("What is 2 + 2?", "2 + 2 = 5", api_name="/critique")
# {{'critique': '…', 'verdict': 'wrong', 'first_wrong_step': 1, 'steps': ['2 + 2 = 5'], …}}
```

Without that client, all values are given, in the order of `/solve` (question, mode, max_new_tokens, temperature,
max_rounds, seed) or `/critique` (question, solution, max_new_tokens, temperature, seed):

```bash
curl -s http://127.0.0.1:7860/gradio_api/call/critique -H 'Content-Type: application/json' \\
    -d '{{"data": ["What is 2 + 2?", "2 + 2 = 5", 0, 0, -1]}}'      # {{"event_id": "…"}}
curl -sN http://127.0.0.1:7860/gradio_api/call/critique/EVENT_ID
```

| parameter | of | meaning | default |
|---|---|---|---|
| `question` | both | text, with LaTeX | |
| `solution` | `/critique` | one step per line | |
| `mode` | `/solve` | `direct`, `single_pass` or `two_stage` | `direct` |
| `max_rounds` | `/solve` | of `two_stage`, above temperature 0 (greedily a new solution is the same again) | 3 |
| `max_new_tokens` | both | limit per text; 0 is 256, or the app's own limit where that is lower | 0 |
| `temperature` | both | 0 is greedy | 0 |
| `seed` | both | -1 draws anew each time | -1 |

Made with cft-trl, whose source is in the folder `cft_trl`; `cft demo` runs the same app on your machine, and
`cft demo --deploy ORG/NAME` makes a Space like this one.
"""


def templates() -> dict[str, str]:
    """The Space's own three files: `app.py`, `README.md`, `requirements.txt`.

    Raises:
        CFTError: cft-trl or gradio is not installed, so their versions are not known.
    """
    from importlib.metadata import PackageNotFoundError, requires, version

    try:
        declared, gradio = requires("cft-trl") or [], version("gradio")
    except PackageNotFoundError as error:
        install = "'cft-trl[space]'" if error.name == "gradio" else "it"
        told = f"the Space's files name versions, and {error.name} is not installed; pip install {install}"
        raise CFTError(told) from None
    ranges: dict[str, str] = {}
    for line in declared:
        if match := re.match(r"([\w.-]+)\s*([^;\[]*)", line.split(";")[0]):
            ranges.setdefault(match[1].replace("-", "_").lower(), f"{match[1]}{match[2].strip()}")
    lines = [ranges[name] for name in REQUIRED]
    readme = README.format(gradio=gradio, torch=ranges["torch"])
    return {"README.md": readme, "app.py": APP, "requirements.txt": "\n".join(lines) + "\n"}


def space_files() -> dict[str, bytes]:
    """Everything that goes into the Space, by its path there."""
    import cft_trl

    package = Path(cft_trl.__file__).parent
    files = {name: text.encode() for name, text in templates().items()}
    for path in sorted(package.rglob("*")):
        if path.is_file() and path.suffix in SOURCE_SUFFIXES and not {"__pycache__", "_shipped"} & {*path.parts}:
            files[f"cft_trl/{path.relative_to(package).as_posix()}"] = path.read_bytes()
    return files


def deploy(repo_id: str, variables: Mapping[str, str], *, private: bool = False, hardware: str | None = None) -> str:
    """Makes the Space, or brings it up to date, in one commit; what an earlier one had and this has not is deleted.

    Args:
        repo_id: "org/name".
        variables: Public variables of the Space.
        private: Of a Space that is made now.
        hardware: E.g. "zero-a10g" or "t4-small", of a Space that is made now; None is the free CPU.

    Returns:
        The Space's URL.

    Raises:
        CFTError: As `hub_upload.push_dataset`.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    from cft_trl.hub.upload import check_repo_id, telling_trouble

    check_repo_id(repo_id, "Space")
    files, api = space_files(), HfApi()
    at: dict[str, Any] = {"repo_id": repo_id, "repo_type": "space"}
    with telling_trouble(f"deploy to {repo_id}"):
        url = api.create_repo(
            **at,
            private=private,
            exist_ok=True,
            space_sdk="gradio",
            space_hardware=hardware,
            space_variables=[{"key": name, "value": value} for name, value in variables.items()],
        )
        if private and not api.repo_info(**at).private:
            raise CFTError(f"deploy to {repo_id}: it is there and public; make it private first")
        # Of a Space that was there. One at a time, and only what differs: each starts the Space anew.
        known = api.get_space_variables(repo_id)
        for name, value in variables.items():
            if name not in known or known[name].value != value:
                api.add_space_variable(repo_id, name, value)
        there = [name for name in api.list_repo_files(**at) if name.startswith("cft_trl/")]
        api.create_commit(
            **at,
            operations=[
                *(CommitOperationDelete(name) for name in there if name not in files),
                *(CommitOperationAdd(name, content) for name, content in files.items()),
            ],
            commit_message="Deploy the critique fine-tuning app",
        )
    return str(url)


if __name__ == "__main__":
    from cft_trl.data.folders import write_text

    for file, text in templates().items():
        write_text(Path(sys.argv[1]) / file, text.removesuffix("\n"))
